#include "sinks/file.h"

#include <csignal>
#include <filesystem>

#include <catch2/catch.hpp>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/sinks/fixtures.h"

namespace {

using namespace logbell;         // NOLINT(google-build-using-namespace): a test
using namespace logbell::sinks;  // NOLINT(google-build-using-namespace)
namespace fs = std::filesystem;

// A directory of its own, gone with the test.
struct Directory {
  Directory() {
    std::string text = (fs::temp_directory_path() / "logbell-file-XXXXXX").string();
    REQUIRE(mkdtemp(text.data()) != nullptr);
    path = text;
  }
  ~Directory() { fs::remove_all(path); }
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;
  std::string operator/(const char* name) const { return (path / name).string(); }
  fs::path path;
};

std::vector<rules::Json> lines_of(const std::string& path) {
  std::vector<rules::Json> lines;
  std::istringstream in(tests::read_text(path));
  for (std::string line; std::getline(in, line);) {
    const rules::Result<rules::Json> json = rules::Json::parse(line);
    lines.push_back(json ? *json : rules::Json());
  }
  return lines;
}

}  // namespace

TEST_CASE("file: each notification is one line of JSON, readable by its owner alone", "[sinks][file]") {
  const Directory dir;
  const std::string path = dir / "alerts.jsonl";
  const auto sink = tests::make_sink("file", {{"path", path}}, tests::context());
  const Outcome outcome = sink->deliver(tests::notification(), tests::attempt());
  CHECK(outcome.kind == Outcome::Kind::kDelivered);
  CHECK(outcome.receipt == path);
  sink->deliver(tests::text_notification(rules::NotifyReason::kRefused, "two\nlines"), tests::attempt());
  const std::vector<rules::Json> lines = lines_of(path);
  REQUIRE(lines.size() == 2);
  CHECK(lines[0]["time"].string() == "2026-05-01T10:00:03Z");
  CHECK(lines[0]["notification"]["deliveryKey"].string() == tests::notification().key);
  CHECK(lines[0]["notification"]["alerts"].at(0)["labels"]["alertname"].string() == "QueueUnreachable");
  CHECK(lines[1]["text"].string() == "two\nlines");
  struct stat status {};
  REQUIRE(stat(path.c_str(), &status) == 0);
  CHECK((status.st_mode & 0777U) == 0600U);
}

TEST_CASE("file: hostile text never breaks the line", "[sinks][file]") {
  const Directory dir;
  const std::string path = dir / "alerts.jsonl";
  const auto sink = tests::make_sink("file", {{"path", path}});
  for (const std::string& text : tests::hostile_texts())
    sink->deliver(tests::notification({tests::queue_alert(text)}), tests::attempt());
  const std::vector<rules::Json> lines = lines_of(path);
  CHECK(lines.size() == tests::hostile_texts().size());
  for (const rules::Json& line : lines)
    CHECK(line.is_object());
}

TEST_CASE("file: rotated away, deleted, truncated: the next line is where the path leads", "[sinks][file]") {
  const Directory dir;
  const std::string path = dir / "alerts.jsonl";
  const auto sink = tests::make_sink("file", {{"path", path}});
  sink->deliver(tests::notification(), tests::attempt());
  fs::rename(path, dir / "alerts.jsonl.1");
  sink->deliver(tests::notification(), tests::attempt());
  CHECK(lines_of(dir / "alerts.jsonl.1").size() == 1);
  CHECK(lines_of(path).size() == 1);
  fs::remove(path);
  sink->deliver(tests::notification(), tests::attempt());
  CHECK(lines_of(path).size() == 1);
  fs::resize_file(path, 0);
  sink->deliver(tests::notification(), tests::attempt());
  CHECK(lines_of(path).size() == 1);
}

TEST_CASE("file: after a line that was cut off the next begins afresh", "[sinks][file]") {
  const Directory dir;
  const std::string path = dir / "alerts.jsonl";
  std::ofstream(path) << "{\"cut off by a crash";
  const auto sink = tests::make_sink("file", {{"path", path}});
  sink->deliver(tests::notification(), tests::attempt());
  const std::vector<rules::Json> lines = lines_of(path);
  REQUIRE(lines.size() == 2);
  CHECK(lines[0].is_null());
  CHECK(lines[1].is_object());
}

TEST_CASE("file: a disk that is full in the middle of a line loses that line and no other", "[sinks][file]") {
  const Directory dir;
  const std::string path = dir / "alerts.jsonl";
  const auto sink = tests::make_sink("file", {{"path", path}});
  sink->deliver(tests::notification(), tests::attempt());
  const std::uintmax_t one = fs::file_size(path);
  rlimit before{};
  REQUIRE(getrlimit(RLIMIT_FSIZE, &before) == 0);
  rlimit tight = before;
  tight.rlim_cur = one + one / 2;
  std::signal(SIGXFSZ, SIG_IGN);
  REQUIRE(setrlimit(RLIMIT_FSIZE, &tight) == 0);
  const Outcome cut = sink->deliver(tests::notification(), tests::attempt());
  const Outcome full = sink->deliver(tests::notification(), tests::attempt());
  REQUIRE(setrlimit(RLIMIT_FSIZE, &before) == 0);
  CHECK(cut.kind == Outcome::Kind::kRetry);
  CHECK(cut.reason == Reason::kIo);
  CHECK(full.kind == Outcome::Kind::kRetry);
  CHECK(sink->deliver(tests::notification(), tests::attempt()).kind == Outcome::Kind::kDelivered);
  const std::vector<rules::Json> lines = lines_of(path);
  REQUIRE(lines.size() == 3);
  CHECK(lines[0].is_object());
  CHECK(lines[1].is_null());
  CHECK(lines[2].is_object());
}

TEST_CASE("file: what cannot be written is a retry, what is no file a rejection", "[sinks][file]") {
  const Directory dir;
  SECTION("no such directory") {
    const auto sink = tests::make_sink("file", {{"path", dir / "missing/alerts.jsonl"}});
    const Outcome outcome = sink->deliver(tests::notification(), tests::attempt());
    CHECK(outcome.kind == Outcome::Kind::kRetry);
    CHECK(outcome.reason == Reason::kIo);
    fs::create_directory(dir.path / "missing");
    CHECK(sink->deliver(tests::notification(), tests::attempt()).kind == Outcome::Kind::kDelivered);
  }
  SECTION("a symbolic link, wherever it leads") {
    std::ofstream(dir / "target") << "";
    fs::create_symlink(dir / "target", dir / "link");
    const auto sink = tests::make_sink("file", {{"path", dir / "link"}});
    const Outcome outcome = sink->deliver(tests::notification(), tests::attempt());
    CHECK(outcome.kind == Outcome::Kind::kRejected);
    CHECK(fs::file_size(dir / "target") == 0);
  }
  SECTION("a fifo that nobody reads does not hang us") {
    REQUIRE(mkfifo((dir / "fifo").c_str(), 0600) == 0);
    const auto sink = tests::make_sink("file", {{"path", dir / "fifo"}});
    CHECK(sink->deliver(tests::notification(), tests::attempt()).kind != Outcome::Kind::kDelivered);
  }
}

#include "sinks/exec.h"

#include <cerrno>
#include <csignal>
#include <filesystem>
#include <fstream>

#include <catch2/catch.hpp>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sinks/webhook.h"
#include "tests/sinks/fixtures.h"

namespace {

using namespace logbell;         // NOLINT(google-build-using-namespace): a test
using namespace logbell::sinks;  // NOLINT(google-build-using-namespace)
using namespace std::chrono_literals;
using tests::FakeFields;
namespace fs = std::filesystem;
using Kind = Outcome::Kind;

// A directory of its own, gone with the test.
struct Directory {
  Directory() {
    std::string text = (fs::temp_directory_path() / "logbell-exec-XXXXXX").string();
    REQUIRE(mkdtemp(text.data()) != nullptr);
    path = text;
  }
  ~Directory() { fs::remove_all(path); }
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;
  std::string operator/(const char* name) const { return (path / name).string(); }
  fs::path path;
};

std::unique_ptr<Sink> exec(const std::vector<std::string>& command, FakeFields::Texts texts = {}) {
  FakeFields fields(std::move(texts));
  fields.set_list("command", command);
  const std::unique_ptr<SinkConfig> config = tests::configure("exec", fields);
  INFO((fields.errors.empty() ? std::string() : fields.errors.front()));
  REQUIRE(config != nullptr);
  return config->build(0, tests::context());
}

std::unique_ptr<Sink> script(const std::string& text, FakeFields::Texts texts = {}) {
  return exec({"/bin/sh", "-c", text}, std::move(texts));
}

rules::yaml::Node map_of(const std::vector<std::pair<std::string, std::string>>& entries) {
  rules::yaml::Node map;
  map.kind = rules::yaml::Node::Kind::kMap;
  for (const auto& [key, value] : entries) {
    rules::yaml::Node scalar;
    scalar.kind = rules::yaml::Node::Kind::kScalar;
    scalar.scalar = value;
    map.entries.push_back({key, {}, scalar});
  }
  return map;
}

// Gone, or dead and not buried yet: it does nothing any more.
// Waits for it: who was killed a moment ago may not have been scheduled since.
bool has_ended(const std::string& pid) {
  const int fd = static_cast<int>(::syscall(SYS_pidfd_open, std::stoi(pid), 0));
  if (fd < 0) return errno == ESRCH;
  pollfd ended{fd, POLLIN, 0};
  const bool has = ::poll(&ended, 1, 5000) == 1;
  ::close(fd);
  return has;
}

std::string first_word(const std::string& path) {
  const std::string text = tests::read_text(path);
  return text.substr(0, text.find_first_of(" \n"));
}

// As large as a storm's: more than a pipe holds.
rules::Notification storm() {
  std::vector<rules::Alert> alerts;
  for (int i = 0; i < 400; ++i)
    alerts.push_back(tests::queue_alert("q" + std::to_string(i)));
  return tests::notification(alerts);
}

}  // namespace

TEST_CASE("exec: F55 the program gets the webhook's document, and its first line is the receipt",
          "[sinks][exec][F55]") {
  const Directory dir;
  const auto sink = script("cat > " + (dir / "in") + "; echo paged 42 password=hunter2; echo more");
  const Outcome outcome = sink->deliver(tests::notification(), tests::attempt());
  CHECK(outcome.kind == Kind::kDelivered);
  CHECK(outcome.receipt.rfind("exit 0: paged 42 ", 0) == 0);
  CHECK(outcome.receipt.find("hunter2") == std::string::npos);
  CHECK(outcome.receipt.find("more") == std::string::npos);
  CHECK(tests::read_text(dir / "in") ==
        webhook_payload(tests::notification(), tests::attempt(), tests::context()).dump() + "\n");
}

TEST_CASE("exec: F55 a message that is larger than a pipe arrives whole", "[sinks][exec][F55]") {
  const Directory dir;
  const auto sink = script("cat > " + (dir / "in"));
  CHECK(sink->deliver(storm(), tests::attempt()).receipt == "exit 0");
  const std::string whole = webhook_payload(storm(), tests::attempt(), tests::context()).dump() + "\n";
  REQUIRE(whole.size() > 128UL * 1024);
  CHECK(tests::read_text(dir / "in") == whole);
}

TEST_CASE("exec: F55 no shell, no descriptor and no secret of ours gets to the program",
          "[sinks][exec][F55]") {
  const Directory dir;
  REQUIRE(setenv("SLACK_WEBHOOK_URL", "https://hooks.slack.com/services/SECRET", 1) == 0);
  REQUIRE(setenv("TZ", "UTC", 1) == 0);
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-vararg): open(2); what a library might forget
  const int leaked = open("/dev/null", O_RDONLY);
  REQUIRE(fcntl(leaked, F_DUPFD, 100) >= 100);  // NOLINT(cppcoreguidelines-pro-type-vararg): fcntl(2)
  const std::string out = dir / "out";
  FakeFields fields;
  fields.set_list(
      "command",
      {"/bin/sh", "-c", "{ env; ls /proc/self/fd; grep SigBlk /proc/self/status; echo \"$1\"; } > " + out,
       "page", "$(reboot) `x` *"});
  fields.set_raw("env", map_of({{"PAGER_TOKEN", "t0k3nt0k3n"}, {"TZ", "Europe/Berlin"}}));
  const std::unique_ptr<SinkConfig> config = tests::configure("exec", fields);
  REQUIRE(config != nullptr);
  REQUIRE(config->secrets().size() == 1);
  CHECK(config->destination() == "/bin/sh");
  const auto sink = config->build(0, tests::context());
  CHECK(sink->deliver(tests::notification(), tests::attempt()).kind == Kind::kDelivered);
  const std::string said = tests::read_text(out);
  INFO(said);
  CHECK(said.find("SLACK_WEBHOOK_URL") == std::string::npos);
  CHECK(said.find("PAGER_TOKEN=t0k3nt0k3n\n") != std::string::npos);
  CHECK(said.find("TZ=Europe/Berlin\n") != std::string::npos);
  CHECK(said.find("TZ=UTC") == std::string::npos);
  CHECK(said.find("LOGBELL_KEY=" + tests::notification().key + "\n") != std::string::npos);
  CHECK(said.find("LOGBELL_STATUS=firing\n") != std::string::npos);
  CHECK(said.find("LOGBELL_ATTEMPT=1\n") != std::string::npos);
  CHECK(said.find("$(reboot) `x` *\n") != std::string::npos);
  CHECK(said.find("\n100\n") == std::string::npos);
  CHECK(said.find("SigBlk:\t0000000000000000\n") != std::string::npos);
  unsetenv("SLACK_WEBHOOK_URL");
  close(100);
  close(leaked);
}

TEST_CASE("exec: F24 a program gets the limit on open files that there was before it was raised",
          "[sinks][exec][F24]") {
  const Directory dir;
  const auto sink =
      script("read line; ulimit -Sn > " + (dir / "limit") + "; ulimit -Hn >> " + (dir / "limit"));
  rlimit ours{};
  REQUIRE(getrlimit(RLIMIT_NOFILE, &ours) == 0);
  set_exec_open_files(200);
  CHECK(sink->deliver(tests::notification(), tests::attempt()).kind == Kind::kDelivered);
  set_exec_open_files(0);
  CHECK(tests::read_text(dir / "limit") == fmt::format("200\n{}\n", ours.rlim_max));
}

TEST_CASE("exec: F55 nothing from a log gets into arguments or environment", "[sinks][exec][F55]") {
  const Directory dir;
  const auto sink =
      script("env > " + (dir / "env") + "; tr '\\0' '\\n' < /proc/$$/cmdline >> " + (dir / "env"));
  for (const std::string& text : tests::hostile_texts()) {
    rules::Notification notification = tests::notification({tests::queue_alert("hostile" + text)});
    notification.group_labels.set("queue", "hostile" + text);
    CHECK(sink->deliver(notification, tests::attempt()).kind == Kind::kDelivered);
    CHECK(tests::read_text(dir / "env").find("hostile") == std::string::npos);
  }
}

TEST_CASE("exec: F55 what an end means", "[sinks][exec][F55]") {
  struct Row {
    const char* story;
    const char* text;
    Kind kind;
    Reason reason;
    bool dead;
    const char* words;
  };
  const auto row = GENERATE(
      Row{"a failure like any other", "echo no route to pager >&2; exit 3", Kind::kRetry, Reason::kIo, false,
          "exit 3: no route to pager"},
      Row{"EX_TEMPFAIL", "exit 75", Kind::kRetry, Reason::kIo, false, "exit 75"},
      Row{"EX_DATAERR: this message", "exit 65", Kind::kRejected, Reason::kBadRequest, false, "exit 65"},
      Row{"EX_USAGE: its arguments", "exit 64", Kind::kRejected, Reason::kBadRequest, true, "exit 64"},
      Row{"EX_NOPERM", "exit 77", Kind::kRejected, Reason::kAuth, true, "exit 77"},
      Row{"EX_CONFIG", "exit 78", Kind::kRejected, Reason::kAuth, true, "exit 78"},
      Row{"a program in it that is missing", "/no/such/pager", Kind::kRejected, Reason::kGone, true,
          "exit 127"},
      Row{"a crash: it may have told somebody before", "kill -SEGV $$", Kind::kUnknown, Reason::kIo, false,
          "ended by SIGSEGV"},
      Row{"killed from outside", "kill -9 $$", Kind::kUnknown, Reason::kIo, false, "ended by SIGKILL"});
  INFO(row.story);
  const Outcome outcome = script(row.text)->deliver(tests::notification(), tests::attempt());
  CHECK(outcome.kind == row.kind);
  CHECK(outcome.reason == row.reason);
  CHECK(outcome.sink_is_dead == row.dead);
  CHECK(outcome.detail.rfind(row.words, 0) == 0);
}

TEST_CASE("exec: F55 exit 0 without doing anything is said in the receipt", "[sinks][exec][F55]") {
  const Outcome outcome = exec({"/bin/true"})->deliver(tests::notification(), tests::attempt());
  CHECK(outcome.kind == Kind::kDelivered);
  CHECK(outcome.receipt == "exit 0, without reading all of the message");
}

TEST_CASE("exec: F55 a program that hangs is ended with everything it started", "[sinks][exec][F55]") {
  const Directory dir;
  struct Row {
    const char* story;
    const char* trap;
  };
  const auto row = GENERATE(Row{"it ends when asked to", ""}, Row{"it does not listen", "trap '' TERM; "});
  INFO(row.story);
  const auto sink = script(std::string(row.trap) + "sleep 600 & echo $! > " + (dir / "child") +
                               "; echo $$ > " + (dir / "self") + "; echo half done; wait; wait; sleep 600",
                           {{"timeout", "300ms"}});
  const Outcome outcome = sink->deliver(storm(), tests::attempt(1200ms));
  CHECK(outcome.kind == Kind::kUnknown);
  CHECK(outcome.reason == Reason::kTimeout);
  CHECK(outcome.detail == "ended after 300ms: half done");
  CHECK(has_ended(first_word(dir / "self")));
  CHECK(has_ended(first_word(dir / "child")));
}

TEST_CASE("exec: F55 the attempt's time is kept whatever the program does", "[sinks][exec][F55]") {
  const auto sink = script("trap '' TERM; while :; do :; done");
  timespec before{};
  timespec after{};
  REQUIRE(clock_gettime(CLOCK_MONOTONIC, &before) == 0);
  CHECK(sink->deliver(tests::notification(), tests::attempt(800ms)).reason == Reason::kTimeout);
  REQUIRE(clock_gettime(CLOCK_MONOTONIC, &after) == 0);
  const auto ms = (after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1'000'000;
  CHECK(ms >= 590);
  CHECK(ms < 3000);  // 800 and what a busy machine adds
  CHECK(sink->deliver(tests::notification(), tests::attempt(0ms)).kind == Kind::kRetry);
}

TEST_CASE("exec: F55 a daemon that keeps the pipe keeps nobody waiting", "[sinks][exec][F55]") {
  const Directory dir;
  const auto sink =
      script("cat > /dev/null; setsid sleep 600 & echo $! > " + (dir / "daemon") + "; echo started");
  CHECK(sink->deliver(tests::notification(), tests::attempt(30s)).receipt == "exit 0: started");
  const std::string daemon = first_word(dir / "daemon");
  CHECK_FALSE(has_ended(daemon));  // it left the group: that is its own affair
  kill(std::stoi(daemon), SIGKILL);
}

TEST_CASE("exec: F55 a flood of output is read and thrown away", "[sinks][exec][F55]") {
  const auto sink = script("cat > /dev/null; echo first; head -c 300000000 /dev/zero >&2; exit 5");
  const Outcome outcome = sink->deliver(tests::notification(), tests::attempt(15s));
  CHECK(outcome.kind == Kind::kRetry);  // it came to its end instead of waiting for a reader
  CHECK(outcome.detail == "exit 5: first");
}

TEST_CASE("exec: F55 what it prints cannot act on who reads it, nor show a secret", "[sinks][exec][F55]") {
  FakeFields fields;
  fields.set_list("command", {"/bin/sh", "-c",
                              "printf '\\033[31m %s \\302\\233 s3cr3t\\023-enough %01000d' "
                              "\"$PAGER_KEY\" 1; exit 1"});
  fields.set_raw("env", map_of({{"PAGER_KEY", "s3cr3t-enough"}}));
  const std::unique_ptr<SinkConfig> config = tests::configure("exec", fields);
  REQUIRE(config != nullptr);
  const Outcome outcome = config->build(0, {})->deliver(tests::notification(), tests::attempt());
  INFO(outcome.detail);
  CHECK(outcome.detail.find("s3cr3t") == std::string::npos);
  CHECK(outcome.detail.find('\x1b') == std::string::npos);
  CHECK(outcome.detail.size() < 250);
}

TEST_CASE("exec: F55 a value that is a part of what hides it is hidden once", "[sinks][exec][F55]") {
  FakeFields fields;
  fields.set_list("command", {"/bin/sh", "-c", "cat > /dev/null; echo sent in 2 sec"});
  fields.set_raw("env", map_of({{"PAGER_TEAM_KEY", "sec"}}));
  const std::unique_ptr<SinkConfig> config = tests::configure("exec", fields);
  REQUIRE(config != nullptr);
  const Outcome outcome = config->build(0, {})->deliver(tests::notification(), tests::attempt());
  CHECK(outcome.receipt == "exit 0: sent in 2 <secret>");
}

TEST_CASE("exec: F55 a program that has gone is a sink that is dead", "[sinks][exec][F55]") {
  const Directory dir;
  const std::string path = dir / "page";
  std::ofstream(path) << "#!/bin/sh\nexit 0\n";
  fs::permissions(path, fs::perms::owner_all);
  const auto sink = exec({path});
  fs::remove(path);
  const Outcome outcome = sink->deliver(tests::notification(), tests::attempt());
  CHECK(outcome.kind == Kind::kRejected);
  CHECK(outcome.reason == Reason::kGone);
  CHECK(outcome.sink_is_dead);
  CHECK(outcome.detail == "run " + path + ": No such file or directory");
}

TEST_CASE("exec: F55 what cannot run is refused before it is needed", "[sinks][exec][F55]") {
  const Directory dir;
  std::ofstream(dir / "page") << "#!/bin/sh\n";
  struct Row {
    const char* story;
    std::vector<std::string> command;
    FakeFields::Texts texts;
    const char* key;
  };
  const std::vector<Row> rows = {
      {"no such program", {dir / "nowhere"}, {}, "command: cannot find"},
      {"arguments in one text", {"/bin/sh -c true"}, {}, "command: cannot find"},
      {"not executable", {dir / "page"}, {}, "command: logbell may not execute"},
      {"a directory", {"/tmp"}, {}, "command: /tmp is not a file"},
      {"looked for in PATH", {"sh"}, {}, "command: \"sh\" is no absolute path"},
      {"nothing", {}, {}, "command: the command is empty"},
      {"longer than an attempt", {"/bin/true"}, {{"timeout", "13s"}}, "timeout: a timeout is"},
      {"no time at all", {"/bin/true"}, {{"timeout", "1ms"}}, "timeout: a timeout is"}};
  for (const Row& row : rows) {
    INFO(row.story);
    FakeFields fields(row.texts);
    fields.set_list("command", row.command);
    CHECK(tests::configure("exec", fields) == nullptr);
    REQUIRE(fields.errors.size() == 1);
    INFO(fields.errors.front());
    CHECK(fields.errors.front().rfind(row.key, 0) == 0);
  }
  for (const char* name : {"LOGBELL_KEY", "1ST", "A=B", "A-B", ""}) {
    INFO(name);
    FakeFields fields;
    fields.set_list("command", {"/bin/true"});
    fields.set_raw("env", map_of({{name, "x"}}));
    CHECK(tests::configure("exec", fields) == nullptr);
    CHECK(fields.errors.size() == 1);
  }
  // On the machine that only checks, the program need not be there.
  FakeFields elsewhere;
  elsewhere.set_list("command", {dir / "nowhere"});
  elsewhere.assume(true);
  CHECK(tests::configure("exec", elsewhere) != nullptr);
  fs::permissions(dir / "page", fs::perms::all);
  FakeFields open_to_all;
  open_to_all.set_list("command", {dir / "page"});
  CHECK(tests::configure("exec", open_to_all) != nullptr);
  CHECK(open_to_all.warnings.size() == 1);
}

// What the system does not give: watches, descriptors, bytes; and what many files cost.
#include <algorithm>

#include <malloc.h>
#include <sys/resource.h>

#include "tests/engine/run/reader_world.h"

namespace logbell::tests {
namespace {

std::string numbered(const std::string& prefix, int i) {
  return prefix + std::to_string(i) + ".log";
}

// The soft limit of open files, while one lives.
class OpenFiles {
 public:
  explicit OpenFiles(rlim_t limit) {
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &before_) == 0);
    set(limit);
  }
  ~OpenFiles() { static_cast<void>(::setrlimit(RLIMIT_NOFILE, &before_)); }
  OpenFiles(const OpenFiles&) = delete;
  OpenFiles& operator=(const OpenFiles&) = delete;
  void set(rlim_t limit) const {
    const rlimit changed{std::min(limit, before_.rlim_max), before_.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &changed) == 0);
  }
  static rlim_t in_use() {
    const int next = ::dup(0);
    REQUIRE(next >= 0);
    ::close(next);
    return static_cast<rlim_t>(next);
  }

 private:
  rlimit before_{};
};

TEST_CASE("limits: a thousand idle files cost two kilobytes each, and nothing while nothing happens",
          "[run][limits]") {
  constexpr int kFiles = 1000;
  const OpenFiles limit(4096);
  ReaderWorld world;
  world.dir.append("first.log", "line\n");
  world.settle();  // what one file needs is there
  for (int i = 0; i < kFiles; ++i)
    world.dir.append(numbered("file-with-a-usual-name-", i), "2026-05-01T10:00:00Z a line of a usual length\n");
  const std::size_t before = ::mallinfo2().uordblks;
  while (true) {
    engine::Reader::StepResult result = world.reader->step();
    if (!result.more) {
      // Nobody looks before something happens, or ten seconds are over.
      CHECK(result.wake_at - world.clock.instant() >= seconds(5));
      break;
    }
  }
  const std::size_t after = ::mallinfo2().uordblks;
  CHECK(world.reader->streams().size() == kFiles + 1);
  CHECK((after - before) / kFiles <= 2048);
}

TEST_CASE("limits: with no descriptor left the rest of the files wait, and are read later", "[run][limits][F24]") {
  ReaderWorld world;
  for (int i = 0; i < 50; ++i)
    world.dir.append(numbered("a", i), "line " + std::to_string(i) + "\n");
  const OpenFiles limit(OpenFiles::in_use() + 20);
  world.settle();
  const std::size_t first = world.lines().size();
  CHECK(first > 5);
  CHECK(first < 50);
  CHECK(world.counter("logbell_source_open_errors_total{reason=\"EMFILE\", source=\"app\"}") > 10);
  CHECK(world.statuses[0].readable);
  limit.set(4096);
  for (int i = 0; i < 4; ++i)
    world.pass(seconds(10));
  CHECK(first + world.lines().size() == 50);
}

TEST_CASE("limits: when events are lost everything is looked at", "[run][limits][F22]") {
  ReaderWorld world;
  world.dir.append("a.log", "");
  world.dir.append("b.log", "");
  world.settle();
  std::string expected_events;
  std::ifstream("/proc/sys/fs/inotify/max_queued_events") >> expected_events;
  const int events = std::stoi(expected_events);
  if (events > 100'000) return;  // nobody would wait for that
  const int a = ::open(world.dir.path("a.log").c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  const int b = ::open(world.dir.path("b.log").c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  for (int i = 0; i < events / 2 + 10; ++i) {
    REQUIRE(::write(a, "a\n", 2) == 2);
    REQUIRE(::write(b, "b\n", 2) == 2);
  }
  ::close(a);
  ::close(b);
  world.dir.append("c.log", "c\n");  // its event is lost
  world.settle();
  CHECK(world.lines().size() == static_cast<std::size_t>(events / 2 + 10) * 2 + 1);
  CHECK(world.counter("logbell_inotify_overflows_total{}") == 1);
}

TEST_CASE("limits: a stream that cannot be read is waited for, then left behind", "[run][limits][F26]") {
  ReaderWorld world({.sources = {{.name = "bad", .files = {"bad.log"}}, {.name = "good", .files = {"good.log"}}}});
  world.dir.append("bad.log", "one\n");
  world.dir.append("good.log", "one\n");
  world.settle();
  CHECK(world.lines().size() == 2);
  // Its descriptor becomes one that gives an error.
  int descriptor = -1;
  for (const fs::directory_entry& entry : fs::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    if (fs::read_symlink(entry.path(), gone) == world.dir.path("bad.log"))
      descriptor = std::stoi(entry.path().filename().string());
  }
  REQUIRE(descriptor > 2);
  const int kept = ::dup(descriptor);
  const int broken = ::open(world.dir.path("").c_str(), O_RDONLY | O_CLOEXEC);
  REQUIRE(::dup2(broken, descriptor) == descriptor);
  world.dir.append("bad.log", "two\n");
  world.dir.append("good.log", "two\n");
  world.settle();
  CHECK(world.lines() == Texts{"two"});
  CHECK_FALSE(world.statuses[0].read_to_end_at);
  CHECK_FALSE(world.statuses[0].stalled);
  CHECK(world.statuses[1].read_to_end_at);
  REQUIRE(world.notes.size() == 1);
  for (int i = 0; i < 4; ++i)
    world.pass(seconds(10));
  CHECK(world.statuses[0].stalled);
  CHECK(world.notes.size() == 1);
  CHECK(world.counter("logbell_source_read_errors_total{source=\"bad\"}") >= 3);
  REQUIRE(::dup2(kept, descriptor) == descriptor);
  ::close(kept);
  ::close(broken);
  for (int i = 0; i < 4; ++i)
    world.pass(seconds(10));
  CHECK(world.lines() == Texts{"two"});
  CHECK_FALSE(world.statuses[0].stalled);
  CHECK(world.statuses[0].read_to_end_at);
  CHECK(world.notes.size() == 2);
}

TEST_CASE("limits: more files than may be open wait until there is room, counted", "[run][limits][F24]") {
  ReaderWorld world;
  world.max_files = 3;
  for (int i = 0; i < 5; ++i)
    world.dir.append(numbered("a", i), "line " + std::to_string(i) + "\n");
  world.settle();
  CHECK(world.lines().size() == 3);
  CHECK(world.reader->streams().size() >= 3);
  CHECK(world.counter("logbell_source_open_errors_total{reason=\"too_many_files\", source=\"app\"}") == 2);
  CHECK(world.counter("logbell_source_open_errors_total{reason=\"other\", source=\"app\"}") == 0);
  REQUIRE_FALSE(world.notes.empty());
  CHECK(world.notes.front().message.find("3 files are open already; more need a higher limit") !=
        std::string::npos);
  // Said of the source: InputIncomplete rings of it.
  CHECK(world.statuses[0].unreadable.find("3 files are open already") != std::string::npos);
  CHECK(world.statuses[0].unreadable.find(", and 1 more") != std::string::npos);
  world.dir.remove("a0.log");
  world.dir.remove("a1.log");
  for (int i = 0; i < 8; ++i)
    world.pass(seconds(10));
  CHECK(world.lines() == Texts{"line 3", "line 4"});
}

TEST_CASE("limits: the places of rotated files that are let go are bounded, and counted", "[run][limits]") {
  ReaderWorld world({.sources = {{.files = {"app.log"}}}});
  const std::string counter = "logbell_source_positions_forgotten_total{source=\"app\"}";
  world.dir.append("app.log", "0\n");
  world.settle();
  for (std::size_t i = 1; i <= engine::Follower::kMaxRetired + 2; ++i) {
    world.dir.rename("app.log", "old");  // over the one before: nothing is left beside it
    world.dir.append("app.log", std::to_string(i) + "\n");
    world.settle();
    world.pass(engine::Follower::kRotateWait + seconds(1));
  }
  CHECK(world.lines().size() == engine::Follower::kMaxRetired + 3);
  CHECK(world.counter(counter) >= 1);
  CHECK(world.counter(counter) <= 2);
}

TEST_CASE("limits: the places of files that a reload took out are bounded, and counted", "[run][limits]") {
  const SourceSetting right{.files = {"*.log"}, .read_from = rules::ReadFrom::kAuto};
  ReaderWorld world({.sources = {right}});
  world.settle();
  constexpr std::size_t kFiles = engine::Follower::kMaxLeft + 1;
  for (std::size_t i = 0; i < kFiles; ++i)
    world.dir.append(std::to_string(i) + ".log", "old\n");
  world.settle();
  CHECK(world.lines().size() == kFiles);
  world.reload({.sources = {{.files = {"*.lgo"}}}, .generation = 2});
  const double forgotten = world.counter("logbell_source_positions_forgotten_total{source=\"app\"}");
  CHECK(static_cast<std::size_t>(forgotten) == engine::Follower::kMaxLeft / 4);
  for (std::size_t i = 0; i < kFiles; ++i)
    world.dir.append(std::to_string(i) + ".log", "new\n");
  // What is known goes on; what was forgotten is placed as at a first start, which is too old to be read.
  world.pass(minutes(20));
  world.reload({.sources = {right}, .generation = 3});
  const Texts lines = world.lines();
  CHECK(lines.size() == kFiles - engine::Follower::kMaxLeft / 4);
  CHECK(std::find(lines.begin(), lines.end(), "old") == lines.end());
}

TEST_CASE("limits: a label that is cut is counted: two long values may have become one", "[run][limits]") {
  ReaderWorld world({.patterns = {"user=(?P<user>\\S+)", "user"}});
  world.settle();
  const std::string counter = "logbell_labels_truncated_total{pattern=\"p0\"}";
  world.dir.append("app.log", "user=" + std::string(rules::kMaxLabelBytes, 'a') + "\n");
  world.settle();
  CHECK(world.counter(counter) == 0);
  world.dir.append("app.log", "user=" + std::string(300, 'b') + "\nuser=" + std::string(300, 'b') + "c\n");
  world.settle();
  CHECK(world.counter(counter) == 2);
  CHECK(world.counter("logbell_labels_truncated_total{pattern=\"p1\"}") == 0);
  REQUIRE(world.seen.size() == 6);
  CHECK(world.seen[2].labels == world.seen[4].labels);
}

TEST_CASE("limits: a quiet live file does not wait until a backlog is read", "[run][limits][F27]") {
  ReaderWorld world({.sources = {{.name = "quiet", .files = {"quiet.log"}}, {.name = "big", .files = {"big.log"}}}});
  world.chunk_bytes = 4096;
  for (SourceSetting& source : world.plan_setting.sources)
    source.max_line_bytes = 1024;
  world.dir.append("quiet.log", rules::format_rfc3339(world.clock.now()) + " started\n");
  world.settle();
  std::string text;
  const rules::Timestamp past = world.clock.now() - hours(48);
  for (int i = 0; i < 20'000; ++i)
    text += rules::format_rfc3339(past + seconds(i)) + " old\n";
  world.dir.append("big.log", text);
  for (int i = 0; i < 5; ++i)
    world.step();
  world.lines();
  world.dir.append("quiet.log", rules::format_rfc3339(world.clock.now()) + " urgent\n");
  int steps = 0;
  bool seen = false;
  while (!seen) {
    world.clock.advance(milliseconds(50));
    REQUIRE(world.step().more);
    REQUIRE(++steps < 10);
    for (const std::string& line : world.lines())
      seen = seen || line.find("urgent") != std::string::npos;
  }
}

}  // namespace
}  // namespace logbell::tests

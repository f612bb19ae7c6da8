// F56: what logbell writes itself, or what repeats its messages, does not ring.
#include "engine/run/feedback.h"

#include <catch2/catch.hpp>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "tests/engine/run/reader_world.h"
#include "tests/support/fake_sink.h"

namespace {

using namespace logbell::tests;  // NOLINT(google-build-using-namespace): a test
using logbell::engine::Feedback;
using logbell::engine::ReaderNote;
using logbell::engine::stat_path;

constexpr const char* kKey = "5f3a09c1d2e4b6a8";

std::size_t errors(const std::vector<ReaderNote>& notes) {
  return static_cast<std::size_t>(std::count_if(notes.begin(), notes.end(), [](const ReaderNote& note) {
    return note.level == ReaderNote::Level::kError;
  }));
}

// A reader that knows what is its own.
struct World : ReaderWorld {
  explicit World(PlanSetting setting = {}) : ReaderWorld(std::move(setting)) { feedback = &own; }
  Feedback own{clock};
};

std::string what(World& world, const std::string& name) {
  const auto stat = stat_path(world.dir.path(name));
  REQUIRE(stat);
  return world.own.own(world.dir.path(name), stat->id);
}

}  // namespace

TEST_CASE("feedback: F56 the file that a sink writes is not read, under none of its names",
          "[run][feedback][F56]") {
  World world({.sources = {{.files = {"*"}}}});
  world.own.set_files({{world.dir.path("alerts.jsonl"), "the sink \"record\" writes it"}}, "");
  world.dir.append("app.log", "a line\n");
  world.dir.append("alerts.jsonl", "an alert\n");
  fs::create_hard_link(world.dir.path("alerts.jsonl"), world.dir.path("another"));
  fs::create_symlink("alerts.jsonl", world.dir.path("linked"));
  world.settle();
  CHECK(world.lines() == Texts{"a line"});
  CHECK(world.counter("logbell_source_own_files_total{source=\"app\"}") == 3);
  REQUIRE(world.notes.size() == 3);
  CHECK(world.notes[0].message == "Is not read: the sink \"record\" writes it.");
  CHECK(world.notes[0].level == ReaderNote::Level::kWarn);

  SECTION("once is enough") {
    world.pass(minutes(1));
    CHECK(world.notes.size() == 3);
  }
  SECTION("nor when it is rotated and a new one takes its place") {
    world.dir.rename("alerts.jsonl", "old-name");
    world.dir.append("alerts.jsonl", "another alert\n");
    world.pass(seconds(2));
    CHECK(world.lines().empty());
  }
  SECTION("nor by a process that was not there when it was") {
    world.dir.rename("alerts.jsonl", "alerts.jsonl.1");
    world.dir.remove("another");
    world.dir.remove("linked");
    World later({.sources = {{.files = {world.dir.path("alerts*")}}}});
    later.own.set_files({{world.dir.path("alerts.jsonl"), "the sink \"record\" writes it"}}, "");
    later.settle();
    CHECK(later.lines().empty());
    CHECK(later.counter("logbell_source_own_files_total{source=\"app\"}") == 1);
  }
  SECTION("but what is only called like it is a log") {
    world.dir.append("alerts.json", "a line too\n");
    world.dir.append("alerts.jsonlines", "and another\n");
    world.pass(seconds(2));
    CHECK(world.lines() == Texts{"a line too", "and another"});
  }
  SECTION("and when no sink writes it any more, what is written then is a log") {
    world.own.set_files({}, "");
    world.dir.remove("alerts.jsonl");
    world.dir.append("alerts.jsonl", "of somebody else\n");
    world.pass(seconds(2));
    CHECK(world.lines() == Texts{"of somebody else"});
  }
}

TEST_CASE("feedback: F56 the state is not read, wherever its directory is seen", "[run][feedback][F56]") {
  World world({.sources = {{.files = {"**"}}}});
  fs::create_directories(world.dir.path("state/logbell/deep"));
  fs::create_directory_symlink(world.dir.path("state/logbell"), world.dir.path("seen"));
  world.own.set_files({}, world.dir.path("seen"));
  world.dir.append("state/logbell/state.db", "pages\n");
  world.dir.append("state/logbell/deep/x", "pages\n");
  world.dir.append("state/app.log", "a line\n");
  world.settle();
  CHECK(world.lines() == Texts{"a line"});
  CHECK(what(world, "state/logbell/state.db") == "it is in logbell's state_dir");
}

TEST_CASE("feedback: F56 the file that our own log goes to is not read", "[run][feedback][F56]") {
  const LogDir dir;
  const std::string path = dir.path("logbell.log");
  const int saved = dup(STDERR_FILENO);
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-vararg): open(2)
  const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  REQUIRE(file >= 0);
  REQUIRE(dup2(file, STDERR_FILENO) == STDERR_FILENO);
  FakeClock clock{system_now()};
  Feedback own(clock);
  REQUIRE(dup2(saved, STDERR_FILENO) == STDERR_FILENO);
  close(file);
  close(saved);
  CHECK(own.own(path, stat_path(path)->id) == "logbell's own log goes there");
  dir.append("app.log", "");
  CHECK(own.own(dir.path("app.log"), stat_path(dir.path("app.log"))->id).empty());
}

TEST_CASE("feedback: F56 a line that repeats a message does not ring", "[run][feedback][F56]") {
  World world;
  world.own.leaves(kKey);
  const std::string key = kKey;
  const std::vector<std::string> echoes = {
      "ERROR slack says: logbell · delivery " + key + " · group {alertname=\"Boom\"}",
      R"({"level":"error","body":{"deliveryKey":")" + key + R"("}})",
      R"({\"metadata\":{\"event_payload\":{\"delivery_key\":\")" + key + R"(\"}}})",
      "ts=2026 level=warn sink=ops delivery=" + key + " msg=\"Not delivered yet\"",
      "delivery " + key + "0123456789abcdef"};
  const std::vector<std::string> real = {
      "ERROR no delivery for order 5f3a09c1d2e4b6a9", "ERROR delivery 5f3a09c1d2e4b6a",
      "ERROR " + key + " without its mark", "ERROR delivery 05f3a09c1d2e4b6a8", "ERROR"};
  std::string text;
  for (std::size_t i = 0; i < real.size(); ++i)
    text += echoes[i] + "\n" + real[i] + "\n";
  world.dir.append("app.log", text);
  world.settle();
  CHECK(world.lines() == real);
  CHECK(world.counter("logbell_source_feedback_lines_total{source=\"app\"}") == 5);
  CHECK(world.counter("logbell_source_lines_total{source=\"app\"}") == 10);

  SECTION("it is said at once, and again while it goes on") {
    CHECK(errors(world.notes) == 1);
    world.dir.append("app.log", echoes[0] + "\n");
    world.pass(seconds(2));
    CHECK(errors(world.notes) == 1);
    world.dir.append("app.log", echoes[0] + "\n");
    world.pass(minutes(1));
    CHECK(errors(world.notes) == 2);
  }
  SECTION("for an hour after the message left") {
    world.pass(minutes(60));
    world.dir.append("app.log", echoes[0] + "\n");
    world.pass(seconds(0));
    CHECK(world.lines().empty());
    world.pass(seconds(2));
    world.dir.append("app.log", echoes[0] + "\n");
    world.pass(seconds(2));
    CHECK(world.lines() == Texts{echoes[0]});
  }
}

TEST_CASE("feedback: F56 several patterns on one line, and the line is counted once",
          "[run][feedback][F56]") {
  World world({.patterns = {"ERROR", "slack"}});
  world.own.leaves(kKey);
  world.dir.append("app.log", std::string("ERROR slack: delivery ") + kKey + "\nERROR slack\n");
  world.settle();
  CHECK(world.lines() == Texts{"ERROR slack", "ERROR slack"});
  CHECK(world.counter("logbell_source_feedback_lines_total{source=\"app\"}") == 1);
}

TEST_CASE("feedback: F56 the keys that are remembered are bounded", "[run][feedback][F56]") {
  FakeClock clock{system_now()};
  Feedback own(clock);
  const auto key = [](std::size_t i) { return fmt::format("{:016x}", i); };
  CHECK_FALSE(own.may_be_in("delivery"));
  for (std::size_t i = 0; i < Feedback::kMaxKeys; ++i)
    own.leaves(key(i));
  CHECK(own.forgotten_early() == 0);
  own.leaves(key(Feedback::kMaxKeys));
  CHECK(own.forgotten_early() == 1);
  CHECK(own.may_be_in("a delivery"));
  CHECK_FALSE(own.may_be_in("a line"));
  CHECK_FALSE(own.is_in("delivery " + key(0)));
  CHECK(own.is_in("delivery " + key(1)));
  own.leaves(key(1));  // tried again: remembered from then on
  own.leaves(key(7'000'000));
  CHECK(own.is_in("delivery " + key(1)));
  own.leaves("short");
  CHECK_FALSE(own.is_in("delivery short"));
  const std::uint64_t early = own.forgotten_early();
  clock.advance(Feedback::kRemembered + std::chrono::seconds(1));
  CHECK_FALSE(own.may_be_in("a delivery"));
  CHECK(own.forgotten_early() == early);  // the others had their time
}

TEST_CASE("feedback: F56 a sink's messages are known before they leave", "[run][feedback][F56]") {
  FakeClock clock{system_now()};
  Feedback own(clock);
  FakeSink::Script script;
  script.clock = &clock;
  bool known = false;
  script.answer = [&](const logbell::rules::Notification& notification, const logbell::sinks::Attempt&) {
    known = own.is_in("delivery " + notification.key);
    return logbell::sinks::Outcome::delivered("receipt");
  };
  const auto sink = logbell::engine::marked(std::make_unique<FakeSink>(script), own);
  logbell::rules::Notification notification;
  notification.key = kKey;
  CHECK(sink->deliver(notification, {}).receipt == "receipt");
  CHECK(known);
}

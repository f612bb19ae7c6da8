// The first time that a source is followed: what of its log is read, and since when it counts as watched.
#include "engine/run/first_start.h"

#include "tests/engine/run/reader_world.h"

namespace logbell::tests {
namespace {

using rules::ReadFrom;
using rules::Timestamp;

// A log with a line every ten seconds up to now, `age` long.
std::string log_of(Timestamp now, rules::Duration age, const std::string& between = "") {
  std::string text;
  for (Timestamp t = now - age; t <= now; t += seconds(10))
    text += line_at(t, "line") + between;
  return text;
}

TEST_CASE("first start: a young file is read from its beginning", "[run][first_start]") {
  ReaderWorld world({.sources = {{.read_from = ReadFrom::kAuto}}, .window = "5m"});
  world.dir.append("a.log", "one\ntwo\n");
  world.clock.advance(minutes(14));
  world.settle();
  CHECK(world.lines() == Texts{"one", "two"});
  CHECK(*world.statuses[0].watched_from < world.clock.now() - minutes(13));
}

TEST_CASE("first start: of an old file only what fills the longest window is read", "[run][first_start]") {
  ReaderWorld world({.sources = {{.read_from = ReadFrom::kAuto}}, .window = "2h"});
  world.clock.advance(minutes(16));  // the file is born 16 minutes ago
  const Timestamp now = world.clock.now();
  const std::string between = GENERATE(as<std::string>(), "", "\tat stack trace without a time\n");
  world.dir.append("a.log", log_of(now, hours(24 * 7), between));
  world.settle();
  REQUIRE_FALSE(world.seen.empty());
  // A minute more does no harm; a minute less would.
  CHECK(world.seen.front().at <= now - hours(2));
  CHECK(world.seen.front().at > now - hours(2) - minutes(1));
  CHECK(world.statuses[0].watched_from == now - hours(2));
  CHECK(world.seen.back().at <= now);
  CHECK(world.seen.back().at > now - seconds(20));
}

TEST_CASE("first start: an old file that is younger than the window", "[run][first_start]") {
  ReaderWorld world({.sources = {{.read_from = ReadFrom::kAuto}}, .window = "2h"});
  world.clock.advance(minutes(16));
  const Timestamp now = world.clock.now();
  world.dir.append("a.log", log_of(now, hours(1)));
  world.settle();
  CHECK(world.seen.size() == 361);
  CHECK(world.statuses[0].watched_from <= now - hours(1));
  CHECK(world.statuses[0].watched_from > now - hours(1) - seconds(1));
}

TEST_CASE("first start: an old file to which nothing was written lately", "[run][first_start]") {
  ReaderWorld world({.sources = {{.read_from = ReadFrom::kAuto}}, .window = "5m"});
  world.dir.append("a.log", log_of(world.clock.now(), hours(1)));
  world.clock.advance(hours(1));
  world.settle();
  CHECK(world.lines().empty());
  CHECK(world.statuses[0].watched_from == world.clock.now() - minutes(5));
}

TEST_CASE("first start: an old file without times is not taken for news", "[run][first_start]") {
  ReaderWorld world({.sources = {{.read_from = ReadFrom::kAuto}}, .window = "5m"});
  world.dir.append("a.log", "error of last year\nerror of yesterday\n");
  world.clock.advance(minutes(16));
  world.dir.touch("a.log", world.clock.now());
  world.settle();
  CHECK(world.lines().empty());
  CHECK(world.statuses[0].watched_from == world.clock.now());
  world.dir.append("a.log", "error of today\n");
  world.settle();
  CHECK(world.lines() == Texts{"error of today"});
}

TEST_CASE("first start: read_from says otherwise", "[run][first_start]") {
  ReaderWorld world;
  world.dir.append("a.log", "one\n");
  world.clock.advance(hours(30));
  SECTION("beginning") {
    world.plan_setting.sources[0].read_from = ReadFrom::kBeginning;
    world.settle();
    CHECK(world.lines() == Texts{"one"});
    CHECK(*world.statuses[0].watched_from < world.clock.now() - hours(29));
  }
  SECTION("end, even within a line") {
    world.plan_setting.sources[0].read_from = ReadFrom::kEnd;
    world.dir.append("a.log", "half a");
    world.settle();
    world.dir.append("a.log", " line\ntwo\n");
    world.settle();
    CHECK(world.lines() == Texts{"two"});
    CHECK(world.statuses[0].watched_from == world.clock.now());
  }
}

TEST_CASE("first start: with nothing there yet, everything is watched from now on", "[run][first_start]") {
  ReaderWorld world({.sources = {{.read_from = ReadFrom::kAuto}}, .window = "2h"});
  world.settle();
  const Timestamp start = world.clock.now();
  CHECK(world.statuses[0].watched_from == start);
  CHECK_FALSE(world.statuses[0].read_to_end_at);
  world.clock.advance(hours(1));
  world.dir.append("a.log", "one\n");
  world.settle();
  CHECK(world.lines() == Texts{"one"});
  CHECK(world.statuses[0].watched_from == start);
}

TEST_CASE("first start: a source is as known as the youngest of its files", "[run][first_start]") {
  ReaderWorld world({.sources = {{.read_from = ReadFrom::kAuto}}, .window = "2h"});
  world.clock.advance(minutes(16));
  const Timestamp now = world.clock.now();
  world.dir.append("a.log", log_of(now, hours(24)));
  world.dir.append("b.log", log_of(now, minutes(30)));
  world.settle();
  CHECK(*world.statuses[0].watched_from > now - minutes(31));
}

}  // namespace
}  // namespace logbell::tests

// A new plan while files are read: what is unchanged keeps its place, and no batch mixes two plans.
#include "tests/engine/run/reader_world.h"

namespace logbell::tests {
namespace {

TEST_CASE("reload: unchanged files keep their place, patterns are the new ones", "[run][reload][F35]") {
  ReaderWorld world({.patterns = {"old"}});
  world.dir.append("a.log", "old 1\nnew 1\n");
  world.settle();
  CHECK(world.lines() == Texts{"old 1"});
  world.dir.append("a.log", "old 2\nnew 2\n");
  world.reload({.patterns = {"new"}, .generation = 2});
  REQUIRE(world.seen.size() == 1);
  CHECK(world.seen[0].text == "new 2");
  CHECK(world.seen[0].generation == 2);
  world.dir.append("a.log", "new 3\n");
  world.settle();
  CHECK(world.lines() == Texts{"new 2", "new 3"});
  world.restart();
  CHECK(world.lines().empty());
}

TEST_CASE("reload: in the middle of a backlog", "[run][reload][F35]") {
  ReaderWorld world;
  world.chunk_bytes = 512;
  world.plan_setting.sources[0].max_line_bytes = 256;
  std::string text;
  for (int i = 0; i < 1000; ++i)
    text += "line " + std::to_string(i) + "\n";
  world.dir.append("a.log", text);
  world.start();
  for (int i = 0; i < 5; ++i)
    world.step();
  PlanSetting next = world.plan_setting;
  next.generation = 2;
  world.reload(next);
  REQUIRE(world.seen.size() == 1000);
  CHECK(world.seen.front().generation == 1);
  CHECK(world.seen.back().generation == 2);
}

TEST_CASE("reload: a source that is removed is let go, with its entries", "[run][reload][F35]") {
  ReaderWorld world({.sources = {{.name = "a", .files = {"a.log"}}, {.name = "b", .files = {"b.log"}}}});
  world.dir.append("a.log", "a\n");
  world.dir.append("b.log", "b\n");
  world.settle();
  CHECK(world.lines().size() == 2);
  CHECK(world.committed.size() == 4);
  world.reload({.sources = {{.name = "b", .files = {"b.log"}}}, .generation = 2});
  CHECK(world.committed.size() == 2);
  CHECK(world.reader->streams().size() == 1);
  world.dir.append("a.log", "a\n");
  world.dir.append("b.log", "b\n");
  world.settle();
  CHECK(world.lines() == Texts{"b"});
}

TEST_CASE("reload: a source with another name keeps the place in its file", "[run][reload][F35]") {
  ReaderWorld world({.sources = {{.name = "old"}}});
  world.dir.append("a.log", "one\n");
  world.settle();
  CHECK(world.lines() == Texts{"one"});
  world.dir.append("a.log", "two\n");
  const PlanSetting renamed{.sources = {{.name = "new"}}, .generation = 2};
  SECTION("while it runs") {
    world.reload(renamed);
  }
  SECTION("over a restart") {
    world.plan_setting = renamed;
    world.restart();
  }
  CHECK(world.lines() == Texts{"two"});
  CHECK(world.committed.count("pos/source/new") == 1);
  CHECK(world.committed.count("pos/source/old") == 0);
  CHECK(world.committed.size() == 2);
}

TEST_CASE("reload: a new pattern of files finds old ones as a first start does", "[run][reload][F35]") {
  ReaderWorld world({.sources = {{.files = {"a.log"}, .read_from = rules::ReadFrom::kAuto}}});
  world.dir.append("a.log", "one\n");
  world.dir.append("b.txt", "a year of news\n");
  world.clock.advance(minutes(16));
  world.settle();
  world.dir.append("a.log", "two\n");
  world.reload(
      {.sources = {{.files = {"a.log", "b.*"}, .read_from = rules::ReadFrom::kAuto}}, .generation = 2});
  CHECK(world.lines() == Texts{"two"});
  world.dir.append("b.txt", "three\n");
  world.settle();
  CHECK(world.lines() == Texts{"three"});
}

TEST_CASE("reload: a file that leaves the configuration and comes back goes on where it was read",
          "[run][reload][F35]") {
  const SourceSetting right{.files = {"app.log"}, .read_from = rules::ReadFrom::kAuto};
  ReaderWorld world({.sources = {right}});
  world.dir.append("app.log", "one\n");
  world.settle();
  CHECK(world.lines() == Texts{"one"});
  std::uint64_t generation = 1;
  const auto reload = [&](const std::vector<SourceSetting>& sources) {
    world.reload({.sources = sources, .generation = ++generation});
  };
  const std::string how = GENERATE("a mistaken name", "two mistaken names", "without its source");
  const bool rotated = GENERATE(false, true);
  CAPTURE(how, rotated);
  if (how == "without its source") {
    reload({{.name = "other", .files = {"other.log"}}});
  } else {
    reload({{.files = {"app.lgo"}, .read_from = rules::ReadFrom::kAuto}});
    if (how == "two mistaken names") reload({{.files = {"pap.log"}, .read_from = rules::ReadFrom::kAuto}});
  }
  world.dir.append("app.log", "two\n");
  // As at a first start it would be too old to be read.
  world.pass(minutes(20));
  if (rotated) world.dir.rename("app.log", "app.log.1");
  CHECK(world.lines().empty());
  reload({right});
  world.dir.append("app.log", "three\n");
  world.settle();
  CHECK(world.lines() == Texts{"two", "three"});
  world.restart();
  CHECK(world.lines().empty());
  for (const auto& [name, value] : world.counters) {
    if (name.starts_with("logbell_source_gaps_total")) CHECK(value == 0);
  }
}

TEST_CASE("reload: twice before the next look", "[run][reload][F35]") {
  const SourceSetting a{.name = "a", .files = {"a.log"}};
  const SourceSetting b{.name = "b", .files = {"b.log"}};
  ReaderWorld world({.sources = {a, b}});
  world.dir.append("a.log", "a1\n");
  world.dir.append("b.log", "b1\n");
  world.settle();
  CHECK(world.lines().size() == 2);
  const bool back = GENERATE(true, false);
  world.reader->replace_plan(make_plan(world.dir, {.sources = {a}, .generation = 2}));
  world.dir.append("b.log", "b2\n");
  world.reload({.sources = back ? std::vector{a, b} : std::vector{a}, .generation = 3});
  CHECK(world.lines() == (back ? Texts{"b2"} : Texts{}));
  CHECK(world.committed.size() == (back ? 4 : 2));
  world.restart();
  CHECK(world.lines().empty());
}

TEST_CASE("reload: another source does not go on where the file was read", "[run][reload][F35]") {
  ReaderWorld world({.sources = {{.name = "old", .files = {"app.log"}}}});
  world.dir.append("app.log", "one\n");
  world.settle();
  world.reload({.sources = {{.name = "old", .files = {"app.lgo"}}}, .generation = 2});
  CHECK(world.lines() == Texts{"one"});
  world.reload({.sources = {{.name = "new", .files = {"app.log"}}}, .generation = 3});
  CHECK(world.lines() == Texts{"one"});
}

TEST_CASE("reload: sources change their order", "[run][reload][F35]") {
  ReaderWorld world({.sources = {{.name = "a", .files = {"a.log"}}, {.name = "b", .files = {"b.log"}}}});
  world.dir.append("a.log", "a1\n");
  world.dir.append("b.log", "b1\n");
  world.settle();
  world.lines();
  world.reload(
      {.sources = {{.name = "b", .files = {"b.log"}}, {.name = "a", .files = {"a.log"}}}, .generation = 2});
  world.dir.append("a.log", "a2\n");
  world.settle();
  world.dir.append("b.log", "b2\n");
  world.settle();
  CHECK(world.lines() == Texts{"a2", "b2"});
  CHECK(world.counter("logbell_source_lines_total{source=\"a\"}") == 2);
  CHECK(world.counter("logbell_source_lines_total{source=\"b\"}") == 2);
}

}  // namespace
}  // namespace logbell::tests

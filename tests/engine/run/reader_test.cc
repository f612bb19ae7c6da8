// The reader in its everyday life: files found, followed, read once, and said how far.
#include "engine/run/reader.h"

#include "tests/engine/run/reader_world.h"

namespace logbell::tests {
namespace {

TEST_CASE("reader: lines of files that a pattern finds become matches", "[run][reader]") {
  ReaderWorld world({.patterns = {"error (?P<code>\\d+)", "warning"}});
  world.dir.append("a.log", "error 1\nnothing\nwarning about error 2\n");
  world.dir.append("b.txt", "error 3\n");
  world.settle();
  REQUIRE(world.seen.size() == 3);
  CHECK(world.seen[0].text == "error 1");
  CHECK(world.seen[0].labels == Texts{"1"});
  CHECK(world.seen[1].text == "warning about error 2");
  CHECK(world.seen[1].pattern == 0);
  CHECK(world.seen[2].pattern == 1);
  CHECK(world.counter("logbell_source_lines_total{source=\"app\"}") == 3);
  CHECK(world.counter("logbell_source_bytes_total{source=\"app\"}") == 38);
}

TEST_CASE("reader: what is appended is handed over in the next step, with the look that saw all of it",
          "[run][reader]") {
  ReaderWorld world;
  world.dir.append("a.log", "one\n");
  world.settle();
  CHECK(world.lines() == Texts{"one"});
  world.clock.advance(seconds(1));
  world.dir.append("a.log", "two\nthree\n");
  const auto result = world.step();
  CHECK(world.lines() == Texts{"two", "three"});
  CHECK_FALSE(result.more);
  CHECK(world.statuses[0].read_to_end_at == world.clock.now());
  CHECK(world.statuses[0].last_line_at == world.clock.now());
  CHECK(result.batch->read_at == world.clock.now());
}

TEST_CASE("reader: nothing new is no batch, unless somebody asks how far it is", "[run][reader]") {
  ReaderWorld world;
  world.dir.append("a.log", "one\n");
  world.settle();
  world.clock.advance(milliseconds(700));
  CHECK_FALSE(world.step().batch);
  world.reader->request_confirmation();
  const auto result = world.step();
  REQUIRE(result.batch);
  CHECK(result.batch->matches.empty());
  CHECK(world.statuses[0].read_to_end_at == world.clock.now());
  CHECK_FALSE(world.step().batch);
}

TEST_CASE("reader: a file that appears while it runs is read from its beginning", "[run][reader]") {
  ReaderWorld world({.sources = {{.files = {"*/app-*.log"}, .read_from = rules::ReadFrom::kEnd}}});
  world.settle();
  CHECK_FALSE(world.statuses[0].readable);
  fs::create_directory(world.dir.path("pod"));
  world.dir.append("pod/app-1.log", "one\n");
  world.settle();
  CHECK(world.lines() == Texts{"one"});
  CHECK(world.statuses[0].readable);
}

TEST_CASE("reader: without inotify everything is polled, each second", "[run][reader]") {
  ReaderWorld world;
  world.use_inotify = false;
  world.dir.append("a.log", "one\n");
  world.settle();
  CHECK(world.lines() == Texts{"one"});
  world.dir.append("a.log", "two\n");
  world.dir.append("b.log", "new\n");
  world.settle();
  CHECK(world.lines().empty());
  const rules::Timestamp before = world.clock.now();
  CHECK(world.statuses[0].read_to_end_at == before);
  world.pass(seconds(1));
  CHECK(world.lines() == Texts{"new", "two"});
  world.dir.append("a.log", "three\n");
  world.confirm();
  CHECK(world.lines() == Texts{"three"});
}

}  // namespace
}  // namespace logbell::tests

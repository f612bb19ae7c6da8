// Logs are renamed, cut, deleted and linked while somebody reads them: every line is counted once.
#include <tuple>
#include <cstdlib>
#include <ctime>

#include <sys/stat.h>

#include "tests/engine/run/reader_world.h"
#include "tests/support/pack.h"

namespace logbell::tests {
namespace {

double rotations(const ReaderWorld& world, const std::string& kind) {
  return world.counter("logbell_source_rotations_total{kind=\"" + kind + "\", source=\"app\"}");
}

TEST_CASE("rotation: the old file is read to its end before the new one, and kept while it grows",
          "[run][rotation][F1]") {
  ReaderWorld world({.sources = {{.files = {"app.log"}}}});
  world.dir.append("app.log", "one\n");
  world.settle();
  // The writer still has the old file open.
  world.dir.append("app.log", "two\n");
  world.dir.rename("app.log", "app.log.1");
  world.dir.append("app.log.1", "three\n");
  world.dir.append("app.log", "four\n");
  world.settle();
  CHECK(world.lines() == Texts{"one", "two", "three", "four"});
  world.pass(seconds(4));
  world.dir.append("app.log.1", "late\n");
  world.dir.append("app.log", "five\n");
  world.settle();
  CHECK(world.lines() == Texts{"late", "five"});
  world.pass(seconds(4));
  CHECK(world.committed.size() == 3);
  world.pass(seconds(2));
  CHECK(world.committed.size() == 2);  // the old one is let go
  CHECK(world.reader->streams().size() == 1);
  CHECK(rotations(world, "rename") == 1);
}

TEST_CASE("rotation: a file whose writer has not turned to the new one is kept", "[run][rotation][F1]") {
  ReaderWorld world({.sources = {{.files = {"app.log"}}}});
  world.dir.append("app.log", "one\n");
  world.settle();
  world.dir.rename("app.log", "app.log.1");
  world.dir.append("app.log", "");
  for (int i = 0; i < 30; ++i)
    world.pass(seconds(3));
  world.dir.append("app.log.1", "two\n");
  world.settle();
  CHECK(world.lines() == Texts{"one", "two"});
  world.dir.append("app.log", "three\n");
  world.settle();
  for (int i = 0; i < 5; ++i)
    world.pass(seconds(3));
  CHECK(world.lines() == Texts{"three"});
  CHECK(world.reader->streams().size() == 1);
}

TEST_CASE("rotation: a file whose writer never turns to the new one is kept while he writes",
          "[run][rotation][F1]") {
  ReaderWorld world({.sources = {{.files = {"app.log"}}}});
  world.dir.append("app.log", "one\n");
  world.settle();
  world.dir.rename("app.log", "app.log.1");
  world.dir.append("app.log", "");
  world.settle();
  world.lines();
  for (int i = 0; i < 6; ++i) {
    world.pass(minutes(9));
    const std::string line = "after " + std::to_string(i);
    world.dir.append("app.log.1", line + "\n");
    world.settle();
    CHECK(world.lines() == Texts{line});
  }
  world.pass(minutes(9));
  CHECK(world.reader->streams().size() == 2);
  // Nobody writes to it any more.
  for (int i = 0; i < 2; ++i)
    world.pass(minutes(1));
  CHECK(world.reader->streams().size() == 1);
}

TEST_CASE("rotation: names that the pattern finds as well are the same files", "[run][rotation][F1]") {
  ReaderWorld world({.sources = {{.files = {"app.log*"}}}});
  world.dir.append("app.log", "one\n");
  world.settle();
  for (int i = 0; i < 3; ++i) {
    if (fs::exists(world.dir.path("app.log.1"))) world.dir.rename("app.log.1", "app.log.2");
    world.dir.rename("app.log", "app.log.1");
    world.dir.append("app.log.1", "old " + std::to_string(i) + "\n");
    world.dir.append("app.log", "new " + std::to_string(i) + "\n");
    world.settle();
    CHECK(world.lines() == (i == 0 ? Texts{"one", "old 0", "new 0"}
                                   : Texts{"old " + std::to_string(i), "new " + std::to_string(i)}));
    world.pass(seconds(20));
  }
  CHECK(world.lines().empty());
}

TEST_CASE("rotation: many in a row between two looks lose nothing that is still there",
          "[run][rotation][F2]") {
  ReaderWorld world({.sources = {{.files = {"app.log"}}}});
  world.dir.append("app.log", "line 0\n");
  world.settle();
  Texts expected = {"line 0"};
  for (int i = 1; i <= 20; ++i) {
    for (int n = 20; n >= 1; --n) {
      const std::string from = "app.log." + std::to_string(n);
      if (fs::exists(world.dir.path(from))) world.dir.rename(from, "app.log." + std::to_string(n + 1));
    }
    world.dir.rename("app.log", "app.log.1");
    LogDir::wait_for_another_birth();  // which of one tick came first nobody can tell for sure
    world.dir.append("app.log", "line " + std::to_string(i) + "\n");
    expected.push_back("line " + std::to_string(i));
  }
  world.settle();
  CHECK(world.lines() == expected);
  for (int i = 0; i < 10; ++i)
    world.pass(seconds(3));
  CHECK(world.reader->streams().size() == 1);
}

TEST_CASE("rotation: a copy that the pattern finds is not read again", "[run][rotation][F3]") {
  std::string pattern;
  std::string name;
  std::tie(pattern, name) = GENERATE(
      table<std::string, std::string>({{"app.log*", "app.log.1"}, {"*", "app.log-20261127"}, {"*.log", "app-20261127.log"}}));
  ReaderWorld world({.sources = {{.files = {pattern}}}});
  world.dir.append("app.log", "one\ntwo\n");
  world.settle();
  CHECK(world.lines() == Texts{"one", "two"});
  const bool slowly = GENERATE(false, true);
  const bool unread = GENERATE(false, true);
  const bool cut = GENERATE(false, true);
  const bool after = GENERATE(false, true);
  CAPTURE(name, slowly, unread, cut, after);
  Texts expected;
  if (slowly) {
    world.dir.append(name, "");
    world.settle();
    world.dir.append(name, "one\n");
    world.settle();
    CHECK(world.lines().empty());
  }
  if (unread) {
    world.dir.append("app.log", "three\n");
    expected.emplace_back("three");
  }
  world.dir.append(name, std::string(slowly ? "" : "one\n") + "two\n" + (unread ? "three\n" : ""));
  if (!cut) {
    world.settle();
    CHECK(world.lines() == expected);
    expected.clear();
    world.dir.append("app.log", "later\n");
    expected.emplace_back("later");
  } else {
    world.dir.write("app.log", after ? "4\n" : "");
    if (after) expected.emplace_back("4");
  }
  world.settle();
  CHECK(world.lines() == expected);
  CHECK(world.counter("logbell_source_gaps_total{cause=\"truncated\", source=\"app\"}") <= 0);
  world.restart();
  CHECK(world.lines().empty());
  world.dir.append("app.log", "five\n");
  world.settle();
  CHECK(world.lines() == Texts{"five"});
}

TEST_CASE("rotation: copytruncate starts again at the beginning", "[run][rotation][F3]") {
  ReaderWorld world({.sources = {{.files = {"app.log"}}}});
  world.dir.append("app.log", "one\ntwo\n");
  world.settle();
  world.dir.copy("app.log", "app.log.1");
  world.dir.truncate("app.log");
  world.settle();
  world.dir.append("app.log", "three\n");
  world.settle();
  CHECK(world.lines() == Texts{"one", "two", "three"});
  CHECK(rotations(world, "truncate") == 1);
  CHECK(world.counter("logbell_source_gaps_total{cause=\"truncated\", source=\"app\"}") == 0);
  SECTION("half a line that was cut away with it is counted as lost") {
    world.dir.append("app.log", "half");
    world.settle();
    world.dir.truncate("app.log");
    world.dir.append("app.log", "x\n");
    world.settle();
    CHECK(world.lines() == Texts{"x"});
    CHECK(world.counter("logbell_source_bytes_lost_total{cause=\"truncated\", source=\"app\"}") == 4);
    CHECK(world.counter("logbell_source_gaps_total{cause=\"truncated\", source=\"app\"}") == 1);
    CHECK(world.statuses[0].watched_from == world.clock.now());
  }
}

TEST_CASE("rotation: a copy beside a log is not read again when the log itself is renamed",
          "[run][rotation][F3]") {
  ReaderWorld world({.sources = {{.files = {"app.log"}}}});
  world.dir.append("app.log", "one\ntwo\n");
  world.settle();
  CHECK(world.lines() == Texts{"one", "two"});
  const auto rename_and_go_on = [&] {
    world.dir.rename("app.log", "app.log.9");
    world.dir.append("app.log", "four\n");
    world.settle();
  };
  SECTION("of what was cut away") {
    world.dir.copy("app.log", "app.log.1");
    world.dir.truncate("app.log");
    world.settle();
    world.dir.append("app.log", "three\n");
    rename_and_go_on();
    CHECK(world.lines() == Texts{"three", "four"});
  }
  SECTION("twice, and what was cut away before it was read is read from one of them") {
    world.dir.append("app.log", "unread\n");
    world.dir.copy("app.log", "app.log.1");
    world.dir.copy("app.log", "app.log.2");
    world.dir.truncate("app.log");
    world.settle();
    world.dir.append("app.log", "three\n");
    rename_and_go_on();
    CHECK(world.lines() == Texts{"unread", "three", "four"});
  }
  SECTION("cut away before somebody else goes on") {
    world.dir.copy("app.log", "app.log.1");
    world.dir.truncate("app.log");
    world.dir.append("app.log", "three\n");
    world.settle();
    world.dir.copy("app.log", "app.log.2");
    world.dir.truncate("app.log");
    world.settle();
    world.reader.reset();
    rename_and_go_on();
    CHECK(world.lines() == Texts{"three", "four"});
  }
  SECTION("cut away while nobody looked") {
    world.reader.reset();
    world.dir.copy("app.log", "app.log.1");
    world.dir.truncate("app.log");
    world.restart();
    world.dir.append("app.log", "three\n");
    rename_and_go_on();
    CHECK(world.lines() == Texts{"three", "four"});
  }
  SECTION("of what is there still, as it was a moment ago") {
    world.dir.copy("app.log", "app.log.bak");
    world.dir.append("app.log", "three\n");
    rename_and_go_on();
    CHECK(world.lines() == Texts{"three", "four"});
  }
  SECTION("but what only begins alike is another file") {
    world.dir.append("app.log", "three\n");
    world.dir.rename("app.log", "app.log.2");
    world.dir.append("app.log", "one\ntwo\nthree and a half\n");
    world.dir.rename("app.log", "app.log.1");
    world.dir.append("app.log", "four\n");
    world.settle();
    CHECK(world.lines() == Texts{"three", "one", "two", "three and a half", "four"});
  }
  for (int i = 0; i < 10; ++i)
    world.pass(seconds(3));
  CHECK(world.lines().empty());
}

TEST_CASE("rotation: what was written before the copy and not read by the cut is read from the copy",
          "[run][rotation][F3]") {
  ReaderWorld world({.sources = {{.files = {"app.log"}}}});
  world.dir.append("app.log", "one\n");
  world.settle();
  const auto gaps = [&] {
    return world.counter("logbell_source_gaps_total{cause=\"truncated\", source=\"app\"}");
  };
  std::string last = "two\n";
  SECTION("once") {}
  SECTION("with the beginning of a line that goes on after it") {
    last = "two\nhalf";
  }
  SECTION("within a line that was seen") {
    world.dir.append("app.log", "tw");
    world.settle();
    last = "o\n";
  }
  SECTION("a second time") {
    world.dir.copy("app.log", "app.log.1");
    world.dir.write("app.log", "other\n");
    world.settle();
    world.dir.rename("app.log.1", "app.log.2");
    CHECK(world.lines() == Texts{"one", "other"});
    world.pass(seconds(30));
  }
  world.lines();
  world.dir.append("app.log", last);
  world.dir.copy("app.log", "app.log.1");
  world.dir.write("app.log", "three\n");
  world.settle();
  CHECK(world.lines() == Texts{"two", "three"});
  world.pass(seconds(5));
  world.pass(seconds(5));
  CHECK(world.lines() == (last == "two\nhalf" ? Texts{"half"} : Texts{}));
  CHECK(gaps() <= 0);
  CHECK(world.counter("logbell_source_bytes_lost_total{cause=\"truncated\", source=\"app\"}") <= 0);
  world.pass(minutes(2));
  world.restart();
  world.dir.append("app.log", "four\n");
  world.settle();
  CHECK(world.lines() == Texts{"four"});
  // Nothing was missed, and the copy has no more.
  world.dir.copy("app.log", "app.log.0");
  world.dir.write("app.log", "five\n");
  world.settle();
  CHECK(world.lines() == Texts{"five"});
}

TEST_CASE("rotation: a copy that is overwritten while it is followed is no log", "[run][rotation][F3]") {
  ReaderWorld world({.sources = {{.files = {"app.log"}}}});
  world.dir.append("app.log", "one\n");
  world.settle();
  world.dir.append("app.log", "two\n");
  world.dir.copy("app.log", "app.log.1");
  world.dir.write("app.log", "3\n");
  world.settle();
  CHECK(world.lines() == Texts{"one", "two", "3"});
  world.dir.write("app.log.1", "of something else altogether\n");
  world.settle();
  world.pass(minutes(1));
  CHECK(world.lines().empty());
}

TEST_CASE("rotation: copied again and again into one file, and cut", "[run][rotation][F3]") {
  ReaderWorld world({.sources = {{.files = {"app.log"}}}});
  const rules::Duration between = GENERATE(seconds(1), seconds(12));  // the copy is followed still, or was let go
  CAPTURE(between.count());
  const bool unread = GENERATE(true, false);
  CAPTURE(unread);
  Texts wanted;
  int number = 0;
  const auto write = [&] {
    for (int i = 0; i < 3; ++i) {
      const std::string line = "a line with its number " + std::to_string(++number);
      world.dir.append("app.log", line + "\n");
      wanted.push_back(line);
    }
  };
  for (int round = 0; round < 5; ++round) {
    write();
    world.settle();
    if (unread) write();
    std::ifstream from(world.dir.path("app.log"));
    std::ofstream(world.dir.path("app.log.1")) << from.rdbuf();  // keeps its inode
    world.dir.truncate("app.log");
    const bool looked = round % 2 == 0;
    if (looked) world.settle();
    write();
    world.settle();
    for (rules::Duration passed{0}; passed < between; passed += seconds(1))
      world.pass(seconds(1));
  }
  CHECK(world.lines() == wanted);
  for (const auto& [name, value] : world.counters) {
    CAPTURE(name);
    if (name.starts_with("logbell_source_gaps_total")) CHECK(value == 0);
  }
}

TEST_CASE("rotation: of two copies between two reads the second is missed, which is said", "[run][rotation][F3]") {
  ReaderWorld world({.sources = {{.files = {"app.log"}}}});
  world.dir.append("app.log", "one\n");
  world.settle();
  Texts wanted{"one", "four"};
  bool twice = true;
  SECTION("with a rest of the first") {
    world.dir.append("app.log", "two\n");
    wanted = {"one", "two", "four"};
  }
  SECTION("all of the first was read") {}
  SECTION("a single copy is no gap") {
    twice = false;
    wanted = {"one", "three", "four"};
  }
  world.dir.copy("app.log", "app.log.2");
  if (twice) {
    world.dir.wait_for_another_birth();
    world.dir.write("app.log", "three\n");
    world.dir.copy("app.log", "app.log.1");
  } else {
    world.dir.write("app.log", "three\n");
    world.settle();
    world.dir.append("app.log", "four\n");
    world.settle();
    CHECK(world.lines() == wanted);
    CHECK(world.counter("logbell_source_gaps_total{cause=\"truncated\", source=\"app\"}") == 0);
    return;
  }
  world.dir.write("app.log", "four\n");
  world.settle();
  CHECK(world.lines() == wanted);
  CHECK(world.counter("logbell_source_gaps_total{cause=\"truncated\", source=\"app\"}") == 1);
}

TEST_CASE("rotation: what was written, copied and cut between two looks at a log that is empty is missed, which is said",
          "[run][rotation][F3]") {
  ReaderWorld world({.sources = {{.files = {"app.log"}}}});
  const auto gaps = [&] { return world.counter("logbell_source_gaps_total{cause=\"truncated\", source=\"app\"}"); };
  world.dir.append("app.log", "one\n");
  world.settle();
  world.dir.copy("app.log", "app.log.1");
  world.dir.write("app.log", "");
  world.settle();
  CHECK(gaps() == 0);
  LogDir::wait_for_another_birth();
  world.dir.append("app.log", GENERATE("two\n", ""));
  const bool lines = engine::stat_path(world.dir.path("app.log"))->size > 0;
  world.dir.copy("app.log", "app.log.2");
  world.dir.write("app.log", GENERATE("", "3\n"));
  world.settle();
  CHECK(gaps() == (lines ? 1 : 0));
  world.dir.append("app.log", "4\n");
  world.settle();
  CHECK(gaps() == (lines ? 1 : 0));
}

TEST_CASE("rotation: twice between two looks, and compressed at once", "[run][rotation][F1]") {
  ReaderWorld world({.sources = {{.files = {"app.log"}}}});
  world.dir.append("app.log", "one\n");
  world.settle();
  world.dir.rename("app.log", "app.log.1");
  world.dir.append("app.log", "two\n");
  for (const auto& [from, to] : {std::pair{"app.log.1", "app.log.2"}, std::pair{"app.log", "app.log.1"}}) {
    world.dir.rename(from, to);
    std::ofstream(world.dir.path(std::string(to) + ".gz"), std::ios::binary) << gzip(to == std::string("app.log.2") ? "one\n" : "two\n");
    fs::last_write_time(world.dir.path(std::string(to) + ".gz"), fs::last_write_time(world.dir.path(to)));
    world.dir.remove(to);
  }
  world.dir.append("app.log", "three\n");
  world.settle();
  CHECK(world.lines() == Texts{"one", "two", "three"});
}

TEST_CASE("rotation: what is cut away without a copy is lost, and another's copy is none",
          "[run][rotation][F3]") {
  ReaderWorld world({.sources = {{.files = {"app.log"}}}});
  world.dir.append("app.log", "one\n");
  world.settle();
  world.dir.append("app.log.1", "another's\nold one\n");
  world.dir.append("app.log", "tw");
  world.settle();
  world.dir.append("app.log", "o\n");
  world.dir.write("app.log", "3\n");
  world.settle();
  CHECK(world.lines() == Texts{"one", "3"});
  CHECK(world.counter("logbell_source_gaps_total{cause=\"truncated\", source=\"app\"}") == 1);
  CHECK(world.counter("logbell_source_bytes_lost_total{cause=\"truncated\", source=\"app\"}") == 2);
}

TEST_CASE("rotation: a writer that does not append leaves a hole after copytruncate", "[run][rotation][F4]") {
  ReaderWorld world({.sources = {{.files = {"app.log"}}}});
  const std::string before(99, 'x');
  world.dir.append("app.log", before + "\n");
  world.settle();
  CHECK(world.lines() == Texts{before});
  SECTION("the size of what was written") {
    world.dir.truncate("app.log");
    world.dir.truncate("app.log", 100);
    world.dir.append("app.log", "after\n");
    world.settle();
    CHECK(world.lines() == Texts{"after"});
    CHECK(world.counter("logbell_source_nul_bytes_skipped_total{source=\"app\"}") == 100);
  }
  SECTION("of ten gigabytes, which the file system knows") {
    world.dir.truncate("app.log");
    const std::uintmax_t size = std::uintmax_t{10} << 30;
    world.dir.truncate("app.log", size);
    world.dir.append("app.log", "after\n");
    int steps = 0;
    while (world.step().more)
      REQUIRE(++steps < 100);
    CHECK(world.lines() == Texts{"after"});
    CHECK(world.counter("logbell_source_nul_bytes_skipped_total{source=\"app\"}") ==
          static_cast<double>(size));
  }
}

TEST_CASE("rotation: cut and grown past the old place is noticed by what was there", "[run][rotation][F5]") {
  ReaderWorld world({.sources = {{.files = {"app.log"}}}});
  world.dir.append("app.log", "one\ntwo\n");
  world.settle();
  world.dir.write("app.log", "another one\nanother two\n");
  world.settle();
  CHECK(world.lines() == Texts{"one", "two", "another one", "another two"});
  CHECK(rotations(world, "rewrite") == 1);
  CHECK(rotations(world, "truncate") == 0);
}

TEST_CASE("rotation: a new log that looks like the old one where that was passed is not the old one cut back",
          "[run][rotation][F5]") {
  ReaderWorld world({.sources = {{.files = {"app.log"}}}});
  const std::string rule(300, '-');
  world.dir.append("app.log", "one\n" + rule + '\n');
  world.settle();
  world.dir.append("app.log", "two\n" + rule + '\n');
  world.settle();
  world.dir.write("app.log", "six\n" + rule + "\nseven\n");
  world.settle();
  CHECK(world.lines() == Texts{"one", rule, "two", rule, "six", rule, "seven"});
}

TEST_CASE("rotation: cut back to a place passed on the way goes on from there", "[run][rotation][F6]") {
  ReaderWorld world({.sources = {{.files = {"app.log"}}}});
  for (const char* line : {"one\n", "two\n", "three\n"}) {
    world.dir.append("app.log", line);
    world.settle();
  }
  CHECK(world.lines() == Texts{"one", "two", "three"});
  SECTION("at a line's end") {
    world.dir.truncate("app.log", 8);
    world.settle();
    world.dir.append("app.log", "four\n");
    world.settle();
    CHECK(world.lines() == Texts{"four"});
    CHECK(world.counter("logbell_source_gaps_total{cause=\"truncated\", source=\"app\"}") == 0);
  }
  SECTION("and written to before anybody looked: nobody can tell what is new, and that is said") {
    world.dir.truncate("app.log", 8);
    world.dir.append("app.log", "four\n");
    world.settle();
    CHECK(world.lines().empty());
    CHECK(world.counter("logbell_source_gaps_total{cause=\"truncated\", source=\"app\"}") == 1);
  }
  SECTION("within a line: the rest of it is no line") {
    world.dir.truncate("app.log", 10);
    world.settle();
    world.dir.append("app.log", "ree\nfour\n");
    world.settle();
    CHECK(world.lines() == Texts{"four"});
  }
  CHECK(rotations(world, "truncate") == 1);
  for (const engine::StreamView& stream : world.reader->streams())
    CHECK(stream.offset <= stream.size);
}

TEST_CASE("rotation: deleted and made again is another file, whatever its inode", "[run][rotation][F7]") {
  ReaderWorld world({.sources = {{.files = {"app.log"}}}});
  for (int i = 0; i < 10; ++i) {
    world.dir.remove("app.log");
    world.dir.append("app.log", "same beginning\nline " + std::to_string(i) + "\n");
    world.settle();
    CHECK(world.lines() == Texts{"same beginning", "line " + std::to_string(i)});
  }
  CHECK(rotations(world, "delete") == 9);
}

TEST_CASE("rotation: deleted while nobody looked and made again with the same inode", "[run][rotation][F7]") {
  ReaderWorld world({.sources = {{.files = {"app.log"}}}});
  world.dir.append("app.log", "old 1\nold 2\n");
  world.settle();
  CHECK(world.lines().size() == 2);
  world.reader.reset();
  world.dir.remove("app.log");
  world.dir.append("app.log", "new 1\nnew 2\nnew 3\n");
  world.restart();
  CHECK(world.lines() == Texts{"new 1", "new 2", "new 3"});
  CHECK(world.counter("logbell_source_gaps_total{cause=\"rotated_away_while_down\", source=\"app\"}") == 1);
}

TEST_CASE("rotation: two files with the same beginning are two files", "[run][rotation][F8]") {
  ReaderWorld world;
  const std::string banner(2000, '#');
  world.dir.append("a.log", banner + "\n");
  world.dir.append("b.log", banner + "\n");
  world.settle();
  CHECK(world.lines().size() == 2);
  world.dir.append("b.log", "b\n");
  world.settle();
  world.dir.append("a.log", "a\n");
  world.settle();
  CHECK(world.lines() == Texts{"b", "a"});
  world.restart();
  CHECK(world.lines().empty());
}

TEST_CASE("rotation: a tiny file that is deleted at once is read if it was seen", "[run][rotation][F9]") {
  ReaderWorld world({.sources = {{.files = {"job-*.log"}}}});
  world.settle();
  world.dir.append("job-1.log", "x");
  world.settle();
  world.dir.remove("job-1.log");
  world.settle();
  CHECK(world.lines().empty());
  for (int i = 0; i < 4; ++i)
    world.pass(seconds(3));
  CHECK(world.lines() == Texts{"x"});
  CHECK(world.reader->streams().empty());
  CHECK_FALSE(world.statuses[0].readable);
}

TEST_CASE("rotation: a copy of what was cut is nobody's successor: its writer is waited for",
          "[run][rotation][F1][F3]") {
  ReaderWorld world;
  world.dir.append("app.log", "one\n");
  world.settle();
  // Born later, as the kernel's clock for files has it, which ticks every few milliseconds.
  timespec before{};
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME_COARSE, &before);
  do {
    ::clock_gettime(CLOCK_REALTIME_COARSE, &now);
  } while (now.tv_sec == before.tv_sec && now.tv_nsec == before.tv_nsec);
  world.dir.copy("app.log", "app.log.copy");
  world.dir.truncate("app.log");
  world.dir.append("app.log", "two\n");
  world.settle();
  world.dir.rename("app.log", "app.log.1");
  world.dir.append("app.log", "");
  world.settle();
  CHECK(world.lines() == Texts{"one", "two"});
  for (int i = 0; i < 5; ++i)
    world.pass(seconds(3));
  world.dir.append("app.log.1", "three\n");
  world.settle();
  CHECK(world.lines() == Texts{"three"});
}

TEST_CASE("rotation: a copy of what nobody had read is nobody's successor either", "[run][rotation][F3]") {
  ReaderWorld world({.sources = {{.files = {"app.log"}}}});
  world.dir.append("app.log", "");
  world.settle();
  world.dir.append("app.log", "one\n");
  world.dir.copy("app.log", "app.log.copy");
  world.dir.truncate("app.log");
  world.dir.append("app.log", "two\n");
  world.dir.rename("app.log", "app.log.1");
  world.dir.append("app.log", "");
  world.settle();
  CHECK(world.lines() == Texts{"two", "one"});
  for (int i = 0; i < 4; ++i)
    world.pass(seconds(6));
  // Its writer has not turned to the new file, whatever lies between them.
  world.dir.append("app.log.1", "three\n");
  world.settle();
  CHECK(world.lines() == Texts{"three"});
  world.dir.append("app.log", "four\n");
  for (int i = 0; i < 4; ++i)
    world.pass(seconds(6));
  CHECK(world.lines() == Texts{"four"});
  CHECK(world.reader->streams().size() == 1);
}

TEST_CASE("rotation: a link that leads elsewhere now is followed there", "[run][rotation][F10]") {
  ReaderWorld world({.sources = {{.files = {"containers/*.log"}}}});
  fs::create_directory(world.dir.path("containers"));
  fs::create_directory(world.dir.path("pods"));
  world.dir.append("pods/0.log", "one\n");
  fs::create_symlink(world.dir.path("pods/0.log"), world.dir.path("containers/x.log"));
  world.settle();
  CHECK(world.lines() == Texts{"one"});
  SECTION("the link is made anew") {
    world.dir.append("pods/0.log", "two\n");
    world.dir.append("pods/1.log", "three\n");
    fs::remove(world.dir.path("containers/x.log"));
    fs::create_symlink(world.dir.path("pods/1.log"), world.dir.path("containers/x.log"));
    world.settle();
    CHECK(world.lines() == Texts{"two", "three"});
  }
  SECTION("the file behind it is rotated") {
    world.dir.rename("pods/0.log", "pods/0.log.20260501");
    world.dir.append("pods/0.log.20260501", "two\n");
    world.settle();
    CHECK(world.lines() == Texts{"two"});
    for (int i = 0; i < 5; ++i)
      world.pass(seconds(3));
    world.dir.append("pods/0.log", "three\n");
    world.settle();
    CHECK(world.lines() == Texts{"three"});
  }
  SECTION("the link is made anew while nobody looks") {
    world.reader.reset();
    world.dir.append("pods/0.log", "two\n");
    world.dir.append("pods/1.log", "three\n");
    fs::remove(world.dir.path("containers/x.log"));
    fs::create_symlink(world.dir.path("pods/1.log"), world.dir.path("containers/x.log"));
    world.restart();
    Texts lines = world.lines();
    std::sort(lines.begin(), lines.end());
    CHECK(lines == Texts{"three", "two"});
    CHECK(world.counter("logbell_source_gaps_total{cause=\"deleted_while_down\", source=\"app\"}") == 0);
  }
  SECTION("while nobody looks") {
    world.reader.reset();
    world.dir.append("pods/0.log", "two\n");
    world.dir.rename("pods/0.log", "pods/0.log.20260501");
    world.dir.append("pods/0.log", "three\n");
    world.restart();
    CHECK(world.lines() == Texts{"two", "three"});
  }
}

TEST_CASE("rotation: deleted while it is open, it is drained and let go", "[run][rotation][F12]") {
  ReaderWorld world({.sources = {{.files = {"app.log"}}}});
  world.dir.append("app.log", "one\n");
  world.settle();
  const int writer = ::open(world.dir.path("app.log").c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  REQUIRE(writer >= 0);
  world.dir.remove("app.log");
  Texts expected = {"one"};
  const auto write = [&](int i) {
    const std::string line = "after " + std::to_string(i) + "\n";
    REQUIRE(::write(writer, line.data(), line.size()) == static_cast<ssize_t>(line.size()));
  };
  for (int i = 0; i < 14; ++i) {
    write(i);
    world.pass(seconds(4));
    expected.push_back("after " + std::to_string(i));
  }
  CHECK(world.lines() == expected);
  CHECK(world.reader->streams().size() == 1);
  SECTION("the writer stops") {
    for (int i = 0; i < 3; ++i)
      world.pass(seconds(3));
    CHECK(world.reader->streams().empty());
    CHECK(world.counter("logbell_source_gaps_total{cause=\"deleted_while_written\", source=\"app\"}") == 0);
  }
  SECTION("the writer never stops: not longer than a minute, and it is said") {
    for (int i = 0; i < 4; ++i) {
      write(i);
      world.pass(seconds(2));
    }
    CHECK(world.reader->streams().empty());
    CHECK(world.counter("logbell_source_gaps_total{cause=\"deleted_while_written\", source=\"app\"}") == 1);
  }
  ::close(writer);
}

TEST_CASE("rotation: a file with several names is read once", "[run][rotation][F16]") {
  ReaderWorld world({.sources = {{.files = {"*.log", "a*"}}, {.name = "other", .files = {"*.log"}}}});
  world.dir.append("a.log", "one\n");
  fs::create_hard_link(world.dir.path("a.log"), world.dir.path("b.log"));
  fs::create_symlink(world.dir.path("a.log"), world.dir.path("c.log"));
  world.settle();
  world.dir.append("b.log", "two\n");
  world.settle();
  world.pass(seconds(30));
  CHECK(world.lines() == Texts{"one", "two"});
  CHECK(world.counter("logbell_source_duplicate_inputs_total{source=\"app\"}") == 2);
  CHECK(world.counter("logbell_source_duplicate_inputs_total{source=\"other\"}") == 3);
  // What looks at the other source sees nothing of it, and people hear of that.
  CHECK(world.counter("logbell_source_gaps_total{cause=\"read_by_another_source\", source=\"app\"}") == 0);
  CHECK(world.counter("logbell_source_gaps_total{cause=\"read_by_another_source\", source=\"other\"}") == 3);
  world.dir.remove("a.log");
  world.dir.append("b.log", "three\n");
  world.settle();
  CHECK(world.lines() == Texts{"three"});
  CHECK(rotations(world, "rename") == 0);
}

// Root may read everything: while one lives, nobody is root.
class Unprivileged {
 public:
  Unprivileged() {
    if (root_) REQUIRE(::seteuid(65534) == 0);
  }
  ~Unprivileged() {
    if (root_ && ::seteuid(0) != 0) std::abort();
  }
  Unprivileged(const Unprivileged&) = delete;
  Unprivileged& operator=(const Unprivileged&) = delete;

 private:
  bool root_ = ::geteuid() == 0;
};

TEST_CASE("rotation: a file that may not be read is tried again, and said once", "[run][rotation][F25]") {
  ReaderWorld world({.sources = {{.files = {"logs/app.log"}}}});
  const fs::perms nobody = fs::perms::none;
  const fs::perms all = static_cast<fs::perms>(0555);
  fs::create_directory(world.dir.path("logs"));
  world.dir.append("logs/app.log", "one\n");
  fs::permissions(world.dir.path(""), all);
  std::string closed;
  SECTION("the file") {
    closed = world.dir.path("logs/app.log");
  }
  SECTION("its directory") {
    closed = world.dir.path("logs");
  }
  fs::permissions(closed, nobody);
  {
    const Unprivileged user;
    world.settle();
    for (int i = 0; i < 10; ++i)
      world.pass(seconds(10));
    CHECK(world.lines().empty());
    CHECK_FALSE(world.statuses[0].readable);
    CHECK(world.notes.size() == 1);
    CHECK(world.counter("logbell_source_open_errors_total{reason=\"EACCES\", source=\"app\"}") >= 4);
    const auto streams = world.reader->streams();
    REQUIRE(streams.size() == 1);
    CHECK_FALSE(streams[0].readable);
    CHECK(streams[0].error.find("Permission denied") != std::string::npos);
  }
  fs::permissions(closed, all);
  {
    const Unprivileged user;
    world.pass(seconds(1));
    CHECK(world.lines() == Texts{"one"});
    CHECK(world.notes.size() == 2);
    CHECK(world.statuses[0].readable);
  }
  fs::permissions(world.dir.path("logs"), fs::perms::owner_all);
  fs::permissions(world.dir.path(""), fs::perms::owner_all);
}

TEST_CASE("rotation: what may not be read beside what may is said, and whether it has the name of what was read", "[run][rotation][F25]") {
  ReaderWorld world({.sources = {{.files = {"logs/*.log"}}}});
  const fs::perms nobody = fs::perms::none;
  const fs::perms all = static_cast<fs::perms>(0555);
  fs::create_directory(world.dir.path("logs"));
  world.dir.append("logs/app.log", "one\n");
  world.dir.append("logs/b.log", "");
  fs::permissions(world.dir.path(""), all);
  const std::string closed = "open " + world.dir.path("logs") + "/app.log: Permission denied";
  world.settle();
  CHECK(world.statuses[0].unreadable.empty());
  world.dir.rename("logs/app.log", "logs/app.log.1");
  world.dir.append("logs/app.log", "two\n");
  fs::permissions(world.dir.path("logs/app.log"), nobody);
  {
    const Unprivileged user;
    world.settle();
    CHECK(world.statuses[0].readable);
    CHECK(world.statuses[0].blind);
    CHECK(world.statuses[0].unreadable == closed);
    // Long after the old file is let go.
    LogDir::wait_for_another_birth();
    for (int i = 0; i < 300; ++i)
      world.pass(minutes(1));
    CHECK(world.reader->streams().size() == 2);  // b.log, and the one that is closed
    CHECK(world.statuses[0].blind);
    CHECK(world.statuses[0].unreadable == closed);
  }
  {
    // To a new process it is a file like any other.
    const Unprivileged user;
    world.restart();
    CHECK(world.statuses[0].readable);
    CHECK_FALSE(world.statuses[0].blind);
    CHECK(world.statuses[0].unreadable == closed);
  }
  fs::permissions(world.dir.path("logs/app.log"), all);
  {
    const Unprivileged user;
    world.pass(minutes(1));
    CHECK(world.lines() == Texts{"one", "two"});
    CHECK(world.statuses[0].unreadable.empty());
  }
  fs::permissions(world.dir.path("logs"), fs::perms::owner_all);
  fs::permissions(world.dir.path(""), fs::perms::owner_all);
}

TEST_CASE("rotation: a file that is named and was never there is missed; a pattern may match nothing", "[run][rotation][F25]") {
  ReaderWorld world({.sources = {{.files = {"app.log", "worker.log", "other.log", "*.err"}}, {.name = "errors", .files = {"*.err"}}}});
  world.dir.append("app.log", "one\n");
  world.settle();
  CHECK(world.statuses[0].readable);
  CHECK_FALSE(world.statuses[0].blind);
  CHECK(world.statuses[0].unreadable == world.dir.path("other.log") + " does not exist, and 1 more");
  CHECK_FALSE(world.statuses[1].readable);
  CHECK(world.statuses[1].unreadable.empty());
  CHECK(world.notes.size() == 2);
  const auto streams = world.reader->streams();
  CHECK(std::count_if(streams.begin(), streams.end(), [](const auto& stream) { return stream.error == "it does not exist"; }) == 2);
  world.dir.append("other.log", "two\n");
  world.settle();
  CHECK(world.statuses[0].unreadable == world.dir.path("worker.log") + " does not exist");
  world.dir.append("worker.log", "three\n");
  world.settle();
  CHECK(world.statuses[0].unreadable.empty());
  // Until its writer makes it anew.
  world.dir.rename("worker.log", "worker.log.1");
  world.settle();
  CHECK(world.statuses[0].unreadable.empty());
  world.pass(minutes(12));
  CHECK(world.statuses[0].unreadable == world.dir.path("worker.log") + " does not exist any more");
  world.dir.append("worker.log", "four\n");
  world.settle();
  CHECK(world.statuses[0].unreadable.empty());
  world.dir.remove("other.log");
  world.settle();
  world.pass(minutes(2));
  CHECK(world.statuses[0].unreadable == world.dir.path("other.log") + " does not exist any more");
  CHECK(world.statuses[0].readable);
  world.reload({.sources = {{.files = {"app.log", "worker.log", "third.log"}}, {.name = "errors", .files = {"*.err"}}}});
  CHECK(world.statuses[0].unreadable == world.dir.path("third.log") + " does not exist");
  fs::create_directory(world.dir.path("third.log"));
  world.settle();
  CHECK(world.statuses[0].unreadable == world.dir.path("third.log") + " is no file: mounting what is not there makes a directory");
  CHECK(std::count_if(world.notes.begin(), world.notes.end(), [&](const auto& note) {
          return note.path == world.dir.path("worker.log") && note.message == "It is gone, and is read again once it is there.";
        }) == 1);
  CHECK(world.notes.size() == 5);  // each once
}

TEST_CASE("rotation: pipes, devices and directories are refused, others go on", "[run][rotation][F28]") {
  ReaderWorld world({.sources = {{.files = {"*", "/proc/self/status", "/dev/zero"}}}});
  REQUIRE(::mkfifo(world.dir.path("pipe").c_str(), 0600) == 0);
  fs::create_directory(world.dir.path("directory"));
  world.dir.append("app.log", "one\n");
  world.settle();
  CHECK(world.lines() == Texts{"one"});
  CHECK(world.counter("logbell_source_open_errors_total{reason=\"not_a_file\", source=\"app\"}") == 3);
  CHECK(world.notes.size() == 3);
  CHECK(world.statuses[0].unreadable.empty());  // it is no log
}

}  // namespace
}  // namespace logbell::tests

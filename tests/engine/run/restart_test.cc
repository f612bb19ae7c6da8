// The process dies and comes back: it goes on from what was committed, wherever the file is by now.
#include <algorithm>
#include <functional>
#include <random>
#include <tuple>

#include <fmt/format.h>

#include "tests/engine/run/reader_world.h"
#include "tests/support/pack.h"

namespace logbell::tests {
namespace {

double gaps(const ReaderWorld& world, const std::string& cause) {
  return world.counter("logbell_source_gaps_total{cause=\"" + cause + "\", source=\"app\"}");
}

double all_gaps(const ReaderWorld& world) {
  double sum = 0;
  for (const auto& [name, value] : world.counters) {
    if (name.starts_with("logbell_source_gaps_total")) sum += value;
  }
  return sum;
}

ReaderWorld* fresh(ReaderWorld& world) {
  world.dir.append("app.log", "one\n");
  world.settle();
  CHECK(world.lines() == Texts{"one"});
  world.pass(seconds(1));
  world.reader.reset();
  world.clock.advance(minutes(3));
  return &world;
}

TEST_CASE("restart: goes on behind the last committed line", "[run][restart]") {
  ReaderWorld world({.sources = {{.files = {"app.log"}}}});
  fresh(world);
  const auto watched_from = world.statuses[0].watched_from;
  world.dir.append("app.log", "two\n");
  world.restart();
  CHECK(world.lines() == Texts{"two"});
  CHECK(world.statuses[0].watched_from == watched_from);
  world.restart();
  CHECK(world.lines().empty());
}

TEST_CASE("restart: the file was renamed meanwhile: its rest comes first, then the new one",
          "[run][restart][F1]") {
  ReaderWorld world({.sources = {{.files = {"app.log"}}}});
  fresh(world);
  world.dir.append("app.log", "two\n");
  world.dir.rename("app.log", "app.log.1");
  world.dir.append("app.log", "three\n");
  SECTION("once") {
    world.restart();
    CHECK(world.lines() == Texts{"two", "three"});
  }
  SECTION("several times") {
    world.dir.rename("app.log.1", "app.log.2");
    world.dir.rename("app.log", "app.log.1");
    world.dir.append("app.log", "four\n");
    world.restart();
    CHECK(world.lines() == Texts{"two", "three", "four"});
  }
  SECTION("and another name was given") {
    world.dir.rename("app.log.1", GENERATE("app.log-20260501", "app.log-20260501-1200.log", "app-20260501.log", "app.1.log", "yesterday"));
    world.restart();
    CHECK(world.lines() == Texts{"two", "three"});
  }
  SECTION("and nothing has its name") {
    world.dir.remove("app.log");
    world.restart();
    CHECK(world.lines() == Texts{"two"});
  }
  CHECK(gaps(world, "rotated_away_while_down") == 0);
  CHECK(gaps(world, "deleted_while_down") == 0);
}

TEST_CASE("restart: rotated away for good is a gap, and said", "[run][restart][F14]") {
  ReaderWorld world({.sources = {{.files = {"app.log"}}}});
  fresh(world);
  const auto before = world.statuses[0].watched_from;
  world.dir.append("app.log", "lost\n");
  world.dir.remove("app.log");
  world.dir.append("app.log", "three\n");
  world.restart();
  CHECK(world.lines() == Texts{"three"});
  CHECK(gaps(world, "rotated_away_while_down") == 1);
  // What was written since the new file was born is in it.
  const auto born = engine::stat_path(world.dir.path("app.log"))->id.born_ns / 1'000'000;
  CHECK(rules::to_unix_ms(*world.statuses[0].watched_from) == std::max(born, rules::to_unix_ms(*before)));
  world.restart();
  CHECK(gaps(world, "rotated_away_while_down") == 1);
}

TEST_CASE("restart: a rotated file that was read to its end and is gone is no gap", "[run][restart]") {
  ReaderWorld world({.sources = {{.files = {"app.log"}}}});
  world.dir.append("app.log", "one\n");
  world.settle();
  world.dir.rename("app.log", "app.log.1");
  world.dir.append("app.log", "two\n");
  world.settle();
  CHECK(world.lines() == Texts{"one", "two"});
  CHECK(world.committed.size() == 3);
  world.reader.reset();
  world.dir.remove("app.log.1");
  world.restart();
  CHECK(gaps(world, "rotated_away_while_down") == 0);
  CHECK(gaps(world, "deleted_while_down") == 0);
  CHECK(world.committed.size() == 2);
}

TEST_CASE("restart: that rotated files were read to their ends outlives a process that only began to look",
          "[run][restart]") {
  ReaderWorld world({.sources = {{.files = {"app.log"}}}});
  world.dir.append("app.log", "one\n");
  world.settle();
  for (int i = 1; i < 4; ++i) {
    world.dir.rename("app.log", "app.log." + std::to_string(i));
    world.dir.append("app.log", "more\n");
    world.settle();
  }
  world.reader.reset();
  const bool grows = GENERATE(false, true);
  if (grows) world.dir.append("app.log.3", "late\n");
  world.start();
  world.step();
  world.reader.reset();
  for (int i = 1; i < 4; ++i)
    world.dir.remove("app.log." + std::to_string(i));
  world.restart();
  CHECK(gaps(world, "rotated_away_while_down") == (grows ? 1 : 0));
}

TEST_CASE("restart: that rotated files were read to their ends outlives a process that saw no log at all",
          "[run][restart][F1]") {
  ReaderWorld world({.sources = {{.files = {GENERATE("app.log", "app.log*")}}}});
  world.dir.append("app.log", "one\n");
  world.settle();
  world.dir.rename("app.log", "app.log.1");
  world.dir.append("app.log", "two\n");
  world.settle();
  CHECK(world.lines() == Texts{"one", "two"});
  const bool late = GENERATE(false, true);
  const bool killed = GENERATE(true, false);
  if (killed) world.reader.reset();
  world.dir.rename("app.log", "app.log.2");
  if (killed) {
    world.restart();
  } else {
    // All that is followed is looked at once more.
    world.pass(seconds(11));
  }
  world.reader.reset();
  if (late) {
    world.dir.append("app.log.2", "late\n");
    world.dir.remove("app.log.2");
  }
  world.dir.append("app.log", "three\n");
  world.dir.remove("app.log.1");
  world.restart();
  CHECK(world.lines() == Texts{"three"});
  CHECK(all_gaps(world) == (late ? 1 : 0));
}

TEST_CASE("restart: what was read and let go before is not taken for something missed",
          "[run][restart][F1]") {
  ReaderWorld world({.sources = {{.files = {"app.log"}}}});
  world.dir.append("app.log", "one\n");
  world.settle();
  // The first writer never lets go of his file; others come and go.
  world.dir.rename("app.log", "app.log.1");
  world.dir.append("app.log", "two\n");
  world.settle();
  world.dir.rename("app.log", "app.log.2");
  world.dir.append("app.log", "three\n");
  world.settle();
  for (int i = 0; i < 4; ++i) {
    world.dir.append("app.log.1", "more\n");
    world.pass(seconds(3));
  }
  CHECK(world.reader->streams().size() == 2);
  world.lines();
  world.restart();
  CHECK(world.lines().empty());
}

TEST_CASE("restart: a reload before the first look forgets no place", "[run][restart]") {
  ReaderWorld world({.sources = {{.files = {"app.log"}}}});
  fresh(world);
  world.dir.append("app.log", "two\n");
  world.dir.rename("app.log", "app.log.1");
  world.dir.append("app.log", "three\n");
  world.start();
  world.reload(world.plan_setting);
  CHECK(world.lines() == Texts{"two", "three"});
  world.reader.reset();
  world.dir.remove("app.log.1");
  world.dir.remove("app.log");
  world.start();
  world.reload(world.plan_setting);
  CHECK(gaps(world, "deleted_while_down") == 1);
}

TEST_CASE("restart: that a file is there at all is known at once", "[run][restart]") {
  ReaderWorld world({.sources = {{.files = {"*.log"}}}});
  const auto found = [&] { return std::exchange(world.files_found, false); };
  world.settle();
  CHECK(found());  // of nothing, too
  world.dir.append("app.log", "one\n");
  world.settle();
  CHECK(found());
  world.dir.append("app.log", "two\n");
  world.settle();
  CHECK_FALSE(found());
  world.dir.rename("app.log", "app.log.1");
  world.settle();
  CHECK_FALSE(found());
  world.dir.append("app.log", "three\n");
  world.settle();
  CHECK(found());
}

TEST_CASE("restart: that a rotated file was read to its end is kept, whichever file was read first",
          "[run][restart]") {
  ReaderWorld world({.sources = {{.files = {"*.log"}}}});
  world.dir.append("app.log", line_at(world.clock.now(), "one"));
  world.settle();
  world.dir.append("web.log", "a line without a time\n");  // is further behind, so it is read first
  world.dir.rename("app.log", "app.log.1");
  world.dir.append("app.log", line_at(world.clock.now(), "two"));
  world.settle();
  world.reader.reset();
  world.dir.remove("app.log.1");
  world.restart();
  CHECK(gaps(world, "rotated_away_while_down") == 0);
}

TEST_CASE("restart: what came between a file that is gone and the one that is there is read",
          "[run][restart]") {
  ReaderWorld world({.sources = {{.files = {"app.log"}}}});
  world.dir.append("app.log", "one\n");
  world.settle();
  SECTION("it was rotated before") {
    world.dir.rename("app.log", "app.log.9");
  }
  SECTION("and while nobody looked") {
    world.reader.reset();
    world.dir.rename("app.log", "app.log.9");
  }
  if (world.reader != nullptr) world.settle();
  world.lines();
  world.reader.reset();
  world.dir.append("app.log", "two\n");
  world.dir.rename("app.log", "app.log.2");
  world.dir.append("app.log", "three\n");
  world.dir.remove("app.log.9");
  world.dir.append("app.log.old", "");  // younger than the newest: nobody's predecessor
  world.restart();
  CHECK(world.lines() == Texts{"two", "three"});
  // What was written into the first after it had been read nobody knows.
  CHECK(gaps(world, "rotated_away_while_down") == 1);
}

TEST_CASE("restart: files of one birth are told apart by what was written to last", "[run][restart]") {
  ReaderWorld world({.sources = {{.files = {"app.log"}}}});
  world.dir.append("app.log", "one\n");
  world.settle();
  world.lines();
  world.reader.reset();
  world.dir.remove("app.log");
  world.dir.append("app.log", "two\n");
  world.dir.rename("app.log", "app.log.1");
  world.dir.append("app.log", "three\n");
  // A kernel whose clock ticks every few milliseconds would say so.
  const auto born = engine::stat_path(world.dir.path("app.log.1"))->id.born_ns;
  for (auto& [key, value] : world.committed) {
    auto position = engine::decode_position(value);
    if (!position) continue;
    position->id.born_ns = born;
    value = engine::encode(*position);
  }
  world.restart();
  CHECK(world.lines() == Texts{"two", "three"});
}

TEST_CASE("restart: what has a name comes after who had it last, whatever their births say",
          "[run][restart]") {
  ReaderWorld world({.sources = {{.files = {"app.log"}}}});
  world.dir.append("app.log", "one\n");
  world.settle();
  world.dir.rename("app.log", "app.log.1");
  // A copy that is as old as its original, by a kernel's clock that ticks every few milliseconds.
  const auto born = [&](const char* name) { return engine::stat_path(world.dir.path(name))->id.born_ns; };
  for (int tries = 0;; ++tries) {
    world.dir.append("app.log", "two\n");
    world.dir.copy("app.log", "app.log.copy");
    if (born("app.log") == born("app.log.copy")) break;
    if (tries == 1000) return;  // this one does not tick
    world.dir.remove("app.log");
    world.dir.remove("app.log.copy");
  }
  world.settle();
  CHECK(world.lines() == Texts{"one", "two"});
  world.restart();
  // All of them are without their names since the same moment.
  world.dir.rename("app.log", "app.log.0");
  world.settle();
  world.dir.append("app.log.0", "three\n");
  world.dir.append("app.log", "four\n");
  world.settle();
  CHECK(world.lines() == Texts{"three", "four"});
}

TEST_CASE("restart: a file that came and was rotated while nobody looked is read, and before its successor",
          "[run][restart]") {
  ReaderWorld world({.sources = {{.files = {"*.log"}}}});
  const bool before = GENERATE(false, true);
  if (before) world.dir.append("new.log.0", "of another time\n");
  world.dir.append("app.log", "one\n");
  if (before) LogDir::wait_for_another_birth();
  world.settle();
  CHECK(world.lines() == Texts{"one"});
  world.reader.reset();
  if (!before) {
    world.dir.append("new.log", "two\n");
    world.dir.rename("new.log", "new.log.1");
  }
  world.dir.append("new.log", "three\n");
  world.restart();
  CHECK(world.lines() == (before ? Texts{"three"} : Texts{"two", "three"}));
  world.restart();
  CHECK(world.lines().empty());
}

TEST_CASE(
    "restart: a file that came and was rotated while nobody looked is read, though nothing has its name",
    "[run][restart]") {
  ReaderWorld world({.sources = {{.files = {GENERATE("app.log", "*.log", "app*.log")}}}});
  world.dir.append("app.log.0", "of another time\n");
  LogDir::wait_for_another_birth();
  world.dir.append("app.log", "one\n");
  world.settle();
  world.dir.remove("app.log");
  world.settle();
  world.pass(minutes(2));
  CHECK(world.lines() == Texts{"one"});
  world.reader.reset();
  world.dir.append("app.log", "two\n");
  world.dir.rename("app.log", "app.log.1");
  world.dir.append("app.logger.1", "another's\n");
  world.restart();
  CHECK(world.lines() == Texts{"two"});
  world.dir.append("app.log.1", "late\n");
  world.dir.append("app.log", "three\n");
  world.settle();
  CHECK(world.lines() == Texts{"late", "three"});
  world.restart();
  CHECK(world.lines().empty());
}

TEST_CASE("rotation: a file that came and was rotated before anybody looked is read", "[run][rotation]") {
  ReaderWorld world({.sources = {{.files = {"*.log"}}}});
  world.dir.append("new.log.0", "of another time\n");
  LogDir::wait_for_another_birth();
  world.dir.append("app.log", "one\n");
  world.settle();
  CHECK(world.lines() == Texts{"one"});
  std::string name = "new";
  SECTION("of a new name") {}
  SECTION("of one that was deleted long ago") {
    world.dir.remove("app.log");
    world.settle();
    world.pass(minutes(2));
    name = "app";
  }
  world.dir.append(name + ".log", "two\n");
  world.dir.append(name + ".log.old-one", "of another log\n");
  world.dir.rename(name + ".log", name + ".log.1");
  world.dir.append(name + ".log", "three\n");
  world.settle();
  CHECK(world.lines() == Texts{"two", "three"});
  world.pass(minutes(2));
  world.restart();
  CHECK(world.lines().empty());
}

TEST_CASE("restart: deleted with nothing in its place is a gap", "[run][restart]") {
  ReaderWorld world({.sources = {{.files = {"app.log"}}}});
  fresh(world);
  world.dir.remove("app.log");
  world.restart();
  CHECK(gaps(world, "deleted_while_down") == 1);
  CHECK(world.statuses[0].watched_from == world.clock.now());
  CHECK_FALSE(world.statuses[0].readable);
}

TEST_CASE("restart: cut while nobody looked", "[run][restart][F15]") {
  ReaderWorld world({.sources = {{.files = {"app.log"}}}});
  fresh(world);
  SECTION("to less than what was read") {
    world.dir.write("app.log", "2\n");
  }
  SECTION("and grown past it") {
    world.dir.write("app.log", "2\nlonger than before\n");
  }
  world.restart();
  CHECK(world.lines().front() == "2");
  CHECK(gaps(world, "truncated_while_down") == 1);
}

// As gzip(1), zstd(1) and logrotate do it: another file, of the same time of modification.
void compress(const ReaderWorld& world, const std::string& name, const std::string& ending) {
  const auto stat = engine::stat_path(world.dir.path(name));
  REQUIRE(stat);
  std::string text(stat->size, '\0');
  std::ifstream(world.dir.path(name), std::ios::binary)
      .read(text.data(), static_cast<std::streamsize>(text.size()));
  world.dir.write(name + ending, ending == ".gz" ? gzip(text) : zstd(text));
  world.dir.remove(name);
  const timespec time{stat->modified_ns / 1'000'000'000, stat->modified_ns % 1'000'000'000};
  const timespec times[2] = {time, time};
  REQUIRE(::utimensat(AT_FDCWD, world.dir.path(name + ending).c_str(), times, 0) == 0);
}

TEST_CASE("restart: what was cut away before it was read is no reason to read the rest again",
          "[run][restart][F15]") {
  ReaderWorld world({.sources = {{.files = {"app.log"}, .max_line_bytes = 60}}});
  const auto line = [](int i) { return "line " + std::to_string(i) + std::string(40, '.') + "\n"; };
  const auto cut_behind = [&](std::size_t lines) { world.dir.truncate("app.log", lines * line(0).size()); };
  SECTION("behind what was read") {
    for (int i = 0; i < 10; ++i)
      world.dir.append("app.log", line(i));
    world.chunk_bytes = 1;
    world.start();
    while (world.seen.size() < 3)
      world.step();
    cut_behind(4);
    world.dir.append("app.log", line(20));
    world.reader.reset();
    world.restart();
  }
  SECTION("and what was read with it") {
    for (int i = 0; i < 10; ++i)
      world.dir.append("app.log", line(i));
    world.chunk_bytes = 1;
    world.start();
    while (world.seen.size() < 8)
      world.step();
    cut_behind(5);
    world.settle();
  }
  world.dir.append("app.log", line(30));
  world.restart();
  std::map<std::string, int> times;
  for (const std::string& text : world.lines())
    ++times[text.substr(0, text.find('.'))];
  CHECK(times["line 30"] == 1);
  for (const auto& [text, count] : times) {
    CAPTURE(text);
    CHECK(count == 1);
  }
}

TEST_CASE("restart: rotated and compressed meanwhile: the rest is read once, then what came after it",
          "[run][restart][F13]") {
  const std::string pattern = GENERATE("app.log", "app.log*");
  ReaderWorld world({.sources = {{.files = {pattern}}}});
  const std::string ending = GENERATE(".gz", ".zst");
  fresh(world);
  world.dir.append("app.log", "two\n");
  world.dir.rename("app.log", "app.log.1");
  world.dir.append("app.log", "three\n");
  SECTION("once") {
    compress(world, "app.log.1", ending);
    world.restart();
    CHECK(world.lines() == Texts{"two", "three"});
  }
  SECTION("several times, all compressed") {
    compress(world, "app.log.1", ending);
    world.dir.rename("app.log.1" + ending, "app.log.2" + ending);
    world.dir.rename("app.log", "app.log.1");
    compress(world, "app.log.1", ending);
    world.dir.append("app.log", "four\n");
    world.restart();
    CHECK(world.lines() == Texts{"two", "three", "four"});
  }
  SECTION("several times, the last not compressed yet") {
    compress(world, "app.log.1", ending);
    world.dir.rename("app.log.1" + ending, "app.log.2" + ending);
    world.dir.rename("app.log", "app.log.1");
    world.dir.append("app.log", "four\n");
    world.restart();
    Texts lines = world.lines();
    // What a pattern finds by itself is read beside it.
    if (pattern == "app.log*") std::sort(lines.begin(), lines.end(), std::greater<>());
    CHECK(lines == Texts{"two", "three", "four"});
  }
  SECTION("and nothing has its name") {
    compress(world, "app.log.1", ending);
    world.dir.remove("app.log");
    world.restart();
    CHECK(world.lines() == Texts{"two"});
  }
  CHECK(all_gaps(world) == 0);
  world.restart();
  CHECK(world.lines().empty());
  CHECK(all_gaps(world) == 0);
  // It is let go like any other, and nothing of it is read again.
  LogDir::wait_for_another_birth();
  world.clock.advance(seconds(6));
  world.settle();
  world.clock.advance(seconds(6));
  world.settle();
  CHECK(world.lines().empty());
  world.restart();
  CHECK(world.lines().empty());
  CHECK(all_gaps(world) == 0);
}

TEST_CASE("restart: a compressed file is gone on with where the last process stood in it",
          "[run][restart][F13]") {
  ReaderWorld world({.sources = {{.files = {"app.log"}}}});
  fresh(world);
  Texts expected;
  for (int i = 0; i < 2000; ++i) {
    expected.push_back("line " + std::to_string(i));
    world.dir.append("app.log", expected.back() + "\n");
  }
  world.dir.rename("app.log", "app.log.1");
  world.dir.append("app.log", "last\n");
  expected.emplace_back("last");
  compress(world, "app.log.1", ".gz");
  world.chunk_bytes = 4096;
  world.reader.reset();
  world.start();
  Texts got;
  while (got.size() < expected.size()) {
    world.step();
    const Texts lines = world.lines();
    REQUIRE_FALSE((lines.empty() && got.size() > 500));
    got.insert(got.end(), lines.begin(), lines.end());
    if (got.size() > 500 && got.size() < 2000) {
      world.dir.rename(fs::exists(world.dir.path("app.log.1.gz")) ? "app.log.1.gz" : "app.log.2.gz",
                       fs::exists(world.dir.path("app.log.1.gz")) ? "app.log.2.gz" : "app.log.1.gz");
      world.reader.reset();
      world.start();
    }
  }
  CHECK(got == expected);
  CHECK(all_gaps(world) == 0);
}

TEST_CASE("restart: a compressed file that ends early is a gap, and said", "[run][restart][F13]") {
  ReaderWorld world({.sources = {{.files = {"app.log"}}}});
  fresh(world);
  std::string cause;
  std::string last;
  SECTION("broken") {
    std::string text = "one\ntwo\n";
    std::minstd_rand random;
    for (int i = 0; i < 20'000; ++i)
      text += std::to_string(random()) + "\n";
    const std::string packed = gzip(text);
    world.dir.write("app.log.1.gz", packed.substr(0, packed.size() / 2));
    cause = "compressed_broken";
    last = "three";
  }
  SECTION("a bomb") {
    std::string text = "one\ntwo\n";
    text.resize(engine::Unpacked::kMaxBytes + 1, 'x');
    world.dir.write("app.log.1.gz", gzip(text));
    cause = "decompression_limit";
    last = "three";
  }
  world.dir.remove("app.log");
  world.dir.append("app.log", "three\n");
  world.restart();
  const Texts lines = world.lines();
  CHECK(lines.front() == "two");
  CHECK(std::count(lines.begin(), lines.end(), last) == 1);
  CHECK(gaps(world, cause) == 1);
  CHECK(all_gaps(world) == 1);
  CHECK(std::count_if(world.notes.begin(), world.notes.end(), [](const engine::ReaderNote& note) {
          return note.message.find("ends early") != std::string::npos;
        }) == 1);
}

TEST_CASE("restart: an older compressed file, one in the making, and one of the same beginning are not taken",
          "[run][restart][F13]") {
  ReaderWorld world({.sources = {{.files = {"app.log"}}}});
  world.dir.append("app.log", "banner\nold\n");
  world.settle();
  world.pass(seconds(1));
  world.lines();
  world.dir.write("app.log.9.gz", gzip("banner\nold\nof another day\n"));
  world.dir.touch("app.log.9.gz", system_now() - hours(24));
  world.dir.write("app.log.8.gz", gzip("banner\nother\n"));
  world.dir.touch("app.log.8.gz", system_now() - seconds(5));
  world.dir.append("app.log", "new\n");
  world.dir.rename("app.log", "app.log.1");
  world.dir.write("app.log.1.gz", gzip("banner\nold\nnew\n").substr(0, 10));
  world.dir.append("app.log", "three\n");
  world.restart();
  CHECK(world.lines() == Texts{"new", "three"});
  CHECK(all_gaps(world) == 0);
}

TEST_CASE("restart: what is compressed beside a log, and is another log's, is not read",
          "[run][restart][F13]") {
  std::string name;
  std::string other;
  std::tie(name, other) = GENERATE(table<std::string, std::string>({{"app.log", "app.log-audit.1"},
                                                                    {"app.log", "app.logger.1"},
                                                                    {"app.log", "app.log.api"},
                                                                    {"app.log", "app-2.log"},
                                                                    {"app.log", "app-web-20260501.log"},
                                                                    {"app.log", "app-2-20260501.log"},
                                                                    {"worker.2", "worker.1"},
                                                                    {"worker.2", "worker.21.1"}}));
  CAPTURE(name, other);
  ReaderWorld world({.sources = {{.files = {name}}}});
  world.dir.append(name, "one\n");
  world.settle();
  world.pass(seconds(1));
  CHECK(world.lines() == Texts{"one"});
  world.reader.reset();
  world.dir.append(name, "two\n");
  world.dir.rename(name, name + ".1");
  compress(world, name + ".1", ".gz");
  world.dir.append(name, "three\n");
  world.dir.append(other, "of another log\n");
  compress(world, other, ".gz");
  world.restart();
  CHECK(world.lines() == Texts{"two", "three"});
  CHECK(all_gaps(world) == 0);
}

TEST_CASE("restart: what was born beside a log while nobody looked, and is another log's, is not read",
          "[run][restart]") {
  const bool known = GENERATE(true, false);  // the name, or only that there is nothing of it
  const std::string other = GENERATE("app.log-audit", "app.logger", "app.log.api", "app-2.log", "app-123456.log", "app-2-20260501.log");
  ReaderWorld world({.sources = {{.files = {"app.log"}}}});
  if (known) world.dir.append("app.log", "one\n");
  world.settle();
  world.pass(seconds(1));
  CHECK(world.lines().size() == (known ? 1 : 0));
  world.reader.reset();
  if (known) world.dir.rename("app.log", "app.log.2");
  world.dir.append(other, "of another log\n");
  world.dir.append("app.log", "two\n");
  world.dir.rename("app.log", "app.log.1");
  world.dir.append("app.log", "three\n");
  world.restart();
  CHECK(world.lines() == Texts{"two", "three"});
  CHECK(all_gaps(world) == 0);
}

TEST_CASE("restart: what another compressor made of a file that came between is a gap, and said",
          "[run][restart][F13]") {
  ReaderWorld world({.sources = {{.files = {"app.log"}}}});
  fresh(world);
  world.dir.append("app.log", "two\n");
  world.dir.rename("app.log", "app.log.2");
  world.dir.write("app.log.1.xz",
                  "\xfd"
                  "7zXZ\nnothing that is text\n");
  world.dir.append("app.log", "four\n");
  world.restart();
  CHECK(world.lines() == Texts{"two", "four"});
  CHECK(gaps(world, "compression_unknown") == 1);
  CHECK(all_gaps(world) == 1);
}

TEST_CASE(
    "restart: compressed files that were read and let go are not read again beside one that is still kept",
    "[run][restart][F13]") {
  ReaderWorld world({.sources = {{.files = {"app.log*"}}}});
  fresh(world);
  world.dir.append("app.log", "two\n");
  world.dir.rename("app.log", "app.log.2");
  compress(world, "app.log.2", ".gz");
  world.dir.append("app.log", "three\n");
  world.dir.rename("app.log", "app.log.1");
  compress(world, "app.log.1", ".gz");
  world.dir.append("app.log", "four\n");
  world.restart();
  CHECK(world.lines() == Texts{"two", "three", "four"});
  // All that is known of the second is gone; the first is kept, and so is the log, which has another name by
  // now.
  std::erase_if(world.committed, [&](const auto& entry) {
    const auto id = engine::stat_path(world.dir.path("app.log.1.gz"))->id;
    return entry.first.find(fmt::format("-{:x}", id.inode)) != std::string::npos;
  });
  world.dir.rename("app.log", "app.log.0");
  world.restart();
  CHECK(world.lines().empty());
}

TEST_CASE("restart: copied and cut meanwhile: the copy has the rest", "[run][restart][F3]") {
  ReaderWorld world({.sources = {{.files = {"app.log"}}}});
  fresh(world);
  world.dir.append("app.log", "two\n");
  world.dir.copy("app.log", "app.log.1");
  world.dir.write("app.log", "three\n");
  SECTION("once") {
    world.restart();
    CHECK(world.lines() == Texts{"two", "three"});
  }
  SECTION("and compressed") {
    compress(world, "app.log.1", ".gz");
    world.restart();
    CHECK(world.lines() == Texts{"two", "three"});
  }
  SECTION("twice") {
    world.dir.rename("app.log.1", "app.log.2");
    world.dir.copy("app.log", "app.log.1");
    world.dir.write("app.log", "4\n");
    world.restart();
    CHECK(world.lines() == Texts{"two", "three", "4"});
  }
  SECTION("three times") {
    world.dir.rename("app.log.1", "app.log.2");
    world.dir.copy("app.log", "app.log.1");
    world.dir.write("app.log", "4\n");
    world.dir.rename("app.log.2", "app.log.3");
    world.dir.rename("app.log.1", "app.log.2");
    world.dir.copy("app.log", "app.log.1");
    world.dir.write("app.log", "5\n");
    world.restart();
    CHECK(world.lines() == Texts{"two", "three", "4", "5"});
  }
  SECTION("twice, and both compressed") {
    world.dir.rename("app.log.1", "app.log.2");
    compress(world, "app.log.2", ".gz");
    world.dir.copy("app.log", "app.log.1");
    compress(world, "app.log.1", ".gz");
    world.dir.write("app.log", "4\n");
    world.restart();
    CHECK(world.lines() == Texts{"two", "three", "4"});
  }
  SECTION("twice, the first compressed") {
    world.dir.rename("app.log.1", "app.log.2");
    compress(world, "app.log.2", ".gz");
    world.dir.copy("app.log", "app.log.1");
    world.dir.write("app.log", "4\n");
    world.restart();
    CHECK(world.lines() == Texts{"two", "three", "4"});
  }
  CHECK(all_gaps(world) == 0);
  world.restart();
  CHECK(world.lines().empty());
  CHECK(all_gaps(world) == 0);
}

TEST_CASE("restart: copied and cut meanwhile, of which the first copy holds nothing new", "[run][restart][F3]") {
  ReaderWorld world({.sources = {{.files = {GENERATE("app.log", "*.log")}}}});
  fresh(world);
  // Everything had been read when it was copied and cut.
  world.dir.copy("app.log", "app.log.1");
  LogDir::wait_for_another_birth();
  world.dir.write("app.log", "two two\n");
  SECTION("once") {
    world.restart();
    CHECK(world.lines() == Texts{"two two"});
  }
  SECTION("twice") {
    world.dir.rename("app.log.1", "app.log.2");
    const bool packed = GENERATE(false, true);
    if (packed) compress(world, "app.log.2", ".gz");
    world.dir.copy("app.log", "app.log.1");
    world.dir.write("app.log", "3\n");
    world.restart();
    CHECK(world.lines() == Texts{"two two", "3"});
  }
  CHECK(all_gaps(world) == 0);
  world.restart();
  CHECK(world.lines().empty());
  CHECK(all_gaps(world) == 0);
}

TEST_CASE("restart: copied and cut meanwhile, under dated names", "[run][restart][F3]") {
  const auto [first, second] = GENERATE(table<const char*, const char*>({{"app.log-20261127", "app.log-20261128"},
                                                                         {"app.log-20261127-1200.log", "app.log-20261127-1300.log"},
                                                                         {"app-20261127.log", "app-20261128.log"},
                                                                         {"app-2026-11-27T12-00-00.000.log", "app-2026-11-27T13-00-00.000.log"}}));
  CAPTURE(first, second);
  ReaderWorld world({.sources = {{.files = {"app.log"}}}});
  fresh(world);
  const bool more = GENERATE(false, true);
  if (more) world.dir.append("app.log", "rest\n");
  world.dir.copy("app.log", first);
  LogDir::wait_for_another_birth();
  world.dir.write("app.log", "two two two\n");
  Texts last{"3"};
  SECTION("twice") {
    const bool packed = GENERATE(false, true);
    if (packed) compress(world, first, ".gz");
    world.dir.copy("app.log", second);
    world.dir.write("app.log", "3\n");
  }
  SECTION("and then renamed") {
    world.dir.rename("app.log", second);
    world.dir.append("app.log", "3\n");
  }
  SECTION("and then renamed, and what came next as well") {
    world.dir.rename("app.log", second);
    LogDir::wait_for_another_birth();
    world.dir.append("app.log", "3 3\n");
    world.dir.rename("app.log", "app.log.1");
    world.dir.append("app.log", "4\n");
    last = {"3 3", "4"};
  }
  SECTION("and once more, and then renamed") {
    world.dir.rename(first, "app.log-20261126");
    world.dir.copy("app.log", first);
    LogDir::wait_for_another_birth();
    world.dir.write("app.log", "3 3\n");
    world.dir.rename("app.log", second);
    world.dir.append("app.log", "4\n");
    last.insert(last.begin(), "3 3");
    last.back() = "4";
  }
  world.restart();
  last.insert(last.begin(), "two two two");
  if (more) last.insert(last.begin(), "rest");
  CHECK(world.lines() == last);
  CHECK(all_gaps(world) == 0);
  world.restart();
  CHECK(world.lines().empty());
  CHECK(all_gaps(world) == 0);
}

TEST_CASE("restart: a copy that the pattern finds is not passed for beginning like what was read", "[run][restart][F8]") {
  ReaderWorld world({.sources = {{.files = {"app.log*"}}}});
  const std::string banner = std::string(2800, '#') + "\n";
  world.dir.append("app.log", banner + "1\n2\n3\n4\n");
  world.settle();
  world.pass(seconds(10));
  static_cast<void>(world.lines());
  world.reader.reset();
  world.clock.advance(minutes(3));
  LogDir::wait_for_another_birth();
  world.dir.copy("app.log", "app.log.1");
  world.dir.write("app.log", banner + "5\n");
  LogDir::wait_for_another_birth();
  world.dir.rename("app.log.1", "app.log.2");
  world.dir.copy("app.log", "app.log.1");
  world.dir.write("app.log", banner + "6\n");
  world.restart();
  Texts lines = world.lines();
  std::erase_if(lines, [](const std::string& line) { return line.front() == '#'; });
  std::sort(lines.begin(), lines.end());
  CHECK(lines == Texts{"5", "6"});
  CHECK(all_gaps(world) == 0);
}

TEST_CASE("restart: a log beside, with the name of a rotated one, that was there before is not read", "[run][restart]") {
  const std::string other = GENERATE("app.log.old", "app-20261130.log", "app.1.log");
  ReaderWorld world({.sources = {{.files = {"app.log"}}}});
  world.dir.append(other, "another's\n");
  LogDir::wait_for_another_birth();
  fresh(world);
  LogDir::wait_for_another_birth();
  world.dir.append("app.log", "two\n");
  world.dir.rename("app.log", "app.log.1");
  LogDir::wait_for_another_birth();
  world.dir.append(other, "another's again\n");
  world.dir.append("app.log", "three\n");
  world.restart();
  CHECK(world.lines() == Texts{"two", "three"});
  CHECK(all_gaps(world) == 0);
}

TEST_CASE("restart: a copy that the pattern found before it was whole is not read again", "[run][restart][F3]") {
  ReaderWorld world({.sources = {{.files = {"app.log*"}}}});
  world.dir.append("app.log", "one\ntwo\n");
  world.settle();
  world.dir.append("app.log.1", GENERATE("", "one\n"));
  world.settle();
  CHECK(world.lines() == Texts{"one", "two"});
  world.pass(seconds(1));
  world.reader.reset();
  Texts expected;
  if (GENERATE(false, true)) {
    world.dir.append("app.log", "three\n");
    expected.emplace_back("three");
  }
  const auto size = engine::stat_path(world.dir.path("app.log.1"))->size;
  world.dir.append("app.log.1", std::string("one\ntwo\n").substr(size) + (expected.empty() ? "" : "three\n"));
  if (GENERATE(false, true)) {
    world.dir.write("app.log", "4\n");
    expected.emplace_back("4");
  }
  world.restart();
  CHECK(world.lines() == expected);
  CHECK(all_gaps(world) == 0);
  world.restart();
  CHECK(world.lines().empty());
}

TEST_CASE("restart: copies that the pattern finds are not read again", "[run][restart][F3]") {
  ReaderWorld world({.sources = {{.files = {"app.log*"}}}});
  fresh(world);
  const bool unread = GENERATE(false, true);
  const int times = GENERATE(1, 2);
  const bool cut = GENERATE(false, true);
  CAPTURE(unread, times, cut);
  Texts expected;
  if (unread) {
    world.dir.append("app.log", "two\n");
    expected.emplace_back("two");
  }
  world.dir.copy("app.log", "app.log.1");
  LogDir::wait_for_another_birth();
  if (cut) {
    world.dir.write("app.log", "three three three\n");
  } else {
    world.dir.append("app.log", "three three three\n");
  }
  expected.emplace_back("three three three");
  if (times == 2) {
    world.dir.rename("app.log.1", "app.log.2");
    world.dir.copy("app.log", "app.log.1");
    if (cut) world.dir.write("app.log", "");
    world.dir.append("app.log", "4\n");
    expected.emplace_back("4");
  }
  world.restart();
  Texts lines = world.lines();
  std::sort(lines.begin(), lines.end());
  std::sort(expected.begin(), expected.end());
  CHECK(lines == expected);
  CHECK(all_gaps(world) == 0);
  world.restart();
  CHECK(world.lines().empty());
  CHECK(all_gaps(world) == 0);
}

TEST_CASE("restart: rotated twice meanwhile, to names that keep the extension", "[run][restart][F1]") {
  std::string first;
  std::string second;
  std::tie(first, second) = GENERATE(table<std::string, std::string>(
      {{"app.2.log", "app.1.log"}, {"app-1796022121.log", "app-1796022181.log"}, {"app-2026-11-27.log", "app-2026-11-28.log"}}));
  const bool packed = GENERATE(false, true);
  CAPTURE(first, second, packed);
  ReaderWorld world({.sources = {{.files = {"app.log"}}}});
  fresh(world);
  LogDir::wait_for_another_birth();
  world.dir.append("app.log", "two\n");
  world.dir.rename("app.log", first);
  world.dir.append("app.log", "three\n");
  LogDir::wait_for_another_birth();
  world.dir.rename("app.log", second);
  world.dir.append("app.log", "four\n");
  if (packed) {
    compress(world, first, ".gz");
    compress(world, second, ".gz");
  }
  world.restart();
  CHECK(world.lines() == Texts{"two", "three", "four"});
  CHECK(all_gaps(world) == 0);
}

TEST_CASE("restart: files that begin alike are told apart, shorter ones too", "[run][restart][F8]") {
  ReaderWorld world({.sources = {{.files = {GENERATE("app.log", "*.log")}}}});
  const std::string banner = std::string(2800, '#') + "\n";
  const auto line = [](std::size_t i) { return "line " + std::to_string(10 + i) + std::string(1200, '.') + "\n"; };
  world.dir.append("app.log", banner + line(1) + line(2) + line(3) + line(4));
  world.settle();
  world.pass(seconds(10));
  static_cast<void>(world.lines());
  world.reader.reset();
  world.clock.advance(minutes(3));
  LogDir::wait_for_another_birth();
  world.dir.append("app.log", line(5));
  world.dir.rename("app.log", "app.log.1");
  LogDir::wait_for_another_birth();
  const std::size_t between = GENERATE(std::size_t{1}, std::size_t{6});
  std::string text = banner;
  for (std::size_t i = 0; i < between; ++i)
    text += line(6 + i);
  world.dir.append("app.log", text);
  world.dir.rename("app.log.1", "app.log.2");
  world.dir.rename("app.log", "app.log.1");
  const bool more = GENERATE(false, true);
  LogDir::wait_for_another_birth();
  const bool packed = GENERATE(false, true);
  if (packed) {
    compress(world, "app.log.2", ".gz");
    compress(world, "app.log.1", ".gz");
  }
  if (more) world.dir.append("app.log", banner + line(20));
  CAPTURE(between, more, packed);
  world.restart();
  Texts lines = world.lines();
  std::erase_if(lines, [](const std::string& text_of) { return text_of.front() == '#'; });
  CHECK(lines.size() == 1 + between + std::size_t{more});
  CHECK(all_gaps(world) == 0);
}

TEST_CASE("restart: copied and cut before, so that nothing was there, and again meanwhile", "[run][restart][F3]") {
  ReaderWorld world({.sources = {{.files = {GENERATE("app.log", "*.log")}}}});
  world.dir.append("app.log", "one\n");
  world.settle();
  world.dir.copy("app.log", "app.log.1");
  world.dir.write("app.log", "");
  world.settle();
  CHECK(world.lines() == Texts{"one"});
  world.pass(seconds(10));
  world.reader.reset();
  world.clock.advance(minutes(3));
  LogDir::wait_for_another_birth();
  Texts expected;
  const int times = GENERATE(1, 2);
  const bool packed = GENERATE(false, true);
  for (int i = 0; i < times; ++i) {
    const std::string line(static_cast<std::size_t>(9 - i), static_cast<char>('a' + i));
    world.dir.append("app.log", line + "\n");
    const std::string name = "app.log-2026112" + std::to_string(7 + i);
    world.dir.copy("app.log", name);
    if (packed) compress(world, name, ".gz");
    world.dir.write("app.log", "");
    LogDir::wait_for_another_birth();
    expected.push_back(line);
  }
  if (GENERATE(false, true)) {
    world.dir.append("app.log", "last\n");
    expected.emplace_back("last");
  }
  world.restart();
  CHECK(world.lines() == expected);
  CHECK(all_gaps(world) == 0);
  world.restart();
  CHECK(world.lines().empty());
}

TEST_CASE("restart: copied and cut, of which a copy is known still, and again meanwhile", "[run][restart][F3]") {
  ReaderWorld world({.sources = {{.files = {"app.log"}}}});
  fresh(world);
  world.dir.append("app.log", "two\n");
  world.dir.copy("app.log", "app.log-20261126");
  world.dir.write("app.log", "");
  world.restart();
  CHECK(world.lines() == Texts{"two"});
  world.reader.reset();  // before that copy is let go
  LogDir::wait_for_another_birth();
  world.dir.append("app.log", "three\n");
  world.dir.copy("app.log", "app.log-20261127");
  world.dir.write("app.log", "4\n");
  world.restart();
  CHECK(world.lines() == Texts{"three", "4"});
  CHECK(all_gaps(world) == 0);
}

TEST_CASE("restart: copies that are gone again are a gap where nothing shows that none was", "[run][restart][F3]") {
  ReaderWorld world({.sources = {{.files = {"app.log"}}}});
  world.dir.append("app.log", "one\n");
  world.settle();
  world.dir.copy("app.log", "app.log.1");
  world.dir.write("app.log", "");
  world.settle();
  world.pass(seconds(10));
  static_cast<void>(world.lines());
  world.reader.reset();
  LogDir::wait_for_another_birth();
  const bool older = GENERATE(false, true);
  world.dir.append("app.log", "two\n");
  if (older) {
    world.dir.rename("app.log.1", "app.log.2");
  } else {
    world.dir.remove("app.log.1");
  }
  world.dir.copy("app.log", "app.log.1");
  world.dir.write("app.log", "");
  if (!older) world.dir.write("app.log.1", "3 3\n");  // that of "two" is gone
  world.restart();
  CHECK(world.lines() == (older ? Texts{"two"} : Texts{"3 3"}));
  CHECK(gaps(world, "rotated_away_while_down") == (older ? 0 : 1));
}

TEST_CASE("restart: a rotated file that the pattern finds goes on where it was read when it is compressed", "[run][restart][F13]") {
  const std::string rotated = GENERATE("app-20261127.log", "app.log-20261127.log", "app.1.log");
  ReaderWorld world({.sources = {{.files = {"*.log"}}}});
  world.dir.append("app.log", "one\n");
  world.settle();
  world.dir.rename("app.log", rotated);
  world.dir.append("app.log", "two\n");
  world.settle();
  CHECK(world.lines() == Texts{"one", "two"});
  world.pass(seconds(1));
  world.reader.reset();
  const bool more = GENERATE(false, true);
  if (more) world.dir.append(rotated, "more\n");
  compress(world, rotated, ".gz");
  world.restart();
  CHECK(world.lines() == (more ? Texts{"more"} : Texts{}));
  CHECK(all_gaps(world) == 0);
}

TEST_CASE("restart: a rotated file that the pattern finds, was read and is gone is no gap", "[run][restart]") {
  ReaderWorld world({.sources = {{.files = {"app.log*"}}}});
  world.dir.append("app.log", "one\n");
  world.settle();
  world.dir.rename("app.log", "app.log.1");
  world.dir.append("app.log", "two\n");
  world.settle();
  world.dir.append("app.log", "three\n");
  world.settle();
  const bool unread = GENERATE(false, true);
  if (unread) world.dir.append("app.log.1", "late\n");
  world.pass(seconds(1));
  world.reader.reset();
  static_cast<void>(world.lines());
  world.dir.remove("app.log.1");
  world.dir.rename("app.log", "app.log.1");
  world.dir.append("app.log", "four\n");
  world.restart();
  CHECK(world.lines() == Texts{"four"});
  CHECK(all_gaps(world) == 0);
}

TEST_CASE("restart: of compressed files that begin alike none is taken for the one of which nothing was read",
          "[run][restart][F8]") {
  const std::string banner = std::string(2800, '#') + "\n";
  ReaderWorld world({.sources = {{.files = {"app.log"}}}});
  world.dir.append("app.log", banner + "1\n");
  world.settle();
  // The next one is known, and nothing of it was read when it dies.
  world.dir.rename("app.log", "app.log.1");
  world.dir.append("app.log", banner + "2\n");
  world.chunk_bytes = 100;
  world.reader.reset();
  world.start();
  world.step();
  world.reader.reset();
  static_cast<void>(world.lines());
  LogDir::wait_for_another_birth();
  const bool gone = GENERATE(false, true);
  world.dir.rename("app.log.1", "app.log.3");
  world.dir.rename("app.log", "app.log.2");
  world.dir.append("app.log.1", banner + "3\n");
  if (gone) {
    world.dir.remove("app.log.3");
    world.dir.remove("app.log.2");
  } else {
    compress(world, "app.log.3", ".gz");
    compress(world, "app.log.2", ".gz");
  }
  compress(world, "app.log.1", ".gz");
  world.dir.append("app.log", banner + "4\n");
  world.restart();
  Texts lines = world.lines();
  std::erase_if(lines, [](const std::string& line) { return line.front() == '#'; });
  CHECK(lines == (gone ? Texts{"3", "4"} : Texts{"2", "3", "4"}));
  CHECK((all_gaps(world) > 0) == gone);
}

TEST_CASE("restart: what came while its name was free, and was compressed at once, is read", "[run][restart][F13]") {
  ReaderWorld world({.sources = {{.files = {GENERATE("app.log", "app*.log")}}}});
  world.dir.append("app.log", "one\n");
  world.settle();
  world.dir.rename("app.log", "app.log.1");
  world.settle();
  LogDir::wait_for_another_birth();
  const auto is_read = [&] {
    const auto streams = world.reader->streams();
    return std::any_of(streams.begin(), streams.end(), [](const auto& stream) { return stream.readable; });
  };
  for (int i = 0; i < 100 && is_read(); ++i)
    world.pass(minutes(1));
  CHECK_FALSE(is_read());
  static_cast<void>(world.lines());
  world.reader.reset();
  LogDir::wait_for_another_birth();
  world.dir.rename("app.log.1", "app.log.2");
  world.dir.append("app.log", "two\n");
  world.dir.rename("app.log", "app.log.1");
  if (GENERATE(false, true)) compress(world, "app.log.2", ".gz");
  compress(world, "app.log.1", ".gz");
  LogDir::wait_for_another_birth();
  world.dir.append("app.log", "three\n");
  world.restart();
  CHECK(world.lines() == Texts{"two", "three"});
  CHECK(all_gaps(world) == 0);
}

TEST_CASE("restart: files that say one line again and again may be copies or not, which is a gap", "[run][restart][F8]") {
  ReaderWorld world({.sources = {{.files = {"app.log"}}}});
  std::string text;
  for (int i = 0; i < 300; ++i)
    text += "no connection\n";
  world.dir.append("app.log", text);
  world.settle();
  world.pass(seconds(1));
  CHECK(world.lines().size() == 300);
  world.reader.reset();
  const bool other = GENERATE(false, true);
  LogDir::wait_for_another_birth();
  world.dir.rename("app.log", "app.log.2");
  world.dir.append("app.log", other ? text + "another\n" : text);
  LogDir::wait_for_another_birth();
  world.dir.rename("app.log", "app.log.1");
  world.dir.append("app.log", "last\n");
  world.restart();
  CHECK(world.lines().size() == (other ? 302 : 1));
  CHECK(gaps(world, "rotated_away_while_down") == (other ? 0 : 1));
}

TEST_CASE("restart: the rest of what was cut away is read from its copy once", "[run][restart][F3]") {
  ReaderWorld world({.sources = {{.files = {"app.log"}}}});
  fresh(world);
  world.dir.append("app.log", "two\n");
  world.dir.copy("app.log", "app.log-1");
  world.dir.write("app.log", "3\n");
  const bool more = GENERATE(false, true);
  if (more) {
    world.dir.copy("app.log", "app.log-2");
    world.dir.write("app.log", "4\n");
  }
  world.restart();
  CHECK(world.lines() == (more ? Texts{"two", "3", "4"} : Texts{"two", "3"}));
  world.pass(minutes(2));  // the copies are let go
  SECTION("and it is renamed while this process looks") {
    world.dir.rename("app.log", "app.log.1");
    world.dir.append("app.log", "five\n");
    world.settle();
  }
  SECTION("and it is renamed while nobody looks") {
    world.reader.reset();
    world.dir.rename("app.log", "app.log.1");
    world.dir.append("app.log", "five\n");
    world.restart();
  }
  SECTION("and it is deleted while nobody looks") {
    world.reader.reset();
    world.dir.remove("app.log");
    world.dir.append("app.log", "five\n");
    world.restart();
  }
  CHECK(world.lines() == Texts{"five"});
}

TEST_CASE("restart: the rest in a copy is read once where older files are followed still",
          "[run][restart][F3]") {
  ReaderWorld world({.sources = {{.files = {"app.log"}}}});
  world.dir.append("app.log", "zero\n");
  world.settle();
  world.dir.rename("app.log", "app.log.1");
  world.dir.append("app.log", "one\n");
  world.settle();
  CHECK(world.lines() == Texts{"zero", "one"});
  world.reader.reset();
  world.dir.append("app.log", "two\n");
  world.dir.copy("app.log", "app.log.copy");
  world.dir.write("app.log", "3\n");
  world.restart();
  CHECK(world.lines() == Texts{"two", "3"});
  world.pass(minutes(2));
  world.restart();
  world.dir.rename("app.log", "app.log.1");
  world.dir.append("app.log", "4\n");
  world.settle();
  CHECK(world.lines() == Texts{"4"});
}

TEST_CASE("restart: a rotated file that says only what another began with is no copy: its writer may go on",
          "[run][restart]") {
  ReaderWorld world({.sources = {{.files = {"app.log"}}}});
  const std::string begun = GENERATE(std::string("banner\n"), std::string("ban"), std::string("banner\nlin"));
  world.dir.append("app.log", "banner\nline one\n");
  world.settle();
  CHECK(world.lines() == Texts{"banner", "line one"});
  const auto rotate = [&] {
    world.dir.rename("app.log", "app.log.2");
    world.dir.append("app.log", begun);
    world.dir.rename("app.log", "app.log.1");
    world.dir.append("app.log", "");
  };
  SECTION("while nobody looks") {
    world.reader.reset();
    rotate();
    world.restart();
  }
  SECTION("at once") {
    rotate();
    world.settle();
  }
  if (begun == "ban") {
    world.dir.append("app.log.1", "ner two\nthree\n");
  } else {
    world.dir.append("app.log.1", begun.back() == '\n' ? "line two\nthree\n" : "e two\nthree\n");
  }
  world.settle();
  CHECK(world.lines() == Texts{begun == "ban" ? "banner two" : "line two", "three"});
  world.pass(minutes(1));
  world.restart();
  world.dir.append("app.log.1", "four\n");
  world.dir.append("app.log", "five\n");
  world.settle();
  CHECK(world.lines() == Texts{"four", "five"});
}

TEST_CASE("restart: a copy of what is gone by now is not read again", "[run][restart][F3]") {
  ReaderWorld world({.sources = {{.files = {"app.log"}}}});
  world.dir.append("app.log", "zero\n");
  world.settle();
  world.dir.rename("app.log", "app.log.1");  // its writer may come back to it
  world.dir.append("app.log", "one\n");
  world.settle();
  world.dir.copy("app.log", "app.log.2");
  CHECK(world.lines() == Texts{"zero", "one"});
  SECTION("while this process looks") {
    world.dir.remove("app.log");
    world.settle();
    world.pass(seconds(6));
  }
  SECTION("while nobody looks") {
    world.reader.reset();
    world.dir.remove("app.log");
    world.restart();
  }
  SECTION("cut before") {
    world.dir.write("app.log", "two\n");
    world.settle();
    CHECK(world.lines() == Texts{"two"});
    world.reader.reset();
    world.dir.remove("app.log");
    world.restart();
  }
  world.dir.append("app.log", "three\n");
  world.settle();
  CHECK(world.lines() == Texts{"three"});
}

TEST_CASE("restart: files that appeared meanwhile are read from their beginning", "[run][restart]") {
  ReaderWorld world({.sources = {{.read_from = rules::ReadFrom::kEnd}}});
  world.dir.append("a.log", "old\n");
  world.settle();
  CHECK(world.lines().empty());
  world.reader.reset();
  world.dir.append("b.log", "new\n");
  world.restart();
  CHECK(world.lines() == Texts{"new"});
}

TEST_CASE("restart: a place at the end is kept though nothing was read", "[run][restart]") {
  ReaderWorld world({.sources = {{.files = {"app.log"}, .read_from = rules::ReadFrom::kEnd}}});
  world.dir.append("app.log", "old\n");
  world.settle();
  world.reader.reset();
  world.dir.append("app.log", "new\n");
  world.restart();
  CHECK(world.lines() == Texts{"new"});
}

TEST_CASE("restart: within a line that is too long its rest is still skipped", "[run][restart][F19]") {
  ReaderWorld world({.sources = {{.files = {"app.log"}, .max_line_bytes = 10}}});
  world.dir.append("app.log", std::string(50, 'x'));
  world.settle();
  CHECK(world.lines() == Texts{std::string(10, 'x')});
  world.restart();
  world.dir.append("app.log", "rest\nnext\n");
  world.settle();
  CHECK(world.lines() == Texts{"next"});
}

TEST_CASE("restart: the last line without an end", "[run][restart][F18]") {
  ReaderWorld world({.sources = {{.files = {"app.log"}}}, .patterns = {"err", "error \\d+"}});
  world.dir.append("app.log", "err");
  world.settle();
  world.pass(milliseconds(4900));
  CHECK(world.seen.empty());
  SECTION("is complete before its time") {
    world.dir.append("app.log", "or 1\n");
    world.settle();
    CHECK(world.lines() == Texts{"error 1", "error 1"});
    CHECK(world.counter("logbell_source_lines_total{source=\"app\"}") == 1);
  }
  SECTION("is handed over when its time is up; what comes then is counted only where it is new") {
    world.pass(milliseconds(100));
    CHECK(world.lines() == Texts{"err"});
    CHECK(world.counter("logbell_source_partial_flushed_total{source=\"app\"}") == 1);
    world.pass(seconds(60));
    CHECK(world.lines().empty());
    SECTION("in the same process") {}
    SECTION("in another one") {
      world.restart();
    }
    world.dir.append("app.log", "or 1\nerror 2\n");
    world.settle();
    REQUIRE(world.seen.size() == 3);
    CHECK(world.seen[0].text == "error 1");
    CHECK(world.seen[0].pattern == 1);
    CHECK(world.seen[1].text == "error 2");
    CHECK(world.counter("logbell_source_lines_total{source=\"app\"}") == 2);
  }
  SECTION("is handed over once, however often the process dies") {
    world.restart();
    world.pass(seconds(5));
    CHECK(world.lines() == Texts{"err"});
    world.restart();
    world.pass(seconds(5));
    CHECK(world.lines().empty());
  }
  SECTION("of a file that is rotated") {
    world.dir.rename("app.log", "app.log.1");
    world.dir.append("app.log", "new error 3\n");
    world.settle();
    CHECK(world.lines() == Texts{"new error 3", "new error 3"});
    for (int i = 0; i < 4; ++i)
      world.pass(seconds(3));
    CHECK(world.lines() == Texts{"err"});
    CHECK(world.reader->streams().size() == 1);
  }
}

TEST_CASE(
    "restart: the last line without an end of a file that is deleted is handed over when the process stops",
    "[run][restart][F18]") {
  ReaderWorld world({.sources = {{.files = {"app.log"}}}});
  world.dir.append("app.log", "ERR1");
  world.settle();
  const auto stop = [&] {
    world.reader->finish();
    world.confirm();
    world.confirm();  // once
  };
  SECTION("deleted and seen") {
    world.dir.remove("app.log");
    world.settle();
    stop();
    CHECK(world.lines() == Texts{"ERR1"});
    world.restart();
    CHECK(gaps(world, "deleted_while_down") == 0);
  }
  SECTION("deleted a moment ago") {
    world.dir.remove("app.log");
    stop();
    CHECK(world.lines() == Texts{"ERR1"});
    world.restart();
  }
  SECTION("deleted, and another has its name") {
    world.dir.remove("app.log");
    world.dir.append("app.log", "ERR2");
    stop();
    CHECK(world.lines() == Texts{"ERR1"});
    world.restart();
    world.pass(seconds(5));
    CHECK(world.lines() == Texts{"ERR2"});
  }
  SECTION("what can be found again keeps it for the next process") {
    SECTION("under its name") {}
    SECTION("renamed") {
      world.dir.rename("app.log", "app.log.1");
      world.settle();
    }
    stop();
    CHECK(world.lines().empty());
    world.restart();
    world.pass(seconds(5));
    CHECK(world.lines() == Texts{"ERR1"});
  }
  world.restart();
  world.pass(seconds(30));
  CHECK(world.lines().empty());
  CHECK(world.counter("logbell_source_partial_flushed_total{source=\"app\"}") ==
        world.counter("logbell_source_lines_total{source=\"app\"}"));
}

TEST_CASE("restart: a rotation is counted once, whichever process saw it", "[run][restart][F1]") {
  ReaderWorld world({.sources = {{.files = {"app.log"}}}});
  const auto rotations = [&] {
    return world.counter("logbell_source_rotations_total{kind=\"rename\", source=\"app\"}");
  };
  world.dir.append("app.log", "0\n");
  world.settle();
  for (int i = 1; i <= 4; ++i) {
    world.dir.rename("app.log", "app.log." + std::to_string(i));
    world.dir.append("app.log", std::to_string(i) + "\n");
    world.settle();
  }
  CHECK(rotations() == 4);
  world.restart();
  CHECK(rotations() == 4);
  world.reader.reset();
  world.dir.rename("app.log", "app.log.5");
  world.dir.append("app.log", "5\n");
  world.restart();
  CHECK(rotations() == 5);
  world.restart();
  world.pass(seconds(30));
  world.restart();
  CHECK(rotations() == 5);
  CHECK(world.lines() == Texts{"0", "1", "2", "3", "4", "5"});
}

TEST_CASE("restart: UTF-16 and a byte order mark are known again", "[run][restart][F20]") {
  using namespace std::string_literals;
  ReaderWorld world({.sources = {{.files = {"*.log"}}}});
  world.dir.append("a.log", "\xFF\xFEo\0n\0e\0\r\0\n\0"s);
  world.dir.append("b.log", "\xEF\xBB\xBFtwo\n");
  world.settle();
  CHECK(world.lines() == Texts{"one", "two"});
  world.reader.reset();
  world.dir.append("a.log", "t\0h\0r\0\xe9\0\n\0"s);
  world.restart();
  CHECK(world.lines() == Texts{"thr\u00e9"});
}

TEST_CASE("restart: a place that cannot be read any more is a place at the beginning, and said",
          "[run][restart]") {
  ReaderWorld world({.sources = {{.files = {"app.log"}}}});
  fresh(world);
  for (auto& [key, value] : world.committed) {
    if (key.find("pos/file/") == 0) value = "{nonsense";
  }
  world.restart();
  CHECK(world.lines() == Texts{"one"});
  REQUIRE_FALSE(world.notes.empty());
  CHECK(world.notes[0].level == engine::ReaderNote::Level::kError);
}

TEST_CASE("restart: what is stored says nothing that the log says", "[run][restart]") {
  ReaderWorld world({.sources = {{.files = {"app.log"}}}});
  world.dir.append("app.log", "password=hunter2\n");
  world.settle();
  for (const auto& [key, value] : world.committed)
    CHECK(value.find("hunter2") == std::string::npos);
}

}  // namespace
}  // namespace logbell::tests

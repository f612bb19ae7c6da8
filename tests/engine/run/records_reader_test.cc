// Container logs and stack traces, read from real files: parts, rotations, restarts, reloads.
#include "tests/engine/run/reader_world.h"

namespace logbell::tests {
namespace {

using Texts = std::vector<std::string>;

SourceSetting cri(std::string files = "*.log") {
  SourceSetting source;
  source.files = {std::move(files)};
  source.envelope = rules::Envelope::kCri;
  return source;
}
SourceSetting traces(const std::string& first_line) {
  SourceSetting source;
  source.multiline = std::make_shared<rules::Multiline>(
      rules::Multiline::by_first_line(*rules::Regex::compile(first_line)));
  return source;
}

// A line as containerd writes it.
std::string part(rules::Timestamp at, const std::string& stream, const std::string& tag, const std::string& text) {
  return rules::format_rfc3339(at) + " " + stream + " " + tag + " " + text + "\n";
}

TEST_CASE("records: a container's lines count at the time the runtime says, with stream and pod as labels",
          "[run][reader][records]") {
  ReaderWorld world({.sources = {cri("pods/*/*/*.log")}, .patterns = {"(?P<text>o[nr]e)"}});
  fs::create_directories(world.dir.path("pods/shop_orders-1_uid/api"));
  const rules::Timestamp at = world.clock.now() - seconds(3);
  world.dir.append("pods/shop_orders-1_uid/api/0.log",
                   part(at, "stdout", "F", "one") + part(at + seconds(1), "stderr", "F", "2020-01-01T00:00:00Z ore"));
  world.settle();
  REQUIRE(world.seen.size() == 2);
  CHECK(world.seen[0].text == "one");
  CHECK(world.seen[0].at == at);
  // What the line itself says of its time is not asked for.
  CHECK(world.seen[1].at == at + seconds(1));
  CHECK(world.counter("logbell_source_lines_total{source=\"app\"}") == 2);
}

TEST_CASE("records: a line in two parts is one, across a rotation too", "[run][reader][records][F11]") {
  ReaderWorld world({.sources = {cri("0.log")}});
  const auto now = [&] { return world.clock.now(); };
  world.dir.append("0.log", part(now(), "stdout", "P", "one ") + part(now(), "stderr", "F", "err"));
  world.settle();
  CHECK(world.lines() == Texts{"err"});
  const auto rotate = [&] { world.dir.rename("0.log", "0.log.20261128-031501"); };
  SECTION("in one process") {
    rotate();
    world.dir.append("0.log", part(now(), "stdout", "F", "two"));
    world.settle();
  }
  SECTION("seen empty first") {
    rotate();
    world.dir.append("0.log", "");
    world.settle();
    CHECK(world.lines().empty());
    world.dir.append("0.log", part(now(), "stdout", "F", "two"));
    world.settle();
  }
  SECTION("the process dies before it") {
    world.restart();
    CHECK(world.lines().empty());
    rotate();
    world.dir.append("0.log", part(now(), "stdout", "F", "two"));
    world.settle();
  }
  SECTION("the process dies behind it") {
    rotate();
    world.dir.append("0.log", part(now(), "stderr", "F", "other"));
    world.settle();
    CHECK(world.lines() == Texts{"other"});
    world.restart();
    CHECK(world.lines().empty());
    world.dir.append("0.log", part(now(), "stdout", "F", "two"));
    world.settle();
  }
  SECTION("the process is down meanwhile") {
    world.reader.reset();
    rotate();
    world.dir.append("0.log", part(now(), "stdout", "F", "two"));
    world.restart();
  }
  CHECK(world.lines() == Texts{"one two"});
  world.restart();
  for (int i = 0; i < 5; ++i)
    world.pass(seconds(3));
  world.restart();
  world.pass(seconds(30));
  CHECK(world.lines().empty());
  CHECK(world.counter("logbell_source_partial_flushed_total{source=\"app\"}") == 0);
}

TEST_CASE("records: what was unfinished when the log was copied and cut while nobody looked goes on", "[run][reader][records][F3][F11]") {
  const bool found_too = GENERATE(false, true);  // the pattern finds the copy
  CAPTURE(found_too);
  const auto cut = [](const ReaderWorld& world, const std::string& log) {
    world.dir.copy(log, log + ".1");
    world.dir.truncate(log);
  };
  const auto gaps = [](const ReaderWorld& world) {
    double sum = 0;
    for (const auto& [name, value] : world.counters)
      sum += name.starts_with("logbell_source_gaps_total") ? value : 0;
    return sum;
  };
  const bool asked_to_stop = GENERATE(false, true);
  const auto stop = [&](ReaderWorld& world) {
    if (asked_to_stop) {
      world.reader->finish();
      world.confirm();
    }
    world.reader.reset();
  };
  CAPTURE(asked_to_stop);
  SECTION("a part of a line") {
    ReaderWorld world({.sources = {cri(found_too ? "0.log*" : "0.log")}, .patterns = {"cannot send order", "other"}});
    const auto now = [&] { return world.clock.now(); };
    world.dir.append("0.log", part(now(), "stdout", "F", "first") + part(now(), "stdout", "P", "cannot send "));
    world.settle();
    stop(world);
    SECTION("its end came before the copy") {
      world.dir.append("0.log", part(now(), "stdout", "F", "order 7"));
      cut(world, "0.log");
      world.dir.append("0.log", part(now(), "stdout", "F", "other"));
    }
    SECTION("its end came behind it") {
      cut(world, "0.log");
      world.dir.append("0.log", part(now(), "stdout", "F", "order 7") + part(now(), "stdout", "F", "other"));
    }
    world.restart();
    CHECK(world.lines() == Texts{"cannot send order 7", "other"});
    for (int i = 0; i < 5; ++i)
      world.pass(seconds(3));
    world.restart();
    world.pass(seconds(30));
    CHECK(world.lines().empty());
    CHECK(gaps(world) == 0);
  }
  SECTION("a trace") {
    SourceSetting source = traces("^\\d");
    source.files = {found_too ? "app.log*" : "app.log"};
    ReaderWorld world({.sources = {source}, .patterns = {"boom", "next"}});
    world.dir.append("app.log", "0 first\n1 boom\n\tat x\n");
    world.settle();
    stop(world);
    SECTION("it went on before the copy") {
      world.dir.append("app.log", "\tat y\n");
      cut(world, "app.log");
      world.dir.append("app.log", "2 next\n");
    }
    SECTION("nothing came before the copy") {
      cut(world, "app.log");
      world.dir.append("app.log", "2 next\n");
    }
    SECTION("it went on behind the copy") {
      cut(world, "app.log");
      world.dir.append("app.log", "\tat y\n2 next\n");
    }
    world.restart();
    world.pass(seconds(2));
    const std::vector<std::string> lines = world.lines();
    REQUIRE(lines.size() == 2);
    CHECK(lines.back() == "2 next");
    CHECK(lines.front().rfind("1 boom\n\tat x", 0) == 0);
    CHECK(gaps(world) == 0);
  }
}

TEST_CASE("records: a part that nothing follows is handed over after 5 s, once", "[run][reader][records][F11]") {
  ReaderWorld world({.sources = {cri("0.log")}, .patterns = {"half", "two"}});
  world.dir.append("0.log", part(world.clock.now(), "stdout", "P", "half "));
  world.settle();
  world.pass(milliseconds(4999));
  CHECK(world.seen.empty());
  bool late = false;  // by what the runtime says of both
  SECTION("in the same process") {}
  SECTION("in another one") {
    world.restart();
    world.pass(milliseconds(4999));
    late = true;
  }
  world.pass(milliseconds(1));
  CHECK(world.lines() == Texts{"half "});
  CHECK(world.counter("logbell_source_partial_flushed_total{source=\"app\"}") == 1);
  SECTION("the rest counts only where it is new") {}
  SECTION("the rest counts only where it is new, for another process too") { world.restart(); }
  SECTION("the rest counts only where it is new, in the next file too") {
    world.dir.rename("0.log", "0.log.1");
    world.dir.append("0.log", "");
    world.settle();
  }
  world.dir.append("0.log", part(world.clock.now(), "stdout", "F", "two"));
  world.settle();
  REQUIRE(world.seen.size() == 1);
  CHECK(world.seen[0].pattern == 1);
  CHECK(world.lines() == Texts{late ? "two" : "half two"});
  CHECK(world.counter("logbell_source_lines_total{source=\"app\"}") == (late ? 2 : 1));
}

TEST_CASE("records: a stack trace is one line", "[run][reader][records]") {
  ReaderWorld world({.sources = {traces("^\\d")}, .patterns = {"boom", "at y"}, .window = "1m"});
  world.dir.append("app.log", "1 boom\n\tat x\n");
  world.settle();
  CHECK(world.seen.empty());
  const rules::Timestamp read = world.clock.now();
  // Until it has come, nobody may say that nothing did.
  world.clock.advance(milliseconds(500));
  world.confirm();
  REQUIRE(world.statuses[0].read_to_end_at);
  CHECK(*world.statuses[0].read_to_end_at < read);
  SECTION("it waits a second for its next line") {
    world.pass(milliseconds(499));
    CHECK(world.seen.empty());
    world.pass(milliseconds(1));
    CHECK(world.lines() == Texts{"1 boom\n\tat x"});
    world.confirm();
    CHECK(*world.statuses[0].read_to_end_at == world.clock.now());
    SECTION("in one process") {}
    SECTION("in another one") { world.restart(); }
    world.dir.append("app.log", "\tat y\n2 next\n");
    world.settle();
    REQUIRE(world.seen.size() == 1);  // "boom" is counted already
    CHECK(world.seen[0].pattern == 1);
  }
  SECTION("the process dies meanwhile") {
    world.restart();
    world.dir.append("app.log", "\tat y\n2 next\n");
    world.settle();
    CHECK(world.lines() == Texts{"1 boom\n\tat x\n\tat y", "1 boom\n\tat x\n\tat y"});
  }
  SECTION("the process is asked to stop: it is handed over") {
    world.reader->finish();
    world.confirm();
    CHECK(world.lines() == Texts{"1 boom\n\tat x"});
    world.restart();
    world.pass(seconds(5));
    CHECK(world.lines().empty());
  }
  SECTION("its file is deleted") {
    world.dir.remove("app.log");
    for (int i = 0; i < 5; ++i)
      world.pass(seconds(3));
    CHECK(world.lines() == Texts{"1 boom\n\tat x"});
  }
  SECTION("its file is cut") {
    world.dir.truncate("app.log");
    world.settle();
    world.dir.append("app.log", "\tat y\n2 next\n");
    world.settle();
    CHECK(world.lines() == Texts{"1 boom\n\tat x\n\tat y", "1 boom\n\tat x\n\tat y"});
  }
  SECTION("a reload makes every line one by itself") {
    PlanSetting plain = world.plan_setting;
    plain.sources[0].multiline = nullptr;
    plain.generation = 2;
    world.reload(plain);
    world.dir.append("app.log", "\tat y\n");
    world.settle();
    CHECK(world.lines() == Texts{"1 boom\n\tat x", "\tat y"});
  }
  world.dir.append("app.log", "3 boom\n4\n");
  world.settle();
  CHECK(world.lines().back() == "3 boom");
}

TEST_CASE("records: Docker's lines, also of JSON", "[run][reader][records]") {
  SourceSetting docker;
  docker.envelope = rules::Envelope::kDocker;
  docker.format = rules::LineFormat::kJson;
  ReaderWorld world({.sources = {docker}, .patterns = {"boom"}});
  const rules::Timestamp at = world.clock.now() - seconds(3);
  world.dir.append("x-json.log", R"({"log":"{\"level\":\"ERR","stream":"stdout","time":")" + rules::format_rfc3339(at) +
                                     "\"}\n" + R"({"log":"OR\",\"msg\":\"boom\"}\n","stream":"stdout","time":")" +
                                     rules::format_rfc3339(at + seconds(1)) + "\"}\n" + "boom, and no JSON\n");
  world.settle();
  REQUIRE(world.seen.size() == 2);
  CHECK(world.seen[0].text == R"({"level":"ERROR","msg":"boom"})");
  CHECK(world.seen[0].at == at);
  CHECK(world.seen[1].text == "boom, and no JSON");
  CHECK(world.counter("logbell_source_lines_malformed_total{source=\"app\"}") == 1);
}

TEST_CASE("records: standard input's last trace is handed over at its end", "[run][reader][records]") {
  int pipe[2];
  REQUIRE(::pipe(pipe) == 0);
  SourceSetting source = traces("^\\d");
  source.is_stdin = true;
  source.files = {};
  ReaderWorld world({.sources = {source}});
  world.stdin_fd = pipe[0];
  REQUIRE(::write(pipe[1], "1 boom\n\tat x", 12) == 12);
  world.settle();
  CHECK(world.seen.empty());
  ::close(pipe[1]);
  world.settle();
  CHECK(world.lines() == Texts{"1 boom\n\tat x"});
  CHECK(world.ended);
  ::close(pipe[0]);
}

}  // namespace
}  // namespace logbell::tests

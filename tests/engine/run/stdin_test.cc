// Standard input: read without blocking, cleanly to its end, and marked as what cannot be read again.
#include "tests/engine/run/reader_world.h"

namespace logbell::tests {
namespace {

class Pipe {
 public:
  Pipe() { REQUIRE(::pipe2(ends_, O_CLOEXEC) == 0); }
  ~Pipe() {
    close();
    ::close(ends_[0]);
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  int reading() const { return ends_[0]; }
  void write(const std::string& text) const {
    REQUIRE(::write(ends_[1], text.data(), text.size()) == static_cast<ssize_t>(text.size()));
  }
  void close() {
    if (ends_[1] >= 0) ::close(ends_[1]);
    ends_[1] = -1;
  }

 private:
  int ends_[2] = {-1, -1};
};

TEST_CASE("stdin: lines as they come, the last one without its end, then the end", "[run][stdin][F29]") {
  Pipe pipe;
  ReaderWorld world;
  if (GENERATE(true, false)) {
    world.plan_setting.sources = {{.name = "in", .files = {}, .is_stdin = true}};
  } else {
    world.plan_setting.sources = {{.name = "in", .files = {"/-"}}};
    world.plan_setting.sources[0].files = {};
    world.plan_setting.sources[0].is_stdin = true;
  }
  world.stdin_fd = pipe.reading();
  world.settle();
  CHECK(world.statuses[0].readable);
  CHECK(world.statuses[0].read_to_end_at == world.clock.now());
  CHECK(world.statuses[0].watched_from == world.clock.now());
  pipe.write("one\ntw");
  world.settle();
  CHECK(world.lines() == Texts{"one"});
  CHECK(world.cannot_be_read_again);
  pipe.write("o\nthree");
  world.settle();
  CHECK(world.lines() == Texts{"two"});
  CHECK_FALSE(world.ended);
  pipe.close();
  world.settle();
  CHECK(world.lines() == Texts{"three"});
  CHECK(world.ended);
  CHECK(world.counter("logbell_source_lines_total{source=\"in\"}") == 3);
  CHECK(world.counter("logbell_source_bytes_total{source=\"in\"}") == 13);
  CHECK_FALSE(world.step().more);
  for (const int fd : world.reader->wake_fds())
    CHECK(fd != pipe.reading());
}

TEST_CASE("stdin: a line that waits is handed over, its rest is no new line", "[run][stdin][F18]") {
  Pipe pipe;
  ReaderWorld world({.sources = {{.name = "in", .files = {}, .is_stdin = true}}});
  world.stdin_fd = pipe.reading();
  pipe.write("prompt> ");
  world.settle();
  CHECK(world.lines().empty());
  world.pass(seconds(5));
  CHECK(world.lines() == Texts{"prompt> "});
  pipe.write("answer\nnext\n");
  world.settle();
  CHECK(world.lines() == Texts{"next"});
  pipe.write("half");
  world.settle();
  world.pass(seconds(5));
  CHECK(world.lines() == Texts{"half"});
  pipe.close();
  world.settle();
  CHECK(world.lines().empty());
  CHECK(world.ended);
}

TEST_CASE("stdin: what is there already is a backlog with its own times", "[run][stdin]") {
  Pipe pipe;
  ReaderWorld world({.sources = {{.name = "in", .files = {}, .is_stdin = true}}});
  world.stdin_fd = pipe.reading();
  const rules::Timestamp past = world.clock.now() - hours(48);
  pipe.write(rules::format_rfc3339(past) + " old\n");
  world.settle();
  REQUIRE(world.seen.size() == 1);
  CHECK(world.seen[0].at <= past);
  CHECK(world.seen[0].at > past - seconds(1));
}

TEST_CASE("stdin: a file is read to its end and ends", "[run][stdin][F29]") {
  ReaderWorld world({.sources = {{.name = "in", .files = {}, .is_stdin = true, .max_line_bytes = 100}}});
  world.chunk_bytes = 64;
  std::string text;
  for (int i = 0; i < 100; ++i)
    text += "line " + std::to_string(i) + "\n" + (i % 10 == 0 ? std::string(1000, 'x') + "\n" : "");
  world.dir.append("in", text);
  world.stdin_fd = ::open(world.dir.path("in").c_str(), O_RDONLY | O_CLOEXEC);
  world.settle();
  ::close(world.stdin_fd);
  CHECK(world.ended);
  CHECK(world.lines().size() == 110);
  CHECK(world.counter("logbell_source_lines_truncated_total{source=\"in\"}") == 10);
}

TEST_CASE("stdin: closed from the start is an end, not an error", "[run][stdin][F29]") {
  ReaderWorld world({.sources = {{.name = "in", .files = {}, .is_stdin = true}}});
  Pipe pipe;
  pipe.close();
  world.stdin_fd = pipe.reading();
  world.settle();
  CHECK(world.ended);
  CHECK(world.lines().empty());
}

TEST_CASE("stdin: beside files its end ends nothing", "[run][stdin]") {
  Pipe pipe;
  ReaderWorld world({.sources = {{.name = "in", .files = {}, .is_stdin = true}, {.name = "app"}}});
  world.stdin_fd = pipe.reading();
  pipe.write("one");
  pipe.close();
  world.settle();
  CHECK(world.lines() == Texts{"one"});
  CHECK_FALSE(world.ended);
  world.dir.append("a.log", "two\n");
  world.settle();
  CHECK(world.lines() == Texts{"two"});
}

}  // namespace
}  // namespace logbell::tests

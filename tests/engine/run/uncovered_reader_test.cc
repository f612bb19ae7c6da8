// UncoveredErrors: which lines the reader counts as errors that no rule looks at.
#include "rules/pattern.h"
#include "tests/engine/run/reader_world.h"

using namespace logbell::tests;
using namespace std::chrono_literals;
namespace rules = logbell::rules;
namespace engine = logbell::engine;

namespace {

// p0 is looked at by a rule, p1 only counts.
ReaderWorld two_patterns() {
  return ReaderWorld({.patterns = {"queue .* gone", "disk"}, .window = "1h"});
}

double counted(const ReaderWorld& world) {
  return world.counter("logbell_source_uncovered_errors_total{source=\"app\"}");
}

}  // namespace

TEST_CASE("uncovered: what a rule looks at is covered, what is only counted is not", "[run][uncovered]") {
  ReaderWorld world = two_patterns();
  world.settle();
  CHECK(counted(world) == 0);
  world.dir.append(
      "app.log",
      "INFO fine\nERROR queue orders gone\nERROR disk full\nERROR unknown\nlevel=error msg=\"queue x gone\"\n"
      "INFO queue y gone\r\nFATAL the end\r\n");
  world.settle();
  CHECK(world.uncovered == Texts{"ERROR disk full", "ERROR unknown", "FATAL the end"});
  CHECK(counted(world) == 3);
  CHECK(world.lines().size() == 4);  // the patterns' own counts are as ever
}

TEST_CASE("uncovered: a line that came in two halves counts once", "[run][uncovered]") {
  ReaderWorld world = two_patterns();
  world.settle();
  world.dir.append("app.log", "ERROR unkn");
  world.settle();
  world.pass(6s);
  CHECK(counted(world) == 1);
  world.dir.append("app.log", "own\nERROR more\n");
  world.settle();
  CHECK(world.uncovered == Texts{"ERROR unkn", "ERROR more"});
}

TEST_CASE("uncovered: a record is one, whichever of its lines looks like an error, and is covered as a whole",
          "[run][uncovered]") {
  auto first = rules::Regex::compile("^at ");
  ReaderWorld world({.sources = {{.multiline = std::make_shared<const rules::Multiline>(
                                      rules::Multiline::by_first_line(*first))}},
                     .patterns = {"(?s)queue.*gone"},
                     .window = "1h"});
  world.settle();
  world.dir.append("app.log",
                   "at 1 fine\nat 2 ERROR a\nERROR b\nat 3 ERROR queue\n  is gone\nat 4\nERROR late\nat 5\n");
  world.settle();
  CHECK(world.uncovered == Texts{"at 2 ERROR a\nERROR b", "at 4\nERROR late"});
  CHECK(counted(world) == 2);
}

TEST_CASE("uncovered: of what is older than max_replay_age nobody is told", "[run][uncovered]") {
  ReaderWorld world = two_patterns();
  const rules::Timestamp now = world.clock.now();
  world.dir.append("app.log", line_at(now - 3h, "ERROR long ago") + line_at(now - 16min, "ERROR ago") +
                                  line_at(now - 14min, "ERROR lately") + line_at(now, "ERROR now"));
  world.settle();
  CHECK(counted(world) == 2);
  // Nor of an old log alone.
  world.dir.append("old.log", line_at(now - 3h, "ERROR long ago"));
  world.settle();
  CHECK(counted(world) == 2);
}

TEST_CASE("uncovered: what is excluded, by a pattern or by the source, is known", "[run][uncovered]") {
  const auto once = [](const std::function<void(rules::SourceSpec&, rules::PatternSpec&)>& change) {
    ReaderWorld world = two_patterns();
    world.change = [&](rules::Plan& plan) {
      change(plan.sources[0], plan.patterns[0]);
      const std::vector<std::uint32_t> all{0, 1};
      plan.sources[0].patterns = rules::PatternSet::compile(plan.patterns, all, rules::LineFormat::kText);
    };
    world.settle();
    world.dir.append("app.log", "ERROR queue known gone\nERROR known\nERROR unknown\n");
    world.settle();
    return world.uncovered;
  };
  CHECK(once([](auto&, auto&) {}) == Texts{"ERROR known", "ERROR unknown"});
  CHECK(once([](auto& source, auto&) {
          source.uncovered_errors->exclude.push_back(*rules::Regex::compile("ERROR known$"));
        }) == Texts{"ERROR unknown"});
  CHECK(once([](auto&, auto& pattern) { pattern.exclude.push_back(*rules::Regex::compile("\\bknown")); }) ==
        Texts{"ERROR unknown"});
  CHECK(once([](auto& source, auto&) { source.uncovered_errors.reset(); }).empty());
}

TEST_CASE("uncovered: a message of logbell's own that comes back is none", "[run][uncovered]") {
  engine::SystemClock clock;
  engine::Feedback feedback(clock);
  feedback.leaves("0123456789abcdef0123456789abcdef");
  ReaderWorld world = two_patterns();
  world.feedback = &feedback;
  world.settle();
  world.dir.append("app.log", "ERROR said the bot · delivery 0123456789abcdef0123456789abcdef\nERROR else\n");
  world.settle();
  CHECK(world.uncovered == Texts{"ERROR else"});
}

TEST_CASE("uncovered: of a flood some are shown, all are counted", "[run][uncovered]") {
  ReaderWorld world = two_patterns();
  world.settle();
  std::string flood;
  for (int i = 0; i < 1000; ++i)
    flood += "ERROR " + std::to_string(i) + "\n";
  world.dir.append("app.log", flood);
  world.settle();
  CHECK(counted(world) == 1000);
  CHECK(world.uncovered.size() == 8);
}

TEST_CASE("form: of each read the last line says what the log looks like", "[run][uncovered]") {
  ReaderWorld world = two_patterns();
  world.settle();
  world.dir.append("app.log", "10:00:00 INFO one\n10:00:01 INFO two\n");
  world.settle();
  world.dir.append("app.log", "{\"ts\":1,\"level\":\"info\"}\r\n");
  world.settle();
  world.dir.append("app.log", "\tat com.example\n");
  world.settle();
  CHECK(world.forms == Texts{"text 0L|10:00:01 INFO two", "json ts,level|{\"ts\":1,\"level\":\"info\"}\r",
                             "|\tat com.example"});
  // Of a record its first line.
  ReaderWorld pods({.sources = {{.envelope = rules::Envelope::kCri}}});
  pods.settle();
  pods.dir.append("app.log", "2026-05-01T10:00:00.123456789Z stdout F {\"ts\":1}\n");
  pods.settle();
  CHECK(pods.forms == Texts{"json ts|{\"ts\":1}"});
}

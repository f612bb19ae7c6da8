// Backtests, and a reader with a crew: the same whoever helps.
#include "engine/run/backtest.h"

#include <algorithm>
#include <string>

#include "tests/engine/run/reader_world.h"
#include "tests/support/random_patterns.h"

namespace logbell::tests {
namespace {

using engine::backtest;
using engine::backtest_plan;
using engine::BacktestReport;

// An hour of lines, one a quarter of a second; each seventh an error, and in the tenth minute each.
std::string hour_of_lines(rules::Timestamp from) {
  std::string text;
  for (int i = 0; i < 4 * 3600; ++i) {
    const bool bad = i % 7 == 0 || i / 240 == 10;
    text += line_at(from + milliseconds(250) * i,
                    bad ? "ERROR code=" + std::to_string(i % 5) + " in the queue of orders"
                        : "INFO all is well with number " + std::to_string(i) + " of them");
  }
  return text;
}

std::shared_ptr<const rules::Plan> plan_with(const LogDir& dir, const std::string& expr,
                                             rules::PatternSet::Matcher matcher) {
  auto plan = std::make_shared<rules::Plan>(
      *make_plan(dir, {.patterns = {"ERROR code=(?P<code>\\d)", "number 1\\d of"}}));
  plan->sources[0].patterns = rules::PatternSet::compile(plan->patterns, std::vector<std::uint32_t>{0, 1},
                                                         rules::LineFormat::kText, matcher);
  rules::AlertingRule rule;
  rule.name = "Errors";
  rule.expr = *rules::bind_expr(*rules::parse_expr(expr), plan->patterns);
  rule.polarity = rules::polarity(*rule.expr);
  rule.sources = {0};
  plan->rules.push_back(std::move(rule));
  return plan;
}

TEST_CASE("backtest: what matched and what would have fired, by any number of threads and either matcher",
          "[run][backtest]") {
  const LogDir dir;
  const rules::Timestamp now = system_now();
  dir.append("old.log", hour_of_lines(now - hours(30)));
  for (const auto matcher : {rules::PatternSet::Matcher::kFast, rules::PatternSet::Matcher::kPlain}) {
    const auto plan = backtest_plan(*plan_with(dir, "sum(count_over_time(p0[1m])) > 200", matcher), "",
                                    {dir.path("old.log")});
    REQUIRE(plan);
    for (const std::size_t threads : {1U, 3U}) {
      const BacktestReport report = backtest(*plan, {.now = now, .threads = threads});
      CHECK(report.lines == 14'400);
      CHECK(report.bytes == fs::file_size(dir.path("old.log")));
      CHECK(report.last_line == now - hours(30) + milliseconds(250) * 14'399);
      CHECK(report.patterns[0].matches == 2058 + 240 - 35);
      CHECK(report.patterns[1].matches == 10 - 1);  // 14 is an error
      REQUIRE(report.rules.size() == 1);
      CHECK(report.rules[0].firings == 1);
      CHECK(report.rules[0].still_firing == 0);
      REQUIRE(report.rules[0].first_at);
      // More than 200 in a minute: within the tenth minute, and not for longer than another.
      CHECK(*report.rules[0].first_at > now - hours(30) + minutes(10));
      CHECK(*report.rules[0].first_at < now - hours(30) + minutes(11));
      CHECK(report.rules[0].firing > seconds(5));
      CHECK(report.rules[0].firing < minutes(1));
      CHECK(report.rules[0].unknown.empty());
      CHECK(report.notes.empty());
    }
  }
}

TEST_CASE("backtest: at the end of the log nothing is concluded from the silence behind it",
          "[run][backtest]") {
  const LogDir dir;
  const rules::Timestamp now = system_now();
  dir.append("old.log", hour_of_lines(now - hours(30)));
  const auto plan = plan_with(dir, "sum(count_over_time(p0[1m])) == 0", rules::PatternSet::Matcher::kFast);
  const BacktestReport report = backtest(*backtest_plan(*plan, "app", {dir.path("old.log")}), {.now = now});
  CHECK(report.rules[0].firings == 0);
}

TEST_CASE("backtest: a last line that is cut off before its time is one of the past as well", "[run][backtest]") {
  const LogDir dir;
  const rules::Timestamp now = system_now();
  dir.append("old.log", hour_of_lines(now - hours(30)) + "2026-");
  const auto plan = plan_with(dir, "sum(count_over_time(p0[1m])) == 0", rules::PatternSet::Matcher::kFast);
  const BacktestReport report = backtest(*backtest_plan(*plan, "app", {dir.path("old.log")}), {.now = now});
  CHECK(report.lines == 14'401);
  CHECK(report.last_line < now - hours(28));
  CHECK(report.rules[0].firings == 0);
}

TEST_CASE("backtest: whose logs these are must be plain, and what cannot be read is said",
          "[run][backtest]") {
  const LogDir dir;
  PlanSetting setting{.sources = {SourceSetting{.name = "api"}, SourceSetting{.name = "web"}}};
  const auto plan = make_plan(dir, setting);
  CHECK(backtest_plan(*plan, "", {"x"}).error().message ==
        "say with --source whose logs these are: api, web");
  CHECK(backtest_plan(*plan, "db", {"x"}).error().message ==
        "there is no source \"db\"; there are: api, web");
  dir.append("a.log", "one\ntwo");
  const BacktestReport report =
      backtest(*backtest_plan(*plan, "web", {dir.path("a.log"), dir.path("absent.log")}),
               {.now = system_now()});
  CHECK(report.lines == 2);  // the last has no end, and counts
  CHECK(report.patterns[0].matches == 2);
}

TEST_CASE("reader: a crew hands over the same lines in the same order", "[run][reader]") {
  std::string text;
  for (int i = 0; i < 60'000; ++i)
    text += "line " + std::to_string(i) + (i % 11 == 0 ? " error " + std::to_string(i % 3) : "") +
            (i % 1000 == 0 ? std::string(3000, 'x') : "") + "\n";
  std::vector<std::string> alone;
  for (const std::size_t threads : {1U, 2U, 5U}) {
    ReaderWorld world({.patterns = {"error (?P<kind>\\d)", "x{900}"}});
    world.threads = threads;
    world.chunk_bytes = 1024 * 1024;
    world.dir.append("a.log", text);
    world.settle();
    CHECK(world.counter("logbell_source_lines_total{source=\"app\"}") == 60'000);
    const std::vector<std::string> lines = world.lines();
    if (threads == 1) alone = lines;
    CHECK(lines.size() == 5455 + 60);
    CHECK(lines == alone);
    world.dir.append("a.log", text);
    world.settle();
    CHECK(world.lines() == alone);
  }
}

// Lines of all kinds, of which some match "error \\d".
std::string odd_lines(RandomPatterns& random, std::size_t bytes) {
  std::string text;
  while (text.size() < bytes) {
    const std::size_t kind = random.below(1000);
    text += "line " + std::to_string(text.size()) + std::string(random.below(400), '.');
    if (kind % 9 == 0) text += " error " + std::to_string(kind % 7);
    if (kind == 1) text += std::string(random.below(400'000), 'x') + " error 5";  // longer than a piece, or than may be
    if (kind == 2) text += std::string(40, '\0') + "error 6";
    if (kind == 3) text += std::string(random.below(300'000), '\n');
    text += kind % 5 == 0 ? "\r\n" : "\n";
  }
  return text;
}

TEST_CASE("reader: what a crew reads ahead is handed over as if it were read in its turn", "[run][reader]") {
  for (const std::uint64_t seed : {1U, 2U}) {
    std::vector<std::vector<SeenLine>> by_threads;
    for (const std::size_t threads : {1U, 2U, 3U}) {
      RandomPatterns random(seed);
      ReaderWorld world({.patterns = {"error (?P<kind>\\d)", "line \\d*77\\b"}});
      world.threads = threads;
      world.chunk_bytes = 520 * 1024;  // two pieces
      world.dir.append("a.log", odd_lines(random, 4'500'000));
      if (seed % 2 == 0) world.dir.append("b.log", odd_lines(random, 2'500'000));
      world.settle();
      if (seed % 2 == 1) {
        // Other patterns from some chunk on.
        world.dir.append("a.log", odd_lines(random, 4'000'000));
        for (int i = 0; i < 5; ++i)
          world.step();
        world.reload({.patterns = {"error (?P<kind>\\d)", "line \\d*88\\b"}, .generation = 2});
      }
      world.dir.append("a.log", "the last error 1");
      world.settle();
      world.pass(minutes(1));
      by_threads.push_back(std::exchange(world.seen, {}));
      CHECK(world.counter("logbell_source_lines_truncated_total{source=\"app\"}") > 0);
      CHECK(world.counter("logbell_source_nul_bytes_skipped_total{source=\"app\"}") > 0);
    }
    for (const std::vector<SeenLine>& lines : by_threads) {
      INFO("seed " << seed);
      REQUIRE(lines.size() == by_threads[0].size());
      for (std::size_t i = 0; i < lines.size(); ++i) {
        const SeenLine& line = lines[i];
        const SeenLine& alone = by_threads[0][i];
        REQUIRE((line.text == alone.text && line.pattern == alone.pattern && line.labels == alone.labels));
        if (line.generation != alone.generation) FAIL("another plan matched " << line.text.substr(0, 80));
      }
    }
  }
}

TEST_CASE("reader: a file that is cut while a crew reads it ahead loses nothing of what is written then",
          "[run][reader]") {
  RandomPatterns random(5);
  ReaderWorld world({.patterns = {"error (?P<kind>\\d)"}});
  world.threads = 2;
  world.chunk_bytes = 520 * 1024;
  world.dir.append("a.log", odd_lines(random, 5'000'000));
  for (int i = 0; i < 6; ++i)
    REQUIRE(world.step().more);
  const std::size_t before = world.lines().size();
  CHECK(before > 0);
  SECTION("to nothing") {
    world.dir.write("a.log", "written then: error 7\n");
  }
  SECTION("and grows again beyond where it was") {
    std::string text = "written then: error 7\n";
    while (text.size() < 5'500'000)
      text += "it has never held anything as good as this before\n";
    world.dir.write("a.log", text);
  }
  SECTION("and another one has its name") {
    world.dir.rename("a.log", "a.log.1");
    world.dir.append("a.log", "written then: error 7\n");
  }
  world.settle();
  world.pass(seconds(1));
  const Texts lines = world.lines();
  REQUIRE_FALSE(lines.empty());
  CHECK(lines.back() == "written then: error 7");
  CHECK(std::count(lines.begin(), lines.end(), "written then: error 7") == 1);
}

}  // namespace
}  // namespace logbell::tests

// Backtests, and a reader with a crew: the same whoever helps.
#include "engine/run/backtest.h"

#include <string>

#include "tests/engine/run/reader_world.h"

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
      const BacktestReport report = backtest(*plan, now, threads);
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
  const BacktestReport report = backtest(*backtest_plan(*plan, "app", {dir.path("old.log")}), now);
  CHECK(report.rules[0].firings == 0);
}

TEST_CASE("backtest: a last line that is cut off before its time is one of the past as well", "[run][backtest]") {
  const LogDir dir;
  const rules::Timestamp now = system_now();
  dir.append("old.log", hour_of_lines(now - hours(30)) + "2026-");
  const auto plan = plan_with(dir, "sum(count_over_time(p0[1m])) == 0", rules::PatternSet::Matcher::kFast);
  const BacktestReport report = backtest(*backtest_plan(*plan, "app", {dir.path("old.log")}), now);
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
      backtest(*backtest_plan(*plan, "web", {dir.path("a.log"), dir.path("absent.log")}), system_now());
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

}  // namespace
}  // namespace logbell::tests

// What a backtest counts of values, spans of time, timelines and pages: pure parts, each against something
// simpler.
#include "engine/run/backtest_values.h"

#include <cmath>
#include <map>
#include <random>
#include <set>
#include <string>

#include <catch2/catch.hpp>

#include "engine/core/alerts.h"
#include "engine/run/backtest_compare.h"
#include "engine/run/backtest_page.h"
#include "engine/run/timeline.h"

namespace logbell::tests {
namespace {

using engine::ActiveAlerts;
using engine::BacktestComparison;
using engine::BacktestReport;
using engine::Compared;
using engine::compared_by;
using engine::ElementFirings;
using engine::Levels;
using engine::TimeBuckets;
using rules::AlertState;
using rules::Duration;
using rules::Expr;
using rules::Timestamp;
using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;

Timestamp ms(std::int64_t at) {
  return rules::from_unix_ms(at);
}

// --- how often each threshold would have fired

// A value over time, as it changes.
using Steps = std::map<std::int64_t, double>;

// By the alert's own states, at every moment at which something can change.
std::uint64_t firings_of(const Steps& steps, double threshold, Duration for_time, Duration keep,
                         std::int64_t end) {
  ActiveAlerts alerts(for_time, keep);
  std::vector<engine::Step> out;
  double value = -1;
  for (std::int64_t at = 0; at <= end; ++at) {
    const auto change = steps.find(at);
    if (change != steps.end()) value = change->second;
    const bool holds = !steps.empty() && at >= steps.begin()->first && value > threshold;
    alerts.step(ms(at), holds ? std::vector<engine::Sample>{{{}, value}} : std::vector<engine::Sample>{}, {},
                out);
  }
  return static_cast<std::uint64_t>(std::count_if(
      out.begin(), out.end(), [](const engine::Step& step) { return step.to == AlertState::kFiring; }));
}

std::uint64_t counted(const Levels& levels, double threshold) {
  std::uint64_t count = 0;
  for (const auto& [level, firings] : levels.counts()) {
    if (level <= threshold) count = firings;
  }
  return count;
}

TEST_CASE("backtest_values: for every threshold at once, as often as the alert itself would have fired",
          "[run][backtest]") {
  std::mt19937 random(7);
  const auto below = [&](int bound) { return static_cast<int>(random() % static_cast<unsigned>(bound)); };
  bool some = false;
  for (int round = 0; round < 300; ++round) {
    INFO("round " << round);
    const Duration for_time(below(3) == 0 ? 0 : below(40));
    const Duration keep(below(3) == 0 ? 0 : below(40));
    const std::int64_t end = 400;
    Steps steps;
    for (std::int64_t at = below(20); at < end; at += 1 + below(round % 2 == 0 ? 6 : 30))
      steps[at] = below(6);
    Levels levels;
    ElementFirings element(for_time, keep);
    for (const auto& [at, value] : steps)
      element.change(ms(at), value, levels);
    element.end(ms(end), levels);
    for (const double threshold : {-1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0}) {
      INFO("for " << for_time.count() << " keep " << keep.count() << " > " << threshold);
      const std::uint64_t expected = firings_of(steps, threshold, for_time, keep, end);
      some = some || expected > 2;
      REQUIRE(counted(levels, threshold) == expected);
    }
  }
  CHECK(some);
}

TEST_CASE("backtest_values: of too many values three digits are kept, in their order", "[run][backtest]") {
  Levels levels;
  for (int i = 0; i < 10'000; ++i)
    levels.rise(0, 1 + i / 1e4);
  CHECK(levels.is_rounded());
  CHECK(levels.counts().size() <= 102);
  CHECK(counted(levels, 1.5) <= 5000);
  CHECK(counted(levels, 1.5) >= 4900);
  CHECK(counted(levels, 0) == 10'000);
  CHECK(counted(levels, 2) == 0);
}

TEST_CASE("backtest_values: of too many values no threshold is said to fire less often than it did", "[run][backtest]") {
  std::mt19937 random(3);
  Levels levels;
  std::vector<std::pair<double, double>> rises;
  for (int i = 0; i < 6000; ++i) {
    const double low = static_cast<double>(random() % 2'000'000) / 1000 - 700;
    rises.emplace_back(low, low + static_cast<double>(random() % 90'000) / 1000);
    levels.rise(rises.back().first, rises.back().second);
  }
  REQUIRE(levels.is_rounded());
  for (const auto& [level, firings] : levels.counts()) {
    const auto did = std::count_if(rises.begin(), rises.end(), [&, &level = level](const auto& rise) {
      return rise.first <= level && level < rise.second;
    });
    INFO(level);
    REQUIRE(firings >= static_cast<std::uint64_t>(did));
  }
}

TEST_CASE("backtest_values: what a rule compares with what", "[run][backtest]") {
  const std::vector<rules::PatternSpec> patterns = [] {
    rules::PatternSpec pattern;
    pattern.name = "x";
    rules::PatternSpec other = pattern;
    other.name = "y";
    return std::vector<rules::PatternSpec>{pattern, other};
  }();
  struct Row {
    const char* expr;
    const char* value;
    const char* op;
    double threshold;
    const char* why;
  };
  const Row row = GENERATE(values<Row>({
      {"count_over_time(x[1m]) > 3", "count_over_time(x[1m])", ">", 3, ""},
      {"3 < count_over_time(x[1m])", "count_over_time(x[1m])", ">", 3, ""},
      {"(count_over_time(x[1m]) <= (2))", "count_over_time(x[1m])", "<=", 2, ""},
      {"count_over_time(x[1m]) == 0", "count_over_time(x[1m])", "==", 0,
       "`==` has no threshold that could be"},
      {"count_over_time(x[1m]) > 3 and count_over_time(y[1m]) > 7", "count_over_time(x[1m])", ">", 3,
       "joined with `and`"},
      {"count_over_time(x[1m]) > count_over_time(y[1m])", "count_over_time(x[1m])", ">", NAN,
       "with an expression"},
      {"absent_over_time(x[1m])", "", "", NAN, "no comparison with a number"},
  }));
  INFO(row.expr);
  const auto parsed = rules::parse_expr(row.expr);
  REQUIRE(parsed);
  const auto bound = rules::bind_expr(*parsed, patterns);
  REQUIRE(bound);
  const Compared compared = compared_by(*bound);
  CHECK((compared.value == nullptr ? "" : rules::format_expr(*compared.value)) == row.value);
  if (*row.value != '\0') CHECK(engine::text_of(compared.op) == row.op);
  CHECK(compared.threshold.has_value() == !std::isnan(row.threshold));
  if (compared.threshold) CHECK(*compared.threshold == row.threshold);
  CHECK_THAT(compared.no_threshold, Catch::Contains(row.why));
  CHECK(compared.no_threshold.empty() == (*row.why == '\0'));
}

// --- spans of time

struct Sum {
  Duration time{0};
  int count = 0;
  void add(const Sum& later) {
    time += later.time;
    count += later.count;
  }
};

TEST_CASE("time_buckets: however long the time, as many spans, and nothing is lost", "[run][backtest]") {
  TimeBuckets<Sum> buckets(16, seconds(1));
  std::mt19937 random(3);
  Timestamp at = rules::from_unix_ms(1'700'000'000'123);
  Duration all{0};
  int count = 0;
  for (int i = 0; i < 500; ++i) {
    const Duration length(random() % 5'000);
    buckets.over(at, at + length, [](Sum& sum, Duration part) { sum.time += part; });
    ++buckets.at(at).count;
    all += length;
    ++count;
    REQUIRE(buckets.buckets().size() <= 16);
    at += Duration(random() % 20'000);
  }
  Sum sum;
  for (const Sum& bucket : buckets.buckets()) {
    sum.add(bucket);
    CHECK(bucket.time <= buckets.width() * 500);
  }
  CHECK(sum.time == all);
  CHECK(sum.count == count);
  CHECK(buckets.begin_of(0).time_since_epoch() % buckets.width() == Duration(0));
  // What is earlier than the first counts there; one span is as wide as the others.
  buckets.at(rules::from_unix_ms(0)).count = 1000;
  CHECK(buckets.buckets().front().count == 1000);
}

TEST_CASE("timeline: a column is as high as the part of it that fired", "[run][backtest]") {
  TimeBuckets<BacktestReport::Span> spans(1024);
  const Timestamp from = ms(0);
  const auto fire = [&](Timestamp begin, Timestamp end) {
    ++spans.at(begin).firings;
    spans.over(begin, end, [](BacktestReport::Span& span, Duration part) { span.firing += part; });
  };
  fire(from + seconds(100), from + seconds(200));       // a whole column
  fire(from + seconds(350), from + seconds(400));       // half of one
  fire(from + seconds(500), from + Duration(500'001));  // a moment
  CHECK(engine::timeline(spans, from, from + seconds(600), 6, false) == "·█·▄·▁");
  CHECK(engine::timeline(spans, from, from + seconds(600), 6, true) == ".#.-._");
  CHECK(engine::timeline(spans, from, from + seconds(600), 0, true).empty());
  CHECK(engine::timeline(spans, from, from, 6, true).empty());
}

// --- two configurations

rules::AlertingRule rule_over(const std::string& name, const std::string& expr,
                              const std::vector<rules::PatternSpec>& patterns) {
  rules::AlertingRule rule;
  rule.name = name;
  rule.expr = *rules::bind_expr(*rules::parse_expr(expr), patterns);
  return rule;
}

BacktestReport::Episode episode(const rules::Labels& labels, int from, std::optional<int> to) {
  BacktestReport::Episode one{labels, ms(from * 1000), std::nullopt, 5};
  if (to) one.resolved_at = ms(*to * 1000);
  return one;
}

TEST_CASE("backtest_compare: an alert of both at times that overlap is one, whatever other labels it has",
          "[run][backtest]") {
  rules::Plan plan_a;
  plan_a.patterns.resize(1);
  plan_a.patterns[0].name = "x";
  plan_a.patterns[0].labels = {"queue"};
  rules::Plan plan_b = plan_a;
  plan_a.rules = {rule_over("Queue", "sum by (queue) (count_over_time(x[1m])) > 3", plan_a.patterns),
                  rule_over("Gone", "sum(count_over_time(x[1m])) > 3", plan_a.patterns)};
  plan_b.rules = {rule_over("Queue", "sum by (queue) (count_over_time(x[1m])) > 5", plan_b.patterns),
                  rule_over("New", "sum(count_over_time(x[1m])) > 9", plan_b.patterns)};
  BacktestReport a;
  a.rules.resize(2);
  a.rules[0].name = "Queue";
  a.rules[0].episodes = {episode({{"queue", "a"}, {"severity", "warning"}}, 10, 20),
                         episode({{"queue", "b"}, {"severity", "warning"}}, 10, 20),
                         episode({{"queue", "a"}, {"severity", "warning"}}, 30, std::nullopt)};
  a.rules[0].firings = 3;
  a.rules[1].name = "Gone";
  a.rules[1].episodes = {episode({}, 1, 2)};
  a.rules[1].firings = 1;
  a.sinks = {{.name = "ops", .messages = 7, .days = {}}};
  BacktestReport b;
  b.rules.resize(2);
  b.rules[0].name = "Queue";
  b.rules[0].episodes = {episode({{"queue", "a"}, {"severity", "page"}}, 12, 20),
                         episode({{"queue", "b"}, {"severity", "page"}}, 21, 22)};
  b.rules[0].firings = 2;
  b.rules[1].name = "New";
  b.sinks = {{.name = "ops", .messages = 4, .days = {}}, {.name = "page", .messages = 2, .days = {}}};

  const BacktestComparison both = engine::compare_backtests(plan_a, a, plan_b, b);
  REQUIRE(both.rules.size() == 3);
  const BacktestComparison::Rule& queue = both.rules[0];
  CHECK(queue.name == "Queue");
  REQUIRE(queue.both.size() == 1);
  CHECK(queue.both[0].a.fired_at == ms(10'000));
  CHECK(queue.both[0].b.fired_at == ms(12'000));
  REQUIRE(queue.only_a.size() == 2);
  CHECK(queue.only_a[0].labels.get("queue") == "b");
  CHECK(queue.only_a[1].fired_at == ms(30'000));
  REQUIRE(queue.only_b.size() == 1);
  CHECK(queue.only_b[0].fired_at == ms(21'000));
  CHECK_FALSE(queue.is_same());
  CHECK(both.rules[1].name == "Gone");
  CHECK_FALSE(both.rules[1].in_b);
  CHECK(both.rules[1].only_a.size() == 1);
  CHECK(both.rules[2].name == "New");
  CHECK_FALSE(both.rules[2].in_a);
  CHECK(both.complete);
  REQUIRE(both.sinks.size() == 2);
  CHECK(both.sinks[0].messages_a == 7);
  CHECK(both.sinks[0].messages_b == 4);
  CHECK(both.sinks[1].messages_a == 0);
  CHECK(engine::compare_backtests(plan_a, a, plan_a, a).rules[0].is_same());
  // Two short ones of B within a long one of A are no news.
  BacktestReport shorter = b;
  shorter.rules[0].episodes = {episode({{"queue", "a"}}, 11, 12), episode({{"queue", "a"}}, 15, 16),
                               episode({{"queue", "a"}}, 20, 21)};
  shorter.rules[0].firings = 3;
  const auto parts = engine::compare_backtests(plan_a, a, plan_b, shorter);
  REQUIRE(parts.rules[0].both.size() == 1);
  CHECK(parts.rules[0].both[0].firings_b == 2);
  CHECK(parts.rules[0].both[0].b.fired_at == ms(11'000));
  REQUIRE(parts.rules[0].only_b.size() == 1);
  CHECK(parts.rules[0].only_b[0].fired_at == ms(20'000));
  // More firings than were kept: that is said.
  a.rules[0].firings = 4;
  CHECK_FALSE(engine::compare_backtests(plan_a, a, plan_b, b).complete);
}

// --- the page

TEST_CASE("backtest_page: whatever a log says can only be shown", "[run][backtest]") {
  BacktestReport report;
  report.first_line = ms(0);
  report.last_line = ms(3'600'000);
  report.lines = 3;
  report.notes.push_back({engine::ReaderNote::Level::kError, "app", "<b>.log", "<i>no</i>"});
  const std::string evil = "</script><script>alert('x\")</script><img src=x onerror=alert(1)>&";
  BacktestReport::Rule& rule = report.rules.emplace_back();
  rule.name = "R<x>";
  rule.expr = "count_over_time(x[1m]) > 3";
  rule.value = "count_over_time(x[1m])";
  rule.op = ">";
  rule.threshold = 3;
  rule.firings = 1;
  rule.firing = rule.longest = minutes(1);
  rule.peak = BacktestReport::Peak{7, ms(60'000), {{"queue", evil}}, true};
  rule.top_values.push_back({"queue", {{evil, 9}}, 2});
  rule.episodes.push_back({{{"queue", evil}}, ms(60'000), ms(120'000), 7});
  BacktestReport::Span& span = rule.spans.at(ms(60'000));
  span.seen = true;
  span.least = 0;
  span.most = span.last = 7;
  rule.no_suggestion = "<none>";
  report.sinks.push_back(
      {.name = "ops<", .messages = 2, .days = {{std::chrono::floor<std::chrono::days>(ms(0)), 2}}});
  const std::string page = engine::backtest_page(report, true, "<c>.yaml");
  for (const char* bad : {"<script", "<img", "<b>", "<i>", "R<x>", "ops<\"", "<none>", "<c>", "alert('",
                          "http:", "https:", "url("})
    CHECK_THAT(page, !Catch::Contains(bad));
  CHECK_THAT(page, Catch::Contains("&lt;/script&gt;&lt;script&gt;alert(&#39;x&quot;)"));
  CHECK_THAT(page, Catch::Contains("default-src 'none'"));
  CHECK_THAT(page, Catch::Contains("<rect class=\"firing\""));
  CHECK_THAT(page, Catch::Contains("class=\"threshold\""));
  CHECK_THAT(page, Catch::Contains("class=\"band\""));
  // Every tag that opens is one of ours.
  const std::set<std::string> ours = {"html", "head",    "meta",    "title",  "style", "body", "h1",
                                      "h2",   "p",       "div",     "table",  "tr",    "th",   "td",
                                      "a",    "svg",     "rect",    "path",   "line",  "text", "code",
                                      "span", "section", "details", "summary"};
  for (std::size_t at = page.find('<'); at != std::string::npos; at = page.find('<', at + 1)) {
    const std::size_t begin = at + 1 + (page[at + 1] == '/' ? 1 : 0);
    const std::string tag =
        page.substr(begin, page.find_first_not_of("abcdefghijklmnopqrstuvwxyz123456789", begin) - begin);
    if (page[at + 1] == '!') continue;
    INFO(page.substr(at, 40));
    CHECK(ours.count(tag) == 1);
  }
  // A log without times has a page, too.
  BacktestReport nothing;
  CHECK_THAT(engine::backtest_page(nothing, false, "c"), Catch::Contains("No line says a time"));
}

}  // namespace
}  // namespace logbell::tests

// CountPrecision: what comparisons and windows of the past ask of a pattern's old matches.
#include "rules/count_precision.h"

#include <catch2/catch.hpp>

using namespace logbell::rules;
using namespace std::chrono_literals;

namespace {

CountPrecision of(const std::string& expr, const std::string& resolve_when = "") {
  PatternSpec x;
  x.name = "x";
  x.labels = {"a"};
  x.value = "v";
  PatternSpec y = x;
  y.name = "y";
  const std::vector<PatternSpec> patterns = {y, x};
  const auto bind = [&](const std::string& text) {
    const auto parsed = parse_expr(text);
    if (!parsed) FAIL(text << ": " << parsed.error().reason);
    const auto bound = bind_expr(*parsed, patterns);
    if (!bound) FAIL(text << ": " << bound.error().reason);
    return *bound;
  };
  AlertingRule rule;
  rule.expr = bind(expr);
  if (!resolve_when.empty()) rule.resolve_when = {bind(resolve_when), resolve_when, {}, {}};
  std::vector<CountPrecision> all;
  add_precision(rule, all);
  REQUIRE(all.size() == 2);
  return all[1];
}

}  // namespace

TEST_CASE("count precision: what a comparison with a number needs to be exact", "[rules][expr]") {
  const struct {
    const char* why;
    const char* expr;
    std::uint64_t exact;
  } rows[] = {
      {"one more than the number", "count_over_time(x[7d]) > 300", 301},
      {"the other way round", "300 < count_over_time(x[7d])", 301},
      {"a number that is no count", "count_over_time(x[7d]) > 2.5", 4},
      {"what is compared is calculated", "count_over_time(x[7d]) > (60 * 5)", 301},
      {"of a rate its window", "rate(x[1m]) > 3", 181},
      {"what grows with it", "sum(count_over_time(x[7d])) + count(count_over_time(y[1m])) > 10", 11},
      {"of what picks, too", "topk(3, max by (a) (count_over_time(x[7d]))) >= 10", 11},
      {"the largest", "count_over_time(x[7d]) > 300 and count_over_time(x[1h]) > 500", 501},
      {"of both sides", "count_over_time(y[1m]) > 3 unless count_over_time(x[7d]) > 5", 6},
      {"of none", "count_over_time(x[7d]) == 0", 1},
      {"it says whether it is so", "(count_over_time(x[7d]) > bool 20) * 3 > 1", 21},
      {"those that met another are compared again", "count_over_time(x[7d]) > 2 < 300", 301},
      {"what is added is none of them", "count_over_time(x[7d]) + 100 > 300", 201},
      {"nor what is taken away", "count_over_time(x[7d]) - 5 > 295", 301},
      {"numbers that are calculated", "count_over_time(x[7d]) > 3 * 10 ^ 2 + -(5 % 3)", 299},
      {"a window of the past is not exact", "count_over_time(x[1h] offset 1d) > 300", 0},
      {"one of a while ago is", "count_over_time(x[1h] offset 5m) > 300", 301},
      {"a share is none", "count_over_time(x[7d]) / count_over_time(y[7d]) > 0.5", 0},
      {"nor is a difference", "count_over_time(x[7d]) - count_over_time(y[7d]) > 3", 0},
      {"nor an average", "avg(count_over_time(x[7d])) > 3", 0},
      {"nor what is compared with a count", "count_over_time(x[7d]) > count_over_time(y[7d])", 0},
      {"values have no bound of it", "avg_over_time(x[7d]) > 300", 0},
      {"nor have keys", "distinct_over_time(\"v\", x[7d]) > 300", 0},
  };
  for (const auto& row : rows) {
    CAPTURE(row.why, row.expr);
    CHECK(of(std::string(row.expr) + " or count_over_time(y[1m]) > 1e6").exact == row.exact);
  }
  CHECK(of("count_over_time(x[7d]) > 300 or sum by (a) (count_over_time(y[1m])) > 1", "count_over_time(x[7d]) > 700").exact == 701);
}

TEST_CASE("count precision: windows that ended long ago, and those that did not", "[rules][expr]") {
  const struct {
    const char* why;
    const char* expr;
    Duration lag;
    Duration past;
    Duration past_reach;
  } rows[] = {
      {"now", "count_over_time(x[7d]) > 300", 0s, 0s, 0s},
      {"a while ago", "count_over_time(x[5m]) > 3 * count_over_time(x[5m] offset 5m)", 5min, 0s, 0s},
      {"a week ago", "count_over_time(x[5m]) > 3 * count_over_time(x[5m] offset 1w)", 0s, 5min, 168h + 5min},
      {"the shortest", "count_over_time(x[10m] offset 1d) > 3 * count_over_time(x[5m] offset 1w)", 0s, 5min, 168h + 5min},
      {"a baseline", "count_over_time(x[5m]) > 3 * baseline_over_time(x[5m], 1d, 7)", 0s, 5min, 168h + 5min},
      {"a baseline of near times", "count_over_time(x[5m]) > 3 * baseline_over_time(x[5m], 10m, 6)", 1h, 0s, 0s},
      {"looks", "m_of_n(count_over_time(x[5m]) > 3, 2, 5, 1m)", 4min, 0s, 0s},
      {"looks from near to far", "m_of_n(count_over_time(x[5m]) > 3, 2, 5, 1h)", 0s, 5min, 4h + 5min},
      {"values are looked at by themselves", "avg_over_time(x[5m] offset 1w) > 3", 0s, 0s, 0s},
  };
  for (const auto& row : rows) {
    CAPTURE(row.why, row.expr);
    const CountPrecision precision = of(std::string(row.expr) + " or count_over_time(y[1m]) > 1");
    CHECK(precision.lag == row.lag);
    CHECK(precision.past == row.past);
    CHECK(precision.past_reach == row.past_reach);
  }
}

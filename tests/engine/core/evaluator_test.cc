// Evaluator: what PromQL gives, and that nothing is called "never true" or of one polarity that is not.
#include "engine/core/evaluator.h"

#include <functional>
#include <random>

#include <catch2/catch.hpp>
#include <fmt/format.h>

#include "engine/core/rule_state.h"

using namespace logbell;
using engine::evaluate;
using engine::PatternWindow;
using engine::Sample;
using rules::Duration;
using rules::Expr;
using rules::ExprPtr;
using rules::from_unix_ms;

namespace {

std::vector<rules::PatternSpec> patterns() {
  std::vector<rules::PatternSpec> all(3);
  all[0].name = "errors";
  all[0].labels = {"queue", "zone"};
  all[1].name = "plain";
  all[1].value = "v";
  all[2].name = "other";
  return all;
}

struct World {
  std::vector<rules::PatternSpec> specs = patterns();
  std::vector<PatternWindow> windows;
  World() {
    windows.reserve(specs.size());
    for (const auto& spec : specs)
      windows.emplace_back(spec, std::chrono::minutes(1), true);
  }
  rules::Result<std::vector<Sample>> value(const Expr& expr, int at) const {
    return evaluate(expr, from_unix_ms(at),
                    [&](std::uint32_t index) -> const PatternWindow& { return windows[index]; });
  }
};

// The tree as parsed, with its patterns found and nothing judged.
ExprPtr bound_by_hand(const std::string& text, const std::vector<rules::PatternSpec>& specs) {
  const std::function<ExprPtr(const ExprPtr&)> bind = [&](const ExprPtr& from) -> ExprPtr {
    auto node = std::make_shared<Expr>(*from);
    if (node->left) node->left = bind(node->left);
    if (node->right) node->right = bind(node->right);
    for (ExprPtr& parameter : node->parameters)
      parameter = bind(parameter);
    while (node->kind == Expr::Kind::kRangeCall && specs[node->pattern_index].name != node->pattern)
      ++node->pattern_index;
    return node;
  };
  return bind(*rules::parse_expr(text));
}

}  // namespace

TEST_CASE("evaluator: labels of results are PromQL's", "[core][evaluator]") {
  World world;
  world.windows[0].add({"a", "eu"}, from_unix_ms(10), 3);
  world.windows[0].add({"b", "us"}, from_unix_ms(20), 1);
  const struct {
    const char* why;
    const char* text;
    std::vector<Sample> expected;
  } rows[] = {
      {"a comparison filters", "count_over_time(errors[1s]) > 1", {{{{"queue", "a"}, {"zone", "eu"}}, 3}}},
      {"on keeps what it matches on",
       "count_over_time(errors{zone=\"eu\"}[1s]) > on (queue) sum by (queue) (count_over_time(errors[1s])) - "
       "1",
       {{{{"queue", "a"}}, 3}}},
      {"ignoring drops",
       "count_over_time(errors{zone=\"eu\"}[1s]) == ignoring (zone) sum by (queue) "
       "(count_over_time(errors[1s])) "
       "> 1",
       {{{{"queue", "a"}}, 3}}},
      {"a set operator keeps the left side whole",
       "count_over_time(errors[1s]) and on (queue) sum by (queue) (count_over_time(errors[1s])) > 1",
       {{{{"queue", "a"}, {"zone", "eu"}}, 3}}},
      {"nothing summed is 0", "sum(count_over_time(errors{queue=\"z\"}[1s])) == 0", {{{}, 0}}},
      {"nothing summed by a label is nothing",
       "sum by (queue) (count_over_time(errors{queue=\"z\"}[1s])) == 0",
       {}},
      {"a whole selector counts 0",
       "count_over_time(errors{queue=\"z\",zone=\"z\"}[1s]) == 0",
       {{{{"queue", "z"}, {"zone", "z"}}, 0}}},
  };
  for (const auto& row : rows) {
    INFO(row.why);
    const auto parsed = rules::parse_expr(row.text);
    REQUIRE(parsed.has_value());
    const auto bound = rules::bind_expr(*parsed, world.specs);
    REQUIRE(bound.has_value());
    CHECK(world.value(**bound, 100) == row.expected);
  }
  // bind_expr() lets no such thing through; were it to, the reason is said.
  const ExprPtr many =
      bound_by_hand("sum(count_over_time(errors[1s])) > on () count_over_time(errors[1s])", world.specs);
  const auto value = world.value(*many, 100);
  REQUIRE_FALSE(value.has_value());
  CHECK(
      value.error().message ==
      "evaluate `sum(count_over_time(errors[1s])) > on () count_over_time(errors[1s])`: several elements on "
      "the right have the labels {}");
}

TEST_CASE("evaluator: functions of values at an instant are PromQL's", "[core][evaluator]") {
  World world;
  world.windows[0].add({"a", "eu"}, from_unix_ms(10), 3);
  world.windows[0].add({"b", "us"}, from_unix_ms(20), 1);
  world.windows[1].add({}, from_unix_ms(20), 8);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double inf = std::numeric_limits<double>::infinity();
  // Of one element without labels.
  const struct {
    const char* text;
    double expected;
  } rows[] = {
      {"abs(count_over_time(plain[1s]) - 10)", 2},
      {"ceil(count_over_time(plain[1s]) / 3)", 3},
      {"floor(-count_over_time(plain[1s]) / 3)", -3},
      {"round(count_over_time(plain[1s]) / 16)", 1},  // halves go up
      {"round(-count_over_time(plain[1s]) / 16)", 0},
      {"round(count_over_time(plain[1s]), 5)", 10},
      {"round(count_over_time(plain[1s]) / 7, 0.1)", 1.1},
      {"clamp(count_over_time(plain[1s]), 1, 5)", 5},
      {"clamp(count_over_time(plain[1s]), 9, 10)", 9},
      {"clamp(count_over_time(plain[1s]), NaN, 10)", nan},
      {"clamp_min(count_over_time(plain[1s]), 9)", 9},
      {"clamp_min(count_over_time(plain[1s]) * NaN, Inf)", inf},
      {"clamp_max(count_over_time(plain[1s]), 7)", 7},
      {"clamp_max(count_over_time(plain[1s]) * NaN, 7)", nan},
      {"sgn(count_over_time(plain[1s]))", 1},
      {"sgn(-count_over_time(plain[1s]))", -1},
      {"sgn(count_over_time(plain[1s]) - 8)", 0},
      {"sqrt(count_over_time(plain[1s]) * 2)", 4},
      {"sqrt(-count_over_time(plain[1s]))", nan},
      {"exp(count_over_time(plain[1s]) - 8)", 1},
      {"ln(count_over_time(plain[1s]) - 7)", 0},
      {"ln(count_over_time(plain[1s]) - 8)", -inf},
      {"log2(count_over_time(plain[1s]))", 3},
      {"log10(count_over_time(plain[1s]) + 992)", 3},
      {"vector(scalar(count_over_time(plain[1s])) + 1)", 9},
      {"vector(scalar(count_over_time(errors[1s])))", nan},               // two
      {"vector(scalar(count_over_time(errors{queue=\"z\"}[1s])))", nan},  // none
      {"vector(scalar(count_over_time(errors{queue=\"a\"}[1s])))", 3},
      {"vector(scalar(count_over_time(plain[1s])) > 7)", 1},
      {"vector(3)", 3},
  };
  for (const auto& row : rows) {
    INFO(row.text);
    const auto value = world.value(*bound_by_hand(row.text, world.specs), 100);
    REQUIRE(value.has_value());
    REQUIRE(value->size() == 1);
    CHECK(value->front().labels == rules::Labels{});
    if (std::isnan(row.expected)) {
      CHECK(std::isnan(value->front().value));
    } else {
      CHECK(value->front().value == Approx(row.expected).margin(1e-12));
    }
  }
  // Labels stay; a minimum above the maximum gives nothing.
  const auto kept =
      world.value(*bound_by_hand("clamp_max(count_over_time(errors[1s]), 2)", world.specs), 100);
  CHECK(*kept ==
        std::vector<Sample>{{{{"queue", "a"}, {"zone", "eu"}}, 2}, {{{"queue", "b"}, {"zone", "us"}}, 1}});
  CHECK(world.value(*bound_by_hand("clamp(count_over_time(errors[1s]), 3, 2)", world.specs), 100)->empty());
}

TEST_CASE("evaluator: functions over the values of a window are PromQL's", "[core][evaluator]") {
  World world;
  const double none = std::numeric_limits<double>::quiet_NaN();
  const double inf = std::numeric_limits<double>::infinity();
  const std::pair<int, double> values[] = {{10, 4}, {20, 1}, {20, 9}, {30, none}, {40, 2}};
  for (const auto& [at, number] : values)
    world.windows[1].add({}, from_unix_ms(at), 1, true, number);
  world.windows[0].add({"a", "eu"}, from_unix_ms(15), 1, true, -5);
  world.windows[0].add({"b", "us"}, from_unix_ms(16), 1);
  const struct {
    const char* text;
    double expected;
  } rows[] = {
      {"sum_over_time(plain[1s])", 16},
      {"avg_over_time(plain[1s])", 4},
      {"min_over_time(plain[1s])", 1},
      {"max_over_time(plain[1s])", 9},
      {"stdvar_over_time(plain[1s])", 9.5},
      {"stddev_over_time(plain[1s]) ^ 2", 9.5},
      {"quantile_over_time(0.5, plain[1s])", 3},
      {"quantile_over_time(0.9, plain[1s])", 7.5},
      {"quantile_over_time(-1, plain[1s])", -inf},
      {"quantile_over_time(1.1, plain[1s])", inf},
      {"quantile_over_time(scalar(count_over_time(other[1s])), plain[1s])", 1},
      {"first_over_time(plain[1s])", 4},
      {"last_over_time(plain[1s])", 2},
      {"count_over_time(plain[1s])", 5},              // lines, with a number or not
      {"last_over_time(plain[1s] offset 65ms)", 9},   // at 35
      {"sum_over_time(plain[70ms] offset 10ms)", 2},  // (20, 90]: from 20 it is out
      {"sum(sum_over_time(errors[1s]))", -5},
  };
  for (const auto& row : rows) {
    INFO(row.text);
    const auto value = world.value(*bound_by_hand(row.text, world.specs), 100);
    REQUIRE(value.has_value());
    REQUIRE(value->size() == 1);
    CHECK(value->front().value == Approx(row.expected).epsilon(1e-12));
  }
  // No value, no element: of a series that has none, and of a window.
  const auto sums = world.value(*bound_by_hand("sum_over_time(errors[1s])", world.specs), 100);
  CHECK(*sums == std::vector<Sample>{{{{"queue", "a"}, {"zone", "eu"}}, -5}});
  CHECK(world.value(*bound_by_hand("max_over_time(plain[50ms])", world.specs), 100)->empty());
  CHECK(world.value(*bound_by_hand("quantile_over_time(0.5, other[50ms])", world.specs), 100)->empty());
}

TEST_CASE("evaluator: group_left and group_right match many to one, as PromQL does", "[core][evaluator]") {
  World world;
  const rules::Labels a_eu{{"queue", "a"}, {"zone", "eu"}};
  const rules::Labels a_us{{"queue", "a"}, {"zone", "us"}};
  const rules::Labels b_eu{{"queue", "b"}, {"zone", "eu"}};
  world.windows[0].add({"a", "eu"}, from_unix_ms(10), 6);
  world.windows[0].add({"a", "us"}, from_unix_ms(10), 2);
  world.windows[0].add({"b", "eu"}, from_unix_ms(20), 5);
  const std::string errors = "count_over_time(errors[1s])";
  const std::string by_queue = "sum by (queue) (count_over_time(errors[1s]))";
  const struct {
    std::string text;
    std::vector<Sample> expected;
  } rows[] = {
      {errors + " / on (queue) group_left () " + by_queue, {{a_eu, 0.75}, {a_us, 0.25}, {b_eu, 1}}},
      {by_queue + " / ignoring (zone) group_right () " + errors, {{a_eu, 8.0 / 6}, {a_us, 4}, {b_eu, 1}}},
      {errors + " / on () group_left sum(" + errors + ")", {{a_eu, 6.0 / 13}, {a_us, 2.0 / 13}, {b_eu, 5.0 / 13}}},
      // What a comparison leaves has the value of its left side, whichever that is.
      {errors + " < on (queue) group_left () " + by_queue, {{a_eu, 6}, {a_us, 2}}},
      {by_queue + " > on (queue) group_right () " + errors, {{a_eu, 8}, {a_us, 8}}},
      {by_queue + " > bool on (queue) group_right () " + errors, {{a_eu, 1}, {a_us, 1}, {b_eu, 0}}},
      // Labels are taken over, or away where the one side has none.
      {by_queue + " * on (queue) group_left (zone) count_over_time(errors{zone=\"us\"}[1s])", {{a_us, 16}}},
      {"count_over_time(errors{zone=\"eu\"}[1s]) + on (queue) group_left (zone) label_less",
       {{{{"queue", "a"}}, 14}, {{{"queue", "b"}}, 10}}},
      {"(" + by_queue + " > 7) * on (queue) group_right () " + errors, {{a_eu, 48}, {a_us, 16}}},
      // Two elements of queue a, and one of them is left: no longer several.
      {by_queue + " * on (queue) group_left (zone) (" + errors + " > 3)", {{a_eu, 48}, {b_eu, 25}}},
  };
  for (const auto& row : rows) {
    INFO(row.text);
    std::string text = row.text;
    // A zone that the one side has in name alone.
    if (const std::size_t at = text.find("label_less"); at != std::string::npos)
      text.replace(at, 10, "(" + by_queue + " or count_over_time(errors{queue=\"z\"}[1s]))");
    const auto value = world.value(*bound_by_hand(text, world.specs), 100);
    REQUIRE(value.has_value());
    auto found = *value;
    std::sort(found.begin(), found.end(), [](const Sample& a, const Sample& b) { return a.labels < b.labels; });
    auto expected = row.expected;
    std::sort(expected.begin(), expected.end(), [](const Sample& a, const Sample& b) { return a.labels < b.labels; });
    CHECK(found == expected);
  }
  const auto failure = [&](const std::string& text) {
    const auto value = world.value(*bound_by_hand(text, world.specs), 100);
    return value ? std::string("none") : value.error().message;
  };
  using Catch::Contains;
  CHECK_THAT(failure(by_queue + " * on (queue) group_left (zone) " + errors),
             Contains("several elements on the right have the labels {queue=\"a\"}"));
  CHECK_THAT(failure(errors + " * on (queue) group_right (zone) " + by_queue),
             Contains("several elements on the left have the labels {queue=\"a\"}"));
  // What was told apart by its zone is so no more.
  CHECK_THAT(failure(errors + " * on () group_left (zone) vector(scalar(" + by_queue + "))"),
             Contains("several elements on the left have the labels {queue=\"a\"}"));
}

TEST_CASE("evaluator: aggregations are PromQL's", "[core][evaluator]") {
  World world;
  const rules::Labels a_eu{{"queue", "a"}, {"zone", "eu"}};
  const rules::Labels a_us{{"queue", "a"}, {"zone", "us"}};
  const rules::Labels b_eu{{"queue", "b"}, {"zone", "eu"}};
  world.windows[0].add({"a", "eu"}, from_unix_ms(10), 3);
  world.windows[0].add({"a", "us"}, from_unix_ms(10), 1);
  world.windows[0].add({"b", "eu"}, from_unix_ms(20), 5);
  const double inf = std::numeric_limits<double>::infinity();
  const struct {
    const char* text;
    std::vector<Sample> expected;
  } rows[] = {
      {"topk(2, count_over_time(errors[1s]))", {{b_eu, 5}, {a_eu, 3}}},
      {"topk(2.9, count_over_time(errors[1s]))", {{b_eu, 5}, {a_eu, 3}}},
      {"topk(9, count_over_time(errors[1s]))", {{b_eu, 5}, {a_eu, 3}, {a_us, 1}}},
      {"topk(0, count_over_time(errors[1s]))", {}},
      {"topk(scalar(count_over_time(other[1s])), count_over_time(errors[1s]))", {}},
      {"topk(NaN, count_over_time(errors[1s]))", {}},
      {"topk by (queue) (1, count_over_time(errors[1s]))", {{a_eu, 3}, {b_eu, 5}}},
      {"bottomk(1, count_over_time(errors[1s]))", {{a_us, 1}}},
      {"bottomk without (queue) (1, count_over_time(errors[1s]))", {{a_eu, 3}, {a_us, 1}}},
      {"bottomk(2, log2(count_over_time(errors[1s]) - 3))", {{a_eu, -inf}, {b_eu, 1}}},  // NaN comes last
      {"quantile(0.5, count_over_time(errors[1s]))", {{{}, 3}}},
      {"quantile(0.75, count_over_time(errors[1s]))", {{{}, 4}}},
      {"quantile by (queue) (0.25, count_over_time(errors[1s]))",
       {{{{"queue", "a"}}, 1.5}, {{{"queue", "b"}}, 5}}},
      {"quantile(-1, count_over_time(errors[1s]))", {{{}, -inf}}},
      {"quantile(1.5, count_over_time(errors[1s]))", {{{}, inf}}},
      {"quantile(0.5, count_over_time(errors{queue=\"z\"}[1s]))", {}},
      {"stdvar by (queue) (count_over_time(errors[1s]))", {{{{"queue", "a"}}, 1}, {{{"queue", "b"}}, 0}}},
      {"stddev(count_over_time(errors{zone=\"eu\"}[1s]))", {{{}, 1}}},
      {"group by (zone) (count_over_time(errors[1s]))", {{{{"zone", "eu"}}, 1}, {{{"zone", "us"}}, 1}}},
  };
  for (const auto& row : rows) {
    INFO(row.text);
    const auto value = world.value(*bound_by_hand(row.text, world.specs), 100);
    REQUIRE(value.has_value());
    CHECK(*value == row.expected);
  }
}

TEST_CASE("evaluator: what is refused as never true has no value, and polarity holds", "[core][evaluator]") {
  std::mt19937_64 random(42);  // NOLINT(cert-msc51-cpp): the same run every time
  const auto pick = [&](int n) { return static_cast<int>(random() % static_cast<std::uint64_t>(n)); };
  // Division is left out below where DESIGN.md decides its polarity rather than arithmetic.
  std::function<std::string(int, bool)> number = [&](int depth, bool divide) -> std::string {
    const char* names[] = {"plain", "other"};
    if (depth == 0 || pick(3) == 0) {
      // What is infinite becomes NaN in the middle of its way: polarity is not asked of it.
      if (divide && pick(40) == 0) return pick(2) == 0 ? "NaN" : "Inf";
      if (pick(3) == 0) return std::to_string(pick(5) - 1);
      if (pick(6) == 0) {
        const char* over[] = {"sum", "avg", "min", "max", "stddev", "first", "last"};
        return std::string(over[pick(7)]) + "_over_time(plain[" + std::to_string(10 * (1 + pick(3))) + "ms])";
      }
      if (pick(8) == 0) return "baseline_over_time(plain[10ms], " + std::to_string(10 + pick(20)) + "ms, 2)";
      const char* functions[] = {"count_over_time", "rate", "absent_over_time", "present_over_time"};
      return std::string(functions[pick(pick(3) == 0 ? 4 : 2)]) + "(" + names[pick(2)] + "[" +
             std::to_string(10 * (1 + pick(3))) + (pick(6) == 0 ? "ms] offset 10ms)" : "ms])");
    }
    const char* ops[] = {" + ", " - ", " * ", " > bool ", " == bool ", " <= bool ", " / ", " % ", " ^ "};
    const std::string left = number(depth - 1, divide);
    if (pick(6) == 0) {
      const std::string limit =
          pick(3) == 0 ? "scalar(" + number(0, divide) + ")" : std::to_string(pick(5) - 1);
      switch (pick(divide ? 12 : 9)) {
        case 0:
          return "abs(" + left + ")";
        case 1:
          return "ceil(" + left + ")";
        case 2:
          return "floor(" + left + " * 0.5)";
        case 3:
          return "round(" + left + (pick(2) == 0 ? ", 2)" : ")");
        case 4:
          return "clamp(" + left + ", " + limit + ", " + std::to_string(pick(5)) + ")";
        case 5:
          return (pick(2) == 0 ? "clamp_min(" : "clamp_max(") + left + ", " + limit + ")";
        case 6:
          return "sgn(" + left + ")";
        case 7:
          return "vector(scalar(" + left + ") + 1)";
        case 8:
          return "vector(scalar(" + left + ") > 1)";
        case 9:
          return "sqrt(" + left + ")";
        case 10:
          return (pick(2) == 0 ? "ln(" : "log2(") + left + ")";
        default:
          return "exp(" + left + ")";
      }
    }
    if (pick(8) == 0)
      return "(" + (pick(2) == 0 ? std::string("-") : left + ops[pick(divide ? 9 : 6)]) + left + ")";
    return "(" + left + ops[pick(divide ? 9 : 6)] + number(depth - 1, divide) + ")";
  };
  std::function<std::string(int, bool)> truth = [&](int depth, bool divide) -> std::string {
    if (depth == 0 || pick(2) == 0) {
      const char* compare[] = {" > ", " < ", " >= ", " <= ", " == ", " != "};
      const char* around[] = {"sum(", "sum(",     "avg(",           "max(",   "count(",
                              "(",    "topk(1, ", "quantile(0.3, ", "group(", "stddev("};
      const std::string left = around[pick(10)] + number(2, divide) + ")";
      // Now and then against another, or itself, or the other way round.
      const std::string right = pick(4) != 0   ? std::to_string(pick(6) - 2)
                                : pick(3) == 0 ? left
                                               : "sum(" + number(1, divide) + ")";
      const std::string one =
          pick(5) == 0 ? right + compare[pick(6)] + left : left + compare[pick(6)] + right;
      return pick(6) == 0 ? "sum(" + one + ") == " + std::to_string(pick(2)) : one;
    }
    // Plain conditions on few selectors, so that they come to speak of the same.
    const auto plain = [&]() -> std::string {
      const std::string selector =
          "(plain[" + std::to_string(10 * (1 + pick(3))) + (pick(4) == 0 ? "ms] offset 10ms)" : "ms])");
      if (pick(5) == 0) return (pick(2) == 0 ? "absent_over_time" : "present_over_time") + selector;
      const char* compare[] = {" > ", " < ", " >= ", " <= ", " == ", " != "};
      return "count_over_time" + selector + compare[pick(6)] + std::to_string(pick(5));
    };
    const char* ops[] = {" and ", " or ", " unless "};
    if (pick(8) == 0) return "m_of_n(" + plain() + ", " + std::to_string(1 + pick(3)) + ", 3, 10ms)";
    if (pick(2) == 0)
      return "(" + plain() + ops[pick(3)] + plain() +
             (pick(2) == 0 ? ops[pick(3)] + plain() : std::string()) + ")";
    return "(" + truth(depth - 1, divide) + ops[pick(3)] + truth(depth - 1, divide) + ")";
  };
  const auto specs = patterns();
  int refused = 0;
  int judged = 0;
  for (int round = 0; round < 6000; ++round) {
    const bool divide = round % 3 == 0;
    const std::string text = truth(2, divide);
    const auto parsed = rules::parse_expr(text);
    if (!parsed) continue;  // sum() of a number: not typed
    const auto bound = rules::bind_expr(*parsed, specs);
    ExprPtr expr;
    if (bound) {
      expr = *bound;
    } else {
      if (bound.error().reason.find("never") == std::string::npos || rules::range_calls(**parsed).empty())
        continue;
      ++refused;
      expr = bound_by_hand(text, specs);
    }
    INFO(text << (bound ? "" : ": " + bound.error().reason));
    World world;
    for (int i = 0; i < 12; ++i) {
      const auto before = world.value(*expr, 100);
      world.windows[1U + static_cast<std::size_t>(pick(2))].add({}, from_unix_ms(65 + pick(40)), 1, true,
                                                                pick(9) - 3);
      const auto after = world.value(*expr, 100);
      if (!before || !after) break;
      if (!bound) {
        REQUIRE(before->empty());
        continue;
      }
      if (divide) continue;
      ++judged;
      const rules::Polarity polarity = rules::polarity(*expr);
      if (before->empty() && !after->empty()) REQUIRE(polarity.presence);
      if (!before->empty() && after->empty()) REQUIRE(polarity.absence);
    }
  }
  CHECK(refused > 200);
  CHECK(judged > 10'000);
}

TEST_CASE("evaluator: what may not be true in a span of time has no value at any of its instants",
          "[core][evaluator]") {
  std::mt19937_64 random(7);  // NOLINT(cert-msc51-cpp): the same run every time
  const auto pick = [&](int n) { return static_cast<int>(random() % static_cast<std::uint64_t>(n)); };
  const std::function<std::string(int)> number = [&](int depth) -> std::string {
    static const char* const kAround[] = {
        "",       "sum",   "max",          "min",   "avg", "count", "sum by (queue) ", "max by (zone) ",
        "topk 2", "group", "quantile 0.4", "stddev"};
    static const char* const kCalls[] = {"count_over_time", "rate", "present_over_time", "absent_over_time"};
    static const char* const kNames[] = {"errors", "errors{queue=\"a\"}", "errors{queue=\"z\",zone=\"eu\"}",
                                         "plain", "other"};
    std::string text = std::string(kCalls[pick(pick(4) == 0 ? 4 : 2)]) + "(" + kNames[pick(5)] + "[" +
                       std::to_string(10 * (1 + pick(4))) + (pick(4) == 0 ? "ms] offset 25ms)" : "ms])");
    if (pick(3) == 0) {
      static const char* const kOver[] = {
          "sum_over_time(",    "avg_over_time(",           "min_over_time(",
          "max_over_time(",    "quantile_over_time(0.3, ", "stddev_over_time(",
          "stdvar_over_time(", "first_over_time(",         "last_over_time(",
          "avg_over_time(",    "quantile_over_time(0.8, "};
      text.replace(0, text.find('(') + 1, kOver[pick(11)]);
    }
    if (pick(8) == 0)
      text = std::string("baseline_over_time(") + kNames[pick(5)] + "[10ms], " + std::to_string(10 + pick(20)) +
             "ms, " + std::to_string(1 + pick(5)) + ")";
    const std::string around = kAround[pick(12)];
    const std::size_t parameter = around.find_first_of("0123456789");
    if (parameter != std::string::npos) {
      text = around.substr(0, parameter) + "(" + around.substr(parameter) + ", " + text + ")";
    } else if (!around.empty()) {
      text = around + "(" + text + ")";
    }
    static const char* const kOps[] = {" + ", " - ", " * ", " / "};
    static const char* const kInstant[] = {"abs(",  "ceil(", "floor(", "sgn(",
                                           "sqrt(", "exp(",  "round(", "log2("};
    if (depth > 0 && pick(4) == 0) text = kInstant[pick(8)] + text + ")";
    if (depth > 0 && pick(6) == 0)
      text = "clamp(" + text + ", " + std::to_string(pick(4) - 1) + ", " + std::to_string(pick(5)) + ")";
    while (depth > 0 && pick(3) == 0)
      text.insert(0, "(").append(kOps[pick(4)]).append(std::to_string(pick(7) - 2)).append(")");
    return text;
  };
  const std::function<std::string(int)> truth = [&](int depth) -> std::string {
    if (depth > 0 && pick(3) == 0) {
      static const char* const kOps[] = {" and ", " or ", " unless "};
      return "(" + truth(depth - 1) + kOps[pick(3)] + truth(depth - 1) + ")";
    }
    static const char* const kCompare[] = {" > ", " < ", " >= ", " <= ", " == ", " != "};
    // Sides of one element each, and the clock: a minute turns in the middle of it all.
    if (pick(6) == 0) {
      static const char* const kSingle[] = {
          "count_over_time(plain[20ms])",
          "count_over_time(plain[20ms] offset 20ms)",
          "sum(count_over_time(errors[30ms]))",
          "2 * count_over_time(plain[20ms])",
          "vector(scalar(rate(other[30ms])))",
          "count_over_time(plain[30ms]) / count_over_time(other[30ms])",
          "count_over_time(plain[20ms]) * sum(count_over_time(errors[30ms]))",
          "minute()",
          "vector(time() / 60)",
          "hour()"};
      return std::string(kSingle[pick(10)]) + kCompare[pick(6)] + kSingle[pick(10)];
    }
    if (depth > 0 && pick(6) == 0)
      return "m_of_n(" + number(1) + kCompare[pick(6)] + std::to_string(pick(4)) + ", " + std::to_string(1 + pick(3)) +
             ", 3, 15ms)" + (pick(3) == 0 ? " > 1" : "");
    const std::string threshold = pick(4) == 0 ? std::to_string(pick(400)) : std::to_string(pick(8) - 1);
    if (pick(5) == 0) return threshold + kCompare[pick(6)] + number(1);
    return number(1) + kCompare[pick(6)] + threshold;
  };
  const auto specs = patterns();
  int never = 0;
  int perhaps = 0;
  int elements = 0;
  for (int round = 0; round < 15'000; ++round) {
    const std::string text = truth(2);
    const auto parsed = rules::parse_expr(text);
    if (!parsed) continue;
    const ExprPtr expr = bound_by_hand(text, specs);
    World world;
    for (int i = pick(25); i > 0; --i) {
      const int at = 59'900 + pick(150);
      if (pick(2) == 0) {
        const std::vector<std::string> series{pick(2) == 0 ? "a" : "b", pick(2) == 0 ? "eu" : "us"};
        world.windows[0].add(series, from_unix_ms(at), 1 + static_cast<std::uint64_t>(pick(3)), true,
                             pick(9) - 2);
      } else {
        const double value = pick(4) == 0 ? std::numeric_limits<double>::quiet_NaN() : pick(9) - 2;
        world.windows[1U + static_cast<std::size_t>(pick(2))].add({}, from_unix_ms(at), 1, true, value);
      }
    }
    const int from = 59'900 + pick(140);
    const int to = from + 1 + pick(40);
    const auto window_of = [&](std::uint32_t index) -> const PatternWindow& { return world.windows[index]; };
    if (const auto steady = engine::steady_elements(*expr, from_unix_ms(from), from_unix_ms(to), window_of)) {
      elements += static_cast<int>(steady->size());
      for (int at = from + 1; at <= to; ++at) {
        INFO(text << " at " << at << " of " << from << " to " << to);
        const auto value = world.value(*expr, at);
        REQUIRE(value.has_value());
        std::set<rules::Labels> there;
        for (const Sample& sample : *value)
          there.insert(sample.labels);
        REQUIRE(there == *steady);
      }
    }
    if (engine::may_be_true(*expr, from_unix_ms(from), from_unix_ms(to), window_of)) {
      ++perhaps;
      continue;
    }
    ++never;
    for (int at = from + 1; at <= to; ++at) {
      INFO(text << " at " << at << " of " << from << " to " << to);
      const auto value = world.value(*expr, at);
      REQUIRE(value.has_value());
      REQUIRE(value->empty());
    }
  }
  CHECK(never > 500);
  CHECK(perhaps > 500);
  CHECK(elements > 200);
}

TEST_CASE("evaluator: bounds of averages and quantiles hold all that they are in a span, and are narrow",
          "[core][evaluator]") {
  std::mt19937_64 random(11);  // NOLINT(cert-msc51-cpp): the same run every time
  const auto pick = [&](int n) { return static_cast<int>(random() % static_cast<std::uint64_t>(n)); };
  int narrow = 0;
  for (int round = 0; round < 3'000; ++round) {
    World world;
    const int most = 1 + pick(100);
    for (int i = 20 + pick(60); i > 0; --i)
      world.windows[1].add({}, from_unix_ms(59'900 + pick(80)), 1, true, pick(most) - 3);
    static const char* const kCalls[] = {"avg_over_time(",
                                         "quantile_over_time(0, ",
                                         "quantile_over_time(0.1, ",
                                         "quantile_over_time(0.5, ",
                                         "quantile_over_time(0.99, ",
                                         "quantile_over_time(1, "};
    const std::string text = std::string(kCalls[pick(6)]) + "plain[30ms]" + (pick(4) == 0 ? " offset 7ms" : "") + ")";
    const ExprPtr expr = bound_by_hand(text, world.specs);
    const int from = 59'930 + pick(50);
    const int to = from + 1 + pick(35);
    const auto window_of = [&](std::uint32_t index) -> const PatternWindow& { return world.windows[index]; };
    const auto bounds = engine::value_bounds(*expr, from_unix_ms(from), from_unix_ms(to), window_of);
    REQUIRE(bounds);
    for (int at = from + 1; at <= to; ++at) {
      const auto value = world.value(*expr, at);
      REQUIRE(value.has_value());
      INFO(text << " at " << at << " of " << from << " to " << to);
      for (const Sample& sample : *value) {
        REQUIRE(sample.value >= bounds->first);
        REQUIRE(sample.value <= bounds->second);
      }
    }
    narrow += bounds->second - bounds->first < most / 2.0 ? 1 : 0;
  }
  CHECK(narrow > 600);
}

TEST_CASE("rule state: each turn of the clock is an instant, also where the clocks are turned",
          "[core][evaluator]") {
  World world;
  rules::AlertingRule rule;
  rule.name = "NoDataInTheMorning";
  rule.expr = *rules::bind_expr(
      *rules::parse_expr("count_over_time(plain[1m]) == 0 and on () hour() >= 2 and on () hour() < 4"),
      world.specs, rules::Numbers::kWritten, "Europe/Berlin");
  rule.polarity = rules::polarity(*rule.expr);
  engine::RuleInputs inputs;
  const auto fired = [&](const char* from, const char* to, bool at_once) {
    engine::RuleState state(
        rule, [&](std::uint32_t index) -> const PatternWindow& { return world.windows[index]; });
    const rules::Timestamp end = *rules::parse_rfc3339(to);
    inputs.clock = *rules::parse_rfc3339(from);
    inputs.watched_from = inputs.clock - std::chrono::minutes(5);
    state.restore_clock(inputs.clock);
    std::vector<engine::Step> steps;
    if (at_once) {
      inputs.clock = end;
      state.advance(inputs, false, steps);
    } else {
      // As in life: from one instant that is announced to the next.
      for (auto next = state.next_instant(inputs); next && *next <= end; next = state.next_instant(inputs)) {
        inputs.clock = *next;
        state.advance(inputs, false, steps);
      }
    }
    std::vector<std::string> text;
    for (const engine::Step& step : steps) {
      if (step.to != rules::AlertState::kPending)
        text.push_back(rules::format_rfc3339(step.at) + " " + std::string(rules::to_string(step.to)));
    }
    return text;
  };
  using Lines = std::vector<std::string>;
  for (const bool at_once : {true, false}) {
    // In winter two o'clock is one in UTC.
    CHECK(fired("2026-02-10T00:00:00Z", "2026-02-10T12:00:00Z", at_once) ==
          Lines{"2026-02-10T01:00:00Z firing", "2026-02-10T03:00:00Z resolved"});
    // There is no two o'clock on this day, and it is three at one.
    CHECK(fired("2026-03-29T00:00:00Z", "2026-03-29T12:00:00Z", at_once) ==
          Lines{"2026-03-29T01:00:00Z firing", "2026-03-29T02:00:00Z resolved"});
    // It is two for two hours.
    CHECK(fired("2026-10-24T23:30:00Z", "2026-10-25T12:00:00Z", at_once) ==
          Lines{"2026-10-25T00:00:00Z firing", "2026-10-25T03:00:00Z resolved"});
  }
  // Years without a line: day by day, and not one of them is left out.
  CHECK(fired("2020-01-01T00:00:00Z", "2026-01-01T00:00:00Z", true).size() == 2 * 2192);
}

TEST_CASE("evaluator: m_of_n has what held often enough", "[core][evaluator]") {
  World world;
  const auto at = [&](const std::string& text, int now) {
    const auto expr = rules::bind_expr(*rules::parse_expr(text), world.specs);
    REQUIRE(expr.has_value());
    return *world.value(**expr, now);
  };
  using Samples = std::vector<Sample>;
  // Of [10ms] more than one: at 100 and 110, not at 120, at 130.
  for (const int when : {95, 100, 105, 108, 121, 122})
    world.windows[0].add({"a", "eu"}, from_unix_ms(when), 1);
  world.windows[0].add({"b", "us"}, from_unix_ms(129), 2);
  const std::string holds = "count_over_time(errors[10ms]) > 1";
  const rules::Labels a{{"queue", "a"}, {"zone", "eu"}};
  const rules::Labels b{{"queue", "b"}, {"zone", "us"}};
  CHECK(at("m_of_n(" + holds + ", 3, 4, 10ms)", 130) == Samples{{a, 3}});
  CHECK(at("m_of_n(" + holds + ", 4, 4, 10ms)", 130).empty());
  CHECK(at("m_of_n(" + holds + ", 3, 3, 10ms)", 130).empty());
  CHECK(at("m_of_n(" + holds + ", 1, 2, 10ms)", 130) == Samples{{a, 1}, {b, 1}});
  CHECK(at("m_of_n(" + holds + ", 1, 1, 10ms)", 120).empty());
  CHECK(at("m_of_n(" + holds + ", 1, 4, 10ms) > 2", 130) == Samples{{a, 3}});
  CHECK(at("sum(m_of_n(" + holds + ", 1, 4, 10ms)) >= 4", 130) == Samples{{{}, 4}});
}

TEST_CASE("evaluator: a baseline is the mean of the windows that were watched, if they are enough", "[core][evaluator]") {
  World world;
  const auto at = [&](const std::string& text, int now) {
    return *world.value(*bound_by_hand(text, world.specs), now);
  };
  using Samples = std::vector<Sample>;
  // Of [10ms], 20 ms apart, before 1000: (970, 980], (950, 960], (930, 940], (910, 920].
  for (const auto& [when, count] : std::vector<std::pair<int, int>>{{970, 90}, {971, 4}, {980, 2}, {955, 3}, {931, 9}, {991, 70}})
    world.windows[1].add({}, from_unix_ms(when), static_cast<std::uint64_t>(count));
  const std::string four = "baseline_over_time(plain[10ms], 20ms, 4)";
  CHECK(at(four, 1000) == Samples{{{}, 4.5}});
  CHECK(at("baseline_over_time(plain[10ms], 20ms, 2)", 1000) == Samples{{{}, 4.5}});
  CHECK(at("baseline_over_time(plain[10ms], 20ms, 1)", 1000) == Samples{{{}, 6}});
  // Three of four were watched from their beginnings on: that is enough, and no more is looked at.
  world.windows[1].set_watched_from(from_unix_ms(930));
  CHECK(at(four, 1000) == Samples{{{}, 6}});
  // Two of four: it has no value.
  world.windows[1].set_watched_from(from_unix_ms(931));
  CHECK(at(four, 1000).empty());
  CHECK(at("count_over_time(plain[10ms]) > 3 * " + four, 1000).empty());
  CHECK(at("count_over_time(plain[10ms]) > 3 * baseline_over_time(plain[10ms], 20ms, 2)", 1000) == Samples{{{}, 70}});
  // Nobody watches.
  world.windows[1].set_watched_from(rules::Timestamp::max());
  CHECK(at("baseline_over_time(plain[10ms], 20ms, 1)", 1000).empty());
  World empty;
  empty.windows[1].set_watched_from(rules::Timestamp::max());
  const ExprPtr one = bound_by_hand("baseline_over_time(plain[10ms], 20ms, 1)", empty.specs);
  CHECK_FALSE(engine::next_change(*one, from_unix_ms(1000), [&](std::uint32_t index) -> const PatternWindow& {
                return empty.windows[index];
              }));
  // A series has a baseline from the moment on at which it was there so long before; one that is named in full has one.
  world.windows[0].add({"a", "eu"}, from_unix_ms(985), 8);
  CHECK(at("baseline_over_time(errors[10ms], 20ms, 2)", 1000).empty());
  CHECK(at("baseline_over_time(errors[10ms], 20ms, 2)", 1005) == Samples{{{{"queue", "a"}, {"zone", "eu"}}, 4}});
  CHECK(at("baseline_over_time(errors{queue=\"a\",zone=\"us\"}[10ms], 20ms, 2)", 1000) ==
        Samples{{{{"queue", "a"}, {"zone", "us"}}, 0}});
}

TEST_CASE("rule state: what looks at several instants is looked at whenever one of them can see something else",
          "[core][evaluator]") {
  std::mt19937_64 random(11);  // NOLINT(cert-msc51-cpp): the same run every time
  const auto pick = [&](int n) { return static_cast<int>(random() % static_cast<std::uint64_t>(n)); };
  int fired = 0;
  for (int round = 0; round < 300; ++round) {
    const std::string text =
        round % 5 == 0   ? "m_of_n(count_over_time(plain[20ms]) > 1, 2, 3, 15ms)"
        : round % 5 == 1 ? "count_over_time(plain[20ms]) > 2 * baseline_over_time(plain[20ms], 30ms, 4)"
        : round % 5 == 2 ? "baseline_over_time(errors[20ms], 25ms, 3) < 1"
        : round % 5 == 3 ? "m_of_n(count_over_time(plain[10ms] offset 5ms) == 0 and count_over_time(plain[60ms]) > 0, 2, 4, 7ms)"
                         : "m_of_n(count_over_time(errors[30ms]) >= 1 and on () minute() > 0, 3, 5, 20ms)";
    World world;
    rules::AlertingRule rule;
    rule.name = "Often";
    const auto bound = rules::bind_expr(*rules::parse_expr(text), world.specs);
    if (!bound) FAIL(text << ": " << bound.error().reason);
    rule.expr = *bound;
    rule.polarity = rules::polarity(*rule.expr);
    for (int i = pick(12); i >= 0; --i) {
      const int at = 59'900 + pick(200);
      world.windows[1].add({}, from_unix_ms(at), 1);
      world.windows[0].add({pick(2) == 0 ? "a" : "b", "eu"}, from_unix_ms(at + pick(3)), 1);
    }
    // Some of what is compared with was before anybody watched.
    for (PatternWindow& window : world.windows)
      window.set_watched_from(from_unix_ms(59'850 + pick(150)));
    engine::RuleInputs inputs;
    inputs.clock = from_unix_ms(59'900);
    inputs.watched_from = from_unix_ms(50'000);
    engine::RuleState state(rule,
                            [&](std::uint32_t index) -> const PatternWindow& { return world.windows[index]; });
    state.restore_clock(inputs.clock);
    std::vector<engine::Step> steps;
    // At once, or from one instant that is announced to the next.
    if (round % 2 == 0) {
      inputs.clock = from_unix_ms(60'400);
      state.advance(inputs, false, steps);
    } else {
      for (auto next = state.next_instant(inputs); next && *next <= from_unix_ms(60'400);
           next = state.next_instant(inputs)) {
        inputs.clock = *next;
        state.advance(inputs, false, steps);
      }
    }
    std::vector<std::string> found;
    for (const engine::Step& step : steps) {
      if (step.to != rules::AlertState::kPending)
        found.push_back(std::to_string(rules::to_unix_ms(step.at)) + step.alert.labels.format() +
                        std::string(rules::to_string(step.to)));
    }
    std::vector<std::string> expected;
    std::set<rules::Labels> before;
    for (int at = 59'901; at <= 60'400; ++at) {
      std::set<rules::Labels> now;
      const auto value = world.value(*rule.expr, at);
      REQUIRE(value.has_value());
      for (const Sample& sample : *value)
        now.insert(sample.labels);
      for (const rules::Labels& labels : before) {
        if (now.count(labels) == 0) expected.push_back(std::to_string(at) + labels.format() + "resolved");
      }
      for (const rules::Labels& labels : now) {
        if (before.count(labels) == 0) expected.push_back(std::to_string(at) + labels.format() + "firing");
      }
      before = std::move(now);
    }
    std::sort(found.begin(), found.end());
    std::sort(expected.begin(), expected.end());
    INFO(text << " in round " << round);
    REQUIRE(found == expected);
    fired += static_cast<int>(expected.size());
  }
  CHECK(fired > 300);
}

TEST_CASE("rule state: time() is looked at every minute", "[core][evaluator]") {
  World world;
  rules::AlertingRule rule;
  rule.name = "Late";
  rule.expr = *rules::bind_expr(
      *rules::parse_expr("count_over_time(plain[1m]) == 0 and vector(time()) % 300 >= 240"), world.specs);
  rule.polarity = rules::polarity(*rule.expr);
  engine::RuleState state(rule,
                          [&](std::uint32_t index) -> const PatternWindow& { return world.windows[index]; });
  const auto start = *rules::parse_rfc3339("2026-05-01T10:00:30Z");
  engine::RuleInputs inputs;
  inputs.clock = start;
  inputs.watched_from = start - std::chrono::hours(1);
  state.restore_clock(start);
  CHECK(state.next_instant(inputs) == start + std::chrono::seconds(30));
  inputs.clock = start + std::chrono::minutes(9);
  std::vector<engine::Step> steps;
  state.advance(inputs, false, steps);
  REQUIRE(steps.size() == 5);  // pending and firing, resolved, and again
  CHECK(rules::format_rfc3339(steps[1].at) == "2026-05-01T10:04:00Z");
  CHECK(rules::format_rfc3339(steps[2].at) == "2026-05-01T10:05:00Z");
  CHECK(rules::format_rfc3339(steps[4].at) == "2026-05-01T10:09:00Z");
}

TEST_CASE("rule state: a source watched since ever does not fire an absence of before there was a log",
          "[core][evaluator]") {
  World world;
  rules::AlertingRule rule;
  rule.name = "NoData";
  rule.expr = *rules::bind_expr(*rules::parse_expr("count_over_time(plain[1m]) == 0"), world.specs);
  rule.polarity = rules::polarity(*rule.expr);
  engine::RuleState state(rule,
                          [&](std::uint32_t index) -> const PatternWindow& { return world.windows[index]; });
  const auto now = from_unix_ms(1'777'629'600'000);
  world.windows[1].add({}, now - std::chrono::seconds(10), 1);
  engine::RuleInputs inputs;
  inputs.clock = now;
  inputs.watched_from = rules::kLongAgo;
  std::vector<engine::Step> steps;
  state.advance(inputs, false, steps);
  CHECK(steps.empty());
  CHECK_FALSE(state.unknown(inputs));
  inputs.clock = now + std::chrono::minutes(2);
  state.advance(inputs, false, steps);
  REQUIRE(steps.size() == 2);
  CHECK(steps[1].at == now + std::chrono::seconds(50));
}

TEST_CASE(
    "evaluator: what bind_expr lets through never meets many to one, and what it says cannot meet does not",
    "[core][evaluator]") {
  std::vector<rules::PatternSpec> specs(3);
  specs[0].name = "p";
  specs[1].name = "q";
  specs[1].labels = {"k"};
  specs[2].name = "r";
  specs[2].labels = {"k", "u"};
  std::mt19937_64 random(7);  // NOLINT(cert-msc51-cpp): the same run every time
  const auto pick = [&](int n) { return static_cast<int>(random() % static_cast<std::uint64_t>(n)); };
  std::function<std::string(int)> side = [&](int depth) -> std::string {
    const char* leaves[] = {"p",          "q",          "r",
                            "q{k=\"a\"}", "r{u=\"x\"}", "r{k=\"a\",u!=\"x\"}",
                            "q{k=\"\"}",  "r{u=\"\"}",  "r{k=\"b\",u=\"y\"}"};
    const int shape = depth == 0 ? 0 : pick(4);
    if (shape == 0) {
      const char* functions[] = {"count_over_time", "rate", "absent_over_time", "present_over_time"};
      return std::string(functions[pick(8) == 0 ? 2 + pick(2) : pick(2)]) + "(" + leaves[pick(9)] + "[50ms])";
    }
    if (shape == 1) {
      const char* aggregates[] = {"sum",           "sum by (k) ",  "max by (k, u) ", "min without (u) ",
                                  "count by (u) ", "group by (k) "};
      if (pick(6) == 0) return "topk by (k) (1, " + side(depth - 1) + ")";
      return aggregates[pick(6)] + ("(" + side(depth - 1) + ")");
    }
    const char* ops[] = {" + ", " / ", " > ", " != ", " and ", " unless ", " or "};
    const char* matching[] = {"", "", "on () ", "on (k) ", "on (k, u) ", "ignoring (u) ", "ignoring (k) "};
    return "(" + side(depth - 1) + ops[pick(7)] + matching[pick(7)] + side(depth - 1) + ")";
  };
  int accepted = 0;
  int apart = 0;
  int many = 0;
  for (int round = 0; round < 20'000; ++round) {
    const std::string text = side(2) + " >= 0";
    const auto parsed = rules::parse_expr(text);
    REQUIRE(parsed.has_value());
    const auto bound = rules::bind_expr(*parsed, specs);
    INFO(text << (bound ? "" : ": " + bound.error().reason));
    const auto refused_for = [&](const char* words) {
      return !bound && bound.error().reason.find(words) != std::string::npos;
    };
    if (refused_for("pairs one element with one")) ++many;
    // Deeper down other elements may fire all the same: only what stands on top is asked.
    const ExprPtr top = (*parsed)->left->kind == Expr::Kind::kParen ? (*parsed)->left->left : (*parsed)->left;
    const bool never = refused_for("it never gives anything") && bound.error().offset == top->offset;
    if (!bound && !never) continue;
    const ExprPtr expr = bound ? *bound : bound_by_hand(text, specs);
    std::vector<PatternWindow> windows;
    windows.reserve(specs.size());
    for (const auto& spec : specs)
      windows.emplace_back(spec, Duration(1000));
    for (int i = 0; i < 10; ++i) {
      const auto pattern = static_cast<std::size_t>(pick(3));
      std::vector<std::string> values;
      for (std::size_t label = 0; label < specs[pattern].labels.size(); ++label) {
        const char* some[] = {"a", "b", "x", "y", ""};
        // An empty value is no label: with it, what does not meet may.
        values.emplace_back(some[pick(never ? 4 : 5)]);
      }
      windows[pattern].add(values, from_unix_ms(60 + pick(60)), 1);
      const auto value = evaluate(*expr, from_unix_ms(100), [&](std::uint32_t index) -> const PatternWindow& {
        return windows[index];
      });
      if (never) {
        REQUIRE((!value || value->empty()));
        continue;
      }
      REQUIRE(value.has_value());
    }
    ++(never ? apart : accepted);
  }
  CHECK(accepted > 1000);
  CHECK(apart > 500);
  CHECK(many > 500);
}

TEST_CASE(
    "rule state: a time in which nothing changes is passed at once, and is as if each instant were looked at",
    "[core][evaluator]") {
  World world;
  rules::AlertingRule rule;
  rule.name = "Many";
  rule.expr = bound_by_hand("sum(count_over_time(plain[1m])) >= 3", world.specs);
  rule.polarity = {true, false};
  rule.for_ = std::chrono::seconds(20);
  rule.keep_firing_for = std::chrono::seconds(30);
  engine::RuleState state(rule,
                          [&](std::uint32_t index) -> const PatternWindow& { return world.windows[index]; });
  const auto start = from_unix_ms(1'777'629'600'000);
  engine::RuleInputs inputs;
  inputs.watched_from = start - std::chrono::minutes(5);
  const auto advance = [&](int seconds) {
    std::vector<engine::Step> steps;
    inputs.clock = start + std::chrono::seconds(seconds);
    state.advance(inputs, false, steps);
    return steps;
  };
  CHECK(advance(0).empty());
  // One a second for two minutes, taken in as one.
  for (int second = 1; second <= 120; ++second)
    world.windows[1].add({}, start + std::chrono::seconds(second), 1);
  auto steps = advance(120);
  REQUIRE(steps.size() == 2);
  CHECK(steps[0].at == start + std::chrono::seconds(3));
  CHECK(steps[1].at == start + std::chrono::seconds(23));  // when its `for` is over, not when somebody looks
  CHECK(steps[1].alert.value == 23);
  CHECK(state.alerts().all().begin()->second.value == 60);
  // Two of these in each second: it goes on, with the value of now.
  for (int second = 121; second <= 150; ++second)
    world.windows[1].add({}, start + std::chrono::seconds(second), 2);
  CHECK(advance(150).empty());
  CHECK(state.alerts().all().begin()->second.value == 90);
  // None for a minute, then some within the time that it is kept: it never ends; and then it does, on time.
  for (int second = 220; second <= 240; ++second)
    world.windows[1].add({}, start + std::chrono::seconds(second), 1);
  CHECK(advance(240).empty());
  steps = advance(600);
  REQUIRE(steps.size() == 1);
  // Two are left when those before 239 have gone; it is kept for half a minute more.
  CHECK(steps[0].at == start + std::chrono::seconds(238 + 60 + 30));
}

TEST_CASE("rule state: an evaluation that fails leaves the alerts alone, shows, and is tried again",
          "[core][evaluator]") {
  World world;
  rules::AlertingRule rule;
  rule.name = "Unequal";
  rule.expr = bound_by_hand(
      "count_over_time(errors[1m]) > on (queue) count_over_time(errors{zone=\"eu\"}[1s])", world.specs);
  rule.polarity = {true, true};
  engine::RuleState state(rule,
                          [&](std::uint32_t index) -> const PatternWindow& { return world.windows[index]; });
  const auto now = from_unix_ms(1'777'629'600'000);
  engine::RuleInputs inputs;
  inputs.watched_from = now - std::chrono::minutes(5);
  const auto advance = [&](int seconds) {
    std::vector<engine::Step> steps;
    inputs.clock = now + std::chrono::seconds(seconds);
    state.advance(inputs, false, steps);
    return steps.size();
  };
  world.windows[0].add({"a", "eu"}, now - std::chrono::seconds(1), 1);
  CHECK(advance(10) == 2);
  CHECK_FALSE(state.unknown(inputs));
  // A second zone: two elements on the left for one on the right.
  world.windows[0].add({"a", "us"}, now + std::chrono::seconds(11), 1);
  CHECK(advance(12) == 0);
  CHECK(state.unknown(inputs));
  CHECK(state.failures() > 0);
  CHECK(state.failure().find("several elements on the left have the labels {queue=\"a\"}") !=
        std::string::npos);
  REQUIRE(state.alerts().all().size() == 1);
  CHECK(state.alerts().all().begin()->second.state == rules::AlertState::kFiring);
  // Both are forgotten: there is nothing to fail over, and nothing that fires.
  world.windows[0] = PatternWindow(world.specs[0], std::chrono::minutes(1));
  CHECK(advance(13) == 1);
  CHECK_FALSE(state.unknown(inputs));
  CHECK(state.failure().empty());
}

namespace {

rules::ResolveWhen resolve_by_hand(const std::string& text, const World& world) {
  const rules::ExprPtr expr = bound_by_hand(text, world.specs);
  return {expr, text, rules::result_labels(*expr, world.specs), rules::polarity(*expr)};
}

}  // namespace

TEST_CASE("rule state: with resolve_when what fires ends when that holds for it, and not before",
          "[core][evaluator]") {
  World world;
  rules::AlertingRule rule;
  rule.name = "Many";
  rule.expr = bound_by_hand("sum by (queue) (count_over_time(errors[10s])) >= 3", world.specs);
  rule.polarity = {true, false};
  const auto windows = [&](std::uint32_t index) -> const PatternWindow& { return world.windows[index]; };
  const auto start = from_unix_ms(1'777'629'600'000);
  const auto at = [&](int seconds) { return start + std::chrono::seconds(seconds); };
  engine::RuleInputs inputs;
  inputs.watched_from = start - std::chrono::minutes(5);
  std::vector<std::string> said;
  std::optional<engine::RuleState> state;
  // To the next of its instants, and so on: as in life.
  const auto go_to = [&](int seconds) {
    std::vector<engine::Step> steps;
    if (state->clock() == rules::kLongAgo) {
      inputs.clock = start;
      state->advance(inputs, false, steps);
    }
    for (auto next = state->next_instant(inputs); next && *next <= at(seconds); next = state->next_instant(inputs)) {
      inputs.clock = *next;
      state->advance(inputs, false, steps);
    }
    inputs.clock = at(seconds);
    state->skip_to(inputs.clock);
    for (const engine::Step& step : steps) {
      if (step.to == rules::AlertState::kPending) continue;
      said.push_back(fmt::format("{}s {} {}", (step.at - start).count() / 1000, step.alert.labels.get("queue"),
                                 rules::to_string(step.to)));
    }
  };
  const auto three_of = [&](const char* queue, int second) {
    for (int i = 0; i < 3; ++i)
      world.windows[0].add({queue, "eu"}, at(second + i), 1);
  };
  using Lines = std::vector<std::string>;

  SECTION("its own element of the same labels ends each") {
    rule.resolve_when = resolve_by_hand("sum by (queue) (count_over_time(errors[30s])) < 1", world);
    state.emplace(rule, windows);
    three_of("a", 1);
    three_of("b", 21);
    go_to(100);
    CHECK(said == Lines{"3s a firing", "23s b firing", "33s a resolved", "53s b resolved"});
  }
  SECTION("one without labels ends all of them") {
    rule.resolve_when = resolve_by_hand("count_over_time(plain[5s]) > 0", world);
    state.emplace(rule, windows);
    three_of("a", 1);
    three_of("b", 1);
    world.windows[1].add({}, at(2), 1);   // before they fire
    world.windows[1].add({}, at(60), 1);  // when they would have ended long ago
    go_to(100);
    CHECK(said == Lines{"3s a firing", "3s b firing", "60s a resolved", "60s b resolved"});
  }
  SECTION("one queue's ends that one alone") {
    rule.resolve_when = resolve_by_hand("sum by (queue) (count_over_time(errors{queue=\"a\"}[20s])) < 1", world);
    state.emplace(rule, windows);
    three_of("a", 1);
    three_of("b", 1);
    go_to(100);
    CHECK(said == Lines{"3s a firing", "3s b firing", "23s a resolved"});
    CHECK(state->alerts().all().begin()->second.value == 3);  // as it last was
  }
  SECTION("what the capture left empty is no element for all") {
    rule.resolve_when = resolve_by_hand("sum by (queue) (count_over_time(errors[20s])) < 1", world);
    state.emplace(rule, windows);
    world.windows[0].add({"", "eu"}, start - std::chrono::seconds(40), 1);
    three_of("a", 1);
    go_to(22);
    CHECK(said == Lines{"3s a firing"});
  }
  SECTION("while expr has its element it goes on, whatever resolve_when says") {
    rule.resolve_when = resolve_by_hand("count_over_time(plain[1s]) == 0", world);
    state.emplace(rule, windows);
    three_of("a", 1);
    three_of("a", 9);
    go_to(100);
    CHECK(said == Lines{"3s a firing", "19s a resolved"});
  }
  SECTION("what is pending needs expr all the time") {
    rule.resolve_when = resolve_by_hand("count_over_time(plain[1m]) > 0", world);
    rule.for_ = std::chrono::seconds(9);
    state.emplace(rule, windows);
    three_of("a", 1);
    go_to(100);
    CHECK(said == Lines{"11s a inactive"});
  }
  SECTION("keep_firing_for runs while it holds without a break") {
    rule.resolve_when = resolve_by_hand("count_over_time(plain[5s]) > 0", world);
    rule.keep_firing_for = std::chrono::seconds(8);
    state.emplace(rule, windows);
    three_of("a", 1);
    world.windows[1].add({}, at(30), 1);  // until 35: not long enough
    world.windows[1].add({}, at(50), 1);
    world.windows[1].add({}, at(54), 1);  // until 59
    go_to(100);
    CHECK(said == Lines{"3s a firing", "58s a resolved"});
  }
  SECTION("a longer window of it need not be known to fire, and must be to end") {
    rule.resolve_when = resolve_by_hand("sum(count_over_time(errors[2m])) < 4", world);
    inputs.watched_from = start;
    state.emplace(rule, windows);
    three_of("a", 1);
    CHECK(state->next_instant(inputs) == std::nullopt);  // nobody has said where it is
    go_to(30);
    CHECK(said == Lines{"3s a firing"});
    CHECK(state->unknown(inputs));
    go_to(200);
    CHECK(said == Lines{"3s a firing", "120s a resolved"});
    CHECK_FALSE(state->unknown(inputs));
  }
  SECTION("one that rests on lines that come ends it at once") {
    rule.resolve_when = resolve_by_hand("count_over_time(plain[10m]) > 0", world);
    inputs.watched_from = start - std::chrono::seconds(20);
    state.emplace(rule, windows);
    three_of("a", 1);
    world.windows[1].add({}, at(40), 1);
    go_to(100);
    CHECK(said == Lines{"3s a firing", "40s a resolved"});
  }
  SECTION("what becomes known between two lines is looked at") {
    rule.resolve_when = resolve_by_hand("count_over_time(plain[1m]) == 0", world);
    inputs.watched_from = start - std::chrono::seconds(10);
    state.emplace(rule, windows);
    three_of("a", 1);
    go_to(12);
    CHECK(said == Lines{"3s a firing"});
    CHECK(state->held());
    inputs.watched_from = start - std::chrono::minutes(5);
    std::vector<engine::Step> steps;
    state->advance(inputs, false, steps);
    CHECK(steps.size() == 1);
  }
  SECTION("keep_firing_for goes on while it fails") {
    // It holds from the 13th second on; in the 20th it has two zones for one queue.
    rule.resolve_when = resolve_by_hand(
        "sum by (queue) (count_over_time(errors{zone=\"eu\"}[10s])) < 1 or on (queue) "
        "sum by (queue) (count_over_time(errors[1m])) < on (queue) "
        "present_over_time(errors{zone!=\"eu\"}[2s])",
        world);
    rule.resolve_when->labels = {"queue"};
    rule.keep_firing_for = std::chrono::seconds(20);
    state.emplace(rule, windows);
    three_of("a", 1);
    world.windows[0].add({"a", "us"}, at(20), 1);
    world.windows[0].add({"a", "ap"}, at(20), 1);
    go_to(21);
    CHECK(state->failure().find("several elements on the right") != std::string::npos);
    CHECK(state->unknown(inputs));
    go_to(32);
    CHECK_FALSE(state->unknown(inputs));
    CHECK(said == Lines{"3s a firing"});
    go_to(100);
    CHECK(said == Lines{"3s a firing", "33s a resolved"});
  }
  SECTION("keep_firing_for is over while it fails: it ends when it is known to hold, and not before") {
    rule.resolve_when = resolve_by_hand(
        "sum by (queue) (count_over_time(errors{zone=\"eu\"}[10s])) < 1 or on (queue) "
        "sum by (queue) (count_over_time(errors[1m])) < on (queue) "
        "present_over_time(errors{zone!=\"eu\"}[9s])",
        world);
    rule.resolve_when->labels = {"queue"};
    rule.keep_firing_for = std::chrono::seconds(10);
    state.emplace(rule, windows);
    three_of("a", 1);
    world.windows[0].add({"a", "us"}, at(20), 1);
    world.windows[0].add({"a", "ap"}, at(20), 1);
    go_to(100);
    CHECK(said == Lines{"3s a firing", "29s a resolved"});
  }
  SECTION("keep_firing_for goes on while nobody knows whether it holds") {
    rule.resolve_when = resolve_by_hand("sum by (queue) (count_over_time(errors[30s])) < 1", world);
    rule.keep_firing_for = std::chrono::seconds(50);
    state.emplace(rule, windows);
    three_of("a", 1);
    go_to(40);
    // It holds since the 33rd second. Now nothing is known of before: of expr it is again from the 50th on,
    // of this from the 70th.
    inputs.watched_from = at(40);
    go_to(69);
    CHECK(state->unknown(inputs));
    CHECK(said == Lines{"3s a firing"});
    go_to(200);
    CHECK(said == Lines{"3s a firing", "83s a resolved"});
  }
  SECTION("what is usual ends it once enough of it was watched") {
    rule.resolve_when = resolve_by_hand(
        "sum(count_over_time(errors[10s])) <= 2 * sum(baseline_over_time(errors[10s], 20s, 2))", world);
    inputs.watched_from = start;
    world.windows[0].set_watched_from(start);
    state.emplace(rule, windows);
    three_of("a", 1);
    // Of two windows before, two must be watched from end to end: the earlier ends 40 seconds ago.
    go_to(49);
    CHECK(said == Lines{"3s a firing"});
    CHECK(state->unknown(inputs));
    go_to(100);
    CHECK(said == Lines{"3s a firing", "50s a resolved"});
    CHECK_FALSE(state->unknown(inputs));
  }
  SECTION("what is above the usual holds it") {
    rule.resolve_when = resolve_by_hand(
        "sum(count_over_time(errors[10s])) < sum(baseline_over_time(errors[10s], 20s, 2))", world);
    world.windows[0].set_watched_from(*inputs.watched_from);
    state.emplace(rule, windows);
    three_of("a", 1);
    // Usual is none, until what fires here is it: from the 21st second on, 20 seconds later, half a line is.
    go_to(100);
    CHECK(said == Lines{"3s a firing", "21s a resolved"});
  }
  SECTION("a gap in what is usual ends nothing before enough was watched again") {
    rule.resolve_when = resolve_by_hand(
        "sum(count_over_time(errors[10s])) <= sum(baseline_over_time(errors[10s], 20s, 2))", world);
    state.emplace(rule, windows);
    world.windows[0].set_watched_from(start + std::chrono::seconds(5));
    inputs.watched_from = start + std::chrono::seconds(5);
    rule.keep_firing_for = std::chrono::seconds(0);
    three_of("a", 6);
    go_to(54);
    CHECK(said == Lines{"8s a firing"});
    go_to(100);
    CHECK(said == Lines{"8s a firing", "55s a resolved"});
  }
  SECTION("a failure of it ends nothing, and what begins begins") {
    rule.resolve_when = resolve_by_hand(
        "count_over_time(errors[1m]) > on (queue) count_over_time(errors{zone=\"eu\"}[1s])", world);
    rule.resolve_when->labels = {"queue"};
    state.emplace(rule, windows);
    three_of("a", 1);
    world.windows[0].add({"a", "us"}, at(5), 1);
    three_of("b", 20);
    go_to(60);
    CHECK(said == Lines{"3s a firing", "22s b firing"});
    CHECK(state->failure().find("several elements on the left") != std::string::npos);
  }
}

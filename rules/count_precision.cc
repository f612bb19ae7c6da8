#include "rules/count_precision.h"

#include <algorithm>
#include <cmath>
#include <optional>

namespace logbell::rules {

bool ends_in_past(const Expr& call) {
  return call.range_offset + (call.looks - 1) * call.again > CountPrecision::kMostLag;
}

namespace {

// How long before now its earliest window ends.
Duration last_end(const Expr& call) {
  return call.range_offset + (call.looks - 1) * call.again;
}

// Beyond it a double does not tell one match from the next.
constexpr double kMostExact = 9007199254740992;  // 2^53

std::optional<double> number_of(const Expr& expr) {
  switch (expr.kind) {
    case Expr::Kind::kNumber:
      return expr.number;
    case Expr::Kind::kParen:
      return number_of(*expr.left);
    case Expr::Kind::kBinary: {
      const std::optional<double> left = number_of(*expr.left);
      const std::optional<double> right = number_of(*expr.right);
      if (!left || !right) return std::nullopt;
      switch (expr.op) {
        case Expr::BinaryOp::kAdd:
          return *left + *right;
        case Expr::BinaryOp::kSub:
          return *left - *right;
        case Expr::BinaryOp::kMul:
          return *left * *right;
        case Expr::BinaryOp::kDiv:
          return *left / *right;
        case Expr::BinaryOp::kMod:
          return std::fmod(*left, *right);
        case Expr::BinaryOp::kPow:
          return std::pow(*left, *right);
        default:
          return std::nullopt;
      }
    }
    case Expr::Kind::kNegate: {
      const std::optional<double> inner = number_of(*expr.left);
      return inner ? std::optional(-*inner) : std::nullopt;
    }
    default:
      return std::nullopt;
  }
}

// Of what grows with each count in it: one that is known to be larger than `number` makes the whole larger. The same
// with max and min and those that pick, which give one of them.
void add_exact(const Expr& expr, double number, std::vector<CountPrecision>& all) {
  switch (expr.kind) {
    case Expr::Kind::kParen:
      return add_exact(*expr.left, number, all);
    case Expr::Kind::kAggregate: {
      const bool grows = expr.aggregation == Expr::Aggregation::kSum || expr.aggregation == Expr::Aggregation::kMax ||
                         expr.aggregation == Expr::Aggregation::kMin || expr.picks();
      if (grows) add_exact(*expr.left, number, all);
      return;
    }
    case Expr::Kind::kBinary: {
      const std::optional<double> left = number_of(*expr.left);
      const std::optional<double> right = number_of(*expr.right);
      if (expr.is_comparison() && !expr.return_bool) {
        // Those that meet it, with their values.
        if (right) add_exact(*expr.left, number, all);
      } else if (expr.op == Expr::BinaryOp::kSub) {
        if (right) add_exact(*expr.left, number + *right, all);
      } else if (expr.op == Expr::BinaryOp::kAdd) {
        if (!left) add_exact(*expr.left, number - right.value_or(0), all);
        if (!right) add_exact(*expr.right, number - left.value_or(0), all);
      }
      return;
    }
    case Expr::Kind::kRangeCall: {
      const bool rate = expr.function == Expr::RangeFunction::kRate;
      if (expr.asks_keys() || ends_in_past(expr) || (!rate && expr.function != Expr::RangeFunction::kCountOverTime)) return;
      const double count = rate ? number * std::chrono::duration<double>(expr.window).count() : number;
      if (!(count >= 0)) return;
      std::uint64_t& exact = all[expr.pattern_index].exact;
      exact = std::max(exact, static_cast<std::uint64_t>(std::ceil(std::min(count, kMostExact))) + 1);
      return;
    }
    default:
      return;
  }
}

void add_ends(const Expr& call, CountPrecision& precision) {
  if (!ends_in_past(call)) {
    precision.lag = std::max(precision.lag, last_end(call));
    return;
  }
  if (call.range_offset <= CountPrecision::kMostLag) precision.lag = std::max(precision.lag, call.range_offset);
  precision.past = precision.past > Duration(0) ? std::min(precision.past, call.window) : call.window;
  precision.past_reach = std::max(precision.past_reach, call.reach());
}

void add_precision(const Expr& expr, std::vector<CountPrecision>& of_patterns) {
  if (expr.kind == Expr::Kind::kRangeCall && !expr.asks_keys() && !expr.asks_values())
    add_ends(expr, of_patterns[expr.pattern_index]);
  if (expr.is_comparison()) {
    if (const std::optional<double> number = number_of(*expr.right)) add_exact(*expr.left, *number, of_patterns);
    if (const std::optional<double> number = number_of(*expr.left)) add_exact(*expr.right, *number, of_patterns);
  }
  for (const Expr* part : parts_of(expr))
    add_precision(*part, of_patterns);
}

}  // namespace

void add_precision(const AlertingRule& rule, std::vector<CountPrecision>& of_patterns) {
  if (rule.expr == nullptr) return;  // it was refused
  for (const Expr* call : range_calls(rule)) {
    if (call->pattern_index >= of_patterns.size()) of_patterns.resize(call->pattern_index + 1);
  }
  add_precision(*rule.expr, of_patterns);
  if (rule.resolve_when) add_precision(*rule.resolve_when->expr, of_patterns);
}

std::vector<CountPrecision> precision_of(const Plan& plan) {
  std::vector<CountPrecision> all(plan.patterns.size());
  for (const AlertingRule& rule : plan.rules)
    add_precision(rule, all);
  return all;
}

}  // namespace logbell::rules

// BacktestValues: what a rule compares, followed through old logs: how far it went, and how often it would
// have fired with any other threshold.
//
// Owned by the thread that backtests. A value is looked at between ingest() and tick(), where the windows
// still cover everything that the tick evaluates.
//
// How often an element would have fired is counted for every threshold at once. With v the element's value
// over time (-inf where there is none, negated where the rule asks for little): an alert with `for: d` begins
// where the least of v over [t-d, t] rises above the threshold, and with `keep_firing_for: k` it lasts as
// long as the most of v over (t-k, t] stays above it. So w = max(least, min(w before, most)) is above a
// threshold exactly while its alert fires, and each step of w from a up to b is a firing for the thresholds
// in [a, b). Extremes over a sliding window: D. Lemire, "Streaming maximum-minimum filter using no more than
// three comparisons per element" (2006). The recurrence is reconstruction by dilation of mathematical
// morphology (L. Vincent, 1993), in one dimension and one direction.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <set>
#include <string>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/core/evaluator.h"
#include "engine/run/backtest.h"
#include "rules/expr.h"
#include "rules/rule.h"
#include "rules/time.h"

namespace logbell::engine {

// What a rule compares with what.
struct Compared {
  rules::ExprPtr value;  // null: it compares nothing
  rules::Expr::BinaryOp op = rules::Expr::BinaryOp::kGt;
  std::optional<double> threshold;  // where it is a number
  std::string no_threshold;         // why another threshold cannot be proposed; "": it can
  bool wants_little() const { return op == rules::Expr::BinaryOp::kLt || op == rules::Expr::BinaryOp::kLe; }
};
// Of `a > 5 and b > 2` it is a and 5.
Compared compared_by(const rules::ExprPtr& expr);
// ">", "<=" …
std::string_view text_of(rules::Expr::BinaryOp comparison);

// How often something would have gone above each threshold.
class Levels {
 public:
  // Distinct values kept exactly; of more, three digits of each, and what is counted is no less than what was.
  static constexpr std::size_t kMostLevels = 4096;

  // It went from `low` up to `high`.
  void rise(double low, double high);
  // Above each of these values, and up to the next, it went so often; ascending.
  std::vector<std::pair<double, std::uint64_t>> counts() const;
  bool is_rounded() const { return rounded_; }

 private:
  enum class Towards { kLess, kMore };
  static double round(double value, Towards towards);
  std::map<double, std::int64_t> steps_;
  bool rounded_ = false;
};

// The least, or the most, of a value over the last `span` of time.
class SlidingExtreme {
 public:
  enum class Which { kLeast, kMost };
  SlidingExtreme(Which which, rules::Duration span) : which_(which), span_(span) {}

  using Steps = std::vector<std::pair<rules::Timestamp, double>>;
  // From `at` on it is `value`. Times never decrease. Adds what the extreme becomes, and when.
  void change(rules::Timestamp at, double value, Steps& out);
  void pass_to(rules::Timestamp at, Steps& out);

 private:
  struct Held {
    double value = 0;
    rules::Timestamp end = rules::Timestamp::max();  // it was so up to here
  };
  bool beats(double a, double b) const { return which_ == Which::kLeast ? a <= b : a >= b; }
  void drop_before(rules::Timestamp at, bool inclusive, Steps& out);

  Which which_;
  rules::Duration span_;
  std::deque<Held> held_;
};

// One element of a rule's value, for all thresholds at once.
class ElementFirings {
 public:
  ElementFirings(rules::Duration for_time, rules::Duration keep_firing_for)
      : least_(SlidingExtreme::Which::kLeast, for_time),
        most_(SlidingExtreme::Which::kMost, keep_firing_for) {}

  void change(rules::Timestamp at, double value, Levels& levels);
  void end(rules::Timestamp at, Levels& levels);

 private:
  void take(const SlidingExtreme::Steps& least, const SlidingExtreme::Steps& most, Levels& levels);
  void settle(Levels& levels);

  SlidingExtreme least_;
  SlidingExtreme most_;
  double least_now_ = -std::numeric_limits<double>::infinity();
  double most_now_ = -std::numeric_limits<double>::infinity();
  double fires_ = -std::numeric_limits<double>::infinity();  // above it no threshold's alert fires
  std::optional<rules::Timestamp> unsettled_;
};

class BacktestValues {
 public:
  // Elements of one rule that are looked at between two ticks at most: beyond it, now and then. That is some
  // tenth of a second.
  static constexpr std::size_t kMostLooks = 250'000;
  static constexpr std::size_t kMostElements = 1000;

  // `everywhere`: at each change, for suggestions and drawings; else only where it may exceed what was seen.
  // `rules`: with how many others, and itself, it shares the looks. Both must outlive me.
  BacktestValues(const rules::AlertingRule& rule, bool everywhere, BacktestReport::Rule& into, std::size_t rules = 1);

  // Its sources are known from `known_from` on; nothing before `since` counts.
  void look(const WindowOf& windows, rules::Timestamp known_from, rules::Timestamp since,
            rules::Timestamp to);
  // `span`: how much time the logs cover.
  void end(rules::Timestamp last, rules::Duration span);

 private:
  void look_everywhere(const WindowOf& windows, rules::Timestamp from, rules::Timestamp to);
  void find_peak(const WindowOf& windows, rules::Timestamp from, rules::Timestamp to);
  // Among these instants, in a time in which it may exceed what was seen.
  void search(const WindowOf& windows, std::span<const rules::Timestamp> instants, rules::Timestamp from,
              rules::Timestamp to);
  bool may_exceed(const WindowOf& windows, rules::Timestamp from, rules::Timestamp to, bool& known) const;
  void see(const WindowOf& windows, rules::Timestamp at);
  // Which way is farther.
  bool has_peak() const {
    return compared_.op != rules::Expr::BinaryOp::kEq && compared_.op != rules::Expr::BinaryOp::kNe;
  }
  double score(double value) const { return compared_.wants_little() ? -value : value; }
  void suggest(rules::Duration span);
  void take_firings();

  const rules::AlertingRule& rule_;
  bool everywhere_;
  BacktestReport::Rule& report_;
  Compared compared_;
  std::size_t most_looks_;
  rules::Duration unknown_for_{0};  // of what rests on absence: before, nothing fires
  std::optional<rules::Timestamp> clock_;
  std::size_t elements_seen_ = 1;
  std::set<std::string> names_;  // of elements' labels
  Levels levels_;
  std::map<rules::Labels, ElementFirings> elements_;
  bool exact_ = true;
};

}  // namespace logbell::engine

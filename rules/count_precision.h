// CountPrecision: how exactly it must be known when the old matches of a pattern came, from the rules that count them.
//
// Pure; any thread.
#pragma once

#include <cstdint>
#include <vector>

#include "rules/expr.h"
#include "rules/plan.h"
#include "rules/rule.h"
#include "rules/time.h"

namespace logbell::rules {

struct CountPrecision {
  // A window that ends later than this before now is held to be one that ends now: nothing is merged in it.
  static constexpr Duration kMostLag{std::chrono::hours(1)};

  // So many of a series' newest matches decide whether a count exceeds a number that a rule compares it with, or
  // not: where they are as they came, such a comparison is exact.
  std::uint64_t exact = 0;
  Duration lag{0};   // of the windows that end at most kMostLag before now, the longest time before it
  Duration past{0};  // of those that end earlier (`offset 1w`, a baseline), the shortest window; 0: there are none
  Duration past_reach{0};  // how long before now the earliest of those begins

  friend bool operator==(const CountPrecision&, const CountPrecision&) = default;
};

// Whether windows of a kRangeCall end longer ago than kMostLag.
bool ends_in_past(const Expr& call);
// Adds what `rule`, with bound expressions, asks of each pattern; by the pattern's index, as far as that reaches.
void add_precision(const AlertingRule& rule, std::vector<CountPrecision>& of_patterns);
// What all rules of a plan ask of each of its patterns.
std::vector<CountPrecision> precision_of(const Plan& plan);

}  // namespace logbell::rules

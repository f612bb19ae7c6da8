// InstantFunction: PromQL's functions of the values at one instant, by their names: what they are given, and
// what they make of a number.
//
// Pure functions; any thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "rules/time.h"

namespace logbell::rules {

enum class InstantFunction : std::uint8_t {
  kAbs,
  kCeil,
  kFloor,
  kRound,
  kClamp,
  kClampMin,
  kClampMax,
  kSgn,
  kSqrt,
  kExp,
  kLn,
  kLog2,
  kLog10,
  kScalar,
  kVector,
  kTime,
  kMinute,
  kHour,
  kDayOfWeek,
  kDayOfMonth,
  kDaysInMonth,
  kMonth,
  kYear,
  kMOfN,  // of the evaluator: it looks at its argument at several instants
};

struct InstantSignature {
  InstantFunction function;
  std::string_view name;
  std::size_t least;  // arguments
  std::size_t most;
  bool of_number;  // its first argument is a number, not series; what follows always is one
  bool is_number;  // gives a number, not series
  std::string_view example;
};

const InstantSignature& signature_of(InstantFunction function);
// Null: there is no such function.
const InstantSignature* find_instant_function(std::string_view name);
std::vector<std::string_view> instant_function_names();

// The value that `function` gives for `value`, as Prometheus computes it; kScalar and kVector leave it as it
// is. `parameters`: the arguments behind the first.
double apply(InstantFunction function, double value, std::span<const double> parameters);

// kMinute to kYear.
bool is_date_part(InstantFunction function);
// Of these Unix seconds in a zone ("" = UTC), as date_part(kHour, 0, "Europe/Berlin") is 1; NaN beyond the
// year 9999.
double date_part(InstantFunction function, double seconds, const std::string& zone);
// The least and most that it can be.
std::pair<double, double> date_part_range(InstantFunction function);

// What time() gives at `at`: the Unix seconds of the last whole minute. PromQL sees time at its evaluations,
// a minute apart unless said otherwise, and here something would have to be looked at each millisecond.
double clock_seconds(Timestamp at);
// The first instant after `at` at which clock_seconds(), or this part of its date in `zone`, can be another.
Timestamp next_turn(InstantFunction function, const std::string& zone, Timestamp at);

// The φ-quantile as Prometheus interpolates it; NaN is the smallest of all. Moves `values` about.
double quantile(double phi, std::vector<double>& values);

}  // namespace logbell::rules

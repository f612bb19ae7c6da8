// InstantFunction: PromQL's functions of the values at one instant, by their names: what they are given, and
// what they make of a number.
//
// Pure functions; any thread.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

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

// The φ-quantile as Prometheus interpolates it; NaN is the smallest of all. Sorts `values`.
double quantile(double phi, std::vector<double>& values);

}  // namespace logbell::rules

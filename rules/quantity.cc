#include "rules/quantity.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

namespace logbell::rules {
namespace {

// As many of the unit are one second, or the unit is as many seconds: whichever is whole, so that 12ms is
// 0.012.
struct TimeUnit {
  std::string_view name;
  double per_second;
  double seconds;
};
constexpr std::array kTimeUnits{
    TimeUnit{"d", 1, 86400},       TimeUnit{"h", 1, 3600}, TimeUnit{"m", 1, 60},          TimeUnit{"s", 1, 1},
    TimeUnit{"ms", 1e3, 1},        TimeUnit{"us", 1e6, 1}, TimeUnit{"\xC2\xB5s", 1e6, 1},  // the micro sign
    TimeUnit{"\xCE\xBCs", 1e6, 1},                                                         // a Greek mu
    TimeUnit{"ns", 1e9, 1},
};

struct Number {
  double value = 0;
  std::string_view rest;
};

std::optional<Number> read_number(std::string_view text) {
  Number number;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number.value);
  if (error != std::errc() || !std::isfinite(number.value)) return std::nullopt;
  number.rest = text.substr(static_cast<std::size_t>(end - text.data()));
  return number;
}

// The unit that `text` begins with: its letters, up to a digit or the end.
std::string_view unit_of(std::string_view text) {
  return text.substr(0, std::min(text.find_first_of("0123456789.-+ "), text.size()));
}

const TimeUnit* time_unit(std::string_view name) {
  const auto found = std::find_if(kTimeUnits.begin(), kTimeUnits.end(),
                                  [&](const TimeUnit& unit) { return unit.name == name; });
  return found == kTimeUnits.end() ? nullptr : &*found;
}

std::optional<double> bytes_in(std::string_view unit) {
  if (unit == "B") return 1;
  if (unit.size() < 2 || unit.back() != 'B') return std::nullopt;
  const bool binary = unit.size() == 3 && unit[1] == 'i';
  if (!binary && unit.size() != 2) return std::nullopt;
  const std::size_t power = std::string_view("KMGTP").find(unit.front() == 'k' ? 'K' : unit.front());
  if (power == std::string_view::npos) return std::nullopt;
  return std::pow(binary ? 1024.0 : 1000.0, static_cast<double>(power + 1));
}

}  // namespace

std::optional<double> parse_quantity(std::string_view text) {
  const std::optional<Number> first = read_number(text);
  if (!first) return std::nullopt;
  if (first->rest.empty()) return first->value;
  std::string_view rest = first->rest;
  if (rest.front() == ' ') rest.remove_prefix(1);
  std::string_view name = unit_of(rest);
  if (const std::optional<double> bytes = bytes_in(name)) {
    const double value = first->value * *bytes;
    return name.size() == rest.size() && std::isfinite(value) ? std::optional(value) : std::nullopt;
  }
  // Parts of a duration, from larger to smaller units: 1h2m3.5s.
  const double sign = std::signbit(first->value) ? -1 : 1;
  double seconds = 0;
  double number = std::abs(first->value);
  const TimeUnit* before = nullptr;
  while (true) {
    const TimeUnit* unit = time_unit(name);
    if (unit == nullptr || (before != nullptr && unit <= before)) return std::nullopt;
    seconds += unit->per_second > 1 ? number / unit->per_second : number * unit->seconds;
    rest.remove_prefix(name.size());
    if (rest.empty()) return std::isfinite(seconds) ? std::optional(sign * seconds) : std::nullopt;
    const std::optional<Number> next = read_number(rest);
    if (!next || std::signbit(next->value)) return std::nullopt;
    number = next->value;
    rest = next->rest;
    name = unit_of(rest);
    before = unit;
  }
}

}  // namespace logbell::rules

#include "rules/instant_function.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "rules/time_interval.h"

namespace logbell::rules {
namespace {

using Function = InstantFunction;

constexpr std::array kSignatures{
    InstantSignature{Function::kAbs, "abs", 1, 1, false, false, "abs(rate(PATTERN[5m]) - rate(PATTERN[1h]))"},
    InstantSignature{Function::kCeil, "ceil", 1, 1, false, false, "ceil(rate(PATTERN[5m]))"},
    InstantSignature{Function::kFloor, "floor", 1, 1, false, false, "floor(rate(PATTERN[5m]))"},
    InstantSignature{Function::kRound, "round", 1, 2, false, false, "round(rate(PATTERN[5m]), 0.1)"},
    InstantSignature{Function::kClamp, "clamp", 3, 3, false, false,
                     "clamp(count_over_time(PATTERN[5m]), 1, 100)"},
    InstantSignature{Function::kClampMin, "clamp_min", 2, 2, false, false,
                     "clamp_min(count_over_time(PATTERN[5m]), 1)"},
    InstantSignature{Function::kClampMax, "clamp_max", 2, 2, false, false,
                     "clamp_max(count_over_time(PATTERN[5m]), 100)"},
    InstantSignature{Function::kSgn, "sgn", 1, 1, false, false,
                     "sgn(count_over_time(PATTERN[5m]) - count_over_time(PATTERN[1h]))"},
    InstantSignature{Function::kSqrt, "sqrt", 1, 1, false, false, "sqrt(count_over_time(PATTERN[5m]))"},
    InstantSignature{Function::kExp, "exp", 1, 1, false, false, "exp(rate(PATTERN[5m]))"},
    InstantSignature{Function::kLn, "ln", 1, 1, false, false, "ln(count_over_time(PATTERN[5m]))"},
    InstantSignature{Function::kLog2, "log2", 1, 1, false, false, "log2(count_over_time(PATTERN[5m]))"},
    InstantSignature{Function::kLog10, "log10", 1, 1, false, false, "log10(count_over_time(PATTERN[5m]))"},
    InstantSignature{Function::kScalar, "scalar", 1, 1, false, true,
                     "scalar(sum(count_over_time(PATTERN[5m])))"},
    InstantSignature{Function::kVector, "vector", 1, 1, true, false, "vector(1)"},
    InstantSignature{Function::kTime, "time", 0, 0, false, true, "time()"},
    InstantSignature{Function::kMinute, "minute", 0, 1, false, false, "minute()"},
    InstantSignature{Function::kHour, "hour", 0, 1, false, false, "hour()"},
    InstantSignature{Function::kDayOfWeek, "day_of_week", 0, 1, false, false, "day_of_week()"},
    InstantSignature{Function::kDayOfMonth, "day_of_month", 0, 1, false, false, "day_of_month()"},
    InstantSignature{Function::kDaysInMonth, "days_in_month", 0, 1, false, false, "days_in_month()"},
    InstantSignature{Function::kMonth, "month", 0, 1, false, false, "month()"},
    InstantSignature{Function::kYear, "year", 0, 1, false, false, "year()"},
    InstantSignature{Function::kMOfN, "m_of_n", 4, 4, false, false,
                     "m_of_n(count_over_time(PATTERN[1m]) > 5, 3, 5, 1m)"},
};

// Go's math.Min and math.Max, which Prometheus clamps with: NaN, but for the infinity that nothing passes.
double go_min(double a, double b) {
  constexpr double kLeast = -std::numeric_limits<double>::infinity();
  if (a == kLeast || b == kLeast) return kLeast;
  if (std::isnan(a) || std::isnan(b)) return std::numeric_limits<double>::quiet_NaN();
  return std::min(a, b);
}
double go_max(double a, double b) {
  constexpr double kMost = std::numeric_limits<double>::infinity();
  if (a == kMost || b == kMost) return kMost;
  if (std::isnan(a) || std::isnan(b)) return std::numeric_limits<double>::quiet_NaN();
  return std::max(a, b);
}

}  // namespace

const InstantSignature& signature_of(InstantFunction function) {
  return kSignatures[static_cast<std::size_t>(function)];
}

const InstantSignature* find_instant_function(std::string_view name) {
  const auto found = std::find_if(kSignatures.begin(), kSignatures.end(),
                                  [&](const InstantSignature& signature) { return signature.name == name; });
  return found == kSignatures.end() ? nullptr : &*found;
}

std::vector<std::string_view> instant_function_names() {
  std::vector<std::string_view> names;
  names.reserve(kSignatures.size());
  for (const InstantSignature& signature : kSignatures)
    names.push_back(signature.name);
  return names;
}

double apply(InstantFunction function, double value, std::span<const double> parameters) {
  switch (function) {
    case Function::kAbs:
      return std::abs(value);
    case Function::kCeil:
      return std::ceil(value);
    case Function::kFloor:
      return std::floor(value);
    case Function::kRound: {
      // Halves go up. By the inverse, as Prometheus does: 0.1 would not be met otherwise.
      const double inverse = 1.0 / (parameters.empty() ? 1.0 : parameters[0]);
      return std::floor(value * inverse + 0.5) / inverse;
    }
    case Function::kClamp:
      return go_max(parameters[0], go_min(parameters[1], value));
    case Function::kClampMin:
      return go_max(parameters[0], value);
    case Function::kClampMax:
      return go_min(parameters[0], value);
    case Function::kSgn:
      return value < 0 ? -1 : value > 0 ? 1 : value;
    case Function::kSqrt:
      return std::sqrt(value);
    case Function::kExp:
      return std::exp(value);
    case Function::kLn:
      return std::log(value);
    case Function::kLog2:
      return std::log2(value);
    case Function::kLog10:
      return std::log10(value);
    default:
      return value;
  }
}

bool is_date_part(InstantFunction function) {
  return function >= Function::kMinute && function <= Function::kYear;
}

double date_part(InstantFunction function, double seconds, const std::string& zone) {
  constexpr double kYear9999 = 253402300800.0;
  if (!(std::abs(seconds) < kYear9999)) return std::numeric_limits<double>::quiet_NaN();
  const Timestamp at = from_unix_ms(static_cast<std::int64_t>(seconds) * 1000);
  const Timestamp local = at + zone_offset(zone, at);
  const auto day = std::chrono::floor<std::chrono::days>(local);
  const std::chrono::year_month_day date{day};
  switch (function) {
    case Function::kMinute:
      return static_cast<double>(std::chrono::floor<std::chrono::minutes>(local - day).count() % 60);
    case Function::kHour:
      return static_cast<double>(std::chrono::floor<std::chrono::hours>(local - day).count());
    case Function::kDayOfWeek:
      return std::chrono::weekday(day).c_encoding();
    case Function::kDayOfMonth:
      return static_cast<unsigned>(date.day());
    case Function::kDaysInMonth:
      return static_cast<unsigned>((date.year() / date.month() / std::chrono::last).day());
    case Function::kMonth:
      return static_cast<unsigned>(date.month());
    default:
      return static_cast<int>(date.year());
  }
}

std::pair<double, double> date_part_range(InstantFunction function) {
  switch (function) {
    case Function::kMinute:
      return {0, 59};
    case Function::kHour:
      return {0, 23};
    case Function::kDayOfWeek:
      return {0, 6};
    case Function::kDayOfMonth:
      return {1, 31};
    case Function::kDaysInMonth:
      return {28, 31};
    case Function::kMonth:
      return {1, 12};
    default:
      return {-9999, 9999};
  }
}

double clock_seconds(Timestamp at) {
  return static_cast<double>(std::chrono::floor<std::chrono::minutes>(at).time_since_epoch().count()) * 60;
}

Timestamp next_turn(InstantFunction function, const std::string& zone, Timestamp at) {
  const auto next_minute = std::chrono::floor<std::chrono::minutes>(at) + std::chrono::minutes(1);
  if (function == Function::kTime || function == Function::kMinute) return next_minute;
  const Duration offset = zone_offset(zone, at);
  const Timestamp local = at + offset;
  const auto day = std::chrono::floor<std::chrono::days>(local);
  const std::chrono::year_month_day date{day};
  const auto first_of = [](std::chrono::year_month month) -> Timestamp {
    return std::chrono::sys_days{month / 1};
  };
  Timestamp turn;
  switch (function) {
    case Function::kHour:
      turn = std::chrono::floor<std::chrono::hours>(local) + std::chrono::hours(1);
      break;
    case Function::kMonth:
    case Function::kDaysInMonth:
      turn = first_of(date.year() / date.month() + std::chrono::months(1));
      break;
    case Function::kYear:
      turn = first_of((date.year() + std::chrono::years(1)) / std::chrono::January);
      break;
    default:
      turn = day + std::chrono::days(1);
      break;
  }
  // Seen at whole minutes, as time() is: there have been offsets that were none.
  turn = std::min(turn - offset, next_zone_change(zone, at));
  if (turn == Timestamp::max()) return turn;
  return std::max<Timestamp>(std::chrono::ceil<std::chrono::minutes>(turn), next_minute);
}

double quantile(double phi, std::vector<double>& values) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (values.empty() || std::isnan(phi)) return std::numeric_limits<double>::quiet_NaN();
  if (phi < 0) return -kInfinity;
  if (phi > 1) return kInfinity;
  const auto less = [](double a, double b) { return std::isnan(a) ? !std::isnan(b) : a < b; };
  const double rank = phi * static_cast<double>(values.size() - 1);
  const auto below = values.begin() + static_cast<std::ptrdiff_t>(rank);
  std::nth_element(values.begin(), below, values.end(), less);
  const auto above = below + 1 == values.end() ? below : std::min_element(below + 1, values.end(), less);
  const double weight = rank - std::floor(rank);
  return *below * (1 - weight) + *above * weight;
}

}  // namespace logbell::rules

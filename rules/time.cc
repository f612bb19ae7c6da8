#include "rules/time.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdint>
#include <limits>

#include <fmt/format.h>

#include "rules/text.h"

namespace logbell::rules {
namespace {

struct Unit {
  std::string_view name;
  std::int64_t ms;
};
// Largest first, as PromQL demands of the text. A year is 365 days, as there.
constexpr std::array<Unit, 7> kUnits{{{"y", 365LL * 86'400'000},
                                      {"w", 7LL * 86'400'000},
                                      {"d", 86'400'000},
                                      {"h", 3'600'000},
                                      {"m", 60'000},
                                      {"s", 1'000},
                                      {"ms", 1}}};

// Reads exactly `count` digits at `pos`; -1 when they are not there.
int digits(std::string_view text, std::size_t pos, std::size_t count) {
  if (pos + count > text.size()) return -1;
  int value = 0;
  for (std::size_t i = pos; i < pos + count; ++i) {
    if (!is_digit(text[i])) return -1;
    value = value * 10 + (text[i] - '0');
  }
  return value;
}

}  // namespace

Timestamp from_stored_ms(std::int64_t ms) {
  if (ms == to_unix_ms(kLongAgo)) return kLongAgo;
  return from_unix_ms(std::clamp(ms, -kMaxStoredMs, kMaxStoredMs));
}

Result<Duration> parse_duration(std::string_view text) {
  if (text == "0") return Duration(0);
  const auto refuse = [&](std::string_view why) {
    return fail(ErrorCode::kInvalid, fmt::format("\"{}\" is not a duration: {}", text, why));
  };
  if (text.empty()) return refuse("it is empty");
  std::int64_t total = 0;
  std::size_t next_unit = 0;
  std::size_t pos = 0;
  while (pos < text.size()) {
    if (pos == 0 && text[pos] == '-') return refuse("it cannot be negative");
    if (!is_digit(text[pos])) return refuse("a number is missing before the unit");
    std::int64_t number = 0;
    while (pos < text.size() && is_digit(text[pos])) {
      if (number > std::numeric_limits<std::int64_t>::max() / 40) return refuse("the number is too large");
      number = number * 10 + (text[pos++] - '0');
    }
    const std::size_t start = pos;
    while (pos < text.size() && !is_digit(text[pos]))
      ++pos;
    const std::string_view name = text.substr(start, pos - start);
    std::size_t unit = 0;
    while (unit < kUnits.size() && kUnits[unit].name != name)
      ++unit;
    if (name.empty()) return refuse("a unit is missing: y, w, d, h, m, s or ms");
    if (name == "." || name == ",") return refuse("there are no fractions: 1.5m is 1m30s");
    if (unit == kUnits.size()) return refuse("units are y, w, d, h, m, s and ms");
    if (unit < next_unit) return refuse("units go from the largest to the smallest, each once");
    next_unit = unit + 1;
    if (number > (std::numeric_limits<std::int64_t>::max() / 4 - total) / kUnits[unit].ms) {
      return refuse("it is too long");
    }
    total += number * kUnits[unit].ms;
  }
  return Duration(total);
}

std::string format_duration(Duration duration) {
  std::int64_t left = duration.count();
  if (left == 0) return "0s";
  std::string out;
  if (left < 0) {
    out = "-";
    left = -left;
  }
  for (const Unit& unit : kUnits) {
    // 52 weeks and a day reads worse than 365d; weeks and years are printed only when nothing is left over.
    if ((unit.name == "y" || unit.name == "w") && left % unit.ms != 0) continue;
    if (left >= unit.ms) {
      out += fmt::format("{}{}", left / unit.ms, unit.name);
      left %= unit.ms;
    }
  }
  return out;
}

std::string format_rfc3339(Timestamp at) {
  const auto day = std::chrono::floor<std::chrono::days>(at);
  const std::chrono::year_month_day date{day};
  const std::chrono::hh_mm_ss time{at - day};
  std::string out = fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}", static_cast<int>(date.year()),
                                static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                                time.hours().count(), time.minutes().count(), time.seconds().count());
  if (time.subseconds().count() != 0) out += fmt::format(".{:03}", time.subseconds().count());
  return out + "Z";
}

Result<Timestamp> parse_rfc3339(std::string_view text) {
  const auto refuse = [&] {
    return fail(ErrorCode::kInvalid, fmt::format("\"{}\" is not an RFC 3339 time", text));
  };
  const int year = digits(text, 0, 4);
  const int month = digits(text, 5, 2);
  const int day = digits(text, 8, 2);
  const int hour = digits(text, 11, 2);
  const int minute = digits(text, 14, 2);
  const int second = digits(text, 17, 2);
  if (year < 0 || month < 0 || day < 0 || hour < 0 || minute < 0 || second < 0) return refuse();
  if (text[4] != '-' || text[7] != '-' || text[13] != ':' || text[16] != ':') return refuse();
  if (text[10] != 'T' && text[10] != 't' && text[10] != ' ') return refuse();
  const std::chrono::year_month_day date{std::chrono::year(year),
                                         std::chrono::month(static_cast<unsigned>(month)),
                                         std::chrono::day(static_cast<unsigned>(day))};
  // 60: a leap second is the last moment of its minute for everybody who counts in POSIX time.
  if (!date.ok() || hour > 23 || minute > 59 || second > 60) return refuse();
  std::size_t pos = 19;
  int ms = 0;
  if (pos < text.size() && (text[pos] == '.' || text[pos] == ',')) {
    const std::size_t start = ++pos;
    int scale = 100;
    while (pos < text.size() && is_digit(text[pos])) {
      ms += (text[pos++] - '0') * scale;
      scale /= 10;
    }
    if (pos == start) return refuse();
  }
  if (pos >= text.size()) return refuse();
  std::chrono::minutes offset{0};
  if (text[pos] == 'Z' || text[pos] == 'z') {
    ++pos;
  } else if (text[pos] == '+' || text[pos] == '-') {
    const int hours = digits(text, pos + 1, 2);
    const int minutes = digits(text, pos + 4, 2);
    if (hours < 0 || hours > 23 || minutes < 0 || minutes > 59 || text[pos + 3] != ':') return refuse();
    offset = std::chrono::minutes(hours * 60 + minutes);
    if (text[pos] == '-') offset = -offset;
    pos += 6;
  } else {
    return refuse();
  }
  if (pos != text.size()) return refuse();
  const int whole_second = second == 60 ? 59 : second;
  if (second == 60) ms = 999;
  return Timestamp(std::chrono::sys_days(date)) + std::chrono::hours(hour) + std::chrono::minutes(minute) +
         std::chrono::seconds(whole_second) + Duration(ms) - offset;
}

}  // namespace logbell::rules

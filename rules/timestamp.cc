#include "rules/timestamp.h"

#include <array>
#include <charconv>
#include <cmath>

#include <fmt/format.h>
#include <time.h>  // localtime_r

#include "rules/text.h"
#include "rules/time_interval.h"

namespace logbell::rules {
namespace {

// How far into a line a time may begin: behind a level, a bracket, an address; further in it is likely about
// something.
constexpr std::size_t kMaxTimestampOffset = 64;

constexpr std::array<std::string_view, 12> kShortMonths{"jan", "feb", "mar", "apr", "may", "jun",
                                                        "jul", "aug", "sep", "oct", "nov", "dec"};

// Reads forward through a text; a failed read leaves the place undefined: the caller begins anew.
struct Cursor {
  std::string_view text;
  std::size_t at = 0;

  char peek() const { return at < text.size() ? text[at] : '\0'; }
  bool take(char c) {
    if (peek() != c || at >= text.size()) return false;
    ++at;
    return true;
  }
  // A number of `least` to `most` digits.
  std::optional<int> number(std::size_t least, std::size_t most) {
    int value = 0;
    std::size_t count = 0;
    while (count < most && at < text.size() && is_digit(text[at])) {
      value = value * 10 + (text[at] - '0');
      ++at;
      ++count;
    }
    if (count < least) return std::nullopt;
    return value;
  }
  std::optional<int> month() {
    if (at + 3 > text.size()) return std::nullopt;
    for (std::size_t m = 0; m < kShortMonths.size(); ++m) {
      bool same = true;
      for (std::size_t i = 0; i < 3; ++i)
        same = same && (text[at + i] | 0x20) == kShortMonths[m][i];
      if (!same) continue;
      at += 3;
      return static_cast<int>(m) + 1;
    }
    return std::nullopt;
  }
};

struct Parts {
  int year = 1970;
  int month = 1;
  int day = 1;
  int hour = 0;
  int minute = 0;
  int second = 0;
  int millisecond = 0;
  bool has_year = true;
  std::optional<Duration> offset;  // from UTC; unset: the location's
};

bool read_clock(Cursor& in, Parts& parts) {
  const auto hour = in.number(2, 2);
  if (!hour || !in.take(':')) return false;
  const auto minute = in.number(2, 2);
  if (!minute || !in.take(':')) return false;
  const auto second = in.number(2, 2);
  if (!second) return false;
  parts.hour = *hour;
  parts.minute = *minute;
  parts.second = *second;
  return true;
}

void read_fraction(Cursor& in, Parts& parts) {
  if ((in.peek() != '.' && in.peek() != ',') || in.at + 1 >= in.text.size() || !is_digit(in.text[in.at + 1]))
    return;
  ++in.at;
  int scale = 100;
  while (is_digit(in.peek())) {
    parts.millisecond += (in.peek() - '0') * scale;
    scale /= 10;  // behind milliseconds: cut
    ++in.at;
  }
}

// Z, +02:00, +0200, +02, UTC, GMT, with or without a blank before it. No zone is no error.
void read_zone(Cursor& in, Parts& parts) {
  Cursor ahead = in;
  ahead.take(' ');
  const std::string_view rest = ahead.text.substr(std::min(ahead.at, ahead.text.size()));
  const auto ends_word = [&](std::size_t length) {
    return rest.size() <= length || (!is_alpha(rest[length]) && !is_digit(rest[length]));
  };
  if (ahead.at == in.at && (in.peek() == 'Z' || in.peek() == 'z') && ends_word(1)) {
    ++in.at;
    parts.offset = Duration{0};
    return;
  }
  if ((rest.substr(0, 3) == "UTC" || rest.substr(0, 3) == "GMT") && ends_word(3)) {
    in.at = ahead.at + 3;
    parts.offset = Duration{0};
    return;
  }
  const char sign = ahead.peek();
  if (sign != '+' && sign != '-') return;
  ++ahead.at;
  const auto hours = ahead.number(2, 2);
  if (!hours || *hours > 18) return;
  ahead.take(':');
  const auto minutes = ahead.number(2, 2);
  // Behind a blank two digits alone are a number: "10:00:00 -12 items".
  if (!minutes && in.peek() == ' ') return;
  if (is_digit(ahead.peek())) return;  // "-1234…" is not a zone
  in.at = ahead.at;
  const Duration size = std::chrono::hours(*hours) + std::chrono::minutes(minutes.value_or(0));
  parts.offset = sign == '-' ? -size : size;
}

// 2026-05-01T10:00:00.123Z, 2026-05-01 10:00:00,123, 2026/05/01 10:00:00
bool read_iso(Cursor& in, Parts& parts) {
  const auto year = in.number(4, 4);
  const char separator = in.peek();
  if (!year || (separator != '-' && separator != '/')) return false;
  ++in.at;
  const auto month = in.number(2, 2);
  if (!month || !in.take(separator)) return false;
  const auto day = in.number(2, 2);
  if (!day || (!in.take('T') && !in.take('t') && !in.take(' ') && !in.take('_'))) return false;
  parts.year = *year;
  parts.month = *month;
  parts.day = *day;
  if (!read_clock(in, parts)) return false;
  read_fraction(in, parts);
  read_zone(in, parts);
  return true;
}

// The year behind a time, as Apache's error log, ctime(3) and date(1) have it: 10:00:00.123456 2026, 10:00:00
// UTC 2026
void read_year_behind(Cursor& in, Parts& parts) {
  Cursor ahead = in;
  Parts zone;
  read_zone(ahead, zone);
  if (!ahead.take(' ')) return;
  const auto year = ahead.number(4, 4);
  const char next = ahead.peek();
  // A host may be called so, or a program.
  if (!year || *year < 1970 || *year > 2100 || is_alpha(next) || is_digit(next) || next == ':' ||
      next == '.' || next == '-' || next == '[')
    return;
  parts.year = *year;
  parts.has_year = true;
  parts.offset = zone.offset;
  in = ahead;
}

// May  1 10:00:00 (RFC 3164), with a fraction where rsyslog is told to write one, and with the year behind it
bool read_syslog(Cursor& in, Parts& parts) {
  const auto month = in.month();
  if (!month || !in.take(' ')) return false;
  in.take(' ');
  const auto day = in.number(1, 2);
  if (!day || !in.take(' ')) return false;
  parts.month = *month;
  parts.day = *day;
  parts.has_year = false;
  if (!read_clock(in, parts)) return false;
  read_fraction(in, parts);
  read_year_behind(in, parts);
  return true;
}

// 01/May/2026:10:00:00 +0000
bool read_clf(Cursor& in, Parts& parts) {
  const auto day = in.number(2, 2);
  if (!day || !in.take('/')) return false;
  const auto month = in.month();
  if (!month || !in.take('/')) return false;
  const auto year = in.number(4, 4);
  if (!year || !in.take(':')) return false;
  parts.day = *day;
  parts.month = *month;
  parts.year = *year;
  if (!read_clock(in, parts)) return false;
  read_fraction(in, parts);
  read_zone(in, parts);
  return true;
}

// A number of seconds, milliseconds, microseconds or nanoseconds since 1970, told apart by its size: 2001 to
// 2100.
std::optional<Timestamp> from_epoch(double value) {
  for (const double unit : {1.0, 1e3, 1e6, 1e9}) {
    const double seconds = value / unit;
    if (seconds >= 978'307'200.0 && seconds < 4'102'444'800.0)
      return from_unix_ms(static_cast<std::int64_t>(std::floor(seconds * 1000.0 + 1e-4)));
  }
  return std::nullopt;
}

std::optional<Timestamp> read_epoch(std::string_view text, bool whole) {
  std::size_t end = 0;
  while (end < text.size() && (is_digit(text[end]) || (text[end] == '.' && end > 0)))
    ++end;
  if (end > 0 && text[end - 1] == '.') --end;
  std::size_t digits = 0;
  while (digits < end && is_digit(text[digits]))
    ++digits;
  if (digits != 10 && digits != 13 && !(whole && (digits == 16 || digits == 19))) return std::nullopt;
  if (whole ? end != text.size() : (end < text.size() && is_alpha(text[end]))) return std::nullopt;
  double value = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + end, value);
  if (error != std::errc() || stop != text.data() + end) return std::nullopt;
  return from_epoch(value);
}

constexpr std::array<std::string_view, 8> kTimeFields{"ts",       "time", "timestamp", "@timestamp",
                                                      "datetime", "date", "t",         "eventTime"};

}  // namespace

struct TimestampReader::Impl {
  TimestampSpec spec;

  std::optional<Timestamp> resolve(const Parts& parts, Timestamp reference) const {
    if (!parts.has_year) return nearest_year(parts, reference);
    const std::chrono::year_month_day date{std::chrono::year(parts.year),
                                           std::chrono::month(static_cast<unsigned>(parts.month)),
                                           std::chrono::day(static_cast<unsigned>(parts.day))};
    // 60 is a leap second; it counts as the next minute's first.
    if (!date.ok() || parts.hour > 23 || parts.minute > 59 || parts.second > 60) return std::nullopt;
    const Timestamp local = std::chrono::sys_days(date) + std::chrono::hours(parts.hour) +
                            std::chrono::minutes(parts.minute) + std::chrono::seconds(parts.second) +
                            Duration(parts.millisecond);
    if (parts.offset) return local - *parts.offset;
    // The offset at the moment itself: guessed from the local time read as UTC, then looked up again. In the
    // hour that a zone repeats, the answer is one of the two.
    const Timestamp guess = local - offset_at(local);
    return local - offset_at(guess);
  }

  // Syslog has no year: the one that brings the time nearest to `reference`, so that December's lines read in
  // January are last year's.
  std::optional<Timestamp> nearest_year(Parts parts, Timestamp reference) const {
    parts.has_year = true;
    const int year = static_cast<int>(
        std::chrono::year_month_day(std::chrono::floor<std::chrono::days>(reference)).year());
    std::optional<Timestamp> best;
    for (const int candidate : {year - 1, year, year + 1}) {
      parts.year = candidate;
      const auto at = resolve(parts, reference);
      if (at && (!best || std::chrono::abs(*at - reference) < std::chrono::abs(*best - reference))) best = at;
    }
    return best;
  }

  Duration offset_at(Timestamp at) const {
    if (!spec.location.empty()) return zone_offset(spec.location, at);
    const time_t seconds = std::chrono::floor<std::chrono::seconds>(at).time_since_epoch().count();
    tm local{};
    localtime_r(&seconds, &local);
    return std::chrono::seconds(local.tm_gmtoff);
  }

  std::optional<Timestamp> recognise(std::string_view text, Timestamp reference) const {
    const char first = text.empty() ? '\0' : text.front();
    for (const auto read : {read_iso, read_clf, read_syslog}) {
      if (read == read_syslog ? !is_alpha(first) : !is_digit(first)) continue;
      Cursor in{text};
      Parts parts;
      if (!read(in, parts)) continue;
      if (auto at = resolve(parts, reference)) return at;
    }
    return std::nullopt;
  }

  // `spec.format` against the beginning of `text`.
  std::optional<Timestamp> described(std::string_view text, Timestamp reference) const {
    Cursor in{text};
    Parts parts;
    parts.has_year = false;
    std::optional<bool> afternoon;
    const std::string& format = spec.format;
    for (std::size_t i = 0; i < format.size(); ++i) {
      if (format[i] != '%') {
        if (!in.take(format[i])) return std::nullopt;
        continue;
      }
      std::optional<int> number = 0;
      switch (format[++i]) {
        case 'Y':
          number = in.number(4, 4);
          parts.year = number.value_or(0);
          parts.has_year = true;
          break;
        case 'y':
          number = in.number(2, 2);
          parts.year = number.value_or(0) + (number.value_or(0) < 69 ? 2000 : 1900);
          parts.has_year = true;
          break;
        case 'm':
          number = in.number(1, 2), parts.month = number.value_or(0);
          break;
        case 'b':
        case 'B':
          number = in.month(), parts.month = number.value_or(0);
          while (is_alpha(in.peek()))
            ++in.at;
          break;
        case 'a':
        case 'A':
        case 'Z':
          if (!is_alpha(in.peek())) return std::nullopt;
          while (is_alpha(in.peek()))
            ++in.at;
          break;
        case 'e':
          in.take(' ');
          [[fallthrough]];
        case 'd':
          number = in.number(1, 2), parts.day = number.value_or(0);
          break;
        case 'H':
        case 'I':
          number = in.number(1, 2), parts.hour = number.value_or(0);
          break;
        case 'M':
          number = in.number(2, 2), parts.minute = number.value_or(0);
          break;
        case 'S':
          number = in.number(2, 2), parts.second = number.value_or(0);
          break;
        case 'L':
          number = in.number(3, 3), parts.millisecond = number.value_or(0);
          break;
        case 'f': {
          int scale = 100;
          if (!is_digit(in.peek())) return std::nullopt;
          for (; is_digit(in.peek()); ++in.at, scale /= 10)
            parts.millisecond += (in.peek() - '0') * scale;
          break;
        }
        case 'p': {
          const char half = static_cast<char>(in.peek() | 0x20);
          if (half != 'a' && half != 'p') return std::nullopt;
          afternoon = half == 'p';
          ++in.at;
          if ((in.peek() | 0x20) != 'm') return std::nullopt;
          ++in.at;
          break;
        }
        case 'z': {
          const std::size_t before = in.at;
          read_zone(in, parts);
          if (in.at == before) return std::nullopt;
          break;
        }
        case 's': {
          std::size_t end = in.at;
          while (end < text.size() && is_digit(text[end]))
            ++end;
          if (end == in.at || end - in.at > 12) return std::nullopt;
          std::int64_t seconds = 0;
          std::from_chars(text.data() + in.at, text.data() + end, seconds);
          return from_unix_ms(seconds * 1000);
        }
        case 'T':
          if (!read_clock(in, parts)) return std::nullopt;
          break;
        case '%':
          if (!in.take('%')) return std::nullopt;
          break;
        default:
          return std::nullopt;  // make() let no other pass
      }
      if (!number) return std::nullopt;
    }
    if (afternoon) parts.hour = parts.hour % 12 + (*afternoon ? 12 : 0);
    return resolve(parts, reference);
  }

  std::optional<Timestamp> read_at_start(std::string_view text, Timestamp reference) const {
    return spec.format.empty() ? recognise(text, reference) : described(text, reference);
  }
};

Result<TimestampReader> TimestampReader::make(const TimestampSpec& spec) {
  if (!is_known_zone(spec.location))
    return fail(ErrorCode::kInvalid,
                fmt::format("\"{}\" is not a time zone of the IANA database", spec.location));
  bool says_something = spec.format.empty();
  for (std::size_t i = 0; i < spec.format.size(); ++i) {
    if (spec.format[i] != '%') continue;
    static constexpr std::string_view kKnown = "YymbBaAZedHIMSLfpzsT%";
    if (++i >= spec.format.size() || kKnown.find(spec.format[i]) == std::string_view::npos) {
      return fail(ErrorCode::kInvalid,
                  fmt::format("unknown conversion at byte {} of the time format \"{}\"; there are %Y %y %m "
                              "%b %d %e %H %I %p %M %S %L %f %z %Z %a %s %T",
                              i, spec.format));
    }
    says_something = says_something || spec.format[i] != '%';
  }
  if (!says_something)
    return fail(ErrorCode::kInvalid,
                fmt::format("the time format \"{}\" has nothing of a time", spec.format));
  TimestampReader reader;
  auto impl = std::make_shared<Impl>();
  impl->spec = spec;
  reader.impl_ = std::move(impl);
  return reader;
}

std::optional<Timestamp> TimestampReader::in_line(std::string_view line, Timestamp reference) const {
  if (impl_->spec.format.empty()) {
    if (auto at = read_epoch(line, false)) return at;
  }
  for (std::size_t i = 0; i < line.size() && i <= kMaxTimestampOffset; ++i) {
    // Only where a word begins: inside one, digits are part of something else.
    const bool word = is_digit(line[i]) || is_alpha(line[i]);
    if (impl_->spec.format.empty() ? !word : line[i] == ' ') continue;
    if (i > 0 && word && (is_digit(line[i - 1]) || is_alpha(line[i - 1]))) continue;
    if (auto at = impl_->read_at_start(line.substr(i), reference)) return at;
  }
  return std::nullopt;
}

std::optional<Timestamp> TimestampReader::in_value(std::string_view value, Timestamp reference) const {
  while (!value.empty() && value.front() == ' ')
    value.remove_prefix(1);
  if (impl_->spec.format.empty()) {
    if (auto at = read_epoch(value, true)) return at;
  }
  return impl_->read_at_start(value, reference);
}

const TimestampSpec& TimestampReader::spec() const {
  return impl_->spec;
}

bool is_time_field(std::string_view name) {
  for (const std::string_view known : kTimeFields) {
    if (name == known) return true;
  }
  return false;
}

}  // namespace logbell::rules

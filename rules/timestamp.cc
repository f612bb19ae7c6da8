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

constexpr bool is_upper(char c) {
  return c >= 'A' && c <= 'Z';
}

// How many bytes at `at` set the colour of what follows on a terminal (ECMA-48, SGR): ESC [ 1 ; 31 m. 0: none.
std::size_t colour_at(std::string_view text, std::size_t at) {
  if (text[at] != '\x1b' || at + 1 >= text.size() || text[at + 1] != '[') return 0;
  std::size_t end = at + 2;
  while (end < text.size() && (is_digit(text[end]) || text[end] == ';'))
    ++end;
  return end < text.size() && text[end] == 'm' ? end + 1 - at : 0;
}

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
  bool has_day = true;
  std::optional<Duration> offset;  // from UTC; unset: the zone's
  std::string_view zone;           // of the IANA database, a part of the text; "": the location's
};

// Those whose letters mean one zone: of others (CST, IST) who is beside the writer knows as much as we do.
struct LetterZone {
  std::string_view letters;
  int hours;
};
constexpr std::array<LetterZone, 24> kLetterZones{
    {{"UTC", 0},   {"GMT", 0},   {"WET", 0},   {"WEST", 1},  {"BST", 1},   {"CET", 1},
     {"CEST", 2},  {"EET", 2},   {"EEST", 3},  {"MSK", 3},   {"EST", -5},  {"EDT", -4},
     {"CDT", -5},  {"MST", -7},  {"MDT", -6},  {"PST", -8},  {"PDT", -7},  {"AKST", -9},
     {"HST", -10}, {"JST", 9},   {"KST", 9},   {"AEST", 10}, {"AEDT", 11}, {"NZST", 12}}};
// The longest name of the IANA database has 32.
constexpr std::size_t kMaxZoneName = 40;

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

// The letters of a zone at the beginning of `text`, or how many letters stand there in its place.
std::size_t read_letters(std::string_view text, Parts& parts) {
  std::size_t length = 0;
  while (length < text.size() && is_upper(text[length]))
    ++length;
  if (length < text.size() && (is_alpha(text[length]) || is_digit(text[length]))) return 0;
  for (const LetterZone& zone : kLetterZones) {
    if (zone.letters == text.substr(0, length)) parts.offset = std::chrono::hours(zone.hours);
  }
  return length;
}

// Europe/Berlin, as PHP writes its zone. 0: there is none that this machine knows.
std::size_t read_zone_name(std::string_view text, Parts& parts) {
  std::size_t length = 0;
  bool has_slash = false;
  while (length < text.size() && length <= kMaxZoneName &&
         (is_alpha(text[length]) || text[length] == '/' || text[length] == '_')) {
    has_slash = has_slash || text[length] == '/';
    ++length;
  }
  // A path in a message is no reason to search the database.
  const std::size_t slash = text.find('/');
  if (!has_slash || length > kMaxZoneName || !is_upper(text[0]) || slash + 1 >= length || !is_upper(text[slash + 1]))
    return 0;
  const std::string_view name = text.substr(0, length);
  if (!is_known_zone(std::string(name))) return 0;
  parts.zone = name;
  return length;
}

// Z, +02:00, +0200, +02, UTC, CEST, Europe/Berlin, with or without a blank before it. No zone is no error.
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
  if (const std::size_t letters = read_letters(rest, parts); letters > 0 && parts.offset) {
    in.at = ahead.at + letters;
    return;
  }
  if (const std::size_t name = read_zone_name(rest, parts); name > 0) {
    in.at = ahead.at + name;
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

// 2026-05-01T10:00:00.123Z, 2026-05-01 10:00:00,123, 2026/05/01 10:00:00, 2026.05.01 10:00:00
bool read_iso(Cursor& in, Parts& parts) {
  const auto year = in.number(4, 4);
  const char separator = in.peek();
  if (!year || (separator != '-' && separator != '/' && separator != '.')) return false;
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
  // Letters that mean no zone, or several.
  if (!zone.offset && ahead.at < ahead.text.size()) {
    const std::size_t letters = read_letters(ahead.text.substr(ahead.at), zone);
    if (letters > 1) {
      ahead.at += letters;
      if (!ahead.take(' ')) return;
    }
  }
  const auto year = ahead.number(4, 4);
  const char next = ahead.peek();
  // A host may be called so, or a program.
  if (!year || *year < 1970 || *year > 2100 || is_alpha(next) || is_digit(next) || next == ':' ||
      next == '.' || next == '-' || next == '[')
    return;
  parts.year = *year;
  parts.has_year = true;
  parts.offset = zone.offset;
  parts.zone = zone.zone;
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

// 01/May/2026:10:00:00 +0000 (common log format), 01-May-2026 10:00:00 (PHP, Tomcat), 1 May 2026 10:00:00
// (Redis, RFC 5322)
bool read_day_first(Cursor& in, Parts& parts) {
  const auto day = in.number(1, 2);
  const char separator = in.peek();
  if (!day || (separator != '/' && separator != '-' && separator != ' ')) return false;
  ++in.at;
  const auto month = in.month();
  if (!month || !in.take(separator)) return false;
  const auto year = in.number(4, 4);
  if (!year || (!in.take(':') && !in.take(' '))) return false;
  parts.day = *day;
  parts.month = *month;
  parts.year = *year;
  if (!read_clock(in, parts)) return false;
  read_fraction(in, parts);
  read_zone(in, parts);
  return true;
}

// AM or PM. Unset: neither.
std::optional<bool> read_afternoon(Cursor& in) {
  const char half = static_cast<char>(in.peek() | 0x20);
  if (half != 'a' && half != 'p') return std::nullopt;
  ++in.at;
  if ((in.peek() | 0x20) != 'm') return std::nullopt;
  ++in.at;
  return half == 'p';
}

// May 01, 2026 9:00:00 PM (java.util.logging; since Java 20 with U+202F before the half of the day)
bool read_java(Cursor& in, Parts& parts) {
  constexpr std::string_view kNarrowSpace = "\xE2\x80\xAF";
  const auto month = in.month();
  if (!month || !in.take(' ')) return false;
  const auto day = in.number(1, 2);
  if (!day || !in.take(',') || !in.take(' ')) return false;
  const auto year = in.number(4, 4);
  if (!year || !in.take(' ')) return false;
  parts.month = *month;
  parts.day = *day;
  parts.year = *year;
  if (in.at + 1 < in.text.size() && in.text[in.at + 1] == ':') {
    parts.hour = in.number(1, 1).value_or(24);
    ++in.at;
    Cursor rest{in.text, in.at};
    const auto minute = rest.number(2, 2);
    if (!minute || !rest.take(':')) return false;
    const auto second = rest.number(2, 2);
    if (!second) return false;
    parts.minute = *minute;
    parts.second = *second;
    in = rest;
  } else if (!read_clock(in, parts)) {
    return false;
  }
  Cursor ahead = in;
  if (!ahead.take(' ') && ahead.text.substr(std::min(ahead.at, ahead.text.size())).starts_with(kNarrowSpace))
    ahead.at += kNarrowSpace.size();
  if (const std::optional<bool> afternoon = read_afternoon(ahead); afternoon && parts.hour <= 12) {
    parts.hour = parts.hour % 12 + (*afternoon ? 12 : 0);
    in = ahead;
  }
  return true;
}

// E0501 10:00:00.123456 (klog and glog): a level, month and day, and always a fraction
bool read_klog(Cursor& in, Parts& parts) {
  if (!in.take('I') && !in.take('W') && !in.take('E') && !in.take('F')) return false;
  const auto month = in.number(2, 2);
  const auto day = in.number(2, 2);
  if (!month || !day || !in.take(' ')) return false;
  parts.month = *month;
  parts.day = *day;
  parts.has_year = false;
  if (!read_clock(in, parts) || in.peek() != '.') return false;
  const std::size_t before = in.at;
  read_fraction(in, parts);
  return in.at > before;
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

// The last ones: .NET, Serilog, Python, Log4j 2, MongoDB, Monolog 1.
constexpr std::array<std::string_view, 15> kTimeFields{
    "ts",        "time", "timestamp", "@timestamp", "datetime", "date",          "t",
    "eventTime", "Timestamp", "@t",   "asctime",    "timeMillis", "t.$date", "datetime.date",
    "instant.epochSecond"};

// Of the conversions of a format; "": they tell a time.
std::string_view why_no_time(std::string_view letters) {
  const auto has = [&](std::string_view any) { return letters.find_first_of(any) != std::string_view::npos; };
  if (has("s")) return {};
  const bool day = has("de");
  const bool month = has("mbB");
  if (!day && !month && !has("HIT")) return "has nothing of a time";
  if (day && !month) return "has a day and no month: add %m or %b";
  if (!day && (month || has("Yy"))) return "has no day: add %d, or leave month and year out, too";
  if (has("I") && !has("p")) return "has hours to 12 (%I) and not which half of the day: add %p, or write %H";
  return {};
}

}  // namespace

struct TimestampReader::Impl {
  TimestampSpec spec;

  std::optional<Timestamp> resolve(const Parts& parts, Timestamp reference) const {
    if (!parts.has_day) return nearest_day(parts, reference);
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
    const std::string named(parts.zone);
    const std::string& zone = named.empty() ? spec.location : named;
    const Timestamp guess = local - offset_at(zone, local);
    return local - offset_at(zone, guess);
  }

  // A time of day: the one nearest to `reference`, so that the evening's lines read after midnight are
  // yesterday's.
  std::optional<Timestamp> nearest_day(Parts parts, Timestamp reference) const {
    parts.has_day = parts.has_year = true;
    const auto today =
        std::chrono::floor<std::chrono::days>(reference + parts.offset.value_or(offset_at(spec.location, reference)));
    return nearest(reference, [&](int apart) {
      const std::chrono::year_month_day date{today + std::chrono::days(apart)};
      parts.year = static_cast<int>(date.year());
      parts.month = static_cast<int>(static_cast<unsigned>(date.month()));
      parts.day = static_cast<int>(static_cast<unsigned>(date.day()));
      return resolve(parts, reference);
    });
  }

  // Syslog has no year: the one that brings the time nearest to `reference`, so that December's lines read in
  // January are last year's.
  std::optional<Timestamp> nearest_year(Parts parts, Timestamp reference) const {
    parts.has_year = true;
    const int year = static_cast<int>(
        std::chrono::year_month_day(std::chrono::floor<std::chrono::days>(reference)).year());
    return nearest(reference, [&](int apart) {
      parts.year = year + apart;
      return resolve(parts, reference);
    });
  }

  // Of the one before, this one and the next.
  template <class At>
  static std::optional<Timestamp> nearest(Timestamp reference, At at) {
    std::optional<Timestamp> best;
    for (const int apart : {-1, 0, 1}) {
      const std::optional<Timestamp> one = at(apart);
      if (one && (!best || std::chrono::abs(*one - reference) < std::chrono::abs(*best - reference))) best = one;
    }
    return best;
  }

  static Duration offset_at(const std::string& zone, Timestamp at) {
    if (!zone.empty()) return zone_offset(zone, at);
    const time_t seconds = std::chrono::floor<std::chrono::seconds>(at).time_since_epoch().count();
    tm local{};
    localtime_r(&seconds, &local);
    return std::chrono::seconds(local.tm_gmtoff);
  }

  std::optional<Timestamp> recognise(std::string_view text, Timestamp reference) const {
    const auto by = [&](bool (*read)(Cursor&, Parts&)) -> std::optional<Timestamp> {
      Cursor in{text};
      Parts parts;
      return read(in, parts) ? resolve(parts, reference) : std::nullopt;
    };
    // Asked of each word of lines that say no time: by a look at where a form has its first sign.
    if (text.size() < 5) return std::nullopt;
    const auto separates = [](char c) { return c == '/' || c == '-'; };
    if (is_digit(text[0])) {
      if (separates(text[4]) || text[4] == '.') return by(read_iso);
      const std::size_t day = is_digit(text[1]) ? 2 : 1;
      if ((separates(text[day]) || text[day] == ' ') && is_alpha(text[day + 1])) return by(read_day_first);
      return std::nullopt;
    }
    if (is_digit(text[1])) return by(read_klog);
    if (!Cursor{text}.month()) return std::nullopt;
    const std::optional<Timestamp> at = by(read_syslog);
    return at ? at : by(read_java);
  }

  // `spec.format` against the beginning of `text`.
  std::optional<Timestamp> described(std::string_view text, Timestamp reference) const {
    Cursor in{text};
    Parts parts;
    parts.has_year = parts.has_day = false;
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
          parts.has_day = true;
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
        case 'p':
          afternoon = read_afternoon(in);
          if (!afternoon) return std::nullopt;
          break;
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
  std::string letters;
  for (std::size_t i = 0; i < spec.format.size(); ++i) {
    if (spec.format[i] != '%') continue;
    static constexpr std::string_view kKnown = "YymbBaAZedHIMSLfpzsT%";
    if (++i >= spec.format.size() || kKnown.find(spec.format[i]) == std::string_view::npos) {
      return fail(ErrorCode::kInvalid,
                  fmt::format("unknown conversion at byte {} of the time format \"{}\"; there are %Y %y %m "
                              "%b %d %e %H %I %p %M %S %L %f %z %Z %a %s %T",
                              i, spec.format));
    }
    letters += spec.format[i];
  }
  if (!spec.format.empty()) {
    if (const std::string_view wrong = why_no_time(letters); !wrong.empty())
      return fail(ErrorCode::kInvalid, fmt::format("the time format \"{}\" {}", spec.format, wrong));
  }
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
  bool begins = true;  // a word: inside one, digits are part of something else
  for (std::size_t i = 0; i < line.size() && i <= kMaxTimestampOffset; ++i) {
    const bool word = is_digit(line[i]) || is_alpha(line[i]);
    if (const std::size_t colour = colour_at(line, i); colour > 0) {
      i += colour - 1;
      begins = true;
      continue;
    }
    const bool tried = impl_->spec.format.empty() ? word && begins : line[i] != ' ' && (begins || !word);
    begins = !word;
    if (!tried) continue;
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

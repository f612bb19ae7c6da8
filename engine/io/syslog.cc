#include "engine/io/syslog.h"

#include <algorithm>
#include <array>
#include <charconv>

#include <fmt/format.h>

#include "engine/io/chunk.h"
#include "rules/text.h"

namespace logbell::engine {
namespace {

using rules::is_alpha;
using rules::is_digit;
using rules::Timestamp;

constexpr std::size_t kNone = std::string_view::npos;
constexpr unsigned kMaxPriority = 191;
constexpr std::size_t kMaxCountDigits = 9;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

bool is_upper(char c) {
  return c >= 'A' && c <= 'Z';
}

// "<34>", with both of its numbers.
bool take_priority(std::string_view& rest, SyslogMessage& into) {
  const std::size_t end = rest.find('>');
  if (rest.empty() || rest.front() != '<' || end == kNone || end < 2 || end > 4) return false;
  unsigned priority = 0;
  const auto [stop, error] = std::from_chars(rest.data() + 1, rest.data() + end, priority);
  if (error != std::errc() || stop != rest.data() + end || priority > kMaxPriority) return false;
  into.facility = static_cast<std::uint8_t>(priority / 8);
  into.severity = static_cast<std::uint8_t>(priority % 8);
  rest.remove_prefix(end + 1);
  return true;
}

// The next word, and the blank behind it.
std::string_view take_word(std::string_view& rest) {
  const std::size_t end = std::min(rest.find(' '), rest.size());
  const std::string_view word = rest.substr(0, end);
  rest.remove_prefix(std::min(end + 1, rest.size()));
  return word;
}

std::string_view unless_nil(std::string_view word) {
  return word == "-" ? std::string_view() : word;
}

// How many bytes at the beginning are structured data: elements in brackets, in whose quoted values a bracket
// is a letter like others. 0: it is none.
std::size_t structured_bytes(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size() && text[at] == '[') {
    bool quoted = false;
    for (++at;; ++at) {
      if (at >= text.size()) return 0;
      if (quoted && text[at] == '\\') {
        ++at;
      } else if (text[at] == '"') {
        quoted = !quoted;
      } else if (!quoted && text[at] == ']') {
        break;
      }
    }
    ++at;
  }
  return at == text.size() || text[at] == ' ' ? at : 0;
}

// Behind "<34>1 ".
bool read_5424(std::string_view rest, SyslogMessage& into) {
  const std::string_view time = take_word(rest);
  if (time != "-") {
    const rules::Result<Timestamp> at = rules::parse_rfc3339(time);
    if (!at) return false;
    into.time = *at;
  }
  into.host = unless_nil(take_word(rest));
  into.app = unless_nil(take_word(rest));
  into.procid = unless_nil(take_word(rest));
  into.msgid = unless_nil(take_word(rest));
  if (rest == "-" || rest.substr(0, 2) == "- ") {
    take_word(rest);
  } else if (const std::size_t bytes = structured_bytes(rest); bytes > 0) {
    into.structured = rest.substr(0, bytes);
    rest.remove_prefix(std::min(bytes + 1, rest.size()));
  }
  if (rest.substr(0, kByteOrderMark.size()) == kByteOrderMark) rest.remove_prefix(kByteOrderMark.size());
  into.message = rest;
  return true;
}

bool has_shape(std::string_view text, std::string_view shape) {
  if (text.size() < shape.size()) return false;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    const bool same = shape[i] == '0'   ? is_digit(text[i])
                      : shape[i] == 'a' ? is_alpha(text[i])
                                        : text[i] == shape[i];
    if (!same) return false;
  }
  return true;
}

// " CST", " 1987": at most five capitals or four digits behind a blank, and then a blank, a colon or nothing.
std::string_view word_behind(std::string_view rest, bool (*is_part)(char), std::size_t least,
                             std::size_t most) {
  if (rest.empty() || rest.front() != ' ') return {};
  std::size_t end = 1;
  while (end < rest.size() && is_part(rest[end]))
    ++end;
  const bool stops = end == rest.size() || rest[end] == ' ' || rest[end] == ':';
  return stops && end - 1 >= least && end - 1 <= most ? rest.substr(1, end - 1) : std::string_view();
}

// The time of RFC 3164's header, or RFC 3339's in its place; what devices make of it: a year before or behind
// the clock, a zone's name (which says nothing that can be relied upon), a colon at the end.
bool take_time(std::string_view& rest, const rules::TimestampReader& times, Timestamp reference,
               SyslogMessage& into) {
  if (has_shape(rest, "0000-00-00T00:00:00")) {
    const std::size_t end = std::min(rest.find(' '), rest.size());
    std::string_view word = rest.substr(0, end);
    if (word.back() == ':') word.remove_suffix(1);
    into.time = times.in_value(word, reference);
    if (into.time) rest.remove_prefix(std::min(end + 1, rest.size()));
    return into.time.has_value();
  }
  if (rest.size() < 14 || !has_shape(rest, "aaa ")) return false;
  std::size_t at = rest[4] == ' ' ? 5 : 4;
  std::size_t digits = 0;
  while (digits < 2 && is_digit(rest[at + digits]))
    ++digits;
  const std::string_view day = rest.substr(at, digits);
  at += digits;
  std::string_view year = word_behind(rest.substr(at), is_digit, 4, 4);
  if (!year.empty()) at += 5;
  if (digits == 0 || !has_shape(rest.substr(at), " 00:00:00")) return false;
  const std::size_t clock_at = at + 1;
  at += 9;
  if (at + 1 < rest.size() && (rest[at] == '.' || rest[at] == ',') && is_digit(rest[at + 1])) {
    for (++at; at < rest.size() && is_digit(rest[at]);)
      ++at;
  }
  const std::string_view clock = rest.substr(clock_at, at - clock_at);
  // A zone's name only where no host can be meant: before a year, or a colon.
  std::string_view behind = rest.substr(at);
  const std::string_view zone = word_behind(behind, is_upper, 2, 5);
  const std::size_t zone_bytes = zone.empty() ? 0 : zone.size() + 1;
  const std::string_view late = year.empty() ? word_behind(behind.substr(zone_bytes), is_digit, 4, 4) : "";
  if (!late.empty()) year = late;
  if (!late.empty() || (!zone.empty() && behind.substr(zone_bytes, 1) == ":"))
    at += zone_bytes + (late.empty() ? 0 : 5);
  if (year.empty()) {
    into.time = times.in_value(rest.substr(0, clock_at + clock.size()), reference);
  } else {
    static constexpr std::array<std::string_view, 12> kMonths{"jan", "feb", "mar", "apr", "may", "jun",
                                                              "jul", "aug", "sep", "oct", "nov", "dec"};
    const auto month = std::find_if(kMonths.begin(), kMonths.end(), [&](std::string_view name) {
      return rules::same_ignoring_case(name, rest.substr(0, 3));
    });
    if (month == kMonths.end()) return false;
    into.time = times.in_value(
        fmt::format("{}-{:02}-{:0>2} {}", year, month - kMonths.begin() + 1, day, clock), reference);
  }
  if (!into.time) return false;
  rest.remove_prefix(at);
  if (!rest.empty() && rest.front() == ':') rest.remove_prefix(1);
  if (!rest.empty() && rest.front() == ' ') rest.remove_prefix(1);
  return true;
}

// "su:", "myproc[10]:", "myproc[10]" and the blank behind it.
bool take_tag(std::string_view& rest, SyslogMessage& into) {
  std::string_view tag = rest.substr(0, rest.find(' '));
  const std::size_t bytes = tag.size();
  if (tag.size() < 2 || tag.find_first_of("\"={") != kNone) return false;
  const bool colon = tag.back() == ':';
  if (colon) tag.remove_suffix(1);
  const std::size_t bracket = tag.back() == ']' ? tag.find('[') : kNone;
  if (bracket != kNone && bracket > 0) {
    into.app = tag.substr(0, bracket);
    into.procid = tag.substr(bracket + 1, tag.size() - bracket - 2);
  } else if (colon) {
    into.app = tag;
  } else {
    return false;
  }
  rest.remove_prefix(std::min(bytes + 1, rest.size()));
  return true;
}

// "%SYS-5-CONFIG_I: Configured …": what it is about, and people look for it, so it stays in the message.
bool read_cisco_tag(std::string_view rest, SyslogMessage& into) {
  const std::size_t end = rest.find(':');
  if (rest.size() < 2 || rest.front() != '%' || !is_upper(rest[1]) || end == kNone) return false;
  const std::string_view tag = rest.substr(0, end);
  if (tag.find(' ') != kNone || std::count(tag.begin(), tag.end(), '-') < 2) return false;
  into.app = tag;
  return true;
}

bool is_host(std::string_view word) {
  return !word.empty() && std::all_of(word.begin(), word.end(), [](char c) {
    return rules::is_word(c) || c == '.' || c == '-' || c == ':' || c == '/' || c == '@' || c == '%';
  });
}

// Behind the priority, if there was one.
void read_3164(std::string_view rest, bool has_priority, const rules::TimestampReader& times,
               Timestamp reference, SyslogMessage& into) {
  into.message = rest;
  while (!rest.empty() && rest.front() == ' ')
    rest.remove_prefix(1);
  if (has_priority) {  // Cisco's: a count, the sender's name, a star or a dot for a clock that is not set
    const std::string_view all = rest;
    std::size_t digits = 0;
    while (digits < rest.size() && is_digit(rest[digits]))
      ++digits;
    if (digits > 0 && rest.substr(digits, 2) == ": ") {
      rest.remove_prefix(digits + 2);
      std::string_view behind = rest;
      const std::string_view word = take_word(behind);
      if (word.size() > 1 && word.back() == ':' && is_host(word) && !behind.empty() &&
          (behind.front() == '*' || behind.front() == '.' || has_shape(behind, "aaa "))) {
        into.host = word.substr(0, word.size() - 1);
        rest = behind;
      }
    }
    if (!rest.empty() && (rest.front() == '*' || rest.front() == '.')) rest.remove_prefix(1);
    if (!take_time(rest, times, reference, into)) {
      into.host = {};
      // A tag with its process is surely one; "ERROR:" alone may be what somebody looks for.
      rest = all;
      const std::string_view word = rest.substr(0, rest.find(' '));
      if (word.size() > 3 && word.substr(word.size() - 2) == "]:" && take_tag(rest, into))
        into.message = rest;
      return;
    }
  } else if (!take_time(rest, times, reference, into)) {
    return;
  }
  if (read_cisco_tag(rest, into)) {
    into.message = rest;
    return;
  }
  if (!take_tag(rest, into)) {
    std::string_view behind = rest;
    const std::string_view word = take_word(behind);
    if (behind.substr(0, 2) == ": ") behind.remove_prefix(2);  // "11:35:41 firewall : %ASA-…"
    const bool tagged = read_cisco_tag(behind, into) || take_tag(behind, into);
    if (is_host(word) && (tagged || !std::all_of(word.begin(), word.end(), is_alpha))) {
      into.host = word;
      rest = behind;
    } else {
      into.app = {};
      into.procid = {};
    }
  }
  into.message = rest;
}

}  // namespace

SyslogMessage parse_syslog(std::string_view record, const rules::TimestampReader& times,
                           Timestamp reference) {
  SyslogMessage message;
  std::string_view rest = record;
  const bool has_priority = take_priority(rest, message);
  if (has_priority && rest.substr(0, 2) == "1 " && read_5424(rest.substr(2), message)) return message;
  read_3164(rest, has_priority, times, reference, message);
  return message;
}

std::string_view severity_name(std::uint8_t severity) {
  static constexpr std::array<std::string_view, 8> kNames{"emerg",   "alert",  "crit", "err",
                                                          "warning", "notice", "info", "debug"};
  return severity < kNames.size() ? kNames[severity] : "";
}

std::string_view facility_name(std::uint8_t facility) {
  static constexpr std::array<std::string_view, 24> kNames{
      "kern",   "user",   "mail",     "daemon", "auth",   "syslog",   "lpr",     "news",
      "uucp",   "cron",   "authpriv", "ftp",    "ntp",    "security", "console", "solaris-cron",
      "local0", "local1", "local2",   "local3", "local4", "local5",   "local6",  "local7"};
  return facility < kNames.size() ? kNames[facility] : "";
}

bool append_record(std::string_view record, std::string& out) {
  while (!record.empty() && (record.back() == '\n' || record.back() == '\0' || record.back() == '\r'))
    record.remove_suffix(1);
  if (record.empty()) return false;
  const std::size_t from = out.size();
  out.append(record);
  std::replace(out.begin() + static_cast<std::ptrdiff_t>(from), out.end(), '\n', ' ');
  out.push_back('\n');
  return true;
}

// --- SyslogFraming

void SyslogFraming::keep(std::string_view bytes) {
  // A few more than are wanted: then it can be seen where the last character ends.
  const std::size_t most = max_line_bytes_ + 4;
  held_.append(bytes.substr(0, most - std::min(most, held_.size())));
}

void SyslogFraming::emit(std::string& out, Counts& counts) {
  std::string_view record = held_;
  while (!record.empty() && (record.back() == '\n' || record.back() == '\0' || record.back() == '\r'))
    record.remove_suffix(1);
  if (record.size() > max_line_bytes_) {
    record = cut_utf8(record, max_line_bytes_);
    ++counts.truncated;
  }
  if (append_record(record, out)) ++counts.records;
  held_.clear();
  if (held_.capacity() > kKeptBytes) held_.shrink_to_fit();
  in_ = In::kNothing;
}

// Between two records, with what was held of the next in `held_`: digits, perhaps the blank behind them.
void SyslogFraming::begin(std::string_view& bytes, Counts& counts) {
  const char next = bytes.front();
  const bool has_blank = !held_.empty() && held_.back() == ' ';
  if (held_.empty() && (next == '\n' || next == '\r' || next == '\0')) {
    bytes.remove_prefix(1);  // some end counted records with a newline too
    return;
  }
  if (frames_ != SyslogFrames::kNewline) {
    const bool may_grow = held_.size() < kMaxCountDigits && (!held_.empty() || next != '0');
    if (!has_blank && ((is_digit(next) && may_grow) || (next == ' ' && !held_.empty()))) {
      held_.push_back(next);
      bytes.remove_prefix(1);
      if (next != ' ' || frames_ == SyslogFrames::kAuto) return;
    } else if (!has_blank || (frames_ == SyslogFrames::kAuto && next != '<')) {
      if (frames_ == SyslogFrames::kOctets) ++counts.broken;
      begin_line();
      return;
    }
    std::size_t octets = 0;
    std::from_chars(held_.data(), held_.data() + held_.size() - 1, octets);
    if (octets > kMaxFrameBytes) {
      ++counts.broken;
      begin_line();
      return;
    }
    frames_ = SyslogFrames::kOctets;
    held_.clear();
    left_ = octets;
    in_ = In::kOctets;
    return;
  }
  begin_line();
}

void SyslogFraming::begin_line() {
  if (frames_ == SyslogFrames::kAuto) frames_ = SyslogFrames::kNewline;
  in_ = In::kLine;
}

void SyslogFraming::take(std::string_view bytes, std::string& out, Counts& counts) {
  while (!bytes.empty()) {
    if (in_ == In::kNothing) {
      begin(bytes, counts);
    } else if (in_ == In::kOctets) {
      const std::size_t part = std::min(left_, bytes.size());
      keep(bytes.substr(0, part));
      bytes.remove_prefix(part);
      left_ -= part;
      if (left_ == 0) emit(out, counts);
    } else {
      const std::size_t end = bytes.find_first_of(std::string_view("\n\0", 2));
      keep(bytes.substr(0, end));
      bytes.remove_prefix(end == kNone ? bytes.size() : end + 1);
      if (end != kNone) emit(out, counts);
    }
  }
}

void SyslogFraming::finish(std::string& out, Counts& counts) {
  if (!within_record()) return;
  ++counts.partial;
  lost_ = in_ == In::kOctets;
  left_ = 0;
  emit(out, counts);
}

}  // namespace logbell::engine

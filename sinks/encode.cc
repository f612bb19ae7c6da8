#include "sinks/encode.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <chrono>
#include <utility>

#include <fmt/format.h>

#include "rules/labels.h"
#include "rules/redact.h"
#include "rules/text.h"

namespace logbell::sinks {
namespace {

constexpr std::string_view kEllipsis = "…";
// Nothing that gets here is longer: annotations are bounded when they are rendered, answers when they are
// read.
constexpr std::size_t kMaxCleanBytes = 1024UL * 1024;
// Of a mail: RFC 2047 §2 for a line with an encoded word, RFC 2045 §6.7 for a quoted-printable one.
constexpr std::size_t kMaxMailLine = 76;

std::string clean(std::string_view text, Lines lines, std::size_t max_bytes = kMaxCleanBytes) {
  if (lines == Lines::kJoin) return rules::clean_text(text, max_bytes);
  std::string out;
  while (true) {
    const std::size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    out += rules::clean_text(line, max_bytes);
    if (end == std::string_view::npos) break;
    out += '\n';
    text.remove_prefix(end + 1);
  }
  return out;
}

bool is_alnum(char32_t code) {
  return code > 0x7F || std::isalnum(static_cast<int>(code)) != 0;
}

bool is_digit(char32_t code) {
  return code >= '0' && code <= '9';
}

constexpr char32_t kJoiner = 0x200D;

bool is_flag_letter(char32_t code) {
  return code >= 0x1F1E6 && code <= 0x1F1FF;
}

// Belongs to the code point before it: marks (the categories Mn, Mc, Me of Unicode 14, by block), what ends a
// Hangul syllable, selectors, skin tones, the letters of a flag such as Scotland's. A block that holds some
// letters too costs nothing but a cut one letter earlier.
bool modifies(char32_t code) {
  struct Range {
    char32_t first;
    char32_t last;
  };
  static constexpr std::array<Range, 38> kRanges{{
      {0x0300, 0x036F},   {0x0483, 0x0489},   {0x0591, 0x05BD},   {0x05BF, 0x05C7}, {0x0610, 0x061A},
      {0x064B, 0x065F},   {0x0670, 0x0670},   {0x06D6, 0x06DC},   {0x06DF, 0x06ED}, {0x0711, 0x0711},
      {0x0730, 0x074A},   {0x07A6, 0x07B0},   {0x07EB, 0x07F3},   {0x0816, 0x082D}, {0x0859, 0x085B},
      {0x0898, 0x089F},   {0x08CA, 0x08FF},   {0x0E31, 0x0E31},   {0x0E34, 0x0E3A}, {0x0E47, 0x0E4E},
      {0x0EB1, 0x0EBC},   {0x0EC8, 0x0ECD},   {0x0F71, 0x0F87},   {0x102B, 0x103E}, {0x1160, 0x11FF},
      {0x17B4, 0x17D3},   {0x1AB0, 0x1AFF},   {0x1DC0, 0x1DFF},   {0x200D, 0x200D}, {0x20D0, 0x20FF},
      {0x302A, 0x302F},   {0x3099, 0x309A},   {0xFE00, 0xFE0F},   {0xFE20, 0xFE2F}, {0xFF9E, 0xFF9F},
      {0x1F3FB, 0x1F3FF}, {0xE0020, 0xE007F}, {0xE0100, 0xE01EF},
  }};
  if (code < kRanges.front().first) return false;
  if (code >= 0x0900 && code < 0x0E00) {
    // From Devanagari to Sinhala each script's block is laid out like the first.
    const char32_t at = code % 0x80;
    return at <= 0x03 || (at >= 0x3A && at <= 0x57) || at == 0x62 || at == 0x63;
  }
  return std::any_of(kRanges.begin(), kRanges.end(),
                     [&](const Range& range) { return code >= range.first && code <= range.last; });
}

// Where one character ends and the next begins, as people see them: UAX #29 as far as a cut needs it.
class Characters {
 public:
  // Whether a character begins with `code`; asked of each code point in order.
  bool begins(char32_t code) {
    const bool after_joiner = std::exchange(joiner_, code == kJoiner);
    const bool second_of_flag = is_flag_letter(code) && std::exchange(flag_, !flag_);
    if (!is_flag_letter(code)) flag_ = false;
    const bool belongs = after_joiner || second_of_flag || modifies(code);
    length_ = belongs ? length_ + 1 : 1;
    if (length_ <= kMaxLength) return !belongs;
    length_ = 1;
    return true;
  }

 private:
  // No character has so many code points; who piles up accents must not make a cut lose the whole text.
  static constexpr std::size_t kMaxLength = 32;
  bool joiner_ = false;
  bool flag_ = false;  // one letter of a flag waits for the other
  std::size_t length_ = 0;
};

std::size_t units_of(char32_t code) {
  return code > 0xFFFF ? 2 : 1;
}

std::string base64(std::string_view bytes) {
  static constexpr std::string_view kLetters =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (std::size_t at = 0; at < bytes.size(); at += 3) {
    const auto byte = [&](std::size_t i) {
      return at + i < bytes.size() ? static_cast<unsigned>(static_cast<unsigned char>(bytes[at + i])) : 0U;
    };
    const unsigned group = byte(0) << 16U | byte(1) << 8U | byte(2);
    for (unsigned i = 0; i < 4; ++i) {
      const bool is_there = i == 0 || at + i - 1 < bytes.size();
      out += is_there ? kLetters[group >> (18U - 6U * i) & 0x3FU] : '=';
    }
  }
  return out;
}

}  // namespace

std::pair<char32_t, std::size_t> code_point_at(std::string_view utf8, std::size_t at) {
  const auto byte = [&](std::size_t i) {
    return at + i < utf8.size() ? static_cast<unsigned char>(utf8[at + i]) : static_cast<unsigned char>(0x80);
  };
  const auto low = [&](std::size_t i) { return static_cast<char32_t>(byte(i) & 0x3FU); };
  const unsigned char first = byte(0);
  if (first < 0x80) return {first, 1};
  if (first < 0xE0) return {static_cast<char32_t>(first & 0x1FU) << 6U | low(1), 2};
  if (first < 0xF0) return {static_cast<char32_t>(first & 0x0FU) << 12U | low(1) << 6U | low(2), 3};
  return {static_cast<char32_t>(first & 0x07U) << 18U | low(1) << 12U | low(2) << 6U | low(3), 4};
}

std::size_t count_units(std::string_view utf8) {
  std::size_t units = 0;
  for (std::size_t at = 0; at < utf8.size();) {
    const auto [code, bytes] = code_point_at(utf8, at);
    units += units_of(code);
    at += bytes;
  }
  return units;
}

namespace {

// The beginning of `utf8` that measures at most `most` with the ellipsis, whose measure is `ellipsis`.
template <class Measure>
std::string cut(std::string_view utf8, std::size_t most, std::size_t ellipsis, Measure measure) {
  std::size_t size = 0;
  std::size_t keep = 0;  // the longest beginning that leaves room for the ellipsis and ends well
  Characters characters;
  for (std::size_t at = 0; at < utf8.size();) {
    const auto [code, bytes] = code_point_at(utf8, at);
    if (characters.begins(code) && size + ellipsis <= most) keep = at;
    size += measure(code, bytes);
    at += bytes;
    if (size > most) {
      std::string out(utf8.substr(0, keep));
      if (most >= ellipsis) out += kEllipsis;
      return out;
    }
  }
  return std::string(utf8);
}

}  // namespace

std::string cut_to_units(std::string_view utf8, std::size_t max_units) {
  return cut(utf8, max_units, 1, [](char32_t code, std::size_t) { return units_of(code); });
}

std::string cut_to_bytes(std::string_view utf8, std::size_t max_bytes) {
  return cut(utf8, max_bytes, kEllipsis.size(), [](char32_t, std::size_t bytes) { return bytes; });
}

bool is_sanitised(std::string_view text) {
  std::string kept = clean(text, Lines::kKeep);
  // A line break of Windows is no loss.
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\r' && (i + 1 == text.size() || text[i + 1] == '\n')) continue;
    plain += text[i];
  }
  return kept != plain;
}

PlainText::PlainText(std::string_view text, std::size_t max_units, Lines lines) {
  const std::string whole = clean(text, lines);
  text_ = cut_to_units(whole, max_units);
  was_cut_ = text_ != whole;
}

PlainText& PlainText::operator+=(const PlainText& more) {
  text_ += more.text_;
  was_cut_ = was_cut_ || more.was_cut_;
  return *this;
}

PlainText PlainText::cut(std::size_t max_units) const {
  PlainText out;
  out.text_ = cut_to_units(text_, max_units);
  out.was_cut_ = was_cut_ || out.text_ != text_;
  return out;
}

MrkdwnText::MrkdwnText(std::string_view text, std::size_t max_units) {
  const std::string plain = clean(text, Lines::kJoin);
  std::size_t units = 0;
  std::size_t keep = 0;  // as in cut_to_units
  char32_t before = ' ';
  Characters characters;
  for (std::size_t at = 0; at < plain.size();) {
    const auto [code, bytes] = code_point_at(plain, at);
    const char32_t after = at + bytes < plain.size() ? code_point_at(plain, at + bytes).first : U' ';
    std::string_view piece = std::string_view(plain).substr(at, bytes);
    switch (code) {
      case '&':
        piece = "&amp;";
        break;
      case '<':
        piece = "&lt;";
        break;
      case '>':
        piece = "&gt;";
        break;
      case '`':
        piece = "ˋ";  // a modifier letter that looks like it
        break;
      case '*':
        piece = "∗";
        break;
      case '~':
        piece = "∼";
        break;
      case '_':  // http_status stays as it is: only at the edge of a word would it begin italics
        if (!is_alnum(before) || !is_alnum(after)) piece = "＿";
        break;
      case ':':  // no automatic link, no :emoji:; 10:00:03 stays as it is
        if (after == '/' || after == '+' || (is_alnum(after) && !(is_digit(before) && is_digit(after))))
          piece = "∶";
        break;
      default:
        break;
    }
    if (characters.begins(code) && units + 1 <= max_units) keep = text_.size();
    units += count_units(piece);
    text_ += piece;
    before = code;
    at += bytes;
    if (units > max_units) {
      text_.resize(keep);
      if (max_units > 0) text_ += kEllipsis;
      was_cut_ = true;
      return;
    }
  }
}

MrkdwnText MrkdwnText::date(rules::Timestamp at) {
  MrkdwnText out;
  const std::int64_t seconds = std::max<std::int64_t>(rules::to_unix_ms(at), 0) / 1000;
  out.text_ = fmt::format("<!date^{}^{{date_short_pretty}} {{time_secs}}|{}>", seconds,
                          rules::format_rfc3339(rules::from_unix_ms(seconds * 1000)));
  return out;
}

MrkdwnText MrkdwnText::link(const LinkUrl& url, Literal name) {
  MrkdwnText out;
  out.text_ = "<";
  for (const char c : url.str())
    out.text_ += c == '&' ? std::string("&amp;") : std::string(1, c);
  out.text_.append("|").append(name.view()).append(">");
  return out;
}

MrkdwnText& MrkdwnText::operator+=(const MrkdwnText& more) {
  text_ += more.text_;
  was_cut_ = was_cut_ || more.was_cut_;
  return *this;
}

std::optional<LinkUrl> LinkUrl::from(std::string_view text) {
  // Slack's own limit for addresses in blocks.
  static constexpr std::size_t kMaxBytes = 3000;
  std::string_view rest = text;
  if (rest.substr(0, 8) == "https://") {
    rest.remove_prefix(8);
  } else if (rest.substr(0, 7) == "http://") {
    rest.remove_prefix(7);
  } else {
    return std::nullopt;
  }
  const std::string_view authority = rest.substr(0, rest.find_first_of("/?#\\"));
  if (authority.empty() || authority.find_first_of("@<>|\"' ") != std::string_view::npos) return std::nullopt;
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte <= 0x20 || byte >= 0x7F || std::string_view("<>|\"\\^`{}").find(c) != std::string_view::npos) {
      out += fmt::format("%{:02X}", byte);
    } else {
      out += c;
    }
  }
  if (out.size() > kMaxBytes) return std::nullopt;
  return LinkUrl(std::move(out));
}

JsonString::JsonString(std::string_view text, std::size_t max_bytes) {
  const std::string whole = clean(text, Lines::kKeep);
  text_ = cut_to_bytes(whole, max_bytes);
  was_cut_ = text_ != whole;
}

HeaderText::HeaderText(std::string_view text, std::size_t max_bytes) {
  for (const char c : rules::clean_text(text, max_bytes)) {
    const auto byte = static_cast<unsigned char>(c);
    std::string piece(1, c);
    if (byte < 0x20 || byte >= 0x7F || c == '%') piece = fmt::format("%{:02X}", byte);
    if (text_.size() + piece.size() > max_bytes) return;
    text_ += piece;
  }
}

MailText::MailText(std::string_view text, std::size_t max_units, Lines lines) {
  std::string whole = clean(text, lines);
  for (std::size_t at = whole.find("://"); at != std::string::npos; at = whole.find("://", at + 1))
    whole.replace(at, 1, "∶");
  text_ = cut_to_units(whole, max_units);
  was_cut_ = text_ != whole;
}

MailText& MailText::operator+=(const MailText& more) {
  text_ += more.text_;
  was_cut_ = was_cut_ || more.was_cut_;
  return *this;
}

MailWords::MailWords(std::string_view text, std::size_t max_units) {
  const std::string whole = clean(text, Lines::kJoin);
  text_ = cut_to_units(whole, max_units);
  was_cut_ = text_ != whole;
  std::replace(text_.begin(), text_.end(), '\t', ' ');
}

std::string MailWords::str(std::size_t used) const {
  static constexpr std::string_view kBegin = "=?utf-8?B?";
  static constexpr std::string_view kEnd = "?=";
  const bool is_ascii = std::all_of(text_.begin(), text_.end(),
                                    [](char c) { return c >= 0x20 && static_cast<unsigned char>(c) < 0x7F; });
  // What looks like an encoded word would be read as one.
  if (is_ascii && used + text_.size() <= kMaxMailLine && text_.find("=?") == std::string::npos) return text_;
  std::string out;
  for (std::size_t at = 0; at < text_.size();) {
    const std::size_t room =
        (kMaxMailLine - std::min(used, kMaxMailLine / 2) - kBegin.size() - kEnd.size()) / 4 * 3;
    std::size_t size = 0;
    while (at + size < text_.size()) {  // each word is whole characters
      const std::size_t bytes = code_point_at(text_, at + size).second;
      if (size + bytes > room) break;
      size += bytes;
    }
    if (!out.empty()) out += "\r\n ";
    out.append(kBegin).append(base64(std::string_view(text_).substr(at, size))).append(kEnd);
    at += size;
    used = 1;
  }
  return out;
}

std::optional<MailAddress> MailAddress::from(std::string_view text) {
  // RFC 5321 §4.5.3.1.
  static constexpr std::size_t kMaxUser = 64;
  static constexpr std::size_t kMaxHost = 255;
  static constexpr std::size_t kMaxHostLabel = 63;
  const std::size_t at = text.rfind('@');
  if (at == std::string_view::npos) return std::nullopt;
  const std::string_view user = text.substr(0, at);
  const std::string_view host = text.substr(at + 1);
  const auto is_sequence = [](std::string_view parts, std::size_t max_part, auto is_good) {
    while (true) {
      const std::string_view part = parts.substr(0, parts.find('.'));
      if (part.empty() || part.size() > max_part || !std::all_of(part.begin(), part.end(), is_good))
        return false;
      if (part.size() == parts.size()) return true;
      parts.remove_prefix(part.size() + 1);
    }
  };
  const auto is_letter = [](char c) { return rules::is_alpha(c) || rules::is_digit(c); };
  const bool good = user.size() <= kMaxUser && host.size() <= kMaxHost &&
                    is_sequence(user, kMaxUser,
                                [&](char c) {
                                  return is_letter(c) || std::string_view("!#$%&'*+-/=?^_`{|}~").find(c) !=
                                                             std::string_view::npos;
                                }) &&
                    is_sequence(host, kMaxHostLabel, [&](char c) { return is_letter(c) || c == '-'; }) &&
                    host.front() != '-' && host.back() != '-';
  if (!good) return std::nullopt;
  return MailAddress(std::string(text));
}

Mail& Mail::put(Literal name, const std::string& value) {
  headers_.append(name.view()).append(": ").append(value).append("\r\n");
  return *this;
}

Mail& Mail::set(Literal name, const MailWords& value) {
  was_cut_ = was_cut_ || value.was_cut();
  return put(name, value.str(name.view().size() + 2));
}

Mail& Mail::set(Literal name, const MailWords& person, const MailAddress& address) {
  if (person.plain().empty()) return put(name, address.str());
  std::string words = person.str(name.view().size() + 2);
  // As it is: between quotes, or a comma would part it (RFC 5322 §3.2.4).
  if (words == person.plain()) {
    std::string quoted = "\"";
    for (const char c : words) {
      if (c == '"' || c == '\\') quoted += '\\';
      quoted += c;
    }
    words = quoted + "\"";
  }
  const bool fits = name.view().size() + words.size() + address.str().size() < kMaxMailLine - 4;
  return put(name, words + (fits ? " <" : "\r\n <") + address.str() + ">");
}

Mail& Mail::set(Literal name, const std::vector<MailAddress>& addresses) {
  std::string list;
  for (const MailAddress& address : addresses)
    list += (list.empty() ? "" : ",\r\n ") + address.str();
  return put(name, list);
}

Mail& Mail::set(Literal name, rules::Timestamp at) {
  namespace chrono = std::chrono;
  static constexpr std::array<std::string_view, 7> kDays{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  static constexpr std::array<std::string_view, 12> kMonths{"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                            "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  const chrono::sys_time<chrono::milliseconds> time{chrono::milliseconds(rules::to_unix_ms(at))};
  const auto midnight = chrono::floor<chrono::days>(time);
  const chrono::year_month_day date(midnight);
  const chrono::hh_mm_ss clock(chrono::floor<chrono::seconds>(time - midnight));
  return put(name,
             fmt::format("{}, {:02} {} {} {:02}:{:02}:{:02} +0000",
                         kDays[chrono::weekday(midnight).c_encoding()], static_cast<unsigned>(date.day()),
                         kMonths[static_cast<unsigned>(date.month()) - 1], static_cast<int>(date.year()),
                         clock.hours().count(), clock.minutes().count(), clock.seconds().count()));
}

std::string Mail::id(Literal kind, std::string_view key, const MailAddress& of) {
  // Keys are hex; whatever else one may hold has no meaning in an address.
  static constexpr std::size_t kMaxId = 64;
  // A longer one, of which the end tells it from another, by its hash.
  const std::string hashed = key.size() > kMaxId ? rules::format_fingerprint(rules::hash_bytes(key)) : "";
  std::string id;
  for (const char c : hashed.empty() ? key : std::string_view(hashed)) {
    if (rules::is_alpha(c) || rules::is_digit(c)) id += c;
  }
  return fmt::format("<{}.{}@{}>", kind.view(), id, of.host());
}

Mail& Mail::say(const MailText& text) {
  text_ += text.str();
  was_cut_ = was_cut_ || text.was_cut();
  return *this;
}

std::string Mail::dump() const {
  return headers_ +
         "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
         "Content-Transfer-Encoding: quoted-printable\r\n\r\n" +
         quoted_printable(text_);
}

std::string quoted_printable(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    std::size_t columns = 0;
    for (std::size_t i = 0; i < line.size(); ++i) {
      const auto byte = static_cast<unsigned char>(line[i]);
      const bool last = i + 1 == line.size();
      bool plain = byte > 0x20 && byte < 0x7F && byte != '=';
      if (byte == ' ' || byte == '\t') plain = !last;  // at a line's end it would be lost
      // What means something to programs that a mail passes: an mbox's "From ", a lone dot.
      if (columns == 0 && (byte == '.' || line.substr(i, 5) == "From ")) plain = false;
      const std::string piece = plain ? std::string(1, line[i]) : fmt::format("={:02X}", byte);
      if (columns + piece.size() > kMaxMailLine - (last ? 0 : 1)) {
        out += "=\r\n";
        columns = 0;
      }
      out += piece;
      columns += piece.size();
    }
    out += "\r\n";
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return out;
}

ConsoleText::ConsoleText(std::string_view text, std::size_t max_bytes)
    : text_(clean(text, Lines::kJoin, max_bytes)) {
  // A tab would break the layout, and wherever it jumps to.
  std::replace(text_.begin(), text_.end(), '\t', ' ');
}

int columns_of(char32_t code) {
  if ((code >= 0x0300 && code <= 0x036F) || (code >= 0xFE00 && code <= 0xFE0F)) return 0;
  const bool wide = (code >= 0x1100 && code <= 0x115F) || (code >= 0x2E80 && code <= 0xA4CF) ||
                    (code >= 0xAC00 && code <= 0xD7A3) || (code >= 0xF900 && code <= 0xFAFF) ||
                    (code >= 0xFE30 && code <= 0xFE6F) || (code >= 0xFF00 && code <= 0xFF60) ||
                    (code >= 0x1F300 && code <= 0x1FAFF) || (code >= 0x20000 && code <= 0x3FFFD);
  return wide ? 2 : 1;
}

std::size_t ConsoleText::columns() const {
  std::size_t columns = 0;
  for (std::size_t at = 0; at < text_.size();) {
    const auto [code, bytes] = code_point_at(text_, at);
    columns += static_cast<std::size_t>(columns_of(code));
    at += bytes;
  }
  return columns;
}

namespace {

void add_words(const rules::Json& json, std::string& out) {
  if (json.is_string()) {
    out.append(json.string()).push_back('\n');
  } else if (json.is_number()) {
    out.append(json.dump()).push_back('\n');
  }
  for (const rules::Json& item : json.array())
    add_words(item, out);
  for (const auto& [name, value] : json.object())
    add_words(value, out);
}

}  // namespace

std::string Payload::words() const {
  std::string out;
  add_words(json_, out);
  return out;
}

Payload& Payload::put(std::string_view name, rules::Json value) {
  json_.set(name, std::move(value));
  return *this;
}

Payload& Payload::push(Payload value) {
  was_cut_ = was_cut_ || value.was_cut_;
  json_.push(std::move(value.json_));
  return *this;
}

Payload& Payload::push(const JsonString& value) {
  was_cut_ = was_cut_ || value.was_cut();
  json_.push(rules::Json(value.str()));
  return *this;
}

}  // namespace logbell::sinks

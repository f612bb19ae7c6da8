#include "sinks/encode.h"

#include <algorithm>
#include <array>
#include <cctype>

#include <fmt/format.h>

#include "rules/redact.h"

namespace logbell::sinks {
namespace {

constexpr std::string_view kEllipsis = "…";
// Nothing that gets here is longer: annotations are bounded when they are rendered, answers when they are
// read.
constexpr std::size_t kMaxCleanBytes = 1024UL * 1024;

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

// Belongs to the code point before it.
bool modifies(char32_t code) {
  return (code >= 0x0300 && code <= 0x036F) || (code >= 0x0591 && code <= 0x05C7) ||
         (code >= 0x064B && code <= 0x065F) || (code >= 0x093A && code <= 0x094F) ||
         (code >= 0x20D0 && code <= 0x20FF) || (code >= 0xFE00 && code <= 0xFE0F) ||
         (code >= 0x1F3FB && code <= 0x1F3FF) || (code >= 0x1F1E6 && code <= 0x1F1FF);
}

std::size_t units_of(char32_t code) {
  return code > 0xFFFF ? 2 : 1;
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

std::string cut_to_units(std::string_view utf8, std::size_t max_units) {
  std::size_t units = 0;
  std::size_t keep = 0;  // the longest beginning that leaves room for the ellipsis and ends well
  for (std::size_t at = 0; at < utf8.size();) {
    const auto [code, bytes] = code_point_at(utf8, at);
    if (units + 1 <= max_units && !modifies(code)) keep = at;
    units += units_of(code);
    at += bytes;
    if (units > max_units) {
      std::string out(utf8.substr(0, keep));
      if (max_units > 0) out += kEllipsis;
      return out;
    }
  }
  return std::string(utf8);
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

PlainText::PlainText(std::string_view text, std::size_t max_units, Lines lines)
    : text_(cut_to_units(clean(text, lines), max_units)) {}

PlainText& PlainText::operator+=(const PlainText& more) {
  text_ += more.text_;
  return *this;
}

PlainText PlainText::cut(std::size_t max_units) const {
  PlainText out;
  out.text_ = cut_to_units(text_, max_units);
  return out;
}

MrkdwnText::MrkdwnText(std::string_view text, std::size_t max_units) {
  const std::string plain = clean(text, Lines::kJoin);
  std::size_t units = 0;
  std::size_t keep = 0;  // as in cut_to_units
  char32_t before = ' ';
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
    if (units + 1 <= max_units && !modifies(code)) keep = text_.size();
    units += count_units(piece);
    text_ += piece;
    before = code;
    at += bytes;
    if (units > max_units) {
      text_.resize(keep);
      if (max_units > 0) text_ += kEllipsis;
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

MrkdwnText& MrkdwnText::operator+=(const MrkdwnText& more) {
  text_ += more.text_;
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

JsonString::JsonString(std::string_view text, std::size_t max_bytes)
    : text_(clean(text, Lines::kKeep, max_bytes)) {
  if (text_.size() > max_bytes) text_ = rules::clean_text(text_, max_bytes);
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

Payload& Payload::put(std::string_view name, rules::Json value) {
  json_.set(name, std::move(value));
  return *this;
}

Payload& Payload::push(Payload value) {
  json_.push(std::move(value.json_));
  return *this;
}

Payload& Payload::push(const JsonString& value) {
  json_.push(rules::Json(value.str()));
  return *this;
}

}  // namespace logbell::sinks

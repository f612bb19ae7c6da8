#include "rules/variable_parts.h"

#include <algorithm>
#include <array>
#include <optional>

#include "rules/quantity.h"
#include "rules/text.h"

namespace logbell::rules {
namespace {

using Kind = VariablePart::Kind;

constexpr std::size_t kLeastHex = 6;  // shorter ones are words: "added", "bad"
constexpr std::array<std::string_view, 6> kLevelKeys{"level",    "lvl",       "severity",
                                                     "loglevel", "levelname", "log.level"};

bool is_hex(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}
bool is_blank(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}
// What may stand in a word that is looked at as a whole.
bool is_inside(char c) {
  return is_word(c) || c == '-' || c == '.' || c == ':' || c == '/' || c == '@' || c == '+' || c == '%' ||
         c == '~' || c == '#' || c == '&' || c == '?' || static_cast<unsigned char>(c) >= 0x80;
}

std::size_t digits(std::string_view text) {
  return static_cast<std::size_t>(std::find_if_not(text.begin(), text.end(), &is_digit) - text.begin());
}

// Reads what a shape says: 9 is a digit, any other character itself.
bool has_shape(std::string_view text, std::string_view shape) {
  return text.size() >= shape.size() &&
         std::equal(shape.begin(), shape.end(), text.begin(),
                    [](char want, char c) { return want == '9' ? is_digit(c) : want == c; });
}

// The length of a time that begins here: a date, an hour, or both, with fraction and zone; 0: none does.
std::size_t time_length(std::string_view text) {
  std::size_t at = 0;
  const auto fraction_and_zone = [&] {
    if (at < text.size() && (text[at] == '.' || text[at] == ',') && digits(text.substr(at + 1)) > 0)
      at += 1 + digits(text.substr(at + 1));
    if (at < text.size() && text[at] == 'Z') {
      ++at;
    } else {
      for (const std::string_view zone : {"+99:99", "-99:99", "+9999", "-9999", " +9999", " -9999"}) {
        if (!has_shape(text.substr(at), zone)) continue;
        at += zone.size();
        break;
      }
    }
  };
  for (const std::string_view date : {"9999-99-99", "9999/99/99"}) {
    if (!has_shape(text, date)) continue;
    at = date.size();
    if (at < text.size() && (text[at] == 'T' || text[at] == ' ') &&
        has_shape(text.substr(at + 1), "99:99:99")) {
      at += 9;
      fraction_and_zone();
    }
    return at;
  }
  // 27/Nov/2026:10:00:00 +0000, as web servers write it.
  if (text.size() >= 20 && has_shape(text, "99/") && has_shape(text.substr(6), "/9999:99:99:99")) {
    at = 20;
    fraction_and_zone();
    return at;
  }
  // May  1 10:00:00, as syslog writes it.
  if (text.size() >= 15 && is_alpha(text[0]) && is_alpha(text[1]) && is_alpha(text[2]) && text[3] == ' ' &&
      (is_digit(text[4]) || text[4] == ' ') && is_digit(text[5]) && has_shape(text.substr(6), " 99:99:99"))
    return 15;
  if (has_shape(text, "99:99:99")) {
    at = 8;
    fraction_and_zone();
    return at;
  }
  return 0;
}

bool is_uuid(std::string_view word) {
  if (word.size() != 36) return false;
  for (std::size_t i = 0; i < word.size(); ++i) {
    const bool hyphen = i == 8 || i == 13 || i == 18 || i == 23;
    if (hyphen ? word[i] != '-' : !is_hex(word[i])) return false;
  }
  return true;
}

bool is_ip(std::string_view word) {
  // Version 4, perhaps with a port.
  std::size_t at = 0;
  for (int part = 0; part < 4; ++part) {
    const std::size_t length = digits(word.substr(at));
    if (length == 0 || length > 3) break;
    at += length;
    if (part == 3) {
      if (at == word.size()) return true;
      return word[at] == ':' && digits(word.substr(at + 1)) > 0 &&
             at + 1 + digits(word.substr(at + 1)) == word.size();
    }
    if (at >= word.size() || word[at++] != '.') break;
  }
  // Version 6: colons, and hex between them.
  const auto colons = std::count(word.begin(), word.end(), ':');
  return colons >= 2 && word.size() >= 3 &&
         std::all_of(word.begin(), word.end(), [](char c) { return is_hex(c) || c == ':'; }) &&
         (word.find("::") != std::string_view::npos || colons == 7);
}

bool is_number(std::string_view word) {
  if (!word.empty() && (word.front() == '-' || word.front() == '+')) word.remove_prefix(1);
  if (!word.empty() && word.back() == '%') word.remove_suffix(1);
  const std::size_t whole = digits(word);
  if (whole == 0) return false;
  if (whole == word.size()) return true;
  return word[whole] == '.' && digits(word.substr(whole + 1)) > 0 &&
         whole + 1 + digits(word.substr(whole + 1)) == word.size();
}

// A number with a unit of time.
bool is_duration(std::string_view word) {
  return !word.empty() && is_digit(word.front()) && is_alpha(word.back()) && word.back() != 'B' &&
         parse_quantity(word).has_value();
}

bool is_hex_word(std::string_view word) {
  if (word.substr(0, 2) == "0x" && word.size() > 2) return std::all_of(word.begin() + 2, word.end(), &is_hex);
  return word.size() >= kLeastHex && std::all_of(word.begin(), word.end(), &is_hex) &&
         std::any_of(word.begin(), word.end(), &is_digit);
}

// Digits and letters together, as names of machines, pods and requests have them; not a class or a version of
// a word that only ends with a digit behind a capital (`Http2Server` is a name that somebody wrote).
bool is_id(std::string_view word) {
  const auto digit = std::count_if(word.begin(), word.end(), &is_digit);
  const auto letter = std::count_if(word.begin(), word.end(), [](char c) { return is_alpha(c); });
  if (digit == 0 || letter == 0) return false;
  if (!std::all_of(word.begin(), word.end(), [](char c) { return is_word(c) || c == '-' || c == '.'; }))
    return false;
  const bool camel = std::any_of(word.begin() + 1, word.end(), [](char c) { return c >= 'A' && c <= 'Z'; }) &&
                     std::any_of(word.begin(), word.end(), [](char c) { return c >= 'a' && c <= 'z'; }) &&
                     digit == 1;
  return !camel;
}

std::optional<Kind> kind_of(std::string_view word) {
  if (word.empty()) return std::nullopt;
  if (is_uuid(word)) return Kind::kUuid;
  if (is_ip(word)) return Kind::kIp;
  const std::size_t scheme = word.find("://");
  if (scheme != std::string_view::npos && scheme > 0 && scheme + 3 < word.size()) return Kind::kUrl;
  const std::size_t at = word.find('@');
  if (at != std::string_view::npos && at > 0 && at == word.rfind('@') &&
      word.find('.', at) != std::string_view::npos && word.find('/') == std::string_view::npos)
    return Kind::kEmail;
  if (word.front() == '/' && word.size() > 1) return Kind::kPath;
  if (is_number(word)) return Kind::kNumber;
  if (is_duration(word)) return Kind::kDuration;
  if (is_hex_word(word)) return Kind::kHex;
  // /var/log is a path, and/or is none.
  if (std::count(word.begin(), word.end(), '/') >= 2) return Kind::kPath;
  if (is_id(word)) return Kind::kId;
  return std::nullopt;
}

bool is_level_key(std::string_view key) {
  return std::any_of(kLevelKeys.begin(), kLevelKeys.end(),
                     [&](std::string_view known) { return same_ignoring_case(key, known); });
}

class Reader {
 public:
  explicit Reader(std::string_view line) : line_(line) {}

  std::vector<VariablePart> read() {
    while (at_ < line_.size()) {
      const char before = at_ > 0 ? line_[at_ - 1] : ' ';
      if (!is_word(before)) {
        if (const std::size_t length = time_length(line_.substr(at_));
            length > 0 && ends_word(at_ + length)) {
          add(Kind::kTime, at_, length, {});
          continue;
        }
      }
      const char c = line_[at_];
      if (c == '"' || (c == '\'' && !is_word(before))) {
        if (quoted(c)) continue;
      }
      if (!is_inside(c)) {
        ++at_;
        continue;
      }
      word();
    }
    return std::move(parts_);
  }

 private:
  bool ends_word(std::size_t at) const { return at >= line_.size() || !is_word(line_[at]); }

  void add(Kind kind, std::size_t offset, std::size_t length, std::string key) {
    parts_.push_back({kind, offset, length, std::move(key)});
    at_ = offset + length;
  }

  // The key that ends right before `at`, at its "=" or ": "; "": there is none.
  std::string key_before(std::size_t at) const {
    std::size_t end = at;
    if (end > 1 && line_[end - 1] == ' ' && line_[end - 2] == ':') {
      end -= 2;
    } else if (end > 0 && (line_[end - 1] == '=' || line_[end - 1] == ':')) {
      --end;
    } else {
      return {};
    }
    if (end > 0 && (line_[end - 1] == '"' || line_[end - 1] == '\'')) --end;  // {"key": …}
    std::size_t from = end;
    while (from > 0 && (is_word(line_[from - 1]) || line_[from - 1] == '.' || line_[from - 1] == '-'))
      --from;
    while (from < end && !is_alpha(line_[from]) && line_[from] != '_')
      ++from;
    return std::string(line_.substr(from, end - from));
  }

  // A text in quotes, up to the next one that is not escaped. One that is never closed is an apostrophe. A
  // key of JSON
  // ("queue": …) is what somebody wrote.
  bool quoted(char quote) {
    std::size_t end = at_ + 1;
    while (end < line_.size() && line_[end] != quote)
      end += line_[end] == '\\' ? 2 : 1;
    if (end >= line_.size()) return false;
    const std::string key = key_before(at_);
    const bool is_key = end + 1 < line_.size() && line_[end + 1] == ':';
    if (is_key || end == at_ + 1 || is_level_key(key)) {
      at_ = end + 1;
      return true;
    }
    add(Kind::kQuoted, at_ + 1, end - at_ - 1, key);
    at_ = end + 1;
    return true;
  }

  void word() {
    const std::size_t from = at_;
    std::size_t end = from;
    while (end < line_.size() && is_inside(line_[end]))
      ++end;
    // A key, then its value; or a URL with its query.
    if (end < line_.size() && line_[end] == '=' && end > from) {
      const std::string_view key = line_.substr(from, end - from);
      const bool is_name = std::all_of(key.begin(), key.end(),
                                       [](char c) { return is_word(c) || c == '.' || c == '-' || c == '@'; });
      if (is_name) {
        at_ = end + 1;
        value(std::string(key));
        return;
      }
      while (end < line_.size() && (is_inside(line_[end]) || line_[end] == '='))
        ++end;
    }
    std::string_view text = line_.substr(from, end - from);
    while (!text.empty() && (text.back() == '.' || text.back() == ':' || text.back() == '?' ||
                             text.back() == '-' || text.back() == '#'))
      text.remove_suffix(1);
    std::size_t offset = from;
    while (!text.empty() && (text.front() == '#' || text.front() == ':')) {
      text.remove_prefix(1);
      ++offset;
    }
    if (const std::optional<Kind> kind = kind_of(text)) {
      add(*kind, offset, text.size(), key_before(offset));
      return;
    }
    at_ = end;
    // order:7 and Orders.java:12 end with a number of their own.
    const std::size_t colon = text.rfind(':');
    if (colon != std::string_view::npos && colon > 0 && is_number(text.substr(colon + 1)) &&
        kind_of(text.substr(0, colon)) == std::nullopt)
      add(Kind::kNumber, offset + colon + 1, text.size() - colon - 1, key_before(offset + colon + 1));
    at_ = std::max(at_, end);
  }

  void value(std::string key) {
    if (at_ < line_.size() && (line_[at_] == '"' || line_[at_] == '\'')) return;  // quoted() knows its key
    std::size_t end = at_;
    while (end < line_.size() && !is_blank(line_[end]) && line_[end] != ',' && line_[end] != ';' &&
           line_[end] != ')' && line_[end] != ']' && line_[end] != '}')
      ++end;
    const std::string_view text = line_.substr(at_, end - at_);
    if (text.empty() || is_level_key(key)) {
      at_ = end;
      return;
    }
    if (const std::size_t length = time_length(text); length == text.size()) {
      add(Kind::kTime, at_, length, std::move(key));
      return;
    }
    // A plain word is as likely one of a few that matter (method=POST) as any name: it stays as it is.
    if (const std::optional<Kind> kind = kind_of(text)) {
      add(*kind, at_, text.size(), std::move(key));
    } else if (std::any_of(text.begin(), text.end(), &is_digit)) {
      add(Kind::kValue, at_, text.size(), std::move(key));
    } else {
      at_ = end;
    }
  }

  std::string_view line_;
  std::size_t at_ = 0;
  std::vector<VariablePart> parts_;
};

}  // namespace

std::vector<VariablePart> variable_parts(std::string_view line) {
  return Reader(line).read();
}

std::string_view to_string(VariablePart::Kind kind) {
  static constexpr std::array<std::string_view, 12> kNames{
      "time", "uuid", "ip", "url", "email", "path", "duration", "number", "hex", "id", "quoted", "value"};
  return kNames[static_cast<std::size_t>(kind)];
}

std::string line_template(std::string_view line) {
  std::string out;
  std::size_t done = 0;
  for (const VariablePart& part : variable_parts(line)) {
    out.append(line.substr(done, part.offset - done));
    out.append("<").append(to_string(part.kind)).append(">");
    done = part.offset + part.length;
  }
  return out.append(line.substr(done));
}

}  // namespace logbell::rules

// What the fuzzers share: the first line of an input says how, the rest is what.
//
// Test only. Pure.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace logbell::fuzz {

inline std::string_view text_of(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// What stands before the first `separator`, and behind it.
inline std::pair<std::string_view, std::string_view> split_at(std::string_view text, char separator) {
  const std::size_t at = text.find(separator);
  if (at == std::string_view::npos) return {text, {}};
  return {text.substr(0, at), text.substr(at + 1)};
}

// At least one, empty ones too.
inline std::vector<std::string_view> split_all(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (true) {
    const std::size_t at = text.find(separator);
    parts.push_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 1);
  }
}

// The words of an input's first line: "cri auto json 7".
class Words {
 public:
  explicit Words(std::string_view line) : line_(line) {}
  bool has(std::string_view word) const { return line_.find(word) != std::string_view::npos; }
  // Its first digits, at most two of them, as a number; 0 where there are none.
  std::size_t number() const {
    const std::size_t from = std::min(line_.find_first_of("0123456789"), line_.size());
    std::size_t value = 0;
    for (std::size_t at = from; at < line_.size() && at < from + 2; ++at) {
      if (line_[at] < '0' || line_[at] > '9') break;
      value = value * 10 + static_cast<std::size_t>(line_[at] - '0');
    }
    return value;
  }

 private:
  std::string_view line_;
};

// Strict UTF-8 (RFC 3629): no overlong forms, no surrogates, nothing beyond U+10FFFF. `each` is shown each
// code point. Written anew, so that it does not share a mistake with what it judges.
template <class Each>
bool is_utf8(std::string_view text, Each each) {
  for (std::size_t at = 0; at < text.size();) {
    const auto byte = [&](std::size_t i) {
      return static_cast<std::uint32_t>(static_cast<unsigned char>(text[i]));
    };
    const std::uint32_t first = byte(at);
    std::size_t more = 0;
    std::uint32_t code = first;
    if (first >= 0xF0) {
      more = 3, code = first & 0x07U;
    } else if (first >= 0xE0) {
      more = 2, code = first & 0x0FU;
    } else if (first >= 0xC0) {
      more = 1, code = first & 0x1FU;
    } else if (first >= 0x80) {
      return false;
    }
    if (first > 0xF4 || at + more >= text.size()) return false;
    for (std::size_t i = 1; i <= more; ++i) {
      if ((byte(at + i) & 0xC0U) != 0x80) return false;
      code = code << 6U | (byte(at + i) & 0x3FU);
    }
    const std::uint32_t least = more == 1 ? 0x80 : more == 2 ? 0x800 : more == 3 ? 0x10000 : 0;
    if (code < least || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) return false;
    each(static_cast<char32_t>(code));
    at += more + 1;
  }
  return true;
}
inline bool is_utf8(std::string_view text) {
  return is_utf8(text, [](char32_t) {});
}

// Text that can be shown: valid UTF-8 without control characters (but tab, and line breaks where `lines`),
// without what turns the direction around, and without what has no width.
inline bool is_clean(std::string_view text, bool lines) {
  bool clean = true;
  const bool valid = is_utf8(text, [&](char32_t code) {
    const bool control =
        (code < 0x20 && code != '\t' && !(lines && code == '\n')) || (code >= 0x7F && code < 0xA0);
    const bool turns = (code >= 0x202A && code <= 0x202E) || (code >= 0x2066 && code <= 0x2069);
    if (control || turns || code == 0x200B || code == 0xFEFF) clean = false;
  });
  return valid && clean;
}

}  // namespace logbell::fuzz

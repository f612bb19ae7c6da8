#include "rules/error_lines.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

namespace logbell::rules {
namespace {

// In small letters; of those that begin alike the longest first.
constexpr std::array<std::string_view, 11> kWords{"error", "erro",   "err",       "fatal", "fata", "critical",
                                                  "crit",  "severe", "emergency", "emerg", "panic"};
constexpr std::size_t kPrefix = 3;  // of each is looked for
// Ends of the names of fields that hold a level: level, loglevel, log.level, levelname, lvl, severity.
constexpr std::array<std::string_view, 6> kLevelKeys{"level",     "lvl",        "severity",
                                                     "levelname", "level_name", "severity_text"};

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
}
bool is_upper(char c) {
  return c >= 'A' && c <= 'Z';
}
bool is_word(char c) {
  return (c >= '0' && c <= '9') || (lower(c) >= 'a' && lower(c) <= 'z') || c == '_' ||
         static_cast<unsigned char>(c) >= 0x80;
}
bool is_quote(char c) {
  return c == '"' || c == '\'';
}
bool starts_with_folded(std::string_view text, std::string_view word) {
  return text.size() >= word.size() &&
         std::equal(word.begin(), word.end(), text.begin(), [](char a, char b) { return a == lower(b); });
}

// How long the escape sequence is with which `text` ends and that turns a colour on or off (ECMA-48's SGR, "\x1b[1;31m"); 0: there is none.
std::size_t colour_at_end(std::string_view text) {
  constexpr std::size_t kLongest = 24;  // "\x1b[38;2;255;255;255m" and what else is seen
  if (text.empty() || text.back() != 'm') return 0;
  for (std::size_t length = 2; length <= std::min(kLongest, text.size()); ++length) {
    const char c = text[text.size() - length];
    if (c == '[') return length < text.size() && text[text.size() - length - 1] == '\x1b' ? length + 1 : 0;
    if (!(c >= '0' && c <= '9') && c != ';') return 0;
  }
  return 0;
}

// What stands around a word in its line.
class Place {
 public:
  Place(std::string_view line, std::size_t at, std::size_t length)
      : line_(line), at_(at), end_(at + length), word_(line.substr(at, length)) {}

  bool is_level() const {
    return (is_capitals() && stands_alone() && !names_nothing()) || in_brackets() || is_value_of_level() ||
           begins_line() || is_coloured();
  }

 private:
  char before() const { return at_ > 0 ? line_[at_ - 1] : ' '; }
  char after(std::size_t i = 0) const { return end_ + i < line_.size() ? line_[end_ + i] : ' '; }
  // "ERR" alone is too often no level.
  bool is_capitals() const { return word_.size() > 3 && std::all_of(word_.begin(), word_.end(), &is_upper); }
  // Not a part of a path, of a name or of a word with hyphens. Monolog writes "app.ERROR: ".
  bool stands_alone() const {
    const auto joins = [](char c) { return c == '-' || c == '/' || c == '\\' || c == '$' || c == '%'; };
    if (joins(before()) || (before() == '.' && after() != ':')) return false;
    return !joins(after()) && !(after() == '.' && is_word(after(1)));
  }
  // ERROR=0, "ERROR": null: how many there are, and there are none. After the word of a message, as in
  // "ERROR: 0 rows", a number is no count of errors.
  bool names_nothing() const {
    std::string_view rest = line_.substr(end_);
    const bool quoted = !rest.empty() && is_quote(rest.front());
    if (quoted) rest.remove_prefix(1);
    const auto skip_blanks = [&rest] {
      rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
    };
    skip_blanks();
    if (rest.empty() || !(rest.front() == '=' || (quoted && rest.front() == ':'))) return false;
    rest.remove_prefix(1);
    skip_blanks();
    for (const std::string_view nothing : {"0", "null", "none", "nil", "false", "\"\"", "''", "[]", "{}"}) {
      if (starts_with_folded(rest, nothing) &&
          (rest.size() == nothing.size() || !is_word(rest[nothing.size()])))
        return true;
    }
    return false;
  }
  bool in_brackets() const {
    if (after() != ']') return false;
    if (before() == '[') return true;
    if (before() != ':') return false;
    std::size_t from = at_ - 1;
    while (from > 0 && is_word(line_[from - 1]))
      --from;
    return from > 0 && line_[from - 1] == '[';
  }
  // Nobody paints a word by itself that is no level.
  bool is_coloured() const { return after() == '\x1b' && colour_at_end(line_.substr(0, at_)) > 0; }
  bool is_value_of_level() const {
    std::size_t from = at_ - colour_at_end(line_.substr(0, at_));
    const auto skip = [&](auto wanted) {
      while (from > 0 && wanted(line_[from - 1]))
        --from;
    };
    const auto skip_one = [&](auto wanted) {
      if (from == 0 || !wanted(line_[from - 1])) return false;
      --from;
      return true;
    };
    const auto is_blank = [](char c) { return c == ' ' || c == '\t'; };
    skip_one(&is_quote);
    skip_one([](char c) { return c == '\\'; });  // JSON within JSON
    skip(is_blank);
    if (!skip_one([](char c) { return c == '=' || c == ':'; })) return false;
    skip(is_blank);
    skip_one(&is_quote);
    skip_one([](char c) { return c == '\\'; });
    return std::any_of(kLevelKeys.begin(), kLevelKeys.end(), [&](std::string_view key) {
      return from >= key.size() && starts_with_folded(line_.substr(from - key.size(), key.size()), key);
    });
  }
  bool begins_line() const {
    const std::string_view rest = line_.substr(end_);
    return at_ == 0 && ((word_ == "panic" && rest.substr(0, 2) == ": ") ||
                        (word_ == "fatal" && (rest.substr(0, 2) == ": " || rest.substr(0, 8) == " error: ")));
  }

  std::string_view line_;
  std::size_t at_;
  std::size_t end_;
  std::string_view word_;
};

// The word that stands at `at` by itself; empty: none of ours.
std::string_view word_at(std::string_view block, std::size_t at) {
  if (at > 0 && is_word(block[at - 1]) && colour_at_end(block.substr(0, at)) == 0) return {};
  const std::string_view rest = block.substr(at);
  for (const std::string_view word : kWords) {
    if (starts_with_folded(rest, word))
      return rest.size() > word.size() && is_word(rest[word.size()]) ? std::string_view()
                                                                     : rest.substr(0, word.size());
  }
  return {};
}

// Sixteen bytes, each for itself; any machine's vector unit, or none.
using Bytes = std::uint8_t __attribute__((vector_size(16)));

Bytes folded(const char* from) {
  Bytes bytes;
  std::memcpy(&bytes, from, sizeof bytes);
  return bytes | static_cast<std::uint8_t>(0x20);
}

// At which of the 16 bytes from here on one of the words may begin: 0 where it cannot; two more can be read.
using Places = std::array<std::uint64_t, 2>;
Places may_begin(const char* from) {
  const Bytes first = folded(from);
  const Bytes second = folded(from + 1);
  const Bytes third = folded(from + 2);
  const auto is = [&](const char* prefix) {
    const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(prefix[i]); };
    return (first == byte(0)) & (second == byte(1)) & (third == byte(2));
  };
  const auto any = is("err") | is("fat") | is("cri") | is("sev") | is("eme") | is("pan");
  Places places;
  static_assert(sizeof places == sizeof any);
  std::memcpy(&places, &any, sizeof places);
  return places;
}

// The line around the word at `at`, without CR.
ErrorLine line_around(std::string_view block, std::size_t at) {
  const void* before = ::memrchr(block.data(), '\n', at);
  const std::size_t from =
      before == nullptr ? 0 : static_cast<std::size_t>(static_cast<const char*>(before) - block.data()) + 1;
  std::size_t end = std::min(block.find('\n', at), block.size());
  if (block[end - 1] == '\r') --end;
  return {from, end - from};
}

}  // namespace

void find_error_lines(std::string_view block, std::vector<ErrorLine>& out) {
  std::size_t not_before = 0;  // one word of a line is enough
  const auto look_at = [&](std::size_t at) {
    if (at < not_before) return;
    const std::string_view word = word_at(block, at);
    if (word.empty()) return;
    const ErrorLine line = line_around(block, at);
    if (!Place(block.substr(line.offset, line.length), at - line.offset, word.size()).is_level()) return;
    out.push_back(line);
    not_before = line.offset + line.length;
  };
  std::size_t at = 0;
  for (; at + sizeof(Bytes) + kPrefix - 1 <= block.size(); at += sizeof(Bytes)) {
    const Places places = may_begin(block.data() + at);
    if ((places[0] | places[1]) == 0) continue;
    std::array<char, sizeof(Bytes)> each;
    std::memcpy(each.data(), &places, sizeof places);
    for (std::size_t i = 0; i < each.size(); ++i) {
      if (each[i] != 0) look_at(at + i);
    }
  }
  for (; at + kPrefix <= block.size(); ++at)
    look_at(at);
}

bool looks_like_error(std::string_view line) {
  std::vector<ErrorLine> found;
  find_error_lines(line, found);
  return !found.empty();
}

}  // namespace logbell::rules

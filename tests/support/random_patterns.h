// Random regexes and lines that have a chance to match them, for tests that hold the fast matcher against
// RE2.
//
// Test only. Each thread its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace logbell::tests {

class RandomPatterns {
 public:
  explicit RandomPatterns(std::uint64_t seed) : random_(seed) {}

  std::size_t below(std::size_t n) { return static_cast<std::size_t>(random_() % n); }
  template <std::size_t N>
  std::string_view one(const std::string_view (&of)[N]) {
    return of[below(N)];
  }

  // In RE2's syntax; it may refuse some (a repeated \b, say).
  std::string regex(int depth = 3) {
    std::string text = below(8) == 0 ? "(?i)" : "";
    return text + alternatives(depth);
  }

  // What characters of the regexes, and those that fold to them, can stand in a line.
  std::string piece() {
    static constexpr std::string_view kPieces[] = {"a",
                                                   "b",
                                                   "k",
                                                   "s",
                                                   "K",
                                                   "S",
                                                   "A",
                                                   "x",
                                                   "0",
                                                   "7",
                                                   "_",
                                                   " ",
                                                   "-",
                                                   ".",
                                                   "\t",
                                                   "ab",
                                                   "ka",
                                                   "error",
                                                   "ERROR",
                                                   "status=5",
                                                   "500",
                                                   "\xC3\xA9",
                                                   "\xC3\x89",
                                                   "\xE2\x84\xAA",
                                                   "\xC5\xBF",
                                                   "\xE2\x82\xAC",
                                                   "\xF0\x9F\x94\x94",
                                                   "\xC3",
                                                   "\xA9",
                                                   "\xFF",
                                                   "\x80",
                                                   "\xED\xA0\x80",
                                                   "\xF4\x90\x80\x80",
                                                   "\r",
                                                   "\"",
                                                   "\\",
                                                   "/",
                                                   "=",
                                                   "\x0b",
                                                   "\x7f"};
    if (below(40) == 0) return std::string(1, '\0');
    return std::string(one(kPieces));
  }
  std::string line() {
    std::string text;
    for (std::size_t n = below(below(4) == 0 ? 40 : 8); n > 0; --n)
      text += piece();
    return text;
  }
  // Lines with ends of both kinds; the last may have none.
  std::string block(std::size_t lines) {
    std::string text;
    for (std::size_t i = 0; i < lines; ++i)
      text += line() + (below(5) == 0 ? "\r\n" : "\n");
    if (below(3) == 0) text += line();
    return text;
  }

 private:
  std::string alternatives(int depth) {
    std::string text = sequence(depth);
    while (below(6) == 0)
      text += "|" + sequence(depth);
    return text;
  }
  std::string sequence(int depth) {
    std::string text;
    for (std::size_t n = below(5); n > 0; --n)
      text += repeated(depth);
    return text;
  }
  std::string repeated(int depth) {
    static constexpr std::string_view kCounts[] = {"*",     "+",     "?",    "*?",  "+?",    "??",   "{2}",
                                                   "{0,2}", "{1,3}", "{2,}", "{0}", "{0,1}", "{,3}", "{40}"};
    std::string text = atom(depth);
    if (below(3) == 0) text += one(kCounts);
    return text;
  }
  std::string atom(int depth) {
    static constexpr std::string_view kAtoms[] = {"a",
                                                  "b",
                                                  "k",
                                                  "s",
                                                  "K",
                                                  "S",
                                                  "x",
                                                  "0",
                                                  "_",
                                                  " ",
                                                  "error",
                                                  "status=",
                                                  "5",
                                                  "\xC3\xA9",
                                                  "\xE2\x84\xAA",
                                                  "\xC5\xBF",
                                                  ".",
                                                  ".*",
                                                  "\\d",
                                                  "\\D",
                                                  "\\w",
                                                  "\\W",
                                                  "\\s",
                                                  "\\S",
                                                  "\\pL",
                                                  "\\PL",
                                                  "\\p{Greek}",
                                                  "\\pN",
                                                  "\\p{^Lu}",
                                                  "\\x41",
                                                  "\\x{e9}",
                                                  "\\xe9",
                                                  "\\x{20ac}",
                                                  "\\x00",
                                                  "\\07",
                                                  "\\141",
                                                  "\\.",
                                                  "\\-",
                                                  "\\/",
                                                  "\\t",
                                                  "\\r",
                                                  "\\v",
                                                  "\\a",
                                                  "\\f",
                                                  "\\n",
                                                  "\\Qa.b\\E",
                                                  "\\Q\xC3\xA9\\E",
                                                  "\\Qk",
                                                  "^",
                                                  "$",
                                                  "\\A",
                                                  "\\z",
                                                  "\\b",
                                                  "\\B",
                                                  "\\C",
                                                  "[ab]",
                                                  "[^a]",
                                                  "[a-k]",
                                                  "[^k]",
                                                  "[\xC3\xA9]",
                                                  "[^\xC3\xA9]",
                                                  "[\\d_]",
                                                  "[^\\d]",
                                                  "[[:alpha:]]",
                                                  "[[:^alpha:]]",
                                                  "[[:space:]-]",
                                                  "[]a]",
                                                  "[^]a]",
                                                  "[-a]",
                                                  "[a-]",
                                                  "[\\]a]",
                                                  "[\\x{100}-\\x{10ffff}]",
                                                  "[^\\x00-\\x{10ffff}]",
                                                  "[\\pL\\d]",
                                                  "[^\\pL]",
                                                  "[^\\PN]",
                                                  "[\\S]",
                                                  "[^\\S]",
                                                  "[K-\xC5\xBF]",
                                                  "[.]",
                                                  "{",
                                                  "}",
                                                  "]",
                                                  "\"",
                                                  "\\\\",
                                                  "="};
    if (depth > 0 && below(5) == 0) {
      static constexpr std::string_view kOpen[] = {
          "(", "(?:", "(?i:", "(?-i:", "(?s:", "(?m:", "(?U:", "(?P<n>", "(?im-s:"};
      return std::string(one(kOpen)) + alternatives(depth - 1) + ")";
    }
    if (below(25) == 0) {
      static constexpr std::string_view kFlags[] = {"(?i)", "(?-i)", "(?s)", "(?m)", "(?U)"};
      return std::string(one(kFlags));
    }
    return std::string(one(kAtoms));
  }

  std::mt19937_64 random_;
};

}  // namespace logbell::tests

// RegexTree: what a regex can match within one line, as a tree of byte sets, so that it can be searched for
// in a block of bytes before RE2 decides.
//
// Values; pure; any thread. The tree never says less than RE2 does, in UTF-8 and in Latin-1 (rules/regex.h):
// every line that RE2 matches holds a text of it, but where it `folds`, and the line holds U+017F or U+212A.
// It may say more: a character that is not ASCII is any of one to four bytes from 0x80 on wherever a class, a
// dot or case folding could mean it.
#pragma once

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace logbell::rules {

// One character: a byte of `bytes`; or, where `wide`, it may also be beyond ASCII, or a fold of that: nothing is certain of
// it. Never a newline.
struct ByteSet {
  std::bitset<256> bytes;
  bool wide = false;

  static ByteSet of(unsigned char byte);
  bool empty() const { return bytes.none() && !wide; }
  friend bool operator==(const ByteSet&, const ByteSet&) = default;
};

struct RegexTree {
  enum class Kind : std::uint8_t {
    kEmpty,    // the empty text
    kNothing,  // matches nowhere: [^\x00-\x{10FFFF}]
    kSet,
    kConcat,
    kAlternate,
    kRepeat,  // of parts[0], `least` to `most` times
    kLineBegin,
    kLineEnd,
    kWordEdge,    // \b, as RE2 has it: of ASCII words
    kNoWordEdge,  // \B
  };
  static constexpr int kUnbounded = -1;

  Kind kind = Kind::kEmpty;
  ByteSet set;
  int least = 0;
  int most = 0;
  std::vector<RegexTree> parts;
  bool folds =
      false;  // of the whole: a k or an s in it may also be U+212A (the Kelvin sign) or U+017F (a long s)

  static RegexTree literal(std::string_view text);
  static RegexTree any_of(std::vector<RegexTree> parts);

  // Without lines' ends and words' edges: what it matches as a part of something else.
  RegexTree unanchored() const;
};

// Reads what RE2 takes with its default syntax. Unset: too deep, or something this reader does not know; the
// regex can only be tried line by line.
std::optional<RegexTree> parse_regex(std::string_view pattern);

}  // namespace logbell::rules

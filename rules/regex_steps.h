// RegexSteps: a regex in the pieces it was written in, to say how far it gets in a line that it does not
// match, and what it wants there.
//
// Immutable and thread-safe. Whether a line matches is not asked here: rules/regex.h says that. RE2 is asked
// of each beginning and of each end of the regex; where this reader cuts wrongly RE2 refuses the piece, and
// nothing is said of it.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace logbell::rules {

// How much of a regex stands in a line that does not match it.
struct PartialMatch {
  double share = 0;      // of what it asks for in so many words, 0 to 1: to order them by
  bool is_end = false;   // it is its end that matches, and what it wants stands before
  std::string held;      // what matches, as written; "": nothing that means anything
  std::string wanted;    // what is next, as written
  std::size_t from = 0;  // bytes of the line that `held` matches
  std::size_t to = 0;
  bool anywhere = false;  // `wanted` may stand anywhere from there on (or before it), and does not
};

class RegexSteps {
 public:
  // `pattern` is one that RE2 takes.
  explicit RegexSteps(std::string_view pattern);

  // The best of its alternatives. `line` does not match.
  PartialMatch in(std::string_view line) const;

  // The texts that stand in it as they are, at least kLeastLetters long: what makes a line look like one of
  // its own.
  const std::vector<std::string>& letters() const { return letters_; }
  static constexpr std::size_t kLeastLetters = 3;

 private:
  struct Step {
    enum class Kind { kPiece, kOpen, kClose, kFlags } kind = Kind::kPiece;
    std::string text;
    double weight = 0;       // how much it says that it is there
    bool unbounded = false;  // .* and the like: what follows may stand anywhere
    bool literal = false;    // one character as itself
    std::string character;   // of a literal
  };
  using Steps = std::vector<Step>;
  class Reader;

  static std::string beginning(const Steps& steps, std::size_t count);
  static std::string end(const Steps& steps, std::size_t from);
  static PartialMatch match_alternative(const Steps& steps, std::string_view line);

  std::vector<Steps> alternatives_;
  std::vector<std::string> letters_;
};

}  // namespace logbell::rules

// Speller: texts that a regular expression matches, one after another, the plainest first.
//
// RE2's own tree is not public: the expression is read once more, its classes are put to RE2 character by
// character, and every text is put to the whole expression before it is given away. What is read wrongly here
// costs a text, and never makes a wrong one.
//
// Owned by one thread. No text is longer than kMaxSpelledBytes; work is bounded by kMaxSpellings, and by what
// is put to the expression (kMaxAskedBytes), whatever was written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "rules/labels.h"
#include "rules/regex.h"

namespace logbell::rules {

// A drill's line is read by people, and has to fit into what a source keeps of a line by default.
inline constexpr std::size_t kMaxSpelledBytes = 4096;
// The first dozen are meant, the rest are drawn: what none of them finds is left to the operator's examples.
inline constexpr int kMaxSpellings = 200;
// Put to one expression in all: some milliseconds, and less than a second where RE2 has to fall back to its
// slow way.
inline constexpr std::size_t kMaxAskedBytes = 256 * 1024;

class Speller {
 public:
  struct Wishes {
    std::string value;            // the group that shall hold a number; "" = none
    bool whole_is_value = false;  // the whole text shall be one
    Labels groups;                // what groups shall hold, by name, where the expression allows it
  };

  explicit Speller(const Regex& regex) : Speller(regex, Wishes{}) {}
  Speller(const Regex& regex, Wishes wishes);
  ~Speller();
  Speller(Speller&&) noexcept;
  Speller& operator=(Speller&&) noexcept;

  // The n-th text (n < kMaxSpellings), the same each time; nothing where that attempt failed. Named groups
  // hold something wherever they can. A line break is in it only where the expression has no other way.
  std::optional<std::string> spell(int n);
  // Nothing more will come: the expression was not understood, or the bounds are reached.
  bool is_spent() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace logbell::rules

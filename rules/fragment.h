// Fragments: short runs of bytes of which every line that a regex matches must hold one. They are what a
// block is searched for.
//
// Values; pure; any thread.
#pragma once

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "rules/regex_tree.h"

namespace logbell::rules {

// Sets of bytes that follow each other. A newline in one stands for a line's beginning or end.
using Run = std::vector<std::bitset<256>>;

// What a text must hold: all of the runs, and for each of `any` one of its alternatives.
struct Need {
  std::vector<Run> runs;
  std::vector<std::vector<Need>> any;
};
Need need_of(const RegexTree& tree);

// Four bytes that follow each other, as the scan looks at them: the first is the lowest.
using Gram = std::uint32_t;
inline constexpr std::size_t kGramBytes = 4;
// A window of a run that stands for more grams than this is not looked for.
inline constexpr std::size_t kMostWindowGrams = 256;

inline Gram gram_at(const char* at) {
  Gram gram = 0;
  std::memcpy(&gram, at, sizeof gram);
  return gram;
}

// Four bytes of a run, by which it is found.
struct Fragment {
  Run run;                 // at most kMostFragmentBytes of it
  std::size_t window = 0;  // where the four bytes begin; in a run of three, the fourth is any
  friend bool operator==(const Fragment&, const Fragment&) = default;

  std::vector<Gram> grams() const;
  // Whether the run stands in `text` with its window at `at`. What lies outside of `text` is a newline.
  bool is_at(std::string_view text, std::size_t at) const;
};
inline constexpr std::size_t kMostFragmentBytes = 24;

// One of these stands in the line. Empty: nothing is known of it.
using Clause = std::vector<Fragment>;

// How often grams occur in a sample of the log, so that rare fragments are looked for.
class GramCounts {
 public:
  // Counts of these, in the sample.
  void want(Gram gram) { counts_.try_emplace(gram, 0); }
  void count(std::string_view sample);
  std::uint64_t of(const Fragment& fragment) const;
  std::size_t positions() const { return positions_; }  // that were looked at

 private:
  std::unordered_map<Gram, std::uint32_t> counts_;
  std::size_t positions_ = 0;
};

// Each gram that choose() may ask for.
void want_grams(const Need& need, GramCounts& counts);

// Clauses of a need, all of which hold in each line that has it, the rarest first, at most `most` of them.
// None: nothing in it is long enough to be looked for.
std::vector<Clause> choose(const Need& need, const GramCounts& counts, std::size_t most);

}  // namespace logbell::rules

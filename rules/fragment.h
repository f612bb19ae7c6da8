// Fragments: short runs of bytes of which every line that a regex matches must hold one. They are what a
// block is searched for.
//
// Values; pure; any thread.
#pragma once

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
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
inline constexpr std::size_t kMostWindowGrams = 1024;

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

  std::string key() const;  // equal where they are
  std::vector<Gram> grams() const;
  // Whether the run stands in `text` with its window at `at`. What lies outside of `text` is a newline.
  bool is_at(std::string_view text, std::size_t at) const;
};
inline constexpr std::size_t kMostFragmentBytes = 24;

// One of these stands in the line. Empty: nothing is known of it.
using Clause = std::vector<Fragment>;

// How often fragments occur in a sample of the log, so that rare ones are looked for.
class SampleCounts {
 public:
  // Those of each clause that weigh() may make of it.
  void want(const Need& need);
  void count(std::string_view sample);
  // In the sample; 0 for what was not wanted before count().
  std::uint64_t windows(const std::string& key) const;  // a window, by its four sets of bytes
  std::uint64_t runs(const std::string& key) const;     // all that is looked at of a run, by its sets
  std::size_t bytes() const { return bytes_; }            // of the sample

 private:
  struct Run {
    Fragment fragment;
    std::uint64_t count = 0;
  };
  std::unordered_map<std::string, std::uint64_t> windows_;  // by their sets of bytes
  std::unordered_map<std::string, Run> runs_;  // so, too; each with its window of the fewest grams
  std::size_t bytes_ = 0;
};

// Nanoseconds, about, on a machine of 2026: only their ratios matter.
inline constexpr double kWindowCost = 12;  // that the sieve passes a place (a branch that was guessed wrong), and to compare a run there
inline constexpr double kLineCost = 100;   // to find a line's ends, and its grams
inline constexpr double kPatternCost = 3;  // to ask for the grams of one pattern
inline constexpr double kRegexCost = 300;  // to ask RE2

struct WeighedClause {
  Clause clause;
  double looked = 0;  // how often its windows are in the sample, about
  double found = 0;   // how often it is

  double cost() const { return looked * kWindowCost + found * (kLineCost + kRegexCost); }
};

// Clauses of a need, all of which hold in each line that has it, the best first. Empty: nothing in it is long
// enough to be looked for.
std::vector<WeighedClause> weigh(const Need& need, const SampleCounts& counts);

}  // namespace logbell::rules

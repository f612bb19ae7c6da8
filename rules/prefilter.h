// Prefilter: which lines of a block which patterns could match, found in one scan over the block. RE2 decides
// then.
//
// Immutable and thread-safe; each thread keeps a Scratch of its own. Never leaves out a line that a pattern
// matches: it searches for what every match must hold (rules/fragment.h), of `match`, and of each field of a
// `where` that stands in the line as it is. Lines in which it might stand otherwise (escaped, or folded from
// beyond ASCII) are all tried.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "rules/fragment.h"
#include "rules/fragment_scan.h"
#include "rules/pattern.h"

namespace logbell::rules {

class Prefilter {
 public:
  struct Candidate {
    std::uint32_t offset = 0;   // of its line in the block
    std::uint32_t length = 0;   // without its newline and CR
    std::uint32_t pattern = 0;  // index into what compile() took
  };
  struct Scratch {
    std::vector<std::uint32_t> fragment_seen;  // by fragment: the number of the line it was seen in last
    std::vector<std::uint32_t> pattern_seen;
    std::vector<std::uint32_t> patterns;    // of the line that is looked at
    std::vector<Candidate> odd;             // of lines that are tried without a search
    std::array<std::uint64_t, 64> grams{};  // of a line: one bit for each hash
    std::uint32_t line = 0;
  };

  // `sample`: some of the log, for what is rare in it. Without one, what is long is taken to be rare.
  static Prefilter compile(std::span<const PatternSpec* const> patterns, LineFormat format,
                           std::string_view sample);

  // Patterns that cannot be searched for, ascending: each is to be tried on every line.
  const std::vector<std::uint32_t>& everywhere() const { return everywhere_; }
  // What else is to be tried, by lines, then by patterns. The block is whole lines, less than 4 GiB.
  void find(std::string_view block, Scratch& scratch, std::vector<Candidate>& out) const;

  std::size_t bytes() const;  // that it takes

 private:
  struct Line {
    std::size_t begin = 0;
    std::size_t end = 0;
  };
  static Line line_at(std::string_view block, std::size_t at);
  static Candidate candidate(std::string_view block, Line line, std::uint32_t pattern);
  void keep_likely(std::string_view line, Scratch& scratch) const;
  void find_odd(std::string_view block, std::string_view what, const std::vector<std::uint32_t>& whose,
                std::vector<Candidate>& out) const;

  FragmentScan scan_;
  std::vector<std::vector<std::uint32_t>> whose_;  // by fragment: patterns, ascending
  // By pattern: what else must stand in its lines, of each clause one gram.
  std::vector<std::vector<std::vector<Gram>>> also_;
  std::vector<bool> asks_;  // by pattern: whether to ask for these although RE2 could be asked at once
  std::vector<std::uint32_t> everywhere_;
  std::vector<std::uint32_t> folds_;    // patterns that characters beyond ASCII could match as k or s
  std::vector<std::uint32_t> escapes_;  // patterns of which a backslash could hide a part
};

}  // namespace logbell::rules

// Patterns: compiled regexes that count. PatternSet takes whole blocks of lines and gives back only matches.
//
// PatternSpec is a value. PatternSet is const and thread-safe; each reader keeps its own Scratch.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "rules/labels.h"
#include "rules/problems.h"
#include "rules/record.h"
#include "rules/regex.h"
#include "rules/result.h"
#include "rules/time.h"

namespace logbell::rules {

enum class LineFormat { kText, kJson, kLogfmt };

// One test of one field of a json or logfmt line. All tests of a pattern must hold.
struct FieldTest {
  std::string field;                // a fact of the record, or a field; nested JSON fields joined with "."
  std::vector<std::string> equals;  // any of these; or
  std::optional<Regex> match;       // matches anywhere in the value; its named captures count as captures
  bool negated = false;             // `not:`; a missing field passes a negated test
};

struct MetricSpec {
  enum class Type { kCounter, kGauge, kHistogram };
  std::string name;
  std::string help;
  Type type = Type::kCounter;
  std::vector<double> buckets;  // ascending, without +Inf
  // A series that has counted nothing for so long is shown no more. Unset: when its windows forget it.
  std::optional<Duration> ttl;
};

// A pattern as validated: what it matches, which captures or fields become labels, where its value comes
// from.
struct PatternSpec {
  std::string name;
  Place place;
  std::vector<Regex> match;          // any of these, anywhere in the line; empty only with `where`
  std::vector<Regex> exclude;        // none of these
  std::vector<FieldTest> where;      // all of these
  std::vector<std::string> labels;   // sorted; each a named capture, a fact, or (json, logfmt) a field
  std::string value;                 // capture, fact or field that holds a number; "" = none
  // Captures, facts or fields that rules ask for by key, as unanswered_over_time("id", …) does, and kTemplateKey; filled
  // by collect_keys().
  std::vector<std::string> keys;
  std::vector<std::string> sources;  // names; empty = every source
  std::vector<Labels> expect;        // series that exist from the start
  std::vector<std::string> examples;
  std::optional<MetricSpec> metric;
  std::size_t max_series = 1000;  // DESIGN.md: bounded per pattern, then the overflow series `__other__`

  // Of match, exclude, where, labels, value and sources: windows belong to it and survive a reload by it. Not of the keys,
  // which rules bring.
  Fingerprint identity() const;
};

// One line that one pattern matched.
struct Match {
  std::uint32_t pattern = 0;        // index into the plan's patterns
  std::uint32_t line_offset = 0;    // of the line in the block; the line is counted once per pattern
  std::uint32_t line_length = 0;    // without its newline and CR
  double value = 0;                 // the pattern's value; NaN where the line had none that is a number
  std::vector<std::string> labels;  // parallel to PatternSpec::labels; "" where the capture did not take
                                    // part; valid UTF-8, at most kMaxLabelBytes
  std::vector<std::string> keys;    // parallel to PatternSpec::keys, as labels; a longer one ends in its fingerprint. Of kTemplateKey
                                    // the line's shape (rules/line_shape.h)
  std::uint32_t labels_cut = 0;     // how many of them were longer: two such values may have become one
};
inline constexpr std::size_t kMaxLabelBytes = 256;  // a label is a name, not a document; longer ones are cut

class PatternSet {
 public:
  // What a thread needs while matching: buffers that are reused. Not thread-safe.
  class Scratch {
   public:
    Scratch();
    ~Scratch();
    Scratch(Scratch&&) noexcept;
    Scratch& operator=(Scratch&&) noexcept;
    struct Impl;
    std::unique_ptr<Impl> impl;
  };

  // kPlain tries every pattern on every line. kFast does so until it has seen kSampleBytes; then it knows what is rare in
  // this log, and finds the lines worth matching in whole blocks. What matches is the same.
  enum class Matcher { kFast, kPlain };
  static constexpr std::size_t kSampleBytes = 64 * 1024;

  // `wanted[i]` is the index of a pattern in `patterns`: those that apply to one source.
  static PatternSet compile(std::span<const PatternSpec> patterns, std::span<const std::uint32_t> wanted,
                            LineFormat format, Matcher matcher = Matcher::kFast);

  // Compiles, once, what finds those lines (rules/prefilter.h), without waiting for a sample. Some milliseconds for a
  // hundred patterns; others may match with this set or its copies meanwhile.
  void accelerate(std::string_view sample) const;

  // Appends every match in `block`, in the order of lines, then of patterns. `block` is whole lines, each ended by
  // "\n" (the last may lack it), less than 4 GiB. Accelerated, a line that matches nothing is not looked at by itself.
  void match(std::string_view block, Scratch& scratch, std::vector<Match>& out) const;
  // The same of records, in order of their offsets: each is looked at as one line, whatever breaks are in it.
  void match(std::string_view block, std::span<const Record> records, Scratch& scratch,
             std::vector<Match>& out) const;

  // Whether some pattern's `exclude` takes the line out: somebody has looked at it.
  bool leaves_out(std::string_view line) const;

  std::size_t size() const;

 private:
  struct Impl;
  std::shared_ptr<const Impl> impl_;
};

// Whether `line` alone matches `pattern`: for examples and `check`.
bool matches_line(const PatternSpec& pattern, LineFormat format, std::string_view line,
                  const Facts* facts = nullptr);

}  // namespace logbell::rules

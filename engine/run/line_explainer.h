// LineExplainer: lines of one source, read, decoded and matched as the running process does it, with what
// each pattern makes of them.
//
// Nothing is counted, sent or stored. Owned by one thread; the plan must outlive it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/io/chunk.h"
#include "engine/io/decode.h"
#include "engine/io/records.h"
#include "rules/explain_line.h"
#include "rules/pattern.h"
#include "rules/plan.h"
#include "rules/time.h"

namespace logbell::engine {

// One line, or several that are one record. Its views live as long as the call that hands it over.
struct ReadLine {
  std::uint64_t number =
      0;                  // in the log, from 1; of a record's first, or where streams stand in turns its last
  std::string_view text;  // without its envelope
  const rules::Facts* facts = nullptr;
  std::optional<rules::Timestamp> time;  // what it says, or its envelope
  std::vector<std::uint32_t> matched;    // patterns, indices into the plan
  bool is_error = false;                 // it looks like one (rules/error_lines.h)
  bool is_missed = false;                // and nothing covers it: UncoveredErrors would count it
};

// What the patterns make of one line.
struct ExplainedLine {
  struct Of {
    std::uint32_t pattern = 0;  // index into the plan
    rules::PatternVerdict verdict;
  };
  std::vector<Of> matches;
  std::vector<Of> near;    // that do not, nearest first
  std::size_t others = 0;  // that are not near, or not among the nearest
  std::vector<std::pair<std::string, std::string>> fields;
};

class LineExplainer {
 public:
  // How near a pattern must be to be worth a word, and how many are then asked closely (each is put to RE2 a
  // dozen times).
  static constexpr double kNear = 0.2;
  static constexpr std::size_t kMostAsked = 24;
  static constexpr double kLikely = 0.2;  // of its words must stand in the line for that

  // `path`: of the log, for what it tells (cri). `now`: for times without a year.
  LineExplainer(const rules::Plan& plan, std::uint32_t source, const std::string& path, rules::Timestamp now);

  using Visit = std::function<void(const ReadLine& line)>;
  // The log's next bytes; each line that is whole is handed over.
  void feed(std::string_view bytes, const Visit& visit);
  // Nothing comes after them.
  void finish(const Visit& visit);

  // `nearest`: so many at most that do not match; SIZE_MAX: all of them, however far.
  ExplainedLine explain(const ReadLine& line, std::size_t nearest) const;

  const rules::SourceSpec& source() const { return source_; }
  // The rules that look at a pattern, by index.
  const std::vector<std::vector<std::uint32_t>>& rules_of() const { return rules_of_; }

 private:
  void take(bool ended, const Visit& visit);
  void take_line(std::string_view text, const Visit& visit);
  void hand_over(const RecordBlock& block, std::uint64_t first, std::uint64_t others, const Visit& visit);
  std::uint64_t number_of(rules::Timestamp fed_at) const {
    return static_cast<std::uint64_t>((fed_at - now_).count());
  }
  void judge(std::string_view text, ReadLine& line) const;

  const rules::SourceSpec& source_;
  const rules::Timestamp now_;
  std::vector<std::vector<std::uint32_t>> rules_of_;  // parallel to Plan::patterns
  std::vector<rules::PatternExplainer> explainers_;   // parallel, too
  std::string raw_;                                   // not split yet
  LineState state_;
  SplitRules how_;
  bool begun_ = false;
  std::string scratch_;
  std::uint64_t number_ = 0;  // lines before raw_
  std::unique_ptr<RecordDecoder> decoder_;
  std::uint64_t fed_ = 0;
  LineTimes times_;
  rules::PatternSet::Scratch match_scratch_;
  std::vector<rules::Match> found_;
};

}  // namespace logbell::engine

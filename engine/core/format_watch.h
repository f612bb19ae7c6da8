// FormatWatch: whether the lines of one source have changed their form, and which patterns matched before and
// have not since. What PatternWentSilent rests on.
//
// One line of each read is looked at for its form. The format has changed when none of kRun of them in a row
// has a form that was usual before; if those come back, it had not. A pattern is silent when it matched in so
// many of the spans of ten minutes before the change that it would have matched in kExpected of those since:
// bursts count once a span, and a pattern that matched rarely, or had fallen silent already, is given the
// time that it needs.
//
// Owned by the core thread. Time is the source's own, so that a log that is read late says the same.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/core/batch.h"
#include "rules/time.h"

namespace logbell::engine {

class FormatWatch {
 public:
  static constexpr rules::Duration kSpan{std::chrono::minutes(10)};
  // Lines of unusual forms, one after another: more than a banner or the dump of a table.
  static constexpr std::uint64_t kRun = 20;
  // Lines of former forms after a change that make it none: both are written.
  static constexpr std::uint64_t kBack = 3;
  // A form with less than one in so many lines is no sign of anything: a start's banner, a line of a library.
  static constexpr std::uint64_t kRare = 20;
  // Forms of one format that are remembered; a logger has a few. Beyond it the rarest is forgotten.
  static constexpr std::size_t kMaxForms = 16;
  // Patterns that are remembered; of more nobody is told.
  static constexpr std::size_t kMaxPatterns = 1000;
  static constexpr std::uint64_t kMinSpans = 3;  // in which a pattern must have matched
  static constexpr double kExpected = 3;  // spans in which it would have matched: by chance one in twenty
  static constexpr std::size_t kLineBytes = 200;

  struct Silent {
    std::string pattern;        // its key
    std::uint64_t matched = 0;  // in so many
    std::uint64_t spans = 0;    // of so many before the change
    std::string line;           // that it matched, redacted; "" unknown
  };

  // What was read goes up to `at`. Then matched() for each pattern that matched in it. Both say whether what
  // is silent may have changed.
  bool add(const LineForm& line, rules::Timestamp at);
  bool matched(const std::string& pattern, std::string_view line);

  std::vector<Silent> silent() const;
  rules::Timestamp changed_at() const { return changed_at_; }
  const std::string& new_line() const { return new_line_; }  // redacted
  // Of others nothing is remembered any more.
  void keep_only(const std::set<std::string>& patterns);
  bool empty() const { return span_ == kNoSpan; }

  // To be written: about once a span.
  bool take_changed() { return std::exchange(changed_, false); }
  std::string to_json() const;
  static std::optional<FormatWatch> parse(std::string_view text);

 private:
  static constexpr std::int64_t kNoSpan = INT64_MIN;
  using Forms = std::map<std::string, std::uint64_t>;  // and how many lines had it
  struct Seen {
    std::uint64_t spans = 0;
    std::int64_t last = kNoSpan;
    std::string line;
  };
  struct Former {
    Silent what;
    std::uint64_t silent = 0;  // spans since the change
    bool of_last = false;      // of the last change, not of one before
  };

  bool begin_span(rules::Timestamp at);
  void change(const LineForm& line);
  void change_back();
  static void bound(Forms& forms);
  static bool is_usual(const Forms& forms, const std::string& form);

  Forms forms_;  // of the format
  Forms run_;    // of the last lines, which are none of those
  std::uint64_t run_lines_ = 0;
  rules::Timestamp run_at_ = rules::kLongAgo;  // when it began
  std::int64_t run_span_ = kNoSpan;
  std::uint64_t run_spans_ = 0;  // of the format until then
  Forms former_forms_;  // before the last change
  std::uint64_t back_ = 0;
  std::int64_t span_ = kNoSpan;
  std::uint64_t spans_ = 0;  // with lines, of this format
  std::uint64_t former_spans_ = 0;
  std::map<std::string, Seen> seen_;      // of this format
  std::map<std::string, Former> former_;  // matched before, and not since the change
  rules::Timestamp changed_at_ = rules::kLongAgo;
  std::string new_line_;
  bool changed_ = false;
};

}  // namespace logbell::engine

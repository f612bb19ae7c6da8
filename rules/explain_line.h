// Why a pattern matches a line, or does not. For `logbell explain`.
//
// Each answer is the matcher's own (rules/pattern.h), asked of the pattern and of its parts one by one: what
// is said here cannot be other than what `run` does. Only how near a line came is a guess. PatternExplainer
// is owned by one thread; the rest is pure.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "rules/labels.h"
#include "rules/pattern.h"
#include "rules/record.h"
#include "rules/regex_steps.h"

namespace logbell::rules {

// A named group of a regex that matched.
struct Capture {
  std::string name;
  std::string text;
  std::string field;       // of which it is taken (`where:`); "": of the line
  std::size_t offset = 0;  // in the line, in bytes; of a field not known
};

// What one pattern makes of one line.
struct PatternVerdict {
  bool matches = false;
  // Of one that matches.
  std::size_t from = 0;  // what its `match:` matched, in bytes; without one both are 0
  std::size_t to = 0;
  std::size_t which = 0;  // of several regexes under `match:`
  std::vector<Capture> captures;
  Labels labels;
  std::optional<double> value;  // NaN: it should have one, and this line holds no number there
  // Of one that does not: what failed first, in the matcher's order: `match`, `exclude`, `where`.
  std::string reason;                   // "`match:` …", for people
  double nearness = 0;                  // 0: nothing of it is there; up to 1
  std::optional<PartialMatch> partial;  // where it is `match:`
};

class PatternExplainer {
 public:
  // `pattern` must outlive me.
  PatternExplainer(const PatternSpec& pattern, LineFormat format);

  const PatternSpec& pattern() const { return *pattern_; }
  PatternVerdict explain(std::string_view line, const Facts* facts = nullptr) const;

  // How much of what it holds in so many words stands in a line, from 0 to 1, at little cost: whom to ask
  // first.
  double likeness(std::string_view line) const;

 private:
  void explain_match(std::string_view line, const Facts* facts, PatternVerdict& verdict) const;
  void explain_mismatch(std::string_view line, const Facts* facts, PatternVerdict& verdict) const;
  std::string explain_test(const FieldTest& test, std::string_view line, const Facts* facts,
                           double& nearness) const;

  const PatternSpec* pattern_;
  LineFormat format_;
  std::vector<RegexSteps> steps_;  // parallel to PatternSpec::match
};

// The fields of a line as `where:` sees them: facts first, then those of its format. Empty: it has none.
std::vector<std::pair<std::string, std::string>> fields_of(LineFormat format, std::string_view line,
                                                           const Facts* facts, Envelope envelope);

}  // namespace logbell::rules

// DrillWays: whom a rule's alerts reach, on whichever way they take, and lines of a drill with which they
// take it.
//
// Which way an alert takes depends on its labels, and some of these come from logs: for each sink such an
// example of the rule's patterns is looked for, or such labels put into a line that is made, that the real
// route leads there. Owned by one thread.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "rules/example.h"
#include "rules/labels.h"
#include "rules/plan.h"
#include "rules/reach.h"

namespace logbell::engine {

// A sink that hears of a rule.
struct RuleSink {
  std::string sink;
  // It is on nobody's list, and speaks in the place of these if they refuse; empty: it is told itself.
  std::vector<std::string> stands_in_for;
  bool conditional = false;  // only if labels from logs have certain values
  std::string when;          // which, of a conditional one: `team="db" holds`
};
// In the order of their names.
std::vector<RuleSink> sinks_of(const rules::Plan& plan, const rules::AlertingRule& rule,
                               const rules::Reach& reach);
// Those that hear of an alert of the rule with this element of its result, or stand in for one that does;
// mute times aside.
std::set<std::string> sinks_told(const rules::Plan& plan, const rules::AlertingRule& rule,
                                 const rules::Labels& element);

// Of a rule's expression: indices into Plan::patterns.
std::set<std::uint32_t> patterns_of(const rules::AlertingRule& rule);

// Makes the lines of one drill, each once for all rules that it is of. A few milliseconds a line.
class DrillWays {
 public:
  struct Line {
    std::uint32_t pattern = 0;
    std::uint32_t source = 0;
    std::string mark;
    rules::MarkedLine made;
  };
  // Lines, one a pattern, and who hears of the rule with what is in them.
  struct Way {
    std::vector<const Line*> lines;  // valid as long as this object
    std::set<std::string> sinks;
  };
  struct Ways {
    std::vector<Way> ways;
    std::string trouble;                      // no line can be made at all: why, and what to do
    std::map<std::string, std::string> left;  // by sink: why no line was found that leads there
  };

  // `mark`: of the drill; each line's has a number of its own behind it. `source`: no other; "": any. The
  // plan outlives this.
  DrillWays(const rules::Plan& plan, std::string mark, std::string source);
  // As few ways as lead to all of them. Where there are none, the way that its usual line takes.
  Ways find(const rules::AlertingRule& rule, const std::vector<RuleSink>& sinks);

 private:
  // Examples of a pattern that are tried, and label values that the route asks for, for one sink.
  static constexpr std::size_t kMostExamples = 20;
  static constexpr std::size_t kMostWishes = 8;
  // Combinations of label values that are put to the route, for one sink.
  static constexpr std::size_t kMostCombinations = 1000;
  static constexpr std::size_t kUsual = SIZE_MAX;

  struct Made {
    std::optional<Line> line;
    std::string trouble;
  };
  struct Lines {
    std::vector<const Line*> lines;
    rules::Labels labels;  // of all of them
    std::string trouble;
  };
  // With exactly these labels, or that example (kUsual: as it comes).
  const Made& make(std::uint32_t pattern, std::uint32_t source, const rules::Labels& wishes,
                   std::size_t example);
  // `of`: whose example it is.
  Lines lines_of(const rules::AlertingRule& rule, const rules::Labels& wishes, std::uint32_t of,
                 std::size_t example);
  std::vector<rules::Labels> wishes_for(const rules::AlertingRule& rule, const std::string& sink,
                                        const rules::Labels& usual) const;
  std::optional<Lines> lines_to(const rules::AlertingRule& rule, const std::string& sink,
                                const rules::Labels& usual);

  const rules::Plan& plan_;
  const std::string mark_;
  const std::string source_;
  std::map<std::tuple<std::uint32_t, std::uint32_t, rules::Labels, std::size_t>, Made> made_;
};

}  // namespace logbell::engine

// Backtest: logs of the past, read to their end in event time through the reader and the core as they are;
// what matched, what would have fired.
//
// Nothing is sent or stored.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/run/follower.h"
#include "rules/plan.h"
#include "rules/result.h"
#include "rules/time.h"

namespace logbell::engine {

struct BacktestReport {
  struct Pattern {
    std::string name;
    std::uint64_t matches = 0;  // lines
  };
  struct Rule {
    std::string name;
    std::uint64_t firings = 0;
    rules::Duration firing{0};                 // in all, of each alert to its end or the last line
    std::uint64_t still_firing = 0;            // alerts at the last line
    std::optional<rules::Timestamp> first_at;  // when the first of them fired
    std::string unknown;                       // why it was not evaluated to the end; "": it was
  };
  std::vector<Pattern> patterns;  // those that the logs were matched against, as the plan has them
  std::vector<Rule> rules;
  std::vector<ReaderNote> notes;  // what could not be read, or not as it was meant
  std::uint64_t bytes = 0;
  std::uint64_t lines = 0;
  rules::Timestamp last_line = rules::kLongAgo;  // the latest time that a line said
  double seconds = 0;                            // that it took, by a monotonic clock
};

// The plan with these files in the place of a source's own, and the other sources without any. An empty
// `source`: the plan's only one. Fails where there are several, or none of that name.
rules::Result<std::shared_ptr<const rules::Plan>> backtest_plan(const rules::Plan& plan,
                                                                const std::string& source,
                                                                const std::vector<std::string>& files);

// `now`: the wall clock; lines that claim to be later are not believed, as in a running process.
// `threads`: that read and match; the caller's evaluates.
BacktestReport backtest(std::shared_ptr<const rules::Plan> plan, rules::Timestamp now,
                        std::size_t threads = 1);

}  // namespace logbell::engine

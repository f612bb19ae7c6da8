// What a change of rules would have changed over the same logs: the firings of two backtests against each
// other. Values; one thread.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "engine/run/backtest.h"

namespace logbell::engine {

struct BacktestComparison {
  // A firing of A that overlaps some of B's.
  struct Both {
    BacktestReport::Episode a;
    BacktestReport::Episode b;    // the first of them
    std::uint64_t firings_b = 0;  // how many there are
    bool is_same() const {
      return firings_b == 1 && a.fired_at == b.fired_at && a.resolved_at == b.resolved_at;
    }
  };
  struct Rule {
    std::string name;
    bool in_a = false;
    bool in_b = false;
    std::uint64_t firings_a = 0;
    std::uint64_t firings_b = 0;
    std::vector<BacktestReport::Episode> only_a;
    std::vector<BacktestReport::Episode> only_b;
    std::vector<Both> both;  // of one alert
    bool is_same() const;    // each firing of one is in the other, from the same moment to the same end
  };
  struct Sink {
    std::string name;
    std::uint64_t messages_a = 0;
    std::uint64_t messages_b = 0;
  };
  std::vector<Rule> rules;  // A's in their order, then those that only B has
  std::vector<Sink> sinks;
  bool complete = true;  // false: there were more firings than were kept
};

// Rules are the same by their alertnames; their alerts by the labels that come from logs with both, as each
// plan's rules say.
BacktestComparison compare_backtests(const rules::Plan& plan_a, const BacktestReport& a,
                                     const rules::Plan& plan_b, const BacktestReport& b);

}  // namespace logbell::engine

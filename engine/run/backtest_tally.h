// BacktestTally: what a backtest tells of each rule, counted as batches and ticks come.
//
// Owned by the thread that backtests. A line costs nothing here, a match one count and one look for its
// labels' values, a transition what it takes to tell people of it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/core/pipeline.h"
#include "engine/run/backtest.h"
#include "engine/run/backtest_notices.h"

namespace logbell::engine {

class BacktestTally {
 public:
  // Label values counted a pattern; of more, the lines alone. Its `max_series` in production.
  static constexpr std::size_t kMostValues = 1000;

  // `plan` and `report` must outlive me.
  BacktestTally(const rules::Plan& plan, const BacktestSettings& settings, BacktestReport& report);

  // A batch on its way to the core: what is outside of the settings' times is taken out of it.
  void take(MatchBatch& batch);
  void add(const Tick& tick);
  // The core has evaluated everything.
  void end(const Pipeline& core);

  // From where on lines fill windows; kLongAgo: from the first.
  rules::Timestamp from() const { return from_; }

 private:
  struct Open {
    rules::Transition transition;
    rules::Timestamp fired_at;
    std::size_t episode = SIZE_MAX;  // in the report; SIZE_MAX: not kept
    bool told = false;               // false: it fired before `since`
  };
  using AlertKey = std::pair<std::size_t, rules::Fingerprint>;  // of a rule's alert
  struct Values {
    std::map<std::vector<std::string>, std::uint64_t> lines;
    std::uint64_t others = 0;
  };

  void begin();
  void fire(std::size_t index, Open& open, rules::Timestamp at);
  void resolve(std::size_t index, const Open& open, rules::Timestamp at);
  void find_top_values();

  const rules::Plan& plan_;
  BacktestReport& report_;
  rules::Timestamp since_ = rules::kLongAgo;
  rules::Timestamp until_ = rules::Timestamp::max();
  rules::Timestamp from_ = rules::kLongAgo;
  bool began_ = false;
  std::size_t episodes_ = 0;  // in the report
  std::map<rules::Fingerprint, std::size_t> by_identity_;
  std::multimap<AlertKey, Open> open_;
  std::map<AlertKey, rules::Timestamp> ended_;  // that may flap
  std::vector<Values> values_;                  // by pattern
  std::map<std::string, std::size_t> sinks_;    // index in the report
  BacktestNotices notices_;
};

}  // namespace logbell::engine

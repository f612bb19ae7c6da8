// BacktestNotices: who would have been told, had the lines of an old log been written at the times they say.
//
// Owned by the thread that backtests. The real Dispatcher over the real plan: routes, groups, their timers,
// mute times, repeats. Time is that of the transitions, which must come in their order. What a sink itself
// does is not in it: retries, fallbacks, a rate of its own, and refreshes, which tell Alertmanager nothing
// new.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "engine/core/dispatcher.h"
#include "rules/alert.h"
#include "rules/notification.h"
#include "rules/plan.h"

namespace logbell::engine {

class BacktestNotices {
 public:
  using Take = std::function<void(const rules::Notification&)>;

  // `take` gets each message, once for each sink, whatever its lanes.
  BacktestNotices(const rules::Plan& plan, Take take);

  // A firing or a resolve of a rule of the plan.
  void add(const rules::Transition& transition);
  // What the timers still have to say up to `at`.
  void pass_to(rules::Timestamp at);

 private:
  void flush(rules::Timestamp at);

  rules::Plan plan_;
  Take take_;
  Dispatcher dispatcher_;
  std::map<rules::Fingerprint, std::uint32_t> holders_;  // of an alert: rules that have the same labels
  rules::Timestamp now_ = rules::kLongAgo;
};

}  // namespace logbell::engine

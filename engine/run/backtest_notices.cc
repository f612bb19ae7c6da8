#include "engine/run/backtest_notices.h"

#include <algorithm>
#include <utility>

namespace logbell::engine {

using rules::AlertState;
using rules::Timestamp;

namespace {

rules::Plan without_refreshes(rules::Plan plan) {
  for (auto& [name, sink] : plan.sinks) {
    if (sink.refresh) sink.refresh = std::chrono::hours(24 * 365 * 200);
  }
  return plan;
}

}  // namespace

BacktestNotices::BacktestNotices(const rules::Plan& plan, Take take)
    : plan_(without_refreshes(plan)), take_(std::move(take)), dispatcher_(plan_) {}

void BacktestNotices::add(const rules::Transition& transition) {
  const bool fires = transition.to == AlertState::kFiring;
  if (!fires && transition.to != AlertState::kResolved) return;
  pass_to(transition.at);
  // As the core has it: to people an alert goes on while another rule with the same labels holds it.
  std::uint32_t& holders = holders_[transition.alert.fingerprint()];
  if (fires) {
    ++holders;
  } else {
    holders -= std::min(holders, 1U);
    if (holders > 0) return;
    holders_.erase(transition.alert.fingerprint());
  }
  now_ = std::max(now_, transition.at);
  dispatcher_.insert(transition, transition.alert.rule, now_, now_);
  flush(now_);
}

void BacktestNotices::pass_to(Timestamp at) {
  if (now_ == rules::kLongAgo) return;  // nothing was told yet
  for (auto next = dispatcher_.next_instant(now_); next && *next <= at && at > now_;
       next = dispatcher_.next_instant(now_)) {
    // What is due and stays so has nothing to say.
    if (*next <= now_) break;
    flush(*next);
  }
}

void BacktestNotices::flush(Timestamp at) {
  now_ = std::max(now_, at);
  std::vector<rules::Notification> told;
  dispatcher_.release([](rules::Fingerprint) { return true; }, true, now_);
  dispatcher_.flush(
      now_, [](rules::Alert&) { return true; }, told);
  dispatcher_.forget_changes();
  for (const rules::Notification& notification : told) {
    const auto sink = plan_.sinks.find(notification.sink);
    if (sink != plan_.sinks.end() && !sink->second.lanes.empty() &&
        notification.lane != sink->second.lanes.front())
      continue;
    take_(notification);
  }
}

}  // namespace logbell::engine

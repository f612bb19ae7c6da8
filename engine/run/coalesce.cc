#include "engine/run/coalesce.h"

#include <algorithm>
#include <array>
#include <string>
#include <unordered_map>

#include <fmt/format.h>

namespace logbell::engine {

using rules::Duration;
using rules::Instant;
using rules::Notification;
using rules::NotifyReason;

Allowance::Allowance(std::uint32_t per_minute) {
  if (per_minute == 0) return;
  burst_ = std::max<std::uint32_t>(1, per_minute / 2);
  const auto spread = static_cast<std::int64_t>(std::max<std::uint32_t>(1, per_minute - burst_));
  // Rounded up: never one too many.
  interval_ = Duration((Duration(std::chrono::minutes(1)).count() + spread - 1) / spread);
}

std::uint32_t Allowance::left(Instant now) const {
  if (full_at_ <= now) return burst_;
  const auto used =
      static_cast<std::uint64_t>((full_at_ - now + interval_ - Instant::duration(1)) / interval_);
  return used >= burst_ ? 0 : burst_ - static_cast<std::uint32_t>(used);
}

Instant Allowance::next() const {
  return is_bounded() ? full_at_ - (burst_ - 1) * interval_ : Instant();
}

void Allowance::take(Instant now) {
  if (is_bounded()) full_at_ = std::max(full_at_, now) + interval_;
}

void Allowance::give_back() {
  if (is_bounded()) full_at_ -= interval_;
}

Notification one_message(const std::vector<const Notification*>& all) {
  Notification one = *all.front();
  if (all.size() == 1) return one;
  // The first of these that one of them has says why it speaks.
  static constexpr std::array kLoudest{NotifyReason::kFirstFiring, NotifyReason::kNewAlerts,
                                       NotifyReason::kResolvedSome, NotifyReason::kAllResolved};
  one.reason = NotifyReason::kRepeat;
  for (const NotifyReason reason : kLoudest) {
    if (std::any_of(all.begin(), all.end(), [&](const Notification* n) { return n->reason == reason; })) {
      one.reason = reason;
      break;
    }
  }
  // With other companions it is another message: whoever knows a key knows what was in it.
  std::string keys;
  for (const Notification* notification : all)
    keys += notification->key + "\n";
  one.key = fmt::format("coalesced/{}/{}", one.lane, rules::format_fingerprint(rules::hash_bytes(keys)));
  struct Told {
    const rules::Alert* alert;
    std::uint8_t priority;
  };
  std::vector<Told> told;
  std::unordered_map<rules::Fingerprint, std::size_t> known;
  rules::Labels shared = one.group_labels;
  for (const Notification* notification : all) {
    for (const rules::Alert& alert : notification->alerts) {
      const auto [at, is_new] = known.try_emplace(alert.fingerprint(), told.size());
      if (is_new)
        told.push_back({&alert, notification->priority});
      else
        told[at->second] = {&alert, std::min(told[at->second].priority, notification->priority)};
    }
    rules::Labels both;
    for (const auto& [name, value] : shared) {
      if (notification->group_labels.get(name) == value) both.set(name, value);
    }
    shared = std::move(both);
    one.priority = std::min(one.priority, notification->priority);
    one.created_at = std::min(one.created_at, notification->created_at);
    one.caused_at = std::min(one.caused_at, notification->caused_at);
  }
  std::stable_sort(told.begin(), told.end(), [](const Told& a, const Told& b) {
    const bool fires = a.alert->is_firing();
    return fires != b.alert->is_firing() ? fires : a.priority < b.priority;
  });
  std::vector<rules::Alert> alerts;
  alerts.reserve(told.size());
  for (const Told& alert : told)
    alerts.push_back(*alert.alert);
  one.alerts = std::move(alerts);
  if (one.is_resolved()) one.reason = NotifyReason::kAllResolved;
  one.group_labels = std::move(shared);
  one.group_key = one.key;
  one.group_began = one.created_at;
  one.changes = 0;
  one.replaces.clear();
  return one;
}

}  // namespace logbell::engine

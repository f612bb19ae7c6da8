// Notification: what one sink is to be told, complete: a sink needs nothing else to write its message.
//
// Immutable value; any thread. Stored in the outbox as JSON.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "rules/alert.h"
#include "rules/labels.h"
#include "rules/result.h"
#include "rules/time.h"

namespace logbell::rules {

// Why a group speaks; becomes a log field and a metric label.
enum class NotifyReason {
  kNone,
  kFirstFiring,   // the first notification of an episode
  kNewAlerts,     // more alerts fire than were told
  kResolvedSome,  // some that were told have resolved
  kAllResolved,   // every alert that was told has resolved
  kRepeat,        // repeat_interval has passed
  kRefresh,       // re-sent for a sink that forgets (Alertmanager)
  kSummary,       // what fired and resolved while nobody could be told
  kRefused,       // logbell itself: a start was refused
  kDrill,         // nothing is wrong: a drill proves the way
};
std::string_view to_string(NotifyReason reason);

struct Notification {
  // Constant across attempts and crashes: derived from the committed group, episode, sequence and lane.
  std::string key;
  std::string sink;  // the sink's name in the configuration
  std::string lane;  // which of its endpoints (each Alertmanager peer is one); the outbox is kept per lane
  NotifyReason reason = NotifyReason::kNone;
  std::string group_key;
  Labels group_labels;
  Timestamp group_began;      // when this life of the group began: with group_key it names the episode
  std::vector<Alert> alerts;  // firing first, then resolved
  std::uint32_t changes = 0;  // how often the group's state changed since it last spoke
  Timestamp created_at;       // wall time of the tick
  Timestamp caused_at;  // wall time at which the line that caused it was read: latency is measured from here
  // An unsent delivery of the same lane with the same value is replaced by this one; "" = none.
  std::string replaces;
  std::uint8_t priority = 1;  // 0 first: critical; 1 the rest; 2 repeats and refreshes
  std::string text;           // kSummary, kRefused: what to say instead of alerts
  std::string fallback_for;   // the sink that failed, when this one speaks in its place
  std::string drill;          // the drill it belongs to; "": it is real

  bool is_resolved() const;  // no alert fires any more
  // An alert fires in one of them and has ended in the other.
  bool contradicts(const Notification& other) const;
  Labels common_labels() const;
  // The alertnames in it, each once, in the order of its alerts, as far as kMaxNamesBytes go, the first in
  // any case: what every sink's message says of it, however much else has no room. Of others nothing is
  // proven by it.
  std::vector<std::string_view> names() const;
  static constexpr std::size_t kMaxNamesBytes = 1000;
  std::vector<std::pair<std::string, std::string>> common_annotations() const;
};

std::string encode(const Notification& notification);
Result<Notification> decode_notification(std::string_view text);

}  // namespace logbell::rules

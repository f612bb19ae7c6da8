// One message instead of many: what a storm becomes at a sink that people read.
//
// Pure, but for Allowance, which is a value of its owner's thread.
#pragma once

#include <cstdint>
#include <vector>

#include "rules/notification.h"
#include "rules/time.h"

namespace logbell::engine {

// How many messages may leave: half of a minute's at once, the others evenly over the minute, so that no
// minute has more than `per_minute` and what fires during a storm waits for seconds. The generic cell rate
// algorithm (ITU-T I.371, annex A), on the monotonic clock.
class Allowance {
 public:
  explicit Allowance(std::uint32_t per_minute);  // 0: as many as there are

  bool is_bounded() const { return burst_ > 0; }
  // How many may leave at once; of no use where it is not bounded.
  std::uint32_t left(rules::Instant now) const;
  // When the next one may.
  rules::Instant next() const;
  void take(rules::Instant now);
  // The one taken last has not arrived anywhere.
  void give_back();
  // What has left stays counted though the bound is another one.
  void take_over(const Allowance& former) { full_at_ = former.full_at_; }

 private:
  std::uint32_t burst_ = 0;
  rules::Duration interval_{0};
  rules::Instant full_at_;  // when as many may leave as ever
};

// All of them as one, in their order: each alert as the last of them has it, what fires first. It belongs to
// no group, begins a conversation of its own, and has the same key when the same are told again. `all`: at
// least one; of one sink, lane and `fallback_for`.
rules::Notification one_message(const std::vector<const rules::Notification*>& all);

}  // namespace logbell::engine

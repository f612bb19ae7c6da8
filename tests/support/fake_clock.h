// FakeClock: a clock that a test moves. Wall and monotonic time move together unless one is stepped.
//
// Thread-safe.
#pragma once

#include <atomic>
#include <cstdint>

#include "engine/run/clock.h"

namespace logbell::tests {

class FakeClock final : public engine::Clock {
 public:
  explicit FakeClock(rules::Timestamp start = rules::from_unix_ms(1'777'777'777'000))
      : wall_ms_(rules::to_unix_ms(start)) {}
  rules::Timestamp now() const override { return rules::from_unix_ms(wall_ms_); }
  rules::Instant instant() const override { return rules::Instant(std::chrono::microseconds(instant_us_)); }

  void advance(rules::Duration by) {
    wall_ms_ += by.count();
    instant_us_ += by.count() * 1000;
  }
  // The wall clock alone: somebody set it.
  void step_wall(rules::Duration by) { wall_ms_ += by.count(); }

 private:
  std::atomic<std::int64_t> wall_ms_;
  std::atomic<std::int64_t> instant_us_{1'000'000'000};
};

}  // namespace logbell::tests

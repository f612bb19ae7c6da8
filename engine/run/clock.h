// Clock: the only way the program learns what time it is.
//
// Thread-safe.
#pragma once

#include <cstdint>

#include "rules/time.h"

namespace logbell::engine {

class Clock {
 public:
  virtual ~Clock() = default;
  virtual rules::Timestamp now() const = 0;    // wall time: shown, stored, sent
  virtual rules::Instant instant() const = 0;  // monotonic, counts suspend: timeouts, back-off
};

class SystemClock final : public Clock {
 public:
  rules::Timestamp now() const override;
  rules::Instant instant() const override;
};

// CLOCK_MONOTONIC in microseconds: what systemd compares with (sd_notify(3), MONOTONIC_USEC).
std::int64_t monotonic_us();

// The processor's time that the calling thread, or all threads of the process, have had, in seconds.
double thread_cpu_seconds();
double process_cpu_seconds();

// What is made from now on is born then or later. The kernel's clock for it ticks every few milliseconds, so
// what was made before may have been born up to a tick later (and since Linux 6.13, no later than it was
// made).
std::int64_t birth_clock_ns();

}  // namespace logbell::engine

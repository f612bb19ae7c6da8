#include "engine/run/clock.h"

#include <ctime>

namespace logbell::engine {

rules::Timestamp SystemClock::now() const {
  return std::chrono::floor<rules::Duration>(std::chrono::system_clock::now());
}

rules::Instant SystemClock::instant() const {
  // CLOCK_BOOTTIME, not steady_clock: a suspended laptop's retries are due when it wakes.
  timespec at{};
  clock_gettime(CLOCK_BOOTTIME, &at);
  return rules::Instant(std::chrono::duration_cast<std::chrono::microseconds>(
      std::chrono::seconds(at.tv_sec) + std::chrono::nanoseconds(at.tv_nsec)));
}

std::int64_t monotonic_us() {
  timespec at{};
  clock_gettime(CLOCK_MONOTONIC, &at);
  return static_cast<std::int64_t>(at.tv_sec) * 1'000'000 + at.tv_nsec / 1000;
}

namespace {

double seconds_of(clockid_t clock) {
  timespec at{};
  clock_gettime(clock, &at);
  return static_cast<double>(at.tv_sec) + static_cast<double>(at.tv_nsec) * 1e-9;
}

}  // namespace

double thread_cpu_seconds() {
  return seconds_of(CLOCK_THREAD_CPUTIME_ID);
}

double process_cpu_seconds() {
  return seconds_of(CLOCK_PROCESS_CPUTIME_ID);
}

std::int64_t birth_clock_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME_COARSE, &now);
  return static_cast<std::int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

}  // namespace logbell::engine

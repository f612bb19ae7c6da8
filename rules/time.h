// Wall time, monotonic time and durations, as different types so that mixing them does not compile.
//
// Values; any thread. Nothing here asks a clock: time is always handed in (engine/run/clock.h).
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "rules/result.h"

namespace logbell::rules {

// Milliseconds: the grain of every window, `for` and timestamp.
using Duration = std::chrono::milliseconds;

// Wall time, milliseconds since 1970-01-01 UTC: shown, stored, sent; the time of events.
using Timestamp = std::chrono::sys_time<std::chrono::milliseconds>;

// Monotonic time: deadlines, back-off, measured latency. Never stored.
struct MonotonicTag {
  using duration = std::chrono::microseconds;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<MonotonicTag>;
  static constexpr bool is_steady = true;
};
using Instant = std::chrono::time_point<MonotonicTag>;

constexpr Timestamp from_unix_ms(std::int64_t ms) {
  return Timestamp(Duration(ms));
}
constexpr std::int64_t to_unix_ms(Timestamp at) {
  return at.time_since_epoch().count();
}

// A time that was stored. One that no line and no clock ever said, farther than some thirty thousand years
// from 1970, becomes the nearest that could be, so that no sum with a duration overflows; kLongAgo stays what
// it is.
Timestamp from_stored_ms(std::int64_t ms);
inline constexpr std::int64_t kMaxStoredMs = 1'000'000'000'000'000;

// Before every event: "nothing known yet".
inline constexpr Timestamp kLongAgo = Timestamp::min();

// PromQL's durations: "5m", "1h30m", "250ms", units y w d h m s ms, largest first, each once. "0" is zero.
Result<Duration> parse_duration(std::string_view text);
// The shortest form that parse_duration reads back: "1h30m", "250ms", "0s".
std::string format_duration(Duration duration);

// "2026-05-01T10:00:00.123Z": always UTC, milliseconds only when not zero.
std::string format_rfc3339(Timestamp at);
// RFC 3339 with any offset and fraction (cut to milliseconds); the whole of `text`.
Result<Timestamp> parse_rfc3339(std::string_view text);

}  // namespace logbell::rules

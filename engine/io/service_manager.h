// ServiceManager: what the process tells whoever supervises it: that it is ready, reloads, stops, and gets
// on.
//
// systemd's protocol (sd_notify(3), sd_watchdog_enabled(3)), without its library: one datagram of
// newline-separated assignments to the Unix socket that $NOTIFY_SOCKET names, a path or, after "@", a name in
// the abstract namespace. Where there is none, nothing is said. Nothing here waits: a manager that does not
// read costs a message, which is said again at the next look. Owned by the main thread; time is handed in.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "rules/time.h"

namespace logbell::engine {

class ServiceManager {
 public:
  // A start that gets on asks for more time so often, and for so much: what was written while logbell was
  // down may take longer to read than systemd's 90 s.
  static constexpr rules::Duration kExtendEvery{std::chrono::seconds(10)};
  static constexpr rules::Duration kExtendBy{std::chrono::seconds(60)};

  // `socket`: as in $NOTIFY_SOCKET; "": nobody listens. `watchdog`: without a sign of life for so long it
  // ends the process; unset: it does not.
  explicit ServiceManager(std::string socket = {}, std::optional<rules::Duration> watchdog = {});
  // What $NOTIFY_SOCKET, $WATCHDOG_USEC and $WATCHDOG_PID say.
  static ServiceManager of_environment();

  bool listens() const { return !socket_.empty(); }
  // Says what is new. `ready`: what is written has been read, or nothing runs and that is what is wanted;
  // `gets_on`: no loop hangs.
  void look(rules::Instant now, bool ready, bool gets_on);
  // When look() has something to say if nothing changes.
  rules::Instant next(rules::Instant now) const;
  // The configuration is read anew; over at the next look() that is ready. `monotonic_us`: CLOCK_MONOTONIC.
  void reloading(std::int64_t monotonic_us);
  void stopping();

 private:
  bool tell(std::string_view assignments) const;

  std::string socket_;
  std::optional<rules::Duration> every_;     // signs of life: a third of the watchdog's patience
  bool was_ready_ = false;                   // it was told once
  bool ready_ = false;                       // and nothing to the contrary since
  std::optional<rules::Instant> extend_at_;  // unset: at once
  std::optional<rules::Instant> alive_at_;
};

}  // namespace logbell::engine

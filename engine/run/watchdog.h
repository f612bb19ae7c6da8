// Watchdog: ends the process when a loop that nothing stands in for has not got on for a minute (FAULTS F54).
//
// Its end is harmless, and a supervisor starts it anew; hanging, it would be a bell that nobody knows to be
// dead. A thread of its own looks. step() and wait() are that thread's, the rest is thread-safe.
#pragma once

#include <condition_variable>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "engine/io/thread_annotations.h"
#include "engine/run/clock.h"

namespace logbell::engine {

class Watchdog {
 public:
  static constexpr rules::Duration kLimit{std::chrono::seconds(60)};
  static constexpr rules::Duration kLookEvery{std::chrono::seconds(5)};
  // A look that comes so late says that the whole process stood still (SIGSTOP, a suspended machine, a
  // starved container): no loop is to blame for that time.
  static constexpr rules::Duration kStoodStill{std::chrono::seconds(15)};

  struct Progress {
    std::string loop;
    std::optional<rules::Duration> silent;  // unset: it rests
  };
  struct Options {
    const Clock* clock = nullptr;  // outlives me
    rules::Duration limit = kLimit;
    std::function<std::vector<Progress>()> progress;
    std::function<void(const Progress& of)>
        bite;  // does not come back; where it does, there is no second one
  };
  explicit Watchdog(Options options) : options_(std::move(options)) {}

  std::optional<rules::Instant> step();
  void wait(std::optional<rules::Instant> until);
  bool done() const;
  void stop();

 private:
  const Options options_;
  // Owned by the loop's thread.
  std::optional<rules::Instant> last_look_;
  rules::Instant counts_from_;  // silence before it counts for nobody
  bool bitten_ = false;

  mutable Mutex mutex_;
  std::condition_variable_any changed_;
  bool stopped_ GUARDED_BY(mutex_) = false;
};

}  // namespace logbell::engine

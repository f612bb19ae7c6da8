// Waiting for news: what every loop with a mutex and a condition of its own does between two steps.
#pragma once

#include <condition_variable>
#include <optional>

#include "engine/run/clock.h"
#include "engine/run/thread_annotations.h"
#include "rules/time.h"

namespace logbell::engine {

// Once, until `changed` is notified, which may be for no reason, or `until`. False: `until` is over, and
// there was no wait.
inline bool wait_for_news(std::condition_variable_any& changed, Mutex& mutex, const Clock& clock,
                          std::optional<rules::Instant> until) REQUIRES(mutex) {
  if (!until) {
    changed.wait(mutex);
    return true;
  }
  const rules::Instant now = clock.instant();
  if (now >= *until) return false;
  changed.wait_for(mutex, *until - now);
  return true;
}

}  // namespace logbell::engine

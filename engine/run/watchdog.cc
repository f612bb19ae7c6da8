#include "engine/run/watchdog.h"

#include <algorithm>

#include "engine/run/wait.h"

namespace logbell::engine {

using rules::Duration;
using rules::Instant;

std::optional<Instant> Watchdog::step() {
  const Instant now = options_.clock->instant();
  if (!last_look_ || now - *last_look_ >= kStoodStill) counts_from_ = now;
  last_look_ = now;
  const Duration counts = std::chrono::floor<Duration>(now - counts_from_);
  for (const Progress& progress : options_.progress()) {
    if (bitten_ || !progress.silent || std::min(*progress.silent, counts) < options_.limit) continue;
    bitten_ = true;
    options_.bite(progress);
  }
  return now + std::min<Duration>(kLookEvery, options_.limit / 4);
}

void Watchdog::wait(std::optional<Instant> until) {
  const MutexLock lock(mutex_);
  while (!stopped_) {
    if (!wait_for_news(changed_, mutex_, *options_.clock, until)) return;
  }
}

bool Watchdog::done() const {
  const MutexLock lock(mutex_);
  return stopped_;
}

void Watchdog::stop() {
  const MutexLock lock(mutex_);
  stopped_ = true;
  changed_.notify_all();
}

}  // namespace logbell::engine

// Clock: the only way the program learns what time it is.
//
// Thread-safe.
#pragma once

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

}  // namespace logbell::engine

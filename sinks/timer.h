// Timer: a descriptor that is readable once a span has passed. The kernel counts: a sink asks no clock.
//
// Owned by one thread.
#pragma once

#include <algorithm>

#include <sys/timerfd.h>

#include "rules/time.h"
#include "sinks/fd.h"

namespace logbell::sinks {

class Timer {
 public:
  Timer() : fd_(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)) {}
  bool arm(rules::Duration span) const {
    const auto ms = std::max<rules::Duration::rep>(span.count(), 1);
    itimerspec when{};
    when.it_value.tv_sec = static_cast<time_t>(ms / 1000);
    when.it_value.tv_nsec = static_cast<long>(ms % 1000) * 1'000'000;
    return fd_.get() >= 0 && timerfd_settime(fd_.get(), 0, &when, nullptr) == 0;
  }
  rules::Duration left() const {
    itimerspec now{};
    if (timerfd_gettime(fd_.get(), &now) != 0) return rules::Duration(0);
    return rules::Duration(now.it_value.tv_sec * 1000 + now.it_value.tv_nsec / 1'000'000);
  }
  int fd() const { return fd_.get(); }

 private:
  Fd fd_;
};

}  // namespace logbell::sinks

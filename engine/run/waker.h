// Waker: what an idle loop sleeps on: a file descriptor, a moment, or a kick from another thread.
//
// wait() belongs to one thread; kick() is thread-safe. A test drives its own waker instead of sleeping.
#pragma once

#include <span>

#include "rules/time.h"

namespace logbell::engine {

enum class WakeReason { kTime, kReadable, kKicked };

class Waker {
 public:
  virtual ~Waker() = default;
  // Returns at `until`, when one of `fds` is readable, or after kick(), whichever comes first.
  virtual WakeReason wait(rules::Instant until, std::span<const int> fds) = 0;
  virtual void kick() = 0;
};

class Clock;

// poll(2) with an eventfd.
class PollWaker final : public Waker {
 public:
  explicit PollWaker(const Clock& clock);  // must outlive me
  ~PollWaker() override;
  PollWaker(const PollWaker&) = delete;
  PollWaker& operator=(const PollWaker&) = delete;
  WakeReason wait(rules::Instant until, std::span<const int> fds) override;
  void kick() override;

 private:
  const Clock& clock_;
  int event_fd_;
};

}  // namespace logbell::engine

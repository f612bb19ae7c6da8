#include "engine/run/waker.h"

#include <algorithm>
#include <cerrno>
#include <vector>

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "engine/run/clock.h"
#include "rules/result.h"

namespace logbell::engine {

PollWaker::PollWaker(const Clock& clock)
    : clock_(clock), event_fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  LOGBELL_CHECK(event_fd_ >= 0);
}

PollWaker::~PollWaker() {
  close(event_fd_);
}

WakeReason PollWaker::wait(rules::Instant until, std::span<const int> fds) {
  std::vector<pollfd> polled;
  polled.reserve(fds.size() + 1);
  polled.push_back({event_fd_, POLLIN, 0});
  for (const int fd : fds)
    polled.push_back({fd, POLLIN, 0});
  for (;;) {
    const rules::Instant now = clock_.instant();
    timespec left{};
    if (until > now) {
      const std::chrono::nanoseconds rest = until - now;
      // A day at most at once: what is further away is asked about again, and nothing overflows.
      const auto bounded = std::min<std::chrono::nanoseconds>(rest, std::chrono::hours(24));
      left.tv_sec = static_cast<time_t>(bounded.count() / 1'000'000'000);
      left.tv_nsec = static_cast<decltype(left.tv_nsec)>(bounded.count() % 1'000'000'000);
    }
    const int ready = ppoll(polled.data(), polled.size(), &left, nullptr);
    if (ready < 0) {
      LOGBELL_CHECK(errno == EINTR);
      continue;
    }
    if (ready == 0) {
      if (clock_.instant() >= until) return WakeReason::kTime;
      continue;
    }
    if ((polled[0].revents & POLLIN) != 0) {
      std::uint64_t count = 0;
      // Non-blocking; what several kicks wrote is read at once.
      [[maybe_unused]] const ssize_t got = read(event_fd_, &count, sizeof count);
      return WakeReason::kKicked;
    }
    return WakeReason::kReadable;
  }
}

void PollWaker::kick() {
  const std::uint64_t one = 1;
  // Fails only when the counter is full, and then the waiter is awake anyway.
  [[maybe_unused]] const ssize_t put = write(event_fd_, &one, sizeof one);
}

}  // namespace logbell::engine

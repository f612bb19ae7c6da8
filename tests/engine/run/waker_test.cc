// Waker: until a time, a readable descriptor or a kick. Time is a test's own: nothing here waits for it.
#include "engine/run/waker.h"

#include <array>

#include <catch2/catch.hpp>
#include <unistd.h>

#include "engine/run/clock.h"
#include "tests/support/fake_clock.h"

using namespace logbell::engine;
using namespace std::chrono_literals;

TEST_CASE("waker: a moment that has come returns at once", "[run][waker]") {
  const logbell::tests::FakeClock clock;
  PollWaker waker(clock);
  CHECK(waker.wait(clock.instant(), {}) == WakeReason::kTime);
  CHECK(waker.wait(clock.instant() - 1h, {}) == WakeReason::kTime);
}

TEST_CASE("waker: a kick before the wait is not lost, and several are one", "[run][waker]") {
  const logbell::tests::FakeClock clock;
  PollWaker waker(clock);
  waker.kick();
  waker.kick();
  CHECK(waker.wait(clock.instant() + 1h, {}) == WakeReason::kKicked);
  CHECK(waker.wait(clock.instant(), {}) == WakeReason::kTime);
}

TEST_CASE("waker: a readable descriptor wakes", "[run][waker]") {
  const logbell::tests::FakeClock clock;
  PollWaker waker(clock);
  std::array<int, 2> ends{};
  REQUIRE(pipe(ends.data()) == 0);
  REQUIRE(write(ends[1], "x", 1) == 1);
  const std::array<int, 1> fds{ends[0]};
  CHECK(waker.wait(clock.instant() + 1h, fds) == WakeReason::kReadable);
  close(ends[0]);
  close(ends[1]);
}

TEST_CASE("clock: the system's clocks go on", "[run][waker]") {
  const SystemClock clock;
  const auto before = clock.instant();
  CHECK(logbell::rules::to_unix_ms(clock.now()) > 1'700'000'000'000);
  CHECK(clock.instant() >= before);
}

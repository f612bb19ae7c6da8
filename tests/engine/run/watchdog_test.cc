// When a loop that hangs ends the process.
#include "engine/run/watchdog.h"

#include <catch2/catch.hpp>
#include <fmt/format.h>

#include "tests/support/fake_clock.h"

namespace logbell::engine {
namespace {

using namespace std::chrono_literals;
using rules::Duration;
using tests::FakeClock;
using Lines = std::vector<std::string>;

struct WatchdogFixture {
  WatchdogFixture() {
    Watchdog::Options options;
    options.clock = &clock;
    options.progress = [this] {
      return std::vector<Watchdog::Progress>{{"reader", silent("reader")}, {"core", silent("core")}};
    };
    options.bite = [this](const Watchdog::Progress& of) {
      bitten.push_back(fmt::format("{} {}", of.loop, *of.silent / 1s));
    };
    dog = std::make_unique<Watchdog>(std::move(options));
  }
  std::optional<Duration> silent(const std::string& loop) {
    if (loop == resting) return std::nullopt;
    return loop == hangs ? std::chrono::floor<Duration>(clock.instant() - since) : Duration(1);
  }
  // Its thread looks as often as it wants to.
  void run(Duration span) {
    const rules::Instant end = clock.instant() + span;
    while (clock.instant() < end) {
      const auto next = dog->step();
      REQUIRE(next.has_value());
      clock.advance(std::chrono::ceil<Duration>(std::min(*next, end) - clock.instant()));
    }
  }
  void hang(const std::string& loop) {
    hangs = loop;
    since = clock.instant();
  }

  FakeClock clock;
  std::string hangs;
  std::string resting;
  rules::Instant since;
  Lines bitten;
  std::unique_ptr<Watchdog> dog;
};

TEST_CASE("watchdog: a loop that hangs for a minute ends the process", "[run][watchdog][F54]") {
  for (const std::string loop : {"reader", "core"}) {
    WatchdogFixture f;
    f.run(10min);
    CHECK(f.bitten.empty());
    f.hang(loop);
    f.run(60s);
    CHECK(f.bitten.empty());
    f.run(5s);
    REQUIRE(f.bitten.size() == 1);
    CHECK(f.bitten[0].rfind(loop + " 6", 0) == 0);
    f.run(1min);
    CHECK(f.bitten.size() == 1);
  }
}

TEST_CASE("watchdog: one that gets on again, or rests, is no reason", "[run][watchdog]") {
  WatchdogFixture f;
  f.hang("core");
  f.run(59s);
  f.hangs = "";
  f.run(1min);
  f.hangs = "core";
  f.since = f.clock.instant() - 1h;
  f.resting = "core";
  f.run(10min);
  CHECK(f.bitten.empty());
}

TEST_CASE("watchdog: while the whole process stood still no loop is to blame", "[run][watchdog]") {
  WatchdogFixture f;
  f.run(10s);
  f.hang("core");  // stopped with everything else
  f.clock.advance(3h);
  f.run(59s);
  CHECK(f.bitten.empty());
  f.run(6s);  // and it does not wake up with the others
  CHECK(f.bitten.size() == 1);

  WatchdogFixture late;  // looks a little late all the time, on a busy machine
  late.hang("core");
  for (int i = 0; i < 6; ++i) {
    late.dog->step();
    late.clock.advance(14s);
  }
  CHECK(late.bitten.size() == 1);
}

TEST_CASE("watchdog: stopped, its wait ends", "[run][watchdog]") {
  WatchdogFixture f;
  f.dog->stop();
  f.dog->wait(std::nullopt);
  CHECK(f.dog->done());
}

}  // namespace
}  // namespace logbell::engine

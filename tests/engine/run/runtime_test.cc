// Runtime: time that the core can rely on, the loops one step at a time, and the whole from a log to a sink.
#include "engine/run/runtime.h"

#include <catch2/catch.hpp>

#include "tests/support/core_world.h"
#include "tests/support/fake_clock.h"

using namespace std::chrono_literals;
using namespace logbell::engine;
using logbell::tests::CoreWorld;
using logbell::tests::FakeClock;
namespace rules = logbell::rules;

namespace {

// A core loop over the real pipeline, with everything around it in reach.
struct CoreFixture {
  explicit CoreFixture(bool with_spare = false) {
    world.pattern("queue_error", {"queue"});
    world.rule("QueueUnreachable", "sum by (queue) (count_over_time(queue_error[1m])) >= 3");
    world.sink("ops");
    if (with_spare) world.sink("spare");
    world.route(with_spare ? std::vector<std::string>{"ops", "spare"} : std::vector<std::string>{"ops"});
    CoreLoop::Options options;
    options.plan = world.plan();
    options.clock = &clock;
    options.log = &log;
    options.metrics = &metrics;
    options.queue = &queue;
    options.commit = [this](Tick tick) {
      ticks.push_back(std::move(tick));
      return true;
    };
    options.confirm = [this] { ++confirmations; };
    options.publish = [this](std::shared_ptr<const CoreView> published) {
      view = std::move(published);
      ++views;
    };
    options.first_pass = [this] { ++first_passes; };
    options.plan_changed = [this](std::uint64_t generation) {
      CHECK(view->plan->generation == generation);  // whoever is told can already see it
      changed_to = generation;
    };
    metrics.set_plan(options.plan);
    auto pipeline = std::make_unique<Pipeline>(options.plan, std::vector<StoredEntry>{});
    core = std::make_unique<CoreLoop>(std::move(pipeline), std::move(options));
  }
  // What the reader would send: `errors` matches of now, and that everything up to now is read.
  void batch(int errors = 0, std::int64_t back = 0) {
    MatchBatch batch;
    batch.generation = world.current->generation;
    batch.sequence = ++sequence;
    batch.read_at = clock.now();
    for (int i = 0; i < errors; ++i) {
      TimedMatch match;
      match.at = clock.now();
      match.line = 0;
      match.labels = {"orders"};
      batch.matches.push_back(match);
    }
    if (errors > 0) batch.lines.emplace_back("QueueNotFoundException: queue orders");
    SourceStatus status;
    status.watermark = clock.now() - rules::Duration(back);
    status.read_to_end_at = clock.now();
    status.readable = true;
    status.watched_from = rules::kLongAgo;
    batch.sources.push_back(status);
    batch.bytes = 100;
    REQUIRE(queue.push(std::move(batch), 100));
  }
  std::vector<std::string> told() const {
    std::vector<std::string> all;
    for (const Tick& tick : ticks) {
      for (const std::string& line : CoreWorld::summary(tick))
        all.push_back(line);
    }
    return all;
  }
  rules::Duration until(rules::Instant at) const {
    return std::chrono::floor<rules::Duration>(at - clock.instant());
  }

  CoreWorld world;
  FakeClock clock{CoreWorld::at(0)};
  Log log{{&clock, 30s, [](std::string_view) {}}};
  Metrics metrics{"1", clock.now()};
  CoreQueue queue{1 << 20};
  std::vector<Tick> ticks;
  std::shared_ptr<const CoreView> view;
  int views = 0;
  int confirmations = 0;
  int first_passes = 0;
  std::uint64_t changed_to = 0;
  std::uint64_t sequence = 0;
  std::unique_ptr<CoreLoop> core;
};

using Lines = std::vector<std::string>;

}  // namespace

TEST_CASE("runtime: a small step back of the wall clock is held until it is caught up with",
          "[run][runtime]") {
  FakeClock clock(CoreWorld::at(100'000));
  HeldClock held(clock);
  CHECK(held.now() == CoreWorld::at(100'000));
  clock.advance(1s);
  CHECK(held.now() == CoreWorld::at(101'000));
  clock.step_wall(-4s);
  CHECK(held.now() == CoreWorld::at(101'000));
  CHECK(held.steps() == 1);
  clock.advance(2s);
  CHECK(held.now() == CoreWorld::at(102'000));  // at half speed
  clock.advance(5s);
  CHECK(held.now() == CoreWorld::at(104'500));
  clock.advance(10s);
  CHECK(held.now() == CoreWorld::at(114'000));  // the wall clock is ahead again
  CHECK(held.steps() == 1);
}

TEST_CASE("runtime: a large step back is passed on, a step ahead is time that has passed", "[run][runtime]") {
  FakeClock clock(CoreWorld::at(0));
  HeldClock held(clock);
  held.now();
  clock.step_wall(1h);
  CHECK(held.now() == CoreWorld::at(3'600'000));
  CHECK(held.steps() == 0);
  clock.step_wall(-1h);
  CHECK(held.now() == CoreWorld::at(0));
  CHECK(held.steps() == 1);
}

TEST_CASE("runtime: a loop that rests is not silent", "[run][runtime]") {
  FakeClock clock;
  Heartbeat heartbeat;
  CHECK_FALSE(heartbeat.silent(clock.instant()).has_value());
  heartbeat.beat(clock.instant());
  clock.advance(31s);
  CHECK(heartbeat.silent(clock.instant()) == rules::Duration(31s));
  heartbeat.rest();
  CHECK_FALSE(heartbeat.silent(clock.instant()).has_value());
}

TEST_CASE("runtime: a burst is one evaluation, and everybody can see it", "[run][runtime]") {
  CoreFixture f;
  f.batch(1);
  f.batch(1);
  f.batch(1);
  f.core->step();
  CHECK(f.ticks.size() == 1);
  CHECK(f.told() == Lines{"ops: first_firing QueueUnreachable+"});
  REQUIRE(f.view);
  REQUIRE(f.view->alerts.size() == 1);
  CHECK(f.view->alerts[0].alert.name() == "QueueUnreachable");
  CHECK(f.view->rules.size() == 1);
}

TEST_CASE("runtime: views follow what moves at most ten times a second, alerts at once", "[run][runtime]") {
  CoreFixture f;
  f.batch();
  f.core->step();
  CHECK(f.views == 1);
  for (int i = 0; i < 9; ++i) {
    f.clock.advance(10ms);
    f.batch();
    const rules::Instant next = f.core->step();
    CHECK(f.until(next) <= 100ms);
  }
  CHECK(f.views == 1);
  f.batch(3);
  f.core->step();
  CHECK(f.views == 2);
}

TEST_CASE("runtime: when a window's edge comes, the reader is asked, and only its answer resolves",
          "[run][runtime]") {
  CoreFixture f;
  f.batch(3);
  rules::Instant next = f.core->step();
  CHECK(f.confirmations == 0);
  CHECK(f.until(next) <= CoreLoop::kIdle);
  f.clock.advance(59s + 999ms);
  next = f.core->step();
  CHECK(f.confirmations == 0);
  CHECK(f.until(next) == 1ms);
  f.clock.advance(1ms);
  f.core->step();
  CHECK(f.confirmations == 1);
  CHECK(f.told().size() == 1);
  // Nothing comes back: it is asked again, ever less often, and nobody spins.
  for (int i = 0; i < 10'000; ++i) {
    f.clock.advance(1ms);
    f.core->step();
  }
  CHECK(f.confirmations > 10);
  CHECK(f.confirmations < 20);
  CHECK(f.told().size() == 1);
  f.batch();
  f.core->step();
  CHECK(f.told() == Lines{"ops: first_firing QueueUnreachable+", "ops: all_resolved QueueUnreachable-"});
}

TEST_CASE("runtime: ready is said once what was there has been evaluated", "[run][runtime]") {
  CoreFixture f;
  f.batch(3);
  f.queue.push(FirstPass{}, 0);
  f.core->step();
  CHECK(f.first_passes == 1);
  CHECK(f.told().size() == 1);
  f.core->step();
  CHECK(f.first_passes == 1);
}

TEST_CASE("runtime: a plan changes at its place in the queue, and whoever waits can see it",
          "[run][runtime]") {
  CoreFixture f;
  f.batch(3);
  ++f.world.written.generation;
  f.world.written.rules.clear();
  f.queue.push(PlanChange{f.world.plan()}, 0);
  f.core->step();
  f.core->step();
  CHECK(f.changed_to == f.world.written.generation);
  CHECK(f.view->plan->rules.empty());
}

TEST_CASE("runtime: a sink that refuses for good is told of elsewhere until it works again",
          "[run][runtime]") {
  CoreFixture f(true);
  f.batch();
  f.core->step();
  f.queue.push(SinkHealth{"ops", "ops", true, "404 no_service"}, 0);
  f.core->step();
  f.clock.advance(1s);
  f.core->step();
  CHECK(f.told() == Lines{"spare: first_firing SinkDead+"});
  f.queue.push(SinkHealth{"ops", "ops", false, ""}, 0);
  f.core->step();
  f.clock.advance(1min);
  f.core->step();
  REQUIRE(f.told().size() == 2);
  CHECK(f.told()[1] == "spare: all_resolved SinkDead-");
}

TEST_CASE("runtime: a dead sink that is removed is dead no more", "[run][runtime]") {
  CoreFixture f(true);
  f.batch();
  f.core->step();
  f.queue.push(SinkHealth{"ops", "ops", true, "404 no_service"}, 0);
  f.core->step();
  REQUIRE(f.view->alerts.size() == 1);
  ++f.world.written.generation;
  f.world.written.sinks.erase("ops");
  f.world.written.route.options.sinks = {"spare"};
  f.queue.push(PlanChange{f.world.plan()}, 0);
  f.core->step();
  f.clock.advance(1min);
  f.core->step();
  CHECK(f.view->alerts.empty());
}

TEST_CASE("runtime: one of two peers that refuses is told of, and the other goes on", "[run][runtime]") {
  CoreFixture f(true);
  f.world.written.sinks["ops"].lanes = {"ops#1", "ops#2"};
  ++f.world.written.generation;
  f.queue.push(PlanChange{f.world.plan()}, 0);
  f.batch();
  f.core->step();
  f.queue.push(SinkHealth{"ops", "ops#2", true, "401"}, 0);
  f.core->step();
  f.clock.advance(1s);
  f.core->step();
  const Lines told = f.told();
  CHECK(std::count(told.begin(), told.end(), "ops#1: first_firing SinkDead+") == 1);
  REQUIRE(f.view->alerts.size() == 1);
  CHECK(f.view->alerts[0].alert.labels.get("lane") == "ops#2");
}

TEST_CASE("runtime: once the queue is closed, what is in it is evaluated and the core ends",
          "[run][runtime]") {
  CoreFixture f;
  f.batch(3);
  f.queue.close();
  while (!f.core->ended())
    f.core->step();
  CHECK(f.told() == Lines{"ops: first_firing QueueUnreachable+"});
}

TEST_CASE("runtime: a clock that is set back is counted", "[run][runtime][F32]") {
  CoreFixture f;
  f.batch();
  f.core->step();
  f.clock.step_wall(-1h);
  f.core->step();
  f.clock.step_wall(1h);
  f.core->step();
  CHECK(f.metrics.render({{}, {}, f.clock.now()}, ProcessUse{}).find("\nlogbell_clock_steps_total 1\n") !=
        std::string::npos);
}

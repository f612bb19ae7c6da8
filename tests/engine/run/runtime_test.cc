// Runtime: time that the core can rely on, the loops one step at a time, and the whole from a log to a sink.
#include "engine/run/runtime.h"

#include <array>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

#include <catch2/catch.hpp>
#include <unistd.h>

#include "engine/run/refusal.h"
#include "tests/support/core_world.h"
#include "tests/support/fake_clock.h"
#include "tests/support/fake_sink.h"

using namespace std::chrono_literals;
using namespace logbell::engine;
using logbell::tests::CoreWorld;
using logbell::tests::FakeClock;
namespace rules = logbell::rules;

namespace {

// A core loop over the real pipeline, with everything around it in reach.
struct CoreFixture {
  explicit CoreFixture(bool with_spare = false, const std::vector<StoredEntry>& stored = {}) {
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
    options.gave_up = [this](std::uint64_t number) { gave_up.push_back(number); };
    options.plan_changed = [this](std::uint64_t generation) {
      CHECK(view->plan->generation == generation);  // whoever is told can already see it
      changed_to = generation;
    };
    metrics.set_plan(options.plan);
    auto pipeline = std::make_unique<Pipeline>(options.plan, stored);
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
    const bool taken = queue.push(std::move(batch), 100);
    REQUIRE(taken);
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
  std::vector<std::uint64_t> gave_up;
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

// What a test makes of each delivery, in place of a real sink.
using Deliver = std::function<logbell::sinks::Outcome(const rules::Notification&)>;
using Verify = std::function<logbell::sinks::Verification()>;

class TestSink final : public logbell::sinks::Sink {
 public:
  TestSink(Deliver deliver, Verify verify) : deliver_(std::move(deliver)), verify_(std::move(verify)) {}
  logbell::sinks::Outcome deliver(const rules::Notification& notification,
                                  const logbell::sinks::Attempt& /*attempt*/) override {
    return deliver_(notification);
  }
  logbell::sinks::Verification verify(const logbell::sinks::Attempt& /*attempt*/) override {
    return verify_();
  }

 private:
  Deliver deliver_;
  Verify verify_;
};

class TestSinkConfig final : public logbell::sinks::SinkConfig {
 public:
  explicit TestSinkConfig(Deliver deliver, Verify verify = {})
      : deliver_(std::move(deliver)), verify_(std::move(verify)) {}
  std::unique_ptr<logbell::sinks::Sink> build(std::size_t /*lane*/,
                                              const logbell::sinks::SinkContext& /*context*/) const override {
    return std::make_unique<TestSink>(deliver_, verify_);
  }
  std::string destination() const override { return "test"; }

 private:
  Deliver deliver_;
  Verify verify_;
};

// A gate that a hung sink waits at. Thread-safe.
class Gate {
 public:
  void open() {
    const MutexLock lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  void pass() {
    const MutexLock lock(mutex_);
    ++waiting_;
    changed_.notify_all();
    while (!open_)
      changed_.wait(mutex_);
  }
  void wait_for_somebody() {
    const MutexLock lock(mutex_);
    while (waiting_ == 0)
      changed_.wait(mutex_);
  }

 private:
  Mutex mutex_;
  std::condition_variable_any changed_;
  bool open_ GUARDED_BY(mutex_) = false;
  int waiting_ GUARDED_BY(mutex_) = 0;
};

// A directory with a log, a configuration and a state; the process comes and goes.
struct House {
  House() {
    std::string made = "/tmp/logbell-runtime-XXXXXX";
    REQUIRE(mkdtemp(made.data()) != nullptr);
    directory = made;
    write("app.log", "");
    rules_text = R"(
rules:
  - {alert: Boom, expr: 'count_over_time(boom[1h]) >= 3', labels: {severity: critical}, sinks: [out]}
)";
  }
  ~House() {
    runtime.reset();
    std::filesystem::remove_all(directory);
  }
  std::string path(const std::string& name) const { return directory + "/" + name; }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(path(name), std::ios::app) << text;
  }
  std::string read(const std::string& name) const {
    std::ifstream in(path(name));
    return {std::istreambuf_iterator<char>(in), {}};
  }
  std::vector<std::string> told(const std::string& name = "out.jsonl") const {
    std::vector<std::string> sent;
    std::ifstream in(path(name));
    for (std::string line; std::getline(in, line);)
      sent.push_back(line);
    return sent;
  }

  std::shared_ptr<const Config> load(std::uint64_t generation = 1) {
    std::ofstream(path("logbell.yaml"), std::ios::trunc)
        << "state_dir: " << directory << "\nlisten: '" << listen << "'\n"
        << "sources: [{name: app, " << source << "}]\n"
        << "patterns: {boom: {match: 'ERROR boom'}}\n"
        << "sinks:\n  out: {file: {path: '" << path("out.jsonl") << "'}, audience: machine" << out_more
        << "}\n"
        << sinks << rules_text;
    rules::Problems problems;
    LoadOptions options;
    options.for_run = true;
    options.generation = generation;
    auto config = load_config(path("logbell.yaml"), ConfigWorld::real(clock.now()), options, problems);
    for (const rules::Problem& problem : problems.sorted())
      UNSCOPED_INFO(problem.format());
    REQUIRE(config);
    if (!replaced) return config;
    auto copy = std::make_shared<Config>(*config);
    copy->sinks["out"] = std::make_shared<TestSinkConfig>(replaced, verify);
    return copy;
  }
  tl::expected<std::unique_ptr<Runtime>, Runtime::Failure> begin() {
    if (source.empty()) source = "files: ['" + path("*.log") + "']";
    Runtime::Options options;
    options.config = without_out ? load_without_out(1) : load();
    options.clock = &clock;
    options.log = &log;
    options.metrics = metrics.get();
    options.front = &front;
    options.version = "1";
    options.stdin_fd = stdin_fd;
    options.lock_wait = rules::Duration(0);
    options.verify = static_cast<bool>(verify);
    options.verdicts = verify ? verify_sinks(*options.config, clock, "") : Verdicts();
    options.wake_main = [this] {
      const MutexLock lock(mutex);
      woken = true;
      changed.notify_all();
    };
    return Runtime::start(std::move(options));
  }
  void start() {
    runtime.reset();
    metrics = std::make_unique<Metrics>("1", clock.now());
    auto started = begin();
    if (!started) FAIL(started.error().message);
    runtime = std::move(*started);
  }
  bool stop(rules::Duration grace = 10s) { return runtime->stop(grace); }
  // What the main thread does until `done`.
  template <class Done>
  void tend_until(Done done) {
    while (!done()) {
      {
        const MutexLock lock(mutex);
        if (!woken) changed.wait_for(mutex, std::chrono::milliseconds(20));
        woken = false;
      }
      runtime->tend();
    }
  }
  std::shared_ptr<const Config> load_without_out(std::uint64_t generation) {
    auto without = std::make_shared<Config>(*load(generation));
    auto plan = std::make_shared<rules::Plan>(*without->plan);
    plan->sinks.erase("out");
    without->sinks.erase("out");
    without->plan = plan;
    return without;
  }
  bool shows(const std::string& line) const {
    return metrics->render({{}, {}, clock.now()}, ProcessUse{}).find("\n" + line + "\n") != std::string::npos;
  }

  SystemClock clock;
  std::string directory;
  std::string source;
  std::string out_more;
  std::string sinks;
  std::string rules_text;
  std::string listen = "127.0.0.1:0";
  int stdin_fd = -1;
  bool without_out = false;
  Deliver replaced;
  Verify verify;  // of `replaced`
  Mutex lines_mutex;
  std::vector<std::string> lines GUARDED_BY(lines_mutex);
  Log log{{&clock, 30s, [this](std::string_view line) {
             const MutexLock lock(lines_mutex);
             lines.emplace_back(line);
           }}};
  std::unique_ptr<Metrics> metrics = std::make_unique<Metrics>("1", clock.now());
  Front front;
  Mutex mutex;
  std::condition_variable_any changed;
  bool woken GUARDED_BY(mutex) = false;
  std::unique_ptr<Runtime> runtime;
};

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
  clock.advance(2s);
  CHECK(held.now() == CoreWorld::at(103'000));
  clock.advance(3s);
  CHECK(held.now() == CoreWorld::at(104'000));  // the wall clock is ahead again
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

TEST_CASE("runtime: of what a sink left behind is missed what fires no more and nobody else was told",
          "[run][runtime][F35]") {
  CoreFixture f;
  f.batch(3);
  f.core->step();
  REQUIRE(f.told() == Lines{"ops: first_firing QueueUnreachable+"});

  rules::Notification about;
  about.sink = about.lane = "gone";
  about.reason = rules::NotifyReason::kFirstFiring;
  rules::Alert alert;
  alert.labels = rules::Labels{{"alertname", "QueueUnreachable"}, {"queue", "mail"}};
  alert.state = rules::AlertState::kFiring;
  alert.fired_at = CoreWorld::at(-60'000);
  alert.rule = f.world.current->rules[0].identity();
  about.alerts = {alert};
  std::string summary = "rule QueueUnreachable fired and is over; sink gone was never told, for the "
                        "configuration took it away while this still waited: {alertname=\"QueueUnreachable\", queue=\"mail\"} fired 2026-05-01T07:59:00Z";
  bool missed = true;
  SECTION("an alert that is over") {}
  SECTION("many") {
    for (int i = 0; i < 5; ++i) {
      alert.labels.set("queue", "mail" + std::to_string(i));
      about.alerts.push_back(alert);
    }
    summary = " and 3 more";
  }
  SECTION("a summary") {
    about.reason = rules::NotifyReason::kSummary;
    about.alerts.clear();
    about.text = "While logbell was not reading, 1 alert fired and resolved:\nQueueUnreachable";
    summary = "sink gone was never told this, for the configuration took it away while it still waited: "
              "While logbell was not reading, 1 alert fired";
  }
  SECTION("one that fires goes to the sinks that its rule has now") {
    about.alerts = {f.view->alerts.at(0).alert};
    missed = false;
  }
  SECTION("one of a rule that the same change gave other labels, and that fires with them") {
    about.alerts[0].rule = 7;
    missed = false;
  }
  SECTION("one that was told to another peer of the same sink") {
    about.sink = "ops";
    about.lane = "ops#2";
    missed = false;
  }
  SECTION("what logbell had to say of that sink itself") {
    about.alerts[0].labels = rules::Labels{{"alertname", "DeliveryDelayed"}, {"sink", "gone"}};
    about.alerts[0].built_in = true;
    missed = false;
  }
  SECTION("an end") {
    about.alerts[0].state = rules::AlertState::kResolved;
    missed = false;
  }
  f.queue.push(GivenUp{{about}, 7}, 0);
  CHECK(f.until(f.core->step()) <= CoreLoop::kRulesSettle);
  CHECK(f.gave_up.empty());  // the rules may have changed with it
  f.clock.advance(CoreLoop::kRulesSettle);
  f.core->step();
  CHECK(f.gave_up == std::vector<std::uint64_t>{7});
  std::string said;
  for (const AlertView& view : f.view->alerts) {
    if (view.alert.name() == "AlertsMissed") said = view.alert.annotation("summary");
  }
  CAPTURE(said);
  if (missed) {
    CHECK(said.find(summary) != std::string::npos);
  } else {
    CHECK(said.empty());
  }
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

SinkVerdict verdict_of(const std::string& lane, logbell::sinks::Verification found, bool unverified = false) {
  return {{"ops", lane, 0, std::move(found), CoreWorld::at(0), false, {}}, unverified};
}
using logbell::sinks::ProofLevel;
using logbell::sinks::Verification;
Verification asked_live() {
  return Verification::live(ProofLevel::kCredential, "hello -> HTTP 200");
}
Verification asked_dead() {
  return Verification::dead(logbell::sinks::Reason::kGone, ProofLevel::kNetwork,
                            "hello -> HTTP 404: no_service");
}
Verification asked_unknown() {
  return Verification::unknown(logbell::sinks::Reason::kServerError, ProofLevel::kNetwork,
                               "hello -> HTTP 503");
}

TEST_CASE("runtime: a sink that says it is dead when asked is told of elsewhere, before any message fails",
          "[run][runtime][F52]") {
  CoreFixture f(true);
  f.batch();
  f.queue.push(verdict_of("ops", asked_dead()), 0);
  f.core->step();
  f.clock.advance(1s);
  f.core->step();
  CHECK(f.told() == Lines{"spare: first_firing SinkDead+"});
  REQUIRE(f.view->alerts.size() == 1);
  CHECK(f.view->alerts[0].alert.annotation("summary") ==
        "Sink ops is dead, no message would arrive: hello -> HTTP 404: no_service.");
  SECTION("until it is live") {
    f.queue.push(verdict_of("ops", asked_live()), 0);
  }
  SECTION("until a message has arrived all the same") {
    f.queue.push(SinkHealth{"ops", "ops", false, ""}, 0);
  }
  f.core->step();
  f.clock.advance(1min);
  f.core->step();
  REQUIRE(f.told().size() == 2);
  CHECK(f.told()[1] == "spare: all_resolved SinkDead-");
}

TEST_CASE("runtime: a sink that is live but not for everybody is told of, until it is",
          "[run][runtime][F52]") {
  CoreFixture f(true);
  f.batch();
  Verification partly = asked_live();
  partly.reason = logbell::sinks::Reason::kPartlyRefused;
  partly.evidence = "1 of 2 recipients are taken";
  f.queue.push(verdict_of("ops", partly), 0);
  f.core->step();
  f.clock.advance(1s);
  f.core->step();
  // The others behind it hear of it, too.
  CHECK(f.told() == Lines{"ops: first_firing SinkUnverified+", "spare: first_firing SinkUnverified+"});
  REQUIRE(f.view->alerts.size() == 1);
  CHECK(f.view->alerts[0].alert.annotation("summary") ==
        "Not everybody behind sink ops would hear: 1 of 2 recipients are taken.");
  f.queue.push(verdict_of("ops", asked_live()), 0);
  f.core->step();
  f.clock.advance(1min);
  f.core->step();
  CHECK(f.told().size() == 4);
}

TEST_CASE("runtime: what refuses messages is dead, whatever it says when asked", "[run][runtime][F52]") {
  CoreFixture f(true);
  f.batch();
  f.queue.push(SinkHealth{"ops", "ops", true, "410 channel_is_archived"}, 0);
  f.queue.push(verdict_of("ops", asked_live()), 0);
  f.queue.push(verdict_of("ops", asked_unknown()), 0);
  f.core->step();
  f.clock.advance(1min);
  f.core->step();
  REQUIRE(f.view->alerts.size() == 1);
  CHECK(f.told() == Lines{"spare: first_firing SinkDead+"});
  // Nor does one that died twice live again with one of the two.
  f.queue.push(verdict_of("ops", asked_dead()), 0);
  f.queue.push(verdict_of("ops", asked_live()), 0);
  f.core->step();
  f.clock.advance(1min);
  f.core->step();
  CHECK(f.view->alerts.size() == 1);
}

TEST_CASE("runtime: what refused messages before a restart is dead until one arrives",
          "[run][runtime][F52]") {
  CoreFixture before(true);
  before.batch();
  bool by_question = false;
  SECTION("by a message") {
    before.queue.push(SinkHealth{"ops", "ops", true, "410 channel_is_archived"}, 0);
  }
  SECTION("by a question") {
    by_question = true;
    before.queue.push(verdict_of("ops", asked_dead()), 0);
  }
  before.core->step();
  before.clock.advance(1s);
  before.core->step();
  std::map<std::string, StoredEntry> stored;
  for (const Tick& tick : before.ticks) {
    for (const StoredEntry& entry : tick.entries)
      stored[entry.key] = entry;
  }
  std::vector<StoredEntry> entries;
  for (const auto& [key, entry] : stored) {
    if (entry.value) entries.push_back(entry);
  }

  CoreFixture after(true, entries);
  after.clock.advance(2s);
  after.queue.push(verdict_of("ops", asked_live()), 0);
  after.batch();
  after.core->step();
  after.clock.advance(1min);
  after.core->step();
  CHECK(after.view->alerts.size() == (by_question ? 0 : 1));
  after.queue.push(SinkHealth{"ops", "ops", false, ""}, 0);
  after.core->step();
  after.clock.advance(1min);
  after.core->step();
  CHECK(after.view->alerts.empty());
}

TEST_CASE("runtime: a sink that says nothing for minutes is told of, and it hears of it too",
          "[run][runtime][F52]") {
  CoreFixture f(true);
  f.batch();
  f.queue.push(verdict_of("ops", asked_unknown()), 0);
  f.core->step();
  f.clock.advance(1s);
  f.core->step();
  CHECK(f.view->alerts.empty());
  f.queue.push(verdict_of("ops", asked_unknown(), true), 0);
  f.core->step();
  f.clock.advance(1s);
  f.core->step();
  CHECK(f.told() == Lines{"ops: first_firing SinkUnverified+", "spare: first_firing SinkUnverified+"});
  // The next answer that says nothing ends nothing.
  f.queue.push(verdict_of("ops", asked_unknown()), 0);
  f.core->step();
  CHECK(f.view->alerts.size() == 1);
  SECTION("until it is live") {
    f.queue.push(verdict_of("ops", asked_live()), 0);
    f.core->step();
    f.clock.advance(1min);
    f.core->step();
    CHECK(f.view->alerts.empty());
    CHECK(f.told().size() == 4);
  }
  SECTION("or dead") {
    f.queue.push(verdict_of("ops", asked_dead()), 0);
    f.core->step();
    f.clock.advance(1s);
    f.core->step();
    REQUIRE(f.view->alerts.size() == 1);
    CHECK(f.view->alerts[0].alert.name() == "SinkDead");
  }
  SECTION("or gone") {
    ++f.world.written.generation;
    f.world.written.sinks.erase("ops");
    f.world.written.route.options.sinks = {"spare"};
    f.queue.push(PlanChange{f.world.plan()}, 0);
    f.core->step();
    f.clock.advance(1min);
    f.core->step();
    CHECK(f.view->alerts.empty());
  }
  SECTION("an answer of a lane that is no more is heard by nobody") {
    f.queue.push(verdict_of("ops#2", asked_dead()), 0);
    f.core->step();
    CHECK(f.view->alerts.size() == 1);
  }
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

TEST_CASE("runtime: from a line in a log to a line at the sink, and all of it before a stop ends",
          "[run][runtime][F49][F50]") {
  House house;
  house.start();
  house.write("app.log", "ERROR boom 1\nall is well\nERROR boom 2\nERROR boom 3\n");
  CHECK(house.stop());  // the last lines come with the SIGTERM
  REQUIRE(house.told().size() == 1);
  CHECK(house.told()[0].find("Boom") != std::string::npos);
  CHECK(house.told()[0].find("ERROR boom 3") != std::string::npos);
  CHECK(house.shows("logbell_pattern_matches_total{pattern=\"boom\"} 3"));
  CHECK(house.shows("logbell_source_lines_total{source=\"app\"} 4"));
  CHECK(house.shows("logbell_notifications_total{outcome=\"delivered\",reason=\"ok\",sink=\"out\"} 1"));
}

TEST_CASE("runtime: a restart goes on where it was: nothing twice, nothing lost, counters kept",
          "[run][runtime]") {
  House house;
  house.start();
  house.write("app.log", "ERROR boom 1\nERROR boom 2\n");
  CHECK(house.stop());
  CHECK(house.told().empty());
  house.write("app.log", "ERROR boom 3\n");
  house.start();
  CHECK(house.stop());
  CHECK(house.told().size() == 1);
  house.start();
  CHECK(house.shows("logbell_pattern_matches_total{pattern=\"boom\"} 3"));
  CHECK(house.shows("logbell_notifications_total{outcome=\"delivered\",reason=\"ok\",sink=\"out\"} 1"));
  CHECK(house.stop());
  CHECK(house.told().size() == 1);
}

TEST_CASE("runtime: standard input ends, and with it, after everything is sent, the process",
          "[run][runtime]") {
  std::array<int, 2> fds{};
  REQUIRE(pipe(fds.data()) == 0);
  House house;
  house.source = "stdin: true";
  house.stdin_fd = fds[0];
  house.start();
  const std::string text = "ERROR boom\nERROR boom\nERROR boom\n";
  REQUIRE(write(fds[1], text.data(), text.size()) == static_cast<ssize_t>(text.size()));
  CHECK_FALSE(house.runtime->finished().has_value());
  close(fds[1]);
  house.tend_until([&] { return house.runtime->finished().has_value(); });
  CHECK(house.runtime->finished() == 0);
  CHECK(house.stop());
  CHECK(house.told().size() == 1);
  close(fds[0]);
}

TEST_CASE("runtime: what an old log would have rung is told to nobody, and that is said", "[run][runtime]") {
  House house;
  const std::string line = "2020-05-01T10:00:00Z ERROR boom\n";
  for (int n = 0; n < 3; ++n)
      house.write("app.log", line);
  house.start();
  house.tend_until([&] { return house.shows("logbell_alerts_before_start_total 1"); });
  CHECK(house.stop());
  CHECK(house.told().empty());
  const MutexLock lock(house.lines_mutex);
  CHECK(std::any_of(house.lines.begin(), house.lines.end(), [](const std::string& said) {
    return said.find("Not told: alerts") != std::string::npos && said.find("alerts=1 ") != std::string::npos;
  }));
}

TEST_CASE("runtime: a reload is a barrier; what no longer exists resolves, what is unchanged goes on",
          "[run][runtime][F35]") {
  House house;
  house.rules_text += "  - {alert: Other, expr: 'count_over_time(boom[1h]) >= 1', sinks: [out]}\n";
  house.write("app.log", "ERROR boom\nERROR boom\nERROR boom\n");
  house.start();
  house.tend_until([&] { return house.told().size() == 2; });
  house.rules_text = "rules:\n  - {alert: Other, expr: 'count_over_time(boom[1h]) >= 1', sinks: [out]}\n";
  house.runtime->reload(house.load(2));
  house.tend_until([&] { return house.runtime->reload_done(); });
  CHECK(house.stop());
  const auto told = house.told();
  const auto resolved = std::count_if(told.begin(), told.end(), [](const std::string& line) {
    return line.find("\"resolved\"") != std::string::npos && line.find("Boom") != std::string::npos;
  });
  CHECK(resolved <= 1);  // at once or with the group's next message, which the restart sends
  CHECK(house.shows("logbell_pattern_matches_total{pattern=\"boom\"} 3"));
}

TEST_CASE("runtime: the lane of a removed sink ends, and what waits for it is given up and counted",
          "[run][runtime][F35]") {
  House house;
  house.replaced = [](const rules::Notification&) {
    return logbell::sinks::Outcome::retry(logbell::sinks::Reason::kServerError, "503");
  };
  house.sinks = "  spare: {file: {path: '" + house.path("spare.jsonl") + "'}, audience: machine}\n";
  house.write("app.log", "ERROR boom\nERROR boom\nERROR boom\n");
  house.start();
  house.tend_until([&] {
    return house.shows(
        "logbell_notifications_total{outcome=\"retry\",reason=\"server_error\",sink=\"out\"} 1");
  });
  house.replaced = nullptr;
  house.rules_text = "rules:\n  - {alert: Boom, expr: 'count_over_time(boom[1h]) >= 3', sinks: [spare]}\n";
  const auto changed = house.load_without_out(2);
  house.runtime->reload(changed);
  house.tend_until([&] { return house.shows("logbell_notifications_dropped_total{reason=\"no_lane\"} 1"); });
  // Whoever was told of it hears no end of it.
  CHECK(house.shows("logbell_notifications_dropped_total{reason=\"no_sink\"} 1"));
  CHECK(house.stop());
}

TEST_CASE("runtime: two instances that ring at the same moment do not take each other's message for their own",
          "[run][runtime]") {
  const SystemClock clock;
  const std::string line = rules::format_rfc3339(clock.now()) + " ERROR boom\n";
  std::vector<std::string> keys;
  for (int i = 0; i < 2; ++i) {
    House house;
    Mutex mutex;
    std::vector<std::string> seen;
    house.replaced = [&](const rules::Notification& notification) {
      const MutexLock lock(mutex);
      seen.push_back(notification.key);
      return seen.size() < 2 ? logbell::sinks::Outcome::retry(logbell::sinks::Reason::kServerError, "503")
                             : logbell::sinks::Outcome::delivered("yes");
    };
    for (int n = 0; n < 3; ++n)
      house.write("app.log", line);
    house.start();
    house.tend_until([&] {
      const MutexLock lock(mutex);
      return !seen.empty();
    });
    CHECK(house.stop());
    house.start();
    house.tend_until([&] {
      const MutexLock lock(mutex);
      return seen.size() >= 2;
    });
    CHECK(house.stop());
    const MutexLock lock(mutex);
    CHECK(seen == std::vector<std::string>(2, seen[0]));
    keys.push_back(seen[0]);
  }
  CHECK(keys[0] != keys[1]);
}

TEST_CASE("runtime: what fired and is over while it waited at a sink that is then removed is told as missed",
          "[run][runtime][F35]") {
  House house;
  house.replaced = [](const rules::Notification&) {
    return logbell::sinks::Outcome::retry(logbell::sinks::Reason::kServerError, "503");
  };
  house.sinks = "  spare: {file: {path: '" + house.path("spare.jsonl") + "'}, audience: machine}\n";
  house.rules_text = R"(
route: {sinks: [spare], group_wait: 0s}
rules:
  - {alert: Boom, expr: 'count_over_time(boom[300ms]) >= 3', sinks: [out]}
)";
  house.write("app.log", "ERROR boom\nERROR boom\nERROR boom\n");
  house.start();
  house.tend_until([&] {
    return house.shows(
               "logbell_notifications_total{outcome=\"retry\",reason=\"server_error\",sink=\"out\"} 1") &&
           house.shows("logbell_alerts{alertname=\"Boom\",alertstate=\"firing\"} 0");
  });
  house.replaced = nullptr;
  const auto told_as_missed = [&] {
    const auto told = house.told("spare.jsonl");
    return std::any_of(told.begin(), told.end(), [](const std::string& line) {
      return line.find("AlertsMissed") != std::string::npos &&
             line.find("sink out was never told") != std::string::npos &&
             line.find("Boom") != std::string::npos;
    });
  };
  house.rules_text.replace(house.rules_text.find("[out]"), 5, "[spare]");
  SECTION("by a reload") {
    house.runtime->reload(house.load_without_out(2));
  }
  SECTION("while logbell was down") {
    CHECK(house.stop());
    house.without_out = true;
    house.start();
  }
  house.tend_until(told_as_missed);
  house.tend_until([&] {
    return house.shows("logbell_notifications_total{outcome=\"rejected\",reason=\"no_lane\",sink=\"out\"} 1");
  });
  CHECK(house.stop());
  CHECK(told_as_missed());
  CHECK(house.shows("logbell_notifications_dropped_total{reason=\"no_lane\"} 1"));
  house.runtime.reset();
  auto opened = Store::open(house.directory, house.clock.now());
  REQUIRE(opened);
  CHECK(opened->store->undelivered()->empty());
}

TEST_CASE("runtime: a sink that is removed and comes back at once is told anew, and not what waited before",
          "[run][runtime][F35]") {
  House house;
  house.replaced = [](const rules::Notification&) {
    return logbell::sinks::Outcome::retry(logbell::sinks::Reason::kServerError, "503");
  };
  house.sinks = "  spare: {file: {path: '" + house.path("spare.jsonl") + "'}, audience: machine}\n";
  house.write("app.log", "ERROR boom\nERROR boom\nERROR boom\n");
  house.start();
  house.tend_until([&] {
    return house.shows(
        "logbell_notifications_total{outcome=\"retry\",reason=\"server_error\",sink=\"out\"} 1");
  });
  house.replaced = nullptr;
  const std::string rules_text = house.rules_text;
  house.rules_text = "rules:\n  - {alert: Boom, expr: 'count_over_time(boom[1h]) >= 3', sinks: [spare]}\n";
  const auto changed = house.load_without_out(2);
  {
    const MutexLock lock(house.mutex);
    house.woken = false;
  }
  house.runtime->reload(changed);
  // The core has forgotten it, and the main thread has not looked since.
  for (bool known = false; !known;) {
    const MutexLock lock(house.mutex);
    if (!house.woken) house.changed.wait_for(house.mutex, std::chrono::milliseconds(20));
    known = house.woken && house.runtime->reload_done();
  }
  house.rules_text = rules_text;
  house.runtime->reload(house.load(3));
  CHECK(house.shows("logbell_notifications_dropped_total{reason=\"no_lane\"} 1"));
  house.tend_until([&] { return !house.told().empty(); });
  CHECK(house.stop());
  const auto told = house.told();
  CAPTURE(told);
  CHECK(told.size() == 1);
}

TEST_CASE("runtime: a sink that is removed while it asks for patience and comes back hears nothing of what waited",
          "[run][runtime][F35]") {
  House house;
  std::atomic<int> asked{0};
  house.replaced = [&](const rules::Notification&) {
    return ++asked > 1 ? logbell::sinks::Outcome::delivered("yes")
                       : logbell::sinks::Outcome::retry(logbell::sinks::Reason::kRateLimited, "429",
                                                        std::chrono::seconds(20));
  };
  house.sinks = "  spare: {file: {path: '" + house.path("spare.jsonl") + "'}, audience: machine}\n";
  house.write("app.log", "ERROR boom\nERROR boom\nERROR boom\n");
  house.start();
  house.tend_until([&] {
    return house.shows(
        "logbell_notifications_total{outcome=\"retry\",reason=\"rate_limited\",sink=\"out\"} 1");
  });
  house.replaced = nullptr;
  const std::string rules_text = house.rules_text;
  house.rules_text = "rules:\n  - {alert: Boom, expr: 'count_over_time(boom[1h]) >= 3', sinks: [spare]}\n";
  const auto changed = house.load_without_out(2);
  house.runtime->reload(changed);
  // Its lane is retired, and would try once more when that time is over.
  house.tend_until([&] { return house.runtime->reload_done(); });
  house.runtime->tend();
  CHECK(house.told().empty());
  house.rules_text = rules_text;
  house.runtime->reload(house.load(3));
  CHECK(house.shows("logbell_notifications_dropped_total{reason=\"no_lane\"} 1"));
  house.tend_until([&] { return !house.told().empty(); });
  CHECK(house.stop());
  CHECK(house.told().size() == 1);
  CHECK(asked == 1);
}

TEST_CASE("runtime: what leaves while nothing can be written down keeps its order over a reload",
          "[run][runtime][F35]") {
  House house;
  FakeClock clock;
  Writer::Options writing;
  writing.clock = &clock;
  writing.log = &house.log;
  writing.metrics = house.metrics.get();
  writing.commit = [](const Commit&) -> rules::Result<std::vector<Delivery>> {
    return rules::fail(rules::ErrorCode::kIo, "no space left on device");
  };
  writing.broken = [] { return false; };
  writing.deliver = [](const Delivery&) { return true; };
  writing.on_broken = [] {};
  Writer* stepped = nullptr;
  writing.step_instead = [&] { stepped->step(); };
  Writer writer(std::move(writing));
  stepped = &writer;

  logbell::tests::FakeSink::Script script;
  script.clock = &clock;
  const auto setting = [&] {
    Lane::Setting made;
    made.sink = std::make_unique<logbell::tests::FakeSink>(script);
    return made;
  };
  Lane::Options options;
  options.sink = options.lane = "out";
  options.clock = &clock;
  options.log = &house.log;
  options.metrics = house.metrics.get();
  options.writer = &writer;
  options.health = [](const SinkHealth&) {};
  Lane lane(std::move(options), setting());
  script.next = {logbell::sinks::Outcome::retry(logbell::sinks::Reason::kServerError, "503")};
  DeliveryId last = 0;
  for (const char* key : {"firing", "resolve"}) {
    Delivery delivery;
    delivery.id = --last;
    delivery.notification.key = key;
    delivery.notification.sink = delivery.notification.lane = "out";
    delivery.notification.group_key = "g";
    delivery.notification.created_at = clock.now();
    lane.add(delivery);
  }
  lane.step();
  lane.replace(setting());
  lane.step();
  lane.step();
  CHECK(script.keys() == std::vector<std::string>{"firing", "firing", "resolve"});
  // The store has the row of this one still, and cannot write down that it was delivered.
  Delivery durable;
  durable.id = 7;
  durable.notification.key = "durable";
  durable.notification.sink = durable.notification.lane = "out";
  lane.add(durable);
  lane.step();
  lane.replace(setting());
  lane.step();
  lane.step();
  CHECK(script.keys() == std::vector<std::string>{"firing", "firing", "resolve", "durable"});
  CHECK(lane.view().pending == 0);
}

TEST_CASE("runtime: a notification from before whose sink is gone is given up at the start",
          "[run][runtime]") {
  House house;
  {
    auto opened = Store::open(house.directory, house.clock.now());
    REQUIRE(opened);
    Commit commit;
    rules::Notification notification;
    notification.key = "k";
    notification.sink = notification.lane = "gone";
    commit.notifications.push_back(notification);
    REQUIRE(opened->store->commit(commit));
  }
  house.start();
  CHECK(house.shows("logbell_notifications_dropped_total{reason=\"no_lane\"} 1"));
  CHECK(house.stop());
  house.runtime.reset();
  auto opened = Store::open(house.directory, house.clock.now());
  REQUIRE(opened);
  CHECK(opened->store->undelivered()->empty());
}

TEST_CASE("runtime: what was not sent before is sent after a restart", "[run][runtime]") {
  House house;
  house.replaced = [](const rules::Notification&) {
    return logbell::sinks::Outcome::retry(logbell::sinks::Reason::kConnect, "refused");
  };
  house.write("app.log", "ERROR boom\nERROR boom\nERROR boom\n");
  house.start();
  CHECK(house.stop());
  house.replaced = nullptr;
  house.start();
  house.tend_until([&] { return house.told().size() == 1; });
  CHECK(house.stop());
  CHECK(house.told().size() == 1);
}

TEST_CASE("runtime: the fallback that heard of a firing hears its end from the next process too",
          "[run][runtime][F40]") {
  House house;
  const std::string route = "route: {sinks: [out], group_interval: 1s}\n";
  house.rules_text.insert(0, "\n" + route);
  house.out_more = ", fallback: [spare]";
  house.sinks = "  spare: {file: {path: '" + house.path("spare.jsonl") + "'}, audience: machine}\n";
  house.replaced = [](const rules::Notification&) {
    return logbell::sinks::Outcome::rejected(logbell::sinks::Reason::kAuth, "403 invalid_token", true);
  };
  house.write("app.log", "ERROR boom\nERROR boom\nERROR boom\n");
  house.start();
  house.tend_until([&] { return house.told("spare.jsonl").size() == 2; });  // and SinkDead
  CHECK(house.stop());
  house.replaced = nullptr;
  house.rules_text =
      route + "rules:\n  - {alert: Other, expr: 'count_over_time(boom[1h]) >= 30', sinks: [out]}\n";
  house.start();
  const auto resolved = [&](const std::string& name) {
    for (const std::string& line : house.told(name)) {
      if (line.find("Boom") != std::string::npos && line.find("rule removed") != std::string::npos)
        return true;
    }
    return false;
  };
  house.tend_until([&] { return resolved("out.jsonl") && resolved("spare.jsonl"); });
  CHECK(house.stop());
  house.runtime.reset();
  auto opened = Store::open(house.directory, house.clock.now());
  REQUIRE(opened);
  CHECK(opened->store->entries(Lane::kElsewherePrefix)->empty());
}

TEST_CASE("runtime: what a start has found of its sinks is told, and so is what a reload finds",
          "[run][runtime][F52]") {
  House house;
  house.sinks = "  spare: {file: {path: '" + house.path("spare.jsonl") + "'}, audience: machine}\n";
  house.rules_text.insert(0, "\nroute: {sinks: [out, spare], group_interval: 1s}\n");
  house.replaced = [](const rules::Notification&) { return logbell::sinks::Outcome::delivered("yes"); };
  house.verify = [] { return asked_dead(); };
  house.start();
  const auto degraded = [&] {
    std::string all;
    for (const std::string& line : house.runtime->health().degraded)
      all += line + "\n";
    return all;
  };
  CHECK(degraded().find("sink out is dead, no message would arrive: hello -> HTTP 404: no_service") !=
        std::string::npos);
  // The spare one is a machine's.
  CHECK(degraded().find("rule Boom reaches nobody: its sinks are dead\n") != std::string::npos);
  house.tend_until([&] { return house.told("spare.jsonl").size() == 1; });
  CHECK(house.told("spare.jsonl")[0].find("SinkDead") != std::string::npos);
  CHECK(house.shows(R"(logbell_sink_verifications_total{sink="out",verdict="dead"} 1)"));
  CHECK(house.shows(R"(logbell_sink_verifications_total{sink="out",verdict="live"} 0)"));
  const std::string page = house.metrics->render(
      {.streams = {}, .lanes = {}, .now = house.clock.now(), .verdicts = house.runtime->verdicts()},
      ProcessUse{});
  CHECK(page.find("\nlogbell_sink_verdict{sink=\"out\",verdict=\"dead\"} 1\n") != std::string::npos);
  CHECK(page.find("\nlogbell_sink_verdict{sink=\"spare\",verdict=\"live\"} 1\n") != std::string::npos);
  CHECK(page.find("logbell_sink_verified_timestamp_seconds{sink=\"out\"}") == std::string::npos);

  house.verify = [] { return asked_live(); };
  const std::shared_ptr<const Config> mended = house.load(2);
  house.runtime->reload(mended, verify_sinks(*mended, house.clock, ""));
  house.tend_until([&] { return house.told("spare.jsonl").size() == 2; });
  CHECK(house.told("spare.jsonl")[1].find("resolved") != std::string::npos);
  CHECK(degraded().find("is dead") == std::string::npos);
  CHECK(degraded().find("reaches nobody") == std::string::npos);
  CHECK(house.stop());
}

TEST_CASE("runtime: what waits for long at a sink that is not dead is told", "[run][runtime]") {
  const rules::Timestamp now = CoreWorld::at(0);
  const auto lane = [&](const char* sink, const char* name, SinkState state,
                        std::optional<rules::Duration> age) {
    LaneView view;
    view.sink = sink;
    view.lane = name;
    view.state = state;
    view.pending = age ? 3 : 0;
    if (age) view.oldest = now - *age;
    view.last_error = "server_error: HTTP 503";
    return view;
  };
  std::vector<std::string> active;
  for (const Condition& condition : delays_of(
           {lane("well", "well", SinkState::kAlive, {}), lane("new", "new", SinkState::kFailing, 5min - 1ms),
            lane("late", "late#1", SinkState::kFailing, 5min), lane("late", "late#2", SinkState::kAlive, {}),
            lane("dead", "dead", SinkState::kDead, 1h)},
           now)) {
    CHECK(condition.alertname == "DeliveryDelayed");
    if (condition.active) active.push_back(condition.summary);
  }
  CHECK(active ==
        Lines{"Notifications wait at sink late#1 (3 of them), the oldest since 2026-05-01T07:55:00Z: "
              "server_error: HTTP 503."});
}

TEST_CASE("runtime: a reload that was refused is an alert until one is accepted, or a start",
          "[run][runtime][F35]") {
  House house;
  house.rules_text.insert(0, "\nroute: {sinks: [out], group_interval: 1s}\n");
  house.start();
  Condition failed = reload_succeeded();
  failed.active = true;
  failed.summary = "line 3 is wrong";
  house.runtime->refused();
  house.runtime->tell(failed);
  const auto count = [&] {
    const auto told = house.told();
    return std::count_if(told.begin(), told.end(), [](const std::string& line) {
      return line.find("ConfigReloadFailed") != std::string::npos;
    });
  };
  house.tend_until([&] { return count() == 1; });
  CHECK(house.told().back().find("line 3 is wrong") != std::string::npos);
  SECTION("reload") {
    house.runtime->reload(house.load(2));
  }
  SECTION("start") {
    REQUIRE(house.stop());
    house.start();
  }
  house.tend_until([&] { return count() == 2; });
  CHECK(house.told().back().find("\"status\":\"resolved\"") != std::string::npos);
  CHECK(house.stop());
}

TEST_CASE("runtime: a drill goes the whole way, and nothing real moves", "[run][runtime][F53]") {
  House house;
  house.start();
  house.write("app.log", "ERROR boom 1\nERROR boom 2\n");
  house.tend_until([&] { return house.shows("logbell_source_lines_total{source=\"app\"} 2"); });
  const auto begun = house.runtime->drills().begin(*house.runtime->config()->plan, {});
  REQUIRE(begun);
  house.tend_until([&] { return house.shows(R"(logbell_drills_total{outcome="proven"} 1)"); });
  REQUIRE(house.told().size() == 1);
  CHECK(house.told()[0].find(R"("reason":"drill")") != std::string::npos);
  CHECK(house.told()[0].find(begun->id) != std::string::npos);
  CHECK(house.shows("logbell_pattern_matches_total{pattern=\"boom\"} 2"));
  CHECK(house.shows("logbell_source_lines_total{source=\"app\"} 2"));
  CHECK_FALSE(house.shows(R"(logbell_notifications_total{outcome="delivered",reason="ok",sink="out"} 1)"));
  const auto core = house.runtime->core_view();  // held while it is looked at
  for (const AlertView& view : core->alerts)
    CHECK(view.alert.state == rules::AlertState::kInactive);
  std::vector<ProofView> proofs = house.runtime->proofs();
  REQUIRE(proofs.size() == 1);
  CHECK(proofs[0].reached() == logbell::sinks::ProofLevel::kAccepted);
  // The third line rings, alone: the drill was none.
  house.write("app.log", "ERROR boom 3\n");
  CHECK(house.stop());
  REQUIRE(house.told().size() == 2);
  CHECK(house.told()[1].find("first_firing") != std::string::npos);
  // What was proven is known to the next process.
  house.start();
  proofs = house.runtime->proofs();
  REQUIRE(proofs.size() == 1);
  CHECK(proofs[0].reached() == logbell::sinks::ProofLevel::kAccepted);
  CHECK(house.stop());
}

TEST_CASE("runtime: a drill that does not arrive is an alert elsewhere, until one does",
          "[run][runtime][F53]") {
  House house;
  house.sinks = "  spare: {file: {path: '" + house.path("spare.jsonl") + "'}, audience: machine}\n";
  house.rules_text.insert(0, "\nroute: {sinks: [out, spare], group_interval: 1s}\n");
  std::atomic<bool> works{false};
  house.replaced = [&](const rules::Notification& /*notification*/) {
    return works ? logbell::sinks::Outcome::delivered("yes")
                 : logbell::sinks::Outcome::rejected(logbell::sinks::Reason::kGone, "404 no_service", true);
  };
  house.start();
  REQUIRE(house.runtime->drills().begin(*house.runtime->config()->plan, {}));
  const auto told = [&](const std::string& what) {
    for (const std::string& line : house.told("spare.jsonl")) {
      if (line.find("DrillFailed") != std::string::npos && line.find(what) != std::string::npos) return true;
    }
    return false;
  };
  house.tend_until([&] { return told("A drill of Boom did not arrive at sink out: gone: 404 no_service"); });
  CHECK(house.shows(R"(logbell_drills_total{outcome="failed"} 1)"));
  works = true;
  REQUIRE(house.runtime->drills().begin(*house.runtime->config()->plan, {}));
  house.tend_until([&] { return told("\"status\":\"resolved\""); });
  CHECK(house.stop());
}

TEST_CASE("runtime: a sink that hangs keeps a stop no longer than its grace", "[run][runtime][F42][F49]") {
  House house;
  Gate gate;
  house.replaced = [&](const rules::Notification&) {
    gate.pass();
    return logbell::sinks::Outcome::delivered("late");
  };
  house.write("app.log", "ERROR boom\nERROR boom\nERROR boom\n");
  house.start();
  gate.wait_for_somebody();
  const rules::Instant began = house.clock.instant();
  CHECK_FALSE(house.stop(500ms));  // the process would end here, without destructors
  CHECK(house.clock.instant() - began < 5s);
  gate.open();
  house.runtime.reset();
  // The row is still there: it may have been sent.
  auto opened = Store::open(house.directory, house.clock.now());
  REQUIRE(opened);
  REQUIRE(opened->store->undelivered()->size() == 1);
  CHECK(opened->store->undelivered()->front().maybe_sent);
}

TEST_CASE("runtime: F49 a stop tells the fallback what the sink does not take, and ends with what is left",
          "[run][runtime][F49]") {
  House house;
  house.out_more = ", fallback: [spare]";
  house.sinks = "  spare: {file: {path: '" + house.path("spare.jsonl") + "'}, audience: machine}\n";
  std::atomic<bool> works = false;
  std::atomic<int> tried = 0;
  house.replaced = [&](const rules::Notification&) {
    ++tried;
    if (works) return logbell::sinks::Outcome::delivered("ok");
    return logbell::sinks::Outcome::retry(logbell::sinks::Reason::kServerError, "503");
  };
  house.start();
  house.write("app.log", "ERROR boom\nERROR boom\nERROR boom\n");
  const rules::Instant began = house.clock.instant();
  CHECK(house.stop(20s));
  CHECK(house.clock.instant() - began < 10s);
  REQUIRE(house.told("spare.jsonl").size() == 1);
  CHECK(house.told("spare.jsonl")[0].find("Boom") != std::string::npos);
  {
    const MutexLock lock(house.lines_mutex);
    const std::string last = house.lines.back();
    CHECK(last.find("level=warn") != std::string::npos);
    CHECK(last.find("undelivered=1 untold=0 sinks=out alerts=Boom") != std::string::npos);
  }
  // With its state it goes on where it was: the sink itself is still owed it, the fallback nothing.
  works = true;
  const int before = tried;
  house.start();
  CHECK(house.stop());
  CHECK(tried == before + 1);
  CHECK(house.told("spare.jsonl").size() == 1);
  const MutexLock lock(house.lines_mutex);
  CHECK(house.lines.back().find("level=info") != std::string::npos);
}

TEST_CASE("runtime: F49 a stop does not wait for a sink that hangs to tell its fallback",
          "[run][runtime][F42][F49]") {
  House house;
  house.out_more = ", fallback: [spare]";
  house.sinks = "  spare: {file: {path: '" + house.path("spare.jsonl") + "'}, audience: machine}\n";
  Gate gate;
  house.replaced = [&](const rules::Notification&) {
    gate.pass();
    return logbell::sinks::Outcome::delivered("late");
  };
  house.write("app.log", "ERROR boom\nERROR boom\nERROR boom\n");
  house.start();
  gate.wait_for_somebody();
  const rules::Instant began = house.clock.instant();
  CHECK_FALSE(house.stop(2s));  // the process would end here, without destructors
  CHECK(house.clock.instant() - began < 6s);
  CHECK(house.told("spare.jsonl").size() == 1);
  {
    const MutexLock lock(house.lines_mutex);
    CHECK(house.lines.back().find("level=warn") != std::string::npos);
    CHECK(house.lines.back().find("untold=0 sinks=out alerts=Boom") != std::string::npos);
  }
  gate.open();
  house.runtime.reset();
  CHECK(house.told("spare.jsonl").size() == 1);
}

TEST_CASE("runtime: F49 what a stop leaves behind is counted by who has heard of it", "[run][runtime][F49]") {
  const auto row = [](const std::string& lane, const std::string& alertname, int priority = 0) {
    Delivery delivery;
    delivery.notification.lane = lane;
    delivery.notification.priority = static_cast<std::uint8_t>(priority);
    rules::Alert alert;
    alert.labels = {{"alertname", alertname}};
    delivery.notification.alerts = {alert};
    return delivery;
  };
  Delivery told = row("ops", "Told");
  told.elsewhere = "spare";
  Delivery drill = row("ops", "Drilled");
  drill.notification.drill = "d1";
  const LeftBehind left =
      left_behind({told, row("ops", "Boom"), row("mail", "Boom", 1), row("ops", "Again", 2), drill});
  CHECK(left.undelivered == 3);
  CHECK(left.untold == 2);
  CHECK(left.lanes == Lines{"ops", "mail"});
  CHECK(left.alerts == Lines{"Boom"});
  CHECK(left_behind({told}).alerts == Lines{"Told"});
  CHECK(left_behind({row("ops", "Again", 2)}).undelivered == 0);
}

TEST_CASE("runtime: state that vanished is told of", "[run][runtime][F38]") {
  House house;
  house.start();
  CHECK(house.stop());
  house.runtime.reset();
  CHECK(std::filesystem::remove(house.path("logbell/state.db")));
  house.start();
  house.tend_until(
      [&] { return house.shows("logbell_alerts{alertname=\"StateLost\",alertstate=\"firing\"} 1"); });
  CHECK(house.shows("logbell_state_lost_total 1"));
  CHECK(house.stop());
}

TEST_CASE("runtime: state that is deleted while it runs is told of, and nothing is told twice",
          "[run][runtime][F17]") {
  House house;
  house.write("app.log", "ERROR boom\nERROR boom\nERROR boom\n");
  const auto told_of = [&](const std::string& alert) {
    const Lines told = house.told();
    return std::count_if(told.begin(), told.end(),
                         [&](const std::string& line) { return line.find(alert) != std::string::npos; });
  };
  house.start();
  house.tend_until([&] { return told_of("Boom") == 1; });
  std::filesystem::remove_all(house.path("logbell"));
  house.write("app.log", "ERROR boom\n");
  house.tend_until(
      [&] { return house.shows("logbell_alerts{alertname=\"StateLost\",alertstate=\"firing\"} 1"); });
  house.tend_until([&] { return house.shows("logbell_pattern_matches_total{pattern=\"boom\"} 4"); });
  CHECK(house.shows("logbell_state_lost_total 1"));
  const std::vector<std::string> degraded = house.runtime->health().degraded;
  CHECK(std::any_of(degraded.begin(), degraded.end(), [](const std::string& why) {
    return why.find("was deleted or replaced while it ran") != std::string::npos;
  }));
  CHECK_FALSE(house.runtime->finished());
  CHECK(house.stop());

  // The next process knows who was told, and that it happened.
  house.write("app.log", "ERROR boom\n");
  house.start();
  house.tend_until([&] { return house.shows("logbell_pattern_matches_total{pattern=\"boom\"} 5"); });
  const std::shared_ptr<const CoreView> view = house.runtime->core_view();
  CHECK(std::any_of(view->alerts.begin(), view->alerts.end(), [](const AlertView& one) {
    return one.alert.name() == "StateLost" &&
           one.alert.annotation("summary").find("while it ran") != std::string_view::npos;
  }));
  CHECK(house.shows("logbell_state_lost_total 0"));
  CHECK(house.stop());
  CHECK(told_of("Boom") == 1);
}

TEST_CASE("runtime: whose state directory another instance has taken ends", "[run][runtime][F17][F38]") {
  House house;
  house.start();
  house.tend_until([&] { return house.runtime->health().ready; });
  std::filesystem::remove_all(house.path("logbell"));
  House other;
  other.directory.swap(house.directory);  // the same state_dir
  auto second = other.begin();
  other.directory.swap(house.directory);
  REQUIRE(second);
  house.write("app.log", "ERROR boom\n");
  house.tend_until([&] { return house.runtime->finished().has_value(); });
  CHECK(*house.runtime->finished() == 74);
  house.stop();
  CHECK_FALSE((*second)->finished());
  CHECK((*second)->stop(10s));
}

TEST_CASE("runtime: why it cannot start is a code of its own", "[run][runtime][F38]") {
  House house;
  house.start();
  House other;
  other.directory.swap(house.directory);  // the same state_dir
  const auto second = other.begin();
  other.directory.swap(house.directory);
  REQUIRE_FALSE(second);
  CHECK(second.error().exit_status == 75);

  House third;
  third.listen = house.front.address();
  const auto taken = third.begin();
  REQUIRE_FALSE(taken);
  CHECK(taken.error().exit_status == 74);
  CHECK(house.stop());
}

TEST_CASE("runtime: health says that the loops get on, readiness what is degraded", "[run][runtime]") {
  House house;
  house.replaced = [](const rules::Notification&) {
    return logbell::sinks::Outcome::rejected(logbell::sinks::Reason::kGone, "404 no_service", true);
  };
  house.write("app.log", "ERROR boom\nERROR boom\nERROR boom\n");
  house.start();
  house.tend_until([&] {
    const Health health = house.runtime->health();
    return health.ready && !health.degraded.empty();
  });
  CHECK(house.runtime->health().stalled.empty());
  CHECK(house.runtime->health().degraded.front().find("404 no_service") != std::string::npos);
  CHECK(house.stop());
}

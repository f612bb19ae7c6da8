// F47: an hour in which no sink takes anything while alerts fire and end. The core, the store and the lanes
// are the real ones; the clock and the sinks are not. Each run has a thousand transitions; LOGBELL_OUTAGE=50
// has the catalogue's ten thousand (two minutes where nothing is optimised), and prints how they drain.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <catch2/catch.hpp>
#include <fmt/format.h>

#include "engine/io/store.h"
#include "engine/run/send_loop.h"
#include "tests/support/core_world.h"
#include "tests/support/fake_clock.h"
#include "tests/support/fake_sink.h"

namespace logbell::engine {
namespace {

using namespace std::chrono_literals;
using rules::Duration;
using rules::Instant;
using rules::Notification;
using rules::NotifyReason;
using sinks::Outcome;
using tests::CoreWorld;
using tests::FakeSink;

class TempDir {
 public:
  TempDir() {
    std::string name = (std::filesystem::temp_directory_path() / "logbell-outage-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// What the runtime's lane and writer do, without their threads.
class LaneLog final : public DeliveryLog {
 public:
  explicit LaneLog(Store& store) : store_(store) {}
  bool begin(const std::vector<DeliveryId>& ids) override {
    Commit commit;
    commit.in_flight = ids;
    return store_.commit(commit).has_value();
  }
  void settle(const std::vector<Settled>& settled) override {
    Commit commit;
    for (const Settled& one : settled) {
      commit.settlements.push_back(one.settlement);
      if (one.settlement.state == DeliveryState::kDelivered) ++delivered[one.notification->key];
      if (one.settlement.state == DeliveryState::kDead) ++given_up;
    }
    REQUIRE(store_.commit(commit));
  }
  void told_elsewhere(const std::string& /*alert*/, bool /*of_firing*/) override {}
  void sink_dead(const std::string& /*sink*/, const std::string& /*lane*/,
                 const std::string& /*why*/) override {}
  void sink_alive(const std::string& /*sink*/, const std::string& /*lane*/) override {}

  std::map<std::string, std::size_t> delivered;
  std::size_t given_up = 0;

 private:
  Store& store_;
};

struct Lane {
  Lane(Store& store, const tests::FakeClock& clock, const rules::SinkSpec& spec, Duration min_interval)
      : log(store), per_alert(spec.per_alert), refreshes(spec.refresh.has_value()) {
    script.clock = &clock;
    SendLoop::Options options;
    options.sink = options.lane = spec.name;
    options.min_interval = min_interval;
    options.per_minute = spec.messages_per_minute;
    options.clock = &clock;
    options.log = &log;
    loop = std::make_unique<SendLoop>(std::make_unique<FakeSink>(script), options);
  }
  // Whatever can be done at this moment. Returns when to step again.
  std::optional<Instant> now(const tests::FakeClock& clock) {
    for (;;) {
      const std::optional<Instant> next = loop->step();
      if (!next || *next > clock.instant()) return next;
    }
  }
  FakeSink::Script script;
  LaneLog log;
  bool per_alert = false;
  bool refreshes = false;
  std::unique_ptr<SendLoop> loop;
};

}  // namespace

TEST_CASE("outage: F47 what fires and ends while no sink takes anything is neither lost nor told twice",
          "[run][outage][F47]") {
  constexpr int kQueues = 100;
  const char* const wanted = std::getenv("LOGBELL_OUTAGE");
  const int episodes = wanted != nullptr ? std::stoi(wanted) : 5;  // of each queue, two transitions each
  CoreWorld world;
  world.pattern("bad", {"queue"}).pattern("odd", {"queue"});
  world.rule("Bad", "sum by (queue) (count_over_time(bad[30s])) >= 1", {}, "critical");
  world.rule("Odd", "sum by (queue) (count_over_time(odd[30s])) >= 1", {}, "warning");
  world.route({"chat", "hook", "mail", "pager", "peer"}).options.group_by = {"alertname", "queue"};
  const TempDir dir;
  tests::FakeClock clock(CoreWorld::at(0));
  auto opened = Store::open(dir.path(), clock.now(), Duration(0));
  REQUIRE(opened);
  Store& store = *opened->store;
  std::map<std::string, std::unique_ptr<Lane>> lanes;
  const auto sink = [&](const std::string& name, std::uint32_t per_minute, Duration min_interval,
                        bool per_alert, std::optional<Duration> refresh = {}) {
    rules::SinkSpec& spec = world.sink(name);
    spec.messages_per_minute = per_minute;
    spec.per_alert = per_alert;
    spec.refresh = refresh;
    lanes[name] = std::make_unique<Lane>(store, clock, spec, min_interval);
  };
  // As sinks/registry.cc has them.
  sink("chat", 20, 1s, false);
  sink("hook", 0, 0s, false);
  sink("mail", 20, 0s, false);
  sink("pager", 0, 500ms, true);
  sink("peer", 0, 0s, true, 60s);
  world.start();

  std::size_t transitions = 0;
  std::map<std::string, std::set<std::string>> owed;  // by lane: what nobody may lose
  const auto work = [&](std::int64_t second) {
    const engine::Tick tick = world.tick(second * 1000);
    for (const rules::Transition& transition : tick.transitions) {
      const bool fires = transition.to == rules::AlertState::kFiring;
      transitions += fires || transition.from == rules::AlertState::kFiring ? 1 : 0;
    }
    Commit commit;
    commit.entries = {};
    commit.notifications = tick.notifications;
    const auto added = store.commit(commit);
    REQUIRE(added);
    for (const Delivery& delivery : *added) {
      const Notification& notification = delivery.notification;
      const bool repeats =
          notification.reason == NotifyReason::kRefresh || notification.reason == NotifyReason::kRepeat;
      if (!repeats) owed[notification.lane].insert(notification.key);
      lanes.at(notification.lane)->loop->add(delivery);
    }
    for (auto& [name, lane] : lanes)
      lane->now(clock);
  };

  for (auto& [name, lane] : lanes)
    lane->script.always = Outcome::retry(sinks::Reason::kServerError, "503");
  const int seconds = 3600;
  for (int second = 1; second <= seconds; ++second) {
    clock.advance(1s);
    for (int queue = 0; queue < kQueues; ++queue) {
      // Each fires for half a minute, in a turn of its own.
      if ((second + queue * 7) % (seconds / episodes) != 0) continue;
      world.match(queue % 2 == 0 ? "bad" : "odd", second * 1000, {fmt::format("q{}", queue)});
    }
    work(second);
  }
  REQUIRE(transitions >= static_cast<std::size_t>(2 * kQueues * episodes) * 98 / 100);
  for (const auto& [name, lane] : lanes) {
    CHECK(lane->log.delivered.empty());
    CHECK(lane->loop->view().pending >= owed.at(name).size());
    lane->script.sent.clear();
    lane->script.always = Outcome::delivered("receipt");
  }

  const Instant repaired = clock.instant();
  int second = seconds;
  const auto all_idle = [&] {
    return std::all_of(lanes.begin(), lanes.end(),
                       [](const auto& lane) { return lane.second->loop->idle(); });
  };
  std::map<std::string, Duration> drained;
  while (!all_idle()) {
    REQUIRE(clock.instant() < repaired + 8h);
    clock.advance(1s);
    work(++second);
    for (const auto& [name, lane] : lanes) {
      if (lane->loop->idle() && drained.count(name) == 0)
        drained[name] = std::chrono::ceil<Duration>(clock.instant() - repaired);
    }
  }
  CHECK(store.undelivered()->empty());
  for (const auto& [name, lane] : lanes) {
    INFO(name);
    CHECK(lane->log.given_up == 0);
    std::size_t lost = 0;
    for (const std::string& key : owed.at(name))
      lost += lane->log.delivered.count(key) == 0 ? 1 : 0;
    CHECK(lost == 0);
    std::size_t twice = 0;
    for (const auto& [key, times] : lane->log.delivered)
      twice += times > 1 ? 1 : 0;
    CHECK(twice == 0);
    // What whoever reads it believes in the end: that all is over.
    std::map<std::string, bool> fires;
    std::size_t unknown_ends = 0;
    for (const FakeSink::Sent& sent : lane->script.sent) {
      std::vector<Notification> said = sent.spoke_for;
      if (said.empty()) said = {sent.notification};
      for (const Notification& one : said) {
        for (const rules::Alert& alert : one.alerts) {
          const std::string who = alert.labels.format();
          if (!alert.is_firing() && fires.count(who) == 0 && one.reason != NotifyReason::kRefresh)
            ++unknown_ends;
          fires[who] = alert.is_firing();
        }
      }
    }
    CHECK(unknown_ends == 0);
    CHECK(fires.size() == kQueues);
    CHECK(std::none_of(fires.begin(), fires.end(), [](const auto& one) { return one.second; }));

    // Within its limits, and what is critical first.
    const auto& sent = lane->script.sent;
    const std::uint32_t most = world.written.sinks.at(name).messages_per_minute;
    for (std::size_t i = 0; most > 0 && i + most < sent.size(); ++i)
      REQUIRE(sent[i + most].at >= sent[i].at + 1min);
    const Duration gap = name == "chat" ? 1s : name == "pager" ? 500ms : 0ms;
    for (std::size_t i = 0; i + 1 < sent.size(); ++i)
      REQUIRE(sent[i + 1].at >= sent[i].at + gap);
    const auto is_late = [&](const Notification& one) {
      return rules::to_unix_ms(one.created_at) <= rules::to_unix_ms(CoreWorld::at(seconds * 1000));
    };
    // The first is whoever's turn it was to probe. After it no late warning leaves before a late critical
    // one, and of the critical ones none before a newer one of another group.
    bool warned = false;
    std::size_t out_of_turn = 0;
    for (std::size_t i = 1; i < sent.size(); ++i) {
      std::vector<Notification> said = sent[i].spoke_for;
      if (said.empty()) said = {sent[i].notification};
      for (const Notification& one : said) {
        if (!is_late(one) || one.priority == 2) continue;
        warned = warned || one.priority == 1;
        out_of_turn += one.priority == 0 && warned ? 1 : 0;
      }
    }
    CHECK(out_of_turn == 0);
  }
  CHECK(lanes.at("chat")->script.sent.size() * 20 < owed.at("chat").size());
  if (wanted != nullptr) {
    std::printf("%zu transitions in an hour without a sink\n", transitions);
    for (const auto& [name, lane] : lanes)
      std::printf("%-6s %6zu notifications in %5zu messages, drained within %s\n", name.c_str(),
                  lane->log.delivered.size(), lane->script.sent.size(),
                  rules::format_duration(drained.count(name) != 0 ? drained.at(name) : Duration(0)).c_str());
  }
}

}  // namespace logbell::engine

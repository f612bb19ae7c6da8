// The send loop: what is sent when, and what becomes of it when the sink is slow, down, strict or gone.
#include "engine/run/send_loop.h"

#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <mutex>
#include <random>
#include <set>
#include <thread>
#include <utility>

#include <catch2/catch.hpp>
#include <fmt/format.h>
#include <malloc.h>

#include "sinks/http.h"
#include "sinks/message.h"
#include "tests/support/fake_clock.h"
#include "tests/support/fake_sink.h"

namespace logbell::engine {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using rules::Duration;
using rules::Instant;
using rules::Notification;
using rules::NotifyReason;
using rules::Timestamp;
using sinks::Outcome;
using sinks::Reason;
using tests::FakeClock;
using tests::FakeSink;
using Keys = std::vector<std::string>;

rules::Alert alert(bool firing, const std::string& group = "") {
  rules::Alert alert;
  alert.labels = {{"alertname", "Q"}};
  if (!group.empty()) alert.labels.set("group", group);
  alert.state = firing ? rules::AlertState::kFiring : rules::AlertState::kResolved;
  return alert;
}

// An alert of its own: the same in `firing` and `resolve` of one number.
Notification about(Notification notification, int number) {
  notification.alerts.front().labels.set("queue", fmt::format("q{}", number));
  return notification;
}

// What a row of the outbox becomes, as the store does it.
class MemoryLog final : public DeliveryLog {
 public:
  bool begin(const std::vector<DeliveryId>& ids) override {
    if (refuse) return false;
    begun.insert(begun.end(), ids.begin(), ids.end());
    return true;
  }
  void settle(const std::vector<Settled>& settled) override {
    largest = std::max(largest, settled.size());
    for (const Settled& one : settled) {
      // Not Catch's assertions: they belong to one thread, and one test has more.
      LOGBELL_CHECK(one.notification != nullptr);
      all.push_back({one.notification->key, one.settlement});
      if (one.begins) begun_anew.push_back(one.notification->key);
      if (!one.named) unnamed.push_back(one.notification->key);
      const auto row = rows.find(one.settlement.id);
      if (row == rows.end()) continue;
      LOGBELL_CHECK(row->second.notification.key == one.notification->key);
      row->second.state = one.settlement.state;
      row->second.attempts = one.settlement.attempts;
      row->second.not_before = one.settlement.not_before;
      row->second.maybe_sent = one.settlement.maybe_sent;
      if (!one.settlement.elsewhere.empty()) row->second.elsewhere = one.settlement.elsewhere;
    }
  }
  void sink_dead(const std::string& sink, const std::string& lane, const std::string& why) override {
    events.push_back(fmt::format("dead {} {} {}", sink, lane, why));
  }
  void told_elsewhere(const std::string& group, bool of_firing) override {
    if (of_firing) {
      elsewhere.insert(group);
    } else {
      elsewhere.erase(group);
    }
  }
  void sink_alive(const std::string& sink, const std::string& lane) override {
    events.push_back(fmt::format("alive {} {}", sink, lane));
  }

  // "key: outcome reason [-> fallback keys]", one for each settlement.
  Keys told() const {
    Keys lines;
    for (const auto& [key, settlement] : all) {
      std::string line = fmt::format("{}: {} {}", key, settlement.outcome, settlement.reason);
      for (const Notification& fallback : settlement.fallbacks)
        line += " -> " + fallback.key;
      lines.push_back(line);
    }
    return lines;
  }
  const Settlement& last() const { return all.back().second; }
  Notification fallback_of(const std::string& key) const {
    for (const auto& [settled, settlement] : all) {
      if (settled == key && !settlement.fallbacks.empty()) return settlement.fallbacks.front();
    }
    FAIL("no fallback for " << key);
    return {};
  }

  std::string first_receipt(const Notification& notification) override {
    if (!follows && followed.count(notification.key) == 0) return {};
    return "first of " + notification.group_key;
  }

  bool refuse = false;
  bool follows = false;            // every one follows a message
  std::set<std::string> followed;  // or these
  Keys begun_anew;
  Keys unnamed;
  std::size_t largest = 0;
  std::vector<DeliveryId> begun;
  std::vector<std::pair<std::string, Settlement>> all;
  Keys events;
  std::set<std::string> elsewhere;
  std::map<DeliveryId, Delivery> rows;
};

// One lane, its sink and its clock.
class OneLane {
 public:
  explicit OneLane(SendLoop::Options options = {}) : options_(std::move(options)) {
    script.clock = &clock;
    if (options_.sink.empty()) options_.sink = "ops";
    if (options_.lane.empty()) options_.lane = options_.sink;
    options_.clock = &clock;
    options_.log = &log;
    restart();
  }
  // The process died: another one finds the rows as they are.
  void restart(const std::optional<Fallbacks>& fallbacks = std::nullopt) {
    if (fallbacks) options_.fallbacks = *fallbacks;
    options_.told_elsewhere = log.elsewhere;
    loop = std::make_unique<SendLoop>(std::make_unique<FakeSink>(script), options_);
    for (const auto& [id, row] : log.rows) {
      if (row.state == DeliveryState::kPending) loop->add(row);
    }
  }

  // A reload: another loop takes over what waits.
  void reload(Fallbacks fallbacks) {
    options_.told_elsewhere = log.elsewhere;
    options_.fallbacks = std::move(fallbacks);
    auto next = std::make_unique<SendLoop>(std::make_unique<FakeSink>(script), options_);
    next->take_over(*loop);
    loop = std::move(next);
  }

  Notification firing(const std::string& key, const std::string& group = "", int priority = 1) const {
    Notification n;
    n.key = key;
    n.sink = options_.sink;
    n.lane = options_.lane;
    n.group_key = group.empty() ? "group of " + key : group;
    n.reason = NotifyReason::kFirstFiring;
    n.alerts = {alert(true, n.group_key)};
    n.priority = static_cast<std::uint8_t>(priority);
    n.created_at = clock.now();
    return n;
  }
  Notification resolve(const std::string& key, const std::string& group) const {
    Notification n = firing(key, group);
    n.reason = NotifyReason::kAllResolved;
    n.alerts = {alert(false, group)};
    return n;
  }
  DeliveryId add(const Notification& notification) {
    Delivery delivery;
    delivery.id = ++last_id_;
    delivery.notification = notification;
    log.rows[delivery.id] = delivery;
    loop->add(delivery);
    return delivery.id;
  }
  // Steps whenever the loop asks for it.
  void run(Duration duration) {
    const Instant end = clock.instant() + duration;
    for (int i = 0; i < 1'000'000; ++i) {
      const std::optional<Instant> next = loop->step();
      const Instant at = std::min(next.value_or(end), end);
      if (next && *next <= clock.instant()) continue;
      if (clock.instant() >= end) return;
      clock.advance(std::chrono::ceil<Duration>(at - clock.instant()));
    }
    FAIL("the loop does not come to rest");
  }
  // Until nothing can be done at this moment.
  void now() {
    for (int i = 0; i < 100'000; ++i) {
      const std::optional<Instant> next = loop->step();
      if (!next || *next > clock.instant()) return;
    }
    FAIL("the loop does not come to rest");
  }

  FakeClock clock;
  FakeSink::Script script;
  MemoryLog log;
  std::unique_ptr<SendLoop> loop;

 private:
  SendLoop::Options options_;
  DeliveryId last_id_ = 0;
};

SendLoop::Options with_fallbacks(std::vector<Fallback> list, const std::string& of = "ops") {
  SendLoop::Options options;
  options.fallbacks[of] = std::move(list);
  return options;
}

Outcome down() {
  return Outcome::retry(Reason::kServerError, "503 down for maintenance");
}
Outcome revoked() {
  return Outcome::rejected(Reason::kAuth, "403 invalid_token", true);
}
Outcome refused() {
  return Outcome::rejected(Reason::kBadRequest, "400 invalid_blocks", false);
}

}  // namespace

// --- order

TEST_CASE("send_loop: delivers, and settles with the receipt", "[run][send_loop]") {
  OneLane lane;
  CHECK(lane.loop->idle());
  CHECK_FALSE(lane.loop->step().has_value());
  const DeliveryId id = lane.add(lane.firing("a"));
  CHECK_FALSE(lane.loop->idle());
  CHECK_FALSE(lane.loop->step().has_value());
  CHECK(lane.script.keys() == Keys{"a"});
  CHECK(lane.log.begun == std::vector<DeliveryId>{id});
  const Settlement& settled = lane.log.last();
  CHECK(settled.id == id);
  CHECK(settled.state == DeliveryState::kDelivered);
  CHECK(settled.receipt == "receipt");
  CHECK(settled.outcome == "delivered");
  CHECK(settled.reason == "ok");
  CHECK(settled.attempts == 1);
  CHECK(settled.at == lane.clock.now());
  CHECK(lane.loop->idle());

  const sinks::Attempt& attempt = lane.script.sent[0].attempt;
  CHECK(attempt.number == 1);
  CHECK(attempt.now == lane.clock.now());
  CHECK_FALSE(attempt.maybe_sent);
  CHECK(attempt.timeout == SendLoop::kTimeout);
}

TEST_CASE("send_loop: a sink is told what its message follows, and says when that follows nothing",
          "[run][send_loop]") {
  OneLane lane;
  lane.log.follows = true;
  Outcome anew = Outcome::delivered("receipt");
  anew.begins = true;
  lane.script.next = {down(), anew};
  lane.add(lane.firing("a", "group"));
  lane.run(1min);
  lane.add(lane.resolve("b", "group"));
  lane.run(1min);
  CHECK(lane.script.keys() == Keys{"a", "a", "b"});
  for (const tests::FakeSink::Sent& sent : lane.script.sent)
    CHECK(sent.attempt.first_receipt == "first of group");
  CHECK(lane.log.begun_anew == Keys{"a"});
}

TEST_CASE("send_loop: the most urgent first, then the oldest", "[run][send_loop]") {
  OneLane lane;
  lane.add(lane.firing("repeat", "", 2));
  lane.add(lane.firing("old", "", 1));
  lane.add(lane.firing("young", "", 1));
  lane.add(lane.firing("critical", "", 0));
  lane.now();
  CHECK(lane.script.keys() == Keys{"critical", "old", "young", "repeat"});
}

TEST_CASE("send_loop: a group speaks in order, and who waits lends the first its urgency",
          "[run][send_loop]") {
  OneLane lane;
  lane.add(lane.firing("other", "h", 1));
  lane.add(lane.firing("repeat", "g", 2));
  lane.add(lane.firing("critical", "g", 0));
  lane.add(lane.firing("no group 1", "", 1));
  lane.now();
  CHECK(lane.script.keys() == Keys{"repeat", "critical", "other", "no group 1"});
}

TEST_CASE("send_loop: deliveries of no group wait for nobody", "[run][send_loop]") {
  OneLane lane;
  Notification first = lane.firing("first");
  Notification second = lane.firing("second", "", 0);
  first.group_key.clear();
  second.group_key.clear();
  lane.add(first);
  lane.add(second);
  lane.now();
  CHECK(lane.script.keys() == Keys{"second", "first"});
}

TEST_CASE("send_loop: a resolve never overtakes its firing", "[run][send_loop]") {
  OneLane lane;
  lane.add(lane.firing("firing", "g", 2));
  lane.add(lane.resolve("resolve", "g"));
  lane.script.next = {down(), down(), down()};
  lane.run(1h);
  CHECK(lane.script.keys() == Keys{"firing", "firing", "firing", "firing", "resolve"});
}

TEST_CASE("send_loop: a resolve never overtakes its firing, though a reload has grouped them otherwise",
          "[run][send_loop]") {
  OneLane lane;
  const auto of = [](Notification notification, const std::vector<int>& numbers) {
    const Notification one = notification;
    notification.alerts.clear();
    for (const int number : numbers)
      notification.alerts.push_back(about(one, number).alerts.front());
    for (rules::Alert& each : notification.alerts)
      each.labels.erase("group");
    return notification;
  };
  SECTION("each for itself, then together") {
    lane.add(of(lane.firing("1+", "g1", 2), {1}));
    lane.add(of(lane.firing("2+", "g2", 2), {2}));
    lane.add(of(lane.firing("3+", "g3", 2), {3}));
    lane.add(of(lane.resolve("1-2-", "g"), {1, 2}));
    lane.add(of(lane.firing("4+", "g4", 0), {4}));
    lane.now();
    // Whoever waits for a message lends it its urgency.
    CHECK(lane.script.keys() == Keys{"4+", "1+", "2+", "1-2-", "3+"});
  }
  SECTION("together, then each for itself") {
    lane.add(of(lane.firing("1+2+", "g", 2), {1, 2}));
    lane.add(of(lane.resolve("2-", "g2"), {2}));
    lane.add(of(lane.resolve("1-", "g1"), {1}));
    lane.script.next = {down(), down()};
    lane.run(1h);
    CHECK(lane.script.keys() == Keys{"1+2+", "1+2+", "1+2+", "2-", "1-"});
  }
  SECTION("in the order of the store after a restart, too") {
    lane.add(of(lane.firing("1+2+", "g", 2), {1, 2}));
    lane.add(of(lane.resolve("2-", "g2"), {2}));
    lane.restart();
    lane.now();
    CHECK(lane.script.keys() == Keys{"1+2+", "2-"});
  }
  SECTION("a refresh, which speaks of all, makes nobody wait") {
    Notification refresh = of(lane.firing("refresh", "refresh", 2), {1, 2});
    refresh.reason = NotifyReason::kRefresh;
    lane.add(refresh);
    lane.add(of(lane.firing("1+", "g1", 0), {1}));
    lane.add(of(lane.firing("3+", "g3", 1), {3}));
    lane.now();
    CHECK(lane.script.keys() == Keys{"1+", "3+", "refresh"});
  }
  SECTION("what waits for nobody any more goes its own way again") {
    lane.add(of(lane.firing("1+2+", "g", 2), {1, 2}));
    lane.add(of(lane.resolve("2-", "g2"), {2}));
    lane.now();
    lane.add(of(lane.firing("1 again", "g1", 2), {1}));
    lane.add(of(lane.firing("2 again", "g2", 0), {2}));
    lane.now();
    CHECK(lane.script.keys() == Keys{"1+2+", "2-", "2 again", "1 again"});
  }
}

TEST_CASE("send_loop: an older one that is refused holds up nobody", "[run][send_loop]") {
  OneLane lane;
  lane.add(lane.firing("before"));
  lane.add(lane.firing("firing", "g"));
  lane.add(lane.resolve("resolve", "g"));
  lane.script.next = {Outcome::delivered("ok"), refused()};
  lane.now();
  CHECK(lane.log.told() ==
        Keys{"before: delivered ok", "firing: rejected bad_request", "resolve: delivered ok"});
  CHECK(lane.log.rows[2].state == DeliveryState::kDead);
}

TEST_CASE("send_loop: a newer repeat takes the place of an unsent one", "[run][send_loop]") {
  OneLane lane;
  Notification repeat = lane.firing("repeat 1", "g", 2);
  repeat.replaces = "repeat of g";
  Notification newer = repeat;
  newer.key = "repeat 2";
  lane.script.next = {down()};
  lane.add(repeat);
  lane.now();
  lane.add(newer);
  lane.run(1min);
  CHECK(lane.script.keys() == Keys{"repeat 1", "repeat 2"});
  CHECK(lane.loop->view().superseded == 1);
  CHECK(lane.log.told() == Keys{"repeat 1: retry server_error", "repeat 2: delivered ok"});
}

TEST_CASE("send_loop: a refresh that waited does not take back what was told meanwhile",
          "[run][send_loop][F43]") {
  OneLane lane;
  const auto of = [&](Notification n, const std::string& queue) {
    for (rules::Alert& alert : n.alerts)
      alert.labels = {{"alertname", "Q"}, {"queue", queue}};
    return n;
  };
  const auto refresh = [&](const std::string& key, bool firing) {
    Notification n = of(firing ? lane.firing(key, "", 2) : lane.resolve(key, ""), "a");
    n.reason = NotifyReason::kRefresh;
    n.priority = 2;
    n.group_key.clear();
    return n;
  };
  lane.script.next = {down()};
  lane.add(lane.firing("something before"));
  lane.now();
  const DeliveryId stale = lane.add(refresh("a fires", true));
  lane.add(of(lane.resolve("b is over", "b"), "b"));
  lane.add(of(lane.resolve("a is over", "a"), "a"));
  lane.run(1min);
  CHECK(lane.script.keys() == Keys{"something before", "b is over", "something before", "a is over"});
  CHECK(lane.log.rows[stale].state == DeliveryState::kSuperseded);
  CHECK(lane.loop->view().superseded == 1);
  CHECK(lane.loop->idle());

  lane.script.next = {down()};
  lane.add(lane.firing("more"));
  lane.now();
  lane.add(refresh("a is over, still", false));
  lane.add(refresh("a fires again, as told", true));
  lane.add(of(lane.firing("a again", "a"), "a"));
  lane.run(1min);
  CHECK(lane.script.keys().back() == "a fires again, as told");
  CHECK(lane.loop->view().superseded == 2);
}

TEST_CASE("send_loop: a key that waits is not added twice, and an undurable one gets its row",
          "[run][send_loop]") {
  OneLane lane;
  lane.script.next = {down()};
  Delivery undurable;
  undurable.notification = lane.firing("a");
  lane.loop->add(undurable);
  lane.now();
  CHECK(lane.log.begun == std::vector<DeliveryId>{0});
  CHECK(lane.log.last().id == 0);
  const DeliveryId id = lane.add(undurable.notification);
  lane.add(undurable.notification);  // and no third
  CHECK(lane.loop->view().pending == 1);
  lane.run(1min);
  CHECK(lane.log.begun == std::vector<DeliveryId>{0, id});
  CHECK(lane.log.last().id == id);
  CHECK(lane.log.last().attempts == 2);
}

// --- passing failures

TEST_CASE("send_loop: F47 after an hour's outage ten thousand alerts are told, the critical ones first",
          "[run][send_loop][F47]") {
  SendLoop::Options options;
  options.min_interval = Duration(100);
  OneLane lane(std::move(options));
  bool is_down = true;
  lane.script.answer = [&](const Notification&, const sinks::Attempt&) {
    return is_down ? down() : Outcome::delivered("ok");
  };
  constexpr int kAlerts = 10'000;
  for (int i = 0; i < kAlerts; ++i)
    lane.add(lane.firing(fmt::format("{:05}", i), "", i % 10 == 0 ? 0 : 1));
  lane.run(1h);
  CHECK(lane.loop->view().pending == kAlerts);
  CHECK(lane.loop->view().delivered == 0);
  CHECK(lane.script.sent.size() < 100);  // probed, not hammered
  is_down = false;
  lane.script.sent.clear();
  lane.run(SendLoop::kMaxBackoff + kAlerts * Duration(100));
  CHECK(lane.loop->idle());
  REQUIRE(lane.script.sent.size() == kAlerts);
  std::set<std::string> told;
  // The first one proves that it works again, whichever it is.
  const std::size_t critical = kAlerts / 10 - (lane.script.sent[0].notification.priority == 0 ? 1 : 0);
  for (std::size_t i = 0; i < lane.script.sent.size(); ++i) {
    const FakeSink::Sent& sent = lane.script.sent[i];
    told.insert(sent.notification.key);
    if (i > 0) {
      CHECK((sent.notification.priority == 0) == (i <= critical));
      CHECK(sent.at - lane.script.sent[i - 1].at >= Duration(100));
    }
    CHECK_FALSE(sinks::delivery_notes(sent.notification, sent.attempt).empty());  // "Delayed 1 h …"
  }
  CHECK(told.size() == kAlerts);
}

TEST_CASE("send_loop: F41 a passing failure is tried again, in full jitter, until it works",
          "[run][send_loop][F41]") {
  OneLane lane;
  lane.add(lane.firing("a"));
  lane.script.next.assign(30, down());
  lane.run(3h);
  REQUIRE(lane.script.sent.size() == 31);
  Duration before{0};
  for (std::size_t i = 1; i < lane.script.sent.size(); ++i) {
    const auto pause = lane.script.sent[i].at - lane.script.sent[i - 1].at;
    const Duration most =
        std::min(SendLoop::kMaxBackoff, SendLoop::kBaseBackoff * (1 << std::min<std::size_t>(i - 1, 20)));
    CHECK(pause >= SendLoop::kMinBackoff);
    CHECK(pause <= most);
    CHECK(lane.script.sent[i].attempt.number == i + 1);
    before = std::max(before, std::chrono::floor<Duration>(pause));
  }
  CHECK(before > 2min);  // it does grow
  CHECK(lane.log.last().attempts == 31);
  CHECK(lane.log.last().state == DeliveryState::kDelivered);
}

TEST_CASE("send_loop: the same seed draws the same pauses, another one others", "[run][send_loop]") {
  const auto pauses = [](std::uint64_t seed) {
    SendLoop::Options options;
    options.seed = seed;
    OneLane lane(options);
    lane.script.always = down();
    lane.add(lane.firing("a"));
    lane.run(1h);
    std::vector<Instant> at;
    for (const FakeSink::Sent& sent : lane.script.sent)
      at.push_back(sent.at);
    return at;
  };
  CHECK(pauses(1) == pauses(1));
  CHECK(pauses(1) != pauses(2));
}

TEST_CASE("send_loop: F41 a sink that is down is probed, not hammered with everything that waits",
          "[run][send_loop][F41][F47]") {
  OneLane lane;
  for (int i = 0; i < 1000; ++i)
    lane.add(lane.firing(fmt::format("{}", i)));
  lane.script.always = down();
  lane.run(1h);
  CHECK(lane.script.sent.size() < 60);
  CHECK(lane.loop->view().pending == 1000);
  CHECK(lane.loop->view().state == SinkState::kFailing);
  // One success, and everything goes at once.
  lane.script.always = Outcome::delivered("ok");
  lane.run(SendLoop::kMaxBackoff);
  CHECK(lane.loop->idle());
  CHECK(lane.loop->view().state == SinkState::kAlive);
  CHECK(lane.loop->view().delivered == 1000);
}

TEST_CASE("send_loop: one message that the sink chokes on does not hold up the others",
          "[run][send_loop][F41]") {
  OneLane lane;
  lane.script.answer = [](const Notification& n, const sinks::Attempt&) {
    return n.key == "poison" ? Outcome::retry(Reason::kServerError, "500") : Outcome::delivered("ok");
  };
  lane.add(lane.firing("poison", "", 0));
  lane.add(lane.firing("a", "", 1));
  lane.run(1min);
  CHECK(lane.loop->view().delivered == 1);
  // And it does not slow them down for ever: an alert a minute, each delivered before the next one.
  std::size_t poison = 0;
  for (int i = 0; i < 120; ++i) {
    lane.add(lane.firing(fmt::format("{}", i)));
    lane.run(1min);
    CHECK(lane.loop->view().pending == 1);
  }
  for (const std::string& key : lane.script.keys())
    poison += key == "poison" ? 1 : 0;
  CHECK(poison < 120);
  CHECK(poison > 12);  // it is not forgotten either
}

TEST_CASE("send_loop: after an outage nobody's turn depends on the one before", "[run][send_loop]") {
  OneLane lane;
  lane.add(lane.firing("z"));
  lane.script.next = {down(), down(), Outcome::delivered("ok"), down()};
  lane.now();
  lane.add(lane.firing("a", "", 0));
  lane.add(lane.firing("b"));
  lane.add(lane.firing("c"));
  lane.run(1min);
  // z and a have failed, b brings them back; then a fails again, and of those that have not z is the oldest.
  REQUIRE(lane.script.sent.size() == 7);
  CHECK(Keys(lane.script.keys()) == Keys{"z", "a", "b", "a", "z", "a", "c"});
}

TEST_CASE("send_loop: a sink that refuses one message is not proven well by it, and not given up either",
          "[run][send_loop][F41]") {
  OneLane lane(with_fallbacks({{"mail", {"mail"}}}));
  lane.add(lane.firing("before"));
  lane.now();
  lane.script.next = {down(), down(), down(), refused()};
  lane.add(lane.firing("a"));
  lane.run(1min);
  REQUIRE(lane.script.sent.size() == 5);
  CHECK(lane.loop->view().state == SinkState::kFailing);
  CHECK(lane.loop->view().failures == 3);
  lane.add(lane.firing("b"));
  lane.now();
  CHECK(lane.loop->view().delivered == 2);
  CHECK(lane.loop->view().state == SinkState::kAlive);
  CHECK(lane.log.events == Keys{"alive ops ops"});
}

TEST_CASE("send_loop: a row that is still marked in flight may have been sent", "[run][send_loop][F43]") {
  // A reload that replaces a lane's loop, say, while an attempt was under way.
  OneLane lane;
  Delivery delivery;
  delivery.id = 1;
  delivery.notification = lane.firing("a");
  delivery.state = DeliveryState::kInFlight;
  lane.loop->add(delivery);
  lane.now();
  CHECK(lane.script.sent.at(0).attempt.maybe_sent);
}

TEST_CASE("send_loop: F41 an answer that was lost is told at the next try", "[run][send_loop][F41]") {
  OneLane lane;
  const DeliveryId id = lane.add(lane.firing("a"));
  lane.script.next = {Outcome::unknown("closed after the request"), down()};
  lane.loop->step();
  CHECK(lane.log.last().outcome == "unknown");
  CHECK(lane.log.last().reason == "response_lost");
  CHECK(lane.log.last().maybe_sent);
  CHECK(lane.log.rows[id].state == DeliveryState::kPending);
  lane.run(1min);
  REQUIRE(lane.script.sent.size() == 3);
  CHECK_FALSE(lane.script.sent[0].attempt.maybe_sent);
  CHECK(lane.script.sent[1].attempt.maybe_sent);
  CHECK(lane.script.sent[2]
            .attempt.maybe_sent);  // the second failed for certain, the first may still have arrived
}

TEST_CASE("send_loop: F41 after a day it is given up, with a reason and its fallback",
          "[run][send_loop][F41]") {
  OneLane lane(with_fallbacks({{"mail", {"mail"}}}));
  lane.script.always = down();
  lane.add(lane.firing("a", "", 2));  // nobody is told of a repeat meanwhile
  lane.run(23h + 55min);
  CHECK(lane.loop->view().pending == 1);
  lane.run(6min);
  CHECK(lane.loop->idle());
  CHECK(lane.log.told().back() == "a: rejected expired -> a/mail");
  CHECK(lane.log.last().state == DeliveryState::kDead);
  CHECK(lane.log.last().detail.find("503 down for maintenance") != std::string::npos);
  CHECK(lane.loop->view().dead == 1);
}

TEST_CASE("send_loop: a wall clock that is set neither ages nor hurries anything", "[run][send_loop]") {
  const Duration step = GENERATE(as<Duration>{}, Duration(72h), Duration(-72h));
  OneLane lane;
  lane.script.always = down();
  lane.add(lane.firing("a"));
  lane.run(1h);
  const std::size_t tries = lane.script.sent.size();
  lane.clock.step_wall(step);
  lane.now();
  CHECK(lane.script.sent.size() == tries);
  lane.run(1h);
  CHECK(lane.script.sent.size() < tries + 60);
  CHECK(lane.script.sent.size() > tries + 10);
  CHECK(lane.loop->view().pending == 1);
}

TEST_CASE("send_loop: what looks old at a start gets its tries all the same", "[run][send_loop]") {
  // A machine without a battery: its clock was wrong by years until the network came.
  OneLane lane;
  Notification old = lane.firing("a");
  old.created_at -= std::chrono::hours(24 * 365);
  lane.add(old);
  lane.script.next.assign(3, down());
  lane.run(1min);
  CHECK(lane.loop->view().delivered == 1);
}

// --- rate limits

TEST_CASE("send_loop: F39 the sink's own hint pauses the whole lane, and is kept", "[run][send_loop][F39]") {
  const auto [why, hint, pause] = GENERATE(table<std::string, Duration, Duration>({
      {"a second, shorter than any back-off may be", 1000ms, 1000ms},
      {"a fraction, as in JSON", 1500ms, 1500ms},
      {"a minute", 60s, 60s},
      {"exactly the longest that is believed", 15min, 15min},
      {"a day: it is tried after the longest", 24h, 15min},
  }));
  INFO(why);
  OneLane lane;
  lane.add(lane.firing("a"));
  lane.add(lane.firing("b", "", 0));
  lane.script.next = {Outcome::retry(Reason::kRateLimited, "429", hint)};
  const Instant began = lane.clock.instant();
  const Timestamp wall = lane.clock.now();
  lane.loop->step();
  CHECK(lane.log.last().not_before == wall + pause);
  CHECK(lane.loop->view().paused_until == wall + pause);
  lane.run(1h);
  REQUIRE(lane.script.keys() == Keys{"b", "b", "a"});
  CHECK(lane.script.sent[1].at == began + pause);
  CHECK(lane.loop->view().rate_limited == 1);
}

TEST_CASE("send_loop: F39 a hint outlives the process, our own back-off does not", "[run][send_loop][F39]") {
  OneLane lane;
  lane.add(lane.firing("a"));
  lane.add(lane.firing("b"));
  SECTION("a hint") {
    lane.script.next = {Outcome::retry(Reason::kRateLimited, "429", Duration(10min))};
    lane.loop->step();
    lane.clock.advance(1min);
    lane.restart();
    lane.run(8min);
    CHECK(lane.script.sent.size() == 1);
    lane.run(2min);
    CHECK(lane.script.keys() == Keys{"a", "a", "b"});
  }
  SECTION("a hint, and the wall clock was set back by a year: no more than the longest hint") {
    lane.script.next = {Outcome::retry(Reason::kRateLimited, "429", Duration(10min))};
    lane.loop->step();
    lane.clock.step_wall(std::chrono::hours(-24 * 365));
    lane.restart();
    lane.run(16min);
    CHECK(lane.loop->idle());
  }
  SECTION("back-off") {
    lane.script.next.assign(10, down());
    lane.run(20min);
    lane.restart();
    lane.now();
    CHECK(lane.loop->idle());
  }
}

TEST_CASE("send_loop: F39 429 without a hint, or with the same short one for ever, backs off",
          "[run][send_loop][F39]") {
  const auto hint =
      GENERATE(as<std::optional<Duration>>{}, std::nullopt, Duration(0ms), Duration(1s), Duration(1ms));
  OneLane lane;
  lane.script.always = Outcome::retry(Reason::kRateLimited, "429", hint);
  lane.add(lane.firing("a"));
  lane.run(1h);
  CHECK(lane.script.sent.size() < 70);
  CHECK(lane.script.sent.size() > 12);
}

TEST_CASE("send_loop: F39 a lane that is paused for too long uses its fallbacks at once",
          "[run][send_loop][F39]") {
  OneLane lane(with_fallbacks({{"mail", {"mail"}}}));
  lane.script.always = Outcome::retry(Reason::kRateLimited, "429", Duration(24h));
  lane.add(lane.firing("a"));
  lane.add(lane.firing("b"));
  lane.add(lane.firing("repeat", "", 2));
  lane.now();
  lane.add(lane.firing("c"));
  lane.now();
  CHECK(lane.log.told() == Keys{"a: retry rate_limited", "a: retry fallback -> a/mail",
                                "b: retry fallback -> b/mail", "c: retry fallback -> c/mail"});
  CHECK(lane.loop->view().pending == 4);  // the sink itself still gets them
  lane.script.always = Outcome::delivered("ok");
  lane.run(15min);
  CHECK(lane.loop->idle());
  CHECK(lane.loop->view().delivered == 4);
}

TEST_CASE("send_loop: F39 two messages keep the sink type's distance", "[run][send_loop][F39]") {
  SendLoop::Options options;
  options.min_interval = 1s;
  OneLane lane(options);
  lane.script.answer = [&](const Notification&, const sinks::Attempt&) {
    lane.clock.advance(300ms);
    return Outcome::delivered("ok");
  };
  for (int i = 0; i < 10; ++i)
    lane.add(lane.firing(fmt::format("{}", i)));
  lane.run(1min);
  REQUIRE(lane.script.sent.size() == 10);
  for (std::size_t i = 1; i < 10; ++i)
    CHECK(lane.script.sent[i].at - lane.script.sent[i - 1].at == 1300ms);
}

// --- a sink that refuses for good

TEST_CASE("send_loop: F40 a revoked secret opens the circuit, and the fallback speaks within seconds",
          "[run][send_loop][F40]") {
  OneLane lane(with_fallbacks({{"mail", {"mail"}}, {"pager", {"pager"}}}));
  lane.script.always = revoked();
  const Instant began = lane.clock.instant();
  for (int i = 0; i < 600; ++i)
    lane.add(lane.firing(fmt::format("{:03}", i)));
  lane.now();
  CHECK(lane.clock.instant() - began < 5s);
  CHECK(lane.script.sent.size() == 1);  // no hot retry
  CHECK(lane.log.events == Keys{"dead ops ops auth: 403 invalid_token"});
  CHECK(lane.loop->view().state == SinkState::kDead);
  CHECK(lane.loop->view().handed_over == 600);
  CHECK(lane.log.largest == SendLoop::kMaxBatch);
  REQUIRE(lane.log.all.size() == 600);
  CHECK(lane.log.told()[0] == "000: rejected auth -> 000/mail");
  CHECK(lane.log.told()[599] == "599: rejected circuit_open -> 599/mail");

  const Notification fallback = lane.log.fallback_of("001");
  CHECK(fallback.sink == "mail");
  CHECK(fallback.lane == "mail");
  CHECK(fallback.fallback_for == "ops");
  CHECK(fallback.group_key == "group of 001");

  SECTION("what comes later goes there at once, and opens nothing again") {
    lane.clock.advance(1min);
    lane.add(lane.firing("later"));
    lane.now();
    CHECK(lane.log.told().back() == "later: rejected circuit_open -> later/mail");
    CHECK(lane.script.sent.size() == 1);
    CHECK(lane.log.events.size() == 1);
  }
  SECTION("now and then one goes to the sink first; refused, to the fallback; accepted, the circuit closes") {
    lane.clock.advance(SendLoop::kFirstProbe);
    lane.add(lane.firing("probe"));
    lane.add(lane.firing("beside"));
    lane.now();
    CHECK(lane.script.keys() == Keys{"000", "probe"});
    CHECK(lane.script.sent[1].attempt.timeout == SendLoop::kProbeTimeout);  // somebody waits for the outcome
    CHECK(lane.log.told()[600] == "probe: rejected auth -> probe/mail");
    CHECK(lane.log.told()[601] == "beside: rejected circuit_open -> beside/mail");
    lane.script.always = Outcome::delivered("ok");
    lane.clock.advance(9min);
    lane.add(lane.firing("too early"));
    lane.now();
    CHECK(lane.script.sent.size() == 2);
    lane.clock.advance(1min);
    lane.add(lane.firing("works"));
    lane.add(lane.firing("too"));
    lane.now();
    CHECK(lane.script.keys() == Keys{"000", "probe", "works", "too"});
    CHECK(lane.log.events == Keys{"dead ops ops auth: 403 invalid_token", "alive ops ops"});
  }
}

TEST_CASE("send_loop: F40 without a fallback everything waits for the fix", "[run][send_loop][F40]") {
  OneLane lane;
  lane.script.always = Outcome::rejected(Reason::kGone, "404 no_service", true);
  for (int i = 0; i < 10; ++i)
    lane.add(lane.firing(fmt::format("{}", i)));
  lane.now();
  CHECK(lane.script.sent.size() == 1);
  CHECK(lane.log.last().state == DeliveryState::kPending);
  CHECK(lane.log.last().outcome == "rejected");
  CHECK(lane.log.last().reason == "gone");
  // 5, 10, 20 and then every 30 minutes, with one real delivery, not always the same one.
  lane.run(5min - 1s);
  CHECK(lane.script.sent.size() == 1);
  lane.run(1s);
  CHECK(lane.script.sent.size() == 2);
  lane.run(10h);
  CHECK(lane.script.sent.size() == 23);
  CHECK(lane.loop->view().pending == 10);
  CHECK(lane.log.events.size() == 1);
  std::set<std::string> tried;
  for (const std::string& key : lane.script.keys())
    tried.insert(key);
  CHECK(tried.size() == 10);

  lane.script.always = Outcome::delivered("ok");
  lane.run(30min);
  CHECK(lane.loop->idle());
  CHECK(lane.loop->view().delivered == 10);
  CHECK(lane.log.events ==
        Keys{"dead ops ops gone: 404 no_service; nobody hears there of Q{group=\"group of 0\"}",
             "alive ops ops"});
}

TEST_CASE(
    "send_loop: F40 a start tries a sink that was dead before: the secret may be the reason for the start",
    "[run][send_loop][F40]") {
  OneLane lane;
  lane.script.always = revoked();
  lane.add(lane.firing("a"));
  lane.run(1h);
  lane.script.always = Outcome::delivered("ok");
  lane.restart();
  lane.now();
  CHECK(lane.loop->idle());
  CHECK(lane.log.events.back() == "alive ops ops");
}

TEST_CASE("send_loop: a drill asks at once whether a sink that refused works again",
          "[run][send_loop][F53]") {
  const bool has_fallback = GENERATE(false, true);
  CAPTURE(has_fallback);
  OneLane lane(has_fallback ? with_fallbacks({{"mail", {"mail"}}}) : SendLoop::Options());
  lane.script.always = revoked();
  lane.add(lane.firing("a"));
  lane.run(30s);
  CHECK(lane.script.keys() == Keys{"a"});
  Notification drill = lane.firing("d", "drill/1", 2);
  drill.reason = NotifyReason::kDrill;
  drill.drill = "1";

  SECTION("the drill itself is what is refused") {
    OneLane fresh(has_fallback ? with_fallbacks({{"mail", {"mail"}}}) : SendLoop::Options());
    fresh.script.always = revoked();
    fresh.add(drill);
    fresh.now();
    CHECK(fresh.log.last().state == DeliveryState::kDead);
    CHECK(fresh.log.last().reason == "auth");
    CHECK(fresh.loop->idle());
  }
  SECTION("it does not") {
    lane.add(drill);
    lane.now();
    CHECK(lane.script.sent.size() == 2);
    // Whichever message asked: who drills knows now, and the drill waits for no mending.
    const Keys told = lane.log.told();
    CHECK(std::count_if(told.begin(), told.end(),
                        [](const std::string& line) { return line.rfind("d: rejected", 0) == 0; }) == 1);
    CHECK(lane.loop->view().pending == (has_fallback ? 0 : 1));
    lane.run(1s);
    CHECK(lane.script.sent.size() == 2);
  }
  SECTION("it does") {
    lane.script.always = Outcome::delivered("ok");
    lane.add(drill);
    lane.now();
    CHECK(lane.script.keys() == (has_fallback ? Keys{"a", "d"} : Keys{"a", "a", "d"}));
    CHECK(lane.log.events.back() == "alive ops ops");
    CHECK(lane.loop->idle());
  }
}

TEST_CASE("send_loop: a drill that does not arrive in ten minutes is given up, its end is not",
          "[run][send_loop][F53]") {
  OneLane lane;
  lane.script.always = down();
  Notification drill = lane.firing("d", "drill/1", 2);
  drill.reason = NotifyReason::kDrill;
  drill.drill = "1";
  Notification end = drill;
  end.key = "e";
  end.alerts = {alert(false, "drill/1")};
  lane.add(drill);
  lane.add(end);
  lane.run(SendLoop::kDrillMaxAge - 1s);
  CHECK(lane.loop->view().pending == 2);
  lane.run(2s);
  CHECK(lane.loop->view().pending == 1);
  const Keys told = lane.log.told();
  CHECK(std::count(told.begin(), told.end(), "d: rejected expired") == 1);
  lane.script.always = Outcome::delivered("ok");
  lane.run(SendLoop::kMaxBackoff);
  CHECK(lane.script.keys().back() == "e");
  CHECK(lane.loop->idle());
}

TEST_CASE("send_loop: a message that is refused goes to the fallback alone", "[run][send_loop][F40]") {
  OneLane lane(with_fallbacks({{"mail", {"mail"}}}));
  lane.script.next = {Outcome::delivered("ok"), refused()};
  lane.add(lane.firing("before"));
  lane.add(lane.firing("a"));
  lane.loop->step();
  lane.loop->step();
  CHECK(lane.loop->view().state == SinkState::kFailing);
  lane.add(lane.firing("b"));
  lane.now();
  CHECK(lane.log.told() ==
        Keys{"before: delivered ok", "a: rejected bad_request -> a/mail", "b: delivered ok"});
  CHECK(lane.log.all[1].second.state == DeliveryState::kDead);
  CHECK(lane.log.events == Keys{"alive ops ops"});
  CHECK(lane.loop->view().state == SinkState::kAlive);
}

// --- a sink that refuses what it is told

namespace {

const std::string kNobodyHears = "; nobody hears there of ";

}  // namespace

TEST_CASE("send_loop: F40 a sink that never took anything and refuses its first messages is dead",
          "[run][send_loop][F40]") {
  const bool has_fallback = GENERATE(true, false);
  OneLane lane(has_fallback ? with_fallbacks({{"mail", {"mail"}}}) : SendLoop::Options{});
  lane.script.always = Outcome::rejected(Reason::kBadRequest, "HTTP 422: no", false);
  for (int i = 0; i < 30; ++i)
    lane.add(lane.firing(fmt::format("{:02}", i)));
  lane.loop->step();
  CHECK(lane.loop->view().state == SinkState::kDead);
  const std::string unheard = has_fallback ? "" : kNobodyHears + "Q{group=\"group of 00\"}";
  CHECK(lane.log.events == Keys{"dead ops ops bad_request: HTTP 422: no" + unheard});
  lane.now();
  // Another message, of another group, shows that it was not the first one's fault.
  CHECK(lane.script.keys() == Keys{"00", "01"});
  CHECK(lane.log.events.size() == 1);
  CHECK(lane.loop->view().handed_over == (has_fallback ? 30 : 0));
  CHECK(lane.loop->view().pending == (has_fallback ? 0 : 30));
  if (has_fallback) return;

  // Left alone like any dead sink, with one delivery at a time, and nothing is lost by asking.
  lane.run(SendLoop::kFirstProbe - 1s);
  CHECK(lane.script.sent.size() == 2);
  lane.run(1s);
  CHECK(lane.script.sent.size() == 3);
  lane.run(10h - SendLoop::kFirstProbe);
  CHECK(lane.script.sent.size() == 23);
  CHECK(lane.loop->view().pending == 30);
  CHECK(lane.log.events.size() == 1);
  lane.script.always = Outcome::delivered("ok");
  lane.run(30min);
  CHECK(lane.loop->view().delivered == 30);
  CHECK(lane.loop->view().state == SinkState::kAlive);
  CHECK(lane.log.events.back() == "alive ops ops");
}

TEST_CASE("send_loop: F40 a sink that worked and refuses two messages in a row is dead",
          "[run][send_loop][F40]") {
  OneLane lane;
  lane.add(lane.firing("before"));
  lane.now();
  lane.script.always = refused();
  lane.add(lane.firing("a"));
  lane.now();
  CHECK(lane.loop->view().state == SinkState::kFailing);
  // Refused by its only sink: somebody must hear of that at once.
  CHECK(lane.log.events == Keys{"alive ops ops", "dead ops ops bad_request: 400 invalid_blocks" +
                                                     kNobodyHears + "Q{group=\"group of a\"}"});
  lane.script.next = {down()};  // what passes is no success in between
  lane.add(lane.firing("b"));
  lane.run(1min);
  CHECK(lane.loop->view().state == SinkState::kDead);
  CHECK(lane.log.told() == Keys{"before: delivered ok", "a: rejected bad_request", "b: retry server_error",
                                "b: rejected bad_request"});
  CHECK(lane.log.rows[2].state == DeliveryState::kDead);
  CHECK(lane.log.rows[3].state == DeliveryState::kPending);  // it waits for the fix
  CHECK(lane.log.events.size() == 2);
  lane.script.always = Outcome::delivered("ok");
  lane.run(SendLoop::kFirstProbe);
  CHECK(lane.loop->idle());
  CHECK(lane.log.events.back() == "alive ops ops");
}

TEST_CASE("send_loop: a success between two refusals closes what the first one opened",
          "[run][send_loop][F40]") {
  OneLane lane;
  lane.script.answer = [](const Notification& n, const sinks::Attempt&) {
    return n.key.substr(0, 3) == "bad" ? refused() : Outcome::delivered("ok");
  };
  SECTION("the very first is bad: the next one of another group is not made to wait") {
    lane.add(lane.firing("bad", "g"));
    lane.now();
    CHECK(lane.loop->view().state == SinkState::kDead);
    lane.add(lane.resolve("same group", "g"));
    lane.now();
    CHECK(lane.script.sent.size() == 1);
    lane.add(lane.firing("good"));
    lane.now();
    // Now that it works the first one had its chance; its group goes on.
    CHECK(lane.script.keys() == Keys{"bad", "good", "bad", "same group"});
    CHECK(lane.loop->idle());
    CHECK(lane.loop->view().state == SinkState::kAlive);
    const std::string dead = "dead ops ops bad_request: 400 invalid_blocks" + kNobodyHears + "Q{group=\"g\"}";
    CHECK(lane.log.events == Keys{dead, "alive ops ops", dead, "alive ops ops"});
  }
  SECTION("one group's messages are refused and refused: others do not wait for a probe") {
    lane.add(lane.firing("good 1"));
    lane.add(lane.firing("bad 1", "g"));
    lane.add(lane.firing("bad 2", "g"));
    lane.now();
    CHECK(lane.loop->view().state == SinkState::kDead);
    lane.add(lane.firing("bad 3", "g"));
    lane.now();
    CHECK(lane.script.sent.size() == 3);
    lane.add(lane.firing("good 2"));
    lane.loop->step();
    CHECK(lane.script.keys().back() == "good 2");
    CHECK(lane.loop->view().state == SinkState::kAlive);
  }
  SECTION("and when another one finds it in trouble, it is the sink") {
    lane.script.answer = nullptr;
    lane.script.next = {refused(), down()};
    for (int i = 0; i < 5; ++i)
      lane.add(lane.firing(fmt::format("{}", i)));
    lane.now();
    CHECK(lane.script.keys() == Keys{"0", "1"});
    lane.run(2 * SendLoop::kFirstProbe);
    CHECK(lane.loop->idle());
  }
  SECTION("a repeat that is refused is no news") {
    lane.add(lane.firing("good"));
    lane.add(lane.firing("bad repeat", "g", 2));
    lane.now();
    CHECK(lane.loop->view().state == SinkState::kFailing);
    CHECK(lane.log.events == Keys{"alive ops ops"});
  }
}

TEST_CASE("send_loop: who is not heard of is named, briefly", "[run][send_loop][F40]") {
  OneLane lane;
  lane.script.always = refused();
  Notification n = lane.firing("a");
  SECTION("each with its labels, the first three") {
    n.alerts[0].labels.set("q", "a");
    n.alerts.push_back(alert(false));
    n.alerts.push_back(alert(true));
    n.alerts.push_back(alert(true));
    n.alerts.push_back(alert(true));
    lane.add(n);
    lane.now();
    CHECK(lane.log.events == Keys{"dead ops ops bad_request: 400 invalid_blocks" + kNobodyHears +
                                  "Q{group=\"group of a\", q=\"a\"}, Q (resolved), Q and 2 more"});
  }
  SECTION("a summary has no alerts") {
    n.reason = NotifyReason::kSummary;
    n.alerts.clear();
    lane.add(n);
    lane.now();
    CHECK(lane.log.events == Keys{"dead ops ops bad_request: 400 invalid_blocks" + kNobodyHears + "summary"});
  }
  SECTION("not for pages") {
    n.alerts[0].labels.set("q", std::string(5000, 'x'));
    lane.add(n);
    lane.now();
    CHECK(lane.log.events.at(0).size() < 400);
  }
}

namespace {

Outcome partly(std::vector<std::size_t> refused) {
  return Outcome::partly_refused("1 of 2 alerts accepted", std::move(refused));
}

}  // namespace

TEST_CASE("send_loop: what a sink took of a message proves it well; the rest is told otherwise",
          "[run][send_loop][F40]") {
  const bool has_fallback = GENERATE(true, false);
  OneLane lane(has_fallback ? with_fallbacks({{"mail", {"mail"}}}) : SendLoop::Options{});
  Notification n = lane.firing("a", "g");
  n.alerts.push_back(alert(true));
  n.alerts[0].labels.set("q", "good");
  n.alerts[1].labels.set("q", "bad");
  lane.script.next = {down(), partly({1})};
  lane.add(n);
  lane.run(1min);
  CHECK(lane.log.last().state == DeliveryState::kDead);
  CHECK(lane.log.last().reason == "partly_refused");
  CHECK(lane.loop->view().failures == 0);
  if (has_fallback) {
    CHECK(lane.log.events == Keys{"alive ops ops"});
    CHECK(lane.loop->view().state == SinkState::kAlive);
    REQUIRE(lane.log.fallback_of("a").alerts.size() == 1);
    CHECK(lane.log.fallback_of("a").alerts[0].labels.get("q") == "bad");
  } else {
    CHECK(lane.log.events == Keys{"dead ops ops partly_refused: 1 of 2 alerts accepted"});
    CHECK(lane.loop->view().state == SinkState::kFailing);
    // Every minute the same, and one message of another group that it takes.
    for (int i = 0; i < 5; ++i) {
      Notification refresh = n;
      refresh.key = fmt::format("refresh {}", i);
      refresh.reason = NotifyReason::kRefresh;
      refresh.priority = 2;
      lane.script.next = {partly({1})};
      lane.add(refresh);
      lane.run(1min);
    }
    CHECK(lane.log.events.size() == 1);
    lane.add(lane.firing("b"));
    lane.now();
    CHECK(lane.log.events.back() == "alive ops ops");
    CHECK(lane.loop->view().state == SinkState::kAlive);
  }
  CHECK(lane.loop->idle());
}

TEST_CASE("send_loop: a fallback is reminded only if it forgets", "[run][send_loop][F40]") {
  const bool forgets = GENERATE(false, true);
  OneLane lane(with_fallbacks({{"mail", {"mail"}, forgets}}));
  lane.script.always = revoked();
  const auto refresh = [&](int i) {
    Notification n = lane.firing(fmt::format("refresh {}", i), "g", 2);
    n.reason = NotifyReason::kRefresh;
    n.replaces = "refresh of g";
    return n;
  };
  // It may be that the sink died when the alert had been told: the first reminder tells the fallback.
  for (int i = 0; i < 4; ++i) {
    lane.add(refresh(i));
    lane.run(1min);
  }
  CHECK(lane.loop->view().handed_over == (forgets ? 4 : 1));
  lane.add(lane.resolve("resolve", "g"));
  lane.run(SendLoop::kFirstProbe);
  CHECK(lane.log.fallback_of("resolve").key == "resolve/mail");
}

TEST_CASE("send_loop: a pause that is over is not shown", "[run][send_loop]") {
  SendLoop::Options options;
  options.min_interval = 1s;
  OneLane lane(options);
  lane.add(lane.firing("a"));
  lane.loop->step();
  CHECK(lane.loop->view().paused_until == lane.clock.now() + 1s);
  lane.clock.advance(1s);
  CHECK_FALSE(lane.loop->view().paused_until);
}

TEST_CASE("send_loop: F49 stopping, a sink that refused its first message gets the others",
          "[run][send_loop][F49][F40]") {
  OneLane lane;
  lane.script.always = refused();
  for (int i = 0; i < 10; ++i)
    lane.add(lane.firing(fmt::format("{}", i)));
  lane.loop->step();
  SECTION("and takes them") {
    lane.script.always = Outcome::delivered("ok");
  }
  SECTION("but not when it refuses those too") {}
  const bool well = lane.script.always.kind == Outcome::Kind::kDelivered;
  lane.loop->drain(lane.clock.instant() + 10s);
  lane.now();
  CHECK(lane.loop->idle());
  CHECK(lane.loop->view().delivered == (well ? 10 : 0));
  CHECK(lane.loop->view().pending == (well ? 0 : 10));
  CHECK(lane.script.sent.size() == (well ? 11 : 3));
}

TEST_CASE("send_loop: F40 a sink that stays dead is not proven alive by refusing a message otherwise",
          "[run][send_loop][F40]") {
  OneLane lane;
  lane.script.next = {revoked(), refused(), down(), Outcome::unknown("lost")};
  for (int i = 0; i < 6; ++i)
    lane.add(lane.firing(fmt::format("{}", i)));
  lane.run(SendLoop::kFirstProbe);
  CHECK(lane.script.sent.size() == 2);  // nor is it the message's fault now
  lane.run(35min);
  CHECK(lane.script.sent.size() == 4);
  CHECK(lane.log.events.size() == 1);
  lane.run(30min);
  CHECK(lane.loop->idle());
  CHECK(lane.log.events.back() == "alive ops ops");
  CHECK(lane.loop->view().delivered == 6);
}

TEST_CASE("send_loop: F40 each lane of the fallback is told, under a key of its own",
          "[run][send_loop][F40]") {
  OneLane lane(with_fallbacks({{"am", {"am#1", "am#2"}}}));
  lane.script.always = revoked();
  Notification n = lane.firing("k", "g");
  n.replaces = "repeat of g";
  lane.add(n);
  lane.now();
  CHECK(lane.log.told() == Keys{"k: rejected auth -> k/am#1 -> k/am#2"});
  const std::vector<Notification>& fallbacks = lane.log.last().fallbacks;
  CHECK(fallbacks[0].lane == "am#1");
  CHECK(fallbacks[1].lane == "am#2");
  CHECK(fallbacks[1].sink == "am");
  CHECK(fallbacks[1].replaces == "ops/repeat of g");  // it replaces nothing that am has to say itself
}

TEST_CASE("send_loop: F40 the next fallback speaks when the first is refused too; after the last it waits",
          "[run][send_loop][F40]") {
  SendLoop::Options options = with_fallbacks({{"mail", {"mail"}}, {"pager", {"pager"}}});
  options.fallbacks["mail"] = {{"other", {"other"}}};
  SECTION("the second of the list, not the fallback of the fallback") {
    options.sink = "mail";
    OneLane lane(options);
    lane.script.always = revoked();
    Notification n = lane.firing("k/mail");
    n.fallback_for = "ops";
    lane.add(n);
    lane.add(lane.firing("own"));
    lane.now();
    CHECK(lane.log.told() ==
          Keys{"k/mail: rejected auth -> k/pager", "own: rejected circuit_open -> own/other"});
    CHECK(lane.log.fallback_of("k/mail").fallback_for == "ops");
  }
  SECTION("the last: it waits for the fix") {
    options.sink = "pager";
    OneLane lane(options);
    lane.script.always = revoked();
    Notification n = lane.firing("k/pager");
    n.fallback_for = "ops";
    lane.add(n);
    lane.now();
    CHECK(lane.log.told() == Keys{"k/pager: rejected auth"});
    CHECK(lane.log.last().state == DeliveryState::kPending);
  }
  SECTION("the last, and this message is refused: dead") {
    options.sink = "pager";
    OneLane lane(options);
    lane.add(lane.firing("before"));
    lane.now();
    lane.script.always = refused();
    Notification n = lane.firing("k/pager");
    n.fallback_for = "ops";
    lane.add(n);
    lane.now();
    CHECK(lane.log.told() == Keys{"before: delivered ok", "k/pager: rejected bad_request"});
    CHECK(lane.log.events.back() ==
          "dead pager pager bad_request: 400 invalid_blocks; nobody hears there of Q{group=\"group of "
          "k/pager\"}");
    CHECK(lane.log.last().state == DeliveryState::kDead);
  }
  SECTION("a list that names the sink itself, or a sink without lanes") {
    OneLane lane(with_fallbacks({{"ops", {"ops"}}, {"gone", {}}, {"mail", {"mail"}}}));
    lane.script.always = revoked();
    lane.add(lane.firing("k"));
    lane.now();
    CHECK(lane.log.told() == Keys{"k: rejected auth -> k/mail"});
  }
}

// --- someone must hear

TEST_CASE("send_loop: what waits is taken over by the loop of a reload", "[run][send_loop][F35]") {
  OneLane lane(with_fallbacks({{"mail", {"mail"}}}));
  lane.script.always = down();
  lane.add(lane.firing("critical", "g", 0));
  lane.add(lane.firing("other", "g"));
  lane.run(3min);
  CHECK(lane.loop->view().handed_over == 1);
  const std::uint32_t attempts = lane.log.rows[1].attempts;
  CHECK(attempts > 0);
  lane.log.rows.clear();  // nothing is read from the store
  SECTION("the fallback that was told is not told again") {
    lane.reload(with_fallbacks({{"mail", {"mail"}}}).fallbacks);
    lane.run(5min);
    CHECK(lane.loop->view().handed_over == 0);
  }
  SECTION("another fallback is told") {
    lane.reload(with_fallbacks({{"pager", {"pager"}}}).fallbacks);
    lane.run(5min);
    CHECK(lane.loop->view().handed_over == 1);
    CHECK(lane.log.all.back().second.attempts > attempts);
  }
  SECTION("in its order, and each once") {
    lane.reload({});
    CHECK(lane.loop->view().pending == 2);
    lane.script.always = Outcome::delivered("ok");
    lane.now();
    const Keys told = lane.log.told();
    REQUIRE(told.size() > 2);
    CHECK(told[told.size() - 2] == "critical: delivered ok");
    CHECK(told.back() == "other: delivered ok");
    CHECK(lane.log.all.back().second.attempts == 1);
    CHECK(lane.loop->idle());
  }
  SECTION("and given up at the age it has") {
    lane.reload({});
    lane.run(24h - 3min - 1s);
    CHECK(lane.loop->view().pending == 2);
    lane.run(2s);
    CHECK(lane.loop->view().pending == 0);
  }
  SECTION("with the sink's own hint") {
    lane.script.always = Outcome::retry(Reason::kRateLimited, "429", 10min);
    lane.run(5min);
    lane.script.always = Outcome::delivered("ok");
    lane.reload({});
    lane.run(2min);
    CHECK(lane.loop->view().delivered == 0);
    lane.run(10min);
    CHECK(lane.loop->view().delivered == 2);
  }
}

TEST_CASE("send_loop: a critical alert that finds only passing failures is told to the fallback too, once",
          "[run][send_loop][F41]") {
  OneLane lane(with_fallbacks({{"mail", {"mail"}}}));
  lane.script.always = down();
  lane.add(lane.firing("critical", "g", 0));
  lane.add(lane.firing("repeat", "", 2));
  lane.run(2min - 1s);
  CHECK(lane.loop->view().handed_over == 0);
  lane.run(2s);
  CHECK(lane.loop->view().handed_over == 1);
  CHECK(lane.log.fallback_of("critical").key == "critical/mail");
  lane.run(1h);
  CHECK(lane.loop->view().handed_over == 1);
  CHECK(lane.loop->view().pending == 2);

  // One that comes while the sink is down has its two minutes, too.
  lane.add(lane.firing("second", "", 0));
  lane.run(1min);
  CHECK(lane.loop->view().handed_over == 1);
  lane.run(61s);
  CHECK(lane.loop->view().handed_over == 2);

  SECTION("and then its resolve goes there, even before the sink works") {
    lane.add(lane.resolve("resolve", "g"));
    lane.now();
    CHECK(lane.log.told().back() == "resolve: retry fallback -> resolve/mail");
  }
  SECTION("and then its resolve goes to both") {
    lane.script.always = Outcome::delivered("ok");
    lane.run(5min);
    CHECK(lane.loop->idle());
    lane.add(lane.resolve("resolve", "g"));
    lane.now();
    const Keys told = lane.log.told();
    CHECK(told[told.size() - 2] == "resolve: retry fallback -> resolve/mail");
    CHECK(told.back() == "resolve: delivered ok");
    // The next episode is the sink's alone again.
    lane.add(lane.firing("again", "g"));
    lane.add(lane.resolve("over", "g"));
    lane.now();
    CHECK(lane.log.told().back() == "over: delivered ok");
    CHECK(lane.log.fallback_of("resolve").fallback_for == "ops");
    CHECK(lane.loop->view().handed_over == 3);
  }
  SECTION("and when the sink turns out to be dead, the fallback does not hear it again") {
    lane.script.always = revoked();
    lane.run(5min);
    for (const auto& [key, settlement] : lane.log.all) {
      if (settlement.reason == "circuit_open" && key == "critical") CHECK(settlement.fallbacks.empty());
    }
    CHECK(lane.log.rows[1].state == DeliveryState::kDead);
  }
}

TEST_CASE("send_loop: F41 what is not critical is told to the fallback too after a quarter of an hour",
          "[run][send_loop][F41]") {
  OneLane lane(with_fallbacks({{"mail", {"mail"}}}));
  lane.script.always = down();
  lane.add(lane.firing("firing", "g", 1));
  lane.add(lane.firing("repeat", "", 2));
  lane.add(lane.resolve("of one told before", "h"));
  lane.run(15min - 1s);
  CHECK(lane.loop->view().handed_over == 0);
  lane.run(2s);
  CHECK(lane.log.fallback_of("firing").key == "firing/mail");
  CHECK(lane.loop->view().handed_over == 1);
  lane.add(lane.resolve("resolve", "g"));
  lane.now();
  CHECK(lane.log.fallback_of("resolve").key == "resolve/mail");
  lane.run(1h);
  CHECK(lane.loop->view().handed_over == 2);
  CHECK(lane.loop->view().pending == 4);
}

namespace {

// A sink whose answer is the one that HTTP makes of a Retry-After header.
Outcome asked_to_wait(const std::string& header, Timestamp now) {
  sinks::HttpResult result;
  result.kind = sinks::HttpResult::Kind::kAnswered;
  result.status = 503;
  result.retry_after = sinks::parse_retry_after(header, now);
  return sinks::outcome_of(result, {});
}

}  // namespace

TEST_CASE("send_loop: F39 a Retry-After of a day, as it comes from the wire, sends the fallbacks",
          "[run][send_loop][F39]") {
  const auto [header, overlong] = GENERATE(table<std::string, bool>({
      {"86400", true},
      {"901", true},
      {"900", false},
      {"99999999999999999999", true},
      {"Wed, 01 Jan 2098 00:00:00 GMT", true},
  }));
  INFO(header);
  OneLane lane(with_fallbacks({{"mail", {"mail"}}}));
  lane.script.next = {asked_to_wait(header, lane.clock.now())};
  lane.add(lane.firing("a"));
  lane.now();
  CHECK(lane.loop->view().handed_over == (overlong ? 1 : 0));
  CHECK(lane.loop->view().paused_until == lane.clock.now() + 15min);
}

TEST_CASE("send_loop: however many resolves come, each goes to the fallback that heard of its firing",
          "[run][send_loop]") {
  OneLane lane(with_fallbacks({{"mail", {"mail"}}}));
  constexpr int kGroups = 300;  // more than are settled at once
  lane.script.always = down();
  for (int i = 0; i < kGroups; ++i)
    lane.add(about(lane.firing(fmt::format("f{}", i), fmt::format("g{}", i), 0), i));
  lane.run(SendLoop::kFallbackAfter + 1s);
  lane.script.always = Outcome::delivered("ok");
  lane.run(SendLoop::kMaxBackoff);
  REQUIRE(lane.loop->view().handed_over == kGroups);
  REQUIRE(lane.loop->idle());
  for (int i = 0; i < kGroups; ++i) {
    Notification resolve = about(lane.resolve(fmt::format("r{}", i), fmt::format("g{}", i)), i);
    if (i + 1 == kGroups) resolve.priority = 0;
    lane.add(resolve);
  }
  lane.now();
  CHECK(lane.loop->view().handed_over == 2 * kGroups);
  CHECK(lane.loop->view().delivered == 2 * kGroups);
}

TEST_CASE("send_loop: what waits takes 6 KiB a message of usual length", "[run][send_loop]") {
  // Where a sanitizer brings a malloc of its own these are 0.
  const auto taken = [] { return ::mallinfo2().uordblks; };
  constexpr int kMessages = 1000;
  OneLane lane;
  std::size_t text = 0;
  const std::size_t before = taken();
  for (int i = 0; i < kMessages; ++i) {
    Delivery delivery;
    delivery.id = i + 1;
    delivery.notification = lane.firing(fmt::format("{:032}", i), fmt::format("group {:060}", i));
    rules::Alert& alert = delivery.notification.alerts.front();
    for (const char* name : {"environment", "instance", "severity", "queue"})
      alert.labels.set(name, "a value of a usual length");
    alert.annotations = {{"summary", std::string(60, 's')}, {"runbook_url", std::string(60, 'r')}};
    alert.first_line = alert.last_line = rules::SampleLine{lane.clock.now(), std::string(120, 'x')};
    text += rules::encode(delivery.notification).size();
    lane.loop->add(std::move(delivery));
  }
  const std::size_t each = (taken() - before) / kMessages;
  CAPTURE(each, text / kMessages);
  CHECK(text / kMessages > 700);
  CHECK(each <= 6 * 1024);
}

TEST_CASE("send_loop: of more alerts than are remembered a fallback hears no end, counted",
          "[run][send_loop]") {
  OneLane lane(with_fallbacks({{"mail", {"mail"}}}));
  lane.script.always = revoked();
  Notification many = lane.firing("a");
  const rules::Alert one = many.alerts.front();
  many.alerts.clear();
  for (std::size_t i = 0; i < SendLoop::kMaxElsewhere + 3; ++i) {
    many.alerts.push_back(one);
    many.alerts.back().labels.set("id", std::to_string(i));
  }
  lane.add(many);
  lane.run(1min);
  CHECK(lane.loop->view().handed_over == 1);
  CHECK(lane.loop->view().forgotten == 3);
  CHECK(lane.log.elsewhere.size() == SendLoop::kMaxElsewhere);
}

TEST_CASE("send_loop: the fallback hears of each alert's end, however they are grouped by then",
          "[run][send_loop][F40]") {
  OneLane lane(with_fallbacks({{"mail", {"mail"}}}));
  const auto of = [](const std::string& queue, bool firing) {
    rules::Alert one = alert(firing);
    one.labels.set("queue", queue);
    return one;
  };
  Notification both = lane.firing("firing", "by name");
  both.alerts = {of("orders", true), of("mails", true)};
  lane.script.next = {revoked()};
  lane.add(both);
  lane.now();
  lane.clock.advance(SendLoop::kFirstProbe);
  SECTION("one ends and its group goes on") {
    Notification some = lane.firing("some", "by name");
    some.reason = NotifyReason::kResolvedSome;
    some.alerts = {of("mails", true), of("orders", false)};
    lane.add(some);
    lane.now();
    CHECK(lane.log.fallback_of("some").key == "some/mail");
    Notification rest = lane.resolve("rest", "by name");
    rest.alerts = {of("mails", false)};
    lane.add(rest);
    lane.now();
    CHECK(lane.log.fallback_of("rest").key == "rest/mail");
  }
  SECTION("a reload has grouped them otherwise") {
    Notification end = lane.resolve("end", "by queue");
    end.alerts = {of("orders", false)};
    lane.restart();
    lane.add(end);
    lane.now();
    CHECK(lane.log.fallback_of("end").key == "end/mail");
  }
  SECTION("an end of an earlier time is another end") {
    Notification earlier = lane.resolve("earlier", "by name");
    earlier.alerts = {of("orders", false)};
    earlier.alerts[0].fired_at -= 1min;
    Notification end = lane.resolve("end", "by name");
    end.alerts = {of("orders", false)};
    // Both waited when the process died: what came first nobody knows but by their times.
    lane.script.next = {down()};
    lane.add(earlier);
    lane.add(end);
    lane.restart();
    lane.script.next = {};
    lane.now();
    CHECK(lane.log.told() == Keys{"firing: rejected auth -> firing/mail", "end: retry fallback -> end/mail",
                                  "earlier: delivered ok", "end: delivered ok"});
  }
  SECTION("an end of the same time with another beginning, as after a restart with another clock") {
    Notification end = lane.resolve("end", "by name");
    end.alerts = {of("orders", false)};
    end.alerts[0].resolved_at = end.alerts[0].fired_at + 1s;
    end.alerts[0].fired_at -= 1min;
    lane.add(end);
    lane.now();
    CHECK(lane.log.fallback_of("end").key == "end/mail");
    CHECK(lane.log.elsewhere.size() == 1);  // of mails
  }
  SECTION("a message that waits before an end goes before it") {
    Notification more = lane.firing("more", "by name");
    more.reason = NotifyReason::kNewAlerts;
    more.alerts = {of("orders", true), of("bills", true)};
    Notification other = lane.firing("other", "by name");
    other.alerts = {of("bills", true)};
    Notification end = lane.resolve("end", "by name");
    end.alerts = {of("orders", false), of("bills", false)};
    lane.add(more);
    if (GENERATE(false, true)) {
      lane.add(other);
      lane.add(end);
      lane.now();
      const Keys told = lane.log.told();
      CHECK(Keys(told.begin() + 1, told.begin() + 4) == Keys{"more: retry fallback -> more/mail",
                                                             "other: retry fallback -> other/mail",
                                                             "end: retry fallback -> end/mail"});
    } else {
      end.alerts = {of("mails", false)};
      lane.add(end);
      lane.now();
      CHECK(lane.log.told()[1] == "end: retry fallback -> end/mail");
    }
  }
  SECTION("one that it was not told of ends") {
    Notification end = lane.resolve("end", "by name");
    end.alerts = {of("bills", false)};
    lane.add(end);
    lane.now();
    CHECK(lane.log.told().back() == "end: delivered ok");
  }
}

TEST_CASE("send_loop: a fallback hears no end before the firing that it ends", "[run][send_loop][F40]") {
  OneLane lane(with_fallbacks({{"mail", {"mail"}}}));
  lane.script.always = down();
  lane.add(lane.firing("first", "g", 0));
  lane.run(SendLoop::kFallbackAfter + 1s);
  // Twice more while it is down, before anybody is told of the second.
  lane.add(lane.resolve("first end", "g"));
  lane.add(lane.firing("second", "g", 0));
  lane.add(lane.resolve("second end", "g"));
  lane.run(SendLoop::kFallbackAfter + 1s);
  Keys told;
  for (const auto& [key, settlement] : lane.log.all) {
    for (const Notification& fallback : settlement.fallbacks)
      told.push_back(fallback.key);
  }
  CHECK(told == Keys{"first/mail", "first end/mail", "second/mail", "second end/mail"});
}

TEST_CASE("send_loop: after a restart a fallback hears only what it has not been told yet", "[run][send_loop][F40]") {
  OneLane lane(with_fallbacks({{"mail", {"mail"}}}));
  lane.script.always = down();
  // Twice the same episode, as when a crash forgot its end, or the clock was set back: no time tells one from the other.
  lane.add(lane.firing("first", "g", 0));
  lane.add(lane.resolve("first end", "g"));
  lane.add(lane.firing("second", "g", 0));
  lane.run(SendLoop::kFallbackAfter + 1s);
  const auto told = [&lane] {
    Keys keys;
    for (const auto& [key, settlement] : lane.log.all) {
      for (const Notification& fallback : settlement.fallbacks)
        keys.push_back(fallback.key);
    }
    return keys;
  };
  REQUIRE(told() == Keys{"first/mail", "first end/mail", "second/mail"});
  lane.log.all.clear();
  SECTION("the end of the second is told") {
    lane.add(lane.resolve("second end", "g"));
    lane.restart();
    lane.run(1s);
    CHECK(told() == Keys{"second end/mail"});
  }
  SECTION("another fallback has heard nothing") {
    lane.add(lane.resolve("second end", "g"));
    lane.restart(with_fallbacks({{"pager", {"pager"}}}).fallbacks);
    lane.run(SendLoop::kFallbackAfter + 1s);
    CHECK(told() == Keys{"first/pager", "first end/pager", "second/pager", "second end/pager"});
  }
}

TEST_CASE("send_loop: F40 a sink that hangs does not keep its fallback waiting beyond its time",
          "[run][send_loop][F40]") {
  SendLoop::Options options = with_fallbacks({{"mail", {"mail"}}});
  Duration patience = SendLoop::kFallbackAfter;
  int priority = 0;
  SECTION("a critical alert") {}
  SECTION("any other") {
    priority = 1;
    patience = SendLoop::kLateFallbackAfter;
  }
  SECTION("as the sink says, for all alike") {
    priority = 1;
    options.fallback_after = patience = 37s;
  }
  SECTION("sooner than an attempt may take") {
    options.fallback_after = patience = 10s;
  }
  OneLane lane(std::move(options));
  lane.script.answer = [&](const Notification&, const sinks::Attempt& attempt) {
    CHECK(attempt.timeout <= SendLoop::kTimeout);
    lane.clock.advance(attempt.timeout);
    return Outcome::unknown("no answer");
  };
  const Instant began = lane.clock.instant();
  lane.add(lane.firing("a", "g", priority));
  const auto told = [&] {
    return std::any_of(lane.log.all.begin(), lane.log.all.end(),
                       [](const auto& one) { return !one.second.fallbacks.empty(); });
  };
  while (!told()) {
    const std::optional<Instant> next = lane.loop->step();
    REQUIRE(next);
    if (!told() && *next > lane.clock.instant())
      lane.clock.advance(std::chrono::ceil<Duration>(*next - lane.clock.instant()));
  }
  // From the beginning of the first attempt.
  CHECK(lane.clock.instant() - began >= patience);
  CHECK(lane.clock.instant() - began <= patience + 1s);
}

TEST_CASE(
    "send_loop: F40 the fallback that was told of a firing hears its resolve, although the sink is well",
    "[run][send_loop][F40]") {
  OneLane lane(with_fallbacks({{"mail", {"mail"}}}));
  lane.script.next = {revoked()};
  lane.add(lane.firing("firing", "g"));
  lane.now();
  SECTION("the resolve itself is what finds it well") {
    lane.clock.advance(SendLoop::kFirstProbe);
    lane.add(lane.resolve("resolve", "g"));
    lane.now();
    CHECK(lane.log.told() == Keys{"firing: rejected auth -> firing/mail",
                                  "resolve: retry fallback -> resolve/mail", "resolve: delivered ok"});
  }
  SECTION("in the next process as well, and that is the end of it") {
    lane.restart();
    lane.add(lane.resolve("resolve", "g"));
    lane.now();
    CHECK(lane.log.told().back() == "resolve: delivered ok");
    CHECK(lane.log.fallback_of("resolve").key == "resolve/mail");
    CHECK(lane.log.elsewhere.empty());
    lane.restart();
    lane.add(lane.firing("again", "g"));
    lane.add(lane.resolve("over", "g"));
    lane.now();
    CHECK(lane.log.told().back() == "over: delivered ok");
    CHECK(lane.log.told().size() == 5);
  }
  SECTION("or what finds it dead still: it is told once") {
    lane.script.next = {revoked()};
    lane.clock.advance(SendLoop::kFirstProbe);
    lane.add(lane.resolve("resolve", "g"));
    lane.now();
    CHECK(lane.log.told() == Keys{"firing: rejected auth -> firing/mail",
                                  "resolve: retry fallback -> resolve/mail", "resolve: rejected auth"});
  }
  SECTION("more of them than are settled at once") {
    for (int i = 0; i < 300; ++i)
      lane.add(about(lane.firing(fmt::format("f{}", i), fmt::format("g{}", i)), i));
    lane.now();
    lane.clock.advance(SendLoop::kFirstProbe);
    for (int i = 0; i < 300; ++i)
      lane.add(about(lane.resolve(fmt::format("r{}", i), fmt::format("g{}", i)), i));
    lane.now();
    CHECK(lane.loop->view().delivered == 300);
    CHECK(lane.loop->view().handed_over == 601);
  }
}

TEST_CASE("send_loop: a resolve that waits behind its firing follows it to the fallback",
          "[run][send_loop]") {
  OneLane lane(with_fallbacks({{"mail", {"mail"}}}));
  lane.script.always = down();
  lane.add(lane.firing("firing", "g", 0));
  lane.run(1min);
  lane.add(lane.resolve("resolve", "g"));
  lane.run(2min);
  Keys moved;
  for (const std::string& line : lane.log.told()) {
    if (line.find("->") != std::string::npos) moved.push_back(line);
  }
  CHECK(moved == Keys{"firing: retry fallback -> firing/mail", "resolve: retry fallback -> resolve/mail"});
}

// --- the store

TEST_CASE("send_loop: what the store does not mark is not sent", "[run][send_loop]") {
  OneLane lane;
  lane.log.refuse = true;
  lane.add(lane.firing("a"));
  lane.run(10s);
  CHECK(lane.script.sent.empty());
  lane.log.refuse = false;
  lane.run(2s);
  CHECK(lane.script.keys() == Keys{"a"});
  CHECK(lane.script.sent[0].attempt.number == 1);
  CHECK(lane.loop->view().failures == 0);
}

namespace {

// The real store behind a loop: what the runtime does, without its threads.
class StoreLog final : public DeliveryLog {
 public:
  explicit StoreLog(Store& store) : store_(store) {}
  bool begin(const std::vector<DeliveryId>& ids) override {
    Commit commit;
    commit.in_flight = ids;
    return store_.commit(commit).has_value();
  }
  void settle(const std::vector<Settled>& settled) override {
    if (lose) return;
    Commit commit;
    for (const Settled& one : settled)
      commit.settlements.push_back(one.settlement);
    const auto added = store_.commit(commit);
    REQUIRE(added);
    fallbacks.insert(fallbacks.end(), added->begin(), added->end());
  }
  void told_elsewhere(const std::string&, bool) override {}
  void sink_dead(const std::string&, const std::string&, const std::string&) override {}
  void sink_alive(const std::string&, const std::string&) override {}

  bool lose = false;  // killed before it was recorded
  std::vector<Delivery> fallbacks;

 private:
  Store& store_;
};

class StateDir {
 public:
  StateDir() {
    std::string name = (fs::temp_directory_path() / "logbell-send-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~StateDir() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  StateDir(const StateDir&) = delete;
  StateDir& operator=(const StateDir&) = delete;
  std::unique_ptr<Store> open(const FakeClock& clock) const {
    rules::Result<Store::Opened> opened = Store::open(path_, clock.now(), Duration(0));
    if (!opened) FAIL(opened.error().message);
    return std::move(opened->store);
  }

 private:
  fs::path path_;
};

std::unique_ptr<SendLoop> start(Store& store, StoreLog& log, FakeSink::Script& script, const FakeClock& clock,
                                SendLoop::Options options = {}) {
  options.sink = "ops";
  options.lane = "ops";
  options.clock = &clock;
  options.log = &log;
  auto loop = std::make_unique<SendLoop>(std::make_unique<FakeSink>(script), options);
  auto rows = store.undelivered();
  REQUIRE(rows);
  for (Delivery& row : *rows) {
    if (row.notification.lane == options.lane) loop->add(std::move(row));
  }
  return loop;
}

}  // namespace

TEST_CASE("send_loop: F43 killed between the send and its settlement, it is sent again and says so",
          "[run][send_loop][F43]") {
  const StateDir dir;
  const OneLane names;  // only for its notifications
  FakeClock clock;
  FakeSink::Script script;
  script.clock = &clock;
  {
    const auto store = dir.open(clock);
    Commit commit;
    commit.notifications = {names.firing("firing", "g"), names.resolve("resolve", "g")};
    for (Notification& n : commit.notifications)
      n.sink = n.lane = "ops";
    REQUIRE(store->commit(commit));
    StoreLog log(*store);
    log.lose = true;
    const auto loop = start(*store, log, script, clock);
    loop->step();
  }
  const auto store = dir.open(clock);
  StoreLog log(*store);
  const auto loop = start(*store, log, script, clock);
  while (!loop->idle())
    loop->step();
  REQUIRE(script.keys() == Keys{"firing", "firing", "resolve"});
  CHECK_FALSE(script.sent[0].attempt.maybe_sent);
  CHECK(script.sent[1].attempt.maybe_sent);
  CHECK_FALSE(script.sent[2].attempt.maybe_sent);
  CHECK(store->undelivered()->empty());
  CHECK(store->history(10)->size() == 2);
}

TEST_CASE("send_loop: F40 the fallback is queued with the refusal, and only once", "[run][send_loop][F40]") {
  const StateDir dir;
  const OneLane names;
  FakeClock clock;
  FakeSink::Script script;
  script.clock = &clock;
  const auto store = dir.open(clock);
  Commit commit;
  Notification n = names.firing("k", "g", 0);
  n.sink = n.lane = "ops";
  commit.notifications = {n};
  REQUIRE(store->commit(commit));
  StoreLog log(*store);
  {
    const auto loop = start(*store, log, script, clock, with_fallbacks({{"mail", {"mail"}}}));
    script.always = down();
    std::optional<Instant> next = loop->step();
    while (log.fallbacks.empty()) {
      REQUIRE(next);
      clock.advance(std::chrono::ceil<Duration>(*next - clock.instant()));
      next = loop->step();
    }
  }
  // A new process knows nothing of that, and its sink is found dead.
  script.always = revoked();
  const auto loop = start(*store, log, script, clock, with_fallbacks({{"mail", {"mail"}}}));
  loop->step();
  REQUIRE(log.fallbacks.size() == 1);
  CHECK(log.fallbacks[0].notification.key == "k/mail");
  CHECK(log.fallbacks[0].notification.fallback_for == "ops");
  const auto rows = store->undelivered();
  REQUIRE(rows->size() == 1);
  CHECK(rows->front().notification.lane == "mail");
  CHECK(store->outbox()->back().dead == 1);  // the sink's own is kept for a replay
}

// --- the end

TEST_CASE("send_loop: F49 stopping, everything gets one try, whatever its back-off",
          "[run][send_loop][F49]") {
  OneLane lane;
  lane.script.next.assign(8, down());
  for (int i = 0; i < 5; ++i)
    lane.add(lane.firing(fmt::format("{}", i)));
  lane.run(1min);
  const std::size_t tries = lane.script.sent.size();
  REQUIRE(lane.loop->view().pending == 5);
  lane.script.next.clear();

  SECTION("all arrive") {
    lane.loop->drain(lane.clock.instant() + 5s);
    lane.now();
    CHECK(lane.loop->idle());
    CHECK(lane.loop->view().delivered == 5);
    CHECK(lane.script.sent.back().attempt.timeout == 5s);  // not the usual 15
  }
  SECTION("all fail: one try each, and they stay in the store") {
    lane.script.always = down();
    lane.loop->drain(lane.clock.instant() + 5s);
    lane.now();
    CHECK(lane.loop->idle());
    CHECK(lane.script.sent.size() == tries + 5);
    CHECK(lane.loop->view().pending == 5);
    for (const auto& [id, row] : lane.log.rows)
      CHECK(row.state == DeliveryState::kPending);
    CHECK_FALSE(lane.loop->step().has_value());
    CHECK(lane.script.sent.size() == tries + 5);
    // The last commit may bring some more.
    lane.script.always = Outcome::delivered("ok");
    lane.add(lane.firing("late"));
    CHECK_FALSE(lane.loop->idle());
    lane.now();
    CHECK(lane.script.keys().back() == "late");
    CHECK(lane.loop->idle());
  }
  SECTION("a hung sink takes no longer than there is") {
    const Instant began = lane.clock.instant();
    lane.script.answer = [&](const Notification&, const sinks::Attempt& attempt) {
      lane.clock.advance(std::min<Duration>(attempt.timeout, 3s));
      return Outcome::retry(Reason::kTimeout, "no answer");
    };
    lane.loop->drain(began + 7s);
    lane.now();
    CHECK(lane.loop->idle());
    CHECK(lane.script.sent.size() == tries + 3);
    CHECK(lane.script.sent.back().attempt.timeout == 1s);
    CHECK(lane.clock.instant() - began == 7s);
  }
  SECTION("no time at all") {
    lane.loop->drain(lane.clock.instant());
    lane.now();
    CHECK(lane.loop->idle());
    CHECK(lane.script.sent.size() == tries);
  }
}

TEST_CASE("send_loop: F49 stopping, a group still speaks in order", "[run][send_loop][F49]") {
  OneLane lane;
  lane.script.always = down();
  lane.add(lane.firing("firing", "g"));
  lane.add(lane.resolve("resolve", "g"));
  lane.add(lane.firing("other"));
  lane.loop->drain(lane.clock.instant() + 5s);
  lane.now();
  CHECK(lane.script.keys() == Keys{"firing", "other"});
  CHECK(lane.loop->idle());
}

TEST_CASE("send_loop: F49 stopping, a hint is kept: used if it ends in time", "[run][send_loop][F49][F39]") {
  OneLane lane;
  lane.script.next = {Outcome::retry(Reason::kRateLimited, "429", Duration(3s))};
  lane.add(lane.firing("a"));
  lane.loop->step();
  const Instant began = lane.clock.instant();
  SECTION("it does") {
    lane.loop->drain(began + 10s);
    CHECK_FALSE(lane.loop->idle());
    lane.run(10s);
    REQUIRE(lane.script.sent.size() == 2);
    CHECK(lane.script.sent[1].at == began + 3s);
    CHECK(lane.loop->idle());
  }
  SECTION("it does not") {
    lane.loop->drain(began + 2s);
    lane.now();
    CHECK(lane.loop->idle());
    CHECK(lane.script.sent.size() == 1);
  }
}

TEST_CASE("send_loop: F49 stopping, what the sink does not take on the last try its fallback is told, once",
          "[run][send_loop][F49]") {
  OneLane lane(with_fallbacks({{"two", {"two"}}}));
  lane.script.always = down();
  lane.add(lane.firing("critical", "g", 0));
  lane.add(lane.firing("warning", "h", 1));
  lane.add(lane.firing("repeat", "i", 2));
  Notification drill = lane.firing("drill", "j", 1);
  drill.drill = "d1";
  lane.add(drill);
  lane.run(3s);
  REQUIRE(lane.log.told().back().find("->") == std::string::npos);
  const std::size_t tries = lane.script.sent.size();
  lane.loop->drain(lane.clock.instant() + 20s);
  SECTION("and waits on, for the next process to try it here as well") {
    lane.now();
    CHECK(lane.loop->idle());
    CHECK(lane.script.sent.size() == tries + 4);  // first each of them its own try
    const Keys told = lane.log.told();
    REQUIRE(told.size() > 2);
    CHECK(Keys(told.end() - 2, told.end()) ==
          Keys{"critical: retry fallback -> critical/two", "warning: retry fallback -> warning/two"});
    CHECK(lane.log.fallback_of("critical").fallback_for == "ops");
    CHECK(lane.log.last().state == DeliveryState::kPending);
    CHECK(lane.log.last().elsewhere == "two");
    CHECK(lane.loop->view().pending == 4);
    CHECK(lane.log.elsewhere.size() == 2);

    // The next process: nobody is told twice, and the end goes to both.
    const std::size_t settled = told.size();
    lane.restart();
    lane.loop->drain(lane.clock.instant() + 20s);
    lane.now();
    CHECK(lane.log.told().size() == settled + 4);
    lane.script.always = Outcome::delivered("ok");
    lane.restart();
    lane.add(lane.resolve("end", "g"));
    lane.now();
    CHECK(lane.script.keys().back() != "critical");
    const Keys all = lane.log.told();
    CHECK(std::find(all.begin(), all.end(), "end: retry fallback -> end/two") != all.end());
    CHECK(std::find(all.begin(), all.end(), "end: delivered ok") != all.end());
  }
  SECTION("not what it takes") {
    lane.script.always = Outcome::delivered("ok");
    lane.now();
    for (const std::string& line : lane.log.told())
      CHECK(line.find("->") == std::string::npos);
  }
  SECTION("a resolve that waits behind its firing comes after it") {
    lane.add(lane.resolve("end", "g"));
    lane.now();
    const Keys told = lane.log.told();
    const auto at = [&](const std::string& line) { return std::find(told.begin(), told.end(), line); };
    REQUIRE(at("end: retry fallback -> end/two") != told.end());
    CHECK(at("critical: retry fallback -> critical/two") < at("end: retry fallback -> end/two"));
  }
  SECTION("one that comes while it stops, too, after a try of its own") {
    lane.now();
    lane.add(lane.firing("late", "k", 0));
    CHECK_FALSE(lane.loop->idle());
    lane.now();
    CHECK(lane.loop->idle());
    CHECK(lane.script.keys().back() == "late");
    CHECK(lane.log.told().back() == "late: retry fallback -> late/two");
  }
}

TEST_CASE(
    "send_loop: F49 stopping, a resolve that nobody takes is told elsewhere, though the firing was heard "
    "here",
    "[run][send_loop][F49]") {
  OneLane lane(with_fallbacks({{"two", {"two"}}}));
  lane.add(lane.firing("firing", "g", 0));
  lane.now();
  lane.script.always = down();
  lane.add(lane.resolve("end", "g"));
  lane.loop->drain(lane.clock.instant() + 20s);
  lane.now();
  CHECK(lane.log.told().back() == "end: retry fallback -> end/two");
}

TEST_CASE("send_loop: F49 stopping, a sink that hangs leaves its fallbacks half of the time",
          "[run][send_loop][F49][F42]") {
  OneLane lane(with_fallbacks({{"two", {"two"}}}));
  lane.script.answer = [&](const Notification&, const sinks::Attempt& attempt) {
    lane.clock.advance(attempt.timeout);
    return Outcome::retry(Reason::kTimeout, "no answer");
  };
  for (int i = 0; i < 3; ++i)
    lane.add(lane.firing(fmt::format("{}", i), "", 0));
  const Instant began = lane.clock.instant();
  std::optional<Duration> told_after;
  lane.loop->drain(began + 20s);
  for (int i = 0; i < 100 && !told_after; ++i) {
    lane.loop->step();
    if (!lane.log.all.empty() && !lane.log.last().fallbacks.empty())
      told_after = std::chrono::floor<Duration>(lane.clock.instant() - began);
  }
  CHECK(told_after == Duration(10s));
  CHECK(lane.script.sent.size() == 1);
  CHECK(lane.log.elsewhere.size() == 3);
  // The rest of the time is this sink's again.
  lane.now();
  CHECK(lane.loop->idle());
  CHECK(lane.clock.instant() - began <= 20s);
}

TEST_CASE("send_loop: F49 stopping, a hint that ends too late for the fallbacks does not keep them waiting",
          "[run][send_loop][F49][F39]") {
  OneLane lane(with_fallbacks({{"two", {"two"}}}));
  const bool in_time = GENERATE(true, false);
  lane.script.next = {Outcome::retry(Reason::kRateLimited, "429", Duration(in_time ? 3s : 15s))};
  lane.add(lane.firing("a", "", 0));
  lane.loop->step();
  const Instant began = lane.clock.instant();
  lane.loop->drain(began + 20s);
  lane.loop->step();
  lane.loop->step();
  CHECK((lane.log.told().back() == "a: retry fallback -> a/two") == !in_time);
  lane.run(20s);
  CHECK(lane.loop->idle());
  CHECK(lane.script.sent.size() == 2);
  CHECK(lane.loop->view().delivered == 1);
}

TEST_CASE("send_loop: F49 stopping, the next fallback of the list has its share as well",
          "[run][send_loop][F49]") {
  SendLoop::Options options = with_fallbacks({{"two", {"two"}}, {"three", {"three"}}});
  options.sink = "two";
  OneLane lane(options);
  lane.script.answer = [&](const Notification&, const sinks::Attempt& attempt) {
    lane.clock.advance(attempt.timeout);
    return Outcome::retry(Reason::kTimeout, "no answer");
  };
  const Instant began = lane.clock.instant();
  lane.loop->drain(began + 20s);
  lane.now();
  CHECK(lane.loop->idle());
  lane.clock.advance(10s);
  Notification n = lane.firing("k/two", "g", 0);
  n.fallback_for = "ops";
  lane.add(n);
  lane.loop->step();
  CHECK(lane.clock.instant() - began == 15s);
  lane.loop->step();
  CHECK(lane.log.told().back() == "k/two: retry fallback -> k/three");
}

TEST_CASE("send_loop: F49 stopping, a dead sink is tried once, one that fails and fails is left alone",
          "[run][send_loop][F49]") {
  OneLane lane;
  for (int i = 0; i < 100; ++i)
    lane.add(lane.firing(fmt::format("{}", i)));
  SECTION("dead") {
    lane.script.always = revoked();
    lane.now();
    REQUIRE(lane.script.sent.size() == 1);
    lane.loop->drain(lane.clock.instant() + 10s);
    lane.now();
    CHECK(lane.script.sent.size() == 2);
    CHECK(lane.loop->idle());
  }
  SECTION("dead, but repaired meanwhile") {
    lane.script.next = {revoked()};
    lane.now();
    lane.loop->drain(lane.clock.instant() + 10s);
    lane.now();
    CHECK(lane.loop->view().delivered == 100);
  }
  SECTION("failing") {
    lane.script.always = down();
    lane.loop->drain(lane.clock.instant() + 10s);
    lane.now();
    CHECK(lane.script.sent.size() == SendLoop::kMaxDrainFailures);
    CHECK(lane.loop->idle());
  }
  SECTION("the store is gone") {
    lane.log.refuse = true;
    lane.loop->drain(lane.clock.instant() + 10s);
    lane.now();
    CHECK(lane.script.sent.empty());
    CHECK(lane.loop->idle());
  }
}

// --- what others see

// --- storms

namespace {

// Ten a minute: five at once, then one each twelve seconds.
SendLoop::Options ten_a_minute() {
  SendLoop::Options options;
  options.per_minute = 10;
  return options;
}

Keys spoken_for(const FakeSink::Sent& sent) {
  Keys keys;
  for (const Notification& one : sent.spoke_for)
    keys.push_back(one.key);
  return keys;
}

Keys names(int from, int to) {
  Keys keys;
  for (int i = from; i <= to; ++i)
    keys.push_back(fmt::format("{}", i));
  return keys;
}

}  // namespace

TEST_CASE("send_loop: where more wait than may leave, one message speaks for all of them",
          "[run][send_loop]") {
  OneLane lane(ten_a_minute());
  for (int i = 1; i <= 30; ++i)
    lane.add(lane.firing(fmt::format("{}", i), "", i == 30 ? 0 : 1));
  lane.now();
  REQUIRE(lane.script.sent.size() == 5);
  // What is critical does not wait behind the others.
  CHECK(lane.script.keys()[0] == "30");
  for (int i = 0; i < 4; ++i)
    CHECK(lane.script.sent[static_cast<std::size_t>(i)].spoke_for.empty());
  CHECK(spoken_for(lane.script.sent[4]) == names(4, 29));
  CHECK(lane.script.sent[4].notification.alerts.size() == 26);
  CHECK(lane.log.all.size() == 30);
  for (const auto& [key, settlement] : lane.log.all) {
    CHECK(settlement.state == DeliveryState::kDelivered);
    CHECK(settlement.receipt == "receipt");
  }
  CHECK(lane.log.largest == 26);  // in one transaction
  CHECK(lane.loop->view().delivered == 30);
  CHECK(lane.loop->view().coalesced == 25);
  CHECK(lane.loop->idle());

  // The next one waits for its turn, with what comes meanwhile.
  const Instant begin = lane.clock.instant();
  lane.add(lane.firing("31"));
  lane.run(11s);
  lane.add(lane.firing("32"));
  CHECK(lane.script.sent.size() == 5);
  lane.run(1s);
  REQUIRE(lane.script.sent.size() == 6);
  CHECK(lane.script.sent[5].at == begin + 12s);
  CHECK(spoken_for(lane.script.sent[5]) == Keys{"31", "32"});
  // A quiet minute, and each is a message again.
  lane.run(1min);
  lane.add(lane.firing("33"));
  lane.add(lane.firing("34"));
  lane.now();
  CHECK(lane.script.sent.size() == 8);
}

TEST_CASE("send_loop: without a bound each is a message of its own", "[run][send_loop]") {
  OneLane lane;
  for (int i = 1; i <= 300; ++i)
    lane.add(lane.firing(fmt::format("{}", i)));
  lane.now();
  CHECK(lane.script.sent.size() == 300);
}

TEST_CASE("send_loop: one message has an alert once, as the last of them knows it", "[run][send_loop]") {
  OneLane lane(ten_a_minute());
  for (int i = 1; i <= 4; ++i)
    lane.add(lane.firing(fmt::format("{}", i)));
  lane.add(lane.firing("a1", "a"));
  lane.add(lane.firing("b1", "b"));
  lane.add(lane.resolve("a2", "a"));
  lane.now();
  REQUIRE(lane.script.sent.size() == 5);
  const FakeSink::Sent& sent = lane.script.sent[4];
  CHECK(spoken_for(sent) == Keys{"a1", "a2", "b1"});
  REQUIRE(sent.notification.alerts.size() == 2);
  CHECK(sent.notification.alerts[0].labels.get("group") == "b");  // what fires comes first
  CHECK(sent.notification.alerts[0].is_firing());
  CHECK(sent.notification.alerts[1].labels.get("group") == "a");
  CHECK_FALSE(sent.notification.alerts[1].is_firing());
}

TEST_CASE("send_loop: what one message for many had no room to name is said so", "[run][send_loop]") {
  OneLane lane(ten_a_minute());
  for (int i = 1; i <= 60; ++i) {
    Notification n = lane.firing(fmt::format("{}", i));
    n.alerts.front().labels.set("alertname", fmt::format("ARuleWithSuchANameAs{}", 100 + i));
    lane.add(n);
  }
  lane.now();
  REQUIRE(lane.script.sent.size() == 5);
  // 25 bytes each, of a thousand: forty have room, of 5 to 60.
  CHECK(lane.script.sent[4].notification.names().size() == 40);
  CHECK(lane.log.unnamed == names(45, 60));
}

TEST_CASE("send_loop: one message for many is bounded", "[run][send_loop]") {
  OneLane lane(ten_a_minute());
  SECTION("in notifications") {
    for (int i = 1; i <= 250; ++i)
      lane.add(lane.firing(fmt::format("{}", i)));
    lane.now();
    REQUIRE(lane.script.sent.size() == 5);
    CHECK(lane.script.sent[4].spoke_for.size() == SendLoop::kMaxCoalesced);
    lane.run(12s);
    CHECK(lane.script.sent[5].spoke_for.size() == SendLoop::kMaxCoalesced);
    lane.run(12s);
    CHECK(lane.script.sent[6].spoke_for.size() == 46);
  }
  SECTION("in alerts") {
    for (int i = 1; i <= 10; ++i) {
      Notification many = lane.firing(fmt::format("{}", i));
      for (int j = 0; j < 299; ++j)
        many.alerts.push_back(alert(true, fmt::format("{} {}", i, j)));
      lane.add(many);
    }
    lane.now();
    REQUIRE(lane.script.sent.size() == 5);
    CHECK(spoken_for(lane.script.sent[4]) == names(5, 7));
    CHECK(lane.script.sent[4].notification.alerts.size() == 900);
  }
}

TEST_CASE("send_loop: of a message for many that is not taken the bad one is found by halves",
          "[run][send_loop]") {
  OneLane lane(ten_a_minute());
  Outcome answer = refused();
  SECTION("refused") {}
  SECTION("failed") {
    answer = down();
  }
  SECTION("answer lost") {
    answer = Outcome::unknown("lost");
  }
  const bool lost = answer.kind == Outcome::Kind::kUnknown;
  lane.script.answer = [&](const Notification& n, const sinks::Attempt& a) {
    const auto is_bad = [](const Notification* one) { return one->key == "20"; };
    const bool bad = n.key == "20" || std::any_of(a.speaks_for.begin(), a.speaks_for.end(), is_bad);
    return bad ? answer : Outcome::delivered("receipt");
  };
  for (int i = 1; i <= 36; ++i)
    lane.add(lane.firing(fmt::format("{}", i)));
  lane.run(10min);
  std::set<std::string> told;
  for (const auto& [key, settlement] : lane.log.all) {
    if (settlement.state == DeliveryState::kDelivered) CHECK(told.insert(key).second);
  }
  CHECK(told.size() == 35);
  CHECK(told.count("20") == 0);
  CHECK(lane.loop->view().state != SinkState::kDead);
  CHECK(lane.loop->view().pending == (answer.kind == Outcome::Kind::kRejected ? 0U : 1U));
  std::size_t arrived = 0;
  for (const FakeSink::Sent& sent : lane.script.sent) {
    std::vector<Notification> said = sent.spoke_for;
    if (said.empty()) said = {sent.notification};
    const auto is_bad = [](const Notification& one) { return one.key == "20"; };
    if (std::any_of(said.begin(), said.end(), is_bad)) continue;
    ++arrived;
    // Whoever may get it again is told so.
    if (sent.notification.key == "1") CHECK_FALSE(sent.attempt.maybe_sent);
    if (said.front().key == "36") CHECK(sent.attempt.maybe_sent == lost);
  }
  CHECK(arrived <= (answer.kind == Outcome::Kind::kRejected ? 12U : 30U));
}

TEST_CASE("send_loop: a rate limit that one message for many meets leaves them together",
          "[run][send_loop]") {
  OneLane lane(ten_a_minute());
  for (int i = 0; i < 4; ++i)
    lane.script.next.push_back(Outcome::delivered("receipt"));
  lane.script.next.push_back(Outcome::retry(Reason::kRateLimited, "429", Duration(30'000)));
  for (int i = 1; i <= 20; ++i)
    lane.add(lane.firing(fmt::format("{}", i)));
  lane.run(29s);
  CHECK(lane.script.sent.size() == 5);
  lane.run(2min);
  CHECK(lane.loop->idle());
  // One of them asks whether it may go on; the others follow.
  CHECK(lane.script.sent.size() <= 9);
}

TEST_CASE("send_loop: what has words or a thread of its own is told alone", "[run][send_loop]") {
  OneLane lane(ten_a_minute());
  for (int i = 1; i <= 4; ++i)
    lane.add(lane.firing(fmt::format("{}", i)));
  Notification other = lane.firing("other");
  SECTION("a drill") {
    other.drill = "d1";
  }
  SECTION("a summary") {
    other.text = "what was";
  }
  SECTION("a refresh") {
    other.reason = NotifyReason::kRefresh;
  }
  SECTION("in another sink's place") {
    other.fallback_for = "chat";
  }
  SECTION("it follows a message") {
    lane.log.followed.insert("other");
  }
  lane.add(other);
  lane.add(lane.firing("5"));
  lane.add(lane.firing("6"));
  lane.run(1min);
  CHECK(lane.loop->idle());
  for (const FakeSink::Sent& sent : lane.script.sent) {
    for (const Notification& one : sent.spoke_for)
      CHECK(one.key != "other");
  }
  CHECK(lane.loop->view().coalesced == 1);
}

TEST_CASE("send_loop: what stands in for one sink is told together", "[run][send_loop]") {
  OneLane lane(ten_a_minute());
  for (int i = 1; i <= 20; ++i) {
    Notification n = lane.firing(fmt::format("{}", i));
    n.fallback_for = "chat";
    lane.add(n);
  }
  lane.now();
  REQUIRE(lane.script.sent.size() == 5);
  CHECK(lane.script.sent[4].spoke_for.size() == 16);
  CHECK(lane.script.sent[4].notification.fallback_for == "chat");
}

TEST_CASE("send_loop: F47 after an outage the newest of what is critical comes first", "[run][send_loop]") {
  OneLane lane;
  lane.script.always = down();
  lane.add(lane.firing("warning"));
  for (int i = 1; i <= 5; ++i) {
    lane.add(lane.firing(fmt::format("{}", i), "", 0));
    lane.run(20min);
  }
  lane.add(lane.firing("change of 2", "group of 2", 0));
  lane.script.sent.clear();
  lane.script.always = Outcome::delivered("receipt");
  while (lane.script.sent.empty()) {
    lane.loop->step();
    lane.clock.advance(1s);
  }
  lane.add(lane.firing("fresh", "", 0));
  lane.run(10min);
  const Keys keys = lane.script.keys();
  REQUIRE(keys.size() == 8);
  // The first one is whoever's turn it was to probe.
  CHECK(keys[1] == "fresh");
  Keys late(keys.begin() + 2, keys.end());
  late.erase(std::remove(late.begin(), late.end(), "change of 2"), late.end());
  CHECK(std::is_sorted(late.begin(), late.end() - 1, std::greater<>()));
  CHECK(late.back() == "warning");
  const auto at = [&](const std::string& key) {
    return std::find(keys.begin(), keys.end(), key) - keys.begin();
  };
  CHECK(at("2") < at("change of 2"));
}

TEST_CASE("send_loop: F47 so does what an earlier process left", "[run][send_loop]") {
  OneLane lane;
  for (int i = 1; i <= 3; ++i)
    lane.add(lane.firing(fmt::format("{}", i), "", 0));
  lane.restart();
  lane.now();
  CHECK(lane.script.keys() == Keys{"3", "2", "1"});
  lane.script.sent.clear();
  for (int i = 4; i <= 6; ++i)
    lane.add(lane.firing(fmt::format("{}", i), "", 0));
  lane.now();
  CHECK(lane.script.keys() == Keys{"4", "5", "6"});
}

TEST_CASE("send_loop: the view says how the lane stands", "[run][send_loop]") {
  OneLane lane;
  const Timestamp began = lane.clock.now();
  CHECK(lane.loop->view().state == SinkState::kUnknown);
  lane.add(lane.firing("a"));
  CHECK(lane.loop->view().pending == 1);
  CHECK(lane.loop->view().oldest == began);
  lane.script.next = {down()};
  lane.loop->step();
  LaneView view = lane.loop->view();
  CHECK(view.sink == "ops");
  CHECK(view.lane == "ops");
  CHECK(view.state == SinkState::kFailing);
  CHECK(view.failures == 1);
  CHECK(view.attempts == 1);
  CHECK(view.last_error == "server_error: 503 down for maintenance");
  CHECK(view.last_error_at == began);
  REQUIRE(view.paused_until);
  CHECK(*view.paused_until > began);
  CHECK_FALSE(view.last_delivered);
  lane.run(1min);
  view = lane.loop->view();
  CHECK(view.state == SinkState::kAlive);
  CHECK(view.pending == 0);
  CHECK_FALSE(view.oldest);
  CHECK_FALSE(view.paused_until);
  CHECK(view.last_receipt == "receipt");
  CHECK(view.last_delivered > began);
  CHECK(view.delivered == 1);
  CHECK(view.failures == 0);
}

TEST_CASE("send_loop: the plan's fallbacks, as lanes", "[run][send_loop]") {
  rules::Plan plan;
  plan.sinks["ops"].lanes = {"ops"};
  plan.sinks["ops"].fallback = {"am", "gone"};
  plan.sinks["am"].lanes = {"am#1", "am#2"};
  const Fallbacks all = fallbacks_of(plan);
  REQUIRE(all.size() == 1);
  REQUIRE(all.at("ops").size() == 1);
  CHECK(all.at("ops")[0].sink == "am");
  CHECK(all.at("ops")[0].lanes == Keys{"am#1", "am#2"});
}

// --- whatever happens

namespace {

// A sink whose moods change, notifications that come and processes that die, all from one seed; and next to
// it what must hold whatever they do.
class Chaos {
 public:
  explicit Chaos(std::uint64_t seed) : random_(seed), lane_(options(seed)) {
    lane_.script.answer = [this](const Notification& n, const sinks::Attempt& a) { return answer(n, a); };
  }

  void live() {
    for (int i = 0; i < 40; ++i) {
      switch (draw(0, 9)) {
        case 0:
        case 1:
        case 2:
        case 3:
          come();
          break;
        case 4:
          mood_ = static_cast<Mood>(draw(0, 5));
          break;
        case 5:
          if (draw(0, 3) == 0) die();
          break;
        case 6:
          if (draw(0, 3) != 0) break;
          lane_.clock.step_wall(Duration(draw(-3'600'000, 3'600'000)));
          stepped_ = true;
          break;
        default:
          lane_.run(Duration(draw(0, draw(0, 1) == 0 ? 3'000 : 900'000)));
          break;
      }
    }
    // Repaired, everything comes to its end.
    if (draw(0, 1) == 0) die();
    mood_ = Mood::kWell;
    poisoned_.clear();
    lane_.run(SendLoop::kLastProbe + 16min);
  }

  void judge() {
    lane_.loop->step();
    must(lane_.loop->view().pending == 0, "something still waits");
    must(lane_.loop->idle(), "the loop is not idle");
    std::map<std::string, std::vector<const Settlement*>> by_key;
    for (const auto& [key, settlement] : lane_.log.all)
      by_key[key].push_back(&settlement);
    for (const auto& [id, row] : lane_.log.rows) {
      const std::string& key = row.notification.key;
      if (superseded_.count(key) != 0) continue;
      const std::vector<const Settlement*>& history = by_key[key];
      must(!history.empty(), "is a delivery of which nothing is known", key);
      const Settlement& last = *history.back();
      const bool delivered = last.state == DeliveryState::kDelivered;
      const bool told_elsewhere = std::any_of(history.begin(), history.end(),
                                              [](const Settlement* one) { return !one->fallbacks.empty(); });
      // A message that was refused, where nobody can speak instead, is the only one that ends untold.
      const bool nobody_left =
          !has_fallback_ && last.state == DeliveryState::kDead && last.reason == "bad_request";
      must(delivered || told_elsewhere || nobody_left, "was told to nobody", key);
      // The end is the end.
      for (std::size_t i = 0; i + 1 < history.size(); ++i)
        must(history[i]->state == DeliveryState::kPending, "went on after its end", key);
    }
    must(lane_.log.begun.size() == sent_, "marked and sent differ");
  }

 private:
  // Millions of times: Catch's own assertions would take most of the time.
  void must(bool holds, const char* otherwise, const std::string& key = {}) const {
    if (!holds) FAIL("LOGBELL_SEED=" << seed_ << ": " << key << " " << otherwise);
  }

  enum class Mood { kWell, kDown, kLimited, kRevoked, kLosing, kStrict };

  SendLoop::Options options(std::uint64_t seed) {
    seed_ = seed;
    has_fallback_ = draw(0, 1) == 0;
    SendLoop::Options options;
    if (has_fallback_) options = with_fallbacks({{"mail", {"mail"}}});
    if (draw(0, 1) == 0) options.min_interval = 1s;
    if (draw(0, 1) == 0) options.per_minute = static_cast<std::uint32_t>(draw(4, 20));
    per_minute_ = options.per_minute;
    options.seed = seed;
    min_interval_ = options.min_interval;
    return options;
  }
  std::int64_t draw(std::int64_t from, std::int64_t to) {
    return std::uniform_int_distribution<std::int64_t>(from, to)(random_);
  }

  void come() {
    const std::int64_t count = draw(0, 9) == 0 ? 30 : draw(1, 3);
    for (std::int64_t i = 0; i < count; ++i) {
      const std::string group = fmt::format("g{}", draw(0, 5));
      const std::string key = fmt::format("{}", ++last_);
      Notification n = draw(0, 3) == 0 ? lane_.resolve(key, group)
                                       : lane_.firing(key, group, static_cast<int>(draw(0, 2)));
      if (n.priority == 2 && !n.is_resolved()) n.replaces = "repeat of " + group;
      if (draw(0, 19) == 0) poisoned_.insert(key);
      // As the store does it: an unsent one of the same kind gives way.
      for (auto& [id, row] : lane_.log.rows) {
        if (n.replaces.empty() || row.notification.replaces != n.replaces) continue;
        if (row.state != DeliveryState::kPending) continue;
        row.state = DeliveryState::kSuperseded;
        superseded_.insert(row.notification.key);
      }
      lane_.add(n);
    }
  }
  void die() {
    ++lives_;
    run_.clear();
    arrived_.clear();  // each process has its own
    // A hint outlives the process with the rows that wait, as wall time.
    const Timestamp until =
        lane_.clock.now() + std::chrono::floor<Duration>(not_before_ - lane_.clock.instant());
    const bool kept = std::any_of(lane_.log.rows.begin(), lane_.log.rows.end(), [&](const auto& row) {
      return row.second.state == DeliveryState::kPending && row.second.not_before >= until;
    });
    if (stepped_ || !kept) not_before_ = Instant();
    lane_.restart();
  }

  Outcome answer(const Notification& n, const sinks::Attempt& attempt) {
    const Instant at = lane_.clock.instant();
    std::vector<const Notification*> said = attempt.speaks_for;
    if (said.empty()) said = {&n};
    must(said.size() == 1 || per_minute_ > 0, "spoke for another one");
    must(said.size() <= SendLoop::kMaxCoalesced, "spoke for too many");
    must(lane_.log.begun.size() >= sent_ + said.size(), "not marked before it left");
    std::uint32_t number = 0;
    bool maybe_sent = false;
    std::set<DeliveryId> before;
    for (std::size_t i = 0; i < said.size(); ++i) {
      const DeliveryId id = lane_.log.begun[lane_.log.begun.size() - said.size() + i];
      const Delivery& row = lane_.log.rows.at(id);
      must(row.notification.key == said[i]->key, "not marked before it left");
      must(row.state == DeliveryState::kPending, "sent after its end");
      must(superseded_.count(said[i]->key) == 0, "sent although superseded");
      for (const auto& [other, older] : lane_.log.rows) {
        if (other >= id) break;
        must(older.notification.group_key != said[i]->group_key || older.state != DeliveryState::kPending ||
                 before.count(other) != 0,
             "overtaken");
      }
      before.insert(id);
      number = std::max(number, row.attempts + 1);
      maybe_sent = maybe_sent || row.maybe_sent;
    }
    sent_ += said.size();
    must(!busy_, "two at a time");
    must(attempt.number == number, "wrong number");
    must(attempt.maybe_sent == maybe_sent, "wrong maybe_sent");
    must(attempt.now == lane_.clock.now(), "wrong time");
    must(at >= not_before_, "earlier than the sink has asked for");
    must(lane_.script.sent.size() < 2 || lives_ != lives_at_last_ || at >= last_end_ + min_interval_,
         "too close");

    busy_ = true;
    Outcome outcome = react(n, attempt);
    busy_ = false;
    const Instant end = lane_.clock.instant();
    last_end_ = end;
    lives_at_last_ = lives_;
    if (outcome.kind == Outcome::Kind::kDelivered || outcome.kind == Outcome::Kind::kUnknown) {
      arrived_.push_back(at);
      const auto minute =
          std::count_if(arrived_.begin(), arrived_.end(), [&](Instant one) { return one > at - 1min; });
      must(per_minute_ == 0 || minute <= per_minute_, "too many in a minute");
    }
    if (outcome.retry_after) {
      not_before_ = end + std::min(*outcome.retry_after, SendLoop::kMaxHint);
      stepped_ = false;
    }
    // Failures in a row, of one process: few in a minute.
    if (outcome.kind == Outcome::Kind::kDelivered || outcome.reason == Reason::kBadRequest) {
      run_.clear();
    } else {
      run_.push_back(at);
      const auto minute =
          std::count_if(run_.begin(), run_.end(), [&](Instant one) { return one > at - 1min; });
      must(minute <= 30, "hammered");
    }
    must(!dead_at_ || lives_ != dead_life_ || at >= *dead_at_ + SendLoop::kFirstProbe,
         "a dead sink is not left alone");
    dead_at_.reset();
    if (outcome.sink_is_dead) {
      dead_at_ = end;
      dead_life_ = lives_;
    }
    return outcome;
  }
  Outcome react(const Notification& n, const sinks::Attempt& attempt) {
    lane_.clock.advance(Duration(draw(0, 500)));
    const auto poisons = [&](const Notification* one) { return poisoned_.count(one->key) != 0; };
    const bool poisoned = poisoned_.count(n.key) != 0 ||
                          std::any_of(attempt.speaks_for.begin(), attempt.speaks_for.end(), poisons);
    if (poisoned && mood_ == Mood::kWell) return down();
    switch (mood_) {
      case Mood::kWell:
        return Outcome::delivered("ok");
      case Mood::kDown:
        if (draw(0, 1) == 0) lane_.clock.advance(attempt.timeout);
        return down();
      case Mood::kLimited:
        return Outcome::retry(Reason::kRateLimited, "429", Duration(draw(1, 1'500'000)));
      case Mood::kRevoked:
        return revoked();
      case Mood::kLosing:
        return Outcome::unknown("lost");
      case Mood::kStrict:
        return draw(0, 1) == 0 ? refused() : Outcome::delivered("ok");
    }
    return down();
  }

  std::mt19937_64 random_;
  std::uint64_t seed_ = 0;
  bool has_fallback_ = false;
  Duration min_interval_{0};
  std::uint32_t per_minute_ = 0;
  std::size_t sent_ = 0;          // notifications, not messages
  std::vector<Instant> arrived_;  // messages of this process
  OneLane lane_;
  Mood mood_ = Mood::kWell;
  int last_ = 0;
  std::size_t lives_ = 0;
  std::size_t lives_at_last_ = 0;
  std::size_t dead_life_ = 0;
  std::set<std::string> superseded_;
  std::set<std::string> poisoned_;
  bool busy_ = false;
  bool stepped_ = false;
  Instant not_before_;
  Instant last_end_;
  std::optional<Instant> dead_at_;
  std::vector<Instant> run_;
};

}  // namespace

TEST_CASE("send_loop: whatever the sink does, nothing is lost, nothing overtakes, nothing is hammered",
          "[run][send_loop][property]") {
  // LOGBELL_SEED=7 tells one story again; LOGBELL_SEEDS=10000 tells more of them than every run has time for.
  const char* chosen = std::getenv("LOGBELL_SEED");  // NOLINT(concurrency-mt-unsafe): no thread is running
  const char* count = std::getenv("LOGBELL_SEEDS");  // NOLINT(concurrency-mt-unsafe): no thread is running
  const std::uint64_t first = chosen != nullptr ? std::stoull(chosen) : 1;
  const std::uint64_t seeds = count != nullptr ? std::stoull(count) : 1000;
  const std::uint64_t last = chosen != nullptr ? first : seeds;
  for (std::uint64_t seed = first; seed <= last; ++seed) {
    Chaos chaos(seed);
    chaos.live();
    chaos.judge();
  }
}

// --- threads

TEST_CASE("send_loop: F42 a sink that hangs delays no other, and the view of neither",
          "[run][send_loop][F42]") {
  // The hung one's sink waits until the healthy one has delivered everything; waiting for each other, or for
  // the view, would never end.
  constexpr int kCount = 200;
  std::mutex mutex;
  std::condition_variable changed;
  bool hanging = false;
  bool released = false;

  OneLane hung;
  OneLane well;
  hung.script.answer = [&](const Notification&, const sinks::Attempt& attempt) {
    std::unique_lock lock(mutex);
    hanging = true;
    changed.notify_all();
    changed.wait(lock, [&] { return released; });
    hung.clock.advance(attempt.timeout);
    return Outcome::retry(Reason::kTimeout, "no answer within 15s");
  };
  hung.add(hung.firing("a"));
  for (int i = 0; i < kCount; ++i)
    well.add(well.firing(fmt::format("{}", i)));

  std::thread stuck([&] { hung.loop->step(); });
  {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return hanging; });
  }
  std::thread healthy([&] { well.now(); });
  // Somebody looks at /api/v1/sinks meanwhile.
  bool seen = true;
  while (well.loop->view().delivered < kCount)
    seen = seen && hung.loop->view().pending == 1;
  healthy.join();
  CHECK(seen);
  CHECK(well.loop->view().pending == 0);
  CHECK(hung.loop->view().attempts == 0);
  {
    const std::lock_guard lock(mutex);
    released = true;
    changed.notify_all();
  }
  stuck.join();
  CHECK(hung.loop->view().state == SinkState::kFailing);
  CHECK(hung.loop->view().last_error == "timeout: no answer within 15s");
}

}  // namespace logbell::engine

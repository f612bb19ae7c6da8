// Writer: what is committed when, that nothing leaves before, and what happens while the store refuses.
#include "engine/run/writer.h"

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <thread>

#include <catch2/catch.hpp>

#include "rules/time.h"
#include "tests/support/fake_clock.h"

using namespace std::chrono_literals;
using namespace logbell::engine;
using logbell::rules::Notification;
using logbell::rules::NotifyReason;
using logbell::tests::FakeClock;
namespace rules = logbell::rules;

namespace {

Notification firing(const std::string& key, NotifyReason reason = NotifyReason::kFirstFiring) {
  Notification notification;
  notification.key = key;
  notification.sink = notification.lane = "chat";
  notification.reason = reason;
  notification.priority = reason == NotifyReason::kRepeat ? 2 : 0;
  return notification;
}

Tick quiet(const std::string& key, const std::string& value, double matches) {
  Tick tick;
  tick.entries.push_back({key, value});
  tick.counters.push_back({"logbell_x_total", {}, matches});
  return tick;
}

Tick ringing(const std::string& key, NotifyReason reason = NotifyReason::kFirstFiring) {
  Tick tick = quiet("core/a", key, 1);
  tick.notifications.push_back(firing(key, reason));
  tick.must_sync = true;
  return tick;
}

Settlement settled(DeliveryId id, DeliveryState state) {
  Settlement settlement;
  settlement.id = id;
  settlement.state = state;
  settlement.outcome = state == DeliveryState::kDelivered ? "delivered" : "rejected";
  settlement.reason = state == DeliveryState::kDelivered ? "ok" : "gone";
  return settlement;
}

// A store of lists that refuses when told to.
struct WriterFixture {
  explicit WriterFixture(std::vector<StoredEntry> totals = {},
                         std::size_t max_held_bytes = Writer::kMaxHeldBytes,
                         std::size_t max_held = Writer::kMaxHeld) {
    Writer::Options options;
    options.clock = &clock;
    options.log = &log;
    options.metrics = &metrics;
    options.commit = [this](const Commit& commit) -> rules::Result<std::vector<Delivery>> {
      ++attempts;
      if (refusing)
        return rules::fail(rules::ErrorCode::kIo, "write to the state file: no space left on device");
      commits.push_back(commit);
      std::vector<Delivery> added;
      for (const Settlement& settlement : commit.settlements) {
        for (const Notification& fallback : settlement.fallbacks)
          added.push_back({++last_id, fallback, DeliveryState::kPending, 0, std::nullopt, false, {}});
      }
      for (const Notification& notification : commit.notifications)
        added.push_back({++last_id, notification, DeliveryState::kPending, 0, std::nullopt, false, {}});
      return added;
    };
    options.broken = [this] { return is_broken; };
    options.in_place = [this] { return in_place; };
    options.deliver = [this](Delivery delivery) {
      if (delivery.notification.lane == "removed") return false;
      delivered.push_back(std::move(delivery));
      return true;
    };
    options.on_broken = [this] { ++broken_calls; };
    options.totals = std::move(totals);
    options.max_held_bytes = max_held_bytes;
    options.max_held = max_held;
    writer = std::make_unique<Writer>(std::move(options));
  }
  // What a send loop's call answers, with the writer stepped by hand meanwhile.
  bool begin(DeliveryId id) {
    bool may = false;
    std::thread lane([&] { may = writer->begin({id}); });
    writer->wait(clock.instant() + 1h);
    writer->step();
    lane.join();
    return may;
  }
  void settle(const Settlement& settlement) {
    std::thread lane([&] { writer->settle("chat", {settlement}); });
    writer->wait(clock.instant() + 1h);
    writer->step();
    lane.join();
  }
  std::string scrape() const { return metrics.render({{}, {}, clock.now()}, ProcessUse{}); }
  bool shows(const std::string& line) const { return scrape().find("\n" + line + "\n") != std::string::npos; }

  FakeClock clock;
  std::vector<std::string> lines;
  Log log{{&clock, 30s, [this](std::string_view line) { lines.emplace_back(line); }}};
  Metrics metrics{"1", clock.now()};
  bool refusing = false;
  bool is_broken = false;
  bool in_place = true;
  int attempts = 0;
  int broken_calls = 0;
  DeliveryId last_id = 0;
  std::vector<Commit> commits;
  std::vector<Delivery> delivered;
  std::unique_ptr<Writer> writer;
};

}  // namespace

TEST_CASE("writer: a notification is committed at once, synced, and leaves after that", "[run][writer]") {
  WriterFixture f;
  REQUIRE(f.writer->submit(ringing("k1")));
  CHECK(f.delivered.empty());
  f.writer->step();
  REQUIRE(f.commits.size() == 1);
  CHECK(f.commits[0].sync);
  CHECK(f.commits[0].notifications.size() == 1);
  REQUIRE(f.delivered.size() == 1);
  CHECK(f.delivered[0].id == 1);
  CHECK(f.writer->idle());
}

TEST_CASE("writer: what tells nobody is committed after a second, not synced, the last value of each key",
          "[run][writer]") {
  WriterFixture f;
  f.metrics.publish({{"logbell_x_total", {}, 0}}, true);
  f.writer->submit(quiet("core/a", "1", 1));
  f.writer->step();
  f.clock.advance(999ms);
  f.writer->submit(quiet("core/a", "2", 2));
  f.writer->submit(quiet("core/b", "3", 3));
  f.writer->step();
  CHECK(f.commits.empty());
  CHECK(f.shows("logbell_x_total 0"));  // nobody sees what a crash would take back
  f.clock.advance(1ms);
  f.writer->step();
  REQUIRE(f.commits.size() == 1);
  CHECK_FALSE(f.commits[0].sync);
  REQUIRE(f.commits[0].entries.size() == 2);
  for (const StoredEntry& entry : f.commits[0].entries)
    CHECK(entry.value == (entry.key == "core/a" ? "2" : "3"));
  CHECK(f.shows("logbell_x_total 3"));
}

TEST_CASE("writer: a MiB of entries is committed without waiting", "[run][writer]") {
  WriterFixture f;
  f.writer->submit(quiet("core/a", std::string(Writer::kMaxBytes - 100, 'x'), 1));
  f.writer->step();
  CHECK(f.commits.empty());
  f.writer->submit(quiet("core/a", std::string(Writer::kMaxBytes - 100, 'y'), 1));  // in its place
  f.writer->step();
  CHECK(f.commits.empty());
  f.writer->submit(quiet("core/b", std::string(200, 'x'), 1));
  f.writer->step();
  CHECK(f.commits.size() == 1);
}

TEST_CASE("writer: who asks hears when what may not wait is committed, or refused", "[run][writer]") {
  WriterFixture f;
  int called = 0;
  f.writer->submit(ringing("k1"));
  f.writer->after_commit([&] {
    CHECK(f.commits.size() == 1);
    ++called;
  });
  CHECK(called == 0);
  f.writer->step();
  CHECK(called == 1);
  f.writer->submit(quiet("core/a", "1", 1));
  f.writer->after_commit([&] { ++called; });
  f.writer->step();
  CHECK(called == 2);
  CHECK(f.commits.size() == 1);
  f.refusing = true;
  f.writer->submit(ringing("k2"));
  f.writer->after_commit([&] { ++called; });
  f.writer->step();
  CHECK(called == 3);
  f.writer->step();
  CHECK(called == 3);
}

TEST_CASE("writer: what has queued up is one commit", "[run][writer]") {
  WriterFixture f;
  for (int i = 0; i < 50; ++i)
    f.writer->submit(ringing("k" + std::to_string(i)));
  f.writer->step();
  CHECK(f.commits.size() == 1);
  REQUIRE(f.delivered.size() == 50);
  CHECK(f.delivered[49].notification.key == "k49");
}

TEST_CASE("writer: nothing is sent before its mark is committed, nothing forgotten once settled",
          "[run][writer]") {
  WriterFixture f;
  CHECK(f.begin(7));
  REQUIRE(f.commits.size() == 1);
  CHECK(f.commits[0].in_flight == std::vector<DeliveryId>{7});
  f.settle(settled(7, DeliveryState::kDelivered));
  REQUIRE(f.commits.size() == 2);
  REQUIRE(f.commits[1].settlements.size() == 1);
  CHECK(f.commits[1].settlements[0].id == 7);
  CHECK(f.shows("logbell_notifications_total{outcome=\"delivered\",reason=\"ok\",sink=\"chat\"} 1"));
}

TEST_CASE("writer: how deliveries ended is counted on over a restart", "[run][writer]") {
  std::vector<StoredEntry> kept;
  {
    WriterFixture f;
    f.settle(settled(7, DeliveryState::kDelivered));
    f.settle(settled(8, DeliveryState::kDelivered));
    for (const Commit& commit : f.commits) {
      for (const StoredEntry& entry : commit.entries)
        kept.push_back(entry);
    }
  }
  WriterFixture again(kept);
  CHECK(again.shows("logbell_notifications_total{outcome=\"delivered\",reason=\"ok\",sink=\"chat\"} 2"));
}

TEST_CASE("writer: a rejected delivery and who speaks instead are one synced commit", "[run][writer]") {
  WriterFixture f;
  Settlement dead = settled(3, DeliveryState::kDead);
  dead.fallbacks.push_back(firing("k1-fallback"));
  f.settle(dead);
  REQUIRE(f.commits.size() == 1);
  CHECK(f.commits[0].sync);
  CHECK(f.commits[0].settlements[0].fallbacks.size() == 1);
  REQUIRE(f.delivered.size() == 1);
  CHECK(f.delivered[0].notification.key == "k1-fallback");
}

TEST_CASE("writer: while the store refuses, alerts leave and everything else is kept", "[run][writer][F36]") {
  WriterFixture f;
  f.refusing = true;
  f.writer->submit(ringing("first"));
  f.writer->step();
  REQUIRE(f.delivered.size() == 1);
  CHECK(f.delivered[0].id < 0);
  CHECK(f.delivered[0].notification.key == "first");
  REQUIRE(f.writer->failing_since().has_value());
  CHECK(f.shows("logbell_deliveries_undurable_total 1"));
  // The next one leaves without another attempt at the store; a repeat does not leave at all.
  f.writer->submit(ringing("second"));
  f.writer->submit(ringing("again", NotifyReason::kRepeat));
  f.writer->step();
  CHECK(f.attempts == 1);
  REQUIRE(f.delivered.size() == 2);
  CHECK(f.delivered[1].notification.key == "second");
  CHECK(f.delivered[1].id != f.delivered[0].id);
  // The first arrives at its sink; the second is still being tried when the store works again.
  CHECK(f.begin(f.delivered[0].id));
  f.settle(settled(f.delivered[0].id, DeliveryState::kDelivered));
  f.refusing = false;
  f.clock.advance(Writer::kLastRetry);
  f.writer->step();
  REQUIRE(f.commits.size() == 2);
  CHECK(f.commits[0].notifications.size() == 3);
  CHECK_FALSE(f.writer->failing_since().has_value());
  // The first one's row is settled at once, the repeat is sent now, the second one's row follows its
  // delivery.
  REQUIRE(f.commits[1].settlements.size() == 1);
  CHECK(f.commits[1].settlements[0].id == 1);
  CHECK(f.commits[1].settlements[0].state == DeliveryState::kDelivered);
  REQUIRE(f.delivered.size() == 3);
  CHECK(f.delivered[2].notification.key == "again");
  CHECK(f.begin(f.delivered[1].id));
  CHECK(f.commits[2].in_flight == std::vector<DeliveryId>{2});
  f.settle(settled(f.delivered[1].id, DeliveryState::kDelivered));
  CHECK(f.commits[3].settlements[0].id == 2);
  CHECK(f.writer->idle());
}

TEST_CASE("writer: a repeat that waits for the disk does not call firing what was told to be over",
          "[run][writer][F36]") {
  WriterFixture f;
  f.refusing = true;
  const auto tick = [](const std::string& key, NotifyReason reason, bool fires,
                       const std::string& lane = "chat") {
    Tick one = ringing(key, reason);
    one.notifications[0].lane = lane;
    one.notifications[0].alerts.emplace_back();
    one.notifications[0].alerts[0].labels = {{"alertname", "A"}};
    one.notifications[0].alerts[0].state = fires ? rules::AlertState::kFiring : rules::AlertState::kResolved;
    return one;
  };
  f.writer->submit(tick("firing", NotifyReason::kFirstFiring, true));
  f.writer->step();
  const auto reason = GENERATE(NotifyReason::kRepeat, NotifyReason::kRefresh);
  Tick old = tick("old", reason, true);
  old.notifications[0].created_at = f.clock.now() + 1h;  // the clock is set back after it
  f.writer->submit(old);
  f.writer->submit(tick("elsewhere", reason, true, "other"));
  f.writer->submit(tick("over", NotifyReason::kAllResolved, false));
  f.writer->step();
  f.writer->submit(tick("later", reason, true));
  f.refusing = false;
  f.clock.advance(Writer::kLastRetry);
  f.writer->step();
  std::vector<std::string> keys;
  for (const Delivery& delivery : f.delivered)
    keys.push_back(delivery.notification.key);
  CHECK(keys == std::vector<std::string>{"firing", "over", "elsewhere", "later"});
}

TEST_CASE("writer: the store is asked again with growing pauses", "[run][writer][F36]") {
  WriterFixture f;
  f.refusing = true;
  f.writer->submit(ringing("k"));
  for (int i = 0; i < 600; ++i) {  // a minute
    f.writer->step();
    f.clock.advance(100ms);
  }
  CHECK(f.attempts > 12);
  CHECK(f.attempts < 25);
  CHECK(f.delivered.size() == 1);
  CHECK(f.lines.size() < 5);
}

TEST_CASE("writer: a send loop does not wait for a disk that is full", "[run][writer][F36]") {
  WriterFixture f;
  f.refusing = true;
  f.writer->submit(ringing("k"));
  f.writer->step();
  CHECK(f.begin(7));  // an older row's retry
  Settlement dead = settled(7, DeliveryState::kDead);
  dead.fallbacks.push_back(firing("7-fallback"));
  f.settle(dead);
  // Who speaks instead speaks now.
  REQUIRE(f.delivered.size() == 2);
  CHECK(f.delivered[1].notification.key == "7-fallback");
  f.refusing = false;
  f.clock.advance(Writer::kLastRetry);
  f.writer->step();
  REQUIRE(f.commits.size() == 1);
  CHECK(f.commits[0].settlements[0].id == 7);
  CHECK(f.commits[0].notifications.size() == 2);
  CHECK(f.delivered.size() == 2);
}

TEST_CASE("writer: an alert that a dead sink refused while the disk was full still reaches the next sink",
          "[run][writer][F36]") {
  WriterFixture f;
  f.refusing = true;
  f.writer->submit(ringing("k"));
  f.writer->step();
  Settlement dead = settled(f.delivered.at(0).id, DeliveryState::kDead);
  dead.fallbacks.push_back(firing("k-fallback"));
  f.settle(dead);
  REQUIRE(f.delivered.size() == 2);
  CHECK(f.delivered[1].notification.key == "k-fallback");
  CHECK(f.delivered[1].id < 0);
}

TEST_CASE("writer: of what waits it is kept who was told in its place, through a full disk too", "[run][writer][F36]") {
  WriterFixture f;
  f.writer->submit(ringing("durable"));
  f.writer->step();
  f.refusing = true;
  f.writer->submit(ringing("undurable"));
  f.writer->step();
  REQUIRE(f.delivered.size() == 2);
  for (const Delivery& delivery : std::vector<Delivery>(f.delivered)) {
    Settlement told = settled(delivery.id, DeliveryState::kPending);
    told.elsewhere = "mail";
    told.fallbacks.push_back(firing(delivery.notification.key + "/mail"));
    f.settle(told);
    f.settle(settled(delivery.id, DeliveryState::kPending));  // tried again since
  }
  f.refusing = false;
  f.clock.advance(Writer::kLastRetry);
  f.writer->step();
  std::map<std::string, std::string> elsewhere;  // by id
  for (const Commit& commit : f.commits) {
    for (const Settlement& settlement : commit.settlements)
      elsewhere[std::to_string(settlement.id)] += settlement.elsewhere + ";";
  }
  // The second one's row came with the first commit after it.
  CHECK(elsewhere == std::map<std::string, std::string>{{"1", "mail;"}, {"2", "mail;"}});
}

TEST_CASE("writer: a failed fsync ends it once, and what is on its way may still leave",
          "[run][writer][F37]") {
  WriterFixture f;
  f.refusing = f.is_broken = true;
  f.writer->submit(ringing("k"));
  f.writer->step();
  CHECK(f.broken_calls == 1);
  REQUIRE(f.delivered.size() == 1);  // its last gasp
  CHECK(f.begin(f.delivered[0].id));
  CHECK_FALSE(f.begin(7));  // in the store, and comes after the restart
  f.clock.advance(1h);
  f.writer->step();
  CHECK(f.broken_calls == 1);
  CHECK(f.attempts == 1);
}

TEST_CASE("writer: with nothing to write it looks nevertheless whether its file is still there",
          "[run][writer][F17]") {
  WriterFixture f;
  f.writer->step();
  CHECK(f.attempts == 0);
  f.in_place = false;  // deleted
  rules::Instant next = f.writer->step();
  CHECK(f.attempts == 0);  // it has just looked
  CHECK(next - f.clock.instant() <= Writer::kLookEvery);
  f.clock.advance(Writer::kLookEvery);
  f.refusing = true;  // and cannot be made anew
  next = f.writer->step();
  CHECK(f.attempts == 1);
  CHECK(f.writer->failing_since());
  CHECK(f.writer->failing_reason() == "write to the state file: no space left on device");
  CHECK(next - f.clock.instant() <= Writer::kFirstRetry);
  f.refusing = false;
  f.clock.advance(Writer::kFirstRetry);
  f.writer->step();
  CHECK(f.commits.size() == 1);
  CHECK_FALSE(f.writer->failing_since());
  CHECK(f.writer->failing_reason().empty());
  f.in_place = true;
  for (int i = 0; i < 5; ++i) {
    f.clock.advance(Writer::kLookEvery);
    f.writer->step();
  }
  CHECK(f.attempts == 2);
}

TEST_CASE("writer: a notification for a lane that is gone ends dead and is counted", "[run][writer]") {
  WriterFixture f;
  Tick tick = ringing("k");
  tick.notifications[0].lane = "removed";
  f.writer->submit(std::move(tick));
  f.writer->step();
  REQUIRE(f.commits.size() == 2);
  CHECK(f.commits[1].settlements[0].state == DeliveryState::kDead);
  CHECK(f.shows("logbell_notifications_dropped_total{reason=\"no_lane\"} 1"));
}

TEST_CASE("writer: unsent repeats replace each other while the store refuses", "[run][writer][F36]") {
  WriterFixture f;
  f.refusing = true;
  f.writer->submit(ringing("first"));
  f.writer->step();
  for (int i = 0; i < 100; ++i) {
    Tick tick = ringing("refresh" + std::to_string(i), NotifyReason::kRefresh);
    tick.notifications[0].replaces = "group";
    f.writer->submit(std::move(tick));
  }
  f.writer->step();
  f.refusing = false;
  f.clock.advance(Writer::kLastRetry);
  f.writer->step();
  REQUIRE(f.commits[0].notifications.size() == 2);
  CHECK(f.commits[0].notifications[1].key == "refresh99");
}

TEST_CASE("writer: the core waits when too much is queued", "[run][writer]") {
  WriterFixture f;
  const std::string mebibyte(1024 * 1024, 'x');
  for (int i = 0; i < 7; ++i)
    f.writer->submit(quiet("core/" + std::to_string(i), mebibyte, 1));
  bool taken = false;
  CHECK(f.writer->waits() == 0);
  CHECK(f.writer->queued_bytes() >= 7 * mebibyte.size());
  std::thread core([&] { taken = f.writer->submit(quiet("core/7", mebibyte + mebibyte, 1)); });
  while (f.writer->waits() == 0)
    std::this_thread::yield();
  f.writer->step();
  core.join();
  CHECK(taken);
  f.writer->close();
  CHECK_FALSE(f.writer->submit(quiet("core/8", "late", 1)));
  f.writer->step();
  CHECK(f.writer->idle());
  std::size_t entries = 0;
  for (const Commit& commit : f.commits)
    entries += commit.entries.size();
  CHECK(entries == 8);
}

TEST_CASE("writer: while the store refuses, repeats beyond the bound go, counted; then the core waits",
          "[run][writer][F36]") {
  constexpr std::size_t kMost = 50;
  WriterFixture f({}, Writer::kMaxHeldBytes, kMost);
  f.refusing = true;
  f.writer->submit(ringing("first"));
  f.writer->step();
  Tick many = quiet("core/many", "x", 1);
  for (std::size_t i = 0; i < kMost - 1; ++i)
    many.notifications.push_back(firing(std::to_string(i), NotifyReason::kFirstFiring));
  for (const char* repeat : {"repeat a", "repeat b"}) {
    many.notifications.push_back(firing(repeat, NotifyReason::kRepeat));
    many.notifications.back().lane = "removed";  // those cannot have left
  }
  f.writer->submit(std::move(many));
  f.writer->step();
  f.clock.advance(Writer::kLastRetry);
  f.writer->step();
  CHECK(f.shows("logbell_notifications_dropped_total{reason=\"no_room\"} 2"));
  f.writer->submit(ringing("one more"));
  f.clock.advance(Writer::kLastRetry);
  f.writer->step();
  f.writer->step();  // says that it is full
  bool taken = false;
  std::thread core([&] { taken = f.writer->submit(quiet("core/a", "a", 1)); });
  while (f.writer->waits() == 0)
    std::this_thread::yield();
  f.refusing = false;
  f.clock.advance(Writer::kLastRetry);
  f.writer->step();
  f.writer->step();
  core.join();
  CHECK(taken);
}

TEST_CASE("writer: while the store refuses, what is kept is bounded in bytes too", "[run][writer][F36]") {
  WriterFixture f;
  f.refusing = true;
  Tick large = quiet("core/large", "x", 1);
  const std::string text(Writer::kMaxHeldNotificationBytes / 8, 'x');
  for (int i = 0; i < 6; ++i) {
    large.notifications.push_back(firing("first " + std::to_string(i)));
    large.notifications.back().text = text;
  }
  for (int i = 0; i < 4; ++i) {
    large.notifications.push_back(firing("repeat " + std::to_string(i), NotifyReason::kRepeat));
    large.notifications.back().text = text;
  }
  f.writer->submit(std::move(large));
  f.writer->step();
  CHECK(f.shows("logbell_notifications_dropped_total{reason=\"no_room\"} 3"));
}

TEST_CASE("writer: while the store refuses, the core waits once too much state is kept",
          "[run][writer][F36]") {
  WriterFixture f({}, 1000);
  f.refusing = true;
  f.writer->submit(quiet("core/a", std::string(600, 'x'), 1));
  f.writer->step();
  f.clock.advance(Writer::kMaxAge);
  f.writer->step();
  CHECK(f.attempts == 1);
  f.writer->submit(quiet("core/a", std::string(600, 'y'), 1));  // in its place
  f.writer->step();
  f.writer->submit(quiet("core/b", std::string(600, 'x'), 1));
  f.writer->step();
  CHECK(f.writer->waits() == 0);
  f.writer->step();  // says that it is full
  bool taken = false;
  std::thread core([&] { taken = f.writer->submit(quiet("core/c", "c", 1)); });
  while (f.writer->waits() == 0)
    std::this_thread::yield();
  f.refusing = false;
  f.clock.advance(Writer::kLastRetry);
  f.writer->step();
  f.writer->step();
  core.join();
  CHECK(taken);
}

TEST_CASE("writer: ended, it keeps nobody waiting", "[run][writer]") {
  WriterFixture f;
  bool may = true;
  std::thread lane([&] { may = f.writer->begin({1}); });
  f.writer->wait(f.clock.instant() + 1h);
  f.writer->end();
  lane.join();
  CHECK_FALSE(may);
  CHECK_FALSE(f.writer->begin({2}));
  f.writer->settle("chat", {settled(2, DeliveryState::kDelivered)});
}

TEST_CASE("writer: what left undurably to a lane that is over is given up once the store has it",
          "[run][writer][F36]") {
  WriterFixture f;
  f.refusing = true;
  f.writer->submit(ringing("first"));
  f.writer->step();
  REQUIRE(f.delivered.size() == 1);
  const auto works_again = [&] {
    f.refusing = false;
    f.clock.advance(Writer::kLastRetry);
    f.writer->step();
  };
  const auto forget = [&] {
    f.writer->forget_lane("another");
    f.writer->forget_lane("chat");
    CHECK_FALSE(f.writer->idle());
    f.writer->step();
  };
  SECTION("before that") {
    forget();
    CHECK(f.commits.empty());
    works_again();
  }
  SECTION("after it") {
    works_again();
    CHECK(f.commits.size() == 1);
    forget();
  }
  REQUIRE(f.commits.size() == 2);
  REQUIRE(f.commits[1].settlements.size() == 1);
  CHECK(f.commits[1].settlements[0].id == f.last_id);
  CHECK(f.commits[1].settlements[0].state == DeliveryState::kDead);
  CHECK(f.commits[1].settlements[0].reason == "no_lane");
  CHECK(f.shows("logbell_notifications_dropped_total{reason=\"no_lane\"} 1"));
  CHECK(f.writer->idle());
}

TEST_CASE("writer: over the real store, what left undurably is in the history and nothing is sent twice",
          "[run][writer][F36]") {
  std::string directory = "/tmp/logbell-writer-XXXXXX";
  REQUIRE(mkdtemp(directory.data()) != nullptr);
  FakeClock clock;
  {
    auto opened = Store::open(directory, clock.now());
    REQUIRE(opened);
    Store& store = *opened->store;
    Log log({&clock, 30s, [](std::string_view) {}});
    Metrics metrics("1", clock.now());
    bool refusing = true;
    std::vector<Delivery> delivered;
    Writer::Options options;
    options.clock = &clock;
    options.log = &log;
    options.metrics = &metrics;
    options.commit = [&](const Commit& commit) -> rules::Result<std::vector<Delivery>> {
      if (refusing) return rules::fail(rules::ErrorCode::kIo, "full");
      return store.commit(commit);
    };
    options.broken = [&] { return store.broken(); };
    options.deliver = [&](Delivery delivery) {
      delivered.push_back(std::move(delivery));
      return true;
    };
    options.on_broken = [] {};
    Writer writer(std::move(options));
    writer.submit(ringing("k1"));
    writer.step();
    REQUIRE(delivered.size() == 1);
    std::thread lane([&] { writer.settle("chat", {settled(delivered[0].id, DeliveryState::kDelivered)}); });
    writer.wait(clock.instant() + 1h);
    writer.step();
    lane.join();
    refusing = false;
    clock.advance(Writer::kLastRetry);
    writer.step();
    CHECK(delivered.size() == 1);
    CHECK(store.undelivered()->empty());
    const auto history = store.history(10);
    REQUIRE(history->size() == 1);
    CHECK(history->front().key == "k1");
    CHECK(history->front().state == DeliveryState::kDelivered);
  }
  std::filesystem::remove_all(directory);
}

TEST_CASE("writer: what an earlier process has told does not leave again while the disk is full",
          "[run][writer][F36]") {
  std::string directory = "/tmp/logbell-writer-XXXXXX";
  REQUIRE(mkdtemp(directory.data()) != nullptr);
  FakeClock clock;
  {
    auto opened = Store::open(directory, clock.now());
    REQUIRE(opened);
    Store& store = *opened->store;
    Log log({&clock, 30s, [](std::string_view) {}});
    Metrics metrics("1", clock.now());
    bool refusing = false;
    std::vector<Delivery> delivered;
    const auto process = [&] {
      Writer::Options options;
      options.clock = &clock;
      options.log = &log;
      options.metrics = &metrics;
      options.commit = [&](const Commit& commit) -> rules::Result<std::vector<Delivery>> {
        if (refusing) return rules::fail(rules::ErrorCode::kIo, "full");
        return store.commit(commit);
      };
      options.broken = [&] { return store.broken(); };
      options.knows = [&](const std::string& key) { return store.knows(key).value_or(false); };
      options.deliver = [&](Delivery delivery) {
        delivered.push_back(std::move(delivery));
        return true;
      };
      options.on_broken = [] {};
      return std::make_unique<Writer>(std::move(options));
    };
    std::unique_ptr<Writer> writer = process();
    writer->submit(ringing("told"));
    writer->submit(ringing("waits"));
    writer->step();
    REQUIRE(delivered.size() == 2);
    std::thread lane([&] { writer->settle("chat", {settled(delivered[0].id, DeliveryState::kDelivered)}); });
    writer->wait(clock.instant() + 1h);
    writer->step();
    lane.join();
    CHECK(store.knows("told").value());
    CHECK(store.knows("waits").value());
    CHECK_FALSE(store.knows("new").value());

    writer = process();
    refusing = true;
    for (const char* key : {"told", "waits", "new"})
      writer->submit(ringing(key));
    writer->step();
    REQUIRE(delivered.size() == 3);
    CHECK(delivered[2].notification.key == "new");
    refusing = false;
    clock.advance(Writer::kLastRetry);
    writer->step();
    CHECK(delivered.size() == 3);
    CHECK(store.undelivered()->size() == 2);
  }
  std::filesystem::remove_all(directory);
}

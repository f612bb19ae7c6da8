// Whose heartbeats are missing, over restarts and reloads.
#include "engine/run/heard.h"

#include <catch2/catch.hpp>
#include <fmt/format.h>

#include "tests/support/fake_clock.h"

namespace logbell::engine {
namespace {

using namespace std::chrono_literals;
using rules::Duration;
using tests::FakeClock;
using Lines = std::vector<std::string>;
using Word = Heard::Word;

struct HeardFixture {
  HeardFixture() { start(); }
  // Another process, with what the one before has stored.
  void start() {
    Heard::Options options;
    options.clock = &clock;
    options.tell = [this](Condition condition) {
      if (condition.active)
        summary = condition.summary;
      else if (!firing(condition))
        return;  // nothing changes by it
      told.push_back(fmt::format("{}{{{}}}{}", condition.alertname, condition.labels.get("heartbeat"),
                                 condition.active ? "+" : "-"));
      active[key(condition)] = condition.active;
    };
    options.store = [this](std::vector<StoredEntry> entries) {
      ++commits;
      for (StoredEntry& entry : entries) {
        if (entry.value)
          store[entry.key] = *entry.value;
        else
          store.erase(entry.key);
      }
    };
    options.wake = [this] { ++wakes; };
    std::vector<StoredEntry> stored{{"run/state_lost", "1"}};
    for (const auto& [name, value] : store)
      stored.push_back({name, value});
    heard = std::make_unique<Heard>(std::move(options), wanted, stored);
  }
  static std::string key(const Condition& condition) {
    return condition.alertname + std::string(condition.labels.get("heartbeat"));
  }
  bool firing(const Condition& condition) { return active[key(condition)]; }
  // The main thread looks every 5 s.
  void run(Duration span) {
    for (const rules::Instant end = clock.instant() + span; clock.instant() < end;) {
      clock.advance(std::min<Duration>(5s, std::chrono::ceil<Duration>(end - clock.instant())));
      heard->tend();
    }
  }
  Lines news() { return std::exchange(told, {}); }

  FakeClock clock;
  std::map<std::string, ListenedFor> wanted{{"api", {}}};  // every minute, two minutes late at most
  std::map<std::string, std::string> store;
  std::map<std::string, bool> active;
  Lines told;
  std::string summary;
  int commits = 0;
  int wakes = 0;
  std::unique_ptr<Heard> heard;
};

const Lines kNothing;

TEST_CASE("heard: who is silent for longer than it may be is missing", "[run][heard]") {
  HeardFixture f;
  for (int i = 0; i < 10; ++i) {
    f.run(1min);
    CHECK(f.heard->hear("api", Word::kAlive, "{}"));
  }
  CHECK(f.news() == kNothing);
  f.run(3min - 5s);
  CHECK(f.news() == kNothing);
  CHECK_FALSE(f.heard->views()[0].missing);
  f.run(5s);
  CHECK(f.news() == Lines{"HeartbeatMissing{api}+"});
  CHECK(f.heard->views()[0].missing);
  CHECK(f.summary.find("since 2026-05-03T03:") != std::string::npos);
  f.run(1h);
  CHECK(f.news() == kNothing);
  f.heard->hear("api", Word::kAlive, "");
  CHECK(f.wakes == 1);
  f.heard->tend();
  CHECK(f.news() == Lines{"HeartbeatMissing{api}-"});
  CHECK_FALSE(f.heard->hear("nobody", Word::kAlive, ""));
  CHECK_FALSE(f.heard->token("nobody").has_value());
}

TEST_CASE("heard: one that never came is missing, too", "[run][heard]") {
  HeardFixture f;
  f.run(3min);
  CHECK(f.news() == Lines{"HeartbeatMissing{api}+"});
  CHECK(f.summary.find("Nothing is heard of api yet") == 0);
}

TEST_CASE("heard: what is bad there is an alert here, until it lives again", "[run][heard]") {
  HeardFixture f;
  f.heard->hear("api", Word::kFail,
                R"({"status": "failing", "reason": "rule Boom reaches nobody", "at": "now"})");
  CHECK(f.wakes == 1);
  f.heard->tend();
  CHECK(f.news() == Lines{"HeartbeatFailing{api}+"});
  CHECK(f.summary == "api says that something is bad there: rule Boom reaches nobody");
  f.heard->hear("api", Word::kFail, "again");
  f.run(2min);
  CHECK(f.news() == kNothing);
  f.heard->hear("api", Word::kAlive, "");
  f.heard->tend();
  CHECK(f.news() == Lines{"HeartbeatFailing{api}-"});
  // From anybody's curl; whatever stands in it.
  f.heard->hear("api", Word::kFail, "disk\nfull password=hunter2 \x1b[31m" + std::string(1000, 'x'));
  f.heard->tend();
  CHECK(f.summary.find("disk full") != std::string::npos);
  CHECK(f.summary.find("hunter2") == std::string::npos);
  CHECK(f.summary.find('\x1b') == std::string::npos);
  CHECK(f.summary.size() < Heard::kReasonBytes + 100);
}

TEST_CASE("heard: that it stops is no life, and is remembered", "[run][heard]") {
  HeardFixture f;
  f.heard->hear("api", Word::kAlive, "");
  f.run(1min);
  f.heard->hear("api", Word::kLog, R"({"status": "stopping"})");
  f.run(2min);
  CHECK(f.news() == Lines{"HeartbeatMissing{api}+"});
  CHECK(f.summary.find("At 2026-05-03T03:10:37Z it was asked to stop.") != std::string::npos);
}

TEST_CASE("heard: a restart here is no alarm about others, and no amnesty", "[run][heard]") {
  HeardFixture f;
  f.heard->hear("api", Word::kAlive, "");
  f.run(2min + 30s);
  f.heard->keep();
  f.clock.advance(2h);  // this one was down
  f.start();
  f.run(25s);
  CHECK(f.news() == kNothing);
  f.run(5s);
  CHECK(f.news() == Lines{"HeartbeatMissing{api}+"});
  // Killed, it forgets half a minute of silence at most, however often.
  f.heard->hear("api", Word::kAlive, "");
  f.run(5s);
  f.news();
  for (int i = 0; i < 6; ++i) {
    f.start();
    f.run(40s);
  }
  CHECK(f.news() == Lines{"HeartbeatMissing{api}+"});
  // What it was told of is known to the next one.
  f.heard->hear("api", Word::kFail, "no queue");
  f.heard->tend();
  f.active.clear();
  f.news();
  f.start();
  f.heard->tend();
  CHECK(f.news() == Lines{"HeartbeatFailing{api}+"});
  CHECK(f.heard->views()[0].reason == "no queue");
  CHECK(f.heard->views()[0].heard_at == f.clock.now());
}

TEST_CASE("heard: while the machine stood still nobody was listened to", "[run][heard]") {
  HeardFixture f;
  f.heard->hear("api", Word::kAlive, "");
  f.run(1min);
  f.clock.advance(8h);
  f.heard->tend();
  CHECK(f.news() == kNothing);
}

TEST_CASE("heard: it is stored when it is heard, and each half minute of silence", "[run][heard]") {
  HeardFixture f;
  f.heard->tend();
  f.commits = 0;
  f.run(5min);
  CHECK(f.commits == 10);
  f.store[std::string(Heard::kPrefix) + "api"] = "{\"silent\": 9e99, \"heard_at\": \"x\"";
  f.start();  // damaged: begins anew
  CHECK_FALSE(f.heard->views()[0].missing);
}

TEST_CASE("heard: a configuration that no longer listens ends what it raised", "[run][heard]") {
  HeardFixture f;
  f.wanted["batch"].every = 1h;
  f.heard->replace(f.wanted);
  f.heard->hear("api", Word::kFail, "");
  f.run(4min);
  CHECK(f.news() == Lines{"HeartbeatFailing{api}+", "HeartbeatMissing{api}+"});
  f.wanted.erase("api");
  f.heard->replace(f.wanted);
  CHECK(f.news() == Lines{"HeartbeatMissing{api}-", "HeartbeatFailing{api}-"});
  CHECK(f.store.size() == 1);
  CHECK_FALSE(f.heard->hear("api", Word::kAlive, ""));
  // The same over a restart.
  f.run(1min);
  f.wanted.clear();
  f.start();
  CHECK(f.store.empty());
}

}  // namespace
}  // namespace logbell::engine

// The schedule: who is drilled when, without anybody asking; and which proofs are too old.
#include "engine/run/drill_schedule.h"

#include <catch2/catch.hpp>
#include <fmt/format.h>

#include "tests/support/core_world.h"

namespace logbell::tests {
namespace {

using namespace std::chrono_literals;
using engine::Condition;
using engine::DrillDesk;
using engine::DrillSchedule;
using engine::DrillSettings;
using engine::ProofView;
using rules::Duration;
using rules::Timestamp;
using sinks::ProofLevel;

// Friday the first of May 2026, 08:00 UTC, and what comes after it.
const Timestamp kFriday = CoreWorld::at(0);

struct Schedule {
  Schedule() {
    world.pattern("error");
    world.sink("chat");
    world.sink("pager").pages = true;
    world.rule("A", "count_over_time(error[1m]) > 0", {"chat", "pager"});
    world.rule("B", "count_over_time(error[2m]) > 0", {"chat"});
    plan = world.plan();
  }
  void prove(std::size_t rule, const std::string& sink, Timestamp at) { proven[{rule, sink}] = at; }
  std::vector<ProofView> proofs(Timestamp now) const {
    std::vector<ProofView> views;
    for (std::size_t i = 0; i < plan->rules.size(); ++i) {
      for (const std::string& sink : plan->rules[i].sinks) {
        ProofView view;
        view.alert = plan->rules[i].name;
        view.rule = plan->rules[i].identity();
        view.sink = sink;
        view.conditional = conditional;
        view.now = now;
        view.ages = ages;
        const auto at = proven.find({i, sink});
        if (at != proven.end()) view.proofs.push_back({ProofLevel::kAccepted, at->second, "drill", "ok"});
        if (at != proven.end() && found && i == 0)
          view.proofs.push_back({ProofLevel::kReadBack, *found, "drill", "there"});
        if (missing && i == 0) view.failed = {ProofLevel::kReadBack, now, "drill", "not there"};
        view.asked = asked;
        if (seen && i == 0)
          view.proofs.push_back({ProofLevel::kAcknowledged, *seen, "drill", "Anna", "Anna"});
        views.push_back(view);
      }
    }
    return views;
  }
  // "chat: A B"
  std::vector<std::string> due(Timestamp now) {
    std::vector<std::string> lines;
    for (const DrillDesk::Request& request : schedule.due(*plan, settings, proofs(now), now)) {
      CHECK(request.scheduled);
      std::string line = request.sink + ":";
      for (const rules::AlertingRule& rule : plan->rules) {
        if (request.only_rules.count(rule.identity()) != 0) line += " " + rule.name;
      }
      lines.push_back(line);
    }
    return lines;
  }
  std::vector<std::string> expired(Timestamp now) const {
    std::vector<std::string> lines;
    for (const Condition& condition : schedule.expired(*plan, settings, proofs(now), now)) {
      CHECK(condition.alertname == "ProofExpired");
      if (condition.active) lines.push_back(fmt::format("{}", condition.labels.get("sink")));
    }
    return lines;
  }

  CoreWorld world;
  std::shared_ptr<const rules::Plan> plan;
  DrillSettings settings;
  std::map<std::pair<std::size_t, std::string>, Timestamp> proven;
  std::optional<Timestamp> asked;
  std::optional<Timestamp> seen;  // a message about A
  engine::ProofAges ages;
  bool conditional = false;
  bool missing = false;            // what was told of A
  std::optional<Timestamp> found;  // it was there
  DrillSchedule schedule{kFriday};
};

using Lines = std::vector<std::string>;

}  // namespace

TEST_CASE("drill schedule: what was never proven is drilled soon after the start, a pager in working hours",
          "[run][drill]") {
  Schedule schedule;
  CHECK(schedule.due(kFriday).empty());
  CHECK(schedule.due(kFriday + 4min).empty());
  CHECK(schedule.due(kFriday + 5min) == Lines{"chat: A B"});
  CHECK(schedule.due(kFriday + 6min).empty());
  CHECK(schedule.due(kFriday + 1h + 4min) == Lines{"pager: A"});
  // Nothing came of them: again after an hour, no sooner.
  CHECK(schedule.due(kFriday + 1h + 5min) == Lines{"chat: A B"});
  CHECK(schedule.due(kFriday + 2h + 3min).empty());
  CHECK(schedule.due(kFriday + 2h + 4min) == Lines{"pager: A"});
}

TEST_CASE("drill schedule: chat daily, in one message; a new rule alone", "[run][drill]") {
  Schedule schedule;
  schedule.prove(0, "pager", kFriday + 10h);
  schedule.prove(0, "chat", kFriday);
  CHECK(schedule.due(kFriday + 1h) == Lines{"chat: B"});
  schedule.prove(1, "chat", kFriday + 1h);
  CHECK(schedule.due(kFriday + 23h).empty());
  CHECK(schedule.due(kFriday + 24h) == Lines{"chat: A B"});
}

TEST_CASE("drill schedule: what was not found there is not proven by its receipt", "[run][drill][F53]") {
  Schedule schedule;
  for (const std::size_t rule : {0U, 1U})
    schedule.prove(rule, "chat", kFriday + 25h);
  schedule.prove(0, "pager", kFriday + 25h);
  CHECK(schedule.due(kFriday + 26h).empty());
  CHECK(schedule.expired(kFriday + 26h).empty());
  schedule.missing = true;
  CHECK(schedule.due(kFriday + 26h) == Lines{"chat: A"});
  CHECK(schedule.expired(kFriday + 26h) == Lines{"chat", "pager"});
}

TEST_CASE("drill schedule: real receipts keep nobody from looking whether a message is there",
          "[run][drill]") {
  Schedule schedule;
  const auto receipts_at = [&](Timestamp at) {
    for (const auto& [rule, sink] : {std::pair(0U, "chat"), std::pair(1U, "chat"), std::pair(0U, "pager")})
      schedule.prove(rule, sink, at);
  };
  schedule.settings.pages_every = 24h * 365;
  receipts_at(kFriday);
  schedule.found = kFriday;
  CHECK(schedule.due(kFriday + 23h).empty());
  receipts_at(kFriday + 24h);
  CHECK(schedule.due(kFriday + 24h) == Lines{"chat: A B"});
  // It did not say: it is asked again in its time, not each hour.
  receipts_at(kFriday + 47h);
  CHECK(schedule.due(kFriday + 47h).empty());
  CHECK(schedule.due(kFriday + 48h) == Lines{"chat: A B"});
  receipts_at(kFriday + 24h * 7);
  CHECK(schedule.expired(kFriday + 24h * 7).empty());
  receipts_at(kFriday + 24h * 7 + 1ms);
  CHECK(schedule.expired(kFriday + 24h * 7 + 1ms) == Lines{"chat", "pager"});
  SECTION("a level may be believed for ever") {
    schedule.ages.set(ProofLevel::kReadBack, engine::ProofAges::kNever);
    CHECK(schedule.expired(kFriday + 24h * 7 + 1ms).empty());
  }
  SECTION("who is drilled by hand only is looked for by hand only") {
    schedule.settings.scheduled = false;
    CHECK(schedule.expired(kFriday + 24h * 7 + 1ms).empty());
  }
}

TEST_CASE("drill schedule: what is asked for", "[run][drill]") {
  Schedule schedule;
  const auto asked = [&] {
    std::string out;
    for (const ProofView& view : schedule.proofs(kFriday))
      out += is_asked_for(*schedule.plan, schedule.settings, view) ? '+' : '-';
    return out;
  };
  CHECK(asked() == "+++");
  SECTION("not of what tells nobody") {
    schedule.world.written.sinks["chat"].tells_people = false;
    schedule.plan = schedule.world.plan();
    CHECK(asked() == "-+-");
  }
  SECTION("of a machine's") {
    schedule.world.written.sinks["chat"].tells_people = false;
    schedule.world.written.sinks["chat"].machine_audience = true;
    schedule.plan = schedule.world.plan();
    CHECK(asked() == "+++");
  }
  SECTION("not where it is not drilled, unless that has shown something") {
    schedule.settings.never = {"chat"};
    CHECK(asked() == "-+-");
    schedule.missing = true;
    CHECK(asked() == "++-");
  }
}

TEST_CASE("drill schedule: a pager weekly in working hours, before its proof has gone", "[run][drill]") {
  Schedule schedule;
  for (const std::size_t rule : {0U, 1U})
    schedule.prove(rule, "chat", kFriday + 1000h);
  // From hour to hour for ten weeks: when it is drilled, and how old the proof ever is.
  Timestamp last = kFriday + 2h;
  Duration oldest{0};
  int drills = 0;
  for (Timestamp now = kFriday + 2h; now < kFriday + 24h * 70; now += 1h) {
    schedule.prove(0, "pager", last);
    if (now > last) oldest = std::max(oldest, Duration(now - last));
    if (schedule.due(now).empty()) continue;
    CHECK(engine::working_hours("").contains(now));
    last = now;
    ++drills;
    for (const std::size_t rule : {0U, 1U})
      schedule.prove(rule, "chat", now + 1000h);
  }
  CHECK(oldest <= 24h * 7);
  CHECK(drills >= 10);
  CHECK(drills <= 14);
}

TEST_CASE("drill schedule: who wants none has none", "[run][drill]") {
  Schedule schedule;
  SECTION("at all") {
    schedule.settings.scheduled = false;
    CHECK(schedule.due(kFriday + 2h).empty());
  }
  SECTION("at one sink") {
    schedule.settings.never = {"chat"};
    CHECK(schedule.due(kFriday + 2h) == Lines{"pager: A"});
    CHECK(schedule.expired(kFriday + 25h) == Lines{"pager"});
  }
  SECTION("at a sink that tells nobody") {
    schedule.world.written.sinks["chat"].tells_people = false;
    schedule.plan = schedule.world.plan();
    CHECK(schedule.due(kFriday + 2h) == Lines{"pager: A"});
  }
  SECTION("where labels from logs decide, and no line that has them was known the first time") {
    schedule.conditional = true;
    CHECK(schedule.due(kFriday + 2h) == Lines{"chat: A B", "pager: A"});
    CHECK(schedule.due(kFriday + 4h).empty());
    CHECK(schedule.expired(kFriday + 1000h).empty());
    // Once it was drilled, it is asked for like any other.
    schedule.prove(0, "chat", kFriday + 2h);
    CHECK(schedule.due(kFriday + 26h) == Lines{"chat: A B"});
    CHECK(schedule.expired(kFriday + 1000h) == Lines{"chat"});
  }
  SECTION("other hours") {
    schedule.settings.hours = "nights";
    rules::TimeIntervalEntry night;
    night.minutes = {{0, 360}};
    schedule.world.written.time_intervals["nights"].entries.push_back(night);
    schedule.plan = schedule.world.plan();
    CHECK(schedule.due(kFriday + 2h) == Lines{"chat: A B"});
    CHECK(schedule.due(kFriday + 17h) == Lines{"chat: A B", "pager: A"});
  }
}

TEST_CASE("drill schedule: a proof that is too old is told, and one that never came", "[run][drill]") {
  Schedule schedule;
  schedule.prove(0, "chat", kFriday);
  schedule.prove(1, "chat", kFriday);
  CHECK(schedule.expired(kFriday + 24h).empty());
  CHECK(schedule.expired(kFriday + 24h + 1ms) == Lines{"pager"});
  schedule.prove(0, "pager", kFriday + 25h);
  CHECK(schedule.expired(kFriday + 24h * 7).empty());
  CHECK(schedule.expired(kFriday + 24h * 7 + 1ms) == Lines{"chat"});
}

TEST_CASE("drill schedule: how old a proof may be is said by the configuration", "[run][drill]") {
  Schedule schedule;
  for (const std::size_t rule : {0U, 1U}) {
    for (const char* sink : {"chat", "pager"})
      schedule.prove(rule, sink, kFriday);
  }
  schedule.ages.set(ProofLevel::kAccepted, 48h);
  CHECK(schedule.expired(kFriday + 48h).empty());
  CHECK(schedule.expired(kFriday + 48h + 1ms) == Lines{"chat", "pager"});
  schedule.ages.set(ProofLevel::kAccepted, engine::ProofAges::kNever);
  CHECK(schedule.expired(kFriday + 24h * 365).empty());
}

TEST_CASE("drill schedule: where people can say that they saw it, nobody for a month is told",
          "[run][drill]") {
  Schedule schedule;
  const auto words = [&](Timestamp now) {
    for (const std::size_t rule : {0U, 1U}) {
      for (const char* sink : {"chat", "pager"})
        schedule.prove(rule, sink, now);
    }
    std::string out;
    for (const Condition& condition :
         schedule.schedule.expired(*schedule.plan, schedule.settings, schedule.proofs(now), now)) {
      if (condition.active) out += condition.summary.substr(0, condition.summary.find(','));
    }
    return out;
  };
  schedule.asked = kFriday;
  CHECK(words(kFriday + 24h * 31).empty());  // not at these
  schedule.world.written.sinks["chat"].acknowledges = true;
  schedule.plan = schedule.world.plan();
  CHECK(words(kFriday + 24h * 30).empty());
  CHECK(words(kFriday + 24h * 30 + 1ms) == "Messages about A");
  schedule.ages.set(ProofLevel::kAcknowledged, engine::ProofAges::kNever);
  CHECK(words(kFriday + 24h * 300).empty());
  schedule.ages = {};
  schedule.seen = kFriday + 24h;
  CHECK(words(kFriday + 24h * 31) == "Messages about B arrive at sink chat");
  schedule.asked.reset();  // none has come yet
  CHECK(words(kFriday + 24h * 31).empty());
  CHECK(words(kFriday + 24h * 31 + 1ms) == "Messages about A arrive at sink chat");
}

}  // namespace logbell::tests

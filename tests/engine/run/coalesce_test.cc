#include "engine/run/coalesce.h"

#include <deque>
#include <random>
#include <vector>

#include <catch2/catch.hpp>
#include <fmt/format.h>

#include "tests/support/fake_clock.h"

namespace logbell::engine {
namespace {

using namespace std::chrono_literals;
using rules::Instant;
using rules::Notification;
using rules::NotifyReason;

rules::Alert alert(const std::string& name, bool firing, int number = 0) {
  rules::Alert alert;
  alert.labels = {{"alertname", name}, {"n", std::to_string(number)}};
  alert.state = firing ? rules::AlertState::kFiring : rules::AlertState::kResolved;
  return alert;
}

Notification of(const std::string& key, std::vector<rules::Alert> alerts, int priority = 1) {
  Notification n;
  n.key = key;
  n.sink = n.lane = "ops";
  n.reason = NotifyReason::kFirstFiring;
  n.group_key = "group of " + key;
  n.group_labels = {{"environment", "production"}};
  n.group_labels.set("alertname", alerts.front().labels.get("alertname"));
  n.alerts = std::move(alerts);
  n.priority = static_cast<std::uint8_t>(priority);
  n.created_at = rules::from_unix_ms(1'000'000);
  n.changes = 3;
  n.replaces = "its repeat";
  return n;
}

}  // namespace

TEST_CASE("coalesce: no minute has more than were allowed, and half of them may leave at once",
          "[run][coalesce]") {
  const std::uint32_t per_minute = GENERATE(1U, 2U, 3U, 7U, 20U, 600U);
  CAPTURE(per_minute);
  std::mt19937 random(per_minute);
  tests::FakeClock clock;
  Allowance allowance(per_minute);
  CHECK(allowance.left(clock.instant()) == std::max(1U, per_minute / 2));
  std::deque<Instant> taken;
  for (int i = 0; i < 3000; ++i) {
    const Instant now = clock.instant();
    const bool may = allowance.next() <= now;
    CHECK(may == (allowance.left(now) > 0));
    if (may) {
      allowance.take(now);
      if (random() % 5 == 0)
        allowance.give_back();
      else
        taken.push_back(now);
      while (!taken.empty() && taken.front() <= now - 1min)
        taken.pop_front();
      REQUIRE(taken.size() <= per_minute);
    }
    // Now and then quiet, else as soon as one may.
    const rules::Duration next = std::chrono::ceil<rules::Duration>(allowance.next() - now);
    clock.advance(random() % 50 == 0 ? rules::Duration(random() % 90'000)
                                     : std::max(next, rules::Duration(0)));
  }
  clock.advance(1min);
  CHECK(allowance.left(clock.instant()) == std::max(1U, per_minute / 2));
}

TEST_CASE("coalesce: without a bound any may leave at any time", "[run][coalesce]") {
  tests::FakeClock clock;
  Allowance allowance(0);
  CHECK_FALSE(allowance.is_bounded());
  for (int i = 0; i < 100; ++i) {
    CHECK(allowance.next() <= clock.instant());
    allowance.take(clock.instant());
  }
  allowance.give_back();
  CHECK(allowance.next() <= clock.instant());
}

TEST_CASE("coalesce: a reload does not forget what has left", "[run][coalesce]") {
  tests::FakeClock clock;
  clock.advance(1h);
  Allowance former(10);
  for (int i = 0; i < 5; ++i)
    former.take(clock.instant());
  Allowance allowance(10);
  allowance.take_over(former);
  CHECK(allowance.left(clock.instant()) == 0);
  CHECK(allowance.next() == clock.instant() + 12s);
}

TEST_CASE("coalesce: one alone stays as it is", "[run][coalesce]") {
  const Notification a = of("a", {alert("A", true)});
  CHECK(rules::encode(one_message({&a})) == rules::encode(a));
}

TEST_CASE("coalesce: many become one: what fires first, the urgent ones before the others",
          "[run][coalesce]") {
  const Notification a = of("a", {alert("A", true), alert("A", false, 1)});
  Notification b = of("b", {alert("B", true)}, 0);
  b.group_labels.set("environment", "staging");
  b.created_at = rules::from_unix_ms(900'000);
  b.reason = NotifyReason::kRepeat;
  const Notification c = of("c", {alert("A", false)});
  const Notification one = one_message({&a, &b, &c});
  REQUIRE(one.alerts.size() == 3);
  CHECK(one.alerts[0].name() == "B");
  CHECK(one.alerts[1] == alert("A", false));  // c knows more than a
  CHECK(one.alerts[2] == alert("A", false, 1));
  CHECK(one.reason == NotifyReason::kFirstFiring);
  CHECK(one.priority == 0);
  CHECK(one.created_at == b.created_at);
  CHECK(one.group_labels.empty());
  CHECK(one.group_key != a.group_key);
  CHECK(one.changes == 0);
  CHECK(one.replaces.empty());
  CHECK(one.lane == "ops");

  // Whoever has seen a key has seen what was in it.
  CHECK(one.key == one_message({&a, &b, &c}).key);
  CHECK(one.key != one_message({&a, &b}).key);
  CHECK(one.key != one_message({&b, &a, &c}).key);
  for (const Notification* alone : std::vector<const Notification*>{&a, &b, &c})
    CHECK(one.key != alone->key);

  const Notification ended = one_message({&c, &c});
  CHECK(ended.reason == NotifyReason::kAllResolved);
  CHECK(ended.group_labels.get("environment") == "production");
}

}  // namespace logbell::engine

// Drill: who is told what when rules are set firing for a drill, by the live plan's own route.
#include "engine/core/drill.h"

#include <set>

#include <catch2/catch.hpp>
#include <fmt/format.h>

#include "tests/support/core_world.h"

using namespace logbell;
using engine::DrillFiring;
using engine::DrillTold;
using rules::Notification;

namespace {

rules::Timestamp at(std::int64_t ms) {
  return tests::CoreWorld::at(ms);
}
const std::string kId = "00000000000000ab";

DrillFiring firing(std::size_t rule, rules::Labels element = {}) {
  return {rule, std::move(element), {at(0), "a line logbell-drill:00000000000000ab-0"}};
}

std::vector<std::string> alerts_of(const Notification& notification) {
  std::vector<std::string> names;
  for (const rules::Alert& alert : notification.alerts)
    names.emplace_back(alert.name());
  return names;
}

}  // namespace

TEST_CASE("drill: no message holds more rules than it can name", "[core][drill]") {
  tests::CoreWorld world;
  world.pattern("error");
  world.sink("chat");
  world.route({"chat"});
  std::vector<engine::DrillFiring> firings;
  for (std::size_t i = 0; i < 120; ++i) {
    world.rule(fmt::format("ARuleWithSuchANameAs{}", 100 + i), "count_over_time(error[1m]) >= 3");
    firings.push_back(firing(i));
  }
  const auto plan = world.plan();
  const DrillTold told = engine::drill(*plan, kId, 0, firings, {}, at(0), at(5));
  CHECK(told.untold.empty());
  REQUIRE(told.notifications.size() == 3);  // 25 bytes each, of a thousand
  std::set<std::string> named;
  std::set<std::string> keys;
  for (const Notification& notification : told.notifications) {
    CHECK(notification.names().size() == notification.alerts.size());
    CHECK(keys.insert(notification.key).second);
    for (const std::string_view name : notification.names())
      CHECK(named.insert(std::string(name)).second);
  }
  CHECK(named.size() == 120);
}

TEST_CASE("drill: one message a sink, over the real route, plainly a drill", "[core][drill]") {
  tests::CoreWorld world;
  world.pattern("error", {"queue"}).pattern("gone");
  world.sink("chat");
  world.sink("pager").stays_open = true;
  world.rule("Errors", "sum by (queue) (count_over_time(error[1m])) >= 3");
  world.rule("Silence", "count_over_time(gone[2h]) == 0", {}, "warning");
  rules::Route& root = world.route({"chat"});
  rules::Route critical;
  critical.id = "route/0";
  critical.options = root.options;
  critical.options.sinks = {"chat", "pager"};
  critical.options.group_wait = std::chrono::minutes(5);
  critical.matchers = {*rules::LabelMatcher::parse("severity=\"critical\"")};
  root.routes.push_back(critical);
  const auto plan = world.plan();

  const rules::Labels element =
      engine::drill_element(*plan, plan->rules[0], {{"queue", "orders"}, {"id", "7"}});
  CHECK(element == rules::Labels{{"queue", "orders"}});
  const DrillTold told = engine::drill(*plan, kId, 0, {firing(0, element), firing(1)}, {}, at(0), at(5));

  CHECK(told.untold.empty());
  REQUIRE(told.notifications.size() == 3);
  const Notification& chat = told.notifications[0];
  CHECK(chat.sink == "chat");
  CHECK(chat.reason == rules::NotifyReason::kDrill);
  CHECK(chat.drill == kId);
  CHECK(chat.priority == 2);
  CHECK_FALSE(chat.is_resolved());
  CHECK(alerts_of(chat) == std::vector<std::string>{"Errors", "Silence"});
  const rules::Alert& alert = chat.alerts.front();
  CHECK(alert.labels == rules::Labels{{"alertname", "Errors"},
                                      {"drill", kId},
                                      {"environment", "test"},
                                      {"instance", "here"},
                                      {"queue", "orders"},
                                      {"severity", "critical"}});
  CHECK(alert.annotation("summary") == "[DRILL] value 1");
  CHECK(alert.rule == plan->rules[0].identity());
  REQUIRE(alert.first_line);
  CHECK(alert.first_line->text == "a line logbell-drill:00000000000000ab-0");

  // What fires at the pager is ended behind it, in the same group.
  const Notification& fires = told.notifications[1];
  const Notification& ends = told.notifications[2];
  CHECK(alerts_of(fires) == std::vector<std::string>{"Errors"});
  CHECK_FALSE(fires.is_resolved());
  CHECK(ends.is_resolved());
  CHECK(ends.group_key == fires.group_key);
  CHECK(ends.key != fires.key);
  CHECK(fires.alerts.front().labels == ends.alerts.front().labels);

  SECTION("the same drill has the same keys, another one others") {
    const DrillTold again = engine::drill(*plan, kId, 0, {firing(0, element), firing(1)}, {}, at(0), at(9));
    CHECK(again.notifications[0].key == chat.key);
    const DrillTold other = engine::drill(*plan, "0c", 0, {firing(0, element)}, {}, at(0), at(9));
    CHECK(other.notifications[0].key != chat.key);
    const DrillTold later = engine::drill(*plan, kId, 1, {firing(0, element)}, {}, at(0), at(9));
    CHECK(later.notifications[0].key != chat.key);
  }
  SECTION("only one sink") {
    const DrillTold one =
        engine::drill(*plan, kId, 0, {firing(0, element), firing(1)}, {"chat"}, at(0), at(5));
    REQUIRE(one.notifications.size() == 1);
    CHECK(one.notifications[0].sink == "chat");
    CHECK(one.untold.empty());
  }
  SECTION("it comes back from the outbox as it went in") {
    const auto read = rules::decode_notification(rules::encode(chat));
    REQUIRE(read);
    CHECK(read->drill == kId);
    CHECK(read->reason == rules::NotifyReason::kDrill);
    CHECK(read->alerts == chat.alerts);
  }
}

TEST_CASE("drill: who stands in for a sink is told as well, once, and for whom", "[core][drill]") {
  tests::CoreWorld world;
  world.pattern("error", {"queue"});
  world.sink("chat");
  world.sink("mail");
  world.sink("oncall").fallback = {"mail", "chat"};
  world.sink("second").fallback = {"mail"};
  world.rule("Errors", "sum by (queue) (count_over_time(error[1m])) >= 3", {"oncall", "second", "chat"});
  const auto plan = world.plan();
  const auto told = [&](const std::vector<DrillFiring>& firings) {
    std::vector<std::string> lines;
    for (const Notification& notification :
         engine::drill(*plan, kId, 0, firings, {}, at(0), at(0)).notifications) {
      CHECK(notification.fallback_for.empty());  // nobody has refused anything
      for (const rules::Alert& alert : notification.alerts)
        lines.push_back(fmt::format("{}: {} {}", notification.sink, alert.labels.get("queue"),
                                    alert.annotation("summary")));
    }
    return lines;
  };
  using Lines = std::vector<std::string>;
  CHECK(told({firing(0, {{"queue", "a"}})}) ==
        Lines{"chat: a [DRILL] value 1", "mail: a [DRILL] (in case oncall, second fails) value 1",
              "oncall: a [DRILL] value 1", "second: a [DRILL] value 1"});
  // Each firing where it is wanted, and nowhere else.
  DrillFiring one = firing(0, {{"queue", "a"}});
  one.sinks = {"oncall"};
  DrillFiring other = firing(0, {{"queue", "b"}});
  other.sinks = {"chat", "mail"};
  CHECK(told({one, other}) == Lines{"chat: b [DRILL] value 1",
                                    "mail: b [DRILL] (in case oncall, second fails) value 1",
                                    "oncall: a [DRILL] value 1"});
}

TEST_CASE("drill: each of two rules whose alerts look alike is proven", "[core][drill]") {
  tests::CoreWorld world;
  world.pattern("error");
  world.sink("chat");
  world.rule("Errors", "count_over_time(error[1m]) >= 3", {"chat"});
  world.rule("Errors", "count_over_time(error[1h]) >= 30", {"chat"});
  const auto plan = world.plan();
  const DrillTold told = engine::drill(*plan, kId, 0, {firing(0), firing(1)}, {}, at(0), at(0));
  REQUIRE(told.notifications.size() == 1);
  REQUIRE(told.notifications[0].alerts.size() == 2);
  CHECK(told.notifications[0].alerts[0].rule != told.notifications[0].alerts[1].rule);
}

TEST_CASE("drill: every lane of a sink is told, and more alerts than a message holds", "[core][drill]") {
  tests::CoreWorld world;
  world.pattern("error");
  world.sink("peers").lanes = {"peers#1", "peers#2"};
  std::vector<DrillFiring> firings;
  for (std::size_t i = 0; i < 150; ++i) {
    world.rule("Errors" + std::to_string(i), "count_over_time(error[1m]) >= 3", {"peers"});
    firings.push_back(firing(i));
  }
  const auto plan = world.plan();
  const DrillTold told = engine::drill(*plan, kId, 0, firings, {}, at(0), at(0));
  std::map<std::string, std::size_t> alerts;
  std::set<std::string> keys;
  for (const Notification& notification : told.notifications) {
    alerts[notification.lane] += notification.alerts.size();
    keys.insert(notification.key);
  }
  CHECK(alerts == std::map<std::string, std::size_t>{{"peers#1", 150}, {"peers#2", 150}});
  CHECK(keys.size() == 4);
}

TEST_CASE("drill: what tells nobody just now is named", "[core][drill]") {
  tests::CoreWorld world;
  world.pattern("error");
  world.sink("chat");
  world.rule("Errors", "count_over_time(error[1m]) >= 3");
  world.rule("Known", "count_over_time(error[1m]) >= 3").silent = {"being mended", at(86'400'000)};
  world.route({"chat"}).options.mute_time_intervals = {"always"};
  world.written.time_intervals["always"].entries.emplace_back();
  const auto plan = world.plan();
  REQUIRE(plan->time_intervals.at("always").contains(at(0)));
  const DrillTold told = engine::drill(*plan, kId, 0, {firing(0), firing(1)}, {}, at(0), at(0));
  CHECK(told.notifications.empty());
  REQUIRE(told.untold.size() == 2);
  CHECK(told.untold[0].rule == 0);
  CHECK(told.untold[0].why == "its route is muted at this time");
  CHECK_FALSE(told.untold[0].lost);
  CHECK(told.untold[1].rule == 1);
  CHECK(told.untold[1].why == "sinks: none, being mended");
  CHECK_FALSE(told.untold[1].lost);
}

TEST_CASE("drill: a route that tells nobody, though nothing mutes it, is no mute", "[core][drill]") {
  tests::CoreWorld world;
  world.pattern("error");
  world.sink("chat");
  world.rule("Errors", "count_over_time(error[1m]) >= 3");
  world.route({});  // no configuration that loads is so: somebody has broken the way
  const auto plan = world.plan();
  const DrillTold told = engine::drill(*plan, kId, 0, {firing(0)}, {}, at(0), at(0));
  REQUIRE(told.untold.size() == 1);
  CHECK(told.untold[0].why == "its route tells nobody");
  CHECK(told.untold[0].lost);
}

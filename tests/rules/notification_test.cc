// Notification and Alert: what the outbox stores reads back as it was.
#include "rules/notification.h"

#include <limits>

#include <catch2/catch.hpp>

using namespace logbell::rules;

namespace {

Alert some_alert(const char* queue, AlertState state) {
  Alert alert;
  alert.labels = {{"alertname", "QueueUnreachable"}, {"queue", queue}, {"severity", "critical"}};
  alert.annotations = {{"summary", "bad \"quotes\"\n"}, {"runbook_url", queue}};
  alert.state = state;
  alert.value = std::numeric_limits<double>::infinity();
  alert.active_at = from_unix_ms(1);
  alert.fired_at = from_unix_ms(2);
  if (state == AlertState::kResolved) alert.resolved_at = from_unix_ms(3);
  alert.expr = "x > 1";
  alert.first_line = SampleLine{from_unix_ms(5), "line"};
  alert.top_values = {{"queue", {{"a", 3}, {"b", 1}}}};
  alert.resolve_reason = "rule removed";
  return alert;
}

}  // namespace

TEST_CASE("notification: reads back as it was written", "[rules][notification]") {
  Notification written;
  written.key = "k";
  written.sink = "ops";
  written.lane = "ops#1";
  written.reason = NotifyReason::kResolvedSome;
  written.group_key = "g";
  written.group_labels = {{"alertname", "X"}};
  written.alerts = {some_alert("a", AlertState::kFiring), some_alert("b", AlertState::kResolved)};
  written.changes = 7;
  written.created_at = from_unix_ms(11);
  written.caused_at = from_unix_ms(12);
  written.replaces = "r";
  written.priority = 2;
  written.text = "t";
  written.fallback_for = "f";
  const auto read = decode_notification(encode(written));
  REQUIRE(read.has_value());
  CHECK(read->alerts == written.alerts);
  CHECK(encode(*read) == encode(written));
  CHECK(read->reason == written.reason);
  CHECK(read->priority == 2);
  CHECK(read->fallback_for == "f");
  CHECK_FALSE(decode_notification("{}").has_value());
  CHECK_FALSE(decode_notification("nonsense").has_value());
}

TEST_CASE("notification: the names that each message of it says", "[rules][notification]") {
  const auto of = [](const std::vector<std::string>& names) {
    Notification notification;
    for (const std::string& name : names) {
      Alert alert;
      alert.labels = {{"alertname", name}};
      notification.alerts.push_back(alert);
    }
    return notification;
  };
  using Names = std::vector<std::string_view>;
  CHECK(of({}).names().empty());
  CHECK(of({"B", "A", "B"}).names() == Names{"B", "A"});
  // As many as have room, with what stands between them.
  std::vector<std::string> many;
  for (int i = 100; i < 200; ++i)
    many.push_back(std::string(15, 'x') + std::to_string(i));  // 18 each, and ", "
  CHECK(of(many).names().size() == Notification::kMaxNamesBytes / 20);
  CHECK(of(many).names().back() == many[Notification::kMaxNamesBytes / 20 - 1]);
  const std::string longest(Notification::kMaxNamesBytes * 2, 'y');
  CHECK(of({longest, "A"}).names() == Names{longest});
}

TEST_CASE("notification: what its alerts have in common", "[rules][notification]") {
  Notification both;
  both.alerts = {some_alert("a", AlertState::kFiring), some_alert("b", AlertState::kResolved)};
  CHECK(both.common_labels() == Labels{{"alertname", "QueueUnreachable"}, {"severity", "critical"}});
  CHECK(both.common_annotations().size() == 1);
  CHECK_FALSE(both.is_resolved());
  both.alerts.erase(both.alerts.begin());
  CHECK(both.is_resolved());
}

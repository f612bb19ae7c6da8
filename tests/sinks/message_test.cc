#include "sinks/message.h"

#include <limits>

#include <catch2/catch.hpp>
#include <fmt/format.h>

#include "sinks/email.h"
#include "sinks/pagerduty.h"
#include "sinks/slack_message.h"
#include "sinks/webhook.h"
#include "tests/sinks/fixtures.h"

namespace {

using namespace logbell;         // NOLINT(google-build-using-namespace): a test
using namespace logbell::sinks;  // NOLINT(google-build-using-namespace)
using namespace std::chrono_literals;
using rules::NotifyReason;
using tests::queue_alert;

rules::Alert resolved(rules::Alert alert) {
  alert.state = rules::AlertState::kResolved;
  alert.resolved_at = alert.fired_at + 12min;
  return alert;
}

}  // namespace

TEST_CASE("message: the headline says what, which service, which environment", "[sinks][message]") {
  CHECK(headline(tests::notification(), tests::context()) == "QueueUnreachable · orders-api · production");
  rules::Alert bare;
  bare.labels = {{"alertname", "A"}};
  CHECK(headline(tests::notification({bare}), tests::context()) == "A · production");
  CHECK(headline(tests::notification({bare}), {}) == "A");
  rules::Alert other = bare;
  other.labels.set("alertname", "B");
  CHECK(headline(tests::notification({bare, other}), {}) == "A and 1 more kind");
  CHECK(headline(tests::text_notification(NotifyReason::kRefused, "x"), tests::context()) ==
        "logbell refused to start · production");
}

TEST_CASE("message: the status counts what fires and what is over", "[sinks][message]") {
  const rules::Alert firing = queue_alert();
  const rules::Alert over = resolved(queue_alert("b"));
  CHECK(status_words(tests::notification({firing})) == "firing");
  CHECK(status_words(tests::notification({firing}, NotifyReason::kRepeat)) == "still firing");
  CHECK(status_words(tests::notification({firing, firing, over})) == "2 firing, 1 resolved");
  CHECK(status_words(tests::notification({over})) == "resolved");
  CHECK(status_words(tests::notification({over, over})) == "all 2 resolved");
}

TEST_CASE("message: the loudest severity that fires sets the tone", "[sinks][message]") {
  rules::Alert info = queue_alert();
  info.labels.set("severity", "info");
  rules::Alert warning = queue_alert();
  warning.labels.set("severity", "warning");
  rules::Alert unsaid = queue_alert();
  unsaid.labels.erase("severity");
  CHECK(tone_of(tests::notification({info, warning})) == Tone::kWarning);
  CHECK(tone_of(tests::notification({info, unsaid})) == Tone::kOther);
  CHECK(tone_of(tests::notification({warning, queue_alert()})) == Tone::kCritical);
  CHECK(tone_of(tests::notification({info, resolved(queue_alert())})) == Tone::kInfo);
  CHECK(tone_of(tests::resolved_notification()) == Tone::kResolved);
  CHECK(tone_of(tests::text_notification(NotifyReason::kRefused, "x")) == Tone::kCritical);
}

TEST_CASE("message: numbers and spans read as people write them", "[sinks][message]") {
  CHECK(format_value(5) == "5");
  CHECK(format_value(0.05231) == "0.05231");
  CHECK(format_value(1.0 / 3) == "0.3333");
  CHECK(format_value(-2) == "-2");
  CHECK(format_value(1e20) == "1e+20");
  CHECK(format_value(std::numeric_limits<double>::quiet_NaN()) == "not a number");
  CHECK(format_value(std::numeric_limits<double>::infinity()) == "infinite");
  CHECK(format_span(0ms) == "0 s");
  CHECK(format_span(-5s) == "0 s");
  CHECK(format_span(40s) == "40 s");
  CHECK(format_span(3min) == "3 min");
  CHECK(format_span(125min) == "2 h 5 min");
  CHECK(format_span(2h) == "2 h");
  CHECK(format_span(50h) == "2 d 2 h");
  CHECK(format_span(72h) == "3 d");
}

TEST_CASE("message: the value stands against its threshold where there is one", "[sinks][message]") {
  CHECK(threshold_of("sum by (queue) (count_over_time(queue_error[1m])) >= 3") == ">= 3");
  CHECK(threshold_of("count_over_time(received[2h]) == 0") == "== 0");
  CHECK(threshold_of("a / b > 0.05 and c >= 100") == ">= 100");
  CHECK(threshold_of("count_over_time(request{status=~\"5..\"}[5m])").empty());
  CHECK(threshold_of("a > b").empty());
  CHECK(threshold_of("a > bool 3").empty());
  CHECK(threshold_of("").empty());
  CHECK(threshold_of(">").empty());
  CHECK(value_words(queue_alert()) == "5 (>= 3)");
}

TEST_CASE("message: a delivery says that it is late, doubtful or in another's place",
          "[sinks][message][F47]") {
  rules::Notification n = tests::notification();
  Attempt attempt = tests::attempt();
  CHECK(delivery_notes(n, attempt).empty());
  attempt.maybe_sent = true;
  n.fallback_for = "oncall";
  n.changes = 4;
  attempt.now = n.created_at + 5min;
  const std::vector<std::string> notes = delivery_notes(n, attempt);
  REQUIRE(notes.size() == 4);
  CHECK(notes[0] == "In place of the sink \"oncall\", which did not take it.");
  CHECK(notes[1].find("may be a duplicate") != std::string::npos);
  CHECK(notes[2] == "Delayed 5 min: it could not be sent earlier.");
  CHECK(notes[3] == "Changed 4 times since the last message.");
  attempt.now = n.created_at + 2min;
  CHECK(delivery_notes(n, attempt).size() == 3);
}

TEST_CASE("message: one message for many says which rules and how many of each", "[sinks][message]") {
  rules::Notification n = tests::notification();
  Attempt attempt = tests::attempt();
  attempt.speaks_for = {&n, &n, &n};
  rules::Alert alert = n.alerts.front();
  n.alerts.clear();
  const auto add = [&](const std::string& name, bool firing) {
    alert.labels.set("alertname", name);
    alert.state = firing ? rules::AlertState::kFiring : rules::AlertState::kResolved;
    n.alerts.push_back(alert);
  };
  add("Full", true);
  add("Boom", true);
  add("Full", true);
  add("Boom", false);
  add("Over", false);
  const std::vector<std::string> notes = delivery_notes(n, attempt);
  REQUIRE(notes.size() == 1);
  CHECK(
      notes[0] ==
      "A storm: one message instead of 3. In it: Full 2 firing; Boom 1 firing, 1 resolved; Over 1 resolved.");
  n.alerts.clear();
  for (int i = 0; i < 18; ++i)
    add(fmt::format("R{}", i), true);
  CHECK(delivery_notes(n, attempt)[0].find("R14 1 firing; also R15, R16, R17.") != std::string::npos);
  for (int i = 0; i < 100; ++i)
    add(fmt::format("LongName{}", i), true);
  CHECK(delivery_notes(n, attempt)[0].find(" more rules.") != std::string::npos);
  // Whatever has no room in it, the names have; in a group and a drill as well.
  attempt.speaks_for.clear();
  for (const char* drill : {"", "1"}) {
    n.drill = drill;
    REQUIRE(n.names().size() > 50);
    const SinkContext context = tests::context();
    for (const std::string& text :
         {slack_message(n, attempt, context).dump(), slack_minimal_message(n, attempt, context).dump()}) {
      std::size_t missing = 0;
      for (const std::string_view name : n.names())
        missing += text.find(name) == std::string::npos ? 1 : 0;
      CHECK(missing == 0);
    }
  }
  // Few, or of one rule, are there anyway.
  n.drill.clear();
  n.alerts.resize(kFewAlerts);
  CHECK(delivery_notes(n, attempt).empty());
}

TEST_CASE("message: what is not about an alert becomes one where nothing else is known", "[sinks][message]") {
  const std::vector<rules::Alert> alerts =
      alerts_or_text(tests::text_notification(NotifyReason::kRefused, "a.yaml:1:2: no"), tests::context());
  REQUIRE(alerts.size() == 1);
  CHECK(alerts[0].name() == "PlanRefused");
  CHECK(alerts[0].labels.get("severity") == "critical");
  CHECK(alerts[0].labels.get("environment") == "production");
  CHECK(alerts[0].annotation("description") == "a.yaml:1:2: no");
  CHECK(alerts[0].is_firing());
  CHECK(alerts_or_text(tests::notification(), tests::context()).size() == 1);
}

TEST_CASE("message: whoever reads what fires can say so, by a link of its own", "[sinks][message]") {
  SinkContext context = tests::context();
  std::vector<std::string> asked;
  context.acknowledge_url = [&](const rules::Notification& notification, rules::Timestamp sent_at) {
    asked.push_back(subjects_of(notification));
    CHECK(sent_at == tests::attempt().now);
    return "https://logbell.example.com/ack/lba_x-y_" + std::to_string(notification.alerts.size());
  };
  const auto link = [&](const rules::Notification& notification) {
    const std::optional<LinkUrl> url = acknowledge_link(notification, tests::attempt(), context);
    return url ? url->str() : std::string();
  };
  CHECK(link(tests::notification()) == "https://logbell.example.com/ack/lba_x-y_1");
  CHECK(link(tests::notification({queue_alert(), resolved(queue_alert("b"))})) ==
        "https://logbell.example.com/ack/lba_x-y_2");
  // What is over need not be seen, nor what no rule stands behind.
  asked.clear();
  CHECK(link(tests::resolved_notification()).empty());
  CHECK(link(tests::text_notification(NotifyReason::kRefused, "x")).empty());
  CHECK(asked.empty());
  context.acknowledge_url = [](const auto&, auto) { return std::string(); };
  CHECK(link(tests::notification()).empty());
  CHECK_FALSE(acknowledge_link(tests::notification(), tests::attempt(), tests::context()));
}

TEST_CASE("message: each sink that shows links shows this one", "[sinks][message]") {
  SinkContext context = tests::context();
  context.acknowledge_url = [&](const rules::Notification& notification, rules::Timestamp) {
    return "https://logbell.example.com/ack/lba_" +
           std::string(notification.alerts.front().labels.get("queue")) +
           std::to_string(notification.alerts.size());
  };
  const rules::Notification one = tests::notification();
  const rules::Notification two = tests::notification({queue_alert("a"), queue_alert("b")});
  const auto has = [](const std::string& text, const std::string& what) {
    INFO(text);
    CHECK(text.find(what) != std::string::npos);
  };
  const std::string url = R"("https://logbell.example.com/ack/lba_)";
  const std::string named = R"("text":"I have seen this")";
  for (const auto& [notification, end] : {std::pair(one, "orders-foobar1\""), std::pair(two, "a2\"")}) {
    const Payload slack = slack_message(notification, tests::attempt(), context);
    has(slack.dump(), "\"url\":" + url + end);
    has(slack.dump(), named);
    has(webhook_payload(notification, tests::attempt(), context).dump(), "\"acknowledgeURL\":" + url + end);
  }
  has(slack_minimal_message(two, tests::attempt(), context).dump(),
      "<https://logbell.example.com/ack/lba_a2|I have seen this>");
  // An incident is of one alert.
  for (const PagerDutyIncident& incident : pagerduty_incidents(two, context)) {
    const std::string queue(incident.alert.labels.get("queue"));
    has(pagerduty_event(incident, two, tests::attempt(), context).dump(),
        fmt::format("{{\"href\":{}{}1\",{}}}", url, queue, named));
  }
  // Of a drill, of all.
  rules::Notification drill = two;
  drill.drill = "1";
  has(pagerduty_event(pagerduty_incidents(drill, context).front(), drill, tests::attempt(), context).dump(),
      url + "a2\"");
  const Mail mail = email_message(
      two, tests::attempt(), context,
      {{}, *MailAddress::from("logbell@example.com"), {*MailAddress::from("ops@example.com")}}, {});
  has(mail.dump(), "I have seen this: https://logbell.example.com/ack/lba_a2");
}

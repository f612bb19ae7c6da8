#include "sinks/pagerduty.h"

#include <functional>
#include <set>

#include <catch2/catch.hpp>
#include <fmt/format.h>

#include "tests/sinks/fixtures.h"
#include "tests/sinks/slack_samples.h"
#include "tests/support/http_stub.h"

namespace {

using namespace logbell;         // NOLINT(google-build-using-namespace): a test
using namespace logbell::sinks;  // NOLINT(google-build-using-namespace)
using namespace std::chrono_literals;
using rules::Json;
using rules::NotifyReason;
using tests::HttpStub;
using tests::StubStep;
using Kind = Outcome::Kind;

constexpr const char* kKey = "R0123456789ABCDEF0123456SECRETSE";

std::unique_ptr<Sink> pagerduty_to(const HttpStub& stub) {
  return tests::make_sink("pagerduty", {{"routing_key", kKey}, {"url", stub.url("")}}, tests::context());
}

StubStep accepted(const std::string& dedup_key = "answered") {
  return StubStep::answer(
      202, R"({"status":"success","message":"Event processed","dedup_key":")" + dedup_key + R"("})");
}

StubStep invalid(const std::string& error) {
  return StubStep::answer(
      400, R"({"status":"invalid event","message":"Event object is invalid","errors":[")" + error + R"("]})");
}

std::vector<Payload> events_of(const rules::Notification& n, const Attempt& attempt = tests::attempt()) {
  std::vector<Payload> events;
  for (const PagerDutyIncident& incident : pagerduty_incidents(n, tests::context()))
    events.push_back(pagerduty_event(incident, n, attempt, tests::context()));
  return events;
}

std::string events_text(const rules::Notification& n, const Attempt& attempt = tests::attempt()) {
  std::string text;
  for (const Payload& event : events_of(n, attempt))
    text += event.json().dump(2) + "\n";
  return text;
}

Json body_of(const tests::StubRequest& request) {
  const rules::Result<Json> json = Json::parse(request.body);
  REQUIRE(json);
  return *json;
}

rules::Alert ended(rules::Alert alert) {
  alert.state = rules::AlertState::kResolved;
  alert.resolved_at = alert.fired_at + 5min;
  return alert;
}

rules::Notification several(std::size_t count) {
  std::vector<rules::Alert> alerts;
  for (std::size_t i = 0; i < count; ++i)
    alerts.push_back(tests::queue_alert("q" + std::to_string(i)));
  return tests::notification(std::move(alerts));
}

std::size_t characters(std::string_view utf8) {
  return static_cast<std::size_t>(std::count_if(
      utf8.begin(), utf8.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

// developer-docs 01-Overview and 02-Trigger-Events.
void check_limits(const Json& event, bool minimal) {
  CHECK(event.dump().size() + 60 <= 512UL * 1024);
  CHECK(characters(event["dedup_key"].string()) <= 255);
  CHECK_FALSE(event["dedup_key"].string().empty());
  const std::string_view action = event["event_action"].string();
  if (action == "resolve") {
    CHECK(event.object().size() == 2);
    return;
  }
  CHECK(action == "trigger");
  const Json& payload = event["payload"];
  CHECK(characters(payload["summary"].string()) <= (minimal ? 250 : 1024));
  for (const char* required : {"summary", "source"})
    CHECK(payload[required].string().find_first_not_of(" \n\t") != std::string_view::npos);
  const std::set<std::string_view> severities{"critical", "error", "warning", "info"};
  CHECK(severities.count(payload["severity"].string()) == 1);
  for (const auto& [name, value] : payload.object()) {
    const std::set<std::string_view> known{"summary",   "source", "severity", "timestamp",
                                           "component", "group",  "class",    "custom_details"};
    CHECK(known.count(name) == 1);
    if (name != "custom_details") CHECK_FALSE(value.string().empty());
  }
  for (const Json& link : event["links"].array()) {
    CHECK(link["href"].string().substr(0, 4) == "http");
    CHECK_FALSE(link["text"].string().empty());
  }
}

void visit(const Json& json, const std::function<void(std::string_view)>& seen) {
  if (json.is_string()) seen(json.string());
  for (const Json& item : json.array())
    visit(item, seen);
  for (const auto& [key, value] : json.object()) {
    seen(key);
    visit(value, seen);
  }
}

}  // namespace

TEST_CASE("pagerduty: the events, as they are sent but for their key", "[sinks][pagerduty]") {
  tests::check_golden("pagerduty_firing.json", events_text(tests::notification()));
  tests::check_golden("pagerduty_resolved.json", events_text(tests::resolved_notification()));
  rules::Notification doubtful = tests::notification({tests::queue_alert()}, NotifyReason::kRepeat);
  doubtful.fallback_for = "ops-slack";
  doubtful.changes = 3;
  Attempt late = tests::attempt();
  late.maybe_sent = true;
  late.now = tests::start() + 1h;
  tests::check_golden("pagerduty_doubtful.json", events_text(doubtful, late));
  rules::Notification refused =
      tests::text_notification(NotifyReason::kRefused, "logbell.yaml:12:5: rule \"A\": reaches no sink");
  refused.key = "refused/0123456789abcdef/oncall";
  tests::check_golden("pagerduty_refused.json", events_text(refused));
  const rules::Notification n = tests::notification();
  tests::check_golden(
      "pagerduty_minimal.json",
      pagerduty_minimal_event(pagerduty_incidents(n, tests::context()).front(), n, tests::context())
              .json()
              .dump(2) +
          "\n");
}

TEST_CASE("pagerduty: every event is within PagerDuty's limits", "[sinks][pagerduty][F48]") {
  for (const tests::SlackSample& sample : tests::slack_samples()) {
    INFO(sample.name);
    std::vector<PagerDutyIncident> incidents = pagerduty_incidents(sample.notification, tests::context());
    // Of a group the first and the last: each alert is told by itself, and those between are like the first.
    if (incidents.size() > 2) incidents.erase(incidents.begin() + 1, incidents.end() - 1);
    for (const PagerDutyIncident& incident : incidents) {
      const Payload event = pagerduty_event(incident, sample.notification, sample.attempt, tests::context());
      check_limits(event.json(), false);
      check_limits(pagerduty_minimal_event(incident, sample.notification, tests::context()).json(), true);
      bool is_clean = true;
      visit(event.json(), [&](std::string_view text) {
        is_clean = is_clean && std::all_of(text.begin(), text.end(), [](char c) {
                     return static_cast<unsigned char>(c) >= 0x20 || c == '\n' || c == '\t';
                   });
      });
      CHECK(is_clean);
    }
  }
}

TEST_CASE("pagerduty: the cut falls well for emoji and right-to-left text", "[sinks][pagerduty][F48]") {
  for (const tests::SlackSample& sample : tests::slack_cut_samples()) {
    INFO(sample.name);
    for (const PagerDutyIncident& incident : pagerduty_incidents(sample.notification, tests::context())) {
      for (const Payload& event :
           {pagerduty_event(incident, sample.notification, sample.attempt, tests::context()),
            pagerduty_minimal_event(incident, sample.notification, tests::context())}) {
        const std::string_view summary = event.json()["payload"]["summary"].string();
        if (sample.notification.text.empty()) CHECK(summary.substr(summary.size() - 3) == "…");
        for (const char* half : {"👍…", "e…"})
          CHECK(summary.find(half) == std::string_view::npos);
        CHECK(event.dump().find("\uFFFD") == std::string::npos);
      }
    }
  }
}

TEST_CASE("pagerduty: what is in an alert without end fits, and says that it was cut",
          "[sinks][pagerduty][F48]") {
  std::string much;
  while (much.size() < 10'000)
    much += "\"\\שלום👍🏽";
  rules::Alert alert = tests::queue_alert(much);
  for (int i = 0; i < 70; ++i)
    alert.labels.set("label_" + std::to_string(i), much);
  alert.annotations.emplace_back("description", much);
  alert.annotations.emplace_back("logs_url", "https://logs.example.com/" + std::string(50'000, 'x'));
  alert.expr = much;
  alert.first_line->text = alert.last_line->text = much;
  for (int i = 0; i < 12; ++i)
    alert.top_values.push_back({much, std::vector(12, std::pair<std::string, std::uint64_t>(much, 7))});
  rules::Notification n = tests::notification({alert});
  n.key = n.fallback_for = much;
  const std::vector<Payload> events = events_of(n);
  CHECK(events.front().was_cut());
  check_limits(events.front().json(), false);
  CHECK_FALSE(events_of(tests::notification()).front().was_cut());

  HttpStub stub;
  stub.otherwise(accepted());
  CHECK(pagerduty_to(stub)->deliver(n, tests::attempt()).truncated);
  CHECK(stub.requests().front().body.size() <= 512UL * 1024);
}

TEST_CASE("pagerduty: severities are PagerDuty's four, and nothing unknown may be overlooked",
          "[sinks][pagerduty]") {
  const std::vector<std::pair<std::string, std::string>> rows{
      {"critical", "critical"}, {"page", "critical"},   {"CRITICAL", "critical"}, {"error", "error"},
      {"high", "error"},        {"warning", "warning"}, {"Warn", "warning"},      {"info", "info"},
      {"none", "info"},         {"", "error"},          {"P1", "error"},          {"criticalish", "error"}};
  for (const auto& [label, severity] : rows) {
    INFO(label);
    rules::Alert alert = tests::queue_alert();
    alert.labels.set("severity", label);
    CHECK(events_of(tests::notification({alert})).front().json()["payload"]["severity"].string() == severity);
  }
}

TEST_CASE("pagerduty: an alert is one incident, whatever group, sink or attempt tells of it",
          "[sinks][pagerduty][F43]") {
  const auto key_of = [](const rules::Notification& n, std::size_t index = 0) {
    return pagerduty_incidents(n, tests::context()).at(index).dedup_key;
  };
  const rules::Notification first = tests::notification();
  const std::string key = key_of(first);
  CHECK(key.rfind("logbell/", 0) == 0);
  // Its end, in its own group.
  CHECK(key_of(tests::resolved_notification()) == key);
  // A repeat, of another group after a reload, told by another sink, with another value and summary.
  rules::Alert alert = tests::queue_alert();
  alert.value = 99;
  alert.annotations = {{"summary", "other"}};
  rules::Notification other =
      tests::notification({tests::queue_alert("other"), alert}, NotifyReason::kRepeat);
  other.key = "ffffffffffffffff";
  other.group_key = "sinks/a,b:{}";
  other.sink = other.lane = "elsewhere";
  other.fallback_for = "ops-slack";
  CHECK(key_of(other, 1) == key);
  CHECK(key_of(other, 0) != key);
  // It ended and began again while nobody could be told: the incident goes on, and its end finds it.
  alert.fired_at += 1h;
  CHECK(key_of(tests::notification({alert})) == key);
  CHECK(key_of(tests::notification({ended(alert)})) == key);
  // Another label is another alert.
  alert.labels.set("environment", "staging");
  CHECK(key_of(tests::notification({alert})) != key);

  // What is only said is never resolved: each refusal is an incident of its own.
  rules::Notification refused = tests::text_notification(NotifyReason::kRefused, "no");
  refused.key = "refused/1/oncall";
  const std::string said = key_of(refused);
  refused.key = "refused/2/oncall";
  CHECK(key_of(refused) != said);
  refused.key = "refused/" + std::string(300, 'x');
  CHECK(key_of(refused).size() <= 255);
}

TEST_CASE("pagerduty: a drill is one incident, that says so and that its end resolves",
          "[sinks][pagerduty]") {
  const auto drill = [](std::vector<rules::Alert> alerts) {
    for (rules::Alert& alert : alerts)
      alert.labels.set("drill", "d1");
    rules::Notification n = tests::notification(std::move(alerts), NotifyReason::kDrill);
    n.drill = "d1";
    return n;
  };
  rules::Alert warning = tests::queue_alert();
  warning.labels.set("alertname", "NoDataReceived");
  warning.labels.set("severity", "warning");
  const rules::Notification several = drill({warning, tests::queue_alert()});
  rules::Notification end = drill({ended(warning), ended(tests::queue_alert())});
  end.key = "0000000000000000";
  const std::vector<PagerDutyIncident> incidents = pagerduty_incidents(several, tests::context());
  REQUIRE(incidents.size() == 1);
  CHECK(pagerduty_incidents(end, tests::context()).front().dedup_key == incidents.front().dedup_key);
  CHECK(events_of(end).front().json()["event_action"].string() == "resolve");
  const Json event = events_of(several).front().json();
  check_limits(event, false);
  CHECK(event["payload"]["summary"].string() ==
        "[DRILL] 2 rules · orders-api · production: nothing is wrong");
  CHECK(event["payload"]["severity"].string() == "critical");  // the way that a real one takes
  CHECK(event["payload"]["custom_details"]["drilled"].string() == "NoDataReceived, QueueUnreachable");
  CHECK(event["payload"]["custom_details"]["notes"].string().find("A drill: nothing is wrong.") == 0);
  const rules::Notification one = drill({tests::queue_alert()});
  CHECK(events_of(one).front().json()["payload"]["summary"].string().rfind("[DRILL] QueueUnreachable", 0) ==
        0);
  // No end of a drill is that of an alert, nor of another drill.
  rules::Notification other = one;
  other.drill = "d2";
  std::set<std::string> keys;
  for (const rules::Notification& n : {several, one, other, tests::notification()})
    keys.insert(pagerduty_incidents(n, tests::context()).front().dedup_key);
  CHECK(keys.size() == 4);
}

TEST_CASE("pagerduty: of a group each alert is told by itself: what has ended ends nothing else",
          "[sinks][pagerduty]") {
  HttpStub stub;
  stub.otherwise(accepted());
  const auto sink = pagerduty_to(stub);
  const rules::Notification n =
      tests::notification({tests::queue_alert("a"), tests::queue_alert("b"), ended(tests::queue_alert("c"))},
                          NotifyReason::kResolvedSome);
  const Outcome outcome = sink->deliver(n, tests::attempt());
  CHECK(outcome.kind == Kind::kDelivered);
  CHECK(outcome.receipt == "3 accepted, the last answered");
  REQUIRE(stub.requests().size() == 3);
  std::vector<std::string> told;
  for (const tests::StubRequest& request : stub.requests()) {
    const Json body = body_of(request);
    told.push_back(std::string(body["event_action"].string()) + " " +
                   std::string(body["payload"]["custom_details"]["labels"]["queue"].string()));
  }
  CHECK(told == std::vector<std::string>{"trigger a", "trigger b", "resolve "});
  CHECK(body_of(stub.requests()[2])["dedup_key"].string() ==
        pagerduty_incidents(n, tests::context())[2].dedup_key);
}

TEST_CASE("pagerduty: delivered is 202 and success, and the receipt its dedup_key", "[sinks][pagerduty]") {
  HttpStub stub;
  stub.then(accepted("logbell/0011"));
  const auto sink = pagerduty_to(stub);
  const Outcome good = sink->deliver(tests::notification(), tests::attempt());
  CHECK(good.kind == Kind::kDelivered);
  CHECK(good.receipt == "logbell/0011");
  CHECK(good.detail == "Event processed");
  CHECK_FALSE(good.truncated);
  const tests::StubRequest request = stub.requests().front();
  CHECK(request.method == "POST");
  CHECK(request.target == "/v2/enqueue");
  CHECK(request.headers.at("content-type") == "application/json");
  const Json body = body_of(request);
  CHECK(body["routing_key"].string() == kKey);
  CHECK(body["event_action"].string() == "trigger");

  // It need not repeat the key.
  stub.then(StubStep::answer(202, R"({"status":"success","message":"Event processed"})"));
  CHECK(sink->deliver(tests::notification(), tests::attempt()).receipt ==
        pagerduty_incidents(tests::notification(), tests::context()).front().dedup_key);
}

TEST_CASE("pagerduty: F46 a success that is not PagerDuty's is somebody else's", "[sinks][pagerduty][F46]") {
  HttpStub stub;
  const auto sink = pagerduty_to(stub);
  const std::string success = R"({"status":"success","message":"Event processed","dedup_key":"x"})";
  for (const StubStep& step :
       {StubStep::answer(202), StubStep::answer(202, "<html>sign in</html>"), StubStep::answer(202, "ok"),
        StubStep::answer(202, "{}"), StubStep::answer(202, "[]"), StubStep::answer(202, "\"success\""),
        StubStep::answer(202, R"({"status":"throttle exceeded"})"), StubStep::answer(200, success),
        StubStep::answer(201, success), StubStep::answer(204)}) {
    INFO(step.status << " " << step.body);
    stub.then(step);
    const Outcome outcome = sink->deliver(tests::notification(), tests::attempt());
    CHECK(outcome.kind == Kind::kRetry);
    CHECK(outcome.reason == Reason::kBadResponse);
  }
}

TEST_CASE("pagerduty: every answer that is known means one thing", "[sinks][pagerduty][F40][F41]") {
  struct Row {
    StubStep step;
    Kind kind;
    Reason reason;
    bool dead;
    std::size_t requests;
  };
  const auto answer = [](int status, const char* body = "") { return StubStep::answer(status, body); };
  const std::vector<Row> rows{
      // The key: seen in envato/pagerduty issue 70, tenderduty issue 10, robusta issue 571.
      {invalid("Length of 'routing_key' is incorrect (should be 32 characters)"), Kind::kRejected,
       Reason::kAuth, true, 1},
      {invalid("'routing_key' cannot contain non-alphanumeric characters."), Kind::kRejected, Reason::kAuth,
       true, 1},
      {invalid("Invalid routing key"), Kind::kRejected, Reason::kAuth, true, 1},
      {answer(400, "Invalid routing key"), Kind::kRejected, Reason::kAuth, true, 1},
      {answer(400, R"({"status":"invalid event","message":"Invalid routing key"})"), Kind::kRejected,
       Reason::kAuth, true, 1},
      // The message: once more in short, and then it is refused.
      {invalid("'payload.severity' is invalid"), Kind::kRejected, Reason::kBadRequest, false, 2},
      {answer(400, "bad JSON"), Kind::kRejected, Reason::kBadRequest, false, 2},
      {answer(413), Kind::kRejected, Reason::kBadRequest, false, 2},
      {answer(422), Kind::kRejected, Reason::kBadRequest, false, 2},
      // The destination, SINKS.md §0.
      {answer(302), Kind::kRejected, Reason::kBadResponse, true, 1},
      {answer(401), Kind::kRejected, Reason::kAuth, true, 1},
      {answer(403), Kind::kRejected, Reason::kAuth, true, 1},
      {answer(404), Kind::kRejected, Reason::kGone, true, 1},
      {answer(410), Kind::kRejected, Reason::kGone, true, 1},
      // The moment.
      {answer(408), Kind::kRetry, Reason::kTimeout, false, 1},
      {answer(429), Kind::kRetry, Reason::kRateLimited, false, 1},
      {answer(500), Kind::kRetry, Reason::kServerError, false, 1},
      {answer(503, "<html>"), Kind::kRetry, Reason::kServerError, false, 1}};
  for (const Row& row : rows) {
    INFO(row.step.status << " " << row.step.body);
    HttpStub stub;
    stub.otherwise(row.step);
    const Outcome outcome = pagerduty_to(stub)->deliver(tests::notification(), tests::attempt());
    CHECK(outcome.kind == row.kind);
    CHECK(outcome.reason == row.reason);
    CHECK(outcome.sink_is_dead == row.dead);
    CHECK(stub.requests().size() == row.requests);
  }
}

TEST_CASE("pagerduty: the rate limit's hint is kept, and without one PagerDuty's own advice",
          "[sinks][pagerduty][F39]") {
  struct Row {
    const char* story;
    StubStep step;
    rules::Duration after;
  };
  const std::vector<Row> rows{
      {"whole seconds", StubStep::answer(429, "", {{"Retry-After", "7"}}), 7s},
      {"a date", StubStep::answer(429, "", {{"Retry-After", "Fri, 01 May 2026 10:01:03 GMT"}}), 60s},
      {"a fraction in JSON", StubStep::answer(429, R"({"retry_after":1.5})"), 1500ms},
      {"absent", StubStep::answer(429, "429 - Request Limit Exceeded"), 30s},
      {"a day", StubStep::answer(429, "", {{"Retry-After", "86400"}}), 24h}};
  for (const Row& row : rows) {
    INFO(row.story);
    HttpStub stub;
    stub.then(row.step);
    const Outcome outcome = pagerduty_to(stub)->deliver(tests::notification(), tests::attempt());
    CHECK(outcome.kind == Kind::kRetry);
    CHECK(outcome.reason == Reason::kRateLimited);
    CHECK(outcome.retry_after == row.after);
    CHECK(stub.requests().size() == 1);
  }
}

TEST_CASE("pagerduty: F48 what refuses the whole event gets what it requires", "[sinks][pagerduty][F48]") {
  HttpStub stub;
  stub.then(invalid("'payload.custom_details' is invalid"));
  stub.then(accepted());
  const auto sink = pagerduty_to(stub);
  const rules::Notification n = tests::notification();
  const Outcome outcome = sink->deliver(n, tests::attempt());
  CHECK(outcome.kind == Kind::kDelivered);
  CHECK(outcome.truncated);
  CHECK(outcome.detail.find("custom_details") != std::string::npos);
  REQUIRE(stub.requests().size() == 2);
  Json second = body_of(stub.requests()[1]);
  CHECK(second["dedup_key"] == body_of(stub.requests()[0])["dedup_key"]);
  CHECK(second["payload"].object().size() == 4);
  CHECK(second["payload"]["summary"].string().find("QueueUnreachable") != std::string_view::npos);

  SECTION("a resolve has nothing to leave out") {
    stub.otherwise(invalid("'payload' is odd"));
    const Outcome refused = sink->deliver(tests::resolved_notification(), tests::attempt());
    CHECK(refused.kind == Kind::kRejected);
    CHECK_FALSE(refused.sink_is_dead);
    CHECK(stub.requests().size() == 3);
  }
  SECTION("that the key is what is wrong may come out then") {
    stub.then(invalid("no"));
    stub.then(invalid("Invalid routing key"));
    CHECK(sink->deliver(n, tests::attempt()).sink_is_dead);
  }
  SECTION("the second answer lost is unknown") {
    stub.then(invalid("no"));
    stub.then(StubStep::of(StubStep::Kind::kClose));
    CHECK(sink->deliver(n, tests::attempt()).kind == Kind::kUnknown);
  }
}

TEST_CASE("pagerduty: an answer that is lost is unknown, one that never comes ends at the deadline",
          "[sinks][pagerduty][F42]") {
  for (const StubStep::Kind kind :
       {StubStep::Kind::kNeverAnswer, StubStep::Kind::kDripHeaders, StubStep::Kind::kDripBody,
        StubStep::Kind::kClose, StubStep::Kind::kTruncate}) {
    HttpStub stub;
    stub.then(StubStep::of(kind));
    const Outcome outcome = pagerduty_to(stub)->deliver(tests::notification(), tests::attempt(300ms));
    CHECK(outcome.kind == Kind::kUnknown);
    CHECK(outcome.reason == Reason::kResponseLost);
    CHECK(outcome.detail.find("SECRET") == std::string::npos);
  }
}

TEST_CASE("pagerduty: of several alerts those that it took are not told again with the rest",
          "[sinks][pagerduty][F39][F41]") {
  HttpStub stub;
  const auto sink = pagerduty_to(stub);
  const rules::Notification n = several(4);
  const auto queues = [&] {
    std::string all;
    for (const tests::StubRequest& request : stub.requests())
      all += std::string(body_of(request)["payload"]["custom_details"]["labels"]["queue"].string()) + " ";
    return all;
  };
  stub.then(accepted());
  stub.then(accepted());
  stub.then(StubStep::answer(429, "", {{"Retry-After", "9"}}));
  const Outcome first = sink->deliver(n, tests::attempt());
  CHECK(first.kind == Kind::kRetry);
  CHECK(first.reason == Reason::kRateLimited);
  CHECK(first.retry_after == rules::Duration(9s));
  CHECK(first.detail.find("2 of 4 events accepted") == 0);

  SECTION("the rest alone") {
    stub.otherwise(accepted());
    // Another message in between changes nothing of it.
    rules::Notification other = tests::notification({tests::queue_alert("other")});
    other.key = "0000000000000000";
    CHECK(sink->deliver(other, tests::attempt()).kind == Kind::kDelivered);
    const Outcome second = sink->deliver(n, tests::attempt());
    CHECK(second.kind == Kind::kDelivered);
    CHECK(second.receipt == "4 accepted, the last answered");
    CHECK(queues() == "q0 q1 q2 other q2 q3 ");
    // It is over with that: the same key again would be all of it.
    CHECK(sink->deliver(n, tests::attempt()).kind == Kind::kDelivered);
    CHECK(stub.requests().size() == 10);
  }
  SECTION("an answer that was lost is asked for again") {
    stub.then(StubStep::of(StubStep::Kind::kClose));
    CHECK(sink->deliver(n, tests::attempt()).kind == Kind::kUnknown);
    stub.otherwise(accepted());
    CHECK(sink->deliver(n, tests::attempt()).kind == Kind::kDelivered);
    CHECK(queues() == "q0 q1 q2 q2 q2 q3 ");
  }
  SECTION("a new process knows nothing of it, and doubles nothing: the keys are the same") {
    stub.otherwise(accepted());
    const auto next = pagerduty_to(stub);
    CHECK(next->deliver(n, tests::attempt()).kind == Kind::kDelivered);
    CHECK(queues() == "q0 q1 q2 q0 q1 q2 q3 ");
    CHECK(body_of(stub.requests()[0])["dedup_key"] == body_of(stub.requests()[3])["dedup_key"]);
  }
  SECTION("a key that is revoked meanwhile is the sink's end, though some were told") {
    stub.then(invalid("Invalid routing key"));
    const Outcome dead = sink->deliver(n, tests::attempt());
    CHECK(dead.kind == Kind::kRejected);
    CHECK(dead.sink_is_dead);
  }
}

TEST_CASE("pagerduty: of several alerts one that is refused keeps none of the others",
          "[sinks][pagerduty][F48]") {
  HttpStub stub;
  const auto sink = pagerduty_to(stub);
  stub.then(accepted());
  stub.then(invalid("odd"));  // the second, whole and in short
  stub.then(invalid("odd"));
  stub.otherwise(accepted());
  const Outcome outcome = sink->deliver(several(3), tests::attempt());
  CHECK(outcome.reason == Reason::kPartlyRefused);
  CHECK(outcome.refused == std::vector<std::size_t>{1});
  INFO(outcome.detail);
  CHECK(outcome.detail.find("2 of 3 events accepted, refused: QueueUnreachable{") == 0);
  CHECK(outcome.detail.find("queue=\"q1\"") != std::string::npos);

  HttpStub never;
  never.otherwise(invalid("odd"));
  const Outcome all = pagerduty_to(never)->deliver(several(3), tests::attempt());
  CHECK(all.kind == Kind::kRejected);
  CHECK(all.reason == Reason::kBadRequest);
  CHECK_FALSE(all.sink_is_dead);
  CHECK(all.refused.empty());
}

TEST_CASE("pagerduty: the time of an attempt ends it, whatever is left to tell", "[sinks][pagerduty][F42]") {
  HttpStub stub;
  const auto sink = pagerduty_to(stub);
  stub.then(accepted());
  stub.then(StubStep::of(StubStep::Kind::kNeverAnswer));
  const Outcome outcome = sink->deliver(several(50), tests::attempt(400ms));
  CHECK(outcome.kind == Kind::kUnknown);
  CHECK(stub.requests().size() == 2);
}

TEST_CASE("pagerduty: no outcome shows the routing key", "[sinks][pagerduty]") {
  HttpStub stub;
  const auto sink = pagerduty_to(stub);
  for (const int status : {200, 202, 400, 403, 404, 429, 500}) {
    for (const std::string& body :
         {std::string("no such key: ") + kKey,
          std::string(R"({"status":"success","message":")") + kKey + R"(","dedup_key":")" + kKey + "\"}",
          std::string(R"({"status":"invalid event","errors":["Invalid routing key )") + kKey + "\"]}"}) {
      stub.otherwise(StubStep::answer(status, body));
      const Outcome outcome = sink->deliver(tests::notification(), tests::attempt());
      INFO(outcome.detail);
      CHECK(outcome.detail.find("SECRET") == std::string::npos);
      CHECK(outcome.receipt.find("SECRET") == std::string::npos);
    }
  }
}

TEST_CASE("pagerduty: text from logs stays text", "[sinks][pagerduty]") {
  for (const std::string& hostile : tests::hostile_texts()) {
    INFO(hostile);
    rules::Alert alert = tests::queue_alert(hostile);
    for (const char* label : {"alertname", "severity", "service", "environment", "instance", "component"})
      alert.labels.set(label, hostile);
    alert.annotations = {{"summary", hostile},
                         {"description", hostile + "!"},
                         {"runbook_url", hostile},
                         {"logs_url", "https://logs.example.com/" + hostile}};
    alert.first_line->text = hostile;
    alert.top_values = {{hostile, {{hostile, 1}}}};
    rules::Notification n = tests::notification({alert});
    n.key = n.fallback_for = hostile;
    for (const Payload& event : events_of(n)) {
      check_limits(event.json(), false);
      // The severity and the dedup_key are ours whatever stands in a label, and links lead where the
      // configuration says.
      CHECK(event.json()["payload"]["severity"].string() == "error");
      CHECK(event.json()["dedup_key"].string().find_first_not_of("logbel/0123456789abcdf") ==
            std::string_view::npos);
      for (const Json& link : event.json()["links"].array())
        CHECK(link["href"].string().rfind("https://logs.example.com/", 0) == 0);
      CHECK(Json::parse(event.dump()));
    }
  }
}

namespace {

constexpr const char* kToken = "y_NbSECRETSECRETYEu";

std::string incident(const std::string& status, const std::string& more = "",
                     const std::string& created_at = "2026-05-01T10:00:02Z") {
  return R"({"id":"PT4KHLK","type":"incident","incident_key":null,"status":")" + status +
         R"(","created_at":")" + created_at + "\"" + (more.empty() ? "" : "," + more) + "}";
}

std::string acknowledged_by(const std::string& type, const std::string& at = "2026-05-01T12:01:02+02:00") {
  return R"("acknowledgements":[{"at":")" + at + R"(","acknowledger":{"id":"P1","type":")" + type +
         R"(","summary":"Anna Example"}}])";
}

StubStep listed(const std::vector<std::string>& incidents) {
  std::string list;
  for (const std::string& one : incidents)
    list += (list.empty() ? "" : ",") + one;
  return StubStep::answer(200, R"({"incidents":[)" + list + R"(],"limit":10,"offset":0,"more":false})");
}

std::unique_ptr<Sink> asking(const HttpStub& stub) {
  return tests::make_sink(
      "pagerduty",
      {{"routing_key", kKey}, {"url", stub.url("")}, {"api_token", kToken}, {"api_url", stub.url("")}},
      tests::context());
}

// "found 0, open; Anna Example after 60000 ms".
std::string words_of(const ReadBack& back) {
  std::string words = back.answered ? "found" : "no answer";
  for (const std::size_t index : back.found)
    words += fmt::format(" {}", index);
  if (back.open) words += ", open";
  for (const ReadBack::Acknowledged& one : back.acknowledged)
    words += fmt::format("; {}: {} after {} ms", one.alert, one.who, one.took.count());
  return words;
}

}  // namespace

TEST_CASE("pagerduty: what became of an incident, and who has acknowledged it", "[sinks][pagerduty]") {
  HttpStub stub;
  const auto sink = asking(stub);
  const auto back_of = [&](StubStep step, const rules::Notification& about = tests::notification()) {
    stub.then(std::move(step));
    ReadBack back = sink->read_back(about, tests::attempt());
    CHECK(back.evidence.find("SECRET") == std::string::npos);
    return back;
  };
  SECTION("how it is asked") {
    back_of(listed({incident("triggered")}));
    const tests::StubRequest request = stub.requests().at(0);
    CHECK(request.method == "GET");
    CHECK(request.target == "/incidents?incident_key=logbell%2F" +
                                rules::format_fingerprint(tests::queue_alert().fingerprint()) +
                                "&limit=10&sort_by=created_at%3Adesc");
    CHECK(request.headers.at("authorization") == std::string("Token token=") + kToken);
    CHECK(request.headers.at("accept") == "application/vnd.pagerduty+json;version=2");
    CHECK(request.body.empty());
  }
  SECTION("its answers") {
    const struct {
      const char* why;
      StubStep step;
      const char* expected;
    } rows[] = {
        {"open, and nobody has seen it", listed({incident("triggered")}), "found 0, open"},
        {"a person acknowledged it", listed({incident("acknowledged", acknowledged_by("user_reference"))}),
         "found 0; 0: Anna Example after 60000 ms"},
        {"the first of several",
         listed({incident(
             "acknowledged",
             R"("acknowledgements":[)"
             R"({"at":"2026-05-01T10:03:02Z","acknowledger":{"type":"user_reference","summary":"Bob"}},)"
             R"({"at":"2026-05-01T10:02:02Z","acknowledger":{"type":"user_reference","summary":"Eve"}}])")}),
         "found 0; 0: Eve after 120000 ms"},
        {"an integration is no person",
         listed({incident("acknowledged", acknowledged_by("service_reference"))}), "found 0, open"},
        {"a time that is none", listed({incident("acknowledged", acknowledged_by("user_reference", "soon"))}),
         "found 0, open"},
        {"whoever resolves it has seen it",
         listed(
             {incident("resolved", R"("acknowledgements":[],"last_status_change_at":"2026-05-01T10:05:02Z",)"
                                   R"("last_status_change_by":{"type":"user_reference","summary":"Bob"})")}),
         "found 0; 0: Bob after 300000 ms"},
        {"we are not",
         listed({incident("resolved", R"("last_status_change_at":"2026-05-01T10:05:02Z",)"
                                      R"("last_status_change_by":{"type":"service_reference"})")}),
         "found 0"},
        {"there is none yet", listed({}), "found, open"},
        {"only one that was over before", listed({incident("resolved", "", "2026-05-01T09:00:00Z")}),
         "found, open"},
        {"one that is open is ours, whenever it began",
         listed({incident("resolved"), incident("triggered", "", "2026-05-01T01:00:00Z")}), "found 0, open"},
        {"of those that are over the last",
         listed({incident("resolved", acknowledged_by("user_reference"), "2026-05-01T09:59:00Z"),
                 incident("resolved")}),
         "found 0"},
        {"a token that is not known", StubStep::answer(401, R"({"error":{"code":2006}})"), "no answer"},
        {"one that may not", StubStep::answer(403), "no answer"},
        {"no such place", StubStep::answer(404), "no answer"},
        {"a moment's trouble", StubStep::answer(429), "no answer, open"},
        {"so", StubStep::answer(503), "no answer, open"},
        {"somebody else's page", StubStep::answer(200, "<html>"), "no answer, open"},
        {"another document", StubStep::answer(200, "{}"), "no answer, open"},
        {"nobody there", StubStep::of(StubStep::Kind::kClose), "no answer, open"},
    };
    for (const auto& row : rows) {
      INFO(row.why);
      CHECK(words_of(back_of(row.step)) == row.expected);
    }
  }
  SECTION("what is said of it") {
    const ReadBack seen = back_of(listed({incident("acknowledged", acknowledged_by("user_reference"))}));
    CHECK(seen.acknowledged.at(0).evidence ==
          "Anna Example acknowledged it in PagerDuty, 60 s after it began; incident PT4KHLK is acknowledged");
    CHECK(seen.acknowledged.at(0).at == tests::start() + 62s);
    CHECK(back_of(StubStep::answer(401)).evidence.substr(0, 28) == "GET incidents -> HTTP 401");
    CHECK(back_of(listed({})).evidence == "GET incidents -> there is none with its key");
    CHECK(back_of(listed({incident("triggered", R"("x":"<!channel>")")})).evidence ==
          "GET incidents -> incident PT4KHLK is triggered");
  }
  SECTION("of several alerts each by itself, and what has ended not at all") {
    stub.then(listed({incident("triggered")}));
    stub.then(listed({incident("acknowledged", acknowledged_by("user_reference"))}));
    const ReadBack back =
        sink->read_back(tests::notification({tests::queue_alert("a"), tests::queue_alert("b"),
                                             ended(tests::queue_alert("c"))}),
                        tests::attempt());
    CHECK(words_of(back) == "found 0 1, open; 1: Anna Example after 60000 ms");
    CHECK(stub.requests().size() == 2);
  }
  SECTION("a drill's incident is of all its rules") {
    rules::Notification drill = several(3);
    drill.drill = "0123456789abcdef";
    CHECK(
        words_of(back_of(listed({incident("acknowledged", acknowledged_by("user_reference"))}), drill)) ==
        "found 0 1 2; 0: Anna Example after 60000 ms; 1: Anna Example after 60000 ms; 2: Anna Example after "
        "60000 ms");
    CHECK(stub.requests().at(0).target.find("incident_key=logbell%2Fdrill%2F0123456789abcdef%2F") !=
          std::string::npos);
  }
}

TEST_CASE("pagerduty: whether it may be asked is said, and proves nothing of the sink",
          "[sinks][pagerduty]") {
  HttpStub stub;
  const auto sink = asking(stub);
  stub.then(accepted());
  stub.then(listed({}));
  const Verification good = sink->verify(tests::attempt());
  CHECK(good.verdict == Verification::Verdict::kLive);
  CHECK(good.evidence.find("api_token") == std::string::npos);
  CHECK(stub.requests().at(1).target == "/incidents?limit=1");
  stub.then(accepted());
  stub.then(StubStep::answer(401, std::string("no token ") + kToken));
  const Verification refused = sink->verify(tests::attempt());
  CHECK(refused.verdict == Verification::Verdict::kLive);
  CHECK(refused.evidence.find("; api_token: GET incidents -> HTTP 401") != std::string::npos);
  CHECK(refused.evidence.find("SECRET") == std::string::npos);
  // Without one nobody is asked.
  CHECK_FALSE(pagerduty_to(stub)->read_back(tests::notification(), tests::attempt()).answered);
  CHECK(stub.requests().size() == 4);
}

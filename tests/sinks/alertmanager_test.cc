#include "sinks/alertmanager.h"

#include <catch2/catch.hpp>

#include "tests/sinks/fixtures.h"
#include "tests/support/http_stub.h"

namespace {

using namespace logbell;         // NOLINT(google-build-using-namespace): a test
using namespace logbell::sinks;  // NOLINT(google-build-using-namespace)
using namespace std::chrono_literals;
using rules::Json;
using tests::HttpStub;
using tests::StubStep;

std::unique_ptr<Sink> sink_to(const HttpStub& stub, const std::string& path = "") {
  return tests::make_sink("alertmanager", {{"url", stub.url(path)}}, tests::context());
}

Json sent(const HttpStub& stub, std::size_t request = 0) {
  const auto requests = stub.requests();
  REQUIRE(requests.size() > request);
  return *Json::parse(requests[request].body);
}

}  // namespace

TEST_CASE("alertmanager: the request, to the letter", "[sinks][alertmanager]") {
  HttpStub stub;
  stub.otherwise(StubStep::answer(200));
  const auto sink = sink_to(stub, "/prefix/");
  const Outcome outcome = sink->deliver(tests::notification(), tests::attempt());
  CHECK(outcome.kind == Outcome::Kind::kDelivered);
  CHECK(outcome.receipt == "1 accepted");
  const auto request = stub.requests().front();
  CHECK(request.target == "/prefix/api/v2/alerts");
  CHECK(request.headers.at("content-type") == "application/json");
  tests::check_golden("alertmanager_firing.json", sent(stub).dump(2) + "\n");
  sink->deliver(tests::resolved_notification(), tests::attempt());
  sink->deliver(tests::text_notification(rules::NotifyReason::kRefused, "logbell.yaml:1:1: no"),
                tests::attempt());
  tests::check_golden("alertmanager_refused.json", sent(stub, 2).dump(2) + "\n");
}

TEST_CASE("alertmanager: an alert ends four refreshes after each attempt, or when it did",
          "[sinks][alertmanager]") {
  HttpStub stub;
  stub.otherwise(StubStep::answer(200));
  const auto sink = sink_to(stub);
  Attempt later = tests::attempt();
  later.now = tests::start() + 10min;
  sink->deliver(tests::notification(), later);
  CHECK(sent(stub, 0).at(0)["startsAt"].string() == "2026-05-01T10:00:00Z");
  CHECK(sent(stub, 0).at(0)["endsAt"].string() == "2026-05-01T10:14:00Z");

  later.now = tests::start() + 13min;
  sink->deliver(tests::resolved_notification(), later);
  CHECK(sent(stub, 1).at(0)["endsAt"].string() == "2026-05-01T10:12:00Z");
  // An end that lies ahead would go on firing until then.
  later.now = tests::start() + 11min;
  sink->deliver(tests::resolved_notification(), later);
  CHECK(sent(stub, 2).at(0)["endsAt"].string() == "2026-05-01T10:11:00Z");
  // A start that lies ahead: Alertmanager refuses an end before it.
  later.now = tests::start() - 5s;
  sink->deliver(tests::notification(), later);
  CHECK(sent(stub, 3).at(0)["startsAt"].string() == "2026-05-01T09:59:55Z");
  rules::Notification odd = tests::resolved_notification();
  odd.alerts[0].resolved_at = tests::start() - 1min;
  sink->deliver(odd, tests::attempt());
  CHECK(sent(stub, 4).at(0)["endsAt"].string() == sent(stub, 4).at(0)["startsAt"].string());
}

TEST_CASE("alertmanager: what nobody refreshes does not end by itself while it fires", "[sinks][alertmanager]") {
  HttpStub stub;
  stub.otherwise(StubStep::answer(200));
  const auto sink = sink_to(stub);
  rules::Notification instead = tests::notification();
  instead.fallback_for = "ops-slack";
  sink->deliver(instead, tests::attempt());
  const auto ends = [&](std::size_t request) {
    return *rules::parse_rfc3339(sent(stub, request).at(0)["endsAt"].string());
  };
  CHECK(ends(0) == tests::attempt().now + 24h);
  instead = tests::resolved_notification();
  instead.fallback_for = "ops-slack";
  Attempt later = tests::attempt();
  later.now = tests::start() + 13min;
  sink->deliver(instead, later);
  CHECK(ends(1) == tests::start() + 12min);
  // A refusal is told again after an hour.
  sink->deliver(tests::text_notification(rules::NotifyReason::kRefused, "logbell.yaml:1:1: no"), tests::attempt());
  CHECK(ends(2) == tests::attempt().now + 65min);
}

TEST_CASE("alertmanager: a page is not its answer", "[sinks][alertmanager]") {
  HttpStub stub;
  stub.otherwise(StubStep::answer(200, "\n<html><title>Sign in</title></html>"));
  const auto sink = sink_to(stub);
  const Outcome outcome = sink->deliver(tests::notification(), tests::attempt());
  CHECK(outcome.kind == Outcome::Kind::kRetry);
  CHECK(outcome.reason == Reason::kBadResponse);
  CHECK(outcome.detail.find("Sign in") != std::string::npos);
}

TEST_CASE("alertmanager: one alert that it refuses does not lose the others", "[sinks][alertmanager]") {
  // It keeps the valid ones of a request that it answers with 400: asked in halves until the bad one is
  // known.
  std::vector<rules::Alert> alerts;
  for (int i = 0; i < 4; ++i)
    alerts.push_back(tests::queue_alert("q" + std::to_string(i)));
  HttpStub stub;
  stub.then(StubStep::answer(400, "invalid"));    // 0 1 2 3
  stub.then(StubStep::answer(200));               // 0 1
  stub.then(StubStep::answer(400, "invalid"));    // 2 3
  stub.then(StubStep::answer(400, "bad label"));  // 2
  stub.then(StubStep::answer(200));               // 3
  const Outcome outcome = sink_to(stub)->deliver(tests::notification(alerts), tests::attempt());
  CHECK(outcome.kind == Outcome::Kind::kRejected);
  CHECK(outcome.reason == Reason::kPartlyRefused);
  CHECK_FALSE(outcome.sink_is_dead);
  CHECK(outcome.refused == std::vector<std::size_t>{2});
  CHECK(outcome.detail.rfind("3 of 4 alerts accepted, refused: ", 0) == 0);
  CHECK(outcome.detail.find("queue=\"q2\"") != std::string::npos);
  CHECK(outcome.detail.find("queue=\"q3\"") == std::string::npos);
  CHECK(outcome.detail.find(": HTTP 400: bad label") != std::string::npos);
  REQUIRE(stub.requests().size() == 5);
  CHECK(sent(stub, 1).array().size() == 2);
  CHECK(sent(stub, 3).at(0)["labels"]["queue"].string() == "q2");
  CHECK(sent(stub, 4).at(0)["labels"]["queue"].string() == "q3");
}

TEST_CASE("alertmanager: when it refuses all of them it refuses the message", "[sinks][alertmanager]") {
  HttpStub stub;
  stub.otherwise(StubStep::answer(400, "no"));
  const Outcome outcome = sink_to(stub)->deliver(
      tests::notification({tests::queue_alert("a"), tests::queue_alert("b")}), tests::attempt());
  CHECK(outcome.reason == Reason::kBadRequest);
  CHECK(outcome.refused.empty());
  CHECK(outcome.detail == "2 of 2 alerts refused: HTTP 400: no");
}

TEST_CASE("alertmanager: a failure while asking in halves is a retry of all", "[sinks][alertmanager]") {
  HttpStub stub;
  stub.then(StubStep::answer(400, "invalid"));
  stub.then(StubStep::answer(503));
  const Outcome outcome = sink_to(stub)->deliver(
      tests::notification({tests::queue_alert("a"), tests::queue_alert("b")}), tests::attempt());
  CHECK(outcome.kind == Outcome::Kind::kRetry);
  CHECK(stub.requests().size() == 2);
}

TEST_CASE("alertmanager: retry, rejected, unknown and the deadline", "[sinks][alertmanager][F42]") {
  HttpStub stub;
  const auto sink = sink_to(stub);
  stub.then(StubStep::answer(500, "busy"));
  stub.then(StubStep::answer(404));
  stub.then(StubStep::of(StubStep::Kind::kReset));
  stub.then(StubStep::of(StubStep::Kind::kNeverAnswer));
  stub.then(StubStep::answer(429, "", {{"Retry-After", "7"}}));
  const rules::Notification n = tests::notification();
  CHECK(sink->deliver(n, tests::attempt()).kind == Outcome::Kind::kRetry);
  const Outcome gone = sink->deliver(n, tests::attempt());
  CHECK(gone.kind == Outcome::Kind::kRejected);
  CHECK(gone.sink_is_dead);
  CHECK(sink->deliver(n, tests::attempt()).kind == Outcome::Kind::kUnknown);
  CHECK(sink->deliver(n, tests::attempt(200ms)).kind == Outcome::Kind::kUnknown);
  CHECK(sink->deliver(n, tests::attempt()).retry_after == rules::Duration(7s));
  CHECK(sink->deliver(n, tests::attempt()).kind == Outcome::Kind::kDelivered);
}

TEST_CASE("alertmanager: names and values are such as it takes", "[sinks][alertmanager]") {
  HttpStub stub;
  stub.otherwise(StubStep::answer(200));
  const auto sink = sink_to(stub);
  for (const std::string& text : tests::hostile_texts()) {
    rules::Alert alert = tests::queue_alert(text);
    alert.labels.set("1 odd-näme", "v");
    alert.labels.set("empty_after_cleaning", "\x01");
    alert.annotations.emplace_back("odd-name", text);
    alert.annotations.emplace_back("value", "the operator's own");
    sink->deliver(tests::notification({alert}), tests::attempt());
    const Json seen = sent(stub, stub.requests().size() - 1).at(0);
    for (const auto& [name, value] : seen["labels"].object()) {
      CHECK(rules::is_label_name(name));
      CHECK_FALSE(value.string().empty());
    }
    for (const auto& [name, value] : seen["annotations"].object())
      CHECK(rules::is_label_name(name));
    CHECK(seen["labels"]["queue"].string() == JsonString(text).str());
    CHECK(seen["annotations"]["value"].string() == "the operator's own");
  }
}

TEST_CASE("alertmanager: each peer is told by a lane of its own", "[sinks][alertmanager]") {
  const HttpStub first;
  const HttpStub second;
  tests::FakeFields fields;
  fields.set_list("urls", {first.url(""), second.url("")});
  const std::unique_ptr<SinkConfig> config = tests::configure("alertmanager", fields);
  REQUIRE(config != nullptr);
  REQUIRE(config->lanes() == 2);
  config->build(1, {})->deliver(tests::notification(), tests::attempt());
  CHECK(first.requests().empty());
  CHECK(second.requests().size() == 1);
}

TEST_CASE("alertmanager: F48 too large for what is in between, it goes in halves, then in short",
          "[sinks][alertmanager][F48]") {
  HttpStub stub;
  const auto sink = tests::make_sink("alertmanager", {{"url", stub.url("")}});
  rules::Notification n = tests::notification({tests::queue_alert("a"), tests::queue_alert("b")});
  stub.then(StubStep::answer(413, "too large"));
  stub.then(StubStep::answer(200));
  stub.then(StubStep::answer(413, "too large"));
  const Outcome outcome = sink->deliver(n, tests::attempt());
  CHECK(outcome.kind == Outcome::Kind::kDelivered);
  CHECK(outcome.truncated);
  CHECK(outcome.detail == "sent in short: the whole was refused with HTTP 413: too large");
  const auto requests = stub.requests();
  REQUIRE(requests.size() == 4);
  const rules::Json whole = *rules::Json::parse(requests[2].body);
  const rules::Json less = *rules::Json::parse(requests[3].body);
  CHECK(less.at(0)["labels"].dump() == whole.at(0)["labels"].dump());
  CHECK(less.at(0)["startsAt"].string() == whole.at(0)["startsAt"].string());
  CHECK_FALSE(less.at(0)["annotations"]["summary"].string().empty());
  CHECK(less.at(0)["annotations"]["last_line"].is_null());
  SECTION("and if that is too large as well, it is refused") {
    stub.otherwise(StubStep::answer(413));
    const Outcome refused = sink->deliver(tests::notification(), tests::attempt());
    CHECK(refused.kind == Outcome::Kind::kRejected);
    CHECK_FALSE(refused.sink_is_dead);
  }
}

TEST_CASE("alertmanager: what a drill has brought there is found by its ID, with its receivers",
          "[sinks][alertmanager][F53]") {
  HttpStub stub;
  const auto sink = sink_to(stub);
  rules::Notification drill = tests::notification();
  drill.drill = "00ab";
  drill.alerts.front().labels.set("drill", "00ab");
  drill.alerts.push_back(drill.alerts.front());
  drill.alerts.back().labels.set("queue", "other");
  const auto held = [&](const rules::Alert& alert, const std::string& receivers) {
    return R"({"labels":)" + to_json(alert.labels).dump() + R"(,"receivers":[)" + receivers + "]}";
  };
  // What Alertmanager says of its configuration.
  const auto configured = [](const std::string& receivers) {
    rules::Json original;
    original.set("original", "route:\n  receiver: ops\nreceivers:\n" + receivers);
    rules::Json status;
    status.set("config", std::move(original)).set("uptime", "2026-01-01T00:00:00Z");
    return StubStep::answer(200, status.dump());
  };
  SECTION("what goes only to receivers without any integration is not found") {
    const std::string both = R"({"name":"night"},{"name":"none"})";
    stub.then(StubStep::answer(
        200, "[" + held(drill.alerts[0], R"({"name":"none"})") + "," + held(drill.alerts[1], both) + "]"));
    SECTION("as its configuration says") {
      stub.then(
          configured("- name: none\n  slack_configs: []\n- name: \"night\"\n  pagerduty_configs:\n  - {}\n"));
      const ReadBack back = sink->read_back(drill, tests::attempt());
      CHECK(back.answered);
      CHECK(back.found == std::vector<std::size_t>{1});
      CHECK(back.evidence ==
            "its receivers: night; receivers without any integration, which tell nobody: none");
    }
    SECTION("where it does not say, that is said") {
      stub.then(GENERATE(StubStep::answer(403, "no"),
                         StubStep::answer(200, R"({"config":{"original":"a: ["}})"),
                         StubStep::answer(200, "<html>")));
      const ReadBack back = sink->read_back(drill, tests::attempt());
      CHECK(back.answered);
      CHECK(back.found == std::vector<std::size_t>{0, 1});
      CHECK(back.evidence.find("its receivers: night, none; whether they have an integration is not known: "
                               "GET status -> HTTP ") == 0);
    }
  }
  SECTION("one of two") {
    rules::Alert another = drill.alerts[1];
    another.labels.set("queue", "a third");
    stub.then(StubStep::answer(200, "[" + held(another, R"({"name":"night"})") + "," +
                                        held(drill.alerts[0], R"({"name":"ops"},{"name":"db"})") + "]"));
    stub.then(configured(
        "- name: ops\n  webhook_configs:\n  - url: <secret>\n- name: db\n  email_configs: [{to: a}]\n"));
    const ReadBack back = sink->read_back(drill, tests::attempt());
    CHECK(back.answered);
    CHECK(back.found == std::vector<std::size_t>{0});
    CHECK(back.evidence == "its receivers: db, ops");
    REQUIRE(stub.requests().size() == 2);
    CHECK(stub.requests().back().target == "/api/v2/status");
    CHECK(stub.requests().front().method == "GET");
    CHECK(stub.requests().front().target == "/api/v2/alerts?filter=drill%3D%2200ab%22");
  }
  SECTION("what no receiver gets is not found") {
    stub.then(StubStep::answer(200, "[" + held(drill.alerts[0], "") + "]"));
    const ReadBack back = sink->read_back(drill, tests::attempt());
    CHECK(back.answered);
    CHECK(back.found.empty());
  }
  SECTION("no answer says nothing") {
    stub.then(GENERATE(StubStep::answer(503, "later"), StubStep::answer(200, "{}"),
                       StubStep::answer(200, "<html>")));
    const ReadBack back = sink->read_back(drill, tests::attempt());
    CHECK_FALSE(back.answered);
    CHECK(back.found.empty());
    CHECK(back.evidence.find("GET alerts -> HTTP") == 0);
  }
}

#include "sinks/webhook.h"

#include <catch2/catch.hpp>

#include "sinks/sign.h"
#include "tests/sinks/fixtures.h"
#include "tests/support/http_stub.h"

namespace {

using namespace logbell;         // NOLINT(google-build-using-namespace): a test
using namespace logbell::sinks;  // NOLINT(google-build-using-namespace)
using namespace std::chrono_literals;
using tests::HttpStub;
using tests::StubStep;

}  // namespace

TEST_CASE("webhook: Alertmanager's document, field by field", "[sinks][webhook]") {
  tests::check_golden(
      "webhook_firing.json",
      webhook_payload(tests::notification(), tests::attempt(), tests::context()).json().dump(2) + "\n");
  tests::check_golden(
      "webhook_resolved.json",
      webhook_payload(tests::resolved_notification(), tests::attempt(), tests::context()).json().dump(2) +
          "\n");
  tests::check_golden(
      "webhook_refused.json",
      webhook_payload(tests::text_notification(rules::NotifyReason::kRefused, "logbell.yaml:3:1: no sinks"),
                      tests::attempt(), tests::context())
              .json()
              .dump(2) +
          "\n");
}

TEST_CASE("webhook: delivered, with the receipt that was asked for", "[sinks][webhook]") {
  HttpStub stub;
  stub.then(StubStep::answer(202, R"({"data":{"id":"abc-1"}})"));
  stub.then(StubStep::answer(200, R"({"data":{"id":17}})"));
  stub.then(StubStep::answer(204));
  stub.then(StubStep::answer(200, "not json"));
  const auto sink = tests::make_sink("webhook", {{"url", stub.url("/hook")}, {"receipt", "$.data.id"}});
  const rules::Notification n = tests::notification();
  CHECK(sink->deliver(n, tests::attempt()).receipt == "abc-1");
  CHECK(sink->deliver(n, tests::attempt()).receipt == "17");
  CHECK(sink->deliver(n, tests::attempt()).receipt == "HTTP 204");
  const Outcome last = sink->deliver(n, tests::attempt());
  CHECK(last.kind == Outcome::Kind::kDelivered);
  CHECK(last.receipt == "HTTP 200");
}

TEST_CASE("webhook: a receipt in which the receiver repeats a secret does not hold it", "[sinks][webhook]") {
  HttpStub stub;
  stub.then(StubStep::answer(200, R"({"id":"POST /hooks/abcdefghijklmnop with bearer-0123456789"})"));
  const auto sink = tests::make_sink(
      "webhook",
      {{"url", stub.url("/hooks/abcdefghijklmnop")}, {"bearer_token", "bearer-0123456789"}, {"receipt", "$.id"}});
  CHECK(sink->deliver(tests::notification(), tests::attempt()).receipt == "POST <secret> with <secret>");
}

TEST_CASE("webhook: each attempt carries the same key, and with a secret a signature of what was sent",
          "[sinks][webhook]") {
  HttpStub stub;
  const auto sink = tests::make_sink(
      "webhook", {{"url", stub.url("/hook")}, {"secret", "s3cr3t"}, {"bearer_token", "tok"}});
  sink->deliver(tests::notification(), tests::attempt());
  Attempt later = tests::attempt();
  later.number = 2;
  later.now += 30s;
  sink->deliver(tests::notification(), later);
  const auto requests = stub.requests();
  REQUIRE(requests.size() == 2);
  CHECK(requests[0].headers.at("content-type") == "application/json");
  CHECK(requests[0].headers.at("idempotency-key") == "8f2c0d1e2f3a4b5c6d7e8f9012345678");
  CHECK(requests[1].headers.at("idempotency-key") == requests[0].headers.at("idempotency-key"));
  CHECK(requests[0].headers.at("authorization") == "Bearer tok");
  CHECK(requests[0].headers.at("x-logbell-timestamp") == "1777629603");
  for (const tests::StubRequest& request : requests) {
    CHECK(request.headers.at("x-logbell-signature") ==
          "sha256=" +
              sign(rules::Secret("s3cr3t"), request.headers.at("x-logbell-timestamp") + "." + request.body));
  }
  CHECK(requests[0].headers.at("x-logbell-signature") != requests[1].headers.at("x-logbell-signature"));
}

TEST_CASE("webhook: a key from anywhere cannot become a header", "[sinks][webhook]") {
  HttpStub stub;
  const auto sink = tests::make_sink("webhook", {{"url", stub.url("/hook")}});
  rules::Notification n = tests::notification();
  n.key = "a\r\nX-Evil: 1\r\n\r\nbody";
  CHECK(sink->deliver(n, tests::attempt()).kind == Outcome::Kind::kDelivered);
  CHECK(stub.requests()[0].headers.count("x-evil") == 0);
}

TEST_CASE("webhook: retry, rejected, unknown and the deadline", "[sinks][webhook][F41]") {
  HttpStub stub;
  const auto sink = tests::make_sink("webhook", {{"url", stub.url("/hook?token=SECRETSECRET")}});
  stub.then(StubStep::answer(503, "busy"));
  stub.then(StubStep::answer(422, "no such field"));
  stub.then(StubStep::answer(401, "who are you"));
  stub.then(StubStep::answer(409, "still at work on it"));
  stub.then(StubStep::of(StubStep::Kind::kClose));
  stub.then(StubStep::of(StubStep::Kind::kNeverAnswer));
  const rules::Notification n = tests::notification();
  const Outcome busy = sink->deliver(n, tests::attempt());
  CHECK(busy.kind == Outcome::Kind::kRetry);
  CHECK(busy.detail == "HTTP 503: busy");
  const Outcome refused = sink->deliver(n, tests::attempt());
  CHECK(refused.kind == Outcome::Kind::kRejected);
  CHECK_FALSE(refused.sink_is_dead);
  const Outcome unauthorised = sink->deliver(n, tests::attempt());
  CHECK(unauthorised.kind == Outcome::Kind::kRejected);
  CHECK(unauthorised.sink_is_dead);
  CHECK(sink->deliver(n, tests::attempt()).kind == Outcome::Kind::kRetry);
  CHECK(sink->deliver(n, tests::attempt()).kind == Outcome::Kind::kUnknown);
  CHECK(sink->deliver(n, tests::attempt(200ms)).kind == Outcome::Kind::kUnknown);
  CHECK(sink->deliver(n, tests::attempt()).kind == Outcome::Kind::kDelivered);
}

TEST_CASE("webhook: F48 a value that is too long is cut, between two characters, and the message says so",
          "[sinks][webhook][F48]") {
  HttpStub stub;
  const auto sink = tests::make_sink("webhook", {{"url", stub.url("/hook")}});
  CHECK_FALSE(sink->deliver(tests::notification(), tests::attempt()).truncated);
  std::string family;
  while (family.size() < 20UL * 1024)
    family += "👍🏽";
  const Outcome outcome = sink->deliver(tests::notification({tests::queue_alert(family)}), tests::attempt());
  CHECK(outcome.kind == Outcome::Kind::kDelivered);
  CHECK(outcome.truncated);
  const rules::Json seen = *rules::Json::parse(stub.requests()[1].body);
  const std::string queue(seen["alerts"].at(0)["labels"]["queue"].string());
  CHECK(queue.size() <= 16UL * 1024);
  CHECK(queue.size() > 16UL * 1024 - 16);
  CHECK(queue.substr(queue.size() - 11) == "👍🏽…");
}

TEST_CASE("webhook: F48 what is refused as it is gets one more chance, in short", "[sinks][webhook][F48]") {
  HttpStub stub;
  const auto sink = tests::make_sink("webhook", {{"url", stub.url("/hook")}, {"secret", "signing-secret"}});
  const rules::Notification n = tests::notification();
  const int status = GENERATE(400, 413);
  stub.then(StubStep::answer(status, "too much"));
  SECTION("and arrives") {
    const Outcome outcome = sink->deliver(n, tests::attempt());
    CHECK(outcome.kind == Outcome::Kind::kDelivered);
    CHECK(outcome.detail.find("in short") != std::string::npos);
    CHECK(outcome.truncated);
    CHECK(outcome.detail.find(std::to_string(status)) != std::string::npos);
    const auto requests = stub.requests();
    REQUIRE(requests.size() == 2);
    CHECK(requests[1].body.size() < requests[0].body.size());
    const rules::Json full = *rules::Json::parse(requests[0].body);
    const rules::Json seen = *rules::Json::parse(requests[1].body);
    CHECK(seen["version"].string() == "4");
    CHECK(seen["deliveryKey"].string() == n.key);
    CHECK(requests[1].headers.at("idempotency-key") == requests[0].headers.at("idempotency-key"));
    CHECK(requests[1].headers.at("x-logbell-signature") != requests[0].headers.at("x-logbell-signature"));
    const rules::Json& alert = seen["alerts"].at(0);
    CHECK(alert["labels"].dump() == full["alerts"].at(0)["labels"].dump());
    CHECK(alert["startsAt"].string() == full["alerts"].at(0)["startsAt"].string());
    CHECK(alert["annotations"].object().size() == 1);
    CHECK_FALSE(alert["annotations"]["summary"].string().empty());
    CHECK(alert["firstLine"].is_null());
    CHECK(alert["topValues"].is_null());
  }
  SECTION("or not: then it is refused, with what was said last") {
    stub.then(StubStep::answer(413, "still too much"));
    const Outcome outcome = sink->deliver(n, tests::attempt());
    CHECK(outcome.kind == Outcome::Kind::kRejected);
    CHECK(outcome.reason == Reason::kBadRequest);
    CHECK(outcome.detail == "HTTP 413: still too much");
    CHECK(stub.requests().size() == 2);
  }
}

TEST_CASE("webhook: hostile text stays inside its strings", "[sinks][webhook]") {
  for (const std::string& text : tests::hostile_texts()) {
    rules::Alert alert = tests::queue_alert(text);
    alert.annotations.emplace_back(text, text);
    alert.first_line->text = text;
    alert.top_values = {{text, {{text, 1}}}};
    const std::string body =
        webhook_payload(tests::notification({alert}), tests::attempt(), tests::context()).dump();
    const rules::Result<rules::Json> json = rules::Json::parse(body);
    REQUIRE(json);
    const rules::Json& seen = (*json)["alerts"].at(0);
    CHECK(seen["labels"]["queue"].string() == JsonString(text).str());
    CHECK(seen["firstLine"]["text"].string() == JsonString(text).str());
    CHECK(json->object().size() == 13);
    for (const char c : body)
      CHECK(static_cast<unsigned char>(c) >= 0x20);
  }
}

#include "sinks/slack_app.h"

#include <functional>

#include <catch2/catch.hpp>

#include "sinks/slack_message.h"
#include "tests/sinks/fixtures.h"
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

constexpr const char* kToken = "xoxb-1234567890-SECRETSECRET";
constexpr const char* kChannel = "C012AB3CD";
constexpr const char* kFirst = "C012AB3CD 1777629601.000100 https://acme.slack.com/archives/C012AB3CD/p1";

std::unique_ptr<Sink> app_to(const HttpStub& stub, const std::string& channel = kChannel) {
  return tests::make_sink("slack_app",
                          {{"token", kToken}, {"channel", channel}, {"api_url", stub.url("/api")}},
                          tests::context());
}

StubStep posted(const std::string& ts = "1777629601.000100", const std::string& channel = kChannel) {
  return StubStep::answer(200, R"({"ok":true,"channel":")" + channel + R"(","ts":")" + ts + R"("})");
}
StubStep link() {
  return StubStep::answer(
      200, R"({"ok":true,"permalink":"https://acme.slack.com/archives/C012AB3CD/p1777629601000100"})");
}
StubStep refused(const std::string& word, int status = 200) {
  return StubStep::answer(status, R"({"ok":false,"error":")" + word + "\"}");
}
// History, with the message of `delivery` in it; "": without.
StubStep history(const std::string& delivery, const std::string& cursor = {}, bool more = false) {
  std::string messages = R"({"ts":"1777629600.000001","text":"hello"})";
  if (!delivery.empty()) {
    messages += R"(,{"ts":"1777629601.000100","metadata":{"event_type":"alert_delivery","event_payload":)"
                R"({"delivery_id":")" +
                delivery + "\"}}}";
  }
  return StubStep::answer(200, R"({"ok":true,"messages":[)" + messages + R"(],"has_more":)" +
                                   (more ? "true" : "false") + R"(,"response_metadata":{"next_cursor":")" +
                                   cursor + "\"}}");
}

std::vector<std::string> methods(const HttpStub& stub) {
  std::vector<std::string> out;
  for (const tests::StubRequest& request : stub.requests())
    out.push_back(request.target.substr(request.target.rfind('/') + 1));
  return out;
}
using Methods = std::vector<std::string>;

Json body_of(const HttpStub& stub, std::size_t index) {
  const std::vector<tests::StubRequest> requests = stub.requests();
  REQUIRE(index < requests.size());
  const rules::Result<Json> json = Json::parse(requests[index].body);
  REQUIRE(json);
  return *json;
}

Attempt following(const std::string& receipt = kFirst) {
  Attempt attempt = tests::attempt();
  attempt.first_receipt = receipt;
  return attempt;
}
Attempt again(const std::string& receipt = {}) {
  Attempt attempt = following(receipt);
  attempt.maybe_sent = true;
  return attempt;
}

}  // namespace

TEST_CASE("slack_app: the messages, as they are sent", "[sinks][slack_app]") {
  const auto text = [](const Payload& payload) { return payload.json().dump(2) + "\n"; };
  tests::check_golden("slack_app_message.json",
                      text(slack_app_message(tests::notification(), tests::attempt(), tests::context())));
  tests::check_golden("slack_app_reply.json", text(slack_app_reply(tests::resolved_notification(),
                                                                   tests::attempt(), tests::context())));
}

TEST_CASE("slack_app: delivered is ok with a channel and a ts, and the receipt has the link",
          "[sinks][slack_app]") {
  HttpStub stub;
  stub.then(posted());
  stub.then(link());
  const Outcome outcome = app_to(stub)->deliver(tests::notification(), tests::attempt());
  INFO(outcome.detail);
  CHECK(outcome.kind == Kind::kDelivered);
  CHECK(outcome.begins);
  CHECK(outcome.receipt ==
        "C012AB3CD 1777629601.000100 https://acme.slack.com/archives/C012AB3CD/p1777629601000100");
  CHECK(methods(stub) == Methods{"chat.postMessage", "chat.getPermalink"});
  const tests::StubRequest request = stub.requests().front();
  CHECK(request.target == "/api/chat.postMessage");
  CHECK(request.headers.at("authorization") == std::string("Bearer ") + kToken);
  CHECK(request.headers.at("content-type") == "application/json; charset=utf-8");
  Payload expected = slack_app_message(tests::notification(), tests::attempt(), tests::context());
  expected.set("channel", JsonString(kChannel));
  CHECK(request.body == expected.dump());
  CHECK(stub.requests()[1].body == "channel=C012AB3CD&message_ts=1777629601.000100");

  SECTION("a link is not waited for, nor needed") {
    for (const StubStep& step : {refused("message_not_found"), StubStep::answer(503),
                                 StubStep::answer(200, R"({"ok":true,"permalink":"javascript:x"})")}) {
      HttpStub other;
      other.then(posted());
      other.then(step);
      CHECK(app_to(other)->deliver(tests::notification(), tests::attempt()).receipt ==
            "C012AB3CD 1777629601.000100");
    }
  }
  SECTION("ok without a place: it may be there") {
    for (const char* body :
         {R"({"ok":true})", R"({"ok":true,"channel":"C012AB3CD","ts":"x y"})", R"({"ok":true,"ts":"1.2"})"}) {
      HttpStub other;
      other.then(StubStep::answer(200, body));
      CHECK(app_to(other)->deliver(tests::notification(), tests::attempt()).kind == Kind::kUnknown);
    }
  }
}

TEST_CASE("slack_app: every word means one thing", "[sinks][slack_app][F39][F40][F41]") {
  struct Row {
    StubStep step;
    Kind kind;
    Reason reason;
    bool dead;
    std::size_t requests = 1;
  };
  std::vector<Row> rows;
  for (const char* word : {"invalid_auth", "not_authed", "account_inactive", "token_revoked", "token_expired",
                           "missing_scope", "no_permission", "not_in_channel", "restricted_action",
                           "ekm_access_denied", "team_access_not_granted"})
    rows.push_back({refused(word), Kind::kRejected, Reason::kAuth, true});
  for (const char* word : {"channel_not_found", "is_archived"})
    rows.push_back({refused(word), Kind::kRejected, Reason::kGone, true});
  for (const char* word :
       {"msg_too_long", "invalid_blocks", "too_many_attachments", "no_text", "a_word_of_next_year"})
    rows.push_back({refused(word), Kind::kRejected, Reason::kBadRequest, false, 2});
  for (const char* word : {"ratelimited", "rate_limited", "message_limit_exceeded"})
    rows.push_back({refused(word), Kind::kRetry, Reason::kRateLimited, false});
  for (const char* word : {"service_unavailable", "team_added_to_org"})
    rows.push_back({refused(word), Kind::kRetry, Reason::kServerError, false});
  rows.push_back({refused("request_timeout"), Kind::kRetry, Reason::kTimeout, false});
  // "It's possible some aspect of the operation succeeded."
  for (const char* word : {"internal_error", "fatal_error"})
    rows.push_back({refused(word), Kind::kUnknown, Reason::kResponseLost, false});
  rows.push_back({StubStep::answer(429), Kind::kRetry, Reason::kRateLimited, false});
  rows.push_back({StubStep::answer(503, "<html>"), Kind::kRetry, Reason::kServerError, false});
  rows.push_back({StubStep::answer(200, "<html>sign in</html>"), Kind::kRetry, Reason::kBadResponse, false});
  rows.push_back({StubStep::answer(200, "ok"), Kind::kRetry, Reason::kBadResponse, false});
  rows.push_back({StubStep::answer(500, R"({"ok":true})"), Kind::kRetry, Reason::kServerError, false});
  rows.push_back({StubStep::answer(302), Kind::kRejected, Reason::kBadResponse, true});
  for (const Row& row : rows) {
    INFO(row.step.status << " " << row.step.body);
    HttpStub stub;
    stub.otherwise(row.step);
    const Outcome outcome = app_to(stub)->deliver(tests::notification(), tests::attempt());
    CHECK(outcome.kind == row.kind);
    CHECK(outcome.reason == row.reason);
    CHECK(outcome.sink_is_dead == row.dead);
    CHECK(stub.requests().size() == row.requests);
    CHECK(outcome.detail.find("SECRET") == std::string::npos);
  }
}

TEST_CASE("slack_app: the rate limit's hint is kept", "[sinks][slack_app][F39]") {
  HttpStub stub;
  stub.then(StubStep::answer(429, R"({"ok":false,"error":"ratelimited"})", {{"Retry-After", "30"}}));
  CHECK(app_to(stub)->deliver(tests::notification(), tests::attempt()).retry_after == 30s);
}

TEST_CASE("slack_app: what refuses the blocks gets plain text in the same attempt",
          "[sinks][slack_app][F48]") {
  HttpStub stub;
  stub.then(refused("invalid_blocks"));
  stub.then(posted());
  const Outcome outcome = app_to(stub)->deliver(tests::notification(), tests::attempt());
  CHECK(outcome.kind == Kind::kDelivered);
  CHECK(outcome.truncated);
  CHECK(outcome.detail.find("invalid_blocks") != std::string::npos);
  CHECK(body_of(stub, 1)["blocks"].is_null());
  CHECK(body_of(stub, 1)["metadata"]["event_payload"]["delivery_id"].string() == tests::notification().key);
  SECTION("without the metadata where these are refused") {
    HttpStub other;
    other.then(refused("metadata_too_large"));
    other.then(posted());
    CHECK(app_to(other)->deliver(tests::notification(), tests::attempt()).kind == Kind::kDelivered);
    CHECK(body_of(other, 1)["metadata"].is_null());
  }
  SECTION("an update too, and the old blocks go") {
    HttpStub other;
    other.then(refused("msg_too_long"));
    other.then(posted());
    other.then(posted("1777629700.000200"));
    const Outcome second = app_to(other)->deliver(tests::resolved_notification(), following());
    CHECK(second.kind == Kind::kDelivered);
    CHECK(second.truncated);
    CHECK(methods(other) == Methods{"chat.update", "chat.update", "chat.postMessage", "chat.getPermalink"});
    CHECK(body_of(other, 1)["blocks"] == Json(Json::Array{}));
  }
}

TEST_CASE("slack_app: an answer that is lost is unknown, one that never comes ends at the deadline",
          "[sinks][slack_app][F42]") {
  for (const StubStep::Kind kind : {StubStep::Kind::kNeverAnswer, StubStep::Kind::kDripHeaders,
                                    StubStep::Kind::kClose, StubStep::Kind::kTruncate}) {
    HttpStub stub;
    stub.then(StubStep::of(kind));
    const Outcome outcome = app_to(stub)->deliver(tests::notification(), tests::attempt(300ms));
    CHECK(outcome.kind == Kind::kUnknown);
    CHECK(outcome.detail.find("SECRET") == std::string::npos);
  }
}

TEST_CASE("slack_app: what follows changes the first message and replies in its thread",
          "[sinks][slack_app]") {
  HttpStub stub;
  stub.then(posted());
  stub.then(posted("1777630321.000200"));
  stub.then(link());
  const auto sink = app_to(stub);
  const Outcome outcome = sink->deliver(tests::resolved_notification(), following());
  CHECK(outcome.kind == Kind::kDelivered);
  CHECK_FALSE(outcome.begins);
  CHECK(outcome.receipt.rfind("C012AB3CD 1777630321.000200 https://", 0) == 0);
  CHECK(methods(stub) == Methods{"chat.update", "chat.postMessage", "chat.getPermalink"});
  const Json update = body_of(stub, 0);
  CHECK(update["channel"].string() == kChannel);
  CHECK(update["ts"].string() == "1777629601.000100");
  CHECK(update["blocks"].at(0)["text"]["text"].string().find("Resolved") != std::string::npos);
  CHECK(update["metadata"].is_null());  // the first delivery's stays
  const Json reply = body_of(stub, 1);
  CHECK(reply["thread_ts"].string() == "1777629601.000100");
  CHECK(reply["reply_broadcast"] == Json(false));
  CHECK(reply["metadata"]["event_payload"]["delivery_id"].string() == tests::resolved_notification().key);

  SECTION("what fires again is seen in the channel") {
    for (const NotifyReason reason : {NotifyReason::kNewAlerts, NotifyReason::kRepeat}) {
      HttpStub other;
      other.otherwise(posted());
      app_to(other)->deliver(tests::notification({tests::queue_alert()}, reason), following());
      CHECK(body_of(other, 1)["reply_broadcast"] == Json(true));
    }
  }
  SECTION("of a list that is told in parts, a part is not how it stands with all") {
    for (const bool over : {true, false}) {
      HttpStub other;
      other.otherwise(posted());
      rules::Notification part = over ? tests::resolved_notification() : tests::notification();
      if (over) part.reason = NotifyReason::kResolvedSome;
      app_to(other)->deliver(part, following());
      CHECK(methods(other).front() == "chat.postMessage");
      CHECK(body_of(other, 0)["thread_ts"].string() == "1777629601.000100");
    }
  }
  SECTION("a receipt that is none of ours is no first message") {
    for (const char* receipt : {"ok", "C012AB3CD", "C012AB3CD x", "c012 1.2", "C012AB3CD 1777629601"}) {
      HttpStub other;
      other.otherwise(posted());
      CHECK(app_to(other)->deliver(tests::resolved_notification(), following(receipt)).begins);
      CHECK(methods(other).front() == "chat.postMessage");
    }
  }
  SECTION("a channel that was changed: the end goes where the beginning was, the rest to the new one") {
    HttpStub other;
    other.otherwise(posted("1777630321.000200", "C99999999"));
    const auto moved = app_to(other, "C99999999");
    CHECK(moved->deliver(tests::notification(), following()).begins);
    CHECK(body_of(other, 0)["channel"].string() == "C99999999");
    CHECK_FALSE(moved->deliver(tests::resolved_notification(), following()).begins);
    CHECK(body_of(other, 2)["channel"].string() == kChannel);
  }
}

TEST_CASE("slack_app: a first message that is gone is posted anew", "[sinks][slack_app]") {
  for (const char* word : {"message_not_found", "cant_update_message", "edit_window_closed"}) {
    INFO(word);
    HttpStub stub;
    stub.then(refused(word));
    stub.then(posted("1777630321.000200"));
    const Outcome outcome = app_to(stub)->deliver(tests::resolved_notification(), following());
    CHECK(outcome.kind == Kind::kDelivered);
    CHECK(outcome.begins);
    CHECK(methods(stub) == Methods{"chat.update", "chat.postMessage", "chat.getPermalink"});
    CHECK(body_of(stub, 1)["thread_ts"].is_null());
  }
  SECTION("its thread") {
    HttpStub stub;
    stub.then(posted());
    stub.then(refused("restricted_action_thread_locked"));
    stub.then(posted());
    CHECK(app_to(stub)->deliver(tests::resolved_notification(), following()).begins);
  }
}

TEST_CASE("slack_app: an update that fails is tried again, and nothing is replied before",
          "[sinks][slack_app]") {
  struct Row {
    StubStep step;
    Kind kind;
  };
  const std::vector<Row> rows{{StubStep::answer(503), Kind::kRetry},
                              {refused("ratelimited", 429), Kind::kRetry},
                              {StubStep::of(StubStep::Kind::kClose), Kind::kRetry},  // twice shows as once
                              {refused("fatal_error"), Kind::kRetry},
                              {refused("token_revoked"), Kind::kRejected}};
  for (const Row& row : rows) {
    INFO(row.step.body);
    HttpStub stub;
    stub.then(row.step);
    CHECK(app_to(stub)->deliver(tests::resolved_notification(), following()).kind == row.kind);
    CHECK(methods(stub) == Methods{"chat.update"});
  }
  HttpStub stub;
  stub.then(posted());
  stub.then(StubStep::of(StubStep::Kind::kClose));
  CHECK(app_to(stub)->deliver(tests::resolved_notification(), following()).kind == Kind::kUnknown);
}

TEST_CASE("slack_app: F43 what may have been sent is looked for first", "[sinks][slack_app][F43]") {
  const std::string key = tests::notification().key;
  SECTION("it is there") {
    HttpStub stub;
    stub.then(history("another"));
    stub.then(link());
    stub.then(history(key));
    stub.then(link());
    const auto sink = app_to(stub);
    CHECK(sink->deliver(tests::notification(), again()).kind == Kind::kUnknown);  // no ts in a link's answer
    const Outcome found = sink->deliver(tests::notification(), again());
    CHECK(found.kind == Kind::kDelivered);
    CHECK(found.receipt.rfind("C012AB3CD 1777629601.000100 https://", 0) == 0);
    CHECK(methods(stub) ==
          Methods{"conversations.history", "chat.postMessage", "conversations.history", "chat.getPermalink"});
    // 2026-05-01T10:00:01Z, and five minutes before.
    CHECK(stub.requests()[2].body ==
          "channel=C012AB3CD&oldest=1777629301.000000&include_all_metadata=true&limit=100");
    CHECK(stub.requests()[2].headers.at("content-type") == "application/x-www-form-urlencoded");
  }
  SECTION("it is on another page") {
    HttpStub stub;
    stub.then(history("", "bmV4dA==", true));
    stub.then(history(key));
    CHECK(app_to(stub)->deliver(tests::notification(), again()).kind == Kind::kDelivered);
    CHECK(stub.requests()[1].body.find("&cursor=bmV4dA%3D%3D") != std::string::npos);
  }
  SECTION("it is not there: nobody is told of a duplicate that is none") {
    HttpStub stub;
    stub.then(history(""));
    stub.then(posted());
    CHECK(app_to(stub)->deliver(tests::notification(), again()).kind == Kind::kDelivered);
    CHECK(stub.requests()[1].body.find("duplicate") == std::string::npos);
  }
  SECTION("nobody can say: it is told, as what it may be") {
    for (const StubStep& step : {refused("missing_scope"), StubStep::answer(503), refused("ratelimited", 429),
                                 StubStep::answer(200, "<html>"), history("", "", true)}) {
      HttpStub stub;
      stub.then(step);
      stub.then(posted());
      CHECK(app_to(stub)->deliver(tests::notification(), again()).kind == Kind::kDelivered);
      CHECK(stub.requests()[1].body.find("duplicate") != std::string::npos);
    }
  }
  SECTION("a reply is looked for in its thread") {
    HttpStub stub;
    stub.then(history(tests::resolved_notification().key));
    const Outcome outcome = app_to(stub)->deliver(tests::resolved_notification(), again(kFirst));
    CHECK(outcome.kind == Kind::kDelivered);
    CHECK_FALSE(outcome.begins);
    CHECK(methods(stub) == Methods{"conversations.replies", "chat.getPermalink"});
    CHECK(stub.requests()[0].body.find("channel=C012AB3CD&ts=1777629601.000100&") == 0);
  }
  SECTION("a channel by its name is found among the bot's own") {
    HttpStub stub;
    stub.then(StubStep::answer(
        200,
        R"({"ok":true,"channels":[{"id":"C00000001","name":"other"}],"response_metadata":{"next_cursor":"n"}})"));
    stub.then(StubStep::answer(200, R"({"ok":true,"channels":[{"id":"C012AB3CD","name":"ops"}]})"));
    stub.then(history(key));
    const auto sink = app_to(stub, "#ops");
    CHECK(sink->deliver(tests::notification(), again()).kind == Kind::kDelivered);
    CHECK(methods(stub) == Methods{"users.conversations", "users.conversations", "conversations.history",
                                   "chat.getPermalink"});
  }
  SECTION("a search that hangs leaves time to tell") {
    HttpStub stub;
    stub.then(StubStep::of(StubStep::Kind::kNeverAnswer));
    stub.then(posted());
    Attempt attempt = again();
    attempt.timeout = 600ms;
    CHECK(app_to(stub)->deliver(tests::notification(), attempt).kind == Kind::kDelivered);
  }
}

TEST_CASE("slack_app: F43 a message for many is known by each of them", "[sinks][slack_app][F43]") {
  rules::Notification a = tests::notification();
  rules::Notification b = a;
  rules::Notification c = a;
  a.key = "a";
  b.key = "b";
  c.key = "c";
  rules::Notification both = a;
  both.key = "coalesced/1";
  const auto of_two = [&](Attempt attempt) {
    attempt.speaks_for = {&a, &b};
    return attempt;
  };
  // What Slack has of it, as we have sent it.
  const auto kept = [&](const rules::Notification& n, const Attempt& attempt) {
    const rules::Json metadata = slack_app_message(n, attempt, tests::context()).json()["metadata"];
    return StubStep::answer(200, R"({"ok":true,"messages":[{"ts":"1777629601.000100","metadata":)" +
                                     metadata.dump() + R"(}],"has_more":false})");
  };
  const StubStep there = kept(both, of_two(tests::attempt()));
  HttpStub stub;
  stub.then(there);
  stub.then(link());
  SECTION("by all of them, whatever they are called together") {
    rules::Notification another = both;
    another.key = "coalesced/2";
    CHECK(app_to(stub)->deliver(another, of_two(again())).kind == Kind::kDelivered);
    CHECK(methods(stub) == Methods{"conversations.history", "chat.getPermalink"});
  }
  SECTION("by one of them, which may not make it a message of its own") {
    const Outcome outcome = app_to(stub)->deliver(b, again());
    CHECK(outcome.kind == Kind::kDelivered);
    CHECK_FALSE(outcome.begins);
    CHECK(methods(stub) == Methods{"conversations.history", "chat.getPermalink"});
    HttpStub next;
    next.then(posted());
    CHECK(app_to(next)->deliver(b, following(outcome.receipt)).begins);
    CHECK(methods(next) == Methods{"chat.postMessage", "chat.getPermalink"});
  }
  SECTION("with one more it is another one, in part a duplicate") {
    HttpStub other;
    other.then(there);
    other.then(posted());
    Attempt attempt = again();
    attempt.speaks_for = {&a, &b, &c};
    rules::Notification three = a;
    three.key = "coalesced/3";
    CHECK(app_to(other)->deliver(three, attempt).kind == Kind::kDelivered);
    CHECK(methods(other) == Methods{"conversations.history", "chat.postMessage", "chat.getPermalink"});
    CHECK(other.requests()[1].body.find("duplicate") != std::string::npos);
  }
  SECTION("by nobody else") {
    HttpStub other;
    other.then(there);
    other.then(posted());
    CHECK(app_to(other)->deliver(c, again()).kind == Kind::kDelivered);
    CHECK(other.requests()[1].body.find("duplicate") == std::string::npos);
  }
}

TEST_CASE("slack_app: what was posted is read back by its delivery's id", "[sinks][slack_app][F53]") {
  const auto read_back = [](const StubStep& step) {
    HttpStub stub;
    stub.then(step);
    ReadBack back = app_to(stub)->read_back(tests::notification(), tests::attempt());
    CHECK(methods(stub) == Methods{"conversations.history"});
    return back;
  };
  const ReadBack there = read_back(history(tests::notification().key));
  CHECK(there.answered);
  CHECK(there.found == std::vector<std::size_t>{0});
  CHECK(there.evidence == "conversations.history -> C012AB3CD 1777629601.000100");
  const ReadBack gone = read_back(history("another"));
  CHECK(gone.answered);
  CHECK(gone.found.empty());
  for (const StubStep& step :
       {refused("missing_scope"), StubStep::answer(503), StubStep::answer(200, "<html>")})
    CHECK_FALSE(read_back(step).answered);
}

TEST_CASE("slack_app: text from logs is never a mention, a link or mark-up", "[sinks][slack_app]") {
  for (const std::string& hostile : tests::hostile_texts()) {
    INFO(hostile);
    rules::Alert alert = tests::queue_alert(hostile);
    alert.annotations = {{"summary", hostile}};
    rules::Notification n = tests::notification({alert, alert});
    n.key = hostile;
    n.group_labels = {{"a", hostile}};
    const Json reply = slack_app_reply(n, again(), tests::context()).json();
    const std::string_view text = reply["text"].string();
    CHECK(text.find_first_of("<>`*~") == std::string::npos);
    CHECK(text.find("://") == std::string::npos);
    CHECK(reply["link_names"] == Json(false));
    CHECK(Json::parse(slack_app_message(n, again(), tests::context()).dump()));
  }
}

TEST_CASE("slack_app: no outcome shows the token", "[sinks][slack_app]") {
  HttpStub stub;
  const auto sink = app_to(stub);
  for (const int status : {200, 400, 403, 500}) {
    stub.otherwise(StubStep::answer(status, std::string(R"({"ok":false,"error":"bad )") + kToken + "\"}"));
    CHECK(sink->deliver(tests::notification(), tests::attempt()).detail.find("SECRET") == std::string::npos);
    CHECK(sink->verify(tests::attempt()).evidence.find("SECRET") == std::string::npos);
  }
}

#include "sinks/slack.h"

#include <functional>

#include <catch2/catch.hpp>

#include "sinks/slack_message.h"
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

std::unique_ptr<Sink> slack_to(const HttpStub& stub,
                               const std::string& path = "/services/T0AAAAAA1/B0BBBBBB2/SECRETSECRET") {
  return tests::make_sink("slack", {{"webhook_url", stub.url(path)}}, tests::context());
}

std::string payload_text(const rules::Notification& n, const Attempt& attempt = tests::attempt()) {
  return slack_payload(n, attempt, tests::context()).json().dump(2) + "\n";
}

// Every string in the document, with the name it stands under.
void visit(const Json& json, const std::function<void(std::string_view, std::string_view)>& seen,
           std::string_view name = {}) {
  if (json.is_string()) seen(name, json.string());
  for (const Json& item : json.array())
    visit(item, seen, name);
  for (const auto& [key, value] : json.object())
    visit(value, seen, key);
}

// SINKS.md §2, as far as it is published.
void check_limits(const Json& payload) {
  CHECK(count_units(payload["text"].string()) <= 4000);
  CHECK_FALSE(payload["text"].string().empty());
  const Json& blocks = payload["blocks"];
  CHECK(blocks.array().size() <= 50);
  std::size_t total = 0;
  for (const Json& block : blocks.array()) {
    const std::string_view type = block["type"].string();
    if (type == "header") {
      CHECK(count_units(block["text"]["text"].string()) <= 150);
      CHECK_FALSE(block["text"]["text"].string().empty());
    } else if (type == "section") {
      CHECK(count_units(block["text"]["text"].string()) <= 3000);
      CHECK(block["fields"].array().size() <= 10);
      for (const Json& field : block["fields"].array())
        CHECK(count_units(field["text"].string()) <= 2000);
    } else if (type == "context") {
      CHECK(block["elements"].array().size() <= 10);
      CHECK_FALSE(block["elements"].array().empty());
    } else {
      CHECK(type == "rich_text");
      CHECK_FALSE(block["elements"].array().empty());
    }
    visit(block, [&](std::string_view name, std::string_view text) {
      if (name != "text") return;
      CHECK_FALSE(text.empty());  // Slack refuses an empty text
      total += count_units(text);
    });
  }
  CHECK(total < 13000);
}

}  // namespace

TEST_CASE("slack: the messages, as they are sent", "[sinks][slack]") {
  for (const tests::SlackSample& sample : tests::slack_samples()) {
    if (!sample.golden) continue;
    tests::check_golden("slack_" + sample.name + ".json", payload_text(sample.notification, sample.attempt));
  }
  tests::check_golden(
      "slack_minimal.json",
      slack_minimal_message(tests::notification(), tests::attempt(), tests::context()).json().dump(2) + "\n");
}

TEST_CASE("slack: every message is within Slack's limits", "[sinks][slack][F48]") {
  for (const tests::SlackSample& sample : tests::slack_samples()) {
    INFO(sample.name);
    check_limits(slack_payload(sample.notification, sample.attempt, tests::context()).json());
    const Json minimal = slack_minimal_message(sample.notification, sample.attempt, tests::context()).json();
    CHECK(minimal.object().size() == 4);  // and that nothing in it unfolds or rings by itself
    CHECK(count_units(minimal["text"].string()) <= 4000);
    CHECK_FALSE(minimal["text"].string().empty());
  }
}

TEST_CASE("slack: what is nothing once it is clean leaves no empty text, which Slack refuses", "[sinks][slack][F48]") {
  for (const std::string& nothing : {std::string(), std::string("\x1b"), std::string("\u200b\u202e"), std::string(" \t")}) {
    rules::Alert alert = tests::queue_alert(nothing);
    alert.labels = {{"alertname", nothing}, {"severity", nothing}, {"queue", nothing}, {"instance", nothing}};
    alert.annotations = {{"summary", nothing}, {"description", nothing + nothing}, {"runbook_url", nothing}};
    alert.expr = alert.resolve_reason = nothing;
    alert.first_line->text = nothing;
    alert.top_values = {{nothing, {{nothing, 2}}}};
    for (const std::size_t count : {1U, 2U}) {
      rules::Notification notification = tests::notification();
      notification.alerts.assign(count, alert);
      notification.group_key = nothing;
      notification.key = nothing;
      check_limits(slack_payload(notification, tests::attempt(), tests::context()).json());
      for (rules::Alert& each : notification.alerts)
        each.state = rules::AlertState::kResolved;
      check_limits(slack_payload(notification, tests::attempt(), tests::context()).json());
    }
  }
}

TEST_CASE("slack: the cut falls well for emoji and right-to-left text", "[sinks][slack][F48]") {
  for (const tests::SlackSample& sample : tests::slack_cut_samples()) {
    INFO(sample.name);
    const Json payload = slack_payload(sample.notification, sample.attempt, tests::context()).json();
    const Json minimal = slack_minimal_message(sample.notification, sample.attempt, tests::context()).json();
    for (const Json& message : {payload, minimal}) {
      visit(message, [&](std::string_view, std::string_view shown) {
        CHECK(shown.find("\uFFFD") == std::string_view::npos);
      });
      // Where Slack reads mark-up, & is written &amp;: half of one would be shown as it is.
      const auto whole_entities = [](std::string_view text) {
        for (std::size_t at = text.find('&'); at != std::string_view::npos; at = text.find('&', at + 1)) {
          const std::string_view rest = text.substr(at);
          CHECK((rest.substr(0, 5) == "&amp;" || rest.substr(0, 4) == "&lt;" || rest.substr(0, 4) == "&gt;"));
        }
      };
      whole_entities(message["text"].string());
      for (const Json& block : message["blocks"].array()) {
        for (const Json& field : block["fields"].array())
          whole_entities(field["text"].string());
      }
    }
  }
}

TEST_CASE("slack: text from logs is never a mention, a link or mark-up", "[sinks][slack]") {
  for (const std::string& hostile : tests::hostile_texts()) {
    INFO(hostile);
    rules::Alert alert = tests::queue_alert(hostile);
    alert.labels = {{"alertname", hostile}, {"severity", hostile},    {"queue", hostile},
                    {"service", hostile},   {"environment", hostile}, {"instance", hostile}};
    alert.annotations = {{"summary", hostile}, {"description", hostile + "!"}, {"runbook_url", hostile}};
    alert.expr = hostile;
    alert.first_line->text = hostile;
    alert.last_line->text = hostile + "!";
    alert.top_values = {{hostile, {{hostile, 1}}}};
    alert.resolve_reason = hostile;
    rules::Alert over = alert;
    over.state = rules::AlertState::kResolved;
    over.resolved_at = over.fired_at;
    rules::Notification said = tests::text_notification(NotifyReason::kSummary, hostile);
    for (rules::Notification n : {tests::notification({alert}), tests::notification({alert, over}),
                                  tests::notification({over}), said}) {
      n.key = hostile;
      n.fallback_for = hostile;
      n.group_labels = {{"a", hostile}};
      Attempt attempt = tests::attempt();
      attempt.maybe_sent = true;
      const Json payload = slack_payload(n, attempt, tests::context()).json();
      // Where Slack reads mark-up there is none but our own: bold field names and dates.
      const auto no_markup = [](std::string text) {
        for (const char* ours : {"*Severity*\n", "*Value*\n", "*Since*\n", "*Lasted*\n", "*Instance*\n"}) {
          if (text.rfind(ours, 0) == 0) text.erase(0, std::string_view(ours).size());
        }
        for (std::size_t at = text.find("<!date^"); at != std::string::npos; at = text.find("<!date^"))
          text.erase(at, text.find('>', at) + 1 - at);
        CHECK(text.find_first_of("<>`*~") == std::string::npos);
        CHECK(text.find("://") == std::string::npos);
      };
      no_markup(std::string(payload["text"].string()));
      no_markup(std::string(slack_minimal_message(n, attempt, tests::context()).json()["text"].string()));
      for (const Json& block : payload["blocks"].array()) {
        const std::string_view type = block["type"].string();
        CHECK((type == "header" || type == "section" || type == "context" || type == "rich_text"));
        for (const Json& field : block["fields"].array()) {
          CHECK(field["verbatim"].boolean());
          no_markup(std::string(field["text"].string()));
        }
        if (type == "header") CHECK(block["text"]["type"].string() == "plain_text");
        for (const Json& element : block["elements"].array()) {
          if (type == "context") CHECK(element["type"].string() == "plain_text");
        }
        // The only links are to addresses of the configuration, labelled by us.
        visit(block, [&](std::string_view name, std::string_view text) {
          if (name == "url") CHECK(text == "http://logbell.example.com:9733");
          if (name == "type")
            CHECK((text != "user" && text != "usergroup" && text != "broadcast" && text != "channel" &&
                   text != "emoji"));
          for (const char c : text)
            CHECK((static_cast<unsigned char>(c) >= 0x20 || c == '\n' || c == '\t'));
        });
      }
      CHECK(payload["link_names"] == Json(false));
      CHECK(payload["unfurl_links"] == Json(false));
    }
  }
}

TEST_CASE("slack: delivered is 200 and exactly ok", "[sinks][slack]") {
  HttpStub stub;
  const auto sink = slack_to(stub);
  const Outcome good = sink->deliver(tests::notification(), tests::attempt());
  CHECK(good.kind == Outcome::Kind::kDelivered);
  CHECK(good.receipt == "ok");
  const tests::StubRequest request = stub.requests().front();
  CHECK(request.target == "/services/T0AAAAAA1/B0BBBBBB2/SECRETSECRET");
  CHECK(request.headers.at("content-type") == "application/json; charset=utf-8");
  CHECK(request.body == slack_payload(tests::notification(), tests::attempt(), tests::context()).dump());
  for (const char* other : {"", "OK", "ok\n", "<html>sign in</html>", R"({"ok":true})"}) {
    INFO(other);
    stub.then(StubStep::answer(200, other));
    const Outcome odd = sink->deliver(tests::notification(), tests::attempt());
    CHECK(odd.kind == Outcome::Kind::kRetry);
    CHECK(odd.reason == Reason::kBadResponse);
  }
  stub.then(StubStep::answer(204));
  CHECK(sink->deliver(tests::notification(), tests::attempt()).reason == Reason::kBadResponse);
}

TEST_CASE("slack: every answer that is known means one thing", "[sinks][slack][F40]") {
  struct Row {
    int status;
    std::string body;
    Outcome::Kind kind;
    Reason reason;
    bool dead;
  };
  constexpr auto kRejected = Outcome::Kind::kRejected;
  constexpr auto kRetry = Outcome::Kind::kRetry;
  const std::vector<Row> rows = {
      {403, "invalid_token", kRejected, Reason::kAuth, true},
      {400, "invalid_token", kRejected, Reason::kAuth, true},
      {403, "action_prohibited", kRejected, Reason::kAuth, true},
      {403, "posting_to_general_channel_denied", kRejected, Reason::kAuth, true},
      {404, "channel_not_found", kRejected, Reason::kGone, true},
      {404, "no_service", kRejected, Reason::kGone, true},
      {404, "no_team", kRejected, Reason::kGone, true},
      {404, "no_service_id", kRejected, Reason::kGone, true},
      {404, "no_active_hooks", kRejected, Reason::kGone, true},
      {403, "team_disabled", kRejected, Reason::kGone, true},
      {404, "invalid_team", kRejected, Reason::kGone, true},
      {400, "user_not_found", kRejected, Reason::kGone, true},
      {410, "channel_is_archived", kRejected, Reason::kGone, true},
      {200, "no_service", kRejected, Reason::kGone, true},
      {302, "", kRejected, Reason::kBadResponse, true},
      {500, "rollup_error", kRetry, Reason::kServerError, false},
      {500, "", kRetry, Reason::kServerError, false},
      {503, "<html>", kRetry, Reason::kServerError, false},
      {429, R"({"retry_after":30,"ok":false,"error":"rate_limited"})", kRetry, Reason::kRateLimited, false},
      {200, R"({"retry_after":30,"ok":false,"error":"rate_limited"})", kRetry, Reason::kRateLimited, false},
      {429, "", kRetry, Reason::kRateLimited, false},
      {408, "", kRetry, Reason::kTimeout, false}};
  for (const Row& row : rows) {
    INFO(row.status << " " << row.body);
    HttpStub stub;
    stub.then(StubStep::answer(row.status, row.body));
    const Outcome outcome = slack_to(stub)->deliver(tests::notification(), tests::attempt());
    CHECK(outcome.kind == row.kind);
    CHECK(outcome.reason == row.reason);
    CHECK(outcome.sink_is_dead == row.dead);
    CHECK(stub.requests().size() == 1);  // a dead hook is not asked again
  }
}

TEST_CASE("slack: the rate limit's hint is kept, in whichever form", "[sinks][slack][F39]") {
  struct Row {
    const char* story;
    StubStep step;
    std::optional<rules::Duration> after;
  };
  const std::string json = R"({"retry_after":1.5,"ok":false,"error":"rate_limited"})";
  const std::vector<Row> rows = {
      {"whole seconds", StubStep::answer(429, "", {{"Retry-After", "30"}}), 30s},
      {"a date, against our clock",
       StubStep::answer(429, "", {{"Retry-After", "Fri, 01 May 2026 10:01:03 GMT"}}), 60s},
      {"a fraction in JSON", StubStep::answer(429, json), 1500ms},
      {"both: the longer", StubStep::answer(429, json, {{"Retry-After", "1"}}), 1500ms},
      {"absent", StubStep::answer(429, "rate_limited"), std::nullopt},
      {"a day", StubStep::answer(429, "", {{"Retry-After", "86400"}}), 24h}};
  for (const Row& row : rows) {
    INFO(row.story);
    HttpStub stub;
    stub.then(row.step);
    const Outcome outcome = slack_to(stub)->deliver(tests::notification(), tests::attempt());
    CHECK(outcome.kind == Outcome::Kind::kRetry);
    CHECK(outcome.reason == Reason::kRateLimited);
    CHECK(outcome.retry_after == row.after);
    CHECK(stub.requests().size() == 1);
  }
}

TEST_CASE("slack: F46 a success without Slack's word for it is somebody else's", "[sinks][slack][F46]") {
  HttpStub stub;
  const auto sink = slack_to(stub);
  for (const char* body : {"", "<html>Welcome to our network</html>", "OK", "{\"ok\":true}"}) {
    INFO(body);
    stub.otherwise(StubStep::answer(200, body));
    const Outcome outcome = sink->deliver(tests::notification(), tests::attempt());
    CHECK(outcome.kind == Outcome::Kind::kRetry);
    CHECK(outcome.reason == Reason::kBadResponse);
  }
}

TEST_CASE("slack: F48 a message that had to be cut says so", "[sinks][slack][F48]") {
  HttpStub stub;
  stub.otherwise(StubStep::answer(200, "ok"));
  const auto sink = slack_to(stub);
  CHECK_FALSE(sink->deliver(tests::notification(), tests::attempt()).truncated);
  rules::Alert alert = tests::queue_alert();
  std::string line;
  for (int i = 0; i < 2000; ++i)
    line += "🏳️‍🌈שלום";
  alert.last_line->text = line;
  const Outcome cut = sink->deliver(tests::notification({alert}), tests::attempt());
  CHECK(cut.kind == Outcome::Kind::kDelivered);
  CHECK(cut.truncated);
  // What a lock screen shows is an excerpt always: the whole is in the message.
  alert = tests::queue_alert();
  alert.annotations[0].second = std::string(400, 'x');
  CHECK_FALSE(sink->deliver(tests::notification({alert}), tests::attempt()).truncated);
  stub.then(StubStep::answer(400, "msg_too_long"));
  CHECK(sink->deliver(tests::notification(), tests::attempt()).truncated);
}

TEST_CASE("slack: what refuses the blocks gets plain text in the same attempt", "[sinks][slack][F48]") {
  for (const char* words : {"invalid_blocks", "invalid_blocks_format", "msg_too_long", "invalid_payload",
                            "no_text", "too_many_attachments", "something_new"}) {
    INFO(words);
    HttpStub stub;
    stub.then(StubStep::answer(400, words));
    const Outcome outcome = slack_to(stub)->deliver(tests::notification(), tests::attempt());
    CHECK(outcome.kind == Outcome::Kind::kDelivered);
    CHECK(outcome.detail.find(words) != std::string::npos);
    REQUIRE(stub.requests().size() == 2);
    CHECK(stub.requests()[1].body ==
          slack_minimal_message(tests::notification(), tests::attempt(), tests::context()).dump());
  }
  SECTION("too large for a proxy on the way") {
    HttpStub stub;
    stub.then(StubStep::answer(413));
    CHECK(slack_to(stub)->deliver(tests::notification(), tests::attempt()).kind == Outcome::Kind::kDelivered);
  }
  SECTION("twice is for good, and not the hook's fault") {
    HttpStub stub;
    stub.otherwise(StubStep::answer(400, "invalid_payload"));
    const Outcome outcome = slack_to(stub)->deliver(tests::notification(), tests::attempt());
    CHECK(outcome.kind == Outcome::Kind::kRejected);
    CHECK_FALSE(outcome.sink_is_dead);
    CHECK(stub.requests().size() == 2);
  }
  SECTION("the second answer lost is unknown") {
    HttpStub stub;
    stub.then(StubStep::answer(400, "invalid_blocks"));
    stub.then(StubStep::of(StubStep::Kind::kClose));
    CHECK(slack_to(stub)->deliver(tests::notification(), tests::attempt()).kind == Outcome::Kind::kUnknown);
  }
}

TEST_CASE("slack: an answer that is lost is unknown, one that never comes ends at the deadline",
          "[sinks][slack][F42]") {
  for (const StubStep::Kind kind :
       {StubStep::Kind::kNeverAnswer, StubStep::Kind::kDripHeaders, StubStep::Kind::kDripBody,
        StubStep::Kind::kClose, StubStep::Kind::kTruncate}) {
    HttpStub stub;
    stub.then(StubStep::of(kind));
    const Outcome outcome = slack_to(stub)->deliver(tests::notification(), tests::attempt(300ms));
    CHECK(outcome.kind == Outcome::Kind::kUnknown);
    CHECK(outcome.reason == Reason::kResponseLost);
    CHECK(outcome.detail.find("SECRET") == std::string::npos);
  }
}

TEST_CASE("slack: no outcome shows the secret", "[sinks][slack]") {
  HttpStub stub;
  const auto sink = slack_to(stub);
  for (const int status : {400, 403, 404, 500, 200}) {
    stub.otherwise(StubStep::answer(status, "no such hook: /services/T0AAAAAA1/B0BBBBBB2/SECRETSECRET"));
    const Outcome outcome = sink->deliver(tests::notification(), tests::attempt());
    INFO(outcome.detail);
    CHECK(outcome.detail.find("SECRET") == std::string::npos);
    CHECK(outcome.detail.find("T0AAAAAA1") == std::string::npos);
  }
}

// What tests/sinks/slack_types/check.mjs holds against Slack's own types: it says where they go.
TEST_CASE("slack: every sample makes a message and a minimal one", "[sinks][slack][slack-dump]") {
  Json::Array messages;
  for (const tests::SlackSample& sample : tests::slack_samples()) {
    Json entry;
    entry.set("name", sample.name);
    entry.set("payload", slack_payload(sample.notification, sample.attempt, tests::context()).json());
    messages.push_back(std::move(entry));
    Json minimal;
    minimal.set("name", sample.name + ", minimal");
    minimal.set("payload",
                slack_minimal_message(sample.notification, sample.attempt, tests::context()).json());
    messages.push_back(std::move(minimal));
  }
  CHECK(messages.size() >= 100);
  const char* path = std::getenv("LOGBELL_SLACK_DUMP");
  if (path == nullptr) return;
  std::ofstream out(path);
  out << Json(std::move(messages)).dump();
  CHECK(out.flush());
}

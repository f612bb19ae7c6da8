#include <filesystem>
#include <fstream>

#include <catch2/catch.hpp>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/sinks/fixtures.h"
#include "tests/support/http_stub.h"

namespace {

using namespace logbell;         // NOLINT(google-build-using-namespace): a test
using namespace logbell::sinks;  // NOLINT(google-build-using-namespace)
using namespace std::chrono_literals;
using tests::FakeFields;
using tests::HttpStub;
using tests::StubStep;
using Verdict = Verification::Verdict;
namespace fs = std::filesystem;

constexpr const char* kHook = "/services/T0AAAAAA1/B0BBBBBB2/SECRETSECRET";

struct Row {
  StubStep step;
  Verdict verdict;
  ProofLevel level;
  Reason reason;
};

void check(Sink& sink, HttpStub& stub, const Row& row) {
  stub.then(row.step);
  const Verification verification = sink.verify(tests::attempt(2s));
  INFO(row.step.status << " " << row.step.body << ": " << verification.evidence);
  CHECK(verification.verdict == row.verdict);
  CHECK(verification.level == row.level);
  CHECK(verification.reason == row.reason);
  CHECK(verification.evidence.find("SECRETSECRET") == std::string::npos);
  CHECK_FALSE(verification.evidence.empty());
}

rules::yaml::Node parsed(std::string_view text) {
  rules::Problems problems;
  const std::optional<rules::yaml::Node> node = rules::yaml::parse("probe.yaml", text, problems);
  REQUIRE(node);
  return *node;
}

TEST_CASE("verify: what a Slack webhook answers to a message that is none", "[sinks][verify][F52]") {
  HttpStub stub;
  const auto sink = tests::make_sink("slack", {{"webhook_url", stub.url(kHook)}});
  const auto answer = [](int status, const char* body) { return StubStep::answer(status, body); };
  const std::vector<Row> rows{
      {answer(400, "invalid_payload"), Verdict::kLive, ProofLevel::kCredential, Reason::kOk},
      {answer(400, "invalid_payload\n"), Verdict::kLive, ProofLevel::kCredential, Reason::kOk},
      {answer(400, "invalid_token"), Verdict::kDead, ProofLevel::kNetwork, Reason::kAuth},
      {answer(403, "invalid_token"), Verdict::kDead, ProofLevel::kNetwork, Reason::kAuth},
      {answer(404, "no_service"), Verdict::kDead, ProofLevel::kNetwork, Reason::kGone},
      {answer(410, "channel_is_archived"), Verdict::kDead, ProofLevel::kCredential, Reason::kGone},
      // A workspace that is gone says this to no text, as a live one does: it proves nothing.
      {answer(400, "missing_text_or_fallback_or_attachments"), Verdict::kUnknown, ProofLevel::kNetwork,
       Reason::kBadResponse},
      {answer(400, "no_text"), Verdict::kUnknown, ProofLevel::kNetwork, Reason::kBadResponse},
      {answer(200, "ok"), Verdict::kUnknown, ProofLevel::kNetwork, Reason::kBadResponse},
      {answer(302, ""), Verdict::kUnknown, ProofLevel::kNetwork, Reason::kBadResponse},
      {answer(429, R"({"retry_after":30,"ok":false,"error":"rate_limited"})"), Verdict::kUnknown,
       ProofLevel::kNetwork, Reason::kRateLimited},
      {answer(503, "<html>SECRETSECRET</html>"), Verdict::kUnknown, ProofLevel::kNetwork,
       Reason::kServerError},
      {StubStep::of(StubStep::Kind::kClose), Verdict::kUnknown, ProofLevel::kNetwork, Reason::kResponseLost},
      {StubStep::of(StubStep::Kind::kGarbage), Verdict::kUnknown, ProofLevel::kNetwork,
       Reason::kResponseLost},
  };
  for (const Row& row : rows)
    check(*sink, stub, row);
  // Nothing that Slack could show was sent.
  for (const tests::StubRequest& request : stub.requests()) {
    CHECK(request.method == "POST");
    CHECK_FALSE(rules::Json::parse(request.body));
    CHECK(request.headers.at("content-type") == "application/json");
  }
}

TEST_CASE("verify: what Slack's Web API says of a token and a channel", "[sinks][verify][F52]") {
  const auto ask = [](const char* channel, const std::vector<StubStep>& steps) {
    HttpStub stub;
    for (const StubStep& step : steps)
      stub.then(step);
    Verification answer = tests::make_sink("slack_app", {{"token", "xoxb-1234567890-SECRETSECRET"},
                                                         {"channel", channel},
                                                         {"api_url", stub.url("/api")}})
                              ->verify(tests::attempt(2s));
    CHECK(stub.requests().size() == steps.size());
    for (const tests::StubRequest& request : stub.requests())
      CHECK(request.target.find("chat.") == std::string::npos);  // nothing that anybody could see
    CHECK(answer.evidence.find("SECRETSECRET") == std::string::npos);
    CHECK_FALSE(answer.evidence.empty());
    return answer;
  };
  const auto word = [](const char* error, int status = 200) {
    return StubStep::answer(status, std::string(R"({"ok":false,"error":")") + error + "\"}");
  };
  const auto token = [](const char* scopes) {
    return StubStep::answer(200, R"({"ok":true,"team_id":"T1","bot_id":"B1"})", {{"X-OAuth-Scopes", scopes}});
  };
  const auto channel = [](const char* facts) {
    return StubStep::answer(200, std::string(R"({"ok":true,"channel":{"id":"C012AB3CD",)") + facts + "}}");
  };
  const char* scopes_of_all = "chat:write,channels:read,channels:history";
  const auto l1 = ProofLevel::kNetwork;
  const auto l2 = ProofLevel::kCredential;
  struct Answer {
    std::vector<StubStep> steps;
    Verdict verdict;
    ProofLevel level;
    Reason reason;
    const char* name = "C012AB3CD";
  };
  std::vector<Answer> rows{
      {{token(scopes_of_all), channel(R"("is_member":true)")},
       Verdict::kLive,
       ProofLevel::kDestination,
       Reason::kOk},
      {{token("chat:write, chat:write.public ,channels:read"), channel(R"("is_member":false)")},
       Verdict::kLive,
       ProofLevel::kDestination,
       Reason::kOk},
      {{token(scopes_of_all), channel(R"("is_member":false)")}, Verdict::kDead, l2, Reason::kAuth},
      // Who does not say what the token may, does not say that it may not.
      {{StubStep::answer(200, R"({"ok":true,"team_id":"T1","bot_id":"B1"})"), channel(R"("is_member":false)")},
       Verdict::kLive,
       l2,
       Reason::kOk},
      {{StubStep::answer(200, R"({"ok":true,"team_id":"T1","bot_id":"B1"})"),
        channel(R"("is_member":false,"is_private":true)")},
       Verdict::kDead,
       l2,
       Reason::kAuth},
      {{token(scopes_of_all), channel(R"("is_member":true,"is_archived":true)")},
       Verdict::kDead,
       l2,
       Reason::kGone},
      {{token("channels:read,chat:write.customize")}, Verdict::kDead, l2, Reason::kAuth},
      {{token(scopes_of_all), word("channel_not_found")}, Verdict::kDead, l2, Reason::kGone},
      {{token(scopes_of_all), word("missing_scope")}, Verdict::kLive, l2, Reason::kOk},
      {{token(scopes_of_all), word("token_revoked")}, Verdict::kDead, l1, Reason::kAuth},
      {{token(scopes_of_all), word("invalid_auth")}, Verdict::kDead, l1, Reason::kAuth},
      {{token(scopes_of_all), word("account_inactive")}, Verdict::kDead, l1, Reason::kAuth},
      {{token(scopes_of_all), StubStep::answer(503)}, Verdict::kUnknown, l2, Reason::kServerError},
      {{token(scopes_of_all), word("a_word_of_next_year")}, Verdict::kUnknown, l2, Reason::kBadResponse},
      {{word("ratelimited", 429)}, Verdict::kUnknown, l1, Reason::kRateLimited},
      {{word("internal_error")}, Verdict::kUnknown, l1, Reason::kBadResponse},
      {{StubStep::answer(200, "<html>")}, Verdict::kUnknown, l1, Reason::kBadResponse},
      {{StubStep::answer(401)}, Verdict::kDead, l1, Reason::kAuth},
      {{StubStep::answer(403)}, Verdict::kDead, l1, Reason::kAuth},
      {{StubStep::of(StubStep::Kind::kClose)}, Verdict::kUnknown, l1, Reason::kResponseLost},
      // By its name, among the channels that the bot is in.
      {{token(scopes_of_all),
        StubStep::answer(200, R"({"ok":true,"channels":[{"id":"C012AB3CD","name":"ops"}]})"),
        channel(R"("is_member":true)")},
       Verdict::kLive,
       ProofLevel::kDestination,
       Reason::kOk,
       "#ops"},
      {{token(scopes_of_all), StubStep::answer(200, R"({"ok":true,"channels":[]})")},
       Verdict::kDead,
       l2,
       Reason::kAuth,
       "#ops"},
      {{token("chat:write,chat:write.public"), StubStep::answer(200, R"({"ok":true,"channels":[]})")},
       Verdict::kLive,
       l2,
       Reason::kOk,
       "#ops"},
  };
  for (const char* dead : {"invalid_auth", "not_authed", "account_inactive", "token_revoked", "token_expired",
                           "not_allowed_token_type", "access_denied", "ekm_access_denied",
                           "team_access_not_granted", "enterprise_is_restricted"})
    rows.push_back({{word(dead)}, Verdict::kDead, l1, Reason::kAuth});
  for (const Answer& row : rows) {
    const Verification answer = ask(row.name, row.steps);
    INFO(row.steps.back().body << ": " << answer.evidence);
    CHECK(answer.verdict == row.verdict);
    CHECK(answer.level == row.level);
    CHECK(answer.reason == row.reason);
  }
  // What it lacks for after a crash is said while there is time.
  CHECK(ask("C012AB3CD", {token("chat:write,channels:read"), channel(R"("is_member":true)")})
            .evidence.find("channels:history") != std::string::npos);
}

TEST_CASE("verify: what PagerDuty answers to the end of an incident that never was", "[sinks][verify][F52]") {
  HttpStub stub;
  const auto sink = tests::make_sink(
      "pagerduty", {{"routing_key", "R0123456789ABCDEFGHSECRETSECRET1"}, {"url", stub.url("")}});
  const auto answer = [](int status, const char* body = "") { return StubStep::answer(status, body); };
  const auto invalid = [](const std::string& error) {
    return StubStep::answer(
        400, R"({"status":"invalid event","message":"Event object is invalid","errors":[")" + error + "\"]}");
  };
  const char* processed = R"({"status":"success","message":"Event processed","dedup_key":"x"})";
  const std::vector<Row> rows{
      {answer(202, processed), Verdict::kLive, ProofLevel::kCredential, Reason::kOk},
      {invalid("Invalid routing key"), Verdict::kDead, ProofLevel::kNetwork, Reason::kAuth},
      {invalid("Length of 'routing_key' is incorrect (should be 32 characters)"), Verdict::kDead,
       ProofLevel::kNetwork, Reason::kAuth},
      {answer(400, "Invalid routing key R0123456789ABCDEFGHSECRETSECRET1"), Verdict::kDead,
       ProofLevel::kNetwork, Reason::kAuth},
      {answer(401), Verdict::kDead, ProofLevel::kNetwork, Reason::kAuth},
      {answer(403), Verdict::kDead, ProofLevel::kNetwork, Reason::kAuth},
      {answer(404), Verdict::kDead, ProofLevel::kNetwork, Reason::kGone},
      {answer(405), Verdict::kDead, ProofLevel::kNetwork, Reason::kGone},
      {answer(410), Verdict::kDead, ProofLevel::kNetwork, Reason::kGone},
      // A 400 of another kind is about our question, not about the key.
      {invalid("'dedup_key' is odd"), Verdict::kUnknown, ProofLevel::kNetwork, Reason::kBadResponse},
      {answer(202), Verdict::kUnknown, ProofLevel::kNetwork, Reason::kBadResponse},
      {answer(202, "<html>sign in</html>"), Verdict::kUnknown, ProofLevel::kNetwork, Reason::kBadResponse},
      {answer(200, processed), Verdict::kUnknown, ProofLevel::kNetwork, Reason::kBadResponse},
      {answer(302), Verdict::kUnknown, ProofLevel::kNetwork, Reason::kBadResponse},
      {answer(429), Verdict::kUnknown, ProofLevel::kNetwork, Reason::kRateLimited},
      {answer(503), Verdict::kUnknown, ProofLevel::kNetwork, Reason::kServerError},
      {StubStep::of(StubStep::Kind::kClose), Verdict::kUnknown, ProofLevel::kNetwork, Reason::kResponseLost},
  };
  for (const Row& row : rows)
    check(*sink, stub, row);
  // Nothing that PagerDuty could open an incident for was sent, and always of the same key.
  for (const tests::StubRequest& request : stub.requests()) {
    const auto event = rules::Json::parse(request.body);
    REQUIRE(event);
    CHECK((*event)["event_action"].string() == "resolve");
    CHECK((*event)["dedup_key"].string() == "logbell/is-anybody-there");
    CHECK((*event)["routing_key"].string() == "R0123456789ABCDEFGHSECRETSECRET1");
    CHECK(event->object().size() == 3);
  }
}

TEST_CASE("verify: how long a limit asks to wait goes along", "[sinks][verify][F52]") {
  HttpStub stub;
  const auto sink = tests::make_sink("slack", {{"webhook_url", stub.url(kHook)}});
  stub.then(StubStep::answer(429, "slow down", {{"Retry-After", "30"}}));
  CHECK(sink->verify(tests::attempt()).retry_after == rules::Duration(30s));
}

TEST_CASE("verify: nobody there proves nothing", "[sinks][verify][F52]") {
  std::string url;
  {
    const HttpStub stub;
    url = stub.url(kHook);
  }
  Verification verification = tests::make_sink("slack", {{"webhook_url", url}})->verify(tests::attempt());
  CHECK(verification.verdict == Verdict::kUnknown);
  CHECK(verification.reason == Reason::kConnect);
  CHECK(verification.level == ProofLevel::kStatic);
  verification =
      tests::make_sink("slack", {{"webhook_url", "https://no-such-host.invalid" + std::string(kHook)}})
          ->verify(tests::attempt(3s));
  CHECK(verification.verdict == Verdict::kUnknown);
}

TEST_CASE("verify: Alertmanager is asked with no alerts at all, and with its credentials",
          "[sinks][verify][F52]") {
  HttpStub stub;
  const auto sink =
      tests::make_sink("alertmanager", {{"url", stub.url("/prefix")}, {"bearer_token", "SECRETSECRET"}});
  const auto answer = [](int status, const char* body = "") { return StubStep::answer(status, body); };
  const std::vector<Row> rows{
      {answer(200), Verdict::kLive, ProofLevel::kCredential, Reason::kOk},
      {answer(401, "Unauthorized"), Verdict::kDead, ProofLevel::kNetwork, Reason::kAuth},
      {answer(404, "404 page not found"), Verdict::kDead, ProofLevel::kNetwork, Reason::kGone},
      {answer(503, "starting"), Verdict::kUnknown, ProofLevel::kNetwork, Reason::kServerError},
      {answer(400, "bad SECRETSECRET"), Verdict::kUnknown, ProofLevel::kNetwork, Reason::kBadResponse},
      {answer(200, "<!doctype html><title>Sign in</title>"), Verdict::kDead, ProofLevel::kNetwork, Reason::kBadResponse},
  };
  for (const Row& row : rows)
    check(*sink, stub, row);
  for (const tests::StubRequest& request : stub.requests()) {
    CHECK(request.headers.at("authorization") == "Bearer SECRETSECRET");
    if (request.method == "GET") continue;
    CHECK(request.target == "/prefix/api/v2/alerts");
    CHECK(request.body == "[]");
  }
}

TEST_CASE("verify: an Alertmanager without any integration tells nobody", "[sinks][verify][F52]") {
  HttpStub stub;
  const auto sink = tests::make_sink("alertmanager", {{"url", stub.url("")}});
  const auto runs = [&](const std::string& receivers) {
    rules::Json config;
    config.set("original", "route: {receiver: ops}\nreceivers:\n" + receivers);
    rules::Json status;
    status.set("config", std::move(config));
    stub.then(StubStep::answer(200));
    stub.then(StubStep::answer(200, status.dump()));
    return sink->verify(tests::attempt());
  };
  const Verification dead = runs("- name: ops\n- {name: chat, slack_configs: []}\n");
  CHECK(dead.verdict == Verdict::kDead);
  CHECK(dead.reason == Reason::kGone);
  CHECK(dead.evidence ==
        "GET status -> none of its receivers has an integration, it takes alerts and tells nobody: chat and ops");
  CHECK(stub.requests().back().target == "/api/v2/status");
  // Which of them an alert goes to is a drill's to find out; a receiver for nobody is usual.
  CHECK(runs("- name: ops\n- name: chat\n  slack_configs: [{channel: '#ops'}]\n").verdict == Verdict::kLive);
  // Who does not say it is believed.
  CHECK(runs("[").verdict == Verdict::kLive);
  stub.then(StubStep::answer(200));
  stub.then(StubStep::answer(403));
  const Verification closed = sink->verify(tests::attempt());
  CHECK(closed.verdict == Verdict::kLive);
  CHECK(closed.level == ProofLevel::kCredential);
}

TEST_CASE("verify: a webhook that nobody described is never called dead", "[sinks][verify][F52]") {
  HttpStub stub;
  const auto sink = tests::make_sink("webhook", {{"url", stub.url("/hook/SECRETSECRET")}});
  const auto answer = [](int status) { return StubStep::answer(status); };
  const std::vector<Row> rows{
      {answer(200), Verdict::kLive, ProofLevel::kNetwork, Reason::kOk},
      {answer(405), Verdict::kLive, ProofLevel::kNetwork, Reason::kOk},
      {answer(400), Verdict::kLive, ProofLevel::kNetwork, Reason::kOk},
      {answer(501), Verdict::kLive, ProofLevel::kNetwork, Reason::kOk},
      {answer(301), Verdict::kUnknown, ProofLevel::kNetwork, Reason::kBadResponse},
      {answer(404), Verdict::kUnknown, ProofLevel::kNetwork, Reason::kGone},
      {answer(401), Verdict::kUnknown, ProofLevel::kNetwork, Reason::kAuth},
      {answer(410), Verdict::kUnknown, ProofLevel::kNetwork, Reason::kGone},
      {answer(429), Verdict::kUnknown, ProofLevel::kNetwork, Reason::kRateLimited},
      {answer(502), Verdict::kUnknown, ProofLevel::kNetwork, Reason::kServerError},
  };
  for (const Row& row : rows)
    check(*sink, stub, row);
  for (const tests::StubRequest& request : stub.requests())
    CHECK(request.method == "HEAD");
}

TEST_CASE("verify: a webhook with a probe is dead when it refuses that", "[sinks][verify][F52]") {
  HttpStub stub;
  FakeFields fields({{"url", stub.url("/hook/SECRETSECRET")}});
  rules::yaml::Node probe = parsed("path: /health?deep=1\n");
  bool answers_204 = false;
  SECTION("any 2xx") {}
  SECTION("these") {
    probe = parsed("path: /health?deep=1\nmethod: GET\nexpect: [204, 401]\n");
    answers_204 = true;
  }
  fields.set_raw("probe", probe);
  const auto config = tests::configure("webhook", fields);
  CHECK(fields.errors.empty());
  REQUIRE(config != nullptr);
  const auto sink = config->build(0, {});
  const auto answer = [](int status) { return StubStep::answer(status); };
  const Row live{answer(204), Verdict::kLive, ProofLevel::kCredential, Reason::kOk};
  check(*sink, stub, live);
  check(*sink, stub, {answer(404), Verdict::kDead, ProofLevel::kNetwork, Reason::kGone});
  check(*sink, stub, {answer(500), Verdict::kUnknown, ProofLevel::kNetwork, Reason::kServerError});
  if (answers_204) {
    check(*sink, stub, {answer(401), Verdict::kLive, ProofLevel::kCredential, Reason::kOk});
    check(*sink, stub, {answer(200), Verdict::kUnknown, ProofLevel::kNetwork, Reason::kBadResponse});
  } else {
    check(*sink, stub, {answer(401), Verdict::kDead, ProofLevel::kNetwork, Reason::kAuth});
  }
  for (const tests::StubRequest& request : stub.requests()) {
    CHECK(request.method == "GET");
    CHECK(request.target == "/health?deep=1");
  }
}

TEST_CASE("verify: a probe that says nothing is refused", "[sinks][verify]") {
  for (const char* text : {"method: POST", "path: health", "expect: 200", "expect: [2xx]", "paths: /a",
                           "path: '/a b#c'", "- a"}) {
    FakeFields fields(FakeFields::Texts{{"url", "https://hooks.example.com/x"}});
    fields.set_raw("probe", parsed(text));
    INFO(text);
    CHECK(tests::configure("webhook", fields) == nullptr);
    CHECK(fields.errors.size() == 1);
  }
}

TEST_CASE("verify: files, programs and terminals", "[sinks][verify][F52]") {
  const fs::path dir = fs::temp_directory_path() / ("logbell-verify-" + std::to_string(getpid()));
  fs::create_directories(dir);
  const auto ask = [&](const char* type, FakeFields& fields) {
    const auto config = tests::configure(type, fields);
    REQUIRE(config != nullptr);
    return config->build(0, {})->verify(tests::attempt());
  };
  const auto file = [&](const std::string& name) {
    FakeFields fields({{"path", dir / name}});
    return ask("file", fields);
  };
  CHECK(file("new").verdict == Verdict::kLive);
  CHECK_FALSE(fs::exists(dir / "new"));
  std::ofstream(dir / "old") << "x\n";
  CHECK(file("old").level == ProofLevel::kDestination);
  CHECK(file("nowhere/new").verdict == Verdict::kUnknown);
  fs::create_symlink(dir / "old", dir / "link");
  CHECK(file("link").verdict == Verdict::kDead);
  REQUIRE(mkfifo((dir / "pipe").c_str(), 0600) == 0);
  CHECK(file("pipe").verdict != Verdict::kLive);

  const auto program = [&](const fs::path& path) {
    FakeFields fields;
    fields.set_list("command", {path.string()});
    return ask("exec", fields);
  };
  std::ofstream(dir / "page") << "#!/bin/sh\n";
  fs::permissions(dir / "page", fs::perms::owner_all);
  FakeFields fields;
  fields.set_list("command", {(dir / "page").string()});
  const auto config = tests::configure("exec", fields);
  REQUIRE(config != nullptr);
  CHECK(config->build(0, {})->verify(tests::attempt()).verdict == Verdict::kLive);
  CHECK(config->build(0, {})->verify(tests::attempt()).level == ProofLevel::kNetwork);
  fs::permissions(dir / "page", fs::perms::owner_read);
  CHECK(config->build(0, {})->verify(tests::attempt()).verdict == Verdict::kDead);
  fs::remove(dir / "page");
  const Verification gone = config->build(0, {})->verify(tests::attempt());
  CHECK(gone.verdict == Verdict::kDead);
  CHECK(gone.evidence == "run " + (dir / "page").string() + ": No such file or directory");
  CHECK(program("/bin/true").verdict == Verdict::kLive);

  FakeFields console(FakeFields::Texts{{"stream", "stderr"}});
  CHECK(ask("console", console).verdict == Verdict::kLive);
  fs::remove_all(dir);
}

}  // namespace

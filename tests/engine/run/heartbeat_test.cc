// What earns a heartbeat, when one is sent, and what its receiver hears.
#include "engine/run/heartbeat.h"

#include <map>
#include <vector>

#include <catch2/catch.hpp>
#include <fmt/format.h>

#include "tests/support/fake_clock.h"
#include "tests/support/http_stub.h"

namespace logbell::engine {
namespace {

using namespace std::chrono_literals;
using rules::Duration;
using tests::FakeClock;
using tests::HttpStub;
using tests::StubStep;
using Kind = Pulse::Kind;
using Lines = std::vector<std::string>;

const Lines kNothing;

constexpr const char* kUuid = "5bf66975-d4c7-4bf5-bcc8-b8d8a82ea278";

// --- configurations

constexpr const char* kBase = R"(
state_dir: /var/lib/logbell
environment: production
sources: [{name: app, files: [/var/log/app.log]}]
patterns: {err: {match: ERROR, examples: [ERROR]}}
rules: [{alert: Errors, expr: 'count_over_time(err[1m]) > 1', sinks: [a]}]
sinks:
  a: {webhook: {url: 'https://a.example.com/hook'}}
  am: {alertmanager: {urls: ['http://am-1.example.com:9093', 'http://am-2.example.com:9093']}}
route: {sinks: [a, am]}
)";

struct Loaded {
  std::shared_ptr<const Config> config;
  Lines problems;  // "line:column: subject: reason; fix", warnings marked
};

// `hook`: more of the sink `a`.
Loaded load(const std::string& rest, const std::map<std::string, std::string>& files = {},
            const std::string& hook = "") {
  ConfigWorld world;
  world.env = [](const std::string& name) {
    if (name == "PLACEHOLDER") return std::optional<std::string>("changeme");
    return name == "PING_URL" ? std::optional<std::string>(std::string("https://hc-ping.com/") + kUuid)
                              : std::nullopt;
  };
  world.read_file = [&](const std::string& path) -> rules::Result<std::string> {
    if (path == "logbell.yaml") {
      std::string text = kBase + rest;
      return text.insert(text.find("/hook'") + 6, hook);
    }
    const auto found = files.find(path);
    if (found == files.end()) return rules::fail(rules::ErrorCode::kNotFound, "No such file or directory");
    return found->second;
  };
  world.glob = [](const std::string&) { return Lines(); };
  world.readable_by_others = [](const std::string&) { return false; };
  world.hostname = "api-7";
  world.now = FakeClock().now();
  rules::Problems problems;
  Loaded loaded;
  loaded.config = load_config("logbell.yaml", world, {}, problems);
  for (const rules::Problem& problem : problems.sorted()) {
    CHECK_FALSE(problem.fix.empty());
    // In the heartbeat; or, where it is about sinks, in the base.
    CHECK(problem.place.line >= (rest.find("sink:") == std::string::npos ? 11 : 6));
    loaded.problems.push_back((problem.severity == rules::Severity::kError ? "" : "warning: ") +
                              problem.subject + ": " + problem.reason);
  }
  return loaded;
}

std::shared_ptr<const Config> good(const std::string& rest) {
  Loaded loaded = load(rest, {{"/run/ping", std::string("https://hc-ping.com/") + kUuid + "\n"}});
  for (const std::string& problem : loaded.problems)
    UNSCOPED_INFO(problem);
  REQUIRE(loaded.config != nullptr);
  return loaded.config;
}

TEST_CASE("heartbeat: its URL is a secret, and says what its receiver understands", "[run][heartbeat]") {
  const auto config = good("heartbeat: {url_file: /run/ping}\n");
  REQUIRE(config->heartbeat.has_value());
  CHECK(config->heartbeat->style == HeartbeatStyle::kHealthchecks);
  CHECK(config->heartbeat->every == 1min);
  CHECK(config->heartbeat->http.timeout == 10s);
  CHECK(config->heartbeat->shown == "https://hc-ping.com");
  CHECK_FALSE(config->heartbeat->get);
  CHECK(std::count(config->secrets.begin(), config->secrets.end(), config->heartbeat->url) == 1);
  CHECK_FALSE(good("")->heartbeat.has_value());

  const auto style = [](const std::string& url) { return guess_style(*sinks::parse_url(url)); };
  CHECK(style(fmt::format("https://hc-ping.com/{}?create=1", kUuid)) == HeartbeatStyle::kHealthchecks);
  CHECK(style("https://hc-ping.com/key/orders-api") == HeartbeatStyle::kHealthchecks);
  CHECK(style(fmt::format("https://checks.example.com/ping/{}", kUuid)) == HeartbeatStyle::kHealthchecks);
  CHECK(style("https://checks.example.com/ping/all") == HeartbeatStyle::kPlain);
  CHECK(style("http://logbell.ops:9733/api/v1/heartbeats/orders-api") == HeartbeatStyle::kHealthchecks);
  CHECK(style("https://nosnch.in/c2354d53d2") == HeartbeatStyle::kSnitch);
  CHECK(style("https://uptime.example.com/api/push/abc?status=up") == HeartbeatStyle::kPlain);

  const auto all =
      good("heartbeat: {url: '${PING_URL}', every: 30s, timeout: 2s, style: plain, method: GET}\n");
  CHECK(all->heartbeat->style == HeartbeatStyle::kPlain);
  CHECK(all->heartbeat->every == 30s);
  CHECK(all->heartbeat->http.timeout == 2s);
  CHECK(all->heartbeat->get);
}

TEST_CASE("heartbeat: a proxy that the alerts take as well is said", "[run][heartbeat]") {
  const auto problems = [](const std::string& proxy) {
    return load("heartbeat: {url: '${PING_URL}'" + proxy + "}\n", {}, ", proxy: 'http://proxy:3128/'").problems;
  };
  CHECK(problems("").empty());
  CHECK(problems(", proxy: none").empty());
  CHECK(problems(", proxy: 'http://other:3128'").empty());
  CHECK(problems(", proxy: 'http://proxy:3128'") ==
        Lines{"warning: heartbeat: its proxy http://proxy:3128 is that of the sink \"a\": when that one is down, "
              "neither alerts nor the heartbeat get out"});
}

TEST_CASE("heartbeat: what is wrong with it is said", "[run][heartbeat]") {
  const auto problems = [](const std::string& heartbeat) {
    Loaded loaded = load("heartbeat: " + heartbeat + "\n", {{"/run/empty", "\n"}});
    return loaded.problems;
  };
  CHECK(problems("{}") == Lines{R"(heartbeat: "url" is missing)"});
  CHECK(problems("").size() == 1);
  CHECK(problems("yes") == Lines{"heartbeat: it is a map with the URL of who watches"});
  CHECK(problems("{url: '${NOT_SET}'}").size() == 1);
  CHECK(problems("{url_file: /run/none}") ==
        Lines{"heartbeat: the secret's file /run/none cannot be read: No such file or directory"});
  // Who puts the secret itself where its file's name belongs does not read it in a log.
  CHECK(problems("{url_file: '${PING_URL}'}") ==
        Lines{"heartbeat: the secret's file ${PING_URL} cannot be read: No such file or directory"});
  CHECK(problems("{url_file: /run/empty}") == Lines{"heartbeat: the secret's file /run/empty is empty"});
  CHECK(problems("{url: '${PLACEHOLDER}'}") ==
        Lines{R"(heartbeat: the secret "url" is a placeholder: nobody's real secret looks like that)"});
  CHECK(problems("{url: '${PING_URL}', evry: 1m}") == Lines{R"(heartbeat: unknown key "evry")"});
  CHECK(problems("{url: '${PING_URL}', every: 1ms}") ==
        Lines{R"(heartbeat: "every" is at least 1s and at most 1d)"});
  CHECK(problems("{url: '${PING_URL}', timeout: 1m}") ==
        Lines{"heartbeat: a timeout is at least 100ms and at most 15s"});
  CHECK(problems("{url: '${PING_URL}', style: cronitor}") ==
        Lines{R"(heartbeat: "style" cannot be "cronitor")"});
  CHECK(problems("{url: '${PING_URL}', every: 10s}") ==
        Lines{"warning: heartbeat: healthchecks.io drops more than five pings a minute"});
  // Its way is another one than the alerts'.
  CHECK(
      problems("{url: 'https://a.example.com/hook'}") ==
      Lines{
          R"(heartbeat: it is the URL of the sink "a": a person would get each heartbeat, and nobody would miss them)"});
  CHECK(problems("{url: 'https://a.example.com/ping'}") ==
        Lines{"warning: heartbeat: its host a.example.com is that of the sink \"a\": when it cannot be "
              "reached, neither "
              "alerts nor the heartbeat are heard, and who watches it may be down with it"});
  CHECK(problems("{url: 'http://am-2.example.com:8080/'}").size() == 1);
  CHECK(
      problems("{url: 'http://127.0.0.1:8000/'}") ==
      Lines{"warning: heartbeat: the heartbeat ends on this machine: should that die, nobody would notice"});
}

// Sinks beside the base's, after `a`.
std::string with_sinks(const std::string& sinks) {
  return "}}\n" + sinks.substr(0, sinks.size() - 2);
}

TEST_CASE("heartbeat: through a sink of its own", "[run][heartbeat]") {
  const std::string watch = with_sinks("  watch: {alertmanager: {url: 'https://w.example.com'}}");
  const Loaded loaded = load("heartbeat: {sink: watch, every: 2m}\n", {}, watch);
  CHECK(loaded.problems == kNothing);
  REQUIRE(loaded.config != nullptr);
  REQUIRE(loaded.config->heartbeat->sink);
  CHECK(loaded.config->heartbeat->shown == "sink watch (https://w.example.com)");
  CHECK(loaded.config->heartbeat->style == HeartbeatStyle::kWatchdog);
  CHECK(loaded.config->heartbeat->sink->labels.get("environment") == "production");
  // No alert goes there, nor a drill.
  CHECK(loaded.config->plan->sinks.count("watch") == 0);
  CHECK(loaded.config->sinks.count("watch") == 0);

  const auto problems = [](const std::string& heartbeat, const std::string& sinks, const std::string& more = "") {
    std::map<std::string, std::string> files{{"/run/empty", "\n"}};
    Lines all = load("heartbeat: " + heartbeat + "\n" + more, files, with_sinks(sinks)).problems;
    return all;
  };
  const std::string hook = "  watch: {webhook: {url: 'https://w.example.com/x'}}";
  CHECK(problems("{sink: watch}", hook) == kNothing);
  CHECK(problems("{sink: wacht}", hook) ==
        Lines{R"(warning: sink "watch": no rule, route or fallback uses it)", R"(heartbeat: sink "wacht" is not defined)"});
  CHECK(problems("{sink: watch, url: '${PING_URL}'}", hook) ==
        Lines{R"(heartbeat: "url" belongs to a heartbeat with `url:`; this one goes through sink "watch")"});
  CHECK(problems("{sink: watch, timeout: 1m}", hook) == Lines{"heartbeat: a timeout is at least 100ms and at most 15s"});
  CHECK(problems("{sink: watch}", "  watch: {slack: {webhook_url: 'https://hooks.slack.com/services/T0/B0/XyZ'}}") ==
        Lines{"heartbeat: a sink of type `slack` cannot take a heartbeat: a person would get each one, or nobody "
              "would, and nobody would miss them"});
  CHECK(problems("{sink: watch, every: 3m}", "  watch: {alertmanager: {url: 'https://w.example.com'}}") ==
        Lines{"heartbeat: alertmanager forgets what it is not told again: the heartbeat would end by itself between "
              "two"});
  CHECK(problems("{sink: watch}", "  watch: {webhook: {url: 'ftp://w.example.com/x'}}").size() == 1);
  // Its way is another one than the alerts'.
  const std::string its = R"(sink "watch" is the heartbeat's: what it must notice is that no alert gets out any more)";
  CHECK(problems("{sink: watch}", "  b: {webhook: {url: 'https://b.example.com/x'}, fallback: watch}\n" + hook) ==
        Lines{R"(warning: sink "b": no rule, route or fallback uses it)", R"(sink "b": )" + its});
  CHECK(problems("{sink: watch}", "  watch: {webhook: {url: 'https://a.example.com/x'}}") ==
        Lines{"warning: heartbeat: its host a.example.com is that of the sink \"a\": when it cannot be reached, neither "
              "alerts nor the heartbeat are heard, and who watches it may be down with it"});
  CHECK(problems("{sink: watch}", "  watch: {webhook: {url: 'http://127.0.0.1:9/x'}}") ==
        Lines{"warning: heartbeat: the heartbeat ends on this machine: should that die, nobody would notice"});
  // The rules' and the route's only sink.
  CHECK(load("heartbeat: {sink: a}\n").problems ==
        Lines{R"(rule "Errors": sink "a" is the heartbeat's: what it must notice is that no alert gets out any more)",
              R"(route: sink "a" is the heartbeat's: what it must notice is that no alert gets out any more)"
              " (Errors relies on it)"});
}

TEST_CASE("heartbeat: whom it listens for", "[run][heartbeat]") {
  const Loaded loaded =
      load("heartbeats:\n  api: {}\n  batch: {every: 1h, grace: 10m, token_file: /run/token}\n",
           {{"/run/token", "a-long-token\n"}});
  CHECK(loaded.problems == kNothing);
  REQUIRE(loaded.config != nullptr);
  const auto& all = loaded.config->listened_for;
  REQUIRE(all.size() == 2);
  CHECK(all.at("api").every == 1min);
  CHECK(all.at("api").grace == 2min);
  CHECK(all.at("api").token.empty());
  CHECK(all.at("batch").every == 1h);
  CHECK(all.at("batch").grace == 10min);
  CHECK(all.at("batch").token.reveal() == "a-long-token");
  CHECK(std::count(loaded.config->secrets.begin(), loaded.config->secrets.end(), all.at("batch").token) == 1);

  const auto problems = [](const std::string& rest) { return load(rest).problems; };
  CHECK(problems("heartbeats: {a/b: {}}\n") ==
        Lines{R"(heartbeat "a/b": a heartbeat cannot be called that)"});
  CHECK(problems("heartbeats: {api: {evry: 1m}}\n") == Lines{R"(heartbeat "api": unknown key "evry")"});
  CHECK(problems("heartbeats: {api: {every: 0s}}\n") ==
        Lines{R"(heartbeat "api": "every" is at least 1s and at most 1d)"});
  CHECK(problems("heartbeats: {api: {timeout: 1m}}\n") ==
        Lines{R"(heartbeat "api": how late it may be is `grace:`)"});
  CHECK(
      problems("listen: 0.0.0.0:9733\nheartbeats: {api: {}}\n") ==
      Lines{
          R"(heartbeat "api": logbell listens where other machines can ask, and without a token each of them )"
          "could say that this one lives"});
}

// --- what earns it

PulseFacts healthy() {
  PulseFacts facts;
  facts.now = FakeClock().now();
  facts.ready = true;
  LaneView lane;
  lane.lane = "ops";
  lane.oldest = facts.now - Duration(299'999);
  facts.lanes = {lane};
  return facts;
}

TEST_CASE("heartbeat: it is earned while whoever should hear would", "[run][heartbeat][F54]") {
  CHECK(pulse_of(healthy()).kind == Kind::kEarned);
  struct Row {
    const char* what;
    std::function<void(PulseFacts&)> break_it;
    Kind kind;
    std::string reason;
  };
  const std::vector<Row> rows{
      {"a loop hangs", [](PulseFacts& f) { f.stalled = {"core: no progress for 31s"}; }, Kind::kSilent,
       "core does not get on"},
      {"it has just begun", [](PulseFacts& f) { f.ready = false; }, Kind::kStarting,
       "what is written has not been read to its end yet"},
      {"a rule reaches nobody", [](PulseFacts& f) { f.lost_rules = {"Boom"}; }, Kind::kBad,
       "rule Boom reaches nobody: its sinks are dead"},
      {"the drill failed", [](PulseFacts& f) { f.drill = "the drill of Boom over ops failed"; }, Kind::kBad,
       "the drill of Boom over ops failed"},
      {"the disk is full", [](PulseFacts& f) { f.failing_since = f.now - 2s; }, Kind::kBad,
       "the state cannot be written since 2026-05-03T03:09:35Z"},
      {"nobody has heard for five minutes", [](PulseFacts& f) { f.lanes[0].oldest = f.now - 5min; },
       Kind::kBad, "a notification for ops waits since 2026-05-03T03:04:37Z"},
      {"the log is gone", [](PulseFacts& f) { f.unreadable = {"app"}; }, Kind::kDoubtful,
       "no readable file: source app"},
      {"what is bad outweighs a doubt",
       [](PulseFacts& f) {
         f.unreadable = {"app"};
         f.lost_rules = {"Boom", "Bang"};
       },
       Kind::kBad,
       "rule Boom reaches nobody: its sinks are dead; rule Bang reaches nobody: its sinks are dead"},
      {"a loop that hangs outweighs everything",
       [](PulseFacts& f) {
         f.stalled = {"lane ops: no progress for 1m1s", "writer: no progress for 1m1s"};
         f.lost_rules = {"Boom"};
       },
       Kind::kSilent, "lane ops does not get on"},
  };
  for (const Row& row : rows) {
    INFO(row.what);
    PulseFacts facts = healthy();
    row.break_it(facts);
    const Pulse pulse = pulse_of(facts);
    CHECK(pulse.kind == row.kind);
    CHECK(pulse.reason == row.reason);
  }
  PulseFacts many = healthy();
  many.lost_rules.assign(kMaxPulseReasons + 2, "Boom");
  const std::string reason = pulse_of(many).reason;
  CHECK(reason.substr(reason.rfind(';')) == "; and 2 more");
}

TEST_CASE("heartbeat: a sink is dead when each lane refuses, or said so and took nothing since",
          "[run][heartbeat]") {
  const auto config = good("");
  const auto now = FakeClock().now();
  LaneView one;
  one.lane = "am#1";
  LaneView two;
  two.lane = "am#2";
  Verdicts verdicts;
  const auto dead = [&] { return dead_sinks(*config->plan, {one, two}, verdicts); };
  one.state = SinkState::kDead;
  CHECK(dead().empty());
  verdicts["am#2"].at = now;
  verdicts["am#2"].found.verdict = sinks::Verification::Verdict::kDead;
  CHECK(dead() == std::set<std::string>{"am"});
  two.last_delivered = now + 1s;
  CHECK(dead().empty());
  verdicts["a"].found.verdict = sinks::Verification::Verdict::kUnknown;
  CHECK(dead().empty());
  verdicts["a"].found.verdict = sinks::Verification::Verdict::kDead;
  CHECK(dead() == std::set<std::string>{"a"});
  CHECK(rules_that_reach_nobody(*config->plan, dead()) == Lines{"Errors"});
  CHECK(rules_that_reach_nobody(*config->plan, {"am"}) == kNothing);
}

// --- the receiver

HeartbeatSettings settings_for(const std::string& url, HeartbeatStyle style) {
  HeartbeatSettings settings;
  settings.url = rules::Secret(url);
  settings.style = style;
  return settings;
}

TEST_CASE("heartbeat: healthchecks.io hears life, failure and the end in its own words", "[run][heartbeat]") {
  HttpStub stub;
  const std::string path = std::string("/") + kUuid;
  const auto sender =
      make_heartbeat_sender(settings_for(stub.url(path + "?create=1"), HeartbeatStyle::kHealthchecks));
  stub.otherwise(StubStep::answer(200, "OK"));
  const auto send = [&](Beat beat) {
    return sender->send(beat, R"({"status":"x"})", "x", 5s, FakeClock().now());
  };
  for (const Beat beat : {Beat::kAlive, Beat::kBad, Beat::kStopping}) {
    CHECK(sender->knows(beat));
    CHECK(send(beat).taken);
  }
  const auto requests = stub.requests();
  REQUIRE(requests.size() == 3);
  CHECK(requests[0].target == path + "?create=1");
  CHECK(requests[1].target == path + "/fail?create=1");
  CHECK(requests[2].target == path + "/log?create=1");
  for (const auto& request : requests) {
    CHECK(request.method == "POST");
    CHECK(request.body == R"({"status":"x"})");
  }

  struct Row {
    StubStep step;
    bool taken;
    bool refused;
  };
  const std::vector<Row> rows{
      {StubStep::answer(200, "OK (not found)"), false, true},  // older ones, by UUID
      {StubStep::answer(200, "OK (rate limited)"), false, false},
      {StubStep::answer(404, "not found"), false, true},
      {StubStep::answer(409, "ambiguous slug"), false, true},
      {StubStep::answer(429, "rate limit exceeded"), false, false},
      {StubStep::answer(503, "sorry"), false, false},
      {StubStep::answer(302, "", {{"Location", "https://example.com/"}}), false, true},
      {StubStep::of(StubStep::Kind::kClose), false, false},
  };
  for (const Row& row : rows) {
    stub.then(row.step);
    const BeatOutcome outcome = send(Beat::kAlive);
    INFO(row.step.status << " " << row.step.body << ": " << outcome.detail);
    CHECK(outcome.taken == row.taken);
    CHECK(outcome.refused == row.refused);
    CHECK_FALSE(outcome.detail.empty());
    CHECK(outcome.detail.find(kUuid) == std::string::npos);
  }
}

TEST_CASE("heartbeat: others hear life, and nothing else", "[run][heartbeat]") {
  HttpStub stub;
  stub.otherwise(StubStep::answer(202, std::string("got it at /") + kUuid));
  const auto snitch = make_heartbeat_sender(settings_for(stub.url("/c2354d53d2"), HeartbeatStyle::kSnitch));
  CHECK_FALSE(snitch->knows(Beat::kBad));
  CHECK_FALSE(snitch->knows(Beat::kStopping));
  CHECK(snitch->send(Beat::kAlive, "{}", "api-7 ok: a&b", 5s, FakeClock().now()).taken);
  HeartbeatSettings settings = settings_for(stub.url("/push?status=up"), HeartbeatStyle::kPlain);
  CHECK(make_heartbeat_sender(settings)->send(Beat::kAlive, "{}", "x", 5s, FakeClock().now()).taken);
  settings.get = true;
  CHECK(make_heartbeat_sender(settings)->send(Beat::kAlive, "{}", "x", 5s, FakeClock().now()).taken);
  const auto requests = stub.requests();
  REQUIRE(requests.size() == 3);
  CHECK(requests[0].method == "GET");
  CHECK(requests[0].target == "/c2354d53d2?m=api-7%20ok%3A%20a%26b");
  CHECK(requests[1].method == "POST");
  CHECK(requests[1].target == "/push?status=up");
  CHECK(requests[1].body == "{}");
  CHECK(requests[2].method == "GET");
  CHECK(requests[2].body.empty());
}

TEST_CASE("heartbeat: a sink hears of an alert that fires while logbell lives", "[run][heartbeat]") {
  HttpStub first;
  HttpStub second;
  const std::string watch =
      fmt::format("  watch: {{alertmanager: {{urls: ['{}', '{}']}}}}", first.url(""), second.url(""));
  const Loaded loaded = load("heartbeat: {sink: watch}\n", {}, with_sinks(watch));
  REQUIRE(loaded.config != nullptr);
  const auto sender = make_heartbeat_sender(*loaded.config->heartbeat);
  CHECK(sender->knows(Beat::kAlive));
  CHECK(sender->knows(Beat::kBad));
  CHECK_FALSE(sender->knows(Beat::kStopping));
  FakeClock clock;
  const auto send = [&](Beat beat) {
    clock.advance(1min);
    return sender->send(beat, "{}", "api-7 failing: nobody hears", 5s, clock.now());
  };
  const auto last = [&](HttpStub& stub) {
    auto requests = stub.requests();
    std::erase_if(requests, [](const auto& request) { return request.target != "/api/v2/alerts" || request.body == "[]"; });
    REQUIRE_FALSE(requests.empty());
    const auto body = rules::Json::parse(requests.back().body);
    REQUIRE(body);
    return body->dump();
  };
  const std::string begun = rules::format_rfc3339(clock.now() + 1min);
  const auto says = [](const std::string& body, const std::string& part) { return body.find(part) != std::string::npos; };
  CHECK(send(Beat::kAlive).taken);
  CHECK(send(Beat::kAlive).taken);
  for (HttpStub* stub : {&first, &second}) {
    const std::string body = last(*stub);
    CHECK(says(body, R"("alertname":"Watchdog")"));
    CHECK(says(body, R"("severity":"none")"));
    CHECK(says(body, R"("instance":"api-7")"));
    CHECK(says(body, R"("startsAt":")" + begun));
    CHECK(says(body, R"("endsAt":")" + rules::format_rfc3339(clock.now() + 4min)));
  }
  // What is bad ends it at once.
  CHECK(send(Beat::kBad).taken);
  CHECK(says(last(first), R"("endsAt":")" + rules::format_rfc3339(clock.now())));
  CHECK(says(last(first), "nobody hears"));
  // One of its endpoints is enough.
  first.then(StubStep::answer(503, "sorry"));
  CHECK(send(Beat::kAlive).taken);
  CHECK(says(last(second), R"("startsAt":")" + rules::format_rfc3339(clock.now())));
  first.then(StubStep::answer(503, "sorry"));
  second.then(StubStep::answer(400, "no"));
  const BeatOutcome outcome = send(Beat::kAlive);
  CHECK_FALSE(outcome.taken);
  CHECK_FALSE(outcome.refused);
  CHECK(says(outcome.detail, "503"));
  CHECK(says(outcome.detail, "400"));
  first.then(StubStep::answer(400, "no"));
  second.then(StubStep::answer(400, "no"));
  CHECK(send(Beat::kAlive).refused);
}

TEST_CASE("heartbeat: a sink that takes everything and tells nobody does not take it", "[run][heartbeat][F54]") {
  HttpStub stub;
  const Loaded loaded = load("heartbeat: {sink: watch}\n", {},
                             with_sinks(fmt::format("  watch: {{alertmanager: {{url: '{}'}}}}", stub.url(""))));
  REQUIRE(loaded.config != nullptr);
  const auto sender = make_heartbeat_sender(*loaded.config->heartbeat);
  FakeClock clock;
  const auto send = [&](Duration later) {
    clock.advance(later);
    return sender->send(Beat::kAlive, "{}", "", 5s, clock.now());
  };
  // It is asked, says what it runs, and hears of the alert if that tells somebody.
  const auto runs = [&](const std::string& integrations) {
    rules::Json config;
    config.set("original", "receivers: [{name: ops" + integrations + "}]");
    rules::Json status;
    status.set("config", std::move(config));
    stub.then(StubStep::answer(200));
    stub.then(StubStep::answer(200, status.dump()));
  };
  runs("");
  BeatOutcome outcome = send(1min);
  CHECK_FALSE(outcome.taken);
  CHECK(outcome.refused);
  CHECK(outcome.detail.find("it takes alerts and tells nobody: ops") != std::string::npos);
  CHECK(stub.requests().size() == 2);
  // Somebody mends it: that is seen at the next one, and then asked as seldom as of any sink.
  runs(", webhook_configs: [{url: 'http://x/'}]");
  CHECK(send(1min).taken);
  CHECK(stub.requests().size() == 5);
  CHECK(send(14min).taken);
  CHECK(stub.requests().size() == 6);
  runs("");
  CHECK_FALSE(send(1min).taken);
  CHECK(stub.requests().size() == 8);
}

// --- the loop

// Keeps what it is sent, and answers as it is told.
struct Receiver {
  Lines heard;
  Lines bodies;
  Lines summaries;
  BeatOutcome answer{true, false, "HTTP 200", {}};
  bool only_life = false;
  Duration longest{0};
  int built = 0;
};

class ToReceiver final : public HeartbeatSender {
 public:
  explicit ToReceiver(Receiver& receiver) : receiver_(receiver) {}
  bool knows(Beat beat) const override { return beat == Beat::kAlive || !receiver_.only_life; }
  BeatOutcome send(Beat beat, const std::string& status, const std::string& summary, Duration timeout,
                   rules::Timestamp /*now*/) override {
    receiver_.heard.emplace_back(beat == Beat::kAlive ? "alive" : beat == Beat::kBad ? "bad" : "stopping");
    receiver_.bodies.push_back(status);
    receiver_.summaries.push_back(summary);
    receiver_.longest = std::max(receiver_.longest, timeout);
    return receiver_.answer;
  }

 private:
  Receiver& receiver_;
};

struct LoopFixture {
  explicit LoopFixture(const std::string& heartbeat = "heartbeat: {url: '${PING_URL}'}\n") {
    HeartbeatLoop::Options options;
    options.clock = &clock;
    options.log = &log;
    options.metrics = &metrics;
    options.version = "1.2";
    options.pulse = [this] { return pulse; };
    options.tell = [this](Condition condition) {
      told.push_back(fmt::format("{}{}", condition.alertname, condition.active ? "+" : "-"));
      summary = condition.summary;
    };
    options.build = [this](const HeartbeatSettings&) {
      ++receiver.built;
      return std::make_unique<ToReceiver>(receiver);
    };
    loop = std::make_unique<HeartbeatLoop>(std::move(options), good(heartbeat));
  }
  // As its thread would, for so long.
  void run(Duration span) {
    const rules::Instant end = clock.instant() + span;
    for (;;) {
      const auto next = loop->step();
      if (!next || *next >= end) break;
      clock.advance(std::max(Duration(1), std::chrono::ceil<Duration>(*next - clock.instant())));
    }
    if (end > clock.instant()) clock.advance(std::chrono::ceil<Duration>(end - clock.instant()));
  }
  // What came since the last time.
  Lines news() { return std::exchange(receiver.heard, {}); }
  double count(const std::string& outcome) {
    return scraped("logbell_heartbeats_total{outcome=\"" + outcome + "\"} ").value_or(-1);
  }
  // Seconds since 1970.
  std::optional<double> last_success() { return scraped("\nlogbell_heartbeat_last_success_timestamp_seconds "); }
  std::optional<double> scraped(const std::string& series) {
    const std::string text = metrics.render({}, {});
    const std::size_t at = text.find(series);
    if (at == std::string::npos) return std::nullopt;
    return std::stod(text.substr(at + series.size()));
  }

  FakeClock clock;
  std::string logged;
  Log log{{&clock, 30s, [this](std::string_view line) { logged += line; }}};
  Metrics metrics{"1", clock.now()};
  Pulse pulse{Kind::kEarned, ""};
  Receiver receiver;
  Lines told;
  std::string summary;
  std::unique_ptr<HeartbeatLoop> loop;
};

TEST_CASE("heartbeat: one each `every`, from the start", "[run][heartbeat]") {
  LoopFixture f;
  CHECK_FALSE(f.last_success());
  f.run(1ms);
  CHECK(f.count("delivered") == 1);
  CHECK(f.count("failed") == 0);
  CHECK(f.count("withheld") == 0);
  CHECK(f.count("reported") == 0);
  f.run(5min - 1ms);
  CHECK(f.news() == Lines(5, "alive"));
  CHECK(f.last_success() == static_cast<double>(rules::to_unix_ms(f.clock.now() - 1min)) / 1000);
  CHECK(f.receiver.longest == 10s);
  const rules::Result<rules::Json> body = rules::Json::parse(f.receiver.bodies[0]);
  REQUIRE(body);
  CHECK((*body)["status"].string() == "ok");
  CHECK((*body)["version"].string() == "1.2");
  CHECK((*body)["labels"]["environment"].string() == "production");
  CHECK(f.receiver.summaries[0] == "api-7 ok");
  CHECK(f.told == Lines{"HeartbeatUnheard-"});  // an earlier process may have raised it
}

TEST_CASE("heartbeat: a start is no trouble, and its end is told within a second", "[run][heartbeat]") {
  LoopFixture f;
  f.pulse = {Kind::kStarting, "what is written has not been read to its end yet"};
  f.run(90s);
  CHECK(f.news() == kNothing);
  CHECK(f.count("withheld") == 2);
  f.pulse = {Kind::kEarned, ""};
  f.run(1s);
  CHECK(f.news() == Lines{"alive"});
  CHECK(f.logged.empty());
}

TEST_CASE("heartbeat: a loop that hangs is told by silence", "[run][heartbeat][F54]") {
  LoopFixture f;
  f.run(30s);
  CHECK(f.news() == Lines{"alive"});
  f.pulse = {Kind::kSilent, "core does not get on"};
  f.run(10min);
  CHECK(f.news() == kNothing);
  CHECK(f.count("withheld") == 10);
  CHECK(f.logged.find("The heartbeat is withheld.") != std::string::npos);
  CHECK(f.logged.find("The heartbeat is withheld.") == f.logged.rfind("The heartbeat is withheld."));
  // And the end of it at the next look.
  f.pulse = {Kind::kEarned, ""};
  f.run(6s);
  CHECK(f.news() == Lines{"alive"});
  CHECK(f.logged.find("The heartbeat is earned again.") != std::string::npos);
}

TEST_CASE("heartbeat: what is bad is told at once, again with each ping, and so is its end",
          "[run][heartbeat]") {
  LoopFixture f;
  f.run(20s);
  f.news();
  f.pulse = {Kind::kBad,
             "rule Boom reaches nobody; its sink answered https://hc-ping.com/" + std::string(kUuid)};
  f.run(6s);
  CHECK(f.news() == Lines{"bad"});
  CHECK(f.receiver.bodies.back().find("rule Boom reaches nobody") != std::string::npos);
  CHECK(f.receiver.bodies.back().find(kUuid) == std::string::npos);  // no secret leaves in it
  CHECK(f.receiver.summaries.back().find(kUuid) == std::string::npos);
  f.run(2min);
  CHECK(f.news() == Lines(2, "bad"));
  // Another reason is news.
  f.pulse.reason = "the state cannot be written";
  f.run(16s);
  CHECK(f.news() == Lines{"bad"});
  CHECK(f.count("reported") == 4);
  f.pulse = {Kind::kEarned, ""};
  f.run(16s);
  CHECK(f.news() == Lines{"alive"});
}

TEST_CASE("heartbeat: whatever changes, no more than four a minute", "[run][heartbeat]") {
  LoopFixture f;
  for (int i = 0; i < 120; ++i) {
    f.pulse = i % 2 == 0 ? Pulse{Kind::kBad, fmt::format("reason {}", i)} : Pulse{Kind::kEarned, ""};
    f.run(1s);
  }
  CHECK(f.news().size() <= 9);
}

TEST_CASE("heartbeat: who has no word for bad hears nothing", "[run][heartbeat]") {
  LoopFixture f;
  f.receiver.only_life = true;
  f.run(1s);
  f.pulse = {Kind::kBad, "rule Boom reaches nobody"};
  f.run(3min);
  CHECK(f.news() == Lines{"alive"});
  CHECK(f.count("withheld") == 3);
  f.loop->stop(std::nullopt);
  f.loop->step();
  CHECK(f.loop->done());
  CHECK(f.news() == kNothing);
}

TEST_CASE("heartbeat: a doubt costs one ping, and one that lasts is told", "[run][heartbeat][F54]") {
  LoopFixture f;
  f.run(58s);
  f.news();
  f.pulse = {Kind::kDoubtful, "no readable file: source app"};
  f.run(50s);
  CHECK(f.news() == kNothing);  // not at the first minute
  f.run(16s);
  CHECK(f.news() == Lines{"bad"});
  // A rotation is over long before.
  f.pulse = {Kind::kEarned, ""};
  f.run(5min);
  f.news();
  f.pulse = {Kind::kDoubtful, "no readable file: source app"};
  f.run(10s);
  f.pulse = {Kind::kEarned, ""};
  f.run(50s);
  CHECK(f.news() == Lines{"alive"});
}

TEST_CASE("heartbeat: a receiver that does not take it is asked again, and somebody is told",
          "[run][heartbeat]") {
  LoopFixture f;
  f.receiver.answer = {false, false, "HTTP 503: sorry", {}};
  f.run(4min + 59s);
  CHECK(f.news().size() == 20);  // each 15 s
  CHECK(f.told == kNothing);
  f.run(2min);
  CHECK(f.told == Lines{"HeartbeatUnheard+"});
  CHECK(f.summary.find("HTTP 503: sorry") != std::string::npos);
  CHECK_FALSE(f.last_success());
  f.receiver.answer = {true, false, "HTTP 200", {}};
  f.run(1min);
  CHECK(f.told == Lines{"HeartbeatUnheard+", "HeartbeatUnheard-"});
  CHECK(f.last_success());
  CHECK(f.count("failed") > 20);
  // One log line for each end of it.
  CHECK(f.logged.find("was not taken") == f.logged.rfind("was not taken"));
  CHECK(f.logged.find("taken again") != std::string::npos);
  // Patience that it asks for, but no more than until the next one.
  f.receiver.answer = {false, false, "HTTP 429", 40s};
  f.news();
  f.run(2min);
  CHECK(f.news().size() == 3);
}

TEST_CASE("heartbeat: at a URL that nobody listens at, somebody is told at once", "[run][heartbeat]") {
  LoopFixture f;
  f.receiver.answer = {false, true, "HTTP 404: not found", {}};
  f.run(1s);
  CHECK(f.told == Lines{"HeartbeatUnheard+"});
  f.run(3min);
  CHECK(f.news().size() == 4);  // it may be made yet
  CHECK(f.told.size() == 1);
}

TEST_CASE("heartbeat: a process that is asked to end says so, and vouches for nothing", "[run][heartbeat]") {
  LoopFixture f;
  f.run(1s);
  f.news();
  f.receiver.longest = Duration(0);
  f.loop->stop(std::nullopt);
  CHECK_FALSE(f.loop->done());
  CHECK_FALSE(f.loop->step());
  CHECK(f.loop->done());
  CHECK(f.news() == Lines{"stopping"});
  CHECK(f.receiver.longest == kLastWord);

  LoopFixture dying;
  dying.run(1s);
  dying.news();
  dying.loop->stop("the disk did not keep what was written");
  dying.loop->step();
  CHECK(dying.news() == Lines{"bad"});
}

TEST_CASE("heartbeat: another configuration counts from the next step", "[run][heartbeat]") {
  LoopFixture f("");
  CHECK_FALSE(f.loop->step());
  CHECK(f.told == Lines{"HeartbeatUnheard-"});
  CHECK(f.receiver.built == 0);
  f.loop->replace(good("heartbeat: {url: '${PING_URL}', every: 10m}\n"));
  f.loop->wait(std::nullopt);  // it does not
  f.run(20min);
  CHECK(f.news() == Lines(2, "alive"));
  f.loop->replace(good(""));
  CHECK_FALSE(f.loop->step());
  CHECK(f.news() == kNothing);
  CHECK(f.receiver.built == 1);
}

}  // namespace
}  // namespace logbell::engine

// Api: what each path answers, to whom, in Prometheus's JSON.
#include "engine/run/api.h"

#include <cstdint>

#include <catch2/catch.hpp>

#include "rules/expr.h"
#include "rules/json.h"
#include "rules/template.h"
#include "rules/time.h"
#include "tests/support/fake_clock.h"

using namespace std::chrono_literals;
using namespace logbell::engine;
using logbell::rules::Json;
using logbell::tests::FakeClock;
namespace rules = logbell::rules;

namespace {

struct ApiFixture {
  ApiFixture() {
    auto plan = std::make_shared<rules::Plan>();
    rules::AlertingRule rule;
    rule.name = "QueueUnreachable";
    rule.place = {"logbell.yaml", 12, 3};
    rule.expr_text = "count_over_time(queue_error[1m]) >= 3";
    rule.for_ = 90s;
    rule.keep_firing_for = 5min;
    rule.labels.emplace_back("severity", *rules::Template::parse("critical"));
    rule.annotations.emplace_back("summary", *rules::Template::parse("queue {{ $labels.queue }}"));
    plan->rules.push_back(rule);
    rule.name = "Other";
    rule.resolve_when = {nullptr, "count_over_time(queue_error[1m]) < 1", {}, {}};
    rule.group = "extra";
    plan->rules.push_back(rule);
    rules::SourceSpec source;
    source.name = "api";
    source.files = {"/var/log/api/*.log"};
    plan->sources.push_back(source);
    rules::SinkSpec sink;
    sink.name = "chat";
    sink.type = "slack";
    sink.lanes = {"chat"};
    sink.fallback = {"mail"};
    plan->sinks["chat"] = sink;
    view = std::make_shared<CoreView>();
    view->plan = plan;
    view->at = clock.now();
    view->rules = {{0, clock.now(), false, "", 0, 1},
                   {1, rules::kLongAgo, true, "source api is unreadable", 0, 0}};
    AlertView firing;
    firing.alert.labels = {{"alertname", "QueueUnreachable"}, {"queue", "orders"}, {"severity", "critical"}};
    firing.alert.annotations = {{"summary", "queue <orders>"}};
    firing.alert.state = rules::AlertState::kFiring;
    firing.alert.value = 4;
    firing.alert.active_at = *rules::parse_rfc3339("2026-05-01T10:00:00.5Z");
    view->alerts.push_back(firing);
    AlertView built_in;
    built_in.alert.labels = {{"alertname", "SinkDead"}, {"sink", "chat"}};
    built_in.alert.state = rules::AlertState::kFiring;
    built_in.rule = SIZE_MAX;
    view->alerts.push_back(built_in);

    lane.sink = lane.lane = "chat";
    lane.state = SinkState::kDead;
    lane.pending = 3;
    lane.last_error = "404 no_service";
    make(true);
  }
  void make(bool may_change) {
    Api::Options options;
    options.clock = &clock;
    options.metrics = &metrics;
    options.version = "1.2.3";
    options.may_change = may_change;
    options.reload = [this]() -> std::optional<ReloadAnswer> {
      ++reloads;
      return reload_answer;
    };
    options.health = [this] { return health; };
    options.core = [this] { return view; };
    options.streams = [this] {
      clock.advance(streams_take);
      return streams;
    };
    options.lanes = [this] { return std::vector<LaneView>{lane}; };
    options.heard = heard.get();
    options.deliveries = [this](std::size_t limit) -> rules::Result<std::vector<Receipt>> {
      if (!history) return rules::fail(rules::ErrorCode::kIo, "read the history: disk I/O error");
      std::vector<Receipt> newest = *history;
      if (newest.size() > limit) newest.resize(limit);
      return newest;
    };
    options.destination = [](const std::string& sink) { return sink == "chat" ? "hooks.slack.com" : ""; };
    api = std::make_unique<Api>(std::move(options));
  }
  HttpResponse ask(const std::string& method, const std::string& path, HttpRequest::Fields headers = {},
                   HttpRequest::Fields query = {}, const std::string& body = {}) const {
    HttpRequest request;
    request.body = body;
    request.method = method;
    request.path = path;
    request.headers = std::move(headers);
    request.query = std::move(query);
    return api->handle(request);
  }
  Json json(const std::string& path, HttpRequest::Fields query = {}) const {
    const HttpResponse response = ask("GET", path, {}, std::move(query));
    CHECK(response.status == 200);
    CHECK(response.content_type == "application/json");
    const auto parsed = Json::parse(response.body);
    REQUIRE(parsed);
    CHECK((*parsed)["status"].string() == "success");
    return (*parsed)["data"];
  }

  FakeClock clock;
  Metrics metrics{"1.2.3", clock.now()};
  std::shared_ptr<CoreView> view;
  std::shared_ptr<const std::vector<StreamView>> streams = std::make_shared<std::vector<StreamView>>(
      std::vector<StreamView>{{"api", "/var/log/api/a.log", 100, 60, true, "", true}});
  rules::Duration streams_take{0};
  LaneView lane;
  Health health{{}, true, {}};
  int reloads = 0;
  std::optional<ReloadAnswer> reload_answer;
  std::optional<std::vector<Receipt>> history = std::vector<Receipt>();
  std::unique_ptr<Heard> heard;
  std::unique_ptr<Api> api;
};

}  // namespace

TEST_CASE("api: alerts as Prometheus lists them", "[run][api]") {
  const ApiFixture f;
  const Json data = f.json("/api/v1/alerts");
  REQUIRE(data["alerts"].array().size() == 2);
  const Json& alert = data["alerts"].at(0);
  CHECK(alert["labels"]["queue"].string() == "orders");
  CHECK(alert["annotations"]["summary"].string() == "queue <orders>");
  CHECK(alert["state"].string() == "firing");
  CHECK(alert["activeAt"].string() == "2026-05-01T10:00:00.500Z");
  CHECK(alert["value"].string() == "4");
}

TEST_CASE("api: rules as Grafana reads them from Prometheus", "[run][api]") {
  const ApiFixture f;
  const Json data = f.json("/api/v1/rules");
  REQUIRE(data["groups"].array().size() == 3);
  const Json& group = data["groups"].at(0);
  CHECK(group["name"].string() == "rules");
  CHECK(group["file"].string() == "logbell.yaml");
  const Json& rule = group["rules"].at(0);
  CHECK(rule["name"].string() == "QueueUnreachable");
  CHECK(rule["query"].string() == "count_over_time(queue_error[1m]) >= 3");
  CHECK(rule["state"].string() == "firing");
  CHECK(rule["duration"].number() == 90);
  CHECK(rule["keepFiringFor"].number() == 300);
  CHECK(rule["resolveWhen"].is_null());
  CHECK(rule["labels"]["severity"].string() == "critical");
  CHECK(rule["annotations"]["summary"].string() == "queue {{ $labels.queue }}");
  CHECK(rule["health"].string() == "ok");
  CHECK(rule["type"].string() == "alerting");
  CHECK(rule["alerts"].array().size() == 1);
  const Json& other = data["groups"].at(1)["rules"].at(0);
  CHECK(data["groups"].at(1)["name"].string() == "extra");
  CHECK(other["state"].string() == "inactive");
  CHECK(other["health"].string() == "unknown");
  CHECK(other["lastError"].string() == "source api is unreadable");
  CHECK(other["lastEvaluation"].string() == "0001-01-01T00:00:00Z");
  // An evaluation that fails is Prometheus's "err".
  f.view->rules[1].failing = true;
  f.view->rules[1].unknown_reason = "evaluate `a / b`: several elements on the left have the labels {}";
  const Json failing = f.json("/api/v1/rules")["groups"].at(1)["rules"].at(0);
  CHECK(failing["health"].string() == "err");
  CHECK(failing["lastError"].string() == f.view->rules[1].unknown_reason);
  // What logbell says of itself has no rule in a file and is there all the same.
  CHECK(data["groups"].at(2)["name"].string() == "logbell");
  CHECK(data["groups"].at(2)["rules"].at(0)["name"].string() == "SinkDead");
}

TEST_CASE("api: rules can be asked for by kind, name and group", "[run][api]") {
  const ApiFixture f;
  CHECK(f.json("/api/v1/rules", {{"type", "record"}})["groups"].array().empty());
  CHECK(f.json("/api/v1/rules", {{"type", "alert"}})["groups"].array().size() == 3);
  CHECK(f.json("/api/v1/rules", {{"rule_name[]", "Other"}})["groups"].array().size() == 1);
  CHECK(f.json("/api/v1/rules", {{"rule_group[]", "logbell"}})["groups"].array().size() == 1);
  CHECK(f.ask("GET", "/api/v1/rules", {}, {{"type", "x"}}).status == 400);
}

TEST_CASE("api: sources with how far they are read, sinks with whether they work", "[run][api]") {
  const ApiFixture f;
  const Json sources = f.json("/api/v1/sources");
  CHECK(sources["sources"].at(0)["name"].string() == "api");
  CHECK(sources["sources"].at(0)["lag_bytes"].integer() == 40);
  CHECK(sources["sources"].at(0)["streams"].at(0)["path"].string() == "/var/log/api/a.log");
  CHECK(sources["sources"].at(0)["streams"].at(0)["mode"].string() == "poll");
  const Json sinks = f.json("/api/v1/sinks");
  CHECK(sinks["sinks"].at(0)["destination"].string() == "hooks.slack.com");
  CHECK(sinks["sinks"].at(0)["lanes"].at(0)["state"].string() == "dead");
  CHECK(sinks["sinks"].at(0)["lanes"].at(0)["last_error"].string() == "404 no_service");
  CHECK(sinks["sinks"].at(0)["lanes"].at(0)["oldest"].is_null());
}

TEST_CASE("api: how deliveries ended, with their receipts", "[run][api]") {
  ApiFixture f;
  const auto add = [&](const std::string& key, const std::string& sink, DeliveryState state, const std::string& alert,
                       const std::string& drill) {
    Receipt receipt;
    receipt.key = key;
    receipt.sink = receipt.lane = sink;
    receipt.state = state;
    receipt.alerts = {"Other", alert};
    receipt.why = "first_firing";
    receipt.drill = drill;
    receipt.receipt = "ts 17";
    receipt.outcome = "delivered";
    receipt.reason = "ok";
    receipt.attempts = 2;
    receipt.at = f.clock.now();
    receipt.caused_at = f.clock.now() - std::chrono::seconds(3);
    f.history->push_back(receipt);
  };
  add("4", "chat", DeliveryState::kDelivered, "Boom", "");
  add("3", "pager", DeliveryState::kDead, "Boom", "");
  add("2", "chat", DeliveryState::kSuperseded, "Bang", "");
  add("1", "chat", DeliveryState::kDelivered, "Boom", "d1");
  const auto keys = [&](HttpRequest::Fields query) {
    std::string all;
    const Json data = f.json("/api/v1/deliveries", std::move(query));
    for (const Json& delivery : data["deliveries"].array())
      all += delivery["key"].string();
    return all;
  };
  CHECK(keys({}) == "4321");
  CHECK(keys({{"limit", "2"}}) == "43");
  CHECK(keys({{"sink", "chat"}}) == "421");
  CHECK(keys({{"sink", "chat"}, {"limit", "2"}}) == "42");
  CHECK(keys({{"alertname", "Boom"}}) == "431");
  CHECK(keys({{"state", "dead"}}) == "3");
  CHECK(keys({{"state", "superseded"}}) == "2");
  CHECK(keys({{"drill", "true"}}) == "1");
  CHECK(keys({{"drill", "false"}, {"alertname", "Boom"}}) == "43");
  const Json newest = f.json("/api/v1/deliveries")["deliveries"].at(0);
  CHECK(newest["state"].string() == "delivered");
  CHECK(newest["alerts"].at(1).string() == "Boom");
  CHECK(newest["why"].string() == "first_firing");
  CHECK(newest["receipt"].string() == "ts 17");
  CHECK(newest["attempts"].integer() == 2);
  CHECK(newest["caused_at"].string() == rules::format_rfc3339(f.clock.now() - std::chrono::seconds(3)));
  CHECK(newest["created_at"].is_null());
  for (const auto& [name, value] : HttpRequest::Fields{
           {"limit", "0"}, {"limit", "1001"}, {"limit", "3x"}, {"limit", "-1"}, {"state", "lost"}, {"drill", "yes"}})
    CHECK(f.ask("GET", "/api/v1/deliveries", {}, {{name, value}}).status == 400);
  f.history.reset();
  CHECK(f.ask("GET", "/api/v1/deliveries").status == 503);
}

TEST_CASE("api: parked, there is nothing to list and no crash", "[run][api]") {
  ApiFixture f;
  f.view = nullptr;
  f.streams = nullptr;
  CHECK(f.json("/api/v1/alerts")["alerts"].array().empty());
  CHECK(f.json("/api/v1/rules")["groups"].array().empty());
  CHECK(f.json("/api/v1/sources")["sources"].array().empty());
  CHECK(f.json("/api/v1/sinks")["sinks"].array().empty());
  CHECK(f.ask("GET", "/metrics").status == 200);
}

TEST_CASE("api: a page of metrics is shown again for some milliseconds, longer where it takes long to make", "[run][api]") {
  for (const int takes : {0, 10}) {
    CAPTURE(takes);
    ApiFixture f;
    f.streams_take = rules::Duration(takes);
    const auto page = [&] { return f.ask("GET", "/metrics").body; };
    const std::string first = page();
    f.lane.pending = 17;
    // From when it was asked for: what it took to make is a part of it.
    const rules::Duration again(takes == 0 ? 3 : 29);
    f.clock.advance(again);
    CHECK(page() == first);
    f.clock.advance(rules::Duration(1));
    CHECK(page() != first);
  }
}

TEST_CASE("api: healthy says which loop does not get on, ready what is degraded", "[run][api]") {
  ApiFixture f;
  CHECK(f.ask("GET", "/-/healthy").status == 200);
  CHECK(f.ask("HEAD", "/-/ready").status == 200);
  f.health.degraded = {"sink chat is dead: 404 no_service"};
  CHECK(f.ask("GET", "/-/ready").status == 200);
  CHECK(f.ask("GET", "/-/ready").body == "Ready, but degraded.\nsink chat is dead: 404 no_service\n");
  f.health.stalled = {"core: no progress for 31s"};
  f.health.ready = false;
  CHECK(f.ask("GET", "/-/healthy").status == 503);
  CHECK(f.ask("GET", "/-/healthy").body.find("core: no progress for 31s") != std::string::npos);
  CHECK(f.ask("GET", "/-/ready").status == 503);
}

TEST_CASE("api: a reload needs POST from this machine and not from a browser's page", "[run][api]") {
  ApiFixture f;
  const HttpResponse get = f.ask("GET", "/-/reload", {{"Host", "127.0.0.1:9733"}});
  CHECK(get.status == 405);
  // What every answer says the server says, once.
  CHECK(get.headers == HttpRequest::Fields{{"Allow", "POST"}});
  CHECK(f.ask("POST", "/-/reload", {{"Host", "rebound.example.com:9733"}}).status == 403);
  CHECK(f.ask("POST", "/-/reload", {{"Host", "127.evil.example.com"}}).status == 403);
  CHECK(f.ask("POST", "/-/reload").status == 403);
  CHECK(f.ask("POST", "/-/reload", {{"Host", "127.0.0.1:9733"}, {"Origin", "https://evil.example"}}).status ==
        403);
  CHECK(f.reloads == 0);
  CHECK(f.ask("POST", "/-/reload", {{"Host", "127.0.0.1:9733"}}).status == 202);
  CHECK(f.ask("POST", "/-/reload", {{"host", "LOCALHOST"}}).status == 202);
  CHECK(f.ask("POST", "/-/reload", {{"Host", "[::1]:9733"}}).status == 202);
  CHECK(f.reloads == 3);
  f.reload_answer = {400, "logbell.yaml:3:1: no\n"};
  CHECK(f.ask("POST", "/-/reload", {{"Host", "127.0.0.1:9733"}}).status == 400);
  CHECK(f.ask("POST", "/-/reload", {{"Host", "127.0.0.1:9733"}}).body == "logbell.yaml:3:1: no\n");
  f.reloads = 3;
  f.make(false);
  const HttpResponse refused = f.ask("POST", "/-/reload", {{"Host", "127.0.0.1:9733"}});
  CHECK(refused.status == 403);
  CHECK(refused.body.find("SIGHUP") != std::string::npos);
  CHECK(f.reloads == 3);
}

TEST_CASE("api: what is only read is only read, and what is not there is said in JSON", "[run][api]") {
  const ApiFixture f;
  CHECK(f.ask("POST", "/metrics").status == 405);
  CHECK(f.ask("DELETE", "/").status == 405);
  const HttpResponse missing = f.ask("GET", "/<script>");
  CHECK(missing.status == 404);
  CHECK(missing.content_type == "application/json");
  CHECK(missing.body.find("script") == std::string::npos);
  const HttpResponse page = f.ask("GET", "/");
  CHECK(page.status == 200);
  for (const char* path : {"/metrics", "/-/healthy", "/-/ready", "/-/reload", "/api/v1/alerts",
                           "/api/v1/rules", "/api/v1/sources", "/api/v1/sinks"})
    CHECK(page.body.find(path) != std::string::npos);
}

TEST_CASE("api: which addresses only this machine can reach", "[run][api]") {
  CHECK(is_loopback("127.0.0.1:9733"));
  CHECK(is_loopback("127.1.2.3:0"));
  CHECK(is_loopback("localhost:9733"));
  CHECK(is_loopback("[::1]:9733"));
  CHECK_FALSE(is_loopback("0.0.0.0:9733"));
  CHECK_FALSE(is_loopback(":9733"));
  CHECK_FALSE(is_loopback("[::]:9733"));
  CHECK_FALSE(is_loopback("10.0.0.1:9733"));
  CHECK_FALSE(is_loopback("127.0.0.1.example.com:9733"));
}

TEST_CASE("api: who asks for a reload hears what came of it, or that it goes on", "[run][api]") {
  int woken = 0;
  ReloadDesk desk([&] { ++woken; });
  CHECK_FALSE(desk.wanted());
  CHECK_FALSE(desk.ask(1ms).has_value());
  CHECK(desk.wanted());
  CHECK(woken == 1);
  desk.answer({200, "done"});
  CHECK_FALSE(desk.wanted());
  std::optional<ReloadAnswer> heard;
  ReloadDesk* busy = nullptr;
  ReloadDesk answering([&] { busy->answer({400, "no"}); });
  busy = &answering;
  heard = answering.ask();
  REQUIRE(heard.has_value());
  CHECK(heard->status == 400);
  CHECK(heard->text == "no");
}

TEST_CASE("api: the port stays while who answers on it changes", "[run][api]") {
  ApiFixture first;
  ApiFixture second;
  Front front;
  CHECK(front.address().empty());
  REQUIRE(front.serve("127.0.0.1:0", std::shared_ptr<const Api>(first.api.release())));
  const std::string address = front.address();
  CHECK(address.rfind("127.0.0.1:", 0) == 0);
  REQUIRE(front.serve("127.0.0.1:0", std::shared_ptr<const Api>(second.api.release())));
  CHECK(front.address() == address);
  CHECK_FALSE(Front().serve(address, nullptr));  // taken
  front.close();
  CHECK(front.address().empty());
}

TEST_CASE("api: a heartbeat is taken from whoever may say that somebody lives", "[run][api][heartbeat]") {
  ApiFixture f;
  const HttpRequest::Fields here{{"Host", "127.0.0.1:9733"}};
  const std::string path = "/api/v1/heartbeats/orders-api";
  CHECK(f.ask("POST", path, here).status == 404);  // nobody is listened for

  std::map<std::string, ListenedFor> wanted;
  wanted["orders-api"];
  wanted["guarded"].token = rules::Secret("a-long-token");
  Heard::Options options;
  options.clock = &f.clock;
  options.tell = [](const Condition&) {};
  options.store = [](const std::vector<StoredEntry>&) {};
  f.heard = std::make_unique<Heard>(std::move(options), wanted, std::vector<StoredEntry>{});
  f.make(true);
  const auto state = [&](std::size_t which) {
    return std::string(f.json("/api/v1/heartbeats")["heartbeats"].at(which)["state"].string());
  };
  CHECK(state(1) == "not heard yet");
  const HttpResponse taken = f.ask("POST", path, here);
  CHECK(taken.status == 200);
  CHECK(taken.body == "OK\n");
  CHECK(state(1) == "ok");
  CHECK(f.ask("POST", path + "/fail", here, {}, "no queue").status == 200);
  CHECK(state(1) == "failing");
  CHECK(f.json("/api/v1/heartbeats")["heartbeats"].at(1)["reason"].string() == "no queue");
  CHECK(f.ask("POST", path + "/log", here).status == 200);
  CHECK(state(1) == "failing");
  CHECK(f.ask("POST", path, here).status == 200);

  CHECK(f.ask("POST", "/api/v1/heartbeats/nobody", here).status == 404);
  CHECK(f.ask("POST", "/api/v1/heartbeats/", here).status == 404);
  CHECK(f.ask("POST", path + "/start", here).status == 404);
  CHECK(f.ask("POST", path + "/fail/", here).status == 404);
  CHECK(f.ask("GET", path, here).status == 405);
  CHECK(f.ask("POST", "/api/v1/heartbeats", here).status == 405);
  // A page in a browser, by a name that leads here.
  CHECK(f.ask("POST", path, {{"Host", "evil.example.com"}}).status == 403);
  CHECK(f.ask("POST", path, {{"Host", "localhost:9733"}, {"Origin", "https://evil.example.com"}}).status == 403);

  const std::string guarded = "/api/v1/heartbeats/guarded";
  const auto with = [&](const std::string& authorization) {
    return f.ask("POST", guarded, {{"Host", "logbell.ops:9733"}, {"Authorization", authorization}}).status;
  };
  for (const bool loopback : {true, false}) {
    f.make(loopback);
    CHECK(with("Bearer a-long-token") == 200);
    CHECK(with("Bearer a-long-tokeN") == 401);
    CHECK(with("Bearer a-long-token2") == 401);
    CHECK(with("Bearer ") == 401);
    CHECK(with("") == 401);
    CHECK(f.ask("POST", guarded, here).status == 401);
    CHECK(f.ask("POST", path, here).status == (loopback ? 200 : 403));
  }
  CHECK(f.ask("GET", "/api/v1/heartbeats").body.find("a-long-token") == std::string::npos);
}

// Acknowledgements: a token says what it is about, for a week, and only one of ours; the first word counts.
#include "engine/run/acknowledge.h"

#include <catch2/catch.hpp>
#include <fmt/format.h>

#include "tests/support/core_world.h"
#include "tests/support/fake_clock.h"

namespace logbell::tests {
namespace {

using namespace std::chrono_literals;
using engine::Acknowledgements;
using engine::HttpRequest;
using engine::HttpResponse;
using engine::StoredEntry;
using Kind = Acknowledgements::Reading::Kind;

struct Desk {
  Desk() {
    world.pattern("error");
    world.sink("chat").settings = 1;
    world.rule("Errors", "count_over_time(error[1m]) >= 3", {"chat"});
    world.rule("<Other>", "count_over_time(error[2m]) >= 3", {"chat"});
    plan = world.plan();
    open();
  }
  void open() {
    std::vector<StoredEntry> entries;
    for (const auto& [key, value] : stored)
      entries.push_back({key, value});
    Acknowledgements::Options options;
    options.clock = &clock;
    options.store = [this](std::vector<StoredEntry> changed) {
      for (StoredEntry& entry : changed) {
        if (entry.value) {
          stored[entry.key] = *entry.value;
        } else {
          stored.erase(entry.key);
        }
      }
    };
    options.tell = [this](const auto& message, const auto& said) {
      told.push_back(fmt::format("{}{} of {} at {}, after {} ms", said.who,
                                 message.drill.empty() ? "" : " (drill)", message.rules.size(), message.sink,
                                 said.took.count()));
    };
    options.count = [this](std::string_view outcome) { counts.emplace_back(outcome); };
    desk = std::make_unique<Acknowledgements>(std::move(options), entries);
  }
  rules::Alert alert(std::size_t rule, bool firing = true) const {
    rules::Alert alert;
    alert.labels = {{"alertname", plan->rules[rule].name}};
    alert.rule = plan->rules[rule].identity();
    alert.state = firing ? rules::AlertState::kFiring : rules::AlertState::kResolved;
    return alert;
  }
  rules::Notification notification(std::vector<rules::Alert> alerts, const std::string& key = "5f") const {
    rules::Notification notification;
    notification.key = key;
    notification.sink = "chat";
    notification.alerts = std::move(alerts);
    return notification;
  }
  std::string token(const std::string& key = "5f") const {
    return desk->token(notification({alert(0), alert(1), alert(1)}, key), 1, clock.now());
  }
  Kind kind(const std::string& token) const { return desk->read(token, *plan).kind; }
  HttpResponse ask(const std::string& method, const std::string& token, const std::string& body = "") {
    HttpRequest request;
    request.method = method;
    request.path = std::string(Acknowledgements::kPath) + token;
    request.body = body;
    return desk->answer(request, plan.get());
  }

  CoreWorld world;
  std::shared_ptr<const rules::Plan> plan;
  FakeClock clock{CoreWorld::at(0)};
  std::map<std::string, std::string> stored;
  std::vector<std::string> told;
  std::vector<std::string> counts;
  std::unique_ptr<Acknowledgements> desk;
};

using Lines = std::vector<std::string>;

}  // namespace

TEST_CASE("acknowledge: a token says what the message was about, over a restart", "[run][acknowledge]") {
  Desk desk;
  rules::Notification drill = desk.notification({desk.alert(1), desk.alert(0)});
  drill.drill = "0123456789abcdef";
  const std::string token = desk.desk->token(drill, 1, CoreWorld::at(7));
  CHECK(token.substr(0, 4) == "lba_");
  CHECK(token.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") ==
        std::string::npos);
  desk.open();
  const Acknowledgements::Reading reading = desk.desk->read(token, *desk.plan);
  CHECK(reading.kind == Kind::kGood);
  CHECK(reading.message.sink == "chat");
  CHECK(reading.message.drill == "0123456789abcdef");
  CHECK(reading.message.sent_at == CoreWorld::at(7));
  CHECK(reading.message.rules.size() == 2);
  CHECK_FALSE(reading.said);
  // Whose key is another, whose signature is another.
  CHECK(Desk().kind(token) == Kind::kWrong);
}

TEST_CASE("acknowledge: only of what fires, and of rules", "[run][acknowledge]") {
  const Desk desk;
  const auto token = [&](std::vector<rules::Alert> alerts) {
    return desk.desk->token(desk.notification(std::move(alerts)), 1, desk.clock.now());
  };
  CHECK(token({}).empty());
  CHECK(token({desk.alert(0, false)}).empty());
  rules::Alert built_in = desk.alert(0);
  built_in.rule = 0;
  CHECK(token({built_in}).empty());
  const std::string some = token({desk.alert(0), desk.alert(1, false), built_in});
  CHECK(desk.desk->read(some, *desk.plan).message.rules == std::vector{desk.plan->rules[0].identity()});
  // As many rules as a message has alerts, and the address is still one.
  std::vector<rules::Alert> many(Acknowledgements::kMaxTokenRules + 1, desk.alert(0));
  for (std::size_t i = 0; i < many.size(); ++i)
    many[i].rule = i + 1;
  CHECK(token(many).size() < 1500);
}

TEST_CASE("acknowledge: what is changed anywhere is none of ours", "[run][acknowledge]") {
  const Desk desk;
  const std::string token = desk.token();
  REQUIRE(desk.kind(token) == Kind::kGood);
  for (std::size_t i = 0; i < token.size(); ++i) {
    std::string other = token;
    other[i] = other[i] == 'A' ? 'B' : 'A';
    CHECK(desk.kind(other) == Kind::kWrong);
    CHECK(desk.kind(token.substr(0, i)) == Kind::kWrong);
    CHECK(desk.kind(token.substr(i + 1)) == Kind::kWrong);
  }
  // Whatever is left over of the last byte: one token is written in one way.
  for (const char* drill : {"", "1", "22"}) {
    rules::Notification about = desk.notification({desk.alert(0)});
    about.drill = drill;
    const std::string one = desk.desk->token(about, 1, desk.clock.now());
    CHECK(desk.kind(one) == Kind::kGood);
    CHECK(desk.kind(one + "A") == Kind::kWrong);
    for (const char c : std::string_view("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"))
      CHECK((desk.kind(one.substr(0, one.size() - 1) + c) == Kind::kGood) == (c == one.back()));
  }
  CHECK(desk.kind(token + token) == Kind::kWrong);
  CHECK(desk.kind("lba_" + std::string(Acknowledgements::kMaxToken, 'A')) == Kind::kWrong);
  CHECK(desk.kind("lba_\xff\x01/") == Kind::kWrong);
}

TEST_CASE("acknowledge: a token is good for a week, and for what still is", "[run][acknowledge]") {
  Desk desk;
  const std::string token = desk.token();
  SECTION("a week") {
    desk.clock.advance(Acknowledgements::kValid);
    CHECK(desk.kind(token) == Kind::kGood);
    desk.clock.advance(1ms);
    CHECK(desk.kind(token) == Kind::kExpired);
    CHECK(desk.ask("POST", token).status == 410);
  }
  SECTION("a clock that was set back") {
    desk.clock.step_wall(-1h);
    CHECK(desk.ask("POST", token).status == 200);
    CHECK(desk.told == Lines{" of 2 at chat, after 0 ms"});
  }
  SECTION("a sink with another secret") {
    desk.world.written.sinks["chat"].settings = 2;
    desk.plan = desk.world.plan();
    CHECK(desk.kind(token) == Kind::kStale);
    CHECK(desk.ask("POST", token).status == 410);
  }
  SECTION("a rule that is gone") {
    desk.world.written.rules.pop_back();
    desk.plan = desk.world.plan();
    CHECK(desk.kind(token) == Kind::kGood);
    CHECK(desk.ask("POST", token).status == 200);
    CHECK(desk.told == Lines{" of 1 at chat, after 0 ms"});
    desk.world.written.rules.clear();
    CHECK(desk.desk->read(token, *desk.world.plan()).kind == Kind::kStale);
  }
}

TEST_CASE("acknowledge: looking says nothing, the button does, and the first counts", "[run][acknowledge]") {
  Desk desk;
  const std::string token = desk.token();
  desk.clock.advance(90s);
  for (const char* method : {"GET", "HEAD"}) {
    const HttpResponse shown = desk.ask(method, token);
    CHECK(shown.status == 200);
    CHECK(shown.body.find("<form method=\"post\">") != std::string::npos);
    CHECK(shown.body.find("<h1>&lt;Other&gt;, Errors</h1>") != std::string::npos);
    CHECK(shown.body.find("script") == std::string::npos);
    REQUIRE(shown.headers.size() == 2);
    CHECK(shown.headers[0].second ==
          "default-src 'none'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'");
    CHECK(shown.headers[1].second == "no-referrer");
  }
  CHECK(desk.told.empty());
  CHECK(desk.counts.empty());
  CHECK(desk.ask("POST", token, "x=1&name=+Anna+M%C3%BCller%00%0A+").status == 200);
  CHECK(desk.told == Lines{"Anna Müller of 2 at chat, after 90000 ms"});
  desk.clock.advance(1h);
  desk.open();
  const HttpResponse again = desk.ask("POST", token, "name=Bob");
  INFO(again.body);
  CHECK(again.status == 200);
  CHECK(again.body.find("Anna Müller said so at 2026-05-01T08:01:30Z, 1 min after it was sent.") !=
        std::string::npos);
  CHECK(desk.ask("GET", token).body.find("<form") == std::string::npos);
  CHECK(desk.told.size() == 1);
  CHECK(desk.counts == Lines{"acknowledged", "repeated"});
  // Another message is another.
  CHECK(desk.ask("POST", desk.token("60"), "name=Bob").status == 200);
  CHECK(desk.told.size() == 2);
  CHECK(desk.stored.size() == 3);
  // Once their links are good for nothing they are forgotten.
  desk.clock.advance(Acknowledgements::kValid + 1ms);
  CHECK(desk.ask("POST", desk.token("61")).status == 200);
  CHECK(desk.stored.size() == 2);
  CHECK(desk.desk->forgotten() == 0);
}

TEST_CASE("acknowledge: what is posted is small, and no part of the page", "[run][acknowledge]") {
  Desk desk;
  const std::string token = desk.token();
  CHECK(desk.ask("POST", token, "name=" + std::string(Acknowledgements::kMaxPostedBytes, 'x')).status == 413);
  const HttpResponse no = desk.ask("DELETE", token);
  CHECK(no.status == 405);
  CHECK(no.headers.back().second == "GET, HEAD, POST");
  CHECK(desk.ask("POST", "lba_nonsense").status == 403);
  CHECK(desk.told.empty());
  CHECK(desk.ask("POST", token, "name=" + std::string(200, 'x') + "%3Cscript%3E").status == 200);
  const std::string shown = desk.ask("GET", token).body;
  CHECK(shown.find("xxx… said so") != std::string::npos);
  desk.clock.advance(1s);
  CHECK(desk.ask("POST", desk.token("6"), "name=%3Cscript%3E%22%27%26").status == 200);
  CHECK(desk.ask("GET", desk.token("6")).body.find("&lt;script&gt;&quot;&#39;&amp; said so") !=
        std::string::npos);
  HttpRequest request;
  request.method = "POST";
  request.path = std::string(Acknowledgements::kPath) + desk.token("7");
  CHECK(desk.desk->answer(request, nullptr).status == 503);
}

TEST_CASE("acknowledge: beyond the bound the oldest is forgotten, and counted", "[run][acknowledge]") {
  Desk desk;
  Acknowledgements::Message message;
  message.sink = "chat";
  message.rules = {desk.plan->rules[0].identity()};
  for (std::size_t i = 0; i <= Acknowledgements::kMaxAcknowledged; ++i) {
    message.id = i + 1;
    message.sent_at = CoreWorld::at(0) + rules::Duration(static_cast<std::int64_t>(i));
    REQUIRE(desk.desk->acknowledge(message, "x"));
  }
  CHECK(desk.desk->forgotten() == 1);
  CHECK(desk.stored.size() == Acknowledgements::kMaxAcknowledged + 1);
  CHECK_FALSE(desk.desk->acknowledge(message, "x"));
}

}  // namespace logbell::tests

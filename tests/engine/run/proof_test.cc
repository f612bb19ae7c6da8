// Proofs: what is proven of whom, for how long, and what ends it.
#include "engine/run/proof.h"

#include <algorithm>

#include <catch2/catch.hpp>
#include <fmt/format.h>

#include "tests/support/core_world.h"
#include "tests/support/fake_clock.h"

namespace logbell::tests {
namespace {

using namespace std::chrono_literals;
using engine::ProofBook;
using engine::ProofView;
using engine::StoredEntry;
using sinks::ProofLevel;

struct Book {
  Book() {
    world.pattern("error", {"queue"});
    world.sink("chat").settings = 1;
    world.sink("pager").settings = 2;
    world.sink("pager").lanes = {"pager#1", "pager#2"};
    world.rule("Errors", "sum by (queue) (count_over_time(error[1m])) >= 3");
    rules::Route& root = world.route({"chat"});
    rules::Route orders;
    orders.id = "route/0";
    orders.options = root.options;
    orders.options.sinks = {"pager"};
    orders.continue_ = false;
    orders.matchers = {*rules::LabelMatcher::parse("queue=\"orders\"")};
    root.routes.push_back(orders);
    open();
  }
  void open() {
    std::vector<StoredEntry> entries;
    for (const auto& [key, value] : stored)
      entries.push_back({key, value});
    ProofBook::Options options;
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
    book = std::make_unique<ProofBook>(std::move(options), world.plan(), entries);
  }
  rules::Notification told(const std::string& sink, const std::string& drill = "", bool firing = true) const {
    rules::Notification notification;
    notification.sink = sink;
    notification.drill = drill;
    rules::Alert alert;
    alert.labels = {{"alertname", "Errors"}};
    alert.rule = world.current->rules[0].identity();
    alert.state = firing ? rules::AlertState::kFiring : rules::AlertState::kResolved;
    notification.alerts = {alert, alert};
    return notification;
  }
  // "chat: L4 by drill: ok; …" of each pair.
  std::vector<std::string> view(const engine::Verdicts& verdicts = {}) const {
    std::vector<std::string> lines;
    for (const ProofView& view : book->view(verdicts)) {
      std::string line =
          fmt::format("{}{} {}:", view.sink, view.conditional ? "?" : "", to_string(view.reached()));
      for (const engine::Proof& proof : view.proofs) {
        if (proof.level != ProofLevel::kStatic)
          line += fmt::format(" {} by {} ({})", to_string(proof.level), proof.by, proof.evidence);
      }
      if (view.failed) line += fmt::format(" FAILED {}", view.failed->evidence);
      lines.push_back(line);
    }
    return lines;
  }
  engine::Verdicts verdicts(const std::map<std::string, sinks::Verification>& found) const {
    engine::Verdicts all;
    for (const auto& [lane, verification] : found) {
      all[lane].lane = lane;
      all[lane].found = verification;
      all[lane].at = clock.now();
    }
    return all;
  }

  CoreWorld world;
  FakeClock clock{CoreWorld::at(0)};
  std::map<std::string, std::string> stored;
  std::unique_ptr<ProofBook> book;
};

using Lines = std::vector<std::string>;

}  // namespace

TEST_CASE("proof: a receipt proves the rules that were told of, for a week, over a restart", "[run][proof]") {
  Book book;
  CHECK(book.view() == Lines{"chat? L0:", "pager? L0:"});
  book.book->delivered(book.told("chat", "1"), "ok", book.clock.now());
  CHECK(book.stored.size() == 1);
  book.book->delivered(book.told("pager"), "incident 7", book.clock.now());
  CHECK(book.view() == Lines{"chat? L4: L4 by drill (ok)", "pager? L4: L4 by alert (incident 7)"});
  book.clock.advance(24h * 7);
  book.open();
  CHECK(book.view() == Lines{"chat? L4: L4 by drill (ok)", "pager? L4: L4 by alert (incident 7)"});
  book.clock.advance(1ms);
  CHECK(book.view() == Lines{"chat? L0: L4 by drill (ok)", "pager? L0: L4 by alert (incident 7)"});
  // An older receipt that is settled late does not take the place of a newer one.
  book.book->delivered(book.told("chat"), "newer", book.clock.now());
  book.book->delivered(book.told("chat"), "older", CoreWorld::at(5));
  CHECK(book.view()[0] == "chat? L4: L4 by alert (newer)");
}

TEST_CASE("proof: an end proves as much as a beginning, but not of a drill", "[run][proof]") {
  Book book;
  book.book->delivered(book.told("chat", "1", false), "ok", book.clock.now());
  CHECK(book.stored.empty());
  book.book->delivered(book.told("chat", "", false), "ok", book.clock.now());
  CHECK(book.stored.size() == 1);
}

TEST_CASE("proof: another secret or another rule is proven anew", "[run][proof]") {
  Book book;
  book.book->delivered(book.told("chat"), "ok", book.clock.now());
  SECTION("the same plan again") {
    book.book->replace_plan(book.world.plan());
    CHECK(book.view()[0] == "chat? L4: L4 by alert (ok)");
    CHECK(book.stored.size() == 1);
  }
  SECTION("the sink's settings change") {
    book.world.written.sinks["chat"].settings = 3;
    book.book->replace_plan(book.world.plan());
    CHECK(book.view()[0] == "chat? L0:");
    CHECK(book.stored.empty());
  }
  SECTION("they change while it is down") {
    book.world.written.sinks["chat"].settings = 3;
    book.open();
    CHECK(book.view()[0] == "chat? L0:");
  }
  SECTION("the rule changes") {
    book.world.written.rules.clear();
    book.world.rule("Errors", "sum by (queue) (count_over_time(error[2m])) >= 3", {"chat"});
    book.book->replace_plan(book.world.plan());
    CHECK(book.view() == Lines{"chat L0:"});
    CHECK(book.stored.empty());
  }
}

TEST_CASE("proof: what a sink answers when it is asked, the least of its lanes", "[run][proof][F52]") {
  using sinks::Verification;
  Book book;
  const Verification live = Verification::live(ProofLevel::kCredential, "asked -> 200");
  CHECK(book.view(book.verdicts({{"chat", live}})) ==
        Lines{"chat? L2: L2 by probe (asked -> 200)", "pager? L0:"});
  CHECK(book.view(book.verdicts({{"pager#1", live}}))[1] == "pager? L0:");
  CHECK(book.view(book.verdicts({{"pager#1", live}, {"pager#2", live}}))[1] ==
        "pager? L2: L2 by probe (asked -> 200)");
  const Verification dead = Verification::dead(sinks::Reason::kGone, ProofLevel::kCredential, "asked -> 404");
  book.book->delivered(book.told("chat"), "ok", book.clock.now());
  CHECK(book.view(book.verdicts({{"chat", dead}}))[0] == "chat? L4: L4 by alert (ok) FAILED asked -> 404");
}

TEST_CASE("proof: no receipt counts of before the sink began to refuse", "[run][proof]") {
  Book book;
  const std::shared_ptr<const rules::Plan> plan = book.world.plan();
  book.book->delivered(book.told("chat"), "ok", book.clock.now());
  std::vector<ProofView> views = book.book->view({});
  engine::LaneView lane;
  lane.sink = lane.lane = "chat";
  lane.last_error = "gone: 404 no_service";
  lane.last_error_at = book.clock.now();
  lane.state = engine::SinkState::kFailing;
  show_refused(views, *plan, {lane});
  CHECK_FALSE(views[0].failed);
  CHECK(views[0].reached() == ProofLevel::kAccepted);
  lane.state = engine::SinkState::kDead;
  show_refused(views, *plan, {lane});
  REQUIRE(views[0].failed);
  CHECK(views[0].failed->evidence == "gone: 404 no_service");
  CHECK(views[0].reached() == ProofLevel::kStatic);
  CHECK_FALSE(views[1].failed);
}

TEST_CASE("proof: who stands in for another is a way, and a real message in its place proves it",
          "[run][proof]") {
  Book book;
  book.world.sink("mail").settings = 3;
  book.world.written.sinks["chat"].fallback = {"mail", "pager"};
  book.world.written.sinks["pager"].fallback = {"mail"};
  book.book->replace_plan(book.world.plan());
  CHECK(book.view() == Lines{"chat? L0:", "mail L0:", "pager L0:"});
  rules::Notification instead = book.told("mail");
  instead.fallback_for = "chat";
  book.book->delivered(instead, "ok", book.clock.now());
  const std::vector<ProofView> views = book.book->view({});
  CHECK(views[1].reached() == ProofLevel::kAccepted);
  CHECK(views[1].stands_in_for == Lines{"chat", "pager"});
  CHECK(views[2].stands_in_for.empty());  // it is told itself, at times
}

TEST_CASE("proof: no receipt counts for what was not found there, until it is", "[run][proof][F53]") {
  Book book;
  const rules::Fingerprint rule = book.world.current->rules[0].identity();
  const auto proof = [&](const std::string& evidence) {
    return engine::Proof{ProofLevel::kReadBack, book.clock.now(), "drill", evidence};
  };
  book.book->missing(rule, "pager", "pager#1", proof("nobody"));
  CHECK(book.stored.empty());  // it has no receipt: nothing is to be said of it
  book.book->delivered(book.told("pager", "1"), "ok", book.clock.now());
  book.book->found(rule, "pager", "pager#1", proof("here"));
  book.book->missing(rule, "pager", "pager#2", proof("no receiver gets it"));
  const std::string missing = "pager? L0: L4 by drill (ok) L5 by drill (here) FAILED no receiver gets it";
  CHECK(book.view()[1] == missing);
  book.book->found(rule, "pager", "pager#1", proof("here"));
  book.book->delivered(book.told("pager"), "ok", book.clock.now());
  CHECK(book.book->view({})[1].reached() == ProofLevel::kStatic);
  book.open();
  CHECK(book.book->view({})[1].is_missing());
  // Another answer of the sink does not hide it.
  const auto live = sinks::Verification::live(ProofLevel::kCredential, "asked -> 200");
  CHECK(book.book->view(book.verdicts({{"pager#1", live}, {"pager#2", live}}))[1].reached() ==
        ProofLevel::kCredential);
  book.book->found(rule, "pager", "pager#2", proof("here"));
  CHECK(book.view()[1] == "pager? L5: L4 by alert (ok) L5 by drill (here)");
}

TEST_CASE("proof: a message proves nothing of a rule that it had no room to name", "[run][proof]") {
  Book book;
  rules::Notification notification = book.told("chat");
  std::vector<rules::Alert> others(100, notification.alerts.front());
  for (std::size_t i = 0; i < others.size(); ++i) {
    others[i].labels.set("alertname", fmt::format("AnotherRuleOfThatGroup{}", i));
    others[i].rule = 1000 + i;
  }
  notification.alerts.insert(notification.alerts.begin(), others.begin(), others.end());
  book.book->delivered(notification, "ok", book.clock.now());
  CHECK(book.book->view({})[0].reached() == ProofLevel::kStatic);
  std::rotate(notification.alerts.begin(), notification.alerts.end() - 1, notification.alerts.end());
  book.book->delivered(notification, "ok", book.clock.now());
  CHECK(book.book->view({})[0].reached() == ProofLevel::kAccepted);
}

TEST_CASE("proof: a level is reached for as long as the configuration believes it", "[run][proof]") {
  Book book;
  book.book->delivered(book.told("chat"), "ok", book.clock.now());
  engine::ProofAges ages;
  ages.set(ProofLevel::kAccepted, 2h);
  book.book->replace_plan(book.world.plan(), ages);
  book.clock.advance(2h);
  CHECK(book.book->view({})[0].reached() == ProofLevel::kAccepted);
  book.clock.advance(1ms);
  CHECK(book.book->view({})[0].reached() == ProofLevel::kStatic);
  ages.set(ProofLevel::kAccepted, engine::ProofAges::kNever);
  book.book->replace_plan(book.world.plan(), ages);
  book.clock.advance(10'000h);
  CHECK(book.book->view({})[0].reached() == ProofLevel::kAccepted);
}

TEST_CASE("proof: ages are metrics, of rules that share a name the oldest", "[run][proof]") {
  Book book;
  book.book->delivered(book.told("chat"), "ok", book.clock.now());
  book.clock.advance(90s);
  std::vector<ProofView> views = book.book->view({});
  views.push_back(views.front());
  views.back().proofs.back().at -= 10s;
  const auto ages = engine::proof_ages(views);
  REQUIRE(ages.size() == 1);
  CHECK(ages[0].name == "logbell_proof_age_seconds");
  CHECK(ages[0].labels == rules::Labels{{"alertname", "Errors"}, {"level", "L4"}, {"sink", "chat"}});
  CHECK(ages[0].value == 100);
}

TEST_CASE("proof: who has seen it, and when that was asked for first, over a restart", "[run][proof]") {
  Book book;
  book.book->delivered(book.told("chat"), "ok", book.clock.now());
  CHECK_FALSE(book.book->view({})[0].asked);
  book.world.written.sinks["chat"].acknowledges = true;
  book.book->replace_plan(book.world.plan());
  book.clock.advance(1h);
  book.book->delivered(book.told("chat", "", false), "ok", book.clock.now());
  CHECK_FALSE(book.book->view({})[0].asked);  // an end asks nobody
  book.book->delivered(book.told("chat"), "ok", book.clock.now());
  book.clock.advance(1h);
  book.book->delivered(book.told("chat"), "ok", book.clock.now());
  book.book->proven(book.world.current->rules[0].identity(), "chat",
                    {ProofLevel::kAcknowledged, book.clock.now(), "alert", "Anna said so", "Anna", 41s});
  book.open();
  const ProofView view = book.book->view({})[0];
  CHECK(view.asked == CoreWorld::at(0) + 1h);
  CHECK(view.reached() == ProofLevel::kAcknowledged);
  CHECK(view.proofs.back().who == "Anna");
  CHECK(view.proofs.back().took == rules::Duration(41s));
  book.clock.advance(24h * 30 + 1ms);
  CHECK(book.book->view({})[0].reached() == ProofLevel::kStatic);
}

}  // namespace logbell::tests

// Drills: what a marked line is, where it goes, and what it leaves alone.
#include "engine/run/drill.h"

#include <catch2/catch.hpp>
#include <fmt/format.h>

#include "engine/run/reader.h"
#include "tests/engine/run/reader_world.h"
#include "tests/support/core_world.h"
#include "tests/support/fake_clock.h"

namespace logbell::tests {
namespace {

using namespace std::chrono_literals;
using engine::DrillDesk;
using engine::DrillLine;
using engine::DrillPair;
using engine::DrillReport;
using engine::Settled;
using rules::Notification;
using How = DrillDesk::How;
using State = DrillPair::State;

// A desk over a plan of two rules and two sinks; what the reader, the writer and the lanes do is done by
// hand.
struct Desk {
  Desk() {
    world.written.sources[0].name = "api";
    world.pattern("error", {"queue"}).pattern("gone");
    world.written.patterns[0].match = {*rules::Regex::compile("ERROR queue=(?P<queue>\\S+)")};
    world.written.patterns[0].examples = {"ERROR queue=orders"};
    world.sink("chat");
    world.sink("pager");
    world.rule("Errors", "sum by (queue) (count_over_time(error[1m])) >= 3", {"chat", "pager"});
    world.rule("Silence", "count_over_time(gone[2h]) == 0", {"chat"});
    plan = world.plan();
    DrillDesk::Options options;
    options.clock = &clock;
    options.wake_reader = [this] { ++woken; };
    options.random = [this] { return ++ids; };
    desk = std::make_unique<DrillDesk>(std::move(options));
  }
  DrillReport begin(const DrillDesk::Request& request = {}) {
    auto begun = desk->begin(*plan, request);
    if (!begun) FAIL(begun.error().message);
    return *begun;
  }
  // What the reader makes of a line that matched `pattern`.
  static DrillLine found(const std::string& mark, std::uint32_t pattern,
                         std::vector<std::string> labels = {}) {
    return {mark, "a line " + mark, CoreWorld::at(0), {{pattern, std::move(labels)}}};
  }
  std::vector<DrillLine> all_found() {
    std::vector<DrillLine> lines;
    for (const DrillDesk::Line& line : desk->take_lines()) {
      const bool error = line.text.find("ERROR") != std::string::npos;
      lines.push_back(error ? found(line.mark, 0, {"orders"}) : found(line.mark, 1));
    }
    return lines;
  }
  std::vector<Notification> match(const std::vector<DrillLine>& lines) {
    return desk->matched(lines, *plan, clock.now(), clock.now());
  }
  void settle(const Notification& notification, engine::DeliveryState state, const std::string& outcome,
              const std::string& detail = "", bool reads_back = false) {
    Settled settled;
    settled.settlement.state = state;
    settled.settlement.outcome = outcome;
    settled.settlement.reason = state == engine::DeliveryState::kDelivered ? "ok" : "gone";
    settled.settlement.detail = detail;
    settled.settlement.receipt = detail;
    settled.settlement.at = clock.now();
    settled.notification = &notification;
    desk->settled(settled, reads_back);
  }
  std::vector<std::string> pairs(const std::string& id) const {
    std::vector<std::string> lines;
    const DrillReport report = desk->report(id).value_or(DrillReport());
    for (const DrillPair& pair : report.pairs)
      lines.push_back(fmt::format("{} -> {}: {}{}", pair.alert, pair.lane, to_string(pair.state),
                                  pair.failed_at.empty() ? "" : " at " + pair.failed_at));
    return lines;
  }

  CoreWorld world;
  FakeClock clock{CoreWorld::at(0)};
  std::shared_ptr<const rules::Plan> plan;
  int woken = 0;
  std::uint64_t ids = 0;
  std::unique_ptr<DrillDesk> desk;
};

using Lines = std::vector<std::string>;

}  // namespace

TEST_CASE("drill desk: from the lines to the receipts", "[run][drill][F53]") {
  Desk desk;
  const DrillReport begun = desk.begin();
  CHECK(begun.id == "0000000000000001");
  CHECK_FALSE(begun.ended);
  CHECK(desk.woken == 1);
  CHECK(desk.desk->has_lines());
  CHECK_FALSE(desk.desk->idle());

  const std::vector<Notification> told = desk.match(desk.all_found());
  REQUIRE(told.size() == 2);
  CHECK(told[0].sink == "chat");
  CHECK(told[0].alerts.size() == 2);
  CHECK(told[1].sink == "pager");
  CHECK(told[1].alerts.size() == 1);
  CHECK(told[1].alerts[0].labels.get("queue") == "orders");
  for (const Notification& notification : told)
    desk.desk->stored(notification);
  desk.settle(told[0], engine::DeliveryState::kDelivered, "delivered", "ok");
  CHECK(desk.pairs(begun.id) ==
        Lines{"Errors -> chat: proven", "Errors -> pager: waiting", "Silence -> chat: proven"});
  CHECK(desk.desk->take_ended().empty());

  SECTION("all arrive") {
    desk.settle(told[1], engine::DeliveryState::kDelivered, "delivered", "incident 7");
    const std::vector<DrillReport> ended = desk.desk->take_ended();
    REQUIRE(ended.size() == 1);
    CHECK(ended[0].proven());
    CHECK(ended[0].pairs[1].receipt_text == "incident 7");
    for (const DrillPair& pair : ended[0].pairs)
      CHECK((pair.read && pair.matched && pair.routed && pair.stored && pair.receipt));
    CHECK(desk.desk->take_ended().empty());
    CHECK(desk.desk->idle());
    // Whoever saw it may say so later; the first word counts, of that sink and that rule.
    const auto seen = [&](const std::string& who) {
      desk.desk->acknowledged(begun.id, "chat", {desk.plan->rules[0].identity()}, who, desk.clock.now());
    };
    desk.clock.advance(5s);
    seen("Anna");
    seen("Bob");
    desk.desk->acknowledged("unknown", "chat", {desk.plan->rules[1].identity()}, "Bob", desk.clock.now());
    std::vector<std::string> who;
    const auto report = desk.desk->report(begun.id);
    REQUIRE(report);
    for (const DrillPair& pair : report->pairs)
      who.push_back(pair.acknowledged ? pair.acknowledged_by : "-");
    CHECK(who == Lines{"Anna", "-", "-"});
    CHECK(desk.desk->report(begun.id)->pairs[0].acknowledged == desk.clock.now());
  }
  SECTION("a passing failure is waited for") {
    desk.settle(told[1], engine::DeliveryState::kPending, "retry", "HTTP 503");
    CHECK(desk.pairs(begun.id)[1] == "Errors -> pager: waiting");
    CHECK(desk.desk->report(begun.id)->pairs[1].why == "gone: HTTP 503");
  }
  SECTION("one is refused for good, and the fallback is a way of its own") {
    Settled settled;
    settled.settlement.state = engine::DeliveryState::kDead;
    settled.settlement.outcome = "rejected";
    settled.settlement.reason = "gone";
    settled.settlement.detail = "HTTP 404: no_service";
    settled.notification = &told[1];
    Notification instead = told[1];
    instead.sink = instead.lane = "chat";
    instead.fallback_for = "pager";
    settled.settlement.fallbacks = {instead};
    desk.desk->settled(settled);
    CHECK(desk.pairs(begun.id) == Lines{"Errors -> chat: proven", "Errors -> pager: failed at deliver",
                                        "Silence -> chat: proven", "Errors -> chat: waiting"});
    desk.settle(instead, engine::DeliveryState::kDelivered, "delivered", "ok");
    const std::vector<DrillReport> ended = desk.desk->take_ended();
    REQUIRE(ended.size() == 1);
    CHECK_FALSE(ended[0].proven());
    CHECK(ended[0].pairs[3].instead_of == "pager");
    CHECK(ended[0].pairs[1].why == "gone: HTTP 404: no_service");
  }
  SECTION("one says nothing for ten minutes") {
    desk.clock.advance(DrillDesk::kValid - 1s);
    CHECK(desk.desk->take_ended().empty());
    desk.clock.advance(1s);
    CHECK(desk.desk->take_ended().size() == 1);
    CHECK(desk.pairs(begun.id)[1] == "Errors -> pager: failed at deliver");
  }
}

TEST_CASE("drill desk: what fails on the way is said where it fails", "[run][drill][F53]") {
  Desk desk;
  SECTION("a pattern does not match its own line") {
    const std::string id = desk.begin().id;
    std::vector<DrillLine> lines = desk.all_found();
    lines[0].found.clear();
    const std::vector<Notification> told = desk.match(lines);
    REQUIRE(told.size() == 1);
    CHECK(told[0].alerts.size() == 1);
    CHECK(desk.pairs(id) == Lines{"Errors -> : failed at match", "Silence -> chat: waiting"});
    CHECK(desk.desk->report(id)->pairs[0].why.find("pattern \"error\" does not match") == 0);
  }
  SECTION("no line can be made for a pattern") {
    desk.world.written.patterns[1].exclude = {*rules::Regex::compile("")};
    desk.plan = desk.world.plan();
    const std::string id = desk.begin({.rules = {"Silence"}}).id;
    CHECK(desk.pairs(id) == Lines{"Silence -> : failed at line"});
    CHECK(desk.desk->take_ended().size() == 1);
  }
  SECTION("the rule does not reach the sink that was asked for") {
    CHECK(desk.desk->begin(*desk.plan, {.rules = {"Silence"}, .sink = "pager"}).error().message ==
          "no alert of rule \"Silence\" goes to sink \"pager\"");
  }
  SECTION("of all rules those are meant that reach the sink") {
    const std::string id = desk.begin({.sink = "pager"}).id;
    CHECK(desk.match(desk.all_found()).size() == 1);
    CHECK(desk.pairs(id) == Lines{"Errors -> pager: waiting"});
  }
  SECTION("what is muted now says nothing of the way") {
    desk.world.written.has_route = true;
    desk.world.written.rules[1].sinks.clear();
    desk.world.route({"chat"}).options.mute_time_intervals = {"always"};
    desk.world.written.time_intervals["always"].entries.emplace_back();
    desk.plan = desk.world.plan();
    const std::string id = desk.begin({.rules = {"Silence"}}).id;
    CHECK(desk.match(desk.all_found()).empty());
    CHECK(desk.pairs(id) == Lines{"Silence -> : skipped at route"});
    CHECK_FALSE(desk.desk->report(id)->proven());
  }
  SECTION("a reload in between: what has changed is to be drilled again") {
    const std::string id = desk.begin().id;
    const std::vector<DrillLine> lines = desk.all_found();
    ++desk.world.written.generation;
    desk.world.written.patterns[1].exclude = {*rules::Regex::compile("known")};
    desk.plan = desk.world.plan();
    CHECK(desk.match(lines).size() == 2);
    CHECK(desk.pairs(id) ==
          Lines{"Errors -> chat: waiting", "Errors -> pager: waiting", "Silence -> : skipped at match"});
    CHECK(desk.desk->report(id)->pairs[2].why == "the configuration was changed meanwhile: drill again");
  }
  SECTION("a reload in between: of a rule that is gone nothing is told") {
    const std::string id = desk.begin().id;
    const std::vector<DrillLine> lines = desk.all_found();
    ++desk.world.written.generation;
    desk.world.written.rules.pop_back();
    desk.plan = desk.world.plan();
    CHECK(desk.match(lines).size() == 2);
    CHECK(desk.pairs(id) ==
          Lines{"Errors -> chat: waiting", "Errors -> pager: waiting", "Silence -> : skipped at match"});
  }
  SECTION("a reload in between, of another order: nothing is lost") {
    const bool issued = GENERATE(false, true);
    const DrillReport begun = desk.begin({.rules = {"Silence"}, .how = issued ? How::kIssue : How::kInside});
    ++desk.world.written.generation;
    std::swap(desk.world.written.patterns[0], desk.world.written.patterns[1]);
    desk.world.written.rules.clear();
    desk.world.rule("Silence", "count_over_time(gone[2h]) == 0", {"chat"});
    desk.world.rule("Errors", "sum by (queue) (count_over_time(error[1m])) >= 3", {"chat", "pager"});
    desk.plan = desk.world.plan();
    std::string mark = begun.mark;
    if (issued) {
      mark = desk.desk->claim("gone " + begun.mark);
    } else {
      const std::vector<DrillDesk::Line> lines = desk.desk->take_lines();
      REQUIRE(lines.size() == 1);
      CHECK(lines[0].source == "api");
      mark = lines[0].mark;
    }
    REQUIRE(desk.match({Desk::found(mark, 0)}).size() == 1);
    CHECK(desk.pairs(begun.id) == Lines{"Silence -> chat: waiting"});
  }
  SECTION("nobody reads the lines") {
    const std::string id = desk.begin({.rules = {"Silence"}, .how = How::kViaLog}).id;
    desk.clock.advance(DrillDesk::kValid);
    CHECK(desk.desk->take_ended().size() == 1);
    CHECK(desk.pairs(id) == Lines{"Silence -> : failed at line"});
  }
  SECTION("what does not exist") {
    CHECK(desk.desk->begin(*desk.plan, {.rules = {"Nope"}}).error().message ==
          "there is no rule \"Nope\"; /api/v1/rules lists them");
    CHECK(desk.desk->begin(*desk.plan, {.rules = {"errors"}}).error().message ==
          "there is no rule \"errors\"; did you mean \"Errors\"?");
    CHECK_FALSE(desk.desk->begin(*desk.plan, {.sink = "nope"}));
    CHECK_FALSE(desk.desk->begin(*desk.plan, {.source = "nope"}));
  }
}

TEST_CASE("drill desk: what is looked for at its sink is proven when it was found there",
          "[run][drill][F53]") {
  Desk desk;
  const std::string id = desk.begin({.sink = "chat"}).id;
  const std::vector<Notification> told = desk.match(desk.all_found());
  REQUIRE(told.size() == 1);
  sinks::ReadBack back;
  back.answered = true;
  // Nobody is to look for what has no receipt.
  desk.desk->read_back(told[0], back, true);
  CHECK(desk.pairs(id) == Lines{"Errors -> chat: waiting", "Silence -> chat: waiting"});
  desk.settle(told[0], engine::DeliveryState::kDelivered, "delivered", "ok", true);
  CHECK(desk.pairs(id) == Lines{"Errors -> chat: waiting", "Silence -> chat: waiting"});
  back.found = {1};
  back.evidence = "its receivers: test";
  desk.desk->read_back(told[0], back, false);
  CHECK(desk.pairs(id) == Lines{"Errors -> chat: waiting", "Silence -> chat: proven"});
  CHECK(desk.desk->take_ended().empty());
  back.found.clear();
  DrillReport report;
  SECTION("what is not there is not proven") {
    back.evidence = "no receiver of it gets it";
    desk.desk->read_back(told[0], back, true);
    CHECK(desk.pairs(id) == Lines{"Errors -> chat: failed at read back", "Silence -> chat: proven"});
    report = desk.desk->report(id).value_or(DrillReport());
    CHECK(report.pairs[0].why == "no receiver of it gets it");
    CHECK(report.pairs[1].found_text == "its receivers: test");
    CHECK(report.pairs[1].found);
  }
  SECTION("where it does not say, the receipt stands") {
    back.answered = false;
    back.evidence = "GET alerts -> HTTP 403";
    desk.desk->read_back(told[0], back, true);
    report = desk.desk->report(id).value_or(DrillReport());
    CHECK(report.proven());
    CHECK(report.pairs[0].found_text == "GET alerts -> HTTP 403");
    CHECK_FALSE(report.pairs[0].found);
  }
  SECTION("nobody looks") {
    desk.clock.advance(DrillDesk::kValid);
    CHECK(desk.desk->take_ended().size() == 1);
    CHECK(desk.pairs(id) == Lines{"Errors -> chat: failed at read back", "Silence -> chat: proven"});
    return;
  }
  CHECK(desk.desk->take_ended().size() == 1);
}

// A route by the queue of the log's line, and a sink that stands in for another.
struct Routed : Desk {
  Routed() {
    world.sink("night");
    world.sink("mail");
    world.written.sinks["pager"].fallback = {"mail"};
    world.written.rules[0].sinks.clear();
    rules::Route& root = world.route({"chat"});
    rules::Route orders;
    orders.id = "route/0";
    orders.options = root.options;
    orders.options.sinks = {"chat", "pager"};
    orders.matchers = {*rules::LabelMatcher::parse("queue=\"invoices\"")};
    root.routes.push_back(orders);
    plan = world.plan();
  }
  // Each line as its pattern reads it.
  std::vector<Notification> match_all() {
    std::vector<DrillLine> lines;
    for (const DrillDesk::Line& line : desk->take_lines()) {
      const std::size_t at = line.text.find("queue=");
      const std::string queue = line.text.substr(at + 6, line.text.find(' ', at) - at - 6);
      lines.push_back(found(line.mark, 0, {queue}));
    }
    return match(lines);
  }
};

TEST_CASE("drill desk: each sink of a rule is drilled with a line that takes its way", "[run][drill][F53]") {
  Routed desk;
  const std::string id = desk.begin({.rules = {"Errors"}}).id;
  std::vector<std::string> told;
  for (const Notification& notification : desk.match_all())
    told.push_back(notification.sink + " " + std::string(notification.alerts[0].labels.get("queue")));
  // The usual line where it leads, and another only where that does not.
  CHECK(told == Lines{"chat orders", "mail invoices", "pager invoices"});
  CHECK(desk.pairs(id) ==
        Lines{"Errors -> chat: waiting", "Errors -> mail: waiting", "Errors -> pager: waiting"});
  const DrillReport report = desk.desk->report(id).value_or(DrillReport());
  CHECK(report.pairs[0].stands_in_for.empty());
  CHECK(report.pairs[1].stands_in_for == Lines{"pager"});
}

TEST_CASE("drill desk: one sink is asked for, and reached with the line that takes its way",
          "[run][drill][F53]") {
  Routed desk;
  const std::string sink = GENERATE("pager", "mail");
  const std::string id = desk.begin({.rules = {"Errors"}, .sink = sink}).id;
  CHECK(desk.match_all().size() == 1);
  CHECK(desk.pairs(id) == Lines{fmt::format("Errors -> {}: waiting", sink)});
}

TEST_CASE("drill desk: a way that no line takes is not drilled, and no drill is proven without it",
          "[run][drill][F53]") {
  Routed desk;
  desk.world.written.patterns[0].match = {*rules::Regex::compile("ERROR queue=(?P<queue>orders)")};
  desk.plan = desk.world.plan();
  const std::string id = desk.begin({.rules = {"Errors"}}).id;
  for (const Notification& notification : desk.match_all())
    desk.settle(notification, engine::DeliveryState::kDelivered, "delivered", "ok");
  CHECK(desk.pairs(id) == Lines{"Errors -> mail: skipped at line", "Errors -> pager: skipped at line",
                                "Errors -> chat: proven"});
  const DrillReport report = desk.desk->report(id).value_or(DrillReport());
  CHECK(report.ended);
  CHECK_FALSE(report.proven());
  CHECK(report.pairs[1].why ==
        "its alerts go there only when queue=\"invoices\" holds, and no line was found that is so; add one "
        "to the "
        "`examples:` of pattern \"error\"");
}

TEST_CASE("drill desk: a sink that is muted now is named, though another hears of the rule", "[run][drill]") {
  Routed desk;
  desk.world.written.route.routes[0].options.sinks = {"pager"};
  desk.world.written.route.routes[0].options.mute_time_intervals = {"always"};
  desk.world.written.time_intervals["always"].entries.emplace_back();
  desk.world.written.route.routes[0].matchers.clear();
  desk.world.written.route.routes[0].continue_ = true;
  rules::Route all = desk.world.written.route.routes[0];
  all.id = "route/1";
  all.options.sinks = {"chat"};
  all.options.mute_time_intervals.clear();
  desk.world.written.route.routes.push_back(all);
  desk.plan = desk.world.plan();
  const std::string id = desk.begin({.rules = {"Errors"}}).id;
  CHECK(desk.match_all().size() == 1);
  CHECK(desk.pairs(id) == Lines{"Errors -> chat: waiting", "Errors -> mail: skipped at route",
                                "Errors -> pager: skipped at route"});
}

TEST_CASE("drill desk: what is logged and not read is said", "[run][drill]") {
  Desk desk;
  DrillDesk::Options options;
  options.clock = &desk.clock;
  options.is_read = [](const std::string& source) { return source != "api"; };
  desk.desk = std::make_unique<DrillDesk>(std::move(options));
  CHECK(desk.begin().notes == Lines{"source \"api\" has no readable file: the line of the drill came in "
                                    "behind it, and what is logged is "
                                    "not read"});
  CHECK(desk.begin({.how = How::kIssue}).notes.empty());
}

TEST_CASE("drill desk: what proves nothing is not proven", "[run][drill]") {
  DrillReport report;
  report.ended = CoreWorld::at(0);
  CHECK_FALSE(report.proven());
  report.pairs.emplace_back();
  report.pairs.back().state = State::kProven;
  CHECK(report.proven());
  report.pairs.emplace_back();
  report.pairs.back().state = State::kSkipped;
  CHECK_FALSE(report.proven());
}

TEST_CASE("drill desk: only a mark that was issued here, is fresh and unused marks a line",
          "[run][drill][F53]") {
  Desk desk;
  CHECK_FALSE(desk.desk->may_be_in("logbell-drill:0000000000000001"));
  const DrillReport begun = desk.begin({.how = How::kIssue});
  CHECK(begun.mark == "logbell-drill:0000000000000001");
  CHECK(desk.desk->may_be_in("ERROR queue=a logbell-drill:0000000000000001"));
  CHECK_FALSE(desk.desk->may_be_in("ERROR queue=a"));
  CHECK(desk.desk->claim("logbell-drill:0000000000000002").empty());
  CHECK(desk.desk->claim("logbell-drill:00000000000000011").empty());
  CHECK(desk.desk->claim("logbell-drill:").empty());
  // One that is none before it does not hide it.
  CHECK(desk.desk->claim("logbell-drill:77 ERROR [logbell-drill:0000000000000001] x") == begun.mark);
  CHECK(desk.desk->claim("again logbell-drill:0000000000000001").empty());
  CHECK_FALSE(desk.desk->may_be_in("logbell-drill:0000000000000001"));

  // What the line is about is what it matches; the other rule was not meant.
  const std::vector<Notification> told = desk.match({Desk::found(begun.mark, 1)});
  REQUIRE(told.size() == 1);
  CHECK(desk.pairs(begun.id) == Lines{"Silence -> chat: waiting"});

  const DrillReport late = desk.begin({.how = How::kIssue});
  desk.clock.advance(DrillDesk::kValid);
  desk.desk->take_ended();
  CHECK(desk.desk->claim(late.mark).empty());
}

TEST_CASE("drill desk: no more drills than are remembered", "[run][drill]") {
  Desk desk;
  for (std::size_t i = 0; i < DrillDesk::kMaxDrills; ++i)
    desk.begin({.how = How::kIssue});
  CHECK(desk.desk->begin(*desk.plan, {}).error().code == rules::ErrorCode::kUnavailable);
  desk.clock.advance(DrillDesk::kValid);
  CHECK(desk.desk->take_ended().size() == DrillDesk::kMaxDrills);
  desk.begin();
  CHECK(desk.desk->reports().size() == DrillDesk::kMaxDrills);
}

TEST_CASE("drill desk: a text in the envelope of its source is read as it was", "[run][drill]") {
  rules::SourceSpec source;
  source.name = "pods";
  source.envelope = GENERATE(rules::Envelope::kNone, rules::Envelope::kCri, rules::Envelope::kDocker,
                             rules::Envelope::kSyslog, rules::Envelope::kJournal);
  rules::Facts facts;
  facts.set("stream", "stderr");
  facts.set("app", "orders");
  std::string raw = engine::in_envelope(source, "ERROR \"quoted\" boom", facts, CoreWorld::at(7)) + "\n";
  if (!engine::RecordDecoder::is_needed(source)) {
    CHECK(raw == "ERROR \"quoted\" boom\n");
    return;
  }
  engine::RecordDecoder decoder(source, "/var/log/pods/a_b_c/d/0.log");
  engine::Chunk chunk;
  chunk.block = raw;
  chunk.consumed = raw.size();
  engine::RecordBlock block;
  decoder.feed(chunk, 0, CoreWorld::at(7), {}, block);
  decoder.flush({}, true, block);
  CHECK(block.malformed == 0);
  REQUIRE(block.records.size() == 1);
  CHECK(block.text.substr(0, block.records[0].length) == "ERROR \"quoted\" boom");
  REQUIRE(block.records[0].facts != nullptr);
  const bool container =
      source.envelope == rules::Envelope::kCri || source.envelope == rules::Envelope::kDocker;
  const std::string* fact = block.records[0].facts->find(container ? "stream" : "app");
  REQUIRE(fact != nullptr);
  CHECK(*fact == (container ? "stderr" : "orders"));
}

TEST_CASE("reader: a line of a drill passes the patterns and is not counted", "[run][reader][drill][F53]") {
  PlanSetting setting;
  setting.patterns = {"ERROR (?P<queue>\\S+)", "boom"};
  setting.window = "1m";
  ReaderWorld world(setting);
  FakeClock& clock = world.clock;
  std::uint64_t ids = 0;
  DrillDesk::Options options;
  options.clock = &clock;
  options.random = [&] { return ++ids; };
  DrillDesk desk(std::move(options));
  world.drills = &desk;
  world.dir.append("app.log", "ERROR a\n");
  world.settle();
  REQUIRE(world.seen.size() == 1);
  auto plan = std::make_shared<rules::Plan>(*make_plan(world.dir, setting));
  plan->sinks["chat"].name = "chat";
  plan->sinks["chat"].lanes = {"chat"};
  plan->rules[0].sinks = {"chat"};

  SECTION("that the process made itself") {
    REQUIRE(desk.begin(*plan, {}));
    world.settle();
    CHECK(world.seen.size() == 1);
    REQUIRE(world.drilled.size() == 1);
    CHECK(world.drilled[0].mark == "logbell-drill:0000000000000001-1");
    CHECK(world.drilled[0].text.find(world.drilled[0].mark) != std::string::npos);
    REQUIRE(world.drilled[0].found.size() == 1);
    CHECK(world.drilled[0].found[0].labels.size() == 1);
  }
  SECTION("that stands in a log, once") {
    const auto begun = desk.begin(*plan, {.how = How::kIssue});
    REQUIRE(begun);
    world.dir.append("app.log", "ERROR b boom " + begun->mark + "\nERROR c\nERROR d " + begun->mark +
                                    "\nERROR e logbell-drill:00000000000000ff\n");
    world.settle();
    Lines seen;
    for (const SeenLine& line : world.seen)
      seen.push_back(line.text);
    CHECK(seen ==
          Lines{"ERROR a", "ERROR c", "ERROR d " + begun->mark, "ERROR e logbell-drill:00000000000000ff"});
    REQUIRE(world.drilled.size() == 1);
    CHECK(world.drilled[0].text == "ERROR b boom " + begun->mark);
    REQUIRE(world.drilled[0].found.size() == 2);
    CHECK(world.drilled[0].found[0].labels == Lines{"b"});
  }
}

}  // namespace logbell::tests

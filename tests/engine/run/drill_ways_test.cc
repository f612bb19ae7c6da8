// Whom a rule's alerts reach, and the lines with which they take each way.
#include "engine/run/drill_ways.h"

#include <catch2/catch.hpp>
#include <fmt/format.h>

#include "tests/support/core_world.h"

namespace logbell::tests {
namespace {

using engine::DrillWays;
using engine::RuleSink;
using Lines = std::vector<std::string>;

// A rule over one pattern with two labels, and a route that asks for both.
struct Ways {
  Ways() {
    world.pattern("error", {"queue", "team"});
    world.written.patterns[0].match = {*rules::Regex::compile(R"(ERROR (?P<team>\w*) queue=(?P<queue>\S+))")};
    world.written.patterns[0].examples = {"12:00 ERROR web queue=a", "12:01 ERROR db queue=b"};
    for (const char* sink : {"chat", "pager", "mail"})
      world.sink(sink);
    world.rule("Errors", "sum by (queue, team) (count_over_time(error[1m])) >= 3");
    world.route({"chat"});
  }
  rules::Route& child(rules::Route& parent, const std::string& matcher, std::vector<std::string> sinks) {
    rules::Route route;
    route.id = fmt::format("{}/{}", parent.id, parent.routes.size());
    route.options = parent.options;
    route.options.sinks = std::move(sinks);
    if (!matcher.empty()) route.matchers = {*rules::LabelMatcher::parse(matcher)};
    parent.routes.push_back(route);
    return parent.routes.back();
  }
  rules::Route& root() { return world.written.route; }
  std::vector<RuleSink> sinks() {
    plan = world.plan();
    return engine::sinks_of(*plan, plan->rules[0], rules::reach_of(*plan).at(0));
  }
  // "chat pager: <line>" of each way, then what is left.
  Lines find() {
    const std::vector<RuleSink> wanted = sinks();
    DrillWays ways(*plan, "m", "");
    const DrillWays::Ways found = ways.find(plan->rules[0], wanted);
    Lines out;
    for (const DrillWays::Way& way : found.ways) {
      std::string line = fmt::format("{}:", fmt::join(way.sinks, " "));
      for (const DrillWays::Line* one : way.lines) {
        CHECK(one->made.text.find(one->mark) != std::string::npos);
        std::string text = one->made.text;
        text.replace(text.find(one->mark), one->mark.size(), "M");
        line += " " + text;
      }
      out.push_back(line);
    }
    if (!found.trouble.empty()) out.push_back("trouble " + found.trouble);
    for (const auto& [sink, why] : found.left)
      out.push_back(fmt::format("left {}: {}", sink, why));
    return out;
  }

  CoreWorld world;
  std::shared_ptr<const rules::Plan> plan;
};

Lines shown(const std::vector<RuleSink>& sinks) {
  Lines out;
  for (const RuleSink& sink : sinks)
    out.push_back(fmt::format(
        "{}{}{}{}", sink.sink, sink.conditional ? " if " : "", sink.when,
        sink.stands_in_for.empty() ? "" : fmt::format(" for {}", fmt::join(sink.stands_in_for, ", "))));
  return out;
}

}  // namespace

TEST_CASE("drill ways: whom a rule reaches, with who stands in for them", "[run][drill]") {
  Ways ways;
  ways.child(ways.root(), "team=\"db\"", {"chat", "pager"});
  CHECK(shown(ways.sinks()) == Lines{"chat", "pager if team=\"db\" holds"});
  ways.world.written.sinks["pager"].fallback = {"mail", "chat"};
  CHECK(shown(ways.sinks()) ==
        Lines{"chat", "mail if team=\"db\" holds for pager", "pager if team=\"db\" holds"});
  ways.world.written.sinks["chat"].fallback = {"mail"};
  CHECK(shown(ways.sinks()) == Lines{"chat", "mail for chat, pager", "pager if team=\"db\" holds"});
  ways.world.written.rules[0].sinks = {"pager"};
  CHECK(shown(ways.sinks()) == Lines{"chat for pager", "mail for pager", "pager"});
}

TEST_CASE("drill ways: an example that takes the way, the usual line for all others", "[run][drill]") {
  Ways ways;
  ways.world.written.sinks["pager"].fallback = {"mail"};
  ways.child(ways.root(), "team=\"db\"", {"chat", "pager"});
  CHECK(ways.find() == Lines{"chat: 12:00 ERROR web queue=a M", "mail pager: 12:01 ERROR db queue=b M"});
}

TEST_CASE("drill ways: labels that the route asks for, put into a line", "[run][drill]") {
  Ways ways;
  rules::Route& db = ways.child(ways.root(), "team=~\"dba|data\"", {"pager"});
  SECTION("one") {
    CHECK(ways.find()[1].find("pager: ERROR dba queue=") == 0);
  }
  SECTION("two at once") {
    ways.child(db, "queue=\"bills\"", {"mail"});
    const Lines found = ways.find();
    REQUIRE(found.size() == 3);
    CHECK(found[1].find("mail: ERROR dba queue=bills") == 0);
    CHECK(found[2].find("pager: ERROR dba queue=") == 0);
  }
  SECTION("as somebody else has no value of it") {
    ways.root().routes.clear();
    ways.child(ways.root(), "team!~\"web|x\"", {"pager"});
    ways.child(ways.root(), "team=\"x\"", {"mail"});
    const Lines found = ways.find();
    REQUIRE(found.size() == 3);
    CHECK(found[0] == "chat: 12:00 ERROR web queue=a M");
    CHECK(found[1].find("mail: ERROR x queue=") == 0);
    CHECK(found[2] == "pager: 12:01 ERROR db queue=b M");
  }
}

TEST_CASE("drill ways: a rule over two patterns has a line of each, with the same labels", "[run][drill]") {
  Ways ways;
  ways.world.pattern("all", {"team"});
  ways.world.written.patterns[1].match = {*rules::Regex::compile(R"(done (?P<team>\w+))")};
  ways.world.written.rules.clear();
  ways.world.rule(
      "Ratio", "sum by (team) (count_over_time(error[1m])) / sum by (team) (count_over_time(all[1m])) > 0.5");
  ways.child(ways.root(), "team=\"db\"", {"chat", "pager"});
  const Lines found = ways.find();
  REQUIRE(found.size() == 2);
  CHECK(found[1] == "pager: 12:01 ERROR db queue=b M done db M");
}

TEST_CASE("drill ways: what no line can be found for is said, with what to add", "[run][drill]") {
  Ways ways;
  ways.world.written.patterns[0].match = {
      *rules::Regex::compile(R"(ERROR (?P<team>web) queue=(?P<queue>\S+))")};
  ways.child(ways.root(), "team=\"db\"", {"chat", "pager"});
  CHECK(ways.find() ==
        Lines{"chat: 12:00 ERROR web queue=a M",
              "left pager: its alerts go there only when team=\"db\" holds, and no line was found "
              "that is so; add one to the `examples:` of pattern \"error\""});
  ways.world.written.patterns[0].exclude = {*rules::Regex::compile("")};
  const Lines found = ways.find();
  REQUIRE(found.size() == 1);
  CHECK(found[0].find("trouble make a line with a mark that pattern \"error\" matches") == 0);
}

}  // namespace logbell::tests

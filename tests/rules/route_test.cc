// Route: who takes an alert, and every way that one can travel whose labels come from logs.
#include "rules/route.h"

#include <functional>
#include <random>
#include <set>

#include <catch2/catch.hpp>

using namespace logbell::rules;

namespace {

Route node(std::string id, const std::vector<std::string>& matchers, std::vector<Route> children = {},
           bool go_on = false) {
  Route route;
  route.id = std::move(id);
  for (const std::string& text : matchers)
    route.matchers.push_back(*LabelMatcher::parse(text));
  route.routes = std::move(children);
  route.continue_ = go_on;
  return route;
}

std::string ids(const std::vector<const Route*>& nodes) {
  std::string text;
  for (const Route* found : nodes)
    text += (text.empty() ? "" : " ") + found->id;
  return text;
}

}  // namespace

TEST_CASE("route: depth first, first match wins, continue goes on", "[rules][route]") {
  const Route root = node("root", {},
                          {node("critical", {"severity=critical"}, {node("db", {"team=db"})}, true),
                           node("queue", {"queue=~\"orders.*\""}), node("never", {"queue=orders-x"})});
  CHECK(ids(root.match({{"severity", "info"}})) == "root");
  CHECK(ids(root.match({{"severity", "critical"}})) == "critical");
  CHECK(ids(root.match({{"severity", "critical"}, {"team", "db"}})) == "db");
  CHECK(ids(root.match({{"severity", "critical"}, {"queue", "orders-x"}})) == "critical queue");
  CHECK(ids(root.match({{"queue", "orders-x"}})) == "queue");
}

TEST_CASE("route: a matcher on a label from logs is both true and false", "[rules][route]") {
  const Route root =
      node("root", {}, {node("orders", {"queue=orders"}), node("critical", {"severity=critical"})});
  const auto paths = possible_paths(root, LabelSpace{{{"severity", "critical"}}, {"queue"}});
  REQUIRE(paths.size() == 2);
  std::set<std::string> found;
  for (const RoutePath& path : paths)
    found.insert(ids(path.nodes));
  CHECK(found == std::set<std::string>{"orders", "critical"});
  // Fixed labels decide; labels that cannot be there are absent.
  CHECK(possible_paths(root, LabelSpace{{{"severity", "info"}}, {}}).size() == 1);
  CHECK(ids(possible_paths(root, LabelSpace{{{"severity", "critical"}, {"queue", "x"}}, {}}).front().nodes) ==
        "critical");
}

TEST_CASE("route: every real alert travels one of the possible paths", "[rules][route]") {
  std::mt19937_64 random(7);  // NOLINT(cert-msc51-cpp): repeatable
  const auto pick = [&](std::uint64_t n) { return random() % n; };
  const std::vector<std::string> tests{"a=x", "a!=x", "a=~\"x|y\"", "b=x", "b!~\"y\"", "c=x"};
  const std::vector<std::string> values{"", "x", "y", "z"};
  for (int round = 0; round < 300; ++round) {
    int next_id = 0;
    std::function<Route(int)> make = [&](int depth) {
      std::vector<Route> children;
      for (std::uint64_t i = depth == 0 ? 0 : pick(4); i > 0; --i)
        children.push_back(make(depth - 1));
      return node(std::to_string(next_id++), {tests[pick(tests.size())]}, std::move(children), pick(3) == 0);
    };
    Route root = make(3);
    root.matchers.clear();
    const LabelSpace space{{{"c", values[pick(4)]}}, {"a", "b"}};
    std::set<std::string> possible;
    std::set<std::string> taken;
    for (const RoutePath& path : possible_paths(root, space))
      possible.insert(ids(path.nodes));
    for (const std::string& a : values) {
      for (const std::string& b : values) {
        Labels labels = space.fixed;
        labels.set("a", a);
        labels.set("b", b);
        REQUIRE(possible.count(ids(root.match(labels))) == 1);
        taken.insert(ids(root.match(labels)));
      }
    }
    // And none of them is made up.
    REQUIRE(possible == taken);
  }
}

TEST_CASE("route: what was assumed of a label decides what is asked of it later", "[rules][route]") {
  const auto ways = [](const std::vector<std::string>& tests) {
    std::vector<Route> children;
    for (const std::string& test : tests)
      children.push_back(node(test, {test}));
    const Route root = node("root", {}, children);
    std::string text;
    for (const RoutePath& path : possible_paths(root, LabelSpace{{}, {"team"}}))
      text += (text.empty() ? "" : ", ") + ids(path.nodes);
    return text;
  };
  // The second is never taken: what is db matches the first.
  CHECK(ways({"team=~\"d.*\"", "team=db"}) == "team=~\"d.*\", root");
  CHECK(ways({"team=~\"db|mail\"", "team=db"}) == "team=~\"db|mail\", root");
  CHECK(ways({"team=~\"db|mail\"", "team=~\"mail|db\""}) == "team=~\"db|mail\", root");
  CHECK(ways({"team!=db", "team=db"}) == "team!=db, team=db");
  CHECK(ways({"team!=db", "team=~\"d.\""}) == "team!=db, team=~\"d.\"");
  CHECK(ways({"team!~\"d.*\"", "team=~\"d.*\""}) == "team!~\"d.*\", team=~\"d.*\"");
  CHECK(ways({"team=\"\"", "team=~\".+\""}) == "team=\"\", team=~\".+\", root");
  // What may be stays.
  CHECK(ways({"team=db", "team=~\"d.*\""}) == "team=db, team=~\"d.*\", root");
  CHECK(ways({"team=~\"d.*\"", "team=~\".*b\""}) == "team=~\"d.*\", team=~\".*b\", root");
  CHECK(ways({"team=~\"db|mail\"", "team=~\"db|web\""}) == "team=~\"db|mail\", team=~\"db|web\", root");
}

TEST_CASE("route: the ways that are left beside one through another tree", "[rules][route]") {
  const Route before = node("root", {}, {node("db", {"team=db"})});
  const Route after = node("root", {}, {node("d", {"team=~\"d.*\""}), node("eu", {"region=eu"})});
  const LabelSpace space{{}, {"team", "region"}};
  std::set<std::string> both;
  for (const RoutePath& path : possible_paths(before, space)) {
    for (const RoutePath& other : possible_paths(after, space, path.assumed)) {
      both.insert(ids(path.nodes) + "|" + ids(other.nodes));
      CHECK(other.assumptions.front() == path.assumptions.front());
    }
  }
  CHECK(both == std::set<std::string>{"db|d", "root|d", "root|eu", "root|root"});
}

TEST_CASE("route: a tree with more ways than can be looked at covers nothing", "[rules][route]") {
  std::vector<Route> children;
  std::vector<std::string> names;
  for (int i = 0; i < 14; ++i) {
    const std::string name = "l" + std::to_string(i);
    names.push_back(name);
    children.push_back(node("child/" + name, {name + "=x"}, {}, true));
  }
  // Once at the root, once below a node that goes on to its siblings.
  const Route flat = node("root", {}, children);
  const Route deep = node("root", {}, {node("outer", {}, children, true), node("after", {})});
  for (const Route& root : {flat, deep}) {
    bool uncovered = false;
    for (const RoutePath& path : possible_paths(root, LabelSpace{{}, names}))
      uncovered = uncovered || path.nodes.empty();
    CHECK(uncovered);
  }
}

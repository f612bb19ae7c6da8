// What two configurations would do differently, above all who is told.
#include "engine/run/compare.h"

#include <catch2/catch.hpp>
#include <fmt/format.h>

namespace logbell::engine {
namespace {

using Section = Difference::Section;
using Lines = std::vector<std::string>;

// `text` completed with what every configuration has.
std::shared_ptr<const Config> load(const std::string& text, bool good = true) {
  ConfigWorld world;
  world.env = [](const std::string& name) {
    return name == "EMPTY" ? std::optional<std::string>("") : std::optional<std::string>();
  };
  const std::string whole = "sources: [{name: app, files: [app.log]}]\n" + text;
  world.read_file = [&](const std::string&) { return rules::Result<std::string>(whole); };
  world.glob = [](const std::string&) { return std::vector<std::string>(); };
  world.readable_by_others = [](const std::string&) { return false; };
  world.hostname = "api-7";
  world.now = *rules::parse_rfc3339("2026-11-28T12:00:00Z");
  rules::Problems problems;
  LoadOptions options;
  options.inspect = true;
  auto config = load_config("c.yaml", world, options, problems);
  for (const rules::Problem& problem : problems.sorted())
    UNSCOPED_INFO(problem.format());
  REQUIRE(config != nullptr);
  CHECK(problems.has_errors() != good);
  return config;
}

Lines lines(const Config& a, const Config& b) {
  Lines out;
  for (const Difference& difference : compare(a, b)) {
    if (difference.what == "sinks") continue;  // of a rule or a route: who is told says more
    out.push_back(fmt::format("{} {} {}: {} -> {}", to_string(difference.section), difference.subject,
                              difference.what, difference.in_a, difference.in_b));
  }
  return out;
}

const std::string kPatterns = "patterns: {err: {match: 'ERROR (?P<queue>\\w+)', labels: [queue]}}\n";
const std::string kSinks =
    "sinks: {a: {webhook: {url: 'https://a.example.com/'}}, b: {webhook: {url: 'https://b.example.com/'}}, "
    "am: {alertmanager: {url: 'http://am:9093'}}, rec: {file: {path: /var/log/rec}}}\n";
std::string rule(const std::string& sinks, const std::string& more = "") {
  return "rules: [{alert: Errors, expr: 'sum by (queue) (count_over_time(err[1m])) > 1'" +
         (sinks.empty() ? "" : ", sinks: " + sinks) + more + "}]\n";
}
const std::string kRoute = "route: {sinks: [a]}\n";

TEST_CASE("compare: who is told of a rule", "[run][compare]") {
  const auto with = [](const std::string& sinks) { return load(kPatterns + kSinks + rule(sinks) + kRoute); };
  const auto both = with("[a, b]");
  CHECK(lines(*both, *both).empty());
  CHECK(lines(*both, *with("[a]")) ==
        Lines{"fewer rule \"Errors\" told: a (webhook), b (webhook) -> a (webhook)"});
  CHECK(lines(*with("[a]"), *both) ==
        Lines{"more rule \"Errors\" told: a (webhook) -> a (webhook), b (webhook)"});
  CHECK(lines(*with("[a]"), *with("[am]")) ==
        Lines{"otherwise rule \"Errors\" told: a (webhook) -> am (alertmanager)"});
  // A file that nobody said a machine reads tells nobody.
  CHECK(lines(*with("[a]"), *with("[a, rec]")).empty());
  const std::vector<Difference> written = compare(*with("[a]"), *with("[a, rec]"));
  REQUIRE(written.size() == 1);
  CHECK(written.front().in_b == "a, rec");
}

TEST_CASE("compare: a rule that reaches nobody, or is not there", "[run][compare][F51]") {
  const auto good = load(kPatterns + kSinks + rule("[a]") + kRoute);
  CHECK(lines(*good, *load(kPatterns + kSinks + rule("[gone]") + kRoute, false)).front() ==
        "fewer rule \"Errors\" told: a (webhook) -> nobody");
  const std::string no_secret =
      "sinks: {a: {webhook: {url: '${EMPTY}'}}, b: {webhook: {url: 'https://b.example.com/'}}, "
      "am: {alertmanager: {url: 'http://am:9093'}}, rec: {file: {path: /var/log/rec}}}\n";
  const Lines empty = lines(*good, *load(kPatterns + no_secret + rule("[a]") + kRoute, false));
  CHECK(empty.front() == "fewer rule \"Errors\" told: a (webhook) -> nobody");
  CHECK(std::count(empty.begin(), empty.end(), "sinks sink \"a\" usable: yes -> no: see `logbell check`") ==
        1);
  CHECK(
      lines(*good, *load(kPatterns + kSinks + "rules: []\n" + kRoute)) ==
      Lines{"fewer rule \"Errors\" told: a (webhook) -> no such rule", "rules rule \"Errors\" : there -> "});
  const std::string silent = rule("none", ", until: 2026-12-24, reason: 'moving house'");
  CHECK(lines(*good, *load(kPatterns + kSinks + silent + kRoute))
            .front()
            .find("fewer rule \"Errors\" told: a (webhook) -> nobody until 2026-12-2") == 0);
  CHECK(lines(*load(kPatterns + kSinks + "rules: []\n" + kRoute), *good).front() ==
        "more rule \"Errors\" told: no such rule -> a (webhook)");
}

TEST_CASE("compare: what a route takes away on one way is fewer", "[run][compare]") {
  const auto root = load(kPatterns + kSinks + rule("") + "route: {sinks: [a, b]}\n");
  const auto narrower =
      load(kPatterns + kSinks + rule("") +
           "route: {sinks: [a, b], routes: [{matchers: ['queue=\"mails\"'], sinks: [b]}]}\n");
  const Lines found = lines(*root, *narrower);
  CHECK(found.front() ==
        "fewer rule \"Errors\" told: a (webhook), b (webhook) -> b (webhook), a (webhook) when "
        "queue=\"mails\" does not hold");
  CHECK(std::count(found.begin(), found.end(), "routes queue=\"mails\" :  -> there") == 1);
}

TEST_CASE("compare: the same sinks on other ways are not the same, a longer silence is not more",
          "[run][compare]") {
  const auto to = [](const std::string& queue) {
    return load(kPatterns + kSinks + rule("") + "route: {sinks: [a], routes: [{matchers: ['queue=\"" + queue +
                "\"'], sinks: [a, b]}]}\n");
  };
  CHECK(lines(*to("mails"), *to("mails")).empty());
  CHECK(lines(*to("mails"), *to("orders")).front().find("otherwise rule") == 0);
  const auto silent = [](const std::string& until) {
    return load(kPatterns + kSinks + rule("none", ", until: " + until + ", reason: 'moving house'") + kRoute);
  };
  CHECK(lines(*silent("2026-12-24"), *silent("2027-12-24")).front().find("otherwise rule") == 0);
}

TEST_CASE("compare: what is written differently is said, where sinks lead as well", "[run][compare]") {
  const auto a = load(kPatterns + kSinks + rule("[a]") + kRoute);
  const auto b = load(
      "patterns: {err: {match: 'FATAL (?P<queue>\\w+)', labels: [queue]}}\n"
      "sinks: {a: {webhook: {url: 'https://other.example.com/'}, fallback: [b]}, b: {webhook: {url: "
      "'https://b.example.com/'}}, am: {alertmanager: {url: 'http://am:9093'}}, rec: {file: {path: "
      "/var/log/rec}}}\n" +
      rule("[a]", ", for: 1m, labels: {severity: critical}") + "route: {sinks: [a], group_wait: 30s}\n");
  CHECK(lines(*a, *b) ==
        Lines{"rules rule \"Errors\" for: 0s -> 1m", "rules rule \"Errors\" labels:  -> severity=critical",
              "patterns pattern \"err\" match: ERROR (?P<queue>\\w+) -> FATAL (?P<queue>\\w+)",
              "routes root route group_wait: 0s -> 30s", "sinks sink \"a\" fallback:  -> b",
              "sinks sink \"a\" leads to: https://a.example.com -> https://other.example.com"});
}

TEST_CASE("compare: a heartbeat that is missing is somebody who is not told", "[run][compare]") {
  const auto with = [](const std::string& more) {
    return load(kPatterns + kSinks + rule("[a]") + kRoute + more);
  };
  const std::string beat = "heartbeat: {url: 'https://hc-ping.com/0ca8c9e4-5f6e-4d6d-8a5f-6a1a1e1c1b1a'}\n";
  const auto plain = with("");
  const auto beating = with(beat);
  CHECK(lines(*beating, *beating).empty());
  CHECK(lines(*beating, *plain) == Lines{"fewer the heartbeat told: https://hc-ping.com each 1m -> nobody"});
  CHECK(lines(*plain, *beating) == Lines{"more the heartbeat told: nobody -> https://hc-ping.com each 1m"});
  CHECK(lines(*beating, *with("heartbeat: {url: 'https://nosnch.in/c2354d53d2'}\n")) ==
        Lines{"proof the heartbeat told: https://hc-ping.com each 1m -> https://nosnch.in each 1m"});
  // Where in it a secret leads to is not told, nor compared.
  CHECK(lines(*beating, *with("heartbeat: {url: 'https://hc-ping.com/another-one-of-theirs'}\n")).empty());
  CHECK(lines(*plain, *with("drills: none\n")) == Lines{"proof drills by themselves: yes -> no",
                                                        "proof drills every: 1d -> ",
                                                        "proof drills pages_every: 1w -> "});
  CHECK(lines(*plain, *with("heartbeats: {payments: {token: 8d1f6c0b6a8e8d1f6c0b6a8e, grace: 5m}}\n")) ==
        Lines{"proof the heartbeat of \"payments\" :  -> there"});
}

TEST_CASE("compare: fingerprints are those of what is done, not of where", "[run][compare]") {
  const auto of = [](const std::string& text) { return fingerprint(*load(text)); };
  const ConfigFingerprint staging = of("environment: staging\n" + kPatterns + kSinks + rule("[a]") + kRoute);
  std::string elsewhere = kSinks;
  elsewhere.replace(elsewhere.find("a.example"), 9, "p.example");
  const ConfigFingerprint production =
      of("environment: production\n" + kPatterns + elsewhere + rule("[a]") + kRoute);
  CHECK(staging.rules == production.rules);
  CHECK(staging.routes == production.routes);
  CHECK(staging.sinks == production.sinks);
  CHECK(staging.rules.size() == 16);
  CHECK(of(kPatterns + kSinks + rule("[a]", ", for: 1m") + kRoute).rules != staging.rules);
  CHECK(of(kPatterns + kSinks + rule("[b]") + kRoute).rules != staging.rules);
  CHECK(of(kPatterns + kSinks + rule("[a]") + "route: {sinks: [b]}\n").routes != staging.routes);
  CHECK(of(kPatterns + kSinks + rule("[a]") + "route: {sinks: [b]}\n").rules == staging.rules);
  std::string fewer = kSinks;
  fewer.erase(fewer.find(", rec:"), fewer.find("}}}") + 2 - fewer.find(", rec:"));
  CHECK(of(kPatterns + fewer + rule("[a]") + kRoute).sinks != staging.sinks);
}

}  // namespace
}  // namespace logbell::engine

// What two configurations would do differently, above all who is told.
#include "engine/run/compare.h"

#include <set>

#include <catch2/catch.hpp>
#include <fmt/format.h>

namespace logbell::engine {
namespace {

using Section = Difference::Section;
using Lines = std::vector<std::string>;
const rules::Timestamp kNow = *rules::parse_rfc3339("2026-11-28T12:00:00Z");  // a Saturday

// `text` completed with what every configuration has.
std::shared_ptr<const Config> load(
    const std::string& text, bool good = true,
    const std::string& sources = "sources: [{name: app, files: [app.log]}]\n") {
  ConfigWorld world;
  world.env = [](const std::string& name) {
    return name == "EMPTY" ? std::optional<std::string>("") : std::optional<std::string>();
  };
  const std::string whole = sources + text;
  world.read_file = [&](const std::string&) { return rules::Result<std::string>(whole); };
  world.glob = [](const std::string&) { return std::vector<std::string>(); };
  world.readable_by_others = [](const std::string&) { return false; };
  world.hostname = "api-7";
  world.now = kNow;
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
  for (const Difference& difference : compare(a, b, kNow)) {
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
  const std::vector<Difference> written = compare(*with("[a]"), *with("[a, rec]"), kNow);
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
  CHECK(lines(*good, *load(kPatterns + kSinks + silent + kRoute)).front() ==
        "fewer rule \"Errors\" told: a (webhook) -> nobody until 2026-12-24: moving house");
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
  CHECK(lines(*to("mails"), *to("orders")).front() ==
        "fewer rule \"Errors\" told: a (webhook), b (webhook) when queue=\"mails\" holds -> a (webhook), b "
        "(webhook) "
        "when queue=\"orders\" holds");
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
        Lines{"more rule \"Errors\" told: a (webhook) -> a (webhook, else b)",
              "more logbell's own alerts told: a (webhook) -> a (webhook, else b)",
              "rules rule \"Errors\" for: 0s -> 1m", "rules rule \"Errors\" labels:  -> severity=critical",
              "patterns pattern \"err\" match: ERROR (?P<queue>\\w+) -> FATAL (?P<queue>\\w+)",
              "routes root route group_wait: 0s -> 30s", "sinks sink \"a\" fallback:  -> b",
              "sinks sink \"a\" leads to: https://a.example.com -> https://other.example.com"});
}

const std::string kMachine =
    "sinks: {a: {webhook: {url: 'https://a.example.com/'}}, b: {webhook: {url: 'https://b.example.com/'}}, "
    "rec: {file: {path: /var/log/rec}, audience: machine}, audit: {file: {path: /var/log/audit}, audience: "
    "machine}}\n";

TEST_CASE("compare: what a machine reads makes up for no person", "[run][compare]") {
  const auto with = [](const std::string& sinks) {
    return load(kPatterns + kMachine + rule(sinks) + kRoute);
  };
  CHECK(lines(*with("[a]"), *with("[rec]")) ==
        Lines{"fewer rule \"Errors\" told: a (webhook) -> no person, only rec (file, read by a machine)"});
  CHECK(lines(*with("[a]"), *with("[rec, audit]")).front().find("fewer rule") == 0);
  CHECK(lines(*with("[a, rec]"), *with("[rec, audit]")).front().find("fewer rule") == 0);
  CHECK(
      lines(*with("[rec]"), *with("[a]")) ==
      Lines{"otherwise rule \"Errors\" told: no person, only rec (file, read by a machine) -> a (webhook)"});
  CHECK(lines(*with("[a, rec]"), *with("[a]")) ==
        Lines{"fewer rule \"Errors\" told: a (webhook), rec (file, read by a machine) -> a (webhook)"});
  CHECK(lines(*with("[a]"), *with("[a, rec]")).front().find("more rule") == 0);
  // On one way only.
  const auto to = [](const std::string& sinks) {
    return load(kPatterns + kMachine + rule("") +
                "route: {sinks: [a], routes: [{matchers: ['queue=\"mails\"'], sinks: [" + sinks + "]}]}\n");
  };
  CHECK(lines(*to("b"), *to("rec")).front() ==
        "fewer rule \"Errors\" told: a (webhook) when queue=\"mails\" does not hold, b (webhook) when "
        "queue=\"mails\" "
        "holds -> a (webhook) when queue=\"mails\" does not hold, rec (file, read by a machine) when "
        "queue=\"mails\" holds, no person when queue=\"mails\" holds");
}

TEST_CASE("compare: way by way, not by how many there are in all", "[run][compare]") {
  const auto with = [](const std::string& routes) {
    return load(kPatterns + kSinks + rule("") + "route: {sinks: [a], routes: [" + routes + "]}\n");
  };
  const std::string mails = "{matchers: ['queue=\"mails\"'], sinks: [a, b]}";
  const std::string all_m = "{matchers: ['queue=~\"m.*\"'], sinks: [a]}";
  // What is caught by an earlier route never comes to the later one.
  const Lines order = lines(*with(mails + ", " + all_m), *with(all_m + ", " + mails));
  REQUIRE(order.size() == 1);
  CHECK(order.front() ==
        "fewer rule \"Errors\" told: a (webhook), b (webhook) when queue=\"mails\" holds -> a (webhook)");
  // The same ways, written differently.
  CHECK(
      lines(*with(mails), *with("{matchers: ['queue=~\"mails\"'], sinks: [b, a]}")).front().find("routes") ==
      0);
  CHECK(lines(*with(mails), *with(mails + ", " + all_m)).front().find("routes") == 0);
  // A way that is split, and loses on one part.
  const Lines split = lines(*with("{matchers: ['queue=~\"mails|orders\"'], sinks: [a, b]}"), *with(mails));
  CHECK(split.front().find("fewer rule \"Errors\"") == 0);
  CHECK(lines(*with(mails), *with("{matchers: ['queue=~\"mails|orders\"'], sinks: [a, b]}"))
            .front()
            .find("more rule") == 0);
  // Sinks of its own are a way of every label.
  const auto own = load(kPatterns + kSinks + rule("[a, b]") + kRoute);
  CHECK(lines(*own, *with(mails)).front().find("fewer rule") == 0);
  CHECK(lines(*with(mails), *own).front().find("more rule") == 0);
}

TEST_CASE("compare: whom the clock silences hears less", "[run][compare]") {
  const auto with = [](const std::string& interval,
                       const std::string& mute = "mute_time_intervals: [quiet]") {
    return load(kPatterns + kSinks + rule("", ", labels: {severity: critical}") +
                "time_intervals: [{name: quiet, time_intervals: [" + interval +
                "]}]\n"
                "route: {sinks: [a], routes: [{matchers: ['severity=\"critical\"'], sinks: [a], " +
                mute + "}]}\n");
  };
  const std::string night = "{times: [{start_time: '22:00', end_time: '24:00'}]}";
  const std::string most = "{times: [{start_time: '00:01', end_time: '24:00'}]}";
  const std::string saturday = "{weekdays: [saturday]}";
  CHECK(lines(*with(night), *with(night)).empty());
  const Lines new_mute =
      lines(*load(kPatterns + kSinks + rule("", ", labels: {severity: critical}") + kRoute), *with(most));
  CHECK(new_mute.front() ==
        "fewer rule \"Errors\" told: a (webhook) -> the same, but nobody at 2026-11-28T00:01:00Z");
  const Lines longer = lines(*with(night), *with(most));
  CHECK(longer.front() ==
        "fewer rule \"Errors\" told: a (webhook) -> the same, but nobody at 2026-11-28T00:01:00Z");
  CHECK(longer.back() ==
        "routes severity=\"critical\" mute_time_intervals: quiet (22:00-24:00) -> quiet (00:01-24:00)");
  CHECK(lines(*with(most), *with(night)).front() ==
        "more rule \"Errors\" told: a (webhook) -> the same, but on other ways, or at other times");
  CHECK(lines(*with(night), *with(saturday)).front().find("fewer rule") == 0);
  CHECK(lines(*with(night), *with(night, "active_time_intervals: [quiet]")).front().find("fewer rule") == 0);
  // Some are left: who, and when.
  const auto also = [&](const std::string& mute) {
    return load(
        kPatterns + kSinks + rule("", ", labels: {severity: critical}") +
        "time_intervals: [{name: quiet, time_intervals: [" + night +
        "]}]\n"
        "route: {sinks: [a], routes: [{matchers: ['severity=\"critical\"'], sinks: [b], continue: true" +
        mute + "}, {matchers: ['queue!=\"x\"'], sinks: [a]}]}\n");
  };
  CHECK(lines(*also(""), *also(", mute_time_intervals: [quiet]")).front() ==
        "fewer rule \"Errors\" told: b (webhook), a (webhook) when queue!=\"x\" holds -> the same, but a "
        "(webhook) "
        "when queue!=\"x\" holds at 2026-11-28T22:00:00Z");
}

TEST_CASE("compare: a fallback that is gone tells fewer", "[run][compare]") {
  const auto with = [](const std::string& a, const std::string& own = "[a]") {
    return load(
        kPatterns + "sinks: {a: {webhook: {url: 'https://a.example.com/'}" + a +
        "}, b: {webhook: {url: 'https://b.example.com/'}}, c: {webhook: {url: 'https://c.example.com/'}}, "
        "rec: {file: {path: /var/log/rec}}}\n" +
        rule(own) + "route: {sinks: [b, c]}\n");
  };
  const Lines gone = lines(*with(", fallback: [b]"), *with(""));
  CHECK(gone.front() == "fewer rule \"Errors\" told: a (webhook, else b) -> a (webhook)");
  CHECK(lines(*with(""), *with(", fallback: [b]")).front() ==
        "more rule \"Errors\" told: a (webhook) -> a (webhook, else b)");
  CHECK(lines(*with(", fallback: [b]"), *with(", fallback: [c]")).front().find("otherwise rule") == 0);
  CHECK(lines(*with(", fallback: [b, c]"), *with(", fallback: [c]")).front().find("fewer rule") == 0);
  CHECK(lines(*with(", fallback: [b]"), *with(", fallback: [rec]")).front().find("fewer rule") == 0);
  // Told anyway.
  CHECK(lines(*with(", fallback: [b]", "[a, b]"), *with("", "[a, b]")).front().find("sinks sink") == 0);
  CHECK(lines(*with(", fallback: [b]"), *with("", "[a, b]")).front().find("more rule") == 0);
  // Told no more once the sink has failed, though another's fallback is still there.
  const auto both = [](const std::string& a, const std::string& c) {
    return load(
        kPatterns + "sinks: {a: {webhook: {url: 'https://a.example.com/'}" + a +
        "}, b: {webhook: {url: 'https://b.example.com/'}}, c: {webhook: {url: 'https://c.example.com/'}" + c +
        "}}\n" + rule("[a, c]") + "route: {sinks: [b]}\n");
  };
  const std::string to_b = ", fallback: [b]";
  CHECK(lines(*both(to_b, to_b), *both("", to_b)).front() ==
        "fewer rule \"Errors\" told: a (webhook, else b), c (webhook, else b) -> a (webhook), c (webhook, "
        "else b)");
}

TEST_CASE("compare: logbell's own alerts are told as well", "[run][compare]") {
  const auto with = [](const std::string& routes) {
    return load(kPatterns + kMachine + rule("[a]") + "route: {sinks: [a], routes: [" + routes + "]}\n");
  };
  const auto plain = with("");
  const Lines lost =
      lines(*plain, *with("{matchers: ['alertname=~\"SinkDead|DrillFailed\"'], sinks: [rec]}"));
  CHECK(lost.front() ==
        "fewer logbell's own DrillFailed and SinkDead told: a (webhook) -> no person, only rec (file, read "
        "by a machine)");
  const Lines more = lines(*plain, *with("{matchers: ['alertname=\"InputSilent\"'], sinks: [a, b]}"));
  CHECK(more.front() == "more logbell's own InputSilent told: a (webhook) -> a (webhook), b (webhook)");
}

TEST_CASE("compare: a secret that is gone is somebody who may not be told", "[run][compare][F51]") {
  const auto with = [](const std::string& more) {
    return load(kPatterns + "sinks: {a: {webhook: {url: 'https://a.example.com/'" + more + "}}}\n" +
                rule("[a]") + kRoute);
  };
  const auto plain = with("");
  const auto signing = with(", secret: '0d8c1f6c0b6a8e8d'");
  CHECK(lines(*signing, *signing).empty());
  CHECK(lines(*signing, *with(", secret: 'another-8d1f6c0b6a8e'")).empty());
  CHECK(lines(*signing, *plain) == Lines{"fewer sink \"a\" secrets: secret, url -> url"});
  CHECK(lines(*plain, *signing) == Lines{"sinks sink \"a\" secrets: url -> secret, url"});
  CHECK(lines(*signing, *with(", bearer_token: '0d8c1f6c0b6a8e8d'")) ==
        Lines{"sinks sink \"a\" secrets: secret, url -> bearer_token, url"});
  const auto beating = [&](const std::string& more) {
    return load(kPatterns + kSinks + rule("[a]") + kRoute +
                "heartbeat: {url: 'https://hc-ping.com/0ca8c9e4-5f6e-4d6d-8a5f-6a1a1e1c1b1a'" + more + "}\n");
  };
  CHECK(lines(*beating(", bearer_token: '0d8c1f6c0b6a8e8d'"), *beating("")) ==
        Lines{"fewer the heartbeat secrets: bearer_token, url -> url"});
}

TEST_CASE("compare: what is watched", "[run][compare]") {
  const auto with = [](const std::string& sources) {
    return load(kPatterns + kSinks + rule("[a]") + kRoute, true, "sources: [" + sources + "]\n");
  };
  const std::string log = "{name: log, files: [/var/log/a.log]}";
  const auto plain = with(log);
  CHECK(lines(*plain, *plain).empty());
  CHECK(lines(*plain, *with("{name: log, files: [/var/log/b.log]}")) ==
        Lines{"sources source \"log\" lines from: /var/log/a.log -> /var/log/b.log"});
  const auto silent = with("{name: log, files: [/var/log/a.log], max_silence: 10m}");
  CHECK(lines(*silent, *plain) == Lines{"fewer source \"log\" max_silence: 10m -> "});
  CHECK(lines(*plain, *silent) == Lines{"more source \"log\" max_silence:  -> 10m"});
  CHECK(lines(*plain, *with("{name: log, files: [/var/log/a.log], uncovered_errors: none}")) ==
        Lines{"fewer source \"log\" uncovered_errors: 10 within 1h -> "});
  const auto two = with(log + ", {name: b, files: [/var/log/b.log]}");
  CHECK(lines(*two, *plain) == Lines{"fewer source \"b\" : there -> "});
  CHECK(lines(*plain, *two) == Lines{"sources source \"b\" :  -> there"});
  CHECK(lines(*plain, *with("{name: log2, files: [/var/log/a.log]}")) ==
        Lines{"sources source \"log\" : there -> ", "sources source \"log2\" :  -> there"});
}

TEST_CASE("compare: `sinks: none` and what the route decides are not the same word", "[run][compare]") {
  const auto routed = load(kPatterns + kSinks + rule("") + kRoute);
  const auto silent =
      load(kPatterns + kSinks + rule("none", ", until: 2027-01-01, reason: 'moving house'") + kRoute);
  const std::vector<Difference> found = compare(*routed, *silent, kNow);
  REQUIRE(found.size() == 2);
  CHECK(found[0].in_b == "nobody until 2027-01-01: moving house");
  CHECK(found[1].what == "sinks");
  CHECK(found[1].in_a == "by the route");
  CHECK(found[1].in_b == "none");
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

TEST_CASE("compare: fingerprints know which secrets there are, the heartbeat, and what a time interval holds",
          "[run][compare][F51]") {
  const auto of = [](const std::string& hook, const std::string& more = "",
                     const std::string& start = "22:00") {
    return fingerprint(*load(
        kPatterns + "sinks: {a: {webhook: {url: 'https://a.example.com/'" + hook + "}}}\n" + rule("") + more +
        "time_intervals: [{name: quiet, time_intervals: [{times: [{start_time: '" + start +
        "', end_time: '23:00'}]}]}]\n"
        "route: {sinks: [a], routes: [{matchers: ['severity=\"info\"'], mute_time_intervals: [quiet]}]}\n"));
  };
  const std::string beat = "heartbeat: {url: 'https://hc-ping.com/0ca8c9e4-5f6e-4d6d-8a5f-6a1a1e1c1b1a'";
  const ConfigFingerprint plain = of("");
  std::set<std::string> sinks;
  for (const ConfigFingerprint& other :
       {plain, of(", secret: '0d8c1f6c0b6a8e8d'"), of(", bearer_token: '0d8c1f6c0b6a8e8d'"),
        of("", beat + "}\n"), of("", beat + ", bearer_token: '0d8c1f6c0b6a8e8d'}\n"),
        of("", beat + ", every: 5m}\n")}) {
    sinks.insert(other.sinks);
    CHECK(other.routes == plain.routes);
    CHECK(other.rules == plain.rules);
  }
  CHECK(sinks.size() == 6);
  CHECK(of(", secret: 'another-one-0b6a8e8d'").sinks == of(", secret: '0d8c1f6c0b6a8e8d'").sinks);
  CHECK(of("", "heartbeat: {url: 'https://hc.example.com/ping/1ca8c9e4-5f6e-4d6d-8a5f-6a1a1e1c1b1a'}\n")
            .sinks == of("", beat + "}\n").sinks);
  CHECK(of("", "", "21:59").routes != plain.routes);
  CHECK(of("", "", "21:59").sinks == plain.sinks);
}

}  // namespace
}  // namespace logbell::engine

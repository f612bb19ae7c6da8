// RuleTests: tests of rules through the decoding, the matching and the core as they are.
#include "engine/run/rule_tests.h"

#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include <catch2/catch.hpp>
#include <fmt/format.h>

using namespace logbell;
using engine::ConfigWorld;
using engine::RuleTests;
using engine::TestCoverage;
using engine::TestFailure;

namespace {

constexpr const char* kNone = "";  // no failures

constexpr const char* kConfig = R"(
environment: staging
instance: host
labels: {service: orders}
sources:
  - {name: app, files: [/var/log/app.log], timestamp: {location: UTC}}
patterns:
  failed: {match: 'ERROR (?P<queue>\w+)', labels: [queue]}
  took: {match: 'took (?P<ms>\d+)ms', value: ms, metric: {name: took_ms, type: histogram, buckets: [10, 100]}}
  came: {match: 'came'}
rules:
  - alert: Failed
    expr: sum by (queue) (count_over_time(failed[1m])) >= 2
    labels: {severity: critical}
    annotations: {summary: '{{ $labels.queue }} failed {{ $value }} times'}
  - alert: Slow
    expr: count_over_time(took[1m]) > 1
    for: 30s
    labels: {severity: warning}
  - alert: Nothing
    expr: count_over_time(came[10m]) == 0
    labels: {severity: warning}
    sinks: [mail]
sinks:
  chat: {slack: {webhook_url_file: /run/secrets/slack}}
  mail: {email: {to: [a@example.com], from: b@example.com, server: 'smtp://mail'}}
route:
  sinks: [chat]
  routes:
    - matchers: [severity="critical"]
      sinks: [chat, mail]
)";

struct World {
  std::map<std::string, std::string> files{{"d/logbell.yaml", kConfig}};

  ConfigWorld get() {
    ConfigWorld world;
    world.env = [](const std::string&) { return std::optional<std::string>(); };
    world.read_file = [this](const std::string& path) -> rules::Result<std::string> {
      ++reads[path];
      const auto found = files.find(path);
      if (found == files.end()) return rules::fail(rules::ErrorCode::kNotFound, "No such file or directory");
      return found->second;
    };
    world.glob = [](const std::string&) { return std::vector<std::string>(); };
    world.readable_by_others = [](const std::string&) { return false; };
    world.hostname = "host";
    world.now = rules::kTestStart;
    return world;
  }
  std::map<std::string, int> reads;
};

std::string said(const rules::Problems& problems) {
  std::string out;
  for (const rules::Problem& problem : problems.sorted())
    out += problem.format() + "\n";
  return out;
}

// Every failure: its place, what it is about, and both sides.
std::string format(const std::vector<TestFailure>& failures) {
  std::string out;
  for (const TestFailure& failure : failures) {
    out += fmt::format("{}: {}\n", failure.place.line, failure.what);
    for (const std::string& line : failure.expected)
      out += "- " + line + "\n";
    for (const std::string& line : failure.got)
      out += "+ " + line + "\n";
    for (const std::string& note : failure.notes)
      out += "(" + note + ")\n";
  }
  return out;
}

// What one test says of itself; its first line is line 3 of the file.
std::string run(World& world, const std::string& test) {
  world.files["d/t.yaml"] = "config: logbell.yaml\ntests:\n" + test;
  RuleTests tests(world.get());
  rules::Problems problems;
  const auto loaded = tests.load("d/t.yaml", problems);
  if (!loaded) return said(problems);
  std::string out;
  for (const rules::RuleTest& one : loaded->file.tests)
    out += format(RuleTests::run(*loaded, one));
  return out;
}
std::string run(const std::string& test) {
  World world;
  return run(world, test);
}

TEST_CASE("rule_tests: what is as expected is no failure", "[run][rule_tests]") {
  CHECK(run(R"(
- input: [{every: 10s, lines: [ERROR a, ERROR b, ERROR a]}]
  alert_rule_test:
    - {eval_time: 19s, alertname: Failed, exp_alerts: []}
    - eval_time: 20s
      alertname: Failed
      exp_alerts: [{exp_labels: {queue: a, severity: critical}, exp_annotations: {summary: a failed 2 times}}]
    - {eval_time: 59s, alertname: Failed, exp_alerts: [{}]}
    - {eval_time: 60s, alertname: Failed, exp_alerts: []}
  exp_notifications:
    - {eval_time: 19s, alertname: Failed, sinks: []}
    - {eval_time: 20s, alertname: Failed, sinks: [chat, mail], text: [a failed 2 times, ERROR a]}
    - {eval_time: 20s, alertname: Failed, sink: chat}
    - {eval_time: 59s, alertname: Failed, sinks: [], status: resolved}
    - {eval_time: 60s, alertname: Failed, sinks: [chat, mail], status: resolved}
  exp_metrics:
    - {eval_time: 0s, name: logbell_pattern_matches_total, labels: {pattern: failed, queue: a}, value: 1}
    - {eval_time: 20s, name: logbell_pattern_matches_total, labels: {pattern: failed, queue: a}, value: 2}
    - {eval_time: 20s, name: logbell_source_lines_total, labels: {source: app}, value: 3}
    - {eval_time: 20s, name: took_ms_count, value: 0}
)") == kNone);
}

TEST_CASE("rule_tests: what is otherwise is shown beside what was expected", "[run][rule_tests]") {
  CHECK(run(R"(
- input: [{every: 10s, lines: [ERROR a, ERROR b, ERROR a]}]
  alert_rule_test:
    - {eval_time: 20s, alertname: Failed, exp_alerts: []}
    - {eval_time: 20s, alertname: Slow, exp_alerts: [{exp_labels: {severity: warning}}]}
    - eval_time: 20s
      alertname: Failed
      exp_alerts: [{exp_labels: {queue: a, severity: critical}, exp_annotations: {summary: b failed 2 times}}]
)") == R"(6: Failed firing at 20s
+ {queue="a", severity="critical"}
(d/logbell.yaml:12:5: sum by (queue) (count_over_time(failed[1m])) >= 2)
(pattern failed has matched 3 lines)
(what it rests on is not known in full: its windows have been watched for 20s of 1m; `watched_for:` says since when the logs are watched)
7: Slow firing at 20s
- {severity="warning"}
(d/logbell.yaml:16:5: count_over_time(took[1m]) > 1)
(pattern took has matched nothing)
8: Failed firing at 20s
- {queue="a", severity="critical"}
-   summary: b failed 2 times
+ {queue="a", severity="critical"}
+   summary: a failed 2 times
(d/logbell.yaml:12:5: sum by (queue) (count_over_time(failed[1m])) >= 2)
(pattern failed has matched 3 lines)
(what it rests on is not known in full: its windows have been watched for 20s of 1m; `watched_for:` says since when the logs are watched)
)");
}

TEST_CASE("rule_tests: each alert is expected once, whichever the order", "[run][rule_tests]") {
  const std::string input =
      "- input: [{every: 0s, lines: [{2x: ERROR a}, {2x: ERROR b}]}]\n  alert_rule_test:\n";
  const auto with = [&](const std::string& alerts) {
    return run(input + "  - {eval_time: 0s, alertname: Failed, exp_alerts: [" + alerts + "]}\n");
  };
  const std::string a = "{exp_labels: {queue: a, severity: critical}}";
  const std::string b = "{exp_labels: {queue: b, severity: critical}}";
  const std::string a_by_text = "{exp_annotations: {summary: a failed 2 times}}";
  CHECK(with(a + ", " + b) == kNone);
  CHECK(with(b + ", " + a) == kNone);
  CHECK(with("{}, " + a) == kNone);
  CHECK(with("{}, " + a_by_text) == kNone);
  CHECK(with(a_by_text + ", " + b) == kNone);
  CHECK(with("{}, {}") == kNone);
  CHECK(with(a) != kNone);
  CHECK(with(a + ", " + a) != kNone);
  CHECK(with(a_by_text + ", " + a) != kNone);
  CHECK(with("{}, {}, {}") != kNone);
  CHECK(with("{exp_labels: {}}, {}") != kNone);
}

TEST_CASE("rule_tests: the configuration's own labels count where a test names them", "[run][rule_tests]") {
  const auto with = [&](const std::string& labels) {
    return run(
        "- input: [{every: 0s, lines: [{2x: ERROR a}]}]\n  alert_rule_test:\n"
        "  - {eval_time: 0s, alertname: Failed, exp_alerts: [{exp_labels: {" +
        labels + "}}]}\n");
  };
  CHECK(with("queue: a, severity: critical") == kNone);
  CHECK(with("queue: a, severity: critical, alertname: Failed") == kNone);
  CHECK(with("queue: a, severity: critical, environment: staging, service: orders, instance: host") == kNone);
  CHECK(with("queue: a, severity: critical, environment: production") != kNone);
  CHECK(with("queue: a") != kNone);
}

TEST_CASE("rule_tests: pending, and a `for` to the millisecond", "[run][rule_tests]") {
  CHECK(run(R"(
- input: [{every: 20s, lines: [{10x: took 5ms}]}]
  alert_rule_test:
    - {eval_time: 19s, alertname: Slow, exp_alerts: [], exp_pending: []}
    - {eval_time: 20s, alertname: Slow, exp_alerts: [], exp_pending: [{exp_labels: {severity: warning}}]}
    - {eval_time: 49s999ms, alertname: Slow, exp_alerts: [], exp_pending: [{}]}
    - {eval_time: 50s, alertname: Slow, exp_alerts: [{}], exp_pending: []}
)") == kNone);
  CHECK(run(R"(
- input: [{lines: [{3x: took 5ms}]}]
  alert_rule_test:
    - {eval_time: 2s, alertname: Slow, exp_alerts: [{}]}
    - {eval_time: 2s, alertname: Slow, exp_pending: []}
)") == R"(6: Slow firing at 2s
- {any labels}
(d/logbell.yaml:16:5: count_over_time(took[1m]) > 1)
(pattern took has matched 3 lines)
({severity="warning"} is pending since 1s)
7: Slow pending at 2s
+ {severity="warning"}
(d/logbell.yaml:16:5: count_over_time(took[1m]) > 1)
(pattern took has matched 3 lines)
(what it rests on is not known in full: its windows have been watched for 2s of 1m; `watched_for:` says since when the logs are watched)
({severity="warning"} is pending since 1s)
)");
}

TEST_CASE("rule_tests: absence is known once it was watched for so long", "[run][rule_tests]") {
  CHECK(run(R"(
- alert_rule_test:
    - {eval_time: 9m59s999ms, alertname: Nothing, exp_alerts: []}
    - {eval_time: 10m, alertname: Nothing, exp_alerts: [{}]}
  exp_notifications: [{eval_time: 10m, alertname: Nothing, sinks: [mail]}]
- input: [{lines: [{at: 1m, line: came}]}]
  alert_rule_test:
    - {eval_time: 10m59s999ms, alertname: Nothing, exp_alerts: []}
    - {eval_time: 11m, alertname: Nothing, exp_alerts: [{}]}
- watched_for: 1h
  input: [{lines: [{at: 1m, line: came}]}]
  alert_rule_test:
    - {eval_time: 0s, alertname: Nothing, exp_alerts: [{}]}
    - {eval_time: 1m, alertname: Nothing, exp_alerts: []}
)") == kNone);
  CHECK(run("- alert_rule_test: [{eval_time: 5m, alertname: Nothing, exp_alerts: [{}]}]\n")
            .find("(what it rests on is not known in full: its windows have been watched for 5m of 10m; "
                  "`watched_for:` says since when the logs are watched)") != std::string::npos);
}

TEST_CASE("rule_tests: who is told, and with which words", "[run][rule_tests]") {
  CHECK(run(R"(
- input: [{every: 0s, lines: [{2x: ERROR a}]}]
  exp_notifications:
    - {eval_time: 1s, alertname: Failed, sinks: [chat]}
    - {eval_time: 1s, alertname: Failed, sinks: []}
    - {eval_time: 1s, alertname: Nothing, sink: mail}
    - {eval_time: 1s, alertname: Failed, sinks: [chat, mail], status: resolved}
)") == R"(6: Failed firing told by 1s
- to chat
+ to chat
+ to mail
(d/logbell.yaml:12:5: sum by (queue) (count_over_time(failed[1m])) >= 2)
(pattern failed has matched 2 lines)
(what it rests on is not known in full: its windows have been watched for 1s of 1m; `watched_for:` says since when the logs are watched)
7: Failed firing told by 1s
+ to chat
+ to mail
(d/logbell.yaml:12:5: sum by (queue) (count_over_time(failed[1m])) >= 2)
(pattern failed has matched 2 lines)
(what it rests on is not known in full: its windows have been watched for 1s of 1m; `watched_for:` says since when the logs are watched)
8: Nothing firing told by 1s
- to mail
(d/logbell.yaml:20:5: count_over_time(came[10m]) == 0)
(pattern came has matched nothing)
(what it rests on is not known in full: its windows have been watched for 1s of 10m; `watched_for:` says since when the logs are watched)
9: Failed resolved told by 1s
- to chat
- to mail
(d/logbell.yaml:12:5: sum by (queue) (count_over_time(failed[1m])) >= 2)
(pattern failed has matched 2 lines)
)");
  const std::string missing = run(R"(
- input: [{every: 0s, lines: [{2x: ERROR a}]}]
  exp_notifications: [{eval_time: 1s, alertname: Failed, sinks: [chat, mail], text: a failed 3 times}]
)");
  CHECK(missing.find("5: Failed firing told by 1s, to chat\n- a failed 3 times\n+ ") == 0);
  CHECK(missing.find("5: Failed firing told by 1s, to mail\n- a failed 3 times\n+ ") != std::string::npos);
  CHECK(missing.find("+ a failed 2 times\n") != std::string::npos);
}

TEST_CASE("rule_tests: what is counted", "[run][rule_tests]") {
  CHECK(run(R"(
- input: [{lines: [took 5ms, took 50ms, ERROR a]}]
  exp_metrics:
    - {eval_time: 1s, name: took_ms_bucket, labels: {le: '10'}, value: 1}
    - {eval_time: 1s, name: took_ms_sum, value: 55}
    - {eval_time: 1s, name: took_ms_sum, value: 56}
    - {eval_time: 2s, name: logbell_alerts, labels: {alertname: Failed, alertstate: firing}, value: 0}
    - {eval_time: 2s, name: logbell_pattern_matches_total, labels: {pattern: failed}, value: 1}
    - {eval_time: 2s, name: took_ms_sun, value: 1}
)") == R"(8: metric took_ms_sum at 1s
- took_ms_sum 56
+ took_ms_sum 55
10: metric logbell_pattern_matches_total at 2s
- logbell_pattern_matches_total{pattern="failed"} 1
+ logbell_pattern_matches_total{pattern="failed", queue="a"} 1
+ logbell_pattern_matches_total{pattern="took"} 2
+ logbell_pattern_matches_total{pattern="came"} 0
11: metric took_ms_sun at 2s
- took_ms_sun 1
(there is no metric took_ms_sun at this moment; did you mean "took_ms_sum"?)
)");
}

TEST_CASE("rule_tests: lines of a file keep their distances, or their times", "[run][rule_tests]") {
  World world;
  // Two days old, out of order once; the third says no time.
  world.files["d/logs/old.log"] =
      "2025-12-30T10:00:00Z ERROR a\n2025-12-30T10:00:20Z INFO\nno time came\n2025-12-30T10:00:10Z ERROR "
      "a\r\n";
  CHECK(run(world, R"(
- input: [{lines: [{at: 1m, file: logs/old.log}]}]
  alert_rule_test:
    - {eval_time: 1m19s, alertname: Failed, exp_alerts: []}
    - {eval_time: 1m20s, alertname: Failed, exp_alerts: [{}]}
    - {eval_time: 1m59s, alertname: Failed, exp_alerts: [{}]}
    - {eval_time: 2m, alertname: Failed, exp_alerts: []}
  exp_metrics:
    - {eval_time: 1m19s, name: logbell_pattern_matches_total, labels: {pattern: came}, value: 0}
    - {eval_time: 1m20s, name: logbell_pattern_matches_total, labels: {pattern: came}, value: 1}
- start: 2025-12-30T09:59:00Z
  input: [{lines: [{file: logs/old.log}]}]
  alert_rule_test:
    - {eval_time: 1m19s, alertname: Failed, exp_alerts: []}
    - {eval_time: 1m20s, alertname: Failed, exp_alerts: [{}]}
    - {eval_time: 2m, alertname: Failed, exp_alerts: []}
)") == kNone);
  // The second was written after the first and says an earlier time: it comes with the first, and leaves
  // before it.
  world.files["d/late.log"] = "2025-12-30T10:00:20Z ERROR a\n2025-12-30T10:00:00Z ERROR a\n";
  CHECK(run(world, R"(
- input: [{lines: [{at: 1m, file: late.log}]}]
  alert_rule_test:
    - {eval_time: 59s, alertname: Failed, exp_alerts: []}
    - {eval_time: 1m, alertname: Failed, exp_alerts: [{}]}
    - {eval_time: 1m39s999ms, alertname: Failed, exp_alerts: [{}]}
    - {eval_time: 1m40s, alertname: Failed, exp_alerts: []}
)") == kNone);
  CHECK(run(world,
            "- input: [{lines: [{file: logs/old.log}]}]\n  alert_rule_test: [{eval_time: 1s, alertname: "
            "Failed, "
            "exp_alerts: []}]\n") ==
        "d/t.yaml:3:20: test \"test 1\": line 1 of logs/old.log is at 2025-12-30T10:00:00Z, and the test "
        "begins at "
        "2026-01-01T00:00:00Z; say `start:`, or with `at:` when its first line comes\n");
  CHECK(run(world,
            "- input: [{lines: [{file: new.log}]}]\n  alert_rule_test: [{eval_time: 1s, alertname: Failed, "
            "exp_alerts: []}]\n") ==
        "d/t.yaml:3:20: test \"test 1\": read d/new.log: No such file or directory; a path is relative to "
        "the test file\n");
  world.files["d/plain.log"] = "ERROR a\nERROR a\n";
  CHECK(run(world,
            "- input: [{lines: [{file: plain.log}]}]\n  alert_rule_test: [{eval_time: 1s, alertname: Failed, "
            "exp_alerts: []}]\n") ==
        "d/t.yaml:3:20: test \"test 1\": no line of plain.log says a time; say with `at:` when they come\n");
  CHECK(run(world,
            "- input: [{lines: [{at: 5s, file: plain.log}]}]\n  alert_rule_test:\n"
            "  - {eval_time: 4s, alertname: Failed, exp_alerts: []}\n"
            "  - {eval_time: 5s, alertname: Failed, exp_alerts: [{}]}\n") == kNone);
}

TEST_CASE("rule_tests: formats and stack traces are decoded as in a running process", "[run][rule_tests]") {
  World world;
  world.files["d/logbell.yaml"] = R"(
environment: staging
sources:
  - {name: trace, files: [/var/log/a.log], multiline: java}
  - {name: pod, files: [/var/log/pods/*/*/*.log], format: cri, inner: json}
  - {name: docker, files: [/var/lib/docker/a.log], format: docker}
patterns:
  thrown: {source: trace, match: '(?s)IllegalState.*Caused by: (?P<cause>\w+)', labels: [cause]}
  pod_error: {source: pod, where: {level: error, stream: stderr}, labels: [pod]}
  docker_error: {source: docker, match: '^boom$'}
rules:
  - {alert: Thrown, expr: 'sum by (cause) (count_over_time(thrown[1m])) >= 1'}
  - {alert: PodError, expr: 'sum by (pod) (count_over_time(pod_error[1m])) >= 1'}
  - {alert: DockerError, expr: 'count_over_time(docker_error[1m]) >= 1'}
sinks: {chat: {slack: {webhook_url_file: /run/secrets/slack}}}
route: {sinks: [chat]}
)";
  world.files["d/old.log"] =
      "{\"log\":\"fine\\n\",\"stream\":\"stdout\",\"time\":\"2025-01-01T00:00:00Z\"}\n"
      "{\"log\":\"boom\\n\",\"stream\":\"stdout\",\"time\":\"2025-01-01T00:00:30Z\"}\n";
  CHECK(run(world, R"(
- name: a trace counts at its first line, once it has ended or nothing more comes
  input:
  - source: trace
    lines:
    - line: |
        ERROR in orders
        java.lang.IllegalStateException: no
        	at com.example.Main(Main.java:1)
        Caused by: Broken: pipe
        	at com.example.Pipe(Pipe.java:1)
  alert_rule_test:
  - {eval_time: 999ms, alertname: Thrown, exp_alerts: []}
  - {eval_time: 1s, alertname: Thrown, exp_alerts: [{exp_labels: {cause: Broken}}]}
  - {eval_time: 59s999ms, alertname: Thrown, exp_alerts: [{}]}
  - {eval_time: 60s, alertname: Thrown, exp_alerts: []}
- name: and also where the next line ends it
  input:
  - source: trace
    every: 900ms
    lines: ["java.lang.IllegalStateException: no\nCaused by: Broken: pipe", the next one]
  alert_rule_test:
  - {eval_time: 1s, alertname: Thrown, exp_alerts: [{}]}
  - {eval_time: 59s999ms, alertname: Thrown, exp_alerts: [{}]}
  - {eval_time: 60s, alertname: Thrown, exp_alerts: []}
- name: a container's lines, with what their path says
  input:
  - source: pod
    path: /var/log/pods/shop_api-7_6b0f3f0e-8a0c-4d3e-9c39-1d2b3c4d5e6f/api/0.log
    lines:
    - '2026-01-01T00:00:00Z stdout F {"level": "error"}'
    - '2026-01-01T00:00:01Z stderr P {"level": '
    - '2026-01-01T00:00:01Z stderr F "error"}'
  alert_rule_test:
  - {eval_time: 1s, alertname: PodError, exp_alerts: []}
  - {eval_time: 2s, alertname: PodError, exp_alerts: [{exp_labels: {pod: api-7}}]}
  exp_metrics: [{eval_time: 2s, name: logbell_source_lines_total, labels: {source: pod}, value: 2}]
- name: docker's own times, kept apart as in the file
  input: [{source: docker, lines: [{at: 1m, file: old.log}]}]
  alert_rule_test:
  - {eval_time: 1m29s, alertname: DockerError, exp_alerts: []}
  - {eval_time: 1m30s, alertname: DockerError, exp_alerts: [{}]}
)") == kNone);
}

TEST_CASE("rule_tests: an alert that resolve_when holds is told apart from one that should end",
          "[run][rule_tests]") {
  World world;
  world.files["d/hysteresis.yaml"] = R"(sources: [{name: app, files: [/var/log/app.log]}]
patterns: {failed: {match: ERROR}}
rules:
  - {alert: Many, expr: 'count_over_time(failed[1m]) >= 3', resolve_when: 'count_over_time(failed[1m]) < 1', sinks: ops}
sinks: {ops: {webhook: {url: 'https://hooks.example.com/x'}}}
)";
  world.files["d/t.yaml"] = R"(config: hysteresis.yaml
tests:
- input: [{every: 10s, lines: [{4x: ERROR}]}]
  watched_for: 1h
  alert_rule_test:
  - {eval_time: 19s, alertname: Many, exp_alerts: []}
  - {eval_time: 20s, alertname: Many, exp_alerts: [{}]}
  - {eval_time: 1m29s, alertname: Many, exp_alerts: [{}]}
  - {eval_time: 1m30s, alertname: Many, exp_alerts: []}
- input: [{every: 10s, lines: [{4x: ERROR}]}]
  alert_rule_test: [{eval_time: 1m25s, alertname: Many, exp_alerts: []}]
)";
  RuleTests tests(world.get());
  rules::Problems problems;
  const auto loaded = tests.load("d/t.yaml", problems);
  INFO(said(problems));
  REQUIRE(loaded);
  CHECK(format(RuleTests::run(*loaded, loaded->file.tests[0])) == kNone);
  CHECK(format(RuleTests::run(*loaded, loaded->file.tests[1]))
            .find("it ends only when `resolve_when:` holds for it: count_over_time(failed[1m]) < 1") !=
        std::string::npos);
  std::vector<std::string> seen;
  for (const TestCoverage::Comparison& one : tests.coverage().at("d/hysteresis.yaml")->rules().at(0).comparisons)
    seen.push_back(fmt::format("{} {} {}", one.text, one.seen_true, one.seen_false));
  CHECK(seen == std::vector<std::string>{"count_over_time(failed[1m]) >= 3 true true",
                                         "count_over_time(failed[1m]) < 1 true true"});
}

TEST_CASE("rule_tests: what no test has seen", "[run][rule_tests]") {
  World world;
  world.files["d/t.yaml"] = R"(config: logbell.yaml
tests:
- input: [{every: 0s, lines: [{2x: ERROR a}, came]}]
  alert_rule_test: [{eval_time: 1s, alertname: Failed, exp_alerts: [{}]}]
  exp_notifications: [{eval_time: 1s, alertname: Nothing, sinks: []}]
)";
  RuleTests tests(world.get());
  rules::Problems problems;
  const auto loaded = tests.load("d/t.yaml", problems);
  REQUIRE(loaded);
  CHECK(RuleTests::run(*loaded, loaded->file.tests[0]).empty());
  const auto seen = [&] {
    std::string out;
    for (const TestCoverage::Rule& rule : tests.coverage().at("d/logbell.yaml")->rules()) {
      out += fmt::format("{} {}", rule.name, rule.fired);
      for (const TestCoverage::Comparison& one : rule.comparisons)
        out += fmt::format(" [{}] {} {}", one.text, one.seen_true, one.seen_false);
      out += "\n";
    }
    return out;
  };
  CHECK(seen() ==
        "Failed true [sum by (queue) (count_over_time(failed[1m])) >= 2] true false\n"
        "Slow false [count_over_time(took[1m]) > 1] false false\n"
        "Nothing false [count_over_time(came[10m]) == 0] false true\n");
  // Another file of the same configuration adds to it; the configuration is not loaded again.
  world.files["d/u.yaml"] = R"(config: ./logbell.yaml
tests:
- input: [{every: 0s, lines: [{2x: ERROR a}, ERROR b, {30x: took 1ms, every: 1s}]}]
  alert_rule_test: [{eval_time: 0s, alertname: Failed, exp_alerts: [{}]}]
- input: [{every: 1s, lines: [{40x: took 1ms}]}]
  alert_rule_test: [{eval_time: 40s, alertname: Slow, exp_alerts: [{}]}]
)";
  const auto more = tests.load("d/u.yaml", problems);
  REQUIRE(more);
  for (const rules::RuleTest& test : more->file.tests)
    CHECK(format(RuleTests::run(*more, test)) == kNone);
  CHECK(world.reads["d/logbell.yaml"] == 1);
  CHECK(seen() ==
        "Failed true [sum by (queue) (count_over_time(failed[1m])) >= 2] true true\n"
        "Slow true [count_over_time(took[1m]) > 1] true false\n"
        "Nothing false [count_over_time(came[10m]) == 0] false true\n");
}

TEST_CASE("rule_tests: a configuration that is refused is said once, at each test file that names it",
          "[run][rule_tests]") {
  World world;
  world.files["d/logbell.yaml"] = "rules: [{alert: A, match: b}]\n";
  world.files["d/t.yaml"] = world.files["d/u.yaml"] = "config: logbell.yaml\ntests: [{}]\n";
  RuleTests tests(world.get());
  rules::Problems problems;
  CHECK_FALSE(tests.load("d/t.yaml", problems));
  CHECK(said(problems).find("d/logbell.yaml:1:") != std::string::npos);
  CHECK(said(problems).find(
            "d/t.yaml:1:9: the configuration d/logbell.yaml is refused; `logbell check` says more\n") !=
        std::string::npos);
  rules::Problems again;
  CHECK_FALSE(tests.load("d/u.yaml", again));
  CHECK(said(again) ==
        "d/u.yaml:1:9: the configuration d/logbell.yaml is refused; `logbell check` says more\n");
  rules::Problems absent;
  CHECK_FALSE(tests.load("d/v.yaml", absent));
  CHECK(said(absent) == "d/v.yaml: No such file or directory\n");
}

TEST_CASE("rule_tests: the manual's tests are of the manual's configuration, and pass", "[run][rule_tests]") {
  std::ifstream in(std::string(LOGBELL_SOURCE_DIR) + "/rules/README.md");
  const std::string manual{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  std::size_t at = manual.find("## Tests of rules\n");
  REQUIRE(at != std::string::npos);
  const auto block = [&] {
    const std::size_t from = manual.find("```yaml\n", at) + 8;
    const std::size_t to = manual.find("```\n", from);
    at = to + 4;
    return manual.substr(from, to - from);
  };
  World world;
  world.files["d/logbell.yaml"] = block();
  world.files["d/t.yaml"] = block();
  RuleTests tests(world.get());
  rules::Problems problems;
  const auto loaded = tests.load("d/t.yaml", problems);
  CHECK(said(problems) == kNone);
  REQUIRE(loaded);
  REQUIRE(loaded->file.tests.size() == 2);
  for (const rules::RuleTest& test : loaded->file.tests)
    CHECK(format(RuleTests::run(*loaded, test)) == kNone);
}

}  // namespace

// Test files: what is read of them, and every mistake with its place and its fix.
#include "rules/test_file.h"

#include <string>

#include <catch2/catch.hpp>

using namespace logbell::rules;
using namespace std::chrono_literals;

namespace {

// Two rules, two sinks, one source or two.
Plan plan_of(std::size_t sources = 1) {
  Plan plan;
  for (const char* name : {"Boom", "Quiet"}) {
    AlertingRule rule;
    rule.name = name;
    plan.rules.push_back(std::move(rule));
  }
  for (const char* name : {"ops-slack", "oncall"})
    plan.sinks[name].name = name;
  for (const char* name : {"api", "nginx"}) {
    if (plan.sources.size() < sources) plan.sources.emplace_back().name = name;
  }
  return plan;
}

struct Read {
  TestFile file;
  std::string problems;
};

Read read(const std::string& text, const Plan& plan = plan_of()) {
  Problems problems;
  Read out;
  if (const auto root = yaml::parse("t.yaml", text, problems))
    out.file = read_test_file(*root, plan, problems);
  for (const Problem& problem : problems.sorted())
    out.problems += problem.format() + "\n";
  return out;
}

// One test that expects something, with this in it.
std::string with(const std::string& more) {
  return "config: logbell.yaml\ntests:\n- name: one\n" + more +
         "  exp_metrics: [{eval_time: 1m, name: a_total, value: 1}]\n";
}

TEST_CASE("test_file: what a test says is read, and what it leaves out has its default",
          "[rules][test_file]") {
  const Read whole = read(R"(
config: logbell.yaml
tests:
  - input:
      - lines: ['a']
    alert_rule_test: [{eval_time: 5m, alertname: Boom, exp_alerts: []}]
  - name: all of it
    start: 2026-05-01T12:00:00+02:00
    watched_for: 7d
    input:
      - {source: api, path: /var/log/pods/a_b_c/d/0.log, lines: []}
    alert_rule_test:
      - eval_time: 1m30s
        alertname: Quiet
        exp_alerts:
          - exp_labels: {alertname: Quiet, queue: a}
            exp_annotations: {summary: s, about: b}
          - {}
        exp_pending: []
    exp_notifications:
      - {eval_time: 2m, alertname: Boom, status: resolved, sinks: [oncall, ops-slack], text: [a, b]}
      - {eval_time: 3m, alertname: InputSilent, sink: oncall, text: one}
    exp_metrics:
      - {eval_time: 4m, name: a_total, labels: {queue: '1'}, value: 2.5}
)");
  CHECK(whole.problems.empty());
  REQUIRE(whole.file.tests.size() == 2);
  const RuleTest& least = whole.file.tests[0];
  CHECK(least.name == "test 1");
  CHECK(least.start == kTestStart);
  CHECK(format_rfc3339(least.start) == "2026-01-01T00:00:00Z");
  CHECK(least.watched_for == 0s);
  CHECK(least.end() == 5min);
  REQUIRE(least.alerts[0].firing);
  CHECK(least.alerts[0].firing->empty());
  CHECK_FALSE(least.alerts[0].pending);
  const RuleTest& test = whole.file.tests[1];
  CHECK(test.name == "all of it");
  CHECK(test.place == Place{"t.yaml", 7, 5});
  CHECK(format_rfc3339(test.start) == "2026-05-01T10:00:00Z");
  CHECK(test.watched_for == 24h * 7);
  CHECK(test.end() == 4min);
  CHECK(test.input[0].path == "/var/log/pods/a_b_c/d/0.log");
  const AlertRuleTest& alerts = test.alerts[0];
  CHECK(alerts.place == Place{"t.yaml", 13, 9});
  CHECK(alerts.eval_time == 90s);
  REQUIRE(alerts.firing);
  REQUIRE(alerts.firing->size() == 2);
  CHECK(*alerts.firing->at(0).labels == Labels{{"queue", "a"}});
  CHECK(*alerts.firing->at(0).annotations ==
        std::vector<std::pair<std::string, std::string>>{{"about", "b"}, {"summary", "s"}});
  CHECK_FALSE(alerts.firing->at(1).labels);
  CHECK_FALSE(alerts.firing->at(1).annotations);
  CHECK(alerts.pending->empty());
  CHECK(test.notifications[0].resolved);
  CHECK(test.notifications[0].exactly);
  CHECK(test.notifications[0].sinks == std::vector<std::string>{"oncall", "ops-slack"});
  CHECK(test.notifications[0].text == std::vector<std::string>{"a", "b"});
  CHECK_FALSE(test.notifications[1].resolved);
  CHECK_FALSE(test.notifications[1].exactly);
  CHECK(test.notifications[1].sinks == std::vector<std::string>{"oncall"});
  CHECK(test.notifications[1].text == std::vector<std::string>{"one"});
  CHECK(test.metrics[0].labels == Labels{{"queue", "1"}});
  CHECK(test.metrics[0].value == 2.5);
}

TEST_CASE("test_file: lines follow one another, or say when they come", "[rules][test_file]") {
  const Read lines = read(with(R"(  input:
  - at: 1m
    every: 10s
    lines:
    - first
    - 3x 'said thrice'
    - 2x: '{"msg": "twice"}'
    - {at: 5m, line: later}
    - {at: 6m, line: own, repeat: 3, every: 1m}
    - then
    - {3x: quick, every: 0s}
    - {at: 20m, file: old.log}
    - {file: new.log}
    - "5x ''"
    - "5x a"
    - ${HOME} and 5x
    - "two\nlines\n"
)"));
  CHECK(lines.problems.empty());
  const std::vector<TestLine>& got = lines.file.tests[0].input[0].lines;
  REQUIRE(got.size() == 13);
  const auto is = [](const TestLine& line, const std::string& text, Duration at, std::uint32_t repeat,
                     Duration every) {
    CAPTURE(text);
    CHECK(line.line == text);
    CHECK(line.at == at);
    CHECK(line.repeat == repeat);
    CHECK(line.every == every);
  };
  is(got[0], "first", 60s, 1, 10s);
  is(got[1], "said thrice", 70s, 3, 10s);
  is(got[2], "{\"msg\": \"twice\"}", 100s, 2, 10s);
  is(got[3], "later", 5min, 1, 10s);
  is(got[4], "own", 6min, 3, 1min);
  is(got[5], "then", 9min, 1, 10s);
  is(got[6], "quick", 9min + 10s, 3, 0s);
  CHECK(got[7].file == "old.log");
  CHECK(got[7].at == 20min);
  CHECK(got[8].file == "new.log");
  CHECK_FALSE(got[8].at);
  is(got[9], "", 20min + 10s, 5, 10s);
  is(got[10], "5x a", 21min, 1, 10s);
  is(got[11], "${HOME} and 5x", 21min + 10s, 1, 10s);
  is(got[12], "two\nlines", 21min + 20s, 1, 10s);
}

TEST_CASE("test_file: 5x and a quoted line", "[rules][test_file]") {
  using Repeated = std::pair<std::uint32_t, std::string>;
  CHECK(read_repeated_line("5x 'a line'") == Repeated(5, "a line"));
  CHECK(read_repeated_line("12x \"it's\"") == Repeated(12, "it's"));
  for (const char* other : {"", "5x", "5x ", "5x a", "5x '", "5x 'a", "5x a'", "5x 'a\"", "0x 'a'", "-5x 'a'",
                            "x 'a'", "5 x 'a'", "5y 'a'", " 5x 'a'", "1000001x 'a'", "99999999999x 'a'"}) {
    CAPTURE(other);
    CHECK_FALSE(read_repeated_line(other));
  }
}

TEST_CASE("test_file: every mistake has its place, its reason and its fix", "[rules][test_file]") {
  const auto [what, text, said] = GENERATE(table<std::string, std::string, std::string>({
      {"nothing is tested", "config: a\n",
       "t.yaml:1:1: there are no tests; write at least one under `tests:`\n"},
      {"an empty list", "config: a\ntests: []\n",
       "t.yaml:2:8: there are no tests; write at least one under `tests:`\n"},
      {"a misspelt key", "config: a\ntest: []\n",
       "t.yaml:1:1: there are no tests; write at least one under `tests:`\n"
       "t.yaml:2:1: unknown key \"test\"; did you mean \"tests\"?\n"},
      {"promtool's keys",
       "config: a\nrule_files: [b]\ntests:\n- {input_series: [], alert_rule_test: "
       "[{eval_time: 1s, alertname: Boom, exp_alerts: []}]}\n",
       "t.yaml:2:1: rules are tested with their patterns, sources and sinks; write `config: logbell.yaml`\n"
       "t.yaml:4:4: test \"test 1\": a test is made of lines; write `input:` with a list of `lines:`\n"},
      {"two of one name",
       "config: a\ntests:\n- {name: one, alert_rule_test: [{eval_time: 1s, alertname: Boom, exp_alerts: []}]}\n"
       "- {name: one, alert_rule_test: [{eval_time: 2s, alertname: Boom, exp_alerts: []}]}\n",
       "t.yaml:4:3: a test named \"one\" stands at t.yaml:3:3 already; give it another name: a failure is called by it\n"},
      {"nothing is expected", "config: a\ntests:\n- name: one\n  input: []\n",
       "t.yaml:3:3: test \"one\": it expects nothing, so it can never fail; say what must be so, with "
       "`alert_rule_test:`, `exp_notifications:` or `exp_metrics:`\n"},
      {"an alert of which nothing is expected",
       "config: a\ntests:\n- alert_rule_test: [{eval_time: 1s, alertname: Boom}]\n",
       "t.yaml:3:21: test \"test 1\": it expects nothing; write `exp_alerts: []` where none must fire\n"},
      {"a rule that is not there",
       "config: a\ntests:\n- alert_rule_test: [{eval_time: 1s, alertname: Bom, exp_alerts: []}]\n",
       "t.yaml:3:48: test \"test 1\": there is no rule \"Bom\"; did you mean \"Boom\"?\n"},
      {"no moment", "config: a\ntests:\n- alert_rule_test: [{alertname: Boom, exp_alerts: []}]\n",
       "t.yaml:3:21: test \"test 1\": \"eval_time\" is missing; as in 5m: since the test's start\n"},
      {"a moment that is none",
       with("  alert_rule_test: [{eval_time: soon, alertname: Boom, exp_alerts: []}]\n"),
       "t.yaml:4:33: test \"one\": \"soon\" is not a duration: a number is missing before the unit; as in "
       "250ms, 30s, 5m, 1h30m, 2d\n"},
      {"a moment too far away",
       with("  alert_rule_test: [{eval_time: 2y, alertname: Boom, exp_alerts: []}]\n"),
       "t.yaml:4:33: test \"one\": a test lasts at most 400d\n"},
      {"a start that is none", with("  start: noon\n"),
       "t.yaml:4:10: test \"one\": \"noon\" is not an RFC 3339 time; as in 2026-01-01T09:00:00Z\n"},
      {"a sink that is not there",
       with("  exp_notifications: [{eval_time: 1m, alertname: Boom, sinks: [ops-slac]}]\n"),
       "t.yaml:4:64: test \"one\": there is no sink \"ops-slac\"; did you mean \"ops-slack\"?\n"},
      {"a sink twice",
       with("  exp_notifications: [{eval_time: 1m, alertname: Boom, sinks: [oncall, oncall]}]\n"),
       "t.yaml:4:72: test \"one\": sink \"oncall\" stands twice; remove one of them\n"},
      {"nobody is named", with("  exp_notifications: [{eval_time: 1m, alertname: Boom}]\n"),
       "t.yaml:4:23: test \"one\": who is told is not said; write `sinks:` for all who are told, [] for "
       "nobody, or "
       "`sink:` for one of them\n"},
      {"nobody says nothing",
       with("  exp_notifications: [{eval_time: 1m, alertname: Boom, sinks: [], text: a}]\n"),
       "t.yaml:4:73: test \"one\": nobody is told, so nothing is said; remove it\n"},
      {"neither firing nor resolved",
       with("  exp_notifications: [{eval_time: 1m, alertname: Boom, sinks: [], status: fired}]\n"),
       "t.yaml:4:75: test \"one\": \"status\" cannot be \"fired\"; it is one of firing and resolved\n"},
      {"time goes back", with("  input:\n  - lines:\n    - {at: 2m, line: a}\n    - {at: 1m, line: b}\n"),
       "t.yaml:7:7: test \"one\": time goes back: this is at 1m, the line before it at 2m; write it earlier, "
       "or in "
       "another entry of `input:`\n"},
      {"time goes back behind a repeated line",
       with("  input:\n  - lines:\n    - {5x: a, every: 1m}\n    - {at: 1m, line: b}\n"),
       "t.yaml:7:7: test \"one\": time goes back: this is at 1m, the line before it at 4m; write it earlier, "
       "or in "
       "another entry of `input:`\n"},
      {"two ways to say a line", with("  input:\n  - lines: [{line: a, file: b}]\n"),
       "t.yaml:5:13: test \"one\": more than one line is in it; write one of `line:`, `5x:` (how often it "
       "comes) and "
       "`file:`\n"},
      {"no line", with("  input:\n  - lines: [{at: 1m}]\n"),
       "t.yaml:5:13: test \"one\": no line is in it; write one of `line:`, `5x:` (how often it comes) and "
       "`file:`\n"},
      {"a source that is not there", with("  input: [{source: apii, lines: []}]\n"),
       "t.yaml:4:20: test \"one\": there is no source \"apii\"; did you mean \"api\"?\n"},
      {"lines without end", with("  input: [{lines: [{line: a, repeat: 1000000}, {line: b, every: 0s}]}]\n"),
       "t.yaml:4:48: test \"one\": more than 1000000 lines in one test; say less of them\n"},
      {"lines beyond a test's end", with("  input: [{lines: [{line: a, repeat: 500, every: 1d}]}]\n"),
       "t.yaml:4:20: test \"one\": a test lasts at most 400d\n"},
      {"a label's name that is none",
       with("  alert_rule_test: [{eval_time: 1s, alertname: Boom, exp_alerts: [{exp_labels: {a-b: c}}]}]\n"),
       "t.yaml:4:80: test \"one\": \"a-b\" is not a label's name\n"},
      {"a metric without its value", "config: a\ntests:\n- exp_metrics: [{eval_time: 1m, name: a_total}]\n",
       "t.yaml:3:17: test \"test 1\": \"value\" is missing; the number that it must be\n"},
  }));
  INFO(what);
  CHECK(read(text).problems == said);
}

TEST_CASE("test_file: with several sources each input says whose it is", "[rules][test_file]") {
  CHECK(read(with("  input: [{lines: [a]}]\n"), plan_of(2)).problems ==
        "t.yaml:4:11: test \"one\": whose lines these are is not said; write `source:` with one of api and "
        "nginx\n");
  const Read good = read(with("  input: [{source: nginx, lines: [a]}]\n"), plan_of(2));
  CHECK(good.problems.empty());
  CHECK(good.file.tests[0].input[0].source == 1);
}

TEST_CASE("test_file: the configuration is named", "[rules][test_file]") {
  Problems problems;
  CHECK(test_file_config(*yaml::parse("t.yaml", "config: ../logbell.yaml\n", problems), problems) ==
        "../logbell.yaml");
  CHECK_FALSE(problems.has_errors());
  CHECK_FALSE(test_file_config(*yaml::parse("t.yaml", "tests: []\n", problems), problems));
  CHECK(problems.sorted().at(0).format() ==
        "t.yaml:1:1: \"config\" is missing; the configuration that is tested, as in `config: logbell.yaml`");
}

}  // namespace

// RuleReader, Fields and the route: what is read, and where what is wrong is said to stand.
#include "rules/rule_file.h"

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "rules/fields.h"
#include "rules/reach.h"
#include "rules/route_file.h"
#include "rules/yaml.h"

using namespace logbell::rules;

namespace {

// A YAML text with what it takes to read it.
struct Read {
  explicit Read(const std::string& text, std::map<std::string, std::string> env = {})
      : variables(std::move(env)) {
    reading.env = [this](const std::string& name) -> std::optional<std::string> {
      const auto found = variables.find(name);
      return found == variables.end() ? std::nullopt : std::optional(found->second);
    };
    reading.problems = &problems;
    reading.texts["f.yaml"] = text;
    const auto parsed = yaml::parse("f.yaml", text, problems);
    REQUIRE(parsed);
    root = *parsed;
  }

  std::string said() const {
    std::string out;
    for (const Problem& problem : problems.sorted())
      out += problem.format() + "\n";
    return out;
  }

  std::map<std::string, std::string> variables;
  Problems problems;
  Reading reading;
  yaml::Node root;
};

RuleSurroundings around() {
  RuleSurroundings surroundings;
  surroundings.sources = {{"api", LineFormat::kText}, {"events", LineFormat::kJson}};
  surroundings.sinks = {"ops"};
  surroundings.external_labels = Labels{{"environment", "production"}};
  surroundings.now = *parse_rfc3339("2026-05-01T12:00:00Z");
  return surroundings;
}

RuleSet rules_of(Read& read) {
  RuleReader reader(read.reading, around());
  if (const yaml::Node* patterns = read.root.find("patterns")) reader.patterns(*patterns);
  if (const yaml::Node* rules = read.root.find("rules")) reader.rules(*rules);
  return reader.finish();
}

}  // namespace

TEST_CASE("fields: a byte of a text is found in its file, however the text is written", "[rules][fields]") {
  // Each text holds one X; its place is the row's.
  const struct {
    const char* why;
    std::string yaml;
    int line;
    int col;
  } rows[] = {
      {"plain", "key: abXc\n", 1, 8},
      {"in single quotes", "key: 'abXc'\n", 1, 9},
      {"behind a doubled quote", "key: 'it''s Xc'\n", 1, 13},
      {"in double quotes, behind escapes", R"(key: "a\tb\\\"X")", 1, 15},
      {"behind a letter of two bytes", "key: 'ü X'\n", 1, 10},
      {"in a block", "key: |\n  one\n  two X\n", 3, 7},
      {"in a block with deeper lines", "key: |\n  one\n    X\n", 3, 5},
      {"in a block behind an empty line", "key: |\n  one\n\n  X\n", 4, 3},
      {"in a block that begins with an empty line", "key: |\n\n  one X\n", 3, 7},
      {"in a folded block", "key: >\n  one\n  two X\n", 3, 7},
      {"in a plain text of two lines", "key: one\n  two X\n", 2, 7},
      {"in quotes over two lines", "key: 'one\n  two X'\n", 2, 7},
      {"in quotes over an empty line", "key: 'one\n\n  two X'\n", 3, 7},
      {"behind an anchor", "key: &a abXc\n", 1, 11},
      {"inside brackets", "key: {a: 1, b: [abXc]}\n", 1, 19},
      {"behind another line", "a: 1\nkey: abXc\n", 2, 8},
      {"with Windows' line ends", "a: 1\r\nkey: |\r\n  one\r\n  two X\r\n", 4, 7},
  };
  for (const auto& row : rows) {
    INFO(row.why);
    Read read(row.yaml);
    const yaml::Node* node = read.root.find("key");
    while (!node->is_scalar())
      node = node->is_map() ? node->find("b") : &node->items.at(0);
    const Text text{node->scalar, node->place, node, false, false};
    const Place place = read.reading.place_in(text, node->scalar.find('X'));
    CHECK(place.line == row.line);
    CHECK(place.col == row.col);
  }
}

TEST_CASE("fields: what cannot be found in the file stands where its text begins", "[rules][fields]") {
  Read read("key: \"a\\x41\\u00e4X\"\nvar: '${A}X'\n", {{"A", "longer than it was"}});
  const yaml::Node* odd = read.root.find("key");
  const Text text{odd->scalar, odd->place, odd, false, false};
  CHECK(read.reading.place_in(text, odd->scalar.find('X')) == odd->place);
  CHECK(read.reading.place_in(text, std::string::npos) == odd->place);
  const auto filled = read.reading.fill_in(*read.root.find("var"), "");
  REQUIRE(filled);
  CHECK(filled->filled_in);
  CHECK(read.reading.place_in(*filled, filled->value.find('X')) == filled->place);
}

TEST_CASE("fields: variables are filled in, and only what is written as one is one", "[rules][fields]") {
  const struct {
    const char* why;
    std::string text;
    std::string value;  // "!" = refused
  } rows[] = {
      {"a variable", "a ${A} b", "a 1 b"},
      {"two", "${A}${B}", "1two"},
      {"a default that is not needed", "${A:-x}", "1"},
      {"a default for one that is not set", "${C:-x y}", "x y"},
      {"a default for one that is empty", "${E:-x}", "x"},
      {"an empty default", "[${C:-}]", "[]"},
      {"a reason that is not needed", "${A:?why}", "1"},
      {"a literal", "$${A} $$ $A ^a$", "${A} $$ $A ^a$"},
      {"a value is not read again", "${N}", "${A}"},
      {"not set", "${C}", "!"},
      {"empty", "${E}", "!"},
      {"not set, and why", "${C:?ask}", "!"},
      {"never closed", "${A", "!"},
      {"no name", "${}", "!"},
      {"a shell's own", "${A%x}", "!"},
  };
  for (const auto& row : rows) {
    INFO(row.why);
    Read read("key: '" + row.text + "'\n", {{"A", "1"}, {"B", "two"}, {"E", ""}, {"N", "${A}"}});
    const auto text = read.reading.fill_in(*read.root.find("key"), "");
    CHECK(text.has_value() == (row.value != "!"));
    CHECK(read.problems.has_errors() == (row.value == "!"));
    if (text) CHECK(text->value == row.value);
  }
}

TEST_CASE("fields: sizes and words", "[rules][fields]") {
  Read read("{a: 64KiB, b: 1MiB, c: 300, d: 1GB, e: -1, f: 99999999999999999999, g: jsno, h: 17MiB}");
  KeyTable table{"t", "", {}};
  constexpr std::int64_t kMost = 16 * 1024 * 1024;
  for (const char* key : {"a", "b", "c", "d", "e", "f", "h", "absent"})
    table.keys.push_back({key, "", {Shape::bytes(256, kMost)}});
  table.keys.push_back({"g", "", {Shape::word({"text", "json"})}});
  const Fields fields(read.root, "", read.reading, table);
  CHECK(fields.bytes("a") == 65536);
  CHECK(fields.bytes("b") == 1024 * 1024);
  CHECK(fields.bytes("c") == 300);
  CHECK(read.problems.all().empty());
  for (const char* key : {"d", "e", "f", "h"})
    CHECK_FALSE(fields.bytes(key));
  CHECK(read.problems.errors() == 4);
  CHECK_FALSE(fields.word("g"));
  CHECK(read.said().find("did you mean \"json\"?") != std::string::npos);
  CHECK_FALSE(fields.bytes("absent"));
}

TEST_CASE("rule_file: a pattern has every field", "[rules][rule_file]") {
  Read read(R"(
patterns:
  order:
    match: ['accepted (?P<id>\d+)', 'rejected (?P<id>\d+)']
    exclude: test
    where:
      type: order
      state: {not: [draft, open]}
      kind: {match: '^(?P<class>\w)'}
      trace: {not: {match: '^0+$'}}
      code: {equals: [1, 2]}
    labels: [id, class, partner]
    value: amount
    source: events
    expect: {id: [1, 2], class: a, partner: [x]}
    max_series: 7
    metric: {name: orders, help: Orders, type: histogram, buckets: [1, 2.5]}
    examples: ['{"m": "accepted 5", "type": "order", "kind": "big", "code": 1}']
)");
  const RuleSet set = rules_of(read);
  INFO(read.said());
  REQUIRE(read.problems.all().empty());
  const PatternSpec& pattern = set.patterns.at(0);
  CHECK(pattern.match.size() == 2);
  CHECK(pattern.exclude.size() == 1);
  REQUIRE(pattern.where.size() == 5);
  CHECK(pattern.where[0].equals == std::vector<std::string>{"order"});
  CHECK(pattern.where[1].negated);
  CHECK(pattern.where[1].equals == std::vector<std::string>{"draft", "open"});
  CHECK(pattern.where[2].match);
  CHECK_FALSE(pattern.where[2].negated);
  CHECK(pattern.where[3].match);
  CHECK(pattern.where[3].negated);
  CHECK(pattern.where[4].equals == std::vector<std::string>{"1", "2"});
  CHECK(pattern.labels == std::vector<std::string>{"class", "id", "partner"});
  CHECK(pattern.value == "amount");
  CHECK(pattern.sources == std::vector<std::string>{"events"});
  CHECK(pattern.expect.size() == 2);
  CHECK(pattern.expect[1] == Labels{{"id", "2"}, {"class", "a"}, {"partner", "x"}});
  CHECK(pattern.max_series == 7);
  CHECK(pattern.metric->buckets == std::vector<double>{1, 2.5});
  CHECK(pattern.metric->type == MetricSpec::Type::kHistogram);
  CHECK_FALSE(pattern.metric->ttl);
}

TEST_CASE("rule_file: a metric's series may live for a time of their own", "[rules][rule_file]") {
  const auto with = [](const std::string& ttl) {
    return "patterns: {p: {match: '(?P<a>.)', labels: [a], metric: {name: p_total, ttl: " + ttl + "}}}\n";
  };
  Read read(with("1h30m"));
  CHECK(rules_of(read).patterns[0].metric->ttl == std::chrono::minutes(90));
  for (const char* bad : {"0s", "soon", "-1h"}) {
    INFO(bad);
    Read none(with(bad));
    rules_of(none);
    CHECK(none.problems.errors() == 1);
  }
}

TEST_CASE("rule_file: what `where` cannot say is refused", "[rules][rule_file]") {
  for (const char* where :
       {"{a: }", "{a: []}", "{a: {}}", "{a: {not: }}", "{a: {match: x, not: y}}", "{a: {like: x}}",
        "{a: {not: {not: x}}}", "{a: [[x]]}", "{a: {not: {match: '('}}}", "{}", "[a]", "x"}) {
    INFO(where);
    Read read(std::string("patterns: {p: {source: events, match: x, where: ") + where + "}}\n");
    rules_of(read);
    CHECK(read.problems.has_errors());
  }
}

TEST_CASE("rule_file: the labels of the route come from the rule, its expression and the process",
          "[rules][rule_file]") {
  Read read(R"(
patterns: {p: {match: '(?P<a>.)(?P<b>.)(?P<c>.)', labels: [a, b, c]}}
rules:
  - alert: X
    expr: sum by (a, b, c) (count_over_time(p{a="1"}[1m])) > 0
    labels: {b: fixed, d: '{{ $labels.c }}', environment: mine}
)");
  const RuleSet set = rules_of(read);
  INFO(read.said());
  REQUIRE(set.complete.at(0));
  const LabelSpace space =
      label_space(set.rules[0], set.patterns, Labels{{"environment", "x"}, {"c", "y"}, {"e", "z"}});
  CHECK(space.fixed ==
        Labels{{"a", "1"}, {"alertname", "X"}, {"b", "fixed"}, {"environment", "mine"}, {"e", "z"}});
  std::vector<std::string> from_logs = space.from_logs;
  std::sort(from_logs.begin(), from_logs.end());
  CHECK(from_logs == std::vector<std::string>{"c", "d"});
}

TEST_CASE("rule_file: a rule's hours are of its location", "[rules][rule_file]") {
  Read read(R"(
groups:
  - name: one
    rules:
      - {alert: A, match: x, sinks: ops}
      - {alert: B, match: x, sinks: ops, location: Europe/Berlin}
      - {alert: C, match: x, sinks: ops, location: Europe/Bielefeld}
)");
  RuleReader reader(read.reading, around());
  reader.rule_file(read.root);
  const RuleSet set = reader.finish();
  REQUIRE(set.rules.size() == 3);
  CHECK(set.rules[0].location.empty());
  CHECK(set.rules[1].location == "Europe/Berlin");
  CHECK(read.problems.errors() == 1);
  CHECK(read.said().find("there is no time zone \"Europe/Bielefeld\" on this machine") != std::string::npos);
  AlertingRule same = set.rules[0];
  CHECK(same.identity() == set.rules[0].identity());
  same.location = "Europe/Berlin";
  CHECK(same.identity() != set.rules[0].identity());
}

TEST_CASE("rule_file: a location of a rule that asks for no hours is warned of", "[rules][rule_file]") {
  const auto said = [](const std::string& keys) {
    Read read("patterns: {p: {match: x}}\nrules:\n  - {alert: A, sinks: ops, location: Europe/Berlin, " +
              keys + "}\n");
    rules_of(read);
    return read.said();
  };
  const std::string warning = "f.yaml:3:38: warning: rule \"A\": `location:` does nothing here: ";
  const std::string fix =
      " no hour() or other part of the date; remove it, or ask for one, as in … and on () hour() >= 9 < 18\n";
  CHECK(said("expr: 'count_over_time(p[1m]) > 3'") == warning + "`expr:` asks for" + fix);
  // Of time() there is no zone.
  CHECK(said("expr: 'count_over_time(p[1m]) > 3 and on () vector(time()) > 3'") ==
        warning + "`expr:` asks for" + fix);
  CHECK(said("match: x") == warning + "the rule asks for" + fix);
  CHECK(said("expr: 'count_over_time(p[1m]) > 3', resolve_when: 'count_over_time(p[1m]) < 1'") ==
        warning + "`expr:` and `resolve_when:` ask for" + fix);
  CHECK(said("expr: 'count_over_time(p[1m]) > 3 and on () day_of_week() > 5'").empty());
  CHECK(said("expr: 'count_over_time(p[1m]) > 3 and on () minute(vector(time() - 3600)) > 5'").empty());
  CHECK(said("expr: 'm_of_n(count_over_time(p[1m]) > scalar(hour()), 2, 3, 1m)'").empty());
  CHECK(said("match: x, resolve_when: 'count_over_time(p[1m]) < 1 and on () hour() == 6'").empty());
  // What is wrong otherwise is told alone.
  CHECK(said("expr: 'count_over_time(p[1m])'").find("location") == std::string::npos);
  CHECK(said("match: x, resolve_when: 'count_over_time(q[1m]) < 1'").find("location") == std::string::npos);
}

TEST_CASE("rule_file: resolve_when says when an alert ends, of which the labels must tell", "[rules][rule_file]") {
  const std::string patterns =
      "patterns: {p: {match: '(?P<a>.)(?P<b>.)', labels: [a, b]}, q: {match: x, source: events}}\nrules:\n";
  const auto rule = [](const std::string& text) {
    return "  - {alert: A, expr: 'sum by (a) (count_over_time(p[1m])) > 3', sinks: ops, " + text + "}\n";
  };
  {
    Read read(patterns + rule("resolve_when: 'sum by (a) (count_over_time(p[10m])) < 1'") +
              rule("labels: {n: '2'}, resolve_when: 'count_over_time(q[5m]) > 0'") + rule("labels: {n: '2'}"));
    const RuleSet set = rules_of(read);
    INFO(read.said());
    REQUIRE_FALSE(read.problems.has_errors());
    REQUIRE(set.rules[0].resolve_when);
    CHECK(set.rules[0].resolve_when->text == "sum by (a) (count_over_time(p[10m])) < 1");
    CHECK(set.rules[0].resolve_when->labels == std::vector<std::string>{"a"});
    CHECK(set.rules[0].resolve_when->polarity.absence);
    CHECK_FALSE(set.rules[0].resolve_when->polarity.presence);
    CHECK(longest_window(set.rules[0]) == std::chrono::minutes(10));
    CHECK(range_calls(set.rules[0]).size() == 2);
    CHECK(set.rules[1].resolve_when->labels.empty());
    // Another end is another rule, and what ends it is read too.
    CHECK(set.rules[1].identity() != set.rules[2].identity());
    CHECK(set.rules[1].sources == std::vector<std::uint32_t>{0, 1});
  }
  {
    Read read(patterns + "  - {alert: Out, match: x, sinks: ops, resolve_when: 'count_over_time(Out[10m]) == 0'}\n");
    const RuleSet set = rules_of(read);
    INFO(read.said());
    REQUIRE_FALSE(read.problems.has_errors());
    CHECK(set.rules[0].resolve_when->text == "count_over_time(Out[10m]) == 0");
    CHECK(set.rules[0].keep_firing_for == Duration{0});
  }
  const struct {
    const char* resolve_when;
    const char* said;
  } rows[] = {
      {"count_over_time(p[1m]) < 1", "has the label b, which its alerts do not have"},
      {"sum by (a) (count_over_time(p[1m])) > 5", "is true only while `expr:` is: no alert would ever end"},
      {"sum by (a) (count_over_time(p[1m])) > 3", "is true only while `expr:` is: no alert would ever end"},
      {"sum(count_over_time(p[1m])) < 0", "can never be true"},
      {"sum(count_over_time(p[1m]))", "so it would end alerts all the time"},
      {"scalar(sum(count_over_time(p[1m])))", "only series end alerts"},
      {"sum(count_over_time(r[1m])) < 1", "there is no pattern `r`"},
      {"sum(count_over_time(B[1m])) < 1", "there is no pattern `B`"},
      {"sum(", "resolve_when"},
  };
  for (const auto& row : rows) {
    INFO(row.resolve_when);
    Read read(patterns + rule(std::string("resolve_when: '") + row.resolve_when + "'") +
              "  - {alert: B, match: x, sinks: ops}\n");
    rules_of(read);
    INFO(read.said());
    CHECK(read.problems.errors() == 1);
    CHECK(read.said().find(row.said) != std::string::npos);
  }
  // Of the short form's patterns only the rule's own has a name.
  Read read(patterns + "  - {alert: B, match: x, sinks: ops}\n"
                       "  - {alert: C, match: y, sinks: ops, resolve_when: 'count_over_time(B[1m]) > 0'}\n");
  rules_of(read);
  CHECK(read.said().find("names `B`, which is another rule's") != std::string::npos);
}

TEST_CASE("rule_file: a rule file has Prometheus's layout", "[rules][rule_file]") {
  Read read(R"(
groups:
  - name: one
    rules:
      - {alert: A, match: x, for: 1m, keep_firing_for: 0s, threshold: 4, window: 90s, sinks: ops}
  - name: two
    rules: []
)");
  RuleReader reader(read.reading, around());
  reader.rule_file(read.root);
  const RuleSet set = reader.finish();
  INFO(read.said());
  REQUIRE(read.problems.all().empty());
  REQUIRE(set.rules.size() == 1);
  CHECK(set.rules[0].group == "one");
  CHECK(set.rules[0].place == Place{"f.yaml", 5, 9});
  CHECK(set.rules[0].expr_text == "count_over_time(A[1m30s]) >= 4");
  CHECK(set.rules[0].for_ == std::chrono::minutes(1));
  CHECK(set.rules[0].keep_firing_for == Duration{0});
  CHECK(set.rules[0].sinks == std::vector<std::string>{"ops"});
}

TEST_CASE("rule_file: a pattern that is refused does not make its rules look wrong too",
          "[rules][rule_file]") {
  Read read(R"(
patterns: {p: {match: '(?P<a>.', labels: [a]}}
rules: [{alert: X, expr: 'sum by (a) (count_over_time(p[1m])) > 0'}]
)");
  const RuleSet set = rules_of(read);
  CHECK(read.problems.errors() == 1);
  CHECK(set.complete.at(0));
}

TEST_CASE("route_file: time intervals are Alertmanager's", "[rules][route_file]") {
  Read read(R"(
- name: i
  time_intervals:
    - times: [{start_time: '09:00', end_time: '17:30'}, {start_time: '22:00', end_time: '24:00'}]
      weekdays: ['monday:friday', Sunday]
      days_of_month: ['1:5', '-3:-1', '15', '10:-1']
      months: ['january:march', '5', december]
      years: ['2026:2028', 2030]
      location: Europe/Berlin
)");
  const TimeIntervals intervals = read_time_intervals(read.root, read.reading);
  INFO(read.said());
  REQUIRE(intervals.by_name.count("i") == 1);
  const TimeIntervalEntry& entry = intervals.by_name.at("i").entries.at(0);
  using Ranges = std::vector<std::pair<int, int>>;
  CHECK(entry.minutes == Ranges{{540, 1050}, {1320, 1440}});
  CHECK(entry.weekdays == Ranges{{1, 5}, {0, 0}});
  CHECK(entry.days_of_month == Ranges{{1, 5}, {-3, -1}, {15, 15}, {10, -1}});
  CHECK(entry.months == Ranges{{1, 3}, {5, 5}, {12, 12}});
  CHECK(entry.years == Ranges{{2026, 2028}, {2030, 2030}});
  CHECK(entry.location == "Europe/Berlin");
}

TEST_CASE("route_file: a route that is silent at every hour is told from one that is silent at night",
          "[rules][route_file]") {
  const Timestamp now = *parse_rfc3339("2026-05-01T12:00:00Z");
  const struct {
    const char* why;
    const char* intervals;
    bool active;
    bool always;
  } rows[] = {
      {"nights", "[{times: [{start_time: '00:00', end_time: '06:00'}]}]", false, false},
      {"one minute is left",
       "[{times: [{start_time: '00:00', end_time: '13:07'}, {start_time: '13:08', end_time: '24:00'}], "
       "location: America/St_Johns}]",
       false, false},
      {"the whole day", "[{times: [{start_time: '00:00', end_time: '24:00'}]}]", false, true},
      {"every weekday there is", "[{weekdays: ['sunday:saturday']}]", false, true},
      {"only last year", "[{years: ['2025']}]", false, false},
      {"active only last year", "[{years: ['2025']}]", true, true},
      {"active on Mondays", "[{weekdays: [monday]}]", true, false},
      {"active on a day that is not", "[{days_of_month: ['31'], months: [february]}]", true, true},
      {"active on one day of the coming year", "[{days_of_month: ['29'], months: [april], years: ['2027']}]",
       true, false},
  };
  for (const auto& row : rows) {
    INFO(row.why);
    Read read(std::string("- {name: i, time_intervals: ") + row.intervals + "}\n");
    const TimeIntervals intervals = read_time_intervals(read.root, read.reading);
    INFO(read.said());
    REQUIRE(intervals.by_name.size() == 1);
    RouteOptions options;
    (row.active ? options.active_time_intervals : options.mute_time_intervals) = {"i"};
    CHECK(is_always_muted(options, intervals.by_name, now) == row.always);
  }
}

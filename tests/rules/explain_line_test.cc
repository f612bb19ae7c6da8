// Why a pattern matches a line, or does not.
#include "rules/explain_line.h"

#include <cmath>

#include <catch2/catch.hpp>

using namespace logbell::rules;

namespace {

PatternSpec spec_of(const std::vector<std::string>& match, const std::vector<std::string>& exclude = {}) {
  PatternSpec spec;
  spec.name = "p";
  for (const std::string& text : match)
    spec.match.push_back(*Regex::compile(text));
  for (const std::string& text : exclude)
    spec.exclude.push_back(*Regex::compile(text));
  return spec;
}

FieldTest test_of(const std::string& field, std::vector<std::string> equals, bool negated = false) {
  FieldTest test;
  test.field = field;
  test.equals = std::move(equals);
  test.negated = negated;
  return test;
}

PatternVerdict explain(const PatternSpec& spec, std::string_view line,
                       LineFormat format = LineFormat::kText) {
  return PatternExplainer(spec, format).explain(line);
}

}  // namespace

TEST_CASE("explain line: what matches, with its captures and their places", "[rules][explain_line]") {
  PatternSpec spec = spec_of({"never", R"(queue (?P<queue>\w+)( of (?P<owner>\w+))? took (?P<took>\S+))"});
  spec.labels = {"queue"};
  spec.value = "took";
  const PatternVerdict verdict = explain(spec, "ERROR queue orders took 12ms.");
  REQUIRE(verdict.matches);
  CHECK(verdict.which == 1);
  CHECK((verdict.from == 6 && verdict.to == 29));
  REQUIRE(verdict.captures.size() == 2);  // one takes no part
  CHECK((verdict.captures[0].name == "queue" && verdict.captures[0].text == "orders" &&
         verdict.captures[0].offset == 12));
  CHECK((verdict.captures[1].name == "took" && verdict.captures[1].text == "12ms." &&
         verdict.captures[1].offset == 24));
  CHECK(verdict.labels == Labels{{"queue", "orders"}});
  REQUIRE(verdict.value);
  CHECK(std::isnan(*verdict.value));
}

TEST_CASE("explain line: the first condition that does not hold, as the matcher asks them",
          "[rules][explain_line]") {
  struct Row {
    std::string says;
    PatternSpec spec;
    std::string line;
    LineFormat format;
    std::string reason;
  };
  PatternSpec fields = spec_of({});
  fields.where = {test_of("level", {"ERROR", "FATAL"}), test_of("queue", {"orders"})};
  PatternSpec negated = spec_of({});
  negated.where = {test_of("level", {"DEBUG"}, true)};
  PatternSpec regex = spec_of({});
  regex.where = {test_of("msg", {})};
  regex.where[0].match = *Regex::compile("queue (?P<q>\\w+) gone");
  const Row rows[] = {
      {"a regex", spec_of({"ERROR: no queue"}), "ERROR: no route", LineFormat::kText,
       "`match:` matches up to `ERROR: no `; then `queue` is expected at column 11, where the line has "
       "`route`"},
      {"at the line's end", spec_of({"no queue$"}), "no que", LineFormat::kText,
       "`match:` matches up to `no que`; then `ue$` is expected at column 7, where the line ends"},
      {"anywhere behind", spec_of({"ERROR.*queue"}), "ERROR no route", LineFormat::kText,
       "`match:` matches up to `ERROR` (to column 5), but `queue` does not stand anywhere behind it"},
      {"its beginning", spec_of({"^ERROR no queue"}), "FATAL no queue", LineFormat::kText,
       "`match:` matches from ` no queue` at column 6 on, but `^ERROR` does not stand right before it"},
      {"nothing", spec_of({"zzz"}), "abc", LineFormat::kText, "`match:` nothing like `zzz` is in the line"},
      {"exclude", spec_of({"ERROR"}, {"other", "kno?wn"}), "ERROR known to us", LineFormat::kText,
       "`exclude: kno?wn` rules it out: it matches `known`"},
      {"the first test", fields, R"({"level": "INFO", "queue": "orders"})", LineFormat::kJson,
       "`where:` wants one of ERROR and FATAL in `level`, and it is `INFO`"},
      {"the second", fields, R"({"level": "ERROR", "queu": "orders"})", LineFormat::kJson,
       "`where:` wants orders in `queue`, and the line has no such field; did you mean \"queu\"?"},
      {"no such format", fields, "level=ERROR", LineFormat::kJson,
       "`where:` asks for `level`, and the line has no fields: it is no JSON"},
      {"what must not be", negated, "level=DEBUG", LineFormat::kLogfmt,
       "`where:` wants anything but DEBUG in `level`, and it is `DEBUG`"},
      {"a field's regex", regex, "msg=\"queue orders lost\"", LineFormat::kLogfmt,
       "`where:` wants a match of `queue (?P<q>\\w+) gone` in `msg`, and it is `queue orders lost` (it "
       "matches up to `queue (?P<q>\\w+) `)"},
  };
  for (const Row& row : rows) {
    INFO(row.says);
    REQUIRE_FALSE(matches_line(row.spec, row.format, row.line));
    const PatternVerdict verdict = explain(row.spec, row.line, row.format);
    CHECK_FALSE(verdict.matches);
    CHECK(verdict.reason == row.reason);
    CHECK(verdict.nearness < 1);
  }
}

TEST_CASE("explain line: what failed last is nearer than what failed first", "[rules][explain_line]") {
  CHECK(explain(spec_of({"ERROR no queue"}), "ERROR no que").nearness >
        explain(spec_of({"ERROR no queue"}), "ERROR").nearness);
  CHECK(explain(spec_of({"ERROR"}, {"x"}), "ERROR x").nearness >
        explain(spec_of({"ERROR no"}), "ERROR n").nearness);
  PatternSpec spec = spec_of({"ERROR"});
  spec.where = {test_of("a", {"1"}), test_of("b", {"1"})};
  CHECK(explain(spec, "ERROR a=1 b=2", LineFormat::kLogfmt).nearness >
        explain(spec, "ERROR a=2 b=2", LineFormat::kLogfmt).nearness);
  CHECK(PatternExplainer(spec_of({"no queue"}), LineFormat::kText).likeness("ERROR no que") > 0.5);
  CHECK(PatternExplainer(spec_of({"no queue"}), LineFormat::kText).likeness("INFO all is well") == 0);
}

TEST_CASE("explain line: what an envelope says is a field, too", "[rules][explain_line]") {
  Facts facts;
  facts.set("stream", "stdout");
  PatternSpec spec = spec_of({"boom"});
  spec.where = {test_of("stream", {"stderr"})};
  spec.labels = {"stream"};
  const PatternVerdict verdict = PatternExplainer(spec, LineFormat::kText).explain("boom", &facts);
  CHECK(verdict.reason == "`where:` wants stderr in `stream`, and it is `stdout`");
  spec.where[0].equals = {"stdout"};
  CHECK(PatternExplainer(spec, LineFormat::kText).explain("boom", &facts).labels ==
        Labels{{"stream", "stdout"}});
  CHECK(fields_of(LineFormat::kLogfmt, "a=1", &facts, Envelope::kCri) ==
        std::vector<std::pair<std::string, std::string>>{{"stream", "stdout"}, {"a", "1"}});
}

// Patterns: blocks in, matches out.
#include "rules/pattern.h"

#include <cmath>

#include <catch2/catch.hpp>

using namespace logbell::rules;

namespace {

PatternSpec spec_of(const std::vector<std::string>& match, std::vector<std::string> labels = {},
                    std::string value = "") {
  PatternSpec spec;
  spec.name = "p";
  for (const std::string& text : match)
    spec.match.push_back(*Regex::compile(text));
  spec.labels = std::move(labels);
  spec.value = std::move(value);
  return spec;
}

std::vector<Match> run(const std::vector<PatternSpec>& patterns, LineFormat format, std::string_view block) {
  std::vector<std::uint32_t> wanted;
  for (std::uint32_t i = 0; i < patterns.size(); ++i)
    wanted.push_back(i);
  const PatternSet set = PatternSet::compile(patterns, wanted, format);
  PatternSet::Scratch scratch;
  std::vector<Match> out;
  set.match(block, scratch, out);
  return out;
}

}  // namespace

TEST_CASE("pattern: a block's matches, in the order of lines, then of patterns", "[rules][pattern]") {
  const auto found = run({spec_of({"a"}), spec_of({"b"})}, LineFormat::kText, "b\r\nx\n\nab\na");
  REQUIRE(found.size() == 4);
  CHECK((found[0].pattern == 1 && found[0].line_offset == 0 && found[0].line_length == 1));
  CHECK((found[1].pattern == 0 && found[1].line_offset == 6));
  CHECK(found[2].pattern == 1);
  CHECK((found[3].pattern == 0 && found[3].line_offset == 9 && found[3].line_length == 1));
}

TEST_CASE("pattern: a line counts once, however many of its regexes match; exclude wins",
          "[rules][pattern]") {
  PatternSpec spec = spec_of({"error", "fail"});
  spec.exclude.push_back(*Regex::compile("expected"));
  CHECK(run({spec}, LineFormat::kText, "error fail error\nexpected error\nfail\n").size() == 2);
}

TEST_CASE("pattern: a value may have a unit", "[rules][pattern]") {
  const auto found = run({spec_of({"took=(?P<took>.+)$"}, {}, "took")}, LineFormat::kText,
                         "took=12ms\ntook=3.5 MiB\ntook=soon\n");
  REQUIRE(found.size() == 3);
  CHECK(found[0].value == 0.012);
  CHECK(found[1].value == 3.5 * 1048576);
  CHECK(std::isnan(found[2].value));
}

TEST_CASE("pattern: captures become labels and the value", "[rules][pattern]") {
  const auto found = run({spec_of({R"(status=(?P<status>\d+)( took=(?P<took>\S+)ms)?)"}, {"status"}, "took")},
                         LineFormat::kText, "status=500 took=12.5ms\nstatus=200\nstatus=1 took=xms\n");
  REQUIRE(found.size() == 3);
  CHECK(found[0].labels == std::vector<std::string>{"500"});
  CHECK(found[0].value == 12.5);
  CHECK(std::isnan(found[1].value));
  CHECK(std::isnan(found[2].value));
}

TEST_CASE("pattern: labels are clean text, cut to size, whatever the line holds", "[rules][pattern]") {
  const auto found = run({spec_of({"q=(?P<q>.*)$"}, {"q"})}, LineFormat::kText,
                         "q=a\xff\x01" + std::string(1000, 'x') + "\n");
  REQUIRE(found.size() == 1);
  CHECK(found[0].labels[0].size() <= kMaxLabelBytes);
  CHECK(found[0].labels_cut == 1);
  CHECK(found[0].labels[0].substr(0, 5) == "a\xEF\xBF\xBDx");
  const auto whole = run({spec_of({"q=(?P<q>.*)$"}, {"q"})}, LineFormat::kText,
                         "q=" + std::string(kMaxLabelBytes, 'x') + "\n");
  REQUIRE(whole.size() == 1);
  CHECK(whole[0].labels[0] == std::string(kMaxLabelBytes, 'x'));
  CHECK(whole[0].labels_cut == 0);
}

TEST_CASE("pattern: keys are what rules ask for, and two long ones stay two", "[rules][pattern]") {
  PatternSpec spec = spec_of({R"(id=(?P<id>\S*)( user=(?P<user>\S+))?)"}, {});
  spec.keys = {"id", "user"};
  const std::string same(300, 'x');
  const auto found = run({spec}, LineFormat::kText,
                         "id=7 user=ann@example.com\nid=8\nid= user=bob@example.com\nid=" + same + "1\nid=" + same + "2\n");
  REQUIRE(found.size() == 5);
  CHECK(found[0].keys[0] == "7");
  CHECK(found[1].keys == std::vector<std::string>{"8", ""});
  // What is hidden is hidden, and still tells one from another.
  CHECK(found[0].keys[1].find("ann") == std::string::npos);
  CHECK(found[0].keys[1] != found[2].keys[1]);
  CHECK(found[2].keys[0].empty());
  CHECK(found[3].keys[0] != found[4].keys[0]);
  CHECK(found[3].keys[0].size() <= kMaxLabelBytes);
  CHECK(found[3].keys[0].substr(0, 100) == same.substr(0, 100));
  // They are no part of what is counted.
  CHECK(spec.identity() == spec_of({R"(id=(?P<id>\S*)( user=(?P<user>\S+))?)"}, {}).identity());
  PatternSpec fields = spec_of({}, {});
  fields.where.push_back({"event", {"stored"}, std::nullopt, false});
  fields.keys = {"id"};
  const auto json = run({fields}, LineFormat::kJson, "{\"event\":\"stored\",\"id\":17}\n");
  REQUIRE(json.size() == 1);
  CHECK(json[0].keys == std::vector<std::string>{"17"});
}

TEST_CASE("pattern: fields of JSON and logfmt are tested and taken", "[rules][pattern]") {
  PatternSpec spec = spec_of({}, {"queue", "code"}, "http.took");
  FieldTest level;
  level.field = "level";
  level.equals = {"ERROR", "FATAL"};
  FieldTest message;
  message.field = "msg";
  message.match = *Regex::compile(R"(code=(?P<code>\d+))");
  FieldTest canary;
  canary.field = "canary";
  canary.equals = {"true"};
  canary.negated = true;
  spec.where = {level, message, canary};
  const auto json =
      run({spec}, LineFormat::kJson,
          "{\"level\":\"ERROR\",\"msg\":\"x code=7\",\"queue\":\"orders\",\"http\":{\"took\":3.5}}\n"
          "{\"level\":\"INFO\",\"msg\":\"x code=7\"}\n"
          "{\"level\":\"ERROR\",\"msg\":\"nothing\"}\n"
          "{\"level\":\"FATAL\",\"msg\":\"code=1\",\"canary\":true}\n"
          "not json, level ERROR code=7\n");
  REQUIRE(json.size() == 1);
  CHECK(json[0].labels == std::vector<std::string>{"orders", "7"});
  CHECK(json[0].value == 3.5);
  const auto logfmt =
      run({spec}, LineFormat::kLogfmt,
          "level=ERROR msg=\"a \\\"b\\\" code=9\" queue=x http.took=1\nlevel=WARN msg=\"code=9\"\n");
  REQUIRE(logfmt.size() == 1);
  CHECK(logfmt[0].labels == std::vector<std::string>{"x", "9"});
}

TEST_CASE("pattern: identity follows what is counted, not what is said about it", "[rules][pattern]") {
  const PatternSpec first = spec_of({"a"}, {"x"});
  PatternSpec same = first;
  same.examples = {"a"};
  same.max_series = 5;
  CHECK(first.identity() == same.identity());
  CHECK(first.identity() != spec_of({"b"}, {"x"}).identity());
  CHECK(first.identity() != spec_of({"a"}, {"y"}).identity());
  CHECK(matches_line(first, LineFormat::kText, "cat"));
  CHECK(matches_line(spec_of({"^$"}), LineFormat::kText, ""));
}

TEST_CASE("pattern: a record is one line, whatever breaks are in it, and has facts", "[rules][pattern]") {
  Facts facts;
  facts.set("stream", "stderr");
  facts.set("pod", "orders-1");
  const std::string block = "boom\n\tat x\nplain\n";
  const std::vector<Record> records{{0, 10, &facts}, {11, 5, nullptr}};
  PatternSpec spec = spec_of({"boom\\s+at (?P<where>\\w+)", "plain"}, {"pod", "where"});
  SECTION("as labels") {}
  SECTION("and they can be tested") {
    spec.where.push_back({.field = "stream", .equals = {"stderr"}, .match = {}, .negated = false});
  }
  const std::uint32_t first = 0;
  const PatternSet set = PatternSet::compile(std::span(&spec, 1), std::span(&first, 1), LineFormat::kText);
  PatternSet::Scratch scratch;
  std::vector<Match> found;
  set.match(block, records, scratch, found);
  REQUIRE(found.size() == (spec.where.empty() ? 2 : 1));
  CHECK(found[0].labels == std::vector<std::string>{"orders-1", "x"});
  CHECK(found[0].line_length == 10);
  if (found.size() == 2) CHECK(found[1].labels == std::vector<std::string>{"", ""});
}

TEST_CASE("pattern: what an envelope says, a line cannot say otherwise", "[rules][pattern]") {
  Facts facts;
  facts.set("pod", "orders-1");
  const std::string block = R"({"pod": "somebody-else", "level": "ERROR"})";
  const PatternSpec spec = spec_of({"ERROR"}, {"level", "pod"});
  const std::uint32_t first = 0;
  const PatternSet set = PatternSet::compile(std::span(&spec, 1), std::span(&first, 1), LineFormat::kJson);
  PatternSet::Scratch scratch;
  std::vector<Match> found;
  const Record record{0, block.size(), &facts};
  set.match(block, std::span(&record, 1), scratch, found);
  REQUIRE(found.size() == 1);
  CHECK(found[0].labels == std::vector<std::string>{"ERROR", "orders-1"});
}

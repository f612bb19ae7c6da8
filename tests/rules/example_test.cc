// Example lines: what expressions are spelled as, where a mark may stand, and that nothing else is ever said.
#include "rules/example.h"

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <random>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "rules/json.h"
#include "rules/rule_file.h"
#include "rules/speller.h"
#include "rules/yaml.h"

using namespace logbell::rules;

namespace {

namespace fs = std::filesystem;

constexpr std::string_view kMark = "logbell-drill:1f4b9c";

PatternSpec pattern(const std::vector<std::string>& match, std::vector<std::string> labels = {},
                    std::string value = "") {
  PatternSpec spec;
  spec.name = "p";
  for (const std::string& text : match)
    spec.match.push_back(*Regex::compile(text));
  spec.labels = std::move(labels);
  spec.value = std::move(value);
  return spec;
}

FieldTest where(std::string field, std::vector<std::string> equals, bool negated = false) {
  FieldTest test;
  test.field = std::move(field);
  test.equals = std::move(equals);
  test.negated = negated;
  return test;
}
FieldTest where_match(std::string field, const std::string& regex, bool negated = false) {
  FieldTest test;
  test.field = std::move(field);
  test.match = *Regex::compile(regex);
  test.negated = negated;
  return test;
}

std::optional<Match> match_of(const PatternSpec& spec, LineFormat format, std::string_view line,
                              const Facts& facts) {
  const std::uint32_t first = 0;
  const PatternSet set = PatternSet::compile(std::span(&spec, 1), std::span(&first, 1), format);
  PatternSet::Scratch scratch;
  std::vector<Match> found;
  const Record record{0, line.size(), &facts};
  set.match(line, std::span(&record, 1), scratch, found);
  if (found.empty()) return std::nullopt;
  return found.front();
}

std::size_t count_of(std::string_view text, std::string_view piece) {
  std::size_t count = 0;
  for (std::size_t at = text.find(piece); at != std::string_view::npos; at = text.find(piece, at + 1))
    ++count;
  return count;
}

// What the line may have been without its mark: the mark taken out, with what may have come with it.
std::vector<std::string> without_mark(const std::string& line) {
  std::vector<std::string> out;
  const std::string mark(kMark);
  for (const std::string& what :
       {mark, "logbell=" + mark, "\"logbell\":\"" + mark + "\"", "\"logbell\": \"" + mark + "\""}) {
    const std::size_t at = line.find(what);
    if (at == std::string::npos) continue;
    for (const std::string before : {"", " ", ",", ", "}) {
      for (const std::string after : {"", " ", ",", ", "}) {
        std::string piece = before;
        piece.append(what).append(after);
        if (at >= before.size() && line.compare(at - before.size(), piece.size(), piece) == 0)
          out.push_back(line.substr(0, at - before.size()) + line.substr(at + what.size() + after.size()));
      }
    }
  }
  return out;
}

// What holds of every marked line; its labels and value are returned.
Match check_line(const PatternSpec& spec, LineFormat format, const MarkedLine& line) {
  INFO("line: " << line.text);
  CHECK(count_of(line.text, kMark) == 1);
  CHECK(matches_line(spec, format, line.text, &line.facts));
  const std::optional<Match> match = match_of(spec, format, line.text, line.facts);
  REQUIRE(match);
  if (!spec.value.empty()) CHECK(std::isfinite(match->value));
  JsonLineReader reader;
  if (format == LineFormat::kJson && reader.read(line.text)) {
    CHECK(std::any_of(reader.fields().begin(), reader.fields().end(),
                      [](const auto& field) { return field.value.find(kMark) != std::string::npos; }));
  }
  const std::size_t at = line.text.find(kMark);
  const auto is_free = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '-' && c != ':';
  };
  if (at > 0) CHECK(is_free(line.text[at - 1]));
  if (at + kMark.size() < line.text.size()) CHECK(is_free(line.text[at + kMark.size()]));
  const std::vector<std::string> bare = without_mark(line.text);
  CHECK(std::any_of(bare.begin(), bare.end(), [&](const std::string& one) {
    const std::optional<Match> same = match_of(spec, format, one, line.facts);
    return same && same->labels == match->labels &&
           (same->value == match->value || (std::isnan(same->value) && std::isnan(match->value)));
  }));
  return *match;
}

std::string read(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

}  // namespace

TEST_CASE("example: an expression is spelled as people would write it", "[rules][example]") {
  const struct {
    const char* regex;
    const char* text;
  } rows[] = {
      {R"(OutOfMemoryError)", "OutOfMemoryError"},
      {R"(QueueNotFoundException: queue (?P<queue>\S+))", "QueueNotFoundException: queue example"},
      {R"(status=(?P<status>\d{3}) took=(?P<took>\d+)ms)", "status=100 took=1ms"},
      {R"(status=(?P<status>\d+)( took=(?P<took>\S+)ms)?)", "status=1 took=examplems"},
      {R"(" (?P<status>5\d\d) \d+ ")", "\" 500 1 \""},
      {R"((?s)Exception.*at com\.example)", "Exception at com.example"},
      {R"(boom\s+at (?P<where>\w+))", "boom at example"},
      {R"(^\d{4}-\d\d-\d\dT[\d:]+ (ERROR|FATAL) )", "1000-10-10T1 ERROR "},
      {R"((?i)fatal|panic)", "fatal"},
      {R"(order (?P<outcome>accepted|rejected))", "order accepted"},
      {R"((?P<a>x)|(?P<b>y))", "x"},
      {R"(|foo)", "foo"},
      {R"(a*)", ""},
      {R"(x(?P<a>a*))", "xa"},
      {R"(x(?P<a>(?P<b>a?)(?P<c>b?)))", "xab"},
      {R"(\Qa.b*c\E+)", "a.b*c"},
      {R"(a{2}b{,3}c{1,}{)", "aab{,3}c{"},
      {R"([]a-c]x[^]a]y[[:digit:]][^[:^upper:]][[:])", "]xey1E:"},
      {R"(\x41\x{e4}\101\t\.\/\-)",
       "A\xC3\xA4"
       "A\t./-"},
      {R"(\p{Greek}\pN\PL[\p{Han}])",
       "\xCE\xB1"
       "10\xE4\xB8\xAD"},
      {R"([^ -~])", "\t"},
      {R"([\x{0}-\x{8}])", "\x01"},
      {R"(\berror\b.*\bqueue\b)", "error queue"},
      {R"(error\b[^x]queue)", "error queue"},
      {R"((?:a|b(?:c|d))+?e$)", "ae"},
      {R"((?i:warn)(?-i)ing)", "warning"},
      {R"((?m)^a$)", "a"},
      {R"(^+a\b{2}\B* b\z?)", "a b"},
      {R"(\b)", "example"},
      {R"(\A\s*at \S+\z)", "at example"},
      {R"(failed: .+)", "failed: example"},
      {R"((?P<hex>[0-9a-f]{4}))", "e1a1"},
      {R"("level":\s*"ERROR".*"code":\s*(?P<code>\d+))", R"("level": "ERROR" "code": 1)"},
  };
  for (const auto& row : rows) {
    INFO(row.regex);
    const Regex regex = *Regex::compile(row.regex);
    const std::optional<std::string> text = example_of(regex);
    REQUIRE(text);
    CHECK(*text == row.text);
    CHECK(regex.matches(*text));
  }
}

TEST_CASE("example: a line break is written only where there is no other way", "[rules][example]") {
  CHECK(example_of(*Regex::compile(R"(a\nb)")) == "a\nb");
  CHECK(example_of(*Regex::compile(R"(a\nb|c)")) == "c");
  CHECK(example_of(*Regex::compile(R"([\n])")) == "\n");
}

TEST_CASE("example: what nothing matches has no example, and takes no long time", "[rules][example]") {
  std::string deep;
  for (int i = 0; i < 200; ++i)
    deep += "(?:a|";
  deep += "b";
  for (int i = 0; i < 200; ++i)
    deep += ")";
  std::string nested;
  for (int i = 0; i < 60; ++i)
    nested += "(?P<g" + std::to_string(i) + ">a?";
  for (int i = 0; i < 60; ++i)
    nested += ")*";
  std::string many;
  for (int i = 0; i < 200; ++i)
    many += "[" + std::string(1, static_cast<char>('a' + i % 26)) +
            std::string(1, static_cast<char>('A' + i / 26)) + "]?";
  const struct {
    const char* why;
    std::string regex;
    bool may_have_one;
  } rows[] = {
      {"an end before the end", "a$b", false},
      {"a beginning after the beginning", "a^b", false},
      {"no edge between two letters", R"(a\bb)", false},
      {"longer than a line that people read",
       "(?:(?:a{10}){10}){10}(?:(?:b{10}){10}){10}(?:(?:c{10}){10}){10}"
       "(?:(?:d{10}){10}){10}(?:(?:e{10}){10}){10}",
       false},
      {"nested too deep for us", deep, false},
      {"groups in groups, all of them optional", nested + "^x", false},
      {"repetitions of nothing", "(?:(?:(?:){10}){10}){10}(?:(?:x?){30}){30}$y", false},
      {"hundreds of classes", many + "(?:^z)?", true},
      {"a slow automaton", "(?:(?:[a-z]?[a-z]?[a-z]?){10}){30}\\d$x", false},
      {"characters that are hard to find", R"([\x{2fffe}][\x{2fffd}][\x{2fffc}]$)", true},
  };
  for (const auto& row : rows) {
    INFO(row.why);
    const auto regex = Regex::compile(row.regex);
    INFO((regex ? "" : regex.error().format()));
    REQUIRE(regex.has_value());
    const std::optional<std::string> text = example_of(*regex);
    if (!row.may_have_one) CHECK_FALSE(text.has_value());
    if (text) CHECK(regex->matches(*text));
    const PatternSpec spec = pattern({row.regex});
    for (const LineFormat format : {LineFormat::kText, LineFormat::kJson, LineFormat::kLogfmt}) {
      if (const auto line = marked_line(spec, format, kMark)) check_line(spec, format, *line);
    }
  }
}

TEST_CASE("example: the mark stands where it changes nothing", "[rules][example]") {
  PatternSpec excluded = pattern({"ERROR|FATAL"});
  excluded.exclude.push_back(*Regex::compile("ERROR"));
  PatternSpec not_at_end = pattern({"foo"});
  not_at_end.exclude.push_back(*Regex::compile("1f4b9c$"));
  const struct {
    const char* why;
    PatternSpec spec;
    std::string line;
    std::vector<std::string> labels;
  } rows[] = {
      {"behind the line", pattern({"OutOfMemoryError"}), "OutOfMemoryError logbell-drill:1f4b9c", {}},
      {"a label that ends with the word",
       pattern({R"(queue (?P<queue>\S+))"}, {"queue"}),
       "queue example logbell-drill:1f4b9c",
       {"example"}},
      {"the end is taken: in front",
       pattern({R"(took (?P<took>\d+)ms$)"}, {"took"}, "took"),
       "logbell-drill:1f4b9c took 1ms",
       {"1"}},
      {"both ends are taken: where anything may stand",
       pattern({R"(^(?P<level>\w+) .* took=(?P<took>\d+)ms$)"}, {"level"}, "took"),
       "example logbell-drill:1f4b9c   took=1ms",
       {"example"}},
      {"between brackets",
       pattern({R"(^\[(?P<level>\w+)\]\[[^\]]*\]$)"}, {"level"}),
       "[example][ logbell-drill:1f4b9c ]",
       {"example"}},
      {"never beside a letter, whatever may stand there",
       pattern({R"(^foo\S*bar$)"}),
       "foo%logbell-drill:1f4b9c!abar",
       {}},
      {"a label to the end of the line",
       pattern({R"(failed: (?P<why>.*))"}, {"why"}),
       "logbell-drill:1f4b9c failed: example",
       {"example"}},
      {"what is excluded is not taken", excluded, "FATAL logbell-drill:1f4b9c", {}},
      {"a mark at the end is excluded", not_at_end, "logbell-drill:1f4b9c foo", {}},
      {"the second of two expressions has the value",
       pattern({"a$b", R"(took (?P<took>\S+))"}, {}, "took"),
       "took 1 logbell-drill:1f4b9c",
       {}},
      {"an empty line", pattern({""}), "example logbell-drill:1f4b9c", {}},
  };
  for (const auto& row : rows) {
    INFO(row.why);
    const auto line = marked_line(row.spec, LineFormat::kText, kMark);
    REQUIRE(line.has_value());
    CHECK(line->text == row.line);
    CHECK(line->generated);
    CHECK(check_line(row.spec, LineFormat::kText, *line).labels == row.labels);
  }
}

TEST_CASE("example: the pattern's own examples come first", "[rules][example]") {
  PatternSpec spec = pattern({R"(queue (?P<queue>\S+))"}, {"queue"});
  spec.examples = {"nothing of the kind", "2026-05-01T10:00:00Z ERROR queue orders", "queue other"};
  const auto text = marked_line(spec, LineFormat::kText, kMark);
  REQUIRE(text.has_value());
  CHECK(text->text == "2026-05-01T10:00:00Z ERROR queue orders logbell-drill:1f4b9c");
  CHECK_FALSE(text->generated);
  // A member behind it would become part of what `\S+` takes.
  spec.examples = {R"({"ts": "x", "msg": "queue orders"})"};
  const auto json = marked_line(spec, LineFormat::kJson, kMark);
  REQUIRE(json.has_value());
  CHECK(json->text == R"({"logbell": "logbell-drill:1f4b9c", "ts": "x", "msg": "queue orders"})");
  CHECK(check_line(spec, LineFormat::kJson, *json).labels == std::vector<std::string>{"orders\"}"});
  // The name of the mark's member is one that the line does not have.
  spec.examples = {R"({"msg":"queue orders ","logbell":"x"})"};
  CHECK(marked_line(spec, LineFormat::kJson, kMark)->text ==
        R"({"msg":"queue orders ","logbell":"x","logbell_drill":"logbell-drill:1f4b9c"})");
  // Of several lines the first: the others belong to it.
  PatternSpec trace = pattern({R"((?s)boom.*\n\tat x)"});
  trace.examples = {"boom\n\tat x"};
  CHECK(marked_line(trace, LineFormat::kText, kMark)->text == "boom logbell-drill:1f4b9c\n\tat x");
  // An example without a number where one belongs is passed over.
  PatternSpec value = pattern({R"(took (?P<took>\S+))"}, {}, "took");
  value.examples = {"took long", "took 5"};
  CHECK(marked_line(value, LineFormat::kText, kMark)->text == "took 5 logbell-drill:1f4b9c");
}

TEST_CASE("example: fields of JSON and logfmt", "[rules][example]") {
  PatternSpec spec = pattern({}, {"queue", "code", "kind"}, "http.took");
  spec.where = {where("level", {"ERROR", "FATAL"}), where_match("msg", R"(code=(?P<code>\d+))"),
                where("canary", {"true"}, true),    where("queue", {"example"}, true),
                where_match("trace", "^0+$", true), where_match("partner", "^(?P<kind>[a-z]+)-")};
  spec.expect = {Labels{{"kind", "acme"}}, Labels{{"kind", "globex"}}};
  const auto json = marked_line(spec, LineFormat::kJson, kMark);
  REQUIRE(json.has_value());
  CHECK(json->text ==
        R"({"level": "ERROR", "msg": "code=1", "partner": "acme-", "http.took": 1, "queue": "other", )"
        R"("logbell": "logbell-drill:1f4b9c"})");
  const Match match = check_line(spec, LineFormat::kJson, *json);
  CHECK(match.labels == std::vector<std::string>{"other", "1", "acme"});
  CHECK(match.value == 1);
  const auto logfmt = marked_line(spec, LineFormat::kLogfmt, kMark);
  REQUIRE(logfmt.has_value());
  CHECK(logfmt->text ==
        R"(level=ERROR msg="code=1" partner=acme- http.took=1 queue=other logbell=logbell-drill:1f4b9c)");
  CHECK(check_line(spec, LineFormat::kLogfmt, *logfmt).labels == match.labels);
}

TEST_CASE("example: what `match` looks for in a line of JSON or logfmt", "[rules][example]") {
  const struct {
    const char* why;
    LineFormat format;
    PatternSpec spec;
    std::string line;
  } rows[] = {
      {"a message", LineFormat::kJson, pattern({"stored in backup"}),
       R"({"msg": "stored in backup", "logbell": "logbell-drill:1f4b9c"})"},
      {"members as they are written", LineFormat::kJson,
       pattern({R"("level":\s*"ERROR".*"code":\s*(?P<code>\d+))"}, {"code"}),
       R"({"level":"ERROR","code":1,"logbell":"logbell-drill:1f4b9c"})"},
      {"the whole object", LineFormat::kJson, pattern({R"x(^\{"a":1,"b":"(?P<b>\w+)".*\}$)x"}, {"b"}),
       R"({"a":1,"b":"example" ,"logbell":"logbell-drill:1f4b9c"})"},
      {"no JSON at all", LineFormat::kJson, pattern({"^panic: "}), "panic: logbell-drill:1f4b9c"},
      {"braces around something are no JSON", LineFormat::kJson, pattern({R"("a" "b")"}),
       R"("a" "b" logbell-drill:1f4b9c)"},
      {"a message in logfmt", LineFormat::kLogfmt, pattern({"stored in backup"}),
       R"(msg="stored in backup" logbell=logbell-drill:1f4b9c)"},
      {"a field in logfmt", LineFormat::kLogfmt, pattern({R"(^level=error .*code=(?P<code>\S+)$)"}, {"code"}),
       "level=error logbell=logbell-drill:1f4b9c  code=example"},
  };
  for (const auto& row : rows) {
    INFO(row.why);
    const auto line = marked_line(row.spec, row.format, kMark);
    REQUIRE(line.has_value());
    CHECK(line->text == row.line);
    check_line(row.spec, row.format, *line);
  }
}

TEST_CASE("example: what an envelope has to say is in the facts", "[rules][example]") {
  PatternSpec spec = pattern({"boom"}, {"pod", "stream"});
  spec.where = {where("stream", {"stderr"})};
  const auto text = marked_line(spec, LineFormat::kText, kMark, Envelope::kCri);
  REQUIRE(text.has_value());
  CHECK(text->text == "boom logbell-drill:1f4b9c");
  CHECK(*text->facts.find("stream") == "stderr");
  CHECK(check_line(spec, LineFormat::kText, *text).labels == std::vector<std::string>{"example", "stderr"});
  CHECK(marked_line(spec, LineFormat::kText, kMark).has_value());
  // Docker knows no pods, and a line of JSON may have what no envelope says.
  const auto json = marked_line(spec, LineFormat::kJson, kMark, Envelope::kDocker);
  REQUIRE(json.has_value());
  CHECK(json->text == R"({"msg": "boom", "pod": "example", "logbell": "logbell-drill:1f4b9c"})");
  CHECK(json->facts.find("pod") == nullptr);
  const auto plain = marked_line(spec, LineFormat::kJson, kMark, Envelope::kNone);
  REQUIRE(plain.has_value());
  CHECK(plain->facts.find("stream") == nullptr);
  // Not known: both.
  const auto both = marked_line(spec, LineFormat::kJson, kMark);
  REQUIRE(both.has_value());
  CHECK(*both->facts.find("stream") == "stderr");
  CHECK(both->text.find(R"("stream": "stderr")") != std::string::npos);
  // An example is completed by them; a syslog header's severity is a word of its own.
  PatternSpec syslog = pattern({"failed"}, {"app"});
  syslog.where = {where("severity", {"err", "crit"})};
  syslog.examples = {"disk failed"};
  const auto of_syslog = marked_line(syslog, LineFormat::kText, kMark, Envelope::kSyslog);
  REQUIRE(of_syslog.has_value());
  CHECK_FALSE(of_syslog->generated);
  CHECK(*of_syslog->facts.find("severity") == "err");
  CHECK(*of_syslog->facts.find("app") == "example");
  CHECK_FALSE(marked_line(spec, LineFormat::kText, kMark, Envelope::kNone).has_value());
}

TEST_CASE("example: where no line can be made it says why, and what to do", "[rules][example]") {
  PatternSpec wrong = pattern({"a$b"});
  PatternSpec with_examples = wrong;
  with_examples.examples = {"b"};
  PatternSpec all_excluded = pattern({"foo"});
  all_excluded.exclude.push_back(*Regex::compile("drill"));
  const struct {
    const char* why;
    PatternSpec spec;
    std::string said;
  } rows[] = {
      {"nothing to match", pattern({}), "it has neither `match:` nor `where:`"},
      {"it matches nothing", wrong,
       "none could be made from its expressions; add a line that it matches to its `examples:`"},
      {"nor do its examples", with_examples, "none of its `examples:` matches here, and none could be made"},
      {"no room", pattern({"^Ready$"}), "\"Ready\" matches, but with a mark anywhere in it"},
      {"marks are excluded", all_excluded, "\"foo\" matches, but with a mark anywhere in it"},
      {"no number", pattern({R"(took (?P<took>[a-z]+))"}, {}, "took"), "whose `value:` took is a number"},
  };
  for (const auto& row : rows) {
    INFO(row.why);
    const auto line = marked_line(row.spec, LineFormat::kText, kMark);
    REQUIRE_FALSE(line.has_value());
    CHECK(line.error().code == ErrorCode::kNotFound);
    INFO(line.error().message);
    CHECK(line.error().message.find("make a line with a mark that pattern \"p\" matches: ") == 0);
    CHECK(line.error().message.find(row.said) != std::string::npos);
  }
  for (const char* const mark : {"", "a b", "a\"", "a_b"})
    CHECK(marked_line(pattern({"a"}), LineFormat::kText, mark).error().code == ErrorCode::kInvalid);
}

namespace {

// The patterns of a configuration, each with the formats of its sources; whatever else is wrong in it.
struct Source {
  LineFormat format = LineFormat::kText;
  Envelope envelope = Envelope::kNone;
};
struct Found {
  PatternSpec spec;
  std::vector<Source> sources;
};

// `rule_files`: their texts.
std::vector<Found> patterns_of(const std::string& text, const std::vector<std::string>& rule_files) {
  Problems problems;
  Reading reading;
  reading.env = [](const std::string&) { return std::optional<std::string>("x"); };
  reading.problems = &problems;
  const auto root = yaml::parse("f.yaml", text, problems);
  if (!root || !root->is_map()) return {};
  // A ConfigMap holds configurations, and their rule files beside them.
  if (const yaml::Node* data = root->find("data"); data != nullptr && data->is_map()) {
    std::vector<std::string> beside;
    for (const yaml::Entry& entry : data->entries)
      beside.push_back(entry.value.scalar);
    std::vector<Found> all;
    for (const std::string& one : beside) {
      for (Found& found : patterns_of(one, beside))
        all.push_back(std::move(found));
    }
    return all;
  }
  if (root->find("sources") == nullptr) return {};
  std::vector<Found> out;
  RuleSurroundings around;
  const auto word = [](const yaml::Node& node, const char* key) {
    const yaml::Node* value = node.find(key);
    return value == nullptr ? std::string() : value->scalar;
  };
  if (const yaml::Node* sources = root->find("sources"); sources != nullptr && sources->is_sequence()) {
    for (const yaml::Node& node : sources->items) {
      if (!node.is_map()) continue;
      RuleSurroundings::Source source;
      source.name = word(node, "name");
      const std::string format = word(node, "format");
      const std::string inner = format == "json" || format == "logfmt" ? format : word(node, "inner");
      source.format = inner == "json"     ? LineFormat::kJson
                      : inner == "logfmt" ? LineFormat::kLogfmt
                                          : LineFormat::kText;
      if (format == "cri") source.envelope = Envelope::kCri;
      if (format == "docker") source.envelope = Envelope::kDocker;
      if (format == "syslog" || node.find("syslog") != nullptr) source.envelope = Envelope::kSyslog;
      if (node.find("journal") != nullptr) source.envelope = Envelope::kJournal;
      source.multiline = node.find("multiline") != nullptr;
      around.sources.push_back(source);
    }
  }
  const std::vector<RuleSurroundings::Source> sources = around.sources;
  RuleReader reader(reading, std::move(around));
  if (const yaml::Node* patterns = root->find("patterns")) reader.patterns(*patterns);
  if (const yaml::Node* rules = root->find("rules")) reader.rules(*rules);
  std::vector<yaml::Node> files;  // the reader points into them
  for (const std::string& file : rule_files) {
    auto parsed = yaml::parse("r.yaml", file, problems);
    if (parsed && parsed->find("groups") != nullptr) files.push_back(*std::move(parsed));
  }
  for (const yaml::Node& file : files)
    reader.rule_file(file);
  for (PatternSpec& spec : reader.finish().patterns) {
    Found found{std::move(spec), {}};
    for (const RuleSurroundings::Source& source : sources) {
      if (found.spec.sources.empty() || std::find(found.spec.sources.begin(), found.spec.sources.end(),
                                                  source.name) != found.spec.sources.end())
        found.sources.push_back({source.format, source.envelope});
    }
    if (found.sources.empty()) found.sources.emplace_back();
    out.push_back(std::move(found));
  }
  return out;
}

}  // namespace

TEST_CASE("example: every pattern of every configuration in the tree has a line", "[rules][example]") {
  std::size_t files = 0;
  std::size_t lines = 0;
  for (const char* const folder : {"examples", "tests/testdata"}) {
    for (const auto& entry : fs::recursive_directory_iterator(fs::path(LOGBELL_SOURCE_DIR) / folder)) {
      if (entry.path().extension() != ".yaml") continue;
      std::vector<std::string> rule_files;
      if (const fs::path beside = entry.path().parent_path() / "rules.d"; fs::is_directory(beside)) {
        for (const auto& file : fs::directory_iterator(beside))
          rule_files.push_back(read(file.path()));
      }
      const std::vector<Found> found = patterns_of(read(entry.path()), rule_files);
      const bool is_bad = entry.path().string().find(".bad.") != std::string::npos;
      files += found.empty() ? 0 : 1;
      for (const Found& one : found) {
        for (const Source& source : one.sources) {
          // From its examples, and without them.
          for (const bool bare : {false, true}) {
            PatternSpec spec = one.spec;
            if (bare) spec.examples.clear();
            INFO(entry.path().filename() << " " << spec.name);
            const auto line = marked_line(spec, source.format, kMark, source.envelope);
            // A bad configuration may hold what nothing matches: half a pattern.
            if (is_bad && !line) continue;
            INFO((line ? "" : line.error().message));
            REQUIRE(line.has_value());
            check_line(spec, source.format, *line);
            ++lines;
          }
        }
      }
    }
  }
  CHECK(files > 60);
  CHECK(lines > 150);
}

namespace {

// An expression out of a small grammar; what RE2 does not take is thrown away.
class Grammar {
 public:
  explicit Grammar(std::uint64_t seed) : random_(seed) {}

  std::string expression(int depth) {
    std::string out = sequence(depth);
    while (draw(5) == 0)
      out += "|" + sequence(depth);
    return out;
  }
  std::size_t draw(std::size_t below) { return random_() % below; }

 private:
  std::string sequence(int depth) {
    std::string out;
    for (std::size_t n = draw(5); n > 0; --n)
      out += repeated(depth);
    return out;
  }
  std::string repeated(int depth) {
    static const std::vector<std::string> kRepeats{"*", "+", "?", "{2}", "{1,3}", "{2,}", "*?", "+?", "??"};
    std::string out = atom(depth);
    if (draw(4) == 0) out += kRepeats[draw(kRepeats.size())];
    return out;
  }
  std::string atom(int depth) {
    static const std::vector<std::string> kAtoms{
        "a",        "ERROR",    "queue ",    ": ",        "\\d",
        "\\w",      "\\s",      "\\S",       ".",         "[a-z]",
        "[^\"]",    "[0-9a-f]", "\\.",       "\\[",       "\\b",
        "\\B",      "^",        "$",         "\\x41",     "[[:alpha:]]",
        "\\pL",     "\\PN",     "\\Qa.b\\E", "(?i)x",     "[^[:space:]]",
        "=",        "\\D",      "[]x]",      "[^]x]",     "\xC3\xA4",
        "\\A",      "\\z",      "(?s:.)",    "(?m:^)",    "(?m:$)",
        "\\x{3b1}", "[\\d\\-]", "\"",        "{",         "\\W",
        "(?-s).",   "\\101",    "[a\\]b]",   "\\p{Greek}"};
    if (depth > 0 && draw(4) == 0) {
      const std::size_t kind = draw(3);
      const std::string inside = expression(depth - 1);
      if (kind == 0) return "(" + inside + ")";
      if (kind == 1) return "(?:" + inside + ")";
      return "(?P<g" + std::to_string(names_++) + ">" + inside + ")";
    }
    return kAtoms[draw(kAtoms.size())];
  }

  std::mt19937_64 random_;
  int names_ = 0;
};

}  // namespace

TEST_CASE("example: whatever the expression, a line is never wrong", "[rules][example]") {
  const char* wanted = std::getenv("LOGBELL_SEED");  // NOLINT(concurrency-mt-unsafe): one thread
  const char* many = std::getenv("LOGBELL_SEEDS");   // NOLINT(concurrency-mt-unsafe): one thread
  const std::uint64_t first = wanted == nullptr ? 1 : std::stoull(wanted);
  const std::uint64_t count = many == nullptr ? 250 : std::stoull(many);
  std::size_t made = 0;
  std::size_t marked = 0;
  std::size_t tried = 0;
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    Grammar grammar(seed);
    const std::string text = grammar.expression(3);
    const auto regex = Regex::compile(text);
    if (!regex) continue;
    ++tried;
    INFO("LOGBELL_SEED=" << seed << " " << text);
    const std::optional<std::string> example = example_of(*regex);
    if (example) {
      ++made;
      CHECK(regex->matches(*example));
      CHECK(example->size() <= kMaxSpelledBytes);
    }
    PatternSpec spec = pattern({text});
    for (const std::string& name : regex->group_names()) {
      if (!name.empty()) spec.labels.push_back(name);
    }
    const auto format = static_cast<LineFormat>(grammar.draw(3));
    if (format != LineFormat::kText && grammar.draw(2) == 0) spec.where.push_back(where("level", {"ERROR"}));
    if (const auto line = marked_line(spec, format, kMark)) {
      ++marked;
      check_line(spec, format, *line);
    }
  }
  WARN(made << " of " << tried << " expressions were spelled, " << marked << " had a marked line");
  if (wanted != nullptr) return;
  CHECK(made * 100 >= tried * 85);
}

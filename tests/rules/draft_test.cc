// Draft: a pattern and a rule from one line, which the reader of rules must take as they are.
#include "rules/draft.h"

#include <map>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "rules/rule_file.h"
#include "rules/yaml.h"

using namespace logbell::rules;

namespace {

// Through the reader of rules: no problem, and the example (which it tries) matches.
RuleSet load(const std::string& text, LineFormat format) {
  Problems problems;
  Reading reading;
  reading.env = [](const std::string&) { return std::optional<std::string>(); };
  reading.problems = &problems;
  reading.texts["draft.yaml"] = text;
  const auto root = yaml::parse("draft.yaml", text, problems);
  INFO(text);
  REQUIRE(root);
  RuleSurroundings around;
  around.sources = {{"api", format}};
  around.sinks = {"ops"};
  RuleReader reader(reading, around);
  reader.patterns(*root->find("patterns"));
  reader.rules(*root->find("rules"));
  RuleSet set = reader.finish();
  std::string said;
  for (const Problem& problem : problems.sorted())
    said += problem.format() + "\n";
  CHECK(said.empty());
  return set;
}

Draft draft(const std::string& line, const DraftSurroundings& around = {}) {
  auto made = draft_from(line, around);
  INFO(line);
  REQUIRE(made);
  const RuleSet set = load(made->yaml, around.format);
  REQUIRE(set.patterns.size() == 1);
  REQUIRE(set.rules.size() == 1);
  CHECK(set.patterns[0].name == made->pattern);
  CHECK(set.rules[0].name == made->alert);
  REQUIRE(set.patterns[0].examples.size() == 1);
  CHECK(set.patterns[0].examples[0] == line);
  CHECK(matches_line(set.patterns[0], around.format, line));
  return *made;
}

std::string regex_of(const Draft& draft) {
  const std::size_t from = draft.yaml.find("match: '") + 8;
  return draft.yaml.substr(from, draft.yaml.find("'\n", from) - from);
}

}  // namespace

TEST_CASE("draft: variable parts become captures, the rest stands as it is", "[rules][draft]") {
  struct Row {
    std::string says;
    std::string line;
    std::string regex;
    std::string pattern;
  };
  const Row rows[] = {
      {"a number is called as what it is of", "2026-05-01T10:00:00Z ERROR order 7 lost",
       R"(ERROR order (?P<order>\d+) lost)", "order_lost"},
      {"an exception names it", "ERROR QueueNotFoundException: queue orders-7d4b is gone",
       R"(ERROR QueueNotFoundException: queue (?P<queue>[\w.:-]+) is gone)", "queue_not_found_exception"},
      {"keys", "level=error took=12ms n=7 msg=\"no queue\"",
       R"re(level=error took=(?P<took>(?:[\d.]+(?:ns|us|µs|ms|s|m|h|d))+) n=(?P<n>\d+) msg="(?P<msg>[^"]*)")re",
       "level_error_took_msg"},
      {"names are each given once", "cannot move from 10.0.0.1:80 to 10.0.0.2",
       R"(cannot move from (?P<ip>\d+\.\d+\.\d+\.\d+(?::\d+)?) to (?P<ip_2>\d+\.\d+\.\d+\.\d+(?::\d+)?))",
       "cannot_move_from_to"},
      {"what a regex would take for itself", "pay (now)* [x] a+b? ^$ | {2}: it's \\ too",
       R"(pay \(now\)\* \[x\] a\+b\? \^\$ \| \{(?P<number>\d+)\}: it''s \\ too)", "pay_now_it_too"},
      {"not a variable of the configuration", "no ${HOME} here", R"(no \$\{HOME\} here)", "no_home_here"},
  };
  for (const Row& row : rows) {
    INFO(row.says);
    const Draft made = draft(row.line);
    CHECK(regex_of(made) == row.regex);
    CHECK(made.pattern == row.pattern);
  }
}

TEST_CASE("draft: a capture is no label by itself", "[rules][draft]") {
  const Draft made = draft("ERROR status=503 took=12ms for user 81723");
  CHECK(made.captures == std::vector<std::string>{"status", "took", "user"});
  CHECK(made.yaml.find("\n    labels: [") == std::string::npos);
  CHECK(made.yaml.find("    # labels: [status]\n") != std::string::npos);
  CHECK(made.yaml.find("    # value: status\n") != std::string::npos);
  CHECK(draft("ERROR no queue").yaml.find('#') == std::string::npos);
}

TEST_CASE("draft: a line with fields is tested by those that say what it is", "[rules][draft]") {
  const DraftSurroundings json{.format = LineFormat::kJson};
  const std::string line =
      R"({"ts": "2026-05-01T10:00:00Z", "level": "ERROR", "msg": "queue 'a b' gone after 5s", "trace": "0f8fad5b", "n": 5})";
  CHECK(draft(line, json)
            .yaml.find("    where:\n"
                       "      level: 'ERROR'\n"
                       "      msg: {match: 'queue ''(?P<queue>[^\"]*)'' gone after "
                       "(?P<duration>(?:[\\d.]+(?:ns|us|µs|ms|s|m|h|d))+)'}\n") != std::string::npos);
  CHECK(
      draft(R"({"level": "ERROR", "message": "no queue"})", json).yaml.find("      message: 'no queue'\n") !=
      std::string::npos);
  CHECK(draft(R"({"severity": "error", "error.type": "NoQueue", "x": 1})", json)
            .yaml.find("      error.type: 'NoQueue'\n") != std::string::npos);
  // Text among JSON is text.
  CHECK(draft("panic: no queue", json).yaml.find("match: 'panic: no queue'") != std::string::npos);
  CHECK(draft("level=error msg=\"no queue 7\" b=2", {.format = LineFormat::kLogfmt})
            .yaml.find("      level: 'error'\n      msg: {match: 'no queue (?P<queue>\\d+)'}\n") !=
        std::string::npos);
}

TEST_CASE("draft: names that are taken, the source and the sinks", "[rules][draft]") {
  DraftSurroundings around;
  around.pattern_names = {"no_queue", "no_queue_2"};
  around.alert_names = {"NoQueue"};
  around.source = "api";
  around.sinks = {"ops"};
  const Draft made = draft("no queue", around);
  CHECK(made.pattern == "no_queue_3");
  CHECK(made.alert == "NoQueue2");
  CHECK(made.yaml.find("    source: api\n") != std::string::npos);
  CHECK(made.yaml.find("    sinks: [ops]\n") != std::string::npos);
  CHECK(draft("SinkDead: it is").alert == "SinkDead2");  // one of logbell's own
  // Neither YAML nor an expression may take it for something else.
  CHECK(draft("ERROR null").pattern == "logged_null");
  for (const char* word : {"true", "offset", "unless", "sum", "count", "bool", "ignoring", "quantile"})
    draft(std::string("ERROR ") + word);
}

TEST_CASE("draft: of what says nothing there is none", "[rules][draft]") {
  for (const std::string line : {"", "7", "2026-05-01T10:00:00Z", "2026-05-01T10:00:00Z 7 10.0.0.1", "a 7",
                                 "\xFF broken bytes", "two\nlines of it"}) {
    INFO(line);
    const auto made = draft_from(line, {});
    REQUIRE_FALSE(made);
    CHECK_FALSE(made.error().message.empty());
  }
}

TEST_CASE("draft: of a line that goes on and on its beginning is what it is known by", "[rules][draft]") {
  std::string line = "ERROR query failed for order 7: SELECT * FROM orders WHERE id IN (1";
  for (int i = 0; i < 3000; ++i)
    line += ", " + std::to_string(i);
  const std::string text = draft(line, {}).yaml;
  CHECK(text.find("query failed for order (?P<order>") != std::string::npos);
  const auto captures = [&] {
    std::size_t found = 0;
    for (std::size_t at = text.find("(?P<"); at != std::string::npos; at = text.find("(?P<", at + 1))
      ++found;
    return found;
  };
  CHECK(captures() == 20);
}

TEST_CASE("draft: whatever the line, what is drafted loads and matches it", "[rules][draft]") {
  const std::vector<std::string> pieces{"ERROR",  "order",    "7",     " ",
                                        " ",      " ",        "=",     "\"",
                                        "'",      "10.0.0.1", "12ms",  "${X}",
                                        "$${",    ": ",       "#",     "{",
                                        "}",      "[",        "]",     "2026-05-01 10:00:00",
                                        "a@b.de", "/var/x",   "\t",    "\\",
                                        "- ",     "?",        "|",     ">",
                                        "&a",     "*b",       "!c",    "%",
                                        "@",      "`",        "größe", "0f8fad5b-d9cb-469f-a165-70867728950e",
                                        ",",      "null",     "true",  "~",
                                        "key",    "x-1"};
  std::uint32_t seed = 5;
  int made = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string line;
    seed = seed * 1664525U + 1013904223U;
    for (std::size_t i = (seed >> 16U) % 14; i > 0; --i) {
      seed = seed * 1664525U + 1013904223U;
      line += pieces[(seed >> 16U) % pieces.size()];
    }
    const LineFormat format = static_cast<LineFormat>(round % 3);
    if (!draft_from(line, {.format = format})) continue;
    draft(line, {.format = format});
    ++made;
  }
  CHECK(made > 500);
}

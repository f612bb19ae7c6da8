// RegexSteps: how far a regex gets in a line that it does not match.
#include "rules/regex_steps.h"

#include <string>

#include <catch2/catch.hpp>

#include "rules/regex.h"
#include "tests/support/random_patterns.h"

using namespace logbell::rules;

TEST_CASE("regex steps: the first piece that a line lacks, and where", "[rules][regex_steps]") {
  struct Row {
    std::string says;
    std::string pattern;
    std::string line;
    std::string held;
    std::string wanted;
    std::string there;  // what of the line `held` matches
    bool is_end;
    bool anywhere;
  };
  const Row rows[] = {
      {"a word goes on otherwise", R"(QueueNotFoundException: queue (?P<queue>\S+))",
       "ERROR QueueNotFoundError: queue a", "QueueNotFoundE", R"(xception: queue (?P<queue>\S+))",
       "QueueNotFoundE", false, false},
      {"what may stand anywhere behind", "ERROR .*timeout", "INFO x ERROR no queue", "ERROR ", "timeout",
       "ERROR ", false, true},
      {"within a group", R"(took (?P<took>\d+)ms)", "took 12s", R"(took (?P<took>\d+))", "ms", "took 12",
       false, false},
      {"its end is there, its beginning not", R"(^\d{4}-\d\d ERROR lost (?P<id>\w+))", "[5] ERROR lost a7",
       R"( ERROR lost (?P<id>\w+))", R"(^\d{4}-\d\d)", " ERROR lost a7", true, false},
      {"one of several is one piece", "(?:cat|dog)s bark", "cats meow", "(?:cat|dog)s ", "bark", "cats ",
       false, false},
      {"the best of its alternatives", "abcdef|uvwxyz", "uvwx", "uvwx", "yz", "uvwx", false, false},
      {"flags hold for all of it", "(?i)ERROR: full|QUEUE gone", "queue lost", "(?i)QUEUE ", "gone", "queue ",
       false, false},
      {"flags hold for its end", "(?i)no QUEUE", "a queue", " QUEUE", "(?i)no", " queue", true, false},
      {"a class says little", "[xy]foo", "fox", "", "", "o", true, false},
      {"beyond ASCII", "größer als 5", "größer als 4", "größer als ", "5", "größer als ", false, false},
      {"quoted", R"(\Qa.b\E c)", "a.b d", R"(\Qa.b\E )", "c", "a.b ", false, false},
  };
  for (const Row& row : rows) {
    INFO(row.says);
    REQUIRE_FALSE(Regex::compile(row.pattern)->matches(row.line));
    const PartialMatch found = RegexSteps(row.pattern).in(row.line);
    CHECK(found.share > 0);
    CHECK(found.share < 1);
    if (!row.held.empty()) {
      CHECK(found.held == row.held);
      CHECK(found.wanted == row.wanted);
      CHECK(found.is_end == row.is_end);
      CHECK(found.anywhere == row.anywhere);
    }
    CHECK(row.line.substr(found.from, found.to - found.from) == row.there);
  }
}

TEST_CASE("regex steps: nothing of it is there", "[rules][regex_steps]") {
  CHECK(RegexSteps("xyz").in("abc").share == 0);
  CHECK(RegexSteps("xyz").in("abc").wanted == "xyz");
  CHECK(RegexSteps("^$").in("abc").share == 0);
  CHECK(RegexSteps("a{3}b").in("aab").share > 0);
  // RE2 reads what is behind flags as if it stood before them: the group need not be there.
  CHECK(RegexSteps("(?:x(y))(?s){0,1}z").in("z").share == 1);
}

TEST_CASE("regex steps: the texts that a regex holds as they are", "[rules][regex_steps]") {
  CHECK(RegexSteps(R"(a queue (?P<q>\S+) of\.x|no+ty?pe)").letters() ==
        std::vector<std::string>{"a queue ", " of.x"});
  CHECK(RegexSteps(R"((?:queue) (?P<x>gone))").letters() == std::vector<std::string>{"queue gone"});
}

// Cut into pieces and put together again it is the same regex: so what matches has all of it.
TEST_CASE("regex steps: of what matches nothing is missing, and what is held is in the line",
          "[rules][regex_steps]") {
  logbell::tests::RandomPatterns random(7);
  int whole = 0;
  int partly = 0;
  for (int round = 0; round < 6000; ++round) {
    const std::string pattern = random.regex();
    const auto regex = Regex::compile(pattern);
    if (!regex) continue;
    const std::string line = random.line();
    const PartialMatch found = RegexSteps(pattern).in(line);
    INFO(pattern << "\n" << line);
    REQUIRE(found.from <= found.to);
    REQUIRE(found.to <= line.size());
    if (regex->matches(line)) {
      REQUIRE((found.share == 0 || found.share == 1));
      whole += found.share == 1 ? 1 : 0;
    } else {
      REQUIRE(found.share < 1);
      partly += found.share > 0 ? 1 : 0;
    }
  }
  CHECK(whole > 100);
  CHECK(partly > 300);
}

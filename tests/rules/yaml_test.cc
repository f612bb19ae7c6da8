// YAML: places, and what the parser lets pass but an operator would regret.
#include "rules/yaml.h"

#include <catch2/catch.hpp>

using namespace logbell::rules;

TEST_CASE("yaml: every value knows where it stands", "[rules][yaml]") {
  Problems problems;
  const auto root = yaml::parse(
      "f.yaml", "a: 1\nb:\n  - x: 'y'\n    empty:\n    no: null\ntext: |\n  it's: \"fine\n", problems);
  REQUIRE(root.has_value());
  CHECK(problems.all().empty());
  CHECK(root->find("a")->place == Place{"f.yaml", 1, 4});
  const yaml::Node& item = root->find("b")->items.at(0);
  CHECK(item.find("x")->place == Place{"f.yaml", 3, 8});
  CHECK(item.find("x")->quoted);
  CHECK(item.find("empty")->is_null());
  CHECK(item.find("empty")->place == Place{"f.yaml", 4, 5});
  CHECK(item.find("no")->is_null());
  CHECK(root->find("text")->scalar == "it's: \"fine\n");
  CHECK(root->find("nothing") == nullptr);
}

TEST_CASE("yaml: what is wrong is said with its line and a hint", "[rules][yaml]") {
  const std::string deep = std::string(200, '[') + std::string(200, ']');
  std::string bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n";
  for (int i = 1; i < 8; ++i) {
    bomb += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [";
    for (int j = 0; j < 10; ++j)
      bomb += (j == 0 ? "*a" : ",*a") + std::to_string(i - 1);
    bomb += "]\n";
  }
  const struct {
    const char* why;
    std::string text;
    int line;
    const char* says;
  } rows[] = {
      {"a comma where a document begins", ", a: 1\n", 1, "`,` belongs to no list"},
      {"a bracket that closes nothing", "a: 1\n]\nb: 2\n", 2, "no bracket is open here"},
      {"a brace after a list", "- 1\n}\n", 2, "no bracket is open here"},
      {"a key outside of the list", "- 1\nb: 2\n", 2, "belongs to nothing above it"},
      {"a list that is not closed", "a: [1, 2\n", 2, "a bracket above is not closed"},
      {"two documents", "a: 1\n---\nb: 2\n", 2, "here the second begins"},
      {"a key twice", "a: 1\nb: 2\na: 3\n", 3, "stands twice; the first is at line 1"},
      {"a quote that never closes", "a: \"x\nb: 1\nc: 2\n", 1, "is not closed"},
      {"a quote closed by the next one", "a: 'x\nb: 'y'\n", 1, "is not closed"},
      {"a single backslash in double quotes", "a: 1\nmatch: \"\\d+\"\n", 2, "single quotes"},
      {"a tab", "a:\n\tb: 1\n", 2, "tab"},
      {"an unquoted star", "files: [*.log]\n", 1, "in quotes"},
      {"a colon in an unquoted text", "a: b: c\n", 1, "in quotes"},
      {"an alias bomb", bomb, 1, "aliases"},
      {"nesting", "a: " + deep + "\n", 1, "deep"},
      {"nothing at all", "# only a comment\n", 1, "empty"},
      {"a merge key", "a: &a {x: 1}\nb:\n  <<: *a\n", 3, "merge keys"},
  };
  for (const auto& row : rows) {
    INFO(row.why);
    Problems problems;
    yaml::parse("f.yaml", row.text, problems);
    REQUIRE(problems.has_errors());
    const std::string text = problems.sorted().front().format();
    INFO(text);
    CHECK(text.find(row.says) != std::string::npos);
    CHECK(problems.sorted().front().place.line == row.line);
  }
}

TEST_CASE("yaml: what is right stays silent", "[rules][yaml]") {
  for (const char* fine : {
           "a: it's fine\nb: 5\" disk\n",
           "a: 'it''s'\nb: \"x\\\"y\"\n",
           "a: \"folded\n  over lines\"\nb: 1\n",
           "# don't worry\na: 1 # isn't it\n",
           "m: >-\n  don't\n  \"care\nb: 'x'\n",
           "\xEF\xBB\xBF"
           "a: 1\r\nb: 'c'\r\n",
           "s: well, 'tis only - 'text, [ 'really\nb: 1\n",
           "l: [x,\n    'a', \"b\"]\nn: a, 'b\n",
           "l: ['a', \"b\", {c: 'd'}]\n",
       }) {
    INFO(fine);
    Problems problems;
    CHECK(yaml::parse("f.yaml", fine, problems).has_value());
    CHECK(problems.all().empty());
  }
}

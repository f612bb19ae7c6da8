// The tables of keys as JSON Schema, and that nobody asks for a key as something else.
#include "rules/json_schema.h"

#include <set>
#include <string>
#include <string_view>

#include <catch2/catch.hpp>

#include "rules/fields.h"
#include "rules/yaml.h"

using namespace logbell::rules;

namespace {

const KeyTable& tree_keys() {
  static const KeyTable kTable{"tree",
                               "A tree.",
                               {{"name", "Its name.", {Shape::text()}, true},
                                {"depth", "How deep.", {Shape::integer(1, 9)}, false, "3"},
                                {"kind", "Which.", {Shape::word({"oak", "fir"}), Shape::boolean()}},
                                {"trees", "In it.", {Shape::list({Shape::map(tree_keys)})}},
                                {"birds", "By name.", {Shape::map_of({Shape::duration()})}}},
                               {{"depth", "kind"}}};
  return kTable;
}

void check_sentences(const KeyTable& table, std::set<std::string_view>& seen);

void check_sentences(const std::vector<Shape>& shapes, std::set<std::string_view>& seen) {
  for (const Shape& shape : shapes) {
    if (shape.table != nullptr) check_sentences(shape.table(), seen);
    check_sentences(shape.of, seen);
  }
}

void check_sentences(const KeyTable& table, std::set<std::string_view>& seen) {
  if (!seen.insert(table.name).second) return;
  std::set<std::string_view> names;
  for (const Key& key : table.keys) {
    INFO(table.name << "." << key.name);
    CHECK(names.insert(key.name).second);
    CHECK_FALSE(key.shapes.empty());
    CHECK(key.says.size() > 3);
    CHECK(key.says.back() == '.');
    for (const Shape& shape : key.shapes)
      CHECK(shape.least <= shape.most);
    check_sentences(key.shapes, seen);
  }
  for (const auto& group : table.needs) {
    for (const std::string_view key : group)
      CHECK(names.contains(key));
  }
}

}  // namespace

TEST_CASE("json schema: a table with itself in it", "[rules][json_schema]") {
  const Json schema = json_schema(tree_keys(), {.title = "trees"});
  CHECK(schema["$ref"].string() == "#/$defs/tree");
  const Json& tree = schema["$defs"]["tree"];
  CHECK(tree["additionalProperties"] == Json(false));
  CHECK(tree["required"].dump() == R"(["name"])");
  CHECK(tree["allOf"].dump() == R"([{"anyOf":[{"required":["depth"]},{"required":["kind"]}]}])");
  const Json& of = tree["properties"];
  CHECK(of["name"].dump() == R"({"description":"Its name.","$ref":"#/$defs/text"})");
  CHECK(
      of["depth"].dump() ==
      R"({"description":"How deep. Default: 3.","anyOf":[{"type":"integer","minimum":1,"maximum":9},{"type":"string","pattern":"^-?[0-9]+$"},{"$ref":"#/$defs/variable"}]})");
  CHECK(
      of["kind"].dump() ==
      R"({"description":"Which.","anyOf":[{"anyOf":[{"enum":["oak","fir"]},{"$ref":"#/$defs/variable"}]},{"$ref":"#/$defs/boolean"}]})");
  CHECK(of["trees"].dump() == R"({"description":"In it.","type":"array","items":{"$ref":"#/$defs/tree"}})");
  CHECK(of["birds"].dump() ==
        R"({"description":"By name.","type":"object","additionalProperties":{"$ref":"#/$defs/duration"}})");
  const Json plain = json_schema(tree_keys(), {.title = "trees", .variables = false});
  CHECK(plain["$defs"]["variable"].is_null());
  CHECK(plain.dump().find("variable") == std::string::npos);
}

TEST_CASE("keys: each has a sentence and a kind, and what is needed is there", "[rules][json_schema]") {
  std::set<std::string_view> seen;
  for (const auto table :
       {pattern_keys, rule_keys, rule_file_keys, route_keys, time_interval_keys, test_file_keys})
    check_sentences(table(), seen);
  CHECK(seen.size() > 15);
}

TEST_CASE("keys: those of the table are known, others are a problem with a suggestion",
          "[rules][json_schema]") {
  Problems problems;
  Reading reading;
  reading.problems = &problems;
  const auto root = yaml::parse("f.yaml", "{nmae: a, kind: oak, depth: 12, 5x: b}", problems);
  const Fields fields(*root, "", reading, tree_keys(), {}, {"5x"});
  CHECK(fields.word("kind") == 0);
  CHECK_FALSE(fields.integer("depth"));
  CHECK(fields.knows("birds"));
  CHECK_FALSE(fields.knows("bids"));
  std::string said;
  for (const Problem& problem : problems.sorted())
    said += problem.format() + "\n";
  CHECK(said ==
        "f.yaml:1:2: unknown key \"nmae\"; did you mean \"name\"?\n"
        "f.yaml:1:29: \"depth\" is a whole number from 1 to 9, not \"12\"\n");
}

#include "rules/problems.h"

#include <catch2/catch.hpp>

using namespace logbell::rules;

TEST_CASE("problems: one line says where, what, why and what to do", "[rules][problems]") {
  Problems problems;
  problems.error({"api.yaml", 12, 11}, "rule \"HighErrorRate\"", "unknown field \"fro\"",
                 "did you mean \"for\"?");
  CHECK(problems.all()[0].format() ==
        "api.yaml:12:11: rule \"HighErrorRate\": unknown field \"fro\"; did you mean \"for\"?");
}

TEST_CASE("problems: a warning is no error, and says that it is one", "[rules][problems]") {
  Problems problems;
  problems.warn({"a.yaml", 3, 0}, "", "sink \"b\" is used by nothing");
  CHECK_FALSE(problems.has_errors());
  CHECK(problems.warnings() == 1);
  CHECK(problems.all()[0].format() == "a.yaml:3: warning: sink \"b\" is used by nothing");
  problems.error({}, "", "c");
  CHECK(problems.has_errors());
  CHECK(problems.errors() == 1);
}

TEST_CASE("problems: sorted by place, exact repetitions once", "[rules][problems]") {
  Problems problems;
  problems.error({"a.yaml", 10, 1}, "", "late");
  problems.error({"a.yaml", 2, 5}, "", "early");
  problems.error({"a.yaml", 10, 1}, "", "late");
  const auto sorted = problems.sorted();
  REQUIRE(sorted.size() == 2);
  CHECK(sorted[0].reason == "early");
  CHECK(sorted[1].reason == "late");
}

TEST_CASE("problems: a slip of the finger is recognised, another word is not", "[rules][problems]") {
  const std::vector<std::string> keys{"for", "expr", "keep_firing_for", "sinks", "labels"};
  CHECK(did_you_mean("fro", keys) == "did you mean \"for\"?");
  CHECK(closest("sink", keys) == "sinks");
  CHECK(closest("keep_fireing_for", keys) == "keep_firing_for");
  CHECK(closest("webhook", keys).empty());
  CHECK(did_you_mean("x", keys).empty());
}

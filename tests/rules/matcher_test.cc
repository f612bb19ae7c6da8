// LabelMatcher: Alertmanager's text form and the four operators.
#include "rules/matcher.h"

#include <catch2/catch.hpp>

using namespace logbell::rules;

TEST_CASE("matcher: reads Alertmanager's text form", "[rules][matcher]") {
  const struct {
    const char* why;
    const char* text;
    const char* value;
    bool matches;
  } rows[] = {
      {"quoted", R"(severity="critical")", "critical", true},
      {"unquoted, with blanks", " severity = critical ", "critical", true},
      {"a missing label is empty", R"(severity!="critical")", "", true},
      {"a regex is anchored", R"(severity=~"crit")", "critical", false},
      {"alternatives", R"(severity=~"crit.*|page")", "critical", true},
      {"negated regex", R"(severity!~"warn.*")", "warning", false},
      {"an escape of a regex stays", R"(severity=~"a\d")", "a1", true},
  };
  for (const auto& row : rows) {
    INFO(row.why);
    const auto matcher = LabelMatcher::parse(row.text);
    REQUIRE(matcher.has_value());
    CHECK(matcher->matches(row.value) == row.matches);
    const auto again = LabelMatcher::parse(matcher->format());
    REQUIRE(again.has_value());
    CHECK(again->value == matcher->value);
  }
  for (const char* bad :
       {"", "severity", "=x", "severity=\"a", "severity=~\"(\"", "sev erity=a", "a={b}", "a!b"}) {
    INFO(bad);
    CHECK_FALSE(LabelMatcher::parse(bad).has_value());
  }
}

TEST_CASE("matcher: the values that it names, where it names them", "[rules][matcher]") {
  using Values = std::vector<std::string>;
  const auto named = [](const char* text) { return LabelMatcher::parse(text)->named_values(); };
  CHECK(named("team=db") == Values{"db"});
  CHECK(named("team!=db") == Values{"db"});
  CHECK(named("team=\"a.b\"") == Values{"a.b"});
  CHECK(named("team=~\"db|web|\"") == Values{"db", "web", ""});
  CHECK(named("team!~\"db\"") == Values{"db"});
  CHECK_FALSE(named("team=~\"d.*|web\""));
  CHECK_FALSE(named("team=~\"(db|web)\""));
}

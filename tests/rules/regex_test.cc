// Regex: RE2's answers, byte by byte where a line is not UTF-8, and hints for other dialects.
#include "rules/regex.h"

#include <array>
#include <string>

#include <catch2/catch.hpp>

using logbell::rules::Regex;

TEST_CASE("regex: matches anywhere, anchored matches the whole", "[rules][regex]") {
  CHECK(Regex::compile("b+")->matches("abbc"));
  CHECK_FALSE(Regex::compile("b+")->matches("ac"));
  const Regex whole = *Regex::compile("a|b", Regex::Options{true});
  CHECK(whole.matches("b"));
  CHECK_FALSE(whole.matches("ab"));
}

TEST_CASE("regex: a line that is not UTF-8 is matched byte by byte", "[rules][regex]") {
  const Regex dot = *Regex::compile("a.b$");
  CHECK(
      dot.matches("a\xff"
                  "b"));
  CHECK(
      dot.matches("a\xc3\xa4"
                  "b"));  // one character
  CHECK_FALSE(
      Regex::compile("^a.b$")->matches("a\xc3\xa4\xff"
                                       "b"));  // three bytes where the text is bytes
  // An overlong or surrogate encoding is not UTF-8 either.
  CHECK(
      Regex::compile("^a..b$")->matches("a\xc0\xaf"
                                        "b"));
}

TEST_CASE("regex: captures name their groups, and those that took no part have no data", "[rules][regex]") {
  const Regex regex = *Regex::compile(R"(queue (?P<queue>\S+)( id=(?P<id>\d+))?)");
  CHECK(regex.group_count() == 3);
  CHECK(regex.group_index("id") == 3);
  CHECK_FALSE(regex.group_index("nobody").has_value());
  std::array<std::string_view, 4> groups;
  REQUIRE(regex.captures("x queue orders y", groups));
  CHECK(groups[0] == "queue orders");
  CHECK(groups[1] == "orders");
  CHECK(groups[3].data() == nullptr);
}

TEST_CASE("regex: what RE2 refuses comes with its reason and a hint", "[rules][regex]") {
  const struct {
    const char* why;
    const char* pattern;
    const char* hint;
  } rows[] = {
      {"look-ahead", "a(?=b)", "look-ahead"},
      {"look-behind", "(?<=a)b", "look-behind"},
      {"a group named as in Java", "(?<id>a)", "(?P<name>"},
      {"a back-reference", R"((a)\1)", "back-references"},
      {"a repetition that is too large", "a{2000}", "1000"},
      {"no hint for a plain slip", "a(b", ""},
  };
  for (const auto& row : rows) {
    INFO(row.why);
    const auto result = Regex::compile(row.pattern);
    REQUIRE_FALSE(result.has_value());
    CHECK_FALSE(result.error().reason.empty());
    CHECK(result.error().hint.find(row.hint) != std::string::npos);
    if (*row.hint == '\0') CHECK(result.error().hint.empty());
  }
  // Balanced only by the anchoring around it.
  CHECK_FALSE(Regex::compile("a)(b", Regex::Options{true}).has_value());
}

// Regex: RE2's answers, byte by byte where a line is not UTF-8, and hints for other dialects.
#include "rules/regex.h"

#include <array>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

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

TEST_CASE("regex: a character by its number is the character itself, whatever the line is",
          "[rules][regex]") {
  for (const char* const pattern : {R"(a\x{4e2d}b)", R"(a[\x{4e00}-\x{4eff}]+b)", R"(a[^\x{3b1}]b)"}) {
    INFO(pattern);
    const auto regex = Regex::compile(pattern);
    REQUIRE(regex.has_value());
    CHECK(
        regex->matches("a\xE4\xB8\xAD"
                       "b"));
    CHECK(regex->pattern() == pattern);
  }
  CHECK(Regex::compile(R"(a\x{4e2d}b)")
            ->matches("\xff a\xE4\xB8\xAD"
                      "b"));
  CHECK(Regex::compile(R"(\Qx\x{4e2d}\E)")->matches("\xff x\\x{4e2d}"));
  CHECK(Regex::compile(R"(x\\x{3})")->matches("\xff x\\xxx"));
  // In octal it could not be looked for where the line is bytes.
  CHECK_FALSE(Regex::compile(R"(a\777)").has_value());
  CHECK(Regex::compile(R"(a\377b)")->matches("a\xff" "b"));
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
      {"a repetition that ends below its beginning", "a{12,3}", "write {3,12}"},
      {"repetitions inside each other", "(a{100}){100}", "write + or *"},
      {"a back-reference by name", "(?P<n>a)(?P=n)", "back-references"},
      {"a back-reference by name, as in Java", R"((?P<n>a)\k<n>)", "back-references"},
      {"the end as in PCRE", R"(a\Z)", "write \\z, or $"},
      {"a horizontal blank", R"(a\hb)", "[ \\t]"},
      {"a character by its number", R"(\u00e4)", "\\x{00e4}"},
      {"a comment", "a(?#note)b", "in the YAML"},
      {"the verbose flag", "(?x) a b", "no flag x"},
      {"the verbose flag among others", "(?ix) a b", "no flag x"},
      {"a possessive repetition", "a++b", "never backtracks"},
      {"what only looks like a look-ahead is not blamed", R"([(?=]a\hb)", "[ \\t]"},
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
  const auto error_of = [](const char* pattern) { return Regex::compile(pattern).error(); };
  CHECK(error_of("a{12,3}").reason == "the repetition {12,3} ends below where it begins");
  CHECK(error_of("(a{100}){100}").reason.find("together they count beyond 1000") != std::string::npos);
  CHECK(error_of("(a{100}){100}").by_re2);
  CHECK(error_of("(?P<n>a)(?P=n)").offset == 8);
  CHECK(error_of(R"(\\1(a)\1)").offset == 6);
  CHECK(error_of(R"([(?=](?=))").offset == 5);
  // Balanced only by the anchoring around it.
  CHECK_FALSE(Regex::compile("a)(b", Regex::Options{true}).has_value());
}

TEST_CASE("regex: two groups of one name would lose a label, and are refused", "[rules][regex]") {
  const auto twice = Regex::compile(R"((?P<a>x\d)|(?P<b>z)|(?P<a>y\d))");
  REQUIRE_FALSE(twice.has_value());
  CHECK(twice.error().format() ==
        "is not a regex to count with: two groups have the name `a`, and only one of them would be read");
  CHECK(twice.error().hint == "put one group around the alternatives, as in (?P<a>…|…)");
  CHECK(twice.error().offset == 20);
  CHECK(Regex::compile(R"((?P<a>x\d|y\d))").has_value());
}

TEST_CASE("regex: the bytewise form is there for whoever asks first, in any thread", "[rules][regex]") {
  // What a large UTF-8 automaton is made of, and what has other groups or anchors.
  for (const char* pattern : {R"(^.{3} (?P<a>\pL+)(\d)?$)", R"((?i)[^é]k(?P<a>s+)\b.*)", R"([[:^alpha:]](?P<a>[\w\W]{2,9}?)\z)"}) {
    INFO(pattern);
    const Regex regex = *Regex::compile(pattern);
    const auto first_group = [&](const Regex& of) {
      std::array<std::string_view, 2> groups;
      return of.captures("\xff-\xe9 kss", groups) ? std::string(groups[1]) : std::string("none");
    };
    const std::string wanted = first_group(*Regex::compile(pattern));
    std::array<std::string, 4> got;
    std::vector<std::thread> threads;
    for (std::string& each : got)
      threads.emplace_back([&] { each = first_group(regex); });
    for (std::thread& thread : threads)
      thread.join();
    for (const std::string& each : got)
      CHECK(each == wanted);
    CHECK(wanted != "none");
  }
}

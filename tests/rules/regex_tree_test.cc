// Regex trees and the fragments that come of them.
#include "rules/regex_tree.h"

#include <algorithm>
#include <string>

#include <catch2/catch.hpp>

#include "rules/fragment.h"

using namespace logbell::rules;

namespace {

// A run as a class each, those of one byte as it is: "took[6-9][0-9]".
std::string shown(const Run& run) {
  std::string out;
  for (const auto& bytes : run) {
    std::string all;
    for (unsigned byte = 0; byte < 256; ++byte) {
      if (bytes[byte]) all += byte == '\n' ? '/' : static_cast<char>(static_cast<unsigned char>(byte));
    }
    out += all.size() == 1 ? all : "[" + all + "]";
  }
  return out;
}

std::string shown(const Need& need) {
  std::string out;
  for (const Run& run : need.runs)
    out += (out.empty() ? "" : " ") + shown(run);
  for (const auto& alternatives : need.any) {
    std::string any;
    for (const Need& each : alternatives)
      any += (any.empty() ? "" : " | ") + shown(each);
    out += (out.empty() ? "" : " ") + ("(" + any + ")");
  }
  return out;
}

std::string needs(std::string_view regex) {
  const auto tree = parse_regex(regex);
  REQUIRE(tree);
  return shown(need_of(*tree));
}

}  // namespace

TEST_CASE("fragment: what every match holds, in runs", "[rules][fragment]") {
  CHECK(needs("ab") == "ab");
  CHECK(needs(".*ab+c.*") == "ab bc");
  CHECK(needs("x?ab(?P<rest>.*)$") == "ab [/\r]");
  CHECK(needs("status=(?P<status>5[01])") == "status=5[01]");
  CHECK(needs("a(?:bc|d*e)f") == "a f (bc | e)");
  CHECK(needs("a{3}b{2,}c") == "aaabb bbc");
  CHECK(needs("^^\\Ax\\by$") == "/xy[/\r]");
  CHECK(needs("a{0}b(?:c){1}") == "bc");
  CHECK(needs("a|b") == "[ab]");
}

TEST_CASE("fragment: a character beyond ASCII that may be several is none", "[rules][fragment]") {
  CHECK(needs("x\xC3\xA9y") == "x\xC3\xA9y");
  CHECK(needs("x\xC3\xA9+y") == "x y");
  CHECK(needs("a.c") == "a c");
  CHECK(needs("(?i:a)a") == "[Aa]a");
  CHECK(needs("x\\x{e9}y") == "x y");
}

TEST_CASE("fragment: k and s may be folded from beyond ASCII, and it is said", "[rules][fragment]") {
  CHECK(needs("(?i)ok") == "[Oo][Kk]");
  CHECK(parse_regex("(?i)ok")->folds);
  CHECK(parse_regex("x(?i:s)")->folds);
  CHECK_FALSE(parse_regex("(?i)error|ok(?-i)s")->folds == false);
  CHECK_FALSE(parse_regex("(?i)error(?-i)ks")->folds);
}

TEST_CASE("fragment: what is nested too deep, or written out too often, ends in time", "[rules][fragment]") {
  const std::string open(500, '(');
  const std::string close(500, ')');
  CHECK_FALSE(parse_regex(open + "a" + close));
  CHECK(parse_regex("((((a))))"));
  std::string nested = "abcd";
  for (int i = 0; i < 60; ++i)
    nested.insert(0, "(?:").append("x?)+");
  CHECK_FALSE(need_of(*parse_regex(nested)).runs.empty());
}

TEST_CASE("fragment: what is rare in the log is looked for, and long ones where nothing is known",
          "[rules][fragment]") {
  const Need need = need_of(*parse_regex("service=api .*status=5\\d\\d"));
  CHECK(shown(weigh(need, SampleCounts()).front().clause.front().run) == "service=api ");
  SampleCounts counts;
  counts.want(need);
  counts.count("service=api status=200\nservice=api status=201\n");
  const std::vector<WeighedClause> all = weigh(need, counts);
  CHECK(shown(all.front().clause.front().run) == "status=5[0123456789][0123456789]");
  CHECK(all.front().found < 1);
  CHECK(all.back().found > 1.9);
  CHECK(std::is_sorted(all.begin(), all.end(),
                       [](const auto& a, const auto& b) { return a.cost() < b.cost(); }));
}

TEST_CASE("fragment: of alternatives each has one, or none is looked for", "[rules][fragment]") {
  const auto clauses = [](std::string_view regex) {
    return weigh(need_of(*parse_regex(regex)), SampleCounts());
  };
  CHECK(clauses("(?:panic|fatal) (?:at|in) ").size() == 1);
  CHECK(clauses("panic|fatal").front().clause.size() == 2);
  CHECK(clauses("panic|a.b").empty());
}

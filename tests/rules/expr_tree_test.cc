// How an expression was read.
#include "rules/expr_tree.h"

#include <string>

#include <catch2/catch.hpp>

using namespace logbell::rules;

namespace {

std::string tree(const std::string& text) {
  std::string out;
  for (const std::string& line : expr_tree(**parse_expr(text)))
    out += line + "\n";
  return out;
}

}  // namespace

TEST_CASE("expr tree: which operator binds tighter is seen", "[rules][expr_tree]") {
  CHECK(tree("count_over_time(a[5m])") == "count_over_time(a[5m])\n");
  CHECK(tree("sum(count_over_time(a[5m])) / sum(count_over_time(b[5m])) > 0.05 and "
             "sum(count_over_time(b[5m])) >= 100") ==
        "and\n"
        "  >\n"
        "    /\n"
        "      sum(count_over_time(a[5m]))\n"
        "      sum(count_over_time(b[5m]))\n"
        "    0.05\n"
        "  >=\n"
        "    sum(count_over_time(b[5m]))\n"
        "    100\n");
  CHECK(tree("2 ^ 3 ^ 2 > bool 1 - (1 - 1)") ==
        "> bool\n  ^\n    2\n    ^\n      3\n      2\n  -\n    1\n    -\n      1\n      1\n");
}

TEST_CASE("expr tree: what holds an operator shows it", "[rules][expr_tree]") {
  CHECK(tree("sum by (q) (count_over_time(a[5m]) > 3) unless on (q) count_over_time(b[1m]) == 0") ==
        "unless on (q)\n"
        "  sum by (q) (…)\n"
        "    >\n"
        "      count_over_time(a[5m])\n"
        "      3\n"
        "  ==\n"
        "    count_over_time(b[1m])\n"
        "    0\n");
  CHECK(tree("topk(2, count_over_time(a[5m]) + 1) > 1") ==
        ">\n  topk(2, …)\n    +\n      count_over_time(a[5m])\n      1\n  1\n");
  CHECK(tree("-(count_over_time(a[5m]) + 1) < 0") ==
        "<\n  -…\n    +\n      count_over_time(a[5m])\n      1\n  0\n");
}

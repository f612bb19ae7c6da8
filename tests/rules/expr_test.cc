// Expr: PromQL's grammar and precedence, types, what can never be true, polarity, canonical text.
#include "rules/expr.h"

#include <functional>
#include <random>

#include <catch2/catch.hpp>

#include "rules/expr_text.h"

using namespace logbell::rules;

namespace {

std::vector<PatternSpec> patterns() {
  std::vector<PatternSpec> all(4);
  all[0].name = "errors";
  all[0].labels = {"queue", "zone"};
  all[1].name = "requests";
  all[1].labels = {"status"};
  all[2].name = "plain";
  all[3].name = "request";
  all[3].labels = {"status"};
  all[3].value = "took";
  return all;
}

std::string canonical(const char* text) {
  const auto parsed = parse_expr(text);
  return parsed ? format_expr(**parsed) : "error: " + parsed.error().reason;
}

// Everything in brackets, so that precedence shows.
std::string bracketed(const Expr& expr) {
  if (expr.kind == Expr::Kind::kBinary) {
    Expr copy = expr;
    auto number = std::make_shared<Expr>();
    copy.left = copy.right = number;
    const std::string shape = format_expr(copy);  // "0 op 0"
    return "(" + bracketed(*expr.left) + shape.substr(1, shape.size() - 2) + bracketed(*expr.right) + ")";
  }
  if (expr.kind == Expr::Kind::kNegate) return "(-" + bracketed(*expr.left) + ")";
  if (expr.kind == Expr::Kind::kParen) return bracketed(*expr.left);
  return format_expr(expr);
}

ExprError bind_error(const char* text) {
  const auto parsed = parse_expr(text);
  if (!parsed) return parsed.error();
  const auto done = bind_expr(*parsed, patterns());
  return done ? ExprError{0, "", ""} : done.error();
}

ExprPtr good(const char* text) {
  const auto parsed = parse_expr(text);
  REQUIRE(parsed.has_value());
  const auto done = bind_expr(*parsed, patterns());
  INFO(text << ": " << (done ? "" : done.error().reason));
  REQUIRE(done.has_value());
  return *done;
}

}  // namespace

TEST_CASE("expr: parts that somebody else writes", "[rules][expr]") {
  const PartText counts = [](const Expr& part) -> std::optional<std::string> {
    if (part.kind == Expr::Kind::kRangeCall) return part.pattern + ":count";
    return std::nullopt;
  };
  const auto written = [&](const char* text) { return format_expr(**parse_expr(text), counts); };
  CHECK(written("-(count_over_time(a[5m])+rate(b[5m]))*2>1 and sum by(q)(count_over_time(a[5m]))>abs(rate(b[1m]))") ==
        "-(a:count + b:count) * 2 > 1 and sum by (q) (a:count) > abs(b:count)");
  CHECK(written("topk(2, count_over_time(a[5m])) > 1") == "topk(2, a:count) > 1");
  CHECK(written("clamp_min(count_over_time(a[5m]), scalar(rate(b[5m]))) > 1") == "clamp_min(a:count, scalar(b:count)) > 1");
}

TEST_CASE("expr: precedence is PromQL's", "[rules][expr]") {
  const struct {
    const char* why;
    const char* text;
    const char* expected;
  } rows[] = {
      {"product before sum", "1 + 2 * 3", "(1 + (2 * 3))"},
      {"left to right", "1 - 2 - 3", "((1 - 2) - 3)"},
      {"power is right-associative", "2 ^ 3 ^ 2", "(2 ^ (3 ^ 2))"},
      {"power binds tighter than a sign", "-2 ^ 2", "(-(2 ^ 2))"},
      {"a sign binds tighter than a product", "-2 * 3", "((-2) * 3)"},
      {"comparison below arithmetic", "1 + 2 > 3 * 4", "((1 + 2) > (3 * 4))"},
      {"brackets win", "(1 + 2) * 3", "((1 + 2) * 3)"},
  };
  for (const auto& row : rows) {
    INFO(row.why);
    const auto parsed = parse_expr(row.text);
    REQUIRE(parsed.has_value());
    CHECK(bracketed(**parsed) == row.expected);
  }
  const auto sets = parse_expr(
      "rate(plain[1m]) > 1 or rate(plain[2m]) > 2 and rate(plain[3m]) > 3 unless rate(plain[4m]) > 4");
  REQUIRE(sets.has_value());
  CHECK(bracketed(**sets) ==
        "((rate(plain[1m]) > 1) or (((rate(plain[2m]) > 2) and (rate(plain[3m]) > 3)) unless "
        "(rate(plain[4m]) > 4)))");
}

TEST_CASE("expr: one meaning has one text", "[rules][expr]") {
  CHECK(canonical("sum  by(queue)(count_over_time( errors [60s] ))>=3 # note") ==
        "sum by (queue) (count_over_time(errors[1m])) >= 3");
  CHECK(canonical("sum(count_over_time(errors[1m])) by (zone, queue) > 0x10") ==
        "sum by (queue, zone) (count_over_time(errors[1m])) > 16");
  CHECK(canonical("count_over_time(requests{status=~'5..',status!=\"501\"}[5m]) > bool 1e2") ==
        "count_over_time(requests{status!=\"501\", status=~\"5..\"}[5m]) > bool 100");
  CHECK(canonical("rate(errors[1h30m]) > on(queue) rate(errors[90m])") ==
        "rate(errors[1h30m]) > on (queue) rate(errors[1h30m])");
  CHECK(canonical("clamp( rate(errors[1m]),-1,scalar( sum(rate(plain[60s])) )*2 )>vector(1)") ==
        "clamp(rate(errors[1m]), -1, scalar(sum(rate(plain[1m]))) * 2) > vector(1)");
  CHECK(canonical("baseline_over_time( errors{queue='a'}[5m],24h,7 )>1") ==
        "baseline_over_time(errors{queue=\"a\"}[5m], 1d, 7) > 1");
  CHECK(canonical("m_of_n( rate(errors[1m])>1,3,5,90s )") == "m_of_n(rate(errors[1m]) > 1, 3, 5, 1m30s)");
  CHECK(canonical("hour(  ) >= 9 and hour(vector(time())) < 17 and month(vector(0)) == 1") ==
        "hour() >= 9 and hour() < 17 and month(vector(0)) == 1");
  CHECK(canonical("time()-60 > 1") == "time() - 60 > 1");
  CHECK(canonical("quantile_over_time( .5,request{status=\"a\"} [60s]offset 1h) > 1") ==
        "quantile_over_time(0.5, request{status=\"a\"}[1m] offset 1h) > 1");
  CHECK(canonical("TOPK( 2+1 ,rate(errors[1m]) )by(zone) >1") ==
        "topk by (zone) (2 + 1, rate(errors[1m])) > 1");
  CHECK(canonical("rate( plain[60s]  offset 60m)>rate(plain[1m] OFFSET 0s)") ==
        "rate(plain[1m] offset 1h) > rate(plain[1m])");
  CHECK(canonical("unanswered_over_time( 'id',plain,errors{queue='a'} [60s] )>0") ==
        "unanswered_over_time(\"id\", plain, errors{queue=\"a\"}[1m]) > 0");
  CHECK(canonical("new_template(errors {queue = \"a\"}[7d])>=2") == "new_template(errors{queue=\"a\"}[1w]) >= 2");
  CHECK(canonical("sum by(queue)(first_seen(\"class\",errors[7d]))") == "sum by (queue) (first_seen(\"class\", errors[1w]))");
  CHECK(canonical("count_over_time(errors[1m]) > 5m") == "count_over_time(errors[1m]) > 300");
}

TEST_CASE("expr: what is wrong is said, with its place and the fix", "[rules][expr]") {
  const struct {
    const char* text;
    const char* reason;
    const char* fix;
    std::size_t offset;
  } rows[] = {
      {"", "empty", "count_over_time", 0},
      {"errors[1m] > 3", "alone is a list of matches", "count_over_time(errors[1m])", 0},
      {"errors > 3", "alone is a list of matches", "count_over_time(errors[5m])", 0},
      {"count_over_time(errors) > 3", "a window is missing", "errors[5m]", 22},
      {"count_over_time(errors[5]) > 3", "needs a unit", "[5s] or [5m]", 23},
      {"count_over_time(errors[0s]) > 3", "no length", "as in [30s]", 23},
      {"count_over_time(errors[32d]) > 3", "longer than", "Prometheus", 23},
      {"count_over_tim(errors[5m]) > 3", "unknown function", "count_over_time", 0},
      {"increase(errors[5m]) > 3", "`increase` is not there yet", "count_over_time(PATTERN[5m]) is the same",
       0},
      {"avg_over_time(errors[5m]) > 3", "is about values, and the pattern `errors` has no `value:`",
       "`value: took`", 0},
      {"1 + quantile_over_time(0.9, errors[5m]) > 3", "is about values", "", 4},
      {"quantile_over_time(request[5m]) > 3", "wants a number first", "quantile_over_time(0.99, PATTERN[5m])",
       19},
      {"quantile_over_time(request[5m], 0.9) > 3", "wants a number first", "", 19},
      {"quantile_over_time(rate(request[5m]), request[5m]) > 3", "wants a number first, and series", "", 19},
      {"quantile_over_time(0.9) > 3", "`)` where `,` is expected", "", 22},
      {"max_over_time(request) > 3", "a window is missing", "request[5m]", 21},
      {"histogram_quantile(0.9, request[5m]) > 3", "is not there yet", "quantile_over_time(0.99", 0},
      {"frobnicate(errors[5m]) > 3", "unknown function", "there are count_over_time", 0},
      {"flor(count_over_time(errors[5m])) > 3", "unknown function", "did you mean `floor`", 0},
      {"abs(errors[5m]) > 3", "alone is a list of matches", "count_over_time(errors[5m])", 4},
      {"abs(3) > 1", "`abs` wants series, and a number is given", "as in abs(", 4},
      {"abs() > 1", "`abs` takes 1 argument, and 0 are given", "as in abs(", 0},
      {"clamp(rate(errors[5m]), 1) > 1", "`clamp` takes 3 arguments, and 2 are given", "as in clamp(", 0},
      {"round(rate(errors[5m]), 1, 2) > 1", "`round` takes 1 or 2 arguments, and 3 are given", "", 0},
      {"clamp_max(rate(errors[5m]), rate(plain[5m])) > 1", "`clamp_max` wants a number here", "scalar(…)",
       28},
      {"abs(rate(errors[5m]),) > 1", "`)` where an argument is expected", "", 21},
      {"baseline_over_time(errors[5m]) > 1", "wants behind the window how long before it compares", "1d, 7", 29},
      {"baseline_over_time(errors[5m], 7, 1d) > 1", "wants a duration here: how far apart", "1d, 7", 31},
      {"baseline_over_time(errors[5m], 1d) > 1", "`)` where `,` is expected", "", 33},
      {"baseline_over_time(errors[5m], 1d, 0) > 1", "of how many windows before now it takes the mean: 1 to 60", "", 35},
      {"baseline_over_time(errors[5m], 1d, 1.5) > 1", "of how many windows", "", 35},
      {"baseline_over_time(errors[5m], 1d, 1h) > 1", "of how many windows", "", 35},
      {"baseline_over_time(errors[5m], 1w, 5) > 1", "no further back than 4w", "", 35},
      {"baseline_over_time(errors[5m], 1m, 5) > 1", "that are 1m apart overlap", "", 31},
      {"baseline_over_time(errors[5m] offset 1h, 1d, 5) > 1", "looks back by itself", "", 0},
      {"m_of_n(baseline_over_time(errors[5m], 1d, 7) > 1, 3, 5, 1m)", "would look back twice", "outside", 7},
      {"m_of_n(rate(errors[5m]) > 1, 3, 5)", "`m_of_n` takes 4 arguments, and 3 are given", "as in m_of_n(", 0},
      {"m_of_n(rate(errors[5m]), 3, 5, 1m)", "compares nothing", "> 3", 0},
      {"m_of_n(rate(errors[5m]) > 1, 6, 5, 1m)", "`m_of_n` of 6 of 5: the first is at least 1", "as in m_of_n(", 29},
      {"m_of_n(rate(errors[5m]) > 1, 0, 5, 1m)", "`m_of_n` of 0 of 5", "", 29},
      {"m_of_n(rate(errors[5m]) > 1, 1.5, 5, 1m)", "`m_of_n` of 1.5 of 5", "", 29},
      {"m_of_n(rate(errors[5m]) > 1, 3, 61, 1m)", "no less and at most 60", "", 29},
      {"m_of_n(rate(errors[5m]) > 1, 3, 5, 0)", "wants the time between two looks here", "", 35},
      {"m_of_n(rate(errors[5m]) > 1, 3, 5, 8d)", "no further back than 4w", "", 35},
      {"m_of_n(rate(errors[5m]) > 1, 3, 1 + 4, 1m)", "wants numbers here that stand there", "", 34},
      {"m_of_n(m_of_n(rate(errors[5m]) > 1, 3, 5, 1m), 3, 5, 1m)", "`m_of_n` of a `m_of_n`", "`and`", 7},
      {"m_of_n(rate(errors[5m]) > 1, 3, 5, 1m) > 5", "can never be true", "", 39},
      {"time(1) > 3", "`time` takes no arguments, and 1 is given", "as in time()", 0},
      {"hour(3) > 3", "`hour` wants series", "as in hour()", 5},
      {"hour() >= 9", "names no pattern: it is about no line", "count something", 7},
      {"count_over_time(plain[5m]) == 0 and time() > 3", "joins two sets", "", 32},
      {"vector(rate(plain[5m])) > 1", "`vector` wants a number here", "scalar(…)", 7},
      {"scalar(count_over_time(plain[5m])) > 3", "only series fire", "leave out scalar", 35},
      {"vector(scalar(count_over_time(plain[5m]) > 3))", "compares nothing", "> 3", 0},
      {"count_over_time(errors[5m]) and scalar(count_over_time(plain[5m]))", "joins two sets", "", 28},
      {"count_over_time(plain[5m]) = 1", "`=` where the end of the expression is expected", "write `==`", 27},
      {"count_over_time(plain[5m]) => 1", "`=>` where", "write `>=`", 27},
      {"count_over_time(plain[5m]) =< 1", "`=<` where", "write `<=`", 27},
      {"count_over_time(plain[5m]) > 1 && 2 > 1", "`&&` where", "write `and`", 31},
      {"count_over_time(plain[5m]) > 1 || 2 > 1", "`||` where", "write `or`", 31},
      {"count_over_time(errors{queue=a}[5m]) > 1", "`a` where a value in quotes", "write queue=\"a\"", 29},
      {"count_over_time(errors{queue==\"a\"}[5m]) > 1", "`==` where one of", "write `=`", 28},
      {"rate(errors[5m]) / group_left rate(plain[5m]) > 1", "`group_left` belongs behind `on (…)` or `ignoring (…)`",
       "on (LABEL) group_left () …", 19},
      {"rate(errors[5m]) / on (queue) GROUP_RIGHT (zone, queue) rate(plain[5m]) > 1",
       "the label queue is in `on` and in `group_right`", "leave it out of one", 30},
      {"rate(errors[5m]) > 1 and on (queue) group_left () rate(errors[5m]) > 1", "`group_left` does not go with `and`",
       "leave it out", 36},
      {"rate(errors[5m]) > 1 or on (queue) group_left rate(errors[5m]) > 1", "`group_left` does not go with `or`",
       "leave it out", 35},
      {"rate(errors[5m]) / on () group_left (rate(plain[5m])) > 1", "`(` where `,` is expected",
       "write `group_left ()` before what follows", 41},
      {"count_over_time(plain[5m]) > 1e400", "beyond what a number can hold", "Inf", 29},
      {"count_over_time(plain[5m]) > 0x", "hexadecimal", "0x1f", 29},
      {"count_over_time(plain[5m]) > 3q", "is not a number", "as in 3", 29},
      {"max_over_time(plain[5m]) > 4GiB", "`4GiB` is not a number", "in bytes: 4294967296", 27},
      {"count_over_time(plain[5m]) > 4GiX", "`4GiX` is not a number", "as in 3", 29},
      {"count_over_time(errors[5m] offset -1h) > 3", "negative offset", "an hour ago", 34},
      {"count_over_time(errors[5m] offset 1) > 3", "needs a unit", "offset 1m or offset 1h", 34},
      {"count_over_time(errors[5m] offset) > 3", "`)` where a duration", "", 33},
      {"count_over_time(errors[5m] offset 5w) > 3", "longer than 4w", "Prometheus", 34},
      {"count_over_time(errors[5m] offset 1h offset 1h) > 3", "`offset` belongs behind a window",
       "as in count_over_time(PATTERN[5m] offset 1h)", 37},
      {"count_over_time(errors[5m]) offset 1h > 3", "`offset` belongs behind a window", "", 28},
      {"count_over_time(errors offset 1h) > 3", "`offset` belongs behind a window; here `[`", "", 23},
      {"count_over_time(errors[5m] @ 0) > 3", "`@` is not supported", "leave it out; here `)`", 27},
      {"count_over_time(errors[5m:1m]) > 3", "subqueries", "the window alone", 25},
      {"count_over_time(errors[5m]) > 3 and 1", "joins two sets", "", 32},
      {"sum(3) > 1", "wants series", "", 0},
      {"topk(count_over_time(errors[5m])) > 3", "`topk` takes a number and series, and one of them",
       "topk(3, ", 0},
      {"topk(rate(errors[5m]), 3) > 3", "`topk` wants a number first, and series are given", "topk(3, ", 5},
      {"quantile by (queue) (0.9, 3) > 3", "`quantile` wants series", "quantile(0.9, ", 0},
      {"sum(1, rate(errors[5m])) > 3", "`,` where `)` is expected", "", 5},
      {"count_over_time(errors[5m]) + bool 3", "`bool` belongs to comparisons", "", 30},
      {"(count_over_time(errors[5m]) > 3", "ends where `)` is expected", "", 32},
      {"count_over_time(errors[5m]) > 3)", "where the end of the expression", "", 31},
      {"count_over_time(errors{queue=\"a}[5m]) > 3", "never ends", "", 29},
      {"count_over_time(errors{queue=~\"(\"}[5m]) > 3", "RE2 refuses", "", 23},
      {"count_over_time(errors{queue=~\"\\d\"}[5m]) > 3", "unknown escape", "backticks", 31},
      {"count_over_time(error[5m]) > 3", "no pattern `error`", "errors", 0},
      {"count_over_time(errors{que=\"a\"}[5m]) > 3", "names label `que`", "queue", 0},
      {"sum by (status) (count_over_time(errors[5m])) > 3", "names label `status`", "queue, zone", 0},
      {"count_over_time(errors[5m])", "compares nothing", "> 3", 0},
      {"1 > 2", "names no pattern", "", 2},
      {"first_seen(errors[5m])", "`first_seen` wants a capture's name in quotes first", "first_seen(\"error_class\", ", 11},
      {"first_seen(\"a.b\", errors[5m])", "\"a.b\" is not a label's name", "where: {a.b: {match: ", 11},
      {"first_seen(\"a b\", errors[5m])", "\"a b\" is not a label's name", "letters, digits", 11},
      {"first_seen(\"alertname\", errors[5m])", "logbell's own", "another name", 11},
      {"first_seen(\"a\")", "wants 1 pattern behind its key, and 0 are given", "as in first_seen(", 0},
      {"first_seen(\"a\", errors[5m], plain[5m])", "one window", "behind the last one", 22},
      {"first_seen(\"a\", errors, plain[5m])", "takes no more than 1 pattern", "as in", 24},
      {"new_template(\"a\", errors[5m])", "`new_template` takes no key", "first_seen(\"a\", PATTERN[7d])", 13},
      {"new_template(errors)", "a window is missing", "as in errors[7d]", 19},
      {"new_template(errors, plain[5m])", "`new_template` takes one pattern", "as in new_template(PATTERN[7d])", 19},
      {"new_template(errors[5m], plain[5m])", "`new_template` takes one pattern", "as in new_template(", 23},
      {"new_template(errors[5m] offset 1h)", "`new_template` has no offset", "leave it out", 24},
      {"new_template(rate(errors[5m]))", "wants a pattern with a window", "", 13},
      {"new_template()", "a pattern's name", "", 13},
      {"new_template(errors[32d])", "longer than 31d", "Prometheus", 20},
      {"new_template(errors{template=\"x\"}[5m])", "gives the label template, and cannot select by it", "`exclude:` of the pattern `errors`", 13},
      {"new_template(errors[5m]) < 1", "`new_template` is never below 1", "change the number", 25},
      {"new_templates(errors[5m])", "unknown function `new_templates`", "did you mean `new_template`?", 0},
      {"unanswered_over_time(\"a\", errors[5m])", "wants 2 patterns behind its key, and 1 is given", "ASKED, ANSWERED", 0},
      {"unanswered_over_time(\"a\", errors[5m], plain)", "has one window", "ASKED, ANSWERED[30m]", 32},
      {"sequence_over_time(\"a\", errors, plain)", "a window is missing", "plain[5m]", 37},
      {"sequence_over_time(\"a\", errors[5m])", "wants at least 2 patterns", "as in", 0},
      {"sequence_over_time(\"a\", errors, plain[5m] offset 1h)", "has no offset", "leave it out", 42},
      {"sequence_over_time(\"a\", errors, plain[32d])", "longer than 31d", "Prometheus", 38},
      {"sequence_over_time(\"a\", rate(plain[5m]), plain[5m])", "wants a pattern", "", 24},
      {"unanswered_over_time(\"a\", error, plain[5m])", "no pattern `error`", "errors", 26},
      {"unanswered_over_time(\"a\", errors{zon=\"x\"}, plain[5m])", "names label `zon`", "zone", 26},
      {"distinct_over_time(\"a\", errors[5m])", "compares nothing", "> 3", 0},
      {"unanswered_over_time(\"a\", errors, plain[5m]) > 1", "`unanswered_over_time` is always 1", "change the number", 45},
      {"first_seen(\"a\", errors[5m]) < 1", "`first_seen` is never below 1", "change the number", 28},
      {"sum by (zone) (unanswered_over_time(\"a\", errors, plain[5m]))", "names label `zone`", "there are: a", 0},
  };
  for (const auto& row : rows) {
    INFO(row.text);
    const ExprError error = bind_error(row.text);
    CHECK(error.reason.find(row.reason) != std::string::npos);
    CHECK(error.fix.find(row.fix) != std::string::npos);
    CHECK(error.offset == row.offset);
  }
  CHECK_FALSE(parse_expr(std::string(200, '(') + "1" + std::string(200, ')')).has_value());
}

TEST_CASE("expr: what can never be true is refused, what can is not", "[rules][expr]") {
  for (const char* never : {
           "count_over_time(plain[1m]) < 0",
           "count_over_time(plain[1m]) == 1.5",
           "count_over_time(plain[1m]) == -1",
           "rate(plain[1m]) < 0",
           "sum(count_over_time(errors[1m])) < 0",
           "absent_over_time(plain[1m]) > 1",
           "count_over_time(plain[1m]) > 5 and count_over_time(plain[1m]) < 3",
           "count_over_time(plain[1m]) > 3 and count_over_time(plain[1m]) < 3",
           "count_over_time(plain[1m]) > 5 < 3",
           "count_over_time(errors{queue=\"a\",queue=\"b\"}[1m]) > 0",
           "count_over_time(errors{queue=\"a\",queue!~\"a|b\"}[1m]) > 0",
           "sum(count_over_time(errors{queue=\"b\",queue!=\"b\"}[1m])) > 3",
           "sum(count_over_time(errors{queue=\"b\",queue=~\"c|d\"}[1m])) == 0",
           "sum(count_over_time(errors{queue!~\".*\"}[1m])) == 0",
           "count_over_time(plain[1m]) > 1 and (count_over_time(plain[1m]) < 0)",
           "0 > count_over_time(plain[1m])",
           "count_over_time(plain[1m]) > NaN",
           "NaN == count_over_time(plain[1m]) + 1",
           "count_over_time(plain[1m]) != count_over_time(plain[1m])",
           "count_over_time(plain[1m]) > (count_over_time(plain[60s]))",
           "count_over_time(plain[1m]) > 1 unless count_over_time(plain[1m]) > 1",
           "count_over_time(plain[1m]) > 3 unless count_over_time(plain[1m]) > 2",
           "count_over_time(plain[1m]) % 2 == 2",
           "count_over_time(plain[1m]) * 0 > 0",
           "0 * count_over_time(plain[1m]) == 1",
           "count_over_time(plain[1m]) / count_over_time(plain[1m]) > 2",
           "count_over_time(plain[1m]) > 10 and count_over_time(plain[5m]) < 5",
           "count_over_time(plain[5m]) < 5 and count_over_time(plain[1m]) >= 5",
           "count_over_time(plain[1m]) > 10 unless count_over_time(plain[5m]) > 5",
           "count_over_time(plain[5m]) < count_over_time(plain[1m])",
           "sum by (queue) (rate(errors[1m])) > sum by (queue) (rate(errors[1m]))",
           "sum by (queue) (count_over_time(errors[1m])) > sum by (queue) (count_over_time(errors[5m]))",
           "count(count_over_time(errors[1m])) == 0",
           "absent_over_time(plain[1m]) and count_over_time(plain[1m]) > 0",
           "absent_over_time(plain[5m]) and count_over_time(plain[1m]) > 0",
           "absent_over_time(plain[5m]) and present_over_time(plain[1m])",
           "count_over_time(plain[1m]) > 3 and count_over_time(plain[1m]) < 4",
           "3 < count_over_time(plain[1m]) and count_over_time(plain[1m]) < 3",
           "(count_over_time(plain[1m]) > bool 5) > 1",
           "count_over_time(plain[1m]) > Inf",
           "absent_over_time(plain[1m]) == 0",
           "count_over_time(plain[1m] offset 1h) < 0",
           "count_over_time(plain[5m] offset 1h) < count_over_time(plain[1m] offset 1h)",
           "count_over_time(plain[1m] offset 1h) > 5 and count_over_time(plain[1m] offset 60m) < 3",
           "topk(0, count_over_time(errors[1m])) > 3",
           "bottomk(0.5, count_over_time(errors[1m])) == 0",
           "topk(3, count_over_time(errors[1m])) < 0",
           "quantile(0.5, count_over_time(errors[1m])) < 0",
           "quantile(NaN, count_over_time(errors[1m])) > 0",
           "stddev(count_over_time(errors[1m])) < 0",
           "group(count_over_time(errors[1m])) > 1",
           "count_over_time(plain[1m]) == 0 and hour() > 23",
           "count_over_time(plain[1m]) == 0 and hour() >= 18 and hour() < 9",
           "count_over_time(plain[1m]) == 0 and day_of_week() == 7",
           "count_over_time(plain[1m]) == 0 and month() == 0",
           "count_over_time(plain[1m]) == 0 and minute(count_over_time(plain[1m])) == 60",
           "stddev_over_time(request[1m]) < 0",
           "max_over_time(request[1m]) > 5 < 3",
           "quantile_over_time(0.9, request[1m]) > quantile_over_time(0.9, request[60s])",
           "abs(count_over_time(plain[1m]) - 5) < 0",
           "abs(-count_over_time(plain[1m])) < 0",
           "ceil(rate(plain[1m])) == 1.5",
           "floor(rate(plain[1m])) < 0",
           "round(rate(plain[1m])) == 0.5",
           "round(rate(plain[1m]), 0) > 3",
           "clamp_max(count_over_time(plain[1m]), 5) > 5",
           "clamp_min(count_over_time(plain[1m]), 5) < 5",
           "clamp(count_over_time(plain[1m]), 2, 5) == 6",
           "clamp(count_over_time(plain[1m]), 5, 2) > 0",
           "sgn(count_over_time(plain[1m])) > 1",
           "sqrt(count_over_time(plain[1m])) < 0",
           "sqrt(-count_over_time(plain[1m]) - 1) > 0",
           "exp(rate(plain[1m])) < 0.9",
           "ln(count_over_time(plain[1m]) + 1) < 0",
           "count_over_time(plain[1m]) < vector(0)",
           "count_over_time(plain[1m]) < scalar(count_over_time(plain[5m])) * 0",
           "ceil(count_over_time(plain[1m]) < 0) > 1",
           "abs(rate(plain[1m])) > 5 and abs(rate(plain[1m])) < 3",
       }) {
    INFO(never);
    const std::string reason = bind_error(never).reason;
    CHECK((reason.find("never") != std::string::npos ||
           reason.find("no series is counted") != std::string::npos));
  }
  for (const char* can : {
           "count_over_time(plain[1m]) == 0",
           "count_over_time(plain[1m]) <= 0",
           "rate(plain[1m]) == 1.5",
           "count_over_time(plain[1m]) >= 3 and count_over_time(plain[1m]) <= 3",
           "count_over_time(plain[1m]) > 5 or count_over_time(plain[1m]) < 3",
           "count_over_time(plain[1m]) > 5 and count_over_time(plain[5m]) < 30",
           "count_over_time(plain[1m]) - count_over_time(plain[5m]) < 0",
           "count_over_time(plain[1m]) > 1 and count_over_time(plain[5m]) < 5",
           "count_over_time(plain[1m]) < count_over_time(plain[5m])",
           "rate(plain[5m]) < rate(plain[1m])",
           "count_over_time(plain[1m]) / count_over_time(plain[1m]) != count_over_time(plain[1m]) / "
           "count_over_time(plain[1m])",
           "count_over_time(plain[1m]) / count_over_time(plain[1m]) != 1",
           "count_over_time(plain[1m]) % 2 == 1",
           "1 / (0 * (count_over_time(plain[1m]) - 5)) < 0",
           "count_over_time(plain[1m]) > (5 > 3)",
           "count_over_time(plain[1m]) == (1.5 > 1)",
           "count_over_time(plain[1m]) > (1 > 2)",
           "absent_over_time(errors{queue=\"a\"}[1m]) unless on (queue) count_over_time(errors[1m]) <= 0",
           "count_over_time(plain[1m]) >= count_over_time(plain[1m])",
           "count_over_time(errors{queue!~\".+\"}[1m]) > 0",
           "rate(plain[1m]) > 3 and rate(plain[1m]) < 4",
           "count(count_over_time(errors[1m])) == 1",
           "sum(count_over_time(requests{status=~\"5..\"}[5m])) / sum(count_over_time(requests[5m])) > 0.05",
           "count_over_time(plain[1m]) / 0 > 5",
           "absent_over_time(plain[1m])",
           "count_over_time(plain[1m]) * 0.5 == 1.5",
           "-count_over_time(plain[1m]) < -3",
           "count_over_time(plain[5m] offset 1h) < count_over_time(plain[1m])",
           "count_over_time(plain[1m] offset 1h) > 5 and count_over_time(plain[1m] offset 2h) < 3",
           "count_over_time(plain[1m]) > count_over_time(plain[1m] offset 1m)",
           "topk(3, count_over_time(errors[1m])) > topk(2, count_over_time(errors[1m]))",
           "topk(1, count_over_time(errors[1m])) > topk(1, count_over_time(errors[5m]))",
           "quantile(0.5, count_over_time(errors[1m])) == 1.5",
           "quantile(2, count_over_time(errors[1m])) > 1e300",
           "topk(scalar(count_over_time(plain[1m])), count_over_time(errors[1m])) > 3",
           "group(count_over_time(errors[1m])) == 1",
           "count_over_time(plain[1m]) == 0 and (hour() >= 18 or hour() < 9)",
           "count_over_time(plain[1m]) == 0 and hour() >= 9 and day_of_week() == 6",
           "count_over_time(plain[1m]) == 0 and vector(time()) < 0",
           "count_over_time(plain[1m]) > time() - 1e9",
           "count_over_time(plain[1m]) == 0 and year() == 2026 and days_in_month() == 28",
           "sum_over_time(request[1m]) < -5",
           "avg_over_time(request[1m]) == 1.5",
           "last_over_time(request[1m]) == 0",
           "quantile_over_time(0.9, request[1m]) > quantile_over_time(0.5, request[1m])",
           "max_over_time(request[5m]) < max_over_time(request[1m])",
           "abs(count_over_time(plain[1m]) - 5) == 0",
           "round(rate(plain[1m]), 0.5) == 1.5",
           "ln(count_over_time(plain[1m])) < 0",
           "sqrt(rate(plain[1m])) == 1.5",
           "clamp_min(count_over_time(plain[1m]), 5) == 5",
           "clamp(count_over_time(plain[1m]), scalar(rate(plain[5m])), 0) == 0",
           "count_over_time(plain[1m]) != scalar(sum(rate(errors[1m])))",
           "count_over_time(plain[1m]) > scalar(count_over_time(plain[1m]))",
           "abs(rate(plain[1m])) > 5 and abs(rate(plain[5m])) < 3",
           "count_over_time(plain[1m]) > 5 unless count_over_time(plain[1m]) < 0",
           "sum(count_over_time(plain[1m]) < 0) == 0",
           "count_over_time(errors{queue=\"a\"}[1m]) > 5 and on() "
           "sum(count_over_time(errors{queue=\"b\"}[1m])) < 3",
       }) {
    INFO(can);
    CHECK(bind_error(can).reason.empty());
  }
}

TEST_CASE("expr: why something can never be true is the true reason", "[rules][expr]") {
  const struct {
    const char* text;
    const char* reason;
  } rows[] = {
      {"count_over_time(plain[1m]) < 0", "a count is never below 0"},
      {"rate(plain[1m]) < 0", "a rate is never below 0"},
      {"sum(count_over_time(errors[1m])) < 0", "a sum of counts is never below 0"},
      {"0 > count_over_time(plain[1m])", "a count is never below 0"},
      {"count_over_time(plain[1m]) == 1.5", "a count is a whole number"},
      {"count_over_time(plain[1m]) == -1", "a count is never below 0"},
      {"count_over_time(plain[1m]) >bool 5 > 1", "what `bool` gives, 0 or 1, is never above 1"},
      {"count_over_time(plain[1m]) > Inf", "nothing is above +Inf"},
      {"count_over_time(plain[1m]) > NaN", "no number compares with NaN"},
      {"absent_over_time(plain[1m]) == 0", "`absent_over_time` is always 1"},
      {"count_over_time(plain[1m]) * 0 > 0", "the left side is always 0"},
      {"count_over_time(plain[1m]) % 2 == 2", "the left side is never above 1"},
      {"count(count_over_time(errors[1m])) == 0", "nothing where there are no series, is never below 1"},
      {"count_over_time(plain[1m]) != count_over_time(plain[1m])", "both sides are the same"},
      {"count_over_time(plain[1m]) > count_over_time(plain[5m])", "a longer window"},
      {"count_over_time(plain[1m]) > 3 and count_over_time(plain[5m]) < 3",
       "`count_over_time(plain[5m])` never counts less than `count_over_time(plain[1m])`"},
  };
  for (const auto& row : rows) {
    INFO(row.text);
    const std::string reason = bind_error(row.text).reason;
    INFO(reason);
    CHECK(reason.find(row.reason) != std::string::npos);
  }
}

TEST_CASE("expr: elements must meet, and one to one: what does not is refused with what to write",
          "[rules][expr]") {
  std::vector<PatternSpec> specs(3);
  specs[0].name = "p";
  specs[1].name = "q";
  specs[1].labels = {"k"};
  specs[2].name = "r";
  specs[2].labels = {"k", "u"};
  const struct {
    const char* text;
    const char* reason;
    const char* fix;
    std::size_t offset;
  } rows[] = {
      {"count_over_time(r[1s]) / on(k) count_over_time(q[1s]) > 0.1",
       "`/ on (k)` pairs one element with one, and the left side has several for each, told apart by u only",
       "write `sum by (k) (count_over_time(r[1s])) / on (k) count_over_time(q[1s])`; or `/ on (k) group_left ()`, if "
       "each is meant",
       23},
      {"count_over_time(r[1s]) / on(k) group_right() count_over_time(q[1s]) > 0.1",
       "`/ on (k) group_right ()` takes one element of the left side for each on the other, and there are several, told "
       "apart by u only",
       "write `group_left`, which takes one of the other side", 23},
      {"count_over_time(q[1s]) / on() group_left() count_over_time(r[1s]) > 0.1", "told apart by k, u only",
       "take its labels over: `group_left (k, u)`", 23},
      {"count_over_time(r[1s]) / on(k) group_left(u) count_over_time(r[1s]) > 0.1",
       "`/ on (k) group_left (u)` writes over the label u, by which elements of the left side are told apart",
       "leave it out: `group_left ()`", 23},
      {"count_over_time(q[1s]) / on() group_left(u) count_over_time(p[1s]) > 0.1",
       "`group_left` names label `u`, which nothing here has", "there are no labels here", 23},
      {"count_over_time(q[1s]) / on(k) group_left(x) count_over_time(r[1s]) > 0.1",
       "`group_left` names label `x`, which nothing here has", "there are: k, u", 23},
      {"(count_over_time(q[1s]) / on(k) group_left(u) count_over_time(r[1s])) / count_over_time(q[1s]) > 1",
       "with labels k, u on the left and label k on the right", "`/ on (k) group_left ()`", 70},
      {"count_over_time(q{k=\"a\"}[1s]) / on(k) group_left() count_over_time(q{k=\"b\"}[1s]) > 1", "do not meet", "", 30},

      {"count_over_time(q[1s]) > ignoring(u) count_over_time(r[1s])", "the right side has several for each",
       "write `count_over_time(q[1s]) > ignoring (u) sum by (k) (count_over_time(r[1s]))`", 23},
      {"count_over_time(q[1s]) * on() count_over_time(r[1s]) > 1", "both sides have several",
       "write `sum(count_over_time(q[1s])) * on () sum(count_over_time(r[1s]))`", 23},
      {"count_over_time(q[1m]) / count_over_time(p[1m]) > 0.5",
       "do not meet, with label k on the left and no label on the right: it never gives anything",
       "`sum(count_over_time(q[1m])) / count_over_time(p[1m])`", 23},
      {"count_over_time(q[1m]) / sum(count_over_time(q[1m])) > 0.1", "do not meet",
       "as in `/ on () group_left ()`, or ask for one value at a time, as in {k=\"…\"}", 23},
      {"sum(count_over_time(q[1m])) / count_over_time(q[1m]) > 0.1", "do not meet", "as in `/ on () group_right ()`", 28},
      {"count_over_time(q[1m]) > 0 and on(k) count_over_time(p[1m]) > 0", "do not meet", "write `and on ()`",
       27},
      {"count_over_time(q[1m]) > 0 and count_over_time(r[1m]) > 0",
       "with label k on the left and labels k, u on the right", "write `and on (k)`", 27},
      {"sum by (k) (rate(r[1m])) / on(u) sum by (u) (rate(r[1m])) > 1", "do not meet",
       "`sum(sum by (k) (rate(r[1m]))) / sum(sum by (u) (rate(r[1m])))`", 25},
      {"count_over_time(p[1m]) >= count_over_time(q[1m])", "do not meet",
       "`count_over_time(p[1m]) >= sum(count_over_time(q[1m]))`", 23},
      {"count_over_time(p[1m]) > 0 unless count_over_time(q[1m]) > 0", "do not meet", "write `unless on ()`",
       27},
      {"absent_over_time(p[5m]) and count_over_time(q[5m]) > 3", "do not meet", "write `and on ()`", 24},
      {"count_over_time(q{k=\"a\"}[1m]) / count_over_time(q{k=\"b\"}[1m]) > 2",
       "with k=\"a\" on the left and k=\"b\" on the right", "write `/ on ()`", 30},
      {"count_over_time(r{k=\"a\"}[1m]) > 1 and count_over_time(r{k=\"b\"}[1m]) > 2", "do not meet",
       "write `and on (u)`", 34},
  };
  for (const auto& row : rows) {
    INFO(row.text);
    const auto parsed = parse_expr(row.text);
    REQUIRE(parsed.has_value());
    const auto done = bind_expr(*parsed, specs);
    REQUIRE_FALSE(done.has_value());
    INFO(done.error().reason << "; " << done.error().fix);
    CHECK(done.error().reason.find(row.reason) != std::string::npos);
    CHECK(done.error().fix.find(row.fix) != std::string::npos);
    CHECK(done.error().offset == row.offset);
  }
  for (const char* fine : {
           "count_over_time(q[1m]) / 60 > 0.5",
           "sum(count_over_time(q[1m])) / count_over_time(p[1m]) > 0.5",
           "count_over_time(q{k=\"a\"}[1m]) / on () count_over_time(q{k=\"b\"}[1m]) > 2",
           "count_over_time(q{k=\"a\"}[1m]) / on () sum(count_over_time(q[1m])) > 0.5",
           "count_over_time(r{u=\"x\"}[1m]) / on (k) count_over_time(q[1m]) > 0.5",
           "count_over_time(r{u=\"x\"}[1m]) / ignoring (u) count_over_time(q[1m]) > 0.5",
           "count_over_time(r{u=\"\"}[1m]) / count_over_time(q[1m]) > 0.5",
           "count_over_time(r[1m]) > 1 and on (k) count_over_time(q[1m]) > 1",
           "count_over_time(r[1m]) > 1 and on () count_over_time(p[1m]) > 1",
           "count_over_time(r[1m]) > 1 or count_over_time(q[1m]) > 1 or count_over_time(p[1m]) > 1",
           "(count_over_time(p[1m]) > 1 or count_over_time(q[1m]) > 1) and count_over_time(q[5m]) > 9",
           "count_over_time(r[1m]) > 1 unless on (k) count_over_time(q[1m]) > 1",
           "count_over_time(r[1m]) / on (k) group_left count_over_time(q[1m]) > 1",
           "count_over_time(q[1m]) / on (k) group_right () count_over_time(r[1m]) > 1",
           "count_over_time(r[1m]) / on () group_left sum(count_over_time(q[1m])) > 1",
           "count_over_time(r[1m]) / ignoring (u) group_left () count_over_time(q[1m]) > 1",
           "count_over_time(q[1m]) / on (k) group_left (u) count_over_time(r[1m]) > 1",
           "count_over_time(q[1m]) / on (k) group_left (u) count_over_time(r{u=\"x\"}[1m]) > 1",
           "(count_over_time(q[1m]) / on (k) group_left (u) count_over_time(r[1m])) / count_over_time(r[1m]) > 1",
           "count_over_time(q[1m]) / on () group_left () count_over_time(p[1m]) > 1",
       }) {
    INFO(fine);
    const auto done = bind_expr(*parse_expr(fine), specs);
    INFO((done ? "" : done.error().reason));
    CHECK(done.has_value());
  }
}

TEST_CASE("expr: group_left and group_right keep the labels of the many, and take over what they name",
          "[rules][expr]") {
  std::vector<PatternSpec> specs(2);
  specs[0].name = "q";
  specs[0].labels = {"k"};
  specs[1].name = "r";
  specs[1].labels = {"k", "u"};
  using Names = std::vector<std::string>;
  const struct {
    const char* text;
    const char* canonical;
    Names labels;
    Labels fixed;
  } rows[] = {
      {"count_over_time(r[1m]) / on(k) group_left count_over_time(q[1m]) > 1",
       "count_over_time(r[1m]) / on (k) group_left () count_over_time(q[1m]) > 1", {"k", "u"}, {}},
      {"count_over_time(q{k=\"a\"}[1m]) > bool Ignoring(u) Group_Right () count_over_time(r[1m]) > 0",
       "count_over_time(q{k=\"a\"}[1m]) > bool ignoring (u) group_right () count_over_time(r[1m]) > 0", {"k", "u"}, {}},
      {"count_over_time(q[1m]) * on(k) group_left(u) count_over_time(r{u=\"x\"}[1m]) > 1",
       "count_over_time(q[1m]) * on (k) group_left (u) count_over_time(r{u=\"x\"}[1m]) > 1", {"k", "u"}, {{"u", "x"}}},
      // Its right side is a sum, whose brackets are not those of group_left.
      {"count_over_time(r[1m]) - on() group_left () (sum(count_over_time(q[1m])) + 1) > 1",
       "count_over_time(r[1m]) - on () group_left () (sum(count_over_time(q[1m])) + 1) > 1", {"k", "u"}, {}},
      // It binds as the operator does.
      {"2 * count_over_time(r[1m]) - on(k) group_left count_over_time(q[1m]) * 3 > 1",
       "2 * count_over_time(r[1m]) - on (k) group_left () count_over_time(q[1m]) * 3 > 1", {"k", "u"}, {}},
  };
  for (const auto& row : rows) {
    INFO(row.text);
    const auto parsed = parse_expr(row.text);
    INFO((parsed ? "" : parsed.error().reason));
    REQUIRE(parsed);
    const auto bound = bind_expr(*parsed, specs);
    INFO((bound ? "" : bound.error().reason));
    REQUIRE(bound);
    CHECK(format_expr(**bound) == row.canonical);
    CHECK(format_expr(**parse_expr(row.canonical)) == row.canonical);
    Names labels = result_labels(**bound, specs);
    std::sort(labels.begin(), labels.end());
    CHECK(labels == row.labels);
    CHECK(fixed_labels(**bound, specs) == row.fixed);
    CHECK_FALSE(is_single(**bound));
  }
}

TEST_CASE("expr: polarity says what a rule's truth rests on", "[rules][expr]") {
  const struct {
    const char* text;
    bool presence;
    bool absence;
  } rows[] = {
      {"count_over_time(plain[1m]) >= 3", true, false},
      {"count_over_time(plain[1m]) == 0", false, true},
      {"count_over_time(plain[1m]) < 3", false, true},
      {"3 > count_over_time(plain[1m])", false, true},
      {"count_over_time(plain[1m]) != 0", true, false},
      {"count_over_time(plain[1m]) == 4", true, true},
      {"absent_over_time(plain[1m])", false, true},
      {"present_over_time(plain[1m])", true, false},
      {"sum(count_over_time(requests{status=\"500\"}[5m])) / sum(count_over_time(requests[5m])) > 0.05", true,
       false},
      // A low ratio may be so for want of either part: nothing is known until both were watched.
      {"sum(count_over_time(requests{status=\"200\"}[5m])) / sum(count_over_time(requests[5m])) < 0.9", true,
       true},
      {"1 / count_over_time(plain[1m]) < 0.1", true, true},
      {"count_over_time(plain[1m]) > 3 unless count_over_time(plain[5m]) > 9", true, true},
      {"count_over_time(plain[1m]) - count_over_time(plain[5m]) > 3", true, true},
      {"sum(count_over_time(errors[1m]) > bool 3) > 0", true, false},
      {"count_over_time(plain[1m]) > 3 * count_over_time(plain[1m] offset 1w)", true, true},
      {"count_over_time(plain[1m] offset 1h) >= 3", true, false},
      // Another that comes may push one out, or down.
      {"topk(3, count_over_time(errors[1m])) > 3", true, true},
      {"quantile(0.9, count_over_time(errors[1m])) > 3", true, true},
      {"stddev(count_over_time(errors[1m])) > 3", true, true},
      {"group(present_over_time(errors[1m]))", true, false},
      {"count_over_time(plain[1m]) == 0 and hour() >= 9", false, true},
      {"count_over_time(plain[1m]) > 3 and day_of_week() == 0", true, false},
      {"hour(count_over_time(plain[1m])) > 3", true, true},
      {"time() - count_over_time(plain[1m]) > 3", false, true},
      {"max_over_time(request[1m]) > 3", true, false},
      {"min_over_time(request[1m]) < 3", true, false},
      {"max_over_time(request[1m]) < 3", true, true},
      {"avg_over_time(request[1m]) > 3", true, true},
      {"sum_over_time(request[1m]) > 3", true, true},
      {"ceil(rate(plain[1m])) > 3", true, false},
      {"clamp_max(count_over_time(plain[1m]), 3) < 2", false, true},
      {"abs(count_over_time(plain[1m])) > 3", true, false},
      {"abs(-count_over_time(plain[1m])) > 3", true, false},
      {"abs(count_over_time(plain[1m]) - 5) > 3", true, true},
      {"sqrt(count_over_time(plain[1m]) - 5) < 3", true, true},
      {"vector(scalar(count_over_time(plain[1m]))) > 3", true, false},
      {"vector(scalar(count_over_time(errors{queue=\"a\", zone=\"b\"}[1m]))) > 3", true, false},
      // A second series makes it NaN.
      {"vector(scalar(count_over_time(errors[1m]))) > 3", true, true},
      {"vector(scalar(count_over_time(plain[1m])) > 3) > 0", true, false},
      {"count_over_time(plain[1m]) > scalar(sum(count_over_time(errors[1m])))", true, true},
      {"clamp(rate(plain[1m]), 0, scalar(sum(rate(errors[1m])))) > 3", true, true},
      {"count_over_time(plain[1m]) > 3 * baseline_over_time(plain[1m], 1d, 7)", true, true},
      {"baseline_over_time(plain[1m], 1d, 7) > 3", true, false},
      {"m_of_n(count_over_time(plain[1m]) > 3, 3, 5, 1m)", true, false},
      {"m_of_n(count_over_time(plain[1m]) == 0, 3, 5, 1m)", false, true},
      {"m_of_n(count_over_time(plain[1m]) == 0, 3, 5, 1m) < 5", true, true},
      {"distinct_over_time(\"a\", plain[1m]) > 3", true, false},
      {"distinct_over_time(\"a\", plain[1m]) == 0", false, true},
      {"first_seen(\"a\", plain[1m])", true, true},
      {"new_template(plain[1m])", true, true},
      {"unanswered_over_time(\"a\", plain, errors[1m])", true, true},
      {"sequence_over_time(\"a\", plain, errors[1m])", true, false},
      {"absent_over_time(plain[1m]) unless on () sequence_over_time(\"a\", plain, errors[1m])", false, true},
  };
  for (const auto& row : rows) {
    INFO(row.text);
    const Polarity found = polarity(*good(row.text));
    CHECK(found.presence == row.presence);
    CHECK(found.absence == row.absence);
  }
}

TEST_CASE("expr: what fires all the time and quantiles that are none cannot be meant", "[rules][expr]") {
  const auto why = [](const char* text) {
    const auto error = cannot_be_meant(*good(text));
    return error ? error->reason : std::string();
  };
  CHECK(why("sum(count_over_time(errors[1m])) >= 0").find("it is always true, so it would fire all the time: ") == 0);
  CHECK(why("(0 <= sum(count_over_time(errors[1m])))").find("always true") != std::string::npos);
  CHECK(why("count_over_time(plain[1m]) > -1").find("always true") != std::string::npos);
  CHECK(why("count_over_time(plain[1m]) != 0.5").find("always true") != std::string::npos);
  CHECK(why("quantile_over_time(99, request[5m]) > 500") == "there is no quantile 99: it is from 0 to 1");
  CHECK(cannot_be_meant(*good("quantile_over_time(99, request[5m]) > 500"))->fix == "write 0.99");
  CHECK(why("quantile(1.5, count_over_time(errors[1m])) > 3 and count_over_time(plain[1m]) > 1") == "there is no quantile 1.5: it is from 0 to 1");
  CHECK(why("quantile_over_time(-0.1, request[5m]) > 500").find("there is no quantile") == 0);
  for (const char* text : {"quantile_over_time(1, request[5m]) > 500", "quantile_over_time(0, request[5m]) > 500", "count_over_time(plain[1m]) > 0",
                           "absent_over_time(plain[1m]) == 1", "present_over_time(errors[1m]) >= 1", "count_over_time(errors[1m]) >= 0",
                           "sum(count_over_time(errors[1m])) / sum(count_over_time(plain[1m])) >= 0", "sum(count_over_time(errors[1m])) < 3"}) {
    INFO(text);
    CHECK(why(text).empty());
  }
}

TEST_CASE("expr: polarity knows what is divided by matches", "[rules][expr]") {
  const auto is_ratio = [](const char* text) { return polarity(*good(text)).ratio; };
  CHECK(is_ratio("count_over_time(plain[1m]) / count_over_time(plain[5m]) > 0.5"));
  CHECK(is_ratio("sum(rate(errors[1m])) > 2 and 1 - (rate(plain[1m]) / rate(plain[5m])) < 0.5"));
  CHECK(is_ratio("m_of_n(rate(plain[1m]) / rate(plain[5m]) > 0.5, 3, 5, 1m)"));
  CHECK(is_ratio("clamp_min(rate(plain[1m]), scalar(1 / sum(rate(plain[5m])))) > 3"));
  CHECK_FALSE(is_ratio("count_over_time(plain[1m]) / 60 > 0.5"));
  CHECK_FALSE(is_ratio("count_over_time(plain[1m]) >= 3"));
}

TEST_CASE("expr: the labels that a result can have", "[rules][expr]") {
  using Names = std::vector<std::string>;
  CHECK(result_labels(*good("count_over_time(errors[1m]) > 1"), patterns()) == Names{"queue", "zone"});
  CHECK(result_labels(*good("sum by (queue) (count_over_time(errors[1m])) > 1"), patterns()) ==
        Names{"queue"});
  CHECK(result_labels(*good("sum without (queue) (count_over_time(errors[1m])) > 1"), patterns()) ==
        Names{"zone"});
  CHECK(result_labels(*good("sum(count_over_time(errors[1m])) > 1"), patterns()).empty());
  CHECK(result_labels(*good("absent_over_time(errors{queue=\"a\",zone=~\"b\"}[1m])"), patterns()) ==
        Names{"queue"});
  CHECK(result_labels(
            *good("sum by (queue) (count_over_time(errors[1m])) > 1 or sum by (zone) (rate(errors[1m])) > 1"),
            patterns()) == Names{"queue", "zone"});
  // As in PromQL: what is matched on is what remains, in comparisons too.
  CHECK(result_labels(*good("count_over_time(errors{zone=\"eu\"}[1m]) > on (queue) sum by (queue) "
                            "(rate(errors[1m]))"),
                      patterns()) == Names{"queue"});
  CHECK(fixed_labels(*good("count_over_time(errors{queue=\"a\"}[1m]) > 1"), patterns()) ==
        Labels{{"queue", "a"}});
  CHECK(result_labels(*good("topk by (queue) (1, count_over_time(errors[1m])) > 1"), patterns()) ==
        Names{"queue", "zone"});
  CHECK(result_labels(*good("quantile by (queue) (0.5, count_over_time(errors[1m])) > 1"), patterns()) ==
        Names{"queue"});
  CHECK(fixed_labels(*good("topk(1, count_over_time(errors{queue=\"a\"}[1m])) > 1"), patterns()) ==
        Labels{{"queue", "a"}});
  CHECK(result_labels(*good("ceil(count_over_time(errors[1m])) > 1"), patterns()) == Names{"queue", "zone"});
  CHECK(result_labels(*good("vector(scalar(count_over_time(plain[1m]))) > 1"), patterns()).empty());
  CHECK(fixed_labels(*good("round(count_over_time(errors{queue=\"a\"}[1m]), 5) > 1"), patterns()) ==
        Labels{{"queue", "a"}});
  CHECK(longest_window(*good("clamp_max(rate(plain[1m]), scalar(rate(plain[2h]))) > 1")) ==
        std::chrono::hours(2));
  CHECK(longest_window(*good("rate(plain[1m]) > 2 * rate(plain[1m] offset 1h)")) == std::chrono::minutes(61));
  // All of the week is kept; more than half of its days must have been watched.
  const ExprPtr week = good("count_over_time(plain[5m]) > 3 * baseline_over_time(plain[5m], 1d, 7)");
  CHECK(longest_window(*week) == std::chrono::hours(7 * 24) + std::chrono::minutes(5));
  CHECK(known_after(*week) == std::chrono::hours(4 * 24) + std::chrono::minutes(5));
  CHECK(known_after(*good("m_of_n(rate(plain[1m] offset 1m) > 2, 3, 5, 2m)")) == std::chrono::minutes(10));
  CHECK(longest_window(*good("m_of_n(rate(plain[1m] offset 1m) > 2, 3, 5, 2m)")) == std::chrono::minutes(10));
  CHECK(result_labels(*good("m_of_n(count_over_time(errors[1m]) > 1, 3, 5, 1m)"), patterns()) ==
        Names{"queue", "zone"});
  CHECK(longest_window(*good("rate(plain[1m]) > 1 and rate(plain[2h]) > 1")) == std::chrono::hours(2));
  // Of a function by key: the pattern's without the key, with it, or the key alone.
  CHECK(result_labels(*good("distinct_over_time(\"zone\", errors[1m]) > 1"), patterns()) == Names{"queue"});
  CHECK(result_labels(*good("first_seen(\"class\", errors[1m])"), patterns()) == Names{"class", "queue", "zone"});
  CHECK(result_labels(*good("new_template(errors[1m])"), patterns()) == Names{"queue", "template", "zone"});
  CHECK(result_labels(*good("unanswered_over_time(\"id\", errors, plain[1m])"), patterns()) == Names{"id"});
  CHECK(fixed_labels(*good("first_seen(\"class\", errors{queue=\"a\",class!=\"b\"}[1m])"), patterns()) ==
        Labels{{"queue", "a"}});
  CHECK(fixed_labels(*good("unanswered_over_time(\"id\", errors{queue=\"a\"}, plain[1m])"), patterns()).empty());
  CHECK(is_single(*good("distinct_over_time(\"id\", plain[1m]) > 1")->left));
  CHECK(is_single(*good("distinct_over_time(\"zone\", errors{queue=\"a\"}[1m]) > 1")->left));
  CHECK_FALSE(is_single(*good("distinct_over_time(\"id\", errors{queue=\"a\"}[1m]) > 1")->left));
  CHECK(longest_window(*good("distinct_over_time(\"id\", plain[10m]) > 1")) == std::chrono::minutes(10));
  CHECK(longest_window(*good("first_seen(\"id\", plain[10m])")) == std::chrono::minutes(15));
  CHECK(longest_window(*good("new_template(plain[10m])")) == std::chrono::minutes(15));
  CHECK(longest_window(*good("unanswered_over_time(\"id\", plain, errors[10m])")) == std::chrono::minutes(20));
  CHECK(longest_window(*good("m_of_n(sequence_over_time(\"id\", plain, errors[10m]), 2, 3, 1m)")) ==
        std::chrono::minutes(12));
}

TEST_CASE("expr: hours are of the zone that is given", "[rules][expr]") {
  const auto parsed = parse_expr("count_over_time(plain[1m]) == 0 and hour() >= 9");
  const auto done = bind_expr(*parsed, patterns(), Numbers::kWritten, "Europe/Berlin");
  REQUIRE(done.has_value());
  const Expr& hour = *(*done)->right->left;
  CHECK(hour.is_date_of_now());
  CHECK(hour.location == "Europe/Berlin");
  CHECK(next_clock_turn(**done, Timestamp{}) == Timestamp{} + std::chrono::hours(1));
  CHECK_FALSE(next_clock_turn(*good("count_over_time(plain[1m]) == 0"), Timestamp{}));
  // The earliest of them.
  CHECK(next_clock_turn(*good("count_over_time(plain[1m]) == 0 and day_of_week() == 1 and minute() == 0"),
                        Timestamp{}) == Timestamp{} + std::chrono::minutes(1));
}

TEST_CASE("expr: canonical text parses back to the same tree", "[rules][expr]") {
  std::mt19937_64 random(20260501);  // NOLINT(cert-msc51-cpp): the seed makes a failure repeatable
  const auto pick = [&](int n) { return static_cast<int>(random() % static_cast<std::uint64_t>(n)); };
  std::function<ExprPtr(int, bool)> make = [&](int depth, bool vector) -> ExprPtr {
    auto node = std::make_shared<Expr>();
    node->type = vector ? Expr::Type::kVector : Expr::Type::kScalar;
    const int shape = depth == 0 ? 0 : pick(4);
    if (shape == 0) {
      if (!vector) {
        node->number = pick(50) / 4.0;
        return node;
      }
      node->kind = Expr::Kind::kRangeCall;
      node->pattern = "errors";
      node->function = static_cast<Expr::RangeFunction>(pick(14));
      if (node->function == Expr::RangeFunction::kQuantileOverTime)
        node->parameters.push_back(make(0, false));
      node->window = std::chrono::milliseconds(1 + pick(100000));
      if (node->function == Expr::RangeFunction::kBaselineOverTime) {
        node->again = node->window + std::chrono::milliseconds(pick(100000));
        node->looks = static_cast<std::uint32_t>(1 + pick(60));
        node->range_offset = node->again;
      } else if (pick(4) == 0) {
        node->range_offset = std::chrono::milliseconds(pick(100000));
      }
      if (pick(2) == 0)
        node->matchers.push_back(*LabelMatcher::make("queue", LabelMatcher::Op::kNotEqual, "a\"\\\nb"));
      return node;
    }
    if (shape == 1 && vector && pick(4) == 0) {
      node->kind = Expr::Kind::kKeyed;
      node->keyed = static_cast<KeyedFunction>(pick(4));
      node->key = "id";
      node->window = std::chrono::milliseconds(1 + pick(100000));
      for (std::size_t i = 0; i < signature_of(node->keyed).least; ++i) {
        auto operand = std::make_shared<Expr>();
        operand->kind = Expr::Kind::kRangeCall;
        operand->type = Expr::Type::kVector;
        // What answers is another pattern than what asks.
        operand->pattern = i == 1 && node->keyed == KeyedFunction::kUnanswered ? "plain" : "errors";
        operand->key = "id";
        if (operand->pattern == "errors" && pick(2) == 0) operand->matchers.push_back(*LabelMatcher::make("queue", LabelMatcher::Op::kEqual, "a"));
        node->operands.push_back(std::move(operand));
      }
      return node;
    }
    if (shape == 1 && vector) {
      node->kind = Expr::Kind::kAggregate;
      node->aggregation = static_cast<Expr::Aggregation>(pick(11));
      if (node->picks() || node->aggregation == Expr::Aggregation::kQuantile)
        node->parameters.push_back(make(depth - 1, false));
      node->has_grouping = pick(2) == 0;
      node->without = node->has_grouping && pick(2) == 0;
      if (node->has_grouping) node->grouping = {"queue"};
      node->left = make(depth - 1, true);
      return node;
    }
    if (shape == 1 || (vector && pick(5) == 0)) {
      node->kind = Expr::Kind::kCall;
      if (pick(8) == 0) {
        const auto now = parse_expr(vector ? "hour()" : "time()");
        return *now;
      }
      const InstantFunction functions[] = {InstantFunction::kAbs, InstantFunction::kRound,
                                           InstantFunction::kClamp, InstantFunction::kVector,
                                           InstantFunction::kLog10};
      node->instant = vector ? functions[pick(5)] : InstantFunction::kScalar;
      const InstantSignature& signature = signature_of(node->instant);
      node->left = make(depth - 1, !signature.of_number);
      const int more = static_cast<int>(signature.most - signature.least);
      for (std::size_t i = signature.least - 1 + static_cast<std::size_t>(more > 0 ? pick(2) : 0); i > 0; --i)
        node->parameters.push_back(make(depth - 1, false));
      return node;
    }
    if (shape == 2) {
      node->kind = Expr::Kind::kNegate;
      node->left = make(depth - 1, vector);
      return node;
    }
    node->kind = Expr::Kind::kBinary;
    node->op = static_cast<Expr::BinaryOp>(pick(vector ? 15 : 12));
    node->return_bool = node->is_comparison() && pick(2) == 0;
    const bool right_vector = vector && (node->is_set_operator() || pick(2) == 0);
    node->has_matching = right_vector && pick(3) == 0;
    node->on = node->has_matching && pick(2) == 0;
    if (node->has_matching) node->matching = {"queue", "zone"};
    node->left = make(depth - 1, vector);
    node->right = make(depth - 1, right_vector);
    return node;
  };
  for (int i = 0; i < 3000; ++i) {
    const ExprPtr tree = make(1 + pick(4), true);
    const std::string text = format_expr(*tree);
    INFO(text);
    const auto again = parse_expr(text);
    REQUIRE(again.has_value());
    REQUIRE(bracketed(**again) == bracketed(*tree));
    REQUIRE(format_expr(**again) == text);
  }
}

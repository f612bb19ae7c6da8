// Expr: what a rule computes. A subset of PromQL's grammar and precedence, with a pattern's name where PromQL
// has a metric's, parsed and typed when loaded.
//
// Immutable and thread-safe once parsed. Evaluation is engine/core/evaluator.h.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rules/instant_function.h"
#include "rules/keyed_function.h"
#include "rules/matcher.h"
#include "rules/pattern.h"
#include "rules/result.h"
#include "rules/time.h"

namespace logbell::rules {

struct Expr;
using ExprPtr = std::shared_ptr<const Expr>;

struct Expr {
  enum class Kind { kNumber, kRangeCall, kAggregate, kBinary, kNegate, kParen, kCall, kKeyed };
  enum class Type { kScalar, kVector };
  enum class RangeFunction {
    kCountOverTime,
    kRate,
    kAbsentOverTime,
    kPresentOverTime,
    kBaselineOverTime,
    kSumOverTime,
    kAvgOverTime,
    kMinOverTime,
    kMaxOverTime,
    kStddevOverTime,
    kStdvarOverTime,
    kQuantileOverTime,
    kFirstOverTime,
    kLastOverTime
  };
  enum class Aggregation {
    kSum,
    kMin,
    kMax,
    kAvg,
    kCount,
    kTopk,
    kBottomk,
    kQuantile,
    kStddev,
    kStdvar,
    kGroup
  };
  enum class BinaryOp {
    kAdd,
    kSub,
    kMul,
    kDiv,
    kMod,
    kPow,
    kEq,
    kNe,
    kGt,
    kLt,
    kGe,
    kLe,
    kAnd,
    kOr,
    kUnless
  };

  Kind kind = Kind::kNumber;
  Type type = Type::kScalar;
  std::size_t offset = 0;  // in the text, for problems

  // kNumber (durations are seconds, as in PromQL)
  double number = 0;

  // kRangeCall: function(parameter, pattern{matchers}[window] offset range_offset)
  RangeFunction function = RangeFunction::kCountOverTime;
  std::string pattern;
  std::uint32_t pattern_index = 0;  // into the plan's patterns; set by bind()
  std::uint32_t looks = 1;          // at so many instants or windows, see `again`
  std::vector<LabelMatcher> matchers;
  Duration window{0};
  Duration range_offset{0};  // not negative: it gives what it would have given so long ago
  // m_of_n() asks for it at `looks` instants, `again` apart, the last of which is now (set by bind()).
  // kBaselineOverTime looks at `looks` windows, `again` apart, the last of which is `again` before now, its
  // range_offset.
  Duration again{0};
  // It has an element at every instant, and never more than one: no labels, or `=` on each; set by bind(). Of kKeyed too.
  bool single = false;

  // kKeyed: keyed("key", operands…), of which the last one's window holds for all. Each operand is a kRangeCall that has
  // the same key and function, and says which one it is.
  KeyedFunction keyed = KeyedFunction::kDistinct;
  std::string key;  // "": a kRangeCall that stands by itself
  std::size_t operand = 0;
  std::vector<std::string> kept_labels;  // of an operand: those that it tells keys apart by; set by bind()
  std::vector<ExprPtr> operands;

  // kCall: instant(left, parameters…); left is null in time() alone, hour() is hour(vector(time()))
  InstantFunction instant = InstantFunction::kAbs;
  std::string location;  // of a part of a date: an IANA zone, "" is UTC; set by bind()
  std::vector<ExprPtr>
      parameters;  // numbers, all of them; the first argument of topk(), quantile_over_time() and their like

  // kAggregate: op by|without (grouping) (parameter, operand)
  Aggregation aggregation = Aggregation::kSum;
  bool without = false;
  bool has_grouping = false;
  std::vector<std::string> grouping;

  // kBinary
  BinaryOp op = BinaryOp::kAdd;
  bool return_bool = false;
  bool has_matching = false;  // on(...) or ignoring(...) was written
  bool on = false;            // else ignoring
  // group_left(…): an element of the right side meets several of the left, whose labels the result has;
  // group_right(…): the other way round.
  enum class Group : std::uint8_t { kNone, kLeft, kRight };
  Group group = Group::kNone;
  std::vector<std::string> matching;
  std::vector<std::string> copied;  // labels that the result takes from the side that has one element

  ExprPtr left;  // the operand of kAggregate, kNegate, kParen, kCall; the left side of kBinary
  ExprPtr right;

  // How long what a match says is asked for: of kRangeCall.
  Duration reach() const;
  // Of a kRangeCall: a match that comes so long after its own time can let nothing fire any more.
  Duration lets_fire_for() const;
  // How long it must have been watched for: of kBaselineOverTime enough_looks() of its windows.
  Duration known_after() const {
    if (asks_keys()) return reach();
    const bool baseline = kind == Kind::kRangeCall && function == RangeFunction::kBaselineOverTime;
    return window + range_offset + ((baseline ? enough_looks() : looks) - 1) * again;
  }
  // Of so many windows that were watched kBaselineOverTime takes the mean: more than half of them.
  std::uint32_t enough_looks() const { return looks / 2 + 1; }
  // Of kRangeCall: an operand of kKeyed, about the keys of its pattern's matches.
  bool asks_keys() const { return kind == Kind::kRangeCall && !key.empty(); }
  // And what of them must be kept.
  KeyedNeed keyed_need() const;
  // Of kRangeCall: it is about the pattern's `value:`, and has an element only where there are some.
  bool asks_values() const { return function >= RangeFunction::kSumOverTime; }
  bool is_comparison() const;
  bool is_set_operator() const;
  // An aggregation that picks elements and leaves their labels.
  bool picks() const {
    return kind == Kind::kAggregate &&
           (aggregation == Aggregation::kTopk || aggregation == Aggregation::kBottomk);
  }
  // A part of the date of now.
  bool is_date_of_now() const;
  // Of kCall m_of_n: how many instants it looks at, how far apart they are, and at how many it must hold.
  struct MOfN {
    std::uint32_t least = 1;
    std::uint32_t looks = 1;
    Duration again{0};
  };
  MOfN m_of_n() const;
  bool is_call(InstantFunction which) const { return kind == Kind::kCall && instant == which; }
};

// `a OP b` is `b mirrored(OP) a`.
Expr::BinaryOp mirrored(Expr::BinaryOp op);

struct ExprError {
  std::size_t offset = 0;  // byte in the text
  std::string reason;
  std::string fix;
};

// Text -> typed tree. Names of patterns are not looked at yet.
tl::expected<ExprPtr, ExprError> parse_expr(std::string_view text);

// The same tree with every pattern_index set, labels of matchers and groupings known, no operator whose sides
// cannot meet (unlike labels) or meet many to one without group_left or group_right, and nothing that can never be
// true (a count below zero, two ranges that exclude each other, a constant falsehood, `a="x",a="y"`). That is
// not looked for where numbers stand in for ones that nobody knows yet.
// `location`: the zone that hours are of. `use`: what its elements do, for the words of a problem.
enum class Numbers { kWritten, kStandIns };
enum class ExprUse { kFires, kEnds };
tl::expected<ExprPtr, ExprError> bind_expr(const ExprPtr& expr, const std::vector<PatternSpec>& patterns,
                                           Numbers numbers = Numbers::kWritten,
                                           const std::string& location = {}, ExprUse use = ExprUse::kFires);
// Whether `ends` is seen to have no element but those that `fires` has. Of two bound ones whose elements have the
// same labels.
bool is_true_only_with(const ExprPtr& ends, const ExprPtr& fires);

// Canonical text: the same for the same meaning, whatever the spacing; parses back to an equal tree.
std::string format_expr(const Expr& expr);

// What PromQL allows and no author of a rule can mean: that a bound one is always true where it has an element at every
// instant, or asks for a quantile beyond 0 to 1, which is infinite. Unset: nothing of that kind.
std::optional<ExprError> cannot_be_meant(const Expr& expr);
// Whether `value OP number` can be true at all, of a bound one.
bool may_hold(const ExprPtr& value, Expr::BinaryOp op, double number);

// What a rule's truth rests on: DESIGN.md §3 "Unknown". A rule may rest on both.
struct Polarity {
  bool presence = false;  // more matches can make it true: >, >=, ratios, present_over_time
  bool absence =
      false;  // fewer matches can make it true: == 0, <, absent_over_time, the right side of unless
  bool ratio = false;  // it divides by a number of matches: without those it is higher than it should be
};
Polarity polarity(const Expr& expr);

// The labels that an element of the result can have; each is taken from logs.
std::vector<std::string> result_labels(const Expr& expr, const std::vector<PatternSpec>& patterns);
// Label values that every element has, from `=` matchers (`{queue="a"}` keeps queue="a").
Labels fixed_labels(const Expr& expr, const std::vector<PatternSpec>& patterns);

// What `expr` is made of: left, right, operands, parameters, as far as it has them.
std::vector<const Expr*> parts_of(const Expr& expr);
// Every kRangeCall in the tree.
std::vector<const Expr*> range_calls(const Expr& expr);
// Adds to each pattern's `keys` those that `expr`, a bound one, asks for.
void collect_keys(const Expr& expr, std::vector<PatternSpec>& patterns);
// Whether it has an element at every instant, and never more than one. Of a bound one.
bool is_single(const Expr& expr);
// The first instant after `at` at which a function of the clock can give something else; unset: there is
// none.
std::optional<Timestamp> next_clock_turn(const Expr& expr, Timestamp at);
// How far back it looks: the longest window with its offset.
Duration longest_window(const Expr& expr);
// How long its patterns must have been watched for what it says to be known: no longer than that.
Duration known_after(const Expr& expr);

}  // namespace logbell::rules

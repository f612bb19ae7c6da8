#include "rules/expr.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <iterator>
#include <limits>
#include <tuple>
#include <utility>

#include <fmt/format.h>

#include "rules/expr_text.h"
#include "rules/problems.h"
#include "rules/quantity.h"
#include "rules/template.h"
#include "rules/text.h"

namespace logbell::rules {
namespace {

using Kind = Expr::Kind;
using Type = Expr::Type;
using Op = Expr::BinaryOp;
using Range = Expr::RangeFunction;
using Aggregation = Expr::Aggregation;

// A window keeps its matches in memory, and older ones less exactly: a month, as goals of availability have it. What
// asks about more is a question for reports.
constexpr Duration kMaxWindow = std::chrono::hours(24 * 31);
// Four weeks: the same hour of the same day, a month ago. What came since then is kept.
constexpr Duration kMaxOffset = std::chrono::hours(24 * 28);
// m_of_n() looks at its expression so often at each instant, baseline_over_time() at so many windows; of more, a
// longer window says as much.
constexpr double kMaxLooks = 60;
// Deeper than any rule a person reads; keeps recursion off the end of the stack.
constexpr int kMaxExprDepth = 64;
constexpr std::size_t kMaxBytes = 16 * 1024;
// A chain of operators is as deep a tree as it is long, and is looked at from every one of its places.
constexpr int kMaxOperators = 500;

constexpr std::array<std::string_view, 14> kRangeNames{"count_over_time",    "rate",
                                                       "absent_over_time",   "present_over_time",
                                                       "baseline_over_time", "sum_over_time",      "avg_over_time",
                                                       "min_over_time",      "max_over_time",
                                                       "stddev_over_time",   "stdvar_over_time",
                                                       "quantile_over_time", "first_over_time",
                                                       "last_over_time"};
constexpr std::array<std::string_view, 11> kAggregationNames{
    "sum", "min", "max", "avg", "count", "topk", "bottomk", "quantile", "stddev", "stdvar", "group"};
constexpr std::array<std::string_view, 15> kOpNames{
    "+", "-", "*", "/", "%", "^", "==", "!=", ">", "<", ">=", "<=", "and", "or", "unless"};

// What PromQL and LogQL know and we do not (yet), told apart from a slip of the pen; and what does instead.
constexpr std::string_view kOverValues =
    "give the pattern a `value:` and ask for it, as in quantile_over_time(0.99, PATTERN[5m]) or "
    "sum_over_time(PATTERN[5m])";
constexpr std::string_view kTwoWindows =
    "compare two windows, as in rate(PATTERN[5m]) > 2 * rate(PATTERN[1h]), or rate(PATTERN[5m] offset 1h)";
constexpr std::string_view kByTheRoute =
    "`active_time_intervals` and `mute_time_intervals` of a route keep hours";
constexpr std::string_view kBySeries =
    "every series fires by itself: name the threshold, as in sum by (LABEL) (count_over_time(PATTERN[5m])) > "
    "3";
struct ForeignFunction {
  std::string_view name;
  std::string_view instead;
};
constexpr std::array kForeign{
    ForeignFunction{"increase", "count_over_time(PATTERN[5m]) is the same: the matches in the window"},
    ForeignFunction{"irate", "rate(PATTERN[10s]) follows as fast"},
    ForeignFunction{"idelta", kTwoWindows},
    ForeignFunction{"delta", kTwoWindows},
    ForeignFunction{"deriv", kTwoWindows},
    ForeignFunction{"predict_linear", kTwoWindows},
    ForeignFunction{"holt_winters", kTwoWindows},
    ForeignFunction{"changes", "count_over_time counts every match"},
    ForeignFunction{"resets", "count_over_time counts every match"},
    ForeignFunction{"histogram_quantile", kOverValues},
    ForeignFunction{"bytes_rate", kOverValues},
    ForeignFunction{"bytes_over_time", kOverValues},
    ForeignFunction{"sort", kBySeries},
    ForeignFunction{"sort_desc", kBySeries},
    ForeignFunction{"count_values", kBySeries},
    ForeignFunction{"absent", "write absent_over_time(PATTERN[5m])"},
    ForeignFunction{"label_replace", "capture the label as it should be in the pattern's regex"},
    ForeignFunction{"label_join", "capture the label as it should be in the pattern's regex"},
    ForeignFunction{"timestamp", kByTheRoute},
};

int precedence(Op op) {
  switch (op) {
    case Op::kOr:
      return 1;
    case Op::kAnd:
    case Op::kUnless:
      return 2;
    case Op::kEq:
    case Op::kNe:
    case Op::kGt:
    case Op::kLt:
    case Op::kGe:
    case Op::kLe:
      return 3;
    case Op::kAdd:
    case Op::kSub:
      return 4;
    case Op::kMul:
    case Op::kDiv:
    case Op::kMod:
      return 5;
    case Op::kPow:
      return 7;  // a unary sign is 6: -a ^ b is -(a ^ b)
  }
  return 0;
}
constexpr int kUnaryPrecedence = 6;

struct Token {
  enum class What { kEnd, kNumber, kDuration, kWord, kString, kSymbol } what = What::kEnd;
  std::string text;
  std::size_t offset = 0;
  double number = 0;
};

template <std::size_t N>
int index_in(const std::array<std::string_view, N>& names, std::string_view word) {
  const auto found = std::find(names.begin(), names.end(), word);
  return found == names.end() ? -1 : static_cast<int>(found - names.begin());
}

// Recursive descent for what stands alone, precedence climbing between (as PromQL's yacc grammar resolves
// it). Errors travel as an exception that never leaves parse_expr: every production could fail.
class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) { advance(); }

  ExprPtr parse() {
    if (token_.what == Token::What::kEnd)
      wrong(0, "the expression is empty", "as in count_over_time(PATTERN[5m]) > 3");
    ExprPtr expr = binary(1, 0);
    if (token_.what != Token::What::kEnd) unexpected("the end of the expression");
    return expr;
  }

 private:
  [[noreturn]] static void wrong(std::size_t offset, std::string reason, std::string fix = {}) {
    throw ExprError{offset, std::move(reason), std::move(fix)};
  }
  [[noreturn]] void unexpected(std::string_view wanted) const {
    if (token_.what == Token::What::kEnd)
      wrong(token_.offset, fmt::format("the expression ends where {} is expected", wanted));
    if (is_word_token("offset"))
      wrong(token_.offset, fmt::format("`offset` belongs behind a window; here {} is expected", wanted),
            "as in count_over_time(PATTERN[5m] offset 1h)");
    if (token_.text == "@")
      wrong(token_.offset, "`@` is not supported: a window ends now, or an `offset` before now",
            fmt::format("leave it out; here {} is expected", wanted));
    if (is_word_token("group_left") || is_word_token("group_right"))
      wrong(token_.offset, fmt::format("`{0}` belongs behind `on (…)` or `ignoring (…)`; here {1} is expected", token_.text, wanted),
            fmt::format("as in … / on (LABEL) {} () …", lower(token_.text)));
    wrong(token_.offset, fmt::format("`{}` where {} is expected", as_written(), wanted), meant_instead());
  }
  // The piece that an operator of another language fills.
  std::string as_written() const {
    if (token_.what != Token::What::kSymbol) return token_.text;
    const std::string_view two = text_.substr(token_.offset, 2);
    return two == "=>" || two == "=<" || two == "&&" || two == "||" || two == "<>" ? std::string(two)
                                                                                   : token_.text;
  }
  // What other languages write, and what PromQL does.
  std::string meant_instead() const {
    static constexpr std::array<std::pair<std::string_view, std::string_view>, 9> kMeant{{{"=", "=="},
                                                                                          {"=>", ">="},
                                                                                          {"=<", "<="},
                                                                                          {"&&", "and"},
                                                                                          {"&", "and"},
                                                                                          {"||", "or"},
                                                                                          {"|", "or"},
                                                                                          {"!", "unless"},
                                                                                          {"=~", "=="}}};
    const std::string written = as_written();
    if (token_.what == Token::What::kWord && (is_word_token("not") || is_word_token("xor")))
      return "there are `and`, `or` and `unless`";
    for (const auto& [foreign, ours] : kMeant) {
      if (token_.what == Token::What::kSymbol && written == foreign) return fmt::format("write `{}`", ours);
    }
    return "";
  }

  static bool starts_word(char c) { return std::isalpha(static_cast<unsigned char>(c)) != 0 || c == '_'; }
  static bool is_word(char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == ':';
  }

  void advance() {
    while (at_ < text_.size() &&
           (std::isspace(static_cast<unsigned char>(text_[at_])) != 0 || text_[at_] == '#')) {
      if (text_[at_] == '#') {
        while (at_ < text_.size() && text_[at_] != '\n')
          ++at_;
      } else {
        ++at_;
      }
    }
    token_ = Token{};
    token_.offset = at_;
    if (at_ >= text_.size()) return;
    const char c = text_[at_];
    if (std::isdigit(static_cast<unsigned char>(c)) != 0 ||
        (c == '.' && at_ + 1 < text_.size() &&
         std::isdigit(static_cast<unsigned char>(text_[at_ + 1])) != 0)) {
      return read_number();
    }
    if (c == '"' || c == '\'' || c == '`') return read_string(c);
    if (starts_word(c)) {
      const std::size_t from = at_;
      while (at_ < text_.size() && is_word(text_[at_]))
        ++at_;
      token_.what = Token::What::kWord;
      token_.text = text_.substr(from, at_ - from);
      const std::string word = lower(token_.text);
      if (word == "inf" || word == "nan") {
        token_.what = Token::What::kNumber;
        token_.number = word == "inf" ? std::numeric_limits<double>::infinity()
                                      : std::numeric_limits<double>::quiet_NaN();
      }
      return;
    }
    token_.what = Token::What::kSymbol;
    for (const std::string_view two : {"==", "!=", ">=", "<=", "=~", "!~"}) {
      if (text_.substr(at_, 2) != two) continue;
      token_.text = two;
      at_ += 2;
      return;
    }
    token_.text = std::string(1, c);
    ++at_;
  }

  void read_number() {
    const std::size_t from = at_;
    if (text_[at_] == '0' && at_ + 1 < text_.size() && lower(text_.substr(at_ + 1, 1)) == "x") {
      at_ += 2;
      std::uint64_t value = 0;
      const auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), value, 16);
      if (error != std::errc()) wrong(from, "a hexadecimal number is expected behind 0x", "as in 0x1f");
      at_ = static_cast<std::size_t>(end - text_.data());
      token_.number = static_cast<double>(value);
    } else {
      std::size_t end = at_;
      while (end < text_.size() && is_word(text_[end]) && text_[end] != ':')
        ++end;
      const std::string_view word = text_.substr(at_, end - at_);
      const bool has_unit = word.find_first_of("smhdwy") != std::string_view::npos;
      if (has_unit) {
        const Result<Duration> duration = parse_duration(word);
        if (!duration)
          wrong(from, fmt::format("`{}` is not a duration", word), "as in 250ms, 30s, 5m, 1h30m, 2d");
        token_.what = Token::What::kDuration;
        token_.text = word;
        token_.number = static_cast<double>(duration->count()) / 1000.0;
        at_ = end;
        return;
      }
      const auto [stop, error] =
          std::from_chars(text_.data() + at_, text_.data() + text_.size(), token_.number);
      if (error != std::errc())
        wrong(from, fmt::format("`{}` is beyond what a number can hold", word),
              "a number lies between 5e-324 and 1.7e308; infinity is Inf");
      at_ = static_cast<std::size_t>(stop - text_.data());
    }
    if (at_ < text_.size() && is_word(text_[at_])) {
      std::size_t end = at_;
      while (end < text_.size() && is_word(text_[end]))
        ++end;
      const std::string_view word = text_.substr(from, end - from);
      // Lines may say it so, expressions not.
      const std::optional<double> size = parse_quantity(word);
      wrong(from, fmt::format("`{}` is not a number", word),
            size ? fmt::format("write a size in bytes: {}", format_number(*size)) : "a number is expected, as in 3, 0.5, 1e3 or 5m");
    }
    token_.what = Token::What::kNumber;
    token_.text = text_.substr(from, at_ - from);
  }

  void read_string(char quote) {
    const std::size_t from = at_++;
    std::string value;
    while (at_ < text_.size() && text_[at_] != quote) {
      if (text_[at_] != '\\' || quote == '`') {
        value += text_[at_++];
        continue;
      }
      if (++at_ >= text_.size()) break;
      const char c = text_[at_++];
      switch (c) {
        case 'n':
          value += '\n';
          break;
        case 't':
          value += '\t';
          break;
        case 'r':
          value += '\r';
          break;
        case '\\':
        case '"':
        case '\'':
          value += c;
          break;
        default:
          wrong(at_ - 2, fmt::format("unknown escape `\\{}` in a string", c),
                fmt::format("write `\\\\{}`, or put the string in backticks", c));
      }
    }
    if (at_ >= text_.size())
      wrong(from, "a text that never ends", fmt::format("`{}` is expected at its end", quote));
    ++at_;
    token_.what = Token::What::kString;
    token_.text = std::move(value);
  }

  bool is_symbol(std::string_view symbol) const {
    return token_.what == Token::What::kSymbol && token_.text == symbol;
  }
  bool is_word_token(std::string_view word) const {
    return token_.what == Token::What::kWord && lower(token_.text) == word;
  }
  void expect(std::string_view symbol) {
    if (!is_symbol(symbol)) unexpected(fmt::format("`{}`", symbol));
    advance();
  }

  std::optional<Op> binary_op() const {
    if (token_.what != Token::What::kSymbol && token_.what != Token::What::kWord) return std::nullopt;
    const int index =
        index_in(kOpNames, token_.what == Token::What::kWord ? lower(token_.text) : token_.text);
    if (index < 0) return std::nullopt;
    return static_cast<Op>(index);
  }

  ExprPtr binary(int least, int depth) {
    if (depth > kMaxExprDepth) wrong(token_.offset, fmt::format("nested deeper than {}", kMaxExprDepth));
    ExprPtr left = unary(depth + 1);
    for (std::optional<Op> op = binary_op(); op && precedence(*op) >= least; op = binary_op()) {
      auto node = std::make_shared<Expr>();
      node->kind = Kind::kBinary;
      node->op = *op;
      node->offset = token_.offset;
      if (++operators_ > kMaxOperators)
        wrong(token_.offset, fmt::format("more than {} operators", kMaxOperators),
              "split it into several rules");
      advance();
      if (is_word_token("bool")) {
        if (!node->is_comparison())
          wrong(token_.offset, "`bool` belongs to comparisons only", "leave it out, or as in … > bool 3");
        node->return_bool = true;
        advance();
      }
      if (is_word_token("on") || is_word_token("ignoring")) {
        node->has_matching = true;
        node->on = is_word_token("on");
        advance();
        node->matching = names();
        if (is_word_token("group_left") || is_word_token("group_right")) group(*node);
      }
      // ^ is right-associative, everything else left.
      const int next = precedence(*op) + (*op == Op::kPow ? 0 : 1);
      node->left = left;
      node->right = binary(next, depth + 1);
      check_types(*node);
      left = node;
    }
    return left;
  }

  // group_left(…), group_right(…): what follows in brackets are labels, as in PromQL.
  void group(Expr& node) {
    const std::string word = lower(token_.text);
    const std::size_t offset = token_.offset;
    node.group = word == "group_left" ? Expr::Group::kLeft : Expr::Group::kRight;
    if (node.is_set_operator())
      wrong(offset, fmt::format("`{}` does not go with `{}`, in which one may meet several anyway", word,
                                kOpNames[static_cast<std::size_t>(node.op)]),
            "leave it out");
    advance();
    if (!is_symbol("(")) return;
    try {
      node.copied = names();
    } catch (const ExprError& error) {
      wrong(error.offset, error.reason,
            fmt::format("in the brackets of `{0}` are labels; where there are none, write `{0} ()` before what follows",
                        word));
    }
    for (const std::string& name : node.copied) {
      if (node.on && contains(node.matching, name))
        wrong(offset, fmt::format("the label {} is in `on` and in `{}`, and what meets has it in common anyway", name, word),
              "leave it out of one of them");
    }
  }

  static void check_types(Expr& node) {
    const bool both = node.left->type == Type::kVector && node.right->type == Type::kVector;
    const std::string_view name = kOpNames[static_cast<std::size_t>(node.op)];
    if (node.is_set_operator() && !both) {
      wrong(node.offset, fmt::format("`{}` joins two sets of series, and one side is a number", name),
            "compare on each side first, as in a > 1 and b > 2");
    }
    if (node.has_matching && !both)
      wrong(node.offset, "`on` and `ignoring` need series on both sides",
            "leave it out: a number is compared with every series");
    node.type =
        node.left->type == Type::kVector || node.right->type == Type::kVector ? Type::kVector : Type::kScalar;
  }

  ExprPtr unary(int depth) {
    if (depth > kMaxExprDepth) wrong(token_.offset, fmt::format("nested deeper than {}", kMaxExprDepth));
    if (is_symbol("+") || is_symbol("-")) {
      const bool minus = is_symbol("-");
      const std::size_t offset = token_.offset;
      advance();
      ExprPtr operand = binary(kUnaryPrecedence, depth + 1);
      if (!minus) return operand;
      auto node = std::make_shared<Expr>();
      node->offset = offset;
      node->kind = Kind::kNegate;
      node->type = operand->type;
      node->left = operand;
      return node;
    }
    return primary(depth);
  }

  std::vector<std::string> names() {
    std::vector<std::string> list;
    expect("(");
    while (!is_symbol(")")) {
      if (token_.what != Token::What::kWord || !is_label_name(token_.text)) unexpected("a label's name");
      list.push_back(token_.text);
      advance();
      if (!is_symbol(")")) expect(",");
    }
    advance();
    std::sort(list.begin(), list.end());
    list.erase(std::unique(list.begin(), list.end()), list.end());
    return list;
  }

  ExprPtr primary(int depth) {
    auto node = std::make_shared<Expr>();
    node->offset = token_.offset;
    if (token_.what == Token::What::kNumber || token_.what == Token::What::kDuration) {
      node->number = token_.number;
      advance();
      return node;
    }
    if (is_symbol("(")) {
      advance();
      node->kind = Kind::kParen;
      node->left = binary(1, depth + 1);
      node->type = node->left->type;
      expect(")");
      return node;
    }
    if (token_.what == Token::What::kString)
      wrong(token_.offset, "a text stands where a number or a count is expected",
            "as in count_over_time(PATTERN[5m]) > 3");
    if (token_.what != Token::What::kWord || is_word_token("group_left") || is_word_token("group_right"))
      unexpected("a function, a number or `(`");
    const std::string word = token_.text;
    if (const int index = index_in(kAggregationNames, lower(word)); index >= 0 && followed_by_aggregate()) {
      return aggregate(std::move(node), static_cast<Aggregation>(index), depth);
    }
    if (const int index = index_in(kRangeNames, word); index >= 0) {
      advance();
      expect("(");
      node->kind = Kind::kRangeCall;
      node->type = Type::kVector;
      node->function = static_cast<Range>(index);
      if (node->function == Range::kQuantileOverTime) quantile_parameter(*node, depth);
      range(*node);
      if (node->function == Range::kBaselineOverTime) periods(*node);
      expect(")");
      return node;
    }
    advance();
    if (const KeyedSignature* signature = find_keyed_function(word); signature != nullptr && is_symbol("("))
      return keyed_call(std::move(node), *signature);
    if (const InstantSignature* signature = find_instant_function(word);
        signature != nullptr && is_symbol("("))
      return instant_call(std::move(node), *signature, depth);
    if (is_symbol("(")) {
      for (const ForeignFunction& foreign : kForeign) {
        if (foreign.name == lower(word))
          wrong(node->offset, fmt::format("function `{}` is not there yet", word),
                std::string(foreign.instead));
      }
      const std::vector<std::string> known = function_names();
      const std::string guess = closest(word, known);
      wrong(node->offset, fmt::format("unknown function `{}`", word),
            guess.empty() ? fmt::format("there are {}", fmt::join(known, ", "))
                          : fmt::format("did you mean `{}`?", guess));
    }
    if (word == "offset" || word == "by" || word == "without" || binary_op_name(word)) {
      wrong(node->offset, fmt::format("`{}` where a function, a number or `(` is expected", word));
    }
    // A pattern's name on its own: with or without its window, it wants a function.
    std::string range_text = word;
    const std::size_t from = node->offset + word.size();
    std::size_t end = text_.find(']', from);
    const bool has_range = is_symbol("[") || is_symbol("{");
    if (has_range && end != std::string_view::npos) {
      range_text = text_.substr(node->offset, end + 1 - node->offset);
    } else {
      range_text += "[5m]";
    }
    wrong(node->offset, fmt::format("`{}` alone is a list of matches, not a number", word),
          fmt::format("count them: count_over_time({})", range_text));
  }

  static std::vector<std::string> function_names() {
    std::vector<std::string> known(kRangeNames.begin(), kRangeNames.end());
    for (const std::string_view name : keyed_function_names())
      known.emplace_back(name);
    known.insert(known.end(), kAggregationNames.begin(), kAggregationNames.end());
    for (const std::string_view name : instant_function_names())
      known.emplace_back(name);
    return known;
  }

  // Between its brackets, which are read too.
  std::vector<ExprPtr> arguments(int depth) {
    std::vector<ExprPtr> list;
    expect("(");
    while (!is_symbol(")")) {
      if (++operators_ > kMaxOperators)
        wrong(token_.offset, fmt::format("more than {} operators and arguments", kMaxOperators),
              "split it into several rules");
      list.push_back(binary(1, depth + 1));
      if (is_symbol(")")) break;
      expect(",");
      if (is_symbol(")")) unexpected("an argument");
    }
    advance();
    return list;
  }

  ExprPtr instant_call(std::shared_ptr<Expr> node, const InstantSignature& signature, int depth) {
    std::vector<ExprPtr> given = arguments(depth);
    if (given.size() < signature.least || given.size() > signature.most) {
      std::string wanted = fmt::format("{}", signature.most);
      if (signature.least != signature.most)
        wanted = fmt::format("{} or {}", signature.least, signature.most);
      if (signature.most == 0) wanted = "no";
      wrong(node->offset,
            fmt::format("`{}` takes {} argument{}, and {} {} given", signature.name, wanted,
                        signature.most == 1 ? "" : "s", given.size(), given.size() == 1 ? "is" : "are"),
            fmt::format("as in {}", signature.example));
    }
    for (std::size_t i = 0; i < given.size(); ++i) {
      const bool wants_number = i > 0 || signature.of_number;
      const bool is_number = given[i]->type == Type::kScalar;
      if (wants_number == is_number) continue;
      if (is_number)
        wrong(given[i]->offset, fmt::format("`{}` wants series, and a number is given", signature.name),
              fmt::format("as in {}", signature.example));
      wrong(given[i]->offset, fmt::format("`{}` wants a number here, and series are given", signature.name),
            fmt::format("scalar(…) makes a number of a single one; as in {}", signature.example));
    }
    node->kind = Kind::kCall;
    node->instant = signature.function;
    node->type = signature.is_number ? Type::kScalar : Type::kVector;
    if (signature.function == InstantFunction::kTime) return node;
    if (given.empty()) {
      // Of now.
      auto time = std::make_shared<Expr>();
      time->kind = Kind::kCall;
      time->instant = InstantFunction::kTime;
      time->offset = node->offset;
      auto now = std::make_shared<Expr>();
      now->kind = Kind::kCall;
      now->instant = InstantFunction::kVector;
      now->type = Type::kVector;
      now->offset = node->offset;
      now->left = std::move(time);
      node->left = std::move(now);
      return node;
    }
    node->left = std::move(given.front());
    node->parameters.assign(std::make_move_iterator(given.begin() + 1), std::make_move_iterator(given.end()));
    if (signature.function == InstantFunction::kMOfN) check_m_of_n(*node, signature.example);
    return node;
  }

  static bool has_m_of_n(const Expr& expr) {
    const std::vector<const Expr*> parts = parts_of(expr);
    return expr.is_call(InstantFunction::kMOfN) ||
           std::any_of(parts.begin(), parts.end(), [](const Expr* part) { return has_m_of_n(*part); });
  }

  static void check_m_of_n(const Expr& node, std::string_view example) {
    const std::string fix = fmt::format("as in {}", example);
    if (has_m_of_n(*node.left))
      wrong(node.left->offset, "`m_of_n` of a `m_of_n`: how often it held says the outer one",
            "ask for both with `and`");
    for (const ExprPtr& parameter : node.parameters) {
      if (parameter->kind != Kind::kNumber)
        wrong(parameter->offset, "`m_of_n` wants numbers here that stand there: how long is remembered rests on them", fix);
    }
    const double least = node.parameters[0]->number;
    const double looks = node.parameters[1]->number;
    const double seconds = node.parameters[2]->number;
    if (least != std::floor(least) || looks != std::floor(looks) || least < 1 || looks < least || looks > kMaxLooks)
      wrong(node.parameters[0]->offset,
            fmt::format("`m_of_n` of {} of {}: the first is at least 1, the second no less and at most {}",
                        format_number(least), format_number(looks), format_number(kMaxLooks)),
            fix);
    if (!(seconds >= 0.001) || (looks - 1) * seconds > std::chrono::duration<double>(kMaxOffset).count())
      wrong(node.parameters[2]->offset,
            fmt::format("`m_of_n` wants the time between two looks here, and looks no further back than {}",
                        format_duration(kMaxOffset)),
            fix);
  }

  static bool binary_op_name(std::string_view word) {
    return word == "and" || word == "or" || word == "unless" || word == "bool" || word == "on" ||
           word == "ignoring";
  }

  // `sum` may be a pattern's name too: only what is followed by ( or by/without is the aggregation.
  bool followed_by_aggregate() const {
    std::size_t i = at_;
    while (i < text_.size() && std::isspace(static_cast<unsigned char>(text_[i])) != 0)
      ++i;
    const std::string rest = lower(text_.substr(i, 7));
    return rest.compare(0, 1, "(") == 0 || rest.compare(0, 2, "by") == 0 || rest == "without";
  }

  bool grouping(Expr& node) {
    if (!is_word_token("by") && !is_word_token("without")) return false;
    node.has_grouping = true;
    node.without = is_word_token("without");
    advance();
    node.grouping = names();
    return true;
  }

  static bool has_parameter(Aggregation aggregation) {
    return aggregation == Aggregation::kTopk || aggregation == Aggregation::kBottomk ||
           aggregation == Aggregation::kQuantile;
  }
  static std::string_view parameter_example(Aggregation aggregation) {
    if (aggregation == Aggregation::kQuantile) return "0.9, ";
    return has_parameter(aggregation) ? "3, " : "";
  }

  ExprPtr aggregate(std::shared_ptr<Expr> node, Aggregation aggregation, int depth) {
    node->kind = Kind::kAggregate;
    node->type = Type::kVector;
    node->aggregation = aggregation;
    const std::string name = token_.text;
    advance();
    const bool before = grouping(*node);
    const std::string example =
        fmt::format("as in {}({}count_over_time(PATTERN[5m]))", name, parameter_example(aggregation));
    expect("(");
    if (has_parameter(aggregation)) {
      const std::size_t at = token_.offset;
      node->parameters.push_back(binary(1, depth + 1));
      if (is_symbol(")"))
        wrong(node->offset, fmt::format("`{}` takes a number and series, and one of them is given", name),
              example);
      if (node->parameters.front()->type != Type::kScalar)
        wrong(at, fmt::format("`{}` wants a number first, and series are given", name), example);
      expect(",");
    }
    node->left = binary(1, depth + 1);
    expect(")");
    if (!before) grouping(*node);
    if (node->left->type != Type::kVector)
      wrong(node->offset, fmt::format("`{}` wants series, and a number is given", name), example);
    return node;
  }

  void quantile_parameter(Expr& node, int depth) {
    const std::string_view example = "as in quantile_over_time(0.99, PATTERN[5m])";
    const std::size_t behind = text_.find_first_not_of(" \t\r\n", at_);
    const bool is_call = behind != std::string_view::npos && text_[behind] == '(';
    if (token_.what == Token::What::kWord && !is_call)
      wrong(token_.offset, "`quantile_over_time` wants a number first", std::string(example));
    const std::size_t at = token_.offset;
    node.parameters.push_back(binary(1, depth + 1));
    if (node.parameters.front()->type != Type::kScalar)
      wrong(at, "`quantile_over_time` wants a number first, and series are given", std::string(example));
    expect(",");
  }

  // Its key in quotes, then one pattern or several, of which the last one has the window.
  ExprPtr keyed_call(std::shared_ptr<Expr> node, const KeyedSignature& signature) {
    const std::string example = fmt::format("as in {}", signature.example);
    advance();
    node->kind = Kind::kKeyed;
    node->type = Type::kVector;
    node->keyed = signature.function;
    if (signature.function == KeyedFunction::kNewTemplate) return template_call(std::move(node), signature, example);
    if (token_.what != Token::What::kString)
      wrong(token_.offset,
            fmt::format("`{}` wants a capture's name in quotes first: what tells its matches apart", signature.name),
            example);
    if (!is_label_name(token_.text))
      wrong(token_.offset, fmt::format("\"{}\" is not a label's name, and alerts have it as one", token_.text),
            token_.text.find('.') == std::string::npos
                ? "a name is letters, digits and underscores, no digit first"
                : fmt::format("capture it in the pattern: where: {{{}: {{match: '(?P<NAME>.+)'}}}}", token_.text));
    if (token_.text == "alertname" || token_.text.rfind("__", 0) == 0)
      wrong(token_.offset, fmt::format("the label \"{}\" is logbell's own", token_.text), "give the capture another name");
    node->key = token_.text;
    advance();
    while (is_symbol(",")) {
      advance();
      if (node->operands.size() == signature.most)
        wrong(token_.offset, fmt::format("`{}` takes no more than {} pattern{}", signature.name, signature.most,
                                         signature.most == 1 ? "" : "s"),
              example);
      const std::shared_ptr<Expr> operand = keyed_operand(*node, signature);
      node->operands.push_back(operand);
      if (!is_symbol("[")) continue;
      const std::size_t offset = token_.offset;
      window(*operand);
      if (is_symbol(","))
        wrong(offset, fmt::format("`{}` has one window, which holds for all of its patterns", signature.name),
              "it stands behind the last one; " + example);
      if (is_word_token("offset"))
        wrong(token_.offset, fmt::format("`{}` has no offset", signature.name), "leave it out: it looks back as far as it says");
    }
    if (node->operands.size() < signature.least)
      wrong(node->offset,
            fmt::format("`{}` wants {}{} pattern{} behind its key, and {} {} given", signature.name,
                        signature.least == signature.most ? "" : "at least ", signature.least,
                        signature.least == 1 ? "" : "s", node->operands.size(), node->operands.size() == 1 ? "is" : "are"),
            example);
    if (signature.function == KeyedFunction::kUnanswered && node->operands[0]->pattern == node->operands[1]->pattern &&
        same_matchers(*node->operands[0], *node->operands[1]))
      wrong(node->operands[1]->offset, "each line would answer itself: both patterns are the same", example);
    if (node->operands.back()->window == Duration{0})
      wrong(token_.offset, "a window is missing", fmt::format("as in {}[5m]", node->operands.back()->pattern));
    expect(")");
    node->window = node->operands.back()->window;
    for (ExprPtr& operand : node->operands) {
      auto with_window = std::make_shared<Expr>(*operand);
      with_window->window = node->window;
      operand = std::move(with_window);
    }
    return node;
  }

  static bool same_matchers(const Expr& a, const Expr& b) {
    return std::equal(a.matchers.begin(), a.matchers.end(), b.matchers.begin(), b.matchers.end(),
                      [](const LabelMatcher& one, const LabelMatcher& other) { return one.format() == other.format(); });
  }

  // The next pattern of a function by key: what it counts, before its window.
  std::shared_ptr<Expr> keyed_operand(const Expr& node, const KeyedSignature& signature) {
    auto operand = std::make_shared<Expr>();
    operand->kind = Kind::kRangeCall;
    operand->type = Type::kVector;
    operand->offset = token_.offset;
    operand->keyed = signature.function;
    operand->key = node.key;
    operand->operand = node.operands.size();
    selector(*operand, signature.name);
    return operand;
  }

  // One pattern with its window, and no key: it is about what the lines say.
  ExprPtr template_call(std::shared_ptr<Expr> node, const KeyedSignature& signature, const std::string& example) {
    if (token_.what == Token::What::kString)
      wrong(token_.offset, fmt::format("`{}` takes no key: it is about what the whole line says", signature.name),
            fmt::format("leave it out, {}; what one capture had for the first time is first_seen(\"{}\", PATTERN[7d])",
                        example, token_.text));
    node->key = kTemplateLabel;
    const std::shared_ptr<Expr> operand = keyed_operand(*node, signature);
    if (is_symbol(","))
      wrong(token_.offset, fmt::format("`{}` takes one pattern", signature.name), example);
    if (!is_symbol("[")) {
      if (is_symbol(")"))
        wrong(token_.offset, "a window is missing", fmt::format("as in {}[7d]", operand->pattern));
      unexpected("`[`");
    }
    window(*operand);
    if (is_word_token("offset"))
      wrong(token_.offset, fmt::format("`{}` has no offset", signature.name), "leave it out: it looks back as far as it says");
    if (is_symbol(","))
      wrong(token_.offset, fmt::format("`{}` takes one pattern", signature.name), example);
    expect(")");
    node->window = operand->window;
    node->operands.push_back(operand);
    return node;
  }

  void range(Expr& node) {
    selector(node, kRangeNames[static_cast<std::size_t>(node.function)]);
    if (!is_symbol("[")) {
      if (is_symbol(")"))
        wrong(token_.offset, "a window is missing", fmt::format("as in {}[5m]", node.pattern));
      unexpected("`[`");
    }
    window(node);
    if (is_word_token("offset")) range_offset(node);
    if (is_word_token("offset") || is_symbol("@")) unexpected("`)`");
  }

  // A pattern, with its matchers if it has some.
  void selector(Expr& node, std::string_view function) {
    if (token_.what != Token::What::kWord) unexpected("a pattern's name");
    if (followed_by_call())
      wrong(token_.offset, fmt::format("`{}` wants a pattern with a window, as in PATTERN[5m]", function));
    node.pattern = token_.text;
    advance();
    if (is_symbol("{")) {
      advance();
      while (!is_symbol("}")) {
        if (token_.what != Token::What::kWord) unexpected("a label's name");
        const std::string name = token_.text;
        const std::size_t offset = token_.offset;
        advance();
        static constexpr std::array<std::string_view, 4> kOps{"=", "!=", "=~", "!~"};
        const int op = token_.what == Token::What::kSymbol ? index_in(kOps, token_.text) : -1;
        if (is_symbol("=="))
          wrong(token_.offset, "`==` where one of =, !=, =~ and !~ is expected", "write `=`");
        if (op < 0) unexpected("one of =, !=, =~ and !~");
        advance();
        if (token_.what == Token::What::kWord || token_.what == Token::What::kNumber ||
            token_.what == Token::What::kDuration) {
          wrong(token_.offset, fmt::format("`{}` where a value in quotes is expected", token_.text),
                fmt::format("write {}{}\"{}\"", name, kOps[static_cast<std::size_t>(op)], token_.text));
        }
        if (token_.what != Token::What::kString) unexpected("a value in quotes");
        auto matcher = LabelMatcher::make(name, static_cast<LabelMatcher::Op>(op), token_.text);
        if (!matcher) wrong(offset, matcher.error().message);
        node.matchers.push_back(*std::move(matcher));
        advance();
        if (!is_symbol("}")) expect(",");
      }
      advance();
      std::sort(node.matchers.begin(), node.matchers.end(), [](const LabelMatcher& a, const LabelMatcher& b) {
        return std::tie(a.name, a.op, a.value) < std::tie(b.name, b.op, b.value);
      });
    }
  }

  void window(Expr& node) {
    advance();
    const std::size_t offset = token_.offset;
    if (token_.what == Token::What::kNumber)
      wrong(offset, "a window needs a unit", fmt::format("as in [{}s] or [{}m]", token_.text, token_.text));
    if (token_.what != Token::What::kDuration) unexpected("a duration such as 5m");
    node.window = *parse_duration(token_.text);
    if (node.window <= Duration{0})
      wrong(offset, "a window of no length counts nothing", "as in [30s], [5m], [1h]");
    if (node.window > kMaxWindow)
      wrong(offset,
            fmt::format("a window of {} is longer than {}", format_duration(node.window),
                        format_duration(kMaxWindow)),
            "longer questions are for Prometheus, which keeps the counts");
    advance();
    if (is_symbol(":"))
      wrong(token_.offset, "subqueries are not supported: here `]` is expected",
            "give the window alone, as in [5m]: it is looked at whenever a match comes or leaves");
    expect("]");
  }

  // Behind the window of baseline_over_time: how far apart the windows are that it looks at, and how many.
  void periods(Expr& node) {
    static constexpr std::string_view kExample = "as in baseline_over_time(PATTERN[5m], 1d, 7)";
    if (node.range_offset > Duration{0})
      wrong(node.offset, "`baseline_over_time` looks back by itself, and takes no `offset`", std::string(kExample));
    if (is_symbol(")"))
      wrong(token_.offset, "`baseline_over_time` wants behind the window how long before it compares, and how often",
            std::string(kExample));
    expect(",");
    const std::size_t at = token_.offset;
    if (token_.what != Token::What::kDuration)
      wrong(at, "`baseline_over_time` wants a duration here: how far apart its windows are", std::string(kExample));
    node.again = *parse_duration(token_.text);
    if (node.again < node.window)
      wrong(at,
            fmt::format("windows of {} that are {} apart overlap: now would be compared with itself",
                        format_duration(node.window), format_duration(node.again)),
            std::string(kExample));
    advance();
    expect(",");
    const std::size_t behind = token_.offset;
    const double number = token_.number;
    if (token_.what != Token::What::kNumber || number != std::floor(number) || number < 1 || number > kMaxLooks)
      wrong(behind,
            fmt::format("`baseline_over_time` wants here of how many windows before now it takes the mean: 1 to {}",
                        format_number(kMaxLooks)),
            std::string(kExample));
    if (number * std::chrono::duration<double>(node.again).count() >
        std::chrono::duration<double>(kMaxOffset).count())
      wrong(behind, fmt::format("`baseline_over_time` looks no further back than {}", format_duration(kMaxOffset)),
            "longer questions are for Prometheus, which keeps the counts");
    advance();
    node.looks = static_cast<std::uint32_t>(number);
    node.range_offset = node.again;
  }

  void range_offset(Expr& node) {
    advance();
    const std::size_t offset = token_.offset;
    if (is_symbol("-"))
      wrong(offset, "a negative offset would look into the future", "as in offset 1h: an hour ago");
    if (token_.what == Token::What::kNumber)
      wrong(offset, "an offset needs a unit",
            fmt::format("as in offset {}m or offset {}h", token_.text, token_.text));
    if (token_.what != Token::What::kDuration) unexpected("a duration such as 1h");
    node.range_offset = *parse_duration(token_.text);
    if (node.range_offset > kMaxOffset)
      wrong(offset,
            fmt::format("an offset of {} is longer than {}", format_duration(node.range_offset),
                        format_duration(kMaxOffset)),
            "longer questions are for Prometheus, which keeps the counts");
    advance();
  }

  bool followed_by_call() const { return at_ < text_.size() && text_[at_] == '('; }

  std::string_view text_;
  std::size_t at_ = 0;
  int operators_ = 0;
  Token token_;
};

// --- what values an expression can take, for "can never be true"

// The values that an element can have: bounds that it may reach, and what the bounds do not say.
struct Interval {
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  bool whole = false;  // only whole numbers (or infinities)
  bool may_be_nan = true;
  bool always_nan = false;
  bool negative_zero = true;  // -0 may be among them: what is divided by it is negative
  bool is_constant() const { return low == high && !may_be_nan; }
  bool holds(double value) const { return low <= value && value <= high; }
};

constexpr double kInfinity = std::numeric_limits<double>::infinity();

Interval anything() {
  return {};
}
Interval nothing_but_nan() {
  return {-kInfinity, kInfinity, false, true, true, true};
}
Interval constant(double value) {
  if (std::isnan(value)) return nothing_but_nan();
  return {value, value, std::isfinite(value) && std::floor(value) == value,
          false, false, value == 0 && std::signbit(value)};
}
Interval from_zero(bool whole) {
  return {0, kInfinity, whole, false, false, false};
}

// The smallest interval around the four corners; those that are no number are left to `may_be_nan`.
template <typename Operation>
Interval around_corners(const Interval& a, const Interval& b, Operation operation) {
  Interval out{kInfinity, -kInfinity, false, true, false, true};
  for (const double x : {a.low, a.high}) {
    for (const double y : {b.low, b.high}) {
      const double corner = operation(x, y);
      if (std::isnan(corner)) continue;
      out.low = std::min(out.low, corner);
      out.high = std::max(out.high, corner);
    }
  }
  return out.low > out.high ? anything() : out;
}

Interval divided(const Interval& a, const Interval& b) {
  if (!b.holds(0)) return around_corners(a, b, [](double x, double y) { return x / y; });
  if (a.low < 0 || b.low < 0 || b.negative_zero) return anything();
  Interval out = from_zero(false);
  out.may_be_nan = true;
  return out;
}

// A remainder is smaller than what divides and has the sign of what is divided.
Interval remainder(const Interval& a, const Interval& b) {
  if (!b.is_constant()) return anything();
  const double divisor = std::abs(b.low);
  if (divisor == 0) return nothing_but_nan();
  if (std::isinf(divisor)) return anything();
  const bool whole = a.whole && b.whole;
  const double most = whole ? divisor - 1 : std::nextafter(divisor, 0.0);
  return {a.low < 0 ? -most : 0,       a.high > 0 ? std::min(most, a.high) : 0, whole, true, false,
          a.low < 0 || a.negative_zero};
}

Interval of_arithmetic(Op op, const Interval& a, const Interval& b) {
  // What 0 divides depends on which of the two zeros it is.
  const auto either_zero = [](const Interval& i) { return i.low == 0 && i.negative_zero; };
  const bool known = (op != Op::kDiv && op != Op::kPow) || (!either_zero(a) && !either_zero(b));
  if (a.is_constant() && b.is_constant() && known) {
    switch (op) {
      case Op::kAdd:
        return constant(a.low + b.low);
      case Op::kSub:
        return constant(a.low - b.low);
      case Op::kMul:
        return constant(a.low * b.low);
      case Op::kDiv:
        return constant(a.low / b.low);
      case Op::kMod:
        return constant(std::fmod(a.low, b.low));
      case Op::kPow:
        return constant(std::pow(a.low, b.low));
      default:
        return anything();
    }
  }
  if ((a.always_nan || b.always_nan) && op != Op::kPow) return nothing_but_nan();
  Interval out;
  switch (op) {
    case Op::kAdd:
      out = {a.low + b.low, a.high + b.high, a.whole && b.whole,
             true,          false,           a.negative_zero && b.negative_zero};
      break;
    case Op::kSub:
      out = {a.low - b.high, a.high - b.low, a.whole && b.whole, true, false, a.negative_zero};
      break;
    case Op::kMul:
      // Whatever is not infinite is 0 when multiplied by 0, however large it may be.
      out = around_corners(a, b, [](double x, double y) { return x == 0 || y == 0 ? 0 : x * y; });
      out.whole = a.whole && b.whole;
      out.negative_zero = a.low < 0 || b.low < 0 || a.negative_zero || b.negative_zero;
      break;
    case Op::kDiv:
      out = divided(a, b);
      break;
    case Op::kMod:
      out = remainder(a, b);
      break;
    default:
      return anything();
  }
  if (std::isnan(out.low) || std::isnan(out.high)) return anything();
  return out;
}

// Whether `left OP right` can hold for some pair of values of the two.
bool can_hold(Op op, const Interval& left, const Interval& right) {
  if (left.always_nan || right.always_nan) return op == Op::kNe;
  switch (op) {
    case Op::kGt:
      return left.high > right.low;
    case Op::kGe:
      return left.high >= right.low;
    case Op::kLt:
      return left.low < right.high;
    case Op::kLe:
      return left.low <= right.high;
    case Op::kEq: {
      if (left.low > right.high || right.low > left.high) return false;
      const auto impossible = [](const Interval& whole, const Interval& single) {
        return whole.whole && single.is_constant() && std::isfinite(single.low) &&
               std::floor(single.low) != single.low;
      };
      return !impossible(left, right) && !impossible(right, left);
    }
    case Op::kNe:
      return !(left.is_constant() && right.is_constant() && left.low == right.low);
    default:
      return true;
  }
}

const Expr& bare(const Expr& expr) {
  return expr.kind == Kind::kParen ? bare(*expr.left) : expr;
}

bool same_selector(const Expr& a, const Expr& b) {
  return a.pattern == b.pattern &&
         std::equal(a.matchers.begin(), a.matchers.end(), b.matchers.begin(), b.matchers.end(),
                    [](const LabelMatcher& x, const LabelMatcher& y) {
                      return x.name == y.name && x.op == y.op && x.value == y.value;
                    });
}

bool same_meaning(const Expr& one, const Expr& other);

bool same_parameters(const Expr& a, const Expr& b) {
  return std::equal(a.parameters.begin(), a.parameters.end(), b.parameters.begin(), b.parameters.end(),
                    [](const ExprPtr& x, const ExprPtr& y) { return same_meaning(*x, *y); });
}

bool same_grouping(const Expr& a, const Expr& b) {
  return a.aggregation == b.aggregation && a.has_grouping == b.has_grouping && a.without == b.without &&
         a.grouping == b.grouping && same_parameters(a, b);
}

// Whether both say the same, brackets aside: then they have the same elements with the same values.
bool same_meaning(const Expr& one, const Expr& other) {
  const Expr& a = bare(one);
  const Expr& b = bare(other);
  if (a.kind != b.kind) return false;
  switch (a.kind) {
    case Kind::kNumber:
      return a.number == b.number;
    case Kind::kRangeCall:
      return a.function == b.function && a.window == b.window && a.range_offset == b.range_offset &&
             a.looks == b.looks && a.again == b.again && same_selector(a, b) && same_parameters(a, b);
    case Kind::kKeyed:
      return a.keyed == b.keyed && a.key == b.key && a.window == b.window &&
             std::equal(a.operands.begin(), a.operands.end(), b.operands.begin(), b.operands.end(),
                        [](const ExprPtr& x, const ExprPtr& y) { return same_selector(*x, *y); });
    case Kind::kAggregate:
      return same_grouping(a, b) && same_meaning(*a.left, *b.left);
    case Kind::kCall:
      return a.instant == b.instant && (!a.left || same_meaning(*a.left, *b.left)) && same_parameters(a, b);
    case Kind::kBinary:
      return a.op == b.op && a.return_bool == b.return_bool && a.has_matching == b.has_matching &&
             a.on == b.on && a.matching == b.matching && a.group == b.group && a.copied == b.copied &&
             same_meaning(*a.left, *b.left) && same_meaning(*a.right, *b.right);
    default:
      return same_meaning(*a.left, *b.left);
  }
}

// Whether `more` is at least `less` in every element: the same counts over a window that holds the other.
bool counts_no_less(const Expr& more, const Expr& less) {
  const Expr& a = bare(more);
  const Expr& b = bare(less);
  if (a.kind != b.kind) return false;
  if (a.kind == Kind::kRangeCall)
    return a.function == Range::kCountOverTime && b.function == Range::kCountOverTime &&
           a.range_offset == b.range_offset && a.window >= b.window && same_selector(a, b);
  if (a.kind != Kind::kAggregate || !same_grouping(a, b)) return false;
  const bool rises = a.aggregation == Aggregation::kSum || a.aggregation == Aggregation::kMin ||
                     a.aggregation == Aggregation::kMax || a.aggregation == Aggregation::kAvg;
  return rises && counts_no_less(*a.left, *b.left);
}

// Above it, a double has no fraction and may stand for its neighbours.
constexpr double kWholeUpTo = 9007199254740992.0;

// The values that a filter `operand OP bound` lets through.
Interval filtered(Interval values, Op op, double bound) {
  const bool next = values.whole && std::abs(bound) < kWholeUpTo;
  if (op == Op::kGt && next) bound = std::floor(bound) + 1;
  if (op == Op::kLt && next) bound = std::ceil(bound) - 1;
  if (op == Op::kGt || op == Op::kGe || op == Op::kEq) values.low = std::max(values.low, bound);
  if (op == Op::kLt || op == Op::kLe || op == Op::kEq) values.high = std::min(values.high, bound);
  values.may_be_nan = values.may_be_nan && op == Op::kNe;
  values.always_nan = values.always_nan && values.may_be_nan;
  return values;
}

// What is computed may be off by some last digits, and so not rise where what it is computed from does.
Interval loosened(Interval values) {
  constexpr double kSome = 1e-12;
  values.low -= std::isfinite(values.low) ? std::abs(values.low) * kSome : 0;
  values.high += std::isfinite(values.high) ? std::abs(values.high) * kSome : 0;
  return values;
}

Interval range_of(const Expr& expr);

// Why a comparison of vectors, or of a vector with a number, never holds; "" when it may.
std::string why_it_never_holds(const Expr& node, const Interval& left, const Interval& right);

Interval range_of_aggregate(const Expr& expr) {
  const Interval inner = range_of(*expr.left);
  const bool may_be_nan = inner.may_be_nan || (inner.low == -kInfinity && inner.high == kInfinity);
  switch (expr.aggregation) {
    // Of no series it is no element, so it is never 0.
    case Aggregation::kCount:
      return {1, kInfinity, true, false, false, false};
    // Nothing to sum is 0 without `by`.
    case Aggregation::kSum:
      return {inner.low >= 0 ? 0 : -kInfinity,
              inner.high <= 0 ? 0 : kInfinity,
              inner.whole,
              may_be_nan,
              false,
              false};
    case Aggregation::kAvg:
      // A sum of fractions is rounded, and so may leave the bounds of what it sums.
      if (inner.whole) return {inner.low, inner.high, false, may_be_nan, inner.always_nan, true};
      return {inner.low >= 0 ? 0 : -kInfinity,
              inner.high <= 0 ? 0 : kInfinity,
              false,
              may_be_nan,
              inner.always_nan,
              true};
    // Between the least and the most, but for what rounding does; infinite ones among them make it NaN.
    case Aggregation::kQuantile: {
      const Interval phi = range_of(*expr.parameters.front());
      if (phi.always_nan) return nothing_but_nan();
      if (phi.low < 0 || phi.high > 1 || phi.may_be_nan) return anything();
      const Interval between = loosened(inner);
      return {between.low, between.high, false, true, inner.always_nan, true};
    }
    case Aggregation::kStddev:
    case Aggregation::kStdvar:
      return {0, kInfinity, false, true, inner.always_nan, false};
    case Aggregation::kGroup:
      return constant(1);
    default:
      return inner;
  }
}

Interval range_of_binary(const Expr& expr) {
  const Interval left = range_of(*expr.left);
  const Interval right = range_of(*expr.right);
  if (expr.is_comparison()) {
    if (expr.type == Type::kScalar || expr.return_bool) {
      if (expr.type == Type::kVector && !why_it_never_holds(expr, left, right).empty()) return constant(0);
      return {0, 1, true, false, false, false};
    }
    const bool left_scalar = expr.left->type == Type::kScalar;
    const Interval& kept = left_scalar ? right : left;
    const Interval& bound = left_scalar ? left : right;
    if (!bound.is_constant()) return kept;
    return filtered(kept, left_scalar ? mirrored(expr.op) : expr.op, bound.low);
  }
  if (expr.op == Op::kOr)
    return {std::min(left.low, right.low),       std::max(left.high, right.high),
            left.whole && right.whole,           left.may_be_nan || right.may_be_nan,
            left.always_nan && right.always_nan, left.negative_zero || right.negative_zero};
  if (expr.is_set_operator()) return left;
  if (expr.type == Type::kVector && same_meaning(*expr.left, *expr.right)) {
    // An element and itself; where that is no number, it is NaN.
    if (expr.op == Op::kSub) return {0, 0, true, true, false, false};
    if (expr.op == Op::kDiv) return {1, 1, true, true, false, false};
    if (expr.op == Op::kMod) return {0, 0, true, true, false, true};
  }
  return of_arithmetic(expr.op, left, right);
}

Interval range_of_call(const Expr& expr) {
  using Function = InstantFunction;
  // Some whole minute of some year.
  if (expr.instant == Function::kTime) return {-kInfinity, kInfinity, true, false, false, false};
  const Interval inner = range_of(*expr.left);
  if (expr.instant == Function::kMOfN) {
    const Expr::MOfN looks = expr.m_of_n();
    return {static_cast<double>(looks.least), static_cast<double>(looks.looks), true, false, false, false};
  }
  if (is_date_part(expr.instant)) {
    const auto [least, most] = date_part_range(expr.instant);
    return {least, most, true, !expr.is_date_of_now(), inner.always_nan, false};
  }
  std::vector<double> low;
  std::vector<double> high;
  bool constant_parameters = true;
  bool nan = inner.may_be_nan;
  bool whole = inner.whole;
  for (const ExprPtr& parameter : expr.parameters) {
    const Interval values = range_of(*parameter);
    low.push_back(values.low);
    high.push_back(values.high);
    constant_parameters = constant_parameters && values.is_constant();
    nan = nan || values.may_be_nan;
    whole = whole && values.whole;
  }
  // Of one that rises with its argument and its parameters.
  const auto rising = [&](double from, double to, bool all_whole) {
    return Interval{apply(expr.instant, from, low),
                    apply(expr.instant, to, high),
                    all_whole,
                    nan,
                    inner.always_nan,
                    true};
  };
  switch (expr.instant) {
    case Function::kAbs:
      if (inner.low >= 0) return {inner.low, inner.high, whole, nan, inner.always_nan, false};
      return {inner.high <= 0 ? std::abs(inner.high) : 0,
              std::max(-inner.low, inner.high),
              whole,
              nan,
              inner.always_nan,
              false};
    case Function::kCeil:
    case Function::kFloor:
    case Function::kSgn:
      return rising(inner.low, inner.high, true);
    case Function::kRound: {
      if (low.empty()) return rising(inner.low, inner.high, true);
      const double inverse = 1 / low.front();
      if (!constant_parameters) return anything();
      if (low.front() == 0 || std::isinf(low.front())) return nothing_but_nan();
      if (!std::isfinite(inverse)) return anything();
      Interval out = rising(inner.low, inner.high, low.front() == 1);
      // Beyond what a number can hold on the way.
      if (std::isnan(out.low) || std::isnan(out.high)) return anything();
      return out;
    }
    case Function::kClamp:
    case Function::kClampMin:
    case Function::kClampMax: {
      Interval out = rising(inner.low, inner.high, whole);
      out.always_nan = false;
      return out;
    }
    case Function::kSqrt:
    case Function::kLn:
    case Function::kLog2:
    case Function::kLog10: {
      if (inner.high < 0) return nothing_but_nan();
      nan = nan || inner.low < 0;
      const Interval out = rising(std::max(inner.low, 0.0), inner.high, false);
      return expr.instant == Function::kSqrt ? out : loosened(out);
    }
    case Function::kExp: {
      Interval out = loosened(rising(inner.low, inner.high, false));
      out.negative_zero = false;
      return out;
    }
    case Function::kScalar: {
      Interval out = inner;
      out.may_be_nan = out.may_be_nan || !is_single(*expr.left);
      return out;
    }
    case Function::kVector:
      return inner;
    default:
      return anything();
  }
}

Interval range_of(const Expr& expr) {
  switch (expr.kind) {
    case Kind::kNumber:
      return constant(expr.number);
    case Kind::kParen:
      return range_of(*expr.left);
    case Kind::kNegate: {
      const Interval inner = range_of(*expr.left);
      return {-inner.high, -inner.low, inner.whole, inner.may_be_nan, inner.always_nan, true};
    }
    case Kind::kRangeCall:
      switch (expr.function) {
        case Range::kCountOverTime:
          return from_zero(true);
        case Range::kRate:
        case Range::kBaselineOverTime:
          return from_zero(false);
        case Range::kAbsentOverTime:
        case Range::kPresentOverTime:
          return constant(1);
        case Range::kStddevOverTime:
        case Range::kStdvarOverTime:
          return {0, kInfinity, false, true, false, false};
        default:
          return anything();
      }
    case Kind::kKeyed:
      if (expr.keyed == KeyedFunction::kDistinct) return from_zero(true);
      if (is_of_what_is_new(expr.keyed)) return {1, kInfinity, true, false, false, false};
      return constant(1);
    case Kind::kAggregate:
      return range_of_aggregate(expr);
    case Kind::kBinary:
      return range_of_binary(expr);
    case Kind::kCall:
      return range_of_call(expr);
  }
  return anything();
}

// What `expr` is, for a sentence such as "a count is never below 0".
std::string noun_for(const Expr& expr, std::string_view otherwise) {
  const Expr& node = bare(expr);
  if (node.kind == Kind::kRangeCall) {
    if (node.function == Range::kCountOverTime) return "a count";
    if (node.function == Range::kRate) return "a rate";
    if (node.function == Range::kBaselineOverTime) return "a mean of counts";
    return fmt::format("`{}`", kRangeNames[static_cast<std::size_t>(node.function)]);
  }
  if (node.kind == Kind::kKeyed) return fmt::format("`{}`", signature_of(node.keyed).name);
  if (node.kind == Kind::kAggregate) {
    if (node.aggregation == Aggregation::kCount)
      return "`count`, which gives nothing where there are no series,";
    if (node.aggregation == Aggregation::kSum) {
      const std::string inner = noun_for(*node.left, "");
      if (inner == "a count") return "a sum of counts";
      if (inner == "a rate") return "a sum of rates";
    }
  }
  if (node.kind == Kind::kBinary && node.return_bool) return "what `bool` gives, 0 or 1,";
  return std::string(otherwise);
}

std::string why_values_never_hold(const Expr& node, const Interval& left, const Interval& right) {
  if (left.always_nan || right.always_nan) return "no number compares with NaN";
  const std::string left_is = noun_for(*node.left, "the left side") + " is ";
  const std::string right_is = noun_for(*node.right, "the right side") + " is ";
  const bool left_varies = node.left->type == Type::kVector;
  const auto at_most = [](const std::string& what, const Interval& values) {
    return values.low == values.high ? fmt::format("{}always {}", what, format_number(values.high))
                                     : fmt::format("{}never above {}", what, format_number(values.high));
  };
  const auto at_least = [](const std::string& what, const Interval& values) {
    return values.low == values.high ? fmt::format("{}always {}", what, format_number(values.low))
                                     : fmt::format("{}never below {}", what, format_number(values.low));
  };
  const bool too_low = left.high < right.low || (left.high == right.low && node.op != Op::kEq);
  if (node.op == Op::kNe) return at_most(left_varies ? left_is : right_is, left);
  if (node.op == Op::kEq && !(left.low > right.high || right.low > left.high))
    return (left.whole ? left_is : right_is) + "a whole number";
  const bool needs_more = node.op == Op::kGt || node.op == Op::kGe || (node.op == Op::kEq && too_low);
  if (needs_more) {
    if (left_varies && std::isfinite(left.high)) return at_most(left_is, left);
    if (!left_varies) return at_least(right_is, right);
    return std::isinf(right.low) ? "nothing is above +Inf" : at_least(right_is, right);
  }
  if (left_varies && std::isfinite(left.low)) return at_least(left_is, left);
  if (!left_varies) return at_most(right_is, right);
  return std::isinf(right.high) ? "nothing is below -Inf" : at_most(right_is, right);
}

std::string why_it_never_holds(const Expr& node, const Interval& left, const Interval& right) {
  if (!can_hold(node.op, left, right)) return why_values_never_hold(node, left, right);
  if (node.left->type != Type::kVector || node.right->type != Type::kVector) return "";
  const bool strict = node.op == Op::kGt || node.op == Op::kLt;
  // NaN is not equal to itself.
  if ((strict || (node.op == Op::kNe && !left.may_be_nan)) && same_meaning(*node.left, *node.right))
    return "both sides are the same";
  if ((node.op == Op::kLt && counts_no_less(*node.left, *node.right)) ||
      (node.op == Op::kGt && counts_no_less(*node.right, *node.left)))
    return "a longer window of the same selector never counts less";
  return "";
}

// The constant bounds that `expr` sets on other expressions when it is true. `if_there`: only where the
// operand has an element at all.
struct Bound {
  ExprPtr operand;
  Op op;
  double value;
  bool if_there = false;
};

// What `expr` filters: the same elements with the same values, as far as it lets them through.
ExprPtr unfiltered(const ExprPtr& expr) {
  if (expr->kind == Kind::kParen) return unfiltered(expr->left);
  if (expr->kind != Kind::kBinary || expr->type == Type::kScalar) return expr;
  if (expr->op == Op::kAnd || expr->op == Op::kUnless) return unfiltered(expr->left);
  if (!expr->is_comparison() || expr->return_bool || expr->has_matching) return expr;
  return unfiltered(expr->left->type == Type::kVector ? expr->left : expr->right);
}

// What the right side of `unless` leaves: the contrary of its condition.
void collect_contrary(const Expr& expr, std::vector<Bound>& out) {
  const Expr& node = bare(expr);
  if (!node.is_comparison() || node.return_bool) return;
  const Interval right = range_of(*node.right);
  if (!right.is_constant() || node.left->type != Type::kVector || node.right->type != Type::kScalar) return;
  // No comparison holds for NaN, nor does its contrary; and a filter may take away what it is about.
  if (unfiltered(node.left) != node.left || range_of(*node.left).may_be_nan) return;
  Op op{};
  switch (node.op) {
    case Op::kGt:
      op = Op::kLe;
      break;
    case Op::kGe:
      op = Op::kLt;
      break;
    case Op::kLt:
      op = Op::kGe;
      break;
    case Op::kLe:
      op = Op::kGt;
      break;
    default:
      return;
  }
  out.push_back({node.left, op, right.low, true});
}

void collect_bounds(const Expr& expr, std::vector<Bound>& out) {
  const Expr& node = bare(expr);
  if (node.kind == Kind::kRangeCall &&
      (node.function == Range::kAbsentOverTime || node.function == Range::kPresentOverTime)) {
    auto counted = std::make_shared<Expr>(node);
    counted->function = Range::kCountOverTime;
    const bool absent = node.function == Range::kAbsentOverTime;
    out.push_back({std::move(counted), absent ? Op::kEq : Op::kGt, 0, absent});
    return;
  }
  if (node.kind != Kind::kBinary) return;
  if (node.op == Op::kAnd || node.op == Op::kUnless) {
    // Only where both sides speak of the same elements; with on/ignoring labels may differ.
    collect_bounds(*node.left, out);
    if (node.has_matching) return;
    if (node.op == Op::kAnd) {
      collect_bounds(*node.right, out);
    } else {
      collect_contrary(*node.right, out);
    }
    return;
  }
  if (!node.is_comparison() || node.return_bool || node.has_matching || node.type == Type::kScalar) return;
  for (const bool turned : {false, true}) {
    const ExprPtr& side = turned ? node.right : node.left;
    const ExprPtr& other = turned ? node.left : node.right;
    if (side->type != Type::kVector) continue;
    const Interval values = range_of(*other);
    if (values.is_constant())
      out.push_back({unfiltered(side), turned ? mirrored(node.op) : node.op, values.low});
    collect_bounds(*side, out);
  }
}

bool only_strictly(Op op) {
  return op == Op::kGt || op == Op::kLt || op == Op::kNe;
}

// Whether the bounds on `of`'s operand leave it no value.
bool leave_nothing(const std::vector<Bound>& bounds, const Bound& of) {
  Interval values = range_of(*of.operand);
  std::vector<const Bound*> same;
  for (const Bound& bound : bounds) {
    if (!same_meaning(*bound.operand, *of.operand)) continue;
    same.push_back(&bound);
    // NaN passes only what asks for another value.
    if (bound.op != Op::kNe) values.may_be_nan = values.always_nan = false;
  }
  if (values.may_be_nan) return false;
  for (const Bound* bound : same) {
    if (!can_hold(bound->op, values, constant(bound->value))) return true;
    values = filtered(values, bound->op, bound->value);
    if (values.low > values.high) return true;
  }
  // Strict bounds on both ends of one point let nothing through.
  return values.low == values.high && std::any_of(same.begin(), same.end(), [&](const Bound* bound) {
           return bound->value == values.low && only_strictly(bound->op);
         });
}

std::optional<ExprError> exclusive_bounds(const Expr& node) {
  std::vector<Bound> bounds;
  collect_bounds(node, bounds);
  for (const Bound& a : bounds) {
    if (!a.if_there && leave_nothing(bounds, a))
      return ExprError{node.offset,
                       fmt::format("two conditions on `{}` exclude each other: it can never be true",
                                   format_expr(bare(*a.operand))),
                       "change one of the numbers"};
    if (a.op != Op::kLt && a.op != Op::kLe && a.op != Op::kEq) continue;
    for (const Bound& b : bounds) {
      if ((b.op != Op::kGt && b.op != Op::kGe && b.op != Op::kEq) || (a.if_there && b.if_there)) continue;
      const bool apart = b.value > a.value || (b.value == a.value && (a.op == Op::kLt || b.op == Op::kGt));
      if (!apart || !counts_no_less(*a.operand, *b.operand)) continue;
      return ExprError{node.offset,
                       fmt::format("`{}` never counts less than `{}`, a shorter window of the same: it can "
                                   "never be true",
                                   format_expr(bare(*a.operand)), format_expr(bare(*b.operand))),
                       "change one of the numbers, or of the windows"};
    }
  }
  return std::nullopt;
}

// A selector whose matchers exclude each other counts nothing, wherever it stands.
void check_selector(const Expr& call) {
  for (const LabelMatcher& a : call.matchers) {
    if (a.op == LabelMatcher::Op::kNotMatches && (a.value == ".*" || a.value == "(.*)" || a.value == "^.*$"))
      throw ExprError{call.offset, fmt::format("{} rules out every value: no series is counted", a.format()),
                      fmt::format("drop it, or write {}=\"\" for those without the label", a.name)};
    if (a.op != LabelMatcher::Op::kEqual) continue;
    for (const LabelMatcher& b : call.matchers) {
      if (a.name != b.name || b.matches(a.value)) continue;
      throw ExprError{call.offset,
                      fmt::format("{} and {} cannot both hold: no series is counted", a.format(), b.format()),
                      b.op == LabelMatcher::Op::kEqual
                          ? fmt::format("drop one of them, or write {}=~\"{}|{}\"", a.name, a.value, b.value)
                          : "drop one of them"};
    }
  }
}

// The place and reason of the first part that can never hold. `bounded`: what is above looks at the bounds.
std::optional<ExprError> never_true(const Expr& expr, bool bounded = false) {
  const Expr& node = bare(expr);
  // Numbers alone filter nothing: a comparison of them is 0 or 1.
  if (node.type == Type::kScalar || node.kind == Kind::kRangeCall || node.kind == Kind::kKeyed) return std::nullopt;
  // sum() of nothing is 0, which may well be what is asked for.
  if (node.kind == Kind::kAggregate && node.aggregation == Aggregation::kSum && !node.has_grouping) {
    return std::nullopt;
  }
  if (node.kind == Kind::kBinary && node.op == Op::kOr) {
    // Either side will do.
    auto left = never_true(*node.left);
    return left && never_true(*node.right) ? left : std::nullopt;
  }
  const bool sets_bounds = node.kind == Kind::kBinary && (node.op == Op::kAnd || node.op == Op::kUnless ||
                                                          (node.is_comparison() && !node.return_bool));
  if (node.left) {
    if (auto error = never_true(*node.left, sets_bounds && (node.is_set_operator() || !node.has_matching)))
      return error;
  }
  // The right side of `unless` had better be false.
  if (node.right && (node.kind != Kind::kBinary || node.op != Op::kUnless)) {
    if (auto error = never_true(*node.right, sets_bounds && !node.has_matching)) return error;
  }
  if (node.picks()) {
    const Interval picked = range_of(*node.parameters.front());
    if (picked.always_nan || picked.high < 1)
      return ExprError{node.offset,
                       fmt::format("`{}` picks less than one, so it gives nothing: it can never be true",
                                   format_expr(node)),
                       "its first argument is how many to pick, at least 1"};
  }
  if (node.is_call(InstantFunction::kClamp)) {
    const Interval least = range_of(*node.parameters[0]);
    const Interval most = range_of(*node.parameters[1]);
    if (least.is_constant() && most.is_constant() && least.low > most.high)
      return ExprError{
          node.offset,
          fmt::format("`{}` gives nothing, because its minimum is above its maximum: it can never "
                      "be true",
                      format_expr(node)),
          "exchange the two numbers"};
  }
  if (node.kind != Kind::kBinary) return std::nullopt;
  if (node.op == Op::kUnless && same_meaning(*node.left, *node.right))
    return ExprError{node.offset, "`unless` takes away what is the same on its left: it can never be true",
                     "change one of its sides"};
  if (node.is_comparison() && !node.return_bool) {
    const std::string why = why_it_never_holds(node, range_of(*node.left), range_of(*node.right));
    if (!why.empty()) {
      const Expr& left = bare(*node.left);
      const bool of_none = left.kind == Kind::kAggregate && left.aggregation == Aggregation::kCount;
      return ExprError{node.offset, fmt::format("`{}` can never be true: {}", format_expr(node), why),
                       same_meaning(*node.left, *node.right) ? "compare it with something else"
                       : of_none ? "that nothing came is sum(count_over_time(PATTERN[5m])) == 0"
                                 : "turn the comparison round, or change the number"};
    }
  }
  return sets_bounds && !bounded ? exclusive_bounds(node) : std::nullopt;
}

bool has_comparison(const Expr& expr) {
  if (expr.kind == Kind::kBinary && expr.is_comparison() && !expr.return_bool) return true;
  if (expr.kind == Kind::kRangeCall &&
      (expr.function == Range::kAbsentOverTime || expr.function == Range::kPresentOverTime))
    return true;
  if (expr.kind == Kind::kKeyed) return expr.keyed != KeyedFunction::kDistinct;
  // Whatever a number is, vector() has an element with it.
  if (expr.type == Type::kScalar || expr.is_call(InstantFunction::kVector)) return false;
  return (expr.left && has_comparison(*expr.left)) || (expr.right && has_comparison(*expr.right));
}

// --- the labels an element can have

std::vector<std::string> united(std::vector<std::string> a, const std::vector<std::string>& b) {
  a.insert(a.end(), b.begin(), b.end());
  std::sort(a.begin(), a.end());
  a.erase(std::unique(a.begin(), a.end()), a.end());
  return a;
}

std::string list_of(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names)
    text += (text.empty() ? "" : ", ") + name;
  return text;
}

// --- which elements of an operator's two sides meet

// The names of the labels that an element has, sorted.
using LabelNames = std::vector<std::string>;

// What is left of these for matching.
LabelNames key_of(const Expr& node, LabelNames names) {
  if (node.has_matching)
    std::erase_if(names, [&](const std::string& name) { return contains(node.matching, name) != node.on; });
  return names;
}

// The sets of labels with which elements come: one, unless `or` joins unlike sides. A label that a capture
// left empty is not reckoned with: that it is there is what who named it means.
std::vector<LabelNames> label_sets(const Expr& expr, const std::vector<PatternSpec>& patterns) {
  std::vector<LabelNames> sets;
  const auto add = [&sets](LabelNames names) {
    std::sort(names.begin(), names.end());
    if (std::find(sets.begin(), sets.end(), names) == sets.end()) sets.push_back(std::move(names));
  };
  switch (expr.kind) {
    case Kind::kNumber:
      break;
    case Kind::kCall:
      if (expr.type == Type::kScalar) break;
      if (expr.left->type == Type::kVector) return label_sets(*expr.left, patterns);
      add({});
      break;
    case Kind::kParen:
    case Kind::kNegate:
      return label_sets(*expr.left, patterns);
    case Kind::kKeyed:
      add(result_labels(expr, patterns));
      break;
    case Kind::kRangeCall: {
      LabelNames names = result_labels(expr, patterns);
      std::erase_if(names, [&](const std::string& name) {
        return std::any_of(expr.matchers.begin(), expr.matchers.end(), [&](const LabelMatcher& matcher) {
          return matcher.name == name && matcher.op == LabelMatcher::Op::kEqual && matcher.value.empty();
        });
      });
      add(std::move(names));
      break;
    }
    case Kind::kAggregate:
      if (expr.picks()) return label_sets(*expr.left, patterns);
      for (LabelNames names : label_sets(*expr.left, patterns)) {
        std::erase_if(names, [&](const std::string& name) {
          return !expr.has_grouping || contains(expr.grouping, name) == expr.without;
        });
        add(std::move(names));
      }
      break;
    case Kind::kBinary: {
      if (expr.left->type == Type::kScalar) return label_sets(*expr.right, patterns);
      if (expr.right->type == Type::kScalar) return label_sets(*expr.left, patterns);
      sets = label_sets(*expr.left, patterns);
      if (expr.op == Op::kAnd || expr.op == Op::kUnless) break;
      const std::vector<LabelNames> right = label_sets(*expr.right, patterns);
      if (expr.op == Op::kOr) {
        for (const LabelNames& names : right)
          add(names);
        break;
      }
      for (const LabelNames& names : std::exchange(sets, {})) {
        for (const LabelNames& other : right) {
          LabelNames key = key_of(expr, names);
          if (key != key_of(expr, other)) continue;
          if (expr.group == Expr::Group::kNone) {
            add(std::move(key));
            continue;
          }
          LabelNames many = expr.group == Expr::Group::kLeft ? names : other;
          const LabelNames& one = expr.group == Expr::Group::kLeft ? other : names;
          std::erase_if(many, [&](const std::string& name) { return contains(expr.copied, name); });
          for (const std::string& name : expr.copied) {
            if (contains(one, name)) many.push_back(name);
          }
          add(std::move(many));
        }
      }
      break;
    }
  }
  return sets;
}

LabelNames all_of_them(const std::vector<LabelNames>& sets) {
  LabelNames all;
  for (const LabelNames& names : sets)
    all = united(std::move(all), names);
  return all;
}

std::string in_words(const LabelNames& names) {
  if (names.empty()) return "no label";
  return fmt::format("label{} {}", names.size() == 1 ? "" : "s", list_of(names));
}

std::string_view group_name(const Expr& node) {
  return node.group == Expr::Group::kLeft ? "group_left" : "group_right";
}

std::string operator_text(const Expr& node) {
  std::string text(kOpNames[static_cast<std::size_t>(node.op)]);
  if (node.has_matching) text += fmt::format(" {} ({})", node.on ? "on" : "ignoring", list_of(node.matching));
  if (node.group != Expr::Group::kNone)
    text += fmt::format(" {} ({})", group_name(node), list_of(node.copied));
  return text;
}

// `side` with these labels only.
std::string summed_by(const Expr& side, const LabelNames& names) {
  const std::string text = format_expr(bare(side));
  return names.empty() ? fmt::format("sum({})", text) : fmt::format("sum by ({}) ({})", list_of(names), text);
}

// Longer than this, a suggestion is not read but searched.
constexpr std::size_t kMaxSuggestion = 240;

// What to write so that both sides have the labels `common`.
std::string same_labels_fix(const Expr& node, const LabelNames& left, const LabelNames& right,
                            const LabelNames& common) {
  const std::string name(kOpNames[static_cast<std::size_t>(node.op)]);
  if (node.is_set_operator()) return fmt::format("write `{} on ({})`", name, list_of(common));
  const std::string left_text = left == common ? format_expr(*node.left) : summed_by(*node.left, common);
  const std::string right_text = right == common ? format_expr(*node.right) : summed_by(*node.right, common);
  if (left_text == right_text) {
    const LabelNames& more = left == common ? right : left;
    return fmt::format(
        "say what they have in common, as in `{} on () {} ()`, or ask for one value at a time, as in {{{}=\"…\"}}",
        name, left == common ? "group_right" : "group_left", more.empty() ? "label" : more.front());
  }
  std::string text = fmt::format("{} {} {}", left_text, name, right_text);
  std::string group;
  if (left == common || right == common)
    group = fmt::format("; or `{} on ({}) {} ()`, if each is meant", name, list_of(common),
                        left == common ? "group_right" : "group_left");
  if (text.size() <= kMaxSuggestion) return fmt::format("give both sides the same labels: `{}`{}", text, group);
  return fmt::format("give both sides the same labels with `{}`{}",
                     common.empty() ? "sum(…)" : fmt::format("sum by ({}) (…)", list_of(common)), group);
}

// With group_left or group_right: the one side has one element for each of the other's, as far as labels tell, and
// what is copied from it leaves the others told apart.
void check_group(const Expr& node, const LabelNames& many_more, const LabelNames& one_more) {
  const bool left = node.group == Expr::Group::kLeft;
  LabelNames unsaid = one_more;
  std::erase_if(unsaid, [&](const std::string& name) { return contains(node.copied, name); });
  if (!unsaid.empty()) {
    LabelNames all = united(node.copied, unsaid);
    throw ExprError{
        node.offset,
        fmt::format("`{}` takes one element of the {} side for each on the other, and there are several, told apart by {} only",
                    operator_text(node), left ? "right" : "left", list_of(unsaid)),
        many_more.empty()
            ? fmt::format("write `{}`, which takes one of the other side", left ? "group_right" : "group_left")
            : fmt::format("sum that side up, or, where there is only one at a time, take its labels over: `{} ({})`",
                          group_name(node), list_of(all))};
  }
  for (const std::string& name : node.copied) {
    if (!contains(many_more, name)) continue;
    throw ExprError{node.offset,
                    fmt::format("`{}` writes over the label {}, by which elements of the {} side are told apart",
                                operator_text(node), name, left ? "left" : "right"),
                    fmt::format("leave it out: `{} ({})`", group_name(node), [&] {
                      LabelNames rest = node.copied;
                      std::erase(rest, name);
                      return list_of(rest);
                    }())};
  }
}

// Vector and vector: elements of both sides that meet must exist, and for arithmetic and comparisons meet one
// to one, since what has several to choose from has no value; or many to one where that is said.
void check_meeting(const Expr& node, const std::vector<PatternSpec>& patterns) {
  if (node.op == Op::kOr) return;
  const std::vector<LabelNames> left_sets = label_sets(*node.left, patterns);
  const std::vector<LabelNames> right_sets = label_sets(*node.right, patterns);
  const LabelNames left = all_of_them(left_sets);
  const LabelNames right = all_of_them(right_sets);
  const Labels left_fixed = fixed_labels(*node.left, patterns);
  const Labels right_fixed = fixed_labels(*node.right, patterns);
  const std::string in_vain =
      node.op == Op::kUnless ? ": it takes nothing away" : ": it never gives anything";

  const bool can_meet = std::any_of(left_sets.begin(), left_sets.end(), [&](const LabelNames& one) {
    return std::any_of(right_sets.begin(), right_sets.end(),
                       [&](const LabelNames& other) { return key_of(node, one) == key_of(node, other); });
  });
  if (!can_meet) {
    LabelNames common;
    std::set_intersection(left.begin(), left.end(), right.begin(), right.end(), std::back_inserter(common));
    throw ExprError{node.offset,
                    fmt::format("`{}` pairs elements whose labels are equal, and these do not meet, with {} "
                                "on the left and {} on the right{}",
                                operator_text(node), in_words(key_of(node, left)),
                                in_words(key_of(node, right)), in_vain),
                    same_labels_fix(node, left, right, common)};
  }
  for (const auto& [name, value] : left_fixed) {
    const std::string_view other = right_fixed.get(name);
    if (other.empty() || other == value || key_of(node, {name}).empty()) continue;
    LabelNames rest = key_of(node, united(left, right));
    std::erase(rest, name);
    throw ExprError{
        node.offset,
        fmt::format("`{}` pairs elements whose labels are equal, and these do not meet, with "
                    "{}=\"{}\" on the left and {}=\"{}\" on the right{}",
                    operator_text(node), name, value, name, other, in_vain),
        fmt::format("write `{} on ({})`", kOpNames[static_cast<std::size_t>(node.op)], list_of(rest))};
  }
  if (node.is_set_operator()) return;

  // What decides an element beyond the key: labels that neither the key holds nor `=` fixes.
  const auto beyond = [&](LabelNames names, const Labels& fixed) {
    std::erase_if(names,
                  [&](const std::string& name) { return !key_of(node, {name}).empty() || fixed.has(name); });
    return names;
  };
  const LabelNames left_more = beyond(left, left_fixed);
  const LabelNames right_more = beyond(right, right_fixed);
  if (node.group == Expr::Group::kLeft) return check_group(node, left_more, right_more);
  if (node.group == Expr::Group::kRight) return check_group(node, right_more, left_more);
  if (left_more.empty() && right_more.empty()) return;
  const std::string_view which = left_more.empty()    ? "the right side has"
                                 : right_more.empty() ? "the left side has"
                                                      : "both sides have";
  const std::string left_text =
      left_more.empty() ? format_expr(*node.left) : summed_by(*node.left, key_of(node, left));
  const std::string right_text =
      right_more.empty() ? format_expr(*node.right) : summed_by(*node.right, key_of(node, right));
  const std::string text = fmt::format("{} {} {}", left_text, operator_text(node), right_text);
  const LabelNames key = key_of(node, left_more.empty() ? right : left);
  std::string group;
  if (left_more.empty() || right_more.empty()) {
    const LabelNames names = node.has_matching && node.on ? node.matching : key;
    group = fmt::format("; or `{} on ({}) {} ()`, if each is meant",
                        kOpNames[static_cast<std::size_t>(node.op)], list_of(names),
                        left_more.empty() ? "group_right" : "group_left");
  }
  throw ExprError{
      node.offset,
      fmt::format("`{}` pairs one element with one, and {} several for each, told apart by {} only",
                  operator_text(node), which, list_of(united(left_more, right_more))),
      text.size() <= kMaxSuggestion
          ? fmt::format("write `{}`{}", text, group)
          : fmt::format("sum that side with `{}`{}",
                        key.empty() ? "sum(…)" : fmt::format("sum by ({}) (…)", list_of(key)), group)};
}

// Copies the tree with pattern indices set and label names checked.
ExprPtr bound(const ExprPtr& expr, const std::vector<PatternSpec>& patterns, const std::string& location,
              Expr::MOfN looks = {}) {
  auto node = std::make_shared<Expr>(*expr);
  if (node->is_call(InstantFunction::kMOfN)) looks = node->m_of_n();
  if (node->left) node->left = bound(node->left, patterns, location, looks);
  if (node->right) node->right = bound(node->right, patterns, location, looks);
  for (ExprPtr& parameter : node->parameters)
    parameter = bound(parameter, patterns, location, looks);
  for (ExprPtr& operand : node->operands)
    operand = bound(operand, patterns, location, looks);
  if (node->kind == Kind::kCall && is_date_part(node->instant)) node->location = location;
  const auto check_labels = [&](const std::vector<std::string>& names, const std::vector<std::string>& known,
                                std::string_view where) {
    for (const std::string& name : names) {
      if (contains(known, name)) continue;
      std::string fix = did_you_mean(name, known);
      if (fix.empty())
        fix = known.empty() ? "there are no labels here: name them under the pattern's `labels:`"
                            : "there are: " + list_of(known);
      throw ExprError{node->offset, fmt::format("{} names label `{}`, which nothing here has", where, name),
                      fix};
    }
  };
  if (node->kind == Kind::kRangeCall) {
    const auto found = std::find_if(patterns.begin(), patterns.end(),
                                    [&](const PatternSpec& p) { return p.name == node->pattern; });
    if (found == patterns.end()) {
      std::vector<std::string> known;
      known.reserve(patterns.size());
      for (const PatternSpec& pattern : patterns)
        known.push_back(pattern.name);
      std::string fix = did_you_mean(node->pattern, known);
      if (fix.empty()) fix = known.empty() ? "define it under `patterns:`" : "there are: " + list_of(known);
      throw ExprError{node->offset, fmt::format("there is no pattern `{}`", node->pattern), fix};
    }
    node->pattern_index = static_cast<std::uint32_t>(found - patterns.begin());
    if (node->function != Range::kBaselineOverTime) {
      node->looks = looks.looks;
      node->again = looks.again;
    } else if (looks.looks > 1) {
      throw ExprError{node->offset, "`m_of_n` of a `baseline_over_time` would look back twice",
                      "compare with the baseline outside of it, or leave one of them out"};
    }
    if (node->asks_values() && found->value.empty())
      throw ExprError{node->offset,
                      fmt::format("`{}` is about values, and the pattern `{}` has no `value:`",
                                  kRangeNames[static_cast<std::size_t>(node->function)], node->pattern),
                      "name the capture or field that holds the number there, as in `value: took`"};
    std::vector<std::string> names;
    for (const LabelMatcher& matcher : node->matchers)
      names.push_back(matcher.name);
    if (node->asks_keys() && node->keyed == KeyedFunction::kNewTemplate) {
      if (contains(found->labels, node->key))
        throw ExprError{node->offset,
                        fmt::format("the pattern `{}` has a label {}, and so has what `new_template` gives", node->pattern,
                                    node->key),
                        "give the pattern's another name"};
      if (contains(names, node->key))
        throw ExprError{node->offset, "`new_template` gives the label template, and cannot select by it",
                        fmt::format("leave out kinds of line with the `exclude:` of the pattern `{}`", node->pattern)};
    }
    if (node->asks_keys()) {
      // Of one pattern all of its labels, which its elements have; of several those that are asked about.
      const bool one = node->keyed == KeyedFunction::kDistinct || is_of_what_is_new(node->keyed);
      node->kept_labels = one ? found->labels : names;
      std::sort(node->kept_labels.begin(), node->kept_labels.end());
      node->kept_labels.erase(std::unique(node->kept_labels.begin(), node->kept_labels.end()), node->kept_labels.end());
      std::erase(node->kept_labels, node->key);
    }
    check_labels(names, node->asks_keys() ? united(found->labels, {node->key}) : found->labels,
                 fmt::format("the selector of `{}`", node->pattern));
    const bool counts = node->function == Range::kCountOverTime || node->function == Range::kRate;
    node->single =
        counts && std::all_of(found->labels.begin(), found->labels.end(), [&](const auto& label) {
          return std::any_of(node->matchers.begin(), node->matchers.end(), [&](const LabelMatcher& matcher) {
            return matcher.name == label && matcher.op == LabelMatcher::Op::kEqual;
          });
        });
    check_selector(*node);
  } else if (node->kind == Kind::kKeyed) {
    const Expr& first = *node->operands.front();
    node->pattern_index = first.pattern_index;
    node->single = node->keyed == KeyedFunction::kDistinct &&
                   std::all_of(first.kept_labels.begin(), first.kept_labels.end(), [&](const std::string& label) {
                     return std::any_of(first.matchers.begin(), first.matchers.end(), [&](const LabelMatcher& matcher) {
                       return matcher.name == label && matcher.op == LabelMatcher::Op::kEqual;
                     });
                   });
  } else if (node->kind == Kind::kAggregate && node->has_grouping) {
    check_labels(node->grouping, result_labels(*node->left, patterns), node->without ? "`without`" : "`by`");
  } else if (node->kind == Kind::kBinary && node->has_matching) {
    check_labels(node->matching,
                 united(result_labels(*node->left, patterns), result_labels(*node->right, patterns)),
                 node->on ? "`on`" : "`ignoring`");
    if (node->group != Expr::Group::kNone)
      check_labels(node->copied,
                   result_labels(node->group == Expr::Group::kLeft ? *node->right : *node->left, patterns),
                   fmt::format("`{}`", group_name(*node)));
  }
  if (node->kind == Kind::kBinary && node->left->type == Type::kVector && node->right->type == Type::kVector)
    check_meeting(*node, patterns);
  return node;
}

// --- polarity: how the value moves with the number of matches

struct Moves {
  bool up = false;          // more matches can raise it
  bool down = false;        // more matches can lower it
  bool appears = false;     // more matches can make an element appear
  bool disappears = false;  // more matches can make one go away
  bool ratio = false;       // matches are divided by: DESIGN.md §3 lets it rest on presence
};

Moves moves_of(const Expr& expr);

Moves moves_of_call(const Expr& expr) {
  using Function = InstantFunction;
  if (expr.instant == Function::kTime) return {};  // it moves with time, not with matches
  Moves inner = moves_of(*expr.left);
  if (expr.instant == Function::kMOfN) return {inner.appears, inner.disappears, inner.appears, inner.disappears};
  const bool comes_or_goes = inner.appears || inner.disappears;
  const bool moves = inner.up || inner.down || comes_or_goes;
  switch (expr.instant) {
    case Function::kScalar:
      // Without an element it is NaN, and with a second.
      if (comes_or_goes || (moves && !is_single(*expr.left))) inner.up = inner.down = true;
      inner.appears = inner.disappears = false;
      return inner;
    case Function::kAbs: {
      const Interval values = range_of(*expr.left);
      if (values.low >= 0) return inner;
      if (values.high <= 0) {
        std::swap(inner.up, inner.down);
      } else {
        inner.up = inner.down = inner.up || inner.down;
      }
      return inner;
    }
    case Function::kSqrt:
    case Function::kLn:
    case Function::kLog2:
    case Function::kLog10:
      // It is NaN below 0: a comparison holds, and stops holding, as it rises out of there.
      if (range_of(*expr.left).low < 0) inner.up = inner.down = inner.up || inner.down;
      return inner;
    default:
      if (is_date_part(expr.instant)) inner.up = inner.down = inner.up || inner.down;
      break;
  }
  for (const ExprPtr& parameter : expr.parameters) {
    const Moves number = moves_of(*parameter);
    inner.ratio = inner.ratio || number.ratio;
    if (!number.up && !number.down) continue;
    inner.up = inner.down = true;
    // It gives nothing while its minimum is above its maximum.
    if (expr.instant == Function::kClamp) inner.appears = inner.disappears = true;
  }
  return inner;
}

Moves moves_of(const Expr& expr) {
  switch (expr.kind) {
    case Kind::kNumber:
      return {};
    case Kind::kParen:
      return moves_of(*expr.left);
    case Kind::kNegate: {
      Moves inner = moves_of(*expr.left);
      std::swap(inner.up, inner.down);
      return inner;
    }
    case Kind::kCall:
      return moves_of_call(expr);
    case Kind::kRangeCall:
      if (expr.function == Range::kAbsentOverTime) return {false, false, false, true};
      if (expr.function == Range::kPresentOverTime) return {false, false, true, false};
      if (expr.function == Range::kMaxOverTime) return {true, false, true, false};
      if (expr.function == Range::kMinOverTime) return {false, true, true, false};
      // What comes may be more or less than what is there, or below 0.
      if (expr.asks_values()) return {true, true, true, false};
      return {true, false, false, false};
    case Kind::kKeyed:
      switch (expr.keyed) {
        case KeyedFunction::kDistinct:
          return {true, false, false, false};
        // What came before makes what comes now nothing new.
        case KeyedFunction::kFirstSeen:
        case KeyedFunction::kNewTemplate:
          return {true, true, true, true};
        // What asks makes it appear, and what answers go away.
        case KeyedFunction::kUnanswered:
          return {false, false, true, true};
        case KeyedFunction::kSequence:
          return {false, false, true, false};
      }
      return {};
    case Kind::kAggregate: {
      Moves inner = moves_of(*expr.left);
      bool moves = inner.up || inner.down || inner.appears || inner.disappears;
      for (const ExprPtr& parameter : expr.parameters) {
        const Moves number = moves_of(*parameter);
        moves = moves || number.up || number.down;
      }
      if (expr.aggregation == Aggregation::kGroup) return {false, false, inner.appears, inner.disappears};
      if (expr.picks()) {
        // What more matches push up pushes another out.
        inner.appears = inner.disappears = moves;
        return inner;
      }
      if (expr.aggregation == Aggregation::kQuantile || expr.aggregation == Aggregation::kStddev ||
          expr.aggregation == Aggregation::kStdvar) {
        inner.up = inner.down = moves;
        return inner;
      }
      // Elements that come and go move the sum and the count with them: down as well, where one below 0, or
      // any among a minimum or an average, comes.
      if (expr.aggregation == Aggregation::kCount)
        return {inner.appears, inner.disappears, inner.appears, inner.disappears};
      const bool lowers = range_of(*expr.left).low < 0 || expr.aggregation == Aggregation::kMin ||
                          expr.aggregation == Aggregation::kAvg;
      inner.up = inner.up || inner.appears || (lowers && inner.disappears);
      inner.down = inner.down || inner.disappears || (lowers && inner.appears);
      return inner;
    }
    case Kind::kBinary: {
      const Moves left = moves_of(*expr.left);
      const Moves right = moves_of(*expr.right);
      Moves out{false, false, left.appears || right.appears, left.disappears || right.disappears};
      switch (expr.op) {
        case Op::kAdd:
          out.up = left.up || right.up, out.down = left.down || right.down;
          return out;
        case Op::kSub:
          out.up = left.up || right.down, out.down = left.down || right.up;
          return out;
        case Op::kMul: {
          const bool negative = range_of(*expr.left).low < 0 || range_of(*expr.right).low < 0;
          out.up = left.up || right.up || (negative && (left.down || right.down));
          out.down = left.down || right.down || (negative && (left.up || right.up));
          return out;
        }
        // A ratio rests on what is there: its denominator's growth is not an absence of anything (DESIGN.md
        // §3).
        case Op::kDiv:
          out.up = left.up || right.up, out.down = left.down;
          out.ratio = left.ratio || right.up || right.down;
          return out;
        case Op::kMod:
        case Op::kPow: {
          const bool any = left.up || left.down || right.up || right.down;
          out.up = out.down = any;
          return out;
        }
        case Op::kAnd:
          return {left.up, left.down, left.appears || right.appears, left.disappears || right.disappears};
        case Op::kOr:
          return {left.up || right.up, left.down || right.down, left.appears || right.appears,
                  left.disappears || right.disappears};
        case Op::kUnless:
          return {left.up, left.down, left.appears || right.disappears, left.disappears || right.appears};
        default:
          break;
      }
      // A comparison holds, or stops holding, as its sides move towards or away from each other.
      bool more = false;   // more matches can make it true
      bool fewer = false;  // fewer can
      const bool nearer_up = left.up || right.down;
      const bool nearer_down = left.down || right.up;
      if (expr.op == Op::kGt || expr.op == Op::kGe) more = nearer_up, fewer = nearer_down;
      if (expr.op == Op::kLt || expr.op == Op::kLe) more = nearer_down, fewer = nearer_up;
      // A low ratio can come of a growing denominator or of a missing numerator: it rests on both.
      const bool low_ratio = (expr.op == Op::kLt || expr.op == Op::kLe) ? left.ratio : right.ratio;
      if (low_ratio) more = fewer = true;
      if (expr.op == Op::kEq || expr.op == Op::kNe) {
        const Interval low = range_of(*expr.left);
        const Interval other = range_of(*expr.right);
        // At the lower end of what can be, "equal" is "nothing came" and "not equal" is "something did".
        const bool at_zero = other.is_constant() && low.low == other.low && left.up && !left.down;
        const bool any = nearer_up || nearer_down;
        more = at_zero ? expr.op == Op::kNe : any;
        fewer = at_zero ? expr.op == Op::kEq : any;
      }
      if (expr.return_bool || expr.type == Type::kScalar) return {more, fewer, out.appears, out.disappears};
      out.appears = out.appears || more;
      out.disappears = out.disappears || fewer;
      out.up = left.up;
      out.down = left.down;
      return out;
    }
  }
  return {};
}

// `part_text`: null, or who writes some parts otherwise.
void format_to(const Expr& expr, const PartText* part_text, std::string& out);

void format_selector(const Expr& call, std::string& out) {
  out += call.pattern;
  for (std::size_t i = 0; i < call.matchers.size(); ++i)
    out += (i == 0 ? "{" : ", ") + call.matchers[i].format();
  if (!call.matchers.empty()) out += "}";
}

void format_names(const std::vector<std::string>& names, std::string& out) {
  out += "(" + list_of(names) + ")";
}

void format_child(const Expr& child, bool brackets, const PartText* part_text, std::string& out) {
  if (brackets) out += "(";
  format_to(child, part_text, out);
  if (brackets) out += ")";
}

void format_to(const Expr& expr, const PartText* part_text, std::string& out) {
  if (part_text != nullptr) {
    if (const auto text = (*part_text)(expr)) {
      out += *text;
      return;
    }
  }
  switch (expr.kind) {
    case Kind::kNumber:
      out += format_number(expr.number);
      return;
    case Kind::kParen:
      return format_child(*expr.left, true, part_text, out);
    case Kind::kNegate:
      out += "-";
      return format_child(*expr.left,
                          expr.left->kind == Kind::kBinary && precedence(expr.left->op) < kUnaryPrecedence,
                          part_text, out);
    case Kind::kCall: {
      out += fmt::format("{}(", signature_of(expr.instant).name);
      if (expr.left && !expr.is_date_of_now()) format_to(*expr.left, part_text, out);
      for (const ExprPtr& parameter : expr.parameters) {
        out += ", ";
        if (expr.instant == InstantFunction::kMOfN && &parameter == &expr.parameters.back()) {
          out += format_duration(expr.m_of_n().again);
        } else {
          format_to(*parameter, part_text, out);
        }
      }
      out += ")";
      return;
    }
    case Kind::kKeyed:
      out += fmt::format("{}(", signature_of(expr.keyed).name);
      if (expr.keyed != KeyedFunction::kNewTemplate) out += fmt::format("\"{}\", ", expr.key);
      for (const ExprPtr& operand : expr.operands) {
        if (&operand != &expr.operands.front()) out += ", ";
        format_selector(*operand, out);
      }
      out += fmt::format("[{}])", format_duration(expr.window));
      return;
    case Kind::kRangeCall: {
      if (expr.asks_keys()) {
        format_selector(expr, out);
        out += fmt::format("[{}]", format_duration(expr.window));
        return;
      }
      out += fmt::format("{}(", kRangeNames[static_cast<std::size_t>(expr.function)]);
      for (const ExprPtr& parameter : expr.parameters) {
        format_to(*parameter, part_text, out);
        out += ", ";
      }
      format_selector(expr, out);
      out += fmt::format("[{}]", format_duration(expr.window));
      if (expr.function == Range::kBaselineOverTime) {
        out += fmt::format(", {}, {}", format_duration(expr.again), expr.looks);
      } else if (expr.range_offset > Duration{0}) {
        out += fmt::format(" offset {}", format_duration(expr.range_offset));
      }
      out += ")";
      return;
    }
    case Kind::kAggregate:
      out += kAggregationNames[static_cast<std::size_t>(expr.aggregation)];
      if (expr.has_grouping) {
        out += expr.without ? " without " : " by ";
        format_names(expr.grouping, out);
        out += " ";
      }
      if (expr.parameters.empty()) return format_child(*expr.left, true, part_text, out);
      out += "(";
      format_to(*expr.parameters.front(), part_text, out);
      out += ", ";
      format_to(*expr.left, part_text, out);
      out += ")";
      return;
    case Kind::kBinary: {
      const auto needs = [&](const Expr& child, bool right_side) {
        if (child.kind == Kind::kNegate) return !right_side && expr.op == Op::kPow;
        if (child.kind != Kind::kBinary) return false;
        const int own = precedence(expr.op);
        const int other = precedence(child.op);
        if (other != own) return other < own;
        return expr.op == Op::kPow ? !right_side : right_side;
      };
      format_child(*expr.left, needs(*expr.left, false), part_text, out);
      out += fmt::format(" {}", kOpNames[static_cast<std::size_t>(expr.op)]);
      if (expr.return_bool) out += " bool";
      if (expr.has_matching) {
        out += expr.on ? " on " : " ignoring ";
        format_names(expr.matching, out);
      }
      if (expr.group != Expr::Group::kNone) {
        // With its brackets: those that follow would be taken for them.
        out += expr.group == Expr::Group::kLeft ? " group_left " : " group_right ";
        format_names(expr.copied, out);
      }
      out += " ";
      return format_child(*expr.right, needs(*expr.right, true), part_text, out);
    }
  }
}

}  // namespace

Expr::BinaryOp mirrored(Expr::BinaryOp op) {
  switch (op) {
    case Op::kGt:
      return Op::kLt;
    case Op::kLt:
      return Op::kGt;
    case Op::kGe:
      return Op::kLe;
    case Op::kLe:
      return Op::kGe;
    default:
      return op;
  }
}

Expr::MOfN Expr::m_of_n() const {
  LOGBELL_CHECK(is_call(InstantFunction::kMOfN));
  const std::chrono::duration<double> step(parameters[2]->number);
  return {static_cast<std::uint32_t>(parameters[0]->number), static_cast<std::uint32_t>(parameters[1]->number),
          std::chrono::round<Duration>(step)};
}

Duration Expr::reach() const {
  return asks_keys() ? keyed_need().reach : window + range_offset + (looks - 1) * again;
}

Duration Expr::lets_fire_for() const {
  const bool is_short = asks_keys() && (keyed == KeyedFunction::kFirstSeen || keyed == KeyedFunction::kNewTemplate);
  return is_short ? keyed_need().exact : reach();
}

KeyedNeed Expr::keyed_need() const {
  LOGBELL_CHECK(asks_keys());
  KeyedNeed need{key, kept_labels, false, window, window};
  switch (keyed) {
    case KeyedFunction::kDistinct:
      need.sampled = true;
      need.exact = Duration{0};
      break;
    case KeyedFunction::kNewTemplate:
      need.key = kTemplateKey;
      [[fallthrough]];
    case KeyedFunction::kFirstSeen:
      need.exact = kFirstSeenFor;
      need.reach = window + kFirstSeenFor;
      break;
    // What was asked is missed for one window more, and of the answers the last is enough.
    case KeyedFunction::kUnanswered:
      need.reach = 2 * window;
      need.exact = operand == 0 ? need.reach : Duration{0};
      break;
    case KeyedFunction::kSequence:
      break;
  }
  need.reach += (looks - 1) * again;
  need.exact += (looks - 1) * again;
  return need;
}

bool Expr::is_comparison() const {
  return kind == Kind::kBinary && op >= Op::kEq && op <= Op::kLe;
}
bool Expr::is_date_of_now() const {
  return kind == Kind::kCall && is_date_part(instant) && left->is_call(InstantFunction::kVector) &&
         left->left->is_call(InstantFunction::kTime);
}
bool Expr::is_set_operator() const {
  return kind == Kind::kBinary && op >= Op::kAnd;
}

tl::expected<ExprPtr, ExprError> parse_expr(std::string_view text) {
  if (text.size() > kMaxBytes)
    return tl::unexpected<ExprError>(
        ExprError{0, fmt::format("longer than {} bytes", kMaxBytes), "split it into several rules"});
  try {
    return Parser(text).parse();
  } catch (const ExprError& error) {
    return tl::unexpected<ExprError>(error);
  }
}

tl::expected<ExprPtr, ExprError> bind_expr(const ExprPtr& expr, const std::vector<PatternSpec>& patterns,
                                           Numbers numbers, const std::string& location, ExprUse use) {
  const bool fires = use == ExprUse::kFires;
  try {
    ExprPtr out = bound(expr, patterns, location);
    if (range_calls(*out).empty()) {
      throw ExprError{expr->offset,
                      next_clock_turn(*out, Timestamp{}) ? "it names no pattern: it is about no line at all"
                                                         : "it names no pattern: it is always true or never",
                      "count something, as in count_over_time(PATTERN[5m]) > 3"};
    }
    if (out->type == Type::kScalar) {
      throw ExprError{expr->offset, fmt::format("it is a number, and only series {}", fires ? "fire" : "end alerts"),
                      "leave out scalar(…): compare the series, as in count_over_time(PATTERN[5m]) > 3"};
    }
    if (!has_comparison(*out)) {
      throw ExprError{expr->offset,
                      fmt::format("it compares nothing, so it would {} all the time", fires ? "fire" : "end alerts"),
                      fmt::format("add a comparison, as in … {} 3", fires ? '>' : '<')};
    }
    if (numbers == Numbers::kWritten) {
      if (auto error = never_true(*out)) throw *error;
    }
    return out;
  } catch (const ExprError& error) {
    return tl::unexpected<ExprError>(error);
  }
}

namespace {

std::optional<ExprError> impossible_quantile(const Expr& expr) {
  const bool is_quantile =
      (expr.kind == Kind::kRangeCall && expr.function == Range::kQuantileOverTime && !expr.asks_keys()) ||
      (expr.kind == Kind::kAggregate && expr.aggregation == Aggregation::kQuantile);
  if (is_quantile && !expr.parameters.empty()) {
    const Interval phi = range_of(*expr.parameters.front());
    if (phi.is_constant() && !(phi.low >= 0 && phi.low <= 1))
      return ExprError{expr.offset, fmt::format("there is no quantile {}: it is from 0 to 1", format_number(phi.low)),
                       phi.low > 1 && phi.low <= 100 ? fmt::format("write {}", format_number(phi.low / 100)) : "as in 0.99"};
  }
  for (const Expr* part : parts_of(expr)) {
    if (auto error = impossible_quantile(*part)) return error;
  }
  return std::nullopt;
}

Op contrary_of(Op op) {
  switch (op) {
    case Op::kGt:
      return Op::kLe;
    case Op::kGe:
      return Op::kLt;
    case Op::kLt:
      return Op::kGe;
    case Op::kLe:
      return Op::kGt;
    case Op::kEq:
      return Op::kNe;
    default:
      return Op::kEq;
  }
}

}  // namespace

std::optional<ExprError> cannot_be_meant(const Expr& expr) {
  if (auto error = impossible_quantile(expr)) return error;
  Expr node = bare(expr);
  if (!node.is_comparison() || node.return_bool || node.type != Type::kVector) return std::nullopt;
  if (node.left->type == Type::kScalar) {
    std::swap(node.left, node.right);
    node.op = mirrored(node.op);
  }
  if (node.right->type != Type::kScalar) return std::nullopt;
  const Interval left = range_of(*node.left);
  const Interval right = range_of(*node.right);
  if (!is_single(*node.left) || left.may_be_nan || !right.is_constant()) return std::nullopt;
  node.op = contrary_of(node.op);
  if (can_hold(node.op, left, right)) return std::nullopt;
  return ExprError{node.offset, "it is always true, so it would fire all the time: " + why_values_never_hold(node, left, right),
                   "compare with a number that it does not always reach, as in … > 3"};
}

bool may_hold(const ExprPtr& value, Op op, double number) {
  return can_hold(op, range_of(*value), constant(number));
}

bool is_true_only_with(const ExprPtr& ends, const ExprPtr& fires) {
  Expr rest;
  rest.kind = Kind::kBinary;
  rest.type = Type::kVector;
  rest.op = Op::kUnless;
  rest.left = ends;
  rest.right = fires;
  return never_true(rest).has_value();
}

bool is_single(const Expr& expr) {
  switch (expr.kind) {
    case Kind::kRangeCall:
    case Kind::kKeyed:
      return expr.single;
    case Kind::kAggregate:
      return expr.aggregation == Aggregation::kSum && !expr.has_grouping;
    case Kind::kParen:
    case Kind::kNegate:
      return is_single(*expr.left);
    case Kind::kCall:
      return expr.instant == InstantFunction::kVector ||
             (expr.instant != InstantFunction::kClamp && expr.instant != InstantFunction::kMOfN &&
              is_single(*expr.left));
    case Kind::kBinary:
      if (expr.is_comparison() && !expr.return_bool) return false;
      return !expr.is_set_operator() && (expr.left->type == Type::kScalar || is_single(*expr.left)) &&
             (expr.right->type == Type::kScalar || is_single(*expr.right)) && !expr.has_matching &&
             (expr.left->type == Type::kScalar || expr.right->type == Type::kScalar);
    default:
      return false;
  }
}

std::optional<Timestamp> next_clock_turn(const Expr& expr, Timestamp at) {
  if (expr.is_call(InstantFunction::kTime) || expr.is_date_of_now())
    return next_turn(expr.instant, expr.location, at);
  std::optional<Timestamp> next;
  const Expr::MOfN looks = expr.is_call(InstantFunction::kMOfN) ? expr.m_of_n() : Expr::MOfN{};
  for (const Expr* part : parts_of(expr)) {
    for (std::uint32_t look = 0; look < looks.looks; ++look) {
      const Duration before = look * looks.again;
      const std::optional<Timestamp> turn = next_clock_turn(*part, at - before);
      if (turn && (!next || *turn + before < *next)) next = *turn + before;
    }
  }
  return next;
}

std::string format_expr(const Expr& expr) {
  std::string out;
  format_to(expr, nullptr, out);
  return out;
}

std::string format_expr(const Expr& expr, const PartText& part_text) {
  std::string out;
  format_to(expr, &part_text, out);
  return out;
}

namespace {

bool divides_by_matches(const Expr& expr) {
  if (expr.kind == Kind::kBinary && expr.op == Op::kDiv && moves_of(expr).ratio) return true;
  const std::vector<const Expr*> parts = parts_of(expr);
  return std::any_of(parts.begin(), parts.end(), [](const Expr* part) { return divides_by_matches(*part); });
}

}  // namespace

Polarity polarity(const Expr& expr) {
  const Moves moves = moves_of(expr);
  return {moves.appears, moves.disappears, divides_by_matches(expr)};
}

std::vector<std::string> result_labels(const Expr& expr, const std::vector<PatternSpec>& patterns) {
  switch (expr.kind) {
    case Kind::kNumber:
      return {};
    case Kind::kCall:
      if (expr.type == Type::kScalar || expr.left->type == Type::kScalar) return {};
      return result_labels(*expr.left, patterns);
    case Kind::kParen:
    case Kind::kNegate:
      return result_labels(*expr.left, patterns);
    case Kind::kKeyed:
      switch (expr.keyed) {
        case KeyedFunction::kDistinct:
          return expr.operands.front()->kept_labels;
        case KeyedFunction::kFirstSeen:
        case KeyedFunction::kNewTemplate:
          return united(expr.operands.front()->kept_labels, {expr.key});
        default:
          return {expr.key};
      }
    case Kind::kRangeCall: {
      if (expr.function != Range::kAbsentOverTime) return patterns[expr.pattern_index].labels;
      // As Prometheus: only what `=` fixes.
      std::vector<std::string> names;
      for (const LabelMatcher& matcher : expr.matchers) {
        if (matcher.op == LabelMatcher::Op::kEqual && !contains(names, matcher.name))
          names.push_back(matcher.name);
      }
      return names;
    }
    case Kind::kAggregate: {
      std::vector<std::string> inner = result_labels(*expr.left, patterns);
      if (expr.picks()) return inner;
      std::erase_if(inner, [&](const std::string& name) {
        return contains(expr.grouping, name) == expr.without || !expr.has_grouping;
      });
      return inner;
    }
    case Kind::kBinary: {
      if (expr.left->type == Type::kScalar) return result_labels(*expr.right, patterns);
      if (expr.right->type == Type::kScalar) return result_labels(*expr.left, patterns);
      std::vector<std::string> left = result_labels(*expr.left, patterns);
      if (expr.op == Op::kOr) return united(left, result_labels(*expr.right, patterns));
      if (expr.is_set_operator() || !expr.has_matching) return left;
      if (expr.group == Expr::Group::kLeft) return united(std::move(left), expr.copied);
      if (expr.group == Expr::Group::kRight) return united(result_labels(*expr.right, patterns), expr.copied);
      std::erase_if(left, [&](const std::string& name) { return contains(expr.matching, name) != expr.on; });
      return left;
    }
  }
  return {};
}

Labels fixed_labels(const Expr& expr, const std::vector<PatternSpec>& patterns) {
  switch (expr.kind) {
    case Kind::kNumber:
      return {};
    case Kind::kCall:
      if (expr.type == Type::kScalar || expr.left->type == Type::kScalar) return {};
      return fixed_labels(*expr.left, patterns);
    case Kind::kParen:
    case Kind::kNegate:
      return fixed_labels(*expr.left, patterns);
    case Kind::kKeyed: {
      const std::vector<std::string> names = result_labels(expr, patterns);
      return fixed_labels(*expr.operands.front(), patterns).keep_only(names);
    }
    case Kind::kRangeCall: {
      Labels fixed;
      for (const LabelMatcher& matcher : expr.matchers) {
        if (matcher.op == LabelMatcher::Op::kEqual) fixed.set(matcher.name, matcher.value);
      }
      return fixed;
    }
    case Kind::kAggregate: {
      Labels inner = fixed_labels(*expr.left, patterns);
      if (expr.picks()) return inner;
      if (!expr.has_grouping) return {};
      return expr.without ? inner.without(expr.grouping) : inner.keep_only(expr.grouping);
    }
    case Kind::kBinary: {
      if (expr.left->type == Type::kScalar) return fixed_labels(*expr.right, patterns);
      Labels left = fixed_labels(*expr.left, patterns);
      if (expr.right->type == Type::kScalar) return left;
      if (expr.op == Op::kOr) {
        Labels both;
        const Labels right = fixed_labels(*expr.right, patterns);
        for (const auto& [name, value] : left) {
          if (right.get(name) == value) both.set(name, value);
        }
        return both;
      }
      if (expr.is_set_operator() || !expr.has_matching) return left;
      if (expr.group != Expr::Group::kNone) {
        const bool is_left = expr.group == Expr::Group::kLeft;
        const Labels right = fixed_labels(*expr.right, patterns);
        return (is_left ? left : right).without(expr.copied).merged((is_left ? right : left).keep_only(expr.copied));
      }
      return expr.on ? left.keep_only(expr.matching) : left.without(expr.matching);
    }
  }
  return {};
}

std::vector<const Expr*> parts_of(const Expr& expr) {
  std::vector<const Expr*> parts;
  for (const ExprPtr* part : {&expr.left, &expr.right}) {
    if (*part) parts.push_back(part->get());
  }
  for (const ExprPtr& operand : expr.operands)
    parts.push_back(operand.get());
  for (const ExprPtr& parameter : expr.parameters)
    parts.push_back(parameter.get());
  return parts;
}

std::vector<const Expr*> range_calls(const Expr& expr) {
  std::vector<const Expr*> calls;
  if (expr.kind == Kind::kRangeCall) calls.push_back(&expr);
  for (const Expr* child : parts_of(expr)) {
    const std::vector<const Expr*> inner = range_calls(*child);
    calls.insert(calls.end(), inner.begin(), inner.end());
  }
  return calls;
}

void collect_keys(const Expr& expr, std::vector<PatternSpec>& patterns) {
  for (const Expr* call : range_calls(expr)) {
    if (call->asks_keys()) {
      std::vector<std::string>& keys = patterns[call->pattern_index].keys;
      keys = united(std::move(keys), {call->keyed_need().key});
    }
  }
}

Duration longest_window(const Expr& expr) {
  Duration longest{0};
  for (const Expr* call : range_calls(expr))
    longest = std::max(longest, call->reach());
  return longest;
}

Duration known_after(const Expr& expr) {
  Duration longest{0};
  for (const Expr* call : range_calls(expr))
    longest = std::max(longest, call->known_after());
  return longest;
}

}  // namespace logbell::rules

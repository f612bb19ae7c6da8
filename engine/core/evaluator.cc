#include "engine/core/evaluator.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "engine/core/keyed_spans.h"
#include "rules/text.h"

namespace logbell::engine {

using rules::Duration;
using rules::Expr;
using rules::InstantFunction;
using rules::LabelMatcher;
using rules::Labels;
using rules::Timestamp;
using Op = Expr::BinaryOp;

namespace {

// Several elements of `expr`'s side have this key, or these labels once those of the other side are taken over.
// Never leaves evaluate().
struct ManyToMany {
  const Expr& expr;
  Labels key;
  std::string_view side;
};

struct Value {
  bool scalar = false;
  double number = 0;
  std::vector<Sample> samples;
};

Value value_of(const Expr& expr, Timestamp at, const WindowOf& window_of);

Labels labels_of(const PatternWindow& window, const Series& series) {
  Labels labels;
  for (std::size_t i = 0; i < series.values.size(); ++i)
    labels.set(window.spec().labels[i], series.values[i]);
  return labels;
}

bool selected(const Expr& call, const PatternWindow& window, const Series& series) {
  return std::all_of(call.matchers.begin(), call.matchers.end(), [&](const LabelMatcher& matcher) {
    const auto& names = window.spec().labels;
    const auto found = std::find(names.begin(), names.end(), matcher.name);
    return matcher.matches(
        found == names.end()
            ? std::string_view()
            : std::string_view(series.values[static_cast<std::size_t>(found - names.begin())]));
  });
}

Labels equal_matchers(const Expr& call) {
  Labels labels;
  for (const LabelMatcher& matcher : call.matchers) {
    if (matcher.op == LabelMatcher::Op::kEqual) labels.set(matcher.name, matcher.value);
  }
  return labels;
}

// Whether `=` on every label names exactly one series: then it counts 0 when nothing matched.
bool names_one_series(const Expr& call, const PatternWindow& window) {
  return std::all_of(window.spec().labels.begin(), window.spec().labels.end(), [&](const std::string& label) {
    return std::any_of(call.matchers.begin(), call.matchers.end(), [&](const LabelMatcher& m) {
      return m.name == label && m.op == LabelMatcher::Op::kEqual;
    });
  });
}

// What a window's values come to; `phi` is of quantile_over_time.
double over_time(const Expr& call, const MatchValues& numbers, const ValueSummary& window, Timestamp at,
                 double phi) {
  switch (call.function) {
    case Expr::RangeFunction::kSumOverTime:
      return window.sum.value();
    case Expr::RangeFunction::kAvgOverTime:
      return window.average();
    case Expr::RangeFunction::kMinOverTime:
      return window.least;
    case Expr::RangeFunction::kMaxOverTime:
      return window.most;
    case Expr::RangeFunction::kStddevOverTime:
      return std::sqrt(window.variance());
    case Expr::RangeFunction::kStdvarOverTime:
      return window.variance();
    case Expr::RangeFunction::kFirstOverTime:
      return window.first;
    case Expr::RangeFunction::kLastOverTime:
      return window.last;
    default: {
      std::vector<double> values;
      values.reserve(window.count);
      numbers.values(at - call.window, at, values);
      return rules::quantile(phi, values);
    }
  }
}

Value values_call(const Expr& call, Timestamp now, const WindowOf& window_of) {
  const Timestamp at = now - call.range_offset;
  const double phi = call.parameters.empty() ? 0 : value_of(*call.parameters.front(), now, window_of).number;
  const PatternWindow& window = window_of(call.pattern_index);
  Value out;
  for (const auto& [labels, series] : window.series()) {
    if (!selected(call, window, series)) continue;
    const ValueSummary summary = series.numbers.summary(at - call.window, at);
    if (summary.count == 0) continue;
    out.samples.push_back({labels_of(window, series), over_time(call, series.numbers, summary, at, phi)});
  }
  return out;
}

// Of a baseline's windows, which end `again` before `at` and each `again` before the next: how many were
// watched.
std::uint32_t observed(const Expr& call, Timestamp watched_from, Timestamp at) {
  if (watched_from == rules::kLongAgo) return call.looks;
  const Duration before = at - call.range_offset - call.window - watched_from;
  if (before < Duration(0)) return 0;
  return static_cast<std::uint32_t>(std::min<std::int64_t>(call.looks, before / call.again + 1));
}

// The mean count of the windows that were watched, if these are enough.
Value baseline(const Expr& call, Timestamp now, const WindowOf& window_of) {
  const PatternWindow& window = window_of(call.pattern_index);
  const std::uint32_t windows = observed(call, window.watched_from(), now);
  if (windows < call.enough_looks()) return {};
  Value out;
  for (const auto& [values, series] : window.series()) {
    if ((!series.expected && series.first_seen > now - call.range_offset) || !selected(call, window, series))
      continue;
    std::uint64_t count = 0;
    for (std::uint32_t look = 0; look < windows; ++look) {
      const Timestamp at = now - call.range_offset - look * call.again;
      count += series.times.count(at - call.window, at);
    }
    out.samples.push_back({labels_of(window, series), static_cast<double>(count) / windows});
  }
  if (out.samples.empty() && names_one_series(call, window)) out.samples.push_back({equal_matchers(call), 0});
  return out;
}

Value range_call(const Expr& call, Timestamp now, const WindowOf& window_of) {
  if (call.asks_values()) return values_call(call, now, window_of);
  if (call.function == Expr::RangeFunction::kBaselineOverTime) return baseline(call, now, window_of);
  const Timestamp at = now - call.range_offset;
  const PatternWindow& window = window_of(call.pattern_index);
  Value out;
  std::uint64_t total = 0;
  for (const auto& [values, series] : window.series()) {
    if ((!series.expected && series.first_seen > at) || !selected(call, window, series)) continue;
    const std::uint64_t count = series.times.count(at - call.window, at);
    total += count;
    switch (call.function) {
      case Expr::RangeFunction::kCountOverTime:
        out.samples.push_back({labels_of(window, series), static_cast<double>(count)});
        break;
      case Expr::RangeFunction::kRate:
        out.samples.push_back(
            {labels_of(window, series),
             static_cast<double>(count) / (static_cast<double>(call.window.count()) / 1000.0)});
        break;
      case Expr::RangeFunction::kPresentOverTime:
        if (count > 0) out.samples.push_back({labels_of(window, series), 1});
        break;
      default:
        break;
    }
  }
  const bool counts =
      call.function == Expr::RangeFunction::kCountOverTime || call.function == Expr::RangeFunction::kRate;
  if (counts && out.samples.empty() && names_one_series(call, window))
    out.samples.push_back({equal_matchers(call), 0});
  if (call.function == Expr::RangeFunction::kAbsentOverTime && total == 0)
    out.samples.push_back({equal_matchers(call), 1});
  return out;
}

// The labels of what distinct_over_time() counts, and of an element of first_seen() and its like but its key.
Labels kept_labels(const Expr& expr, std::string_view id) {
  const std::vector<std::string>& names = expr.operands.front()->kept_labels;
  const std::vector<std::string_view> values = KeyedWindow::labels_of(id);
  Labels labels;
  for (std::size_t i = 0; i < values.size(); ++i)
    labels.set(names[i], values[i]);
  return labels;
}

// The elements of distinct_over_time() that are there whatever is counted, and since when: the pattern's series, as
// count_over_time() has them.
std::map<Labels, Timestamp> counted_series(const Expr& expr, const WindowOf& window_of) {
  Expr call = *expr.operands.front();
  const PatternWindow& window = window_of(call.pattern_index);
  // One of the key is about the keys.
  if (!rules::contains(window.spec().labels, call.key))
    std::erase_if(call.matchers, [&](const LabelMatcher& matcher) { return matcher.name == call.key; });
  std::map<Labels, Timestamp> out;
  for (const auto& [values, series] : window.series()) {
    if (!selected(call, window, series)) continue;
    const Labels labels = labels_of(window, series).keep_only(call.kept_labels);
    const auto [at, is_new] = out.try_emplace(labels, Timestamp::max());
    at->second = std::min(at->second, series.expected ? rules::kLongAgo : series.first_seen);
  }
  // One that is named in full counts 0 before it is there.
  if (expr.single) out[equal_matchers(call).keep_only(call.kept_labels)] = rules::kLongAgo;
  return out;
}

// How many each key stands for that is_at_level().
double stands_for(int level) {
  return std::ldexp(1.0, level);
}

bool covers(const Span& span, Timestamp at) {
  return span.from <= at && at < span.until;
}

// How many keys are counted at `at`, by what stands behind them in an id.
std::map<std::string_view, double> distinct_counts(const Expr& expr, const KeyedIndex& index, Timestamp at) {
  std::map<std::string_view, double> counts;
  const KeyedWindow& window = index.window();
  const int level = window.level(at - expr.window, at);
  // Where the same keys are kept all the time, they are counted already.
  if (window.level_changes().empty()) {
    for (const auto& [labels, counter] : index.counters()) {
      if (const std::int64_t count = counter.at(at); count > 0)
        counts[labels] = static_cast<double>(count) * stands_for(level);
    }
    return counts;
  }
  for (const auto& [id, spans] : index.spans()) {
    if (KeyedWindow::is_at_level(KeyedWindow::key_of(id), level) &&
        std::any_of(spans.begin(), spans.end(), [&](const Span& span) { return covers(span, at); }))
      counts[KeyedIndex::labels_part(id)] += stands_for(level);
  }
  return counts;
}

// Matches from the beginning of a span on: those of a first_seen() or its like.
double matches_since(const KeyedIndex& index, std::string_view id, Timestamp from, Timestamp to) {
  const auto entry = index.window().entries().find(id);
  if (entry == index.window().entries().end()) return 0;
  return static_cast<double>(entry->second.times.count(from - Duration(1), to));
}

const Expr& without_parens(const Expr& expr) {
  return expr.kind == Expr::Kind::kParen ? without_parens(*expr.left) : expr;
}

// The function by key whose elements `expr` counts, group by group of labels other than the key: how many there are is
// known without looking at each. Null: it is no such expression.
const Expr* counted_keys(const Expr& expr) {
  if (expr.kind != Expr::Kind::kAggregate) return nullptr;
  const Expr& keyed = without_parens(*expr.left);
  if (keyed.kind != Expr::Kind::kKeyed || keyed.keyed == rules::KeyedFunction::kDistinct ||
      keyed.keyed == rules::KeyedFunction::kNewTemplate)
    return nullptr;
  const bool sums_ones = expr.aggregation == Expr::Aggregation::kSum && !rules::is_of_what_is_new(keyed.keyed);
  if (expr.aggregation != Expr::Aggregation::kCount && !sums_ones) return nullptr;
  const bool names_key = rules::contains(expr.grouping, keyed.key);
  return expr.has_grouping && names_key != expr.without ? nullptr : &keyed;
}

// The function by key of whose elements each is one of `expr`, a rule's: of these there are at most
// KeyedIndex::kMaxElements. Where something is made of them first (a comparison that only some meet, an aggregation, a set
// operation), all of them are looked at. Null: it is no such expression, or all are asked for.
const Expr* listed_keys(const Expr& expr, Elements elements) {
  if (elements == Elements::kAll) return nullptr;
  const Expr& inner = without_parens(expr);
  if (inner.kind == Expr::Kind::kKeyed) return inner.keyed == rules::KeyedFunction::kDistinct ? nullptr : &inner;
  // Of those that are 1 a number is met by all or by none.
  if (!inner.is_comparison()) return nullptr;
  const Expr& left = without_parens(*inner.left);
  const Expr& right = without_parens(*inner.right);
  const Expr& keyed = left.kind == Expr::Kind::kKeyed ? left : right;
  const Expr& other = left.kind == Expr::Kind::kKeyed ? right : left;
  if (keyed.kind != Expr::Kind::kKeyed || other.kind != Expr::Kind::kNumber) return nullptr;
  return keyed.keyed == rules::KeyedFunction::kDistinct || rules::is_of_what_is_new(keyed.keyed) ? nullptr : &keyed;
}
constexpr std::size_t kAllElements = std::numeric_limits<std::size_t>::max();

// `most`: elements, those that began first.
Value keyed_call(const Expr& expr, Timestamp at, const WindowOf& window_of, std::size_t most = kAllElements) {
  Value out;
  const KeyedIndex* index = KeyedIndex::of(expr, window_of);
  if (expr.keyed == rules::KeyedFunction::kDistinct) {
    std::map<Labels, double> counts;
    for (const auto& [labels, since] : counted_series(expr, window_of)) {
      if (since <= at) counts[labels] = 0;
    }
    if (index != nullptr) {
      for (const auto& [id, count] : distinct_counts(expr, *index, at))
        counts[kept_labels(expr, id)] += count;
    }
    for (const auto& [labels, count] : counts)
      out.samples.push_back({labels, count});
    return out;
  }
  if (index == nullptr) return out;
  // Of several spans the last: what is new again counts anew.
  std::map<std::string_view, Timestamp> since;
  index->first_spans(at, at, most, [&](const std::string& id, const Span& span) { since[id] = span.from; });
  if (most != kAllElements) index->note_listed();
  for (const auto& [id, from] : since) {
    if (!rules::is_of_what_is_new(expr.keyed)) {
      out.samples.push_back({Labels{{expr.key, std::string(id)}}, 1});
      continue;
    }
    Labels labels = kept_labels(expr, id);
    labels.set(expr.key, index->window().shown_key(id));
    out.samples.push_back({std::move(labels), matches_since(*index, id, from, at)});
  }
  // A template that came again after it was forgotten has the text that it had before; both at one moment are
  // one.
  if (expr.keyed == rules::KeyedFunction::kNewTemplate) {
    std::map<Labels, double> counts;
    for (const Sample& sample : out.samples)
      counts[sample.labels] = std::max(counts[sample.labels], sample.value);
    out.samples.clear();
    for (const auto& [labels, count] : counts)
      out.samples.push_back({labels, count});
  }
  return out;
}

Labels group_of(const Expr& expr, const Labels& labels) {
  if (!expr.has_grouping) return {};
  return expr.without ? labels.without(expr.grouping) : labels.keep_only(expr.grouping);
}

// Of topk and bottomk: the elements themselves. NaN comes last, and of equal ones what comes first in the
// order of labels.
Value pick(const Expr& expr, const Value& operand, double wanted) {
  Value out;
  if (!(wanted >= 1)) return out;
  const bool top = expr.aggregation == Expr::Aggregation::kTopk;
  std::map<Labels, std::vector<const Sample*>> groups;
  for (const Sample& sample : operand.samples)
    groups[group_of(expr, sample.labels)].push_back(&sample);
  for (auto& [labels, samples] : groups) {
    std::stable_sort(samples.begin(), samples.end(), [&](const Sample* a, const Sample* b) {
      if (std::isnan(a->value) || std::isnan(b->value)) return !std::isnan(a->value) && std::isnan(b->value);
      return top ? a->value > b->value : a->value < b->value;
    });
    if (wanted < static_cast<double>(samples.size())) samples.resize(static_cast<std::size_t>(wanted));
    for (const Sample* sample : samples)
      out.samples.push_back(*sample);
  }
  return out;
}

// `parameter`: the φ of quantile.
Value aggregate(const Expr& expr, const Value& operand, double parameter) {
  struct Group {
    double sum = 0;
    double min = 0;
    double max = 0;
    double mean = 0;  // Welford's, as Prometheus has it
    double squares = 0;
    std::size_t count = 0;
    std::vector<double> values;  // for quantile alone
  };
  std::map<Labels, Group> groups;
  for (const Sample& sample : operand.samples) {
    Group& group = groups[group_of(expr, sample.labels)];
    group.min =
        group.count == 0 || sample.value < group.min || std::isnan(group.min) ? sample.value : group.min;
    group.max =
        group.count == 0 || sample.value > group.max || std::isnan(group.max) ? sample.value : group.max;
    group.sum += sample.value;
    ++group.count;
    if (group.count == 1) group.mean = sample.value;
    const double delta = sample.value - group.mean;
    group.mean += delta / static_cast<double>(group.count);
    group.squares += delta * (sample.value - group.mean);
    if (expr.aggregation == Expr::Aggregation::kQuantile) group.values.push_back(sample.value);
  }
  // "Nothing came" is 0: DESIGN.md §3 "Zero".
  if (groups.empty() && !expr.has_grouping && expr.aggregation == Expr::Aggregation::kSum)
    groups[Labels{}].count = 1;
  Value out;
  for (auto& [labels, group] : groups) {
    double value = group.sum;
    switch (expr.aggregation) {
      case Expr::Aggregation::kMin:
        value = group.min;
        break;
      case Expr::Aggregation::kMax:
        value = group.max;
        break;
      case Expr::Aggregation::kAvg:
        value = group.sum / static_cast<double>(group.count);
        break;
      case Expr::Aggregation::kCount:
        value = static_cast<double>(group.count);
        break;
      case Expr::Aggregation::kStdvar:
        value = group.squares / static_cast<double>(group.count);
        break;
      case Expr::Aggregation::kStddev:
        value = std::sqrt(group.squares / static_cast<double>(group.count));
        break;
      case Expr::Aggregation::kQuantile:
        value = rules::quantile(parameter, group.values);
        break;
      case Expr::Aggregation::kGroup:
        value = 1;
        break;
      case Expr::Aggregation::kSum:
      case Expr::Aggregation::kTopk:
      case Expr::Aggregation::kBottomk:
        break;
    }
    out.samples.push_back({labels, value});
  }
  return out;
}

// What aggregate() makes of counted_keys().
Value count_keys(const Expr& expr, const Expr& keyed, Timestamp at, const WindowOf& window_of) {
  std::map<Labels, double> counts;
  if (const KeyedIndex* index = KeyedIndex::of(keyed, window_of)) {
    for (const auto& [labels, counter] : index->counters()) {
      if (const std::int64_t count = counter.at(at); count > 0)
        counts[group_of(expr, kept_labels(keyed, labels))] += static_cast<double>(count);
    }
  }
  if (counts.empty()) return aggregate(expr, {}, 0);
  Value out;
  for (const auto& [labels, count] : counts)
    out.samples.push_back({labels, count});
  return out;
}

double arithmetic(Op op, double a, double b) {
  switch (op) {
    case Op::kAdd:
      return a + b;
    case Op::kSub:
      return a - b;
    case Op::kMul:
      return a * b;
    case Op::kDiv:
      return a / b;
    case Op::kMod:
      return std::fmod(a, b);
    default:
      return std::pow(a, b);
  }
}

bool compare(Op op, double a, double b) {
  switch (op) {
    case Op::kEq:
      return a == b;
    case Op::kNe:
      return a != b;
    case Op::kGt:
      return a > b;
    case Op::kLt:
      return a < b;
    case Op::kGe:
      return a >= b;
    default:
      return a <= b;
  }
}

Labels signature(const Expr& expr, const Labels& labels) {
  if (!expr.has_matching) return labels;
  return expr.on ? labels.keep_only(expr.matching) : labels.without(expr.matching);
}

Value set_operator(const Expr& expr, const Value& left, const Value& right) {
  std::set<Labels> there;
  const Value& other = expr.op == Op::kOr ? left : right;
  for (const Sample& sample : other.samples)
    there.insert(signature(expr, sample.labels));
  Value out;
  if (expr.op == Op::kOr) out.samples = left.samples;
  for (const Sample& sample : expr.op == Op::kOr ? right.samples : left.samples) {
    const bool found = there.count(signature(expr, sample.labels)) != 0;
    if (found == (expr.op == Op::kAnd)) out.samples.push_back(sample);
  }
  return out;
}

// One element of each side, or an element and a number: the result, or nothing where a comparison filters it
// out.
void combine(const Expr& expr, const Sample& left, double right, const Labels& labels, double kept,
             Value& out) {
  if (!expr.is_comparison()) {
    out.samples.push_back({labels, arithmetic(expr.op, left.value, right)});
  } else if (expr.return_bool) {
    out.samples.push_back({labels, compare(expr.op, left.value, right) ? 1.0 : 0.0});
  } else if (compare(expr.op, left.value, right)) {
    out.samples.push_back({labels, kept});
  }
}

// group_left, group_right: each element of the one side meets all of the other's with its key.
Value many_to_one(const Expr& expr, const Value& left, const Value& right) {
  const bool many_left = expr.group == Expr::Group::kLeft;
  std::map<Labels, const Sample*> ones;
  for (const Sample& sample : (many_left ? right : left).samples) {
    Labels key = signature(expr, sample.labels);
    if (ones.count(key) != 0) throw ManyToMany{expr, std::move(key), many_left ? "right" : "left"};
    ones.emplace(std::move(key), &sample);
  }
  Value out;
  std::set<Labels> made;
  for (const Sample& many : (many_left ? left : right).samples) {
    const auto found = ones.find(signature(expr, many.labels));
    if (found == ones.end()) continue;
    const Sample& one = *found->second;
    Labels labels = many.labels.without(expr.copied);
    for (const std::string& name : expr.copied) {
      if (one.labels.has(name)) labels.set(name, std::string(one.labels.get(name)));
    }
    const Sample& on_left = many_left ? many : one;
    const std::size_t before = out.samples.size();
    combine(expr, on_left, (many_left ? one : many).value, labels, on_left.value, out);
    if (out.samples.size() > before && !made.insert(labels).second)
      throw ManyToMany{expr, std::move(labels), many_left ? "left" : "right"};
  }
  return out;
}

Value binary(const Expr& expr, const Value& left, const Value& right) {
  Value out;
  if (left.scalar && right.scalar) {
    out.scalar = true;
    // A comparison of numbers is 1 or 0, as with bool: nothing is filtered where there are no elements.
    out.number = expr.is_comparison() ? (compare(expr.op, left.number, right.number) ? 1.0 : 0.0)
                                      : arithmetic(expr.op, left.number, right.number);
    return out;
  }
  if (expr.is_set_operator()) return set_operator(expr, left, right);
  if (right.scalar) {
    for (const Sample& sample : left.samples)
      combine(expr, sample, right.number, sample.labels, sample.value, out);
    return out;
  }
  if (left.scalar) {
    for (const Sample& sample : right.samples)
      combine(expr, {sample.labels, left.number}, sample.value, sample.labels, sample.value, out);
    return out;
  }
  if (expr.group != Expr::Group::kNone) return many_to_one(expr, left, right);
  std::map<Labels, const Sample*> by_signature;
  for (const Sample& sample : right.samples) {
    Labels key = signature(expr, sample.labels);
    if (by_signature.count(key) != 0) throw ManyToMany{expr, std::move(key), "right"};
    by_signature.emplace(std::move(key), &sample);
  }
  std::set<Labels> met;
  for (const Sample& sample : left.samples) {
    const Labels key = signature(expr, sample.labels);
    const auto found = by_signature.find(key);
    if (found == by_signature.end()) continue;
    if (!met.insert(key).second) throw ManyToMany{expr, key, "left"};
    combine(expr, sample, found->second->value, key, sample.value, out);
  }
  return out;
}

// Each element that the operand had at enough of the instants: at how many.
Value m_of_n(const Expr& expr, Timestamp at, const WindowOf& window_of) {
  const Expr::MOfN looks = expr.m_of_n();
  std::map<Labels, std::uint32_t> held;
  for (std::uint32_t look = 0; look < looks.looks; ++look) {
    for (const Sample& sample : value_of(*expr.left, at - look * looks.again, window_of).samples)
      ++held[sample.labels];
  }
  Value out;
  for (const auto& [labels, times] : held) {
    if (times >= looks.least) out.samples.push_back({labels, static_cast<double>(times)});
  }
  return out;
}

Value call(const Expr& expr, Timestamp at, const WindowOf& window_of) {
  if (expr.instant == InstantFunction::kTime) return {true, rules::clock_seconds(at), {}};
  if (expr.instant == InstantFunction::kMOfN) return m_of_n(expr, at, window_of);
  Value operand = value_of(*expr.left, at, window_of);
  std::vector<double> parameters;
  parameters.reserve(expr.parameters.size());
  for (const rules::ExprPtr& parameter : expr.parameters)
    parameters.push_back(value_of(*parameter, at, window_of).number);
  switch (expr.instant) {
    case InstantFunction::kScalar:
      return {true,
              operand.samples.size() == 1 ? operand.samples.front().value
                                          : std::numeric_limits<double>::quiet_NaN(),
              {}};
    case InstantFunction::kVector:
      return {false, 0, {{Labels{}, operand.number}}};
    case InstantFunction::kClamp:
      if (parameters[1] < parameters[0]) return {};
      break;
    default:
      break;
  }
  const bool is_date = rules::is_date_part(expr.instant);
  for (Sample& sample : operand.samples) {
    sample.value = is_date ? rules::date_part(expr.instant, sample.value, expr.location)
                           : rules::apply(expr.instant, sample.value, parameters);
  }
  return operand;
}

Value value_of(const Expr& expr, Timestamp at, const WindowOf& window_of) {
  switch (expr.kind) {
    case Expr::Kind::kNumber:
      return {true, expr.number, {}};
    case Expr::Kind::kParen:
      return value_of(*expr.left, at, window_of);
    case Expr::Kind::kNegate: {
      Value value = value_of(*expr.left, at, window_of);
      value.number = -value.number;
      for (Sample& sample : value.samples)
        sample.value = -sample.value;
      return value;
    }
    case Expr::Kind::kCall:
      return call(expr, at, window_of);
    case Expr::Kind::kRangeCall:
      return range_call(expr, at, window_of);
    case Expr::Kind::kKeyed:
      return keyed_call(expr, at, window_of);
    case Expr::Kind::kAggregate: {
      if (const Expr* keyed = counted_keys(expr)) return count_keys(expr, *keyed, at, window_of);
      const Value operand = value_of(*expr.left, at, window_of);
      const double parameter =
          expr.parameters.empty() ? 0 : value_of(*expr.parameters.front(), at, window_of).number;
      return expr.picks() ? pick(expr, operand, parameter) : aggregate(expr, operand, parameter);
    }
    case Expr::Kind::kBinary:
      return binary(expr, value_of(*expr.left, at, window_of), value_of(*expr.right, at, window_of));
  }
  return {};
}

// What the elements of an expression can be in a span of time, whichever there are.
struct Bounds {
  double least = 0;
  double most = 0;
};

class SpanEvaluator {
 public:
  SpanEvaluator(Timestamp from, Timestamp to, const WindowOf& window_of)
      : from_(from), to_(to), window_of_(window_of) {}

  // Whether evaluate() could fail: two sides meet element by element.
  static bool may_fail(const Expr& expr) {
    if (expr.kind == Expr::Kind::kBinary && !expr.is_set_operator() &&
        expr.left->type == Expr::Type::kVector && expr.right->type == Expr::Type::kVector &&
        !(rules::is_single(*expr.left) && rules::is_single(*expr.right)))
      return true;
    const std::vector<const Expr*> parts = rules::parts_of(expr);
    return std::any_of(parts.begin(), parts.end(), [](const Expr* part) { return may_fail(*part); });
  }

  bool may_be_true(const Expr& expr) const {
    if (expr.kind == Expr::Kind::kParen) return may_be_true(*expr.left);
    if (expr.kind == Expr::Kind::kKeyed) {
      const std::optional<Bounds> values = bounds(expr);
      return !values || values->least <= values->most;
    }
    if (expr.is_call(InstantFunction::kMOfN)) {
      // At one of the instants at least.
      const Expr::MOfN looks = expr.m_of_n();
      return SpanEvaluator(from_ - (looks.looks - 1) * looks.again, to_, window_of_).may_be_true(*expr.left);
    }
    if (expr.kind != Expr::Kind::kBinary) return true;
    switch (expr.op) {
      case Op::kAnd:
        return may_be_true(*expr.left) && may_be_true(*expr.right);
      case Op::kOr:
        return may_be_true(*expr.left) || may_be_true(*expr.right);
      case Op::kUnless:
        return may_be_true(*expr.left);
      default:
        break;
    }
    if (!expr.is_comparison() || expr.return_bool) return true;
    const std::optional<Bounds> left = bounds(*expr.left);
    const std::optional<Bounds> right = left ? bounds(*expr.right) : std::nullopt;
    return !left || !right || may_compare(expr.op, *left, *right);
  }

  std::optional<std::pair<double, double>> value_bounds(const Expr& expr) const {
    if (const std::optional<std::vector<Element>> all = elements(expr); all && !all->empty()) {
      std::pair<double, double> values(all->front().least, all->front().most);
      for (const Element& element : *all) {
        values.first = std::min(values.first, element.least);
        values.second = std::max(values.second, element.most);
      }
      if (!std::isnan(values.first) && !std::isnan(values.second)) return values;
    }
    const std::optional<Bounds> all = bounds(expr);
    return all ? std::optional(std::pair(all->least, all->most)) : std::nullopt;
  }

  std::optional<std::set<Labels>> steady_elements(const Expr& expr) const {
    if (expr.kind == Expr::Kind::kParen) return steady_elements(*expr.left);
    if (expr.kind != Expr::Kind::kBinary || !expr.is_comparison() || expr.return_bool) return std::nullopt;
    const std::optional<double> right = number(*expr.right);
    const std::optional<double> left = number(*expr.left);
    if (right.has_value() == left.has_value()) return std::nullopt;
    const Op op = right ? expr.op : rules::mirrored(expr.op);
    const std::optional<std::vector<Element>> all = elements(right ? *expr.left : *expr.right);
    if (!all) return std::nullopt;
    std::set<Labels> steady;
    for (const Element& element : *all) {
      const Bounds values{element.least, element.most};
      const double bound = right.value_or(left.value_or(0));
      if (!may_compare(op, values, {bound, bound})) continue;
      if (!element.always || may_compare(opposite(op), values, {bound, bound})) return std::nullopt;
      steady.insert(element.labels);
    }
    return steady;
  }

 private:
  // An element, and between what it is as long as it is there.
  struct Element {
    Labels labels;
    double least = 0;
    double most = 0;
    bool always = false;  // it is there at every instant
  };

  static Op opposite(Op op) {
    switch (op) {
      case Op::kGt:
        return Op::kLe;
      case Op::kLe:
        return Op::kGt;
      case Op::kGe:
        return Op::kLt;
      case Op::kLt:
        return Op::kGe;
      case Op::kEq:
        return Op::kNe;
      default:
        return Op::kEq;
    }
  }

  std::optional<std::vector<Element>> elements(const Expr& expr) const {
    switch (expr.kind) {
      case Expr::Kind::kParen:
        return elements(*expr.left);
      case Expr::Kind::kRangeCall:
        return elements_of_call(expr);
      case Expr::Kind::kKeyed:
        return expr.keyed == rules::KeyedFunction::kDistinct ? elements_of_distinct(expr) : std::nullopt;
      case Expr::Kind::kAggregate:
        return elements_of_aggregate(expr);
      case Expr::Kind::kBinary: {
        const std::optional<double> right = rising(expr);
        std::optional<std::vector<Element>> all = right ? elements(*expr.left) : std::nullopt;
        if (!all) return std::nullopt;
        for (Element& element : *all) {
          element.least = arithmetic(expr.op, element.least, *right);
          element.most = arithmetic(expr.op, element.most, *right);
        }
        return all;
      }
      default:
        return std::nullopt;
    }
  }

  std::optional<std::vector<Element>> elements_of_call(const Expr& call) const {
    const bool rate = call.function == Expr::RangeFunction::kRate;
    if (!rate && call.function != Expr::RangeFunction::kCountOverTime) return std::nullopt;
    if (from_ < Timestamp::min() + call.reach()) return std::nullopt;
    const PatternWindow& window = window_of_(call.pattern_index);
    const double unit = rate ? static_cast<double>(call.window.count()) / 1000.0 : 1;
    std::vector<Element> all;
    for (const auto& [values, series] : window.series()) {
      if (!selected(call, window, series)) continue;
      const auto [least, most] = counts_of(call, series);
      all.push_back({labels_of(window, series), least / unit, most / unit, is_there(call, series)});
    }
    // One that is named in full counts 0 before it is there.
    if (names_one_series(call, window) && (all.empty() || !all.front().always)) return std::nullopt;
    return all;
  }

  std::optional<std::vector<Element>> elements_of_distinct(const Expr& expr) const {
    if (from_ < Timestamp::min() + expr.window) return std::nullopt;
    const KeyedIndex* index = KeyedIndex::of(expr, window_of_);
    // While other keys are kept than before, something else may be counted at each instant.
    if (index != nullptr && !index->window().level_changes().empty()) return std::nullopt;
    std::map<Labels, Element> sets;
    for (const auto& [labels, since] : counted_series(expr, window_of_))
      sets[labels].always = since <= from_;
    if (index != nullptr) {
      const double each = stands_for(index->window().level(from_ - expr.window, to_));
      for (const auto& [labels, counter] : index->counters()) {
        const auto [least, most] = counter.bounds(from_, to_);
        if (most == 0) continue;
        Element& set = sets[kept_labels(expr, labels)];
        set.least += static_cast<double>(least) * each;
        set.most += static_cast<double>(most) * each;
      }
    }
    std::vector<Element> all;
    for (auto& [labels, set] : sets) {
      set.labels = labels;
      all.push_back(std::move(set));
    }
    return all;
  }

  std::vector<Element> elements_of_counted(const Expr& expr, const Expr& keyed) const {
    std::map<Labels, Element> groups;
    const bool sum = expr.aggregation == Expr::Aggregation::kSum && !expr.has_grouping;
    if (sum) groups[Labels{}].always = true;
    if (const KeyedIndex* index = KeyedIndex::of(keyed, window_of_)) {
      for (const auto& [labels, counter] : index->counters()) {
        const auto [least, most] = counter.bounds(from_, to_);
        if (most == 0) continue;
        Element& group = groups[group_of(expr, kept_labels(keyed, labels))];
        group.least += static_cast<double>(least);
        group.most += static_cast<double>(most);
        group.always = group.always || least > 0;
      }
    }
    std::vector<Element> all;
    for (auto& [labels, group] : groups) {
      group.labels = labels;
      all.push_back(std::move(group));
    }
    return all;
  }

  std::optional<std::vector<Element>> elements_of_aggregate(const Expr& expr) const {
    if (const Expr* keyed = counted_keys(expr)) return elements_of_counted(expr, *keyed);
    const bool sum = expr.aggregation == Expr::Aggregation::kSum;
    const bool max = expr.aggregation == Expr::Aggregation::kMax;
    const Expr* operand = expr.left.get();
    while (operand->kind == Expr::Kind::kParen)
      operand = operand->left.get();
    if ((!sum && !max) || operand->kind != Expr::Kind::kRangeCall) return std::nullopt;
    const std::optional<std::vector<Element>> all = elements(*operand);
    if (!all) return std::nullopt;
    std::map<Labels, Element> groups;
    if (sum && !expr.has_grouping) groups[Labels{}].always = true;
    for (const Element& element : *all) {
      Element& group = groups[group_of(expr, element.labels)];
      // Counts are not negative: what is not there yet adds nothing.
      const double least = element.always ? element.least : 0;
      group.least = sum ? group.least + least * (1 - kRounded) : std::max(group.least, least);
      group.most = sum ? group.most + element.most * (1 + kRounded) : std::max(group.most, element.most);
      group.always = group.always || element.always;
    }
    std::vector<Element> out;
    for (auto& [labels, group] : groups) {
      group.labels = labels;
      // Sums of counts are whole and exact; only those of rates are rounded.
      if (sum && operand->function == Expr::RangeFunction::kCountOverTime) {
        group.least = std::ceil(group.least);
        group.most = std::floor(group.most);
      }
      out.push_back(std::move(group));
    }
    return out;
  }

  // How many matches windows that end in the span hold: every one of them lies in the largest, and holds the
  // smallest.
  Bounds counts_of(const Expr& call, const Series& series) const {
    return counts_before(call, series, call.range_offset);
  }
  Bounds counts_before(const Expr& call, const Series& series, Duration offset) const {
    const Timestamp from = from_ - offset;
    const Timestamp to = to_ - offset;
    Bounds counts;
    counts.most = static_cast<double>(series.times.count(from - call.window, to));
    if (to - call.window < from)
      counts.least = static_cast<double>(series.times.count(to - call.window, from));
    return counts;
  }

  // Whether the series has an element at every instant of the span.
  bool is_there(const Expr& call, const Series& series) const {
    return series.expected || series.first_seen <= from_ - call.range_offset;
  }

  // The number of an operation with one that rises with its left side, in floating point too.
  static std::optional<double> rising(const Expr& expr) {
    if (expr.is_comparison() || expr.is_set_operator()) return std::nullopt;
    const std::optional<double> right = number(*expr.right);
    if (!right || std::isnan(*right)) return std::nullopt;
    const bool rises = expr.op == Op::kAdd || expr.op == Op::kSub ||
                       ((expr.op == Op::kMul || expr.op == Op::kDiv) && *right > 0);
    return rises ? right : std::nullopt;
  }

  static std::optional<double> number(const Expr& expr) {
    if (expr.kind == Expr::Kind::kParen) return number(*expr.left);
    if (expr.kind == Expr::Kind::kNumber) return expr.number;
    if (expr.kind == Expr::Kind::kNegate) {
      const std::optional<double> inner = number(*expr.left);
      return inner ? std::optional(-*inner) : std::nullopt;
    }
    return std::nullopt;
  }
  static bool may_compare(Op op, const Bounds& left, const Bounds& right) {
    for (const double bound : {left.least, left.most, right.least, right.most}) {
      if (std::isnan(bound)) return true;
    }
    switch (op) {
      case Op::kGt:
        return left.most > right.least;
      case Op::kGe:
        return left.most >= right.least;
      case Op::kLt:
        return left.least < right.most;
      case Op::kLe:
        return left.least <= right.most;
      case Op::kEq:
        return left.least <= right.most && right.least <= left.most;
      case Op::kNe:
        return left.least != left.most || right.least != right.most || left.least != right.least;
      default:
        return true;
    }
  }

  // Unset: anything.
  std::optional<Bounds> bounds(const Expr& expr) const {
    std::optional<Bounds> values = bounds_of(expr);
    if (values && (std::isnan(values->least) || std::isnan(values->most))) return std::nullopt;
    return values;
  }

  std::optional<Bounds> bounds_of(const Expr& expr) const {
    if (const std::optional<double> constant = number(expr)) return Bounds{*constant, *constant};
    switch (expr.kind) {
      case Expr::Kind::kParen:
        return bounds(*expr.left);
      case Expr::Kind::kRangeCall:
        return of_call(expr, false);
      case Expr::Kind::kKeyed:
        return of_keyed(expr);
      case Expr::Kind::kAggregate:
        return of_aggregate(expr);
      case Expr::Kind::kBinary:
        return of_arithmetic(expr);
      case Expr::Kind::kCall:
        return of_instant(expr);
      default:
        return std::nullopt;
    }
  }

  // None at all: no element, and bounds that nothing meets.
  std::optional<Bounds> of_keyed(const Expr& expr) const {
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    Bounds all{kInfinity, -kInfinity};
    if (expr.keyed == rules::KeyedFunction::kDistinct) {
      const std::optional<std::vector<Element>> sets = elements_of_distinct(expr);
      if (!sets) return std::nullopt;
      for (const Element& set : *sets) {
        all.least = std::min(all.least, set.always ? set.least : 0);
        all.most = std::max(all.most, set.most);
      }
      return all;
    }
    const KeyedIndex* index = KeyedIndex::of(expr, window_of_);
    if (index == nullptr) return all;
    const bool counts = rules::is_of_what_is_new(expr.keyed);
    if (!counts) {
      const bool any = std::any_of(index->counters().begin(), index->counters().end(),
                                   [&](const auto& counter) { return counter.second.bounds(from_, to_).second > 0; });
      return any ? Bounds{1, 1} : all;
    }
    index->first_spans(from_, to_, kAllElements, [&](const std::string& id, const Span& span) {
      all.least = 1;
      all.most = std::max(all.most, counts ? matches_since(*index, id, span.from, to_) : 1.0);
    });
    return all;
  }

  // `summed`: of all of its series together.
  std::optional<Bounds> of_call(const Expr& call, bool summed) const {
    if (call.function == Expr::RangeFunction::kAbsentOverTime) return std::nullopt;
    if (from_ < Timestamp::min() + call.reach()) return std::nullopt;
    if (call.asks_values()) return summed ? std::nullopt : of_values(call);
    if (call.function == Expr::RangeFunction::kBaselineOverTime)
      return summed ? std::nullopt : of_baseline(call);
    const PatternWindow& window = window_of_(call.pattern_index);
    Bounds all;
    bool first = true;
    for (const auto& [values, series] : window.series()) {
      if (!selected(call, window, series)) continue;
      const auto [least, most] = counts_of(call, series);
      if (summed) {
        all.most += most;
        all.least += is_there(call, series) ? least : 0;
      } else {
        all.most = std::max(all.most, most);
        all.least = first ? least : std::min(all.least, least);
      }
      first = false;
    }
    // A series that does not exist counts 0.
    if (!summed && (first || names_one_series(call, window))) all.least = 0;
    switch (call.function) {
      case Expr::RangeFunction::kCountOverTime:
        return all;
      case Expr::RangeFunction::kRate: {
        const double seconds = static_cast<double>(call.window.count()) / 1000.0;
        return Bounds{all.least / seconds, all.most / seconds};
      }
      default:
        return std::nullopt;
    }
  }

  // By what each of its windows can hold; none of them watched, or too few: as of no values.
  std::optional<Bounds> of_baseline(const Expr& call) const {
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    const PatternWindow& window = window_of_(call.pattern_index);
    // One more is watched each `again`, and none less as long as nothing is missing.
    const std::uint32_t first = observed(call, window.watched_from(), from_);
    const std::uint32_t last = observed(call, window.watched_from(), to_);
    Bounds all{kInfinity, -kInfinity};
    if (last < call.enough_looks()) return all;
    if (names_one_series(call, window)) all = {0, 0};
    for (const auto& [values, series] : window.series()) {
      if (!selected(call, window, series)) continue;
      Bounds sum;
      Bounds one{kInfinity, 0};
      for (std::uint32_t look = 0; look < last; ++look) {
        const Bounds counts = counts_before(call, series, call.range_offset + look * call.again);
        sum.least += counts.least;
        sum.most += counts.most;
        one.least = std::min(one.least, counts.least);
        one.most = std::max(one.most, counts.most);
      }
      const Bounds mean = first == last ? Bounds{sum.least / last, sum.most / last} : one;
      all.least = std::min(all.least, mean.least);
      all.most = std::max(all.most, mean.most);
    }
    return all;
  }

  // The values that every window of the span holds: the smallest that there can be.
  ValueSummary held_by_all(const Expr& call, const Series& series) const {
    if (to_ - call.window >= from_) return {};
    return series.numbers.summary(to_ - call.range_offset - call.window, from_ - call.range_offset);
  }

  // Beside what all hold, a window holds some of the rest, each of which is at most the most and at least the least.
  Bounds average_of(const Expr& call, const Series& series, const ValueSummary& whole) const {
    const ValueSummary all = held_by_all(call, series);
    if (all.count == 0) return {whole.least, whole.most};
    const double sum = all.sum.value();
    const auto n = static_cast<double>(all.count);
    const auto more = static_cast<double>(whole.count - all.count);
    const double slack = kRounded * std::max(std::abs(whole.least), std::abs(whole.most));
    return {std::min(sum / n, (sum + more * whole.least) / (n + more)) - slack,
            std::max(sum / n, (sum + more * whole.most) / (n + more)) + slack};
  }

  // Of n of N values the i-th from below is no less than the i-th of all, and no more than the one N - n places higher.
  Bounds quantile_of(const Expr& call, const Series& series, const ValueSummary& whole, double phi) const {
    const ValueSummary all = held_by_all(call, series);
    if (all.count == 0) return {whole.least, whole.most};
    std::vector<double> values;
    values.reserve(whole.count);
    series.numbers.values(from_ - call.reach(), to_ - call.range_offset, values);
    const double rank = phi * static_cast<double>(all.count - 1);
    const auto place = [&](double at) {
      // One place to spare for a rank that was rounded.
      return values.begin() + static_cast<std::ptrdiff_t>(std::clamp(at, 0.0, static_cast<double>(values.size() - 1)));
    };
    const auto low = place(std::floor(rank) - 1);
    const auto high = place(std::ceil(rank) + 1 + static_cast<double>(whole.count - all.count));
    std::nth_element(values.begin(), low, values.end());
    const double least = *low;
    std::nth_element(low, high, values.end());
    const double slack = kRounded * std::max(std::abs(whole.least), std::abs(whole.most));
    return {least - slack, *high + slack};
  }

  // By all the values that some window of the span holds. None at all: no element, and bounds that nothing
  // meets.
  std::optional<Bounds> of_values(const Expr& call) const {
    const PatternWindow& window = window_of_(call.pattern_index);
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    Bounds all{kInfinity, -kInfinity};
    double phi = 0;
    if (call.function == Expr::RangeFunction::kQuantileOverTime) {
      const std::optional<double> constant = number(*call.parameters.front());
      if (!constant || !(*constant >= 0 && *constant <= 1)) return std::nullopt;
      phi = *constant;
    }
    for (const auto& [values, series] : window.series()) {
      if (!selected(call, window, series)) continue;
      const ValueSummary whole = series.numbers.summary(from_ - call.reach(), to_ - call.range_offset);
      if (whole.count == 0) continue;
      const double spread = whole.most - whole.least;
      Bounds one{whole.least, whole.most};
      switch (call.function) {
        case Expr::RangeFunction::kSumOverTime: {
          const auto n = static_cast<double>(whole.count);
          one.most = whole.least >= 0 ? whole.sum.value() : n * std::max(whole.most, 0.0);
          one.least = whole.least >= 0 ? whole.least : n * whole.least;
          break;
        }
        case Expr::RangeFunction::kAvgOverTime:
          one = average_of(call, series, whole);
          break;
        case Expr::RangeFunction::kQuantileOverTime:
          one = quantile_of(call, series, whole, phi);
          break;
        case Expr::RangeFunction::kStddevOverTime:
          one = {0, spread};
          break;
        case Expr::RangeFunction::kStdvarOverTime:
          one = {0, spread * spread};
          break;
        default:
          break;
      }
      all.least = std::min(all.least, one.least - std::abs(one.least) * kRounded);
      all.most = std::max(all.most, one.most + std::abs(one.most) * kRounded);
    }
    return all;
  }

  std::optional<Bounds> of_aggregate(const Expr& expr) const {
    if (const Expr* keyed = counted_keys(expr)) {
      constexpr double kInfinity = std::numeric_limits<double>::infinity();
      Bounds all{kInfinity, -kInfinity};
      for (const Element& element : elements_of_counted(expr, *keyed)) {
        all.least = std::min(all.least, element.least);
        all.most = std::max(all.most, element.most);
      }
      return all;
    }
    const Expr* operand = expr.left.get();
    while (operand->kind == Expr::Kind::kParen)
      operand = operand->left.get();
    switch (expr.aggregation) {
      case Expr::Aggregation::kSum: {
        // A group has some of the series; without groups it has all of them.
        if (operand->kind != Expr::Kind::kRangeCall) return std::nullopt;
        std::optional<Bounds> sum = of_call(*operand, true);
        if (!sum) return sum;
        // Counts are whole and their sums exact; those of rates are rounded as they come.
        if (operand->function == Expr::RangeFunction::kRate) {
          sum->most *= 1 + kRounded;
          sum->least *= 1 - kRounded;
        }
        if (expr.has_grouping) sum->least = 0;
        return sum;
      }
      case Expr::Aggregation::kMin:
      case Expr::Aggregation::kMax:
      case Expr::Aggregation::kTopk:
      case Expr::Aggregation::kBottomk:
        return bounds(*operand);
      case Expr::Aggregation::kGroup:
        return Bounds{1, 1};
      case Expr::Aggregation::kQuantile: {
        const std::optional<double> phi = number(*expr.parameters.front());
        std::optional<Bounds> between = bounds(*operand);
        if (!between || !phi || !(*phi >= 0 && *phi <= 1)) return std::nullopt;
        between->least -= std::abs(between->least) * kRounded;
        between->most += std::abs(between->most) * kRounded;
        return between;
      }
      default:
        return std::nullopt;
    }
  }

  // What rises with both of its sides, or rises with one and falls with the other, in floating point too.
  std::optional<Bounds> of_arithmetic(const Expr& expr) const {
    if (expr.is_comparison() || expr.is_set_operator()) return std::nullopt;
    const std::optional<Bounds> left = bounds(*expr.left);
    const std::optional<Bounds> right = left ? bounds(*expr.right) : std::nullopt;
    if (!left || !right) return std::nullopt;
    switch (expr.op) {
      case Op::kAdd:
        return Bounds{left->least + right->least, left->most + right->most};
      case Op::kSub:
        return Bounds{left->least - right->most, left->most - right->least};
      case Op::kMul:
        if (right->least == right->most && right->least > 0)
          return Bounds{left->least * right->least, left->most * right->least};
        if (!(left->least >= 0 && right->least >= 0)) return std::nullopt;
        return Bounds{left->least * right->least, left->most * right->most};
      case Op::kDiv:
        if (right->least == right->most && right->least > 0)
          return Bounds{left->least / right->least, left->most / right->least};
        if (!(left->least >= 0 && right->least > 0)) return std::nullopt;
        return Bounds{left->least / right->most, left->most / right->least};
      default:
        return std::nullopt;
    }
  }

  // The values that a part of the date has in the span, or what it can have in longer ones.
  Bounds of_date(const Expr& expr) const {
    constexpr int kFewTurns = 32;
    const auto value_at = [&](Timestamp at) {
      return rules::date_part(expr.instant, rules::clock_seconds(at), expr.location);
    };
    Bounds values{value_at(from_), value_at(from_)};
    Timestamp at = from_;
    for (int turns = 0; turns < kFewTurns; ++turns) {
      at = rules::next_turn(expr.instant, expr.location, at);
      if (at > to_) return values;
      values.least = std::min(values.least, value_at(at));
      values.most = std::max(values.most, value_at(at));
    }
    const auto [least, most] = rules::date_part_range(expr.instant);
    return {least, most};
  }

  std::optional<Bounds> of_instant(const Expr& expr) const {
    if (expr.instant == InstantFunction::kTime)
      return Bounds{rules::clock_seconds(from_), rules::clock_seconds(to_)};
    if (expr.is_date_of_now()) return of_date(expr);
    if (rules::is_date_part(expr.instant)) return std::nullopt;
    if (expr.instant == InstantFunction::kMOfN) {
      const Expr::MOfN looks = expr.m_of_n();
      return Bounds{static_cast<double>(looks.least), static_cast<double>(looks.looks)};
    }
    std::vector<double> parameters;
    for (const rules::ExprPtr& parameter : expr.parameters) {
      const std::optional<double> value = number(*parameter);
      if (!value || std::isnan(*value)) return std::nullopt;
      parameters.push_back(*value);
    }
    const std::optional<Bounds> inner = bounds(*expr.left);
    if (!inner) return std::nullopt;
    switch (expr.instant) {
      // They rise with their argument, in floating point too.
      case InstantFunction::kCeil:
      case InstantFunction::kFloor:
      case InstantFunction::kSgn:
      case InstantFunction::kClamp:
      case InstantFunction::kClampMin:
      case InstantFunction::kClampMax:
        return Bounds{rules::apply(expr.instant, inner->least, parameters),
                      rules::apply(expr.instant, inner->most, parameters)};
      case InstantFunction::kVector:
        return inner;
      case InstantFunction::kScalar:
        // Of none or several it is NaN.
        return rules::is_single(*expr.left) ? inner : std::nullopt;
      case InstantFunction::kAbs:
        if (inner->least >= 0) return inner;
        return Bounds{inner->most <= 0 ? -inner->most : 0, std::max(-inner->least, inner->most)};
      case InstantFunction::kSqrt:
        if (!(inner->least >= 0)) return std::nullopt;
        return Bounds{std::sqrt(inner->least), std::sqrt(inner->most)};
      default:
        return std::nullopt;
    }
  }

  static constexpr double kRounded = 1e-9;  // of a million sums

  Timestamp from_;
  Timestamp to_;
  const WindowOf& window_of_;
};

}  // namespace

std::optional<std::pair<double, double>> value_bounds(const Expr& expr, Timestamp from, Timestamp to,
                                                      const WindowOf& window_of) {
  return SpanEvaluator(from, to, window_of).value_bounds(expr);
}

bool may_be_true(const Expr& expr, Timestamp from, Timestamp to, const WindowOf& window_of) {
  return SpanEvaluator::may_fail(expr) || SpanEvaluator(from, to, window_of).may_be_true(expr);
}

std::optional<std::set<Labels>> steady_elements(const Expr& expr, Timestamp from, Timestamp to,
                                                const WindowOf& window_of) {
  if (SpanEvaluator::may_fail(expr)) return std::nullopt;
  return SpanEvaluator(from, to, window_of).steady_elements(expr);
}

namespace {

// The same of listed_keys(), with as many of its elements as are told.
Value listed_value(const Expr& expr, const Expr& listed, Timestamp at, const WindowOf& window_of) {
  const Expr& inner = without_parens(expr);
  Value elements = keyed_call(listed, at, window_of, KeyedIndex::kMaxElements);
  if (&inner == &listed) return elements;
  if (&without_parens(*inner.left) == &listed) return binary(inner, elements, value_of(*inner.right, at, window_of));
  return binary(inner, value_of(*inner.left, at, window_of), elements);
}

}  // namespace

rules::Result<std::vector<Sample>> evaluate(const Expr& expr, Timestamp at, const WindowOf& window_of, Elements elements) {
  try {
    if (const Expr* listed = listed_keys(expr, elements)) return listed_value(expr, *listed, at, window_of).samples;
    return value_of(expr, at, window_of).samples;
  } catch (const ManyToMany& many) {
    return rules::fail(rules::ErrorCode::kInvalid,
                       fmt::format("evaluate `{}`: several elements on the {} have the labels {}",
                                   rules::format_expr(many.expr), many.side, many.key.format()));
  }
}

namespace {

// The instants in (from, to] at which one more window of a baseline was watched.
template <typename Take>
void windows_watched(const Expr& call, const PatternWindow& window, Timestamp from, Timestamp to, Take take) {
  if (call.function != Expr::RangeFunction::kBaselineOverTime || window.watched_from() == rules::kLongAgo ||
      window.watched_from() == Timestamp::max() || window.watched_from() > to)
    return;
  for (std::uint32_t look = 0; look < call.looks; ++look) {
    const Timestamp at = window.watched_from() + call.window + call.range_offset + look * call.again;
    if (at > from && at <= to) take(at);
  }
}

// So long after a match its coming or leaving can change what the call says.
std::vector<Duration> lags(const Expr& call) {
  std::vector<Duration> all;
  for (std::uint32_t look = 0; look < call.looks; ++look) {
    all.push_back(call.range_offset + look * call.again);
    all.push_back(call.range_offset + call.window + look * call.again);
  }
  return all;
}

}  // namespace

namespace {

// What of a function by key matters: how many of its elements there are, those that are told, or each of them.
enum class Keys { kCounted, kListed, kEach };
constexpr std::size_t most_of(Keys keys) {
  return keys == Keys::kListed ? KeyedIndex::kMaxElements : kAllElements;
}

// Each keyed function of `expr`, with how long ago it is looked at: of m_of_n() once a look.
// `listed`: as of listed_keys() of the whole.
template <typename Take>
void each_keyed(const Expr& expr, const Expr* listed, Take take) {
  const Expr* counted = counted_keys(expr);
  if (counted != nullptr || expr.kind == Expr::Kind::kKeyed) {
    const Expr& keyed = counted != nullptr ? *counted : expr;
    const Expr& first = *keyed.operands.front();
    for (std::uint32_t look = 0; look < first.looks; ++look)
      take(keyed, look * first.again, counted != nullptr || keyed.keyed == rules::KeyedFunction::kDistinct ? Keys::kCounted
           : &keyed == listed                                                 ? Keys::kListed
                                                                              : Keys::kEach);
    return;
  }
  for (const Expr* part : rules::parts_of(expr))
    each_keyed(*part, listed, take);
}

// Each instant in (from, to] at which a keyed function can give something else, but for those that m_of_n() adds.
template <typename Take>
void keyed_changes(const Expr& expr, Keys keys, Timestamp from, Timestamp to, const WindowOf& window_of, Take take) {
  const auto consider = [&](Timestamp at) {
    if (at > from && at <= to) take(at);
  };
  const KeyedIndex* index = KeyedIndex::of(expr, window_of);
  if (expr.keyed == rules::KeyedFunction::kDistinct) {
    for (const auto& [labels, since] : counted_series(expr, window_of)) {
      if (since != rules::kLongAgo) consider(since);
    }
    if (index == nullptr) return;
    for (const Timestamp since : index->window().level_changes())
      consider(since + expr.window);
  }
  if (index == nullptr) return;
  if (keys == Keys::kCounted) {
    for (const auto& [labels, counter] : index->counters()) {
      for (auto edge = counter.edges().upper_bound(from); edge != counter.edges().end() && edge->first <= to; ++edge)
        take(edge->first);
    }
    return;
  }
  std::vector<Timestamp> matches;
  index->first_spans(from, to, most_of(keys), [&](const std::string& id, const Span& span) {
    consider(span.from);
    consider(span.until);
    if (!rules::is_of_what_is_new(expr.keyed)) return;
    // Each further match is one more.
    const auto entry = index->window().entries().find(id);
    if (entry == index->window().entries().end()) return;
    matches.clear();
    entry->second.times.times(std::max(from, span.from), std::min(to, span.until), matches);
    for (const Timestamp at : matches)
      take(at);
  });
}

// The first of them.
std::optional<Timestamp> next_keyed_change(const Expr& expr, Keys keys, Timestamp from, const WindowOf& window_of) {
  std::optional<Timestamp> next;
  // Of counted keys there may be very many that come or go later.
  if (keys == Keys::kCounted) {
    if (const KeyedIndex* index = KeyedIndex::of(expr, window_of)) {
      for (const auto& [labels, counter] : index->counters()) {
        const auto edge = counter.edges().upper_bound(from);
        if (edge != counter.edges().end() && (!next || edge->first < *next)) next = edge->first;
      }
    }
  } else if (const KeyedIndex* index = KeyedIndex::of(expr, window_of)) {
    next = index->next_edge(from, most_of(keys));
    if (!next) return next;
  }
  keyed_changes(expr, keys, from, next.value_or(Timestamp::max()), window_of, [&](Timestamp at) {
    if (!next || at < *next) next = at;
  });
  return next;
}

}  // namespace

void change_instants(const Expr& expr, Timestamp from, Timestamp to, const WindowOf& window_of,
                     Instants& out, Elements elements) {
  for (auto turn = rules::next_clock_turn(expr, from); turn && *turn <= to;
       turn = rules::next_clock_turn(expr, *turn))
    out.add(*turn);
  each_keyed(expr, listed_keys(expr, elements), [&](const Expr& call, Duration before, Keys keys) {
    keyed_changes(call, keys, from - before, to - before, window_of, [&](Timestamp at) { out.add(at + before); });
  });
  std::vector<Timestamp> times;
  for (const Expr* call : rules::range_calls(expr)) {
    if (call->asks_keys()) continue;
    const PatternWindow& window = window_of(call->pattern_index);
    windows_watched(*call, window, from, to, [&](Timestamp at) { out.add(at); });
    for (const auto& [values, series] : window.series()) {
      if (!selected(*call, window, series)) continue;
      // What came so long before is what comes into the window, or leaves it, now.
      for (const Duration before : lags(*call)) {
        const bool far = from < Timestamp::min() + before;
        times.clear();
        series.times.times(far ? Timestamp::min() : from - before, to - before, times);
        for (const Timestamp at : times)
          out.add(at + before);
      }
      if (series.expected || series.first_seen == rules::kLongAgo) continue;
      for (std::uint32_t look = 0; look < call->looks; ++look) {
        const Timestamp seen = series.first_seen + call->range_offset + look * call->again;
        if (seen > from && seen <= to) out.add(seen);
      }
    }
  }
}

std::optional<Timestamp> next_change(const Expr& expr, Timestamp from, const WindowOf& window_of, Elements elements) {
  std::optional<Timestamp> next;
  const auto consider = [&](Timestamp at) {
    if (at > from && (!next || at < *next)) next = at;
  };
  if (const auto turn = rules::next_clock_turn(expr, from)) consider(*turn);
  each_keyed(expr, listed_keys(expr, elements), [&](const Expr& call, Duration before, Keys keys) {
    if (const auto at = next_keyed_change(call, keys, from - before, window_of)) consider(*at + before);
  });
  for (const Expr* call : rules::range_calls(expr)) {
    if (call->asks_keys()) continue;
    const PatternWindow& window = window_of(call->pattern_index);
    windows_watched(*call, window, from, Timestamp::max(), consider);
    for (const auto& [values, series] : window.series()) {
      if (!selected(*call, window, series)) continue;
      for (const Duration before : lags(*call)) {
        if (const auto at = series.times.first_after(from - before)) consider(*at + before);
      }
      for (std::uint32_t look = 0; look < call->looks; ++look) {
        if (!series.expected && series.first_seen != rules::kLongAgo)
          consider(series.first_seen + call->range_offset + look * call->again);
      }
    }
  }
  return next;
}

}  // namespace logbell::engine

#include "engine/run/backtest_values.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <span>

#include <fmt/format.h>

namespace logbell::engine {

using rules::Duration;
using rules::Expr;
using rules::ExprPtr;
using rules::Timestamp;

namespace {

constexpr double kNone = -std::numeric_limits<double>::infinity();
// Firings a month that a threshold is proposed for.
constexpr double kAMonth[] = {1, 5, 20};
constexpr Duration kMonth = std::chrono::hours(24 * 30);
// Where no bounds are known, a value is looked at wherever it changes as long as that is no more often than this, between
// two ticks, for all rules together; else so often.
constexpr std::size_t kMostBlindLooks = 50'000;
constexpr int kBlindLooks = 64;
// Distinct values in a sliding window; of more, only the extremes and the newest.
constexpr std::size_t kMostHeld = 4096;

std::optional<double> number_of(const Expr& expr) {
  if (expr.kind == Expr::Kind::kParen) return number_of(*expr.left);
  if (expr.kind == Expr::Kind::kNumber) return expr.number;
  if (expr.kind != Expr::Kind::kNegate) return std::nullopt;
  const std::optional<double> inner = number_of(*expr.left);
  return inner ? std::optional(-*inner) : std::nullopt;
}

}  // namespace

std::string_view text_of(Expr::BinaryOp comparison) {
  switch (comparison) {
    case Expr::BinaryOp::kEq:
      return "==";
    case Expr::BinaryOp::kNe:
      return "!=";
    case Expr::BinaryOp::kLt:
      return "<";
    case Expr::BinaryOp::kGe:
      return ">=";
    case Expr::BinaryOp::kLe:
      return "<=";
    default:
      return ">";
  }
}

Compared compared_by(const ExprPtr& expr) {
  if (expr->kind == Expr::Kind::kParen) return compared_by(expr->left);
  Compared out;
  if (expr->kind == Expr::Kind::kBinary &&
      (expr->op == Expr::BinaryOp::kAnd || expr->op == Expr::BinaryOp::kUnless)) {
    out = compared_by(expr->left);
    out.no_threshold =
        fmt::format("it is joined with `{}`: another threshold alone does not say how often both would hold",
                    expr->op == Expr::BinaryOp::kAnd ? "and" : "unless");
    return out;
  }
  if (expr->kind != Expr::Kind::kBinary || !expr->is_comparison() || expr->return_bool) {
    out.no_threshold = "it is no comparison with a number";
    return out;
  }
  const std::optional<double> right = number_of(*expr->right);
  const std::optional<double> left = number_of(*expr->left);
  out.value = left && !right ? expr->right : expr->left;
  out.op = left && !right ? rules::mirrored(expr->op) : expr->op;
  out.threshold = right ? right : left;
  if (!out.threshold) {
    out.no_threshold = "it is compared with an expression, not with a number";
  } else if (out.op == Expr::BinaryOp::kEq || out.op == Expr::BinaryOp::kNe) {
    out.no_threshold = fmt::format("`{}` has no threshold that could be higher or lower", text_of(out.op));
  }
  return out;
}

// --- levels

double Levels::round(double value, Towards towards) {
  if (value == 0 || !std::isfinite(value)) return value;
  const double unit = std::pow(10.0, std::floor(std::log10(std::abs(value))) - 2);
  const double units = value / unit;
  return (towards == Towards::kLess ? std::floor(units) : std::ceil(units)) * unit;
}

void Levels::rise(double low, double high) {
  if (!(low < high)) return;
  // Each a little longer than it was: no threshold is said to fire less often than it did.
  ++steps_[rounded_ ? round(low, Towards::kLess) : low];
  --steps_[rounded_ ? round(high, Towards::kMore) : high];
  if (rounded_ || steps_.size() <= kMostLevels) return;
  rounded_ = true;
  std::map<double, std::int64_t> coarse;
  for (const auto& [value, step] : steps_)
    coarse[round(value, step > 0 ? Towards::kLess : Towards::kMore)] += step;
  steps_ = std::move(coarse);
}

std::vector<std::pair<double, std::uint64_t>> Levels::counts() const {
  std::vector<std::pair<double, std::uint64_t>> out;
  std::int64_t count = 0;
  for (const auto& [value, step] : steps_) {
    count += step;
    out.emplace_back(value, static_cast<std::uint64_t>(std::max<std::int64_t>(count, 0)));
  }
  return out;
}

// --- extremes

void SlidingExtreme::drop_before(Timestamp at, bool inclusive, Steps& out) {
  while (held_.size() > 1) {
    const Timestamp leaves = held_.front().end + span_;
    if (leaves > at || (leaves == at && !inclusive)) return;
    held_.pop_front();
    out.emplace_back(leaves, held_.front().value);
  }
}

void SlidingExtreme::change(Timestamp at, double value, Steps& out) {
  if (held_.empty()) held_.push_back({kNone});  // what was not there before is no long time
  if (held_.back().value == value) return pass_to(at, out);
  drop_before(at, false, out);
  held_.back().end = at;
  while (!held_.empty() && beats(value, held_.back().value))
    held_.pop_back();
  if (held_.size() > kMostHeld) held_.pop_back();
  held_.push_back({value});
  drop_before(at, true, out);
  out.emplace_back(at, held_.front().value);
}

void SlidingExtreme::pass_to(Timestamp at, Steps& out) {
  drop_before(at, true, out);
}

// --- one element

void ElementFirings::change(Timestamp at, double value, Levels& levels) {
  SlidingExtreme::Steps least;
  SlidingExtreme::Steps most;
  least_.change(at, value, least);
  most_.change(at, value, most);
  take(least, most, levels);
}

void ElementFirings::end(Timestamp at, Levels& levels) {
  SlidingExtreme::Steps least;
  SlidingExtreme::Steps most;
  least_.pass_to(at, least);
  most_.pass_to(at, most);
  take(least, most, levels);
  settle(levels);
}

void ElementFirings::take(const SlidingExtreme::Steps& least, const SlidingExtreme::Steps& most,
                          Levels& levels) {
  auto a = least.begin();
  auto b = most.begin();
  while (a != least.end() || b != most.end()) {
    const bool first = b == most.end() || (a != least.end() && a->first <= b->first);
    const Timestamp at = first ? a->first : b->first;
    // What comes at one instant is one step.
    if (unsettled_ && *unsettled_ != at) settle(levels);
    unsettled_ = at;
    (first ? least_now_ : most_now_) = first ? a->second : b->second;
    ++(first ? a : b);
  }
}

void ElementFirings::settle(Levels& levels) {
  if (!unsettled_) return;
  unsettled_.reset();
  const double next = std::max(least_now_, std::min(fires_, most_now_));
  if (next > fires_) levels.rise(fires_, next);
  fires_ = next;
}

// --- one rule

BacktestValues::BacktestValues(const rules::AlertingRule& rule, bool everywhere, BacktestReport::Rule& into, std::size_t rules)
    : rule_(rule),
      everywhere_(everywhere),
      report_(into),
      compared_(compared_by(rule.expr)),
      most_looks_(kMostBlindLooks / std::max<std::size_t>(rules, 1)) {
  if (compared_.value == nullptr) return;
  if (rule.resolve_when && compared_.no_threshold.empty())
    compared_.no_threshold = "its `resolve_when` decides when an alert ends, and so how often another threshold would fire";
  report_.value = rules::format_expr(*compared_.value);
  if (!compared_.threshold) return;
  report_.op = text_of(compared_.op);
  report_.threshold = *compared_.threshold;
  if (rule.polarity.absence) unknown_for_ = rules::known_after(*rule.expr);
}

void BacktestValues::look(const WindowOf& windows, Timestamp known_from, Timestamp since, Timestamp to) {
  if (compared_.value == nullptr || to == rules::kLongAgo) return;
  if (!clock_) {
    const Timestamp begin = std::max(known_from + unknown_for_, since);
    if (to < begin) return;
    clock_ = begin;
    see(windows, begin);
  }
  if (*clock_ >= to) return;
  if (everywhere_) {
    look_everywhere(windows, *clock_, to);
  } else if (has_peak()) {
    find_peak(windows, *clock_, to);
  }
  clock_ = to;
}

void BacktestValues::look_everywhere(const WindowOf& windows, Timestamp from, Timestamp to) {
  Instants changes;
  change_instants(*compared_.value, from, to, windows, changes);
  const std::vector<Timestamp>& instants = changes.in_order();
  const std::size_t most = std::max<std::size_t>(kMostLooks / std::max<std::size_t>(elements_seen_, 1), 16);
  const std::size_t stride = instants.size() / most + 1;
  if (stride > 1) exact_ = false;
  std::size_t i = 0;
  for (const Timestamp at : instants) {
    if (++i % stride == 0 || i == instants.size()) see(windows, at);
  }
}

bool BacktestValues::may_exceed(const WindowOf& windows, Timestamp from, Timestamp to, bool& known) const {
  const auto bounds = value_bounds(*compared_.value, from, to, windows);
  known = bounds.has_value();
  if (!bounds || !report_.peak) return true;
  // Bounds are a little wider than what they bound: what is no farther than that is the same.
  constexpr double kSame = 1e-8;
  const double peak = score(report_.peak->value);
  return score(compared_.wants_little() ? bounds->first : bounds->second) > peak + std::abs(peak) * kSame;
}

void BacktestValues::find_peak(const WindowOf& windows, Timestamp from, Timestamp to) {
  bool known = false;
  if (!may_exceed(windows, from, to, known)) return;
  Instants instants;
  change_instants(*compared_.value, from, to, windows, instants);
  if (!known) {
    const std::vector<Timestamp>& all = instants.in_order();
    if (all.size() <= most_looks_ / std::max<std::size_t>(elements_seen_, 1)) {
      for (const Timestamp at : all)
        see(windows, at);
      return;
    }
    exact_ = false;
    for (int i = 1; i <= kBlindLooks; ++i)
      see(windows, from + (to - from) * i / kBlindLooks);
    return;
  }
  search(windows, instants.in_order(), from, to);
}

void BacktestValues::search(const WindowOf& windows, std::span<const Timestamp> instants, Timestamp from,
                            Timestamp to) {
  constexpr std::size_t kFew = 8;
  if (instants.size() <= kFew) {
    for (const Timestamp at : instants)
      see(windows, at);
    return;
  }
  const std::size_t half = instants.size() / 2;
  const Timestamp middle = instants[half - 1];
  bool known = false;
  if (may_exceed(windows, from, middle, known)) search(windows, instants.first(half), from, middle);
  if (may_exceed(windows, middle, to, known)) search(windows, instants.subspan(half), middle, to);
}

void BacktestValues::see(const WindowOf& windows, Timestamp at) {
  const auto found = evaluate(*compared_.value, at, windows);
  if (!found) return;  // the rule itself says so
  elements_seen_ = found->size();
  const Sample* farthest = nullptr;
  for (const Sample& sample : *found) {
    if (std::isnan(sample.value)) continue;
    if (farthest == nullptr || score(sample.value) > score(farthest->value)) farthest = &sample;
  }
  if (farthest != nullptr) {
    for (const auto& [name, value] : farthest->labels)
      names_.insert(name);
  }
  if (farthest != nullptr && has_peak() &&
      (!report_.peak || score(farthest->value) > score(report_.peak->value)))
    report_.peak = BacktestReport::Peak{farthest->value, at, farthest->labels, true};
  if (!everywhere_) return;
  BacktestReport::Span& span = report_.spans.at(at);
  span.seen = true;
  span.last = farthest == nullptr ? std::numeric_limits<double>::quiet_NaN() : farthest->value;
  if (farthest != nullptr) {
    span.least = std::min(span.least, farthest->value);
    span.most = std::max(span.most, farthest->value);
  }
  if (!compared_.no_threshold.empty()) return;
  std::set<rules::Labels> there;
  for (const Sample& sample : *found) {
    auto element = elements_.find(sample.labels);
    if (element == elements_.end()) {
      if (elements_.size() >= kMostElements) {
        exact_ = false;
        continue;
      }
      element = elements_.emplace(sample.labels, ElementFirings(rule_.for_, rule_.keep_firing_for)).first;
    }
    element->second.change(at, std::isnan(sample.value) ? kNone : score(sample.value), levels_);
    there.insert(sample.labels);
  }
  if (there.size() == elements_.size()) return;
  for (auto& [labels, element] : elements_) {
    if (there.count(labels) == 0) element.change(at, kNone, levels_);
  }
}

// What an alert had as it fired may lie between two looks.
void BacktestValues::take_firings() {
  if (compared_.value == nullptr || !has_peak()) return;
  for (const BacktestReport::Episode& episode : report_.episodes) {
    if (std::isnan(episode.value) || (report_.peak && score(episode.value) <= score(report_.peak->value))) continue;
    // Of the alert's labels, those of the element that it is of.
    rules::Labels labels;
    for (const auto& [name, value] : episode.labels) {
      if (names_.count(name) != 0) labels.set(name, value);
    }
    report_.peak = BacktestReport::Peak{episode.value, episode.fired_at, std::move(labels), true};
  }
}

void BacktestValues::end(Timestamp last, Duration span) {
  take_firings();
  if (report_.peak) report_.peak->exact = exact_;
  report_.thinned = everywhere_ && !exact_;
  if (!everywhere_) return;
  report_.no_suggestion = compared_.no_threshold;
  if (!report_.no_suggestion.empty()) return;
  for (auto& [labels, element] : elements_)
    element.end(last, levels_);
  report_.at_most = levels_.is_rounded();
  if (!clock_ || span <= Duration(0)) {
    report_.no_suggestion = "its windows were never known in these logs";
    return;
  }
  suggest(span);
}

// The farthest from the peak that still fires seldom enough, and so does everything between.
void BacktestValues::suggest(Duration span) {
  const std::vector<std::pair<double, std::uint64_t>> counts = levels_.counts();
  if (counts.empty()) {
    report_.no_suggestion = "it never had a value in these logs";
    return;
  }
  const bool strict = compared_.op == Expr::BinaryOp::kGt || compared_.op == Expr::BinaryOp::kLt;
  for (const double a_month : kAMonth) {
    const auto allowed = static_cast<std::uint64_t>(a_month * std::chrono::duration<double>(span) /
                                                    std::chrono::duration<double>(kMonth));
    // Above counts[i] it went counts[i].second times; above the last, never.
    std::size_t i = counts.size();
    while (i > 0 && counts[i - 1].second <= allowed && counts[i - 1].first != kNone)
      --i;
    if (i == counts.size()) --i;  // cannot be: above the last it went never
    BacktestReport::Suggestion one;
    one.a_month = a_month;
    one.firings = counts[i].second;
    one.beyond = allowed == 0;
    double level = counts[i].first;
    if (!strict) {
      // At least as much: what comes next above the level, or beyond everything that was seen.
      const bool whole = level == std::floor(level);
      level = i + 1 < counts.size() ? counts[i + 1].first
              : whole               ? level + 1
                                    : std::nextafter(level, std::numeric_limits<double>::infinity());
    }
    one.threshold = score(level);
    if (std::isfinite(one.threshold) && rules::may_hold(compared_.value, compared_.op, one.threshold)) report_.suggestions.push_back(one);
  }
  if (report_.suggestions.empty())
    report_.no_suggestion = fmt::format("with each threshold with which it can fire at all it would have fired more often than {} times a month", kAMonth[2]);
}

}  // namespace logbell::engine

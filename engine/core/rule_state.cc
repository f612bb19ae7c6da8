#include "engine/core/rule_state.h"

#include <algorithm>
#include <memory>
#include <utility>

namespace logbell::engine {

using rules::Timestamp;

namespace {

const rules::Expr& bare(const rules::Expr& expr) {
  return expr.kind == rules::Expr::Kind::kParen ? bare(*expr.left) : expr;
}

bool is_newest(const rules::Expr& expr) {
  const rules::Expr& call = bare(expr);
  return call.kind == rules::Expr::Kind::kRangeCall && call.function == rules::Expr::RangeFunction::kLastOverTime &&
         call.range_offset == rules::Duration{0};
}

// Whether it compares the newest value of each series with a number: what was before that value changes nothing.
bool compares_newest(const rules::Expr& expr) {
  const rules::Expr& node = bare(expr);
  return node.is_comparison() && !node.return_bool && node.type == rules::Expr::Type::kVector &&
         ((is_newest(*node.left) && bare(*node.right).kind == rules::Expr::Kind::kNumber) ||
          (is_newest(*node.right) && bare(*node.left).kind == rules::Expr::Kind::kNumber));
}

// The same of the lines of the last `window` alone.
rules::Expr within(const rules::Expr& expr, rules::Duration window) {
  rules::Expr node = bare(expr);
  for (rules::ExprPtr* side : {&node.left, &node.right}) {
    if (!is_newest(**side)) continue;
    rules::Expr call = bare(**side);
    call.window = std::min(call.window, window);
    *side = std::make_shared<const rules::Expr>(std::move(call));
  }
  return node;
}

}  // namespace

RuleState::RuleState(const rules::AlertingRule& rule, WindowOf window_of)
    : rule_(&rule),
      window_of_(std::move(window_of)),
      known_after_(rules::known_after(*rule.expr)),
      resolve_known_after_(rule.resolve_when ? rules::known_after(*rule.resolve_when->expr) : rules::Duration{0}),
      newest_(compares_newest(*rule.expr)),
      alerts_(rule.for_, rule.keep_firing_for) {}

Certainty RuleState::certainty(Timestamp at, const RuleInputs& inputs) const {
  // Unreadable: nothing fires and nothing resolves.
  if (!inputs.readable && !inputs.sees) return {false, false, false};
  Certainty certainty;
  const bool watched = inputs.readable && inputs.watched_from && at - known_after_ >= *inputs.watched_from;
  if (!watched) {
    // What is missing could only add matches: they make presence true, and absence false.
    certainty.may_fire = !rule_->polarity.absence;
    certainty.may_resolve = !rule_->polarity.presence;
  }
  if (inputs.resolve_up_to && at > *inputs.resolve_up_to) certainty.may_resolve = false;
  // Of several sources one may be out of sight for good: what is seen in the others decides over `for`.
  certainty.may_cancel = certainty.may_resolve || (!inputs.readable && certainty.may_fire);
  return certainty;
}

bool RuleState::would_fire(Timestamp at, const RuleInputs& inputs) const {
  if (!certainty(clock_, inputs).may_fire) return false;
  const auto result = evaluate(*rule_->expr, at, window_of_, Elements::kTold);
  return result && std::any_of(result->begin(), result->end(),
                               [&](const Sample& sample) { return alerts_.all().count(sample.labels) == 0; });
}

bool RuleState::unknown(const RuleInputs& inputs) const {
  return !failure_.empty() || !inputs.readable || !inputs.watched_from || clock_ == rules::kLongAgo ||
         clock_ - std::max(known_after_, resolve_known_after_) < *inputs.watched_from;
}

Endings RuleState::endings(Timestamp at, const std::vector<Sample>& result, const RuleInputs& inputs) {
  if (!rule_->resolve_when) return {};
  const rules::ResolveWhen& resolve = *rule_->resolve_when;
  Endings endings{.all = false, .labels = resolve.labels, .elements = {}};
  if (!alerts_.is_one_without(result)) return endings;  // nobody asks
  const auto found = evaluate(*resolve.expr, at, window_of_);
  if (!found) {
    ++failures_;
    failure_ = found.error().message;
    endings.known = false;
    return endings;
  }
  for (const Sample& sample : *found)
    endings.elements.insert(sample.labels);
  // What is missing could only add matches: they would end what rests on absence.
  const bool watched =
      inputs.readable && inputs.watched_from && at - resolve_known_after_ >= *inputs.watched_from;
  endings.known = watched || !resolve.polarity.absence;
  return endings;
}

void RuleState::evaluate_at(Timestamp at, const RuleInputs& inputs, std::vector<Step>& out) {
  Certainty certain = certainty(at, inputs);
  // Of what was seen in full the newest value is certain, however much more the window would hold.
  const bool in_part = newest_ && !certain.may_fire && inputs.readable && inputs.watched_from && *inputs.watched_from < at;
  certain.may_fire = certain.may_fire || in_part;
  const auto result = evaluate(in_part ? within(*rule_->expr, at - *inputs.watched_from) : *rule_->expr, at, window_of_,
                               Elements::kTold);
  if (!result) {
    // The alerts stay as they are, and whoever looks sees the rule unknown; the next change is tried again.
    ++failures_;
    failure_ = result.error().message;
    return;
  }
  failure_.clear();
  const Endings ends = endings(at, *result, inputs);
  alerts_.step(at, *result, certain, out, ends);
  held_ = !certain.may_fire || !certain.may_resolve || !ends.known;
}

void RuleState::advance(const RuleInputs& inputs, bool late, std::vector<Step>& out) {
  if (inputs.clock == rules::kLongAgo) return;
  // Looked at for the first time: what happened before is not replayed as transitions of the past.
  if (clock_ == rules::kLongAgo) {
    Timestamp start = inputs.watched_from ? std::min(*inputs.watched_from, inputs.clock) : inputs.clock;
    // Watched since ever: there is a present, but no first moment to begin at.
    if (start == rules::kLongAgo) start = inputs.clock;
    clock_ = start;
    evaluate_at(clock_, inputs, out);
  } else if (late || held_ || !failure_.empty()) {
    // A late line, knowledge that came since, a failure that may be over: the present is looked at again.
    evaluate_at(clock_, inputs, out);
  }
  // Where the clock turns on its own, years may pass between two lines: what they hold is not listed at once.
  constexpr rules::Duration kMostAtOnce = std::chrono::hours(24);
  const bool turns =
      rules::next_clock_turn(*rule_->expr, clock_).has_value() ||
      (rule_->resolve_when && rules::next_clock_turn(*rule_->resolve_when->expr, clock_).has_value());
  while (clock_ < inputs.clock) {
    if (is_steady(inputs.clock, inputs)) return pass_to(inputs.clock, inputs, out);
    const bool far = turns && inputs.clock - clock_ > kMostAtOnce;
    advance_to(far ? clock_ + kMostAtOnce : inputs.clock, inputs, out);
  }
}

void RuleState::advance_to(Timestamp to, const RuleInputs& inputs, std::vector<Step>& out) {
  Instants instants;
  change_instants(*rule_->expr, clock_, to, window_of_, instants, Elements::kTold);
  if (rule_->resolve_when) change_instants(*rule_->resolve_when->expr, clock_, to, window_of_, instants);
  std::vector<Timestamp> known;
  known_instants(inputs, known);
  for (const Timestamp at : known) {
    if (at > clock_ && at <= to) instants.add(at);
  }
  advance_over(instants.in_order(), to, inputs, out);
}

void RuleState::known_instants(const RuleInputs& inputs, std::vector<Timestamp>& out) const {
  if (!inputs.watched_from || *inputs.watched_from == rules::kLongAgo) return;
  out.push_back(*inputs.watched_from + known_after_);
  if (rule_->resolve_when) out.push_back(*inputs.watched_from + resolve_known_after_);
}

void RuleState::advance_over(std::span<const Timestamp> instants, Timestamp to, const RuleInputs& inputs,
                             std::vector<Step>& out) {
  // Where something changes in a long time, it may not in one half of it.
  constexpr std::size_t kFewInstants = 8;
  if (instants.size() > kFewInstants) {
    if (is_steady(to, inputs)) return pass_to(to, inputs, out);
    const std::size_t half = instants.size() / 2;
    advance_over(instants.first(half), instants[half - 1], inputs, out);
    return advance_over(instants.subspan(half), to, inputs, out);
  }
  while (clock_ < to) {
    const auto changed = std::upper_bound(instants.begin(), instants.end(), clock_);
    std::optional<Timestamp> next;
    if (changed != instants.end()) next = *changed;
    const auto matures = alerts_.next_instant(clock_);
    if (matures && *matures <= to && (!next || *matures < *next)) next = matures;
    if (!next) break;
    clock_ = *next;
    evaluate_at(clock_, inputs, out);
  }
  clock_ = to;
}

bool RuleState::is_steady(Timestamp to, const RuleInputs& inputs) const {
  if (!failure_.empty()) return false;
  const auto& active = alerts_.all();
  if (active.empty()) return !may_be_true(*rule_->expr, clock_, to, window_of_);
  for (const Timestamp at : {clock_, to}) {
    const Certainty certain = certainty(at, inputs);
    if (!certain.may_fire || !certain.may_resolve) return false;
  }
  const auto is_held = [](const auto& entry) { return entry.second.absent_since.has_value(); };
  if (std::any_of(active.begin(), active.end(), is_held)) return false;
  return are_alerts_steady(to);
}

bool RuleState::are_alerts_steady(Timestamp to) const {
  const auto& active = alerts_.all();
  if (!rule_->resolve_when) {
    const auto elements = steady_elements(*rule_->expr, clock_, to, window_of_);
    return elements &&
           std::equal(active.begin(), active.end(), elements->begin(), elements->end(),
                      [](const auto& entry, const rules::Labels& labels) { return entry.first == labels; });
  }
  std::optional<std::set<rules::Labels>> elements;
  if (may_be_true(*rule_->expr, clock_, to, window_of_)) {
    elements = steady_elements(*rule_->expr, clock_, to, window_of_);
    if (!elements) return false;
  } else {
    elements.emplace();
  }
  const bool is_new = std::any_of(elements->begin(), elements->end(),
                                  [&](const rules::Labels& labels) { return active.count(labels) == 0; });
  if (is_new) return false;
  bool waits = false;  // one goes on because resolve_when does not hold
  for (const auto& [labels, alert] : active) {
    if (elements->count(labels) != 0) continue;
    if (alert.state != rules::AlertState::kFiring) return false;
    waits = true;
  }
  return !waits || !may_be_true(*rule_->resolve_when->expr, clock_, to, window_of_);
}

void RuleState::pass_to(Timestamp to, const RuleInputs& inputs, std::vector<Step>& out) {
  for (auto matures = alerts_.next_instant(clock_); matures && *matures <= to;
       matures = alerts_.next_instant(clock_)) {
    clock_ = *matures;
    evaluate_at(clock_, inputs, out);
  }
  clock_ = to;
  held_ = false;
  if (!alerts_.all().empty()) evaluate_at(clock_, inputs, out);  // their values are those of now
}

std::optional<Timestamp> RuleState::next_instant(const RuleInputs& inputs) const {
  if (clock_ == rules::kLongAgo) return std::nullopt;
  std::optional<Timestamp> next = next_change(*rule_->expr, clock_, window_of_, Elements::kTold);
  const auto consider = [&](std::optional<Timestamp> at) {
    if (at && *at > clock_ && (!next || *at < *next)) next = at;
  };
  consider(alerts_.next_instant(clock_));
  if (rule_->resolve_when && alerts_.is_one_firing())
    consider(next_change(*rule_->resolve_when->expr, clock_, window_of_));
  std::vector<Timestamp> known;
  known_instants(inputs, known);
  for (const Timestamp at : known)
    consider(at);
  return next;
}

}  // namespace logbell::engine

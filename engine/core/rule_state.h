// RuleState: one rule on its clock: evaluates it at every instant at which its value can have changed.
//
// Owned by the core thread. This is where windows, evaluator and alerts meet; what a source knows is an
// argument.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/core/alerts.h"
#include "engine/core/evaluator.h"
#include "rules/rule.h"

namespace logbell::engine {

// What is known of a rule's sources, taken together.
struct RuleInputs {
  rules::Timestamp clock = rules::kLongAgo;  // the smallest watermark of its readable sources
  std::optional<rules::Timestamp>
      watched_from;      // the latest of its sources'; unset: one is not watched at all
  bool readable = true;  // all of them are, and none is stalled
  bool sees = true;      // as many of them as it takes for what comes there to count: see Pipeline's inputs_of()
  std::optional<rules::Timestamp> resolve_up_to;  // with max_silence: the latest line; no resolve beyond it
};

class RuleState {
 public:
  // Both must outlive me.
  RuleState(const rules::AlertingRule& rule, WindowOf window_of);

  // Evaluates up to inputs.clock. `late`: a match at or before my clock came in since the last call, so that
  // the present must be looked at again (DESIGN.md §3: it can make a rule fire now, never in the past).
  void advance(const RuleInputs& inputs, bool late, std::vector<Step>& out);

  // The next instant at which something can change without a new line.
  std::optional<rules::Timestamp> next_instant(const RuleInputs& inputs) const;

  // Nothing can have changed up to `clock` (the caller knows next_instant()): the clock alone moves.
  void skip_to(rules::Timestamp clock) { clock_ = std::max(clock_, clock); }
  // A change waits for knowledge: advance() must be called whenever something may have become known.
  bool held() const { return held_; }

  // Whether there is something at `at`, which its windows still cover, that no alert of mine is about, and I may fire.
  bool would_fire(rules::Timestamp at, const RuleInputs& inputs) const;

  rules::Timestamp clock() const { return clock_; }
  // The windows are not known in full, or the last evaluation failed.
  bool unknown(const RuleInputs& inputs) const;
  // Evaluations refused because elements met many to many.
  std::uint64_t failures() const { return failures_; }
  // Why the last one was: neither does anything fire then nor resolve. Empty: it was not.
  const std::string& failure() const { return failure_; }

  const rules::AlertingRule& rule() const { return *rule_; }
  ActiveAlerts& alerts() { return alerts_; }
  const ActiveAlerts& alerts() const { return alerts_; }
  void restore_clock(rules::Timestamp clock) { clock_ = clock; }
  // The wall clock was set back, and time with it: `clock` is now what was mine so far.
  void rebase(rules::Timestamp clock) {
    alerts_.shift(clock_ - clock);
    clock_ = clock;
  }

 private:
  void evaluate_at(rules::Timestamp at, const RuleInputs& inputs, std::vector<Step>& out);
  // From here to `to`, of which nothing is known yet.
  void advance_to(rules::Timestamp to, const RuleInputs& inputs, std::vector<Step>& out);
  // Up to `to`, at these instants and those that the alerts' own times add.
  void advance_over(std::span<const rules::Timestamp> instants, rules::Timestamp to, const RuleInputs& inputs,
                    std::vector<Step>& out);
  // Whether nothing but the alerts' own times changes anything up to `to`.
  bool is_steady(rules::Timestamp to, const RuleInputs& inputs) const;
  void pass_to(rules::Timestamp to, const RuleInputs& inputs, std::vector<Step>& out);
  // Whether nothing but that changes the alerts, of which there are some, up to `to`.
  bool are_alerts_steady(rules::Timestamp to) const;
  Certainty certainty(rules::Timestamp at, const RuleInputs& inputs) const;
  // Which of the firing alerts that `result` does not have may end.
  Endings endings(rules::Timestamp at, const std::vector<Sample>& result, const RuleInputs& inputs);
  // The instants at which the windows become known in full.
  void known_instants(const RuleInputs& inputs, std::vector<rules::Timestamp>& out) const;

  const rules::AlertingRule* rule_;
  WindowOf window_of_;
  rules::Duration known_after_;  // so long after they began to be watched, its windows are known
  rules::Duration resolve_known_after_;  // and those of resolve_when
  bool newest_;                          // it compares the newest value of each series with a number
  ActiveAlerts alerts_;
  rules::Timestamp clock_ = rules::kLongAgo;
  bool held_ = false;  // a change could not be shown for want of knowledge: look again at every advance
  std::uint64_t failures_ = 0;
  std::string failure_;
};

}  // namespace logbell::engine

// ActiveAlerts: one rule's alerts: inactive > pending > firing > resolved.
//
// Owned by the core thread. Time is always passed in; transitions come out.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "engine/core/evaluator.h"
#include "rules/alert.h"
#include "rules/json.h"
#include "rules/plan.h"
#include "rules/rule.h"
#include "rules/time.h"

namespace logbell::engine {

// What may happen at an instant, given how much of the windows is known: DESIGN.md §3 "Unknown".
struct Certainty {
  bool may_fire = true;
  bool may_resolve = true;
  bool may_cancel = true;  // what is pending may end: else its `for` goes on, whatever is seen
};

// Which firing alerts may end that the result no longer has: `resolve_when:` at an instant.
struct Endings {
  bool all = true;                  // there is no `resolve_when:`
  bool known = true;                // false: all of them stay as they are
  std::vector<std::string> labels;  // that its elements can have
  std::set<rules::Labels> elements;

  bool has(const rules::Labels& element) const {
    return all || elements.count(element.keep_only(labels)) != 0;
  }
};

// One element of a rule's result on its way through the states.
struct ActiveAlert {
  rules::Labels labels;  // of the element; the alert's own are made when somebody looks
  rules::AlertState state = rules::AlertState::kPending;
  double value = 0;
  rules::Timestamp active_at;
  rules::Timestamp fired_at;
  std::optional<rules::Timestamp> absent_since;  // the condition has not held since: keep_firing_for runs

  friend bool operator==(const ActiveAlert&, const ActiveAlert&) = default;
};

// A step of one element; the pipeline makes a rules::Transition of it.
struct Step {
  rules::AlertState from = rules::AlertState::kInactive;
  rules::AlertState to = rules::AlertState::kInactive;
  rules::Timestamp at;
  ActiveAlert alert;

  friend bool operator==(const Step&, const Step&) = default;
};

class ActiveAlerts {
 public:
  ActiveAlerts(rules::Duration for_time, rules::Duration keep_firing_for)
      : for_(for_time), keep_firing_for_(keep_firing_for) {}

  // The rule's result at `at`; instants never decrease. Steps are appended in the order of labels.
  void step(rules::Timestamp at, const std::vector<Sample>& result, Certainty certainty, std::vector<Step>& out,
            const Endings& endings = {});
  // Whether one that fires has no element in `result`.
  bool is_one_without(const std::vector<Sample>& result) const;
  bool is_one_firing() const;
  // When a `for` or a keep_firing_for matures next, after `from`.
  std::optional<rules::Timestamp> next_instant(rules::Timestamp from) const;
  // Forgets what is only pending: nobody watched for too long to say that its condition held all the time.
  void drop_pending(rules::Timestamp at, std::vector<Step>& out);
  // Ends every alert: the rule is no more.
  void end_all(rules::Timestamp at, std::vector<Step>& out);

  // Time was set back by `by`: so is what was noted of it.
  void shift(rules::Duration by);

  const std::map<rules::Labels, ActiveAlert>& all() const { return active_; }
  // Puts back what was stored; replaces an element of the same labels.
  void restore(ActiveAlert alert);
  // Elements that changed or went since the last call: for storing.
  std::set<rules::Labels> take_changed();

 private:
  rules::Duration for_;
  rules::Duration keep_firing_for_;
  std::map<rules::Labels, ActiveAlert> active_;
  std::set<rules::Labels> changed_;
};

// What an element of `rule`'s result says of itself once it is an alert: its labels with the rule's and the
// configuration's, and the rule's annotations, redacted.
rules::Labels alert_labels(const rules::Plan& plan, const rules::AlertingRule& rule,
                           const rules::Labels& element, double value);
std::vector<std::pair<std::string, std::string>> alert_annotations(const rules::Plan& plan,
                                                                   const rules::AlertingRule& rule,
                                                                   const rules::Labels& labels,
                                                                   const rules::Labels& element, double value);

rules::Json to_json(const ActiveAlert& alert);
ActiveAlert active_alert_from_json(const rules::Json& json);

}  // namespace logbell::engine

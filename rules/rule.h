// AlertingRule: one alert, compiled. Immutable values; any thread.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "rules/expr.h"
#include "rules/labels.h"
#include "rules/problems.h"
#include "rules/template.h"
#include "rules/time.h"

namespace logbell::rules {

// `sinks: none` with its reason and date: a rule that deliberately notifies nobody.
struct DeliberatelySilent {
  std::string reason;
  Timestamp until;  // the end of that day, UTC
};

// `resolve_when:` a firing alert that `expr` has no element for ends only when this has one for it: one whose labels
// are those of `labels` that the alert's own element has.
struct ResolveWhen {
  ExprPtr expr;                     // bound
  std::string text;                 // canonical
  std::vector<std::string> labels;  // that its elements can have; each is one of expr's
  Polarity polarity;
};

struct AlertingRule {
  std::string group;  // "" for rules of the main file
  std::string name;   // alertname
  Place place;
  ExprPtr expr;           // bound
  std::string expr_text;  // canonical
  std::string location;   // the zone that its hours are of; "" = UTC
  Duration for_{0};
  Duration keep_firing_for{0};
  std::vector<std::pair<std::string, Template>> labels;       // without alertname; sorted by name
  std::vector<std::pair<std::string, Template>> annotations;  // sorted by name
  std::vector<std::string> sinks;  // its own: exactly who is told; empty = the route decides
  std::optional<DeliberatelySilent> silent;
  std::vector<std::uint32_t> sources;  // indices into Plan::sources that its patterns read
  Polarity polarity;
  std::optional<ResolveWhen> resolve_when;

  // Of alertname, expr with its location, resolve_when, and labels: alert state survives a reload by it.
  Fingerprint identity() const;
};

// Every kRangeCall of `expr` and `resolve_when`: whatever the rule must know of.
std::vector<const Expr*> range_calls(const AlertingRule& rule);
// The longest of their windows.
Duration longest_window(const AlertingRule& rule);
// So long after they began to be watched, all of them are known.
Duration known_after(const AlertingRule& rule);

}  // namespace logbell::rules

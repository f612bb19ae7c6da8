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

  // Of alertname, expr with its location, and labels: alert state survives a reload by it.
  Fingerprint identity() const;
};

}  // namespace logbell::rules

// PrometheusRules: a plan's rules as a rule file for Prometheus, over the metrics that logbell exports.
//
// Pure; any thread. What a fleet of logbells counts is summed there: one rule for all of them.
#pragma once

#include <string>
#include <vector>

#include "rules/matcher.h"
#include "rules/plan.h"
#include "rules/problems.h"
#include "rules/time.h"

namespace logbell::rules {

struct PrometheusRules {
  struct LeftOut {
    Place place;
    std::string alert;
    std::string reason;
    std::string fix;  // "" = none
  };

  std::string text;  // YAML that `promtool check rules` accepts; says at its end what is left out
  std::size_t alerts = 0;
  std::vector<LeftOut> left_out;  // rules that cannot be said there, in the plan's order
};

struct PrometheusOptions {
  std::string origin;        // the configuration's name, for the first lines
  Duration scrape_interval;  // how often logbell is scraped, and the rules are looked at; a window must hold
                             // two scrapes
  std::vector<LabelMatcher>
      selector;  // of the logbells that run this configuration; empty: all that are scraped
};

PrometheusRules prometheus_rules(const Plan& plan, const PrometheusOptions& options);

}  // namespace logbell::rules

// Reach: which sinks every rule reaches, on every way that its route can take. The static half of the proof
// (L0).
//
// Pure; any thread.
#pragma once

#include <string>
#include <vector>

#include "rules/plan.h"
#include "rules/route.h"

namespace logbell::rules {

// One way an alert can travel.
struct Way {
  std::vector<std::string> routes;       // ids of the nodes that take it; empty: the rule's own sinks
  std::vector<std::string> assumptions;  // about labels from logs: `queue="a" holds`
  std::vector<Assumption> assumed;       // the same, decided at the matchers of the plan's route
  std::vector<std::string> sinks;        // who hears of it, each once, in the order of routes
};

struct Reach {
  std::string alert;
  Place place;
  bool built_in = false;
  bool own_sinks = false;
  const DeliberatelySilent* silent = nullptr;
  std::vector<Way> ways;
  LabelSpace space;  // what the route knows of its alerts; empty without ways through one
};

// What is known of a rule's alerts before they exist. `patterns` are those its expression is bound to.
LabelSpace label_space(const AlertingRule& rule, const std::vector<PatternSpec>& patterns,
                       const Labels& external);
// Of one of logbell's own alerts: everything but its name and the external labels comes from what happens.
LabelSpace built_in_space(const std::string& name, const Labels& external);

// Points into `plan`, which must outlive it. Rules without a bound expression have no ways through the route.
std::vector<Reach> reach_of(const Plan& plan);

// The first way on which no person hears of its alerts, only a machine does (`audience: machine`); null:
// there is none. A way on which nobody hears at all is none.
const Way* machine_only_way(const Plan& plan, const Reach& reach);
// The rules that have such a way, by name, each once: nobody may think that somebody is told of them.
std::vector<std::string> rules_for_machines(const Plan& plan);

// The ways of `reach`, which is of `plan`, that are open to an alert which takes `other` with another plan,
// its labels being the same with both.
std::vector<Way> ways_beside(const Plan& plan, const Reach& reach, const Way& other);

// A node as people name it: `root route`, or its matchers from the root down: `severity="critical" >
// team="db"`.
std::string describe_route(const Route& root, const std::string& id);

}  // namespace logbell::rules

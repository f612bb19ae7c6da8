#include "rules/reach.h"

#include <algorithm>

#include <fmt/format.h>

#include "rules/rule_file.h"

namespace logbell::rules {
namespace {

void add_once(std::vector<std::string>& list, const std::string& word) {
  if (std::find(list.begin(), list.end(), word) == list.end()) list.push_back(word);
}

std::vector<Way> ways_through(const Plan& plan, const LabelSpace& space,
                              const std::vector<Assumption>& known = {}) {
  std::vector<Way> ways;
  for (const RoutePath& path : possible_paths(plan.route, space, known)) {
    Way way;
    way.assumptions = path.assumptions;
    way.assumed = path.assumed;
    for (const Route* node : path.nodes) {
      way.routes.push_back(node->id);
      for (const std::string& sink : node->options.sinks)
        add_once(way.sinks, sink);
    }
    ways.push_back(std::move(way));
  }
  return ways;
}

}  // namespace

LabelSpace label_space(const AlertingRule& rule, const std::vector<PatternSpec>& patterns,
                       const Labels& external) {
  LabelSpace space;
  space.fixed = fixed_labels(*rule.expr, patterns);
  for (const std::string& name : result_labels(*rule.expr, patterns)) {
    if (!space.fixed.has(name)) add_once(space.from_logs, name);
  }
  // The rule's own labels win over the element's.
  for (const auto& [name, value] : rule.labels) {
    std::erase(space.from_logs, name);
    space.fixed.erase(name);
    if (value.is_literal()) {
      space.fixed.set(name, value.render({}, {}, 0));
    } else {
      add_once(space.from_logs, name);
    }
  }
  std::erase(space.from_logs, "alertname");
  space.fixed.set("alertname", rule.name);
  for (const auto& [name, value] : external) {
    const bool from_logs =
        std::find(space.from_logs.begin(), space.from_logs.end(), name) != space.from_logs.end();
    if (!from_logs && !space.fixed.has(name)) space.fixed.set(name, value);
  }
  return space;
}

LabelSpace built_in_space(const std::string& name, const Labels& external) {
  LabelSpace space;
  space.fixed = external;
  space.fixed.set("alertname", name);
  for (const char* label : {"severity", "source", "sink", "pattern", "rule"}) {
    space.fixed.erase(label);
    space.from_logs.emplace_back(label);
  }
  return space;
}

std::vector<Reach> reach_of(const Plan& plan) {
  std::vector<Reach> out;
  for (const AlertingRule& rule : plan.rules) {
    Reach reach;
    reach.alert = rule.name;
    reach.place = rule.place;
    if (rule.silent) {
      reach.silent = &*rule.silent;
    } else if (!rule.sinks.empty()) {
      reach.own_sinks = true;
      reach.ways.push_back({{}, {}, {}, rule.sinks});
    } else if (plan.has_route && rule.expr) {
      reach.space = label_space(rule, plan.patterns, plan.external_labels);
      reach.ways = ways_through(plan, reach.space);
    }
    out.push_back(std::move(reach));
  }
  for (const std::string& name : built_in_alerts()) {
    Reach reach;
    reach.alert = name;
    reach.built_in = true;
    if (plan.has_route) {
      reach.space = built_in_space(name, plan.external_labels);
      reach.ways = ways_through(plan, reach.space);
    } else {
      Way way;
      for (const auto& [sink, spec] : plan.sinks) {
        if (spec.tells_people) way.sinks.push_back(sink);
      }
      // Better a file knows than nobody: engine/core/dispatcher.cc does the same.
      if (way.sinks.empty()) {
        for (const auto& [sink, spec] : plan.sinks)
          way.sinks.push_back(sink);
      }
      reach.ways.push_back(std::move(way));
    }
    out.push_back(std::move(reach));
  }
  return out;
}

const Way* machine_only_way(const Plan& plan, const Reach& reach) {
  const auto way = std::find_if(reach.ways.begin(), reach.ways.end(), [&](const Way& one) {
    bool machine = false;
    for (const std::string& name : one.sinks) {
      const auto sink = plan.sinks.find(name);
      if (sink == plan.sinks.end()) continue;
      if (sink->second.tells_people) return false;
      machine = machine || sink->second.machine_audience;
    }
    return machine;
  });
  return way == reach.ways.end() ? nullptr : &*way;
}

std::vector<std::string> rules_for_machines(const Plan& plan) {
  std::vector<std::string> names;
  for (const Reach& reach : reach_of(plan)) {
    if (!reach.built_in && reach.silent == nullptr && machine_only_way(plan, reach) != nullptr)
      add_once(names, reach.alert);
  }
  return names;
}

std::vector<Way> ways_beside(const Plan& plan, const Reach& reach, const Way& other) {
  const bool by_route = plan.has_route && !reach.own_sinks && !reach.ways.empty();
  return by_route ? ways_through(plan, reach.space, other.assumed) : reach.ways;
}

std::string describe_route(const Route& root, const std::string& id) {
  std::string out;
  const Route* at = &root;
  while (at->id != id) {
    const auto child = std::find_if(at->routes.begin(), at->routes.end(), [&](const Route& route) {
      return id == route.id || id.rfind(route.id + "/", 0) == 0;
    });
    if (child == at->routes.end()) return id;
    at = &*child;
    if (!out.empty()) out += " > ";
    if (at->matchers.empty()) out += fmt::format("everything (line {})", at->place.line);
    for (std::size_t i = 0; i < at->matchers.size(); ++i)
      out += (i > 0 ? "," : "") + at->matchers[i].format();
  }
  return out.empty() ? "root route" : out;
}

}  // namespace logbell::rules

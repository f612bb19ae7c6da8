#include "engine/run/compare.h"

#include <algorithm>
#include <map>
#include <set>

#include <fmt/format.h>

#include "rules/reach.h"
#include "rules/redact.h"
#include "rules/time.h"

namespace logbell::engine {
namespace {

using Section = Difference::Section;
using Facts = std::vector<std::pair<std::string, std::string>>;  // what of it, and how it is
using Named = std::map<std::string, Facts>;

// --- who is told

struct Told {
  std::set<std::string> always;  // "ops-slack (slack)"
  std::set<std::string> ever;
  std::map<std::string, std::string> when;  // of each, the first way on which it is
  std::set<std::string> ways;               // all of them, with who is told
  std::size_t fewest = 0;
  std::string nobody_when;  // the way on which that is none; "": on all, or no such way
  std::string silent;       // "nobody until …"
};

// Can anybody hear of it there? A file that is no machine's to read tells nobody.
bool tells(const Config& config, const std::string& name) {
  const auto spec = config.plan->sinks.find(name);
  return spec != config.plan->sinks.end() && config.sinks.count(name) != 0 &&
         (spec->second.tells_people || spec->second.machine_audience);
}

Told told_of(const Config& config, const rules::Reach& reach) {
  Told told;
  if (reach.silent != nullptr) {
    told.silent = fmt::format("nobody until {}: {}", rules::format_rfc3339(reach.silent->until).substr(0, 10),
                              rules::clean_text(reach.silent->reason, 100));
    return told;
  }
  bool first = true;
  for (const rules::Way& way : reach.ways) {
    std::set<std::string> here;
    for (const std::string& name : way.sinks) {
      if (!tells(config, name)) continue;
      here.insert(fmt::format("{} ({})", name, config.plan->sinks.at(name).type));
    }
    const std::string when = fmt::format("{}", fmt::join(way.assumptions, " and "));
    for (const std::string& sink : here)
      told.when.try_emplace(sink, when);
    told.ways.insert(fmt::format("{}: {}", when, fmt::join(here, ", ")));
    if (here.empty()) told.nobody_when = when;
    told.fewest = first ? here.size() : std::min(told.fewest, here.size());
    told.ever.insert(here.begin(), here.end());
    if (first) told.always = here;
    std::erase_if(told.always, [&](const std::string& sink) { return here.count(sink) == 0; });
    first = false;
  }
  return told;
}

std::string describe(const Told& told) {
  if (!told.silent.empty()) return told.silent;
  if (told.ever.empty()) return "nobody";
  std::vector<std::string> sometimes;
  std::set_difference(told.ever.begin(), told.ever.end(), told.always.begin(), told.always.end(),
                      std::back_inserter(sometimes));
  std::string out = fmt::format("{}", fmt::join(told.always, ", "));
  for (const std::string& sink : sometimes)
    out += fmt::format("{}{} when {}", out.empty() ? "" : ", ", sink, told.when.at(sink));
  if (told.fewest == 0) out += fmt::format(", nobody when {}", told.nobody_when);
  return out;
}

// Several of one name are told apart by their number.
template <class Value>
void put(std::map<std::string, Value>& into, const std::string& name, Value value) {
  std::string key = name;
  for (int i = 2; into.count(key) != 0; ++i)
    key = fmt::format("{}#{}", name, i);
  into.emplace(std::move(key), std::move(value));
}

std::map<std::string, Told> told_by_rule(const Config& config) {
  std::map<std::string, Told> out;
  for (const rules::Reach& reach : rules::reach_of(*config.plan)) {
    if (!reach.built_in) put(out, reach.alert, told_of(config, reach));
  }
  return out;
}

void compare_reach(const Config& a, const Config& b, std::vector<Difference>& out) {
  const std::map<std::string, Told> in_a = told_by_rule(a);
  const std::map<std::string, Told> in_b = told_by_rule(b);
  const auto add = [&](Section section, const std::string& rule, std::string from, std::string to) {
    out.push_back({section, fmt::format("rule \"{}\"", rule), "told", std::move(from), std::move(to)});
  };
  for (const auto& [rule, told] : in_a) {
    const auto other = in_b.find(rule);
    if (other == in_b.end()) {
      add(Section::kFewer, rule, describe(told), "no such rule");
      continue;
    }
    const std::string from = describe(told);
    const std::string to = describe(other->second);
    if (from == to && told.ways == other->second.ways) continue;
    const bool fewer = other->second.fewest < told.fewest || other->second.ever.size() < told.ever.size();
    const bool more =
        !other->second.ever.empty() && std::includes(other->second.always.begin(), other->second.always.end(),
                                                     told.ever.begin(), told.ever.end());
    add(fewer                ? Section::kFewer
        : more && from != to ? Section::kMore
                             : Section::kOtherwise,
        rule, from, from == to ? "the same, but on other ways through the route" : to);
  }
  for (const auto& [rule, told] : in_b) {
    if (in_a.count(rule) == 0) add(Section::kMore, rule, "no such rule", describe(told));
  }
}

// --- what is written

std::string texts(const std::vector<std::pair<std::string, rules::Template>>& templates) {
  std::vector<std::string> out;
  out.reserve(templates.size());
  for (const auto& [name, text] : templates)
    out.push_back(fmt::format("{}={}", name, rules::clean_text(text.text(), 200)));
  return fmt::format("{}", fmt::join(out, ", "));
}

Named rules_of(const Config& config) {
  Named out;
  for (const rules::AlertingRule& rule : config.plan->rules) {
    put(out, rule.name,
        Facts{{"expr", rule.expr_text},
              {"location", rule.location.empty() ? "UTC" : rule.location},
              {"for", rules::format_duration(rule.for_)},
              {"keep_firing_for", rules::format_duration(rule.keep_firing_for)},
              {"labels", texts(rule.labels)},
              {"annotations", texts(rule.annotations)},
              {"sinks", rule.silent ? "none" : fmt::format("{}", fmt::join(rule.sinks, ", "))}});
  }
  return out;
}

std::string regexes(const std::vector<rules::Regex>& list) {
  std::vector<std::string> out;
  out.reserve(list.size());
  for (const rules::Regex& regex : list)
    out.push_back(rules::clean_text(regex.pattern(), 200));
  return fmt::format("{}", fmt::join(out, " | "));
}

Named patterns_of(const Config& config) {
  Named out;
  for (const rules::PatternSpec& pattern : config.plan->patterns) {
    Facts facts{{"match", regexes(pattern.match)},
                {"exclude", regexes(pattern.exclude)},
                {"labels", fmt::format("{}", fmt::join(pattern.labels, ", "))},
                {"value", pattern.value},
                {"sources", fmt::format("{}", fmt::join(pattern.sources, ", "))},
                {"max_series", std::to_string(pattern.max_series)}};
    // What the words above do not show: `where:`.
    facts.emplace_back(
        "where", pattern.where.empty() ? "" : "conditions " + rules::format_fingerprint(pattern.identity()));
    put(out, pattern.name, std::move(facts));
  }
  return out;
}

void add_routes(const rules::Route& root, const rules::Route& route, Named& out) {
  const rules::RouteOptions& options = route.options;
  Facts facts{
      {"sinks", fmt::format("{}", fmt::join(options.sinks, ", "))},
      {"continue", route.continue_ ? "true" : "false"},
      {"group_by", options.group_by_all ? "..." : fmt::format("{}", fmt::join(options.group_by, ", "))},
      {"group_wait", rules::format_duration(options.group_wait)},
      {"group_interval", rules::format_duration(options.group_interval)},
      {"repeat_interval", rules::format_duration(options.repeat_interval)},
      {"mute_time_intervals", fmt::format("{}", fmt::join(options.mute_time_intervals, ", "))},
      {"active_time_intervals", fmt::format("{}", fmt::join(options.active_time_intervals, ", "))}};
  put(out, rules::describe_route(root, route.id), std::move(facts));
  for (const rules::Route& child : route.routes)
    add_routes(root, child, out);
}

Named routes_of(const Config& config) {
  Named out;
  if (config.plan->has_route) add_routes(config.plan->route, config.plan->route, out);
  return out;
}

Named sinks_of(const Config& config, bool with_destinations) {
  Named out;
  for (const auto& [name, spec] : config.plan->sinks) {
    const auto built = config.sinks.find(name);
    Facts facts{{"type", spec.type},
                {"usable", built != config.sinks.end() ? "yes" : "no: see `logbell check`"},
                {"fallback", fmt::format("{}", fmt::join(spec.fallback, ", "))},
                {"send_resolved", spec.send_resolved ? "true" : "false"},
                {"messages_per_minute", std::to_string(spec.messages_per_minute)}};
    if (with_destinations)
      facts.emplace_back("leads to", built == config.sinks.end() ? "" : built->second->destination());
    put(out, name, std::move(facts));
  }
  return out;
}

// --- how it is known that somebody is told

void compare_heartbeat(const Config& a, const Config& b, std::vector<Difference>& out) {
  const auto whom = [](const std::optional<HeartbeatSettings>& heartbeat) {
    return heartbeat ? fmt::format("{} each {}", heartbeat->shown, rules::format_duration(heartbeat->every))
                     : std::string("nobody");
  };
  const std::string from = whom(a.heartbeat);
  const std::string to = whom(b.heartbeat);
  if (from == to) return;
  const Section section = !b.heartbeat ? Section::kFewer : !a.heartbeat ? Section::kMore : Section::kProof;
  out.push_back({section, "the heartbeat", "told", from, to});
}

Named drills_of(const Config& config) {
  const DrillSettings& drills = config.drills;
  Named out;
  out["drills"] = {{"by themselves", drills.scheduled ? "yes" : "no"},
                   {"every", drills.scheduled ? rules::format_duration(drills.every) : ""},
                   {"pages_every", drills.scheduled ? rules::format_duration(drills.pages_every) : ""},
                   {"hours", drills.hours},
                   {"never", fmt::format("{}", fmt::join(drills.never, ", "))}};
  return out;
}

Named listened_for(const Config& config) {
  Named out;
  for (const auto& [name, one] : config.listened_for)
    out[name] = {{"every", rules::format_duration(one.every)},
                 {"grace", rules::format_duration(one.grace)},
                 {"token", one.token.empty() ? "no" : "yes"}};
  return out;
}

void compare_named(Section section, std::string_view kind, const Named& a, const Named& b,
                   std::vector<Difference>& out) {
  std::set<std::string> names;
  for (const auto& [name, facts] : a)
    names.insert(name);
  for (const auto& [name, facts] : b)
    names.insert(name);
  for (const std::string& name : names) {
    const std::string subject = kind.empty() ? name : fmt::format("{} \"{}\"", kind, name);
    const auto in_a = a.find(name);
    const auto in_b = b.find(name);
    if (in_a == a.end() || in_b == b.end()) {
      out.push_back({section, subject, "", in_a == a.end() ? "" : "there", in_b == b.end() ? "" : "there"});
      continue;
    }
    for (std::size_t i = 0; i < in_a->second.size(); ++i) {
      const auto& [what, from] = in_a->second[i];
      const std::string& to = in_b->second[i].second;
      if (from != to) out.push_back({section, subject, what, from, to});
    }
  }
}

std::string hash_of(const std::vector<Named>& all) {
  std::string text;
  const auto add = [&](std::string_view part) { text.append(part).append(1, '\0'); };
  for (const Named& named : all) {
    for (const auto& [name, facts] : named) {
      add(name);
      for (const auto& [what, how] : facts) {
        add(what);
        add(how);
      }
    }
    add("");
  }
  return rules::format_fingerprint(rules::hash_bytes(text));
}

}  // namespace

std::string_view to_string(Section section) {
  switch (section) {
    case Section::kFewer:
      return "fewer";
    case Section::kOtherwise:
      return "otherwise";
    case Section::kMore:
      return "more";
    case Section::kRules:
      return "rules";
    case Section::kPatterns:
      return "patterns";
    case Section::kRoutes:
      return "routes";
    case Section::kSinks:
      return "sinks";
    case Section::kProof:
      return "proof";
  }
  return "";
}

std::vector<Difference> compare(const Config& a, const Config& b) {
  std::vector<Difference> out;
  compare_reach(a, b, out);
  compare_named(Section::kRules, "rule", rules_of(a), rules_of(b), out);
  compare_named(Section::kPatterns, "pattern", patterns_of(a), patterns_of(b), out);
  compare_named(Section::kRoutes, "", routes_of(a), routes_of(b), out);
  compare_named(Section::kSinks, "sink", sinks_of(a, true), sinks_of(b, true), out);
  compare_heartbeat(a, b, out);
  compare_named(Section::kProof, "", drills_of(a), drills_of(b), out);
  compare_named(Section::kProof, "the heartbeat of", listened_for(a), listened_for(b), out);
  std::stable_sort(out.begin(), out.end(),
                   [](const Difference& x, const Difference& y) { return x.section < y.section; });
  return out;
}

ConfigFingerprint fingerprint(const Config& config) {
  return {hash_of({rules_of(config), patterns_of(config)}), hash_of({routes_of(config)}),
          hash_of({sinks_of(config, false)})};
}

}  // namespace logbell::engine

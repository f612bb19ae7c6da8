#include "engine/run/compare.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <tuple>

#include <fmt/format.h>

#include "rules/fields.h"
#include "rules/reach.h"
#include "rules/redact.h"
#include "rules/time.h"
#include "rules/time_interval.h"

namespace logbell::engine {
namespace {

using Section = Difference::Section;
using Facts = std::vector<std::pair<std::string, std::string>>;  // what of it, and how it is
using Named = std::map<std::string, Facts>;

// --- who is told

// More pairs of ways than this, of one rule: they are not compared, and that is said.
constexpr std::size_t kMostPairs = 100'000;

// What the clock does to the routes of both.
class Clockwork {
 public:
  // Moments that differ by which nodes are muted, each once: without time intervals one.
  struct Moment {
    rules::Timestamp at;
    std::set<const rules::Route*> muted;
  };

  Clockwork(const Config& a, const Config& b, rules::Timestamp now) {
    for (const Config* config : {&a, &b}) {
      const rules::Plan& plan = *config->plan;
      if (plan.has_route) collect(plan, plan.route);
    }
    if (nodes_.empty()) {
      moments_.push_back({now, {}});
      return;
    }
    std::set<std::set<const rules::Route*>> known;
    for (const rules::Timestamp at : rules::edges_of(intervals_, now)) {
      std::set<const rules::Route*> muted;
      for (const auto& [node, plan] : nodes_) {
        if (rules::is_muted(node->options, plan->time_intervals, at)) muted.insert(node);
      }
      if (known.insert(muted).second) moments_.push_back({at, muted});
    }
  }

  const std::vector<Moment>& moments() const { return moments_; }

 private:
  void collect(const rules::Plan& plan, const rules::Route& node) {
    for (const auto* names : {&node.options.mute_time_intervals, &node.options.active_time_intervals}) {
      for (const std::string& name : *names) {
        const auto found = plan.time_intervals.find(name);
        if (found == plan.time_intervals.end()) continue;
        intervals_.push_back(&found->second);
        nodes_[&node] = &plan;
      }
    }
    for (const rules::Route& child : node.routes)
      collect(plan, child);
  }

  std::vector<const rules::TimeInterval*> intervals_;
  std::map<const rules::Route*, const rules::Plan*> nodes_;  // that have any
  std::vector<Moment> moments_;
};

// Who hears of an alert on one way at one moment. A file that is no machine's to read tells nobody.
struct Hearing {
  std::set<std::string> people;    // "ops-slack (slack)"
  std::set<std::string> machines;  // "record (file, read by a machine)"
  // People who hear only once one of those has failed.
  std::map<std::string, std::set<std::string>> heirs;

  bool tells(const std::string& sink) const { return people.count(sink) + machines.count(sink) != 0; }
  const std::set<std::string>& heirs_of(const std::string& sink) const {
    static const std::set<std::string> kNone;
    const auto found = heirs.find(sink);
    return found == heirs.end() ? kNone : found->second;
  }
  // All people who can hear.
  std::set<std::string> ever() const {
    std::set<std::string> all = people;
    for (const auto& [sink, theirs] : heirs)
      all.insert(theirs.begin(), theirs.end());
    return all;
  }
};

Hearing hearing_of(const Config& config, const std::vector<std::string>& sinks) {
  const auto find = [&](const std::string& name) {
    const auto spec = config.plan->sinks.find(name);
    return spec == config.plan->sinks.end() || config.sinks.count(name) == 0 ? nullptr : &spec->second;
  };
  const auto label = [](const rules::SinkSpec& spec) {
    return fmt::format("{} ({}{})", spec.name, spec.type, spec.tells_people ? "" : ", read by a machine");
  };
  Hearing hearing;
  for (const std::string& name : sinks) {
    const rules::SinkSpec* spec = find(name);
    if (spec == nullptr || !(spec->tells_people || spec->machine_audience)) continue;
    (spec->tells_people ? hearing.people : hearing.machines).insert(label(*spec));
    for (const std::string& fallback : spec->fallback) {
      const rules::SinkSpec* heir = find(fallback);
      if (heir != nullptr && heir->tells_people) hearing.heirs[label(*spec)].insert(label(*heir));
    }
  }
  for (auto& [sink, heirs] : hearing.heirs)
    std::erase_if(heirs, [&](const std::string& heir) { return hearing.people.count(heir) != 0; });
  std::erase_if(hearing.heirs, [](const auto& one) { return one.second.empty(); });
  return hearing;
}

// Of the nodes that take it, those that are not muted.
Hearing hearing_on(const Config& config, const rules::Way& way, const std::set<const rules::Route*>& muted) {
  if (way.routes.empty() || muted.empty()) return hearing_of(config, way.sinks);
  std::vector<std::string> sinks;
  for (const std::string& id : way.routes) {
    const rules::Route* node = rules::find_route(config.plan->route, id);
    if (muted.count(node) == 0)
      sinks.insert(sinks.end(), node->options.sinks.begin(), node->options.sinks.end());
  }
  return hearing_of(config, sinks);
}

bool hears_fewer(const Hearing& a, const Hearing& b) {
  if (b.people.size() < a.people.size() || b.ever().size() < a.ever().size()) return true;
  if (b.people.size() == a.people.size() && b.machines.size() < a.machines.size()) return true;
  // A sink that is told with both, and has fewer to take its place.
  return std::any_of(a.heirs.begin(), a.heirs.end(), [&](const auto& one) {
    const auto& [sink, heirs] = one;
    const auto told_anyway = std::count_if(
        heirs.begin(), heirs.end(), [&](const std::string& heir) { return b.people.count(heir) != 0; });
    return b.tells(sink) && b.heirs_of(sink).size() + static_cast<std::size_t>(told_anyway) < heirs.size();
  });
}

// Whether whoever hears with `b`, or in somebody's place, does so with `a`.
bool covers(const Hearing& a, const Hearing& b) {
  return std::includes(a.people.begin(), a.people.end(), b.people.begin(), b.people.end()) &&
         std::includes(a.machines.begin(), a.machines.end(), b.machines.begin(), b.machines.end()) &&
         std::all_of(b.heirs.begin(), b.heirs.end(), [&](const auto& one) {
           return std::all_of(one.second.begin(), one.second.end(), [&](const std::string& heir) {
             return a.people.count(heir) + a.heirs_of(one.first).count(heir) != 0;
           });
         });
}

// "a (webhook, else b)"
std::string show(const std::string& sink, const std::set<std::string>& heirs) {
  if (heirs.empty()) return sink;
  std::vector<std::string> names;
  names.reserve(heirs.size());
  for (const std::string& heir : heirs)
    names.push_back(heir.substr(0, heir.find(' ')));
  return fmt::format("{}, else {})", sink.substr(0, sink.size() - 1), fmt::join(names, ", "));
}
std::string show(const Hearing& hearing) {
  if (hearing.people.empty() && hearing.machines.empty()) return "nobody";
  std::vector<std::string> all;
  for (const auto* sinks : {&hearing.people, &hearing.machines}) {
    for (const std::string& sink : *sinks)
      all.push_back(show(sink, hearing.heirs_of(sink)));
  }
  return fmt::format("{}{}", hearing.people.empty() ? "no person, only " : "", fmt::join(all, ", "));
}

std::string when(const rules::Way& way) {
  return fmt::format("{}", fmt::join(way.assumptions, " and "));
}

// Who is told of one rule, for people: time intervals left out.
std::string describe(const Config& config, const rules::Reach& reach) {
  if (reach.silent != nullptr) {
    const rules::Timestamp last = reach.silent->until - std::chrono::hours(24);  // `until:` is its day
    return fmt::format("nobody until {}: {}", rules::format_rfc3339(last).substr(0, 10),
                       rules::clean_text(reach.silent->reason, 100));
  }
  std::map<std::string, std::string> first;  // of each sink, the first way on which it is told
  std::map<std::string, std::size_t> ways;   // and how many there are
  std::optional<std::string> nobody;         // the first way on which that is so
  std::optional<std::string> no_person;
  bool people = false;
  for (const rules::Way& way : reach.ways) {
    const Hearing hearing = hearing_of(config, way.sinks);
    for (const auto* sinks : {&hearing.people, &hearing.machines}) {
      for (const std::string& sink : *sinks) {
        const std::string shown = show(sink, hearing.heirs_of(sink));
        first.try_emplace(shown, when(way));
        ++ways[shown];
      }
    }
    people = people || !hearing.people.empty();
    if (hearing.people.empty() && !hearing.machines.empty() && !no_person) no_person = when(way);
    if (hearing.people.empty() && hearing.machines.empty() && !nobody) nobody = when(way);
  }
  if (first.empty()) return "nobody";
  std::vector<std::string> always;
  std::vector<std::string> sometimes;
  for (const auto& [sink, where] : first) {
    if (ways.at(sink) == reach.ways.size()) {
      always.push_back(sink);
    } else {
      sometimes.push_back(fmt::format("{} when {}", sink, where));
    }
  }
  always.insert(always.end(), sometimes.begin(), sometimes.end());
  std::string out = fmt::format("{}{}", people ? "" : "no person, only ", fmt::join(always, ", "));
  if (people && no_person) out += ", no person when " + *no_person;
  if (nobody) out += ", nobody when " + *nobody;
  return out;
}

// What became of the alerts of one rule.
struct Change {
  std::optional<Section> section;  // unset: nothing
  std::string to;                  // for people
};

Change change_of(const Config& a, const rules::Reach& in_a, const Config& b, const rules::Reach& in_b,
                 const Clockwork& clock) {
  const std::string from = describe(a, in_a);
  std::string to = describe(b, in_b);
  if (in_a.silent != nullptr && in_b.silent != nullptr) {
    if (from == to) return {};
    return {Section::kOtherwise, std::move(to)};
  }
  static const std::vector<rules::Way> kNowhere(1);
  const std::vector<rules::Way>& ways = in_a.ways.empty() ? kNowhere : in_a.ways;
  bool lost = false;
  bool gained = false;
  bool fewer = false;
  std::string where;  // the first way and moment on which that is so
  bool by_the_clock = false;
  std::size_t pairs = 0;
  for (const rules::Way& way : ways) {
    std::vector<rules::Way> others = rules::ways_beside(*b.plan, in_b, way);
    if (others.empty()) others = kNowhere;
    pairs += others.size();
    if (pairs > kMostPairs) return {Section::kFewer, to + ", on more ways than can be compared"};
    for (const rules::Way& other : others) {
      std::size_t here = 0;
      std::string example;
      for (const Clockwork::Moment& moment : clock.moments()) {
        const Hearing before = hearing_on(a, way, moment.muted);
        const Hearing after = hearing_on(b, other, moment.muted);
        lost = lost || !covers(after, before);
        gained = gained || !covers(before, after);
        if (!hears_fewer(before, after)) continue;
        if (here++ > 0) continue;
        example = show(after);
        if (!other.assumptions.empty()) example += " when " + when(other);
        example += fmt::format(" at {}", rules::format_rfc3339(moment.at));
      }
      if (here == 0) continue;
      const bool always = here == clock.moments().size();
      if (always) example.erase(example.rfind(" at "));
      if (!fewer || (by_the_clock && always)) {
        where = example;
        by_the_clock = !always;
      }
      fewer = true;
    }
  }
  if (!lost && !gained) return {};
  if (to == from) {
    to = "the same, but ";
    to += fewer ? where : "on other ways, or at other times";
  } else if (by_the_clock) {
    to += ", but " + where;
  }
  return {fewer ? Section::kFewer : lost ? Section::kOtherwise : Section::kMore, std::move(to)};
}

// Several of one name are told apart by their number.
template <class Value>
void put(std::map<std::string, Value>& into, const std::string& name, Value value) {
  std::string key = name;
  for (int i = 2; into.count(key) != 0; ++i)
    key = fmt::format("{}#{}", name, i);
  into.emplace(std::move(key), std::move(value));
}

using Reaches = std::map<std::string, const rules::Reach*>;
Reaches by_name(const std::vector<rules::Reach>& all, bool built_in) {
  Reaches out;
  for (const rules::Reach& reach : all) {
    if (reach.built_in == built_in) put(out, reach.alert, &reach);
  }
  return out;
}

void compare_reach(const Config& a, const Config& b, rules::Timestamp now, std::vector<Difference>& out) {
  const std::vector<rules::Reach> all_a = rules::reach_of(*a.plan);
  const std::vector<rules::Reach> all_b = rules::reach_of(*b.plan);
  const Clockwork clock(a, b, now);
  const Reaches in_a = by_name(all_a, false);
  const Reaches in_b = by_name(all_b, false);
  const auto add = [&](Section section, const std::string& rule, std::string from, std::string to) {
    out.push_back({section, fmt::format("rule \"{}\"", rule), "told", std::move(from), std::move(to)});
  };
  for (const auto& [rule, reach] : in_a) {
    const auto other = in_b.find(rule);
    if (other == in_b.end()) {
      add(Section::kFewer, rule, describe(a, *reach), "no such rule");
      continue;
    }
    Change change = change_of(a, *reach, b, *other->second, clock);
    if (change.section) add(*change.section, rule, describe(a, *reach), std::move(change.to));
  }
  for (const auto& [rule, reach] : in_b) {
    if (in_a.count(rule) == 0) add(Section::kMore, rule, "no such rule", describe(b, *reach));
  }

  // Logbell's own, which mostly change in the same way: one line then says it.
  const Reaches own_in_b = by_name(all_b, true);
  std::map<std::tuple<Section, std::string, std::string>, std::vector<std::string>> own;
  for (const auto& [name, reach] : by_name(all_a, true)) {
    Change change = change_of(a, *reach, b, *own_in_b.at(name), clock);
    if (change.section) own[{*change.section, describe(a, *reach), std::move(change.to)}].push_back(name);
  }
  for (const auto& [change, names] : own) {
    const auto& [section, from, to] = change;
    const bool all = names.size() == own_in_b.size();
    out.push_back(
        {section, "logbell's own " + (all ? "alerts" : rules::list_words(names, 20)), "told", from, to});
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
              {"resolve_when", rule.resolve_when ? rule.resolve_when->text : "when expr does not hold"},
              {"labels", texts(rule.labels)},
              {"annotations", texts(rule.annotations)},
              {"sinks", rule.silent          ? "none"
                        : rule.sinks.empty() ? "by the route"
                                             : fmt::format("{}", fmt::join(rule.sinks, ", "))}});
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
    if (pattern.metric && pattern.metric->ttl)
      facts.emplace_back("ttl", rules::format_duration(*pattern.metric->ttl));
    // What the words above do not show: `where:`.
    facts.emplace_back(
        "where", pattern.where.empty() ? "" : "conditions " + rules::format_fingerprint(pattern.identity()));
    put(out, pattern.name, std::move(facts));
  }
  return out;
}

// "nights (22:00-24:00, or 00:00-06:00)"
std::string intervals(const rules::Plan& plan, const std::vector<std::string>& names) {
  std::vector<std::string> out;
  for (const std::string& name : names) {
    const auto found = plan.time_intervals.find(name);
    out.push_back(found == plan.time_intervals.end()
                      ? name
                      : fmt::format("{} ({})", name, rules::format_interval(found->second)));
  }
  return fmt::format("{}", fmt::join(out, ", "));
}

void add_routes(const rules::Plan& plan, const rules::Route& route, Named& out) {
  const rules::RouteOptions& options = route.options;
  Facts facts{
      {"sinks", fmt::format("{}", fmt::join(options.sinks, ", "))},
      {"continue", route.continue_ ? "true" : "false"},
      {"group_by", options.group_by_all ? "..." : fmt::format("{}", fmt::join(options.group_by, ", "))},
      {"group_wait", rules::format_duration(options.group_wait)},
      {"group_interval", rules::format_duration(options.group_interval)},
      {"repeat_interval", rules::format_duration(options.repeat_interval)},
      {"mute_time_intervals", intervals(plan, options.mute_time_intervals)},
      {"active_time_intervals", intervals(plan, options.active_time_intervals)}};
  put(out, rules::describe_route(plan.route, route.id), std::move(facts));
  for (const rules::Route& child : route.routes)
    add_routes(plan, child, out);
}

Named routes_of(const Config& config) {
  Named out;
  if (config.plan->has_route) add_routes(*config.plan, config.plan->route, out);
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
                {"messages_per_minute", std::to_string(spec.messages_per_minute)},
                {"audience", spec.machine_audience ? "machine" : ""}};
    if (with_destinations)
      facts.emplace_back("leads to", built == config.sinks.end() ? "" : built->second->destination());
    put(out, name, std::move(facts));
  }
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

// Which secrets there are, by key. Where one is gone and no other has come, what it opened stays closed.
void compare_secrets(const std::string& subject, const std::vector<std::string>& a,
                     const std::vector<std::string>& b, Section section, std::vector<Difference>& out) {
  if (a == b) return;
  if (b.size() < a.size()) section = Section::kFewer;
  out.push_back({section, subject, "secrets", fmt::format("{}", fmt::join(a, ", ")),
                 fmt::format("{}", fmt::join(b, ", "))});
}

void compare_sinks(const Config& a, const Config& b, std::vector<Difference>& out) {
  compare_named(Section::kSinks, "sink", sinks_of(a, true), sinks_of(b, true), out);
  for (const auto& [name, spec] : a.plan->sinks) {
    const auto other = b.plan->sinks.find(name);
    // What cannot be used has been said.
    if (other == b.plan->sinks.end() || a.sinks.count(name) == 0 || b.sinks.count(name) == 0) continue;
    compare_secrets(fmt::format("sink \"{}\"", name), spec.secrets, other->second.secrets, Section::kSinks,
                    out);
  }
}

// --- what is watched

struct Watched {
  std::string lines;             // where they come from, for people
  std::string max_silence;       // ""
  std::string uncovered_errors;  // ""
};

std::map<std::string, Watched> sources_of(const Config& config) {
  std::map<std::string, Watched> out;
  for (const rules::SourceSpec& source : config.plan->sources) {
    Watched& one = out[source.name];
    one.lines = rules::describe_inputs(source);
    if (source.max_silence) one.max_silence = rules::format_duration(*source.max_silence);
    if (!source.uncovered_errors) continue;
    const rules::UncoveredErrors& errors = *source.uncovered_errors;
    one.uncovered_errors =
        fmt::format("{} within {}", errors.at_least, rules::format_duration(errors.within));
    if (!errors.exclude.empty()) one.uncovered_errors += " but for " + regexes(errors.exclude);
  }
  return out;
}

void compare_sources(const Config& a, const Config& b, std::vector<Difference>& out) {
  const std::map<std::string, Watched> in_a = sources_of(a);
  const std::map<std::string, Watched> in_b = sources_of(b);
  const auto subject = [](const std::string& name) { return fmt::format("source \"{}\"", name); };
  // An alert that is never raised there is told to nobody.
  const auto alert = [&](const std::string& name, const char* what, const std::string& from,
                         const std::string& to) {
    if (from == to) return;
    const Section section = to.empty() ? Section::kFewer : from.empty() ? Section::kMore : Section::kSources;
    out.push_back({section, subject(name), what, from, to});
  };
  for (const auto& [name, source] : in_a) {
    const auto other = in_b.find(name);
    if (other == in_b.end()) {
      // Another one may be the same by another name.
      const Section section = in_b.size() < in_a.size() ? Section::kFewer : Section::kSources;
      out.push_back({section, subject(name), "", "there", ""});
      continue;
    }
    if (source.lines != other->second.lines)
      out.push_back({Section::kSources, subject(name), "lines from", source.lines, other->second.lines});
    alert(name, "max_silence", source.max_silence, other->second.max_silence);
    alert(name, "uncovered_errors", source.uncovered_errors, other->second.uncovered_errors);
  }
  for (const auto& [name, source] : in_b) {
    if (in_a.count(name) == 0) out.push_back({Section::kSources, subject(name), "", "", "there"});
  }
}

// --- how it is known that somebody is told

void compare_heartbeat(const Config& a, const Config& b, std::vector<Difference>& out) {
  const auto whom = [](const std::optional<HeartbeatSettings>& heartbeat) {
    return heartbeat ? fmt::format("{} each {}", heartbeat->shown, rules::format_duration(heartbeat->every))
                     : std::string("nobody");
  };
  if (a.heartbeat && b.heartbeat)
    compare_secrets("the heartbeat", a.heartbeat->secret_keys, b.heartbeat->secret_keys, Section::kProof,
                    out);
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
                   {"hours", drills.hours.empty() ? "" : intervals(*config.plan, {drills.hours})},
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
    case Section::kSources:
      return "sources";
    case Section::kRoutes:
      return "routes";
    case Section::kSinks:
      return "sinks";
    case Section::kProof:
      return "proof";
  }
  return "";
}

std::vector<Difference> compare(const Config& a, const Config& b, rules::Timestamp now) {
  std::vector<Difference> out;
  compare_reach(a, b, now, out);
  compare_named(Section::kRules, "rule", rules_of(a), rules_of(b), out);
  compare_named(Section::kPatterns, "pattern", patterns_of(a), patterns_of(b), out);
  compare_sources(a, b, out);
  compare_named(Section::kRoutes, "", routes_of(a), routes_of(b), out);
  compare_sinks(a, b, out);
  compare_heartbeat(a, b, out);
  compare_named(Section::kProof, "", drills_of(a), drills_of(b), out);
  compare_named(Section::kProof, "the heartbeat of", listened_for(a), listened_for(b), out);
  std::stable_sort(out.begin(), out.end(),
                   [](const Difference& x, const Difference& y) { return x.section < y.section; });
  return out;
}

ConfigFingerprint fingerprint(const Config& config) {
  Named secrets;
  for (const auto& [name, spec] : config.plan->sinks) {
    if (config.sinks.count(name) != 0)
      secrets[name] = {{"secrets", fmt::format("{}", fmt::join(spec.secrets, ", "))}};
  }
  Named heartbeat;
  if (config.heartbeat) {
    heartbeat["heartbeat"] = {{"style", std::string(to_string(config.heartbeat->style))},
                              {"every", rules::format_duration(config.heartbeat->every)},
                              {"secrets", fmt::format("{}", fmt::join(config.heartbeat->secret_keys, ", "))}};
  }
  return {hash_of({rules_of(config), patterns_of(config)}), hash_of({routes_of(config)}),
          hash_of({sinks_of(config, false), secrets, heartbeat})};
}

}  // namespace logbell::engine

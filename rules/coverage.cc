#include "rules/coverage.h"

#include <algorithm>
#include <functional>
#include <set>

#include <fmt/format.h>

#include "rules/fields.h"
#include "rules/reach.h"
#include "rules/rule_file.h"
#include "rules/text.h"

namespace logbell::rules {
namespace {

// Pairs of routes and rules up to which a `continue` and a route are looked at one by one: a warning is not
// worth a slow start.
constexpr std::size_t kMaxRoutePairs = 20'000;

constexpr const char* kTellPeople = "add a sink that tells people, if somebody is to know";
constexpr const char* kGiveSinks = "give that route `sinks:`, or the rule its own";

class Check {
 public:
  Check(const Plan& plan, const Written& written, Problems& problems, Coverage& out)
      : plan_(plan), written_(written), problems_(problems), out_(out) {}

  // Whether the sink, if it is there, tells somebody.
  bool counts(const std::string& sink) const {
    const auto spec = plan_.sinks.find(sink);
    return spec != plan_.sinks.end() && (spec->second.tells_people || spec->second.machine_audience);
  }

  // For people: `when queue="a" holds and team="b" does not`.
  static std::string when(const Way& way) {
    return way.assumptions.empty() ? "" : fmt::format(" when {}", fmt::join(way.assumptions, " and "));
  }

  const Route* route_of(const std::string& id) const { return find_route(plan_.route, id); }

  // Why nobody hears of an alert on this way; "" when somebody does, or when the reason is said elsewhere.
  std::string uncovered(const Way& way, std::string& fix) {
    if (way.routes.empty() && !way.assumptions.empty()) {
      fix = "make the route simpler, or give the rule its own `sinks:`";
      return way.assumptions.front();
    }
    std::vector<std::string> sinks = way.sinks;
    std::vector<std::string> muted;
    if (!way.routes.empty()) {
      sinks.clear();
      for (const std::string& id : way.routes) {
        const Route* node = route_of(id);
        if (always_muted(*node)) {
          muted.push_back(id);
          continue;
        }
        for (const std::string& sink : node->options.sinks) {
          if (!contains(sinks, sink)) sinks.push_back(sink);
        }
      }
    }
    if (std::any_of(sinks.begin(), sinks.end(), [&](const std::string& sink) { return counts(sink); }))
      return "";
    if (sinks.empty() && !muted.empty()) {
      fix = "change the time intervals";
      return fmt::format("it reaches nobody{}: {} is muted at every hour of the coming year", when(way),
                         describe(muted));
    }
    if (sinks.empty()) {
      fix = kGiveSinks;
      return fmt::format("it reaches no sink{}: {} has none", when(way), describe(way.routes));
    }
    // What is not defined is said where it is named, with the rules that lose it.
    std::vector<std::string> defined;
    for (const std::string& sink : sinks) {
      if (plan_.sinks.count(sink) != 0) defined.push_back(sink);
    }
    if (defined.empty()) return "";
    fix = "add a sink that tells somebody; if a machine reads that one, say `audience: machine`";
    return fmt::format("it reaches only {}{}: files and consoles tell nobody", list_words(defined),
                       when(way));
  }

  std::string describe(const std::vector<std::string>& routes) const {
    std::vector<std::string> words;
    for (const std::string& id : routes) {
      const Route* node = route_of(id);
      words.push_back(id == "route" ? fmt::format("the root route (line {})", node->place.line)
                                    : fmt::format("the route at line {}", node->place.line));
    }
    return list_words(words);
  }

  bool always_muted(const Route& node) {
    const auto [known, fresh] = muted_.emplace(node.id, false);
    if (fresh) known->second = is_always_muted(node.options, plan_.time_intervals, written_.now);
    return known->second;
  }

  void run() {
    const std::vector<Reach> reach = reach_of(plan_);
    for (std::size_t i = 0; i < reach.size(); ++i) {
      const Reach& one = reach[i];
      if (one.built_in) continue;
      if (one.silent != nullptr) {
        ++out_.rules_without_sink;
        if (!plan_.has_route)
          problems_.error(one.place, fmt::format("rule \"{}\"", one.alert),
                          fmt::format("when its `sinks: none` ends, on {}, no sink hears of it: there is no `route:`",
                                      format_rfc3339(one.silent->until).substr(0, 10)),
                          "write a `route:` with `sinks:`, by which it goes from then on");
        continue;
      }
      note_users(one);
      const std::string subject = fmt::format("rule \"{}\"", one.alert);
      if (written_.wrote_sinks[i] && !one.own_sinks)
        continue;  // what it wrote was refused: that is said there
      if (one.ways.empty()) {
        if (!plan_.has_route) {
          problems_.error(one.place, subject,
                          "it reaches no sink: it has no `sinks:` of its own, and there is no `route:`",
                          written_.sink_names.empty()
                              ? "define a sink under `sinks:`, and name it: `sinks: [NAME]`"
                              : fmt::format("write `sinks: [{}]`, or a `route:` with `sinks:`",
                                            written_.sink_names.front()));
        }
        continue;
      }
      std::string first;
      std::string first_fix;
      std::size_t others = 0;
      for (const Way& way : one.ways) {
        std::string fix;
        const std::string why = uncovered(way, fix);
        if (why.empty()) continue;
        if (first.empty()) {
          first = why;
          first_fix = fix;
        } else {
          ++others;
        }
      }
      if (first.empty()) {
        if (const Way* way = machine_only_way(plan_, one))
          problems_.warn(one.place, subject, "no person hears of it" + only_machines(*way), kTellPeople);
        continue;
      }
      if (others > 0) first += fmt::format(" ({} more such {})", others, others == 1 ? "way" : "ways");
      problems_.error(one.place, subject, first, first_fix);
    }
    check_built_in(reach);
    check_route_sinks();
    check_unused();
    check_fallbacks();
    check_routes(reach);
  }

  // " when queue="a" holds: only audit, which a machine reads"
  std::string only_machines(const Way& way) const {
    std::vector<std::string> machines;
    for (const std::string& sink : way.sinks) {
      if (counts(sink)) machines.push_back(sink);
    }
    return fmt::format("{}: only {}, which a machine reads", when(way), list_words(machines));
  }

  void note_users(const Reach& reach) {
    for (const Way& way : reach.ways) {
      for (const std::string& sink : way.sinks)
        add_once(out_.users[sink], reach.alert);
    }
  }
  static void add_once(std::vector<std::string>& list, const std::string& word) {
    if (!contains(list, word)) list.push_back(word);
  }

  void check_built_in(const std::vector<Reach>& reach) {
    std::vector<std::string> lost;
    std::string why;
    std::string how;
    for (const Reach& one : reach) {
      if (!one.built_in) continue;
      for (const Way& way : one.ways) {
        std::string fix;
        std::string reason = uncovered(way, fix);
        if (!plan_.has_route && way.sinks.empty()) reason = "none";
        if (reason.empty()) continue;
        add_once(lost, one.alert);
        if (why.empty()) {
          why = reason;
          how = fix;
        }
      }
    }
    if (lost.empty()) {
      warn_own_for_machines(reach);
      return;
    }
    const std::string names = list_words(lost, 10);
    if (plan_.has_route) {
      static constexpr std::string_view kOne = "it reaches";
      if (why.compare(0, kOne.size(), kOne) == 0) why = "they reach" + why.substr(kOne.size());
      if (how == kGiveSinks) how = "give that route `sinks:`";
      problems_.error(plan_.route.place, "route",
                      fmt::format("logbell's own alerts ({}) are not covered: {}", names, why), how);
    } else if (!written_.sink_names.empty()) {
      problems_.warn(
          plan_.sinks.at(written_.sink_names.front()).place, "",
          fmt::format(
              "logbell's own alerts ({}) reach no person: there is no `route:`, and no sink tells people",
              names),
          "add a `route:` with `sinks:`");
    }
  }

  void warn_own_for_machines(const std::vector<Reach>& reach) {
    std::vector<std::string> names;
    const Way* first = nullptr;
    for (const Reach& one : reach) {
      const Way* way = one.built_in ? machine_only_way(plan_, one) : nullptr;
      if (way == nullptr) continue;
      names.push_back(one.alert);
      if (first == nullptr) first = way;
    }
    if (first == nullptr) return;
    problems_.warn(plan_.has_route ? plan_.route.place : plan_.sinks.at(first->sinks.front()).place,
                   plan_.has_route ? "route" : "",
                   fmt::format("no person hears of logbell's own alerts ({}){}", list_words(names, 10),
                               only_machines(*first)),
                   kTellPeople);
  }

  // Whoever is told instead must be somebody.
  void check_fallbacks() {
    for (const auto& [name, spec] : plan_.sinks) {
      if (!counts(name)) continue;  // neither does it
      for (const std::string& fallback : spec.fallback) {
        if (plan_.sinks.count(fallback) != 0 && !counts(fallback))
          problems_.warn(
              spec.place, fmt::format("sink \"{}\"", name),
              fmt::format("its fallback {} tells nobody: files and consoles do not", fallback),
              "name a sink that tells somebody; if a machine reads that one, say `audience: machine`");
      }
    }
  }

  void check_route_sinks() {
    for (const RouteSink& named : written_.route_sinks) {
      if (plan_.sinks.count(named.sink) != 0) continue;
      if (!written_.heartbeats_sink.empty() && named.sink == written_.heartbeats_sink) {
        problems_.error(named.place, "route", of_the_heartbeat(named.sink) + out_.relied_on_by(named.sink), kGiveItsOwn);
        continue;
      }
      std::string fix = did_you_mean(named.sink, written_.sink_names);
      if (fix.empty())
        fix = written_.sink_names.empty()
                  ? "define it under `sinks:`"
                  : "define it under `sinks:`; there are " + list_words(written_.sink_names, 20);
      problems_.error(named.place, "route",
                      fmt::format("sink \"{}\" is not defined{}", named.sink, out_.relied_on_by(named.sink)),
                      std::move(fix));
    }
  }

  void check_unused() {
    std::set<std::string> used;
    for (const AlertingRule& rule : plan_.rules)
      used.insert(rule.sinks.begin(), rule.sinks.end());
    for (const RouteSink& named : written_.route_sinks)
      used.insert(named.sink);
    std::vector<std::string> open(used.begin(), used.end());
    while (!open.empty()) {
      const auto spec = plan_.sinks.find(open.back());
      open.pop_back();
      if (spec == plan_.sinks.end()) continue;
      const std::vector<std::string> relying = out_.users[spec->first];
      for (const std::string& fallback : spec->second.fallback) {
        if (used.insert(fallback).second) open.push_back(fallback);
        for (const std::string& rule : relying)
          add_once(out_.users[fallback], rule);
      }
    }
    for (const std::string& name : written_.sink_names) {
      if (used.count(name) == 0)
        problems_.warn(plan_.sinks.at(name).place, fmt::format("sink \"{}\"", name),
                       "no rule, route or fallback uses it", "use it, or remove it");
    }
  }

  // Routes that nothing can take, and `continue`s that change nothing.
  void check_routes(const std::vector<Reach>& reach) {
    const bool all_known =
        std::all_of(written_.complete.begin(), written_.complete.end(), [](bool known) { return known; });
    if (!plan_.has_route || !all_known || plan_.rules.empty()) return;
    std::set<std::string> taken;
    for (const Reach& one : reach) {
      if (one.built_in) continue;
      for (const Way& way : one.ways)
        taken.insert(way.routes.begin(), way.routes.end());
    }
    // Logbell's own have one of these severities: a misspelt one must not pass for theirs.
    for (const std::string& name : built_in_alerts()) {
      for (const char* severity : {"critical", "warning", "info"}) {
        LabelSpace space = built_in_space(name, plan_.external_labels);
        std::erase(space.from_logs, "severity");
        space.fixed.set("severity", severity);
        for (const RoutePath& path : possible_paths(plan_.route, space)) {
          for (const Route* node : path.nodes)
            taken.insert(node->id);
        }
      }
    }
    std::size_t nodes = 0;
    std::function<void(const Route&)> count = [&](const Route& route) {
      ++nodes;
      for (const Route& child : route.routes)
        count(child);
    };
    count(plan_.route);
    if (nodes * (plan_.rules.size() + 1) > kMaxRoutePairs) return;
    look_at(plan_.route, taken, reach);
  }

  // Whether anything takes the node or what hangs below it.
  static bool is_taken(const Route& route, const std::set<std::string>& taken) {
    return taken.count(route.id) != 0 ||
           std::any_of(route.routes.begin(), route.routes.end(),
                       [&](const Route& child) { return is_taken(child, taken); });
  }

  void look_at(const Route& route, const std::set<std::string>& taken, const std::vector<Reach>& reach) {
    for (std::size_t i = 0; i < route.routes.size(); ++i) {
      const Route& child = route.routes[i];
      if (!is_taken(child, taken)) {
        problems_.warn(child.place, "route",
                       "no rule can take it: its matchers fit none, or a route before it takes all",
                       "correct its matchers, or remove it");
        continue;
      }
      if (child.continue_ && i + 1 < route.routes.size() && !continue_matters(child.id, reach)) {
        problems_.warn(child.place, "route",
                       "its `continue: true` does nothing: no later route takes what it takes",
                       "remove it, or correct the later route");
      }
      look_at(child, taken, reach);
    }
  }

  static void stop_at(Route& route, const std::string& id) {
    if (route.id == id) route.continue_ = false;
    for (Route& child : route.routes)
      stop_at(child, id);
  }

  bool continue_matters(const std::string& id, const std::vector<Reach>& reach) const {
    Plan other;
    other.patterns = plan_.patterns;
    other.rules = plan_.rules;
    other.external_labels = plan_.external_labels;
    other.has_route = true;
    other.route = plan_.route;
    stop_at(other.route, id);
    const std::vector<Reach> without = reach_of(other);
    return !std::equal(reach.begin(), reach.end(), without.begin(), without.end(),
                       [](const Reach& a, const Reach& b) {
                         return std::equal(a.ways.begin(), a.ways.end(), b.ways.begin(), b.ways.end(),
                                           [](const Way& x, const Way& y) { return x.routes == y.routes; });
                       });
  }

  const Plan& plan_;
  const Written& written_;
  Problems& problems_;
  Coverage& out_;
  std::map<std::string, bool> muted_;  // by route
};

}  // namespace

std::string of_the_heartbeat(const std::string& sink) {
  return fmt::format("sink \"{}\" is the heartbeat's: what it must notice is that no alert gets out any more", sink);
}

std::string Coverage::relied_on_by(const std::string& sink) const {
  const auto found = users.find(sink);
  if (found == users.end() || found->second.empty()) return "";
  return fmt::format(" ({} {} on it)", list_words(found->second, 10),
                     found->second.size() == 1 ? "relies" : "rely");
}

Coverage check_coverage(const Plan& plan, const Written& written, Problems& problems) {
  Coverage out;
  Check(plan, written, problems, out).run();
  return out;
}

}  // namespace logbell::rules

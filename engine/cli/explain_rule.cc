// logbell explain RULE: how a rule is understood, what it takes, who hears of it, and what proves that.
#include <algorithm>
#include <cstdio>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "engine/cli/client.h"
#include "engine/cli/exit_status.h"
#include "engine/cli/explain.h"
#include "engine/cli/table.h"
#include "engine/cli/window_memory.h"
#include "engine/core/keyed_window.h"
#include "engine/core/window.h"
#include "rules/expr_tree.h"
#include "rules/fields.h"
#include "rules/json.h"
#include "rules/reach.h"
#include "rules/redact.h"
#include "rules/rule_file.h"
#include "rules/text.h"
#include "sinks/message.h"

namespace logbell::engine {
namespace {

using rules::Duration;
using rules::Json;

constexpr std::size_t kEvidenceBytes = 100;

// What the running process says of proofs; or why it was not heard.
struct Proofs {
  std::optional<Json> data;
  std::string why;
};

// On this machine: a process that listens on every address does on the loopback one, too.
std::string url_of(const std::string& listen) {
  const std::size_t colon = listen.rfind(':');
  const std::string host = listen.substr(0, colon);
  const bool any = host.empty() || host == "0.0.0.0" || host == "[::]";
  return "http://" + (any ? "127.0.0.1" + listen.substr(colon) : listen);
}

Proofs ask(const std::string& url) {
  Client client(url);
  auto answer = client.get("/api/v1/proof");
  if (!answer) return {std::nullopt, answer.error().message};
  return {std::move(*answer), {}};
}

// Of a rule at a sink; null: it says nothing of them. `rule`: "" for logbell's own.
const Json* proof_of(const Proofs& proofs, const std::string& alert, const std::string& rule,
                     const std::string& sink) {
  if (!proofs.data) return nullptr;
  for (const Json& pair : (*proofs.data)["proofs"].array()) {
    if (pair["alertname"].string() == alert && pair["sink"].string() == sink &&
        (rule.empty() || pair["rule"].string() == rule))
      return &pair;
  }
  return nullptr;
}

// "L4 3h ago by drill: ok".
std::string proof_text(const Json& pair) {
  const Json* best = nullptr;
  for (const Json& one : pair["proofs"].array()) {
    if (one["level"].string() == pair["reached"].string()) best = &one;
  }
  std::string out(pair["reached"].string());
  if (best == nullptr) {
    out += ", never told";
  } else {
    const Duration age(static_cast<std::int64_t>((*best)["age_seconds"].number() * 1000));
    out += fmt::format(" {} ago by {}{}: {}", sinks::format_span(age), (*best)["by"].string(),
                       (*best)["expired"].boolean() ? ", which is too long" : "",
                       rules::clean_text((*best)["evidence"].string(), kEvidenceBytes));
  }
  if (pair["failed"].is_object())
    out += fmt::format("; {}: {}", pair["failed"]["by"].string() == "probe" ? "DEAD" : "NOT FOUND",
                       rules::clean_text(pair["failed"]["evidence"].string(), kEvidenceBytes));
  return out;
}

// --- windows

// One of the rule's selectors: several with the same pattern and window are one.
struct Window {
  const rules::Expr* call = nullptr;
  const rules::PatternSpec* pattern = nullptr;
};

std::vector<Window> windows_of(const rules::Plan& plan, const rules::AlertingRule& rule) {
  std::vector<Window> out;
  std::set<std::string> seen;
  for (const rules::Expr* call : rules::range_calls(rule)) {
    if (seen.insert(rules::format_expr(*call) + " " + call->key).second)
      out.push_back({call, &plan.patterns[call->pattern_index]});
  }
  return out;
}

std::string sources_of(const rules::Plan& plan, const rules::PatternSpec& pattern) {
  std::string out;
  for (const rules::SourceSpec& source : plan.sources) {
    if (!pattern.sources.empty() && !rules::contains(pattern.sources, source.name)) continue;
    out += fmt::format("{}{} ({})", out.empty() ? "" : ", ", source.name, rules::describe_inputs(source));
  }
  return out;
}

std::string memory_of(const rules::PatternSpec& pattern, bool values, Duration longest,
                      const rules::CountPrecision& precision) {
  const std::size_t most = PatternWindow::most_points(precision);
  std::string out = fmt::format(
      "{} bytes a match{} for {}; at most {} series and {} matches ({} MB), for all rules together", kPointBytes,
      values ? ", and as much for its value," : "", rules::format_duration(longest),
      pattern.labels.empty() ? 1 : pattern.max_series + 1, most, most * kPointBytes / 1'000'000);
  if (values) return out + "; beyond it the rules are unknown";
  out += "; beyond it counts are within 1 %";
  if (precision.exact > most) {
    out += fmt::format(", and the rules, which compare one with {}, unknown", precision.exact - 1);
  } else if (precision.exact > 0) {
    out += fmt::format(", and comparisons with {} exact as long as so many of each series have room", precision.exact - 1);
  }
  return out;
}

std::string memory_of(const rules::KeyedNeed& need) {
  const std::size_t most = need.sampled ? KeyedWindow::kMostSampled : KeyedWindow::kMaxKeys;
  const std::size_t bytes = need.sampled ? kCountedKeyBytes : kKeyBytes;
  const std::string further =
      need.exact > Duration{0}
          ? fmt::format("; {} more a match for {}", kPointBytes, rules::format_duration(need.exact))
          : "";
  const std::string templates =
      need.is_of_templates() ? fmt::format("; {} templates at most ({} MB)", TemplateTree::kMaxTemplates,
                                           TemplateTree::kMaxTemplates * kTemplateBytes / 1'000'000)
                             : "";
  return fmt::format("some {} bytes a value of {} until {} after its last match{}; at most {} ({} MB){}{}, for all rules together",
                     bytes, need.shown_key(), rules::format_duration(need.reach), further, most, most * bytes / 1'000'000,
                     need.sampled ? ", which stand for the others where there are more" : "", templates);
}

std::string conditions_of(const rules::FieldTest& test) {
  const std::string what = test.match ? fmt::format("matches {}", test.match->pattern())
                                      : fmt::format("is {}", fmt::join(test.equals, " or "));
  return fmt::format("{} {}{}", test.field, test.negated ? "not: " : "", what);
}

std::string rests_on(const rules::Polarity& polarity) {
  if (polarity.presence && polarity.absence)
    return "lines that come and lines that do not: until its windows are known in full it neither fires nor "
           "resolves on what it does not know";
  if (polarity.absence)
    return "lines that do not come: it fires only once its windows have been watched in full";
  return "lines that come: it fires at once, and resolves only once its windows are known in full";
}

std::string ends_on(const rules::Polarity& polarity) {
  if (!polarity.absence) return "lines that come: it ends an alert at once";
  return fmt::format("lines that {}do not come: it ends an alert only once its windows have been watched in full",
                     polarity.presence ? "come and lines that " : "");
}

std::string span_text(Duration duration, std::string_view none) {
  return duration == Duration{0} ? std::string(none) : rules::format_duration(duration);
}

// --- who hears of it

// A way's routes and conditions, for people.
std::string way_text(const rules::Plan& plan, const rules::Reach& reach, const rules::Way& way) {
  std::string out = reach.own_sinks  ? "its own sinks"
                    : plan.has_route ? ""
                                     : "no route: all who tell people, else all";
  for (const std::string& id : way.routes)
    out += (out.empty() ? "" : " + ") + rules::describe_route(plan.route, id);
  if (!way.assumptions.empty()) out += fmt::format(" where {}", fmt::join(way.assumptions, " and "));
  return out;
}

std::string grouping_text(const rules::RouteOptions& options) {
  std::string out =
      options.group_by_all
          ? "one group an alert"
          : fmt::format("grouped by {}",
                        options.group_by.empty() ? "nothing" : rules::list_words(options.group_by, 9));
  out += fmt::format(
      "; first after {}, changes every {}, repeated every {}", rules::format_duration(options.group_wait),
      rules::format_duration(options.group_interval), rules::format_duration(options.repeat_interval));
  if (!options.mute_time_intervals.empty())
    out += fmt::format("; muted during {}", fmt::join(options.mute_time_intervals, ", "));
  if (!options.active_time_intervals.empty())
    out += fmt::format("; only during {}", fmt::join(options.active_time_intervals, ", "));
  return out;
}

std::string destination(const Config& config, const std::string& sink) {
  const auto found = config.sinks.find(sink);
  if (found == config.sinks.end()) return "-";
  std::string leads = found->second->destination();
  return leads.find("assumed.invalid") != std::string::npos ? "(left out)" : leads;
}

// The sinks of all ways and their fallbacks, each once: the fallback's says for whom.
std::vector<std::pair<std::string, std::string>> sinks_of(const rules::Plan& plan,
                                                          const rules::Reach& reach) {
  std::vector<std::pair<std::string, std::string>> out;
  const auto known = [&](const std::string& sink) {
    return std::any_of(out.begin(), out.end(), [&](const auto& one) { return one.first == sink; });
  };
  for (const rules::Way& way : reach.ways) {
    for (const std::string& sink : way.sinks) {
      if (!known(sink)) out.emplace_back(sink, "");
    }
  }
  for (std::size_t i = 0; i < out.size(); ++i) {
    const std::string name = out[i].first;
    for (const std::string& fallback : plan.sinks.at(name).fallback) {
      if (!known(fallback)) out.emplace_back(fallback, name);
    }
  }
  return out;
}

std::string reach_text(const Config& config, const rules::Reach& reach, const std::string& identity,
                       const Proofs& proofs) {
  const rules::Plan& plan = *config.plan;
  std::string out = "\nWHO HEARS OF IT\n";
  if (reach.silent != nullptr) {
    return out +
           fmt::format("  nobody until {}: {}\n",
                       rules::format_rfc3339(reach.silent->until - std::chrono::hours(24)).substr(0, 10),
                       rules::clean_text(reach.silent->reason, 200));
  }
  for (const rules::Way& way : reach.ways) {
    out += fmt::format("  {} -> {}\n", way_text(plan, reach, way),
                       way.sinks.empty() ? "nobody" : fmt::format("{}", fmt::join(way.sinks, ", ")));
    for (const std::string& id : way.routes) {
      if (const rules::Route* node = rules::find_route(plan.route, id))
        out += fmt::format("      {}\n", grouping_text(node->options));
    }
  }
  const auto sinks = sinks_of(plan, reach);
  out += "\n";
  Table table({"SINK", "TYPE", "LEADS TO", "PROOF"});
  bool other = false;
  for (const auto& [sink, stands_in_for] : sinks) {
    const rules::SinkSpec& spec = plan.sinks.at(sink);
    std::string proof = "-";
    if (const Json* pair = proof_of(proofs, reach.alert, identity, sink)) {
      proof = proof_text(*pair);
    } else if (proofs.data) {
      proof = "none";
      other = other || proof_of(proofs, reach.alert, "", sink) != nullptr;
    }
    table.add({stands_in_for.empty() ? sink : fmt::format("{} (for {})", sink, stands_in_for), spec.type,
               destination(config, sink), std::move(proof)});
  }
  out += table.format();
  if (!proofs.data) {
    out += fmt::format("No process was heard, so nothing is said of proofs: {}\n", proofs.why);
  } else if (other) {
    out +=
        "The process that answers runs this rule as it was written before: its proofs are not of this one.\n";
  }
  if (!reach.built_in && rules::machine_only_way(plan, reach) != nullptr)
    out += "On some way no person is told of it, only a machine.\n";
  return out;
}

Json reach_json(const Config& config, const rules::Reach& reach, const std::string& identity,
                const Proofs& proofs) {
  const rules::Plan& plan = *config.plan;
  Json out;
  if (reach.silent != nullptr)
    out.set("silent_until", rules::format_rfc3339(reach.silent->until))
        .set("silent_reason", reach.silent->reason);
  const auto strings = [](const std::vector<std::string>& list) {
    Json array = Json::Array{};
    for (const std::string& word : list)
      array.push(word);
    return array;
  };
  Json ways = Json::Array{};
  for (const rules::Way& way : reach.ways) {
    Json one;
    one.set("routes", strings(way.routes))
        .set("when", strings(way.assumptions))
        .set("sinks", strings(way.sinks));
    ways.push(std::move(one));
  }
  Json sinks = Json::Array{};
  for (const auto& [sink, stands_in_for] : sinks_of(plan, reach)) {
    Json one;
    one.set("name", sink).set("type", plan.sinks.at(sink).type).set("destination", destination(config, sink));
    one.set("fallback_for", stands_in_for);
    if (const Json* pair = proof_of(proofs, reach.alert, identity, sink)) one.set("proof", *pair);
    sinks.push(std::move(one));
  }
  out.set("own_sinks", reach.own_sinks).set("ways", std::move(ways)).set("sinks", std::move(sinks));
  out.set("asked", proofs.data.has_value());
  if (!proofs.data) out.set("not_heard", proofs.why);
  return out;
}

// --- a rule

std::string rule_text(const Config& config, const rules::AlertingRule& rule, const rules::Reach& reach,
                      const Proofs& proofs) {
  const rules::Plan& plan = *config.plan;
  std::string out =
      fmt::format("{}  {}{}\n\nEXPRESSION\n  {}\n", rule.name, rule.place.format(),
                  rule.group.empty() ? "" : fmt::format(", group {}", rule.group), rule.expr_text);
  if (const std::vector<std::string> tree = rules::expr_tree(*rule.expr); tree.size() > 3) {
    out += "  which is\n";
    for (const std::string& line : tree)
      out += "    " + line + "\n";
  }
  out += fmt::format("  It rests on {}.\n", rests_on(rule.polarity));
  if (!rule.location.empty()) out += fmt::format("  Its hours are those of {}.\n", rule.location);
  out += fmt::format("\nfor:              {}\nkeep_firing_for:  {}\n",
                     span_text(rule.for_, "0s: it fires at once"),
                     span_text(rule.keep_firing_for, "0s: it resolves at once"));
  if (rule.resolve_when) {
    out += fmt::format("resolve_when:     {}\n", rule.resolve_when->text);
    out += fmt::format("  An alert that fires goes on until it has an element {}.\n",
                       rule.resolve_when->labels.empty()
                           ? "(one without labels: it ends every alert of the rule)"
                           : fmt::format("with the alert's {}", fmt::join(rule.resolve_when->labels, ", ")));
    out += fmt::format("  It rests on {}.\n", ends_on(rule.resolve_when->polarity));
  }
  out += "\nWINDOWS\n";
  const std::vector<Window> windows = windows_of(plan, rule);
  std::set<const rules::PatternSpec*> said;
  const std::vector<rules::CountPrecision> precision = rules::precision_of(plan);
  for (const Window& first : windows) {
    const rules::PatternSpec& pattern = *first.pattern;
    if (!said.insert(&pattern).second) continue;
    out += fmt::format("  {}  {}\n", pattern.name, pattern.place.format());
    for (const rules::Regex& regex : pattern.match)
      out += fmt::format("    match    {}\n", regex.pattern());
    for (const rules::Regex& regex : pattern.exclude)
      out += fmt::format("    exclude  {}\n", regex.pattern());
    for (const rules::FieldTest& test : pattern.where)
      out += fmt::format("    where    {}\n", conditions_of(test));
    if (!pattern.labels.empty()) out += fmt::format("    labels   {}\n", fmt::join(pattern.labels, ", "));
    if (!pattern.value.empty()) out += fmt::format("    value    {}\n", pattern.value);
    out += fmt::format("    reads    {}\n", sources_of(plan, pattern));
    bool values = false;
    Duration longest{0};
    std::map<std::string, rules::KeyedNeed> keys;
    for (const Window& window : windows) {
      if (window.pattern != &pattern) continue;
      const rules::Expr& call = *window.call;
      if (call.asks_keys()) {
        rules::KeyedNeed& need = keys.try_emplace(call.keyed_need().name(), call.keyed_need()).first->second;
        need.reach = std::max(need.reach, call.reach());
        need.exact = std::max(need.exact, call.keyed_need().exact);
        out += fmt::format("    window   {} in {}, by {}\n", rules::format_duration(call.window),
                           rules::format_expr(call), call.key);
        continue;
      }
      values = values || call.asks_values();
      longest = std::max(longest, call.reach());
      std::string back;
      if (call.function == rules::Expr::RangeFunction::kBaselineOverTime) {
        back = fmt::format(", {} times, {} apart; a value once {} of them were watched", call.looks,
                           rules::format_duration(call.again), call.enough_looks());
      } else if (call.range_offset > Duration{0}) {
        back = fmt::format(", as it was {} ago", rules::format_duration(call.range_offset));
      }
      out += fmt::format("    window   {} in {}{}\n", rules::format_duration(call.window),
                         rules::format_expr(call), back);
    }
    if (longest > Duration{0}) out += fmt::format("    memory   {}\n", memory_of(pattern, values, longest, precision[first.call->pattern_index]));
    for (const auto& [name, need] : keys)
      out += fmt::format("    memory   {}\n", memory_of(need));
  }
  const auto add = [&](const char* title, const std::vector<std::pair<std::string, rules::Template>>& list) {
    if (list.empty()) return;
    out += fmt::format("\n{}\n", title);
    for (const auto& [name, text] : list)
      out += fmt::format("  {}: {}\n", name, text.text());
  };
  add("LABELS", rule.labels);
  if (!plan.external_labels.empty()) {
    out += rule.labels.empty() ? "\nLABELS\n" : "";
    for (const auto& [name, value] : plan.external_labels)
      out += fmt::format("  {}: {} (of the configuration)\n", name, value);
  }
  if (const auto from_logs = rules::result_labels(*rule.expr, plan.patterns); !from_logs.empty())
    out += fmt::format("  {}: from the logs\n", fmt::join(from_logs, ", "));
  add("ANNOTATIONS", rule.annotations);
  return out + reach_text(config, reach, rules::format_fingerprint(rule.identity()), proofs);
}

Json templates_json(const std::vector<std::pair<std::string, rules::Template>>& list) {
  Json out = Json::Object{};
  for (const auto& [name, text] : list)
    out.set(name, text.text());
  return out;
}

Json rule_json(const Config& config, const rules::AlertingRule& rule, const rules::Reach& reach,
               const Proofs& proofs) {
  const rules::Plan& plan = *config.plan;
  Json out;
  out.set("alert", rule.name).set("group", rule.group);
  out.set("file", rule.place.file).set("line", rule.place.line).set("column", rule.place.col);
  out.set("expr", rule.expr_text);
  Json tree = Json::Array{};
  for (const std::string& line : rules::expr_tree(*rule.expr))
    tree.push(line);
  out.set("tree", std::move(tree));
  out.set("rests_on_presence", rule.polarity.presence).set("rests_on_absence", rule.polarity.absence);
  out.set("location", rule.location);
  out.set("for_seconds", std::chrono::duration<double>(rule.for_).count());
  out.set("keep_firing_for_seconds", std::chrono::duration<double>(rule.keep_firing_for).count());
  if (rule.resolve_when) {
    Json resolve;
    Json labels = Json::Array{};
    for (const std::string& label : rule.resolve_when->labels)
      labels.push(label);
    resolve.set("expr", rule.resolve_when->text).set("labels", std::move(labels));
    resolve.set("rests_on_presence", rule.resolve_when->polarity.presence);
    resolve.set("rests_on_absence", rule.resolve_when->polarity.absence);
    out.set("resolve_when", std::move(resolve));
  }
  Json windows = Json::Array{};
  const std::vector<rules::CountPrecision> precision = rules::precision_of(plan);
  for (const Window& window : windows_of(plan, rule)) {
    Json one;
    one.set("selector", rules::format_expr(*window.call)).set("pattern", window.pattern->name);
    one.set("file", window.pattern->place.file).set("line", window.pattern->place.line);
    Json regexes = Json::Array{};
    for (const rules::Regex& regex : window.pattern->match)
      regexes.push(regex.pattern());
    one.set("match", std::move(regexes));
    one.set("window_seconds", std::chrono::duration<double>(window.call->window).count());
    one.set("offset_seconds", std::chrono::duration<double>(window.call->range_offset).count());
    one.set("bytes_a_match", static_cast<std::uint64_t>(kPointBytes));
    one.set("most_series",
            static_cast<std::uint64_t>(window.pattern->labels.empty() ? 1 : window.pattern->max_series + 1));
    const rules::CountPrecision& precise = precision[window.call->pattern_index];
    one.set("most_matches", static_cast<std::uint64_t>(PatternWindow::most_points(precise)));
    if (!window.call->asks_keys() && !window.call->asks_values())
      one.set("exact_up_to", precise.exact == 0 ? std::uint64_t{0} : precise.exact - 1);
    if (window.call->asks_keys()) {
      const rules::KeyedNeed need = window.call->keyed_need();
      one.set("key", need.shown_key()).set("estimated", need.sampled);
      one.set("most_keys", static_cast<std::uint64_t>(need.sampled ? KeyedWindow::kMostSampled : KeyedWindow::kMaxKeys));
    }
    windows.push(std::move(one));
  }
  out.set("windows", std::move(windows));
  out.set("labels", templates_json(rule.labels)).set("annotations", templates_json(rule.annotations));
  out.set("reach", reach_json(config, reach, rules::format_fingerprint(rule.identity()), proofs));
  return out;
}

}  // namespace

int explain_rule(const ExplainOptions& options, const Config& config) {
  const rules::Plan& plan = *config.plan;
  const std::vector<rules::Reach> reaches = rules::reach_of(plan);
  std::vector<const rules::Reach*> wanted;
  std::vector<std::string> names;
  for (const rules::Reach& reach : reaches) {
    names.push_back(reach.alert);
    if (reach.alert == options.rule) wanted.push_back(&reach);
  }
  if (wanted.empty()) {
    const std::string hint = rules::did_you_mean(options.rule, names);
    std::fprintf(stderr, "logbell explain: there is no rule \"%s\" in %s%s\n", options.rule.c_str(),
                 config.path.c_str(),
                 hint.empty() ? fmt::format("; there are {}", rules::list_words(names, 20)).c_str()
                              : ("; " + hint).c_str());
    return kExitUsage;
  }
  const Proofs proofs = ask(options.url.empty() ? url_of(config.listen) : options.url);
  std::string text;
  Json list = Json::Array{};
  for (const rules::Reach* reach : wanted) {
    const auto index = static_cast<std::size_t>(reach - reaches.data());
    if (!text.empty()) text += "\n\n";
    if (reach->built_in) {
      text += fmt::format("{}  is one of logbell's own alerts; its labels say what it is about.\n",
                          reach->alert) +
              reach_text(config, *reach, "", proofs);
      Json one;
      one.set("alert", reach->alert)
          .set("built_in", true)
          .set("reach", reach_json(config, *reach, "", proofs));
      list.push(std::move(one));
    } else {
      text += rule_text(config, plan.rules[index], *reach, proofs);
      list.push(rule_json(config, plan.rules[index], *reach, proofs));
    }
  }
  if (options.format == OutputFormat::kJson) {
    Json out;
    out.set("rules", std::move(list));
    text = out.dump(2) + "\n";
  }
  std::fputs(text.c_str(), stdout);
  return kExitOk;
}

}  // namespace logbell::engine

// The JSON of a backtest. Names stay what they are once they are there.
#include <cmath>
#include <utility>

#include "engine/cli/backtest_print.h"

namespace logbell::engine {
namespace {

using rules::format_rfc3339;
using rules::Json;

double in_seconds(rules::Duration duration) {
  return std::chrono::duration<double>(duration).count();
}

Json episode_json(const BacktestReport::Episode& episode) {
  Json out;
  out.set("labels", rules::to_json(episode.labels)).set("fired_at", format_rfc3339(episode.fired_at));
  if (episode.resolved_at) out.set("resolved_at", format_rfc3339(*episode.resolved_at));
  if (std::isfinite(episode.value)) out.set("value", episode.value);
  return out;
}

Json episodes_json(const std::vector<BacktestReport::Episode>& episodes) {
  Json list = Json::Array{};
  for (const BacktestReport::Episode& episode : episodes)
    list.push(episode_json(episode));
  return list;
}

Json rule_json(const BacktestReport::Rule& rule, bool suggest) {
  Json out;
  out.set("name", rule.name);
  out.set("firings", rule.firings);
  out.set("firing_seconds", in_seconds(rule.firing));
  out.set("longest_seconds", in_seconds(rule.longest));
  out.set("flaps", rule.flaps);
  if (rule.first_at) out.set("first_at", format_rfc3339(*rule.first_at));
  out.set("still_firing", rule.still_firing);
  if (!rule.unknown.empty()) out.set("unknown", rule.unknown);
  if (!rule.value.empty()) out.set("value", rule.value);
  if (!rule.op.empty()) out.set("op", rule.op).set("threshold", rule.threshold);
  if (rule.peak) {
    Json peak;
    if (std::isfinite(rule.peak->value)) peak.set("value", rule.peak->value);
    peak.set("at", format_rfc3339(rule.peak->at)).set("labels", rules::to_json(rule.peak->labels));
    peak.set("exact", rule.peak->exact);
    out.set("peak", std::move(peak));
  }
  Json tops = Json::Array{};
  for (const BacktestReport::TopValues& top : rule.top_values) {
    Json values = Json::Array{};
    for (const auto& [value, lines] : top.values) {
      Json one;
      one.set("value", value).set("lines", lines);
      values.push(std::move(one));
    }
    Json one;
    one.set("label", top.label).set("values", std::move(values)).set("others", top.others);
    tops.push(std::move(one));
  }
  out.set("top_values", std::move(tops));
  Json messages = Json::Object{};
  for (const auto& [sink, count] : rule.messages)
    messages.set(sink, count);
  out.set("messages", std::move(messages));
  out.set("episodes", episodes_json(rule.episodes));
  if (!suggest) return out;
  if (!rule.no_suggestion.empty()) {
    out.set("no_suggestion", rule.no_suggestion);
    return out;
  }
  Json suggestions = Json::Array{};
  for (const BacktestReport::Suggestion& each : rule.suggestions) {
    Json one;
    one.set("firings_a_month", each.a_month).set("threshold", each.threshold).set("firings", each.firings);
    one.set("beyond_what_was_seen", each.beyond);
    suggestions.push(std::move(one));
  }
  out.set("suggestions", std::move(suggestions)).set("exact", !rule.thinned && !rule.at_most);
  out.set("at_most", rule.at_most);
  return out;
}

}  // namespace

Json backtest_json(const BacktestReport& report, bool suggest) {
  Json out;
  out.set("lines", report.lines);
  out.set("bytes", report.bytes);
  out.set("seconds", report.seconds);
  Json cpu;
  cpu.set("read_and_match", report.cpu.reading).set("evaluate", report.cpu.evaluating);
  out.set("cpu_seconds", std::move(cpu.set("report", report.cpu.reporting)));
  if (report.first_line != rules::kLongAgo) out.set("first_line", format_rfc3339(report.first_line));
  if (report.last_line != rules::kLongAgo) out.set("last_line", format_rfc3339(report.last_line));
  Json amiss = Json::Object{};
  for (const auto& [what, lines] : report.amiss)
    amiss.set(what, lines);
  out.set("amiss", std::move(amiss));
  Json bounds = Json::Array{};
  for (const BacktestReport::AtBound& bound : report.bounds) {
    Json one;
    one.set("pattern", bound.pattern).set("metric", bound.metric).set("count", bound.count).set("what", bound.what);
    bounds.push(std::move(one));
  }
  out.set("bounds", std::move(bounds));
  Json patterns = Json::Array{};
  for (const BacktestReport::Pattern& pattern : report.patterns) {
    Json one;
    one.set("name", pattern.name);
    one.set("lines", pattern.matches);
    patterns.push(std::move(one));
  }
  out.set("patterns", std::move(patterns));
  Json rule_list = Json::Array{};
  for (const BacktestReport::Rule& rule : report.rules)
    rule_list.push(rule_json(rule, suggest));
  out.set("rules", std::move(rule_list));
  Json sinks = Json::Array{};
  for (const BacktestReport::Sink& sink : report.sinks) {
    Json days = Json::Object{};
    for (const auto& [day, messages] : sink.days)
      days.set(format_rfc3339(day).substr(0, 10), messages);
    Json one;
    one.set("name", sink.name).set("messages", sink.messages).set("days", std::move(days));
    sinks.push(std::move(one));
  }
  out.set("sinks", std::move(sinks));
  return out;
}

Json comparison_json(const BacktestComparison& comparison) {
  Json rule_list = Json::Array{};
  for (const BacktestComparison::Rule& rule : comparison.rules) {
    Json both = Json::Array{};
    for (const BacktestComparison::Both& each : rule.both) {
      Json one;
      one.set("a", episode_json(each.a)).set("b", episode_json(each.b)).set("firings_b", each.firings_b);
      both.push(std::move(one));
    }
    Json one;
    one.set("name", rule.name).set("in_a", rule.in_a).set("in_b", rule.in_b);
    one.set("firings_a", rule.firings_a).set("firings_b", rule.firings_b);
    one.set("only_a", episodes_json(rule.only_a)).set("only_b", episodes_json(rule.only_b));
    one.set("both", std::move(both));
    rule_list.push(std::move(one));
  }
  Json sinks = Json::Array{};
  for (const BacktestComparison::Sink& sink : comparison.sinks) {
    Json one;
    one.set("name", sink.name).set("messages_a", sink.messages_a).set("messages_b", sink.messages_b);
    sinks.push(std::move(one));
  }
  Json out;
  out.set("rules", std::move(rule_list)).set("sinks", std::move(sinks)).set("complete", comparison.complete);
  return out;
}

}  // namespace logbell::engine

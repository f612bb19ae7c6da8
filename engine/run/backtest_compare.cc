#include "engine/run/backtest_compare.h"

#include <algorithm>
#include <map>
#include <set>

namespace logbell::engine {

using rules::Timestamp;
using Episode = BacktestReport::Episode;

namespace {

// Of all rules of one name, in both configurations.
struct Sides {
  std::vector<const Episode*> a;
  std::vector<const Episode*> b;
  std::set<std::string> labels_a;  // of elements: from logs
  std::set<std::string> labels_b;
  BacktestComparison::Rule rule;
};

bool overlap(const Episode& a, const Episode& b) {
  return a.fired_at < b.resolved_at.value_or(Timestamp::max()) &&
         b.fired_at < a.resolved_at.value_or(Timestamp::max());
}

void pair_up(Sides& sides) {
  std::vector<std::string> names;
  std::set_intersection(sides.labels_a.begin(), sides.labels_a.end(), sides.labels_b.begin(),
                        sides.labels_b.end(), std::back_inserter(names));
  const auto by_time = [](const Episode* x, const Episode* y) { return x->fired_at < y->fired_at; };
  std::stable_sort(sides.a.begin(), sides.a.end(), by_time);
  std::stable_sort(sides.b.begin(), sides.b.end(), by_time);
  // By what both know of an alert: its firings, which do not overlap each other where the labels tell them
  // apart.
  std::map<rules::Labels, std::vector<const Episode*>> of_b;
  for (const Episode* one : sides.b)
    of_b[one->labels.keep_only(names)].push_back(one);
  std::set<const Episode*> met;
  for (const Episode* one : sides.a) {
    BacktestComparison::Both both{*one, {}, 0};
    for (const Episode* other : of_b[one->labels.keep_only(names)]) {
      if (one->resolved_at && other->fired_at >= *one->resolved_at) break;
      if (!overlap(*one, *other)) continue;
      met.insert(other);
      if (both.firings_b++ == 0) both.b = *other;
    }
    if (both.firings_b == 0) {
      sides.rule.only_a.push_back(*one);
    } else {
      sides.rule.both.push_back(std::move(both));
    }
  }
  for (const Episode* one : sides.b) {
    if (met.count(one) == 0) sides.rule.only_b.push_back(*one);
  }
}

}  // namespace

bool BacktestComparison::Rule::is_same() const {
  return in_a && in_b && firings_a == firings_b && only_a.empty() && only_b.empty() &&
         std::all_of(both.begin(), both.end(), [](const Both& one) { return one.is_same(); });
}

BacktestComparison compare_backtests(const rules::Plan& plan_a, const BacktestReport& a,
                                     const rules::Plan& plan_b, const BacktestReport& b) {
  BacktestComparison out;
  std::vector<std::string> order;
  std::map<std::string, Sides> by_name;
  const auto collect = [&](const rules::Plan& plan, const BacktestReport& report, bool is_a) {
    for (std::size_t i = 0; i < report.rules.size(); ++i) {
      const BacktestReport::Rule& rule = report.rules[i];
      if (by_name.count(rule.name) == 0) order.push_back(rule.name);
      Sides& sides = by_name[rule.name];
      sides.rule.name = rule.name;
      (is_a ? sides.rule.in_a : sides.rule.in_b) = true;
      (is_a ? sides.rule.firings_a : sides.rule.firings_b) += rule.firings;
      for (const std::string& label : rules::result_labels(*plan.rules[i].expr, plan.patterns))
        (is_a ? sides.labels_a : sides.labels_b).insert(label);
      for (const Episode& episode : rule.episodes)
        (is_a ? sides.a : sides.b).push_back(&episode);
      out.complete = out.complete && rule.episodes.size() == rule.firings;
    }
  };
  collect(plan_a, a, true);
  collect(plan_b, b, false);
  for (const std::string& name : order) {
    pair_up(by_name[name]);
    out.rules.push_back(std::move(by_name[name].rule));
  }
  std::map<std::string, BacktestComparison::Sink> sinks;
  for (const BacktestReport::Sink& sink : a.sinks)
    sinks[sink.name].messages_a = sink.messages;
  for (const BacktestReport::Sink& sink : b.sinks)
    sinks[sink.name].messages_b = sink.messages;
  for (auto& [name, sink] : sinks) {
    sink.name = name;
    out.sinks.push_back(std::move(sink));
  }
  return out;
}

}  // namespace logbell::engine

// CoreWorld: a plan written in a few lines, a Pipeline that runs it, and the store that it would have.
//
// Time is in milliseconds since a fixed morning, so that tests read "at(60'000)". One thread.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "engine/core/pipeline.h"

namespace logbell::tests {

class CoreWorld {
 public:
  static constexpr std::int64_t kMorning = 1'777'622'400'000;  // 2026-05-01T08:00:00Z, a Friday
  static rules::Timestamp at(std::int64_t ms) { return rules::from_unix_ms(kMorning + ms); }
  static std::int64_t since(rules::Timestamp when) { return rules::to_unix_ms(when) - kMorning; }

  rules::Plan written;

  CoreWorld() {
    written.external_labels = {{"instance", "here"}, {"environment", "test"}};
    rules::SourceSpec source;
    source.name = "api";
    source.files = {"/var/log/api.log"};
    written.sources.push_back(source);
  }

  // A pattern named `name` with these labels; what it matches does not matter here.
  CoreWorld& pattern(const std::string& name, std::vector<std::string> labels = {}) {
    rules::PatternSpec spec;
    spec.name = name;
    spec.match.push_back(*rules::Regex::compile(name));
    spec.labels = std::move(labels);
    written.patterns.push_back(spec);
    return *this;
  }
  rules::AlertingRule& rule(const std::string& name, const std::string& expr,
                            std::vector<std::string> sinks = {}, const std::string& severity = "critical") {
    rules::AlertingRule rule;
    rule.name = name;
    const auto parsed = rules::parse_expr(expr);
    REQUIRE(parsed);
    const auto bound = rules::bind_expr(*parsed, written.patterns);
    if (!bound) FAIL(bound.error().reason);
    rule.expr = *bound;
    rules::collect_keys(*rule.expr, written.patterns);
    rule.expr_text = rules::format_expr(*rule.expr);
    rule.polarity = rules::polarity(*rule.expr);
    rule.sinks = std::move(sinks);
    rule.sources = {0};
    rule.labels.emplace_back("severity", *rules::Template::parse(severity));
    rule.annotations.emplace_back("summary", *rules::Template::parse("value {{ $value }}"));
    written.rules.push_back(rule);
    return written.rules.back();
  }
  void resolve_when(rules::AlertingRule& rule, const std::string& expr) {
    const auto parsed = rules::parse_expr(expr);
    REQUIRE(parsed);
    const auto bound = rules::bind_expr(*parsed, written.patterns);
    if (!bound) FAIL(bound.error().reason);
    rules::collect_keys(**bound, written.patterns);
    rule.resolve_when = {*bound, rules::format_expr(**bound), rules::result_labels(**bound, written.patterns),
                         rules::polarity(**bound)};
  }
  rules::SinkSpec& sink(const std::string& name) {
    rules::SinkSpec& spec = written.sinks[name];
    spec.name = name;
    spec.type = "slack";
    spec.lanes = {name};
    return spec;
  }
  // The root route; grouped by alertname.
  rules::Route& route(std::vector<std::string> sinks) {
    written.has_route = true;
    written.route.id = "route";
    written.route.options.sinks = std::move(sinks);
    written.route.options.group_by = {"alertname"};
    return written.route;
  }

  void start() { pipeline = std::make_unique<engine::Pipeline>(plan(), restored()); }
  // The process dies between ticks, and comes back with what was committed.
  void restart() {
    ++written.generation;
    start();
  }
  void reload(std::int64_t now) {
    ++written.generation;
    pipeline->replace_plan(plan(), at(now));
  }

  std::shared_ptr<const rules::Plan> plan() {
    current = std::make_shared<const rules::Plan>(written);
    return current;
  }
  std::vector<engine::StoredEntry> restored() const {
    std::vector<engine::StoredEntry> entries;
    for (const auto& [key, value] : store) {
      if (key.rfind("core/", 0) == 0) entries.push_back({key, value});
    }
    return entries;
  }

  // A line that `pattern` matched at `when` (event time), read at `when` too unless said otherwise.
  void match(const std::string& name, std::int64_t when, std::vector<std::string> labels = {},
             const std::string& line = "a line", double value = 1, std::vector<std::string> keys = {}) {
    engine::TimedMatch match;
    for (std::uint32_t i = 0; i < current->patterns.size(); ++i) {
      if (current->patterns[i].name == name) match.pattern = i;
    }
    match.at = at(when);
    match.value = value;
    match.live = true;
    match.labels = std::move(labels);
    match.keys = std::move(keys);
    match.line = static_cast<std::uint32_t>(batch.lines.size());
    batch.lines.push_back(line);
    batch.matches.push_back(std::move(match));
    batch.read_at = at(when);
  }

  // Everything up to `now` has been read; what was said of the source is `status`.
  engine::Tick tick(std::int64_t now) {
    status.watermark = std::max(status.watermark, at(now));
    status.read_to_end_at = at(now);
    return tick_as_is(now);
  }
  // Still reading the past: the source's watermark is at `watermark`.
  engine::Tick behind(std::int64_t watermark, std::int64_t now) {
    status.watermark = at(watermark);
    status.read_to_end_at.reset();
    return tick_as_is(now);
  }
  engine::Tick tick_as_is(std::int64_t now) {
    batch.generation = current->generation;
    ++batch.sequence;
    batch.sources = {status};
    pipeline->ingest(batch);
    batch.matches.clear();
    batch.lines.clear();
    engine::Tick result = pipeline->tick(at(now));
    keep(result);
    return result;
  }
  // Nothing was read; timers only.
  engine::Tick wait(std::int64_t now) {
    engine::Tick result = pipeline->tick(at(now));
    keep(result);
    return result;
  }

  std::unique_ptr<engine::Pipeline> pipeline;
  std::shared_ptr<const rules::Plan> current;
  std::map<std::string, std::string> store;
  engine::MatchBatch batch;
  engine::SourceStatus status{0, rules::kLongAgo, {}, true, false, rules::kLongAgo, {}, {}};
  std::vector<rules::Notification> told;  // everything that ever left, in order

  // "fired QueueUnreachable -> ops" for every notification of a tick.
  static std::vector<std::string> summary(const engine::Tick& tick) {
    std::vector<std::string> lines;
    for (const rules::Notification& notification : tick.notifications) {
      std::string line = notification.lane + ": " + std::string(to_string(notification.reason));
      for (const rules::Alert& alert : notification.alerts)
        line += " " + std::string(alert.name()) + (alert.is_firing() ? "+" : "-");
      lines.push_back(line);
    }
    return lines;
  }

 private:
  void keep(const engine::Tick& result) {
    for (const engine::StoredEntry& entry : result.entries) {
      if (entry.value) {
        store[entry.key] = *entry.value;
      } else {
        store.erase(entry.key);
      }
    }
    told.insert(told.end(), result.notifications.begin(), result.notifications.end());
  }
};

}  // namespace logbell::tests

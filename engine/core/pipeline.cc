#include "engine/core/pipeline.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "engine/core/dispatcher.h"
#include "engine/core/rule_state.h"
#include "rules/json.h"
#include "rules/redact.h"

namespace logbell::engine {

using rules::Alert;
using rules::AlertState;
using rules::Duration;
using rules::Fingerprint;
using rules::Json;
using rules::Labels;
using rules::Timestamp;

namespace {

// A clock may be this far ahead of the wall clock: lines that far in the future are believed (DESIGN.md §3).
constexpr Duration kMaxAhead = std::chrono::seconds(10);
// Without a readable file for so long, a source is an alert: longer than any rotation takes.
constexpr Duration kUnreadableFor = std::chrono::minutes(5);
// A lost state is told for so long; there is nothing that could end it.
constexpr Duration kStateLostShown = std::chrono::hours(1);
// Lines kept as samples, per pattern: a few hundred series with theirs. Beyond it only new series go without.
constexpr std::size_t kMaxSampleMemory = 1024 * 1024;
// So many values of a label that was summed away are shown: what fits a phone.
constexpr std::size_t kTopValues = 3;
// Earlier lines kept a series, spread over the longest window, so that the first one of a window is at hand.
constexpr std::size_t kAnchors = 8;

std::string hex(Fingerprint fingerprint) {
  return rules::format_fingerprint(fingerprint);
}

Json values_json(const std::vector<std::string>& values) {
  Json list{Json::Array{}};
  for (const std::string& value : values)
    list.push(Json(value));
  return list;
}

Json labels_json(const Labels& labels) {
  Json json{Json::Object{}};
  for (const auto& [name, value] : labels)
    json.set(name, value);
  return json;
}

Labels read_labels(const Json& json) {
  Labels labels;
  for (const auto& [name, value] : json.object())
    labels.set(name, value.string());
  return labels;
}

std::optional<std::string_view> after(std::string_view key, std::string_view prefix) {
  if (key.substr(0, prefix.size()) != prefix) return std::nullopt;
  return key.substr(prefix.size());
}

// The lines that a series was last matched by.
struct SampleLines {
  std::vector<std::pair<Timestamp, std::string>> anchors;  // oldest first
  Timestamp last_at;
  std::string last;
};

// What a pattern has counted: for /metrics, kept over restarts.
struct Totals {
  double count = 0;
  double sum = 0;
  double last = 0;
  std::vector<double> buckets;  // cumulative, as Prometheus has them, without +Inf

  std::string format() const {
    std::string text = fmt::format("{} {} {}", rules::format_number(count), rules::format_number(sum),
                                   rules::format_number(last));
    for (const double bucket : buckets)
      text += " " + rules::format_number(bucket);
    return text;
  }
  static Totals parse(std::string_view text, std::size_t buckets) {
    std::vector<double> numbers;
    while (!text.empty()) {
      const std::size_t end = std::min(text.find(' '), text.size());
      numbers.push_back(rules::parse_number(text.substr(0, end)));
      text.remove_prefix(std::min(end + 1, text.size()));
    }
    Totals totals;
    totals.buckets.assign(buckets, 0);
    if (numbers.size() < 3) return totals;
    totals.count = numbers[0];
    totals.sum = numbers[1];
    totals.last = numbers[2];
    for (std::size_t i = 0; i < buckets && i + 3 < numbers.size(); ++i)
      totals.buckets[i] = numbers[i + 3];
    return totals;
  }
};

struct PatternState {
  PatternState(Fingerprint id, PatternWindow with, std::vector<std::size_t> users)
      : identity(id), window(std::move(with)), used_by(std::move(users)) {}

  Fingerprint identity;
  PatternWindow window;
  std::vector<std::size_t> used_by;   // rules
  Timestamp since = rules::kLongAgo;  // its matches are known from here on
  bool was_full = false;
  Timestamp forgotten_at = rules::kLongAgo;  // clock of the last forget()
  std::map<std::vector<std::string>, Totals> totals;
  std::set<std::vector<std::string>> changed_totals;
  std::map<std::vector<std::string>, SampleLines> samples;
  std::size_t sample_bytes = 0;
  bool meta_changed = true;
};

struct RuleSlot {
  Fingerprint identity = 0;
  std::unique_ptr<RuleState> state;
  std::vector<std::uint32_t> patterns;
  std::vector<std::uint32_t> sources;
  std::string source_set;
  std::map<Labels, Labels> labels_of;  // of an alert, as they were when it became pending, by its element's
  bool dirty = true;
  bool late = false;
  RuleInputs inputs;  // of the last advance
  bool live = false;
  std::optional<Timestamp> next;
  std::optional<Timestamp> unknown_since;  // wall time
  std::uint64_t failures_seen = 0;
};

struct SourceState {
  SourceStatus status;
  bool seen = false;
  std::optional<Timestamp> unreadable_since;  // wall time
  std::optional<Timestamp> heard_at;          // wall time of the last line, or of the start
};

struct BuiltIn {
  Alert alert;
};

}  // namespace

struct Pipeline::Impl {
  std::shared_ptr<const rules::Plan> plan;
  std::vector<PatternState> patterns;
  std::vector<RuleSlot> rules;
  std::vector<SourceState> sources;
  std::unique_ptr<Dispatcher> dispatcher;
  std::map<Fingerprint, std::pair<std::size_t, Labels>> active;  // of firing alerts: rule and element
  std::map<std::string, Alert> built_in;                         // firing, by alertname and labels
  struct Known {
    Condition condition;
    Timestamp since;
  };
  std::map<std::string, Known> conditions;
  std::map<std::string, MetricValue> counters;  // by name and labels; those of patterns are in patterns
  std::set<std::string> changed_counters;
  std::map<std::string, Timestamp> clocks;  // by set of sources: as last written
  std::vector<StoredEntry> pending_entries;
  std::vector<rules::Transition> pending_transitions;
  std::vector<rules::Transition> ended_by_plan;
  Timestamp caused_at = rules::kLongAgo;
  Timestamp last_now = rules::kLongAgo;
  std::optional<Timestamp> next_built_in;
  bool cannot_be_read_again = false;
  bool first_tick = true;

  Impl(std::shared_ptr<const rules::Plan> with, const std::vector<StoredEntry>& restored)
      : plan(std::move(with)) {
    build();
    dispatcher = std::make_unique<Dispatcher>(*plan);
    dispatcher->set_first_start(restored.empty());
    restore(restored);
  }

  WindowOf window_of() {
    return [this](std::uint32_t index) -> const PatternWindow& { return patterns[index].window; };
  }

  void build() {
    std::vector<Duration> longest(plan->patterns.size(), Duration(0));
    std::vector<std::vector<std::size_t>> used_by(plan->patterns.size());
    for (std::size_t i = 0; i < plan->rules.size(); ++i) {
      for (const rules::Expr* call : rules::range_calls(*plan->rules[i].expr)) {
        longest[call->pattern_index] = std::max(longest[call->pattern_index], call->window);
        auto& users = used_by[call->pattern_index];
        if (users.empty() || users.back() != i) users.push_back(i);
      }
    }
    patterns.clear();
    patterns.reserve(plan->patterns.size());
    for (std::size_t i = 0; i < plan->patterns.size(); ++i) {
      const rules::PatternSpec& spec = plan->patterns[i];
      patterns.emplace_back(spec.identity(), PatternWindow(spec, longest[i]), used_by[i]);
      // Series that are known to exist are metrics from the start.
      if (spec.labels.empty()) total(i, {});
      for (const Labels& expected : spec.expect) {
        std::vector<std::string> values;
        for (const std::string& name : spec.labels)
          values.emplace_back(expected.get(name));
        total(i, values);
      }
    }
    rules.clear();
    for (const rules::AlertingRule& rule : plan->rules) {
      RuleSlot slot;
      slot.identity = rule.identity();
      slot.state = std::make_unique<RuleState>(rule, window_of());
      for (const rules::Expr* call : rules::range_calls(*rule.expr))
        slot.patterns.push_back(call->pattern_index);
      slot.sources = rule.sources;
      std::vector<std::string> names;
      for (const std::uint32_t source : rule.sources)
        names.push_back(plan->sources[source].name);
      std::sort(names.begin(), names.end());
      slot.source_set = fmt::format("{}", fmt::join(names, "\n"));
      rules.push_back(std::move(slot));
    }
    sources.assign(plan->sources.size(), SourceState{});
  }

  Totals& total(std::size_t pattern, const std::vector<std::string>& values) {
    PatternState& state = patterns[pattern];
    const auto [at, is_new] = state.totals.try_emplace(values);
    if (is_new) {
      const auto& metric = plan->patterns[pattern].metric;
      if (metric) at->second.buckets.assign(metric->buckets.size(), 0);
      state.changed_totals.insert(values);
    }
    return at->second;
  }

  // --- restore

  void restore(const std::vector<StoredEntry>& entries) {
    dispatcher->restore(entries);
    std::map<std::string, std::vector<std::size_t>> patterns_by;
    for (std::size_t i = 0; i < patterns.size(); ++i)
      patterns_by[hex(patterns[i].identity)].push_back(i);
    std::map<std::string, std::vector<std::size_t>> rules_by;
    for (std::size_t i = 0; i < rules.size(); ++i)
      rules_by[hex(rules[i].identity)].push_back(i);
    std::set<std::string> known_patterns;
    std::map<std::string, Duration> stored_longest;

    for (const StoredEntry& entry : entries) {
      if (!entry.value) continue;
      if (const auto clock_of = after(entry.key, "core/clock/")) {
        std::int64_t ms = 0;
        std::from_chars(entry.value->data(), entry.value->data() + entry.value->size(), ms);
        clocks[std::string(*clock_of)] = rules::from_unix_ms(ms);
      } else if (const auto counter = after(entry.key, "core/n/")) {
        const auto json = Json::parse(*entry.value);
        if (!json) continue;
        MetricValue value{std::string((*json)["name"].string()), read_labels((*json)["labels"]),
                          rules::parse_number((*json)["value"].string())};
        counters[std::string(*counter)] = std::move(value);
      } else if (const auto total_of = after(entry.key, "core/t/")) {
        const std::string identity(total_of->substr(0, 16));
        const auto found = patterns_by.find(identity);
        const auto values = Json::parse(total_of->substr(std::min<std::size_t>(17, total_of->size())));
        if (found == patterns_by.end() || !values) {
          pending_entries.push_back({entry.key, std::nullopt});
          continue;
        }
        std::vector<std::string> list;
        for (const Json& value : values->array())
          list.emplace_back(value.string());
        for (const std::size_t i : found->second) {
          const auto& metric = plan->patterns[i].metric;
          if (list.size() == plan->patterns[i].labels.size())
            patterns[i].totals[list] = Totals::parse(*entry.value, metric ? metric->buckets.size() : 0);
        }
      } else if (const auto meta = after(entry.key, "core/p/")) {
        const auto found = patterns_by.find(std::string(*meta));
        const auto json = Json::parse(*entry.value);
        if (found == patterns_by.end() || !json) {
          pending_entries.push_back({entry.key, std::nullopt});
          continue;
        }
        known_patterns.insert(std::string(*meta));
        stored_longest[std::string(*meta)] = Duration((*json)["longest"].integer());
        for (const std::size_t i : found->second) {
          patterns[i].since = rules::from_unix_ms((*json)["since"].integer());
          patterns[i].meta_changed = false;
        }
      } else if (const auto window = after(entry.key, "core/w/")) {
        const std::string identity(window->substr(0, 16));
        const auto found = patterns_by.find(identity);
        if (found == patterns_by.end()) {
          pending_entries.push_back({entry.key, std::nullopt});
          continue;
        }
        for (const std::size_t i : found->second)
          patterns[i].window.restore("core/w/" + identity + "/", entry);
      } else if (const auto alert = after(entry.key, "core/a/")) {
        const auto found = rules_by.find(std::string(alert->substr(0, 16)));
        const auto json = Json::parse(*entry.value);
        if (found == rules_by.end() || !json) {
          pending_entries.push_back({entry.key, std::nullopt});
          continue;
        }
        for (const std::size_t i : found->second) {
          ActiveAlert restored = active_alert_from_json((*json)["active"]);
          const Labels element = restored.labels;
          const Labels labels = read_labels((*json)["labels"]);
          rules[i].labels_of[element] = labels;
          if (restored.state == AlertState::kFiring) active[labels.fingerprint()] = {i, element};
          rules[i].state->alerts().restore(std::move(restored));
        }
      } else if (after(entry.key, "core/b/")) {
        const auto json = Json::parse(*entry.value);
        if (!json) continue;
        const auto parsed = rules::alert_from_json(*json);
        if (parsed) built_in[entry.key] = *parsed;
      } else if (after(entry.key, "core/k/")) {
        const auto json = Json::parse(*entry.value);
        if (!json) continue;
        Condition condition;
        condition.alertname = (*json)["alertname"].string();
        condition.labels = read_labels((*json)["labels"]);
        condition.summary = (*json)["summary"].string();
        condition.severity = (*json)["severity"].string();
        if (condition.alertname == "SinkDead")
          dispatcher->set_sink_dead(std::string(condition.labels.get("sink")), true);
        conditions[entry.key] = {std::move(condition), rules::from_unix_ms((*json)["since"].integer())};
      }
    }
    for (RuleSlot& rule : rules) {
      const auto clock = clocks.find(rule.source_set);
      if (clock != clocks.end()) rule.state->restore_clock(clock->second);
      rule.late = true;  // a change that waited for knowledge is looked at again
      rule.failures_seen = rule.state->failures();
    }
    if (entries.empty()) return;
    for (PatternState& pattern : patterns) {
      const Timestamp present = pattern_clock(pattern);
      const std::string identity = hex(pattern.identity);
      if (present == rules::kLongAgo) continue;
      if (known_patterns.count(identity) == 0) {
        // New since the last run: what was read before was not looked at with it.
        pattern.since = present;
        pattern.meta_changed = true;
      } else if (stored_longest[identity] < pattern.window.longest()) {
        pattern.since = std::max(pattern.since, present - stored_longest[identity]);
        pattern.meta_changed = true;
      } else if (stored_longest[identity] != pattern.window.longest()) {
        pattern.meta_changed = true;
      }
    }
  }

  // The slowest clock of the rules that look at a pattern.
  Timestamp pattern_clock(const PatternState& pattern) const {
    Timestamp clock = Timestamp::max();
    for (const std::size_t i : pattern.used_by)
      clock = std::min(clock, rules[i].state->clock());
    return pattern.used_by.empty() ? rules::kLongAgo : clock;
  }

  // --- ingest

  void ingest(const MatchBatch& batch) {
    LOGBELL_CHECK(batch.generation == plan->generation);
    if (!batch.matches.empty()) caused_at = std::max(caused_at, batch.read_at);
    for (const TimedMatch& match : batch.matches)
      count(match, batch);
    for (const SourceStatus& status : batch.sources)
      sources[status.source].status = status, sources[status.source].seen = true;
    for (const CounterDelta& delta : batch.counters)
      add(delta.name, delta.labels, delta.by);
    pending_entries.insert(pending_entries.end(), batch.positions.begin(), batch.positions.end());
    cannot_be_read_again = cannot_be_read_again || batch.cannot_be_read_again;
  }

  void add(const std::string& name, const Labels& labels, double by) {
    const std::string key = name + labels.format();
    const auto [at, is_new] = counters.try_emplace(key, MetricValue{name, labels, 0});
    at->second.value += by;
    if (is_new || by != 0) changed_counters.insert(key);
  }

  void count(const TimedMatch& match, const MatchBatch& batch) {
    PatternState& pattern = patterns[match.pattern];
    const rules::PatternSpec& spec = plan->patterns[match.pattern];
    bool dropped = false;
    std::vector<std::string> values = match.labels;
    if (pattern.totals.count(values) == 0 && pattern.totals.size() >= spec.max_series) {
      values.assign(spec.labels.size(), std::string(PatternWindow::kOverflow));
      dropped = true;
    }
    Totals& totals = total(match.pattern, values);
    totals.count += 1;
    if (!std::isnan(match.value)) {
      totals.sum += match.value;
      totals.last = match.value;
      if (spec.metric) {
        for (std::size_t i = 0; i < totals.buckets.size(); ++i) {
          if (match.value <= spec.metric->buckets[i]) totals.buckets[i] += 1;
        }
      }
    }
    pattern.changed_totals.insert(values);

    if (!pattern.used_by.empty()) {
      const PatternWindow::Added added = pattern.window.add(match.labels, match.at, 1);
      dropped = dropped || added.overflowed;
      if (added.full) {
        // Never silently approximate: from here on nothing is known of this pattern until its window is.
        pattern.was_full = true;
        add("logbell_window_full_total", Labels{{"pattern", spec.name}}, 1);
      }
      keep_line(pattern, match, batch);
      for (const std::size_t i : pattern.used_by) {
        rules[i].dirty = true;
        if (match.at <= rules[i].state->clock()) rules[i].late = true;
      }
    }
    if (dropped) add("logbell_series_dropped_total", Labels{{"pattern", spec.name}}, 1);
  }

  void keep_line(PatternState& pattern, const TimedMatch& match, const MatchBatch& batch) {
    if (match.line >= batch.lines.size()) return;
    const std::string& line = batch.lines[match.line];
    auto found = pattern.samples.find(match.labels);
    if (found == pattern.samples.end()) {
      if (pattern.sample_bytes >= kMaxSampleMemory) return;
      found = pattern.samples.try_emplace(match.labels).first;
    }
    SampleLines& lines = found->second;
    const Duration longest = pattern.window.longest();
    // What no window can cover any more is not the first line of anything.
    while (!lines.anchors.empty() && lines.anchors.front().first <= match.at - longest) {
      pattern.sample_bytes -= lines.anchors.front().second.size();
      lines.anchors.erase(lines.anchors.begin());
    }
    const bool spread = lines.anchors.empty() ||
                        match.at - lines.anchors.back().first >= longest / static_cast<int>(kAnchors);
    if (spread && lines.anchors.size() <= kAnchors && pattern.sample_bytes < kMaxSampleMemory) {
      lines.anchors.emplace_back(match.at, line);
      pattern.sample_bytes += line.size();
    }
    if (lines.last.empty() || match.at >= lines.last_at) {
      pattern.sample_bytes -= lines.last.size();
      pattern.sample_bytes += line.size();
      lines.last_at = match.at;
      lines.last = line;
    }
  }

  // --- alerts

  Labels alert_labels(const rules::AlertingRule& rule, const ActiveAlert& active_alert) const {
    Labels labels = active_alert.labels;
    const Labels seen = plan->external_labels.merged(active_alert.labels);
    for (const auto& [name, value] : rule.labels)
      labels.set(name, value.render(seen, plan->external_labels, active_alert.value));
    labels.set("alertname", rule.name);
    return plan->external_labels.merged(labels);
  }

  Alert make_alert(std::size_t i, const ActiveAlert& active_alert, AlertState state, Timestamp at) const {
    const rules::AlertingRule& rule = plan->rules[i];
    Alert alert;
    const auto known = rules[i].labels_of.find(active_alert.labels);
    alert.labels = known == rules[i].labels_of.end() ? alert_labels(rule, active_alert) : known->second;
    alert.state = state;
    alert.value = active_alert.value;
    alert.active_at = active_alert.active_at;
    alert.fired_at = active_alert.fired_at;
    if (state == AlertState::kResolved) alert.resolved_at = at;
    alert.expr = rule.expr_text;
    for (const auto& [name, text] : rule.annotations)
      alert.annotations.emplace_back(
          name, rules::redact(text.render(alert.labels.merged(active_alert.labels), plan->external_labels,
                                          active_alert.value)));
    // What is only pending is shown to nobody with its lines: redacting them for each would be wasted.
    if (state == AlertState::kFiring || state == AlertState::kResolved)
      describe(i, active_alert.labels, at, alert);
    return alert;
  }

  // Whether a series can be part of the element with these labels.
  static bool belongs(const rules::PatternSpec& spec, const std::vector<std::string>& values,
                      const rules::Expr& call, const Labels& element) {
    for (std::size_t k = 0; k < spec.labels.size(); ++k) {
      if (element.has(spec.labels[k]) && element.get(spec.labels[k]) != values[k]) return false;
    }
    return std::all_of(call.matchers.begin(), call.matchers.end(), [&](const rules::LabelMatcher& matcher) {
      const auto name = std::find(spec.labels.begin(), spec.labels.end(), matcher.name);
      return name == spec.labels.end() ||
             matcher.matches(values[static_cast<std::size_t>(name - spec.labels.begin())]);
    });
  }

  // The first and last matching lines, and the most frequent values of labels that were summed away.
  void describe(std::size_t i, const Labels& element, Timestamp at, Alert& alert) const {
    const auto sample = [](Timestamp when, const std::string& line) {
      return rules::SampleLine{when, rules::clean_text(rules::redact(line), rules::kMaxSampleBytes)};
    };
    std::pair<Timestamp, const std::string*> first{Timestamp::max(), nullptr};
    std::pair<Timestamp, const std::string*> last{rules::kLongAgo, nullptr};
    std::map<std::string, std::map<std::string, std::uint64_t>> summed;
    for (const rules::Expr* call : rules::range_calls(*plan->rules[i].expr)) {
      const PatternState& pattern = patterns[call->pattern_index];
      const rules::PatternSpec& spec = plan->patterns[call->pattern_index];
      for (const auto& [values, lines] : pattern.samples) {
        if (!belongs(spec, values, *call, element)) continue;
        for (const auto& [when, line] : lines.anchors) {
          if (when > at - call->window && when <= at && when < first.first) first = {when, &line};
        }
        if (lines.last_at > at - call->window && lines.last_at <= at && lines.last_at > last.first)
          last = {lines.last_at, &lines.last};
      }
      for (const auto& [values, series] : pattern.window.series()) {
        if (values.empty() || !belongs(spec, values, *call, element)) continue;
        const std::uint64_t matches = series.times.count(at - call->window, at);
        if (matches == 0) continue;
        for (std::size_t k = 0; k < spec.labels.size(); ++k) {
          if (!element.has(spec.labels[k]) && !values[k].empty())
            summed[spec.labels[k]][values[k]] += matches;
        }
      }
    }
    if (first.second != nullptr) alert.first_line = sample(first.first, *first.second);
    if (last.second != nullptr) alert.last_line = sample(last.first, *last.second);
    for (const auto& [label, counts] : summed) {
      std::vector<std::pair<std::string, std::uint64_t>> top(counts.begin(), counts.end());
      std::stable_sort(top.begin(), top.end(),
                       [](const auto& a, const auto& b) { return a.second > b.second; });
      if (top.size() > kTopValues) top.resize(kTopValues);
      for (auto& [value, matches] : top)
        value = rules::clean_text(rules::redact(value), rules::kMaxLabelBytes);
      alert.top_values.emplace_back(label, std::move(top));
    }
  }

  bool renew(Alert& alert) const {
    const auto found = active.find(alert.fingerprint());
    if (found == active.end()) return alert.built_in;
    const auto& [i, element] = found->second;
    const auto& all = rules[i].state->alerts().all();
    const auto at = all.find(element);
    if (at == all.end()) return false;
    Alert fresh = make_alert(i, at->second, AlertState::kFiring, rules[i].state->clock());
    // The line that began it stays, when the window has moved on.
    if (alert.first_line) fresh.first_line = alert.first_line;
    if (!fresh.last_line) fresh.last_line = alert.last_line;
    if (fresh.top_values.empty()) fresh.top_values = alert.top_values;
    alert = std::move(fresh);
    return true;
  }

  // --- tick

  static Timestamp source_clock(const SourceState& source, Timestamp now) {
    const SourceStatus& status = source.status;
    // From before the wall clock was set back: it says nothing of now.
    const Timestamp watermark = status.watermark > now + kMaxAhead ? rules::kLongAgo : status.watermark;
    return status.read_to_end_at ? std::max(watermark, std::min(*status.read_to_end_at, now)) : watermark;
  }

  RuleInputs inputs_of(const RuleSlot& rule, Timestamp now, bool& live) const {
    RuleInputs inputs;
    inputs.clock = Timestamp::max();
    inputs.watched_from = rules::kLongAgo;
    live = true;
    for (const std::uint32_t index : rule.sources) {
      const SourceState& source = sources[index];
      const bool readable = source.seen && source.status.readable && !source.status.stalled;
      inputs.readable = inputs.readable && readable;
      // Not heard of yet: nothing moves until every source has said how far it is.
      if (!source.seen) {
        inputs.clock = rules::kLongAgo;
        live = false;
      }
      if (readable) {
        inputs.clock = std::min(inputs.clock, source_clock(source, now));
        live = live && source.status.read_to_end_at.has_value();
      }
      if (!source.status.watched_from) {
        inputs.watched_from = std::nullopt;
      } else if (inputs.watched_from) {
        inputs.watched_from = std::max(*inputs.watched_from, *source.status.watched_from);
      }
      if (plan->sources[index].max_silence) {
        inputs.resolve_up_to =
            std::min(inputs.resolve_up_to.value_or(Timestamp::max()), source.status.watermark);
      }
    }
    for (const std::uint32_t pattern : rule.patterns) {
      if (inputs.watched_from) inputs.watched_from = std::max(*inputs.watched_from, patterns[pattern].since);
    }
    if (inputs.clock == Timestamp::max()) inputs.clock = rules::kLongAgo;
    return inputs;
  }

  static bool same_knowledge(const RuleInputs& a, const RuleInputs& b) {
    return a.watched_from == b.watched_from && a.readable == b.readable && a.resolve_up_to == b.resolve_up_to;
  }

  void to_transitions(std::size_t i, const std::vector<Step>& steps, std::string_view reason = {}) {
    RuleSlot& rule = rules[i];
    for (const Step& step : steps) {
      if (step.to == AlertState::kPending)
        rule.labels_of[step.alert.labels] = alert_labels(plan->rules[i], step.alert);
      rules::Transition transition{step.from, step.to, step.at, make_alert(i, step.alert, step.to, step.at)};
      transition.alert.resolve_reason = reason;
      const Fingerprint fingerprint = transition.alert.fingerprint();
      if (step.to == AlertState::kFiring) active[fingerprint] = {i, step.alert.labels};
      if (step.to == AlertState::kResolved) active.erase(fingerprint);
      if (step.to == AlertState::kResolved || step.to == AlertState::kInactive)
        rule.labels_of.erase(step.alert.labels);
      pending_transitions.push_back(std::move(transition));
      transition_rules.emplace_back(rule.identity);
    }
  }
  std::vector<std::optional<Fingerprint>> transition_rules;  // parallel to pending_transitions

  // Timers of people run on the wall clock: none waits for a moment that was near before the step.
  void set_back_timers(Timestamp now) {
    dispatcher->set_back(now);
    const auto clamp = [&](std::optional<Timestamp>& at) {
      if (at) at = std::min(*at, now);
    };
    for (SourceState& source : sources) {
      clamp(source.unreadable_since);
      clamp(source.heard_at);
      clamp(source.status.last_line_at);
    }
    for (RuleSlot& rule : rules)
      clamp(rule.unknown_since);
    for (auto& [key, known] : conditions)
      known.since = std::min(known.since, now);
  }

  void set_back(Timestamp now) {
    // The wall clock was set back: what was counted "in the future" is forgotten, and nothing is known of the
    // windows until they have been watched again.
    bool any = false;
    for (RuleSlot& rule : rules) {
      if (rule.state->clock() == rules::kLongAgo || rule.state->clock() <= now + kMaxAhead) continue;
      rule.state->rebase(now);
      rule.dirty = true;
      any = true;
      for (const std::uint32_t pattern : rule.patterns) {
        patterns[pattern].since = now;
        patterns[pattern].meta_changed = true;
      }
    }
    if (any) add("logbell_clock_setbacks_total", {}, 1);
  }

  Tick tick(Timestamp now) {
    if (last_now != rules::kLongAgo && now + kMaxAhead < last_now) set_back_timers(now);
    last_now = now;
    set_back(now);
    for (std::size_t i = 0; i < rules.size(); ++i)
      advance(i, now);
    if (first_tick) reconcile(now);
    first_tick = false;
    update_built_in(now);

    Tick tick;
    tick.now = now;
    dispatch(now, tick);
    for (PatternState& pattern : patterns)
      forget(pattern);
    save(tick);
    tick.must_sync =
        (cannot_be_read_again && !tick.entries.empty()) ||
        std::any_of(tick.transitions.begin(), tick.transitions.end(),
                    [](const rules::Transition& t) {
                      return t.to == AlertState::kFiring || t.to == AlertState::kResolved;
                    }) ||
        std::any_of(tick.notifications.begin(), tick.notifications.end(),
                    [](const rules::Notification& n) { return n.reason != rules::NotifyReason::kRefresh; });
    cannot_be_read_again = false;
    return tick;
  }

  void advance(std::size_t i, Timestamp now) {
    RuleSlot& rule = rules[i];
    bool live = false;
    const RuleInputs inputs = inputs_of(rule, now, live);
    const bool quiet = !rule.dirty && !rule.late && !rule.state->held() &&
                       rule.state->clock() != rules::kLongAgo && same_knowledge(inputs, rule.inputs) &&
                       (!rule.next || *rule.next > inputs.clock);
    rule.live = live;
    if (quiet) {
      rule.inputs = inputs;
      rule.state->skip_to(inputs.clock);
      return;
    }
    std::vector<Step> steps;
    // Nobody watched for longer than a replay would tell of: what was only pending starts anew.
    if (inputs.watched_from && rule.state->clock() != rules::kLongAgo &&
        *inputs.watched_from > rule.state->clock() &&
        *inputs.watched_from - rule.state->clock() > plan->max_replay_age &&
        *inputs.watched_from <= inputs.clock)
      rule.state->alerts().drop_pending(*inputs.watched_from, steps);
    rule.state->advance(inputs, rule.late, steps);
    rule.dirty = rule.late = false;
    rule.inputs = inputs;
    rule.next = rule.state->next_instant(inputs);
    to_transitions(i, steps);
    if (rule.state->failures() != rule.failures_seen) {
      add("logbell_rule_evaluation_failures_total", Labels{{"alertname", plan->rules[i].name}},
          static_cast<double>(rule.state->failures() - rule.failures_seen));
      rule.failures_seen = rule.state->failures();
    }
  }

  bool is_caught_up(const RuleSlot& rule, Timestamp now) const {
    return rule.live || rule.state->clock() >= now - plan->max_replay_age;
  }

  void dispatch(Timestamp now, Tick& tick) {
    std::map<Fingerprint, const RuleSlot*> slots;
    for (const RuleSlot& rule : rules)
      slots[rule.identity] = &rule;
    const auto caught_up = [&](Fingerprint identity) {
      const auto found = slots.find(identity);
      return found == slots.end() || is_caught_up(*found->second, now);
    };
    const auto renew_alert = [this](Alert& alert) { return renew(alert); };

    std::vector<std::size_t> order(pending_transitions.size());
    for (std::size_t i = 0; i < order.size(); ++i)
      order[i] = i;
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      return pending_transitions[a].at < pending_transitions[b].at;
    });
    std::set<Fingerprint> fired;
    for (const std::size_t i : order) {
      const rules::Transition& transition = pending_transitions[i];
      const Fingerprint fingerprint = transition.alert.fingerprint();
      // It fired and ended within this tick: whoever would be told at once is told of both.
      if (transition.to == AlertState::kResolved && fired.count(fingerprint) != 0)
        dispatcher->flush(
            now, [](Alert&) { return false; }, tick.notifications);
      if (transition.to == AlertState::kFiring) fired.insert(fingerprint);
      const auto& rule = transition_rules[i];
      dispatcher->insert(transition, rule, !rule || caught_up(*rule),
                         caused_at == rules::kLongAgo ? now : caused_at, now);
    }
    const bool everything = std::all_of(rules.begin(), rules.end(),
                                        [&](const RuleSlot& rule) { return is_caught_up(rule, now); });
    dispatcher->release(caught_up, everything, now);
    dispatcher->flush(now, renew_alert, tick.notifications);
    for (const std::size_t i : order)
      tick.transitions.push_back(std::move(pending_transitions[i]));
    pending_transitions.clear();
    transition_rules.clear();
    caused_at = rules::kLongAgo;
  }

  // What groups still hold as firing and no rule or condition knows any more has ended with its rule.
  void reconcile(Timestamp now) {
    for (Alert alert : dispatcher->firing()) {
      const bool known = alert.built_in
                             ? std::any_of(built_in.begin(), built_in.end(),
                                           [&](const auto& entry) {
                                             return entry.second.fingerprint() == alert.fingerprint();
                                           })
                             : active.count(alert.fingerprint()) != 0;
      if (known) continue;
      alert.state = AlertState::kResolved;
      alert.resolved_at = now;
      alert.resolve_reason = "rule removed";
      pending_transitions.push_back({AlertState::kFiring, AlertState::kResolved, now, std::move(alert)});
      transition_rules.emplace_back(std::nullopt);
    }
  }

  // --- built-in alerts

  struct Wanted {
    std::string name;
    Labels labels;
    std::string summary;
    std::string severity;
  };

  static std::string condition_key(const std::string& name, const Labels& labels) {
    return name + labels.format();
  }

  void update_built_in(Timestamp now) {
    next_built_in.reset();
    const auto later = [&](Timestamp at) {
      if (at > now && (!next_built_in || at < *next_built_in)) next_built_in = at;
    };
    std::vector<Wanted> wanted;
    for (std::size_t i = 0; i < sources.size(); ++i) {
      SourceState& source = sources[i];
      const rules::SourceSpec& spec = plan->sources[i];
      const Labels labels{{"source", spec.name}};
      if (!source.heard_at) source.heard_at = now;
      if (source.status.last_line_at) source.heard_at = source.status.last_line_at;
      const bool readable = source.seen && source.status.readable;
      if (readable) {
        source.unreadable_since.reset();
      } else if (!source.unreadable_since) {
        source.unreadable_since = now;
      }
      const std::string where =
          spec.is_stdin ? "standard input" : fmt::format("{}", fmt::join(spec.files, ", "));
      if (source.unreadable_since && now - *source.unreadable_since >= kUnreadableFor) {
        wanted.push_back(
            {"InputSilent", labels,
             fmt::format("source {} has had no readable file ({}) since {}: its rules see nothing", spec.name,
                         where, rules::format_rfc3339(*source.unreadable_since)),
             "critical"});
      } else if (spec.max_silence && now - *source.heard_at >= *spec.max_silence) {
        wanted.push_back(
            {"InputSilent", labels,
             fmt::format("source {} ({}) has not written a line since {} (max_silence: {})", spec.name, where,
                         rules::format_rfc3339(*source.heard_at), rules::format_duration(*spec.max_silence)),
             "critical"});
      } else {
        if (source.unreadable_since) later(*source.unreadable_since + kUnreadableFor);
        if (spec.max_silence) later(*source.heard_at + *spec.max_silence);
      }
      if (source.status.timestamp_offset != Duration(0)) {
        wanted.push_back(
            {"TimestampSkew", labels,
             fmt::format("the lines of source {} carry times that are steadily {} {} their arrival: set "
                         "`timestamp: {{location: …}}` or mend its clock",
                         spec.name,
                         rules::format_duration(Duration(std::abs(source.status.timestamp_offset.count()))),
                         source.status.timestamp_offset.count() < 0 ? "behind" : "ahead of"),
             "warning"});
      }
    }
    for (std::size_t i = 0; i < rules.size(); ++i) {
      RuleSlot& rule = rules[i];
      const rules::AlertingRule& written = plan->rules[i];
      if (!rule.state->unknown(rule.inputs)) {
        rule.unknown_since.reset();
        continue;
      }
      if (!rule.unknown_since) rule.unknown_since = now;
      const Timestamp due = *rule.unknown_since + 2 * rules::longest_window(*written.expr);
      if (now < due) {
        later(due);
        continue;
      }
      wanted.push_back({"RuleUnknown", Labels{{"rule", written.name}},
                        fmt::format("rule {} has been unknown since {}: {}", written.name,
                                    rules::format_rfc3339(*rule.unknown_since), unknown_reason(rule)),
                        "warning"});
    }
    for (std::size_t i = 0; i < patterns.size(); ++i) {
      if (!patterns[i].window.overflowing()) continue;
      wanted.push_back(
          {"SeriesOverflow", Labels{{"pattern", plan->patterns[i].name}},
           fmt::format("pattern {} has more than {} label combinations: what comes on top is counted "
                       "as {}",
                       plan->patterns[i].name, plan->patterns[i].max_series, PatternWindow::kOverflow),
           "warning"});
    }
    for (auto at = conditions.begin(); at != conditions.end();) {
      const Known& known = at->second;
      if (known.condition.alertname == "StateLost") {
        if (now - known.since >= kStateLostShown) {
          pending_entries.push_back({at->first, std::nullopt});
          at = conditions.erase(at);
          continue;
        }
        later(known.since + kStateLostShown);
      }
      wanted.push_back({known.condition.alertname, known.condition.labels, known.condition.summary,
                        known.condition.severity});
      ++at;
    }

    std::set<std::string> holds;
    for (const Wanted& want : wanted) {
      const std::string key = "core/b/" + condition_key(want.name, want.labels);
      holds.insert(key);
      const auto found = built_in.find(key);
      if (found != built_in.end()) continue;
      Alert alert;
      Labels labels = want.labels;
      labels.set("alertname", want.name);
      labels.set("severity", want.severity);
      alert.labels = plan->external_labels.merged(labels);
      alert.annotations.emplace_back("summary", want.summary);
      alert.state = AlertState::kFiring;
      alert.value = 1;
      alert.active_at = alert.fired_at = now;
      alert.built_in = true;
      built_in[key] = alert;
      pending_entries.push_back({key, rules::to_json(alert).dump()});
      pending_transitions.push_back({AlertState::kInactive, AlertState::kFiring, now, std::move(alert)});
      transition_rules.emplace_back(std::nullopt);
    }
    for (auto at = built_in.begin(); at != built_in.end();) {
      if (holds.count(at->first) != 0) {
        ++at;
        continue;
      }
      Alert alert = at->second;
      alert.state = AlertState::kResolved;
      alert.resolved_at = now;
      pending_entries.push_back({at->first, std::nullopt});
      pending_transitions.push_back({AlertState::kFiring, AlertState::kResolved, now, std::move(alert)});
      transition_rules.emplace_back(std::nullopt);
      at = built_in.erase(at);
    }
  }

  std::string unknown_reason(const RuleSlot& rule) const {
    for (const std::uint32_t index : rule.sources) {
      const SourceState& source = sources[index];
      const std::string& name = plan->sources[index].name;
      if (!source.seen || !source.status.readable) return fmt::format("source {} has no readable file", name);
      if (source.status.stalled) return fmt::format("source {} is behind and does not get on", name);
      if (!source.status.watched_from) return fmt::format("source {} is not read yet", name);
    }
    if (!rule.inputs.watched_from || rule.state->clock() == rules::kLongAgo)
      return "nothing has been read yet";
    const Duration longest = rules::longest_window(*rule.state->rule().expr);
    const Duration watched = std::max(Duration(0), Duration(rule.state->clock() - *rule.inputs.watched_from));
    return fmt::format("its windows have been watched for {} of {}",
                       rules::format_duration(std::min(watched, longest)), rules::format_duration(longest));
  }

  void set_condition(const Condition& condition, Timestamp now) {
    const std::string key = "core/k/" + condition_key(condition.alertname, condition.labels);
    if (!condition.active) {
      if (conditions.erase(key) != 0) pending_entries.push_back({key, std::nullopt});
      return;
    }
    if (conditions.count(key) != 0) return;
    conditions[key] = {condition, now};
    Json json;
    json.set("alertname", condition.alertname).set("labels", labels_json(condition.labels));
    json.set("summary", condition.summary).set("severity", condition.severity);
    json.set("since", rules::to_unix_ms(now));
    pending_entries.push_back({key, json.dump()});
  }

  // --- memory and storage

  void forget(PatternState& pattern) {
    const Timestamp clock = pattern_clock(pattern);
    if (pattern.used_by.empty() || clock == rules::kLongAgo) return;
    if (pattern.was_full && !pattern.window.full()) {
      pattern.was_full = false;
      pattern.since = clock;
      pattern.meta_changed = true;
    }
    if (pattern.was_full && pattern.since < clock) {
      pattern.since = clock;
      pattern.meta_changed = true;
    }
    const Duration step = std::max<Duration>(std::chrono::seconds(1), pattern.window.longest() / 16);
    if (pattern.forgotten_at != rules::kLongAgo && clock - pattern.forgotten_at < step &&
        clock >= pattern.forgotten_at)
      return;
    pattern.forgotten_at = clock;
    std::set<std::vector<std::string>> in_use;
    const rules::PatternSpec& spec = pattern.window.spec();
    if (!spec.labels.empty()) {
      for (const std::size_t i : pattern.used_by) {
        for (const auto& [element, alert] : rules[i].state->alerts().all()) {
          for (const auto& [values, series] : pattern.window.series()) {
            bool fits = true;
            for (std::size_t k = 0; k < spec.labels.size(); ++k)
              fits = fits && (!element.has(spec.labels[k]) || element.get(spec.labels[k]) == values[k]);
            if (fits) in_use.insert(values);
          }
        }
      }
    }
    pattern.window.forget(clock, in_use);
    for (auto it = pattern.samples.begin(); it != pattern.samples.end();) {
      if (pattern.window.series().count(it->first) != 0 &&
          it->second.last_at > clock - pattern.window.longest()) {
        ++it;
        continue;
      }
      for (const auto& anchor : it->second.anchors)
        pattern.sample_bytes -= anchor.second.size();
      pattern.sample_bytes -= it->second.last.size();
      it = pattern.samples.erase(it);
    }
    // A series that the window has forgotten is no metric any more either; the next match begins at 1.
    if (!spec.labels.empty()) {
      for (auto it = pattern.totals.begin(); it != pattern.totals.end();) {
        const bool overflow = !it->first.empty() && it->first.front() == PatternWindow::kOverflow;
        if (overflow || pattern.window.series().count(it->first) != 0) {
          ++it;
          continue;
        }
        pattern.changed_totals.insert(it->first);
        it = pattern.totals.erase(it);
      }
    }
  }

  void save(Tick& tick) {
    tick.entries = std::move(pending_entries);
    pending_entries.clear();
    for (std::size_t i = 0; i < patterns.size(); ++i) {
      PatternState& pattern = patterns[i];
      const std::string identity = hex(pattern.identity);
      pattern.window.save("core/w/" + identity + "/", tick.entries);
      for (const auto& values : pattern.changed_totals) {
        const auto found = pattern.totals.find(values);
        const std::string key = fmt::format("core/t/{}/{}", identity, values_json(values).dump());
        if (found == pattern.totals.end()) {
          tick.entries.push_back({key, std::nullopt});
          continue;
        }
        tick.entries.push_back({key, found->second.format()});
        pattern_metrics(i, values, found->second, tick.counters);
      }
      pattern.changed_totals.clear();
      if (pattern.meta_changed) {
        Json json;
        json.set("since", rules::to_unix_ms(pattern.since));
        json.set("longest", static_cast<std::int64_t>(pattern.window.longest().count()));
        tick.entries.push_back({"core/p/" + identity, json.dump()});
        pattern.meta_changed = false;
      }
    }
    for (RuleSlot& rule : rules) {
      for (const Labels& element : rule.state->alerts().take_changed()) {
        const std::string key = fmt::format("core/a/{}/{}", hex(rule.identity), labels_json(element).dump());
        const auto found = rule.state->alerts().all().find(element);
        if (found == rule.state->alerts().all().end()) {
          tick.entries.push_back({key, std::nullopt});
          continue;
        }
        Json json;
        json.set("active", to_json(found->second)).set("labels", labels_json(rule.labels_of[element]));
        tick.entries.push_back({key, json.dump()});
      }
    }
    dispatcher->save(tick.entries);
    for (const std::string& key : changed_counters) {
      const MetricValue& value = counters.at(key);
      Json json;
      json.set("name", value.name).set("labels", labels_json(value.labels));
      json.set("value", rules::format_number(value.value));
      tick.entries.push_back({"core/n/" + key, json.dump()});
      tick.counters.push_back(value);
    }
    changed_counters.clear();
    // Rules of the same sources share their clock. It goes with every change, so that what was evaluated is
    // never evaluated at an older instant after a crash.
    if (!tick.entries.empty()) {
      std::map<std::string, Timestamp> now_at;
      for (const RuleSlot& rule : rules) {
        if (rule.state->clock() == rules::kLongAgo) continue;
        const auto [at, is_new] = now_at.try_emplace(rule.source_set, rule.state->clock());
        if (!is_new) at->second = std::max(at->second, rule.state->clock());
      }
      for (const auto& [set, clock] : now_at) {
        const auto written = clocks.find(set);
        if (written != clocks.end() && written->second == clock) continue;
        clocks[set] = clock;
        tick.entries.push_back({"core/clock/" + set, std::to_string(rules::to_unix_ms(clock))});
      }
    }
    for (const StoredEntry& entry : tick.entries)
      tick.bytes += entry.key.size() + (entry.value ? entry.value->size() : 0);
  }

  void pattern_metrics(std::size_t index, const std::vector<std::string>& values, const Totals& totals,
                       std::vector<MetricValue>& out) const {
    const rules::PatternSpec& spec = plan->patterns[index];
    Labels labels;
    for (std::size_t k = 0; k < values.size(); ++k)
      labels.set(spec.labels[k], values[k]);
    if (!spec.metric) {
      labels.set("pattern", spec.name);
      out.push_back({"logbell_pattern_matches_total", labels, totals.count});
      return;
    }
    const rules::MetricSpec& metric = *spec.metric;
    switch (metric.type) {
      case rules::MetricSpec::Type::kCounter:
        out.push_back({metric.name, labels, spec.value.empty() ? totals.count : totals.sum});
        break;
      case rules::MetricSpec::Type::kGauge:
        out.push_back({metric.name, labels, totals.last});
        break;
      case rules::MetricSpec::Type::kHistogram:
        for (std::size_t i = 0; i < metric.buckets.size() && i < totals.buckets.size(); ++i) {
          Labels bucket = labels;
          bucket.set("le", rules::format_number(metric.buckets[i]));
          out.push_back({metric.name + "_bucket", bucket, totals.buckets[i]});
        }
        {
          Labels bucket = labels;
          bucket.set("le", "+Inf");
          out.push_back({metric.name + "_bucket", bucket, totals.count});
        }
        out.push_back({metric.name + "_sum", labels, totals.sum});
        out.push_back({metric.name + "_count", labels, totals.count});
        break;
    }
  }

  // --- reload

  void replace_plan(std::shared_ptr<const rules::Plan> next, Timestamp now) {
    // Alerts of rules that are no more end; whoever was told hears of it.
    std::set<Fingerprint> kept;
    for (const rules::AlertingRule& rule : next->rules)
      kept.insert(rule.identity());
    for (std::size_t i = 0; i < rules.size(); ++i) {
      if (kept.count(rules[i].identity) != 0) continue;
      std::vector<Step> steps;
      const Timestamp at = rules[i].state->clock() == rules::kLongAgo ? now : rules[i].state->clock();
      rules[i].state->alerts().end_all(at, steps);
      to_transitions(i, steps, "rule removed");
      for (const Labels& element : rules[i].state->alerts().take_changed())
        pending_entries.push_back(
            {fmt::format("core/a/{}/{}", hex(rules[i].identity), labels_json(element).dump()), std::nullopt});
    }
    // Their groups are told with the old plan still in place; its transitions wait for the next tick.
    auto old_plan = plan;
    auto old_patterns = std::move(patterns);
    auto old_rules = std::move(rules);
    auto old_sources = std::move(sources);
    std::map<std::string, std::size_t> old_source_of;
    for (std::size_t i = 0; i < old_plan->sources.size(); ++i)
      old_source_of[old_plan->sources[i].name] = i;
    plan = std::move(next);
    build();
    for (std::size_t i = 0; i < sources.size(); ++i) {
      const auto old = old_source_of.find(plan->sources[i].name);
      if (old == old_source_of.end()) continue;
      sources[i] = old_sources[old->second];
      sources[i].status.source = static_cast<std::uint32_t>(i);
    }
    std::map<Fingerprint, std::size_t> old_pattern_of;
    for (std::size_t i = 0; i < old_patterns.size(); ++i)
      old_pattern_of.try_emplace(old_patterns[i].identity, i);
    std::map<Fingerprint, std::size_t> old_rule_of;
    for (std::size_t i = 0; i < old_rules.size(); ++i)
      old_rule_of.try_emplace(old_rules[i].identity, i);

    active.clear();
    for (std::size_t i = 0; i < rules.size(); ++i) {
      RuleSlot& rule = rules[i];
      const auto old = old_rule_of.find(rule.identity);
      if (old != old_rule_of.end()) {
        RuleSlot& before = old_rules[old->second];
        rule.state->restore_clock(before.state->clock());
        rule.labels_of = before.labels_of;
        rule.unknown_since = before.unknown_since;
        for (const auto& [element, alert] : before.state->alerts().all()) {
          rule.state->alerts().restore(alert);
          if (alert.state == AlertState::kFiring)
            active[rule.labels_of[element].fingerprint()] = {i, element};
        }
        continue;
      }
      // A new rule begins at its present: what happened before is not replayed as transitions of the past.
      bool live = false;
      rule.state->restore_clock(inputs_of(rule, now, live).clock);
      rule.late = true;
    }
    std::set<Fingerprint> adopted;
    for (PatternState& pattern : patterns) {
      const auto old = old_pattern_of.find(pattern.identity);
      const Timestamp present = pattern_clock(pattern);
      if (old == old_pattern_of.end() || !adopted.insert(pattern.identity).second) {
        pattern.since = present == rules::kLongAgo ? now : present;
        continue;
      }
      PatternState& before = old_patterns[old->second];
      const Duration old_longest = before.window.longest();
      pattern.since = before.since;
      if (before.used_by.empty()) {
        pattern.since = present == rules::kLongAgo ? now : present;
      } else if (old_longest < pattern.window.longest()) {
        const Timestamp seen = present == rules::kLongAgo ? now : present;
        pattern.since = std::max(pattern.since, seen - old_longest);
      }
      pattern.window.adopt(std::move(before.window));
      pattern.was_full = before.was_full;
      for (auto& [values, totals] : before.totals) {
        Totals& mine = pattern.totals[values];
        const std::size_t buckets = mine.buckets.size();
        mine = totals;
        if (buckets != 0) mine.buckets.resize(buckets, 0);
        pattern.changed_totals.insert(values);
      }
      pattern.samples = std::move(before.samples);
      pattern.sample_bytes = before.sample_bytes;
    }
    // What the old plan's patterns wrote and the new one does not know is erased.
    for (PatternState& pattern : old_patterns) {
      if (adopted.count(pattern.identity) != 0) continue;
      const std::string identity = hex(pattern.identity);
      pattern.window.erase_stored("core/w/" + identity + "/", pending_entries);
      for (const auto& [values, totals] : pattern.totals)
        pending_entries.push_back(
            {fmt::format("core/t/{}/{}", identity, values_json(values).dump()), std::nullopt});
      pending_entries.push_back({"core/p/" + identity, std::nullopt});
    }
    dispatcher->replace_plan(*plan, now);
  }
};

Pipeline::Pipeline(std::shared_ptr<const rules::Plan> plan, const std::vector<StoredEntry>& restored)
    : impl_(std::make_unique<Impl>(std::move(plan), restored)) {}
Pipeline::~Pipeline() = default;

void Pipeline::ingest(const MatchBatch& batch) {
  impl_->ingest(batch);
}

void Pipeline::set_condition(const Condition& condition, Timestamp now) {
  impl_->set_condition(condition, now);
}

void Pipeline::set_sink_dead(const std::string& sink, bool dead) {
  impl_->dispatcher->set_sink_dead(sink, dead);
}

Tick Pipeline::tick(Timestamp now) {
  return impl_->tick(now);
}

std::optional<Timestamp> Pipeline::next_instant() const {
  std::optional<Timestamp> next = impl_->dispatcher->next_instant(impl_->last_now);
  const auto consider = [&](std::optional<Timestamp> at) {
    if (at && (!next || *at < *next)) next = at;
  };
  consider(impl_->next_built_in);
  for (const RuleSlot& rule : impl_->rules) {
    // A source that is behind moves its rules by its lines, not by the wall clock.
    if (rule.live && rule.inputs.readable) consider(rule.next);
  }
  return next;
}

void Pipeline::replace_plan(std::shared_ptr<const rules::Plan> plan, Timestamp now) {
  impl_->replace_plan(std::move(plan), now);
}

std::vector<AlertView> Pipeline::alerts() const {
  std::vector<AlertView> views;
  for (std::size_t i = 0; i < impl_->rules.size(); ++i) {
    const RuleSlot& rule = impl_->rules[i];
    for (const auto& [element, alert] : rule.state->alerts().all())
      views.push_back({impl_->make_alert(i, alert, alert.state, rule.state->clock()), i,
                       rule.state->unknown(rule.inputs)});
  }
  for (const auto& [key, alert] : impl_->built_in)
    views.push_back({alert, SIZE_MAX, false});
  return views;
}

std::vector<RuleView> Pipeline::rules() const {
  std::vector<RuleView> views;
  for (std::size_t i = 0; i < impl_->rules.size(); ++i) {
    const RuleSlot& rule = impl_->rules[i];
    RuleView view;
    view.rule = i;
    view.clock = rule.state->clock();
    view.unknown = rule.state->unknown(rule.inputs);
    if (view.unknown) view.unknown_reason = impl_->unknown_reason(rule);
    for (const auto& [element, alert] : rule.state->alerts().all())
      ++(alert.state == AlertState::kFiring ? view.firing : view.pending);
    views.push_back(std::move(view));
  }
  return views;
}

std::vector<MetricValue> Pipeline::metrics() const {
  std::vector<MetricValue> values;
  for (std::size_t i = 0; i < impl_->patterns.size(); ++i) {
    for (const auto& [series, totals] : impl_->patterns[i].totals)
      impl_->pattern_metrics(i, series, totals, values);
    const Labels labels{{"pattern", impl_->plan->patterns[i].name}};
    const std::string key = "logbell_series_dropped_total" + labels.format();
    if (impl_->counters.count(key) == 0) values.push_back({"logbell_series_dropped_total", labels, 0});
    if (impl_->counters.count("logbell_window_full_total" + labels.format()) == 0)
      values.push_back({"logbell_window_full_total", labels, 0});
  }
  for (const rules::AlertingRule& rule : impl_->plan->rules) {
    const Labels labels{{"alertname", rule.name}};
    if (impl_->counters.count("logbell_rule_evaluation_failures_total" + labels.format()) == 0)
      values.push_back({"logbell_rule_evaluation_failures_total", labels, 0});
  }
  for (const auto& [key, value] : impl_->counters)
    values.push_back(value);
  if (impl_->counters.count("logbell_clock_setbacks_total{}") == 0)
    values.push_back({"logbell_clock_setbacks_total", {}, 0});
  std::map<std::string, std::pair<double, double>> states;  // pending, firing
  for (std::size_t i = 0; i < impl_->rules.size(); ++i) {
    const RuleSlot& rule = impl_->rules[i];
    const std::string& name = impl_->plan->rules[i].name;
    auto& [pending, firing] = states[name];
    for (const auto& [element, alert] : rule.state->alerts().all())
      (alert.state == AlertState::kFiring ? firing : pending) += 1;
    values.push_back(
        {"logbell_rule_unknown", Labels{{"alertname", name}}, rule.state->unknown(rule.inputs) ? 1.0 : 0.0});
  }
  for (const auto* name :
       {"InputSilent", "RuleUnknown", "TimestampSkew", "SinkDead", "StateLost", "SeriesOverflow"})
    states.try_emplace(name);
  for (const auto& [key, alert] : impl_->built_in)
    states[std::string(alert.name())].second += 1;
  for (const auto& [name, counts] : states) {
    values.push_back(
        {"logbell_alerts", Labels{{"alertname", name}, {"alertstate", "pending"}}, counts.first});
    values.push_back(
        {"logbell_alerts", Labels{{"alertname", name}, {"alertstate", "firing"}}, counts.second});
  }
  return values;
}

const rules::Plan& Pipeline::plan() const {
  return *impl_->plan;
}

}  // namespace logbell::engine

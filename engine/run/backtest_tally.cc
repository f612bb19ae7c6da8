#include "engine/run/backtest_tally.h"

#include <algorithm>
#include <set>

#include "rules/redact.h"

namespace logbell::engine {

using rules::AlertState;
using rules::Duration;
using rules::Expr;
using rules::Timestamp;

namespace {

// Values of a label that are told.
constexpr std::size_t kTopValues = 5;
// What has ended is forgotten a good while after it could flap.
constexpr std::size_t kMostEnded = 10'000;

std::string_view amiss(const CounterDelta& counter) {
  constexpr std::pair<std::string_view, std::string_view> kCounters[] = {
      {"logbell_source_lines_truncated_total", "were cut at max_line_bytes"},
      {"logbell_source_lines_malformed_total",
       "are not of the source's format, and were taken as they stand"},
      {"logbell_source_records_split_total", "are records that were too long, and were split"},
      {"logbell_labels_truncated_total", "had a label's value cut"}};
  constexpr std::pair<std::string_view, std::string_view> kReasons[] = {
      {"missing", "matched and say no time: that of the line before was taken"},
      {"future", "matched and say a time in the future: that of the line before was taken"},
      {"past", "matched and say a time too far in the past: that of the line before was taken"}};
  if (counter.name == "logbell_source_timestamps_rejected_total") {
    for (const auto& [reason, words] : kReasons) {
      if (counter.labels.get("reason") == reason) return words;
    }
  }
  for (const auto& [name, words] : kCounters) {
    if (counter.name == name) return words;
  }
  return {};
}

std::string_view bound_of(std::string_view metric) {
  constexpr std::pair<std::string_view, std::string_view> kBounds[] = {
      {"logbell_series_dropped_total", "matches had label values on top of max_series: they count as __other__"},
      {"logbell_keys_dropped_total", "values of a capture were too many to be kept: the rules that ask for them by key were unknown until the window had passed"},
      {"logbell_elements_untold_total", "elements came on top of those that are told one by one: they are in no alert"},
      {"logbell_window_merged_total", "old matches were merged for want of room: counts are within 1 %, comparisons with numbers exact"},
      {"logbell_window_full_total", "matches had no room: the rules were unknown until the window had passed"},
      {"logbell_matches_too_late_total", "matches came when their own time had left every window: they let nothing fire"},
      {"logbell_values_negative_total", "values below 0 are not in the counter"}};
  for (const auto& [name, words] : kBounds) {
    if (metric == name) return words;
  }
  return {};
}

}  // namespace

void BacktestReport::Span::add(const Span& later) {
  firing += later.firing;
  firings += later.firings;
  if (!later.seen) return;
  least = std::min(least, later.least);
  most = std::max(most, later.most);
  last = later.last;
  seen = true;
}

BacktestTally::BacktestTally(const rules::Plan& plan, const BacktestSettings& settings,
                             BacktestReport& report)
    : plan_(plan),
      report_(report),
      values_(plan.patterns.size()),
      notices_(plan, [this](const rules::Notification& notification) {
        if (sinks_.count(notification.sink) == 0) return;
        BacktestReport::Sink& sink = report_.sinks[sinks_.at(notification.sink)];
        ++sink.messages;
        ++sink.days[std::chrono::floor<std::chrono::days>(notification.created_at)];
        std::set<std::size_t> about;
        for (const rules::Alert& alert : notification.alerts) {
          const auto rule = by_identity_.find(alert.rule);
          if (rule != by_identity_.end()) about.insert(rule->second);
        }
        for (const std::size_t rule : about)
          ++report_.rules[rule].messages[sink.name];
      }) {
  for (const rules::PatternSpec& pattern : plan.patterns)
    report.patterns.push_back({pattern.name, 0});
  Duration longest{0};
  for (const rules::AlertingRule& rule : plan.rules) {
    by_identity_.emplace(rule.identity(), report.rules.size());
    BacktestReport::Rule& one = report.rules.emplace_back();
    one.name = rule.name;
    one.expr = rule.expr_text;
    longest = std::max(longest, rules::longest_window(rule) + rule.for_);
  }
  for (const auto& [name, sink] : plan.sinks) {
    sinks_.emplace(name, report.sinks.size());
    report.sinks.push_back({.name = name, .days = {}});
  }
  if (settings.since) {
    since_ = *settings.since;
    from_ = since_ - longest;
  }
  if (settings.until) until_ = *settings.until;
  report_.in_part = settings.since || settings.until;
}

void BacktestTally::take(MatchBatch& batch) {
  report_.bytes += batch.bytes;
  for (const CounterDelta& counter : batch.counters) {
    if (counter.by <= 0) continue;
    if (counter.name == "logbell_source_lines_total") {
      report_.lines += static_cast<std::uint64_t>(counter.by);
    } else if (const std::string_view words = amiss(counter); !words.empty()) {
      report_.amiss[std::string(words)] += static_cast<std::uint64_t>(counter.by);
    }
  }
  if (from_ != rules::kLongAgo || until_ != Timestamp::max())
    std::erase_if(batch.matches,
                  [&](const TimedMatch& match) { return match.at < from_ || match.at >= until_; });
  for (const TimedMatch& match : batch.matches) {
    if (match.at < since_) continue;
    ++report_.patterns[match.pattern].matches;
    if (match.labels.empty()) continue;
    Values& values = values_[match.pattern];
    const auto known = values.lines.find(match.labels);
    if (known != values.lines.end()) {
      ++known->second;
    } else if (values.lines.size() < kMostValues) {
      values.lines.emplace(match.labels, 1);
    } else {
      ++values.others;
    }
  }
  for (SourceStatus& source : batch.sources) {
    // Behind the last line there is nothing, not silence.
    source.read_to_end_at.reset();
    if (source.watermark >= until_) source.watermark = until_ - Duration(1);
    if (source.watermark < from_) source.watermark = rules::kLongAgo;
    if (source.watched_from && source.watermark != rules::kLongAgo) {
      const Timestamp first = std::max(*source.watched_from, since_);
      if (report_.first_line == rules::kLongAgo || first < report_.first_line) report_.first_line = first;
    }
    if (source.watched_from) source.watched_from = std::max(*source.watched_from, from_);
    report_.last_line = std::max(report_.last_line, source.watermark);
  }
}

// What fires as the time begins of which something is told has fired then.
void BacktestTally::begin() {
  began_ = true;
  for (auto& [key, open] : open_)
    fire(key.first, open, since_);
}

void BacktestTally::fire(std::size_t index, Open& open, Timestamp at) {
  BacktestReport::Rule& rule = report_.rules[index];
  const AlertKey key(index, open.transition.alert.fingerprint());
  open.told = true;
  open.fired_at = at;
  ++rule.firings;
  ++rule.still_firing;
  rule.first_at = std::min(rule.first_at.value_or(at), at);
  const auto ended = ended_.find(key);
  if (ended != ended_.end() && at - ended->second <= BacktestReport::kFlap) ++rule.flaps;
  if (ended != ended_.end()) ended_.erase(ended);
  ++rule.spans.at(at).firings;
  if (episodes_ < BacktestReport::kMostEpisodes) {
    ++episodes_;
    open.episode = rule.episodes.size();
    rule.episodes.push_back({open.transition.alert.labels, at, std::nullopt, open.transition.alert.value});
  }
  rules::Transition told = open.transition;
  told.at = told.alert.fired_at = at;
  notices_.add(told);
}

void BacktestTally::resolve(std::size_t index, const Open& open, Timestamp at) {
  BacktestReport::Rule& rule = report_.rules[index];
  --rule.still_firing;
  rule.firing += at - open.fired_at;
  rule.longest = std::max(rule.longest, Duration(at - open.fired_at));
  rule.spans.over(open.fired_at, at, [](BacktestReport::Span& span, Duration part) { span.firing += part; });
  if (open.episode != SIZE_MAX) rule.episodes[open.episode].resolved_at = at;
  if (ended_.size() >= kMostEnded)
    std::erase_if(ended_, [&](const auto& entry) { return at - entry.second > BacktestReport::kFlap; });
  ended_.insert_or_assign({index, open.transition.alert.fingerprint()}, at);
}

void BacktestTally::add(const Tick& tick) {
  for (const rules::Transition& transition : tick.transitions) {
    const auto found = by_identity_.find(transition.alert.rule);
    if (transition.alert.built_in || found == by_identity_.end()) continue;
    // What ends in that very moment does not fire any more.
    if (!began_ &&
        (transition.at > since_ || (transition.at == since_ && transition.to == AlertState::kFiring)))
      begin();
    const AlertKey key(found->second, transition.alert.fingerprint());
    if (transition.to == AlertState::kFiring) {
      const auto open = open_.emplace(key, Open{transition, transition.at});
      if (began_) fire(key.first, open->second, transition.at);
    } else if (transition.from == AlertState::kFiring) {
      const auto [first, last] = open_.equal_range(key);
      const auto open = std::find_if(first, last, [&](const auto& entry) {
        return entry.second.transition.alert.fired_at == transition.alert.fired_at;
      });
      if (open == last) continue;
      if (open->second.told) {
        rules::Transition told = transition;
        told.alert.fired_at = open->second.fired_at;
        notices_.add(told);
        resolve(key.first, open->second, transition.at);
      }
      open_.erase(open);
    }
  }
}

void BacktestTally::end(const Pipeline& core) {
  const Timestamp last = report_.last_line;
  if (!began_ && last != rules::kLongAgo && last >= since_) begin();
  for (const auto& [key, open] : open_) {
    if (!open.told || last <= open.fired_at) continue;
    BacktestReport::Rule& rule = report_.rules[key.first];
    rule.firing += last - open.fired_at;
    rule.longest = std::max(rule.longest, Duration(last - open.fired_at));
    rule.spans.over(open.fired_at, last,
                    [](BacktestReport::Span& span, Duration part) { span.firing += part; });
  }
  if (last != rules::kLongAgo) notices_.pass_to(last);
  for (const RuleView& view : core.rules()) {
    if (view.unknown) report_.rules.at(view.rule).unknown = view.unknown_reason;
  }
  for (const MetricValue& metric : core.moved_counters()) {
    const std::string_view what = bound_of(metric.name);
    if (what.empty()) continue;
    report_.bounds.push_back({std::string(metric.labels.get("pattern")), metric.name, static_cast<std::uint64_t>(metric.value), std::string(what)});
  }
  find_top_values();
}

void BacktestTally::find_top_values() {
  for (std::size_t i = 0; i < plan_.rules.size(); ++i) {
    std::map<std::string, std::map<std::string, std::uint64_t>> by_label;
    std::map<std::string, std::uint64_t> others;
    std::set<std::uint32_t> counted;  // patterns: each once, whatever windows of it the rule has
    for (const Expr* call : rules::range_calls(*plan_.rules[i].expr)) {
      const rules::PatternSpec& spec = plan_.patterns[call->pattern_index];
      if (spec.labels.empty() || !counted.insert(call->pattern_index).second) continue;
      for (const auto& [values, lines] : values_[call->pattern_index].lines) {
        const bool selected = std::all_of(
            call->matchers.begin(), call->matchers.end(),
            [&, &values = values](const rules::LabelMatcher& matcher) {
              const auto name = std::find(spec.labels.begin(), spec.labels.end(), matcher.name);
              return name == spec.labels.end() ||
                     matcher.matches(values[static_cast<std::size_t>(name - spec.labels.begin())]);
            });
        if (!selected) continue;
        for (std::size_t k = 0; k < spec.labels.size(); ++k) {
          if (!values[k].empty()) by_label[spec.labels[k]][values[k]] += lines;
        }
      }
      for (const std::string& label : spec.labels) {
        if (by_label.count(label) != 0) others[label] += values_[call->pattern_index].others;
      }
    }
    for (auto& [label, counts] : by_label) {
      BacktestReport::TopValues top{label, {counts.begin(), counts.end()}, others[label]};
      std::stable_sort(top.values.begin(), top.values.end(),
                       [](const auto& a, const auto& b) { return a.second > b.second; });
      for (std::size_t k = kTopValues; k < top.values.size(); ++k)
        top.others += top.values[k].second;
      if (top.values.size() > kTopValues) top.values.resize(kTopValues);
      for (auto& entry : top.values)
        entry.first = rules::clean_text(rules::redact(entry.first), rules::kMaxLabelBytes);
      report_.rules[i].top_values.push_back(std::move(top));
    }
  }
}

}  // namespace logbell::engine

#include "engine/run/rule_tests.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <set>
#include <span>

#include <fmt/format.h>

#include "engine/core/batch.h"
#include "engine/core/pipeline.h"
#include "engine/io/chunk.h"
#include "engine/io/decode.h"
#include "engine/io/records.h"
#include "rules/alert.h"
#include "rules/pattern.h"
#include "rules/template.h"
#include "sinks/sink.h"

namespace logbell::engine {

using rules::AlertState;
using rules::Duration;
using rules::Expr;
using rules::ExprPtr;
using rules::Instant;
using rules::kLongAgo;
using rules::Labels;
using rules::Timestamp;

namespace {

constexpr std::size_t kMaxLineTextBytes = rules::kMaxSampleBytes * 4;
constexpr std::size_t kMostSeriesShown = 10;
// What one tick leaves to be done at the same moment is done by the next; more would be a fault of ours.
constexpr int kMostTicksAtOnce = 4;

std::string in_directory_of(const std::string& file, const std::string& path) {
  return (std::filesystem::path(file).parent_path() / path).lexically_normal().string();
}

// Comparisons of an expression, outermost first.
void find_comparisons(const ExprPtr& expr, std::vector<ExprPtr>& out) {
  if (expr == nullptr) return;
  if (expr->kind == Expr::Kind::kBinary && expr->is_comparison()) out.push_back(expr);
  find_comparisons(expr->left, out);
  find_comparisons(expr->right, out);
}

// --- files of lines

// The times that a file's lines say: without a record's other lines, as each stands.
class FileTimes {
 public:
  explicit FileTimes(const rules::SourceSpec& source) : source_(source) { source_.multiline = nullptr; }

  std::optional<Timestamp> read(const std::string& line, Timestamp reference) {
    if (RecordDecoder::is_needed(source_)) {
      RecordDecoder decoder(source_, "");
      RecordBlock block;
      Chunk chunk;
      chunk.block = line;
      chunk.consumed = line.size();
      decoder.feed(chunk, 0, reference, Instant(), block);
      decoder.flush(Instant(), true, block);
      if (block.records.empty()) return std::nullopt;
      if (!source_.own_timestamp && block.told[0].time) return block.told[0].time;
      return times_.read(source_, std::string_view(block.text).substr(0, block.records[0].length), reference);
    }
    return times_.read(source_, line, reference);
  }

 private:
  rules::SourceSpec source_;
  LineTimes times_;
};

std::vector<std::string> lines_of(std::string_view text) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    lines.emplace_back(line);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

std::vector<LoadedTests::TimedLine> time_lines(const rules::RuleTest& test, const rules::TestLine& entry,
                                               const rules::SourceSpec& source,
                                               std::vector<std::string> lines, rules::Problems& problems) {
  std::vector<LoadedTests::TimedLine> out;
  const std::string subject = fmt::format("test \"{}\"", test.name);
  FileTimes times(source);
  std::vector<std::optional<Timestamp>> said;
  said.reserve(lines.size());
  for (const std::string& line : lines)
    said.push_back(times.read(line, test.start));
  const auto first = std::find_if(said.begin(), said.end(), [](const auto& at) { return at.has_value(); });
  if (first == said.end() && !entry.at) {
    problems.error(entry.place, subject, fmt::format("no line of {} says a time", entry.file),
                   "say with `at:` when they come");
    return out;
  }
  Duration shift{0};
  if (entry.at && first != said.end()) shift = test.start + *entry.at - **first;
  Timestamp at = first == said.end() ? test.start + *entry.at : **first + shift;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (said[i]) at = *said[i] + shift;
    if (at < test.start || at - test.start > rules::kMaxTestSpan) {
      problems.error(entry.place, subject,
                     fmt::format("line {} of {} is at {}, and the test begins at {}", i + 1, entry.file,
                                 rules::format_rfc3339(at), rules::format_rfc3339(test.start)),
                     "say `start:`, or with `at:` when its first line comes");
      return {};
    }
    out.push_back({at - test.start, std::move(lines[i])});
  }
  return out;
}

}  // namespace

// --- what tests have seen

TestCoverage::TestCoverage(const rules::Plan& plan) {
  for (const rules::AlertingRule& rule : plan.rules) {
    Rule seen{.name = rule.name, .place = rule.place, .comparisons = {}};
    std::vector<ExprPtr> comparisons;
    find_comparisons(rule.expr, comparisons);
    if (rule.resolve_when) find_comparisons(rule.resolve_when->expr, comparisons);
    for (ExprPtr& comparison : comparisons) {
      seen.comparisons.push_back({.text = rules::format_expr(*comparison)});
      // The same, but it says 0 or 1 of each element instead of leaving out those of which it does not hold.
      auto asked = std::make_shared<Expr>(*comparison);
      asked->return_bool = true;
      comparison = std::move(asked);
    }
    rules_.push_back(std::move(seen));
    asked_.push_back(std::move(comparisons));
    identities_.emplace(rule.identity(), rules_.size() - 1);
  }
}

// --- one test

// One test under way: a core of its own, and time.
class TestRun {
 public:
  TestRun(const LoadedTests& loaded, const rules::RuleTest& test)
      : loaded_(loaded),
        test_(test),
        plan_(*loaded.config->plan),
        core_(loaded.config->plan, {}, Pipeline::kMaxPoints, Pipeline::Stores::kNothing),
        sources_(plan_.sources.size()) {
    for (const rules::TestInput& input : test.input)
      add_events(input);
    std::stable_sort(events_.begin(), events_.end(),
                     [](const Event& a, const Event& b) { return a.arrival < b.arrival; });
    for (const rules::AlertRuleTest& one : test.alerts)
      moments_.insert(test.start + one.eval_time);
    for (const rules::ExpectedNotification& one : test.notifications)
      moments_.insert(test.start + one.eval_time);
    for (const rules::ExpectedMetric& one : test.metrics)
      moments_.insert(test.start + one.eval_time);
  }

  std::vector<TestFailure> run() {
    Timestamp now = test_.start;
    while (!moments_.empty()) {
      read(now);
      for (int ticks = 1; ticks < kMostTicksAtOnce && core_.next_instant().value_or(Timestamp::max()) <= now;
           ++ticks)
        tick(now);
      if (now == *moments_.begin()) {
        expect(now);
        moments_.erase(moments_.begin());
      }
      if (!moments_.empty()) now = next(now);
    }
    std::stable_sort(failures_.begin(), failures_.end(),
                     [](const TestFailure& a, const TestFailure& b) { return a.place < b.place; });
    return std::move(failures_);
  }

 private:
  // Something is written to a log.
  struct Event {
    Timestamp arrival;
    Timestamp at;  // the moment it counts at: earlier only where a file's lines are not in order
    std::uint32_t source = 0;
    const std::string* path = nullptr;
    std::string_view text;
  };
  struct Source {
    std::unique_ptr<RecordDecoder> decoder;
    std::uint64_t fed = 0;       // bytes
    Timestamp began = kLongAgo;  // the event time of the record that waits
    Timestamp watermark = kLongAgo;
    std::optional<Timestamp> last_line_at;
  };
  // A block of records or lines, and when each counts.
  struct Block {
    std::string text;
    std::vector<std::pair<std::size_t, Timestamp>> times;  // from this offset on
    std::uint64_t lines = 0;

    Timestamp at(std::size_t offset) const {
      const auto after = std::upper_bound(times.begin(), times.end(), offset,
                                          [](std::size_t o, const auto& entry) { return o < entry.first; });
      return std::prev(after)->second;
    }
  };

  void add_events(const rules::TestInput& input) {
    Timestamp arrival = test_.start;
    const auto add = [&](Timestamp at, std::string_view text) {
      arrival = std::max(arrival, at);
      events_.push_back({arrival, at, input.source, &input.path, text});
    };
    for (const rules::TestLine& line : input.lines) {
      if (!line.file.empty()) {
        const auto file = loaded_.line_files.find(line.place);
        if (file == loaded_.line_files.end()) continue;
        for (const LoadedTests::TimedLine& one : file->second)
          add(test_.start + one.at, one.text);
        continue;
      }
      for (std::uint32_t i = 0; i < line.repeat; ++i)
        add(test_.start + *line.at + line.every * static_cast<Duration::rep>(i), line.line);
    }
  }

  Instant instant(Timestamp now) const { return Instant() + std::chrono::hours(1) + (now - test_.start); }

  // Everything that is written up to `now`, through decoding and matching into the core.
  void read(Timestamp now) {
    MatchBatch batch;
    batch.generation = plan_.generation;
    batch.sequence = ++sequence_;
    batch.read_at = now;
    for (; next_event_ < events_.size() && events_[next_event_].arrival <= now;) {
      const std::uint32_t index = events_[next_event_].source;
      std::size_t end = next_event_;
      while (end < events_.size() && events_[end].arrival <= now && events_[end].source == index)
        ++end;
      take(index, std::span(events_).subspan(next_event_, end - next_event_), now, batch);
      next_event_ = end;
    }
    for (std::uint32_t i = 0; i < sources_.size(); ++i) {
      Source& source = sources_[i];
      if (source.decoder == nullptr) continue;
      RecordBlock records;
      source.decoder->flush(instant(now), false, records);
      take_records(i, records, source.began, source.began, batch);
    }
    for (std::uint32_t i = 0; i < sources_.size(); ++i)
      batch.sources.push_back(status(i, now));
    core_.ingest(batch);
    tick(now);
  }

  SourceStatus status(std::uint32_t index, Timestamp now) const {
    const Source& source = sources_[index];
    SourceStatus status;
    status.source = index;
    status.watermark = source.watermark;
    status.read_to_end_at = now;
    if (source.decoder != nullptr) {
      // A record that waits for its next line is not read yet.
      if (const auto since = source.decoder->waits_since()) status.read_to_end_at = *since - Duration(1);
    }
    status.readable = true;
    status.watched_from = test_.start - test_.watched_for;
    status.last_line_at = source.last_line_at;
    return status;
  }

  void take(std::uint32_t index, std::span<const Event> events, Timestamp now, MatchBatch& batch) {
    const rules::SourceSpec& spec = plan_.sources[index];
    Source& source = sources_[index];
    const bool decoded = RecordDecoder::is_needed(spec);
    SplitRules how{.max_line_bytes = decoded ? RecordDecoder::max_raw_line_bytes(spec) : spec.max_line_bytes,
                   .flush = true};
    Block block;
    std::string raw;
    std::string scratch;
    for (const Event& event : events) {
      raw.assign(event.text).push_back('\n');
      source.watermark = std::max(source.watermark, event.at);
      source.last_line_at = now;
      LineState state;
      std::string_view rest = raw;
      while (!rest.empty()) {
        const Chunk chunk = split(rest, how, state, scratch);
        if (decoded) {
          feed(index, event, chunk, now, batch);
        } else if (!chunk.block.empty()) {
          block.times.emplace_back(block.text.size(), event.at);
          block.text.append(chunk.block);
          if (block.text.back() != '\n') block.text.push_back('\n');
          block.lines += chunk.lines;
        }
        if (chunk.consumed == 0) break;
        rest.remove_prefix(std::min(chunk.consumed, rest.size()));
      }
    }
    if (decoded) return;
    count_lines(spec, block.lines, batch);
    found_.clear();
    spec.patterns.match(block.text, scratch_, found_);
    add_matches(block, batch);
  }

  void feed(std::uint32_t index, const Event& event, const Chunk& chunk, Timestamp now, MatchBatch& batch) {
    Source& source = sources_[index];
    if (source.decoder == nullptr)
      source.decoder = std::make_unique<RecordDecoder>(plan_.sources[index], *event.path);
    const bool waited = source.decoder->waits_since().has_value();
    RecordBlock records;
    source.decoder->feed(chunk, source.fed, now, instant(now), records);
    source.fed += chunk.consumed;
    // The first that has ended is the one that waited.
    take_records(index, records, waited ? source.began : event.at, event.at, batch);
    if (!waited || !records.records.empty()) source.began = event.at;
  }

  // `first`: when the first of them counts; `others`: the rest.
  void take_records(std::uint32_t index, const RecordBlock& records, Timestamp first, Timestamp others,
                    MatchBatch& batch) {
    const rules::SourceSpec& spec = plan_.sources[index];
    count_lines(spec, records.begun, batch);
    if (records.records.empty()) return;
    found_.clear();
    spec.patterns.match(records.text, records.records, scratch_, found_);
    for (std::size_t i = 0; i < records.records.size(); ++i) {
      if (records.told[i].evaluated > 0) drop_counted(spec, records, i);
    }
    Block block;
    block.text = records.text;
    block.times.emplace_back(0, first);
    if (records.records.size() > 1) block.times.emplace_back(records.records[1].offset, others);
    add_matches(block, batch);
  }

  // The beginning of a record was handed over before, as if it were all: what matched then is counted.
  void drop_counted(const rules::SourceSpec& spec, const RecordBlock& records, std::size_t index) {
    rules::Record record = records.records[index];
    record.length = std::min(record.length, records.told[index].evaluated);
    std::vector<rules::Match> before;
    spec.patterns.match(records.text, std::span(&record, 1), scratch_, before);
    std::erase_if(found_, [&](const rules::Match& match) {
      return match.line_offset == record.offset &&
             std::any_of(before.begin(), before.end(),
                         [&](const rules::Match& old) { return old.pattern == match.pattern; });
    });
  }

  static void count_lines(const rules::SourceSpec& spec, std::uint64_t lines, MatchBatch& batch) {
    if (lines > 0)
      batch.counters.push_back(
          {"logbell_source_lines_total", Labels{{"source", spec.name}}, static_cast<double>(lines)});
  }

  void add_matches(const Block& block, MatchBatch& batch) {
    std::uint32_t last_offset = UINT32_MAX;
    for (rules::Match& match : found_) {
      if (match.line_offset != last_offset) {
        last_offset = match.line_offset;
        batch.lines.emplace_back(cut_utf8(
            std::string_view(block.text).substr(match.line_offset, match.line_length), kMaxLineTextBytes));
      }
      TimedMatch timed;
      timed.pattern = match.pattern;
      timed.line = static_cast<std::uint32_t>(batch.lines.size() - 1);
      timed.at = block.at(match.line_offset);
      timed.value = match.value;
      timed.labels = std::move(match.labels);
      timed.keys = std::move(match.keys);
      ++matched_[timed.pattern];
      batch.matches.push_back(std::move(timed));
    }
  }

  void tick(Timestamp now) {
    Tick tick = core_.tick(now);
    for (const rules::Transition& transition : tick.transitions) {
      if (transition.to != AlertState::kFiring || transition.alert.built_in) continue;
      const auto rule = loaded_.coverage->identities_.find(transition.alert.rule);
      if (rule != loaded_.coverage->identities_.end()) loaded_.coverage->rules_[rule->second].fired = true;
    }
    std::move(tick.notifications.begin(), tick.notifications.end(), std::back_inserter(told_));
  }

  Timestamp next(Timestamp now) const {
    Timestamp next = *moments_.begin();
    if (next_event_ < events_.size()) next = std::min(next, events_[next_event_].arrival);
    bool waits = false;
    for (const Source& source : sources_) {
      if (source.decoder == nullptr) continue;
      const auto due = source.decoder->due();
      if (!due) continue;
      waits = true;
      const Timestamp at =
          test_.start + std::chrono::ceil<Duration>(*due - Instant() - std::chrono::hours(1));
      next = std::min(next, std::max(at, now + Duration(1)));
    }
    const auto core = core_.next_instant();
    // What is over for the wall clock and not yet for a rule waits for the record that its source waits for.
    if (core && (*core > now || !waits)) next = std::min(next, std::max(*core, now + Duration(1)));
    return next;
  }

  // --- what is expected

  void expect(Timestamp now) {
    alerts_ = core_.alerts();
    for (const rules::AlertRuleTest& one : test_.alerts) {
      if (test_.start + one.eval_time != now) continue;
      look(one.alertname);
      if (one.firing) expect_alerts(one, *one.firing, AlertState::kFiring);
      if (one.pending) expect_alerts(one, *one.pending, AlertState::kPending);
    }
    for (const rules::ExpectedNotification& one : test_.notifications) {
      if (test_.start + one.eval_time != now) continue;
      look(one.alertname);
      expect_notification(one);
    }
    if (std::any_of(test_.metrics.begin(), test_.metrics.end(),
                    [&](const auto& one) { return test_.start + one.eval_time == now; })) {
      const std::vector<MetricValue> values = core_.metrics();
      for (const rules::ExpectedMetric& one : test_.metrics) {
        if (test_.start + one.eval_time == now) expect_metric(one, values);
      }
    }
  }

  // Which sides of its comparisons are to be seen at this moment.
  void look(const std::string& alertname) {
    TestCoverage& coverage = *loaded_.coverage;
    for (const RuleView& view : core_.rules()) {
      TestCoverage::Rule& rule = coverage.rules_[view.rule];
      if (rule.name != alertname || view.clock == kLongAgo) continue;
      for (std::size_t i = 0; i < rule.comparisons.size(); ++i) {
        const auto result = core_.evaluate(*coverage.asked_[view.rule][i], view.clock);
        if (!result) continue;
        for (const Sample& sample : *result)
          (sample.value != 0 ? rule.comparisons[i].seen_true : rule.comparisons[i].seen_false) = true;
      }
    }
  }

  // As a test says them: without the alert's name, and without the configuration's own labels unless the test
  // names them.
  Labels visible(const Labels& labels, const Labels* named) const {
    Labels out = labels;
    out.erase("alertname");
    for (const auto& [name, value] : plan_.external_labels) {
      if (labels.get(name) == value && (named == nullptr || !named->has(name))) out.erase(name);
    }
    return out;
  }

  static void print(const std::string& labels,
                    const std::vector<std::pair<std::string, std::string>>* annotations,
                    std::vector<std::string>& out) {
    out.push_back(labels);
    if (annotations == nullptr) return;
    for (const auto& [name, value] : *annotations) {
      std::string line = fmt::format("  {}: {}", name, value);
      for (std::size_t at = line.find('\n'); at != std::string::npos; at = line.find('\n', at + 1))
        line.replace(at, 1, "\\n");
      out.push_back(std::move(line));
    }
  }

  void expect_alerts(const rules::AlertRuleTest& test, const std::vector<rules::ExpectedAlert>& wanted,
                     AlertState state) {
    std::vector<rules::Alert> got;
    for (const AlertView& view : alerts_) {
      if (view.alert.name() == test.alertname && view.alert.state == state) got.push_back(view.alert);
    }
    std::sort(got.begin(), got.end(), [](const auto& a, const auto& b) { return a.labels < b.labels; });
    for (rules::Alert& alert : got)
      std::sort(alert.annotations.begin(), alert.annotations.end());

    // Those of which most is said choose first: labels are of one alert only, annotations perhaps of several.
    std::vector<std::size_t> order(wanted.size());
    for (std::size_t i = 0; i < order.size(); ++i)
      order[i] = i;
    const auto vague = [&](std::size_t i) {
      return (wanted[i].labels ? 0 : 2) + (wanted[i].annotations ? 0 : 1);
    };
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return vague(a) < vague(b); });
    std::vector<std::size_t> of(got.size(), SIZE_MAX);  // which of `wanted`
    std::vector<bool> met(wanted.size(), false);
    for (const std::size_t i : order) {
      const rules::ExpectedAlert& want = wanted[i];
      for (std::size_t k = 0; k < got.size() && !met[i]; ++k) {
        if (of[k] != SIZE_MAX || (want.labels && visible(got[k].labels, &*want.labels) != *want.labels) ||
            (want.annotations && got[k].annotations != *want.annotations))
          continue;
        of[k] = i;
        met[i] = true;
      }
    }
    const auto matched = static_cast<std::size_t>(std::count(met.begin(), met.end(), true));
    if (got.size() == matched && wanted.size() == matched) return;

    TestFailure failure;
    failure.place = test.place;
    failure.what =
        fmt::format("{} {} at {}", test.alertname, state == AlertState::kFiring ? "firing" : "pending",
                    rules::format_duration(test.eval_time));
    // Written in the order of what fires, so that what is alike stands side by side; the rest in the order of
    // the file, each beside one that has its labels.
    const bool any_annotations = std::any_of(wanted.begin(), wanted.end(),
                                             [](const auto& one) { return one.annotations.has_value(); });
    const auto text_of = [&](std::size_t i, std::vector<std::string>& out) {
      print(wanted[i].labels ? wanted[i].labels->format() : "{any labels}",
            wanted[i].annotations ? &*wanted[i].annotations : nullptr, out);
    };
    std::vector<bool> written(wanted.size(), false);
    for (std::size_t k = 0; k < got.size(); ++k) {
      std::size_t beside = of[k];
      if (beside != SIZE_MAX) {
        text_of(beside, failure.expected);
        text_of(beside, failure.got);
        written[beside] = true;
        continue;
      }
      for (std::size_t i = 0; i < wanted.size(); ++i) {
        if (met[i] || written[i] || !wanted[i].labels ||
            visible(got[k].labels, &*wanted[i].labels) != *wanted[i].labels)
          continue;
        beside = i;
        text_of(i, failure.expected);
        written[i] = true;
        break;
      }
      const Labels* named = beside == SIZE_MAX ? nullptr : &*wanted[beside].labels;
      print(visible(got[k].labels, named).format(), any_annotations ? &got[k].annotations : nullptr,
            failure.got);
    }
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      if (!written[i]) text_of(i, failure.expected);
    }
    note(test.alertname, {.missing = wanted.size() > matched, .surplus = got.size() > matched}, failure);
    failures_.push_back(std::move(failure));
  }

  struct Difference {
    bool missing = false;  // something that was expected
    bool surplus = false;
  };
  // What may explain why a rule is as it is.
  void note(const std::string& alertname, Difference what, TestFailure& failure) const {
    for (const RuleView& view : core_.rules()) {
      const rules::AlertingRule& rule = plan_.rules[view.rule];
      if (rule.name != alertname) continue;
      failure.notes.push_back(fmt::format("{}: {}", rule.place.format(), rule.expr_text));
      if (what.surplus && rule.resolve_when)
        failure.notes.push_back(fmt::format("it ends only when `resolve_when:` holds for it: {}", rule.resolve_when->text));
      std::set<std::uint32_t> patterns;
      for (const Expr* call : rules::range_calls(rule))
        patterns.insert(call->pattern_index);
      for (const std::uint32_t pattern : patterns)
        failure.notes.push_back(
            fmt::format("pattern {} has matched {}", plan_.patterns[pattern].name,
                        matched_.contains(pattern) ? count_words(matched_.at(pattern)) : "nothing"));
      // Then what rests on absence does not fire yet, and what rests on presence does not end.
      if (view.unknown &&
          ((what.missing && rule.polarity.absence) || (what.surplus && rule.polarity.presence)))
        failure.notes.push_back(fmt::format(
            "what it rests on is not known in full: {}; `watched_for:` says since when the logs are watched",
            view.unknown_reason));
      const bool waits_for_a_line =
          std::any_of(rule.sources.begin(), rule.sources.end(), [&](std::uint32_t source) {
            return plan_.sources[source].max_silence.has_value() && sources_[source].watermark < view.clock;
          });
      if (what.surplus && waits_for_a_line)
        failure.notes.push_back("its source has `max_silence:`: only a later line of it ends an alert");
    }
    for (const AlertView& view : alerts_) {
      if (view.alert.name() == alertname && view.alert.state == AlertState::kPending)
        failure.notes.push_back(fmt::format("{} is pending since {}",
                                            visible(view.alert.labels, nullptr).format(),
                                            rules::format_duration(view.alert.active_at - test_.start)));
    }
  }

  static std::string count_words(std::uint64_t lines) {
    return lines == 1 ? std::string("1 line") : fmt::format("{} lines", lines);
  }

  void expect_notification(const rules::ExpectedNotification& want) {
    const AlertState state = want.resolved ? AlertState::kResolved : AlertState::kFiring;
    std::map<std::string, std::vector<const rules::Notification*>> messages;  // by sink
    for (const rules::Notification& notification : told_) {
      if (std::any_of(notification.alerts.begin(), notification.alerts.end(), [&](const rules::Alert& alert) {
            return alert.name() == want.alertname && alert.state == state;
          }))
        messages[notification.sink].push_back(&notification);
    }
    TestFailure failure;
    failure.place = want.place;
    failure.what = fmt::format("{} {} told by {}", want.alertname, want.resolved ? "resolved" : "firing",
                               rules::format_duration(want.eval_time));
    const bool all = std::all_of(want.sinks.begin(), want.sinks.end(),
                                 [&](const std::string& sink) { return messages.contains(sink); });
    if (!all || (want.exactly && messages.size() != want.sinks.size())) {
      TestFailure who = failure;
      for (const std::string& sink : want.sinks)
        who.expected.push_back("to " + sink);
      for (const auto& [sink, list] : messages) {
        if (want.exactly || std::find(want.sinks.begin(), want.sinks.end(), sink) != want.sinks.end())
          who.got.push_back("to " + sink);
      }
      note(want.alertname, {.missing = !all, .surplus = all}, who);
      failures_.push_back(std::move(who));
    }
    for (const std::string& sink : want.sinks) {
      const auto list = messages.find(sink);
      if (list == messages.end()) continue;
      for (const std::string& text : want.text) {
        std::string last;
        const bool found = std::any_of(list->second.begin(), list->second.end(), [&](const auto* message) {
          last = words_of(*message);
          return last.find(text) != std::string::npos;
        });
        if (found) continue;
        TestFailure missing = failure;
        missing.what += fmt::format(", to {}", sink);
        missing.expected = lines_of(text);
        missing.got = lines_of(last);
        while (!missing.got.empty() && missing.got.back().empty())
          missing.got.pop_back();
        missing.notes.push_back("the text must occur in what the sink is handed; shown is the last message");
        failures_.push_back(std::move(missing));
      }
    }
  }

  // What its sink would be handed.
  std::string words_of(const rules::Notification& notification) const {
    sinks::Attempt attempt;
    attempt.now = notification.created_at;
    const sinks::SinkContext context{.external_url = loaded_.config->external_url,
                                     .environment = loaded_.config->environment};
    return loaded_.config->sinks.at(notification.sink)->words(notification, attempt, context);
  }

  void expect_metric(const rules::ExpectedMetric& want, const std::vector<MetricValue>& values) {
    const auto text = [](const std::string& name, const Labels& labels, double value) {
      return fmt::format("{}{} {}", name, labels.empty() ? "" : labels.format(), rules::format_number(value));
    };
    TestFailure failure;
    failure.place = want.place;
    failure.what = fmt::format("metric {} at {}", want.name, rules::format_duration(want.eval_time));
    failure.expected.push_back(text(want.name, want.labels, want.value));
    std::size_t others = 0;
    std::vector<std::string> names;
    for (const MetricValue& value : values) {
      names.push_back(value.name);
      if (value.name != want.name) continue;
      if (value.labels == want.labels) {
        if (value.value == want.value) return;
        failure.got.assign(1, text(value.name, value.labels, value.value));
        others = 0;
        break;
      }
      if (++others <= kMostSeriesShown) failure.got.push_back(text(value.name, value.labels, value.value));
    }
    if (others > kMostSeriesShown)
      failure.notes.push_back(fmt::format("and {} more series", others - kMostSeriesShown));
    if (failure.got.empty()) {
      const std::string hint = rules::did_you_mean(want.name, names);
      failure.notes.push_back(
          fmt::format("there is no metric {} at this moment{}{}", want.name, hint.empty() ? "" : "; ", hint));
    }
    failures_.push_back(std::move(failure));
  }

  const LoadedTests& loaded_;
  const rules::RuleTest& test_;
  const rules::Plan& plan_;
  Pipeline core_;
  std::vector<Source> sources_;
  std::vector<Event> events_;
  std::size_t next_event_ = 0;
  std::set<Timestamp> moments_;  // at which something is expected
  std::uint64_t sequence_ = 0;
  rules::PatternSet::Scratch scratch_;
  std::vector<rules::Match> found_;
  std::map<std::uint32_t, std::uint64_t> matched_;  // lines, by pattern
  std::vector<rules::Notification> told_;
  std::vector<AlertView> alerts_;  // at the moment that is looked at
  std::vector<TestFailure> failures_;
};

std::vector<TestFailure> RuleTests::run(const LoadedTests& loaded, const rules::RuleTest& test) {
  return TestRun(loaded, test).run();
}

// --- loading

std::optional<LoadedTests> RuleTests::load(const std::string& path, rules::Problems& problems) {
  const std::size_t errors_before = problems.errors();
  const auto text = world_.read_file(path);
  if (!text) {
    problems.error({path, 0, 0}, "", text.error().message);
    return std::nullopt;
  }
  const auto root = rules::yaml::parse(path, *text, problems);
  if (!root) return std::nullopt;
  const auto config_as_written = rules::test_file_config(*root, problems);
  if (!config_as_written) return std::nullopt;
  const std::string config_path = in_directory_of(path, *config_as_written);
  auto known = configs_.find(config_path);
  if (known == configs_.end()) {
    LoadOptions options;
    options.assume_secrets = true;  // nothing is sent
    rules::Problems of_config;
    std::shared_ptr<const Config> config = load_config(config_path, world_, options, of_config);
    for (const rules::Problem& problem : of_config.sorted()) {
      if (problem.severity == rules::Severity::kError) problems.add(problem);
    }
    if (of_config.has_errors()) config = nullptr;
    if (config != nullptr) coverage_.emplace(config_path, std::make_shared<TestCoverage>(*config->plan));
    known = configs_.emplace(config_path, std::move(config)).first;
  }
  if (known->second == nullptr) {
    problems.error(root->find("config")->place, "",
                   fmt::format("the configuration {} is refused", config_path), "`logbell check` says more");
    return std::nullopt;
  }
  LoadedTests loaded;
  loaded.config = known->second;
  loaded.coverage = coverage_.at(config_path);
  loaded.file = rules::read_test_file(*root, *loaded.config->plan, problems);
  std::map<std::string, std::vector<std::string>> files;
  for (const rules::RuleTest& test : loaded.file.tests) {
    for (const rules::TestInput& input : test.input) {
      for (const rules::TestLine& line : input.lines) {
        if (line.file.empty()) continue;
        const std::string file = in_directory_of(path, line.file);
        auto lines = files.find(file);
        if (lines == files.end()) {
          const auto content = world_.read_file(file);
          std::string why = content ? "" : content.error().message;
          if (content && content->size() > rules::yaml::kMaxBytes) why = "it holds more than 4 MiB";
          if (!why.empty()) {
            problems.error(
                line.place, fmt::format("test \"{}\"", test.name), fmt::format("read {}: {}", file, why),
                content ? "cut out what the test is about" : "a path is relative to the test file");
            continue;
          }
          lines = files.emplace(file, lines_of(*content)).first;
        }
        if (input.source < loaded.config->plan->sources.size())
          loaded.line_files[line.place] =
              time_lines(test, line, loaded.config->plan->sources[input.source], lines->second, problems);
      }
    }
  }
  if (problems.errors() > errors_before) return std::nullopt;
  return loaded;
}

}  // namespace logbell::engine

#include "engine/run/backtest.h"

#include <algorithm>
#include <set>
#include <utility>

#include <fmt/format.h>
#include <poll.h>

#include "engine/core/batch.h"
#include "engine/core/pipeline.h"
#include "engine/io/crew.h"
#include "engine/run/backtest_tally.h"
#include "engine/run/backtest_values.h"
#include "engine/run/clock.h"
#include "engine/run/reader.h"

namespace logbell::engine {
namespace {

using rules::Duration;
using rules::ErrorCode;
using rules::fail;
using rules::Timestamp;

// Read at once: enough that what is done for each read is nothing beside it, little enough to stay in a
// core's own cache, its search included.
constexpr std::size_t kChunkBytes = 512 * 1024;
// So much is handed over at once: little enough that it is in a cache still when the core takes it.
constexpr std::size_t kHandBytes = 512 * 1024;
// So much of what was read is evaluated at once.
constexpr std::size_t kStepBytes = 16 * 1024 * 1024;
// And of matches, where each change of a value is looked at.
constexpr std::size_t kStepMatches = 16 * 1024;
// The files are at their end: what waits for the rest of a line or a record waits no longer.
constexpr Duration kPatience{std::chrono::minutes(10)};
// A line that comes later than others is believed so long.
constexpr Duration kLate{std::chrono::hours(1)};
constexpr std::chrono::milliseconds kShowEvery{250};

// The wall clock stands; patience passes as it is asked.
class BacktestClock final : public Clock {
 public:
  explicit BacktestClock(Timestamp now) : now_(now) {}
  Timestamp now() const override { return now_; }
  rules::Instant instant() const override { return instant_; }
  void pass(Duration time) { instant_ = instant_ + time; }

 private:
  Timestamp now_;
  rules::Instant instant_ = rules::Instant() + std::chrono::hours(1);
};

// Batches in the order in which they were read.
using Hand = std::vector<MatchBatch>;

BacktestProgress progress_of(const Reader& reader) {
  BacktestProgress out;
  bool known = true;
  for (const StreamView& stream : reader.streams()) {
    out.bytes += stream.disk_offset;
    out.total += stream.disk_size;
    known = known && stream.path != "-";
  }
  if (!known) out.total = 0;
  return out;
}

// Whether everything up to `until` was read: of lines that come late, too.
bool is_past(const MatchBatch& batch, Timestamp until) {
  return std::any_of(batch.sources.begin(), batch.sources.end(), [&](const SourceStatus& source) {
    return source.watermark != rules::kLongAgo && source.watermark - kLate > until;
  });
}

// What is said of one file in the same words is said once.
std::vector<ReaderNote> each_once(std::vector<ReaderNote> notes) {
  std::set<std::pair<std::string, std::string>> said;
  std::erase_if(notes, [&](const ReaderNote& note) { return !said.emplace(note.path, note.message).second; });
  return notes;
}

// Nobody is told by the core itself: it groups by the wall clock, which stands.
std::shared_ptr<const rules::Plan> without_sinks(const rules::Plan& plan) {
  auto out = std::make_shared<rules::Plan>(plan);
  out->route = {};
  out->route.id = plan.route.id;
  out->has_route = false;
  out->sinks.clear();
  for (rules::AlertingRule& rule : out->rules)
    rule.sinks.clear();
  return out;
}

// What the core makes of the batches. One thread at a time, whichever.
class Evaluation {
 public:
  Evaluation(const std::shared_ptr<const rules::Plan>& plan, const BacktestSettings& settings, BacktestReport& report)
      : plan_(plan),
        settings_(settings),
        report_(report),
        tally_(*plan, settings, report),
        core_(without_sinks(*plan), {}, Pipeline::kMaxPoints, Pipeline::Stores::kNothing),
        sources_(plan->sources.size()) {
    values_.reserve(plan->rules.size());
    for (std::size_t i = 0; i < plan->rules.size(); ++i)
      values_.emplace_back(plan->rules[i], settings.values, report.rules[i], plan->rules.size());
  }

  void take(Hand& hand) {
    const double from = thread_cpu_seconds();
    for (MatchBatch& batch : hand) {
      bytes_ += weight(batch);
      matches_ += batch.matches.size();
      reporting([&] { tally_.take(batch); });
      // Of a source whose logs these are not nothing is known: a rule that reads it, too, is unknown, and does
      // not fire on the others alone.
      std::erase_if(batch.sources,
                    [&](const SourceStatus& source) { return plan_->sources[source.source].files.empty(); });
      for (const SourceStatus& source : batch.sources)
        sources_[source.source] = source;
      core_.ingest(batch);
      if (bytes_ >= kStepBytes || (settings_.values && matches_ >= kStepMatches)) tick();
    }
    hand.clear();
    used_ += thread_cpu_seconds() - from;
  }
  void end() {
    const double from = thread_cpu_seconds();
    tick();
    reporting([&] {
      tally_.end(core_);
      for (BacktestValues& each : values_)
        each.end(report_.last_line, report_.last_line - report_.first_line);
    });
    used_ += thread_cpu_seconds() - from;
    report_.cpu.evaluating = used_ - report_.cpu.reporting;
  }
  // CPU seconds that were spent here, the report's included.
  double used() const { return used_; }

 private:
  template <class What>
  void reporting(What&& what) {
    const double from = thread_cpu_seconds();
    what();
    report_.cpu.reporting += thread_cpu_seconds() - from;
  }
  void tick() {
    bytes_ = matches_ = 0;
    reporting([&] {
      const WindowOf windows = core_.windows();
      for (std::size_t i = 0; i < values_.size(); ++i) {
        // A rule that reads more than these logs is unknown.
        if (plan_->rules[i].sources.size() != 1) continue;
        const SourceStatus& source = sources_[plan_->rules[i].sources.front()];
        if (source.watched_from)
          values_[i].look(windows, *source.watched_from, settings_.since.value_or(rules::kLongAgo), source.watermark);
      }
    });
    const Tick told = core_.tick(settings_.now);
    reporting([&] { tally_.add(told); });
  }

  std::shared_ptr<const rules::Plan> plan_;
  const BacktestSettings& settings_;
  BacktestReport& report_;
  BacktestTally tally_;
  std::vector<BacktestValues> values_;
  Pipeline core_;
  std::vector<SourceStatus> sources_;
  std::size_t bytes_ = 0;  // since the last evaluation
  std::size_t matches_ = 0;
  double used_ = 0;
};

// Hands batches to the evaluation, which the reader's crew does: whoever of it is free, beside the reading. A
// thread of its own would be one more than there are cores, and take one away from whom the others wait for.
class Evaluator {
 public:
  explicit Evaluator(Evaluation& evaluation) : evaluation_(evaluation) {}

  // `crew`: null: there is none yet.
  void add(MatchBatch batch, Crew* crew) {
    bytes_ += weight(batch);
    next_.push_back(std::move(batch));
    if (bytes_ >= kHandBytes) pass(crew);
  }
  void pass(Crew* crew) {
    finish();
    if (next_.empty()) return;
    handed_.swap(next_);
    bytes_ = 0;
    if (crew == nullptr) return evaluation_.take(handed_);
    crew_ = crew;
    work_ = crew->begin(1, [this](std::size_t, std::size_t) { evaluation_.take(handed_); });
  }
  // Everything that was handed over is evaluated.
  void finish() {
    if (work_ != nullptr) crew_->finish(std::exchange(work_, nullptr));
  }

 private:
  Evaluation& evaluation_;
  Hand next_;
  std::size_t bytes_ = 0;  // in it
  Hand handed_;            // the evaluation's until it is finished
  Crew* crew_ = nullptr;
  Crew::Ticket work_;
};

// Reads everything there is, and has it evaluated.
std::vector<ReaderNote> read_all(const std::shared_ptr<const rules::Plan>& plan, const BacktestSettings& settings,
                                 Evaluation& evaluation) {
  const SystemClock system;
  const rules::Instant began = system.instant();
  Evaluator evaluator(evaluation);
  BacktestClock clock(settings.now);
  Reader::Options options;
  options.clock = &clock;
  options.chunk_bytes = kChunkBytes;
  options.use_inotify = false;
  options.only_past = true;
  options.threads = settings.threads;
  options.stdin_fd = settings.stdin_fd;
  Reader reader(plan, options);
  rules::Instant shown_at = rules::Instant::min();
  const auto show = [&] {
    const rules::Instant instant = system.instant();
    if (!settings.progress || instant < shown_at) return;
    shown_at = instant + kShowEvery;
    BacktestProgress progress = progress_of(reader);
    progress.seconds = std::chrono::duration<double>(instant - began).count();
    settings.progress(progress);
  };
  std::vector<ReaderNote> notes;
  // Twice at the end: what was held back, and then nothing.
  for (int ends = 0; ends < 2;) {
    // All streams take part in each choice of what comes next, or their lines would be late: one that cannot be
    // read again (standard input) has said something, or ended.
    for (const int fd : reader.wake_fds()) {
      evaluator.pass(reader.crew());  // what comes next may be long in coming
      evaluator.finish();
      for (pollfd ready{fd, POLLIN, 0}; ::poll(&ready, 1, static_cast<int>(kShowEvery.count())) == 0;)
        show();
    }
    Reader::StepResult step = reader.step();
    std::move(step.notes.begin(), step.notes.end(), std::back_inserter(notes));
    const bool something = step.more || (step.batch && step.batch->bytes > 0);
    const bool past = settings.until && step.batch && is_past(*step.batch, *settings.until);
    show();
    if (step.batch) evaluator.add(*std::move(step.batch), reader.crew());
    if (past) break;
    if (something || !reader.wake_fds().empty()) continue;
    ++ends;
    reader.finish();
    clock.pass(kPatience);
  }
  for (const StreamView& stream : reader.streams()) {
    if (!stream.error.empty()) notes.push_back({ReaderNote::Level::kError, stream.source, stream.path, stream.error});
  }
  evaluator.pass(reader.crew());
  evaluator.finish();
  return notes;
}

}  // namespace

rules::Result<std::shared_ptr<const rules::Plan>> backtest_plan(const rules::Plan& plan,
                                                                const std::string& source,
                                                                const std::vector<std::string>& files) {
  auto out = std::make_shared<rules::Plan>(plan);
  // Lines of any age count, and are evaluated at their own times.
  out->max_replay_age = std::chrono::hours(24 * 365 * 200);
  bool found = false;
  for (rules::SourceSpec& spec : out->sources) {
    const bool meant = source.empty() ? out->sources.size() == 1 : spec.name == source;
    spec.files = meant ? files : std::vector<std::string>();
    spec.streams.clear();
    spec.is_stdin = false;
    spec.read_from = rules::ReadFrom::kBeginning;
    spec.uncovered_errors.reset();  // nobody would be told
    found = found || meant;
  }
  if (found) return out;
  std::string names;
  for (const rules::SourceSpec& spec : plan.sources)
    names += (names.empty() ? "" : ", ") + spec.name;
  if (source.empty()) return fail(ErrorCode::kInvalid, "say with --source whose logs these are: " + names);
  return fail(ErrorCode::kInvalid, fmt::format("there is no source \"{}\"; there are: {}", source, names));
}

BacktestReport backtest(const std::shared_ptr<const rules::Plan>& plan, const BacktestSettings& settings) {
  BacktestReport report;
  const SystemClock system;
  const rules::Instant began = system.instant();
  const double cpu_before = process_cpu_seconds();
  Evaluation evaluation(plan, settings, report);
  report.notes = each_once(read_all(plan, settings, evaluation));
  evaluation.end();
  report.cpu.reading = process_cpu_seconds() - cpu_before - evaluation.used();
  report.seconds = std::chrono::duration<double>(system.instant() - began).count();
  return report;
}

}  // namespace logbell::engine

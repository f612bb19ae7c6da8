#include "engine/run/backtest.h"

#include <algorithm>
#include <exception>
#include <map>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "engine/core/batch.h"
#include "engine/core/pipeline.h"
#include "engine/run/clock.h"
#include "engine/run/queue.h"
#include "engine/run/reader.h"

namespace logbell::engine {
namespace {

using rules::Duration;
using rules::ErrorCode;
using rules::fail;
using rules::Timestamp;

// Read at once: enough that what is done for each read is nothing beside it, little enough to stay in a
// cache.
constexpr std::size_t kChunkBytes = 1024 * 1024;
// Shared by several threads, what each takes stays in its own cache, and they are woken less often.
constexpr std::size_t kSharedChunkBytes = 4 * 1024 * 1024;
// Matches wait for the core in at most this, as in a running process.
constexpr std::size_t kQueueBytes = 64 * 1024 * 1024;
// So much of what was read is evaluated at once.
constexpr std::size_t kStepBytes = 16 * 1024 * 1024;
// The files are at their end: what waits for the rest of a line or a record waits no longer.
constexpr Duration kPatience{std::chrono::minutes(10)};

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

struct Read {
  std::vector<ReaderNote> notes;
  std::exception_ptr failure;
};

// Reads everything there is, then closes the queue.
void read_all(const std::shared_ptr<const rules::Plan>& plan, Timestamp now, std::size_t threads,
              BoundedQueue<MatchBatch>& out, Read& read) {
  try {
    BacktestClock clock(now);
    Reader::Options options;
    options.clock = &clock;
    options.chunk_bytes = threads > 1 ? kSharedChunkBytes : kChunkBytes;
    options.use_inotify = false;
    options.only_past = true;
    options.threads = threads;
    Reader reader(plan, options);
    // Twice at the end: what was held back, and then nothing.
    for (int ends = 0; ends < 2;) {
      Reader::StepResult step = reader.step();
      std::move(step.notes.begin(), step.notes.end(), std::back_inserter(read.notes));
      const bool something = step.more || (step.batch && step.batch->bytes > 0);
      if (step.batch) {
        const std::size_t bytes = weight(*step.batch);
        out.push(*std::move(step.batch), bytes);
      }
      if (something) continue;
      ++ends;
      reader.finish();
      clock.pass(kPatience);
    }
    for (const StreamView& stream : reader.streams()) {
      if (!stream.error.empty())
        read.notes.push_back({ReaderNote::Level::kError, stream.source, stream.path, stream.error});
    }
  } catch (...) {
    read.failure = std::current_exception();
  }
  out.close();
}

class Tally {
 public:
  Tally(const rules::Plan& plan, BacktestReport& report) : report_(report) {
    for (const rules::PatternSpec& pattern : plan.patterns)
      report.patterns.push_back({pattern.name, 0});
    for (const rules::AlertingRule& rule : plan.rules) {
      by_identity_.emplace(rule.identity(), report.rules.size());
      report.rules.push_back({.name = rule.name, .firing = {}, .first_at = {}, .unknown = {}});
    }
  }

  void add(const MatchBatch& batch) {
    report_.bytes += batch.bytes;
    for (const TimedMatch& match : batch.matches)
      ++report_.patterns[match.pattern].matches;
    for (const CounterDelta& counter : batch.counters) {
      if (counter.name == "logbell_source_lines_total")
        report_.lines += static_cast<std::uint64_t>(counter.by);
    }
    for (const SourceStatus& source : batch.sources)
      report_.last_line = std::max(report_.last_line, source.watermark);
  }

  void add(const Tick& tick) {
    for (const rules::Transition& transition : tick.transitions) {
      const auto found = by_identity_.find(transition.alert.rule);
      if (transition.alert.built_in || found == by_identity_.end()) continue;
      BacktestReport::Rule& rule = report_.rules[found->second];
      if (transition.to == rules::AlertState::kFiring) {
        ++rule.firings;
        ++rule.still_firing;
        rule.first_at = std::min(rule.first_at.value_or(transition.at), transition.at);
      } else if (transition.from == rules::AlertState::kFiring) {
        --rule.still_firing;
        rule.firing += transition.at - transition.alert.fired_at;
      }
    }
  }

  void end(const Pipeline& core) {
    for (const AlertView& view : core.alerts()) {
      if (view.rule < report_.rules.size() && view.alert.is_firing() &&
          report_.last_line > view.alert.fired_at)
        report_.rules[view.rule].firing += report_.last_line - view.alert.fired_at;
    }
    for (const RuleView& view : core.rules()) {
      if (view.unknown) report_.rules.at(view.rule).unknown = view.unknown_reason;
    }
  }

 private:
  BacktestReport& report_;
  std::map<rules::Fingerprint, std::size_t> by_identity_;
};

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

BacktestReport backtest(std::shared_ptr<const rules::Plan> plan, Timestamp now, std::size_t threads) {
  BacktestReport report;
  const SystemClock clock;
  const rules::Instant began = clock.instant();
  BoundedQueue<MatchBatch> queue(kQueueBytes);
  Read read;
  Tally tally(*plan, report);
  Pipeline core(plan, {}, Pipeline::kMaxPoints, Pipeline::Stores::kNothing);
  std::thread reader([&] { read_all(plan, now, threads, queue, read); });
  try {
    std::size_t bytes = 0;  // since the last evaluation
    while (std::optional<MatchBatch> batch = queue.pop_unless([] { return false; })) {
      bytes += weight(*batch);
      tally.add(*batch);
      // Behind the last line there is nothing, not silence.
      for (SourceStatus& source : batch->sources)
        source.read_to_end_at.reset();
      core.ingest(*batch);
      if (bytes < kStepBytes) continue;
      tally.add(core.tick(now));
      bytes = 0;
    }
    tally.add(core.tick(now));
  } catch (...) {
    queue.close();
    reader.join();
    throw;
  }
  reader.join();
  if (read.failure) std::rethrow_exception(read.failure);
  tally.end(core);
  report.notes = std::move(read.notes);
  report.seconds = std::chrono::duration<double>(clock.instant() - began).count();
  return report;
}

}  // namespace logbell::engine

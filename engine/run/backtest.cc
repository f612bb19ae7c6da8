#include "engine/run/backtest.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <set>
#include <thread>
#include <utility>

#include <fmt/format.h>
#include <poll.h>

#include "engine/core/batch.h"
#include "engine/core/pipeline.h"
#include "engine/run/backtest_tally.h"
#include "engine/run/backtest_values.h"
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
// core's own cache, its search included.
constexpr std::size_t kChunkBytes = 512 * 1024;
// Shared by several threads: of each, what it reads ahead has to stay in its core's cache too.
constexpr std::size_t kChunkBytesAThread = 256 * 1024;
// Matches wait for the core in at most this, as in a running process.
constexpr std::size_t kQueueBytes = 64 * 1024 * 1024;
// So much is handed over at once: two threads that share a core change places for each.
constexpr std::size_t kHandBytes = 4 * 1024 * 1024;
// So much of what was read is evaluated at once.
constexpr std::size_t kStepBytes = 16 * 1024 * 1024;
// And of matches, where each change of a value is looked at.
constexpr std::size_t kStepMatches = 16 * 1024;
// The files are at their end: what waits for the rest of a line or a record waits no longer.
constexpr Duration kPatience{std::chrono::minutes(10)};
// A line that comes later than others is believed so long.
constexpr Duration kLate{std::chrono::hours(1)};
constexpr std::chrono::milliseconds kShowEvery{250};
constexpr int kLookForTheEnd = 200;  // ms: whether nobody wants more of a stream that is silent

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

// How far the reader is, for whoever draws it. Thread-safe.
struct Shown {
  std::atomic<std::uint64_t> bytes{0};
  std::atomic<std::uint64_t> total{0};
};

struct Read {
  std::vector<ReaderNote> notes;
  std::exception_ptr failure;
};

// A stream that cannot be read again (standard input) has said something, or ended.
void wait_for_streams(const Reader& reader, const BoundedQueue<Hand>& out) {
  for (const int fd : reader.wake_fds()) {
    pollfd ready{fd, POLLIN, 0};
    while (::poll(&ready, 1, kLookForTheEnd) == 0 && !out.closed()) {
    }
  }
}

void show(const Reader& reader, Shown& shown) {
  std::uint64_t bytes = 0;
  std::uint64_t total = 0;
  bool known = true;
  for (const StreamView& stream : reader.streams()) {
    bytes += stream.disk_offset;
    total += stream.disk_size;
    known = known && stream.path != "-";
  }
  shown.bytes = bytes;
  shown.total = known ? total : 0;
}

// Whether everything up to `until` was read: of lines that come late, too.
bool is_past(const MatchBatch& batch, Timestamp until) {
  return std::any_of(batch.sources.begin(), batch.sources.end(), [&](const SourceStatus& source) {
    return source.watermark != rules::kLongAgo && source.watermark - kLate > until;
  });
}

// Reads everything there is, then closes the queue.
void read_all(const std::shared_ptr<const rules::Plan>& plan, const BacktestSettings& settings,
              BoundedQueue<Hand>& out, Read& read, Shown& shown) {
  Hand hand;
  std::size_t bytes = 0;  // in it
  const auto pass = [&] {
    if (!hand.empty()) out.push(std::exchange(hand, {}), std::exchange(bytes, 0));
  };
  try {
    BacktestClock clock(settings.now);
    const SystemClock system;
    rules::Instant shown_at = rules::Instant::min();
    Reader::Options options;
    options.clock = &clock;
    options.chunk_bytes = settings.threads > 1 ? settings.threads * kChunkBytesAThread : kChunkBytes;
    options.use_inotify = false;
    options.only_past = true;
    options.threads = settings.threads;
    options.stdin_fd = settings.stdin_fd;
    Reader reader(plan, options);
    // Twice at the end: what was held back, and then nothing.
    for (int ends = 0; ends < 2 && !out.closed();) {
      // All streams take part in each choice of what comes next, or their lines would be late.
      wait_for_streams(reader, out);
      Reader::StepResult step = reader.step();
      std::move(step.notes.begin(), step.notes.end(), std::back_inserter(read.notes));
      const bool something = step.more || (step.batch && step.batch->bytes > 0);
      const bool past = settings.until && step.batch && is_past(*step.batch, *settings.until);
      if (settings.progress && system.instant() >= shown_at) {
        show(reader, shown);
        shown_at = system.instant() + kShowEvery;
      }
      if (step.batch) {
        bytes += weight(*step.batch);
        hand.push_back(*std::move(step.batch));
      }
      // What comes next may be long in coming, of a pipe.
      if (!something || bytes >= kHandBytes || !reader.wake_fds().empty()) pass();
      if (past) break;
      if (something || !reader.wake_fds().empty()) continue;
      ++ends;
      reader.finish();
      clock.pass(kPatience);
    }
    for (const StreamView& stream : reader.streams()) {
      if (!stream.error.empty())
        read.notes.push_back({ReaderNote::Level::kError, stream.source, stream.path, stream.error});
    }
    pass();
  } catch (...) {
    read.failure = std::current_exception();
  }
  out.close();
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
  const SystemClock clock;
  const rules::Instant began = clock.instant();
  const double cpu_before = process_cpu_seconds();
  const double evaluating_from = thread_cpu_seconds();
  const auto reporting = [&](auto&& what) {
    const double from = thread_cpu_seconds();
    what();
    report.cpu.reporting += thread_cpu_seconds() - from;
  };
  BoundedQueue<Hand> queue(kQueueBytes);
  Read read;
  Shown shown;
  BacktestTally tally(*plan, settings, report);
  std::vector<BacktestValues> values;
  values.reserve(plan->rules.size());
  for (std::size_t i = 0; i < plan->rules.size(); ++i)
    values.emplace_back(plan->rules[i], settings.values, report.rules[i], plan->rules.size());
  Pipeline core(without_sinks(*plan), {}, Pipeline::kMaxPoints, Pipeline::Stores::kNothing);
  std::vector<SourceStatus> sources(plan->sources.size());
  const auto tick = [&] {
    reporting([&] {
      const WindowOf windows = core.windows();
      for (std::size_t i = 0; i < values.size(); ++i) {
        // A rule that reads more than these logs is unknown.
        if (plan->rules[i].sources.size() != 1) continue;
        const SourceStatus& source = sources[plan->rules[i].sources.front()];
        if (source.watched_from)
          values[i].look(windows, *source.watched_from, settings.since.value_or(rules::kLongAgo),
                         source.watermark);
      }
    });
    const Tick told = core.tick(settings.now);
    reporting([&] { tally.add(told); });
  };
  const auto say = [&] {
    settings.progress(
        {shown.bytes, shown.total, std::chrono::duration<double>(clock.instant() - began).count()});
  };
  std::thread reader([&] { read_all(plan, settings, queue, read, shown); });
  try {
    std::size_t bytes = 0;  // since the last evaluation
    std::size_t matches = 0;
    rules::Instant said_at = began;
    for (;;) {
      std::optional<Hand> hand = settings.progress ? queue.pop_for(std::chrono::microseconds(kShowEvery))
                                                   : queue.pop_unless([] { return false; });
      if (settings.progress && clock.instant() - said_at >= kShowEvery) {
        said_at = clock.instant();
        say();
      }
      if (!hand) {
        if (!queue.closed()) continue;
        hand = queue.try_pop();  // it may have come since
        if (!hand) break;
      }
      for (MatchBatch& batch : *hand) {
        bytes += weight(batch);
        matches += batch.matches.size();
        reporting([&] { tally.take(batch); });
        // Of a source whose logs these are not nothing is known: a rule that reads it, too, is unknown, and does not fire on
        // the others alone.
        std::erase_if(batch.sources, [&](const SourceStatus& source) { return plan->sources[source.source].files.empty(); });
        for (const SourceStatus& source : batch.sources)
          sources[source.source] = source;
        core.ingest(batch);
        if (bytes < kStepBytes && (!settings.values || matches < kStepMatches)) continue;
        tick();
        bytes = matches = 0;
      }
    }
    tick();
  } catch (...) {
    queue.close();
    reader.join();
    throw;
  }
  reader.join();
  if (read.failure) std::rethrow_exception(read.failure);
  report.cpu.evaluating = thread_cpu_seconds() - evaluating_from - report.cpu.reporting;
  report.cpu.reading = process_cpu_seconds() - cpu_before - (thread_cpu_seconds() - evaluating_from);
  reporting([&] {
    tally.end(core);
    for (BacktestValues& each : values)
      each.end(report.last_line, report.last_line - report.first_line);
  });
  report.notes = each_once(std::move(read.notes));
  report.seconds = std::chrono::duration<double>(clock.instant() - began).count();
  return report;
}

}  // namespace logbell::engine

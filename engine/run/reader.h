// Reader: reads sources, finds the lines that matter, and hands over batches. One step at a time.
//
// Owned by one thread; the thread (engine/run/runtime.h) only calls step() and sleeps on what it returns.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/core/batch.h"
#include "engine/run/clock.h"
#include "engine/run/drill.h"
#include "engine/run/follower.h"
#include "rules/plan.h"
#include "rules/result.h"

namespace logbell::engine {

class Crew;

// One followed file or stream, for /api/v1/sources and the metrics.
struct StreamView {
  std::string source;
  std::string path;
  std::uint64_t size = 0;
  std::uint64_t offset = 0;
  bool readable = false;
  std::string error;    // why not; "" = readable
  bool polled = false;  // it cannot be watched (no watches left, a network file system): looked at every second
  bool missed = false;  // it may hold lines that nobody reads, and `error` says why
  // Of a file as it lies on the disk: other than the above where it is compressed.
  std::uint64_t disk_size = 0;
  std::uint64_t disk_offset = 0;
};

class Reader {
 public:
  struct Options {
    const Clock* clock = nullptr;             // must outlive the reader
    Feedback* feedback = nullptr;             // so must this; null: whatever is there is read as it is
    DrillDesk* drills = nullptr;              // and this; null: there are none
    // Entries under "pos/" as earlier batches committed them. A source without one is followed for the first
    // time: `read_from` and `max_replay_age` decide where its files begin.
    std::vector<StoredEntry> positions;
    std::size_t chunk_bytes = 256 * 1024;
    std::size_t threads = 1;  // that read and match a large chunk, mine included; others are made when one comes
    int stdin_fd = 0;
    bool use_inotify = true;  // false: everything is polled
    // Nothing that is read is written now: no line counts at the time of its arrival, compressed files are read as
    // any other, and a source is watched from the earliest of the first lines of all that it reads.
    bool only_past = false;
    std::size_t max_files = 20'000;  // open at once, with connections: Follower::kMaxFiles, which says why
    std::size_t max_connections = 20'000;  // of all sources
  };
  struct StepResult {
    std::optional<MatchBatch> batch;           // to be pushed; nothing else in it is kept
    bool more = false;                         // there is more to read at once: step again
    bool ended = false;                        // every source has ended for good (stdin at its end)
    rules::Instant wake_at;                    // when to step again if nothing wakes it
    std::vector<ReaderNote> notes;             // to be logged
  };

  Reader(std::shared_ptr<const rules::Plan> plan, Options options);
  ~Reader();

  // Reads at most one chunk from one stream (while any source catches up: from the one furthest behind in event time),
  // or, when all are read to their end, finds new files, rotations and truncations. Never blocks.
  StepResult step();
  // The next step confirms for every source how far it is read, even if nothing changed.
  void request_confirmation();
  // The process ends: from the next step on what is held back of files that nobody can find again is handed over.
  void finish();
  // A barrier: batches from here on carry the new plan's generation; unchanged files keep their place.
  void replace_plan(std::shared_ptr<const rules::Plan> plan);

  std::vector<int> wake_fds() const;  // inotify, stdin while it has not ended
  std::vector<StreamView> streams() const;
  // The threads that read with me, for what their owner, my thread, begins beside the reading and finishes before I end;
  // null: there are none yet.
  Crew* crew() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace logbell::engine

// MatchBatch: what a reader hands to the core: matches, how far each source is known, and what to commit with
// them.
//
// Value; moved through the queue from the reader thread to the core thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "rules/labels.h"
#include "rules/time.h"

namespace logbell::engine {

// One line that one pattern matched, ready to be counted.
struct TimedMatch {
  std::uint32_t pattern = 0;        // index into Plan::patterns
  std::uint32_t line = 0;           // index into MatchBatch::lines
  rules::Timestamp at;              // event time, already believed or replaced (DESIGN.md §3 "Event time")
  double value = 0;                 // NaN: none
  bool live = false;                // its stream had been read to its end before: it was written just now
  std::vector<std::string> labels;  // parallel to PatternSpec::labels
  std::vector<std::string> keys;    // parallel to PatternSpec::keys; "": it has none
};

// How far a source is known. Sent whenever it changes or is confirmed.
struct SourceStatus {
  std::uint32_t source = 0;  // index into Plan::sources
  rules::Timestamp watermark =
      rules::kLongAgo;  // latest believed time, the smallest over streams not at their end
  std::optional<rules::Timestamp>
      read_to_end_at;     // wall time at which all of it was known to be read; unset: behind
  bool readable = false;  // some file of it is open, or was and none is due yet
  bool stalled = false;   // has left the merge: behind and not getting on (its rules are unknown)
  std::optional<rules::Timestamp>
      watched_from;  // event time since which nothing is missing; moves forward at a gap
  std::optional<rules::Timestamp> last_line_at;  // wall time of the last line's arrival
  rules::Duration timestamp_offset{0};  // steady distance of line times from arrival, 0 when below 15 min
  std::string unreadable = {};  // the first of what it names and cannot read, with why; "": there is none
  bool blind = false;  // one of them has the name of what was read before: its lines are missing (its rules are unknown)
};

// Lines of one read that look like errors, that no rule looks at, and that are not older than max_replay_age.
struct UncoveredLines {
  std::uint32_t source = 0;  // index into Plan::sources
  std::uint64_t count = 0;
  std::vector<std::string> samples;  // the first few, cut, not redacted yet
};

// The form of one line of a read (rules/line_form.h): the last one.
struct LineForm {
  std::uint32_t source = 0;  // index into Plan::sources
  std::string form;          // "": it says nothing
  std::string line;          // cut, not redacted yet
};

// A line of a drill: what its source's patterns found in it. None of it is counted.
struct DrillLine {
  struct Found {
    std::uint32_t pattern = 0;        // index into Plan::patterns
    std::vector<std::string> labels;  // parallel to PatternSpec::labels
    std::vector<std::string> keys = {};  // parallel to PatternSpec::keys
  };
  std::string mark;
  std::string text;  // not redacted yet
  rules::Timestamp at;
  std::vector<Found> found;
};

// An opaque entry of the store, committed with the batch it belongs to: positions.
struct StoredEntry {
  std::string key;
  std::optional<std::string> value;  // unset: erase
};

// Adds to a counter that must survive a crash exactly as the positions do.
struct CounterDelta {
  std::string name;  // metric name, e.g. logbell_source_lines_total
  rules::Labels labels;
  double by = 0;
};

struct MatchBatch {
  std::uint64_t generation = 0;  // of the plan it was matched with
  std::uint64_t sequence = 0;    // rises by one; batches reach the core in this order
  rules::Timestamp read_at;      // wall time before the read: notification latency starts here
  std::vector<TimedMatch> matches;
  std::vector<DrillLine> drills;
  std::vector<std::string> lines;  // text of matched lines, cut to kMaxSampleBytes * 4, not yet redacted
  std::vector<SourceStatus> sources;
  std::optional<UncoveredLines> uncovered;
  std::optional<LineForm> form;  // of every read that handed over lines
  std::vector<StoredEntry> positions;
  std::vector<CounterDelta> counters;
  bool cannot_be_read_again = false;  // stdin, sockets: this commit must be synced
  // Names a file that no position knew. Synced too: who dies before does not know whom to look for once it is
  // renamed.
  bool files_found = false;
  std::size_t bytes = 0;              // read from the sources for it
};

// What a batch counts against the bound of what waits for the core: what was read for it, or what it takes
// itself if that is more, as it is where many short lines match.
inline std::size_t weight(const MatchBatch& batch) {
  const auto held = [](const std::string& text) {
    return sizeof(std::string) + (text.size() < 16 ? 0 : text.size());
  };
  std::size_t taken = batch.matches.size() * sizeof(TimedMatch);
  for (const TimedMatch& match : batch.matches) {
    for (const std::string& label : match.labels)
      taken += held(label);
    for (const std::string& key : match.keys)
      taken += held(key);
  }
  for (const std::string& line : batch.lines)
    taken += held(line);
  return std::max(batch.bytes, taken);
}

}  // namespace logbell::engine

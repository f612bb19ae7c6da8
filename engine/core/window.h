// Window storage: what was matched and when, kept as long as a window can still cover it.
//
// Owned by the core thread. Time is always passed in. Exact to the millisecond: the windows of DESIGN.md §3
// are (t - W, t]. Counts are found by binary search over running totals, so a window's length costs nothing.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "engine/core/batch.h"
#include "engine/core/match_values.h"
#include "rules/labels.h"
#include "rules/pattern.h"
#include "rules/time.h"

namespace logbell::engine {

// The matches of one series: (millisecond, count) pairs, oldest first.
class MatchTimes {
 public:
  void add(rules::Timestamp at, std::uint64_t count);
  // Matches in (from, to].
  std::uint64_t count(rules::Timestamp from, rules::Timestamp to) const;
  // The first time later than `at`.
  std::optional<rules::Timestamp> first_after(rules::Timestamp at) const;
  // Every distinct time in (from, to].
  void times(rules::Timestamp from, rules::Timestamp to, std::vector<rules::Timestamp>& out) const;
  // Forgets what is at or before `until`.
  void forget(rules::Timestamp until);
  // Forgets what is later than `at`.
  void forget_after(rules::Timestamp at);

  bool empty() const { return head_ == points_.size(); }
  std::size_t size() const { return points_.size() - head_; }
  rules::Timestamp newest() const { return points_.back().at; }

  struct Point {
    rules::Timestamp at;
    std::uint64_t total = 0;  // of this and all earlier points ever added before it
  };
  // The points in (from, to] with their own counts: for storing.
  std::vector<std::pair<rules::Timestamp, std::uint64_t>> points(rules::Timestamp from,
                                                                 rules::Timestamp to) const;

 private:
  std::size_t after(rules::Timestamp at) const;  // index of the first point later than `at`
  std::uint64_t total_before(std::size_t index) const {
    return index == head_ ? base_ : points_[index - 1].total;
  }

  std::vector<Point> points_;
  std::size_t head_ = 0;    // points before it are forgotten
  std::uint64_t base_ = 0;  // their total
};

// One series of a pattern: its label values, in the order of PatternSpec::labels.
struct Series {
  std::vector<std::string> values;
  MatchTimes times;
  MatchValues numbers;                            // the pattern's `value:` of them, where a rule asks for it
  rules::Timestamp first_seen = rules::kLongAgo;  // not there before; kLongAgo: expected from the start
  bool expected = false;                          // never forgotten
};

// Every series of one pattern, bounded, stored in blocks.
class PatternWindow {
 public:
  // Matches and values in memory per pattern at most: 16 bytes each, 16 MiB a pattern. Beyond it the pattern
  // is unknown, counted, never silently approximate.
  static constexpr std::size_t kMaxPoints = 1'000'000;
  // The label value of the series that takes what is beyond max_series.
  static constexpr std::string_view kOverflow = "__other__";

  // `keeps_values`: a rule asks for more than counts.
  PatternWindow(const rules::PatternSpec& spec, rules::Duration longest, bool keeps_values = false);

  struct Added {
    bool overflowed = false;  // went to the overflow series
    bool full = false;        // not kept: the memory bound was met
    bool late = false;        // set by the caller
  };
  // `has_room`: false where all patterns together hold as much as they may. `number`: NaN where there is
  // none.
  Added add(const std::vector<std::string>& values, rules::Timestamp at, std::uint64_t count,
            bool has_room = true, double number = std::numeric_limits<double>::quiet_NaN());

  // Forgets matches that no window ending after `clock` can cover, and series that are empty for long enough.
  // `in_use` says whether an active alert rests on a series of these values. Returns the forgotten series.
  std::vector<std::vector<std::string>> forget(rules::Timestamp clock,
                                               const std::set<std::vector<std::string>>& in_use);

  // Time was set back: forgets what was counted later than `at`.
  void forget_after(rules::Timestamp at);

  const std::map<std::vector<std::string>, Series>& series() const { return series_; }
  const rules::PatternSpec& spec() const { return spec_; }
  rules::Duration longest() const { return longest_; }
  bool keeps_values() const { return keeps_values_; }
  // Since when no match of it is missing. kLongAgo: since ever; Timestamp::max(): nobody watches.
  rules::Timestamp watched_from() const { return watched_from_; }
  void set_watched_from(rules::Timestamp from) { watched_from_ = from; }
  bool overflowing() const { return overflowing_; }
  bool full() const { return full_; }
  std::size_t points() const { return points_; }

  // Writes what changed since the last call; reads back what was written, under keys that begin with
  // `prefix`.
  void save(const std::string& prefix, std::vector<StoredEntry>& out);
  // What changed is not to be written.
  void forget_changes();
  void restore(const std::string& prefix, const StoredEntry& entry);
  // Erases everything that save() ever wrote under `prefix`: the pattern is no more.
  void erase_stored(const std::string& prefix, std::vector<StoredEntry>& out) const;
  // Matches of the last windows under new settings (a reload that kept the pattern).
  void adopt(PatternWindow&& old);

 private:
  std::int64_t block_of(rules::Timestamp at) const;
  std::string series_key(const std::vector<std::string>& values) const;
  void touch(const Series& series, rules::Timestamp at);
  void save_numbers(const std::string& prefix, const std::vector<std::string>& values, std::int64_t block,
                    std::vector<StoredEntry>& out);

  rules::PatternSpec spec_;
  rules::Duration longest_;
  bool keeps_values_;
  rules::Timestamp watched_from_ = rules::kLongAgo;
  rules::Duration
      block_;  // a block's span: a sixteenth of the longest window, so that little is written twice
  std::map<std::vector<std::string>, Series> series_;
  std::size_t points_ = 0;
  bool overflowing_ = false;
  bool full_ = false;
  // What must be written or erased: blocks by (series, number), and series themselves.
  std::set<std::pair<std::vector<std::string>, std::int64_t>> dirty_blocks_;
  std::set<std::vector<std::string>> dirty_series_;
  std::map<std::vector<std::string>, std::set<std::int64_t>> stored_blocks_;
  std::map<std::vector<std::string>, std::set<std::int64_t>>
      stored_numbers_;  // those with values, under "v/"
};

}  // namespace logbell::engine

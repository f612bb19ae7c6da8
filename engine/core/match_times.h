// MatchTimes: when one series matched, and how often.
//
// Owned by the core thread. Time is always passed in. Exact to the millisecond; counts are found by binary
// search over running totals, so that a window's length costs nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

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
  // The last time at or before `at`.
  std::optional<rules::Timestamp> last_until(rules::Timestamp at) const;
  // Forgets what is at or before `until`.
  void forget(rules::Timestamp until);
  // Forgets what is later than `at`.
  void forget_after(rules::Timestamp at);

  // Keeps less of what is at or before `until`: neighbours become one, at the time of the last of them. A window that
  // ends later than `until` counts at most one in kMergedShare too many, and none where it holds fewer than `exact`.
  // One that ends earlier, begins no earlier than `past_from` and is no shorter than `past` counts at most so many too many or
  // too few; 0: there is none.
  // Buckets by what came after them, not by time: Datar, Gionis, Indyk, Motwani, Maintaining Stream Statistics over
  // Sliding Windows, 2002.
  struct Thinning {
    rules::Timestamp until;
    std::uint64_t exact = 0;
    rules::Duration past{0};
    rules::Timestamp past_from = rules::kLongAgo;
  };
  static constexpr std::uint64_t kMergedShare = 100;  // one in so many
  // The time of the newest that others have become; unset: nothing was merged.
  std::optional<rules::Timestamp> thin(const Thinning& thinning);

  bool empty() const { return head_ == points_.size(); }
  std::size_t size() const { return points_.size() - head_; }
  rules::Timestamp oldest() const { return points_[head_].at; }
  rules::Timestamp newest() const { return points_.back().at; }

  struct Point {
    rules::Timestamp at;
    std::uint64_t total = 0;  // of this and all earlier points ever added before it
  };
  // The points in (from, to] with their own counts.
  std::vector<std::pair<rules::Timestamp, std::uint64_t>> points(rules::Timestamp from,
                                                                 rules::Timestamp to) const;

  // They are stored in blocks of one span, by number: that in which `at` lies.
  static std::int64_t block_of(rules::Timestamp at, rules::Duration span);
  // What lies in a block, as "123+4 5+6 ": milliseconds since the one before, of the first since 1970, so
  // that another span does not move it, and how often. "": nothing does.
  std::string format_block(std::int64_t block, rules::Duration span) const;

 private:
  std::size_t after(rules::Timestamp at) const;  // index of the first point later than `at`
  std::uint64_t total_before(std::size_t index) const {
    return index == head_ ? base_ : points_[index - 1].total;
  }

  std::vector<Point> points_;
  std::size_t head_ = 0;    // points before it are forgotten
  std::uint64_t base_ = 0;  // their total
};

}  // namespace logbell::engine

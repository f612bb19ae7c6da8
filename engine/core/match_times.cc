#include "engine/core/match_times.h"

#include <algorithm>

#include <fmt/format.h>

namespace logbell::engine {

using rules::Duration;
using rules::Timestamp;

std::size_t MatchTimes::after(Timestamp at) const {
  if (empty() || points_.back().at <= at) return points_.size();
  const auto begin = points_.begin() + static_cast<std::ptrdiff_t>(head_);
  return static_cast<std::size_t>(
      std::upper_bound(begin, points_.end(), at, [](Timestamp t, const Point& p) { return t < p.at; }) -
      points_.begin());
}

void MatchTimes::add(Timestamp at, std::uint64_t count) {
  // In order, as nearly all come, there is nothing to look for.
  if (!empty() && at == newest()) {
    points_.back().total += count;
    return;
  }
  const std::size_t index = after(at);
  std::size_t from = index;
  if (index > head_ && points_[index - 1].at == at) {
    from = index - 1;
  } else {
    points_.insert(points_.begin() + static_cast<std::ptrdiff_t>(index), Point{at, total_before(index)});
  }
  // A line that comes late moves the totals of everything after it; in order this is one addition.
  for (std::size_t i = from; i < points_.size(); ++i)
    points_[i].total += count;
}

std::uint64_t MatchTimes::count(Timestamp from, Timestamp to) const {
  const std::size_t end = after(to);
  return total_before(end) - total_before(std::min(after(from), end));
}

std::optional<Timestamp> MatchTimes::first_after(Timestamp at) const {
  const std::size_t index = after(at);
  if (index == points_.size()) return std::nullopt;
  return points_[index].at;
}

std::optional<Timestamp> MatchTimes::last_until(Timestamp at) const {
  const std::size_t index = after(at);
  if (index == head_) return std::nullopt;
  return points_[index - 1].at;
}

void MatchTimes::times(Timestamp from, Timestamp to, std::vector<Timestamp>& out) const {
  for (std::size_t i = after(from); i < points_.size() && points_[i].at <= to; ++i)
    out.push_back(points_[i].at);
}

std::vector<std::pair<Timestamp, std::uint64_t>> MatchTimes::points(Timestamp from, Timestamp to) const {
  std::vector<std::pair<Timestamp, std::uint64_t>> out;
  for (std::size_t i = after(from); i < points_.size() && points_[i].at <= to; ++i)
    out.emplace_back(points_[i].at, points_[i].total - total_before(i));
  return out;
}

std::int64_t MatchTimes::block_of(Timestamp at, Duration span) {
  const std::int64_t ms = rules::to_unix_ms(at);
  return ms >= 0 ? ms / span.count() : (ms - span.count() + 1) / span.count();
}

std::string MatchTimes::format_block(std::int64_t block, Duration span) const {
  const Timestamp from = rules::from_unix_ms(block * span.count() - 1);
  std::string text;
  std::int64_t last = 0;
  for (const auto& [at, count] : points(from, from + span)) {
    text += fmt::format("{}+{} ", rules::to_unix_ms(at) - last, count);
    last = rules::to_unix_ms(at);
  }
  return text;
}

void MatchTimes::forget(Timestamp until) {
  const std::size_t index = after(until);
  base_ = total_before(index);
  head_ = index;
  if (head_ * 2 < points_.size()) return;  // moving is paid for by what was forgotten
  points_.erase(points_.begin(), points_.begin() + static_cast<std::ptrdiff_t>(head_));
  head_ = 0;
  if (points_.capacity() > 4 * points_.size() + 4) points_.shrink_to_fit();
}

void MatchTimes::forget_after(Timestamp at) {
  points_.resize(after(at));
}

}  // namespace logbell::engine

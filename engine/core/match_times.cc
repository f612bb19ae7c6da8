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

std::optional<Timestamp> MatchTimes::thin(const Thinning& thinning) {
  const std::size_t end = after(thinning.until);
  const std::uint64_t all = total_before(end);
  // So far apart in time at most are those that become one, where windows of the past may begin or end among them.
  const Duration slack = thinning.past / 10;
  std::size_t later = end;    // behind what is surely in a window of `past` that begins there
  std::size_t earlier = end;  // the first that is in one that ends there
  std::vector<Point> kept;    // the newest first
  std::optional<Timestamp> newest;
  std::size_t i = end;
  while (i > head_) {
    const Point& point = points_[--i];
    kept.push_back(point);
    if (all - point.total < thinning.exact) continue;
    std::uint64_t most = (all - point.total) / kMergedShare;
    const bool in_past = thinning.past > Duration(0) && point.at > thinning.past_from;
    if (in_past) {
      while (later > i + 1 && points_[later - 1].at > point.at + (thinning.past - slack))
        --later;
      most = std::min(most, (total_before(later) - point.total) / kMergedShare);
      while (earlier > head_ && points_[earlier - 1].at > point.at - thinning.past)
        --earlier;
    }
    const auto may_go = [&](std::size_t j) {
      // With its own: of those it may be one that others have become before.
      const std::uint64_t merged = point.total - total_before(j);
      if (merged > most) return false;
      if (!in_past) return true;
      return point.at - points_[j].at <= slack &&
             merged <= (total_before(j) - total_before(std::min(earlier, j))) / kMergedShare;
    };
    while (i > head_ && may_go(i - 1)) {
      --i;
      if (!newest) newest = point.at;
    }
  }
  if (!newest) return newest;
  std::reverse(kept.begin(), kept.end());
  kept.insert(kept.end(), points_.begin() + static_cast<std::ptrdiff_t>(end), points_.end());
  points_ = std::move(kept);
  head_ = 0;
  points_.shrink_to_fit();
  return newest;
}

}  // namespace logbell::engine

// TimeBuckets: what happened over a time of unknown length, in a bounded number of equal spans.
//
// Value; one thread. Where the spans no longer suffice, two become one and each is twice as long. Spans begin
// at whole multiples of their length, so that the same times give the same buckets whatever came first.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "rules/time.h"

namespace logbell::engine {

// `Bucket::add(const Bucket& later)` takes what came in the span behind it.
template <class Bucket>
class TimeBuckets {
 public:
  explicit TimeBuckets(std::size_t most, rules::Duration width = std::chrono::seconds(1))
      : most_(most), width_(width) {}

  // The span that `at` is in. What is earlier than the first counts there.
  Bucket& at(rules::Timestamp at) { return buckets_[reach(at)]; }
  // each(bucket, part of [from, to) that is in it), in their order.
  template <class Each>
  void over(rules::Timestamp from, rules::Timestamp to, Each each) {
    if (from >= to) return;
    const std::size_t last = reach(to - rules::Duration(1));
    for (std::size_t i = reach(from); i <= last; ++i) {
      const rules::Timestamp begin = i == 0 ? from : std::max(from, begin_of(i));
      each(buckets_[i], std::min(to, begin_of(i) + width_) - begin);
    }
  }

  bool empty() const { return buckets_.empty(); }
  rules::Duration width() const { return width_; }
  rules::Timestamp begin_of(std::size_t index) const {
    return rules::Timestamp(width_ * (first_ + static_cast<std::int64_t>(index)));
  }
  const std::vector<Bucket>& buckets() const { return buckets_; }

 private:
  static std::int64_t floor_of(std::int64_t a, std::int64_t b) { return a / b - (a % b < 0 ? 1 : 0); }

  std::size_t reach(rules::Timestamp at) {
    if (buckets_.empty()) {
      first_ = floor_of(at.time_since_epoch().count(), width_.count());
      buckets_.emplace_back();
    }
    for (;;) {
      const std::int64_t index = floor_of(at.time_since_epoch().count(), width_.count()) - first_;
      if (index < 0) return 0;
      const auto wanted = static_cast<std::size_t>(index);
      if (wanted < most_) {
        if (wanted >= buckets_.size()) buckets_.resize(wanted + 1);
        return wanted;
      }
      widen();
    }
  }

  void widen() {
    std::vector<Bucket> wide;
    wide.reserve(buckets_.size() / 2 + 1);
    const std::int64_t first = floor_of(first_, 2);
    for (std::size_t i = 0; i < buckets_.size(); ++i) {
      const auto into = static_cast<std::size_t>(floor_of(first_ + static_cast<std::int64_t>(i), 2) - first);
      if (into == wide.size()) {
        wide.push_back(buckets_[i]);
      } else {
        wide[into].add(buckets_[i]);
      }
    }
    first_ = first;
    width_ *= 2;
    buckets_ = std::move(wide);
  }

  std::size_t most_;
  rules::Duration width_;
  std::int64_t first_ = 0;  // the first bucket's begin, in widths since 1970
  std::vector<Bucket> buckets_;
};

}  // namespace logbell::engine

// BoundedQueue: hands values from one thread to another; full, it makes the producer wait.
//
// Thread-safe. The bound counts what `weight` says (bytes, items); one item always fits an empty queue.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <utility>

#include "engine/run/thread_annotations.h"

namespace logbell::engine {

template <class T>
class BoundedQueue {
 public:
  explicit BoundedQueue(std::size_t capacity) : capacity_(capacity) {}

  // Waits for room. False when the queue was closed: the value was not taken.
  bool push(T value, std::size_t weight) {
    const MutexLock lock(mutex_);
    if (is_full(weight)) ++waits_;
    while (is_full(weight))
      not_full_.wait(mutex_);
    if (closed_) return false;
    weight_ += weight;
    items_.emplace_back(std::move(value), weight);
    not_empty_.notify_one();
    return true;
  }
  // Waits until `done()` or something is there. `done` is asked again after each poke().
  template <class Done>
  std::optional<T> pop_unless(Done done) {
    const MutexLock lock(mutex_);
    while (items_.empty() && !closed_ && !done())
      not_empty_.wait(mutex_);
    return take();
  }
  std::optional<T> try_pop() {
    const MutexLock lock(mutex_);
    return take();
  }
  template <class TimePoint>
  std::optional<T> pop_until(TimePoint until) {
    const MutexLock lock(mutex_);
    while (items_.empty() && !closed_ && !poked_) {
      if (not_empty_.wait_until(mutex_, until) == std::cv_status::timeout) break;
    }
    poked_ = false;
    return take();
  }
  // Waits at most `limit`; may return early without a value.
  template <class Span>
  std::optional<T> pop_for(Span limit) {
    const MutexLock lock(mutex_);
    if (items_.empty() && !closed_ && !poked_) not_empty_.wait_for(mutex_, limit);
    poked_ = false;
    return take();
  }
  // Wakes who waits in pop, without a value.
  void poke() {
    const MutexLock lock(mutex_);
    poked_ = true;
    not_empty_.notify_all();
  }
  // Nothing more goes in; what is inside can still be taken out.
  void close() {
    const MutexLock lock(mutex_);
    closed_ = true;
    not_empty_.notify_all();
    not_full_.notify_all();
  }
  bool closed() const {
    const MutexLock lock(mutex_);
    return closed_;
  }
  std::size_t weight() const {
    const MutexLock lock(mutex_);
    return weight_;
  }
  // How often somebody had to wait for room.
  std::uint64_t waits() const {
    const MutexLock lock(mutex_);
    return waits_;
  }

 private:
  bool is_full(std::size_t weight) const REQUIRES(mutex_) {
    return !closed_ && !items_.empty() && weight_ + weight > capacity_;
  }
  std::optional<T> take() REQUIRES(mutex_) {
    if (items_.empty()) return std::nullopt;
    T value = std::move(items_.front().first);
    weight_ -= items_.front().second;
    items_.pop_front();
    not_full_.notify_one();
    return value;
  }

  const std::size_t capacity_;
  mutable Mutex mutex_;
  // The "any" kind: the plain one waits on nothing but std::mutex, which the analysis does not know.
  std::condition_variable_any not_empty_;
  std::condition_variable_any not_full_;
  std::deque<std::pair<T, std::size_t>> items_ GUARDED_BY(mutex_);
  std::size_t weight_ GUARDED_BY(mutex_) = 0;
  std::uint64_t waits_ GUARDED_BY(mutex_) = 0;
  bool closed_ GUARDED_BY(mutex_) = false;
  bool poked_ GUARDED_BY(mutex_) = false;
};

}  // namespace logbell::engine

// BoundedQueue: hands values from one thread to another; full, it makes the producer wait.
//
// Thread-safe. The bound counts what `weight` says (bytes, items); one item always fits an empty queue.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
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
    std::unique_lock lock(mutex_);
    not_full_.wait(lock, [&] { return closed_ || items_.empty() || weight_ + weight <= capacity_; });
    if (closed_) return false;
    weight_ += weight;
    items_.emplace_back(std::move(value), weight);
    not_empty_.notify_one();
    return true;
  }
  // Waits until `done()` or something is there. `done` is asked again after each poke().
  template <class Done>
  std::optional<T> pop_unless(Done done) {
    std::unique_lock lock(mutex_);
    not_empty_.wait(lock, [&] { return !items_.empty() || closed_ || done(); });
    return take();
  }
  std::optional<T> try_pop() {
    std::unique_lock lock(mutex_);
    return take();
  }
  template <class TimePoint>
  std::optional<T> pop_until(TimePoint until) {
    std::unique_lock lock(mutex_);
    not_empty_.wait_until(lock, until, [&] { return !items_.empty() || closed_ || poked_; });
    poked_ = false;
    return take();
  }
  // Wakes who waits in pop, without a value.
  void poke() {
    std::unique_lock lock(mutex_);
    poked_ = true;
    not_empty_.notify_all();
  }
  // Nothing more goes in; what is inside can still be taken out.
  void close() {
    std::unique_lock lock(mutex_);
    closed_ = true;
    not_empty_.notify_all();
    not_full_.notify_all();
  }
  bool closed() const {
    std::unique_lock lock(mutex_);
    return closed_;
  }
  std::size_t weight() const {
    std::unique_lock lock(mutex_);
    return weight_;
  }

 private:
  std::optional<T> take() {
    if (items_.empty()) return std::nullopt;
    T value = std::move(items_.front().first);
    weight_ -= items_.front().second;
    items_.pop_front();
    not_full_.notify_one();
    return value;
  }

  const std::size_t capacity_;
  mutable std::mutex mutex_;
  std::condition_variable not_empty_;
  std::condition_variable not_full_;
  std::deque<std::pair<T, std::size_t>> items_ GUARDED_BY(mutex_);
  std::size_t weight_ GUARDED_BY(mutex_) = 0;
  bool closed_ GUARDED_BY(mutex_) = false;
  bool poked_ GUARDED_BY(mutex_) = false;
};

}  // namespace logbell::engine

// Crew: threads that share the pieces of one piece of work with the thread that calls.
//
// All is its owner's. Without work the threads sleep. Each member begins with its own
// share of the pieces, the same ones in each call of as many, so that what they work on stays in its cache;
// then it takes those that others have not begun.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "engine/io/thread_annotations.h"

namespace logbell::engine {

// Cores that this process may run on: taskset and cgroups' cpusets say so. At least 1.
std::size_t usable_cores();

class Crew {
 public:
  using Each = std::function<void(std::size_t piece, std::size_t member)>;

  // `members`: with the caller; 1 has no thread of its own. Where the system gives no more threads (a
  // container's limit of processes), the crew is smaller: size() says.
  explicit Crew(std::size_t members);
  ~Crew();
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;

  std::size_t size() const { return threads_.size() + 1; }
  // Calls each(piece, member) for every piece below `pieces`, and returns when all are done. `member` is
  // below size(), and no two calls have the same at once. What one of them throws is thrown here, when the
  // others are done.
  void run(std::size_t pieces, Each each) {
    begin(pieces, std::move(each));
    finish();
  }
  // The same in two steps: the others begin, and the owner joins them when it has nothing else to do. One
  // piece of work at a time.
  void begin(std::size_t pieces, Each each);
  void finish();
  bool is_busy() const { return begun_ != nullptr; }

 private:
  // A member's share.
  struct Share {
    std::atomic<std::size_t> next{0};
    std::size_t end = 0;
  };
  // Who comes late finds no piece left in it.
  struct Work {
    std::size_t pieces = 0;
    Each each;
    std::vector<Share> shares;  // by member
    std::atomic<std::size_t> done{0};
    std::atomic<bool> failed{false};
    std::exception_ptr failure;  // of the first that failed
  };

  static void take_part(Work& work, std::size_t member);
  void serve(std::size_t member);

  Mutex mutex_;
  std::condition_variable_any changed_;
  std::shared_ptr<Work> work_ GUARDED_BY(mutex_);
  bool ended_ GUARDED_BY(mutex_) = false;
  std::shared_ptr<Work> begun_;  // the owner's: until it has finished
  std::vector<std::thread> threads_;
};

}  // namespace logbell::engine

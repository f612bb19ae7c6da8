// Crew: threads that share the pieces of some work with the thread that calls.
//
// All is its owner's. Without work the threads sleep. Each member begins with its own
// share of the pieces, the same ones in each work of as many, so that what they work on stays in its cache;
// then it takes those that others have not begun, and then those of the work that was begun next.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
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
    finish(begin(pieces, std::move(each)));
  }
  // The same in two steps: the others begin, and the owner joins them when it has nothing else to do. Several works may
  // be begun at once, and are done in that order; each is to be finished.
  class Work;
  using Ticket = std::shared_ptr<Work>;
  Ticket begin(std::size_t pieces, Each each);
  void finish(const Ticket& work);
  bool is_busy() const { return unfinished_ > 0; }

 private:
  // The first with a piece that nobody has taken; null: there is none.
  Ticket open_work() const REQUIRES(mutex_);
  void serve(std::size_t member);

  Mutex mutex_;
  std::condition_variable_any changed_;
  std::deque<Ticket> begun_ GUARDED_BY(mutex_);  // until the owner has finished it
  bool ended_ GUARDED_BY(mutex_) = false;
  std::size_t unfinished_ = 0;  // the owner's
  std::vector<std::thread> threads_;
};

}  // namespace logbell::engine

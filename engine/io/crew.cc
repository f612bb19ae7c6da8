#include "engine/io/crew.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <system_error>

#include <pthread.h>
#include <sched.h>

#include "rules/result.h"

namespace logbell::engine {

std::size_t usable_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  return static_cast<std::size_t>(std::max(1, CPU_COUNT(&set)));
}

class Crew::Work {
 public:
  Work(std::size_t pieces, Each each, std::size_t members)
      : pieces_(pieces), each_(std::move(each)), shares_(members) {
    for (std::size_t member = 0; member < members; ++member) {
      shares_[member].next = pieces * member / members;
      shares_[member].end = pieces * (member + 1) / members;
    }
  }
  // Does the next of this member's share, or of another's. False: none is left.
  bool take_one(std::size_t member) {
    for (std::size_t of = 0; of < shares_.size(); ++of) {
      Share& share = shares_[(member + of) % shares_.size()];
      if (!share.is_open()) continue;
      const std::size_t piece = share.next.fetch_add(1);
      if (piece >= share.end) continue;
      try {
        each_(piece, member);
      } catch (...) {
        if (!failed_.exchange(true)) failure_ = std::current_exception();
      }
      if (done_.fetch_add(1) + 1 == pieces_) done_.notify_all();
      return true;
    }
    return false;
  }
  bool is_open() const {
    return std::any_of(shares_.begin(), shares_.end(), [](const Share& share) { return share.is_open(); });
  }
  bool is_done() const { return done_.load() >= pieces_; }
  void wait() const {
    for (std::size_t done = done_.load(); done < pieces_; done = done_.load())
      done_.wait(done);
  }
  // Of the first piece that failed, once all are done.
  const std::exception_ptr& failure() const { return failure_; }

 private:
  struct Share {
    std::atomic<std::size_t> next{0};
    std::size_t end = 0;
    bool is_open() const { return next.load() < end; }
  };
  std::size_t pieces_;
  Each each_;
  std::vector<Share> shares_;  // by member
  std::atomic<std::size_t> done_{0};
  std::atomic<bool> failed_{false};
  std::exception_ptr failure_;
};

Crew::Crew(std::size_t members) {
  LOGBELL_CHECK(members >= 1);
  threads_.reserve(members - 1);
  try {
    for (std::size_t member = 1; member < members; ++member)
      threads_.emplace_back([this, member] { serve(member); });
  } catch (const std::system_error&) {
    // It is no reason to stop: those that are there do it all.
  }
}

Crew::~Crew() {
  {
    const MutexLock lock(mutex_);
    ended_ = true;
    changed_.notify_all();
  }
  for (std::thread& thread : threads_)
    thread.join();
}

Crew::Ticket Crew::open_work() const {
  const auto open =
      std::find_if(begun_.begin(), begun_.end(), [](const Ticket& work) { return work->is_open(); });
  return open == begun_.end() ? nullptr : *open;
}

void Crew::serve(std::size_t member) {
  pthread_setname_np(pthread_self(), "crew");
  while (true) {
    Ticket work;
    {
      const MutexLock lock(mutex_);
      while (!ended_ && (work = open_work()) == nullptr)
        changed_.wait(mutex_);
      if (ended_) return;
    }
    while (work->take_one(member)) {
    }
  }
}

Crew::Ticket Crew::begin(std::size_t pieces, Each each) {
  Ticket work = std::make_shared<Work>(pieces, std::move(each), size());
  if (!threads_.empty()) {
    const MutexLock lock(mutex_);
    begun_.push_back(work);
    if (pieces > 1) {
      changed_.notify_all();
    } else {
      changed_.notify_one();
    }
  }
  ++unfinished_;
  return work;
}

void Crew::finish(const Ticket& work) {
  while (work->take_one(0)) {
  }
  // While others are at its last pieces, there is what was begun after it.
  while (!work->is_done()) {
    Ticket next;
    if (!threads_.empty()) {
      const MutexLock lock(mutex_);
      next = open_work();
    }
    if (next == nullptr || !next->take_one(0)) work->wait();
  }
  --unfinished_;
  if (!threads_.empty()) {
    const MutexLock lock(mutex_);
    std::erase(begun_, work);
  }
  if (work->failure() != nullptr) std::rethrow_exception(work->failure());
}

}  // namespace logbell::engine

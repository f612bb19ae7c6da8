#include "engine/io/crew.h"

#include <algorithm>
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

void Crew::take_part(Work& work, std::size_t member) {
  for (std::size_t of = 0; of < work.shares.size(); ++of) {
    Share& share = work.shares[(member + of) % work.shares.size()];
    for (std::size_t piece = share.next.fetch_add(1); piece < share.end; piece = share.next.fetch_add(1)) {
      try {
        work.each(piece, member);
      } catch (...) {
        if (!work.failed.exchange(true)) work.failure = std::current_exception();
      }
      if (work.done.fetch_add(1) + 1 == work.pieces) work.done.notify_all();
    }
  }
}

void Crew::serve(std::size_t member) {
  pthread_setname_np(pthread_self(), "crew");
  std::shared_ptr<Work> last;
  while (true) {
    {
      const MutexLock lock(mutex_);
      while (!ended_ && work_ == last)
        changed_.wait(mutex_);
      if (ended_) return;
      last = work_;
    }
    take_part(*last, member);
  }
}

void Crew::begin(std::size_t pieces, Each each) {
  LOGBELL_CHECK(begun_ == nullptr);
  begun_ = std::make_shared<Work>();
  begun_->pieces = pieces;
  begun_->each = std::move(each);
  begun_->shares = std::vector<Share>(size());
  for (std::size_t member = 0; member < size(); ++member) {
    begun_->shares[member].next = pieces * member / size();
    begun_->shares[member].end = pieces * (member + 1) / size();
  }
  if (pieces <= 1 || threads_.empty()) return;  // nobody need wake up for it
  const MutexLock lock(mutex_);
  work_ = begun_;
  changed_.notify_all();
}

void Crew::finish() {
  const std::shared_ptr<Work> work = std::exchange(begun_, nullptr);
  take_part(*work, 0);
  for (std::size_t done = work->done.load(); done < work->pieces; done = work->done.load())
    work->done.wait(done);
  if (work->failed.load()) std::rethrow_exception(work->failure);
}

}  // namespace logbell::engine

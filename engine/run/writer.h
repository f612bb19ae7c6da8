// Writer: brings what ticks and send loops produced into the store, grouped, and lets nothing leave before
// that.
//
// submit() belongs to the core thread, begin() and settle() to the send loops', step() and wait() to the
// writer's; the shared part is guarded, so it is thread-safe as a whole. Commits come at once when somebody
// waits for one or a notification is due, otherwise every kMaxAge or kMaxBytes. When the store refuses (disk
// full), everything stays in memory and is tried again; what people must hear leaves meanwhile, marked by a
// negative id, and is settled without being sent again once the store works.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/core/pipeline.h"
#include "engine/io/store.h"
#include "engine/run/clock.h"
#include "engine/run/log.h"
#include "engine/run/metrics.h"
#include "engine/run/thread_annotations.h"

namespace logbell::engine {

// The end of a delivery whose sink the configuration does not have.
Settlement no_lane(DeliveryId id, std::uint32_t attempts, std::string_view why, rules::Timestamp now);

class Writer {
 public:
  static constexpr rules::Duration kMaxAge{1000};          // so much is read again after a crash
  static constexpr std::size_t kMaxBytes = 1024 * 1024;    // of entries in one commit
  static constexpr std::size_t kMaxQueuedBytes = 8 << 20;  // of ticks not taken yet: beyond it the core waits
  static constexpr std::size_t kMaxQueuedTicks = 1024;
  // Kept in memory while the store refuses; beyond it repeats go, then the core waits: as the outbox itself.
  static constexpr std::size_t kMaxHeld = Store::kMaxOutboxRows;
  static constexpr std::size_t kMaxHeldNotificationBytes = Store::kMaxOutboxBytes;
  static constexpr std::size_t kMaxHeldBytes = 256 << 20;  // of entries, each key once: all windows are less
  static constexpr rules::Duration kFirstRetry{100};
  static constexpr rules::Duration kLastRetry{5000};
  // With nothing to commit it is looked as often whether the store's files are still there. A commit looks by
  // itself.
  static constexpr rules::Duration kLookEvery{5000};

  struct Options {
    const Clock* clock = nullptr;  // these three must outlive me
    Log* log = nullptr;
    Metrics* metrics = nullptr;
    std::function<rules::Result<std::vector<Delivery>>(const Commit&)> commit;
    std::function<bool()> broken;           // the store will never work again
    std::function<bool()> in_place;         // its files are where they were; false: a commit mends that
    std::function<bool(const std::string& key)> knows;  // has it this one, waiting or told?
    std::function<bool(Delivery)> deliver;  // to its lane; false: there is no such lane
    std::function<void()> on_broken;        // once, on the writer's thread
    // What left undurably and nobody will tell any more: its lane is over. May be unset.
    std::function<void(const std::vector<Delivery>&)> gave_up;
    std::vector<StoredEntry> totals;        // entries under kTotalsPrefix
    std::size_t max_held = kMaxHeld;
    std::size_t max_held_bytes = kMaxHeldBytes;
    // Called again and again by whoever waits for me, instead of sleeping: there is no thread of mine, and
    // this steps me (the simulator). Unset: a thread does.
    std::function<void()> step_instead;
  };
  // Under it the store keeps how deliveries ended, so that a restart does not look like a reset.
  static constexpr std::string_view kTotalsPrefix = "run/notified/";

  explicit Writer(Options options);

  // Waits for room. False: closed, the tick was not taken.
  bool submit(Tick tick);
  // Entries of the runtime's own, committed with what comes next; synced.
  void store(std::vector<StoredEntry> entries);
  // Calls it, once, on the writer's thread: after the commit of what was submitted before and may not wait
  // for its age; or when the store refuses that commit.
  void after_commit(std::function<void()> call);
  // Marks deliveries in flight, in one commit; returns when that is done. False: do not send.
  bool begin(std::vector<DeliveryId> ids);
  // Returns when committed, or when the store has refused and it is kept in memory.
  void settle(const std::string& sink, std::vector<Settlement> settlements);
  // The lane is over: nobody will say what became of what left undurably to it, which the next commits bring
  // into the store. It is given up.
  void forget_lane(std::string lane);
  // Nothing more goes in but settlements; the next step() commits whatever there is.
  void close();
  // Releases who waits, for ever: nothing is committed any more.
  void end();
  bool ended() const;

  // Takes what is there, commits if it is time. Returns when to step again at the latest.
  rules::Instant step();
  // Until something comes in, or `until`.
  void wait(rules::Instant until);

  // Since when the store refuses commits; unset: it does not.
  std::optional<rules::Timestamp> failing_since() const;
  std::string failing_reason() const;  // what it said last; "": it does not
  bool idle() const;  // nothing waits to be committed
  // Of ticks that are not taken yet; and how often submit() had to wait for room.
  std::size_t queued_bytes() const;
  std::uint64_t waits() const;
  // Until idle(), at most `limit`. Whether it is.
  bool wait_idle(rules::Duration limit) const;

 private:
  struct Waiter {
    bool done = false;
    bool may_send = false;
  };
  struct Request {  // begin, or settle with settlements
    std::vector<DeliveryId> begin;
    std::string sink;
    std::vector<Settlement> settlements;
    Waiter* waiter = nullptr;  // lives on the stack of who waits
  };
  struct Held {
    rules::Notification notification;
    std::size_t bytes = 0;  // that it takes
    bool left = false;      // handed over undurably
  };
  struct Undurable {
    Delivery delivery;
    std::optional<DeliveryId> row;         // the store has it by now
    std::optional<Settlement> settlement;  // came to its end before
    std::optional<Settlement> told;        // did not, but was told elsewhere
  };
  struct Pending {
    std::unordered_map<std::string, std::optional<std::string>> entries;
    std::size_t bytes = 0;  // of the entries
    std::list<Held> notifications;
    std::size_t held_bytes = 0;  // of the notifications
    std::map<DeliveryId, Settlement> settlements;
    std::vector<DeliveryId> in_flight;
    std::map<std::pair<std::string, rules::Labels>, double> counters;
    std::map<std::string, std::uint64_t> totals;  // changed ones, by key in the store
    bool sync = false;
    bool urgent = false;
    std::optional<rules::Instant> since;  // the oldest of it

    bool empty() const {
      return entries.empty() && notifications.empty() && settlements.empty() && in_flight.empty() &&
             counters.empty();
    }
  };

  void put(StoredEntry entry);
  void give_up(const std::string& lane);
  void take(Tick tick);
  void take(Request request);
  bool mark(DeliveryId id);
  bool settle_one(const std::string& sink, Settlement settlement);
  // Until the request is answered. False: do not send.
  bool ask(Request request);
  bool has_room(std::size_t bytes) const REQUIRES(mutex_);
  void hold(rules::Notification notification);
  bool too_much() const;
  bool full() const;
  bool make_room();
  bool due(rules::Instant now) const;
  bool attempt(rules::Instant now);
  void succeeded(std::vector<Delivery> added);
  void leave_undurably();
  void drop_outdated(std::list<Held>::const_iterator news);
  void hand_over(Delivery delivery);
  void count_total(const std::string& sink, const Settlement& settlement);
  void release(bool may_send);
  rules::Instant next(rules::Instant now) const;

  const Options options_;

  // Owned by the writer's thread.
  Pending pending_;
  std::vector<Waiter*> waiting_;
  std::map<DeliveryId, Undurable> undurable_;
  std::map<std::string, DeliveryId> undurable_by_key_;
  DeliveryId last_undurable_ = 0;
  std::map<std::string, std::uint64_t> totals_;
  rules::Duration retry_delay_ = kFirstRetry;
  rules::Instant retry_at_;
  rules::Instant look_at_;
  bool displaced_ = false;  // the store's files are not where they were
  bool failing_ = false;
  bool broken_ = false;

  mutable Mutex mutex_;
  std::condition_variable_any work_;           // for the writer
  std::condition_variable_any room_;           // for the core
  std::condition_variable_any answered_;       // for send loops
  mutable std::condition_variable_any quiet_;  // for who waits until everything is committed
  std::vector<Tick> ticks_ GUARDED_BY(mutex_);
  std::size_t tick_bytes_ GUARDED_BY(mutex_) = 0;
  std::uint64_t waits_ GUARDED_BY(mutex_) = 0;
  std::vector<Request> requests_ GUARDED_BY(mutex_);
  std::vector<StoredEntry> own_entries_ GUARDED_BY(mutex_);
  std::vector<std::string> gone_lanes_ GUARDED_BY(mutex_);
  std::vector<std::function<void()>> calls_ GUARDED_BY(mutex_);
  bool closed_ GUARDED_BY(mutex_) = false;
  bool close_seen_ GUARDED_BY(mutex_) = false;
  bool ended_ GUARDED_BY(mutex_) = false;
  bool full_ GUARDED_BY(mutex_) = false;  // nothing more is taken from the core until there is room
  bool idle_ GUARDED_BY(mutex_) = true;
  std::optional<rules::Timestamp> failing_since_ GUARDED_BY(mutex_);
  std::string failing_reason_ GUARDED_BY(mutex_);
};

}  // namespace logbell::engine

// Store: one SQLite file with everything that must survive: state entries, the outbox, receipts. The only
// door to SQL.
//
// Thread-safe. One writing connection behind a mutex (the writer thread calls commit); reads have a
// connection of their own, so that a scrape never waits for a commit's fsync.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/core/batch.h"
#include "rules/notification.h"
#include "rules/result.h"
#include "rules/time.h"

namespace logbell::engine {

using DeliveryId = std::int64_t;

enum class DeliveryState { kPending, kInFlight, kDelivered, kDead, kSuperseded };

// One notification for one lane: a durable row with its own retries.
struct Delivery {
  DeliveryId id = 0;
  rules::Notification notification;
  DeliveryState state = DeliveryState::kPending;
  std::uint32_t attempts = 0;
  std::optional<rules::Timestamp> not_before;  // wall time; clamped when read after a restart
  bool maybe_sent = false;  // it was in flight when the process died, or its answer was lost
  std::string elsewhere;    // the sink that has been told of it, too, in this one's place; "": none
};

// What became of one attempt, to be recorded.
struct Settlement {
  DeliveryId id = 0;
  DeliveryState state = DeliveryState::kPending;
  std::uint32_t attempts = 0;
  std::optional<rules::Timestamp> not_before;
  bool maybe_sent = false;
  std::string elsewhere;  // as of Delivery; "" leaves what the row says
  std::string receipt;  // what the sink gave back
  std::string outcome;  // delivered, retry, rejected, unknown
  std::string reason;   // closed set, see sinks/sink.h
  std::string detail;   // for people; no secrets
  bool drill = false;  // of a drill's message: not counted among the real ones
  rules::Timestamp at;
  std::vector<rules::Notification> fallbacks;  // to be queued with it, in the same transaction
};

struct Commit {
  std::vector<StoredEntry> entries;
  std::vector<rules::Notification> notifications;
  std::vector<Settlement> settlements;
  std::vector<DeliveryId> in_flight;  // about to be sent
  bool sync = false;                  // must be on the disk when commit returns
};

struct OutboxStats {
  std::string lane;
  std::uint64_t pending = 0;
  std::uint64_t dead = 0;
  std::optional<rules::Timestamp> oldest;
};

// A delivery that came to its end, for /api/v1/proof and for people. The newest kMaxHistory are kept.
struct Receipt {
  std::string key;  // of the notification
  std::string sink;
  std::string lane;
  DeliveryState state = DeliveryState::kDelivered;  // or kDead, kSuperseded
  std::uint32_t attempts = 0;
  std::string receipt;
  std::string outcome;
  std::string reason;
  std::string detail;
  rules::Timestamp at;
  // What it was about; empty of one that an older logbell wrote, or whose row could not be read.
  std::vector<std::string> alerts;  // names, as far as Notification::names() go
  std::string why;                  // NotifyReason
  std::string drill;                // "": it was real
  std::string fallback_for;         // the sink that it spoke in place of
  std::optional<rules::Timestamp> created_at;
  std::optional<rules::Timestamp> caused_at;  // the line that caused it was read
};

// What the store did on its own since it was opened: totals for /metrics.
struct StoreCounters {
  std::uint64_t superseded =
      0;  // unsent deliveries that a newer one replaced, or that made room at the outbox's bound
  std::uint64_t unreadable = 0;  // rows that no longer decode: given up, listed in the history
  std::uint64_t displaced = 0;   // how often its files were no longer those at their paths
};

class Store {
 public:
  // How long a start waits for the previous instance to end: a rolling restart overlaps by the old one's
  // grace.
  static constexpr rules::Duration kLockWait{std::chrono::seconds(30)};
  // Deliveries that may wait. Beyond it repeats make room; a first firing or a resolve is always taken.
  static constexpr std::uint64_t kMaxOutboxRows = 100'000;
  static constexpr std::uint64_t kMaxOutboxBytes = std::uint64_t{64} << 20;
  // Ends of deliveries that are remembered: enough for a week of drills and a bad night, a few MB on disk.
  static constexpr std::uint64_t kMaxHistory = 10'000;
  // Dead deliveries whose text is kept, for a replay once the sink is repaired.
  static constexpr std::uint64_t kMaxDead = 1'000;

  struct Opened {
    std::unique_ptr<Store> store;
    bool fresh = false;       // there was no file
    std::string moved_aside;  // path of a corrupt file that was replaced; "" = none
  };
  // Creates `state_dir`/logbell/state.db (0700, 0600) or opens it; takes the single-instance lock, waiting
  // for it at most `lock_wait`. `now` names a file that is moved aside. Deliveries in flight when the last
  // process died become pending with maybe_sent. kUnavailable: another instance holds the lock. kInvalid:
  // written by a newer logbell. kIo: everything else.
  static rules::Result<Opened> open(const std::filesystem::path& state_dir, rules::Timestamp now,
                                    rules::Duration lock_wait = kLockWait);
  ~Store();
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  // Every entry whose key begins with `prefix`, in key order.
  rules::Result<std::vector<StoredEntry>> entries(std::string_view prefix);

  // One transaction. Notifications (the settlements' fallbacks first) become pending deliveries; one whose
  // key exists already, waiting or in the history, is ignored; one with `replaces` takes the place of unsent
  // deliveries of its lane with the same value. Marks and settlements of rows that are gone are ignored.
  // Returns the new deliveries, in order. After an error nothing of it is in the store and the next commit
  // may work, unless broken().
  // Where the files are no longer in_place(), everything is written there anew before: an error that says so
  // means that this could not be done yet.
  rules::Result<std::vector<Delivery>> commit(const Commit& commit);
  // Whether the file, its log and the lock are still those at their paths: somebody may have deleted or
  // replaced them. Three calls of the system; where it does not say, they are.
  bool in_place() const;

  // Whether a notification with this key waits or is in the history. Works while no room is left to write.
  rules::Result<bool> knows(std::string_view key);
  // Undelivered rows of every lane, oldest first. A row that no longer decodes is given up and counted.
  rules::Result<std::vector<Delivery>> undelivered();
  // Per lane, in its name's order. `oldest` is the creation of the oldest undelivered.
  rules::Result<std::vector<OutboxStats>> outbox();
  // The newest first.
  rules::Result<std::vector<Receipt>> history(std::size_t limit);
  StoreCounters counters() const;
  // An fsync failed: what the kernel holds and what the disk holds may differ, and asking again would lie. Or
  // the files were replaced by another instance's, which would tell the same. Every later commit fails; the
  // process must end (exit 74) and start again from what is there.
  bool broken() const;

 private:
  struct Impl;
  explicit Store(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace logbell::engine

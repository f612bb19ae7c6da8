// Store: one SQLite file with everything that must survive: state entries, the outbox, receipts. The only door to SQL.
//
// Thread-safe. One writing connection behind a mutex (the writer thread calls commit and settle); readers use their own.
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
  bool maybe_sent = false;                     // it was in flight when the process died, or its answer was lost
};

// What became of one attempt, to be recorded.
struct Settlement {
  DeliveryId id = 0;
  DeliveryState state = DeliveryState::kPending;
  std::uint32_t attempts = 0;
  std::optional<rules::Timestamp> not_before;
  bool maybe_sent = false;
  std::string receipt;   // what the sink gave back
  std::string outcome;   // delivered, retry, rejected, unknown
  std::string reason;    // closed set, see sinks/sink.h
  std::string detail;    // for people; no secrets
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

class Store {
 public:
  struct Opened {
    std::unique_ptr<Store> store;
    bool fresh = false;               // there was no file
    std::string moved_aside;          // path of a corrupt file that was replaced; "" = none
  };
  // Creates `state_dir`/logbell/state.db (0700, 0600) or opens it; takes the single-instance lock.
  static rules::Result<Opened> open(const std::filesystem::path& state_dir, rules::Timestamp now);
  ~Store();

  // Every entry whose key begins with `prefix`, in key order.
  rules::Result<std::vector<StoredEntry>> entries(std::string_view prefix);

  // One transaction. Notifications become pending deliveries; one whose key exists already is ignored. Returns the new
  // deliveries, in order.
  rules::Result<std::vector<Delivery>> commit(const Commit& commit);

  // Undelivered rows of every lane, oldest first; those in flight when the process died come back as pending with
  // maybe_sent.
  rules::Result<std::vector<Delivery>> undelivered();
  rules::Result<std::vector<OutboxStats>> outbox();

 private:
  struct Impl;
  explicit Store(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace logbell::engine

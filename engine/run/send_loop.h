// SendLoop: brings the deliveries of one lane to its sink: due, deliver, settle, back off.
//
// Owned by one thread; add() is called on that thread between steps (the runtime hands deliveries over through a
// queue). Retries use the monotonic clock. A hung sink delays nobody else.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/io/store.h"
#include "engine/run/clock.h"
#include "rules/time.h"
#include "sinks/sink.h"

namespace logbell::engine {

// What the loop needs from its owner.
class DeliveryLog {
 public:
  virtual ~DeliveryLog() = default;
  // Marks the row in flight before anything leaves; false: do not send now (the store is gone).
  virtual bool begin(DeliveryId id) = 0;
  // Records what became of the attempt, with the fallbacks that speak instead; durable when it returns.
  virtual void settle(const Settlement& settlement) = 0;
  // The lane's sink refuses for good (circuit opened), or works again.
  virtual void sink_dead(const std::string& sink, const std::string& reason) = 0;
  virtual void sink_alive(const std::string& sink) = 0;
};

enum class SinkState { kUnknown, kAlive, kFailing, kDead };

// For /api/v1/sinks and the metrics.
struct LaneView {
  std::string sink;
  std::string lane;
  SinkState state = SinkState::kUnknown;
  std::uint64_t pending = 0;
  std::optional<rules::Timestamp> oldest;
  std::optional<rules::Timestamp> last_delivered;
  std::string last_receipt;
  std::string last_error;
};

class SendLoop {
 public:
  struct Options {
    std::string sink;
    std::string lane;
    std::vector<std::string> fallback_lanes;  // of the sinks named in `fallback:`, in order
    std::vector<std::string> fallback_sinks;  // parallel to fallback_lanes
    const Clock* clock = nullptr;
    DeliveryLog* log = nullptr;
    std::uint64_t seed = 0;                   // for jitter
  };

  SendLoop(std::unique_ptr<sinks::Sink> sink, Options options);
  ~SendLoop();

  void add(Delivery delivery);
  // Sends at most one delivery. Returns when to step again; nullopt: when something is added.
  std::optional<rules::Instant> step();
  // The process is stopping: back-off is ignored, each waiting delivery gets one immediate try.
  void drain();
  bool idle() const;  // nothing waits, or (after drain) everything had its try
  LaneView view() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace logbell::engine

// SendLoop: brings the deliveries of one lane to its sink: due, deliver, settle, back off.
//
// Owned by one thread; add() is called on that thread between steps (the runtime hands deliveries over
// through a queue). view() alone is thread-safe. Retries use the monotonic clock, so that a stepped wall
// clock neither hurries nor holds anything up. A hung sink delays nobody else: each lane has a loop and a
// thread of its own.
//
// What it decides, and why:
// - Most urgent first, then oldest; but a group speaks in order, and as long as they wait together so do
//   groups that speak of the same alert, as after a reload that groups otherwise. Whoever waits behind an
//   older delivery lends it its urgency. What an outage made late comes after what is fresh, and the newest
//   of it first: of the critical ones that is what is wrong now.
// - A storm is told in few messages: where more wait than may leave (Allowance), one speaks for all of them
// and
//   its receipt is that of each.
// - A passing failure (timeout, 5xx, answer lost) pauses the whole lane, full jitter from kBaseBackoff to
//   kMaxBackoff; then one delivery probes, another one each time. The sink's own hint wins, up to kMaxHint.
// - A sink that refuses for good opens the circuit. What has a fallback goes there at once; what has none
//   waits, and one real delivery probes after kFirstProbe, at last every kLastProbe.
// - A sink that refuses messages rather than us proves neither that it works nor that it is dead. Each goes
//   to its fallback; one that has none is named to the others with SinkDead. The first message of all, or
//   kRefusalsOfDead in a row, and the circuit opens; as long as it may be the fault of one group, those of
//   others are tried at once. Only a success closes it.
// - A failure that lasts does not keep people in the dark: see kFallbackAfter.
// - Nothing is given up before kMaxAge but by a refusal for good; a drill's messages after kDrillMaxAge.
// - A drill asks whether it works now: it makes a sink that refuses be tried at once.
// - When the process stops, each gets one more try, and what the sink does not take then is told to the
//   fallbacks: there may be no later. They have half of the time for themselves, each of a list half of the
//   rest.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "engine/io/store.h"
#include "engine/run/clock.h"
#include "rules/plan.h"
#include "rules/time.h"
#include "sinks/sink.h"

namespace logbell::engine {

// A settlement, with what it is about: by then the row may know nothing of it (undurable deliveries).
struct Settled {
  Settlement settlement;
  const rules::Notification* notification = nullptr;  // valid during the call
  bool truncated = false;                             // delivered, but not the whole of it
  bool begins = false;                                // sinks::Outcome::begins
  bool coalesced = false;                             // delivered in a message that spoke for others too
  bool named = true;                                  // and that names its alerts: Notification::names()
};

// What the loop needs from its owner. Called on the loop's thread, from step() only.
class DeliveryLog {
 public:
  virtual ~DeliveryLog() = default;
  // Marks the rows in flight before anything leaves; false: do not send now (the store is gone).
  virtual bool begin(const std::vector<DeliveryId>& ids) = 0;
  // Records what became of attempts, with the fallbacks that speak instead, all in one transaction; durable
  // when it returns. Several at once only when a lane is handed to its fallbacks or given up.
  virtual void settle(const std::vector<Settled>& settled) = 0;
  // A fallback has been told that this alert fires (or has ended): the next process must know it, to tell it
  // the end too. Called before the settle() that carries it, and durable with it. `alert`: a name of the
  // loop's own.
  virtual void told_elsewhere(const std::string& alert, bool of_firing) = 0;
  // What the sink gave back for the first message of the notification's episode; "": nothing is known.
  virtual std::string first_receipt(const rules::Notification& /*notification*/) { return {}; }
  // The lane's sink refuses for good: the circuit opened, or it refused a message that nobody else can speak
  // of. Once, until it is alive again. `why` is for people, and names who is not heard of.
  virtual void sink_dead(const std::string& sink, const std::string& lane, const std::string& why) = 0;
  // It works again. Also at the first success after a start: an earlier process may have called it dead.
  virtual void sink_alive(const std::string& sink, const std::string& lane) = 0;
};

enum class SinkState { kUnknown, kAlive, kFailing, kDead };

// For /api/v1/sinks and the metrics. Counts are since the start of the loop.
struct LaneView {
  std::string sink;
  std::string lane;
  SinkState state = SinkState::kUnknown;
  std::uint64_t pending = 0;
  std::optional<rules::Timestamp> oldest;  // when the one that waits longest was created
  std::optional<rules::Timestamp> last_delivered;
  std::string last_receipt;
  std::string last_error;  // "auth: 403 invalid_token"; kept after a success
  std::optional<rules::Timestamp> last_error_at;
  std::optional<rules::Timestamp> paused_until;  // nothing is sent before; unset: the lane is open
  std::uint32_t failures = 0;                    // passing failures in a row
  std::uint64_t attempts = 0;
  std::uint64_t delivered = 0;
  std::uint64_t dead = 0;          // came to an end without being delivered here, handed over ones included
  std::uint64_t handed_over = 0;   // whose fallbacks were told, instead of this sink or too
  std::uint64_t superseded = 0;    // unsent ones that a newer one replaced
  std::uint64_t rate_limited = 0;  // answers that asked to be left alone
  std::uint64_t coalesced = 0;     // that another one's message spoke for
  std::uint64_t forgotten = 0;     // alerts whose fallback will hear no resolve: there were kMaxElsewhere
};

// A sink to tell instead of another one: every lane of it.
struct Fallback {
  std::string sink;
  std::vector<std::string> lanes;
  bool refreshes = false;  // it forgets what it is not told again: Alertmanager

  friend bool operator==(const Fallback&, const Fallback&) = default;
};
// `fallback:` of each sink that has one, in order, by that sink's name.
using Fallbacks = std::map<std::string, std::vector<Fallback>>;
Fallbacks fallbacks_of(const rules::Plan& plan);

class SendLoop {
 public:
  // The base and the bounds of the back-off: node-slack-sdk's start, and a recovered sink is found in
  // minutes.
  static constexpr rules::Duration kBaseBackoff{1000};
  static constexpr rules::Duration kMaxBackoff{std::chrono::minutes(5)};
  // Full jitter may draw next to nothing, several times in a row; a sink in trouble is spared that.
  static constexpr rules::Duration kMinBackoff{250};
  // A sink that asks to be left alone for longer than this is tried again after it all the same, and
  // meanwhile the fallbacks are told at once.
  static constexpr rules::Duration kMaxHint{std::chrono::minutes(15)};
  // So many failures in a row, and a hint shorter than the back-off ("retry after 1 s", for hours) counts no
  // more.
  static constexpr std::uint32_t kHintsTrusted = 5;
  // A critical alert that fires and finds only passing failures for so long is told to the fallbacks too,
  // once; the sink itself is still tried. Someone must hear of it while it matters; two minutes is past every
  // restart. `fallback_after` of a sink says otherwise, for all that fires there.
  static constexpr rules::Duration kFallbackAfter{std::chrono::minutes(2)};
  // So is any other one that fires, after as long as the longest hint that is kept.
  static constexpr rules::Duration kLateFallbackAfter{kMaxHint};
  // When a sink that refuses for good is tried again, with one real delivery: doubling from the first to the
  // last.
  static constexpr rules::Duration kFirstProbe{std::chrono::minutes(5)};
  static constexpr rules::Duration kLastProbe{std::chrono::minutes(30)};
  // Older than this, what cannot be delivered is given up: nobody can act on it. Never within kMinStay of its
  // arrival in this process, whatever a wall clock that was set says its age is.
  static constexpr rules::Duration kMaxAge{std::chrono::hours(24)};
  static constexpr rules::Duration kMinStay{std::chrono::minutes(10)};
  // A drill that has not arrived by then has failed, and rings nobody hours later.
  static constexpr rules::Duration kDrillMaxAge{std::chrono::minutes(10)};
  // So many messages refused in a row, and it is the sink: two that are bad by themselves hardly ever follow
  // each other.
  static constexpr std::uint32_t kRefusalsOfDead = 2;
  // The whole of one attempt; and of one that probes a refusing sink while a fallback waits for the outcome.
  static constexpr rules::Duration kTimeout{std::chrono::seconds(15)};
  static constexpr rules::Duration kProbeTimeout{std::chrono::seconds(4)};
  // How soon the store is asked again when begin() refused.
  static constexpr rules::Duration kStoreRetry{1000};
  // Settled in one transaction: a few MB of notifications at most.
  static constexpr std::size_t kMaxBatch = 256;
  // What one message speaks for at most: beyond it nobody reads it, and its answer decides over too much.
  static constexpr std::size_t kMaxCoalesced = 100;
  static constexpr std::size_t kMaxCoalescedAlerts = 1000;
  // Alerts that a fallback was told of and whose resolve it must hear too. Beyond it the oldest are
  // forgotten: their fallback hears no resolve.
  static constexpr std::size_t kMaxElsewhere = 10'000;
  // While draining: so many passing failures in a row, and the sink is left alone.
  static constexpr std::uint32_t kMaxDrainFailures = 20;
  // While draining: an attempt with less time than this would only end as unknown.
  static constexpr rules::Duration kMinAttempt{200};

  // Reasons of settlements that no sink gave: they join those of sinks::Reason.
  static constexpr std::string_view kExpired = "expired";  // kMaxAge passed
  static constexpr std::string_view kCircuitOpen =
      "circuit_open";  // the sink refuses for good: not even tried
  static constexpr std::string_view kFallback =
      "fallback";  // no attempt: the fallbacks are told too, it waits on
  static constexpr std::string_view kOutdated = "outdated";  // a refresh: the contrary has been told since

  struct Options {
    std::string sink;
    std::string lane;
    Fallbacks fallbacks;  // of every sink: what came here in another's place goes on along its list
    rules::Duration min_interval{0};       // SinkType::min_interval
    std::uint32_t per_minute = 0;          // SinkSpec::messages_per_minute
    std::optional<rules::Duration> fallback_after;  // SinkSpec::fallback_after; unset: kFallbackAfter and its like
    const Clock* clock = nullptr;          // must outlive me
    DeliveryLog* log = nullptr;            // must outlive me
    std::uint64_t seed = 0;                // for jitter
    std::set<std::string> told_elsewhere;  // alerts that told_elsewhere() has named before
  };

  SendLoop(std::unique_ptr<sinks::Sink> sink, Options options);
  ~SendLoop();

  // New, or found in the store at a start (in the order of the store). Takes the place of waiting ones with
  // the same `replaces`. A key that waits already is not added twice; an undurable one (id ≤ 0) gets the
  // row's id. `not_before` is a hint that the sink gave an earlier process: the lane keeps to it, kMaxHint at
  // most.
  void add(Delivery delivery);
  // Takes over what waits in another loop of this lane, which is over then, in its order: only that loop
  // knows what became of it since the store last worked. Call before anything else is added.
  void take_over(SendLoop& former);
  // Sends at most one delivery. Returns when to step again; nullopt: when something is added.
  std::optional<rules::Instant> step();
  enum class Ending { kProcess, kSink };
  // The process is stopping: the steps after this ignore back-off and give each waiting delivery one try,
  // until `deadline`. A sink's own hint is kept: what it does not allow in time stays in the store, like
  // everything that fails; and the fallbacks are told of it meanwhile, after half of the time at the latest.
  // kSink: it is the sink alone that was removed, and nobody speaks for it any more.
  void drain(rules::Instant deadline, Ending ending = Ending::kProcess);
  // Tells the fallbacks of whatever waits, or is being sent, that people must hear. With add() and view() the
  // only one that may be called from within Sink::deliver(), in the place of a step: by whoever has waited
  // for it long enough.
  void tell_fallbacks();
  bool idle() const;  // nothing waits, or (after drain) everything had its try
  // Thread-safe. As of the end of the last step() or add(); a pause that is over since is none.
  LaneView view() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace logbell::engine

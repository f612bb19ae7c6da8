// Heartbeat: says again and again, to something that watches logbell from outside, that whoever should hear
// of an alert would (DESIGN.md §7: a heartbeat that is earned).
//
// A ping is sent only while it is true. What is known to be bad is told where the receiver has a word for it
// (`URL/fail`); a loop that does not get on is told by silence, for nothing that it says could be relied on.
// Its way is its own: own thread, own connection, own deadline; no queue, no store, no sink that an alert takes.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "engine/core/pipeline.h"
#include "engine/io/thread_annotations.h"
#include "engine/run/clock.h"
#include "engine/run/config.h"
#include "engine/run/log.h"
#include "engine/run/metrics.h"
#include "engine/run/send_loop.h"
#include "engine/run/verify.h"

namespace logbell::engine {

// How often it is looked whether a ping is still earned: what is bad is told then, not at the next ping.
inline constexpr rules::Duration kPulseLook{std::chrono::seconds(5)};
// The same until the first one.
inline constexpr rules::Duration kStartLook{std::chrono::seconds(1)};
// A loop that has not got on for so long earns none: twice what reader, core and writer wait at most.
inline constexpr rules::Duration kPulseStalled{std::chrono::seconds(10)};
// Who should have heard of it has waited too long (SINKS.md §12).
inline constexpr rules::Duration kUndeliveredTooLong{std::chrono::minutes(5)};
// Between two pings, whatever changes: healthchecks.io drops more than five a minute.
inline constexpr rules::Duration kPulseGap{std::chrono::seconds(15)};
// What was not taken is tried again after this, or `every` where that is shorter.
inline constexpr rules::Duration kPulseAgain{std::chrono::seconds(15)};
// Not taken for so long: HeartbeatUnheard says so. What is refused for good says so at once.
inline constexpr rules::Duration kUnheardAfter{std::chrono::minutes(5)};
// The last word may hold up the end of the process for so long.
inline constexpr rules::Duration kLastWord{std::chrono::seconds(3)};
// In one message; a reader acts on the first ones.
inline constexpr std::size_t kMaxPulseReasons = 10;

// What may be said of this moment.
struct Pulse {
  enum class Kind {
    kEarned,    // whoever should hear of an alert would
    kBad,       // nobody would, or not in time: `reason`
    kDoubtful,  // not earned; bad, should it last
    kSilent,    // not earned, and not known why: a loop does not get on
    kStarting,  // not earned yet
  };
  Kind kind = Kind::kSilent;
  std::string reason;  // of all but kEarned; the same as long as the same is wrong
};

// What a pulse rests on.
struct PulseFacts {
  rules::Timestamp now;
  std::vector<std::string> stalled;               // loops
  bool ready = false;                             // what was written has been read once
  std::vector<std::string> lost_rules;            // whose sinks are all dead
  std::optional<std::string> drill;               // what is wrong with the last one
  std::optional<rules::Timestamp> failing_since;  // the state cannot be written
  std::vector<LaneView> lanes;
  std::vector<std::string> unreadable;  // sources without a file that can be read
};
Pulse pulse_of(const PulseFacts& facts);
// Sinks of which no lane takes messages: each refuses them, or answered a question so and has taken none
// since.
std::set<std::string> dead_sinks(const rules::Plan& plan, const std::vector<LaneView>& lanes,
                                 const Verdicts& verdicts);

// What one heartbeat says.
enum class Beat {
  kAlive,
  kBad,
  kStopping,
};

struct BeatOutcome {
  bool taken = false;
  bool refused = false;  // and will not be taken: nobody listens at that URL
  std::string detail;    // for people; never a secret
  std::optional<rules::Duration> retry_after;
};

// The receiver. Blocks until the deadline; one thread.
class HeartbeatSender {
 public:
  virtual ~HeartbeatSender() = default;
  // Whether the receiver has a word for it.
  virtual bool knows(Beat beat) const = 0;
  // `status`: what the body says, as JSON; `summary`: the same in a few words.
  virtual BeatOutcome send(Beat beat, const std::string& status, const std::string& summary,
                           rules::Duration timeout, rules::Timestamp now) = 0;
};
std::unique_ptr<HeartbeatSender> make_heartbeat_sender(const HeartbeatSettings& settings);

// Sends them in their time. step() and wait() are one thread's, the rest is thread-safe.
class HeartbeatLoop {
 public:
  struct Options {
    const Clock* clock = nullptr;  // these outlive me
    Log* log = nullptr;
    Metrics* metrics = nullptr;
    std::string version;
    std::function<Pulse()> pulse;         // how logbell does; thread-safe, waits for nobody for long
    std::function<void(Condition)> tell;  // HeartbeatUnheard
    std::function<std::unique_ptr<HeartbeatSender>(const HeartbeatSettings&)> build = make_heartbeat_sender;
  };
  HeartbeatLoop(Options options, std::shared_ptr<const Config> config);

  std::optional<rules::Instant> step();
  void wait(std::optional<rules::Instant> until);
  bool done() const;

  // From the next step on. A configuration without `heartbeat:`: nobody is told anything.
  void replace(std::shared_ptr<const Config> config);
  // One last word, then done. `bad`: what the process dies of, where it is not asked to end.
  void stop(std::optional<std::string> bad);

 private:
  struct Order {
    std::shared_ptr<const Config> config;
    bool is_new = false;
    bool stopping = false;
    std::optional<std::string> bad;
  };
  Order take_order();
  void begin(const Config& config, rules::Instant now);
  Pulse judge(rules::Instant now);
  BeatOutcome say(Beat beat, const std::string& reason, rules::Duration timeout);
  void last_word(const std::optional<std::string>& bad);
  void heard(const BeatOutcome& outcome, rules::Instant now);
  void tell_unheard(bool active, const std::string& why);
  void count(const char* outcome, double by = 1) const;

  const Options options_;

  // Owned by the loop's thread.
  std::shared_ptr<const Config> known_;  // that `sender_` was made of
  std::unique_ptr<HeartbeatSender> sender_;
  rules::Instant due_;  // the next ping
  std::optional<rules::Instant> last_attempt_;
  std::optional<Pulse> last_;  // what the last look found
  std::optional<Pulse> said_;  // what was attempted to say, or kept silent of
  std::optional<rules::Instant> doubtful_since_;
  std::optional<rules::Instant> unheard_since_;
  std::optional<rules::Timestamp> unheard_at_;  // the same on the wall
  std::optional<bool> told_unheard_;            // what the core was told last

  mutable Mutex mutex_;
  std::condition_variable_any changed_;
  std::shared_ptr<const Config> config_ GUARDED_BY(mutex_);
  bool fresh_ GUARDED_BY(mutex_) = true;  // config_ was not seen by a step yet
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::optional<std::string> bad_ GUARDED_BY(mutex_);
  bool done_ GUARDED_BY(mutex_) = false;
};

}  // namespace logbell::engine

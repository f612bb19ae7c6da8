// What happens to what is sent: sinks with moods, and everything that ever had an effect at one.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "sinks/sink.h"
#include "tests/sim/model.h"

namespace logbell::sim {

enum class Mood {
  kWell,
  kFlaky,    // each answer is drawn
  kBroken,   // 5xx
  kHanging,  // never answers; sometimes it has taken the message all the same
  kLimited,  // 429, with a time to wait or without
  kLosing,   // takes it, and the answer is lost
  kDead,     // refuses us for good
  kRefusing  // refuses messages
};
const char* to_string(Mood mood);

// An alert, as people know it.
struct Who {
  std::string name;
  std::string labels;  // what tells it from others of the name
  friend auto operator<=>(const Who&, const Who&) = default;
};

struct Mention {
  bool firing = false;
  Ms fired_at = 0;
  std::optional<Ms> resolved_at;
  std::string reason;      // of a resolve
  std::string how;         // in which message, for whoever reads a failure
  bool undurable = false;  // told while nothing could be written down
  bool forgotten = false;  // and the process died before it was
};

// One lane of one sink, as its receiver sees it.
struct Receiver {
  std::string sink;
  std::string lane;
  Mood mood = Mood::kWell;
  std::map<Who, std::vector<Mention>> heard;  // in the order of their effects
  std::set<Who> refused;                      // of messages that were refused, or of which nobody knows
  std::set<std::string> groups;               // that it was told of
  bool ever_failed = false;                   // its fallback may have been told instead
  std::uint64_t effects = 0;
};

class Receivers {
 public:
  struct World {
    std::mt19937_64* random = nullptr;
    std::function<void(rules::Duration)> time_passes;  // while a sink hangs
    std::function<void()> after_effect;                // may crash: it was taken, and nobody wrote that down
    std::function<void(const std::string&)> wrong;     // a promise was broken
    std::function<void(const std::string&)> note;      // for whoever replays
  };
  explicit Receivers(World world) : world_(std::move(world)) {}

  Receiver& of(const std::string& sink, const std::string& lane);
  std::map<std::string, Receiver>& all() { return by_lane_; }  // by lane
  sinks::Outcome deliver(Receiver& receiver, const rules::Notification& notification,
                         const sinks::Attempt& attempt);
  // A process died: what it had sent may come again.
  void crashed();
  // Out of the configuration: it is owed nothing any more.
  void removed(const std::string& sink);
  // What is sent before it is written down may come again in other words, and after a crash nobody knows of
  // it.
  void set_undurable() { undurable_ = ever_undurable_ = true; }
  void set_durable();  // all of it is written down

 private:
  struct Sent {
    std::string text;
    std::string about;  // lane, reason, alerts: what must never change
    std::uint64_t effects = 0;
    std::uint64_t excuses = 0;  // answers that were lost
    std::uint64_t crashes_at_first = 0;
  };
  void take(Receiver& receiver, const rules::Notification& notification);

  World world_;
  std::map<std::string, Receiver> by_lane_;
  std::map<std::string, Sent> by_key_;
  std::uint64_t crashes_ = 0;
  bool undurable_ = false;
  bool ever_undurable_ = false;
};

}  // namespace logbell::sim

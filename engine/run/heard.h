// Heard: the heartbeats that others send to this logbell (`heartbeats:`), and whose are missing.
//
// Only time in which this one listened counts as silence: a restart here is no alarm about others, and no
// amnesty for them. Thread-safe; hear() and views() are the HTTP server's thread's, tend(), replace() and
// keep() the main thread's.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/core/pipeline.h"
#include "engine/io/store.h"
#include "engine/io/thread_annotations.h"
#include "engine/run/clock.h"
#include "engine/run/heartbeat_fields.h"

namespace logbell::engine {

class Heard {
 public:
  // The store has a row for each under it, and its name.
  static constexpr std::string_view kPrefix = "run/heard/";
  // Of silence, what a crash may forget.
  static constexpr rules::Duration kKeepEvery{std::chrono::seconds(30)};
  // Between two looks no more counts as silence: the process itself stood still, or the machine.
  static constexpr rules::Duration kMostCounted{std::chrono::seconds(15)};
  // Of a reason, in the alert.
  static constexpr std::size_t kReasonBytes = 300;

  enum class Word {
    kAlive,
    kFail,  // something is known to be bad there
    kLog,   // changes nothing, but is told should it go missing: it was asked to stop
  };
  struct Options {
    const Clock* clock = nullptr;  // outlives me
    std::function<void(Condition)> tell;
    std::function<void(std::vector<StoredEntry>)> store;
    std::function<void()> wake;  // tend() has something to do; may be unset
  };
  struct View {
    std::string name;
    std::optional<rules::Timestamp> heard_at;
    bool missing = false;
    bool failing = false;
    std::string reason;  // of failing
  };

  // `stored`: the rows under kPrefix, and others, of an earlier process.
  Heard(Options options, const std::map<std::string, ListenedFor>& listened_for,
        const std::vector<StoredEntry>& stored);

  // Whether that name is listened for; its token, which its sender must know ("": none is needed).
  std::optional<rules::Secret> token(const std::string& name) const;
  // False: nobody of that name is listened for. `body`: its reason, as logbell sends it or as plain text.
  bool hear(const std::string& name, Word word, std::string_view body);
  std::vector<View> views() const;

  // Counts silence, and tells what has changed.
  void tend();
  void replace(const std::map<std::string, ListenedFor>& listened_for);
  // Stores how long each has been silent.
  void keep();

 private:
  struct One {
    ListenedFor wanted;
    std::optional<rules::Timestamp> heard_at;
    rules::Duration silent{0};  // while this one listened
    bool failing = false;
    std::string reason;
    std::optional<rules::Timestamp> stopping_at;  // it said so, and nothing since
    rules::Duration kept{-1};                     // `silent` in the store; -1: what the store has is old
    std::optional<bool> told_missing;
    std::optional<bool> told_failing;

    bool missing() const { return silent >= wanted.every + wanted.grace; }
  };
  static Condition condition(const std::string& name, const One& one, bool missing);
  static Condition over(const std::string& name, const char* alertname);
  static StoredEntry entry(const std::string& name, One& one);
  static void restore(One& one, const std::string& value);

  const Options options_;
  rules::Instant looked_at_;  // by tend(); the main thread's
  mutable Mutex mutex_;
  std::map<std::string, One> all_ GUARDED_BY(mutex_);
};

}  // namespace logbell::engine

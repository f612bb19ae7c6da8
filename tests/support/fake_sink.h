// FakeSink: a sink that answers as a test says, and remembers everything it was sent.
//
// The script outlives the sink, which a send loop owns. Of one thread, like a sink.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/run/clock.h"
#include "sinks/sink.h"

namespace logbell::tests {

class FakeSink final : public sinks::Sink {
 public:
  struct Sent {
    rules::Notification notification;
    sinks::Attempt attempt;
    rules::Instant at;
    std::vector<rules::Notification> spoke_for;  // Attempt::speaks_for, which is gone by now
  };
  struct Script {
    const engine::Clock* clock = nullptr;
    std::deque<sinks::Outcome> next;  // answers in order; then `always`
    sinks::Outcome always = sinks::Outcome::delivered("receipt");
    // Instead of both, when set.
    std::function<sinks::Outcome(const rules::Notification&, const sinks::Attempt&)> answer;
    std::vector<Sent> sent;

    std::vector<std::string> keys() const {
      std::vector<std::string> keys;
      for (const Sent& one : sent)
        keys.push_back(one.notification.key);
      return keys;
    }
  };

  explicit FakeSink(Script& script) : script_(script) {}  // must outlive me

  sinks::Outcome deliver(const rules::Notification& notification, const sinks::Attempt& attempt) override {
    std::vector<rules::Notification> spoke_for;
    for (const rules::Notification* one : attempt.speaks_for)
      spoke_for.push_back(*one);
    script_.sent.push_back({notification, attempt, script_.clock->instant(), std::move(spoke_for)});
    if (script_.answer) return script_.answer(notification, attempt);
    if (script_.next.empty()) return script_.always;
    sinks::Outcome outcome = std::move(script_.next.front());
    script_.next.pop_front();
    return outcome;
  }

 private:
  Script& script_;
};

}  // namespace logbell::tests

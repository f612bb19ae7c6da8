// Refusal: a start was refused, and everybody who can be told is told (DESIGN.md §7). A configuration that is
// wrong must not be one more way in which nobody hears of anything.
//
// Where an earlier configuration goes on it has a store, a route and an outbox of its own, and the refusal is
// a built-in alert of it, ConfigReloadFailed. Where nothing runs:
//
// Works without the store, which a running instance may hold or which may not open at all. Who was told is
// kept in a small file of its own, so that a supervisor that starts us again every two seconds floods nobody;
// if that file cannot be kept, people are told of a configuration all the same.
//
// A start that fails with a good configuration (a full disk, a port that is taken) is told likewise. There
// the file is what often cannot be kept: then a mark beside it, or in `spare_memory`, says for all sinks that
// they were told; and without any of them only those are that take the same message twice for one.
//
// Called once, by one thread, before the process exits.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/core/pipeline.h"
#include "engine/run/clock.h"
#include "rules/labels.h"
#include "rules/notification.h"
#include "rules/plan.h"
#include "rules/problems.h"
#include "rules/secret.h"
#include "sinks/sink.h"

namespace logbell::engine {

// What salvage_sinks (engine/run/config.h) gives: the sinks that parsed.
using SalvagedSinks = std::vector<std::pair<rules::SinkSpec, std::shared_ptr<const sinks::SinkConfig>>>;

// The same refusal is told to a sink once in this time; a configuration that is wrong in another way, anew.
inline constexpr rules::Duration kRefusalRepeat{std::chrono::hours(1)};
// A sink that could not be told is tried again at the next start, but not at each one of a crash loop.
inline constexpr rules::Duration kRefusalRetry{std::chrono::minutes(1)};
// One attempt, and all of them: the supervisor waits for our exit.
inline constexpr rules::Duration kRefusalTimeout{std::chrono::seconds(5)};
inline constexpr rules::Duration kRefusalTotal{std::chrono::seconds(20)};
// Sinks that are told at the same time.
inline constexpr std::size_t kRefusalThreads = 8;
// Problems that the message quotes; the terminal has them all. Five of 300 bytes fit every sink that tells
// people.
inline constexpr std::size_t kRefusalQuoted = 5;
inline constexpr std::size_t kRefusalQuotedBytes = 300;
// Memories that are kept, the newest: a line of 40 bytes each.
inline constexpr std::size_t kRefusalRemembered = 1000;

struct Refusal {
  std::string path;          // of the configuration
  rules::Problems problems;  // why
  bool could_not_start = false;  // the configuration is good: the problem is another
  rules::Labels labels;      // on every alert: instance, environment, …
  std::string consequence = "Nothing is watched until this is fixed.";
  std::string configuration;  // its text, if it could be read: another text is another refusal
  std::string state_dir;      // the memory is `state_dir`/logbell/refused; "" = none is kept
  std::string spare_memory = "/dev/shm";  // where a mark is kept if state_dir takes none
  std::string external_url;
  std::vector<rules::Secret> secrets;  // hidden in the message, as the sinks' own are
};

struct RefusalReport {
  enum class Outcome {
    kTold,
    kToldBefore,   // within kRefusalRepeat
    kTriedBefore,  // in vain, within kRefusalRetry
    kFailed,
    kTellsNobody,  // files and consoles: the process's own log says it already
  };
  struct One {
    std::string sink;
    Outcome outcome = Outcome::kFailed;
    std::string detail;  // the receipt, or why not
  };
  std::vector<One> sinks;  // in the order in which they came
  std::string not_kept;    // why the memory could not be kept; "" = it is

  std::size_t told() const;  // of now
};

// Tells each sink that tells people, over its lanes one after another until one takes it: peers of one
// Alertmanager cluster tell each other.
RefusalReport tell_refusal(const SalvagedSinks& sinks, const Refusal& refusal, const Clock& clock);

// What is sent to a sink's lane: the text, and the same as an alert for sinks that speak in alerts.
rules::Notification refusal_notification(const Refusal& refusal, const std::string& sink,
                                         const std::string& lane, rules::Timestamp now);

// ConfigReloadFailed, where an earlier configuration goes on: told by that one's route, until it ends. Says
// the first error with its place, reason and fix.
Condition reload_failed(const Refusal& refusal);
// A configuration was accepted.
Condition reload_succeeded();

}  // namespace logbell::engine

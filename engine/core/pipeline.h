// Pipeline: the pure core. Windows, evaluator, alerts and dispatcher in order; time is an argument.
//
// Owned by the core thread (or by a test, a backtest, the simulator). No clock, file, socket, log or mutex.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/core/batch.h"
#include "engine/core/evaluator.h"
#include "rules/alert.h"
#include "rules/notification.h"
#include "rules/plan.h"
#include "rules/time.h"

namespace logbell::engine {

// A fact about logbell itself that a built-in alert rests on: SinkDead, StateLost, ConfigReloadFailed. The
// core knows InputSilent, InputIncomplete, InputGap, RuleUnknown, MatchesTooLate, AlertsMissed, TimestampSkew and SeriesOverflow by itself.
struct Condition {
  std::string alertname;
  rules::Labels labels;  // sink="ops-slack"
  std::string summary;   // one sentence for whoever is woken
  std::string severity = "critical";
  bool active = true;  // false: it has ended
  bool renews =
      false;  // while it is active, a later summary takes the place of the one before; nobody is told
};

// A counter or gauge as last computed, for /metrics. Counters are committed with the tick.
struct MetricValue {
  std::string name;
  rules::Labels labels;
  double value = 0;
};

// Everything one evaluation produced. Commit it before anything leaves.
struct Tick {
  rules::Timestamp now;
  std::vector<rules::Transition> transitions;
  std::vector<rules::Notification> notifications;  // one per lane, keys set
  std::vector<StoredEntry> entries;   // state to write: windows, alerts, groups, counters, positions
  std::vector<MetricValue> counters;  // new totals of the counters that moved
  bool must_sync = false;  // carries an alert, lines that cannot be read again, or a file's first position
  std::size_t bytes = 0;   // of entries: a commit comes at the latest every MiB

  bool empty() const { return transitions.empty() && notifications.empty() && entries.empty(); }
};

// An alert for people and /api/v1/alerts, with its rule.
struct AlertView {
  rules::Alert alert;
  std::size_t rule = 0;  // index into Plan::rules; SIZE_MAX: built in
  bool unknown = false;
};

struct RuleView {
  std::size_t rule = 0;
  rules::Timestamp clock = rules::kLongAgo;  // evaluated up to here
  bool unknown = false;
  std::string unknown_reason;  // "its windows have been watched for 3m of 2h", "source api is unreadable"
  std::size_t pending = 0;
  std::size_t firing = 0;
  bool failing = false;  // unknown because its last evaluation failed
};

class Pipeline {
 public:
  // Matches in memory of all patterns at most: eight full ones, 128 MiB. Beyond it each pattern that matches
  // is treated as one that has reached PatternWindow::kMaxPoints.
  static constexpr std::size_t kMaxPoints = 8'000'000;

  // Whether ticks say what is to be stored. kNothing: they have no entries and no counters, and nothing is
  // spent on them: of old logs and of tests.
  enum class Stores : std::uint8_t { kState, kNothing };

  // `restored`: every entry that earlier ticks wrote (keys that begin with "core/"), as the store has it.
  Pipeline(std::shared_ptr<const rules::Plan> plan, const std::vector<StoredEntry>& restored,
           std::size_t max_points = kMaxPoints, Stores stores = Stores::kState);
  ~Pipeline();
  Pipeline(const Pipeline&) = delete;
  Pipeline& operator=(const Pipeline&) = delete;

  // Takes matches and progress; evaluates nothing yet.
  void ingest(const MatchBatch& batch);
  void set_condition(const Condition& condition, rules::Timestamp now);
  // Which sinks refuse for good at the moment: SinkDead is routed around them.
  void set_sink_dead(const std::string& sink, bool dead);

  // Evaluates every rule up to its clock, instant by instant, then groups. `now` is wall time. The runtime
  // holds steps back of up to 10 s; a larger one sets clocks and timers back (DESIGN.md §3 "Clock").
  // Everything since the last tick is in the returned value.
  Tick tick(rules::Timestamp now);

  // The next wall time at which something can change without a new line: a window's edge, a `for` that
  // matures, a group's timer. Before it comes, the reader must confirm how far the sources are read.
  std::optional<rules::Timestamp> next_instant() const;

  // A new plan from here on: the state of what is unchanged (by identity) carries over; removed rules
  // resolve.
  void replace_plan(std::shared_ptr<const rules::Plan> plan, rules::Timestamp now);

  // Sinks that the plan no longer has, and of how many firing alerts each was told: it hears no end of them.
  // To be asked before the next tick, which forgets it.
  std::map<std::string, std::size_t> left_behind() const;

  // How many alerts of lines older than max_replay_age this process has told to nobody: they still fire in
  // rules that are not at the present, or ended before the first start.
  std::uint64_t untold() const;

  std::vector<AlertView> alerts() const;
  std::vector<RuleView> rules() const;
  // Every counter total and the gauges logbell_alerts, logbell_rule_unknown …, complete.
  std::vector<MetricValue> metrics() const;
  // Of these, the counters that say what came to a bound or went wrong, where something did; those of the patterns' matches
  // are not among them.
  std::vector<MetricValue> moved_counters() const;
  const rules::Plan& plan() const;
  // What an expression over my plan's patterns is at a moment that their windows still cover: for whoever
  // looks at a part of a rule.
  rules::Result<std::vector<Sample>> evaluate(const rules::Expr& expr, rules::Timestamp at) const;
  // The same windows, for whoever looks at a span of time; valid until the next call of a non-const member.
  // Between ingest() and tick() they cover everything that the tick will evaluate.
  WindowOf windows() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace logbell::engine

// Dispatcher: who is told what, and when: groups, their timers, what each sink was told.
//
// Owned by the core thread. Time is always passed in: wall time, since it is people who wait. Alertmanager's
// model (route tree, group_wait, group_interval, repeat_interval, mute and active hours), with three things
// of our own: the first of a group leaves at once, a resolve always goes to whoever was told that it fired,
// and what is too old to be sent one by one is held until the log has been caught up with (DESIGN.md §3
// "Downtime").
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "engine/core/batch.h"
#include "rules/alert.h"
#include "rules/json.h"
#include "rules/notification.h"
#include "rules/plan.h"
#include "rules/time.h"

namespace logbell::engine {

// Alerts by what identifies them to people, with the moment each episode began.
using Episodes = std::map<rules::Fingerprint, rules::Timestamp>;

// What one sink was last told of one group.
struct Told {
  Episodes firing;
  // Told as resolved and not forgotten by the group yet; of what is in `firing` too: by another group, while
  // this one owes its end.
  Episodes resolved;
  rules::Timestamp at;  // wall time at which it was told last
};

// What a group has to say to one sink, decided in one place. `told`: null when it was never told anything.
// `has_new`: something that fires, or fired and ended since, of which the sink knows nothing.
rules::NotifyReason needs_update(const Told* told, const Episodes& firing, const Episodes& resolved,
                                 bool send_resolved, rules::Duration repeat_interval, rules::Timestamp now);

// Where an alert goes: the rule's own sinks, or the route's nodes.
struct Destination {
  std::string id;  // of the route's node, or of the rule's own sinks: part of the group's key
  const rules::RouteOptions* options;  // of the node; a rule's own sinks take the root's timers
  std::vector<std::string> sinks;
};

class Dispatcher {
 public:
  // Alerts in one message at most: more are sent as further messages of the same moment. A hundred with their
  // sample lines are about 150 KB, below every sink's own limit on a request.
  static constexpr std::size_t kMaxAlertsPerNotification = 100;
  // Alerts named in a summary of the past; the rest are counted in it.
  static constexpr std::size_t kMaxSummaryLines = 30;

  // What fired and ended while nobody read.
  struct Past {
    std::uint64_t count = 0;
    std::vector<std::string> lines;  // the first kMaxSummaryLines
  };
  // Alertmanager wants to hear of a resolve more than once: it may have been restarted in between.
  static constexpr rules::Duration kRefreshResolved{std::chrono::minutes(15)};

  // `plan` must outlive me, or the next replace_plan().
  explicit Dispatcher(const rules::Plan& plan);

  // Puts back what save() wrote: of `entries` those whose keys begin with "core/d/".
  void restore(const std::vector<StoredEntry>& entries);

  // Takes a step of an alert. `rule`: its identity; unset: built in. What is older than
  // max_replay_age is held back. `caused_at`: when the line behind it was read.
  void insert(const rules::Transition& transition, std::optional<rules::Fingerprint> rule,
              rules::Timestamp caused_at, rules::Timestamp now);

  // What is held back because its rule is still reading the past: `caught_up(identity)` says which rules are
  // not.
  void release(const std::function<bool(rules::Fingerprint identity)>& caught_up, bool everything_caught_up,
               rules::Timestamp now);

  // Everything that is due. `renew` brings an alert's value, annotations and last line up to date; false: the
  // alert is not known any more.
  void flush(rules::Timestamp now, const std::function<bool(rules::Alert&)>& renew,
             std::vector<rules::Notification>& out);

  // The next wall time at which flush() has something to do; `now` when it has already.
  std::optional<rules::Timestamp> next_instant(rules::Timestamp now) const;

  // Writes what changed since the last call.
  void save(std::vector<StoredEntry>& out);
  // What changed is not to be written.
  void forget_changes();

  // Groups are formed anew under the new route; what was told stays told.
  void replace_plan(const rules::Plan& plan);

  // Of sinks that the plan no longer has: how many alerts each was told of that it will hear no end of.
  // Forgotten with the next flush().
  std::map<std::string, std::size_t> left_behind() const;

  void set_sink_dead(const std::string& sink, bool dead);

  // The wall clock was set back to `now`: no timer waits for a moment that was near before and is far now.
  void set_back(rules::Timestamp now);

  // Nothing older is told in a summary: there was no earlier run whose reader could have missed it.
  void set_first_start() { first_start_ = first_start_changed_ = true; }

  // Alerts that nobody is told of, as of this process: those that are held back, for they fired longer ago
  // than max_replay_age and their rules are not at the present, and those that fired and ended before the
  // first start.
  std::uint64_t untold() const { return held_.size() + before_start_; }
  // How many of the latter came since the last call.
  std::uint64_t take_before_start() {
    return before_start_ - std::exchange(before_start_taken_, before_start_);
  }

  // What fired and ended in the past, of rules none of whose sinks tells people of it: by the rule's name, once everything is
  // read. Forgotten with the call.
  std::map<std::string, Past> take_missed();

  // Every alert that a group holds as firing: after a restart, those that no rule knows any more must end.
  std::vector<rules::Alert> firing() const;

 private:
  struct Member {
    rules::Alert alert;
    std::optional<rules::Fingerprint> rule;  // its identity; unset: built in
    bool leaving = false;  // the plan leads elsewhere: only who was told of it hears how it ends
  };
  struct Group {
    std::string key;
    std::string id;  // of the destination
    rules::Labels labels;
    std::map<rules::Fingerprint, Member> members;
    std::map<std::string, Told> told;  // by sink
    rules::Timestamp next_flush;       // for sinks that are told group by group
    std::uint32_t changes = 0;         // since it spoke last
    rules::Timestamp began;            // of this life: part of its keys, later than that of any that ended
    std::uint64_t sequence = 0;        // of what it said: part of its keys
    rules::Timestamp caused_at;
    bool pending = false;                 // something was inserted that no message carries yet
    std::optional<rules::Timestamp> due;  // when to look at it again, as of the last look
    bool dirty = true;                    // something came since the last look
  };
  // Where the plan wants an alert.
  struct Home {
    Group* group;
    const Destination* destination;
  };
  // Fired in the past, while the log was being caught up with, or under `sinks: none`: as the first of the
  // rules with its labels had it, and which they are.
  struct Held {
    rules::Alert alert;
    std::set<rules::Fingerprint> holders;
  };
  std::vector<Destination> destinations(const rules::Labels& labels, std::optional<rules::Fingerprint> rule,
                                        rules::Timestamp now) const;
  std::vector<std::string> sinks_of(const std::string& id) const;
  const rules::RouteOptions& options_of(const std::string& id) const;
  bool is_silent(rules::Fingerprint rule, rules::Timestamp now) const;
  bool is_firing(rules::Fingerprint fingerprint) const;  // in some group
  bool hears_of_the_past(const std::string& sink) const;
  Group& group_for(const Destination& destination, const rules::Labels& labels, const rules::Alert& first,
                   rules::Timestamp now);
  void place(const rules::Alert& alert, std::optional<rules::Fingerprint> rule, rules::Timestamp caused_at,
             rules::Timestamp now);
  // It fires at `homes` while other groups, to which the plan led before, still owe its end: whoever is told
  // of it at home would take that for the end of what fires. So to him it goes on, as within one group; who
  // is not told of it any more hears that end.
  void inherit(rules::Fingerprint fingerprint, const std::vector<Home>& homes);
  // Whether one of `homes` tells `sink`, which knows of `episode` from another group: it knows it there then.
  bool move_told(const std::string& sink, const Told& from, const Episodes::value_type& episode,
                 const std::vector<Home>& homes);
  void flush_group(Group& group, rules::Timestamp now, const std::function<bool(rules::Alert&)>& renew,
                   std::vector<rules::Notification>& out);
  // `sequence` rises with every message.
  static void emit(const std::string& group_key, const rules::Labels& labels, rules::Timestamp began,
                   std::uint64_t& sequence, rules::Timestamp caused_at, const rules::SinkSpec& sink,
                   rules::NotifyReason reason, std::vector<rules::Alert> alerts, std::uint32_t changes,
                   rules::Timestamp now, std::vector<rules::Notification>& out);
  void emit_summary(rules::Timestamp now, std::vector<rules::Notification>& out);
  void emit_refreshes(rules::Timestamp now, const std::function<bool(rules::Alert&)>& renew,
                      std::vector<rules::Notification>& out);
  // Other groups that told `sink` of the alert keep what it has heard of it by this one.
  void note_elsewhere(const Group& by, const std::string& sink, const rules::Alert& alert);
  void forget_member(Group& group, rules::Fingerprint fingerprint);
  // Every firing alert to where the plan wants it now; what was told stays told.
  void rehome(rules::Timestamp now);
  void touch(const Group& group) { changed_groups_.insert(group.key); }
  void touch(const Group& group, rules::Fingerprint fingerprint) {
    changed_members_.emplace(group.key, fingerprint);
  }
  void index_plan();

  const rules::Plan* plan_;
  rules::RouteOptions default_options_;                  // where no route is written
  std::map<std::string, const rules::Route*> nodes_;     // by id
  std::map<std::string, std::vector<std::string>> own_;  // "sinks/a,b" -> [a, b]
  std::map<rules::Fingerprint, std::size_t> rules_;      // identity -> index
  std::map<std::string, Group> groups_;                  // by key
  std::map<rules::Fingerprint, std::set<std::string>> groups_of_;
  std::map<rules::Fingerprint, Held> held_;
  std::map<std::string, Past> past_;    // by sink: told once, in a summary
  std::map<std::string, Past> missed_;  // by rule, see take_missed()
  bool missed_due_ = false;
  bool summary_due_ = false;
  bool first_start_ = false;
  std::uint64_t before_start_ = 0;
  std::uint64_t before_start_taken_ = 0;
  std::set<std::string> dead_;
  std::map<std::string, rules::Timestamp> next_refresh_;  // by sink
  struct Resolved {
    rules::Timestamp told_at;
    rules::Alert alert;
  };
  std::map<std::string, std::map<rules::Fingerprint, Resolved>> resolved_;  // by sink that refreshes
  std::uint64_t sequence_ = 0;                                              // of summaries and refreshes
  rules::Timestamp last_began_ = rules::kLongAgo;                           // of all groups that ended
  bool homeless_ = false;  // restored, or the plan is another: rehome() first
  std::optional<rules::Timestamp>
      silent_until_;                          // when a `sinks: none` ends: everything finds its place anew
  bool touched_ = true;                       // something came since the last flush
  std::optional<rules::Timestamp> next_due_;  // of the last flush
  // To be written.
  std::set<std::string> changed_groups_;
  std::set<std::pair<std::string, rules::Fingerprint>> changed_members_;
  std::set<rules::Fingerprint> changed_held_;
  bool sequence_changed_ = false;
  bool past_changed_ = false;
  bool began_changed_ = false;
  bool first_start_changed_ = false;
};

}  // namespace logbell::engine

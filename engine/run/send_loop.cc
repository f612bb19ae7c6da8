#include "engine/run/send_loop.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <deque>
#include <limits>
#include <random>
#include <set>
#include <unordered_map>
#include <utility>

#include <fmt/format.h>

#include "engine/io/fault.h"
#include "engine/run/coalesce.h"
#include "engine/run/thread_annotations.h"
#include "sinks/message.h"

namespace logbell::engine {

using rules::Duration;
using rules::Instant;
using rules::Notification;
using rules::Timestamp;
using sinks::Outcome;

namespace {

// In the order in which deliveries were added: that of the store.
using Sequence = std::uint64_t;

// Critical, the rest, repeats: Notification::priority.
constexpr std::size_t kUrgencies = 3;

std::size_t urgency_of(const Notification& notification) {
  return std::min<std::size_t>(notification.priority, kUrgencies - 1);
}

struct Item {
  Delivery delivery;
  std::string group;
  bool resolved = false;
  bool movable = false;    // it has a fallback
  bool elsewhere = false;  // which has been told
  // It came after whatever the fallbacks had been told by then (RecentAlerts::now); 0: nobody knows.
  std::uint64_t stamp = 0;
  bool tried = false;  // while draining
  // How many one message may speak for with it among them: half as many each time one was not taken.
  std::size_t company = SendLoop::kMaxCoalesced;
  Instant added;
  Instant expires_at;
  // Failed while the lane was well otherwise. Twice, and it is the message rather than the destination: then
  // it has a back-off of its own, so that it does not hold up the others.
  std::uint32_t failed_alone = 0;
  std::optional<Instant> not_before;
  // How often it probed during the present outage: the next probe is somebody else's turn.
  std::uint64_t outage = 0;
  std::uint32_t probes = 0;
};

// What waits of one group, in order. Only its head may be sent.
struct Group {
  std::set<Sequence> members;
  std::array<std::uint32_t, kUrgencies> urgencies{};  // how many of each wait
  std::pair<std::size_t, Sequence> turn;              // as it stands in `turns_`

  std::size_t urgency() const {
    std::size_t most = 0;
    while (most + 1 < kUrgencies && urgencies[most] == 0)
      ++most;
    return most;
  }
};

// An alert as fallbacks are told of it: not by its group, for a reload may group it otherwise, and a group
// may go on when one of its alerts has ended; and since when it fires, for it may have ended before and begun
// again.
struct ToldAlert {
  std::string name;
  std::int64_t fired_ms = 0;
  std::int64_t ended_ms = 0;  // not stored: only those that fire are

  // Whether it has ended after it was known to fire since then, as far as times tell. That it began earlier
  // is no proof of an earlier time: after a restart lines that do not say when they were written have
  // another.
  bool ends(std::int64_t since) const { return fired_ms >= since || ended_ms > since; }
  std::string text() const { return fmt::format("{}\n{}", name, fired_ms); }
  static ToldAlert parse(const std::string& text) {
    ToldAlert alert;
    const std::size_t end = std::min(text.rfind('\n'), text.size());
    alert.name = text.substr(0, end);
    if (end < text.size()) std::from_chars(text.data() + end + 1, text.data() + text.size(), alert.fired_ms);
    return alert;
  }
};

// Of a notification those that fire, or those that have ended.
std::vector<ToldAlert> alerts_of(const Notification& notification, bool firing) {
  std::vector<ToldAlert> alerts;
  for (const rules::Alert& alert : notification.alerts) {
    if (alert.is_firing() == firing)
      alerts.push_back(
          {fmt::format("{}\n{}", notification.fallback_for, rules::format_fingerprint(alert.fingerprint())),
           rules::to_unix_ms(alert.fired_at), alert.resolved_at ? rules::to_unix_ms(*alert.resolved_at) : 0});
  }
  return alerts;
}

// Each alert of it as those who speak of it order their messages. What stands in for another sink has an
// order of its own; a refresh has none, what is told after it takes it back (drop_outdated()).
std::vector<std::string> subjects_of(const Notification& notification) {
  std::vector<std::string> subjects;
  if (notification.group_key.empty() || notification.reason == rules::NotifyReason::kRefresh) return subjects;
  subjects.reserve(notification.alerts.size());
  for (const rules::Alert& alert : notification.alerts)
    subjects.push_back(
        fmt::format("{}\n{}", notification.fallback_for, rules::format_fingerprint(alert.fingerprint())));
  return subjects;
}

// Which alerts a fallback was told of, forgetting the oldest beyond a bound.
class RecentAlerts {
 public:
  // Since when it fires, as the fallback knows; unset: it does not know of it.
  std::optional<std::int64_t> fires_since(const std::string& name) const {
    const auto found = known_.find(name);
    return found == known_.end() ? std::nullopt : std::optional(found->second.fired_ms);
  }
  // What comes from here on comes after what is known.
  std::uint64_t now() const { return next_; }
  // Whether this end is of what the fallback knows to fire. One that waited since before may be that of an
  // earlier time, which it has heard. Times tell only where nobody knows the order: clocks are set.
  bool is_ended_by(const ToldAlert& end, std::uint64_t stamp) const {
    const auto found = known_.find(end.name);
    if (found == known_.end()) return false;
    return stamp > 0 ? found->second.stamp < stamp : end.ends(found->second.fired_ms);
  }
  // Returns which one was forgotten for it.
  std::optional<ToldAlert> add(const ToldAlert& alert, std::size_t bound) {
    erase(alert.name);
    known_[alert.name] = {next_, alert.fired_ms};
    by_age_.emplace(next_++, alert);
    if (by_age_.size() <= bound) return std::nullopt;
    ToldAlert oldest = std::move(by_age_.begin()->second);
    known_.erase(oldest.name);
    by_age_.erase(by_age_.begin());
    return oldest;
  }
  void erase(const std::string& name) {
    const auto found = known_.find(name);
    if (found == known_.end()) return;
    by_age_.erase(found->second.stamp);
    known_.erase(found);
  }

 private:
  struct Known {
    std::uint64_t stamp = 0;
    std::int64_t fired_ms = 0;
  };
  std::unordered_map<std::string, Known> known_;
  std::map<std::uint64_t, ToldAlert> by_age_;
  std::uint64_t next_ = 1;
};

// What is settled in one transaction. Deliveries that it ends live on in it.
struct Batch {
  std::vector<Settled> settled;
  std::deque<Item> ended;
};

// Of its alerts those; all where none are named.
Notification part(Notification notification, const std::vector<std::size_t>& indices) {
  if (indices.empty()) return notification;
  std::vector<rules::Alert> alerts;
  alerts.reserve(indices.size());
  for (const std::size_t index : indices)
    alerts.push_back(notification.alerts.at(index));
  notification.alerts = std::move(alerts);
  return notification;
}

std::string describe(const Outcome& outcome) {
  const std::string_view reason = sinks::to_string(outcome.reason);
  return outcome.detail.empty() ? std::string(reason) : fmt::format("{}: {}", reason, outcome.detail);
}

}  // namespace

Fallbacks fallbacks_of(const rules::Plan& plan) {
  Fallbacks all;
  for (const auto& [name, sink] : plan.sinks) {
    for (const std::string& fallback : sink.fallback) {
      const auto found = plan.sinks.find(fallback);
      if (found == plan.sinks.end()) continue;
      all[name].push_back({fallback, found->second.lanes, found->second.refresh.has_value()});
    }
  }
  return all;
}

class SendLoop::Impl {
 public:
  Impl(std::unique_ptr<sinks::Sink> sink, Options options)
      : sink_(std::move(sink)),
        options_(std::move(options)),
        random_(options_.seed),
        allowance_(options_.per_minute) {
    LOGBELL_CHECK(sink_ && options_.clock != nullptr && options_.log != nullptr);
    counts_.sink = options_.sink;
    counts_.lane = options_.lane;
    for (const std::string& alert : options_.told_elsewhere)
      elsewhere_.add(ToldAlert::parse(alert), kMaxElsewhere);
    publish();
  }

  void add(Delivery delivery);
  void take_over(Impl& former);
  std::optional<Instant> step();
  void drain(Instant deadline, Ending ending) {
    draining_ = true;
    drained_ = false;
    drain_probed_ = false;
    drain_failures_ = 0;
    drain_deadline_ = deadline;
    passes_on_ = ending == Ending::kProcess;
    own_until_ = half_of_the_rest();
  }
  void tell_fallbacks();
  bool idle() const { return items_.empty() || (draining_ && drained_); }
  LaneView view() const {
    const MutexLock lock(mutex_);
    LaneView view = view_;
    // The pause between two messages ends without a step, if nothing waits for it.
    if (view.paused_until && *view.paused_until <= options_.clock->now()) view.paused_until.reset();
    return view;
  }

 private:
  Item remove(Sequence sequence);
  void join_groups(Item& item, const Notification& notification);
  void place(Group& group);  // where the group's head stands among the others, after a change
  void publish();

  const Fallback* next_fallback(const Notification& notification) const;
  std::vector<Notification> stand_ins(const Notification& notification) const;
  Settlement settlement(const Item& item, DeliveryState state, std::string_view outcome,
                        std::string_view reason);
  void end(Sequence sequence, Settlement settlement, Batch& batch);
  void settle(const Item& item, Settlement settlement) {
    options_.log->settle({{std::move(settlement), &item.delivery.notification}});
  }
  void told_elsewhere(Sequence sequence, Item& item);
  void drop_outdated(const Notification& news);
  bool ends_elsewhere(const Notification& notification, std::uint64_t stamp) const;

  std::optional<Instant> work();
  std::optional<Instant> work_draining();
  Instant half_of_the_rest() const {
    const Instant now = options_.clock->instant();
    return now + std::max(Instant::duration(0), (drain_deadline_ - now) / 2);
  }
  void expire(Instant now);
  Duration patience(std::size_t urgency) const;
  std::optional<Instant> owed_at(std::size_t urgency) const;
  Duration time_for_attempt(Instant now) const;
  void tell_fallbacks_too(Instant now);
  bool copy_before(Sequence sequence);
  void hand_over();
  void end_drills();
  template <typename Visit>  // (Sequence) -> bool: go on
  void in_turn(Visit visit) const;
  std::optional<Sequence> choose(Instant now) const;
  std::vector<Sequence> together_with(Sequence first, Instant now) const;
  bool can_join(const Item& item, const Item& first) const;
  std::optional<Instant> next(Instant now) const;
  Instant gate() const {
    return std::max({pause_until_, hint_until_, spaced_until_, store_until_, allowance_.next()});
  }

  void attempt(Sequence sequence, Duration timeout);
  void lane_works();
  void succeeded(const std::vector<Sequence>& sequences, const Notification& said, const Outcome& outcome);
  void not_delivered(const std::vector<Sequence>& others, const Outcome& outcome);
  void failed(Sequence sequence, const Outcome& outcome, Instant began, Instant now);
  void rejected(Sequence sequence, const Outcome& outcome, Instant now);
  void keep_dead(Instant now);
  // The circuit is open because of what messages were answered, and it may still be the messages: those of
  // other groups are tried at once.
  bool suspected() const {
    return dead_ && !refused_groups_.empty() && refused_groups_.size() < kRefusalsOfDead;
  }
  // While the circuit is open, between two probes.
  bool may_try(const Item& item) const { return suspected() && refused_groups_.count(item.group) == 0; }
  Duration backoff(std::uint32_t failures);

  const std::unique_ptr<sinks::Sink> sink_;
  const Options options_;
  std::mt19937_64 random_;

  // What waits, and how it is found: by age, by turn, by key, by what it would be replaced through.
  Sequence last_ = 0;
  std::map<Sequence, Item> items_;
  std::unordered_map<std::string, Group> groups_;
  // Which group speaks of an alert, and in how many that wait: all of them are in it.
  struct Subject {
    std::string group;
    std::uint32_t waiting = 0;
  };
  std::unordered_map<std::string, Subject> subjects_;
  std::set<std::pair<std::size_t, Sequence>> turns_;  // the head of each group, the most urgent first
  std::unordered_map<std::string, Sequence> by_key_;
  std::unordered_map<std::string, Sequence> by_replaces_;
  std::set<std::pair<Instant, Sequence>> by_expiry_;
  std::set<Sequence> refreshes_;  // of sinks that forget; what comes later replaces them
  std::set<Sequence> movable_;    // those with a fallback
  std::set<Sequence> drills_;     // that fire
  // Of these, firings that no fallback has been told: the critical ones and the rest, by arrival.
  std::array<std::set<Sequence>, 2> owed_;
  std::set<Sequence> untold_;  // and all that has a fallback which people must hear and has not been told
  std::set<Sequence> copies_;  // of movable ones, the ones whose fallback is to be told now
  bool all_copied_ = false;    // of untold ones, an end that the fallback knows no beginning of among them
  std::set<Sequence> leaving_;  // the sink is being told of these
  RecentAlerts elsewhere_;

  // The lane.
  bool started_ = false;    // what is added now is new
  bool proven_ = false;     // a delivery has succeeded
  bool dead_ = false;       // the circuit is open
  bool overlong_ = false;   // the sink asked for more than kMaxHint
  bool told_dead_ = false;  // sink_dead() was called, and sink_alive() not since
  std::uint32_t failures_ = 0;
  std::uint32_t refusals_ = 0;            // messages refused since the last success
  std::set<std::string> refused_groups_;  // theirs, while these are few enough to be to blame themselves
  std::uint64_t outage_ = 0;              // counts them
  Instant failing_since_;
  Instant pause_until_;   // our back-off
  Instant hint_until_;    // the sink's own
  Instant spaced_until_;  // min_interval
  Allowance allowance_;
  Sequence late_ = 0;    // up to here what waits is late: the lane did not work, or nobody ran
  Instant store_until_;  // the store said no
  Instant probe_at_;     // while dead
  Duration probe_interval_{0};

  bool draining_ = false;
  bool drained_ = false;
  bool drain_probed_ = false;
  std::uint32_t drain_failures_ = 0;
  Instant drain_deadline_;
  bool passes_on_ = false;  // what the sink does not take now is told to the fallbacks
  Instant own_until_;       // from here on the time is theirs

  LaneView counts_;  // what only the loop's thread touches
  mutable Mutex mutex_;
  LaneView view_ GUARDED_BY(mutex_);
};

void SendLoop::Impl::place(Group& group) {
  turns_.erase(group.turn);
  if (group.members.empty()) return;
  group.turn = {group.urgency(), *group.members.begin()};
  turns_.insert(group.turn);
}

// A reload may have grouped its alerts otherwise than in what waits: its resolve must not overtake their
// firing there. So those groups speak as one from here on, in the order of their arrival, until nothing of it
// waits any more.
void SendLoop::Impl::join_groups(Item& item, const Notification& notification) {
  const std::vector<std::string> subjects = subjects_of(notification);
  std::set<std::string> others;
  for (const std::string& subject : subjects) {
    const auto known = subjects_.find(subject);
    if (known != subjects_.end()) others.insert(known->second.group);
  }
  // The largest stays: what waits of the others is moved to it.
  for (const std::string& other : others) {
    const auto mine = groups_.find(item.group);
    if (mine == groups_.end() || groups_.at(other).members.size() > mine->second.members.size())
      item.group = other;
  }
  for (const std::string& other : others) {
    if (other == item.group) continue;
    const auto from = groups_.find(other);
    Group& to = groups_.at(item.group);
    for (const Sequence sequence : from->second.members) {
      Item& moved = items_.at(sequence);
      moved.group = item.group;
      for (const std::string& subject : subjects_of(moved.delivery.notification))
        subjects_.at(subject).group = item.group;
      to.members.insert(sequence);
    }
    for (std::size_t i = 0; i < kUrgencies; ++i)
      to.urgencies[i] += from->second.urgencies[i];
    turns_.erase(from->second.turn);
    groups_.erase(from);
  }
  for (const std::string& subject : subjects) {
    Subject& known = subjects_[subject];
    known.group = item.group;
    ++known.waiting;
  }
}

void SendLoop::Impl::take_over(Impl& former) {
  const Instant now = options_.clock->instant();
  hint_until_ = former.hint_until_;
  spaced_until_ = former.spaced_until_;
  allowance_.take_over(former.allowance_);
  // Whoever stands in now has been told nothing yet.
  const bool same_fallbacks = options_.fallbacks == former.options_.fallbacks;
  while (!former.items_.empty()) {
    Item item = former.remove(former.items_.begin()->first);
    if (!same_fallbacks) item.delivery.elsewhere.clear();
    add(item.delivery);
    Item& mine = items_.rbegin()->second;
    mine.added = item.added;
    by_expiry_.erase({mine.expires_at, last_});
    mine.expires_at = std::max(item.expires_at, now);
    by_expiry_.emplace(mine.expires_at, last_);
  }
}

void SendLoop::Impl::add(Delivery delivery) {
  const Instant now = options_.clock->instant();
  const Timestamp wall = options_.clock->now();
  const auto known = by_key_.find(delivery.notification.key);
  if (known != by_key_.end()) {
    Delivery& waiting = items_.at(known->second).delivery;
    if (waiting.id <= 0 && delivery.id > 0) waiting.id = delivery.id;
    return;
  }
  drained_ = false;
  if (!delivery.notification.replaces.empty()) {
    const auto old = by_replaces_.find(delivery.notification.replaces);
    if (old != by_replaces_.end() && leaving_.count(old->second) == 0) {
      remove(old->second);  // the store has done the same to its row
      ++counts_.superseded;
    }
  }

  const Sequence sequence = ++last_;
  Item item;
  if (delivery.state == DeliveryState::kInFlight) delivery.maybe_sent = true;
  if (delivery.not_before) {
    hint_until_ = std::max(hint_until_, now + std::clamp(*delivery.not_before - wall, Duration(0), kMaxHint));
  }
  const Notification& notification = delivery.notification;
  // Those of no group have no order to keep.
  item.group = notification.group_key.empty()
                   ? fmt::format("\n{}", sequence)
                   : fmt::format("{}\n{}", notification.fallback_for, notification.group_key);
  item.resolved = notification.is_resolved();
  const Fallback* fallback = next_fallback(notification);
  // One that forgets must be reminded every minute; people who were told must not.
  const std::vector<ToldAlert> fires = alerts_of(notification, true);
  const bool again = notification.reason == rules::NotifyReason::kRefresh &&
                     std::all_of(fires.begin(), fires.end(), [&](const ToldAlert& alert) {
                       return elsewhere_.fires_since(alert.name).has_value();
                     });
  item.movable = fallback != nullptr && (fallback->refreshes || !again);
  item.elsewhere = fallback != nullptr && delivery.elsewhere == fallback->sink;
  item.stamp = started_ ? elsewhere_.now() : 0;
  item.added = now;
  const Duration age = std::clamp(wall - notification.created_at, Duration(0), kMaxAge);
  item.expires_at = now + std::max(kMaxAge - age, kMinStay);
  if (!notification.drill.empty() && !item.resolved) {
    item.expires_at = now + std::max(kDrillMaxAge - age, Duration(0));
    drills_.insert(sequence);
    if (dead_) probe_at_ = now;
  }
  by_key_.emplace(notification.key, sequence);
  if (!notification.replaces.empty()) by_replaces_[notification.replaces] = sequence;
  by_expiry_.emplace(item.expires_at, sequence);
  if (notification.reason == rules::NotifyReason::kRefresh) refreshes_.insert(sequence);
  if (item.movable) {
    movable_.insert(sequence);
    const std::size_t urgency = urgency_of(notification);
    if (urgency < owed_.size() && !item.resolved && !item.elsewhere) owed_[urgency].insert(sequence);
    if (notification.priority < 2 && notification.drill.empty() && !item.elsewhere) {
      untold_.insert(sequence);
      // What came late must have its try here, and leave somebody else the time for another.
      if (draining_) own_until_ = std::max(own_until_, half_of_the_rest());
    }
    const bool due = ends_elsewhere(notification, item.stamp) || (overlong_ && notification.priority < 2);
    if (due && !item.elsewhere) copies_.insert(sequence);
  }
  join_groups(item, notification);
  Group& group = groups_[item.group];
  group.members.insert(sequence);
  ++group.urgencies[urgency_of(notification)];
  item.delivery = std::move(delivery);
  items_.emplace(sequence, std::move(item));
  place(group);
  publish();
}

Item SendLoop::Impl::remove(Sequence sequence) {
  const auto found = items_.find(sequence);
  Item item = std::move(found->second);
  items_.erase(found);
  const Notification& notification = item.delivery.notification;
  const auto group = groups_.find(item.group);
  group->second.members.erase(sequence);
  --group->second.urgencies[urgency_of(notification)];
  place(group->second);
  if (group->second.members.empty()) groups_.erase(group);
  for (const std::string& subject : subjects_of(notification)) {
    const auto known = subjects_.find(subject);
    if (--known->second.waiting == 0) subjects_.erase(known);
  }
  by_key_.erase(notification.key);
  const auto replaces = by_replaces_.find(notification.replaces);
  if (replaces != by_replaces_.end() && replaces->second == sequence) by_replaces_.erase(replaces);
  by_expiry_.erase({item.expires_at, sequence});
  refreshes_.erase(sequence);
  movable_.erase(sequence);
  drills_.erase(sequence);
  for (std::set<Sequence>& owed : owed_)
    owed.erase(sequence);
  untold_.erase(sequence);
  copies_.erase(sequence);
  return item;
}

const Fallback* SendLoop::Impl::next_fallback(const Notification& notification) const {
  const bool stands_in = !notification.fallback_for.empty();
  const auto chain = options_.fallbacks.find(stands_in ? notification.fallback_for : options_.sink);
  if (chain == options_.fallbacks.end()) return nullptr;
  const auto end = chain->second.end();
  auto next = chain->second.begin();
  if (stands_in) {
    // Not there: the list changed meanwhile, and I am not on it any more.
    next = std::find_if(next, end, [&](const Fallback& fallback) { return fallback.sink == options_.sink; });
  }
  // The first after me, then; and nobody stands in for himself.
  next = std::find_if(next, end, [&](const Fallback& fallback) {
    return !fallback.lanes.empty() && fallback.sink != options_.sink &&
           fallback.sink != notification.fallback_for;
  });
  return next == end ? nullptr : &*next;
}

std::vector<Notification> SendLoop::Impl::stand_ins(const Notification& notification) const {
  if (LOGBELL_BROKEN("lane.fallback")) return {};
  std::vector<Notification> all;
  const Fallback* fallback = next_fallback(notification);
  if (fallback == nullptr) return all;
  const bool stands_in = !notification.fallback_for.empty();
  // One key for each lane whatever way leads there and however often: the store takes it once.
  std::string origin = notification.key;
  const std::string mine = "/" + options_.lane;
  if (stands_in && origin.size() > mine.size() &&
      origin.compare(origin.size() - mine.size(), mine.size(), mine) == 0) {
    origin.resize(origin.size() - mine.size());
  }
  for (const std::string& lane : fallback->lanes) {
    Notification copy = notification;
    copy.sink = fallback->sink;
    copy.lane = lane;
    copy.key = fmt::format("{}/{}", origin, lane);
    if (!stands_in) {
      copy.fallback_for = options_.sink;
      // It must not replace what that sink has to say for itself.
      if (!copy.replaces.empty()) copy.replaces = fmt::format("{}/{}", options_.sink, copy.replaces);
    }
    all.push_back(std::move(copy));
  }
  return all;
}

Settlement SendLoop::Impl::settlement(const Item& item, DeliveryState state, std::string_view outcome,
                                      std::string_view reason) {
  Settlement settlement;
  settlement.id = item.delivery.id;
  settlement.state = state;
  settlement.attempts = item.delivery.attempts;
  settlement.maybe_sent = item.delivery.maybe_sent;
  settlement.outcome = outcome;
  settlement.reason = reason;
  settlement.drill = !item.delivery.notification.drill.empty();
  settlement.at = options_.clock->now();
  const Instant now = options_.clock->instant();
  // Only what the sink itself asked for outlives the process: our own back-off starts anew with it.
  if (state == DeliveryState::kPending && hint_until_ > now) {
    settlement.not_before = settlement.at + std::chrono::ceil<Duration>(hint_until_ - now);
  }
  return settlement;
}

// An alert has ended of which a fallback was told that it fires.
bool SendLoop::Impl::ends_elsewhere(const Notification& notification, std::uint64_t stamp) const {
  const std::vector<ToldAlert> ended = alerts_of(notification, false);
  return std::any_of(ended.begin(), ended.end(),
                     [&](const ToldAlert& alert) { return elsewhere_.is_ended_by(alert, stamp); });
}

// A fallback has been told of `item`: its resolve must go there too, whoever else hears it.
void SendLoop::Impl::told_elsewhere(Sequence sequence, Item& item) {
  if (!item.elsewhere) ++counts_.handed_over;
  item.elsewhere = true;
  if (const Fallback* fallback = next_fallback(item.delivery.notification)) item.delivery.elsewhere = fallback->sink;
  for (std::set<Sequence>& owed : owed_)
    owed.erase(sequence);
  untold_.erase(sequence);
  copies_.erase(sequence);
  const auto forget = [&](const ToldAlert& alert) { options_.log->told_elsewhere(alert.text(), false); };
  for (const ToldAlert& alert : alerts_of(item.delivery.notification, false)) {
    if (!elsewhere_.is_ended_by(alert, item.stamp)) continue;
    const std::int64_t since = elsewhere_.fires_since(alert.name).value_or(0);
    elsewhere_.erase(alert.name);
    forget({alert.name, since});
  }
  for (const ToldAlert& alert : alerts_of(item.delivery.notification, true)) {
    const std::optional<std::int64_t> since = elsewhere_.fires_since(alert.name);
    if (since && *since >= alert.fired_ms) continue;
    if (since) forget({alert.name, *since});
    const std::optional<ToldAlert> oldest = elsewhere_.add(alert, kMaxElsewhere);
    options_.log->told_elsewhere(alert.text(), true);
    if (oldest) {
      ++counts_.forgotten;
      forget(*oldest);
    }
  }
  const std::set<Sequence>& members = groups_.at(item.group).members;
  for (auto later = members.upper_bound(sequence); later != members.end(); ++later) {
    Item& other = items_.at(*later);
    other.stamp = elsewhere_.now();
    if (other.movable && !other.elsewhere && ends_elsewhere(other.delivery.notification, other.stamp))
      copies_.insert(*later);
  }
}

// A refresh that waits while something more urgent is told knows less by then: sent after it, or after an
// attempt whose answer was lost, it would call firing what has just been told to be over, or the contrary.
// The next one, a minute later, is right.
void SendLoop::Impl::drop_outdated(const Notification& news) {
  if (refreshes_.empty() || news.reason == rules::NotifyReason::kRefresh) return;
  Batch batch;
  const std::set<Sequence> waiting = refreshes_;
  for (const Sequence sequence : waiting) {
    const Item& item = items_.at(sequence);
    if (!news.contradicts(item.delivery.notification)) continue;
    Settlement outdated = settlement(item, DeliveryState::kSuperseded, "", kOutdated);
    ++counts_.superseded;
    batch.ended.push_back(remove(sequence));
    batch.settled.push_back({std::move(outdated), &batch.ended.back().delivery.notification});
  }
  if (!batch.settled.empty()) options_.log->settle(batch.settled);
}

// The delivery comes to its end here without being delivered; its fallback speaks instead, if that has not
// spoken.
void SendLoop::Impl::end(Sequence sequence, Settlement settlement, Batch& batch) {
  Item& item = items_.at(sequence);
  if (item.movable && !item.elsewhere) {
    settlement.fallbacks = stand_ins(item.delivery.notification);
    told_elsewhere(sequence, item);
  }
  ++counts_.dead;
  batch.ended.push_back(remove(sequence));
  batch.settled.push_back({std::move(settlement), &batch.ended.back().delivery.notification});
}

void SendLoop::Impl::expire(Instant now) {
  Batch batch;
  while (!by_expiry_.empty() && by_expiry_.begin()->first <= now && batch.settled.size() < kMaxBatch) {
    const Sequence sequence = by_expiry_.begin()->second;
    Settlement gone = settlement(items_.at(sequence), DeliveryState::kDead, "rejected", kExpired);
    const bool drill = !items_.at(sequence).delivery.notification.drill.empty();
    gone.detail = fmt::format("not delivered within {}; last: {}",
                              rules::format_duration(drill ? kDrillMaxAge : kMaxAge), counts_.last_error);
    end(sequence, std::move(gone), batch);
  }
  if (!batch.settled.empty()) options_.log->settle(batch.settled);
}

void SendLoop::Impl::hand_over() {
  Batch batch;
  while (!movable_.empty() && batch.settled.size() < kMaxBatch) {
    const Sequence sequence = *movable_.begin();
    Settlement gone = settlement(items_.at(sequence), DeliveryState::kDead, "rejected", kCircuitOpen);
    gone.detail = counts_.last_error;
    end(sequence, std::move(gone), batch);
  }
  if (!batch.settled.empty()) options_.log->settle(batch.settled);
}

// Whoever drills has his answer: until somebody has mended it, nothing arrives there.
void SendLoop::Impl::end_drills() {
  Batch batch;
  while (!drills_.empty() && batch.settled.size() < kMaxBatch) {
    const Sequence sequence = *drills_.begin();
    Settlement gone = settlement(items_.at(sequence), DeliveryState::kDead, "rejected", kCircuitOpen);
    gone.detail = counts_.last_error;
    end(sequence, std::move(gone), batch);
  }
  if (!batch.settled.empty()) options_.log->settle(batch.settled);
}

// When the fallbacks are told of the first of these if the sink goes on failing.
std::optional<Instant> SendLoop::Impl::owed_at(std::size_t urgency) const {
  const std::set<Sequence>& owed = owed_[urgency];
  if (failures_ == 0 || owed.empty()) return std::nullopt;
  return std::max(failing_since_, items_.at(*owed.begin()).added) + patience(urgency);
}

Duration SendLoop::Impl::patience(std::size_t urgency) const {
  return options_.fallback_after.value_or(urgency == 0 ? kFallbackAfter : kLateFallbackAfter);
}

// An attempt that hangs does not keep a fallback waiting that is to be told meanwhile.
Duration SendLoop::Impl::time_for_attempt(Instant now) const {
  Duration time = kTimeout;
  for (std::size_t urgency = 0; urgency < owed_.size(); ++urgency) {
    if (owed_[urgency].empty()) continue;
    const Instant due = owed_at(urgency).value_or(now + patience(urgency));
    time = std::min(time, std::max(kMinAttempt, std::chrono::floor<Duration>(due - now)));
  }
  return time;
}

void SendLoop::Impl::tell_fallbacks_too(Instant now) {
  if (LOGBELL_BROKEN("lane.late")) return;
  for (std::size_t urgency = 0; urgency < owed_.size(); ++urgency) {
    for (auto due = owed_at(urgency); due && *due <= now; due = owed_at(urgency)) {
      copies_.insert(*owed_[urgency].begin());
      owed_[urgency].erase(owed_[urgency].begin());
    }
  }
  std::vector<Settled> batch;
  while (!copies_.empty() && batch.size() < kMaxBatch) {
    const Sequence sequence = *copies_.begin();
    Item& item = items_.at(sequence);
    // The end of what no fallback is known to have heard of any more: an earlier end is told by now, and the
    // firing that this one ends has not been.
    if (item.resolved && !overlong_ && !all_copied_ &&
        !ends_elsewhere(item.delivery.notification, item.stamp)) {
      copies_.erase(copies_.begin());
      continue;
    }
    // A message that waits before it and calls firing what this one ends would come to the fallback after it.
    if (copy_before(sequence)) continue;
    Settled told{settlement(item, DeliveryState::kPending, "retry", kFallback), &item.delivery.notification};
    told.settlement.detail = counts_.last_error;
    told.settlement.fallbacks = stand_ins(item.delivery.notification);
    told_elsewhere(sequence, item);
    told.settlement.elsewhere = item.delivery.elsewhere;
    batch.push_back(std::move(told));
  }
  if (copies_.empty()) all_copied_ = false;
  if (!batch.empty()) options_.log->settle(batch);
}

void SendLoop::Impl::tell_fallbacks() {
  copies_.insert(untold_.begin(), untold_.end());
  all_copied_ = true;
  const Instant now = options_.clock->instant();
  do {
    tell_fallbacks_too(now);
  } while (!copies_.empty() && !LOGBELL_BROKEN("lane.late"));
  publish();
}

// Whether an earlier message must be told to the fallback before this one; it is then to be told now, too.
bool SendLoop::Impl::copy_before(Sequence sequence) {
  const Item& item = items_.at(sequence);
  const std::set<Sequence>& members = groups_.at(item.group).members;
  const std::vector<ToldAlert> ended = alerts_of(item.delivery.notification, false);
  if (ended.empty()) return false;
  bool found = false;
  for (auto earlier = members.begin(); earlier != members.end() && *earlier < sequence; ++earlier) {
    const Item& other = items_.at(*earlier);
    if (!other.movable || other.elsewhere || copies_.count(*earlier) != 0) continue;
    const std::vector<ToldAlert> fires = alerts_of(other.delivery.notification, true);
    if (std::none_of(fires.begin(), fires.end(), [&](const ToldAlert& alert) {
          return std::any_of(ended.begin(), ended.end(),
                             [&](const ToldAlert& end) { return end.name == alert.name; });
        }))
      continue;
    copies_.insert(*earlier);
    found = true;
  }
  return found;
}

// The head of each group: what is critical and fresh as it came, what is critical and late the newest first,
// the rest as it came.
template <typename Visit>
void SendLoop::Impl::in_turn(Visit visit) const {
  const Sequence late = failures_ > 0 || dead_ ? last_ : late_;
  const auto fresh = turns_.lower_bound({0, late + 1});
  const auto rest = turns_.lower_bound({1, 0});
  for (auto turn = fresh; turn != rest; ++turn) {
    if (!visit(turn->second)) return;
  }
  for (auto turn = fresh; turn != turns_.begin();) {
    if (!visit((--turn)->second)) return;
  }
  for (auto turn = rest; turn != turns_.end(); ++turn) {
    if (!visit(turn->second)) return;
  }
}

std::optional<Sequence> SendLoop::Impl::choose(Instant now) const {
  std::optional<Sequence> chosen;
  std::uint32_t fewest = std::numeric_limits<std::uint32_t>::max();
  in_turn([&](Sequence head) {
    const Item& item = items_.at(head);
    // A dead sink is probed at its own times, whatever a message's are.
    if (draining_ ? item.tried : !dead_ && item.not_before > now) return true;
    if (!draining_ && dead_ && now < probe_at_ && !may_try(item)) return true;
    if (failures_ == 0 && !dead_) {
      chosen = head;
      return false;
    }
    // One probe at a time, and not always the same: it may be that message alone which the sink chokes on.
    const std::uint32_t probes = item.outage == outage_ ? item.probes : 0;
    if (probes >= fewest) return true;
    fewest = probes;
    chosen = head;
    return true;
  });
  return chosen;
}

// Whether one message can speak for both. What follows an earlier message is no new one to whoever reads.
bool SendLoop::Impl::can_join(const Item& item, const Item& first) const {
  const Notification& notification = item.delivery.notification;
  return !item.not_before && notification.drill.empty() && notification.text.empty() &&
         notification.reason != rules::NotifyReason::kRefresh &&
         notification.fallback_for == first.delivery.notification.fallback_for &&
         options_.log->first_receipt(notification).empty();
}

// What one message speaks for: `first`, unless more wait than may leave. A group's in their order, none left
// out between two.
std::vector<Sequence> SendLoop::Impl::together_with(Sequence first, Instant now) const {
  std::vector<Sequence> all{first};
  const Item& head = items_.at(first);
  if (!allowance_.is_bounded() || items_.size() == 1 || allowance_.left(now) > 1) return all;
  if (failures_ > 0 || refusals_ > 0 || dead_ || !can_join(head, head)) return all;
  std::size_t alerts = head.delivery.notification.alerts.size();
  std::size_t most = head.company;
  const auto join = [&](Sequence sequence) {
    const Item& item = items_.at(sequence);
    most = std::min(most, item.company);
    if (all.size() >= most || (draining_ && item.tried) || !can_join(item, head)) return false;
    alerts += item.delivery.notification.alerts.size();
    if (alerts > kMaxCoalescedAlerts) return false;
    all.push_back(sequence);
    return true;
  };
  const auto rest_of_group = [&](Sequence of) {
    const std::set<Sequence>& members = groups_.at(items_.at(of).group).members;
    for (auto next = members.upper_bound(of); next != members.end(); ++next) {
      if (!join(*next)) return;
    }
  };
  rest_of_group(first);
  in_turn([&](Sequence other) {
    if (other != first && join(other)) rest_of_group(other);
    return all.size() < most && alerts <= kMaxCoalescedAlerts;
  });
  return all;
}

std::optional<Instant> SendLoop::Impl::step() {
  if (LOGBELL_BROKEN("lane.send")) return std::nullopt;
  if (!started_) late_ = last_;
  started_ = true;
  const std::optional<Instant> next = draining_ ? work_draining() : work();
  publish();
  return next;
}

std::optional<Instant> SendLoop::Impl::work() {
  const Instant now = options_.clock->instant();
  // While all is well nothing can be too old: it is about to leave.
  if (failures_ > 0 || dead_) expire(now);
  if (dead_) {
    const bool may = gate() <= now && (probe_at_ <= now || suspected());
    // Whoever a fallback told of hears of it from there, even if the sink turns out to be well.
    if (may) tell_fallbacks_too(now);
    const std::optional<Sequence> chosen = may && copies_.empty() ? choose(now) : std::nullopt;
    if (chosen) {
      attempt(*chosen, movable_.empty() ? kTimeout : kProbeTimeout);
    } else if (!may || copies_.empty()) {
      hand_over();
    }
  } else {
    tell_fallbacks_too(now);
    const bool may = copies_.empty() && gate() <= now;
    const std::optional<Sequence> chosen = may ? choose(now) : std::nullopt;
    if (chosen) attempt(*chosen, time_for_attempt(now));
  }
  if (dead_ && probe_at_ > now) end_drills();
  return next(options_.clock->instant());
}

std::optional<Instant> SendLoop::Impl::next(Instant now) const {
  if (items_.empty()) return std::nullopt;
  Instant at = Instant::max();
  if (failures_ > 0 || dead_) at = by_expiry_.begin()->first;
  if (dead_) {
    if (!movable_.empty()) return now;
    const bool fresh = suspected() && std::any_of(turns_.begin(), turns_.end(), [&](const auto& turn) {
                         return may_try(items_.at(turn.second));
                       });
    return std::max(now, std::min(at, fresh ? gate() : std::max(probe_at_, gate())));
  }
  if (!copies_.empty()) return now;
  for (std::size_t urgency = 0; urgency < owed_.size(); ++urgency) {
    if (const std::optional<Instant> due = owed_at(urgency)) at = std::min(at, *due);
  }
  for (const auto& turn : turns_) {
    const std::optional<Instant>& own = items_.at(turn.second).not_before;
    at = std::min(at, std::max(gate(), own.value_or(Instant::min())));
    if (!own) break;
  }
  return std::max(now, at);
}

std::optional<Instant> SendLoop::Impl::work_draining() {
  const Instant now = options_.clock->instant();
  const auto done = [&] {
    drained_ = true;
    return std::optional<Instant>();
  };
  if (items_.empty()) return done();
  if (dead_) {
    // Durable with its settlement: the fallback's own lane, or the next process, takes it from there.
    hand_over();
    if (!movable_.empty()) return now;
  } else {
    tell_fallbacks_too(now);
    if (!copies_.empty()) return now;
  }
  // What has had its try, or can have none: there may be no next process, or it knows nothing of this.
  const bool owes = passes_on_ && !untold_.empty();
  const auto given_up = [&] {
    if (!owes) return done();
    copies_.insert(untold_.begin(), untold_.end());
    all_copied_ = true;
    tell_fallbacks_too(now);
    return std::optional<Instant>(now);
  };
  if (drain_failures_ >= kMaxDrainFailures || (dead_ && drain_probed_)) return given_up();
  const Instant until = owes ? own_until_ : drain_deadline_;
  if (std::max(now, hint_until_) + kMinAttempt > until) return given_up();
  if (hint_until_ > now) return hint_until_;
  const std::optional<Sequence> chosen = choose(now);
  if (!chosen) return given_up();
  items_.at(*chosen).tried = true;
  drain_probed_ = drain_probed_ || (dead_ && !suspected());
  attempt(*chosen, std::min(kTimeout, std::chrono::floor<Duration>(until - now)));
  return options_.clock->instant();
}

void SendLoop::Impl::attempt(Sequence sequence, Duration timeout) {
  drop_outdated(items_.at(sequence).delivery.notification);
  const std::vector<Sequence> together = together_with(sequence, options_.clock->instant());
  std::vector<DeliveryId> ids;
  ids.reserve(together.size());
  for (const Sequence one : together)
    ids.push_back(items_.at(one).delivery.id);
  LOGBELL_FAULT("lane.before_mark");
  if (!options_.log->begin(ids)) {
    store_until_ = options_.clock->instant() + kStoreRetry;
    ++drain_failures_;
    return;
  }
  sinks::Attempt attempt;
  std::vector<const Notification*> speaks_for;
  speaks_for.reserve(together.size());
  for (const Sequence one : together) {
    Item& item = items_.at(one);
    ++item.delivery.attempts;
    item.tried = item.tried || draining_;
    speaks_for.push_back(&item.delivery.notification);
    attempt.number = std::max(attempt.number, item.delivery.attempts);
    attempt.maybe_sent = attempt.maybe_sent || item.delivery.maybe_sent;
  }
  Item& item = items_.at(sequence);
  if (item.outage != outage_) item.probes = 0;
  item.outage = outage_;
  ++item.probes;
  ++counts_.attempts;
  attempt.now = options_.clock->now();
  attempt.timeout = timeout;
  const bool many = together.size() > 1;
  if (!many) attempt.first_receipt = options_.log->first_receipt(item.delivery.notification);
  const Notification said = one_message(speaks_for);
  if (many) attempt.speaks_for = std::move(speaks_for);
  allowance_.take(options_.clock->instant());
  LOGBELL_FAULT("lane.before_send");
  const Instant began = options_.clock->instant();
  leaving_.insert(together.begin(), together.end());
  const Outcome outcome =
      LOGBELL_BROKEN("lane.receipt") ? Outcome::delivered("") : sink_->deliver(said, attempt);
  leaving_.clear();
  LOGBELL_FAULT("lane.answered");
  const Instant now = options_.clock->instant();
  // From its end: when during the attempt the destination counted it cannot be known.
  spaced_until_ = now + options_.min_interval;
  if (outcome.kind == Outcome::Kind::kDelivered) {
    succeeded(together, said, outcome);
    return;
  }
  if (outcome.kind != Outcome::Kind::kUnknown) allowance_.give_back();
  counts_.last_error = describe(outcome);
  counts_.last_error_at = options_.clock->now();
  // One of them may be what the sink chokes on: which one, is found out by halves.
  for (const Sequence one : together) {
    if (many && outcome.reason != sinks::Reason::kRateLimited) items_.at(one).company = together.size() / 2;
  }
  if (many && outcome.kind == Outcome::Kind::kRejected && !outcome.sink_is_dead) {
    not_delivered(together, outcome);
    return;
  }
  not_delivered({together.begin() + 1, together.end()}, outcome);
  if (outcome.kind == Outcome::Kind::kRejected) {
    rejected(sequence, outcome, now);
  } else {
    failed(sequence, outcome, began, now);
  }
}

// They wait on; what the outcome means for the lane is decided elsewhere.
void SendLoop::Impl::not_delivered(const std::vector<Sequence>& others, const Outcome& outcome) {
  if (others.empty()) return;
  const bool unknown = outcome.kind == Outcome::Kind::kUnknown;
  std::vector<Settled> batch;
  batch.reserve(others.size());
  for (const Sequence one : others) {
    Item& item = items_.at(one);
    item.tried = false;
    item.delivery.maybe_sent = item.delivery.maybe_sent || unknown;
    Settlement waits =
        settlement(item, DeliveryState::kPending, unknown ? "unknown" : "retry", to_string(outcome.reason));
    waits.detail = outcome.detail;
    batch.push_back({std::move(waits), &item.delivery.notification});
  }
  options_.log->settle(batch);
}

void SendLoop::Impl::lane_works() {
  if (dead_ || failures_ > 0) {
    ++outage_;
    late_ = last_;
  }
  proven_ = true;
  dead_ = false;
  overlong_ = false;
  failures_ = 0;
  refusals_ = 0;
  refused_groups_.clear();
  drain_failures_ = 0;
  pause_until_ = Instant();
}

void SendLoop::Impl::succeeded(const std::vector<Sequence>& sequences, const Notification& said,
                               const Outcome& outcome) {
  const std::vector<std::string_view> names = said.names();
  const std::set<std::string_view> named(names.begin(), names.end());
  const auto is_named = [&](const rules::Alert& alert) { return named.count(alert.name()) != 0; };
  const bool news = told_dead_ || !proven_;
  lane_works();
  told_dead_ = false;
  counts_.delivered += sequences.size();
  counts_.coalesced += sequences.size() - 1;
  counts_.last_delivered = options_.clock->now();
  counts_.last_receipt = outcome.receipt;

  Batch batch;
  for (const Sequence one : sequences) {
    const Item& item = items_.at(one);
    Settlement delivered =
        settlement(item, DeliveryState::kDelivered, "delivered", to_string(outcome.reason));
    delivered.receipt = outcome.receipt;
    delivered.detail = outcome.detail;
    batch.ended.push_back(remove(one));
    const Notification& about = batch.ended.back().delivery.notification;
    Settled settled{std::move(delivered), &about, outcome.truncated, outcome.begins, sequences.size() > 1};
    settled.named = !settled.coalesced || std::all_of(about.alerts.begin(), about.alerts.end(), is_named);
    batch.settled.push_back(std::move(settled));
  }
  options_.log->settle(batch.settled);
  if (news) options_.log->sink_alive(options_.sink, options_.lane);
}

void SendLoop::Impl::failed(Sequence sequence, const Outcome& outcome, Instant began, Instant now) {
  Item& item = items_.at(sequence);
  const bool unknown = outcome.kind == Outcome::Kind::kUnknown;
  const bool limited = outcome.reason == sinks::Reason::kRateLimited;
  if (limited) {
    ++counts_.rate_limited;
    --item.probes;  // the message is not to blame: it keeps its turn
  }
  if (unknown) item.delivery.maybe_sent = true;
  ++drain_failures_;
  const Duration hint = outcome.retry_after.value_or(Duration(0));
  if (hint > Duration(0)) hint_until_ = std::max(hint_until_, now + std::min(hint, kMaxHint));
  if (dead_) {
    refused_groups_.clear();  // it is not only messages
    keep_dead(now);
  } else {
    if (failures_ == 0) {
      failing_since_ = began;
      if (!limited) ++item.failed_alone;
    }
    ++failures_;
    // The hint wins, also when it is shorter; but not for ever.
    const bool trusted = hint > Duration(0) && failures_ <= kHintsTrusted;
    pause_until_ = now + (trusted ? kMinBackoff : backoff(failures_));
    if (item.failed_alone > 1) item.not_before = now + backoff(item.failed_alone);
    overlong_ = hint > kMaxHint;
    if (overlong_) {
      for (const Sequence waiting : movable_) {
        const Item& other = items_.at(waiting);
        if (!other.elsewhere && other.delivery.notification.priority < 2) copies_.insert(waiting);
      }
    }
  }
  Settlement retry =
      settlement(item, DeliveryState::kPending, unknown ? "unknown" : "retry", to_string(outcome.reason));
  retry.detail = outcome.detail;
  settle(item, std::move(retry));
}

void SendLoop::Impl::rejected(Sequence sequence, const Outcome& outcome, Instant now) {
  Item& item = items_.at(sequence);
  const bool was_suspected = suspected();
  const bool was_proven = proven_;
  const bool partly = !outcome.refused.empty();
  bool opens = !dead_ && !partly;
  if (partly) {
    lane_works();
  } else if (outcome.sink_is_dead) {
    refused_groups_.clear();
  } else {
    // Of this message it wants no more. That is no proof that the lane works, nor that it does not: one that
    // never took anything, or refuses one after the other, is as good as dead.
    ++refusals_;
    opens = opens && (!proven_ || refusals_ >= kRefusalsOfDead);
    if (!dead_ || was_suspected) refused_groups_.insert(item.group);
  }
  if (opens) {
    dead_ = true;
    ++outage_;
  }
  if (dead_) {
    if (opens || was_suspected) probe_interval_ = Duration(0);
    keep_dead(now);
    drain_probed_ = drain_probed_ || !suspected();
  }
  // What a dead sink refuses waits for the fix, if nobody can speak instead.
  const bool waits = dead_ && !item.movable && item.delivery.notification.drill.empty();
  Settlement refused = settlement(item, waits ? DeliveryState::kPending : DeliveryState::kDead, "rejected",
                                  to_string(outcome.reason));
  refused.detail = outcome.detail;
  // Nobody was told, and this sink will not do it: somebody must hear at least that. Repeats are no news.
  const bool unheard = !item.movable && (waits || item.delivery.notification.priority < 2);
  const Notification refused_part = part(item.delivery.notification, outcome.refused);
  std::string why = counts_.last_error;
  if (unheard && !partly) why += "; nobody hears there of " + sinks::subjects_of(refused_part);
  if (waits) {
    settle(item, std::move(refused));
  } else {
    Batch batch;
    end(sequence, std::move(refused), batch);
    // What it took needs nobody else to say it.
    for (Notification& fallback : batch.settled.back().settlement.fallbacks)
      fallback.alerts = refused_part.alerts;
    options_.log->settle(batch.settled);
  }
  if ((opens || unheard) && !told_dead_) {
    told_dead_ = true;
    options_.log->sink_dead(options_.sink, options_.lane, why);
  } else if (partly && !was_proven && !told_dead_) {
    options_.log->sink_alive(options_.sink, options_.lane);
  }
}

void SendLoop::Impl::keep_dead(Instant now) {
  failures_ = 0;
  pause_until_ = Instant();
  overlong_ = false;
  probe_interval_ = probe_interval_ == Duration(0) ? kFirstProbe : std::min(2 * probe_interval_, kLastProbe);
  probe_at_ = now + probe_interval_;
}

Duration SendLoop::Impl::backoff(std::uint32_t failures) {
  const std::uint32_t doublings = std::min<std::uint32_t>(failures - 1, 16);
  const Duration most = std::min(kMaxBackoff, kBaseBackoff * (std::int64_t{1} << doublings));
  std::uniform_int_distribution<Duration::rep> draw(kMinBackoff.count(), most.count());
  return Duration(draw(random_));
}

void SendLoop::Impl::publish() {
  counts_.pending = items_.size();
  counts_.oldest.reset();
  if (!items_.empty()) counts_.oldest = items_.begin()->second.delivery.notification.created_at;
  counts_.failures = failures_;
  const bool failing = failures_ > 0 || refusals_ > 0 || told_dead_;
  counts_.state = dead_     ? SinkState::kDead
                  : failing ? SinkState::kFailing
                  : proven_ ? SinkState::kAlive
                            : SinkState::kUnknown;
  const Instant now = options_.clock->instant();
  const Instant until = dead_ ? std::max(probe_at_, gate()) : gate();
  counts_.paused_until.reset();
  if (until > now) {
    counts_.paused_until = options_.clock->now() + std::chrono::ceil<Duration>(until - now);
  }
  const MutexLock lock(mutex_);
  view_ = counts_;
}

SendLoop::SendLoop(std::unique_ptr<sinks::Sink> sink, Options options)
    : impl_(std::make_unique<Impl>(std::move(sink), std::move(options))) {}

SendLoop::~SendLoop() = default;

void SendLoop::add(Delivery delivery) {
  impl_->add(std::move(delivery));
}

void SendLoop::take_over(SendLoop& former) {
  impl_->take_over(*former.impl_);
}

std::optional<Instant> SendLoop::step() {
  return impl_->step();
}

void SendLoop::drain(Instant deadline, Ending ending) {
  impl_->drain(deadline, ending);
}

void SendLoop::tell_fallbacks() {
  impl_->tell_fallbacks();
}

bool SendLoop::idle() const {
  return impl_->idle();
}

LaneView SendLoop::view() const {
  return impl_->view();
}

}  // namespace logbell::engine

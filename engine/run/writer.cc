#include "engine/run/writer.h"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "engine/io/fault.h"

namespace logbell::engine {

using rules::Duration;
using rules::Instant;
using rules::Labels;
using rules::Notification;
using rules::NotifyReason;

namespace {

// How long wait() sleeps at most, so that the loop's heartbeat goes on.
constexpr Duration kIdle{5000};

std::size_t size_of(const StoredEntry& entry) {
  return entry.key.size() + (entry.value ? entry.value->size() : 0);
}

// About what it takes in memory. A hundred alerts with their lines are more than a hundred times one.
std::size_t size_of(const Notification& notification) {
  const auto of_line = [](const std::optional<rules::SampleLine>& line) {
    return line ? line->text.size() : 0;
  };
  std::size_t bytes = sizeof notification + notification.key.size() + notification.text.size();
  for (const rules::Alert& alert : notification.alerts) {
    bytes += sizeof alert + alert.expr.size() + of_line(alert.first_line) + of_line(alert.last_line);
    for (const auto& [name, value] : alert.labels)
      bytes += 2 * sizeof(std::string) + name.size() + value.size();
    for (const auto& [name, value] : alert.annotations)
      bytes += 2 * sizeof(std::string) + name.size() + value.size();
    for (const auto& [label, values] : alert.top_values) {
      for (const auto& [value, count] : values)
        bytes += sizeof(std::string) + value.size();
    }
  }
  return bytes;
}

std::size_t size_of(const Tick& tick) {
  std::size_t bytes = tick.bytes;
  if (bytes == 0) {
    for (const StoredEntry& entry : tick.entries)
      bytes += size_of(entry);
  }
  for (const Notification& notification : tick.notifications)
    bytes += size_of(notification);
  return bytes;
}

// What people must hear even if it cannot be written down first. The rest can wait for the disk.
bool cannot_wait(const Notification& notification) {
  switch (notification.reason) {
    case NotifyReason::kFirstFiring:
    case NotifyReason::kNewAlerts:
    case NotifyReason::kResolvedSome:
    case NotifyReason::kAllResolved:
    case NotifyReason::kRefused:
      return true;
    case NotifyReason::kNone:
    case NotifyReason::kRepeat:
    case NotifyReason::kRefresh:
    case NotifyReason::kSummary:
    case NotifyReason::kDrill:
      return false;
  }
  return false;
}

bool is_final(DeliveryState state) {
  return state == DeliveryState::kDelivered || state == DeliveryState::kDead ||
         state == DeliveryState::kSuperseded;
}

Labels total_labels(std::string_view key) {
  // sink NUL outcome NUL reason: a sink's name may hold a slash.
  key.remove_prefix(std::min(key.size(), Writer::kTotalsPrefix.size()));
  const std::size_t first = key.find('\0');
  const std::size_t second = first == std::string_view::npos ? first : key.find('\0', first + 1);
  if (second == std::string_view::npos) return {};
  return {{"sink", std::string(key.substr(0, first))},
          {"outcome", std::string(key.substr(first + 1, second - first - 1))},
          {"reason", std::string(key.substr(second + 1))}};
}

}  // namespace

Settlement no_lane(DeliveryId id, std::uint32_t attempts, std::string_view why, rules::Timestamp now) {
  Settlement end;
  end.id = id;
  end.state = DeliveryState::kDead;
  end.attempts = attempts;
  end.outcome = "rejected";
  end.reason = "no_lane";
  end.detail = why;
  end.at = now;
  return end;
}

Writer::Writer(Options options) : options_(std::move(options)) {
  LOGBELL_CHECK(options_.clock != nullptr && options_.log != nullptr && options_.metrics != nullptr);
  LOGBELL_CHECK(options_.commit && options_.broken && options_.deliver && options_.on_broken);
  look_at_ = options_.clock->instant() + kLookEvery;
  for (const StoredEntry& entry : options_.totals) {
    const std::string text = entry.value.value_or("");
    std::uint64_t total = 0;
    std::from_chars(text.data(), text.data() + text.size(), total);
    totals_[entry.key] = total;
    options_.metrics->set("logbell_notifications_total", total_labels(entry.key),
                                static_cast<double>(total));
  }
}

bool Writer::submit(Tick tick) {
  const std::size_t bytes = size_of(tick);
  const auto full = [&] {
    const MutexLock lock(mutex_);
    return !has_room(bytes);
  };
  while (options_.step_instead && full())
    options_.step_instead();
  const MutexLock lock(mutex_);
  if (!has_room(bytes)) ++waits_;
  while (!has_room(bytes))
    room_.wait(mutex_);
  if (closed_) return false;
  tick_bytes_ += bytes;
  ticks_.push_back(std::move(tick));
  idle_ = false;
  work_.notify_one();
  return true;
}

std::size_t Writer::queued_bytes() const {
  const MutexLock lock(mutex_);
  return tick_bytes_;
}

std::uint64_t Writer::waits() const {
  const MutexLock lock(mutex_);
  return waits_;
}

void Writer::store(std::vector<StoredEntry> entries) {
  const MutexLock lock(mutex_);
  for (StoredEntry& entry : entries)
    own_entries_.push_back(std::move(entry));
  idle_ = false;
  work_.notify_one();
}

void Writer::forget_lane(std::string lane) {
  const MutexLock lock(mutex_);
  gone_lanes_.push_back(std::move(lane));
  idle_ = false;
  work_.notify_one();
}

// Closed is room enough: what comes then is refused at once.
bool Writer::has_room(std::size_t bytes) const {
  if (closed_) return true;
  return !full_ &&
         (ticks_.empty() || (tick_bytes_ + bytes <= kMaxQueuedBytes && ticks_.size() < kMaxQueuedTicks));
}

void Writer::after_commit(std::function<void()> call) {
  const MutexLock lock(mutex_);
  calls_.push_back(std::move(call));
  idle_ = false;
  work_.notify_one();
}

bool Writer::begin(std::vector<DeliveryId> ids) {
  return ask({std::move(ids), {}, {}, nullptr});
}

void Writer::settle(const std::string& sink, std::vector<Settlement> settlements) {
  if (!settlements.empty()) ask({{}, sink, std::move(settlements), nullptr});
}

bool Writer::ask(Request request) {
  Waiter waiter;
  request.waiter = &waiter;
  {
    const MutexLock lock(mutex_);
    if (ended_) return false;
    requests_.push_back(std::move(request));
    idle_ = false;
    work_.notify_one();
  }
  const auto answered = [&] {
    const MutexLock lock(mutex_);
    return waiter.done;
  };
  while (options_.step_instead && !answered())
    options_.step_instead();
  const MutexLock lock(mutex_);
  while (!waiter.done)
    answered_.wait(mutex_);
  return waiter.may_send;
}

void Writer::close() {
  const MutexLock lock(mutex_);
  closed_ = true;
  room_.notify_all();
  work_.notify_all();
}

void Writer::end() {
  const MutexLock lock(mutex_);
  closed_ = true;
  ended_ = true;
  for (const Request& request : requests_)
    request.waiter->done = true;
  requests_.clear();
  for (Waiter* waiter : waiting_)
    waiter->done = true;
  waiting_.clear();
  room_.notify_all();
  answered_.notify_all();
  quiet_.notify_all();
  work_.notify_all();
}

bool Writer::ended() const {
  const MutexLock lock(mutex_);
  return ended_;
}

void Writer::wait(Instant until) {
  const MutexLock lock(mutex_);
  while (((ticks_.empty() && calls_.empty()) || full_) && requests_.empty() && own_entries_.empty() &&
         gone_lanes_.empty() && (!closed_ || close_seen_) && !ended_) {
    const Instant now = options_.clock->instant();
    if (now >= until) return;
    if (work_.wait_for(mutex_, until - now) == std::cv_status::timeout) return;
  }
}

std::optional<rules::Timestamp> Writer::failing_since() const {
  const MutexLock lock(mutex_);
  return failing_since_;
}

std::string Writer::failing_reason() const {
  const MutexLock lock(mutex_);
  return failing_reason_;
}

bool Writer::idle() const {
  const MutexLock lock(mutex_);
  return idle_;
}

bool Writer::wait_idle(Duration limit) const {
  const Instant until = options_.clock->instant() + limit;
  while (options_.step_instead && !idle() && !ended() && options_.clock->instant() < until)
    options_.step_instead();
  const MutexLock lock(mutex_);
  while (!idle_ && !ended_) {
    const Instant now = options_.clock->instant();
    if (now >= until) return false;
    quiet_.wait_for(mutex_, until - now);
  }
  return idle_;
}

Instant Writer::step() {
  std::vector<Tick> ticks;
  std::vector<Request> requests;
  std::vector<StoredEntry> entries;
  std::vector<std::string> gone;
  std::vector<std::function<void()>> calls;
  bool closing = false;
  {
    const MutexLock lock(mutex_);
    full_ = full();
    if (!full_) {
      ticks.swap(ticks_);
      calls.swap(calls_);
      tick_bytes_ = 0;
      room_.notify_all();
    }
    requests.swap(requests_);
    entries.swap(own_entries_);
    gone.swap(gone_lanes_);
    closing = closed_;
    close_seen_ = closed_;
  }
  const Instant now = options_.clock->instant();
  // Requests first: their rows are older than what the ticks bring.
  for (Request& request : requests)
    take(std::move(request));
  for (const std::string& lane : gone)
    give_up(lane);
  for (Tick& tick : ticks)
    take(std::move(tick));
  for (StoredEntry& entry : entries) {
    put(std::move(entry));
    pending_.sync = pending_.urgent = true;
  }
  if (!pending_.empty() && !pending_.since) pending_.since = now;
  if (closing) {
    pending_.urgent = true;
    retry_at_ = std::min(retry_at_, now);  // there is no later
  }

  if (options_.in_place && !broken_ && now >= look_at_) {
    look_at_ = now + kLookEvery;
    displaced_ = !options_.in_place();
  }
  if ((!pending_.empty() || displaced_) && !broken_ && due(now)) {
    // What a commit answers may bring the next one: a settlement of what left undurably.
    while (attempt(now) && !pending_.empty() && pending_.urgent) {
    }
  } else if (failing_ || broken_) {
    leave_undurably();
    release(!broken_);
  }
  if (pending_.settlements.empty() && pending_.in_flight.empty()) release(!broken_);
  for (const std::function<void()>& call : calls)
    call();
  const bool closed_for_room = full();
  const MutexLock lock(mutex_);
  full_ = closed_for_room;
  if (!full_) room_.notify_all();
  idle_ = pending_.empty() && ticks_.empty() && calls_.empty() && requests_.empty() && own_entries_.empty() &&
          gone_lanes_.empty();
  if (idle_) quiet_.notify_all();
  return next(now);
}

Instant Writer::next(Instant now) const {
  Instant at = now + kIdle;
  if (broken_) return at;
  if (options_.in_place) at = std::min(at, look_at_);
  if (pending_.empty() && !displaced_) return at;
  if (failing_) return std::min(at, retry_at_);
  if (pending_.urgent) return now;
  return pending_.since ? std::min(at, *pending_.since + kMaxAge) : at;
}

bool Writer::due(Instant now) const {
  if (failing_) return now >= retry_at_;
  return pending_.urgent || displaced_ || pending_.bytes >= kMaxBytes ||
         (pending_.since && now >= *pending_.since + kMaxAge);
}

void Writer::put(StoredEntry entry) {
  const std::size_t bytes = size_of(entry);
  const auto [it, is_new] = pending_.entries.try_emplace(std::move(entry.key), std::nullopt);
  if (!is_new) pending_.bytes -= it->first.size() + (it->second ? it->second->size() : 0);
  it->second = std::move(entry.value);
  pending_.bytes += bytes;
}

void Writer::take(Tick tick) {
  for (StoredEntry& entry : tick.entries)
    put(std::move(entry));
  for (Notification& notification : tick.notifications)
    hold(std::move(notification));
  for (MetricValue& counter : tick.counters)
    pending_.counters[{std::move(counter.name), std::move(counter.labels)}] = counter.value;
  LOGBELL_FAULT("writer.tick_taken");
  if (tick.must_sync) pending_.sync = pending_.urgent = true;
}

void Writer::hold(Notification notification) {
  if (!notification.replaces.empty()) {
    // The store would do the same; here it keeps memory bounded while the store refuses.
    pending_.notifications.remove_if([&](const Held& held) {
      const bool replaced = !held.left && held.notification.lane == notification.lane &&
                            held.notification.replaces == notification.replaces;
      if (replaced) pending_.held_bytes -= held.bytes;
      return replaced;
    });
  }
  const std::size_t bytes = size_of(notification);
  pending_.held_bytes += bytes;
  pending_.notifications.push_back({std::move(notification), bytes, false});
  pending_.sync = pending_.urgent = true;
}

void Writer::take(Request request) {
  bool must_wait = false;
  for (const DeliveryId id : request.begin)
    must_wait = mark(id) || must_wait;
  for (Settlement& settlement : request.settlements)
    must_wait = settle_one(request.sink, std::move(settlement)) || must_wait;
  if (must_wait) {
    waiting_.push_back(request.waiter);
    return;
  }
  const MutexLock lock(mutex_);
  request.waiter->may_send = true;
  request.waiter->done = true;
  answered_.notify_all();
}

void Writer::give_up(const std::string& lane) {
  std::vector<Delivery> given_up;
  for (auto at = undurable_.begin(); at != undurable_.end();) {
    Undurable& undurable = at->second;
    const Notification& about = undurable.delivery.notification;
    if (about.lane != lane || undurable.settlement) {
      ++at;
      continue;
    }
    options_.log->warn("A notification is given up: its sink was removed from the configuration.",
                       {{"lane", lane}, {"delivery", about.key}});
    options_.metrics->count("logbell_notifications_dropped_total", {{"reason", "no_lane"}});
    given_up.push_back(undurable.delivery);
    Settlement end = no_lane(undurable.row.value_or(at->first), undurable.delivery.attempts,
                             "its sink was removed from the configuration", options_.clock->now());
    if (!undurable.row) {
      undurable.settlement = std::move(end);
      ++at;
      continue;
    }
    pending_.settlements.try_emplace(end.id, std::move(end));
    pending_.urgent = true;
    undurable_by_key_.erase(about.key);
    at = undurable_.erase(at);
  }
  if (!given_up.empty() && options_.gave_up) options_.gave_up(given_up);
}

// False: there is no row to mark, so nothing to wait for.
bool Writer::mark(DeliveryId id) {
  if (id <= 0) {
    const auto found = undurable_.find(id);
    if (found == undurable_.end() || !found->second.row) return false;
    id = *found->second.row;
  }
  const auto unsettled = pending_.settlements.find(id);
  if (unsettled != pending_.settlements.end()) {
    // Its last attempt is not written down yet and the next one leaves: should we die, it may have been sent.
    unsettled->second.maybe_sent = true;
  } else {
    pending_.in_flight.push_back(id);
  }
  pending_.urgent = true;
  return true;
}

bool Writer::settle_one(const std::string& sink, Settlement settlement) {
  count_total(sink, settlement);
  if (settlement.id <= 0) {
    const auto found = undurable_.find(settlement.id);
    const bool known = found != undurable_.end();
    if (!known || !found->second.row) {
      // There is no row to settle; what became of it is kept for the row that will come.
      for (Notification& fallback : settlement.fallbacks)
        hold(std::move(fallback));
      settlement.fallbacks.clear();
      if (known && is_final(settlement.state)) {
        found->second.settlement = std::move(settlement);
      } else if (known && !settlement.elsewhere.empty()) {
        found->second.told = std::move(settlement);
      }
      return false;
    }
    settlement.id = *found->second.row;
    if (is_final(settlement.state)) {
      undurable_by_key_.erase(found->second.delivery.notification.key);
      undurable_.erase(found);
    }
  }
  std::erase(pending_.in_flight, settlement.id);
  if (!settlement.fallbacks.empty()) pending_.sync = true;
  const DeliveryId id = settlement.id;
  const auto [it, is_new] = pending_.settlements.try_emplace(id);
  std::vector<Notification> fallbacks =
      std::move(it->second.fallbacks);  // of an earlier one, not written yet
  std::move(settlement.fallbacks.begin(), settlement.fallbacks.end(), std::back_inserter(fallbacks));
  if (settlement.elsewhere.empty()) settlement.elsewhere = std::move(it->second.elsewhere);
  it->second = std::move(settlement);
  it->second.fallbacks = std::move(fallbacks);
  if (failing_ || broken_) {
    // Nobody may wait for the disk to hear that a sink is dead: the next one speaks now.
    for (Notification& fallback : it->second.fallbacks)
      hold(std::move(fallback));
    it->second.fallbacks.clear();
  }
  pending_.urgent = true;
  return true;
}

void Writer::count_total(const std::string& sink, const Settlement& settlement) {
  if (settlement.outcome.empty() || settlement.drill) return;
  std::string key(kTotalsPrefix);
  key.append(sink).append(1, '\0').append(settlement.outcome).append(1, '\0').append(settlement.reason);
  const std::uint64_t total = ++totals_[key];
  pending_.totals[key] = total;
  put({key, std::to_string(total)});
}

bool Writer::too_much() const {
  return pending_.notifications.size() > options_.max_held || pending_.held_bytes > kMaxHeldNotificationBytes;
}

bool Writer::full() const {
  return failing_ && (too_much() || pending_.bytes > options_.max_held_bytes);
}

bool Writer::make_room() {
  // Repeats, the oldest first: the next one says the same. A first firing or a resolve is never dropped.
  for (auto it = pending_.notifications.begin(); it != pending_.notifications.end() && too_much();) {
    if (it->notification.priority < 2 || it->left) {
      ++it;
      continue;
    }
    options_.metrics->count("logbell_notifications_dropped_total", {{"reason", "no_room"}});
    pending_.held_bytes -= it->bytes;
    it = pending_.notifications.erase(it);
  }
  return !too_much();
}

bool Writer::attempt(Instant now) {
  Commit commit;
  commit.entries.reserve(pending_.entries.size());
  for (const auto& [key, value] : pending_.entries)
    commit.entries.push_back({key, value});
  for (const Held& held : pending_.notifications)
    commit.notifications.push_back(held.notification);
  for (const auto& [id, settlement] : pending_.settlements)
    commit.settlements.push_back(settlement);
  commit.in_flight = pending_.in_flight;
  commit.sync = pending_.sync;
  const Instant began = options_.clock->instant();
  rules::Result<std::vector<Delivery>> added = options_.commit(commit);
  if (added) {
    LOGBELL_FAULT("writer.committed");
    const std::chrono::duration<double> took = options_.clock->instant() - began;
    options_.metrics->observe_commit(took.count());
    succeeded(std::move(*added));
    return true;
  }
  options_.metrics->count("logbell_commit_failures_total");
  if (options_.broken()) {
    options_.log->error(
        added.error().code == rules::ErrorCode::kUnavailable
            ? "The state is no longer this process's own: ending, or both would tell the same."
            : "The disk did not keep what was written: ending, to start again from what it holds.",
        {{"store", "broken"}, {"reason", added.error().message}});
    broken_ = true;
  } else {
    options_.log->error(
        "Saving the state failed; it is kept in memory and tried again. Alerts go out meanwhile.",
        {{"store", "failing"}, {"reason", added.error().message}});
  }
  {
    const MutexLock lock(mutex_);
    if (!failing_) failing_since_ = options_.clock->now();
    failing_reason_ = added.error().message;
  }
  failing_ = true;
  retry_at_ = now + retry_delay_;
  retry_delay_ = std::min(retry_delay_ * 2, kLastRetry);
  pending_.in_flight.clear();  // they are being sent, whatever the store says
  for (auto& [id, settlement] : pending_.settlements) {
    for (Notification& fallback : settlement.fallbacks)
      hold(std::move(fallback));
    settlement.fallbacks.clear();
  }
  make_room();
  leave_undurably();
  release(!broken_);
  if (broken_) options_.on_broken();
  return false;
}

void Writer::succeeded(std::vector<Delivery> added) {
  displaced_ = false;
  if (failing_) {
    failing_ = false;
    retry_delay_ = kFirstRetry;
    options_.log->info("Saving the state works again.", {{"store", "ok"}});
    const MutexLock lock(mutex_);
    failing_since_.reset();
    failing_reason_.clear();
  }
  std::vector<MetricValue> counters;
  counters.reserve(pending_.counters.size());
  for (const auto& [name, value] : pending_.counters)
    counters.push_back({name.first, name.second, value});
  options_.metrics->commit(counters);
  for (const auto& [key, total] : pending_.totals)
    options_.metrics->set("logbell_notifications_total", total_labels(key), static_cast<double>(total));
  std::vector<std::string> left;
  for (const Held& held : pending_.notifications) {
    if (held.left) left.push_back(held.notification.key);
  }
  pending_ = Pending{};
  release(true);
  for (Delivery& delivery : added) {
    const auto known = undurable_by_key_.find(delivery.notification.key);
    if (known == undurable_by_key_.end()) {
      hand_over(std::move(delivery));
      continue;
    }
    // It left before the store had it: its row follows what became of it, and is not sent again.
    Undurable& undurable = undurable_.at(known->second);
    undurable.row = delivery.id;
    if (undurable.told && !undurable.settlement) {
      undurable.told->id = delivery.id;
      pending_.settlements.emplace(delivery.id, *std::exchange(undurable.told, std::nullopt));
      pending_.urgent = true;
    }
    if (!undurable.settlement) continue;
    Settlement settlement = std::move(*undurable.settlement);
    settlement.id = delivery.id;
    pending_.settlements.emplace(delivery.id, std::move(settlement));
    pending_.urgent = true;
    undurable_.erase(known->second);
    undurable_by_key_.erase(known);
  }
  // The store knew their key already, from before: there is no row of theirs to follow.
  for (const std::string& key : left) {
    const auto known = undurable_by_key_.find(key);
    if (known == undurable_by_key_.end() || undurable_.at(known->second).row) continue;
    if (undurable_.at(known->second).settlement) undurable_.erase(known->second);
    undurable_by_key_.erase(known);
  }
}

// A repeat that waits for the disk knows less than what leaves after it was made: sent later, it would call
// firing what has just been told to be over, or the contrary. Order tells, not time: clocks are set.
void Writer::drop_outdated(std::list<Held>::const_iterator news) {
  for (auto at = pending_.notifications.begin(); at != news;) {
    if (at->left || cannot_wait(at->notification) || at->notification.lane != news->notification.lane ||
        !news->notification.contradicts(at->notification)) {
      ++at;
      continue;
    }
    pending_.held_bytes -= at->bytes;
    at = pending_.notifications.erase(at);
  }
}

void Writer::leave_undurably() {
  for (auto at = pending_.notifications.begin(); at != pending_.notifications.end(); ++at) {
    Held& held = *at;
    if (held.left || !cannot_wait(held.notification)) continue;
    held.left = true;
    drop_outdated(at);
    if (undurable_by_key_.count(held.notification.key) != 0) continue;
    // A fallback that an earlier process told: what it was handed over for still waits, and knows nothing of it.
    if (options_.knows && options_.knows(held.notification.key)) continue;
    const DeliveryId id = --last_undurable_;
    Delivery delivery;
    delivery.id = id;
    delivery.notification = held.notification;
    undurable_by_key_[held.notification.key] = id;
    undurable_[id] = {delivery, std::nullopt, std::nullopt, std::nullopt};
    options_.metrics->count("logbell_deliveries_undurable_total");
    hand_over(std::move(delivery));
  }
}

void Writer::hand_over(Delivery delivery) {
  const DeliveryId id = delivery.id;
  const std::string key = delivery.notification.key;
  const std::string sink = delivery.notification.sink;
  const std::string lane = delivery.notification.lane;
  if (options_.deliver(std::move(delivery))) {
    LOGBELL_FAULT("writer.handed_over");
    return;
  }
  options_.metrics->count("logbell_notifications_dropped_total", {{"reason", "no_lane"}});
  options_.log->error("A notification is given up: its sink is not in the configuration.",
                      {{"sink", sink}, {"lane", lane}, {"key", key}});
  if (id < 0) {
    undurable_by_key_.erase(key);
    undurable_.erase(id);
    return;
  }
  pending_.settlements.emplace(id,
                               no_lane(id, 0, "its sink is not in the configuration", options_.clock->now()));
  pending_.urgent = true;
}

void Writer::release(bool may_send) {
  if (waiting_.empty()) return;
  const MutexLock lock(mutex_);
  for (Waiter* waiter : waiting_) {
    waiter->may_send = may_send;
    waiter->done = true;
  }
  waiting_.clear();
  answered_.notify_all();
}

}  // namespace logbell::engine

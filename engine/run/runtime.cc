#include "engine/run/runtime.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <iterator>
#include <random>
#include <type_traits>
#include <utility>

#include <fmt/format.h>
#include <malloc.h>
#include <pthread.h>

#include "engine/io/crew.h"
#include "engine/io/descriptors.h"
#include "engine/io/fault.h"
#include "engine/run/compare.h"
#include "engine/run/refusal.h"
#include "engine/run/wait.h"
#include "rules/labels.h"
#include "rules/text.h"
#include "sinks/message.h"
#include "sinks/registry.h"

namespace logbell::engine {

using rules::Duration;
using rules::ErrorCode;
using rules::Instant;
using rules::Timestamp;

namespace {

// sysexits: what a supervisor can tell apart (engine/cli/exit_status.h has them all).
constexpr int kExitIo = 74;
constexpr int kExitOtherInstance = 75;
constexpr int kExitConfig = 78;

// A file that is far behind is read by two: more would take the cores from the service beside us.
constexpr std::size_t kReaderThreads = 2;

// When the state was last found missing or damaged, in milliseconds since the epoch; with kLostRunning, if
// that was not at a start.
constexpr std::string_view kStateLostKey = "run/state_lost";
constexpr std::string_view kLostRunning = " while running";
// What tells this state directory from any other.
constexpr std::string_view kInstallationKey = "run/installation";
// A retired lane of the same name may still be in an attempt; it takes at most this (Attempt::timeout and a
// little).
constexpr Duration kAttempt{std::chrono::seconds(16)};
// How long the last commit may take before it is called failed.
constexpr Duration kLastCommit{std::chrono::seconds(2)};
// While it stops: how often it is seen whether the lanes have anything left to do.
constexpr Duration kLookAtLanes{5};

Instant after(Instant now, std::chrono::microseconds span) {
  return now + span;
}

// Seconds from the reading of the line to the receipt; a clock that was set in between makes it 0, not
// negative.
double latency(Timestamp caused_at, Timestamp settled_at) {
  return std::max(0.0, static_cast<double>((settled_at - caused_at).count()) / 1000);
}

// Whether a built-in alert about a sink is one that this sink will hardly tell.
bool is_about_its_way(std::string_view alertname) {
  return alertname == "DrillFailed" || alertname == "DeliveryDelayed";
}

// In a SinkDead that a question raised, not a message.
constexpr std::string_view kNoMessage = "no message would arrive";

enum class Lost { kAtStart, kWhileRunning, kToAnother };

Condition state_lost(bool active, Lost lost) {
  Condition condition;
  condition.alertname = "StateLost";
  switch (lost) {
    case Lost::kAtStart:
      condition.summary =
          "logbell's saved state was missing or damaged at its start: what had been counted and who had been "
          "told is "
          "forgotten; windows fill again from the logs that are there.";
      break;
    case Lost::kWhileRunning:
      condition.summary =
          "logbell's state directory was deleted or replaced while it ran. It writes everything there anew; "
          "had it ended before, it would have forgotten what had been counted and who had been told: "
          "whatever "
          "deletes the directory must leave it alone.";
      break;
    case Lost::kToAnother:
      condition.summary =
          "logbell's state directory was deleted or replaced while it ran, and another logbell has it now: "
          "this one ends, for both would tell the same. The other tells alerts of before again.";
      break;
  }
  condition.severity = "warning";
  condition.active = active;
  return condition;
}

// Of what nobody will tell any more: what people have not heard otherwise.
std::vector<rules::Notification> unheard(const std::vector<Delivery>& rows) {
  using Reason = rules::NotifyReason;
  std::vector<rules::Notification> about;
  for (const Delivery& row : rows) {
    const Reason reason = row.notification.reason;
    if (!row.elsewhere.empty() || !row.notification.drill.empty()) continue;
    if (reason == Reason::kFirstFiring || reason == Reason::kNewAlerts || reason == Reason::kSummary)
      about.push_back(row.notification);
  }
  return about;
}

std::string join(const std::vector<std::string>& items) {
  return fmt::format("{}", fmt::join(items, ", "));
}

}  // namespace

// --- clocks and heartbeats

Timestamp HeldClock::now() {
  const Timestamp wall = clock_.now();
  const Instant instant = clock_.instant();
  const std::chrono::microseconds wall_us = wall.time_since_epoch();
  if (first_ || wall_us >= held_ || wall_us + kMostHeld < held_) {
    held_ = wall_us;
  } else {
    held_ += (instant - instant_) / 2;
  }
  if (!first_ && wall < wall_) ++steps_;
  first_ = false;
  wall_ = wall;
  instant_ = instant;
  return Timestamp(std::chrono::floor<Duration>(held_));
}

std::optional<Duration> Heartbeat::silent(Instant now) const {
  const std::int64_t last = last_us_;
  if (last == kResting) return std::nullopt;
  const std::chrono::microseconds span = now.time_since_epoch() - std::chrono::microseconds(last);
  return std::max(Duration(0), std::chrono::floor<Duration>(span));
}

// --- the core's loop

CoreLoop::CoreLoop(std::unique_ptr<Pipeline> pipeline, Options options)
    : pipeline_(std::move(pipeline)),
      options_(std::move(options)),
      plan_(options_.plan),
      held_(*options_.clock) {
  // What an earlier process found to refuse messages is not mended by an answer to a question.
  for (const AlertView& view : pipeline_->alerts()) {
    if (!view.alert.built_in) continue;
    const auto sink = plan_->sinks.find(std::string(view.alert.labels.get("sink")));
    if (sink != plan_->sinks.end() && is_about_its_way(view.alert.name())) {
      avoided_[sink->first].insert(std::string(view.alert.name()));
      route_around(sink->second);
    }
    if (view.alert.name() != "SinkDead") continue;
    if (sink == plan_->sinks.end() || view.alert.annotation("summary").find(kNoMessage) != std::string::npos)
      continue;
    const std::string lane(view.alert.labels.get("lane"));
    dead_lanes_[sink->first][lane.empty() ? sink->second.lanes.front() : lane].refused = true;
  }
  tell_of_sinks_left_behind();
}

void CoreLoop::wait(Instant until) {
  const Instant now = options_.clock->instant();
  if (waiting_ || until <= now) return;
  waiting_ = options_.queue->pop_for(std::min<std::chrono::microseconds>(until - now, kIdle));
}

Instant CoreLoop::step() {
  const Timestamp now = held_.now();
  if (held_.steps() != steps_seen_) {
    options_.metrics->count("logbell_clock_steps_total", {},
                            static_cast<double>(held_.steps() - steps_seen_));
    options_.log->warn("The wall clock was set back.");
    steps_seen_ = held_.steps();
  }

  // Taken as a whole before the tick: a burst is one evaluation and one commit.
  std::size_t bytes = 0;
  const bool closed =
      options_.queue->closed();  // asked first: what is pushed before it is closed is seen below
  bool empty = false;
  while (bytes < kMaxStepBytes) {
    std::optional<CoreInput> input = std::exchange(waiting_, std::nullopt);
    if (!input) input = options_.queue->try_pop();
    if (!input) {
      empty = true;
      break;
    }
    if (const auto* batch = std::get_if<MatchBatch>(&*input)) bytes += weight(*batch) + 1024;
    take(std::move(*input), now);
  }

  const Instant instant = options_.clock->instant();
  for (; !given_up_.empty() && given_up_.front().first <= instant; given_up_.pop_front())
    tell_of_missed(given_up_.front().second, now);
  Tick tick = pipeline_->tick(now);
  for (rules::Notification& told : tick.notifications)
    told.key = rules::format_fingerprint(rules::hash_bytes(options_.installation + "\n" + told.key));
  if (!tick.entries.empty()) LOGBELL_FAULT("core.ticked");
  const bool rang = !tick.transitions.empty();
  tick.must_sync = tick.must_sync || !drills_.empty();
  std::move(drills_.begin(), drills_.end(), std::back_inserter(tick.notifications));
  drills_.clear();
  if (LOGBELL_BROKEN("core.told")) tick.notifications.clear();
  if (!tick.empty() || !tick.counters.empty()) {
    dirty_ = true;
    if (!options_.commit(std::move(tick))) ended_ = true;
  }
  if (passed_) {
    passed_ = false;
    options_.first_pass();
  }
  if (gave_up_) {
    if (options_.gave_up) options_.gave_up(*gave_up_);
    gave_up_.reset();
  }

  Instant next = after(instant, kIdle);
  if (!given_up_.empty()) next = std::min(next, given_up_.front().first);
  if (dirty_) {
    if (show_now_ || rang || instant >= shown_at_ + kViewInterval) {
      publish(now, instant);
    } else {
      next = std::min(next, shown_at_ + kViewInterval);
    }
  }
  if (changed_to_) options_.plan_changed(*std::exchange(changed_to_, std::nullopt));
  if (!empty) return instant;
  if (closed) {
    publish(now, instant);
    if (const std::uint64_t untold = pipeline_->untold(); untold > 0) {
      options_.log->info("Not told: alerts that fired in lines older than max_replay_age.",
                         {{"alerts", std::to_string(untold)},
                          {"max_replay_age", rules::format_duration(plan_->max_replay_age)}});
    }
    ended_ = true;
    return instant;
  }

  // What can change without a line: sleep until then, and ask how far the sources are read once it has come.
  const std::optional<Timestamp> due = pipeline_->next_instant();
  if (!due) return next;
  if (*due > now) {
    const std::chrono::microseconds rest = std::min<std::chrono::microseconds>(*due - now, kIdle);
    return std::min(next, after(instant, rest));
  }
  if (asked_for_ != due) {
    ask_again_after_ = kFirstConfirmRetry;
  } else if (instant < asked_at_ + ask_again_after_) {
    return std::min(next, asked_at_ + ask_again_after_);
  } else {
    ask_again_after_ = std::min(ask_again_after_ * 2, kLastConfirmRetry);
  }
  asked_for_ = due;
  asked_at_ = instant;
  options_.confirm();
  return std::min(next, asked_at_ + ask_again_after_);
}

void CoreLoop::take(CoreInput input, Timestamp now) {
  std::visit(
      [&](auto& value) {
        using T = std::decay_t<decltype(value)>;
        if constexpr (std::is_same_v<T, MatchBatch>) {
          pipeline_->ingest(value);
          dirty_ = true;
          if (!value.drills.empty() && options_.drill) {
            std::vector<rules::Notification> told = options_.drill(value, *plan_, now);
            std::move(told.begin(), told.end(), std::back_inserter(drills_));
          }
        } else if constexpr (std::is_same_v<T, PlanChange>) {
          pipeline_->replace_plan(value.plan, now);
          plan_ = value.plan;
          options_.metrics->set_plan(value.plan);
          forget_removed_sinks(now);
          tell_of_sinks_left_behind();
          dirty_ = show_now_ = true;
          changed_to_ = value.plan->generation;
        } else if constexpr (std::is_same_v<T, SinkHealth> || std::is_same_v<T, SinkVerdict> ||
                             std::is_same_v<T, Condition>) {
          take(value, now);
        } else if constexpr (std::is_same_v<T, GivenUp>) {
          given_up_.emplace_back(after(options_.clock->instant(), kRulesSettle), std::move(value));
        } else {
          static_assert(std::is_same_v<T, FirstPass>);
          passed_ = true;
        }
      },
      input);
}

void CoreLoop::take(const SinkHealth& health, Timestamp now) {
  const auto sink = plan_->sinks.find(health.sink);
  if (sink == plan_->sinks.end()) return;  // removed meanwhile
  WhyDead dead = dead_lanes_[health.sink][health.lane];
  dead.refused = health.dead;
  dead.verified = dead.verified && health.dead;
  set_dead(sink->second, health.lane, dead,
           health.dead ? fmt::format("Sink {} refuses notifications: {}.", health.lane, health.reason)
                       : fmt::format("Sink {} takes notifications again.", health.lane),
           now);
}

void CoreLoop::take(const SinkVerdict& answer, Timestamp now) {
  const sinks::Verification& found = answer.verdict.found;
  const std::string& lane = answer.verdict.lane;
  const auto sink = plan_->sinks.find(answer.verdict.sink);
  if (sink == plan_->sinks.end()) return;
  const std::vector<std::string>& lanes = sink->second.lanes;
  if (std::find(lanes.begin(), lanes.end(), lane) == lanes.end()) return;
  Condition condition;
  condition.alertname = "SinkUnverified";
  condition.labels.set("sink", sink->first);
  if (lanes.size() > 1) condition.labels.set("lane", lane);
  condition.severity = "warning";
  const bool in_part = leaves_somebody_out(found);
  condition.active = answer.unverified || in_part;
  condition.summary =
      in_part ? fmt::format("Not everybody behind sink {} would hear: {}.", lane, found.evidence)
      : answer.unverified
          ? fmt::format("Nobody knows whether sink {} would take a message: since {} it has not said ({}).",
                        lane, rules::format_rfc3339(answer.verdict.unknown_since.value_or(answer.verdict.at)),
                        found.evidence)
          : fmt::format("Sink {} says again whether it would take a message.", lane);
  // An answer that says nothing ends nothing.
  using Kind = sinks::Verification::Verdict;
  if (answer.unverified || found.verdict != Kind::kUnknown) pipeline_->set_condition(condition, now);
  if (found.verdict == Kind::kUnknown) return;
  WhyDead dead = dead_lanes_[sink->first][lane];
  dead.verified = found.verdict == Kind::kDead;
  set_dead(sink->second, lane, dead,
           dead.verified ? fmt::format("Sink {} is dead, {}: {}.", lane, kNoMessage, found.evidence)
                         : fmt::format("Sink {} answers as one that takes notifications.", lane),
           now);
}

void CoreLoop::set_dead(const rules::SinkSpec& sink, const std::string& lane, WhyDead dead,
                        const std::string& summary, Timestamp now) {
  std::map<std::string, WhyDead>& known = dead_lanes_[sink.name];
  const bool is_dead = dead.refused || dead.verified;
  if (is_dead) {
    known[lane] = dead;
  } else {
    known.erase(lane);
  }
  route_around(sink);
  Condition condition;
  condition.alertname = "SinkDead";
  condition.labels.set("sink", sink.name);
  if (sink.lanes.size() > 1) condition.labels.set("lane", lane);
  condition.summary = summary;
  condition.active = is_dead;
  pipeline_->set_condition(condition, now);
}

// Of several peers one is enough to be heard; each that refuses is a reason to tell somebody. What did not
// take a drill will not take this either.
void CoreLoop::route_around(const rules::SinkSpec& sink) {
  const std::map<std::string, WhyDead>& known = dead_lanes_[sink.name];
  const bool dead = std::all_of(sink.lanes.begin(), sink.lanes.end(),
                                [&](const std::string& lane) { return known.count(lane) != 0; });
  pipeline_->set_sink_dead(sink.name, dead || !avoided_[sink.name].empty());
}

void CoreLoop::take(const Condition& condition, Timestamp now) {
  const auto sink = plan_->sinks.find(std::string(condition.labels.get("sink")));
  if (sink != plan_->sinks.end() && is_about_its_way(condition.alertname)) {
    if (condition.active) {
      avoided_[sink->first].insert(condition.alertname);
    } else {
      avoided_[sink->first].erase(condition.alertname);
    }
    route_around(sink->second);
  }
  pipeline_->set_condition(condition, now);
}

// What fires still is told to the sinks that its rule has now; of the rest nobody would hear.
void CoreLoop::tell_of_missed(const GivenUp& given_up, Timestamp now) {
  constexpr std::size_t kShown = 3;
  struct Missed {
    std::set<rules::Fingerprint> alerts;
    std::vector<std::string> lines;  // of the first
    std::set<std::string> sinks;
  };
  if (given_up.number != 0) gave_up_ = given_up.number;
  std::set<rules::Fingerprint> firing;
  std::set<std::string> firing_rules;
  for (const AlertView& view : pipeline_->alerts()) {
    if (!view.alert.is_firing()) continue;
    firing.insert(view.alert.fingerprint());
    firing_rules.insert(std::string(view.alert.name()));
  }
  // With other labels, from that change on, it may fire as another.
  const auto goes_on = [&](const rules::Alert& alert) {
    if (firing.count(alert.fingerprint()) != 0) return true;
    const bool is_changed = std::none_of(plan_->rules.begin(), plan_->rules.end(),
                                         [&](const auto& rule) { return rule.identity() == alert.rule; });
    return !alert.built_in && is_changed && firing_rules.count(std::string(alert.name())) != 0;
  };
  std::map<std::string, Missed> by_rule;
  Missed summaries;
  for (const rules::Notification& about : given_up.notifications) {
    // One of several peers: the others were told, too.
    if (about.lane != about.sink && plan_->sinks.count(about.sink) != 0) continue;
    if (about.reason == rules::NotifyReason::kSummary) {
      summaries.sinks.insert(about.sink);
      summaries.lines.push_back(about.text);
    }
    for (const rules::Alert& alert : about.alerts) {
      if (!alert.is_firing() || goes_on(alert)) continue;
      // It was about that sink, and has ended with it.
      if (alert.built_in && alert.labels.get("sink") == about.sink) continue;
      Missed& missed = by_rule[std::string(alert.name())];
      if (!missed.alerts.insert(alert.fingerprint()).second) continue;
      missed.sinks.insert(about.sink);
      if (missed.lines.size() < kShown)
        missed.lines.push_back(
            fmt::format("{} fired {}", alert.labels.format(), rules::format_rfc3339(alert.fired_at)));
    }
  }
  Condition condition;
  condition.alertname = "AlertsMissed";
  condition.severity = "warning";
  condition.active = condition.renews = true;
  for (const auto& [rule, missed] : by_rule) {
    condition.labels = rules::Labels{{"rule", rule}};
    condition.summary = fmt::format(
        "rule {} fired and is over; sink {} was never told, for the configuration took it away while this "
        "still waited: {}{}",
        rule, fmt::join(missed.sinks, ", "), fmt::join(missed.lines, "; "),
        missed.alerts.size() > kShown ? fmt::format(" and {} more", missed.alerts.size() - kShown) : "");
    pipeline_->set_condition(condition, now);
  }
  if (summaries.lines.empty()) return;
  condition.labels = {};
  condition.summary = fmt::format(
      "sink {} was never told this, for the configuration took it away while it still waited: {}",
      fmt::join(summaries.sinks, ", "), fmt::join(summaries.lines, "\n"));
  pipeline_->set_condition(condition, now);
}

// Nobody will say of a sink that is gone that it works again.
void CoreLoop::forget_removed_sinks(Timestamp now) {
  const rules::Plan& plan = *plan_;
  for (const AlertView& view : pipeline_->alerts()) {
    const std::string_view alertname = view.alert.name();
    if (!view.alert.built_in) continue;
    const std::string name(view.alert.labels.get("sink"));
    if (const std::string rule(view.alert.labels.get("rule")); alertname == "DrillFailed" && !rule.empty()) {
      if (std::any_of(plan.rules.begin(), plan.rules.end(),
                      [&](const auto& one) { return one.name == rule; }))
        continue;
      Condition gone;
      gone.alertname = alertname;
      gone.labels.set("rule", rule);
      gone.summary = fmt::format("Rule {} is no longer in the configuration.", rule);
      gone.active = false;
      pipeline_->set_condition(gone, now);
      continue;
    }
    if (name.empty()) continue;
    const std::string lane(view.alert.labels.get("lane"));
    const auto sink = plan.sinks.find(name);
    if (sink != plan.sinks.end()) {
      const auto& lanes = sink->second.lanes;
      if (lane.empty() ? lanes.size() == 1 : std::find(lanes.begin(), lanes.end(), lane) != lanes.end())
        continue;
    }
    Condition condition;
    condition.alertname = alertname;
    condition.labels.set("sink", name);
    condition.labels.set("lane", lane);
    condition.summary = fmt::format("Sink {} is no longer in the configuration.", name);
    condition.active = false;
    pipeline_->set_condition(condition, now);
  }
  for (auto it = dead_lanes_.begin(); it != dead_lanes_.end();) {
    const auto sink = plan.sinks.find(it->first);
    if (sink == plan.sinks.end()) {
      it = dead_lanes_.erase(it);
      continue;
    }
    const std::vector<std::string>& lanes = sink->second.lanes;
    std::erase_if(it->second, [&](const auto& lane) {
      return std::find(lanes.begin(), lanes.end(), lane.first) == lanes.end();
    });
    ++it;
  }
}

// Whoever reads that sink's channel believes that these go on.
void CoreLoop::tell_of_sinks_left_behind() {
  for (const auto& [sink, alerts] : pipeline_->left_behind()) {
    options_.log->warn(
        "A sink that was told of firing alerts is no longer in the configuration: it will not hear how they "
        "end.",
        {{"sink", sink}, {"alerts", std::to_string(alerts)}});
    options_.metrics->count("logbell_notifications_dropped_total", {{"reason", "no_sink"}},
                            static_cast<double>(alerts));
  }
}

void CoreLoop::publish(Timestamp now, Instant instant) {
  auto view = std::make_shared<CoreView>();
  view->plan = plan_;
  view->alerts = pipeline_->alerts();
  view->rules = pipeline_->rules();
  view->at = now;
  options_.publish(std::move(view));
  options_.metrics->publish(pipeline_->metrics(), false);
  shown_at_ = instant;
  dirty_ = show_now_ = false;
}

// --- the reader's loop

ReaderLoop::ReaderLoop(std::unique_ptr<Reader> reader, Options options)
    : reader_(std::move(reader)), options_(std::move(options)) {}

void ReaderLoop::confirm() {
  confirm_ = true;
  options_.waker->kick();
}

void ReaderLoop::replace_plan(std::shared_ptr<const rules::Plan> plan) {
  {
    const MutexLock lock(mutex_);
    plans_.push_back(std::move(plan));
  }
  options_.waker->kick();
}

void ReaderLoop::finish(Instant until) {
  {
    const MutexLock lock(mutex_);
    finish_by_ = until;
  }
  confirm_ = true;
  options_.waker->kick();
}

Instant ReaderLoop::step() {
  std::vector<std::shared_ptr<const rules::Plan>> plans;
  std::optional<Instant> finish_by;
  {
    const MutexLock lock(mutex_);
    plans.swap(plans_);
    finish_by = finish_by_;
  }
  for (std::shared_ptr<const rules::Plan>& plan : plans) {
    // The barrier: what was matched with the old plan is in the queue before it, with the new one behind it.
    reader_->replace_plan(plan);
    if (!options_.queue->push(PlanChange{std::move(plan)}, 0)) done_ = true;
  }
  if (finish_by) reader_->finish();
  if (confirm_.exchange(false)) reader_->request_confirmation();
  Reader::StepResult result = reader_->step();
  if (result.batch) {
    const std::size_t bytes = weight(*result.batch);
    if (!options_.queue->push(std::move(*result.batch), bytes)) done_ = true;
    LOGBELL_FAULT("reader.handed_over");
  }
  for (const ReaderNote& note : result.notes)
    say(note);
  const Instant now = options_.clock->instant();
  if (!result.more && !passed_) {
    passed_ = true;
    if (!options_.queue->push(FirstPass{}, 0)) done_ = true;
  }
  if (!result.more || now >= shown_at_ + kViewInterval) {
    options_.publish(std::make_shared<std::vector<StreamView>>(reader_->streams()));
    shown_at_ = now;
  }
  if (result.ended && !told_end_) {
    told_end_ = true;
    options_.ended();
  }
  // This step began after finish(): what was written then is read once it finds nothing more.
  if (finish_by && (!result.more || now >= *finish_by)) done_ = true;
  if (result.more) return now;
  return std::min(result.wake_at, after(now, kIdle));
}

void ReaderLoop::say(const ReaderNote& note) {
  LogFields fields;
  if (!note.source.empty()) fields.emplace_back("source", note.source);
  if (!note.path.empty()) fields.emplace_back("path", note.path);
  switch (note.level) {
    case ReaderNote::Level::kInfo:
      options_.log->info(note.message, fields);
      break;
    case ReaderNote::Level::kWarn:
      options_.log->warn(note.message, fields);
      break;
    case ReaderNote::Level::kError:
      options_.log->error(note.message, fields);
      break;
  }
}

void ReaderLoop::wait(Instant until) {
  if (done_ || until <= options_.clock->instant()) return;
  const std::vector<int> fds = reader_->wake_fds();
  options_.waker->wait(until, fds);
}

// --- a lane

std::string Lane::elsewhere_prefix(const std::string& lane) {
  return fmt::format("{}{}/", kElsewherePrefix, lane);
}

// Lets go of the lane while its sink is talked to.
class Lane::Talking final : public sinks::Sink {
 public:
  Talking(Lane& lane, std::unique_ptr<sinks::Sink> sink) : lane_(lane), sink_(std::move(sink)) {}
  sinks::Outcome deliver(const rules::Notification& notification, const sinks::Attempt& attempt) override
      REQUIRES(lane_.stepping_) {
    lane_.talking_ = true;
    lane_.stepping_.unlock();
    sinks::Outcome outcome = sink_->deliver(notification, attempt);
    lane_.stepping_.lock();
    lane_.talking_ = false;
    return outcome;
  }

 private:
  Lane& lane_;
  const std::unique_ptr<sinks::Sink> sink_;
};

Lane::Lane(Options options, Setting setting)
    : options_(std::move(options)), elsewhere_(options_.elsewhere), firsts_(options_.lane, options_.firsts) {
  const MutexLock lock(stepping_);
  start(std::move(setting));
}

Lane::~Lane() = default;

void Lane::start(Setting setting) {
  SendLoop::Options loop;
  loop.sink = options_.sink;
  loop.lane = options_.lane;
  loop.fallbacks = std::move(setting.fallbacks);
  loop.min_interval = setting.min_interval;
  loop.per_minute = setting.per_minute;
  loop.fallback_after = setting.fallback_after;
  follows_ = setting.follows;
  loop.clock = options_.clock;
  loop.log = this;
  loop.told_elsewhere = elsewhere_;
  // Different at each start, so that many sidecars that start together do not knock together.
  loop.seed = rules::hash_bytes(options_.lane) ^
              static_cast<std::uint64_t>(options_.clock->instant().time_since_epoch().count());
  const std::unique_ptr<SendLoop> former = std::exchange(
      loop_,
      std::make_unique<SendLoop>(std::make_unique<Talking>(*this, std::move(setting.sink)), std::move(loop)));
  if (former != nullptr) loop_->take_over(*former);
}

std::optional<Instant> Lane::step() {
  heartbeat_.beat(options_.clock->instant());
  std::vector<Delivery> arrived;
  std::optional<Setting> replacement;
  std::optional<Drain> drain;
  const MutexLock stepping(stepping_);
  {
    const MutexLock lock(mutex_);
    arrived.swap(mailbox_);
    replacement = std::exchange(replacement_, std::nullopt);
    drain = std::exchange(drain_, std::nullopt);
    if (drain) stays_ = drain->ending == SendLoop::Ending::kProcess;
    if (std::exchange(leave_, false)) stays_ = false;
    quiet_ = false;
  }
  if (replacement) {
    start(std::move(*replacement));
    draining_ = false;
  }
  for (Delivery& delivery : arrived)
    loop_->add(std::move(delivery));
  if (!arrived.empty()) show();  // an attempt may take its time, and they wait meanwhile
  if (drain) {
    draining_ = true;
    loop_->drain(drain->deadline, drain->ending);
  }
  std::optional<Instant> next = loop_->step();
  const bool idle = draining_ && loop_->idle();
  show();
  const MutexLock lock(mutex_);
  quiet_ = idle && mailbox_.empty();
  done_ = quiet_ && !stays_;
  if (!mailbox_.empty()) next = options_.clock->instant();
  return next;
}

void Lane::show() {
  LaneView view = loop_->view();
  const MutexLock lock(mutex_);
  view_ = std::move(view);
}

void Lane::wait(std::optional<Instant> until) {
  heartbeat_.rest();
  const MutexLock lock(mutex_);
  while (mailbox_.empty() && !replacement_ && !drain_ && !leave_) {
    if (!wait_for_news(changed_, mutex_, *options_.clock, until)) return;
  }
}

void Lane::add(Delivery delivery) {
  const MutexLock lock(mutex_);
  mailbox_.push_back(std::move(delivery));
  ++arrived_;
  changed_.notify_one();
}

void Lane::replace(Setting setting) {
  const MutexLock lock(mutex_);
  replacement_ = std::move(setting);
  changed_.notify_one();
}

void Lane::drain(Instant deadline, SendLoop::Ending ending) {
  const MutexLock lock(mutex_);
  drain_ = Drain{deadline, ending};
  changed_.notify_one();
}

void Lane::leave() {
  const MutexLock lock(mutex_);
  leave_ = true;
  changed_.notify_one();
}

bool Lane::quiet(std::uint64_t& arrived) const {
  const MutexLock lock(mutex_);
  arrived += arrived_;
  return quiet_ && mailbox_.empty() && !replacement_ && !drain_;
}

void Lane::tell_fallbacks() {
  const MutexLock stepping(stepping_);
  if (!talking_) return;
  std::vector<Delivery> arrived;
  {
    const MutexLock lock(mutex_);
    arrived.swap(mailbox_);
  }
  for (Delivery& delivery : arrived)
    loop_->add(std::move(delivery));
  loop_->tell_fallbacks();
  show();
}

LaneView Lane::view() const {
  const MutexLock lock(mutex_);
  LaneView view = view_;
  view.sink = options_.sink;
  view.lane = options_.lane;
  view.pending += mailbox_.size();
  return view;
}

bool Lane::begin(const std::vector<DeliveryId>& ids) {
  return options_.writer->begin(ids);
}

void Lane::settle(const std::vector<Settled>& settled) {
  std::vector<Settlement> settlements;
  settlements.reserve(settled.size());
  const std::uint64_t forgotten = firsts_.forgotten();
  for (const Settled& one : settled) {
    settlements.push_back(one.settlement);
    if (one.settlement.state != DeliveryState::kDelivered) continue;
    // A message that speaks for others too cannot be followed: it would be changed into one of them.
    const bool followed = follows_ && !one.coalesced;
    std::vector<StoredEntry> entries =
        firsts_.delivered(*one.notification, followed ? one.settlement.receipt : std::string(),
                          one.begins && followed, one.settlement.at);
    // The writer commits it with what is settled.
    if (!entries.empty()) options_.writer->store(std::move(entries));
  }
  if (firsts_.forgotten() > forgotten) {
    options_.metrics->count("logbell_sink_threads_forgotten_total", {{"sink", options_.sink}},
                            static_cast<double>(firsts_.forgotten() - forgotten));
  }
  options_.writer->settle(options_.sink, std::move(settlements));
  LOGBELL_FAULT("lane.settled");
  for (const Settled& one : settled) {
    say(one);
    if (options_.settled) options_.settled(one);
  }
}

void Lane::told_elsewhere(const std::string& alert, bool of_firing) {
  if (of_firing) {
    elsewhere_.insert(alert);
  } else {
    elsewhere_.erase(alert);
  }
  // The writer commits it with what is settled next.
  options_.writer->store(
      {{elsewhere_prefix(options_.lane) + rules::format_fingerprint(rules::hash_bytes(alert)),
        of_firing ? std::optional<std::string>(alert) : std::nullopt}});
}

std::string Lane::first_receipt(const rules::Notification& notification) {
  return follows_ ? firsts_.of(notification) : std::string();
}

// Of its alerts, each once: who reads the log looks for them.
std::string Lane::names_of(const rules::Notification& notification) {
  constexpr std::size_t kMostNames = 5;
  std::vector<std::string> names;
  for (const rules::Alert& alert : notification.alerts) {
    if (std::find(names.begin(), names.end(), alert.name()) == names.end()) names.emplace_back(alert.name());
  }
  return rules::list_words(names, kMostNames);
}

void Lane::say(const Settled& settled) {
  const Settlement& settlement = settled.settlement;
  const rules::Notification& about = *settled.notification;
  LogFields fields{{"sink", options_.sink},
                   {"lane", options_.lane},
                   {"delivery", about.key},
                   {"notification", std::string(rules::to_string(about.reason))},
                   {"alerts", names_of(about)},
                   {"attempt", std::to_string(settlement.attempts)},
                   {"reason", settlement.reason}};
  if (!about.drill.empty()) fields.emplace_back("drill", about.drill);
  if (settlement.maybe_sent) fields.emplace_back("maybe_sent", "true");
  if (settlement.id <= 0) fields.emplace_back("undurable", "true");
  if (settled.coalesced) fields.emplace_back("coalesced", "true");
  if (!settlement.detail.empty()) fields.emplace_back("detail", settlement.detail);
  // Every minute for as long as an alert fires.
  const bool routine = about.reason == rules::NotifyReason::kRefresh;
  const bool news = !routine && about.reason != rules::NotifyReason::kRepeat &&
                    about.reason != rules::NotifyReason::kSummary;
  switch (settlement.state) {
    case DeliveryState::kDelivered:
      if (settled.truncated)
        options_.metrics->count("logbell_sink_payload_truncated_total", {{"sink", options_.sink}});
      if (!routine) {
        if (!settlement.receipt.empty()) fields.emplace_back("receipt", settlement.receipt);
        options_.log->info("Delivered.", fields);
      }
      if (news && about.drill.empty() && about.caused_at > Timestamp{})
        options_.metrics->observe_latency(options_.sink, latency(about.caused_at, settlement.at));
      break;
    case DeliveryState::kPending:
    case DeliveryState::kInFlight:
      options_.log->warn(!settlement.fallbacks.empty() ? "Not delivered yet; the fallback is told too."
                         : settlement.outcome == "rejected"
                             ? "Refused; it waits until the sink takes messages again."
                             : "Not delivered yet; will try again.",
                         fields);
      return;
    case DeliveryState::kDead:
      if (settlement.reason == to_string(sinks::Reason::kPartlyRefused)) {
        if (settlement.fallbacks.empty())
          options_.log->error("Delivered in part: this sink tells nobody of the rest.", fields);
        else
          options_.log->warn("Delivered in part; the fallback speaks of the rest.", fields);
      } else if (settlement.fallbacks.empty()) {
        options_.log->error("Given up: this sink tells nobody of it.", fields);
      } else {
        options_.log->warn("Given up here; the fallback speaks instead.", fields);
      }
      break;
    case DeliveryState::kSuperseded:
      break;
  }
}

void Lane::sink_dead(const std::string& sink, const std::string& lane, const std::string& why) {
  options_.log->error("The sink refuses: SinkDead tells whoever else can be told.",
                      {{"sink", sink}, {"lane", lane}, {"reason", why}});
  options_.health({sink, lane, true, why});
}

void Lane::sink_alive(const std::string& sink, const std::string& lane) {
  options_.log->info("The sink works.", {{"sink", sink}, {"lane", lane}});
  options_.health({sink, lane, false, {}});
}

LastCall::LastCall(const Clock& clock, std::vector<std::shared_ptr<Lane>> lanes, Instant until)
    : clock_(clock), lanes_(std::move(lanes)), until_(until) {
  next_ = clock_.instant();
  next_ += std::max(Instant::duration(0), (until_ - next_) / 2);
}

std::optional<Instant> LastCall::step() {
  const Instant now = clock_.instant();
  if (now < next_ || done()) return next_;
  for (const std::shared_ptr<Lane>& lane : lanes_)
    lane->tell_fallbacks();
  next_ = now + (until_ - now) / 2;
  if (next_ - now < SendLoop::kMinAttempt) end();  // nobody could be told in that
  return next_;
}

void LastCall::wait(std::optional<Instant> until) {
  const MutexLock lock(mutex_);
  while (!done_) {
    if (!wait_for_news(changed_, mutex_, clock_, until)) return;
  }
}

void LastCall::end() {
  const MutexLock lock(mutex_);
  done_ = true;
  changed_.notify_all();
}

bool LastCall::done() const {
  const MutexLock lock(mutex_);
  return done_;
}

// Names of rules that the new plan has no rule of.
std::vector<std::string> rules_gone(const rules::Plan& before, const rules::Plan& after) {
  std::vector<std::string> gone;
  for (const rules::AlertingRule& rule : before.rules) {
    const auto has_name = [&](const rules::AlertingRule& other) { return other.name == rule.name; };
    if (std::any_of(after.rules.begin(), after.rules.end(), has_name) || rules::contains(gone, rule.name)) continue;
    gone.push_back(rule.name);
  }
  return gone;
}

LeftBehind left_behind(const std::vector<Delivery>& rows) {
  LeftBehind left;
  const auto name = [](std::vector<std::string>& all, const std::string& one) {
    if (!rules::contains(all, one)) all.push_back(one);
  };
  std::vector<const rules::Notification*> told;  // by fallbacks
  for (const Delivery& row : rows) {
    const rules::Notification& about = row.notification;
    if (about.priority > 1 || !about.drill.empty()) continue;
    ++left.undelivered;
    // Where the fallback did not take it either, that is a row of its own.
    if (row.elsewhere.empty()) ++left.untold;
    if (!row.elsewhere.empty()) told.push_back(&about);
    if (!row.elsewhere.empty()) continue;
    name(left.lanes, about.lane);
    for (const rules::Alert& alert : about.alerts)
      name(left.alerts, std::string(alert.name()));
  }
  if (left.untold > 0) return left;
  for (const rules::Notification* about : told) {
    name(left.lanes, about->lane);
    for (const rules::Alert& alert : about->alerts)
      name(left.alerts, std::string(alert.name()));
  }
  return left;
}

std::vector<Condition> delays_of(const std::vector<LaneView>& lanes, Timestamp now) {
  std::map<std::string, const LaneView*> late;
  for (const LaneView& view : lanes) {
    const LaneView*& worst = late.try_emplace(view.sink, nullptr).first->second;
    if (!view.oldest || view.state == SinkState::kDead || now - *view.oldest < kDeliveryDelayed) continue;
    if (worst == nullptr || *view.oldest < *worst->oldest) worst = &view;
  }
  std::vector<Condition> conditions;
  for (const auto& [sink, view] : late) {
    Condition condition;
    condition.alertname = "DeliveryDelayed";
    condition.labels.set("sink", sink);
    condition.active = view != nullptr;
    condition.summary =
        view == nullptr ? fmt::format("Nothing waits for long at sink {} any more.", sink)
                        : fmt::format("Notifications wait at sink {} ({} of them), the oldest since {}: {}.",
                                      view->lane, view->pending, rules::format_rfc3339(*view->oldest),
                                      view->last_error.empty() ? "it has not answered" : view->last_error);
    conditions.push_back(std::move(condition));
  }
  return conditions;
}

// --- the whole

namespace {

// A thread that says when it has ended, so that nobody joins one that hangs.
class ThreadWorker final : public Worker {
 public:
  explicit ThreadWorker(Loop loop)
      : thread_([this, loop = std::move(loop)] {
          pthread_setname_np(pthread_self(), loop.name.substr(0, 15).c_str());
          while (!loop.done()) {
            const std::optional<Instant> next = loop.step();
            if (!loop.done()) loop.wait(next);
          }
          loop.rest();
          const MutexLock lock(mutex_);
          done_ = true;
          ended_.notify_all();
        }) {}
  ~ThreadWorker() override {
    if (thread_.joinable()) thread_.join();
  }
  ThreadWorker(const ThreadWorker&) = delete;
  ThreadWorker& operator=(const ThreadWorker&) = delete;

  bool wait(const Clock& clock, Instant until) override {
    const MutexLock lock(mutex_);
    while (!done_) {
      const Instant now = clock.instant();
      if (now >= until) return false;
      ended_.wait_for(mutex_, until - now);
    }
    return true;
  }
  bool done() override {
    const MutexLock lock(mutex_);
    return done_;
  }

 private:
  Mutex mutex_;
  std::condition_variable_any ended_;
  bool done_ GUARDED_BY(mutex_) = false;
  std::thread thread_;  // the last: it uses the others from its first moment
};

}  // namespace

std::unique_ptr<Worker> Runtime::run(Loop loop) {
  if (options_.driver != nullptr) return options_.driver->run(std::move(loop));
  return std::make_unique<ThreadWorker>(std::move(loop));
}

Runtime::Runtime(Options options) : options_(std::move(options)), feedback_(*options_.clock) {
  config_.set(options_.config);
  plan_refused_ = options_.plan_refused;
}

Runtime::~Runtime() {
  if (!stopped_) stop(Duration(0));
}

tl::expected<std::unique_ptr<Runtime>, Runtime::Failure> Runtime::start(Options options) {
  LOGBELL_CHECK(options.config && options.clock != nullptr && options.log != nullptr &&
                options.metrics != nullptr);
  std::unique_ptr<Runtime> runtime(new Runtime(std::move(options)));
  if (std::optional<Failure> failure = runtime->begin()) {
    runtime->stopped_ = true;  // no thread of it runs
    return tl::unexpected<Failure>(std::move(*failure));
  }
  return runtime;
}

std::optional<Runtime::Failure> Runtime::begin() {
  const Config& config = *options_.config;
  const std::shared_ptr<const rules::Plan>& plan = config.plan;
  const Clock& clock = *options_.clock;
  Log& log = *options_.log;
  Metrics& metrics = *options_.metrics;
  const auto broken_read = [](const rules::Error& error) { return Failure{kExitIo, error.message}; };

  // Store: what is known from before.
  std::error_code ignored;
  const bool was_here =
      std::filesystem::exists(std::filesystem::path(config.state_dir) / "logbell" / "lock", ignored);
  rules::Result<Store::Opened> opened = Store::open(config.state_dir, clock.now(), options_.lock_wait);
  if (!opened) {
    const ErrorCode code = opened.error().code;
    return Failure{code == ErrorCode::kUnavailable ? kExitOtherInstance
                   : code == ErrorCode::kInvalid   ? kExitConfig
                                                   : kExitIo,
                   opened.error().message};
  }
  store_ = std::move(opened->store);
  LOGBELL_FAULT("runtime.store_opened");
  rules::Result<std::vector<StoredEntry>> core_entries = store_->entries("core/");
  if (!core_entries) return broken_read(core_entries.error());
  rules::Result<std::vector<StoredEntry>> positions = store_->entries("pos/");
  if (!positions) return broken_read(positions.error());
  rules::Result<std::vector<StoredEntry>> own = store_->entries("run/");
  if (!own) return broken_read(own.error());
  rules::Result<std::vector<Delivery>> undelivered = store_->undelivered();
  if (!undelivered) return broken_read(undelivered.error());
  std::vector<StoredEntry> totals;
  std::string installation = options_.installation;
  Lost how_lost = Lost::kAtStart;
  std::set<std::string> remembered;  // lanes of which there is something to forget once they are gone
  for (const StoredEntry& entry : *own) {
    const std::string_view key = entry.key;
    if (key.substr(0, Writer::kTotalsPrefix.size()) == Writer::kTotalsPrefix) totals.push_back(entry);
    if (key.substr(0, kTextsPrefix.size()) == kTextsPrefix)
      stored_texts_.insert(std::string(key.substr(kTextsPrefix.size())));
    for (const std::string_view prefix : {Lane::kElsewherePrefix, FirstReceipts::kPrefix}) {
      if (key.substr(0, prefix.size()) == prefix && key.rfind('/') >= prefix.size())
        remembered.emplace(key.substr(prefix.size(), key.rfind('/') - prefix.size()));
    }
    if (key == kInstallationKey) installation = entry.value.value_or("");
    if (key == kStateLostKey && entry.value) {
      std::int64_t at = 0;
      std::from_chars(entry.value->data(), entry.value->data() + entry.value->size(), at);
      state_lost_at_ = rules::from_unix_ms(at);
      if (entry.value->find(kLostRunning) != std::string::npos) how_lost = Lost::kWhileRunning;
    }
  }

  // Proofs and drills: what is settled or read is told to them.
  ProofBook::Options proofs;
  proofs.clock = &clock;
  proofs.store = [this](std::vector<StoredEntry> entries) { writer_->store(std::move(entries)); };
  proofs_ = std::make_unique<ProofBook>(std::move(proofs), plan, *own, options_.config->proof_ages);
  DrillDesk::Options drills;
  drills.clock = &clock;
  drills.wake_reader = [this] { reader_->wake(); };
  drills.wake_main = options_.wake_main;
  drills.is_read = [this](const std::string& source) {
    const auto streams = stream_views_.get();
    const std::shared_ptr<const Config> now = config_.get();
    const bool is_files = std::any_of(now->plan->sources.begin(), now->plan->sources.end(),
                                      [&](const auto& one) { return one.name == source && !one.files.empty(); });
    // One that was renamed is read to its end, and what is logged now goes elsewhere.
    return !streams || std::any_of(streams->begin(), streams->end(), [&](const StreamView& stream) {
      std::error_code unknown;
      return stream.source == source && stream.readable &&
             (!is_files || std::filesystem::exists(stream.path, unknown));
    });
  };
  drills_ = std::make_unique<DrillDesk>(std::move(drills));
  if (options_.drills)
    schedule_ = std::make_unique<DrillSchedule>(clock.now(), options_.first_drill.value_or(DrillSchedule::kFirst));

  // Plan and core.
  auto pipeline = std::make_unique<Pipeline>(plan, *core_entries);
  std::vector<StoredEntry> first_entries = text_entries(config);
  if (installation.empty()) {
    std::random_device kernel;
    installation = fmt::format("{:08x}{:08x}", kernel(), kernel());
  }
  first_entries.push_back({std::string(kInstallationKey), installation});
  const bool lost = !opened->moved_aside.empty() || (opened->fresh && was_here);
  if (lost) {
    log.error("The saved state was missing or damaged: starting from nothing.",
              {{"state_dir", config.state_dir}, {"moved_to", opened->moved_aside}});
    metrics.count("logbell_state_lost_total");
    state_lost_at_ = clock.now();
    how_lost = Lost::kAtStart;
    first_entries.push_back({std::string(kStateLostKey), std::to_string(rules::to_unix_ms(*state_lost_at_))});
  }
  if (state_lost_at_) pipeline->set_condition(state_lost(true, how_lost), clock.now());
  if (!options_.plan_refused) pipeline->set_condition(reload_succeeded(), clock.now());
  metrics.set_plan(plan);
  show_fingerprint(config);
  metrics.set_plan_refused(options_.plan_refused);
  metrics.reloaded(!options_.plan_refused, clock.now());
  metrics.publish(pipeline->metrics(), true);
  CoreLoop::Options core;
  core.plan = plan;
  core.clock = &clock;
  core.log = &log;
  core.metrics = &metrics;
  core.queue = &queue_;
  core.installation = installation;
  core.commit = [this](Tick tick) { return writer_->submit(std::move(tick)); };
  core.confirm = [this] { reader_->confirm(); };
  core.publish = [this](std::shared_ptr<const CoreView> view) { core_view_.set(std::move(view)); };
  // Ready is also known: what was found is on the disk, should this process die at once.
  core.first_pass = [this] {
    writer_->after_commit([this] {
      ready_ = true;
      if (options_.wake_main) options_.wake_main();
    });
    grown_ = true;
  };
  core.gave_up = [this](std::uint64_t number) {
    writer_->after_commit([this, number] {
      told_of_given_up_ = number;
      if (options_.wake_main) options_.wake_main();
    });
  };
  core.plan_changed = [this](std::uint64_t generation) {
    core_generation_ = generation;
    grown_ = true;
    if (options_.wake_main) options_.wake_main();
  };
  core.drill = [this](const MatchBatch& batch, const rules::Plan& of, Timestamp now) {
    return drills_->matched(batch.drills, of, batch.read_at, now);
  };
  core_generation_ = told_generation_ = plan->generation;
  core_ = std::make_unique<CoreLoop>(std::move(pipeline), std::move(core));

  // Writer.
  Writer::Options writer;
  writer.clock = &clock;
  writer.log = &log;
  writer.metrics = &metrics;
  writer.totals = std::move(totals);
  writer.commit = [this](const Commit& commit) {
    rules::Result<std::vector<Delivery>> added = store_->commit(commit);
    const StoreCounters counters = store_->counters();
    options_.metrics->set("logbell_outbox_superseded_total", {},
                                static_cast<double>(counters.superseded));
    options_.metrics->set("logbell_outbox_unreadable_total", {},
                                static_cast<double>(counters.unreadable));
    if (counters.displaced != std::exchange(displaced_seen_, counters.displaced)) {
      if (!store_->broken()) {
        options_.log->error(
            added ? "The state directory was deleted or replaced while logbell ran: everything was "
                    "written there anew. Whatever deletes it must leave it alone."
                  : "The state directory was deleted or replaced while logbell ran: everything is "
                    "written there anew as soon as that can be done.",
            {{"state_dir", options_.config->state_dir}});
      }
      options_.metrics->count("logbell_state_lost_total");
      displaced_ = true;  // told by the main thread: the core may wait for this one
      if (options_.wake_main) options_.wake_main();
    }
    return added;
  };
  writer.broken = [this] { return store_->broken(); };
  writer.in_place = [this] { return store_->in_place(); };
  writer.knows = [this](const std::string& key) { return store_->knows(key).value_or(false); };
  writer.deliver = [this](Delivery delivery) {
    const std::shared_ptr<Lane> to = lane(delivery.notification.lane);
    if (!to) {
      hand_to_main({delivery});
      return false;
    }
    if (LOGBELL_BROKEN("writer.hand_over")) return true;
    drills_->stored(delivery.notification);
    to->add(std::move(delivery));
    return true;
  };
  writer.gave_up = [this](const std::vector<Delivery>& rows) { hand_to_main(rows); };
  writer.on_broken = [this] {
    finished_ = kExitIo;
    if (options_.wake_main) options_.wake_main();
  };
  if (options_.driver != nullptr) writer.step_instead = [this] { options_.driver->step_writer(); };
  writer_ = std::make_unique<Writer>(std::move(writer));
  writer_->store(std::move(first_entries));
  heard_ = std::make_unique<Heard>(
      Heard::Options{&clock, [this](Condition condition) { queue_.push(std::move(condition), 0); },
                     [this](std::vector<StoredEntry> entries) { writer_->store(std::move(entries)); },
                     options_.wake_main},
      config.listened_for, *own);

  Acknowledgements::Options acknowledge;
  acknowledge.clock = &clock;
  acknowledge.store = [this](std::vector<StoredEntry> entries) { writer_->store(std::move(entries)); };
  acknowledge.tell = [this](const auto& message, const auto& said) { tell_acknowledged(message, said); };
  acknowledge.count = [this](std::string_view outcome) { count_acknowledgement("link", outcome); };
  acknowledgements_ = std::make_unique<Acknowledgements>(std::move(acknowledge), *own);
  for (const std::string_view outcome : Acknowledgements::kOutcomes)  // counters are there from the start
    count_acknowledgement("link", outcome, 0);
  count_acknowledgement("read_back", "acknowledged", 0);

  // Sinks, with what waits for them.
  for (const auto& [name, sink] : plan->sinks) {
    for (std::size_t i = 0; i < sink.lanes.size(); ++i)
      open_lane(config, sink, i);
  }
  for (const std::string& name : remembered) {
    if (!lane(name)) forget_lane(name);
  }
  std::vector<Delivery> without_lane;
  for (Delivery& delivery : *undelivered) {
    if (const std::shared_ptr<Lane> to = lane(delivery.notification.lane)) {
      to->add(std::move(delivery));
    } else {
      without_lane.push_back(std::move(delivery));
    }
  }
  give_up(without_lane, "its sink is not in the configuration");

  // Reader.
  reader_waker_ = std::make_unique<PollWaker>(clock);
  Reader::Options reader;
  reader.clock = &clock;
  reader.feedback = &feedback_;
  reader.drills = drills_.get();
  know_own_files(config);
  reader.positions = std::move(*positions);
  reader.stdin_fd = options_.stdin_fd;
  reader.threads = std::min(usable_cores(), kReaderThreads);
  const DescriptorShares descriptors = share_descriptors();
  reader.max_files = std::min(Follower::kMaxFiles, descriptors.logs);
  reader.max_connections = descriptors.senders;
  ReaderLoop::Options reading;
  reading.clock = &clock;
  reading.log = &log;
  reading.waker = reader_waker_.get();
  reading.queue = &queue_;
  reading.publish = [this](std::shared_ptr<const std::vector<StreamView>> views) {
    stream_views_.set(std::move(views));
  };
  reading.ended = [this] {
    int running = -1;
    finished_.compare_exchange_strong(running, 0);
    if (options_.wake_main) options_.wake_main();
  };
  reader_ =
      std::make_unique<ReaderLoop>(std::make_unique<Reader>(plan, std::move(reader)), std::move(reading));

  // Whoever is asked whether a message would arrive.
  if (options_.verify) {
    VerifyLoop::Options verify;
    verify.clock = &clock;
    verify.state_dir = config.state_dir;
    verify.again = options_.ask_again;
    verify.tell = [this](const Verdict& verdict) { tell_verdict(verdict); };
    verify.found = [this](const std::string& name, const rules::Notification& about,
                          const sinks::ReadBack& back, const std::set<std::size_t>* all) {
      tell_read_back(name, about, back, all);
    };
    verify.looked = [this](std::string_view outcome) {
      options_.metrics->count("logbell_read_backs_total", {{"outcome", std::string(outcome)}});
    };
    for (const std::string_view outcome : VerifyLoop::kLooks)  // counters are there from the start
      metrics.count("logbell_read_backs_total", {{"outcome", std::string(outcome)}}, 0);
    verify_ = std::make_unique<VerifyLoop>(std::move(verify), options_.config, options_.verdicts);
    for (const auto& [lane, verdict] : verify_->verdicts())
      tell_verdict(verdict);
  }

  // Whoever is told that it lives.
  if (options_.heartbeat) {
    HeartbeatLoop::Options beats;
    beats.clock = &clock;
    beats.log = &log;
    beats.metrics = &metrics;
    beats.version = options_.version;
    beats.pulse = [this] { return pulse_of(pulse_facts()); };
    beats.tell = [this](Condition condition) { queue_.push(std::move(condition), 0); };
    heartbeat_ = std::make_unique<HeartbeatLoop>(std::move(beats), options_.config);
  }

  // HTTP.
  Api::Options api;
  api.clock = &clock;
  api.metrics = &metrics;
  api.version = options_.version;
  api.may_change = is_loopback(config.listen);
  api.reload = [this]() -> std::optional<ReloadAnswer> {
    return options_.reload ? options_.reload() : std::nullopt;
  };
  api.health = [this] { return health(); };
  api.core = [this] { return core_view_.get(); };
  api.streams = [this] { return stream_views_.get(); };
  api.lanes = [this] { return lane_views(); };
  api.heard = heard_.get();
  api.acknowledgements = acknowledgements_.get();
  api.verdicts = [this] { return verdicts(); };
  api.proofs = [this] { return this->proofs(); };
  api.deliveries = [this](std::size_t limit) { return store_->history(limit); };
  api.drills = drills_.get();
  api.bounds = [this] { return bounds(); };
  api.destination = [this](const std::string& name) {
    const std::shared_ptr<const Config> now = config_.get();
    const auto sink = now->sinks.find(name);
    return sink == now->sinks.end() ? std::string() : sink->second->destination();
  };
  rules::Result<> listening;
  if (options_.front != nullptr)
    listening = options_.front->serve(config.listen, std::make_shared<Api>(std::move(api)));
  if (!listening) {
    const bool wrong = listening.error().code == ErrorCode::kInvalid;
    return Failure{wrong ? kExitConfig : kExitIo, listening.error().message};
  }

  // Threads, from the last of the chain to the first: nothing is handed to a loop that does not run.
  {
    const MutexLock lock(lanes_mutex_);
    for (auto& [name, post] : lanes_)
      post.worker = run_lane(post.lane);
  }
  const auto loop = [&](const char* name, auto& of, Heartbeat& heartbeat, auto done) {
    return run({name,
                [this, &of, &heartbeat] {
                  heartbeat.beat(options_.clock->instant());
                  return std::optional<Instant>(of.step());
                },
                [&of](std::optional<Instant> until) { of.wait(*until); }, std::move(done),
                [&heartbeat] { heartbeat.rest(); }});
  };
  writer_thread_ = loop("writer", *writer_, writer_heartbeat_, [this] { return writer_->ended(); });
  core_thread_ = loop("core", *core_, core_heartbeat_, [this] { return core_->ended(); });
  reader_thread_ = loop("reader", *reader_, reader_heartbeat_, [this] { return reader_->done(); });
  if (verify_) {
    verify_thread_ = run({"verify", [this] { return verify_->step(); },
                          [this](std::optional<Instant> until) { verify_->wait(until); },
                          [this] { return verify_->done(); }, [] {}});
  }
  if (heartbeat_) {
    heartbeat_thread_ = run({"heartbeat", [this] { return heartbeat_->step(); },
                             [this](std::optional<Instant> until) { heartbeat_->wait(until); },
                             [this] { return heartbeat_->done(); }, [] {}});
  }
  if (options_.stalled) {
    watchdog_ = std::make_unique<Watchdog>(
        Watchdog::Options{&clock, options_.stall_limit, [this] { return progress(); }, options_.stalled});
    watchdog_thread_ = run({"watchdog", [this] { return watchdog_->step(); },
                            [this](std::optional<Instant> until) { watchdog_->wait(until); },
                            [this] { return watchdog_->done(); }, [] {}});
  }
  LOGBELL_FAULT("runtime.started");
  return std::nullopt;
}

// Before anybody looks for logs.
void Runtime::know_own_files(const Config& config) {
  std::vector<Feedback::OwnFile> files;
  for (const auto& [name, sink] : config.sinks) {
    if (std::string path = sink->writes_to(); !path.empty())
      files.push_back({std::move(path), fmt::format("the sink \"{}\" writes it", name)});
  }
  // A new state_dir counts from the next start.
  feedback_.set_files(std::move(files),
                      (std::filesystem::path(options_.config->state_dir) / "logbell").string());
}

Lane::Setting Runtime::setting(const Config& config, const rules::SinkSpec& sink, std::size_t lane) {
  Lane::Setting setting;
  sinks::SinkContext context{config.external_url, config.environment};
  setting.fallbacks = fallbacks_of(*config.plan);
  setting.per_minute = sink.messages_per_minute;
  setting.fallback_after = sink.fallback_after;
  if (const sinks::SinkType* type = sinks::find_sink_type(sink.type); type != nullptr) {
    setting.min_interval = type->min_interval;
    setting.follows = type->follows;
    if (type->shows_links && !config.external_url.empty()) {
      context.acknowledge_url = [this, base = config.external_url + std::string(Acknowledgements::kPath),
                                 settings = sink.settings](const auto& notification, Timestamp sent_at) {
        const std::string token = acknowledgements_->token(notification, settings, sent_at);
        return token.empty() ? token : base + token;
      };
    }
  }
  setting.sink = marked(config.sinks.at(sink.name)->build(lane, context), feedback_);
  return setting;
}

void Runtime::open_lane(const Config& config, const rules::SinkSpec& sink, std::size_t index) {
  Lane::Options options;
  options.sink = sink.name;
  options.lane = sink.lanes[index];
  options.clock = options_.clock;
  options.log = options_.log;
  options.metrics = options_.metrics;
  options.writer = writer_.get();
  options.health = [this](SinkHealth health) { queue_.push(std::move(health), 0); };
  options.settled = [this](const Settled& settled) {
    const Settlement& settlement = settled.settlement;
    // A storm's message that did not say its name proves nothing.
    if (settlement.state == DeliveryState::kDelivered && settled.named && !LOGBELL_BROKEN("proof.noted"))
      proofs_->delivered(*settled.notification, settlement.receipt, settlement.at);
    const rules::Notification& about = *settled.notification;
    const bool looks = verify_ && settlement.state == DeliveryState::kDelivered && !about.is_resolved() &&
                       verify_->looks_for(about);
    if (!LOGBELL_BROKEN("drill.settled")) drills_->settled(settled, looks);
    if (!looks || LOGBELL_BROKEN("read_back.look") || verify_->look_for(about.lane, about)) return;
    sinks::ReadBack nothing;
    nothing.evidence = "too many messages are looked for already";
    drills_->read_back(about, nothing, true);
  };
  const rules::Result<std::vector<StoredEntry>> elsewhere =
      store_->entries(Lane::elsewhere_prefix(options.lane));
  for (const StoredEntry& entry : elsewhere ? *elsewhere : std::vector<StoredEntry>{}) {
    if (entry.value) options.elsewhere.insert(*entry.value);
  }
  if (!elsewhere) {
    options_.log->warn("What the fallbacks were told of could not be read: they may not hear how it ends.",
                       {{"lane", options.lane}, {"reason", elsewhere.error().message}});
  }
  rules::Result<std::vector<StoredEntry>> firsts = store_->entries(FirstReceipts::prefix(options.lane));
  if (firsts) options.firsts = *std::move(firsts);  // else what follows begins anew
  Post post{std::make_shared<Lane>(std::move(options), setting(config, sink, index)), nullptr};
  const MutexLock lock(lanes_mutex_);
  lanes_[sink.lanes[index]] = std::move(post);
}

// Its sink is gone: it will hear no end, of which a fallback should hear too, and nothing follows there.
// They stay in the outbox until it is on the disk that somebody will be told so: the start after a death
// before that gives them up again.
void Runtime::give_up(const std::vector<Delivery>& rows, std::string_view why) {
  if (rows.empty()) return;
  for (const Delivery& row : rows) {
    const rules::Notification& about = row.notification;
    options_.log->warn(fmt::format("A notification is given up: {}.", why),
                       {{"lane", about.lane}, {"delivery", about.key}});
    options_.metrics->count("logbell_notifications_dropped_total", {{"reason", "no_lane"}});
    given_up_[about.sink].push_back(no_lane(row.id, row.attempts, why, options_.clock->now()));
  }
  if (std::vector<rules::Notification> about = unheard(rows); !about.empty())
    queue_.push(GivenUp{std::move(about), ++given_up_number_}, 0);
}

// The writer must not wait for the core, which may wait for it.
void Runtime::hand_to_main(const std::vector<Delivery>& rows) {
  std::vector<rules::Notification> about = unheard(rows);
  {
    const MutexLock lock(unheard_mutex_);
    std::move(about.begin(), about.end(), std::back_inserter(unheard_));
  }
  if (options_.wake_main) options_.wake_main();
}

void Runtime::settle_given_up() {
  if (given_up_.empty() || told_of_given_up_ != given_up_number_) return;
  for (auto& [sink, settlements] : std::exchange(given_up_, {}))
    writer_->settle(sink, std::move(settlements));
}

void Runtime::forget_lane(const std::string& lane) {
  for (const std::string& prefix : {Lane::elsewhere_prefix(lane), FirstReceipts::prefix(lane)}) {
    rules::Result<std::vector<StoredEntry>> entries = store_->entries(prefix);
    if (!entries || entries->empty()) continue;  // nobody asks for them
    for (StoredEntry& entry : *entries)
      entry.value.reset();
    writer_->store(*std::move(entries));
  }
}

std::unique_ptr<Worker> Runtime::run_lane(const std::shared_ptr<Lane>& lane) {
  return run({"lane " + lane->name(), [lane] { return lane->step(); },
              [lane](std::optional<Instant> until) { lane->wait(until); }, [lane] { return lane->done(); },
              [lane] { lane->rest(); }});
}

std::shared_ptr<Lane> Runtime::lane(const std::string& name) const {
  const MutexLock lock(lanes_mutex_);
  const auto found = lanes_.find(name);
  return found == lanes_.end() ? nullptr : found->second.lane;
}

std::vector<MetricValue> Runtime::bounds() const {
  const auto number = [](auto of) { return static_cast<double>(of); };
  std::vector<MetricValue> values;
  {
    const MutexLock lock(ages_mutex_);
    const Instant now = options_.clock->instant();
    if (!ages_at_ || now >= *ages_at_ + kAgesFor) {
      ages_ = proof_ages(proofs());
      ages_at_ = now;
    }
    values = ages_;
  }
  const std::vector<MetricValue> own{
      {"logbell_queue_bytes", {{"queue", "core"}}, number(queue_.weight())},
      {"logbell_queue_bytes", {{"queue", "writer"}}, number(writer_->queued_bytes())},
      {"logbell_queue_waits_total", {{"queue", "core"}}, number(queue_.waits())},
      {"logbell_queue_waits_total", {{"queue", "writer"}}, number(writer_->waits())},
      {"logbell_feedback_keys_forgotten_total", {}, number(feedback_.forgotten_early())},
      {"logbell_acknowledgements_forgotten_total", {}, number(acknowledgements_->forgotten())},
      {"logbell_http_connections_turned_away_total",
       {},
       number(options_.front == nullptr ? 0 : options_.front->turned_away())}};
  values.insert(values.end(), own.begin(), own.end());
  for (const Heard::View& view : heard_->views()) {
    if (view.heard_at)
      values.push_back({"logbell_heartbeat_heard_timestamp_seconds",
                        {{"heartbeat", view.name}},
                        number(rules::to_unix_ms(*view.heard_at)) / 1000});
  }
  return values;
}

std::vector<LaneView> Runtime::lane_views() const {
  const MutexLock lock(lanes_mutex_);
  std::vector<LaneView> views;
  views.reserve(lanes_.size());
  for (const auto& [name, post] : lanes_)
    views.push_back(post.lane->view());
  return views;
}

Verdicts Runtime::verdicts() const {
  return verify_ ? verify_->verdicts() : Verdicts();
}

std::vector<ProofView> Runtime::proofs() const {
  std::vector<ProofView> views = proofs_->view(verdicts());
  const std::shared_ptr<const Config> config = config_.get();
  show_refused(views, *config->plan, lane_views());
  for (ProofView& view : views)
    view.asked_for = is_asked_for(*config->plan, config->drills, view);
  return views;
}

void Runtime::show_fingerprint(const Config& config) {
  const ConfigFingerprint found = fingerprint(config);
  options_.metrics->set_fingerprint(
      {{"rules", found.rules}, {"routes", found.routes}, {"sinks", found.sinks}});
  options_.log->info("The configuration's fingerprints.",
                     {{"rules", found.rules}, {"routes", found.routes}, {"sinks", found.sinks}});
}

// On the main thread before the loops run, then on that of the questions.
void Runtime::tell_verdict(const Verdict& verdict) {
  const sinks::Verification& found = verdict.found;
  const LogFields fields{{"sink", verdict.lane},
                         {"verdict", std::string(to_string(found.verdict))},
                         {"level", std::string(to_string(found.level))},
                         {"evidence", found.evidence}};
  using Kind = sinks::Verification::Verdict;
  switch (found.verdict) {
    case Kind::kLive:
      if (leaves_somebody_out(found)) options_.log->warn("Not everybody behind the sink would hear.", fields);
      break;
    case Kind::kDead:
      options_.log->error("The sink is dead: no message would arrive.", fields);
      break;
    case Kind::kUnknown:
      options_.log->warn("The sink did not say whether a message would arrive.", fields);
      break;
  }
  for (const Kind kind : {Kind::kLive, Kind::kDead, Kind::kUnknown}) {  // counters are there from the start
    options_.metrics->count("logbell_sink_verifications_total",
                            {{"sink", verdict.sink}, {"verdict", std::string(to_string(kind))}},
                            kind == found.verdict ? 1 : 0);
  }
  const bool unverified = found.verdict == Kind::kUnknown && verdict.unknown_since &&
                          options_.clock->now() - *verdict.unknown_since >= kUnverifiedAfter;
  queue_.push(SinkVerdict{verdict, unverified}, 0);
}

// On the thread of the questions.
void Runtime::tell_read_back(const std::string& lane, const rules::Notification& about,
                             const sinks::ReadBack& back, const std::set<std::size_t>* all) {
  const bool drill = !about.drill.empty();
  const std::string by = drill ? "drill" : "alert";
  const bool is_missing = drill && all != nullptr && back.answered;
  for (std::size_t i = 0; i < about.alerts.size(); ++i) {
    const Proof proof{sinks::ProofLevel::kReadBack, options_.clock->now(), by, back.evidence};
    if (std::find(back.found.begin(), back.found.end(), i) != back.found.end()) {
      proofs_->found(about.alerts[i].rule, about.sink, lane, proof);
    } else if (is_missing && all->count(i) == 0) {
      proofs_->missing(about.alerts[i].rule, about.sink, lane, proof);
    }
  }
  if (drill) drills_->read_back(about, back, all != nullptr);
  for (const sinks::ReadBack::Acknowledged& one : back.acknowledged) {
    const rules::Alert& alert = about.alerts.at(one.alert);
    proofs_->proven(alert.rule, about.sink,
                    {sinks::ProofLevel::kAcknowledged, one.at, by, one.evidence, one.who, one.took});
    if (drill) drills_->acknowledged(about.drill, about.sink, {alert.rule}, one.who, one.at);
    count_acknowledgement("read_back", "acknowledged");
    options_.log->info("Somebody has seen the message.",
                       {{"sink", about.sink},
                        {"alertname", std::string(alert.name())},
                        {"who", one.who},
                        {"took", sinks::format_span(one.took)}});
  }
  // Of a real one it is said what proves something; of a drill also what does not.
  if (!drill || (all == nullptr && back.found.empty())) return;
  const LogFields fields{{"lane", lane},
                         {"drill", about.drill},
                         {"found", std::to_string(all == nullptr ? back.found.size() : all->size())},
                         {"of", std::to_string(about.alerts.size())},
                         {"evidence", back.evidence}};
  if (all != nullptr && all->size() < about.alerts.size()) {
    options_.log->warn(back.answered ? "What a drill has brought there is not all to be found."
                                     : "The sink does not say whether it has what a drill has brought there.",
                       fields);
  } else if (!back.found.empty()) {
    options_.log->info("What a drill has brought there was found.", fields);
  }
}

// On the thread of who asked: the HTTP server's.
void Runtime::tell_acknowledged(const Acknowledgements::Message& message, const Acknowledgements::Said& said) {
  const bool drill = !message.drill.empty();
  const std::string took = sinks::format_span(said.took);
  for (const rules::Fingerprint rule : message.rules) {
    proofs_->proven(rule, message.sink,
                    {sinks::ProofLevel::kAcknowledged, said.at, drill ? "drill" : "alert",
                     fmt::format("{} said so by the link, {} after it was sent",
                                 said.who.empty() ? "somebody" : said.who, took),
                     said.who, said.took});
  }
  if (drill)
    drills_->acknowledged(message.drill, message.sink, message.rules, said.who, said.at);
  LogFields fields{{"sink", message.sink}, {"who", said.who}, {"took", took}};
  if (drill) fields.emplace_back("drill", message.drill);
  options_.log->info("Somebody has seen the message.", fields);
  writer_->after_commit([] {});  // now: whoever was thanked must find it
}

void Runtime::count_acknowledgement(std::string_view way, std::string_view outcome, double by) {
  options_.metrics->count("logbell_acknowledgements_total",
                          {{"way", std::string(way)}, {"outcome", std::string(outcome)}}, by);
}

void Runtime::look_at_proofs(Instant now) {
  if (!schedule_ || now < proofs_seen_ + std::min(kLookAtProofs, options_.first_drill.value_or(kLookAtProofs)))
    return;
  proofs_seen_ = now;
  for (Condition& condition : delays_of(lane_views(), options_.clock->now()))
    queue_.push(std::move(condition), 0);
  const std::shared_ptr<const Config> config = config_.get();
  const rules::Plan& plan = *config->plan;
  const std::vector<ProofView> views = proofs();
  const Timestamp wall = options_.clock->now();
  for (const DrillDesk::Request& request : schedule_->due(plan, config->drills, views, wall)) {
    if (LOGBELL_BROKEN("drill.schedule")) continue;
    const rules::Result<DrillReport> begun = drills_->begin(plan, request);
    if (!begun)
      options_.log->warn("A drill that is due could not begin.",
                         {{"sink", request.sink}, {"reason", begun.error().message}});
  }
  for (Condition& condition : schedule_->expired(plan, config->drills, views, wall))
    queue_.push(std::move(condition), 0);
}

// Of each sink that it reached or should have, and of each rule: whether it got to any sink. Neither says
// anything of another.
void Runtime::tell_drill(const DrillReport& report) {
  using State = DrillPair::State;
  constexpr std::size_t kNamed = 3;
  struct About {
    const DrillPair* wrong = nullptr;
    std::vector<std::string> alerts;  // of what is wrong
    bool proven = false;
  };
  std::map<std::string, About> sinks;
  std::map<std::string, About> rules;
  std::map<State, std::size_t> counts;
  for (const DrillPair& pair : report.pairs) {
    ++counts[pair.state];
    if (pair.state == State::kSkipped) continue;
    const bool failed = pair.state == State::kFailed;
    About& about = pair.sink.empty() ? rules[pair.alert] : sinks[pair.sink];
    if (!pair.sink.empty()) rules[pair.alert].proven = true;  // it got there, whatever the sink says
    if (!failed) continue;
    if (about.wrong == nullptr) about.wrong = &pair;
    if (std::find(about.alerts.begin(), about.alerts.end(), pair.alert) == about.alerts.end())
      about.alerts.push_back(pair.alert);
    options_.log->error("A drill failed: nobody would be told that way.", {{"drill", report.id},
                                                                           {"rule", pair.alert},
                                                                           {"sink", pair.lane},
                                                                           {"hop", pair.failed_at},
                                                                           {"reason", pair.why}});
  }
  const auto tell = [&](const char* label, const std::string& name, bool active, std::string summary) {
    Condition condition;
    condition.alertname = "DrillFailed";
    condition.labels.set(label, name);
    condition.active = active;
    condition.summary = std::move(summary);
    queue_.push(std::move(condition), 0);
  };
  const auto how_wrong = [](const DrillPair& pair) {
    return pair.failed_at == "read back" ? fmt::format("was taken by sink {}, and is not to be found there",
                                                       pair.lane)
                                         : fmt::format("did not arrive at sink {}", pair.lane);
  };
  for (auto& [sink, about] : sinks) {
    if (about.wrong == nullptr) {
      tell("sink", sink, false, fmt::format("A drill has reached sink {}.", sink));
      continue;
    }
    const std::size_t more = about.alerts.size() > kNamed ? about.alerts.size() - kNamed : 0;
    about.alerts.resize(std::min(about.alerts.size(), kNamed));
    tell("sink", sink, true,
         fmt::format("A drill of {}{} {}: {}.", join(about.alerts),
                     more > 0 ? fmt::format(" and {} more", more) : "", how_wrong(*about.wrong),
                     about.wrong->why));
  }
  for (const auto& [rule, about] : rules) {
    if (about.wrong == nullptr) {
      tell("rule", rule, false, fmt::format("A drill of {} has got to its sinks.", rule));
    } else {
      tell("rule", rule, true,
           fmt::format("A drill of {} got to no sink: at \"{}\", {}.", rule, about.wrong->failed_at,
                       about.wrong->why));
    }
  }
  const char* outcome = counts[State::kFailed] > 0 ? "failed" : report.proven() ? "proven" : "skipped";
  for (const char* name : {"proven", "failed", "skipped"})  // counters are there from the start
    options_.metrics->count("logbell_drills_total", {{"outcome", name}},
                            std::string_view(name) == outcome ? 1 : 0);
  options_.log->info("A drill has ended.", {{"drill", report.id},
                                            {"scheduled", report.scheduled ? "true" : "false"},
                                            {"proven", std::to_string(counts[State::kProven])},
                                            {"failed", std::to_string(counts[State::kFailed])},
                                            {"skipped", std::to_string(counts[State::kSkipped])}});
}

// For --on-refusal=stay: what runs now is the last good configuration.
std::vector<StoredEntry> Runtime::text_entries(const Config& config) {
  std::vector<StoredEntry> entries;
  std::set<std::string> paths;
  for (const auto& [path, text] : config.texts) {
    paths.insert(path);
    entries.push_back({std::string(kTextsPrefix) + path, text});
  }
  for (const std::string& path : stored_texts_) {
    if (paths.count(path) == 0) entries.push_back({std::string(kTextsPrefix) + path, std::nullopt});
  }
  stored_texts_ = std::move(paths);
  return entries;
}

void Runtime::reload(const std::shared_ptr<const Config>& config, Verdicts verdicts) {
  const std::shared_ptr<const Config> old = config_.get();
  if (config->state_dir != old->state_dir || config->listen != old->listen)
    options_.log->warn(
        "state_dir and listen change with the next start only.",
        {{"config", config->path}, {"listen", config->listen}, {"state_dir", config->state_dir}});
  if (const std::vector<std::string> gone = rules_gone(*old->plan, *config->plan); !gone.empty())
    options_.log->warn("Rules are watched no longer: the new configuration does not have them.",
                       {{"config", config->path}, {"rules_gone", rules::list_words(gone, 20)}});
  // What an earlier one removed is over before this one brings it back: the core has forgotten whom it told,
  // and nobody would hear there how what still waits ends.
  tend();
  // Lanes first: no notification of the new plan may come before the lane that takes it.
  for (const auto& [name, sink] : config->plan->sinks) {
    for (std::size_t i = 0; i < sink.lanes.size(); ++i) {
      if (const std::shared_ptr<Lane> known = lane(sink.lanes[i])) {
        known->replace(setting(*config, sink, i));
        continue;
      }
      // One of the same name that was removed a moment ago ends its attempt first: nothing is sent by both. It begins
      // no other: nobody would hear the end of what it tells now.
      for (Post& post : retired_) {
        if (post.lane->name() != sink.lanes[i]) continue;
        post.lane->drain(options_.clock->instant(), SendLoop::Ending::kSink);
        post.worker->wait(*options_.clock, options_.clock->instant() + kAttempt);
      }
      tend();
      open_lane(*config, sink, i);
      const MutexLock lock(lanes_mutex_);
      Post& post = lanes_.at(sink.lanes[i]);
      post.worker = run_lane(post.lane);
    }
  }
  config_.set(config);
  plan_refused_ = false;
  reload_failed_ = false;
  show_fingerprint(*config);
  options_.metrics->set_plan_refused(false);
  options_.metrics->reloaded(true, options_.clock->now());
  LOGBELL_FAULT("runtime.reload.before_store");
  writer_->store(text_entries(*config));
  know_own_files(*config);
  reader_->replace_plan(config->plan);
  tell(reload_succeeded());
  proofs_->replace_plan(config->plan, config->proof_ages);
  if (verify_) {
    verify_->replace(config, std::move(verdicts));
    // Behind the plan that has these sinks: the reader's barrier brings it.
    told_generation_ = 0;
  }
  if (heartbeat_) heartbeat_->replace(config);
  heard_->replace(config->listened_for);
  LOGBELL_FAULT("runtime.reload.done");
}

void Runtime::tell(Condition condition) {
  queue_.push(std::move(condition), 0);
}

void Runtime::refused() {
  reload_failed_ = true;
  options_.metrics->set_plan_refused(true);
  options_.metrics->reloaded(false, options_.clock->now());
}

void Runtime::tend() {
  const std::shared_ptr<const Config> config = config_.get();
  if (core_generation_ == config->plan->generation) {
    // The core is past the barrier: nothing new comes for lanes that the plan no longer has.
    std::set<std::string> wanted;
    for (const auto& [name, sink] : config->plan->sinks)
      wanted.insert(sink.lanes.begin(), sink.lanes.end());
    const MutexLock lock(lanes_mutex_);
    for (auto it = lanes_.begin(); it != lanes_.end();) {
      if (wanted.count(it->first) != 0) {
        ++it;
        continue;
      }
      it->second.lane->drain(options_.clock->instant() + kAttempt, SendLoop::Ending::kSink);
      retired_.push_back(std::move(it->second));
      it = lanes_.erase(it);
    }
  }
  for (auto it = retired_.begin(); it != retired_.end();) {
    if (!it->worker->done()) {
      ++it;
      continue;
    }
    const std::string name = it->lane->name();
    it = retired_.erase(it);
    if (!lane(name)) forget_lane(name);
    writer_->forget_lane(name);
    const rules::Result<std::vector<Delivery>> rows = store_->undelivered();
    std::vector<Delivery> left;
    for (const Delivery& row : rows ? *rows : std::vector<Delivery>{}) {
      if (row.notification.lane == name) left.push_back(row);
    }
    give_up(left, "its sink was removed from the configuration");
  }
  GivenUp by_writer;
  {
    const MutexLock lock(unheard_mutex_);
    by_writer.notifications.swap(unheard_);
  }
  if (!by_writer.notifications.empty()) queue_.push(std::move(by_writer), 0);
  settle_given_up();
  if (verify_ && told_generation_ != config->plan->generation &&
      core_generation_ == config->plan->generation) {
    told_generation_ = config->plan->generation;
    for (const auto& [lane, verdict] : verify_->verdicts())
      tell_verdict(verdict);
  }
  for (const DrillReport& report : drills_->take_ended())
    tell_drill(report);
  heard_->tend();
  const Instant now = options_.clock->instant();
  look_at_proofs(now);
  if (grown_.exchange(false)) trim_at_ = now + kTrimAfter;
  if (trim_at_ && now >= *trim_at_) {
    trim_at_.reset();
    ::malloc_trim(0);
  }
  if (displaced_.exchange(false)) {
    state_lost_at_ = options_.clock->now();
    queue_.push(state_lost(true, store_->broken() ? Lost::kToAnother : Lost::kWhileRunning), 0);
    writer_->store({{std::string(kStateLostKey),
                     std::to_string(rules::to_unix_ms(*state_lost_at_)).append(kLostRunning)}});
  }
  if (state_lost_at_ && options_.clock->now() - *state_lost_at_ >= kStateLostFires) {
    state_lost_at_.reset();
    queue_.push(state_lost(false, Lost::kAtStart), 0);
    writer_->store({{std::string(kStateLostKey), std::nullopt}});
  }
}

std::optional<int> Runtime::finished() const {
  const int status = finished_;
  return status < 0 ? std::nullopt : std::optional<int>(status);
}

bool Runtime::stop(Duration grace) {
  if (stopped_) return true;
  stopped_ = true;
  const Clock& clock = *options_.clock;
  Log& log = *options_.log;
  const bool broken = store_->broken();
  const Instant began = clock.instant();
  const Instant until = began + (broken ? std::min(grace, kLastGasp) : grace);
  // At least a moment for each step, however short the grace: what is written is read in milliseconds.
  const auto by = [&](Instant at) { return std::max(at, clock.instant() + Duration(50)); };

  if (watchdog_) watchdog_->stop();  // from here on `grace` is the bound
  if (verify_) verify_->stop();
  // Said while the rest ends, on a thread of its own.
  if (heartbeat_)
    heartbeat_->stop(broken ? std::optional<std::string>("it ends: its state is not kept, see its log")
                            : std::nullopt);
  // Read what is written. After a failed fsync nothing more: it could not be written down.
  reader_->finish(broken ? began : began + grace / 2);
  bool ended = reader_thread_->wait(clock, by(began + grace / 2 + Duration(200)));
  if (!ended) log.warn("Reading did not end in time: what is left is read at the next start.");
  LOGBELL_FAULT("runtime.stop.read");

  // Evaluate it, write it down.
  queue_.close();
  if (!core_thread_->wait(clock, by(until))) {
    log.warn("The core did not end in time: what is left is read again at the next start.");
    ended = false;
  }
  heard_->keep();
  writer_->close();
  if (!broken && !writer_->wait_idle(
                     std::max(Duration(50), std::chrono::floor<Duration>(std::min<std::chrono::microseconds>(
                                                until - clock.instant(), kLastCommit)))))
    log.error("The state could not be written at the end; what is missing is read again at the next start.");
  if (!broken) settle_given_up();
  LOGBELL_FAULT("runtime.stop.committed");

  // One immediate try for whatever waits; and one with the fallbacks, for what was not taken.
  std::vector<Post*> posts;
  std::vector<std::shared_ptr<Lane>> lanes;
  {
    const MutexLock lock(lanes_mutex_);
    for (auto& [name, post] : lanes_) {
      posts.push_back(&post);
      lanes.push_back(post.lane);
    }
  }
  const Instant last = by(until);
  for (Post* post : posts)
    post->lane->drain(last, SendLoop::Ending::kProcess);
  if (options_.driver == nullptr) {
    last_call_ = std::make_unique<LastCall>(clock, lanes, last);
    last_call_thread_ = run({"last call", [this] { return last_call_->step(); },
                             [this](std::optional<Instant> at) { last_call_->wait(at); },
                             [this] { return last_call_->done(); }, [] {}});
  }
  for (Post& post : retired_)
    post.lane->drain(last, SendLoop::Ending::kSink);
  while (clock.instant() < last && !lanes_are_quiet(posts) &&
         !writer_thread_->wait(clock, std::min(last, clock.instant() + kLookAtLanes))) {
  }
  for (Post* post : posts)
    post->lane->leave();
  if (last_call_) last_call_->end();
  for (Post& post : retired_)
    posts.push_back(&post);
  std::vector<std::string> hanging;
  if (verify_thread_ && !verify_thread_->wait(clock, by(until))) hanging.emplace_back("verify");
  for (Post* post : posts) {
    if (!post->worker->wait(clock, by(until))) hanging.push_back(post->lane->name());
  }
  if (!hanging.empty()) {
    log.warn("A sink did not answer in time; the notification is kept for the next start.",
             {{"lanes", join(hanging)}});
    ended = false;
  }
  if (heartbeat_thread_ && !heartbeat_thread_->wait(clock, by(until))) {
    log.warn("The heartbeat's receiver did not answer in time.");
    ended = false;
  }
  LOGBELL_FAULT("runtime.stop.drained");
  writer_->wait_idle(Duration(broken ? 0 : 50));
  writer_->end();
  const bool written = writer_thread_->wait(clock, by(until));
  if (last_call_thread_ && !last_call_thread_->wait(clock, by(until))) ended = false;
  ended = ended && written;
  if (options_.front != nullptr) options_.front->close();
  say_stopped(ended, written, std::chrono::floor<Duration>(clock.instant() - began));
  return ended;
}

// Nothing is left to do, nor on its way from one to another: what a lane settles is with the writer until it
// has handed on what the fallbacks are to tell.
bool Runtime::lanes_are_quiet(const std::vector<Post*>& posts) const {
  const auto all_quiet = [&](std::uint64_t& arrived) {
    return std::all_of(posts.begin(), posts.end(),
                       [&](const Post* post) { return post->lane->quiet(arrived); });
  };
  std::uint64_t before = 0;
  std::uint64_t after = 0;
  // A store that refuses is waited for by nobody, and hands on before it answers.
  return all_quiet(before) && (writer_->idle() || writer_->failing_since()) && all_quiet(after) &&
         before == after;
}

// The last word. Whoever reads a pod's log reads it from its end.
void Runtime::say_stopped(bool ended, bool written, Duration took) {
  constexpr std::size_t kMostNames = 5;
  Log& log = *options_.log;
  std::uint64_t waiting = 0;
  std::vector<std::string> lanes;
  for (const LaneView& view : lane_views()) {
    waiting += view.pending;
    if (view.pending > 0) lanes.push_back(view.lane);
  }
  LeftBehind left;
  // Nobody waits for a disk that hangs; and what one that refuses does not hold the lanes know, not whose it
  // is.
  const bool known = written && !writer_->failing_since();
  const rules::Result<std::vector<Delivery>> rows =
      waiting > 0 && known ? store_->undelivered() : std::vector<Delivery>();
  if (rows && known) {
    left = left_behind(*rows);
  } else if (waiting > 0) {
    left.undelivered = left.untold = waiting;
    left.lanes = lanes;
  }
  log.sweep(true);
  const std::string stopped = ended ? "Stopped." : "Stopped without waiting any longer.";
  LogFields fields{{"took", rules::format_duration(took)}, {"undelivered", std::to_string(waiting)}};
  if (left.undelivered == 0) {
    log.info(stopped, fields);
    return;
  }
  fields.emplace_back("untold", std::to_string(left.untold));
  fields.emplace_back("sinks", rules::list_words(left.lanes, kMostNames));
  if (!left.alerts.empty()) fields.emplace_back("alerts", rules::list_words(left.alerts, kMostNames));
  log.warn(
      stopped +
          (left.untold == 0
               ? " Only the fallbacks were told; the sinks are tried again at the next start."
               : " Not everything was told: the next start goes on with it, if it finds this state_dir."),
      fields);
}

// Of the loops that nothing stands in for.
std::vector<Watchdog::Progress> Runtime::progress() const {
  const Instant now = options_.clock->instant();
  return {{"reader", reader_heartbeat_.silent(now)},
          {"core", core_heartbeat_.silent(now)},
          {"writer", writer_heartbeat_.silent(now)}};
}

// Reader, core and writer after `limit`.
std::vector<std::string> Runtime::stalled(Duration limit) const {
  std::vector<std::string> found;
  const Instant now = options_.clock->instant();
  const auto look = [&](const std::string& name, std::optional<Duration> silent, Duration most) {
    if (silent && *silent > most)
      found.push_back(fmt::format("{}: no progress for {}", name,
                                  rules::format_duration(std::chrono::floor<std::chrono::seconds>(*silent))));
  };
  for (const Watchdog::Progress& one : progress())
    look(one.loop, one.silent, limit);
  const MutexLock lock(lanes_mutex_);
  for (const auto& [name, post] : lanes_)
    look("lane " + name, post.lane->silent(now), kLaneStalled);
  return found;
}

// On the heartbeat's thread.
PulseFacts Runtime::pulse_facts() const {
  PulseFacts facts;
  facts.now = options_.clock->now();
  facts.stalled = stalled(kPulseStalled);
  facts.ready = ready_;
  facts.failing_since = writer_->failing_since();
  facts.lanes = lane_views();
  if (const auto core = core_view_.get()) {
    for (const AlertView& view : core->alerts) {
      if (view.alert.built_in && view.alert.name() == "DrillFailed" &&
          view.alert.state == rules::AlertState::kFiring)
        facts.drill = view.alert.annotation("summary");
    }
  }
  const rules::Plan& plan = *config_.get()->plan;
  facts.lost_rules = rules_that_reach_nobody(plan, dead_sinks(plan, facts.lanes, verdicts()));
  const auto streams = stream_views_.get();
  for (const rules::SourceSpec& source : plan.sources) {
    if (streams && std::none_of(streams->begin(), streams->end(), [&](const StreamView& stream) {
          return stream.source == source.name && stream.readable;
        }))
      facts.unreadable.push_back(source.name);
  }
  return facts;
}

Health Runtime::health() const {
  Health health;
  health.stalled = stalled(kStalled);
  health.ready = ready_;
  if (const auto since = writer_->failing_since())
    health.degraded.push_back(fmt::format("the state cannot be written since {}; it is kept in memory: {}",
                                          rules::format_rfc3339(*since), writer_->failing_reason()));
  if (plan_refused_) health.degraded.emplace_back("the configuration was refused; the last good one runs");
  if (reload_failed_) health.degraded.emplace_back("the last reload was refused; the old configuration runs");
  std::map<std::string, rules::Timestamp> delivered;  // by lane, the last time
  for (const LaneView& view : lane_views()) {
    if (view.last_delivered) delivered[view.lane] = *view.last_delivered;
    if (view.state == SinkState::kDead || view.state == SinkState::kFailing)
      health.degraded.push_back(
          fmt::format("sink {} is {}: {}", view.lane, to_string(view.state), view.last_error));
  }
  for (const auto& [lane, verdict] : verdicts()) {
    using Kind = sinks::Verification::Verdict;
    if (ends_soon(verdict))
      health.degraded.push_back(fmt::format("the certificate that sink {} shows ends at {}", lane,
                                            rules::format_rfc3339(*verdict.found.certificate_ends)));
    if (verdict.found.verdict == Kind::kDead) {
      health.degraded.push_back(
          fmt::format("sink {} is dead, no message would arrive: {}", lane, verdict.found.evidence));
    } else if (const auto last = delivered.find(lane); last != delivered.end() && last->second > verdict.at) {
      // It did not say, and took one since: that says more.
    } else if (verdict.found.verdict == Kind::kUnknown) {
      health.degraded.push_back(fmt::format("sink {} has not said whether a message would arrive: {}", lane,
                                            verdict.found.evidence));
    }
  }
  const std::shared_ptr<const Config> config = config_.get();
  if (config->plan->rules.empty())
    health.degraded.emplace_back("the configuration has no rule: nobody is told of anything in the logs");
  const std::set<std::string> dead = dead_sinks(*config->plan, lane_views(), verdicts());
  for (const std::string& rule : rules_that_reach_nobody(*config->plan, dead))
    health.degraded.push_back(fmt::format("rule {} reaches nobody: its sinks are dead", rule));
  // What else says that people may not be told: of dead and silent sinks it was said above.
  const std::shared_ptr<const CoreView> view = core_view();
  for (const AlertView& one : view == nullptr ? std::vector<AlertView>{} : view->alerts) {
    static const std::vector<std::string> kOfTelling{"DrillFailed", "ProofExpired", "DeliveryDelayed",
                                                     "HeartbeatUnheard", "StateLost"};
    if (one.alert.built_in && one.alert.is_firing() && rules::contains(kOfTelling, one.alert.name()))
      health.degraded.push_back(fmt::format("{}: {}", one.alert.name(), one.alert.annotation("summary")));
  }
  const auto streams = stream_views_.get();
  for (const rules::SourceSpec& source : config->plan->sources) {
    if (!streams) continue;
    bool readable = false;
    std::string why;
    for (const StreamView& stream : *streams) {
      if (stream.source != source.name) continue;
      readable = readable || stream.readable;
      if (stream.missed && why.empty()) why = fmt::format("{}: {}", stream.path, stream.error);
    }
    if (!readable) {
      health.degraded.push_back(fmt::format("source {} has no readable file{}", source.name, why.empty() ? "" : ", " + why));
    } else if (!why.empty()) {
      health.degraded.push_back(fmt::format("source {} cannot read all that it names, {}", source.name, why));
    }
  }
  return health;
}

}  // namespace logbell::engine

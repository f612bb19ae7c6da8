#include "engine/run/heartbeat.h"

#include <algorithm>
#include <cctype>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "engine/run/wait.h"
#include "rules/json.h"
#include "rules/labels.h"
#include "sinks/http.h"

namespace logbell::engine {

using rules::Duration;
using rules::Instant;
using rules::Timestamp;

namespace {

constexpr const char* kMetric = "logbell_heartbeats_total";
constexpr const char* kLastSuccess = "logbell_heartbeat_last_success_timestamp_seconds";
// What a snitch shows of a message, about (snitcher's README).
constexpr std::size_t kSnitchBytes = 250;

std::string_view word_of(Beat beat) {
  switch (beat) {
    case Beat::kAlive:
      return "ok";
    case Beat::kBad:
      return "failing";
    case Beat::kStopping:
      return "stopping";
  }
  return "";
}

// For a query: RFC 3986's unreserved characters stay.
std::string percent_encoded(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) != 0 || std::string_view("-._~").find(c) != std::string_view::npos) {
      out += c;
    } else {
      out += fmt::format("%{:02X}", byte);
    }
  }
  return out;
}

// healthchecks.io (https://healthchecks.io/docs/http_api/; SINKS.md §12): URL is a success, URL/fail a
// failure, URL/log an entry in the check's log that changes nothing else. A body is kept. By UUID every
// answer is 200, and its text says whether the check is known and whether the ping counted; newer ones answer
// 404 and 429. Dead Man's Snitch (https://github.com/deadmanssnitch/snitcher): GET of the URL with ?m=, any
// 2xx.
class HttpHeartbeat final : public HeartbeatSender {
 public:
  explicit HttpHeartbeat(const HeartbeatSettings& settings)
      : settings_(settings), hide_(settings.secrets()), client_(settings.http) {}

  bool knows(Beat beat) const override {
    return beat == Beat::kAlive || settings_.style == HeartbeatStyle::kHealthchecks;
  }

  BeatOutcome send(Beat beat, const std::string& status, const std::string& summary, Duration timeout,
                   Timestamp now) override {
    sinks::HttpRequest request;
    request.url = rules::Secret(address(beat, summary));
    request.timeout = timeout;
    request.now = now;
    const bool get = settings_.get || settings_.style == HeartbeatStyle::kSnitch;
    if (!get) {
      request.headers.push_back({"Content-Type", rules::Secret("application/json")});
      request.body = status;
    }
    const sinks::HttpResult result = get ? client_.get(request) : client_.post(request);
    const sinks::Outcome outcome = sinks::outcome_of(result, hide_);
    BeatOutcome out;
    out.taken = outcome.kind == sinks::Outcome::Kind::kDelivered;
    out.refused = outcome.kind == sinks::Outcome::Kind::kRejected;
    out.detail = outcome.detail;
    out.retry_after = outcome.retry_after;
    if (!out.taken || settings_.style != HeartbeatStyle::kHealthchecks) return out;
    if (result.body.rfind("OK (not found)", 0) == 0) {
      out.taken = false;
      out.refused = true;
    } else if (result.body.rfind("OK (rate limited)", 0) == 0) {
      out.taken = false;
    }
    if (!out.taken) out.detail = sinks::describe(result, hide_);
    return out;
  }

 private:
  std::string address(Beat beat, const std::string& summary) const {
    std::string url = settings_.url.reveal();
    std::string query;
    if (const std::size_t at = url.find('?'); at != std::string::npos) {
      query = url.substr(at);
      url.erase(at);
    }
    if (settings_.style == HeartbeatStyle::kHealthchecks && beat != Beat::kAlive) {
      while (!url.empty() && url.back() == '/')
        url.pop_back();
      url += beat == Beat::kBad ? "/fail" : "/log";
    }
    if (settings_.style == HeartbeatStyle::kSnitch)
      query += (query.empty() ? "?m=" : "&m=") + percent_encoded(summary.substr(0, kSnitchBytes));
    return url + query;
  }

  const HeartbeatSettings settings_;
  const std::vector<rules::Secret> hide_;
  sinks::HttpClient client_;
};

// An alert that always fires: who rings when it ends, or is not repeated, hears of logbell's death. Its name is
// that of Prometheus's own (https://runbooks.prometheus-operator.dev/runbooks/general/watchdog/). What is known
// to be bad resolves it, so that an Alertmanager does not repeat it until it forgets; a stop is silence, for
// those before it still count. Of several endpoints one is enough: they speak with one another. One that takes
// everything and tells nobody is asked for that too, as any sink is, for nobody would miss the heartbeats there.
class SinkHeartbeat final : public HeartbeatSender {
 public:
  explicit SinkHeartbeat(const HeartbeatSink& sink) : sink_(sink) {
    for (std::size_t lane = 0; lane < sink.config->lanes(); ++lane)
      lanes_.push_back({sink.config->build(lane, sink.context), {}, {}});
  }

  bool knows(Beat beat) const override { return beat != Beat::kStopping; }

  BeatOutcome send(Beat beat, const std::string& /*status*/, const std::string& summary, Duration timeout,
                   Timestamp now) override {
    const bool lives = beat == Beat::kAlive;
    if (lives && !since_) since_ = now;
    const rules::Notification notification = watchdog(lives, summary, now);
    if (!lives) since_.reset();
    sinks::Attempt attempt;
    attempt.now = now;
    // Of each endpoint: a question, and the message.
    attempt.timeout = timeout / static_cast<Duration::rep>(2 * lanes_.size());
    BeatOutcome out;
    out.refused = true;
    for (Lane& lane : lanes_) {
      ask(lane, attempt);
      if (lane.dead) {
        out.detail += (out.detail.empty() ? "" : "; ") + *lane.dead;
        continue;
      }
      const sinks::Outcome outcome = lane.sink->deliver(notification, attempt);
      out.taken = out.taken || outcome.kind == sinks::Outcome::Kind::kDelivered;
      out.refused = out.refused && outcome.kind == sinks::Outcome::Kind::kRejected;
      if (outcome.kind == sinks::Outcome::Kind::kDelivered) continue;
      out.detail += (out.detail.empty() ? "" : "; ") + outcome.detail;
      if (outcome.retry_after) out.retry_after = std::max(out.retry_after.value_or(Duration(0)), *outcome.retry_after);
    }
    return out;
  }

 private:
  struct Lane {
    std::unique_ptr<sinks::Sink> sink;
    std::optional<Timestamp> asked;   // it was live, or did not say
    std::optional<std::string> dead;  // the evidence
  };
  // What is dead is asked with each heartbeat: it is one a minute.
  void ask(Lane& lane, const sinks::Attempt& attempt) const {
    using Verdict = sinks::Verification::Verdict;
    if (sink_.type->verifies == sinks::ProofLevel::kStatic) return;
    const Timestamp now = attempt.now;
    if (lane.asked && now >= *lane.asked && now - *lane.asked < kVerifyEvery) return;
    const sinks::Verification found = lane.sink->verify(attempt);
    lane.dead.reset();
    lane.asked.reset();
    if (found.verdict == Verdict::kDead) {
      lane.dead = found.evidence;
    } else {
      lane.asked = now;
    }
  }

  rules::Notification watchdog(bool lives, const std::string& summary, Timestamp now) const {
    rules::Alert alert;
    alert.labels = sink_.labels;
    alert.labels.set("alertname", "Watchdog");
    alert.labels.set("severity", "none");
    alert.annotations.emplace_back("summary", lives ? "Logbell lives, and whoever should hear of an alert would. This "
                                                      "alert always fires: ring when it ends."
                                                    : "Logbell's alerts may reach nobody: " + summary);
    alert.built_in = true;
    alert.value = lives ? 1 : 0;
    alert.state = lives ? rules::AlertState::kFiring : rules::AlertState::kResolved;
    alert.active_at = alert.fired_at = since_.value_or(now);
    if (!lives) {
      alert.resolved_at = now;
      alert.resolve_reason = summary;
    }
    rules::Notification out;
    // Each is one of its own: nobody may take it for a repetition.
    out.key = fmt::format("heartbeat-{}", rules::to_unix_ms(now));
    out.sink = out.lane = sink_.name;
    out.reason = lives ? rules::NotifyReason::kRefresh : rules::NotifyReason::kAllResolved;
    out.group_key = "heartbeat";
    out.group_labels.set("alertname", "Watchdog");
    out.group_began = alert.fired_at;
    out.created_at = out.caused_at = now;
    out.alerts.push_back(std::move(alert));
    return out;
  }

  const HeartbeatSink sink_;
  std::vector<Lane> lanes_;
  std::optional<Timestamp> since_;  // it fires
};

}  // namespace

std::unique_ptr<HeartbeatSender> make_heartbeat_sender(const HeartbeatSettings& settings) {
  if (settings.sink) return std::make_unique<SinkHeartbeat>(*settings.sink);
  return std::make_unique<HttpHeartbeat>(settings);
}

Pulse pulse_of(const PulseFacts& facts) {
  // Whatever else is known: it may be old.
  if (!facts.stalled.empty()) {
    const std::string& first = facts.stalled.front();  // "core: no progress for 31s"
    return {Pulse::Kind::kSilent, first.substr(0, first.rfind(": ")) + " does not get on"};
  }
  if (!facts.ready) return {Pulse::Kind::kStarting, "what is written has not been read to its end yet"};

  std::vector<std::string> bad;
  for (const std::string& rule : facts.lost_rules)
    bad.push_back(fmt::format("rule {} reaches nobody: its sinks are dead", rule));
  if (facts.drill) bad.push_back(*facts.drill);
  if (facts.failing_since)
    bad.push_back(
        fmt::format("the state cannot be written since {}", rules::format_rfc3339(*facts.failing_since)));
  for (const LaneView& lane : facts.lanes) {
    if (lane.oldest && facts.now - *lane.oldest >= kUndeliveredTooLong)
      bad.push_back(fmt::format("a notification for {} waits since {}", lane.lane,
                                rules::format_rfc3339(*lane.oldest)));
  }
  if (!bad.empty()) {
    if (bad.size() > kMaxPulseReasons) {
      const std::size_t more = bad.size() - kMaxPulseReasons;
      bad.resize(kMaxPulseReasons);
      bad.push_back(fmt::format("and {} more", more));
    }
    return {Pulse::Kind::kBad, fmt::format("{}", fmt::join(bad, "; "))};
  }

  // A moment without a file is a rotation.
  if (!facts.unreadable.empty())
    return {Pulse::Kind::kDoubtful,
            fmt::format("no readable file: source {}", fmt::join(facts.unreadable, ", "))};
  return {Pulse::Kind::kEarned, ""};
}

std::set<std::string> dead_sinks(const rules::Plan& plan, const std::vector<LaneView>& lanes,
                                 const Verdicts& verdicts) {
  const auto is_dead_lane = [&](const std::string& lane) {
    const auto view =
        std::find_if(lanes.begin(), lanes.end(), [&](const LaneView& v) { return v.lane == lane; });
    if (view != lanes.end() && view->state == SinkState::kDead) return true;
    const auto verdict = verdicts.find(lane);
    if (verdict == verdicts.end() || verdict->second.found.verdict != sinks::Verification::Verdict::kDead)
      return false;
    return view == lanes.end() || !view->last_delivered || *view->last_delivered < verdict->second.at;
  };
  std::set<std::string> dead;
  for (const auto& [name, spec] : plan.sinks) {
    if (std::all_of(spec.lanes.begin(), spec.lanes.end(), is_dead_lane)) dead.insert(name);
  }
  return dead;
}

// --- the loop

HeartbeatLoop::HeartbeatLoop(Options options, std::shared_ptr<const Config> config)
    : options_(std::move(options)), config_(std::move(config)) {}

HeartbeatLoop::Order HeartbeatLoop::take_order() {
  const MutexLock lock(mutex_);
  return {config_, std::exchange(fresh_, false), stopping_, bad_};
}

void HeartbeatLoop::begin(const Config& config, Instant now) {
  sender_.reset();
  said_.reset();
  last_.reset();
  doubtful_since_.reset();
  unheard_since_.reset();
  if (!config.heartbeat) {
    tell_unheard(false, "there is no heartbeat in the configuration");
    return;
  }
  sender_ = options_.build(*config.heartbeat);
  due_ = now;
  for (const char* outcome : {"delivered", "reported", "withheld", "failed"})
    count(outcome, 0);
}

std::optional<Instant> HeartbeatLoop::step() {
  const Order order = take_order();
  const Instant now = options_.clock->instant();
  if (order.is_new) {
    known_ = order.config;
    begin(*known_, now);
  }
  if (order.stopping) {
    if (sender_) last_word(order.bad);
    const MutexLock lock(mutex_);
    done_ = true;
    return std::nullopt;
  }
  if (!sender_) return std::nullopt;

  const HeartbeatSettings& settings = *known_->heartbeat;
  const Pulse pulse = judge(now);
  const bool says =
      pulse.kind == Pulse::Kind::kEarned || (pulse.kind == Pulse::Kind::kBad && sender_->knows(Beat::kBad));
  const bool changed = !said_ || said_->kind != pulse.kind || said_->reason != pulse.reason;
  // A start takes its time; how long, its receiver judges.
  const bool starting = pulse.kind == Pulse::Kind::kStarting;
  if (changed && pulse.kind != Pulse::Kind::kEarned && !starting && (!last_ || last_->reason != pulse.reason))
    options_.log->warn(says ? "The heartbeat says that something is bad." : "The heartbeat is withheld.",
                       {{"reason", pulse.reason}});
  if (changed && pulse.kind == Pulse::Kind::kEarned && last_ && last_->kind != Pulse::Kind::kEarned &&
      last_->kind != Pulse::Kind::kStarting)
    options_.log->info("The heartbeat is earned again.");
  last_ = pulse;

  // News at once, but no more often than the receiver counts.
  const bool may = !last_attempt_ || now >= *last_attempt_ + std::min<Duration>(kPulseGap, settings.every);
  const bool news = changed && says && said_ && may;
  const Duration look = starting ? kStartLook : kPulseLook;
  if (now < due_ && !news) return std::min(due_, now + look);
  due_ = now + settings.every;
  said_ = pulse;
  if (!says) {
    count("withheld");
    return std::min(due_, now + look);
  }
  last_attempt_ = now;
  const Beat beat = pulse.kind == Pulse::Kind::kEarned ? Beat::kAlive : Beat::kBad;
  const BeatOutcome outcome = say(beat, pulse.reason, settings.http.timeout);
  // Before it is counted: who sees the count sees the time too.
  if (outcome.taken && beat == Beat::kAlive) {
    const auto at = rules::to_unix_ms(options_.clock->now());
    options_.metrics->set(kLastSuccess, {}, static_cast<double>(at) / 1000);
  }
  count(!outcome.taken ? "failed" : beat == Beat::kAlive ? "delivered" : "reported");
  if (!outcome.taken && !outcome.refused)
    due_ = now + std::max(std::min<Duration>(kPulseAgain, settings.every),
                          std::min(outcome.retry_after.value_or(Duration(0)), settings.every));
  heard(outcome, options_.clock->instant());
  return std::min(due_, options_.clock->instant() + kPulseLook);
}

// A doubt that lasts as long as the receiver waits for the next ping is none any more.
Pulse HeartbeatLoop::judge(Instant now) {
  Pulse pulse = options_.pulse();
  if (pulse.kind != Pulse::Kind::kDoubtful) {
    doubtful_since_.reset();
  } else if (!doubtful_since_) {
    doubtful_since_ = now;
  } else if (now - *doubtful_since_ >= known_->heartbeat->every) {
    pulse.kind = Pulse::Kind::kBad;
  }
  return pulse;
}

BeatOutcome HeartbeatLoop::say(Beat beat, const std::string& reason, Duration timeout) {
  const Timestamp now = options_.clock->now();
  // A reason may repeat what a sink has answered.
  std::string shown;
  for (std::size_t at = 0; at < reason.size();) {
    const std::size_t end = std::min(reason.find("; ", at), reason.size());
    if (!shown.empty()) shown += "; ";
    shown += sinks::quote(std::string_view(reason).substr(at, end - at), known_->secrets);
    at = end + 2;
  }
  rules::Json body;
  body.set("status", word_of(beat));
  if (!shown.empty()) body.set("reason", shown);
  body.set("at", rules::format_rfc3339(now)).set("version", options_.version);
  body.set("labels", rules::to_json(known_->plan->external_labels));
  std::string summary = fmt::format("{} {}", known_->plan->external_labels.get("instance"), word_of(beat));
  if (!shown.empty()) summary += ": " + shown;
  return sender_->send(beat, body.dump(), summary, timeout, now);
}

// A process that is asked to end says so where that changes nothing (healthchecks.io's /log): whoever is
// woken because no ping comes any more reads why. It is not a last ping, which would vouch for an interval in
// which nobody watches, and no failure, for a deployment ends the process, too. Where there is no such word
// there is silence. What the process dies of is a failure.
void HeartbeatLoop::last_word(const std::optional<std::string>& bad) {
  const Beat beat = bad ? Beat::kBad : Beat::kStopping;
  if (!sender_->knows(beat)) return;
  const Duration timeout = std::min(known_->heartbeat->http.timeout, kLastWord);
  const BeatOutcome outcome = say(beat, bad.value_or("it was asked to stop"), timeout);
  count(outcome.taken ? "reported" : "failed");
  if (!outcome.taken)
    options_.log->warn("The heartbeat's receiver did not take that logbell stops.",
                       {{"detail", outcome.detail}});
}

void HeartbeatLoop::heard(const BeatOutcome& outcome, Instant now) {
  if (outcome.taken) {
    if (unheard_since_)
      options_.log->info("The heartbeat is taken again.", {{"to", known_->heartbeat->shown}});
    unheard_since_.reset();
    tell_unheard(false, "");
    return;
  }
  if (!unheard_since_) {
    unheard_since_ = now;
    unheard_at_ = options_.clock->now();
    options_.log->warn("The heartbeat was not taken; it is tried again.",
                       {{"to", known_->heartbeat->shown}, {"detail", outcome.detail}});
  }
  if (outcome.refused || now - *unheard_since_ >= kUnheardAfter) tell_unheard(true, outcome.detail);
}

// Once per change.
void HeartbeatLoop::tell_unheard(bool active, const std::string& why) {
  if (told_unheard_ == active) return;
  told_unheard_ = active;
  Condition condition;
  condition.alertname = "HeartbeatUnheard";
  condition.severity = "warning";
  condition.active = active;
  condition.summary =
      active ? fmt::format(
                   "Nobody takes logbell's heartbeat since {} ({}): should logbell die, nobody would "
                   "notice.",
                   rules::format_rfc3339(*unheard_at_), sinks::quote(why, known_->secrets))
             : std::string("Logbell's heartbeat is taken again.");
  if (active)
    options_.log->error("Nobody takes the heartbeat: should logbell die, nobody would notice.",
                        {{"to", known_->heartbeat->shown}, {"detail", why}});
  options_.tell(std::move(condition));
}

void HeartbeatLoop::count(const char* outcome, double by) const {
  options_.metrics->count(kMetric, {{"outcome", outcome}}, by);
}

void HeartbeatLoop::wait(std::optional<Instant> until) {
  const MutexLock lock(mutex_);
  while (!fresh_ && !stopping_) {
    if (!wait_for_news(changed_, mutex_, *options_.clock, until)) return;
  }
}

bool HeartbeatLoop::done() const {
  const MutexLock lock(mutex_);
  return done_;
}

void HeartbeatLoop::replace(std::shared_ptr<const Config> config) {
  const MutexLock lock(mutex_);
  config_ = std::move(config);
  fresh_ = true;
  changed_.notify_all();
}

void HeartbeatLoop::stop(std::optional<std::string> bad) {
  const MutexLock lock(mutex_);
  stopping_ = true;
  bad_ = std::move(bad);
  changed_.notify_all();
}

}  // namespace logbell::engine

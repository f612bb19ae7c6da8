#include "tests/sim/receivers.h"

#include <algorithm>

#include <fmt/format.h>

namespace logbell::sim {

using rules::Duration;
using sinks::Outcome;
using sinks::Reason;

const char* to_string(Mood mood) {
  switch (mood) {
    case Mood::kWell:
      return "well";
    case Mood::kFlaky:
      return "flaky";
    case Mood::kBroken:
      return "broken";
    case Mood::kHanging:
      return "hanging";
    case Mood::kLimited:
      return "limited";
    case Mood::kLosing:
      return "losing answers";
    case Mood::kDead:
      return "dead";
    case Mood::kRefusing:
      return "refusing messages";
  }
  return "";
}

namespace {

Who who(const rules::Alert& alert) {
  rules::Labels rest;
  for (const char* name : {"queue", "sink", "lane", "source", "rule", "pattern"}) {
    if (alert.labels.has(name)) rest.set(name, std::string(alert.labels.get(name)));
  }
  return {std::string(alert.name()), rest.format()};
}

std::string about(const rules::Notification& notification) {
  std::string text = fmt::format("{} {} {}", notification.lane, rules::to_string(notification.reason),
                                 notification.group_key);
  std::vector<std::string> alerts;
  for (const rules::Alert& alert : notification.alerts)
    alerts.push_back(fmt::format("{}{} {} {}", alert.name(), alert.labels.format(),
                                 alert.is_firing() ? "fires since" : "fired",
                                 rules::to_unix_ms(alert.fired_at)));
  std::sort(alerts.begin(), alerts.end());
  return fmt::format("{}: {}", text, fmt::join(alerts, ", "));
}

}  // namespace

Receiver& Receivers::of(const std::string& sink, const std::string& lane) {
  Receiver& receiver = by_lane_[lane];
  receiver.sink = sink;
  receiver.lane = lane;
  return receiver;
}

void Receivers::removed(const std::string& sink) {
  for (auto& [lane, receiver] : by_lane_) {
    if (receiver.sink != sink) continue;
    for (auto& [name, mentions] : receiver.heard) {
      for (Mention& mention : mentions)
        mention.forgotten = true;
    }
  }
}

void Receivers::crashed() {
  ++crashes_;
  for (auto& [lane, receiver] : by_lane_) {
    for (auto& [name, mentions] : receiver.heard) {
      for (Mention& mention : mentions)
        mention.forgotten = mention.forgotten || mention.undurable;
    }
  }
  undurable_ = false;
}

void Receivers::set_durable() {
  undurable_ = false;
  for (auto& [lane, receiver] : by_lane_) {
    for (auto& [name, mentions] : receiver.heard) {
      for (Mention& mention : mentions)
        mention.undurable = false;
    }
  }
}

void Receivers::take(Receiver& receiver, const rules::Notification& notification) {
  ++receiver.effects;
  if (notification.lane != receiver.lane || notification.sink != receiver.sink)
    world_.wrong(fmt::format("a notification for {} arrived at {}", notification.lane, receiver.lane));
  const std::string text = rules::encode(notification);
  const std::string says = about(notification);
  const auto [at, is_new] = by_key_.try_emplace(notification.key);
  Sent& sent = at->second;
  if (is_new) {
    sent.text = text;
    sent.about = says;
    sent.crashes_at_first = crashes_;
  } else if (sent.about != says && !(ever_undurable_ && crashes_ > sent.crashes_at_first)) {
    world_.wrong(fmt::format("key {} says \"{}\" and then \"{}\"", notification.key, sent.about, says));
  } else if (sent.text != text && !ever_undurable_) {
    world_.wrong(
        fmt::format("what was sent under key {} changed: {} and then {}", notification.key, sent.text, text));
  }
  if (++sent.effects > 1 + sent.excuses + (crashes_ - sent.crashes_at_first))
    world_.wrong(fmt::format("{} times the same, \"{}\", with {} lost answers and {} crashes", sent.effects,
                             sent.about, sent.excuses, crashes_ - sent.crashes_at_first));
  // A reload that groups otherwise gives the group of what he knows to fire another key.
  const auto known_to_fire = [&](const rules::Alert& alert) {
    const auto heard = receiver.heard.find(who(alert));
    return heard != receiver.heard.end() && heard->second.back().firing;
  };
  const bool group_known = receiver.groups.count(notification.group_key) != 0 ||
                           std::any_of(notification.alerts.begin(), notification.alerts.end(), known_to_fire);
  for (const rules::Alert& alert : notification.alerts) {
    const Who name = who(alert);
    std::vector<Mention>& mentions = receiver.heard[name];
    // One that came and went between two messages is told to who follows its group, and ended in the same.
    const bool elsewhere = receiver.ever_failed && receiver.sink != "peers";
    // One that a reload has added hears with its first firing what else its group was told meanwhile; one
    // that was dead, and was not told of sinks that died meanwhile, with the next message.
    const bool joins = (receiver.sink == "spare" && !notification.is_resolved()) ||
                       notification.group_key.rfind("builtin", 0) == 0;
    if (!alert.is_firing() && mentions.empty() && !group_known && !elsewhere && !joins &&
        receiver.refused.count(name) == 0 && notification.reason != rules::NotifyReason::kRefresh &&
        notification.fallback_for.empty())
      world_.wrong(fmt::format("{} hears that {}{} has ended, and never heard that it fired", receiver.lane,
                               name.name, name.labels));
    Mention mention;
    mention.firing = alert.is_firing();
    mention.undurable = undurable_;
    mention.fired_at = rules::to_unix_ms(alert.fired_at);
    if (alert.resolved_at) mention.resolved_at = rules::to_unix_ms(*alert.resolved_at);
    mention.reason = alert.resolve_reason;
    mention.how = fmt::format("{} {} {}", notification.key, rules::to_string(notification.reason),
                              notification.fallback_for);
    mentions.push_back(mention);
  }
  receiver.groups.insert(notification.group_key);
  world_.note(fmt::format("{} hears {} for \"{}\": {}", receiver.lane, notification.key,
                          notification.fallback_for, says));
}

Outcome Receivers::deliver(Receiver& receiver, const rules::Notification& notification,
                           const sinks::Attempt& attempt) {
  std::mt19937_64& random = *world_.random;
  // Who hears one message for many has heard each.
  std::vector<const rules::Notification*> said = attempt.speaks_for;
  if (said.empty()) said = {&notification};
  const auto take_all = [&] {
    for (const rules::Notification* one : said)
      take(receiver, *one);
  };
  const auto excuse_all = [&] {
    for (const rules::Notification* one : said)
      ++by_key_[one->key].excuses;
  };
  Mood mood = receiver.mood;
  if (mood == Mood::kFlaky) {
    static constexpr Mood kMoods[] = {Mood::kWell, Mood::kBroken, Mood::kLimited, Mood::kLosing,
                                      Mood::kHanging};
    mood = kMoods[random() % std::size(kMoods)];
  }
  if (mood != Mood::kWell) receiver.ever_failed = true;
  switch (mood) {
    case Mood::kWell:
    case Mood::kFlaky:
      take_all();
      world_.after_effect();
      return Outcome::delivered("receipt");
    case Mood::kBroken:
      return Outcome::retry(random() % 2 == 0 ? Reason::kServerError : Reason::kConnect, "503");
    case Mood::kHanging: {
      const bool taken = random() % 2 == 0;
      if (taken) {
        take_all();
        excuse_all();
      }
      world_.time_passes(attempt.timeout);
      return taken ? Outcome::unknown("no answer") : Outcome::retry(Reason::kTimeout, "no answer");
    }
    case Mood::kLimited: {
      std::optional<Duration> after;
      if (random() % 3 != 0) after = Duration(1 + static_cast<std::int64_t>(random() % 20'000));
      if (random() % 20 == 0) after = std::chrono::hours(24);
      return Outcome::retry(Reason::kRateLimited, "429", after);
    }
    case Mood::kLosing:
      take_all();
      excuse_all();
      world_.after_effect();
      return Outcome::unknown("the answer was lost");
    case Mood::kDead:
      for (const rules::Alert& alert : notification.alerts)
        receiver.refused.insert(who(alert));
      return Outcome::rejected(Reason::kAuth, "403 invalid_token", true);
    case Mood::kRefusing:
      for (const rules::Alert& alert : notification.alerts)
        receiver.refused.insert(who(alert));
      return Outcome::rejected(Reason::kBadRequest, "400", false);
  }
  return Outcome::delivered("receipt");
}

}  // namespace logbell::sim

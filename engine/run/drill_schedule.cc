#include "engine/run/drill_schedule.h"

#include <algorithm>

#include <fmt/format.h>

namespace logbell::engine {

using rules::Duration;
using rules::Timestamp;
using sinks::ProofLevel;

namespace {

constexpr Duration kHour{std::chrono::hours(1)};

std::optional<Timestamp> accepted_at(const ProofView& view) {
  std::optional<Timestamp> newest;
  if (view.is_missing()) return newest;
  for (const Proof& proof : view.proofs) {
    if (proof.level >= ProofLevel::kAccepted) newest = std::max(newest.value_or(proof.at), proof.at);
  }
  return newest;
}

// When it was last found there; nothing where it never was.
std::optional<Timestamp> found_at(const ProofView& view) {
  for (const Proof& proof : view.proofs) {
    if (proof.level == ProofLevel::kReadBack) return proof.at;
  }
  return std::nullopt;
}

// Since when nobody has said that they saw a message of it there; nothing where it is not to be expected yet.
std::optional<Timestamp> unseen_since(const rules::SinkSpec& sink, const ProofView& view, Timestamp now) {
  if (!sink.acknowledges) return std::nullopt;
  std::optional<Timestamp> since = view.asked;
  for (const Proof& proof : view.proofs) {
    if (proof.level == ProofLevel::kAcknowledged) since = proof.at;
  }
  return since && view.ages.is_old(ProofLevel::kAcknowledged, *since, now) ? since : std::nullopt;
}

// "Boom, NoData, Slow and 3 more".
std::string named(std::vector<std::string> alerts) {
  constexpr std::size_t kNamed = 3;
  const std::size_t more = alerts.size() > kNamed ? alerts.size() - kNamed : 0;
  alerts.resize(alerts.size() - more);
  return fmt::format("{}{}", fmt::join(alerts, ", "), more > 0 ? fmt::format(" and {} more", more) : "");
}

// The first full hour from `from` on at which `hours` hold, within two weeks.
std::optional<Timestamp> next_open(const rules::TimeInterval& hours, Timestamp from) {
  constexpr int kHours = 14 * 24;
  Timestamp at = std::chrono::ceil<std::chrono::hours>(from);
  for (int i = 0; i < kHours; ++i, at += kHour) {
    if (hours.contains(at)) return at;
  }
  return std::nullopt;
}

// What the schedule drills, where it can.
bool is_drilled(const rules::Plan& plan, const DrillSettings& settings, const ProofView& view) {
  const auto sink = plan.sinks.find(view.sink);
  return sink != plan.sinks.end() && settings.never.count(view.sink) == 0 &&
         (sink->second.tells_people || sink->second.machine_audience);
}

}  // namespace

bool is_asked_for(const rules::Plan& plan, const DrillSettings& settings, const ProofView& view) {
  return view.is_missing() ||
         (is_drilled(plan, settings, view) && (!view.conditional || accepted_at(view).has_value()));
}

rules::TimeInterval working_hours(const std::string& zone) {
  rules::TimeIntervalEntry entry;
  entry.minutes = {{9 * 60, 17 * 60}};
  entry.weekdays = {{1, 5}};
  entry.location = zone;
  rules::TimeInterval interval;
  interval.name = "working hours";
  interval.entries.push_back(std::move(entry));
  return interval;
}

std::vector<DrillDesk::Request> DrillSchedule::due(const rules::Plan& plan, const DrillSettings& settings,
                                                   const std::vector<ProofView>& proofs, Timestamp now) {
  std::vector<DrillDesk::Request> requests;
  if (!settings.scheduled || now - started_ < first_) return requests;
  const auto named = plan.time_intervals.find(settings.hours);
  const rules::TimeInterval hours = named == plan.time_intervals.end() ? working_hours("") : named->second;
  for (const auto& [name, sink] : plan.sinks) {
    const auto last = drilled_at_.find(name);
    if (last != drilled_at_.end() && now >= last->second && now - last->second < kAgain) continue;
    // Whatever is behind it may wake somebody.
    const bool pages = sink.pages || sink.per_alert;
    if (pages && !hours.contains(now)) continue;
    const auto is_due = [&](Timestamp proven) {
      const Timestamp ends = proven + (pages ? settings.pages_every : settings.every);
      if (!pages || now >= ends) return now >= ends;
      // Before it ends, if not before it can be drilled again.
      const std::optional<Timestamp> next = next_open(hours, now + std::chrono::hours(24));
      return next && ends <= *next + kHour;
    };
    std::set<rules::Fingerprint> all;
    std::set<rules::Fingerprint> never;
    std::set<std::pair<rules::Fingerprint, std::string>> asked;
    bool old = false;
    for (const ProofView& view : proofs) {
      if (view.sink != name || !is_drilled(plan, settings, view)) continue;
      all.insert(view.rule);
      const std::optional<Timestamp> at = accepted_at(view);
      if (!at) {
        if (is_asked_for(plan, settings, view) || tried_.count({view.rule, name}) == 0)
          never.insert(view.rule);
        if (view.conditional) asked.insert({view.rule, name});
        continue;
      }
      old = old || is_due(*at);
      // What is real is not looked for there, and keeps nobody from it. Where the sink does not answer any
      // more, asking more often does not help.
      const std::optional<Timestamp> found = found_at(view);
      old = old || (found && is_due(*found) && (last == drilled_at_.end() || is_due(last->second)));
    }
    DrillDesk::Request request;
    request.only_rules = old ? all : never;
    if (request.only_rules.empty()) continue;
    request.sink = name;
    request.scheduled = true;
    drilled_at_[name] = now;
    tried_.insert(asked.begin(), asked.end());
    requests.push_back(std::move(request));
  }
  return requests;
}

std::vector<Condition> DrillSchedule::expired(const rules::Plan& plan, const DrillSettings& settings,
                                              const std::vector<ProofView>& proofs, Timestamp now) const {
  std::vector<Condition> conditions;
  for (const auto& [name, sink] : plan.sinks) {
    std::vector<std::string> old;
    std::optional<Timestamp> oldest;
    std::vector<std::string> unfound;
    std::optional<Timestamp> unfound_since;
    std::vector<std::string> unseen;
    std::optional<Timestamp> unseen_from;
    bool any = false;
    for (const ProofView& view : proofs) {
      if (view.sink != name || !is_asked_for(plan, settings, view)) continue;
      any = true;
      if (const std::optional<Timestamp> since = unseen_since(sink, view, now)) {
        if (std::find(unseen.begin(), unseen.end(), view.alert) == unseen.end()) unseen.push_back(view.alert);
        unseen_from = std::min(unseen_from.value_or(*since), *since);
      }
      const std::optional<Timestamp> found = found_at(view);
      if (settings.scheduled && found && view.ages.is_old(ProofLevel::kReadBack, *found, now)) {
        if (std::find(unfound.begin(), unfound.end(), view.alert) == unfound.end())
          unfound.push_back(view.alert);
        unfound_since = std::min(unfound_since.value_or(*found), *found);
      }
      const std::optional<Timestamp> at = accepted_at(view);
      const bool late =
          at ? view.ages.is_old(ProofLevel::kAccepted, *at, now) : now - started_ > kUnprovenAfter;
      if (!late) continue;
      if (std::find(old.begin(), old.end(), view.alert) == old.end()) old.push_back(view.alert);
      if (at) oldest = std::min(oldest.value_or(*at), *at);
    }
    if (!any) continue;
    Condition condition;
    condition.alertname = "ProofExpired";
    condition.labels.set("sink", name);
    condition.severity = "warning";
    condition.active = !old.empty() || !unfound.empty() || !unseen.empty();
    condition.summary = fmt::format("Each rule of sink {} is proven there again.", name);
    if (!old.empty()) {
      condition.summary = fmt::format(
          "Nothing proves that {} would be heard of at sink {}: the last receipt {}. "
          "`logbell drill --sink {}` says why.",
          named(old), name, oldest ? "is of " + rules::format_rfc3339(*oldest) : std::string("never came"),
          name);
    } else if (!unfound.empty()) {
      condition.summary = fmt::format(
          "Sink {} takes messages about {}, and none has been found there since {}. `logbell drill --sink "
          "{}` "
          "says why.",
          name, named(unfound), rules::format_rfc3339(*unfound_since), name);
    } else if (!unseen.empty()) {
      condition.summary = fmt::format(
          "Messages about {} arrive at sink {}, and nobody has said since {} that they saw one. Open the "
          "link "
          "in one of them; `logbell drill --sink {}` sends one.",
          named(unseen), name, rules::format_rfc3339(*unseen_from), name);
    }
    conditions.push_back(std::move(condition));
  }
  return conditions;
}

}  // namespace logbell::engine

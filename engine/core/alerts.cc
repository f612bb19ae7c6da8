#include "engine/core/alerts.h"

#include <algorithm>
#include <utility>

#include "rules/redact.h"
#include "rules/template.h"

namespace logbell::engine {

using rules::AlertState;
using rules::Json;
using rules::Labels;
using rules::Timestamp;

void ActiveAlerts::step(Timestamp at, const std::vector<Sample>& result, Certainty certainty,
                        std::vector<Step>& out, const Endings& endings) {
  std::map<Labels, double> holds;
  for (const Sample& sample : result)
    holds[sample.labels] = sample.value;

  for (auto it = active_.begin(); it != active_.end();) {
    ActiveAlert& alert = it->second;
    const auto found = holds.find(it->first);
    if (found != holds.end()) {
      alert.value = found->second;
      if (alert.absent_since) changed_.insert(it->first);
      alert.absent_since.reset();
      if (alert.state == AlertState::kPending && certainty.may_fire && at - alert.active_at >= for_) {
        alert.state = AlertState::kFiring;
        alert.fired_at = at;
        changed_.insert(it->first);
        out.push_back({AlertState::kPending, AlertState::kFiring, at, alert});
      }
      ++it;
      continue;
    }
    // What is not known well enough to end is left as it is.
    if (alert.state == AlertState::kPending ? !certainty.may_cancel : !certainty.may_resolve) {
      ++it;
      continue;
    }
    // What fires goes on until `resolve_when:` holds for it too; what is pending needs `expr` all the time.
    if (alert.state == AlertState::kFiring && !(endings.known && endings.has(it->first))) {
      if (endings.known && alert.absent_since) {
        alert.absent_since.reset();
        changed_.insert(it->first);
      }
      ++it;
      continue;
    }
    if (alert.state == AlertState::kFiring && keep_firing_for_.count() > 0) {
      if (!alert.absent_since) {
        alert.absent_since = at;
        changed_.insert(it->first);
      }
      if (at - *alert.absent_since < keep_firing_for_) {
        ++it;
        continue;
      }
    }
    const AlertState from = alert.state;
    out.push_back(
        {from, from == AlertState::kFiring ? AlertState::kResolved : AlertState::kInactive, at, alert});
    changed_.insert(it->first);
    it = active_.erase(it);
  }

  if (!certainty.may_fire) return;
  for (const auto& [labels, value] : holds) {
    if (active_.count(labels) != 0) continue;
    ActiveAlert alert;
    alert.labels = labels;
    alert.value = value;
    alert.active_at = at;
    out.push_back({AlertState::kInactive, AlertState::kPending, at, alert});
    if (for_.count() == 0) {
      alert.state = AlertState::kFiring;
      alert.fired_at = at;
      out.push_back({AlertState::kPending, AlertState::kFiring, at, alert});
    }
    changed_.insert(labels);
    active_.emplace(labels, std::move(alert));
  }
}

bool ActiveAlerts::is_one_without(const std::vector<Sample>& result) const {
  return std::any_of(active_.begin(), active_.end(), [&](const auto& entry) {
    return entry.second.state == AlertState::kFiring &&
           std::none_of(result.begin(), result.end(),
                        [&](const Sample& sample) { return sample.labels == entry.first; });
  });
}

bool ActiveAlerts::is_one_firing() const {
  return std::any_of(active_.begin(), active_.end(),
                     [](const auto& entry) { return entry.second.state == AlertState::kFiring; });
}

std::optional<Timestamp> ActiveAlerts::next_instant(Timestamp from) const {
  std::optional<Timestamp> next;
  for (const auto& [labels, alert] : active_) {
    std::optional<Timestamp> at;
    if (alert.state == AlertState::kPending) at = alert.active_at + for_;
    if (alert.state == AlertState::kFiring && alert.absent_since) at = *alert.absent_since + keep_firing_for_;
    if (at && *at > from && (!next || *at < *next)) next = at;
  }
  return next;
}

void ActiveAlerts::drop_pending(Timestamp at, std::vector<Step>& out) {
  for (auto it = active_.begin(); it != active_.end();) {
    if (it->second.state != AlertState::kPending) {
      ++it;
      continue;
    }
    out.push_back({AlertState::kPending, AlertState::kInactive, at, it->second});
    changed_.insert(it->first);
    it = active_.erase(it);
  }
}

void ActiveAlerts::end_all(Timestamp at, std::vector<Step>& out) {
  for (auto& [labels, alert] : active_) {
    out.push_back({alert.state,
                   alert.state == AlertState::kFiring ? AlertState::kResolved : AlertState::kInactive, at,
                   alert});
    changed_.insert(labels);
  }
  active_.clear();
}

void ActiveAlerts::shift(rules::Duration by) {
  for (auto& [labels, alert] : active_) {
    alert.active_at -= by;
    if (alert.state == AlertState::kFiring) alert.fired_at -= by;
    if (alert.absent_since) *alert.absent_since -= by;
    changed_.insert(labels);
  }
}

void ActiveAlerts::restore(ActiveAlert alert) {
  const Labels labels = alert.labels;
  active_.insert_or_assign(labels, std::move(alert));
}

std::set<Labels> ActiveAlerts::take_changed() {
  return std::exchange(changed_, {});
}

Labels alert_labels(const rules::Plan& plan, const rules::AlertingRule& rule, const Labels& element,
                    double value) {
  Labels labels = element;
  const Labels seen = plan.external_labels.merged(element);
  for (const auto& [name, text] : rule.labels)
    labels.set(name, text.render(seen, plan.external_labels, value));
  labels.set("alertname", rule.name);
  return plan.external_labels.merged(labels);
}

std::vector<std::pair<std::string, std::string>> alert_annotations(const rules::Plan& plan,
                                                                   const rules::AlertingRule& rule,
                                                                   const Labels& labels, const Labels& element,
                                                                   double value) {
  std::vector<std::pair<std::string, std::string>> annotations;
  annotations.reserve(rule.annotations.size());
  for (const auto& [name, text] : rule.annotations)
    annotations.emplace_back(
        name, rules::redact(text.render(labels.merged(element), plan.external_labels, value)));
  return annotations;
}

Json to_json(const ActiveAlert& alert) {
  Json json;
  json.set("labels", rules::to_json(alert.labels))
      .set("state", alert.state == AlertState::kFiring ? "firing" : "pending");
  json.set("value", rules::format_number(alert.value));
  json.set("active_at", rules::to_unix_ms(alert.active_at))
      .set("fired_at", rules::to_unix_ms(alert.fired_at));
  if (alert.absent_since) json.set("absent_since", rules::to_unix_ms(*alert.absent_since));
  return json;
}

ActiveAlert active_alert_from_json(const Json& json) {
  ActiveAlert alert;
  for (const auto& [name, value] : json["labels"].object())
    alert.labels.set(name, value.string());
  alert.state = json["state"].string() == "firing" ? AlertState::kFiring : AlertState::kPending;
  alert.value = rules::parse_number(json["value"].string());
  alert.active_at = rules::from_stored_ms(json["active_at"].integer());
  alert.fired_at = rules::from_stored_ms(json["fired_at"].integer());
  if (!json["absent_since"].is_null())
    alert.absent_since = rules::from_stored_ms(json["absent_since"].integer());
  return alert;
}

}  // namespace logbell::engine

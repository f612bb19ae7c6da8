#include "engine/core/drill.h"

#include <algorithm>
#include <functional>
#include <map>
#include <utility>

#include <fmt/format.h>

#include "engine/core/alerts.h"
#include "engine/core/dispatcher.h"
#include "rules/expr.h"

namespace logbell::engine {

using rules::Alert;
using rules::Labels;
using rules::Notification;
using rules::Timestamp;

namespace {

constexpr std::string_view kLabel = "drill";
constexpr std::string_view kPrefix = "[DRILL] ";

Alert shadow_alert(const rules::Plan& plan, const DrillFiring& firing, Timestamp now) {
  const rules::AlertingRule& rule = plan.rules[firing.rule];
  constexpr double kOneMatch = 1;
  Alert alert;
  alert.labels = alert_labels(plan, rule, firing.element, kOneMatch);
  alert.annotations = alert_annotations(plan, rule, alert.labels, firing.element, kOneMatch);
  alert.state = rules::AlertState::kFiring;
  alert.value = kOneMatch;
  alert.active_at = alert.fired_at = now;
  alert.expr = rule.expr_text;
  alert.first_line = firing.line;
  alert.rule = rule.identity();
  return alert;
}

// Whoever reads it somewhere behind the sink, in whatever template, sees what it is.
void mark(Alert& alert, const std::string& id, const std::vector<std::string>& stands_in_for) {
  alert.labels.set(std::string(kLabel), id);
  const std::string prefix =
      stands_in_for.empty() ? std::string(kPrefix)
                            : fmt::format("{}(in case {} fails) ", kPrefix, fmt::join(stands_in_for, ", "));
  bool marked = false;
  for (auto& [name, text] : alert.annotations) {
    if (name != "summary" && name != "title" && name != "description" && name != "message") continue;
    text.insert(0, prefix);
    marked = true;
  }
  if (!marked)
    alert.annotations.emplace_back("summary", fmt::format("{}{} can reach you here.", prefix, alert.name()));
}

// The longest that a first message may wait for others of its group.
rules::Duration longest_wait(const rules::Route& route) {
  rules::Duration longest = route.options.group_wait;
  for (const rules::Route& child : route.routes)
    longest = std::max(longest, longest_wait(child));
  return longest;
}

// Whether mute and active times, and nothing else, are why nobody is told now: those of each node that takes
// the alert; of the root where the rule has sinks of its own.
bool is_muted(const rules::Plan& plan, const rules::AlertingRule& rule, const Labels& labels, Timestamp now) {
  if (!plan.has_route) return false;
  const auto muted = [&](const rules::Route* node) {
    return rules::is_muted(node->options, plan.time_intervals, now);
  };
  if (!rule.sinks.empty()) return muted(&plan.route);
  const std::vector<const rules::Route*> nodes = plan.route.match(labels);
  return std::all_of(nodes.begin(), nodes.end(), muted);
}

// What the live route makes of these alerts, no two of which look alike: alerts by sink.
using AlertsBySink = std::map<std::string, std::vector<Alert>>;
void send_through(const rules::Plan& plan, const std::vector<std::pair<std::size_t, Alert>>& alerts,
                  Timestamp now, AlertsBySink& told) {
  Dispatcher shadow(plan);
  for (const auto& [rule, alert] : alerts) {
    const rules::Transition fires{rules::AlertState::kPending, rules::AlertState::kFiring, now, alert};
    shadow.insert(fires, plan.rules[rule].identity(), now, now);
  }
  std::vector<Notification> notifications;
  const std::function<bool(Alert&)> as_it_is = [](Alert&) { return true; };
  shadow.flush(now, as_it_is, notifications);
  if (plan.has_route) {
    if (const rules::Duration wait = longest_wait(plan.route); wait > rules::Duration(0))
      shadow.flush(now + wait, as_it_is, notifications);
  }
  for (const Notification& notification : notifications) {
    const rules::SinkSpec& sink = plan.sinks.at(notification.sink);
    if (notification.lane != sink.lanes.front()) continue;  // each lane is told the same
    std::vector<Alert>& to = told[notification.sink];
    for (const Alert& alert : notification.alerts) {
      const bool known = std::any_of(to.begin(), to.end(), [&](const Alert& other) {
        return other.rule == alert.rule && other.labels == alert.labels;
      });
      if (!known) to.push_back(alert);
    }
  }
}

// An alert for a sink.
struct Addressed {
  Alert alert;
  std::vector<std::string> stands_in_for;  // empty: it is told itself
};

// Those that are wanted there, with those who stand in for each sink, where they do not hear of the rule
// anyway.
using WantedAt = std::map<std::pair<rules::Fingerprint, Labels>, std::set<std::string>>;  // empty: everywhere
std::map<std::string, std::vector<Addressed>> with_fallbacks(const rules::Plan& plan,
                                                             const AlertsBySink& direct,
                                                             const WantedAt& wanted_at) {
  const auto is_wanted = [&](const Alert& alert, const std::string& sink) {
    const std::set<std::string>& sinks = wanted_at.at({alert.rule, alert.labels});
    return sinks.empty() || sinks.count(sink) != 0;
  };
  std::map<std::string, std::vector<Addressed>> all;
  for (const auto& [name, alerts] : direct) {
    for (const Alert& alert : alerts) {
      if (is_wanted(alert, name)) all[name].push_back({alert, {}});
    }
  }
  for (const auto& [name, alerts] : direct) {
    for (const std::string& fallback : plan.sinks.at(name).fallback) {
      if (plan.sinks.count(fallback) == 0) continue;
      std::vector<Addressed>& to = all[fallback];
      for (const Alert& alert : alerts) {
        if (!is_wanted(alert, fallback)) continue;
        const auto known = std::find_if(to.begin(), to.end(),
                                        [&](const Addressed& told) { return told.alert.rule == alert.rule; });
        if (known == to.end()) {
          to.push_back({alert, {name}});
        } else if (!known->stands_in_for.empty()) {
          known->stands_in_for.push_back(name);
        }
      }
    }
  }
  return all;
}

// As many of them, from there, as its message can name: no other is proven by it. Returns how many.
std::size_t fill(Notification& notification, const std::vector<Alert>& alerts, std::size_t from) {
  const std::size_t most = std::min(alerts.size(), from + Dispatcher::kMaxAlertsPerNotification);
  notification.alerts.assign(alerts.begin() + static_cast<std::ptrdiff_t>(from),
                             alerts.begin() + static_cast<std::ptrdiff_t>(most));
  const std::vector<std::string_view> names = notification.names();
  const std::set<std::string_view> named(names.begin(), names.end());
  std::size_t count = 0;
  while (count < notification.alerts.size() && named.count(notification.alerts[count].name()) != 0)
    ++count;
  notification.alerts.resize(count);
  return count;
}

}  // namespace

Labels drill_element(const rules::Plan& plan, const rules::AlertingRule& rule, const Labels& matched) {
  Labels element = rules::fixed_labels(*rule.expr, plan.patterns);
  for (const std::string& name : rules::result_labels(*rule.expr, plan.patterns)) {
    if (matched.has(name)) element.set(name, std::string(matched.get(name)));
  }
  return element;
}

DrillTold drill(const rules::Plan& plan, const std::string& id, std::size_t part,
                const std::vector<DrillFiring>& firings, const std::set<std::string>& only, Timestamp read_at,
                Timestamp now) {
  DrillTold out;
  // Two rules whose alerts look alike are one to people; here each is to be proven.
  std::vector<std::vector<std::pair<std::size_t, Alert>>> rounds;
  std::map<Labels, std::size_t> taken;
  WantedAt wanted_at;
  for (const DrillFiring& firing : firings) {
    Alert alert = shadow_alert(plan, firing, now);
    wanted_at[{alert.rule, alert.labels}].insert(firing.sinks.begin(), firing.sinks.end());
    const std::size_t round = taken[alert.labels]++;
    if (round == rounds.size()) rounds.emplace_back();
    rounds[round].emplace_back(firing.rule, std::move(alert));
  }
  AlertsBySink told;
  for (const auto& round : rounds)
    send_through(plan, round, now, told);

  std::map<rules::Fingerprint, std::size_t> order;  // as the drill named them
  for (const DrillFiring& firing : firings)
    order.try_emplace(plan.rules[firing.rule].identity(), order.size());
  std::set<rules::Fingerprint> heard;
  for (const auto& [name, alerts] : told) {
    for (const Alert& alert : alerts)
      heard.insert(alert.rule);
  }
  for (auto& [name, found] : with_fallbacks(plan, told, wanted_at)) {
    std::stable_sort(found.begin(), found.end(), [&](const Addressed& a, const Addressed& b) {
      return order.at(a.alert.rule) < order.at(b.alert.rule);
    });
    std::vector<Alert> alerts;
    for (Addressed& one : found) {
      mark(one.alert, id, one.stands_in_for);
      alerts.push_back(std::move(one.alert));
    }
    if (!only.empty() && only.count(name) == 0) continue;
    const rules::SinkSpec& sink = plan.sinks.at(name);
    for (std::size_t from = 0; from < alerts.size();) {
      Notification notification;
      notification.sink = name;
      notification.reason = rules::NotifyReason::kDrill;
      notification.drill = id;
      notification.group_key = fmt::format("drill/{}/{}/{}", id, part, from);
      notification.group_labels = {{std::string(kLabel), id}};
      notification.created_at = now;
      notification.caused_at = read_at;
      notification.priority = 2;  // behind whatever is real
      from += fill(notification, alerts, from);
      Notification end = notification;
      for (Alert& alert : end.alerts) {
        alert.state = rules::AlertState::kResolved;
        alert.resolved_at = now;
        alert.resolve_reason = "the drill is over";
      }
      for (const std::string& lane : sink.lanes) {
        const auto key = [&](std::string_view what) {
          return rules::format_fingerprint(
              rules::hash_bytes(fmt::format("{}\n{}\n{}", notification.group_key, lane, what)));
        };
        notification.lane = end.lane = lane;
        notification.key = key("fires");
        out.notifications.push_back(notification);
        if (!sink.stays_open) continue;
        end.key = key("ends");
        out.notifications.push_back(end);
      }
    }
  }
  std::set<std::size_t> said;
  for (const DrillFiring& firing : firings) {
    const rules::AlertingRule& rule = plan.rules[firing.rule];
    if (heard.count(rule.identity()) != 0 || !said.insert(firing.rule).second) continue;
    if (rule.silent && now < rule.silent->until) {
      out.untold.push_back({firing.rule, fmt::format("sinks: none, {}", rule.silent->reason), false});
    } else if (is_muted(plan, rule, shadow_alert(plan, firing, now).labels, now)) {
      out.untold.push_back({firing.rule, "its route is muted at this time", false});
    } else {
      out.untold.push_back({firing.rule, "its route tells nobody", true});
    }
  }
  return out;
}

}  // namespace logbell::engine

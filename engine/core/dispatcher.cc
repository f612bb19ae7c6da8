// Groups after Alertmanager's dispatch and notify packages (dispatch.go, notify.go: needsUpdate), with the
// decision in one pure function.
#include "engine/core/dispatcher.h"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

namespace logbell::engine {

using rules::Alert;
using rules::AlertState;
using rules::Fingerprint;
using rules::Json;
using rules::Labels;
using rules::Notification;
using rules::NotifyReason;
using rules::RouteOptions;
using rules::SinkSpec;
using rules::Timestamp;

namespace {

constexpr std::string_view kBuiltIn = "builtin";
constexpr std::string_view kPrefix = "core/d/";

Timestamp read_time(const Json& json) {
  return rules::from_stored_ms(json.integer());
}

Json episodes_json(const Episodes& episodes) {
  Json json{Json::Object{}};
  for (const auto& [fingerprint, fired_at] : episodes)
    json.set(rules::format_fingerprint(fingerprint), rules::to_unix_ms(fired_at));
  return json;
}

Episodes read_episodes(const Json& json) {
  Episodes episodes;
  for (const auto& [name, value] : json.object())
    episodes[rules::parse_fingerprint(name)] = read_time(value);
  return episodes;
}

std::string group_hash(const std::string& key) {
  return rules::format_fingerprint(rules::hash_bytes(key));
}

bool is_critical(const Alert& alert) {
  const std::string_view severity = alert.labels.get("severity");
  return severity == "critical" || severity == "page";
}

// From here on the sink knows of `fires`. What it knew of and has ended is settled with it, told or not
// wanted: it did not come and go unheard.
void take_over(Told& told, const Episodes& fires, const Episodes& ended) {
  for (const auto& [fingerprint, fired_at] : told.firing) {
    const auto end = ended.find(fingerprint);
    if (end != ended.end()) told.resolved[fingerprint] = end->second;
  }
  told.firing = fires;
}

// Next full minute: time intervals turn at minutes.
Timestamp next_minute(Timestamp now) {
  return std::chrono::floor<std::chrono::minutes>(now) + std::chrono::minutes(1);
}

}  // namespace

NotifyReason needs_update(const Told* told, const Episodes& firing, const Episodes& resolved,
                          bool send_resolved, rules::Duration repeat_interval, Timestamp now) {
  const bool knows_nothing = told == nullptr || (told->firing.empty() && told->resolved.empty());
  // Nobody was told it fired, so nobody needs to hear it resolved.
  if (knows_nothing) return firing.empty() ? NotifyReason::kNone : NotifyReason::kFirstFiring;

  const bool more_fires = std::any_of(firing.begin(), firing.end(), [&](const auto& episode) {
    return told->firing.count(episode.first) == 0;
  });
  if (more_fires) return told->firing.empty() ? NotifyReason::kFirstFiring : NotifyReason::kNewAlerts;

  // It fired and ended between two messages of this group: who follows the group must hear of it.
  const bool came_and_went = std::any_of(resolved.begin(), resolved.end(), [&](const auto& episode) {
    const auto known = told->resolved.find(episode.first);
    return told->firing.count(episode.first) == 0 &&
           (known == told->resolved.end() || known->second != episode.second);
  });
  if (send_resolved) {
    if (firing.empty() && !told->firing.empty()) return NotifyReason::kAllResolved;
    const bool some_ended = std::any_of(told->firing.begin(), told->firing.end(), [&](const auto& episode) {
      return firing.count(episode.first) == 0;
    });
    if (some_ended) return NotifyReason::kResolvedSome;
  }
  if (came_and_went) return NotifyReason::kNewAlerts;
  if (!firing.empty() && now - told->at >= repeat_interval) return NotifyReason::kRepeat;
  return NotifyReason::kNone;
}

Dispatcher::Dispatcher(const rules::Plan& plan) : plan_(&plan) {
  default_options_.group_by = {"alertname"};
  index_plan();
}

void Dispatcher::index_plan() {
  nodes_.clear();
  own_.clear();
  rules_.clear();
  const std::function<void(const rules::Route&)> add = [&](const rules::Route& route) {
    nodes_[route.id] = &route;
    for (const rules::Route& child : route.routes)
      add(child);
  };
  if (plan_->has_route) add(plan_->route);
  for (std::size_t i = 0; i < plan_->rules.size(); ++i) {
    const rules::AlertingRule& rule = plan_->rules[i];
    rules_[rule.identity()] = i;
    if (!rule.sinks.empty()) own_[fmt::format("sinks/{}", fmt::join(rule.sinks, ","))] = rule.sinks;
  }
}

std::vector<Destination> Dispatcher::destinations(const Labels& labels, std::optional<Fingerprint> rule,
                                                  Timestamp now) const {
  std::vector<Destination> found;
  const auto add = [&](const std::string& id) { found.push_back({id, &options_of(id), sinks_of(id)}); };
  if (rule) {
    const auto at = rules_.find(*rule);
    if (at == rules_.end()) return found;
    const rules::AlertingRule& written = plan_->rules[at->second];
    if (is_silent(*rule, now)) return found;
    if (!written.sinks.empty()) {
      add(fmt::format("sinks/{}", fmt::join(written.sinks, ",")));
      return found;
    }
  }
  const std::string prefix = rule ? "" : std::string(kBuiltIn) + "/";
  if (!plan_->has_route) {
    // What logbell has to say of itself goes to everybody. A rule is never here: it would reach no sink.
    add(std::string(kBuiltIn));
    return found;
  }
  for (const rules::Route* node : plan_->route.match(labels))
    add(prefix + node->id);
  return found;
}

const RouteOptions& Dispatcher::options_of(const std::string& id) const {
  const std::string_view name =
      id.rfind("builtin/", 0) == 0 ? std::string_view(id).substr(kBuiltIn.size() + 1) : std::string_view(id);
  const auto node = nodes_.find(std::string(name));
  if (node != nodes_.end()) return node->second->options;
  return plan_->has_route ? plan_->route.options : default_options_;
}

std::vector<std::string> Dispatcher::sinks_of(const std::string& id) const {
  const auto own = own_.find(id);
  if (own != own_.end()) return own->second;
  const bool built_in = id.rfind(kBuiltIn, 0) == 0;
  const std::string name = id.rfind("builtin/", 0) == 0 ? id.substr(kBuiltIn.size() + 1) : id;
  std::vector<std::string> sinks;
  const auto node = nodes_.find(name);
  if (node != nodes_.end()) sinks = node->second->options.sinks;
  if (!built_in) return sinks;

  // A dead sink cannot say of itself that it is dead: who is alive says it.
  std::vector<std::string> people;
  for (const auto& [sink, spec] : plan_->sinks) {
    if (spec.tells_people) people.push_back(sink);
  }
  if (people.empty()) {
    for (const auto& [sink, spec] : plan_->sinks)
      people.push_back(sink);
  }
  if (sinks.empty()) sinks = people;
  const auto alive = [&](std::vector<std::string> of) {
    of.erase(std::remove_if(of.begin(), of.end(), [&](const auto& s) { return dead_.count(s) != 0; }),
             of.end());
    return of;
  };
  std::vector<std::string> living = alive(sinks);
  if (living.empty()) living = alive(people);
  return living.empty() ? sinks : living;
}

bool Dispatcher::is_silent(Fingerprint rule, Timestamp now) const {
  const auto at = rules_.find(rule);
  if (at == rules_.end()) return false;
  const auto& silent = plan_->rules[at->second].silent;
  return silent && now < silent->until;
}

bool Dispatcher::is_firing(Fingerprint fingerprint) const {
  const auto groups = groups_of_.find(fingerprint);
  return groups != groups_of_.end() &&
         std::any_of(groups->second.begin(), groups->second.end(), [&](const std::string& key) {
           return groups_.at(key).members.at(fingerprint).alert.is_firing();
         });
}

bool Dispatcher::hears_of_the_past(const std::string& sink) const {
  const auto spec = plan_->sinks.find(sink);
  return spec != plan_->sinks.end() && spec->second.tells_people && !spec->second.pages && !spec->second.per_alert;
}

Dispatcher::Group& Dispatcher::group_for(const Destination& destination, const Labels& labels,
                                         const Alert& first, Timestamp now) {
  const RouteOptions& options = *destination.options;
  const Labels by = options.group_by_all ? labels : labels.keep_only(options.group_by);
  const std::string key = destination.id + ":" + by.format();
  auto [at, is_new] = groups_.try_emplace(key);
  Group& group = at->second;
  if (is_new) {
    group.key = key;
    group.id = destination.id;
    group.labels = by;
    // No key of a life that has ended is used again: what the outbox knows already is not sent.
    group.began = std::max(first.fired_at, last_began_ + rules::Duration(1));
    group.next_flush = now + options.group_wait;
  }
  return group;
}

void Dispatcher::place(const Alert& alert, std::optional<Fingerprint> rule, Timestamp caused_at,
                       Timestamp now) {
  const Fingerprint fingerprint = alert.fingerprint();
  const std::vector<Destination> to = destinations(alert.labels, rule, now);
  std::vector<Home> homes;
  for (const Destination& destination : to) {
    Group& group = group_for(destination, alert.labels, alert, now);
    if (!group.pending) group.caused_at = caused_at;
    Member member{alert, rule};
    const auto known = group.members.find(fingerprint);
    if (known != group.members.end() && known->second.alert.is_firing()) {
      // Two rules with the same labels: to people it goes on.
      member.alert.active_at = known->second.alert.active_at;
      member.alert.fired_at = known->second.alert.fired_at;
    }
    group.members.insert_or_assign(fingerprint, std::move(member));
    group.pending = group.dirty = true;
    ++group.changes;
    groups_of_[fingerprint].insert(group.key);
    homes.push_back({&group, &destination});
    touch(group);
    touch(group, fingerprint);
  }
  inherit(fingerprint, homes);
  touched_ = true;
}

void Dispatcher::inherit(Fingerprint fingerprint, const std::vector<Home>& homes) {
  if (homes.empty()) return;
  const std::set<std::string> all = groups_of_.at(fingerprint);
  for (const std::string& key : all) {
    Group& old = groups_.at(key);
    Member& ended = old.members.at(fingerprint);
    if (ended.alert.is_firing()) continue;
    ended.leaving = true;
    bool owed = false;
    for (auto& [sink, told] : old.told) {
      const auto episode = told.firing.find(fingerprint);
      if (episode == told.firing.end()) continue;
      if (move_told(sink, told, *episode, homes)) {
        told.firing.erase(episode);
      } else {
        owed = true;
      }
    }
    old.dirty = true;
    touch(old);
    touch(old, fingerprint);
    if (!owed) forget_member(old, fingerprint);
  }
}

bool Dispatcher::move_told(const std::string& sink, const Told& from, const Episodes::value_type& episode,
                           const std::vector<Home>& homes) {
  bool moved = false;
  for (const Home& home : homes) {
    const std::vector<std::string>& sinks = home.destination->sinks;
    if (std::find(sinks.begin(), sinks.end(), sink) == sinks.end()) continue;
    moved = true;
    // By another group it has heard that it ended: that it fires is news.
    if (from.resolved.count(episode.first) != 0) continue;
    Told& here = home.group->told[sink];
    here.firing.insert(episode);
    here.resolved.erase(episode.first);
    here.at = std::max(here.at, from.at);
    touch(*home.group);
  }
  return moved;
}

void Dispatcher::insert(const rules::Transition& transition, std::optional<Fingerprint> rule,
                        Timestamp caused_at, Timestamp now) {
  const Alert& alert = transition.alert;
  const Fingerprint fingerprint = alert.fingerprint();
  if (homeless_) rehome(now);
  if (transition.to == AlertState::kFiring) {
    // However little there was to read: release() tells what still fires once its rule is at the present.
    const bool old = now - transition.at > plan_->max_replay_age;
    // What people know to fire already, by another rule with the same labels, is no past of its own.
    if (rule && !is_firing(fingerprint) && (old || is_silent(*rule, now))) {
      held_.try_emplace(fingerprint, Held{alert, {}}).first->second.holders.insert(*rule);
      changed_held_.insert(fingerprint);
      return;
    }
    place(alert, rule, caused_at, now);
    return;
  }
  if (transition.to != AlertState::kResolved) return;
  const auto held = held_.find(fingerprint);
  if (held != held_.end()) {
    // Another rule with the same labels has fired in the present: its end is people's, too.
    const bool known = is_firing(fingerprint);
    // A first start reads the log to fill its windows: what ended before it was never ours to tell.
    if (first_start_ && !known) {
      ++before_start_;
    } else if (!known) {
      std::set<std::string> sinks;
      std::set<std::string> deaf;  // rules
      for (const Fingerprint one : held->second.holders) {
        std::set<std::string> of_rule;
        for (const Destination& destination : destinations(alert.labels, one, now))
          of_rule.insert(destination.sinks.begin(), destination.sinks.end());
        const auto known_rule = rules_.find(one);
        if (known_rule != rules_.end() && !of_rule.empty() &&
            std::none_of(of_rule.begin(), of_rule.end(), [&](const auto& sink) { return hears_of_the_past(sink); }))
          deaf.insert(plan_->rules[known_rule->second].name);
        sinks.merge(of_rule);
      }
      const auto remember = [&](Past& past) {
        if (++past.count <= kMaxSummaryLines)
          past.lines.push_back(fmt::format("{} fired {}, resolved {}", alert.labels.format(),
                                           rules::format_rfc3339(alert.fired_at),
                                           rules::format_rfc3339(transition.at)));
        past_changed_ = true;
      };
      for (const std::string& sink : sinks)
        remember(past_[sink]);
      for (const std::string& name : deaf)
        remember(missed_[name]);
    }
    held_.erase(held);
    changed_held_.insert(fingerprint);
    if (!known) return;
  }
  const auto groups = groups_of_.find(fingerprint);
  if (groups == groups_of_.end()) return;
  for (const std::string& key : groups->second) {
    Group& group = groups_.at(key);
    Member& member = group.members.at(fingerprint);
    if (!member.alert.is_firing()) continue;
    Alert ended = alert;
    ended.fired_at = member.alert.fired_at;  // of what was told
    // Its lines have left the windows by now: the message shows those that began it.
    if (!ended.first_line) ended.first_line = member.alert.first_line;
    if (!ended.last_line) ended.last_line = member.alert.last_line;
    if (ended.top_values.empty()) ended.top_values = member.alert.top_values;
    member.alert = std::move(ended);
    if (!group.pending) group.caused_at = caused_at;
    group.pending = group.dirty = true;
    ++group.changes;
    touch(group);
    touch(group, fingerprint);
  }
  touched_ = true;
}

void Dispatcher::release(const std::function<bool(Fingerprint)>& caught_up, bool everything_caught_up,
                         Timestamp now) {
  for (auto held = held_.begin(); held != held_.end();) {
    const auto released = std::erase_if(held->second.holders, [&](Fingerprint rule) {
      if (!caught_up(rule) || is_silent(rule, now)) return false;
      place(held->second.alert, rule, now, now);
      return true;
    });
    if (released > 0 || held->second.holders.empty()) changed_held_.insert(held->first);
    held = held->second.holders.empty() ? held_.erase(held) : std::next(held);
  }
  if (!everything_caught_up) return;
  first_start_changed_ = first_start_changed_ || first_start_;
  first_start_ = false;
  missed_due_ = true;
  if (!past_.empty()) {
    summary_due_ = true;
    touched_ = true;
  }
}

std::map<std::string, Dispatcher::Past> Dispatcher::take_missed() {
  if (!std::exchange(missed_due_, false) || missed_.empty()) return {};
  past_changed_ = true;
  return std::exchange(missed_, {});
}

void Dispatcher::emit(const std::string& group_key, const Labels& labels, Timestamp began,
                      std::uint64_t& sequence, Timestamp caused_at, const SinkSpec& sink, NotifyReason reason,
                      std::vector<Alert> alerts, std::uint32_t changes, Timestamp now,
                      std::vector<Notification>& out) {
  std::stable_sort(alerts.begin(), alerts.end(),
                   [](const Alert& a, const Alert& b) { return a.is_firing() && !b.is_firing(); });
  for (std::size_t from = 0; from == 0 || from < alerts.size(); from += kMaxAlertsPerNotification) {
    Notification notification;
    const std::size_t to = std::min(alerts.size(), from + kMaxAlertsPerNotification);
    notification.alerts.assign(std::make_move_iterator(alerts.begin() + static_cast<std::ptrdiff_t>(from)),
                               std::make_move_iterator(alerts.begin() + static_cast<std::ptrdiff_t>(to)));
    notification.sink = sink.name;
    notification.reason = reason;
    notification.group_key = group_key;
    notification.group_labels = labels;
    notification.group_began = began;
    notification.changes = changes;
    notification.created_at = now;
    const bool again = reason == NotifyReason::kRepeat || reason == NotifyReason::kRefresh;
    notification.caused_at = again ? now : caused_at;  // no line caused it, but the time
    const bool critical = std::any_of(notification.alerts.begin(), notification.alerts.end(), is_critical);
    notification.priority = again ? 2 : critical ? 0 : 1;
    ++sequence;
    for (const std::string& lane : sink.lanes) {
      notification.lane = lane;
      notification.key =
          group_hash(fmt::format("{}\n{}\n{}\n{}", group_key, rules::to_unix_ms(began), sequence, lane));
      if (again)
        notification.replaces = fmt::format("{}/{}/{}", to_string(reason), group_hash(group_key), from);
      out.push_back(notification);
    }
  }
}

void Dispatcher::flush_group(Group& group, Timestamp now, const std::function<bool(Alert&)>& renew,
                             std::vector<Notification>& out) {
  const std::vector<std::string> listed = sinks_of(group.id);
  const std::set<std::string> members(listed.begin(), listed.end());
  const RouteOptions& options = options_of(group.id);
  const bool muted = is_muted(options, plan_->time_intervals, now);
  const bool due = now >= group.next_flush;
  group.dirty = false;
  group.due.reset();
  const auto look_again = [&](Timestamp at) { group.due = std::min(group.due.value_or(at), at); };

  Episodes firing;
  Episodes resolved;
  Episodes here_firing;  // without those that are leaving
  Episodes here_resolved;
  for (const auto& [fingerprint, member] : group.members) {
    const bool fires = member.alert.is_firing();
    (fires ? firing : resolved)[fingerprint] = member.alert.fired_at;
    if (!member.leaving) (fires ? here_firing : here_resolved)[fingerprint] = member.alert.fired_at;
  }

  std::set<std::string> all = members;
  for (const auto& [sink, told] : group.told)
    all.insert(sink);

  bool spoke = false;
  bool waits = false;  // a sink that is told group by group, whose time has not come
  bool renewed = false;
  for (const std::string& name : all) {
    const auto spec = plan_->sinks.find(name);
    if (spec == plan_->sinks.end()) {
      // Gone from the configuration: nobody is there to be told.
      group.told.erase(name);
      touch(group);
      continue;
    }
    const SinkSpec& sink = spec->second;
    if (!sink.per_alert && !due) {
      waits = true;
      continue;
    }
    const auto told = group.told.find(name);
    const Told* known = told == group.told.end() ? nullptr : &told->second;
    const bool first = known == nullptr;
    const bool is_member = members.count(name) != 0;
    Episodes fires = is_member ? here_firing : Episodes{};
    const bool repeats = !fires.empty() && !sink.refresh;
    if (known != nullptr) {
      // Where the plan leads elsewhere now: it hears only how what it was told of goes on.
      for (const auto& episode : firing) {
        if (known->firing.count(episode.first) != 0) fires.insert(episode);
      }
    }
    const auto repeat = repeats ? options.repeat_interval : rules::Duration::max();
    const NotifyReason reason =
        needs_update(known, fires, is_member ? here_resolved : Episodes{}, sink.send_resolved, repeat, now);
    // What has ended is settled with who wants no resolves, in its muted hours too: fires it again, that is news.
    if (known != nullptr && !sink.send_resolved && (muted || reason == NotifyReason::kNone)) {
      Episodes goes_on = known->firing;
      std::erase_if(goes_on, [&](const auto& episode) { return fires.count(episode.first) == 0; });
      if (goes_on != known->firing) {
        take_over(told->second, goes_on, resolved);
        touch(group);
      }
    }
    if (reason == NotifyReason::kNone) {
      if (known != nullptr && repeats) look_again(known->at + repeat);
      // It ended and fires again, and nobody could be told: what forgets has heard nothing of it meanwhile.
      const bool forgotten = known != nullptr && sink.refresh && !fires.empty() && !known->firing.empty() &&
                             next_refresh_.count(name) == 0;
      if (forgotten && muted) look_again(next_minute(now));
      if (forgotten && !muted) next_refresh_.emplace(name, now);
      continue;
    }
    if (muted) {
      // It waits for its hours.
      look_again(next_minute(now));
      continue;
    }
    if (!renewed) {
      renewed = true;
      for (auto& [fingerprint, member] : group.members) {
        if (member.alert.is_firing()) renew(member.alert);
      }
    }
    std::vector<Alert> alerts;
    for (const auto& [fingerprint, member] : group.members) {
      const bool was_told = known != nullptr && known->firing.count(fingerprint) != 0;
      if (member.alert.is_firing()) {
        const bool news = !sink.per_alert || !was_told || reason == NotifyReason::kRepeat;
        if (fires.count(fingerprint) != 0 && news) alerts.push_back(member.alert);
        continue;
      }
      if (!was_told && (!is_member || member.leaving)) continue;
      const auto before = known == nullptr ? Episodes::const_iterator{} : known->resolved.find(fingerprint);
      const bool told_already = known != nullptr && !was_told && before != known->resolved.end() &&
                                before->second == member.alert.fired_at;
      if (told_already || (was_told && !sink.send_resolved)) continue;
      alerts.push_back(member.alert);
      if (sink.refresh) resolved_[name][fingerprint] = {now, member.alert};
    }
    Told& tell = group.told[name];
    for (const Alert& alert : alerts) {
      if (alert.is_firing()) {
        tell.resolved.erase(alert.fingerprint());
      } else {
        tell.resolved[alert.fingerprint()] = alert.fired_at;
      }
      note_elsewhere(group, name, alert);
    }
    take_over(tell, fires, resolved);
    tell.at = now;
    if (sink.refresh) next_refresh_.try_emplace(name, now + *sink.refresh);
    if (repeats) look_again(now + repeat);
    // Counted since the group spoke to those who are told group by group; of one alert there is nothing to
    // count.
    const std::uint32_t changes = first || sink.per_alert ? 0 : group.changes;
    emit(group.key, group.labels, group.began, group.sequence, group.caused_at, sink, reason,
         std::move(alerts), changes, now, out);
    touch(group);
    if (!sink.per_alert) spoke = true;
  }
  if (waits) {
    look_again(group.next_flush);
    return;
  }
  if (group.pending) touch(group);
  group.pending = false;
  if (spoke) {
    group.changes = 0;
    group.next_flush = now + options.group_interval;
  }
  // What has ended is forgotten once nobody is owed its end.
  for (const auto& ended : resolved) {
    const bool owed = std::any_of(group.told.begin(), group.told.end(), [&](const auto& told) {
      return told.second.firing.count(ended.first) != 0;
    });
    if (!owed) forget_member(group, ended.first);
  }
}

void Dispatcher::note_elsewhere(const Group& by, const std::string& sink, const Alert& alert) {
  const Fingerprint fingerprint = alert.fingerprint();
  for (const std::string& key : groups_of_.at(fingerprint)) {
    if (key == by.key) continue;
    Group& other = groups_.at(key);
    const auto told = other.told.find(sink);
    if (told == other.told.end() || told->second.firing.count(fingerprint) == 0) continue;
    if (alert.is_firing()) {
      told->second.resolved.erase(fingerprint);
    } else {
      told->second.resolved[fingerprint] = alert.fired_at;
    }
    touch(other);
  }
}

void Dispatcher::forget_member(Group& group, Fingerprint fingerprint) {
  group.members.erase(fingerprint);
  for (auto& [sink, told] : group.told)
    told.resolved.erase(fingerprint);
  const auto groups = groups_of_.find(fingerprint);
  if (groups != groups_of_.end()) {
    groups->second.erase(group.key);
    if (groups->second.empty()) groups_of_.erase(groups);
  }
  touch(group);
  touch(group, fingerprint);
}

void Dispatcher::emit_summary(Timestamp now, std::vector<Notification>& out) {
  summary_due_ = false;
  for (const auto& [name, past] : past_) {
    const auto spec = plan_->sinks.find(name);
    // Nobody is woken for what is over.
    if (spec == plan_->sinks.end() || spec->second.pages || spec->second.per_alert) continue;
    std::string text =
        fmt::format("While logbell was not reading, {} alert{} fired and resolved:", past.count,
                    past.count == 1 ? "" : "s");
    for (const std::string& line : past.lines)
      text += "\n" + line;
    if (past.count > past.lines.size()) text += fmt::format("\nand {} more", past.count - past.lines.size());
    const std::size_t first = out.size();
    emit("summary", {}, rules::from_unix_ms(0), sequence_, now, spec->second, NotifyReason::kSummary, {},
         static_cast<std::uint32_t>(past.count), now, out);
    sequence_changed_ = true;
    for (std::size_t i = first; i < out.size(); ++i)
      out[i].text = text;
  }
  past_.clear();
  past_changed_ = true;
}

void Dispatcher::emit_refreshes(Timestamp now, const std::function<bool(Alert&)>& renew,
                                std::vector<Notification>& out) {
  for (auto next = next_refresh_.begin(); next != next_refresh_.end();) {
    const auto spec = plan_->sinks.find(next->first);
    if (spec == plan_->sinks.end() || !spec->second.refresh) {
      resolved_.erase(next->first);
      next = next_refresh_.erase(next);
      continue;
    }
    if (now < next->second) {
      ++next;
      continue;
    }
    std::vector<Alert> alerts;
    for (auto& [key, group] : groups_) {
      const auto told = group.told.find(next->first);
      if (told == group.told.end()) continue;
      for (auto& [fingerprint, member] : group.members) {
        if (!member.alert.is_firing() || told->second.firing.count(fingerprint) == 0) continue;
        renew(member.alert);
        alerts.push_back(member.alert);
      }
    }
    std::set<Fingerprint> firing_now;
    for (const Alert& alert : alerts)
      firing_now.insert(alert.fingerprint());
    auto& ended = resolved_[next->first];
    for (auto it = ended.begin(); it != ended.end();) {
      if (now - it->second.told_at > kRefreshResolved || firing_now.count(it->first) != 0) {
        it = ended.erase(it);
        continue;
      }
      alerts.push_back(it->second.alert);
      ++it;
    }
    if (alerts.empty()) {
      resolved_.erase(next->first);
      next = next_refresh_.erase(next);
      continue;
    }
    emit("refresh", {}, rules::from_unix_ms(0), sequence_, now, spec->second, NotifyReason::kRefresh,
         std::move(alerts), 0, now, out);
    sequence_changed_ = true;
    next->second = now + *spec->second.refresh;
    ++next;
  }
}

void Dispatcher::flush(Timestamp now, const std::function<bool(Alert&)>& renew,
                       std::vector<Notification>& out) {
  if (silent_until_ && now >= *silent_until_) homeless_ = true;
  if (homeless_) rehome(now);
  if (!touched_ && (!next_due_ || now < *next_due_)) return;
  next_due_ = silent_until_;
  const auto consider = [&](Timestamp at) { next_due_ = std::min(next_due_.value_or(at), at); };
  for (auto at = groups_.begin(); at != groups_.end();) {
    Group& group = at->second;
    if (group.dirty || (group.due && now >= *group.due)) flush_group(group, now, renew, out);
    if (group.members.empty()) {
      changed_groups_.insert(at->first);
      if (group.began > last_began_) {
        last_began_ = group.began;
        began_changed_ = true;
      }
      at = groups_.erase(at);
      continue;
    }
    if (group.due) consider(*group.due);
    ++at;
  }
  if (summary_due_) emit_summary(now, out);
  emit_refreshes(now, renew, out);
  for (const auto& [sink, at] : next_refresh_)
    consider(at);
  touched_ = false;
}

std::optional<Timestamp> Dispatcher::next_instant(Timestamp now) const {
  if (touched_ || homeless_) return now;
  return next_due_;
}

void Dispatcher::set_sink_dead(const std::string& sink, bool dead) {
  const bool changed = dead ? dead_.insert(sink).second : dead_.erase(sink) != 0;
  if (!changed) return;
  touched_ = true;
  // Who speaks of logbell itself depends on who lives.
  for (auto& [key, group] : groups_)
    group.dirty = group.dirty || group.id.rfind(kBuiltIn, 0) == 0;
}

void Dispatcher::set_back(Timestamp now) {
  for (auto& [key, group] : groups_) {
    const RouteOptions& options = options_of(group.id);
    group.next_flush = std::min(group.next_flush, now + std::max(options.group_wait, options.group_interval));
    for (auto& [sink, told] : group.told)
      told.at = std::min(told.at, now);
    group.dirty = true;
    touch(group);
  }
  for (auto& [sink, at] : next_refresh_)
    at = std::min(at, now);
  for (auto& [sink, ended] : resolved_) {
    for (auto& [fingerprint, resolved] : ended)
      resolved.told_at = std::min(resolved.told_at, now);
  }
  touched_ = true;
}

std::vector<Alert> Dispatcher::firing() const {
  std::map<Fingerprint, Alert> found;
  for (const auto& [key, group] : groups_) {
    for (const auto& [fingerprint, member] : group.members) {
      if (member.alert.is_firing()) found.try_emplace(fingerprint, member.alert);
    }
  }
  for (const auto& [fingerprint, held] : held_)
    found.try_emplace(fingerprint, held.alert);
  std::vector<Alert> alerts;
  alerts.reserve(found.size());
  for (auto& [fingerprint, alert] : found)
    alerts.push_back(std::move(alert));
  return alerts;
}

void Dispatcher::replace_plan(const rules::Plan& plan) {
  plan_ = &plan;
  index_plan();
  homeless_ = true;
}

std::map<std::string, std::size_t> Dispatcher::left_behind() const {
  std::map<std::string, std::size_t> left;
  for (const auto& [key, group] : groups_) {
    for (const auto& [sink, told] : group.told) {
      if (plan_->sinks.count(sink) == 0 && !told.firing.empty()) left[sink] += told.firing.size();
    }
  }
  return left;
}

void Dispatcher::rehome(Timestamp now) {
  homeless_ = false;
  touched_ = true;
  silent_until_.reset();
  for (const rules::AlertingRule& rule : plan_->rules) {
    if (rule.silent && now < rule.silent->until)
      silent_until_ = std::min(silent_until_.value_or(rule.silent->until), rule.silent->until);
  }
  struct Moved {
    std::string from;
    Fingerprint fingerprint;
    Member member;
    std::vector<Destination> to;
    std::vector<Home> homes;
  };
  std::vector<Moved> moved;
  for (auto& [key, group] : groups_) {
    group.dirty = true;
    for (auto& [fingerprint, member] : group.members) {
      if (!member.alert.is_firing()) continue;
      member.leaving = true;
      moved.push_back({key, fingerprint, member, destinations(member.alert.labels, member.rule, now), {}});
      moved.back().member.leaving = false;
    }
  }
  for (Moved& move : moved) {
    Group& old = groups_.at(move.from);
    std::set<std::string> stays;  // sinks that the old group goes on telling of it
    std::vector<Home> others;
    for (const Destination& destination : move.to) {
      Group& group = group_for(destination, move.member.alert.labels, move.member.alert, now);
      const auto [member, is_new] = group.members.try_emplace(move.fingerprint, move.member);
      if (!member->second.alert.is_firing()) member->second = move.member;  // it was there before, and ended
      member->second.leaving = false;
      if (is_new) {
        group.pending = true;
        group.caused_at = old.caused_at;
      }
      groups_of_[move.fingerprint].insert(group.key);
      move.homes.push_back({&group, &destination});
      if (group.key == move.from) {
        stays.insert(destination.sinks.begin(), destination.sinks.end());
        continue;
      }
      others.push_back({&group, &destination});
      touch(group);
      touch(group, move.fingerprint);
      touch(old);
    }
    // Whoever was told of it in the old group, which will not tell more, was told of it in the new one.
    for (auto& [sink, told] : old.told) {
      const auto episode = told.firing.find(move.fingerprint);
      if (episode == told.firing.end() || stays.count(sink) != 0) continue;
      if (move_told(sink, told, *episode, others)) told.firing.erase(episode);
    }
  }
  for (const Moved& move : moved)
    inherit(move.fingerprint, move.homes);
  for (const Moved& move : moved) {
    Group& old = groups_.at(move.from);
    if (!old.members.at(move.fingerprint).leaving) continue;
    const bool owed = std::any_of(old.told.begin(), old.told.end(), [&](const auto& told) {
      return told.second.firing.count(move.fingerprint) != 0;
    });
    if (!owed) forget_member(old, move.fingerprint);
  }
}

void Dispatcher::save(std::vector<StoredEntry>& out) {
  const std::string prefix(kPrefix);
  for (const auto& [key, fingerprint] : changed_members_) {
    const std::string entry =
        fmt::format("{}a/{}/{}", prefix, group_hash(key), rules::format_fingerprint(fingerprint));
    const auto group = groups_.find(key);
    const auto member = group == groups_.end() ? decltype(group->second.members.begin()){}
                                               : group->second.members.find(fingerprint);
    if (group == groups_.end() || member == group->second.members.end()) {
      out.push_back({entry, std::nullopt});
      continue;
    }
    Json json;
    json.set("alert", rules::to_json(member->second.alert));
    if (member->second.rule) json.set("rule", rules::format_fingerprint(*member->second.rule));
    if (member->second.leaving) json.set("leaving", true);
    out.push_back({entry, json.dump()});
  }
  for (const std::string& key : changed_groups_) {
    const std::string entry = fmt::format("{}g/{}", prefix, group_hash(key));
    const auto found = groups_.find(key);
    if (found == groups_.end()) {
      out.push_back({entry, std::nullopt});
      continue;
    }
    const Group& group = found->second;
    Json told{Json::Object{}};
    for (const auto& [sink, of] : group.told) {
      Json one;
      one.set("firing", episodes_json(of.firing)).set("resolved", episodes_json(of.resolved));
      one.set("at", rules::to_unix_ms(of.at));
      told.set(sink, std::move(one));
    }
    Json json;
    json.set("key", group.key).set("id", group.id).set("labels", rules::to_json(group.labels));
    json.set("told", std::move(told)).set("next_flush", rules::to_unix_ms(group.next_flush));
    json.set("changes", static_cast<std::int64_t>(group.changes))
        .set("began", rules::to_unix_ms(group.began));
    json.set("sequence", static_cast<std::int64_t>(group.sequence));
    json.set("caused_at", rules::to_unix_ms(group.caused_at)).set("pending", group.pending);
    out.push_back({entry, json.dump()});
  }
  for (const Fingerprint fingerprint : changed_held_) {
    const std::string entry = fmt::format("{}h/{}", prefix, rules::format_fingerprint(fingerprint));
    const auto held = held_.find(fingerprint);
    if (held == held_.end()) {
      out.push_back({entry, std::nullopt});
      continue;
    }
    Json json;
    Json of{Json::Array{}};
    for (const Fingerprint rule : held->second.holders)
      of.push(Json(rules::format_fingerprint(rule)));
    json.set("alert", rules::to_json(held->second.alert)).set("rules", std::move(of));
    out.push_back({entry, json.dump()});
  }
  if (past_changed_) {
    const auto save_past = [&](std::string_view key, const std::map<std::string, Past>& by_name) {
      Json all{Json::Object{}};
      for (const auto& [name, past] : by_name) {
        Json lines{Json::Array{}};
        for (const std::string& line : past.lines)
          lines.push(Json(line));
        Json one;
        one.set("count", static_cast<std::int64_t>(past.count)).set("lines", std::move(lines));
        all.set(name, std::move(one));
      }
      out.push_back({prefix + std::string(key), by_name.empty() ? std::optional<std::string>() : all.dump()});
    };
    save_past("past", past_);
    save_past("missed", missed_);
  }
  if (sequence_changed_) out.push_back({prefix + "sequence", std::to_string(sequence_)});
  if (began_changed_) out.push_back({prefix + "began", std::to_string(rules::to_unix_ms(last_began_))});
  if (first_start_changed_)
    out.push_back({prefix + "first_start", first_start_ ? std::optional<std::string>("1") : std::nullopt});
  forget_changes();
}

void Dispatcher::forget_changes() {
  changed_members_.clear();
  changed_groups_.clear();
  changed_held_.clear();
  past_changed_ = sequence_changed_ = began_changed_ = first_start_changed_ = false;
}

void Dispatcher::restore(const std::vector<StoredEntry>& entries) {
  std::map<std::string, std::string> keys;  // hash -> key
  std::vector<std::pair<std::string_view, Json>> members;
  const auto after = [](const std::string& key, std::string_view prefix) -> std::optional<std::string_view> {
    if (key.compare(0, prefix.size(), prefix) != 0) return std::nullopt;
    return std::string_view(key).substr(prefix.size());
  };
  for (const StoredEntry& entry : entries) {
    if (!entry.value || !after(entry.key, kPrefix)) continue;
    if (entry.key == std::string(kPrefix) + "sequence") {
      std::from_chars(entry.value->data(), entry.value->data() + entry.value->size(), sequence_);
      continue;
    }
    if (entry.key == std::string(kPrefix) + "began") {
      std::int64_t ms = 0;
      std::from_chars(entry.value->data(), entry.value->data() + entry.value->size(), ms);
      last_began_ = rules::from_stored_ms(ms);
      continue;
    }
    if (entry.key == std::string(kPrefix) + "first_start") {
      first_start_ = true;
      continue;
    }
    const auto parsed = Json::parse(*entry.value);
    if (!parsed) continue;
    const Json& json = *parsed;
    if (const auto hash = after(entry.key, "core/d/g/")) {
      Group group;
      group.key = json["key"].string();
      group.id = json["id"].string();
      group.labels = rules::labels_from_json(json["labels"]);
      for (const auto& [sink, of] : json["told"].object())
        group.told[sink] = {read_episodes(of["firing"]), read_episodes(of["resolved"]), read_time(of["at"])};
      group.next_flush = read_time(json["next_flush"]);
      group.changes = static_cast<std::uint32_t>(json["changes"].integer());
      group.began = read_time(json["began"]);
      group.sequence = static_cast<std::uint64_t>(json["sequence"].integer());
      group.caused_at = read_time(json["caused_at"]);
      group.pending = json["pending"].boolean();
      keys[std::string(*hash)] = group.key;
      // A sink that forgets hears at once what still fires.
      for (const auto& [sink, of] : group.told) {
        const auto spec = plan_->sinks.find(sink);
        if (spec != plan_->sinks.end() && spec->second.refresh)
          next_refresh_.try_emplace(sink, rules::kLongAgo);
      }
      const std::string key = group.key;
      groups_.insert_or_assign(key, std::move(group));
    } else if (const auto member = after(entry.key, "core/d/a/")) {
      members.emplace_back(*member, json);
    } else if (const auto held = after(entry.key, "core/d/h/")) {
      auto alert = rules::alert_from_json(json["alert"]);
      if (!alert) continue;
      Held& entry_of = held_[rules::parse_fingerprint(*held)];
      entry_of.alert = *alert;
      // An earlier version wrote one.
      if (json["rule"].is_string()) entry_of.holders.insert(rules::parse_fingerprint(json["rule"].string()));
      for (const Json& rule : json["rules"].array())
        entry_of.holders.insert(rules::parse_fingerprint(rule.string()));
    } else if (entry.key == "core/d/past" || entry.key == "core/d/missed") {
      for (const auto& [name, of] : json.object()) {
        Past& past = (entry.key == "core/d/past" ? past_ : missed_)[name];
        past.count = static_cast<std::uint64_t>(of["count"].integer());
        for (const Json& line : of["lines"].array())
          past.lines.emplace_back(line.string());
      }
    }
  }
  for (const auto& [path, json] : members) {
    const auto key = keys.find(std::string(path.substr(0, path.find('/'))));
    auto alert = rules::alert_from_json(json["alert"]);
    if (key == keys.end() || !alert) continue;
    Group& group = groups_.at(key->second);
    const Fingerprint fingerprint = alert->fingerprint();
    std::optional<Fingerprint> rule;
    if (json["rule"].is_string()) rule = rules::parse_fingerprint(json["rule"].string());
    group.members[fingerprint] = Member{*alert, rule, json["leaving"].boolean()};
    groups_of_[fingerprint].insert(group.key);
  }
  homeless_ = true;  // the plan may be another than the one that wrote it
}

}  // namespace logbell::engine

#include "rules/notification.h"

#include <algorithm>
#include <array>
#include <set>

#include "rules/json.h"

namespace logbell::rules {
namespace {

constexpr std::array<std::string_view, 10> kReasons{
    "none",   "first_firing", "new_alerts", "resolved_some", "all_resolved",
    "repeat", "refresh",      "summary",    "refused",       "drill"};

}  // namespace

std::string_view to_string(NotifyReason reason) {
  return kReasons[static_cast<std::size_t>(reason)];
}

bool Notification::is_resolved() const {
  return !alerts.empty() &&
         std::none_of(alerts.begin(), alerts.end(), [](const Alert& alert) { return alert.is_firing(); });
}

bool Notification::contradicts(const Notification& other) const {
  return std::any_of(alerts.begin(), alerts.end(), [&](const Alert& mine) {
    return std::any_of(other.alerts.begin(), other.alerts.end(), [&](const Alert& theirs) {
      return mine.is_firing() != theirs.is_firing() && mine.labels == theirs.labels;
    });
  });
}

Labels Notification::common_labels() const {
  Labels common;
  if (alerts.empty()) return common;
  for (const Labels::Pair& label : alerts.front().labels) {
    const bool everywhere = std::all_of(alerts.begin(), alerts.end(), [&](const Alert& alert) {
      return alert.labels.get(label.first) == label.second;
    });
    if (everywhere) common.set(label.first, label.second);
  }
  return common;
}

std::vector<std::pair<std::string, std::string>> Notification::common_annotations() const {
  std::vector<std::pair<std::string, std::string>> common;
  if (alerts.empty()) return common;
  for (const auto& entry : alerts.front().annotations) {
    const bool everywhere = std::all_of(alerts.begin(), alerts.end(), [&](const Alert& alert) {
      return std::find(alert.annotations.begin(), alert.annotations.end(), entry) != alert.annotations.end();
    });
    if (everywhere) common.push_back(entry);
  }
  return common;
}

std::vector<std::string_view> Notification::names() const {
  std::vector<std::string_view> names;
  std::set<std::string_view> known;
  std::size_t bytes = 0;
  for (const Alert& alert : alerts) {
    const std::string_view name = alert.name();
    if (!known.insert(name).second) continue;
    bytes += name.size() + std::string_view(", ").size();
    if (bytes > kMaxNamesBytes && !names.empty()) break;
    names.push_back(name);
  }
  return names;
}

std::string encode(const Notification& notification) {
  Json alerts{Json::Array{}};
  for (const Alert& alert : notification.alerts)
    alerts.push(to_json(alert));
  Json json;
  json.set("key", notification.key).set("sink", notification.sink).set("lane", notification.lane);
  json.set("reason", to_string(notification.reason)).set("group_key", notification.group_key);
  json.set("group_labels", to_json(notification.group_labels)).set("alerts", std::move(alerts));
  json.set("group_began", to_unix_ms(notification.group_began));
  json.set("changes", static_cast<std::int64_t>(notification.changes));
  json.set("created_at", to_unix_ms(notification.created_at))
      .set("caused_at", to_unix_ms(notification.caused_at));
  json.set("replaces", notification.replaces)
      .set("priority", static_cast<std::int64_t>(notification.priority));
  json.set("text", notification.text).set("fallback_for", notification.fallback_for);
  if (!notification.drill.empty()) json.set("drill", notification.drill);
  return json.dump();
}

Result<Notification> decode_notification(std::string_view text) {
  const Result<Json> parsed = Json::parse(text);
  if (!parsed) return fail(parsed.error().while_("read notification"));
  const Json& json = *parsed;
  if (json["key"].string().empty() || json["lane"].string().empty()) {
    return fail(ErrorCode::kCorrupt, "read notification: no key or lane");
  }
  Notification out;
  out.key = json["key"].string();
  out.sink = json["sink"].string();
  out.lane = json["lane"].string();
  const auto reason = std::find(kReasons.begin(), kReasons.end(), json["reason"].string());
  if (reason == kReasons.end()) return fail(ErrorCode::kCorrupt, "read notification: unknown reason");
  out.reason = static_cast<NotifyReason>(reason - kReasons.begin());
  out.group_key = json["group_key"].string();
  out.group_labels = labels_from_json(json["group_labels"]);
  out.group_began = from_stored_ms(json["group_began"].integer());
  for (const Json& alert : json["alerts"].array()) {
    Result<Alert> read = alert_from_json(alert);
    if (!read) return fail(read.error().while_("read notification"));
    out.alerts.push_back(*std::move(read));
  }
  out.changes = static_cast<std::uint32_t>(json["changes"].integer());
  out.created_at = from_stored_ms(json["created_at"].integer());
  out.caused_at = from_stored_ms(json["caused_at"].integer());
  out.replaces = json["replaces"].string();
  out.priority = static_cast<std::uint8_t>(json["priority"].integer());
  out.text = json["text"].string();
  out.fallback_for = json["fallback_for"].string();
  out.drill = json["drill"].string();
  return out;
}

}  // namespace logbell::rules

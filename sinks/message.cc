#include "sinks/message.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include <fmt/format.h>

#include "rules/redact.h"

namespace logbell::sinks {
namespace {

using rules::Alert;
using rules::Duration;
using rules::Notification;
using rules::NotifyReason;
using std::chrono::duration_cast;

constexpr std::string_view kDot = " · ";

bool is_any_of(std::string_view word, std::initializer_list<std::string_view> words) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

void append_part(std::string& out, std::string_view part) {
  if (part.empty()) return;
  if (!out.empty()) out += kDot;
  out += part;
}

// "Boom 3 firing, 1 resolved; Full 2 firing; also Over, Slow; and 4 more rules": Notification::names(), the
// first of them with how many of each.
std::string counted(const Notification& notification) {
  constexpr std::size_t kMaxCounted = 15;
  struct Count {
    std::size_t firing = 0;
    std::size_t resolved = 0;
  };
  std::map<std::string_view, Count> counts;
  for (const Alert& alert : notification.alerts)
    ++(alert.is_firing() ? counts[alert.name()].firing : counts[alert.name()].resolved);
  const std::vector<std::string_view> names = notification.names();
  std::string out;
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (i > 0) out += i < kMaxCounted ? "; " : i == kMaxCounted ? "; also " : ", ";
    out += names[i];
    if (i >= kMaxCounted) continue;
    const Count& count = counts[names[i]];
    if (count.firing > 0) out += fmt::format(" {} firing", count.firing);
    if (count.resolved > 0) out += fmt::format("{} {} resolved", count.firing > 0 ? "," : "", count.resolved);
  }
  if (counts.size() > names.size()) out += fmt::format("; and {} more rules", counts.size() - names.size());
  return out;
}

}  // namespace

Tone tone_of(const Alert& alert) {
  if (!alert.is_firing()) return Tone::kResolved;
  const std::string_view severity = alert.labels.get("severity");
  if (is_any_of(severity, {"critical", "page", "emergency", "fatal", "error", "high"}))
    return Tone::kCritical;
  if (is_any_of(severity, {"warning", "warn", "medium"})) return Tone::kWarning;
  if (is_any_of(severity, {"info", "none", "low", "debug"})) return Tone::kInfo;
  return Tone::kOther;
}

Tone tone_of(const Notification& notification) {
  if (notification.reason == NotifyReason::kRefused) return Tone::kCritical;
  if (notification.reason == NotifyReason::kSummary || !notification.drill.empty()) return Tone::kInfo;
  Tone worst = Tone::kResolved;
  for (const Alert& alert : notification.alerts) {
    const Tone tone = tone_of(alert);
    // No severity is louder than "info": nobody said it may be overlooked.
    const auto loudness = [](Tone t) {
      static constexpr std::array<int, 5> kLoudness{4, 3, 1, 2, 0};
      return kLoudness[static_cast<std::size_t>(t)];
    };
    if (loudness(tone) > loudness(worst)) worst = tone;
  }
  return worst;
}

std::string headline(const Notification& notification, const SinkContext& context) {
  std::string out;
  std::string drill;
  if (!notification.drill.empty()) drill = "[DRILL] ";
  const rules::Labels common = notification.common_labels();
  if (notification.reason == NotifyReason::kRefused) {
    out = "logbell refused to start";
  } else if (notification.reason == NotifyReason::kSummary) {
    out = "While nobody could be told";
  } else if (!common.get("alertname").empty()) {
    out = common.get("alertname");
  } else if (!drill.empty()) {
    out = fmt::format("{} rules", notification.alerts.size());
  } else {
    // Several kinds in one group: the first is the newest or worst, and how many more says the rest.
    std::vector<std::string_view> names;
    for (const Alert& alert : notification.alerts) {
      if (std::find(names.begin(), names.end(), alert.name()) == names.end()) names.push_back(alert.name());
    }
    if (!names.empty()) out = names.front();
    if (names.size() == 2) out += " and 1 more kind";
    if (names.size() > 2) out += fmt::format(" and {} more kinds", names.size() - 1);
  }
  append_part(out, common.get("service"));
  const std::string_view environment = common.get("environment");
  append_part(out, environment.empty() ? std::string_view(context.environment) : environment);
  return drill + out;
}

std::string status_words(const Notification& notification) {
  const auto firing =
      static_cast<std::size_t>(std::count_if(notification.alerts.begin(), notification.alerts.end(),
                                             [](const Alert& alert) { return alert.is_firing(); }));
  const std::size_t resolved = notification.alerts.size() - firing;
  const bool repeats = notification.reason == NotifyReason::kRepeat;
  if (firing == 0) return resolved > 1 ? fmt::format("all {} resolved", resolved) : "resolved";
  std::string out = firing > 1 ? fmt::format("{} firing", firing) : "firing";
  if (repeats) out = "still " + out;
  if (resolved > 0) out += fmt::format(", {} resolved", resolved);
  return out;
}

std::string subjects_of(const rules::Notification& notification) {
  constexpr std::size_t kMaxNamed = 3;
  constexpr std::size_t kMaxBytes = 300;
  std::string words;
  const std::size_t named = std::min(notification.alerts.size(), kMaxNamed);
  for (std::size_t i = 0; i < named; ++i) {
    const rules::Alert& alert = notification.alerts[i];
    const rules::Labels others = alert.labels.without({"alertname"});
    words += fmt::format("{}{}{}{}", words.empty() ? "" : ", ", alert.name(),
                         others.empty() ? "" : others.format(), alert.is_firing() ? "" : " (resolved)");
  }
  if (notification.alerts.size() > named)
    words += fmt::format(" and {} more", notification.alerts.size() - named);
  if (words.empty()) words = rules::to_string(notification.reason);
  return rules::clean_text(words, kMaxBytes);
}

std::string summary_of(const Alert& alert) {
  for (const std::string_view key : {"summary", "title", "description", "message"}) {
    if (const std::string_view text = alert.annotation(key); !text.empty()) return std::string(text);
  }
  return {};
}

std::string format_value(double value) {
  if (std::isnan(value)) return "not a number";
  if (std::isinf(value)) return value > 0 ? "infinite" : "-infinite";
  if (std::fabs(value) < 1e15 && value == std::floor(value)) return fmt::format("{:.0f}", value);
  return fmt::format("{:.4g}", value);
}

std::string threshold_of(std::string_view expr) {
  // From the end: the last comparison, if only a number follows it.
  const std::size_t at = expr.find_last_of("<>=");
  if (at == std::string_view::npos || at + 1 >= expr.size()) return {};
  std::size_t begin = at;
  while (begin > 0 && std::string_view("<>=!").find(expr[begin - 1]) != std::string_view::npos)
    --begin;
  std::string_view number = expr.substr(at + 1);
  while (!number.empty() && number.front() == ' ')
    number.remove_prefix(1);
  if (number.empty() || number.find_first_not_of("0123456789.eE+-smhdwy") != std::string_view::npos ||
      std::string_view("0123456789.-").find(number.front()) == std::string_view::npos) {
    return {};
  }
  return fmt::format("{} {}", expr.substr(begin, at + 1 - begin), number);
}

std::string value_words(const Alert& alert) {
  const std::string threshold = threshold_of(alert.expr);
  return threshold.empty() ? format_value(alert.value)
                           : fmt::format("{} ({})", format_value(alert.value), threshold);
}

std::string format_span(Duration span) {
  using std::chrono::days;
  using std::chrono::hours;
  using std::chrono::minutes;
  using std::chrono::seconds;
  const auto whole_seconds = std::max<std::int64_t>(duration_cast<seconds>(span).count(), 0);
  if (whole_seconds < 90) return fmt::format("{} s", whole_seconds);
  const std::int64_t whole_minutes = whole_seconds / 60;
  if (whole_minutes < 60) return fmt::format("{} min", whole_minutes);
  const std::int64_t whole_hours = whole_minutes / 60;
  if (whole_hours < 48) {
    return whole_minutes % 60 == 0 ? fmt::format("{} h", whole_hours)
                                   : fmt::format("{} h {} min", whole_hours, whole_minutes % 60);
  }
  return whole_hours % 24 == 0 ? fmt::format("{} d", whole_hours / 24)
                               : fmt::format("{} d {} h", whole_hours / 24, whole_hours % 24);
}

Duration lasted(const Alert& alert, rules::Timestamp now) {
  const rules::Timestamp end = alert.resolved_at.value_or(now);
  if (alert.fired_at == rules::kLongAgo || end < alert.fired_at) return Duration(0);
  return end - alert.fired_at;
}

Alert in_short(Alert alert) {
  constexpr std::size_t kMaxShortSummary = 300;
  const std::string summary = rules::clean_text(summary_of(alert), kMaxShortSummary);
  alert.annotations.clear();
  if (!summary.empty()) alert.annotations.emplace_back("summary", summary);
  alert.expr.clear();
  alert.first_line.reset();
  alert.last_line.reset();
  alert.top_values.clear();
  return alert;
}

std::optional<LinkUrl> acknowledge_link(const Notification& notification, const Attempt& attempt,
                                        const SinkContext& context) {
  const bool asks =
      context.acknowledge_url && std::any_of(notification.alerts.begin(), notification.alerts.end(),
                                             [](const Alert& alert) { return alert.is_firing(); });
  return asks ? LinkUrl::from(context.acknowledge_url(notification, attempt.now)) : std::nullopt;
}

std::vector<std::string> delivery_notes(const Notification& notification, const Attempt& attempt) {
  std::vector<std::string> notes;
  if (!notification.drill.empty()) {
    notes.push_back(
        notification.alerts.size() == 1
            ? std::string("A drill: nothing is wrong. It proves that this alert arrives here.")
            : fmt::format("A drill: nothing is wrong. It proves that these alerts arrive here: {}.",
                          fmt::join(notification.names(), ", ")));
  }
  if (!notification.fallback_for.empty()) {
    notes.push_back(fmt::format("In place of the sink \"{}\", which did not take it.", notification.fallback_for));
  }
  if (!attempt.speaks_for.empty()) {
    notes.push_back(fmt::format("A storm: one message instead of {}. In it: {}.", attempt.speaks_for.size(),
                                counted(notification)));
  } else if (notification.drill.empty() && notification.alerts.size() > kFewAlerts &&
             notification.names().size() > 1) {
    notes.push_back(fmt::format("In it: {}.", counted(notification)));
  }
  if (attempt.maybe_sent)
    notes.emplace_back("This may be a duplicate (the answer to the first one was lost).");
  // An empty created_at would be 1970: then nothing is known of a delay.
  if (rules::to_unix_ms(notification.created_at) > 0 &&
      attempt.now - notification.created_at > kDelayWorthSaying) {
    notes.push_back(fmt::format("Delayed {}: it could not be sent earlier.",
                                format_span(attempt.now - notification.created_at)));
  }
  if (notification.changes > 1) {
    notes.push_back(fmt::format("Changed {} times since the last message.", notification.changes));
  }
  return notes;
}

std::vector<Alert> alerts_or_text(const Notification& notification, const SinkContext& context) {
  if (notification.text.empty()) return notification.alerts;
  Alert alert;
  const bool refused = notification.reason == NotifyReason::kRefused;
  alert.labels.set("alertname", refused ? "PlanRefused" : "LogbellSummary");
  alert.labels.set("severity", refused ? "critical" : "info");
  alert.labels.set("environment", context.environment);
  alert.annotations.emplace_back(
      "summary", refused ? "logbell refused to start" : "What fired and resolved while nobody could be told");
  alert.annotations.emplace_back("description", notification.text);
  alert.state = rules::AlertState::kFiring;
  alert.active_at = alert.fired_at = notification.created_at;
  alert.built_in = true;
  return {alert};
}

}  // namespace logbell::sinks

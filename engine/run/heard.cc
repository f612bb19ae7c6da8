#include "engine/run/heard.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "rules/json.h"
#include "rules/redact.h"

namespace logbell::engine {

using rules::Duration;
using rules::Instant;
using rules::Timestamp;

namespace {

constexpr const char* kMissing = "HeartbeatMissing";
constexpr const char* kFailing = "HeartbeatFailing";

// `reason` of logbell's own body; else what is there, as healthchecks.io would keep it.
std::string reason_in(std::string_view body) {
  std::string text(body);
  if (const rules::Result<rules::Json> json = rules::Json::parse(text); json && (*json)["reason"].is_string())
    text = std::string((*json)["reason"].string());
  return rules::clean_text(rules::redact(rules::clean_text(text, 4 * Heard::kReasonBytes)),
                           Heard::kReasonBytes);
}

}  // namespace

Heard::Heard(Options options, const std::map<std::string, ListenedFor>& listened_for,
             const std::vector<StoredEntry>& stored)
    : options_(std::move(options)), looked_at_(options_.clock->instant()) {
  {
    const MutexLock lock(mutex_);
    for (const StoredEntry& entry : stored) {
      if (entry.key.rfind(kPrefix, 0) == 0 && entry.value)
        restore(all_[entry.key.substr(kPrefix.size())], *entry.value);
    }
  }
  replace(listened_for);
}

void Heard::replace(const std::map<std::string, ListenedFor>& listened_for) {
  std::vector<std::string> gone;
  {
    const MutexLock lock(mutex_);
    for (const auto& [name, wanted] : listened_for)
      all_[name].wanted = wanted;
    for (auto it = all_.begin(); it != all_.end();) {
      if (listened_for.count(it->first) != 0) {
        ++it;
        continue;
      }
      gone.push_back(it->first);
      it = all_.erase(it);
    }
  }
  for (const std::string& name : gone) {
    options_.tell(over(name, kMissing));
    options_.tell(over(name, kFailing));
    options_.store({{std::string(kPrefix) + name, std::nullopt}});
  }
}

std::optional<rules::Secret> Heard::token(const std::string& name) const {
  const MutexLock lock(mutex_);
  const auto found = all_.find(name);
  if (found == all_.end()) return std::nullopt;
  return found->second.wanted.token;
}

bool Heard::hear(const std::string& name, Word word, std::string_view body) {
  const Timestamp now = options_.clock->now();
  bool news = false;
  {
    const MutexLock lock(mutex_);
    const auto found = all_.find(name);
    if (found == all_.end()) return false;
    One& one = found->second;
    one.kept = Duration(-1);
    if (word == Word::kLog) {
      one.stopping_at = now;
      return true;
    }
    news = one.failing != (word == Word::kFail) || one.missing();
    one.heard_at = now;
    one.silent = Duration(0);
    one.stopping_at.reset();
    one.failing = word == Word::kFail;
    one.reason = one.failing ? reason_in(body) : std::string();
  }
  if (news && options_.wake) options_.wake();
  return true;
}

std::vector<Heard::View> Heard::views() const {
  const MutexLock lock(mutex_);
  std::vector<View> views;
  views.reserve(all_.size());
  for (const auto& [name, one] : all_)
    views.push_back({name, one.heard_at, one.missing(), one.failing, one.reason});
  return views;
}

void Heard::tend() {
  const Instant now = options_.clock->instant();
  const Duration passed =
      std::clamp(std::chrono::floor<Duration>(now - looked_at_), Duration(0), Duration(kMostCounted));
  looked_at_ = now;
  std::vector<Condition> conditions;
  std::vector<StoredEntry> entries;
  {
    const MutexLock lock(mutex_);
    for (auto& [name, one] : all_) {
      one.silent += passed;
      if (one.told_missing != one.missing()) {
        one.told_missing = one.missing();
        conditions.push_back(*one.told_missing ? condition(name, one, true) : over(name, kMissing));
      }
      if (one.told_failing != one.failing) {
        one.told_failing = one.failing;
        conditions.push_back(one.failing ? condition(name, one, false) : over(name, kFailing));
      }
      if (one.kept < Duration(0) || one.silent - one.kept >= kKeepEvery) entries.push_back(entry(name, one));
    }
  }
  for (Condition& condition : conditions)
    options_.tell(std::move(condition));
  if (!entries.empty()) options_.store(std::move(entries));
}

void Heard::keep() {
  std::vector<StoredEntry> entries;
  {
    const MutexLock lock(mutex_);
    for (auto& [name, one] : all_)
      entries.push_back(entry(name, one));
  }
  if (!entries.empty()) options_.store(std::move(entries));
}

Condition Heard::condition(const std::string& name, const One& one, bool missing) {
  Condition condition;
  condition.alertname = missing ? kMissing : kFailing;
  condition.labels.set("heartbeat", name);
  if (!missing) {
    condition.summary = fmt::format("{} says that something is bad there: {}", name,
                                    one.reason.empty() ? std::string("(no reason given)") : one.reason);
    return condition;
  }
  condition.summary = fmt::format(
      "Nothing is heard of {} {}; a heartbeat is expected every {}, {} late at most. What it watches may be "
      "unwatched.{}",
      name, one.heard_at ? "since " + rules::format_rfc3339(*one.heard_at) : std::string("yet"),
      rules::format_duration(one.wanted.every), rules::format_duration(one.wanted.grace),
      one.stopping_at ? fmt::format(" At {} it was asked to stop.", rules::format_rfc3339(*one.stopping_at))
                      : "");
  return condition;
}

Condition Heard::over(const std::string& name, const char* alertname) {
  Condition condition;
  condition.alertname = alertname;
  condition.labels.set("heartbeat", name);
  condition.summary = fmt::format("{} is heard again, and well.", name);
  condition.active = false;
  return condition;
}

StoredEntry Heard::entry(const std::string& name, One& one) {
  one.kept = one.silent;
  rules::Json json;
  json.set("silent", static_cast<std::int64_t>(one.silent.count()))
      .set("failing", one.failing)
      .set("reason", one.reason);
  if (one.heard_at) json.set("heard_at", rules::to_unix_ms(*one.heard_at));
  if (one.stopping_at) json.set("stopping_at", rules::to_unix_ms(*one.stopping_at));
  return {std::string(kPrefix) + name, json.dump()};
}

// What cannot be read begins anew.
void Heard::restore(One& one, const std::string& value) {
  const rules::Result<rules::Json> json = rules::Json::parse(value);
  if (!json) return;
  const auto at = [&](const char* key) {
    return (*json)[key].is_integer() ? std::optional(rules::from_stored_ms((*json)[key].integer()))
                                     : std::nullopt;
  };
  // Longer than any `every` with its `grace`: what is damaged must not overflow a sum.
  one.silent =
      std::clamp(Duration((*json)["silent"].integer()), Duration(0), Duration(std::chrono::hours(72)));
  one.failing = (*json)["failing"].boolean();
  one.reason = std::string((*json)["reason"].string());
  one.heard_at = at("heard_at");
  one.stopping_at = at("stopping_at");
  one.kept = one.silent;
}

}  // namespace logbell::engine

#include "engine/run/refusal.h"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <map>
#include <optional>
#include <string_view>
#include <thread>

#include <fmt/format.h>
#include <unistd.h>

#include "engine/run/small_file.h"
#include "rules/redact.h"
#include "rules/result.h"

namespace logbell::engine {

using rules::Result;

namespace {

constexpr std::string_view kAlertname = "PlanRefused";
constexpr rules::Duration kMinAttempt{200};

std::vector<rules::Problem> errors_of(const rules::Problems& problems) {
  std::vector<rules::Problem> errors = problems.sorted();
  errors.erase(
      std::remove_if(errors.begin(), errors.end(),
                     [](const rules::Problem& one) { return one.severity != rules::Severity::kError; }),
      errors.end());
  return errors;
}

std::string without_secrets(std::string_view text, const std::vector<rules::Secret>& secrets) {
  return rules::redact(rules::without(text, secrets));
}

std::string count(std::size_t n) {
  return n == 1 ? "1 error" : fmt::format("{} errors", n);
}

// "logbell on orders-1 (production) refuses to start: 3 errors in /etc/logbell.yaml."
std::string headline(const Refusal& refusal, std::size_t errors) {
  std::string who = "logbell";
  if (refusal.labels.has("instance")) who += fmt::format(" on {}", refusal.labels.get("instance"));
  if (refusal.labels.has("environment")) who += fmt::format(" ({})", refusal.labels.get("environment"));
  if (refusal.could_not_start) return fmt::format("{} could not start with {}.", who, refusal.path);
  return fmt::format("{} refuses its configuration: {} in {}.", who, count(errors), refusal.path);
}

// The longest first: one may be a part of another.
void sort(std::vector<rules::Secret>& secrets) {
  std::sort(secrets.begin(), secrets.end(), [](const rules::Secret& a, const rules::Secret& b) {
    return a.reveal().size() > b.reveal().size();
  });
}

// Which refusal this is, so that the same one is not told again and again.
std::string identity(const Refusal& refusal) {
  std::string all = refusal.path + '\0' + refusal.configuration;
  for (const rules::Problem& problem : errors_of(refusal.problems))
    all += '\0' + (problem.identity.empty() ? problem.format() : problem.identity);
  return rules::format_fingerprint(rules::hash_bytes(all));
}

// Who was told what, and when: lines of "<hash> <milliseconds> told|failed".
class Memory {
 public:
  struct Entry {
    rules::Timestamp at;
    bool told = false;
  };

  // What cannot be read is forgotten: then people are told once more.
  explicit Memory(const std::string& state_dir) : state_dir_(state_dir) {
    if (state_dir.empty()) return;
    const std::string text = read_small_file(state_dir, kMemory, kRefusalRemembered * 64);
    std::string_view rest = text;
    while (!rest.empty()) {
      const std::size_t end = std::min(rest.find('\n'), rest.size());
      read_line(rest.substr(0, end));
      rest.remove_prefix(std::min(end + 1, rest.size()));
    }
  }

  std::optional<Entry> find(const std::string& hash) const {
    const auto found = entries_.find(hash);
    if (found == entries_.end()) return std::nullopt;
    return found->second;
  }
  void put(const std::string& hash, Entry entry) { entries_[hash] = entry; }

  Result<> keep() const { return keep_small_file(state_dir_, kMemory, format()); }

 private:
  static constexpr const char* kMemory = "refused";
  void read_line(std::string_view line) {
    const std::size_t first = line.find(' ');
    const std::size_t second = line.rfind(' ');
    if (first == std::string_view::npos || first == second) return;
    const std::string_view number = line.substr(first + 1, second - first - 1);
    std::int64_t ms = 0;
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), ms);
    if (error != std::errc() || end != number.data() + number.size()) return;
    entries_[std::string(line.substr(0, first))] = {rules::from_unix_ms(ms),
                                                    line.substr(second + 1) == "told"};
  }
  std::string format() const {
    std::vector<std::pair<rules::Timestamp, std::string>> lines;
    lines.reserve(entries_.size());
    for (const auto& [hash, entry] : entries_) {
      lines.emplace_back(entry.at, fmt::format("{} {} {}\n", hash, rules::to_unix_ms(entry.at),
                                               entry.told ? "told" : "failed"));
    }
    std::sort(lines.rbegin(), lines.rend());
    if (lines.size() > kRefusalRemembered) lines.resize(kRefusalRemembered);
    std::string text;
    for (const auto& line : lines)
      text += line.second;
    return text;
  }

  std::string state_dir_;
  std::map<std::string, Entry> entries_;
};

// That it could not start was told to whoever is due, says the first of these that is from within the hour;
// else it is set, before anybody is told, for the next start may come at any moment.
class Marks {
 public:
  Marks(const Refusal& refusal, const std::string& id) {
    if (!refusal.state_dir.empty()) paths_.push_back(refusal.state_dir + "/logbell/start_failed");
    // One for all users and configurations of the machine.
    if (!refusal.spare_memory.empty())
      paths_.push_back(fmt::format("{}/logbell-start-failed-{}-{}", refusal.spare_memory, ::geteuid(), id));
  }
  bool told(rules::Timestamp now) const {
    return std::any_of(paths_.begin(), paths_.end(), [&](const std::string& path) {
      const std::optional<rules::Timestamp> at = read_mark(path);
      return at && *at <= now && now - *at < kRefusalRepeat;
    });
  }
  bool set(rules::Timestamp now) const {
    return std::any_of(paths_.begin(), paths_.end(),
                       [&](const std::string& path) { return set_mark(path, now).has_value(); });
  }

 private:
  std::vector<std::string> paths_;
};

RefusalReport::One tell(const rules::SinkSpec& spec, const sinks::SinkConfig& config, const Refusal& refusal,
                        const Clock& clock, rules::Instant deadline) {
  RefusalReport::One one{spec.name, RefusalReport::Outcome::kFailed, ""};
  sinks::SinkContext context;
  context.external_url = refusal.external_url;
  context.environment = refusal.labels.get("environment");
  for (std::size_t lane = 0; lane < config.lanes(); ++lane) {
    sinks::Attempt attempt;
    attempt.now = clock.now();
    attempt.timeout =
        std::min(kRefusalTimeout, std::chrono::floor<rules::Duration>(deadline - clock.instant()));
    if (attempt.timeout < kMinAttempt) {
      if (one.detail.empty()) one.detail = "no time was left";
      return one;
    }
    const std::string name = lane < spec.lanes.size() ? spec.lanes[lane] : spec.name;
    const std::unique_ptr<sinks::Sink> sink = config.build(lane, context);
    const sinks::Outcome outcome =
        sink->deliver(refusal_notification(refusal, spec.name, name, attempt.now), attempt);
    if (outcome.kind == sinks::Outcome::Kind::kDelivered) {
      one.outcome = RefusalReport::Outcome::kTold;
      one.detail = outcome.receipt;
      return one;
    }
    one.detail = fmt::format("{}: {}", to_string(outcome.reason), outcome.detail);
  }
  return one;
}

}  // namespace

std::size_t RefusalReport::told() const {
  return static_cast<std::size_t>(std::count_if(
      sinks.begin(), sinks.end(), [](const One& one) { return one.outcome == Outcome::kTold; }));
}

rules::Notification refusal_notification(const Refusal& refusal, const std::string& sink,
                                         const std::string& lane, rules::Timestamp now) {
  const std::vector<rules::Problem> errors = errors_of(refusal.problems);
  const std::string summary = rules::clean_text(
      without_secrets(headline(refusal, errors.size()), refusal.secrets), kRefusalQuotedBytes);
  std::string text = summary + " " + refusal.consequence;
  for (std::size_t i = 0; i < std::min(errors.size(), kRefusalQuoted); ++i) {
    text +=
        "\n" + rules::clean_text(without_secrets(errors[i].format(), refusal.secrets), kRefusalQuotedBytes);
  }
  if (errors.size() > kRefusalQuoted) text += fmt::format("\nand {} more", errors.size() - kRefusalQuoted);

  const std::string id = identity(refusal);
  rules::Notification notification;
  // Of each instance, and each hour, its own: whoever knows a key takes the next for the same.
  notification.key = fmt::format("refused/{}/{}",
                                 rules::format_fingerprint(rules::hash_bytes(fmt::format(
                                     "{}\n{}\n{}", id, refusal.labels.format(), rules::to_unix_ms(now)))),
                                 lane);
  notification.sink = sink;
  notification.lane = lane;
  notification.reason = rules::NotifyReason::kRefused;
  notification.group_key = "refused/" + id;
  notification.group_labels.set("alertname", kAlertname);
  notification.created_at = now;
  notification.caused_at = now;
  notification.priority = 0;
  notification.text = text;
  rules::Alert alert;
  alert.labels = refusal.labels;
  alert.labels.set("alertname", kAlertname);
  alert.labels.set("severity", "critical");
  alert.annotations = {{"summary", summary}, {"description", text}};
  alert.state = rules::AlertState::kFiring;
  alert.value = static_cast<double>(errors.size());
  alert.active_at = now;
  alert.fired_at = now;
  alert.built_in = true;
  notification.alerts.push_back(std::move(alert));
  return notification;
}

Condition reload_succeeded() {
  Condition condition;
  condition.alertname = "ConfigReloadFailed";
  condition.summary = "The configuration on disk runs.";
  condition.active = false;
  return condition;
}

Condition reload_failed(const Refusal& refusal) {
  std::vector<rules::Secret> secrets = refusal.secrets;
  sort(secrets);
  const std::vector<rules::Problem> errors = errors_of(refusal.problems);
  const auto quoted = [&](const std::string& text) {
    return rules::clean_text(without_secrets(text, secrets), kRefusalQuotedBytes);
  };
  Condition condition = reload_succeeded();
  condition.active = condition.renews = true;
  condition.summary = quoted(headline(refusal, errors.size())) + " " + refusal.consequence;
  if (!errors.empty()) condition.summary += " " + quoted(errors.front().format());
  if (errors.size() > 1) condition.summary += fmt::format("; and {} more", errors.size() - 1);
  return condition;
}

RefusalReport tell_refusal(const SalvagedSinks& sinks, const Refusal& refusal, const Clock& clock) {
  Refusal hidden = refusal;
  for (const auto& sink : sinks) {
    const std::vector<rules::Secret> own = sink.second->secrets();
    hidden.secrets.insert(hidden.secrets.end(), own.begin(), own.end());
  }
  sort(hidden.secrets);

  Memory memory(refusal.state_dir);
  const std::string id = identity(refusal);
  const rules::Timestamp began = clock.now();
  const rules::Instant deadline = clock.instant() + kRefusalTotal;
  RefusalReport report;
  std::vector<std::string> hashes;
  std::vector<std::size_t> due;
  for (const auto& [spec, config] : sinks) {
    RefusalReport::One one{spec.name, RefusalReport::Outcome::kFailed, ""};
    // With another destination it is another sink, and has heard of nothing.
    const std::string whom = id + '\0' + spec.name + '\0' + config->destination();
    hashes.push_back(rules::format_fingerprint(rules::hash_bytes(whom)));
    const std::optional<Memory::Entry> before = memory.find(hashes.back());
    // A time to come is a clock that was set: it says nothing.
    const rules::Duration ago = before && before->at <= began ? began - before->at : rules::Duration::max();
    if (!spec.tells_people) {
      one.outcome = RefusalReport::Outcome::kTellsNobody;
    } else if (before && before->told && ago < kRefusalRepeat) {
      one.outcome = RefusalReport::Outcome::kToldBefore;
    } else if (before && !before->told && ago < kRefusalRetry) {
      one.outcome = RefusalReport::Outcome::kTriedBefore;
    } else {
      due.push_back(report.sinks.size());
    }
    report.sinks.push_back(std::move(one));
  }

  const Marks marks(refusal, id);
  bool marked = false;
  if (refusal.could_not_start && !due.empty()) {
    for (const std::size_t i : due)
      memory.put(hashes[i], {began, false});
    if (const Result<> kept = memory.keep(); !kept) {
      report.not_kept = kept.error().message;
      if (marks.told(began)) {
        for (const std::size_t i : std::exchange(due, {}))
          report.sinks[i].outcome = RefusalReport::Outcome::kToldBefore;
      } else {
        // Where nothing can be kept at all, better each start is told than none.
        marked = marks.set(began);
      }
    }
  }

  // One that hangs must not use up the others' time. Each writes to its own place.
  std::atomic<std::size_t> next{0};
  const auto work = [&] {
    for (std::size_t i = next++; i < due.size(); i = next++) {
      const auto& [spec, config] = sinks[due[i]];
      report.sinks[due[i]] = tell(spec, *config, hidden, clock, deadline);
    }
  };
  std::vector<std::thread> threads;
  for (std::size_t i = 1; i < std::min(due.size(), kRefusalThreads); ++i)
    threads.emplace_back(work);
  work();
  for (std::thread& thread : threads)
    thread.join();

  // A mark does not say whom: only if it is nobody, all are tried again.
  if (marked && report.told() == 0) marks.set(began - kRefusalRepeat + kRefusalRetry);
  if (due.empty()) return report;
  for (const std::size_t i : due) {
    memory.put(hashes[i], {began, report.sinks[i].outcome == RefusalReport::Outcome::kTold});
  }
  const Result<> kept = memory.keep();
  if (!kept) report.not_kept = kept.error().message;
  return report;
}

}  // namespace logbell::engine

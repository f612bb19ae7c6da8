// What the store holds as bytes: notifications, alerts, positions, windows, groups, counters. Whatever is in
// them is refused or read; what was read is written and read again as the same; the core goes on from it,
// within its bounds, and after a restart with what it then wrote says the same.
//
// First line: alone, or the entries of a life in which an alert fires are there before. Then entries, each a
// line: the key, a blank, the value. $0, $1 … in a key are the identities of the patterns and rules.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/core/alerts.h"
#include "engine/core/pipeline.h"
#include "engine/core/window.h"
#include "engine/io/file_source.h"
#include "engine/run/config.h"
#include "engine/run/follower.h"
#include "rules/json.h"
#include "rules/notification.h"
#include "rules/result.h"
#include "tests/fuzz/support.h"

namespace {

using namespace logbell;
using rules::Json;
using State = std::map<std::string, std::string>;

constexpr rules::Timestamp kNow{rules::Duration(1'777'629'600'000)};  // 2026-05-01T10:00:00Z

constexpr const char* kConfig = R"(
environment: production
sources:
  - {name: api, files: [/nonexistent/api.log]}
patterns:
  queue_error:
    match: 'queue (?P<queue>\S+)'
    labels: [queue]
    value: queue
    metric: {name: queue_errors, type: histogram, buckets: [1, 5]}
  received: {match: received}
rules:
  - alert: QueueUnreachable
    expr: sum by (queue) (count_over_time(queue_error[1m])) >= 3
    for: 10s
    keep_firing_for: 1m
    labels: {severity: critical}
    annotations: {summary: 'queue {{ $labels.queue }}: {{ $value }}'}
  - alert: NoDataReceived
    expr: count_over_time(received[2h]) == 0
    labels: {severity: warning}
  - alert: NewQueue
    expr: first_seen("queue", queue_error[1h])
  - alert: NewKind
    expr: new_template(queue_error[1h])
  - alert: ManyQueues
    expr: distinct_over_time("queue", queue_error[10m]) > 100
sinks:
  ops: {slack: {webhook_url: '${SLACK_WEBHOOK_URL}'}}
  am: {alertmanager: {url: 'http://127.0.0.1:9093'}}
route:
  sinks: [ops, am]
  group_by: [alertname]
)";

std::shared_ptr<const rules::Plan> load_plan() {
  engine::ConfigWorld world;
  world.env = [](const std::string&) -> std::optional<std::string> {
    return "https://hooks.slack.com/services/TABCDEF12/BABCDEF12/abcdefghijklmnopqrstuvwx";
  };
  world.read_file = [](const std::string&) -> rules::Result<std::string> { return kConfig; };
  world.glob = [](const std::string&) { return std::vector<std::string>{}; };
  world.readable_by_others = [](const std::string&) { return false; };
  world.hostname = "fuzz";
  world.now = kNow;
  rules::Problems problems;
  const auto config = engine::load_config("logbell.yaml", world, {}, problems);
  for (const rules::Problem& problem : problems.sorted()) {
    if (config == nullptr) rules::check_failed(problem.reason.c_str(), __FILE__, __LINE__);
  }
  return config->plan;
}

void write(const engine::Tick& tick, State& state) {
  for (const engine::StoredEntry& entry : tick.entries) {
    if (entry.value) {
      state[entry.key] = *entry.value;
    } else {
      state.erase(entry.key);
    }
  }
}

std::vector<engine::StoredEntry> entries_of(const State& state, std::string_view prefix) {
  std::vector<engine::StoredEntry> entries;
  for (const auto& [key, value] : state) {
    if (key.starts_with(prefix)) entries.push_back({key, value});
  }
  return entries;
}

engine::MatchBatch batch_at(rules::Timestamp at) {
  engine::MatchBatch batch;
  batch.generation = 1;
  batch.read_at = at;
  engine::SourceStatus status;
  status.watermark = at;
  status.read_to_end_at = at;
  status.readable = true;
  status.watched_from = kNow - std::chrono::hours(3);
  batch.sources.push_back(status);
  return batch;
}

// A life in which queue_error has rung, and another is pending.
State live(const std::shared_ptr<const rules::Plan>& plan) {
  State state;
  engine::Pipeline pipeline(plan, {});
  for (int i = 0; i < 30; ++i) {
    engine::MatchBatch batch = batch_at(kNow + std::chrono::seconds(i));
    batch.sequence = static_cast<std::uint64_t>(i);
    batch.lines = {"2026-05-01T10:00:00Z ERROR queue orders is gone"};
    batch.matches.push_back({.pattern = 0,
                             .line = 0,
                             .at = batch.read_at,
                             .value = 1,
                             .labels = {i < 24 ? "orders" : "invoices"},
                             .keys = {i < 24 ? "ERROR queue orders is gone" : "ERROR queue <*> was late",
                                      i < 24 ? "orders" : "invoices"}});
    batch.counters.push_back({"logbell_source_lines_total", {{"source", "api"}}, 1});
    pipeline.ingest(batch);
    write(pipeline.tick(batch.read_at), state);
  }
  state["pos/file/api/fd00-1a"] =
      R"({"path":"/var/log/api.log","dev":"fd00","ino":"1a","born":1,"off":120,"mtime":1})";
  return state;
}

// The identity of queue_error, then those of the other patterns and of the rules, in the order of their keys.
std::vector<std::string> identities(const State& state) {
  std::vector<std::string> found;
  for (const std::string_view prefix : {"core/w/", "core/p/", "core/a/"}) {
    for (const engine::StoredEntry& entry : entries_of(state, prefix)) {
      const std::string id = entry.key.substr(prefix.size(), 16);
      if (std::find(found.begin(), found.end(), id) == found.end()) found.push_back(id);
    }
  }
  return found;
}

std::string with_identities(std::string_view key, const std::vector<std::string>& ids) {
  std::string out;
  for (std::size_t i = 0; i < key.size(); ++i) {
    const std::size_t which = i + 1 < key.size() ? static_cast<std::size_t>(key[i + 1] - '0') : ids.size();
    if (key[i] == '$' && which < ids.size()) {
      out += ids[which];
      ++i;
    } else {
      out += key[i];
    }
  }
  return out;
}

// --- single values

void check_value(const std::string& value) {
  if (const auto read = rules::decode_notification(value)) {
    const std::string once = rules::encode(*read);
    const auto again = rules::decode_notification(once);
    LOGBELL_CHECK(again.has_value() && rules::encode(*again) == once);
    LOGBELL_CHECK(again->alerts.size() == read->alerts.size() && !again->key.empty());
  } else {
    LOGBELL_CHECK(!read.error().message.empty());
  }
  if (const auto read = engine::decode_position(value)) {
    const std::string once = engine::encode(*read);
    const auto again = engine::decode_position(once);
    LOGBELL_CHECK(again.has_value() && engine::encode(*again) == once);
    LOGBELL_CHECK(again->offset == read->offset && again->id.inode == read->id.inode);
  } else {
    LOGBELL_CHECK(!read.error().message.empty());
  }
  const auto json = Json::parse(value);
  if (!json) return;
  LOGBELL_CHECK(Json::parse(json->dump()).has_value());
  if (const auto read = rules::alert_from_json(*json)) {
    const auto again = rules::alert_from_json(rules::to_json(*read));
    LOGBELL_CHECK(again.has_value() && rules::to_json(*again).dump() == rules::to_json(*read).dump());
  }
  const engine::ActiveAlert active = engine::active_alert_from_json(*json);
  LOGBELL_CHECK(engine::to_json(engine::active_alert_from_json(engine::to_json(active))).dump() ==
                engine::to_json(active).dump());
}

// --- a whole state

std::vector<std::string> said_by(const engine::Pipeline& pipeline) {
  std::vector<std::string> said;
  for (const engine::AlertView& view : pipeline.alerts())
    said.push_back(rules::to_json(view.alert).dump());
  std::sort(said.begin(), said.end());
  return said;
}

void check_pipeline(const std::shared_ptr<const rules::Plan>& plan, State state) {
  const rules::Timestamp at = kNow + std::chrono::seconds(30);
  engine::Pipeline first(plan, entries_of(state, "core/"));
  write(first.tick(at), state);
  first.ingest(batch_at(at));
  const engine::Tick tick = first.tick(at);
  write(tick, state);
  for (const rules::Notification& notification : tick.notifications) {
    LOGBELL_CHECK(!notification.key.empty() && plan->sinks.count(notification.sink) == 1);
    LOGBELL_CHECK(rules::decode_notification(rules::encode(notification)).has_value());
  }
  std::size_t bytes = 0;
  for (const auto& [key, value] : state)
    bytes += key.size() + value.size();
  LOGBELL_CHECK(bytes < (1 << 20));
  static_cast<void>(first.next_instant());
  static_cast<void>(first.metrics());
  static_cast<void>(first.rules());

  engine::Pipeline second(plan, entries_of(state, "core/"));
  second.ingest(batch_at(at));
  State written = state;
  write(second.tick(at), written);
  LOGBELL_CHECK(said_by(second) == said_by(first));

  // Life goes on.
  const rules::Timestamp later = at + std::chrono::hours(3);
  second.ingest(batch_at(later));
  write(second.tick(later), written);
  second.replace_plan(plan, later);
  static_cast<void>(second.tick(later));
}

void check_window(const std::shared_ptr<const rules::Plan>& plan, const State& state) {
  std::vector<rules::KeyedNeed> needs;
  for (const rules::AlertingRule& rule : plan->rules) {
    for (const rules::Expr* call : rules::range_calls(*rule.expr)) {
      if (call->asks_keys()) needs.push_back(call->keyed_need());
    }
  }
  engine::PatternWindow window(plan->patterns[0], std::chrono::minutes(1), true, needs);
  std::size_t most = 0;
  for (const auto& [key, value] : state) {
    // Whosever it was: "core/w/", 16 digits, "/".
    if (!key.starts_with("core/w/") || key.size() < 24) continue;
    window.restore("core/w/", {"core/w/" + key.substr(24), value});
    most += value.size();
  }
  window.restored();
  LOGBELL_CHECK(window.points() <= most);
  std::vector<engine::StoredEntry> out;
  window.save("core/w/", out);
  static_cast<void>(window.forget(kNow, {}));
  window.save("core/w/", out);
}

void check_positions(const std::shared_ptr<const rules::Plan>& plan, const State& state) {
  engine::Ledger ledger;
  engine::Follower follower(ledger, -1, false);
  const std::vector<engine::StoredEntry> entries = entries_of(state, "pos/");
  follower.restore(entries);
  std::size_t refused = 0;
  for (const engine::StoredEntry& entry : entries) {
    if (entry.key.starts_with("pos/file/") && !engine::decode_position(*entry.value)) ++refused;
  }
  // Each that cannot be read is said, and erased.
  LOGBELL_CHECK(ledger.take_notes().size() == refused);
  follower.replace_plan(plan);
  follower.look(kNow, rules::Instant{}, true);
  std::size_t erased = 0;
  for (const engine::StoredEntry& entry : follower.take_entries())
    erased += entry.value ? 0 : 1;
  LOGBELL_CHECK(erased >= refused);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const std::shared_ptr<const rules::Plan> kPlan = load_plan();
  static const State kLived = live(kPlan);
  static const std::vector<std::string> kIdentities = identities(kLived);
  const auto [line, rest] = fuzz::split_at(fuzz::text_of(data, size), '\n');
  State state;
  if (!fuzz::Words(line).has("alone")) state = kLived;
  for (const std::string_view entry : fuzz::split_all(rest, '\n')) {
    const auto [key, value] = fuzz::split_at(entry, ' ');
    check_value(std::string(value));
    state[with_identities(key, kIdentities)] = value;
  }
  check_pipeline(kPlan, state);
  check_window(kPlan, state);
  check_positions(kPlan, state);
  return 0;
}

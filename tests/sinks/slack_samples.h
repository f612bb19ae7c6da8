// The range of notifications that Slack's messages are tried with, here and against Slack's own types.
//
// Test only.
#pragma once

#include <string>
#include <vector>

#include "tests/sinks/fixtures.h"

namespace logbell::tests {

struct SlackSample {
  std::string name;
  rules::Notification notification;
  sinks::Attempt attempt;
  bool golden = false;  // kept as a file to be read by people
};

// Text of what must not be cut in two, shifted so that every bound falls once on each of its UTF-16 units.
inline std::vector<SlackSample> slack_cut_samples() {
  struct Row {
    const char* story;
    std::string unit;
    std::size_t shifts;  // its UTF-16 units, as they are sent
  };
  const std::vector<Row> rows = {{"skin tone", "👍🏽", 4},
                                 {"family", "👨‍👩‍👧", 8},
                                 {"accent", "e\u0301", 2},
                                 {"right-to-left", "שלום ", 5},
                                 {"escaped in mrkdwn", "<&>", 13}};
  std::vector<SlackSample> all;
  for (const Row& row : rows) {
    std::string text;
    while (text.size() < 5000)
      text += row.unit;
    for (std::size_t shift = 0; shift < row.shifts; ++shift) {
      const std::string shifted = std::string(shift, 'x') + text;
      rules::Alert alert = queue_alert(shifted);
      for (const char* label : {"alertname", "service", "instance", "severity"})
        alert.labels.set(label, shifted);
      alert.annotations.emplace_back("description", shifted);
      alert.expr = shifted;
      alert.first_line->text = shifted;
      alert.last_line->text = shifted + "x";
      alert.top_values = {{shifted, {{shifted, 7}}}};
      const std::string name = "cut, " + std::string(row.story) + " + " + std::to_string(shift);
      all.push_back({name, notification({alert}), attempt()});
      rules::Alert other = alert;
      other.labels.set("queue", "x" + shifted);
      all.push_back({name + ", group", notification({alert, other}), attempt()});
      all.push_back({name + ", text", text_notification(rules::NotifyReason::kSummary, shifted), attempt()});
    }
  }
  return all;
}

inline std::vector<SlackSample> slack_samples() {
  using rules::NotifyReason;
  std::vector<SlackSample> all;
  const auto add = [&](std::string name, rules::Notification n, sinks::Attempt a, bool golden = false) {
    all.push_back({std::move(name), std::move(n), std::move(a), golden});
  };
  add("firing", notification(), attempt(), true);

  sinks::Attempt later = attempt();
  later.now = start() + std::chrono::minutes(12) + std::chrono::seconds(1);
  add("resolved", resolved_notification(), later, true);

  std::vector<rules::Alert> group;
  for (int i = 0; i < 14; ++i)
    group.push_back(queue_alert("orders-" + std::to_string(i)));
  group[13].state = rules::AlertState::kResolved;
  group[13].resolved_at = start() + std::chrono::minutes(1);
  add("group", notification(group, NotifyReason::kNewAlerts), attempt(), true);

  rules::Notification doubtful = notification({queue_alert()}, NotifyReason::kRepeat);
  doubtful.fallback_for = "oncall";
  doubtful.changes = 3;
  sinks::Attempt late = attempt();
  late.number = 4;
  late.maybe_sent = true;
  late.now = start() + std::chrono::hours(1);
  add("doubtful", doubtful, late, true);

  // Each note on a delivery also alone.
  rules::Notification instead = notification();
  instead.fallback_for = "oncall";
  add("fallback", instead, attempt());
  sinks::Attempt again = attempt();
  again.maybe_sent = true;
  add("maybe_sent", notification(), again);
  add("delayed", notification(), later);
  rules::Notification restless = notification();
  restless.changes = 7;
  add("changed", restless, attempt());
  std::vector<rules::Alert> sixty;
  for (int i = 0; i < 60; ++i)
    sixty.push_back(queue_alert("orders-" + std::to_string(i)));
  add("sixty", notification(sixty, NotifyReason::kNewAlerts), attempt());

  add("refused",
      text_notification(NotifyReason::kRefused,
                        "logbell.yaml:12:5: rule \"A\": reaches no sink\nlogbell.yaml:14:1: …"),
      attempt(), true);
  add("summary",
      text_notification(NotifyReason::kSummary, "QueueUnreachable fired 09:10 to 09:40 (queue=orders)"),
      attempt());
  add("empty", notification({}), attempt());
  add("empty_text", text_notification(NotifyReason::kSummary, "\x01"), attempt());

  rules::Alert bare;
  bare.labels = {{"alertname", "A"}};
  bare.state = rules::AlertState::kFiring;
  bare.fired_at = start();
  add("bare", notification({bare}), attempt());
  rules::Alert built_in = bare;
  built_in.built_in = true;
  built_in.annotations = {{"summary", "No file of source api can be read"}};
  add("built_in", notification({built_in}), attempt());
  rules::Alert removed = bare;
  removed.state = rules::AlertState::kResolved;
  removed.resolved_at = start() + std::chrono::seconds(5);
  removed.resolve_reason = "rule removed";
  add("removed", notification({removed}, NotifyReason::kAllResolved), attempt());
  rules::Alert nameless;
  nameless.state = rules::AlertState::kFiring;
  nameless.fired_at = rules::kLongAgo;
  nameless.first_line = rules::SampleLine{start(), ""};
  add("nameless", notification({nameless, nameless}), attempt());

  std::size_t number = 0;
  for (const std::string& text : hostile_texts()) {
    const std::string which = " " + std::to_string(number++);  // its place in hostile_texts()
    std::string much;
    while (much.size() < 6000)
      much += text + " ";
    rules::Alert alert = queue_alert(much);
    alert.labels.set("alertname", much);
    alert.labels.set("service", much);
    alert.labels.set("instance", much);
    alert.labels.set("severity", much);
    alert.annotations.emplace_back("description", much);
    alert.annotations.emplace_back("dashboard_url", "https://grafana.example.com/" + text);
    alert.expr = much;
    alert.first_line->text = much;
    alert.last_line->text = much + "x";
    alert.top_values.clear();
    // One label and one value more than a message shows; many more would be gigabytes in the group below.
    for (int i = 0; i < 4; ++i)
      alert.top_values.push_back({much, std::vector(6, std::pair<std::string, std::uint64_t>(much, 7))});
    rules::Notification n = notification({alert});
    n.key = much;
    n.group_labels = {{"a", much}};
    n.fallback_for = much;
    add("hostile_and_long" + which, n, late);
    std::vector<rules::Alert> many(60, alert);
    for (std::size_t i = 1; i < many.size(); ++i)
      many[i].top_values.resize(1);
    add("hostile_group" + which, notification(std::move(many)), late);
    add("hostile_text" + which, text_notification(NotifyReason::kSummary, much), late);
  }
  for (SlackSample& sample : slack_cut_samples())
    all.push_back(std::move(sample));
  return all;
}

}  // namespace logbell::tests

// Alert: one firing (or pending, or resolved) instance of a rule, and the step from one state to another.
//
// Values; any thread.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "rules/json.h"
#include "rules/labels.h"
#include "rules/time.h"

namespace logbell::rules {

enum class AlertState { kInactive, kPending, kFiring, kResolved };
std::string_view to_string(AlertState state);

// A line from the log that speaks for the alert: redacted and cut before it gets here.
struct SampleLine {
  Timestamp at;
  std::string text;
  friend bool operator==(const SampleLine&, const SampleLine&) = default;
};
inline constexpr std::size_t kMaxSampleBytes = 512;  // two of them and the rest fit Slack's 3000 characters

struct Alert {
  Labels labels;  // alertname, instance, environment and the configuration's labels included
  std::vector<std::pair<std::string, std::string>> annotations;  // rendered
  AlertState state = AlertState::kInactive;
  double value = 0;
  Timestamp active_at;                   // pending since
  Timestamp fired_at;                    // startsAt; valid from kFiring on
  std::optional<Timestamp> resolved_at;  // endsAt
  std::string expr;                      // canonical, for whoever reads the message
  std::optional<SampleLine> first_line;
  std::optional<SampleLine> last_line;
  // The most frequent values of labels that the expression summed away: ("queue", [("orders", 12), …]).
  std::vector<std::pair<std::string, std::vector<std::pair<std::string, std::uint64_t>>>> top_values;
  bool built_in = false;
  Fingerprint rule = 0;  // AlertingRule::identity() of the rule that made it; 0: built in, or not known
  std::string resolve_reason;  // "" = the condition ended; "rule removed", …

  Fingerprint fingerprint() const { return labels.fingerprint(); }
  std::string_view name() const { return labels.get("alertname"); }
  std::string_view annotation(std::string_view key) const;
  bool is_firing() const { return state == AlertState::kFiring; }
  friend bool operator==(const Alert&, const Alert&) = default;
};

struct Transition {
  AlertState from = AlertState::kInactive;
  AlertState to = AlertState::kInactive;
  Timestamp at;  // event time
  Alert alert;   // as it is after the step
};

Json to_json(const Alert& alert);
Result<Alert> alert_from_json(const Json& json);

}  // namespace logbell::rules

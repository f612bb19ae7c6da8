// DrillSchedule: which drills are due without anybody asking, and which proofs have become too old (DESIGN.md
// §7).
//
// Chat hears one message a day; what pages, one a week in working hours; what was never proven, as soon as
// that may be. Owned by the main thread; time is handed in.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "engine/core/pipeline.h"
#include "engine/run/drill.h"
#include "engine/run/drill_settings.h"
#include "engine/run/proof.h"
#include "rules/plan.h"
#include "rules/time.h"
#include "rules/time_interval.h"

namespace logbell::engine {

// Monday to Friday, 9 to 17 in `zone`.
rules::TimeInterval working_hours(const std::string& zone);

// Whether the schedule drills it, and a proof is asked for: not of what tells nobody, has `drill: false`, or
// is reached only with labels that no drill has had yet.
bool is_asked_for(const rules::Plan& plan, const DrillSettings& settings, const ProofView& view);

class DrillSchedule {
 public:
  // After a start: whoever starts again and again drills nobody, and a deploy's own `drill --wait` comes
  // first.
  static constexpr rules::Duration kFirst{std::chrono::minutes(5)};
  // What failed, or did not end, is not drilled again sooner: the alert about it stands.
  static constexpr rules::Duration kAgain{std::chrono::hours(1)};
  // What has no receipt at all for so long after a start is told.
  static constexpr rules::Duration kUnprovenAfter{std::chrono::hours(24)};

  explicit DrillSchedule(rules::Timestamp started, rules::Duration first = kFirst)
      : started_(started), first_(first) {}

  // One request a sink that is due, each in one message there.
  std::vector<DrillDesk::Request> due(const rules::Plan& plan, const DrillSettings& settings,
                                      const std::vector<ProofView>& proofs, rules::Timestamp now);
  // ProofExpired for each sink that tells people: whether some rule has no recent receipt there; or where
  // what was drilled was found there once, it has not been for as long as that is worth something; or where
  // whoever reads a message can say so, nobody has.
  std::vector<Condition> expired(const rules::Plan& plan, const DrillSettings& settings,
                                 const std::vector<ProofView>& proofs, rules::Timestamp now) const;

 private:
  const rules::Timestamp started_;
  const rules::Duration first_;
  std::map<std::string, rules::Timestamp> drilled_at_;  // by sink, in this process
  // Conditional ones without a proof, which one drill has been asked for: if it knew of no line, so will the
  // next.
  std::set<std::pair<rules::Fingerprint, std::string>> tried_;
};

}  // namespace logbell::engine

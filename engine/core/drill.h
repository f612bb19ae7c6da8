// Drill: what a rule would say if it fired now, to whom, by the way that its alerts really take (DESIGN.md
// §7).
//
// A shadow core: a dispatcher of its own over the live plan, so that no window, alert or group of the real
// one moves. Whether a rule's arithmetic is right is for `test` to say: here the rule simply fires. Pure.
#pragma once

#include <cstddef>
#include <set>
#include <string>
#include <vector>

#include "rules/alert.h"
#include "rules/labels.h"
#include "rules/notification.h"
#include "rules/plan.h"
#include "rules/time.h"

namespace logbell::engine {

// A rule that the drill sets firing, and the line that made it.
struct DrillFiring {
  std::size_t rule = 0;   // index into Plan::rules
  rules::Labels element;  // of its result, as far as the line tells
  rules::SampleLine line;
  std::set<std::string> sinks = {};  // of all that would be told, only these; empty: each
};

// What became of them.
struct DrillTold {
  // One message a sink and lane, as long as its alerts fit; where what fires stays open, one more that ends
  // it, to be sent after it. All have `drill` set, keys made of the drill and the lane, and on each alert a
  // label `drill`, so that no end of a drill ever resolves a real alert. Who stands in for a sink that is
  // told is told as well, and that it is for that, unless it hears of the rule anyway.
  std::vector<rules::Notification> notifications;
  // Rules whose alerts go nowhere just now.
  struct Untold {
    std::size_t rule = 0;  // index into Plan::rules
    std::string why;       // muted, `sinks: none`
    bool lost = false;     // neither: its way is broken
  };
  std::vector<Untold> untold;
};

// What an element of the rule's result looks like when a pattern with these labels has matched: what the
// expression keeps of them.
rules::Labels drill_element(const rules::Plan& plan, const rules::AlertingRule& rule,
                            const rules::Labels& matched);

// `part`: of a drill whose lines come in several goes, from 0; keys are of their own. `only`: no sinks but
// these; empty: all. `read_at`: wall time at which the lines came in.
DrillTold drill(const rules::Plan& plan, const std::string& id, std::size_t part,
                const std::vector<DrillFiring>& firings, const std::set<std::string>& only,
                rules::Timestamp read_at, rules::Timestamp now);

}  // namespace logbell::engine

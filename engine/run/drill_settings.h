// DrillSettings: what a configuration says of drills. Value; any thread.
#pragma once

#include <set>
#include <string>

#include "rules/time.h"

namespace logbell::engine {

// `drills:` of the configuration.
struct DrillSettings {
  bool scheduled = true;  // `drills: none`: only on demand
  rules::Duration every{std::chrono::hours(24)};
  // Of what pages; a receipt is believed for a week, so it comes before that has passed.
  rules::Duration pages_every{std::chrono::hours(24 * 7)};
  std::string hours;            // the time interval in which what pages may be drilled; "": see below
  std::set<std::string> never;  // sinks with `drill: false`

  friend bool operator==(const DrillSettings&, const DrillSettings&) = default;
};

}  // namespace logbell::engine

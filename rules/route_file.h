// The route tree and the time intervals from YAML to compiled values, in Alertmanager's syntax.
//
// Pure; one thread while a configuration is compiled.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "rules/fields.h"
#include "rules/route.h"
#include "rules/time_interval.h"
#include "rules/yaml.h"

namespace logbell::rules {

// The value of `time_intervals:`. What is wrong is left out of the map, its name kept, so that a route that
// names it is not blamed too.
struct TimeIntervals {
  std::map<std::string, TimeInterval> by_name;
  std::vector<std::string> names;
};
TimeIntervals read_time_intervals(const yaml::Node& list, Reading& reading);

// One node's `sinks:`, as written: for problems that are found once the rules are known.
struct RouteSink {
  std::string route;  // Route::id
  std::string sink;
  Place place;
};

// The value of `route:`, flattened. `sinks` collects every name written in it.
Route read_route(const yaml::Node& node, const TimeIntervals& intervals, Reading& reading,
                 std::vector<RouteSink>& sinks);

// Whether the node's intervals let nothing through at any minute of the 366 days from `now` on.
bool is_always_muted(const RouteOptions& options, const std::map<std::string, TimeInterval>& intervals,
                     Timestamp now);

}  // namespace logbell::rules

// Route: Alertmanager's tree. Which sinks hear of an alert, how it is grouped, and when.
//
// Immutable after load; thread-safe.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "rules/labels.h"
#include "rules/matcher.h"
#include "rules/problems.h"
#include "rules/time.h"
#include "rules/time_interval.h"

namespace logbell::rules {

// A node's settings with everything inherited filled in.
struct RouteOptions {
  std::vector<std::string> sinks;
  std::vector<std::string> group_by;  // sorted
  bool group_by_all = false;          // ['...']: one group an alert
  Duration group_wait{0};
  Duration group_interval{std::chrono::seconds(30)};
  Duration repeat_interval{std::chrono::hours(4)};
  std::vector<std::string> mute_time_intervals;
  std::vector<std::string> active_time_intervals;
};

struct Route {
  Place place;
  std::string id;  // path in the tree, "route", "route/0", "route/0/1": part of group keys
  RouteOptions options;
  std::vector<LabelMatcher> matchers;
  bool continue_ = false;
  std::vector<Route> routes;

  // Depth first as Alertmanager: the nodes that take an alert with these labels. Never empty at the root.
  std::vector<const Route*> match(const Labels& labels) const;
};

// What is known of an alert's labels before it exists: exact values, and names whose value comes from logs.
struct LabelSpace {
  Labels fixed;
  std::vector<std::string> from_logs;  // may also be absent
};

// Every way an alert of this space can travel, a matcher on a from_logs label being both true and false
// (contradictions between matchers on the same label are not chased: what cannot be proven covered is
// refused).
struct RoutePath {
  std::vector<const Route*> nodes;       // the nodes that take it
  std::vector<std::string> assumptions;  // `queue="a" matches`, in the order decided
};
std::vector<RoutePath> possible_paths(const Route& root, const LabelSpace& space);

}  // namespace logbell::rules

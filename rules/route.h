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

// Whether the node's time intervals let nothing through at this moment. A name without an interval does
// nothing.
bool is_muted(const RouteOptions& options, const std::map<std::string, TimeInterval>& intervals,
              Timestamp at);

// The node with this id; null: there is none.
const Route* find_route(const Route& root, const std::string& id);

// What is known of an alert's labels before it exists: exact values, and names whose value comes from logs.
struct LabelSpace {
  Labels fixed;
  std::vector<std::string> from_logs;  // may also be absent
};

// What is taken for granted of an alert on one of its ways.
struct Assumption {
  const LabelMatcher* matcher;  // of a node of some tree, which must outlive it
  bool holds;
};

// Every way an alert of this space can travel, a matcher on a from_logs label being both true and false. What
// cannot be after what was assumed of the same label is left out: of team="db" where team=~"d.*" does not
// hold, of team="web" where team=~"db|mail" does. Two regexes that list no values are not held against each
// other: what cannot be proven covered is refused.
struct RoutePath {
  std::vector<const Route*> nodes;       // the nodes that take it
  std::vector<Assumption> assumed;       // in the order decided
  std::vector<std::string> assumptions;  // the same for people: `queue="a" holds`
};
// `known` is assumed already, of the same labels on a way through another tree: it comes first.
std::vector<RoutePath> possible_paths(const Route& root, const LabelSpace& space,
                                      const std::vector<Assumption>& known = {});

}  // namespace logbell::rules

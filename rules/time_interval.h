// TimeInterval: Alertmanager's `time_intervals`, for active_time_intervals and mute_time_intervals.
//
// Immutable after load; thread-safe.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "rules/result.h"
#include "rules/time.h"

namespace logbell::rules {

// One entry: every part that is given must hold. Ranges are inclusive but for times, whose end is exclusive.
struct TimeIntervalEntry {
  std::vector<std::pair<int, int>> minutes;        // of the day, [from, to)
  std::vector<std::pair<int, int>> weekdays;       // Sunday = 0
  std::vector<std::pair<int, int>> days_of_month;  // 1..31, negative from the end
  std::vector<std::pair<int, int>> months;         // 1..12
  std::vector<std::pair<int, int>> years;
  std::string location;  // IANA zone; "" = UTC
};

struct TimeInterval {
  std::string name;
  std::vector<TimeIntervalEntry> entries;  // any of these

  bool contains(Timestamp at) const;
};

// Moments of the 366 days from the day of `now` on: between one and the next none of these begins or ends, in
// whatever zone.
std::vector<Timestamp> edges_of(const std::vector<const TimeInterval*>& intervals, Timestamp now);
// What it holds, for people: "09:00-17:00 monday:friday in Europe/Berlin, or month 8".
std::string format_interval(const TimeInterval& interval);

// Whether `zone` is an IANA zone that this machine knows.
bool is_known_zone(const std::string& zone);
// Wall-clock minutes since the epoch shifted into `zone` ("" = UTC).
Duration zone_offset(const std::string& zone, Timestamp at);
// The first instant after `at` at which the zone's offset is another: the turn to or from summer time.
Timestamp next_zone_change(const std::string& zone, Timestamp at);

}  // namespace logbell::rules

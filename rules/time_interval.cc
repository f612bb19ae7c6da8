#include "rules/time_interval.h"

#include <algorithm>
#include <set>
#include <stdexcept>

#include <date/tz.h>
#include <fmt/format.h>

namespace logbell::rules {
namespace {

const date::time_zone* find_zone(const std::string& zone) {
  try {
    return date::locate_zone(zone);
  } catch (const std::runtime_error&) {
    return nullptr;  // is_known_zone() says so; everything else was validated with it
  }
}

bool within(const std::vector<std::pair<int, int>>& ranges, int value) {
  return ranges.empty() || std::any_of(ranges.begin(), ranges.end(), [&](const auto& range) {
           return value >= range.first && value <= range.second;
         });
}

// Negative days count from the month's end, -1 being the last; a range that reaches out of the month is cut
// to it.
bool within_month(const std::vector<std::pair<int, int>>& ranges, int day, int days_in_month) {
  return ranges.empty() || std::any_of(ranges.begin(), ranges.end(), [&](const auto& range) {
           const auto resolve = [&](int bound) {
             return bound < 0 ? std::max(days_in_month + 1 + bound, 1) : std::min(bound, days_in_month);
           };
           // A range that lies wholly behind a short month's end holds on no day of it.
           if (range.first > days_in_month) return false;
           return day >= resolve(range.first) && day <= resolve(range.second);
         });
}

// " month 8,10:12", " monday:friday", as they are written; nothing where there are none.
template <class Name>
std::string format_ranges(std::string_view what, const std::vector<std::pair<int, int>>& ranges, Name name) {
  std::string out;
  for (const auto& [first, last] : ranges)
    out +=
        (out.empty() ? " " + std::string(what) : ",") + name(first) + (first == last ? "" : ":" + name(last));
  return out;
}

}  // namespace

bool is_known_zone(const std::string& zone) {
  return zone.empty() || find_zone(zone) != nullptr;
}

Duration zone_offset(const std::string& zone, Timestamp at) {
  const date::time_zone* found = zone.empty() ? nullptr : find_zone(zone);
  if (found == nullptr) return Duration{0};
  return found->get_info(std::chrono::floor<std::chrono::seconds>(at)).offset;
}

Timestamp next_zone_change(const std::string& zone, Timestamp at) {
  const date::time_zone* found = zone.empty() ? nullptr : find_zone(zone);
  if (found == nullptr) return Timestamp::max();
  const auto end = found->get_info(std::chrono::floor<std::chrono::seconds>(at)).end;
  // The last offset of all has no end that milliseconds could hold.
  if (end > std::chrono::floor<std::chrono::seconds>(from_unix_ms(kMaxStoredMs))) return Timestamp::max();
  return std::max<Timestamp>(end, at + Duration(1));
}

bool TimeInterval::contains(Timestamp at) const {
  return std::any_of(entries.begin(), entries.end(), [&](const TimeIntervalEntry& entry) {
    const Timestamp local = at + zone_offset(entry.location, at);
    const auto day = std::chrono::floor<std::chrono::days>(local);
    const std::chrono::year_month_day date{day};
    const int minute = static_cast<int>(std::chrono::floor<std::chrono::minutes>(local - day).count());
    const int days_in_month =
        static_cast<int>(static_cast<unsigned>((date.year() / date.month() / std::chrono::last).day()));
    const bool in_time = entry.minutes.empty() ||
                         std::any_of(entry.minutes.begin(), entry.minutes.end(), [&](const auto& range) {
                           return minute >= range.first && minute < range.second;
                         });
    return in_time && within(entry.weekdays, static_cast<int>(std::chrono::weekday(day).c_encoding())) &&
           within_month(entry.days_of_month, static_cast<int>(static_cast<unsigned>(date.day())),
                        days_in_month) &&
           within(entry.months, static_cast<int>(static_cast<unsigned>(date.month()))) &&
           within(entry.years, static_cast<int>(date.year()));
  });
}

std::vector<Timestamp> edges_of(const std::vector<const TimeInterval*>& intervals, Timestamp now) {
  // Quarter hours are the finest zones there are, and the edges themselves are in minutes.
  constexpr int kDay = 24 * 60;
  constexpr int kQuarter = 15;
  std::set<int> minutes;
  const auto add = [&minutes](int minute) {
    for (int shift = 0; shift < kDay; shift += kQuarter)
      minutes.insert((minute + shift) % kDay);
  };
  add(0);
  for (const TimeInterval* interval : intervals) {
    for (const TimeIntervalEntry& entry : interval->entries) {
      for (const auto& [from, to] : entry.minutes) {
        add(from);
        add(to);
      }
    }
  }
  std::vector<Timestamp> edges;
  const auto today = std::chrono::floor<std::chrono::days>(now);
  for (int day = 0; day < 366; ++day) {
    for (const int minute : minutes)
      edges.push_back(today + std::chrono::days(day) + std::chrono::minutes(minute));
  }
  return edges;
}

std::string format_interval(const TimeInterval& interval) {
  static constexpr const char* kDays[] = {"sunday",   "monday", "tuesday", "wednesday",
                                          "thursday", "friday", "saturday"};
  const auto clock = [](int minute) { return fmt::format("{:02}:{:02}", minute / 60, minute % 60); };
  const auto number = [](int value) { return std::to_string(value); };
  const auto weekday = [](int day) { return std::string(kDays[day % 7]); };
  std::string out;
  for (const TimeIntervalEntry& entry : interval.entries) {
    std::string one;
    for (const auto& [from, to] : entry.minutes)
      one += fmt::format("{}{}-{}", one.empty() ? " " : ",", clock(from), clock(to));
    one += format_ranges("", entry.weekdays, weekday) + format_ranges("day ", entry.days_of_month, number) +
           format_ranges("month ", entry.months, number) + format_ranges("year ", entry.years, number);
    if (one.empty()) one = " always";
    if (!entry.location.empty()) one += " in " + entry.location;
    out += (out.empty() ? "" : ", or ") + one.substr(1);
  }
  return out;
}

}  // namespace logbell::rules

// TimeInterval: Alertmanager's meaning, in zones with and without summer time.
#include "rules/time_interval.h"

#include <catch2/catch.hpp>

using namespace logbell::rules;

TEST_CASE("time interval: every given part must hold", "[rules][time_interval]") {
  TimeIntervalEntry office;
  office.minutes = {{9 * 60, 17 * 60}};
  office.weekdays = {{1, 5}};
  office.location = "Europe/Berlin";
  TimeIntervalEntry month_end;
  month_end.days_of_month = {{-3, -1}};
  TimeIntervalEntry late;
  late.days_of_month = {{30, 31}};
  TimeIntervalEntry evening;
  evening.minutes = {{23 * 60, 24 * 60}};
  TimeIntervalEntry spring;
  spring.months = {{3, 5}};
  spring.years = {{2026, 2027}};
  const struct {
    const char* why;
    const TimeIntervalEntry& entry;
    const char* at;
    bool inside;
  } rows[] = {
      {"nine o'clock in summer is seven in UTC", office, "2026-07-01T07:00:00Z", true},
      {"the minute before", office, "2026-07-01T06:59:59.999Z", false},
      {"in winter it is eight", office, "2026-01-07T07:00:00Z", false},
      {"in winter it is eight: inside", office, "2026-01-07T08:00:00Z", true},
      {"the end is exclusive", office, "2026-01-07T16:00:00Z", false},
      {"saturday", office, "2026-01-10T10:00:00Z", false},
      {"the last day of February", month_end, "2026-02-28T12:00:00Z", true},
      {"the third from its end", month_end, "2026-02-26T12:00:00Z", true},
      {"the fourth from its end", month_end, "2026-02-25T12:00:00Z", false},
      {"a leap year's 29th", month_end, "2028-02-29T12:00:00Z", true},
      {"a range beyond a short month", late, "2026-02-28T12:00:00Z", false},
      {"the 31st", late, "2026-01-31T12:00:00Z", true},
      {"the last minute of the day", evening, "2026-01-31T23:59:59Z", true},
      {"midnight is the next day's", evening, "2026-02-01T00:00:00Z", false},
      {"a month and year inside", spring, "2026-05-31T00:00:00Z", true},
      {"the wrong year", spring, "2028-05-31T00:00:00Z", false},
  };
  for (const auto& row : rows) {
    INFO(row.why);
    CHECK(TimeInterval{"x", {row.entry}}.contains(*parse_rfc3339(row.at)) == row.inside);
  }
  CHECK_FALSE(TimeInterval{"x", {}}.contains(from_unix_ms(0)));
  CHECK(is_known_zone("Europe/Berlin"));
  CHECK_FALSE(is_known_zone("Europe/Atlantis"));
}

TEST_CASE("time interval: what it holds is shown as it is written", "[rules][time_interval]") {
  TimeIntervalEntry office;
  office.minutes = {{9 * 60, 12 * 60}, {13 * 60, 24 * 60}};
  office.weekdays = {{1, 5}, {0, 0}};
  office.location = "Europe/Berlin";
  TimeIntervalEntry month_end;
  month_end.days_of_month = {{-3, -1}};
  month_end.months = {{2, 2}, {4, 6}};
  month_end.years = {{2026, 2027}};
  CHECK(format_interval({"x", {office, month_end}}) ==
        "09:00-12:00,13:00-24:00 monday:friday,sunday in Europe/Berlin, or day -3:-1 month 2,4:6 year "
        "2026:2027");
  CHECK(format_interval({"x", {TimeIntervalEntry()}}) == "always");
}

TEST_CASE("time interval: nothing begins or ends between two edges", "[rules][time_interval]") {
  TimeIntervalEntry night;
  night.minutes = {{1, 23 * 60 + 59}};
  night.location = "Asia/Kathmandu";  // 05:45 ahead
  const TimeInterval interval{"x", {night}};
  const Timestamp now = *parse_rfc3339("2026-11-28T12:34:00Z");
  const std::vector<Timestamp> edges = edges_of({&interval}, now);
  CHECK(std::is_sorted(edges.begin(), edges.end()));
  CHECK(edges.front() == *parse_rfc3339("2026-11-28T00:00:00Z"));
  std::size_t next = 0;
  for (Timestamp at = edges.front(); at < edges.front() + std::chrono::hours(24 * 3);
       at += std::chrono::minutes(1)) {
    if (next < edges.size() && edges[next] == at) {
      ++next;
    } else {
      REQUIRE(interval.contains(at) == interval.contains(at - std::chrono::minutes(1)));
    }
  }
  CHECK(edges.back() > now + std::chrono::hours(24 * 364));
}

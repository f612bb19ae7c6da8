// InstantFunction: parts of dates and their turns, in zones with and without summer time.
#include "rules/instant_function.h"

#include <cmath>
#include <limits>
#include <random>

#include <catch2/catch.hpp>

using namespace logbell::rules;

namespace {

Timestamp at(const char* text) {
  return *parse_rfc3339(text);
}

double part(InstantFunction function, const char* zone, Timestamp when) {
  return date_part(function, clock_seconds(when), zone);
}

}  // namespace

TEST_CASE("instant function: the parts of a date are those of its zone", "[rules][expr]") {
  const struct {
    const char* why;
    const char* time;
    const char* zone;
    InstantFunction function;
    double expected;
  } rows[] = {
      {"UTC, where no zone is named", "2026-07-01T23:30:00Z", "", InstantFunction::kHour, 23},
      {"summer in Berlin is two hours on", "2026-07-01T23:30:00Z", "Europe/Berlin", InstantFunction::kHour,
       1},
      {"which is the next day", "2026-07-01T23:30:00Z", "Europe/Berlin", InstantFunction::kDayOfMonth, 2},
      {"winter is one", "2026-01-01T22:30:00Z", "Europe/Berlin", InstantFunction::kHour, 23},
      {"half an hour in India", "2026-01-01T10:10:00Z", "Asia/Kolkata", InstantFunction::kMinute, 40},
      {"Sunday is 0", "2026-11-29T12:00:00Z", "", InstantFunction::kDayOfWeek, 0},
      {"and Saturday 6", "2026-11-28T12:00:00Z", "", InstantFunction::kDayOfWeek, 6},
      {"February", "2026-02-03T12:00:00Z", "", InstantFunction::kDaysInMonth, 28},
      {"February of a leap year", "2028-02-03T12:00:00Z", "", InstantFunction::kDaysInMonth, 29},
      {"the new year begins in the east", "2026-12-31T11:00:00Z", "Pacific/Auckland", InstantFunction::kYear,
       2027},
      {"with its month", "2026-12-31T11:00:00Z", "Pacific/Auckland", InstantFunction::kMonth, 1},
      {"and ends in the west", "2027-01-01T07:00:00Z", "America/Los_Angeles", InstantFunction::kYear, 2026},
      {"before 1970", "1969-12-31T23:59:00Z", "", InstantFunction::kMinute, 59},
  };
  for (const auto& row : rows) {
    INFO(row.why);
    CHECK(part(row.function, row.zone, at(row.time)) == row.expected);
  }
  CHECK(date_part(InstantFunction::kHour, 3600.9, "") == 1);
  CHECK(std::isnan(date_part(InstantFunction::kHour, std::numeric_limits<double>::quiet_NaN(), "")));
  CHECK(std::isnan(date_part(InstantFunction::kHour, std::numeric_limits<double>::infinity(), "")));
  CHECK(std::isnan(date_part(InstantFunction::kHour, 1e300, "")));
  CHECK(clock_seconds(at("2026-05-01T10:00:59.999Z")) == clock_seconds(at("2026-05-01T10:00:00Z")));
}

TEST_CASE("instant function: it turns when the zone's clocks do", "[rules][expr]") {
  const struct {
    const char* why;
    const char* time;
    const char* zone;
    InstantFunction function;
    const char* expected;
  } rows[] = {
      {"the next hour", "2026-05-01T10:59:59.999Z", "", InstantFunction::kHour, "2026-05-01T11:00:00Z"},
      {"not the one that it is", "2026-05-01T11:00:00Z", "", InstantFunction::kHour, "2026-05-01T12:00:00Z"},
      {"where the hour begins at the half", "2026-05-01T10:00:00Z", "Asia/Kolkata", InstantFunction::kHour,
       "2026-05-01T10:30:00Z"},
      {"midnight in summer", "2026-07-01T12:00:00Z", "Europe/Berlin", InstantFunction::kDayOfWeek,
       "2026-07-01T22:00:00Z"},
      {"the day that loses an hour: the turn itself", "2026-03-28T23:00:00Z", "Europe/Berlin",
       InstantFunction::kDayOfMonth, "2026-03-29T01:00:00Z"},
      {"and then its end", "2026-03-29T01:00:00Z", "Europe/Berlin", InstantFunction::kDayOfMonth,
       "2026-03-29T22:00:00Z"},
      {"a turn by half an hour", "2026-04-04T14:45:00Z", "Australia/Lord_Howe", InstantFunction::kHour,
       "2026-04-04T15:00:00Z"},
      {"the month in its zone", "2026-02-27T12:00:00Z", "Europe/Berlin", InstantFunction::kDaysInMonth,
       "2026-02-28T23:00:00Z"},
      {"a year without summer time", "2026-02-27T12:00:00Z", "Asia/Tokyo", InstantFunction::kYear,
       "2026-12-31T15:00:00Z"},
      {"each minute", "2026-02-27T12:00:00.001Z", "", InstantFunction::kTime, "2026-02-27T12:01:00Z"},
  };
  for (const auto& row : rows) {
    INFO(row.why);
    CHECK(format_rfc3339(next_turn(row.function, row.zone, at(row.time))) == row.expected);
  }
}

TEST_CASE("instant function: between two turns a part of the date stays what it is", "[rules][expr]") {
  std::mt19937_64 random(11);  // NOLINT(cert-msc51-cpp): the same run every time
  const char* const zones[] = {"",
                               "Europe/Berlin",
                               "America/St_Johns",
                               "Australia/Lord_Howe",
                               "Asia/Kolkata",
                               "Africa/Casablanca",
                               "Pacific/Apia",
                               "America/New_York"};
  const InstantFunction functions[] = {InstantFunction::kMinute,      InstantFunction::kHour,
                                       InstantFunction::kDayOfWeek,   InstantFunction::kDayOfMonth,
                                       InstantFunction::kDaysInMonth, InstantFunction::kMonth,
                                       InstantFunction::kYear};
  int turned = 0;
  for (int round = 0; round < 2000; ++round) {
    const char* zone = zones[random() % 8];
    const InstantFunction function = functions[random() % 7];
    // Half of them where Berlin, New York or Lord Howe turn their clocks.
    const char* const nights[] = {"2026-03-28T20:00:00Z", "2026-10-24T20:00:00Z", "2026-03-08T00:00:00Z",
                                  "2026-11-01T00:00:00Z", "2026-04-04T10:00:00Z", "2011-12-29T20:00:00Z"};
    Timestamp from = random() % 2 == 0 ? at(nights[random() % 6]) : at("2024-01-01T00:00:00Z");
    from += Duration(random() % (from < at("2025-01-01T00:00:00Z") ? 100'000'000'000U : 86'400'000U));
    const Timestamp turn = next_turn(function, zone, from);
    REQUIRE(turn > from);
    const double value = part(function, zone, from);
    const Timestamp most = from + std::chrono::hours(48);
    INFO(zone << " " << signature_of(function).name << " from " << format_rfc3339(from));
    bool stays = true;  // millions of times: Catch's own assertions would take most of the time
    for (Timestamp when = from; when < std::min(turn, most); when += std::chrono::minutes(1))
      stays = stays && part(function, zone, when) == value;
    REQUIRE(stays);
    REQUIRE(part(function, zone, std::min(turn, most) - Duration(1)) == value);
    if (part(function, zone, turn) != value) ++turned;
  }
  CHECK(turned > 1500);
}

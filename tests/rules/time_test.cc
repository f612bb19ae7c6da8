#include "rules/time.h"

#include <limits>

#include <catch2/catch.hpp>

using namespace logbell::rules;
using namespace std::chrono_literals;

TEST_CASE("time: a duration reads as in PromQL and prints in its shortest form", "[rules][time]") {
  const auto [text, value, printed] = GENERATE(table<std::string, Duration, std::string>({
      {"5m", 5min, "5m"},
      {"1h30m", 90min, "1h30m"},
      {"250ms", 250ms, "250ms"},
      {"0", 0ms, "0s"},
      {"90s", 90s, "1m30s"},
      {"1w", 168h, "1w"},
      {"1d12h", 36h, "1d12h"},
      {"1m5ms", 60005ms, "1m5ms"},
      {"62010000y1s", Duration(8760h) * 62'010'000 + 1s, "22633650000d1s"},
  }));
  const auto read = parse_duration(text);
  REQUIRE(read);
  CHECK(*read == value);
  CHECK(format_duration(value) == printed);
  CHECK(parse_duration(printed).value() == value);
}

TEST_CASE("time: what is no duration is refused with the reason", "[rules][time]") {
  const auto [text, reason] = GENERATE(table<std::string, std::string>({
      {"", "empty"},
      {"5", "a unit is missing"},
      {"m", "number is missing"},
      {"5m1h", "largest to the smallest"},
      {"1m1m", "largest to the smallest"},
      {"-5m", "negative"},
      {"1.5m", "fractions"},
      {"h1", "number is missing"},
      {"5 m", "units are"},
      {"99999999999y", "too l"},
  }));
  const auto read = parse_duration(text);
  REQUIRE_FALSE(read);
  CHECK(read.error().message.find(reason) != std::string::npos);
}

TEST_CASE("time: RFC 3339 with any offset and fraction is one moment", "[rules][time]") {
  const auto [text, unix_ms] = GENERATE(table<std::string, std::int64_t>({
      {"2026-05-01T10:00:00Z", 1777629600000},
      {"2026-05-01T12:00:00+02:00", 1777629600000},
      {"2026-05-01T04:30:00-05:30", 1777629600000},
      {"2026-05-01 10:00:00.123456789Z", 1777629600123},
      {"2026-05-01T10:00:00,5z", 1777629600500},
      {"1970-01-01T00:00:00Z", 0},
      {"2016-12-31T23:59:60Z", 1483228799999},
  }));
  const auto read = parse_rfc3339(text);
  REQUIRE(read);
  CHECK(to_unix_ms(*read) == unix_ms);
  CHECK(parse_rfc3339(format_rfc3339(*read)).value() == *read);
}

TEST_CASE("time: what is not RFC 3339 is refused", "[rules][time]") {
  const auto text =
      GENERATE(as<std::string>(), "", "2026-05-01", "2026-05-01T10:00:00", "2026-13-01T10:00:00Z",
               "2026-02-30T10:00:00Z", "2026-05-01T24:00:00Z", "2026-05-01T10:00:00+2",
               "2026-05-01T10:00:00.Z", "2026-05-01T10:00:00Zx", "2026/05/01T10:00:00Z");
  CHECK_FALSE(parse_rfc3339(text));
}

TEST_CASE("time: what is stored is a time that can be added to, or the nearest that can", "[rules][time]") {
  const std::int64_t now = 1'777'629'600'000;
  CHECK(from_stored_ms(now) == from_unix_ms(now));
  CHECK(from_stored_ms(-now) == from_unix_ms(-now));
  CHECK(from_stored_ms(to_unix_ms(kLongAgo)) == kLongAgo);
  CHECK(from_stored_ms(to_unix_ms(kLongAgo) + 1) == from_unix_ms(-kMaxStoredMs));
  CHECK(from_stored_ms(std::numeric_limits<std::int64_t>::max()) == from_unix_ms(kMaxStoredMs));
}

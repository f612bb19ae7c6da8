// Timestamps: what is recognised, what is described, and what is not a time.
#include "rules/timestamp.h"

#include <fstream>
#include <random>
#include <string>

#include <catch2/catch.hpp>

using namespace logbell::rules;

namespace {
std::string shown(const std::optional<Timestamp>& at) {
  return at ? format_rfc3339(*at) : "none";
}
TimestampReader reader(std::string format = "", std::string location = "UTC") {
  return *TimestampReader::make(TimestampSpec{"", std::move(format), std::move(location)});
}
const Timestamp kReference = *parse_rfc3339("2026-01-03T00:00:00Z");
}  // namespace

TEST_CASE("timestamp: the usual forms are recognised in a line", "[rules][timestamp]") {
  const struct {
    const char* why;
    const char* line;
    const char* expected;
  } rows[] = {
      {"RFC 3339", "2026-05-01T10:00:00Z ERROR x", "2026-05-01T10:00:00Z"},
      {"with fraction and offset", "2026-05-01T10:00:00.123456+02:00 x", "2026-05-01T08:00:00.123Z"},
      {"a comma and no zone", "2026-05-01 10:00:00,123 x", "2026-05-01T10:00:00.123Z"},
      {"an offset without colon behind a blank", "2026-05-01 10:00:00 -0330 x", "2026-05-01T13:30:00Z"},
      {"a negative number is no zone", "2026-05-01 10:00:00 -12 items left", "2026-05-01T10:00:00Z"},
      {"UTC as a word", "2026-05-01 10:00:00.5 UTC [1] x", "2026-05-01T10:00:00.500Z"},
      {"slashes", "2026/05/01 10:00:00 [error] x", "2026-05-01T10:00:00Z"},
      {"in brackets", "[2026-05-01 10:00:00,123] INFO x", "2026-05-01T10:00:00.123Z"},
      {"behind a level", "ERROR 2026-05-01T10:00:00Z x", "2026-05-01T10:00:00Z"},
      {"common log format", R"(83.149.9.216 - - [17/May/2015:10:05:03 +0200] "GET /")",
       "2015-05-17T08:05:03Z"},
      {"syslog of last year", "Dec 31 23:59:58 host app[1]: x", "2025-12-31T23:59:58Z"},
      {"syslog of this year, one-digit day", "Jan  2 01:02:03 host x", "2026-01-02T01:02:03Z"},
      {"syslog with a priority", "<34>Jan  2 01:02:03 host x", "2026-01-02T01:02:03Z"},
      {"Apache's error log", "[Tue Oct 01 10:00:00.123456 2024] [core:error] x", "2024-10-01T10:00:00.123Z"},
      {"a leap day", "[Thu Feb 29 10:00:00 2024] x", "2024-02-29T10:00:00Z"},
      {"date(1)", "Fri May  1 10:00:00 UTC 2020", "2020-05-01T10:00:00Z"},
      {"no leap day", "[Sat Feb 29 10:00:00 2025] x", "none"},
      {"a host of digits", "Jan  2 01:02:03 2024.example.com x", "2026-01-02T01:02:03Z"},
      {"a program of digits", "Jan  2 01:02:03 2024[7]: x", "2026-01-02T01:02:03Z"},
      {"a number behind it", "Jan  2 01:02:03 12024 x", "2026-01-02T01:02:03Z"},
      {"PHP", "[01-Oct-2024 10:00:00 UTC] PHP Fatal error: x", "2024-10-01T10:00:00Z"},
      {"PHP in a zone", "[01-Oct-2024 10:00:00 Europe/Berlin] PHP Warning: x", "2024-10-01T08:00:00Z"},
      {"no zone of the world", "[01-Oct-2024 10:00:00 And/Or] x", "2024-10-01T10:00:00Z"},
      {"Tomcat", "01-Oct-2024 10:00:00.123 SEVERE [main] x", "2024-10-01T10:00:00.123Z"},
      {"Redis", "1:M 01 Oct 2024 10:00:00.123 # x", "2024-10-01T10:00:00.123Z"},
      {"RFC 5322", "Tue, 1 Oct 2024 10:00:00 +0200 x", "2024-10-01T08:00:00Z"},
      {"two separators", "01-Oct/2024:10:00:00 x", "none"},
      {"klog", "E0102 10:00:00.123456       1 leaderelection.go:330] x", "2026-01-02T10:00:00.123Z"},
      {"klog of last year", "W1231 23:59:58.000001       1 x.go:1] x", "2025-12-31T23:59:58Z"},
      {"a word like klog's", "E0102 10:00:00 x", "none"},
      {"java.util.logging", "Oct 01, 2024 9:05:03 PM com.acme.Shop pay", "2024-10-01T21:05:03Z"},
      {"java.util.logging since Java 20", "Oct 01, 2024 12:05:03\u202fAM com.acme.Shop pay", "2024-10-01T00:05:03Z"},
      {"java.util.logging of one that has no halves", "Oct 01, 2024 21:05:03 com.acme.Shop pay", "2024-10-01T21:05:03Z"},
      {"ClickHouse", "2024.10.01 10:00:00.123456 [ 7 ] {} <Error> x", "2024-10-01T10:00:00.123Z"},
      {"a zone by its letters", "2024-10-01 10:00:00.123 CEST [7] ERROR: x", "2024-10-01T08:00:00.123Z"},
      {"letters that mean several zones are the location's", "2024-10-01 10:00:00 IST [7] x", "2024-10-01T10:00:00Z"},
      {"a word that begins like a zone", "2024-10-01 10:00:00 ESTIMATE x", "2024-10-01T10:00:00Z"},
      {"date(1) in a zone", "Tue Oct  1 10:00:00 PDT 2024", "2024-10-01T17:00:00Z"},
      {"date(1) in a zone that nobody knows", "Tue Oct  1 10:00:00 IST 2024", "2024-10-01T10:00:00Z"},
      {"in colours", "\x1b[32m2024-10-01 10:00:00.123\x1b[0m | \x1b[31mERROR", "2024-10-01T10:00:00.123Z"},
      {"in two colours", "\x1b[1;31m\x1b[4mOct  1 10:00:00\x1b[0m x", "2025-10-01T10:00:00Z"},
      {"no colour", "[32m2024-10-01 10:00:00.123 x", "none"},
      {"epoch seconds", "1777629600 x", "2026-05-01T10:00:00Z"},
      {"epoch milliseconds", "1777629600123 x", "2026-05-01T10:00:00.123Z"},
      {"epoch with fraction", "1777629600.5 x", "2026-05-01T10:00:00.500Z"},
      {"a number that is none", "17776296001 x", "none"},
      {"no such day", "2026-02-30T10:00:00Z x", "none"},
      {"no such hour", "2026-02-03T25:00:00Z x", "none"},
      {"a date alone", "2026-02-03 x", "none"},
      {"a version", "release 10.2026-05-01x", "none"},
      {"too far in",
       "x                                                                       2026-05-01T10:00:00Z",
       "none"},
      {"nothing", "", "none"},
  };
  for (const auto& row : rows) {
    INFO(row.why);
    CHECK(shown(reader().in_line(row.line, kReference)) == row.expected);
  }
}

TEST_CASE("timestamp: what engine/README.md says is recognised is", "[rules][timestamp]") {
  std::ifstream file(std::string(LOGBELL_SOURCE_DIR) + "/engine/README.md");
  int rows = 0;
  bool in_table = false;
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("| as | read as", 0) == 0) in_table = true;
    if (line.empty()) in_table = false;
    if (!in_table || line.rfind("| `", 0) != 0) continue;
    const std::size_t end = line.find('`', 3);
    const std::size_t value = line.rfind("| ", line.size() - 3) + 2;
    CAPTURE(line);
    CHECK(shown(reader().in_line(line.substr(3, end - 3), kReference)) == line.substr(value, line.size() - 2 - value));
    ++rows;
  }
  CHECK(rows == 13);
}

TEST_CASE("timestamp: a described format and a location", "[rules][timestamp]") {
  CHECK(shown(reader("%d.%m.%Y %H:%M:%S").in_line("x 01.05.2026 10:00:00 y", kReference)) ==
        "2026-05-01T10:00:00Z");
  CHECK(shown(reader("%b %e, %Y %I:%M:%S %p").in_line("May 1, 2026 10:00:00 PM", kReference)) ==
        "2026-05-01T22:00:00Z");
  CHECK(shown(reader("%Y%m%d-%H:%M:%S.%L").in_line("20260501-10:00:00.250|x", kReference)) ==
        "2026-05-01T10:00:00.250Z");
  CHECK(shown(reader("%d.%m.%Y %T %z").in_value("01.05.2026 10:00:00 +0200", kReference)) ==
        "2026-05-01T08:00:00Z");
  CHECK(shown(reader("%d.%m.%Y").in_value("2026-05-01", kReference)) == "none");
  // A time of day alone is the nearest.
  const Timestamp evening = *parse_rfc3339("2026-05-01T23:30:00Z");
  CHECK(shown(reader("%H:%M:%S.%f").in_line("23:29:59.5 x", evening)) == "2026-05-01T23:29:59.500Z");
  CHECK(shown(reader("%H:%M:%S").in_line("[00:10:00] x", evening)) == "2026-05-02T00:10:00Z");
  CHECK(shown(reader("%H:%M:%S", "Europe/Berlin").in_line("01:29:00 x", evening)) == "2026-05-01T23:29:00Z");
  CHECK(shown(reader("%I:%M%p").in_line("12:10AM INF x", evening)) == "2026-05-02T00:10:00Z");
  // Summer and winter of a zone.
  CHECK(shown(reader("", "Europe/Berlin").in_line("2026-07-01 10:00:00 x", kReference)) ==
        "2026-07-01T08:00:00Z");
  CHECK(shown(reader("", "Europe/Berlin").in_line("2026-01-01 10:00:00 x", kReference)) ==
        "2026-01-01T09:00:00Z");
  CHECK(shown(reader("", "Europe/Berlin").in_line("2026-03-29 03:00:00 x", kReference)) ==
        "2026-03-29T01:00:00Z");
  CHECK_FALSE(TimestampReader::make(TimestampSpec{"", "%Q", ""}).has_value());
  CHECK_FALSE(TimestampReader::make(TimestampSpec{"", "%", ""}).has_value());
  CHECK_FALSE(TimestampReader::make(TimestampSpec{"", "", "Mars/Base"}).has_value());
  for (const char* half : {"%d %H:%M:%S", "%m %H:%M:%S", "%Y %H:%M:%S", "%Y-%m %H:%M:%S", "%I:%M:%S", "%Z"}) {
    INFO(half);
    const auto made = TimestampReader::make(TimestampSpec{"", half, ""});
    REQUIRE_FALSE(made.has_value());
    CHECK(made.error().message.find(half) != std::string::npos);
  }
}

TEST_CASE("timestamp: the fields that loggers call their time", "[rules][timestamp]") {
  for (const char* name : {"ts", "time", "timestamp", "@timestamp", "Timestamp", "@t", "asctime", "timeMillis", "t.$date",
                           "datetime.date", "instant.epochSecond"})
    CHECK(is_time_field(name));
  for (const char* name : {"", "TIME", "times", "timezone", "duration", "date.timezone"})
    CHECK_FALSE(is_time_field(name));
}

TEST_CASE("timestamp: a field's value, in any unit", "[rules][timestamp]") {
  CHECK(shown(reader().in_value("1777629600", kReference)) == "2026-05-01T10:00:00Z");
  CHECK(shown(reader().in_value("1777629600.25", kReference)) == "2026-05-01T10:00:00.250Z");
  CHECK(shown(reader().in_value("1777629600123456", kReference)) == "2026-05-01T10:00:00.123Z");
  CHECK(shown(reader().in_value("1777629600123456789", kReference)) == "2026-05-01T10:00:00.123Z");
  CHECK(shown(reader().in_value("12", kReference)) == "none");
}

TEST_CASE("timestamp: any bytes are read without harm", "[rules][timestamp]") {
  std::mt19937_64 random(3);  // NOLINT(cert-msc51-cpp): repeatable
  const std::string alphabet = "0123456789-:T ./,+ZJanMay[]\xff";
  for (int i = 0; i < 20'000; ++i) {
    std::string text;
    for (std::uint64_t n = random() % 40; n > 0; --n)
      text += alphabet[random() % alphabet.size()];
    const auto at = reader().in_line(text, kReference);
    if (at) REQUIRE(*at > from_unix_ms(-62'200'000'000'000));
    reader("%Y-%m-%dT%H:%M:%S.%f%z").in_line(text, kReference);
  }
}

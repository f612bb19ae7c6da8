// Quantities: numbers, durations and sizes as logs write them.
#include "rules/quantity.h"

#include <catch2/catch.hpp>

using namespace logbell::rules;

TEST_CASE("quantity: durations are seconds, sizes are bytes, numbers are what they are",
          "[rules][quantity]") {
  const struct {
    const char* text;
    double expected;
  } rows[] = {
      {"12", 12},
      {"-1.5e3", -1500},
      {"12ms", 0.012},
      {"1.5s", 1.5},
      {"250 us", 0.00025},
      {"250\xC2\xB5s", 0.00025},
      {"250\xCE\xBCs", 0.00025},
      {"7ns", 7e-9},
      {"1m30s", 90},
      {"1h2m3.5s", 3723.5},
      {"2d", 172800},
      {"-1m30s", -90},
      {"-0s", 0},
      {"1e3ms", 1},
      {"512B", 512},
      {"10kB", 10e3},
      {"10KB", 10e3},
      {"3 MB", 3e6},
      {"1GiB", 1073741824},
      {"3.2 MiB", 3.2 * 1048576},
      {"2TiB", 2199023255552},
      {"1PB", 1e15},
  };
  for (const auto& row : rows) {
    INFO(row.text);
    const auto value = parse_quantity(row.text);
    REQUIRE(value.has_value());
    CHECK(*value == row.expected);
  }
  for (const char* none :
       {"",     "x",    "ms",    "12 ",   " 12",      "12x",       "12  ms", "12ms ", "1s2",
        "1s1m", "1s2s", "1m-3s", "1m s",  "12MiBs",   "12mB",      "12iB",   "12b",   "12 M",
        "inf",  "nan",  "nans",  "1e999", "1.7e308h", "1.7e308PB", "0x10",   "1,5s",  "5%"}) {
    INFO(none);
    CHECK_FALSE(parse_quantity(none).has_value());
  }
}

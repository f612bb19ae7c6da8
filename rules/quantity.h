// Quantities: a number as logs write it, with or without a unit.
//
// Pure functions; any thread.
#pragma once

#include <optional>
#include <string_view>

namespace logbell::rules {

// "12", "-1.5e3"; a duration in seconds: "12ms", "1.5 s", "1m30s", units d h m s ms us µs ns; a size in
// bytes: "512B", "10 kB" (1000), "3.2 MiB" (1024), up to P. The whole of `text`; unset: it is none, or not
// finite.
std::optional<double> parse_quantity(std::string_view text);

}  // namespace logbell::rules

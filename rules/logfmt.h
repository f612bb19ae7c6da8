// logfmt: the fields of a line of key=value pairs.
//
// Pure; any thread.
#pragma once

#include <string_view>
#include <vector>

#include "rules/json.h"

namespace logbell::rules {

// With quotes and escapes, as logfmt writes them; a word without "=" is a key whose value is "true". `out` is
// emptied first.
void read_logfmt(std::string_view line, std::vector<JsonLineReader::Field>& out);

}  // namespace logbell::rules

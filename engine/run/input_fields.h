// What a source reads that is no file: `syslog:`, `fifo:` and `journald:`.
//
// Pure; used by one thread while a configuration is compiled.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rules/fields.h"
#include "rules/plan.h"

namespace logbell::engine {

// "udp://127.0.0.1:5514", "tcp://[::]:601", "unix:///run/x.sock", "unixgram:///run/x.sock". An error says
// what is wrong, then "; " and how it should be.
rules::Result<rules::StreamSpec> parse_listen(std::string_view text);

// Adds what the source's fields say to `source`; problems are recorded at their places.
void read_inputs(const rules::Fields& fields, rules::SourceSpec& source);

}  // namespace logbell::engine

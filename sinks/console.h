// Console: messages for people who watch a terminal.
//
// The configuration is immutable; the sink it builds belongs to one send loop.
#pragma once

#include <memory>

#include "sinks/sink.h"

namespace logbell::sinks {

// Null when problems were recorded.
std::unique_ptr<SinkConfig> parse_console(FieldReader& fields);

}  // namespace logbell::sinks

// File: JSON lines, one a notification, for machines.
//
// The configuration is immutable; the sink it builds belongs to one send loop.
#pragma once

#include <memory>

#include "sinks/sink.h"

namespace logbell::sinks {

// Null when problems were recorded.
std::unique_ptr<SinkConfig> parse_file(FieldReader& fields);

}  // namespace logbell::sinks

// Alertmanager's v2 API: every alert again and again while it fires.
//
// The configuration is immutable; the sink it builds belongs to one send loop.
#pragma once

#include <memory>

#include "sinks/sink.h"

namespace logbell::sinks {

// Null when problems were recorded.
std::unique_ptr<SinkConfig> parse_alertmanager(FieldReader& fields);

}  // namespace logbell::sinks

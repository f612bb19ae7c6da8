// Alertmanager's webhook JSON (version "4"), so that existing receivers work; signed if a secret is given.
//
// The configuration is immutable; the sink it builds belongs to one send loop.
#pragma once

#include <memory>

#include "sinks/sink.h"

namespace logbell::sinks {

// Null when problems were recorded.
std::unique_ptr<SinkConfig> parse_webhook(FieldReader& fields);

}  // namespace logbell::sinks

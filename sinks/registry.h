// The table of sink types: the menu of what can stand under `sinks:`.
#pragma once

#include <span>
#include <string_view>

#include "sinks/sink.h"

namespace logbell::sinks {

std::span<const SinkType> sink_types();
const SinkType* find_sink_type(std::string_view key);

}  // namespace logbell::sinks

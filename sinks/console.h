// Console: messages for people who watch a terminal.
//
// The configuration is immutable; the sink it builds belongs to one send loop.
#pragma once

#include <memory>
#include <string>

#include "sinks/sink.h"

namespace logbell::sinks {

struct ConsoleStyle {
  bool colour = false;
  std::size_t width = 100;  // columns; nothing is longer
};
// What is written: some lines, each ending in a line break, and an empty one.
std::string console_text(const rules::Notification& notification, const Attempt& attempt,
                         const SinkContext& context, const ConsoleStyle& style);

// Null when problems were recorded.
std::unique_ptr<SinkConfig> parse_console(FieldReader& fields);

}  // namespace logbell::sinks

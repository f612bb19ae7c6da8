// Line form: what lines that one logger writes have in common, whatever they say: JSON with these first keys,
// a time and a level, a bracket. By it PatternWentSilent sees that the format of a log has changed.
//
// Pure; any thread.
#pragma once

#include <string>
#include <string_view>

namespace logbell::rules {

// As short as possible, the same for every line of a format, and without anything that a line says:
//   {"ts":…,"level":…,"msg":…}             json ts,level,msg           the first four keys
//   ts=… level=… msg=…                     logfmt ts,level,msg
//   2026-05-01T10:00:00Z ERROR no queue    text 0L                     0 digits, L a level, the brackets as
//   they are; [main] 10:00:00 - no queue             text [0-                    up to the first word of what
//   it says
// Empty where a line says nothing of it: a blank one, or one that begins with a blank and belongs to another.
std::string line_form(std::string_view line);

inline constexpr std::size_t kMaxFormBytes = 128;

}  // namespace logbell::rules

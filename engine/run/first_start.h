// First start: where in a file to begin that was never followed before (DESIGN.md §3 "First start").
//
// Owned by the reader thread; reads the file, changes nothing.
#pragma once

#include <cstdint>

#include "engine/io/decode.h"
#include "engine/io/file_source.h"
#include "rules/plan.h"
#include "rules/time.h"

namespace logbell::engine {

struct FirstPlace {
  std::uint64_t offset = 0;  // a line's beginning, or the end of the file
  rules::Timestamp watched_from = rules::kLongAgo;  // nothing that the file says about later is missing
};

// A file born within `max_replay_age` is read from its beginning; of an older one only what fills `window`, the
// longest of the rules that use the source; `read_from` says otherwise. A file's birth is what the file system
// says, or the time of its first line.
FirstPlace first_place(const FileSource& file, const rules::SourceSpec& source, rules::Duration window,
                       rules::Duration max_replay_age, rules::Timestamp now, LineTimes& times);

// The longest window of the rules that use a source.
rules::Duration longest_window(const rules::Plan& plan, std::uint32_t source);

}  // namespace logbell::engine

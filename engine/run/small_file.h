// Small files beside the store, for what must be known when the store may not be open: who was told of a
// refusal, what sinks answered. Each appears under its name when it is complete.
//
// Any thread; of two that write the same one, one wins.
#pragma once

#include <cstddef>
#include <optional>
#include <string>

#include "rules/result.h"
#include "rules/time.h"

namespace logbell::engine {

// The first `most` bytes of `state_dir`/logbell/`name`; "" where there is none that can be read. A link is
// not followed.
std::string read_small_file(const std::string& state_dir, const std::string& name, std::size_t most);
// Mode 0600, in a directory that is made 0700 where it is missing, and that must be ours.
rules::Result<> keep_small_file(const std::string& state_dir, const std::string& name,
                                const std::string& text);

// A mark is a file of no bytes whose time says when something was done: a full disk still takes it. When it
// was set; unset where there is none, or it is not ours.
std::optional<rules::Timestamp> read_mark(const std::string& path);
rules::Result<> set_mark(const std::string& path, rules::Timestamp at);

}  // namespace logbell::engine

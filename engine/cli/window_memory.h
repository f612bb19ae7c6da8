// What the windows of rules take in memory, for whoever decides how much a sidecar gets. Pure; any thread.
#pragma once

#include <cstddef>

#include "engine/core/window.h"
#include "rules/plan.h"
#include "rules/rule.h"
#include "rules/time.h"

namespace logbell::engine {

inline constexpr std::size_t kPointBytes = sizeof(MatchTimes::Point);  // of a match, or its value
// A key with its match, measured with keys of 36 letters: a node of a map, its text, where its matches are. Those that are
// counted have a span of time each, too.
inline constexpr std::size_t kKeyBytes = 250;
inline constexpr std::size_t kCountedKeyBytes = 600;
// A template of the longest line: its shape, its label, its words one by one.
inline constexpr std::size_t kTemplateBytes = 4200;

// Of one rule by itself; rules of the same patterns share what they look at.
struct WindowMemory {
  rules::Duration looks_back{0};  // the longest window with its offset
  std::size_t most_bytes = 0;     // as many matches and keys as are kept of each pattern at most
};
WindowMemory window_memory(const rules::AlertingRule& rule);

}  // namespace logbell::engine

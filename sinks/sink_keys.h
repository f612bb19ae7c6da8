// The keys of each type of sink, as its parser reads them: what `check` knows and `logbell schema` prints.
//
// Immutable; any thread.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "rules/keys.h"

namespace logbell::sinks {

struct SinkKeys {
  std::string_view type;
  const rules::KeyTable& (*table)();  // what stands beneath `slack:`, `webhook:` …
};
// In the registry's order.
std::span<const SinkKeys> sink_keys();

// Null: there is no such type.
const rules::KeyTable* find_sink_keys(std::string_view type);

// How a request goes out, and who may: of every sink that speaks HTTP, and of the heartbeat.
const std::vector<rules::Key>& http_keys();
const std::vector<rules::Key>& authorization_keys();

}  // namespace logbell::sinks

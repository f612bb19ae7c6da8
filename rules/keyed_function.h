// KeyedFunction: functions over the values that a capture has in a pattern's lines: who, which request, which
// kind of error. Their key needs to be no label of the pattern.
//
// Pure; any thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "rules/time.h"

namespace logbell::rules {

enum class KeyedFunction : std::uint8_t {
  kDistinct,    // how many keys came in the window
  kFirstSeen,   // each key that came, and had not in the window before
  kUnanswered,  // each key of the first pattern that the second did not have within the window
  kSequence,    // each key that all patterns had, in this order, in the window
};

struct KeyedSignature {
  KeyedFunction function;
  std::string_view name;
  std::size_t least;  // patterns
  std::size_t most;
  std::string_view example;
};

const KeyedSignature& signature_of(KeyedFunction function);
// Null: there is no such function.
const KeyedSignature* find_keyed_function(std::string_view name);
std::vector<std::string_view> keyed_function_names();

// So long first_seen() has an element: as long as Prometheus looks back for the last sample of a series.
inline constexpr Duration kFirstSeenFor = std::chrono::minutes(5);

// What must be kept of a pattern's matches, by a capture of theirs, so that such a function can be answered.
struct KeyedNeed {
  std::string key;
  std::vector<std::string> labels;  // of the pattern, beside it
  bool sampled = false;             // of very many keys some may stand for all
  Duration reach{0};                // each key at least as long as this after its last match
  Duration exact{0};                // and every match of it for so long; of those before only the last

  // "user" by itself, "user,queue" with a label, "user~" sampled: needs of one name share what is kept.
  std::string name() const;
};

}  // namespace logbell::rules

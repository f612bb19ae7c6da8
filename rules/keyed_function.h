// KeyedFunction: functions over the values that a capture has in a pattern's lines: who, which request, which
// kind of error; or over what the lines say (rules/line_shape.h). Their key needs to be no label of the
// pattern.
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
  kDistinct,     // how many keys came in the window
  kFirstSeen,    // each key that came, and had not in the window before
  kNewTemplate,  // the same of kinds of line, whose templates are the keys
  kUnanswered,   // each key of the first pattern that the second did not have within the window
  kSequence,     // each key that all patterns had, in this order, in the window
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

// It gives what came and had not in the window before: how often it came since.
inline constexpr bool is_of_what_is_new(KeyedFunction function) {
  return function == KeyedFunction::kFirstSeen || function == KeyedFunction::kNewTemplate;
}
// So long such a function has an element: as long as Prometheus looks back for the last sample of a series.
inline constexpr Duration kFirstSeenFor = std::chrono::minutes(5);

// The label that new_template() gives, and the key by which it asks for what a line says: no capture is
// called so. The number rises when lines are put together by other rules (rules/line_shape.h,
// engine/core/template_tree.h): what was kept under the one before says nothing of what is new.
inline constexpr std::string_view kTemplateLabel = "template";
inline constexpr std::string_view kTemplateKey = "<template-1>";

// What must be kept of a pattern's matches, by a capture of theirs, so that such a function can be answered.
struct KeyedNeed {
  std::string key;
  std::vector<std::string> labels;  // of the pattern, beside it
  bool sampled = false;             // of very many keys some may stand for all
  Duration reach{0};                // each key at least as long as this after its last match
  Duration exact{0};                // and every match of it for so long; of those before only the last

  // "user" by itself, "user,queue" with a label, "user~" sampled: needs of one name share what is kept.
  std::string name() const;
  bool is_of_templates() const { return key == kTemplateKey; }
  // What people call its key.
  std::string_view shown_key() const { return is_of_templates() ? kTemplateLabel : std::string_view(key); }
};

}  // namespace logbell::rules

#include "rules/keyed_function.h"

#include <algorithm>
#include <array>

namespace logbell::rules {
namespace {

using Function = KeyedFunction;

constexpr std::array kSignatures{
    KeyedSignature{Function::kDistinct, "distinct_over_time", 1, 1,
                   "distinct_over_time(\"user\", PATTERN[10m]) > 100"},
    KeyedSignature{Function::kFirstSeen, "first_seen", 1, 1, "first_seen(\"error_class\", PATTERN[7d])"},
    KeyedSignature{Function::kNewTemplate, "new_template", 1, 1, "new_template(PATTERN[7d])"},
    KeyedSignature{Function::kUnanswered, "unanswered_over_time", 2, 2,
                   "unanswered_over_time(\"id\", ASKED, ANSWERED[30m]) > 0"},
    KeyedSignature{Function::kSequence, "sequence_over_time", 2, 8,
                   "sequence_over_time(\"host\", FIRST, THEN[10m])"},
};

}  // namespace

const KeyedSignature& signature_of(KeyedFunction function) {
  return kSignatures[static_cast<std::size_t>(function)];
}

const KeyedSignature* find_keyed_function(std::string_view name) {
  const auto found = std::find_if(kSignatures.begin(), kSignatures.end(),
                                  [&](const KeyedSignature& signature) { return signature.name == name; });
  return found == kSignatures.end() ? nullptr : &*found;
}

std::vector<std::string_view> keyed_function_names() {
  std::vector<std::string_view> names;
  names.reserve(kSignatures.size());
  for (const KeyedSignature& signature : kSignatures)
    names.push_back(signature.name);
  return names;
}

std::string KeyedNeed::name() const {
  std::string name = key;
  for (const std::string& label : labels)
    name += "," + label;
  return sampled ? name + "~" : name;
}

}  // namespace logbell::rules

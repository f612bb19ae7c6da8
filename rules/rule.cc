#include "rules/rule.h"

namespace logbell::rules {

Fingerprint AlertingRule::identity() const {
  std::string text = name + '\0' + expr_text + '\0';
  if (!location.empty()) text += location + '\2';
  for (const auto& [label, value] : labels)
    text += label + '\1' + value.text() + '\0';
  return hash_bytes(text);
}

}  // namespace logbell::rules

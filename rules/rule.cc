#include "rules/rule.h"

#include <algorithm>

namespace logbell::rules {

Fingerprint AlertingRule::identity() const {
  std::string text = name + '\0' + expr_text + '\0';
  if (!location.empty()) text += location + '\2';
  if (resolve_when) text += resolve_when->text + '\3';
  for (const auto& [label, value] : labels)
    text += label + '\1' + value.text() + '\0';
  return hash_bytes(text);
}

std::vector<const Expr*> range_calls(const AlertingRule& rule) {
  std::vector<const Expr*> calls = range_calls(*rule.expr);
  if (rule.resolve_when) {
    const std::vector<const Expr*> more = range_calls(*rule.resolve_when->expr);
    calls.insert(calls.end(), more.begin(), more.end());
  }
  return calls;
}

Duration longest_window(const AlertingRule& rule) {
  const Duration longest = longest_window(*rule.expr);
  return rule.resolve_when ? std::max(longest, longest_window(*rule.resolve_when->expr)) : longest;
}

Duration known_after(const AlertingRule& rule) {
  const Duration known = known_after(*rule.expr);
  return rule.resolve_when ? std::max(known, known_after(*rule.resolve_when->expr)) : known;
}

}  // namespace logbell::rules

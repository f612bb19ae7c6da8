#include "engine/cli/window_memory.h"

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "engine/core/keyed_window.h"
#include "rules/count_precision.h"

namespace logbell::engine {

WindowMemory window_memory(const rules::AlertingRule& rule) {
  WindowMemory out;
  if (rule.expr == nullptr) return out;  // it was refused
  out.looks_back = rules::longest_window(rule);
  std::vector<rules::CountPrecision> precision;
  rules::add_precision(rule, precision);
  std::set<std::pair<std::uint32_t, std::string>> counted;  // patterns, each also by each of its keys
  for (const rules::Expr* call : rules::range_calls(rule)) {
    if (!call->asks_keys()) {
      if (counted.emplace(call->pattern_index, std::string()).second)
        out.most_bytes += PatternWindow::most_points(precision[call->pattern_index]) * kPointBytes;
      continue;
    }
    const rules::KeyedNeed need = call->keyed_need();
    if (!counted.emplace(call->pattern_index, need.name()).second) continue;
    out.most_bytes += need.sampled ? KeyedWindow::kMostSampled * kCountedKeyBytes : KeyedWindow::kMaxKeys * kKeyBytes;
    if (need.is_of_templates()) out.most_bytes += TemplateTree::kMaxTemplates * kTemplateBytes;
    if (need.exact > rules::Duration{0}) out.most_bytes += KeyedWindow::kMaxPoints * kPointBytes;
  }
  return out;
}

}  // namespace logbell::engine

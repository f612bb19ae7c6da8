// When each key of a function such as unanswered_over_time() has its element.
//
// Pure: windows and time are arguments. Owned by the core thread, as the windows are.
#pragma once

#include <functional>
#include <string_view>
#include <vector>

#include "engine/core/evaluator.h"
#include "engine/core/keyed_window.h"
#include "rules/expr.h"
#include "rules/time.h"

namespace logbell::engine {

// From `from` on, and no longer at `until`.
struct Span {
  rules::Timestamp from;
  rules::Timestamp until;
  friend bool operator==(const Span&, const Span&) = default;
};

// One key, as far as its matches are known.
struct KeyedSpans {
  std::string_view id;              // of the first operand's KeyedWindow; of several operands the key alone
  std::vector<Span> spans;          // by their beginnings
  std::vector<rules::Timestamp> matches;  // of the first operand, each time once
};

// Every key of `expr`, a bound kKeyed, with a span that ends after `from`: that of distinct_over_time() is the time in
// which the key is counted, and that of the others the time in which it has an element.
void visit_keys(const rules::Expr& expr, rules::Timestamp from, const WindowOf& window_of,
                const std::function<void(const KeyedSpans&)>& visit);

}  // namespace logbell::engine

// Evaluator: the value of an expression at an instant, and the instants at which it can change.
//
// Owned by the core thread. Pure: windows and time are arguments.
#pragma once

#include <functional>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "engine/core/instants.h"
#include "engine/core/window.h"
#include "rules/expr.h"
#include "rules/labels.h"
#include "rules/result.h"
#include "rules/time.h"

namespace logbell::engine {

// One element of a result.
struct Sample {
  rules::Labels labels;
  double value = 0;
  friend bool operator==(const Sample&, const Sample&) = default;
};

using WindowOf = std::function<const PatternWindow&(std::uint32_t pattern_index)>;

// Of a function by key that stands by itself: those that a rule tells, each as an alert (KeyedIndex::kMaxElements), or all
// of them, as whatever else is asked wants them.
enum class Elements { kTold, kAll };

// The elements that `expr` has at `at`: those for which a rule of this expression fires. An error when two
// elements of one side of an operator would have to meet the same element of the other (PromQL refuses
// many-to-many likewise); bind_expr() lets no expression through in which they can.
rules::Result<std::vector<Sample>> evaluate(const rules::Expr& expr, rules::Timestamp at,
                                            const WindowOf& window_of, Elements elements = Elements::kAll);

// What the elements of `expr` can be at most and at least in [from, to], whichever there are, by one look at
// its windows. Unset: nothing is known of it.
std::optional<std::pair<double, double>> value_bounds(const rules::Expr& expr, rules::Timestamp from,
                                                      rules::Timestamp to, const WindowOf& window_of);

// False: at no instant in (from, to] has `expr` an element. By bounds of what each part can be in all that
// time, in one look at its windows; where they say nothing, true.
bool may_be_true(const rules::Expr& expr, rules::Timestamp from, rules::Timestamp to,
                 const WindowOf& window_of);

// The elements that `expr` has at every instant in (from, to], if it has no other at any of them. Unset: it
// may change.
std::optional<std::set<rules::Labels>> steady_elements(const rules::Expr& expr, rules::Timestamp from,
                                                       rules::Timestamp to, const WindowOf& window_of);

// Adds every instant in (from, to] at which a match of the expression's patterns comes into or leaves one of
// its windows, or a function of the clock turns.
void change_instants(const rules::Expr& expr, rules::Timestamp from, rules::Timestamp to,
                     const WindowOf& window_of, Instants& out, Elements elements = Elements::kAll);

// The first instant after `from` at which a match leaves one of the windows or, known already, comes into
// one, or a function of the clock turns.
std::optional<rules::Timestamp> next_change(const rules::Expr& expr, rules::Timestamp from,
                                            const WindowOf& window_of, Elements elements = Elements::kAll);

}  // namespace logbell::engine

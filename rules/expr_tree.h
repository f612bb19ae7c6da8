// How an expression was read: its operators one beneath the other, so that nobody has to know which binds
// tighter.
//
// Pure; any thread.
#pragma once

#include <string>
#include <vector>

#include "rules/expr.h"

namespace logbell::rules {

// A line each, the outermost operator first and its sides beneath it, two blanks further in; what holds no
// operator is one line.
std::vector<std::string> expr_tree(const Expr& expr);

}  // namespace logbell::rules

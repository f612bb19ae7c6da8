// An expression's text, of which somebody writes some parts otherwise: for languages that are nearly PromQL.
//
// Pure; any thread.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "rules/expr.h"

namespace logbell::rules {

// What is written for a part; unset: it is written as it stands, and its own parts are asked about. The text
// must stand for itself, whatever is around it: a call, or in brackets.
using PartText = std::function<std::optional<std::string>(const Expr& part)>;
std::string format_expr(const Expr& expr, const PartText& part_text);

}  // namespace logbell::rules

#include "rules/expr_tree.h"

#include <algorithm>
#include <limits>
#include <memory>

namespace logbell::rules {
namespace {

// No text of an expression holds it but as this number.
constexpr const char* kSide = "NaN";

ExprPtr side() {
  auto out = std::make_shared<Expr>();
  out->kind = Expr::Kind::kNumber;
  out->number = std::numeric_limits<double>::quiet_NaN();
  return out;
}

bool holds_operator(const Expr& expr) {
  const std::vector<const Expr*> parts = parts_of(expr);
  return expr.kind == Expr::Kind::kBinary ||
         std::any_of(parts.begin(), parts.end(), [](const Expr* part) { return holds_operator(*part); });
}

void print(const Expr& expr, std::size_t depth, std::vector<std::string>& out) {
  const std::string indent(2 * depth, ' ');
  if (!holds_operator(expr)) {
    out.push_back(indent + format_expr(expr));
    return;
  }
  // Brackets say nothing that the tree does not.
  if (expr.kind == Expr::Kind::kParen) return print(*expr.left, depth, out);
  Expr alone = expr;
  alone.left = side();
  if (expr.right != nullptr) alone.right = side();
  std::string text = format_expr(alone);
  const std::string begin = std::string(kSide) + " ";
  const std::string end = std::string(" ") + kSide;
  if (expr.kind == Expr::Kind::kBinary) {
    text = text.substr(begin.size(), text.size() - begin.size() - end.size());
  } else if (const std::size_t at = text.rfind(kSide); at != std::string::npos) {
    text.replace(at, std::string(kSide).size(), "…");
  }
  out.push_back(indent + text);
  print(*expr.left, depth + 1, out);
  if (expr.right != nullptr) print(*expr.right, depth + 1, out);
}

}  // namespace

std::vector<std::string> expr_tree(const Expr& expr) {
  std::vector<std::string> out;
  print(expr, 0, out);
  return out;
}

}  // namespace logbell::rules

// An expression's canonical text parses back to the same canonical text; a template's text never ends the
// process.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "rules/expr.h"
#include "rules/labels.h"
#include "rules/pattern.h"
#include "rules/template.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace logbell::rules;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto parsed = Template::parse(text))
    static_cast<void>(parsed->render(Labels{{"queue", "orders"}}, Labels{}, 1.5));
  const auto expr = parse_expr(text);
  if (!expr) {
    LOGBELL_CHECK(!expr.error().reason.empty() && expr.error().offset <= size);
    return 0;
  }
  const std::string canonical = format_expr(**expr);
  const auto again = parse_expr(canonical);
  LOGBELL_CHECK(again.has_value());
  LOGBELL_CHECK(format_expr(**again) == canonical);
  std::vector<PatternSpec> patterns(2);
  patterns[0].name = "a";
  patterns[0].labels = {"queue"};
  patterns[0].value = "took";
  patterns[1].name = "b";
  static_cast<void>(bind_expr(*expr, patterns));
  return 0;
}

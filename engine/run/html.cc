#include "engine/run/html.h"

#include "rules/redact.h"

namespace logbell::engine {

std::string html(std::string_view text, std::size_t most) {
  std::string out;
  for (const char c : rules::clean_text(text, most)) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

}  // namespace logbell::engine

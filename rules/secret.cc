#include "rules/secret.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <utility>

#include <string.h>  // explicit_bzero

#include "rules/text.h"

namespace logbell::rules {

Secret::Secret(std::string value) : value_(std::move(value)) {}
Secret::Secret(const Secret&) = default;
// A copy, then a wipe: a moved-from short string keeps its bytes.
Secret::Secret(Secret&& other) noexcept
    // NOLINTNEXTLINE(performance-move-constructor-init): moving a short string leaves its bytes behind
    : value_(other.value_) {
  // Copied, then wiped: moving a short string leaves its bytes behind in the source.
  explicit_bzero(other.value_.data(), other.value_.size());
  other.value_.clear();
}
Secret& Secret::operator=(Secret other) noexcept {
  value_.swap(other.value_);
  return *this;
}
Secret::~Secret() {
  explicit_bzero(value_.data(), value_.size());
}

namespace {

// What a shell, a template or a vault should have filled in and did not: ${X}, $(cat x), {{ x }}, $X.
bool is_unexpanded(std::string_view value) {
  const auto holds = [&](std::string_view open, std::string_view close) {
    const std::size_t from = value.find(open);
    return from != std::string_view::npos && value.find(close, from) != std::string_view::npos;
  };
  if (holds("${", "}") || holds("$(", ")") || holds("{{", "}}")) return true;
  return value.size() >= 2 && value.front() == '$' && is_alpha(value[1]) &&
         std::all_of(value.begin() + 1, value.end(), is_word);
}

}  // namespace

bool is_placeholder(std::string_view value) {
  if (is_unexpanded(value)) return true;
  const std::string word = lower(value);
  // Whole words that stand for "fill this in" in examples and templates.
  static constexpr std::array<std::string_view, 18> kWords{
      "changeme",   "change-me", "change_me", "changeit", "replaceme", "replace-me",
      "replace_me", "todo",      "tbd",       "secret",   "password",  "token",
      "example",    "dummy",     "none",      "null",     "fixme",     "placeholder"};
  if (std::find(kWords.begin(), kWords.end(), word) != kWords.end()) return true;
  if (word.size() >= 3 && word.find_first_not_of('x') == std::string::npos) return true;
  if (word.size() >= 3 && word.find_first_not_of('*') == std::string::npos) return true;
  if (word.size() >= 2 && word.front() == '<' && word.back() == '>') return true;
  if (word.rfind("your-", 0) == 0 || word.rfind("your_", 0) == 0) return true;
  // Slack's documentation shows T00000000/B00000000/XXXX…; people shorten it in every way.
  static constexpr std::string_view kSlack = "hooks.slack.com/services/";
  const std::size_t slack = word.find(kSlack);
  if (slack != std::string::npos) {
    const std::string rest = word.substr(slack + kSlack.size());
    if (rest.empty() || rest.rfind("t000", 0) == 0 || rest.find("xxx") != std::string::npos ||
        rest.find("…") != std::string::npos || rest.find("...") != std::string::npos) {
      return true;
    }
  }
  return word.find("changeme") != std::string::npos || word.find("change-me") != std::string::npos ||
         word.find("example.com/services") != std::string::npos;
}

}  // namespace logbell::rules

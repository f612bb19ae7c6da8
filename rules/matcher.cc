#include "rules/matcher.h"

namespace logbell::rules {
namespace {

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t'))
    text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t'))
    text.remove_suffix(1);
  return text;
}

}  // namespace

bool LabelMatcher::matches(std::string_view label_value) const {
  switch (op) {
    case Op::kEqual:
      return label_value == value;
    case Op::kNotEqual:
      return label_value != value;
    case Op::kMatches:
      return regex->matches(label_value);
    case Op::kNotMatches:
      return !regex->matches(label_value);
  }
  return false;
}

std::string LabelMatcher::format() const {
  static constexpr std::string_view kOps[] = {"=", "!=", "=~", "!~"};
  std::string text = name + std::string(kOps[static_cast<std::size_t>(op)]) + "\"";
  for (const char c : value) {
    if (c == '\\' || c == '"') text += '\\';
    if (c == '\n') {
      text += "\\n";
    } else {
      text += c;
    }
  }
  return text + "\"";
}

std::optional<std::vector<std::string>> LabelMatcher::named_values() const {
  if (!regex) return std::vector<std::string>{value};
  if (value.find_first_of("\\.^$*+?()[]{}") != std::string::npos) return std::nullopt;
  std::vector<std::string> values;
  for (std::size_t at = 0;;) {
    const std::size_t end = value.find('|', at);
    values.push_back(value.substr(at, end - at));
    if (end == std::string::npos) return values;
    at = end + 1;
  }
}

Result<LabelMatcher> LabelMatcher::make(std::string name, Op op, std::string value) {
  LabelMatcher matcher{std::move(name), op, std::move(value), std::nullopt};
  if (!is_label_name(matcher.name))
    return fail(ErrorCode::kInvalid, "\"" + matcher.name + "\" is not a label name");
  if (op == Op::kMatches || op == Op::kNotMatches) {
    auto regex = Regex::compile(matcher.value, Regex::Options{true});
    if (!regex) {
      std::string reason = (regex.error().by_re2 ? "RE2 refuses \"" : "refused is \"") + matcher.value +
                           "\": " + regex.error().reason;
      if (!regex.error().hint.empty()) reason += "; " + regex.error().hint;
      return fail(ErrorCode::kInvalid, std::move(reason));
    }
    matcher.regex = *std::move(regex);
  }
  return matcher;
}

Result<LabelMatcher> LabelMatcher::parse(std::string_view text) {
  const std::string_view whole = trim(text);
  const std::size_t at = whole.find_first_of("=!");
  const auto wrong = [&] {
    return fail(ErrorCode::kInvalid,
                "cannot read matcher `" + std::string(whole) + "`: expected name=\"value\", !=, =~ or !~");
  };
  if (at == std::string_view::npos || at == 0) return wrong();
  Op op = Op::kEqual;
  std::size_t length = 2;
  const std::string_view sign = whole.substr(at, 2);
  if (sign == "=~") {
    op = Op::kMatches;
  } else if (sign == "!~") {
    op = Op::kNotMatches;
  } else if (sign == "!=") {
    op = Op::kNotEqual;
  } else if (sign.front() == '=') {
    length = 1;
  } else {
    return wrong();
  }
  std::string_view rest = trim(whole.substr(at + length));
  std::string value;
  if (!rest.empty() && rest.front() == '"') {
    std::size_t i = 1;
    for (; i < rest.size() && rest[i] != '"'; ++i) {
      if (rest[i] == '\\' && i + 1 < rest.size()) {
        ++i;
        // As Alertmanager: \" \\ \n; any other escape stays as written (regexes use them).
        if (rest[i] == 'n') {
          value += '\n';
        } else if (rest[i] == '"' || rest[i] == '\\') {
          value += rest[i];
        } else {
          value += '\\';
          value += rest[i];
        }
      } else {
        value += rest[i];
      }
    }
    if (i + 1 != rest.size()) return wrong();
  } else {
    if (rest.find_first_of("\"{},") != std::string_view::npos) return wrong();
    value = rest;
  }
  return make(std::string(trim(whole.substr(0, at))), op, std::move(value));
}

}  // namespace logbell::rules

#include "rules/template.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>

#include <fmt/format.h>

#include "rules/problems.h"
#include "rules/time.h"

namespace logbell::rules {
namespace {

constexpr std::array<std::string_view, 9> kFunctions{"humanize",
                                                     "humanize1024",
                                                     "humanizeDuration",
                                                     "humanizePercentage",
                                                     "humanizeTimestamp",
                                                     "toUpper",
                                                     "toLower",
                                                     "title",
                                                     "printf"};

// A value on its way through a pipe: a number until a function makes text of it.
struct Value {
  std::variant<double, std::string> content;
  std::string text() const {
    return std::holds_alternative<double>(content) ? format_number(std::get<double>(content))
                                                   : std::get<std::string>(content);
  }
  // As Prometheus converts: text that is a number is one.
  bool number(double& out) const {
    if (std::holds_alternative<double>(content)) {
      out = std::get<double>(content);
      return true;
    }
    const std::string& from = std::get<std::string>(content);
    char* end = nullptr;
    out = std::strtod(from.c_str(), &end);
    return !from.empty() && end == from.c_str() + from.size();
  }
};

// As Go prints %.4g.
std::string four_digits(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  return fmt::format("{:.4g}", value);
}

// Prometheus's humanize: SI prefixes above one and below.
std::string humanize(double v) {
  if (v == 0 || std::isnan(v) || std::isinf(v)) return four_digits(v);
  static constexpr std::string_view kUp[] = {"k", "M", "G", "T", "P", "E", "Z", "Y"};
  static constexpr std::string_view kDown[] = {"m", "u", "n", "p", "f", "a", "z", "y"};
  std::string_view prefix;
  if (std::abs(v) >= 1) {
    for (const std::string_view up : kUp) {
      if (std::abs(v) < 1000) break;
      prefix = up;
      v /= 1000;
    }
  } else {
    for (const std::string_view down : kDown) {
      if (std::abs(v) >= 1) break;
      prefix = down;
      v *= 1000;
    }
  }
  return four_digits(v) + std::string(prefix);
}

std::string humanize1024(double v) {
  if (std::abs(v) <= 1 || std::isnan(v) || std::isinf(v)) return four_digits(v);
  std::string_view prefix;
  for (const std::string_view up : {"ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"}) {
    if (std::abs(v) < 1024) break;
    prefix = up;
    v /= 1024;
  }
  return four_digits(v) + std::string(prefix);
}

std::string humanize_duration(double v) {
  if (std::isnan(v) || std::isinf(v)) return four_digits(v);
  // More than thirty million years have no seconds to tell.
  if (std::abs(v) >= 1e15) return four_digits(v) + "s";
  if (v == 0) return "0s";
  if (std::abs(v) >= 1) {
    const std::string sign = v < 0 ? "-" : "";
    const auto whole = static_cast<std::int64_t>(std::abs(v));
    const std::int64_t days = whole / 86400;
    const std::int64_t hours = whole / 3600 % 24;
    const std::int64_t minutes = whole / 60 % 60;
    const std::int64_t seconds = whole % 60;
    if (days != 0) return fmt::format("{}{}d {}h {}m {}s", sign, days, hours, minutes, seconds);
    if (hours != 0) return fmt::format("{}{}h {}m {}s", sign, hours, minutes, seconds);
    if (minutes != 0) return fmt::format("{}{}m {}s", sign, minutes, seconds);
    return four_digits(v) + "s";  // below a minute with its fraction
  }
  std::string_view prefix;
  for (const std::string_view down : {"m", "u", "n", "p", "f", "a", "z", "y"}) {
    if (std::abs(v) >= 1) break;
    prefix = down;
    v *= 1000;
  }
  return four_digits(v) + std::string(prefix) + "s";
}

// printf with one numeric or text verb; anything else in it is copied.
std::string apply_printf(const std::string& format, const Value& value) {
  const std::size_t at = format.find('%');
  std::size_t end = format.find_first_of("feEgGdsvq", at);
  if (at == std::string::npos || end == std::string::npos) return format;
  const std::string spec = format.substr(at, end - at);
  const char verb = format[end];
  double number = 0;
  std::string middle;
  if (verb == 's' || verb == 'v') {
    middle = value.text();
  } else if (verb == 'q') {
    middle = "\"" + value.text() + "\"";
  } else if (!value.number(number)) {
    middle = "%!" + std::string(1, verb) + "(" + value.text() + ")";
  } else if (verb == 'd') {
    middle = std::isfinite(number) ? fmt::format("{:.0f}", std::trunc(number)) : format_number(number);
  } else {
    // The specification was checked when the template was parsed: flags, and a width and digits below 100.
    // The largest number has 309 digits before its point.
    std::array<char, 512> buffer{};
    const std::string whole = spec + verb;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    std::snprintf(buffer.data(), buffer.size(), whole.c_str(), number);
#pragma GCC diagnostic pop
    middle = buffer.data();
  }
  return format.substr(0, at) + middle + format.substr(end + 1);
}

Value apply(const Template::Call& call, const Value& value) {
  const auto change_case = [&](auto&& change) {
    std::string text = value.text();
    change(text);
    return Value{text};
  };
  if (call.function == "printf") return Value{apply_printf(call.argument, value)};
  if (call.function == "toUpper") {
    return change_case([](std::string& text) {
      for (char& c : text)
        c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c;
    });
  }
  if (call.function == "toLower") {
    return change_case([](std::string& text) {
      for (char& c : text)
        c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    });
  }
  if (call.function == "title") {
    return change_case([](std::string& text) {
      bool start = true;
      for (char& c : text) {
        if (start && c >= 'a' && c <= 'z') c = static_cast<char>(c - 32);
        start = c == ' ';
      }
    });
  }
  double number = 0;
  if (!value.number(number)) return value;  // nothing to humanize: the text says more than an error would
  if (call.function == "humanize") return Value{humanize(number)};
  if (call.function == "humanize1024") return Value{humanize1024(number)};
  if (call.function == "humanizeDuration") return Value{humanize_duration(number)};
  if (call.function == "humanizePercentage") return Value{four_digits(number * 100) + "%"};
  // humanizeTimestamp: 2026-05-01 10:00:00 +0000 UTC, as Go prints it.
  if (std::isnan(number) || std::abs(number) > 1e11) return Value{four_digits(number)};
  std::string text = format_rfc3339(from_unix_ms(static_cast<std::int64_t>(number * 1000)));
  text[text.find('T')] = ' ';
  text.pop_back();
  return Value{text + " +0000 UTC"};
}

struct Lexer {
  std::string_view text;
  std::size_t at = 0;
  void skip_blanks() {
    while (at < text.size() && (text[at] == ' ' || text[at] == '\t' || text[at] == '\n'))
      ++at;
  }
  // A word, a quoted string (quotes kept), "|", "(" or ")"; "" at the end.
  std::string next() {
    skip_blanks();
    if (at >= text.size()) return "";
    const std::size_t from = at;
    if (text[at] == '|' || text[at] == '(' || text[at] == ')') return std::string(1, text[at++]);
    if (text[at] == '"' || text[at] == '`') {
      const char quote = text[at++];
      while (at < text.size() && text[at] != quote)
        at += text[at] == '\\' && quote == '"' && at + 1 < text.size() ? 2U : 1U;
      at = std::min(at + 1, text.size());
      return std::string(text.substr(from, at - from));
    }
    while (at < text.size() && std::string_view(" \t\n|()\"`").find(text[at]) == std::string_view::npos)
      ++at;
    return std::string(text.substr(from, at - from));
  }
};

std::string supported() {
  std::string list;
  for (const std::string_view name : kFunctions)
    list += (list.empty() ? "" : ", ") + std::string(name);
  return list;
}

// "$labels.queue" and its kind -> what it stands for.
bool read_subject(const std::string& word, Template::Hole& hole, std::string& error) {
  if (word == "$value" || word == ".Value") {
    hole.what = Template::Hole::What::kValue;
    return true;
  }
  const auto starts = [&](std::string_view prefix) { return word.compare(0, prefix.size(), prefix) == 0; };
  for (const std::string_view prefix : {"$labels.", ".Labels."}) {
    if (!starts(prefix)) continue;
    hole.what = Template::Hole::What::kLabel;
    hole.name = word.substr(prefix.size());
  }
  for (const std::string_view prefix : {"$externalLabels.", ".ExternalLabels."}) {
    if (!starts(prefix)) continue;
    hole.what = Template::Hole::What::kExternalLabel;
    hole.name = word.substr(prefix.size());
  }
  if (is_label_name(hole.name)) return true;
  error = "`" + word + "` is not $labels.NAME, $externalLabels.NAME or $value";
  return false;
}

bool read_function(const std::string& word, Lexer& lexer, Template::Call& call, std::string& error) {
  if (std::find(kFunctions.begin(), kFunctions.end(), word) == kFunctions.end()) {
    const std::string guess = closest(word, {kFunctions.begin(), kFunctions.end()});
    error = "unknown function `" + word + "`; " +
            (guess.empty() ? "there are " + supported() : "did you mean " + guess + "?");
    return false;
  }
  call.function = word;
  if (word != "printf") return true;
  const std::string format = lexer.next();
  if (format.size() < 2 || (format.front() != '"' && format.front() != '`')) {
    error = "printf wants its format in quotes, as in printf \"%.2f\"";
    return false;
  }
  call.argument = format.substr(1, format.size() - 2);
  const std::size_t percent = call.argument.find('%');
  std::size_t verb =
      percent == std::string::npos ? percent : call.argument.find_first_not_of("+-# 0", percent + 1);
  const auto skip_number = [&] {
    const std::size_t end = call.argument.find_first_not_of("0123456789", verb);
    const bool short_enough = end != std::string::npos && end - verb <= 2;
    verb = end;
    return short_enough;
  };
  if (verb != std::string::npos) {
    bool short_enough = skip_number();
    if (verb != std::string::npos && call.argument[verb] == '.') {
      ++verb;
      short_enough = skip_number() && short_enough;
    }
    if (verb != std::string::npos && (!short_enough || call.argument[verb] == '.')) {
      error = "printf takes a width and a precision of at most two digits each, as in %10.2f";
      return false;
    }
  }
  if (verb == std::string::npos ||
      std::string_view("feEgGdsvq").find(call.argument[verb]) == std::string_view::npos ||
      call.argument.find('%', verb) != std::string::npos) {
    error = "printf wants one of %f %e %g %d %s %v %q, once";
    return false;
  }
  return true;
}

bool read_hole(std::string_view inside, Template::Hole& hole, std::string& error) {
  Lexer lexer{inside};
  std::string word = lexer.next();
  if (word.empty()) {
    error = "nothing between {{ and }}";
    return false;
  }
  if (word.front() == '$' || word.front() == '.') {
    if (!read_subject(word, hole, error)) return false;
  } else {
    Template::Call call;
    if (!read_function(word, lexer, call, error)) return false;
    word = lexer.next();
    const bool bracket = word == "(";
    if (bracket) word = lexer.next();
    if (word.empty() || (word.front() != '$' && word.front() != '.')) {
      error = "`" + call.function + "` wants $value, $labels.NAME or $externalLabels.NAME";
      return false;
    }
    if (!read_subject(word, hole, error)) return false;
    if (bracket && lexer.next() != ")") {
      error = "a bracket is not closed";
      return false;
    }
    hole.calls.push_back(std::move(call));
  }
  for (word = lexer.next(); !word.empty(); word = lexer.next()) {
    if (word != "|") {
      error = "`" + word + "` is not understood; functions are joined with |";
      return false;
    }
    Template::Call call;
    if (!read_function(lexer.next(), lexer, call, error)) return false;
    hole.calls.push_back(std::move(call));
  }
  return true;
}

}  // namespace

Result<Template> Template::parse(std::string_view text) {
  std::vector<Fault> faults;
  Template out = parse(text, faults);
  if (faults.empty()) return out;
  return fail(ErrorCode::kInvalid,
              fmt::format("template, byte {}: {}", faults[0].offset + 1, faults[0].message));
}

Template Template::parse(std::string_view text, std::vector<Fault>& faults) {
  Template out;
  out.text_ = text;
  std::size_t at = 0;
  while (at < text.size()) {
    const std::size_t open = text.find("{{", at);
    if (open != at)
      out.parts_.emplace_back(
          std::string(text.substr(at, open == std::string_view::npos ? open : open - at)));
    if (open == std::string_view::npos) break;
    const std::size_t close = text.find("}}", open);
    if (close == std::string_view::npos) {
      faults.push_back({open, "{{ is never closed: }} is expected"});
      break;
    }
    std::string_view inside = text.substr(open + 2, close - open - 2);
    at = close + 2;
    // {{- and -}} take the white space beside them, as in Go's templates.
    static constexpr std::string_view kBlanks = " \t\r\n";
    if (!inside.empty() && inside.front() == '-') {
      inside.remove_prefix(1);
      if (auto* before = out.parts_.empty() ? nullptr : std::get_if<std::string>(&out.parts_.back())) {
        before->erase(before->find_last_not_of(kBlanks) + 1);
      }
    }
    if (!inside.empty() && inside.back() == '-') {
      inside.remove_suffix(1);
      at = std::min(text.find_first_not_of(kBlanks, at), text.size());
    }
    Hole hole;
    std::string error;
    if (!read_hole(inside, hole, error)) {
      faults.push_back({open, std::move(error)});
      // A label is looked up even where what is done with it is not understood.
      if (!is_label_name(hole.name)) continue;
    }
    out.parts_.emplace_back(std::move(hole));
  }
  return out;
}

std::string Template::render(const Labels& labels, const Labels& external, double value) const {
  std::string out;
  for (const auto& part : parts_) {
    if (const auto* text = std::get_if<std::string>(&part)) {
      out += *text;
      continue;
    }
    const Hole& hole = std::get<Hole>(part);
    Value current{value};
    if (hole.what == Hole::What::kLabel) current.content = std::string(labels.get(hole.name));
    if (hole.what == Hole::What::kExternalLabel) current.content = std::string(external.get(hole.name));
    for (const Call& call : hole.calls)
      current = apply(call, current);
    out += current.text();
  }
  return out;
}

namespace {
std::vector<std::string> names_of(const std::vector<std::variant<std::string, Template::Hole>>& parts,
                                  Template::Hole::What what) {
  std::vector<std::string> names;
  for (const auto& part : parts) {
    const auto* hole = std::get_if<Template::Hole>(&part);
    if (hole != nullptr && hole->what == what) names.push_back(hole->name);
  }
  return names;
}
}  // namespace

std::vector<std::string> Template::label_names() const {
  return names_of(parts_, Hole::What::kLabel);
}
std::vector<std::string> Template::external_label_names() const {
  return names_of(parts_, Hole::What::kExternalLabel);
}

bool Template::is_literal() const {
  return std::none_of(parts_.begin(), parts_.end(),
                      [](const auto& part) { return std::holds_alternative<Hole>(part); });
}

std::string format_number(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  if (value == 0) return "0";
  std::array<char, 64> buffer{};
  // People read a whole number as one: 200000, not 2e+05.
  constexpr double kMostInFull = 1e15;
  const bool whole = std::abs(value) < kMostInFull && value == std::floor(value);
  const auto end = whole ? std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::fixed)
                         : std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
  return {buffer.data(), end.ptr};
}

double parse_number(std::string_view text) {
  if (text == "+Inf") return std::numeric_limits<double>::infinity();
  if (text == "-Inf") return -std::numeric_limits<double>::infinity();
  if (text == "NaN") return std::numeric_limits<double>::quiet_NaN();
  return std::strtod(std::string(text).c_str(), nullptr);
}

}  // namespace logbell::rules

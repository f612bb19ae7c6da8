#include "rules/regex.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cstring>
#include <mutex>
#include <optional>
#include <string>
#include <system_error>

#include <re2/re2.h>

#include "rules/text.h"

namespace logbell::rules {
namespace {

// Enough for alternations of a few thousand words; a larger automaton would fall back to the slow NFA anyway.
constexpr std::int64_t kMaxAutomatonBytes = std::int64_t{16} << 20;
// Groups that captures() hands out at most: a log line with more named parts is a parser's job.

bool is_valid_utf8(std::string_view text) {
  const auto* at = reinterpret_cast<const unsigned char*>(text.data());
  const auto* end = at + text.size();
  while (at < end) {
    // Eight at a time, as most lines are ASCII.
    std::uint64_t eight = 0;
    if (end - at >= 8 && (std::memcpy(&eight, at, 8), (eight & 0x8080808080808080U) == 0)) {
      at += 8;
      continue;
    }
    if (*at < 0x80) {
      ++at;
      continue;
    }
    std::size_t more = 0;
    std::uint32_t code = 0;
    std::uint32_t least = 0;
    if ((*at & 0xE0) == 0xC0) {
      more = 1, code = *at & 0x1FU, least = 0x80;
    } else if ((*at & 0xF0) == 0xE0) {
      more = 2, code = *at & 0x0FU, least = 0x800;
    } else if ((*at & 0xF8) == 0xF0) {
      more = 3, code = *at & 0x07U, least = 0x10000;
    } else {
      return false;
    }
    if (static_cast<std::size_t>(end - at) <= more) return false;
    for (std::size_t i = 1; i <= more; ++i) {
      if ((at[i] & 0xC0) != 0x80) return false;
      code = (code << 6U) | (at[i] & 0x3FU);
    }
    if (code < least || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) return false;
    at += more + 1;
  }
  return true;
}

RE2::Options options_for(RE2::Options::Encoding encoding) {
  RE2::Options options;
  options.set_log_errors(false);
  options.set_encoding(encoding);
  options.set_max_mem(kMaxAutomatonBytes);
  return options;
}

// Where `piece` stands in the pattern as itself: not behind a backslash, and not in a class when it is no
// part of one. `(?P` is the one that names no group.
std::size_t offset_of(std::string_view pattern, std::string_view piece, std::size_t from = 0) {
  bool in_class = false;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    const bool outside = !in_class || piece.front() == '[' || piece.front() == '\\';
    const bool names_a_group = piece == "(?P" && pattern.substr(i, 4) == "(?P<";
    if (i >= from && outside && !names_a_group && pattern.substr(i, piece.size()) == piece) return i;
    if (pattern[i] == '\\') {
      ++i;
    } else if (pattern[i] == '[' && !in_class) {
      in_class = true;
      // A first ] is a character like any other.
      if (pattern.substr(i + 1, 1) == "^") ++i;
      if (pattern.substr(i + 1, 1) == "]") ++i;
    } else if (pattern[i] == ']') {
      in_class = false;
    }
  }
  return pattern.find(piece);
}

// `{2,1}` and the like: what is wrong with it, and what to write.
void explain_repetition(Regex::CompileError& error) {
  static constexpr int kMost = 1000;
  const std::string_view piece = error.fragment;
  int least = 0;
  int most = 0;
  const auto [stop, wrong] = std::from_chars(piece.data() + 1, piece.data() + piece.size(), least);
  if (wrong != std::errc() || least > kMost) {
    error.hint = "a repetition may count to 1000 at most";
    return;
  }
  most = least;
  if (*stop == ',' && stop[1] != '}') {
    const auto [end, failed] = std::from_chars(stop + 1, piece.data() + piece.size(), most);
    if (failed != std::errc()) most = kMost + 1;
  }
  if (most > kMost) {
    error.hint = "a repetition may count to 1000 at most";
  } else if (most < least) {
    error.reason = "the repetition " + std::string(piece) + " ends below where it begins";
    error.hint = "write {" + std::to_string(most) + "," + std::to_string(least) + "}";
  } else {
    error.reason = "the repetition " + std::string(piece) +
                   " is inside another, or holds one, and together " + "they count beyond 1000";
    error.hint = "write + or * for one of them";
  }
}

// What people bring from PCRE and other dialects, and what to write instead.
std::string regex_hint(std::string_view pattern, const Regex::CompileError& error) {
  const std::string_view piece = error.fragment;
  if (piece.empty() || error.offset == std::string::npos) return "";
  const std::string_view behind = pattern.substr(error.offset + piece.size());
  const bool of_equality = !behind.empty() && (behind.front() == '=' || behind.front() == '!');
  if (piece == "(?=" || piece == "(?!") {
    return "RE2 has no look-ahead; match the line with `match` and rule lines out with `exclude`";
  }
  if (piece == "(?<" && of_equality) {
    return "RE2 has no look-behind; match the line with `match` and rule lines out with `exclude`";
  }
  if (piece == "(?<") return "write a named group as (?P<name>…)";
  if (piece == "(?>" || piece == "*+" || piece == "++" || piece == "?+") {
    return "RE2 never backtracks: a plain group or repetition does the same";
  }
  if ((piece.size() == 2 && piece[0] == '\\' && piece[1] >= '1' && piece[1] <= '9') || piece == "\\k" ||
      piece == "\\g" || (piece == "(?P" && behind.substr(0, 1) == "=")) {
    return "RE2 has no back-references; write the repeated part out";
  }
  if (piece == "\\Z") return "write \\z, or $: a line has no line end";
  if (piece == "\\h") return "write [ \\t]";
  if (piece == "\\H") return "write [^ \\t]";
  if (piece == "\\u") return "write the character itself, or \\x{" + std::string(behind.substr(0, 4)) + "}";
  if (piece == "\\e") return "write \\x1b";
  if (piece == "(?#") return "RE2 has no comments; write it behind a # in the YAML";
  if (piece.substr(0, 2) == "(?" && piece.find('x') != std::string_view::npos) {
    return "RE2 has no flag x; leave out the blanks and comments it would skip";
  }
  if (piece.substr(0, 2) == "(?" && piece.size() == 3 &&
      std::string_view("R&(|P").find(piece[2]) != std::string_view::npos) {
    return "RE2 has no recursion, conditions or branch resets; write the part out";
  }
  if (piece.substr(0, 4) == "(?P<") return "a group's name is letters, digits and _";
  return "";
}

// The pattern with its characters that are no byte (`\x{4e2d}`) written as themselves: RE2 knows no such
// number where it matches bytes.
std::string for_bytes(std::string_view pattern) {
  std::string out;
  for (std::size_t at = 0; at < pattern.size(); ++at) {
    out += pattern[at];
    if (pattern[at] != '\\' || at + 1 >= pattern.size()) continue;
    out += pattern[++at];
    if (pattern[at] == 'Q') {
      const std::size_t end = std::min(pattern.find("\\E", at), pattern.size());
      out += pattern.substr(at + 1, end - at - 1);
      at = end - 1;
    } else if (pattern.substr(at, 2) == "x{") {
      std::uint32_t code = 0;
      const char* const end = pattern.data() + pattern.size();
      const auto [stop, wrong] = std::from_chars(pattern.data() + at + 2, end, code, 16);
      if (wrong != std::errc() || code <= 0xFF || stop == end) continue;
      out.resize(out.size() - 2);
      out += utf8(code);
      at = static_cast<std::size_t>(stop - pattern.data());
    }
  }
  return out;
}

// Whether its bytewise form might be refused though RE2 takes it as UTF-8: it names a character that is no byte, itself or by
// its number (`\x{4e2d}`, `\777`). Else the form is the same text, and no larger when compiled.
bool may_differ_in_bytes(std::string_view pattern) {
  for (std::size_t at = 0; at < pattern.size(); ++at) {
    if (static_cast<unsigned char>(pattern[at]) >= 0x80) return true;
    if (pattern[at] != '\\' || at + 1 == pattern.size()) continue;
    ++at;
    if (std::isdigit(static_cast<unsigned char>(pattern[at])) != 0 || pattern.substr(at, 2) == "x{") return true;
  }
  return false;
}

}  // namespace

struct Regex::Impl {
  Impl(std::string_view pattern, bool anchored)
      : utf8(anchored ? "^(?:" + std::string(pattern) + ")$" : std::string(pattern),
             options_for(RE2::Options::EncodingUTF8)) {}

  const RE2& for_text(std::string_view text) const {
    if (is_valid_utf8(text)) return utf8;
    const RE2& bytes = bytewise();
    return bytes.ok() ? bytes : utf8;
  }
  // Only a pattern that reads UTF-8 well-formed can be compiled bytewise as well; the same groups come out. Made when the
  // first text asks for it: for most patterns none ever does.
  const RE2& bytewise() const {
    std::call_once(asked_for_bytes, [&] {
      latin1.emplace(for_bytes(utf8.pattern()), options_for(RE2::Options::EncodingLatin1));
    });
    return *latin1;
  }

  RE2 utf8;
  mutable std::once_flag asked_for_bytes;
  mutable std::optional<RE2> latin1;
  std::vector<std::string> names;
};

std::string Regex::CompileError::format() const {
  return (by_re2 ? "is not a regex that RE2 takes: " : "is not a regex to count with: ") + reason;
}

tl::expected<Regex, Regex::CompileError> Regex::compile(std::string_view pattern, Options options) {
  // No log holds it, and a regex that means one can say \x08.
  if (const std::size_t at = pattern.find('\b'); at != std::string_view::npos)
    return tl::unexpected<CompileError>(
        CompileError{"it holds a backspace (U+0008)", "", at,
                     "in double quotes YAML reads \\b as one: write the regex in single quotes", false});
  // The pattern as written is judged alone: inside "^(?:…)$" an unbalanced ")" would pass.
  auto impl = std::make_shared<Impl>(pattern, options.anchored);
  std::optional<RE2> unanchored;
  if (options.anchored)
    unanchored.emplace(re2::StringPiece(pattern.data(), pattern.size()), options_for(RE2::Options::EncodingUTF8));
  const RE2& alone = unanchored ? *unanchored : impl->utf8;
  if (!alone.ok()) {
    CompileError error{alone.error(), alone.error_arg(), std::string::npos, "", true};
    if (!error.fragment.empty()) error.offset = offset_of(pattern, error.fragment);
    error.hint = regex_hint(pattern, error);
    if (alone.error_code() == RE2::ErrorRepeatSize && !error.fragment.empty()) explain_repetition(error);
    return tl::unexpected<CompileError>(std::move(error));
  }
  if (!impl->utf8.ok() || (may_differ_in_bytes(pattern) && !impl->bytewise().ok())) {
    const RE2& bad = impl->utf8.ok() ? impl->bytewise() : impl->utf8;
    return tl::unexpected<CompileError>(
        CompileError{bad.error(), bad.error_arg(), std::string::npos, "", true});
  }
  if (static_cast<std::size_t>(impl->utf8.NumberOfCapturingGroups()) >= Regex::kMaxGroups) {
    return tl::unexpected<CompileError>(CompileError{"more than 63 groups", "", std::string::npos,
                                                     "write groups that capture nothing as (?:…)", false});
  }
  impl->names.resize(static_cast<std::size_t>(impl->utf8.NumberOfCapturingGroups()));
  for (const auto& [index, name] : impl->utf8.CapturingGroupNames()) {
    // RE2 would take it, and a label would be empty wherever the other one matched.
    if (std::find(impl->names.begin(), impl->names.end(), name) != impl->names.end()) {
      const std::string group = "(?P<" + name + ">";
      return tl::unexpected<CompileError>(
          CompileError{"two groups have the name `" + name + "`, and only one of them would be read", group,
                       offset_of(pattern, group, offset_of(pattern, group) + 1),
                       "put one group around the alternatives, as in " + group + "…|…)", false});
    }
    impl->names[static_cast<std::size_t>(index - 1)] = name;
  }
  Regex regex;
  regex.pattern_ = std::string(pattern);
  regex.impl_ = std::move(impl);
  return regex;
}

bool Regex::matches(std::string_view text) const {
  LOGBELL_CHECK(impl_);
  const re2::StringPiece piece(text.data(), text.size());
  return impl_->for_text(text).Match(piece, 0, text.size(), RE2::UNANCHORED, nullptr, 0);
}

bool Regex::captures(std::string_view text, std::span<std::string_view> out) const {
  LOGBELL_CHECK(impl_);
  std::array<re2::StringPiece, Regex::kMaxGroups> groups;
  const std::size_t count = std::min(out.size(), Regex::kMaxGroups);
  const re2::StringPiece piece(text.data(), text.size());
  if (!impl_->for_text(text).Match(piece, 0, text.size(), RE2::UNANCHORED, groups.data(),
                                   static_cast<int>(count))) {
    return false;
  }
  for (std::size_t i = 0; i < count; ++i) {
    out[i] = groups[i].data() == nullptr ? std::string_view()
                                         : std::string_view(groups[i].data(), groups[i].size());
  }
  for (std::size_t i = count; i < out.size(); ++i)
    out[i] = {};
  return true;
}

int Regex::group_count() const {
  return static_cast<int>(impl_->names.size());
}
const std::vector<std::string>& Regex::group_names() const {
  return impl_->names;
}

std::optional<int> Regex::group_index(std::string_view name) const {
  for (std::size_t i = 0; i < impl_->names.size(); ++i) {
    if (impl_->names[i] == name) return static_cast<int>(i) + 1;
  }
  return std::nullopt;
}

}  // namespace logbell::rules

#include "rules/regex.h"

#include <algorithm>
#include <array>
#include <cctype>

#include <re2/re2.h>

namespace logbell::rules {
namespace {

// Enough for alternations of a few thousand words; a larger automaton would fall back to the slow NFA anyway.
constexpr std::int64_t kMaxAutomatonBytes = std::int64_t{16} << 20;
// Groups that captures() hands out at most: a log line with more named parts is a parser's job.

bool is_valid_utf8(std::string_view text) {
  const auto* at = reinterpret_cast<const unsigned char*>(text.data());
  const auto* end = at + text.size();
  while (at < end) {
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

// What people bring from PCRE and other dialects, and what to write instead.
std::string hint_for(std::string_view pattern, RE2::ErrorCode code) {
  const auto has = [&](std::string_view piece) { return pattern.find(piece) != std::string_view::npos; };
  if (has("(?=") || has("(?!")) {
    return "RE2 has no look-ahead; match the line with `match` and rule lines out with `exclude`";
  }
  if (has("(?<=") || has("(?<!")) {
    return "RE2 has no look-behind; match the line with `match` and rule lines out with `exclude`";
  }
  if (has("(?<")) return "write a named group as (?P<name>…)";
  if (has("(?>") || has("*+") || has("++") || has("?+")) {
    return "RE2 never backtracks: a plain group or repetition does the same";
  }
  for (std::size_t i = 0; i + 1 < pattern.size(); ++i) {
    if (pattern[i] != '\\') continue;
    if (pattern[i + 1] >= '1' && pattern[i + 1] <= '9')
      return "RE2 has no back-references; write the repeated part out";
    ++i;
  }
  if (code == RE2::ErrorRepeatSize) return "a repetition may count to 1000 at most";
  return "";
}

}  // namespace

struct Regex::Impl {
  Impl(std::string_view pattern, bool anchored)
      : utf8(anchored ? "^(?:" + std::string(pattern) + ")$" : std::string(pattern),
             options_for(RE2::Options::EncodingUTF8)),
        latin1(utf8.pattern(), options_for(RE2::Options::EncodingLatin1)) {}

  // Only a pattern that reads UTF-8 well-formed can be compiled bytewise as well; the same groups come out.
  const RE2& for_text(std::string_view text) const { return is_valid_utf8(text) ? utf8 : latin1; }

  RE2 utf8;
  RE2 latin1;
  std::vector<std::string> names;
};

tl::expected<Regex, Regex::CompileError> Regex::compile(std::string_view pattern, Options options) {
  // The pattern as written is judged alone: inside "^(?:…)$" an unbalanced ")" would pass.
  RE2 alone(re2::StringPiece(pattern.data(), pattern.size()), options_for(RE2::Options::EncodingUTF8));
  if (!alone.ok()) {
    CompileError error{alone.error(), alone.error_arg(), std::string::npos,
                       hint_for(pattern, alone.error_code())};
    if (!error.fragment.empty()) error.offset = pattern.find(error.fragment);
    return tl::unexpected<CompileError>(std::move(error));
  }
  auto impl = std::make_shared<Impl>(pattern, options.anchored);
  if (!impl->utf8.ok() || !impl->latin1.ok()) {
    const RE2& bad = impl->utf8.ok() ? impl->latin1 : impl->utf8;
    return tl::unexpected<CompileError>(CompileError{bad.error(), bad.error_arg(), std::string::npos, ""});
  }
  if (static_cast<std::size_t>(impl->utf8.NumberOfCapturingGroups()) >= Regex::kMaxGroups) {
    return tl::unexpected<CompileError>(CompileError{"more than 63 groups", "", std::string::npos,
                                                     "write groups that capture nothing as (?:…)"});
  }
  impl->names.resize(static_cast<std::size_t>(impl->utf8.NumberOfCapturingGroups()));
  for (const auto& [index, name] : impl->utf8.CapturingGroupNames()) {
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

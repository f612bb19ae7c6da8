// Regex: a compiled regular expression. The only door to RE2.
//
// Immutable and thread-safe after compile().
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "rules/result.h"

namespace logbell::rules {

class Regex {
 public:
  struct Options {
    bool anchored = false;  // the whole text must match, as in Prometheus's and Alertmanager's matchers
  };
  // What RE2 refused, or we do (two groups of one name): the reason, the offending piece, where it starts in
  // the pattern (npos: not known), a hint.
  struct CompileError {
    std::string reason;
    std::string fragment;
    std::size_t offset = std::string::npos;
    std::string hint;     // for look-ahead, back-references, `(?<name>`; else ""
    bool by_re2 = false;  // RE2 refuses it; else it is only we who do
    // "is not a regex that RE2 takes: missing )", to put behind what holds the regex.
    std::string format() const;
  };

  static tl::expected<Regex, CompileError> compile(std::string_view pattern, Options options);
  static tl::expected<Regex, CompileError> compile(std::string_view pattern) {
    return compile(pattern, Options{});
  }

  // UTF-8 where `text` is valid UTF-8, else byte by byte: DESIGN.md §3 "Matching".
  bool matches(std::string_view text) const;
  // Groups [0, out.size()): unmatched ones have a null data(). False and `out` untouched when there is no
  // match.
  bool captures(std::string_view text, std::span<std::string_view> out) const;

  const std::string& pattern() const { return pattern_; }
  static constexpr std::size_t kMaxGroups = 64;         // with group 0; compile() refuses more
  int group_count() const;                              // without group 0
  const std::vector<std::string>& group_names() const;  // [i] names group i + 1; "" when unnamed
  std::optional<int> group_index(std::string_view name) const;

 private:
  struct Impl;
  std::string pattern_;
  std::shared_ptr<const Impl> impl_;
};

}  // namespace logbell::rules

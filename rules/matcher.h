// LabelMatcher: one test of one label, in Prometheus's and Alertmanager's four operators.
//
// Immutable and thread-safe.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rules/labels.h"
#include "rules/regex.h"
#include "rules/result.h"

namespace logbell::rules {

struct LabelMatcher {
  enum class Op { kEqual, kNotEqual, kMatches, kNotMatches };

  std::string name;
  Op op = Op::kEqual;
  std::string value;
  std::optional<Regex> regex;  // anchored; set for kMatches and kNotMatches

  bool matches(std::string_view label_value) const;  // a missing label is ""
  bool matches(const Labels& labels) const { return matches(labels.get(name)); }
  std::string format() const;  // severity="critical"
  // Whether it says what the value is (=, =~), and not what it is not.
  bool is_positive() const { return op == Op::kEqual || op == Op::kMatches; }
  // The values that it names: one, or those of a regex that only lists some ("a|b"). Unset for any other.
  std::optional<std::vector<std::string>> named_values() const;

  static Result<LabelMatcher> make(std::string name, Op op, std::string value);
  // Alertmanager's text form: `severity="critical"`, `severity=critical`, `team=~"a|b"`.
  static Result<LabelMatcher> parse(std::string_view text);
};

}  // namespace logbell::rules

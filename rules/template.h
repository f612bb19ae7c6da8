// Template: text with `{{ $labels.x }}`, `{{ $value }}` and humanize functions, parsed when loaded.
//
// Immutable and thread-safe. A subset of Prometheus's templates: `{{ $labels.NAME }}`, `{{ $value }}`,
// `{{ $externalLabels.NAME }}`, each with `| humanize`, `humanize1024`, `humanizeDuration`,
// `humanizePercentage`, `humanizeTimestamp`, `toUpper`, `toLower`, `title`, `printf "%.2f"`, also in call
// form `{{ humanize $value }}`.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "rules/labels.h"
#include "rules/result.h"

namespace logbell::rules {

class Template {
 public:
  // What was not understood, and where in the text.
  struct Fault {
    std::size_t offset = 0;
    std::string message;
  };
  static Result<Template> parse(std::string_view text);  // the error names the first fault and its byte
  // As far as it can be read: for a check that tells everything at once.
  static Template parse(std::string_view text, std::vector<Fault>& faults);

  std::string render(const Labels& labels, const Labels& external, double value) const;

  // The names behind $labels and $externalLabels: `check` asks whether the rule can have them.
  std::vector<std::string> label_names() const;
  std::vector<std::string> external_label_names() const;
  const std::string& text() const { return text_; }
  bool is_literal() const;  // nothing in it depends on labels or value

  struct Call {
    std::string function;  // "" = none
    std::string argument;  // printf's format
  };
  struct Hole {
    enum class What { kLabel, kExternalLabel, kValue } what = What::kValue;
    std::string name;
    std::vector<Call> calls;  // applied in order
  };

 private:
  std::string text_;
  std::vector<std::variant<std::string, Hole>> parts_;
};

// Prometheus's number form: shortest that reads back, "+Inf", "-Inf", "NaN".
std::string format_number(double value);
// Reads format_number()'s text back.
double parse_number(std::string_view text);

}  // namespace logbell::rules

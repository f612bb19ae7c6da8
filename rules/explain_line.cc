#include "rules/explain_line.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>

#include <fmt/format.h>

#include "rules/fields.h"
#include "rules/json.h"
#include "rules/logfmt.h"
#include "rules/problems.h"
#include "rules/text.h"

namespace logbell::rules {
namespace {

constexpr std::size_t kMostShown = 60;  // bytes of a text from the log
constexpr double kRuledOut = 0.95;      // everything holds but one that must not
constexpr std::size_t kGram = 3;

std::string shown(std::string_view text) {
  if (text.size() <= kMostShown) return std::string(text);
  std::size_t end = kMostShown;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U)
    --end;
  return std::string(text.substr(0, end)) + "…";
}

// The pattern with only these of its conditions, so that the matcher can be asked of them alone.
PatternSpec only(const PatternSpec& pattern) {
  PatternSpec out;
  out.name = pattern.name;
  return out;
}

std::optional<std::string> field_value(LineFormat format, std::string_view line, const Facts* facts,
                                       const std::string& name) {
  if (facts != nullptr) {
    if (const std::string* fact = facts->find(name)) return *fact;
  }
  for (auto& [field, value] : fields_of(format, line, nullptr, Envelope::kNone)) {
    if (field == name) return std::move(value);
  }
  return std::nullopt;
}

std::string wanted_of(const FieldTest& test) {
  std::string what =
      test.match ? fmt::format("a match of `{}`", test.match->pattern()) : list_words(test.equals, 8);
  if (test.equals.size() > 1) what = "one of " + what;
  return test.negated ? "anything but " + what : what;
}

}  // namespace

std::vector<std::pair<std::string, std::string>> fields_of(LineFormat format, std::string_view line,
                                                           const Facts* facts, Envelope envelope) {
  std::vector<std::pair<std::string, std::string>> out;
  if (facts != nullptr) {
    for (const std::string& name : fact_names(envelope)) {
      if (const std::string* fact = facts->find(name)) out.emplace_back(name, *fact);
    }
  }
  JsonLineReader json;
  std::vector<JsonLineReader::Field> logfmt;
  if (format == LineFormat::kJson && json.read(line)) logfmt = json.fields();
  if (format == LineFormat::kLogfmt) read_logfmt(line, logfmt);
  for (JsonLineReader::Field& field : logfmt)
    out.emplace_back(std::move(field.name), std::move(field.value));
  return out;
}

PatternExplainer::PatternExplainer(const PatternSpec& pattern, LineFormat format)
    : pattern_(&pattern), format_(format) {
  for (const Regex& regex : pattern.match)
    steps_.emplace_back(regex.pattern());
}

double PatternExplainer::likeness(std::string_view line) const {
  if (pattern_->match.empty()) return 0.5;  // its fields say
  double best = 0;
  for (const RegexSteps& steps : steps_) {
    std::size_t grams = 0;
    std::size_t there = 0;
    for (const std::string& letters : steps.letters()) {
      for (std::size_t i = 0; i + kGram <= letters.size(); ++i) {
        ++grams;
        there += line.find(letters.substr(i, kGram)) != std::string_view::npos ? 1 : 0;
      }
    }
    if (grams > 0) best = std::max(best, static_cast<double>(there) / static_cast<double>(grams));
  }
  return best;
}

PatternVerdict PatternExplainer::explain(std::string_view line, const Facts* facts) const {
  PatternVerdict verdict;
  const std::uint32_t first = 0;
  const PatternSet set =
      PatternSet::compile(std::span(pattern_, 1), std::span(&first, 1), format_, PatternSet::Matcher::kPlain);
  PatternSet::Scratch scratch;
  std::vector<Match> found;
  const Record record{0, line.size(), facts};
  set.match(line, std::span(&record, 1), scratch, found);
  if (found.empty()) {
    explain_mismatch(line, facts, verdict);
    return verdict;
  }
  verdict.matches = true;
  verdict.nearness = 1;
  for (std::size_t i = 0; i < pattern_->labels.size(); ++i)
    verdict.labels.set(pattern_->labels[i], found[0].labels[i]);
  if (!pattern_->value.empty()) verdict.value = found[0].value;
  explain_match(line, facts, verdict);
  return verdict;
}

void PatternExplainer::explain_match(std::string_view line, const Facts* facts,
                                     PatternVerdict& verdict) const {
  std::array<std::string_view, Regex::kMaxGroups> groups;
  const auto add = [&](const Regex& regex, std::string_view text, const std::string& field) {
    const std::vector<std::string>& names = regex.group_names();
    for (std::size_t i = 0; i < names.size(); ++i) {
      const std::string_view group = groups[i + 1];
      if (names[i].empty() || group.data() == nullptr) continue;
      verdict.captures.push_back(
          {names[i], std::string(group), field, static_cast<std::size_t>(group.data() - text.data())});
    }
  };
  for (std::size_t which = 0; which < pattern_->match.size(); ++which) {
    const Regex& regex = pattern_->match[which];
    const auto wanted = std::span(groups.data(), static_cast<std::size_t>(regex.group_count()) + 1);
    if (!regex.captures(line, wanted)) continue;
    verdict.which = which;
    if (groups[0].data() != nullptr) {
      verdict.from = static_cast<std::size_t>(groups[0].data() - line.data());
      verdict.to = verdict.from + groups[0].size();
    }
    add(regex, line, "");
    break;
  }
  for (const FieldTest& test : pattern_->where) {
    if (!test.match || test.negated || test.match->group_count() == 0) continue;
    const auto value = field_value(format_, line, facts, test.field);
    const auto wanted = std::span(groups.data(), static_cast<std::size_t>(test.match->group_count()) + 1);
    if (value && test.match->captures(*value, wanted)) add(*test.match, *value, test.field);
  }
}

void PatternExplainer::explain_mismatch(std::string_view line, const Facts* facts,
                                        PatternVerdict& verdict) const {
  PatternSpec part = only(*pattern_);
  part.match = pattern_->match;
  if (!part.match.empty() && !matches_line(part, format_, line, facts)) {
    for (const RegexSteps& steps : steps_) {
      PartialMatch one = steps.in(line);
      if (!verdict.partial || one.share > verdict.partial->share) verdict.partial = std::move(one);
    }
    const PartialMatch& partial = *verdict.partial;
    // Its tests are not asked of a line that its regex does not match; they would be.
    verdict.nearness = partial.share * (pattern_->where.empty() ? 1 : 0.9);
    if (partial.held.empty()) {
      verdict.reason = fmt::format("`match:` nothing like `{}` is in the line", partial.wanted);
    } else if (partial.is_end) {
      verdict.reason = fmt::format(
          "`match:` matches from `{}` at column {} on, but `{}` does not stand {} it", partial.held,
          partial.from + 1, partial.wanted, partial.anywhere ? "anywhere before" : "right before");
    } else if (partial.anywhere) {
      verdict.reason = fmt::format(
          "`match:` matches up to `{}` (to column {}), but `{}` does not stand anywhere behind it",
          partial.held, partial.to, partial.wanted);
    } else {
      verdict.reason = fmt::format(
          "`match:` matches up to `{}`; then `{}` is expected at column {}, where the line {}", partial.held,
          partial.wanted, partial.to + 1,
          partial.to >= line.size() ? std::string("ends")
                                    : fmt::format("has `{}`", shown(line.substr(partial.to, 20))));
    }
    return;
  }
  const auto excluded = std::find_if(pattern_->exclude.begin(), pattern_->exclude.end(),
                                     [&](const Regex& regex) { return regex.matches(line); });
  if (excluded != pattern_->exclude.end()) {
    std::array<std::string_view, 1> whole;
    excluded->captures(line, whole);
    verdict.nearness = kRuledOut;
    verdict.reason =
        fmt::format("`exclude: {}` rules it out: it matches `{}`", excluded->pattern(), shown(whole[0]));
    return;
  }
  std::size_t hold = 0;
  double nearness = 0;
  for (const FieldTest& test : pattern_->where) {
    part = only(*pattern_);
    part.where = {test};
    if (matches_line(part, format_, line, facts)) {
      ++hold;
      continue;
    }
    double of_test = 0;
    std::string why = explain_test(test, line, facts, of_test);
    if (verdict.reason.empty()) {
      verdict.reason = std::move(why);
      nearness = of_test;
    }
  }
  // A `match:` that holds is worth as much as all tests.
  const double tests = (static_cast<double>(hold) + nearness) /
                       static_cast<double>(std::max<std::size_t>(pattern_->where.size(), 1));
  verdict.nearness = std::min(pattern_->match.empty() ? tests : 0.5 + tests / 2, kRuledOut);
}

std::string PatternExplainer::explain_test(const FieldTest& test, std::string_view line, const Facts* facts,
                                           double& nearness) const {
  const std::optional<std::string> value = field_value(format_, line, facts, test.field);
  if (value) {
    nearness = 0.5;
    std::string why =
        fmt::format("`where:` wants {} in `{}`, and it is `{}`", wanted_of(test), test.field, shown(*value));
    if (test.match && !test.negated) {
      const PartialMatch partial = RegexSteps(test.match->pattern()).in(*value);
      nearness = 0.5 + partial.share / 2;
      if (!partial.held.empty() && !partial.is_end)
        why += fmt::format(" (it matches up to `{}`)", partial.held);
    }
    return why;
  }
  const auto fields = fields_of(format_, line, nullptr, Envelope::kNone);
  if (fields.empty()) {
    static constexpr std::array<std::string_view, 3> kNames{"text", "JSON", "logfmt"};
    return fmt::format("`where:` asks for `{}`, and the line has no fields: it is {}", test.field,
                       format_ == LineFormat::kText
                           ? "text"
                           : fmt::format("no {}", kNames[static_cast<std::size_t>(format_)]));
  }
  std::vector<std::string> names;
  names.reserve(fields.size());
  for (const auto& field : fields)
    names.push_back(field.first);
  std::string why =
      fmt::format("`where:` wants {} in `{}`, and the line has no such field", wanted_of(test), test.field);
  const std::string near = did_you_mean(test.field, names);
  return why + (near.empty() ? "; it has " + list_words(names, 12) : "; " + near);
}

}  // namespace logbell::rules

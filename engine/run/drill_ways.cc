#include "engine/run/drill_ways.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "engine/core/alerts.h"
#include "engine/core/drill.h"
#include "rules/expr.h"

namespace logbell::engine {

using rules::Labels;

namespace {

void add_once(std::vector<std::string>& list, const std::string& word) {
  if (std::find(list.begin(), list.end(), word) == list.end()) list.push_back(word);
}

// The first of the rule's sources that this pattern is looked for in, `name` if it is given.
std::optional<std::uint32_t> source_of(const rules::Plan& plan, const rules::AlertingRule& rule,
                                       const rules::PatternSpec& pattern, const std::string& name) {
  for (const std::uint32_t index : rule.sources) {
    const std::string& source = plan.sources[index].name;
    if (!name.empty() && source != name) continue;
    if (pattern.sources.empty() ||
        std::find(pattern.sources.begin(), pattern.sources.end(), source) != pattern.sources.end())
      return index;
  }
  return std::nullopt;
}

const std::vector<std::string>& fallbacks_of(const rules::Plan& plan, const std::string& sink) {
  static const std::vector<std::string> kNone;
  const auto spec = plan.sinks.find(sink);
  return spec == plan.sinks.end() ? kNone : spec->second.fallback;
}

// What the route asks of label `name` anywhere, as values that one of its matchers takes.
void add_values(const rules::Route& route, const std::string& name, std::vector<std::string>& values) {
  for (const rules::LabelMatcher& matcher : route.matchers) {
    if (matcher.name != name) continue;
    if (matcher.regex) {
      if (const std::optional<std::string> text = rules::example_of(*matcher.regex); text && !text->empty())
        add_once(values, *text);
    } else if (!matcher.value.empty()) {
      add_once(values, matcher.value);
    }
  }
  for (const rules::Route& child : route.routes)
    add_values(child, name, values);
}

}  // namespace

std::set<std::uint32_t> patterns_of(const rules::AlertingRule& rule) {
  std::set<std::uint32_t> patterns;
  for (const rules::Expr* call : rules::range_calls(*rule.expr))
    patterns.insert(call->pattern_index);
  return patterns;
}

std::vector<RuleSink> sinks_of(const rules::Plan& plan, const rules::AlertingRule& rule,
                               const rules::Reach& reach) {
  struct Found {
    bool told = false;
    std::vector<std::string> stands_in_for;
    std::size_t ways = 0;
    const rules::Way* easiest = nullptr;  // with the fewest assumptions
  };
  std::map<std::string, Found> all;
  std::vector<rules::Way> own;
  if (!rule.sinks.empty()) own.push_back({{}, {}, {}, rule.sinks});
  const std::vector<rules::Way>& ways = own.empty() ? reach.ways : own;
  for (const rules::Way& way : ways) {
    std::set<std::string> here;
    for (const std::string& sink : way.sinks) {
      all[sink].told = true;
      here.insert(sink);
      for (const std::string& fallback : fallbacks_of(plan, sink)) {
        if (fallback == sink) continue;
        add_once(all[fallback].stands_in_for, sink);
        here.insert(fallback);
      }
    }
    for (const std::string& sink : here) {
      Found& found = all[sink];
      ++found.ways;
      if (found.easiest == nullptr || way.assumptions.size() < found.easiest->assumptions.size())
        found.easiest = &way;
    }
  }
  std::vector<RuleSink> sinks;
  for (auto& [name, found] : all) {
    if (plan.sinks.count(name) == 0) continue;
    RuleSink sink;
    sink.sink = name;
    if (!found.told) {
      sink.stands_in_for = std::move(found.stands_in_for);
      std::sort(sink.stands_in_for.begin(), sink.stands_in_for.end());
    }
    sink.conditional = found.ways < ways.size();
    if (sink.conditional) sink.when = fmt::format("{}", fmt::join(found.easiest->assumptions, ", "));
    sinks.push_back(std::move(sink));
  }
  return sinks;
}

std::set<std::string> sinks_told(const rules::Plan& plan, const rules::AlertingRule& rule,
                                 const Labels& element) {
  std::vector<std::string> told = rule.sinks;
  if (told.empty() && plan.has_route) {
    for (const rules::Route* node : plan.route.match(alert_labels(plan, rule, element, 1)))
      told.insert(told.end(), node->options.sinks.begin(), node->options.sinks.end());
  }
  std::set<std::string> sinks(told.begin(), told.end());
  for (const std::string& sink : told) {
    const std::vector<std::string>& fallbacks = fallbacks_of(plan, sink);
    sinks.insert(fallbacks.begin(), fallbacks.end());
  }
  return sinks;
}

DrillWays::DrillWays(const rules::Plan& plan, std::string mark, std::string source)
    : plan_(plan), mark_(std::move(mark)), source_(std::move(source)) {}

const DrillWays::Made& DrillWays::make(std::uint32_t pattern, std::uint32_t source, const Labels& wishes,
                                       std::size_t example) {
  const rules::PatternSpec& spec = plan_.patterns[pattern];
  const Labels wanted = wishes.keep_only(spec.labels);
  const auto [known, is_new] = made_.try_emplace({pattern, source, wanted, example});
  Made& made = known->second;
  if (!is_new) return made;
  const rules::SourceSpec& from = plan_.sources[source];
  rules::PatternSpec asked = spec;
  if (example != kUsual) {
    asked.examples = {spec.examples.at(example)};
  } else if (!wanted.empty()) {
    asked.examples.clear();
    asked.expect.insert(asked.expect.begin(), wanted);  // the first that says something of a label
  }
  std::string mark = fmt::format("{}-{}", mark_, made_.size());
  rules::Result<rules::MarkedLine> line = rules::marked_line(asked, from.format, mark, from.envelope);
  if (!line) {
    made.trouble = line.error().message;
  } else if (example != kUsual ? !line->generated : line->labels.merged(wanted) == line->labels) {
    made.line = Line{pattern, source, std::move(mark), *std::move(line)};
  } else {
    made.trouble =
        fmt::format("no line of pattern \"{}\" with the labels {} could be made", spec.name, wanted.format());
  }
  return made;
}

DrillWays::Lines DrillWays::lines_of(const rules::AlertingRule& rule, const Labels& wishes, std::uint32_t of,
                                     std::size_t example) {
  Lines lines;
  Labels wanted = wishes;
  std::map<std::uint32_t, const Line*> by_pattern;  // in their order, whichever was first
  const auto add = [&](std::uint32_t pattern, std::size_t which) {
    const rules::PatternSpec& spec = plan_.patterns[pattern];
    const auto source = source_of(plan_, rule, spec, source_);
    if (!source) {
      lines.trouble =
          fmt::format("pattern \"{}\" is not looked for in {}", spec.name,
                      source_.empty() ? "any source of the rule" : fmt::format("source \"{}\"", source_));
      return;
    }
    const Made& made = make(pattern, *source, wanted, which);
    if (!made.line) {
      lines.trouble = made.trouble;
      return;
    }
    by_pattern[pattern] = &*made.line;
    lines.labels = lines.labels.merged(made.line->made.labels);
  };
  if (example != kUsual) {
    add(of, example);
    if (!lines.trouble.empty()) return lines;
    // The others are to say the same of what they have in common.
    wanted = lines.labels;
  }
  for (const std::uint32_t pattern : patterns_of(rule)) {
    if (example != kUsual && pattern == of) continue;
    add(pattern, kUsual);
    if (!lines.trouble.empty()) return lines;
  }
  for (const auto& [pattern, line] : by_pattern)
    lines.lines.push_back(line);
  return lines;
}

// Label values that the route knows, in combinations with which it leads to that sink: the fewest changes to
// the usual ones first.
std::vector<Labels> DrillWays::wishes_for(const rules::AlertingRule& rule, const std::string& sink,
                                          const Labels& usual) const {
  std::vector<std::pair<std::string, std::vector<std::string>>> choices;
  const Labels fixed = rules::fixed_labels(*rule.expr, plan_.patterns);
  for (const std::string& name : rules::result_labels(*rule.expr, plan_.patterns)) {
    if (fixed.has(name)) continue;
    std::vector<std::string> values;
    add_values(plan_.route, name, values);
    if (!values.empty()) choices.emplace_back(name, std::move(values));
  }
  std::vector<Labels> found;
  std::vector<std::size_t> at(choices.size(), 0);  // 0: as usual
  for (std::size_t tried = 0; tried < kMostCombinations && found.size() < kMostWishes; ++tried) {
    std::size_t digit = 0;
    while (digit < at.size() && at[digit] == choices[digit].second.size())
      at[digit++] = 0;
    if (digit == at.size()) break;
    ++at[digit];
    Labels wishes;
    for (std::size_t i = 0; i < at.size(); ++i) {
      if (at[i] > 0) wishes.set(choices[i].first, choices[i].second[at[i] - 1]);
    }
    if (sinks_told(plan_, rule, drill_element(plan_, rule, usual.merged(wishes))).count(sink) != 0)
      found.push_back(std::move(wishes));
  }
  std::stable_sort(found.begin(), found.end(),
                   [](const Labels& a, const Labels& b) { return a.size() < b.size(); });
  return found;
}

std::optional<DrillWays::Lines> DrillWays::lines_to(const rules::AlertingRule& rule, const std::string& sink,
                                                    const Labels& usual) {
  const auto leads_there = [&](const Lines& lines) {
    return lines.trouble.empty() &&
           sinks_told(plan_, rule, drill_element(plan_, rule, lines.labels)).count(sink) != 0;
  };
  for (const std::uint32_t pattern : patterns_of(rule)) {
    const std::size_t examples = std::min(plan_.patterns[pattern].examples.size(), kMostExamples);
    for (std::size_t i = 0; i < examples; ++i) {
      Lines lines = lines_of(rule, {}, pattern, i);
      if (leads_there(lines)) return lines;
    }
  }
  for (const Labels& wishes : wishes_for(rule, sink, usual)) {
    Lines lines = lines_of(rule, wishes, 0, kUsual);
    if (leads_there(lines)) return lines;
  }
  return std::nullopt;
}

DrillWays::Ways DrillWays::find(const rules::AlertingRule& rule, const std::vector<RuleSink>& sinks) {
  Ways out;
  Lines usual = lines_of(rule, {}, 0, kUsual);
  if (!usual.trouble.empty()) {
    out.trouble = std::move(usual.trouble);
    return out;
  }
  std::set<std::string> open;
  for (const RuleSink& sink : sinks)
    open.insert(sink.sink);
  const auto take = [&](Lines& lines) {
    Way way;
    way.lines = std::move(lines.lines);
    for (const std::string& told : sinks_told(plan_, rule, drill_element(plan_, rule, lines.labels))) {
      if (open.erase(told) != 0) way.sinks.insert(told);
    }
    if (!way.sinks.empty() || sinks.empty()) out.ways.push_back(std::move(way));
  };
  take(usual);
  for (const RuleSink& sink : sinks) {
    if (open.count(sink.sink) == 0) continue;
    if (std::optional<Lines> lines = lines_to(rule, sink.sink, usual.labels)) {
      take(*lines);
      continue;
    }
    std::vector<std::string> names;
    for (const std::uint32_t pattern : patterns_of(rule))
      names.push_back(fmt::format("\"{}\"", plan_.patterns[pattern].name));
    out.left[sink.sink] = fmt::format(
        "its alerts go there only when {}, and no line was found that is so; add one to the `examples:` of "
        "pattern {}",
        sink.when.empty() ? "labels from logs say so" : sink.when, fmt::join(names, ", "));
  }
  return out;
}

}  // namespace logbell::engine

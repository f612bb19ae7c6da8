#include "rules/prometheus_rules.h"

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "rules/expr_text.h"
#include "rules/json.h"
#include "rules/template.h"
#include "rules/text.h"

namespace logbell::rules {
namespace {

using Kind = Expr::Kind;
using Range = Expr::RangeFunction;

constexpr std::string_view kMatches = "logbell_pattern_matches_total";
// Is there while a logbell is scraped, and only then.
constexpr std::string_view kAlive = "logbell_build_info";
// Recorded: 0 while one is.
constexpr std::string_view kNothing = "logbell:nothing";

// Why a rule cannot be said. Never leaves prometheus_rules().
struct CannotBeSaid {
  std::string reason;
  std::string fix;
};

std::string quoted(std::string_view text) {
  return Json(text).dump();
}

// A scalar of YAML that reads back as `text`.
std::string yaml_scalar(std::string_view text) {
  const bool control = std::any_of(text.begin(), text.end(),
                                   [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; });
  if (control) return quoted(text);
  std::string out = "'";
  for (const char c : text)
    out += c == '\'' ? std::string("''") : std::string(1, c);
  return out + "'";
}

// `inner` with these labels set, which it does not have.
std::string labelled(std::string inner, const Labels& labels) {
  for (const auto& [name, value] : labels)
    inner = fmt::format("label_replace({}, \"{}\", {}, \"\", \"\")", inner, name, quoted(value));
  return inner;
}

// Of a regular expression's replacement, `$1` is a group.
std::string for_replacement(std::string_view value) {
  std::string out;
  for (const char c : value)
    out += c == '$' ? std::string("$$") : std::string(1, c);
  return out;
}

Labels fixed_by(const Expr& call) {
  Labels labels;
  for (const LabelMatcher& matcher : call.matchers) {
    if (matcher.op == LabelMatcher::Op::kEqual) labels.set(matcher.name, for_replacement(matcher.value));
  }
  return labels;
}

const Expr& bare(const Expr& expr) {
  return expr.kind == Kind::kParen ? bare(*expr.left) : expr;
}

// Expressions of recording rules, by name.
using Records = std::map<std::string, std::string>;

// Writes a rule's expression, and what must be recorded for it.
class Writer {
 public:
  // Both must outlive me.
  Writer(const Plan& plan, const PrometheusOptions& options) : plan_(&plan), options_(&options) {}

  std::string expr_of(const AlertingRule& rule) {
    if (!rule.location.empty() && rule.location != "UTC" && next_clock_turn(*rule.expr, Timestamp{}))
      throw CannotBeSaid{
          fmt::format("Prometheus's hours and days are those of UTC, and this rule's of {}", rule.location),
          "leave it to logbell"};
    std::string text = written(*rule.expr);
    // Nothing came, as far as anybody knows: no alert unless somebody has counted for so long.
    if (rule.polarity.absence && !rule.polarity.presence)
      text = fmt::format("({}) and on () ({} offset {})", text, series(kAlive),
                         format_duration(longest_window(*rule.expr)));
    // Nor of a time that was not recorded whole.
    const std::vector<const Expr*> calls = range_calls(*rule.expr);
    if (std::any_of(calls.begin(), calls.end(), [](const Expr* call) { return call->range_offset > Duration{0}; }))
      text = fmt::format("({}) and on () ({})", text, nothing(longest_window(*rule.expr)));
    return text;
  }

  const Records& records() const { return records_; }

 private:
  std::string written(const Expr& expr) {
    return format_expr(expr, [this](const Expr& part) { return part_text(part); });
  }

  std::optional<std::string> part_text(const Expr& part) {
    switch (part.kind) {
      case Kind::kRangeCall:
        return range_call(part);
      case Kind::kKeyed:
        throw CannotBeSaid{fmt::format("no metric has each `{}` by itself, as `{}` asks for", part.key,
                                       signature_of(part.keyed).name),
                           "leave it to logbell"};
      case Kind::kAggregate:
        return aggregate(part);
      case Kind::kCall:
        if (part.is_call(InstantFunction::kMOfN))
          throw CannotBeSaid{"Prometheus has no `m_of_n`: a subquery would look at other moments than logbell",
                             "leave it to logbell"};
        return std::nullopt;
      case Kind::kBinary: {
        // Of two numbers PromQL wants it said.
        if (!part.is_comparison() || part.return_bool || part.type != Expr::Type::kScalar)
          return std::nullopt;
        Expr said = part;
        said.return_bool = true;
        return fmt::format("({})", written(said));
      }
      default:
        return std::nullopt;
    }
  }

  std::optional<std::string> aggregate(const Expr& part) {
    if (part.aggregation != Expr::Aggregation::kSum || part.has_grouping) return std::nullopt;
    const std::string sum = fmt::format("sum({})", written(*part.left));
    const Expr& operand = bare(*part.left);
    const bool always = operand.kind == Kind::kRangeCall &&
                        plan_->patterns[operand.pattern_index].labels.empty() &&
                        (operand.function == Range::kCountOverTime || operand.function == Range::kRate);
    Duration offset{0};
    for (const Expr* call : range_calls(*part.left))
      offset = std::max(offset, call->range_offset);
    return always ? sum : fmt::format("({} or {})", sum, nothing(offset));
  }

  std::string range_call(const Expr& call) {
    const PatternSpec& pattern = plan_->patterns[call.pattern_index];
    for (const std::string& label : pattern.labels) {
      if (label == "job" || label == "instance")
        throw CannotBeSaid{
            fmt::format("Prometheus has a label {} of its own, so it renames that of pattern \"{}\"", label,
                        pattern.name),
            "capture it under another name"};
    }
    if (call.window < 2 * options_->scrape_interval)
      throw CannotBeSaid{
          fmt::format("a window of {} does not hold two scrapes, which are {} apart",
                      format_duration(call.window), format_duration(options_->scrape_interval)),
          "scrape more often and say so with --scrape-interval"};
    switch (call.function) {
      case Range::kCountOverTime:
        return counted(call, selected(call, count(call)));
      case Range::kRate:
        return fmt::format("({} / {})", counted(call, selected(call, count(call))),
                           format_number(static_cast<double>(call.window.count()) / 1000));
      case Range::kPresentOverTime:
        return fmt::format("(sgn({}) > 0)", selected(call, count(call)));
      case Range::kAbsentOverTime:
        return fmt::format("({})", labelled(fmt::format("((sum({}) or {}) == 0) + 1",
                                                        selected(call, count(call)), nothing(call.range_offset)),
                                            fixed_by(call)));
      case Range::kSumOverTime:
      case Range::kAvgOverTime: {
        // Where no line said a number, there is no element.
        const std::string total = selected(call, sum(call));
        const std::string lines = selected(call, numbers(call));
        return call.function == Range::kSumOverTime ? fmt::format("({} and {} > 0)", total, lines)
                                                    : fmt::format("({} / ({} > 0))", total, lines);
      }
      case Range::kBaselineOverTime:
        throw CannotBeSaid{"Prometheus does not know which of the days before were watched from end to end",
                           "compare with one of them, as in count_over_time(PATTERN[5m] offset 1w)"};
      case Range::kQuantileOverTime:
        return fmt::format("histogram_quantile({}, {})", written(*call.parameters.front()),
                           selected(call, buckets(call)));
      default:
        throw CannotBeSaid{
            fmt::format(
                "the values of pattern \"{}\" themselves are no metric, only their count, sum and buckets",
                pattern.name),
            "quantile_over_time can be said, of a `metric:` of type histogram"};
    }
  }

  // A selector with `=` on every label counts 0 when nothing matched.
  std::string counted(const Expr& call, std::string text) {
    const PatternSpec& pattern = plan_->patterns[call.pattern_index];
    const Labels fixed = fixed_by(call);
    const bool names_one = std::all_of(pattern.labels.begin(), pattern.labels.end(),
                                       [&](const std::string& label) { return fixed.has(label); });
    if (pattern.labels.empty() || !names_one) return text;
    return fmt::format("({} or {})", text, labelled(nothing(call.range_offset), fixed));
  }

  static std::string selected(const Expr& call, const std::string& record) {
    std::string out = record;
    for (std::size_t i = 0; i < call.matchers.size(); ++i)
      out += (i == 0 ? "{" : ", ") + call.matchers[i].format();
    if (!call.matchers.empty()) out += "}";
    if (call.range_offset > Duration{0}) out += fmt::format(" offset {}", format_duration(call.range_offset));
    return out;
  }

  std::string count(const Expr& call) {
    const PatternSpec& pattern = plan_->patterns[call.pattern_index];
    // A histogram's own count leaves out lines without a number.
    if (!pattern.metric || pattern.metric->type == MetricSpec::Type::kHistogram)
      return record(call, "count", series(kMatches, "pattern=" + quoted(pattern.name)), {});
    switch (pattern.metric->type) {
      case MetricSpec::Type::kHistogram:
        break;
      case MetricSpec::Type::kCounter:
        if (pattern.value.empty()) return record(call, "count", series(pattern.metric->name), {});
        break;
      case MetricSpec::Type::kGauge:
        break;
    }
    throw CannotBeSaid{fmt::format("the metric {} of pattern \"{}\" does not say how many lines matched",
                                   pattern.metric->name, pattern.name),
                       "a `metric:` of type histogram does, and so does a pattern without `metric:`"};
  }

  std::string sum(const Expr& call) {
    const PatternSpec& pattern = plan_->patterns[call.pattern_index];
    if (pattern.metric && pattern.metric->type == MetricSpec::Type::kHistogram)
      return record(call, "sum", series(pattern.metric->name + "_sum"), {});
    throw CannotBeSaid{
        fmt::format("no metric has the sum of the values of pattern \"{}\" and their number", pattern.name),
        "give it a `metric:` of type histogram"};
  }

  // How many lines said a number: of what sum() takes.
  std::string numbers(const Expr& call) {
    return record(call, "numbers", series(plan_->patterns[call.pattern_index].metric->name + "_count"), {});
  }

  std::string buckets(const Expr& call) {
    const PatternSpec& pattern = plan_->patterns[call.pattern_index];
    if (pattern.metric && pattern.metric->type == MetricSpec::Type::kHistogram)
      return record(call, "buckets", series(pattern.metric->name + "_bucket"), {"le"});
    throw CannotBeSaid{fmt::format("no metric has the values of pattern \"{}\" in buckets", pattern.name),
                       "give it a `metric:` of type histogram"};
  }

  // What `metric` has grown by in the window, of all instances, under a name of its own.
  std::string record(const Expr& call, std::string_view what, const std::string& metric,
                     std::vector<std::string> more_labels) {
    const PatternSpec& pattern = plan_->patterns[call.pattern_index];
    const std::string window = format_duration(call.window);
    std::string name = fmt::format("logbell:{}:{}{}", pattern.name, what, window);
    more_labels.insert(more_labels.begin(), pattern.labels.begin(), pattern.labels.end());
    records_[name] = fmt::format(
        "sum by ({1}) (\n"
        "  {0} - {0} offset {2} >= 0\n"
        "  or {0} and on (job, instance) ({3} offset {2} == 1)\n"
        "  or increase({0}[{2}]) and {0}\n"
        ")",
        metric, fmt::join(more_labels, ", "), window, series("up"));
    return name;
  }

  // A metric of the logbells that are asked for.
  std::string series(std::string_view metric, const std::string& matcher = {}) const {
    std::vector<std::string> matchers;
    if (!matcher.empty()) matchers.push_back(matcher);
    for (const LabelMatcher& one : options_->selector)
      matchers.push_back(one.format());
    return matchers.empty() ? std::string(metric)
                            : fmt::format("{}{{{}}}", metric, fmt::join(matchers, ", "));
  }

  // What counts 0 when nothing came is a number only while somebody counts; of the past, only where these rules had
  // recorded as well.
  std::string nothing(Duration offset) {
    std::string now = fmt::format("0 * sum({})", series(kAlive));
    if (offset == Duration{0}) return now;
    records_[std::string(kNothing)] = std::move(now);
    return fmt::format("{} offset {}", kNothing, format_duration(offset));
  }

  const Plan* plan_;
  const PrometheusOptions* options_;
  Records records_;
};

// Templates are Prometheus's, but for the external labels, which here are known and there are Prometheus's
// own.
std::string template_text(const Template& written, const Labels& external) {
  std::string text = written.text();
  for (const std::string& name : written.external_label_names()) {
    const std::string_view value = name == "instance" ? std::string_view() : external.get(name);
    const std::string hole = "$externalLabels." + name;
    for (std::size_t at = 0; (at = text.find(hole, at)) != std::string::npos;) {
      const std::size_t end = at + hole.size();
      if (end < text.size() && is_word(text[end])) {
        at = end;
        continue;
      }
      const std::string literal = quoted(value);
      text.replace(at, hole.size(), literal);
      at += literal.size();
    }
  }
  return text;
}

// What says the same in a template.
std::string literal_text(std::string_view text) {
  return text.find("{{") == std::string_view::npos ? std::string(text) : fmt::format("{{{{ {} }}}}", quoted(text));
}

void add_texts(std::string_view key, const std::vector<std::pair<std::string, std::string>>& texts,
               std::string& out) {
  if (texts.empty()) return;
  out += fmt::format("        {}:\n", key);
  for (const auto& [name, text] : texts)
    out += fmt::format("          {}: {}\n", name, yaml_scalar(text));
}

std::string alert_text(const AlertingRule& rule, const Plan& plan, const std::string& expr) {
  std::string out =
      fmt::format("      - alert: {}\n        expr: {}\n", yaml_scalar(rule.name), yaml_scalar(expr));
  if (rule.for_ > Duration{0}) out += fmt::format("        for: {}\n", format_duration(rule.for_));
  if (rule.keep_firing_for > Duration{0})
    out += fmt::format("        keep_firing_for: {}\n", format_duration(rule.keep_firing_for));
  std::vector<std::pair<std::string, std::string>> labels;
  for (const auto& [name, text] : rule.labels)
    labels.emplace_back(name, template_text(text, plan.external_labels));
  // What is on every alert of logbell's, unless the series or the rule says otherwise. The instance is all of
  // them.
  const std::vector<std::string> from_logs = result_labels(*rule.expr, plan.patterns);
  for (const auto& [name, value] : plan.external_labels) {
    const bool has = std::any_of(labels.begin(), labels.end(),
                                 [&name = name](const auto& label) { return label.first == name; });
    if (name != "instance" && !has && !contains(from_logs, name)) labels.emplace_back(name, literal_text(value));
  }
  std::sort(labels.begin(), labels.end());
  add_texts("labels", labels, out);
  std::vector<std::pair<std::string, std::string>> annotations;
  for (const auto& [name, text] : rule.annotations)
    annotations.emplace_back(name, template_text(text, plan.external_labels));
  add_texts("annotations", annotations, out);
  return out;
}

// What stands in a comment of one line.
std::string comment_words(std::string_view text) {
  std::string out(text);
  std::replace_if(
      out.begin(), out.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; }, ' ');
  return out;
}

// The lines of a block scalar.
std::string indented(std::string_view text, std::string_view by) {
  std::string out;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    out += fmt::format("{}{}\n", by, text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return out;
}

}  // namespace

PrometheusRules prometheus_rules(const Plan& plan, const PrometheusOptions& options) {
  PrometheusRules out;
  Records records;
  std::string alerts;
  for (const AlertingRule& rule : plan.rules) {
    try {
      if (rule.resolve_when)
        throw CannotBeSaid{"Prometheus has no `resolve_when`: there an alert ends as soon as its expression has no "
                           "element for it",
                           "leave it to logbell, or write `keep_firing_for` instead"};
      if (rule.silent) throw CannotBeSaid{fmt::format("it says `sinks: none`: {}", rule.silent->reason), ""};
      Writer writer(plan, options);
      const std::string expr = writer.expr_of(rule);
      alerts += alert_text(rule, plan, expr);
      records.insert(writer.records().begin(), writer.records().end());
      ++out.alerts;
    } catch (const CannotBeSaid& why) {
      out.left_out.push_back({rule.place, rule.name, why.reason, why.fix});
    }
  }

  out.text = fmt::format(
      "# Rules for Prometheus 2.42 and newer, over the metrics of every logbell that it scrapes. Made by\n"
      "# `logbell export prometheus {}`: change them there.\n"
      "#\n"
      "# A count is what the counters have grown by in the window, of all instances: what they were then is "
      "subtracted; a series that\n"
      "# was not there then, though its logbell was scraped, counts from its beginning; where it was not "
      "scraped then, it is estimated.\n"
      "# It is looked at every {}, and not as each line comes. Who is told is Alertmanager's route.\n",
      comment_words(options.origin), format_duration(options.scrape_interval));
  if (!out.left_out.empty()) out.text += "#\n# These stay with logbell alone:\n";
  for (const PrometheusRules::LeftOut& one : out.left_out)
    out.text += fmt::format("#   {}: {}\n", comment_words(one.alert), comment_words(one.reason));
  if (alerts.empty()) {
    out.text += "groups: []\n";
    return out;
  }
  out.text += fmt::format("groups:\n  - name: logbell\n    interval: {}\n    rules:\n",
                          format_duration(options.scrape_interval));
  for (const auto& [name, expr] : records)
    out.text += fmt::format("      - record: {}\n        expr: |-\n{}", name, indented(expr, "          "));
  out.text += alerts;
  return out;
}

}  // namespace logbell::rules

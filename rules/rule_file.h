// RuleReader: patterns and alerting rules from YAML to compiled values: parsed, checked, with every default
// set.
//
// Owned by one thread while a configuration is compiled. No I/O.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "rules/fields.h"
#include "rules/labels.h"
#include "rules/pattern.h"
#include "rules/problems.h"
#include "rules/rule.h"
#include "rules/time.h"
#include "rules/yaml.h"

namespace logbell::rules {

// What patterns and rules may refer to.
struct RuleSurroundings {
  struct Source {
    std::string name;
    LineFormat format = LineFormat::kText;
    Envelope envelope = Envelope::kNone;
    bool multiline = false;
  };
  std::vector<Source> sources;                              // in the plan's order
  std::vector<std::string> sinks;                           // every name under `sinks:`, working or not
  std::string heartbeats_sink;                              // which is none of them; "": none
  Labels external_labels;
  Timestamp now;         // for `until:`
  bool for_run = false;  // an expired `until:` is a warning, and the rule goes through the route
};

struct RuleSet {
  std::vector<PatternSpec> patterns;
  std::vector<AlertingRule> rules;
  // Parallel to rules: false where the expression was refused, so that its labels are not known.
  std::vector<bool> complete;
  // Parallel to rules: true where `sinks:` was written; with no sinks and no silence in the rule, it was
  // refused.
  std::vector<bool> wrote_sinks;
};

class RuleReader {
 public:
  RuleReader(Reading& reading, RuleSurroundings surroundings);

  // The value of `patterns:`.
  void patterns(const yaml::Node& node);
  // The value of `rules:` in the main file.
  void rules(const yaml::Node& list);
  // A file of its own: `groups: - name: …, rules: […]`.
  void rule_file(const yaml::Node& root);

  // Binds every expression; call once, after everything was read.
  RuleSet finish();

 private:
  struct Draft {
    AlertingRule rule;
    const yaml::Node* node = nullptr;
    ExprPtr parsed;
    Text expr;              // where the expression was written; of the short form, its threshold
    bool has_expr = false;  // it parsed
    Text resolve_when;
    ExprPtr resolve_parsed;  // null: not written, or it did not parse
    bool short_form = false;
    PatternSpec pattern;    // short form
    Duration window{0};     // short form
    std::string threshold;  // short form
    bool wrote_sinks = false;
  };

  void read_rules(const yaml::Node& list, const std::string& group);
  void read_rule(const yaml::Node& node, const std::string& group);
  PatternSpec read_pattern(const Fields& fields, std::string name, const Place& place,
                           const std::vector<Text>& labels);
  void read_where(const Fields& fields, PatternSpec& pattern);
  void read_expect(const Fields& fields, PatternSpec& pattern);
  void read_metric(const Fields& fields, PatternSpec& pattern);
  void check_captures(const Fields& fields, const PatternSpec& pattern, const std::vector<Text>& labels,
                      bool regexes_good);
  void check_examples(const Fields& fields, const PatternSpec& pattern);
  void read_short_form(const Fields& fields, Draft& draft);
  void read_sinks(const Fields& fields, Draft& draft);
  void read_silence(const Fields& fields, Draft& draft);
  std::vector<std::pair<std::string, Template>> read_templates(const Fields& fields, std::string_view key);
  void check_templates(const Draft& draft) const;
  bool bind(Draft& draft, const std::vector<PatternSpec>& patterns);
  // Whether the patterns have what the expression, written in `text`, asks for by key.
  bool check_keys(const Draft& draft, const Text& text, const Expr& expr,
                  const std::vector<PatternSpec>& patterns) const;
  // Beyond `sayable` of the patterns are those of the short form: of them only the rule's own can be named.
  void bind_resolve_when(Draft& draft, const std::vector<PatternSpec>& patterns, std::size_t sayable);
  // Parses an expression that was written; null, with a problem that begins with `of`, if it is none.
  ExprPtr read_expr(const Fields& fields, const Text& text, std::string_view of);
  // A location changes nothing where no hours are asked for.
  void check_location(const Draft& draft) const;
  void check_twins(const std::vector<Draft>& drafts) const;
  std::vector<LineFormat> formats_of(const PatternSpec& pattern) const;
  std::vector<std::string> captures_of(const PatternSpec& pattern) const;
  // What the envelopes of all its sources can tell.
  std::vector<std::string> facts_of(const PatternSpec& pattern) const;
  bool is_multiline(const PatternSpec& pattern) const;
  std::vector<const RuleSurroundings::Source*> sources_of(const PatternSpec& pattern) const;

  Reading* reading_;
  RuleSurroundings around_;
  std::vector<PatternSpec> patterns_;
  std::map<std::string, Place> metric_names_;  // with those of a histogram's parts
  std::vector<Draft> drafts_;
};

// The names of logbell's own alerts, which no rule may take.
const std::vector<std::string>& built_in_alerts();

}  // namespace logbell::rules

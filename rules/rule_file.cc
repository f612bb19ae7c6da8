#include "rules/rule_file.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <set>

#include <fmt/format.h>

#include "rules/coverage.h"
#include "rules/text.h"
#include "rules/time_interval.h"

namespace logbell::rules {
namespace {

// The short form: one line is enough, and one OutOfMemoryError is not resolved a minute later.
constexpr Duration kShortWindow = std::chrono::minutes(1);
constexpr Duration kShortKeepFiring = std::chrono::minutes(5);
// Series that `expect` may create: a list that somebody wrote by hand.
constexpr std::size_t kMaxExpected = 1000;
// Nobody means to hear of it so late: a slip of the unit.
constexpr Duration kMaxFor = std::chrono::hours(24 * 30);
// `sinks: none` for longer than this is a rule that nobody means to hear of again.
constexpr Duration kLongSilence = std::chrono::hours(24 * 366);

// Where --assume-secrets left out a variable's value: any number, or a window, lets the rest be judged.
std::string with_stand_ins(std::string expr) {
  for (std::size_t at = expr.find("${"); at != std::string::npos; at = expr.find("${", at)) {
    const std::size_t end = expr.find('}', at) + 1;
    const bool is_window = at > 0 && expr[at - 1] == '[' && end < expr.size() && expr[end] == ']';
    expr.replace(at, end - at, is_window ? "1m" : "1");
  }
  return expr;
}

std::string quoted(std::string_view kind, std::string_view name) {
  return fmt::format("{} \"{}\"", kind, name);
}

// A name that an expression can say, made of an alert's.
std::string pattern_name_of(const std::string& alert) {
  std::string out;
  for (const char c : alert)
    out += is_word(c) ? c : '_';
  if (out.empty() || is_digit(out[0])) out.insert(0, "_");
  return out;
}

const std::array<const char*, 9> kShortKeys{"match", "exclude", "where",   "threshold", "window",
                                            "by",    "source",  "sources", "examples"};
const std::vector<ForeignKey> kForeignRuleKeys{
    {"record", "recording rules do not exist here: each pattern is a metric on /metrics",
     "record it on Prometheus, or write `alert:`"},
    {"severity", "\"severity\" is a label, not a key of the rule", "write `labels: {severity: …}`"},
    {"summary", "\"summary\" is an annotation, not a key of the rule", "write `annotations: {summary: …}`"},
    {"description", "\"description\" is an annotation, not a key of the rule",
     "write `annotations: {description: …}`"},
    {"name", "a rule's name is its `alert:`", "write `alert: NAME`"},
    {"pattern", "a pattern is named in `expr:`, or its regex given as `match:`",
     "as in `expr: count_over_time(PATTERN[5m]) > 3`"},
    {"receiver", "receivers are called sinks here", "write `sinks: [NAME]`"},
    {"interval", "rules have no interval: each is evaluated when a line arrives", "remove it"}};
const std::vector<ForeignKey> kForeignGroupKeys{
    {"interval", "groups have no interval: a rule is evaluated when a line arrives", "remove it"},
    {"limit", "\"limit\" is not supported", "remove it; series are bounded by a pattern's `max_series:`"},
    {"query_offset", "\"query_offset\" is not supported: windows are in event time", "remove it"},
    {"evaluation_delay", "\"evaluation_delay\" is not supported: windows are in event time", "remove it"},
    {"labels", "labels of a whole group are not supported yet", "give each rule its labels"}};

// One test of a field: as it is compared, or how.
const KeyTable& negated_test_keys() {
  static const KeyTable kTable{
      "negated_field_test",
      "What a field must not be.",
      {{"equals", "One of these texts.", {Shape::texts()}},
       {"match", "A regex (RE2), matching anywhere in the value.", {Shape::text()}}},
      {{"equals", "match"}}};
  return kTable;
}
const KeyTable& field_test_keys() {
  static const KeyTable kTable{
      "field_test",
      "What a field must be, in one of three ways.",
      {{"equals", "One of these texts.", {Shape::texts()}},
       {"match", "A regex (RE2), matching anywhere in the value; its named groups are captures.", {Shape::text()}},
       {"not",
        "What it must not be: a text, one of a list, or {match: REGEX}. A missing field passes.",
        {Shape::texts(), Shape::map(negated_test_keys)}}},
      {{"equals", "match", "not"}}};
  return kTable;
}
const KeyTable& metric_keys() {
  static const KeyTable kTable{"metric",
                               "A metric of the pattern's own on /metrics.",
                               {{"name", "As in orders_request_duration_ms.", {Shape::text()}, true},
                                {"help", "What it is, for Prometheus.", {Shape::text()}},
                                {"type",
                                 "A gauge and a histogram show the pattern's `value:`.",
                                 {Shape::word({"counter", "gauge", "histogram"})},
                                 false,
                                 "counter"},
                                {"buckets", "Upper bounds of a histogram, rising.", {Shape::texts()}},
                                {"ttl",
                                 "A series that has counted nothing for so long is shown no more, unless an alert is about it.",
                                 {Shape::duration()},
                                 false,
                                 "24h, or twice its longest window; of what no rule looks at, never"}}};
  return kTable;
}
const KeyTable& group_keys() {
  static const KeyTable kTable{"group",
                               "Rules under one name, as Prometheus has them.",
                               {{"name", "Once in its file.", {Shape::text()}, true},
                                {"rules", "As under `rules:` of the main file.", {Shape::list({Shape::map(rule_keys)})}, true}}};
  return kTable;
}

const Shape kWhere = Shape::map_of({Shape::texts(), Shape::map(field_test_keys)});
const Shape kNamedTexts = Shape::map_of({Shape::text()});

// Whether it asks for a part of the date, which is of a rule's location.
bool asks_hours(const Expr& expr) {
  if (expr.kind == Expr::Kind::kCall && is_date_part(expr.instant)) return true;
  const std::vector<const Expr*> parts = parts_of(expr);
  return std::any_of(parts.begin(), parts.end(), [](const Expr* part) { return asks_hours(*part); });
}

}  // namespace

const KeyTable& pattern_keys() {
  static const KeyTable kTable{
      "pattern",
      "What counts: lines that match, with what of them becomes labels and a value.",
      {{"match", "One regex (RE2) or several, any of which matches anywhere in the line.", {Shape::texts()}},
       {"exclude", "Regexes that the line must not match.", {Shape::texts()}},
       {"where", "Tests of fields of a json or logfmt line, or of its envelope, all of which must hold.", {kWhere}},
       {"labels", "Captures or fields that become labels; few values each.", {Shape::texts()}},
       {"value", "The capture or field that holds a number, also with a unit (12ms, 3.2 MiB).", {Shape::text()}},
       {"source", "The source that it reads.", {Shape::texts()}, false, "every one"},
       {"sources", "The sources that it reads.", {Shape::texts()}, false, "every one"},
       {"expect", "Values of its labels whose series exist from the start and count 0.", {Shape::map_of({Shape::texts()})}},
       {"metric", "A metric of its own, instead of logbell_pattern_matches_total; a histogram, beside it.", {Shape::map(metric_keys)}},
       {"examples", "Lines that must match, tried by every check.", {Shape::texts()}},
       {"max_series", "Beyond so many series all count as __other__.", {Shape::integer(1, 1'000'000)}, false, "1000"}},
      {{"match", "where"}}};
  return kTable;
}

const KeyTable& rule_keys() {
  static const KeyTable kTable{
      "rule",
      "One alert: when it fires, what it says, who is told.",
      {{"alert", "Its name, the label alertname.", {Shape::text()}, true},
       {"expr", "When it fires, in PromQL's grammar with a pattern's name where PromQL has a metric's: count_over_time(PATTERN[5m]) > 3.",
        {Shape::text()}},
       {"for", "The condition must hold so long before it fires.", {Shape::duration()}, false, "0s"},
       {"keep_firing_for", "It must be gone so long before it resolves.", {Shape::duration()}, false, "0s; 5m of the short form"},
       {"resolve_when", "A firing alert goes on until this holds for it, too, as in count_over_time(PATTERN[5m]) < 1.", {Shape::text()}, false, "it resolves when `expr:` no longer holds"},
       {"labels", "Labels of its alerts, templates as {{ $labels.queue }}.", {kNamedTexts}},
       {"annotations", "What its messages say, templates as {{ $value | humanize }}; summary, description, runbook_url.", {kNamedTexts}},
       {"sinks", "Exactly who is told; none, with `reason:` and `until:`, tells nobody.", {Shape::texts()}, false, "the route decides"},
       {"reason", "Of `sinks: none`: why nobody is told.", {Shape::text()}},
       {"until", "Of `sinks: none`: the last day of it, as in 2026-12-31.", {Shape::text()}},
       {"match", "The short form: one pattern, one threshold.", {Shape::texts()}},
       {"exclude", "Short form: regexes that the line must not match.", {Shape::texts()}},
       {"where", "Short form: tests of fields, all of which must hold.", {kWhere}},
       {"threshold", "Short form: so many lines in the window.", {Shape::integer(1, 1'000'000'000)}, false, "1"},
       {"window", "Short form: in which they are counted.", {Shape::duration()}, false, "1m"},
       {"by", "Short form: captures or fields that are counted apart.", {Shape::texts()}},
       {"source", "Short form: the source that it reads.", {Shape::texts()}, false, "every one"},
       {"sources", "Short form: the sources that it reads.", {Shape::texts()}, false, "every one"},
       {"examples", "Short form: lines that must match.", {Shape::texts()}},
       {"location", "The IANA zone that hour() and its kin are of, as in Europe/Berlin.", {Shape::text()}, false, "UTC"}},
      {{"expr", "match", "where"}}};
  return kTable;
}

const KeyTable& rule_file_keys() {
  static const KeyTable kTable{"rule_file",
                               "A file of rules, with Prometheus's layout.",
                               {{"groups", "Groups of rules.", {Shape::list({Shape::map(group_keys)})}, true}}};
  return kTable;
}

const std::vector<std::string>& built_in_alerts() {
  static const std::vector<std::string> kNames{
      "InputSilent",      "RuleUnknown",      "TimestampSkew",   "SinkDead",    "SinkUnverified",
      "StateLost",        "SeriesOverflow",   "DrillFailed",     "ProofExpired", "DeliveryDelayed",
      "HeartbeatUnheard", "HeartbeatMissing", "HeartbeatFailing", "InputGap",
      "ConfigReloadFailed", "UncoveredErrors", "PatternWentSilent", "MatchesTooLate",  "AlertsMissed",
      "InputIncomplete"};
  return kNames;
}

RuleReader::RuleReader(Reading& reading, RuleSurroundings surroundings)
    : reading_(&reading), around_(std::move(surroundings)) {}

std::vector<const RuleSurroundings::Source*> RuleReader::sources_of(const PatternSpec& pattern) const {
  std::vector<const RuleSurroundings::Source*> sources;
  for (const RuleSurroundings::Source& source : around_.sources) {
    if (pattern.sources.empty() || contains(pattern.sources, source.name)) sources.push_back(&source);
  }
  return sources;
}

bool RuleReader::is_multiline(const PatternSpec& pattern) const {
  const std::vector<const RuleSurroundings::Source*> sources = sources_of(pattern);
  return std::any_of(sources.begin(), sources.end(),
                     [](const RuleSurroundings::Source* source) { return source->multiline; });
}

std::vector<std::string> RuleReader::facts_of(const PatternSpec& pattern) const {
  std::optional<std::vector<std::string>> facts;
  for (const RuleSurroundings::Source* source : sources_of(pattern)) {
    const std::vector<std::string>& of_source = fact_names(source->envelope);
    if (!facts) facts = of_source;
    std::erase_if(*facts, [&](const std::string& fact) { return !contains(of_source, fact); });
  }
  return facts.value_or(std::vector<std::string>());
}

std::vector<LineFormat> RuleReader::formats_of(const PatternSpec& pattern) const {
  std::vector<LineFormat> formats;
  for (const RuleSurroundings::Source* source : sources_of(pattern)) {
    if (std::find(formats.begin(), formats.end(), source->format) == formats.end())
      formats.push_back(source->format);
  }
  // Without a source, which is a problem of its own, an example is still a line.
  if (formats.empty()) formats.push_back(LineFormat::kText);
  return formats;
}

void RuleReader::patterns(const yaml::Node& node) {
  if (!node.is_map()) {
    if (!node.is_null())
      reading_->problems->error(node.place, "", "`patterns:` is a map of names to patterns",
                                "as in `queue_error: {match: 'QueueNotFound'}`");
    return;
  }
  for (const yaml::Entry& entry : node.entries) {
    const std::string subject = quoted("pattern", entry.key);
    if (!is_metric_name(entry.key) || entry.key.find(':') != std::string::npos) {
      reading_->problems->error(entry.key_place, subject,
                                "a pattern's name is letters, digits and underscores, no digit first",
                                fmt::format("call it {}", pattern_name_of(entry.key)));
    }
    if (entry.value.is_scalar()) {
      reading_->problems->error(entry.value.place, subject, "a pattern is a map of keys, not a text",
                                "write {match: '…'}");
      continue;
    }
    const Fields fields(entry.value, subject, *reading_, pattern_keys(),
                        {{"regex", "a pattern's regex is its `match:`", "write `match: '…'`"},
                         {"pattern", "a pattern's regex is its `match:`", "write `match: '…'`"},
                         {"window", "a pattern has no window: a rule's `expr:` gives it", "as in NAME[5m]"}});
    const std::vector<Text> labels = fields.texts("labels").value_or(std::vector<Text>());
    patterns_.push_back(read_pattern(fields, entry.key, entry.key_place, labels));
  }
}

PatternSpec RuleReader::read_pattern(const Fields& fields, std::string name, const Place& place,
                                     const std::vector<Text>& labels) {
  PatternSpec pattern;
  pattern.name = std::move(name);
  pattern.place = place;
  // Named or not: where one is wrong, that is a problem of its own.
  PatternSpec pattern_sources;
  for (const char* key : {"source", "sources"}) {
    if (const auto named = fields.texts(key)) {
      for (const Text& source : *named)
        pattern_sources.sources.push_back(source.value);
    }
  }
  const std::vector<const RuleSurroundings::Source*> read = sources_of(pattern_sources);
  const bool reads_lines = std::any_of(
      read.begin(), read.end(), [](const RuleSurroundings::Source* source) { return !source->multiline; });
  bool regexes_good = true;
  for (const char* key : {"match", "exclude"}) {
    if (!fields.has(key)) continue;
    const std::optional<std::vector<Text>> written = fields.texts(key);
    if (!written) {
      regexes_good = false;
      continue;
    }
    for (const Text& text : *written) {
      auto regex = Regex::compile(text.value);
      if (!regex) {
        const Regex::CompileError& error = regex.error();
        fields.error(reading_->place_in(text, error.offset), fmt::format("`{}:` {}", key, error.format()),
                     error.hint);
        regexes_good = false;
        continue;
      }
      if (text.value.find('\n') != std::string::npos && reads_lines) {
        fields.error(reading_->place_in(text, text.value.find('\n')),
                     fmt::format("`{}:` holds a line break, and no line does: it can never match", key),
                     "write it on one line in single quotes; YAML's | and > end a text with a line break, |- and >- do not");
        regexes_good = false;
        continue;
      }
      // It would count every line, which no one means: a slip such as 'a|' or '.*'.
      if (key == std::string_view("match") && text.value.empty()) {
        fields.error(text.place, "`match:` is empty: it would match every line",
                     "write what a line must hold");
        regexes_good = false;
        continue;
      }
      if (key == std::string_view("exclude") && regex->matches("") && regex->matches("\x01")) {
        fields.error(text.place, fmt::format("`exclude:` \"{}\" leaves out every line: an empty one matches it, too", text.value),
                     "write what a line must not hold, or remove it");
        regexes_good = false;
        continue;
      }
      (key == std::string_view("match") ? pattern.match : pattern.exclude).push_back(*std::move(regex));
    }
  }
  if (fields.has("source") && fields.has("sources")) {
    fields.error("source", "both `source:` and `sources:`", "keep one of them");
  }
  for (const char* key : {"source", "sources"}) {
    const auto named = fields.texts(key);
    if (!named) continue;
    std::vector<std::string> known;
    for (const RuleSurroundings::Source& source : around_.sources)
      known.push_back(source.name);
    for (const Text& source : *named) {
      if (contains(known, source.value) || source.assumed) {
        pattern.sources.push_back(source.value);
        continue;
      }
      std::string fix = did_you_mean(source.value, known);
      if (fix.empty()) fix = known.empty() ? "define it under `sources:`" : "there are " + list_words(known);
      fields.error(source.place, fmt::format("there is no source \"{}\"", source.value), std::move(fix));
    }
  }
  std::sort(pattern.sources.begin(), pattern.sources.end());
  read_where(fields, pattern);
  if (!fields.has("match") && !fields.has("where")) {
    fields.error(place, "it has neither `match:` nor `where:`, so it would match nothing",
                 "write `match: '…'` with a regex");
    regexes_good = false;
  }
  for (const Text& label : labels)
    pattern.labels.push_back(label.value);
  std::sort(pattern.labels.begin(), pattern.labels.end());
  pattern.labels.erase(std::unique(pattern.labels.begin(), pattern.labels.end()), pattern.labels.end());
  // The short form of a rule has only the others.
  const bool has_name = fields.knows("value");
  if (has_name) {
    if (const auto value = fields.text("value")) pattern.value = value->value;
  }
  check_captures(fields, pattern, labels, regexes_good);
  if (has_name) {
    if (const auto most = fields.integer("max_series"))
      pattern.max_series = static_cast<std::size_t>(*most);
    read_expect(fields, pattern);
    read_metric(fields, pattern);
  }
  if (const auto examples = fields.texts("examples")) {
    for (const Text& example : *examples)
      pattern.examples.push_back(example.value);
  }
  if (regexes_good) check_examples(fields, pattern);
  return pattern;
}

void RuleReader::read_where(const Fields& fields, PatternSpec& pattern) {
  const yaml::Node* where = fields.map("where");
  if (where == nullptr) return;
  if (where->entries.empty()) {
    fields.error(where->place, "`where:` tests nothing", "as in {level: ERROR}, or remove it");
    return;
  }
  const std::vector<LineFormat> formats = formats_of(pattern);
  const std::vector<std::string> facts = facts_of(pattern);
  const bool only_facts = std::all_of(where->entries.begin(), where->entries.end(),
                                      [&](const yaml::Entry& entry) { return contains(facts, entry.key); });
  const bool text = std::find(formats.begin(), formats.end(), LineFormat::kText) != formats.end();
  if (only_facts) {
    // Every source of it knows them, whatever is in the envelope.
  } else if (text && formats.size() == 1 && !facts.empty()) {
    fields.error(
        where->place,
        fmt::format("`where:` tests fields, and its sources are text in an envelope, which has only {}",
                    list_words(facts)),
        "say what is in the envelope: `inner: json` or `logfmt`, or use `match:`");
  } else if (text && formats.size() == 1) {
    fields.error(where->place, "`where:` tests fields, and its sources are `format: text`, which has none",
                 "give the source `format: json` or `logfmt`, or use `match:`");
  } else if (text) {
    fields.warn(where->place, "`where:` never holds for the sources whose format is text",
                "name the others under `sources:`");
  }
  for (const yaml::Entry& entry : where->entries) {
    const yaml::Node* value = &entry.value;
    FieldTest test;
    test.field = entry.key;
    if (value->is_map()) {
      const Fields inner(*value, fields.subject(), *reading_, field_test_keys(),
                         {{"regex", "a field's regex is its `match:`", "write {match: '…'}"}});
      if (value->entries.size() != 1) {
        inner.error(value->place,
                    fmt::format("the test of field \"{}\" is one of equals, match and not", entry.key),
                    "as in {not: DEBUG} or {match: '^5'}");
        continue;
      }
      if (const yaml::Node* negated = inner.raw("not")) {
        test.negated = true;
        value = negated;
      }
    }
    // What `not:` holds may itself be a map with `match:` or `equals:`.
    const std::optional<Fields> of_map =
        value->is_map() ? std::optional<Fields>(std::in_place, *value, fields.subject(), *reading_, negated_test_keys())
                        : std::nullopt;
    if (of_map && test.negated && value->entries.size() != 1) {
      of_map->error(value->place, "`not:` holds one value, a list, or {match: '…'}");
      continue;
    }
    if (of_map && of_map->has("match")) {
      const auto regex_text = of_map->text("match");
      if (!regex_text) continue;
      auto regex = Regex::compile(regex_text->value);
      if (!regex) {
        of_map->error(reading_->place_in(*regex_text, regex.error().offset),
                      "`match:` " + regex.error().format(), regex.error().hint);
        continue;
      }
      test.match = *std::move(regex);
    } else if (of_map) {
      for (const Text& one : of_map->texts("equals").value_or(std::vector<Text>()))
        test.equals.push_back(one.value);
      if (test.equals.empty()) continue;
    } else {
      // A scalar or a list, read as if it stood under the field's name.
      const yaml::Node& list = *value;
      std::vector<const yaml::Node*> items;
      if (list.is_sequence()) {
        for (const yaml::Node& item : list.items)
          items.push_back(&item);
      } else {
        items.push_back(&list);
      }
      for (const yaml::Node* item : items) {
        if (!item->is_scalar()) {
          fields.error(item->place, fmt::format("field \"{}\" is compared with a text", entry.key),
                       "quote it: in YAML a bare null or ~ is no text");
          continue;
        }
        if (const auto one = reading_->fill_in(*item, fields.subject())) test.equals.push_back(one->value);
      }
      if (test.equals.empty()) {
        if (items.empty())
          fields.error(list.place, fmt::format("field \"{}\" is compared with an empty list", entry.key));
        continue;
      }
    }
    pattern.where.push_back(std::move(test));
  }
}

std::vector<std::string> RuleReader::captures_of(const PatternSpec& pattern) const {
  std::vector<std::string> captures = facts_of(pattern);
  const auto add = [&](const Regex& regex) {
    for (const std::string& name : regex.group_names()) {
      if (!name.empty() && !contains(captures, name)) captures.push_back(name);
    }
  };
  for (const Regex& regex : pattern.match)
    add(regex);
  for (const FieldTest& test : pattern.where) {
    if (test.match && !test.negated) add(*test.match);
  }
  return captures;
}

void RuleReader::check_captures(const Fields& fields, const PatternSpec& pattern,
                                const std::vector<Text>& labels, bool regexes_good) {
  const std::vector<std::string> captures = captures_of(pattern);
  const std::vector<LineFormat> formats = formats_of(pattern);
  // A json or logfmt line may have any field.
  const bool only_captures = formats.size() == 1 && formats.front() == LineFormat::kText;
  const auto provided = [&](const Text& name, std::string_view what) {
    if (!regexes_good || !only_captures || contains(captures, name.value)) return;
    std::string fix = did_you_mean(name.value, captures);
    if (fix.empty()) {
      fix = captures.empty() ? fmt::format("capture it: (?P<{}>…)", name.value)
                             : "the captures are " + list_words(captures);
    }
    fields.error(name.place, fmt::format("{} \"{}\" is not a capture of its `match:`", what, name.value),
                 std::move(fix));
  };
  std::set<std::string> seen;
  for (const Text& label : labels) {
    if (!is_label_name(label.value)) {
      fields.error(label.place, fmt::format("\"{}\" is not a label's name", label.value),
                   label.value.find('.') == std::string::npos
                       ? "a name is letters, digits and underscores, no digit first"
                       : fmt::format("capture it: where: {{{}: {{match: '(?P<NAME>.+)'}}}}", label.value));
    } else if (label.value == "alertname" || label.value.rfind("__", 0) == 0) {
      fields.error(label.place, fmt::format("the label \"{}\" is logbell's own", label.value),
                   "give the capture another name");
    } else if (!seen.insert(label.value).second) {
      fields.error(label.place, fmt::format("label \"{}\" stands twice", label.value), "remove one of them");
    } else {
      if (around_.external_labels.has(label.value))
        fields.warn(label.place,
                    fmt::format("the label \"{0}\" from a log takes the place of the configuration's {0}",
                                label.value),
                    "give the capture another name");
      provided(label, "label");
    }
  }
  if (pattern.value.empty()) return;
  if (const yaml::Node* value = fields.raw("value"))
    provided(Text{pattern.value, value->place, value, false, false}, "value");
}

void RuleReader::read_expect(const Fields& fields, PatternSpec& pattern) {
  const yaml::Node* expect = fields.map("expect");
  if (expect == nullptr) return;
  std::vector<std::string> keys;
  for (const yaml::Entry& entry : expect->entries)
    keys.push_back(entry.key);
  const Fields expected(*expect, fields.subject(), *reading_, keys);
  std::vector<Labels> series{Labels{}};
  for (const yaml::Entry& entry : expect->entries) {
    if (!contains(pattern.labels, entry.key)) {
      std::string fix = did_you_mean(entry.key, pattern.labels);
      if (fix.empty()) fix = "name it under `labels:`";
      fields.error(entry.key_place,
                   fmt::format("`expect:` names \"{}\", which is not among its labels", entry.key),
                   std::move(fix));
      continue;
    }
    const auto values = expected.texts(entry.key);
    if (!values) return;
    std::vector<Labels> next;
    for (const Labels& base : series) {
      for (const Text& value : *values) {
        Labels one = base;
        one.set(entry.key, value.value);
        next.push_back(std::move(one));
      }
      if (next.size() > kMaxExpected) {
        fields.error(expect->place, fmt::format("`expect:` creates more than {} series", kMaxExpected),
                     "name only those that must exist from the start");
        return;
      }
    }
    series = std::move(next);
  }
  for (const std::string& label : pattern.labels) {
    if (expect->find(label) == nullptr)
      fields.error(expect->place, fmt::format("`expect:` says nothing of label \"{}\"", label),
                   "give every label its values, or drop it from `labels:`");
  }
  if (series.size() > pattern.max_series) {
    fields.error(
        expect->place,
        fmt::format("`expect:` creates {} series, and `max_series` is {}", series.size(), pattern.max_series),
        "raise max_series");
  }
  if (!expect->entries.empty()) pattern.expect = std::move(series);
}

void RuleReader::read_metric(const Fields& fields, PatternSpec& pattern) {
  const yaml::Node* node = fields.map("metric");
  if (node == nullptr) return;
  const Fields metric(*node, fields.subject(), *reading_, metric_keys());
  MetricSpec spec;
  if (const auto name = metric.required_text("name", "as in orders_request_duration_ms")) {
    spec.name = name->value;
    if (!is_metric_name(spec.name)) {
      metric.error("name", fmt::format("\"{}\" is not a metric's name", spec.name),
                   "letters, digits, underscores and colons, no digit first");
    } else if (spec.name.rfind("logbell_", 0) == 0) {
      metric.error("name", "names that begin with logbell_ are logbell's own", "choose another name");
    } else if (spec.name == "up" || spec.name.rfind("process_", 0) == 0 || spec.name.rfind("scrape_", 0) == 0) {
      metric.error("name", fmt::format("\"{}\" is a metric of Prometheus's or of this process's own", spec.name),
                   "choose another name, as in orders_" + spec.name);
    } else if (const auto [other, fresh] = metric_names_.emplace(spec.name, name->place); !fresh) {
      metric.error("name",
                   fmt::format("the metric \"{}\" is already at {}", spec.name, other->second.format()),
                   "choose another name");
    }
  }
  if (const auto help = metric.text("help")) spec.help = help->value;
  if (const auto type = metric.word("type"))
    spec.type = static_cast<MetricSpec::Type>(*type);
  if (spec.type == MetricSpec::Type::kHistogram && !spec.name.empty()) {
    for (const char* part : {"_bucket", "_sum", "_count"}) {
      if (const auto [other, fresh] = metric_names_.emplace(spec.name + part, metric.place("name")); !fresh)
        metric.error("name", fmt::format("the histogram has a metric \"{}{}\", which is already at {}", spec.name, part, other->second.format()),
                     "choose another name");
    }
  }
  if (spec.type != MetricSpec::Type::kCounter && !fields.has("value")) {
    metric.error("type", "a gauge or histogram shows a value, and the pattern has none",
                 "name the capture that holds it: `value: NAME`");
  }
  if (spec.type == MetricSpec::Type::kHistogram && !metric.has("buckets")) {
    metric.error(node->place, "a histogram needs its `buckets:`", "as in [5, 25, 100, 500, 2500]");
  }
  if (spec.type != MetricSpec::Type::kHistogram && metric.has("buckets")) {
    metric.error("buckets", "only a histogram has buckets", "write `type: histogram`, or remove them");
  }
  for (const Text& bucket : metric.texts("buckets").value_or(std::vector<Text>())) {
    double bound = 0;
    const char* end = bucket.value.data() + bucket.value.size();
    const auto [stop, failure] = std::from_chars(bucket.value.data(), end, bound);
    if (failure != std::errc() || stop != end) {
      metric.error(bucket.place, fmt::format("the bucket \"{}\" is not a number", bucket.value));
      continue;
    }
    if (!spec.buckets.empty() && !(bound > spec.buckets.back()))
      metric.error(bucket.place, "buckets rise from one to the next", "sort them, each once");
    spec.buckets.push_back(bound);
  }
  if (const auto ttl = metric.duration("ttl")) {
    if (*ttl <= Duration{0}) {
      metric.error("ttl", "with a ttl of no time nothing would be shown", "as in 1h, 1d");
    } else {
      spec.ttl = *ttl;
    }
  }
  pattern.metric = std::move(spec);
}

void RuleReader::check_examples(const Fields& fields, const PatternSpec& pattern) {
  const yaml::Node* written = fields.raw("examples");
  if (written == nullptr || pattern.examples.empty()) return;
  const std::vector<LineFormat> formats = formats_of(pattern);
  for (std::size_t i = 0; i < pattern.examples.size(); ++i) {
    const std::string& line = pattern.examples[i];
    const Place place = written->is_sequence() ? written->items[i].place : written->place;
    if (line.find('\n') != std::string::npos && !is_multiline(pattern)) {
      fields.error(place, "an example is one line, and this one holds a line break");
      continue;
    }
    // What an envelope would say is not in an example: such tests are left out.
    PatternSpec of_text = pattern;
    const std::vector<std::string> facts = facts_of(pattern);
    std::erase_if(of_text.where, [&](const FieldTest& test) { return contains(facts, test.field); });
    const bool nothing_left = of_text.match.empty() && of_text.where.empty();
    const bool matches = nothing_left || std::any_of(formats.begin(), formats.end(), [&](LineFormat format) {
                           return matches_line(of_text, format, line);
                         });
    if (matches) continue;
    const bool excluded = std::any_of(pattern.exclude.begin(), pattern.exclude.end(),
                                      [&](const Regex& regex) { return regex.matches(line); });
    const bool regex_holds =
        pattern.match.empty() || std::any_of(pattern.match.begin(), pattern.match.end(),
                                             [&](const Regex& regex) { return regex.matches(line); });
    std::string why = "`match:` does not match it";
    if (excluded) {
      why = "`exclude:` rules it out";
    } else if (regex_holds) {
      why = pattern.where.empty() ? "it is not a line of its source's format" : "its `where:` does not hold";
    }
    fields.error(place, fmt::format("the example does not match: {}", why),
                 "correct the pattern, or the example if the log's format changed");
  }
}

void RuleReader::rules(const yaml::Node& list) {
  if (list.is_null()) return;
  if (!list.is_sequence()) {
    reading_->problems->error(list.place, "", "`rules:` is a list", "begin each rule with \"- alert: NAME\"");
    return;
  }
  read_rules(list, "");
}

void RuleReader::rule_file(const yaml::Node& root) {
  const Fields fields(
      root, "", *reading_, rule_file_keys(),
      {{"rules", "a rule file holds groups", "write `groups: [{name: …, rules: […]}]`, as Prometheus has it"},
       {"patterns", "patterns stand in the main file", "move them there"},
       {"sinks", "sinks stand in the main file", "move them there"},
       {"route", "the route stands in the main file", "move it there"}});
  const yaml::Node* groups = fields.list("groups");
  if (groups == nullptr) {
    if (root.is_map() && !fields.has("groups"))
      fields.error(root.place, "\"groups\" is missing", "write `groups: [{name: …, rules: […]}]`");
    return;
  }
  std::set<std::string> names;
  for (const yaml::Node& node : groups->items) {
    const Fields group(node, "group", *reading_, group_keys(), kForeignGroupKeys);
    const auto name = group.required_text("name");
    if (name && !names.insert(name->value).second)
      group.error("name", fmt::format("the group \"{}\" stands twice in this file", name->value),
                  "give it another name");
    if (const yaml::Node* list = group.list("rules")) {
      read_rules(*list, name ? name->value : "");
    } else if (node.is_map() && !group.has("rules")) {
      group.error(node.place, "it has no `rules:`", "remove it, or give it some");
    }
  }
}

void RuleReader::read_rules(const yaml::Node& list, const std::string& group) {
  for (const yaml::Node& node : list.items)
    read_rule(node, group);
}

void RuleReader::read_rule(const yaml::Node& node, const std::string& group) {
  Draft draft;
  draft.node = &node;
  draft.rule.group = group;
  draft.rule.place = node.place;
  const yaml::Node* alert = node.find("alert");
  const std::string name = alert != nullptr && alert->is_scalar() ? alert->scalar : "";
  const Fields fields(node, name.empty() ? "rule" : quoted("rule", name), *reading_, rule_keys(),
                      kForeignRuleKeys);
  if (!node.is_map()) {
    if (node.is_null()) fields.error(node.place, "the rule is empty", "write `alert: NAME`");
    return;
  }
  if (fields.has("record")) return;
  if (const auto text = fields.required_text("alert", "a rule has a name: `alert: NAME`")) {
    draft.rule.name = text->value;
    const bool has_control = std::any_of(text->value.begin(), text->value.end(),
                                         [](unsigned char c) { return c < 0x20 || c == 0x7F; });
    if (has_control)
      fields.error("alert", "an alert's name has no line break and no control character",
                   "as in `alert: QueueUnreachable`");
    if (contains(built_in_alerts(), text->value)) {
      fields.error("alert", fmt::format("{} is one of logbell's own alerts", text->value),
                   "give the rule another name");
    }
  }
  const bool has_short_key =
      std::any_of(kShortKeys.begin(), kShortKeys.end(), [&](const char* key) { return fields.has(key); });
  draft.short_form = !fields.has("expr") && (fields.has("match") || fields.has("where"));
  if (fields.has("expr")) {
    for (const char* key : kShortKeys) {
      if (fields.has(key))
        fields.error(fields.key_place(key),
                     fmt::format("\"{}\" belongs to the short form, beside `match:`", key),
                     "remove it, or `expr:`");
    }
  } else if (!draft.short_form) {
    fields.error(node.place, "it has neither `expr:` nor `match:`",
                 has_short_key ? "write `match: '…'` with a regex"
                               : "as in `expr: count_over_time(PATTERN[5m]) > 3`, or `match: '…'`");
  }
  if (const auto wait = fields.duration("for")) {
    if (*wait > kMaxFor)
      fields.error("for", fmt::format("nobody hears of it for {}; {} at most", format_duration(*wait), format_duration(kMaxFor)),
                   "as in 5m");
    draft.rule.for_ = *wait;
  }
  // Who writes when it ends means just that.
  if (draft.short_form && !fields.has("resolve_when")) draft.rule.keep_firing_for = kShortKeepFiring;
  if (const auto keep = fields.duration("keep_firing_for")) draft.rule.keep_firing_for = *keep;
  if (const auto location = fields.text("location")) {
    if (!is_known_zone(location->value)) {
      fields.error("location", fmt::format("there is no time zone \"{}\" on this machine", location->value),
                   "as in Europe/Berlin; Debian has them in the package tzdata");
    } else {
      draft.rule.location = location->value;
    }
  }
  draft.rule.labels = read_templates(fields, "labels");
  draft.rule.annotations = read_templates(fields, "annotations");
  read_sinks(fields, draft);
  read_silence(fields, draft);
  if (draft.short_form) {
    read_short_form(fields, draft);
  } else if (const auto text = fields.text("expr")) {
    draft.expr = *text;
    draft.parsed = read_expr(fields, *text, "");
    draft.has_expr = draft.parsed != nullptr;
  }
  if (const auto text = fields.text("resolve_when")) {
    draft.resolve_when = *text;
    draft.resolve_parsed = read_expr(fields, *text, "`resolve_when:` ");
    // Without it the rule would end its alerts when it should not.
    if (!draft.resolve_parsed) draft.has_expr = false;
  }
  drafts_.push_back(std::move(draft));
}

ExprPtr RuleReader::read_expr(const Fields& fields, const Text& text, std::string_view of) {
  auto parsed = parse_expr(text.assumed ? with_stand_ins(text.value) : text.value);
  if (parsed) return *parsed;
  fields.error(reading_->place_in(text, parsed.error().offset), fmt::format("{}{}", of, parsed.error().reason),
               parsed.error().fix);
  return nullptr;
}

void RuleReader::read_short_form(const Fields& fields, Draft& draft) {
  const std::vector<Text> by = fields.texts("by").value_or(std::vector<Text>());
  draft.pattern = read_pattern(fields, pattern_name_of(draft.rule.name), draft.rule.place, by);
  draft.window = kShortWindow;
  if (const auto window = fields.duration("window")) {
    if (*window <= Duration{0}) {
      fields.error("window", "a window of no length counts nothing", "as in 30s, 5m, 1h");
    } else {
      draft.window = *window;
    }
  }
  draft.threshold = "1";
  if (const auto threshold = fields.integer("threshold"))
    draft.threshold = std::to_string(*threshold);
  const yaml::Node* match = fields.raw(fields.has("match") ? "match" : "where");
  draft.expr.place = match->place;
}

void RuleReader::read_sinks(const Fields& fields, Draft& draft) {
  const yaml::Node* node = fields.raw("sinks");
  if (node == nullptr) return;
  draft.wrote_sinks = true;
  if (node->is_sequence() && node->items.empty()) {
    fields.error(node->place, "`sinks: []` tells nobody",
                 "name a sink, or remove the key to use the route; `sinks: none` with `reason:` and `until:` "
                 "if that is meant");
    return;
  }
  if (node->is_null()) {
    fields.error(node->place, "`sinks:` is empty: it tells nobody",
                 "name a sink, or remove the key to use the route");
    return;
  }
  const auto names = fields.texts("sinks");
  if (!names) return;
  if (names->size() == 1 && names->front().value == "none" && node->is_scalar()) {
    draft.rule.silent = DeliberatelySilent{};
    return;
  }
  for (const Text& name : *names) {
    if (!around_.heartbeats_sink.empty() && name.value == around_.heartbeats_sink) {
      fields.error(name.place, of_the_heartbeat(name.value), kGiveItsOwn);
    } else if (!contains(around_.sinks, name.value)) {
      std::string fix = did_you_mean(name.value, around_.sinks);
      if (name.value == "none") fix = "write `sinks: none`, with `reason:` and `until:`";
      if (fix.empty())
        fix = around_.sinks.empty() ? "define it under `sinks:`"
                                    : "define it under `sinks:`; there are " + list_words(around_.sinks);
      fields.error(name.place, fmt::format("its sink \"{}\" is not defined", name.value), std::move(fix));
    }
    if (contains(draft.rule.sinks, name.value))
      fields.error(name.place, fmt::format("sink \"{}\" stands twice", name.value), "remove one of them");
    draft.rule.sinks.push_back(name.value);
  }
}

void RuleReader::read_silence(const Fields& fields, Draft& draft) {
  if (!draft.rule.silent) {
    for (const char* key : {"reason", "until"}) {
      if (fields.has(key))
        fields.error(fields.key_place(key), fmt::format("\"{}\" belongs to `sinks: none`", key), "remove it");
    }
    return;
  }
  const auto reason = fields.required_text("reason", "`sinks: none` says why nobody is told: `reason: …`");
  const auto until = fields.required_text("until", "`sinks: none` says until when: `until: 2026-12-31`");
  if (reason) draft.rule.silent->reason = reason->value;
  if (!until || until->assumed) return;
  Result<Timestamp> day = parse_rfc3339(until->value + "T00:00:00Z");
  if (!day) {
    fields.error("until", fmt::format("\"{}\" is not a date", until->value), "as in 2026-12-31");
    return;
  }
  draft.rule.silent->until = *day + std::chrono::hours(24);
  if (around_.now >= draft.rule.silent->until) {
    if (around_.for_run) {
      fields.warn(until->place,
                  fmt::format("`sinks: none` has ended on {}: the rule goes through the route", until->value),
                  "give it sinks, or a new date");
      draft.rule.silent.reset();
      draft.wrote_sinks = false;
    } else {
      fields.error("until", fmt::format("`sinks: none` has ended on {}", until->value),
                   "give it sinks, or a new date");
    }
  } else if (draft.rule.silent->until - around_.now > kLongSilence) {
    fields.warn(until->place, "nobody hears of this rule for more than a year", "choose an earlier date");
  }
}

std::vector<std::pair<std::string, Template>> RuleReader::read_templates(const Fields& fields,
                                                                         std::string_view key) {
  std::vector<std::pair<std::string, Template>> out;
  const yaml::Node* node = fields.map(key);
  if (node == nullptr) return out;
  const std::string one = key == "labels" ? "label" : "annotation";
  for (const yaml::Entry& entry : node->entries) {
    if (!is_label_name(entry.key)) {
      fields.error(entry.key_place,
                   fmt::format("\"{}\" is not a name for a{} {}", entry.key, one == "label" ? "" : "n", one),
                   "letters, digits and underscores, no digit first");
      continue;
    }
    if (one == "label" && (entry.key == "alertname" || entry.key.rfind("__", 0) == 0)) {
      fields.error(entry.key_place, fmt::format("the label \"{}\" is logbell's own", entry.key),
                   "give it another name");
      continue;
    }
    if (!entry.value.is_scalar()) {
      fields.error(entry.value.place, fmt::format("{} \"{}\" is one text", one, entry.key),
                   entry.value.is_null() ? "give it a value, or remove it"
                   : entry.value.is_map()
                       ? "a text that begins with { belongs in quotes, as in '{{ $value }}'"
                       : "");
      continue;
    }
    const auto text = reading_->fill_in(entry.value, fields.subject());
    if (!text) continue;
    if (one == "label" && text->value.empty()) {
      fields.error(text->place, fmt::format("label \"{}\" has no value", entry.key),
                   "give it one, or remove it");
      continue;
    }
    std::vector<Template::Fault> faults;
    Template parsed = Template::parse(text->value, faults);
    for (const Template::Fault& fault : faults)
      fields.error(reading_->place_in(*text, fault.offset),
                   fmt::format("{} \"{}\": {}", one, entry.key, fault.message));
    out.emplace_back(entry.key, std::move(parsed));
  }
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  return out;
}

void RuleReader::check_templates(const Draft& draft) const {
  const std::vector<std::string> element = result_labels(*draft.rule.expr, patterns_);
  std::vector<std::string> external;
  for (const auto& [name, value] : around_.external_labels)
    external.push_back(name);
  const std::string subject = quoted("rule", draft.rule.name);
  for (const char* key : {"labels", "annotations"}) {
    const auto& templates = key == std::string_view("labels") ? draft.rule.labels : draft.rule.annotations;
    const yaml::Node* node = draft.node->find(key);
    for (const auto& [name, parsed] : templates) {
      const yaml::Node* written = node->find(name);
      const std::string one = key == std::string_view("labels") ? "label" : "annotation";
      const Text text{written->scalar, written->place, written, false, false};
      const auto place_of = [&](const std::string& label) {
        const std::size_t at = written->scalar.find(label);
        return at == std::string::npos ? written->place : reading_->place_in(text, at);
      };
      for (const std::string& label : parsed.label_names()) {
        if (contains(element, label)) continue;
        std::string fix = did_you_mean(label, element);
        const auto own = std::find_if(draft.rule.labels.begin(), draft.rule.labels.end(),
                                      [&](const auto& l) { return l.first == label; });
        if (label == "alertname") {
          fix = fmt::format("write {} out", draft.rule.name);
        } else if (own != draft.rule.labels.end()) {
          fix = fmt::format("it is the rule's own: write \"{}\" out", own->second.text());
        } else if (contains(external, label)) {
          fix = fmt::format("write {{{{ $externalLabels.{} }}}}", label);
        } else if (fix.empty()) {
          fix = element.empty() ? "its expression has no labels: add `by (…)`, or name captures under the "
                                  "pattern's `labels:`"
                                : "it has " + list_words(element);
        }
        reading_->problems->error(
            place_of("$labels." + label), subject,
            fmt::format("{} \"{}\" names $labels.{}, which this rule cannot have", one, name, label), fix);
      }
      for (const std::string& label : parsed.external_label_names()) {
        if (contains(external, label)) continue;
        std::string fix = did_you_mean(label, external);
        if (fix.empty())
          fix = external.empty() ? "define it under `labels:`" : "there are " + list_words(external);
        reading_->problems->error(
            place_of("$externalLabels." + label), subject,
            fmt::format("{} \"{}\" names $externalLabels.{}, which is not defined", one, name, label), fix);
      }
    }
  }
}

bool RuleReader::bind(Draft& draft, const std::vector<PatternSpec>& patterns) {
  auto bound = bind_expr(draft.parsed, patterns, draft.expr.assumed ? Numbers::kStandIns : Numbers::kWritten, draft.rule.location);
  if (!bound) {
    reading_->problems->error(reading_->place_in(draft.expr, bound.error().offset),
                              quoted("rule", draft.rule.name), bound.error().reason, bound.error().fix);
    return false;
  }
  if (!check_keys(draft, draft.expr, **bound, patterns)) return false;
  const std::optional<ExprError> meant = draft.expr.assumed ? std::nullopt : cannot_be_meant(**bound);
  if (meant) {
    reading_->problems->error(reading_->place_in(draft.expr, meant->offset), quoted("rule", draft.rule.name), meant->reason, meant->fix);
    return false;
  }
  draft.rule.expr = *bound;
  draft.rule.expr_text = format_expr(*draft.rule.expr);
  draft.rule.polarity = polarity(*draft.rule.expr);
  return true;
}

bool RuleReader::check_keys(const Draft& draft, const Text& text, const Expr& expr,
                            const std::vector<PatternSpec>& patterns) const {
  for (const Expr* call : range_calls(expr)) {
    if (!call->asks_keys() || call->keyed_need().is_of_templates()) continue;
    const PatternSpec& pattern = patterns[call->pattern_index];
    const std::vector<LineFormat> formats = formats_of(pattern);
    const std::vector<std::string> captures = captures_of(pattern);
    // A json or logfmt line may have any field.
    const bool only_captures = formats.size() == 1 && formats.front() == LineFormat::kText;
    if (!only_captures || contains(captures, call->key)) continue;
    std::string fix = did_you_mean(call->key, captures);
    if (fix.empty()) {
      fix = captures.empty() ? fmt::format("capture it there: (?P<{}>…)", call->key)
                             : "its captures are " + list_words(captures);
    }
    reading_->problems->error(reading_->place_in(text, call->offset), quoted("rule", draft.rule.name),
                              fmt::format("\"{}\" is not a capture of the pattern `{}`", call->key, pattern.name),
                              std::move(fix));
    return false;
  }
  return true;
}

void RuleReader::bind_resolve_when(Draft& draft, const std::vector<PatternSpec>& patterns, std::size_t sayable) {
  if (!draft.resolve_parsed) return;
  const std::string subject = quoted("rule", draft.rule.name);
  const auto refuse = [&](std::size_t offset, std::string_view reason, std::string fix) {
    reading_->problems->error(reading_->place_in(draft.resolve_when, offset), subject,
                              fmt::format("`resolve_when:` {}", reason), std::move(fix));
  };
  auto bound = bind_expr(draft.resolve_parsed, patterns,
                         draft.resolve_when.assumed ? Numbers::kStandIns : Numbers::kWritten, draft.rule.location,
                         ExprUse::kEnds);
  if (!bound) return refuse(bound.error().offset, bound.error().reason, bound.error().fix);
  for (const Expr* call : range_calls(**bound)) {
    if (call->pattern_index >= sayable && call->pattern != draft.pattern.name)
      return refuse(call->offset, fmt::format("names `{}`, which is another rule's", call->pattern),
                    "give the regex a name of its own under `patterns:`");
  }
  if (!check_keys(draft, draft.resolve_when, **bound, patterns)) return;
  ResolveWhen resolve{*bound, format_expr(**bound), result_labels(**bound, patterns), polarity(**bound)};
  const std::vector<std::string> of_expr = result_labels(*draft.rule.expr, patterns);
  for (const std::string& label : resolve.labels) {
    if (contains(of_expr, label)) continue;
    return refuse(0,
                  fmt::format("has the label {}, which its alerts do not have: nothing says which of its elements "
                              "ends an alert",
                              label),
                  of_expr.empty() ? "sum it up, as in sum(…) < 1, which ends every alert of the rule"
                                  : fmt::format("give it labels of theirs, as in sum by ({}) (…) < 1",
                                                fmt::join(of_expr, ", ")));
  }
  if (resolve.labels.size() == of_expr.size() && !draft.resolve_when.assumed && !draft.expr.assumed &&
      is_true_only_with(resolve.expr, draft.rule.expr)) {
    return refuse(0, "is true only while `expr:` is: no alert would ever end",
                  "say what is so when all is well again, as in … < 1");
  }
  draft.rule.resolve_when = std::move(resolve);
}

RuleSet RuleReader::finish() {
  RuleSet out;
  std::set<std::string> names;
  for (const PatternSpec& pattern : patterns_)
    names.insert(pattern.name);
  // Patterns of the short form come behind those that have a name of their own, which expressions cannot say.
  const std::vector<PatternSpec> sayable = patterns_;
  for (Draft& draft : drafts_) {
    if (!draft.short_form) continue;
    const std::string base = draft.pattern.name;
    for (int i = 2; !names.insert(draft.pattern.name).second; ++i)
      draft.pattern.name = fmt::format("{}_{}", base, i);
    std::string expr =
        fmt::format("count_over_time({}[{}])", draft.pattern.name, format_duration(draft.window));
    if (!draft.pattern.labels.empty())
      expr = fmt::format("sum by ({}) ({})", fmt::join(draft.pattern.labels, ", "), expr);
    auto parsed = parse_expr(fmt::format("{} >= {}", expr, draft.threshold));
    patterns_.push_back(draft.pattern);
    if (parsed) {
      draft.parsed = *parsed;
      draft.has_expr = true;
    } else {
      reading_->problems->error(draft.expr.place, quoted("rule", draft.rule.name), parsed.error().reason,
                                parsed.error().fix);
    }
  }
  for (Draft& draft : drafts_) {
    const bool complete = draft.has_expr && bind(draft, draft.short_form ? patterns_ : sayable);
    if (complete) {
      bind_resolve_when(draft, draft.short_form ? patterns_ : sayable, sayable.size());
      collect_keys(*draft.rule.expr, patterns_);
      if (draft.rule.resolve_when) collect_keys(*draft.rule.resolve_when->expr, patterns_);
      check_templates(draft);
      check_location(draft);
      for (std::uint32_t i = 0; i < around_.sources.size(); ++i) {
        const std::vector<const Expr*> calls = range_calls(draft.rule);
        const bool reads = std::any_of(calls.begin(), calls.end(), [&](const Expr* call) {
          const PatternSpec& pattern = patterns_[call->pattern_index];
          return pattern.sources.empty() || contains(pattern.sources, around_.sources[i].name);
        });
        if (reads) draft.rule.sources.push_back(i);
      }
    }
    out.complete.push_back(complete);
    out.wrote_sinks.push_back(draft.wrote_sinks);
  }
  check_twins(drafts_);
  for (Draft& draft : drafts_)
    out.rules.push_back(draft.rule);
  out.patterns = patterns_;
  return out;
}

void RuleReader::check_location(const Draft& draft) const {
  if (draft.rule.location.empty() || asks_hours(*draft.rule.expr)) return;
  // Of one that is refused nothing is known.
  if (draft.resolve_parsed && (!draft.rule.resolve_when || asks_hours(*draft.rule.resolve_when->expr)))
    return;
  const char* who = draft.short_form ? "the rule" : "`expr:`";
  reading_->problems->warn(
      draft.node->find("location")->place, quoted("rule", draft.rule.name),
      fmt::format("`location:` does nothing here: {} no hour() or other part of the date",
                  draft.rule.resolve_when ? fmt::format("{} and `resolve_when:` ask for", who)
                                          : fmt::format("{} asks for", who)),
      "remove it, or ask for one, as in … and on () hour() >= 9 < 18");
}

void RuleReader::check_twins(const std::vector<Draft>& drafts) const {
  std::map<std::string, const Draft*> seen;
  for (const Draft& draft : drafts) {
    if (draft.rule.name.empty()) continue;
    std::string key = draft.rule.name;
    for (const auto& [name, value] : draft.rule.labels)
      key += '\0' + name + '\1' + value.text();
    const auto [other, fresh] = seen.emplace(std::move(key), &draft);
    if (fresh) continue;
    const std::string where = fmt::format("the rule at {}", other->second->rule.place.format());
    const std::string subject = quoted("rule", draft.rule.name);
    if (draft.rule.expr && other->second->rule.expr &&
        draft.rule.identity() == other->second->rule.identity()) {
      reading_->problems->error(draft.rule.place, subject,
                                "its name, expression and labels are those of " + where,
                                "remove one of them");
    } else {
      reading_->problems->warn(
          draft.rule.place, subject,
          "its name and labels are those of " + where + ": while one fires, nobody is told that the other does",
          "give one of them another name or label");
    }
  }
}

}  // namespace logbell::rules

#include "rules/test_file.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>

#include <fmt/format.h>

#include "rules/fields.h"
#include "rules/rule_file.h"
#include "rules/template.h"
#include "rules/text.h"

namespace logbell::rules {
namespace {

const std::vector<ForeignKey> kForeignFileKeys{
    {"rule_files", "rules are tested with their patterns, sources and sinks", "write `config: logbell.yaml`"},
    {"evaluation_interval", "there is no interval: a rule is evaluated whenever its value can change",
     "remove it"},
    {"group_eval_order", "rules do not read each other: their order means nothing", "remove it"}};
const std::vector<ForeignKey> kForeignTestKeys{
    {"input_series", "a test is made of lines", "write `input:` with a list of `lines:`"},
    {"interval", "each line has a time of its own", "write `every:` in the input"},
    {"promql_expr_test", "expressions are tested by the rules they stand in",
     "write `alert_rule_test:`, or `exp_metrics:` for what is counted"},
    {"external_labels", "they are the configuration's", "remove it"},
    {"external_url", "it is the configuration's", "remove it"}};

const Shape kNamedTexts = Shape::map_of({Shape::text()});
const Key kEvalTime{"eval_time", "The moment, since the test's start.", {Shape::duration()}, true};
const Key kAlertname{"alertname", "A rule's name, or one of logbell's own.", {Shape::text()}, true};

const KeyTable& line_keys() {
  static const KeyTable kTable{
      "test_line",
      "A line that says when it comes, or how often; or a file of lines.",
      {{"at", "When it comes, since the test's start.", {Shape::duration()}, false, "`every:` after the one before"},
       {"line", "What the log says.", {Shape::text()}},
       {"repeat", "How often it comes.", {Shape::integer(1, kMaxTestLines)}, false, "1"},
       {"every", "How far apart.", {Shape::duration()}, false, "that of its entry"},
       {"file", "A file of lines, relative to this one.", {Shape::text()}}},
      {},
      "^[0-9]+x$",
      {Shape::text()}};
  return kTable;
}
const KeyTable& input_keys() {
  static const KeyTable kTable{
      "test_input",
      "Lines of one source.",
      {{"source", "Whose lines they are.", {Shape::text()}, false, "the only one"},
       {"path", "Of the log, for what a path tells (cri).", {Shape::text()}},
       {"at", "When the first comes, since the test's start.", {Shape::duration()}, false, "0s"},
       {"every", "How far apart they are.", {Shape::duration()}, false, "1s"},
       {"lines", "In order: a text, `5x: '…'`, or a map.", {Shape::list({Shape::text(), Shape::map(line_keys)})}, true}}};
  return kTable;
}
const KeyTable& exp_alert_keys() {
  static const KeyTable kTable{"exp_alert",
                               "An alert; what is left out is not looked at.",
                               {{"exp_labels", "All of its labels but alertname and the configuration's own.", {kNamedTexts}},
                                {"exp_annotations", "All of its annotations.", {kNamedTexts}}},
                               {},
                               {},
                               {},
                               true};
  return kTable;
}
const KeyTable& alert_test_keys() {
  static const KeyTable kTable{
      "alert_rule_test",
      "What fires of a rule at a moment.",
      {kEvalTime,
       kAlertname,
       {"exp_alerts", "All that fire; [] for none.", {Shape::list({Shape::map(exp_alert_keys)})}},
       {"exp_pending", "All that are pending; [] for none.", {Shape::list({Shape::map(exp_alert_keys)})}}},
      {{"exp_alerts", "exp_pending"}}};
  return kTable;
}
const KeyTable& notification_keys() {
  static const KeyTable kTable{
      "exp_notification",
      "Who was told of a rule by a moment.",
      {kEvalTime,
       kAlertname,
       {"status", "Of its firing or of its end.", {Shape::word({"firing", "resolved"})}, false, "firing"},
       {"sink", "One who was told.", {Shape::text()}},
       {"sinks", "All who were told; [] for nobody.", {Shape::list({Shape::text()})}},
       {"text", "Must occur in a message to each.", {Shape::texts()}}},
      {{"sink", "sinks"}}};
  return kTable;
}
const KeyTable& exp_metric_keys() {
  static const KeyTable kTable{"exp_metric",
                               "What a series on /metrics is at a moment.",
                               {kEvalTime,
                                {"name", "Of the metric.", {Shape::text()}, true},
                                {"labels", "Exactly its labels.", {kNamedTexts}},
                                {"value", "What it must be.", {Shape::number()}, true}}};
  return kTable;
}
const KeyTable& test_keys() {
  static const KeyTable kTable{
      "test",
      "Lines with times, and what must be so then. Nothing is known before.",
      {{"name", "What a failure is called.", {Shape::text()}, false, "its number"},
       {"start", "The moment of 0s.", {Shape::text()}, false, "2026-01-01T00:00:00Z"},
       {"watched_for", "So long before the start the logs were watched and silent.", {Shape::duration()}, false, "0s"},
       {"input", "What the logs say.", {Shape::list({Shape::map(input_keys)})}},
       {"alert_rule_test", "What must fire, and what not.", {Shape::list({Shape::map(alert_test_keys)})}},
       {"exp_notifications", "Who must have been told.", {Shape::list({Shape::map(notification_keys)})}},
       {"exp_metrics", "What must have been counted.", {Shape::list({Shape::map(exp_metric_keys)})}}},
      {{"alert_rule_test", "exp_notifications", "exp_metrics"}}};
  return kTable;
}

// Texts as they stand: a log is free to hold `${X}`.
std::optional<std::string> plain(const Fields& fields, std::string_view key) {
  const yaml::Node* node = fields.raw(key);
  if (node == nullptr) return std::nullopt;
  if (!node->is_scalar()) {
    fields.error(key, fmt::format("\"{}\" is one text", key), "in quotes, if it holds \": \" or \" #\"");
    return std::nullopt;
  }
  return node->scalar;
}

// `5x`: how often. Unset: it is something else.
std::optional<std::uint32_t> read_times(std::string_view text) {
  std::uint32_t times = 0;
  const char* end = text.data() + text.size();
  const auto [stop, failure] = std::from_chars(text.data(), end, times);
  if (failure != std::errc() || times == 0 || times > kMaxTestLines ||
      std::string_view(stop, static_cast<std::size_t>(end - stop)) != "x")
    return std::nullopt;
  return times;
}

std::string unterminated(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r'))
    text.pop_back();
  return text;
}

class TestReader {
 public:
  TestReader(const Plan& plan, Problems& problems) {
    reading_.problems = &problems;
    for (const AlertingRule& rule : plan.rules)
      alert_names_.push_back(rule.name);
    for (const SourceSpec& source : plan.sources)
      source_names_.push_back(source.name);
    for (const auto& sink : plan.sinks)
      sink_names_.push_back(sink.first);
  }

  TestFile read(const yaml::Node& root) {
    TestFile out;
    out.path = root.place.file;
    const Fields fields(root, "", reading_, test_file_keys(), kForeignFileKeys);
    const yaml::Node* list = fields.list("tests");
    if (list != nullptr) {
      for (std::size_t i = 0; i < list->items.size(); ++i)
        out.tests.push_back(read_test(list->items[i], i + 1));
    }
    std::map<std::string, std::string> places;  // by name
    for (const RuleTest& test : out.tests) {
      const auto [first, is_new] = places.try_emplace(test.name, test.place.format());
      if (!is_new)
        fields.error(test.place, fmt::format("a test named \"{}\" stands at {} already", test.name, first->second),
                     "give it another name: a failure is called by it");
    }
    if (root.is_map() && (!fields.has("tests") || (list != nullptr && list->items.empty())))
      fields.error("tests", "there are no tests", "write at least one under `tests:`");
    return out;
  }

 private:
  RuleTest read_test(const yaml::Node& node, std::size_t number) {
    RuleTest test;
    test.place = node.place;
    test.name = fmt::format("test {}", number);
    const yaml::Node* named = node.find("name");
    if (named != nullptr && named->is_scalar() && !named->scalar.empty()) test.name = named->scalar;
    const Fields fields(node, fmt::format("test \"{}\"", test.name), reading_, test_keys(), kForeignTestKeys);
    if (!node.is_map()) {
      if (node.is_null()) fields.error(node.place, "it is empty", "give it `input:` and `alert_rule_test:`");
      return test;
    }
    plain(fields, "name");
    if (const auto start = fields.text("start")) {
      const Result<Timestamp> at = parse_rfc3339(start->value);
      if (!at) {
        fields.error("start", at.error().message, "as in 2026-01-01T09:00:00Z");
      } else {
        test.start = *at;
      }
    }
    test.watched_for = moment(fields, "watched_for").value_or(Duration(0));
    lines_ = 0;
    too_many_ = false;
    for (const yaml::Node& item : items(fields, "input"))
      test.input.push_back(read_input(item, fields));
    for (const yaml::Node& item : items(fields, "alert_rule_test"))
      test.alerts.push_back(read_alert_rule_test(item, fields));
    for (const yaml::Node& item : items(fields, "exp_notifications"))
      test.notifications.push_back(read_notification(item, fields));
    for (const yaml::Node& item : items(fields, "exp_metrics"))
      test.metrics.push_back(read_metric(item, fields));
    if (test.alerts.empty() && test.notifications.empty() && test.metrics.empty())
      fields.error(node.place, "it expects nothing, so it can never fail",
                   "say what must be so, with `alert_rule_test:`, `exp_notifications:` or `exp_metrics:`");
    return test;
  }

  static const std::vector<yaml::Node>& items(const Fields& fields, std::string_view key) {
    static const std::vector<yaml::Node> kNone;
    const yaml::Node* list = fields.list(key);
    return list == nullptr ? kNone : list->items;
  }

  // A time since the test's start.
  static std::optional<Duration> moment(const Fields& fields, std::string_view key) {
    const auto at = fields.duration(key);
    if (at && *at > kMaxTestSpan) {
      fields.error(key, fmt::format("a test lasts at most {}", format_duration(kMaxTestSpan)));
      return std::nullopt;
    }
    return at;
  }
  static Duration eval_time(const Fields& fields) {
    if (!fields.has("eval_time"))
      fields.error(fields.place(""), "\"eval_time\" is missing", "as in 5m: since the test's start");
    return moment(fields, "eval_time").value_or(Duration(0));
  }

  // --- input

  TestInput read_input(const yaml::Node& node, const Fields& test) {
    TestInput input;
    input.place = node.place;
    const Fields fields(node, test.subject(), reading_, input_keys());
    if (!node.is_map()) return input;
    if (const auto name = fields.text("source")) {
      const auto found = std::find(source_names_.begin(), source_names_.end(), name->value);
      if (found == source_names_.end()) {
        fields.error("source", fmt::format("there is no source \"{}\"", name->value),
                     hint(name->value, source_names_));
      } else {
        input.source = static_cast<std::uint32_t>(found - source_names_.begin());
      }
    } else if (!fields.has("source") && source_names_.size() != 1) {
      fields.error(node.place, "whose lines these are is not said",
                   "write `source:` with one of " + list_words(source_names_));
    }
    input.path = plain(fields, "path").value_or("");
    const Duration first = moment(fields, "at").value_or(Duration(0));
    const Duration every = moment(fields, "every").value_or(Duration(std::chrono::seconds(1)));
    if (!fields.has("lines")) fields.error(node.place, "\"lines\" is missing", "a list of what the log says");
    Duration next = first;
    std::optional<Duration> last;
    for (const yaml::Node& item : items(fields, "lines")) {
      TestLine line = read_line(item, fields, next, every);
      if (line.at) {
        if (last && *line.at < *last)
          fields.error(item.place,
                       fmt::format("time goes back: this is at {}, the line before it at {}",
                                   format_duration(*line.at), format_duration(*last)),
                       "write it earlier, or in another entry of `input:`");
        last = *line.at + line.every * static_cast<Duration::rep>(line.repeat - 1);
        next = *last + line.every;
      }
      input.lines.push_back(std::move(line));
    }
    return input;
  }

  // `next`: when it comes if it does not say.
  TestLine read_line(const yaml::Node& node, const Fields& input, Duration next, Duration every) {
    TestLine line;
    line.place = node.place;
    line.at = next;
    line.every = every;
    if (node.is_scalar()) {
      line.line = unterminated(node.scalar);
      if (auto repeated = read_repeated_line(node.scalar)) {
        line.repeat = repeated->first;
        line.line = unterminated(std::move(repeated->second));
      }
    } else {
      // `5x: '…'` is a line that comes five times: with a colon, it may hold whatever YAML lets stand in
      // quotes.
      std::string times_key = "5x";
      std::uint32_t times = 0;
      for (const yaml::Entry& entry : node.entries) {
        if (const auto found = read_times(entry.key)) {
          times_key = entry.key;
          times = *found;
        }
      }
      const Fields fields(node, input.subject(), reading_,
                          line_keys(), {}, {times_key});
      if (!node.is_map()) {
        if (node.is_null()) fields.error(node.place, "an empty line", "write '' where the log has one");
        return line;
      }
      const bool has_file = fields.has("file");
      const int ways = (has_file ? 1 : 0) + (fields.has("line") ? 1 : 0) + (times > 0 ? 1 : 0);
      if (ways != 1)
        fields.error(node.place, ways == 0 ? "no line is in it" : "more than one line is in it",
                     "write one of `line:`, `5x:` (how often it comes) and `file:`");
      line.line = unterminated(plain(fields, times > 0 ? times_key : "line").value_or(""));
      line.file = plain(fields, "file").value_or("");
      if (has_file && line.file.empty()) fields.error("file", "\"file\" is empty", "name a file of lines");
      if (const auto at = moment(fields, "at")) line.at = at;
      if (has_file && !fields.has("at")) line.at.reset();
      if (const auto own = moment(fields, "every")) line.every = *own;
      if (const auto repeat = fields.integer("repeat"))
        line.repeat = static_cast<std::uint32_t>(*repeat);
      if (times > 0) {
        line.repeat = times;
        if (fields.has("repeat"))
          fields.error("repeat", fmt::format("`{}:` says already how often it comes", times_key),
                       "remove it");
      }
      if (has_file) {
        for (const std::string_view key : {"repeat", "every"}) {
          if (fields.has(key))
            fields.error(key, fmt::format("\"{}\" is not of a file", key),
                         "its lines have times of their own");
        }
        line.repeat = 1;
        line.every = every;
      }
    }
    check_extent(node.place, input, line);
    return line;
  }

  void check_extent(const Place& place, const Fields& input, TestLine& line) {
    lines_ += line.repeat;
    if (lines_ > kMaxTestLines && !too_many_) {
      too_many_ = true;
      input.error(place, fmt::format("more than {} lines in one test", kMaxTestLines), "say less of them");
    }
    const auto others = static_cast<Duration::rep>(line.repeat - 1);
    if (line.every.count() > 0 && others > 0 &&
        (others > kMaxTestSpan / line.every ||
         line.at.value_or(Duration(0)) + line.every * others > kMaxTestSpan)) {
      input.error(place, fmt::format("a test lasts at most {}", format_duration(kMaxTestSpan)));
      line.repeat = 1;
    } else if (line.at.value_or(Duration(0)) > kMaxTestSpan) {
      input.error(place, fmt::format("a test lasts at most {}", format_duration(kMaxTestSpan)));
      line.at = kMaxTestSpan;
    }
  }

  // --- what is expected

  static std::string hint(std::string_view word, const std::vector<std::string>& known) {
    std::string fix = did_you_mean(word, known);
    if (fix.empty() && !known.empty()) fix = "there are " + list_words(known);
    return fix;
  }

  std::string alertname(const Fields& fields) {
    const auto name = fields.required_text("alertname", "the name of a rule");
    if (!name) return "";
    if (!contains(alert_names_, name->value) && !contains(built_in_alerts(), name->value))
      fields.error("alertname", fmt::format("there is no rule \"{}\"", name->value),
                   hint(name->value, alert_names_));
    return name->value;
  }

  AlertRuleTest read_alert_rule_test(const yaml::Node& node, const Fields& test) {
    AlertRuleTest out;
    out.place = node.place;
    const Fields fields(node, test.subject(), reading_,
                        alert_test_keys());
    if (!node.is_map()) return out;
    out.eval_time = eval_time(fields);
    out.alertname = alertname(fields);
    out.firing = read_alerts(fields, "exp_alerts");
    out.pending = read_alerts(fields, "exp_pending");
    if (!fields.has("exp_alerts") && !fields.has("exp_pending"))
      fields.error(node.place, "it expects nothing", "write `exp_alerts: []` where none must fire");
    return out;
  }

  std::optional<std::vector<ExpectedAlert>> read_alerts(const Fields& fields, std::string_view key) {
    if (!fields.has(key)) return std::nullopt;
    std::vector<ExpectedAlert> out;
    for (const yaml::Node& item : items(fields, key)) {
      ExpectedAlert alert;
      alert.place = item.place;
      // promtool's tests may write an alert of which nothing is said as an empty entry.
      const Fields one(item, fields.subject(), reading_, exp_alert_keys());
      if (const yaml::Node* labels = one.map("exp_labels")) {
        alert.labels.emplace();
        for (auto& [name, value] : read_texts(one, *labels)) {
          if (!is_label_name(name))
            one.error(labels->place, fmt::format("\"{}\" is not a label's name", name));
          if (name != "alertname") alert.labels->set(name, value);
        }
      }
      if (const yaml::Node* annotations = one.map("exp_annotations")) {
        alert.annotations = read_texts(one, *annotations);
        std::sort(alert.annotations->begin(), alert.annotations->end());
      }
      out.push_back(std::move(alert));
    }
    return out;
  }

  static std::vector<std::pair<std::string, std::string>> read_texts(const Fields& fields,
                                                                     const yaml::Node& map) {
    std::vector<std::pair<std::string, std::string>> out;
    for (const yaml::Entry& entry : map.entries) {
      if (!entry.value.is_scalar()) {
        fields.error(entry.value.place, fmt::format("\"{}\" is one text", entry.key),
                     "in quotes, if it is empty");
        continue;
      }
      out.emplace_back(entry.key, entry.value.scalar);
    }
    return out;
  }

  ExpectedNotification read_notification(const yaml::Node& node, const Fields& test) {
    ExpectedNotification out;
    out.place = node.place;
    const Fields fields(node, test.subject(), reading_,
                        notification_keys());
    if (!node.is_map()) return out;
    out.eval_time = eval_time(fields);
    out.alertname = alertname(fields);
    out.resolved = fields.word("status").value_or(0) == 1;
    out.exactly = fields.has("sinks");
    if (fields.has("sink") == fields.has("sinks"))
      fields.error(node.place, out.exactly ? "it has both `sink:` and `sinks:`" : "who is told is not said",
                   "write `sinks:` for all who are told, [] for nobody, or `sink:` for one of them");
    if (const yaml::Node* list = fields.list("sinks")) {
      if (!list->items.empty()) {
        for (const Text& name : fields.texts("sinks").value_or(std::vector<Text>()))
          add_sink(fields, name, out.sinks);
      }
    }
    if (const auto name = fields.text("sink")) add_sink(fields, *name, out.sinks);
    std::sort(out.sinks.begin(), out.sinks.end());
    if (const yaml::Node* text = fields.raw("text")) {
      const std::vector<yaml::Node> one{text->is_sequence() ? yaml::Node() : *text};
      for (const yaml::Node& item : text->is_sequence() ? text->items : one) {
        if (!item.is_scalar() || item.scalar.empty()) {
          fields.error(item.is_null() ? text->place : item.place,
                       "\"text\" is one text that must occur, or a list of them");
        } else {
          out.text.push_back(item.scalar);
        }
      }
      if (out.exactly && out.sinks.empty())
        fields.error("text", "nobody is told, so nothing is said", "remove it");
    }
    return out;
  }

  void add_sink(const Fields& fields, const Text& name, std::vector<std::string>& out) {
    if (!contains(sink_names_, name.value)) {
      fields.error(name.place, fmt::format("there is no sink \"{}\"", name.value),
                   hint(name.value, sink_names_));
    } else if (contains(out, name.value)) {
      fields.error(name.place, fmt::format("sink \"{}\" stands twice", name.value), "remove one of them");
    }
    out.push_back(name.value);
  }

  ExpectedMetric read_metric(const yaml::Node& node, const Fields& test) {
    ExpectedMetric out;
    out.place = node.place;
    const Fields fields(node, test.subject(), reading_, exp_metric_keys());
    if (!node.is_map()) return out;
    out.eval_time = eval_time(fields);
    if (const auto name = fields.required_text("name", "the name of a metric")) {
      out.name = name->value;
      if (!is_metric_name(out.name))
        fields.error("name", fmt::format("\"{}\" is not a metric's name", out.name));
    }
    if (const yaml::Node* labels = fields.map("labels")) {
      for (const auto& [name, value] : read_texts(fields, *labels)) {
        if (!is_label_name(name))
          fields.error(labels->place, fmt::format("\"{}\" is not a label's name", name));
        out.labels.set(name, value);
      }
    }
    if (!fields.has("value")) fields.error(node.place, "\"value\" is missing", "the number that it must be");
    out.value = fields.number("value").value_or(0);
    return out;
  }

  Reading reading_;
  std::vector<std::string> alert_names_;
  std::vector<std::string> source_names_;
  std::vector<std::string> sink_names_;
  std::size_t lines_ = 0;  // of the test that is read
  bool too_many_ = false;
};

}  // namespace

const KeyTable& test_file_keys() {
  static const KeyTable kTable{"tests",
                               "Tests of the rules of one configuration.",
                               {{"config", "The configuration, relative to this file.", {Shape::text()}, true},
                                {"tests", "Each begins with nothing known.", {Shape::list({Shape::map(test_keys)})}, true}}};
  return kTable;
}

Duration RuleTest::end() const {
  Duration end{0};
  for (const AlertRuleTest& one : alerts)
    end = std::max(end, one.eval_time);
  for (const ExpectedNotification& one : notifications)
    end = std::max(end, one.eval_time);
  for (const ExpectedMetric& one : metrics)
    end = std::max(end, one.eval_time);
  return end;
}

std::optional<std::pair<std::uint32_t, std::string>> read_repeated_line(std::string_view text) {
  const std::size_t blank = text.find(' ');
  if (blank == std::string_view::npos) return std::nullopt;
  const auto times = read_times(text.substr(0, blank));
  const std::string_view rest = text.substr(blank + 1);
  if (!times || rest.size() < 2 || (rest.front() != '\'' && rest.front() != '"') ||
      rest.back() != rest.front())
    return std::nullopt;
  return std::pair(*times, std::string(rest.substr(1, rest.size() - 2)));
}

std::optional<std::string> test_file_config(const yaml::Node& root, Problems& problems) {
  Reading reading;
  reading.problems = &problems;
  const Fields fields(root, "", reading, test_file_keys(), kForeignFileKeys);
  const auto config =
      fields.required_text("config", "the configuration that is tested, as in `config: logbell.yaml`");
  if (!config) return std::nullopt;
  return config->value;
}

TestFile read_test_file(const yaml::Node& root, const Plan& plan, Problems& problems) {
  return TestReader(plan, problems).read(root);
}

}  // namespace logbell::rules

#include "rules/route_file.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <set>

#include <fmt/format.h>

#include "rules/text.h"

namespace logbell::rules {
namespace {

using IntRange = std::pair<int, int>;

// Deeper than any tree that a person reads; keeps recursion off the end of the stack.
constexpr int kMaxRouteDepth = 24;
// An alert waits no longer than this, however a route is written: a slip of the unit would mute it.
constexpr Duration kMaxGroupWait = std::chrono::hours(1);
constexpr Duration kMaxGroupInterval = std::chrono::hours(24);

std::optional<int> whole_number(std::string_view text) {
  int value = 0;
  const auto [stop, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || failure != std::errc() || stop != text.data() + text.size()) return std::nullopt;
  return value;
}

const std::vector<std::string> kWeekdays{"sunday",   "monday", "tuesday", "wednesday",
                                         "thursday", "friday", "saturday"};
const std::vector<std::string> kMonths{"january", "february", "march",     "april",   "may",      "june",
                                       "july",    "august",   "september", "october", "november", "december"};

// One end of a range: a name (counted from `first_name`) or a number within bounds.
struct Ends {
  const std::vector<std::string>* names = nullptr;
  int first_name = 0;
  int least = 0;
  int most = 0;
  bool numbers = true;
};

std::optional<int> read_end(std::string_view text, const Ends& ends) {
  if (ends.names != nullptr) {
    const auto found = std::find(ends.names->begin(), ends.names->end(), lower(text));
    if (found != ends.names->end()) return ends.first_name + static_cast<int>(found - ends.names->begin());
  }
  if (!ends.numbers) return std::nullopt;
  const std::optional<int> number = whole_number(text);
  if (!number || *number < ends.least || *number > ends.most || (*number == 0 && ends.least < 0))
    return std::nullopt;
  return number;
}

void read_ranges(const Fields& fields, std::string_view key, const Ends& ends, std::string_view example,
                 std::vector<IntRange>& out) {
  for (const Text& text : fields.texts(key).value_or(std::vector<Text>())) {
    const std::size_t colon = text.value.find(':');
    const auto from = read_end(std::string_view(text.value).substr(0, colon), ends);
    const auto to =
        colon == std::string::npos ? from : read_end(std::string_view(text.value).substr(colon + 1), ends);
    if (!from || !to) {
      fields.error(text.place, fmt::format("\"{}\" is not one of `{}:`", text.value, key),
                   fmt::format("as in {}", example));
      continue;
    }
    // Days from the month's end may stand on either side: only like with like can be compared.
    if (*from > *to && (*from < 0) == (*to < 0)) {
      fields.error(text.place, fmt::format("\"{}\" ends before it begins", text.value),
                   "write two ranges, each forwards");
      continue;
    }
    if (*from < 0 && *to > 0) {
      fields.error(text.place, fmt::format("\"{}\" ends before it begins", text.value),
                   "a range that begins at the month's end also ends there");
      continue;
    }
    out.emplace_back(*from, *to);
  }
}

const KeyTable& times_keys() {
  static const KeyTable kTable{"times",
                               "A part of each day; over midnight write two.",
                               {{"start_time", "As in '09:00', in quotes.", {Shape::text()}, true},
                                {"end_time", "As in '17:00'; '24:00' is the day's end. Not included.", {Shape::text()}, true}}};
  return kTable;
}
const KeyTable& interval_entry_keys() {
  static const KeyTable kTable{
      "time_interval_entry",
      "Every part that is given must hold.",
      {{"times", "Parts of the day.", {Shape::list({Shape::map(times_keys)})}},
       {"weekdays", "monday, or 'monday:friday'.", {Shape::texts()}},
       {"days_of_month", "'1:5', or '-3:-1' for the last three.", {Shape::texts()}},
       {"months", "december, or '1:3'.", {Shape::texts()}},
       {"years", "2026, or '2026:2028'.", {Shape::texts()}},
       {"location", "The IANA zone that they are of, as in Europe/Berlin.", {Shape::text()}, false, "UTC"}}};
  return kTable;
}

std::optional<int> minute_of_day(std::string_view text) {
  const bool shaped = text.size() == 5 && text[2] == ':';
  const auto hours = whole_number(shaped ? text.substr(0, 2) : std::string_view());
  const auto minutes = whole_number(shaped ? text.substr(3) : std::string_view());
  if (!hours || !minutes || *hours < 0 || *minutes < 0 || *minutes > 59) return std::nullopt;
  const int minute = *hours * 60 + *minutes;
  return minute > 24 * 60 ? std::nullopt : std::optional(minute);
}

void read_times(const Fields& entry, TimeIntervalEntry& out) {
  const yaml::Node* list = entry.list("times");
  if (list == nullptr) return;
  for (const yaml::Node& node : list->items) {
    const Fields times(node, entry.subject(), entry.reading(), times_keys());
    const auto start = times.required_text("start_time", "as in '09:00'");
    const auto end = times.required_text("end_time", "as in '17:00'; '24:00' is the day's end");
    if (!start || !end) continue;
    const auto from = minute_of_day(start->value);
    const auto to = minute_of_day(end->value);
    if (!from)
      times.error("start_time", fmt::format("\"{}\" is not a time", start->value),
                  "as in '09:00', in quotes");
    if (!to)
      times.error("end_time", fmt::format("\"{}\" is not a time", end->value), "as in '17:00', in quotes");
    if (!from || !to) continue;
    if (*from >= *to) {
      times.error("end_time",
                  fmt::format("the time ends at {}, before it begins at {}", end->value, start->value),
                  "over midnight write two: up to '24:00', and from '00:00'");
      continue;
    }
    out.minutes.emplace_back(*from, *to);
  }
}

TimeIntervalEntry read_entry(const yaml::Node& node, const std::string& subject, Reading& reading) {
  const Fields fields(node, subject, reading,
                      interval_entry_keys());
  TimeIntervalEntry entry;
  read_times(fields, entry);
  read_ranges(fields, "weekdays", {&kWeekdays, 0, 0, 0, false}, "monday or 'monday:friday'", entry.weekdays);
  read_ranges(fields, "days_of_month", {nullptr, 0, -31, 31, true}, "'1:5', or '-3:-1' for the last three",
              entry.days_of_month);
  read_ranges(fields, "months", {&kMonths, 1, 1, 12, true}, "december or '1:3'", entry.months);
  read_ranges(fields, "years", {nullptr, 0, 1970, 9999, true}, "2026 or '2026:2028'", entry.years);
  if (const auto location = fields.text("location")) {
    if (!is_known_zone(location->value)) {
      fields.error("location", fmt::format("there is no time zone \"{}\" on this machine", location->value),
                   "as in Europe/Berlin; Debian has them in the package tzdata");
    } else {
      entry.location = location->value;
    }
  }
  return entry;
}

const std::vector<ForeignKey> kForeignRouteKeys{
    {"receiver", "receivers are called sinks here", "write `sinks: [NAME]`"},
    {"match", "\"match\" is Alertmanager's old form", "write `matchers: ['severity=\"critical\"']`"},
    {"match_re", "\"match_re\" is Alertmanager's old form", "write `matchers: ['team=~\"a|b\"']`"}};

class RouteReader {
 public:
  RouteReader(const TimeIntervals& intervals, Reading& reading, std::vector<RouteSink>& sinks)
      : intervals_(intervals), reading_(reading), sinks_(sinks) {}

  Route read(const yaml::Node& node, const std::string& id, const RouteOptions& inherited, int depth) {
    const Fields fields(node, "route", reading_, route_keys(), kForeignRouteKeys);
    Route route;
    route.place = node.place;
    route.id = id;
    route.options = inherited;
    // As in Alertmanager: the times at which a node is silent are its own.
    route.options.mute_time_intervals.clear();
    route.options.active_time_intervals.clear();
    read_sinks(fields, route);
    read_matchers(fields, route, depth);
    read_grouping(fields, route);
    read_intervals(fields, "mute_time_intervals", route.options.mute_time_intervals, depth);
    read_intervals(fields, "active_time_intervals", route.options.active_time_intervals, depth);
    if (const yaml::Node* children = fields.list("routes")) {
      if (depth >= kMaxRouteDepth) {
        fields.error(children->place, fmt::format("routes nested deeper than {}", kMaxRouteDepth));
        return route;
      }
      for (std::size_t i = 0; i < children->items.size(); ++i)
        route.routes.push_back(
            read(children->items[i], fmt::format("{}/{}", id, i), route.options, depth + 1));
      if (!route.routes.empty() && route.routes.back().continue_) {
        reading_.problems->warn(
            Fields(children->items.back(), "route", reading_, route_keys(), kForeignRouteKeys)
                .key_place("continue"),
            "route", "`continue: true` does nothing here: no route follows", "remove it");
      }
    }
    return route;
  }

 private:
  void read_sinks(const Fields& fields, Route& route) {
    const yaml::Node* node = fields.raw("sinks");
    if (node == nullptr) return;
    if (node->is_null() || (node->is_sequence() && node->items.empty())) {
      fields.error(
          node->place, "its `sinks:` is empty: what it takes reaches nobody",
          route.id == "route" ? "name a sink" : "name a sink, or remove the key to inherit its parent's");
      route.options.sinks.clear();
      return;
    }
    const auto names = fields.texts("sinks");
    if (!names) return;
    route.options.sinks.clear();
    for (const Text& name : *names) {
      if (name.value == "none") {
        fields.error(name.place, "`sinks: none` belongs to a rule, with its `reason:` and `until:`",
                     "name a sink here");
        continue;
      }
      sinks_.push_back({route.id, name.value, name.place});
      route.options.sinks.push_back(name.value);
    }
  }

  void read_matchers(const Fields& fields, Route& route, int depth) {
    if (depth == 0) {
      for (const char* key : {"matchers", "continue"}) {
        if (fields.has(key))
          fields.error(fields.key_place(key), fmt::format("the root takes everything: it has no `{}:`", key),
                       "move it to one of its `routes:`");
      }
      return;
    }
    for (const Text& text : fields.texts("matchers").value_or(std::vector<Text>())) {
      Result<LabelMatcher> matcher = LabelMatcher::parse(text.value);
      if (!matcher) {
        fields.error(text.place, matcher.error().message, "as in 'severity=\"critical\"' or 'team=~\"a|b\"'");
        continue;
      }
      // `severity=="critical"` would compare with a value that begins with `=`, and never match.
      if (matcher->op == LabelMatcher::Op::kEqual && !matcher->value.empty() &&
          matcher->value.front() == '=') {
        fields.error(text.place, fmt::format("the matcher `{}` has one `=` too many", text.value),
                     "as in 'severity=\"critical\"'");
        continue;
      }
      route.matchers.push_back(*std::move(matcher));
    }
    if (const auto more = fields.boolean("continue")) route.continue_ = *more;
  }

  void read_grouping(const Fields& fields, Route& route) {
    if (const auto names = fields.texts("group_by")) {
      route.options.group_by.clear();
      route.options.group_by_all = false;
      for (const Text& name : *names) {
        if (name.value == "...") {
          route.options.group_by_all = true;
          if (names->size() > 1)
            fields.error(name.place, "`...` groups by every label and stands alone", "write ['...']");
        } else if (!is_label_name(name.value)) {
          fields.error(name.place, fmt::format("\"{}\" is not a label's name", name.value));
        } else {
          route.options.group_by.push_back(name.value);
        }
      }
      std::sort(route.options.group_by.begin(), route.options.group_by.end());
    } else if (const yaml::Node* empty = fields.raw("group_by"); empty != nullptr && empty->is_sequence()) {
      return;  // said by texts()
    }
    if (const auto wait = fields.duration("group_wait")) {
      if (*wait > kMaxGroupWait) too_long(fields, "group_wait", *wait, kMaxGroupWait, "as in 30s");
      route.options.group_wait = *wait;
    }
    if (const auto interval = fields.duration("group_interval")) {
      if (*interval > kMaxGroupInterval) too_long(fields, "group_interval", *interval, kMaxGroupInterval, "as in 5m");
      if (*interval <= Duration{0}) fields.error("group_interval", "it must be longer than 0", "as in 30s");
      route.options.group_interval = *interval;
    }
    if (const auto repeat = fields.duration("repeat_interval")) {
      if (*repeat <= Duration{0}) fields.error("repeat_interval", "it must be longer than 0", "as in 4h");
      route.options.repeat_interval = *repeat;
    }
    if (fields.has("repeat_interval") && route.options.repeat_interval > Duration{0} &&
        route.options.repeat_interval < route.options.group_interval) {
      fields.warn(
          fields.place("repeat_interval"),
          fmt::format("it is shorter than the group_interval of {}, which is how often a group speaks",
                      format_duration(route.options.group_interval)),
          "make it longer");
    }
  }

  static void too_long(const Fields& fields, const char* key, Duration written, Duration most, const char* fix) {
    fields.error(key, fmt::format("an alert would wait for {} until somebody hears of it; {} at most", format_duration(written), format_duration(most)),
                 fix);
  }

  void read_intervals(const Fields& fields, const char* key, std::vector<std::string>& out, int depth) {
    const auto names = fields.texts(key);
    if (!names) return;
    if (depth == 0) {
      fields.error(fields.key_place(key),
                   fmt::format("the root has no `{}:`: it is what is left to tell", key),
                   "move it to one of its `routes:`");
      return;
    }
    for (const Text& name : *names) {
      if (std::find(intervals_.names.begin(), intervals_.names.end(), name.value) == intervals_.names.end()) {
        std::string fix = did_you_mean(name.value, intervals_.names);
        if (fix.empty())
          fix = intervals_.names.empty() ? "define it under `time_intervals:`"
                                         : "there are " + list_words(intervals_.names);
        fields.error(name.place, fmt::format("there is no time interval \"{}\"", name.value), std::move(fix));
        continue;
      }
      out.push_back(name.value);
    }
  }

  const TimeIntervals& intervals_;
  Reading& reading_;
  std::vector<RouteSink>& sinks_;
};

}  // namespace

const KeyTable& route_keys() {
  static const KeyTable kTable{
      "route",
      "Who hears of what: Alertmanager's tree. What is left out is inherited.",
      {{"sinks", "Who is told of what it takes.", {Shape::texts()}},
       {"matchers", "What it takes, all of which must hold: 'severity=\"critical\"', 'team=~\"a|b\"'. Not of the root.", {Shape::texts()}},
       {"continue", "Whether its later siblings may take the same alerts.", {Shape::boolean()}, false, "false"},
       {"group_by", "Labels by which alerts share a message; ['...'] is one message an alert.", {Shape::texts()}},
       {"group_wait", "So long the first message of a group waits for more.", {Shape::duration()}, false, "0s"},
       {"group_interval", "So long the next one does.", {Shape::duration()}, false, "30s"},
       {"repeat_interval", "What still fires is told again after so long.", {Shape::duration()}, false, "4h"},
       {"routes", "Its children, asked in order; what none takes is its own.", {Shape::list({Shape::map(route_keys)})}},
       {"mute_time_intervals", "Names of `time_intervals:` in which it tells nobody. Not of the root.", {Shape::texts()}},
       {"active_time_intervals", "Names of `time_intervals:` in which alone it tells. Not of the root.", {Shape::texts()}}}};
  return kTable;
}

const KeyTable& time_interval_keys() {
  static const KeyTable kTable{
      "time_interval",
      "Times under a name, for routes and drills.",
      {{"name", "As routes name it.", {Shape::text()}, true},
       {"time_intervals", "Any of these.", {Shape::list({Shape::map(interval_entry_keys)})}, true}}};
  return kTable;
}

TimeIntervals read_time_intervals(const yaml::Node& list, Reading& reading) {
  TimeIntervals out;
  if (!list.is_sequence()) {
    if (!list.is_null())
      reading.problems->error(list.place, "", "`time_intervals:` is a list",
                              "as in `- name: nights`, `  time_intervals: [{times: […]}]`");
    return out;
  }
  for (const yaml::Node& node : list.items) {
    const yaml::Node* named = node.find("name");
    const std::string subject = named != nullptr && named->is_scalar()
                                    ? fmt::format("time interval \"{}\"", named->scalar)
                                    : "time interval";
    const Fields fields(node, subject, reading, time_interval_keys());
    const auto name = fields.required_text("name");
    if (!name) continue;
    const std::size_t before = reading.problems->errors();
    TimeInterval interval;
    interval.name = name->value;
    const yaml::Node* entries = fields.list("time_intervals");
    if (!fields.has("time_intervals") || (entries != nullptr && entries->items.empty()))
      fields.error(node.place, "it has no `time_intervals:`, so it would hold never",
                   "as in [{times: [{start_time: '09:00', end_time: '17:00'}]}]");
    if (entries != nullptr) {
      for (const yaml::Node& entry : entries->items)
        interval.entries.push_back(read_entry(entry, subject, reading));
    }
    if (std::find(out.names.begin(), out.names.end(), name->value) != out.names.end()) {
      fields.error("name", "it stands twice", "give it another name");
      continue;
    }
    out.names.push_back(name->value);
    if (reading.problems->errors() == before) out.by_name.emplace(name->value, std::move(interval));
  }
  return out;
}

Route read_route(const yaml::Node& node, const TimeIntervals& intervals, Reading& reading,
                 std::vector<RouteSink>& sinks) {
  return RouteReader(intervals, reading, sinks).read(node, "route", RouteOptions{}, 0);
}

bool is_always_muted(const RouteOptions& options, const std::map<std::string, TimeInterval>& intervals,
                     Timestamp now) {
  if (options.mute_time_intervals.empty() && options.active_time_intervals.empty()) return false;
  std::vector<const TimeInterval*> used;
  for (const auto* names : {&options.mute_time_intervals, &options.active_time_intervals}) {
    for (const std::string& name : *names) {
      const auto found = intervals.find(name);
      if (found == intervals.end()) return false;  // it was refused: that is said already
      used.push_back(&found->second);
    }
  }
  const std::vector<Timestamp> edges = edges_of(used, now);
  return std::all_of(edges.begin(), edges.end(),
                     [&](Timestamp at) { return is_muted(options, intervals, at); });
}

}  // namespace logbell::rules

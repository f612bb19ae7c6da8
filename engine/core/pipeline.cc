#include "engine/core/pipeline.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <set>
#include <unordered_map>
#include <utility>

#include <fmt/format.h>

#include "engine/core/dispatcher.h"
#include "engine/core/format_watch.h"
#include "engine/core/keyed_spans.h"
#include "engine/core/rule_state.h"
#include "engine/core/uncovered.h"
#include "rules/json.h"
#include "rules/line_shape.h"
#include "rules/redact.h"
#include "rules/rule_file.h"
#include "rules/text.h"

namespace logbell::engine {

using rules::Alert;
using rules::AlertState;
using rules::Duration;
using rules::Fingerprint;
using rules::Json;
using rules::Labels;
using rules::Timestamp;

namespace {

// A clock may be this far ahead of the wall clock: lines that far in the future are believed (DESIGN.md §3).
constexpr Duration kMaxAhead = std::chrono::seconds(10);
// Without a readable file for so long, a source is an alert: longer than any rotation takes.
constexpr Duration kUnreadableFor = std::chrono::minutes(5);
// A lost state is told for so long; there is nothing that could end it.
constexpr Duration kHappenedShown = std::chrono::hours(1);
// And a match that came too late for a rule's windows; what is said of them is brought up to date so often.
constexpr Duration kTooLateShown = std::chrono::hours(1);
constexpr Duration kTooLateSaid = std::chrono::minutes(1);
// Lines that went missing are told for so long after the last of them: by then whoever looks into it has
// begun.
constexpr Duration kGapShown = std::chrono::hours(1);
// Lines kept as samples, per pattern: a few hundred series with theirs. Beyond it only new series go without.
constexpr std::size_t kMaxSampleMemory = 1024 * 1024;
// No series is forgotten sooner than this after its last match (DESIGN.md §3 "Zero").
constexpr Duration kDay = std::chrono::hours(24);
constexpr std::string_view kBeforeStart = "logbell_alerts_before_start_total";
constexpr std::string_view kSamplesDropped = "logbell_sample_lines_dropped_total";
constexpr std::string_view kTooLate = "logbell_matches_too_late_total";
constexpr std::string_view kNegativeValues = "logbell_values_negative_total";
constexpr std::string_view kKeysDropped = "logbell_keys_dropped_total";
constexpr std::string_view kElementsUntold = "logbell_elements_untold_total";
constexpr std::string_view kMerged = "logbell_window_merged_total";
constexpr std::string_view kFailures = "logbell_rule_evaluation_failures_total";
// What the reader counts where lines are missing.
constexpr std::string_view kGaps = "logbell_source_gaps_total";
constexpr std::string_view kBytesLost = "logbell_source_bytes_lost_total";
constexpr std::string_view kDatagramsDropped = "logbell_source_datagrams_dropped_total";
// So many values of a label that was summed away are shown: what fits a phone.
constexpr std::size_t kTopValues = 3;
// Earlier lines kept a series, spread over the longest window, so that the first one of a window is at hand.
constexpr std::size_t kAnchors = 8;

std::string hex(Fingerprint fingerprint) {
  return rules::format_fingerprint(fingerprint);
}

Json values_json(const std::vector<std::string>& values) {
  Json list{Json::Array{}};
  for (const std::string& value : values)
    list.push(Json(value));
  return list;
}

std::optional<std::string_view> after(std::string_view key, std::string_view prefix) {
  if (key.substr(0, prefix.size()) != prefix) return std::nullopt;
  return key.substr(prefix.size());
}

// The lines that a series was last matched by.
struct SampleLines {
  std::vector<std::pair<Timestamp, std::string>> anchors;  // oldest first
  std::vector<std::pair<Timestamp, std::string>> firsts;   // of the newest kinds of line, where a rule asks for them
  Timestamp last_at;
  std::string last;
};

// Why lines are missing, for people; the cause itself where it is not in the table.
std::string_view describe_gap(std::string_view cause) {
  constexpr std::pair<std::string_view, std::string_view> kCauses[] = {
      {"rotated_away_while_down", "rotated away while logbell did not run"},
      {"deleted_while_down", "deleted while logbell did not run"},
      {"truncated_while_down", "cut while logbell did not run"},
      {"truncated", "cut before it was read"},
      {"deleted_while_written", "deleted, and still written to"},
      {"compressed_broken", "compressed, and what was compressed is broken"},
      {"compression_unknown", "compressed in a way that is not known"},
      {"decompression_limit", "compressed, and unpacked larger than it may be"},
      {"read_by_another_source", "in a file that another source reads too, and a file is read once"},
      {"datagrams_dropped", "sent faster than it was read"},
      {"not_listening", "sent while nobody listened"},
      {"journal_vacuumed", "vacuumed from the journal before it was read"},
      {"journal_unreadable", "unreadable in the journal"}};
  for (const auto& [name, words] : kCauses) {
    if (name == cause) return words;
  }
  return cause;
}

// Lines that went missing since this began, as far as that is known: what InputGap tells.
struct GapState {
  Timestamp since;  // wall time at which the first was noticed
  Timestamp last;   // and the last
  std::map<std::string, double> causes;
  double bytes = 0;
  double datagrams = 0;

  std::string to_json() const {
    Json by_cause;
    for (const auto& [cause, times] : causes)
      by_cause.set(cause, rules::format_number(times));
    Json json;
    json.set("since", rules::to_unix_ms(since)).set("last", rules::to_unix_ms(last)).set("causes", by_cause);
    json.set("bytes", rules::format_number(bytes)).set("datagrams", rules::format_number(datagrams));
    return json.dump();
  }
  static std::optional<GapState> parse(std::string_view text) {
    const auto json = Json::parse(text);
    if (!json || !(*json)["since"].is_integer() || !(*json)["last"].is_integer()) return std::nullopt;
    GapState gap;
    gap.since = rules::from_stored_ms((*json)["since"].integer());
    gap.last = rules::from_stored_ms((*json)["last"].integer());
    for (const auto& [cause, times] : (*json)["causes"].object())
      gap.causes[cause] = rules::parse_number(times.string());
    gap.bytes = rules::parse_number((*json)["bytes"].string());
    gap.datagrams = rules::parse_number((*json)["datagrams"].string());
    return gap;
  }
};

// What a pattern has counted: for /metrics, kept over restarts.
struct Totals {
  double count = 0;
  double sum = 0;
  double last = 0;
  std::vector<double> buckets;  // cumulative, as Prometheus has them, without +Inf
  Timestamp counted_at = rules::kLongAgo;  // the latest match; kLongAgo: not known
  bool noted = false;                      // as changed

  // `timed`: a `ttl:` needs to know when it last counted.
  std::string format(bool timed) const {
    std::string text = fmt::format("{} {} {}", rules::format_number(count), rules::format_number(sum),
                                   rules::format_number(last));
    for (const double bucket : buckets)
      text += " " + rules::format_number(bucket);
    if (timed && counted_at != rules::kLongAgo) text += fmt::format(" {}", rules::to_unix_ms(counted_at));
    return text;
  }
  static Totals parse(std::string_view text, std::size_t buckets) {
    std::vector<double> numbers;
    while (!text.empty()) {
      const std::size_t end = std::min(text.find(' '), text.size());
      numbers.push_back(rules::parse_number(text.substr(0, end)));
      text.remove_prefix(std::min(end + 1, text.size()));
    }
    Totals totals;
    totals.buckets.assign(buckets, 0);
    if (numbers.size() < 3) return totals;
    totals.count = numbers[0];
    totals.sum = numbers[1];
    totals.last = numbers[2];
    for (std::size_t i = 0; i < buckets && i + 3 < numbers.size(); ++i)
      totals.buckets[i] = numbers[i + 3];
    // Of other buckets than before it begins anew anyway.
    if (numbers.size() == buckets + 4 && numbers.back() >= 0 &&
        numbers.back() <= static_cast<double>(rules::kMaxStoredMs))
      totals.counted_at = rules::from_stored_ms(static_cast<std::int64_t>(numbers.back()));
    return totals;
  }
};

using Values = std::vector<std::string>;  // of a pattern's labels

struct HashOfValues {
  std::size_t operator()(const Values* values) const {
    std::size_t hash = 0;
    for (const std::string& value : *values)
      hash = hash * 31 + std::hash<std::string_view>()(value);
    return hash;
  }
};
struct SameValues {
  bool operator()(const Values* a, const Values* b) const { return *a == *b; }
};

// Where a match of these values is counted. Null: to be looked for.
struct Place {
  Totals* totals = nullptr;
  Series* series = nullptr;
  SampleLines* lines = nullptr;
};

struct PatternState {
  PatternState(Fingerprint id, PatternWindow with, std::vector<std::size_t> users)
      : identity(id),
        id_text(hex(id)),
        stored_under("core/w/" + id_text + "/"),
        window(std::move(with)),
        used_by(std::move(users)) {}

  Fingerprint identity;  // one of its own even where two patterns are defined alike
  std::string id_text;
  std::string stored_under;
  PatternWindow window;
  std::vector<std::size_t> used_by;          // rules
  std::vector<std::vector<const rules::Expr*>> calls_of;  // of each of them, that look at it
  Duration reach{0};                         // how far back the longest of them looks
  Timestamp since = rules::kLongAgo;         // its matches are known from here on
  Timestamp no_room_at = rules::kLongAgo;    // of the latest match that was not kept, for want of room
  Timestamp merged_at = rules::kLongAgo;     // when old matches were merged last, for want of room, by its rules' clock
  bool merging_pays = true;                  // that gave room for long
  Timestamp forgotten_at = rules::kLongAgo;  // clock of the last forget()
  Timestamp expired_at = rules::kLongAgo;    // and of the last expire()
  bool changed = true;                       // something is to be written
  bool overflowing = false;
  bool overflowing_keys = false;
  std::map<std::string, std::uint64_t> untold;  // by key: elements of its functions on top of those that are told one by one
  std::map<std::vector<std::string>, Totals> totals;
  std::set<std::vector<std::string>> changed_totals;
  std::map<std::vector<std::string>, SampleLines> samples;
  // By the keys of `totals`: one search a match instead of one in each map. Emptied before something is erased from one
  // of them.
  std::unordered_map<const Values*, Place, HashOfValues, SameValues> places;
  Timestamp earliest = Timestamp::max();  // match of the batch that is being counted; max(): none
  std::size_t sample_bytes = 0;
  Duration lines_for{0};  // how long a line may be the first one of an alert
  bool asks_baseline = false;  // it must be known how long it was watched
  std::vector<std::uint32_t> read_from;  // sources
  bool meta_changed = true;

  void forget_changed_totals() {
    for (const Values& values : changed_totals) {
      if (const auto found = totals.find(values); found != totals.end()) found->second.noted = false;
    }
    changed_totals.clear();
  }
};

// Matches of a live log that came when their own time had left a window of a rule, until none did for an hour.
struct TooLate {
  static constexpr std::uint64_t kMany = 10;

  std::uint64_t count = 0;           // 0: before this process
  Duration most{0};                  // how far behind the rule's clock
  std::string pattern;               // of the last
  Duration window{0};                // the one that it had left
  Timestamp last = rules::kLongAgo;  // wall time
  std::optional<Timestamp> missed_at;  // when it would have fired
  bool told = false;

  // One may be a line of a request that took long; many, or one that should have rung, are not.
  bool is_due() const { return told || missed_at || count >= kMany; }
};

struct RuleSlot {
  Fingerprint identity = 0;
  std::unique_ptr<RuleState> state;
  std::vector<std::uint32_t> patterns;
  std::size_t source_set = 0;          // index into Impl::source_sets
  std::map<Labels, Labels> labels_of;  // of an alert, as they were when it became pending, by its element's
  bool dirty = true;
  bool late = false;
  Timestamp since = rules::kLongAgo;  // the latest of its patterns'
  RuleInputs inputs;                  // of the last advance
  std::optional<Timestamp> next;
  bool unknown = true;                     // as of the last advance
  std::optional<Timestamp> unknown_since;  // wall time
  std::uint64_t failures_seen = 0;
  std::optional<TooLate> too_late;  // MatchesTooLate shows it
  bool is_new = true;               // what showed before it was made is not known yet to be over
};

struct SourceState {
  SourceStatus status;
  bool seen = false;
  std::optional<Timestamp> unreadable_since;  // wall time: all of it, or what was read before
  std::optional<Timestamp> incomplete_since;  // wall time: else some of it
  std::optional<Timestamp> heard_at;          // wall time of the last line, or of the start
  bool silent = false;                        // InputSilent shows it
  std::optional<GapState> gap;                // InputGap shows it
  bool gap_changed = false;                   // and it is to be written
  UncoveredLog uncovered;                     // UncoveredErrors shows it
  FormatWatch format;                         // PatternWentSilent shows it
};

// Sources that are read by the same rules: what is known of them is found out once a tick.
struct SourceSet {
  std::string key;  // their names
  std::vector<std::uint32_t> sources;
  RuleInputs inputs;  // without the patterns'
  bool live = false;
  Timestamp clock = rules::kLongAgo;         // of its rules, the latest
  Timestamp written = rules::kLongAgo;       // as the store has it
  Timestamp forgotten_at = rules::kLongAgo;  // when what is over was last forgotten
};

}  // namespace

struct Pipeline::Impl {
  std::shared_ptr<const rules::Plan> plan;
  std::vector<PatternState> patterns;
  std::vector<RuleSlot> rules;
  std::vector<SourceState> sources;
  std::unique_ptr<Dispatcher> dispatcher;
  std::vector<SourceSet> source_sets;
  std::map<Fingerprint, std::vector<std::size_t>> rules_of;  // identity -> indices
  // Of firing alerts, as far as they are dispatched: the rules' identities and elements. More than one where
  // labels are the same: it is one alert to people.
  std::map<Fingerprint, std::vector<std::pair<Fingerprint, Labels>>> active;
  std::map<std::string, Alert> built_in;  // firing, by alertname and labels
  struct Known {
    Condition condition;
    Timestamp since;
  };
  struct Wanted {
    std::string name;
    Labels labels;
    std::string summary;
    std::string severity;
    bool renews = false;  // what it says may change while it fires
  };
  std::map<std::string, Known> conditions;
  std::map<std::string, MetricValue> counters;  // by name and labels; those of patterns are in patterns
  std::set<std::string> changed_counters;
  std::vector<StoredEntry> pending_entries;
  struct Pending {
    rules::Transition transition;
    std::optional<Fingerprint> rule = std::nullopt;  // its identity; unset: built in
    Labels element = {};                             // of the rule's result
  };
  std::vector<Pending> pending_transitions;
  std::vector<std::size_t> advanced;  // rules that were looked at in this tick
  Timestamp caused_at = rules::kLongAgo;
  Timestamp last_now = rules::kLongAgo;
  std::optional<Timestamp> next_built_in;
  bool built_in_dirty = true;  // something that built-in alerts rest on has changed
  bool cannot_wait = false;    // what batches since the last tick brought must be synced
  bool first_tick = true;

  std::size_t max_points;
  std::size_t points = 0;  // of all windows, as of the last match or batch
  Stores stores;

  Impl(std::shared_ptr<const rules::Plan> with, const std::vector<StoredEntry>& restored, std::size_t most,
       Stores what)
      : plan(std::move(with)), max_points(most), stores(what) {
    build();
    dispatcher = std::make_unique<Dispatcher>(*plan);
    if (restored.empty()) dispatcher->set_first_start();
    restore(restored);
  }

  WindowOf window_of() {
    return [this](std::uint32_t index) -> const PatternWindow& { return patterns[index].window; };
  }

  // Then what was before (`offset`) is what it is compared with, and no line of an alert.
  static bool looks_at_present(const std::vector<const rules::Expr*>& calls) {
    return std::any_of(calls.begin(), calls.end(),
                       [](const rules::Expr* call) { return call->range_offset == Duration(0); });
  }

  static void add_need(rules::KeyedNeed need, std::vector<rules::KeyedNeed>& all) {
    const auto same = std::find_if(all.begin(), all.end(),
                                   [&](const rules::KeyedNeed& known) { return known.name() == need.name(); });
    if (same == all.end()) {
      all.push_back(std::move(need));
      return;
    }
    same->reach = std::max(same->reach, need.reach);
    same->exact = std::max(same->exact, need.exact);
  }

  void build() {
    std::vector<Duration> longest(plan->patterns.size(), Duration(0));
    std::vector<Duration> lines_for(plan->patterns.size(), Duration(0));
    std::vector<bool> keeps_values(plan->patterns.size(), false);
    std::vector<bool> asks_baseline(plan->patterns.size(), false);
    std::vector<std::vector<rules::KeyedNeed>> keyed(plan->patterns.size());
    std::vector<std::vector<std::size_t>> used_by(plan->patterns.size());
    std::vector<std::vector<std::vector<const rules::Expr*>>> calls_of(plan->patterns.size());
    std::vector<Duration> reach(plan->patterns.size(), Duration(0));
    for (std::size_t i = 0; i < plan->rules.size(); ++i) {
      for (const rules::Expr* call : rules::range_calls(plan->rules[i])) {
        // Of what is asked by key the keys are kept, not the matches of the series.
        if (call->asks_keys()) {
          add_need(call->keyed_need(), keyed[call->pattern_index]);
        } else {
          longest[call->pattern_index] = std::max(longest[call->pattern_index], call->reach());
        }
        if (call->asks_values()) keeps_values[call->pattern_index] = true;
        if (call->function == rules::Expr::RangeFunction::kBaselineOverTime)
          asks_baseline[call->pattern_index] = true;
        auto& users = used_by[call->pattern_index];
        if (users.empty() || users.back() != i) {
          users.push_back(i);
          calls_of[call->pattern_index].emplace_back();
        }
        calls_of[call->pattern_index].back().push_back(call);
        reach[call->pattern_index] = std::max(reach[call->pattern_index], call->reach());
      }
      // The lines of an alert are those that made it fire.
      const std::vector<const rules::Expr*> calls = rules::range_calls(*plan->rules[i].expr);
      const bool present = looks_at_present(calls);
      for (const rules::Expr* call : calls) {
        Duration& lines = lines_for[call->pattern_index];
        if (!present || call->range_offset == Duration(0)) lines = std::max(lines, call->reach());
      }
    }
    const std::vector<rules::CountPrecision> precision = rules::precision_of(*plan);
    patterns.clear();
    patterns.reserve(plan->patterns.size());
    std::set<Fingerprint> taken;
    for (std::size_t i = 0; i < plan->patterns.size(); ++i) {
      const rules::PatternSpec& spec = plan->patterns[i];
      // Two rules of the short form may look for the same: each keeps its own matches under its own key.
      Fingerprint identity = spec.identity();
      while (!taken.insert(identity).second)
        identity = rules::hash_bytes(hex(identity) + " again");
      patterns.emplace_back(identity, PatternWindow(spec, longest[i], keeps_values[i], keyed[i], precision[i]), used_by[i]);
      patterns.back().calls_of = std::move(calls_of[i]);
      patterns.back().reach = reach[i];
      patterns.back().lines_for = lines_for[i];
      patterns.back().asks_baseline = asks_baseline[i];
      for (std::size_t source = 0; source < plan->sources.size(); ++source) {
        const auto& names = spec.sources;
        if (names.empty() || std::find(names.begin(), names.end(), plan->sources[source].name) != names.end())
          patterns.back().read_from.push_back(static_cast<std::uint32_t>(source));
      }
      // Series that are known to exist are metrics from the start.
      if (spec.labels.empty()) total(i, {});
      for (const Labels& expected : spec.expect) {
        std::vector<std::string> values;
        for (const std::string& name : spec.labels)
          values.emplace_back(expected.get(name));
        total(i, values);
      }
    }
    rules.clear();
    rules_of.clear();
    source_sets.clear();
    for (const rules::AlertingRule& rule : plan->rules) {
      RuleSlot slot;
      slot.identity = rule.identity();
      slot.state = std::make_unique<RuleState>(rule, window_of());
      for (const rules::Expr* call : rules::range_calls(rule))
        slot.patterns.push_back(call->pattern_index);
      std::vector<std::string> names;
      for (const std::uint32_t source : rule.sources)
        names.push_back(plan->sources[source].name);
      std::sort(names.begin(), names.end());
      const std::string key = fmt::format("{}", fmt::join(names, "\n"));
      const auto set = std::find_if(source_sets.begin(), source_sets.end(),
                                    [&](const SourceSet& known) { return known.key == key; });
      slot.source_set = static_cast<std::size_t>(set - source_sets.begin());
      if (set == source_sets.end()) {
        source_sets.emplace_back().key = key;
        source_sets.back().sources = rule.sources;
      }
      rules_of[slot.identity].push_back(rules.size());
      rules.push_back(std::move(slot));
    }
    sources.assign(plan->sources.size(), SourceState{});
  }

  Totals& total(std::size_t pattern, const std::vector<std::string>& values) {
    PatternState& state = patterns[pattern];
    const auto [at, is_new] = state.totals.try_emplace(values);
    if (is_new) {
      at->second.buckets.assign(buckets_of(plan->patterns[pattern]), 0);
      state.changed_totals.insert(values);
      state.changed = true;
    }
    return at->second;
  }

  // Nothing is known of the pattern before `at`.
  void known_since(PatternState& pattern, Timestamp at) {
    if (pattern.since == at) return;
    pattern.since = at;
    pattern.meta_changed = pattern.changed = true;
    sum_up_since(pattern);
  }
  void sum_up_since(const PatternState& pattern) {
    for (const std::size_t i : pattern.used_by) {
      rules[i].since = rules::kLongAgo;
      for (const std::uint32_t index : rules[i].patterns)
        rules[i].since = std::max(rules[i].since, patterns[index].since);
      for (const rules::Expr* call : rules::range_calls(plan->rules[i])) {
        rules[i].since = std::max(rules[i].since, patterns[call->pattern_index].window.coarse_until(*call));
      }
      sum_up_keys(*plan->rules[i].expr, rules[i].since);
      if (plan->rules[i].resolve_when) sum_up_keys(*plan->rules[i].resolve_when->expr, rules[i].since);
    }
  }
  void sum_up_keys(const rules::Expr& expr, Timestamp& since) const {
    for (const rules::Expr* call : rules::range_calls(expr)) {
      if (!call->asks_keys()) continue;
      const rules::KeyedNeed need = call->keyed_need();
      const KeyedWindow* keyed = patterns[call->pattern_index].window.keyed(need);
      LOGBELL_CHECK(keyed != nullptr);
      since = std::max(since, keyed->known().keys);
      // Of the matches themselves less is asked for than of the rule's windows.
      if (keyed->known().matches != rules::kLongAgo)
        since = std::max(since, keyed->known().matches - (rules::known_after(expr) - need.exact));
    }
  }

  // --- restore

  // What is kept by key, by its name: how far back, how much of that in full, and since when.
  struct KeptKeys {
    Duration reach{0};
    Duration exact{0};
    KeyedWindow::Known known;
    friend bool operator==(const KeptKeys&, const KeptKeys&) = default;
  };
  using KeptByName = std::map<std::string, KeptKeys>;
  static KeptByName kept_keys(const PatternWindow& window) {
    KeptByName kept;
    for (const KeyedWindow& keyed : window.keyed())
      kept[keyed.need().name()] = {keyed.need().reach, keyed.need().exact, keyed.known()};
    return kept;
  }
  static Json keyed_json(const PatternWindow& window) {
    Json out{Json::Array{}};
    for (const auto& [name, kept] : kept_keys(window)) {
      Json one;
      one.set("name", name);
      one.set("reach", static_cast<std::int64_t>(kept.reach.count()));
      one.set("exact", static_cast<std::int64_t>(kept.exact.count()));
      one.set("keys_since", rules::to_unix_ms(kept.known.keys));
      one.set("matches_since", rules::to_unix_ms(kept.known.matches));
      out.push(std::move(one));
    }
    return out;
  }
  static KeptByName kept_keys(const Json& stored) {
    const auto duration = [](const Json& ms) {
      return Duration(std::clamp(ms.integer(), std::int64_t{0}, rules::kMaxStoredMs));
    };
    KeptByName kept;
    for (const Json& one : stored["keyed"].array())
      kept[std::string(one["name"].string())] = {
          duration(one["reach"]), duration(one["exact"]),
          {rules::from_stored_ms(one["keys_since"].integer()), rules::from_stored_ms(one["matches_since"].integer())}};
    return kept;
  }
  // What is known by key, where this was kept up to now: what nobody asked for before is not.
  static void know_keys(PatternWindow& window, const KeptByName& before, Timestamp present) {
    for (KeyedWindow& keyed : window.keyed()) {
      const auto kept = before.find(keyed.need().name());
      KeyedWindow::Known known{present, present};
      if (kept != before.end()) {
        known = kept->second.known;
        if (kept->second.reach < keyed.need().reach) known.keys = std::max(known.keys, present - kept->second.reach);
        if (kept->second.exact < keyed.need().exact)
          known.matches = std::max(known.matches, present - kept->second.exact);
      }
      keyed.set_known(known);
    }
  }

  // Of a histogram, with +Inf: a line without a number is in none.
  static std::size_t buckets_of(const rules::PatternSpec& spec) {
    return is_histogram(spec) ? spec.metric->buckets.size() + 1 : 0;
  }
  static bool is_histogram(const rules::PatternSpec& spec) {
    return spec.metric && spec.metric->type == rules::MetricSpec::Type::kHistogram;
  }

  // What must be the same for a stored histogram to go on.
  static std::string shape(const rules::PatternSpec& spec) {
    std::string text = is_histogram(spec) ? "+Inf " : "";
    if (spec.metric) {
      for (const double bucket : spec.metric->buckets)
        text += rules::format_number(bucket) + " ";
    }
    return hex(rules::hash_bytes(text));
  }

  // A series of what is no longer in the configuration is not shown any more.
  bool is_of_this_plan(const MetricValue& value) const {
    const auto unknown = [&](const char* label, const auto& things) {
      return value.labels.has(label) && std::none_of(things.begin(), things.end(), [&](const auto& thing) {
               return thing.name == value.labels.get(label);
             });
    };
    return !unknown("pattern", plan->patterns) && !unknown("source", plan->sources) &&
           !(value.name == kFailures && unknown("alertname", plan->rules));
  }

  void drop_unknown_counters() {
    for (auto at = counters.begin(); at != counters.end();) {
      if (is_of_this_plan(at->second)) {
        ++at;
        continue;
      }
      pending_entries.push_back({"core/n/" + at->first, std::nullopt});
      changed_counters.erase(at->first);
      at = counters.erase(at);
    }
  }

  // As its alerts name it: "" is the only one.
  static bool has_lane(const rules::SinkSpec& sink, std::string_view lane) {
    return lane.empty() ? sink.lanes.size() == 1
                        : std::find(sink.lanes.begin(), sink.lanes.end(), lane) != sink.lanes.end();
  }

  // A sink or lane that is gone is not dead, and one of several lanes does not make a sink so.
  void drop_conditions_of_gone_sinks() {
    std::map<std::string, std::size_t> dead_lanes;
    for (auto at = conditions.begin(); at != conditions.end();) {
      const Condition& condition = at->second.condition;
      const std::string name(condition.labels.get("sink"));
      const bool is_dead = condition.alertname == "SinkDead";
      const auto sink = plan->sinks.find(name);
      const std::string rule(condition.labels.get("rule"));
      const bool has_rule = rule.empty() || std::any_of(plan->rules.begin(), plan->rules.end(),
                                                        [&](const auto& one) { return one.name == rule; });
      if ((name.empty() && has_rule) ||
          (sink != plan->sinks.end() && has_lane(sink->second, condition.labels.get("lane")))) {
        if (is_dead) ++dead_lanes[name];
        ++at;
        continue;
      }
      if (is_dead && sink == plan->sinks.end()) dispatcher->set_sink_dead(name, false);
      pending_entries.push_back({at->first, std::nullopt});
      at = conditions.erase(at);
    }
    for (const auto& [name, count] : dead_lanes)
      if (count >= plan->sinks.at(name).lanes.size()) dispatcher->set_sink_dead(name, true);
  }

  // What is known of a source.
  void restore_source(const StoredEntry& entry) {
    for (std::size_t i = 0; i < sources.size(); ++i) {
      if (entry.key == gap_key(plan->sources[i])) {
        sources[i].gap = GapState::parse(*entry.value);
        return;
      }
      if (entry.key == uncovered_key(plan->sources[i]) && plan->sources[i].uncovered_errors) {
        if (auto known = UncoveredLog::parse(*entry.value)) sources[i].uncovered = *std::move(known);
        return;
      }
      if (entry.key == format_key(plan->sources[i])) {
        if (auto known = FormatWatch::parse(*entry.value)) sources[i].format = *std::move(known);
        return;
      }
    }
    pending_entries.push_back({entry.key, std::nullopt});
  }

  void restore(const std::vector<StoredEntry>& entries) {
    dispatcher->restore(entries);
    std::map<std::string, std::size_t> pattern_by;
    for (std::size_t i = 0; i < patterns.size(); ++i)
      pattern_by[patterns[i].id_text] = i;
    std::map<std::string, const std::vector<std::size_t>*> rules_by;
    for (const auto& [identity, indices] : rules_of)
      rules_by[hex(identity)] = &indices;
    std::map<std::string, Timestamp> clocks;
    std::map<std::string, Duration> stored_longest;
    std::set<std::string> stored_values;  // patterns whose values were kept
    std::map<std::string, KeptByName> stored_keys;
    std::set<std::string> reshaped;

    // What the others need to know first.
    for (const StoredEntry& entry : entries) {
      if (!entry.value) continue;
      if (const auto clock_of = after(entry.key, "core/clock/")) {
        std::int64_t ms = 0;
        std::from_chars(entry.value->data(), entry.value->data() + entry.value->size(), ms);
        clocks[std::string(*clock_of)] = rules::from_stored_ms(ms);
      } else if (const auto meta = after(entry.key, "core/p/")) {
        const auto found = pattern_by.find(std::string(*meta));
        const auto json = Json::parse(*entry.value);
        if (found == pattern_by.end() || !json) {
          pending_entries.push_back({entry.key, std::nullopt});
          continue;
        }
        PatternState& pattern = patterns[found->second];
        stored_longest[std::string(*meta)] =
            Duration(std::clamp((*json)["longest"].integer(), std::int64_t{0}, rules::kMaxStoredMs));
        if ((*json)["values"].boolean()) stored_values.insert(std::string(*meta));
        stored_keys[std::string(*meta)] = kept_keys(*json);
        if ((*json)["merged_until"].is_integer())
          pattern.window.set_merged({rules::from_stored_ms((*json)["merged_until"].integer()),
                                     Duration(std::clamp((*json)["merged_past"].integer(), std::int64_t{0}, rules::kMaxStoredMs)),
                                     rules::from_stored_ms((*json)["coarse_until"].integer()),
                                     Duration(std::clamp((*json)["merged_lag"].integer(), std::int64_t{0}, rules::kMaxStoredMs)),
                                     rules::from_stored_ms((*json)["lag_coarse_until"].integer()),
                                     Duration((*json)["merged_past_reach"].is_integer()
                                                  ? std::clamp((*json)["merged_past_reach"].integer(), std::int64_t{0}, rules::kMaxStoredMs)
                                                  : rules::kMaxStoredMs)});  // by versions that thought of them everywhere
        pattern.since = rules::from_stored_ms((*json)["since"].integer());
        pattern.meta_changed = (*json)["shape"].string() != shape(plan->patterns[found->second]);
        if (pattern.meta_changed) reshaped.insert(pattern.id_text);
      }
    }
    for (const StoredEntry& entry : entries) {
      if (!entry.value) continue;
      if (const auto counter = after(entry.key, "core/n/")) {
        const auto json = Json::parse(*entry.value);
        if (!json) continue;
        MetricValue value{std::string((*json)["name"].string()), rules::labels_from_json((*json)["labels"]),
                          rules::parse_number((*json)["value"].string())};
        counters[std::string(*counter)] = std::move(value);
      } else if (const auto total_of = after(entry.key, "core/t/")) {
        const auto found = pattern_by.find(std::string(total_of->substr(0, 16)));
        const auto values = Json::parse(total_of->substr(std::min<std::size_t>(17, total_of->size())));
        if (found == pattern_by.end() || !values || reshaped.count(found->first) != 0) {
          pending_entries.push_back({entry.key, std::nullopt});
          continue;
        }
        std::vector<std::string> list;
        for (const Json& value : values->array())
          list.emplace_back(value.string());
        const auto& spec = plan->patterns[found->second];
        if (list.size() == spec.labels.size())
          patterns[found->second].totals[list] =
              Totals::parse(*entry.value, buckets_of(spec));
      } else if (const auto window = after(entry.key, "core/w/")) {
        const auto found = pattern_by.find(std::string(window->substr(0, 16)));
        // What no rule looks at any more is not kept.
        if (found == pattern_by.end() || patterns[found->second].used_by.empty()) {
          pending_entries.push_back({entry.key, std::nullopt});
          continue;
        }
        patterns[found->second].window.restore(patterns[found->second].stored_under, entry);
      } else if (const auto alert = after(entry.key, "core/a/")) {
        const auto found = rules_by.find(std::string(alert->substr(0, 16)));
        const auto json = Json::parse(*entry.value);
        if (found == rules_by.end() || !json) {
          pending_entries.push_back({entry.key, std::nullopt});
          continue;
        }
        for (const std::size_t i : *found->second) {
          ActiveAlert restored = active_alert_from_json((*json)["active"]);
          const Labels element = restored.labels;
          const Labels labels = rules::labels_from_json((*json)["labels"]);
          rules[i].labels_of[element] = labels;
          if (restored.state == AlertState::kFiring)
            active[labels.fingerprint()].emplace_back(rules[i].identity, element);
          rules[i].state->alerts().restore(std::move(restored));
        }
      } else if (after(entry.key, "core/b/")) {
        const auto json = Json::parse(*entry.value);
        if (!json) continue;
        const auto parsed = rules::alert_from_json(*json);
        if (parsed) built_in[entry.key] = *parsed;
      } else if (after(entry.key, "core/gap/") || after(entry.key, "core/err/") ||
                 after(entry.key, "core/form/")) {
        restore_source(entry);
      } else if (after(entry.key, "core/k/")) {
        const auto json = Json::parse(*entry.value);
        if (!json) continue;
        Condition condition;
        condition.alertname = (*json)["alertname"].string();
        condition.labels = rules::labels_from_json((*json)["labels"]);
        condition.summary = (*json)["summary"].string();
        condition.severity = (*json)["severity"].string();
        conditions[entry.key] = {std::move(condition), rules::from_stored_ms((*json)["since"].integer())};
      }
    }
    drop_unknown_counters();
    drop_conditions_of_gone_sinks();
    forget_forms_of_gone_patterns();
    for (SourceSet& set : source_sets) {
      const auto clock = clocks.find(set.key);
      if (clock != clocks.end()) set.written = clock->second;
    }
    for (const auto& stored : clocks) {
      const bool used = std::any_of(source_sets.begin(), source_sets.end(),
                                    [&](const SourceSet& set) { return set.key == stored.first; });
      if (!used) pending_entries.push_back({"core/clock/" + stored.first, std::nullopt});
    }
    for (RuleSlot& rule : rules) {
      const SourceSet& set = source_sets[rule.source_set];
      rule.state->restore_clock(set.written != rules::kLongAgo ? set.written : clock_from(clocks, set));
      rule.late = true;  // a change that waited for knowledge is looked at again
    }
    for (PatternState& pattern : patterns) {
      pattern.window.restored();
      const Timestamp present = pattern_clock(pattern);
      const auto longest = stored_longest.find(pattern.id_text);
      const bool had_values = stored_values.count(pattern.id_text) != 0;
      const KeptByName& had_keys = stored_keys[pattern.id_text];
      // Where nothing was read yet nothing is missing.
      if (!entries.empty() && present != rules::kLongAgo) {
        if (longest == stored_longest.end() || (pattern.window.keeps_values() && !had_values)) {
          // New since the last run: what was read before was not looked at with it.
          pattern.since = present;
        } else if (longest->second < pattern.window.longest()) {
          pattern.since = std::max(pattern.since, present - longest->second);
        }
      }
      know_keys(pattern.window, had_keys, present);
      // What is kept from now on must be known at the next start, whatever was read until then.
      if (longest == stored_longest.end() || longest->second != pattern.window.longest() ||
          had_values != pattern.window.keeps_values() || had_keys != kept_keys(pattern.window))
        pattern.meta_changed = true;
      sum_up_since(pattern);
    }
  }

  // A rule that reads other sources than before goes on from where these were, not from the beginning.
  Timestamp clock_from(const std::map<std::string, Timestamp>& clocks, const SourceSet& set) const {
    Timestamp clock = rules::kLongAgo;
    for (const auto& [key, at] : clocks) {
      for (const std::uint32_t index : set.sources) {
        const std::string& name = plan->sources[index].name;
        if (("\n" + key + "\n").find("\n" + name + "\n") != std::string::npos) clock = std::max(clock, at);
      }
    }
    return clock;
  }

  // The slowest clock of the rules that look at a pattern.
  Timestamp pattern_clock(const PatternState& pattern) const {
    Timestamp clock = Timestamp::max();
    for (const std::size_t i : pattern.used_by)
      clock = std::min(clock, rules[i].state->clock());
    return pattern.used_by.empty() ? rules::kLongAgo : clock;
  }

  // --- ingest

  void ingest(const MatchBatch& batch) {
    LOGBELL_CHECK(batch.generation == plan->generation);
    if (!batch.matches.empty()) caused_at = std::max(caused_at, batch.read_at);
    points = 0;
    for (const PatternState& pattern : patterns)
      points += pattern.window.points();
    for (const TimedMatch& match : batch.matches)
      count(match, batch);
    mark_rules(batch);
    for (const SourceStatus& status : batch.sources) {
      SourceState& source = sources[status.source];
      built_in_dirty = built_in_dirty || !source.seen || source.silent ||
                       source.status.readable != status.readable || source.status.unreadable != status.unreadable ||
                       source.status.timestamp_offset != status.timestamp_offset;
      source.status = status;
      source.seen = true;
    }
    note_watched();
    if (batch.form) note_form(batch);
    if (batch.uncovered) {
      const auto& when = plan->sources[batch.uncovered->source].uncovered_errors;
      if (when && sources[batch.uncovered->source].uncovered.add(*batch.uncovered, *when, batch.read_at))
        built_in_dirty = true;
    }
    for (const CounterDelta& delta : batch.counters) {
      add(delta.name, delta.labels, delta.by);
      if (delta.by > 0) note_gap(delta, batch.read_at);
    }
    pending_entries.insert(pending_entries.end(), batch.positions.begin(), batch.positions.end());
    cannot_wait = cannot_wait || batch.cannot_be_read_again || batch.files_found;
  }

  void add(const std::string& name, const Labels& labels, double by) {
    const std::string key = name + labels.format();
    const auto [at, is_new] = counters.try_emplace(key, MetricValue{name, labels, 0});
    at->second.value += by;
    if (is_new || by != 0) changed_counters.insert(key);
  }

  // What is committed with the place from which reading goes on: a gap is told once, however often we die.
  void note_gap(const CounterDelta& delta, Timestamp now) {
    if (delta.name != kGaps && delta.name != kBytesLost && delta.name != kDatagramsDropped) return;
    const std::string_view name = delta.labels.get("source");
    for (std::size_t i = 0; i < sources.size(); ++i) {
      if (plan->sources[i].name != name) continue;
      SourceState& source = sources[i];
      if (!source.gap) source.gap.emplace().since = now;
      GapState& gap = *source.gap;
      gap.last = now;
      if (delta.name == kGaps) gap.causes[std::string(delta.labels.get("cause"))] += delta.by;
      if (delta.name == kBytesLost) gap.bytes += delta.by;
      if (delta.name == kDatagramsDropped) gap.datagrams += delta.by;
      source.gap_changed = built_in_dirty = true;
    }
  }

  std::string describe(const rules::SourceSpec& spec, const SourceState& source) const {
    const GapState& gap = *source.gap;
    std::vector<std::string> causes;
    for (const auto& [cause, times] : gap.causes)
      causes.push_back(times > 1
                           ? fmt::format("{} ({} times)", describe_gap(cause), rules::format_number(times))
                           : std::string(describe_gap(cause)));
    std::string known;
    const auto some = [](double n, std::string_view of) {
      return fmt::format(", {} {}{}", rules::format_number(n), of, n == 1 ? "" : "s");
    };
    if (gap.datagrams > 0) known = some(gap.datagrams, "datagram");
    if (gap.bytes > 0) known += some(gap.bytes, "byte") + " that were seen and not read";
    if (known.empty()) known = ", how many is not known";
    std::string whole;
    if (source.status.watched_from && *source.status.watched_from != rules::kLongAgo)
      whole = fmt::format(", nothing after {} is", rules::format_rfc3339(*source.status.watched_from));
    return fmt::format(
        "lines of source {} ({}) are missing, and its rules have not seen them: {}{}; noticed at {}{}",
        spec.name, rules::describe_inputs(spec), fmt::join(causes, ", "), known,
        rules::format_rfc3339(gap.since), whole);
  }

  // All matches of a batch are of the one source that was read for it.
  void note_form(const MatchBatch& batch) {
    SourceState& source = sources[batch.form->source];
    const Timestamp at = source.status.watermark == rules::kLongAgo ? batch.read_at : source.status.watermark;
    bool news = source.format.add(*batch.form, at);
    std::vector<bool> noted(patterns.size(), false);
    for (const TimedMatch& match : batch.matches) {
      if (noted[match.pattern]) continue;
      noted[match.pattern] = true;
      const std::string_view line =
          match.line < batch.lines.size() ? std::string_view(batch.lines[match.line]) : "";
      news = source.format.matched(patterns[match.pattern].id_text, line) || news;
    }
    built_in_dirty = built_in_dirty || news;
  }

  void want_silent(std::size_t index, std::vector<Wanted>& wanted) const {
    const SourceState& source = sources[index];
    for (const FormatWatch::Silent& silent : source.format.silent()) {
      const auto pattern = std::find_if(patterns.begin(), patterns.end(), [&](const PatternState& one) {
        return one.id_text == silent.pattern;
      });
      if (pattern == patterns.end()) continue;
      const std::string& name = plan->patterns[static_cast<std::size_t>(pattern - patterns.begin())].name;
      const rules::SourceSpec& spec = plan->sources[index];
      wanted.push_back(
          {"PatternWentSilent", Labels{{"pattern", name}, {"source", spec.name}},
           fmt::format(
               "pattern {} has matched nothing of source {} ({}) since the form of its lines changed at {}; "
               "before, it matched in {} of {} spans of ten minutes. It matched \"{}\"; now there is \"{}\"",
               name, spec.name, rules::describe_inputs(spec),
               rules::format_rfc3339(source.format.changed_at()), silent.matched, silent.spans, silent.line,
               source.format.new_line()),
           "warning"});
    }
  }

  // Of patterns that are no more nothing is remembered.
  void forget_forms_of_gone_patterns() {
    std::set<std::string> known;
    for (const PatternState& pattern : patterns)
      known.insert(pattern.id_text);
    for (SourceState& source : sources)
      source.format.keep_only(known);
  }

  static std::string describe_unreadable(const rules::SourceSpec& spec, const SourceState& source, Timestamp from) {
    const std::string& why = source.status.unreadable;
    const std::string since = rules::format_rfc3339(from);
    if (source.seen && source.status.readable)
      return fmt::format(
          "source {} ({}) cannot read all that it names since {}: {}. Rules see nothing of it: mend that, or leave "
          "it out of `files:`",
          spec.name, rules::describe_inputs(spec), since, why);
    return fmt::format("source {} has had no readable {} ({}) since {}{} rules see nothing of it", spec.name,
                       spec.streams.empty() ? "file" : "input", rules::describe_inputs(spec), since,
                       why.empty() ? std::string(":") : fmt::format(", {}:", why));
  }

  // A rule may well look at them, by fields that they do not have: a format that is right in staging alone.
  static std::string describe_other_form(rules::LineFormat format, const std::vector<std::string>& samples) {
    if (format == rules::LineFormat::kText) return "";
    const bool json = format == rules::LineFormat::kJson;
    const auto others = std::count_if(samples.begin(), samples.end(), [json](const std::string& sample) {
      const std::size_t begin = sample.find_first_not_of(" \t");
      return json ? begin == std::string::npos || sample[begin] != '{' : sample.find('=') == std::string::npos;
    });
    if (others == 0) return "";
    const bool all = static_cast<std::size_t>(others) == samples.size();
    return fmt::format(
        "{} no {}, as `format: {}` has it, so that no `where:` finds anything in {}: correct the format, ",
        others > 1 ? (all ? "these are" : "some of these are") : (all ? "this is" : "one of these is"),
        json ? "JSON" : "logfmt", json ? "json" : "logfmt", others > 1 ? "them" : "it");
  }

  // A colour that is turned on or off; what cannot be seen of it is gone from the sample.
  static bool has_colours(const std::string& sample) {
    for (std::size_t at = sample.find('['); at != std::string::npos; at = sample.find('[', at + 1)) {
      const std::size_t end = sample.find_first_not_of("0123456789;", at + 1);
      if (end != std::string::npos && end > at + 1 && sample[end] == 'm' && sample.compare(end + 1, 1, "]") != 0) return true;
    }
    return false;
  }

  static std::string describe_uncovered(const rules::SourceSpec& spec, const SourceState& source) {
    std::vector<std::string> shown;
    for (const std::string& sample : source.uncovered.samples())
      shown.push_back(fmt::format("\"{}\"", sample));
    return fmt::format(
        "lines of source {} ({}) look like errors and no rule looks at them, {} or more within {} since {}: "
        "{}; {}write a rule for them, or leave out what is known with `uncovered_errors: {{exclude: …}}`",
        spec.name, rules::describe_inputs(spec), spec.uncovered_errors->at_least,
        rules::format_duration(spec.uncovered_errors->within),
        rules::format_rfc3339(source.uncovered.since()), fmt::join(shown, ", "),
        describe_other_form(spec.format, source.uncovered.samples()) +
            (std::any_of(source.uncovered.samples().begin(), source.uncovered.samples().end(), &has_colours)
                 ? "they are written in colours (`ESC[31m`), which no pattern expects between words: turn them off in the API, or "
                 : ""));
  }

  void count(const TimedMatch& match, const MatchBatch& batch) {
    PatternState& pattern = patterns[match.pattern];
    const rules::PatternSpec& spec = plan->patterns[match.pattern];
    Place other_place;
    const auto known = pattern.places.find(&match.labels);
    bool dropped = false;
    Place& place = known != pattern.places.end() ? known->second : find_place(match, other_place, dropped);
    Totals& totals = *place.totals;
    totals.count += 1;
    totals.counted_at = std::max(totals.counted_at, match.at);
    if (!std::isnan(match.value)) {
      // A counter never decreases: who scrapes it would take that for a restart.
      const bool refused = match.value < 0 && spec.metric && spec.metric->type == rules::MetricSpec::Type::kCounter;
      if (refused) {
        add(std::string(kNegativeValues), Labels{{"pattern", spec.name}}, 1);
      } else {
        totals.sum += match.value;
      }
      totals.last = match.value;
      for (std::size_t i = 0; i < totals.buckets.size(); ++i) {
        if (i >= spec.metric->buckets.size() || match.value <= spec.metric->buckets[i]) totals.buckets[i] += 1;
      }
    }
    if (!std::exchange(totals.noted, true)) pattern.changed_totals.insert(dropped ? other(spec) : match.labels);
    pattern.changed = true;

    if (!pattern.used_by.empty()) {
      pattern.earliest = std::min(pattern.earliest, match.at);
      if (pattern.window.is_at_bound()) make_room(pattern);
      if (points >= max_points) {
        for (PatternState& any : patterns)
          make_room(any);
      }
      const std::size_t before = pattern.window.points();
      PatternWindow::Added added =
          place.series != nullptr
              ? pattern.window.add(*place.series, match.at, 1, points < max_points, match.value)
              : pattern.window.add(match.labels, match.at, 1, points < max_points, match.value);
      if (place.series == nullptr && !added.overflowed) place.series = pattern.window.find(match.labels);
      if (!pattern.window.keyed().empty())
        count_keys(pattern, spec, match, added);
      points += pattern.window.points() - before;
      if (added.overflowed && !pattern.overflowing) built_in_dirty = pattern.overflowing = true;
      dropped = dropped || added.overflowed;
      if (added.full) {
        // Never silently approximate: nothing is known until no window covers this match any more.
        known_since(pattern, std::max(pattern.since, match.at));
        pattern.no_room_at = std::max(pattern.no_room_at, match.at);
        built_in_dirty = true;
        add("logbell_window_full_total", Labels{{"pattern", spec.name}}, 1);
      }
      // Of the overflow series, too: who is told that it fires must see what it was.
      if (added.overflowed) {
        Place overflow;
        keep_line(pattern, spec, other(spec), overflow, match, batch, added.is_new_kind);
      } else {
        keep_line(pattern, spec, match.labels, place, match, batch, added.is_new_kind);
      }
    }
    if (dropped) add("logbell_series_dropped_total", Labels{{"pattern", spec.name}}, 1);
  }

  // Merges old matches: again once it was worth it, or a second of the log later.
  void make_room(PatternState& pattern) {
    const Timestamp clock = pattern_clock(pattern);
    if (clock == rules::kLongAgo) return;
    const bool was_now = clock >= pattern.merged_at && clock - std::chrono::seconds(1) < pattern.merged_at;
    if (was_now && !pattern.merging_pays) return;
    pattern.merged_at = clock;
    const std::size_t fewer = pattern.window.make_room(clock);
    pattern.merging_pays = fewer > pattern.window.most_points() / 16;
    points -= fewer;
    if (fewer == 0) return;
    pattern.changed = pattern.meta_changed = true;
    add(std::string(kMerged), Labels{{"pattern", pattern.window.spec().name}}, static_cast<double>(fewer));
  }

  // Of values that were not met since the last time that something was forgotten. Beyond `max_series` they are counted
  // as others, each time anew.
  Place& find_place(const TimedMatch& match, Place& other_place, bool& dropped) {
    PatternState& pattern = patterns[match.pattern];
    const rules::PatternSpec& spec = plan->patterns[match.pattern];
    if (pattern.totals.size() >= spec.max_series && pattern.totals.count(match.labels) == 0) {
      dropped = true;
      other_place.totals = &total(match.pattern, other(spec));
      return other_place;
    }
    Totals& totals = total(match.pattern, match.labels);
    Place& place = pattern.places[&pattern.totals.find(match.labels)->first];
    place.totals = &totals;
    return place;
  }

  // What was counted concerns the rules that look at it.
  void mark_rules(const MatchBatch& batch) {
    for (const TimedMatch& match : batch.matches) {
      PatternState& pattern = patterns[match.pattern];
      if (pattern.earliest == Timestamp::max()) continue;
      Timestamp slowest = Timestamp::max();
      bool late = false;
      for (const std::size_t i : pattern.used_by) {
        const Timestamp clock = rules[i].state->clock();
        rules[i].dirty = true;
        if (pattern.earliest <= clock) late = rules[i].late = true;
        slowest = std::min(slowest, clock);
      }
      if (late) note_too_late(batch, match.pattern);
      if (slowest != rules::kLongAgo && pattern.earliest <= slowest - pattern.reach)
        count_too_late(batch, match.pattern, slowest - pattern.reach);
      pattern.earliest = Timestamp::max();
    }
  }

  // Their own time has left every window: they are in the metrics, and can let nothing fire.
  void count_too_late(const MatchBatch& batch, std::uint32_t pattern, Timestamp until) {
    const auto late = std::count_if(batch.matches.begin(), batch.matches.end(), [&](const TimedMatch& match) {
      return match.pattern == pattern && match.at <= until;
    });
    add(std::string(kTooLate), Labels{{"pattern", plan->patterns[pattern].name}}, static_cast<double>(late));
  }

  // Their own time has left a window of some rules that select them, though they were written just now.
  void note_too_late(const MatchBatch& batch, std::uint32_t index) {
    const PatternState& pattern = patterns[index];
    for (std::size_t user = 0; user < pattern.used_by.size(); ++user) {
      RuleSlot& rule = rules[pattern.used_by[user]];
      const Timestamp clock = rule.state->clock();
      // What is ahead of the wall clock is about to be set back.
      if (clock == rules::kLongAgo || clock > batch.read_at + kMaxAhead) continue;
      TooLate found;
      Timestamp newest = rules::kLongAgo;
      for (const rules::Expr* call : pattern.calls_of[user]) {
        const Timestamp left = clock - call->lets_fire_for();
        if (pattern.earliest > left) continue;
        for (const TimedMatch& match : batch.matches) {
          if (match.pattern != index || !match.live || match.at > left || !selects(*call, match)) continue;
          ++found.count;
          found.most = std::max(found.most, Duration(clock - match.at));
          found.window = call->lets_fire_for();
          newest = std::max(newest, match.at);
        }
      }
      if (found.count == 0) continue;
      if (!rule.too_late) rule.too_late.emplace();
      TooLate& late = *rule.too_late;
      late.count += found.count;
      late.most = std::max(late.most, found.most);
      late.pattern = plan->patterns[index].name;
      late.window = found.window;
      late.last = std::max(late.last, batch.read_at);
      if (!late.missed_at && rule.state->rule().polarity.presence && rule.state->would_fire(newest, inputs_of(rule))) late.missed_at = newest;
      if (late.is_due() && !std::exchange(late.told, true)) built_in_dirty = true;
    }
  }

  bool selects(const rules::Expr& call, const TimedMatch& match) const {
    const std::vector<std::string>& names = plan->patterns[match.pattern].labels;
    return std::all_of(call.matchers.begin(), call.matchers.end(), [&](const rules::LabelMatcher& matcher) {
      const auto name = std::find(names.begin(), names.end(), matcher.name);
      return name == names.end() || matcher.matches(match.labels[static_cast<std::size_t>(name - names.begin())]);
    });
  }

  void count_keys(PatternState& pattern, const rules::PatternSpec& spec, const TimedMatch& match,
                  PatternWindow::Added& added) {
    const PatternWindow::Added of_keys =
        pattern.window.add_keys(match.labels, match.keys, match.at, points < max_points);
    added.full = added.full || of_keys.full;
    added.is_new_kind = of_keys.is_new_kind;
    if (of_keys.lacking.empty()) return;
    // A key that nobody knows was answered would look unanswered, and one that came before like a new one.
    add(std::string(kKeysDropped), Labels{{"pattern", spec.name}}, 1);
    for (const std::size_t i : of_keys.lacking) {
      KeyedWindow& keyed = pattern.window.keyed()[i];
      KeyedWindow::Known known = keyed.known();
      known.keys = std::max(known.keys, match.at);
      keyed.set_known(known);
    }
    pattern.meta_changed = pattern.changed = true;
    sum_up_since(pattern);
    if (!pattern.overflowing_keys) built_in_dirty = pattern.overflowing_keys = true;
  }

  static std::vector<std::string> other(const rules::PatternSpec& spec) {
    return std::vector<std::string>(spec.labels.size(), std::string(PatternWindow::kOverflow));
  }

  void keep_line(PatternState& pattern, const rules::PatternSpec& spec, const Values& values, Place& place,
                 const TimedMatch& match, const MatchBatch& batch, bool is_new_kind) {
    if (match.line >= batch.lines.size()) return;
    const std::string& line = batch.lines[match.line];
    if (place.lines == nullptr) {
      auto found = pattern.samples.find(values);
      if (found == pattern.samples.end()) {
        if (pattern.sample_bytes >= kMaxSampleMemory) {
          add(std::string(kSamplesDropped), Labels{{"pattern", spec.name}}, 1);
          return;
        }
        found = pattern.samples.try_emplace(values).first;
      }
      place.lines = &found->second;
    }
    SampleLines& lines = *place.lines;
    const Duration longest = pattern.lines_for;
    // What no window can cover any more is not the first line of anything.
    while (!lines.anchors.empty() && lines.anchors.front().first <= match.at - longest) {
      pattern.sample_bytes -= lines.anchors.front().second.size();
      lines.anchors.erase(lines.anchors.begin());
    }
    const bool spread = lines.anchors.empty() ||
                        match.at - lines.anchors.back().first >= longest / static_cast<int>(kAnchors);
    if (spread && lines.anchors.size() <= kAnchors && pattern.sample_bytes < kMaxSampleMemory) {
      lines.anchors.emplace_back(match.at, line);
      pattern.sample_bytes += line.size();
    }
    if (is_new_kind && pattern.sample_bytes < kMaxSampleMemory) {
      if (lines.firsts.size() == kAnchors) {
        pattern.sample_bytes -= lines.firsts.front().second.size();
        lines.firsts.erase(lines.firsts.begin());
      }
      lines.firsts.emplace_back(match.at, line);
      pattern.sample_bytes += line.size();
    }
    if (lines.last.empty() || match.at >= lines.last_at) {
      pattern.sample_bytes -= lines.last.size();
      pattern.sample_bytes += line.size();
      lines.last_at = match.at;
      lines.last = line;
    }
  }

  // --- alerts

  Alert make_alert(std::size_t i, const ActiveAlert& active_alert, AlertState state, Timestamp at) const {
    const rules::AlertingRule& rule = plan->rules[i];
    Alert alert;
    const auto known = rules[i].labels_of.find(active_alert.labels);
    alert.labels = known == rules[i].labels_of.end()
                       ? alert_labels(*plan, rule, active_alert.labels, active_alert.value)
                       : known->second;
    alert.state = state;
    alert.value = active_alert.value;
    alert.active_at = active_alert.active_at;
    alert.fired_at = active_alert.fired_at;
    if (state == AlertState::kResolved) alert.resolved_at = at;
    alert.expr = rule.expr_text;
    alert.annotations = alert_annotations(*plan, rule, alert.labels, active_alert.labels, active_alert.value);
    alert.rule = rules[i].identity;
    // What is only pending is shown to nobody with its lines: redacting them for each would be wasted.
    if (state == AlertState::kFiring || state == AlertState::kResolved)
      describe(i, active_alert.labels, at, alert);
    return alert;
  }

  // Whether a series can be part of the element with these labels.
  static bool belongs(const rules::PatternSpec& spec, const std::vector<std::string>& values,
                      const rules::Expr& call, const Labels& element) {
    for (std::size_t k = 0; k < spec.labels.size(); ++k) {
      if (element.has(spec.labels[k]) && element.get(spec.labels[k]) != values[k]) return false;
    }
    return std::all_of(call.matchers.begin(), call.matchers.end(), [&](const rules::LabelMatcher& matcher) {
      const auto name = std::find(spec.labels.begin(), spec.labels.end(), matcher.name);
      return name == spec.labels.end() ||
             matcher.matches(values[static_cast<std::size_t>(name - spec.labels.begin())]);
    });
  }

  // The first and last matching lines, and the most frequent values of labels that were summed away.
  void describe(std::size_t i, const Labels& element, Timestamp now, Alert& alert) const {
    const auto sample = [](Timestamp when, const std::string& line) {
      return rules::SampleLine{when, rules::clean_text(rules::redact(line), rules::kMaxSampleBytes)};
    };
    std::pair<Timestamp, const std::string*> first{Timestamp::max(), nullptr};
    std::pair<Timestamp, const std::string*> last{rules::kLongAgo, nullptr};
    std::map<std::string, std::map<std::string, std::uint64_t>> summed;
    const std::vector<const rules::Expr*> calls = rules::range_calls(*plan->rules[i].expr);
    const bool present = looks_at_present(calls);
    for (const rules::Expr* call : calls) {
      if (present && call->range_offset > Duration(0)) continue;
      const Timestamp at = now - call->range_offset;
      const PatternState& pattern = patterns[call->pattern_index];
      const rules::PatternSpec& spec = plan->patterns[call->pattern_index];
      // A line of another key says nothing about this one.
      const std::string_view key = call->asks_keys() ? element.get(call->key) : std::string_view();
      const bool by_template = call->asks_keys() && call->keyed_need().is_of_templates();
      const auto has_key = [&](const std::string& line) {
        return by_template ? rules::may_have_shape(line, key) : line.find(key) != std::string::npos;
      };
      for (const auto& [values, lines] : pattern.samples) {
        if (!belongs(spec, values, *call, element)) continue;
        for (const auto* kept : {&lines.anchors, &lines.firsts}) {
          for (const auto& [when, line] : *kept) {
            if (!has_key(line)) continue;
            if (when > now - call->reach() && when <= at && when < first.first) first = {when, &line};
          }
        }
        if (!has_key(lines.last)) continue;
        if (lines.last_at > now - call->reach() && lines.last_at <= at && lines.last_at > last.first)
          last = {lines.last_at, &lines.last};
      }
      if (call->asks_keys()) continue;
      for (const auto& [values, series] : pattern.window.series()) {
        if (values.empty() || !belongs(spec, values, *call, element)) continue;
        const std::uint64_t matches = series.times.count(now - call->reach(), at);
        if (matches == 0) continue;
        for (std::size_t k = 0; k < spec.labels.size(); ++k) {
          if (!element.has(spec.labels[k]) && !values[k].empty())
            summed[spec.labels[k]][values[k]] += matches;
        }
      }
    }
    if (first.second != nullptr) alert.first_line = sample(first.first, *first.second);
    if (last.second != nullptr) alert.last_line = sample(last.first, *last.second);
    for (const auto& [label, counts] : summed) {
      std::vector<std::pair<std::string, std::uint64_t>> top(counts.begin(), counts.end());
      std::stable_sort(top.begin(), top.end(),
                       [](const auto& a, const auto& b) { return a.second > b.second; });
      if (top.size() > kTopValues) top.resize(kTopValues);
      for (auto& [value, matches] : top)
        value = rules::clean_text(rules::redact(value), rules::kMaxLabelBytes);
      alert.top_values.emplace_back(label, std::move(top));
    }
  }

  bool renew(Alert& alert) const {
    if (alert.built_in) {
      for (const auto& [key, known] : built_in) {
        if (known.labels == alert.labels) alert.annotations = known.annotations;
      }
      return true;
    }
    const auto found = active.find(alert.fingerprint());
    if (found == active.end()) return false;
    // Of several with the same labels the one that fired first: in whatever order they were restored.
    const ActiveAlert* first = nullptr;
    std::size_t rule = 0;
    for (const auto& [identity, element] : found->second) {
      const auto known = rules_of.find(identity);
      if (known == rules_of.end()) continue;
      const std::size_t i = known->second.front();
      const auto& all = rules[i].state->alerts().all();
      const auto at = all.find(element);
      if (at == all.end() || (first != nullptr && first->fired_at <= at->second.fired_at)) continue;
      first = &at->second;
      rule = i;
    }
    if (first == nullptr) return false;
    Alert fresh = make_alert(rule, *first, AlertState::kFiring, rules[rule].state->clock());
    // To people it began with the first of them, whichever goes on.
    fresh.active_at = alert.active_at;
    fresh.fired_at = alert.fired_at;
    // The line that began it stays, when the window has moved on.
    if (alert.first_line) fresh.first_line = alert.first_line;
    if (!fresh.last_line) fresh.last_line = alert.last_line;
    if (fresh.top_values.empty()) fresh.top_values = alert.top_values;
    alert = std::move(fresh);
    return true;
  }

  // --- tick

  // Since when nothing is missing of the patterns that are compared with their own past.
  void note_watched() {
    for (PatternState& pattern : patterns) {
      if (!pattern.asks_baseline) continue;
      Timestamp from = pattern.since;
      for (const std::uint32_t source : pattern.read_from)
        from = std::max(from, sources[source].status.watched_from.value_or(Timestamp::max()));
      pattern.window.set_watched_from(from);
    }
  }

  static Timestamp source_clock(const SourceState& source, Timestamp now) {
    const SourceStatus& status = source.status;
    // From before the wall clock was set back: it says nothing of now.
    const Timestamp watermark = status.watermark > now + kMaxAhead ? rules::kLongAgo : status.watermark;
    return status.read_to_end_at ? std::max(watermark, std::min(*status.read_to_end_at, now)) : watermark;
  }

  void look_at_sources(SourceSet& set, Timestamp now) const {
    RuleInputs& inputs = set.inputs;
    inputs = RuleInputs{};
    inputs.clock = Timestamp::max();
    inputs.watched_from = rules::kLongAgo;
    inputs.sees = set.sources.empty();
    set.live = true;
    for (const std::uint32_t index : set.sources) {
      const SourceState& source = sources[index];
      const bool readable = is_readable(index);
      inputs.readable = inputs.readable && readable && !source.status.blind;
      inputs.sees = inputs.sees || readable;
      // Not heard of yet: nothing moves until every source has said how far it is.
      if (!source.seen) {
        inputs.clock = rules::kLongAgo;
        set.live = false;
      }
      if (readable) {
        inputs.clock = std::min(inputs.clock, source_clock(source, now));
        set.live = set.live && source.status.read_to_end_at.has_value();
      }
      if (!source.status.watched_from) {
        inputs.watched_from = std::nullopt;
      } else if (inputs.watched_from) {
        inputs.watched_from = std::max(*inputs.watched_from, *source.status.watched_from);
      }
      if (plan->sources[index].max_silence) {
        inputs.resolve_up_to =
            std::min(inputs.resolve_up_to.value_or(Timestamp::max()), source.status.watermark);
      }
    }
    if (inputs.clock == Timestamp::max()) inputs.clock = rules::kLongAgo;
  }

  bool is_readable(std::uint32_t source) const {
    return sources[source].seen && sources[source].status.readable && !sources[source].status.stalled;
  }

  // What one of several sources has is there, whatever the others have. But a ratio of which one part is seen less than the
  // other is none.
  RuleInputs inputs_of(const RuleSlot& rule) const {
    RuleInputs inputs = source_sets[rule.source_set].inputs;
    if (!inputs.readable && inputs.sees && rule.state->rule().polarity.ratio) {
      const std::vector<std::uint32_t>& sources_of_first = patterns[rule.patterns.front()].read_from;
      inputs.sees = std::all_of(rule.patterns.begin(), rule.patterns.end(),
                                [&](std::uint32_t pattern) { return patterns[pattern].read_from == sources_of_first; });
    }
    if (inputs.watched_from) inputs.watched_from = std::max(*inputs.watched_from, rule.since);
    return inputs;
  }

  // Whether nothing became known, or unknown, that a change could wait for.
  static bool same_knowledge(const RuleSlot& rule, const RuleInputs& inputs) {
    return inputs.watched_from == rule.inputs.watched_from && inputs.readable == rule.inputs.readable &&
           inputs.sees == rule.inputs.sees &&
           (inputs.resolve_up_to == rule.inputs.resolve_up_to || !rule.state->held());
  }

  void to_transitions(std::size_t i, const std::vector<Step>& steps, std::string_view reason = {}) {
    RuleSlot& rule = rules[i];
    for (const Step& step : steps) {
      if (step.to == AlertState::kPending)
        rule.labels_of[step.alert.labels] =
            alert_labels(*plan, plan->rules[i], step.alert.labels, step.alert.value);
      rules::Transition transition{step.from, step.to, step.at, make_alert(i, step.alert, step.to, step.at)};
      transition.alert.resolve_reason = reason;
      if (step.to == AlertState::kResolved || step.to == AlertState::kInactive)
        rule.labels_of.erase(step.alert.labels);
      pending_transitions.push_back({std::move(transition), rule.identity, step.alert.labels});
    }
  }

  // Timers of people run on the wall clock: none waits for a moment that was near before the step.
  void set_back_timers(Timestamp now) {
    dispatcher->set_back(now);
    const auto clamp = [&](std::optional<Timestamp>& at) {
      if (at) at = std::min(*at, now);
    };
    for (SourceState& source : sources) {
      clamp(source.unreadable_since);
      clamp(source.incomplete_since);
      clamp(source.heard_at);
      clamp(source.status.last_line_at);
      if (source.gap) {
        source.gap->since = std::min(source.gap->since, now);
        source.gap->last = std::min(source.gap->last, now);
        source.gap_changed = true;
      }
      source.uncovered.set_back(now);
    }
    for (RuleSlot& rule : rules) {
      clamp(rule.unknown_since);
      if (rule.too_late) rule.too_late->last = std::min(rule.too_late->last, now);
    }
    for (auto& [key, known] : conditions)
      known.since = std::min(known.since, now);
    built_in_dirty = true;
  }

  // The wall clock was set back: what was counted "in the future" is forgotten, and nothing is known of the
  // windows until they have been watched again.
  void set_back(Timestamp now) {
    std::set<std::uint32_t> touched;
    for (RuleSlot& rule : rules) {
      const Timestamp clock = rule.state->clock();
      if (clock == rules::kLongAgo || clock <= now + kMaxAhead) continue;
      touched.insert(rule.patterns.begin(), rule.patterns.end());
      rule.state->rebase(now);
      rule.dirty = true;
    }
    if (touched.empty()) return;
    for (const std::uint32_t index : touched) {
      PatternState& pattern = patterns[index];
      pattern.window.forget_after(now + kMaxAhead);
      pattern.samples.clear();
      pattern.places.clear();
      pattern.sample_bytes = 0;
      pattern.changed = true;
      known_since(pattern, now);
    }
    add("logbell_clock_setbacks_total", {}, 1);
  }

  Tick tick(Timestamp now) {
    if (last_now != rules::kLongAgo && now + kMaxAhead < last_now) set_back_timers(now);
    last_now = now;
    set_back(now);
    for (SourceSet& set : source_sets) {
      look_at_sources(set, now);
      set.clock = rules::kLongAgo;
    }
    note_watched();
    if (first_tick) reconcile(now);
    first_tick = false;
    for (std::size_t i = 0; i < rules.size(); ++i)
      advance(i, now);
    for (PatternState& pattern : patterns)
      count_untold(pattern);
    if (built_in_dirty || (next_built_in && now >= *next_built_in)) update_built_in(now);

    Tick tick;
    tick.now = now;
    dispatch(now, tick);
    forget_what_is_over();
    for (PatternState& pattern : patterns)
      expire(pattern, now);
    if (stores == Stores::kState) {
      save(tick);
    } else {
      forget_changes();
    }
    tick.must_sync =
        (cannot_wait && !tick.entries.empty()) ||
        std::any_of(tick.transitions.begin(), tick.transitions.end(),
                    [](const rules::Transition& t) {
                      return t.to == AlertState::kFiring || t.to == AlertState::kResolved;
                    }) ||
        std::any_of(tick.notifications.begin(), tick.notifications.end(),
                    [](const rules::Notification& n) { return n.reason != rules::NotifyReason::kRefresh; });
    cannot_wait = false;
    return tick;
  }

  void advance(std::size_t i, Timestamp now) {
    RuleSlot& rule = rules[i];
    const RuleInputs inputs = inputs_of(rule);
    const bool quiet = !rule.dirty && !rule.late && rule.state->failure().empty() &&
                       rule.state->clock() != rules::kLongAgo && same_knowledge(rule, inputs) &&
                       (!rule.next || *rule.next > inputs.clock);
    if (quiet) {
      rule.state->skip_to(inputs.clock);
    } else {
      advanced.push_back(i);
      look_at(i, inputs);
    }
    rule.inputs = inputs;
    SourceSet& set = source_sets[rule.source_set];
    set.clock = std::max(set.clock, rule.state->clock());
    const bool unknown = rule.state->unknown(inputs);
    if (unknown != rule.unknown || (unknown && !rule.unknown_since)) {
      rule.unknown = unknown;
      rule.unknown_since = unknown ? std::optional<Timestamp>(now) : std::nullopt;
      built_in_dirty = true;
    }
  }

  void look_at(std::size_t i, const RuleInputs& inputs) {
    RuleSlot& rule = rules[i];
    // Its clock stands still: what came meanwhile is looked at when it goes on.
    if (inputs.clock == rules::kLongAgo) return;
    std::vector<Step> steps;
    // Nobody watched for longer than a replay would tell of: what was only pending starts anew.
    if (inputs.watched_from && rule.state->clock() != rules::kLongAgo &&
        *inputs.watched_from > rule.state->clock() &&
        *inputs.watched_from - rule.state->clock() > plan->max_replay_age &&
        *inputs.watched_from <= inputs.clock)
      rule.state->alerts().drop_pending(*inputs.watched_from, steps);
    rule.state->advance(inputs, rule.late, steps);
    rule.dirty = rule.late = false;
    rule.next = rule.state->next_instant(inputs);
    to_transitions(i, steps);
    if (rule.state->failures() != rule.failures_seen) {
      add(std::string(kFailures), Labels{{"alertname", plan->rules[i].name}},
          static_cast<double>(rule.state->failures() - rule.failures_seen));
      rule.failures_seen = rule.state->failures();
    }
  }

  bool is_caught_up(const RuleSlot& rule, Timestamp now) const {
    return source_sets[rule.source_set].live || rule.state->clock() >= now - plan->max_replay_age;
  }

  // Notes who holds an alert. True at the end of one that another rule with the same labels still holds: to
  // people it goes on. Asked in the order of time, not of rules: several may come and go within one tick.
  bool goes_on(const Pending& pending, Fingerprint fingerprint) {
    // Of a rule that is gone since the last start.
    if (!pending.rule)
      return pending.transition.to == AlertState::kResolved && active.count(fingerprint) != 0;
    auto& holders = active[fingerprint];
    const std::pair<Fingerprint, Labels> holder(*pending.rule, pending.element);
    if (pending.transition.to == AlertState::kFiring) {
      holders.push_back(holder);
      return false;
    }
    const auto found = std::find(holders.begin(), holders.end(), holder);
    if (found != holders.end()) holders.erase(found);
    if (!holders.empty()) return true;
    active.erase(fingerprint);
    return false;
  }

  void dispatch(Timestamp now, Tick& tick) {
    const auto caught_up = [&](Fingerprint identity) {
      const auto found = rules_of.find(identity);
      return found == rules_of.end() || is_caught_up(rules[found->second.front()], now);
    };
    const auto renew_alert = [this](Alert& alert) { return renew(alert); };

    std::stable_sort(pending_transitions.begin(), pending_transitions.end(),
                     [](const Pending& a, const Pending& b) { return a.transition.at < b.transition.at; });
    std::set<Fingerprint> fired;
    for (const Pending& pending : pending_transitions) {
      const rules::Transition& transition = pending.transition;
      if (transition.to != AlertState::kFiring && transition.to != AlertState::kResolved) continue;
      const Fingerprint fingerprint = transition.alert.fingerprint();
      if (goes_on(pending, fingerprint)) continue;
      // It fired and ended within this tick: whoever would be told at once is told of both.
      if (transition.to == AlertState::kResolved && fired.count(fingerprint) != 0)
        dispatcher->flush(
            now, [](Alert&) { return false; }, tick.notifications);
      if (transition.to == AlertState::kFiring) fired.insert(fingerprint);
      dispatcher->insert(transition, pending.rule, caused_at == rules::kLongAgo ? now : caused_at, now);
    }
    const bool everything = std::all_of(rules.begin(), rules.end(),
                                        [&](const RuleSlot& rule) { return is_caught_up(rule, now); });
    dispatcher->release(caught_up, everything, now);
    if (const std::uint64_t past = dispatcher->take_before_start(); past > 0)
      add(std::string(kBeforeStart), {}, static_cast<double>(past));
    for (const auto& [rule, past] : dispatcher->take_missed())
      set_condition({"AlertsMissed", Labels{{"rule", rule}}, describe_missed(rule, past), "warning", true, true}, now);
    dispatcher->flush(now, renew_alert, tick.notifications);
    for (Pending& pending : pending_transitions)
      tick.transitions.push_back(std::move(pending.transition));
    pending_transitions.clear();
    caused_at = rules::kLongAgo;
  }

  static std::string describe_missed(const std::string& rule, const Dispatcher::Past& past) {
    constexpr std::size_t kShown = 3;
    const std::size_t shown = std::min(kShown, past.lines.size());
    return fmt::format(
        "rule {} fired and resolved {} while logbell was not reading, and none of its sinks tells people of what is over: {}{}",
        rule, past.count == 1 ? "once" : fmt::format("{} times", past.count),
        fmt::join(past.lines.begin(), past.lines.begin() + static_cast<std::ptrdiff_t>(shown), "; "),
        past.count > shown ? fmt::format(" and {} more", past.count - shown) : "");
  }

  // Why an alert has ended whose rule is not what it was.
  static std::string_view why_gone(const rules::Plan& now, std::string_view name) {
    const bool is_there = std::any_of(now.rules.begin(), now.rules.end(),
                                      [&](const rules::AlertingRule& rule) { return rule.name == name; });
    return is_there ? "rule changed: it is watched anew" : "rule removed";
  }

  // What groups still hold as firing and no rule or condition knows any more has ended with its rule.
  void reconcile(Timestamp now) {
    std::set<Fingerprint> ending;  // by a reload before this first tick
    for (const Pending& pending : pending_transitions) {
      if (pending.transition.to == AlertState::kResolved)
        ending.insert(pending.transition.alert.fingerprint());
    }
    for (Alert alert : dispatcher->firing()) {
      const bool known = alert.built_in
                             ? std::any_of(built_in.begin(), built_in.end(),
                                           [&](const auto& entry) {
                                             return entry.second.fingerprint() == alert.fingerprint();
                                           })
                             : active.count(alert.fingerprint()) != 0;
      if (known || ending.count(alert.fingerprint()) != 0) continue;
      alert.state = AlertState::kResolved;
      alert.resolved_at = now;
      alert.resolve_reason = why_gone(*plan, alert.name());
      announce(AlertState::kResolved, std::move(alert), now);
    }
  }

  // --- built-in alerts

  void announce(AlertState to, Alert alert, Timestamp now) {
    const AlertState from = to == AlertState::kFiring ? AlertState::kInactive : AlertState::kFiring;
    pending_transitions.push_back(Pending{rules::Transition{from, to, now, std::move(alert)}});
  }

  static std::string condition_key(const std::string& name, const Labels& labels) {
    return name + labels.format();
  }

  void update_built_in(Timestamp now) {
    built_in_dirty = false;
    next_built_in.reset();
    // What showed before a restart goes on until it is known to be over.
    const auto shows = [&](const char* name, const Labels& labels) {
      return built_in.count("core/b/" + condition_key(name, labels)) != 0;
    };
    const auto later = [&](Timestamp at) {
      if (at > now && (!next_built_in || at < *next_built_in)) next_built_in = at;
    };
    std::vector<Wanted> wanted;
    for (std::size_t i = 0; i < sources.size(); ++i) {
      SourceState& source = sources[i];
      const rules::SourceSpec& spec = plan->sources[i];
      const Labels labels{{"source", spec.name}};
      const bool showed = shows("InputSilent", labels);
      if (!source.heard_at) source.heard_at = now;
      if (source.status.last_line_at) source.heard_at = source.status.last_line_at;
      const bool readable = source.seen && source.status.readable;
      source.silent = true;
      const auto holds_since = [now](std::optional<Timestamp>& since, bool holds) {
        since = holds ? since.value_or(now) : std::optional<Timestamp>();
      };
      const bool is_blind = !readable || source.status.blind;
      holds_since(source.unreadable_since, is_blind);
      holds_since(source.incomplete_since, !is_blind && !source.status.unreadable.empty());
      if (source.incomplete_since) {
        if (shows("InputIncomplete", labels) || now - *source.incomplete_since >= kUnreadableFor) {
          wanted.push_back({"InputIncomplete", labels, describe_unreadable(spec, source, *source.incomplete_since), "warning", true});
        } else {
          later(*source.incomplete_since + kUnreadableFor);
        }
      }
      if (source.unreadable_since && (showed || now - *source.unreadable_since >= kUnreadableFor)) {
        wanted.push_back({"InputSilent", labels, describe_unreadable(spec, source, *source.unreadable_since), "critical"});
      } else if (spec.max_silence &&
                 (now - *source.heard_at >= *spec.max_silence || (showed && !source.status.last_line_at))) {
        wanted.push_back(
            {"InputSilent", labels,
             fmt::format("source {} ({}) has not written a line since {} (max_silence: {})", spec.name, rules::describe_inputs(spec),
                         rules::format_rfc3339(*source.heard_at), rules::format_duration(*spec.max_silence)),
             "critical"});
      } else {
        source.silent = false;
        if (source.unreadable_since) later(*source.unreadable_since + kUnreadableFor);
        if (spec.max_silence) later(*source.heard_at + *spec.max_silence);
      }
      if (source.gap && now - source.gap->last >= kGapShown) {
        source.gap.reset();
        source.gap_changed = true;
      }
      if (source.gap) {
        wanted.push_back({"InputGap", labels, describe(spec, source), "warning", true});
        later(source.gap->last + kGapShown);
      }
      want_silent(i, wanted);
      if (spec.uncovered_errors) {
        source.uncovered.update(*spec.uncovered_errors, now);
        if (!source.uncovered.empty()) later(source.uncovered.ends_at(*spec.uncovered_errors));
        if (source.uncovered.fires())
          wanted.push_back({"UncoveredErrors", labels, describe_uncovered(spec, source), "warning", true});
      } else if (!source.uncovered.empty()) {
        source.uncovered = UncoveredLog();
        pending_entries.push_back({uncovered_key(spec), std::nullopt});
      }
      if (source.status.timestamp_offset != Duration(0) || (!source.seen && shows("TimestampSkew", labels))) {
        wanted.push_back(
            {"TimestampSkew", labels,
             fmt::format("the lines of source {} carry times that are steadily {} {} their arrival: set "
                         "`timestamp: {{location: …}}` or mend its clock",
                         spec.name,
                         rules::format_duration(Duration(std::abs(source.status.timestamp_offset.count()))),
                         source.status.timestamp_offset.count() < 0 ? "behind" : "ahead of"),
             "warning"});
      }
    }
    for (std::size_t i = 0; i < rules.size(); ++i) {
      RuleSlot& rule = rules[i];
      const rules::AlertingRule& written = plan->rules[i];
      if (!rule.unknown) continue;
      // What has no room does not pass with the window's time.
      const Timestamp due = *rule.unknown_since + (full_pattern(rule) == nullptr ? 2 * rules::known_after(written) : Duration(0));
      if (now < due && !shows("RuleUnknown", Labels{{"rule", written.name}})) {
        later(due);
        continue;
      }
      wanted.push_back({"RuleUnknown", Labels{{"rule", written.name}},
                        fmt::format("rule {} has been unknown since {}: {}", written.name,
                                    rules::format_rfc3339(*rule.unknown_since), unknown_reason(rule)),
                        "warning"});
    }
    want_too_late(now, wanted, shows, later);
    for (PatternState& pattern : patterns) {
      pattern.overflowing_keys = has_too_many_keys(pattern);
      for (const KeyedWindow& keyed : pattern.window.keyed()) {
        if (!keyed.overflowing() && pattern.untold.count(keyed.need().name()) == 0) continue;
        const std::string& name = pattern.window.spec().name;
        wanted.push_back({"SeriesOverflow", Labels{{"pattern", name}, {"key", std::string(keyed.need().shown_key())}},
                          keyed.overflowing() ? describe_too_many_keys(name, keyed) : describe_untold(name, keyed), "warning"});
      }
    }
    for (std::size_t i = 0; i < patterns.size(); ++i) {
      patterns[i].overflowing = patterns[i].window.overflowing();
      if (!patterns[i].overflowing) continue;
      wanted.push_back(
          {"SeriesOverflow", Labels{{"pattern", plan->patterns[i].name}},
           fmt::format("pattern {} has more than {} label combinations: what comes on top is counted "
                       "as {}",
                       plan->patterns[i].name, plan->patterns[i].max_series, PatternWindow::kOverflow),
           "warning"});
    }
    for (auto at = conditions.begin(); at != conditions.end();) {
      const Known& known = at->second;
      // What has happened, and is not the case any longer.
      if (known.condition.alertname == "StateLost" || known.condition.alertname == "AlertsMissed") {
        if (now - known.since >= kHappenedShown) {
          pending_entries.push_back({at->first, std::nullopt});
          at = conditions.erase(at);
          continue;
        }
        later(known.since + kHappenedShown);
      }
      wanted.push_back({known.condition.alertname, known.condition.labels, known.condition.summary,
                        known.condition.severity, known.condition.renews});
      ++at;
    }

    std::set<std::string> holds;
    for (const Wanted& want : wanted) {
      const std::string key = "core/b/" + condition_key(want.name, want.labels);
      holds.insert(key);
      const auto found = built_in.find(key);
      if (found != built_in.end()) {
        auto& annotations = found->second.annotations;
        if (!want.renews || found->second.annotation("summary") == want.summary) continue;
        // Nobody is told again; a repeat, the end and the API say what is known by then.
        annotations.assign(1, {"summary", want.summary});
        pending_entries.push_back({key, rules::to_json(found->second).dump()});
        continue;
      }
      Alert alert;
      Labels labels = want.labels;
      labels.set("alertname", want.name);
      labels.set("severity", want.severity);
      alert.labels = plan->external_labels.merged(labels);
      alert.annotations.emplace_back("summary", want.summary);
      alert.state = AlertState::kFiring;
      alert.value = 1;
      alert.active_at = alert.fired_at = now;
      alert.built_in = true;
      built_in[key] = alert;
      pending_entries.push_back({key, rules::to_json(alert).dump()});
      announce(AlertState::kFiring, std::move(alert), now);
    }
    for (auto at = built_in.begin(); at != built_in.end();) {
      if (holds.count(at->first) != 0) {
        ++at;
        continue;
      }
      Alert alert = at->second;
      alert.state = AlertState::kResolved;
      alert.resolved_at = now;
      pending_entries.push_back({at->first, std::nullopt});
      announce(AlertState::kResolved, std::move(alert), now);
      at = built_in.erase(at);
    }
  }

  template <class Shows, class Later>
  void want_too_late(Timestamp now, std::vector<Wanted>& wanted, const Shows& shows, const Later& later) {
    std::set<std::string> names;  // rules may share one
    for (std::size_t i = 0; i < rules.size(); ++i) {
      std::optional<TooLate>& late = rules[i].too_late;
      const std::string& name = plan->rules[i].name;
      const Labels labels{{"rule", name}};
      if (std::exchange(rules[i].is_new, false) && !late && shows("MatchesTooLate", labels)) {
        late.emplace();
        late->last = now;
        late->told = true;
      }
      if (!late) continue;
      if (now - late->last >= kTooLateShown) {
        late.reset();
        continue;
      }
      later(late->last + kTooLateShown);
      if (!late->is_due() || !names.insert(name).second) continue;
      later(now + kTooLateSaid);
      wanted.push_back({"MatchesTooLate", labels, describe(name, *late), "warning", late->count > 0});
    }
  }

  static std::string describe(const std::string& rule, const TooLate& late) {
    const bool one = late.count == 1;
    return fmt::format(
        "rule {} does not see what is logged late: {} of pattern {} came up to {} after the time in {}, when a window of {} had passed{}. Widen the window, or let "
        "the program write its lines at once and mend its clock",
        rule, one ? std::string("a match") : fmt::format("{} matches", late.count), late.pattern, rules::format_duration(late.most),
        one ? "its line" : "their lines", rules::format_duration(late.window),
        late.missed_at ? fmt::format("; it would have fired at {}", rules::format_rfc3339(*late.missed_at)) : "");
  }

  // One that the rule looks at and that had no room for its matches; null: there is none.
  const PatternState* full_pattern(const RuleSlot& rule) const {
    for (const rules::Expr* call : rules::range_calls(rule.state->rule())) {
      const PatternState& pattern = patterns[call->pattern_index];
      if (pattern.no_room_at != rules::kLongAgo && rule.state->clock() - pattern.no_room_at < pattern.window.longest()) return &pattern;
    }
    return nullptr;
  }

  std::string unknown_reason(const RuleSlot& rule) const {
    if (!rule.state->failure().empty()) return rule.state->failure();
    if (const PatternState* const pattern = full_pattern(rule))
      return fmt::format("pattern {} has matched more often within {} than is kept ({} matches a pattern, {} of all): shorten the windows that "
                         "look at it, or let it match less",
                         pattern->window.spec().name, rules::format_duration(pattern->window.longest()), pattern->window.most_points(), max_points);
    for (const std::uint32_t index : source_sets[rule.source_set].sources) {
      const SourceState& source = sources[index];
      const std::string& name = plan->sources[index].name;
      const std::string& why = source.status.unreadable;
      if (!source.seen || !source.status.readable)
        return fmt::format("source {} has no readable file{}", name, why.empty() ? "" : ": " + why);
      if (source.status.blind) return fmt::format("source {} cannot read: {}", name, why);
      if (source.status.stalled) return fmt::format("source {} is behind and does not get on", name);
      if (!source.status.watched_from) return fmt::format("source {} is not read yet", name);
    }
    if (!rule.inputs.watched_from || rule.state->clock() == rules::kLongAgo)
      return "nothing has been read yet";
    const Duration longest = rules::known_after(rule.state->rule());
    const Duration watched = std::max(Duration(0), Duration(rule.state->clock() - *rule.inputs.watched_from));
    return fmt::format("its windows have been watched for {} of {}",
                       rules::format_duration(std::min(watched, longest)), rules::format_duration(longest));
  }

  void set_condition(const Condition& condition, Timestamp now) {
    const std::string key = "core/k/" + condition_key(condition.alertname, condition.labels);
    if (!condition.active) {
      if (conditions.erase(key) != 0) pending_entries.push_back({key, std::nullopt});
      built_in_dirty = true;
      return;
    }
    const auto [known, is_new] = conditions.try_emplace(key, Known{condition, now});
    if (!is_new) {
      if (!condition.renews || known->second.condition.summary == condition.summary) return;
      known->second.condition = condition;
    }
    built_in_dirty = true;
    Json json;
    json.set("alertname", condition.alertname).set("labels", rules::to_json(condition.labels));
    json.set("summary", condition.summary).set("severity", condition.severity);
    json.set("since", rules::to_unix_ms(known->second.since));
    pending_entries.push_back({key, json.dump()});
  }

  // --- memory and storage

  // Every second of the clocks is often enough for what only frees memory.
  void forget_what_is_over() {
    bool due = false;
    for (SourceSet& set : source_sets) {
      if (set.clock == rules::kLongAgo) continue;
      if (set.clock >= set.forgotten_at && set.clock - std::chrono::seconds(1) < set.forgotten_at) continue;
      set.forgotten_at = set.clock;
      due = true;
    }
    if (!due) return;
    for (PatternState& pattern : patterns)
      forget(pattern);
  }

  // Whether an alert, pending or firing, can be about a series of these values.
  bool has_alert(const PatternState& pattern, const std::vector<std::string>& values) const {
    const rules::PatternSpec& spec = pattern.window.spec();
    return std::any_of(pattern.used_by.begin(), pattern.used_by.end(), [&](std::size_t i) {
      const auto& all = rules[i].state->alerts().all();
      return std::any_of(all.begin(), all.end(), [&](const auto& entry) {
        for (std::size_t k = 0; k < spec.labels.size(); ++k) {
          if (entry.first.has(spec.labels[k]) && entry.first.get(spec.labels[k]) != values[k]) return false;
        }
        return true;
      });
    });
  }

  static std::optional<Duration> ttl_of(const PatternState& pattern) {
    const auto& metric = pattern.window.spec().metric;
    return metric ? metric->ttl : std::nullopt;
  }

  // How far the sources are read that a pattern counts, whether a rule looks at it or not.
  Timestamp counted_up_to(const PatternState& pattern, Timestamp now) const {
    Timestamp clock = Timestamp::max();
    for (std::size_t i = 0; i < sources.size(); ++i) {
      const auto& names = pattern.window.spec().sources;
      if (!names.empty() && !rules::contains(names, plan->sources[i].name)) continue;
      if (!sources[i].seen || !sources[i].status.readable) continue;
      clock = std::min(clock, source_clock(sources[i], now));
    }
    return clock == Timestamp::max() ? rules::kLongAgo : clock;
  }

  // `ttl:` a series that has counted nothing for so long is no metric any more; the next match begins at 1.
  void expire(PatternState& pattern, Timestamp now) {
    const std::optional<Duration> ttl = ttl_of(pattern);
    if (!ttl || pattern.window.spec().labels.empty()) return;
    const Timestamp clock = counted_up_to(pattern, now);
    const Duration step = std::max<Duration>(std::chrono::seconds(1), *ttl / 16);
    if (clock == rules::kLongAgo || (pattern.expired_at != rules::kLongAgo && clock >= pattern.expired_at &&
                                     clock - pattern.expired_at < step))
      return;
    pattern.expired_at = clock;
    for (auto it = pattern.totals.begin(); it != pattern.totals.end();) {
      const auto& [values, totals] = *it;
      const auto series = pattern.window.series().find(values);
      const bool expected = series != pattern.window.series().end() && series->second.expected;
      // Counted when its time was not kept yet: it is as if it had counted now.
      if (totals.counted_at == rules::kLongAgo && !expected) {
        it->second.counted_at = clock;
        pattern.changed_totals.insert(values);
        pattern.changed = true;
      }
      if (expected || clock - totals.counted_at < *ttl || has_alert(pattern, values)) {
        ++it;
        continue;
      }
      pattern.changed_totals.insert(values);
      pattern.changed = true;
      pattern.places.clear();
      it = pattern.totals.erase(it);
    }
  }

  void forget(PatternState& pattern) {
    const Timestamp clock = pattern_clock(pattern);
    if (clock == rules::kLongAgo) return;
    const Duration step = pattern.window.forget_step();
    if (pattern.forgotten_at != rules::kLongAgo && clock - pattern.forgotten_at < step &&
        clock >= pattern.forgotten_at)
      return;
    pattern.forgotten_at = clock;
    pattern.changed = true;
    pattern.places.clear();
    std::set<std::vector<std::string>> in_use;
    const rules::PatternSpec& spec = pattern.window.spec();
    for (const auto& one : pattern.window.series()) {
      const std::vector<std::string>& values = one.first;
      const MatchTimes& times = one.second.times;
      if (spec.labels.empty() || (!times.empty() && clock - times.newest() < kDay)) continue;
      if (has_alert(pattern, values)) in_use.insert(values);
    }
    const std::vector<std::vector<std::string>> forgotten = pattern.window.forget(clock, in_use);
    if (pattern.overflowing != pattern.window.overflowing()) built_in_dirty = true;
    if (pattern.overflowing_keys != has_too_many_keys(pattern)) built_in_dirty = true;
    for (auto it = pattern.samples.begin(); it != pattern.samples.end();) {
      if (pattern.window.series().count(it->first) != 0 && it->second.last_at > clock - pattern.lines_for) {
        ++it;
        continue;
      }
      for (const auto* kept : {&it->second.anchors, &it->second.firsts}) {
        for (const auto& [when, line] : *kept)
          pattern.sample_bytes -= line.size();
      }
      pattern.sample_bytes -= it->second.last.size();
      it = pattern.samples.erase(it);
    }
    // A series that the window has forgotten is no metric any more either, unless it has a time of its own to live;
    // the next match begins at 1. One that was counted before any rule looked at the pattern was never in the window,
    // and counts on.
    if (ttl_of(pattern)) return;
    for (const std::vector<std::string>& values : forgotten) {
      if (values.front() == PatternWindow::kOverflow || pattern.totals.erase(values) == 0) continue;
      pattern.changed_totals.insert(values);
    }
  }

  static std::string describe_too_many_keys(const std::string& pattern, const KeyedWindow& keyed) {
    const std::string within = rules::format_duration(keyed.need().reach);
    if (keyed.has_too_many_templates())
      return fmt::format("pattern {} has lines of more than {} kinds (templates) within {}: further ones are not counted, and its "
                         "rules are unknown; let it match fewer kinds of line, or shorten their windows",
                         pattern, TemplateTree::kMaxTemplates, within);
    return fmt::format("pattern {} has more than {} values of {} within {}: those on top are not counted, and its rules are "
                       "unknown; shorten their windows",
                       pattern, KeyedWindow::kMaxKeys, keyed.need().shown_key(), within);
  }

  static std::string describe_untold(const std::string& pattern, const KeyedWindow& keyed) {
    return fmt::format("a rule speaks of more than {} values of {} in pattern {} at once, one by one: those that came on top are not "
                       "told; let it count them, as in count(…) > {}, or name fewer",
                       KeyedIndex::kMaxElements, keyed.need().shown_key(), pattern, KeyedIndex::kMaxElements);
  }
  void count_untold(PatternState& pattern) {
    if (pattern.window.keyed().empty()) return;
    const Timestamp clock = pattern_clock(pattern);
    for (const KeyedWindow& keyed : pattern.window.keyed()) {
      std::uint64_t untold = 0;
      for (const auto& [function, index] : keyed.indexes())
        untold += index->untold(clock);
      const std::string name = keyed.need().name();
      const auto known = pattern.untold.find(name);
      const std::uint64_t before = known == pattern.untold.end() ? 0 : known->second;
      if (untold > before)
        add(std::string(kElementsUntold), Labels{{"pattern", pattern.window.spec().name}}, static_cast<double>(untold - before));
      if ((untold > 0) != (before > 0)) built_in_dirty = true;
      if (untold > 0) {
        pattern.untold[name] = untold;
      } else if (known != pattern.untold.end()) {
        pattern.untold.erase(known);
      }
    }
  }

  static bool has_too_many_keys(const PatternState& pattern) {
    const auto& keyed = pattern.window.keyed();
    return std::any_of(keyed.begin(), keyed.end(), [](const KeyedWindow& one) { return one.overflowing(); });
  }

  void save(Tick& tick) {
    tick.entries = std::move(pending_entries);
    pending_entries.clear();
    for (std::size_t i = 0; i < patterns.size(); ++i) {
      PatternState& pattern = patterns[i];
      if (!pattern.changed) continue;
      pattern.changed = false;
      pattern.window.save(pattern.stored_under, tick.entries);
      for (const auto& values : pattern.changed_totals) {
        const auto found = pattern.totals.find(values);
        const std::string key = total_key(pattern, values);
        if (found == pattern.totals.end()) {
          tick.entries.push_back({key, std::nullopt});
          continue;
        }
        tick.entries.push_back({key, found->second.format(ttl_of(pattern).has_value())});
        pattern_metrics(i, values, found->second, tick.counters);
      }
      pattern.forget_changed_totals();
      if (pattern.meta_changed) {
        Json json;
        json.set("since", rules::to_unix_ms(pattern.since));
        json.set("longest", static_cast<std::int64_t>(pattern.window.longest().count()));
        if (pattern.window.keeps_values()) json.set("values", true);
        if (const auto& merged = pattern.window.merged())
          json.set("merged_until", rules::to_unix_ms(merged->until))
              .set("merged_past", static_cast<std::int64_t>(merged->past.count()))
              .set("coarse_until", rules::to_unix_ms(merged->coarse_until))
              .set("merged_lag", static_cast<std::int64_t>(merged->lag.count()))
              .set("lag_coarse_until", rules::to_unix_ms(merged->lag_coarse_until))
              .set("merged_past_reach", static_cast<std::int64_t>(merged->past_reach.count()));
        if (!pattern.window.keyed().empty()) json.set("keyed", keyed_json(pattern.window));
        json.set("shape", shape(plan->patterns[i]));
        tick.entries.push_back({"core/p/" + pattern.id_text, json.dump()});
        pattern.meta_changed = false;
      }
    }
    for (std::size_t i = 0; i < sources.size(); ++i) {
      SourceState& source = sources[i];
      if (source.format.take_changed())
        tick.entries.push_back({format_key(plan->sources[i]), source.format.to_json()});
      if (source.uncovered.take_changed())
        tick.entries.push_back(
            {uncovered_key(plan->sources[i]),
             source.uncovered.empty() ? std::nullopt : std::optional(source.uncovered.to_json())});
      if (!std::exchange(source.gap_changed, false)) continue;
      tick.entries.push_back(
          {gap_key(plan->sources[i]), source.gap ? std::optional(source.gap->to_json()) : std::nullopt});
    }
    for (const std::size_t i : advanced) {
      RuleSlot& rule = rules[i];
      for (const Labels& element : rule.state->alerts().take_changed()) {
        const std::string key =
            fmt::format("core/a/{}/{}", hex(rule.identity), rules::to_json(element).dump());
        const auto found = rule.state->alerts().all().find(element);
        if (found == rule.state->alerts().all().end()) {
          tick.entries.push_back({key, std::nullopt});
          continue;
        }
        Json json;
        json.set("active", to_json(found->second)).set("labels", rules::to_json(rule.labels_of[element]));
        tick.entries.push_back({key, json.dump()});
      }
    }
    advanced.clear();
    dispatcher->save(tick.entries);
    for (const std::string& key : changed_counters) {
      const MetricValue& value = counters.at(key);
      Json json;
      json.set("name", value.name).set("labels", rules::to_json(value.labels));
      json.set("value", rules::format_number(value.value));
      tick.entries.push_back({"core/n/" + key, json.dump()});
      tick.counters.push_back(value);
    }
    changed_counters.clear();
    // Rules of the same sources share their clock. It goes with every change, so that what was evaluated is
    // never evaluated at an older instant after a crash.
    if (!tick.entries.empty()) {
      for (SourceSet& set : source_sets) {
        if (set.clock == set.written) continue;
        set.written = set.clock;
        tick.entries.push_back({"core/clock/" + set.key, std::to_string(rules::to_unix_ms(set.clock))});
      }
    }
    for (const StoredEntry& entry : tick.entries)
      tick.bytes += entry.key.size() + (entry.value ? entry.value->size() : 0);
  }

  // What has changed since the last tick is stored nowhere.
  void forget_changes() {
    pending_entries.clear();
    for (PatternState& pattern : patterns) {
      if (!std::exchange(pattern.changed, false)) continue;
      pattern.window.forget_changes();
      pattern.forget_changed_totals();
      pattern.meta_changed = false;
    }
    for (const std::size_t i : advanced)
      static_cast<void>(rules[i].state->alerts().take_changed());
    advanced.clear();
    std::vector<StoredEntry> groups;
    dispatcher->save(groups);
    changed_counters.clear();
  }

  void pattern_metrics(std::size_t index, const std::vector<std::string>& values, const Totals& totals,
                       std::vector<MetricValue>& out) const {
    const rules::PatternSpec& spec = plan->patterns[index];
    Labels labels;
    for (std::size_t k = 0; k < values.size(); ++k)
      labels.set(spec.labels[k], values[k]);
    // A histogram counts numbers, and a line may have none: how many lines matched is beside it.
    if (!spec.metric || is_histogram(spec)) {
      Labels matches = labels;
      matches.set("pattern", spec.name);
      out.push_back({"logbell_pattern_matches_total", matches, totals.count});
    }
    if (!spec.metric) return;
    const rules::MetricSpec& metric = *spec.metric;
    switch (metric.type) {
      case rules::MetricSpec::Type::kCounter:
        out.push_back({metric.name, labels, spec.value.empty() ? totals.count : totals.sum});
        break;
      case rules::MetricSpec::Type::kGauge:
        out.push_back({metric.name, labels, totals.last});
        break;
      case rules::MetricSpec::Type::kHistogram:
        for (std::size_t i = 0; i < metric.buckets.size() && i < totals.buckets.size(); ++i) {
          Labels bucket = labels;
          bucket.set("le", rules::format_number(metric.buckets[i]));
          out.push_back({metric.name + "_bucket", bucket, totals.buckets[i]});
        }
        {
          Labels bucket = labels;
          bucket.set("le", "+Inf");
          out.push_back({metric.name + "_bucket", bucket, totals.buckets.back()});
        }
        out.push_back({metric.name + "_sum", labels, totals.sum});
        out.push_back({metric.name + "_count", labels, totals.buckets.back()});
        break;
    }
  }

  // --- reload

  void replace_plan(std::shared_ptr<const rules::Plan> next, Timestamp now) {
    // Longer windows find what lies in the old ones and nothing else, as after a restart.
    for (PatternState& pattern : patterns) {
      pattern.forgotten_at = rules::kLongAgo;
      forget(pattern);
    }
    // Alerts of rules that are no more end; whoever was told hears of it.
    std::set<Fingerprint> kept;
    for (const rules::AlertingRule& rule : next->rules)
      kept.insert(rule.identity());
    for (std::size_t i = 0; i < rules.size(); ++i) {
      if (kept.count(rules[i].identity) != 0) continue;
      std::vector<Step> steps;
      const Timestamp at = rules[i].state->clock() == rules::kLongAgo ? now : rules[i].state->clock();
      rules[i].state->alerts().end_all(at, steps);
      to_transitions(i, steps, why_gone(*next, rules[i].state->rule().name));
      for (const Labels& element : rules[i].state->alerts().take_changed())
        pending_entries.push_back(
            {fmt::format("core/a/{}/{}", hex(rules[i].identity), rules::to_json(element).dump()),
             std::nullopt});
    }
    const auto old_plan = plan;
    auto old_patterns = std::move(patterns);
    auto old_rules = std::move(rules);
    const auto old_sources = std::move(sources);
    const auto old_sets = std::move(source_sets);
    std::map<std::string, std::size_t> old_source_of;
    for (std::size_t i = 0; i < old_plan->sources.size(); ++i)
      old_source_of[old_plan->sources[i].name] = i;
    plan = std::move(next);
    build();
    built_in_dirty = true;
    for (std::size_t i = 0; i < sources.size(); ++i) {
      const auto old = old_source_of.find(plan->sources[i].name);
      if (old == old_source_of.end()) continue;
      sources[i] = old_sources[old->second];
      sources[i].status.source = static_cast<std::uint32_t>(i);
      old_source_of.erase(old);
    }
    for (const auto& gone : old_source_of) {
      const rules::SourceSpec& spec = old_plan->sources[gone.second];
      if (old_sources[gone.second].gap) pending_entries.push_back({gap_key(spec), std::nullopt});
      if (!old_sources[gone.second].uncovered.empty())
        pending_entries.push_back({uncovered_key(spec), std::nullopt});
      if (!old_sources[gone.second].format.empty())
        pending_entries.push_back({format_key(spec), std::nullopt});
    }
    forget_forms_of_gone_patterns();
    std::map<std::string, Timestamp> clocks;
    for (const SourceSet& old : old_sets) {
      clocks[old.key] = old.written;
      const auto set = std::find_if(source_sets.begin(), source_sets.end(),
                                    [&](const SourceSet& known) { return known.key == old.key; });
      if (set != source_sets.end()) {
        set->written = old.written;
      } else if (old.written != rules::kLongAgo) {
        pending_entries.push_back({"core/clock/" + old.key, std::nullopt});
      }
    }
    for (SourceSet& set : source_sets)
      look_at_sources(set, now);
    std::map<Fingerprint, std::size_t> old_pattern_of;
    for (std::size_t i = 0; i < old_patterns.size(); ++i)
      old_pattern_of[old_patterns[i].identity] = i;
    std::map<Fingerprint, std::size_t> old_rule_of;
    for (std::size_t i = 0; i < old_rules.size(); ++i)
      old_rule_of.try_emplace(old_rules[i].identity, i);

    active.clear();
    for (std::size_t i = 0; i < rules.size(); ++i) {
      RuleSlot& rule = rules[i];
      rule.late = true;  // a change that waited for knowledge is looked at again
      const auto old = old_rule_of.find(rule.identity);
      if (old != old_rule_of.end()) {
        RuleSlot& before = old_rules[old->second];
        rule.state->restore_clock(before.state->clock());
        rule.labels_of = before.labels_of;
        rule.unknown = before.unknown;
        rule.unknown_since = before.unknown_since;
        rule.too_late = before.too_late;
        rule.is_new = before.is_new;
        for (const auto& [element, alert] : before.state->alerts().all()) {
          rule.state->alerts().restore(alert);
          if (alert.state == AlertState::kFiring)
            active[rule.labels_of[element].fingerprint()].emplace_back(rule.identity, element);
        }
        continue;
      }
      // A new rule begins at its present: what happened before is not replayed as transitions of the past.
      // Nothing was read yet since the restart: its present is where the last run ended.
      const SourceSet& set = source_sets[rule.source_set];
      rule.state->restore_clock(set.inputs.clock != rules::kLongAgo ? set.inputs.clock
                                                                    : clock_from(clocks, set));
    }
    std::set<Fingerprint> adopted;
    for (std::size_t i = 0; i < patterns.size(); ++i) {
      PatternState& pattern = patterns[i];
      const auto old = old_pattern_of.find(pattern.identity);
      const Timestamp clock = pattern_clock(pattern);
      const Timestamp present = clock == rules::kLongAgo ? now : clock;
      pattern.since = present;
      if (old != old_pattern_of.end()) {
        PatternState& before = old_patterns[old->second];
        adopted.insert(pattern.identity);
        if (!pattern.used_by.empty() && !before.used_by.empty()) {
          pattern.since = before.since;
          const Duration old_longest = before.window.longest();
          if (old_longest < pattern.window.longest())
            pattern.since = std::max(pattern.since, present - old_longest);
          know_keys(pattern.window, kept_keys(before.window), present);
          // What was counted only has no values.
          if (pattern.window.keeps_values() && !before.window.keeps_values()) pattern.since = present;
          pattern.window.adopt(std::move(before.window));
          pattern.samples = std::move(before.samples);
          pattern.sample_bytes = before.sample_bytes;
        } else {
          // What no rule looks at is not kept.
          before.window.erase_stored(before.stored_under, pending_entries);
        }
        adopt_totals(i, before, old_plan->patterns[old->second]);
      }
      sum_up_since(pattern);
    }
    // What the old plan's patterns wrote and the new one does not know is erased.
    for (PatternState& pattern : old_patterns) {
      if (adopted.count(pattern.identity) != 0) continue;
      pattern.window.erase_stored(pattern.stored_under, pending_entries);
      for (const auto& [values, totals] : pattern.totals)
        pending_entries.push_back({total_key(pattern, values), std::nullopt});
      pending_entries.push_back({"core/p/" + pattern.id_text, std::nullopt});
    }
    dispatcher->replace_plan(*plan);
    drop_unknown_counters();
    drop_conditions_of_gone_sinks();
  }

  static std::string uncovered_key(const rules::SourceSpec& source) { return "core/err/" + source.name; }
  static std::string format_key(const rules::SourceSpec& source) { return "core/form/" + source.name; }
  static std::string gap_key(const rules::SourceSpec& source) { return "core/gap/" + source.name; }

  static std::string total_key(const PatternState& pattern, const std::vector<std::string>& values) {
    return fmt::format("core/t/{}/{}", pattern.id_text, values_json(values).dump());
  }

  void adopt_totals(std::size_t index, PatternState& before, const rules::PatternSpec& was) {
    PatternState& pattern = patterns[index];
    const bool goes_on = shape(was) == shape(plan->patterns[index]);
    for (auto& [values, totals] : before.totals) {
      // A histogram of other buckets begins anew.
      if (goes_on) pattern.totals[values] = std::move(totals);
      pattern.changed_totals.insert(values);
    }
  }
};

Pipeline::Pipeline(std::shared_ptr<const rules::Plan> plan, const std::vector<StoredEntry>& restored,
                   std::size_t max_points, Stores stores)
    : impl_(std::make_unique<Impl>(std::move(plan), restored, max_points, stores)) {}
Pipeline::~Pipeline() = default;

void Pipeline::ingest(const MatchBatch& batch) {
  impl_->ingest(batch);
}

void Pipeline::set_condition(const Condition& condition, Timestamp now) {
  impl_->set_condition(condition, now);
}

void Pipeline::set_sink_dead(const std::string& sink, bool dead) {
  impl_->dispatcher->set_sink_dead(sink, dead);
}

Tick Pipeline::tick(Timestamp now) {
  return impl_->tick(now);
}

std::optional<Timestamp> Pipeline::next_instant() const {
  std::optional<Timestamp> next = impl_->dispatcher->next_instant(impl_->last_now);
  // Something came since the last tick.
  if (impl_->built_in_dirty || !impl_->pending_transitions.empty()) next = impl_->last_now;
  const auto consider = [&](std::optional<Timestamp> at) {
    if (at && (!next || *at < *next)) next = at;
  };
  consider(impl_->next_built_in);
  for (const RuleSlot& rule : impl_->rules) {
    // A source that is behind moves its rules by its lines, not by the wall clock.
    if (rule.inputs.sees && impl_->source_sets[rule.source_set].live) consider(rule.next);
  }
  return next;
}

void Pipeline::replace_plan(std::shared_ptr<const rules::Plan> plan, Timestamp now) {
  impl_->replace_plan(std::move(plan), now);
}

std::map<std::string, std::size_t> Pipeline::left_behind() const {
  return impl_->dispatcher->left_behind();
}

std::uint64_t Pipeline::untold() const {
  return impl_->dispatcher->untold();
}

std::vector<AlertView> Pipeline::alerts() const {
  std::vector<AlertView> views;
  for (std::size_t i = 0; i < impl_->rules.size(); ++i) {
    const RuleSlot& rule = impl_->rules[i];
    for (const auto& [element, alert] : rule.state->alerts().all())
      views.push_back({impl_->make_alert(i, alert, alert.state, rule.state->clock()), i,
                       rule.state->unknown(rule.inputs)});
  }
  for (const auto& [key, alert] : impl_->built_in)
    views.push_back({alert, SIZE_MAX, false});
  return views;
}

std::vector<RuleView> Pipeline::rules() const {
  std::vector<RuleView> views;
  for (std::size_t i = 0; i < impl_->rules.size(); ++i) {
    const RuleSlot& rule = impl_->rules[i];
    RuleView view;
    view.rule = i;
    view.clock = rule.state->clock();
    view.unknown = rule.state->unknown(rule.inputs);
    view.failing = !rule.state->failure().empty();
    if (view.unknown) view.unknown_reason = impl_->unknown_reason(rule);
    for (const auto& [element, alert] : rule.state->alerts().all())
      ++(alert.state == AlertState::kFiring ? view.firing : view.pending);
    views.push_back(std::move(view));
  }
  return views;
}

std::vector<MetricValue> Pipeline::moved_counters() const {
  std::vector<MetricValue> values;
  for (const auto& [key, value] : impl_->counters) {
    if (value.value > 0) values.push_back(value);
  }
  return values;
}

std::vector<MetricValue> Pipeline::metrics() const {
  std::vector<MetricValue> values;
  for (std::size_t i = 0; i < impl_->patterns.size(); ++i) {
    for (const auto& [series, totals] : impl_->patterns[i].totals)
      impl_->pattern_metrics(i, series, totals, values);
    const Labels labels{{"pattern", impl_->plan->patterns[i].name}};
    for (const std::string_view name : {std::string_view("logbell_series_dropped_total"),
                                        std::string_view("logbell_window_full_total"), kSamplesDropped,
                                        kMerged, kTooLate, kKeysDropped, kElementsUntold, kNegativeValues}) {
      if ((name == kKeysDropped || name == kElementsUntold) && impl_->patterns[i].window.keyed().empty()) continue;
      const auto& metric = impl_->plan->patterns[i].metric;
      if (name == kNegativeValues && !(metric && metric->type == rules::MetricSpec::Type::kCounter)) continue;
      if (impl_->counters.count(std::string(name) + labels.format()) == 0)
        values.push_back({std::string(name), labels, 0});
    }
  }
  for (const rules::AlertingRule& rule : impl_->plan->rules) {
    const Labels labels{{"alertname", rule.name}};
    if (impl_->counters.count(std::string(kFailures) + labels.format()) == 0)
      values.push_back({std::string(kFailures), labels, 0});
  }
  for (const auto& [key, value] : impl_->counters)
    values.push_back(value);
  for (const std::string_view name : {std::string_view("logbell_clock_setbacks_total"), kBeforeStart}) {
    if (impl_->counters.count(std::string(name) + "{}") == 0) values.push_back({std::string(name), {}, 0});
  }
  std::map<std::string, std::pair<double, double>> states;  // pending, firing
  for (std::size_t i = 0; i < impl_->rules.size(); ++i) {
    const RuleSlot& rule = impl_->rules[i];
    const std::string& name = impl_->plan->rules[i].name;
    auto& [pending, firing] = states[name];
    for (const auto& [element, alert] : rule.state->alerts().all())
      (alert.state == AlertState::kFiring ? firing : pending) += 1;
    values.push_back(
        {"logbell_rule_unknown", Labels{{"alertname", name}}, rule.state->unknown(rule.inputs) ? 1.0 : 0.0});
  }
  for (const std::string& name : rules::built_in_alerts())
    states.try_emplace(name);
  for (const auto& [key, alert] : impl_->built_in)
    states[std::string(alert.name())].second += 1;
  for (const auto& [name, counts] : states) {
    values.push_back(
        {"logbell_alerts", Labels{{"alertname", name}, {"alertstate", "pending"}}, counts.first});
    values.push_back(
        {"logbell_alerts", Labels{{"alertname", name}, {"alertstate", "firing"}}, counts.second});
  }
  return values;
}

rules::Result<std::vector<Sample>> Pipeline::evaluate(const rules::Expr& expr, Timestamp at) const {
  return engine::evaluate(expr, at, impl_->window_of());
}

WindowOf Pipeline::windows() const {
  return impl_->window_of();
}

const rules::Plan& Pipeline::plan() const {
  return *impl_->plan;
}

}  // namespace logbell::engine

// Backtest: logs of the past, read to their end in event time through the reader and the core as they are;
// what matched, what would have fired, and who would have been told.
//
// Nothing is sent or stored.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/run/follower.h"
#include "engine/run/time_buckets.h"
#include "rules/expr.h"
#include "rules/labels.h"
#include "rules/plan.h"
#include "rules/result.h"
#include "rules/time.h"

namespace logbell::engine {

// How far it is. Bytes are those of the files as they lie on the disk.
struct BacktestProgress {
  std::uint64_t bytes = 0;
  std::uint64_t total = 0;  // 0: not known (standard input)
  double seconds = 0;       // since it began
};

struct BacktestSettings {
  rules::Timestamp now;     // the wall clock; lines that claim to be later are not believed
  std::size_t threads = 1;  // that read, match and evaluate, the caller's included
  // Only what happens in [since, until) is told. Lines before it fill the windows; those behind it are left
  // out.
  std::optional<rules::Timestamp> since = std::nullopt;
  std::optional<rules::Timestamp> until = std::nullopt;
  // Each rule's value is looked at wherever it changes: for suggestions and drawings. It takes longer.
  bool values = false;
  int stdin_fd = 0;
  // A few times a second, by the caller's thread; null: nobody wants to know.
  std::function<void(const BacktestProgress&)> progress = nullptr;
};

struct BacktestReport {
  struct Pattern {
    std::string name;
    std::uint64_t matches = 0;  // lines
  };
  // One alert from its firing to its end.
  struct Episode {
    rules::Labels labels;
    rules::Timestamp fired_at;
    std::optional<rules::Timestamp> resolved_at;  // unset: it fires still at the end of the logs
    double value = 0;                             // as it fired
  };
  // The most frequent values of one label in the lines that a rule counts.
  struct TopValues {
    std::string label;
    std::vector<std::pair<std::string, std::uint64_t>> values;  // with their lines, the most first
    std::uint64_t others = 0;                                   // lines with any other
  };
  // The farthest that what a rule compares has gone towards firing.
  struct Peak {
    double value = 0;
    rules::Timestamp at;
    rules::Labels labels;
    bool exact = true;  // false: it was looked at often, not at every change
  };
  struct Span {
    // Of what the rule compares, of its element that is nearest to firing. NaN: there was none.
    double least = std::numeric_limits<double>::infinity();
    double most = -std::numeric_limits<double>::infinity();
    double last = std::numeric_limits<double>::quiet_NaN();
    bool seen = false;          // it was looked at: else it stayed as it was in the span before
    rules::Duration firing{0};  // of all alerts together
    std::uint32_t firings = 0;  // that began in it

    void add(const Span& later);
  };
  struct Suggestion {
    double a_month = 0;         // firings that were asked for
    double threshold = 0;       // what to compare with, by the rule's own operator
    std::uint64_t firings = 0;  // with it, in these logs
    bool beyond = false;        // these logs are too short for so few: nothing in them would have fired
  };
  struct Rule {
    std::string name;
    std::string expr;  // canonical
    std::uint64_t firings = 0;
    rules::Duration firing{0};                 // in all, of each alert to its end or the last line
    rules::Duration longest{0};                // of one of them
    std::uint64_t flaps = 0;                   // firings within kFlap of the end of the same alert
    std::uint64_t still_firing = 0;            // alerts at the last line
    std::optional<rules::Timestamp> first_at;  // when the first of them fired
    std::string unknown;                       // why it was not evaluated to the end; "": it was
    std::string value;                         // what it compares, as an expression; "": nothing
    std::string op;                            // as ">"; "": with no number
    double threshold = 0;                      // if there is one
    std::optional<Peak> peak;
    std::vector<TopValues> top_values;
    std::map<std::string, std::uint64_t> messages;  // by sink, that are also about it
    std::vector<Episode> episodes;                  // of all rules the first kMostEpisodes
    TimeBuckets<Span> spans{kMostSpans};
    std::vector<Suggestion> suggestions;
    std::string no_suggestion;  // why there is none; "": there is, or none was asked for
    bool at_most = false;       // it had too many values: suggestions are of three digits, and fire at most so often
    bool thinned = false;       // it changed too often, or had too many values: suggestions and drawing are near
  };
  struct Sink {
    std::string name;
    std::uint64_t messages = 0;
    std::map<rules::Timestamp, std::uint64_t> days;  // by the beginning of the day, UTC
  };
  static constexpr std::size_t kMostEpisodes = 50'000;
  static constexpr std::size_t kMostSpans = 1024;
  static constexpr rules::Duration kFlap{std::chrono::minutes(15)};

  std::vector<Pattern> patterns;  // those that the logs were matched against, as the plan has them
  std::vector<Rule> rules;
  std::vector<Sink> sinks;
  std::vector<ReaderNote> notes;  // what could not be read, or not as it was meant
  // Lines that were not taken as they stand, by what was amiss: "say no time", "say a time in the future" …
  std::map<std::string, std::uint64_t> amiss;
  // What came to a bound, so that counts are not exact, or something was not told.
  struct AtBound {
    std::string pattern;
    std::string metric;       // the counter that `run` has of it
    std::uint64_t count = 0;  // its value
    std::string what;         // "matches had no room …"
  };
  std::vector<AtBound> bounds;
  std::uint64_t bytes = 0;  // unpacked
  std::uint64_t lines = 0;
  rules::Timestamp first_line = rules::kLongAgo;  // what is told is from here: the earliest line, or `since`
  rules::Timestamp last_line = rules::kLongAgo;   // the latest time that a line said, of those that are told
  bool in_part = false;                           // only what happened since a time, or until one, is told
  double seconds = 0;                             // that it took, by a monotonic clock
  // Of the processor's time: what a running process would need, too, and what only this report does.
  struct Cpu {
    double reading = 0;  // and matching, by all threads that do
    double evaluating = 0;
    double reporting = 0;
  };
  Cpu cpu;
};

// The plan with these files in the place of a source's own, and the other sources without any; "-" is
// standard input. An empty `source`: the plan's only one. Fails where there are several, or none of that
// name.
rules::Result<std::shared_ptr<const rules::Plan>> backtest_plan(const rules::Plan& plan,
                                                                const std::string& source,
                                                                const std::vector<std::string>& files);

BacktestReport backtest(const std::shared_ptr<const rules::Plan>& plan, const BacktestSettings& settings);

}  // namespace logbell::engine

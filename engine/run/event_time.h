// Event time: which moment a line counts at, decided from what it says and what is known (DESIGN.md §3).
//
// Pure. Whoever reads decides nothing of this.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>
#include <vector>

#include "rules/time.h"

namespace logbell::engine {

inline constexpr rules::Duration kMaxAhead{std::chrono::seconds(10)};     // of the wall clock
inline constexpr rules::Duration kMaxBehind{std::chrono::hours(1)};       // of its source, when live
inline constexpr rules::Duration kMinOffset{std::chrono::minutes(15)};    // smaller ones are lateness, not zones

struct LineFacts {
  std::optional<rules::Timestamp> own = {};         // what the line says
  rules::Timestamp arrival;                         // wall time before it was read
  bool live = false;                                // its stream was at its end before; else it catches up
  rules::Timestamp source_clock = rules::kLongAgo;  // how far the source was known before this read
  rules::Timestamp predecessor = rules::kLongAgo;   // the time the line before it counts at
  rules::Timestamp modified = rules::kLongAgo;      // of the file
};

enum class TimeVerdict {
  kBelieved,
  kMissing,  // the line says none
  kFuture,   // more than kMaxAhead
  kPast,     // live, and more than kMaxBehind
};
// "missing", "future", "past": a label of logbell_source_timestamps_rejected_total; "" when believed.
std::string_view to_string(TimeVerdict verdict);

struct EventTime {
  rules::Timestamp at;
  TimeVerdict verdict = TimeVerdict::kBelieved;
};

EventTime event_time(const LineFacts& line);

// Notices that a source's clock stands, steadily, a quarter of an hour or more from ours: usually a zone that
// is not the one the configuration says.
class OffsetEstimate {
 public:
  // A line that has just been written says `own`.
  void add(rules::Timestamp own, rules::Timestamp arrival);
  // Rounded to a minute; 0: none, or not steady.
  rules::Duration offset() const;

 private:
  static constexpr int kMinSamples = 3;
  static constexpr rules::Duration kMinSpan{std::chrono::seconds(30)};
  static constexpr rules::Duration kTolerance{std::chrono::minutes(1)};

  int samples_ = 0;
  rules::Timestamp first_arrival_ = rules::kLongAgo;
  rules::Timestamp last_arrival_ = rules::kLongAgo;
  rules::Duration first_{0};
};

}  // namespace logbell::engine

#include "engine/run/event_time.h"

#include <algorithm>

namespace logbell::engine {

using rules::Duration;
using rules::kLongAgo;
using rules::Timestamp;

std::string_view to_string(TimeVerdict verdict) {
  switch (verdict) {
    case TimeVerdict::kBelieved:
      return "";
    case TimeVerdict::kMissing:
      return "missing";
    case TimeVerdict::kFuture:
      return "future";
    case TimeVerdict::kPast:
      return "past";
  }
  return "";
}

EventTime event_time(const LineFacts& line) {
  TimeVerdict verdict = TimeVerdict::kBelieved;
  if (!line.own) {
    verdict = TimeVerdict::kMissing;
  } else if (*line.own > line.arrival + kMaxAhead) {
    verdict = TimeVerdict::kFuture;
  } else if (line.live && line.source_clock != kLongAgo && *line.own < line.source_clock - kMaxBehind) {
    verdict = TimeVerdict::kPast;
  }
  if (verdict == TimeVerdict::kBelieved) return {*line.own, verdict};
  // What was written just now was written now. In a backlog only its neighbours know.
  if (line.live) return {line.arrival, verdict};
  if (line.predecessor != kLongAgo) return {std::min(line.predecessor, line.arrival), verdict};
  if (line.modified != kLongAgo) return {std::min(line.modified, line.arrival), verdict};
  return {line.arrival, verdict};
}

void OffsetEstimate::add(Timestamp own, Timestamp arrival) {
  const Duration distance = own - arrival;
  const bool far = distance >= kMinOffset || distance <= -kMinOffset;
  const Duration drift = distance > first_ ? distance - first_ : first_ - distance;
  if (!far) {
    samples_ = 0;
    return;
  }
  if (samples_ == 0 || drift > kTolerance) {
    samples_ = 0;
    first_ = distance;
    first_arrival_ = arrival;
  }
  samples_ = std::min(samples_ + 1, kMinSamples);
  last_arrival_ = arrival;
}

Duration OffsetEstimate::offset() const {
  if (samples_ < kMinSamples || last_arrival_ - first_arrival_ < kMinSpan) return Duration{0};
  return std::chrono::round<std::chrono::minutes>(first_);
}

}  // namespace logbell::engine

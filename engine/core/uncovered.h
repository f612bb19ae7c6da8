// UncoveredLog: lines of one source that look like errors and that no rule looks at: how many came lately,
// and a few that differ. What UncoveredErrors rests on.
//
// Owned by the core thread. Time is always passed in: wall time, for only lines of now are counted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/core/batch.h"
#include "rules/plan.h"
#include "rules/time.h"

namespace logbell::engine {

class UncoveredLog {
 public:
  // `within` is counted in so many parts, each as a whole: twelve of five minutes are near enough to an hour.
  static constexpr int kSlots = 12;
  // Lines that are shown, and how much of each: they fit a phone.
  static constexpr std::size_t kSamples = 3;
  static constexpr std::size_t kSampleBytes = 200;

  // True if what is to be told has changed.
  bool add(const UncoveredLines& lines, const rules::UncoveredErrors& when, rules::Timestamp now);
  // Forgets what is over. Afterwards fires() holds for `now`.
  void update(const rules::UncoveredErrors& when, rules::Timestamp now);
  void set_back(rules::Timestamp now);

  bool fires() const { return fires_; }
  // When it ends if no more come.
  rules::Timestamp ends_at(const rules::UncoveredErrors& when) const { return last_ + when.within; }
  rules::Timestamp since() const { return since_; }
  const std::vector<std::string>& samples() const { return samples_; }  // redacted
  bool empty() const { return slots_.empty(); }

  // What is to be written once it has changed: not with each line. A crash forgets what came within one slot.
  bool take_changed() { return std::exchange(changed_, false); }
  std::string to_json() const;
  static std::optional<UncoveredLog> parse(std::string_view text);

 private:
  std::deque<std::pair<rules::Timestamp, std::uint64_t>> slots_;  // their beginnings, oldest first
  rules::Timestamp since_ = rules::kLongAgo;
  rules::Timestamp last_ = rules::kLongAgo;
  std::vector<std::string> samples_;
  bool fires_ = false;
  bool changed_ = false;
};

}  // namespace logbell::engine

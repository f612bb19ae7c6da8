// ProofAges: for how long a proof is worth something, by level. Value; any thread.
#pragma once

#include <map>

#include "rules/time.h"
#include "sinks/sink.h"

namespace logbell::engine {

// `max_proof_age:` of the configuration.
class ProofAges {
 public:
  // For ever: what a configuration says is so while it runs, and `none`.
  static constexpr rules::Duration kNever = rules::Duration::max();
  static constexpr rules::Duration kLeast{std::chrono::hours(1)};
  static constexpr rules::Duration kMost{std::chrono::hours(24 * 365)};

  rules::Duration of(sinks::ProofLevel level) const;
  void set(sinks::ProofLevel level, rules::Duration age) { said_[level] = age; }
  bool is_old(sinks::ProofLevel level, rules::Timestamp at, rules::Timestamp now) const {
    return of(level) != kNever && now - at > of(level);
  }

  friend bool operator==(const ProofAges&, const ProofAges&) = default;

 private:
  std::map<sinks::ProofLevel, rules::Duration> said_;
};

}  // namespace logbell::engine

// Instants: moments that are collected in any order, each as often as it comes, and looked at in order, each once.
//
// Owned by the core thread. A set would do as well, and takes a node for each: where every line matches, most of the
// time went into those.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "rules/time.h"

namespace logbell::engine {

class Instants {
 public:
  void add(rules::Timestamp at) {
    if (!all_.empty() && at == all_.back()) return;
    all_.push_back(at);
    if (all_.size() < tidy_at_) return;
    // What many series have in common takes no more than twice what it is.
    tidy();
    tidy_at_ = std::max(tidy_at_, 2 * all_.size());
  }
  // Valid until the next add().
  const std::vector<rules::Timestamp>& in_order() {
    tidy();
    return all_;
  }

 private:
  void tidy() {
    if (!std::is_sorted(all_.begin(), all_.end())) std::sort(all_.begin(), all_.end());
    all_.erase(std::unique(all_.begin(), all_.end()), all_.end());
  }

  std::vector<rules::Timestamp> all_;
  std::size_t tidy_at_ = 4096;
};

}  // namespace logbell::engine

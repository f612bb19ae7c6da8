// FirstReceipts: what a lane's sink gave back for the first message of each episode that goes on, so that the
// ones after it can follow it (sinks::SinkType::follows).
//
// Owned by the lane's thread. Time is handed in.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/core/batch.h"
#include "rules/notification.h"
#include "rules/time.h"

namespace logbell::engine {

class FirstReceipts {
 public:
  // As many episodes as a sidecar never has at once; a few MB. Beyond it the oldest is forgotten: what
  // follows there begins anew.
  static constexpr std::size_t kMost = 10'000;
  // Nothing was said for so long: nobody looks for the rest there.
  static constexpr rules::Duration kKept{std::chrono::hours(7 * 24)};
  // How late it is written down that an episode goes on.
  static constexpr rules::Duration kGrain{std::chrono::hours(24)};
  // Where the store has them: under the prefix, the lane and a hash.
  static constexpr std::string_view kPrefix = "run/thread/";
  static std::string prefix(const std::string& lane);

  // `restored`: what the store has under prefix(lane).
  FirstReceipts(const std::string& lane, const std::vector<StoredEntry>& restored);

  // "" when none is known. Drills and texts are no part of an episode.
  std::string of(const rules::Notification& notification) const;
  // A message was delivered, with a receipt ("": none to follow); `begins`: it followed nothing. What is to
  // be written down with it.
  std::vector<StoredEntry> delivered(const rules::Notification& notification, const std::string& receipt,
                                     bool begins, rules::Timestamp now);
  std::size_t size() const { return known_.size(); }
  std::uint64_t forgotten() const { return forgotten_; }  // because there were kMost, since the start

 private:
  struct Known {
    std::string receipt;
    rules::Timestamp at;  // when something was last said of it, to kGrain
  };
  void put(const std::string& key, Known known);
  void erase(const std::string& key, std::vector<StoredEntry>& changed);

  std::string prefix_;
  std::uint64_t forgotten_ = 0;
  std::map<std::string, Known> known_;                         // by the store's key
  std::set<std::pair<rules::Timestamp, std::string>> by_age_;  // of the same
};

}  // namespace logbell::engine

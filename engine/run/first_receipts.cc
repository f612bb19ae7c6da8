#include "engine/run/first_receipts.h"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "rules/labels.h"

namespace logbell::engine {
namespace {

using rules::Notification;
using rules::Timestamp;

bool is_part_of_an_episode(const Notification& notification) {
  return notification.drill.empty() && notification.text.empty();
}

// What speaks in another sink's place is a conversation of its own.
std::string key_of(const std::string& prefix, const Notification& notification) {
  const std::string name =
      fmt::format("{}\n{}\n{}", notification.group_key, rules::to_unix_ms(notification.group_began),
                  notification.fallback_for);
  return prefix + rules::format_fingerprint(rules::hash_bytes(name));
}

}  // namespace

std::string FirstReceipts::prefix(const std::string& lane) {
  return fmt::format("{}{}/", kPrefix, lane);
}

FirstReceipts::FirstReceipts(const std::string& lane, const std::vector<StoredEntry>& restored)
    : prefix_(prefix(lane)) {
  for (const StoredEntry& entry : restored) {
    if (!entry.value) continue;
    std::int64_t ms = 0;
    const std::size_t space = entry.value->find(' ');
    const char* end = entry.value->data() + std::min(space, entry.value->size());
    if (space == std::string::npos || std::from_chars(entry.value->data(), end, ms).ptr != end) continue;
    put(entry.key, {entry.value->substr(space + 1), rules::from_unix_ms(ms)});
  }
}

std::string FirstReceipts::of(const Notification& notification) const {
  if (!is_part_of_an_episode(notification)) return {};
  const auto found = known_.find(key_of(prefix_, notification));
  return found == known_.end() ? std::string() : found->second.receipt;
}

void FirstReceipts::put(const std::string& key, Known known) {
  if (const auto before = known_.find(key); before != known_.end()) by_age_.erase({before->second.at, key});
  by_age_.emplace(known.at, key);
  known_.insert_or_assign(key, std::move(known));
}

void FirstReceipts::erase(const std::string& key, std::vector<StoredEntry>& changed) {
  const auto found = known_.find(key);
  if (found == known_.end()) return;
  by_age_.erase({found->second.at, key});
  changed.push_back({key, std::nullopt});
  known_.erase(found);
}

std::vector<StoredEntry> FirstReceipts::delivered(const Notification& notification,
                                                  const std::string& receipt, bool begins, Timestamp now) {
  std::vector<StoredEntry> changed;
  if (is_part_of_an_episode(notification)) {
    const std::string key = key_of(prefix_, notification);
    const auto found = known_.find(key);
    if (notification.reason == rules::NotifyReason::kAllResolved) {
      erase(key, changed);
    } else if (!receipt.empty() && (begins || found == known_.end() || now - found->second.at >= kGrain)) {
      Known known{begins || found == known_.end() ? receipt : found->second.receipt, now};
      changed.push_back({key, fmt::format("{} {}", rules::to_unix_ms(now), known.receipt)});
      put(key, std::move(known));
    }
  }
  while (!by_age_.empty() && (by_age_.size() > kMost || now - by_age_.begin()->first > kKept)) {
    if (now - by_age_.begin()->first <= kKept) ++forgotten_;
    const std::string oldest = by_age_.begin()->second;
    erase(oldest, changed);
  }
  return changed;
}

}  // namespace logbell::engine

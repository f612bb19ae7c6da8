#include "engine/core/keyed_window.h"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "rules/json.h"
#include "rules/labels.h"

namespace logbell::engine {

using rules::Duration;
using rules::Json;
using rules::Timestamp;

namespace {

// No more zeros than that: so many keys come in no log.
constexpr int kMostLevels = 40;
// Templates are known so much longer than what came of them: a line may be as late (DESIGN.md §3), and what
// its kind is does not depend on when somebody tidied up.
constexpr Duration kKnownLonger = std::chrono::hours(1);

// SplitMix64's last step: the bits of a stable hash, mixed once more so that its lowest are as good as any.
std::uint64_t mixed(std::uint64_t hash) {
  hash = (hash ^ (hash >> 30)) * 0xBF58476D1CE4E5B9U;
  hash = (hash ^ (hash >> 27)) * 0x94D049BB133111EBU;
  return hash ^ (hash >> 31);
}

}  // namespace

KeyedWindow::KeyedWindow(rules::KeyedNeed need)
    : need_(std::move(need)),
      block_(std::max<Duration>(std::chrono::seconds(1), need_.reach / 16)),
      templates_(need_.is_of_templates() ? std::make_unique<TemplateTree>() : nullptr) {}

std::vector<std::string_view> KeyedWindow::labels_of(std::string_view id) {
  std::vector<std::string_view> values;
  for (std::size_t at = id.find(kBetween); at != std::string_view::npos;) {
    const std::size_t end = id.find(kBetween, at + 1);
    values.push_back(id.substr(at + 1, end == std::string_view::npos ? end : end - at - 1));
    at = end;
  }
  return values;
}

std::uint64_t KeyedWindow::template_id(std::string_view id) {
  const std::string_view key = key_of(id);
  std::uint64_t number = 0;
  std::from_chars(key.data(), key.data() + key.size(), number);
  return number;
}

const std::string* KeyedWindow::template_of(std::string_view id) const {
  const std::uint64_t number = template_id(id);
  return templates_->has(number) ? &templates_->label(number) : nullptr;
}

std::string_view KeyedWindow::shown_key(std::string_view id) const {
  const std::string* text = templates_ == nullptr ? nullptr : template_of(id);
  return text == nullptr ? key_of(id) : *text;
}

// Those of which nothing is kept any more, and that nothing came of after `until`.
void KeyedWindow::forget_templates(Timestamp until) {
  if (templates_ == nullptr) return;
  std::set<std::uint64_t> used;
  for (const auto& [id, entry] : entries_)
    used.insert(template_id(id));
  templates_->forget(used, until);
}

bool KeyedWindow::is_at_level(std::string_view key, int level) {
  if (level == 0) return true;
  return (mixed(rules::hash_bytes(key)) & ((std::uint64_t{1} << level) - 1)) == 0;
}

int KeyedWindow::level(Timestamp from, Timestamp to) const {
  int most = 0;
  for (std::size_t i = 0; i < levels_.size(); ++i) {
    const bool ended = i + 1 < levels_.size() && levels_[i + 1].first <= from;
    if (!ended && (i == 0 || levels_[i].first < to)) most = std::max(most, levels_[i].second);
  }
  return most;
}

std::vector<Timestamp> KeyedWindow::level_changes() const {
  std::vector<Timestamp> out;
  for (std::size_t i = 1; i < levels_.size(); ++i)
    out.push_back(levels_[i].first);
  return out;
}

std::int64_t KeyedWindow::block_of(Timestamp at) const {
  return MatchTimes::block_of(at, block_);
}

KeyedWindow::Added KeyedWindow::add(std::string_view key, const std::vector<std::string_view>& labels,
                                    Timestamp at, bool has_room) {
  Added added;
  newest_ = std::max(newest_, at);
  if (need_.sampled && !is_at_level(key, levels_.back().second)) return added;
  std::string id;
  if (templates_ == nullptr) {
    id = key;
  } else if (const std::optional<std::uint64_t> number =
                 templates_->add(key, at, newest_ - need_.reach - kKnownLonger)) {
    id = std::to_string(*number);
  } else {
    added.dropped = overflowing_ = true;
    return added;
  }
  for (const std::string_view label : labels)
    (id += kBetween) += label;
  auto found = entries_.find(id);
  if (found == entries_.end() && need_.sampled && entries_.size() >= kMostSampled) {
    raise_level();
    if (!is_at_level(key, levels_.back().second)) return added;
  }
  if (found == entries_.end() && entries_.size() >= kMaxKeys) {
    added.dropped = overflowing_ = true;
    return added;
  }
  if (points_ >= kMaxPoints || !has_room) {
    added.full = full_ = true;
    return added;
  }
  if (found == entries_.end()) {
    found = entries_.try_emplace(std::move(id)).first;
    added.is_new_kind = templates_ != nullptr;
  }
  MatchTimes& times = found->second.times;
  const std::size_t before = times.size();
  times.add(at, 1);
  points_ += times.size() - before;
  touch(found->first, at);
  for (const std::weak_ptr<Changes>& watcher : watchers_) {
    if (const auto changes = watcher.lock(); changes != nullptr && !changes->all)
      changes->ids.insert(found->first);
  }
  return added;
}

std::shared_ptr<KeyedWindow::Changes> KeyedWindow::watch() const {
  std::erase_if(watchers_, [](const std::weak_ptr<Changes>& watcher) { return watcher.expired(); });
  auto changes = std::make_shared<Changes>();
  watchers_.push_back(changes);
  return changes;
}

bool KeyedWindow::is_watched_by(const std::shared_ptr<Changes>& changes) const {
  return std::any_of(watchers_.begin(), watchers_.end(),
                     [&](const std::weak_ptr<Changes>& watcher) { return watcher.lock() == changes; });
}

void KeyedWindow::change_all() {
  for (const std::weak_ptr<Changes>& watcher : watchers_) {
    if (const auto changes = watcher.lock()) changes->all = true;
  }
}

KeyedWindow::Entries::iterator KeyedWindow::erase(Entries::iterator entry) {
  for (const std::int64_t block : entry->second.stored)
    dirty_.emplace(entry->first, block);
  points_ -= entry->second.times.size();
  return entries_.erase(entry);
}

void KeyedWindow::raise_level() {
  change_all();
  while (entries_.size() >= kMostSampled && levels_.back().second < kMostLevels) {
    const int next = levels_.back().second + 1;
    // What is kept of the past is what is at this level, too.
    for (auto& [since, level] : levels_)
      level = std::max(level, next);
    levels_changed_ = true;
    for (auto it = entries_.begin(); it != entries_.end();)
      it = is_at_level(key_of(it->first), next) ? std::next(it) : erase(it);
  }
}

void KeyedWindow::lower_level(Timestamp clock) {
  while (levels_.size() > 1 && levels_[1].first <= clock - need_.reach) {
    levels_.erase(levels_.begin());
    levels_changed_ = true;
  }
  const int kept = levels_.back().second;
  int enough = kept;
  while (enough > 0 && (entries_.size() << static_cast<unsigned>(kept - enough + 1)) <= kMostSampled / 2)
    --enough;
  if (enough == kept) return;
  levels_.emplace_back(std::max(newest_, clock), enough);
  levels_changed_ = true;
}

void KeyedWindow::forget(Timestamp clock) {
  if (clock == rules::kLongAgo) return;
  const Timestamp reach = clock - need_.reach;
  const Timestamp exact = clock - need_.exact;
  for (auto it = entries_.begin(); it != entries_.end();) {
    Entry& entry = it->second;
    if (entry.times.empty() || entry.times.newest() <= reach) {
      it = erase(it);
      continue;
    }
    // Of what is older than what is kept exactly, the last match says when the key was there before.
    const std::size_t before = entry.times.size();
    const auto last = entry.times.last_until(exact);
    entry.times.forget(last && *last > reach ? *last - Duration(1) : reach);
    points_ -= before - entry.times.size();
    while (!entry.stored.empty() && entry.stored.front() < block_of(entry.times.oldest())) {
      dirty_.emplace(it->first, entry.stored.front());
      entry.stored.erase(entry.stored.begin());
    }
    ++it;
  }
  forget_templates(reach - kKnownLonger);
  for (const std::weak_ptr<Changes>& watcher : watchers_) {
    if (const auto changes = watcher.lock()) changes->clock = clock;
  }
  if (need_.sampled) lower_level(clock);
  if (points_ < kMaxPoints / 2) full_ = false;
  if (entries_.size() < kMaxKeys &&
      (templates_ == nullptr || templates_->size() < TemplateTree::kMaxTemplates))
    overflowing_ = false;
}

void KeyedWindow::forget_after(Timestamp at) {
  change_all();
  for (auto it = entries_.begin(); it != entries_.end();) {
    Entry& entry = it->second;
    const std::size_t before = entry.times.size();
    entry.times.forget_after(at);
    points_ -= before - entry.times.size();
    for (const std::int64_t block : entry.stored) {
      if (block >= block_of(at)) dirty_.emplace(it->first, block);
    }
    it = entry.times.empty() ? erase(it) : std::next(it);
  }
  newest_ = std::min(newest_, at);
  if (templates_ != nullptr) templates_->forget_after(at);
  for (auto& [since, level] : levels_) {
    if (since > at) since = at, levels_changed_ = true;
  }
}

std::string KeyedWindow::stored_id(std::string_view id) {
  Json list{Json::Array{}};
  list.push(Json(key_of(id)));
  for (const std::string_view value : labels_of(id))
    list.push(Json(value));
  return list.dump();
}

void KeyedWindow::save(const std::string& prefix, std::vector<StoredEntry>& out) {
  for (const auto& [id, block] : dirty_) {
    const std::string key = fmt::format("{}b/{}/{}", prefix, block, stored_id(id));
    const auto found = entries_.find(id);
    std::string text;
    if (found != entries_.end()) {
      text = found->second.times.format_block(block, block_);
      std::vector<std::int64_t>& stored = found->second.stored;
      const auto place = std::lower_bound(stored.begin(), stored.end(), block);
      const bool known = place != stored.end() && *place == block;
      if (text.empty() && known) stored.erase(place);
      if (!text.empty() && !known) stored.insert(place, block);
    }
    out.push_back({key, text.empty() ? std::nullopt : std::optional(std::move(text))});
  }
  if (levels_changed_) {
    std::string text;
    for (const auto& [since, level] : levels_)
      text += fmt::format("{}+{} ", rules::to_unix_ms(since), level);
    const bool all = levels_.size() == 1 && levels_.front().second == 0;
    out.push_back({prefix + "l", all ? std::nullopt : std::optional(std::move(text))});
  }
  if (templates_ != nullptr) templates_->save(prefix + "t/", out);
  forget_changes();
}

void KeyedWindow::forget_changes() {
  if (templates_ != nullptr) templates_->forget_changes();
  dirty_.clear();
  levels_changed_ = false;
}

namespace {

// "123+4 5+6 ": pairs, as far as they can be read.
std::vector<std::pair<std::int64_t, std::uint64_t>> read_pairs(std::string_view text) {
  std::vector<std::pair<std::int64_t, std::uint64_t>> out;
  const char* at = text.data();
  const char* end = at + text.size();
  while (at < end) {
    std::int64_t first = 0;
    std::uint64_t second = 0;
    auto read = std::from_chars(at, end, first);
    if (read.ec != std::errc() || read.ptr == end || *read.ptr != '+') break;
    read = std::from_chars(read.ptr + 1, end, second);
    if (read.ec != std::errc()) break;
    out.emplace_back(first, second);
    at = read.ptr + 1;
  }
  return out;
}

}  // namespace

void KeyedWindow::restore(const std::string& prefix, const StoredEntry& entry) {
  if (!entry.value || entry.key.compare(0, prefix.size(), prefix) != 0) return;
  const std::string_view rest = std::string_view(entry.key).substr(prefix.size());
  if (rest == "l") {
    std::vector<std::pair<Timestamp, int>> levels;
    for (const auto& [since, level] : read_pairs(*entry.value)) {
      const Timestamp from = rules::from_stored_ms(since);
      if (level > kMostLevels || (!levels.empty() && from < levels.back().first)) return;
      levels.emplace_back(from, static_cast<int>(level));
    }
    if (need_.sampled && !levels.empty()) levels_ = std::move(levels);
    return;
  }
  if (rest.substr(0, 2) == "t/" && templates_ != nullptr) {
    if (!templates_->restore(prefix + "t/", entry))
      overflowing_ = templates_->size() >= TemplateTree::kMaxTemplates;
    return;
  }
  change_all();
  const std::size_t slash = rest.find('/', 2);
  if (rest.substr(0, 2) != "b/" || slash == std::string_view::npos) return;
  std::int64_t block = 0;
  std::from_chars(rest.data() + 2, rest.data() + slash, block);
  const auto parsed = Json::parse(rest.substr(slash + 1));
  if (!parsed || parsed->array().size() != need_.labels.size() + 1) return;
  std::string id;
  for (const Json& value : parsed->array()) {
    if (&value != &parsed->array().front()) id += kBetween;
    id += value.string();
  }
  // Under a key that is not written as ours it would never be written over; and in a block no time lies in,
  // nothing can be.
  const std::int64_t last_block = rules::kMaxStoredMs / block_.count();
  if (rest != fmt::format("b/{}/{}", block, stored_id(id)) || block < -last_block || block > last_block)
    return;
  const auto known = entries_.find(id);
  if (known == entries_.end() && entries_.size() >= kMaxKeys) {
    overflowing_ = true;
    dirty_.emplace(id, block);
    return;
  }
  std::int64_t last = 0;
  for (const auto& [step, count] : read_pairs(*entry.value)) {
    if (step < -rules::kMaxStoredMs || step > rules::kMaxStoredMs) break;
    last += step;
    if (last < -rules::kMaxStoredMs || last > rules::kMaxStoredMs) break;
    if (points_ >= kMaxPoints) {
      full_ = true;
      break;
    }
    const Timestamp at = rules::from_unix_ms(last);
    MatchTimes& times = entries_[id].times;
    const std::size_t before = times.size();
    times.add(at, count);
    points_ += times.size() - before;
    newest_ = std::max(newest_, at);
    // Written under another span (the rule's window has changed): it belongs to another block now.
    if (block_of(at) != block) {
      touch(id, at);
      dirty_.emplace(id, block);
    }
  }
  const auto found = entries_.find(id);
  if (found == entries_.end()) {
    dirty_.emplace(id, block);
    return;
  }
  std::vector<std::int64_t>& stored = found->second.stored;
  const auto place = std::lower_bound(stored.begin(), stored.end(), block);
  if (place == stored.end() || *place != block) stored.insert(place, block);
}

void KeyedWindow::restored() {
  if (templates_ == nullptr) return;
  // A template that was lost has no text to be shown with, and lines of it are new.
  for (auto it = entries_.begin(); it != entries_.end();) {
    if (template_of(it->first) == nullptr) {
      it = erase(it);
      continue;
    }
    templates_->came(template_id(it->first), it->second.times.newest());
    ++it;
  }
  newest_ = std::max(newest_, templates_->newest());
}

void KeyedWindow::erase_stored(const std::string& prefix, std::vector<StoredEntry>& out) const {
  for (const auto& [id, entry] : entries_) {
    for (const std::int64_t block : entry.stored)
      out.push_back({fmt::format("{}b/{}/{}", prefix, block, stored_id(id)), std::nullopt});
  }
  for (const auto& [id, block] : dirty_)
    out.push_back({fmt::format("{}b/{}/{}", prefix, block, stored_id(id)), std::nullopt});
  out.push_back({prefix + "l", std::nullopt});
  if (templates_ != nullptr) templates_->erase_stored(prefix + "t/", out);
}

void KeyedWindow::adopt(KeyedWindow&& old) {
  change_all();
  entries_ = std::move(old.entries_);
  templates_ = std::move(old.templates_);
  points_ = old.points_;
  overflowing_ = old.overflowing_;
  full_ = old.full_;
  newest_ = old.newest_;
  levels_ = std::move(old.levels_);
  levels_changed_ = old.levels_changed_;
  if (block_ == old.block_) {
    dirty_ = std::move(old.dirty_);
    return;
  }
  // Blocks have another span now: everything is written anew, and what stands under the old numbers is
  // written over or erased.
  dirty_ = std::move(old.dirty_);
  for (const auto& [id, entry] : entries_) {
    for (const auto& [at, count] : entry.times.points(rules::kLongAgo, Timestamp::max()))
      touch(id, at);
    for (const std::int64_t block : entry.stored)
      dirty_.emplace(id, block);
  }
}

}  // namespace logbell::engine

// KeyedWindow: which keys a pattern's matches had, and when: for functions such as unanswered_over_time().
// Where what the lines say is asked for (new_template()), a key is the id of a template, and a match has its
// shape.
//
// Owned by the core thread, as a part of its PatternWindow. Time is always passed in. Exact to the
// millisecond up to kMaxKeys. A sampled one keeps of more than kMostSampled keys those whose hash ends in
// zeros, which stand for the others (Wegman's adaptive sampling; P. Flajolet, "On adaptive sampling",
// Computing 43, 1990): the standard error of such an estimate is 1.2 / sqrt(kMostSampled), 0.7 %.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/core/batch.h"
#include "engine/core/match_times.h"
#include "engine/core/template_tree.h"
#include "rules/keyed_function.h"
#include "rules/time.h"

namespace logbell::engine {

class KeyedIndex;

class KeyedWindow {
 public:
  // Keys in memory of one pattern and capture at most: some 25 MB. What is beyond is not counted, and said.
  static constexpr std::size_t kMaxKeys = 100'000;
  // Of more keys than that some are kept, at most so many.
  static constexpr std::size_t kMostSampled = 32'768;
  // Matches in memory at most, as of PatternWindow.
  static constexpr std::size_t kMaxPoints = 1'000'000;
  // Between the values of one key: clean text has no control character.
  static constexpr char kBetween = '\x1F';

  explicit KeyedWindow(rules::KeyedNeed need);

  struct Added {
    bool dropped = false;      // a key too many
    bool full = false;         // not kept: the memory bound was met
    bool is_new_kind = false;  // of templates: nothing of this one is known, of these labels
  };
  // `key` is not empty; of templates it is the line's shape. `labels`: the values of those that need() names.
  // `has_room`: false where all patterns together hold as much as they may.
  Added add(std::string_view key, const std::vector<std::string_view>& labels, rules::Timestamp at,
            bool has_room = true);

  struct Entry {
    MatchTimes times;
    std::vector<std::int64_t> stored;  // blocks, ascending
  };
  // By key, then the values of need()'s labels, kBetween between them.
  const std::map<std::string, Entry, std::less<>>& entries() const { return entries_; }
  static std::string_view key_of(std::string_view id) { return id.substr(0, id.find(kBetween)); }
  static std::vector<std::string_view> labels_of(std::string_view id);
  // The key as people see it: a template's text, which is the same as long as it has an id.
  std::string_view shown_key(std::string_view id) const;

  // Of what came in (from, to], only keys at this level were kept throughout: 0 is all of them.
  int level(rules::Timestamp from, rules::Timestamp to) const;
  // When the level was changed, oldest first.
  std::vector<rules::Timestamp> level_changes() const;
  // Whether a key belongs to those that are kept at `level`, each of which stands for 2^level.
  static bool is_at_level(std::string_view key, int level);

  // Since when every key is known, and since when every match of it, as far back as need() goes. The
  // caller's: kept with what it knows of the pattern.
  struct Known {
    rules::Timestamp keys = rules::kLongAgo;
    rules::Timestamp matches = rules::kLongAgo;
    friend bool operator==(const Known&, const Known&) = default;
  };
  const Known& known() const { return known_; }
  void set_known(const Known& known) { known_ = known; }

  // What has come since somebody looked, for who keeps what follows from it.
  struct Changes {
    bool all = true;
    std::set<std::string, std::less<>> ids;
    rules::Timestamp clock = rules::kLongAgo;  // of the last forget()
  };
  std::shared_ptr<Changes> watch() const;
  bool is_watched_by(const std::shared_ptr<Changes>& changes) const;
  // What follows from it, by the function that asks: kept here so that it goes with the window.
  std::shared_ptr<KeyedIndex>& index_of(const std::string& function) const { return indexes_[function]; }
  const std::map<std::string, std::shared_ptr<KeyedIndex>>& indexes() const { return indexes_; }

  const rules::KeyedNeed& need() const { return need_; }
  std::size_t points() const { return points_; }
  bool overflowing() const { return overflowing_; }
  // That, and it is templates of which there are too many.
  bool has_too_many_templates() const {
    return overflowing_ && templates_ != nullptr && templates_->size() >= TemplateTree::kMaxTemplates;
  }
  bool full() const { return full_; }

  // Forgets what nothing that ends after `clock` can ask for.
  void forget(rules::Timestamp clock);
  // Time was set back: forgets what was counted later than `at`.
  void forget_after(rules::Timestamp at);

  // As PatternWindow's; keys of the store begin with `prefix`.
  void save(const std::string& prefix, std::vector<StoredEntry>& out);
  void forget_changes();
  void restore(const std::string& prefix, const StoredEntry& entry);
  // Everything that was stored has been given to restore().
  void restored();
  void erase_stored(const std::string& prefix, std::vector<StoredEntry>& out) const;
  void adopt(KeyedWindow&& old);

 private:
  using Entries = std::map<std::string, Entry, std::less<>>;

  std::int64_t block_of(rules::Timestamp at) const;
  static std::string stored_id(std::string_view id);
  void touch(const std::string& id, rules::Timestamp at) { dirty_.emplace(id, block_of(at)); }
  Entries::iterator erase(Entries::iterator entry);
  static std::uint64_t template_id(std::string_view id);
  const std::string* template_of(std::string_view id) const;  // its label; null: there is none of this id
  void forget_templates(rules::Timestamp until);
  void change_all();
  void raise_level();
  void lower_level(rules::Timestamp clock);

  rules::KeyedNeed need_;
  rules::Duration block_;  // a block's span
  Known known_;
  Entries entries_;
  std::unique_ptr<TemplateTree> templates_;  // null: keys are values of a capture
  std::size_t points_ = 0;
  bool overflowing_ = false;
  bool full_ = false;
  rules::Timestamp newest_ = rules::kLongAgo;
  // Since when which level is kept, oldest first; never empty.
  std::vector<std::pair<rules::Timestamp, int>> levels_{{rules::kLongAgo, 0}};
  bool levels_changed_ = false;
  std::set<std::pair<std::string, std::int64_t>> dirty_;  // blocks to be written or erased
  mutable std::vector<std::weak_ptr<Changes>> watchers_;
  mutable std::map<std::string, std::shared_ptr<KeyedIndex>> indexes_;
};

}  // namespace logbell::engine

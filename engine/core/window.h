// Window storage: what was matched and when, kept as long as a window can still cover it.
//
// Owned by the core thread. Time is always passed in. Exact to the millisecond: the windows of DESIGN.md §3
// are (t - W, t]. Counts are found by binary search over running totals, so a window's length costs nothing.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "engine/core/batch.h"
#include "engine/core/keyed_window.h"
#include "engine/core/match_times.h"
#include "engine/core/match_values.h"
#include "rules/count_precision.h"
#include "rules/labels.h"
#include "rules/pattern.h"
#include "rules/time.h"

namespace logbell::engine {

// One series of a pattern: its label values, in the order of PatternSpec::labels.
struct Series {
  std::vector<std::string> values;
  MatchTimes times;
  MatchValues numbers;                            // the pattern's `value:` of them, where a rule asks for it
  rules::Timestamp first_seen = rules::kLongAgo;  // not there before; kLongAgo: expected from the start
  bool expected = false;                          // never forgotten
  // The block that was last noted as to be written, from its first instant to the one behind it: what else comes in it
  // need not be noted again.
  rules::Timestamp noted_from = rules::kLongAgo;
  rules::Timestamp noted_to = rules::kLongAgo;
  std::uint64_t noted_in = 0;  // of the changes since which save()
};

// Every series of one pattern, bounded, stored in blocks.
class PatternWindow {
 public:
  // Matches and values in memory per pattern: 16 bytes a match, 19 a value, 19 MiB a pattern. Beyond it old matches are
  // merged, as far as CountPrecision lets them; where that is not enough the pattern is unknown, counted.
  static constexpr std::size_t kMaxPoints = 1'000'000;
  // Where a rule compares a count with a larger number, half as many more than that, so that it stays exact, up to this.
  static constexpr std::size_t kMostPoints = 8'000'000;
  static std::size_t most_points(const rules::CountPrecision& precision);
  // The label value of the series that takes what is beyond max_series.
  static constexpr std::string_view kOverflow = "__other__";

  // `keeps_values`: a rule asks for more than counts. `keyed`: what rules ask for by key, each name once.
  PatternWindow(const rules::PatternSpec& spec, rules::Duration longest, bool keeps_values = false,
                const std::vector<rules::KeyedNeed>& keyed = {}, const rules::CountPrecision& precision = {});

  struct Added {
    bool overflowed = false;  // went to the overflow series
    bool full = false;        // not kept: the memory bound was met
    bool late = false;        // set by the caller
    bool is_new_kind = false;  // of add_keys(): of a template that nothing is known of
    std::vector<std::size_t> lacking;  // of add_keys(): the keyed windows that had no room for the key
  };
  // `has_room`: false where all patterns together hold as much as they may. `number`: NaN where there is
  // none.
  Added add(const std::vector<std::string>& values, rules::Timestamp at, std::uint64_t count,
            bool has_room = true, double number = std::numeric_limits<double>::quiet_NaN());

  // The same of a series that find() gave, which spares looking for it.
  Added add(Series& series, rules::Timestamp at, std::uint64_t count, bool has_room, double number);
  // Null: there is none yet. Valid until forget() or adopt().
  Series* find(const std::vector<std::string>& values);

  // The same match, by its keys. `values` and `keys` are parallel to the pattern's labels and keys; a key that is empty is
  // none.
  Added add_keys(const std::vector<std::string>& values, const std::vector<std::string>& keys, rules::Timestamp at,
                 bool has_room = true);

  // Forgets matches that no window ending after `clock` can cover, and series that are empty for long enough.
  // `in_use` says whether an active alert rests on a series of these values. Returns the forgotten series.
  std::vector<std::vector<std::string>> forget(rules::Timestamp clock,
                                               const std::set<std::vector<std::string>>& in_use);

  // Merges old matches (MatchTimes::thin); no rule that looks at them is behind `clock`. Returns how many points are
  // fewer.
  std::size_t make_room(rules::Timestamp clock);
  bool is_at_bound() const { return points_ >= most_points_; }
  std::size_t most_points() const { return most_points_; }
  // What is merged. Unset: nothing is.
  struct Merged {
    rules::Timestamp until;  // what came later is as it came
    rules::Duration past{0};  // for windows of the past no shorter than that; 0: for none
    // What was merged for an earlier plan, whose windows of the past were longer, or none: they are unknown before it.
    rules::Timestamp coarse_until = rules::kLongAgo;
    // The same of windows that end a while ago, but not so long: nothing was merged that they end in.
    rules::Duration lag{0};
    rules::Timestamp lag_coarse_until = rules::kLongAgo;
    rules::Duration past_reach{0};  // what windows of the past looked back to: beyond it they were not thought of
  };
  const std::optional<Merged>& merged() const { return merged_; }
  // As it was when what is restored was saved.
  void set_merged(const Merged& merged) { merged_ = merged; }
  // Since when what `call` asks for is as exact as this plan wants it, whatever an earlier one has merged.
  rules::Timestamp coarse_until(const rules::Expr& call) const;

  // Time was set back: forgets what was counted later than `at`.
  void forget_after(rules::Timestamp at);

  const std::map<std::vector<std::string>, Series>& series() const { return series_; }
  const rules::PatternSpec& spec() const { return spec_; }
  rules::Duration longest() const { return longest_; }
  bool keeps_values() const { return keeps_values_; }
  // Since when no match of it is missing. kLongAgo: since ever; Timestamp::max(): nobody watches.
  rules::Timestamp watched_from() const { return watched_from_; }
  void set_watched_from(rules::Timestamp from) { watched_from_ = from; }
  bool overflowing() const { return overflowing_; }
  bool full() const { return full_; }
  // Of its keyed windows too.
  std::size_t points() const;
  const std::vector<KeyedWindow>& keyed() const { return keyed_; }
  std::vector<KeyedWindow>& keyed() { return keyed_; }
  // The one with what `need` asks for; null: no rule of the plan did.
  const KeyedWindow* keyed(const rules::KeyedNeed& need) const;
  // How often forget() finds something to do.
  rules::Duration forget_step() const;

  // Writes what changed since the last call; reads back what was written, under keys that begin with
  // `prefix`.
  void save(const std::string& prefix, std::vector<StoredEntry>& out);
  // What changed is not to be written.
  void forget_changes();
  void restore(const std::string& prefix, const StoredEntry& entry);
  // Everything that was stored has been given to restore().
  void restored();
  // Erases everything that save() ever wrote under `prefix`: the pattern is no more.
  void erase_stored(const std::string& prefix, std::vector<StoredEntry>& out) const;
  // Matches of the last windows under new settings (a reload that kept the pattern).
  void adopt(PatternWindow&& old);

 private:
  std::int64_t block_of(rules::Timestamp at) const;
  std::string series_key(const std::vector<std::string>& values) const;
  void touch(Series& series, rules::Timestamp at);
  static std::string keyed_prefix(const std::string& prefix, const std::string& name);
  // What an earlier plan has merged is too coarse for this one.
  void find_coarse();
  void save_numbers(const std::string& prefix, const std::vector<std::string>& values, std::int64_t block,
                    std::vector<StoredEntry>& out);

  rules::PatternSpec spec_;
  rules::Duration longest_;
  bool keeps_values_;
  rules::Timestamp watched_from_ = rules::kLongAgo;
  rules::Duration
      block_;  // a block's span: a sixteenth of the longest window, so that little is written twice
  std::map<std::vector<std::string>, Series> series_;
  // By a key each, and where to find its values in a match.
  std::vector<KeyedWindow> keyed_;
  struct KeyedPlace {
    std::string name;  // of its need
    std::size_t key = 0;
    std::vector<std::size_t> labels;
  };
  std::vector<KeyedPlace> keyed_places_;
  std::vector<std::pair<std::string, KeyedWindow>> abandoned_;  // by name: to be erased from the store
  std::vector<std::string> unknown_;                            // keys of the store: the same
  std::size_t points_ = 0;
  rules::CountPrecision precision_;
  std::size_t most_points_;
  std::optional<Merged> merged_;
  bool restores_full_ = false;  // of what is read back, merging has not made room enough
  bool overflowing_ = false;
  bool full_ = false;
  // What must be written or erased: blocks by (series, number), and series themselves.
  std::set<std::pair<std::vector<std::string>, std::int64_t>> dirty_blocks_;
  std::uint64_t saves_ = 1;  // how often it was emptied
  std::set<std::vector<std::string>> dirty_series_;
  std::map<std::vector<std::string>, std::set<std::int64_t>> stored_blocks_;
  std::map<std::vector<std::string>, std::set<std::int64_t>>
      stored_numbers_;  // those with values, under "v/"
};

}  // namespace logbell::engine

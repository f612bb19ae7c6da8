#include "engine/core/window.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include <fmt/format.h>

#include "rules/json.h"

namespace logbell::engine {

using rules::Duration;
using rules::Json;
using rules::Timestamp;

namespace {

// A labelled series is forgotten this long after its last match, or after twice its longest window (DESIGN.md
// §3).
constexpr Duration kSeriesMemory = std::chrono::hours(24);

bool is_overflow(const std::vector<std::string>& values) {
  return !values.empty() && std::all_of(values.begin(), values.end(),
                                        [](const auto& v) { return v == PatternWindow::kOverflow; });
}

Duration block_span(Duration longest) {
  return std::max<Duration>(std::chrono::seconds(1), longest / 16);
}

}  // namespace

PatternWindow::PatternWindow(const rules::PatternSpec& spec, Duration longest, bool keeps_values,
                             const std::vector<rules::KeyedNeed>& keyed, const rules::CountPrecision& precision)
    : spec_(spec),
      longest_(longest),
      keeps_values_(keeps_values),
      block_(block_span(longest)),
      precision_(precision),
      most_points_(most_points(precision)) {
  const auto place_in = [](const std::vector<std::string>& names, const std::string& name) {
    const auto found = std::find(names.begin(), names.end(), name);
    LOGBELL_CHECK(found != names.end());
    return static_cast<std::size_t>(found - names.begin());
  };
  for (const rules::KeyedNeed& need : keyed) {
    KeyedPlace place{need.name(), place_in(spec_.keys, need.key), {}};
    for (const std::string& label : need.labels)
      place.labels.push_back(place_in(spec_.labels, label));
    keyed_.emplace_back(need);
    keyed_places_.push_back(std::move(place));
  }
  for (const rules::Labels& labels : spec_.expect) {
    std::vector<std::string> values;
    for (const std::string& name : spec_.labels)
      values.emplace_back(labels.get(name));
    Series& series = series_[values];
    series.values = values;
    series.expected = true;
  }
  if (spec_.labels.empty()) {
    series_[{}].expected = true;
  }
}

std::size_t PatternWindow::most_points(const rules::CountPrecision& precision) {
  const auto exact = static_cast<std::size_t>(std::min<std::uint64_t>(precision.exact, kMostPoints));
  return std::clamp(exact + exact / 2, kMaxPoints, kMostPoints);
}

std::int64_t PatternWindow::block_of(Timestamp at) const {
  return MatchTimes::block_of(at, block_);
}

void PatternWindow::touch(Series& series, Timestamp at) {
  if (series.noted_in == saves_ && at >= series.noted_from && at < series.noted_to) return;
  const std::int64_t block = block_of(at);
  dirty_blocks_.emplace(series.values, block);
  series.noted_in = saves_;
  series.noted_from = rules::from_unix_ms(block * block_.count());
  series.noted_to = series.noted_from + block_;
}

Series* PatternWindow::find(const std::vector<std::string>& values) {
  const auto found = series_.find(values);
  return found == series_.end() ? nullptr : &found->second;
}

PatternWindow::Added PatternWindow::add(const std::vector<std::string>& values, Timestamp at,
                                        std::uint64_t count, bool has_room, double number) {
  Added added;
  auto found = series_.find(values);
  if (found == series_.end()) {
    if (series_.size() >= spec_.max_series) {
      added.overflowed = overflowing_ = true;
      const std::vector<std::string> other(spec_.labels.size(), std::string(kOverflow));
      found = series_.try_emplace(other).first;
      found->second.values = other;
    } else {
      found = series_.try_emplace(values).first;
      found->second.values = values;
    }
    if (found->second.times.empty() && !found->second.expected &&
        found->second.first_seen == rules::kLongAgo) {
      found->second.first_seen = at;
      dirty_series_.insert(found->first);
    }
  }
  const bool overflowed = added.overflowed;
  added = add(found->second, at, count, has_room, number);
  added.overflowed = overflowed;
  return added;
}

PatternWindow::Added PatternWindow::add(Series& series, Timestamp at, std::uint64_t count, bool has_room,
                                        double number) {
  Added added;
  if (!series.expected && at < series.first_seen) {
    series.first_seen = at;
    dirty_series_.insert(series.values);
  }
  if (is_at_bound() || !has_room) {
    added.full = full_ = true;
    return added;
  }
  const std::size_t before = series.times.size();
  series.times.add(at, count);
  points_ += series.times.size() - before;
  if (keeps_values_ && std::isfinite(number)) {
    series.numbers.add(at, number);
    ++points_;
  }
  touch(series, at);
  return added;
}

PatternWindow::Added PatternWindow::add_keys(const std::vector<std::string>& values,
                                             const std::vector<std::string>& keys, Timestamp at, bool has_room) {
  Added added;
  std::vector<std::string_view> labels;
  for (std::size_t i = 0; i < keyed_.size(); ++i) {
    const KeyedPlace& place = keyed_places_[i];
    if (keys[place.key].empty()) continue;
    labels.clear();
    for (const std::size_t label : place.labels)
      labels.emplace_back(values[label]);
    const KeyedWindow::Added one = keyed_[i].add(keys[place.key], labels, at, has_room);
    added.full = added.full || one.full;
    added.is_new_kind = added.is_new_kind || one.is_new_kind;
    if (one.dropped) added.lacking.push_back(i);
  }
  return added;
}

std::size_t PatternWindow::points() const {
  std::size_t points = points_;
  for (const KeyedWindow& keyed : keyed_)
    points += keyed.points();
  return points;
}

const KeyedWindow* PatternWindow::keyed(const rules::KeyedNeed& need) const {
  const std::string name = need.name();
  for (std::size_t i = 0; i < keyed_.size(); ++i) {
    if (keyed_places_[i].name == name) return &keyed_[i];
  }
  return nullptr;
}

Duration PatternWindow::forget_step() const {
  // Matches of a key that are kept until then are more than its last one.
  constexpr Duration kKeyedStep = std::chrono::minutes(1);
  Duration step = longest_ / 16;
  for (const KeyedWindow& keyed : keyed_)
    step = std::max(step, std::min(kKeyedStep, keyed.need().reach / 16));
  return std::max<Duration>(std::chrono::seconds(1), keyed_.empty() ? step : std::min(step, kKeyedStep));
}

std::string PatternWindow::keyed_prefix(const std::string& prefix, const std::string& name) {
  return fmt::format("{}k/{}/", prefix, name);
}

std::vector<std::vector<std::string>> PatternWindow::forget(
    Timestamp clock, const std::set<std::vector<std::string>>& in_use) {
  std::vector<std::vector<std::string>> forgotten;
  if (clock == rules::kLongAgo) return forgotten;
  for (KeyedWindow& keyed : keyed_)
    keyed.forget(clock);
  const Timestamp until = clock - longest_;
  const Duration memory = std::max(kSeriesMemory, 2 * longest_);
  for (auto it = series_.begin(); it != series_.end();) {
    Series& series = it->second;
    const bool had_any = !series.times.empty();
    const Timestamp newest = had_any ? series.times.newest() : series.first_seen;
    const std::size_t before = series.times.size() + series.numbers.size();
    series.numbers.forget(until);
    // The newest point stays as the memory of when the series was last seen, out of every window's sight.
    series.times.forget(had_any ? std::min(until, newest - Duration(1)) : until);
    points_ -= before - series.times.size() - series.numbers.size();
    auto& blocks = stored_blocks_[it->first];
    while (!blocks.empty() && *blocks.begin() < block_of(std::min(until, had_any ? newest : until))) {
      dirty_blocks_.emplace(it->first, *blocks.begin());
      blocks.erase(blocks.begin());
    }
    if (series.expected || newest + memory > clock || in_use.count(it->first) != 0) {
      ++it;
      continue;
    }
    points_ -= series.times.size() + series.numbers.size();
    for (const std::int64_t block : blocks)
      dirty_blocks_.emplace(it->first, block);
    stored_blocks_.erase(it->first);
    dirty_series_.insert(it->first);
    forgotten.push_back(it->first);
    it = series_.erase(it);
  }
  if (points_ < most_points_ / 2) full_ = false;
  if (merged_ && merged_->until <= until) merged_.reset();
  if (series_.size() < spec_.max_series) overflowing_ = false;
  return forgotten;
}

std::size_t PatternWindow::make_room(Timestamp clock) {
  if (clock == rules::kLongAgo) return 0;
  const std::size_t before = points_;
  for (auto& [values, series] : series_) {
    const std::size_t size = series.times.size();
    const std::optional<Timestamp> newest =
        series.times.thin({clock - precision_.lag, precision_.exact, precision_.past, clock - precision_.past_reach});
    if (!newest) continue;
    points_ -= size - series.times.size();
    if (!merged_) merged_ = Merged{*newest, precision_.past, rules::kLongAgo, precision_.lag, rules::kLongAgo, precision_.past_reach};
    merged_->until = std::max(merged_->until, *newest);
    merged_->past = precision_.past;
    merged_->past_reach = precision_.past_reach;
    merged_->lag = precision_.lag;
    touch(series, *newest);
    for (const std::int64_t block : stored_blocks_[values]) {
      if (block <= block_of(*newest)) dirty_blocks_.emplace(values, block);
    }
  }
  return before - points_;
}

Timestamp PatternWindow::coarse_until(const rules::Expr& call) const {
  if (!merged_ || call.asks_keys() || call.asks_values()) return rules::kLongAgo;
  if (rules::ends_in_past(call)) return std::max(merged_->coarse_until, merged_->lag_coarse_until);
  return call.range_offset > Duration(0) || call.looks > 1 ? merged_->lag_coarse_until : rules::kLongAgo;
}

void PatternWindow::find_coarse() {
  if (!merged_) return;
  if (precision_.lag > merged_->lag) {
    merged_->lag = precision_.lag;
    merged_->lag_coarse_until = merged_->until;
  }
  if (precision_.past == Duration(0)) return;
  const bool fine_enough = merged_->past > Duration(0) && merged_->past <= precision_.past;
  if (fine_enough && merged_->past_reach >= precision_.past_reach) return;
  merged_->past = precision_.past;
  merged_->past_reach = precision_.past_reach;
  merged_->coarse_until = merged_->until;
}

void PatternWindow::forget_after(Timestamp at) {
  if (merged_) {
    merged_->until = std::min(merged_->until, at);
    merged_->coarse_until = std::min(merged_->coarse_until, at);
    merged_->lag_coarse_until = std::min(merged_->lag_coarse_until, at);
  }
  for (KeyedWindow& keyed : keyed_)
    keyed.forget_after(at);
  for (auto& [values, series] : series_) {
    const std::size_t before = series.times.size() + series.numbers.size();
    series.times.forget_after(at);
    series.numbers.forget_after(at);
    points_ -= before - series.times.size() - series.numbers.size();
    if (!series.expected && series.first_seen > at) {
      series.first_seen = at;
      dirty_series_.insert(values);
    }
    for (const std::int64_t block : stored_blocks_[values]) {
      if (block >= block_of(at)) dirty_blocks_.emplace(values, block);
    }
  }
}

std::string PatternWindow::series_key(const std::vector<std::string>& values) const {
  // The values themselves, escaped by JSON: no hash, so no collision can join two series.
  Json list{Json::Array{}};
  for (const std::string& value : values)
    list.push(Json(value));
  return list.dump();
}

void PatternWindow::save(const std::string& prefix, std::vector<StoredEntry>& out) {
  for (const auto& values : dirty_series_) {
    const auto found = series_.find(values);
    const std::string key = fmt::format("{}s/{}", prefix, series_key(values));
    if (found == series_.end()) {
      out.push_back({key, std::nullopt});
    } else {
      out.push_back({key, std::to_string(rules::to_unix_ms(found->second.first_seen))});
    }
  }
  for (const auto& [values, block] : dirty_blocks_) {
    const std::string key = fmt::format("{}b/{}/{}", prefix, block, series_key(values));
    const auto found = series_.find(values);
    std::string text;
    if (found != series_.end()) text = found->second.times.format_block(block, block_);
    if (text.empty()) {
      out.push_back({key, std::nullopt});
      if (found != series_.end()) stored_blocks_[values].erase(block);
    } else {
      out.push_back({key, std::move(text)});
      stored_blocks_[values].insert(block);
    }
    save_numbers(prefix, values, block, out);
  }
  for (const std::string& key : unknown_)
    out.push_back({key, std::nullopt});
  for (const auto& [name, keyed] : abandoned_)
    keyed.erase_stored(keyed_prefix(prefix, name), out);
  for (std::size_t i = 0; i < keyed_.size(); ++i)
    keyed_[i].save(keyed_prefix(prefix, keyed_places_[i].name), out);
  forget_changes();
}

void PatternWindow::forget_changes() {
  unknown_.clear();
  abandoned_.clear();
  for (KeyedWindow& keyed : keyed_)
    keyed.forget_changes();
  dirty_series_.clear();
  dirty_blocks_.clear();
  ++saves_;
}

// The values of a block beside its counts, under a key that those who know only counts pass over.
void PatternWindow::save_numbers(const std::string& prefix, const std::vector<std::string>& values,
                                 std::int64_t block, std::vector<StoredEntry>& out) {
  const auto stored = stored_numbers_.find(values);
  if (!keeps_values_ && stored == stored_numbers_.end()) return;
  const std::string key = fmt::format("{}v/{}/{}", prefix, block, series_key(values));
  const auto found = series_.find(values);
  std::string text;
  if (keeps_values_ && found != series_.end()) {
    const Timestamp from = rules::from_unix_ms(block * block_.count() - 1);
    std::int64_t last = 0;
    for (const auto& [at, number] : found->second.numbers.points(from, from + block_)) {
      text += fmt::format("{}={} ", rules::to_unix_ms(at) - last, number);
      last = rules::to_unix_ms(at);
    }
  }
  if (!text.empty()) {
    out.push_back({key, std::move(text)});
    stored_numbers_[values].insert(block);
  } else if (stored != stored_numbers_.end() && stored->second.erase(block) != 0) {
    out.push_back({key, std::nullopt});
    if (stored->second.empty()) stored_numbers_.erase(stored);
  }
}

void PatternWindow::restore(const std::string& prefix, const StoredEntry& entry) {
  if (!entry.value || entry.key.compare(0, prefix.size(), prefix) != 0) return;
  const std::string_view rest = std::string_view(entry.key).substr(prefix.size());
  const auto read_values = [&](std::string_view text) -> std::optional<std::vector<std::string>> {
    const auto parsed = Json::parse(text);
    if (!parsed || parsed->array().size() != spec_.labels.size()) return std::nullopt;
    std::vector<std::string> values;
    for (const Json& value : parsed->array())
      values.emplace_back(value.string());
    return values;
  };
  if (rest.substr(0, 2) == "k/") {
    for (std::size_t i = 0; i < keyed_.size(); ++i) {
      const std::string mine = keyed_prefix(prefix, keyed_places_[i].name);
      if (entry.key.compare(0, mine.size(), mine) == 0) return keyed_[i].restore(mine, entry);
    }
    // No rule asks for it any more.
    unknown_.push_back(entry.key);
    return;
  }
  if (rest.substr(0, 2) == "s/") {
    const auto values = read_values(rest.substr(2));
    if (!values || rest.substr(2) != series_key(*values)) return;
    Series& series = series_[*values];
    series.values = *values;
    overflowing_ = overflowing_ || is_overflow(*values);
    std::int64_t ms = 0;
    std::from_chars(entry.value->data(), entry.value->data() + entry.value->size(), ms);
    if (!series.expected) series.first_seen = rules::from_stored_ms(ms);
    return;
  }
  const bool numbers = rest.substr(0, 2) == "v/";
  if (!numbers && rest.substr(0, 2) != "b/") return;
  const std::size_t slash = rest.find('/', 2);
  if (slash == std::string_view::npos) return;
  std::int64_t block = 0;
  std::from_chars(rest.data() + 2, rest.data() + slash, block);
  const auto values = read_values(rest.substr(slash + 1));
  // Under a key that is not written as ours it would never be written over; and in a block no time lies in,
  // nothing can be.
  const std::int64_t last_block = rules::kMaxStoredMs / block_.count();
  if (!values || rest != fmt::format("{}/{}/{}", numbers ? "v" : "b", block, series_key(*values)) ||
      block < -last_block || block > last_block)
    return;
  Series& series = series_[*values];
  series.values = *values;
  if (numbers) {
    stored_numbers_[*values].insert(block);
    // No rule asks for them any more: they are erased.
    if (!keeps_values_) {
      dirty_blocks_.emplace(*values, block);
      stored_blocks_[*values].insert(block);
      return;
    }
  }
  std::int64_t last = 0;
  const char* at = entry.value->data();
  const char* end = at + entry.value->size();
  while (at < end) {
    std::int64_t step = 0;
    std::uint64_t count = 0;
    double number = 0;
    auto read = std::from_chars(at, end, step);
    if (read.ec != std::errc() || read.ptr == end || *read.ptr != (numbers ? '=' : '+')) break;
    read = numbers ? std::from_chars(read.ptr + 1, end, number) : std::from_chars(read.ptr + 1, end, count);
    if (read.ec != std::errc() || !std::isfinite(number)) break;
    if (step < -rules::kMaxStoredMs || step > rules::kMaxStoredMs) break;
    last += step;
    if (last < -rules::kMaxStoredMs || last > rules::kMaxStoredMs) break;
    // The rules of an earlier plan needed more of it.
    if (is_at_bound() && !restores_full_) restores_full_ = make_room(rules::from_unix_ms(last)) < most_points_ / 16;
    if (is_at_bound()) {
      full_ = true;
      break;
    }
    if (numbers) {
      series.numbers.add(rules::from_unix_ms(last), number);
      ++points_;
    } else {
      const std::size_t before = series.times.size();
      series.times.add(rules::from_unix_ms(last), count);
      points_ += series.times.size() - before;
    }
    // Written under another span (the rule's window has changed): these matches belong to other blocks now.
    if (block_of(rules::from_unix_ms(last)) != block) {
      touch(series, rules::from_unix_ms(last));
      dirty_blocks_.emplace(*values, block);
    }
    at = read.ptr + 1;
  }
  stored_blocks_[*values].insert(block);
}

void PatternWindow::restored() {
  find_coarse();
  for (KeyedWindow& keyed : keyed_)
    keyed.restored();
}

void PatternWindow::erase_stored(const std::string& prefix, std::vector<StoredEntry>& out) const {
  for (const auto& [values, blocks] : stored_blocks_) {
    for (const std::int64_t block : blocks)
      out.push_back({fmt::format("{}b/{}/{}", prefix, block, series_key(values)), std::nullopt});
  }
  for (const auto& [values, blocks] : stored_numbers_) {
    for (const std::int64_t block : blocks)
      out.push_back({fmt::format("{}v/{}/{}", prefix, block, series_key(values)), std::nullopt});
  }
  for (const auto& [values, series] : series_)
    out.push_back({fmt::format("{}s/{}", prefix, series_key(values)), std::nullopt});
  for (std::size_t i = 0; i < keyed_.size(); ++i)
    keyed_[i].erase_stored(keyed_prefix(prefix, keyed_places_[i].name), out);
  for (const std::string& key : unknown_)
    out.push_back({key, std::nullopt});
  for (const auto& [name, keyed] : abandoned_)
    keyed.erase_stored(keyed_prefix(prefix, name), out);
}

void PatternWindow::adopt(PatternWindow&& old) {
  for (auto& [values, series] : old.series_) {
    Series& mine = series_[values];
    const bool expected = mine.expected;
    mine = std::move(series);
    mine.expected = expected;
    mine.noted_in = 0;
    // Blocks may have another span now: everything is written anew.
    for (const auto& [at, count] : mine.times.points(rules::kLongAgo, Timestamp::max()))
      touch(mine, at);
    if (!mine.expected) dirty_series_.insert(values);
    if (keeps_values_) continue;
    old.points_ -= mine.numbers.size();
    mine.numbers.clear();
  }
  points_ = old.points_;
  full_ = old.full_;
  merged_ = old.merged_;
  find_coarse();
  overflowing_ = old.overflowing_;
  stored_blocks_ = std::move(old.stored_blocks_);
  stored_numbers_ = std::move(old.stored_numbers_);
  unknown_ = std::move(old.unknown_);
  abandoned_ = std::move(old.abandoned_);
  for (std::size_t i = 0; i < old.keyed_.size(); ++i) {
    const std::string& name = old.keyed_places_[i].name;
    const auto mine = std::find_if(keyed_places_.begin(), keyed_places_.end(),
                                   [&](const KeyedPlace& place) { return place.name == name; });
    if (mine == keyed_places_.end()) {
      abandoned_.emplace_back(name, std::move(old.keyed_[i]));
    } else {
      keyed_[static_cast<std::size_t>(mine - keyed_places_.begin())].adopt(std::move(old.keyed_[i]));
    }
  }
  // And what stands under the old numbers is written over or erased.
  for (const auto& [values, blocks] : stored_blocks_) {
    for (const std::int64_t block : blocks)
      dirty_blocks_.emplace(values, block);
  }
}

}  // namespace logbell::engine

#include "tests/sim/model.h"

#include <algorithm>

namespace logbell::sim {

void Lines::add(Kind kind, const std::string& queue, Ms at) {
  std::vector<Ms>& times = at_[{kind, queue}];
  times.insert(std::upper_bound(times.begin(), times.end(), at), at);
}

double Lines::count(Kind kind, const std::string& queue, Ms window, Ms now) const {
  const auto found = at_.find({kind, queue});
  if (found == at_.end()) return 0;
  const std::vector<Ms>& times = found->second;
  return static_cast<double>(std::upper_bound(times.begin(), times.end(), now) -
                             std::upper_bound(times.begin(), times.end(), now - window));
}

void Lines::forget(Kind kind) {
  std::erase_if(at_, [&](const auto& entry) { return entry.first.first == kind; });
}

std::vector<std::string> Lines::queues(Ms now) const {
  std::vector<std::string> found;
  for (const auto& [key, times] : at_) {
    if (key.first == Kind::kError && !times.empty() && times.front() <= now) found.push_back(key.second);
  }
  return found;
}

std::optional<Ms> Lines::next_change(Kind kind, const std::vector<Ms>& windows, Ms from) const {
  std::optional<Ms> next;
  for (const auto& [key, times] : at_) {
    if (key.first != kind) continue;
    const auto consider = [&next, from, &times = times](Ms shift) {
      const auto at = std::upper_bound(times.begin(), times.end(), from - shift);
      if (at != times.end() && (!next || *at + shift < *next)) next = *at + shift;
    };
    consider(0);
    for (const Ms window : windows)
      consider(window);
  }
  return next;
}

namespace {

Result one(bool holds, double value) {
  return holds ? Result{{"", value}} : Result{};
}

double errors(const Lines& lines, Ms window, Ms now) {
  double sum = 0;
  for (const std::string& queue : lines.queues(now))
    sum += lines.count(Kind::kError, queue, window, now);
  return sum;
}

}  // namespace

const std::vector<RuleText>& rule_texts() {
  static const std::vector<RuleText> kAll{
      {"Burst",
       "sum by (queue) (count_over_time(error[10s])) >= 3",
       "critical",
       0,
       0,
       {10 * kSecond},
       {Kind::kError},
       {"app"},
       true,
       false,
       [](const Lines& lines, Ms now) {
         Result result;
         for (const std::string& queue : lines.queues(now)) {
           const double count = lines.count(Kind::kError, queue, 10 * kSecond, now);
           if (count >= 3) result[queue] = count;
         }
         return result;
       }},
      {"Slow",
       "count_over_time(slow[15s]) > 2",
       "warning",
       5 * kSecond,
       8 * kSecond,
       {15 * kSecond},
       {Kind::kSlow},
       {"app"},
       true,
       false,
       [](const Lines& lines, Ms now) {
         const double count = lines.count(Kind::kSlow, "", 15 * kSecond, now);
         return one(count > 2, count);
       }},
      {"NoBeat",
       "count_over_time(beat[20s]) == 0",
       "critical",
       3 * kSecond,
       0,
       {20 * kSecond},
       {Kind::kBeat},
       {"web"},
       false,
       true,
       [](const Lines& lines, Ms now) {
         return one(lines.count(Kind::kBeat, "", 20 * kSecond, now) == 0, 0);
       }},
      {"Ratio",
       "sum(count_over_time(request{status=~\"5..\"}[12s])) / sum(count_over_time(request[12s])) > 0.5 and "
       "sum(count_over_time(request[12s])) >= 4",
       "warning",
       2 * kSecond,
       0,
       {12 * kSecond},
       {Kind::kOk, Kind::kFailed},
       {"web"},
       true,
       false,
       [](const Lines& lines, Ms now) {
         const double failed = lines.count(Kind::kFailed, "", 12 * kSecond, now);
         const double all = failed + lines.count(Kind::kOk, "", 12 * kSecond, now);
         return one(all >= 4 && failed / all > 0.5, failed / all);
       }},
      {"QueueQuiet",
       "count_over_time(error[25s]) < 2",
       "warning",
       0,
       6 * kSecond,
       {25 * kSecond},
       {Kind::kError},
       {"app"},
       false,
       true,
       [](const Lines& lines, Ms now) {
         Result result;
         for (const std::string& queue : lines.queues(now)) {
           const double count = lines.count(Kind::kError, queue, 25 * kSecond, now);
           if (count < 2) result[queue] = count;
         }
         return result;
       }},
      {"Both",
       "sum(count_over_time(error[18s])) > 1 unless count_over_time(beat[30s]) > 4",
       "warning",
       0,
       0,
       {18 * kSecond, 30 * kSecond},
       {Kind::kError, Kind::kBeat},
       {"app", "web"},
       true,
       true,
       [](const Lines& lines, Ms now) {
         const double count = errors(lines, 18 * kSecond, now);
         return one(count > 1 && !(lines.count(Kind::kBeat, "", 30 * kSecond, now) > 4), count);
       }},
      {"Fresh",
       "count_over_time(fresh[1m]) >= 1",
       "critical",
       0,
       0,
       {60 * kSecond},
       {Kind::kFresh},
       {"app"},
       true,
       false,
       [](const Lines& lines, Ms now) {
         const double count = lines.count(Kind::kFresh, "", 60 * kSecond, now);
         return one(count >= 1, count);
       }},
      // The last: a reload adds it and takes it away, with its pattern.
      {"Extra",
       "count_over_time(extra[8s]) >= 2",
       "critical",
       0,
       0,
       {8 * kSecond},
       {Kind::kExtra},
       {"app"},
       true,
       false,
       [](const Lines& lines, Ms now) {
         const double count = lines.count(Kind::kExtra, "", 8 * kSecond, now);
         return one(count >= 2, count);
       }},
  };
  return kAll;
}

Rule::Rule(const RuleText& text, Ms watched_from) : text_(&text), watched_from_(watched_from) {
  for_[watched_from] = text.for_ms;
  start_over();
}

void Rule::set_for(Ms at, Ms for_ms) {
  for_[at] = for_ms;
  if (clock_ >= at) start_over();  // that instant is looked at again
}

void Rule::remove(Ms at) {
  removed_at_ = at;
  if (clock_ >= at) start_over();
}

void Rule::start_over() {
  started_ = false;
  clock_ = watched_from_;
  active_.clear();
  episodes_.clear();
}

void Rule::end(const std::string& queue, const Active& active, Ms at) {
  if (!active.firing) return;
  episodes_.erase({text_->name, queue, active.fired_at, std::nullopt});
  episodes_.insert({text_->name, queue, active.fired_at, at});
}

void Rule::look(const Lines& lines, Ms now) {
  if (removed_at_ && now >= *removed_at_) {
    for (const auto& [queue, active] : active_)
      end(queue, active, *removed_at_);
    active_.clear();
    return;
  }
  const Ms longest = *std::max_element(text_->windows.begin(), text_->windows.end());
  const bool watched = now - longest >= watched_from_;
  const bool may_fire = watched || !text_->absence;
  const bool may_resolve = watched || !text_->presence;
  const Ms for_ms = std::prev(for_.upper_bound(now))->second;
  const Result result = text_->value(lines, now);
  for (auto at = active_.begin(); at != active_.end();) {
    Active& active = at->second;
    if (result.count(at->first) != 0) {
      active.absent_since.reset();
      if (!active.firing && may_fire && now - active.active_at >= for_ms) {
        active.firing = true;
        active.fired_at = now;
        episodes_.insert({text_->name, at->first, now, std::nullopt});
      }
      ++at;
      continue;
    }
    if (!may_resolve) {
      ++at;
      continue;
    }
    if (active.firing && text_->keep_ms > 0) {
      if (!active.absent_since) active.absent_since = now;
      if (now - *active.absent_since < text_->keep_ms) {
        ++at;
        continue;
      }
    }
    end(at->first, active, now);
    at = active_.erase(at);
  }
  if (!may_fire) return;
  for (const auto& [queue, value] : result) {
    if (active_.count(queue) != 0) continue;
    Active active;
    active.active_at = now;
    if (for_ms == 0) {
      active.firing = true;
      active.fired_at = now;
      episodes_.insert({text_->name, queue, now, std::nullopt});
    }
    active_.emplace(queue, active);
  }
}

std::optional<Ms> Rule::next(const Lines& lines, Ms from) const {
  std::optional<Ms> next;
  const auto consider = [&](std::optional<Ms> at) {
    if (at && *at > from && (!next || *at < *next)) next = at;
  };
  for (const Kind kind : text_->kinds)
    consider(lines.next_change(kind, text_->windows, from));
  consider(watched_from_ + *std::max_element(text_->windows.begin(), text_->windows.end()));
  for (const auto& [at, for_ms] : for_)
    consider(at);
  consider(removed_at_);
  const Ms for_ms = std::prev(for_.upper_bound(from))->second;
  for (const auto& [queue, active] : active_) {
    if (!active.firing) consider(active.active_at + for_ms);
    if (active.firing && active.absent_since) consider(*active.absent_since + text_->keep_ms);
  }
  return next;
}

void Rule::freeze(const Lines& lines) {
  run(lines, std::max(clock_, *removed_at_));
  frozen_ = true;
}

void Rule::run(const Lines& lines, Ms to) {
  if (frozen_) return;
  if (to < clock_) start_over();
  if (to < watched_from_) return;
  if (!started_) {
    started_ = true;
    look(lines, clock_);
  }
  while (const std::optional<Ms> at = next(lines, clock_)) {
    if (*at > to) break;
    clock_ = *at;
    look(lines, clock_);
  }
  clock_ = to;
}

std::set<State> Rule::states() const {
  std::set<State> states;
  for (const auto& [queue, active] : active_)
    states.insert({queue, active.firing, active.active_at, active.firing ? active.fired_at : 0});
  return states;
}

}  // namespace logbell::sim

#include "engine/core/keyed_spans.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <string>
#include <utility>

namespace logbell::engine {

using rules::Duration;
using rules::Expr;
using rules::KeyedFunction;
using rules::LabelMatcher;
using rules::Timestamp;

namespace {

constexpr std::size_t kMostOperands = 8;

bool selected(const Expr& operand, std::string_view id) {
  if (operand.matchers.empty()) return true;
  const std::vector<std::string_view> labels = KeyedWindow::labels_of(id);
  return std::all_of(operand.matchers.begin(), operand.matchers.end(), [&](const LabelMatcher& matcher) {
    if (matcher.name == operand.key) return matcher.matches(KeyedWindow::key_of(id));
    const auto at = std::find(operand.kept_labels.begin(), operand.kept_labels.end(), matcher.name);
    return matcher.matches(at == operand.kept_labels.end()
                               ? std::string_view()
                               : labels[static_cast<std::size_t>(at - operand.kept_labels.begin())]);
  });
}

// Spans that touch are one.
void add_span(Timestamp from, Timestamp until, std::vector<Span>& out) {
  if (!out.empty() && from <= out.back().until) {
    out.back().until = std::max(out.back().until, until);
  } else {
    out.push_back({from, until});
  }
}

void distinct_spans(const std::vector<Timestamp>& matches, Duration window, std::vector<Span>& out) {
  for (const Timestamp at : matches)
    add_span(at, at + window, out);
}

void first_seen_spans(const std::vector<Timestamp>& matches, Duration window, std::vector<Span>& out) {
  for (std::size_t i = 0; i < matches.size(); ++i) {
    if (i == 0 || matches[i - 1] <= matches[i] - window)
      out.push_back({matches[i], matches[i] + rules::kFirstSeenFor});
  }
}

void unanswered_spans(const std::vector<Timestamp>& asked, const std::vector<Timestamp>& answered,
                      Duration window, std::vector<Span>& out) {
  for (const Timestamp at : asked) {
    Timestamp until = at + 2 * window;
    const auto answer = std::lower_bound(answered.begin(), answered.end(), at);
    if (answer != answered.end()) until = std::min(until, *answer);
    if (at + window < until) add_span(at + window, until, out);
  }
}

using Point = std::pair<Timestamp, std::uint64_t>;

// The matches of each step, and which step looks for the same as another.
struct Steps {
  std::array<std::size_t, kMostOperands> same_as{};  // the first operand with this selector
  std::array<std::vector<Point>, kMostOperands> points;
};

// At each moment, `begun[i]` is when the latest of the sequences began whose steps up to the i-th have come.
// Lines of one moment come in whichever order they are wanted in, each once.
void sequence_spans(const Steps& steps, std::size_t count, Duration window, std::vector<Span>& out) {
  std::map<Timestamp, std::array<std::uint64_t, kMostOperands>> moments;
  for (std::size_t i = 0; i < count; ++i) {
    if (steps.same_as[i] != i) continue;
    for (const auto& [at, matches] : steps.points[i])
      moments[at][i] += matches;
  }
  std::array<Timestamp, kMostOperands> begun;
  begun.fill(rules::kLongAgo);
  for (const auto& [at, matches] : moments) {
    std::array<Timestamp, kMostOperands> next = begun;
    for (std::size_t first = 0; first < count; ++first) {
      const Timestamp start = first == 0 ? at : begun[first - 1];
      if (start == rules::kLongAgo) continue;
      std::array<std::uint64_t, kMostOperands> left = matches;
      for (std::size_t last = first; last < count && left[steps.same_as[last]] > 0; ++last) {
        --left[steps.same_as[last]];
        next[last] = std::max(next[last], start);
      }
    }
    begun = next;
    if (begun[count - 1] != rules::kLongAgo && begun[count - 1] + window > at)
      add_span(at, begun[count - 1] + window, out);
  }
}

// The matches of a key in an operand, of all of its labels that are asked for.
template <typename Take>
void each_of(const Expr& operand, const KeyedWindow& window, std::string_view key, Take take) {
  const auto& entries = window.entries();
  for (auto it = entries.lower_bound(key); it != entries.end() && KeyedWindow::key_of(it->first) == key;
       ++it) {
    if (selected(operand, it->first)) take(it->second.times);
  }
}

std::vector<Timestamp> times_of(const Expr& operand, const KeyedWindow& window, std::string_view key) {
  std::vector<Timestamp> times;
  each_of(operand, window, key,
          [&](const MatchTimes& one) { one.times(Timestamp::min(), Timestamp::max(), times); });
  std::sort(times.begin(), times.end());
  times.erase(std::unique(times.begin(), times.end()), times.end());
  return times;
}

// Those of a key that is new again while it still was have one element: as one.
std::vector<Span> joined(const std::vector<Span>& spans) {
  std::vector<Span> out;
  for (const Span& span : spans)
    add_span(span.from, span.until, out);
  return out;
}

bool is_by_id(const Expr& expr) {
  return expr.operands.size() == 1;
}

}  // namespace

void SpanCounter::change(Timestamp when, std::int64_t by) {
  const auto edge = edges_.try_emplace(when, 0).first;
  edge->second += by;
  if (edge->second == 0) edges_.erase(edge);
  if (when <= cursor_) count_ += by;
}

void SpanCounter::add(const Span& span) {
  change(span.from, 1);
  change(span.until, -1);
}

void SpanCounter::remove(const Span& span) {
  change(span.from, -1);
  change(span.until, 1);
}

std::int64_t SpanCounter::at(Timestamp when) const {
  for (auto edge = edges_.upper_bound(cursor_); edge != edges_.end() && edge->first <= when; ++edge)
    count_ += edge->second;
  for (auto edge = edges_.upper_bound(when); edge != edges_.end() && edge->first <= cursor_; ++edge)
    count_ -= edge->second;
  cursor_ = when;
  return count_;
}

std::pair<std::int64_t, std::int64_t> SpanCounter::bounds(Timestamp from, Timestamp to) const {
  std::int64_t count = at(from);
  std::pair<std::int64_t, std::int64_t> out(count, count);
  for (auto edge = edges_.upper_bound(from); edge != edges_.end() && edge->first <= to; ++edge) {
    count += edge->second;
    out.first = std::min(out.first, count);
    out.second = std::max(out.second, count);
  }
  return out;
}

const KeyedIndex* KeyedIndex::of(const Expr& expr, const WindowOf& window_of) {
  std::vector<const KeyedWindow*> windows;
  for (const rules::ExprPtr& operand : expr.operands) {
    windows.push_back(window_of(operand->pattern_index).keyed(operand->keyed_need()));
    if (windows.back() == nullptr) return nullptr;
  }
  // How far m_of_n() looks back decides how long what is over is kept.
  const Expr& first = *expr.operands.front();
  std::shared_ptr<KeyedIndex>& index = windows.front()->index_of(
      rules::format_expr(expr) + " " + std::to_string(((first.looks - 1) * first.again).count()));
  if (index == nullptr) index = std::make_shared<KeyedIndex>();
  index->refresh(expr, windows);
  return index.get();
}

void KeyedIndex::refresh(const Expr& expr, const std::vector<const KeyedWindow*>& windows) {
  windows_ = windows;
  changes_.resize(windows.size());
  bool all = false;
  std::set<std::string, std::less<>> units;
  Timestamp clock = rules::kLongAgo;
  for (std::size_t i = 0; i < windows.size(); ++i) {
    if (!windows[i]->is_watched_by(changes_[i])) changes_[i] = windows[i]->watch();
    KeyedWindow::Changes& changes = *changes_[i];
    all = all || changes.all;
    clock = std::max(clock, changes.clock);
    for (const std::string& id : changes.ids)
      units.emplace(is_by_id(expr) ? std::string_view(id) : KeyedWindow::key_of(id));
    changes.all = false;
    changes.ids.clear();
  }
  if (all) {
    begins_.clear();
    spans_.clear();
    counters_.clear();
    std::string_view last;
    bool any = false;
    for (const auto& [id, entry] : windows.front()->entries()) {
      const std::string_view unit = is_by_id(expr) ? std::string_view(id) : KeyedWindow::key_of(id);
      if (any && unit == last) continue;
      compute(expr, unit);
      last = unit;
      any = true;
    }
  } else {
    for (const std::string& unit : units)
      compute(expr, unit);
  }
  if (clock > pruned_ || all) prune(expr, clock);
}

void KeyedIndex::compute(const Expr& expr, std::string_view unit) {
  std::vector<Timestamp> matches;
  if (is_by_id(expr)) {
    const auto& entries = windows_.front()->entries();
    const auto entry = entries.find(unit);
    if (entry != entries.end() && selected(*expr.operands.front(), unit))
      entry->second.times.times(Timestamp::min(), Timestamp::max(), matches);
  } else {
    matches = times_of(*expr.operands.front(), *windows_.front(), unit);
  }
  std::vector<Span> spans;
  if (!matches.empty()) {
    switch (expr.keyed) {
      case KeyedFunction::kDistinct:
        distinct_spans(matches, expr.window, spans);
        break;
      case KeyedFunction::kFirstSeen:
      case KeyedFunction::kNewTemplate:
        first_seen_spans(matches, expr.window, spans);
        break;
      case KeyedFunction::kUnanswered:
        unanswered_spans(matches, times_of(*expr.operands[1], *windows_[1], unit), expr.window, spans);
        break;
      case KeyedFunction::kSequence: {
        Steps steps;
        for (std::size_t i = 0; i < expr.operands.size(); ++i) {
          steps.same_as[i] = i;
          for (std::size_t j = i; j-- > 0;) {
            if (rules::format_expr(*expr.operands[i]) == rules::format_expr(*expr.operands[j]))
              steps.same_as[i] = j;
          }
          if (steps.same_as[i] != i) continue;
          each_of(*expr.operands[i], *windows_[i], unit, [&](const MatchTimes& times) {
            const auto points = times.points(Timestamp::min(), Timestamp::max());
            steps.points[i].insert(steps.points[i].end(), points.begin(), points.end());
          });
        }
        sequence_spans(steps, expr.operands.size(), expr.window, spans);
        break;
      }
    }
  }
  replace(expr, unit, std::move(spans));
}

void KeyedIndex::replace(const Expr& expr, std::string_view unit, std::vector<Span> spans) {
  auto known = spans_.find(unit);
  if (known == spans_.end() && spans.empty()) return;
  SpanCounter& counter = counters_.try_emplace(std::string(labels_part(unit))).first->second;
  if (known != spans_.end()) {
    for (const Span& span : joined(known->second))
      counter.remove(span);
  }
  for (const Span& span : joined(spans))
    counter.add(span);
  if (counter.edges().empty()) counters_.erase(std::string(labels_part(unit)));
  const bool lists = expr.keyed != KeyedFunction::kDistinct;
  if (lists && known != spans_.end()) {
    for (const Span& span : known->second)
      begins_.erase({span, &known->first});
  }
  if (spans.empty()) {
    spans_.erase(known);
    return;
  }
  if (known == spans_.end()) known = spans_.try_emplace(std::string(unit)).first;
  known->second = std::move(spans);
  if (!lists) return;
  for (const Span& span : known->second)
    begins_.insert({span, &known->first});
}

std::optional<Timestamp> KeyedIndex::next_edge(Timestamp at, std::size_t most) const {
  std::optional<Timestamp> next;
  std::size_t there = 0;
  for (const Begin& begin : begins_) {
    if (there >= most) return next;
    const Timestamp edge = begin.span.from > at ? begin.span.from : begin.span.until;
    if (edge <= at) continue;
    if (!next || edge < *next) next = edge;
    if (begin.span.from > at) return next;
    ++there;
  }
  return next;
}

std::uint64_t KeyedIndex::untold(Timestamp at) const {
  std::uint64_t there = 0;
  if (!listed_) return there;
  for (const auto& [labels, counter] : counters_)
    there += static_cast<std::uint64_t>(std::max(counter.at(at), std::int64_t{0}));
  return there > kMaxElements ? there - kMaxElements : 0;
}

void KeyedIndex::prune(const Expr& expr, Timestamp clock) {
  pruned_ = clock;
  if (clock == rules::kLongAgo) return;
  const Expr& first = *expr.operands.front();
  const Timestamp over = clock - (first.looks - 1) * first.again;
  std::vector<std::string> gone;
  for (const auto& [unit, spans] : spans_) {
    if (spans.back().until <= over) gone.push_back(unit);
  }
  for (const std::string& unit : gone)
    replace(expr, unit, {});
}

}  // namespace logbell::engine

#include "engine/core/keyed_spans.h"

#include <algorithm>
#include <array>
#include <map>
#include <string>

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

void unanswered_spans(const std::vector<Timestamp>& asked, const std::vector<Timestamp>& answered, Duration window,
                      std::vector<Span>& out) {
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

// At each moment, `begun[i]` is when the latest of the sequences began whose steps up to the i-th have come. Lines of one
// moment come in whichever order they are wanted in, each once.
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

}  // namespace

void visit_keys(const Expr& expr, Timestamp from, const WindowOf& window_of,
                const std::function<void(const KeyedSpans&)>& visit) {
  std::array<const KeyedWindow*, kMostOperands> windows{};
  for (std::size_t i = 0; i < expr.operands.size(); ++i) {
    const Expr& operand = *expr.operands[i];
    windows[i] = window_of(operand.pattern_index).keyed(operand.keyed_need());
    if (windows[i] == nullptr) return;
  }
  const Expr& first = *expr.operands.front();
  const Duration reach = first.reach();
  const bool by_id = expr.operands.size() == 1;
  KeyedSpans found;
  std::vector<Timestamp> others;
  Steps steps;
  for (std::size_t i = 0; i < expr.operands.size(); ++i) {
    steps.same_as[i] = i;
    for (std::size_t j = i; j-- > 0;) {
      if (rules::format_expr(*expr.operands[i]) == rules::format_expr(*expr.operands[j])) steps.same_as[i] = j;
    }
  }
  // The matches of a key in an operand, of all of its labels that are asked for.
  const auto each_of = [&](std::size_t operand, std::string_view key, const auto& take) {
    const auto& entries = windows[operand]->entries();
    for (auto it = entries.lower_bound(key); it != entries.end() && KeyedWindow::key_of(it->first) == key; ++it) {
      if (selected(*expr.operands[operand], it->first)) take(it->second.times);
    }
  };
  const auto sort_out = [](std::vector<Timestamp>& times) {
    std::sort(times.begin(), times.end());
    times.erase(std::unique(times.begin(), times.end()), times.end());
  };
  const auto& entries = windows.front()->entries();
  for (auto it = entries.begin(); it != entries.end();) {
    found.id = by_id ? std::string_view(it->first) : KeyedWindow::key_of(it->first);
    found.spans.clear();
    found.matches.clear();
    Timestamp newest = rules::kLongAgo;
    do {
      const MatchTimes& times = it->second.times;
      if (!times.empty() && selected(first, it->first)) {
        newest = std::max(newest, times.newest());
        times.times(Timestamp::min(), Timestamp::max(), found.matches);
      }
      ++it;
    } while (!by_id && it != entries.end() && KeyedWindow::key_of(it->first) == found.id);
    // Nothing that began so long ago goes on.
    if (found.matches.empty() || newest + reach <= from) continue;
    if (!by_id) sort_out(found.matches);
    switch (expr.keyed) {
      case KeyedFunction::kDistinct:
        distinct_spans(found.matches, expr.window, found.spans);
        break;
      case KeyedFunction::kFirstSeen:
        first_seen_spans(found.matches, expr.window, found.spans);
        break;
      case KeyedFunction::kUnanswered:
        others.clear();
        each_of(1, found.id, [&](const MatchTimes& times) { times.times(Timestamp::min(), Timestamp::max(), others); });
        sort_out(others);
        unanswered_spans(found.matches, others, expr.window, found.spans);
        break;
      case KeyedFunction::kSequence:
        for (std::size_t i = 0; i < expr.operands.size(); ++i) {
          steps.points[i].clear();
          if (steps.same_as[i] != i) continue;
          each_of(i, found.id, [&](const MatchTimes& times) {
            const auto points = times.points(Timestamp::min(), Timestamp::max());
            steps.points[i].insert(steps.points[i].end(), points.begin(), points.end());
          });
        }
        sequence_spans(steps, expr.operands.size(), expr.window, found.spans);
        break;
    }
    std::erase_if(found.spans, [&](const Span& span) { return span.until <= from; });
    if (!found.spans.empty()) visit(found);
  }
}

}  // namespace logbell::engine

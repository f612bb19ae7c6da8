// When each key of a function such as unanswered_over_time() has its element.
//
// Owned by the core thread, as the windows are; windows and time are arguments. What follows from a window's
// keys is kept beside it (KeyedIndex) and made anew for the keys that have changed: with a hundred thousand
// of them a look costs what has changed, and what has an element.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "engine/core/evaluator.h"
#include "engine/core/keyed_window.h"
#include "rules/expr.h"
#include "rules/time.h"

namespace logbell::engine {

// From `from` on, and no longer at `until`.
struct Span {
  rules::Timestamp from;
  rules::Timestamp until;
  friend bool operator==(const Span&, const Span&) = default;
};

// How many spans hold at an instant. Asked about instants that are near each other, an answer costs the spans
// that begin or end between them.
class SpanCounter {
 public:
  void add(const Span& span);
  void remove(const Span& span);
  std::int64_t at(rules::Timestamp when) const;
  // The least and the most in [from, to].
  std::pair<std::int64_t, std::int64_t> bounds(rules::Timestamp from, rules::Timestamp to) const;
  // By how much it rises at an instant.
  const std::map<rules::Timestamp, std::int64_t>& edges() const { return edges_; }

 private:
  void change(rules::Timestamp when, std::int64_t by);

  std::map<rules::Timestamp, std::int64_t> edges_;
  mutable rules::Timestamp cursor_ = rules::kLongAgo;
  mutable std::int64_t count_ = 0;  // at the cursor
};

// The spans of every key of one function. That of distinct_over_time() is the time in which a key is counted;
// that of the others the time in which it has an element.
class KeyedIndex {
 public:
  // Elements of a function at one instant at most where each is an alert of a rule, those that began first. As of
  // max_series.
  static constexpr std::size_t kMaxElements = 1000;

  // Brought up to date. `expr`: a bound kKeyed. Null: a window does not keep what it asks for.
  static const KeyedIndex* of(const rules::Expr& expr, const WindowOf& window_of);

  // By the first operand's id in its KeyedWindow, or, of several operands, by the key alone. Some may be
  // over.
  using Spans = std::map<std::string, std::vector<Span>, std::less<>>;
  const Spans& spans() const { return spans_; }
  // How many keys have one, of each set of labels, by what stands behind the key in an id; of several operands, all of
  // them. Of new_template() two templates of one text are counted twice.
  const std::map<std::string, SpanCounter, std::less<>>& counters() const { return counters_; }
  // Not of distinct_over_time(): `take(unit, span)` for each span that is not over at `from` and begins by `to`, in the
  // order in which they begin: as many as can be among the first `most` at any instant of it.
  template <typename Take>
  void first_spans(rules::Timestamp from, rules::Timestamp to, std::size_t most, Take take) const {
    std::size_t lasting = 0;
    for (const Begin& begin : begins_) {
      if (begin.span.from > to) return;
      if (begin.span.until <= from) continue;
      if (begin.span.until > to && ++lasting > most) return;
      take(*begin.unit, begin.span);
    }
  }
  // The first instant after `at` at which one of those begins or ends.
  std::optional<rules::Timestamp> next_edge(rules::Timestamp at, std::size_t most) const;
  // How many elements there are at `at` beyond kMaxElements, if a rule lists them: as of what of() found last.
  std::uint64_t untold(rules::Timestamp at) const;
  void note_listed() const { listed_ = true; }

  const KeyedWindow& window() const { return *windows_.front(); }
  static std::string_view labels_part(std::string_view id) {
    return id.substr(KeyedWindow::key_of(id).size());
  }

 private:
  void refresh(const rules::Expr& expr, const std::vector<const KeyedWindow*>& windows);
  void compute(const rules::Expr& expr, std::string_view unit);
  void replace(const rules::Expr& expr, std::string_view unit, std::vector<Span> spans);
  void prune(const rules::Expr& expr, rules::Timestamp clock);

  std::vector<const KeyedWindow*> windows_;  // of the operands; set at each refresh
  std::vector<std::shared_ptr<KeyedWindow::Changes>> changes_;
  struct Begin {
    Span span;
    const std::string* unit;  // of spans_
    friend bool operator<(const Begin& a, const Begin& b) {
      return a.span.from != b.span.from ? a.span.from < b.span.from : *a.unit < *b.unit;
    }
  };

  Spans spans_;
  std::map<std::string, SpanCounter, std::less<>> counters_;
  std::set<Begin> begins_;  // but for distinct_over_time()
  mutable bool listed_ = false;
  rules::Timestamp pruned_ = rules::kLongAgo;
};

}  // namespace logbell::engine

// MatchValues: the numbers that the matches of one series hold, as long as a window can still cover them.
//
// Owned by the core thread. Time is always passed in. Sums are kept twice as precise as a double (Knuth's
// two-sum, Dekker's product), so that they do not depend on how matches came in batches or were stored and
// read back; they are kept in pieces and parts of those, so that a window costs as many steps as it has whole pieces,
// and a few for what it has of the first and the last.
#pragma once

#include <cstdint>
#include <deque>
#include <utility>
#include <vector>

#include "rules/time.h"

namespace logbell::engine {

// A sum with what its doubles have rounded off.
struct ExactSum {
  double high = 0;
  double low = 0;

  void add(double value);
  void add(const ExactSum& other);
  double value() const { return high + low; }
};

// What the values of a window come to.
struct ValueSummary {
  std::uint64_t count = 0;
  double least = 0;
  double most = 0;
  double first = 0;
  double last = 0;
  ExactSum sum;
  ExactSum squares;

  void add(double value);
  void add(const ValueSummary& later);
  double average() const { return sum.value() / static_cast<double>(count); }
  // The mean square of the distances from the average: of all values, not of a sample, as Prometheus has it.
  double variance() const;
};

class MatchValues {
 public:
  // Of one instant, in the order in which they come. `value` is finite.
  void add(rules::Timestamp at, double value);
  // Of the values in (from, to].
  ValueSummary summary(rules::Timestamp from, rules::Timestamp to) const;
  // Appends them, oldest first.
  void values(rules::Timestamp from, rules::Timestamp to, std::vector<double>& out) const;
  // With their times: for storing.
  std::vector<std::pair<rules::Timestamp, double>> points(rules::Timestamp from, rules::Timestamp to) const;
  // Forgets what is at or before `until`.
  void forget(rules::Timestamp until);
  // Forgets what is later than `at`.
  void forget_after(rules::Timestamp at);
  void clear();

  std::size_t size() const { return size_; }

 private:
  struct Point {
    rules::Timestamp at;
    double value;
  };
  // Neighbours in time, never none.
  struct Piece {
    std::vector<Point> points;
    std::vector<ValueSummary> parts;  // of kPart points each, the last of what is left
    ValueSummary summary;
    void append(Point point);
    void sum_up();
  };
  // Of each piece that has some, with the first of its points in (from, to] and the one behind the last.
  template <typename Visit>
  void visit(rules::Timestamp from, rules::Timestamp to, Visit visit) const;

  std::deque<Piece> pieces_;
  std::size_t size_ = 0;
};

}  // namespace logbell::engine

#include "engine/core/match_values.h"

#include <algorithm>
#include <cmath>

namespace logbell::engine {

using rules::Timestamp;

namespace {

// Values of a piece; one that late lines have filled to twice as many is cut in two.
constexpr std::size_t kPiece = 256;
// Values of a part: its summary is 72 bytes.
constexpr std::size_t kPart = 32;

ExactSum product(double a, double b) {
  const double high = a * b;
  return {high, std::fma(a, b, -high)};
}

bool before(Timestamp at, const auto& point) {
  return at < point.at;
}

}  // namespace

void ExactSum::add(double value) {
  const double sum = high + value;
  const double other = sum - high;
  // Beyond what a number can hold there is nothing to round.
  if (std::isfinite(sum)) low += (high - (sum - other)) + (value - other);
  high = sum;
}

void ExactSum::add(const ExactSum& other) {
  add(other.high);
  low += other.low;
}

void ValueSummary::add(double value) {
  if (count == 0) first = least = most = value;
  least = std::min(least, value);
  most = std::max(most, value);
  last = value;
  ++count;
  sum.add(value);
  squares.add(product(value, value));
}

void ValueSummary::add(const ValueSummary& later) {
  if (later.count == 0) return;
  if (count == 0) {
    *this = later;
    return;
  }
  least = std::min(least, later.least);
  most = std::max(most, later.most);
  last = later.last;
  count += later.count;
  sum.add(later.sum);
  squares.add(later.squares);
}

double ValueSummary::variance() const {
  if (least == most) return 0;
  const auto n = static_cast<double>(count);
  // (Σx² − (Σx)² / n) / n, in which nearly everything may cancel out.
  const double total = sum.value();
  const double rest = (sum.high - total) + sum.low;
  ExactSum square = product(total, total);
  square.low += 2 * total * rest;
  const double quotient = square.high / n;
  ExactSum distance = squares;
  distance.add(-quotient);
  distance.low -= (std::fma(-quotient, n, square.high) + square.low) / n;
  return std::max(distance.value(), 0.0) / n;
}

void MatchValues::Piece::append(Point point) {
  if (points.size() % kPart == 0) parts.emplace_back();
  points.push_back(point);
  parts.back().add(point.value);
  summary.add(point.value);
}

void MatchValues::Piece::sum_up() {
  std::vector<Point> all = std::move(points);
  points.clear();
  points.reserve(std::max(all.size(), kPiece));
  parts.clear();
  summary = {};
  for (const Point& point : all)
    append(point);
}

void MatchValues::add(Timestamp at, double value) {
  ++size_;
  if (pieces_.empty() || (at >= pieces_.back().points.back().at && pieces_.back().points.size() >= kPiece)) {
    pieces_.emplace_back();
    pieces_.back().points.reserve(kPiece);
  }
  // In order, as nearly all come, there is nothing to look for.
  if (Piece& last = pieces_.back(); last.points.empty() || last.points.back().at <= at) {
    last.append({at, value});
    return;
  }
  // The last piece that begins at or before it; the first, if none does.
  auto piece = std::upper_bound(pieces_.begin(), pieces_.end(), at, [](Timestamp t, const Piece& p) {
    return !p.points.empty() && t < p.points.front().at;
  });
  if (piece != pieces_.begin()) --piece;
  auto& points = piece->points;
  const auto place = std::upper_bound(points.begin(), points.end(), at, before<Point>);
  if (place == points.end() && points.size() + 1 < 2 * kPiece) return piece->append({at, value});
  points.insert(place, {at, value});
  if (points.size() >= 2 * kPiece) {
    Piece rest;
    rest.points.assign(points.begin() + kPiece, points.end());
    points.resize(kPiece);
    piece->sum_up();
    rest.sum_up();
    pieces_.insert(piece + 1, std::move(rest));
  } else {
    piece->sum_up();
  }
}

template <typename Visit>
void MatchValues::visit(Timestamp from, Timestamp to, Visit visit) const {
  auto piece = std::upper_bound(pieces_.begin(), pieces_.end(), from,
                                [](Timestamp t, const Piece& p) { return t < p.points.back().at; });
  for (; piece != pieces_.end() && piece->points.front().at <= to; ++piece) {
    const auto& points = piece->points;
    const auto first = points.front().at > from
                           ? points.begin()
                           : std::upper_bound(points.begin(), points.end(), from, before<Point>);
    const auto behind =
        points.back().at <= to ? points.end() : std::upper_bound(first, points.end(), to, before<Point>);
    visit(*piece, static_cast<std::size_t>(first - points.begin()),
          static_cast<std::size_t>(behind - points.begin()));
  }
}

ValueSummary MatchValues::summary(Timestamp from, Timestamp to) const {
  ValueSummary all;
  visit(from, to, [&](const Piece& piece, std::size_t at, std::size_t behind) {
    if (at == 0 && behind == piece.points.size()) return all.add(piece.summary);
    while (at < behind) {
      const std::size_t part_end = std::min((at / kPart + 1) * kPart, piece.points.size());
      if (at % kPart == 0 && part_end <= behind) {
        all.add(piece.parts[at / kPart]);
        at = part_end;
        continue;
      }
      for (const std::size_t end = std::min(part_end, behind); at < end; ++at)
        all.add(piece.points[at].value);
    }
  });
  return all;
}

void MatchValues::values(Timestamp from, Timestamp to, std::vector<double>& out) const {
  visit(from, to, [&](const Piece& piece, std::size_t at, std::size_t behind) {
    for (; at < behind; ++at)
      out.push_back(piece.points[at].value);
  });
}

std::vector<std::pair<Timestamp, double>> MatchValues::points(Timestamp from, Timestamp to) const {
  std::vector<std::pair<Timestamp, double>> out;
  visit(from, to, [&](const Piece& piece, std::size_t at, std::size_t behind) {
    for (; at < behind; ++at)
      out.emplace_back(piece.points[at].at, piece.points[at].value);
  });
  return out;
}

void MatchValues::forget(Timestamp until) {
  while (!pieces_.empty() && pieces_.front().points.back().at <= until) {
    size_ -= pieces_.front().points.size();
    pieces_.pop_front();
  }
  if (pieces_.empty() || pieces_.front().points.front().at > until) return;
  auto& points = pieces_.front().points;
  const auto kept = std::upper_bound(points.begin(), points.end(), until, before<Point>);
  size_ -= static_cast<std::size_t>(kept - points.begin());
  points.erase(points.begin(), kept);
  pieces_.front().sum_up();
}

void MatchValues::forget_after(Timestamp at) {
  while (!pieces_.empty() && pieces_.back().points.front().at > at) {
    size_ -= pieces_.back().points.size();
    pieces_.pop_back();
  }
  if (pieces_.empty() || pieces_.back().points.back().at <= at) return;
  auto& points = pieces_.back().points;
  const auto gone = std::upper_bound(points.begin(), points.end(), at, before<Point>);
  size_ -= static_cast<std::size_t>(points.end() - gone);
  points.erase(gone, points.end());
  pieces_.back().sum_up();
}

void MatchValues::clear() {
  pieces_.clear();
  size_ = 0;
}

}  // namespace logbell::engine

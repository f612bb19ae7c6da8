// MatchValues: against a plain list of all values, whatever order they come in.
#include "engine/core/match_values.h"

#include <algorithm>
#include <cmath>
#include <random>

#include <catch2/catch.hpp>

using namespace logbell;
using engine::MatchValues;
using engine::ValueSummary;
using rules::from_unix_ms;

TEST_CASE("match values: a window holds what a plain list holds", "[core][window]") {
  std::mt19937_64 random(5);  // NOLINT(cert-msc51-cpp): the same run every time
  const auto pick = [&](int n) { return static_cast<int>(random() % static_cast<std::uint64_t>(n)); };
  for (int round = 0; round < 60; ++round) {
    MatchValues kept;
    std::vector<std::pair<int, double>> plain;  // by time, then by arrival
    int now = 0;
    int looked = 0;
    for (int i = 0; i < 1500; ++i) {
      now += pick(3);
      // One in eight is late: somewhere, or where many more are.
      const int at = pick(8) != 0 ? now : pick(2) == 0 ? pick(now + 1) : now / 2;
      const double value = pick(2000) - 1000;
      kept.add(from_unix_ms(at), value);
      plain.insert(std::upper_bound(plain.begin(), plain.end(), at,
                                    [](int t, const auto& point) { return t < point.first; }),
                   {at, value});
      if (pick(200) == 0) {
        const int until = pick(now + 1);
        kept.forget(from_unix_ms(until));
        std::erase_if(plain, [&](const auto& point) { return point.first <= until; });
      }
      if (pick(400) == 0) {
        const int after = now - pick(now / 4 + 1);
        kept.forget_after(from_unix_ms(after));
        std::erase_if(plain, [&](const auto& point) { return point.first > after; });
      }
      REQUIRE(kept.size() == plain.size());
      if (pick(5) != 0) continue;
      const int from = pick(now + 2) - 1;
      const int to = from + pick(now + 2);
      std::vector<double> expected;
      for (const auto& [when, number] : plain) {
        if (when > from && when <= to) expected.push_back(number);
      }
      std::vector<double> got;
      kept.values(from_unix_ms(from), from_unix_ms(to), got);
      REQUIRE(got == expected);
      const ValueSummary summary = kept.summary(from_unix_ms(from), from_unix_ms(to));
      REQUIRE(summary.count == expected.size());
      if (expected.empty()) continue;
      ++looked;
      double sum = 0;
      for (const double number : expected)
        sum += number;
      double squares = 0;
      const double mean = sum / static_cast<double>(expected.size());
      for (const double number : expected)
        squares += (number - mean) * (number - mean);
      REQUIRE(summary.sum.value() == sum);  // whole numbers: exact
      REQUIRE(summary.least == *std::min_element(expected.begin(), expected.end()));
      REQUIRE(summary.most == *std::max_element(expected.begin(), expected.end()));
      REQUIRE(summary.first == expected.front());
      REQUIRE(summary.last == expected.back());
      REQUIRE(summary.variance() == Approx(squares / static_cast<double>(expected.size())).margin(1e-9));
    }
    REQUIRE(looked > 100);
  }
}

TEST_CASE("match values: sums do not depend on the order of what is summed", "[core][window]") {
  std::mt19937_64 random(6);  // NOLINT(cert-msc51-cpp): the same run every time
  std::vector<double> values(5000);
  for (double& value : values)
    value =
        static_cast<double>(random() % 1'000'000) / 1e3 * std::pow(10.0, static_cast<double>(random() % 12));
  const auto summary_of = [&] {
    MatchValues kept;
    int at = 0;
    for (const double value : values)
      kept.add(from_unix_ms(++at), value);
    return kept.summary(rules::kLongAgo, rules::Timestamp::max());
  };
  const ValueSummary one = summary_of();
  std::shuffle(values.begin(), values.end(), random);
  const ValueSummary other = summary_of();
  CHECK(one.sum.value() == other.sum.value());
  CHECK(one.variance() == other.variance());
}

TEST_CASE("match values: a small spread far from 0 is not lost, and none is none", "[core][window]") {
  MatchValues kept;
  for (int i = 0; i < 1000; ++i)
    kept.add(from_unix_ms(i), 1e9 + (i % 2 == 0 ? 0.25 : -0.25));
  CHECK(kept.summary(rules::kLongAgo, rules::Timestamp::max()).variance() == Approx(0.0625).epsilon(1e-12));
  MatchValues same;
  for (int i = 0; i < 1000; ++i)
    same.add(from_unix_ms(i), 0.1);
  const ValueSummary summary = same.summary(rules::kLongAgo, rules::Timestamp::max());
  CHECK(summary.variance() == 0);
  CHECK(summary.average() == 0.1);
  MatchValues huge;
  huge.add(from_unix_ms(1), 1.7e308);
  huge.add(from_unix_ms(2), 1.7e308);
  CHECK(std::isinf(huge.summary(rules::kLongAgo, rules::Timestamp::max()).sum.value()));
}

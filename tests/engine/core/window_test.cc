// Windows: exact counts whatever the order of arrival, bounded, stored and read back.
#include "engine/core/window.h"

#include <limits>
#include <map>
#include <random>

#include <catch2/catch.hpp>

#include "tests/engine/core/store_rows.h"

using namespace logbell;
using engine::MatchTimes;
using engine::PatternWindow;
using engine::StoredEntry;
using rules::Duration;
using rules::from_unix_ms;
using tests::restore;
using tests::save;
using tests::StoreRows;
using tests::write_down;

namespace {

rules::PatternSpec labelled() {
  rules::PatternSpec spec;
  spec.name = "p";
  spec.labels = {"queue"};
  spec.max_series = 3;
  return spec;
}

}  // namespace

TEST_CASE("window: counts what is in (from, to], in any order of arrival", "[core][window]") {
  MatchTimes times;
  std::multimap<std::int64_t, std::uint64_t> model;
  std::mt19937_64 random(1);  // NOLINT(cert-msc51-cpp): the same run every time
  std::int64_t forgotten = -1;
  for (std::uint64_t i = 0; i < 3000; ++i) {
    const std::int64_t at = forgotten + 1 + static_cast<std::int64_t>(random() % 500);
    times.add(from_unix_ms(at), 1 + i % 3);
    model.emplace(at, 1 + i % 3);
    if (i % 50 == 0) {
      forgotten += 20;
      times.forget(from_unix_ms(forgotten));
    }
    const std::int64_t from = forgotten + static_cast<std::int64_t>(random() % 300);
    const std::int64_t to = from + static_cast<std::int64_t>(random() % 300);
    std::uint64_t expected = 0;
    for (const auto& [when, count] : model)
      expected += when > from && when <= to ? count : 0;
    REQUIRE(times.count(from_unix_ms(from), from_unix_ms(to)) == expected);
  }
}

TEST_CASE("window: merged matches are counted within 1 %, and exactly where a threshold asks for it", "[core][window]") {
  rules::Duration past{0};
  std::int64_t reach = 0;  // of the windows of the past
  std::tie(past, reach) = GENERATE(table<rules::Duration, std::int64_t>(
      {{rules::Duration(0), 0}, {rules::Duration(20'000), 1'000'000}, {rules::Duration(20'000), 200'000}}));
  const bool bursts = GENERATE(false, true);
  CAPTURE(past.count(), reach, bursts);
  constexpr std::uint64_t kExact = 500;
  MatchTimes times;
  MatchTimes exact;
  std::mt19937_64 random(7);  // NOLINT(cert-msc51-cpp): the same run every time
  std::int64_t now = 0;
  std::size_t most = 0;
  for (int i = 0; i < 200'000; ++i) {
    const bool quiet = bursts && i % 5000 == 0;
    now += quiet ? 120'000 : static_cast<std::int64_t>(random() % (bursts ? 4 : 20));
    const std::uint64_t count = random() % 50 == 0 ? 1 + random() % 30 : 1;
    times.add(from_unix_ms(now), count);
    exact.add(from_unix_ms(now), count);
    if (i % 2000 != 1999) continue;
    const std::int64_t until = now - static_cast<std::int64_t>(random() % 3000);
    times.thin({from_unix_ms(until), kExact, past, from_unix_ms(now - reach)});
    most = std::max(most, times.size());
    // Old ones leave in between, as in life.
    times.forget(from_unix_ms(now - 1'000'000));
    exact.forget(from_unix_ms(now - 1'000'000));
    for (int look = 0; look < 50; ++look) {
      const std::int64_t to = until + static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(now - until + 1));
      const std::int64_t from = to - static_cast<std::int64_t>(random() % 900'000);
      const std::uint64_t is = exact.count(from_unix_ms(from), from_unix_ms(to));
      const std::uint64_t counted = times.count(from_unix_ms(from), from_unix_ms(to));
      CAPTURE(i, from, to);
      REQUIRE(counted >= is);
      REQUIRE(counted - is <= is / MatchTimes::kMergedShare);
      if (is < kExact) REQUIRE(counted == is);
      REQUIRE((counted < kExact) == (is < kExact));
      if (past == rules::Duration(0)) continue;
      const std::int64_t end = now - static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(reach));
      const std::int64_t begin = end - past.count() - static_cast<std::int64_t>(random() % 40'000);
      if (begin < now - reach) continue;
      const auto then = static_cast<double>(exact.count(from_unix_ms(begin), from_unix_ms(end)));
      const auto told = static_cast<double>(times.count(from_unix_ms(begin), from_unix_ms(end)));
      CAPTURE(begin, end);
      REQUIRE(std::abs(told - then) <= then / MatchTimes::kMergedShare);
    }
  }
  // Of as many as fit into 1 000 s, a share.
  CHECK(exact.size() > 25'000);
  CHECK(most < (reach == 0 ? 8'000 : reach < 1'000'000 ? 12'000 : 20'000));
}

TEST_CASE("window: what is far apart is not merged where windows of the past may end between", "[core][window]") {
  MatchTimes times;
  for (std::int64_t at = 0; at < 3000; at += 10)
    times.add(from_unix_ms(at), 1);
  times.add(from_unix_ms(3000), 1);
  times.add(from_unix_ms(8000), 1);
  for (std::int64_t at = 24'000; at < 27'000; at += 10)
    times.add(from_unix_ms(at), 1);
  times.thin({from_unix_ms(60'000), 0, rules::Duration(20'000)});
  CHECK(times.count(from_unix_ms(3000), from_unix_ms(23'000)) == 1);
}

TEST_CASE("window: series are bounded; what is beyond goes to the overflow series", "[core][window]") {
  PatternWindow window(labelled(), std::chrono::minutes(1));
  for (const char* queue : {"a", "b", "c"})
    CHECK_FALSE(window.add({queue}, from_unix_ms(1), 1).overflowed);
  CHECK(window.add({"d"}, from_unix_ms(2), 1).overflowed);
  CHECK(window.add({"e"}, from_unix_ms(3), 1).overflowed);
  CHECK_FALSE(window.add({"a"}, from_unix_ms(4), 1).overflowed);
  REQUIRE(window.series().count({"__other__"}) == 1);
  CHECK(window.series().at({"__other__"}).times.count(rules::kLongAgo, from_unix_ms(10)) == 2);
  CHECK(window.overflowing());
}

TEST_CASE("window: a series is forgotten a day after its last match, unless an alert rests on it",
          "[core][window]") {
  PatternWindow window(labelled(), std::chrono::minutes(1));
  window.add({"a"}, from_unix_ms(0), 1);
  window.add({"b"}, from_unix_ms(0), 1);
  window.forget(from_unix_ms(0) + std::chrono::hours(23), {});
  CHECK(window.series().size() == 2);
  window.forget(from_unix_ms(0) + std::chrono::hours(25), {{"b"}});
  CHECK(window.series().size() == 1);
  CHECK(window.series().count({"b"}) == 1);
}

TEST_CASE("window: what is stored reads back, written once and erased when it has left", "[core][window]") {
  const Duration minute = std::chrono::minutes(1);
  PatternWindow window(labelled(), minute);
  StoreRows store;
  std::mt19937_64 random(2);  // NOLINT(cert-msc51-cpp): the same run every time
  std::int64_t now = 1'000'000;
  for (int tick = 0; tick < 200; ++tick) {
    for (int i = 0; i < 5; ++i) {
      now += static_cast<std::int64_t>(random() % 700);
      window.add({random() % 2 == 0 ? "a/\"b" : "\xC3\xA4"},
                 from_unix_ms(now - static_cast<std::int64_t>(random() % 3000)), 1);
    }
    window.forget(from_unix_ms(now), {});
    save(window, "x/", store);
    CHECK(store.size() < 60);

    PatternWindow again(labelled(), minute);
    restore(again, "x/", store);
    REQUIRE(again.series().size() == window.series().size());
    for (const auto& [values, series] : window.series()) {
      const auto& other = again.series().at(values);
      REQUIRE(other.first_seen == series.first_seen);
      for (const int back : {0, 1, 10'000, 59'999, 60'000}) {
        const auto to = from_unix_ms(now);
        REQUIRE(other.times.count(to - Duration(back), to) == series.times.count(to - Duration(back), to));
      }
    }
  }
  std::vector<StoredEntry> rest;
  window.save("x/", rest);
  std::vector<StoredEntry> nothing;
  window.save("x/", nothing);
  CHECK(nothing.empty());
}

TEST_CASE("window: a restart or a reload with another window keeps every match at its time",
          "[core][window]") {
  const auto at = from_unix_ms(1'777'629'600'123);
  PatternWindow before(labelled(), std::chrono::minutes(1));
  StoreRows store;
  for (int i = 0; i < 50; ++i)
    before.add({"a"}, at - std::chrono::seconds(i), 1);
  save(before, "x/", store);

  const auto check = [&](const PatternWindow& window) {
    const auto& times = window.series().at({"a"}).times;
    CHECK(times.count(at - std::chrono::seconds(10), at) == 10);
    CHECK(times.count(rules::kLongAgo, rules::Timestamp::max()) == 50);
  };
  PatternWindow restarted(labelled(), std::chrono::hours(2));
  restore(restarted, "x/", store);
  check(restarted);
  PatternWindow reloaded(labelled(), std::chrono::hours(2));
  reloaded.adopt(std::move(before));
  check(reloaded);
  // What either writes from now on reads back, with nothing of the old blocks left over.
  for (PatternWindow* window : {&restarted, &reloaded}) {
    std::map<std::string, std::string> after = store;
    save(*window, "x/", after);
    PatternWindow again(labelled(), std::chrono::hours(2));
    restore(again, "x/", after);
    check(again);
    again.forget(at + std::chrono::hours(100), {});
    save(again, "x/", after);
    CHECK(after.empty());
  }
}

TEST_CASE("window: what came before a reload is written after it, whether or not it had been", "[core][window]") {
  const auto at = from_unix_ms(1'700'000'000'000);
  for (const int saves : {0, 1, 2}) {
    CAPTURE(saves);
    StoreRows store;
    PatternWindow before(labelled(), std::chrono::hours(1));
    before.add({"a"}, at, 1);
    for (int i = 0; i < saves; ++i)
      save(before, "x/", store);
    PatternWindow reloaded(labelled(), std::chrono::hours(1));
    reloaded.adopt(std::move(before));
    // In the same block, and as often as the former window had written.
    for (int i = 0; i <= 3; ++i) {
      if (i > 0) reloaded.add({"a"}, at + Duration(i), 1);
      save(reloaded, "x/", store);
      PatternWindow again(labelled(), std::chrono::hours(1));
      restore(again, "x/", store);
      CHECK(again.series().at({"a"}).times.count(rules::kLongAgo, at + Duration(i)) == static_cast<std::uint64_t>(i) + 1);
    }
  }
}

TEST_CASE("window: values come back from the store, and counts that were written without them too",
          "[core][window]") {
  StoreRows store;
  const auto restored = [&](bool keeps_values) {
    PatternWindow window(labelled(), std::chrono::hours(1), keeps_values);
    restore(window, "x/", store);
    return window;
  };
  const auto numbers = [](const PatternWindow& window) {
    std::vector<double> out;
    const auto series = window.series().find({"a"});
    if (series != window.series().end())
      series->second.numbers.values(rules::kLongAgo, rules::Timestamp::max(), out);
    return out;
  };
  const auto at = from_unix_ms(1'777'629'600'000);
  const double none = std::numeric_limits<double>::quiet_NaN();
  PatternWindow window(labelled(), std::chrono::hours(1), true);
  window.add({"a"}, at, 1, true, 0.1);
  window.add({"a"}, at, 1, true, -1e-300);
  window.add({"a"}, at - std::chrono::minutes(30), 1, true, 12345678.9);
  window.add({"a"}, at - std::chrono::minutes(10), 1, true, none);
  const std::vector<double> expected{12345678.9, 0.1, -1e-300};
  CHECK(numbers(window) == expected);
  CHECK(window.points() == 3 + 3);  // times, of which two are one, and values
  save(window, "x/", store);
  PatternWindow again = restored(true);
  CHECK(numbers(again) == expected);
  CHECK(again.points() == 6);
  CHECK(again.series().at({"a"}).times.count(rules::kLongAgo, at) == 4);

  // Where no rule asks for them any more, they go, in memory and in the store.
  PatternWindow counts = restored(false);
  CHECK(numbers(counts).empty());
  CHECK(counts.points() == 3);
  PatternWindow reloaded(labelled(), std::chrono::hours(1), false);
  reloaded.adopt(restored(true));
  CHECK(numbers(reloaded).empty());
  CHECK(reloaded.points() == 3);
  const auto before = store;
  for (PatternWindow* without : {&counts, &reloaded}) {
    store = before;
    save(*without, "x/", store);
    for (const auto& [key, value] : store)
      CHECK(key.rfind("x/v/", 0) != 0);
    CHECK(restored(true).series().at({"a"}).times.count(rules::kLongAgo, at) == 4);
    CHECK(numbers(restored(true)).empty());
  }

  // What has left every window leaves the store, and a pattern that is no more leaves nothing.
  store = before;
  again = restored(true);
  again.forget(at + std::chrono::minutes(45), {});
  CHECK(numbers(again) == std::vector<double>{0.1, -1e-300});
  save(again, "x/", store);
  CHECK(numbers(restored(true)) == std::vector<double>{0.1, -1e-300});
  std::vector<StoredEntry> entries;
  again.erase_stored("x/", entries);
  write_down(store, entries);
  CHECK(store.empty());
  // Nor does the window that wrote it leave anything.
  store.clear();
  PatternWindow writer(labelled(), std::chrono::hours(1), true);
  writer.add({"a"}, at, 1, true, 7);
  save(writer, "x/", store);
  CHECK(numbers(restored(true)) == std::vector<double>{7});
  writer.forget(at + std::chrono::hours(100), {});
  save(writer, "x/", store);
  CHECK(store.empty());
  // Time was set back.
  window.forget_after(at - std::chrono::minutes(5));
  CHECK(numbers(window) == std::vector<double>{12345678.9});
  CHECK(window.points() == 3);
}

TEST_CASE("window: at its memory bound a pattern says so and keeps no more", "[core][window]") {
  PatternWindow window(labelled(), std::chrono::hours(24));
  for (std::size_t i = 0; i < PatternWindow::kMaxPoints; ++i)
    window.add({"a"}, from_unix_ms(static_cast<std::int64_t>(i)), 1);
  CHECK_FALSE(window.full());
  CHECK(window.add({"a"}, from_unix_ms(2'000'000), 1).full);
  CHECK(window.full());
}

TEST_CASE("window: what the store holds and no window wrote is read as far as it can be", "[core][window]") {
  const std::string largest = std::to_string(std::numeric_limits<std::int64_t>::max());
  const struct {
    const char* why;
    std::string key;
    std::string value;
    std::size_t points;
  } rows[] = {
      {"times that add up to none", "x/b/1/[\"a\"]", "5+1 " + largest + "+1 " + largest + "+1 ", 1},
      {"one long before all", "x/b/1/[\"a\"]", "-" + largest + "+1 ", 0},
      {"a block that no time lies in", "x/b/" + largest + "/[\"a\"]", "5+1 ", 0},
      {"and one before all", "x/b/-" + largest + "/[\"a\"]", "5+1 ", 0},
      {"a series that began before all", "x/s/[\"a\"]", "-" + largest, 0},
      {"another number of labels", "x/b/1/[\"a\",\"b\"]", "5+1 ", 0},
      {"a block under another name", "x/b/1\xff/[\"a\"]", "5+1 ", 0},
      {"a series under another name", "x/b/1/[ \"a\"]", "5+1 ", 0},
      {"no number at all", "x/b/x/[\"a\"]", "x+y", 0},
      {"values that are none", "x/v/1/[\"a\"]", "5=1.5 1=nan 1=3 ", 1},
      {"a value that is too large", "x/v/1/[\"a\"]", "5=1e999 ", 0},
      {"a value without a time", "x/v/1/[\"a\"]", "=1 ", 0},
  };
  for (const auto& row : rows) {
    INFO(row.why);
    PatternWindow window(labelled(), std::chrono::minutes(1), true);
    window.restore("x/", {row.key, row.value});
    CHECK(window.points() == row.points);
    window.forget(from_unix_ms(1'777'629'600'000), {});
    std::vector<StoredEntry> entries;
    window.save("x/", entries);
  }
}

TEST_CASE("window: no more is read back than is kept", "[core][window]") {
  std::string value;
  for (std::size_t i = 0; i < PatternWindow::kMaxPoints + 10; ++i)
    value += "1+1 ";
  // A rule that compares it with a number needs the times of so many.
  PatternWindow window(labelled(), std::chrono::hours(24), false, {}, {600'000, {}, {}});
  CHECK(window.most_points() == PatternWindow::kMaxPoints);
  window.restore("x/", {"x/b/0/[\"a\"]", value});
  CHECK(window.points() > 600'000);
  CHECK(window.points() <= PatternWindow::kMaxPoints);
  CHECK_FALSE(window.full());
  PatternWindow exact(labelled(), std::chrono::hours(24), false, {}, {rules::CountPrecision{}.exact, std::chrono::hours(1), {}});
  exact.restore("x/", {"x/b/0/[\"a\"]", value});  // of the last hour nothing is merged
  CHECK(exact.points() == PatternWindow::kMaxPoints);
  CHECK(exact.full());
}

TEST_CASE("window: what a threshold needs is kept beyond the usual bound", "[core][window]") {
  CHECK(PatternWindow::most_points({0, {}, {}}) == PatternWindow::kMaxPoints);
  CHECK(PatternWindow::most_points({2'000'000, {}, {}}) == 3'000'000);
  CHECK(PatternWindow::most_points({1ULL << 53, {}, {}}) == PatternWindow::kMostPoints);
}

TEST_CASE("window: what was merged is merged in the store, too", "[core][window]") {
  const auto hour = std::chrono::hours(1);
  StoreRows store;
  PatternWindow window(labelled(), hour);
  for (std::int64_t i = 0; i < 3'000'000; i += 100) {
    window.add({"a"}, from_unix_ms(i), 1);
    if (i % 500'000 == 0) tests::save(window, "x/", store);
  }
  CHECK(window.make_room(rules::kLongAgo) == 0);
  CHECK(window.points() == 30'000);
  const std::size_t fewer = window.make_room(from_unix_ms(3'000'000));
  CHECK(window.points() == 30'000 - fewer);
  CHECK(window.points() < 2'000);
  REQUIRE(window.merged().has_value());
  CHECK(window.merged()->until > from_unix_ms(2'900'000));
  tests::save(window, "x/", store);
  PatternWindow again(labelled(), hour);
  tests::restore(again, "x/", store);
  CHECK(again.points() == window.points());
  for (std::int64_t from = -1; from < 3'000'000; from += 777) {
    CAPTURE(from);
    REQUIRE(again.series().at({"a"}).times.count(from_unix_ms(from), from_unix_ms(3'000'000)) ==
            window.series().at({"a"}).times.count(from_unix_ms(from), from_unix_ms(3'000'000)));
  }
  // Once it has left every window nothing is merged any more.
  window.forget(from_unix_ms(3'000'000) + hour, {});
  CHECK_FALSE(window.merged().has_value());
}

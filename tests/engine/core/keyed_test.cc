// Functions by key: what they say at every instant is what a plain reading of all matches says, over late
// lines, restarts and reloads; and what is kept for them is bounded, estimated as promised, stored and read
// back.
#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include <catch2/catch.hpp>
#include <fmt/format.h>

#include "engine/core/evaluator.h"
#include "engine/core/keyed_spans.h"
#include "engine/core/keyed_window.h"
#include "engine/core/rule_state.h"
#include "rules/line_shape.h"
#include "tests/engine/core/store_rows.h"
#include "tests/support/core_world.h"

using namespace logbell;
using engine::KeyedWindow;
using engine::PatternWindow;
using engine::Sample;
using rules::Duration;
using rules::Expr;
using rules::ExprPtr;
using rules::from_unix_ms;
using rules::KeyedNeed;
using rules::Timestamp;
using tests::restore;
using tests::save;
using tests::StoreRows;

namespace {

// What can change does so in steps of ten seconds: the plain reading looks at each.
constexpr std::int64_t kStep = 10'000;

struct Matched {
  std::size_t pattern = 0;  // errors, plain
  std::string queue;
  std::string user;
  std::int64_t at = 0;
};
using Log = std::vector<Matched>;
using Result = std::map<std::string, double>;  // labels -> value

std::vector<std::int64_t> times_of(const Log& log, std::size_t pattern, const std::string& user,
                                   const std::string& queue = {}) {
  std::vector<std::int64_t> out;
  for (const Matched& match : log) {
    if (match.pattern == pattern && match.user == user && (queue.empty() || match.queue == queue))
      out.push_back(match.at);
  }
  std::sort(out.begin(), out.end());
  return out;
}

bool any_in(const std::vector<std::int64_t>& times, std::int64_t from, std::int64_t to) {
  return std::any_of(times.begin(), times.end(), [&](std::int64_t at) { return at > from && at <= to; });
}

const std::vector<std::string> kUsers{"x", "y", "z"};

std::string user_labels(const std::string& user) {
  return rules::Labels{{"user", user}}.format();
}

// Users of errors (by queue) or plain in the window; each queue that has been seen.
Result distinct(const Log& log, std::size_t pattern, std::int64_t now, std::int64_t window) {
  Result counts;
  if (pattern == 1) counts["{}"] = 0;
  std::set<std::string> queues;
  for (const Matched& match : log) {
    if (match.pattern == pattern && match.at <= now) queues.insert(match.queue);
  }
  for (const std::string& queue : queues) {
    double& count = counts[rules::Labels{{"queue", queue}}.format()];
    for (const std::string& user : kUsers)
      count += any_in(times_of(log, pattern, user, queue), now - window, now) ? 1 : 0;
  }
  return counts;
}

// By user and, of errors, queue.
Result first_seen(const Log& log, std::size_t pattern, std::int64_t now, std::int64_t window) {
  Result out;
  std::set<std::pair<std::string, std::string>> all;
  for (const Matched& match : log) {
    if (match.pattern == pattern) all.emplace(match.user, match.queue);
  }
  for (const auto& [user, queue] : all) {
    std::vector<std::int64_t> times = times_of(log, pattern, user, queue);
    for (const std::int64_t at : times) {
      if (at > now || at <= now - 300'000 || any_in(times, at - window, at - 1)) continue;
      const auto in_it = [&](std::int64_t other) { return other >= at && other <= now; };
      out[rules::Labels{{"queue", queue}, {"user", user}}.format()] =
          static_cast<double>(std::count_if(times.begin(), times.end(), in_it));
    }
  }
  return out;
}

// As first_seen(), by what is said: here a user's name, each of which is a kind of line.
Result new_template(const Log& log, std::size_t pattern, std::int64_t now, std::int64_t window) {
  Result out;
  for (const auto& [labels, value] : first_seen(log, pattern, now, window)) {
    std::string renamed = labels;
    out[renamed.replace(renamed.find("user="), 4, "template")] = value;
  }
  return out;
}

Result unanswered(const Log& log, std::int64_t now, std::int64_t window, const std::string& queue = {}) {
  Result out;
  for (const std::string& user : kUsers) {
    for (const std::int64_t at : times_of(log, 1, user)) {
      if (at > now - 2 * window && at <= now - window && !any_in(times_of(log, 0, user, queue), at - 1, now))
        out[user_labels(user)] = 1;
    }
  }
  return out;
}

// Whether matches of these steps can be picked, one each, in this order.
bool in_order(const std::vector<std::pair<std::size_t, std::string>>& steps, std::size_t step, const Log& log,
              const std::string& user, std::int64_t from, std::int64_t to, std::set<const Matched*>& used) {
  if (step == steps.size()) return true;
  for (const Matched& match : log) {
    if (match.user != user || match.pattern != steps[step].first || match.at <= from || match.at > to ||
        (!steps[step].second.empty() && steps[step].second != match.queue) || used.count(&match) != 0)
      continue;
    used.insert(&match);
    // The next one not before it: of the same moment it may be.
    if (in_order(steps, step + 1, log, user, match.at - 1, to, used)) return true;
    used.erase(&match);
  }
  return false;
}

Result sequence(const std::vector<std::pair<std::size_t, std::string>>& steps, const Log& log,
                std::int64_t now, std::int64_t window) {
  Result out;
  for (const std::string& user : kUsers) {
    std::set<const Matched*> used;
    if (in_order(steps, 0, log, user, now - window, now, used)) out[user_labels(user)] = 1;
  }
  return out;
}

Result only(Result from, const std::function<bool(double)>& holds) {
  std::erase_if(from, [&](const auto& one) { return !holds(one.second); });
  return from;
}

struct Kind {
  const char* expr;
  bool presence;
  bool absence;
  std::function<Result(const Log&, std::int64_t now)> value;
};

const std::vector<Kind>& kinds() {
  static const std::vector<Kind> kAll{
      {"distinct_over_time(\"user\", errors[1m]) >= 2", true, false,
       [](const Log& log, std::int64_t now) {
         return only(distinct(log, 0, now, 60'000), [](double n) { return n >= 2; });
       }},
      {"distinct_over_time(\"user\", errors{queue=\"a\"}[2m]) != 1", true, true,
       [](const Log& log, std::int64_t now) {
         Result all = distinct(log, 0, now, 120'000);
         const std::string a = rules::Labels{{"queue", "a"}}.format();
         return only({{a, all.count(a) == 0 ? 0 : all[a]}}, [](double n) { return n != 1; });
       }},
      {"distinct_over_time(\"user\", plain[2m]) == 0", false, true,
       [](const Log& log, std::int64_t now) {
         Result plain{{"{}", 0}};
         for (const std::string& user : kUsers)
           plain["{}"] += any_in(times_of(log, 1, user), now - 120'000, now) ? 1 : 0;
         return only(plain, [](double n) { return n == 0; });
       }},
      {"distinct_over_time(\"queue\", errors[90s]) > 1", true, false,
       [](const Log& log, std::int64_t now) {
         std::set<std::string> queues;
         for (const Matched& match : log) {
           if (match.pattern == 0 && match.at > now - 90'000 && match.at <= now) queues.insert(match.queue);
         }
         return only({{"{}", static_cast<double>(queues.size())}}, [](double n) { return n > 1; });
       }},
      {"first_seen(\"user\", errors[400s])", true, true,
       [](const Log& log, std::int64_t now) { return first_seen(log, 0, now, 400'000); }},
      {"new_template(errors[400s])", true, true,
       [](const Log& log, std::int64_t now) { return new_template(log, 0, now, 400'000); }},
      {"new_template(plain[2m]) >= 2", true, true,
       [](const Log& log, std::int64_t now) {
         return only(new_template(log, 1, now, 120'000), [](double n) { return n >= 2; });
       }},
      {"first_seen(\"user\", plain[2m]) >= 2", true, true,
       [](const Log& log, std::int64_t now) {
         return only(first_seen(log, 1, now, 120'000), [](double n) { return n >= 2; });
       }},
      {"unanswered_over_time(\"user\", plain, errors[1m]) > 0", true, true,
       [](const Log& log, std::int64_t now) { return unanswered(log, now, 60'000); }},
      {"unanswered_over_time(\"user\", plain, errors{queue=\"b\"}[150s])", true, true,
       [](const Log& log, std::int64_t now) { return unanswered(log, now, 150'000, "b"); }},
      {"count(unanswered_over_time(\"user\", plain{user!=\"z\"}, errors[50s])) >= 2", true, true,
       [](const Log& log, std::int64_t now) {
         Result all = unanswered(log, now, 50'000);
         all.erase(user_labels("z"));
         return only(all.empty() ? Result{} : Result{{"{}", static_cast<double>(all.size())}},
                     [](double n) { return n >= 2; });
       }},
      // New again while it still is new: one element, not two.
      {"count(first_seen(\"user\", errors[2m])) >= 2", true, true,
       [](const Log& log, std::int64_t now) {
         const auto count = static_cast<double>(first_seen(log, 0, now, 120'000).size());
         return only({{"{}", count}}, [](double n) { return n >= 2; });
       }},
      // Of none there is no element, which is not 0.
      {"count(first_seen(\"user\", errors[2m])) < 3", true, true,
       [](const Log& log, std::int64_t now) {
         const auto count = static_cast<double>(first_seen(log, 0, now, 120'000).size());
         return only(count > 0 ? Result{{"{}", count}} : Result{}, [](double n) { return n < 3; });
       }},
      {"count by (queue) (first_seen(\"user\", errors[400s])) > 1", true, true,
       [](const Log& log, std::int64_t now) {
         Result counts;
         for (const char* queue : {"a", "b"}) {
           for (const auto& [labels, value] : first_seen(log, 0, now, 400'000))
             counts[rules::Labels{{"queue", queue}}.format()] += labels.find(fmt::format("queue=\"{}\"", queue)) != std::string::npos ? 1 : 0;
         }
         return only(counts, [](double n) { return n > 1; });
       }},
      {"sum without (user) (unanswered_over_time(\"user\", plain, errors[1m])) >= 2", true, true,
       [](const Log& log, std::int64_t now) {
         const auto count = static_cast<double>(unanswered(log, now, 60'000).size());
         return only({{"{}", count}}, [](double n) { return n >= 2; });
       }},
      {"sum(sequence_over_time(\"user\", plain, errors[2m])) == 0", true, true,
       [](const Log& log, std::int64_t now) {
         const auto count = static_cast<double>(sequence({{1, ""}, {0, ""}}, log, now, 120'000).size());
         return only({{"{}", count}}, [](double n) { return n == 0; });
       }},
      {"count by (user) (first_seen(\"user\", errors[2m])) > 1", true, true,
       [](const Log& log, std::int64_t now) {
         Result counts;
         for (const std::string& user : kUsers) {
           for (const auto& [labels, value] : first_seen(log, 0, now, 120'000))
             counts[user_labels(user)] += labels.find(fmt::format("user=\"{}\"", user)) != std::string::npos ? 1 : 0;
         }
         return only(counts, [](double n) { return n > 1; });
       }},
      {"m_of_n(count(first_seen(\"user\", plain[2m])) >= 2, 2, 3, 30s)", true, true,
       [](const Log& log, std::int64_t now) {
         double held = 0;
         for (const int before : {0, 30'000, 60'000})
           held += first_seen(log, 1, now - before, 120'000).size() >= 2 ? 1 : 0;
         return only({{"{}", held}}, [](double n) { return n >= 2; });
       }},
      {"m_of_n(unanswered_over_time(\"user\", plain, errors[1m]) > 0, 2, 3, 30s)", true, true,
       [](const Log& log, std::int64_t now) {
         Result held;
         for (const int before : {0, 30'000, 60'000}) {
           for (const auto& [labels, value] : unanswered(log, now - before, 60'000))
             held[labels] += value;
         }
         return only(held, [](double n) { return n >= 2; });
       }},
      {"sequence_over_time(\"user\", plain, errors, plain[2m])", true, false,
       [](const Log& log, std::int64_t now) {
         return sequence({{1, ""}, {0, ""}, {1, ""}}, log, now, 120'000);
       }},
      {"sequence_over_time(\"user\", errors{queue=\"a\"}, errors{queue=\"b\"}[1m]) == 1", true, false,
       [](const Log& log, std::int64_t now) {
         return sequence({{0, "a"}, {0, "b"}}, log, now, 60'000);
       }},
      {"sequence_over_time(\"user\", plain, plain, plain[80s])", true, false,
       [](const Log& log, std::int64_t now) {
         return sequence({{1, ""}, {1, ""}, {1, ""}}, log, now, 80'000);
       }},
  };
  return kAll;
}

std::vector<rules::PatternSpec> two_patterns() {
  std::vector<rules::PatternSpec> all(2);
  all[0].name = "errors";
  all[0].labels = {"queue"};
  all[1].name = "plain";
  return all;
}

std::vector<PatternWindow> windows_for(const Expr& expr, const std::vector<rules::PatternSpec>& specs) {
  std::vector<PatternWindow> windows;
  for (std::size_t i = 0; i < specs.size(); ++i) {
    std::vector<KeyedNeed> needs;
    for (const Expr* call : rules::range_calls(expr)) {
      if (call->pattern_index != i || !call->asks_keys()) continue;
      const KeyedNeed need = call->keyed_need();
      if (std::none_of(needs.begin(), needs.end(),
                       [&](const KeyedNeed& known) { return known.name() == need.name(); }))
        needs.push_back(need);
    }
    windows.emplace_back(specs[i], Duration(0), false, needs);
  }
  return windows;
}

std::string list_of(const Result& result) {
  std::string out;
  for (const auto& [labels, value] : result)
    out += fmt::format(" {} {}", labels, value);
  return out;
}

// A log whose lines come in batches, some of them late; returns a description of the first difference, or "".
std::string live(std::uint64_t seed, std::size_t& seen) {
  std::mt19937_64 random(seed);
  const auto pick = [&](std::int64_t n) {
    return static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(n));
  };
  const Kind& kind = kinds()[seed % kinds().size()];
  std::vector<rules::PatternSpec> specs = two_patterns();
  const auto bound = rules::bind_expr(*rules::parse_expr(kind.expr), specs);
  if (!bound) return fmt::format("{}: {}", kind.expr, bound.error().reason);
  rules::AlertingRule rule;
  rule.expr = *bound;
  rule.polarity = rules::polarity(*rule.expr);
  if (rule.polarity.presence != kind.presence || rule.polarity.absence != kind.absence)
    return fmt::format("polarity of {}", kind.expr);
  rules::collect_keys(*rule.expr, specs);
  std::vector<PatternWindow> windows = windows_for(*rule.expr, specs);
  StoreRows store;
  const auto window_of = [&](std::uint32_t index) -> const PatternWindow& { return windows[index]; };
  engine::RuleState state(rule, window_of);
  Log log;
  std::int64_t clock = 1'000'000;
  engine::RuleInputs inputs;
  inputs.watched_from = from_unix_ms(0);
  inputs.clock = from_unix_ms(clock);
  state.restore_clock(inputs.clock);
  std::set<std::string> active;
  std::vector<std::string> expected;
  std::vector<std::string> got;
  const auto look = [&](std::int64_t now) {
    std::set<std::string> there;
    for (const auto& [labels, value] : kind.value(log, now))
      there.insert(labels);
    for (const std::string& labels : active) {
      if (there.count(labels) == 0) expected.push_back(fmt::format("{} {} resolved", now, labels));
    }
    for (const std::string& labels : there) {
      if (active.count(labels) == 0) expected.push_back(fmt::format("{} {} firing", now, labels));
    }
    active = there;
  };
  const std::size_t busy = pick(3) == 0 ? 10 : 4;
  for (int batch = 0; batch < 14; ++batch) {
    const std::int64_t next = clock + kStep * pick(30);
    bool late = batch == 0;
    for (std::int64_t n = pick(static_cast<std::int64_t>(busy)); n > 0; --n) {
      Matched match;
      match.pattern = static_cast<std::size_t>(pick(2));
      match.user = kUsers[static_cast<std::size_t>(pick(3))];
      if (match.pattern == 0) match.queue = pick(2) == 0 ? "a" : "b";
      const std::int64_t when = pick(10);
      match.at = when == 0   ? clock - kStep * pick(30)
                 : when == 1 ? next + kStep * pick(8)
                             : clock + kStep * pick((next - clock) / kStep + 1);
      late = late || match.at <= clock;
      log.push_back(match);
      const std::vector<std::string> values =
          match.pattern == 0 ? std::vector<std::string>{match.queue} : std::vector<std::string>{};
      PatternWindow& window = windows[match.pattern];
      std::vector<std::string> keys;
      for (const std::string& key : specs[match.pattern].keys)
        keys.push_back(key == "queue" ? match.queue : match.user);
      window.add(values, from_unix_ms(match.at), 1);
      if (!window.keyed().empty()) window.add_keys(values, keys, from_unix_ms(match.at));
    }
    if (late) look(clock);
    for (std::int64_t now = clock + kStep; now <= next; now += kStep)
      look(now);
    std::vector<engine::Step> steps;
    if (pick(2) == 0) {
      // As in life: from one instant that is announced to the next.
      state.advance(inputs, late, steps);
      for (auto instant = state.next_instant(inputs); instant && *instant <= from_unix_ms(next);
           instant = state.next_instant(inputs)) {
        inputs.clock = *instant;
        state.advance(inputs, false, steps);
      }
      late = false;
    }
    inputs.clock = from_unix_ms(next);
    state.advance(inputs, late, steps);
    for (const engine::Step& step : steps) {
      if (step.to != rules::AlertState::kPending)
        got.push_back(fmt::format("{} {} {}", rules::to_unix_ms(step.at), step.alert.labels.format(),
                                  rules::to_string(step.to)));
    }
    clock = next;
    Result now;
    const auto samples = engine::evaluate(*rule.expr, from_unix_ms(clock), window_of);
    for (const Sample& sample : *samples)
      now[sample.labels.format()] = sample.value;
    if (now != kind.value(log, clock))
      return fmt::format("seed {}, {} at {}: {} instead of {}", seed, kind.expr, clock, list_of(now),
                         list_of(kind.value(log, clock)));
    std::sort(expected.begin(), expected.end());
    std::sort(got.begin(), got.end());
    if (expected != got)
      return fmt::format("seed {}, {} up to {}: {}\ninstead of {}", seed, kind.expr, clock,
                         fmt::join(got, ", "), fmt::join(expected, ", "));
    // What nothing can ask for any more is forgotten, written down, and now and then read back or handed on.
    const std::int64_t what = pick(6);
    std::vector<PatternWindow> others = windows_for(*rule.expr, specs);
    for (std::size_t i = 0; i < windows.size(); ++i) {
      windows[i].forget(from_unix_ms(clock), {});
      const std::string prefix = fmt::format("{}/", i);
      save(windows[i], prefix, store);
      if (what == 0) {
        restore(others[i], prefix, store);
        others[i].restored();
      } else if (what == 1) {
        others[i].adopt(std::move(windows[i]));
      }
    }
    if (what < 2) windows = std::move(others);
  }
  seen += got.size();
  return "";
}

KeyedNeed need_of(bool sampled, Duration reach, Duration exact) {
  return {"id", {}, sampled, reach, exact};
}

}  // namespace

TEST_CASE("keyed: 1 800 random logs give what a plain reading of them gives", "[core][keyed]") {
  std::size_t seen = 0;
  for (std::uint64_t seed = 1; seed <= 1'800; ++seed) {
    const std::string difference = live(seed, seen);
    INFO(difference);
    REQUIRE(difference.empty());
  }
  // What never fires would agree with anything.
  CHECK(seen > 5'000);
}

TEST_CASE("keyed: keys are bounded; what is beyond is dropped, and there is room again once they have left",
          "[core][keyed]") {
  KeyedWindow window(need_of(false, std::chrono::minutes(1), std::chrono::minutes(1)));
  for (std::size_t i = 0; i < KeyedWindow::kMaxKeys; ++i)
    REQUIRE_FALSE(window.add(std::to_string(i), {}, from_unix_ms(1'000)).dropped);
  CHECK_FALSE(window.overflowing());
  CHECK(window.add("one more", {}, from_unix_ms(2'000)).dropped);
  CHECK(window.overflowing());
  CHECK(window.entries().size() == KeyedWindow::kMaxKeys);
  // One that is known is counted on.
  CHECK_FALSE(window.add("7", {}, from_unix_ms(2'000)).dropped);
  window.forget(from_unix_ms(61'000));
  CHECK(window.entries().size() == 1);
  CHECK_FALSE(window.overflowing());
  CHECK_FALSE(window.add("one more", {}, from_unix_ms(61'000)).dropped);
}

TEST_CASE("keyed: matches are bounded like a window's", "[core][keyed]") {
  KeyedWindow window(need_of(false, std::chrono::hours(1), std::chrono::hours(1)));
  CHECK(window.add("a", {}, from_unix_ms(1), false).full);
  CHECK(window.full());
  CHECK(window.entries().empty());
  for (std::size_t i = 0; i < KeyedWindow::kMaxPoints; ++i)
    window.add("a", {}, from_unix_ms(static_cast<std::int64_t>(i)));
  CHECK(window.points() == KeyedWindow::kMaxPoints);
  CHECK(window.add("a", {}, from_unix_ms(-5)).full);
  CHECK(window.points() == KeyedWindow::kMaxPoints);
}

TEST_CASE("keyed: of what is older than asked for exactly, the last match of a key is enough",
          "[core][keyed]") {
  KeyedWindow window(need_of(false, std::chrono::hours(1), std::chrono::seconds(10)));
  for (int i = 0; i < 1000; ++i)
    window.add("a", {}, from_unix_ms(100 * i));
  window.forget(from_unix_ms(100'000));
  // 90 000, and what came since.
  CHECK(window.points() == 100);
  CHECK(window.entries().at("a").times.oldest() == from_unix_ms(90'000));
  window.forget(from_unix_ms(200'000));
  CHECK(window.points() == 1);
  window.forget(from_unix_ms(99'900 + 3'600'000));
  CHECK(window.entries().empty());
  CHECK(window.points() == 0);
}

TEST_CASE(
    "keyed: very many keys are estimated with less than 3 % of error, and few are counted again once they "
    "are gone",
    "[core][keyed]") {
  std::vector<rules::PatternSpec> specs = two_patterns();
  const ExprPtr expr =
      *rules::bind_expr(*rules::parse_expr("distinct_over_time(\"user\", plain[10m]) > 0"), specs);
  rules::collect_keys(*expr, specs);
  std::vector<PatternWindow> windows = windows_for(*expr, specs);
  const auto value = [&](std::int64_t at) {
    const auto result = engine::evaluate(
        *expr, from_unix_ms(at), [&](std::uint32_t index) -> const PatternWindow& { return windows[index]; });
    return result->empty() ? 0 : result->front().value;
  };
  std::int64_t now = 1'000'000;
  std::size_t keys = 0;
  const auto come = [&](std::size_t more) {
    for (; more > 0; --more)
      windows[1].add_keys({}, {fmt::format("user{}", keys++)}, from_unix_ms(now));
  };
  // Exact up to the bound.
  come(KeyedWindow::kMostSampled);
  CHECK(value(now) == KeyedWindow::kMostSampled);
  for (const std::size_t more : {1U, 20'000U, 100'000U, 400'000U, 1'000'000U}) {
    come(more);
    const auto exact = static_cast<double>(keys);
    INFO(value(now) << " of " << exact);
    // Four times the standard error.
    CHECK(std::abs(value(now) - exact) < 0.03 * exact);
    CHECK(windows[1].keyed().front().entries().size() <= KeyedWindow::kMostSampled);
  }
  // The same over a restart.
  const double before = value(now);
  StoreRows store;
  save(windows[1], "p/", store);
  std::vector<PatternWindow> restored = windows_for(*expr, specs);
  restore(restored[1], "p/", store);
  windows = std::move(restored);
  CHECK(value(now) == before);
  // Ten minutes later they are gone. What comes then is counted one by one as soon as no window holds the
  // flood.
  now += 600'000;
  windows[1].forget(from_unix_ms(now), {});
  CHECK(value(now) == 0);
  now += 60'000;
  come(10);
  now += 540'000;
  windows[1].forget(from_unix_ms(now), {});
  CHECK(value(now) == 10);
}

TEST_CASE(
    "keyed: what is stored is read back as far as it can be, and what nobody asks for any more is erased",
    "[core][keyed]") {
  std::vector<rules::PatternSpec> specs = two_patterns();
  const auto bind = [&](const char* text) { return *rules::bind_expr(*rules::parse_expr(text), specs); };
  const ExprPtr expr = bind("unanswered_over_time(\"user\", plain, errors{queue=\"a\"}[1m])");
  rules::collect_keys(*expr, specs);
  std::vector<PatternWindow> windows = windows_for(*expr, specs);
  windows[0].add_keys({"a"}, {"x/\"\xC3\xA4"}, from_unix_ms(5'000));
  windows[0].add_keys({"b"}, {"x/\"\xC3\xA4"}, from_unix_ms(6'000));
  windows[0].add_keys({"b"}, {""}, from_unix_ms(7'000));
  CHECK(windows[0].points() == 2);
  StoreRows store;
  save(windows[0], "p/", store);
  CHECK(store.size() == 2);
  const auto read_back = [&](const std::map<std::string, std::string>& from) {
    std::vector<PatternWindow> again = windows_for(*expr, specs);
    restore(again[0], "p/", from);
    return again;
  };
  CHECK(read_back(store)[0].points() == 2);
  CHECK(read_back(store)[0].keyed().front().entries().count("x/\"\xC3\xA4\x1F"
                                                            "a") == 1);
  // Of what no window wrote, nothing is believed.
  for (const auto& [key, value] :
       std::map<std::string, std::string>{{"p/k/user,queue/b/0/[\"x\"]", "1+1 "},
                                          {"p/k/user,queue/b/00/[\"x\",\"a\"]", "1+1 "},
                                          {"p/k/user,queue/b/99999999999999999/[\"x\",\"a\"]", "1+1 "},
                                          {"p/k/user,queue/b/0/[\"x\",\"a\"]", "rubbish"},
                                          {"p/k/user,queue/b/0", "1+1 "},
                                          {"p/k/user,queue/l", "1+99 "},
                                          {"p/k/user,queue/z", ""}}) {
    INFO(key);
    CHECK(read_back({{key, value}})[0].points() == 0);
  }
  // Another rule asks for another key: what is there is erased.
  const ExprPtr other = bind("first_seen(\"id\", errors[1m])");
  rules::collect_keys(*other, specs);
  for (const bool reload : {false, true}) {
    std::vector<PatternWindow> next = windows_for(*other, specs);
    if (reload) {
      next[0].adopt(std::move(windows[0]));
    } else {
      restore(next[0], "p/", store);
    }
    CHECK(next[0].points() == 0);
    std::map<std::string, std::string> after = store;
    save(next[0], "p/", after);
    CHECK(after.empty());
  }
}

TEST_CASE("keyed: a clock that was set back forgets what came after it", "[core][keyed]") {
  KeyedWindow window(need_of(false, std::chrono::minutes(1), std::chrono::minutes(1)));
  window.add("a", {}, from_unix_ms(1'000));
  window.add("a", {}, from_unix_ms(5'000));
  window.add("b", {}, from_unix_ms(5'000));
  StoreRows store;
  save(window, "p/", store);
  window.forget_after(from_unix_ms(2'000));
  CHECK(window.points() == 1);
  CHECK(window.entries().size() == 1);
  save(window, "p/", store);
  CHECK(store.size() == 1);
}

TEST_CASE(
    "keyed: who was seen before a restart is not new after it, and what a reload asks for first is not known "
    "yet",
    "[core][keyed][pipeline]") {
  constexpr std::int64_t kMinute = 60'000;
  tests::CoreWorld world;
  world.pattern("errors").pattern("other");
  world.sink("ops");
  world.route({"ops"});
  world.rule("New", "first_seen(\"class\", errors[7d])");
  world.start();
  const auto fired = [&](const engine::Tick& tick) {
    std::vector<std::string> out;
    for (const rules::Transition& step : tick.transitions) {
      if (step.to == rules::AlertState::kFiring && !step.alert.built_in)
        out.push_back(fmt::format("{} {}", step.alert.name(), step.alert.labels.get("class")));
    }
    return out;
  };
  using Lines = std::vector<std::string>;
  world.match("errors", 0, {}, "Foo failed", 1, {"Foo"});
  CHECK(fired(world.tick(0)) == Lines{"New Foo"});
  world.tick(20 * kMinute);
  world.restart();
  world.match("errors", 30 * kMinute, {}, "Foo failed", 1, {"Foo"});
  world.match("errors", 30 * kMinute, {}, "Bar failed", 1, {"Bar"});
  CHECK(fired(world.tick(30 * kMinute)) == Lines{"New Bar"});
  CHECK(world.pipeline->alerts().front().alert.last_line->text == "Bar failed");

  // A key that nobody asked for so far: nothing is known of who came.
  world.rule("Missing", "unanswered_over_time(\"class\", errors, other[10m]) > 0");
  for (const bool reload : {true, false}) {
    tests::CoreWorld next = [&] {
      tests::CoreWorld copy;
      copy.written = world.written;
      copy.store = world.store;
      return copy;
    }();
    if (reload) {
      next.written.rules.pop_back();
      next.start();
      next.tick(31 * kMinute);
      next.written = world.written;
      next.reload(31 * kMinute);
    } else {
      next.start();
    }
    next.match("errors", 32 * kMinute, {}, "Baz failed", 1, {"Baz"});
    // Of first_seen() the history is as it was, but of the answers there is none: only their rule is unknown.
    CHECK(fired(next.tick(32 * kMinute)) == Lines{"New Baz"});
    CHECK_FALSE(next.pipeline->rules()[0].unknown);
    CHECK(next.pipeline->rules()[1].unknown);
    next.match("errors", 41 * kMinute, {}, "Baz failed", 1, {"Baz"});
    next.tick(49 * kMinute);
    CHECK(next.pipeline->rules()[1].unknown);
    CHECK(fired(next.tick(52 * kMinute)) == Lines{"Missing Baz"});
    CHECK_FALSE(next.pipeline->rules()[1].unknown);
  }
}

namespace {

// The steps of a tick but those to pending, as in "1m5s R of {id="7"} resolved".
std::vector<std::string> steps_of(const engine::Tick& tick) {
  std::vector<std::string> out;
  for (const rules::Transition& step : tick.transitions) {
    if (step.alert.built_in || step.to == rules::AlertState::kPending) continue;
    out.push_back(fmt::format("{} {} {}", rules::format_duration(Duration(tests::CoreWorld::since(step.at))),
                              step.alert.labels.get("id"), rules::to_string(step.to)));
  }
  return out;
}

}  // namespace

TEST_CASE("keyed: resolve_when may ask by key, for all alerts of a rule or for each",
          "[core][keyed][pipeline]") {
  constexpr std::int64_t kSecond = 1'000;
  constexpr std::int64_t kMinute = 60'000;
  using Lines = std::vector<std::string>;
  tests::CoreWorld world;
  world.pattern("failed").pattern("fixed");
  world.sink("ops");
  world.route({"ops"});
  const auto line = [&](const char* pattern, std::int64_t at, const char* id) {
    world.match(pattern, at, {}, "", 1, {id});
  };

  SECTION("enough different ones end it, at the match of the last") {
    world.resolve_when(world.rule("R", "distinct_over_time(\"id\", failed[1m]) >= 2"),
                       "distinct_over_time(\"id\", fixed[5m]) >= 2");
    world.start();
    world.tick(0);
    line("failed", kSecond, "a");
    line("failed", 2 * kSecond, "b");
    CHECK(steps_of(world.tick(3 * kSecond)) == Lines{"2s  firing"});
    line("fixed", 2 * kMinute, "a");
    line("fixed", 3 * kMinute, "a");
    CHECK(steps_of(world.tick(4 * kMinute)).empty());
    world.restart();
    line("fixed", 4 * kMinute + kSecond, "b");
    CHECK(steps_of(world.tick(5 * kMinute)) == Lines{"4m1s  resolved"});
  }
  SECTION("none for a while ends it, when the last has left") {
    world.resolve_when(world.rule("R", "distinct_over_time(\"id\", failed[1m]) >= 2"),
                       "distinct_over_time(\"id\", failed[5m]) == 0");
    world.start();
    world.tick(0);
    line("failed", kSecond, "a");
    line("failed", 2 * kSecond, "b");
    line("failed", 4 * kMinute, "a");
    CHECK(steps_of(world.tick(4 * kMinute)) == Lines{"2s  firing"});
    world.restart();
    CHECK(steps_of(world.tick(9 * kMinute - 1)).empty());
    CHECK(steps_of(world.tick(10 * kMinute)) == Lines{"9m  resolved"});
  }
  SECTION("its own element of the same value ends each") {
    world.resolve_when(world.rule("R", "unanswered_over_time(\"id\", failed, fixed[1m]) > 0"),
                       "sequence_over_time(\"id\", failed, fixed[1h]) > 0");
    world.start();
    world.tick(0);
    line("failed", kSecond, "a");
    line("failed", 2 * kSecond, "b");
    CHECK(steps_of(world.tick(70 * kSecond)) == Lines{"1m1s a firing", "1m2s b firing"});
    // For a minute they would have been told without it.
    CHECK(steps_of(world.tick(10 * kMinute)).empty());
    line("fixed", 11 * kMinute, "b");
    CHECK(steps_of(world.tick(12 * kMinute)) == Lines{"11m b resolved"});
    world.restart();
    line("fixed", 13 * kMinute, "a");
    CHECK(steps_of(world.tick(14 * kMinute)) == Lines{"13m a resolved"});
  }
  SECTION("what nobody asked for before is not known, and ends nothing by its absence") {
    world.rule("R", "distinct_over_time(\"id\", failed[1m]) >= 2");
    world.start();
    world.tick(0);
    line("failed", kMinute, "a");
    line("failed", kMinute, "b");
    world.tick(kMinute);
    world.tick(90 * kSecond);  // which changes nothing, and is not written
    world.resolve_when(world.written.rules[0], "distinct_over_time(\"id\", fixed[5m]) == 0");
    const bool restarts = GENERATE(false, true);
    CAPTURE(restarts);
    if (restarts) {
      world.restart();
    } else {
      world.reload(90 * kSecond);
    }
    // Another end is another rule, which fires by itself for the half minute that is left.
    world.tick(100 * kSecond);
    REQUIRE(world.pipeline->alerts().size() == 1);
    CHECK(world.pipeline->rules()[0].unknown);
    const std::int64_t known = 5 * kMinute + (restarts ? kMinute : 90 * kSecond);
    CHECK(steps_of(world.tick(known - 1)).empty());
    CHECK(steps_of(world.tick(8 * kMinute)) == Lines{rules::format_duration(Duration(known)) + "  resolved"});
    CHECK_FALSE(world.pipeline->rules()[0].unknown);
  }
}

namespace {

// A world with one rule about new kinds of line in errors, and what fires of it.
struct TemplateWorld : tests::CoreWorld {
  static constexpr std::int64_t kMinute = 60'000;
  explicit TemplateWorld(const std::string& expr = "new_template(errors[7d])",
                         const std::vector<std::string>& labels = {}) {
    pattern("errors", labels).pattern("other");
    sink("ops");
    route({"ops"});
    rule("New", expr);
  }
  void line(std::int64_t minute, const std::string& text, const std::vector<std::string>& labels = {}) {
    match("errors", minute * kMinute, labels, text, 1, {rules::line_shape(text)});
  }
  std::vector<std::string> firing() const {
    std::vector<std::string> out;
    for (const engine::AlertView& view : pipeline->alerts()) {
      if (!view.alert.built_in && view.alert.is_firing())
        out.push_back(std::string(view.alert.labels.get("template")));
    }
    std::sort(out.begin(), out.end());
    return out;
  }
  std::vector<std::string> at(std::int64_t minute) {
    tick(minute * kMinute);
    return firing();
  }
};
using Lines = std::vector<std::string>;

}  // namespace

TEST_CASE(
    "keyed: an alert about a new kind of line keeps its labels while the kind becomes more general, over a "
    "restart and "
    "a reload",
    "[core][keyed][pipeline]") {
  for (const int again : {0, 1, 2}) {
    INFO(again);
    TemplateWorld world;
    const auto goes_on = [&](std::int64_t minute) {
      if (again == 1) world.restart();
      if (again == 2) world.reload(minute * TemplateWorld::kMinute);
    };
    world.start();
    world.line(0, "ERROR user ann was not found");
    world.line(0, "ERROR order 17 failed");
    CHECK(world.at(0) == Lines{"ERROR order <*> failed", "ERROR user ann was not found"});
    goes_on(1);
    // The same kinds, of which one takes another name in: no other alert, and no end.
    world.line(2, "ERROR user bob was not found");
    world.line(2, "ERROR order 18 failed");
    const engine::Tick tick = world.tick(2 * TemplateWorld::kMinute);
    CHECK(tick.transitions.empty());
    CHECK(world.firing() == Lines{"ERROR order <*> failed", "ERROR user ann was not found"});
    const auto alerts = world.pipeline->alerts();
    for (const engine::AlertView& view : alerts)
      CHECK(view.alert.value == 2);
    CHECK(world.at(5).empty());
    goes_on(6);
    // Days later they are known, however they are said; what is of no such kind is new, and its line stands
    // in the message.
    world.line(2 * 24 * 60, "ERROR user cy was not found");
    world.line(2 * 24 * 60, "ERROR user cy was found twice");
    world.line(2 * 24 * 60, "ERROR order 19 failed");
    CHECK(world.at(2 * 24 * 60) == Lines{"ERROR user cy was found twice"});
    CHECK(world.pipeline->alerts().front().alert.first_line->text == "ERROR user cy was found twice");
    goes_on(2 * 24 * 60 + 1);
    // A week after its last line a kind is new again.
    world.at(9 * 24 * 60 - 1);
    world.line(9 * 24 * 60 - 1, "ERROR order 20 failed");
    CHECK(world.at(9 * 24 * 60 - 1).empty());
    world.line(9 * 24 * 60, "ERROR user ann was not found");
    CHECK(world.at(9 * 24 * 60).size() == 1);
  }
}

TEST_CASE("keyed: what is kept of kinds of line goes with them", "[core][keyed][pipeline]") {
  TemplateWorld world("new_template(errors[10m])");
  world.start();
  const auto stored = [&](const std::string& part) {
    std::size_t count = 0;
    for (const auto& [key, value] : world.store)
      count += key.find("/k/<template-1>/" + part) != std::string::npos ? 1 : 0;
    return count;
  };
  for (int i = 0; i < 40; ++i)
    world.line(i, i % 4 == 0 ? "ERROR order 17 failed"
                             : "ERROR user " + std::string(1, static_cast<char>('a' + i % 4)) + " is lost");
  world.at(40);
  CHECK(stored("t/") == 2);
  CHECK(stored("b/") > 2);
  // Nothing is kept of their lines, and an hour later they are forgotten as well.
  world.at(60);
  CHECK(stored("b/") == 0);
  CHECK(stored("t/") == 2);
  world.at(116);
  CHECK(stored("") == 0);
  world.line(117, "ERROR order 18 failed");
  world.at(117);
  CHECK(stored("t/") == 1);
  // Nobody asks any more.
  world.written.rules.pop_back();
  world.written.patterns[0].keys.clear();
  world.rule("Other", "count_over_time(errors[1m]) > 3");
  SECTION("after a reload") {
    world.reload(62 * TemplateWorld::kMinute);
  }
  SECTION("after a restart") {
    world.restart();
  }
  world.at(119);
  world.match("errors", 120 * TemplateWorld::kMinute);
  world.at(120);
  CHECK(stored("") == 0);
}

TEST_CASE("keyed: a kind of line is new to each series by itself", "[core][keyed][pipeline]") {
  TemplateWorld world("new_template(errors{queue!=\"c\"}[7d])", {"queue"});
  world.start();
  world.line(0, "ERROR user ann is lost", {"a"});
  CHECK(world.at(0) == Lines{"ERROR user ann is lost"});
  CHECK(world.pipeline->alerts().front().alert.labels.get("queue") == "a");
  CHECK(world.at(10).empty());
  world.line(11, "ERROR user bob is lost", {"b"});
  world.line(11, "ERROR user bob is lost", {"a"});
  world.line(11, "ERROR disk full", {"c"});
  CHECK(world.at(11) == Lines{"ERROR user ann is lost"});
  CHECK(world.pipeline->alerts().front().alert.labels.get("queue") == "b");
}

TEST_CASE("keyed: until a pattern was watched for the window and five minutes no kind of line is new",
          "[core][keyed][pipeline]") {
  TemplateWorld world("new_template(errors[1h])");
  world.status.watched_from = tests::CoreWorld::at(0);
  world.start();
  world.line(0, "ERROR disk full");
  CHECK(world.at(0).empty());
  CHECK(world.at(64).empty());
  world.line(66, "ERROR user ann is lost");
  CHECK(world.at(66) == Lines{"ERROR user ann is lost"});
}

TEST_CASE("keyed: a template too many makes its rules unknown, and is counted and told",
          "[core][keyed][pipeline]") {
  TemplateWorld world("new_template(errors[10m])");
  world.start();
  world.at(0);
  const auto word = [](std::size_t n) {
    std::string out;
    for (; n > 0 || out.empty(); n /= 26)
      out += static_cast<char>('a' + n % 26);
    return out;
  };
  for (std::size_t i = 0; i < engine::TemplateTree::kMaxTemplates; ++i)
    world.line(1, "x" + word(i) + " y" + word(i));
  world.at(1);
  CHECK_FALSE(world.pipeline->rules()[0].unknown);
  world.at(8);
  world.line(8, "one more");
  CHECK(world.at(8).empty());
  CHECK(world.pipeline->rules()[0].unknown);
  const auto metrics = world.pipeline->metrics();
  const auto dropped = std::find_if(metrics.begin(), metrics.end(), [](const engine::MetricValue& one) {
    return one.name == "logbell_keys_dropped_total" && one.labels.get("pattern") == "errors";
  });
  REQUIRE(dropped != metrics.end());
  CHECK(dropped->value == 1);
  const auto told = [&] {
    for (const engine::AlertView& view : world.pipeline->alerts()) {
      if (view.alert.name() == "SeriesOverflow" && view.alert.labels.get("key") == "template")
        return std::string(view.alert.annotation("summary"));
    }
    return std::string();
  };
  INFO(told());
  CHECK(told().find("more than 2000 kinds (templates) within 15m") != std::string::npos);
  // It may have been new, and it may come again: nothing fires, also not what is known to be new.
  world.line(20, "ERROR disk full");
  CHECK(world.at(20).empty());
  // Once no window holds what was dropped, it is known again; and there is room once the others are
  // forgotten.
  world.at(80);
  world.at(81);
  CHECK_FALSE(world.pipeline->rules()[0].unknown);
  CHECK(told().empty());
  world.line(82, "one more");
  CHECK(world.at(82) == Lines{"one more"});
}

TEST_CASE("keyed: of more values than are told one by one the first are, all are counted, and it is said",
          "[core][keyed][pipeline]") {
  constexpr std::int64_t kMinute = 60'000;
  constexpr auto kMost = static_cast<std::int64_t>(engine::KeyedIndex::kMaxElements);
  tests::CoreWorld world;
  world.pattern("ask").pattern("answer");
  world.rule("Each", "unanswered_over_time(\"id\", ask, answer[1m])");
  world.rule("Many", "count(unanswered_over_time(\"id\", ask, answer[1m])) >= 1200");
  // What makes something of them looks at all.
  world.rule("Some", "count(unanswered_over_time(\"id\", ask, answer[1m]) == 1) >= 1200");
  world.rule("Loud", "first_seen(\"id\", ask[1m]) > 1");
  world.sink("ops");
  world.route({"ops"});
  world.start();
  world.tick(-10 * kMinute);
  world.tick(-1);
  const auto metric = [&](const std::string& name, const std::string& pattern) {
    for (const engine::MetricValue& value : world.pipeline->metrics()) {
      if (value.name == name && value.labels.get("pattern") == pattern) return value.value;
    }
    return -1.0;
  };
  const auto firing = [&](const std::string& name) {
    std::int64_t count = 0;
    for (const engine::AlertView& one : world.pipeline->alerts())
      count += one.alert.name() == name && one.alert.is_firing() ? 1 : 0;
    return count;
  };
  const auto ask = [&](std::int64_t from, std::int64_t to) {
    for (std::int64_t i = from; i < to; ++i)
      world.match("ask", i, {}, "asked", 1, {fmt::format("r{}", i)});
  };
  ask(0, kMost);
  ask(6000, 6200);
  world.match("ask", 6500, {}, "asked", 1, {"r6199"});
  world.tick(7000);
  CHECK(firing("Loud") == 1);  // the last of 1200
  world.tick(kMinute + 5000);
  CHECK(firing("Each") == kMost);
  CHECK(firing("SeriesOverflow") == 0);
  CHECK(metric("logbell_elements_untold_total", "ask") == 0);
  world.tick(kMinute + 6199);
  CHECK(firing("Each") == kMost);
  CHECK(firing("Many") == 1);
  CHECK(firing("Some") == 1);
  CHECK(firing("SeriesOverflow") == 1);
  CHECK(metric("logbell_elements_untold_total", "ask") == 200);
  // The first are answered: others take their places.
  for (std::int64_t i = 0; i < 150; ++i)
    world.match("answer", kMinute + 6300, {}, "answered", 1, {fmt::format("r{}", i)});
  world.tick(kMinute + 6301);
  CHECK(firing("Each") == kMost);
  CHECK(firing("Many") == 0);
  for (std::int64_t i = 150; i < 200; ++i)
    world.match("answer", kMinute + 6400, {}, "answered", 1, {fmt::format("r{}", i)});
  world.tick(kMinute + 6401);
  CHECK(firing("Each") == kMost);
  CHECK(firing("SeriesOverflow") == 0);
  CHECK(metric("logbell_elements_untold_total", "ask") == 200);
  world.tick(3 * kMinute);
  CHECK(firing("Each") == 0);
}

TEST_CASE("keyed: only a rule's own elements are bounded, not what else asks for them", "[core][keyed]") {
  constexpr std::size_t kMost = engine::KeyedIndex::kMaxElements;
  std::vector<rules::PatternSpec> specs = two_patterns();
  const auto bound = rules::bind_expr(*rules::parse_expr("first_seen(\"user\", plain[1m])"), specs);
  REQUIRE(bound);
  const rules::ExprPtr& expr = *bound;
  rules::collect_keys(*expr, specs);
  std::vector<PatternWindow> windows = windows_for(*expr, specs);
  const auto window_of = [&](std::uint32_t index) -> const PatternWindow& { return windows[index]; };
  for (std::size_t i = 0; i < kMost + 200; ++i)
    windows[1].add_keys({}, {fmt::format("u{}", i)}, from_unix_ms(static_cast<std::int64_t>(i)));
  // resolve_when, the peaks of a backtest, the coverage of tests.
  const auto at = from_unix_ms(2000);
  CHECK(engine::evaluate(*expr, at, window_of)->size() == kMost + 200);
  CHECK(engine::evaluate(*expr, at, window_of, engine::Elements::kTold)->size() == kMost);
  // Nothing comes into the first ones any more; of all the last does.
  const auto near_last = from_unix_ms(static_cast<std::int64_t>(kMost + 198));
  CHECK(engine::next_change(*expr, near_last, window_of) == near_last + Duration(1));
  CHECK(engine::next_change(*expr, near_last, window_of, engine::Elements::kTold) == from_unix_ms(0) + rules::kFirstSeenFor);
}

TEST_CASE("keyed: of templates only what has its text is read back", "[core][keyed]") {
  rules::KeyedNeed need = need_of(false, std::chrono::hours(1), std::chrono::hours(1));
  need.key = rules::kTemplateKey;
  KeyedWindow window(need);
  window.add("ERROR disk full", {}, from_unix_ms(5'000));
  window.add("ERROR user ann is lost", {}, from_unix_ms(6'000));
  window.add("ERROR user bob is lost", {}, from_unix_ms(7'000));
  REQUIRE(window.entries().size() == 2);
  CHECK(window.shown_key("1") == "ERROR disk full");
  CHECK(window.shown_key("2") == "ERROR user ann is lost");
  StoreRows store;
  save(window, "p/", store);
  store.erase("p/t/1");
  KeyedWindow again(need);
  restore(again, "p/", store);
  again.restored();
  CHECK(again.entries().size() == 1);
  CHECK(again.points() == 2);
  again.add("ERROR user cy is lost", {}, from_unix_ms(8'000));
  CHECK(again.entries().at("2").times.size() == 3);
  // And what has no text any more is erased.
  save(again, "p/", store);
  CHECK(store.size() == 2);
  // A clock that was set back forgets the lines, and the kinds with them.
  again.forget_after(from_unix_ms(4'000));
  CHECK(again.entries().empty());
  again.forget(from_unix_ms(4'000 + 7'200'000 - 1));
  save(again, "p/", store);
  CHECK(store.size() == 1);
  // A restart later it is known as long.
  KeyedWindow third(need);
  restore(third, "p/", store);
  third.restored();
  third.forget(from_unix_ms(4'000 + 7'200'000 - 1));
  CHECK(third.shown_key("2") == "ERROR user ann is lost");
  third.forget(from_unix_ms(4'000 + 7'200'000));
  save(third, "p/", store);
  CHECK(store.empty());
}

TEST_CASE("keyed: a key too many makes its rules unknown, and is counted and told",
          "[core][keyed][pipeline]") {
  constexpr std::int64_t kMinute = 60'000;
  tests::CoreWorld world;
  world.pattern("asked").pattern("answered");
  world.sink("ops");
  world.route({"ops"});
  world.rule("Missing", "unanswered_over_time(\"id\", asked, answered[10m]) > 0");
  world.start();
  world.tick(0);
  for (std::size_t i = 0; i <= KeyedWindow::kMaxKeys; ++i)
    world.match("answered", kMinute, {}, "", 1, {std::to_string(i)});
  world.match("asked", kMinute, {}, "", 1, {std::to_string(KeyedWindow::kMaxKeys)});
  world.tick(kMinute);
  CHECK(world.pipeline->rules()[0].unknown);
  const auto metrics = world.pipeline->metrics();
  const auto dropped = std::find_if(metrics.begin(), metrics.end(), [](const engine::MetricValue& one) {
    return one.name == "logbell_keys_dropped_total" && one.labels.get("pattern") == "answered";
  });
  REQUIRE(dropped != metrics.end());
  CHECK(dropped->value == 1);
  const auto told = [&] {
    const auto alerts = world.pipeline->alerts();
    return std::any_of(alerts.begin(), alerts.end(), [](const engine::AlertView& view) {
      return view.alert.name() == "SeriesOverflow" && view.alert.labels.get("key") == "id";
    });
  };
  CHECK(told());
  // It was answered, and nobody knows: nothing fires.
  world.tick(12 * kMinute);
  CHECK(world.pipeline->rules()[0].firing == 0);
  // Once no window holds what was dropped, all is well again.
  world.tick(22 * kMinute);
  world.tick(23 * kMinute);
  CHECK_FALSE(world.pipeline->rules()[0].unknown);
  CHECK_FALSE(told());
}

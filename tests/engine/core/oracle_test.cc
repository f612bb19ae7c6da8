// The oracle: a naive model that keeps every match and recounts every window at every millisecond that
// matters. Random timelines, with late lines, silence and gaps in what is known, must give identical
// transitions.
#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <random>
#include <set>

#include <catch2/catch.hpp>

#include "engine/core/rule_state.h"

using namespace logbell;
using engine::PatternWindow;
using engine::RuleInputs;
using engine::RuleState;
using rules::Duration;
using rules::from_unix_ms;
using rules::to_unix_ms;

namespace {

struct NaiveMatch {
  int pattern;  // 0: errors{queue}, 1: plain
  std::string queue;
  std::int64_t at;
  double value = 0;  // NaN: none
};

// What the model may ask: a recount of every match kept.
struct Counter {
  const std::vector<NaiveMatch>& matches;
  std::int64_t now;
  double in(int pattern, std::int64_t window, const std::string* queue = nullptr) const {
    double count = 0;
    for (const NaiveMatch& match : matches) {
      if (match.pattern == pattern && match.at > now - window && match.at <= now &&
          (queue == nullptr || match.queue == *queue))
        ++count;
    }
    return count;
  }
  // Those of the lines that have one.
  std::vector<double> values(int pattern, std::int64_t window, const std::string* queue = nullptr) const {
    std::vector<double> all;
    for (const NaiveMatch& match : matches) {
      if (match.pattern == pattern && match.at > now - window && match.at <= now &&
          !std::isnan(match.value) && (queue == nullptr || match.queue == *queue))
        all.push_back(match.value);
    }
    return all;
  }
  Counter before(std::int64_t offset) const { return {matches, now - offset}; }
  std::set<std::string> queues() const {
    std::set<std::string> seen;
    for (const NaiveMatch& match : matches) {
      if (match.pattern == 0 && match.at <= now) seen.insert(match.queue);
    }
    return seen;
  }
};

using Result = std::map<std::string, double>;  // queue ("" = no label) -> value

struct Kind {
  const char* expr;
  std::vector<std::int64_t> windows;
  bool presence;
  bool absence;
  std::function<Result(const Counter&)> value;
};

Result one(bool holds, double value) {
  return holds ? Result{{"", value}} : Result{};
}

const std::vector<Kind>& kinds() {
  static const std::vector<Kind> kAll{
      {"count_over_time(plain[50ms]) >= 3",
       {50},
       true,
       false,
       [](const Counter& c) { return one(c.in(1, 50) >= 3, c.in(1, 50)); }},
      {"count_over_time(plain[70ms]) == 0",
       {70},
       false,
       true,
       [](const Counter& c) { return one(c.in(1, 70) == 0, 0); }},
      {"absent_over_time(errors{queue=\"a\"}[60ms])",
       {60},
       false,
       true,
       [](const Counter& c) {
         const std::string a = "a";
         return c.in(0, 60, &a) == 0 ? Result{{"a", 1}} : Result{};
       }},
      {"sum by (queue) (count_over_time(errors[40ms])) > 1",
       {40},
       true,
       false,
       [](const Counter& c) {
         Result result;
         for (const std::string& queue : c.queues()) {
           if (c.in(0, 40, &queue) > 1) result[queue] = c.in(0, 40, &queue);
         }
         return result;
       }},
      {"count_over_time(errors[45ms]) < 2",
       {45},
       false,
       true,
       [](const Counter& c) {
         Result result;
         for (const std::string& queue : c.queues()) {
           if (c.in(0, 45, &queue) < 2) result[queue] = c.in(0, 45, &queue);
         }
         return result;
       }},
      {"sum(count_over_time(errors[80ms])) / count_over_time(plain[80ms]) > 0.5 and "
       "sum(count_over_time(errors[80ms])) >= 2",
       {80},
       true,
       false,
       [](const Counter& c) {
         const double ratio = c.in(0, 80) / c.in(1, 80);
         return one(ratio > 0.5 && c.in(0, 80) >= 2, ratio);
       }},
      {"count_over_time(plain[30ms]) > 1 unless sum(count_over_time(errors[90ms])) > 4",
       {30, 90},
       true,
       true,
       [](const Counter& c) { return one(c.in(1, 30) > 1 && !(c.in(0, 90) > 4), c.in(1, 30)); }},
      {"count_over_time(plain[20ms]) - count_over_time(plain[60ms]) < -2 or count_over_time(plain[60ms]) == "
       "1",
       {20, 60},
       true,
       true,
       [](const Counter& c) {
         const double difference = c.in(1, 20) - c.in(1, 60);
         if (difference < -2) return one(true, difference);
         return one(c.in(1, 60) == 1, 1);
       }},
      {"rate(plain[50ms]) * 0.05 != 1",
       {50},
       true,
       true,
       [](const Counter& c) { return one(c.in(1, 50) / 0.05 * 0.05 != 1, c.in(1, 50) / 0.05 * 0.05); }},
      {"count_over_time(plain[30ms]) > count_over_time(plain[30ms] offset 50ms) + 1",
       {80},
       true,
       true,
       [](const Counter& c) {
         const double now = c.in(1, 30);
         return one(now > c.before(50).in(1, 30) + 1, now);
       }},
      {"count_over_time(errors[20ms] offset 40ms) < 1",
       {60},
       false,
       true,
       [](const Counter& c) {
         Result result;
         for (const std::string& queue : c.before(40).queues()) {
           if (c.before(40).in(0, 20, &queue) < 1) result[queue] = 0;
         }
         return result;
       }},
      {"max_over_time(errors[50ms]) > 6",
       {50},
       true,
       false,
       [](const Counter& c) {
         Result result;
         for (const std::string& queue : c.queues()) {
           for (const double value : c.values(0, 50, &queue)) {
             if (value > 6) result[queue] = std::max(value, result[queue]);
           }
         }
         return result;
       }},
      {"sum_over_time(plain[40ms] offset 30ms) + 1 < avg_over_time(plain[70ms])",
       {70},
       true,
       true,
       [](const Counter& c) {
         const std::vector<double> then = c.before(30).values(1, 40);
         const std::vector<double> now = c.values(1, 70);
         if (then.empty() || now.empty()) return Result{};
         const double left = std::accumulate(then.begin(), then.end(), 0.0) + 1;
         return one(left < std::accumulate(now.begin(), now.end(), 0.0) / static_cast<double>(now.size()),
                    left);
       }},
      {"max(count_over_time(errors[50ms])) >= 2",
       {50},
       true,
       false,
       [](const Counter& c) {
         double most = 0;
         for (const std::string& queue : c.queues())
           most = std::max(most, c.in(0, 50, &queue));
         return one(most >= 2, most);
       }},
  };
  return kAll;
}

// What may end the alerts of those whose elements have a queue ("by queue"), or of all.
struct EndKind {
  const char* expr;
  std::int64_t window;
  bool absence;
  bool by_queue;
  std::function<Result(const Counter&)> value;
};

const std::vector<EndKind>& end_kinds() {
  static const std::vector<EndKind> kAll{
      {"count_over_time(plain[55ms]) < 1", 55, true, false,
       [](const Counter& c) { return one(c.in(1, 55) < 1, 0); }},
      {"count_over_time(plain[25ms]) >= 2", 25, false, false,
       [](const Counter& c) { return one(c.in(1, 25) >= 2, 0); }},
      {"sum(count_over_time(errors[85ms])) - count_over_time(plain[85ms]) != 0", 85, true, false,
       [](const Counter& c) { return one(c.in(0, 85) != c.in(1, 85), 0); }},
      {"sum by (queue) (count_over_time(errors[75ms])) < 1", 75, true, true,
       [](const Counter& c) {
         Result result;
         for (const std::string& queue : c.queues()) {
           if (c.in(0, 75, &queue) < 1) result[queue] = 0;
         }
         return result;
       }},
      {"count_over_time(errors[35ms]) > 2", 35, false, true,
       [](const Counter& c) {
         Result result;
         for (const std::string& queue : c.queues()) {
           if (c.in(0, 35, &queue) > 2) result[queue] = 0;
         }
         return result;
       }},
      {"absent_over_time(errors{queue=\"a\"}[65ms])", 65, true, true,
       [](const Counter& c) {
         const std::string a = "a";
         return c.in(0, 65, &a) == 0 ? Result{{"a", 1}} : Result{};
       }},
  };
  return kAll;
}

struct NaiveAlert {
  bool firing = false;
  std::int64_t active_at = 0;
  std::optional<std::int64_t> absent_since;
};

// The whole rule again, as plainly as it can be said.
class NaiveRule {
 public:
  NaiveRule(const Kind& kind, const EndKind* end, std::int64_t for_ms, std::int64_t keep_ms)
      : kind_(kind), end_(end), for_(for_ms), keep_(keep_ms) {}

  void look(const std::vector<NaiveMatch>& matches, std::int64_t now, const RuleInputs& inputs,
            std::vector<std::string>& out) {
    const Result result = kind_.value({matches, now});
    bool may_fire = inputs.readable || inputs.sees;
    bool may_resolve = may_fire;
    const std::int64_t longest = *std::max_element(kind_.windows.begin(), kind_.windows.end());
    if (!inputs.readable || !inputs.watched_from || now - longest < to_unix_ms(*inputs.watched_from)) {
      may_fire = may_fire && !kind_.absence;
      may_resolve = may_resolve && !kind_.presence;
    }
    const Result ends = end_ == nullptr ? Result{} : end_->value({matches, now});
    const bool ends_known = end_ == nullptr || !end_->absence ||
                            (inputs.readable && inputs.watched_from && now - end_->window >= to_unix_ms(*inputs.watched_from));
    std::set<std::string> names;
    for (const auto& [queue, alert] : active_)
      names.insert(queue);
    for (const auto& [queue, value] : result)
      names.insert(queue);
    for (const std::string& queue : names) {
      const bool holds = result.count(queue) != 0;
      const auto say = [&](const char* what) {
        out.push_back(std::to_string(now) + " " + queue + " " + what);
      };
      if (active_.count(queue) == 0) {
        if (!may_fire) continue;
        say("pending");
        active_[queue] = {for_ == 0, now, {}};
        if (for_ == 0) say("firing");
        continue;
      }
      NaiveAlert& alert = active_[queue];
      if (holds) {
        alert.absent_since.reset();
        if (!alert.firing && may_fire && now - alert.active_at >= for_) {
          alert.firing = true;
          say("firing");
        }
      } else if (alert.firing ? may_resolve : may_resolve || (!inputs.readable && may_fire)) {
        if (alert.firing && end_ != nullptr) {
          if (!ends_known) continue;
          if (ends.count(end_->by_queue ? queue : "") == 0) {
            alert.absent_since.reset();
            continue;
          }
        }
        if (alert.firing && keep_ > 0) {
          if (!alert.absent_since) alert.absent_since = now;
          if (now - *alert.absent_since < keep_) continue;
        }
        say(alert.firing ? "resolved" : "inactive");
        active_.erase(queue);
      }
    }
  }

  // Every millisecond of (from, to]: whatever matters is among them.
  void run(const std::vector<NaiveMatch>& matches, std::int64_t from, std::int64_t to,
           const RuleInputs& inputs, std::vector<std::string>& out) {
    for (std::int64_t now = from + 1; now <= to; ++now)
      look(matches, now, inputs, out);
  }

 private:
  const Kind& kind_;
  const EndKind* end_;
  std::int64_t for_;
  std::int64_t keep_;
  std::map<std::string, NaiveAlert> active_;
};

std::vector<rules::PatternSpec> two_patterns() {
  std::vector<rules::PatternSpec> all(2);
  all[0].name = "errors";
  all[0].labels = {"queue"};
  all[1].name = "plain";
  all[0].value = all[1].value = "v";
  return all;
}

// One random timeline; returns a description of the first difference, or "".
std::string run_timeline(std::uint64_t seed, std::size_t& transitions) {
  std::mt19937_64 random(seed);
  const auto pick = [&](std::uint64_t n) { return static_cast<std::int64_t>(random() % n); };
  const auto specs = two_patterns();
  const Kind& kind = kinds()[static_cast<std::size_t>(pick(kinds().size()))];
  rules::AlertingRule rule;
  rule.name = "R";
  rule.expr = *rules::bind_expr(*rules::parse_expr(kind.expr), specs);
  rule.polarity = rules::polarity(*rule.expr);
  const std::int64_t for_ms = pick(2) == 0 ? 0 : 5 + pick(60);
  const std::int64_t keep_ms = pick(2) == 0 ? 0 : 5 + pick(60);
  rule.for_ = Duration(for_ms);
  rule.keep_firing_for = Duration(keep_ms);
  const EndKind* end = pick(2) == 0 ? nullptr : &end_kinds()[static_cast<std::size_t>(pick(end_kinds().size()))];
  if (end != nullptr && end->by_queue && rules::result_labels(*rule.expr, specs).empty()) end = nullptr;
  if (end != nullptr) {
    rules::ResolveWhen& resolve = rule.resolve_when.emplace();
    resolve.expr = *rules::bind_expr(*rules::parse_expr(end->expr), specs);
    resolve.labels = rules::result_labels(*resolve.expr, specs);
    resolve.polarity = rules::polarity(*resolve.expr);
    if (resolve.polarity.absence != end->absence) return "polarity of " + std::string(end->expr);
  }
  if (rule.polarity.presence != kind.presence || rule.polarity.absence != kind.absence)
    return "polarity of " + std::string(kind.expr);

  std::vector<PatternWindow> windows;
  windows.reserve(specs.size());
  for (const auto& spec : specs)
    windows.emplace_back(spec, Duration(90), true);
  RuleState state(rule, [&](std::uint32_t index) -> const PatternWindow& { return windows[index]; });
  NaiveRule naive(kind, end, for_ms, keep_ms);
  std::vector<NaiveMatch> matches;
  std::vector<std::string> expected;
  std::vector<std::string> got;
  std::int64_t clock = 1000;
  RuleInputs inputs;
  inputs.watched_from = from_unix_ms(clock - (pick(2) == 0 ? 500 : 0));
  bool started = false;
  for (int batch = 0; batch < 12; ++batch) {
    const std::int64_t next = clock + pick(120);
    bool late = false;
    for (std::int64_t n = pick(8); n > 0; --n) {
      NaiveMatch match{static_cast<int>(pick(2)), pick(2) == 0 ? "a" : "b", 0, 0};
      if (match.pattern == 1) match.queue.clear();
      const std::int64_t kind_of_time = pick(10);
      match.at = kind_of_time == 0   ? clock - pick(100)
                 : kind_of_time == 1 ? next + pick(60)
                                     : clock + pick(static_cast<std::uint64_t>(next - clock + 1));
      if (match.at <= clock && started) late = true;
      match.value =
          pick(5) == 0 ? std::numeric_limits<double>::quiet_NaN() : static_cast<double>(pick(12) - 4);
      matches.push_back(match);
      const std::vector<std::string> values =
          match.pattern == 0 ? std::vector<std::string>{match.queue} : std::vector<std::string>{};
      windows[static_cast<std::size_t>(match.pattern)].add(values, from_unix_ms(match.at), 1, true,
                                                           match.value);
    }
    if (pick(15) == 0) inputs.watched_from = from_unix_ms(clock);  // a gap
    inputs.readable = pick(12) != 0;
    inputs.sees = inputs.readable || pick(2) != 0;
    inputs.clock = from_unix_ms(next);
    if (!started) {
      const std::int64_t start = std::min(to_unix_ms(*inputs.watched_from), next);
      naive.look(matches, start, inputs, expected);
      naive.run(matches, start, next, inputs, expected);
      started = true;
    } else {
      // The present again, with what came late and what is known by now; then each millisecond.
      naive.look(matches, clock, inputs, expected);
      naive.run(matches, clock, next, inputs, expected);
    }
    std::vector<engine::Step> steps;
    state.advance(inputs, late, steps);
    for (const engine::Step& step : steps) {
      got.push_back(std::to_string(to_unix_ms(step.at)) + " " + std::string(step.alert.labels.get("queue")) +
                    " " + std::string(rules::to_string(step.to)));
    }
    // Within one instant the order of elements is of no meaning.
    const auto sorted = [](std::vector<std::string> lines) {
      std::stable_sort(lines.begin(), lines.end(), [](const std::string& a, const std::string& b) {
        return std::stoll(a) < std::stoll(b);
      });
      return lines;
    };
    const auto same = [&] {
      auto a = expected;
      auto b = got;
      std::sort(a.begin(), a.end());
      std::sort(b.begin(), b.end());
      return a == b;
    };
    if (!same()) {
      std::string text = "seed " + std::to_string(seed) + ", " + kind.expr + ", for " +
                         std::to_string(for_ms) + ", keep " + std::to_string(keep_ms) + (end == nullptr ? "" : std::string(", resolve_when ") + end->expr) +
                         "\nmodel:";
      for (const auto& line : sorted(expected))
        text += " [" + line + "]";
      text += "\nlogbell:";
      for (const auto& line : sorted(got))
        text += " [" + line + "]";
      return text;
    }
    clock = next;
    // What no window can cover any more is forgotten, as in life.
    for (PatternWindow& window : windows)
      window.forget(from_unix_ms(clock), {});
  }
  transitions += got.size();
  return "";
}

}  // namespace

TEST_CASE("oracle: 10 000 random timelines give the transitions of the naive model", "[core][oracle]") {
  std::size_t transitions = 0;
  for (std::uint64_t seed = 1; seed <= 10'000; ++seed) {
    const std::string difference = run_timeline(seed, transitions);
    INFO(difference);
    REQUIRE(difference.empty());
  }
  // A model that never fires would agree with anything.
  CHECK(transitions > 20'000);
}

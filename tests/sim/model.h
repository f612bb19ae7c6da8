// The model: every line there is, and each rule said again as plainly as it can be: windows are recounted at
// every instant at which a line comes or leaves. It shares nothing with the engine but Timestamp's unit.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace logbell::sim {

using Ms = std::int64_t;  // since the epoch, event time

enum class Kind { kError, kSlow, kBeat, kOk, kFailed, kExtra, kFresh, kNoise };

// When lines came, by kind and queue ("" where the kind has none).
class Lines {
 public:
  void add(Kind kind, const std::string& queue, Ms at);
  // In (now - window, now].
  double count(Kind kind, const std::string& queue, Ms window, Ms now) const;
  void forget(Kind kind);
  std::vector<std::string> queues(Ms now) const;  // of errors, up to `now`
  // The first instant after `from` at which a line of `kind` comes or leaves a window.
  std::optional<Ms> next_change(Kind kind, const std::vector<Ms>& windows, Ms from) const;

 private:
  std::map<std::pair<Kind, std::string>, std::vector<Ms>> at_;  // sorted
};

using Result = std::map<std::string, double>;  // queue ("" = no label) -> value

// What a rule says, with what its expression is in the configuration.
struct RuleText {
  std::string name;
  std::string expr;
  std::string severity;
  Ms for_ms = 0;
  Ms keep_ms = 0;
  std::vector<Ms> windows;
  std::vector<Kind> kinds;
  std::vector<std::string> sources;
  bool presence = false;
  bool absence = false;
  std::function<Result(const Lines&, Ms now)> value;
};
const std::vector<RuleText>& rule_texts();
inline constexpr Ms kSecond = 1000;

struct Episode {
  std::string rule;
  std::string queue;
  Ms fired_at = 0;
  std::optional<Ms> resolved_at;
  friend auto operator<=>(const Episode&, const Episode&) = default;
};

struct State {
  std::string queue;
  bool firing = false;
  Ms active_at = 0;
  Ms fired_at = 0;
  friend auto operator<=>(const State&, const State&) = default;
};

// One rule on its clock.
class Rule {
 public:
  Rule(const RuleText& text, Ms watched_from);

  // A configuration takes hold at `at`, where the rule's clock stands.
  void set_for(Ms at, Ms for_ms);
  void remove(Ms at);
  // It is removed, and its lines are about to be forgotten: what it has is what it had.
  void freeze(const Lines& lines);

  // From the beginning up to `to`, or on from where it was.
  void run(const Lines& lines, Ms to);

  std::set<State> states() const;
  const std::set<Episode>& episodes() const { return episodes_; }  // up to the clock
  const RuleText& text() const { return *text_; }
  Ms clock() const { return clock_; }
  std::optional<Ms> removed_at() const { return removed_at_; }

 private:
  struct Active {
    bool firing = false;
    Ms active_at = 0;
    Ms fired_at = 0;
    std::optional<Ms> absent_since;
  };
  void start_over();
  void look(const Lines& lines, Ms now);
  void end(const std::string& queue, const Active& active, Ms at);
  std::optional<Ms> next(const Lines& lines, Ms from) const;

  const RuleText* text_;
  Ms watched_from_;
  std::map<Ms, Ms> for_;  // since when -> how long
  std::optional<Ms> removed_at_;
  bool started_ = false;
  bool frozen_ = false;
  Ms clock_ = 0;
  std::map<std::string, Active> active_;
  std::set<Episode> episodes_;
};

}  // namespace logbell::sim

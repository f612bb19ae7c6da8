// World: one life of logbell, drawn from a seed: logs that are written and rotated, a machine that crashes,
// sinks that fail, an operator who reloads; and what must be true of it at every step and in the end.
#pragma once

#include <cstdint>
#include <deque>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "engine/run/config.h"
#include "engine/run/runtime.h"
#include "tests/sim/logs.h"
#include "tests/sim/model.h"
#include "tests/sim/receivers.h"
#include "tests/sim/stepper.h"
#include "tests/support/crash_vfs.h"
#include "tests/support/fake_clock.h"

namespace logbell::sim {

// A promise was broken.
struct Violation : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// What the operator has written; a reload changes one of these.
struct Setup {
  bool extra = false;  // the rule Extra, with its pattern
  bool spare = false;  // a sink that hears of everything too
  int annotation = 0;  // of every rule
  int slow_for = 5;    // seconds; `for` of the rule Slow
  int grouping = 0;    // by alertname, by alertname and queue, each alert for itself
};

struct Counts {
  std::uint64_t actions = 0;
  std::uint64_t steps = 0;
  std::uint64_t lines = 0;
  std::uint64_t crashes = 0;
  std::uint64_t reloads = 0;
  std::uint64_t messages = 0;
  std::uint64_t episodes = 0;
  std::uint64_t compared = 0;
};

class World {
 public:
  // `directory` is emptied; its path must be the same for every seed, so that configurations are compiled
  // once.
  World(std::uint64_t seed, std::filesystem::path directory);
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  // Throws a Violation.
  void live();
  const std::deque<std::string>& last_actions() const { return actions_; }
  const Counts& counts() const { return counts_; }
  bool exact() const { return exact_; }

 private:
  struct Crash {};  // thrown through whatever runs, caught where a process can be started again

  std::uint64_t draw(std::uint64_t n) { return random_() % n; }
  bool chance(std::uint64_t percent) { return draw(100) < percent; }
  void say(std::string what);
  void wrong(const std::string& what) { throw Violation(what); }
  Ms now() const { return rules::to_unix_ms(clock_.now()); }

  // The process.
  std::shared_ptr<const engine::Config> config(const Setup& setup);
  void start();
  void bury();  // after a crash
  void crash_now(bool power);
  void stop_gracefully();
  void after_step();
  template <class F>
  void alive(F f);  // f, and a new start if the process dies in it
  void settle();
  void pass(rules::Duration span);
  void make_durable();
  void confirm_present();

  // What happens.
  void act();
  void write();
  void write_line(Log& log);
  std::string text_of(Line& line, std::uint64_t id, Ms at);
  void half_line();
  void rotate();
  void turn_to_new_files();
  void cut(Log& log);
  void change_mood();
  void reload();
  void step_clock();
  void fill_disk();
  Log& any_log() { return *logs_[draw(logs_.size())]; }

  // What must be true.
  void check_view();
  void note_together(const Rule& model, Ms clock);
  void check_end();
  void check_lines();
  void check_told();
  void check_rough_end();
  Rule* model_of(const std::string& name);
  void be_well();

  const std::filesystem::path directory_;
  std::mt19937_64 random_;
  const bool exact_;
  tests::FakeClock clock_;
  tests::CrashVfs& disk_;

  Setup setup_;
  std::uint64_t generation_ = 0;
  std::unique_ptr<engine::Log> log_;
  std::unique_ptr<engine::Metrics> metrics_;
  std::unique_ptr<Stepper> stepper_;
  std::unique_ptr<engine::Runtime> runtime_;
  std::shared_ptr<const engine::CoreView> seen_view_;
  bool crash_at_effect_ = false;
  bool clock_was_set_ = false;
  std::set<Log*> half_at_risk_;  // whose next line was begun in that time
  std::set<Log*>
      cut_;  // back to somewhere, and no reader has looked since: what is written then may be passed over

  std::vector<std::unique_ptr<Log>> logs_;
  std::map<std::uint64_t, Line> lines_;  // by id
  std::uint64_t last_id_ = 0;
  std::map<Log*, std::pair<std::uint64_t, Line>> begun_;
  std::map<Log*, rules::Instant> touched_;  // written to, or renamed
  Lines model_lines_;
  std::vector<std::unique_ptr<Rule>> rules_;
  std::map<std::string, Ms> view_clock_;  // of each rule, as of the last view of this process
  // Of each rule, when and where its clock was seen; the first may be all that is on the disk.
  std::map<std::string, std::deque<std::pair<Ms, Ms>>> views_;
  // Instants of an alert (rule, queue) that were evaluated together with another one of it: who is told is
  // told of the last.
  std::set<std::tuple<std::string, std::string, Ms>> together_;
  Receivers receivers_;
  const bool replays_;  // everything is told, not only the last
  std::deque<std::string> actions_;
  Counts counts_;
};

}  // namespace logbell::sim

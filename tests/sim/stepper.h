// Stepper: runs the loops of a Runtime in one thread, in an order drawn from a seed.
//
// A loop may be stepped at any time, also when nothing woke it: the system wakes without a reason too. It is
// stepped in the middle of another one's step where that one waits: for a commit, or for a sink's answer.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "engine/run/runtime.h"
#include "tests/support/fake_clock.h"

namespace logbell::sim {

class Stepper final : public engine::Driver {
 public:
  // All outlive me. `check` is called after each step; it may throw.
  Stepper(tests::FakeClock& clock, std::mt19937_64& random, std::function<void()> check);

  std::unique_ptr<engine::Worker> run(engine::Loop loop) override;
  void step_writer() override;

  // One step of a loop that is not in the middle of one. False: there is none.
  bool step_any();
  // Until none of them has anything to do at this moment.
  void settle();
  // Time passes, and each loop is stepped when it wants to be.
  void pass(rules::Duration span);
  // Nothing more is stepped: the process has died.
  void stop() { stopped_ = true; }
  std::uint64_t steps() const { return steps_; }

 private:
  struct Entry {
    engine::Loop loop;
    std::optional<rules::Instant> next;
    bool running = false;
    bool done = false;
    bool gone = false;
  };
  class Handle;
  void step(Entry& entry);
  bool step_due();
  std::optional<rules::Instant> next() const;

  tests::FakeClock& clock_;
  std::mt19937_64& random_;
  std::function<void()> check_;
  std::vector<std::shared_ptr<Entry>> entries_;
  bool stopped_ = false;
  std::uint64_t steps_ = 0;
};

}  // namespace logbell::sim

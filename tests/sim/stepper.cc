#include "tests/sim/stepper.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace logbell::sim {

using rules::Duration;
using rules::Instant;

// More than any step needs: a loop that asks to be stepped for ever is a bug of it.
constexpr int kMostSteps = 20'000;

class Stepper::Handle final : public engine::Worker {
 public:
  Handle(Stepper& stepper, std::shared_ptr<Entry> entry) : stepper_(stepper), entry_(std::move(entry)) {}
  ~Handle() override { entry_->gone = true; }

  bool wait(const engine::Clock& clock, Instant until) override {
    int steps = 0;
    while (!entry_->done && !stepper_.stopped_) {
      if (clock.instant() >= until) return false;
      stepper_.step_any();
      if (!entry_->done && !entry_->running) stepper_.step(*entry_);
      if (++steps % 16 == 0) stepper_.clock_.advance(Duration(10));
    }
    return true;
  }
  bool done() override { return entry_->done || stepper_.stopped_; }

 private:
  Stepper& stepper_;
  std::shared_ptr<Entry> entry_;
};

Stepper::Stepper(tests::FakeClock& clock, std::mt19937_64& random, std::function<void()> check)
    : clock_(clock), random_(random), check_(std::move(check)) {}

std::unique_ptr<engine::Worker> Stepper::run(engine::Loop loop) {
  auto entry = std::make_shared<Entry>();
  entry->loop = std::move(loop);
  entry->next = clock_.instant();
  std::erase_if(entries_, [](const auto& old) { return old->gone; });
  entries_.push_back(entry);
  return std::make_unique<Handle>(*this, std::move(entry));
}

void Stepper::step(Entry& entry) {
  entry.running = true;
  ++steps_;
  entry.next = entry.loop.step();
  entry.running = false;
  if (entry.loop.done()) {
    entry.done = true;
    entry.next.reset();
    entry.loop.rest();
  }
  check_();
}

void Stepper::step_writer() {
  if (random_() % 4 == 0) step_any();
  for (const std::shared_ptr<Entry>& entry : std::vector(entries_)) {
    if (entry->loop.name == "writer" && !entry->running && !entry->gone) step(*entry);
  }
}

bool Stepper::step_any() {
  std::vector<std::shared_ptr<Entry>> free;
  for (const std::shared_ptr<Entry>& entry : entries_) {
    if (!entry->running && !entry->done && !entry->gone) free.push_back(entry);
  }
  if (free.empty() || stopped_) return false;
  step(*free[random_() % free.size()]);
  return true;
}

bool Stepper::step_due() {
  bool any = false;
  // Not in the order they were made in.
  std::vector<std::shared_ptr<Entry>> all = entries_;
  std::rotate(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(random_() % (all.size() + 1)),
              all.end());
  for (const std::shared_ptr<Entry>& entry : all) {
    if (entry->running || entry->done || entry->gone || stopped_) continue;
    if (!entry->next || *entry->next > clock_.instant()) continue;
    step(*entry);
    any = true;
  }
  return any;
}

void Stepper::settle() {
  // What one hands to another wakes it; who was woken is not known here, so each is stepped, twice around.
  for (int quiet = 0, steps = 0; quiet < 2 && !stopped_;) {
    // From the reader to the lanes: in the order in which they were not made.
    std::vector<std::shared_ptr<Entry>> all = entries_;
    std::stable_partition(all.begin(), all.end(),
                          [](const auto& e) { return e->loop.name.rfind("lane", 0) != 0; });
    std::reverse(all.begin(), std::partition_point(all.begin(), all.end(), [](const auto& e) {
                   return e->loop.name.rfind("lane", 0) != 0;
                 }));
    for (const std::shared_ptr<Entry>& entry : all) {
      if (!entry->running && !entry->done && !entry->gone && !stopped_) step(*entry);
    }
    bool any = false;
    while (step_due()) {
      any = true;
      if (++steps > kMostSteps) throw std::runtime_error("a loop does not come to rest");
    }
    quiet = any ? 0 : quiet + 1;
  }
}

std::optional<Instant> Stepper::next() const {
  std::optional<Instant> next;
  for (const std::shared_ptr<Entry>& entry : entries_) {
    if (entry->running || entry->done || entry->gone || !entry->next) continue;
    if (!next || *entry->next < *next) next = entry->next;
  }
  return next;
}

void Stepper::pass(Duration span) {
  const Instant until = clock_.instant() + span;
  for (int steps = 0; clock_.instant() < until && !stopped_;) {
    const std::optional<Instant> at = next();
    const Instant to = at ? std::min(*at, until) : until;
    if (to > clock_.instant()) clock_.advance(std::chrono::ceil<Duration>(to - clock_.instant()));
    const Instant before = clock_.instant();
    while (step_due() && clock_.instant() == before) {
      if (++steps > kMostSteps) throw std::runtime_error("a loop does not come to rest");
    }
    // Lanes wake for what the writer gives them.
    if (!stopped_ && random_() % 2 == 0) step_any();
  }
}

}  // namespace logbell::sim

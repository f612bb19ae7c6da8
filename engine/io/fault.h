// Fault points: places where a test lets the process die, as if it had been killed just there, or a thread
// hang.
//
// Only builds with LOGBELL_FAULT_POINTS have them (the presets of the tests do, release does not); elsewhere
// LOGBELL_FAULT checks the name and is nothing. Armed from outside: LOGBELL_FAULT_POINT=store.commit.done:3
// kills the process (SIGKILL) when it passes that point for the third time; with :3:hang the thread that
// passes it stays there for ever. Thread-safe.
//
// A new point is a row of the table and a LOGBELL_FAULT in the code: without the row it does not compile,
// without the code tests/tidy_test.cc fails, and one that tests/e2e/crash_points_test.py does not reach fails
// there.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string_view>

#include "rules/time.h"

namespace logbell::engine {

struct FaultPoint {
  std::string_view name;
  // kEach: passed again and again. kOnce: once in the life of a process; its second pass is that of the next.
  enum class Passed { kEach, kOnce } passed = Passed::kEach;
};

inline constexpr std::array kFaultPoints{
    // Store: one transaction, in its order; the log folded into the file; a first start.
    FaultPoint{"store.create.unnamed", FaultPoint::Passed::kOnce},
    FaultPoint{"store.fold.before", FaultPoint::Passed::kOnce},
    FaultPoint{"store.fold.done", FaultPoint::Passed::kOnce},
    FaultPoint{"store.commit.before"},
    FaultPoint{"store.commit.entries_written"},
    FaultPoint{"store.commit.settlements_written"},
    FaultPoint{"store.commit.in_flight_marked"},
    FaultPoint{"store.commit.outbox_inserted"},
    FaultPoint{"store.commit.rows_written"},
    FaultPoint{"store.commit.done"},
    // Reader.
    FaultPoint{"reader.read"},
    FaultPoint{"reader.matched"},
    FaultPoint{"reader.handed_over"},
    FaultPoint{"reader.rotation.adopted"},
    FaultPoint{"reader.rotation.before_let_go"},
    // Core, writer.
    FaultPoint{"core.ticked"},
    FaultPoint{"writer.tick_taken"},
    FaultPoint{"writer.committed"},
    FaultPoint{"writer.handed_over"},
    // A lane.
    FaultPoint{"lane.before_mark"},
    FaultPoint{"lane.before_send"},
    FaultPoint{"lane.answered"},
    FaultPoint{"lane.settled"},
    // The life of the process.
    FaultPoint{"runtime.store_opened", FaultPoint::Passed::kOnce},
    FaultPoint{"runtime.started", FaultPoint::Passed::kOnce},
    FaultPoint{"runtime.reload.before_store"},
    FaultPoint{"runtime.reload.done"},
    FaultPoint{"runtime.stop.read", FaultPoint::Passed::kOnce},
    FaultPoint{"runtime.stop.committed", FaultPoint::Passed::kOnce},
    FaultPoint{"runtime.stop.drained", FaultPoint::Passed::kOnce},
};

// Breaks: pieces of the way from a line to a person, and of what proves it, that a test takes out, one at a
// time: the safety check is itself tested by mutation. Armed like a fault point: LOGBELL_BREAK=lane.send. The
// process goes on and believes that all is well; tests/e2e/broken_test.py asks that a proof says otherwise. A
// new one is a row here and a LOGBELL_BROKEN in the code.
inline constexpr std::array kBreaks{
    std::string_view{"reader.match"},      // no line matches anything
    std::string_view{"core.told"},         // what the core has to tell is lost before it is committed
    std::string_view{"store.outbox"},      // the outbox takes nothing
    std::string_view{"writer.hand_over"},  // nothing reaches its lane
    std::string_view{"lane.send"},         // the lane never asks its sink
    std::string_view{"lane.receipt"},      // nothing is sent, and it is called delivered
    std::string_view{"lane.fallback"},     // what a sink refuses goes nowhere
    std::string_view{"lane.late"},         // nor does what a sink keeps waiting
    std::string_view{"probe.ask"},         // no sink is asked
    std::string_view{"probe.shortcut"},    // no sink is asked, and each is called live
    std::string_view{"probe.again"},       // no sink is asked a second time
    std::string_view{"drill.settled"},     // nobody hears of receipts
    std::string_view{"proof.noted"},       // receipts are not written down
    std::string_view{"read_back.look"},    // nobody looks for what was taken
    std::string_view{"read_back.found"},   // nobody looks, and everything is called found
    std::string_view{"drill.schedule"},    // nobody is drilled without being asked
};

// Its row; kFaultPoints.size(): there is none.
constexpr std::size_t fault_point(std::string_view name) {
  std::size_t row = 0;
  while (row < kFaultPoints.size() && kFaultPoints.at(row).name != name)
    ++row;
  return row;
}

constexpr std::size_t break_row(std::string_view name) {
  std::size_t row = 0;
  while (row < kBreaks.size() && kBreaks.at(row) != name)
    ++row;
  return row;
}

// Whether LOGBELL_BREAK names this row; an unknown name there ends the process with a message.
bool is_broken(std::size_t row);

// Dies if this pass is the one that is armed. An unknown name or count in LOGBELL_FAULT_POINT ends the
// process with a message: a test must not pass because nothing was armed.
void pass_fault_point(std::size_t row);

// What a test sets instead of a bound that takes too long to wait for, as LOGBELL_FAULT_STALL_MS=7000;
// nothing in builds without fault points.
std::optional<rules::Duration> fault_duration(const char* variable);

}  // namespace logbell::engine

#ifdef LOGBELL_FAULT_POINTS
#define LOGBELL_PASS_FAULT_POINT(name) \
  ::logbell::engine::pass_fault_point(::logbell::engine::fault_point(name))
#define LOGBELL_BROKEN(name)                                                              \
  ([] {                                                                                   \
    static_assert(::logbell::engine::break_row(name) < ::logbell::engine::kBreaks.size(), \
                  "not a row of kBreaks");                                                \
    return ::logbell::engine::is_broken(::logbell::engine::break_row(name));              \
  }())
#else
#define LOGBELL_PASS_FAULT_POINT(name) static_cast<void>(0)
#define LOGBELL_BROKEN(name) (::logbell::engine::break_row(name) == ::logbell::engine::kBreaks.size())
#endif
#define LOGBELL_FAULT(name)                                                                      \
  do {                                                                                           \
    static_assert(::logbell::engine::fault_point(name) < ::logbell::engine::kFaultPoints.size(), \
                  "not a row of kFaultPoints");                                                  \
    LOGBELL_PASS_FAULT_POINT(name);                                                              \
  } while (false)

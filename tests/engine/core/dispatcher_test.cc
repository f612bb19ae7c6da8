// Dispatcher: the one decision, as a table.
#include "engine/core/dispatcher.h"

#include <catch2/catch.hpp>

using namespace logbell;
using engine::Episodes;
using engine::needs_update;
using engine::Told;
using rules::from_unix_ms;
using rules::NotifyReason;
using namespace std::chrono_literals;

namespace {

const rules::Timestamp kTold = from_unix_ms(1'000'000);
const rules::Timestamp kFirst = from_unix_ms(900'000);
const rules::Timestamp kAgain = from_unix_ms(950'000);

}  // namespace

TEST_CASE("dispatcher: what a group has to say to one sink", "[core][dispatcher]") {
  struct Row {
    const char* sentence;
    std::optional<Told> told;
    Episodes firing;
    Episodes resolved;
    bool send_resolved;
    rules::Duration later;
    NotifyReason expected;
  };
  const std::vector<Row> rows = {
      {"nobody was told and nothing fires", {}, {}, {{1, kFirst}}, true, 0s, NotifyReason::kNone},
      {"the first firing", {}, {{1, kFirst}}, {}, true, 0s, NotifyReason::kFirstFiring},
      {"the same alert goes on",
       Told{{{1, kFirst}}, {}, kTold},
       {{1, kFirst}},
       {},
       true,
       30s,
       NotifyReason::kNone},
      {"it went and came back between two messages: still firing, as told",
       Told{{{1, kFirst}}, {}, kTold},
       {{1, kAgain}},
       {},
       true,
       30s,
       NotifyReason::kNone},
      {"a second alert joins",
       Told{{{1, kFirst}}, {}, kTold},
       {{1, kFirst}, {2, kFirst}},
       {},
       true,
       30s,
       NotifyReason::kNewAlerts},
      {"the only one resolved",
       Told{{{1, kFirst}}, {}, kTold},
       {},
       {{1, kFirst}},
       true,
       30s,
       NotifyReason::kAllResolved},
      {"the only one resolved, for a sink that wants no resolves",
       Told{{{1, kFirst}}, {}, kTold},
       {},
       {{1, kFirst}},
       false,
       30s,
       NotifyReason::kNone},
      {"one of two resolved",
       Told{{{1, kFirst}, {2, kFirst}}, {}, kTold},
       {{1, kFirst}},
       {{2, kFirst}},
       true,
       30s,
       NotifyReason::kResolvedSome},
      {"another came and went since the last message",
       Told{{{1, kFirst}}, {}, kTold},
       {{1, kFirst}},
       {{2, kFirst}},
       true,
       30s,
       NotifyReason::kNewAlerts},
      {"another came and went: even a sink without resolves must hear that it fired",
       Told{{{1, kFirst}}, {}, kTold},
       {{1, kFirst}},
       {{2, kFirst}},
       false,
       30s,
       NotifyReason::kNewAlerts},
      {"its end was told already",
       Told{{{1, kFirst}}, {{2, kFirst}}, kTold},
       {{1, kFirst}},
       {{2, kFirst}},
       true,
       30s,
       NotifyReason::kNone},
      {"it ended a second time since",
       Told{{{1, kFirst}}, {{2, kFirst}}, kTold},
       {{1, kFirst}},
       {{2, kAgain}},
       true,
       30s,
       NotifyReason::kNewAlerts},
      {"everything was resolved and fires anew",
       Told{{}, {{1, kFirst}}, kTold},
       {{1, kAgain}},
       {},
       true,
       30s,
       NotifyReason::kFirstFiring},
      {"four hours without a word",
       Told{{{1, kFirst}}, {}, kTold},
       {{1, kFirst}},
       {},
       true,
       4h,
       NotifyReason::kRepeat},
      {"a moment less",
       Told{{{1, kFirst}}, {}, kTold},
       {{1, kFirst}},
       {},
       true,
       4h - 1ms,
       NotifyReason::kNone},
      {"nothing fires: nothing to repeat",
       Told{{}, {{1, kFirst}}, kTold},
       {},
       {{1, kFirst}},
       true,
       4h,
       NotifyReason::kNone},
  };
  for (const Row& row : rows) {
    INFO(row.sentence);
    CHECK(row.expected == needs_update(row.told ? &*row.told : nullptr, row.firing, row.resolved,
                                       row.send_resolved, 4h, kTold + row.later));
  }
}

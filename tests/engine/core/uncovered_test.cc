// UncoveredErrors: when lines that no rule looks at are an alert, and what it says.
#include "engine/core/uncovered.h"

#include <algorithm>

#include <catch2/catch.hpp>

#include "tests/support/core_world.h"

using namespace logbell;
using namespace std::chrono_literals;
using engine::UncoveredLines;
using engine::UncoveredLog;
using tests::CoreWorld;
using Lines = std::vector<std::string>;

namespace {

constexpr std::int64_t kMinute = 60'000;

UncoveredLines some(std::uint64_t count, Lines samples = {}) {
  return {0, count, std::move(samples)};
}

CoreWorld watched_world() {
  CoreWorld world;
  world.pattern("boom");
  world.rule("Boom", "count_over_time(boom[1m]) >= 1");
  world.sink("ops");
  world.route({"ops"});
  world.start();
  return world;
}

engine::Tick errors(CoreWorld& world, std::int64_t when, std::uint64_t count,
                    Lines samples = {"ERROR a line"}) {
  world.batch.read_at = CoreWorld::at(when);
  world.batch.uncovered = some(count, std::move(samples));
  engine::Tick tick = world.tick(when);
  world.batch.uncovered.reset();
  return tick;
}

std::string shown(const CoreWorld& world) {
  for (const engine::AlertView& view : world.pipeline->alerts()) {
    if (view.alert.name() == "UncoveredErrors") return std::string(view.alert.annotation("summary"));
  }
  return "";
}

bool writes(const engine::Tick& tick) {
  return std::any_of(tick.entries.begin(), tick.entries.end(),
                     [](const engine::StoredEntry& entry) { return entry.key == "core/err/api"; });
}

}  // namespace

TEST_CASE("uncovered: so many within the time, not so many in all", "[core][uncovered]") {
  const rules::UncoveredErrors when;
  UncoveredLog log;
  for (int i = 0; i < 40; ++i) {
    CHECK_FALSE(log.add(some(1), when, CoreWorld::at(i * 7 * kMinute)));  // nine an hour
    CHECK_FALSE(log.fires());
  }
  log.add(some(3), when, CoreWorld::at(40 * 7 * kMinute));
  CHECK(log.fires());
  // It fires until none has come for the whole of it.
  CHECK(log.ends_at(when) == CoreWorld::at(40 * 7 * kMinute) + 1h);
  log.update(when, CoreWorld::at(40 * 7 * kMinute + 60 * kMinute) - 1ms);
  CHECK(log.fires());
  log.update(when, CoreWorld::at(40 * 7 * kMinute + 60 * kMinute));
  CHECK_FALSE(log.fires());
  CHECK(log.empty());
}

TEST_CASE("uncovered: three lines that differ in more than numbers, without what nobody may see",
          "[core][uncovered]") {
  const rules::UncoveredErrors when;
  UncoveredLog log;
  log.add(some(4, {"10:00:01 ERROR order 17 failed", "10:00:02 ERROR order 18 failed",
                   "10:00:03 ERROR login of max@example.com password=hunter2"}),
          when, CoreWorld::at(0));
  log.add(some(2, {"10:00:04 FATAL " + std::string(1000, 'x'), "10:00:05 ERROR one too many"}), when,
          CoreWorld::at(1));
  REQUIRE(log.samples().size() == 3);
  CHECK(log.samples()[0] == "10:00:01 ERROR order 17 failed");
  CHECK(log.samples()[1].find("max@") == std::string::npos);
  CHECK(log.samples()[1].find("hunter2") == std::string::npos);
  CHECK(log.samples()[2].size() <= UncoveredLog::kSampleBytes);
  const auto again = UncoveredLog::parse(log.to_json());
  REQUIRE(again);
  CHECK(again->to_json() == log.to_json());
  CHECK(again->samples() == log.samples());
}

TEST_CASE("uncovered: a flood takes no more than an hour's slots", "[core][uncovered]") {
  const rules::UncoveredErrors when;
  UncoveredLog log;
  for (int i = 0; i < 10'000; ++i)
    log.add(some(1000), when, CoreWorld::at(i * 1000));
  const std::string written = log.to_json();
  CHECK(std::count(written.begin(), written.end(), '{') <= UncoveredLog::kSlots + 3);
  // The clock is set back: it still ends.
  log.set_back(CoreWorld::at(0));
  log.update(when, CoreWorld::at(60 * kMinute));
  CHECK_FALSE(log.fires());
}

TEST_CASE("built in: errors that no rule looks at are told once, with samples, over a restart and a reload",
          "[core][uncovered]") {
  CoreWorld world = watched_world();
  world.tick(0);
  CHECK(errors(world, 1, 9).notifications.empty());
  const engine::Tick fired = errors(world, kMinute, 1, {"FATAL another"});
  CHECK(CoreWorld::summary(fired) == Lines{"ops: first_firing UncoveredErrors+"});
  CHECK(fired.notifications[0].alerts[0].labels.get("source") == "api");
  CHECK(fired.notifications[0].alerts[0].labels.get("severity") == "warning");
  CHECK(shown(world) ==
        "lines of source api (/var/log/api.log) look like errors and no rule looks at them, 10 or more "
        "within 1h since "
        "2026-05-01T08:00:00.001Z: \"ERROR a line\", \"FATAL another\"; write a rule for them, or leave out "
        "what is "
        "known with `uncovered_errors: {exclude: …}`");
  world.restart();
  CHECK(world.tick(2 * kMinute).notifications.empty());
  CHECK(errors(world, 3 * kMinute, 1, {"PANIC a third"}).notifications.empty());
  CHECK(shown(world).find("\"PANIC a third\"") != std::string::npos);
  world.reload(4 * kMinute);
  CHECK(errors(world, 10 * kMinute, 1).notifications.empty());
  world.restart();
  CHECK(world.tick(69 * kMinute).notifications.empty());
  CHECK(CoreWorld::summary(world.tick(71 * kMinute)) == Lines{"ops: all_resolved UncoveredErrors-"});
  CHECK(world.store.count("core/err/api") == 0);
}

TEST_CASE("built in: errors of a form that the source is not said to have are called that", "[core][uncovered]") {
  const auto told = [](rules::LineFormat format, Lines samples) {
    CoreWorld world = watched_world();
    world.written.sources[0].format = format;
    world.reload(0);
    world.tick(0);
    errors(world, 1, 10, std::move(samples));
    return shown(world);
  };
  using rules::LineFormat;
  CHECK(told(LineFormat::kJson, {R"({"level":"error"})", "ERROR a line"})
            .find(R"("ERROR a line"; one of these is no JSON, as `format: json` has it, so that no `where:` finds )"
                  "anything in it: correct the format, write a rule for them, or leave out") != std::string::npos);
  CHECK(told(LineFormat::kLogfmt, {"ERROR a line", "FATAL another"})
            .find("\"FATAL another\"; these are no logfmt, as `format: logfmt` has it, so that no `where:` finds "
                  "anything in them: correct the format") != std::string::npos);
  CHECK(told(LineFormat::kJson, {R"( {"level":"error"})"}).find("; write a rule for them") != std::string::npos);
  CHECK(told(LineFormat::kLogfmt, {"level=error"}).find("; write a rule for them") != std::string::npos);
  CHECK(told(LineFormat::kText, {R"({"level":"error"})"}).find("; write a rule for them") != std::string::npos);
}

TEST_CASE("built in: errors in colours are called that", "[core][uncovered]") {
  const auto told = [](Lines samples) {
    CoreWorld world = watched_world();
    world.tick(0);
    errors(world, 1, 10, std::move(samples));
    return shown(world);
  };
  CHECK(told({"\x1b[31mERROR\x1b[0m a line", "ERROR\x1b[0m another"})
            .find("; they are written in colours (`ESC[31m`), which no pattern expects between words: turn them off in the "
                  "API, or write a rule for them, or leave out") != std::string::npos);
  CHECK(told({"ERROR a line of count[5m]", "ERROR [main] b"}).find("; write a rule for them") != std::string::npos);
}

TEST_CASE("built in: no commit is made for an error line, and its state is not written with each",
          "[core][uncovered]") {
  CoreWorld world = watched_world();
  world.tick(0);
  CHECK(writes(errors(world, 1, 1)));
  CHECK_FALSE(writes(errors(world, 2, 1)));
  CHECK_FALSE(writes(errors(world, 3, 1)));
  CHECK(writes(errors(world, 6 * kMinute, 1)));
}

TEST_CASE("built in: none, where a source says so", "[core][uncovered]") {
  CoreWorld world = watched_world();
  world.tick(0);
  errors(world, 1, 100);
  CHECK(world.store.count("core/err/api") == 1);
  world.written.sources[0].uncovered_errors.reset();
  world.reload(kMinute);
  CHECK(CoreWorld::summary(world.tick(kMinute)) == Lines{"ops: all_resolved UncoveredErrors-"});
  CHECK(world.store.count("core/err/api") == 0);
  CHECK(errors(world, 2 * kMinute, 100).notifications.empty());
}

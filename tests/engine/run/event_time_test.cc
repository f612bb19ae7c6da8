// Which moment a line counts at: DESIGN.md §3 "Event time", in the small and in the reader.
#include "engine/run/event_time.h"

#include "tests/engine/run/reader_world.h"

namespace logbell::tests {
namespace {

using engine::event_time;
using engine::LineFacts;
using engine::OffsetEstimate;
using engine::TimeVerdict;
using rules::Timestamp;

const Timestamp kNow = *rules::parse_rfc3339("2026-05-01T10:00:00Z");

TEST_CASE("event time: what is believed and what stands in for it", "[run][event_time][F21]") {
  struct Row {
    const char* why;
    LineFacts line;
    Timestamp at;
    TimeVerdict verdict;
  };
  const auto rows = std::vector<Row>{
      {"its own",
       {.own = kNow - seconds(3), .arrival = kNow, .live = true, .source_clock = kNow},
       kNow - seconds(3),
       TimeVerdict::kBelieved},
      {"ten seconds in the future",
       {.own = kNow + seconds(10), .arrival = kNow, .live = true},
       kNow + seconds(10),
       TimeVerdict::kBelieved},
      {"more than that",
       {.own = kNow + milliseconds(10'001), .arrival = kNow, .live = true},
       kNow,
       TimeVerdict::kFuture},
      {"an hour behind its source, live",
       {.own = kNow - hours(1), .arrival = kNow, .live = true, .source_clock = kNow},
       kNow - hours(1),
       TimeVerdict::kBelieved},
      {"more than that",
       {.own = kNow - hours(1) - milliseconds(1), .arrival = kNow, .live = true, .source_clock = kNow},
       kNow,
       TimeVerdict::kPast},
      {"but of its source, not of the wall clock: the process was stopped",
       {.own = kNow - hours(3), .arrival = kNow, .live = true, .source_clock = kNow - hours(2)},
       kNow - hours(3),
       TimeVerdict::kBelieved},
      {"any past while catching up",
       {.own = kNow - hours(24 * 365), .arrival = kNow, .source_clock = kNow},
       kNow - hours(24 * 365),
       TimeVerdict::kBelieved},
      {"none, live",
       {.arrival = kNow, .live = true, .predecessor = kNow - hours(1)},
       kNow,
       TimeVerdict::kMissing},
      {"none, catching up",
       {.arrival = kNow, .predecessor = kNow - hours(1), .modified = kNow - hours(2)},
       kNow - hours(1),
       TimeVerdict::kMissing},
      {"none, and nobody before",
       {.arrival = kNow, .modified = kNow - hours(2)},
       kNow - hours(2),
       TimeVerdict::kMissing},
      {"future, catching up",
       {.own = kNow + hours(24), .arrival = kNow, .predecessor = kNow - hours(1)},
       kNow - hours(1),
       TimeVerdict::kFuture},
      {"a file from the future", {.arrival = kNow, .modified = kNow + hours(2)}, kNow, TimeVerdict::kMissing},
  };
  for (const Row& row : rows) {
    INFO(row.why);
    const engine::EventTime got = event_time(row.line);
    CHECK(got.at == row.at);
    CHECK(got.verdict == row.verdict);
  }
}

TEST_CASE("event time: an offset counts once it is steady", "[run][event_time]") {
  OffsetEstimate estimate;
  Timestamp now = kNow;
  SECTION("two hours, every ten seconds") {
    for (int i = 0; i < 3; ++i, now += seconds(10))
      estimate.add(now + hours(2) - milliseconds(40), now);
    CHECK(estimate.offset() == milliseconds(0));
    estimate.add(now + hours(2), now);
    CHECK(estimate.offset() == hours(2));
    estimate.add(now - seconds(1), now);
    CHECK(estimate.offset() == milliseconds(0));
  }
  SECTION("below a quarter of an hour it is lateness") {
    for (int i = 0; i < 20; ++i, now += seconds(10))
      estimate.add(now - minutes(15) + seconds(1), now);
    CHECK(estimate.offset() == milliseconds(0));
  }
  SECTION("that wanders is none") {
    for (int i = 0; i < 20; ++i, now += seconds(10))
      estimate.add(now - minutes(20) - minutes(3 * i), now);
    CHECK(estimate.offset() == milliseconds(0));
  }
  SECTION("behind us") {
    for (int i = 0; i < 5; ++i, now += seconds(10))
      estimate.add(now - minutes(30), now);
    CHECK(estimate.offset() == -minutes(30));
  }
}

double rejected(const ReaderWorld& world, const std::string& reason) {
  return world.counter("logbell_source_timestamps_rejected_total{reason=\"" + reason + "\", source=\"app\"}");
}

TEST_CASE("event time: in a backlog a line without a time takes its predecessor's",
          "[run][event_time][reader]") {
  ReaderWorld world({.patterns = {"match"}});
  const Timestamp past = world.clock.now() - hours(5);
  world.dir.append("a.log", line_at(past, "something else") + "\tstack\n\tmatch in a stack\n" +
                                line_at(past + seconds(7), "match") + "\tmatch again\n" +
                                line_at(world.clock.now() + hours(1), "match in the future"));
  world.settle();
  REQUIRE(world.seen.size() == 4);
  CHECK(world.seen[0].at == past);
  CHECK(world.seen[1].at == past + seconds(7));
  CHECK(world.seen[2].at == past + seconds(7));
  CHECK(world.seen[3].at == past + seconds(7));
  CHECK(rejected(world, "missing") == 2);
  CHECK(rejected(world, "future") == 1);
  CHECK(world.statuses[0].watermark == past + seconds(7));
  CHECK(world.statuses[0].read_to_end_at == world.clock.now());
}

TEST_CASE("event time: without any time at all the file's counts, live the arrival's",
          "[run][event_time][reader]") {
  ReaderWorld world;
  world.dir.append("a.log", "one\n");
  const Timestamp modified = system_now();
  world.clock.advance(hours(2));
  world.settle();
  REQUIRE(world.seen.size() == 1);
  CHECK(world.seen[0].at <= modified + seconds(1));
  CHECK(world.seen[0].at >= modified - seconds(1));
  world.lines();
  world.clock.advance(seconds(90));
  world.dir.append("a.log", "two\n");
  world.settle();
  REQUIRE(world.seen.size() == 1);
  CHECK(world.seen[0].at == world.clock.now());
}

TEST_CASE("event time: live lines that are too old or from the future count when they come",
          "[run][event_time][reader][F21]") {
  ReaderWorld world;
  world.dir.append("a.log", "");
  world.settle();
  world.pass(seconds(1));
  const Timestamp now = world.clock.now();
  world.dir.append("a.log",
                   line_at(now + hours(24), "tomorrow") + line_at(now - hours(24 * 365), "last year") +
                       line_at(now - minutes(30), "late") + line_at(now + seconds(5), "a little ahead"));
  world.settle();
  REQUIRE(world.seen.size() == 4);
  CHECK(world.seen[0].at == now);
  CHECK(world.seen[1].at == now);
  CHECK(rules::to_unix_ms(world.seen[2].at) == rules::to_unix_ms(now - minutes(30)));
  CHECK(rules::to_unix_ms(world.seen[3].at) == rules::to_unix_ms(now + seconds(5)));
  CHECK(rejected(world, "future") == 1);
  CHECK(rejected(world, "past") == 1);
  CHECK(world.statuses[0].watermark == now + seconds(5));
}

TEST_CASE("event time: the last line of a chunk moves the clock, whether it matches or not",
          "[run][event_time][reader]") {
  ReaderWorld world({.patterns = {"never"}});
  world.chunk_bytes = 4096;
  world.plan_setting.sources[0].max_line_bytes = 1024;
  const Timestamp past = world.clock.now() - hours(5);
  std::string text;
  for (int i = 0; i < 1000; ++i)
    text += line_at(past + seconds(i), "nothing");
  world.dir.append("a.log", text);
  Timestamp last = rules::kLongAgo;
  int steps = 0;
  while (world.step().more) {
    ++steps;
    CHECK(world.statuses[0].watermark > last);
    CHECK_FALSE(world.statuses[0].read_to_end_at);
    last = world.statuses[0].watermark;
  }
  CHECK(steps > 5);
  CHECK(world.statuses[0].watermark == past + seconds(999));
  CHECK(world.statuses[0].read_to_end_at);
}

TEST_CASE("event time: what is furthest behind is read first", "[run][event_time][reader]") {
  ReaderWorld world({.sources = {{.name = "a", .files = {"a.log"}}, {.name = "b", .files = {"b.log"}}}});
  world.chunk_bytes = 2048;
  for (SourceSetting& source : world.plan_setting.sources)
    source.max_line_bytes = 1024;
  const Timestamp past = world.clock.now() - hours(5);
  std::string a;
  std::string b;
  for (int i = 0; i < 1000; ++i) {
    a += line_at(past + seconds(i), "a");
    b += line_at(past + seconds(i / 10), "b");
  }
  world.dir.append("a.log", a);
  world.dir.append("b.log", b);
  // Neither runs away: whoever is read was behind.
  const auto span = seconds(2048 / 20);
  while (world.step().more) {
    const auto& first = world.statuses[0];
    const auto& second = world.statuses[1];
    if (first.watermark == rules::kLongAgo || second.watermark == rules::kLongAgo) continue;
    if (!second.read_to_end_at) CHECK(first.watermark <= second.watermark + span);
  }
  CHECK(world.lines().size() == 2000);
}

TEST_CASE("event time: fields of JSON and logfmt", "[run][event_time][reader]") {
  static const Timestamp kPast = system_now() - hours(5);  // once: each row is a run of its own
  const std::string ms = std::to_string(rules::to_unix_ms(kPast));
  struct Row {
    rules::LineFormat format;
    rules::TimestampSpec timestamp;
    std::string line;
  };
  const std::string text = rules::format_rfc3339(kPast);
  const auto row = GENERATE_COPY(
      Row{rules::LineFormat::kJson, {}, R"({"msg": "x", "ts": ")" + text + R"("})"},
      Row{rules::LineFormat::kJson, {}, R"({"time": )" + ms + "}"},
      Row{rules::LineFormat::kJson,
          {"log.at", "", ""},
          R"({"ts": "junk", "log": {"at": ")" + text + R"("}})"},
      Row{rules::LineFormat::kJson, {}, text + " no JSON"},
      Row{rules::LineFormat::kLogfmt, {}, "level=info ts=" + text + " msg=\"a b\""},
      Row{rules::LineFormat::kLogfmt, {"at", "", ""}, "msg=\"a \\\" at=1\" at=\"" + text + "\""},
      Row{rules::LineFormat::kText,
          {"", "<%Y|%m|%d %T>", "UTC"},
          "<" + text.substr(0, 4) + "|" + text.substr(5, 2) + "|" + text.substr(8, 2) + " " +
              text.substr(11, 8) + "> x"});
  ReaderWorld world({.sources = {{.format = row.format, .timestamp = row.timestamp}}});
  world.dir.append("a.log", row.line + "\n");
  world.settle();
  REQUIRE(world.seen.size() == 1);
  INFO(row.line);
  CHECK(world.seen[0].at >= kPast - milliseconds(999));
  CHECK(world.seen[0].at <= kPast);
}

TEST_CASE("event time: the wall clock is set back", "[run][event_time][reader][F32]") {
  ReaderWorld world;
  world.dir.append("a.log", "one\n");
  world.settle();
  world.dir.append("a.log", "two\n");
  world.settle();
  CHECK(world.statuses[0].watermark == world.clock.now());
  world.clock.step_wall(-hours(1));
  world.dir.append("a.log", line_at(world.clock.now(), "three"));
  world.settle();
  CHECK(world.statuses[0].watermark == world.clock.now());
  CHECK(world.statuses[0].read_to_end_at == world.clock.now());
  CHECK(world.counter("logbell_source_clock_set_back_total{source=\"app\"}") == 1);
  CHECK(rejected(world, "past") == 0);
}

}  // namespace
}  // namespace logbell::tests

// Backtests, and a reader with a crew: the same whoever helps.
#include "engine/run/backtest.h"

#include <algorithm>
#include <future>
#include <string>
#include <thread>

#include "rules/template.h"
#include "tests/engine/run/reader_world.h"
#include "tests/support/pack.h"
#include "tests/support/random_patterns.h"

namespace logbell::tests {
namespace {

using engine::backtest;
using engine::backtest_plan;
using engine::BacktestReport;

// An hour of lines, one a quarter of a second; each seventh an error, and in the tenth minute each.
std::string hour_of_lines(rules::Timestamp from) {
  std::string text;
  for (int i = 0; i < 4 * 3600; ++i) {
    const bool bad = i % 7 == 0 || i / 240 == 10;
    text += line_at(from + milliseconds(250) * i,
                    bad ? "ERROR code=" + std::to_string(i % 5) + " in the queue of orders"
                        : "INFO all is well with number " + std::to_string(i) + " of them");
  }
  return text;
}

std::shared_ptr<const rules::Plan> plan_with(const LogDir& dir, const std::string& expr,
                                             rules::PatternSet::Matcher matcher) {
  auto plan = std::make_shared<rules::Plan>(
      *make_plan(dir, {.patterns = {"ERROR code=(?P<code>\\d)", "number 1\\d of"}}));
  plan->sources[0].patterns = rules::PatternSet::compile(plan->patterns, std::vector<std::uint32_t>{0, 1},
                                                         rules::LineFormat::kText, matcher);
  rules::AlertingRule rule;
  rule.name = "Errors";
  rule.expr = *rules::bind_expr(*rules::parse_expr(expr), plan->patterns);
  rule.polarity = rules::polarity(*rule.expr);
  rule.sources = {0};
  plan->rules.push_back(std::move(rule));
  return plan;
}

TEST_CASE("backtest: what matched and what would have fired, by any number of threads and either matcher",
          "[run][backtest]") {
  const LogDir dir;
  const rules::Timestamp now = system_now();
  dir.append("old.log", hour_of_lines(now - hours(30)));
  for (const auto matcher : {rules::PatternSet::Matcher::kFast, rules::PatternSet::Matcher::kPlain}) {
    const auto plan = backtest_plan(*plan_with(dir, "sum(count_over_time(p0[1m])) > 200", matcher), "",
                                    {dir.path("old.log")});
    REQUIRE(plan);
    for (const std::size_t threads : {1U, 3U}) {
      const BacktestReport report = backtest(*plan, {.now = now, .threads = threads});
      CHECK(report.lines == 14'400);
      CHECK(report.bytes == fs::file_size(dir.path("old.log")));
      CHECK(report.last_line == now - hours(30) + milliseconds(250) * 14'399);
      CHECK(report.patterns[0].matches == 2058 + 240 - 35);
      CHECK(report.patterns[1].matches == 10 - 1);  // 14 is an error
      REQUIRE(report.rules.size() == 1);
      CHECK(report.rules[0].firings == 1);
      CHECK(report.rules[0].still_firing == 0);
      REQUIRE(report.rules[0].first_at);
      // More than 200 in a minute: within the tenth minute, and not for longer than another.
      CHECK(*report.rules[0].first_at > now - hours(30) + minutes(10));
      CHECK(*report.rules[0].first_at < now - hours(30) + minutes(11));
      CHECK(report.rules[0].firing > seconds(5));
      CHECK(report.rules[0].firing < minutes(1));
      CHECK(report.rules[0].unknown.empty());
      CHECK(report.notes.empty());
    }
  }
}

TEST_CASE("backtest: at the end of the log nothing is concluded from the silence behind it",
          "[run][backtest]") {
  const LogDir dir;
  const rules::Timestamp now = system_now();
  dir.append("old.log", hour_of_lines(now - hours(30)));
  const auto plan = plan_with(dir, "sum(count_over_time(p0[1m])) == 0", rules::PatternSet::Matcher::kFast);
  const BacktestReport report = backtest(*backtest_plan(*plan, "app", {dir.path("old.log")}), {.now = now});
  CHECK(report.rules[0].firings == 0);
}

TEST_CASE("backtest: a last line that is cut off before its time is one of the past as well", "[run][backtest]") {
  const LogDir dir;
  const rules::Timestamp now = system_now();
  dir.append("old.log", hour_of_lines(now - hours(30)) + "2026-");
  const auto plan = plan_with(dir, "sum(count_over_time(p0[1m])) == 0", rules::PatternSet::Matcher::kFast);
  const BacktestReport report = backtest(*backtest_plan(*plan, "app", {dir.path("old.log")}), {.now = now});
  CHECK(report.lines == 14'401);
  CHECK(report.last_line < now - hours(28));
  CHECK(report.rules[0].firings == 0);
}

TEST_CASE("backtest: whose logs these are must be plain, and what cannot be read is said",
          "[run][backtest]") {
  const LogDir dir;
  PlanSetting setting{.sources = {SourceSetting{.name = "api"}, SourceSetting{.name = "web"}}};
  const auto plan = make_plan(dir, setting);
  CHECK(backtest_plan(*plan, "", {"x"}).error().message ==
        "say with --source whose logs these are: api, web");
  CHECK(backtest_plan(*plan, "db", {"x"}).error().message ==
        "there is no source \"db\"; there are: api, web");
  dir.append("a.log", "one\ntwo");
  const BacktestReport report =
      backtest(*backtest_plan(*plan, "web", {dir.path("a.log"), dir.path("absent.log")}),
               {.now = system_now()});
  CHECK(report.lines == 2);  // the last has no end, and counts
  CHECK(report.patterns[0].matches == 2);
}

// --- several files, packed ones, standard input

// One minute in each third of which something else is written: lines of `hour_of_lines` in three files, of which the
// second and third are packed.
std::vector<std::string> in_three_files(const LogDir& dir, const std::string& text) {
  const std::size_t first = text.find('\n', text.size() / 3) + 1;
  const std::size_t second = text.find('\n', text.size() * 2 / 3) + 1;
  dir.write("app.log.2", text.substr(0, first));
  dir.write("app.log.1.gz", gzip(text.substr(first, second - first)));
  dir.write("app.log.0.zst", zstd(text.substr(second)));
  return {dir.path("app.log*")};
}

TEST_CASE("backtest: a peak is no lower than what its alerts had as they fired", "[run][backtest]") {
  const LogDir dir;
  const rules::Timestamp now = system_now();
  std::string text;
  for (int minute = 0; minute < 600; ++minute) {
    const rules::Timestamp at = now - hours(20) + minutes(minute);
    // For five milliseconds of ten hours it is 1, which no look meets.
    if (minute == 300) text += line_at(at + seconds(20), "ERROR code=1");
    for (int i = 0; i < 5; ++i)
      text += line_at(at + seconds(20) + milliseconds(5), "ERROR code=0");
  }
  dir.append("a.log", text);
  const auto plan = plan_with(dir, "sum by (code) (count_over_time(p0{code=\"1\"}[30s])) / on () group_left () sum(count_over_time(p0[30s])) > 0.9",
                              rules::PatternSet::Matcher::kFast);
  // Alone it is looked at wherever it changes; among many, that is too often.
  const bool alone = GENERATE(true, false);
  auto several = std::make_shared<rules::Plan>(*plan);
  for (int i = 0; i < 60 && !alone; ++i) {
    several->rules.push_back(several->rules[0]);
    several->rules.back().name += std::to_string(i);
  }
  const BacktestReport report = backtest(*backtest_plan(*several, "", {dir.path("a.log")}), {.now = now});
  REQUIRE(report.rules[0].firings == 1);
  REQUIRE(report.rules[0].peak);
  CHECK(report.rules[0].peak->value == 1);
  CHECK(report.rules[0].peak->at == report.rules[0].episodes[0].fired_at);
  CHECK(report.rules[0].peak->labels.format() == "{code=\"1\"}");
  CHECK(report.rules[0].peak->exact == alone);
}

TEST_CASE("backtest: files in any order, packed or not, are one log in the order of its times", "[run][backtest]") {
  const LogDir dir;
  const rules::Timestamp now = system_now();
  const std::string text = hour_of_lines(now - hours(30));
  dir.append("whole.txt", text);
  const std::vector<std::string> parts = in_three_files(dir, text);
  const auto plan = plan_with(dir, "sum(count_over_time(p0[1m])) > 200", rules::PatternSet::Matcher::kFast);
  const BacktestReport whole = backtest(*backtest_plan(*plan, "", {dir.path("whole.txt")}), {.now = now});
  for (const std::size_t threads : {1U, 3U}) {
    const BacktestReport report = backtest(*backtest_plan(*plan, "", parts), {.now = now, .threads = threads});
    CHECK(report.notes.empty());
    CHECK(report.lines == 14'400);
    CHECK(report.patterns[0].matches == whole.patterns[0].matches);
    CHECK(report.first_line == now - hours(30));
    CHECK(report.last_line == whole.last_line);
    REQUIRE(report.rules[0].episodes.size() == 1);
    // It ends within the first file: that one is watched, although the others begin later.
    CHECK(report.rules[0].episodes[0].fired_at == whole.rules[0].episodes[0].fired_at);
    CHECK(report.rules[0].episodes[0].resolved_at == whole.rules[0].episodes[0].resolved_at);
    CHECK(report.rules[0].unknown.empty());
    REQUIRE(report.rules[0].peak);
    CHECK(report.rules[0].peak->value == 240);
    CHECK(report.rules[0].peak->at == whole.rules[0].peak->at);
  }
}

TEST_CASE("backtest: many packed files are unpacked as their turns come", "[run][backtest]") {
  const LogDir dir;
  const rules::Timestamp now = system_now();
  // More than are left unpacked, an hour each; long lines, so that few are as many bytes.
  for (int file = 0; file < 10; ++file) {
    const std::string said = "ERROR code=" + std::to_string(file % 5) + " " + std::string(150, 'x');
    std::string text;
    for (int i = 0; i < 4'000; ++i)
      text += line_at(now - hours(40) + minutes(file * 60) + milliseconds(900) * i, said);
    dir.write("a" + std::to_string(file) + (file % 2 == 0 ? ".gz" : ".zst"), file % 2 == 0 ? gzip(text) : zstd(text));
  }
  const auto plan = plan_with(dir, "sum(count_over_time(p0[1m])) < 50", rules::PatternSet::Matcher::kFast);
  const BacktestReport report = backtest(*backtest_plan(*plan, "", {dir.path("a*")}), {.now = now});
  CHECK(report.notes.empty());
  CHECK(report.lines == 40'000);
  CHECK(report.patterns[0].matches == 40'000);
  // Were one of them late, there would be fewer in some minute.
  CHECK(report.rules[0].firings == 0);
}

TEST_CASE("backtest: what is packed and broken, or packed otherwise, is said", "[run][backtest]") {
  const LogDir dir;
  const rules::Timestamp now = system_now();
  const std::string text = hour_of_lines(now - hours(30));
  const std::string packed = gzip(text);
  dir.write("half.log.gz", packed.substr(0, packed.size() / 2));
  dir.write("other.log.xz", "\xfd" "7zXZ and what is in it");
  const auto plan = plan_with(dir, "sum(count_over_time(p0[1m])) > 200", rules::PatternSet::Matcher::kFast);
  const BacktestReport report = backtest(*backtest_plan(*plan, "", {dir.path("*.log.*")}), {.now = now});
  CHECK(report.lines > 3000);
  REQUIRE(report.notes.size() == 2);
  for (const engine::ReaderNote& note : report.notes) {
    CHECK(note.level == engine::ReaderNote::Level::kError);
    if (note.path == dir.path("other.log.xz")) {
      CHECK(note.message == "it is compressed with xz, which is not read here; unpack it: xzcat " + note.path +
                                " | logbell backtest --from -");
    } else {
      CHECK_THAT(note.message, Catch::StartsWith("It is compressed, and ends early at byte "));
    }
  }
}

TEST_CASE("backtest: standard input is read to its end, merged with files", "[run][backtest]") {
  const LogDir dir;
  const rules::Timestamp now = system_now();
  std::string even;
  std::string odd;
  for (int i = 0; i < 40'000; ++i)
    (i % 2 == 0 ? even : odd) += line_at(now - hours(30) + milliseconds(250) * i, "ERROR code=1 in the queue of orders");
  dir.write("even.log", even);
  int pipe[2] = {-1, -1};
  REQUIRE(::pipe2(pipe, O_CLOEXEC) == 0);
  std::promise<void> waits;
  std::thread writer([&] {
    // Who writes begins late, when all of the file could long have been read.
    waits.get_future().wait();
    // Longer than a pipe holds: it is empty again and again.
    for (std::size_t at = 0; at < odd.size(); at += 1000) {
      const std::string part = odd.substr(at, 1000);
      if (::write(pipe[1], part.data(), part.size()) < 0) break;
    }
    ::close(pipe[1]);
  });
  const auto plan = plan_with(dir, "sum(count_over_time(p0[1m])) < 200", rules::PatternSet::Matcher::kFast);
  engine::BacktestSettings settings{.now = now, .values = true, .stdin_fd = pipe[0]};  // evaluated each 16 384 matches
  int said = 0;
  settings.progress = [&](const engine::BacktestProgress&) {
    if (++said == 3) waits.set_value();
  };
  const BacktestReport report = backtest(*backtest_plan(*plan, "", {dir.path("even.log"), "-"}), settings);
  ::close(pipe[0]);
  writer.join();
  CHECK(report.lines == 40'000);
  CHECK(report.patterns[0].matches == 40'000);
  // 240 a minute of both together, 120 of one alone.
  CHECK(report.rules[0].firings == 0);
  REQUIRE(report.rules[0].peak);
  CHECK(report.rules[0].peak->value >= 200);
}

// --- what is told of a rule

// One log from `lines`: when, in seconds since it began, and what.
struct Told {
  explicit Told(rules::Timestamp begin) : from(begin) {}
  void at(int second, const std::string& text) { log += line_at(from + seconds(second), text); }
  rules::Timestamp from;
  std::string log;
};

std::shared_ptr<const rules::Plan> with_sinks(const std::shared_ptr<const rules::Plan>& plan) {
  auto out = std::make_shared<rules::Plan>(*plan);
  for (const std::string name : {"ops", "page"}) {
    rules::SinkSpec sink;
    sink.name = name;
    sink.lanes = {name + "#1", name + "#2"};
    out->sinks[name] = sink;
  }
  out->has_route = true;
  out->route.id = "route";
  out->route.options.sinks = {"ops"};
  out->route.options.group_by = {"alertname"};
  return out;
}

TEST_CASE("backtest: firings, the longest, flaps, messages as production would have sent them", "[run][backtest]") {
  const LogDir dir;
  const rules::Timestamp now = system_now();
  Told told(std::chrono::floor<std::chrono::days>(now) - hours(24 * 3) + hours(1));
  told.at(0, "nothing");
  told.at(600, "ERROR code=1");
  told.at(900, "ERROR code=1");  // it ended at 660, and fires again within a quarter of an hour
  for (int i = 0; i < 9 * 60; ++i)
    told.at(7200 + i * 50, "ERROR code=2");  // 7 h 29 min without a minute's pause
  told.at(80'000, "nothing");
  dir.append("a.log", told.log);
  const auto plan = with_sinks(plan_with(dir, "sum by (code) (count_over_time(p0[1m])) > 0", rules::PatternSet::Matcher::kFast));
  const BacktestReport report = backtest(*backtest_plan(*plan, "", {dir.path("a.log")}), {.now = now});
  const BacktestReport::Rule& rule = report.rules[0];
  CHECK(rule.firings == 3);
  CHECK(rule.flaps == 1);
  CHECK(rule.longest == seconds(539 * 50 + 60));
  CHECK(rule.firing == rule.longest + seconds(120));
  REQUIRE(rule.episodes.size() == 3);
  CHECK(rule.episodes[0].fired_at == told.from + seconds(600));
  CHECK(*rule.episodes[0].resolved_at == told.from + seconds(660));
  CHECK(rule.episodes[2].labels.get("code") == "2");
  // Each once at its firing and once at its end, the long one after 4 h once more; of two lanes it is one message.
  REQUIRE(report.sinks.size() == 2);
  CHECK(report.sinks[0].messages == 7);
  CHECK(report.sinks[0].days == std::map<rules::Timestamp, std::uint64_t>{
                                    {std::chrono::floor<std::chrono::days>(told.from), 7}});
  CHECK(report.sinks[1].messages == 0);
  CHECK(rule.messages == std::map<std::string, std::uint64_t>{{"ops", 7}});
  REQUIRE(rule.top_values.size() == 1);
  CHECK(rule.top_values[0].label == "code");
  REQUIRE(rule.top_values[0].values.size() == 2);
  CHECK(rule.top_values[0].values[0] == std::pair<std::string, std::uint64_t>("2", 540));
  CHECK(rule.top_values[0].others == 0);
}

TEST_CASE("backtest: nobody is told within muted hours, and of what lasts they hear afterwards", "[run][backtest]") {
  const LogDir dir;
  const rules::Timestamp now = system_now();
  Told told(std::chrono::floor<std::chrono::days>(now) - hours(24 * 3));
  told.at(0, "nothing");
  told.at(3600, "ERROR code=1");      // 01:00, and over within the night
  for (int i = 0; i < 180; ++i)
    told.at(5 * 3600 + i * 50, "ERROR code=2");  // 05:00 to 07:30
  told.at(80'000, "nothing");
  dir.append("a.log", told.log);
  auto plan = std::make_shared<rules::Plan>(
      *with_sinks(plan_with(dir, "sum by (code) (count_over_time(p0[1m])) > 0", rules::PatternSet::Matcher::kFast)));
  plan->route.options.group_by_all = true;
  plan->route.options.mute_time_intervals = {"night"};
  rules::TimeInterval night;
  rules::TimeIntervalEntry entry;
  entry.minutes.emplace_back(0, 6 * 60);
  night.entries.push_back(entry);
  plan->time_intervals["night"] = night;
  const BacktestReport report = backtest(*backtest_plan(*plan, "", {dir.path("a.log")}), {.now = now});
  CHECK(report.rules[0].firings == 2);
  CHECK(report.rules[0].messages.at("ops") == report.sinks[0].messages);
  // The second's firing at 06:00 and its end; of the first, which began and ended in the night, at most its story.
  CHECK(report.sinks[0].messages >= 2);
  CHECK(report.sinks[0].messages <= 3);
}

TEST_CASE("backtest: since and until cut what is told, not what fills the windows", "[run][backtest]") {
  const LogDir dir;
  const rules::Timestamp now = system_now();
  Told told(now - hours(30));
  told.at(0, "nothing");
  told.at(100, "ERROR code=1");
  for (int i = 0; i < 10; ++i)
    told.at(1000 + i * 50, "ERROR code=1");  // fires from 1000 to 1510
  told.at(2000, "ERROR code=1");
  told.at(3000, "ERROR code=1");
  told.at(4000, "nothing");
  dir.append("a.log", told.log);
  const auto plan = plan_with(dir, "sum(count_over_time(p0[1m])) > 0", rules::PatternSet::Matcher::kFast);
  const auto run = [&](std::optional<int> since, std::optional<int> until) {
    engine::BacktestSettings settings{.now = now};
    if (since) settings.since = told.from + seconds(*since);
    if (until) settings.until = told.from + seconds(*until);
    return backtest(*backtest_plan(*plan, "", {dir.path("a.log")}), settings);
  };
  CHECK(run(std::nullopt, std::nullopt).rules[0].firings == 4);
  const BacktestReport late = run(1220, std::nullopt);
  REQUIRE(late.rules[0].episodes.size() == 3);
  // It fires already, and is told of from then on.
  CHECK(late.rules[0].episodes[0].fired_at == told.from + seconds(1220));
  CHECK(late.rules[0].firing == seconds(1510 - 1220 + 60 + 60));
  CHECK(late.patterns[0].matches == 5 + 2);
  CHECK(late.first_line == told.from + seconds(1220));
  CHECK(late.rules[0].first_at == told.from + seconds(1220));
  const BacktestReport early = run(std::nullopt, 2000);
  CHECK(early.rules[0].firings == 2);
  CHECK(early.patterns[0].matches == 11);
  CHECK(early.last_line < told.from + seconds(2000));
  const BacktestReport between = run(1600, 2500);
  CHECK(between.rules[0].firings == 1);
  CHECK(between.rules[0].first_at == told.from + seconds(2000));
  CHECK(run(5000, std::nullopt).rules[0].firings == 0);
}

TEST_CASE("backtest: lines whose times cannot be believed are counted and said", "[run][backtest]") {
  const LogDir dir;
  const rules::Timestamp now = system_now();
  Told told(now - hours(30));
  told.at(0, "ERROR code=1");
  told.log += "ERROR code=2 and no time\n";
  told.log += line_at(now + hours(24 * 300), "ERROR code=3");
  told.at(10, "ERROR code=1");
  dir.append("a.log", told.log);
  const auto plan = plan_with(dir, "sum(count_over_time(p0[1m])) > 0", rules::PatternSet::Matcher::kFast);
  const BacktestReport report = backtest(*backtest_plan(*plan, "", {dir.path("a.log")}), {.now = now});
  CHECK(report.patterns[0].matches == 4);
  CHECK(report.last_line == told.from + seconds(10));
  CHECK(report.amiss == std::map<std::string, std::uint64_t>{
                            {"matched and say no time: that of the line before was taken", 1},
                            {"matched and say a time in the future: that of the line before was taken", 1}});
}

TEST_CASE("backtest: label values are counted up to a bound, the rest together", "[run][backtest]") {
  const LogDir dir;
  const rules::Timestamp now = system_now();
  Told told(now - hours(30));
  for (int i = 0; i < 1500; ++i)
    told.at(i, "user=" + std::to_string(i % 1200) + " gone");
  dir.append("a.log", told.log);
  auto plan = std::make_shared<rules::Plan>(*make_plan(dir, {.patterns = {"user=(?P<user>\\d+)"}}));
  rules::AlertingRule rule;
  rule.name = "Users";
  rule.expr = *rules::bind_expr(*rules::parse_expr("sum(count_over_time(p0[1m])) > 1"), plan->patterns);
  rule.sources = {0};
  plan->rules.push_back(std::move(rule));
  const BacktestReport report = backtest(*backtest_plan(*plan, "", {dir.path("a.log")}), {.now = now});
  REQUIRE(report.rules[0].top_values.size() == 1);
  const BacktestReport::TopValues& top = report.rules[0].top_values[0];
  CHECK(top.values.size() == 5);
  CHECK(top.values[0].second == 2);
  std::uint64_t all = top.others;
  for (const auto& [value, lines] : top.values)
    all += lines;
  CHECK(all == 1500);
  REQUIRE(report.bounds.size() == 1);
  CHECK(report.bounds[0].pattern == "p0");
  CHECK(report.bounds[0].metric == "logbell_series_dropped_total");
  CHECK(report.bounds[0].count == 200);
}

// --- suggestions

TEST_CASE("backtest: with a threshold that was suggested a rule fires as often as was said", "[run][backtest]") {
  const LogDir dir;
  const rules::Timestamp now = system_now();
  RandomPatterns random(11);
  std::string log;
  rules::Timestamp at = now - hours(24 * 20);
  for (int i = 0; i < 6000; ++i) {
    at += milliseconds(random.below(i % 500 < 60 ? 9'000 : 600'000));
    log += line_at(at, random.below(3) == 0 ? "INFO" : "ERROR code=" + std::to_string(random.below(3)));
  }
  dir.append("a.log", log);
  struct Row {
    const char* expr;
    const char* op;
    rules::Duration for_;
    rules::Duration keep;
  };
  int told = 0;
  for (const Row& row : {Row{"sum(count_over_time(p0[5m]))", ">", seconds(0), seconds(0)},
                         Row{"sum(count_over_time(p0[5m]))", ">=", seconds(30), seconds(0)},
                         Row{"sum by (code) (count_over_time(p0[10m]))", ">", seconds(0), minutes(7)},
                         Row{"sum by (code) (rate(p0[10m]))", ">", minutes(2), minutes(11)},
                         Row{"sum(count_over_time(p0[3h]))", "<", seconds(0), seconds(0)},
                         Row{"sum(count_over_time(p0[3h]))", "<=", minutes(3), minutes(3)}}) {
    const auto run = [&](double threshold, bool values) {
      auto plan = std::make_shared<rules::Plan>(*plan_with(
          dir, std::string(row.expr) + " " + row.op + " " + rules::format_number(threshold), rules::PatternSet::Matcher::kFast));
      plan->rules[0].for_ = row.for_;
      plan->rules[0].keep_firing_for = row.keep;
      return backtest(*backtest_plan(*plan, "", {dir.path("a.log")}), {.now = now, .values = values});
    };
    const BacktestReport report = run(2, true);
    const BacktestReport::Rule& rule = report.rules[0];
    INFO(row.expr << " " << row.op << ": " << rule.no_suggestion);
    CHECK_FALSE(rule.thinned);
    REQUIRE(rule.suggestions.size() == 3);
    for (const BacktestReport::Suggestion& one : rule.suggestions) {
      INFO(one.a_month << " a month: " << one.threshold);
      CHECK(run(one.threshold, false).rules[0].firings == one.firings);
      CHECK(static_cast<double>(one.firings) <= one.a_month * 21 / 30);
      CHECK(one.beyond == (one.a_month < 2));
      told += one.firings > 0 ? 1 : 0;
    }
    // The peak is the same whether each change is looked at or not.
    REQUIRE(rule.peak);
    const BacktestReport plain = run(2, false);
    REQUIRE(plain.rules[0].peak);
    CHECK(plain.rules[0].peak->value == rule.peak->value);
    CHECK(plain.rules[0].peak->exact);
    CHECK(plain.rules[0].firings == rule.firings);
  }
  CHECK(told >= 6);
}

TEST_CASE("reader: a crew hands over the same lines in the same order", "[run][reader]") {
  std::string text;
  for (int i = 0; i < 60'000; ++i)
    text += "line " + std::to_string(i) + (i % 11 == 0 ? " error " + std::to_string(i % 3) : "") +
            (i % 1000 == 0 ? std::string(3000, 'x') : "") + "\n";
  std::vector<std::string> alone;
  for (const std::size_t threads : {1U, 2U, 5U}) {
    ReaderWorld world({.patterns = {"error (?P<kind>\\d)", "x{900}"}});
    world.threads = threads;
    world.chunk_bytes = 1024 * 1024;
    world.dir.append("a.log", text);
    world.settle();
    CHECK(world.counter("logbell_source_lines_total{source=\"app\"}") == 60'000);
    const std::vector<std::string> lines = world.lines();
    if (threads == 1) alone = lines;
    CHECK(lines.size() == 5455 + 60);
    CHECK(lines == alone);
    world.dir.append("a.log", text);
    world.settle();
    CHECK(world.lines() == alone);
  }
}

// Lines of all kinds, of which some match "error \\d".
std::string odd_lines(RandomPatterns& random, std::size_t bytes) {
  std::string text;
  while (text.size() < bytes) {
    const std::size_t kind = random.below(1000);
    text += "line " + std::to_string(text.size()) + std::string(random.below(400), '.');
    if (kind % 9 == 0) text += " error " + std::to_string(kind % 7);
    if (kind == 1) text += std::string(random.below(400'000), 'x') + " error 5";  // longer than a piece, or than may be
    if (kind == 2) text += std::string(40, '\0') + "error 6";
    if (kind == 3) text += std::string(random.below(300'000), '\n');
    text += kind % 5 == 0 ? "\r\n" : "\n";
  }
  return text;
}

TEST_CASE("reader: what a crew reads ahead is handed over as if it were read in its turn", "[run][reader]") {
  for (const std::uint64_t seed : {1U, 2U}) {
    std::vector<std::vector<SeenLine>> by_threads;
    for (const std::size_t threads : {1U, 2U, 3U}) {
      RandomPatterns random(seed);
      ReaderWorld world({.patterns = {"error (?P<kind>\\d)", "line \\d*77\\b"}});
      world.threads = threads;
      world.chunk_bytes = 520 * 1024;  // two pieces
      world.dir.append("a.log", odd_lines(random, 4'500'000));
      if (seed % 2 == 0) world.dir.append("b.log", odd_lines(random, 2'500'000));
      world.settle();
      if (seed % 2 == 1) {
        // Other patterns from some chunk on.
        world.dir.append("a.log", odd_lines(random, 4'000'000));
        for (int i = 0; i < 5; ++i)
          world.step();
        world.reload({.patterns = {"error (?P<kind>\\d)", "line \\d*88\\b"}, .generation = 2});
      }
      world.dir.append("a.log", "the last error 1");
      world.settle();
      world.pass(minutes(1));
      by_threads.push_back(std::exchange(world.seen, {}));
      CHECK(world.counter("logbell_source_lines_truncated_total{source=\"app\"}") > 0);
      CHECK(world.counter("logbell_source_nul_bytes_skipped_total{source=\"app\"}") > 0);
    }
    for (const std::vector<SeenLine>& lines : by_threads) {
      INFO("seed " << seed);
      REQUIRE(lines.size() == by_threads[0].size());
      for (std::size_t i = 0; i < lines.size(); ++i) {
        const SeenLine& line = lines[i];
        const SeenLine& alone = by_threads[0][i];
        REQUIRE((line.text == alone.text && line.pattern == alone.pattern && line.labels == alone.labels));
        if (line.generation != alone.generation) FAIL("another plan matched " << line.text.substr(0, 80));
      }
    }
  }
}

TEST_CASE("reader: a file that is cut while a crew reads it ahead loses nothing of what is written then",
          "[run][reader]") {
  RandomPatterns random(5);
  ReaderWorld world({.patterns = {"error (?P<kind>\\d)"}});
  world.threads = 2;
  world.chunk_bytes = 520 * 1024;
  world.dir.append("a.log", odd_lines(random, 5'000'000));
  for (int i = 0; i < 6; ++i)
    REQUIRE(world.step().more);
  const std::size_t before = world.lines().size();
  CHECK(before > 0);
  SECTION("to nothing") {
    world.dir.write("a.log", "written then: error 7\n");
  }
  SECTION("and grows again beyond where it was") {
    std::string text = "written then: error 7\n";
    while (text.size() < 5'500'000)
      text += "it has never held anything as good as this before\n";
    world.dir.write("a.log", text);
  }
  SECTION("and another one has its name") {
    world.dir.rename("a.log", "a.log.1");
    world.dir.append("a.log", "written then: error 7\n");
  }
  world.settle();
  world.pass(seconds(1));
  const Texts lines = world.lines();
  REQUIRE_FALSE(lines.empty());
  CHECK(lines.back() == "written then: error 7");
  CHECK(std::count(lines.begin(), lines.end(), "written then: error 7") == 1);
}

}  // namespace
}  // namespace logbell::tests

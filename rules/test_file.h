// TestFile: tests of rules as they are written beside them: lines with times, and what is expected at a
// moment.
//
// Immutable once read; any thread. No I/O: whoever runs the tests reads the configuration and the files of
// lines.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "rules/labels.h"
#include "rules/plan.h"
#include "rules/problems.h"
#include "rules/time.h"
#include "rules/yaml.h"

namespace logbell::rules {

// From a test's start to the last of its moments: longer than any window, `for` or interval of people.
inline constexpr Duration kMaxTestSpan{std::chrono::hours(24 * 400)};
// Lines of one test, those of `repeat` counted one by one, those of files not.
inline constexpr std::size_t kMaxTestLines = 1'000'000;

// A test's start where it says none: a Thursday, midnight UTC.
inline constexpr Timestamp kTestStart{std::chrono::sys_days(std::chrono::year(2026) / 1 / 1)};

// One entry of `lines:`. All times are since the test's start.
struct TestLine {
  Place place;
  std::string line;            // several where it holds line breaks; "" with `file`
  std::string file;            // as written; "": it is `line`
  std::optional<Duration> at;  // unset: a file whose lines count when they say
  std::uint32_t repeat = 1;
  Duration every{0};
};

// Lines of one source, in the order in which they are written to its log.
struct TestInput {
  Place place;
  std::uint32_t source = 0;  // index into Plan::sources
  std::string path;          // of the log, for what a path tells (cri); "": none
  std::vector<TestLine> lines;
};

struct ExpectedAlert {
  Place place;
  std::optional<Labels> labels;                                                 // unset: any
  std::optional<std::vector<std::pair<std::string, std::string>>> annotations;  // sorted by name; unset: any
};

// An entry of `alert_rule_test:`.
struct AlertRuleTest {
  Place place;
  Duration eval_time{0};
  std::string alertname;
  std::optional<std::vector<ExpectedAlert>> firing;   // exp_alerts
  std::optional<std::vector<ExpectedAlert>> pending;  // exp_pending
};

// An entry of `exp_notifications:`.
struct ExpectedNotification {
  Place place;
  Duration eval_time{0};  // up to here
  std::string alertname;
  bool resolved = false;
  std::vector<std::string> sinks;
  bool exactly = false;  // `sinks:`: these and no other; `sink:`: this one, others are not looked at
  std::vector<std::string> text;
};

// An entry of `exp_metrics:`.
struct ExpectedMetric {
  Place place;
  Duration eval_time{0};
  std::string name;
  Labels labels;
  double value = 0;
};

struct RuleTest {
  std::string name;
  Place place;
  Timestamp start = kTestStart;
  Duration watched_for{0};  // before the start, with nothing in the logs
  std::vector<TestInput> input;
  std::vector<AlertRuleTest> alerts;
  std::vector<ExpectedNotification> notifications;
  std::vector<ExpectedMetric> metrics;

  Duration end() const;  // the last moment that is looked at
};

struct TestFile {
  std::string path;
  std::vector<RuleTest> tests;
};

// `config:` as written: what its tests are of. Unset: a problem.
std::optional<std::string> test_file_config(const yaml::Node& root, Problems& problems);

// `plan`: of that configuration, for the names of its rules, sources and sinks.
TestFile read_test_file(const yaml::Node& root, const Plan& plan, Problems& problems);

// `5x 'a line'`: how often, and the line. Unset: it is a line as it stands.
std::optional<std::pair<std::uint32_t, std::string>> read_repeated_line(std::string_view text);

}  // namespace logbell::rules

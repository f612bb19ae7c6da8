// Whatever a test file holds: it is refused with reasons and places, or each of its tests expects something,
// keeps within its bounds, and ends, with the same result each time.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/run/rule_tests.h"
#include "rules/labels.h"
#include "rules/plan.h"
#include "rules/time.h"
#include "tests/fuzz/support.h"

namespace {

using namespace logbell;

constexpr const char* kConfig = R"(
environment: fuzz
sources:
  - {name: app, files: [/var/log/app.log], max_silence: 1h}
  - {name: pod, files: [/var/log/pods/*/*/0.log], format: cri, inner: json, multiline: java}
patterns:
  failed: {match: 'ERROR (?P<queue>\w+)', labels: [queue]}
  pod_error: {source: pod, where: {level: error}, labels: [pod]}
rules:
  - alert: Failed
    expr: sum by (queue) (count_over_time(failed[1m])) >= 2
    for: 10s
    annotations: {summary: '{{ $labels.queue }} failed {{ $value }} times'}
  - {alert: PodError, expr: 'count_over_time(pod_error[5m]) > 0 unless on () absent_over_time(failed[1h])'}
  - {alert: Quiet, expr: 'sum(count_over_time(failed[2h])) == 0'}
sinks:
  chat: {slack: {webhook_url_file: /run/secrets/slack}}
  mail: {email: {to: [a@example.com], from: b@example.com, server: 'smtp://mail'}}
route: {sinks: [chat, mail], group_interval: 5m}
)";

std::string_view input;

engine::ConfigWorld world() {
  engine::ConfigWorld out;
  out.env = [](const std::string&) { return std::optional<std::string>(); };
  out.read_file = [](const std::string& path) -> rules::Result<std::string> {
    if (path == "t.yaml") return std::string(input);
    if (path == "logbell.yaml") return std::string(kConfig);
    if (path == "old.log")
      return std::string("2026-05-01T10:00:00Z ERROR a\nERROR b\n2026-05-01T09:59:00Z ERROR a\n");
    return rules::fail(rules::ErrorCode::kNotFound, "no such file");
  };
  out.glob = [](const std::string&) { return std::vector<std::string>{}; };
  out.readable_by_others = [](const std::string&) { return false; };
  out.hostname = "fuzz";
  out.now = rules::kTestStart;
  return out;
}

void check_test(const rules::RuleTest& test, const rules::Plan& plan) {
  LOGBELL_CHECK(!test.name.empty() && test.place.line > 0);
  LOGBELL_CHECK(test.alerts.size() + test.notifications.size() + test.metrics.size() > 0);
  LOGBELL_CHECK(test.end() <= rules::kMaxTestSpan && test.end().count() >= 0);
  LOGBELL_CHECK(test.watched_for <= rules::kMaxTestSpan);
  std::size_t lines = 0;
  for (const rules::TestInput& from : test.input) {
    LOGBELL_CHECK(from.source < plan.sources.size());
    rules::Duration last{0};
    for (const rules::TestLine& line : from.lines) {
      lines += line.repeat;
      LOGBELL_CHECK(line.repeat > 0 && (line.file.empty() || line.line.empty()));
      if (!line.at) continue;
      LOGBELL_CHECK(*line.at >= last);
      last = *line.at + line.every * static_cast<rules::Duration::rep>(line.repeat - 1);
      LOGBELL_CHECK(last <= rules::kMaxTestSpan);
    }
  }
  LOGBELL_CHECK(lines <= rules::kMaxTestLines);
  for (const rules::ExpectedNotification& one : test.notifications) {
    for (const std::string& sink : one.sinks)
      LOGBELL_CHECK(plan.sinks.count(sink) == 1);
  }
}

// What takes no longer than an input may.
bool is_short(const rules::RuleTest& test) {
  std::size_t lines = 0;
  for (const rules::TestInput& from : test.input) {
    for (const rules::TestLine& line : from.lines)
      lines += line.repeat;
  }
  return lines <= 1000 && test.end() <= std::chrono::hours(48) && test.watched_for <= std::chrono::hours(48);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  input = fuzz::text_of(data, size);
  static engine::RuleTests tests(world());  // the configuration is loaded once
  rules::Problems problems;
  const auto loaded = tests.load("t.yaml", problems);
  LOGBELL_CHECK(loaded.has_value() != problems.has_errors());
  for (const rules::Problem& problem : problems.sorted()) {
    LOGBELL_CHECK(!problem.reason.empty() && !problem.place.file.empty());
    // Of a configuration that it names, and that is not there, no line is known.
    LOGBELL_CHECK(problem.place.file != "t.yaml" || problem.place.line > 0);
    LOGBELL_CHECK(problem.place.file != "logbell.yaml");  // ours is good
  }
  if (!loaded) return 0;
  LOGBELL_CHECK(!loaded->file.tests.empty());
  std::size_t run = 0;
  for (const rules::RuleTest& test : loaded->file.tests) {
    check_test(test, *loaded->config->plan);
    if (!is_short(test) || ++run > 4) continue;
    const auto first = engine::RuleTests::run(*loaded, test);
    const auto second = engine::RuleTests::run(*loaded, test);
    LOGBELL_CHECK(first.size() == second.size());
    for (std::size_t i = 0; i < first.size(); ++i) {
      LOGBELL_CHECK(first[i].expected == second[i].expected && first[i].got == second[i].got);
      LOGBELL_CHECK(first[i].place.line > 0 && !first[i].what.empty());
      // What is shown as a difference is one; a text that must occur may be part of what was said.
      LOGBELL_CHECK(first[i].expected != first[i].got || first[i].what.find(", to ") != std::string::npos);
    }
  }
  return 0;
}

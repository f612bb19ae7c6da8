// Metrics: what is shown, when, and that nothing can break a scrape. The judge is Debian's own promtool.
#include "engine/run/metrics.h"

#include <array>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <thread>

#include <catch2/catch.hpp>
#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rules/time.h"

using logbell::engine::LaneView;
using logbell::engine::Metrics;
using logbell::engine::MetricValue;
using logbell::engine::ProcessUse;
using logbell::engine::ScrapeView;
using logbell::engine::SinkState;
using logbell::rules::MetricSpec;
using logbell::rules::PatternSpec;
using logbell::rules::Plan;
using logbell::rules::SinkSpec;
using logbell::rules::SourceSpec;
using logbell::rules::Timestamp;

namespace {

const Timestamp kNow = *logbell::rules::parse_rfc3339("2026-05-01T10:00:00Z");

std::shared_ptr<Plan> plan() {
  auto made = std::make_shared<Plan>();
  SourceSpec api;
  api.name = "api";
  made->sources.push_back(api);
  PatternSpec oom;
  oom.name = "oom";
  made->patterns.push_back(oom);
  PatternSpec request;
  request.name = "request";
  request.labels = {"status"};
  request.metric =
      MetricSpec{"orders_request_duration_ms", "took, as \\d+\nms", MetricSpec::Type::kHistogram, {5, 25}, {}};
  made->patterns.push_back(request);
  SinkSpec chat;
  chat.name = "chat";
  chat.lanes = {"chat"};
  made->sinks["chat"] = chat;
  return made;
}

std::string scrape(const Metrics& metrics, const ScrapeView& view = {{}, {}, kNow}) {
  return metrics.render(view, ProcessUse{});
}

bool has(const std::string& text, const std::string& line) {
  return ("\n" + text).find("\n" + line + "\n") != std::string::npos;
}

// promtool's verdict: "" = no findings. Where it is not installed the test says so and passes.
std::string promtool(const std::string& text) {
  std::string path = "/tmp/logbell-metrics-XXXXXX";
  const int fd = mkstemp(path.data());
  REQUIRE(fd >= 0);
  REQUIRE(write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
  const std::string said = path + ".out";
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, path.c_str(), O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, said.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  posix_spawn_file_actions_adddup2(&actions, 1, 2);
  std::array<char*, 4> argv{const_cast<char*>("promtool"), const_cast<char*>("check"),
                            const_cast<char*>("metrics"), nullptr};
  pid_t pid = 0;
  const int spawned = posix_spawnp(&pid, "promtool", &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  std::string verdict;
  if (spawned != 0) {
    WARN("promtool is not installed: what Prometheus thinks of /metrics was not asked");
  } else {
    int status = 0;
    REQUIRE(waitpid(pid, &status, 0) == pid);
    std::ifstream in(said);
    verdict.assign(std::istreambuf_iterator<char>(in), {});
    if (WIFEXITED(status) && WEXITSTATUS(status) != 0 && verdict.empty()) verdict = "exit status";
  }
  close(fd);
  unlink(path.c_str());
  unlink(said.c_str());
  return verdict;
}

}  // namespace

TEST_CASE("metrics: what the core has forgotten is forgotten here too, and begins anew", "[run][metrics]") {
  Metrics metrics("1.2.3", kNow);
  metrics.set_plan(plan());
  const auto order = [](const char* partner, double count) {
    return MetricValue{"logbell_pattern_matches_total", {{"pattern", "order"}, {"partner", partner}}, count};
  };
  const auto shows = [&](const char* partner, int count) {
    return has(scrape(metrics), fmt::format("logbell_pattern_matches_total{{partner=\"{}\",pattern=\"order\"}} {}", partner, count));
  };
  metrics.publish({order("a", 7), order("b", 1)}, true);
  metrics.publish({order("a", 7), order("b", 1)}, false);
  // c is committed before the core has shown it.
  metrics.commit({order("c", 2)});
  metrics.publish({order("a", 7), order("c", 2)}, false);
  CHECK(shows("a", 7));
  CHECK(shows("c", 2));
  metrics.publish({order("a", 7), order("b", 1), order("c", 2)}, false);
  CHECK(shows("b", 0));  // until the match is committed that it begins with
  metrics.commit({order("b", 1)});
  CHECK(shows("b", 1));
  // One goes and another comes.
  metrics.commit({order("d", 5)});
  metrics.publish({order("a", 7), order("b", 1), order("d", 5)}, false);
  metrics.publish({order("a", 7), order("b", 1), order("c", 1), order("d", 5)}, false);
  CHECK(shows("c", 0));
  CHECK(shows("d", 5));
}

TEST_CASE("metrics: before anything has happened, counters are zero and times absent", "[run][metrics]") {
  Metrics metrics("1.2.3", kNow);
  metrics.set_plan(plan());
  const std::string text = scrape(metrics);
  CHECK(has(text, "logbell_source_lines_total{source=\"api\"} 0"));
  CHECK(has(text, "logbell_source_bytes_total{source=\"api\"} 0"));
  CHECK(has(text, "logbell_pattern_matches_total{pattern=\"oom\"} 0"));
  CHECK(has(text, "logbell_notifications_total{outcome=\"delivered\",reason=\"ok\",sink=\"chat\"} 0"));
  CHECK(has(text, "logbell_notification_latency_seconds_count{sink=\"chat\"} 0"));
  CHECK(has(text, "logbell_commit_duration_seconds_count 0"));
  CHECK(has(text, "logbell_commit_failures_total 0"));
  CHECK(has(text, "logbell_rules_without_sink 0"));
  CHECK(has(text, "logbell_plan_refused 0"));
  CHECK(has(text, "logbell_build_info{version=\"1.2.3\"} 1"));
  CHECK(has(text, "logbell_config_last_reload_successful 1"));
  CHECK(has(text, "logbell_sink_state{sink=\"chat\",state=\"unknown\"} 1"));
  CHECK(text.find("reload_success_timestamp") == std::string::npos);
  CHECK(text.find("last_line_timestamp") == std::string::npos);
  CHECK(promtool(text).empty());
}

TEST_CASE("metrics: what waits in queues, and what was forgotten at a bound", "[run][metrics]") {
  Metrics metrics("1", kNow);
  metrics.set_plan(plan());
  ScrapeView view{{}, {}, kNow};
  view.bounds = {{"logbell_queue_bytes", {{"queue", "core"}}, 4096},
                 {"logbell_queue_waits_total", {{"queue", "core"}}, 2}};
  LaneView lane;
  lane.sink = lane.lane = "chat";
  lane.forgotten = 7;
  view.lanes = {lane};
  logbell::engine::Verdict far;
  far.sink = "chat";
  far.found.certificate_ends = kNow + std::chrono::hours(48);
  logbell::engine::Verdict soon = far;
  soon.found.certificate_ends = kNow + std::chrono::hours(24);
  view.verdicts = {{"chat#1", far}, {"chat#2", soon}};
  const std::string text = scrape(metrics, view);
  CHECK(has(text, fmt::format("logbell_sink_tls_not_after_timestamp_seconds{{sink=\"chat\"}} {}",
                              logbell::rules::to_unix_ms(kNow + std::chrono::hours(24)) / 1000)));
  CHECK(has(text, "logbell_queue_bytes{queue=\"core\"} 4096"));
  CHECK(has(text, "logbell_queue_waits_total{queue=\"core\"} 2"));
  CHECK(has(text, "logbell_fallback_alerts_forgotten_total{sink=\"chat\"} 7"));
  CHECK(promtool(text).empty());
}

TEST_CASE("metrics: without a plan the rules that reach nobody are still told", "[run][metrics]") {
  Metrics metrics("1", kNow);
  metrics.set_plan_refused(true);
  metrics.set_rules_without_sink(3);
  metrics.reloaded(false, kNow);
  const std::string text = scrape(metrics);
  CHECK(has(text, "logbell_rules_without_sink 3"));
  CHECK(has(text, "logbell_plan_refused 1"));
  CHECK(has(text, "logbell_config_last_reload_successful 0"));
  CHECK(promtool(text).empty());
}

TEST_CASE("metrics: a counter moves when it is committed, a gauge at once", "[run][metrics]") {
  Metrics metrics("1", kNow);
  metrics.set_plan(plan());
  const auto matches = [](double value) {
    return MetricValue{"logbell_pattern_matches_total", {{"pattern", "oom"}}, value};
  };
  metrics.publish({matches(5)}, true);  // a start: what the store holds
  CHECK(has(scrape(metrics), "logbell_pattern_matches_total{pattern=\"oom\"} 5"));
  metrics.publish({matches(7), {"logbell_alerts", {{"alertname", "A"}, {"alertstate", "firing"}}, 1}}, false);
  const std::string before = scrape(metrics);
  CHECK(has(before, "logbell_pattern_matches_total{pattern=\"oom\"} 5"));
  CHECK(has(before, "logbell_alerts{alertname=\"A\",alertstate=\"firing\"} 1"));
  metrics.commit({matches(7)});
  CHECK(has(scrape(metrics), "logbell_pattern_matches_total{pattern=\"oom\"} 7"));
}

TEST_CASE("metrics: what a source has read shows once it is committed, before the core shows its series",
          "[run][metrics]") {
  Metrics metrics("1", kNow);
  metrics.set_plan(plan());
  metrics.publish({}, false);
  metrics.commit({{"logbell_source_lines_total", {{"source", "api"}}, 7}});
  CHECK(has(scrape(metrics), "logbell_source_lines_total{source=\"api\"} 7"));
  metrics.publish({{"logbell_source_lines_total", {{"source", "api"}}, 9}}, false);
  CHECK(has(scrape(metrics), "logbell_source_lines_total{source=\"api\"} 7"));
}

TEST_CASE("metrics: what a reload removes is gone, what it keeps goes on", "[run][metrics]") {
  Metrics metrics("1", kNow);
  metrics.set_plan(plan());
  const MetricValue kept{"logbell_x_total", {{"a", "kept"}}, 3};
  const MetricValue removed{"logbell_x_total", {{"a", "removed"}}, 4};
  metrics.publish({kept, removed}, true);
  metrics.set_plan(plan());
  metrics.publish({kept}, false);
  CHECK(has(scrape(metrics), "logbell_x_total{a=\"kept\"} 3"));
  metrics.publish({kept, removed}, false);  // and when it comes back, it begins anew
  CHECK(has(scrape(metrics), "logbell_x_total{a=\"removed\"} 0"));
}

TEST_CASE("metrics: a pattern's own histogram has its type, its help and +Inf", "[run][metrics]") {
  Metrics metrics("1", kNow);
  metrics.set_plan(plan());
  metrics.publish({{"orders_request_duration_ms_bucket", {{"status", "200"}, {"le", "5"}}, 1},
                   {"orders_request_duration_ms_bucket", {{"status", "200"}, {"le", "25"}}, 3},
                   {"orders_request_duration_ms_bucket", {{"status", "200"}, {"le", "+Inf"}}, 4},
                   {"orders_request_duration_ms_sum", {{"status", "200"}}, 812.5},
                   {"orders_request_duration_ms_count", {{"status", "200"}}, 4}},
                  true);
  const std::string text = scrape(metrics);
  CHECK(has(text, "# TYPE orders_request_duration_ms histogram"));
  CHECK(has(text, "# HELP orders_request_duration_ms took, as \\\\d+\\nms"));
  CHECK(has(text, "orders_request_duration_ms_bucket{status=\"200\",le=\"5\"} 1"));
  CHECK(has(text, "orders_request_duration_ms_bucket{status=\"200\",le=\"25\"} 3"));
  CHECK(has(text, "orders_request_duration_ms_bucket{status=\"200\",le=\"+Inf\"} 4"));
  CHECK(has(text, "orders_request_duration_ms_sum{status=\"200\"} 812.5"));
  CHECK(has(text, "orders_request_duration_ms_count{status=\"200\"} 4"));
  CHECK(promtool(text).find("error") == std::string::npos);
}

TEST_CASE("metrics: nothing from a log or a configuration can break a scrape", "[run][metrics]") {
  Metrics metrics("1\"\n", kNow);
  auto hostile = plan();
  hostile->sources[0].name = "a\"}\n# TYPE x counter\\";
  hostile->sinks["s\xff"] = hostile->sinks["chat"];
  hostile->patterns[1].metric =
      MetricSpec{"mine_total", "line\none \\n \xff", MetricSpec::Type::kCounter, {}, {}};
  metrics.set_plan(hostile);
  std::vector<MetricValue> values;
  for (const char* value :
       {"plain", "quote\"", "back\\slash", "new\nline", "bro\xffken", "bro\xfeken", "half\xe2\x82",
        "\xed\xa0\x80surrogate", "\r\n# HELP", "}", "{a=\"b\"} 1", "ünï"}) {
    values.push_back({"mine_total", {{"status", value}}, 2});
    values.push_back({"logbell_alerts", {{"alertname", value}, {"alertstate", "firing"}}, 1});
  }
  values.push_back({"not a name", {}, 1});
  values.push_back({"logbell_y_total", {{"not a label", "x"}}, 1});
  values.push_back({"logbell_nan", {}, std::numeric_limits<double>::quiet_NaN()});
  values.push_back({"logbell_inf", {}, -std::numeric_limits<double>::infinity()});
  metrics.publish(values, true);
  const std::string text = scrape(metrics, {{{"api", "/x\n", 1, 2, true, ""}}, {}, kNow});
  INFO(text);
  CHECK(promtool(text).empty());
  // The two that only broken bytes told apart are one now, with both their counts.
  CHECK(has(text, "mine_total{status=\"bro\xef\xbf\xbdken\"} 4"));
  CHECK(has(text, "logbell_metric_names_refused_total 2"));
  CHECK(text.find("not a") == std::string::npos);
}

TEST_CASE("metrics: sources and sinks as they are at the scrape", "[run][metrics]") {
  Metrics metrics("1", kNow);
  metrics.set_plan(plan());
  ScrapeView view{{{"api", "/a", 100, 40, true, ""}, {"api", "/b", 10, 20, false, "gone"}}, {}, kNow};
  LaneView one;
  one.sink = one.lane = "chat";
  one.state = SinkState::kFailing;
  one.pending = 2;
  one.oldest = kNow - std::chrono::seconds(90);
  view.lanes.push_back(one);
  one.lane = "chat#2";
  one.state = SinkState::kAlive;
  one.pending = 1;
  one.oldest = kNow - std::chrono::seconds(5);
  view.lanes.push_back(one);
  metrics.observe_latency("chat", 0.012);
  metrics.observe_commit(0.002);
  metrics.count("logbell_notifications_total", {{"sink", "chat"}, {"outcome", "retry"}, {"reason", "dns"}});
  const std::string text = scrape(metrics, view);
  CHECK(has(text, "logbell_source_lag_bytes{source=\"api\"} 60"));
  CHECK(has(text, "logbell_source_readable{source=\"api\"} 1"));
  CHECK(has(text, "logbell_outbox_pending{sink=\"chat\"} 3"));
  CHECK(has(text, "logbell_outbox_oldest_seconds{sink=\"chat\"} 90"));
  CHECK(has(text, "logbell_sink_state{sink=\"chat\",state=\"failing\"} 1"));
  CHECK(has(text, "logbell_sink_state{sink=\"chat\",state=\"alive\"} 0"));
  CHECK(has(text, "logbell_notification_latency_seconds_bucket{sink=\"chat\",le=\"0.01\"} 0"));
  CHECK(has(text, "logbell_notification_latency_seconds_bucket{sink=\"chat\",le=\"0.025\"} 1"));
  CHECK(has(text, "logbell_notifications_total{outcome=\"retry\",reason=\"dns\",sink=\"chat\"} 1"));
  CHECK(has(text, "logbell_commit_duration_seconds_count 1"));
  CHECK(promtool(text).empty());
}

TEST_CASE("metrics: the process itself", "[run][metrics]") {
  const ProcessUse use = ProcessUse::measure();
  CHECK(use.resident_bytes > 1e6);
  CHECK(use.virtual_bytes >= use.resident_bytes);
  CHECK(use.open_fds >= 3);
  CHECK(use.max_fds >= use.open_fds);
  CHECK(use.cpu_seconds > 0);
}

TEST_CASE("metrics: counted and scraped from several threads", "[run][metrics]") {
  Metrics metrics("1", kNow);
  metrics.set_plan(plan());
  std::vector<std::thread> threads;
  threads.reserve(3);
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) {
        metrics.count("logbell_clock_steps_total");
        metrics.publish({{"logbell_alerts", {}, 1}}, false);
        metrics.observe_commit(0.001);
      }
    });
  }
  for (int i = 0; i < 20; ++i)
    scrape(metrics);
  for (std::thread& thread : threads)
    thread.join();
  CHECK(has(scrape(metrics), "logbell_clock_steps_total 600"));
}

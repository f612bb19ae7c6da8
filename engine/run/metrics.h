// Metrics: everything /metrics shows. The only door to prometheus-cpp.
//
// Thread-safe. Counters that the core keeps are shown as committed, so that a crash never looks like a reset;
// which series exist, and the values of gauges, come with each publish(). Nothing that a log, a help text or
// a name says can break a scrape: broken UTF-8 is repaired, names that are none are left out and counted,
// twins are added up.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/core/pipeline.h"
#include "engine/run/reader.h"
#include "engine/run/send_loop.h"
#include "engine/run/thread_annotations.h"
#include "engine/run/verify.h"
#include "rules/plan.h"
#include "rules/time.h"

namespace logbell::engine {

std::string_view to_string(SinkState state);

// What is looked at when somebody scrapes, instead of being counted.
struct ScrapeView {
  std::vector<StreamView> streams;
  std::vector<LaneView> lanes;
  rules::Timestamp now;
  Verdicts verdicts = {};
  std::vector<MetricValue> bounds = {};  // shown as they are: of queues, and of what was forgotten at a bound
};

// What this process uses of the machine; read from the kernel at a scrape.
struct ProcessUse {
  double cpu_seconds = 0;
  double resident_bytes = 0;
  double virtual_bytes = 0;
  double open_fds = 0;
  double max_fds = 0;

  static ProcessUse measure();
};

class Metrics {
 public:
  // `started`: for process_start_time_seconds.
  Metrics(std::string version, rules::Timestamp started);

  // Its sinks, sources and patterns get their counters at zero, its patterns' own metrics their type and
  // help.
  void set_plan(std::shared_ptr<const rules::Plan> plan);
  // Instead of the plan's number: of rules that run for nobody because their configuration was refused.
  void set_rules_without_sink(std::uint32_t rules);
  // Of the configuration that runs: fingerprint() in engine/run/compare.h.
  void set_fingerprint(rules::Labels fingerprint);
  void set_plan_refused(bool refused);
  void reloaded(bool successful, rules::Timestamp at);

  // From the core: every series there is. `committed`: the counters among them are what the store holds (a
  // start).
  void publish(std::vector<MetricValue> all, bool committed);
  // From the writer, after the commit: new totals of counters.
  void commit(const std::vector<MetricValue>& totals);

  // A counter of this process; `set` takes its total, or what a gauge shows. `name` is one of the table in metrics.cc.
  void count(std::string_view name, const rules::Labels& labels = {}, double by = 1);
  void set(std::string_view name, const rules::Labels& labels, double value);
  void observe_latency(const std::string& sink, double seconds);
  void observe_commit(double seconds);

  // Prometheus's text format, version 0.0.4.
  std::string render(const ScrapeView& view, const ProcessUse& process) const;
  static constexpr std::string_view kContentType = "text/plain; version=0.0.4; charset=utf-8";

 private:
  using Series = std::map<rules::Labels, double>;
  struct Histogram {
    std::vector<std::uint64_t> counts;  // one a bound, not cumulative
    std::uint64_t count = 0;
    double sum = 0;
  };
  static void observe(Histogram& histogram, const std::vector<double>& bounds, double value);

  const std::string version_;
  const rules::Timestamp started_;
  mutable Mutex mutex_;
  std::shared_ptr<const rules::Plan> plan_ GUARDED_BY(mutex_);
  std::vector<MetricValue> current_ GUARDED_BY(mutex_);  // as published
  std::map<std::string, Series, std::less<>> committed_ GUARDED_BY(mutex_);
  std::map<std::string, Series, std::less<>> own_ GUARDED_BY(mutex_);
  std::map<std::string, Histogram> latency_ GUARDED_BY(mutex_);  // by sink
  Histogram commit_ GUARDED_BY(mutex_);
  std::uint32_t rules_without_sink_ GUARDED_BY(mutex_) = 0;
  rules::Labels fingerprint_ GUARDED_BY(mutex_);
  bool plan_refused_ GUARDED_BY(mutex_) = false;
  bool reload_successful_ GUARDED_BY(mutex_) = true;
  rules::Timestamp reloaded_at_ GUARDED_BY(mutex_) = rules::kLongAgo;
  bool forget_removed_ GUARDED_BY(mutex_) = false;  // the plan changed: what the next publish() lacks is gone
};

}  // namespace logbell::engine

// Metrics on prometheus-cpp's text serializer. The only file that includes it.
//
// Its registry is not used: what exists and what it counts is the core's to say, and a family that follows a
// plan is a value here, made for one scrape.
#include "engine/run/metrics.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <optional>
#include <set>
#include <sstream>
#include <utility>

#include <dirent.h>
#include <fmt/format.h>
#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>
#include <sys/resource.h>
#include <unistd.h>

#include "engine/run/log.h"
#include "rules/template.h"

namespace logbell::engine {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using rules::Labels;
using sinks::Reason;

namespace {

struct Family {
  std::string_view name;
  MetricType type;
  std::string_view help;
};

// Every family of logbell's own: DESIGN.md §8. Patterns may add theirs (`metric:`).
constexpr std::array kFamilies{
    Family{"logbell_acknowledgements_forgotten_total", MetricType::Counter,
           "Acknowledgements that are no longer known to be the first of their message, because there were too "
           "many."},
    Family{"logbell_acknowledgements_total", MetricType::Counter,
           "People who said that they saw a message, by its link or at the sink itself; and what came of links: "
           "repeated, or refused as wrong, expired or stale."},
    Family{"logbell_alerts", MetricType::Gauge, "Alerts by state."},
    Family{"logbell_alerts_before_start_total", MetricType::Counter,
           "Alerts that fired and ended in the log before the first start: nobody is told."},
    Family{"logbell_build_info", MetricType::Gauge, "1, with the version as a label."},
    Family{"logbell_clock_setbacks_total", MetricType::Counter,
           "Times a source's clock was set back because it was ahead of the wall clock."},
    Family{"logbell_clock_steps_total", MetricType::Counter, "Times the wall clock was found set back."},
    Family{"logbell_commit_duration_seconds", MetricType::Histogram,
           "Time of one commit to the store, its sync included."},
    Family{"logbell_commit_failures_total", MetricType::Counter,
           "Commits that the store refused (disk full); what was in them is kept in memory and tried again."},
    Family{"logbell_config_info", MetricType::Gauge,
           "1, with fingerprints of what runs: environments that watch for the same, route it in the same "
           "way and "
           "know the same sinks have the same."},
    Family{"logbell_config_last_reload_success_timestamp_seconds", MetricType::Gauge,
           "When a configuration was last accepted."},
    Family{"logbell_config_last_reload_successful", MetricType::Gauge,
           "1 if the last configuration that was looked at was accepted."},
    Family{"logbell_deliveries_undurable_total", MetricType::Counter,
           "Deliveries sent before the store had them, because it refused the commit."},
    Family{"logbell_fallback_alerts_forgotten_total", MetricType::Counter,
           "Alerts that a fallback was told of and whose end it will not hear, because there were too many."},
    Family{"logbell_drills_total", MetricType::Counter,
           "Drills that ended, and whether every rule was proven to reach every sink."},
    Family{"logbell_feedback_keys_forgotten_total", MetricType::Counter,
           "Messages of logbell's own that would no longer be known if they came back, because there were "
           "too many."},
    Family{"logbell_heartbeat_heard_timestamp_seconds", MetricType::Gauge,
           "When a heartbeat that others send to logbell was last heard."},
    Family{"logbell_heartbeat_last_success_timestamp_seconds", MetricType::Gauge,
           "When the heartbeat's receiver last took that logbell lives."},
    Family{"logbell_heartbeats_total", MetricType::Counter,
           "Heartbeats by what became of them: delivered; reported, that something is bad or that logbell "
           "stops; "
           "withheld, because none was earned; failed, because the receiver did not take it."},
    Family{"logbell_http_connections_turned_away_total", MetricType::Counter,
           "Connections to logbell that lost their place to another because there were too many."},
    Family{"logbell_inotify_overflows_total", MetricType::Counter,
           "Times the kernel had too many file events to keep; everything was looked at anew."},
    Family{"logbell_inotify_watch_failures_total", MetricType::Counter,
           "Watches that the kernel refused; what is there is polled instead."},
    Family{"logbell_labels_truncated_total", MetricType::Counter,
           "Values of labels longer than 256 bytes, of which only the beginning was kept."},
    Family{"logbell_matches_too_late_total", MetricType::Counter,
           "Matches whose own time had left every window that looks at them when they came: they can let nothing fire."},
    Family{"logbell_metric_names_refused_total", MetricType::Counter,
           "Series left out of a scrape because their name is none."},
    Family{"logbell_notification_latency_seconds", MetricType::Histogram,
           "From the reading of the line that caused a notification to the sink's receipt."},
    Family{"logbell_notifications_dropped_total", MetricType::Counter,
           "Notifications that nobody will send, by reason."},
    Family{"logbell_notifications_total", MetricType::Counter,
           "Attempts to deliver a notification, and ends without one, by outcome and reason."},
    Family{"logbell_outbox_oldest_seconds", MetricType::Gauge,
           "Age of the oldest notification that waits for a sink; 0 when none does."},
    Family{"logbell_outbox_pending", MetricType::Gauge, "Notifications that wait for a sink."},
    Family{"logbell_outbox_superseded_total", MetricType::Counter,
           "Unsent repeats that a newer one replaced, or that made room."},
    Family{"logbell_outbox_unreadable_total", MetricType::Counter,
           "Stored notifications that could no longer be read."},
    Family{"logbell_pattern_matches_total", MetricType::Counter, "Lines that matched a pattern."},
    Family{"logbell_plan_refused", MetricType::Gauge,
           "1 if the configuration on disk was refused and an older one, or none, runs."},
    Family{"logbell_queue_bytes", MetricType::Gauge,
           "Bytes that are read and wait for the core, or evaluated and wait for the writer."},
    Family{"logbell_proof_age_seconds", MetricType::Gauge,
           "Age of what proves that a rule reaches a sink, by level; absent where nothing does."},
    Family{"logbell_read_backs_total", MetricType::Counter,
           "Looks for a message at the sink that took it: found; missing; unanswered; given_up, because nobody "
           "had acknowledged it for hours; dropped, because too many were looked for."},
    Family{"logbell_queue_waits_total", MetricType::Counter,
           "Times the reader waited for the core, or the core for the writer, because the queue was full."},
    Family{"logbell_rule_evaluation_failures_total", MetricType::Counter,
           "Evaluations refused because elements met many to many."},
    Family{"logbell_rule_unknown", MetricType::Gauge,
           "1 if a rule's windows are not known in full: what rests on them does not fire, or not resolve."},
    Family{"logbell_notifications_coalesced_total", MetricType::Counter,
           "Notifications of a storm that another one's message spoke for."},
    Family{"logbell_rules_without_sink", MetricType::Gauge, "Rules that reach nobody."},
    Family{"logbell_sample_lines_dropped_total", MetricType::Counter,
           "Lines that matched and were not kept for messages because a pattern has too many."},
    Family{"logbell_elements_untold_total", MetricType::Counter,
           "Values of a function by key on top of those that a rule tells one by one; SeriesOverflow rings."},
    Family{"logbell_keys_dropped_total", MetricType::Counter,
           "Matches not counted by their key because a pattern has too many; its rules are unknown until these have left."},
    Family{"logbell_series_dropped_total", MetricType::Counter,
           "Matches counted in the overflow series because a pattern has too many."},
    Family{"logbell_sink_payload_truncated_total", MetricType::Counter,
           "Messages delivered with less than the whole in them, because of the sink's limits."},
    Family{"logbell_sink_rate_limited_total", MetricType::Counter,
           "Answers of a sink that asked to be left alone for a while."},
    Family{"logbell_sink_state", MetricType::Gauge, "1 for the state that a sink is in."},
    Family{"logbell_sink_threads_forgotten_total", MetricType::Counter,
           "Episodes whose first message a sink that goes on from it no longer knows, because there were too "
           "many."},
    Family{"logbell_sink_tls_not_after_timestamp_seconds", MetricType::Gauge,
           "When the certificate ends that a sink showed when it was last asked."},
    Family{"logbell_sink_verdict", MetricType::Gauge,
           "1 for what a sink, asked without a message, says of one: live, dead or unknown."},
    Family{"logbell_sink_verified_timestamp_seconds", MetricType::Gauge,
           "When a sink that is live now said so last; of several peers, the one that said it first."},
    Family{"logbell_sink_verifications_total", MetricType::Counter,
           "Times a sink was asked whether a message would arrive, by its answer."},
    Family{"logbell_source_bytes_lost_total", MetricType::Counter, "Bytes that could not be read, by cause."},
    Family{"logbell_source_bytes_total", MetricType::Counter, "Bytes read from a source."},
    Family{"logbell_source_clock_set_back_total", MetricType::Counter,
           "Times a source's time was set back because it was ahead of the wall clock."},
    Family{"logbell_source_connections_closed_total", MetricType::Counter,
           "Connections to a source's sockets that ended, by reason."},
    Family{"logbell_source_connections_refused_total", MetricType::Counter,
           "Connections to a source's sockets that were not taken, by reason."},
    Family{"logbell_source_connections_total", MetricType::Counter,
           "Connections that a source's sockets have taken."},
    Family{"logbell_source_datagrams_dropped_total", MetricType::Counter,
           "Datagrams that the kernel dropped because they came faster than they were read."},
    Family{"logbell_source_datagrams_truncated_total", MetricType::Counter,
           "Datagrams longer than max_line_bytes or 64 KiB, of which only the beginning was kept."},
    Family{"logbell_source_duplicate_inputs_total", MetricType::Counter,
           "Files that are another name of one that is read already."},
    Family{"logbell_source_feedback_lines_total", MetricType::Counter,
           "Lines that matched and were not counted because they repeat a message of logbell's own."},
    Family{"logbell_source_frames_broken_total", MetricType::Counter,
           "Records without the octet count that must be there; they were read up to their newline."},
    Family{"logbell_source_gaps_total", MetricType::Counter,
           "Times that part of a source was lost, by cause."},
    Family{"logbell_source_journal_entries_unreadable_total", MetricType::Counter,
           "Entries of the journal that could not be read."},
    Family{"logbell_source_lag_bytes", MetricType::Gauge,
           "Bytes of a source that are written and not yet read."},
    Family{"logbell_source_last_line_timestamp_seconds", MetricType::Gauge,
           "When the last line of a source arrived."},
    Family{"logbell_source_lines_malformed_total", MetricType::Counter,
           "Lines that are not of the form that the source's format has; they are taken as they are."},
    Family{"logbell_source_lines_total", MetricType::Counter, "Lines read from a source."},
    Family{"logbell_source_lines_truncated_total", MetricType::Counter,
           "Lines longer than max_line_bytes, of which only the beginning was kept."},
    Family{"logbell_source_nul_bytes_skipped_total", MetricType::Counter,
           "NUL bytes skipped in holes of files."},
    Family{"logbell_source_open_errors_total", MetricType::Counter, "Failures to open a file of a source."},
    Family{"logbell_source_own_files_total", MetricType::Counter,
           "Files that are not read because logbell itself writes them."},
    Family{"logbell_source_partial_flushed_total", MetricType::Counter,
           "Last lines without a newline that were taken as they were."},
    Family{"logbell_source_readable", MetricType::Gauge, "1 if a file of the source can be read."},
    Family{"logbell_source_positions_forgotten_total", MetricType::Counter,
           "Places in rotated files that are no longer known because there were too many."},
    Family{"logbell_source_read_errors_total", MetricType::Counter,
           "Failures to read from a file of a source."},
    Family{"logbell_source_records_split_total", MetricType::Counter,
           "Records of several lines that ended at their bound; what followed was another one."},
    Family{"logbell_source_rotations_total", MetricType::Counter, "Rotations of a source's files, by kind."},
    Family{"logbell_source_timestamps_rejected_total", MetricType::Counter,
           "Timestamps that were not believed, by reason: the time of arrival counts instead."},
    Family{"logbell_source_uncovered_errors_total", MetricType::Counter,
           "Lines that look like errors and that no rule looks at."},
    Family{"logbell_state_lost_total", MetricType::Counter,
           "Starts that found their saved state missing or damaged; how often it was deleted or replaced since."},
    Family{"logbell_values_negative_total", MetricType::Counter,
           "Values below 0 that a pattern's counter left out: it never decreases."},
    Family{"logbell_window_full_total", MetricType::Counter,
           "Matches not kept because a window reached its bound; its rules are unknown until it holds less."},
    Family{"logbell_window_merged_total", MetricType::Counter,
           "Times of old matches that were merged with a later one's, for want of room: counts are within 1 % then."},
    Family{"process_cpu_seconds_total", MetricType::Counter, "User and system time of this process."},
    Family{"process_max_fds", MetricType::Gauge, "Limit on file descriptors."},
    Family{"process_open_fds", MetricType::Gauge, "Open file descriptors."},
    Family{"process_resident_memory_bytes", MetricType::Gauge, "Resident memory."},
    Family{"process_start_time_seconds", MetricType::Gauge, "When this process started."},
    Family{"process_virtual_memory_bytes", MetricType::Gauge, "Virtual memory."},
};

// Counters without labels that exist from the start.
constexpr std::array<std::string_view, 7> kZeroes{
    "logbell_clock_steps_total",      "logbell_commit_failures_total",   "logbell_deliveries_undurable_total",
    "logbell_state_lost_total",       "logbell_outbox_superseded_total", "logbell_metric_names_refused_total",
    "logbell_outbox_unreadable_total"};

// Why a notification is given up without an attempt that failed for good.
constexpr std::array<std::string_view, 3> kDropReasons{
    "no_lane",  // its sink is no longer in the configuration
    "no_sink",  // the end of an alert, owed to a sink that is no longer in the configuration
    "no_room",  // a repeat, while the store refuses commits and memory is bounded
};

// How an attempt can end: every pair exists from the start, so that rate() sees its first increase.
constexpr std::array<std::pair<std::string_view, Reason>, 19> kOutcomes{{
    {"delivered", Reason::kOk},
    {"retry", Reason::kRateLimited},
    {"retry", Reason::kTimeout},
    {"retry", Reason::kConnect},
    {"retry", Reason::kDns},
    {"retry", Reason::kTls},
    {"retry", Reason::kProxy},
    {"retry", Reason::kServerError},
    {"retry", Reason::kBadResponse},
    {"retry", Reason::kIo},
    {"rejected", Reason::kAuth},
    {"rejected", Reason::kGone},
    {"rejected", Reason::kBadRequest},
    {"rejected", Reason::kBlocked},
    {"rejected", Reason::kBadResponse},
    {"rejected", Reason::kProxy},
    {"unknown", Reason::kResponseLost},
    {"unknown", Reason::kTimeout},
    {"unknown", Reason::kIo},
}};

// And without an attempt: SendLoop's own reasons.
constexpr std::array<std::pair<std::string_view, std::string_view>, 3> kNoAttempts{{
    {"rejected", SendLoop::kExpired},
    {"rejected", SendLoop::kCircuitOpen},
    {"retry", SendLoop::kFallback},
}};

// The committed tick takes a few milliseconds, the network some more; a back-off is minutes.
const std::vector<double> kLatencyBounds{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
                                         1,     2.5,  5,     10,   30,  60,   300};
const std::vector<double> kCommitBounds{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5};

constexpr double kInfinity = std::numeric_limits<double>::infinity();

double seconds(rules::Timestamp at) {
  return static_cast<double>(rules::to_unix_ms(at)) / 1000;
}

bool ends_with(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

const Family* find_family(std::string_view name) {
  const auto* const found =
      std::find_if(kFamilies.begin(), kFamilies.end(), [&](const Family& f) { return f.name == name; });
  return found == kFamilies.end() ? nullptr : found;
}

// prometheus-cpp writes help as it is: a newline in it would end the line and the scrape.
std::string escaped_help(std::string_view help) {
  std::string out;
  for (const char c : valid_utf8(help)) {
    if (c == '\\') {
      out += "\\\\";
    } else if (c == '\n') {
      out += "\\n";
    } else {
      out += c == '\r' || c == '\0' ? ' ' : c;
    }
  }
  return out;
}

// Families under construction: for one scrape.
class Page {
 public:
  explicit Page(const rules::Plan* plan) {
    if (plan == nullptr) return;
    for (const rules::PatternSpec& pattern : plan->patterns) {
      if (pattern.metric && find_family(pattern.metric->name) == nullptr)
        metrics_.emplace(pattern.metric->name, &*pattern.metric);
    }
  }

  bool is_counter(std::string_view name) const { return kind(name).counts; }

  // A value of a counter or a gauge, or a part of a histogram.
  void add(std::string_view name, const Labels& labels, double value) {
    const Kind found = kind(name);
    if (!valid(found.base, labels)) {
      ++refused_;
      return;
    }
    Built& built = family(found.base);
    if (found.part == Part::kWhole) {
      const auto [it, is_new] = built.values.emplace(repaired(labels), value);
      // Two values that only broken bytes told apart: twins would break the scrape.
      if (!is_new) it->second = found.counts ? it->second + value : value;
      return;
    }
    Labels own = repaired(labels);
    const double bound = rules::parse_number(labels.get("le"));
    own.erase("le");
    Buckets& buckets = built.histograms[own];
    if (found.part == Part::kBucket) {
      buckets.cumulative[std::isnan(bound) ? kInfinity : bound] += value;
    } else if (found.part == Part::kSum) {
      buckets.sum += value;
    } else {
      buckets.count = buckets.count.value_or(0) + value;
    }
  }
  // Only where there is none yet.
  void add_zero(std::string_view name, const Labels& labels) { add_missing(name, labels, 0); }
  void add_missing(std::string_view name, const Labels& labels, double value) {
    if (valid(name, labels)) family(name).values.emplace(repaired(labels), value);
  }
  void add_histogram(std::string_view name, const Labels& labels, const std::vector<double>& bounds,
                     const std::vector<std::uint64_t>& counts, double sum) {
    Buckets& buckets = family(name).histograms[repaired(labels)];
    double cumulative = 0;
    for (std::size_t i = 0; i < counts.size(); ++i) {
      cumulative += static_cast<double>(counts[i]);
      buckets.cumulative[i < bounds.size() ? bounds[i] : kInfinity] = cumulative;
    }
    buckets.sum = sum;
    buckets.count = cumulative;
  }
  std::uint64_t refused() const { return refused_; }

  std::string text() const {
    std::vector<MetricFamily> families;
    for (const auto& [name, built] : families_) {
      MetricFamily out;
      out.name = name;
      out.help = built.help;
      out.type = built.type;
      for (const auto& [labels, value] : built.values) {
        ClientMetric metric = labelled(labels);
        metric.counter.value = value;
        metric.gauge.value = value;
        out.metric.push_back(std::move(metric));
      }
      for (const auto& [labels, buckets] : built.histograms)
        out.metric.push_back(histogram(labels, buckets));
      families.push_back(std::move(out));
    }
    std::ostringstream stream;
    stream.imbue(std::locale::classic());
    prometheus::TextSerializer{}.Serialize(stream, families);
    return stream.str();
  }

 private:
  enum class Part { kWhole, kBucket, kSum, kCount };
  struct Kind {
    std::string_view base;
    Part part = Part::kWhole;
    bool counts = false;  // a counter, or what a histogram consists of
  };
  struct Buckets {
    std::map<double, double> cumulative;
    double sum = 0;
    std::optional<double> count;
  };
  struct Built {
    MetricType type = MetricType::Untyped;
    std::string help;
    std::map<Labels, double> values;
    std::map<Labels, Buckets> histograms;
  };

  const rules::MetricSpec* own_metric(std::string_view name) const {
    const auto it = metrics_.find(name);
    return it == metrics_.end() ? nullptr : it->second;
  }
  Kind kind(std::string_view name) const {
    constexpr std::array<std::pair<std::string_view, Part>, 3> kParts{
        {{"_bucket", Part::kBucket}, {"_sum", Part::kSum}, {"_count", Part::kCount}}};
    for (const auto& [suffix, part] : kParts) {
      if (!ends_with(name, suffix)) continue;
      const std::string_view base = name.substr(0, name.size() - suffix.size());
      const rules::MetricSpec* own = own_metric(base);
      if (own != nullptr && own->type == rules::MetricSpec::Type::kHistogram) return {base, part, true};
    }
    const MetricType type = type_of(name);
    return {name, Part::kWhole, type == MetricType::Counter || type == MetricType::Histogram};
  }
  MetricType type_of(std::string_view name) const {
    if (const Family* ours = find_family(name); ours != nullptr) return ours->type;
    if (const rules::MetricSpec* own = own_metric(name); own != nullptr) {
      switch (own->type) {
        case rules::MetricSpec::Type::kCounter:
          return MetricType::Counter;
        case rules::MetricSpec::Type::kGauge:
          return MetricType::Gauge;
        case rules::MetricSpec::Type::kHistogram:
          return MetricType::Histogram;
      }
    }
    return ends_with(name, "_total") ? MetricType::Counter : MetricType::Gauge;
  }
  static bool valid(std::string_view name, const Labels& labels) {
    return rules::is_metric_name(name) && std::all_of(labels.begin(), labels.end(), [](const auto& pair) {
             return rules::is_label_name(pair.first);
           });
  }
  static Labels repaired(const Labels& labels) {
    Labels out;
    for (const auto& [name, value] : labels)
      out.set(name, valid_utf8(value));
    return out;
  }
  Built& family(std::string_view name) {
    const auto [it, is_new] = families_.try_emplace(std::string(name));
    if (!is_new) return it->second;
    it->second.type = type_of(name);
    const Family* ours = find_family(name);
    const rules::MetricSpec* own = own_metric(name);
    if (ours != nullptr) {
      it->second.help = escaped_help(ours->help);
    } else if (own != nullptr && !own->help.empty()) {
      it->second.help = escaped_help(own->help);
    } else {
      it->second.help = own != nullptr ? "Counted by a pattern of the configuration." : "Counted by logbell.";
    }
    return it->second;
  }
  static ClientMetric labelled(const Labels& labels) {
    ClientMetric metric;
    for (const auto& [name, value] : labels)
      metric.label.push_back({name, value});
    return metric;
  }
  static ClientMetric histogram(const Labels& labels, const Buckets& buckets) {
    ClientMetric metric = labelled(labels);
    double largest = 0;
    for (const auto& [bound, cumulative] : buckets.cumulative) {
      largest = std::max(largest, cumulative);
      // A bucket that holds less than a smaller one is nothing that Prometheus could read.
      metric.histogram.bucket.push_back({static_cast<std::uint64_t>(largest), bound});
    }
    const double count = std::max(buckets.count.value_or(largest), largest);
    if (metric.histogram.bucket.empty() || !std::isinf(metric.histogram.bucket.back().upper_bound))
      metric.histogram.bucket.push_back({static_cast<std::uint64_t>(count), kInfinity});
    metric.histogram.bucket.back().cumulative_count = static_cast<std::uint64_t>(count);
    metric.histogram.sample_count = static_cast<std::uint64_t>(count);
    metric.histogram.sample_sum = buckets.sum;
    return metric;
  }

  std::map<std::string, const rules::MetricSpec*, std::less<>> metrics_;
  std::map<std::string, Built, std::less<>> families_;
  std::uint64_t refused_ = 0;
};

// Fields of /proc/self/stat behind the command's name, which may hold blanks and parentheses.
std::optional<std::pair<double, double>> memory_of_process() {
  std::FILE* file = std::fopen("/proc/self/stat", "re");
  if (file == nullptr) return std::nullopt;
  std::array<char, 2048> buffer{};
  const std::size_t got = std::fread(buffer.data(), 1, buffer.size() - 1, file);
  std::fclose(file);
  std::string_view text(buffer.data(), got);
  const std::size_t end = text.rfind(')');
  if (end == std::string_view::npos) return std::nullopt;
  std::istringstream fields{std::string(text.substr(end + 1))};
  std::string skipped;
  for (int field = 3; field < 23; ++field)
    fields >> skipped;
  double virtual_bytes = 0;
  double resident_pages = 0;
  fields >> virtual_bytes >> resident_pages;
  if (!fields) return std::nullopt;
  return std::pair(virtual_bytes, resident_pages * static_cast<double>(sysconf(_SC_PAGESIZE)));
}

double seconds_of(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
}

// The worse of two: what a sink is called whose lanes differ.
SinkState worse(SinkState a, SinkState b) {
  const auto rank = [](SinkState state) {
    switch (state) {
      case SinkState::kDead:
        return 3;
      case SinkState::kFailing:
        return 2;
      case SinkState::kAlive:
        return 1;
      case SinkState::kUnknown:
        return 0;
    }
    return 0;
  };
  return rank(a) >= rank(b) ? a : b;
}

}  // namespace

std::string_view to_string(SinkState state) {
  switch (state) {
    case SinkState::kUnknown:
      return "unknown";
    case SinkState::kAlive:
      return "alive";
    case SinkState::kFailing:
      return "failing";
    case SinkState::kDead:
      return "dead";
  }
  return "unknown";
}

ProcessUse ProcessUse::measure() {
  ProcessUse use;
  rusage used{};
  if (getrusage(RUSAGE_SELF, &used) == 0)
    use.cpu_seconds = seconds_of(used.ru_utime) + seconds_of(used.ru_stime);
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) use.max_fds = static_cast<double>(limit.rlim_cur);
  if (const auto memory = memory_of_process()) {
    use.virtual_bytes = memory->first;
    use.resident_bytes = memory->second;
  }
  if (DIR* directory = opendir("/proc/self/fd"); directory != nullptr) {
    int entries = -3;                      // ".", ".." and the directory's own
    while (readdir(directory) != nullptr)  // NOLINT(concurrency-mt-unsafe): the stream is this call's own
      ++entries;
    closedir(directory);
    use.open_fds = std::max(entries, 0);
  }
  return use;
}

namespace {

struct SameSeries {
  using Key = std::pair<std::string_view, const Labels*>;
  bool operator()(const Key& a, const Key& b) const {
    return a.first != b.first ? a.first < b.first : *a.second < *b.second;
  }
};

}  // namespace

Metrics::Metrics(std::string version, rules::Timestamp started)
    : version_(std::move(version)), started_(started) {}

void Metrics::set_plan(std::shared_ptr<const rules::Plan> plan) {
  const MutexLock lock(mutex_);
  plan_ = std::move(plan);
  rules_without_sink_ = plan_ ? plan_->rules_without_sink : 0;
  forget_removed_ = true;
}

void Metrics::set_fingerprint(rules::Labels fingerprint) {
  const MutexLock lock(mutex_);
  fingerprint_ = std::move(fingerprint);
}

void Metrics::set_rules_without_sink(std::uint32_t rules) {
  const MutexLock lock(mutex_);
  rules_without_sink_ = rules;
}

void Metrics::set_plan_refused(bool refused) {
  const MutexLock lock(mutex_);
  plan_refused_ = refused;
}

void Metrics::reloaded(bool successful, rules::Timestamp at) {
  const MutexLock lock(mutex_);
  reload_successful_ = successful;
  if (successful) reloaded_at_ = at;
}

void Metrics::publish(std::vector<MetricValue> all, bool committed) {
  const MutexLock lock(mutex_);
  const std::vector<MetricValue> before = std::exchange(current_, std::move(all));
  const Page page(plan_.get());
  if (committed) {
    for (const MetricValue& value : current_) {
      if (page.is_counter(value.name)) committed_[value.name][value.labels] = value.value;
    }
  }
  if (!forget_removed_) {
    // What the core has forgotten begins anew when it comes again. What it has not shown yet may be committed.
    std::set<std::pair<std::string_view, const Labels*>, SameSeries> shown;
    for (const MetricValue& value : current_) {
      if (page.is_counter(value.name)) shown.emplace(value.name, &value.labels);
    }
    std::size_t held = 0;
    for (const auto& [name, series] : committed_)
      held += series.size();
    if (held <= shown.size()) return;
    for (const MetricValue& value : before) {
      if (!page.is_counter(value.name) || shown.count({value.name, &value.labels}) != 0) continue;
      const auto family = committed_.find(value.name);
      if (family != committed_.end()) family->second.erase(value.labels);
    }
    return;
  }
  forget_removed_ = false;
  std::map<std::string, Series, std::less<>> kept;
  for (const MetricValue& value : current_) {
    const auto family = committed_.find(value.name);
    if (family == committed_.end()) continue;
    const auto series = family->second.find(value.labels);
    if (series != family->second.end()) kept[value.name].insert(*series);
  }
  committed_ = std::move(kept);
}

void Metrics::commit(const std::vector<MetricValue>& totals) {
  const MutexLock lock(mutex_);
  for (const MetricValue& value : totals)
    committed_[value.name][value.labels] = value.value;
}

void Metrics::count(std::string_view name, const Labels& labels, double by) {
  const MutexLock lock(mutex_);
  own_[std::string(name)][labels] += by;
}

void Metrics::set(std::string_view name, const Labels& labels, double value) {
  const MutexLock lock(mutex_);
  own_[std::string(name)][labels] = value;
}

void Metrics::observe(Histogram& histogram, const std::vector<double>& bounds, double value) {
  histogram.counts.resize(bounds.size() + 1);
  const auto bucket = std::lower_bound(bounds.begin(), bounds.end(), value);
  ++histogram.counts[static_cast<std::size_t>(bucket - bounds.begin())];
  ++histogram.count;
  histogram.sum += value;
}

void Metrics::observe_latency(const std::string& sink, double seconds) {
  const MutexLock lock(mutex_);
  observe(latency_[sink], kLatencyBounds, seconds);
}

void Metrics::observe_commit(double seconds) {
  const MutexLock lock(mutex_);
  observe(commit_, kCommitBounds, seconds);
}

std::string Metrics::render(const ScrapeView& view, const ProcessUse& process) const {
  const MutexLock lock(mutex_);
  Page page(plan_.get());

  // What the core counts: its series, with what is committed of them.
  for (const MetricValue& value : current_) {
    if (!page.is_counter(value.name)) {
      // A time that is not known yet is absent, not 1970.
      if (ends_with(value.name, "_timestamp_seconds") && !(value.value > 0)) continue;
      page.add(value.name, value.labels, value.value);
      continue;
    }
    const auto family = committed_.find(value.name);
    double total = 0;
    if (family != committed_.end()) {
      const auto series = family->second.find(value.labels);
      if (series != family->second.end()) total = series->second;
    }
    page.add(value.name, value.labels, total);
  }
  for (const auto& [name, series] : own_) {
    for (const auto& [labels, value] : series)
      page.add(name, labels, value);
  }

  // What exists from the start.
  const std::vector<std::uint64_t> none(kLatencyBounds.size() + 1);
  if (plan_) {
    // Counted and committed, though the core has not shown its series yet.
    const auto committed = [&](const char* name, const Labels& labels) REQUIRES(mutex_) {
      const auto family = committed_.find(name);
      if (family == committed_.end()) return 0.0;
      const auto series = family->second.find(labels);
      return series == family->second.end() ? 0.0 : series->second;
    };
    for (const rules::SourceSpec& source : plan_->sources) {
      for (const char* name : {"logbell_source_lines_total", "logbell_source_bytes_total"})
        page.add_missing(name, {{"source", source.name}}, committed(name, {{"source", source.name}}));
    }
    for (const rules::PatternSpec& pattern : plan_->patterns) {
      if (pattern.labels.empty() && !pattern.metric)
        page.add_zero("logbell_pattern_matches_total", {{"pattern", pattern.name}});
      page.add_zero("logbell_series_dropped_total", {{"pattern", pattern.name}});
    }
    for (const auto& [name, sink] : plan_->sinks) {
      for (const auto& [outcome, reason] : kOutcomes) {
        page.add_zero("logbell_notifications_total", {{"sink", name},
                                                      {"outcome", std::string(outcome)},
                                                      {"reason", std::string(sinks::to_string(reason))}});
      }
      for (const auto& [outcome, reason] : kNoAttempts) {
        page.add_zero("logbell_notifications_total",
                      {{"sink", name}, {"outcome", std::string(outcome)}, {"reason", std::string(reason)}});
      }
      page.add_zero("logbell_sink_payload_truncated_total", {{"sink", name}});
      page.add_zero("logbell_sink_threads_forgotten_total", {{"sink", name}});
      if (latency_.count(name) == 0)
        page.add_histogram("logbell_notification_latency_seconds", {{"sink", name}}, kLatencyBounds, none, 0);
    }
  }
  for (const std::string_view name : kZeroes) {
    if (own_.count(name) == 0) page.add_zero(name, {});
  }
  for (const std::string_view reason : kDropReasons)
    page.add_zero("logbell_notifications_dropped_total", {{"reason", std::string(reason)}});
  for (const auto& [sink, histogram] : latency_) {
    page.add_histogram("logbell_notification_latency_seconds", {{"sink", sink}}, kLatencyBounds,
                       histogram.counts, histogram.sum);
  }
  page.add_histogram(
      "logbell_commit_duration_seconds", {}, kCommitBounds,
      commit_.counts.empty() ? std::vector<std::uint64_t>(kCommitBounds.size() + 1) : commit_.counts,
      commit_.sum);

  // What is looked at now.
  if (plan_) {
    for (const rules::SourceSpec& source : plan_->sources) {
      double lag = 0;
      bool readable = false;
      for (const StreamView& stream : view.streams) {
        if (stream.source != source.name) continue;
        readable = readable || stream.readable;
        if (stream.size > stream.offset) lag += static_cast<double>(stream.size - stream.offset);
      }
      page.add("logbell_source_lag_bytes", {{"source", source.name}}, lag);
      page.add("logbell_source_readable", {{"source", source.name}}, readable ? 1 : 0);
    }
  }
  struct SinkUse {
    SinkState state = SinkState::kUnknown;
    std::uint64_t pending = 0;
    std::uint64_t rate_limited = 0;
    std::uint64_t coalesced = 0;
    std::uint64_t forgotten = 0;
    std::optional<rules::Timestamp> oldest;
  };
  std::map<std::string, SinkUse> sinks_in_use;
  if (plan_) {
    for (const auto& [name, sink] : plan_->sinks)
      sinks_in_use[name];
  }
  for (const LaneView& lane : view.lanes) {
    SinkUse& use = sinks_in_use[lane.sink];
    use.state = worse(use.state, lane.state);
    use.pending += lane.pending;
    use.rate_limited += lane.rate_limited;
    use.coalesced += lane.coalesced;
    use.forgotten += lane.forgotten;
    if (lane.oldest && (!use.oldest || *lane.oldest < *use.oldest)) use.oldest = lane.oldest;
  }
  for (const auto& [name, use] : sinks_in_use) {
    for (const SinkState state :
         {SinkState::kUnknown, SinkState::kAlive, SinkState::kFailing, SinkState::kDead}) {
      page.add("logbell_sink_state", {{"sink", name}, {"state", std::string(to_string(state))}},
               use.state == state ? 1 : 0);
    }
    page.add("logbell_sink_rate_limited_total", {{"sink", name}}, static_cast<double>(use.rate_limited));
    page.add("logbell_notifications_coalesced_total", {{"sink", name}}, static_cast<double>(use.coalesced));
    page.add("logbell_fallback_alerts_forgotten_total", {{"sink", name}}, static_cast<double>(use.forgotten));
    page.add("logbell_outbox_pending", {{"sink", name}}, static_cast<double>(use.pending));
    const double age = use.oldest ? std::max(0.0, seconds(view.now) - seconds(*use.oldest)) : 0;
    page.add("logbell_outbox_oldest_seconds", {{"sink", name}}, age);
  }
  struct SinkAnswer {
    sinks::Verification::Verdict worst = sinks::Verification::Verdict::kLive;
    rules::Timestamp at;
  };
  using Kind = sinks::Verification::Verdict;
  std::map<std::string, SinkAnswer> answers;
  std::map<std::string, rules::Timestamp> certificates;  // of a sink's lanes the one that ends first
  for (const auto& [lane, verdict] : view.verdicts) {
    if (const auto& ends = verdict.found.certificate_ends) {
      rules::Timestamp& first_end = certificates.try_emplace(verdict.sink, *ends).first->second;
      first_end = std::min(first_end, *ends);
    }
    const auto [found, first] =
        answers.try_emplace(verdict.sink, SinkAnswer{verdict.found.verdict, verdict.at});
    if (first) continue;
    SinkAnswer& answer = found->second;
    answer.at = std::min(answer.at, verdict.at);
    const bool is_worse = verdict.found.verdict == Kind::kDead ||
                          (verdict.found.verdict == Kind::kUnknown && answer.worst == Kind::kLive);
    if (is_worse) answer.worst = verdict.found.verdict;
  }
  for (const auto& [name, answer] : answers) {
    for (const Kind kind : {Kind::kLive, Kind::kDead, Kind::kUnknown}) {
      page.add("logbell_sink_verdict", {{"sink", name}, {"verdict", std::string(to_string(kind))}},
               answer.worst == kind ? 1 : 0);
    }
    if (answer.worst == Kind::kLive)
      page.add("logbell_sink_verified_timestamp_seconds", {{"sink", name}}, seconds(answer.at));
  }
  for (const auto& [name, ends] : certificates)
    page.add("logbell_sink_tls_not_after_timestamp_seconds", {{"sink", name}}, seconds(ends));
  for (const MetricValue& value : view.bounds)
    page.add(value.name, value.labels, value.value);
  page.add("logbell_rules_without_sink", {}, rules_without_sink_);
  page.add("logbell_plan_refused", {}, plan_refused_ ? 1 : 0);
  page.add("logbell_config_last_reload_successful", {}, reload_successful_ ? 1 : 0);
  if (reloaded_at_ != rules::kLongAgo)
    page.add("logbell_config_last_reload_success_timestamp_seconds", {}, seconds(reloaded_at_));
  page.add("logbell_build_info", {{"version", version_}}, 1);
  if (!fingerprint_.empty()) page.add("logbell_config_info", fingerprint_, 1);

  page.add("process_cpu_seconds_total", {}, process.cpu_seconds);
  page.add("process_resident_memory_bytes", {}, process.resident_bytes);
  page.add("process_virtual_memory_bytes", {}, process.virtual_bytes);
  page.add("process_open_fds", {}, process.open_fds);
  page.add("process_max_fds", {}, process.max_fds);
  page.add("process_start_time_seconds", {}, seconds(started_));
  if (page.refused() > 0)
    page.add("logbell_metric_names_refused_total", {}, static_cast<double>(page.refused()));
  return page.text();
}

}  // namespace logbell::engine

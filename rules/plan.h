// Plan: everything the core runs, compiled: patterns, rules, route, and what it must know of sources and
// sinks.
//
// Immutable, shared between threads as shared_ptr<const Plan>; replaced as a whole at reload.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "rules/labels.h"
#include "rules/multiline.h"
#include "rules/pattern.h"
#include "rules/record.h"
#include "rules/route.h"
#include "rules/rule.h"
#include "rules/time.h"
#include "rules/time_interval.h"
#include "rules/timestamp.h"

namespace logbell::rules {

enum class ReadFrom { kAuto, kBeginning, kEnd };

// Where lines come from that lie in no file: a socket that listens, a named pipe, the journal.
struct StreamSpec {
  enum class Kind { kUdp, kTcp, kUnixDatagram, kUnixStream, kFifo, kJournal };
  enum class Framing { kAuto, kOctetCounting, kNewline };  // RFC 6587
  Kind kind = Kind::kUdp;
  std::string text;           // as the operator names it: "udp://127.0.0.1:5514", a path; its identity
  std::string address;        // an IP address, or a path
  std::uint16_t port = 0;     // kUdp, kTcp; 0: any free one
  std::uint32_t mode = 0660;  // of a unix socket's file
  Framing framing = Framing::kAuto;
  std::size_t max_connections = 256;  // 64 KiB of a record each at most, on a usual day less than 1
  Duration idle_timeout{0};           // 0: a connection may be silent for ever
  std::size_t receive_buffer = 4 * 1024 * 1024;  // of datagrams that wait in the kernel: a second of a flood
  std::vector<std::string> units;                // kJournal; empty: everything

  friend bool operator==(const StreamSpec&, const StreamSpec&) = default;
};

// Lines that look like errors (rules/error_lines.h) and that no rule looks at: when that is an alert.
struct UncoveredErrors {
  std::size_t at_least = 10;           // of them
  Duration within{std::chrono::hours(1)};
  std::vector<Regex> exclude;          // that match none of these: known, and no news
};

struct SourceSpec {
  std::string name;
  Place place;
  std::vector<std::string> files;  // globs; empty with is_stdin
  bool is_stdin = false;
  std::vector<StreamSpec> streams;  // else; with them there are no files
  Envelope envelope = Envelope::kNone;
  LineFormat format = LineFormat::kText;       // of what is in the envelope
  std::shared_ptr<const Multiline> multiline;  // null: each line is a record
  TimestampSpec timestamp;
  bool own_timestamp = false;  // `timestamp:` is written: it wins over the envelope's time
  std::shared_ptr<const TimestampReader> timestamp_reader;  // compiled from it
  std::optional<Duration> max_silence;
  std::size_t max_line_bytes = 256 * 1024;  // kept of a line; the rest of it is skipped in constant memory
  ReadFrom read_from = ReadFrom::kAuto;
  std::optional<UncoveredErrors> uncovered_errors = UncoveredErrors();  // unset: `none`
  PatternSet patterns;  // those that apply to this source
};

// "/var/log/a.log, /var/log/b.log", "standard input", "udp://127.0.0.1:5514": for people.
inline std::string describe_inputs(const SourceSpec& source) {
  std::string out = source.is_stdin ? "standard input" : "";
  const auto add = [&out](const std::string& input) { out += (out.empty() ? "" : ", ") + input; };
  for (const std::string& file : source.files)
    add(file);
  for (const StreamSpec& stream : source.streams)
    add(stream.text);
  return out;
}

// What the dispatcher must know of a sink; how it delivers is in sinks/.
struct SinkSpec {
  std::string name;
  std::string type;
  Place place;
  Fingerprint settings = 0;         // of every value in it, secrets included: never shown
  std::vector<std::string> secrets;  // keys of those that it has, sorted; never their values
  std::vector<std::string> lanes;   // ≥ 1: one delivery each; "name" or "name#1", "name#2"
  bool tells_people = true;         // false: file, console, and whatever says `audience: machine`
  bool machine_audience = false;    // `audience: machine`: it may be a rule's only sink
  bool pages = false;               // wakes somebody up: gets no summaries of the past
  bool per_alert = false;           // no grouping: Alertmanager groups, PagerDuty has an incident an alert
  bool stays_open = false;          // what fires there stays so until its end is told: a drill is ended too
  bool acknowledges = false;        // who reads what came there can say so
  std::optional<Duration> refresh;  // re-send while firing
  bool send_resolved = true;
  std::uint32_t messages_per_minute = 0;  // more, and one speaks for all that wait; 0: each for itself
  std::vector<std::string> fallback;      // tried in order when it fails for good
  // What fires here and cannot be delivered for so long is told to them, too; unset: as urgent as it is.
  std::optional<Duration> fallback_after;
};

struct Plan {
  std::uint64_t generation = 1;  // rises with each reload; batches carry it
  Fingerprint hash = 0;          // of the whole configuration, secrets left out
  Labels external_labels;        // environment, instance and `labels:`: on every alert
  std::vector<PatternSpec> patterns;
  std::vector<SourceSpec> sources;
  std::vector<AlertingRule> rules;
  Route route;
  bool has_route = false;  // without one: built-in alerts go to every sink that tells people
  std::map<std::string, SinkSpec> sinks;
  std::map<std::string, TimeInterval> time_intervals;
  Duration max_replay_age{std::chrono::minutes(15)};
  std::uint32_t rules_without_sink = 0;  // only `sinks: none` can make it other than 0
};

}  // namespace logbell::rules

// DrillDesk: drills of the running process, from the marked line to the receipt (DESIGN.md §7, FAULTS F53).
//
// A line made for a pattern and marked with an ID that was issued here enters at the reader, in what its
// source's records come in, and passes the source's own patterns; what they found goes to the core thread,
// where a shadow dispatcher (engine/core/drill.h) says who would be told; its messages go through the real
// outbox and lanes. Nothing of it is counted, no window and no alert moves. Only an ID that was issued here,
// not used before and not older than kValid, marks a line; any other is an ordinary line.
//
// Thread-safe: asked for by the HTTP server or the main thread, carried on by the reader, the core, the
// writer and the lanes, each for its hop.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "engine/core/batch.h"
#include "engine/run/clock.h"
#include "engine/run/send_loop.h"
#include "engine/run/thread_annotations.h"
#include "rules/notification.h"
#include "rules/plan.h"
#include "rules/record.h"
#include "rules/result.h"
#include "rules/time.h"
#include "sinks/sink.h"

namespace logbell::engine {

// How far one rule got on its way to one lane of a sink.
struct DrillPair {
  enum class State {
    kWaiting,
    kProven,
    kFailed,
    kSkipped,  // not proven, and no news of the way either: muted now, a reload in between
  };
  std::string alert;
  rules::Fingerprint rule = 0;  // its identity
  std::string sink;             // "": it did not get so far
  std::string lane;
  std::string instead_of;                  // the sink that refused, where this one spoke in its place
  std::vector<std::string> stands_in_for;  // it is a way only in case one of these refuses
  State state = State::kWaiting;
  // Wall time at which each hop was done; unset: not yet.
  std::optional<rules::Timestamp> read;     // the line entered
  std::optional<rules::Timestamp> matched;  // every pattern of the rule found it
  std::optional<rules::Timestamp> routed;   // the shadow core said who is told
  std::optional<rules::Timestamp> stored;   // the message is on the disk
  std::optional<rules::Timestamp> receipt;  // the sink took it
  std::string receipt_text;
  bool reads_back = false;                       // then it is looked for there, before it is called proven
  std::optional<rules::Timestamp> found;         // and was found
  std::string found_text;                        // what was found; or why nobody knows
  std::optional<rules::Timestamp> acknowledged;  // a person said that they saw it
  std::string acknowledged_by;                   // "": they did not say who they are
  std::uint32_t attempts = 0;
  std::string failed_at;  // "line", "match", "route", "store", "deliver", "read back"
  std::string why;        // of a failure; or of the last attempt that failed
};
std::string_view to_string(DrillPair::State state);

struct DrillReport {
  std::string id;
  bool scheduled = false;
  rules::Timestamp started;
  std::optional<rules::Timestamp> ended;  // every pair has come to its end
  std::vector<DrillPair> pairs;           // in the order of the rules
  // What somebody else has to write: lines for --via-log, in the form of `source`; the mark for --issue.
  std::vector<std::string> lines;
  std::string source;
  std::string mark;
  std::vector<std::string> notes;  // what it says nothing of, for people

  bool proven() const;  // it has ended, there was something to prove, and all of it is
};

class DrillDesk {
 public:
  // Before every mark; digits, letters and '-' follow.
  static constexpr std::string_view kMark = "logbell-drill:";
  // An ID is worth something for so long; a drill that has not ended by then has failed.
  static constexpr rules::Duration kValid{std::chrono::minutes(10)};
  // Drills that are remembered, and shown: the oldest that have ended are forgotten first.
  static constexpr std::size_t kMaxDrills = 50;
  // Marks that wait for their line: one a pattern of a large configuration, ten times.
  static constexpr std::size_t kMaxMarks = 20'000;

  enum class How {
    kInside,  // the process makes the line and reads it itself
    kViaLog,  // somebody writes the lines that it makes into a file of a source
    kIssue,   // somebody logs the mark, in a line of theirs
  };
  struct Request {
    std::vector<std::string> rules = {};           // names; empty: every rule that tells somebody
    std::set<rules::Fingerprint> only_rules = {};  // identities, beside their names; empty: all
    std::string sink = {};                         // only this one; "": all
    How how = How::kInside;
    std::string source = {};  // kViaLog: whose file it is
    bool scheduled = false;
  };
  // A line for the reader, as it stands in a file of the source, without its newline.
  struct Line {
    std::string mark;
    std::string source;  // its name
    std::string text;
  };
  struct Options {
    const Clock* clock = nullptr;       // outlives me
    std::function<void()> wake_reader;  // there are lines; any thread
    std::function<void()> wake_main;    // a drill has ended; any thread
    // Whether what is written to this source now is read; unset: it is.
    std::function<bool(const std::string& source)> is_read = {};
    // Chance, for IDs; unset: the kernel's.
    std::function<std::uint64_t()> random = {};
  };
  explicit DrillDesk(Options options);

  // kInvalid: no such rule, sink or source; kUnavailable: too many drills.
  rules::Result<DrillReport> begin(const rules::Plan& plan, const Request& request);
  std::optional<DrillReport> report(const std::string& id) const;
  std::vector<DrillReport> reports() const;  // the newest first

  // The reader.
  bool has_lines() const { return has_lines_; }
  std::vector<Line> take_lines();
  // Whether a mark is waited for, and this text may hold one: cheap enough to ask of everything that matched.
  bool may_be_in(std::string_view text) const;
  // The mark in this line, if it was issued and not used: used from here on. "": none.
  std::string claim(std::string_view line);

  // The core. What the patterns found in lines, with `plan`; returns what is to be told.
  std::vector<rules::Notification> matched(const std::vector<DrillLine>& lines, const rules::Plan& plan,
                                           rules::Timestamp read_at, rules::Timestamp now);
  // The writer: it is on the disk and handed to its lane.
  void stored(const rules::Notification& notification);
  // A lane. `reads_back`: what it took is looked for at its sink, and read_back() says what came of it.
  void settled(const Settled& settled, bool reads_back = false);
  // What was found there of this message. `over`: what was not found by now is not there, or where the sink
  // did not answer, nobody knows.
  void read_back(const rules::Notification& notification, const sinks::ReadBack& back, bool over);

  // Somebody said that they saw a drill's message, or the sink says that they did. Any thread; also of a
  // drill that has ended, as long as it is remembered.
  void acknowledged(const std::string& id, const std::string& sink,
                    const std::vector<rules::Fingerprint>& rules, const std::string& who,
                    rules::Timestamp at);

  // The main thread: ends what has waited for too long, and hands out what has ended since the last call.
  std::vector<DrillReport> take_ended();
  // The process, or a sink, is going away.
  bool idle() const;

 private:
  struct Wanted {
    std::uint32_t pattern = 0;
    std::string name;  // of the pattern
    rules::Fingerprint identity = 0;
    std::string text;  // of the line, for people
  };
  struct Rule {
    std::size_t index = 0;
    std::string alert;
    rules::Fingerprint identity = 0;
    std::set<std::string> sinks;      // that this line is to reach; empty: whoever is told
    std::set<std::string> waits_for;  // marks
    rules::Labels found;              // labels of the patterns that matched
    std::optional<rules::SampleLine> line;
    std::optional<rules::Timestamp> read;
  };
  struct Drill {
    DrillReport report;
    std::uint64_t generation = 0;
    How how = How::kInside;
    std::string sink;
    rules::Instant expires_at;
    std::map<std::string, Wanted> marks;  // not used yet
    std::vector<Rule> rules;              // one for each way of a rule that is drilled
    bool under_another = false;           // the plan has changed since it began
    // By rule and sink: for whom the sink stands in.
    std::map<std::pair<rules::Fingerprint, std::string>, std::vector<std::string>> stands_in;
    std::size_t parts = 0;  // messages of it are made in so many goes
    bool handed_out = false;
  };

  std::string new_id();
  static void fail(Drill& drill, Rule& rule, std::string_view hop, const std::string& why,
                   DrillPair::State as = DrillPair::State::kFailed, const std::string& sink = {});
  static void move_to(Drill& drill, const rules::Plan& plan);
  static DrillPair& pair_of(Drill& drill, const rules::Alert& alert, const rules::Notification& notification);
  void settle_end(Drill& drill) REQUIRES(mutex_);
  void forget_old() REQUIRES(mutex_);
  void drop_marks(Drill& drill) REQUIRES(mutex_);

  const Options options_;
  std::atomic<std::size_t> waiting_{0};  // marks
  std::atomic<bool> has_lines_{false};
  mutable Mutex mutex_;
  std::map<std::string, Drill> drills_ GUARDED_BY(mutex_);         // by ID
  std::vector<std::string> order_ GUARDED_BY(mutex_);              // of their beginning
  std::map<std::string, std::string> marks_ GUARDED_BY(mutex_);    // issued and not used: the drill's ID
  std::map<std::string, std::string> claimed_ GUARDED_BY(mutex_);  // on their way to the core
  std::vector<Line> lines_ GUARDED_BY(mutex_);
};

// A text as it stands in a file of that source: in its envelope.
std::string in_envelope(const rules::SourceSpec& source, std::string_view text, const rules::Facts& facts,
                        rules::Timestamp now);

}  // namespace logbell::engine

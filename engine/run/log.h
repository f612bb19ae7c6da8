// Log: logfmt lines on stderr, one event one line, fields first.
//
// Thread-safe. Text from logs and from the network cannot forge a line: control characters are escaped.
// Secret values are replaced, whoever hands them over. A warning or error that repeats is written once per
// Options::repeat with a count and the time of the last one; at the latest before the next information about
// the same thing, so that nobody reads of a failure after "works again" that was before it.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/run/clock.h"
#include "engine/run/thread_annotations.h"
#include "rules/secret.h"
#include "rules/time.h"

namespace logbell::engine {

enum class LogLevel { kInfo, kWarn, kError };
std::string_view to_string(LogLevel level);

// A name of ours and a value of anybody's. The first one of a line is what the event is about.
using LogField = std::pair<std::string_view, std::string>;
using LogFields = std::vector<LogField>;

// `text` as a logfmt value: quoted when it must be, controls, bidirectional overrides and broken bytes
// escaped.
std::string logfmt_value(std::string_view text);
// `text` with each broken byte replaced by U+FFFD: one of them in a label makes Prometheus drop a whole
// scrape.
std::string valid_utf8(std::string_view text);

class Log {
 public:
  // A value is cut to this: a sink's answer may be a page of HTML.
  static constexpr std::size_t kMaxValueBytes = 2048;
  // Events whose repetitions are counted at a time. Beyond it they are written as they come.
  static constexpr std::size_t kMaxEvents = 512;
  // Shorter secrets are not looked for: "x" would garble every line.
  static constexpr std::size_t kMinSecretBytes = 5;

  struct Options {
    const Clock* clock = nullptr;                      // must outlive me
    rules::Duration repeat{std::chrono::seconds(30)};  // the same event at most once in this time
    std::function<void(std::string_view line)> write;  // one whole line with its newline; null: stderr
  };
  explicit Log(Options options);

  void info(std::string_view message, const LogFields& fields = {});
  // Unexpected, nothing lost.
  void warn(std::string_view message, const LogFields& fields = {});
  // Something was lost, or a person is needed.
  void error(std::string_view message, const LogFields& fields = {});

  // From here on these values appear as <secret>. Adds to what is hidden already: an old secret stays one.
  void hide(const std::vector<rules::Secret>& secrets);
  // Writes how often each event was held back, where its time has passed. With `all`: whatever the time.
  void sweep(bool all = false);

 private:
  struct Event {
    rules::Instant until;
    std::uint64_t held = 0;
    std::string subject;       // its first field: what it is about
    std::string last;          // the line that was held back last, without its timestamp
    rules::Timestamp last_at;  // when it would have been written
  };
  void put(LogLevel level, std::string_view message, const LogFields& fields);
  void write_line(std::string_view rest) REQUIRES(mutex_);
  void sweep_locked(bool all) REQUIRES(mutex_);
  void write_held(Event& event) REQUIRES(mutex_);
  std::string hidden(std::string_view text) const REQUIRES(mutex_);

  const Options options_;
  Mutex mutex_;
  std::vector<rules::Secret> secrets_ GUARDED_BY(mutex_);  // longest first
  std::map<std::string, Event> events_ GUARDED_BY(mutex_);
};

}  // namespace logbell::engine

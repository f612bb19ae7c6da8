// Finds and reads the time that a log line says it was written at.
//
// TimestampReader is immutable and thread-safe. Whether a time is believed is the reader thread's business
// (engine/run/reader.h): here it is only read.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "rules/result.h"
#include "rules/time.h"

namespace logbell::rules {

struct TimestampSpec {
  std::string field;     // json, logfmt: the field that holds it; "" = the usual names (ts, time, timestamp,
                         // @timestamp …)
  std::string format;    // strptime-like (%Y-%m-%d …); "" = recognised
  std::string location;  // IANA zone for times without one; "" = the process's TZ

  friend bool operator==(const TimestampSpec&, const TimestampSpec&) = default;
};

// Whether a json or logfmt field of this name usually holds the line's time: ts, time, timestamp, @timestamp
// …
bool is_time_field(std::string_view name);

class TimestampReader {
 public:
  // An unknown zone or a format that cannot be read is an error.
  static Result<TimestampReader> make(const TimestampSpec& spec);

  // The time in a line of text: RFC 3339 with any offset and fraction, "2026-05-01 10:00:00,123", syslog (the
  // year nearest to `reference`), common log format, epoch seconds and milliseconds at the line's start; or
  // as described.
  std::optional<Timestamp> in_line(std::string_view line, Timestamp reference) const;
  // The same for a value that is nothing but a time (a JSON or logfmt field).
  std::optional<Timestamp> in_value(std::string_view value, Timestamp reference) const;

  const TimestampSpec& spec() const;

 private:
  struct Impl;
  std::shared_ptr<const Impl> impl_;
};

}  // namespace logbell::rules

// Syslog: what a record of RFC 3164 or RFC 5424 says, and how records are told apart in a stream (RFC 6587).
//
// parse_syslog is pure; any thread. A SyslogFraming belongs to one connection and to the reader thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "rules/time.h"
#include "rules/timestamp.h"

namespace logbell::engine {

// What a record says. Views into the record; "" and unset: it does not say, or says "-".
struct SyslogMessage {
  std::optional<std::uint8_t> facility;  // 0 to 23
  std::optional<std::uint8_t> severity;  // 0 (emerg) to 7 (debug)
  std::optional<rules::Timestamp> time;
  std::string_view host;
  std::string_view app;  // RFC 5424's APP-NAME, RFC 3164's tag without its [pid]
  std::string_view procid;
  std::string_view msgid;
  std::string_view structured;  // as written: [id name="value" …][…]
  std::string_view message;
};

// Nothing is an error: what is no header belongs to the message, so that a pattern can still find it. Read as
// rsyslog reads it: without a priority, with RFC 3339's time where RFC 3164 has another (rsyslog's files),
// without a host (what programs write to /dev/log), Cisco's sequence numbers and stars. Where no tag follows,
// a word of letters alone is no host, but the message's first word. `times` knows the zone of times without
// one; `reference`: for those without a year.
SyslogMessage parse_syslog(std::string_view record, const rules::TimestampReader& times,
                           rules::Timestamp reference);

// "emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"
std::string_view severity_name(std::uint8_t severity);
// "kern", "user", "mail", "daemon", "auth" … "local7"
std::string_view facility_name(std::uint8_t facility);

enum class SyslogFrames {
  kAuto,     // by what a connection begins with: a count of octets and "<", or anything else
  kOctets,   // "42 <13>…": RFC 6587's octet counting, RFC 5425
  kNewline,  // each ended by LF, or by NUL: RFC 6587's non-transparent framing
};

// Makes records of one connection's bytes, in whatever pieces they come.
class SyslogFraming {
 public:
  // A count beyond this is no count: whoever believed it would lose the rest of the connection.
  static constexpr std::size_t kMaxFrameBytes = 16 * 1024 * 1024;

  struct Counts {
    std::uint64_t records = 0;
    std::uint64_t truncated = 0;  // longer than max_line_bytes: the rest was skipped
    std::uint64_t broken = 0;     // no count where one must be; read as a line up to its newline
    std::uint64_t partial = 0;    // without its end: the connection closed, or waited too long
  };

  SyslogFraming(SyslogFrames frames, std::size_t max_line_bytes)
      : frames_(frames), max_line_bytes_(max_line_bytes) {}

  // Appends the whole records in `bytes` and what was held to `out`, each ended by "\n"; newlines within one
  // become blanks. Holds at most max_line_bytes.
  void take(std::string_view bytes, std::string& out, Counts& counts);
  // Nothing comes any more, or it did not in time: what is held is a record.
  void finish(std::string& out, Counts& counts);

  std::size_t held() const { return held_.size(); }
  bool within_record() const { return in_ != In::kNothing || !held_.empty(); }
  // Behind finish() within a counted record there is no telling where the next one begins.
  bool is_lost() const { return lost_; }

 private:
  static constexpr std::size_t kKeptBytes = 4096;  // a buffer's room that is not given back: most records fit
  enum class In { kNothing, kOctets, kLine };

  void begin(std::string_view& bytes, Counts& counts);
  void begin_line();
  void keep(std::string_view bytes);
  void emit(std::string& out, Counts& counts);

  SyslogFrames frames_;
  std::size_t max_line_bytes_;
  In in_ = In::kNothing;
  std::string held_;      // of the record; between two, digits that may become a count
  std::size_t left_ = 0;  // octets to come of a counted record
  bool lost_ = false;
};

// Appends one record (a datagram, a counted frame) as one line: without newlines and NULs at its end, those
// within it become blanks. Nothing but an end is no record. Whether there was one.
bool append_record(std::string_view record, std::string& out);

}  // namespace logbell::engine

// Records: what lines become before they are matched: unwrapped from their envelope, parts joined, the lines
// of a stack trace together.
//
// RecordDecoder is owned by the reader thread, one for each stream of a source that needs one. Time is handed
// in.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/io/chunk.h"
#include "engine/io/envelope.h"
#include "rules/json.h"
#include "rules/multiline.h"
#include "rules/plan.h"
#include "rules/record.h"
#include "rules/time.h"
#include "rules/timestamp.h"

namespace logbell::engine {

// The records of one or more chunks, in order; and what was counted on the way.
struct RecordBlock {
  struct Told {
    std::optional<rules::Timestamp> time;  // what the envelope says
    std::size_t evaluated = 0;  // as much of its text was handed over before, as if it had ended there
  };
  std::string text;  // each record, ended by "\n"
  std::vector<rules::Record> records;
  std::vector<Told> told;  // parallel
  // Of records that have facts of their own. They are reused: those of a header's words cost no allocation.
  std::deque<rules::Facts> facts;
  std::size_t facts_used = 0;
  std::uint64_t begun = 0;      // records, each once
  std::uint64_t truncated = 0;  // longer than they may be: the rest was skipped
  std::uint64_t split = 0;      // ended at their bound of lines or bytes: what follows is another record
  std::uint64_t partial = 0;    // handed over without their end
  std::uint64_t malformed = 0;  // lines that are not of the envelope's form: taken as they are

  void clear();
};

// What is unfinished in a stream, as far as its file's bytes cannot tell: to be stored with its position.
struct OpenRecords {
  struct One {
    std::uint64_t from = 0;  // the place in the file at or before which it begins
    bool carried = false;    // it began in the file before this one
    // What there is of it: whole lines, parts of a line. Neither: only what was handed over of a line that
    // the file does not hold in full yet.
    bool lines = false;
    bool parts = false;
    std::uint32_t evaluated = 0;  // bytes of it that were handed over
    bool lent = false;            // the file behind this one goes on with it, and will hand it over

    bool is_open() const { return lines || parts; }
    friend bool operator==(const One&, const One&) = default;
  };
  std::array<One, kOutputStreams> streams;

  bool empty() const { return *this == OpenRecords{}; }
  friend bool operator==(const OpenRecords&, const OpenRecords&) = default;
};

class RecordDecoder {
 public:
  // A part waits so long for the rest of its line, as a line does for its end. One that comes later by what the runtime says
  // is of another line: the last words of a container have no end.
  static constexpr rules::Duration kPartTimeout{std::chrono::seconds(5)};
  // What is unfinished is read again after a restart, from where it began: so far back at most. A record that
  // began earlier is handed over, and what comes of it later is another one.
  static constexpr std::uint64_t kMaxReread = 4 << 20;

  static bool is_needed(const rules::SourceSpec& source);
  // The longest line to read for it, as it stands in the file.
  static std::size_t max_raw_line_bytes(const rules::SourceSpec& source);

  // `path`: where the stream's file really is, for its facts. The source must outlive me, or until
  // set_source().
  RecordDecoder(const rules::SourceSpec& source, std::string_view path);
  void set_source(const rules::SourceSpec& source);

  // Takes the lines of a chunk that began at `from`, appends what is complete. Facts of records are mine.
  void feed(const Chunk& chunk, std::uint64_t from, rules::Timestamp now, rules::Instant instant,
            RecordBlock& out);
  // Hands over what has waited long enough, or everything; what comes of it later continues it.
  void flush(rules::Instant instant, bool everything, RecordBlock& out);
  // When flush() has something to do; unset: nothing waits.
  std::optional<rules::Instant> due() const;
  // When the oldest that waits was read; unset: nothing does.
  std::optional<rules::Timestamp> waits_since() const;

  OpenRecords open() const;
  // After the bytes from open().from on were fed once more: what the former process knew beside them.
  void restore(const OpenRecords& open);
  // The file was cut, its places are no more; what is unfinished may go on.
  void begin_anew();
  // Goes on with what the file before this one left unfinished.
  void take_over(RecordDecoder& before);
  bool has_open() const;
  bool has_carried() const;

 private:
  struct Stream {
    // The line that parts make up, so far.
    std::string line;
    std::optional<rules::Timestamp> line_time;  // of its first part
    std::uint64_t line_from = 0;
    rules::Timestamp line_since = rules::kLongAgo;
    std::optional<rules::Timestamp> part_time;  // of its last part
    // The record that whole lines make up, so far.
    std::string record;
    std::size_t lines = 0;
    std::optional<rules::Timestamp> time;  // of its first line
    // Of both together.
    std::size_t evaluated = 0;
    std::uint64_t from = 0;
    rules::Timestamp since = rules::kLongAgo;
    rules::Instant touched;

    rules::Multiline::State state;
    bool in_line = false;
    bool cut = false;  // the line is too long, and counted
    bool line_carried = false;
    bool carried = false;
    bool waits = false;  // something of it was not handed over

    bool is_open() const { return in_line || lines > 0; }
  };

  Stream& stream(OutputStream which) { return streams_[static_cast<std::size_t>(which)]; }
  void take(std::string_view line, bool fragment, RecordBlock& out);
  Enveloped read_syslog(std::string_view line, RecordBlock& out);
  void take_text(Stream& stream, std::string_view text, bool partial, std::optional<rules::Timestamp> time,
                 RecordBlock& out);
  void end_line(Stream& stream, RecordBlock& out);
  void hand_over_unfinished(Stream& stream, std::string_view more, RecordBlock& out);
  void append(Stream& stream, std::string_view text, RecordBlock& out) const;
  void end_record(Stream& stream, RecordBlock& out);
  void emit(Stream& stream, std::string_view text, std::optional<rules::Timestamp> time, bool ended,
            RecordBlock& out);
  void touch(Stream& stream);
  rules::Instant due(const Stream& stream) const;
  const rules::Facts* facts(const Stream& stream) const;

  const rules::SourceSpec* source_;
  std::array<rules::Facts, kOutputStreams> facts_;
  std::array<Stream, kOutputStreams> streams_;
  rules::JsonLineReader json_;
  std::optional<rules::TimestampReader> header_times_;  // for a header without a zone
  const rules::Facts* said_ = nullptr;                  // of the line that is taken, if it has facts of its own
  // Of the chunk that is fed.
  std::uint64_t from_ = 0;
  rules::Timestamp now_ = rules::kLongAgo;
  rules::Instant instant_;
};

}  // namespace logbell::engine

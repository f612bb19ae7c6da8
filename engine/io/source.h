// Source: one stream of bytes that is read as chunks of whole lines. It never blocks.
//
// Owned by the reader thread, and so is what it reads into.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/io/chunk.h"
#include "engine/io/file_id.h"
#include "engine/io/read_ahead.h"
#include "rules/result.h"
#include "rules/time.h"

namespace logbell::engine {

// What a read needs, reused by all streams: one stream costs no buffer of its own.
struct ReadBuffer {
  std::vector<char> raw;
  std::string scratch;
  ReadAhead* ahead = nullptr;  // who reads large files on; null: nobody
};

// What happened to a file under its reader.
enum class Rewrite {
  kNone,
  kTruncated,  // it is shorter than what was read of it
  kRewritten,  // it is as long, but what was read of it is not there any more
};

struct ReadStatus {
  std::uint64_t bytes = 0;  // read for this chunk
  bool at_end = false;      // nothing more at the moment
  bool ended = false;       // nothing more for good
  bool grew = false;        // there is something that the last read did not see
  Rewrite rewrite = Rewrite::kNone;
  std::uint64_t bytes_lost = 0;  // seen, not handed over, and gone with the rewrite
  bool cut_away = false;  // of what was read before nothing is left: it is the last of FileSource::cut()
  // It was cut back to somewhere behind a place passed on the way: what lies there now was there before, or
  // was written since and is passed over. Nobody can tell.
  bool may_miss = false;
};

// What a stream that is no file has met with since it was last asked.
struct StreamNews {
  struct Count {
    std::string_view name;   // of a counter of the source
    std::string_view label;  // its second label, if it has one
    std::string_view value;
    double by = 0;
  };
  std::vector<Count> counts;
  std::vector<std::string> warnings;  // what somebody could act upon
  std::string_view gap;               // lines are missing: a cause for logbell_source_gaps_total; "": none
};

// Whether a stream that is no file has something to do, and when it wants to be asked again.
struct StreamLook {
  bool ready = false;
  rules::Instant again = rules::Instant::max();
};

class Source {
 public:
  virtual ~Source() = default;

  // The next chunk of at most `limit` bytes, or of one line if that is longer. After an error nothing has
  // moved and the same read may work later.
  virtual rules::Result<ReadStatus> read(std::size_t limit, const SplitRules& rules, ReadBuffer& buffer,
                                         Chunk& into) = 0;
  virtual std::uint64_t offset() const = 0;       // how much is done with
  virtual std::uint64_t known_size() const = 0;   // as last seen
  virtual std::uint64_t pending() const = 0;      // bytes of a line without its end
  virtual bool pending_is_evaluated() const = 0;  // and it was handed over already

  // Of streams that are no files:
  virtual int wake_fd() const { return -1; }  // readable when there is more; -1: none
  // Time is handed in here; a read goes by the last one.
  virtual StreamLook look(rules::Instant now) {
    return {.ready = false, .again = now + std::chrono::hours(1)};
  }
  virtual StreamNews take_news() { return {}; }
  // Where writers reach it, if that is more than was asked for: which port of any.
  virtual std::string where() const { return {}; }
  // Whether writers still reach it by its name; false: it must be opened anew.
  virtual bool is_reachable() const { return true; }
  // Where to go on after a restart, to be stored; unset: what was read cannot be read again.
  virtual std::optional<std::string> place() const { return std::nullopt; }
};

}  // namespace logbell::engine

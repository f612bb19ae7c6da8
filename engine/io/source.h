// Source: one stream of bytes that is read as chunks of whole lines. It never blocks.
//
// Owned by the reader thread, and so is what it reads into.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/io/chunk.h"
#include "rules/result.h"

namespace logbell::engine {

// What a read needs, reused by all streams: one stream costs no buffer of its own.
struct ReadBuffer {
  std::vector<char> raw;
  std::string scratch;
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
};

}  // namespace logbell::engine

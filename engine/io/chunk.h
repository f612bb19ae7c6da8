// Chunk: a block of whole lines from one stream, as PatternSet takes it; and split(), which makes one of raw
// bytes.
//
// Values; a chunk's block points into the bytes it was made of, or into the scratch. Pure; any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "engine/io/survey.h"

namespace logbell::engine {

enum class Encoding : std::uint8_t { kBytes, kUtf16Le, kUtf16Be };

// Where in a line a stream stands. A stream's place is always the beginning of a line, but for `skipping`.
struct LineState {
  // The rest of a line that was too long: nothing of it is wanted up to its newline.
  bool skipping = false;
  // Bytes (as in the file) of the unfinished line that were handed over already, as if it had ended there.
  std::uint32_t evaluated = 0;

  friend bool operator==(const LineState&, const LineState&) = default;
};

struct SplitRules {
  Encoding encoding = Encoding::kBytes;
  std::size_t max_line_bytes = 256 * 1024;  // kept of a line
  bool flush = false;  // hand over an unfinished line too: it has waited long enough, or nothing comes after it
};

struct Chunk {
  std::string_view block;     // whole lines, each ended by "\n"; the last may lack it
  std::size_t consumed = 0;   // raw bytes that are done with
  std::size_t pending = 0;    // raw bytes behind them: a line without its end
  std::size_t evaluated = 0;  // of block: as much of its first line was handed over before
  std::uint64_t lines = 0;    // that begin in it; one that was handed over before is not counted again
  std::uint64_t truncated = 0;
  std::uint64_t nul_bytes = 0;  // skipped
  bool flushed = false;         // the last line is unfinished
  bool again = false;           // behind a hole: what is pending must be split at once
};

// A run of NULs at the beginning of a line, or of this length within one, is a hole that a writer left behind
// when its file was truncated under it, not text. A shorter run within a line is kept: it may be what is
// looked for.
inline constexpr std::size_t kMinHoleBytes = 16;

// Splits what a stream has next. Of a line longer than max_line_bytes the beginning is handed over, cut
// between two characters, as soon as it is known to be too long; the rest is skipped, however long it is.
// CRLF is left to PatternSet. `raw` must hold more than raw_line_bytes() unless it ends where the stream ends
// at the moment.
// `known`: what raw holds, if the caller has looked already.
Chunk split(std::string_view raw, const SplitRules& rules, LineState& state, std::string& scratch,
            const Survey* known = nullptr);

// What a line may take in the file before it is too long: in UTF-16 an ASCII character has two bytes.
std::size_t raw_line_bytes(Encoding encoding, std::size_t max_line_bytes);

// At most `max_bytes` of `text`, not cut within a UTF-8 character.
std::string_view cut_utf8(std::string_view text, std::size_t max_bytes);

}  // namespace logbell::engine

// StreamSource: standard input or another stream that can be read once.
//
// Owned by the reader thread. The descriptor belongs to the caller and is not made non-blocking, for others
// may share it: it is only read when something is there.
#pragma once

#include "engine/io/source.h"

namespace logbell::engine {

class StreamSource final : public Source {
 public:
  explicit StreamSource(int fd) : fd_(fd) {}

  // At the stream's end the line without its end is handed over too.
  rules::Result<ReadStatus> read(std::size_t limit, const SplitRules& rules, ReadBuffer& buffer,
                                 Chunk& into) override;
  std::uint64_t offset() const override { return offset_; }
  std::uint64_t known_size() const override { return offset_ + carry_.size(); }
  std::uint64_t pending() const override { return carry_.size(); }
  bool pending_is_evaluated() const override { return line_.evaluated >= carry_.size(); }

 private:
  int fd_;
  bool ended_ = false;
  bool began_ = false;
  Encoding encoding_ = Encoding::kBytes;
  LineState line_;
  std::uint64_t offset_ = 0;
  std::string carry_;  // what was read of a line that has no end yet: it cannot be read again
};

}  // namespace logbell::engine

// StreamSource: standard input or another stream that can be read once. FifoSource: a named pipe.
//
// Owned by the reader thread. A StreamSource's descriptor belongs to the caller and is not made non-blocking,
// for others may share it: it is only read when something is there.
#pragma once

#include <memory>
#include <string>

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
  int wake_fd() const override { return fd_; }
  StreamLook look(rules::Instant now) override;

 private:
  int fd_;
  bool ended_ = false;
  bool began_ = false;
  Encoding encoding_ = Encoding::kBytes;
  LineState line_;
  std::uint64_t offset_ = 0;
  std::string carry_;  // what was read of a line that has no end yet: it cannot be read again
};

// A named pipe that somebody made. It is opened for writing too: so a writer that leaves is no end, and
// another may come.
class FifoSource final : public Source {
 public:
  // kNotFound: nothing there. kInvalid: it is something else.
  static rules::Result<std::unique_ptr<FifoSource>> open(const std::string& path);
  ~FifoSource() override;
  FifoSource(const FifoSource&) = delete;
  FifoSource& operator=(const FifoSource&) = delete;

  rules::Result<ReadStatus> read(std::size_t limit, const SplitRules& rules, ReadBuffer& buffer,
                                 Chunk& into) override {
    return stream_.read(limit, rules, buffer, into);
  }
  std::uint64_t offset() const override { return stream_.offset(); }
  std::uint64_t known_size() const override { return stream_.known_size(); }
  std::uint64_t pending() const override { return stream_.pending(); }
  bool pending_is_evaluated() const override { return stream_.pending_is_evaluated(); }
  int wake_fd() const override { return fd_; }
  StreamLook look(rules::Instant now) override { return stream_.look(now); }
  bool is_reachable() const override;

 private:
  FifoSource(std::string path, int fd) : path_(std::move(path)), fd_(fd), stream_(fd) {}

  std::string path_;
  int fd_;
  StreamSource stream_;
};

}  // namespace logbell::engine

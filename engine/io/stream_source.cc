#include "engine/io/stream_source.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/io/decode.h"

namespace logbell::engine {

using rules::ErrorCode;
using rules::fail;
using rules::Result;

Result<ReadStatus> StreamSource::read(std::size_t limit, const SplitRules& rules, ReadBuffer& buffer,
                                      Chunk& into) {
  into = {};
  ReadStatus status;
  const std::size_t longest = raw_line_bytes(encoding_, rules.max_line_bytes) + 4;
  const std::size_t room = std::max(limit, longest);
  if (buffer.raw.size() < room) buffer.raw.resize(room);
  std::size_t size = std::min(carry_.size(), room);
  std::memcpy(buffer.raw.data(), carry_.data(), size);
  while (size < room && !ended_) {
    pollfd ready{fd_, POLLIN, 0};
    const int found = ::poll(&ready, 1, 0);
    if (found < 0 && errno == EINTR) continue;
    if (found < 0) return fail(ErrorCode::kIo, fmt::format("poll: {}", rules::errno_text(errno)));
    if (found == 0) break;
    if ((ready.revents & POLLNVAL) != 0) {
      ended_ = true;  // closed before we began: there is nothing to read
      break;
    }
    const ssize_t n = ::read(fd_, buffer.raw.data() + size, room - size);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) break;
    if (n < 0) return fail(ErrorCode::kIo, fmt::format("read: {}", rules::errno_text(errno)));
    if (n == 0) ended_ = true;
    size += static_cast<std::size_t>(n);
    status.grew = status.grew || n > 0;
  }
  std::string_view raw(buffer.raw.data(), size);
  std::size_t mark = 0;
  if (!began_ && (size >= 3 || ended_)) {
    const ByteOrderMark found = byte_order_mark(raw);
    encoding_ = found.encoding;
    mark = found.bytes;
    began_ = true;
  } else if (!began_) {
    carry_.assign(raw);  // two bytes may be the beginning of a mark
    status.at_end = true;
    return status;
  }
  raw.remove_prefix(mark);
  SplitRules how = rules;
  how.encoding = encoding_;
  how.flush = ended_ || (rules.flush && size < room);  // else the line's end may only not be read yet
  into = split(raw, how, line_, buffer.scratch);
  // Nothing comes behind what was flushed now or before.
  if (ended_ && !into.again) into.consumed = raw.size();
  status.bytes = mark + into.consumed;
  offset_ += status.bytes;
  carry_.assign(raw.substr(into.consumed));
  if (carry_.empty()) carry_.shrink_to_fit();
  status.ended = ended_ && carry_.empty();
  status.at_end = status.ended || (!ended_ && size < room && !into.again);
  return status;
}

StreamLook StreamSource::look(rules::Instant /*now*/) {
  pollfd ready{fd_, POLLIN, 0};
  return {.ready = !ended_ && ::poll(&ready, 1, 0) != 0};
}

// --- FifoSource

Result<std::unique_ptr<FifoSource>> FifoSource::open(const std::string& path) {
  const auto failed = [&](int error) {
    return fail(error == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo,
                fmt::format("open {}: {}{}", path, rules::errno_text(error),
                            error == EACCES ? "; logbell must be able to read and to write it" : ""));
  };
  struct stat status {};
  // Looked at first: opening a device may do something.
  if (::stat(path.c_str(), &status) != 0) return failed(errno);
  if (!S_ISFIFO(status.st_mode))
    return fail(ErrorCode::kInvalid, fmt::format("open {}: it is no named pipe; make one with mkfifo", path));
  const int fd = ::open(path.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
  if (fd < 0) return failed(errno);
  if (::fstat(fd, &status) != 0 || !S_ISFIFO(status.st_mode)) {
    ::close(fd);
    return fail(ErrorCode::kInvalid, fmt::format("open {}: it is no named pipe any more", path));
  }
  return std::unique_ptr<FifoSource>(new FifoSource(path, fd));
}

FifoSource::~FifoSource() {
  ::close(fd_);
}

bool FifoSource::is_reachable() const {
  struct stat named {};
  struct stat ours {};
  return ::stat(path_.c_str(), &named) == 0 && ::fstat(fd_, &ours) == 0 && named.st_ino == ours.st_ino &&
         named.st_dev == ours.st_dev;
}

}  // namespace logbell::engine

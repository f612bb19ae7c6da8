#include "engine/io/shared_read.h"

#include <algorithm>
#include <cerrno>
#include <optional>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

namespace logbell::engine {

using rules::ErrorCode;
using rules::fail;
using rules::Result;

struct SharedRead::State {
  Onlooker* onlooker = nullptr;
  MemberBuffers* buffers = nullptr;
  int fd = -1;
  std::uint64_t offset = 0;
  std::size_t bytes = 0;
  std::size_t before = 0;
  std::vector<char> raw;  // kMostCarried of room, and what is read
  std::optional<std::size_t> raw_of;  // whose of `buffers` it is
  std::size_t piece_bytes = kPieceBytes;
  std::size_t begin = kMostCarried;  // of the text in it
  std::vector<Result<std::size_t>> got;  // by piece
  std::vector<Survey> surveys;
  std::size_t whole = 0;
  Crew::Ticket work;

  ~State() { close(); }
  void make_room() {
    if (raw.size() < kMostCarried + bytes) raw.resize(kMostCarried + bytes);
  }
  void close() {
    if (fd >= 0) ::close(std::exchange(fd, -1));
  }
  void read(std::size_t piece, std::size_t member) {
    if (buffers != nullptr && got.size() == 1) {
      raw = buffers->take(member);
      raw_of = member;
      make_room();
    }
    const std::size_t from = piece * piece_bytes;
    char* const into = raw.data() + kMostCarried + from;
    const bool last = piece + 1 == got.size();
    got[piece] = read_fully(fd, offset + from, into, last ? bytes - from : piece_bytes);
    if (!got[piece]) return;
    const std::string_view text(into, *got[piece]);
    surveys[piece] = engine::survey(text);
    if (onlooker != nullptr)
      onlooker->look(piece, member, text.substr(piece == 0 ? std::min(before, text.size()) : 0));
  }
};

Result<std::size_t> read_fully(int fd, std::uint64_t offset, char* into, std::size_t bytes) {
  std::size_t got = 0;
  while (got < bytes) {
    const ssize_t n = ::pread(fd, into + got, bytes - got, static_cast<off_t>(offset + got));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail(ErrorCode::kIo, fmt::format("read: {}", rules::errno_text(errno)));
    if (n == 0) break;
    got += static_cast<std::size_t>(n);
  }
  return got;
}

std::vector<char> MemberBuffers::take(std::size_t member) {
  const MutexLock lock(mutex_);
  std::vector<std::vector<char>>& free = free_[member];
  if (free.empty()) return {};
  std::vector<char> buffer = std::move(free.back());
  free.pop_back();
  return buffer;
}

void MemberBuffers::give(std::size_t member, std::vector<char> buffer) {
  const MutexLock lock(mutex_);
  std::vector<std::vector<char>>& free = free_[member];
  if (free.size() < kMostFree) free.push_back(std::move(buffer));
}

SharedRead::SharedRead(Onlooker* onlooker, MemberBuffers* buffers) : state_(std::make_unique<State>()) {
  state_->onlooker = onlooker;
  state_->buffers = buffers;
}
SharedRead::~SharedRead() = default;
SharedRead::SharedRead(SharedRead&&) noexcept = default;
SharedRead& SharedRead::operator=(SharedRead&&) noexcept = default;

bool SharedRead::begin(Crew& crew, int fd, std::uint64_t offset, std::size_t bytes, std::size_t before, bool at_line, By by) {
  State& state = *state_;
  LOGBELL_CHECK(state.work == nullptr && bytes >= 2 * kPieceBytes);
  state.close();  // of one that did not come to begin
  // The file may be closed meanwhile.
  state.fd = ::fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (state.fd < 0) return false;
  state.offset = offset;
  state.bytes = bytes;
  state.before = before;
  state.begin = kMostCarried;
  if (state.raw_of) state.buffers->give(*std::exchange(state.raw_of, std::nullopt), std::move(state.raw));
  const bool alone = by == By::kOne && state.buffers != nullptr;
  state.piece_bytes = alone ? bytes : kPieceBytes;
  if (!alone) state.make_room();
  const std::size_t pieces = bytes / state.piece_bytes;
  state.got.assign(pieces, std::size_t{0});
  state.surveys.assign(pieces, {});
  if (state.onlooker != nullptr) state.onlooker->expect(pieces, at_line);
  state.work = crew.begin(pieces, [&state](std::size_t piece, std::size_t member) { state.read(piece, member); });
  return true;
}

Result<std::size_t> SharedRead::finish(Crew& crew) {
  State& state = *state_;
  crew.finish(std::exchange(state.work, nullptr));
  state.close();
  state.whole = 0;
  // Behind a piece that came short nothing counts.
  for (std::size_t piece = 0; piece < state.got.size(); ++piece) {
    if (!state.got[piece]) return state.got[piece];
    state.whole += *state.got[piece];
    if (state.whole >= std::min(state.bytes, (piece + 1) * state.piece_bytes)) continue;
    state.surveys.resize(piece + 1);
    break;
  }
  return state.whole;
}

bool SharedRead::is_under_way() const {
  return state_->work != nullptr;
}
std::uint64_t SharedRead::offset() const {
  return state_->offset;
}
std::size_t SharedRead::bytes() const {
  return state_->bytes;
}
std::string_view SharedRead::text() const {
  return {state_->raw.data() + state_->begin, state_->whole};
}
Survey SharedRead::survey() const {
  Survey all;
  for (const Survey& piece : state_->surveys)
    all += piece;
  return all;
}

std::string_view SharedRead::join(std::string_view carried) {
  State& state = *state_;
  const std::string_view text = this->text();
  const std::size_t before = state.before;
  if (carried.size() < before || carried.size() - before > kMostCarried || text.size() < before ||
      text.substr(0, before) != carried.substr(carried.size() - before))
    return {};
  const std::size_t more = carried.size() - before;
  state.begin -= more;
  state.whole += more;
  carried.copy(state.raw.data() + state.begin, more);
  state.surveys.front() += engine::survey(carried.substr(0, more));
  return this->text();
}

Onlooker* SharedRead::onlooker() const {
  return state_->onlooker;
}

}  // namespace logbell::engine

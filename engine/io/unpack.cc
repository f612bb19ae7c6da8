#include "engine/io/unpack.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include <fmt/format.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

namespace logbell::engine {
namespace {

using rules::ErrorCode;
using rules::fail;
using rules::Result;

constexpr std::size_t kBlock = std::size_t{64} * 1024;
// Kept before what was asked for last: the mark before a place, and the beginning of a line that goes on.
constexpr std::size_t kKept = std::size_t{64} * 1024;
constexpr std::string_view kLimit = "decompression_limit";
constexpr std::string_view kBroken = "compressed_broken";

}  // namespace

Compression compression_of(std::string_view head) {
  if (head.starts_with("\x1f\x8b\x08")) return Compression::kGzip;
  if (head.starts_with("\x28\xb5\x2f\xfd")) return Compression::kZstd;
  return Compression::kNone;
}

std::string_view other_compression(std::string_view head) {
  constexpr std::pair<std::string_view, std::string_view> kBegin[] = {{"\xfd"
                                                                       "7zXZ",
                                                                       "xz"},
                                                                      {"BZh", "bzip2"},
                                                                      {"\x04\x22\x4d\x18", "lz4"},
                                                                      {"PK\x03\x04", "zip"},
                                                                      {"7z\xbc\xaf", "7z"}};
  for (const auto& [bytes, name] : kBegin) {
    if (head.starts_with(bytes)) return name;
  }
  return {};
}

std::string_view unpacker_of(std::string_view compression) {
  constexpr std::pair<std::string_view, std::string_view> kPrograms[] = {
      {"xz", "xzcat"}, {"bzip2", "bzcat"}, {"lz4", "lz4cat"}, {"zip", "unzip -p"}, {"7z", "7z x -so"}};
  for (const auto& [packed_with, program] : kPrograms) {
    if (packed_with == compression) return program;
  }
  return {};
}

// --- the formats

class Unpacked::Decoder {
 public:
  struct Step {
    std::size_t taken = 0;
    std::size_t given = 0;
    bool ended = false;  // a member is complete; the next may follow
    bool broken = false;
  };
  Decoder() = default;
  virtual ~Decoder() = default;
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;
  virtual Step step(std::string_view packed, char* into, std::size_t room) = 0;
};

class Unpacked::Gzip final : public Unpacked::Decoder {
 public:
  Gzip() { ready_ = ::inflateInit2(&stream_, 16 + MAX_WBITS) == Z_OK; }
  ~Gzip() override { ::inflateEnd(&stream_); }

  Step step(std::string_view packed, char* into, std::size_t room) override {
    if (!ready_) return {.broken = true};
    // zlib reads through this pointer only.
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
    stream_.avail_in = static_cast<uInt>(packed.size());
    stream_.next_out = reinterpret_cast<Bytef*>(into);
    stream_.avail_out = static_cast<uInt>(room);
    const int code = ::inflate(&stream_, Z_NO_FLUSH);
    const Step step{.taken = packed.size() - stream_.avail_in,
                    .given = room - stream_.avail_out,
                    .ended = code == Z_STREAM_END,
                    .broken = code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR};
    if (step.ended) ready_ = ::inflateReset(&stream_) == Z_OK;
    return step;
  }

 private:
  z_stream stream_{};
  bool ready_ = false;
};

class Unpacked::Zstd final : public Unpacked::Decoder {
 public:
  explicit Zstd(int window_log) : stream_(::ZSTD_createDCtx(), &::ZSTD_freeDCtx) {
    if (stream_ != nullptr) ::ZSTD_DCtx_setParameter(stream_.get(), ZSTD_d_windowLogMax, window_log);
  }

  Step step(std::string_view packed, char* into, std::size_t room) override {
    if (stream_ == nullptr) return {.broken = true};
    ZSTD_inBuffer in{packed.data(), packed.size(), 0};
    ZSTD_outBuffer out{into, room, 0};
    const std::size_t code = ::ZSTD_decompressStream(stream_.get(), &out, &in);
    return {.taken = in.pos, .given = out.pos, .ended = code == 0, .broken = ::ZSTD_isError(code) != 0};
  }

 private:
  std::unique_ptr<ZSTD_DCtx, decltype(&::ZSTD_freeDCtx)> stream_;
};

// --- places

Unpacked::Unpacked(int fd, Compression compression, std::uint64_t packed_bytes)
    : fd_(fd), compression_(compression), limit_(std::max(kMaxBytes, kMaxRatio * packed_bytes)) {}

Unpacked::~Unpacked() = default;

void Unpacked::rest() {
  decoder_ = nullptr;
  packed_ = {};
  window_ = {};
  packed_at_ = 0;
  packed_offset_ = 0;
  begin_ = 0;
  between_ = true;
  ended_ = false;
}

void Unpacked::lift_limits() {
  limit_ = std::uint64_t{1} << 62U;
  window_log_ = kNamedWindowLog;
}

Result<void> Unpacked::unpack_some() {
  if (packed_at_ == packed_.size()) {
    packed_.resize(kBlock);
    ssize_t got = 0;
    do {
      got = ::pread(fd_, packed_.data(), packed_.size(), static_cast<off_t>(packed_offset_));
    } while (got < 0 && errno == EINTR);
    const int error = errno;
    packed_.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
    packed_at_ = 0;
    if (got < 0) return fail(ErrorCode::kIo, fmt::format("read: {}", rules::errno_text(error)));
    packed_offset_ += packed_.size();
  }
  std::string_view packed = std::string_view(packed_).substr(packed_at_);
  const bool at_end = packed.empty();
  if (between_ && packed_offset_ > packed.size()) {
    // Blocks of a tape are filled up with zeros, and gzip(1) passes over them.
    const std::size_t zeros = std::min(packed.find_first_not_of('\0'), packed.size());
    packed_at_ += zeros;
    packed.remove_prefix(zeros);
    if (packed.empty() && !at_end) return {};
  }
  const std::size_t before = window_.size();
  const auto room = static_cast<std::size_t>(std::min<std::uint64_t>(kBlock, limit_ + 1 - (begin_ + before)));
  window_.resize(before + room);
  Decoder::Step step;
  if (!at_end || !between_) step = decoder_->step(packed, window_.data() + before, room);
  window_.resize(before + step.given);
  packed_at_ += step.taken;
  if (step.ended) {
    between_ = true;
  } else if (step.taken > 0) {
    between_ = false;
  }
  const bool stuck = step.taken == 0 && step.given == 0;
  if (begin_ + window_.size() > limit_) {
    window_.pop_back();
    trouble_ = kLimit;
    ended_ = true;
  } else if (step.broken || (stuck && !(at_end && between_))) {
    trouble_ = kBroken;
    ended_ = true;
  } else if (at_end && stuck) {
    ended_ = true;
  }
  if (ended_) {
    size_ = begin_ + window_.size();
    size_known_ = true;
  }
  return {};
}

Result<void> Unpacked::unpack_to(std::uint64_t end) {
  while (!ended_ && begin_ + window_.size() < end) {
    if (Result<void> done = unpack_some(); !done) return done;
  }
  return {};
}

Result<std::size_t> Unpacked::read_at(std::uint64_t offset, char* into, std::size_t bytes) {
  if (size_known_ && offset >= size_) return std::size_t{0};
  if (offset < begin_) rest();
  if (decoder_ == nullptr) {
    if (compression_ == Compression::kGzip) {
      decoder_ = std::make_unique<Gzip>();
    } else {
      decoder_ = std::make_unique<Zstd>(window_log_);
    }
  }
  // What lies well before the place is unpacked and dropped.
  const std::uint64_t kept = offset - std::min<std::uint64_t>(offset, kKept);
  while (!ended_ && begin_ + window_.size() < kept) {
    if (Result<void> done = unpack_some(); !done) return fail(done.error());
    const std::size_t passed = std::min<std::uint64_t>(window_.size(), kept - begin_);
    window_.erase(0, passed);
    begin_ += passed;
  }
  if (Result<void> done = unpack_to(offset + bytes); !done) return fail(done.error());
  const std::uint64_t end = begin_ + window_.size();
  const std::size_t got =
      offset >= end ? 0 : static_cast<std::size_t>(std::min<std::uint64_t>(bytes, end - offset));
  if (got > 0) std::memcpy(into, window_.data() + (offset - begin_), got);
  if (kept > begin_) {
    window_.erase(0, static_cast<std::size_t>(kept - begin_));
    begin_ = kept;
  }
  return got;
}

Result<std::uint64_t> Unpacked::size() {
  if (size_known_) return size_;
  char nothing = '\0';
  while (!size_known_) {
    const Result<std::size_t> got = read_at(begin_ + window_.size() + kBlock, &nothing, 1);
    if (!got) return fail(got.error());
  }
  rest();
  return size_;
}

}  // namespace logbell::engine

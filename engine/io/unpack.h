// Unpacked: what a compressed log (.gz, .zst) holds, read by its place as a plain file is.
//
// Owned by one thread. It decompresses forwards in constant memory and keeps a little of what it has passed;
// who asks for what lies further back makes it begin anew. Formats: RFC 1952 (gzip, with any number of
// members), RFC 8878 (zstd, with any number of frames).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "rules/result.h"

namespace logbell::engine {

enum class Compression : std::uint8_t { kNone, kGzip, kZstd };

// What a file's first bytes say; of fewer than four, nothing.
Compression compression_of(std::string_view head);

// What it is compressed with that is not read here, by its first kOtherCompressionBytes; "": nothing that we
// know. And the program that unpacks that.
constexpr std::size_t kOtherCompressionBytes = 6;
std::string_view other_compression(std::string_view head);
std::string_view unpacker_of(std::string_view compression);

class Unpacked {
 public:
  // A small file that becomes huge is a bomb: each may become this much, and a large one so many times its
  // own size.
  static constexpr std::uint64_t kMaxBytes = std::uint64_t{256} << 20U;
  static constexpr std::uint64_t kMaxRatio = 200;
  // What every decoder of zstd should take (RFC 8878, 3.1.1.1.2): 8 MiB of memory.
  static constexpr int kMaxWindowLog = 23;
  // What zstd(1) takes without being asked: 128 MiB. Of files that somebody named.
  static constexpr int kNamedWindowLog = 27;

  // `fd` must outlive me; `packed_bytes` is the file's size. kGzip or kZstd.
  Unpacked(int fd, Compression compression, std::uint64_t packed_bytes);
  ~Unpacked();
  Unpacked(const Unpacked&) = delete;
  Unpacked& operator=(const Unpacked&) = delete;

  // Fewer bytes than wanted: it ends there. kIo: the file cannot be read at the moment.
  rules::Result<std::size_t> read_at(std::uint64_t offset, char* into, std::size_t bytes);
  // Where it ends: unpacks all of it, if that was not done before.
  rules::Result<std::uint64_t> size();
  // Gives its memory back until it is read again.
  void rest();
  // Somebody has named this very file: all of it is wanted, however large it becomes. Before the first read.
  void lift_limits();
  // How much of the file itself was read.
  std::uint64_t packed_offset() const { return packed_offset_; }

  // Why it ended early, once it has: "decompression_limit", or "compressed_broken" where the rest is missing
  // or is no such format. "": it did not.
  std::string_view trouble() const { return trouble_; }

 private:
  class Decoder;
  class Gzip;
  class Zstd;

  rules::Result<void> unpack_to(std::uint64_t end);
  rules::Result<void> unpack_some();

  int fd_;
  Compression compression_;
  std::uint64_t limit_;
  int window_log_ = kMaxWindowLog;
  std::unique_ptr<Decoder> decoder_;  // null: nothing is unpacked at the moment
  std::string packed_;                // read and not unpacked yet, from packed_at_ on
  std::size_t packed_at_ = 0;
  std::uint64_t packed_offset_ = 0;
  bool between_ = true;      // two members, or before the first
  std::string window_;       // the last bytes unpacked
  std::uint64_t begin_ = 0;  // where window_ begins
  bool ended_ = false;
  std::uint64_t size_ = 0;  // once it has ended
  bool size_known_ = false;
  std::string_view trouble_;
};

}  // namespace logbell::engine

#include "engine/io/unpack.h"

#include <array>
#include <cstdlib>

#include <catch2/catch.hpp>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/support/pack.h"

namespace logbell::tests {
namespace {

using engine::Compression;
using engine::Unpacked;

// A file of memory.
class Packed {
 public:
  explicit Packed(std::string_view bytes) : fd_(::memfd_create("packed", MFD_CLOEXEC)), size_(bytes.size()) {
    REQUIRE(::write(fd_, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
  }
  ~Packed() { ::close(fd_); }
  Packed(const Packed&) = delete;
  Packed& operator=(const Packed&) = delete;
  Unpacked open(Compression compression) const { return {fd_, compression, size_}; }

 private:
  int fd_;
  std::size_t size_;
};

std::string read(Unpacked& unpacked, std::uint64_t offset, std::size_t bytes) {
  std::string text(bytes, '?');
  const auto got = unpacked.read_at(offset, text.data(), bytes);
  REQUIRE(got);
  text.resize(*got);
  return text;
}

std::string numbered_lines(int count) {
  std::string text;
  for (int i = 0; i < count; ++i)
    text += fmt::format("line {} of many, {}\n", i, i * 7919 % 1000);
  return text;
}

TEST_CASE("unpack: the first bytes say what it is", "[io][unpack]") {
  CHECK(engine::compression_of(gzip("x")) == Compression::kGzip);
  CHECK(engine::compression_of(zstd("x")) == Compression::kZstd);
  CHECK(engine::compression_of("2026-05-01 ERROR") == Compression::kNone);
  CHECK(engine::compression_of("\x1f\x8b") == Compression::kNone);
  CHECK(engine::compression_of("") == Compression::kNone);
}

TEST_CASE("unpack: any place of what it holds can be read, in any order", "[io][unpack][F13]") {
  const std::string text = numbered_lines(20'000);
  const auto kind =
      GENERATE_REF(std::pair(Compression::kGzip, gzip(text)), std::pair(Compression::kZstd, zstd(text)));
  const Compression compression = kind.first;
  const std::string& packed = kind.second;
  const Packed file(packed);
  Unpacked unpacked = file.open(compression);
  for (const std::size_t at : {std::size_t{0}, std::size_t{100}, text.size() / 2, text.size() / 2 - 256,
                               std::size_t{3}, text.size() - 10, text.size() - 100'000}) {
    CAPTURE(at);
    CHECK(read(unpacked, at, 300) == text.substr(at, 300));
  }
  CHECK(read(unpacked, text.size(), 10).empty());
  CHECK(read(unpacked, text.size() + 1'000'000, 10).empty());
  CHECK(unpacked.size().value() == text.size());
  CHECK(read(unpacked, 0, text.size() + 1) == text);
  CHECK(unpacked.trouble().empty());
}

TEST_CASE("unpack: several members are one text, and padding is none", "[io][unpack][F13]") {
  const Packed gzips(gzip("one\n") + gzip("") + gzip("two\n") + std::string(512, '\0'));
  Unpacked a = gzips.open(Compression::kGzip);
  CHECK(read(a, 0, 100) == "one\ntwo\n");
  CHECK(a.trouble().empty());
  const Packed zstds(zstd("one\n") + zstd("two\n"));
  Unpacked b = zstds.open(Compression::kZstd);
  CHECK(read(b, 0, 100) == "one\ntwo\n");
  CHECK(b.trouble().empty());
}

TEST_CASE("unpack: what is cut short or no such format gives what came before, and says so",
          "[io][unpack][F13]") {
  const std::string text = numbered_lines(20'000);
  const auto kind =
      GENERATE_REF(std::pair(Compression::kGzip, gzip(text)), std::pair(Compression::kZstd, zstd(text)));
  const Compression compression = kind.first;
  const std::string& packed = kind.second;
  const std::string broken =
      GENERATE_COPY(packed.substr(0, packed.size() - 1), packed.substr(0, packed.size() / 2),
                    packed.substr(0, 5), packed + "rubbish");
  const Packed file(broken);
  Unpacked unpacked = file.open(compression);
  const std::string got = read(unpacked, 0, text.size() + 100);
  CHECK(text.starts_with(got));
  CHECK(unpacked.trouble() == "compressed_broken");
  CHECK(unpacked.size().value() == got.size());
  CHECK(read(unpacked, 0, text.size() + 100) == got);
}

TEST_CASE("unpack: bytes that were changed are found out at the latest at the end", "[io][unpack][F13]") {
  std::string packed = gzip(numbered_lines(20'000));
  packed.replace(packed.size() / 2, 64, std::string(64, '!'));
  const Packed file(packed);
  Unpacked unpacked = file.open(Compression::kGzip);
  CHECK(unpacked.size());
  CHECK(unpacked.trouble() == "compressed_broken");
}

TEST_CASE("unpack: a bomb is left at its limit", "[io][unpack][F13]") {
  const Packed file(gzip(std::string(Unpacked::kMaxBytes + 1, 'x')));
  Unpacked unpacked = file.open(Compression::kGzip);
  CHECK(unpacked.size().value() == Unpacked::kMaxBytes);
  CHECK(unpacked.trouble() == "decompression_limit");
  CHECK(read(unpacked, Unpacked::kMaxBytes - 3, 10) == "xxx");
  // Of a file that somebody has named everything is wanted.
  Unpacked named = file.open(Compression::kGzip);
  named.lift_limits();
  CHECK(named.size().value() == Unpacked::kMaxBytes + 1);
  CHECK(named.trouble().empty());
}

TEST_CASE("unpack: zstd that wants more memory than every decoder has is refused", "[io][unpack]") {
  std::string text;
  for (int i = 0; i < 10; ++i)
    text += numbered_lines(60'000);
  const Packed file(zstd(text, 25));
  Unpacked unpacked = file.open(Compression::kZstd);
  CHECK(read(unpacked, 0, 10).empty());
  CHECK(unpacked.trouble() == "compressed_broken");
  Unpacked named = file.open(Compression::kZstd);
  named.lift_limits();
  CHECK(read(named, text.size() - 10, 20) == text.substr(text.size() - 10));
  CHECK(named.packed_offset() > 0);
}

}  // namespace
}  // namespace logbell::tests

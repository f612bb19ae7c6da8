// A read that a crew shares is the file's bytes, all of them, and each piece is seen once.
#include "engine/io/shared_read.h"

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include <catch2/catch.hpp>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

namespace logbell::engine {
namespace {

constexpr std::size_t kPiece = SharedRead::kPieceBytes;

class Seen final : public Onlooker {
 public:
  void expect(std::size_t pieces, bool at_line) override { texts.assign(pieces, "never seen"), begins_at_line = at_line; }
  void look(std::size_t piece, std::size_t, std::string_view text) override {
    texts.at(piece) = std::string(text);
  }
  std::string all() const {
    std::string all;
    for (const std::string& text : texts)
      all += text;
    return all;
  }
  std::vector<std::string> texts;
  bool begins_at_line = false;
};

std::string some_text(std::size_t bytes) {
  std::string text;
  for (std::size_t i = 0; text.size() < bytes; ++i)
    text += "line " + std::to_string(i) + "\n";
  text.resize(bytes);
  return text;
}

// A file that is in memory only.
int file_of(const std::string& text) {
  const int fd = ::memfd_create("shared_read_test", MFD_CLOEXEC);
  REQUIRE(fd >= 0);
  REQUIRE(::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
  return fd;
}

TEST_CASE("shared_read: what there is, from anywhere, by any number of members", "[io][crew]") {
  const std::string text = some_text(3 * kPiece + 1000);
  const int fd = file_of(text);
  for (const std::size_t members : {1U, 2U, 4U}) {
    Crew crew(members);
    Seen seen;
    SharedRead read(&seen);
    for (const std::size_t offset : {std::size_t{0}, std::size_t{777}, kPiece - 1, 2 * kPiece, text.size()}) {
      for (const std::size_t bytes : {2 * kPiece, 2 * kPiece + 300, 3 * kPiece + 5}) {
        REQUIRE(read.begin(crew, fd, offset, bytes, 100, bytes % 2 == 0));
        CHECK(read.is_under_way());
        CHECK(seen.begins_at_line == (bytes % 2 == 0));
        const auto got = read.finish(crew);
        CHECK_FALSE(read.is_under_way());
        REQUIRE(got);
        const std::string wanted = text.substr(offset, bytes);
        CHECK(*got == wanted.size());
        CHECK((read.text() == wanted));
        // Of the first bytes it sees nothing.
        CHECK((seen.all() == wanted.substr(std::min<std::size_t>(100, wanted.size()))));
        CHECK(read.survey().newlines == static_cast<std::uint64_t>(std::count(wanted.begin(), wanted.end(), '\n')));
      }
    }
  }
  ::close(fd);
}

TEST_CASE("shared_read: by one member alone, into memory of its own that nobody else holds", "[io][crew]") {
  const std::string text = some_text(40 * kPiece);
  const int fd = file_of(text);
  for (const std::size_t members : {1U, 2U, 4U}) {
    MemberBuffers buffers;
    Crew crew(members);
    std::vector<Seen> seen(4);
    std::vector<SharedRead> reads;
    for (Seen& each : seen)
      reads.emplace_back(&each, &buffers);
    std::set<const char*> memory;
    for (std::size_t round = 0; round < 30; ++round) {
      const auto bytes_of = [&](std::size_t i) { return 2 * kPiece + 1000 * ((round + i) % 3); };
      for (std::size_t i = 0; i < reads.size(); ++i)
        REQUIRE(reads[i].begin(crew, fd, round * kPiece + i, bytes_of(i), 10, false, SharedRead::By::kOne));
      std::set<const char*> now;
      for (std::size_t i = 0; i < reads.size(); ++i) {
        const auto got = reads[i].finish(crew);
        REQUIRE(got);
        const std::string wanted = text.substr(round * kPiece + i, bytes_of(i));
        CHECK((reads[i].text() == wanted));
        REQUIRE(seen[i].texts.size() == 1);
        CHECK((seen[i].texts[0] == wanted.substr(10)));
        CHECK(reads[i].survey().newlines == static_cast<std::uint64_t>(std::count(wanted.begin(), wanted.end(), '\n')));
      }
      for (std::size_t i = 0; i < reads.size(); ++i) {
        CHECK((reads[i].text() == text.substr(round * kPiece + i, bytes_of(i))));  // nobody has written there since
        now.insert(reads[i].text().data());
      }
      CHECK(now.size() == reads.size());
      memory.merge(now);
    }
    // It is taken again; some grew.
    if (members == 1) CHECK(memory.size() <= 3 * reads.size());
  }
  ::close(fd);
}

TEST_CASE("shared_read: the file may be closed and the read moved while it is under way", "[io][crew]") {
  const std::string text = some_text(4 * kPiece);
  Crew crew(2);
  for (int round = 0; round < 50; ++round) {
    const int fd = file_of(text);
    SharedRead read;
    SharedRead other;
    REQUIRE(read.begin(crew, fd, 0, text.size(), 0, true));
    std::swap(read, other);
    ::close(fd);
    CHECK(other.is_under_way());
    const auto got = other.finish(crew);
    REQUIRE(got);
    REQUIRE((other.text() == text));
  }
}

TEST_CASE("shared_read: what was read before it is put before it, if it ends as it begins", "[io][crew]") {
  const std::string text = some_text(3 * kPiece);
  const int fd = file_of(text);
  Crew crew(2);
  SharedRead read;
  const std::size_t from = 100'000;
  const auto again = [&] {
    REQUIRE(read.begin(crew, fd, from, 2 * kPiece, 50, false));
    REQUIRE(read.finish(crew));
  };
  for (const std::size_t more : {std::size_t{0}, std::size_t{1}, std::size_t{777}, SharedRead::kMostCarried}) {
    again();
    const std::string wanted = text.substr(from - more, more + 2 * kPiece);
    CHECK((read.join(std::string_view(text).substr(from - more, more + 50)) == wanted));
    CHECK((read.text() == wanted));
    CHECK(read.survey().newlines == static_cast<std::uint64_t>(std::count(wanted.begin(), wanted.end(), '\n')));
  }
  again();
  CHECK(read.join(std::string_view(text).substr(from - SharedRead::kMostCarried - 1, SharedRead::kMostCarried + 51)).empty());
  CHECK(read.join(std::string_view(text).substr(from, 49)).empty());
  std::string other = text.substr(from - 10, 60);
  CHECK_FALSE(read.join(other).empty());
  again();
  other.back() ^= 1;
  CHECK(read.join(other).empty());
  other = text.substr(from - 10, 60);
  other[10] ^= 1;
  CHECK(read.join(other).empty());
  ::close(fd);
}

TEST_CASE("shared_read: what cannot be read is an error", "[io][crew]") {
  const int fd = ::open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  REQUIRE(fd >= 0);
  Crew crew(2);
  SharedRead read;
  REQUIRE(read.begin(crew, fd, 0, 2 * kPiece, 0, true));
  const auto got = read.finish(crew);
  REQUIRE_FALSE(got);
  CHECK(got.error().message == "read: Is a directory");
  ::close(fd);
  CHECK_FALSE(read.begin(crew, fd, 0, 2 * kPiece, 0, true));  // no such descriptor
}

}  // namespace
}  // namespace logbell::engine

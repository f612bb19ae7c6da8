// SharedRead: one large read that a crew shares, piece by piece: each member counts and searches what it has
// read while that is in its cache.
//
// Owned by the thread that owns the crew. Between begin() and finish() the crew's other members are at it,
// and the owner is free to do something else.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string_view>
#include <vector>

#include "engine/io/crew.h"
#include "engine/io/survey.h"
#include "engine/io/thread_annotations.h"
#include "rules/result.h"

namespace logbell::engine {

// Sees the pieces of a read by the members that have read them. That they become part of a chunk as they are,
// or at all, is not said yet.
class Onlooker {
 public:
  virtual ~Onlooker() = default;
  // By the owner, before any of the pieces. `at_line`: the first of them begins where a line does.
  virtual void expect(std::size_t pieces, bool at_line) = 0;
  // By any member, several at once.
  virtual void look(std::size_t piece, std::size_t member, std::string_view text) = 0;
};

// `bytes` of a file from `offset` on; fewer at its end.
rules::Result<std::size_t> read_fully(int fd, std::uint64_t offset, char* into, std::size_t bytes);

// Memory that was read into, by the member who did: while it is in that member's cache, nobody else had better write
// there. Thread-safe.
class MemberBuffers {
 public:
  static constexpr std::size_t kMostFree = 4;  // of a member that are kept: with two reads each on an average, more are hardly used

  std::vector<char> take(std::size_t member);
  void give(std::size_t member, std::vector<char> buffer);

 private:
  Mutex mutex_;
  std::map<std::size_t, std::vector<std::vector<char>>> free_ GUARDED_BY(mutex_);
};

class SharedRead {
 public:
  static constexpr std::size_t kPieceBytes = 128 * 1024;  // that one member reads
  static constexpr std::size_t kMostCarried = 64 * 1024;  // of what is put before a read: a longer line is read once more

  // `onlooker`: null: none.
  // `buffers`: of reads that one member does alone; null: it keeps its own. Both must outlive the read.
  explicit SharedRead(Onlooker* onlooker = nullptr, MemberBuffers* buffers = nullptr);
  ~SharedRead();  // with nothing under way, or the crew gone
  SharedRead(SharedRead&&) noexcept;
  SharedRead& operator=(SharedRead&&) noexcept;

  // By whom: all together, in pieces; or whoever is free first, alone.
  enum class By { kAll, kOne };
  // Reads `bytes`, two pieces at least, from `offset` of the file, through a descriptor of its own. Of the
  // first `before` bytes the onlooker sees nothing; what comes then begins with a line, or `at_line` is false. False: there is
  // no descriptor for it; nothing has begun.
  bool begin(Crew& crew, int fd, std::uint64_t offset, std::size_t bytes, std::size_t before, bool at_line,
             By by = By::kAll);
  // Takes part until all is read. How much there was: fewer bytes at the file's end.
  rules::Result<std::size_t> finish(Crew& crew);

  bool is_under_way() const;
  std::uint64_t offset() const;  // in the file
  std::size_t bytes() const;  // that were asked for
  // After finish(): what was read, and what is in it.
  std::string_view text() const;
  Survey survey() const;
  // The same with what was read before it: `carried` ends with what the first `before` bytes are, and replaces them. Empty:
  // those bytes are not the same any more, or it is too much. Then text() is this.
  std::string_view join(std::string_view carried);
  Onlooker* onlooker() const;

 private:
  struct State;
  std::unique_ptr<State> state_;  // the crew works on it, wherever this is moved to
};

}  // namespace logbell::engine

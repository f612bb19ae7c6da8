// ReadAhead: what a crew reads of files that are far behind, before their turns come.
//
// A read ahead begins where the one before it ends, wherever lines do: what a file's reader has left of that,
// the beginning of a line, is put before it when its turn comes. The last bytes of that are read again with
// it: where they are others, the file was written anew, and nothing that was read ahead of it is believed.
//
// All is the reader thread's, which owns the crew too. Each read is done by one of the crew, into memory that
// this one wrote before: shared by two, each piece of it moved from one core's cache to the other's, which cost
// up to a fifth of the time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/io/crew.h"
#include "engine/io/file_id.h"
#include "engine/io/shared_read.h"
#include "engine/io/survey.h"

namespace logbell::engine {

class ReadAhead {
 public:
  // Of a file that is read on and on, two are begun for each of the crew, and so many more: whoever is held up with one
  // is then waited for by nobody. Of others one each, of so many.
  static constexpr std::size_t kSpareOfOneFile = 4;
  static constexpr std::size_t kOthers = 4;
  static constexpr std::size_t kMostReads = 40;  // that are begun at once, however many the crew are
  // Reads of a file before it is read ahead at all: one that is not far behind is soon at its end.
  static constexpr std::size_t kReadsBefore = 3;
  static constexpr std::size_t kOverlap = 256;  // bytes that are read again

  // An onlooker for each read: kMostReads and one more, for what is handed over. All must outlive me.
  ReadAhead(Crew& crew, std::span<Onlooker* const> onlookers);

  // What of a file is read, in its turn.
  struct Place {
    int fd = -1;
    FileId file;
    std::uint64_t from = 0;
    std::size_t bytes = 0;   // wanted: two pieces at least
    std::size_t before = 0;  // the first of them, which are not new
    std::size_t reads = 0;   // of the file since it was last at its end
  };
  // What is there, valid until the next call; from `from` on, and of another length than was asked for where
  // it was read ahead. Empty: it was not, and read_now() may.
  std::string_view read_before(const Place& place);
  // By all of the crew. Empty: there is less, or it cannot be read.
  std::string_view read_now(const Place& place);
  // Of the last of them.
  Survey survey() const;
  Onlooker* onlooker() const;  // null: nothing is handed over

  // Begins what comes behind `end`, up to where the last read ended, of a file of `size` bytes. What begins
  // at `from` is `left` of it.
  void go_on(const Place& last, std::uint64_t from, std::string_view left, std::uint64_t end,
             std::uint64_t size);

  // What was read ahead is not wanted any more.
  void drop();

 private:
  struct Read {
    Read(Onlooker* onlooker, MemberBuffers* buffers) : shared(onlooker, buffers) {}
    SharedRead shared;
    FileId file;
    std::optional<std::uint64_t> from;  // where `left` begins
    std::string left;                   // of what was read before it
  };
  Read* first_of(const FileId& file);
  std::size_t count_of(const FileId& file) const;
  Read& free_read();
  void drop(const FileId& file);

  Crew& crew_;
  std::size_t most_of_one_file_;
  MemberBuffers buffers_;
  std::vector<Read> reads_;
  std::deque<Read*> begun_;  // of a file, in the order of its places
  Read* now_ = nullptr;      // what is handed over
  FileId last_file_;
  std::size_t in_a_row_ = 0;  // reads of it
};

}  // namespace logbell::engine

// FileSource: one file, followed by what it is (device, inode, birth, beginning) and not by its name. Of a
// compressed one all places are those of what it holds.
//
// Owned by the reader thread. Holds the file open, so its inode cannot become another file meanwhile. Which
// names lead to it, and what happens when they no longer do, is the follower's business (engine/run).
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/io/file_id.h"
#include "engine/io/records.h"
#include "engine/io/source.h"
#include "engine/io/unpack.h"
#include "rules/result.h"
#include "rules/time.h"

namespace logbell::engine {

struct FileStat {
  FileId id;
  std::uint64_t size = 0;
  std::uint64_t links = 0;
  std::uint32_t mode = 0;
  std::int64_t modified_ns = 0;
  bool mount_root = false;  // the file itself is mounted there: its name leads to it whatever happens where it comes from

  bool is_regular() const;
  rules::Timestamp modified() const { return rules::from_unix_ms(modified_ns / 1'000'000); }
};
// Follows symbolic links. kNotFound: nothing there.
rules::Result<FileStat> stat_path(const std::string& path);

// A hash of some bytes of a file: its beginning, or those before the place that was reached. Only hashes are
// stored, never what a log says.
struct Mark {
  std::uint32_t bytes = 0;
  std::uint64_t hash = 0;

  friend bool operator==(const Mark&, const Mark&) = default;
};

// What a file held before it was cut or rewritten, as far as it was read. A copy may still hold it.
struct Content {
  Mark head;                 // its first bytes
  Mark before;               // the bytes before offset
  std::uint64_t offset = 0;  // read up to here
  LineState line;

  friend bool operator==(const Content&, const Content&) = default;
};

// Where reading of a file stands, to be stored: one JSON object, its format in file_source.cc.
struct FilePosition {
  FileId id;
  std::string path;       // at which it was followed last
  bool unlinked = false;  // no pattern led to it any more, and that was counted
  bool rotated = false;   // so it was, and it was read to its end
  bool copy = false;      // of what another file held before it was cut: nobody wrote to it
  std::uint64_t offset = 0;
  LineState line;
  Mark head;                 // the file's first bytes
  Mark before;               // the bytes before offset
  OpenRecords open;          // records that go on behind offset
  std::vector<Content> cut;  // what it held before, oldest first
  std::int64_t modified_ns = 0;
  rules::Timestamp watermark = rules::kLongAgo;
};
std::string encode(const FilePosition& position);
rules::Result<FilePosition> decode_position(std::string_view text);

class FileSource final : public Source {
 public:
  static constexpr std::size_t kMarkBytes = 1024;  // enough to tell lines that carry a time apart
  static constexpr std::size_t kHeadBytes = 1024;  // a banner may be longer: the head alone proves nothing
  static constexpr std::size_t kRememberedMarks = 8;
  static constexpr std::size_t kRememberedContents = 8;  // copies of the last seconds are looked for

  // Opens a regular file. kInvalid: it is a directory, a pipe, a device or a file of the kernel's, and will
  // not be read.
  static rules::Result<std::unique_ptr<FileSource>> open(const std::string& path);
  ~FileSource() override;
  FileSource(const FileSource&) = delete;
  FileSource& operator=(const FileSource&) = delete;

  rules::Result<ReadStatus> read(std::size_t limit, const SplitRules& rules, ReadBuffer& buffer,
                                 Chunk& into) override;
  std::uint64_t offset() const override { return offset_; }
  std::uint64_t known_size() const override { return known_size_; }
  std::uint64_t pending() const override { return pending_; }
  bool pending_is_evaluated() const override { return line_.evaluated >= pending_; }

  // Goes on where a former process stood. If the file is not what the position says, its place is the
  // beginning and the answer says what was found.
  rules::Result<Rewrite> resume(const FilePosition& position);
  // Whether the position can be of this file: same inode, born at the same moment, or the same beginning.
  bool is_file_of(const FilePosition& position) const;
  // Whether it is compressed, and holds what the position is of: a file that was compressed meanwhile. Its
  // beginning and what is before the place tell; of a position that has neither, anything does.
  bool holds(const FilePosition& position) const;
  // Whether all that it holds is in `original` now, at the same place: a copy of it. Its beginning and its
  // end tell, and what is between as far as that is read quickly.
  bool is_copy_of(const FileSource& original) const;
  // Whether it holds so little that another may have begun alike (a banner, or the beginning of a time), and
  // may go on.
  bool is_small() const;
  // Whether it says one line again and again, as far as its first lines tell: then what holds the same may be no copy.
  bool says_one_line() const;
  // Whether it begins with what another file held before it was cut.
  // `shorter_too`: what begins like it and is shorter may be copied into still, or have missed the last lines.
  bool begins_with(const Content& content, bool shorter_too = true) const;
  // Goes on in such a copy where reading of the original stood; from its end if it holds no more.
  rules::Result<void> go_on_from(const Content& content);
  // What was read of such a copy counts as read of what this file held. False: it did already.
  bool remember_copy(const FileSource& copy);
  // It counts as held by this file once, and read: so that a copy of it is known. The oldest is forgotten
  // beyond kRememberedContents.
  void remember(Content content);
  // Begins at `offset`, which must be a line's beginning or the file's end; behind a half line at the end,
  // the rest of that line is skipped.
  rules::Result<void> start_at(std::uint64_t offset);
  // Begins behind the lines that are there by now.
  rules::Result<void> start_behind_lines();
  // The size at the moment; of what is compressed, of what it holds: to know that, all of it is unpacked
  // once.
  rules::Result<std::uint64_t> size_now() const;
  // The same; its beginning is known from here on as far as it is there.
  rules::Result<std::uint64_t> look_again();
  // Bytes from anywhere; fewer at the end. Does not move the place.
  rules::Result<std::size_t> read_at(std::uint64_t offset, char* into, std::size_t bytes) const;

  // Lines between `from` and the place that was reached, once more.
  rules::Result<void> reread(std::uint64_t from, const SplitRules& rules, ReadBuffer& buffer,
                             const std::function<void(const Chunk&)>& take) const;
  const OpenRecords& open_records() const { return open_; }
  void set_open_records(const OpenRecords& open) { open_ = open; }

  FilePosition position() const;  // without what the follower knows: path, rotated, watermark
  Content content() const { return {read_head_, before_, offset_, line_}; }
  const std::vector<Content>& cut() const { return cut_; }
  rules::Result<FileStat> stat() const;  // of a compressed one, of the file itself
  bool is_packed() const { return unpacked_ != nullptr; }
  // Why what a compressed one holds ended early, once it has; see Unpacked.
  std::string_view trouble() const { return is_packed() ? unpacked_->trouble() : std::string_view(); }
  // Of what is compressed: all of it is wanted, however large it becomes; see Unpacked. Before the first
  // read.
  void lift_limits() {
    if (is_packed()) unpacked_->lift_limits();
  }
  // Gives the memory of what is unpacked back until the next read, which unpacks anew what is before its
  // place.
  void rest() {
    if (is_packed()) unpacked_->rest();
  }
  // How much of the file, as it lies on the disk, was read.
  std::uint64_t disk_offset() const { return is_packed() ? unpacked_->packed_offset() : offset_; }
  // Whether something was written since the last read, as far as size and modification time tell.
  bool looks_changed(const FileStat& stat) const;
  const FileId& id() const { return id_; }
  int fd() const { return fd_; }
  bool on_remote_filesystem() const { return remote_; }  // others write to it unseen by inotify

 private:
  FileSource(int fd, const FileStat& stat, bool remote);

  Mark mark_before(std::uint64_t offset) const;
  std::string_view read_together(const ReadAhead::Place& place, const ReadBuffer& buffer) const;
  bool matches(const Mark& mark, std::uint64_t end) const;
  bool is_alike(const FileSource& original, std::uint64_t size) const;
  ReadStatus restart(std::uint64_t size, bool hole);
  void refresh_head(std::uint64_t known_end);
  void note_read();

  int fd_;
  FileId id_;
  bool remote_;
  std::unique_ptr<Unpacked> unpacked_;  // null: it is read as it is
  Encoding encoding_ = Encoding::kBytes;
  LineState line_;
  std::uint64_t offset_ = 0;
  std::uint64_t pending_ = 0;
  std::uint64_t known_size_ = 0;
  std::size_t far_reads_ = 0;  // since it was last at its end
  std::int64_t modified_ns_ = 0;
  Mark head_;       // as it was found: what is not read of it yet may be cut away
  Mark read_head_;  // of it, what has been read
  Mark before_;
  OpenRecords open_;
  std::vector<Content> cut_;
  // Marks of places passed on the way, newest last: a file cut back to one of them goes on from there.
  struct Passed {
    std::uint64_t offset = 0;
    Mark head;
    Mark mark;  // alone it proves nothing: it may lie within a long line of the same character
  };
  std::array<Passed, kRememberedMarks> passed_;
  std::size_t next_passed_ = 0;
};

}  // namespace logbell::engine

// What is written: logs, their writers and whoever rotates them. Real files; every line is remembered.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tests/sim/model.h"

namespace logbell::sim {

struct Line {
  std::string source;
  Kind kind = Kind::kNoise;
  std::string queue;
  Ms at = 0;
  // Cut or deleted when it may not have been counted for good: then it is counted once or not at all.
  bool at_risk = false;
  // Its file was cut in place behind it.
  bool may_repeat = false;
};

// One log: a name, the file that its writer has open, the line that he has begun.
class Log {
 public:
  Log(std::filesystem::path path, std::string source, bool is_link);
  ~Log();
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;

  const std::string& source() const { return source_; }
  std::string name() const { return path_.filename().string(); }
  bool half() const { return half_; }
  bool exists() const;

  // The writer appends to what he has open; he opens the name if he has nothing.
  void append(const std::string& text);
  void whole(std::uint64_t id, const std::string& text);
  // The time of a line comes with its end: what is on the disk meanwhile is the beginning of a date.
  void begin(const std::string& text);
  void end(std::uint64_t id, const std::string& text);

  // The name moves on; the writer stays with the old file until he reopens.
  void rename_and_create(bool create);
  void reopen();
  // He writes to a file that does not have the name any more.
  bool stays() const;
  void copy_and_truncate(bool keep_copy);
  void remove_and_recreate(bool recreate);
  // What is behind the first `lines` lines is cut. Returns the ids of what was.
  std::vector<std::uint64_t> truncate_behind(std::size_t lines);
  bool is_link() const { return is_link_; }
  // Of a link. A target that no reader has noticed before the link moves on is found by nobody: once, then
  // not before forgive().
  bool may_swap() const { return is_link_ && !moved_; }
  void swap_link();
  void forgive() { moved_ = false; }
  // Of the file that the name leads to, as it was written.
  std::vector<std::uint64_t> lines_here() const;

 private:
  std::uint64_t inode() const;
  void open();
  void close();

  std::filesystem::path path_;
  std::string source_;
  bool is_link_;
  int fd_ = -1;
  bool half_ = false;
  int made_ = 0;
  bool moved_ = false;  // the link leads where no reader is known to have been
  std::map<std::uint64_t, std::vector<std::uint64_t>> lines_;  // inode -> ids
};

}  // namespace logbell::sim

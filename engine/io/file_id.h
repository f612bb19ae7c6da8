// FileId: which file.
//
// Value.
#pragma once

#include <cstdint>

namespace logbell::engine {

// Which file. An inode number is used again for another file, often at once: the birth tells them apart.
struct FileId {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  std::int64_t born_ns = 0;  // 0: the file system does not say

  friend bool operator==(const FileId&, const FileId&) = default;
};

}  // namespace logbell::engine

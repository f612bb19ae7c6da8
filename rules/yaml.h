// A YAML document as a tree that remembers where everything was written. The only door to yaml-cpp.
//
// Values; any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rules/problems.h"

namespace logbell::rules::yaml {

// Bounds of one document; what exceeds them is a problem, never a hang ("billion laughs").
inline constexpr std::size_t kMaxNodes = 200'000;          // aliases counted each time they are used
inline constexpr std::size_t kMaxDepth = 64;               // deeper than any configuration we know
inline constexpr std::size_t kMaxBytes = 4 * 1024 * 1024;  // a rule file of 4 MiB is a mistake

struct Entry;

struct Node {
  enum class Kind { kNull, kScalar, kSequence, kMap };

  Kind kind = Kind::kNull;
  Place place;                 // of the value; where there is none, of its key
  std::string scalar;          // kScalar
  bool quoted = false;         // kScalar: written in quotes or as a block, so never null, bool or number
  std::vector<Node> items;     // kSequence
  std::vector<Entry> entries;  // kMap, in the order written; keys are unique scalars

  bool is_null() const { return kind == Kind::kNull; }
  bool is_scalar() const { return kind == Kind::kScalar; }
  bool is_sequence() const { return kind == Kind::kSequence; }
  bool is_map() const { return kind == Kind::kMap; }
  const Node* find(std::string_view key) const;  // null when absent or not a map
};

struct Entry {
  std::string key;
  Place key_place;
  Node value;
};

// Parses one document. Duplicate keys, tabs, unterminated quotes, `"\d"`, alias bombs and the parser's own
// errors become problems with a hint; nullopt when no tree could be had at all.
std::optional<Node> parse(const std::string& file, std::string_view text, Problems& problems);

}  // namespace logbell::rules::yaml

// TemplateTree: which kind of line a line is. Lines that one statement of a program wrote become one
// template, found as they come, by Drain's tree: P. He, J. Zhu, Z. Zheng, M. R. Lyu, "Drain: An Online Log
// Parsing Approach with Fixed Depth Tree", IEEE ICWS 2017.
//
// Owned by the core thread, as a part of its KeyedWindow; lines come in the core's order, so that what comes
// out is the same however many threads read. Of the paper: a tree of fixed depth, by how many words a line
// has and by the first of them, then the most similar template of that leaf, in which a word that differs
// becomes a wildcard; a first word with a digit, or one too many, is a wildcard in the tree.
//
// Otherwise than there, what stands before the message (level, logger) is a level of the tree of its own: it
// is the same or makes another template, where as words it would make any two short messages of one logger
// alike. Variable parts were taken out before (rules/line_shape.h); where both lines have one, it says
// nothing of how alike they are. And a template has an id and the label of its first line for life, however
// general it becomes: that line always finds it again, or one that is more like it, since what stands under a
// wildcard of the tree is looked at, too, and more than half of the words stay.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "engine/core/batch.h"
#include "rules/time.h"

namespace logbell::engine {

class TemplateTree {
 public:
  // Templates of one pattern at most: some 8 MB of the longest lines. A service has some hundreds; with more
  // than that its lines say something new each time, and what is new among them says nothing.
  static constexpr std::size_t kMaxTemplates = 2000;
  // First words of messages of one logger and length, which are told apart in the tree: Drain's own bound
  // (maxChild). The messages of a logger begin with fewer, unless names stand there.
  static constexpr std::size_t kMostFirstWords = 100;

  // The id of the template of a line of this shape, which may be a new one; unset: there is none, and no room
  // for one. Those of which no line came after `forgotten` are as if they were forgotten already: it plays no
  // part how often somebody asks forget().
  std::optional<std::uint64_t> add(std::string_view shape, rules::Timestamp at, rules::Timestamp forgotten);
  // A line of it came then: of what restore() brought back.
  void came(std::uint64_t id, rules::Timestamp at);

  // Of a template that is there: the label of its first line's shape.
  const std::string& label(std::uint64_t id) const { return templates_.at(id).label; }
  // What its lines have in common, for who looks at the tree itself: "user <*> not found".
  std::string common(std::uint64_t id) const;
  bool has(std::uint64_t id) const { return templates_.count(id) != 0; }
  std::size_t size() const { return templates_.size(); }

  // Forgets those that are not used and of which no line came after `until`.
  void forget(const std::set<std::uint64_t>& used, rules::Timestamp until);
  // Time was set back: no line came later than `at`.
  void forget_after(rules::Timestamp at);
  // Of the latest line; kLongAgo: there is no template.
  rules::Timestamp newest() const;

  // As KeyedWindow's; keys of the store begin with `prefix`.
  void save(const std::string& prefix, std::vector<StoredEntry>& out);
  void forget_changes() { changed_.clear(); }
  // False: not one that save() wrote, or one too many; it is erased with the next save().
  bool restore(const std::string& prefix, const StoredEntry& entry);
  void erase_stored(const std::string& prefix, std::vector<StoredEntry>& out) const;

 private:
  struct Template {
    std::string shape;  // of its first line
    std::string label;
    std::string head;
    std::vector<std::string> words;             // of its message; "": lines of it differ there
    bool any_first = false;                     // it stands under the wildcard for first words
    rules::Timestamp newest = rules::kLongAgo;  // of its lines
    bool is_used = true;                        // else its time must be stored: nobody else knows it
  };
  // What a shape is in the tree.
  struct Parsed {
    std::string head;
    std::vector<std::string_view> words;
    bool variable_first = true;
  };
  struct Node {
    std::map<std::string, std::vector<std::uint64_t>, std::less<>> by_first;
    std::vector<std::uint64_t> any_first;
  };

  static Parsed parse(std::string_view shape);
  void plant(std::uint64_t id, const Template& one);
  const Node& node_of(const Parsed& line) const;

  std::map<std::uint64_t, Template> templates_;
  // By how many words, then by what stands before them.
  std::map<std::size_t, std::map<std::string, Node, std::less<>>> tree_;
  std::uint64_t next_id_ = 1;
  std::set<std::uint64_t> changed_;  // to be written or erased
};

}  // namespace logbell::engine

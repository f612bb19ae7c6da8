// LineClusters: many lines by what their programs wrote in them: one for each template, with how often it
// came.
//
// Owned by one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace logbell::engine {

struct LineCluster {
  std::string shape;  // rules::line_template() of each; <*> where they differ
  std::uint64_t count = 0;
  std::uint64_t first = 0;  // the number of the first line
  std::string sample;       // that line
};

class LineClusters {
 public:
  // A log with more templates than this says something new on each line; what comes then is counted as a
  // whole.
  static constexpr std::size_t kMostTemplates = 20'000;
  // So many templates that differ in one word at one place are one: fewer may be other messages ("connect",
  // "resolve").
  static constexpr std::size_t kAlike = 4;

  void add(std::string_view line, std::uint64_t number);

  std::uint64_t lines() const { return lines_; }
  std::uint64_t not_kept() const { return not_kept_; }
  // Most frequent first; of equal ones the first.
  std::vector<LineCluster> sorted() const;

 private:
  std::map<std::string, LineCluster, std::less<>> clusters_;
  std::uint64_t lines_ = 0;
  std::uint64_t not_kept_ = 0;
};

}  // namespace logbell::engine

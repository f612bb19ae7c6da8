// Table: columns for people, as wide as their widest cell. Value; one thread.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace logbell::engine {

class Table {
 public:
  explicit Table(std::vector<std::string> head) { rows_.push_back(std::move(head)); }
  // As many cells as the head has.
  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  // Two spaces between columns, none behind the last.
  std::string format() const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace logbell::engine

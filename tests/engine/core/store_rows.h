// What the store would hold of a window, a part of one, or a tree of templates.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "engine/core/batch.h"

namespace logbell::tests {

using StoreRows = std::map<std::string, std::string>;

inline void write_down(StoreRows& store, const std::vector<engine::StoredEntry>& entries) {
  for (const engine::StoredEntry& entry : entries) {
    if (entry.value) {
      store[entry.key] = *entry.value;
    } else {
      store.erase(entry.key);
    }
  }
}

// Writes what has changed.
template <typename Window>
void save(Window& window, const std::string& prefix, StoreRows& store) {
  std::vector<engine::StoredEntry> entries;
  window.save(prefix, entries);
  write_down(store, entries);
}

// Reads every row into a window that is empty.
template <typename Window>
void restore(Window& window, const std::string& prefix, const StoreRows& store) {
  for (const auto& [key, value] : store)
    window.restore(prefix, {key, value});
}

}  // namespace logbell::tests

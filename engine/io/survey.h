// Survey: what a block of bytes holds, in one pass over it.
//
// Pure; any thread.
#pragma once

#include <cstdint>
#include <string_view>

namespace logbell::engine {

struct Survey {
  std::uint64_t newlines = 0;
  bool has_nul = false;

  Survey& operator+=(const Survey& other) {
    newlines += other.newlines;
    has_nul = has_nul || other.has_nul;
    return *this;
  }
};

Survey survey(std::string_view block);

}  // namespace logbell::engine

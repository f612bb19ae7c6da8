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

// Bytes that are looked at together: 64 where the processor has AVX-512, 32 with AVX2, else 16. What it has not
// becomes what it has.
enum class Lanes : std::uint8_t { kBest, k64, k32, k16 };

Survey survey(std::string_view block, Lanes lanes = Lanes::kBest);

}  // namespace logbell::engine

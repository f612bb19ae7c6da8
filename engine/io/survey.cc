#include "engine/io/survey.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

namespace logbell::engine {
namespace {

// Sixteen bytes at once, as gcc and clang have them on every processor.
using Bytes = std::uint8_t __attribute__((vector_size(16)));

Bytes all(char of) {
  return Bytes{} + static_cast<std::uint8_t>(of);
}

std::uint64_t sum(Bytes counts) {
  std::uint64_t total = 0;
  for (std::size_t i = 0; i < sizeof counts; ++i)
    total += counts[i];
  return total;
}

}  // namespace

Survey survey(std::string_view block) {
  constexpr std::size_t kTogether = 4 * sizeof(Bytes);
  constexpr std::size_t kRounds = 255 / 4;  // a column counts in a byte
  Survey found;
  Bytes nuls{};
  while (block.size() >= kTogether) {
    Bytes newlines{};
    const std::size_t rounds = std::min(block.size() / kTogether, kRounds);
    const char* at = block.data();
    for (std::size_t round = 0; round < rounds; ++round) {
      for (std::size_t i = 0; i < kTogether / sizeof(Bytes); ++i, at += sizeof(Bytes)) {
        Bytes bytes;
        std::memcpy(&bytes, at, sizeof bytes);
        newlines -= reinterpret_cast<Bytes>(bytes == all('\n'));  // where they are equal, it is -1
        nuls |= reinterpret_cast<Bytes>(bytes == all('\0'));
      }
    }
    found.newlines += sum(newlines);
    block.remove_prefix(rounds * kTogether);
  }
  for (const char c : block) {
    found.newlines += c == '\n' ? 1 : 0;
    found.has_nul = found.has_nul || c == '\0';
  }
  found.has_nul = found.has_nul || sum(nuls) > 0;
  return found;
}

}  // namespace logbell::engine

#include "engine/io/survey.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

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

// Each of these takes a beginning of the block, as long as it can, and leaves the rest.
Survey survey_16(std::string_view& block) {
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
  found.has_nul = sum(nuls) > 0;
  return found;
}

#if defined(__x86_64__)
__attribute__((target("avx2,popcnt"))) Survey survey_32(std::string_view& block) {
  Survey found;
  const __m256i newline = _mm256_set1_epi8('\n');
  __m256i least = _mm256_set1_epi8(-1);
  std::size_t at = 0;
  for (; at + sizeof newline <= block.size(); at += sizeof newline) {
    const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(block.data() + at));
    const auto here = static_cast<std::uint32_t>(_mm256_movemask_epi8(_mm256_cmpeq_epi8(bytes, newline)));
    found.newlines += static_cast<std::uint64_t>(std::popcount(here));
    least = _mm256_min_epu8(least, bytes);
  }
  found.has_nul = _mm256_movemask_epi8(_mm256_cmpeq_epi8(least, _mm256_setzero_si256())) != 0;
  block.remove_prefix(at);
  return found;
}

__attribute__((target("avx512f,avx512bw,popcnt"))) Survey survey_64(std::string_view& block) {
  Survey found;
  const __m512i newline = _mm512_set1_epi8('\n');
  __m512i least = _mm512_set1_epi8(-1);
  std::size_t at = 0;
  for (; at + sizeof newline <= block.size(); at += sizeof newline) {
    const __m512i bytes = _mm512_loadu_si512(block.data() + at);
    found.newlines += static_cast<std::uint64_t>(std::popcount(_mm512_cmpeq_epi8_mask(bytes, newline)));
    least = _mm512_min_epu8(least, bytes);
  }
  found.has_nul = _mm512_testn_epi8_mask(least, least) != 0;
  block.remove_prefix(at);
  return found;
}

Lanes possible(Lanes lanes) {
  static const bool kHas64 = __builtin_cpu_supports("avx512bw") != 0;
  static const bool kHas32 = __builtin_cpu_supports("avx2") != 0;
  if (lanes == Lanes::kBest || lanes == Lanes::k64) lanes = kHas64 ? Lanes::k64 : Lanes::k32;
  return lanes == Lanes::k32 && !kHas32 ? Lanes::k16 : lanes;
}
#endif

}  // namespace

Survey survey(std::string_view block, [[maybe_unused]] Lanes lanes) {
#if defined(__x86_64__)
  lanes = possible(lanes);
  Survey found = lanes == Lanes::k64 ? survey_64(block) : lanes == Lanes::k32 ? survey_32(block) : survey_16(block);
#else
  Survey found = survey_16(block);
#endif
  for (const char c : block) {
    found.newlines += c == '\n' ? 1 : 0;
    found.has_nul = found.has_nul || c == '\0';
  }
  return found;
}

}  // namespace logbell::engine

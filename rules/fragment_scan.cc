#include "rules/fragment_scan.h"

#include <bit>
#include <numeric>
#include <utility>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace logbell::rules {
namespace {

// Of the table's bytes, one in so many is set at most: else every eighth byte would be worth a look. From 4
// KiB, in the first-level cache, to 128 KiB.
constexpr std::size_t kTableBytesPerGram = 64;
constexpr unsigned kLeastTableBits = 12;
constexpr unsigned kMostTableBits = 17;

// Two bytes of a window at least, and then so many places in a byte that pass: one in two thousand.
constexpr std::size_t kLeastVectorBytes = 2;
constexpr double kFewVectorPlaces = 0.0005;
// Above so many places in a byte that it passes in vain, the vector sieve costs more than the hash.
constexpr double kMostVectorPlaces = 0.02;

bool has_vectors() {
#if defined(__x86_64__)
  static const bool kHas = __builtin_cpu_supports("avx2") != 0;
  return kHas;
#else
  return false;
#endif
}

// How often each byte occurs in a log of which there is no sample: what is written most is one in twenty.
std::array<double, 256> shares_of(std::string_view sample) {
  std::array<double, 256> shares{};
  for (const char c : sample)
    shares[static_cast<unsigned char>(c)] += 1;
  for (unsigned byte = 0; byte < 256; ++byte)
    shares[byte] = (shares[byte] + (byte < 0x80 ? 8 : 1)) / (static_cast<double>(sample.size()) + 1152);
  return shares;
}

unsigned bits_for(std::size_t entries, unsigned least, unsigned most) {
  unsigned bits = least;
  while (bits < most && (std::size_t{1} << bits) < entries)
    ++bits;
  return bits;
}

}  // namespace

FragmentScan::FragmentScan(const std::vector<Fragment>& fragments, std::string_view sample, Sieve sieve) {
  std::vector<std::pair<Gram, std::uint32_t>> by_gram;
  for (const Fragment& fragment : fragments) {
    const auto index = static_cast<std::uint32_t>(known_.size());
    const auto first = std::find_if(fragment.run.begin(), fragment.run.end(),
                                    [](const std::bitset<256>& bytes) { return !bytes['\n']; });
    known_.push_back({fragment, static_cast<std::size_t>(first - fragment.run.begin()) - fragment.window});
    for (const Gram gram : fragment.grams())
      by_gram.emplace_back(gram, index);
  }
  std::sort(by_gram.begin(), by_gram.end());
  std::size_t grams = 0;
  for (std::size_t i = 0; i < by_gram.size(); ++i)
    grams += i == 0 || by_gram[i].first != by_gram[i - 1].first ? 1 : 0;
  bits_ = bits_for(grams * kTableBytesPerGram, kLeastTableBits, kMostTableBits);
  table_.assign(std::size_t{1} << bits_, 0);
  slot_bits_ = bits_for(grams * 2, 1, 31);
  slots_.assign(std::size_t{1} << slot_bits_, {});
  whose_.reserve(by_gram.size());
  for (std::size_t from = 0; from < by_gram.size();) {
    const Gram gram = by_gram[from].first;
    table_[hash(gram, bits_)] = 1;
    std::size_t i = hash(gram, slot_bits_);
    while (slots_[i].count > 0)
      i = (i + 1) & (slots_.size() - 1);
    slots_[i] = {gram, static_cast<std::uint32_t>(whose_.size()), 0};
    for (; from < by_gram.size() && by_gram[from].first == gram; ++from, ++slots_[i].count)
      whose_.push_back(by_gram[from].second);
  }
  const double in_vain = group(fragments, sample);
  if (!has_vectors()) sieve = Sieve::kHash;
  sieve_ = sieve != Sieve::kBest ? sieve : in_vain > kMostVectorPlaces ? Sieve::kHash : Sieve::kVector;
}

// Puts each fragment into the group that then passes the fewest places more, guessed from how often each byte
// occurs. Returns how many places all groups pass in a byte.
double FragmentScan::group(const std::vector<Fragment>& fragments, std::string_view sample) {
  const std::array<double, 256> shares = shares_of(sample);
  struct Halves {
    std::array<std::array<std::uint16_t, 2>, kGramBytes>
        halves{};  // by byte of the window: bits of low, of high
  };
  // Of places, by which bytes of the window are looked at.
  const auto passes = [&](const Halves& group, std::size_t from, std::size_t to) {
    double share = 1;
    for (std::size_t i = from; i < to; ++i) {
      double any = 0;
      for (unsigned byte = 0; byte < 256; ++byte) {
        if ((group.halves[i][0] >> (byte % 16) & 1U) != 0 && (group.halves[i][1] >> (byte / 16) & 1U) != 0)
          any += shares[byte];
      }
      share *= any;
    }
    return share;
  };
  std::array<Halves, kGroups> groups{};
  std::array<double, kGroups> passed{};
  for (const Fragment& fragment : fragments) {
    Halves own;
    for (std::size_t i = 0; i < kGramBytes; ++i) {
      const std::size_t at = fragment.window + i;
      for (unsigned byte = 0; byte < 256; ++byte) {
        if (at < fragment.run.size() && !fragment.run[at][byte]) continue;
        own.halves[i][0] = static_cast<std::uint16_t>(own.halves[i][0] | 1U << (byte % 16));
        own.halves[i][1] = static_cast<std::uint16_t>(own.halves[i][1] | 1U << (byte / 16));
      }
    }
    std::size_t best = 0;
    double least = 1e9;
    Halves kept;
    for (std::size_t g = 0; g < kGroups; ++g) {
      Halves with = groups[g];
      for (std::size_t i = 0; i < kGramBytes; ++i) {
        for (std::size_t half = 0; half < 2; ++half)
          with.halves[i][half] = static_cast<std::uint16_t>(with.halves[i][half] | own.halves[i][half]);
      }
      const double more = passes(with, 0, kGramBytes) - passed[g];
      if (more >= least) continue;
      least = more;
      best = g;
      kept = with;
    }
    groups[best] = kept;
    passed[best] += least;
  }
  for (std::size_t g = 0; g < kGroups; ++g) {
    for (std::size_t i = 0; i < kGramBytes; ++i) {
      for (unsigned half = 0; half < 16; ++half) {
        if ((groups[g].halves[i][0] >> half & 1U) != 0)
          masks_.low[i][half] |= static_cast<std::uint8_t>(1U << g);
        if ((groups[g].halves[i][1] >> half & 1U) != 0)
          masks_.high[i][half] |= static_cast<std::uint8_t>(1U << g);
      }
    }
  }
  // Fewer bytes of the window are looked at faster, if hardly more passes.
  for (std::size_t bytes = kLeastVectorBytes; bytes < kGramBytes; ++bytes) {
    for (std::size_t from = 0; from + bytes <= kGramBytes; ++from) {
      double all = 0;
      for (const Halves& each : groups)
        all += passes(each, from, from + bytes);
      if (all > kFewVectorPlaces) continue;
      first_ = from;
      bytes_ = bytes;
      return all;
    }
  }
  return std::accumulate(passed.begin(), passed.end(), 0.0);
}

std::size_t FragmentScan::sift_hash(const char* at, std::size_t windows, Places& places) const {
  // Eight windows together, and one branch: hardly ever is one of them worth a look.
  constexpr std::size_t kTogether = 8;
  const std::uint8_t* const table = table_.data();
  const unsigned bits = bits_;
  std::size_t found = 0;
  std::size_t i = 0;
  for (; i + kTogether <= windows; i += kTogether) {
    unsigned any = 0;
    for (std::size_t j = 0; j < kTogether; ++j)
      any |= table[hash(gram_at(at + i + j), bits)];
    if (any == 0) [[likely]]
      continue;
    for (std::size_t j = 0; j < kTogether; ++j) {
      places[found] = static_cast<std::uint16_t>(i + j);
      found += table[hash(gram_at(at + i + j), bits)];
    }
  }
  for (; i < windows; ++i) {
    if (may_be(at + i)) places[found++] = static_cast<std::uint16_t>(i);
  }
  return found;
}

#if defined(__x86_64__)
// `kBytes` of the window from `first_` on are looked at.
template <std::size_t kBytes>
__attribute__((target("avx2"))) std::size_t FragmentScan::sift_bytes(const char* at, std::size_t windows,
                                                                     Places& places) const {
  constexpr std::size_t kVector = 32;
  const __m256i low_half = _mm256_set1_epi8(0x0F);
  __m256i low[kBytes];
  __m256i high[kBytes];
  for (std::size_t i = 0; i < kBytes; ++i) {
    low[i] = _mm256_broadcastsi128_si256(
        _mm_load_si128(reinterpret_cast<const __m128i*>(masks_.low[first_ + i].data())));
    high[i] = _mm256_broadcastsi128_si256(
        _mm_load_si128(reinterpret_cast<const __m128i*>(masks_.high[first_ + i].data())));
  }
  std::size_t found = 0;
  std::size_t i = 0;
  // The last window of a vector ends three bytes behind it: they are in the block, as `windows` are.
  for (; i + kVector <= windows; i += kVector) {
    __m256i groups = _mm256_set1_epi8(-1);
    for (std::size_t j = 0; j < kBytes; ++j) {
      const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at + i + first_ + j));
      const __m256i of_low = _mm256_shuffle_epi8(low[j], _mm256_and_si256(bytes, low_half));
      const __m256i of_high =
          _mm256_shuffle_epi8(high[j], _mm256_and_si256(_mm256_srli_epi16(bytes, 4), low_half));
      groups = _mm256_and_si256(groups, _mm256_and_si256(of_low, of_high));
    }
    if (_mm256_testz_si256(groups, groups) != 0) [[likely]]
      continue;
    const __m256i none = _mm256_cmpeq_epi8(groups, _mm256_setzero_si256());
    for (std::uint32_t any = ~static_cast<std::uint32_t>(_mm256_movemask_epi8(none)); any != 0;
         any &= any - 1)
      places[found++] = static_cast<std::uint16_t>(i + static_cast<std::size_t>(std::countr_zero(any)));
  }
  for (; i < windows; ++i) {
    if (may_be(at + i)) places[found++] = static_cast<std::uint16_t>(i);
  }
  return found;
}

std::size_t FragmentScan::sift_vector(const char* at, std::size_t windows, Places& places) const {
  switch (bytes_) {
    case 2:
      return sift_bytes<2>(at, windows, places);
    case 3:
      return sift_bytes<3>(at, windows, places);
    default:
      return sift_bytes<kGramBytes>(at, windows, places);
  }
}
#else
std::size_t FragmentScan::sift_vector(const char* at, std::size_t windows, Places& places) const {
  return sift_hash(at, windows, places);
}
#endif

std::size_t FragmentScan::bytes() const {
  std::size_t runs = 0;
  for (const Known& known : known_)
    runs += sizeof known + known.fragment.run.size() * sizeof(std::bitset<256>);
  return runs + table_.size() + slots_.size() * sizeof(Slot) + whose_.size() * sizeof(std::uint32_t);
}

}  // namespace logbell::rules

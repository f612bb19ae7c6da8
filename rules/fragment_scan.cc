#include "rules/fragment_scan.h"

#include <bit>
#include <functional>
#include <limits>
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
// Above so many places in a byte that it passes in vain, the vector sieve costs more than the hash, and the
// wide one.
constexpr double kMostVectorPlaces = 0.02;
constexpr double kMostWidePlaces = 0.05;

// What the processor has of it.
FragmentScan::Sieve possible(FragmentScan::Sieve sieve) {
  using Sieve = FragmentScan::Sieve;
#if defined(__x86_64__)
  static const bool kHasVector = __builtin_cpu_supports("avx2") != 0;
  static const bool kHasWide =
      __builtin_cpu_supports("avx512bw") != 0 && __builtin_cpu_supports("avx512vbmi") != 0;
  if (sieve == Sieve::kBest || sieve == Sieve::kWide) sieve = kHasWide ? Sieve::kWide : Sieve::kVector;
  return sieve == Sieve::kVector && !kHasVector ? Sieve::kHash : sieve;
#else
  static_cast<void>(sieve);
  return Sieve::kHash;
#endif
}

// Of the bytes of a group's windows at one place, all that a sieve cannot tell from them.
std::bitset<256> alike(const std::bitset<256>& bytes, FragmentScan::Sieve sieve) {
  std::bitset<256> all;
  if (sieve == FragmentScan::Sieve::kWide) {
    for (unsigned byte = 0; byte < 256; ++byte)
      all[byte] = bytes[byte] || bytes[byte ^ 0x80U];
    return all;
  }
  unsigned low = 0;
  unsigned high = 0;
  for (unsigned byte = 0; byte < 256; ++byte) {
    if (!bytes[byte]) continue;
    low |= 1U << (byte % 16);
    high |= 1U << (byte / 16);
  }
  for (unsigned byte = 0; byte < 256; ++byte)
    all[byte] = (low >> (byte % 16) & 1U) != 0 && (high >> (byte / 16) & 1U) != 0;
  return all;
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
  sieve_ = possible(sieve);
  if (sieve_ == Sieve::kHash) return;
  const double in_vain = group(fragments, sample);
  const double most = sieve_ == Sieve::kWide ? kMostWidePlaces : kMostVectorPlaces;
  if (sieve == Sieve::kBest && in_vain > most) sieve_ = Sieve::kHash;
}

// Puts each fragment into the group that then passes the fewest places more, guessed from how often each byte
// occurs. Returns how many places all groups pass in a byte.
double FragmentScan::group(const std::vector<Fragment>& fragments, std::string_view sample) {
  const std::array<double, 256> shares = shares_of(sample);
  const auto share_of = [&](const std::bitset<256>& bytes) {
    double share = 0;
    for (std::size_t byte = bytes._Find_first(); byte < bytes.size(); byte = bytes._Find_next(byte))
      share += shares[byte];
    return share;
  };
  // By byte of the window.
  struct Group {
    std::array<std::bitset<256>, kGramBytes> bytes{};  // that some fragment has there
    std::array<double, kGramBytes> shares{};           // of all that are like these
  };
  // Of places, by which bytes of the window are looked at.
  const auto passes = [](const Group& group, std::size_t from, std::size_t to) {
    return std::accumulate(group.shares.begin() + static_cast<std::ptrdiff_t>(from),
                           group.shares.begin() + static_cast<std::ptrdiff_t>(to), 1.0, std::multiplies<>());
  };
  std::array<Group, kGroups> groups{};
  for (const Fragment& fragment : fragments) {
    std::size_t best = 0;
    double least = std::numeric_limits<double>::max();
    Group kept;
    for (std::size_t g = 0; g < kGroups; ++g) {
      Group with = groups[g];
      for (std::size_t i = 0; i < kGramBytes; ++i) {
        const std::size_t at = fragment.window + i;
        const std::bitset<256> more = at < fragment.run.size() ? fragment.run[at] : std::bitset<256>().set();
        if ((more & ~with.bytes[i]).none()) continue;
        with.bytes[i] |= more;
        with.shares[i] = share_of(alike(with.bytes[i], sieve_));
      }
      const double more = passes(with, 0, kGramBytes) - passes(groups[g], 0, kGramBytes);
      if (more >= least) continue;
      least = more;
      best = g;
      kept = with;
    }
    groups[best] = kept;
  }
  for (std::size_t g = 0; g < kGroups; ++g) {
    const auto bit = static_cast<std::uint8_t>(1U << g);
    for (std::size_t i = 0; i < kGramBytes; ++i) {
      for (unsigned byte = 0; byte < 256; ++byte) {
        if (!groups[g].bytes[i][byte]) continue;
        masks_.low[i][byte % 16] |= bit;
        masks_.high[i][byte / 16] |= bit;
        masks_.seven[i][byte % 128] |= bit;
      }
    }
  }
  // Fewer bytes of the window are looked at faster, if hardly more passes.
  const auto all_pass = [&](std::size_t from, std::size_t to) {
    double all = 0;
    for (const Group& each : groups)
      all += passes(each, from, to);
    return all;
  };
  for (std::size_t bytes = kLeastVectorBytes; bytes < kGramBytes; ++bytes) {
    for (std::size_t from = 0; from + bytes <= kGramBytes; ++from) {
      const double all = all_pass(from, from + bytes);
      if (all > kFewVectorPlaces) continue;
      first_ = from;
      bytes_ = bytes;
      return all;
    }
  }
  return all_pass(0, kGramBytes);
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

// The same, 64 bytes at a time: of a byte, its low seven bits choose one of 128.
template <std::size_t kBytes>
__attribute__((target("avx512f,avx512bw,avx512vbmi"))) std::size_t FragmentScan::sift_wide_bytes(
    const char* at, std::size_t windows, Places& places) const {
  constexpr std::size_t kVector = 64;
  __m512i lower[kBytes];
  __m512i upper[kBytes];
  for (std::size_t i = 0; i < kBytes; ++i) {
    lower[i] = _mm512_load_si512(masks_.seven[first_ + i].data());
    upper[i] = _mm512_load_si512(masks_.seven[first_ + i].data() + kVector);
  }
  std::size_t found = 0;
  std::size_t i = 0;
  for (; i + kVector <= windows; i += kVector) {
    __m512i groups = _mm512_set1_epi8(-1);
    for (std::size_t j = 0; j < kBytes; ++j) {
      const __m512i bytes = _mm512_loadu_si512(at + i + first_ + j);
      groups = _mm512_and_si512(groups, _mm512_permutex2var_epi8(lower[j], bytes, upper[j]));
    }
    for (std::uint64_t any = _mm512_test_epi8_mask(groups, groups); any != 0; any &= any - 1)
      places[found++] = static_cast<std::uint16_t>(i + static_cast<std::size_t>(std::countr_zero(any)));
  }
  for (; i < windows; ++i) {
    if (may_be(at + i)) places[found++] = static_cast<std::uint16_t>(i);
  }
  return found;
}

std::size_t FragmentScan::sift_wide(const char* at, std::size_t windows, Places& places) const {
  switch (bytes_) {
    case 2:
      return sift_wide_bytes<2>(at, windows, places);
    case 3:
      return sift_wide_bytes<3>(at, windows, places);
    default:
      return sift_wide_bytes<kGramBytes>(at, windows, places);
  }
}
#else
std::size_t FragmentScan::sift_vector(const char* at, std::size_t windows, Places& places) const {
  return sift_hash(at, windows, places);
}
std::size_t FragmentScan::sift_wide(const char* at, std::size_t windows, Places& places) const {
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

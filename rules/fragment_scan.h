// FragmentScan: where in a block fragments stand.
//
// Immutable and thread-safe. A sieve passes the places at which some fragment might have its window, and
// those are compared byte by byte. There are three, and which one a scan uses is decided when it is made:
// - vector: 32 bytes at a time, by what the low and the high halves of four bytes allow, for eight groups of
// fragments
//   (Teddy, of G. Langdale's Hyperscan). For a few dozen fragments, where the processor has AVX2.
// - wide: the same 64 bytes at a time, and by what each ASCII byte allows, not its halves: that passes less,
//   so it serves for more fragments. Where the processor has AVX-512 VBMI.
// - hash: a hash of every four bytes says in a small table whether some fragment may have them (after Wu and
// Manber, "A
//   fast algorithm for multi-pattern searching", TR-94-17, University of Arizona 1994, without its shifts).
//   Its cost hardly grows with the number of fragments.
#pragma once

#include <algorithm>
#include <array>
#include <bitset>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "rules/fragment.h"

namespace logbell::rules {

class FragmentScan {
 public:
  enum class Sieve : std::uint8_t { kBest, kVector, kWide, kHash };

  FragmentScan() = default;
  // `sample`: some of the log, to guess which sieve is the faster. What the processor has not becomes what it
  // has: kVector of kWide, kHash of kVector.
  explicit FragmentScan(const std::vector<Fragment>& fragments, std::string_view sample = {},
                        Sieve sieve = Sieve::kBest);

  // Calls `each(fragment, at)` for every place where a fragment stands: its index, and where its first byte
  // in the line is; line by line. The block stands for lines: before and behind it is a newline.
  template <class Each>
  void scan(std::string_view block, Each each) const;

  // Multiplicative hashing with 2^32 over the golden ratio: Knuth, The Art of Computer Programming 3, 6.4.
  static std::size_t hash(Gram gram, unsigned bits) { return (gram * 0x9E3779B1U) >> (32U - bits); }

  std::size_t bytes() const;  // of its tables
  Sieve sieve() const { return sieve_; }

 private:
  // By byte of the window: the groups that allow it, of the vector sieve by half byte, of the wide one by its
  // low seven bits.
  struct Masks {
    alignas(16) std::array<std::array<std::uint8_t, 16>, kGramBytes> low{};
    alignas(16) std::array<std::array<std::uint8_t, 16>, kGramBytes> high{};
    alignas(64) std::array<std::array<std::uint8_t, 128>, kGramBytes> seven{};
  };
  static constexpr std::size_t kGroups = 8;
  static constexpr std::size_t kSieveBytes = 4096;  // that one call of it takes
  using Places = std::array<std::uint16_t, kSieveBytes>;

  struct Known {
    Fragment fragment;
    std::size_t to_line = 0;  // from its window to its first byte that is no newline, modulo 2^64
  };
  struct Slot {
    Gram gram = 0;
    std::uint32_t first = 0;  // of `whose_`
    std::uint32_t count = 0;  // 0: free
  };

  bool may_be(const char* at) const { return table_[hash(gram_at(at), bits_)] != 0; }
  // Puts those of the first `windows` places of `at` (kSieveBytes at most) that may be one into `places`, and
  // says how many there are.
  std::size_t sift_vector(const char* at, std::size_t windows, Places& places) const;
  template <std::size_t kBytes>
  std::size_t sift_bytes(const char* at, std::size_t windows, Places& places) const;
  std::size_t sift_wide(const char* at, std::size_t windows, Places& places) const;
  template <std::size_t kBytes>
  std::size_t sift_wide_bytes(const char* at, std::size_t windows, Places& places) const;
  std::size_t sift_hash(const char* at, std::size_t windows, Places& places) const;
  double group(const std::vector<Fragment>& fragments, std::string_view sample);
  template <class Each>
  void look(Gram gram, std::string_view block, std::size_t at, Each& each) const;

  Masks masks_;
  // Bytes of the window that the vector sieves look at.
  std::size_t first_ = 0;
  std::size_t bytes_ = kGramBytes;
  std::vector<Known> known_;
  std::vector<std::uint8_t> table_;   // by hash, of bits_: whether a fragment may have its window there
  std::vector<Slot> slots_;           // by gram, open addressing, of slot_bits_
  std::vector<std::uint32_t> whose_;  // fragments, those of a gram together
  unsigned bits_ = 1;
  unsigned slot_bits_ = 1;
  Sieve sieve_ = Sieve::kHash;
};

template <class Each>
void FragmentScan::look(Gram gram, std::string_view block, std::size_t at, Each& each) const {
  const std::size_t mask = slots_.size() - 1;
  for (std::size_t i = hash(gram, slot_bits_); slots_[i].count > 0; i = (i + 1) & mask) {
    const Slot& slot = slots_[i];
    if (slot.gram != gram) continue;
    for (std::uint32_t n = 0; n < slot.count; ++n) {
      const std::uint32_t index = whose_[slot.first + n];
      const Known& known = known_[index];
      if (known.fragment.is_at(block, at)) each(index, at + known.to_line);
    }
    return;
  }
}

template <class Each>
void FragmentScan::scan(std::string_view block, Each each) const {
  if (known_.empty() || block.empty()) return;
  // Windows that reach over an edge: there a newline is added, and more of them where any byte will do.
  std::array<char, 2 * kGramBytes> edge{};
  edge.fill('\n');
  block.copy(edge.data() + 1, kGramBytes - 1);
  if (may_be(edge.data())) look(gram_at(edge.data()), block, std::size_t{0} - 1, each);

  Places places;
  const std::size_t windows = block.size() < kGramBytes ? 0 : block.size() - kGramBytes + 1;
  for (std::size_t at = 0; at < windows; at += kSieveBytes) {
    const char* const from = block.data() + at;
    const std::size_t some = std::min(windows - at, kSieveBytes);
    const std::size_t found = sieve_ == Sieve::kWide     ? sift_wide(from, some, places)
                              : sieve_ == Sieve::kVector ? sift_vector(from, some, places)
                                                         : sift_hash(from, some, places);
    for (std::size_t i = 0; i < found; ++i)
      look(gram_at(from + places[i]), block, at + places[i], each);
  }

  edge.fill('\n');
  const std::size_t rest = std::min<std::size_t>(block.size(), kGramBytes - 1);
  block.copy(edge.data(), rest, block.size() - rest);
  for (std::size_t i = 0; i < rest; ++i) {
    if (may_be(edge.data() + i)) look(gram_at(edge.data() + i), block, block.size() - rest + i, each);
  }
}

}  // namespace logbell::rules

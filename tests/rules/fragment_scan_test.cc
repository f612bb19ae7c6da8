// The sieves find every fragment, wherever it stands, and nothing else.
#include "rules/fragment_scan.h"

#include <algorithm>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include <catch2/catch.hpp>

#include "tests/support/random_patterns.h"

using namespace logbell::rules;
using logbell::tests::RandomPatterns;

namespace {

using Places = std::vector<std::pair<std::uint32_t, std::size_t>>;

Places found(const std::vector<Fragment>& fragments, FragmentScan::Sieve sieve, std::string_view block) {
  Places places;
  FragmentScan(fragments, {}, sieve).scan(block, [&](std::uint32_t fragment, std::size_t at) {
    places.emplace_back(fragment, at);
  });
  std::sort(places.begin(), places.end());
  return places;
}

// One place after the other; what is outside of the block is a newline.
Places looked_for(const std::vector<Fragment>& fragments, std::string_view block) {
  Places places;
  const std::string text = "\n" + std::string(block) + "\n\n\n\n";
  for (std::uint32_t i = 0; i < fragments.size(); ++i) {
    const Run& run = fragments[i].run;
    for (std::size_t at = 0; at + run.size() <= text.size() && at <= block.size(); ++at) {
      std::size_t same = 0;
      while (same < run.size() && run[same][static_cast<unsigned char>(text[at + same])])
        ++same;
      const std::size_t to_line = run.front()['\n'] ? 1 : 0;
      // What begins behind the block's end is in no line.
      if (same == run.size() && at + to_line > 0 && at + to_line - 1 < block.size())
        places.emplace_back(i, at + to_line - 1);
    }
  }
  std::sort(places.begin(), places.end());
  return places;
}

Fragment fragment_of(std::string_view regex, std::size_t window = 0) {
  const auto tree = parse_regex(regex);
  return {need_of(*tree).runs.at(0), window};
}

}  // namespace

TEST_CASE("fragment_scan: each fragment at each place, by every sieve", "[rules][fragment]") {
  const std::vector<Fragment> some{fragment_of("^ab"),
                                   fragment_of("abcd"),
                                   fragment_of("xab[cd]", 0),
                                   fragment_of("bcda", 0),
                                   fragment_of("abc$"),
                                   fragment_of("aab[a-d]a", 1),
                                   fragment_of("\xC3\xA9"
                                               "ab")};
  std::vector<Fragment> many = some;
  for (char c = 'a'; c <= 'z'; ++c)
    many.push_back(fragment_of(std::string(1, c) + "[a-d]a[b-x]"));
  RandomPatterns random(7);
  for (int round = 0; round < 300; ++round) {
    std::string block;
    static constexpr std::string_view kPieces[] = {"a",  "b",    "c",    "d",        "x",
                                                   "\n", "\r\n", "abcd", "\xC3\xA9", "z"};
    for (std::size_t n = random.below(round % 3 == 0 ? 6 : 300); n > 0; --n)
      block += random.one(kPieces);
    for (const std::vector<Fragment>* fragments :
         std::initializer_list<const std::vector<Fragment>*>{&some, &many}) {
      const Places wanted = looked_for(*fragments, block);
      INFO(block);
      REQUIRE(found(*fragments, FragmentScan::Sieve::kWide, block) == wanted);
      REQUIRE(found(*fragments, FragmentScan::Sieve::kVector, block) == wanted);
      REQUIRE(found(*fragments, FragmentScan::Sieve::kHash, block) == wanted);
    }
  }
}

TEST_CASE("fragment_scan: across the pieces that a sieve takes", "[rules][fragment]") {
  const std::vector<Fragment> one{fragment_of("needle", 1)};
  for (const std::size_t before : {4090U, 4091U, 4092U, 4093U, 4094U, 4095U, 4096U, 8190U, 31U, 28U, 63U, 60U}) {
    const std::string block = std::string(before, '.') + "needle" + std::string(5000, '.');
    for (const auto sieve : {FragmentScan::Sieve::kWide, FragmentScan::Sieve::kVector, FragmentScan::Sieve::kHash})
      CHECK(found(one, sieve, block) == Places{{0, before}});
  }
}

TEST_CASE("fragment_scan: the hash is taken where many fragments would pass nearly everything else",
          "[rules][fragment]") {
  std::vector<Fragment> few{fragment_of("error")};
  CHECK(FragmentScan(few).sieve() == (FragmentScan(few, {}, FragmentScan::Sieve::kWide).sieve()));
  std::vector<Fragment> many;
  for (char a = 'a'; a <= 'z'; ++a) {
    for (char b = 'a'; b <= 'z'; ++b)
      many.push_back(fragment_of(std::string{a, b, static_cast<char>('a' + (a * 7 + b) % 26),
                                             static_cast<char>('a' + (b * 5 + a) % 26)}));
  }
  std::string words;
  for (int i = 0; i < 100; ++i)
    words += "the letters of words as people write them in their logs ";
  CHECK(FragmentScan(many, words).sieve() == FragmentScan::Sieve::kHash);
}

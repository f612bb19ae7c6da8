// Instants: in order and each once, in whichever order and however often they came.
#include "engine/core/instants.h"

#include <random>
#include <set>

#include <catch2/catch.hpp>

using namespace logbell;
using engine::Instants;
using rules::from_unix_ms;
using rules::Timestamp;

TEST_CASE("instants: as a set has them", "[core]") {
  std::mt19937_64 random(7);
  for (const std::int64_t span : {1, 10, 5000, 1'000'000}) {
    for (const int count : {0, 1, 5, 30'000}) {
      CAPTURE(span, count);
      Instants instants;
      std::set<Timestamp> expected;
      for (int i = 0; i < count; ++i) {
        const Timestamp at = from_unix_ms(static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(span)));
        instants.add(at);
        expected.insert(at);
        // Looked at before all have come.
        if (i == count / 2) CHECK(instants.in_order().size() == expected.size());
      }
      CHECK(instants.in_order() == std::vector<Timestamp>(expected.begin(), expected.end()));
    }
  }
}

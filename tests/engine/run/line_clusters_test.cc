// LineClusters: many lines by what their programs wrote in them.
#include "engine/run/line_clusters.h"

#include <string>

#include <catch2/catch.hpp>
#include <fmt/format.h>

using namespace logbell::engine;

TEST_CASE("line clusters: most frequent first, with the first line of each", "[run][line_clusters]") {
  LineClusters clusters;
  clusters.add("2026-05-01T10:00:00Z ERROR no route to 10.0.0.1", 3);
  for (std::uint64_t i = 0; i < 5; ++i)
    clusters.add("2026-05-01T10:00:0" + std::to_string(i) + "Z ERROR order " + std::to_string(i) + " lost",
                 10 + i);
  clusters.add("2026-05-01T10:00:00Z ERROR no route to 10.0.0.2", 40);
  const auto sorted = clusters.sorted();
  REQUIRE(sorted.size() == 2);
  CHECK((sorted[0].count == 5 && sorted[0].first == 10 &&
         sorted[0].shape == "<time> ERROR order <number> lost"));
  CHECK(sorted[0].sample == "2026-05-01T10:00:00Z ERROR order 0 lost");
  CHECK((sorted[1].count == 2 && sorted[1].first == 3 && sorted[1].shape == "<time> ERROR no route to <ip>"));
  CHECK(clusters.lines() == 7);
}

TEST_CASE("line clusters: names that differ at one place are one template, two verbs are two",
          "[run][line_clusters]") {
  LineClusters clusters;
  std::uint64_t number = 0;
  for (const char* queue : {"orders", "billing", "mail", "returns"})
    clusters.add(std::string("ERROR queue ") + queue + " is gone", ++number);
  clusters.add("ERROR cannot connect to it", ++number);
  clusters.add("ERROR cannot resolve to it", ++number);
  const auto sorted = clusters.sorted();
  REQUIRE(sorted.size() == 3);
  CHECK((sorted[0].shape == "ERROR queue <*> is gone" && sorted[0].count == 4 && sorted[0].first == 1));
  CHECK(sorted[0].sample == "ERROR queue orders is gone");
  CHECK(sorted[1].shape == "ERROR cannot connect to it");
  CHECK(sorted[2].shape == "ERROR cannot resolve to it");
}

TEST_CASE("line clusters: no secret is kept, and not more than there is room for", "[run][line_clusters]") {
  LineClusters clusters;
  clusters.add("ERROR login failed password=hunter2", 1);
  CHECK(clusters.sorted()[0].sample.find("hunter2") == std::string::npos);
  std::string word = "aaaaaa";
  for (std::size_t i = 0; i < LineClusters::kMostTemplates + 10; ++i) {
    for (std::size_t k = 0; ++word[k] > 'z' && k + 1 < word.size(); ++k)
      word[k] = 'a';
    clusters.add(fmt::format("{0} {0} {0}", word), i + 2);
  }
  CHECK(clusters.sorted().size() == LineClusters::kMostTemplates);
  CHECK(clusters.not_kept() == 11);
  CHECK(clusters.lines() == LineClusters::kMostTemplates + 11);
}

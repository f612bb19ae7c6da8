// A crew does every piece once, and ends with it.
#include "engine/io/crew.h"

#include <array>
#include <atomic>
#include <stdexcept>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace logbell::engine {
namespace {

TEST_CASE("crew: every piece is done once, by members that are never two at once", "[io][crew]") {
  for (const std::size_t members : {1U, 2U, 4U}) {
    Crew crew(members);
    CHECK(crew.size() == members);
    for (std::size_t round = 0; round < 500; ++round) {
      const std::size_t pieces = round % 17;
      std::vector<std::atomic<int>> times(pieces);
      std::vector<std::atomic<int>> busy(members);
      std::atomic<int> twice{0};
      crew.run(pieces, [&](std::size_t piece, std::size_t member) {
        if (busy.at(member).fetch_add(1) != 0) ++twice;
        ++times.at(piece);
        --busy.at(member);
      });
      REQUIRE(twice == 0);
      for (const std::atomic<int>& each : times)
        REQUIRE(each == 1);
    }
  }
}

TEST_CASE("crew: the owner does something else meanwhile, and joins the others then", "[io][crew]") {
  for (const std::size_t members : {1U, 3U}) {
    Crew crew(members);
    for (std::size_t round = 0; round < 500; ++round) {
      const std::size_t pieces = round % 13;
      std::vector<std::atomic<int>> times(pieces);
      CHECK_FALSE(crew.is_busy());
      const Crew::Ticket work = crew.begin(pieces, [&](std::size_t piece, std::size_t) { ++times.at(piece); });
      CHECK(crew.is_busy());
      if (round % 3 == 0) std::this_thread::yield();
      crew.finish(work);
      CHECK_FALSE(crew.is_busy());
      for (const std::atomic<int>& each : times)
        REQUIRE(each == 1);
    }
  }
  // It may end with work begun that nobody waits for.
  std::atomic<int> done{0};
  {
    Crew crew(2);
    static_cast<void>(crew.begin(50, [&](std::size_t, std::size_t) { ++done; }));
  }
  CHECK(done <= 50);
}

TEST_CASE("crew: several works are begun, and finished in any order, each piece done once", "[io][crew]") {
  for (const std::size_t members : {1U, 2U, 4U}) {
    Crew crew(members);
    for (std::size_t round = 0; round < 300; ++round) {
      constexpr std::size_t kWorks = 5;
      std::vector<std::vector<std::atomic<int>>> times(kWorks);
      std::vector<std::atomic<int>> busy(members);
      std::atomic<int> twice{0};
      std::vector<Crew::Ticket> works;
      for (std::size_t i = 0; i < kWorks; ++i) {
        times[i] = std::vector<std::atomic<int>>((round + 3 * i) % 7);
        works.push_back(crew.begin(times[i].size(), [&, i](std::size_t piece, std::size_t member) {
          if (busy.at(member).fetch_add(1) != 0) ++twice;
          ++times[i].at(piece);
          --busy.at(member);
        }));
      }
      for (std::size_t i = 0; i < kWorks; ++i) {
        const std::size_t which = (i * 2 + round) % kWorks;
        crew.finish(works[which]);
        for (const std::atomic<int>& each : times[which])
          REQUIRE(each == 1);
        CHECK(crew.is_busy() == (i + 1 < kWorks));
      }
      REQUIRE(twice == 0);
    }
  }
}

TEST_CASE("crew: what a piece throws is thrown when the others are done, and the crew goes on",
          "[io][crew]") {
  Crew crew(3);
  std::atomic<int> done{0};
  CHECK_THROWS_AS(crew.run(20,
                           [&](std::size_t piece, std::size_t) {
                             ++done;
                             if (piece % 5 == 1) throw std::runtime_error("piece");
                           }),
                  std::runtime_error);
  CHECK(done == 20);
  crew.run(20, [&](std::size_t, std::size_t) { ++done; });
  CHECK(done == 40);
}

TEST_CASE("crew: where the system gives no thread more, those that are there do it all", "[io][crew]") {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    // Root is not bound by this limit; nobody is.
    const rlimit none{0, 0};
    if (::geteuid() == 0 && ::setresuid(65534, 65534, 65534) != 0) ::_exit(2);
    if (::setrlimit(RLIMIT_NPROC, &none) != 0) ::_exit(3);
    Crew crew(4);
    std::array<int, 20> times{};
    crew.run(times.size(), [&](std::size_t piece, std::size_t) { ++times.at(piece); });
    const bool once = times == [] {
      std::array<int, 20> ones{};
      ones.fill(1);
      return ones;
    }();
    ::_exit(crew.size() == 1 && once ? 0 : 4);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

}  // namespace
}  // namespace logbell::engine

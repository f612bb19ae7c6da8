// Descriptors: whatever the limit is, logs leave enough to ring with.
#include "engine/io/descriptors.h"

#include <algorithm>
#include <tuple>

#include <catch2/catch.hpp>
#include <sys/resource.h>

namespace logbell::engine {
namespace {

TEST_CASE("descriptors: logs leave what messages, the port and the state need, whatever the limit",
          "[io][descriptors][F24]") {
  const auto [story, limit, logs,
              clients] = GENERATE(table<const char*, std::size_t, std::size_t, std::size_t>({
      {"none at all: the first log is read all the same", 0, 4, 8},
      {"fewer than are reserved", 40, 4, 8},
      {"a container that somebody wanted small", 64, 16, 8},
      {"a quarter is reserved", 256, 192, 16},
      {"what systemd gives, where nobody may have more", 1024, 768, 112},
      {"as much is reserved as anybody has use for", kMaxDescriptors, kMaxDescriptors - kMaxReserved, 1024},
      {"and not more", 1'048'576, 1'048'576 - kMaxReserved, 1024},
  }));
  INFO(story);
  const DescriptorShares shares = share_descriptors(limit);
  CHECK(shares.logs == logs);
  CHECK(shares.senders == logs / 2);
  CHECK(shares.clients == clients);
}

TEST_CASE("descriptors: the soft limit is raised to the hard one, and no further than is of use",
          "[io][descriptors][F24]") {
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
  rlimit low{std::min<rlim_t>(100, before.rlim_max), before.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &low) == 0);
  CHECK(raise_descriptor_limit() == low.rlim_cur);
  rlimit raised{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &raised) == 0);
  CHECK(raised.rlim_cur == std::min<rlim_t>(before.rlim_max, kMaxDescriptors));
  CHECK(raised.rlim_max == before.rlim_max);
  // It never takes away.
  CHECK(raise_descriptor_limit() == raised.rlim_cur);
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &before) == 0);
  const std::size_t had = raise_descriptor_limit();
  CHECK(had == before.rlim_cur);
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &raised) == 0);
  CHECK(raised.rlim_cur >= before.rlim_cur);
  static_cast<void>(::setrlimit(RLIMIT_NOFILE, &before));
}

}  // namespace
}  // namespace logbell::engine

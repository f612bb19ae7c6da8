#include "engine/io/descriptors.h"

#include <algorithm>
#include <limits>

#include <sys/resource.h>

namespace logbell::engine {
namespace {

// Of what is reserved; the port's clients have half of the rest.
constexpr std::size_t kOwn = 32;
// So many are always allowed: scrape, probe, person.
constexpr std::size_t kFewestClients = 8;
// Should the limit be less than what is reserved, the first logs are read all the same.
constexpr std::size_t kFewestLogs = 4;

std::size_t as_count(rlim_t limit) {
  return static_cast<std::size_t>(std::min<rlim_t>(limit, std::numeric_limits<std::size_t>::max()));
}

}  // namespace

DescriptorShares share_descriptors(std::size_t limit) {
  const std::size_t reserved = std::clamp(limit / 4, kFewestReserved, kMaxReserved);
  DescriptorShares shares;
  shares.logs = limit > reserved + kFewestLogs ? limit - reserved : kFewestLogs;
  shares.senders = shares.logs / 2;
  shares.clients = std::max((reserved - kOwn) / 2, kFewestClients);
  return shares;
}

DescriptorShares share_descriptors() {
  rlimit limit{};
  return share_descriptors(::getrlimit(RLIMIT_NOFILE, &limit) == 0 ? as_count(limit.rlim_cur)
                                                                   : kMaxDescriptors);
}

std::size_t raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  const std::size_t before = as_count(limit.rlim_cur);
  const rlim_t wanted = std::min<rlim_t>(limit.rlim_max, kMaxDescriptors);
  if (limit.rlim_cur >= wanted) return before;
  limit.rlim_cur = wanted;
  // Where that is not allowed, what there is is shared.
  static_cast<void>(::setrlimit(RLIMIT_NOFILE, &limit));
  return before;
}

}  // namespace logbell::engine

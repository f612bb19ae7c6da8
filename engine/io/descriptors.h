// Descriptors: how many file descriptors this process may have, and who of it how many.
//
// Thread-safe but for raise_descriptor_limit(): the kernel's limit is all the state there is.
#pragma once

#include <cstddef>

namespace logbell::engine {

// A quarter of the limit, within these, is kept from logs, however many there are: a bell that has read every
// line and has no descriptor left to ring with is none. The first: 21 are open once it runs with one sink
// (store, inotify, epoll and eventfd of each loop, the port), 8 are clients, the others are for messages on
// their way (a socket each, an exec's pipes and timer), the configuration and what is read ahead of a log.
// With the second everybody has what he can use.
inline constexpr std::size_t kFewestReserved = 48;
inline constexpr std::size_t kMaxReserved = 2080;
// The soft limit is raised to so much at most: Follower::kMaxFiles, what is reserved, and some for rotated
// files that are read together.
inline constexpr std::size_t kMaxDescriptors = 24'576;

struct DescriptorShares {
  std::size_t logs = 0;     // files that are followed, connections of syslog sources
  std::size_t senders = 0;  // these connections, of all sources: the other half is for files
  std::size_t clients = 0;  // connections to the HTTP port
};
// Of so many. However few there are, something is read.
DescriptorShares share_descriptors(std::size_t limit);
// Of what the process may have now.
DescriptorShares share_descriptors();

// Raises the soft limit towards the hard one, before there is any thread: systemd and shells give 1024 for
// the sake of programs that use select(2), and let whoever does not have more. Returns what it was: programs
// that are started get that.
std::size_t raise_descriptor_limit();

}  // namespace logbell::engine

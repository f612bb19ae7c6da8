#include "engine/io/socket_source.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include <arpa/inet.h>
#include <fmt/format.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

namespace logbell::engine {
namespace {

using rules::ErrorCode;
using rules::fail;
using rules::Instant;
using rules::Result;
using rules::StreamSpec;

constexpr int kBacklog = 128;
constexpr int kPassesAtOnce = 64;
constexpr int kAcceptsAtOnce = 64;  // then those that have come send first

struct Address {
  sockaddr_storage storage = {};
  socklen_t length = 0;
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
};

Result<Address> inet_address(const StreamSpec& spec) {
  Address address;
  sockaddr_in six_or_four{};
  if (::inet_pton(AF_INET, spec.address.c_str(), &six_or_four.sin_addr) == 1) {
    six_or_four.sin_family = AF_INET;
    six_or_four.sin_port = htons(spec.port);
    std::memcpy(&address.storage, &six_or_four, sizeof six_or_four);
    address.length = sizeof six_or_four;
    return address;
  }
  sockaddr_in6 six{};
  if (::inet_pton(AF_INET6, spec.address.c_str(), &six.sin6_addr) != 1)
    return fail(ErrorCode::kInvalid, fmt::format("listen at {}: it is no IP address", spec.text));
  six.sin6_family = AF_INET6;
  six.sin6_port = htons(spec.port);
  std::memcpy(&address.storage, &six, sizeof six);
  address.length = sizeof six;
  return address;
}

Result<Address> unix_address(const StreamSpec& spec) {
  Address address;
  sockaddr_un unix_path{};
  unix_path.sun_family = AF_UNIX;
  if (spec.address.size() >= sizeof unix_path.sun_path)
    return fail(ErrorCode::kInvalid, fmt::format("listen at {}: the path is longer than {} bytes", spec.text,
                                                 sizeof unix_path.sun_path - 1));
  std::memcpy(unix_path.sun_path, spec.address.data(), spec.address.size());
  std::memcpy(&address.storage, &unix_path, sizeof unix_path);
  address.length = sizeof unix_path;
  return address;
}

bool is_unix(const StreamSpec& spec) {
  return spec.kind == StreamSpec::Kind::kUnixDatagram || spec.kind == StreamSpec::Kind::kUnixStream;
}
bool is_datagram(const StreamSpec& spec) {
  return spec.kind == StreamSpec::Kind::kUdp || spec.kind == StreamSpec::Kind::kUnixDatagram;
}

// Removes a socket's file that a former process of ours left behind; an error says why it must stay.
Result<void> remove_stale(const StreamSpec& spec, Address& address) {
  const auto refuse = [&](std::string_view why) {
    return fail(ErrorCode::kUnavailable, fmt::format("listen at {}: {}", spec.text, why));
  };
  struct stat status {};
  if (::lstat(spec.address.c_str(), &status) != 0) {
    if (errno == ENOENT) return {};
    return refuse(rules::errno_text(errno));
  }
  if (!S_ISSOCK(status.st_mode)) return refuse("a file that is no socket is there; it is left as it is");
  const int probe =
      ::socket(AF_UNIX, (is_datagram(spec) ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (probe < 0) return refuse(rules::errno_text(errno));
  const int connected = ::connect(probe, address.get(), address.length);
  const int error = connected == 0 ? 0 : errno;
  ::close(probe);
  if (error != ECONNREFUSED) return refuse("another process listens there");
  if (status.st_uid != ::geteuid())
    return refuse(fmt::format(
        "nobody listens at the socket that is there, but it belongs to user {}; remove it", status.st_uid));
  if (::unlink(spec.address.c_str()) != 0 && errno != ENOENT) return refuse(rules::errno_text(errno));
  return {};
}

void set(int fd, int level, int option, int value) {
  // What an old kernel does not know is done without.
  static_cast<void>(::setsockopt(fd, level, option, &value, sizeof value));
}

std::string peer_name(const Address& peer) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (peer.storage.ss_family == AF_INET) {
    sockaddr_in four{};
    std::memcpy(&four, &peer.storage, sizeof four);
    ::inet_ntop(AF_INET, &four.sin_addr, text.data(), text.size());
    return fmt::format("{}:{}", text.data(), ntohs(four.sin_port));
  }
  if (peer.storage.ss_family == AF_INET6) {
    sockaddr_in6 six{};
    std::memcpy(&six, &peer.storage, sizeof six);
    ::inet_ntop(AF_INET6, &six.sin6_addr, text.data(), text.size());
    return fmt::format("[{}]:{}", text.data(), ntohs(six.sin6_port));
  }
  return "a local process";
}

SyslogFrames frames_of(const StreamSpec& spec) {
  switch (spec.framing) {
    case StreamSpec::Framing::kAuto:
      break;
    case StreamSpec::Framing::kOctetCounting:
      return SyslogFrames::kOctets;
    case StreamSpec::Framing::kNewline:
      return SyslogFrames::kNewline;
  }
  return SyslogFrames::kAuto;
}

}  // namespace

Result<std::unique_ptr<Source>> open_socket(const StreamSpec& spec, ConnectionRoom* room) {
  Result<ListeningSocket> socket = ListeningSocket::open(spec);
  if (!socket) return fail(socket.error());
  if (is_datagram(spec)) return std::make_unique<DatagramSource>(spec, std::move(*socket));
  Result<std::unique_ptr<ConnectionSource>> source = ConnectionSource::make(spec, std::move(*socket), room);
  if (!source) return fail(source.error());
  return std::unique_ptr<Source>(std::move(*source));
}

// --- ListeningSocket

Result<ListeningSocket> ListeningSocket::open(const StreamSpec& spec) {
  Result<Address> address = is_unix(spec) ? unix_address(spec) : inet_address(spec);
  if (!address) return fail(address.error());
  const auto failed = [&](std::string_view fix = {}) {
    const int error = errno;
    const auto code = error == EMFILE || error == ENFILE ? ErrorCode::kUnavailable : ErrorCode::kIo;
    return fail(code, fmt::format("listen at {}: {}{}", spec.text, rules::errno_text(error), fix));
  };
  ListeningSocket socket;
  socket.fd_ = ::socket(address->storage.ss_family,
                        (is_datagram(spec) ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (socket.fd_ < 0) return failed();
  if (is_unix(spec)) {
    if (Result<void> removed = remove_stale(spec, *address); !removed) return fail(removed.error());
  } else {
    // Connections of a former process may still be on their way out. For datagrams it would let another
    // process take half of them.
    if (spec.kind == StreamSpec::Kind::kTcp) set(socket.fd_, SOL_SOCKET, SO_REUSEADDR, 1);
    if (address->storage.ss_family == AF_INET6) set(socket.fd_, IPPROTO_IPV6, IPV6_V6ONLY, 0);
  }
  if (is_datagram(spec)) {
    set(socket.fd_, SOL_SOCKET, SO_RXQ_OVFL, 1);
    // The second goes beyond the system's bound where it may.
    set(socket.fd_, SOL_SOCKET, SO_RCVBUF, static_cast<int>(spec.receive_buffer));
    set(socket.fd_, SOL_SOCKET, SO_RCVBUFFORCE, static_cast<int>(spec.receive_buffer));
  }
  if (::bind(socket.fd_, address->get(), address->length) != 0) {
    const int error = errno;
    const std::string_view fix = error == EADDRINUSE ? "; another process listens there"
                                 : error == EACCES && spec.port != 0 && spec.port < 1024
                                     ? "; a port below 1024 needs CAP_NET_BIND_SERVICE"
                                 : error == EADDRNOTAVAIL ? "; this machine does not have the address"
                                 : error == ENOENT        ? "; its directory must be there"
                                                          : "";
    errno = error;
    return failed(fix);
  }
  if (is_unix(spec)) {
    socket.path_ = spec.address;
    socket.where_ = spec.text;
    struct stat status {};
    // Its rights are set before it listens: nobody can have connected.
    if (::chmod(spec.address.c_str(), spec.mode) != 0 || ::lstat(spec.address.c_str(), &status) != 0)
      return failed();
    socket.device_ = status.st_dev;
    socket.inode_ = status.st_ino;
  } else {
    Address bound;
    bound.length = sizeof bound.storage;
    if (::getsockname(socket.fd_, bound.get(), &bound.length) != 0) return failed();
    sockaddr_in port{};  // sockaddr_in6 has it at the same place
    std::memcpy(&port, &bound.storage, sizeof port);
    socket.where_ = spec.text.substr(0, spec.text.rfind(':') + 1) + std::to_string(ntohs(port.sin_port));
  }
  if (!is_datagram(spec) && ::listen(socket.fd_, kBacklog) != 0) return failed();
  return socket;
}

ListeningSocket::ListeningSocket(ListeningSocket&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      where_(std::move(other.where_)),
      path_(std::exchange(other.path_, {})),
      device_(other.device_),
      inode_(other.inode_) {}

ListeningSocket::~ListeningSocket() {
  // Only what is still ours.
  if (!path_.empty() && is_reachable()) ::unlink(path_.c_str());
  if (fd_ >= 0) ::close(fd_);
}

bool ListeningSocket::is_reachable() const {
  if (path_.empty()) return true;
  struct stat status {};
  return ::lstat(path_.c_str(), &status) == 0 && status.st_dev == device_ && status.st_ino == inode_;
}

// --- DatagramSource

DatagramSource::DatagramSource(const StreamSpec& spec, ListeningSocket socket)
    : socket_(std::move(socket)), is_udp_(spec.kind == StreamSpec::Kind::kUdp) {}

Result<ReadStatus> DatagramSource::read(std::size_t limit, const SplitRules& rules, ReadBuffer& buffer,
                                        Chunk& into) {
  into = {};
  buffer.scratch.clear();
  ReadStatus status;
  const std::size_t longest = std::min(rules.max_line_bytes, kMaxDatagramBytes);
  const std::size_t slot = longest + 4;  // to see where the last character ends
  if (buffer.raw.size() < slot * kDatagramsAtOnce) buffer.raw.resize(slot * kDatagramsAtOnce);
  std::array<mmsghdr, kDatagramsAtOnce> messages{};
  std::array<iovec, kDatagramsAtOnce> parts{};
  struct alignas(cmsghdr) Control {
    std::array<char, CMSG_SPACE(sizeof(std::uint32_t))> bytes;
  };
  std::array<Control, kDatagramsAtOnce> control{};
  while (status.bytes < limit) {
    for (std::size_t i = 0; i < kDatagramsAtOnce; ++i) {
      parts[i] = {buffer.raw.data() + i * slot, slot};
      messages[i].msg_hdr = {};
      messages[i].msg_hdr.msg_iov = &parts[i];
      messages[i].msg_hdr.msg_iovlen = 1;
      messages[i].msg_hdr.msg_control = control[i].bytes.data();
      messages[i].msg_hdr.msg_controllen = control[i].bytes.size();
    }
    const int got = ::recvmmsg(socket_.fd(), messages.data(), kDatagramsAtOnce, MSG_DONTWAIT, nullptr);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
      status.at_end = true;
      break;
    }
    // An answer to nothing that we sent; what waits is still there.
    if (got < 0 && errno == ECONNREFUSED) continue;
    if (got < 0) return fail(ErrorCode::kIo, fmt::format("receive: {}", rules::errno_text(errno)));
    for (int i = 0; i < got; ++i) {
      const mmsghdr& message = messages[static_cast<std::size_t>(i)];
      for (const cmsghdr* info = CMSG_FIRSTHDR(&message.msg_hdr); info != nullptr;
           info = CMSG_NXTHDR(const_cast<msghdr*>(&message.msg_hdr), const_cast<cmsghdr*>(info))) {
        if (info->cmsg_level != SOL_SOCKET || info->cmsg_type != SO_RXQ_OVFL) continue;
        std::uint32_t drops = 0;
        std::memcpy(&drops, CMSG_DATA(info), sizeof drops);
        saw_drops(drops);
      }
      std::string_view datagram(buffer.raw.data() + static_cast<std::size_t>(i) * slot, message.msg_len);
      const bool truncated = (message.msg_hdr.msg_flags & MSG_TRUNC) != 0 || datagram.size() > longest;
      datagram = cut_utf8(datagram, longest);
      status.bytes += datagram.size();
      if (!append_record(datagram, buffer.scratch)) continue;
      ++into.lines;
      if (!truncated) continue;
      ++into.truncated;
      ++new_truncated_;
    }
  }
  if (status.at_end && is_udp_) {
    // Those that were dropped behind the last one that fitted.
    std::array<std::uint32_t, SK_MEMINFO_VARS> memory{};
    socklen_t size = sizeof memory;
    if (::getsockopt(socket_.fd(), SOL_SOCKET, SO_MEMINFO, memory.data(), &size) == 0 &&
        size > SK_MEMINFO_DROPS * sizeof(std::uint32_t))
      saw_drops(memory[SK_MEMINFO_DROPS]);
  }
  into.block = buffer.scratch;
  offset_ += status.bytes;
  status.grew = status.bytes > 0;
  return status;
}

// The kernel's count wraps around; one that was read before another may be told after it.
void DatagramSource::saw_drops(std::uint32_t since_opened) {
  const std::uint32_t more = since_opened - drops_;
  if (more == 0 || more > UINT32_MAX / 2) return;
  drops_ = since_opened;
  new_drops_ += more;
}

StreamLook DatagramSource::look(Instant /*now*/) {
  pollfd ready{socket_.fd(), POLLIN, 0};
  return {.ready = ::poll(&ready, 1, 0) != 0};
}

StreamNews DatagramSource::take_news() {
  StreamNews news;
  if (const std::uint64_t drops = std::exchange(new_drops_, 0); drops > 0) {
    news.counts.push_back({"logbell_source_datagrams_dropped_total", {}, {}, static_cast<double>(drops)});
    news.warnings.push_back(fmt::format(
        "{} datagrams came faster than they were read and were dropped. `receive_buffer:` (and the system's "
        "net.core.rmem_max) holds more of them; TCP loses none.",
        drops));
    news.gap = "datagrams_dropped";
  }
  if (const std::uint64_t truncated = std::exchange(new_truncated_, 0); truncated > 0)
    news.counts.push_back(
        {"logbell_source_datagrams_truncated_total", {}, {}, static_cast<double>(truncated)});
  return news;
}

// --- ConnectionSource

Result<std::unique_ptr<ConnectionSource>> ConnectionSource::make(const StreamSpec& spec,
                                                                 ListeningSocket socket,
                                                                 ConnectionRoom* room) {
  const int epoll = ::epoll_create1(EPOLL_CLOEXEC);
  if (epoll < 0)
    return fail(ErrorCode::kUnavailable,
                fmt::format("listen at {}: {}", spec.text, rules::errno_text(errno)));
  std::unique_ptr<ConnectionSource> source(new ConnectionSource(spec, std::move(socket), epoll, room));
  source->listen_again(true);
  return source;
}

ConnectionSource::ConnectionSource(const StreamSpec& spec, ListeningSocket socket, int epoll,
                                   ConnectionRoom* room)
    : spec_(spec), socket_(std::move(socket)), epoll_(epoll), room_(room) {}

ConnectionSource::~ConnectionSource() {
  for (const auto& [fd, connection] : connections_)
    ::close(fd);
  if (room_ != nullptr) room_->open -= connections_.size();
  ::close(epoll_);
}

// Level-triggered: a listening socket that cannot be accepted from would wake us at once, again and again.
void ConnectionSource::listen_again(bool again) {
  epoll_event event{};
  event.events = again ? EPOLLIN : 0U;
  event.data.fd = socket_.fd();
  if (::epoll_ctl(epoll_, EPOLL_CTL_MOD, socket_.fd(), &event) != 0)
    LOGBELL_CHECK(::epoll_ctl(epoll_, EPOLL_CTL_ADD, socket_.fd(), &event) == 0);
  accepting_ = again;
}

void ConnectionSource::warn(Instant& last, std::string text) {
  if (last != Instant::min() && now_ < last + kWarnEvery) return;
  last = now_;
  warnings_.push_back(std::move(text));
}

void ConnectionSource::accept_later(std::string_view why) {
  ++refused_descriptors_;
  warn(warned_descriptors_, fmt::format("A connection waits: {}.", why));
  listen_again(false);
  accept_at_ = now_ + kAcceptPause;
}

void ConnectionSource::accept_all(std::size_t max_line_bytes) {
  for (int i = 0; i < kAcceptsAtOnce; ++i) {
    // One beyond its source's own bound is accepted to be closed.
    if (room_ != nullptr && room_->open >= room_->most && connections_.size() < spec_.max_connections) {
      pollfd waiting{socket_.fd(), POLLIN, 0};
      if (::poll(&waiting, 1, 0) > 0)
        accept_later(
            fmt::format("{} are open, and more need a higher limit (LimitNOFILE=, ulimit -Hn)", room_->open));
      return;
    }
    Address peer;
    peer.length = sizeof peer.storage;
    const int fd = ::accept4(socket_.fd(), peer.get(), &peer.length, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
      if (errno == EINTR) continue;
      if (errno != EMFILE && errno != ENFILE && errno != ENOBUFS && errno != ENOMEM) return;
      return accept_later(rules::errno_text(errno));
    }
    if (connections_.size() >= spec_.max_connections) {
      ++refused_full_;
      warn(warned_full_, fmt::format("{} was refused: there are {} connections already (`max_connections:`).",
                                     peer_name(peer), connections_.size()));
      ::close(fd);
      continue;
    }
    epoll_event event{};
    event.events = EPOLLIN | EPOLLRDHUP;
    event.data.fd = fd;
    if (::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) != 0) {
      ++refused_descriptors_;
      ::close(fd);
      continue;
    }
    if (spec_.kind == StreamSpec::Kind::kTcp) {
      // A sender that is gone without a word is noticed after two minutes.
      set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
      set(fd, IPPROTO_TCP, TCP_KEEPIDLE, 60);
      set(fd, IPPROTO_TCP, TCP_KEEPINTVL, 10);
      set(fd, IPPROTO_TCP, TCP_KEEPCNT, 6);
    }
    ++opened_;
    if (room_ != nullptr) ++room_->open;
    connections_.emplace(
        fd, Connection{SyslogFraming(frames_of(spec_), max_line_bytes), peer_name(peer), now_, now_});
    if (spec_.idle_timeout > rules::Duration{0}) check_at_ = std::min(check_at_, now_ + spec_.idle_timeout);
  }
}

void ConnectionSource::close(int fd, Closed why, std::string& out) {
  const auto found = connections_.find(fd);
  held_ -= found->second.framing.held();
  found->second.framing.finish(out, counts_);
  connections_.erase(found);
  if (room_ != nullptr) --room_->open;
  ++closed_[static_cast<std::size_t>(why)];
  ::close(fd);
}

void ConnectionSource::receive(int fd, ReadBuffer& buffer, ReadStatus& status) {
  const auto found = connections_.find(fd);
  if (found == connections_.end()) return;
  Connection& connection = found->second;
  const ssize_t got = ::recv(fd, buffer.raw.data(), kReadBytes, MSG_DONTWAIT);
  if (got < 0 && (errno == EINTR || errno == EAGAIN || errno == EWOULDBLOCK)) return;
  if (got <= 0) return close(fd, got == 0 ? Closed::kEnded : Closed::kFailed, buffer.scratch);
  const std::string_view bytes(buffer.raw.data(), static_cast<std::size_t>(got));
  status.bytes += bytes.size();
  connection.heard_at = now_;
  const SyslogFraming::Counts before = counts_;
  const bool was_within = connection.framing.within_record();
  held_ -= connection.framing.held();
  connection.framing.take(bytes, buffer.scratch, counts_);
  held_ += connection.framing.held();
  if (connection.framing.within_record()) {
    if (!was_within || counts_.records > before.records) connection.record_at = now_;
    check_at_ = std::min(check_at_, connection.record_at + kRecordTimeout);
  }
  if (counts_.broken > before.broken)
    warn(warned_broken_,
         fmt::format(
             "What {} sends is not framed as it began: an octet count is missing or wrong. It is read line "
             "by line there.",
             connection.peer));
  if (held_ <= kMaxHeldBytes) return;
  warn(warned_memory_,
       fmt::format("{} was closed in the middle of a record: connections hold {} bytes of unfinished "
                   "records already.",
                   connection.peer, held_));
  close(fd, Closed::kMemory, buffer.scratch);
}

// Records that do not end, and connections that say nothing, if they may not.
void ConnectionSource::close_stale(std::string& out) {
  if (now_ < check_at_) return;
  check_at_ = Instant::max();
  for (auto it = connections_.begin(); it != connections_.end();) {
    const int fd = it->first;
    Connection& connection = it->second;
    ++it;
    if (spec_.idle_timeout > rules::Duration{0}) {
      const Instant idle_at = connection.heard_at + spec_.idle_timeout;
      if (now_ >= idle_at) {
        close(fd, Closed::kIdle, out);
        continue;
      }
      check_at_ = std::min(check_at_, idle_at);
    }
    if (!connection.framing.within_record()) continue;
    if (now_ < connection.record_at + kRecordTimeout) {
      check_at_ = std::min(check_at_, connection.record_at + kRecordTimeout);
      continue;
    }
    held_ -= connection.framing.held();
    connection.framing.finish(out, counts_);
    if (connection.framing.is_lost()) close(fd, Closed::kSlow, out);
  }
}

Result<ReadStatus> ConnectionSource::read(std::size_t limit, const SplitRules& rules, ReadBuffer& buffer,
                                          Chunk& into) {
  into = {};
  buffer.scratch.clear();
  if (buffer.raw.size() < kReadBytes) buffer.raw.resize(kReadBytes);
  ReadStatus status;
  const SyslogFraming::Counts before = counts_;
  std::array<epoll_event, 64> events{};
  // Whoever connects again and again sends no bytes: others have their turn too.
  for (int passes = 0; passes < kPassesAtOnce && status.bytes < limit; ++passes) {
    const int ready = ::epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), 0);
    if (ready < 0 && errno == EINTR) continue;
    if (ready < 0) return fail(ErrorCode::kIo, fmt::format("wait: {}", rules::errno_text(errno)));
    if (ready == 0) {
      status.at_end = true;
      break;
    }
    for (int i = 0; i < ready; ++i) {
      const int fd = events[static_cast<std::size_t>(i)].data.fd;
      if (fd == socket_.fd()) {
        accept_all(rules.max_line_bytes);
      } else {
        receive(fd, buffer, status);
      }
    }
  }
  close_stale(buffer.scratch);  // those whose time is over although all that came was read
  into.block = buffer.scratch;
  into.lines = counts_.records - before.records;
  into.truncated = counts_.truncated - before.truncated;
  offset_ += status.bytes;
  status.grew = status.bytes > 0;
  return status;
}

StreamLook ConnectionSource::look(Instant now) {
  now_ = now;
  if (!accepting_ && now_ >= accept_at_) listen_again(true);
  StreamLook look;
  pollfd ready{epoll_, POLLIN, 0};
  look.ready = now_ >= check_at_ || ::poll(&ready, 1, 0) != 0;
  look.again = accepting_ ? check_at_ : std::min(check_at_, accept_at_);
  return look;
}

StreamNews ConnectionSource::take_news() {
  StreamNews news;
  const auto add = [&news](std::string_view name, std::string_view label, std::string_view value,
                           std::uint64_t& by) {
    if (by > 0) news.counts.push_back({name, label, value, static_cast<double>(by)});
    by = 0;
  };
  std::uint64_t broken = counts_.broken - told_.broken;
  std::uint64_t partial = counts_.partial - told_.partial;
  told_ = counts_;
  add("logbell_source_frames_broken_total", {}, {}, broken);
  add("logbell_source_partial_flushed_total", {}, {}, partial);
  add("logbell_source_connections_total", {}, {}, opened_);
  add("logbell_source_connections_refused_total", "reason", "max_connections", refused_full_);
  add("logbell_source_connections_refused_total", "reason", "no_descriptor", refused_descriptors_);
  static constexpr std::array<std::string_view, kClosedReasons> kReasons{"ended", "failed", "idle", "slow",
                                                                         "memory"};
  for (std::size_t i = 0; i < kClosedReasons; ++i)
    add("logbell_source_connections_closed_total", "reason", kReasons[i], closed_[i]);
  news.warnings = std::exchange(warnings_, {});
  return news;
}

}  // namespace logbell::engine

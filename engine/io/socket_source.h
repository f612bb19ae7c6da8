// Sockets that listen: DatagramSource (UDP, unix datagram) and ConnectionSource (TCP, unix stream).
//
// Owned by the reader thread. Never blocks. Nothing is held but the record that a connection is in the middle
// of: what is not read yet waits in the kernel, and there what does not fit any more is dropped (UDP) or
// holds its writer (all others).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "engine/io/source.h"
#include "engine/io/syslog.h"
#include "rules/plan.h"
#include "rules/result.h"

namespace logbell::engine {

// How many connections all sources may have, and have. Owned by the reader thread.
struct ConnectionRoom {
  std::size_t most = 0;
  std::size_t open = 0;
};

// Opens what `spec` (kUdp, kTcp, kUnixDatagram, kUnixStream) says. A unix socket's file that nobody listens
// behind any more is replaced if it is ours; anybody else's, or another kind of file, is refused.
// `room`: of all of them, must outlive the source; null: connections come as long as there are descriptors.
rules::Result<std::unique_ptr<Source>> open_socket(const rules::StreamSpec& spec,
                                                   ConnectionRoom* room = nullptr);

// A socket of ours that listens, and its file if it has one.
class ListeningSocket {
 public:
  static rules::Result<ListeningSocket> open(const rules::StreamSpec& spec);
  ListeningSocket(ListeningSocket&& other) noexcept;
  ListeningSocket& operator=(ListeningSocket&&) = delete;
  ~ListeningSocket();

  int fd() const { return fd_; }
  const std::string& where() const { return where_; }  // as it is written under `listen:`
  bool is_reachable() const;

 private:
  ListeningSocket() = default;

  int fd_ = -1;
  std::string where_;
  std::string path_;
  std::uint64_t device_ = 0;
  std::uint64_t inode_ = 0;
};

// Each datagram is a record.
class DatagramSource final : public Source {
 public:
  // Longer ones are cut, and counted: 64 KiB are UDP's own bound, and more than any syslog sender's.
  static constexpr std::size_t kMaxDatagramBytes = 64 * 1024;
  static constexpr std::size_t kDatagramsAtOnce = 16;

  DatagramSource(const rules::StreamSpec& spec, ListeningSocket socket);

  rules::Result<ReadStatus> read(std::size_t limit, const SplitRules& rules, ReadBuffer& buffer,
                                 Chunk& into) override;
  std::uint64_t offset() const override { return offset_; }
  std::uint64_t known_size() const override { return offset_; }
  std::uint64_t pending() const override { return 0; }
  bool pending_is_evaluated() const override { return true; }
  int wake_fd() const override { return socket_.fd(); }
  StreamLook look(rules::Instant now) override;
  StreamNews take_news() override;
  bool is_reachable() const override { return socket_.is_reachable(); }
  std::string where() const override { return socket_.where(); }

 private:
  void saw_drops(std::uint32_t since_opened);

  ListeningSocket socket_;
  bool is_udp_;
  std::uint64_t offset_ = 0;
  std::uint32_t drops_ = 0;  // as the kernel counts them, since the socket was opened
  std::uint64_t new_drops_ = 0;
  std::uint64_t new_truncated_ = 0;
};

// Each connection is a stream of records (RFC 6587).
class ConnectionSource final : public Source {
 public:
  // A record that has begun must end within it: a writer that dies, or means harm, holds memory no longer.
  // What came of it counts.
  static constexpr rules::Duration kRecordTimeout{std::chrono::seconds(60)};
  // Of records that have begun, over all connections: 256 connections with 64 KiB each.
  static constexpr std::size_t kMaxHeldBytes = 16 * 1024 * 1024;
  static constexpr std::size_t kReadBytes = 64 * 1024;  // of one connection, before the next has its turn
  static constexpr rules::Duration kAcceptPause{std::chrono::seconds(1)};  // when there is no descriptor left
  static constexpr rules::Duration kWarnEvery{std::chrono::minutes(1)};    // of each kind

  // kUnavailable: no descriptor is left.
  static rules::Result<std::unique_ptr<ConnectionSource>> make(const rules::StreamSpec& spec,
                                                               ListeningSocket socket, ConnectionRoom* room);
  ~ConnectionSource() override;
  ConnectionSource(const ConnectionSource&) = delete;
  ConnectionSource& operator=(const ConnectionSource&) = delete;

  rules::Result<ReadStatus> read(std::size_t limit, const SplitRules& rules, ReadBuffer& buffer,
                                 Chunk& into) override;
  std::uint64_t offset() const override { return offset_; }
  std::uint64_t known_size() const override { return offset_; }
  std::uint64_t pending() const override { return 0; }  // each connection has a timeout of its own
  bool pending_is_evaluated() const override { return true; }
  int wake_fd() const override { return epoll_; }
  StreamLook look(rules::Instant now) override;
  StreamNews take_news() override;
  bool is_reachable() const override { return socket_.is_reachable(); }
  std::string where() const override { return socket_.where(); }
  std::size_t connections() const { return connections_.size(); }

 private:
  struct Connection {
    SyslogFraming framing;
    std::string peer;
    rules::Instant heard_at;   // of the last byte
    rules::Instant record_at;  // when the record began that it is in the middle of
  };
  enum class Closed { kEnded, kFailed, kIdle, kSlow, kMemory };
  static constexpr std::size_t kClosedReasons = 5;

  ConnectionSource(const rules::StreamSpec& spec, ListeningSocket socket, int epoll, ConnectionRoom* room);
  void accept_later(std::string_view why);
  void accept_all(std::size_t max_line_bytes);
  void listen_again(bool again);
  void receive(int fd, ReadBuffer& buffer, ReadStatus& status);
  void close_stale(std::string& out);
  void close(int fd, Closed why, std::string& out);
  void warn(rules::Instant& last, std::string text);

  rules::StreamSpec spec_;
  ListeningSocket socket_;
  int epoll_;
  ConnectionRoom* room_;
  std::map<int, Connection> connections_;
  std::size_t held_ = 0;
  std::uint64_t offset_ = 0;
  rules::Instant now_;
  rules::Instant check_at_ = rules::Instant::max();  // a connection may be stale then
  rules::Instant accept_at_ = rules::Instant::min();
  bool accepting_ = true;
  SyslogFraming::Counts counts_;
  SyslogFraming::Counts told_;
  std::uint64_t opened_ = 0;
  std::uint64_t refused_full_ = 0;
  std::uint64_t refused_descriptors_ = 0;
  std::uint64_t closed_[kClosedReasons] = {};
  rules::Instant warned_full_ = rules::Instant::min();
  rules::Instant warned_descriptors_ = rules::Instant::min();
  rules::Instant warned_broken_ = rules::Instant::min();
  rules::Instant warned_memory_ = rules::Instant::min();
  std::vector<std::string> warnings_;
};

}  // namespace logbell::engine

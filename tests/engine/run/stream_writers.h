// Who writes to what logbell reads and is no file: a sender to a socket, an entry of systemd's journal.
#pragma once

#include <array>
#include <string>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "tests/engine/run/reader_world.h"

namespace logbell::tests {

class Sender {
 public:
  // `address` is the path of a unix socket, or ends with ":PORT", of 127.0.0.1.
  Sender(rules::StreamSpec::Kind kind, const std::string& address) {
    using Kind = rules::StreamSpec::Kind;
    const bool datagrams = kind == Kind::kUdp || kind == Kind::kUnixDatagram;
    const bool is_unix = kind == Kind::kUnixStream || kind == Kind::kUnixDatagram;
    fd_ = ::socket(is_unix ? AF_UNIX : AF_INET, (datagrams ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);
    REQUIRE(fd_ >= 0);
    if (is_unix) {
      sockaddr_un to{};
      to.sun_family = AF_UNIX;
      address.copy(to.sun_path, sizeof to.sun_path - 1);
      connected_ = ::connect(fd_, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0;
    } else {
      sockaddr_in to{};
      to.sin_family = AF_INET;
      to.sin_port = htons(static_cast<std::uint16_t>(std::stoi(address.substr(address.rfind(':') + 1))));
      ::inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
      connected_ = ::connect(fd_, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0;
    }
  }
  ~Sender() { close(); }
  Sender(const Sender&) = delete;
  Sender& operator=(const Sender&) = delete;

  bool connected() const { return connected_; }
  bool send(const std::string& text) const {
    return ::send(fd_, text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT) ==
           static_cast<ssize_t>(text.size());
  }
  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }
  void reset() {
    const linger now{1, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close();
  }
  bool is_closed_by_peer() const {
    char byte = 0;
    return ::recv(fd_, &byte, 1, MSG_DONTWAIT) == 0 || errno == ECONNRESET;
  }

 private:
  int fd_ = -1;
  bool connected_ = false;
};

// Entries in the form of `journalctl -o export`, appended to a file of a journal by systemd's own tool.
inline void write_journal(const LogDir& dir, const std::string& file, const std::string& exported) {
  constexpr const char* kRemote = "/lib/systemd/systemd-journal-remote";
  dir.write("export", exported);
  const std::string from = dir.path("export");
  const std::array<const char*, 6> command{kRemote,      "-o",   file.c_str(), "--split-mode=none",
                                           from.c_str(), nullptr};
  pid_t child = 0;
  posix_spawn_file_actions_t quiet{};
  posix_spawn_file_actions_init(&quiet);
  posix_spawn_file_actions_addopen(&quiet, 2, "/dev/null", O_WRONLY, 0);
  REQUIRE(::posix_spawn(&child, kRemote, &quiet, nullptr, const_cast<char* const*>(command.data()),
                        environ) == 0);
  posix_spawn_file_actions_destroy(&quiet);
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(status == 0);
}

}  // namespace logbell::tests

// What a supervisor reads at the socket that $NOTIFY_SOCKET names.
#include "engine/io/service_manager.h"

#include <array>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <vector>

#include <catch2/catch.hpp>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

namespace logbell::engine {
namespace {

using namespace std::chrono_literals;
using rules::Instant;
using Messages = std::vector<std::string>;

// The supervisor's end.
class Supervisor {
 public:
  // `name`: a path, or "@name".
  explicit Supervisor(const std::string& name) : name_(name) {
    fd_ = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    REQUIRE(fd_ >= 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, name.data(), name.size());
    if (name.front() == '@') address.sun_path[0] = '\0';
    REQUIRE(::bind(fd_, reinterpret_cast<const sockaddr*>(&address),
                   static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size())) == 0);
  }
  ~Supervisor() {
    ::close(fd_);
    if (name_.front() == '/') ::unlink(name_.c_str());
  }
  Supervisor(const Supervisor&) = delete;
  Supervisor& operator=(const Supervisor&) = delete;

  // What has come since the last time: the first line of each message, which are what it acts on.
  Messages read() {
    Messages all;
    std::array<char, 4096> buffer{};
    for (;;) {
      const ssize_t got = ::recv(fd_, buffer.data(), buffer.size(), 0);
      if (got < 0) return all;
      last_ = std::string(buffer.data(), static_cast<std::size_t>(got));
      all.push_back(last_.substr(0, last_.find('\n')));
    }
  }
  const std::string& last() const { return last_; }

 private:
  std::string name_;
  int fd_ = -1;
  std::string last_;
};

std::string a_path() {
  static int count = 0;
  return (std::filesystem::temp_directory_path() /
          ("logbell-notify-" + std::to_string(::getpid()) + "-" + std::to_string(++count)))
      .string();
}

Instant at(std::chrono::milliseconds since) {
  return Instant(since + 1h);
}

TEST_CASE("service_manager: a start asks for patience, then is ready, once", "[io][service]") {
  for (const std::string& name : {a_path(), "@" + a_path()}) {
    Supervisor supervisor(name);
    ServiceManager manager(name);
    CHECK(manager.next(at(0s)) == at(0s));
    manager.look(at(0s), false, true);
    CHECK(supervisor.read() == Messages{"EXTEND_TIMEOUT_USEC=60000000"});
    CHECK(manager.next(at(0s)) == at(10s));
    manager.look(at(5s), false, true);
    CHECK(supervisor.read().empty());
    manager.look(at(10s), false, true);
    CHECK(supervisor.read() == Messages{"EXTEND_TIMEOUT_USEC=60000000"});
    // A start that hangs gets no more of it.
    manager.look(at(20s), false, false);
    CHECK(supervisor.read().empty());
    CHECK(manager.next(at(20s)) == at(30s));
    manager.look(at(21s), true, true);
    CHECK(supervisor.read() == Messages{"READY=1"});
    manager.look(at(60s), true, true);
    CHECK(supervisor.read().empty());
    CHECK(manager.next(at(60s)) == Instant::max());
    manager.stopping();
    CHECK(supervisor.read() == Messages{"STOPPING=1"});
  }
}

TEST_CASE("service_manager: a reload has a beginning and an end", "[io][service]") {
  Supervisor supervisor(a_path());
  const std::string path = a_path();
  Supervisor other(path);
  ServiceManager manager(path);
  manager.reloading(123);  // nothing that was ready
  CHECK(other.read().empty());
  manager.look(at(0s), true, true);
  other.read();
  manager.reloading(123456789);
  CHECK(other.read() == Messages{"RELOADING=1"});
  CHECK(other.last().find("\nMONOTONIC_USEC=123456789\n") != std::string::npos);
  manager.look(at(1s), false, true);
  CHECK(other.read().empty());
  manager.look(at(2s), true, true);
  CHECK(other.read() == Messages{"READY=1"});
  CHECK(supervisor.read().empty());
}

TEST_CASE("service_manager: signs of life only while the loops get on", "[io][service][F54]") {
  const std::string path = a_path();
  Supervisor supervisor(path);
  ServiceManager manager(path, 30s);
  manager.look(at(0s), true, true);
  CHECK(supervisor.read() == Messages{"READY=1", "WATCHDOG=1"});
  CHECK(manager.next(at(0s)) == at(10s));
  manager.look(at(9999ms), true, true);
  CHECK(supervisor.read().empty());
  manager.look(at(10s), true, true);
  CHECK(supervisor.read() == Messages{"WATCHDOG=1"});
  manager.look(at(20s), true, false);
  CHECK(supervisor.read().empty());
  CHECK(manager.next(at(20s)) == at(30s));  // and the main thread does not spin
  manager.look(at(30s), true, true);
  CHECK(supervisor.read() == Messages{"WATCHDOG=1"});
}

TEST_CASE("service_manager: who is not there, or does not read, holds nobody up", "[io][service]") {
  ServiceManager nobody;
  CHECK_FALSE(nobody.listens());
  CHECK(nobody.next(at(0s)) == Instant::max());
  nobody.look(at(0s), true, true);
  nobody.stopping();
  for (const std::string& name : {std::string("relative/path"), std::string("/"), std::string(300, '/'),
                                  std::string("vsock:2:1234"), a_path()}) {
    ServiceManager manager(name, 3s);
    manager.look(at(0s), true, true);
    CHECK(manager.next(at(0s)) > at(0s));
  }
  // A full queue: READY is said again once there is room.
  const std::string path = a_path();
  Supervisor supervisor(path);
  ServiceManager manager(path, 3s);
  manager.look(at(0s), false, true);
  for (int i = 1; i < 2000; ++i)
    manager.look(at(i * 1s), false, true);
  manager.look(at(2000s), true, true);
  CHECK(supervisor.read().back() == "WATCHDOG=1");
  manager.look(at(2001s), true, true);
  CHECK(supervisor.read() == Messages{"READY=1", "WATCHDOG=1"});
}

TEST_CASE("service_manager: the environment says where and how often", "[io][service]") {
  const std::string path = a_path();
  Supervisor supervisor(path);
  const auto set = [](const char* name, const std::string& value) { ::setenv(name, value.c_str(), 1); };
  set("NOTIFY_SOCKET", path);
  set("WATCHDOG_USEC", "6000000");
  ::unsetenv("WATCHDOG_PID");
  CHECK(ServiceManager::of_environment().next(at(0s)) == at(0s));
  ServiceManager mine = ServiceManager::of_environment();
  mine.look(at(0s), true, true);
  CHECK(mine.next(at(0s)) == at(2s));
  set("WATCHDOG_PID", std::to_string(::getpid()));
  mine = ServiceManager::of_environment();
  mine.look(at(0s), true, true);
  CHECK(mine.next(at(0s)) == at(2s));
  set("WATCHDOG_PID", std::to_string(::getpid() + 1));  // that of a shell around it
  mine = ServiceManager::of_environment();
  mine.look(at(0s), true, true);
  CHECK(mine.next(at(0s)) == Instant::max());
  ::unsetenv("NOTIFY_SOCKET");
  CHECK_FALSE(ServiceManager::of_environment().listens());
  ::unsetenv("WATCHDOG_USEC");
  ::unsetenv("WATCHDOG_PID");
}

}  // namespace
}  // namespace logbell::engine

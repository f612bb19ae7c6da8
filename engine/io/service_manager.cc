#include "engine/io/service_manager.h"

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <utility>

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

namespace logbell::engine {

using rules::Duration;
using rules::Instant;

namespace {

std::string variable(const char* name) {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nothing in this process changes the environment
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

std::optional<std::int64_t> number(const std::string& text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value <= 0) return std::nullopt;
  return value;
}

}  // namespace

// sd_watchdog_enabled(3) advises twice within the manager's patience; one more, for one may be lost.
ServiceManager::ServiceManager(std::string socket, std::optional<Duration> watchdog)
    : socket_(std::move(socket)) {
  if (!socket_.empty() && watchdog) every_ = std::max(*watchdog / 3, Duration(1));
}

ServiceManager ServiceManager::of_environment() {
  std::optional<Duration> watchdog;
  const std::optional<std::int64_t> pid = number(variable("WATCHDOG_PID"));
  if (const auto us = number(variable("WATCHDOG_USEC")); us && (!pid || *pid == ::getpid()))
    watchdog = std::chrono::floor<Duration>(std::chrono::microseconds(*us));
  return ServiceManager(variable("NOTIFY_SOCKET"), watchdog);
}

void ServiceManager::look(Instant now, bool ready, bool gets_on) {
  if (!listens()) return;
  if (ready && !ready_) {
    ready_ = tell("READY=1\nSTATUS=Watching.\n");
    was_ready_ = was_ready_ || ready_;
  }
  if (!was_ready_ && (!extend_at_ || now >= *extend_at_)) {
    extend_at_ = now + kExtendEvery;
    if (gets_on && !ready)
      tell(fmt::format("EXTEND_TIMEOUT_USEC={}\nSTATUS=Reading what is written.\n",
                       std::chrono::microseconds(kExtendBy).count()));
  }
  if (every_ && (!alive_at_ || now >= *alive_at_)) {
    alive_at_ = now + *every_;
    if (gets_on) tell("WATCHDOG=1\n");
  }
}

Instant ServiceManager::next(Instant now) const {
  if (!listens()) return Instant::max();
  const Instant extend = was_ready_ ? Instant::max() : extend_at_.value_or(now);
  return every_ ? std::min(extend, alive_at_.value_or(now)) : extend;
}

void ServiceManager::reloading(std::int64_t monotonic_us) {
  if (!listens() || !was_ready_) return;
  tell(fmt::format("RELOADING=1\nMONOTONIC_USEC={}\nSTATUS=Reading the configuration.\n", monotonic_us));
  ready_ = false;
}

void ServiceManager::stopping() {
  if (listens()) tell("STOPPING=1\nSTATUS=Stopping.\n");
}

bool ServiceManager::tell(std::string_view assignments) const {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const bool usable = (socket_.front() == '/' || socket_.front() == '@') && socket_.size() > 1 &&
                      socket_.size() < sizeof address.sun_path;
  if (!usable) return false;
  std::memcpy(address.sun_path, socket_.data(), socket_.size());
  if (socket_.front() == '@') address.sun_path[0] = '\0';
  const int fd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + socket_.size());
  const ssize_t sent =
      ::sendto(fd, assignments.data(), assignments.size(), MSG_DONTWAIT | MSG_NOSIGNAL,
               // NOLINTNEXTLINE(cppcoreguidelines-pro-type-reinterpret-cast): the sockets' interface
               reinterpret_cast<const sockaddr*>(&address), length);
  ::close(fd);
  return sent == static_cast<ssize_t>(assignments.size());
}

}  // namespace logbell::engine

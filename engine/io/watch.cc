#include "engine/io/watch.h"

#include <array>
#include <cerrno>
#include <cstring>

#include <fmt/format.h>
#include <sys/inotify.h>
#include <unistd.h>

namespace logbell::engine {

FileWatch::FileWatch(bool enabled) {
  if (enabled) fd_ = ::inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
}

FileWatch::~FileWatch() {
  if (fd_ >= 0) ::close(fd_);
}

std::optional<FileWatch::Id> FileWatch::watch_directory(const std::string& path) {
  if (fd_ < 0) return std::nullopt;
  const int id = ::inotify_add_watch(fd_, path.c_str(),
                                     IN_CREATE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE | IN_ATTRIB |
                                         IN_MOVE_SELF | IN_DELETE_SELF | IN_ONLYDIR);
  return id < 0 ? std::nullopt : std::optional<Id>(id);
}

std::optional<FileWatch::Id> FileWatch::watch_file(int file_descriptor) {
  if (fd_ < 0) return std::nullopt;
  // Through /proc the open file itself is meant: its name may lead elsewhere by now.
  const std::string path = fmt::format("/proc/self/fd/{}", file_descriptor);
  const int id = ::inotify_add_watch(fd_, path.c_str(), IN_MODIFY | IN_ATTRIB | IN_MOVE_SELF | IN_DELETE_SELF);
  return id < 0 ? std::nullopt : std::optional<Id>(id);
}

void FileWatch::forget(Id watch) {
  if (fd_ >= 0) static_cast<void>(::inotify_rm_watch(fd_, watch));
}

bool FileWatch::take(const std::function<void(const Event&)>& each) const {
  bool complete = true;
  alignas(inotify_event) std::array<char, 64 * 1024> buffer;
  while (fd_ >= 0) {
    const ssize_t got = ::read(fd_, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    for (std::size_t at = 0; at < static_cast<std::size_t>(got);) {
      inotify_event raw{};
      std::memcpy(&raw, buffer.data() + at, sizeof raw);
      const char* name = buffer.data() + at + sizeof raw;
      at += sizeof raw + raw.len;
      if ((raw.mask & IN_Q_OVERFLOW) != 0) {
        complete = false;
        continue;
      }
      Event event;
      event.watch = raw.wd;
      event.in_directory = raw.len > 0;
      event.written = raw.len == 0 && (raw.mask & IN_MODIFY) != 0;
      event.moved = raw.len == 0 && (raw.mask & (IN_ATTRIB | IN_MOVE_SELF | IN_DELETE_SELF)) != 0;
      event.gone = (raw.mask & IN_IGNORED) != 0;
      if (raw.len > 0) event.name = name;
      each(event);
    }
    if (static_cast<std::size_t>(got) < buffer.size() / 2) break;
  }
  return complete;
}

}  // namespace logbell::engine

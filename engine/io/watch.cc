#include "engine/io/watch.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstring>
#include <deque>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/inotify.h>
#include <sys/stat.h>
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
  const int id =
      ::inotify_add_watch(fd_, path.c_str(), IN_MODIFY | IN_ATTRIB | IN_MOVE_SELF | IN_DELETE_SELF);
  return id < 0 ? std::nullopt : std::optional<Id>(id);
}

namespace {

// The names of a path, in order, put before those that are still to go.
void put_before(std::deque<std::string>& names, std::string_view path) {
  std::deque<std::string> first;
  while (!path.empty()) {
    const std::size_t end = std::min(path.find('/'), path.size());
    if (end > 0 && path.substr(0, end) != ".") first.emplace_back(path.substr(0, end));
    path.remove_prefix(std::min(end + 1, path.size()));
  }
  names.insert(names.begin(), first.begin(), first.end());
}

}  // namespace

std::vector<FileWatch::Id> FileWatch::watch_path(const std::string& path) {
  std::vector<Id> ids;
  const auto watch = [&](std::optional<Id> id) {
    if (id) ids.push_back(*id);
  };
  std::string at = !path.empty() && path.front() == '/' ? "/" : "./";  // where we are; ends in /
  std::deque<std::string> names;
  put_before(names, path);
  int links = 0;
  while (!names.empty()) {
    const std::string next = at + names.front();
    names.pop_front();
    struct stat status {};
    if (::lstat(next.c_str(), &status) != 0) break;
    if (S_ISLNK(status.st_mode)) {
      watch(watch_directory(at));
      std::array<char, PATH_MAX> target{};
      const ssize_t size = ::readlink(next.c_str(), target.data(), target.size());
      if (size <= 0 || ++links > kMostLinks) return ids;
      if (target[0] == '/') at = "/";
      put_before(names, std::string_view(target.data(), static_cast<std::size_t>(size)));
    } else if (S_ISDIR(status.st_mode)) {
      at = next + "/";
    } else {
      // Only its place is asked for: what is no regular file is not opened.
      const int fd = ::open(next.c_str(), O_PATH | O_CLOEXEC | O_NOFOLLOW);
      if (fd >= 0) {
        watch(watch_file(fd));
        ::close(fd);
      }
      break;
    }
  }
  watch(watch_directory(at));
  return ids;
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
      event.renamed = raw.len == 0 && (raw.mask & IN_MOVE_SELF) != 0;
      event.gone = (raw.mask & IN_IGNORED) != 0;
      if (raw.len > 0) event.name = name;
      each(event);
    }
    if (static_cast<std::size_t>(got) < buffer.size() / 2) break;
  }
  return complete;
}

}  // namespace logbell::engine

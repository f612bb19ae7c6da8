// FileWatch: says which open files and which directories may have changed since the last look. inotify
// inside.
//
// Owned by one thread. Where the system has no watch left, whoever asked must look by himself.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace logbell::engine {

class FileWatch {
 public:
  using Id = int;

  struct Event {
    Id watch = -1;
    bool in_directory = false;  // a name in a watched directory came, went or changed its rights
    bool written = false;       // a watched file was written to or cut
    bool moved = false;         // a watched file or directory has another name, or one less
    bool renamed = false;       // a watched file or directory has another name
    bool gone = false;          // the watch has ended with what it watched
    std::string_view name;      // in_directory: which
  };

  // `enabled` false: there is no inotify, as where its instances are used up.
  explicit FileWatch(bool enabled = true);
  ~FileWatch();
  FileWatch(const FileWatch&) = delete;
  FileWatch& operator=(const FileWatch&) = delete;

  int fd() const { return fd_; }  // readable when there are events; -1: no inotify
  // The same directory gives the same id.
  std::optional<Id> watch_directory(const std::string& path);
  // The very file that is open there, whatever its name is by now.
  std::optional<Id> watch_file(int file_descriptor);
  // All that decides what is read at `path`: the file, the directory it stands in, and the directory of each
  // link on the way, so that a link that is turned elsewhere is an event (kubelet's `..data`). Of what does
  // not exist, the last directory that does.
  std::vector<Id> watch_path(const std::string& path);
  void forget(Id watch);

  // Everything since the last call; false: events were lost and everything must be looked at.
  bool take(const std::function<void(const Event&)>& each) const;

 private:
  static constexpr int kMostLinks = 40;  // the kernel gives up there, too (ELOOP)
  int fd_ = -1;
};

}  // namespace logbell::engine

#include "engine/run/config_watch.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include <sys/stat.h>

namespace logbell::engine {

using rules::Instant;

ConfigWatch::ConfigWatch(ConfigWorld world, bool inotify) : world_(std::move(world)), watch_(inotify) {}

void ConfigWatch::loaded(ConfigInputs inputs, Instant now) {
  loaded_ = std::move(inputs);
  watch();
  marks_ = look();
  look_at_ = now + kPoll;
  // It may have changed between the reading and the watching: it is compared once.
  moved_at_ = first_moved_at_ = now;
}

std::vector<std::string> ConfigWatch::step(Instant now) {
  bool told = false;
  told = !watch_.take([&](const FileWatch::Event&) { told = true; }) || told;
  if (told || now >= look_at_ || moved_at_) {
    look_at_ = now + kPoll;
    Marks marks = look();
    if (marks != marks_) {
      marks_ = std::move(marks);
      if (!moved_at_) first_moved_at_ = now;
      moved_at_ = now;
      watch();  // the way may lead over other directories now
    }
  }
  if (!moved_at_ || (now < *moved_at_ + kSettle && now < first_moved_at_ + kMostSettle)) return {};
  moved_at_.reset();
  const ConfigInputs found = world_.ask_again(loaded_);
  std::vector<std::string> changed;
  for (const auto& [path, text] : loaded_.files) {
    if (found.files.at(path) != text) changed.push_back(path);
  }
  for (const auto& [pattern, files] : loaded_.globs) {
    if (found.globs.at(pattern) != files) changed.push_back(pattern);
  }
  // Should nobody load it, it is not said again.
  if (!changed.empty()) loaded_ = found;
  return changed;
}

Instant ConfigWatch::next() const {
  if (!moved_at_) return look_at_;
  return std::min({look_at_, *moved_at_ + kSettle, first_moved_at_ + kMostSettle});
}

ConfigWatch::Mark ConfigWatch::mark_of(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return {-1, errno};
  return {static_cast<std::int64_t>(status.st_dev),          static_cast<std::int64_t>(status.st_ino),
          static_cast<std::int64_t>(status.st_size),         static_cast<std::int64_t>(status.st_mtim.tv_sec),
          static_cast<std::int64_t>(status.st_mtim.tv_nsec), static_cast<std::int64_t>(status.st_ctim.tv_sec),
          static_cast<std::int64_t>(status.st_ctim.tv_nsec)};
}

ConfigWatch::Marks ConfigWatch::look() const {
  Marks marks;
  for (const auto& [path, text] : loaded_.files)
    marks.files.emplace(path, mark_of(path));
  for (const auto& [pattern, found] : loaded_.globs)
    marks.globs.emplace(pattern, world_.glob(pattern));
  return marks;
}

void ConfigWatch::watch() {
  std::set<FileWatch::Id> wanted;
  const auto add = [&](const std::string& path) {
    for (const FileWatch::Id id : watch_.watch_path(path))
      wanted.insert(id);
  };
  for (const auto& [path, text] : loaded_.files)
    add(path);
  for (const auto& [pattern, found] : loaded_.globs) {
    // The directory before the first wildcard: what comes further down, the slow look finds.
    const std::string fixed = pattern.substr(0, pattern.find_first_of("*?["));
    const std::size_t slash = fixed.rfind('/');
    add(slash == std::string::npos ? "." : fixed.substr(0, slash + 1));
  }
  for (const FileWatch::Id id : watched_) {
    if (wanted.count(id) == 0) watch_.forget(id);
  }
  watched_ = std::move(wanted);
}

}  // namespace logbell::engine

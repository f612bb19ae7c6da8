// ConfigWatch: says when the configuration on disk is another than the one that was loaded last.
//
// What counts is the content of everything that was read: the file itself, its rule files, the files of
// secrets, and which files the patterns find. inotify on the files and on every directory and link that leads
// to them only says when to look, so a ConfigMap that kubelet swaps (`..data`) is seen like an editor's save;
// a slow look of its own finds what inotify does not tell (no watches left, NFS). One content is reported
// once, whatever came of loading it.
//
// Owned by the main thread; time is handed in. No file that is looked at may block: what is read, ConfigWorld
// reads.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "engine/io/watch.h"
#include "engine/run/config.h"
#include "rules/time.h"

namespace logbell::engine {

class ConfigWatch {
 public:
  // Nothing may have moved for so long before it is read: whoever edits in place or copies writes in pieces.
  static constexpr rules::Duration kSettle{1000};
  // What never rests is read all the same, once in so long.
  static constexpr rules::Duration kMostSettle{10'000};
  // Between two looks that nothing has asked for; a handful of stat(2).
  static constexpr rules::Duration kPoll{5000};

  // `inotify` false: there is none, as where its instances are used up.
  explicit ConfigWatch(ConfigWorld world, bool inotify = true);

  // What was loaded, accepted or refused: from here on another content is a change.
  void loaded(ConfigInputs inputs, rules::Instant now);
  // What has changed and is at rest, by path or pattern; empty: nothing to load. Said once.
  std::vector<std::string> step(rules::Instant now);
  // When to step again if fd() does not become readable.
  rules::Instant next() const;
  int fd() const { return watch_.fd(); }  // -1: no inotify

 private:
  // What tells one state of a file from another without reading it, links followed.
  using Mark = std::array<std::int64_t, 7>;
  struct Marks {
    std::map<std::string, Mark> files;
    std::map<std::string, std::vector<std::string>> globs;
    friend bool operator==(const Marks&, const Marks&) = default;
  };
  static Mark mark_of(const std::string& path);
  Marks look() const;
  void watch();

  const ConfigWorld world_;
  FileWatch watch_;
  std::set<FileWatch::Id> watched_;
  ConfigInputs loaded_;
  Marks marks_;
  rules::Instant look_at_;                  // at the latest
  std::optional<rules::Instant> moved_at_;  // set: something has moved and is not read yet; the last time
  rules::Instant first_moved_at_;
};

}  // namespace logbell::engine

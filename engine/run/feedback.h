// Feedback: what this process itself writes and says, so that it does not take it for somebody's log: an
// alert that rings because of its own message would ring for ever (FAULTS F56).
//
// Thread-safe. Files are known by device and inode; messages by the key that each carries.
#pragma once

#include <cstddef>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "engine/io/file_source.h"
#include "engine/io/thread_annotations.h"
#include "engine/run/clock.h"
#include "rules/time.h"
#include "sinks/sink.h"

namespace logbell::engine {

class Feedback {
 public:
  // A bot answers within seconds, a log shipper within minutes; after this a key means nothing any more.
  static constexpr rules::Duration kRemembered{std::chrono::hours(1)};
  // Keys remembered at once: an hour of ten messages a second. The oldest are forgotten first.
  static constexpr std::size_t kMaxKeys = 36'000;
  // So much of a key is in every message.
  static constexpr std::size_t kKeyBytes = 16;
  // What stands before a key wherever logbell writes one: "delivery 5f…", "deliveryKey":"5f…",
  // "delivery_key":"5f…", delivery=5f….
  static constexpr std::string_view kMark = "delivery";

  struct OwnFile {
    std::string path;
    std::string what;  // "the sink \"record\" writes it"
  };

  explicit Feedback(const Clock& clock);  // must outlive me

  // The files that sinks write, the directory with nothing but the state; replaces those named before. What
  // standard output and error are is found out by itself.
  void set_files(std::vector<OwnFile> files, const std::string& state_directory);
  // What the file is to us: "" when it is not ours. One that was ours stays so under its new name, and so is
  // what stands beside one of ours and is called like it (alerts.jsonl.1).
  std::string own(const std::string& path, const FileId& id);

  // A message with this key is about to leave.
  void leaves(std::string_view key);
  // Whether anything was said lately, and this text may hold it: cheap enough to ask of everything read.
  bool may_be_in(std::string_view text);
  // Whether it holds the key of a message that left within kRemembered.
  bool is_in(std::string_view line);
  // Keys that were forgotten before their time because there were kMaxKeys.
  std::uint64_t forgotten_early() const;

 private:
  using Inode = std::pair<std::uint64_t, std::uint64_t>;  // device, inode
  // Files of ours that have another name by now. Beyond it all are forgotten: their keys still tell.
  static constexpr std::size_t kMaxFormer = 1000;

  std::string find_own(const std::string& real, const FileId& id) const REQUIRES(mutex_);
  void forget_old() REQUIRES(mutex_);

  const Clock& clock_;
  mutable Mutex mutex_;
  std::vector<OwnFile> files_ GUARDED_BY(mutex_);  // real paths
  std::string state_directory_ GUARDED_BY(mutex_);
  std::map<Inode, std::string> streams_;  // standard output and error, if they are files; never changes
  // That were ours once, by inode and birth: an inode number may be somebody else's tomorrow.
  std::map<std::pair<Inode, std::int64_t>, std::string> former_ GUARDED_BY(mutex_);
  std::deque<std::pair<rules::Instant, std::string>> left_ GUARDED_BY(mutex_);
  std::unordered_multiset<std::string> keys_ GUARDED_BY(mutex_);
  std::uint64_t forgotten_early_ GUARDED_BY(mutex_) = 0;
};

// `sink`, whose messages are known as ours from the moment they leave. `feedback` must outlive it.
std::unique_ptr<sinks::Sink> marked(std::unique_ptr<sinks::Sink> sink, Feedback& feedback);

}  // namespace logbell::engine

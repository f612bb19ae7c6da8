#include "engine/run/feedback.h"

#include <algorithm>
#include <optional>

#include <sys/stat.h>
#include <unistd.h>

#include "engine/io/glob.h"

namespace logbell::engine {
namespace {

bool is_hex(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

// Names that an own file gets when it is rotated: alerts.jsonl.1, alerts.jsonl-20260501.
bool is_called_like(const std::string& path, const std::string& own) {
  return path.size() > own.size() + 1 && path.compare(0, own.size(), own) == 0 &&
         (path[own.size()] == '.' || path[own.size()] == '-') &&
         path.find('/', own.size()) == std::string::npos;
}

class MarkedSink final : public sinks::Sink {
 public:
  MarkedSink(std::unique_ptr<sinks::Sink> sink, Feedback& feedback)
      : sink_(std::move(sink)), feedback_(feedback) {}
  sinks::Outcome deliver(const rules::Notification& notification, const sinks::Attempt& attempt) override {
    feedback_.leaves(notification.key);
    return sink_->deliver(notification, attempt);
  }

 private:
  std::unique_ptr<sinks::Sink> sink_;
  Feedback& feedback_;
};

}  // namespace

std::unique_ptr<sinks::Sink> marked(std::unique_ptr<sinks::Sink> sink, Feedback& feedback) {
  return std::make_unique<MarkedSink>(std::move(sink), feedback);
}

Feedback::Feedback(const Clock& clock) : clock_(clock) {
  for (const auto& [fd, what] : {std::pair(STDERR_FILENO, "logbell's own log goes there"),
                                 std::pair(STDOUT_FILENO, "logbell's own output goes there")}) {
    struct stat status {};
    if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode))
      streams_.emplace(Inode(status.st_dev, status.st_ino), what);
  }
}

void Feedback::set_files(std::vector<OwnFile> files, const std::string& state_directory) {
  for (OwnFile& file : files)
    file.path = real_path(file.path);
  const MutexLock lock(mutex_);
  files_ = std::move(files);
  state_directory_ = state_directory;
}

std::string Feedback::find_own(const std::string& real, const FileId& id) const {
  const auto is = [&](const std::string& path, const Inode& inode) {
    const rules::Result<FileStat> stat = stat_path(path);
    return stat && Inode(stat->id.device, stat->id.inode) == inode;
  };
  for (const OwnFile& file : files_) {
    if (is(file.path, {id.device, id.inode}) || is_called_like(real, file.path)) return file.what;
  }
  const rules::Result<FileStat> state = stat_path(state_directory_);
  if (!state) return {};
  // By what the directory is, not by its name: it may be mounted in two places.
  for (std::string above = directory_of(real);; above = directory_of(above)) {
    if (is(above, {state->id.device, state->id.inode})) return "it is in logbell's state_dir";
    if (above.size() <= 1) return {};
  }
}

std::string Feedback::own(const std::string& path, const FileId& id) {
  const Inode inode(id.device, id.inode);
  if (const auto stream = streams_.find(inode); stream != streams_.end()) return stream->second;
  const std::string real = real_path(path);
  const MutexLock lock(mutex_);
  if (const auto former = former_.find({inode, id.born_ns}); former != former_.end()) return former->second;
  std::string what = find_own(real, id);
  if (!what.empty() && id.born_ns != 0) {
    if (former_.size() >= kMaxFormer) former_.clear();
    former_.emplace(std::pair(inode, id.born_ns), what);
  }
  return what;
}

void Feedback::forget_old() {
  const rules::Instant now = clock_.instant();
  while (!left_.empty() && (left_.size() > kMaxKeys || now - left_.front().first > kRemembered)) {
    if (now - left_.front().first <= kRemembered) ++forgotten_early_;
    keys_.erase(keys_.find(left_.front().second));
    left_.pop_front();
  }
}

std::uint64_t Feedback::forgotten_early() const {
  const MutexLock lock(mutex_);
  return forgotten_early_;
}

void Feedback::leaves(std::string_view key) {
  if (key.size() < kKeyBytes) return;  // not to be told from what an application may write
  const MutexLock lock(mutex_);
  left_.emplace_back(clock_.instant(), key.substr(0, kKeyBytes));
  keys_.insert(left_.back().second);
  forget_old();
}

bool Feedback::may_be_in(std::string_view text) {
  {
    const MutexLock lock(mutex_);
    forget_old();
    if (left_.empty()) return false;
  }
  return text.find(kMark) != std::string_view::npos;
}

bool Feedback::is_in(std::string_view line) {
  if (line.find(kMark) == std::string_view::npos) return false;
  for (std::size_t at = 0; at + kKeyBytes <= line.size();) {
    std::size_t end = at;
    while (end < line.size() && is_hex(line[end]))
      ++end;
    if (end - at >= kKeyBytes) {
      const MutexLock lock(mutex_);
      if (keys_.count(std::string(line.substr(at, kKeyBytes))) > 0) return true;
    }
    at = end + 1;
  }
  return false;
}

}  // namespace logbell::engine

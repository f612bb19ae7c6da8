#include "sinks/file.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sinks/encode.h"
#include "sinks/fd.h"
#include "sinks/webhook.h"

namespace logbell::sinks {
namespace {

class FileSink final : public Sink {
 public:
  FileSink(std::string path, SinkContext context) : path_(std::move(path)), context_(std::move(context)) {}
  Outcome deliver(const rules::Notification& notification, const Attempt& attempt) override;
  Verification verify(const Attempt& attempt) override;

 private:
  bool is_current() const;
  bool ends_with_newline(off_t size) const;

  std::string path_;
  SinkContext context_;
  Fd fd_;
  bool torn_ = false;  // the file ends in the middle of a line
};

// One line: the webhook's document with the instant and the attempt before it.
Payload line_for(const rules::Notification& notification, const Attempt& attempt,
                 const SinkContext& context) {
  Payload line = Payload::object();
  line.set("time", JsonString(rules::format_rfc3339(attempt.now)));
  line.set("attempt", attempt.number);
  line.set("notification", webhook_payload(notification, attempt, context));
  if (!notification.text.empty()) line.set("text", JsonString(notification.text));
  return line;
}

Outcome failed(const std::string& doing) {
  return Outcome::retry(Reason::kIo, doing + ": " + rules::errno_text(errno));
}

// Rotated away, deleted or replaced: what we hold open is no longer what the path names.
bool FileSink::is_current() const {
  struct stat held {};
  struct stat named {};
  return fd_.get() >= 0 && fstat(fd_.get(), &held) == 0 && lstat(path_.c_str(), &named) == 0 &&
         held.st_dev == named.st_dev && held.st_ino == named.st_ino;
}

Outcome FileSink::deliver(const rules::Notification& notification, const Attempt& attempt) {
  if (!is_current()) {
    // O_NONBLOCK: a fifo without a reader is an error at once instead of a hang; a regular file does not
    // care. NOLINTNEXTLINE(cppcoreguidelines-pro-type-vararg): open(2)
    fd_ = Fd(open(path_.c_str(),
                  O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0600));
    if (fd_.get() < 0 && errno == ELOOP)
      return Outcome::rejected(Reason::kIo, path_ + " is a symbolic link, which is not followed", true);
    if (fd_.get() < 0) return failed("open " + path_);
    struct stat status {};
    if (fstat(fd_.get(), &status) != 0) return failed("stat " + path_);
    if (!S_ISREG(status.st_mode)) {
      fd_ = Fd();
      return Outcome::rejected(Reason::kIo, path_ + " is not a regular file", true);
    }
    // A line that was cut off by a crash or a full disk: ours begins on a fresh one.
    torn_ = !ends_with_newline(status.st_size);
  }
  const Payload json = line_for(notification, attempt, context_);
  std::string line = json.dump() + "\n";
  if (torn_) line.insert(0, "\n");
  ssize_t written = 0;
  do {
    written = write(fd_.get(), line.data(), line.size());
  } while (written < 0 && errno == EINTR);
  if (written < 0) return failed("write " + path_);
  if (static_cast<std::size_t>(written) < line.size()) {
    torn_ = true;
    return Outcome::retry(Reason::kIo, "write " + path_ + ": only a part of the line fitted");
  }
  torn_ = false;
  if (fsync(fd_.get()) != 0) {
    Outcome outcome = failed("fsync " + path_);
    fd_ = Fd();  // what the kernel holds of it is not to be trusted: begin again from the path
    return outcome;
  }
  Outcome outcome = Outcome::delivered(path_);
  outcome.truncated = json.was_cut();
  return outcome;
}

// Makes no file: whoever asks may be another user than who will write.
Verification FileSink::verify(const Attempt& /*attempt*/) {
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-vararg): open(2)
  const Fd fd(open(path_.c_str(), O_WRONLY | O_APPEND | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  if (fd.get() >= 0) {
    struct stat status {};
    if (fstat(fd.get(), &status) != 0 || !S_ISREG(status.st_mode))
      return Verification::dead(Reason::kIo, ProofLevel::kStatic, path_ + " is not a regular file");
    return Verification::live(ProofLevel::kDestination, "it can be written to");
  }
  if (errno == ELOOP) {
    return Verification::dead(Reason::kIo, ProofLevel::kStatic,
                              path_ + " is a symbolic link, which is not followed");
  }
  if (errno == ENOENT) {
    const std::filesystem::path directory = std::filesystem::path(path_).parent_path();
    if (access(directory.empty() ? "." : directory.c_str(), W_OK | X_OK) == 0)
      return Verification::live(ProofLevel::kNetwork, "it is made with the first notification");
  }
  return Verification::unknown(Reason::kIo, ProofLevel::kStatic,
                               "open " + path_ + ": " + rules::errno_text(errno));
}

bool FileSink::ends_with_newline(off_t size) const {
  if (size == 0) return true;
  const Fd reading(open(path_.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK));
  char last = 0;
  return reading.get() >= 0 && pread(reading.get(), &last, 1, size - 1) == 1 && last == '\n';
}

class FileConfig final : public SinkConfig {
 public:
  explicit FileConfig(std::string path) : path_(std::move(path)) {}
  std::unique_ptr<Sink> build(std::size_t /*lane*/, const SinkContext& context) const override {
    return std::make_unique<FileSink>(path_, context);
  }
  std::string destination() const override { return path_; }
  std::string words(const rules::Notification& notification, const Attempt& attempt,
                    const SinkContext& context) const override {
    return line_for(notification, attempt, context).words();
  }
  std::string writes_to() const override { return path_; }

 private:
  std::string path_;
};

}  // namespace

std::unique_ptr<SinkConfig> parse_file(FieldReader& fields) {
  const std::optional<std::string> text = fields.text("path", true);
  if (!text) return nullptr;
  const std::filesystem::path path(*text);
  for (const std::filesystem::path& piece : path) {
    if (piece == "..") {
      fields.error("path", "a path with .. in it can lead anywhere", "write it out from /");
      return nullptr;
    }
  }
  std::error_code error;
  if (!path.has_filename() || std::filesystem::is_directory(path, error)) {
    fields.error("path", "\"" + *text + "\" is a directory", "name the file itself");
    return nullptr;
  }
  if (text->find('\0') != std::string::npos) {
    fields.error("path", "the path has a NUL in it", "");
    return nullptr;
  }
  if (path.is_relative() && !fields.assume_secrets()) {  // what a variable says is left out then
    fields.warn("path", "\"" + *text + "\" depends on the directory that logbell is started in",
                "write it out from /");
  }
  const std::filesystem::path directory = path.parent_path();
  if (!directory.empty() && !fields.assume_secrets() && !std::filesystem::is_directory(directory, error)) {
    fields.warn("path", "the directory " + directory.string() + " does not exist here",
                "create it: until it exists nothing can be written");
  }
  return std::make_unique<FileConfig>(*text);
}

}  // namespace logbell::sinks

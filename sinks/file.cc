#include "sinks/file.h"

#include <filesystem>
#include <utility>

namespace logbell::sinks {
namespace {

class FileSink final : public Sink {
 public:
  FileSink(std::string path, SinkContext context) : path_(std::move(path)), context_(std::move(context)) {}
  Outcome deliver(const rules::Notification& notification, const Attempt& attempt) override;

 private:
  std::string path_;
  SinkContext context_;
};

Outcome FileSink::deliver(const rules::Notification& /*notification*/, const Attempt& /*attempt*/) {
  return Outcome::retry(Reason::kIo, "not built yet");
}

class FileConfig final : public SinkConfig {
 public:
  explicit FileConfig(std::string path) : path_(std::move(path)) {}
  std::unique_ptr<Sink> build(std::size_t /*lane*/, const SinkContext& context) const override {
    return std::make_unique<FileSink>(path_, context);
  }
  std::string destination() const override { return path_; }

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
  if (path.is_relative()) {
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

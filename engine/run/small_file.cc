#include "engine/run/small_file.h"

#include <cerrno>
#include <filesystem>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "rules/text.h"
#include "sinks/fd.h"

namespace logbell::engine {
namespace {

namespace fs = std::filesystem;
using rules::ErrorCode;
using rules::fail;

}  // namespace

std::string read_small_file(const std::string& state_dir, const std::string& name, std::size_t most) {
  const fs::path path = fs::path(state_dir) / "logbell" / name;
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-vararg): open(2)
  const sinks::Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (fd.get() < 0) return {};
  std::string text(most, '\0');
  const ssize_t size = ::read(fd.get(), text.data(), text.size());
  text.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
  return text;
}

rules::Result<> keep_small_file(const std::string& state_dir, const std::string& name,
                                const std::string& text) {
  if (state_dir.empty()) return fail(ErrorCode::kInvalid, "there is no state_dir");
  const fs::path directory = fs::path(state_dir) / "logbell";
  const std::string path = (directory / name).string();
  const auto failed = [&](int why) {
    return fail(ErrorCode::kIo, fmt::format("keep {}: {}", path, rules::errno_text(why)));
  };
  std::error_code error;
  fs::create_directories(state_dir, error);
  if (::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST) return failed(errno);
  // The store asks for the same before it writes there: nobody else may put a link where we write.
  struct stat status {};
  if (::lstat(directory.c_str(), &status) != 0 || !S_ISDIR(status.st_mode) || status.st_uid != ::geteuid())
    return fail(ErrorCode::kIo, fmt::format("keep {}: the directory is not ours", path));
  const std::string fresh = fmt::format("{}.{}.new", path, ::getpid());
  ::unlink(fresh.c_str());
  {
    // NOLINTNEXTLINE(cppcoreguidelines-pro-type-vararg): open(2)
    const sinks::Fd fd(::open(fresh.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (fd.get() < 0) return failed(errno);
    if (::write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
      const int why = errno;
      ::unlink(fresh.c_str());
      return failed(why);
    }
  }
  if (::rename(fresh.c_str(), path.c_str()) != 0) {
    const int why = errno;
    ::unlink(fresh.c_str());
    return failed(why);
  }
  return {};
}

}  // namespace logbell::engine

#include "engine/run/small_file.h"

#include <array>
#include <cerrno>
#include <cstdint>
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

bool is_our_mark(const struct stat& status) {
  return S_ISREG(status.st_mode) && status.st_uid == ::geteuid() && status.st_nlink == 1;
}

}  // namespace

std::optional<rules::Timestamp> read_mark(const std::string& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0 || !is_our_mark(status)) return std::nullopt;
  return rules::from_unix_ms(std::int64_t{status.st_mtim.tv_sec} * 1000 + status.st_mtim.tv_nsec / 1'000'000);
}

rules::Result<> set_mark(const std::string& path, rules::Timestamp at) {
  const auto failed = [&](const std::string& why) {
    return fail(ErrorCode::kIo, fmt::format("keep {}: {}", path, why));
  };
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-vararg): open(2)
  const sinks::Fd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600));
  if (fd.get() < 0) return failed(rules::errno_text(errno));
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0 || !is_our_mark(status)) return failed("it is not ours");
  const std::int64_t ms = rules::to_unix_ms(at);
  const timespec when{ms / 1000, ms % 1000 * 1'000'000};
  const std::array<timespec, 2> times{when, when};
  if (::futimens(fd.get(), times.data()) != 0) return failed(rules::errno_text(errno));
  return {};
}

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

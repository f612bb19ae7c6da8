#include "tests/sim/logs.h"

#include <algorithm>
#include <ctime>
#include <fstream>
#include <system_error>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace logbell::sim {

namespace fs = std::filesystem;

namespace {

void must(bool done, const std::string& what) {
  if (!done) throw std::system_error(errno, std::generic_category(), what);
}

// Files are known by when they were born, and the kernel's clock for that ticks every few milliseconds: what
// no rotation does in life must not happen here because nobody waits.
void wait_for_another_birth() {
  static timespec last{};
  timespec now{};
  do {
    ::clock_gettime(CLOCK_REALTIME_COARSE, &now);
  } while (now.tv_sec == last.tv_sec && now.tv_nsec == last.tv_nsec);
  last = now;
}

}  // namespace

Log::Log(fs::path path, std::string source, bool is_link)
    : path_(std::move(path)), source_(std::move(source)), is_link_(is_link) {}

Log::~Log() {
  close();
}

bool Log::exists() const {
  std::error_code ignored;
  return fs::exists(path_, ignored);
}

void Log::open() {
  if (fd_ >= 0) return;
  if (is_link_ && !exists()) swap_link();
  if (!exists()) wait_for_another_birth();
  fd_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  must(fd_ >= 0, "open " + path_.string());
}

void Log::close() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

std::uint64_t Log::inode() const {
  struct stat status {};
  must(fd_ >= 0 ? ::fstat(fd_, &status) == 0 : ::stat(path_.c_str(), &status) == 0, "stat");
  return status.st_ino;
}

void Log::append(const std::string& text) {
  open();
  must(::write(fd_, text.data(), text.size()) == static_cast<ssize_t>(text.size()), "write");
}

void Log::whole(std::uint64_t id, const std::string& text) {
  append(text);
  lines_[inode()].push_back(id);
}

void Log::begin(const std::string& text) {
  append(text);
  half_ = true;
}

void Log::end(std::uint64_t id, const std::string& text) {
  whole(id, text);
  half_ = false;
}

void Log::rename_and_create(bool create) {
  if (!exists()) return;
  for (int n = made_; n > 0; --n) {
    std::error_code ignored;
    fs::rename(path_.string() + "." + std::to_string(n), path_.string() + "." + std::to_string(n + 1),
               ignored);
  }
  fs::rename(path_, path_.string() + ".1");
  ++made_;
  if (!create) return;
  wait_for_another_birth();
  const int fd = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
  must(fd >= 0, "create");
  ::close(fd);
}

void Log::reopen() {
  if (half_) return;  // nobody splits a line over two files
  close();
}

bool Log::stays() const {
  struct stat named {};
  return fd_ >= 0 && (::stat(path_.c_str(), &named) != 0 || named.st_ino != inode());
}

void Log::copy_and_truncate(bool keep_copy) {
  if (!exists()) return;
  if (keep_copy) {
    wait_for_another_birth();
    fs::copy_file(path_, path_.string() + ".copy" + std::to_string(++made_),
                  fs::copy_options::overwrite_existing);
  }
  truncate_behind(0);
}

std::vector<std::uint64_t> Log::truncate_behind(std::size_t lines) {
  std::vector<std::uint64_t> cut;
  if (!exists()) return cut;
  std::ifstream file(path_, std::ios::binary);
  std::string line;
  std::uintmax_t size = 0;
  for (std::size_t n = 0; n < lines && std::getline(file, line); ++n)
    size += line.size() + 1;
  struct stat status {};
  must(::stat(path_.c_str(), &status) == 0, "stat");
  size = std::min<std::uintmax_t>(size, static_cast<std::uintmax_t>(status.st_size));
  must(::truncate(path_.c_str(), static_cast<off_t>(size)) == 0, "truncate");
  std::vector<std::uint64_t>& ids = lines_[status.st_ino];
  if (ids.size() > lines) {
    cut.assign(ids.begin() + static_cast<std::ptrdiff_t>(lines), ids.end());
    ids.resize(lines);
  }
  return cut;
}

void Log::remove_and_recreate(bool recreate) {
  close();
  std::error_code ignored;
  fs::remove(path_, ignored);
  if (recreate) open();
}

void Log::swap_link() {
  close();
  moved_ = true;
  wait_for_another_birth();
  const fs::path data = path_.parent_path() / "data";
  fs::create_directories(data);
  const fs::path target = data / (path_.stem().string() + "-" + std::to_string(++made_));
  const int fd = ::open(target.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
  must(fd >= 0, "create");
  ::close(fd);
  const fs::path fresh = path_.parent_path() / "link.new";
  fs::create_symlink(target, fresh);
  fs::rename(fresh, path_);
}

std::vector<std::uint64_t> Log::lines_here() const {
  std::vector<std::uint64_t> ids;
  if (!exists()) return ids;
  struct stat status {};
  if (::stat(path_.c_str(), &status) != 0) return ids;
  const auto found = lines_.find(status.st_ino);
  return found == lines_.end() ? ids : found->second;
}

}  // namespace logbell::sim

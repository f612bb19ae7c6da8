// A library to be preloaded (LD_PRELOAD) that lets the n-th write, fsync, open or malloc of a process fail.
//
// LOGBELL_FAILING_CALLS names a file of sizeof(Control) bytes, mapped shared: the test writes there what
// shall fail, opens and closes the window in which calls are counted, and reads how many there were. Only
// calls on files below `under` count, so that neither sockets nor the files of the linker do; every malloc
// does.
#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

// NOLINTBEGIN(bugprone-reserved-identifier,readability-identifier-naming): glibc's own names of the real ones
extern "C" {
void* __libc_malloc(std::size_t size);
void* __libc_calloc(std::size_t count, std::size_t size);
void* __libc_realloc(void* old, std::size_t size);
void* __libc_memalign(std::size_t alignment, std::size_t size);
}
// NOLINTEND(bugprone-reserved-identifier,readability-identifier-naming)

namespace {

enum Kind : std::uint32_t { kNone, kWrite, kSync, kOpen, kMalloc };

// The layout that tests/e2e/failing_calls_test.py packs.
struct Control {
  std::atomic<std::uint32_t> open;  // the window
  std::uint32_t kind;
  std::int32_t error;                 // errno; 0: the process is killed there instead
  std::atomic<std::uint32_t> struck;  // 2: it was the sync of a directory
  std::uint64_t at;                   // the call that fails, from 1; 0: none
  std::atomic<std::uint64_t> count;
  char under[480];
};

Control* control = nullptr;

__attribute__((constructor)) void map_control() {
  const char* path = std::getenv("LOGBELL_FAILING_CALLS");
  if (path == nullptr) return;
  const auto fd = static_cast<int>(syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0));
  if (fd < 0) std::abort();
  void* mapped = mmap(nullptr, sizeof(Control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (mapped == MAP_FAILED) std::abort();
  syscall(SYS_close, fd);
  control = static_cast<Control*>(mapped);
}

bool is_under(const char* path) {
  return std::strncmp(path, control->under, std::strlen(control->under)) == 0;
}

bool is_under(int fd) {
  char link[32] = "/proc/self/fd/";
  char digits[12];
  std::size_t count = 0;
  do {
    digits[count++] = static_cast<char>('0' + fd % 10);
    fd /= 10;
  } while (fd > 0);
  std::size_t at = std::strlen(link);
  while (count > 0)
    link[at++] = digits[--count];
  link[at] = '\0';
  char path[512];
  const ssize_t size = readlink(link, path, sizeof path - 1);
  if (size <= 0) return false;
  path[size] = '\0';
  return is_under(path);
}

bool counts(Kind kind) {
  return control != nullptr && control->kind == kind && control->open != 0;
}

// One call more; true: it is the one that fails.
bool strikes() {
  if (control->count.fetch_add(1) + 1 != control->at) return false;
  control->struck = 1;
  if (control->error == 0) kill(getpid(), SIGKILL);
  errno = control->error;
  return true;
}

bool sync_strikes(int fd) {
  if (!counts(kSync) || !is_under(fd) || !strikes()) return false;
  struct stat status {};
  if (fstat(fd, &status) == 0 && S_ISDIR(status.st_mode)) control->struck = 2;
  errno = control->error;
  return true;
}

int open_at(int directory, const char* path, int flags, mode_t mode) {
  if (counts(kOpen) && is_under(path) && strikes()) return -1;
  return static_cast<int>(syscall(SYS_openat, directory, path, flags, mode));
}

mode_t mode_of(int flags, va_list arguments) {
  return (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(arguments, mode_t) : 0;
}

}  // namespace

// NOLINTBEGIN(readability-inconsistent-declaration-parameter-name): glibc's parameters have reserved names
extern "C" {

ssize_t write(int fd, const void* bytes, std::size_t size) {
  if (counts(kWrite) && is_under(fd) && strikes()) return -1;
  return syscall(SYS_write, fd, bytes, size);
}
ssize_t pwrite(int fd, const void* bytes, std::size_t size, off_t at) {
  if (counts(kWrite) && is_under(fd) && strikes()) return -1;
  return syscall(SYS_pwrite64, fd, bytes, size, at);
}
ssize_t pwrite64(int fd, const void* bytes, std::size_t size, off64_t at) {
  return pwrite(fd, bytes, size, at);
}
int fsync(int fd) {
  if (sync_strikes(fd)) return -1;
  return static_cast<int>(syscall(SYS_fsync, fd));
}
int fdatasync(int fd) {
  if (sync_strikes(fd)) return -1;
  return static_cast<int>(syscall(SYS_fdatasync, fd));
}
int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = mode_of(flags, arguments);
  va_end(arguments);
  return open_at(AT_FDCWD, path, flags, mode);
}
int open64(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = mode_of(flags, arguments);
  va_end(arguments);
  return open_at(AT_FDCWD, path, flags, mode);
}
int openat(int directory, const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = mode_of(flags, arguments);
  va_end(arguments);
  return open_at(directory, path, flags, mode);
}
int openat64(int directory, const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = mode_of(flags, arguments);
  va_end(arguments);
  return open_at(directory, path, flags, mode);
}

void* malloc(std::size_t size) {
  if (counts(kMalloc) && strikes()) return nullptr;
  return __libc_malloc(size);
}
void* calloc(std::size_t count, std::size_t size) {
  if (counts(kMalloc) && strikes()) return nullptr;
  return __libc_calloc(count, size);
}
void* realloc(void* old, std::size_t size) {
  if (counts(kMalloc) && strikes()) return nullptr;
  return __libc_realloc(old, size);
}
void* aligned_alloc(std::size_t alignment, std::size_t size) {
  if (counts(kMalloc) && strikes()) return nullptr;
  return __libc_memalign(alignment, size);
}

}  // extern "C"
// NOLINTEND(readability-inconsistent-declaration-parameter-name)

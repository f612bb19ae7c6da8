#include "tests/support/crash_vfs.h"

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

namespace logbell::tests {

namespace {

constexpr sqlite3_int64 kSector = 512;

// A file, and what it held at its last sync where it was written since.
struct Tracked {
  std::string path;
  bool dirty = false;
  sqlite3_int64 durable_size = 0;
  std::map<sqlite3_int64, std::string> before;  // sector -> bytes then; shorter at the end of the file
  std::vector<sqlite3_int64> order;             // sectors as they were first written
};

std::map<std::string, std::shared_ptr<Tracked>>& files() {
  static std::map<std::string, std::shared_ptr<Tracked>> all;
  return all;
}

sqlite3_vfs* real_vfs = nullptr;

struct File {
  sqlite3_file base;
  Tracked* tracked;  // null: a temporary file
  sqlite3_file* real() { return reinterpret_cast<sqlite3_file*>(this + 1); }
};

File& of(sqlite3_file* file) {
  return *reinterpret_cast<File*>(file);
}

sqlite3_int64 size_of(File& file) {
  sqlite3_int64 size = 0;
  file.real()->pMethods->xFileSize(file.real(), &size);
  return size;
}

// What the sectors from `from` to `to` hold is remembered, if they are written for the first time.
void remember(File& file, sqlite3_int64 from, sqlite3_int64 to) {
  Tracked& tracked = *file.tracked;
  const sqlite3_int64 size = size_of(file);
  if (!tracked.dirty) {
    tracked.dirty = true;
    tracked.durable_size = size;
  }
  for (sqlite3_int64 sector = from / kSector; sector * kSector < to; ++sector) {
    const auto [at, is_new] = tracked.before.try_emplace(sector);
    if (!is_new) continue;
    tracked.order.push_back(sector);
    const sqlite3_int64 known = std::min(size, tracked.durable_size) - sector * kSector;
    if (known <= 0) continue;
    at->second.resize(static_cast<std::size_t>(std::min(known, kSector)));
    file.real()->pMethods->xRead(file.real(), at->second.data(), static_cast<int>(at->second.size()),
                                 sector * kSector);
  }
}

void forget(Tracked& tracked) {
  tracked.dirty = false;
  tracked.before.clear();
  tracked.order.clear();
}

void lose_of(Tracked& tracked, std::mt19937_64& random) {
  const int fd = ::open(tracked.path.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) return;  // deleted since
  struct stat status {};
  ::fstat(fd, &status);
  const sqlite3_int64 now = status.st_size;
  const std::uint64_t kind = random() % 4;
  const std::size_t first = tracked.order.empty() ? 0 : random() % (tracked.order.size() + 1);
  const bool shrunk = now < tracked.durable_size;
  const bool cut_kept = shrunk && random() % 2 == 0;
  sqlite3_int64 end = cut_kept ? now : tracked.durable_size;
  for (std::size_t i = 0; i < tracked.order.size(); ++i) {
    const sqlite3_int64 sector = tracked.order[i];
    const bool cut_away = sector * kSector >= now;
    const bool kept = !cut_away && (kind == 0   ? false
                                    : kind == 1 ? i < first
                                    : kind == 2 ? random() % 2 == 0
                                                : true);
    if (kept) {
      end = std::max(end, std::min(now, (sector + 1) * kSector));
      continue;
    }
    if (cut_away && cut_kept) continue;
    std::string old = tracked.before.at(sector);
    old.resize(kSector, '\0');
    [[maybe_unused]] const ssize_t written = ::pwrite(fd, old.data(), old.size(), sector * kSector);
  }
  if (::ftruncate(fd, end) != 0) ::unlink(tracked.path.c_str());
  ::close(fd);
}

}  // namespace

struct CrashVfsCalls {
  static CrashVfs& vfs() { return CrashVfs::instance(); }

  static int close(sqlite3_file* file) { return of(file).real()->pMethods->xClose(of(file).real()); }
  static int read(sqlite3_file* file, void* into, int size, sqlite3_int64 at) {
    return of(file).real()->pMethods->xRead(of(file).real(), into, size, at);
  }
  static int write(sqlite3_file* file, const void* from, int size, sqlite3_int64 at) {
    File& f = of(file);
    if (f.tracked != nullptr) {
      if (!vfs().call()) return SQLITE_IOERR_WRITE;
      if (vfs().full()) return SQLITE_FULL;
      remember(f, at, at + size);
    }
    return f.real()->pMethods->xWrite(f.real(), from, size, at);
  }
  static int truncate(sqlite3_file* file, sqlite3_int64 size) {
    File& f = of(file);
    if (f.tracked != nullptr) {
      if (!vfs().call()) return SQLITE_IOERR_TRUNCATE;
      remember(f, size, size_of(f));
    }
    return f.real()->pMethods->xTruncate(f.real(), size);
  }
  static int sync(sqlite3_file* file, int /*flags*/) {
    File& f = of(file);
    if (f.tracked == nullptr) return SQLITE_OK;
    // An error that a dead process sees; not one of the disk, which would be SQLITE_IOERR_FSYNC.
    if (!vfs().call()) return SQLITE_IOERR_WRITE;
    forget(*f.tracked);
    return SQLITE_OK;
  }
  static int file_size(sqlite3_file* file, sqlite3_int64* size) {
    return of(file).real()->pMethods->xFileSize(of(file).real(), size);
  }
  static int lock(sqlite3_file* file, int level) {
    return of(file).real()->pMethods->xLock(of(file).real(), level);
  }
  static int unlock(sqlite3_file* file, int level) {
    return of(file).real()->pMethods->xUnlock(of(file).real(), level);
  }
  static int check_reserved_lock(sqlite3_file* file, int* result) {
    return of(file).real()->pMethods->xCheckReservedLock(of(file).real(), result);
  }
  static int file_control(sqlite3_file* file, int op, void* argument) {
    return of(file).real()->pMethods->xFileControl(of(file).real(), op, argument);
  }
  static int sector_size(sqlite3_file* file) {
    return of(file).real()->pMethods->xSectorSize(of(file).real());
  }
  static int device_characteristics(sqlite3_file* file) {
    return of(file).real()->pMethods->xDeviceCharacteristics(of(file).real());
  }
  static int shm_map(sqlite3_file* file, int page, int size, int extend, void volatile** at) {
    return of(file).real()->pMethods->xShmMap(of(file).real(), page, size, extend, at);
  }
  static int shm_lock(sqlite3_file* file, int offset, int n, int flags) {
    return of(file).real()->pMethods->xShmLock(of(file).real(), offset, n, flags);
  }
  static void shm_barrier(sqlite3_file* file) { of(file).real()->pMethods->xShmBarrier(of(file).real()); }
  static int shm_unmap(sqlite3_file* file, int remove) {
    return of(file).real()->pMethods->xShmUnmap(of(file).real(), remove);
  }

  static int open(sqlite3_vfs* /*vfs*/, const char* name, sqlite3_file* file, int flags, int* out_flags) {
    static const sqlite3_io_methods kMethods = {2,
                                                close,
                                                read,
                                                write,
                                                truncate,
                                                sync,
                                                file_size,
                                                lock,
                                                unlock,
                                                check_reserved_lock,
                                                file_control,
                                                sector_size,
                                                device_characteristics,
                                                shm_map,
                                                shm_lock,
                                                shm_barrier,
                                                shm_unmap,
                                                nullptr,
                                                nullptr};
    File& f = of(file);
    f.base.pMethods = nullptr;
    f.tracked = nullptr;
    if (vfs().dead()) return SQLITE_CANTOPEN;
    const int rc = real_vfs->xOpen(real_vfs, name, f.real(), flags, out_flags);
    if (rc != SQLITE_OK) return rc;
    f.base.pMethods = &kMethods;
    if (name != nullptr) {
      std::shared_ptr<Tracked>& tracked = files()[name];
      if (tracked == nullptr) tracked = std::make_shared<Tracked>();
      tracked->path = name;
      f.tracked = tracked.get();
    }
    return SQLITE_OK;
  }
  static int remove(sqlite3_vfs* /*vfs*/, const char* name, int /*sync_directory*/) {
    if (!vfs().call()) return SQLITE_IOERR_DELETE;
    const auto found = files().find(name);
    if (found != files().end()) forget(*found->second);
    return real_vfs->xDelete(real_vfs, name, 0);
  }
  static int access(sqlite3_vfs* /*vfs*/, const char* name, int flags, int* result) {
    return real_vfs->xAccess(real_vfs, name, flags, result);
  }
  static int full_pathname(sqlite3_vfs* /*vfs*/, const char* name, int size, char* out) {
    return real_vfs->xFullPathname(real_vfs, name, size, out);
  }
  static int randomness(sqlite3_vfs* /*vfs*/, int size, char* out) {
    return real_vfs->xRandomness(real_vfs, size, out);
  }
  static int rest(sqlite3_vfs* /*vfs*/, int microseconds) { return real_vfs->xSleep(real_vfs, microseconds); }
  static int current_time(sqlite3_vfs* /*vfs*/, double* out) { return real_vfs->xCurrentTime(real_vfs, out); }
  static int current_time_64(sqlite3_vfs* /*vfs*/, sqlite3_int64* out) {
    return real_vfs->xCurrentTimeInt64(real_vfs, out);
  }
  static int last_error(sqlite3_vfs* /*vfs*/, int size, char* out) {
    return real_vfs->xGetLastError(real_vfs, size, out);
  }
};

CrashVfs& CrashVfs::instance() {
  static CrashVfs* const kInstance = new CrashVfs;  // connections of static objects may outlive everything
  return *kInstance;
}

CrashVfs::CrashVfs() {
  real_vfs = sqlite3_vfs_find(nullptr);
  static sqlite3_vfs ours = *real_vfs;
  ours.szOsFile = static_cast<int>(sizeof(File)) + real_vfs->szOsFile;
  ours.pNext = nullptr;
  ours.zName = "logbell-crash";
  ours.xOpen = CrashVfsCalls::open;
  ours.xDelete = CrashVfsCalls::remove;
  ours.xAccess = CrashVfsCalls::access;
  ours.xFullPathname = CrashVfsCalls::full_pathname;
  ours.xRandomness = CrashVfsCalls::randomness;
  ours.xSleep = CrashVfsCalls::rest;
  ours.xCurrentTime = CrashVfsCalls::current_time;
  ours.xGetLastError = CrashVfsCalls::last_error;
  ours.xCurrentTimeInt64 = CrashVfsCalls::current_time_64;
  sqlite3_vfs_register(&ours, 1);
}

void CrashVfs::reset() {
  write_back();
  dead_ = full_ = false;
  calls_left_ = 0;
}

void CrashVfs::write_back() {
  for (auto& [path, tracked] : files())
    forget(*tracked);
}

void CrashVfs::crash(bool power, std::mt19937_64& random) {
  if (dead_) return;
  random_.seed(random());
  power_ = power;
  calls_left_ = 0;
  lose();
}

void CrashVfs::crash_after(std::uint64_t calls, bool power, std::mt19937_64& random) {
  random_.seed(random());
  power_ = power;
  calls_left_ = std::max<std::uint64_t>(calls, 1);
}

void CrashVfs::lose() {
  dead_ = true;
  if (power_) {
    for (auto& [path, tracked] : files()) {
      if (tracked->dirty) lose_of(*tracked, random_);
    }
  }
  write_back();
}

void CrashVfs::revive() {
  dead_ = full_ = false;
  calls_left_ = 0;
}

bool CrashVfs::call() {
  if (!dead_ && calls_left_ > 0 && --calls_left_ == 0) lose();
  return !dead_;
}

}  // namespace logbell::tests

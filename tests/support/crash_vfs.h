// CrashVfs: SQLite's files as a crash leaves them. A VFS in front of the system's own, the default of every
// connection of a test executable once it was asked for.
//
// The model is that of SQLite's own crash tests (sqlite.org/testing.html, "Crash Testing", and
// sqlite.org/atomiccommit.html, "Hardware Assumptions"): what was written since a file's last sync may be on
// the disk, or not, or in part, sector by sector of 512 bytes and in any order; what was synced is. A sector
// keeps what it held where it was not written (power-safe overwrite), and a name that was made stays.
//
// Of one thread.
#pragma once

#include <cstdint>
#include <random>

namespace logbell::tests {

class CrashVfs {
 public:
  static CrashVfs& instance();

  // Every file is as it stands, for good; errors and counters are as new.
  void reset();
  // The kernel has brought everything to the disk by itself, as it may at any time.
  void write_back();

  // The process dies now, and with `power` the machine too. From here on every call fails, so that what
  // destructors do leaves no trace; with `power` the files are what is left of them.
  void crash(bool power, std::mt19937_64& random);
  // The same, in the middle of it: after so many more writes, truncations and syncs.
  void crash_after(std::uint64_t calls, bool power, std::mt19937_64& random);
  void call_off() { calls_left_ = 0; }  // a crash_after() that has not come
  bool dead() const { return dead_; }
  // Another process begins.
  void revive();

  // While set, nothing can be written: the disk is full.
  void set_full(bool full) { full_ = full; }
  bool full() const { return full_; }

  CrashVfs(const CrashVfs&) = delete;
  CrashVfs& operator=(const CrashVfs&) = delete;

 private:
  friend struct CrashVfsCalls;
  CrashVfs();
  ~CrashVfs() = default;
  bool call();  // counted; false: dead
  void lose();

  bool dead_ = false;
  bool full_ = false;
  bool power_ = false;
  std::uint64_t calls_left_ = 0;  // 0: no crash is to come
  std::mt19937_64 random_;
};

}  // namespace logbell::tests

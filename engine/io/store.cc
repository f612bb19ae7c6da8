// Store: how state survives, on SQLite. See store.h for what, DESIGN.md §5 for why.
//
// One file in WAL mode. A commit is one BEGIN IMMEDIATE transaction; without `sync` it is in the kernel's
// hands when commit returns (it survives kill -9), with `sync` it is on the disk (it survives the power cut).
#include "engine/io/store.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <set>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sqlite3.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "engine/io/fault.h"
#include "engine/io/thread_annotations.h"
#include "rules/json.h"
#include "rules/labels.h"

namespace logbell::engine {

namespace fs = std::filesystem;
using rules::Error;
using rules::ErrorCode;
using rules::fail;
using rules::Result;

namespace {

// Rises with every change of the tables. A file with a larger one was written by a newer logbell.
constexpr std::int64_t kSchemaVersion = 1;
// "LgBl": says that a file is ours even before its tables are looked at.
constexpr std::int64_t kApplicationId = 0x4c67426c;
// Checking reads every page: about half a second for this much from the disk cache. A larger file is opened
// unchecked; SQLite still reports what it trips over.
constexpr std::uintmax_t kMaxCheckedBytes = std::uintmax_t{256} << 20;
// Files moved aside are for a person to look at; a bad disk in a crash loop must not fill itself with them.
constexpr std::size_t kMaxCorruptKept = 3;
// Pages (4 KiB) of write-ahead log before it is folded into the file: 4 MiB, a few seconds of commits. On a
// small volume an eighth of what is free, so that log, file and reserve fit beside each other (FAULTS F36);
// below the least, each commit would be folded by itself.
constexpr std::uint64_t kMaxCheckpointPages = 1000;
constexpr std::uint64_t kMinCheckpointPages = 16;
constexpr std::uint64_t kPageBytes = 4096;
constexpr std::uint64_t kFreePerLog = 8;
// The log is cut back to this many times its bound once folded: one large commit does not hold disk space
// for ever.
constexpr std::uint64_t kLogsKept = 2;
// The reserve is put back once so many times its size are free.
constexpr std::uint64_t kFreePerReserve = 4;
// A person with the sqlite3 shell may hold a lock for a moment.
constexpr int kBusyTimeoutMs = 5000;
// How often a start asks again for the lock.
constexpr int kLockPollMs = 50;
// Repeats dropped at once when the outbox is full, so that the search for them is not paid for each row.
constexpr int kTrimRows = 64;

constexpr const char* kSchema = R"sql(
CREATE TABLE kv(
  key BLOB PRIMARY KEY NOT NULL,
  value BLOB NOT NULL,
  sum INTEGER NOT NULL             -- hash of key and value: SQLite's own check does not see a flipped bit in a value
) WITHOUT ROWID;
CREATE TABLE outbox(
  id INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used twice: a late settlement cannot meet another's row
  key TEXT NOT NULL UNIQUE,
  sink TEXT NOT NULL,
  lane TEXT NOT NULL,
  group_key TEXT NOT NULL,
  notification TEXT NOT NULL,
  sum INTEGER NOT NULL,
  state INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  not_before INTEGER,
  maybe_sent INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  replaces TEXT NOT NULL,
  priority INTEGER NOT NULL,
  elsewhere TEXT NOT NULL DEFAULT ''
);
CREATE INDEX outbox_by_lane ON outbox(lane, state, created_at);
CREATE INDEX outbox_by_replaces ON outbox(lane, replaces) WHERE replaces <> '';
CREATE INDEX outbox_by_group ON outbox(lane, group_key, id);
CREATE INDEX outbox_repeats ON outbox(id) WHERE priority = 2 AND state = 0;
CREATE INDEX outbox_dead ON outbox(id) WHERE state = 3;
CREATE TABLE synced(n INTEGER NOT NULL);
INSERT INTO synced VALUES(0);
CREATE TABLE receipts(
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  key TEXT NOT NULL UNIQUE,
  sink TEXT NOT NULL,
  lane TEXT NOT NULL,
  state INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  receipt TEXT NOT NULL,
  outcome TEXT NOT NULL,
  reason TEXT NOT NULL,
  detail TEXT NOT NULL,
  at INTEGER NOT NULL,
  about TEXT NOT NULL DEFAULT ''
);
)sql";
// Files of before them have no such columns. They are no new version of the tables: a logbell of before writes and
// reads them with these, so that a roll-back can start.
constexpr const char* kAddElsewhere = "ALTER TABLE outbox ADD COLUMN elsewhere TEXT NOT NULL DEFAULT ''";
constexpr const char* kAddAbout = "ALTER TABLE receipts ADD COLUMN about TEXT NOT NULL DEFAULT ''";

// As stored; the partial indices above name 0 and 3.
constexpr std::int64_t to_int(DeliveryState state) {
  switch (state) {
    case DeliveryState::kPending:
      return 0;
    case DeliveryState::kInFlight:
      return 1;
    case DeliveryState::kDelivered:
      return 2;
    case DeliveryState::kDead:
      return 3;
    case DeliveryState::kSuperseded:
      return 4;
  }
  return 0;
}

constexpr DeliveryState to_state(std::int64_t value) {
  switch (value) {
    case 1:
      return DeliveryState::kInFlight;
    case 2:
      return DeliveryState::kDelivered;
    case 3:
      return DeliveryState::kDead;
    case 4:
      return DeliveryState::kSuperseded;
    default:
      return DeliveryState::kPending;
  }
}

std::int64_t checksum(std::string_view key, std::string_view value) {
  std::string joined;
  joined.reserve(key.size() + value.size() + 1);
  joined.append(key).append(1, '\0').append(value);
  return static_cast<std::int64_t>(rules::hash_bytes(joined));
}

ErrorCode code_of(int rc) {
  switch (rc & 0xff) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return ErrorCode::kCorrupt;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return ErrorCode::kUnavailable;
    default:
      return ErrorCode::kIo;
  }
}

class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  ~FileDescriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_ = -1;
};

Result<> sync_path(const fs::path& path, bool directory) {
  const int flags = O_RDONLY | O_CLOEXEC | (directory ? O_DIRECTORY : 0);
  const FileDescriptor fd(::open(path.c_str(), flags));
  if (fd.get() < 0 || ::fsync(fd.get()) != 0) {
    return fail(ErrorCode::kIo, fmt::format("sync {}: {}", path.string(), rules::errno_text(errno)));
  }
  return {};
}

// A connection that remembers the first error of a piece of work: statements after it do nothing, so that the
// work can be written straight down and asked once at its end.
class Connection {
 public:
  Connection() = default;
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  ~Connection() { sqlite3_close_v2(db_); }

  void open(const fs::path& path, int flags) {
    const int rc = sqlite3_open_v2(path.c_str(), &db_, flags | SQLITE_OPEN_NOMUTEX, nullptr);
    if (db_ != nullptr) sqlite3_extended_result_codes(db_, 1);
    if (rc != SQLITE_OK) {
      note(rc);
      return;
    }
    note(sqlite3_busy_timeout(db_, kBusyTimeoutMs));
    // The file may have been tampered with: its schema must not be able to do more than hold our tables.
    note(sqlite3_db_config(db_, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr));
    note(sqlite3_db_config(db_, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr));
    // In a container with a read-only root there is no directory for temporary files.
    execute("PRAGMA cell_size_check = ON; PRAGMA temp_store = MEMORY");
  }

  // Statements of it must be gone. It can be opened again.
  void close() {
    sqlite3_close_v2(std::exchange(db_, nullptr));
    code_ = taken_ = SQLITE_OK;
    error_.clear();
  }

  bool ok() const { return code_ == SQLITE_OK; }
  int code() const { return code_; }
  // Of the error that was handed over last: no room is left.
  bool was_full() const { return (taken_ & 0xff) == SQLITE_FULL; }
  // Folds the log into the file and gives its space back, as far as nobody reads from it.
  int fold() { return sqlite3_wal_checkpoint_v2(db_, nullptr, SQLITE_CHECKPOINT_TRUNCATE, nullptr, nullptr); }
  void note(int rc) {
    if (!ok() || rc == SQLITE_OK) return;
    code_ = rc;
    error_ = db_ != nullptr ? sqlite3_errmsg(db_) : sqlite3_errstr(rc);
    const int system = db_ != nullptr ? sqlite3_system_errno(db_) : 0;
    if ((rc & 0xff) == SQLITE_IOERR && system != 0) error_ += " (" + rules::errno_text(system) + ")";
  }
  void note(int rc, std::string message) {
    if (!ok()) return;
    code_ = rc;
    error_ = std::move(message);
  }
  // Hands the error over and is usable again.
  Error take_error(std::string_view doing) {
    Error error{code_of(code_), fmt::format("{}: {}", doing, error_)};
    taken_ = std::exchange(code_, SQLITE_OK);
    error_.clear();
    return error;
  }
  void execute(const char* sql) {
    if (ok()) note(sqlite3_exec(db_, sql, nullptr, nullptr, nullptr));
  }
  void roll_back() {
    // An error such as a full disk may have rolled back already; then there is no transaction to end.
    if (db_ != nullptr && sqlite3_get_autocommit(db_) == 0) {
      sqlite3_exec(db_, "ROLLBACK", nullptr, nullptr, nullptr);
    }
  }
  sqlite3* handle() { return db_; }

 private:
  sqlite3* db_ = nullptr;
  int code_ = SQLITE_OK;
  int taken_ = SQLITE_OK;
  std::string error_;
};

// What an unprivileged process may still write there; unset: the file system does not say.
std::optional<std::uint64_t> free_bytes(const fs::path& directory) {
  struct statvfs status {};
  if (::statvfs(directory.c_str(), &status) != 0) return std::nullopt;
  return std::uint64_t{status.f_bavail} * status.f_frsize;
}

// A file of no use but its size, given up when the disk is full: folding the log may need room in the state
// file before it frees any, and an alert that is under way should be written although nothing else is.
class Reserve {
 public:
  void at(const fs::path& path, std::uint64_t bytes) {
    path_ = path;
    bytes_ = bytes;
    std::error_code error;
    kept_ = fs::file_size(path_, error) > 0 && !error;
  }
  bool release() {
    if (!std::exchange(kept_, false)) return false;
    std::error_code ignored;
    return fs::remove(path_, ignored);
  }
  // Asked after each commit: puts it back where there is room enough for it not to be missed.
  void restock() {
    if (kept_ || bytes_ == 0) return;
    const std::optional<std::uint64_t> room = free_bytes(path_.parent_path());
    if (!room || *room < kFreePerReserve * bytes_) return;
    const FileDescriptor fd(::open(path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (fd.get() < 0) return;
    // Not emulated by the C library where the file system cannot do it: that would write every block.
    if (::fallocate(fd.get(), 0, 0, static_cast<off_t>(bytes_)) == 0) {
      kept_ = true;
    } else {
      bytes_ = 0;  // not on this file system, then
      ::unlink(path_.c_str());
    }
  }

 private:
  fs::path path_;
  std::uint64_t bytes_ = 0;
  bool kept_ = false;
};

// A prepared statement: arguments in order, then run() or row() until it says false.
class Statement {
 public:
  Statement(Connection& connection, std::string_view sql) : connection_(connection) {
    if (!connection_.ok()) return;
    connection_.note(sqlite3_prepare_v3(connection_.handle(), sql.data(), static_cast<int>(sql.size()),
                                        SQLITE_PREPARE_PERSISTENT, &statement_, nullptr));
  }
  ~Statement() { sqlite3_finalize(statement_); }
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  // Text and blobs must live until the statement has run: nothing is copied.
  Statement& text(std::string_view value) {
    if (usable(value.size())) {
      connection_.note(
          sqlite3_bind_text(statement_, ++bound_, data(value), static_cast<int>(value.size()), nullptr));
    }
    return *this;
  }
  Statement& blob(std::string_view value) {
    if (usable(value.size())) {
      connection_.note(
          sqlite3_bind_blob(statement_, ++bound_, data(value), static_cast<int>(value.size()), nullptr));
    }
    return *this;
  }
  Statement& integer(std::int64_t value) {
    if (usable(0)) connection_.note(sqlite3_bind_int64(statement_, ++bound_, value));
    return *this;
  }
  Statement& time(std::optional<rules::Timestamp> value) {
    if (value) return integer(rules::to_unix_ms(*value));
    if (usable(0)) connection_.note(sqlite3_bind_null(statement_, ++bound_));
    return *this;
  }

  // True: the columns hold a row. False: there is none (or an error, which the connection remembers).
  bool row() {
    if (!connection_.ok() || statement_ == nullptr) {
      reset();
      return false;
    }
    const int rc = sqlite3_step(statement_);
    if (rc == SQLITE_ROW) return true;
    if (rc != SQLITE_DONE) connection_.note(rc);
    reset();
    return false;
  }
  // For what gives no rows.
  void run() {
    while (row()) {
    }
  }
  void reset() {
    if (statement_ != nullptr) {
      sqlite3_reset(statement_);  // it repeats the error of the step, which is noted already
      sqlite3_clear_bindings(statement_);
    }
    bound_ = 0;
  }

  std::int64_t get_integer(int column) { return sqlite3_column_int64(statement_, column); }
  std::optional<rules::Timestamp> get_time(int column) {
    if (sqlite3_column_type(statement_, column) == SQLITE_NULL) return std::nullopt;
    return rules::from_stored_ms(get_integer(column));
  }
  // Valid until the next row() or reset().
  std::string_view get(int column) {
    const void* bytes = sqlite3_column_blob(statement_, column);
    const int size = sqlite3_column_bytes(statement_, column);
    if (bytes == nullptr || size <= 0) return {};
    return {static_cast<const char*>(bytes), static_cast<std::size_t>(size)};
  }

 private:
  // A null pointer would bind NULL instead of the empty string.
  static const char* data(std::string_view value) { return value.data() == nullptr ? "" : value.data(); }
  bool usable(std::size_t size) {
    if (!connection_.ok() || statement_ == nullptr) return false;
    if (size <= INT_MAX) return true;
    connection_.note(SQLITE_TOOBIG);
    return false;
  }

  Connection& connection_;
  sqlite3_stmt* statement_ = nullptr;
  int bound_ = 0;
};

std::int64_t ask(Connection& connection, std::string_view sql) {
  Statement statement(connection, sql);
  return statement.row() ? statement.get_integer(0) : 0;
}

// What waits, kept beside the tables so that the bound costs nothing to check.
struct Waiting {
  std::uint64_t rows = 0;
  std::uint64_t bytes = 0;

  bool full() const { return rows > Store::kMaxOutboxRows || bytes > Store::kMaxOutboxBytes; }
  void add(std::size_t size) {
    ++rows;
    bytes += size;
  }
  void remove(std::size_t size) {
    rows -= std::min<std::uint64_t>(rows, 1);
    bytes -= std::min<std::uint64_t>(bytes, size);
  }
};

// The statements of a commit, prepared once.
struct Writer {
  // `has_about`: receipts has that column.
  Writer(Connection& c, bool has_about)
      :  // SQLite writes, and so syncs, nothing when a row is as it was; then earlier commits would stay
         // unsynced.
        mark_synced(c, "UPDATE synced SET n = n + 1"),
        put(c,
            "INSERT INTO kv(key, value, sum) VALUES(?,?,?) ON CONFLICT(key) DO UPDATE SET "
            "value=excluded.value, "
            "sum=excluded.sum"),
        erase(c, "DELETE FROM kv WHERE key=?"),
        notification(c, "SELECT notification FROM outbox WHERE id=?"),
        find(c, "SELECT key, sink, lane, state, length(CAST(notification AS BLOB)) FROM outbox WHERE id=?"),
        mark(c, "UPDATE outbox SET state=1 WHERE id=? AND state=0"),
        retry(c, "UPDATE outbox SET state=?, attempts=?, not_before=?, maybe_sent=? WHERE id=?"),
        remove(c, "DELETE FROM outbox WHERE id=?"),
        known(c, "SELECT 1 FROM outbox WHERE key=?1 UNION ALL SELECT 1 FROM receipts WHERE key=?1"),
        replaced(c, "SELECT id FROM outbox WHERE lane=? AND replaces=? AND replaces<>'' AND state=0"),
        insert(
            c,
            "INSERT INTO outbox(key, sink, lane, group_key, notification, sum, state, attempts, not_before, "
            "maybe_sent, created_at, replaces, priority) VALUES(?,?,?,?,?,?,0,0,NULL,0,?,?,?)"),
        // A repeat behind which the same group says something newer goes first; then any repeat: who is told
        // twice that it still fires knows it already.
        stale_repeats(
            c,
            "SELECT id FROM outbox AS old WHERE priority=2 AND state=0 AND EXISTS (SELECT 1 FROM outbox "
            "AS newer WHERE newer.lane=old.lane AND newer.group_key=old.group_key AND newer.id>old.id "
            "AND newer.state IN (0,1)) ORDER BY id LIMIT ?"),
        any_repeats(c, "SELECT id FROM outbox WHERE priority=2 AND state=0 ORDER BY id LIMIT ?"),
        receipt(c,
                has_about ? "INSERT OR REPLACE INTO receipts(key, sink, lane, state, attempts, receipt, outcome, "
                            "reason, detail, at, about) VALUES(?,?,?,?,?,?,?,?,?,?,?)"
                          : "INSERT OR REPLACE INTO receipts(key, sink, lane, state, attempts, receipt, outcome, "
                            "reason, detail, at) VALUES(?,?,?,?,?,?,?,?,?,?)"),
        forget_receipts(c, "DELETE FROM receipts WHERE id <= (SELECT max(id) FROM receipts) - ?"),
        forget_dead(
            c,
            "DELETE FROM outbox WHERE state=3 AND id IN (SELECT id FROM outbox WHERE state=3 ORDER BY id "
            "DESC LIMIT -1 OFFSET ?)") {}

  Statement mark_synced, put, erase, notification, find, mark, retry, remove, known, replaced, insert, stale_repeats,
      any_repeats, receipt, forget_receipts, forget_dead;
};

// A row of the outbox, as it was found.
struct Row {
  std::string key;
  std::string sink;
  std::string lane;
  DeliveryState state = DeliveryState::kPending;
  std::size_t bytes = 0;
};

// What a notification was about, for the history; "" where its text cannot be read.
std::string about(std::string_view text) {
  const Result<rules::Notification> notification = rules::decode_notification(text);
  if (!notification) return {};
  rules::Json names = rules::Json::Array{};
  for (const std::string_view name : notification->names())
    names.push(name);
  rules::Json json;
  json.set("alerts", std::move(names)).set("why", rules::to_string(notification->reason));
  if (!notification->drill.empty()) json.set("drill", notification->drill);
  if (!notification->fallback_for.empty()) json.set("fallback_for", notification->fallback_for);
  json.set("created_at", rules::to_unix_ms(notification->created_at))
      .set("caused_at", rules::to_unix_ms(notification->caused_at));
  return json.dump();
}

void read_about(std::string_view text, Receipt& receipt) {
  if (text.empty()) return;
  const Result<rules::Json> json = rules::Json::parse(text);
  if (!json) return;
  for (const rules::Json& name : (*json)["alerts"].array())
    receipt.alerts.emplace_back(name.string());
  receipt.why = (*json)["why"].string();
  receipt.drill = (*json)["drill"].string();
  receipt.fallback_for = (*json)["fallback_for"].string();
  const auto time = [&](const char* key) -> std::optional<rules::Timestamp> {
    const rules::Json& at = (*json)[key];
    if (!at.is_integer()) return std::nullopt;
    return rules::from_stored_ms(at.integer());
  };
  receipt.created_at = time("created_at");
  receipt.caused_at = time("caused_at");
}

// `elsewhere`: the column, or '' where there is none.
std::string select_deliveries(std::string_view elsewhere) {
  return fmt::format("SELECT id, key, lane, notification, sum, state, attempts, not_before, maybe_sent, sink, {} FROM "
                     "outbox WHERE state IN (0,1) ORDER BY id",
                     elsewhere);
}

struct Paths {
  fs::path directory;
  fs::path database;
  fs::path lock;

  explicit Paths(const fs::path& state_dir)
      : directory(fs::absolute(state_dir) / "logbell"),
        database(directory / "state.db"),
        lock(directory / "lock") {}
  static fs::path with(const fs::path& path, std::string_view suffix) {
    return path.string() + std::string(suffix);
  }
};

// Which file it is, whatever its name.
struct FileId {
  dev_t device = 0;
  ino_t inode = 0;

  bool operator==(const FileId&) const = default;
};

FileId id_of(const struct stat& status) {
  return {status.st_dev, status.st_ino};
}

enum class Place { kOurs, kMissing, kOthers };

// What has the name that ours had. Where the system does not say, ours: a disk that does not answer has lost
// nothing yet.
Place place_of(const fs::path& path, const FileId& ours) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0)
    return errno == ENOENT || errno == ENOTDIR ? Place::kMissing : Place::kOurs;
  return id_of(status) == ours ? Place::kOurs : Place::kOthers;
}

}  // namespace

struct Store::Impl {
  explicit Impl(Paths where) : paths(std::move(where)) {}

  const Paths paths;

  mutable Mutex mutex;
  // The lock is released last: the next instance must find a closed file.
  FileDescriptor instance_lock GUARDED_BY(mutex);
  // Which files are open. As long as they are, no other one gets their numbers.
  FileId database GUARDED_BY(mutex);
  FileId log GUARDED_BY(mutex);
  bool displaced GUARDED_BY(mutex) = false;  // seen, and not mended yet
  std::string why_broken GUARDED_BY(mutex);
  Connection db GUARDED_BY(mutex);
  std::unique_ptr<Writer> writer GUARDED_BY(mutex);
  bool full_sync GUARDED_BY(mutex) = false;
  Waiting waiting GUARDED_BY(mutex);
  StoreCounters totals GUARDED_BY(mutex);
  std::atomic<bool> broken{false};
  std::atomic<bool> has_about{false};  // receipts has that column; from the start on
  std::atomic<bool> has_elsewhere{false};  // so has the outbox
  Reserve reserve GUARDED_BY(mutex);

  Mutex read_mutex;
  Connection reader GUARDED_BY(read_mutex);

  // Opens both connections to a file that is known to be good. `first`: whoever wrote it before is no more.
  Result<> start(bool first) REQUIRES(mutex, read_mutex);
  Place place_of_lock() const REQUIRES(mutex);
  bool in_place() const REQUIRES(mutex);
  // Takes the lock at the path, and writes there what the open files hold.
  Result<> make_anew() REQUIRES(mutex);
  Result<> copy_to_path() REQUIRES(mutex);
  Result<> taken_over(std::string why) REQUIRES(mutex);

  // One transaction: begin, apply, end. Errors in between stay in `db`; end() rolls back then. Such a
  // transaction works on copies of `waiting` and `totals`, which replace them once it is committed.
  Result<> begin(bool sync, std::string_view doing) REQUIRES(mutex);
  void apply(const Commit& commit, Waiting& now_waiting, StoreCounters& now_totals,
             std::vector<Delivery>& added) REQUIRES(mutex);
  Result<> end(std::string_view doing) REQUIRES(mutex);
  Result<std::vector<Delivery>> try_commit(const Commit& commit) REQUIRES(mutex);
  // The disk is full: gives back what the log holds, with the help of the reserve if need be. False: that
  // was not possible.
  bool fold_log() REQUIRES(mutex);

  void break_off(std::string why) REQUIRES(mutex);
  void note_sync(int rc) REQUIRES(mutex);

  std::optional<Row> find(DeliveryId id) REQUIRES(mutex);
  void settle(const Settlement& settlement, Waiting& now_waiting) REQUIRES(mutex);
  void record(const Row& row, const Settlement& settlement, const std::string& about) REQUIRES(mutex);
  void queue(const rules::Notification& notification, Waiting& now_waiting, StoreCounters& now_totals,
             std::vector<Delivery>& added) REQUIRES(mutex);
  void supersede(DeliveryId id, const std::string& reason, rules::Timestamp at, Waiting& now_waiting,
                 StoreCounters& now_totals) REQUIRES(mutex);
  void make_room(rules::Timestamp at, Waiting& now_waiting, StoreCounters& now_totals) REQUIRES(mutex);
};

void Store::Impl::break_off(std::string why) {
  if (broken) return;
  why_broken = std::move(why);
  broken = true;
}

void Store::Impl::note_sync(int rc) {
  if (rc == SQLITE_IOERR_FSYNC || rc == SQLITE_IOERR_DIR_FSYNC)
    break_off("an fsync of the state file failed earlier; only a restart can tell what it holds");
}

Result<> Store::Impl::begin(bool sync, std::string_view doing) {
  if (broken) {
    return fail(ErrorCode::kIo, fmt::format("{}: {}", doing, why_broken));
  }
  // Outside the transaction, where SQLite allows it. In WAL, FULL is one fsync of the log at the commit,
  // which covers every earlier commit that did without.
  if (sync != full_sync) {
    db.execute(sync ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL");
    if (db.ok()) full_sync = sync;
  }
  db.execute("BEGIN IMMEDIATE");
  if (!db.ok()) return fail(db.take_error(doing));
  return {};
}

Result<> Store::Impl::end(std::string_view doing) {
  db.execute("COMMIT");
  if (db.ok()) return {};
  const int rc = db.code();
  note_sync(rc);
  db.roll_back();
  return fail(db.take_error(doing));
}

Result<std::vector<Delivery>> Store::Impl::try_commit(const Commit& commit) {
  std::vector<Delivery> added;
  Waiting now_waiting = waiting;
  StoreCounters now_totals = totals;
  constexpr std::string_view kDoing = "write to the state file";
  LOGBELL_FAULT("store.commit.before");
  Result<> done = begin(commit.sync, kDoing);
  if (!done) return fail(done.error());
  apply(commit, now_waiting, now_totals, added);
  LOGBELL_FAULT("store.commit.rows_written");
  done = end(kDoing);
  if (!done) return fail(done.error());
  LOGBELL_FAULT("store.commit.done");
  waiting = now_waiting;
  totals = now_totals;
  return added;
}

bool Store::Impl::fold_log() {
  int rc = db.fold();
  if ((rc & 0xff) == SQLITE_FULL && reserve.release()) rc = db.fold();
  note_sync(rc);
  return rc == SQLITE_OK;
}

std::optional<Row> Store::Impl::find(DeliveryId id) {
  std::optional<Row> found;
  Statement& statement = writer->find.integer(id);
  if (statement.row()) {
    found = Row{std::string(statement.get(0)), std::string(statement.get(1)), std::string(statement.get(2)),
                to_state(statement.get_integer(3)), static_cast<std::size_t>(statement.get_integer(4))};
  }
  statement.reset();
  return found;
}

void Store::Impl::record(const Row& row, const Settlement& settlement, const std::string& about) {
  writer->receipt.text(row.key)
      .text(row.sink)
      .text(row.lane)
      .integer(to_int(settlement.state))
      .integer(settlement.attempts)
      .text(settlement.receipt)
      .text(settlement.outcome)
      .text(settlement.reason)
      .text(settlement.detail)
      .time(settlement.at);
  if (has_about) writer->receipt.text(about);
  writer->receipt.run();
  writer->forget_receipts.integer(static_cast<std::int64_t>(kMaxHistory)).run();
}

void Store::Impl::settle(const Settlement& settlement, Waiting& now_waiting) {
  const std::optional<Row> row = find(settlement.id);
  if (!row) return;  // dropped to make room, or settled before: there is nothing left to say of it
  const bool waited = row->state == DeliveryState::kPending || row->state == DeliveryState::kInFlight;
  const bool ends = settlement.state != DeliveryState::kPending && settlement.state != DeliveryState::kInFlight;
  std::string what;
  if (ends) {
    Statement& statement = writer->notification.integer(settlement.id);
    if (statement.row()) what = about(statement.get(0));
    statement.reset();
  }
  switch (settlement.state) {
    case DeliveryState::kPending:
    case DeliveryState::kInFlight:
      writer->retry.integer(to_int(settlement.state))
          .integer(settlement.attempts)
          .time(settlement.not_before)
          .integer(settlement.maybe_sent ? 1 : 0)
          .integer(settlement.id)
          .run();
      if (!settlement.elsewhere.empty() && has_elsewhere)
        Statement(db, "UPDATE outbox SET elsewhere=? WHERE id=?").text(settlement.elsewhere).integer(settlement.id).run();
      if (!waited) now_waiting.add(row->bytes);
      return;
    case DeliveryState::kDead:
      // The row stays: a person may want it sent once the sink is repaired.
      writer->retry.integer(to_int(settlement.state))
          .integer(settlement.attempts)
          .time(std::nullopt)
          .integer(settlement.maybe_sent ? 1 : 0)
          .integer(settlement.id)
          .run();
      writer->forget_dead.integer(static_cast<std::int64_t>(kMaxDead)).run();
      break;
    case DeliveryState::kDelivered:
    case DeliveryState::kSuperseded:
      writer->remove.integer(settlement.id).run();
      break;
  }
  if (waited) now_waiting.remove(row->bytes);
  record(*row, settlement, what);
}

void Store::Impl::supersede(DeliveryId id, const std::string& reason, rules::Timestamp at,
                            Waiting& now_waiting, StoreCounters& now_totals) {
  Settlement end;
  end.id = id;
  end.state = DeliveryState::kSuperseded;
  end.outcome = "superseded";
  end.reason = reason;
  end.at = at;
  settle(end, now_waiting);
  ++now_totals.superseded;
}

void Store::Impl::make_room(rules::Timestamp at, Waiting& now_waiting, StoreCounters& now_totals) {
  for (Statement* repeats : {&writer->stale_repeats, &writer->any_repeats}) {
    while (now_waiting.full() && db.ok()) {
      std::vector<DeliveryId> ids;
      repeats->integer(kTrimRows);
      while (repeats->row())
        ids.push_back(repeats->get_integer(0));
      if (ids.empty()) break;
      for (const DeliveryId id : ids)
        supersede(id, "outbox_full", at, now_waiting, now_totals);
    }
  }
}

void Store::Impl::queue(const rules::Notification& notification, Waiting& now_waiting,
                        StoreCounters& now_totals, std::vector<Delivery>& added) {
  Statement& known = writer->known.text(notification.key);
  const bool is_known = known.row();
  known.reset();
  if (is_known || !db.ok()) return;

  if (!notification.replaces.empty()) {
    std::vector<DeliveryId> ids;
    writer->replaced.text(notification.lane).text(notification.replaces);
    while (writer->replaced.row())
      ids.push_back(writer->replaced.get_integer(0));
    for (const DeliveryId id : ids)
      supersede(id, "replaced", notification.created_at, now_waiting, now_totals);
  }

  const std::string text = rules::encode(notification);
  writer->insert.text(notification.key)
      .text(notification.sink)
      .text(notification.lane)
      .text(notification.group_key)
      .text(text)
      .integer(checksum(notification.key, text))
      .time(notification.created_at)
      .text(notification.replaces)
      .integer(notification.priority)
      .run();
  LOGBELL_FAULT("store.commit.outbox_inserted");
  if (!db.ok()) return;
  Delivery delivery;
  delivery.id = sqlite3_last_insert_rowid(db.handle());
  delivery.notification = notification;
  added.push_back(std::move(delivery));
  now_waiting.add(text.size());
}

void Store::Impl::apply(const Commit& commit, Waiting& now_waiting, StoreCounters& now_totals,
                        std::vector<Delivery>& added) {
  if (commit.sync) writer->mark_synced.run();
  for (const StoredEntry& entry : commit.entries) {
    if (entry.value) {
      writer->put.blob(entry.key).blob(*entry.value).integer(checksum(entry.key, *entry.value)).run();
    } else {
      writer->erase.blob(entry.key).run();
    }
  }
  LOGBELL_FAULT("store.commit.entries_written");
  for (const Settlement& settlement : commit.settlements)
    settle(settlement, now_waiting);
  for (const Settlement& settlement : commit.settlements) {
    for (const rules::Notification& fallback : settlement.fallbacks)
      queue(fallback, now_waiting, now_totals, added);
  }
  if (!commit.settlements.empty()) LOGBELL_FAULT("store.commit.settlements_written");
  for (const DeliveryId id : commit.in_flight)
    writer->mark.integer(id).run();
  if (!commit.in_flight.empty()) LOGBELL_FAULT("store.commit.in_flight_marked");
  for (const rules::Notification& notification : commit.notifications)
    if (!LOGBELL_BROKEN("store.outbox")) queue(notification, now_waiting, now_totals, added);
  if (now_waiting.full() && !added.empty()) {
    make_room(added.back().notification.created_at, now_waiting, now_totals);
    // One that came in with this commit may have made room at once: then nobody must try to send it.
    std::vector<Delivery> kept;
    for (Delivery& delivery : added) {
      if (delivery.notification.priority < 2 || find(delivery.id)) kept.push_back(std::move(delivery));
    }
    added = std::move(kept);
  }
}

namespace {

// Why `path` could not be made or opened for writing, for whoever must change that: the directory that stands
// in the way, who we are, whose it is, and what to set.
Error not_writable(const fs::path& path, int error) {
  const std::string doing = fmt::format("create {}", path.string());
  if (error != EACCES && error != EPERM && error != EROFS)
    return {ErrorCode::kIo, fmt::format("{}: {}", doing, rules::errno_text(error))};
  // The nearest one that is there.
  fs::path in_the_way = path.parent_path();
  struct stat status {};
  while (::stat(in_the_way.c_str(), &status) != 0) {
    if (!in_the_way.has_relative_path())
      return {ErrorCode::kIo, fmt::format("{}: {}", doing, rules::errno_text(error))};
    in_the_way = in_the_way.parent_path();
  }
  const std::string why =
      fmt::format("{} cannot be written: {}", in_the_way.string(), rules::errno_text(error));
  if (error == EROFS) {
    return {ErrorCode::kIo,
            why + "; mount a volume at `state_dir:` (in Kubernetes an emptyDir or a PersistentVolumeClaim)"};
  }
  // Short enough to be quoted whole where a refusal is told (kRefusalQuotedBytes).
  return {ErrorCode::kIo,
          fmt::format(
              "{}; it belongs to user {}, group {}, mode {:04o}, and this process is user {}, group {} (in "
              "Kubernetes: set securityContext.fsGroup; systemd: StateDirectory=)",
              why, status.st_uid, status.st_gid, status.st_mode & 07777, ::geteuid(), ::getegid())};
}

Result<> make_directory(const fs::path& directory) {
  std::error_code error;
  fs::create_directories(directory.parent_path(), error);
  if (error) return fail(not_writable(directory.parent_path(), error.value()));
  if (::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST) return fail(not_writable(directory, errno));
  struct stat status {};
  if (::lstat(directory.c_str(), &status) != 0) {
    return fail(ErrorCode::kIo, fmt::format("look at {}: {}", directory.string(), rules::errno_text(errno)));
  }
  if (!S_ISDIR(status.st_mode)) {
    return fail(ErrorCode::kIo,
                fmt::format("open {}: not a directory (a symbolic link is refused)", directory.string()));
  }
  // Whoever owns it could put a link where we write. Root is no exception: files it leaves behind would lock
  // the service's own user out.
  if (status.st_uid != ::geteuid()) {
    return fail(
        ErrorCode::kIo,
        fmt::format("open {}: it belongs to user {}, and this process is user {}; run as the same user as "
                    "before (in Kubernetes: runAsUser), or give it that directory",
                    directory.string(), status.st_uid, ::geteuid()));
  }
  if ((status.st_mode & 0777) != 0700 && ::chmod(directory.c_str(), 0700) != 0) {
    return fail(ErrorCode::kIo,
                fmt::format("close {} to others: {}", directory.string(), rules::errno_text(errno)));
  }
  return {};
}

Result<FileDescriptor> take_lock(const fs::path& path, rules::Duration wait) {
  FileDescriptor fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (fd.get() < 0)
    return fail(ErrorCode::kIo, fmt::format("open {}: {}", path.string(), rules::errno_text(errno)));
  // Waits are counted instead of a clock being asked: a little longer under load does no harm.
  rules::Duration waited{0};
  while (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EINTR) continue;
    if (errno != EWOULDBLOCK) {
      return fail(ErrorCode::kIo, fmt::format("lock {}: {}", path.string(), rules::errno_text(errno)));
    }
    if (waited >= wait) {
      std::array<char, 32> holder{};
      const ssize_t size = ::pread(fd.get(), holder.data(), holder.size() - 1, 0);
      std::string pid(holder.data(), size > 0 ? static_cast<std::size_t>(size) : 0);
      while (!pid.empty() && (pid.back() < '0' || pid.back() > '9'))
        pid.pop_back();
      return fail(ErrorCode::kUnavailable,
                  fmt::format("lock {}: another logbell uses this state_dir (process {})", path.string(),
                              pid.empty() ? "unknown" : pid));
    }
    ::poll(nullptr, 0, kLockPollMs);
    waited += rules::Duration(kLockPollMs);
  }
  const std::string pid = fmt::format("{}\n", ::getpid());
  // The number is only for the message above, so a full disk must not keep us from starting.
  if (::ftruncate(fd.get(), 0) == 0) {
    [[maybe_unused]] const ssize_t written = ::pwrite(fd.get(), pid.data(), pid.size(), 0);
  }
  return fd;
}

fs::path new_name(const Paths& paths) {
  return Paths::with(paths.database, ".new");
}

void remove_new(const Paths& paths) {
  std::error_code ignored;
  for (const char* suffix : {"", "-journal", "-wal", "-shm"})
    fs::remove(Paths::with(new_name(paths), suffix), ignored);
}

// Before SQLite does, so that it is never readable by others; its companions take over the mode.
Result<> make_new(const Paths& paths, std::string_view doing) {
  remove_new(paths);
  const FileDescriptor fd(
      ::open(new_name(paths).c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (fd.get() < 0) return fail(ErrorCode::kIo, fmt::format("{}: {}", doing, rules::errno_text(errno)));
  return {};
}

// A new file appears under its name only when it is complete: an empty state.db is always damage, never a
// start that was interrupted.
Result<> give_name(const Paths& paths, std::string_view doing) {
  Result<> synced = sync_path(new_name(paths), false);
  if (!synced) return synced;
  LOGBELL_FAULT("store.create.unnamed");
  if (::rename(new_name(paths).c_str(), paths.database.c_str()) != 0)
    return fail(ErrorCode::kIo, fmt::format("{}: {}", doing, rules::errno_text(errno)));
  return sync_path(paths.directory, true);
}

void remove_log(const Paths& paths) {
  std::error_code ignored;
  for (const char* suffix : {"-wal", "-shm"})
    fs::remove(Paths::with(paths.database, suffix), ignored);
}

Result<> create_database(const Paths& paths) {
  const std::string doing = "create " + paths.database.string();
  Result<> made = make_new(paths, doing);
  if (!made) return made;
  {
    Connection db;
    db.open(new_name(paths), SQLITE_OPEN_READWRITE);
    db.execute("BEGIN IMMEDIATE");
    db.execute(kSchema);
    const std::string marks =
        fmt::format("PRAGMA application_id = {}; PRAGMA user_version = {}", kApplicationId, kSchemaVersion);
    db.execute(marks.c_str());
    db.execute("COMMIT");
    if (!db.ok()) return fail(db.take_error(doing));
  }
  return give_name(paths, doing);
}

std::string basic_rfc3339(rules::Timestamp at) {
  std::string text = rules::format_rfc3339(std::chrono::floor<std::chrono::seconds>(at));
  text.erase(std::remove_if(text.begin(), text.end(), [](char c) { return c == '-' || c == ':'; }),
             text.end());
  return text;
}

// Keeps the newest few of what was moved aside; names sort by time.
void forget_old_corrupt(const Paths& paths) {
  std::error_code error;
  std::set<std::string> stems;
  const std::string prefix = paths.database.filename().string() + ".corrupt-";
  for (fs::directory_iterator it(paths.directory, error), end; !error && it != end; it.increment(error)) {
    std::string name = it->path().filename().string();
    if (name.rfind(prefix, 0) != 0) continue;
    for (const std::string_view suffix : {"-wal", "-shm"}) {
      if (name.size() > suffix.size() &&
          name.compare(name.size() - suffix.size(), suffix.size(), suffix) == 0) {
        name.resize(name.size() - suffix.size());
      }
    }
    stems.insert(name);
  }
  while (stems.size() > kMaxCorruptKept) {
    for (const char* suffix : {"", "-wal", "-shm"})
      fs::remove(Paths::with(paths.directory / *stems.begin(), suffix), error);
    stems.erase(stems.begin());
  }
}

Result<std::string> move_aside(const Paths& paths, rules::Timestamp now) {
  const std::string base = paths.database.string() + ".corrupt-" + basic_rfc3339(now);
  std::string target = base;
  std::error_code error;
  const auto taken = [&](const std::string& name) {
    return fs::exists(fs::symlink_status(name, error)) ||
           fs::exists(fs::symlink_status(name + "-wal", error));
  };
  for (int i = 2; taken(target); ++i)
    target = fmt::format("{}.{}", base, i);
  // The log first: a crash in between must not leave an old log beside a new file, which SQLite would replay
  // into it.
  for (const char* suffix : {"-wal", "-shm", ""}) {
    const fs::path from = Paths::with(paths.database, suffix);
    const fs::path to = target + suffix;
    if (::rename(from.c_str(), to.c_str()) != 0 && errno != ENOENT) {
      return fail(ErrorCode::kIo, fmt::format("move {} aside: {}", from.string(), rules::errno_text(errno)));
    }
  }
  Result<> synced = sync_path(paths.directory, true);
  if (!synced) return fail(synced.error());
  forget_old_corrupt(paths);
  return target;
}

// kCorrupt: it must be moved aside. Another error: it must be left alone.
Result<> check_database(Connection& db, const fs::path& path) {
  std::error_code error;
  const std::uintmax_t size = fs::file_size(path, error);
  if (error) return fail(ErrorCode::kIo, fmt::format("look at {}: {}", path.string(), error.message()));
  if (size == 0) return fail(ErrorCode::kCorrupt, fmt::format("open {}: the file is empty", path.string()));

  const std::string doing = "open " + path.string();
  const std::int64_t application = ask(db, "PRAGMA application_id");
  const std::int64_t version = ask(db, "PRAGMA user_version");
  if (!db.ok()) return fail(db.take_error(doing));
  if (application != kApplicationId)
    return fail(ErrorCode::kCorrupt, doing + ": not a state file of logbell");

  if (size <= kMaxCheckedBytes) {
    Statement check(db, "PRAGMA quick_check(1)");
    std::string verdict = "no answer";
    if (check.row()) verdict = check.get(0);
    check.reset();
    if (!db.ok()) return fail(db.take_error(doing));
    if (verdict != "ok") return fail(ErrorCode::kCorrupt, doing + ": " + verdict);
  }
  if (version > kSchemaVersion) {
    return fail(ErrorCode::kInvalid,
                fmt::format("{}: written by a newer logbell (schema {}, this one knows {})", doing, version,
                            kSchemaVersion));
  }
  if (version < 1) return fail(ErrorCode::kCorrupt, doing + ": it has no schema");
  if (size <= kMaxCheckedBytes) {
    for (const std::string_view sql :
         {"SELECT key, value, sum FROM kv", "SELECT key, notification, sum FROM outbox"}) {
      Statement rows(db, sql);
      while (rows.row()) {
        if (checksum(rows.get(0), rows.get(1)) != rows.get_integer(2)) {
          return fail(ErrorCode::kCorrupt, fmt::format("{}: a value is not what was written", doing));
        }
      }
    }
    // A table that is not there is damage too, whatever SQLite calls it.
    if (!db.ok()) {
      const bool missing = (db.code() & 0xff) == SQLITE_ERROR;
      Error wrong = db.take_error(doing);
      if (missing) wrong.code = ErrorCode::kCorrupt;
      return fail(std::move(wrong));
    }
  }
  return {};
}

}  // namespace

Store::Store(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Store::~Store() {
  const MutexLock lock(impl_->mutex);
  impl_->writer.reset();
}

Result<Store::Opened> Store::open(const fs::path& state_dir, rules::Timestamp now,
                                  rules::Duration lock_wait) {
  const Paths paths(state_dir);
  Result<> made = make_directory(paths.directory);
  if (!made) return fail(made.error());
  Result<FileDescriptor> lock = take_lock(paths.lock, lock_wait);
  if (!lock) return fail(lock.error());
  auto impl = std::make_unique<Impl>(paths);

  Opened opened;
  std::error_code error;
  const auto there = [&](const fs::path& path) { return fs::exists(fs::symlink_status(path, error)); };
  if (there(paths.database)) {
    struct stat status {};
    if (::lstat(paths.database.c_str(), &status) == 0 && !S_ISREG(status.st_mode)) {
      return fail(ErrorCode::kIo, fmt::format("open {}: not a regular file", paths.database.string()));
    }
    Result<> good;
    {
      Connection db;
      db.open(paths.database, SQLITE_OPEN_READWRITE);
      if (db.ok()) {
        good = check_database(db, paths.database);
      } else {
        good = fail(db.take_error("open " + paths.database.string()));
      }
    }
    if (!good && good.error().code != ErrorCode::kCorrupt) return fail(good.error());
    if (!good) {
      Result<std::string> moved = move_aside(paths, now);
      if (!moved) return fail(moved.error().while_(good.error().message));
      opened.moved_aside = *moved;
    }
  } else if (there(Paths::with(paths.database, "-wal"))) {
    // A log without its file: what it holds cannot be read, and a new file must not meet it.
    Result<std::string> moved = move_aside(paths, now);
    if (!moved) return fail(moved.error());
    opened.moved_aside = *moved;
  }
  if (!there(paths.database)) {
    opened.fresh = opened.moved_aside.empty();
    Result<> created = create_database(paths);
    if (!created) return fail(created.error());
  }
  if (::chmod(paths.database.c_str(), 0600) != 0) {
    return fail(ErrorCode::kIo,
                fmt::format("close {} to others: {}", paths.database.string(), rules::errno_text(errno)));
  }

  {
    const MutexLock write_lock(impl->mutex);
    const MutexLock read_lock(impl->read_mutex);
    impl->instance_lock = std::move(*lock);
    Result<> ready = impl->start(true);
    if (!ready) return fail(ready.error());
  }
  opened.store.reset(new Store(std::move(impl)));
  return opened;
}

Place Store::Impl::place_of_lock() const {
  struct stat status {};
  if (::fstat(instance_lock.get(), &status) != 0) return Place::kOurs;
  return place_of(paths.lock, id_of(status));
}

bool Store::Impl::in_place() const {
  return place_of_lock() == Place::kOurs && place_of(paths.database, database) == Place::kOurs &&
         place_of(Paths::with(paths.database, "-wal"), log) == Place::kOurs;
}

// Both would tell the same: this one ends, as the other has what is at the path.
Result<> Store::Impl::taken_over(std::string why) {
  break_off(why);
  return fail(ErrorCode::kUnavailable, std::move(why));
}

Result<> Store::Impl::make_anew() {
  Result<> made = make_directory(paths.directory);
  if (!made) return made;
  if (place_of_lock() != Place::kOurs) {
    Result<FileDescriptor> lock = take_lock(paths.lock, rules::Duration(0));
    if (!lock && lock.error().code == ErrorCode::kUnavailable) return taken_over(lock.error().message);
    if (!lock) return fail(lock.error());
    instance_lock = std::move(*lock);
  }
  const std::string doing = "write it anew";
  switch (place_of(paths.database, database)) {
    case Place::kOurs:
      if (place_of(Paths::with(paths.database, "-wal"), log) == Place::kOurs) return {};
      // What only the log held goes to the file; then there is nothing in the log that anybody needs.
      if (!fold_log())
        return fail(ErrorCode::kIo, doing + ": the state file's log could not be folded into it");
      remove_log(paths);
      break;
    case Place::kMissing: {
      Result<> copied = copy_to_path();
      if (!copied) return copied;
      break;
    }
    case Place::kOthers:
      return taken_over(
          fmt::format("{} is another one, which this process has not written", paths.database.string()));
  }
  // From here on everything is at the path, whole: should it not open, a restart finds it.
  const MutexLock read_lock(read_mutex);
  writer.reset();
  db.close();
  reader.close();
  full_sync = false;
  Result<> started = start(false);
  if (started) return {};
  break_off(started.error().message);
  return fail(ErrorCode::kIo, started.error().message);
}

// The open files hold everything, also once they have no name.
Result<> Store::Impl::copy_to_path() {
  const std::string doing = "write it anew";
  Result<> made = make_new(paths, doing);
  if (!made) return made;
  const std::string fresh = new_name(paths).string();
  {
    Statement copy(db, "VACUUM INTO ?");
    copy.text(fresh);
    copy.run();
  }
  Result<> done;
  if (!db.ok()) {
    done = fail(db.take_error(doing));
  } else {
    remove_log(paths);  // before: it would be replayed into the new file
    done = give_name(paths, doing);
  }
  if (!done) remove_new(paths);
  return done;
}

Result<> Store::Impl::start(bool first) {
  const fs::path& path = paths.database;
  const std::string doing = "open " + path.string();
  db.open(path, SQLITE_OPEN_READWRITE);
  {
    Statement wal(db, "PRAGMA journal_mode = WAL");
    std::string mode;
    while (wal.row())  // to its end, where it is committed
      mode = wal.get(0);
    if (db.ok() && mode != "wal") {
      return fail(ErrorCode::kIo, doing + ": this file system cannot hold a write-ahead log");
    }
  }
  // Its space may be what is missing; and what it holds now does not count as free.
  reserve.at(path.parent_path() / "reserve", 0);
  LOGBELL_FAULT("store.fold.before");
  if (db.ok()) static_cast<void>(fold_log());
  LOGBELL_FAULT("store.fold.done");
  const std::optional<std::uint64_t> room = free_bytes(path.parent_path());
  const std::uint64_t log_pages = std::clamp(room ? *room / kFreePerLog / kPageBytes : kMaxCheckpointPages,
                                             kMinCheckpointPages, kMaxCheckpointPages);
  const std::string settings = fmt::format(
      "PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = {}; PRAGMA journal_size_limit = {};",
      log_pages, kLogsKept * log_pages * kPageBytes);
  db.execute(settings.c_str());
  // The single-instance lock is ours, so whoever had these in flight is no more: the sink may have them.
  if (first) db.execute("UPDATE outbox SET state = 0, maybe_sent = 1 WHERE state = 1");
  const auto add_column = [&](const char* question, const char* statement) REQUIRES(mutex) {
    if (ask(db, question) > 0) return true;
    if (!db.ok()) return false;
    db.execute(statement);
    const bool added = db.ok();
    // A full disk is no reason not to start: until the next one less is kept.
    if ((db.code() & 0xff) == SQLITE_FULL) static_cast<void>(db.take_error(doing));
    return added;
  };
  has_about = add_column("SELECT count(*) FROM pragma_table_info('receipts') WHERE name = 'about'", kAddAbout);
  has_elsewhere = add_column("SELECT count(*) FROM pragma_table_info('outbox') WHERE name = 'elsewhere'", kAddElsewhere);
  if (db.ok()) writer = std::make_unique<Writer>(db, has_about);
  waiting.rows = static_cast<std::uint64_t>(ask(db, "SELECT count(*) FROM outbox WHERE state IN (0,1)"));
  waiting.bytes = static_cast<std::uint64_t>(ask(
      db, "SELECT coalesce(sum(length(CAST(notification AS BLOB))), 0) FROM outbox WHERE state IN (0,1)"));
  if (!db.ok()) {
    writer.reset();
    return fail(db.take_error(doing));
  }
  reserve.at(path.parent_path() / "reserve", log_pages * kPageBytes);
  reserve.restock();
  reader.open(path, SQLITE_OPEN_READONLY);
  static_cast<void>(ask(reader, "SELECT n FROM synced"));  // opens the log, too, while it has a name
  if (!reader.ok()) {
    writer.reset();
    return fail(reader.take_error(doing));
  }
  // One that has gone meanwhile is no file: it is missed at the first look.
  const auto look = [](const fs::path& at) {
    struct stat status {};
    return ::lstat(at.c_str(), &status) == 0 ? id_of(status) : FileId{};
  };
  database = look(path);
  log = look(Paths::with(path, "-wal"));
  return {};
}

Result<std::vector<StoredEntry>> Store::entries(std::string_view prefix) {
  const MutexLock lock(impl_->read_mutex);
  Connection& db = impl_->reader;
  std::vector<StoredEntry> found;
  {
    Statement select(db, "SELECT key, value, sum FROM kv WHERE key >= ? ORDER BY key");
    select.blob(prefix);
    while (select.row()) {
      const std::string_view key = select.get(0);
      if (key.substr(0, prefix.size()) != prefix) break;
      if (checksum(key, select.get(1)) != select.get_integer(2)) {
        return fail(ErrorCode::kCorrupt,
                    fmt::format("read entry {} of the state file: its value is not what was written", key));
      }
      found.push_back({std::string(key), std::string(select.get(1))});
    }
  }
  if (!db.ok()) return fail(db.take_error("read entries of the state file"));
  return found;
}

Result<bool> Store::knows(std::string_view key) {
  const MutexLock lock(impl_->read_mutex);
  Connection& db = impl_->reader;
  bool found = false;
  {
    Statement select(db, "SELECT 1 FROM outbox WHERE key=?1 UNION ALL SELECT 1 FROM receipts WHERE key=?1");
    select.text(key);
    found = select.row();
  }
  if (!db.ok()) return fail(db.take_error("look for a notification in the state file"));
  return found;
}

Result<std::vector<Delivery>> Store::commit(const Commit& commit) {
  const MutexLock lock(impl_->mutex);
  if (!impl_->broken && !impl_->in_place()) {
    if (!std::exchange(impl_->displaced, true)) ++impl_->totals.displaced;
    Result<> anew = impl_->make_anew();
    if (!anew) return fail(anew.error().while_("the state directory was deleted or replaced"));
    impl_->displaced = false;
  }
  Result<std::vector<Delivery>> done = impl_->try_commit(commit);
  const auto was_full = [&]() REQUIRES(impl_->mutex) {
    return !done && !impl_->broken && impl_->db.was_full();
  };
  if (was_full() && impl_->fold_log()) done = impl_->try_commit(commit);
  // The last of the room is for what somebody must hear.
  const bool of_alerts =
      !commit.notifications.empty() || !commit.settlements.empty() || !commit.in_flight.empty();
  if (was_full() && of_alerts && impl_->reserve.release()) done = impl_->try_commit(commit);
  if (done) impl_->reserve.restock();
  return done;
}

Result<std::vector<Delivery>> Store::undelivered() {
  std::vector<Delivery> found;
  std::vector<Settlement> unreadable;
  {
    const MutexLock lock(impl_->read_mutex);
    Connection& db = impl_->reader;
    {
      Statement select(db, select_deliveries(impl_->has_elsewhere ? "elsewhere" : "''").c_str());
      while (select.row()) {
        Delivery delivery;
        delivery.id = select.get_integer(0);
        delivery.state = to_state(select.get_integer(5));
        delivery.attempts = static_cast<std::uint32_t>(select.get_integer(6));
        delivery.not_before = select.get_time(7);
        delivery.maybe_sent = select.get_integer(8) != 0;
        delivery.elsewhere = select.get(10);
        const std::string_view text = select.get(3);
        std::string why = "its text is not what was written";
        if (checksum(select.get(1), text) == select.get_integer(4)) {
          Result<rules::Notification> notification = rules::decode_notification(text);
          if (notification) {
            delivery.notification = std::move(*notification);
            found.push_back(std::move(delivery));
            continue;
          }
          why = notification.error().message;
        }
        Settlement end;
        end.id = delivery.id;
        end.state = DeliveryState::kDead;
        end.attempts = delivery.attempts;
        end.outcome = "rejected";
        end.reason = "unreadable";
        end.detail = why;
        end.at = rules::from_unix_ms(0);
        unreadable.push_back(std::move(end));
      }
    }
    if (!db.ok()) return fail(db.take_error("read the outbox"));
  }
  if (!unreadable.empty()) {
    Commit give_up;
    give_up.settlements = std::move(unreadable);
    const std::size_t count = give_up.settlements.size();
    Result<std::vector<Delivery>> done = commit(give_up);
    if (!done) return fail(done.error());
    const MutexLock lock(impl_->mutex);
    impl_->totals.unreadable += count;
  }
  return found;
}

Result<std::vector<OutboxStats>> Store::outbox() {
  const MutexLock lock(impl_->read_mutex);
  Connection& db = impl_->reader;
  std::vector<OutboxStats> found;
  {
    Statement select(
        db,
        "SELECT lane, sum(state IN (0,1)), sum(state = 3), min(CASE WHEN state IN (0,1) THEN created_at "
        "END) FROM outbox GROUP BY lane ORDER BY lane");
    while (select.row()) {
      found.push_back({std::string(select.get(0)), static_cast<std::uint64_t>(select.get_integer(1)),
                       static_cast<std::uint64_t>(select.get_integer(2)), select.get_time(3)});
    }
  }
  if (!db.ok()) return fail(db.take_error("count the outbox"));
  return found;
}

Result<std::vector<Receipt>> Store::history(std::size_t limit) {
  const MutexLock lock(impl_->read_mutex);
  Connection& db = impl_->reader;
  std::vector<Receipt> found;
  {
    Statement select(
        db,
        impl_->has_about ? "SELECT key, sink, lane, state, attempts, receipt, outcome, reason, detail, at, about FROM "
                      "receipts ORDER BY id DESC LIMIT ?"
                    : "SELECT key, sink, lane, state, attempts, receipt, outcome, reason, detail, at, '' FROM "
                      "receipts ORDER BY id DESC LIMIT ?");
    select.integer(static_cast<std::int64_t>(std::min<std::size_t>(limit, kMaxHistory)));
    while (select.row()) {
      Receipt receipt;
      receipt.key = select.get(0);
      receipt.sink = select.get(1);
      receipt.lane = select.get(2);
      receipt.state = to_state(select.get_integer(3));
      receipt.attempts = static_cast<std::uint32_t>(select.get_integer(4));
      receipt.receipt = select.get(5);
      receipt.outcome = select.get(6);
      receipt.reason = select.get(7);
      receipt.detail = select.get(8);
      receipt.at = rules::from_stored_ms(select.get_integer(9));
      read_about(select.get(10), receipt);
      found.push_back(std::move(receipt));
    }
  }
  if (!db.ok()) return fail(db.take_error("read the history of deliveries"));
  return found;
}

bool Store::in_place() const {
  const MutexLock lock(impl_->mutex);
  return impl_->in_place();
}

StoreCounters Store::counters() const {
  const MutexLock lock(impl_->mutex);
  return impl_->totals;
}

bool Store::broken() const {
  return impl_->broken;
}

}  // namespace logbell::engine

// The store: what goes in comes out, once, also after a crash, a full disk or a damaged file.
#include "engine/io/store.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include <catch2/catch.hpp>
#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <sched.h>
#include <sqlite3.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

namespace logbell::engine {
namespace {

namespace fs = std::filesystem;
using rules::ErrorCode;
using rules::Notification;
using rules::NotifyReason;
using std::chrono::milliseconds;

const rules::Timestamp kNow = *rules::parse_rfc3339("2026-05-01T10:00:00Z");

// A state_dir that is gone when the test is over.
class StateDir {
 public:
  explicit StateDir(const fs::path& parent = fs::temp_directory_path()) {
    std::string name = (parent / "logbell-store-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~StateDir() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  StateDir(const StateDir&) = delete;
  StateDir& operator=(const StateDir&) = delete;
  const fs::path& path() const { return path_; }
  fs::path file(const std::string& name = "state.db") const { return path_ / "logbell" / name; }
  std::vector<std::string> corrupt_files() const {
    std::vector<std::string> found;
    for (const auto& entry : fs::directory_iterator(path_ / "logbell")) {
      const std::string name = entry.path().filename().string();
      if (name.find(".corrupt-") != std::string::npos) found.push_back(name);
    }
    std::sort(found.begin(), found.end());
    return found;
  }

 private:
  fs::path path_;
};

Store::Opened open_store(const StateDir& dir, rules::Timestamp now = kNow) {
  rules::Result<Store::Opened> opened = Store::open(dir.path(), now, milliseconds(0));
  if (!opened) FAIL(opened.error().message);
  return std::move(*opened);
}

Notification notification(const std::string& key, const std::string& lane = "ops") {
  Notification n;
  n.key = key;
  n.sink = lane;
  n.lane = lane;
  n.group_key = "{alertname=\"Q\"}";
  n.reason = NotifyReason::kFirstFiring;
  n.created_at = kNow;
  n.caused_at = kNow;
  return n;
}

std::vector<Delivery> commit(Store& store, const Commit& what) {
  rules::Result<std::vector<Delivery>> done = store.commit(what);
  if (!done) FAIL(done.error().message);
  return std::move(*done);
}

std::vector<std::string> waiting_keys(Store& store) {
  rules::Result<std::vector<Delivery>> waiting = store.undelivered();
  REQUIRE(waiting);
  std::vector<std::string> keys;
  for (const Delivery& delivery : *waiting)
    keys.push_back(delivery.notification.key);
  return keys;
}

Settlement settlement(DeliveryId id, DeliveryState state) {
  Settlement s;
  s.id = id;
  s.state = state;
  s.attempts = 1;
  s.receipt = "ts 17";
  s.outcome = "delivered";
  s.reason = "ok";
  s.at = kNow;
  return s;
}

Commit notifications(std::vector<Notification> list) {
  Commit c;
  c.notifications = std::move(list);
  return c;
}

// What a person with the sqlite3 shell would do to the file.
void sql(const fs::path& path, const std::string& statement) {
  sqlite3* db = nullptr;
  REQUIRE(sqlite3_open(path.c_str(), &db) == SQLITE_OK);
  char* error = nullptr;
  if (sqlite3_exec(db, statement.c_str(), nullptr, nullptr, &error) != SQLITE_OK) FAIL(error);
  REQUIRE(sqlite3_close(db) == SQLITE_OK);
}

int mode(const fs::path& path) {
  struct stat status {};
  REQUIRE(::lstat(path.c_str(), &status) == 0);
  return static_cast<int>(status.st_mode & 07777);
}

// A file system that fails on demand: the default VFS with faults in front of writing and syncing.
struct Faults {
  int write_error = SQLITE_OK;
  int sync_error = SQLITE_OK;
  int syncs = 0;
  int nameless = 0;  // opened without a name: temporary ones
  // Of all files in `directory` together, as of a small volume; 0: unlimited.
  std::uintmax_t volume = 0;
  fs::path directory;

  // The call of this kind that fails, once, counted down; 0: none.
  enum Call { kRead, kWrite, kSync, kOpen, kMalloc, kCalls };
  std::array<int, kCalls> until{};
  int nth_write_error = SQLITE_OK;
  bool struck = false;
  bool strikes(Call call) {
    if (until.at(call) == 0 || --until.at(call) != 0) return false;
    struck = true;
    return true;
  }
};
Faults faults;

std::uintmax_t used_bytes(const fs::path& directory) {
  std::uintmax_t used = 0;
  for (const auto& entry : fs::directory_iterator(directory))
    used += entry.file_size();
  return used;
}

struct FaultyFile {
  sqlite3_file base;
  sqlite3_file* real;
};
sqlite3_file* real_of(sqlite3_file* file) {
  return reinterpret_cast<FaultyFile*>(file)->real;
}
sqlite3_vfs* real_vfs = nullptr;

const sqlite3_io_methods* faulty_methods() {
  static const sqlite3_io_methods kMethods = [] {
    sqlite3_io_methods m{};
    m.iVersion = 3;
    m.xClose = [](sqlite3_file* f) {
      const int rc = real_of(f)->pMethods != nullptr ? real_of(f)->pMethods->xClose(real_of(f)) : SQLITE_OK;
      std::free(real_of(f));  // NOLINT(cppcoreguidelines-no-malloc): SQLite sizes its file objects in bytes
      return rc;
    };
    m.xRead = [](sqlite3_file* f, void* to, int n, sqlite3_int64 at) {
      if (faults.strikes(Faults::kRead)) return SQLITE_IOERR_READ;
      return real_of(f)->pMethods->xRead(real_of(f), to, n, at);
    };
    m.xWrite = [](sqlite3_file* f, const void* from, int n, sqlite3_int64 at) {
      if (faults.strikes(Faults::kWrite)) return faults.nth_write_error;
      if (faults.write_error != SQLITE_OK) return faults.write_error;
      sqlite3_int64 size = 0;
      real_of(f)->pMethods->xFileSize(real_of(f), &size);
      if (faults.volume != 0 && at + n > size &&
          used_bytes(faults.directory) + static_cast<std::uintmax_t>(at + n - size) > faults.volume)
        return SQLITE_FULL;
      return real_of(f)->pMethods->xWrite(real_of(f), from, n, at);
    };
    m.xTruncate = [](sqlite3_file* f, sqlite3_int64 n) {
      return real_of(f)->pMethods->xTruncate(real_of(f), n);
    };
    m.xSync = [](sqlite3_file* f, int flags) {
      ++faults.syncs;
      if (faults.strikes(Faults::kSync)) return SQLITE_IOERR_FSYNC;
      if (faults.sync_error != SQLITE_OK) return faults.sync_error;
      return real_of(f)->pMethods->xSync(real_of(f), flags);
    };
    m.xFileSize = [](sqlite3_file* f, sqlite3_int64* n) {
      return real_of(f)->pMethods->xFileSize(real_of(f), n);
    };
    m.xLock = [](sqlite3_file* f, int l) { return real_of(f)->pMethods->xLock(real_of(f), l); };
    m.xUnlock = [](sqlite3_file* f, int l) { return real_of(f)->pMethods->xUnlock(real_of(f), l); };
    m.xCheckReservedLock = [](sqlite3_file* f, int* out) {
      return real_of(f)->pMethods->xCheckReservedLock(real_of(f), out);
    };
    m.xFileControl = [](sqlite3_file* f, int op, void* arg) {
      return real_of(f)->pMethods->xFileControl(real_of(f), op, arg);
    };
    m.xSectorSize = [](sqlite3_file* f) { return real_of(f)->pMethods->xSectorSize(real_of(f)); };
    m.xDeviceCharacteristics = [](sqlite3_file* f) {
      return real_of(f)->pMethods->xDeviceCharacteristics(real_of(f));
    };
    m.xShmMap = [](sqlite3_file* f, int page, int size, int extend, void volatile** out) {
      return real_of(f)->pMethods->xShmMap(real_of(f), page, size, extend, out);
    };
    m.xShmLock = [](sqlite3_file* f, int offset, int n, int flags) {
      return real_of(f)->pMethods->xShmLock(real_of(f), offset, n, flags);
    };
    m.xShmBarrier = [](sqlite3_file* f) { real_of(f)->pMethods->xShmBarrier(real_of(f)); };
    m.xShmUnmap = [](sqlite3_file* f, int remove) {
      return real_of(f)->pMethods->xShmUnmap(real_of(f), remove);
    };
    m.xFetch = [](sqlite3_file*, sqlite3_int64, int, void** out) {
      *out = nullptr;
      return SQLITE_OK;
    };
    m.xUnfetch = [](sqlite3_file*, sqlite3_int64, void*) { return SQLITE_OK; };
    return m;
  }();
  return &kMethods;
}

// While one lives, every database is opened on the failing file system.
class FaultyFileSystem {
 public:
  FaultyFileSystem() {
    faults = Faults{};
    real_vfs = sqlite3_vfs_find(nullptr);
    vfs_ = *real_vfs;
    vfs_.zName = "faulty";
    vfs_.szOsFile = sizeof(FaultyFile);
    vfs_.xOpen = [](sqlite3_vfs*, const char* name, sqlite3_file* file, int flags, int* out) {
      if (name == nullptr) ++faults.nameless;
      FaultyFile* mine = reinterpret_cast<FaultyFile*>(file);
      mine->base.pMethods = nullptr;
      if (faults.strikes(Faults::kOpen)) return SQLITE_CANTOPEN;
      mine->real = static_cast<sqlite3_file*>(std::calloc(1, static_cast<std::size_t>(real_vfs->szOsFile)));
      const int rc = real_vfs->xOpen(real_vfs, name, mine->real, flags, out);
      if (rc == SQLITE_OK) {
        mine->base.pMethods = faulty_methods();
      } else {
        std::free(mine->real);
      }
      return rc;
    };
    sqlite3_vfs_register(&vfs_, 1);
  }
  ~FaultyFileSystem() {
    sqlite3_vfs_unregister(&vfs_);
    sqlite3_vfs_register(real_vfs, 1);
  }
  FaultyFileSystem(const FaultyFileSystem&) = delete;
  FaultyFileSystem& operator=(const FaultyFileSystem&) = delete;

 private:
  sqlite3_vfs vfs_{};
};

}  // namespace

TEST_CASE("store: a first start makes its own directory and file, closed to others", "[io][store]") {
  const StateDir dir;
  const Store::Opened opened = open_store(dir);
  CHECK(opened.fresh);
  CHECK(opened.moved_aside.empty());
  Commit c;
  c.entries = {{"pos/a", "1"}};
  commit(*opened.store, c);
  CHECK(mode(dir.path() / "logbell") == 0700);
  CHECK(mode(dir.file()) == 0600);
  CHECK(mode(dir.file("state.db-wal")) == 0600);
  CHECK(mode(dir.file("state.db-shm")) == 0600);
  CHECK(mode(dir.file("lock")) == 0600);
  CHECK_FALSE(fs::exists(dir.file("state.db.new")));
}

TEST_CASE("store: modes that somebody opened are closed again", "[io][store]") {
  const StateDir dir;
  open_store(dir);
  fs::permissions(dir.path() / "logbell", fs::perms(0755));
  fs::permissions(dir.file(), fs::perms(0644));
  const Store::Opened opened = open_store(dir);
  CHECK_FALSE(opened.fresh);
  CHECK(mode(dir.path() / "logbell") == 0700);
  CHECK(mode(dir.file()) == 0600);
}

TEST_CASE("store: entries come back by prefix, in key order, byte for byte", "[io][store]") {
  const StateDir dir;
  const std::string binary("\0\xff\n'; DROP TABLE kv; --", 23);
  {
    const Store::Opened opened = open_store(dir);
    Commit c;
    c.entries = {{"pos/b", "2"}, {"pos/a", binary}, {"core/w", "w"},
                 {"pos0", "no"}, {"pos/c", ""},     {"pos/d", "x"}};
    commit(*opened.store, c);
    Commit change;
    change.entries = {{"pos/b", "3"}, {"pos/d", std::nullopt}, {"pos/never", std::nullopt}};
    commit(*opened.store, change);
  }
  const Store::Opened opened = open_store(dir);
  CHECK_FALSE(opened.fresh);
  const auto found = opened.store->entries("pos/");
  REQUIRE(found);
  REQUIRE(found->size() == 3);
  CHECK((*found)[0].key == "pos/a");
  CHECK((*found)[0].value == binary);
  CHECK((*found)[1].key == "pos/b");
  CHECK((*found)[1].value == "3");
  CHECK((*found)[2].value == "");
  CHECK(opened.store->entries("")->size() == 5);
  CHECK(opened.store->entries("nothing/")->empty());
}

TEST_CASE("store: a notification becomes a delivery that survives a restart whole", "[io][store]") {
  const StateDir dir;
  Notification n = notification("k1");
  n.group_labels = {{"alertname", "Q"}};
  n.replaces = "r";
  n.priority = 0;
  rules::Alert alert;
  alert.labels = {{"alertname", "Q"}, {"queue", "\"<!channel>\n"}};
  alert.state = rules::AlertState::kFiring;
  alert.value = 3;
  n.alerts = {alert};
  DeliveryId id = 0;
  {
    const Store::Opened opened = open_store(dir);
    const std::vector<Delivery> added = commit(*opened.store, notifications({n, notification("k2", "mail")}));
    REQUIRE(added.size() == 2);
    CHECK(added[0].state == DeliveryState::kPending);
    CHECK(added[1].notification.lane == "mail");
    id = added[0].id;
  }
  const Store::Opened opened = open_store(dir);
  const auto waiting = opened.store->undelivered();
  REQUIRE(waiting);
  REQUIRE(waiting->size() == 2);
  CHECK((*waiting)[0].id == id);
  CHECK_FALSE((*waiting)[0].maybe_sent);
  CHECK(rules::encode((*waiting)[0].notification) == rules::encode(n));
}

TEST_CASE("store: the same key is queued once, also after it was delivered", "[io][store]") {
  const StateDir dir;
  const Store::Opened opened = open_store(dir);
  Store& store = *opened.store;
  const std::vector<Delivery> added = commit(store, notifications({notification("k"), notification("k")}));
  REQUIRE(added.size() == 1);
  CHECK(commit(store, notifications({notification("k")})).empty());
  Commit done;
  done.settlements = {settlement(added[0].id, DeliveryState::kDelivered)};
  commit(store, done);
  CHECK(commit(store, notifications({notification("k")})).empty());
  CHECK(waiting_keys(store).empty());
}

TEST_CASE("store: what was delivered leaves the outbox and stays in the history", "[io][store]") {
  const StateDir dir;
  const Store::Opened opened = open_store(dir);
  Store& store = *opened.store;
  const DeliveryId id = commit(store, notifications({notification("k")})).at(0).id;
  Commit c;
  c.settlements = {settlement(id, DeliveryState::kDelivered)};
  commit(store, c);
  commit(store, c);  // a settlement that comes twice says nothing new
  CHECK(waiting_keys(store).empty());
  const auto history = store.history(10);
  REQUIRE(history);
  REQUIRE(history->size() == 1);
  CHECK(history->front().key == "k");
  CHECK(history->front().lane == "ops");
  CHECK(history->front().receipt == "ts 17");
  CHECK(history->front().at == kNow);
  CHECK(store.outbox()->empty());
}

TEST_CASE("store: the history says what a message was about", "[io][store]") {
  const StateDir dir;
  Notification told = notification("k");
  for (const char* name : {"Boom", "Bang", "Boom"}) {
    rules::Alert alert;
    alert.labels.set("alertname", name);
    told.alerts.push_back(alert);
  }
  told.drill = "d1";
  told.fallback_for = "pager";
  told.caused_at = kNow - milliseconds(1500);
  {
    const Store::Opened opened = open_store(dir);
    Commit c;
    c.settlements = {settlement(commit(*opened.store, notifications({told})).at(0).id, DeliveryState::kDelivered)};
    commit(*opened.store, c);
    const Receipt receipt = opened.store->history(1)->at(0);
    CHECK(receipt.alerts == std::vector<std::string>{"Boom", "Bang"});
    CHECK(receipt.why == "first_firing");
    CHECK(receipt.drill == "d1");
    CHECK(receipt.fallback_for == "pager");
    CHECK(receipt.created_at == kNow);
    CHECK(receipt.caused_at == kNow - milliseconds(1500));
  }
  // A file of before it has no such column.
  sql(dir.file(), "ALTER TABLE receipts DROP COLUMN about");
  const Store::Opened opened = open_store(dir);
  CHECK_FALSE(opened.fresh);
  CHECK(opened.moved_aside.empty());
  CHECK(opened.store->history(1)->at(0).key == "k");
  CHECK(opened.store->history(1)->at(0).alerts.empty());
  told.key = "l";
  Commit c;
  c.settlements = {settlement(commit(*opened.store, notifications({told})).at(0).id, DeliveryState::kDead)};
  commit(*opened.store, c);
  CHECK(opened.store->history(1)->at(0).alerts == std::vector<std::string>{"Boom", "Bang"});
}

TEST_CASE("store: a retry keeps its row with when and how often", "[io][store]") {
  const StateDir dir;
  const Store::Opened opened = open_store(dir);
  Store& store = *opened.store;
  const DeliveryId id = commit(store, notifications({notification("k")})).at(0).id;
  Commit c;
  c.in_flight = {id};
  commit(store, c);
  CHECK(store.undelivered()->at(0).state == DeliveryState::kInFlight);
  Settlement retry = settlement(id, DeliveryState::kPending);
  retry.attempts = 4;
  retry.not_before = kNow + milliseconds(1500);
  retry.maybe_sent = true;
  Commit settled;
  settled.settlements = {retry};
  commit(store, settled);
  const auto waiting = store.undelivered();
  REQUIRE(waiting->size() == 1);
  CHECK(waiting->at(0).state == DeliveryState::kPending);
  CHECK(waiting->at(0).attempts == 4);
  CHECK(waiting->at(0).not_before == kNow + milliseconds(1500));
  CHECK(waiting->at(0).maybe_sent);
  CHECK(store.history(10)->empty());
}

TEST_CASE("store: of what waits it is known who was told in its place", "[io][store]") {
  const StateDir dir;
  const auto settle = [](Store& store, const std::string& elsewhere) {
    Settlement told = settlement(store.undelivered()->at(0).id, DeliveryState::kPending);
    told.elsewhere = elsewhere;
    Commit c;
    c.settlements = {told};
    commit(store, c);
  };
  {
    const Store::Opened opened = open_store(dir);
    commit(*opened.store, notifications({notification("k")}));
    CHECK(opened.store->undelivered()->at(0).elsewhere.empty());
    settle(*opened.store, "mail");
    settle(*opened.store, "");  // another try
  }
  CHECK(open_store(dir).store->undelivered()->at(0).elsewhere == "mail");
  // A file of before it has no such column.
  sql(dir.file(), "ALTER TABLE outbox DROP COLUMN elsewhere");
  const Store::Opened opened = open_store(dir);
  CHECK(opened.store->undelivered()->at(0).elsewhere.empty());
  settle(*opened.store, "pager");
  CHECK(opened.store->undelivered()->at(0).elsewhere == "pager");
}

TEST_CASE("store: in flight when the process died, it may have been sent", "[io][store][F43]") {
  const StateDir dir;
  {
    const Store::Opened opened = open_store(dir);
    const std::vector<Delivery> added =
        commit(*opened.store, notifications({notification("sent?"), notification("not begun")}));
    Commit c;
    c.in_flight = {added[0].id};
    commit(*opened.store, c);
  }
  const Store::Opened opened = open_store(dir);
  const auto waiting = opened.store->undelivered();
  REQUIRE(waiting->size() == 2);
  CHECK(waiting->at(0).state == DeliveryState::kPending);
  CHECK(waiting->at(0).maybe_sent);
  CHECK_FALSE(waiting->at(1).maybe_sent);
}

TEST_CASE("store: a settlement and its fallbacks are one transaction", "[io][store]") {
  const StateDir dir;
  const Store::Opened opened = open_store(dir);
  Store& store = *opened.store;
  const DeliveryId id = commit(store, notifications({notification("k")})).at(0).id;
  Settlement dead = settlement(id, DeliveryState::kDead);
  dead.outcome = "rejected";
  dead.reason = "gone";
  Notification fallback = notification("k/fallback/mail", "mail");
  fallback.fallback_for = "ops";
  dead.fallbacks = {fallback};
  Commit c;
  c.settlements = {dead};
  const std::vector<Delivery> added = commit(store, c);
  REQUIRE(added.size() == 1);
  CHECK(added[0].notification.lane == "mail");
  CHECK(added[0].notification.fallback_for == "ops");
  CHECK(waiting_keys(store) == std::vector<std::string>{"k/fallback/mail"});
  const auto stats = store.outbox();
  REQUIRE(stats);
  REQUIRE(stats->size() == 2);
  CHECK(stats->at(0).lane == "mail");
  CHECK(stats->at(0).pending == 1);
  CHECK(stats->at(0).oldest == kNow);
  CHECK(stats->at(1).lane == "ops");
  CHECK(stats->at(1).pending == 0);
  CHECK(stats->at(1).dead == 1);
  CHECK_FALSE(stats->at(1).oldest);
}

TEST_CASE("store: a newer one replaces what is unsent in its lane, and nothing else", "[io][store][F47]") {
  const StateDir dir;
  const Store::Opened opened = open_store(dir);
  Store& store = *opened.store;
  const auto refresh = [](const std::string& key, const std::string& lane, const std::string& replaces) {
    Notification n = notification(key, lane);
    n.replaces = replaces;
    n.reason = NotifyReason::kRefresh;
    n.priority = 2;
    return n;
  };
  const std::vector<Delivery> added =
      commit(store, notifications({refresh("old", "am", "g"), refresh("flying", "am", "g2"),
                                   refresh("other lane", "am#2", "g"), refresh("other value", "am", "h"),
                                   notification("no value", "am")}));
  Commit flight;
  flight.in_flight = {added[1].id};
  commit(store, flight);
  Commit tried;
  tried.settlements = {settlement(added[0].id, DeliveryState::kPending)};  // tried before, still unsent
  commit(store, tried);
  CHECK(commit(store, notifications({refresh("new", "am", "g"), refresh("new2", "am", "g2")})).size() == 2);
  CHECK(waiting_keys(store) ==
        std::vector<std::string>{"flying", "other lane", "other value", "no value", "new", "new2"});
  CHECK(store.counters().superseded == 1);
  CHECK(store.history(1)->at(0).key == "old");
  CHECK(store.history(1)->at(0).state == DeliveryState::kSuperseded);
  CHECK(store.history(1)->at(0).reason == "replaced");
}

TEST_CASE("store: a full outbox drops repeats, the superseded first, never a first firing or a resolve",
          "[io][store][F47]") {
  const StateDir dir;
  const Store::Opened opened = open_store(dir);
  Store& store = *opened.store;
  // Few and large, so that the bound on bytes is what is met.
  const std::string text(std::size_t{1} << 20, 'x');
  const auto large = [&](const std::string& key, const std::string& group, std::uint8_t priority) {
    Notification n = notification(key);
    n.group_key = group;
    n.priority = priority;
    n.text = text;
    return n;
  };
  commit(store, notifications({large("repeat of b", "b", 2)}));
  commit(store, notifications({large("repeat of a", "a", 2), large("a resolves", "a", 1)}));
  for (int i = 0; i < 60; ++i)
    commit(store, notifications({large("first " + std::to_string(i), "g" + std::to_string(i), 0)}));
  CHECK(store.counters().superseded == 0);
  commit(store, notifications({large("one more", "z", 0)}));
  // "repeat of b" is older, but nothing newer speaks for b.
  CHECK(store.counters().superseded == 1);
  CHECK(store.history(1)->at(0).key == "repeat of a");
  CHECK(store.history(1)->at(0).reason == "outbox_full");
  commit(store, notifications({large("and more", "z2", 0)}));
  CHECK(store.history(1)->at(0).key == "repeat of b");
  // Nothing is left to drop: a first firing is taken all the same.
  for (int i = 0; i < 3; ++i)
    CHECK(commit(store, notifications({large("over " + std::to_string(i), "y", 0)})).size() == 1);
  CHECK(store.counters().superseded == 2);
  CHECK(store.outbox()->at(0).pending == 66);
  // A repeat that comes now has no room and nobody is asked to send it.
  CHECK(commit(store, notifications({large("late repeat", "q", 2)})).empty());
}

TEST_CASE("store: the history is bounded", "[io][store]") {
  const StateDir dir;
  const Store::Opened opened = open_store(dir);
  Store& store = *opened.store;
  std::vector<Notification> many;
  for (std::uint64_t i = 0; i < Store::kMaxHistory + 50; ++i)
    many.push_back(notification("k" + std::to_string(i)));
  Commit done;
  for (const Delivery& delivery : commit(store, notifications(std::move(many))))
    done.settlements.push_back(settlement(delivery.id, DeliveryState::kDead));
  commit(store, done);
  CHECK(store.history(1'000'000)->size() == Store::kMaxHistory);
  CHECK(store.outbox()->at(0).dead == Store::kMaxDead);
}

TEST_CASE("store: a second instance is refused and told who is first", "[io][store][F38]") {
  const StateDir dir;
  std::unique_ptr<Store> first = std::move(open_store(dir).store);
  const auto second = Store::open(dir.path(), kNow, milliseconds(100));
  REQUIRE_FALSE(second);
  CHECK(second.error().code == ErrorCode::kUnavailable);
  CHECK(second.error().message.find("(process " + std::to_string(::getpid()) + ")") != std::string::npos);
  first.reset();
  CHECK(Store::open(dir.path(), kNow, milliseconds(0)));
}

TEST_CASE("store: a rolling restart waits for the old instance to end", "[io][store][F38]") {
  const StateDir dir;
  std::unique_ptr<Store> first = std::move(open_store(dir).store);
  rules::Result<Store::Opened> second = rules::fail(ErrorCode::kInvalid, "not tried");
  std::thread start([&] { second = Store::open(dir.path(), kNow, std::chrono::seconds(30)); });
  first.reset();
  start.join();
  CHECK(second);
}

namespace {

std::vector<std::string> keys_of(Store& store) {
  std::vector<std::string> keys;
  const rules::Result<std::vector<StoredEntry>> entries = store.entries("");
  REQUIRE(entries);
  for (const StoredEntry& entry : *entries)
    keys.push_back(entry.key);
  return keys;
}

// What the next process would find, should this one be killed now.
std::vector<std::string> found_after_a_kill(const StateDir& dir) {
  const StateDir copy;
  fs::copy(dir.path() / "logbell", copy.path() / "logbell", fs::copy_options::recursive);
  return keys_of(*open_store(copy).store);
}

Commit entry(const std::string& key) {
  Commit c;
  c.entries = {{key, "value of " + key}};
  return c;
}

}  // namespace

TEST_CASE("store: what is deleted under it is there again with the next commit, whole", "[io][store][F17]") {
  const auto remove = [](const char* name) {
    return [name](const StateDir& dir) { REQUIRE(fs::remove_all(dir.file(name)) > 0); };
  };
  using Row = std::tuple<std::string, std::function<void(const StateDir&)>>;
  const auto [what, lose] = GENERATE_COPY(
      values<Row>({{"everything", [](const StateDir& dir) { REQUIRE(fs::remove_all(dir.path()) > 0); }},
                   {"everything in state_dir, as somebody makes it anew",
                    [](const StateDir& dir) { REQUIRE(fs::remove_all(dir.path() / "logbell") > 0); }},
                   {"every file, one by one",
                    [](const StateDir& dir) {
                      for (const char* name : {"lock", "reserve", "state.db", "state.db-shm", "state.db-wal"})
                        fs::remove(dir.file(name));
                    }},
                   {"the lock, which nobody writes to: a cleaner takes it for old", remove("lock")},
                   {"the file", remove("state.db")},
                   {"its log", remove("state.db-wal")},
                   {"it was moved away",
                    [](const StateDir& dir) { fs::rename(dir.path() / "logbell", dir.path() / "old"); }}}));
  INFO(what);
  const StateDir dir;
  std::unique_ptr<Store> store = std::move(open_store(dir).store);
  const std::vector<Delivery> added = commit(*store, notifications({notification("k1"), notification("k2")}));
  commit(*store, entry("a"));
  Commit sent;
  sent.in_flight = {added[0].id};
  sent.settlements = {settlement(added[1].id, DeliveryState::kDelivered)};
  commit(*store, sent);

  lose(dir);
  const std::vector<Delivery> next = commit(*store, notifications({notification("k2"), notification("k3")}));
  commit(*store, entry("b"));
  // What was told is known, numbers go on, and what is on its way is no message of a process that died.
  REQUIRE(next.size() == 1);
  CHECK(next[0].id > added[1].id);
  CHECK(waiting_keys(*store) == std::vector<std::string>{"k1", "k3"});
  CHECK(store->undelivered()->at(0).state == DeliveryState::kInFlight);
  CHECK_FALSE(store->undelivered()->at(0).maybe_sent);
  CHECK(found_after_a_kill(dir) == std::vector<std::string>{"a", "b"});
  CHECK(mode(dir.path() / "logbell") == 0700);
  for (const char* name : {"state.db", "state.db-wal", "state.db-shm", "lock"})
    CHECK(mode(dir.file(name)) == 0600);
  CHECK(dir.corrupt_files().empty());
  const auto second = Store::open(dir.path(), kNow, milliseconds(0));
  REQUIRE_FALSE(second);
  CHECK(second.error().code == ErrorCode::kUnavailable);

  store.reset();
  const Store::Opened again = open_store(dir);
  CHECK_FALSE(again.fresh);
  CHECK(again.moved_aside.empty());
  CHECK(keys_of(*again.store) == std::vector<std::string>{"a", "b"});
  CHECK(waiting_keys(*again.store) == std::vector<std::string>{"k1", "k3"});
  CHECK(again.store->undelivered()->at(0).maybe_sent);
  CHECK(again.store->history(10)->size() == 1);
}

TEST_CASE("store: once another instance has its directory, it ends", "[io][store][F17][F38]") {
  const StateDir dir;
  const Store::Opened first = open_store(dir);
  commit(*first.store, entry("a"));
  fs::remove_all(dir.path() / "logbell");
  std::optional<Store::Opened> second = open_store(dir);  // the lock went with the rest
  commit(*second->store, entry("of the second"));
  SECTION("while that runs") {}
  SECTION("also when that has gone: what is there now is not its own") {
    second.reset();
  }
  const auto refused = first.store->commit(entry("b"));
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == ErrorCode::kUnavailable);
  CHECK(refused.error().message.find("deleted or replaced") != std::string::npos);
  CHECK(first.store->broken());
  CHECK_FALSE(first.store->commit(entry("c")));
  CHECK(found_after_a_kill(dir) == std::vector<std::string>{"of the second"});
}

TEST_CASE("store: what cannot be written again where it was deleted is tried with each commit",
          "[io][store][F17][F36]") {
  const StateDir dir;
  const Store::Opened opened = open_store(dir);
  commit(*opened.store, entry("a"));
  fs::remove_all(dir.path() / "logbell");
  std::ofstream(dir.path() / "logbell") << "in the way";
  for (int i = 0; i < 2; ++i) {
    const auto refused = opened.store->commit(entry("b"));
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == ErrorCode::kIo);
    CHECK(refused.error().message.find("deleted or replaced") != std::string::npos);
  }
  CHECK_FALSE(opened.store->broken());
  CHECK(keys_of(*opened.store) == std::vector<std::string>{"a"});  // nothing of it is forgotten
  fs::remove(dir.path() / "logbell");
  commit(*opened.store, entry("b"));
  CHECK(found_after_a_kill(dir) == std::vector<std::string>{"a", "b"});
}

TEST_CASE("store: whatever fails while it is written anew, what was committed is not lost",
          "[io][store][F17][F31]") {
  for (const Faults::Call call : {Faults::kRead, Faults::kWrite, Faults::kSync, Faults::kOpen}) {
    bool reached = true;
    int n = 1;
    for (; reached && n < 1000; ++n) {
      CAPTURE(call, n);
      const StateDir dir;
      const FaultyFileSystem file_system;
      std::unique_ptr<Store> store = std::move(open_store(dir).store);
      commit(*store, entry("a"));
      fs::remove_all(dir.path() / "logbell");
      faults.nth_write_error = SQLITE_FULL;
      faults.until.at(call) = n;
      Commit b = entry("b");
      b.sync = true;
      bool done = store->commit(b).has_value();
      reached = faults.struck;
      faults.until = {};
      if (!done && !store->broken()) {
        commit(*store, b);
        done = true;
      }
      store.reset();
      const std::vector<std::string> found = keys_of(*open_store(dir).store);
      CHECK(found == (done ? std::vector<std::string>{"a", "b"} : std::vector<std::string>{"a"}));
    }
    CHECK(n > 2);
    CHECK(n < 1000);
  }
}

TEST_CASE("store: a file from a newer logbell is left alone", "[io][store][F38]") {
  const StateDir dir;
  open_store(dir);
  sql(dir.file(), "PRAGMA user_version = 99");
  const auto opened = Store::open(dir.path(), kNow, milliseconds(0));
  REQUIRE_FALSE(opened);
  CHECK(opened.error().code == ErrorCode::kInvalid);
  CHECK(opened.error().message.find("written by a newer logbell") != std::string::npos);
  CHECK(dir.corrupt_files().empty());
  CHECK(fs::exists(dir.file()));
}

TEST_CASE("store: a damaged file is moved aside and a fresh one goes on", "[io][store][F38]") {
  const StateDir dir;
  {
    const Store::Opened opened = open_store(dir);
    Commit c;
    for (int i = 0; i < 500; ++i)
      c.entries.push_back({"pos/" + std::to_string(i), std::string(200, 'v')});
    c.notifications = {notification("k")};
    commit(*opened.store, c);
  }
  using Damage = std::function<void(const fs::path&)>;
  const auto overwrite = [](const fs::path& path, std::streamoff at, const std::string& bytes) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(at);
    file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    REQUIRE(file.good());
  };
  const auto [what, damage] = GENERATE_COPY(table<std::string, Damage>({
      {"the header is overwritten", [=](const fs::path& p) { overwrite(p, 0, "not a database at all"); }},
      {"pages in the middle are garbage", [=](const fs::path& p) { overwrite(p, 8192, std::string(20000, '\xa5')); }},
      {"one bit of a value flipped",
       [=](const fs::path& p) {
         std::ifstream in(p, std::ios::binary);
         const std::string all((std::istreambuf_iterator<char>(in)), {});
         const std::size_t at = all.rfind("vvvvvvvv");
         REQUIRE(at != std::string::npos);
         overwrite(p, static_cast<std::streamoff>(at), "w");
       }},
      {"the end is cut off", [](const fs::path& p) { fs::resize_file(p, fs::file_size(p) / 2); }},
      {"only the header is left", [](const fs::path& p) { fs::resize_file(p, 100); }},
      {"zero bytes are left", [](const fs::path& p) { fs::resize_file(p, 0); }},
      {"it is another program's database",
       [](const fs::path& p) {
         fs::remove(p);
         sql(p, "CREATE TABLE songs(title)");
       }},
      {"it is a text", [](const fs::path& p) { std::ofstream(p) << "hello\n"; }},
      {"a table is missing", [](const fs::path& p) { sql(p, "DROP TABLE outbox"); }},
  }));
  INFO(what);
  damage(dir.file());

  const Store::Opened opened = open_store(dir);
  CHECK_FALSE(opened.fresh);
  CHECK(opened.moved_aside == dir.file("state.db.corrupt-20260501T100000Z").string());
  CHECK(fs::exists(opened.moved_aside));
  CHECK(opened.store->entries("")->empty());
  CHECK(mode(dir.file()) == 0600);
  CHECK(commit(*opened.store, notifications({notification("after")})).size() == 1);
}

TEST_CASE("store: a log without its file is moved aside, not replayed into a new one", "[io][store][F38]") {
  const StateDir dir;
  {
    const Store::Opened opened = open_store(dir);
    Commit c;
    c.entries = {{"pos/a", "old"}};
    commit(*opened.store, c);
    fs::copy_file(dir.file("state.db-wal"), dir.file("kept"));
  }
  fs::remove(dir.file());
  fs::rename(dir.file("kept"), dir.file("state.db-wal"));
  const Store::Opened opened = open_store(dir);
  CHECK_FALSE(opened.moved_aside.empty());
  CHECK(opened.store->entries("")->empty());
}

TEST_CASE("store: a torn write-ahead log loses its torn end only", "[io][store][F38]") {
  const StateDir dir;
  const StateDir copy;
  {
    const Store::Opened opened = open_store(dir);
    Commit first;
    first.entries = {{"pos/a", "1"}};
    commit(*opened.store, first);
    const auto whole = fs::file_size(dir.file("state.db-wal"));
    Commit second;
    second.entries = {{"pos/a", "2"}};
    commit(*opened.store, second);
    // What a power cut leaves: the files as they are now, the last commit half written.
    fs::create_directory(copy.path() / "logbell");
    fs::copy_file(dir.file(), copy.file());
    fs::copy_file(dir.file("state.db-wal"), copy.file("state.db-wal"));
    REQUIRE(fs::file_size(copy.file("state.db-wal")) > whole);
    fs::resize_file(copy.file("state.db-wal"), whole + 100);
  }
  const Store::Opened opened = open_store(copy);
  CHECK(opened.moved_aside.empty());
  CHECK(opened.store->entries("pos/")->at(0).value == "1");
}

TEST_CASE("store: damage in a crash loop does not fill the disk", "[io][store][F38]") {
  const StateDir dir;
  open_store(dir);
  for (int i = 0; i < 6; ++i) {
    fs::resize_file(dir.file(), 0);
    open_store(dir, kNow + std::chrono::seconds(i / 2));  // two in the same second
  }
  CHECK(dir.corrupt_files() == std::vector<std::string>{"state.db.corrupt-20260501T100001Z.2",
                                                        "state.db.corrupt-20260501T100002Z",
                                                        "state.db.corrupt-20260501T100002Z.2"});
}

TEST_CASE("store: links in its place are refused", "[io][store]") {
  const StateDir dir;
  const StateDir elsewhere;
  SECTION("the directory") {
    fs::create_directory_symlink(elsewhere.path(), dir.path() / "logbell");
    const auto opened = Store::open(dir.path(), kNow, milliseconds(0));
    REQUIRE_FALSE(opened);
    CHECK(opened.error().code == ErrorCode::kIo);
  }
  SECTION("the file") {
    open_store(dir);
    fs::remove(dir.file());
    fs::create_symlink(elsewhere.path() / "target", dir.file());
    const auto opened = Store::open(dir.path(), kNow, milliseconds(0));
    REQUIRE_FALSE(opened);
    CHECK(opened.error().message.find("not a regular file") != std::string::npos);
  }
  CHECK(fs::is_empty(elsewhere.path()));
}

TEST_CASE("store: no temporary file is made, for there may be nowhere to make it", "[io][store]") {
  const StateDir dir;
  const FaultyFileSystem file_system;
  {
    const Store::Opened opened = open_store(dir);
    // More than SQLite keeps in memory by itself, to be sorted and to be undone.
    std::vector<Notification> many;
    for (int i = 0; i < 2000; ++i) {
      many.push_back(notification(fmt::format("k{}", i)));
      many.back().group_key = std::string(3000, 'g');
    }
    Commit sent;
    for (const Delivery& delivery : commit(*opened.store, notifications(std::move(many))))
      sent.in_flight.push_back(delivery.id);
    commit(*opened.store, sent);
    CHECK(opened.store->undelivered()->size() == 2000);
  }
  const Store::Opened opened = open_store(dir);
  CHECK(opened.store->undelivered()->size() == 2000);
  CHECK(opened.store->outbox()->size() == 1);
  CHECK(faults.nameless == 0);
}

namespace {

// What Store::open says to a user without a name, in a process of its own; not tried where we are not root.
std::string opened_as(::uid_t user, ::gid_t group, const fs::path& state_dir) {
  std::array<int, 2> ends{};
  REQUIRE(::pipe(ends.data()) == 0);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    std::string said = "cannot become that user";
    if (::setgroups(0, nullptr) == 0 && ::setresgid(group, group, group) == 0 &&
        ::setresuid(user, user, user) == 0) {
      const auto opened = Store::open(state_dir, kNow, milliseconds(0));
      said = opened ? "opened" : opened.error().message;
    }
    [[maybe_unused]] const ssize_t written = ::write(ends[1], said.data(), said.size());
    ::_exit(0);
  }
  ::close(ends[1]);
  std::string said(4096, '\0');
  const ssize_t got = ::read(ends[0], said.data(), said.size());
  said.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  ::close(ends[0]);
  REQUIRE(::waitpid(child, nullptr, 0) == child);
  return said;
}

}  // namespace

TEST_CASE("store: volumes as Kubernetes hands them out", "[io][store]") {
  if (::geteuid() != 0) {
    WARN("only root can hand a directory to others: not tried");
    return;
  }
  constexpr ::uid_t kUser = 65532;
  constexpr ::gid_t kGroup = 2000;
  const StateDir dir;
  const auto set = [&](::mode_t mode, ::gid_t group) {
    REQUIRE(::chown(dir.path().c_str(), 0, group) == 0);
    REQUIRE(::chmod(dir.path().c_str(), mode) == 0);
  };
  SECTION("an emptyDir belongs to root and is open to all") {
    set(0777, 0);
    CHECK(opened_as(kUser, kUser, dir.path()) == "opened");
    CHECK(mode(dir.path() / "logbell") == 0700);
  }
  SECTION("with fsGroup the group may write, and what is made there is the group's") {
    set(02775, kGroup);
    CHECK(opened_as(kUser, kGroup, dir.path()) == "opened");
    CHECK((mode(dir.path() / "logbell") & 0777) == 0700);
    // At the next mount kubelet gives the group everything.
    fs::permissions(dir.path() / "logbell", fs::perms(02770));
    for (const auto& entry : fs::directory_iterator(dir.path() / "logbell"))
      fs::permissions(entry.path(), fs::perms(0660));
    CHECK(opened_as(kUser, kGroup, dir.path()) == "opened");
    CHECK((mode(dir.path() / "logbell") & 0777) == 0700);
    CHECK(mode(dir.file()) == 0600);
  }
  SECTION("one that it may not write to: which, who it is, whose it is, what to set") {
    set(0755, 0);
    const std::string said = opened_as(kUser, kGroup, dir.path());
    INFO(said);
    CHECK(said.find(dir.path().string() + " cannot be written: Permission denied") != std::string::npos);
    CHECK(said.find("this process is user 65532, group 2000") != std::string::npos);
    CHECK(said.find("belongs to user 0, group 0, mode 0755") != std::string::npos);
    CHECK(said.find("fsGroup") != std::string::npos);
  }
  SECTION("a parent that it may not write to is named, not the directory that could not be made") {
    set(0755, 0);
    const std::string said = opened_as(kUser, kGroup, dir.path() / "a" / "b");
    INFO(said);
    CHECK(said.find(dir.path().string() + " cannot be written") != std::string::npos);
  }
  SECTION("one that another user's logbell left") {
    set(0777, 0);
    REQUIRE(opened_as(kUser, kGroup, dir.path()) == "opened");
    const std::string said = opened_as(kUser + 1, kGroup, dir.path());
    INFO(said);
    CHECK(said.find("belongs to user 65532, and this process is user 65533") != std::string::npos);
    CHECK(said.find("runAsUser") != std::string::npos);
  }
}

TEST_CASE("store: a full disk takes nothing of a commit, and the next one works", "[io][store][F36]") {
  const StateDir dir;
  const FaultyFileSystem file_system;
  const Store::Opened opened = open_store(dir);
  Store& store = *opened.store;
  Commit before;
  before.entries = {{"pos/a", "1"}};
  commit(store, before);

  Commit c;
  c.entries = {{"pos/a", "2"}, {"pos/b", std::string(100'000, 'b')}};
  c.notifications = {notification("k")};
  const auto [what, error] = GENERATE(table<std::string, int>({
      {"no space is left", SQLITE_FULL},
      {"the device fails", SQLITE_IOERR_WRITE},
  }));
  INFO(what);
  faults.write_error = error;
  const auto failed = store.commit(c);
  REQUIRE_FALSE(failed);
  CHECK(failed.error().code == ErrorCode::kIo);
  CHECK(failed.error().message.rfind("write to the state file: ", 0) == 0);
  CHECK_FALSE(store.broken());
  CHECK(store.entries("pos/")->size() == 1);
  CHECK(waiting_keys(store).empty());

  faults.write_error = SQLITE_OK;
  CHECK(commit(store, c).size() == 1);
  CHECK(store.entries("pos/a")->at(0).value == "2");
  CHECK(waiting_keys(store) == std::vector<std::string>{"k"});
}

namespace {

// What a day of small alerts writes, in short: state that changes, a notification that is told.
rules::Result<std::vector<Delivery>> one_more(Store& store, int i) {
  Commit c;
  for (int k = 0; k < 4; ++k)
    c.entries.push_back({fmt::format("core/w/{}", (i + k) % 10), std::string(3000, char('a' + i % 26))});
  c.notifications = {notification(fmt::format("k{}", i))};
  rules::Result<std::vector<Delivery>> added = store.commit(c);
  if (!added) return added;
  Commit told;
  told.settlements = {settlement(added->front().id, DeliveryState::kDelivered)};
  return store.commit(told);
}

// Runs `body` with `directory` a volume of that size, in a process of its own; its answer, or -1 where the
// system permits no mount.
int on_a_volume(const fs::path& directory, const std::string& size, const std::function<int()>& body) {
  const std::string user = fmt::format("0 {} 1", ::geteuid());
  const std::string group = fmt::format("0 {} 1", ::getegid());
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    bool mounted = ::unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0;
    if (mounted) {
      std::ofstream("/proc/self/setgroups") << "deny";
      std::ofstream("/proc/self/uid_map") << user;
      std::ofstream("/proc/self/gid_map") << group;
    }
    mounted = mounted && ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
              ::mount("tmpfs", directory.c_str(), "tmpfs", 0, ("size=" + size).c_str()) == 0;
    ::_exit(mounted ? body() : 255);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  return WEXITSTATUS(status) == 255 ? -1 : WEXITSTATUS(status);
}

}  // namespace

TEST_CASE("store: F36 its own log does not fill a small volume", "[io][store][F36]") {
  const StateDir dir;
  const int answer = on_a_volume(dir.path(), "1m", [&] {
    for (int life = 0; life < 3; ++life) {
      rules::Result<Store::Opened> opened = Store::open(dir.path(), kNow, milliseconds(0));
      if (!opened) {
        std::fputs(opened.error().message.c_str(), stderr);
        return 1;
      }
      for (int i = 0; i < 300; ++i) {
        if (!one_more(*opened->store, life * 300 + i)) return 2;
      }
      if (used_bytes(dir.path() / "logbell") > 768 * 1024) return 3;
      // Something else takes all there is, and gives it back.
      std::ofstream greedy(dir.path() / "greedy");
      while (greedy << std::string(4096, 'x') << std::flush) {
      }
      for (int i = 0; i < 100; ++i) {
        Commit c;
        c.entries = {{fmt::format("core/w/{}", i % 10), std::string(3000, 'z')}};
        if (!opened->store->commit(c)) return 4;
      }
      greedy.close();
      fs::remove(dir.path() / "greedy");
    }
    return 0;
  });
  if (answer == -1) {
    WARN("this system permits no mount: not tried");
    return;
  }
  CHECK(answer == 0);
}

TEST_CASE("store: F36 when the log has filled the disk it is folded, and the commit is not lost",
          "[io][store][F36]") {
  const StateDir dir;
  const FaultyFileSystem file_system;
  {
    const Store::Opened opened = open_store(dir);
    faults.directory = dir.path() / "logbell";
    REQUIRE(fs::file_size(dir.file("reserve")) > 0);
    Commit c;
    c.entries = {{"pos/a", "1"}};
    commit(*opened.store, c);
    // Half a megabyte more than there is now: less than the log is allowed elsewhere.
    faults.volume = used_bytes(faults.directory) + 512 * 1024;
    for (int i = 0; i < 300; ++i)
      REQUIRE(one_more(*opened.store, i));
    // As the file system under it has room, what was given up is put back.
    CHECK(fs::file_size(dir.file("reserve")) > 0);
    faults.volume = 0;
  }
  SECTION("folding needs room first, and the reserve has it") {
    const Store::Opened opened = open_store(dir);
    Commit c;
    c.entries = {{"core/new", std::string(200'000, 'n')}};
    commit(*opened.store, c);  // in the log, and the file must grow for it
    faults.volume = used_bytes(faults.directory);
    c.entries = {{"core/new", std::string(200'000, 'm')}};
    commit(*opened.store, c);
    CHECK(opened.store->entries("core/new")->at(0).value == c.entries[0].value);
  }
  SECTION("and so it is at a start that finds the disk full") {
    {
      const Store::Opened opened = open_store(dir);
      Commit c;
      c.in_flight = {commit(*opened.store, notifications({notification("in flight")})).front().id};
      c.entries = {{"core/new", std::string(200'000, 'n')}};
      commit(*opened.store, c);
      faults.volume = used_bytes(faults.directory);
    }
    const Store::Opened opened = open_store(dir);  // it has to write who was in flight
    CHECK(waiting_keys(*opened.store) == std::vector<std::string>{"in flight"});
    CHECK(opened.store->entries("core/new")->size() == 1);
  }
  SECTION("nothing but the reserve is left: for what somebody must hear") {
    const Store::Opened opened = open_store(dir);
    faults.volume = used_bytes(faults.directory);
    Commit c;
    c.entries = {{"core/more", std::string(30'000, 'm')}};
    CHECK_FALSE(opened.store->commit(c));
    CHECK(fs::exists(dir.file("reserve")));
    c.notifications = {notification("heard")};
    CHECK(opened.store->commit(c));
    CHECK(waiting_keys(*opened.store) == std::vector<std::string>{"heard"});
  }
}

TEST_CASE("store: only a commit that must be on the disk pays for it", "[io][store]") {
  const StateDir dir;
  const FaultyFileSystem file_system;
  const Store::Opened opened = open_store(dir);
  Commit c;
  c.entries = {{"pos/a", "1"}};
  commit(*opened.store, c);
  faults.syncs = 0;
  commit(*opened.store, c);
  CHECK(faults.syncs == 0);
  c.sync = true;  // the same value again: what it says was written before, but not synced
  commit(*opened.store, c);
  CHECK(faults.syncs >= 1);
  faults.syncs = 0;
  c.sync = false;
  commit(*opened.store, c);
  CHECK(faults.syncs == 0);
}

TEST_CASE("store: after a failed fsync nothing is believed any more", "[io][store][F37]") {
  const StateDir dir;
  const FaultyFileSystem file_system;
  const Store::Opened opened = open_store(dir);
  Store& store = *opened.store;
  Commit c;
  c.notifications = {notification("k")};
  c.sync = true;
  faults.sync_error = SQLITE_IOERR_FSYNC;
  CHECK_FALSE(store.commit(c));
  CHECK(store.broken());
  faults.sync_error = SQLITE_OK;
  faults.syncs = 0;
  const auto again = store.commit(c);
  REQUIRE_FALSE(again);
  CHECK(again.error().message.find("fsync") != std::string::npos);
  CHECK(faults.syncs == 0);
}

namespace {

// SQLite's own memory, refused once when faults say so. SQLite takes it only while nothing of it is in use.
class FailingMemory {
 public:
  FailingMemory() {
    REQUIRE(sqlite3_shutdown() == SQLITE_OK);
    REQUIRE(sqlite3_config(SQLITE_CONFIG_GETMALLOC, &real) == SQLITE_OK);
    sqlite3_mem_methods mine = real;
    mine.xMalloc = [](int size) { return faults.strikes(Faults::kMalloc) ? nullptr : real.xMalloc(size); };
    mine.xRealloc = [](void* old, int size) {
      return faults.strikes(Faults::kMalloc) ? nullptr : real.xRealloc(old, size);
    };
    REQUIRE(sqlite3_config(SQLITE_CONFIG_MALLOC, &mine) == SQLITE_OK);
    REQUIRE(sqlite3_initialize() == SQLITE_OK);
  }
  ~FailingMemory() {
    sqlite3_shutdown();
    sqlite3_config(SQLITE_CONFIG_MALLOC, &real);
    sqlite3_initialize();
  }
  FailingMemory(const FailingMemory&) = delete;
  FailingMemory& operator=(const FailingMemory&) = delete;

 private:
  static sqlite3_mem_methods real;
};
sqlite3_mem_methods FailingMemory::real{};

// A life of a store whose n-th call fails, and the next one. What a commit said is in the store is there; a
// position is never without its counter; nothing is moved aside; what failed works when it is done again.
class FailingLife {
 public:
  static constexpr int kTicks = 4;

  // Whether the call was reached.
  bool live(Faults::Call call, int n, int error = SQLITE_OK) {
    faults = Faults{};
    faults.nth_write_error = error;
    faults.until.at(call) = n;
    if (std::optional<Store::Opened> opened = open()) {
      CHECK(keeps_a_log());
      for (int i = 1; i <= kTicks; ++i) {
        if (!tick(*opened->store, i)) break;
      }
    }
    const bool struck = faults.struck;
    faults = Faults{};

    const Store::Opened next = open_store(dir_);
    CHECK(next.moved_aside.empty());
    const int kept = number(*next.store, "pos/a");
    CHECK(kept == number(*next.store, "core/n/a"));
    CHECK(kept >= done_);
    CHECK(kept <= tried_);
    for (int i = kept + 1; i <= kTicks; ++i)
      REQUIRE(tick(*next.store, i));
    CHECK(number(*next.store, "pos/a") == kTicks);
    for (int i = 1; i <= kTicks; ++i)
      CHECK(number(*next.store, "filler/" + std::to_string(i)) == i);
    // Each was queued once; what was delivered is in the history, once.
    std::vector<std::string> keys = waiting_keys(*next.store);
    const auto history = next.store->history(100);
    REQUIRE(history);
    for (const Receipt& receipt : *history)
      keys.push_back(receipt.key);
    std::sort(keys.begin(), keys.end());
    CHECK(keys == std::vector<std::string>{"k1", "k2", "k3", "k4"});
    return struck;
  }

 private:
  // As a supervisor does: a start that fails is tried again, once.
  std::optional<Store::Opened> open() {
    for (int i = 0; i < 2; ++i) {
      rules::Result<Store::Opened> opened = Store::open(dir_.path(), kNow, milliseconds(0));
      if (opened) {
        CHECK(opened->moved_aside.empty());
        return std::move(*opened);
      }
      CHECK(faults.struck);
      CHECK(opened.error().code != ErrorCode::kCorrupt);
    }
    FAIL("it does not open again");
    return std::nullopt;
  }
  // As the writer does: what failed is committed again, unless the store is broken.
  bool must(Store& store, const Commit& c, std::vector<Delivery>* added = nullptr) {
    rules::Result<std::vector<Delivery>> done = store.commit(c);
    if (!done && !store.broken()) done = store.commit(c);
    if (!done) {
      CHECK(store.broken());
      CHECK(faults.struck);
      return false;
    }
    if (added != nullptr) *added = std::move(*done);
    return true;
  }
  bool tick(Store& store, int i) {
    Commit c;
    const std::string value = std::to_string(i);
    c.entries = {{"pos/a", value}, {"core/n/a", value}, {"filler/" + value, value + std::string(9000, ' ')}};
    c.notifications = {notification("k" + value)};
    c.sync = i % 2 == 1;
    tried_ = i;
    std::vector<Delivery> added;
    if (!must(store, c, &added)) return false;
    done_ = i;
    if (i % 2 == 0 || added.empty()) return true;
    Commit mark;
    mark.in_flight = {added[0].id};
    if (!must(store, mark)) return false;
    Commit settle;
    settle.settlements = {settlement(added[0].id, DeliveryState::kDelivered)};
    return must(store, settle);
  }
  // As SQLite's file format says: 2 at 18 and 19.
  bool keeps_a_log() const {
    std::ifstream file(dir_.file(), std::ios::binary);
    std::array<char, 20> header{};
    file.read(header.data(), header.size());
    return header[18] == 2 && header[19] == 2;
  }
  static int number(Store& store, const std::string& key) {
    const auto found = store.entries(key);
    REQUIRE(found);
    return found->empty() ? 0 : std::stoi(*found->at(0).value);
  }

  StateDir dir_{"/dev/shm"};  // hundreds of syncs that nothing depends upon
  int done_ = 0;
  int tried_ = 0;
};

}  // namespace

TEST_CASE("store: the n-th read, write, sync or open fails, for every n", "[io][store][F31]") {
  const FaultyFileSystem file_system;
  const auto [what, call, error] = GENERATE(table<std::string, Faults::Call, int>({
      {"the disk is full", Faults::kWrite, SQLITE_FULL},
      {"a write fails", Faults::kWrite, SQLITE_IOERR_WRITE},
      {"a sync fails", Faults::kSync, 0},
      {"a read fails", Faults::kRead, 0},
      {"a file does not open", Faults::kOpen, 0},
  }));
  int n = 1;
  for (bool struck = true; struck; ++n) {
    INFO(what << ", at call " << n);
    REQUIRE(n < 10'000);
    FailingLife life;
    struck = life.live(call, n, error);
  }
  CHECK(n > 3);
}

TEST_CASE("store: the n-th piece of memory is refused", "[io][store][F33]") {
  const FaultyFileSystem file_system;
  const FailingMemory memory;
  int n = 1;
  for (bool struck = true; struck; n += n < 100 ? 1 : 11) {
    INFO("memory is refused at call " << n);
    REQUIRE(n < 100'000);
    FailingLife life;
    struck = life.live(Faults::kMalloc, n);
  }
  CHECK(n > 100);
}

TEST_CASE("store: a row that no longer decodes is given up and counted, the others are sent",
          "[io][store][F38]") {
  const StateDir dir;
  const Store::Opened opened = open_store(dir);
  Store& store = *opened.store;
  commit(store, notifications({notification("bad"), notification("good")}));
  sql(dir.file(), "UPDATE outbox SET notification = '{' WHERE key = 'bad'");
  CHECK(waiting_keys(store) == std::vector<std::string>{"good"});
  CHECK(store.counters().unreadable == 1);
  CHECK(store.history(1)->at(0).reason == "unreadable");
  CHECK(waiting_keys(store) == std::vector<std::string>{"good"});
  CHECK(store.counters().unreadable == 1);
}

TEST_CASE("store: readers and the writer share it", "[io][store]") {
  const StateDir dir;
  const Store::Opened opened = open_store(dir);
  Store& store = *opened.store;
  std::thread reads([&] {
    for (int i = 0; i < 200; ++i) {
      if (!store.outbox() || !store.entries("") || !store.history(5)) std::abort();
    }
  });
  for (int i = 0; i < 200; ++i) {
    Commit c;
    c.entries = {{"pos/a", std::to_string(i)}};
    c.notifications = {notification("k" + std::to_string(i))};
    commit(store, c);
  }
  reads.join();
  CHECK(store.outbox()->at(0).pending == 200);
}

}  // namespace logbell::engine

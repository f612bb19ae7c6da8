// A state file with other bytes in it than were written: it opens, or it is moved aside, or the error says
// why; what it then gives is what was written or nothing; and it takes what comes next.
//
// Lines: "OFFSET HEX…" puts bytes in, "cut SIZE" shortens it, "log OFFSET HEX…" gives it a write-ahead log;
// what else a line says is committed as an entry and as a notification.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "engine/io/store.h"
#include "rules/notification.h"
#include "rules/result.h"
#include "tests/fuzz/support.h"

namespace {

using namespace logbell;
namespace fs = std::filesystem;

constexpr rules::Timestamp kNow{rules::Duration(1'777'629'600'000)};  // 2026-05-01T10:00:00Z
constexpr std::size_t kMaxSize = 256 * 1024;

std::string read_file(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

void write_file(const fs::path& path, const std::string& bytes) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out << bytes;
  LOGBELL_CHECK(out.good());
}

rules::Notification notification(std::string_view text) {
  rules::Alert alert;
  alert.labels = {{"alertname", "QueueUnreachable"}, {"queue", std::string(text)}};
  alert.state = rules::AlertState::kFiring;
  rules::Notification out;
  out.key = "key of " + std::string(text);
  out.sink = out.lane = "ops";
  out.alerts.push_back(std::move(alert));
  out.created_at = out.caused_at = kNow;
  return out;
}

// In memory where there is such a place: each input is a new file.
fs::path make_directory() {
  const fs::path shared = "/dev/shm";
  std::error_code error;
  std::string name =
      (fs::is_directory(shared, error) ? shared : fs::temp_directory_path()) / "logbell-fuzz-XXXXXX";
  LOGBELL_CHECK(mkdtemp(name.data()) != nullptr);
  return name;
}

struct World {
  fs::path directory = make_directory();
  std::string good;  // the file as it was closed
  std::string log;   // a write-ahead log that belongs to it

  World() {
    auto opened = engine::Store::open(directory, kNow, rules::Duration(0));
    LOGBELL_CHECK(opened.has_value());
    engine::Commit commit;
    for (int i = 0; i < 40; ++i) {
      commit.entries.push_back(
          {"core/n/" + std::to_string(i), std::string(static_cast<std::size_t>(i) * 7, 'x')});
    }
    // Few: reading them is what an input's time goes to.
    for (int i = 0; i < 8; ++i)
      commit.notifications.push_back(notification(std::to_string(i)));
    const auto added = opened->store->commit(commit);
    LOGBELL_CHECK(added.has_value());
    engine::Commit more;
    for (std::size_t i = 0; i < 5; ++i) {
      engine::Settlement end;
      end.id = (*added)[i].id;
      end.state = i % 2 == 0 ? engine::DeliveryState::kDelivered : engine::DeliveryState::kDead;
      end.outcome = end.receipt = "ok";
      end.at = kNow;
      more.settlements.push_back(end);
    }
    LOGBELL_CHECK(opened->store->commit(more).has_value());
    log = read_file(directory / "logbell/state.db-wal").substr(0, 32 * 1024);
    opened->store.reset();
    good = read_file(directory / "logbell/state.db");
    LOGBELL_CHECK(good.size() > 4096 && good.size() <= kMaxSize);
  }
  ~World() {
    std::error_code ignored;
    fs::remove_all(directory, ignored);
  }
  World(const World&) = delete;
  World& operator=(const World&) = delete;
};

std::size_t number(std::string_view digits) {
  std::size_t value = 0;
  for (const char c : digits) {
    if (c < '0' || c > '9' || value > kMaxSize) break;
    value = value * 10 + static_cast<std::size_t>(c - '0');
  }
  return value;
}

int hex(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

void put(std::string_view line, std::string& bytes) {
  const auto [offset, digits] = fuzz::split_at(line, ' ');
  std::size_t at = number(offset);
  for (std::size_t i = 0; i + 1 < digits.size() && at < bytes.size(); i += 2) {
    if (hex(digits[i]) < 0 || hex(digits[i + 1]) < 0) return;
    bytes[at++] = static_cast<char>(hex(digits[i]) * 16 + hex(digits[i + 1]));
  }
}

void check_reads(engine::Store& store) {
  if (const auto entries = store.entries("")) {
    LOGBELL_CHECK(std::is_sorted(entries->begin(), entries->end(),
                                 [](const auto& a, const auto& b) { return a.key < b.key; }));
    // The checksums let nothing through but what was written.
    for (const engine::StoredEntry& entry : *entries) {
      const std::string_view key = entry.key;
      if (!key.starts_with("core/n/")) continue;
      LOGBELL_CHECK(entry.value && entry.value->size() == 7 * number(key.substr(7)));
      LOGBELL_CHECK(entry.value->find_first_not_of('x') == std::string::npos);
    }
  } else {
    LOGBELL_CHECK(!entries.error().message.empty());
  }
  if (const auto waiting = store.undelivered()) {
    for (const engine::Delivery& delivery : *waiting) {
      LOGBELL_CHECK(delivery.notification.key.starts_with("key of ") &&
                    delivery.notification.alerts.size() == 1);
    }
  }
  static_cast<void>(store.outbox());
  if (const auto history = store.history(100)) LOGBELL_CHECK(history->size() <= 100);
  static_cast<void>(store.counters());
}

// What is committed is there, whatever it says.
void check_commit(engine::Store& store, const std::vector<std::string_view>& texts, bool whole) {
  engine::Commit commit;
  commit.sync = texts.size() % 2 == 0;
  for (const std::string_view text : texts) {
    commit.entries.push_back({"fuzz/" + std::string(text), std::string(text)});
    commit.notifications.push_back(notification("f " + std::string(text)));
  }
  const auto added = store.commit(commit);
  LOGBELL_CHECK(added.has_value() || !whole);
  if (!added) return;
  const auto entries = store.entries("fuzz/");
  LOGBELL_CHECK(entries.has_value() || !whole);
  if (!whole) return;
  for (const std::string_view text : texts) {
    LOGBELL_CHECK(std::any_of(entries->begin(), entries->end(), [&](const engine::StoredEntry& entry) {
      return entry.key == "fuzz/" + std::string(text) && entry.value == text;
    }));
  }
  const auto waiting = store.undelivered();
  LOGBELL_CHECK(waiting.has_value() && store.counters().unreadable == 0);
  for (const engine::Delivery& delivery : *added) {
    LOGBELL_CHECK(std::any_of(waiting->begin(), waiting->end(),
                              [&](const engine::Delivery& found) { return found.id == delivery.id; }));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const World kWorld;
  std::string bytes = kWorld.good;
  std::string log;
  std::vector<std::string_view> texts;
  for (const std::string_view line : fuzz::split_all(fuzz::text_of(data, size), '\n')) {
    if (line.starts_with("cut ")) {
      bytes.resize(std::min(bytes.size(), number(line.substr(4))));
    } else if (line.starts_with("log ")) {
      if (log.empty()) log = kWorld.log;
      put(line.substr(4), log);
    } else if (!line.empty() && line.front() >= '0' && line.front() <= '9') {
      put(line, bytes);
    } else {
      texts.push_back(line);
    }
  }
  const fs::path directory = kWorld.directory / "logbell";
  for (const fs::directory_entry& file : fs::directory_iterator(directory))
    fs::remove_all(file.path());
  write_file(directory / "state.db", bytes);
  if (!log.empty()) write_file(directory / "state.db-wal", log);

  auto opened = engine::Store::open(kWorld.directory, kNow, rules::Duration(0));
  if (!opened) {
    LOGBELL_CHECK(!opened.error().message.empty());
    return 0;
  }
  LOGBELL_CHECK(!opened->fresh);
  if (!opened->moved_aside.empty()) LOGBELL_CHECK(fs::exists(opened->moved_aside));
  const bool whole = !opened->moved_aside.empty() || (bytes == kWorld.good && log.empty());
  if (bytes == kWorld.good && log.empty()) LOGBELL_CHECK(opened->moved_aside.empty());
  check_reads(*opened->store);
  check_commit(*opened->store, texts, whole);
  return 0;
}

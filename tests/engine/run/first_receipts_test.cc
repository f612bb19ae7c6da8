#include "engine/run/first_receipts.h"

#include <catch2/catch.hpp>

namespace {

using namespace logbell;          // NOLINT(google-build-using-namespace): a test
using namespace logbell::engine;  // NOLINT(google-build-using-namespace)
using namespace std::chrono_literals;
using rules::Notification;
using rules::NotifyReason;

const rules::Timestamp kNow = rules::from_unix_ms(1'777'629'600'000);

Notification of_group(const std::string& key, NotifyReason reason = NotifyReason::kFirstFiring) {
  Notification out;
  out.group_key = key;
  out.group_began = kNow;
  out.reason = reason;
  out.alerts.emplace_back();
  return out;
}

// What a store keeps of what it is told.
using Kept = std::map<std::string, std::string>;
void keep(Kept& kept, const std::vector<StoredEntry>& entries) {
  for (const StoredEntry& entry : entries) {
    if (entry.value) {
      kept[entry.key] = *entry.value;
    } else {
      kept.erase(entry.key);
    }
  }
}
std::vector<StoredEntry> entries_of(const Kept& kept) {
  std::vector<StoredEntry> out;
  for (const auto& [key, value] : kept)
    out.push_back({key, value});
  return out;
}

}  // namespace

TEST_CASE("first_receipts: what follows knows the first, until all has ended, over a restart too",
          "[run][first_receipts]") {
  Kept kept;
  FirstReceipts receipts("chat", {});
  CHECK(receipts.of(of_group("a")).empty());
  keep(kept, receipts.delivered(of_group("a"), "C1 1.0 link", true, kNow));
  keep(kept, receipts.delivered(of_group("b"), "C1 2.0", true, kNow));
  CHECK(receipts.delivered(of_group("a", NotifyReason::kNewAlerts), "C1 3.0", false, kNow + 1h).empty());
  for (const auto& [key, value] : kept)
    CHECK(key.rfind("run/thread/chat/", 0) == 0);

  FirstReceipts restored("chat", entries_of(kept));
  CHECK(restored.size() == 2);
  CHECK(restored.of(of_group("a", NotifyReason::kRepeat)) == "C1 1.0 link");
  CHECK(restored.of(of_group("b")) == "C1 2.0");
  Notification later = of_group("a");
  later.group_began = kNow + 1h;
  CHECK(restored.of(later).empty());  // another episode
  Notification instead = of_group("a");
  instead.fallback_for = "pager";
  CHECK(restored.of(instead).empty());
  // One that was posted anew is the first from then on.
  keep(kept, restored.delivered(of_group("b", NotifyReason::kRepeat), "C1 4.0", true, kNow));
  CHECK(FirstReceipts("chat", entries_of(kept)).of(of_group("b")) == "C1 4.0");
  keep(kept, restored.delivered(of_group("b", NotifyReason::kResolvedSome), "C1 5.0", false, kNow));
  CHECK(restored.of(of_group("b")) == "C1 4.0");
  keep(kept, restored.delivered(of_group("a", NotifyReason::kAllResolved), "C1 6.0", false, kNow));
  keep(kept, restored.delivered(of_group("b", NotifyReason::kAllResolved), "C1 7.0", true, kNow));
  CHECK(restored.size() == 0);
  CHECK(kept.empty());
}

TEST_CASE("first_receipts: drills, texts and what gave nothing back are followed by nothing",
          "[run][first_receipts]") {
  FirstReceipts receipts("chat", {});
  Notification drill = of_group("a", NotifyReason::kDrill);
  drill.drill = "d1";
  Notification text = of_group("a", NotifyReason::kSummary);
  text.text = "while you were away";
  CHECK(receipts.delivered(drill, "C1 1.0", true, kNow).empty());
  CHECK(receipts.delivered(text, "C1 1.0", true, kNow).empty());
  CHECK(receipts.delivered(of_group("a"), "", true, kNow).empty());
  receipts.delivered(of_group("a"), "C1 2.0", true, kNow);
  CHECK(receipts.of(drill).empty());
  CHECK(receipts.of(text).empty());
}

TEST_CASE("first_receipts: the oldest is forgotten, by its age and by their number",
          "[run][first_receipts]") {
  Kept kept;
  FirstReceipts receipts("chat", {});
  keep(kept, receipts.delivered(of_group("quiet"), "C1 1.0", true, kNow));
  keep(kept, receipts.delivered(of_group("goes on"), "C1 2.0", true, kNow));
  // A day on it is written down that it goes on, with the first one's receipt.
  keep(kept, receipts.delivered(of_group("goes on", NotifyReason::kRepeat), "C1 3.0", false, kNow + 48h));
  keep(kept, receipts.delivered(of_group("other"), "C1 4.0", true, kNow + FirstReceipts::kKept));
  CHECK(receipts.size() == 3);
  keep(kept, receipts.delivered(of_group("other", NotifyReason::kRepeat), "", false,
                                kNow + FirstReceipts::kKept + 1ms));
  CHECK(receipts.size() == 2);
  CHECK(kept.size() == 2);
  CHECK(receipts.of(of_group("quiet")).empty());
  CHECK(FirstReceipts("chat", entries_of(kept)).of(of_group("goes on")) == "C1 2.0");
  CHECK(receipts.forgotten() == 0);
  const rules::Timestamp then = kNow + FirstReceipts::kKept;
  for (std::size_t i = 0; i < FirstReceipts::kMost; ++i)
    keep(kept, receipts.delivered(of_group(std::to_string(i)), "C1 5.0", true, then));
  CHECK(receipts.size() == FirstReceipts::kMost);
  CHECK(kept.size() == FirstReceipts::kMost);
  CHECK(receipts.forgotten() == 2);
  CHECK(receipts.of(of_group("goes on")).empty());
}

TEST_CASE("first_receipts: what the store has is not believed", "[run][first_receipts]") {
  const std::string key = FirstReceipts::prefix("chat") + "0";
  for (const char* value : {"", "C1 1.0", "12", "x 1", "12x C1"})
    CHECK(FirstReceipts("chat", {{key, value}}).size() == 0);
  CHECK(FirstReceipts("chat", {{key, std::nullopt}}).size() == 0);
}

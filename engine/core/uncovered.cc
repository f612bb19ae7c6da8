#include "engine/core/uncovered.h"

#include <algorithm>

#include "rules/json.h"
#include "rules/redact.h"

namespace logbell::engine {

using rules::Duration;
using rules::Json;
using rules::Timestamp;

namespace {

// So many letters of two lines must differ for both to be shown.
constexpr std::size_t kShapeBytes = 64;

// A line without what differs between two of the same kind: times, numbers, ids.
std::string shape_of(std::string_view line) {
  std::string shape;
  for (const char c : line) {
    const char small = static_cast<char>(c | 0x20);
    if (small >= 'g' && small <= 'z') shape += small;
    if (shape.size() == kShapeBytes) break;
  }
  return shape;
}

}  // namespace

bool UncoveredLog::add(const UncoveredLines& lines, const rules::UncoveredErrors& when, Timestamp now) {
  update(when, now);
  if (slots_.empty()) {
    since_ = now;
    changed_ = true;
  }
  if (slots_.empty() || now - slots_.back().first >= when.within / kSlots) {
    slots_.emplace_back(now, 0);
    changed_ = true;
  }
  slots_.back().second += lines.count;
  last_ = now;
  bool news = false;
  for (const std::string& line : lines.samples) {
    if (samples_.size() >= kSamples) break;
    std::string shown = rules::clean_text(rules::redact(line), kSampleBytes);
    const std::string shape = shape_of(shown);
    if (std::any_of(samples_.begin(), samples_.end(),
                    [&](const std::string& known) { return shape_of(known) == shape; }))
      continue;
    samples_.push_back(std::move(shown));
    news = true;
  }
  const bool fired = fires_;
  update(when, now);
  news = fires_ && (news || !fired);
  changed_ = changed_ || news;
  return news;
}

void UncoveredLog::update(const rules::UncoveredErrors& when, Timestamp now) {
  if (slots_.empty()) return;
  if (now - last_ >= when.within) {
    *this = UncoveredLog();
    changed_ = true;
    return;
  }
  while (slots_.front().first <= now - when.within && slots_.size() > 1)
    slots_.pop_front();
  std::uint64_t count = 0;
  for (const auto& slot : slots_)
    count += slot.second;
  fires_ = fires_ || count >= when.at_least;
}

void UncoveredLog::set_back(Timestamp now) {
  since_ = std::min(since_, now);
  last_ = std::min(last_, now);
  for (auto& slot : slots_)
    slot.first = std::min(slot.first, now);
}

std::string UncoveredLog::to_json() const {
  Json slots{Json::Array{}};
  for (const auto& [at, count] : slots_) {
    Json slot;
    slot.set("at", rules::to_unix_ms(at)).set("count", count);
    slots.push(std::move(slot));
  }
  Json samples{Json::Array{}};
  for (const std::string& sample : samples_)
    samples.push(Json(sample));
  Json json;
  json.set("since", rules::to_unix_ms(since_)).set("last", rules::to_unix_ms(last_)).set("fires", fires_);
  json.set("slots", std::move(slots)).set("samples", std::move(samples));
  return json.dump();
}

std::optional<UncoveredLog> UncoveredLog::parse(std::string_view text) {
  const auto json = Json::parse(text);
  if (!json || (*json)["slots"].array().empty()) return std::nullopt;
  UncoveredLog log;
  log.since_ = rules::from_stored_ms((*json)["since"].integer());
  log.last_ = rules::from_stored_ms((*json)["last"].integer());
  log.fires_ = (*json)["fires"].boolean();
  for (const Json& slot : (*json)["slots"].array()) {
    log.slots_.emplace_back(rules::from_stored_ms(slot["at"].integer()),
                            static_cast<std::uint64_t>(std::max<std::int64_t>(0, slot["count"].integer())));
    if (log.slots_.size() > 2 * kSlots) return std::nullopt;
  }
  for (const Json& sample : (*json)["samples"].array()) {
    if (log.samples_.size() < kSamples)
      log.samples_.push_back(rules::clean_text(sample.string(), kSampleBytes));
  }
  return log;
}

}  // namespace logbell::engine

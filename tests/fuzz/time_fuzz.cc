// Times and durations in text: what is read is written and read again as the same; a time at the beginning of
// a line is found whatever follows it; one without a year is near the reference; a described time is found
// where a recognised one would be.
//
// First line: a time format, such as %d/%b/%Y:%T %z, or nothing; then the line of a log.
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "rules/result.h"
#include "rules/time.h"
#include "rules/timestamp.h"
#include "tests/fuzz/support.h"

namespace {

using namespace logbell;
using rules::Duration;
using rules::Timestamp;
using rules::TimestampReader;

constexpr Timestamp kReference{Duration(1'777'629'600'000)};  // 2026-05-01T10:00:00Z
// Four digits of a year, with an offset of a day on both sides: what RFC 3339 can write.
constexpr Timestamp kFirst{Duration(-62'167'219'200'000)};
constexpr Timestamp kLast{Duration(253'402'300'799'999)};

void check_rfc3339(std::string_view text) {
  const rules::Result<Timestamp> at = rules::parse_rfc3339(text);
  if (!at) {
    LOGBELL_CHECK(!at.error().message.empty());
    return;
  }
  LOGBELL_CHECK(*at >= kFirst - std::chrono::hours(24) && *at <= kLast + std::chrono::hours(24));
  if (*at < kFirst || *at > kLast) return;
  const rules::Result<Timestamp> again = rules::parse_rfc3339(rules::format_rfc3339(*at));
  LOGBELL_CHECK(again.has_value() && *again == *at);
}

// Two readers of one form: they differ in a leap second, and in offsets that no place on earth has.
void check_both(std::string_view text) {
  static const TimestampReader kUtc = *TimestampReader::make({.field = {}, .format = {}, .location = "UTC"});
  const rules::Result<Timestamp> at = rules::parse_rfc3339(text);
  if (!at || text.find(":60") != std::string_view::npos) return;
  const char tens = text[text.size() - std::min<std::size_t>(text.size(), 5)];
  if (text.back() != 'Z' && text.back() != 'z' && tens != '0') return;
  LOGBELL_CHECK(kUtc.in_value(text, kReference) == *at);
}

void check_duration(std::string_view text) {
  const rules::Result<Duration> duration = rules::parse_duration(text);
  if (!duration) {
    LOGBELL_CHECK(!duration.error().message.empty());
    return;
  }
  LOGBELL_CHECK(duration->count() >= 0);
  const rules::Result<Duration> again = rules::parse_duration(rules::format_duration(*duration));
  LOGBELL_CHECK(again.has_value() && *again == *duration);
}

void check_sane(const std::optional<Timestamp>& at) {
  // The years that four digits can name; twelve digits of seconds since 1970 reach further.
  if (at) {
    LOGBELL_CHECK(rules::to_unix_ms(*at) > -70'000'000'000'000 &&
                  rules::to_unix_ms(*at) <= 1'000'000'000'000'000);
  }
}

void check_line(std::string_view line) {
  static const TimestampReader kUtc = *TimestampReader::make({.field = {}, .format = {}, .location = "UTC"});
  static const TimestampReader kVienna =
      *TimestampReader::make({.field = {}, .format = {}, .location = "Europe/Vienna"});
  const std::optional<Timestamp> utc = kUtc.in_line(line, kReference);
  check_sane(utc);
  check_sane(kUtc.in_value(line, kReference));
  // A zone moves a time, and neither makes nor loses one.
  const std::optional<Timestamp> vienna = kVienna.in_line(line, kReference);
  LOGBELL_CHECK(utc.has_value() == vienna.has_value());
  if (utc) LOGBELL_CHECK(std::chrono::abs(*utc - *vienna) <= std::chrono::hours(3));
  // Where the reference is in another year, a time without one moves with it, and no other moves at all.
  const auto later = kReference + std::chrono::hours(24 * 365 * 3 + 24);
  if (const std::optional<Timestamp> moved = kUtc.in_line(line, later); utc && moved && *moved != *utc) {
    // February 29 is only in some years: in the others the next time in the line counts, if there is one.
    const auto near = std::chrono::hours(24 * 550);
    LOGBELL_CHECK(std::chrono::abs(*utc - kReference) <= near || std::chrono::abs(*moved - later) <= near);
  }
  // Behind a time of our own nothing of the line counts.
  const Timestamp at = kReference + Duration(static_cast<std::int64_t>(line.size()) * 86'399'001);
  const std::string ours = rules::format_rfc3339(at);
  LOGBELL_CHECK(kUtc.in_line(ours + " " + std::string(line), kReference) == at);
  LOGBELL_CHECK(kVienna.in_line("[" + ours + "] " + std::string(line), kReference) == at);
  LOGBELL_CHECK(kUtc.in_value(ours, kReference) == at);
}

void check_format(std::string_view format, std::string_view line) {
  const auto reader = TimestampReader::make({.field = {}, .format = std::string(format), .location = "UTC"});
  if (!reader) {
    LOGBELL_CHECK(!reader.error().message.empty());
    return;
  }
  const std::optional<Timestamp> at = reader->in_line(line, kReference);
  const std::optional<Timestamp> value = reader->in_value(line, kReference);
  check_sane(at);
  check_sane(value);
  // What begins the line is found first.
  if (value && !format.empty() && !line.empty() && line.front() != ' ') LOGBELL_CHECK(at == value);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto [format, line] = fuzz::split_at(fuzz::text_of(data, size), '\n');
  check_rfc3339(line);
  check_both(line);
  check_duration(line);
  check_line(line);
  check_format(format, line);
  return 0;
}

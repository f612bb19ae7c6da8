#include "engine/run/first_start.h"

#include <algorithm>
#include <string>
#include <string_view>

#include "engine/run/event_time.h"

namespace logbell::engine {
namespace {

using rules::Duration;
using rules::kLongAgo;
using rules::Timestamp;

constexpr std::uint64_t kProbeBytes = 64 * 1024;
// Lines of several writers do not come in order: begin this much earlier than needed.
constexpr Duration kMargin{std::chrono::seconds(10)};

struct TimedLine {
  std::uint64_t offset = 0;  // of the line's beginning
  Timestamp at;
};

class Probe {
 public:
  Probe(const FileSource& file, const rules::SourceSpec& source, Timestamp now, LineTimes& times)
      : file_(file), source_(source), now_(now), times_(times), buffer_(kProbeBytes, '\0') {}

  // The first line that says a time at or after `wanted` and begins behind `from` (from == 0: also there) and
  // before `to`, in the first kProbeBytes.
  std::optional<TimedLine> line_from(std::uint64_t from, std::uint64_t to, Timestamp wanted = kLongAgo) {
    const std::size_t bytes = std::min(kProbeBytes, to - from);
    const auto got = file_.read_at(from, buffer_.data(), bytes);
    if (!got) return std::nullopt;
    std::string_view text(buffer_.data(), *got);
    std::uint64_t at = from;
    const auto drop = [&](std::size_t count) {
      text.remove_prefix(count);
      at += count;
    };
    if (from > 0) {
      const std::size_t newline = text.find('\n');
      if (newline == std::string_view::npos) return std::nullopt;
      drop(newline + 1);
    }
    while (!text.empty()) {
      const std::size_t newline = text.find('\n');
      if (newline == std::string_view::npos) break;
      if (const auto time = times_.read(source_, text.substr(0, newline), now_)) {
        if (*time <= now_ + kMaxAhead && *time >= wanted) return TimedLine{at, *time};
      }
      drop(newline + 1);
    }
    return std::nullopt;
  }

 private:
  const FileSource& file_;
  const rules::SourceSpec& source_;
  Timestamp now_;
  LineTimes& times_;
  std::string buffer_;
};

// The beginning of a line such that every line at or after `wanted` is behind it.
std::uint64_t offset_of(Timestamp wanted, Probe& probe, std::uint64_t size) {
  std::uint64_t low = 0;      // a line's beginning; everything before it is older
  std::uint64_t high = size;  // what is behind it need not be looked at
  while (high - low > kProbeBytes) {
    const std::uint64_t middle = low + (high - low) / 2;
    // Lines without a time (a stack trace, a very long line) are passed over.
    std::optional<TimedLine> line;
    for (std::uint64_t from = middle; !line && from < high; from += kProbeBytes / 2)
      line = probe.line_from(from, high);
    if (line && line->at < wanted) {
      low = line->offset;
    } else {
      high = middle;
    }
  }
  // What is left is short enough to be looked at line by line.
  if (const std::optional<TimedLine> line = probe.line_from(low, size, wanted)) return line->offset;
  return low;
}

}  // namespace

Duration longest_window(const rules::Plan& plan, std::uint32_t source) {
  Duration longest{0};
  for (const rules::AlertingRule& rule : plan.rules) {
    const bool uses = std::find(rule.sources.begin(), rule.sources.end(), source) != rule.sources.end();
    if (uses && rule.expr != nullptr) longest = std::max(longest, rules::longest_window(rule));
  }
  return longest;
}

FirstPlace first_place(const FileSource& file, const rules::SourceSpec& source, Duration window,
                       Duration max_replay_age, Timestamp now, LineTimes& times) {
  const auto stat = file.stat();
  if (!stat) return {0, now};
  if (source.read_from == rules::ReadFrom::kEnd) return {stat->size, now};

  Probe probe(file, source, now, times);
  const std::optional<TimedLine> first = stat->size > 0 ? probe.line_from(0, stat->size) : std::nullopt;
  // A copy is born later than what it says; then its first line is the older witness.
  Timestamp born = stat->id.born_ns != 0 ? rules::from_unix_ms(stat->id.born_ns / 1'000'000)
                   : first               ? first->at
                   : stat->size == 0     ? now
                                         : stat->modified();
  born = std::min(born, now);
  const Timestamp begins = first ? std::min(born, first->at) : born;
  if (source.read_from == rules::ReadFrom::kBeginning || born >= now - max_replay_age) return {0, begins};

  const Timestamp wanted = now - window;
  // Nothing was written since, so there is nothing in the windows that could be missing.
  if (stat->modified() < wanted || stat->size == 0) return {stat->size, wanted};
  if (begins >= wanted) return {0, begins};
  // Without times nobody can say what is in the windows; to count years of lines as new would be a lie.
  if (!first && !probe.line_from(stat->size - std::min(stat->size, kProbeBytes), stat->size))
    return {stat->size, now};
  return {offset_of(wanted - kMargin, probe, stat->size), wanted};
}

}  // namespace logbell::engine

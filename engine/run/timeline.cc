#include "engine/run/timeline.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

namespace logbell::engine {

using rules::Duration;
using rules::Timestamp;

std::string timeline(const TimeBuckets<BacktestReport::Span>& spans, Timestamp from, Timestamp to,
                     std::size_t columns, bool ascii) {
  constexpr std::array<const char*, 9> kBlocks = {"·", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  constexpr std::array<const char*, 9> kLetters = {".", "_", "_", "-", "-", "=", "=", "#", "#"};
  if (columns == 0 || from >= to) return {};
  const double width = static_cast<double>((to - from).count()) / static_cast<double>(columns);
  std::vector<double> fired(columns, 0);  // of each column, how much of it
  std::vector<bool> began(columns, false);
  const auto column_of = [&](double ms) {
    return std::min(static_cast<std::size_t>(std::max(ms, 0.0) / width), columns - 1);
  };
  for (std::size_t i = 0; i < spans.buckets().size(); ++i) {
    const BacktestReport::Span& span = spans.buckets()[i];
    if (span.firing == Duration(0) && span.firings == 0) continue;
    // Several alerts at once fire no more than all the time.
    const double firing =
        std::min(static_cast<double>(span.firing.count()) / static_cast<double>(spans.width().count()), 1.0);
    const double begin = std::max(static_cast<double>((spans.begin_of(i) - from).count()), 0.0);
    const double end = std::min(static_cast<double>((spans.begin_of(i) + spans.width() - from).count()),
                                static_cast<double>((to - from).count()));
    if (span.firings > 0) began[column_of(begin)] = true;
    for (std::size_t k = column_of(begin); k < columns && static_cast<double>(k) * width < end; ++k) {
      const double part =
          std::min(end, static_cast<double>(k + 1) * width) - std::max(begin, static_cast<double>(k) * width);
      if (part > 0) fired[k] += firing * part / width;
    }
  }
  std::string out;
  for (std::size_t k = 0; k < columns; ++k) {
    auto step = static_cast<std::size_t>(std::ceil(std::min(fired[k], 1.0) * 8 - 1e-9));
    if (began[k] && step == 0) step = 1;
    out += ascii ? kLetters[step] : kBlocks[step];
  }
  return out;
}

}  // namespace logbell::engine

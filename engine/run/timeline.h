// A row of characters that shows when something fired: what part of each span of time. Pure; any thread.
#pragma once

#include <cstddef>
#include <string>

#include "engine/run/backtest.h"
#include "rules/time.h"

namespace logbell::engine {

// `columns` spans of equal length from `from` to `to`: nothing in one is a dot, and the more of it something
// fires the higher its block. What fires for a moment is seen. `ascii`: for a terminal that does not know
// blocks.
std::string timeline(const TimeBuckets<BacktestReport::Span>& spans, rules::Timestamp from,
                     rules::Timestamp to, std::size_t columns, bool ascii);

}  // namespace logbell::engine

// How a backtest is told: as text for people, as JSON for programs. Pure but for asking the terminal what it
// is; main thread.
#pragma once

#include <optional>
#include <string>

#include "engine/run/backtest.h"
#include "engine/run/backtest_compare.h"
#include "rules/json.h"

namespace logbell::engine {

// What standard output can show.
struct Screen {
  std::size_t columns = 80;
  bool ascii = false;  // it knows no blocks
};
Screen screen_of_stdout();

// `suggest`: suggestions were asked for.
std::string backtest_text(const BacktestReport& report, bool suggest, const Screen& screen);
std::string comparison_text(const BacktestComparison& comparison, const std::string& a, const std::string& b);
rules::Json backtest_json(const BacktestReport& report, bool suggest);
rules::Json comparison_json(const BacktestComparison& comparison);

}  // namespace logbell::engine

// A backtest as one page of HTML: what happened, and of each rule a plot of its value, its threshold and its
// firings. Pure; any thread.
//
// The page needs nothing else: no script, no font, no image, no address. Its Content-Security-Policy allows
// none either, so that whatever a log says can only be shown. Light or dark, as the reader's system is.
#pragma once

#include <string>
#include <string_view>

#include "engine/run/backtest.h"

namespace logbell::engine {

// `suggest`: suggestions were asked for. `config`: what the rules were read from.
std::string backtest_page(const BacktestReport& report, bool suggest, std::string_view config);

}  // namespace logbell::engine

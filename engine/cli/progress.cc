#include "engine/cli/progress.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "engine/cli/backtest_print.h"
#include "rules/time.h"

namespace logbell::engine {
namespace {

constexpr std::size_t kBar = 24;  // characters

std::string bytes_text(double bytes) {
  for (const auto& [unit, name] : {std::pair(1e12, "TB"), std::pair(1e9, "GB"), std::pair(1e6, "MB")}) {
    if (bytes >= unit) return fmt::format("{:.3g} {}", bytes / unit, name);
  }
  return fmt::format("{:.3g} kB", bytes / 1e3);
}

}  // namespace

std::string progress_line(const BacktestProgress& progress, std::size_t columns, bool ascii) {
  const auto bytes = static_cast<double>(progress.bytes);
  const double rate = progress.seconds > 0 ? bytes / progress.seconds : 0;
  std::string text = bytes_text(bytes);
  std::string bar;
  if (progress.total > 0) {
    const auto total = static_cast<double>(progress.total);
    const double part = std::min(bytes / total, 1.0);
    const auto full = static_cast<std::size_t>(part * kBar);
    for (std::size_t i = 0; i < kBar; ++i)
      bar += i < full ? (ascii ? "#" : "█") : (ascii ? "." : "░");
    bar = "[" + bar + "] ";
    text += " of " + bytes_text(total);
  }
  if (rate > 0) text += ", " + bytes_text(rate) + "/s";
  if (rate > 0 && progress.total > 0) {
    const double left = std::max(static_cast<double>(progress.total) - bytes, 0.0) / rate;
    text +=
        ", " + rules::format_duration(std::chrono::seconds(std::llround(left))) + " left";
  }
  if (columns > 0 && text.size() > columns) text.resize(columns);
  return text.size() + kBar + 3 <= columns ? bar + text : text;
}

ProgressLine::ProgressLine() {
  const char* const terminal = std::getenv("TERM");  // NOLINT(concurrency-mt-unsafe): before any other thread
  wanted_ =
      ::isatty(STDERR_FILENO) == 1 && std::string_view(terminal == nullptr ? "dumb" : terminal) != "dumb";
  if (wanted_) ascii_ = screen_of_stdout().ascii;
}

ProgressLine::~ProgressLine() {
  if (shown_) std::fputs("\r\033[K", stderr);
}

void ProgressLine::show(const BacktestProgress& progress) {
  winsize size{};
  const std::size_t columns =
      ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col - 1U : 79;
  std::fprintf(stderr, "\r%s\033[K", progress_line(progress, columns, ascii_).c_str());
  shown_ = true;
}

}  // namespace logbell::engine

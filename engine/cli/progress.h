// One line at the bottom of a terminal that says how far something is. Main thread.
#pragma once

#include <cstdint>
#include <string>

#include "engine/run/backtest.h"

namespace logbell::engine {

// "[█████▌    ] 512 MB of 1.02 GB, 820 MB/s, 1s left": at most `columns` wide.
std::string progress_line(const BacktestProgress& progress, std::size_t columns, bool ascii);

class ProgressLine {
 public:
  ProgressLine();
  ~ProgressLine();  // takes it away
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  // Standard error is a terminal that can be drawn on.
  bool is_wanted() const { return wanted_; }
  void show(const BacktestProgress& progress);

 private:
  bool wanted_;
  bool ascii_ = false;
  bool shown_ = false;
};

}  // namespace logbell::engine

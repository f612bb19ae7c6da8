// The commands: one function and one file each. They return the process's exit status.
#pragma once

#include "engine/cli/options.h"

namespace logbell::engine {

int command_backtest(const BacktestOptions& options);
int command_check(const CheckOptions& options);
int command_diff(const DiffOptions& options);
int command_drill(const DrillOptions& options);
int command_explain(const ExplainOptions& options);
int command_export(const ExportOptions& options);
int command_schema(const SchemaOptions& options);
int command_status(const StatusOptions& options);
int command_test(const TestOptions& options);
int command_run(const RunOptions& options);

}  // namespace logbell::engine

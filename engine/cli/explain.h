// The halves of `logbell explain`: a rule, and lines. They print, and return the exit status.
//
// Main thread.
#pragma once

#include "engine/cli/options.h"
#include "engine/run/config.h"

namespace logbell::engine {

int explain_rule(const ExplainOptions& options, const Config& config);

}  // namespace logbell::engine

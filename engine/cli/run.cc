#include <cstdio>

#include "engine/cli/commands.h"
#include "engine/cli/exit_status.h"

namespace logbell::engine {

int command_run(const RunOptions& options) {
  // Honest until it is built: a process that stays up and watches nothing would be worse than none.
  std::fprintf(stderr, "logbell run: not built yet. %s was not read and nothing is watched.\n",
               options.config.c_str());
  return kExitSoftware;
}

}  // namespace logbell::engine

#include <cstdio>

#include "engine/cli/commands.h"
#include "engine/cli/exit_status.h"

namespace logbell::engine {

int command_check(const CheckOptions& options) {
  std::fprintf(stderr, "logbell check: not built yet. %s was not read.\n", options.config.c_str());
  return kExitSoftware;
}

}  // namespace logbell::engine

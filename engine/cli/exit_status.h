// Exit codes, sysexits-style: what a script, systemd or a pod's supervisor can tell apart.
#pragma once

namespace logbell::engine {

enum ExitStatus : int {
  kExitOk = 0,
  kExitFindings = 1,        // something is found that somebody has to look at
  kExitUsage = 64,          // the command line
  kExitSoftware = 70,       // our mistake, or not built
  kExitIo = 74,             // state_dir cannot be written, the port is taken
  kExitOtherInstance = 75,  // another logbell holds state_dir: it may go away
  kExitConfig = 78,         // the configuration: restarting cannot help
};

}  // namespace logbell::engine

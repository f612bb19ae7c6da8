// logbell: no command works yet. Until one does, the program says so and fails: a `check` that returns 0
// would say that a rule reaches somebody, which nobody has looked at.
#include <cstdio>

#include "logbell_version.h"

namespace {
constexpr int kExitSoftware = 70;  // sysexits: what was asked for is not there
}  // namespace

int main() {
  std::fputs(
      "logbell " LOGBELL_VERSION
      ": not usable yet: neither `check` nor `run` is built. Nothing was checked and nothing is watched.\n",
      stderr);
  return kExitSoftware;
}

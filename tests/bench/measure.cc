// Runs a program once and says what it took: "seconds, KiB of memory at its most, exit status, seconds of CPU" on
// standard output.
//
//   measure CORE|all OUTPUT PROGRAM [ARGUMENT…]     pinned to that core or not; what the program prints goes to OUTPUT
//
// Python could do it, but wc reads 256 MiB in 40 ms, and the peak of a child counts what its parent held when it forked.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

[[noreturn]] void become(const char* core, const char* output, char** program) {
  if (std::strcmp(core, "all") != 0) {
    cpu_set_t cores;
    CPU_ZERO(&cores);
    CPU_SET(static_cast<std::size_t>(std::strtoul(core, nullptr, 10)), &cores);
    if (sched_setaffinity(0, sizeof cores, &cores) != 0) std::perror("sched_setaffinity"), _exit(126);
  }
  // A plain file: to /dev/null grep stops at the first match.
  const int file = open(output, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);
  if (file < 0 || dup2(file, STDOUT_FILENO) < 0) std::perror(output), _exit(126);
  execvp(program[0], program);
  std::perror(program[0]);
  _exit(127);
}

// Keeps every core busy for a moment, whoever is measured then: one that slept since the last program that had two of them is
// clocked lower, and a virtual one has first to be given a real one again.
void wake_cores() {
  constexpr std::chrono::milliseconds kBusy(50);
  cpu_set_t cores;
  if (sched_getaffinity(0, sizeof cores, &cores) != 0) return;
  std::vector<std::thread> threads;
  for (std::size_t core = 0; core < CPU_SETSIZE; ++core) {
    if (!CPU_ISSET(core, &cores)) continue;
    threads.emplace_back([core, kBusy] {
      cpu_set_t mine;
      CPU_ZERO(&mine);
      CPU_SET(core, &mine);
      static_cast<void>(sched_setaffinity(0, sizeof mine, &mine));
      const auto until = std::chrono::steady_clock::now() + kBusy;
      while (std::chrono::steady_clock::now() < until) {
      }
    });
  }
  for (std::thread& thread : threads)
    thread.join();
}

}  // namespace

int main(int count, char** values) {
  if (count < 4) {
    std::fputs("usage: measure CORE|all OUTPUT PROGRAM [ARGUMENT…]\n", stderr);
    return 64;
  }
  wake_cores();
  const auto began = std::chrono::steady_clock::now();
  const pid_t child = fork();
  if (child < 0) return std::perror("fork"), 1;
  if (child == 0) become(values[1], values[2], values + 3);
  int status = 0;
  rusage used{};
  if (wait4(child, &status, 0, &used) != child) return std::perror("wait4"), 1;
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
  const auto seconds = [](const timeval& time) { return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6; };
  std::printf("%.6f %ld %d %.6f\n", took.count(), used.ru_maxrss, WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
              seconds(used.ru_utime) + seconds(used.ru_stime));
  return 0;
}

// Lives of logbell from seeds: sim_test [--from SEED] [--count N]. Without arguments the seeds that every run
// of the tests tries, and one that nobody has tried before. LOGBELL_SIM_SEED=n: that
// one alone.
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <unistd.h>

#include "tests/sim/world.h"

namespace {

namespace fs = std::filesystem;
using logbell::sim::World;

fs::path make_directory() {
  const fs::path memory = "/dev/shm";
  const fs::path base = fs::is_directory(memory) ? memory : fs::temp_directory_path();
  return base / fmt::format("logbell-sim-{}", ::getpid());
}

struct Totals {
  std::uint64_t failed = 0;
  logbell::sim::Counts counts;
};

void add(logbell::sim::Counts& to, const logbell::sim::Counts& from) {
  to.actions += from.actions;
  to.steps += from.steps;
  to.lines += from.lines;
  to.crashes += from.crashes;
  to.reloads += from.reloads;
  to.messages += from.messages;
  to.episodes += from.episodes;
  to.compared += from.compared;
}

void live(std::uint64_t seed, const fs::path& directory, Totals& totals) {
  World world(seed, directory);
  try {
    world.live();
  } catch (const std::exception& error) {
    ++totals.failed;
    for (const std::string& action : world.last_actions())
      fmt::print("  {}\n", action);
    fmt::print("LOGBELL_SIM_SEED={}\n{}\n", seed, error.what());
    std::fflush(stdout);  // whatever becomes of the others
  }
  add(totals.counts, world.counts());
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  std::vector<std::uint64_t> seeds;
  std::uint64_t from = 0;
  std::uint64_t count = 0;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string option = argv[i];
    if (option == "--from") from = std::stoull(argv[i + 1]);
    if (option == "--count") count = std::stoull(argv[i + 1]);
  }
  if (const char* wanted = std::getenv("LOGBELL_SIM_SEED");
      wanted != nullptr) {  // NOLINT(concurrency-mt-unsafe): one thread
    seeds.push_back(std::stoull(wanted));
  } else if (count > 0) {
    for (std::uint64_t n = 0; n < count; ++n)
      seeds.push_back(from + n);
  } else {
    seeds = {1, 2, 3, 12, 17, 66, 72, 107, 1007546, 1024887, std::random_device{}()};
    fmt::print("the new seed is {}\n", seeds.back());
  }

  const fs::path directory = make_directory();
  Totals totals;
  const auto began = std::chrono::steady_clock::now();
  for (const std::uint64_t seed : seeds)
    live(seed, directory, totals);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
  // Of a replay that fails everything is left for whoever looks.
  const bool replay = seeds.size() == 1 && totals.failed > 0;
  std::error_code ignored;
  if (replay) fmt::print("its files are in {}\n", directory.string());
  if (!replay) fs::remove_all(directory, ignored);
  fmt::print(
      "{} seeds in {:.1f} s ({:.0f}/s), {} failed; {} actions, {} steps, {} lines, {} crashes, {} reloads, "
      "{} "
      "messages, {} episodes, {} comparisons with the model\n",
      seeds.size(), took.count(), static_cast<double>(seeds.size()) / took.count(), totals.failed,
      totals.counts.actions, totals.counts.steps, totals.counts.lines, totals.counts.crashes,
      totals.counts.reloads, totals.counts.messages, totals.counts.episodes, totals.counts.compared);
  return totals.failed == 0 ? 0 : 1;
}

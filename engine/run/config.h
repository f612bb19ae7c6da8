// Config: the whole configuration file compiled: the plan for the core, the sinks, and the process's own
// settings.
//
// Immutable after load; any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "rules/plan.h"
#include "rules/problems.h"
#include "sinks/sink.h"

namespace logbell::engine {

// What of the world a configuration may ask: injected, so that tests need no real environment.
struct ConfigWorld {
  std::function<std::optional<std::string>(const std::string& name)> env;
  std::function<rules::Result<std::string>(const std::string& path)> read_file;
  std::function<std::vector<std::string>(const std::string& pattern)> glob;  // sorted
  std::function<bool(const std::string& path)> readable_by_others;
  std::string hostname;
  rules::Timestamp now;  // for `until:`

  static ConfigWorld real(rules::Timestamp now);
  // The same world, but the configuration's own files are these (Config::texts of an earlier load); files of
  // secrets are still read.
  ConfigWorld with_texts(std::vector<std::pair<std::string, std::string>> texts) const;
};

struct Config {
  std::shared_ptr<const rules::Plan> plan;
  std::map<std::string, std::shared_ptr<const sinks::SinkConfig>> sinks;
  std::string path;
  std::string state_dir = "/var/lib/logbell";
  std::string listen = "127.0.0.1:9733";
  std::string external_url;
  std::string environment;
  std::vector<rules::Secret> secrets;
  std::vector<std::string> files;  // every file it was read from, `path` first
  // Their paths and texts as read, variables not filled in: what load_config() makes the same configuration
  // of.
  std::vector<std::pair<std::string, std::string>> texts;
};

struct LoadOptions {
  bool assume_secrets = false;  // `check` only
  bool for_run = false;  // `run`: an expired `until:` is a warning and the rule goes through the root route
  std::uint64_t generation = 1;
};

// Null when there are errors: every problem found is in `problems`. `problems` may hold warnings with a
// config.
std::shared_ptr<const Config> load_config(const std::string& path, const ConfigWorld& world,
                                          const LoadOptions& options, rules::Problems& problems);

// What of a configuration with errors still works: the sinks that parsed, to tell them that a start was
// refused. Only those that tell people.
std::vector<std::pair<rules::SinkSpec, std::shared_ptr<const sinks::SinkConfig>>> salvage_sinks(
    const std::string& path, const ConfigWorld& world);

// The table rule -> route -> sinks that `check` prints, for people.
std::string format_reach_table(const Config& config);

}  // namespace logbell::engine

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

#include "engine/run/drill_settings.h"
#include "engine/run/proof_ages.h"
#include "engine/run/heartbeat_fields.h"
#include "rules/labels.h"
#include "rules/plan.h"
#include "rules/problems.h"
#include "sinks/sink.h"

namespace logbell::engine {

// What a configuration was made of: every file that was read for it (rule files and secrets too), every
// pattern that was looked up, and what came of it. Where two are equal, loading again changes nothing. Value.
struct ConfigInputs {
  // By path, of the text, or of why it could not be read. Hashes: no secret is kept.
  std::map<std::string, rules::Fingerprint> files;
  std::map<std::string, std::vector<std::string>> globs;  // what each found

  friend bool operator==(const ConfigInputs&, const ConfigInputs&) = default;
};

// What of the world a configuration may ask: injected, so that tests need no real environment.
struct ConfigWorld {
  std::function<std::optional<std::string>(const std::string& name)> env;
  std::function<rules::Result<std::string>(const std::string& path)> read_file;
  std::function<std::vector<std::string>(const std::string& pattern)> glob;  // sorted
  // By users who are neither we nor root. Not in a volume that kubelet wrote: there a secret is 0644, or 0440
  // with fsGroup, and only the pod's own containers that mount it can reach it.
  std::function<bool(const std::string& path)> readable_by_others;
  std::string hostname;
  rules::Timestamp now;  // for `until:`

  static ConfigWorld real(rules::Timestamp now);
  // The same world, but the configuration's own files are these (Config::texts of an earlier load); files of
  // secrets are still read.
  ConfigWorld with_texts(std::vector<std::pair<std::string, std::string>> texts) const;
  // The same world, which notes in `inputs` what it is asked. `inputs` must outlive it.
  ConfigWorld noting(ConfigInputs& inputs) const;
  // What the same questions are answered now.
  ConfigInputs ask_again(const ConfigInputs& before) const;
};

struct Config {
  std::shared_ptr<const rules::Plan> plan;
  std::map<std::string, std::shared_ptr<const sinks::SinkConfig>> sinks;
  std::string path;
  std::string state_dir = "/var/lib/logbell";
  std::string listen = "127.0.0.1:9733";
  std::string external_url;
  std::string environment;
  DrillSettings drills;
  ProofAges proof_ages;
  std::optional<HeartbeatSettings> heartbeat;       // whom it tells that it lives
  std::map<std::string, ListenedFor> listened_for;  // `heartbeats:`, by name
  std::vector<rules::Secret> secrets;
  std::vector<std::string> files;  // every file it was read from, `path` first
  // Their paths and texts as read, variables not filled in: what load_config() makes the same configuration
  // of.
  std::vector<std::pair<std::string, std::string>> texts;
};

struct LoadOptions {
  bool assume_secrets = false;  // `check` only
  bool for_run = false;  // `run`: an expired `until:` is a warning and the rule goes through the root route
  bool inspect = false;  // `diff`: what could be read in spite of errors, without sinks that cannot be used;
                         // nothing can be run with it
  std::uint64_t generation = 1;
  rules::PatternSet::Matcher matcher = rules::PatternSet::Matcher::kFast;
};

// Whether kubelet wrote `path`, as it writes Secrets, ConfigMaps and projected volumes: through a link named
// ..data to a directory whose name begins with "..", in memory or in a file system that this process cannot
// write to.
bool is_in_kubernetes_volume(const std::string& path);

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

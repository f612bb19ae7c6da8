// Whatever a configuration holds: it is refused with reasons and places, or every rule of it reaches a sink.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "engine/run/config.h"
#include "rules/plan.h"
#include "rules/time.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace logbell;
  const std::string text(reinterpret_cast<const char*>(data), size);
  engine::ConfigWorld world;
  world.env = [](const std::string& name) -> std::optional<std::string> {
    if (name.empty()) return std::nullopt;
    return "https://hooks.slack.com/services/TABCDEF12/BABCDEF12/abcdefghijklmnopqrstuvwx";
  };
  world.read_file = [&](const std::string& path) -> rules::Result<std::string> {
    if (path == "logbell.yaml") return text;
    return rules::fail(rules::ErrorCode::kNotFound, "no such file");
  };
  world.glob = [](const std::string&) { return std::vector<std::string>{}; };
  world.readable_by_others = [](const std::string&) { return false; };
  world.hostname = "fuzz";
  world.now = *rules::parse_rfc3339("2026-05-01T10:00:00Z");
  rules::Problems problems;
  const auto config = engine::load_config("logbell.yaml", world, {}, problems);
  LOGBELL_CHECK((config == nullptr) == problems.has_errors());
  for (const rules::Problem& problem : problems.sorted())
    LOGBELL_CHECK(!problem.reason.empty() && problem.place.file == "logbell.yaml");
  if (config == nullptr) {
    static_cast<void>(engine::salvage_sinks("logbell.yaml", world));
    return 0;
  }
  LOGBELL_CHECK(config->plan->rules.empty() || !config->sinks.empty());
  static_cast<void>(engine::format_reach_table(*config));
  return 0;
}

// logbell export: the rules for another system to watch by: Prometheus, over the metrics of many logbells.
#include <cstdio>
#include <memory>

#include <fmt/format.h>

#include "engine/cli/commands.h"
#include "engine/cli/exit_status.h"
#include "engine/run/clock.h"
#include "engine/run/config.h"
#include "rules/matcher.h"
#include "rules/problems.h"
#include "rules/prometheus_rules.h"

namespace logbell::engine {

int command_export(const ExportOptions& options) {
  rules::Problems problems;
  LoadOptions load;
  load.assume_secrets = options.assume_secrets;
  const std::shared_ptr<const Config> config =
      load_config(options.config, ConfigWorld::real(SystemClock().now()), load, problems);
  if (config == nullptr || problems.has_errors()) {
    for (const rules::Problem& problem : problems.sorted()) {
      if (problem.severity == rules::Severity::kError) std::fprintf(stderr, "%s\n", problem.format().c_str());
    }
    std::fprintf(stderr, "%s: refused; nothing is exported.\n", options.config.c_str());
    return kExitConfig;
  }
  rules::PrometheusOptions how{options.config, options.scrape_interval, {}};
  for (const std::string& text : options.selector) {
    rules::Result<rules::LabelMatcher> matcher = rules::LabelMatcher::parse(text);
    if (!matcher) {
      std::fprintf(stderr, "logbell export: --selector %s: %s\n", text.c_str(),
                   matcher.error().message.c_str());
      return kExitUsage;
    }
    how.selector.push_back(*std::move(matcher));
  }
  const rules::PrometheusRules exported = rules::prometheus_rules(*config->plan, how);
  std::fputs(exported.text.c_str(), stdout);
  for (const rules::PrometheusRules::LeftOut& one : exported.left_out) {
    std::fprintf(stderr, "%s\n",
                 fmt::format("{}: rule \"{}\": not exported: {}{}{}", one.place.format(), one.alert,
                             one.reason, one.fix.empty() ? "" : "; ", one.fix)
                     .c_str());
  }
  return exported.left_out.empty() ? kExitOk : kExitFindings;
}

}  // namespace logbell::engine

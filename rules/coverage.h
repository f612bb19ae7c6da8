// Coverage: whether every rule reaches somebody, on every way that its route can take; and what the route and
// the sinks hold that does nothing. The judgement over rules/reach.h.
//
// Pure; one thread while a configuration is compiled.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "rules/plan.h"
#include "rules/problems.h"
#include "rules/route_file.h"
#include "rules/time.h"

namespace logbell::rules {

// What was written, beside the plan made of it.
struct Written {
  const std::vector<bool>& complete;     // RuleSet's
  const std::vector<bool>& wrote_sinks;  // RuleSet's
  const std::vector<RouteSink>& route_sinks;
  const std::vector<std::string>& sink_names;  // in the order written
  const std::string& heartbeats_sink;          // which is none of them; "": none
  Timestamp now;
};

struct Coverage {
  std::map<std::string, std::vector<std::string>> users;  // rules by sink, fallbacks included
  std::uint32_t rules_without_sink = 0;  // by `sinks: none` only: everything else is a problem

  // " (A and B rely on it)", or "".
  std::string relied_on_by(const std::string& sink) const;
};

// What is said where an alert is to go through the heartbeat's sink, and what to do.
std::string of_the_heartbeat(const std::string& sink);
inline constexpr const char* kGiveItsOwn = "name another one, or give the heartbeat one of its own";

// `plan` holds every sink that was written, working or not: what does not work is said of the sink.
Coverage check_coverage(const Plan& plan, const Written& written, Problems& problems);

}  // namespace logbell::rules

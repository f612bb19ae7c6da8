// Compare: what two configurations would do differently, staging and production above all: who would be told
// of what in one and not in the other.
//
// Pure; any thread.
#pragma once

#include <string>
#include <vector>

#include "engine/run/config.h"

namespace logbell::engine {

struct Difference {
  enum class Section { kFewer, kOtherwise, kMore, kRules, kPatterns, kSources, kRoutes, kSinks, kProof };
  Section section = Section::kRules;
  std::string subject;  // `rule "QueueUnreachable"`
  std::string what;     // what of it: "told", "expr", "type"; "" where it is all of it
  std::string in_a;     // "" where it has none
  std::string in_b;
};
std::string_view to_string(Difference::Section section);  // "fewer"

// In the order of sections, then of names. Who is told of a rule, or of one of logbell's own alerts, is
// compared on each way that an alert with the same labels takes through both routes, at each moment of the
// year from `now` on at which one of their time intervals begins or ends. kFewer: on one of them fewer people
// hear in `b`, at once or once a sink has failed (its fallbacks), or fewer machines where as many people do;
// what a machine reads
// (`audience: machine`) makes up for no person. kOtherwise: as many, but others, or of another type. kMore:
// nobody is lost. A heartbeat, a source, a `max_silence`, `uncovered_errors` or a sink's secret that `b` has
// not is kFewer as well.
std::vector<Difference> compare(const Config& a, const Config& b, rules::Timestamp now);

// What environments can be compared by, from Prometheus: equal where they watch for the same, route it in the
// same way, and know the same sinks with secrets for each. Where sinks lead, paths and the environment's name
// are left out.
struct ConfigFingerprint {
  std::string rules;   // and patterns
  std::string routes;  // and what their time intervals hold
  std::string sinks;   // names, types, whether each can be used, the keys of its secrets; and the heartbeat
};
ConfigFingerprint fingerprint(const Config& config);

}  // namespace logbell::engine

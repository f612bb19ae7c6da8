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
  enum class Section { kFewer, kOtherwise, kMore, kRules, kPatterns, kRoutes, kSinks, kProof };
  Section section = Section::kRules;
  std::string subject;  // `rule "QueueUnreachable"`
  std::string what;     // what of it: "told", "expr", "type"; "" where it is all of it
  std::string in_a;     // "" where it has none
  std::string in_b;
};
std::string_view to_string(Difference::Section section);  // "fewer"

// In the order of sections, then of names. kFewer: a rule of whose alerts fewer sinks that tell somebody hear
// in `b`, in all or on the way on which the fewest do; kOtherwise: as many, but others, of another type, or
// on other ways. A heartbeat that `b` has not is kFewer as well: there nobody hears that logbell itself is
// gone. Of time intervals the names are compared.
std::vector<Difference> compare(const Config& a, const Config& b);

// What environments can be compared by, from Prometheus: equal where they watch for the same, route it in the
// same way, and know the same sinks with secrets for each. Where sinks lead, paths and the environment's name
// are left out.
struct ConfigFingerprint {
  std::string rules;   // and patterns
  std::string routes;  // and time intervals' names
  std::string sinks;   // names, types, and whether each can be used
};
ConfigFingerprint fingerprint(const Config& config);

}  // namespace logbell::engine

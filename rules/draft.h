// Draft: a pattern and a rule made from one line of a log, for whoever sees it and wants to hear of the next
// one.
//
// What looks variable (rules/variable_parts.h) becomes a named capture, everything else stands as it is; a
// line with fields becomes tests of those that say what it is. It is a beginning: who wrote the line knows
// better. Pure; any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "rules/pattern.h"
#include "rules/result.h"

namespace logbell::rules {

struct DraftSurroundings {
  LineFormat format = LineFormat::kText;
  std::vector<std::string> pattern_names = {};  // taken already
  std::vector<std::string> alert_names = {};
  std::string source = {};              // to name, where there are several; else ""
  std::vector<std::string> sinks = {};  // of the rule; empty: the route decides
};

struct Draft {
  std::string pattern;  // their names
  std::string alert;
  std::vector<std::string> captures;
  std::string yaml;  // `patterns:` and `rules:`, each with one entry
};

// kInvalid: the line says nothing that the next one of its kind would say too.
Result<Draft> draft_from(std::string_view line, const DraftSurroundings& around);

}  // namespace logbell::rules

// JSON Schema (draft 2020-12) of what an operator writes, made of the tables that the loader reads by
// (rules/keys.h).
//
// Pure; any thread. It says what is structure: keys, kinds, words, bounds. Whether a name is defined or an
// expression can be true, `logbell check` says.
#pragma once

#include <string_view>

#include "rules/json.h"
#include "rules/keys.h"

namespace logbell::rules {

struct SchemaOptions {
  std::string_view title;
  bool variables = true;  // `${VAR}` may stand in the place of a number or a word
};

Json json_schema(const KeyTable& root, const SchemaOptions& options);

}  // namespace logbell::rules

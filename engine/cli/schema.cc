// logbell schema: the JSON Schema of what is written, for editors.
#include <cstdio>

#include "engine/cli/commands.h"
#include "engine/cli/exit_status.h"
#include "engine/run/config_keys.h"
#include "rules/json_schema.h"
#include "rules/keys.h"

namespace logbell::engine {

int command_schema(const SchemaOptions& options) {
  const bool tests = options.of == "tests";
  const rules::KeyTable& root = tests                   ? rules::test_file_keys()
                                : options.of == "rules" ? rules::rule_file_keys()
                                                        : config_keys();
  const char* title = tests                   ? "logbell: tests of rules"
                      : options.of == "rules" ? "logbell: a file of rules"
                                              : "logbell: a configuration";
  // A log is free to hold ${X}: in tests nothing is filled in.
  const rules::Json schema = rules::json_schema(root, {.title = title, .variables = !tests});
  std::fputs((schema.dump(2) + "\n").c_str(), stdout);
  return kExitOk;
}

}  // namespace logbell::engine

// The keys of the configuration's main file, and of what stands in it that rules/ does not read: sources,
// sinks, the process's own settings.
//
// Immutable; any thread.
#pragma once

#include "rules/keys.h"

namespace logbell::engine {

const rules::KeyTable& config_keys();
const rules::KeyTable& source_keys();
const rules::KeyTable& multiline_keys();
const rules::KeyTable& timestamp_keys();
const rules::KeyTable& uncovered_errors_keys();
const rules::KeyTable& syslog_keys();
const rules::KeyTable& journald_keys();
// An entry beneath `sinks:`: one of the types, and what every sink may have.
const rules::KeyTable& sink_entry_keys();
const rules::KeyTable& drills_keys();
const rules::KeyTable& max_proof_age_keys();
const rules::KeyTable& heartbeat_keys();
const rules::KeyTable& listened_heartbeat_keys();

}  // namespace logbell::engine

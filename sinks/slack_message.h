// A message as Slack shows it, whichever way it goes there: Block Kit, within Slack's limits.
//
// Pure; any thread.
#pragma once

#include <string>

#include "sinks/encode.h"
#include "sinks/sink.h"

namespace logbell::sinks {

// Text from logs stands in plain_text and rich_text only, which Slack does not parse; the top-level `text` is
// what a lock screen shows.
Payload slack_message(const rules::Notification& notification, const Attempt& attempt,
                      const SinkContext& context);
// The same in a few lines of text, for when Slack refuses the blocks, and for replies.
Payload slack_minimal_message(const rules::Notification& notification, const Attempt& attempt,
                              const SinkContext& context);

// What a person reads of one: Slack's escapes, and what stands for its mark-up, read back.
std::string slack_words(const Payload& message);

}  // namespace logbell::sinks

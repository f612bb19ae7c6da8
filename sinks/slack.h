// Slack: the incoming webhook. Slack's incoming webhook: Block Kit out, "ok" back.
//
// The configuration is immutable; the sink it builds belongs to one send loop.
#pragma once

#include <memory>

#include "sinks/encode.h"
#include "sinks/sink.h"

namespace logbell::sinks {

// The body of a request: Block Kit, within Slack's limits. Text from logs stands in plain_text and rich_text
// only, which Slack does not parse; the top-level `text` is what a lock screen shows.
Payload slack_payload(const rules::Notification& notification, const Attempt& attempt,
                      const SinkContext& context);
// The same in a few lines of text, for when Slack refuses the blocks.
Payload slack_minimal_payload(const rules::Notification& notification, const Attempt& attempt,
                              const SinkContext& context);

// Null when problems were recorded.
std::unique_ptr<SinkConfig> parse_slack(FieldReader& fields);

}  // namespace logbell::sinks

// Slack: the incoming webhook. Slack's incoming webhook: Block Kit out, "ok" back.
//
// The configuration is immutable; the sink it builds belongs to one send loop.
#pragma once

#include <memory>

#include "sinks/encode.h"
#include "sinks/sink.h"

namespace logbell::sinks {

// The body of a request: slack_message(), and whose delivery it is.
Payload slack_payload(const rules::Notification& notification, const Attempt& attempt,
                      const SinkContext& context);

// Null when problems were recorded.
std::unique_ptr<SinkConfig> parse_slack(FieldReader& fields);

}  // namespace logbell::sinks

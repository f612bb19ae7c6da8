// Slack app: the Web API with a bot's token. One message an episode of a group, kept up to date: it is posted
// when the group begins to fire, changed with it, and each change is a reply in its thread.
//
// What was posted is known by its delivery's id, which stands in its metadata: after an answer that was lost,
// the channel itself says whether the message is there.
//
// The configuration is immutable; the sink it builds belongs to one send loop.
#pragma once

#include <memory>

#include "sinks/encode.h"
#include "sinks/sink.h"

namespace logbell::sinks {

// What chat.postMessage gets for a new message, but for its channel; and the same in short, for when Slack
// refuses the blocks.
Payload slack_app_message(const rules::Notification& notification, const Attempt& attempt,
                          const SinkContext& context);
Payload slack_app_minimal_message(const rules::Notification& notification, const Attempt& attempt,
                                  const SinkContext& context);
// A change, told in the thread of the first message; in the channel too when something fires that was not
// told, or still does.
Payload slack_app_reply(const rules::Notification& notification, const Attempt& attempt,
                        const SinkContext& context);

// Null when problems were recorded.
std::unique_ptr<SinkConfig> parse_slack_app(FieldReader& fields);

}  // namespace logbell::sinks

// PagerDuty: Events API v2. One incident an alert, opened when it fires and resolved when it has ended.
//
// A drill is one incident, however many rules it is of: it calls somebody once.
//
// Why an alert and not a group, as Alertmanager's integration has it. PagerDuty tells nobody of what is added
// to an incident that somebody has acknowledged ("While an incident is acknowledged, it won't generate any
// additional notifications, even if it receives new trigger events": developer-docs, 02-Trigger-Events): a
// second queue that fails while somebody looks after the first would ring nobody. And a group is ours alone:
// a reload, a fallback or a long list of alerts cuts it otherwise, and a resolve must find its trigger
// whatever became of the group, and must not end what still fires in another part of it. An alert is known by
// its labels wherever it comes from. `class`, `component` and `group` are set for whoever wants PagerDuty to
// put alerts together.
//
// The configuration is immutable; the sink it builds belongs to one send loop.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "sinks/encode.h"
#include "sinks/sink.h"

namespace logbell::sinks {

// What one incident is about.
struct PagerDutyIncident {
  // At most 255 characters. Of an alert: its labels, and not the time at which it fired, so that the resolve
  // finds the trigger also when it ended and fired again unseen, or when the state was lost. PagerDuty itself
  // opens a new incident for a trigger whose incident is resolved. Of a text, which nothing ever ends: the
  // notification's key. Of a drill: its ID and first alert, which its end has as well.
  std::string dedup_key;
  rules::Alert alert;
};
std::vector<PagerDutyIncident> pagerduty_incidents(const rules::Notification& notification,
                                                   const SinkContext& context);

// The event for one of them, without its routing key and within PagerDuty's limits: `trigger` while it fires,
// else `resolve`.
Payload pagerduty_event(const PagerDutyIncident& incident, const rules::Notification& notification,
                        const Attempt& attempt, const SinkContext& context);
// The same with nothing but what PagerDuty requires and the delivery's key, for when it refuses the whole.
Payload pagerduty_minimal_event(const PagerDutyIncident& incident, const rules::Notification& notification,
                                const SinkContext& context);

// Null when problems were recorded.
std::unique_ptr<SinkConfig> parse_pagerduty(FieldReader& fields);

}  // namespace logbell::sinks

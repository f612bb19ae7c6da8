// What a message says, whatever its target: the words that Slack, a terminal and a mail share.
//
// Pure; any thread. What is returned is not encoded: it may hold text from logs.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rules/notification.h"
#include "sinks/encode.h"
#include "sinks/sink.h"

namespace logbell::sinks {

enum class Tone { kCritical, kWarning, kInfo, kOther, kResolved };

// How loud: the worst severity among what fires; kResolved when nothing does.
Tone tone_of(const rules::Notification& notification);
Tone tone_of(const rules::Alert& alert);

// "QueueUnreachable · orders-api · production": what, in which service, in which environment.
std::string headline(const rules::Notification& notification, const SinkContext& context);
// "firing", "still firing", "resolved", "3 firing, 1 resolved".
std::string status_words(const rules::Notification& notification);
// Whom it is about: "Boom{queue="a"}, Boom{queue="b"} and 3 more"; without alerts its reason.
std::string subjects_of(const rules::Notification& notification);
// The alert's summary, else its description, else how its name and labels read.
std::string summary_of(const rules::Alert& alert);

// "5", "0.0523", "1.2e+09".
std::string format_value(double value);
// The end of a simple expression, ">= 3": what the value is measured against; "" when there is none to see.
std::string threshold_of(std::string_view expr);
// "5 (>= 3)".
std::string value_words(const rules::Alert& alert);
// "40 s", "3 min", "2 h 5 min", "3 d 4 h".
std::string format_span(rules::Duration span);
// How long it fired, until it resolved or until `now`.
rules::Duration lasted(const rules::Alert& alert, rules::Timestamp now);

// What fires since when, and one sentence of it: neither lines nor values from logs beside the labels. For
// what refuses the whole.
rules::Alert in_short(rules::Alert alert);

// Where whoever reads it says so: of what fires, and of a rule. What it is called in the message.
std::optional<LinkUrl> acknowledge_link(const rules::Notification& notification, const Attempt& attempt,
                                        const SinkContext& context);
inline constexpr Literal kAcknowledge = "I have seen this";

// What must be said about this delivery itself: that it speaks in place of another sink, may be a duplicate,
// is late; and what it is about, when it speaks for many.
std::vector<std::string> delivery_notes(const rules::Notification& notification, const Attempt& attempt);
// How long one of them may be: all names of Notification::names(), and what is said of them.
inline constexpr std::size_t kMaxNote = 1900;
// More are not listed one by one everywhere: a note has all names.
inline constexpr std::size_t kFewAlerts = 10;
// Later than this is worth saying.
inline constexpr rules::Duration kDelayWorthSaying{std::chrono::minutes(2)};

// `notification.alerts`, or one alert made of its text, for targets that know nothing but alerts.
std::vector<rules::Alert> alerts_or_text(const rules::Notification& notification, const SinkContext& context);

}  // namespace logbell::sinks

// Alertmanager's webhook JSON (version "4"), so that existing receivers work; signed if a secret is given.
//
// The configuration is immutable; the sink it builds belongs to one send loop.
#pragma once

#include <memory>

#include "sinks/encode.h"
#include "sinks/sink.h"

namespace logbell::sinks {

// Every request carries `Idempotency-Key`, the notification's key: the same for each attempt. With a secret
// also
//   X-Logbell-Timestamp: seconds since 1970, when this attempt was made
//   X-Logbell-Signature: sha256=<hex of HMAC-SHA256(secret, timestamp + "." + body)>
// A receiver recomputes it over the raw body, compares in constant time, and refuses old timestamps.
inline constexpr std::string_view kIdempotencyHeader = "Idempotency-Key";
inline constexpr std::string_view kTimestampHeader = "X-Logbell-Timestamp";
inline constexpr std::string_view kSignatureHeader = "X-Logbell-Signature";

// Alertmanager's document, with what logbell knows beyond it: `reason`, `deliveryKey`, `notes`,
// `acknowledgeURL`, and for each alert `value`, `expr`, `firstLine`, `lastLine`, `topValues`.
Payload webhook_payload(const rules::Notification& notification, const Attempt& attempt,
                        const SinkContext& context);

// Null when problems were recorded.
std::unique_ptr<SinkConfig> parse_webhook(FieldReader& fields);

}  // namespace logbell::sinks

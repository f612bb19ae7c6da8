#include "sinks/sink.h"

#include <array>
#include <utility>

namespace logbell::sinks {
namespace {

constexpr std::array<std::string_view, 16> kReasons{
    "ok",      "rate_limited", "timeout",       "connect", "dns",         "tls",
    "proxy",   "server_error", "auth",          "gone",    "bad_request", "partly_refused",
    "blocked", "bad_response", "response_lost", "io"};

}  // namespace

std::string_view to_string(Reason reason) {
  return kReasons[static_cast<std::size_t>(reason)];
}

Outcome Outcome::delivered(std::string receipt) {
  Outcome outcome;
  outcome.kind = Kind::kDelivered;
  outcome.receipt = std::move(receipt);
  return outcome;
}

Outcome Outcome::retry(Reason reason, std::string detail, std::optional<rules::Duration> after) {
  Outcome outcome;
  outcome.kind = Kind::kRetry;
  outcome.reason = reason;
  outcome.detail = std::move(detail);
  outcome.retry_after = after;
  return outcome;
}

Outcome Outcome::rejected(Reason reason, std::string detail, bool sink_is_dead) {
  Outcome outcome;
  outcome.kind = Kind::kRejected;
  outcome.reason = reason;
  outcome.detail = std::move(detail);
  outcome.sink_is_dead = sink_is_dead;
  return outcome;
}

Outcome Outcome::partly_refused(std::string detail, std::vector<std::size_t> refused) {
  Outcome outcome = rejected(Reason::kPartlyRefused, std::move(detail), false);
  outcome.refused = std::move(refused);
  return outcome;
}

Outcome Outcome::unknown(std::string detail) {
  Outcome outcome;
  outcome.kind = Kind::kUnknown;
  outcome.reason = Reason::kResponseLost;
  outcome.detail = std::move(detail);
  return outcome;
}

}  // namespace logbell::sinks

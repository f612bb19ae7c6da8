#include "sinks/sink.h"

#include <array>
#include <utility>

#include "sinks/console.h"

namespace logbell::sinks {
namespace {

constexpr std::array<std::string_view, 16> kReasons{
    "ok",      "rate_limited", "timeout",       "connect", "dns",         "tls",
    "proxy",   "server_error", "auth",          "gone",    "bad_request", "partly_refused",
    "blocked", "bad_response", "response_lost", "io"};

constexpr std::array<std::string_view, 7> kLevels{"L0", "L1", "L2", "L3", "L4", "L5", "L6"};
constexpr std::array<std::string_view, 3> kVerdicts{"live", "dead", "unknown"};

}  // namespace

std::string_view to_string(Reason reason) {
  return kReasons[static_cast<std::size_t>(reason)];
}

std::string_view to_string(ProofLevel level) {
  return kLevels[static_cast<std::size_t>(level)];
}

std::string_view to_string(Verification::Verdict verdict) {
  return kVerdicts[static_cast<std::size_t>(verdict)];
}

Verification Verification::live(ProofLevel level, std::string evidence) {
  Verification verification;
  verification.verdict = Verdict::kLive;
  verification.level = level;
  verification.evidence = std::move(evidence);
  return verification;
}

Verification Verification::dead(Reason reason, ProofLevel level, std::string evidence) {
  Verification verification = live(level, std::move(evidence));
  verification.verdict = Verdict::kDead;
  verification.reason = reason;
  return verification;
}

Verification Verification::unknown(Reason reason, ProofLevel level, std::string evidence,
                                   std::optional<rules::Duration> after) {
  Verification verification = live(level, std::move(evidence));
  verification.verdict = Verdict::kUnknown;
  verification.reason = reason;
  verification.retry_after = after;
  return verification;
}

Verification Sink::verify(const Attempt& /*attempt*/) {
  return Verification::unknown(Reason::kOk, ProofLevel::kStatic,
                               "this type of sink cannot be asked without a message");
}

ReadBack Sink::read_back(const rules::Notification& /*notification*/, const Attempt& /*attempt*/) {
  return {};
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

std::string SinkConfig::words(const rules::Notification& notification, const Attempt& attempt,
                              const SinkContext& context) const {
  constexpr std::size_t kWide = 100'000;  // columns: no line of it is broken
  return console_text(notification, attempt, context, {.colour = false, .width = kWide});
}

}  // namespace logbell::sinks

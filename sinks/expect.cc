#include "sinks/expect.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace logbell::sinks {
namespace {

const Expectation* find(std::span<const Expectation> table, int status, std::string_view words) {
  const auto row = std::find_if(table.begin(), table.end(), [&](const Expectation& expectation) {
    return status >= expectation.from && status <= expectation.to &&
           (expectation.words.empty() || expectation.words == words);
  });
  return row == table.end() ? nullptr : &*row;
}

Verification verdict_of(const Expectation& row, std::string evidence) {
  if (row.verdict == Verification::Verdict::kDead)
    return Verification::dead(row.reason, row.level, std::move(evidence));
  return Verification::live(row.level, std::move(evidence));
}

}  // namespace

namespace {

Verification verdict_on(std::string_view asked, const HttpResult& result, std::string_view words,
                        std::span<const Expectation> table, const std::vector<rules::Secret>& hide) {
  using Verdict = Verification::Verdict;
  const std::string evidence = fmt::format("{} -> {}", asked, describe(result, hide));
  if (result.kind != HttpResult::Kind::kAnswered) {
    // Where a name leads may change by itself: a resolver's mistake stops nobody.
    if (result.distrusted || (result.permanent && result.reason != Reason::kBlocked))
      return Verification::dead(result.reason, ProofLevel::kStatic, evidence);
    const bool reached = result.kind == HttpResult::Kind::kLost;
    return Verification::unknown(result.reason, reached ? ProofLevel::kNetwork : ProofLevel::kStatic,
                                 evidence, result.retry_after);
  }
  if (result.status == 407) return Verification::dead(Reason::kProxy, ProofLevel::kStatic, evidence);
  const Expectation* row = find(table, result.status, words);
  if (row == nullptr || row->verdict == Verdict::kUnknown) {
    const Outcome usual = outcome_of(result, hide);
    const Reason reason = row != nullptr                        ? row->reason
                          : usual.kind == Outcome::Kind::kRetry ? usual.reason
                                                                : Reason::kBadResponse;
    return Verification::unknown(reason, ProofLevel::kNetwork, evidence, result.retry_after);
  }
  return verdict_of(*row, evidence);
}

}  // namespace

Verification judge(std::string_view asked, const HttpResult& result, std::string_view words,
                   std::span<const Expectation> table, const std::vector<rules::Secret>& hide) {
  Verification verification = verdict_on(asked, result, words, table, hide);
  verification.certificate_ends = result.certificate_ends;
  return verification;
}

Verification judge(std::string_view asked, const SmtpResult& result, std::span<const Expectation> table,
                   const std::vector<rules::Secret>& hide) {
  std::string evidence = fmt::format("{} -> {}", asked, describe(result, hide));
  if (result.kind != SmtpResult::Kind::kAnswered) {
    if (result.distrusted || (result.permanent && result.reason != Reason::kBlocked))
      return Verification::dead(result.reason, ProofLevel::kStatic, std::move(evidence));
    return Verification::unknown(result.reason, ProofLevel::kStatic, std::move(evidence), result.retry_after);
  }
  const Expectation* row = find(table, result.code, {});
  if (row != nullptr && row->verdict != Verification::Verdict::kUnknown)
    return verdict_of(*row, std::move(evidence));
  const Reason reason = row != nullptr                            ? row->reason
                        : result.code >= 400 && result.code < 500 ? Reason::kServerError
                                                                  : Reason::kBadResponse;
  return Verification::unknown(reason, ProofLevel::kNetwork, std::move(evidence));
}

}  // namespace logbell::sinks

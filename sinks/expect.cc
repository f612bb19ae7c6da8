#include "sinks/expect.h"

#include <algorithm>

#include <fmt/format.h>

namespace logbell::sinks {

Verification judge(std::string_view asked, const HttpResult& result, std::string_view words,
                   std::span<const Expectation> table, const std::vector<rules::Secret>& hide) {
  using Verdict = Verification::Verdict;
  const std::string evidence = fmt::format("{} -> {}", asked, describe(result, hide));
  if (result.kind != HttpResult::Kind::kAnswered) {
    // Where a name leads may change by itself: a resolver's mistake stops nobody.
    if (result.permanent && result.reason != Reason::kBlocked)
      return Verification::dead(result.reason, ProofLevel::kStatic, evidence);
    const bool reached = result.kind == HttpResult::Kind::kLost;
    return Verification::unknown(result.reason, reached ? ProofLevel::kNetwork : ProofLevel::kStatic,
                                 evidence, result.retry_after);
  }
  if (result.status == 407) return Verification::dead(Reason::kProxy, ProofLevel::kStatic, evidence);
  const auto row = std::find_if(table.begin(), table.end(), [&](const Expectation& expectation) {
    return result.status >= expectation.from && result.status <= expectation.to &&
           (expectation.words.empty() || expectation.words == words);
  });
  if (row == table.end() || row->verdict == Verdict::kUnknown) {
    const Outcome usual = outcome_of(result, hide);
    const Reason reason = row != table.end()                    ? row->reason
                          : usual.kind == Outcome::Kind::kRetry ? usual.reason
                                                                : Reason::kBadResponse;
    return Verification::unknown(reason, ProofLevel::kNetwork, evidence, result.retry_after);
  }
  if (row->verdict == Verdict::kDead) return Verification::dead(row->reason, row->level, evidence);
  return Verification::live(row->level, evidence);
}

}  // namespace logbell::sinks

// Expectations: what an answer to a sink's silent question means, as data that a person can correct when a
// service changes its mind.
//
// Constant; any thread.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "sinks/http.h"

namespace logbell::sinks {

// The first row that holds an answer decides; an answer that no row holds is kUnknown.
struct Expectation {
  int from;  // statuses, both included
  int to;
  std::string_view words;  // of the answer; "": any
  Verification::Verdict verdict;
  ProofLevel level;         // what that proves
  Reason reason;            // not of kLive
  std::string_view source;  // why we believe so
};

// What came of it; the evidence is "`asked` -> HTTP 404: no_service". What could not be asked is kUnknown,
// but for what only a person can mend: a proxy that refuses. `words`: the answer's, as the sink reads them.
Verification judge(std::string_view asked, const HttpResult& result, std::string_view words,
                   std::span<const Expectation> table, const std::vector<rules::Secret>& hide);

// The same of one step of a conversation with a mail server: "RCPT TO ops@example.com -> 550 no such user".
Verification judge(std::string_view asked, const SmtpResult& result, std::span<const Expectation> table,
                   const std::vector<rules::Secret>& hide);

}  // namespace logbell::sinks

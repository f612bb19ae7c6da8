// Email: a mail that a person reads on a phone, by SMTP.
//
// The configuration is immutable; the sink it builds belongs to one send loop.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "sinks/encode.h"
#include "sinks/sink.h"

namespace logbell::sinks {

// Who writes to whom.
struct MailEnvelope {
  MailWords name;  // of the sender; may be empty
  MailAddress from;
  std::vector<MailAddress> to;
};

// Plain text, for every reader and every watch shows it, and nothing in it can be mark-up. The Message-ID is
// the same for every attempt at one notification; all that is said of one episode of a group refers to one
// id, so that it is one thread. `not_told`: of the recipients those whom the server refuses, for the others
// to know.
Mail email_message(const rules::Notification& notification, const Attempt& attempt,
                   const SinkContext& context, const MailEnvelope& envelope,
                   const std::vector<std::string>& not_told);

// Null when problems were recorded.
std::unique_ptr<SinkConfig> parse_email(FieldReader& fields);

}  // namespace logbell::sinks

// HMAC-SHA256, and how a signature is compared. The only door to OpenSSL.
//
// Pure; any thread.
#pragma once

#include <string>
#include <string_view>

#include "rules/secret.h"

namespace logbell::sinks {

// HMAC-SHA256 (RFC 2104): 32 bytes.
std::string hmac(const rules::Secret& key, std::string_view text);
// The same in hex.
std::string sign(const rules::Secret& key, std::string_view text);
// Whether they are equal, in a time that depends on their lengths alone.
bool same_secret(std::string_view a, std::string_view b);

}  // namespace logbell::sinks

// Takes secrets and personal data out of text from logs before it is stored or sent.
//
// Pure; any thread. Hides: values after keys such as password= and authorization:, known token prefixes,
// e-mail addresses, card numbers (Luhn and an issuer's prefix). Never UUIDs or bare hex, which people search
// by.
#pragma once

#include <string>
#include <string_view>

namespace logbell::rules {

std::string redact(std::string_view text);

// Valid UTF-8 without control characters but tab (newlines become spaces), bidirectional overrides and
// zero-width characters; broken bytes become U+FFFD; cut at a code point to at most `max_bytes`, ending in
// "…".
std::string clean_text(std::string_view text, std::size_t max_bytes);

}  // namespace logbell::rules

// Takes secrets and personal data out of text from logs before it is stored or sent.
//
// Pure; any thread. Hides: values after keys such as password= and authorization:, known token prefixes,
// private keys, the secret part of chat webhooks' URLs, e-mail addresses, card numbers (Luhn and an issuer's
// prefix). Never UUIDs or bare hex, which people search by.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "rules/secret.h"

namespace logbell::rules {

std::string redact(std::string_view text);

// "<secret>" in place of whatever belongs to an occurrence of one of these, also where they overlap or one is a part of another, or of
// "<secret>" itself. Empty ones are none.
std::string without(std::string_view text, const std::vector<std::string_view>& secrets);
std::string without(std::string_view text, const std::vector<Secret>& secrets);

// A label's value. What must not be said is replaced with a hash of it, "[redacted 5f3a09c1]", so that two
// users stay two series. A label that is called like a secret ("token") is one.
std::string redact_label(std::string_view name, std::string_view value);

// Valid UTF-8 without control characters but tab (newlines become spaces), bidirectional overrides and
// zero-width characters; broken bytes become U+FFFD; cut at a code point to at most `max_bytes`, ending in
// "…". `was_cut`, where it is given, says whether.
std::string clean_text(std::string_view text, std::size_t max_bytes, bool* was_cut = nullptr);

}  // namespace logbell::rules

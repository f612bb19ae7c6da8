#include "rules/redact.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdint>

#include "rules/labels.h"
#include "rules/text.h"

namespace logbell::rules {
namespace {

constexpr std::string_view kHidden = "[redacted]";

// Keys whose value is a secret whatever it looks like; compared from the end of the key, so db_password is
// one.
constexpr std::array<std::string_view, 18> kSecretKeys{
    "password",    "passwd",        "pwd",        "secret",     "token",     "authorization",
    "passphrase",  "api_key",       "apikey",     "api-key",    "cookie",    "set-cookie",
    "private_key", "client_secret", "access_key", "session_id", "sessionid", "credential"};

// What well-known tokens begin with, and how many token characters must follow at least.
struct TokenPrefix {
  std::string_view prefix;
  std::size_t least;
};
constexpr std::array<TokenPrefix, 17> kTokenPrefixes{{{"xoxb-", 10},
                                                      {"xoxp-", 10},
                                                      {"xoxa-", 10},
                                                      {"xapp-", 10},
                                                      {"ghp_", 20},
                                                      {"gho_", 20},
                                                      {"ghs_", 20},
                                                      {"github_pat_", 20},
                                                      {"glpat-", 15},
                                                      {"sk_live_", 10},
                                                      {"rk_live_", 10},
                                                      {"AKIA", 16},
                                                      {"ASIA", 16},
                                                      {"AIza", 30},
                                                      {"eyJ", 30},
                                                      {"npm_", 30},
                                                      // Our own: who has it may say that a message was seen.
                                                      {"lba_", 30}}};

// Addresses whose path is the secret.
constexpr std::array<std::string_view, 6> kSecretUrls{
    "hooks.slack.com/services/", "hooks.slack.com/workflows/",   "hooks.slack.com/triggers/",
    "discord.com/api/webhooks/", "discordapp.com/api/webhooks/", "api.telegram.org/bot"};
constexpr std::string_view kKeyBegins = "-----BEGIN ";
constexpr std::string_view kKeyEnds = "-----END ";

bool is_token_char(char c) {
  return is_word(c) || c == '-' || c == '.' || c == '/' || c == '+' || c == '=';
}

// The end of a keyed secret's value that begins at `at`; `at` when there is no value to hide.
std::size_t end_of_value(std::string_view text, std::size_t at) {
  if (at >= text.size()) return at;
  // In a text that is itself quoted the value ends at the next escaped quote.
  if (text.substr(at, 2) == "\\\"") {
    const std::size_t close = text.find("\\\"", at + 2);
    return close == std::string_view::npos ? text.size() : close;
  }
  if (text[at] == '[') {  // a list
    const std::size_t close = std::min(text.find(']', at), text.size());
    return close > at + 1 && text[close - 1] == '"' ? close - 1 : close;
  }
  const char quote = text[at];
  if (quote == '"' || quote == '\'') {
    std::size_t end = at + 1;
    while (end < text.size() && text[end] != quote)
      end += text[end] == '\\' && end + 1 < text.size() ? 2U : 1U;
    return std::min(end, text.size());
  }
  std::size_t end = at;
  while (end < text.size() && std::string_view(" \t,;&}\"'<").find(text[end]) == std::string_view::npos)
    ++end;
  return end;
}

bool is_secret_key(std::string_view word) {
  return std::any_of(kSecretKeys.begin(), kSecretKeys.end(), [&](std::string_view key) {
    if (word.size() < key.size()) return false;
    if (!same_ignoring_case(word.substr(word.size() - key.size()), key)) return false;
    return word.size() == key.size() ||
           std::string_view("_-").find(word[word.size() - key.size() - 1]) != std::string_view::npos ||
           (word[word.size() - key.size()] >= 'A' && word[word.size() - key.size()] <= 'Z');
  });
}

// "key=", "key: ", `"key":"`, "<key>", "key%3D" at `at`: where its value begins; npos when it is no secret's
// key.
std::size_t secret_value_start(std::string_view text, std::size_t at) {
  std::size_t end = at;
  while (end < text.size() && (is_word(text[end]) || text[end] == '-'))
    ++end;
  const std::string_view word = text.substr(at, end - at);
  // "pass: 5, fail: 2" counts something; "pass=" and what a URL says so is a password.
  const bool is_pass = same_ignoring_case(word, "pass") && end < text.size() && text[end] == '=';
  if (!is_pass && !is_secret_key(word)) return std::string_view::npos;
  if (at > 0 && text[at - 1] == '<' && end < text.size() && text[end] == '>') return end + 1;
  if (text.substr(end, 3) == "%3D" || text.substr(end, 3) == "%3d" || text.substr(end, 3) == "%3A")
    return end + 3;
  // The quote may be escaped: JSON inside a JSON text.
  if (text.substr(end, 2) == "\\\"") ++end;
  if (end < text.size() && (text[end] == '"' || text[end] == '\'')) ++end;
  while (end < text.size() && text[end] == ' ')
    ++end;
  if (end >= text.size() || (text[end] != '=' && text[end] != ':')) return std::string_view::npos;
  ++end;
  while (end < text.size() && text[end] == ' ')
    ++end;
  return end;
}

// A card number: 13 to 19 digits with an issuer's prefix and a right check digit (Luhn), grouped by blanks or
// dashes or not at all. Returns its end, or `at`.
std::size_t end_of_card(std::string_view text, std::size_t at) {
  std::array<int, 19> digits{};
  std::size_t count = 0;
  std::size_t end = at;
  std::size_t i = at;
  while (i < text.size()) {
    if (is_digit(text[i])) {
      if (count == digits.size()) return at;
      digits[count++] = text[i] - '0';
      end = ++i;
    } else if ((text[i] == ' ' || text[i] == '-') && i + 1 < text.size() && is_digit(text[i + 1]) &&
               count % 4 == 0) {
      ++i;
    } else {
      break;
    }
  }
  if (count < 13) return at;
  if (end < text.size() && (is_word(text[end]) || text[end] == '-')) return at;  // part of an id
  const int two = digits[0] * 10 + digits[1];
  const bool issuer = digits[0] == 4 || (two >= 51 && two <= 55) || (two >= 22 && two <= 27) || two == 34 ||
                      two == 37 || two == 35 || two == 36 || two == 38 || two == 60 || two == 62 ||
                      two == 64 || two == 65;
  if (!issuer) return at;
  int sum = 0;
  for (std::size_t k = 0; k < count; ++k) {
    int digit = digits[count - 1 - k];
    if (k % 2 == 1) digit = digit * 2 > 9 ? digit * 2 - 9 : digit * 2;
    sum += digit;
  }
  return sum % 10 == 0 ? end : at;
}

// The "@" that ends a URL's user part which begins at `at`, or `at`.
std::size_t end_of_user(std::string_view text, std::size_t at) {
  std::size_t end = at;
  while (end < text.size() && std::string_view(" \t/?#\"'<>").find(text[end]) == std::string_view::npos) {
    if (text[end] == '@') return end;
    ++end;
  }
  return at;
}

// The end of an e-mail address whose "@" is at `sign`, or `sign`; `begin` receives its start.
std::size_t email_around(std::string_view text, std::size_t sign, std::size_t floor, std::size_t& begin) {
  begin = sign;
  while (begin > floor && (is_word(text[begin - 1]) ||
                           std::string_view(".+-%").find(text[begin - 1]) != std::string_view::npos))
    --begin;
  if (begin == sign) return sign;
  std::size_t end = sign + 1;
  std::size_t dot = 0;
  while (end < text.size() && (is_word(text[end]) || text[end] == '.' || text[end] == '-')) {
    if (text[end] == '.') dot = end;
    ++end;
  }
  while (end > sign + 1 && (text[end - 1] == '.' || text[end - 1] == '-'))
    --end;
  return dot > sign + 1 && end > dot + 2 ? end : sign;
}

// One code point at `at`: its length in bytes, 0 when the bytes are broken; `code` receives it.
std::size_t code_point(std::string_view text, std::size_t at, std::uint32_t& code) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(at);
  std::size_t length = 0;
  std::uint32_t least = 0;
  if (first < 0x80) {
    code = first;
    return 1;
  }
  if ((first & 0xE0) == 0xC0) {
    length = 2, code = first & 0x1FU, least = 0x80;
  } else if ((first & 0xF0) == 0xE0) {
    length = 3, code = first & 0x0FU, least = 0x800;
  } else if ((first & 0xF8) == 0xF0) {
    length = 4, code = first & 0x07U, least = 0x10000;
  } else {
    return 0;
  }
  if (at + length > text.size()) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(at + i) & 0xC0) != 0x80) return 0;
    code = (code << 6U) | (byte(at + i) & 0x3FU);
  }
  return code < least || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF) ? 0 : length;
}

bool is_invisible(std::uint32_t code) {
  return (code >= 0x200B && code <= 0x200F) || (code >= 0x202A && code <= 0x202E) ||
         (code >= 0x2060 && code <= 0x2069) || code == 0xFEFF || code == 0x00AD || code == 0x061C ||
         (code >= 0x80 && code < 0xA0) || (code >= 0xE0000 && code <= 0xE007F);
}

}  // namespace

std::string redact(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  std::size_t at = 0;
  std::size_t copied = 0;  // everything before it is in `out`
  const auto hide = [&](std::size_t from, std::size_t to) {
    out.append(text.substr(copied, from - copied)).append(kHidden);
    copied = at = to;
  };
  while (at < text.size()) {
    const bool at_word_start = is_word(text[at]) && (at == copied || at == 0 || !is_word(text[at - 1]));
    if (at_word_start) {
      if (const std::size_t value = secret_value_start(text, at); value != std::string_view::npos) {
        std::size_t from = value;
        std::size_t to = end_of_value(text, value);
        if (text.substr(from, 1) == "[") ++from;
        if (text.substr(from, 2) == "\\\"") ++from;
        if (from < text.size() && (text[from] == '"' || text[from] == '\'')) ++from;
        // "Authorization: Bearer abc": the scheme stays, what follows it goes.
        for (const std::string_view scheme : {"bearer", "basic", "digest", "token"}) {
          if (to < text.size() && (text[to] == ' ' || text[to] == '\t') &&
              same_ignoring_case(text.substr(from, to - from), scheme)) {
            from = to + 1;
            to = end_of_value(text, from);
          }
        }
        if (to > from) {
          hide(from, to);
          continue;
        }
      }
      const auto prefix = std::find_if(
          kTokenPrefixes.begin(), kTokenPrefixes.end(),
          [&](const TokenPrefix& entry) { return text.substr(at, entry.prefix.size()) == entry.prefix; });
      if (prefix != kTokenPrefixes.end()) {
        std::size_t end = at + prefix->prefix.size();
        while (end < text.size() && is_token_char(text[end]))
          ++end;
        if (end - at >= prefix->prefix.size() + prefix->least) {
          hide(at, end);
          continue;
        }
      }
      if (is_digit(text[at]) && (at == 0 || (text[at - 1] != '-' && text[at - 1] != '.'))) {
        if (const std::size_t end = end_of_card(text, at); end != at) {
          hide(at, end);
          continue;
        }
      }
    }
    if (text[at] == '-' && text.substr(at, kKeyBegins.size()) == kKeyBegins) {
      const std::size_t label = text.find("-----", at + kKeyBegins.size());
      if (label != std::string_view::npos &&
          text.substr(at, label - at).find("PRIVATE KEY") != std::string_view::npos) {
        hide(label + 5, std::min(text.find(kKeyEnds, label + 5), text.size()));
        continue;
      }
    }
    if (text.substr(at, 3) == "://") {
      const auto url = std::find_if(kSecretUrls.begin(), kSecretUrls.end(), [&](std::string_view known) {
        return same_ignoring_case(text.substr(at + 3, known.size()), known);
      });
      if (url != kSecretUrls.end()) {
        const std::size_t from = at + 3 + url->size();
        std::size_t end = from;
        while (end < text.size() && (is_token_char(text[end]) || text[end] == ':'))
          ++end;
        if (end > from) {
          hide(from, end);
          continue;
        }
      }
      const std::size_t end = end_of_user(text, at + 3);
      const std::size_t colon = text.substr(0, end).find(':', at + 3);
      if (end != at + 3 && colon != std::string_view::npos && colon + 1 < end) {
        hide(colon + 1, end);
        // What follows is "@host": no address begins in the part that is gone.
        ++at;
        continue;
      }
    }
    if (text[at] == '@') {
      std::size_t begin = 0;
      if (const std::size_t end = email_around(text, at, copied, begin); end != at) {
        hide(begin, end);
        continue;
      }
    }
    ++at;
  }
  out.append(text.substr(copied));
  return out;
}

std::string without(std::string_view text, const std::vector<std::string_view>& secrets) {
  std::vector<bool> hidden;  // by byte; none yet: nothing was found
  for (const std::string_view secret : secrets) {
    if (secret.empty()) continue;
    for (std::size_t at = text.find(secret); at != std::string_view::npos; at = text.find(secret, at + 1)) {
      hidden.resize(text.size());
      std::fill_n(hidden.begin() + static_cast<std::ptrdiff_t>(at), secret.size(), true);
    }
  }
  if (hidden.empty()) return std::string(text);
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (!hidden[i]) {
      out += text[i];
    } else if (i == 0 || !hidden[i - 1]) {
      out += "<secret>";
    }
  }
  return out;
}

std::string without(std::string_view text, const std::vector<Secret>& secrets) {
  std::vector<std::string_view> values(secrets.size());
  std::transform(secrets.begin(), secrets.end(), values.begin(),
                 [](const Secret& secret) { return std::string_view(secret.reveal()); });
  return without(text, values);
}

std::string redact_label(std::string_view name, std::string_view value) {
  if (value.empty()) return {};
  std::string hidden = is_secret_key(name) ? std::string(kHidden) : redact(value);
  if (hidden == value) return hidden;
  const std::size_t at = hidden.find(kHidden);
  if (at != std::string::npos)
    hidden.insert(at + kHidden.size() - 1, " " + format_fingerprint(hash_bytes(value)).substr(0, 8));
  return hidden;
}

std::string clean_text(std::string_view text, std::size_t max_bytes, bool* was_cut) {
  static constexpr std::string_view kEllipsis = "…";
  std::string out;
  out.reserve(std::min(text.size(), max_bytes + 8));
  if (was_cut != nullptr) *was_cut = false;
  std::size_t room_end = 0;  // the longest prefix of `out` that leaves room for the ellipsis
  for (std::size_t at = 0; at < text.size();) {
    std::uint32_t code = 0;
    const std::size_t length = code_point(text, at, code);
    if (length == 0) {
      out += "\xEF\xBF\xBD";
    } else if (code == '\n') {
      out += ' ';
    } else if (code == '\t' || (code >= 0x20 && code != 0x7F && !is_invisible(code))) {
      out.append(text.substr(at, length));
    }
    at += std::max<std::size_t>(length, 1);
    if (out.size() + kEllipsis.size() <= max_bytes) room_end = out.size();
    if (out.size() > max_bytes) {
      if (was_cut != nullptr) *was_cut = true;
      out.resize(room_end);
      if (max_bytes >= kEllipsis.size()) out += kEllipsis;
      return out;
    }
  }
  return out;
}

}  // namespace logbell::rules

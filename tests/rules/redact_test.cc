// Redaction: what may not leave a log, and what must stay because people search by it.
#include "rules/redact.h"

#include <catch2/catch.hpp>

using logbell::rules::clean_text;
using logbell::rules::redact;

TEST_CASE("redact: secrets go, identifiers stay", "[rules][redact]") {
  const struct {
    const char* why;
    const char* text;
    const char* expected;
  } rows[] = {
      {"a keyed secret", "login password=hunter2 user=bob", "login password=[redacted] user=bob"},
      {"a key that ends in one", "DB_PASSWORD=hunter2", "DB_PASSWORD=[redacted]"},
      {"a camel-case key", "dbPassword: hunter2", "dbPassword: [redacted]"},
      {"a JSON member", R"({"token":"abc\"def","id":1})", R"({"token":"[redacted]","id":1})"},
      {"a JSON text inside a JSON text", R"({"body":"{\"password\":\"hunter2\",\"a\":1}"})",
       R"({"body":"{\"password\":\"[redacted]\",\"a\":1}"})"},
      {"the password of a URL", "dial postgres://app:hunter2@db:5432/x failed",
       "dial postgres://app:[redacted]@db:5432/x failed"},
      {"a header with a scheme", "Authorization: Bearer abc.def", "Authorization: Bearer [redacted]"},
      {"a token by its prefix", "sent xoxb-1234567890-abc ok", "sent [redacted] ok"},
      {"an address", "mail to bob.smith@example.com failed", "mail to [redacted] failed"},
      {"a card number", "card 4111 1111 1111 1111 declined", "card [redacted] declined"},
      {"the same without blanks", "card=4111111111111111,", "card=[redacted],"},
      {"a wrong check digit is no card", "order 4111111111111112", "order 4111111111111112"},
      {"a UUID", "id=550e8400-e29b-41d4-a716-446655440000", "id=550e8400-e29b-41d4-a716-446655440000"},
      {"bare hex", "trace d41d8cd98f00b204e9800998ecf8427e", "trace d41d8cd98f00b204e9800998ecf8427e"},
      {"a word that only contains a key", "secretary=bob tokens=3", "secretary=bob tokens=3"},
      {"an at sign that is no address", "user@host running", "user@host running"},
      {"epoch milliseconds", "1777629600123 x", "1777629600123 x"},
  };
  for (const auto& row : rows) {
    INFO(row.why);
    CHECK(redact(row.text) == row.expected);
  }
}

TEST_CASE("redact: cleaned text is UTF-8 without controls, cut at a code point", "[rules][redact]") {
  CHECK(clean_text("a\nb\x01\x1b[31m\tc", 100) == "a b[31m\tc");
  CHECK(clean_text("a\xff"
                   "b",
                   100) ==
        "a\xEF\xBF\xBD"
        "b");
  CHECK(clean_text("a\xE2\x80\xAE"
                   "b",
                   100) == "ab");
  CHECK(clean_text("äöü", 6) == "äöü");
  CHECK(clean_text("äöüä", 7) == "äö…");
  CHECK(clean_text("abcdef", 5) == "ab…");
}

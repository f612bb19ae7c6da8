// Redaction: what may not leave a log, and what must stay because people search by it.
#include "rules/redact.h"

#include <catch2/catch.hpp>

using logbell::rules::clean_text;
using logbell::rules::redact;
using logbell::rules::redact_label;

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
      {"logbell's own", "https://logbell.example.com/ack/lba_ASfLbVQ2nGx1xbx7N4oTgAAAAZ8AAAAA seen",
       "https://logbell.example.com/ack/[redacted] seen"},
      {"an address", "mail to bob.smith@example.com failed", "mail to [redacted] failed"},
      {"a card number", "card 4111 1111 1111 1111 declined", "card [redacted] declined"},
      {"the same without blanks", "card=4111111111111111,", "card=[redacted],"},
      {"a header as a list", R"({"Authorization":["Bearer s3cr3t36"]})",
       R"({"Authorization":["[redacted]"]})"},
      {"a scheme and a tab", "Authorization: Bearer\tabcdef33", "Authorization: Bearer\t[redacted]"},
      {"a short key", "user=bob pass=hunter2", "user=bob pass=[redacted]"},
      {"an element of XML", "<password>hunter2</password>", "<password>[redacted]</password>"},
      {"a key in a URL's text", "q=password%3Dhunter2&x=1", "q=password%3D[redacted]&x=1"},
      {"a private key", "-----BEGIN RSA PRIVATE KEY-----MIIabc/+=-----END RSA PRIVATE KEY-----",
       "-----BEGIN RSA PRIVATE KEY-----[redacted]-----END RSA PRIVATE KEY-----"},
      {"a private key's first line", "-----BEGIN PRIVATE KEY----- MIIabc",
       "-----BEGIN PRIVATE KEY-----[redacted]"},
      {"a certificate", "-----BEGIN CERTIFICATE----- MIIabc", "-----BEGIN CERTIFICATE----- MIIabc"},
      {"a chat's webhook", "POST https://hooks.slack.com/services/T024BE7LD/B0AQ1FZ3C/kR3jx9 failed",
       "POST https://hooks.slack.com/services/[redacted] failed"},
      {"a bot's address", "https://api.telegram.org/bot123:AAE-x/sendMessage",
       "https://api.telegram.org/bot[redacted]"},
      {"a count called pass", "pass: 5, fail: 2", "pass: 5, fail: 2"},
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

TEST_CASE("redact: whatever belongs to a secret is hidden, once", "[rules][redact]") {
  using logbell::rules::without;
  using Views = std::vector<std::string_view>;
  CHECK(without("sent in 2 sec", Views{"sec"}) == "sent in 2 <secret>");
  CHECK(without("the secret key", Views{"secret", "sec", ""}) == "the <secret> key");
  CHECK(without("abcdefgh", Views{"abc", "bcdefg"}) == "<secret>h");
  CHECK(without("aaaa b", Views{"aaa"}) == "<secret> b");
  CHECK(without("<secret> stays", Views{"sec"}) == "<<secret>ret> stays");
  CHECK(without("nothing", Views{"x", ""}) == "nothing");
  CHECK(without("", Views{"x"}).empty());
}

TEST_CASE("redact: a label keeps apart what may not be said", "[rules][redact]") {
  CHECK(redact_label("queue", "orders-7") == "orders-7");
  CHECK(redact_label("queue", "").empty());
  const std::string bob = redact_label("user", "bob@example.com");
  const std::string eve = redact_label("user", "eve@example.com");
  CHECK(bob.substr(0, 10) == "[redacted ");
  CHECK(bob.size() == std::string("[redacted 5f3a09c1]").size());
  CHECK(bob != eve);
  CHECK(bob == redact_label("user", "bob@example.com"));
  CHECK(redact_label("api_token", "abc").substr(0, 10) == "[redacted ");
  CHECK(redact_label("url", "https://x/?password=hunter2&y=1").find("hunter2") == std::string::npos);
}

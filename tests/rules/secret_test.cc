#include "rules/secret.h"

#include <utility>

#include <catch2/catch.hpp>

using namespace logbell::rules;

TEST_CASE("secret: what is moved from keeps nothing", "[rules][secret]") {
  Secret first("hunter2");
  const Secret second = std::move(first);
  CHECK(second.reveal() == "hunter2");
  const bool wiped = first.empty();  // NOLINT(bugprone-use-after-move): that is what is tested
  CHECK(wiped);
}

TEST_CASE("secret: placeholders are recognised where a secret belongs", "[rules][secret]") {
  const auto word =
      GENERATE(as<std::string>(), "changeme", "CHANGEME", "xxx", "XXXXXXXX", "<your token>", "your-api-key",
               "https://hooks.slack.com/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX",
               "https://hooks.slack.com/services/T000/B000/abc", "https://hooks.slack.com/services/…", "****",
               "https://hooks.slack.com/services/", "todo", "${OTHER}", "$(cat /run/secrets/x)",
               "{{ vault.token }}", "$TOKEN", "https://hooks.slack.com/services/${PATH}");
  CAPTURE(word);
  CHECK(is_placeholder(word));
}

TEST_CASE("secret: real ones are not taken for placeholders", "[rules][secret]") {
  const auto word = GENERATE(
      as<std::string>(), "https://hooks.slack.com/services/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",
      "s3cr3t-Xq9", "xoxb-1234567890-abcdef", "T0KEN-1", "", "pa$$word-1", "a{b}c$", "$1$abc");
  CAPTURE(word);
  CHECK_FALSE(is_placeholder(word));
}

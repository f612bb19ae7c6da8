// What container runtimes put around a line, and what paths say.
#include "engine/io/envelope.h"

#include <catch2/catch.hpp>

namespace logbell::engine {
namespace {

std::string fact(const rules::Facts& facts, std::string_view name) {
  const std::string* found = facts.find(name);
  return found == nullptr ? "(none)" : *found;
}

TEST_CASE("envelope: CRI lines", "[io][envelope]") {
  const auto whole = parse_cri("2016-10-06T00:17:09.669794202Z stdout F log content 1");
  REQUIRE(whole);
  CHECK(whole->text == "log content 1");
  CHECK(whole->stream == OutputStream::kStdout);
  CHECK(rules::to_unix_ms(*whole->time) == 1475713029669);
  CHECK_FALSE(whole->partial);
  const auto part = parse_cri("2016-10-06T00:17:09.669794203+02:00 stderr P:TAG:OTHER  two spaces ");
  REQUIRE(part);
  CHECK(part->partial);
  CHECK(part->stream == OutputStream::kStderr);
  CHECK(part->text == " two spaces ");
  for (const char* empty : {"2016-10-06T00:17:09Z stdout F", "2016-10-06T00:17:09Z stdout F "}) {
    const auto found = parse_cri(empty);
    REQUIRE(found);
    CHECK(found->text.empty());
  }
  for (const char* other : {"", "x", "2016-10-06T00:17:09Z", "2016-10-06T00:17:09Z stdout", "2016-10-06T00:17:09Z stdin F x",
                            "2016-10-06T00:17:09Z stdout X x", "yesterday stdout F x"}) {
    CAPTURE(other);
    CHECK_FALSE(parse_cri(other));
  }
}

TEST_CASE("envelope: Docker's lines", "[io][envelope]") {
  rules::JsonLineReader json;
  const auto whole = parse_docker(
      R"({"log":"say \"hi\" \u00e9\n","stream":"stdout","attrs":{"tag":"x"},"time":"2019-04-01T17:58:33.598656444Z"})", json);
  REQUIRE(whole);
  CHECK(whole->text == "say \"hi\" \u00e9");
  CHECK(whole->stream == OutputStream::kStdout);
  CHECK(rules::to_unix_ms(*whole->time) == 1554141513598);
  CHECK_FALSE(whole->partial);
  const auto part = parse_docker(R"({"log":"half","stream":"stderr","time":"2019-04-01T17:58:33Z"})", json);
  REQUIRE(part);
  CHECK(part->partial);
  for (const char* other : {"", "plain", "[]", "{}", R"({"msg":"x"})", R"({"log":"x)"}) {
    CAPTURE(other);
    CHECK_FALSE(parse_docker(other, json));
  }
}

TEST_CASE("envelope: what the path of a container's log says", "[io][envelope]") {
  const auto pods = path_facts(rules::Envelope::kCri,
                               "/var/log/pods/shop_orders-7d4b9-x2v_0f2c-11/api/0.log.20261128-031501");
  CHECK(fact(pods, "namespace") == "shop");
  CHECK(fact(pods, "pod") == "orders-7d4b9-x2v");
  CHECK(fact(pods, "container") == "api");
  const auto containers = path_facts(rules::Envelope::kCri, "/var/log/containers/orders-7d4b9_shop_my-api-0123abcd.log");
  CHECK(fact(containers, "namespace") == "shop");
  CHECK(fact(containers, "pod") == "orders-7d4b9");
  CHECK(fact(containers, "container") == "my-api");
  CHECK(fact(path_facts(rules::Envelope::kCri, "/tmp/x.log"), "pod") == "(none)");
  CHECK(fact(path_facts(rules::Envelope::kDocker, "/var/lib/docker/containers/0123/0123-json.log"), "container_id") ==
        "0123");
}

}  // namespace
}  // namespace logbell::engine

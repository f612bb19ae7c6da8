#include "rules/json.h"

#include <catch2/catch.hpp>

using namespace logbell::rules;

TEST_CASE("json: what is built reads back as the same", "[rules][json]") {
  Json json;
  json.set("text", "a \"quoted\"\nline")
      .set("count", 3)
      .set("ratio", 0.25)
      .set("on", true)
      .set("none", nullptr);
  json.set("items", Json::Array{1, "two", Json::Object{{"three", 3}}});
  const auto read = Json::parse(json.dump());
  REQUIRE(read);
  CHECK(*read == json);
  CHECK((*read)["items"].at(2)["three"].integer() == 3);
  CHECK((*read)["absent"].is_null());
  CHECK((*read)["items"].at(99).is_null());
}

TEST_CASE("json: members keep the order written; a second set replaces", "[rules][json]") {
  Json json;
  json.set("z", 1).set("a", 2).set("z", 3);
  CHECK(json.dump() == R"({"z":3,"a":2})");
}

TEST_CASE("json: bytes that are not UTF-8 still give valid JSON", "[rules][json]") {
  const std::string text = Json(std::string("a\xff\xc0z")).dump();
  REQUIRE(Json::parse(text));
  CHECK(Json::parse(text)->string().find("\xef\xbf\xbd") != std::string::npos);
}

TEST_CASE("json: broken or too deep documents are refused", "[rules][json]") {
  CHECK_FALSE(Json::parse("{\"a\":"));
  CHECK_FALSE(Json::parse(""));
  CHECK_FALSE(Json::parse("{} x"));
  CHECK(Json::parse(std::string(60, '[') + std::string(60, ']')));
  CHECK_FALSE(Json::parse(std::string(5000, '[') + std::string(5000, ']')));
}

TEST_CASE("json lines: scalars with their path, strings unescaped, other values as written",
          "[rules][json]") {
  JsonLineReader reader;
  REQUIRE(reader.read(
      R"({"level":"ERROR","http":{"status":500,"ok":false},"n":null,"msg":"a\"b\u00e4","l":[1, 2]})"));
  const auto field = [&](std::string_view name) -> std::string {
    for (const auto& f : reader.fields()) {
      if (f.name == name) return f.value;
    }
    return "(absent)";
  };
  CHECK(field("level") == "ERROR");
  CHECK(field("http.status") == "500");
  CHECK(field("http.ok") == "false");
  CHECK(field("n") == "null");
  CHECK(field("msg") == "a\"b\xc3\xa4");
  CHECK(field("l") == "[1, 2]");
  CHECK(field("nothing") == "(absent)");
}

TEST_CASE("json lines: what is not one object has no fields, and does no harm to the next line",
          "[rules][json]") {
  JsonLineReader reader;
  const auto line = GENERATE(as<std::string>(), "", "plain text", "[1]", "{", "{\"a\":1", "{\"a\":}",
                             "{\"a\":1} tail", "{\"a\" 1}", "{\"a\":\"\xff", "{a:1}");
  CAPTURE(line);
  CHECK_FALSE(reader.read(line));
  CHECK(reader.fields().empty());
  REQUIRE(reader.read(R"({"a":1})"));
  CHECK(reader.fields().size() == 1);
}

TEST_CASE("json lines: what loggers write for JSON is read, too", "[rules][json]") {
  JsonLineReader reader;
  const auto value_of = [&](const std::string& line) -> std::string {
    if (!reader.read(line)) return "(no JSON)";
    REQUIRE_FALSE(reader.fields().empty());
    CHECK(reader.fields().front().value == "ERROR");
    return reader.fields().back().value;
  };
  const auto with = [](const std::string& value) { return R"({"level":"ERROR","v":)" + value + "}"; };
  // Bytes that are no UTF-8 stay what they are; overlong forms, surrogates and what is cut off are none.
  for (const std::string bytes :
       {"caf\xE9", "\xFF", "\x80x", "\xC0\xAF", "\xED\xA0\xBD", "\xF0\x9F\x92", "\xE9 \xC3\xA4 \xBF"}) {
    CAPTURE(bytes);
    CHECK(value_of(with('"' + bytes + '"')) == bytes);
  }
  CHECK(reader.read("{\"k\xE9\":{\"\xFF\":1}}"));
  CHECK(reader.fields().front().name == "k\xE9.\xFF");
  // Half a pair of surrogates is no character.
  const std::string none = "\xEF\xBF\xBD";
  CHECK(value_of(with(R"("cut \ud83d")")) == "cut " + none);
  CHECK(value_of(with(R"("\udce9 and \ud83d\ude00")")) == none + " and \xF0\x9F\x98\x80");
  CHECK(value_of(with(R"("\ud83d\ud83d\ude00")")) == none + "\xF0\x9F\x98\x80");
  CHECK(value_of(with(R"("\\ud83d \ud83d\\")")) == "\\ud83d " + none + "\\");
  CHECK(value_of(with(R"("\ud83dx\udc")")) == "(no JSON)");
  // Control characters as they are; and numbers that JSON does not have.
  CHECK(value_of(with("\"a\tb\x1b[31mc\"")) == "a\tb\x1b[31mc");
  CHECK(value_of(with("NaN")) == "NaN");
  CHECK(value_of(with(" -Infinity ")) == "-Infinity");
  CHECK(value_of(with("[1, NaN]")) == "[1, NaN]");
  CHECK(value_of(with("\"a NaN: , NaN\"")) == "a NaN: , NaN");
  CHECK(value_of(with("NaNs")) == "(no JSON)");
}

TEST_CASE("json lines: a record may begin with a line break", "[rules][json]") {
  JsonLineReader reader;
  REQUIRE(reader.read("\n \r\t{\"a\":1}"));
  CHECK(reader.fields().size() == 1);
}

TEST_CASE("json: a NUL is no end of the text", "[rules][json]") {
  for (const char* more : {"", "x", "}", " "}) {
    std::string text = "{}";
    text.append(1, '\0').append(more);
    CAPTURE(text);
    const auto parsed = Json::parse(text);
    REQUIRE_FALSE(parsed.has_value());
    CHECK(parsed.error().message == "parse JSON: there is a NUL byte in it");
  }
  CHECK(Json::parse(R"("\u0000")")->string() == std::string_view("\0", 1));
}

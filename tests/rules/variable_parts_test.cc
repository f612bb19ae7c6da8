// Variable parts: what of a line another line of the same kind says otherwise.
#include "rules/variable_parts.h"

#include <string>

#include <catch2/catch.hpp>

using namespace logbell::rules;

TEST_CASE("variable parts: a line's template keeps what the program wrote", "[rules][variable_parts]") {
  struct Row {
    std::string says;
    std::string line;
    std::string wanted;
  };
  const Row rows[] = {
      {"a time, with its zone, and a number", "2026-05-01T10:00:00.123Z ERROR order 7 lost",
       "<time> ERROR order <number> lost"},
      {"a time in two words", "2026-05-01 10:00:00,123 ERROR x", "<time> ERROR x"},
      {"of a web server", "1.2.3.4 - - [27/Nov/2026:10:00:00 +0000] x", "<ip> - - [<time>] x"},
      {"of syslog", "May  1 10:00:00 db1 x", "<time> <id> x"},
      {"addresses, with ports and without", "no route to 10.0.0.12:5672 or fe80::1",
       "no route to <ip> or <ip>"},
      {"an id", "request 0f8fad5b-d9cb-469f-a165-70867728950e failed", "request <uuid> failed"},
      {"hex", "at 0x7ffe and 9f3a2c1b, not added", "at <hex> and <hex>, not added"},
      {"a duration", "took 12ms, then 1m30s.", "took <duration>, then <duration>."},
      {"what is quoted", R"(cannot find "orders of may" here)", R"(cannot find "<quoted>" here)"},
      {"an apostrophe is no quote", "can't find 'x y'", "can't find '<quoted>'"},
      {"mail, URL and path", "to a.b@example.com via https://x.example/y: /var/log/app.log",
       "to <email> via <url>: <path>"},
      {"values of keys; a plain word stays", "level=error queue=orders n=7 id=ab-12 msg=\"no queue\"",
       "level=error queue=orders n=<number> id=<id> msg=\"<quoted>\""},
      {"keys of JSON stay, and a level", R"({"level": "ERROR", "queue": "orders", "n": 7})",
       R"({"level": "ERROR", "queue": "<quoted>", "n": <number>})"},
      {"names that somebody wrote", "Http2Server and/or QueueNotFoundException: no",
       "Http2Server and/or QueueNotFoundException: no"},
      {"a place in code", "at com.example.Orders.send(Orders.java:12)",
       "at com.example.Orders.send(Orders.java:<number>)"},
      {"machines and pods", "pod orders-7d4b9 on srv12", "pod <id> on <id>"},
      {"percent and signs", "down by -3.5 to 97%", "down by <number> to <number>"},
      {"nothing", "", ""},
      {"half of everything", "= \" ' : 0x [", "= \" ' : <id> ["},
  };
  for (const Row& row : rows) {
    INFO(row.says);
    CHECK(line_template(row.line) == row.wanted);
  }
}

TEST_CASE("variable parts: each knows its key", "[rules][variable_parts]") {
  const std::string line = R"(took=12ms {"id": "a b", "code": 7} port: 80)";
  const auto parts = variable_parts(line);
  REQUIRE(parts.size() == 4);
  CHECK((parts[0].key == "took" && parts[0].kind == VariablePart::Kind::kDuration));
  CHECK((parts[1].key == "id" && line.substr(parts[1].offset, parts[1].length) == "a b"));
  CHECK((parts[2].key == "code" && parts[2].kind == VariablePart::Kind::kNumber));
  CHECK((parts[3].key == "port" && line.substr(parts[3].offset, parts[3].length) == "80"));
}

TEST_CASE("variable parts: whatever the bytes, they are in order and within the line",
          "[rules][variable_parts]") {
  std::uint32_t seed = 1;
  const std::string alphabet = "a1F=\"':/.@-[]{}, \\\xc3\xff+%0x";
  for (int round = 0; round < 20'000; ++round) {
    std::string line;
    seed = seed * 1664525U + 1013904223U;
    const std::size_t length = (seed >> 16U) % 40;
    for (std::size_t i = 0; i < length; ++i) {
      seed = seed * 1664525U + 1013904223U;
      line += alphabet[(seed >> 16U) % alphabet.size()];
    }
    std::size_t end = 0;
    for (const VariablePart& part : variable_parts(line)) {
      REQUIRE(part.offset >= end);
      REQUIRE(part.length > 0);
      end = part.offset + part.length;
      REQUIRE(end <= line.size());
    }
  }
}

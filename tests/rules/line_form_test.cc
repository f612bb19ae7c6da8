// Line form: lines of one format have one, lines of another have another.
#include "rules/line_form.h"

#include <string>

#include <catch2/catch.hpp>

using logbell::rules::line_form;

TEST_CASE("line form: of what loggers write", "[rules][line_form]") {
  struct Row {
    const char* line;
    const char* form;
  };
  for (const Row& row : {
           Row{"2026-05-01T10:00:00Z ERROR no queue", "text 0L"},
           Row{"2026-05-01T10:00:01.123+02:00 INFO 7 orders taken", "text 0L"},
           Row{"2026-05-01T10:00:01Z WARN HTTP 503 from upstream\r", "text 0L"},
           Row{"2026-05-01 10:00:00,123 [main] DEBUG c.e.Orders - order 7", "text 00[L"},
           Row{"2026-05-01 10:00:00,123 [pool-1 thread-7] ERROR c.e.Orders - gone", "text 00[L"},
           Row{"[2026-05-01 10:00:00] production.ERROR: gone", "text ["},
           Row{"127.0.0.1 - - [01/May/2026:10:00:00 +0000] \"GET / HTTP/1.1\" 200 17", "text 0--[\""},
           Row{"ERROR: gone", "text L"},
           Row{"order 7 is gone", "text "},
           Row{"Überlauf", "text "},
           Row{"<11>1 2026-05-01T10:00:00Z vm app", "text <00"},
           Row{R"({"ts":"2026-05-01","level":"INFO","msg":"a, \"b\": c","order":7,"more":1})",
               "json ts,level,msg,order"},
           Row{R"({ "a" : {"inner": 1, "x": [1,2]}, "b":[{"c":1}], "d": null })", "json a,b,d"},
           Row{"{}", "json "},
           Row{R"({"cut": "in the mid)", "json cut"},
           Row{"ts=2026-05-01 level=info msg=\"a = b\" order=7 more=1", "logfmt ts,level,msg,order"},
           Row{"level=info", "logfmt level"},
           Row{"", ""},
           Row{"   at com.example.Orders", ""},
           Row{"\tat com.example.Orders", ""},
       }) {
    INFO(row.line);
    CHECK(line_form(row.line) == row.form);
  }
}

TEST_CASE("line form: is short, whatever a line holds", "[rules][line_form]") {
  CHECK(line_form("{\"" + std::string(10'000, 'k') + "\":1}").size() == logbell::rules::kMaxFormBytes);
  CHECK(line_form(std::string(10'000, '-')) == "text -");
  std::string numbers;
  for (int i = 0; i < 1000; ++i)
    numbers += "1 ";
  CHECK(line_form(numbers) == "text 00000000");
  for (const char* broken : {"[", "\"", "{\"", "{\"\\", "=", "a=", "a=\"", "a=\"\\", "<>"})
    CHECK(line_form(broken).size() < 20);
}

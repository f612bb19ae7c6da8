// Error lines: what looks like one, what only sounds like one, and that every place in a block is looked at.
#include "rules/error_lines.h"

#include <random>
#include <string>

#include <catch2/catch.hpp>

using namespace logbell::rules;

TEST_CASE("error lines: what loggers write", "[rules][error_lines]") {
  for (const char* line : {
           "2026-05-01T10:00:00Z ERROR cannot send order 7",
           "2026-05-01 10:00:00,123 CRITICAL [main] out of stock",
           "10:00:00.123 [http-1] FATAL c.e.Orders - gone",
           "May 1, 2026 10:00:00 AM com.example.Orders send SEVERE: no queue",
           "ERROR:root:no queue",
           "ERROR",
           "[ERROR] no queue",
           "<ERROR> no queue",
           "2026-05-01 10:00:00 UTC [7] FATAL:  password authentication failed",
           "[2026-05-01 10:00:00] production.ERROR: no queue {\"exception\":\"…\"}",
           "PANIC: could not write to log file",
           "panic: runtime error: index out of range",
           "fatal error: all goroutines are asleep - deadlock!",
           "fatal: not a git repository",
           R"({"time":"2026-05-01T10:00:00Z","level":"ERROR","msg":"no queue"})",
           R"({"level": "error", "msg": "no queue"})",
           R"({"msg":"no queue","severity":"Critical"})",
           R"({"log":"{\"level\":\"error\"}"})",
           R"({"log.level":"error"})",
           R"({"levelname": "FATAL"})",
           "ts=1 level=error msg=\"no queue\"",
           "ts=1 level=err msg=\"no queue\"",
           "t=1 lvl=crit msg=\"no queue\"",
           "time=1 loglevel=\"Error\" x=y",
           "LEVEL: critical",
           "2026/05/01 10:00:00 [error] 7#7: *1 connect() failed",
           "2026/05/01 10:00:00 [emerg] 7#7: no config",
           "[Fri May 01 10:00:00 2026] [proxy:error] [pid 7] AH01114: failed",
           "an ERROR at last\r",
           // In colours: Spring Boot, winston, zap, zerolog, logrus.
           "10:00 \x1b[31mERROR\x1b[0;39m \x1b[35m1\x1b[0;39m \x1b[2m---\x1b[0;39m gone",
           "\x1b[31merror\x1b[39m: no queue",
           "10:00\t\x1b[31mERROR\x1b[0m\tmain.go:7\tno queue",
           "\x1b[90m10:00AM\x1b[0m \x1b[1m\x1b[31mERR\x1b[0m\x1b[0m no queue",
           "\x1b[31mERRO\x1b[0m[0007] no queue",
           "ts=1 level=\x1b[1;31merror\x1b[0m msg=x",
       }) {
    INFO(line);
    CHECK(looks_like_error(line));
  }
}

TEST_CASE("error lines: what only sounds like one", "[rules][error_lines]") {
  for (const char* line : {
           "",
           "ER",
           "INFO 200 GET /error/404",
           "INFO no error at all, 0 errors, errors=0 error_count: 0 error=null",
           R"({"level":"info","error":null,"errors":0,"error":"none"})",
           R"({"level":"info","ERROR":null})",
           R"({"level":"info","ERROR" : 0})",
           "INFO ERROR=0 FATAL=0 CRITICAL=none",
           "INFO ERROR_COUNT=7",
           "INFO NOERROR ERRORS TERROR",
           "INFO X-ERROR-CODE ERROR-CODE /ERROR/ C:\\ERROR",
           "INFO com.example.ERROR.handler",
           "INFO fatally critically severely in a panic",
           "level=info next=error",
           "level=errands",
           "multilevel error",
           "INFO panic: is not at the beginning",
           "INFO company expanded a catalogue of fatty cripes",
           "WARN [errors] [core:errors] [core error]",
           "INFO \x1b[31mterror\x1b[0m",
           "INFO \x1b[31merror count 0\x1b[0m",
           "INFO \x1b[31mERRORS\x1b[0m 0",
           "INFO [31mERROR[0m",  // no escape
           "INFO 5mERROR x;1mERROR",
       }) {
    INFO(line);
    CHECK_FALSE(looks_like_error(line));
  }
}

TEST_CASE("error lines: a count is none only where it is of nothing", "[rules][error_lines]") {
  CHECK(looks_like_error("INFO ERROR=17"));
  CHECK(looks_like_error("ERROR: 0 rows were updated"));
  CHECK(looks_like_error("ERROR=0x80004005"));
  CHECK(looks_like_error("INFO ERROR=0, but level=error"));  // another word of it counts
}

TEST_CASE("error lines: each line once, wherever it stands in a block", "[rules][error_lines]") {
  std::mt19937 random(17);
  for (int round = 0; round < 300; ++round) {
    std::string block;
    std::vector<std::pair<std::size_t, std::size_t>> wanted;
    for (int lines = static_cast<int>(random() % 12); lines > 0; --lines) {
      std::string line(random() % 40, 'x');
      const bool is_error = random() % 3 == 0;
      if (is_error) line += line.empty() ? "ERROR" : " ERROR FATAL";
      line += std::string(random() % 20, ' ');
      if (is_error) wanted.emplace_back(block.size(), line.size());
      block += line + (random() % 4 == 0 ? "\r\n" : "\n");
    }
    if (random() % 2 == 0 && !block.empty() && block.back() == '\n') block.pop_back();
    std::vector<ErrorLine> found;
    find_error_lines(block, found);
    std::vector<std::pair<std::size_t, std::size_t>> seen;
    for (const ErrorLine& line : found)
      seen.emplace_back(line.offset, line.length);
    CHECK(seen == wanted);
  }
}

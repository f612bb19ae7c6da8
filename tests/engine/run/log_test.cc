// Log: one event one line, nothing forged, no secret, no flood.
#include "engine/run/log.h"

#include <string>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>

#include "rules/time.h"
#include "tests/support/fake_clock.h"

using namespace std::chrono_literals;
using logbell::engine::Log;
using logbell::engine::logfmt_value;
using logbell::rules::Secret;
using logbell::tests::FakeClock;

namespace {

struct LogFixture {
  FakeClock clock{*logbell::rules::parse_rfc3339("2026-05-01T10:00:00Z")};
  std::vector<std::string> lines;
  Log log{{&clock, 30s, [this](std::string_view line) { lines.emplace_back(line); }}};
};

}  // namespace

TEST_CASE("log: fields first, then what a person should know", "[run][log]") {
  LogFixture f;
  f.log.info("Watching.", {{"source", "api"}, {"files", "2"}, {"place", "/var/log/my api.log"}});
  CHECK(f.lines == std::vector<std::string>{"ts=2026-05-01T10:00:00Z level=info source=api files=2 "
                                            "place=\"/var/log/my api.log\" msg=Watching.\n"});
}

TEST_CASE("log: no text can forge a line, a field or a colour", "[run][log]") {
  CHECK(logfmt_value("") == "\"\"");
  CHECK(logfmt_value("plain-1.0/x") == "plain-1.0/x");
  CHECK(logfmt_value("a\nts=2026 level=error msg=forged") == R"("a\nts=2026 level=error msg=forged")");
  CHECK(logfmt_value("say \"hi\" \\ there") == R"("say \"hi\" \\ there")");
  CHECK(logfmt_value("x=1") == "\"x=1\"");
  CHECK(logfmt_value("\x1b[31mred") == R"("\u001b[31mred")");
  CHECK(logfmt_value("\xc2\x9b"
                     "C1 and \xe2\x80\xaeRTL") == R"("\u009bC1 and \u202eRTL")");
  CHECK(logfmt_value("broken \xff\xc3") == R"("broken \ufffd\ufffd")");
  CHECK(logfmt_value("Grüße") == "Grüße");
  CHECK(logfmt_value(std::string("nul\0!", 5)) == R"("nul\u0000!")");
  LogFixture f;
  f.log.warn("one\r\nlevel=error", {{"detail", "a\nb"}});
  CHECK(f.lines == std::vector<std::string>{
                       "ts=2026-05-01T10:00:00Z level=warn detail=\"a\\nb\" msg=\"one\\r\\nlevel=error\"\n"});
}

TEST_CASE("log: a secret is hidden in fields and messages, its URL's path alone too", "[run][log]") {
  LogFixture f;
  f.log.hide(
      {Secret("https://hooks.slack.example/services/T1/B2/sEcReT"), Secret("s3cret-token"), Secret("abc")});
  f.log.info("post s3cret-token to https://hooks.slack.example/services/T1/B2/sEcReT",
             {{"path", "/services/T1/B2/sEcReT?x=1"}, {"short", "abc"}});
  REQUIRE(f.lines.size() == 1);
  CHECK(f.lines[0] ==
        "ts=2026-05-01T10:00:00Z level=info path=\"<secret>?x=1\" short=abc "
        "msg=\"post <secret> to <secret>\"\n");
}

TEST_CASE("log: a word that is all of a URL's path garbles no other path", "[run][log]") {
  LogFixture f;
  f.log.hide({Secret("http://127.0.0.1:9/late"), Secret("http://127.0.0.1:9/aB3k9Qw")});
  f.log.info("read", {{"path", "/srv/late.log"}, {"url", "http://127.0.0.1:9/late"}, {"other", "/aB3k9Qw"}});
  REQUIRE(f.lines.size() == 1);
  CHECK(f.lines[0] ==
        "ts=2026-05-01T10:00:00Z level=info path=/srv/late.log url=<secret> other=<secret> msg=read\n");
}

TEST_CASE("log: a secret at the cut leaves no half of it", "[run][log]") {
  LogFixture f;
  f.log.hide({Secret("s3cret-token")});
  f.log.info("cut", {{"detail", std::string(Log::kMaxValueBytes - 4, 'x') + "s3cret-token"}});
  CHECK(f.lines[0].find("s3cr") == std::string::npos);
}

TEST_CASE("log: the same warning is written once an interval, with a count", "[run][log]") {
  LogFixture f;
  for (int i = 0; i < 100; ++i)
    f.log.warn("Will retry.", {{"sink", "oncall"}, {"attempt", std::to_string(i)}});
  f.log.warn("Will retry.", {{"sink", "other"}});
  CHECK(f.lines.size() == 2);
  f.clock.advance(30s);
  f.log.sweep();
  REQUIRE(f.lines.size() == 3);
  CHECK(f.lines[2] ==
        "ts=2026-05-01T10:00:30Z level=warn sink=oncall attempt=99 msg=\"Will retry.\" repeated=99 "
        "last=2026-05-01T10:00:00Z\n");
  f.log.warn("Will retry.", {{"sink", "oncall"}});
  f.clock.advance(30s);
  f.log.sweep();
  CHECK(f.lines.size() == 4);
  f.clock.advance(30s);
  f.log.sweep();  // forgotten by now
  f.log.warn("Will retry.", {{"sink", "oncall"}});
  CHECK(f.lines.size() == 5);
}

TEST_CASE("log: a count comes before the good news about the same thing, and what follows is told at once",
          "[run][log]") {
  LogFixture f;
  for (int i = 0; i < 3; ++i)
    f.log.warn("Will retry.", {{"sink", "oncall"}});
  for (int i = 0; i < 3; ++i)
    f.log.warn("Will retry.", {{"sink", "other"}});
  f.clock.advance(5s);
  f.log.info("The sink works.", {{"sink", "oncall"}});
  REQUIRE(f.lines.size() == 4);
  CHECK(f.lines[2] ==
        "ts=2026-05-01T10:00:05Z level=warn sink=oncall msg=\"Will retry.\" repeated=2 "
        "last=2026-05-01T10:00:00Z\n");
  CHECK(f.lines[3].find("The sink works.") != std::string::npos);
  f.log.warn("Will retry.", {{"sink", "oncall"}});
  CHECK(f.lines.size() == 5);
  f.log.info("Running.");
  CHECK(f.lines.size() == 6);  // about nothing in particular: the other sink's count waits
}

TEST_CASE("log: nothing that was held back is lost at the end", "[run][log]") {
  LogFixture f;
  f.log.error("Lost.", {{"source", "api"}});
  f.log.error("Lost.", {{"source", "api"}});
  f.log.sweep(true);
  REQUIRE(f.lines.size() == 2);
  CHECK(f.lines[1].find("repeated=1") != std::string::npos);
}

TEST_CASE("log: more events than it counts are written as they come", "[run][log]") {
  LogFixture f;
  for (std::size_t i = 0; i < Log::kMaxEvents + 10; ++i)
    f.log.warn("Odd.", {{"file", std::to_string(i)}});
  f.log.warn("Odd.", {{"file", "0"}});
  CHECK(f.lines.size() == Log::kMaxEvents + 10);
}

TEST_CASE("log: threads write whole lines", "[run][log]") {
  LogFixture f;
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&f, t] {
      for (int i = 0; i < 200; ++i)
        f.log.info("Line.", {{"thread", std::to_string(t)}});
    });
  }
  for (std::thread& thread : threads)
    thread.join();
  CHECK(f.lines.size() == 800);
}

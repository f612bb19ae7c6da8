// Syslog: the examples of its RFCs, what logger, rsyslog and routers really send, and records in a stream.
#include "engine/io/syslog.h"

#include <random>
#include <string>
#include <tuple>
#include <vector>

#include <catch2/catch.hpp>

namespace logbell::engine {
namespace {

using namespace std::string_literals;

struct Said {
  std::string priority;  // facility.severity
  std::string time;
  std::string host;
  std::string app;
  std::string procid;
  std::string msgid;
  std::string structured;
  std::string message;

  friend bool operator==(const Said&, const Said&) = default;
  friend std::ostream& operator<<(std::ostream& out, const Said& s) {
    return out << "[" << s.priority << "][" << s.time << "][" << s.host << "][" << s.app << "][" << s.procid
               << "][" << s.msgid << "][" << s.structured << "][" << s.message << "]";
  }
};

Said parse(std::string_view record, const std::string& location = "UTC",
           const std::string& reference = "2026-11-28T04:02:51Z") {
  const auto times = rules::TimestampReader::make({.field = {}, .format = {}, .location = location});
  const SyslogMessage m = parse_syslog(record, *times, *rules::parse_rfc3339(reference));
  Said said;
  if (m.facility)
    said.priority = std::string(facility_name(*m.facility)) + "." + std::string(severity_name(*m.severity));
  if (m.time) said.time = rules::format_rfc3339(*m.time);
  said.host = m.host;
  said.app = m.app;
  said.procid = m.procid;
  said.msgid = m.msgid;
  said.structured = m.structured;
  said.message = m.message;
  return said;
}

TEST_CASE("syslog: RFC 5424's own examples", "[io][syslog]") {
  CHECK(
      parse(
          "<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - \xEF\xBB\xBF'su root' failed for "
          "lonvick on /dev/pts/8") == Said{"auth.crit", "2003-10-11T22:14:15.003Z", "mymachine.example.com",
                                           "su", "", "ID47", "",
                                           "'su root' failed for lonvick on /dev/pts/8"});
  CHECK(parse("<165>1 2003-08-24T05:14:15.000003-07:00 192.0.2.1 myproc 8710 - - %% It's time to make the "
              "do-nuts.") == Said{"local4.notice", "2003-08-24T12:14:15Z", "192.0.2.1", "myproc", "8710", "",
                                  "", "%% It's time to make the do-nuts."});
  CHECK(parse("<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 [exampleSDID@32473 "
              "iut=\"3\" "
              "eventSource=\"Application\" eventID=\"1011\"] \xEF\xBB\xBF"
              "An application event log entry...") ==
        Said{"local4.notice", "2003-10-11T22:14:15.003Z", "mymachine.example.com", "evntslog", "", "ID47",
             "[exampleSDID@32473 iut=\"3\" eventSource=\"Application\" eventID=\"1011\"]",
             "An application event log entry..."});
  CHECK(
      parse("<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 [exampleSDID@32473 "
            "iut=\"3\" "
            "eventSource=\"Application\" eventID=\"1011\"][examplePriority@32473 class=\"high\"]") ==
      Said{"local4.notice", "2003-10-11T22:14:15.003Z", "mymachine.example.com", "evntslog", "", "ID47",
           "[exampleSDID@32473 iut=\"3\" eventSource=\"Application\" eventID=\"1011\"][examplePriority@32473 "
           "class=\"high\"]",
           ""});
}

TEST_CASE("syslog: RFC 3164's own examples", "[io][syslog]") {
  CHECK(parse("<34>Oct 11 22:14:15 mymachine su: 'su root' failed for lonvick on /dev/pts/8") ==
        Said{"auth.crit", "2026-10-11T22:14:15Z", "mymachine", "su", "", "", "",
             "'su root' failed for lonvick on /dev/pts/8"});
  CHECK(parse("Use the BFG!") == Said{"", "", "", "", "", "", "", "Use the BFG!"});
  CHECK(parse("<13>Feb  5 17:32:18 10.0.0.99 Use the BFG!") ==
        Said{"user.notice", "2027-02-05T17:32:18Z", "10.0.0.99", "", "", "", "", "Use the BFG!"});
  // A zone's name and a year are not of the header, but mean the time.
  CHECK(parse("<165>Aug 24 05:34:00 CST 1987 mymachine myproc[10]: %% It's time to make the do-nuts.  %%  "
              "Ingredients: Mix=OK, Jelly=OK # Devices: Mixer=OK") ==
        Said{"local4.notice", "1987-08-24T05:34:00Z", "mymachine", "myproc", "10", "", "",
             "%% It's time to make the do-nuts.  %%  Ingredients: Mix=OK, Jelly=OK # Devices: Mixer=OK"});
  CHECK(
      parse("<0>1990 Oct 22 10:52:01 TZ-6 scapegoat.dmz.example.org 10.1.2.3 sched[0]: That's All Folks!") ==
      Said{"kern.emerg", "", "", "", "", "", "",
           "1990 Oct 22 10:52:01 TZ-6 scapegoat.dmz.example.org 10.1.2.3 sched[0]: That's All Folks!"});
}

TEST_CASE("syslog: what util-linux's logger sends", "[io][syslog]") {
  CHECK(parse("<13>Nov 28 04:02:51 vm root: hello world") ==
        Said{"user.notice", "2026-11-28T04:02:51Z", "vm", "root", "", "", "", "hello world"});
  CHECK(parse("<13>Nov 28 04:02:51 vm root[1955]: hello world") ==
        Said{"user.notice", "2026-11-28T04:02:51Z", "vm", "root", "1955", "", "", "hello world"});
  // To /dev/log or another unix socket: without a host.
  CHECK(parse("<13>Nov 28 04:02:51 root[1962]: hello") ==
        Said{"user.notice", "2026-11-28T04:02:51Z", "", "root", "1962", "", "", "hello"});
  CHECK(
      parse("<13>1 2026-11-28T04:02:51.074191+00:00 vm root - ID7 [timeQuality tzKnown=\"1\" isSynced=\"0\"]"
            "[zoo@123 tiger=\"hungry\"] hello world") ==
      Said{"user.notice", "2026-11-28T04:02:51.074Z", "vm", "root", "", "ID7",
           "[timeQuality tzKnown=\"1\" isSynced=\"0\"][zoo@123 tiger=\"hungry\"]", "hello world"});
  CHECK(parse("<13>1 - - root - - - hello world") ==
        Said{"user.notice", "", "", "root", "", "", "", "hello world"});
}

TEST_CASE("syslog: what rsyslog writes to files and forwards", "[io][syslog]") {
  CHECK(parse("Nov 28 04:02:51 vm orders-api[7]: queue gone") ==
        Said{"", "2026-11-28T04:02:51Z", "vm", "orders-api", "7", "", "", "queue gone"});
  CHECK(parse("2026-11-28T04:02:51.123456+01:00 vm orders-api: queue gone") ==
        Said{"", "2026-11-28T03:02:51.123Z", "vm", "orders-api", "", "", "", "queue gone"});
  CHECK(parse("<11>2026-11-28T04:02:51.5+00:00 vm orders-api[7]: queue gone") ==
        Said{"user.err", "2026-11-28T04:02:51.500Z", "vm", "orders-api", "7", "", "", "queue gone"});
  CHECK(parse("Nov 28 04:02:51 vm kernel: [   12.345] oom") ==
        Said{"", "2026-11-28T04:02:51Z", "vm", "kernel", "", "", "", "[   12.345] oom"});
}

TEST_CASE("syslog: times without a zone are the location's, without a year the nearest", "[io][syslog]") {
  CHECK(parse("<13>Nov 28 04:02:51 vm a: x", "Europe/Berlin").time == "2026-11-28T03:02:51Z");
  CHECK(parse("<13>Dec 31 23:59:59 vm a: x", "UTC", "2027-01-01T00:00:01Z").time == "2026-12-31T23:59:59Z");
  CHECK(parse("<13>Nov 28 04:02:51.250 vm a: x").time == "2026-11-28T04:02:51.250Z");
}

TEST_CASE("syslog: routers and firewalls", "[io][syslog]") {
  CHECK(parse("<189>29: *Mar  1 18:46:11.123: %SYS-5-CONFIG_I: Configured from console") ==
        Said{"local7.notice", "2027-03-01T18:46:11.123Z", "", "%SYS-5-CONFIG_I", "", "", "",
             "%SYS-5-CONFIG_I: Configured from console"});
  CHECK(parse("<189>29: R1: .Mar  1 18:46:11 UTC: %LINK-3-UPDOWN: Interface down") ==
        Said{"local7.notice", "2027-03-01T18:46:11Z", "R1", "%LINK-3-UPDOWN", "", "", "",
             "%LINK-3-UPDOWN: Interface down"});
  CHECK(parse("<166>Oct 10 2017 11:35:41 fw-1 : %ASA-6-302013: Built inbound") ==
        Said{"local4.info", "2017-10-10T11:35:41Z", "fw-1", "%ASA-6-302013", "", "", "",
             "%ASA-6-302013: Built inbound"});
  CHECK(parse("<14>Oct 11 22:14:15 10.1.1.1 CEF:0|Vendor|x|1|2|a|5|") ==
        Said{"user.info", "2026-10-11T22:14:15Z", "10.1.1.1", "", "", "", "", "CEF:0|Vendor|x|1|2|a|5|"});
}

TEST_CASE("syslog: what may be text stays in the message", "[io][syslog]") {
  // No tag: a word of letters is no host.
  CHECK(parse("Nov 28 04:02:51 error happened").message == "error happened");
  CHECK(parse("Nov 28 04:02:51 error happened").host.empty());
  CHECK(parse("<13>ERROR: queue gone").message == "ERROR: queue gone");
  CHECK(parse("<13>api[7]: queue gone") == Said{"user.notice", "", "", "api", "7", "", "", "queue gone"});
  CHECK(parse("Nov 28 04:02:51 vm-1 app:message").message == "app:message");
  CHECK(parse("Nov 28 04:02:51 vm {\"a\": 1}").message == "vm {\"a\": 1}");
  CHECK(parse("<13>1 item failed for a b c d").message == "1 item failed for a b c d");
  CHECK(parse("<999>x").message == "<999>x");
  CHECK(parse("<13") == Said{"", "", "", "", "", "", "", "<13"});
  CHECK(parse("<13>") == Said{"user.notice", "", "", "", "", "", "", ""});
  CHECK(parse("") == Said{});
  CHECK(parse("<13>1 2026-11-28T04:02:51Z vm") ==
        Said{"user.notice", "2026-11-28T04:02:51Z", "vm", "", "", "", "", ""});
  // Structured data without an end is text; a bracket within a quoted value is no end.
  CHECK(parse("<13>1 - h a - - [id x=\"1\" rest of it").message == "[id x=\"1\" rest of it");
  CHECK(parse("<13>1 - h a - - [id x=\"a ]\\\" b\"] rest").message == "rest");
  CHECK(parse("<13>1 - h a - - [WARN]rest").message == "[WARN]rest");
}

// --- frames

struct Framed {
  std::vector<std::string> records;
  SyslogFraming::Counts counts;
  bool lost = false;
};

Framed frame(const std::string& text, SyslogFrames frames = SyslogFrames::kAuto, std::size_t max_bytes = 100,
             std::size_t piece = 1000) {
  SyslogFraming framing(frames, max_bytes);
  Framed framed;
  std::string out;
  for (std::size_t at = 0; at < text.size(); at += piece) {
    framing.take(std::string_view(text).substr(at, piece), out, framed.counts);
    CHECK(framing.held() <= max_bytes + 10);
  }
  framing.finish(out, framed.counts);
  framed.lost = framing.is_lost();
  for (std::size_t at = 0; at < out.size();) {
    const std::size_t end = out.find('\n', at);
    REQUIRE(end != std::string::npos);
    framed.records.push_back(out.substr(at, end - at));
    at = end + 1;
  }
  return framed;
}

using Texts = std::vector<std::string>;

TEST_CASE("syslog framing: told apart by what a connection begins with", "[io][syslog]") {
  const std::size_t piece = GENERATE(1U, 3U, 1000U);
  const auto records = [&](const std::string& text) {
    return frame(text, SyslogFrames::kAuto, 100, piece).records;
  };
  CHECK(records("<13>a\n<13>b\n") == Texts{"<13>a", "<13>b"});
  CHECK(records("5 <13>a6 <13>bc") == Texts{"<13>a", "<13>bc"});
  CHECK(records("7 <13>a\nb5 <13>c") == Texts{"<13>a b", "<13>c"});  // a newline within a record
  CHECK(records("6 <13>a\n5 <13>c\n5 <13>d\r\n") == Texts{"<13>a", "<13>c", "<13>d"});  // and behind one
  CHECK(records("<13>a\r\n<13>b\0<13>c\n\n"s) == Texts{"<13>a", "<13>b", "<13>c"});
  // What only looks like a count is a line, and so is everything behind it.
  CHECK(records("12 monkeys\n5 <13>a\n") == Texts{"12 monkeys", "5 <13>a"});
  CHECK(records("2026-11-28T04:02:51Z vm a: x\n") == Texts{"2026-11-28T04:02:51Z vm a: x"});
  CHECK(records("0 <13>\n") == Texts{"0 <13>"});
}

TEST_CASE("syslog framing: what is broken is counted and nothing is lost", "[io][syslog]") {
  const std::size_t piece = GENERATE(1U, 1000U);
  const auto framed = frame("5 <13>aNot counted\n5 <13>b", SyslogFrames::kAuto, 100, piece);
  CHECK(framed.records == Texts{"<13>a", "Not counted", "<13>b"});
  CHECK(framed.counts.broken == 1);
  CHECK(framed.counts.records == 3);
  const auto huge = frame("999999999 <13>a\n5 <13>b", SyslogFrames::kOctets, 100, piece);
  CHECK(huge.records == Texts{"999999999 <13>a", "<13>b"});
  CHECK(huge.counts.broken == 1);
  const auto digits = frame("12345678901234567890\n", SyslogFrames::kOctets, 100, piece);
  CHECK(digits.records == Texts{"12345678901234567890"});
  CHECK(digits.counts.broken == 1);
  // A frame that its connection cut off.
  const auto cut = frame("5 <13>a50 <13>half", SyslogFrames::kAuto, 100, piece);
  CHECK(cut.records == Texts{"<13>a", "<13>half"});
  CHECK(cut.counts.partial == 1);
  CHECK(cut.lost);
  const auto line = frame("<13>a\n<13>half", SyslogFrames::kAuto, 100, piece);
  CHECK(line.records == Texts{"<13>a", "<13>half"});
  CHECK(line.counts.partial == 1);
  CHECK_FALSE(line.lost);
}

TEST_CASE("syslog framing: a long record counts with its beginning, in bounded memory", "[io][syslog]") {
  const std::size_t piece = GENERATE(1U, 7U, 10'000U);
  const std::string body = "<13>" + std::string(3000, 'x');
  for (const bool octets : {true, false}) {
    const std::string text = octets ? "3004 " + body + "5 <13>b" : body + "\n<13>b\n";
    const auto framed = frame(text, SyslogFrames::kAuto, 20, piece);
    CHECK(framed.records == Texts{body.substr(0, 20), "<13>b"});
    CHECK(framed.counts.truncated == 1);
    CHECK(framed.counts.broken == 0);
  }
  // Not within a character; one that just fits is whole.
  CHECK(frame("<13>aa\xC3\xA4\xC3\xA4\n", SyslogFrames::kNewline, 7, piece).records == Texts{"<13>aa"});
  CHECK(frame("<13>aa\xC3\xA4\n", SyslogFrames::kNewline, 8, piece).counts.truncated == 0);
  CHECK(frame("8 <13>aaaa", SyslogFrames::kOctets, 8, piece).counts.truncated == 0);
}

TEST_CASE("syslog framing: random records in random pieces", "[io][syslog]") {
  std::mt19937 random(7);
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random()) % n; };
  for (int round = 0; round < 200; ++round) {
    const bool octets = round % 2 == 0;
    std::string text;
    Texts wanted;
    for (std::size_t i = 0; i < 1 + below(6); ++i) {
      std::string record = "<13>";
      for (std::size_t n = below(30); n > 0; --n)
        record.push_back("ab1 <[\\"[below(7)]);
      wanted.push_back(record);
      text += octets ? std::to_string(record.size()) + " " + record : record + "\n";
    }
    CAPTURE(text);
    const auto framed = frame(text, SyslogFrames::kAuto, 100, 1 + below(9));
    CHECK(framed.records == wanted);
    CHECK(framed.counts.broken + framed.counts.partial + framed.counts.truncated == 0);
  }
}

}  // namespace
}  // namespace logbell::engine

#include "sinks/email.h"

#include <algorithm>

#include <catch2/catch.hpp>

#include "sinks/http.h"
#include "tests/sinks/fixtures.h"
#include "tests/support/http_stub.h"
#include "tests/support/smtp_stub.h"

namespace {

using namespace logbell;         // NOLINT(google-build-using-namespace): a test
using namespace logbell::sinks;  // NOLINT(google-build-using-namespace)
using namespace std::chrono_literals;
using tests::FakeFields;
using tests::SmtpStub;
using Verdict = Verification::Verdict;

MailEnvelope envelope() {
  return {MailWords("logbell", 100),
          *MailAddress::from("logbell@example.com"),
          {*MailAddress::from("ops@example.com"), *MailAddress::from("oncall@example.com")}};
}

std::string message(const rules::Notification& notification, const Attempt& attempt = tests::attempt(),
                    const std::vector<std::string>& not_told = {}) {
  return email_message(notification, attempt, tests::context(), envelope(), not_told).dump();
}

// Whose lines hold nothing but ASCII, and no more than is allowed.
void check_wire(const std::string& mail) {
  for (std::size_t at = 0; at < mail.size();) {
    const std::size_t end = mail.find("\r\n", at);
    REQUIRE(end != std::string::npos);
    const std::string line = mail.substr(at, end - at);
    INFO(line);
    CHECK(line.size() <= 78);
    CHECK(std::all_of(line.begin(), line.end(), [](char c) {
      return c == '\t' || (c >= 0x20 && static_cast<unsigned char>(c) < 0x7F);
    }));
    at = end + 2;
  }
}

// As a person compares it: without the CR of each line, which check_wire() looks at.
void check_golden(const std::string& name, const std::string& mail) {
  check_wire(mail);
  std::string text = mail;
  text.erase(std::remove(text.begin(), text.end(), '\r'), text.end());
  tests::check_golden(name, text);
}

struct Settings {
  std::vector<std::string> to{"ops@example.com"};
  FakeFields::Texts more;
};

std::unique_ptr<Sink> sink_at(const SmtpStub& stub, Settings settings = {}) {
  settings.more.emplace("from", "logbell@example.com");
  settings.more.emplace("server", stub.url());
  settings.more.emplace("starttls", "none");
  FakeFields fields(settings.more);
  fields.set_list("to", settings.to);
  const std::unique_ptr<SinkConfig> config = tests::configure("email", fields);
  INFO((fields.errors.empty() ? std::string() : fields.errors.front()));
  REQUIRE(config != nullptr);
  return config->build(0, tests::context());
}

// The lines of a mail's header, folded ones joined: "Name: value".
std::vector<std::string> headers_of(const std::string& mail) {
  std::vector<std::string> headers;
  std::string head = mail.substr(0, mail.find("\r\n\r\n"));
  for (std::size_t at = 0; at < head.size();) {
    const std::size_t end = std::min(head.find("\r\n", at), head.size());
    const std::string line = head.substr(at, end - at);
    if (line.front() == ' ') {
      headers.back() += line;
    } else {
      headers.push_back(line);
    }
    at = end + 2;
  }
  return headers;
}

std::string header_of(const std::string& mail, const std::string& name) {
  for (const std::string& header : headers_of(mail)) {
    if (header.rfind(name + ": ", 0) == 0) return header.substr(name.size() + 2);
  }
  return {};
}

}  // namespace

TEST_CASE("email: what arrives", "[sinks][email]") {
  check_golden("email_firing.eml", message(tests::notification()));
}

TEST_CASE("email: delivered, with the server's own number as the receipt", "[sinks][email]") {
  SmtpStub stub;
  const auto sink = sink_at(stub, {{"ops@example.com", "oncall@example.com"}, {}});
  const Outcome outcome = sink->deliver(tests::notification(), tests::attempt());
  CHECK(outcome.detail.empty());
  CHECK(outcome.kind == Outcome::Kind::kDelivered);
  CHECK(outcome.receipt ==
        "250 2.0.0 Ok: queued as 4XyZ, as <logbell.8f2c0d1e2f3a4b5c6d7e8f9012345678@example.com>");
  CHECK_FALSE(outcome.truncated);
  std::vector<std::string> commands = stub.commands();
  REQUIRE(commands.size() >= 5);
  CHECK(commands[1] == "MAIL FROM:<logbell@example.com>");
  CHECK(commands[2] == "RCPT TO:<ops@example.com>");
  CHECK(commands[3] == "RCPT TO:<oncall@example.com>");
  CHECK(commands[4] == "DATA");
  REQUIRE(stub.messages().size() == 1);
  check_wire(stub.messages()[0]);
}

TEST_CASE("email: one id for each notification, one thread for each episode", "[sinks][email]") {
  const std::string first = message(tests::notification());
  Attempt later = tests::attempt();
  later.number = 7;
  later.now += 1h;
  CHECK(header_of(message(tests::notification(), later), "Message-ID") == header_of(first, "Message-ID"));
  CHECK(header_of(first, "Message-ID") == "<logbell.8f2c0d1e2f3a4b5c6d7e8f9012345678@example.com>");
  const std::string thread = header_of(first, "References");
  CHECK_FALSE(thread.empty());
  CHECK(header_of(first, "In-Reply-To") == thread);

  rules::Notification end = tests::resolved_notification();
  end.key = "0000000000000000";
  CHECK(header_of(message(end), "References") == thread);
  CHECK(header_of(message(end), "Message-ID") != header_of(first, "Message-ID"));
  end.group_began += 1h;  // it fired again
  CHECK(header_of(message(end), "References") != thread);
  rules::Notification other = tests::notification();
  other.group_key = "{}:{alertname=\"Other\"}";
  CHECK(header_of(message(other), "References") != thread);
  // What belongs to no group is no part of any thread.
  rules::Notification text = tests::text_notification(rules::NotifyReason::kSummary, "one line");
  text.group_key.clear();
  CHECK(header_of(message(text), "References") == "<thread." + text.key + "@example.com>");
}

TEST_CASE("email: the subject says what it is, and what it is now", "[sinks][email]") {
  const auto subject = [](const rules::Notification& notification) {
    return header_of(message(notification), "Subject");
  };
  // [FIRING, critical] QueueUnreachable · orders-api · production
  CHECK(subject(tests::notification()) ==
        "=?utf-8?B?W0ZJUklORywgY3JpdGljYWxdIFF1ZXVlVW5yZWFjaGFibGUgwrcg?= "
        "=?utf-8?B?b3JkZXJzLWFwaSDCtyBwcm9kdWN0aW9u?=");
  rules::Alert plain = tests::queue_alert();
  plain.labels = {{"alertname", "Boom"}};
  const auto in_short = [&](std::vector<rules::Alert> alerts, rules::NotifyReason reason) {
    return header_of(
        email_message(tests::notification(std::move(alerts), reason), tests::attempt(), {}, envelope(), {})
            .dump(),
        "Subject");
  };
  CHECK(in_short({plain}, rules::NotifyReason::kFirstFiring) == "[FIRING] Boom");
  CHECK(in_short({plain}, rules::NotifyReason::kRepeat) == "[STILL FIRING] Boom");
  rules::Alert over = plain;
  over.state = rules::AlertState::kResolved;
  over.resolved_at = over.fired_at + 1min;
  CHECK(in_short({plain, plain, over}, rules::NotifyReason::kNewAlerts) == "[2 FIRING, 1 RESOLVED] Boom");
  CHECK(in_short({over}, rules::NotifyReason::kAllResolved) == "[RESOLVED] Boom");
  // A value that looks like an encoded word is none.
  plain.labels = {{"alertname", "=?utf-8?B?Zm9v?="}};
  CHECK(in_short({plain}, rules::NotifyReason::kFirstFiring).find("=?utf-8?B?W0ZJ") == 0);
}

TEST_CASE("email: what is told of an end, of several, of a text", "[sinks][email]") {
  check_golden("email_resolved.eml", message(tests::resolved_notification()));
  rules::Alert over = tests::queue_alert("orders-b");
  over.state = rules::AlertState::kResolved;
  over.resolved_at = tests::start() + 2s;
  check_golden("email_several.eml", message(tests::notification({tests::queue_alert("orders-a"), over})));
  check_golden("email_refused.eml",
               message(tests::text_notification(rules::NotifyReason::kRefused,
                                                "logbell.yaml:3:1: no sinks\nlogbell.yaml:4:1: no rules")));
  rules::Notification drill = tests::notification({tests::queue_alert()}, rules::NotifyReason::kDrill);
  drill.drill = "d1";
  check_golden("email_drill.eml", message(drill));
  rules::Notification late = tests::notification();
  late.fallback_for = "oncall";
  Attempt again = tests::attempt();
  again.maybe_sent = true;
  check_golden("email_notes.eml", message(late, again, {"bob@example.com (550 5.1.1 no such user)"}));
}

TEST_CASE("email: hostile text is text", "[sinks][email]") {
  const std::size_t usual = headers_of(message(tests::notification())).size();
  for (const std::string& text : tests::hostile_texts()) {
    INFO(text);
    rules::Alert alert = tests::queue_alert(text);
    alert.labels.set("alertname", text);
    alert.labels.set("service", text);
    alert.labels.set("severity", text);
    std::string description = text;
    description.append("\n.\n").append(text);
    alert.annotations = {{"summary", text}, {"description", description}, {"runbook_url", text}};
    alert.first_line->text = text;
    alert.last_line->text = text;
    alert.top_values = {{text, {{text, 1}}}};
    rules::Notification notification = tests::notification({alert});
    notification.key = text;
    notification.group_labels.set("queue", text);
    const std::string mail = message(notification, tests::attempt(), {text});
    check_wire(mail);
    const std::vector<std::string> headers = headers_of(mail);
    CHECK(headers.size() <= usual);  // "Importance" comes with a severity that is known
    for (const std::string& header : headers)
      CHECK(header.rfind("Bcc", 0) != 0);
    CHECK(mail.find("\r\n.\r\n") == std::string::npos);
    CHECK(header_of(mail, "To") == "ops@example.com, oncall@example.com");
  }
}

TEST_CASE("email: nothing in a log becomes a link by itself", "[sinks][email]") {
  CHECK(MailText("see https://evil.example/x", 100).str() == "see https∶//evil.example/x");
  const std::string mail = message(tests::notification());
  CHECK(mail.find("Runbook: https://wiki.example.com/queue") != std::string::npos);
}

TEST_CASE("email: F48 long values are cut between two characters, and the message says so",
          "[sinks][email][F48]") {
  SmtpStub stub;
  const auto sink = sink_at(stub);
  std::string family;
  while (family.size() < 20UL * 1024)
    family += "👩‍👩‍👧";
  const Outcome outcome = sink->deliver(tests::notification({tests::queue_alert(family)}), tests::attempt());
  CHECK(outcome.kind == Outcome::Kind::kDelivered);
  CHECK(outcome.truncated);
  check_wire(stub.messages().at(0));
  // A hundred alerts, which is the most that come at once, are all in it.
  std::vector<rules::Alert> many;
  for (int i = 0; i < 100; ++i)
    many.push_back(tests::queue_alert("orders-" + std::to_string(i)));
  const Outcome whole = sink->deliver(tests::notification(many), tests::attempt());
  CHECK_FALSE(whole.truncated);
  CHECK(stub.messages().at(1).find("queue orders-99:") != std::string::npos);
}

TEST_CASE("email: F48 what is refused for what it is goes once more, in short", "[sinks][email][F48]") {
  SmtpStub stub;
  const auto sink = sink_at(stub);
  SECTION("after the message") {
    stub.then("END", "552 5.3.4 too large");
  }
  SECTION("a filter does not like it") {
    stub.then("END", "554 5.7.1 looks like spam");
  }
  SECTION("before it") {
    stub.then("MAIL", "552 5.3.4 too large");
  }
  SECTION("it is known to be too large") {
    stub.offer({"SIZE 5000"});
  }
  const Outcome outcome = sink->deliver(tests::notification(), tests::attempt());
  CHECK(outcome.kind == Outcome::Kind::kDelivered);
  CHECK(outcome.truncated);
  CHECK(outcome.detail.rfind("sent in short: ", 0) == 0);
  REQUIRE(stub.messages().size() == 1);
  CHECK(stub.messages()[0].find("API cannot reach queue orders-foobar") != std::string::npos);
  CHECK(stub.messages()[0].find("QueueNotFoundException") == std::string::npos);
  CHECK(header_of(stub.messages()[0], "Message-ID") ==
        header_of(message(tests::notification()), "Message-ID"));
}

TEST_CASE("email: F48 or not: then this message is refused, not the server", "[sinks][email][F48]") {
  SmtpStub stub;
  const auto sink = sink_at(stub);
  stub.then("END", "554 5.7.1 looks like spam");
  stub.then("END", "554 5.7.1 still looks like spam");
  const Outcome outcome = sink->deliver(tests::notification(), tests::attempt());
  CHECK(outcome.kind == Outcome::Kind::kRejected);
  CHECK(outcome.reason == Reason::kBadRequest);
  CHECK_FALSE(outcome.sink_is_dead);
  CHECK(outcome.detail == "the message -> 554 5.7.1 still looks like spam");
}

TEST_CASE("email: what each answer means", "[sinks][email][F39][F40][F41]") {
  struct Row {
    const char* story;
    const char* to;
    const char* answer;
    Outcome::Kind kind;
    Reason reason;
    bool dead;
  };
  constexpr Outcome::Kind kRetry = Outcome::Kind::kRetry;
  constexpr Outcome::Kind kRejected = Outcome::Kind::kRejected;
  const std::vector<Row> rows = {
      {"busy", "greeting", "421 4.7.0 too many of you", kRetry, Reason::kServerError, false},
      {"no service for us", "greeting", "554 5.7.1 blocked", kRejected, Reason::kGone, true},
      {"it knows HELO alone, and so no passwords", "EHLO", "502 5.5.1 what?", kRejected, Reason::kAuth, true},
      {"a wrong password", "AUTH", "535 5.7.8 no", kRejected, Reason::kAuth, true},
      {"its users are not there now", "AUTH", "454 4.7.0 later", kRetry, Reason::kServerError, false},
      {"it closes while we log in", "AUTH", "421 4.3.0 closing", kRetry, Reason::kServerError, false},
      {"it wants a password", "MAIL", "530 5.7.0 authenticate first", kRejected, Reason::kAuth, true},
      {"not from this address", "MAIL", "553 5.7.1 not yours", kRejected, Reason::kAuth, true},
      {"it is full", "MAIL", "452 4.3.1 no room", kRetry, Reason::kServerError, false},
      {"nobody there", "RCPT", "550 5.1.1 no such user", kRejected, Reason::kGone, true},
      {"no relay", "RCPT", "554 5.7.1 relay access denied", kRejected, Reason::kGone, true},
      {"greylisted", "RCPT", "450 4.2.0 greylisted", kRetry, Reason::kServerError, false},
      {"it closes at the recipient", "RCPT", "421 4.3.0 closing", kRetry, Reason::kServerError, false},
      {"it changes its mind", "DATA", "451 4.3.0 later", kRetry, Reason::kServerError, false},
      {"it has to look at it again", "END", "451 4.3.0 scanner is away", kRetry, Reason::kServerError, false},
      {"no answer at all", "greeting", "close", kRetry, Reason::kConnect, false},
      {"no answer to the recipient", "RCPT", "close", kRetry, Reason::kConnect, false},
      {"it is somebody else", "MAIL", "HTTP/1.1 400 Bad Request", kRetry, Reason::kBadResponse, false},
      {"it says yes where there is more to do", "DATA", "250 ok", kRetry, Reason::kBadResponse, false},
  };
  for (const Row& row : rows) {
    INFO(row.story);
    SmtpStub stub;
    stub.offer({"AUTH PLAIN LOGIN"});
    const auto sink =
        sink_at(stub, {{"ops@example.com"}, {{"username", "logbell"}, {"password", "SECRETSECRET"}}});
    stub.then(row.to, row.answer);
    const Outcome outcome = sink->deliver(tests::notification(), tests::attempt(5s));
    CHECK(outcome.kind == row.kind);
    CHECK(outcome.reason == row.reason);
    CHECK(outcome.sink_is_dead == row.dead);
    CHECK(outcome.detail.find("SECRET") == std::string::npos);
    CHECK_FALSE(outcome.detail.empty());
    CHECK(stub.messages().empty());
    // And then it works.
    CHECK(sink->deliver(tests::notification(), tests::attempt()).kind == Outcome::Kind::kDelivered);
    CHECK(stub.messages().size() == 1);
  }
}

TEST_CASE("email: nobody logs in where nobody can", "[sinks][email]") {
  SmtpStub stub;
  const Settings settings{{"ops@example.com"}, {{"username", "logbell"}, {"password", "SECRETSECRET"}}};
  const auto sink = sink_at(stub, settings);
  std::string detail = "AUTH -> the mail server lets nobody log in";
  SECTION("it offers nothing") {
    detail += " here";
  }
  SECTION("it offers what shows the password to none") {
    stub.offer({"AUTH GSSAPI CRAM-MD5"});
    detail += " with PLAIN or LOGIN";
  }
  const Outcome outcome = sink->deliver(tests::notification(), tests::attempt());
  CHECK(outcome.kind == Outcome::Kind::kRejected);
  CHECK(outcome.reason == Reason::kAuth);
  CHECK(outcome.sink_is_dead);
  CHECK(outcome.detail == detail);
  CHECK(stub.messages().empty());
}

TEST_CASE("email: F44 nothing is sent in plain text where STARTTLS is asked for", "[sinks][email][F44]") {
  SmtpStub stub;
  const auto sink = sink_at(stub, {{"ops@example.com"}, {{"starttls", "required"}}});
  const Outcome outcome = sink->deliver(tests::notification(), tests::attempt());
  CHECK(outcome.kind == Outcome::Kind::kRejected);
  CHECK(outcome.reason == Reason::kTls);
  CHECK(outcome.sink_is_dead);
  CHECK(outcome.detail ==
        "STARTTLS -> the mail server does not offer STARTTLS: nothing is sent in plain text");
  // It is not there for the moment.
  stub.offer({"STARTTLS"});
  stub.then("STARTTLS", "454 4.7.0 TLS not available due to temporary reason");
  const Outcome later = sink->deliver(tests::notification(), tests::attempt());
  CHECK(later.kind == Outcome::Kind::kRetry);
  CHECK(later.reason == Reason::kTls);
  for (const std::string& command : stub.commands())
    CHECK(command.rfind("MAIL", 0) != 0);
}

TEST_CASE("email: whom one transaction has no room for gets the next", "[sinks][email][F40]") {
  SmtpStub stub;
  stub.then("RCPT", "250 2.1.5 Ok");
  stub.then("RCPT", "452 4.5.3 too many recipients");
  stub.then("RCPT", "550 5.1.1 no such user");
  const auto sink = sink_at(stub, {{"a@example.com", "b@example.com", "c@example.com"}, {}});
  const Outcome outcome = sink->deliver(tests::notification(), tests::attempt());
  CHECK(outcome.kind == Outcome::Kind::kDelivered);
  CHECK(outcome.detail == "not told: c@example.com (550 5.1.1 no such user)");
  CHECK(stub.messages().size() == 2);
  std::vector<std::string> asked;
  for (const std::string& command : stub.commands()) {
    if (command.rfind("RCPT", 0) == 0) asked.push_back(command.substr(9, 1));
  }
  CHECK(asked == std::vector<std::string>{"a", "b", "c", "b"});
  // And it ends where there is no end to it.
  stub.recipient("b@example.com", "452 4.5.3 too many recipients");
  const Outcome never = sink->deliver(tests::notification(), tests::attempt());
  CHECK(never.kind == Outcome::Kind::kDelivered);
  CHECK(never.detail.find("not told: b@example.com") != std::string::npos);
}

TEST_CASE("email: what is refused with the connection closed goes in short over another", "[sinks][email][F48]") {
  SmtpStub stub;
  stub.then("END", "554 5.7.1 looks like spam");
  stub.then("RSET", SmtpStub::kClose);
  const auto sink = sink_at(stub, {{"ops@example.com"}, {}});
  const Outcome outcome = sink->deliver(tests::notification(), tests::attempt());
  CHECK(outcome.kind == Outcome::Kind::kDelivered);
  CHECK(outcome.truncated);
  CHECK(outcome.detail.find("554 5.7.1 looks like spam") != std::string::npos);
  // Where there is no other, it is as it was said.
  stub.then("END", "554 5.7.1 looks like spam");
  stub.then("RSET", SmtpStub::kClose);
  stub.then("greeting", "220 hello");
  stub.then("greeting", SmtpStub::kClose);
  const Outcome refused = sink->deliver(tests::notification(), tests::attempt());
  CHECK(refused.kind == Outcome::Kind::kRejected);
  CHECK(refused.detail.find("554") != std::string::npos);
}

TEST_CASE("email: the other connection has the time that is left", "[sinks][email][F48]") {
  SmtpStub stub;
  stub.then("END", "554 5.7.1 looks like spam");
  stub.then("RSET", SmtpStub::kHang);
  const Outcome outcome = sink_at(stub, {{"ops@example.com"}, {}})->deliver(tests::notification(), tests::attempt(300ms));
  CHECK(outcome.kind == Outcome::Kind::kRejected);
  CHECK(outcome.detail.find("554") != std::string::npos);
  CHECK(stub.messages().empty());
}

TEST_CASE("email: those whom the server refuses are named to those who are told", "[sinks][email][F40]") {
  SmtpStub stub;
  stub.recipient("bob@example.com", "550 5.1.1 no such user");
  stub.recipient("eve@example.com", "450 4.2.0 greylisted");
  const auto sink = sink_at(stub, {{"bob@example.com", "ops@example.com", "eve@example.com"}, {}});
  const Outcome outcome = sink->deliver(tests::notification(), tests::attempt());
  CHECK(outcome.kind == Outcome::Kind::kDelivered);
  CHECK(outcome.detail ==
        "not told: bob@example.com (550 5.1.1 no such user); eve@example.com (450 4.2.0 greylisted)");
  REQUIRE(stub.messages().size() == 1);
  CHECK(stub.messages()[0].find("Note: The mail server refuses bob@example.com (550 5.1.1 no such user)") !=
        std::string::npos);

  // Nobody at all: come again while one of them may yet be taken.
  stub.recipient("ops@example.com", "550 5.1.1 no such user");
  CHECK(sink->deliver(tests::notification(), tests::attempt()).kind == Outcome::Kind::kRetry);
  stub.recipient("eve@example.com", "551 5.1.6 moved");
  const Outcome nobody = sink->deliver(tests::notification(), tests::attempt());
  CHECK(nobody.kind == Outcome::Kind::kRejected);
  CHECK(nobody.sink_is_dead);
  CHECK(nobody.detail.find("eve@example.com (551 5.1.6 moved)") != std::string::npos);
  CHECK(stub.messages().size() == 1);
}

TEST_CASE("email: F42 a server that says nothing costs the deadline, and what may have arrived is unknown",
          "[sinks][email][F42][F43]") {
  SmtpStub stub;
  const auto sink = sink_at(stub);
  for (const char* to : {"greeting", "EHLO", "MAIL", "RCPT", "DATA"}) {
    INFO(to);
    stub.then(to, SmtpStub::kHang);
    const Outcome outcome = sink->deliver(tests::notification(), tests::attempt(150ms));
    CHECK(outcome.kind == Outcome::Kind::kRetry);
    CHECK(outcome.reason == Reason::kTimeout);
  }
  for (const std::string_view answer :
       {SmtpStub::kHang, SmtpStub::kClose, std::string_view("HTTP/1.1 200 OK")}) {
    stub.then("END", answer);
    const Outcome lost = sink->deliver(tests::notification(), tests::attempt(150ms));
    CHECK(lost.kind == Outcome::Kind::kUnknown);
    CHECK(lost.reason == Reason::kResponseLost);
    CHECK(lost.detail.rfind("the message -> sent, but the answer was lost: ", 0) == 0);
  }
  CHECK(sink->deliver(tests::notification(), tests::attempt()).kind == Outcome::Kind::kDelivered);
}

TEST_CASE("email: what is said to the server ends where it should", "[sinks][email]") {
  SmtpStub stub;
  SmtpOptions options;
  options.server = *parse_mail_server(stub.url());
  options.starttls = StartTls::kNone;
  SmtpClient client(HttpOptions(), options);
  for (const char* text : {".a\r\n.\r\n..\r\nb.\r\n", "no end of a line"}) {
    REQUIRE(client.open(5s).is(200, 299));
    CHECK(client.command("MAIL FROM:<a@b.c>").is(250, 250));
    CHECK(client.command("RCPT TO:<a@b.c>").is(250, 250));
    CHECK(client.command("DATA").is(354, 354));
    CHECK(client.data(text).text == "2.0.0 Ok: queued as 4XyZ");
    client.close();
    CHECK(client.command("NOOP").kind == SmtpResult::Kind::kNotSent);
  }
  CHECK(stub.messages() == std::vector<std::string>{".a\r\n.\r\n..\r\nb.\r\n", "no end of a line\r\n"});
}

TEST_CASE("email: an answer without an end is none", "[sinks][email][F41]") {
  SmtpStub stub;
  const auto sink = sink_at(stub);
  std::string endless;
  while (endless.size() < 128UL * 1024)
    endless += "250-and more\r\n";
  for (const char* to : {"EHLO", "MAIL"}) {
    stub.then(to, endless + "250 at last");
    const Outcome outcome = sink->deliver(tests::notification(), tests::attempt());
    INFO(outcome.detail);
    CHECK(outcome.kind == Outcome::Kind::kRetry);
  }
  stub.then("END", endless + "250 at last");
  CHECK(sink->deliver(tests::notification(), tests::attempt()).kind == Outcome::Kind::kUnknown);
}

TEST_CASE("email: F42 nor does one that does not let go", "[sinks][email][F42]") {
  SmtpStub stub;
  stub.then("QUIT", SmtpStub::kHang);
  CHECK(sink_at(stub)->deliver(tests::notification(), tests::attempt()).kind == Outcome::Kind::kDelivered);
}

TEST_CASE("email: F46 a proxy that was named is asked to connect, and what it does is said",
          "[sinks][email][F46]") {
  tests::HttpStub proxy;
  FakeFields fields(
      {{"from", "logbell@example.com"}, {"server", "smtp://mail.example.com:587"}, {"proxy", proxy.url("")}});
  fields.set_list("to", {"ops@example.com"});
  const auto config = tests::configure("email", fields);
  REQUIRE(config != nullptr);
  proxy.then(tests::StubStep::answer(403, "not that port"));
  const Outcome outcome = config->build(0, {})->deliver(tests::notification(), tests::attempt(3s));
  CHECK(outcome.kind == Outcome::Kind::kRejected);
  CHECK(outcome.reason == Reason::kProxy);
  CHECK(outcome.detail == "connect -> the proxy answered 403");
  REQUIRE(proxy.requests().size() == 1);
  CHECK(proxy.requests()[0].method == "CONNECT");
  CHECK(proxy.requests()[0].target == "mail.example.com:587");
}

TEST_CASE("email: nobody there", "[sinks][email][F45]") {
  std::string url;
  {
    const SmtpStub stub;
    url = stub.url();
  }
  const auto outcome_at = [](const std::string& server) {
    FakeFields fields({{"from", "logbell@example.com"}, {"server", server}, {"proxy", "none"}});
    fields.set_list("to", {"ops@example.com"});
    const auto config = tests::configure("email", fields);
    REQUIRE(config != nullptr);
    return config->build(0, {})->deliver(tests::notification(), tests::attempt(3s));
  };
  const Outcome refused = outcome_at(url);
  CHECK(refused.kind == Outcome::Kind::kRetry);
  CHECK(refused.reason == Reason::kConnect);
  const Outcome unknown = outcome_at("smtp://no-such-host.invalid:587");
  CHECK(unknown.kind == Outcome::Kind::kRetry);
  CHECK(unknown.reason == Reason::kDns);
}

TEST_CASE("email: a message is asked after up to its recipients, and called off",
          "[sinks][verify][email][F52]") {
  struct Row {
    const char* story;
    const char* to;
    const char* answer;
    Verdict verdict;
    ProofLevel level;
    Reason reason;
  };
  const std::vector<Row> rows = {
      {"all is well", "RCPT", "250 2.1.5 Ok", Verdict::kLive, ProofLevel::kDestination, Reason::kOk},
      {"not here, but it will be forwarded", "RCPT", "251 will forward", Verdict::kLive,
       ProofLevel::kDestination, Reason::kOk},
      {"no such user", "RCPT", "550 5.1.1 no such user SECRETSECRET", Verdict::kDead, ProofLevel::kCredential,
       Reason::kGone},
      {"greylisted", "RCPT", "450 4.2.0 greylisted", Verdict::kUnknown, ProofLevel::kNetwork,
       Reason::kServerError},
      {"it cannot look now", "RCPT", "451 4.3.0 later", Verdict::kUnknown, ProofLevel::kNetwork,
       Reason::kServerError},
      {"not from here", "RCPT", "530 5.7.0 authenticate first", Verdict::kDead, ProofLevel::kCredential,
       Reason::kAuth},
      {"not from this address", "MAIL", "553 5.7.1 not yours", Verdict::kDead, ProofLevel::kCredential,
       Reason::kAuth},
      {"it is full", "MAIL", "452 4.3.1 no room", Verdict::kUnknown, ProofLevel::kNetwork,
       Reason::kServerError},
      {"a wrong password", "AUTH", "535 5.7.8 no", Verdict::kDead, ProofLevel::kNetwork, Reason::kAuth},
      {"its users are not there now", "AUTH", "454 4.7.0 later", Verdict::kUnknown, ProofLevel::kNetwork,
       Reason::kServerError},
      {"blocked", "greeting", "554 5.7.1 blocked", Verdict::kDead, ProofLevel::kNetwork, Reason::kGone},
      {"busy", "greeting", "421 4.7.0 too many", Verdict::kUnknown, ProofLevel::kNetwork,
       Reason::kServerError},
      {"no answer", "EHLO", "close", Verdict::kUnknown, ProofLevel::kStatic, Reason::kConnect},
      {"no answer to the recipient", "RCPT", "close", Verdict::kUnknown, ProofLevel::kStatic,
       Reason::kConnect},
  };
  for (const Row& row : rows) {
    INFO(row.story);
    SmtpStub stub;
    stub.offer({"AUTH LOGIN PLAIN"});
    const auto sink =
        sink_at(stub, {{"ops@example.com"}, {{"username", "logbell"}, {"password", "SECRETSECRET"}}});
    stub.then(row.to, row.answer);
    const Verification found = sink->verify(tests::attempt(5s));
    INFO(found.evidence);
    CHECK(found.verdict == row.verdict);
    CHECK(found.level == row.level);
    CHECK(found.reason == row.reason);
    CHECK(found.evidence.find("SECRET") == std::string::npos);
    CHECK_FALSE(found.evidence.empty());
    const std::vector<std::string> commands = stub.commands();
    CHECK(std::find(commands.begin(), commands.end(), "DATA") == commands.end());
    if (row.verdict == Verdict::kLive) {
      REQUIRE(commands.size() >= 2);
      CHECK(commands[commands.size() - 1 - (commands.back() == "QUIT" ? 1 : 0)] == "RSET");
    }
    CHECK(stub.messages().empty());
  }
}

TEST_CASE("email: of several recipients some are refused", "[sinks][verify][email][F52]") {
  SmtpStub stub;
  const auto sink = sink_at(stub, {{"ops@example.com", "bob@example.com"}, {}});
  Verification found = sink->verify(tests::attempt());
  CHECK(found.verdict == Verdict::kLive);
  CHECK(found.evidence == "RCPT TO 2 of 2 recipients -> taken; in plain text");
  stub.recipient("bob@example.com", "550 5.1.1 no such user");
  found = sink->verify(tests::attempt());
  CHECK(found.verdict == Verdict::kLive);
  CHECK(found.level == ProofLevel::kDestination);
  CHECK(found.reason == Reason::kPartlyRefused);
  CHECK(found.evidence ==
        "1 of 2 recipients are taken, the others refused: RCPT TO bob@example.com -> 550 5.1.1 no such user; "
        "in plain "
        "text");
  // One of whom nothing is known: nothing is known of the whole, and it is not asked again at once.
  stub.recipient("ops@example.com", "450 4.2.0 greylisted");
  found = sink->verify(tests::attempt());
  CHECK(found.verdict == Verdict::kUnknown);
  CHECK(found.retry_after == rules::Duration(15min));
  stub.recipient("ops@example.com", "550 5.1.1 no such user");
  found = sink->verify(tests::attempt());
  CHECK(found.verdict == Verdict::kDead);
  CHECK(found.reason == Reason::kGone);
  CHECK(stub.messages().empty());
}

TEST_CASE("email: a host's name of one's own is said", "[sinks][email]") {
  SmtpStub stub;
  const auto sink = sink_at(stub, {{"ops@example.com"}, {{"hello", "alerts.example.com"}}});
  CHECK(sink->deliver(tests::notification(), tests::attempt()).kind == Outcome::Kind::kDelivered);
  CHECK(stub.commands().at(0) == "EHLO alerts.example.com");
}

TEST_CASE("email: what is wrong is said with its field and without the secret", "[sinks][email]") {
  struct Row {
    const char* story;
    std::vector<std::string> to;
    FakeFields::Texts texts;
    const char* error;
  };
  const FakeFields::Texts good{{"from", "a@example.com"}, {"server", "smtp://mail:587"}};
  const auto with = [&](const FakeFields::Texts& more) {
    FakeFields::Texts all = more;
    all.insert(good.begin(), good.end());
    return all;
  };
  const FakeFields::Texts login{{"username", "u"}, {"password", "SECRETSECRET"}};
  const auto login_and = [&](const FakeFields::Texts& more) {
    FakeFields::Texts all = with(more);
    all.insert(login.begin(), login.end());
    return all;
  };
  const std::vector<Row> rows = {
      {"no @", {"ops"}, good, "to: \"ops\" is no mail address: it has no @"},
      {"as Alertmanager writes several",
       {"a@b.c, d@e.f"},
       good,
       "to: \"a@b.c, d@e.f\" is no mail address: there"},
      {"a name", {"Ops <a@b.c>"}, good, "to: \"Ops <a@b.c>\" is no mail address: it has something"},
      {"two lines", {"a@b.c\r\nRCPT TO:<x@y.z>"}, good, "to: \"a@b.c"},
      {"an end", {"a@b.c>"}, good, "to: \"a@b.c>\" is no mail"},
      {"no host", {"a@"}, good, "to: \"a@\" is no mail"},
      {"an empty label", {"a@b..c"}, good, "to: \"a@b..c\" is no mail"},
      {"beyond ASCII",
       {"jürgen@b.c"},
       good,
       "to: \"jürgen@b.c\" is no mail address: it has letters beyond ASCII"},
      {"twice", {"a@b.c", "a@b.c"}, good, "to: a@b.c is named twice"},
      {"a bad sender", {"a@b.c"}, with({{"from", "nobody"}}), "from: \"nobody\" is no mail address"},
      {"no scheme", {"a@b.c"}, with({{"server", "mail:587"}}), "server: as a mail server: this is no URL"},
      {"another scheme",
       {"a@b.c"},
       with({{"server", "https://mail"}}),
       "server: as a mail server: the URL's scheme is neither smtps nor smtp"},
      {"a password in it",
       {"a@b.c"},
       with({{"server", "smtp://u:SECRETSECRET@mail"}}),
       "server: as a mail server: the URL has a user or a password"},
      {"a path",
       {"a@b.c"},
       with({{"server", "smtp://mail/x"}}),
       "server: as a mail server: something follows"},
      {"the metadata service",
       {"a@b.c"},
       with({{"server", "smtp://169.254.169.254"}}),
       "server: the address"},
      {"a word", {"a@b.c"}, with({{"starttls", "yes"}}), "starttls: \"yes\" is none of"},
      {"nothing to start",
       {"a@b.c"},
       with({{"server", "smtps://mail"}, {"starttls", "required"}}),
       "starttls: smtps:// is encrypted"},
      {"a password for everybody to see",
       {"a@b.c"},
       login_and({{"starttls", "none"}}),
       "starttls: the password"},
      {"or for whoever asks", {"a@b.c"}, login_and({{"starttls", "if_available"}}), "starttls: the password"},
      {"a password without a user", {"a@b.c"}, with({{"password", "SECRETSECRET"}}), "password: there is"},
      {"a user without a password", {"a@b.c"}, with({{"username", "u"}}), "password: missing"},
      {"a name with a line", {"a@b.c"}, with({{"hello", "a\r\nb"}}), "hello: \"a"},
      {"nobody", {}, good, "to: nobody is named"},
  };
  for (const Row& row : rows) {
    INFO(row.story);
    FakeFields fields(row.texts);
    fields.set_list("to", row.to);
    CHECK(tests::configure("email", fields) == nullptr);
    REQUIRE(fields.errors.size() == 1);
    INFO(fields.errors.front());
    CHECK(fields.errors.front().rfind(row.error, 0) == 0);
    CHECK(fields.errors.front().find("SECRET") == std::string::npos);
    CHECK(fields.errors.front().find_first_of("\r\n") == std::string::npos);
  }
  std::vector<std::string> crowd;
  for (int i = 0; i < 101; ++i)
    crowd.push_back("user" + std::to_string(i) + "@example.com");
  FakeFields many(good);
  many.set_list("to", crowd);
  CHECK(tests::configure("email", many) == nullptr);
  CHECK(many.errors.size() == 1);
}

TEST_CASE("email: good configurations say where they lead, and no secret", "[sinks][email]") {
  struct Row {
    std::vector<std::string> to;
    FakeFields::Texts texts;
    const char* destination;
    std::size_t secrets;
  };
  const std::vector<Row> rows = {
      {{"ops@example.com"},
       {{"from", "a@b.c"}, {"server", "smtp://mail:587"}},
       "ops@example.com by smtp://mail:587",
       0},
      {{"ops@example.com", "x@y.z"},
       {{"from", "Alerts, \"orders\" <a@b.c>"},
        {"server", "smtps://mail"},
        {"username", "u"},
        {"password", "p"}},
       "ops@example.com and 1 more by smtps://mail",
       1},
      {{"root@localhost"},
       {{"from", "a@b.c"},
        {"server", "smtp://localhost"},
        {"starttls", "none"},
        {"username", "u"},
        {"password", "p"}},
       "root@localhost by smtp://localhost",
       1},
      {{"a@b.c"},
       {{"from", "a@b.c"}, {"server", "smtp://relay:25"}, {"starttls", "none"}},
       "a@b.c by smtp://relay:25",
       0},
  };
  for (const Row& row : rows) {
    FakeFields fields(row.texts);
    fields.set_list("to", row.to);
    const auto config = tests::configure("email", fields);
    INFO((fields.errors.empty() ? std::string() : fields.errors.front()));
    REQUIRE(config != nullptr);
    CHECK(config->destination() == row.destination);
    CHECK(config->secrets().size() == row.secrets);
    CHECK(config->build(0, {}) != nullptr);
  }
  FakeFields assumed(
      {{"from", "assumed"}, {"server", "assumed"}, {"username", "assumed"}, {"password", "assumed"}});
  assumed.set_list("to", {"assumed", "assumed"});
  assumed.assume(true);
  CHECK(tests::configure("email", assumed) != nullptr);
  CHECK(assumed.errors.empty());
}

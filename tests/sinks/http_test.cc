#include "sinks/http.h"

#include <array>
#include <ctime>

#include <arpa/inet.h>
#include <catch2/catch.hpp>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sinks/expect.h"
#include "tests/sinks/fixtures.h"
#include "tests/support/http_stub.h"

namespace {

using namespace logbell;         // NOLINT(google-build-using-namespace): a test
using namespace logbell::sinks;  // NOLINT(google-build-using-namespace)
using namespace std::chrono_literals;
using rules::Duration;
using rules::Secret;
using tests::HttpStub;
using tests::StubStep;
using Kind = HttpResult::Kind;

HttpRequest request_to(const std::string& url, Duration timeout = 10s) {
  HttpRequest request;
  request.url = Secret(url);
  request.body = R"({"a":1})";
  request.timeout = timeout;
  request.now = tests::start();
  return request;
}

std::string address(const char* text) {
  std::array<char, 16> bytes{};
  if (inet_pton(AF_INET, text, bytes.data()) == 1) return {bytes.data(), 4};
  REQUIRE(inet_pton(AF_INET6, text, bytes.data()) == 1);
  return {bytes.data(), 16};
}

std::string error_of(std::string_view url) {
  const rules::Result<Url> parsed = parse_url(url);
  return parsed ? "" : parsed.error().message;
}

}  // namespace

TEST_CASE("http: a URL is read into its parts", "[sinks][http]") {
  const rules::Result<Url> url = parse_url("https://Hooks.Slack.com/services/T1/B2/abc?x=1");
  REQUIRE(url);
  CHECK(url->scheme == "https");
  CHECK(url->host == "hooks.slack.com");
  CHECK(url->port == 443);
  CHECK(url->path == "/services/T1/B2/abc?x=1");
  CHECK(url->shown == "https://hooks.slack.com");
  CHECK(parse_url("http://[::1]:9093/x")->host == "::1");
  CHECK(parse_url("http://[::1]:9093/x")->shown == "http://[::1]:9093");
  CHECK(parse_url("http://localhost:1")->is_loopback());
  CHECK(parse_url("http://127.8.8.8")->is_loopback());
  CHECK(parse_url("http://[::1]/")->is_loopback());
  CHECK_FALSE(parse_url("http://localhost.evil.example")->is_loopback());
  CHECK_FALSE(parse_url("http://127.0.0.1.evil.example")->is_loopback());
  CHECK_FALSE(parse_url("http://10.0.0.1")->is_loopback());
}

TEST_CASE("http: what is no URL is refused without repeating it", "[sinks][http]") {
  for (const char* bad :
       {"", "hooks.slack.com/services/SECRETSECRET", "ftp://SECRETSECRET/", "file:///etc/SECRETSECRET",
        "https://user:SECRETSECRET@host/", "https://SECRETSECRET@host/", "https://host/SECRETSECRET#fragment",
        "https:///SECRETSECRET", "https://host:99999/SECRETSECRET", "https://host/SECRET SECRET",
        "https://host/SECRET\r\nX: SECRETSECRET", "javascript://SECRETSECRET"}) {
    INFO(bad);
    const std::string error = error_of(bad);
    CHECK_FALSE(error.empty());
    CHECK(error.find("SECRET") == std::string::npos);
  }
}

TEST_CASE("http: addresses that nobody's sink lives at are refused", "[sinks][http][ssrf]") {
  for (const char* refused : {"169.254.169.254",
                              "169.254.0.1",
                              "0.0.0.0",
                              "0.1.2.3",
                              "224.0.0.1",
                              "239.255.255.250",
                              "255.255.255.255",
                              "100.100.100.200",
                              "168.63.129.16",
                              "192.0.0.192",
                              "fe80::1",
                              "febf::1",
                              "ff02::1",
                              "fd00:ec2::254",
                              "fd20:ce::254",
                              "::",
                              "::ffff:169.254.169.254",
                              "::ffff:0.0.0.0",
                              "::169.254.169.254",
                              "64:ff9b::a9fe:a9fe",
                              "2002:a9fe:a9fe::1"}) {
    INFO(refused);
    CHECK(is_refused_address(address(refused)));
  }
  for (const char* fine :
       {"127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "8.8.8.8", "100.64.0.1", "::1", "fd00::1",
        "2606:4700::1111", "::ffff:10.0.0.1", "::ffff:127.0.0.1", "64:ff9b::808:808"}) {
    INFO(fine);
    CHECK_FALSE(is_refused_address(address(fine)));
  }
  CHECK(is_refused_address("odd"));
}

TEST_CASE("http: a refused address is not connected to, however it is written", "[sinks][http][ssrf][F45]") {
  HttpClient client{HttpOptions{}};
  for (const char* url :
       {"http://169.254.169.254/latest/meta-data/", "http://0.0.0.0:80/", "http://[fe80::1]/",
        "http://[::ffff:169.254.169.254]/", "http://2852039166/", "http://0xA9FEA9FE/",
        "http://0251.0376.0251.0376/", "http://0/", "http://[ff02::1]/", "http://224.0.0.1/"}) {
    INFO(url);
    const HttpResult result = client.post(request_to(url, 2s));
    CHECK(result.kind == Kind::kNotSent);
    CHECK(result.reason == Reason::kBlocked);
    CHECK(result.permanent);
    CHECK(outcome_of(result, {}).kind == Outcome::Kind::kRejected);
    CHECK(outcome_of(result, {}).sink_is_dead);
  }
}

TEST_CASE("http: the check is at the connection, where a name has become an address",
          "[sinks][http][ssrf][F45]") {
  // What the name leads to is known only to the resolver: every literal check would pass it.
  const HttpStub stub;
  HttpClient client{HttpOptions{}};
  const HttpResult allowed =
      client.post(request_to("http://localhost:" + std::to_string(stub.port()) + "/", 5s));
  CHECK(allowed.status == 200);
}

TEST_CASE("http: an answer arrives with its status, headers and body", "[sinks][http]") {
  HttpStub stub;
  stub.then(StubStep::answer(202, "hello", {{"X-Id", " 42 "}, {"X-Id", "43"}}));
  HttpClient client{HttpOptions{}};
  HttpRequest request = request_to(stub.url("/path?q=1"));
  request.headers.push_back({"X-Mine", Secret("mine")});
  const HttpResult result = client.post(request);
  CHECK(result.kind == Kind::kAnswered);
  CHECK(result.status == 202);
  CHECK(result.is_success());
  CHECK(result.body == "hello");
  CHECK(result.header("x-id") == "42");
  REQUIRE(stub.requests().size() == 1);
  const tests::StubRequest seen = stub.requests().front();
  CHECK(seen.method == "POST");
  CHECK(seen.target == "/path?q=1");
  CHECK(seen.body == R"({"a":1})");
  CHECK(seen.headers.at("x-mine") == "mine");
  CHECK(seen.headers.count("expect") == 0);
}

TEST_CASE("http: the connection is kept for the next request", "[sinks][http]") {
  const HttpStub stub;
  HttpClient client{HttpOptions{}};
  CHECK(client.post(request_to(stub.url())).status == 200);
  CHECK(client.post(request_to(stub.url())).status == 200);
  REQUIRE(stub.requests().size() == 2);
  CHECK(stub.requests()[1].connection == 1);
}

TEST_CASE("http: a kept connection that was closed meanwhile is simply replaced", "[sinks][http]") {
  HttpStub stub;
  stub.then(StubStep::of(StubStep::Kind::kAnswerAndClose));
  HttpClient client{HttpOptions{}};
  CHECK(client.post(request_to(stub.url())).status == 200);
  const HttpResult second = client.post(request_to(stub.url()));
  // Either the close was seen before anything was written, or the request met it: never a silent repetition.
  if (second.kind == Kind::kAnswered) {
    CHECK(second.status == 200);
    CHECK(stub.requests().size() == 2);
  } else {
    CHECK(second.kind == Kind::kLost);
    CHECK(stub.requests().size() == 1);
  }
}

TEST_CASE("http: a request that met a close on a kept connection is not repeated behind our back",
          "[sinks][http]") {
  HttpStub stub;
  stub.then(StubStep::answer(200, "ok"));
  stub.then(StubStep::of(StubStep::Kind::kClose));  // read in full, then closed without an answer
  HttpClient client{HttpOptions{}};
  CHECK(client.post(request_to(stub.url())).status == 200);
  const HttpResult second = client.post(request_to(stub.url()));
  CHECK(second.kind == Kind::kLost);
  CHECK(stub.requests().size() == 2);
  CHECK(client.post(request_to(stub.url())).status == 200);
}

TEST_CASE("http: how far a request got decides between retry and unknown", "[sinks][http][F41]") {
  struct Row {
    const char* story;
    StubStep step;
    Kind kind;
    Outcome::Kind outcome;
  };
  StubStep broken_500 = StubStep::of(StubStep::Kind::kTruncate);
  broken_500.status = 500;
  StubStep no_status = StubStep::of(StubStep::Kind::kGarbage);
  no_status.body = "HTTP/x.1 100 OK\r\n\r\nok";  // curl says 200
  StubStep small_p = no_status;
  small_p.body = "HTTp/1.1 301 Moved\r\n\r\n";  // and of this
  const auto row = GENERATE_COPY(
      Row{"read in full, then closed", StubStep::of(StubStep::Kind::kClose), Kind::kLost,
          Outcome::Kind::kUnknown},
      Row{"read in full, then reset", StubStep::of(StubStep::Kind::kReset), Kind::kLost,
          Outcome::Kind::kUnknown},
      Row{"a success that breaks off", StubStep::of(StubStep::Kind::kTruncate), Kind::kLost,
          Outcome::Kind::kUnknown},
      Row{"an error that breaks off is an error", broken_500, Kind::kAnswered, Outcome::Kind::kRetry},
      Row{"an answer that is not HTTP", StubStep::of(StubStep::Kind::kGarbage), Kind::kLost,
          Outcome::Kind::kUnknown},
      Row{"an answer that begins like HTTP", no_status, Kind::kLost, Outcome::Kind::kUnknown},
      Row{"one that spells it otherwise", small_p, Kind::kLost, Outcome::Kind::kUnknown},
      Row{"a redirect is not followed", StubStep::answer(302, "", {{"Location", "http://169.254.169.254/"}}),
          Kind::kAnswered, Outcome::Kind::kRejected});
  INFO(row.story);
  HttpStub stub;
  stub.then(row.step);
  HttpClient client{HttpOptions{}};
  const HttpResult result = client.post(request_to(stub.url()));
  CHECK(result.kind == row.kind);
  CHECK(outcome_of(result, {}).kind == row.outcome);
  CHECK(stub.requests().size() == 1);
}

TEST_CASE("http: nobody listening, and no such name, are retries", "[sinks][http][F45]") {
  HttpClient client{HttpOptions{}};
  std::string nobody;
  {
    const HttpStub gone;
    nobody = gone.url();
  }
  const HttpResult refused = client.post(request_to(nobody, 2s));
  CHECK(refused.kind == Kind::kNotSent);
  CHECK(refused.reason == Reason::kConnect);
  CHECK_FALSE(refused.permanent);
  const HttpResult unknown = client.post(request_to("http://no-such-host.invalid/", 5s));
  CHECK(unknown.kind == Kind::kNotSent);
  CHECK(unknown.reason == Reason::kDns);
  CHECK(outcome_of(unknown, {}).kind == Outcome::Kind::kRetry);
}

TEST_CASE("http: a server that never answers, or drips, ends at the deadline", "[sinks][http][F42]") {
  const auto kind =
      GENERATE(StubStep::Kind::kNeverAnswer, StubStep::Kind::kDripHeaders, StubStep::Kind::kDripBody);
  HttpStub stub;
  stub.then(StubStep::of(kind));
  HttpClient client{HttpOptions{}};
  const HttpResult result = client.post(request_to(stub.url(), 300ms));
  CHECK(result.kind == Kind::kLost);
  CHECK(result.elapsed >= 290ms);
  CHECK(result.elapsed < 3s);
  CHECK(outcome_of(result, {}).reason == Reason::kResponseLost);
}

TEST_CASE("http: a server that takes connections and never reads ends at the deadline",
          "[sinks][http][F42]") {
  // TLS needs an answer before anything is sent: so nothing was, and this is no unknown.
  HttpStub stub;
  HttpClient client{HttpOptions{}};
  stub.otherwise(StubStep::of(StubStep::Kind::kNeverAnswer));
  const HttpResult result =
      client.post(request_to("https://127.0.0.1:" + std::to_string(stub.port()) + "/", 300ms));
  CHECK(result.kind == Kind::kNotSent);
  CHECK(result.reason == Reason::kTimeout);
  CHECK(outcome_of(result, {}).kind == Outcome::Kind::kRetry);
}

TEST_CASE("http: a host that takes no connection ends at the deadline, and nothing was sent",
          "[sinks][http][F42]") {
  // A queue of connections that is full drops what else comes, as a machine behind a dead link does.
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in here{};
  here.sin_family = AF_INET;
  here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof here;
  auto* const address = static_cast<sockaddr*>(static_cast<void*>(&here));
  REQUIRE(bind(listener, address, size) == 0);
  REQUIRE(listen(listener, 0) == 0);
  REQUIRE(getsockname(listener, address, &size) == 0);
  std::array<int, 2> fillers{};
  for (int& filler : fillers) {
    filler = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    static_cast<void>(connect(filler, address, size));
  }
  HttpClient client{HttpOptions{}};
  const HttpResult result =
      client.post(request_to("http://127.0.0.1:" + std::to_string(ntohs(here.sin_port)) + "/", 400ms));
  CHECK(result.kind == Kind::kNotSent);
  CHECK(result.reason == Reason::kTimeout);
  CHECK_FALSE(result.permanent);
  CHECK(result.elapsed < 3s);
  for (const int filler : fillers)
    close(filler);
  close(listener);
}

TEST_CASE("http: the sink's own timeout can only shorten the attempt's", "[sinks][http][F42]") {
  HttpStub stub;
  stub.otherwise(StubStep::of(StubStep::Kind::kNeverAnswer));
  HttpOptions options;
  options.timeout = 200ms;
  HttpClient client{options};
  CHECK(client.budget(10s) == 200ms);
  CHECK(client.budget(100ms) == 100ms);
  CHECK(client.post(request_to(stub.url(), 10s)).elapsed < 3s);
  CHECK(client.post(request_to(stub.url(), 0ms)).reason == Reason::kTimeout);
}

TEST_CASE("http: no more of an answer is read than a sink ever sends", "[sinks][http]") {
  HttpStub stub;
  stub.then(StubStep::answer(200, std::string(1024UL * 1024, 'x')));
  HttpClient client{HttpOptions{}};
  const HttpResult result = client.post(request_to(stub.url()));
  CHECK(result.kind == Kind::kAnswered);
  CHECK(result.status == 200);
  CHECK(result.body.size() == kMaxResponseBytes);
}

TEST_CASE("http: Retry-After is read in all its forms, and capped", "[sinks][http][F39]") {
  struct Row {
    const char* story;
    std::string header;
    std::optional<Duration> expected;
  };
  const auto row =
      GENERATE(Row{"whole seconds", "7", Duration(7s)}, Row{"a fraction", "0.35", Duration(350ms)},
               Row{"a day, and no more", "86401", Duration(24h)},
               Row{"more than the loop keeps, which it must see", "7200", Duration(2h)},
               Row{"more digits than a number has", "99999999999999999999999999", Duration(24h)},
               Row{"an HTTP date", "Fri, 01 May 2026 10:00:30 GMT", Duration(30s)},
               Row{"the old form of a date", "Friday, 01-May-26 10:00:30 GMT", Duration(30s)},
               Row{"a date that is past", "Fri, 01 May 2026 09:59:00 GMT", std::nullopt},
               Row{"a date far ahead", "Fri, 01 May 2027 10:00:00 GMT", Duration(24h)},
               Row{"absent", "", std::nullopt}, Row{"nought", "0", std::nullopt},
               Row{"less than nought", "-5", std::nullopt}, Row{"words", "soon", std::nullopt},
               Row{"two numbers", "1.2.3", std::nullopt});
  INFO(row.story);
  CHECK(parse_retry_after(row.header, tests::start()) == row.expected);
}

TEST_CASE("http: retry_after in a JSON body is read as well", "[sinks][http][F39]") {
  CHECK(retry_after_in(R"({"retry_after":1,"ok":false,"error":"rate_limited"})") == Duration(1s));
  CHECK(retry_after_in(R"({"retry_after":0.2511})") == Duration(252ms));
  CHECK(retry_after_in(R"({"retry_after":86400})") == Duration(24h));
  CHECK(retry_after_in(R"({"retry_after":1e300})") == Duration(24h));
  CHECK(retry_after_in(R"({"retry_after":"1"})") == std::nullopt);
  CHECK(retry_after_in(R"({"retry_after":-1})") == std::nullopt);
  CHECK(retry_after_in("{") == std::nullopt);
  CHECK(retry_after_in("") == std::nullopt);
}

TEST_CASE("http: of two hints the longer one counts", "[sinks][http][F39]") {
  HttpStub stub;
  stub.then(StubStep::answer(429, R"({"retry_after":30})", {{"Retry-After", "2"}}));
  stub.then(StubStep::answer(503, "", {{"Retry-After", "120"}}));
  stub.then(StubStep::answer(429, ""));
  HttpClient client{HttpOptions{}};
  CHECK(outcome_of(client.post(request_to(stub.url())), {}).retry_after == Duration(30s));
  CHECK(outcome_of(client.post(request_to(stub.url())), {}).retry_after == Duration(120s));
  const Outcome plain = outcome_of(client.post(request_to(stub.url())), {});
  CHECK(plain.reason == Reason::kRateLimited);
  CHECK(plain.retry_after == std::nullopt);
}

TEST_CASE("http: every status means one thing", "[sinks][http]") {
  struct Row {
    int status;
    Outcome::Kind kind;
    Reason reason;
    bool dead;
  };
  constexpr auto kRetry = Outcome::Kind::kRetry;
  constexpr auto kRejected = Outcome::Kind::kRejected;
  const std::vector<Row> rows = {{200, Outcome::Kind::kDelivered, Reason::kOk, false},
                                 {202, Outcome::Kind::kDelivered, Reason::kOk, false},
                                 {204, Outcome::Kind::kDelivered, Reason::kOk, false},
                                 {301, kRejected, Reason::kBadResponse, true},
                                 {307, kRejected, Reason::kBadResponse, true},
                                 {400, kRejected, Reason::kBadRequest, false},
                                 {401, kRejected, Reason::kAuth, true},
                                 {403, kRejected, Reason::kAuth, true},
                                 {404, kRejected, Reason::kGone, true},
                                 {405, kRejected, Reason::kGone, true},
                                 {407, kRejected, Reason::kProxy, true},
                                 {408, kRetry, Reason::kTimeout, false},
                                 {410, kRejected, Reason::kGone, true},
                                 {413, kRejected, Reason::kBadRequest, false},
                                 {415, kRejected, Reason::kBadRequest, false},
                                 {422, kRejected, Reason::kBadRequest, false},
                                 {425, kRetry, Reason::kServerError, false},
                                 {429, kRetry, Reason::kRateLimited, false},
                                 {500, kRetry, Reason::kServerError, false},
                                 {502, kRetry, Reason::kServerError, false},
                                 {503, kRetry, Reason::kServerError, false},
                                 {504, kRetry, Reason::kServerError, false},
                                 {507, kRetry, Reason::kServerError, false},
                                 {520, kRetry, Reason::kServerError, false},
                                 {529, kRetry, Reason::kServerError, false},
                                 {600, kRetry, Reason::kBadResponse, false}};
  for (const Row& row : rows) {
    INFO(row.status);
    HttpResult result;
    result.kind = Kind::kAnswered;
    result.status = row.status;
    const Outcome outcome = outcome_of(result, {});
    CHECK(outcome.kind == row.kind);
    CHECK(outcome.reason == row.reason);
    CHECK(outcome.sink_is_dead == row.dead);
  }
}

TEST_CASE("http: an answer that repeats a secret is shown without it", "[sinks][http]") {
  const std::string token = "xoxTOKENTOKENTOKEN";
  HttpStub stub;
  const std::string url = stub.url("/services/T0AAAAAA1/B0BBBBBB2/" + token);
  stub.then(StubStep::answer(404, "Cannot POST /services/T0AAAAAA1/B0BBBBBB2/" + token));
  stub.then(
      StubStep::answer(403, "token " + token + " is revoked; password hunter2hunter2; \x1b[31m<!channel>"));
  HttpClient client{HttpOptions{}};
  stub.then(StubStep::answer(404, "no xoxTOKEN\x13TOKENTOKEN, nor hunter2\xE2\x80\x8Bhunter2"));
  const std::vector<Secret> hide{Secret(url), Secret("me:hunter2hunter2")};
  for (int i = 0; i < 3; ++i) {
    const std::string detail = outcome_of(client.post(request_to(url)), hide).detail;
    INFO(detail);
    CHECK(detail.find(token) == std::string::npos);
    CHECK(detail.find("T0AAAAAA1") == std::string::npos);
    CHECK(detail.find("hunter2") == std::string::npos);
    CHECK(detail.find('\x1b') == std::string::npos);
    CHECK(detail.find("HTTP 40") == 0);
  }
  const std::string lost = client.post(request_to("http://no-such-host.invalid/" + token, 3s)).error;
  CHECK(lost.find(token) == std::string::npos);
}

TEST_CASE("http: credentials go into the Authorization header", "[sinks][http]") {
  HttpStub stub;
  HttpOptions bearer;
  bearer.bearer_token = Secret("t0k3n");
  CHECK(HttpClient{bearer}.post(request_to(stub.url())).status == 200);
  HttpOptions basic;
  basic.basic_auth = Secret("me:pass:word");
  CHECK(HttpClient{basic}.post(request_to(stub.url())).status == 200);
  CHECK(stub.requests()[0].headers.at("authorization") == "Bearer t0k3n");
  CHECK(stub.requests()[1].headers.at("authorization") == "Basic bWU6cGFzczp3b3Jk");
}

TEST_CASE("http: a proxy is used when named, and its refusals are its own", "[sinks][http][F46]") {
  HttpStub proxy;
  HttpOptions options;
  options.proxy = proxy.url("");
  options.proxy_auth = Secret("proxyuser:proxypass");
  SECTION("plain HTTP goes through it in full") {
    HttpClient client{options};
    CHECK(client.post(request_to("http://am.example.invalid:9093/api")).status == 200);
    CHECK(proxy.requests()[0].target == "http://am.example.invalid:9093/api");
    CHECK(proxy.requests()[0].headers.at("proxy-authorization") == "Basic cHJveHl1c2VyOnByb3h5cGFzcw==");
  }
  SECTION("HTTPS goes through a tunnel, which it may refuse for good or for now") {
    struct Row {
      int status;
      bool permanent;
    };
    const auto row = GENERATE(Row{407, true}, Row{403, true}, Row{502, false}, Row{503, false});
    proxy.otherwise(StubStep::answer(row.status));
    HttpClient client{options};
    const HttpResult result =
        client.post(request_to("https://hooks.example.invalid/services/SECRETSECRET", 3s));
    CHECK(result.kind == Kind::kNotSent);
    CHECK(result.reason == Reason::kProxy);
    CHECK(result.permanent == row.permanent);
    CHECK(result.error.find("proxypass") == std::string::npos);
    CHECK(proxy.requests()[0].method == "CONNECT");
  }
  SECTION("loopback is reached directly, whatever proxy is named") {
    const HttpStub target;
    HttpClient client{options};
    CHECK(client.post(request_to(target.url())).status == 200);
    CHECK(proxy.requests().empty());
    CHECK(target.requests().size() == 1);
  }
  SECTION("the environment's proxy is used unless the sink says none") {
    setenv("http_proxy", proxy.url("").c_str(), 1);
    HttpClient from_environment{HttpOptions{}};
    CHECK(from_environment.post(request_to("http://am.example.invalid/x", 3s)).status == 200);
    setenv("no_proxy", "am.example.invalid", 1);
    CHECK(from_environment.post(request_to("http://am.example.invalid/x", 3s)).reason == Reason::kDns);
    CHECK(HttpClient{options}.post(request_to("http://am.example.invalid/x", 3s)).status == 200);
    unsetenv("no_proxy");
    HttpOptions none;
    none.proxy = "";
    CHECK(HttpClient{none}.post(request_to("http://am.example.invalid/x", 3s)).reason == Reason::kDns);
    unsetenv("http_proxy");
  }
  SECTION("a literal metadata address is refused before the proxy hears of it") {
    HttpClient client{options};
    CHECK(client.post(request_to("http://169.254.169.254/")).reason == Reason::kBlocked);
    CHECK(proxy.requests().empty());
  }
}

TEST_CASE("http: certificates are verified, and a bad one is asked again slowly", "[sinks][http][F44]") {
  SECTION("of an authority that ca_file names") {
    const HttpStub stub{tests::StubTls{}};
    HttpOptions options;
    options.ca_file = stub.certificate_file();
    const HttpResult result = HttpClient{options}.post(request_to(stub.url()));
    INFO(result.error);
    CHECK(result.status == 200);
  }
  SECTION("and when it ends is known") {
    tests::StubTls tls;
    tls.valid_days = 30;
    const HttpStub stub{tls};
    HttpOptions options;
    options.ca_file = stub.certificate_file();
    HttpClient client{options};
    HttpRequest request = request_to(stub.url());
    const HttpResult result = client.post(request);
    REQUIRE(result.certificate_ends);
    // The stub counts from when it was made.
    const Duration left =
        *result.certificate_ends - rules::from_unix_ms(static_cast<std::int64_t>(std::time(nullptr)) * 1000);
    CHECK(left <= 24h * 30);
    CHECK(left > 24h * 30 - 5min);
    static constexpr std::array<Expectation, 1> kAny{
        {{200, 599, "", Verification::Verdict::kLive, ProofLevel::kNetwork, Reason::kOk, "a test"}}};
    CHECK(judge("POST", result, "", kAny, {}).certificate_ends == result.certificate_ends);
    const HttpStub plain;
    CHECK_FALSE(HttpClient{HttpOptions{}}.post(request_to(plain.url())).certificate_ends);
  }
  SECTION("unknown to us") {
    const HttpStub stub{tests::StubTls{}};
    const HttpResult result = HttpClient{HttpOptions{}}.post(request_to(stub.url()));
    CHECK(result.kind == Kind::kNotSent);
    CHECK(result.reason == Reason::kTls);
    CHECK(outcome_of(result, {}).kind == Outcome::Kind::kRetry);
    CHECK(outcome_of(result, {}).retry_after == kRetryAfterBadCertificate);
    CHECK(stub.requests().empty());
    const Verification verdict = judge("HEAD", result, "", {}, {});
    CHECK(verdict.verdict == Verification::Verdict::kDead);
    CHECK(verdict.evidence ==
          "HEAD -> SSL certificate problem: self-signed certificate (nobody whom this machine trusts: `ca_file:` names an "
          "authority of your own, the package ca-certificates brings the usual ones)");
  }
  SECTION("expired, or for another host") {
    const bool expired = GENERATE(true, false);
    tests::StubTls tls;
    if (expired) tls.valid_days = -1;
    if (!expired) tls.host = "other.example";
    const HttpStub stub{tls};
    HttpOptions options;
    options.ca_file = stub.certificate_file();
    const HttpResult result = HttpClient{options}.post(request_to(stub.url()));
    CHECK(result.reason == Reason::kTls);
    CHECK(stub.requests().empty());
    // What is over by our clock may be so by no other, or be renewed.
    const Verification verdict = judge("HEAD", result, "", {}, {});
    CHECK(verdict.verdict == (expired ? Verification::Verdict::kUnknown : Verification::Verdict::kDead));
    CHECK(verdict.evidence.find("`ca_file:`") == std::string::npos);
  }
  SECTION("TLS older than 1.2") {
    tests::StubTls tls;
    tls.only_tls_1_1 = true;
    const HttpStub stub{tls};
    HttpOptions options;
    options.ca_file = stub.certificate_file();
    const HttpResult result = HttpClient{options}.post(request_to(stub.url()));
    CHECK(result.reason == Reason::kTls);
  }
}

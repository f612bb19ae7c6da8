// HttpClient: one blocking HTTP request with a deadline, and an exact account of how far it got. SmtpClient:
// the same of a conversation with a mail server. The only door to libcurl, so that both resolve names, refuse
// addresses, check certificates and take proxies alike.
//
// Owned by one send loop. Neither retries or follows redirects. The process ignores SIGPIPE.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "rules/result.h"
#include "rules/secret.h"
#include "rules/time.h"
#include "sinks/sink.h"

namespace logbell::sinks {

// Longer than any answer a sink gives; what is beyond is not read.
inline constexpr std::size_t kMaxResponseBytes = 64 * 1024;
// Of the whole deadline, so that a black hole is known while there is time for others.
inline constexpr rules::Duration kMaxConnectTime{std::chrono::seconds(5)};
// More patience than this is told as this. How much of it is kept, and who is told meanwhile, is the send
// loop's to say: it has to see that a sink asks for a day (FAULTS F39).
inline constexpr rules::Duration kMaxRetryAfter{std::chrono::hours(24)};
// A bad certificate does not heal in seconds, and asking often helps nobody (FAULTS F44).
inline constexpr rules::Duration kRetryAfterBadCertificate{std::chrono::minutes(5)};

struct Url {
  std::string scheme;  // http or https; smtp or smtps
  std::string host;    // lower case, an IPv6 address without brackets
  std::uint16_t port = 0;
  std::string path;   // with what follows a "?"
  std::string shown;  // scheme://host[:port]: what may be printed

  bool is_loopback() const;  // an address of loopback, or localhost
};
// An absolute http or https URL without user, password and fragment. The error never repeats the text: it may
// be a secret.
rules::Result<Url> parse_url(std::string_view text);
// smtp://host[:port] or smtps://host[:port], and nothing else; the ports are 25 and 465 where none is named.
rules::Result<Url> parse_mail_server(std::string_view text);

// How to get there; the same fields for every sink that speaks HTTP.
struct HttpOptions {
  // Unset: HTTPS_PROXY, http_proxy (lower case only, as for curl), ALL_PROXY and NO_PROXY of the environment
  // decide.
  // "": no proxy, whatever the environment says. Loopback is always reached directly.
  std::optional<std::string> proxy;
  rules::Secret proxy_auth;  // "user:password"
  std::string ca_file;       // "": the system's
  rules::Duration timeout{std::chrono::seconds(15)};
  std::size_t max_body = kMaxResponseBytes;  // of an answer; the rest is not read
  // At most one of the two: who we are, in the Authorization header.
  rules::Secret bearer_token;
  rules::Secret basic_auth;  // "user:password"

  std::vector<rules::Secret> secrets() const;
};
// `timeout`, `proxy`, `proxy_auth`, `ca_file`, each with its default when absent; problems are recorded, and
// nothing is returned in that case.
std::optional<HttpOptions> read_http_options(FieldReader& fields);
// `bearer_token`, or `username` with `password`, into `options`; false when problems were recorded.
bool read_authorization(FieldReader& fields, HttpOptions& options);
// What is wrong with `text` as this sink's URL, as a problem of `key`; nothing in that case. Loopback may
// always be plain HTTP; others only if `plain_http_elsewhere`.
std::optional<Url> check_url(FieldReader& fields, std::string_view key, std::string_view text,
                             bool plain_http_elsewhere);
// Whether the host is an address that is never asked; said as a problem of `key`.
bool is_refused_host(FieldReader& fields, std::string_view key, const Url& url);

struct HttpHeader {
  std::string name;
  rules::Secret value;
};

struct HttpRequest {
  rules::Secret url;
  std::vector<HttpHeader> headers;
  std::string body;
  rules::Duration timeout;
  rules::Timestamp now;  // to read a Retry-After that is a date
};

struct HttpResult {
  enum class Kind {
    kAnswered,  // status is the sink's
    kNotSent,   // reason says why; nothing can have arrived
    kLost,      // sent in full, no (whole) answer
  };
  Kind kind = Kind::kNotSent;
  Reason reason = Reason::kOk;
  bool permanent = false;   // kNotSent: a blocked address, a proxy that refuses: for a person to mend
  bool distrusted = false;  // kNotSent: a certificate that no passing of time makes good; asked again slowly all the same
  int status = 0;
  std::vector<std::pair<std::string, std::string>> headers;  // names in lower case
  std::string body;                                          // at most HttpOptions::max_body of it
  std::string error;                                         // of kNotSent and kLost; no secret in it
  std::optional<rules::Duration> retry_after;                // of the header, else of the body; capped
  rules::Duration elapsed{0};
  // kAnswered over TLS: when the certificate ends that was shown. Only of a connection that was made for it.
  std::optional<rules::Timestamp> certificate_ends;

  std::string_view header(std::string_view lower_case_name) const;
  bool is_success() const { return kind == Kind::kAnswered && status >= 200 && status < 300; }
};

class HttpClient {
 public:
  explicit HttpClient(HttpOptions options);
  ~HttpClient();
  HttpClient(HttpClient&&) noexcept;
  HttpClient& operator=(HttpClient&&) noexcept;

  // Within min(request.timeout, options.timeout).
  HttpResult post(const HttpRequest& request);
  // The same without a body, for questions: GET, or HEAD.
  HttpResult get(const HttpRequest& request);
  HttpResult head(const HttpRequest& request);
  // min(attempt, options): what a sink that asks twice has to divide.
  rules::Duration budget(rules::Duration attempt) const;

 private:
  struct Impl;
  enum class Method { kPost, kGet, kHead };
  HttpResult perform(Method method, const HttpRequest& request);

  std::unique_ptr<Impl> impl_;
};

// --- mail

enum class StartTls { kRequired, kIfAvailable, kNone };

// A mail server, and who we are there.
struct SmtpOptions {
  Url server;
  StartTls starttls = StartTls::kRequired;  // of smtp; smtps is encrypted from the first byte
  std::string username;                     // "": nobody logs in
  rules::Secret password;
  std::string hello;  // what we call ourselves; "": the host's name
};

// What became of one step of a conversation.
struct SmtpResult {
  enum class Kind {
    kAnswered,  // the code and the text are the server's
    kNotSent,   // reason says why; no message can have been taken
    kLost,      // a message was sent in full, no answer
  };
  Kind kind = Kind::kNotSent;
  Reason reason = Reason::kOk;
  bool permanent = false;   // kNotSent: for a person to mend
  bool distrusted = false;  // as HttpResult's
  int code = 0;            // RFC 5321 §4.2: 250, 421, 550 …
  std::string text;        // of all its lines
  std::string error;       // of kNotSent and kLost; no secret in it
  std::optional<rules::Duration> retry_after;

  bool is(int from, int to) const { return kind == Kind::kAnswered && code >= from && code <= to; }
};

// One conversation at a time; curl connects, encrypts and logs in, what follows is said here, line by line,
// so that each recipient's answer is known and a message that was not ended cannot have been taken.
class SmtpClient {
 public:
  // Of `way` the timeout, the proxy and the certificates; nobody is asked for anything yet.
  SmtpClient(HttpOptions way, SmtpOptions options);
  ~SmtpClient();

  // As far as the server would take a message: greeting, STARTTLS, EHLO, AUTH. An answer between 200 and 299
  // says so; any other is a refusal, and `at` is then what was refused. All of the conversation is over
  // within min(timeout, way.timeout) from here.
  SmtpResult open(rules::Duration timeout);
  std::string_view at() const;  // "connect", "greeting", "EHLO", "STARTTLS", "TLS", "AUTH"
  // One line, without its end, and the answer to it.
  SmtpResult command(std::string_view line);
  // What follows the answer to DATA: lines that end in CRLF. Dots are doubled here.
  SmtpResult data(std::string_view message);
  // Of the time of the conversation.
  rules::Duration left() const;
  // Takes leave; half a second at most, and never beyond the time of the conversation.
  void close();

  bool is_encrypted() const;
  // When the certificate ends that the server showed; unset: none was seen.
  std::optional<rules::Timestamp> certificate_ends() const;
  // Of one message, as the server said; 0: it did not.
  std::size_t size_limit() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// A Retry-After header: whole seconds or an HTTP date; nullopt when absent, unreadable or past; capped.
std::optional<rules::Duration> parse_retry_after(std::string_view header, rules::Timestamp now);
// `retry_after` of a JSON body, whole or fractional seconds; capped.
std::optional<rules::Duration> retry_after_in(std::string_view json);

// What the status alone says (SINKS.md §0), for protocols that do not say more; every 2xx is "delivered".
// `hide` must not be seen in the detail: an answer may repeat the URL that was asked.
Outcome outcome_of(const HttpResult& result, const std::vector<rules::Secret>& hide);
// Status and the beginning of the answer, for people.
std::string describe(const HttpResult& result, const std::vector<rules::Secret>& hide);

// Code and text of the answer, or why there is none.
std::string describe(const SmtpResult& result, const std::vector<rules::Secret>& hide);

// `text` of an answer as people may see it: clean, on one line, at most 200 bytes, and without secrets, above
// all those in `hide`: it may repeat what was asked.
std::string quote(std::string_view text, const std::vector<rules::Secret>& hide);

// Addresses that no sink lives at, and an attacker would like us to ask: link-local, cloud metadata,
// multicast, "this network". Loopback and private ones are fine. `bytes` is 4 or 16 long, in network order.
bool is_refused_address(std::string_view bytes);

}  // namespace logbell::sinks

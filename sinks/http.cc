#include "sinks/http.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstring>
#include <mutex>
#include <new>

#include <arpa/inet.h>
#include <curl/curl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rules/json.h"
#include "rules/redact.h"
#include "rules/text.h"
#include "sinks/timer.h"

namespace logbell::sinks {
namespace {

using rules::Duration;
using rules::ErrorCode;
using rules::Secret;
using std::chrono::seconds;

// A connection that was idle for longer is not used again: the other side has probably closed it by then, and
// a request that meets the close may or may not have arrived.
constexpr long kMaxIdleSeconds = 20;
// Of an answer, in a log line, a table or a receipt.
constexpr std::size_t kQuotedBytes = 200;
// So old may be what a name led to when a new connection is made. Where the last request found nobody, it is
// asked anew at once.
constexpr long kNameSeconds = 60;
// So long a mail server's answer to QUIT is awaited.
constexpr Duration kLeaveTime{500};
// Fewer bytes a second than one, for this long, is a hung sink (FAULTS F42).
constexpr long kLowSpeedSeconds = 10;

struct UrlDeleter {
  void operator()(CURLU* url) const { curl_url_cleanup(url); }
};
struct EasyDeleter {
  void operator()(CURL* easy) const { curl_easy_cleanup(easy); }
};
struct ListDeleter {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};
using UrlHandle = std::unique_ptr<CURLU, UrlDeleter>;
using Easy = std::unique_ptr<CURL, EasyDeleter>;
using List = std::unique_ptr<curl_slist, ListDeleter>;

void init_curl() {
  static std::once_flag once;
  std::call_once(once, [] { LOGBELL_CHECK(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK); });
}

// Without memory nothing can be said of a URL, least of all that it is none: as of any other piece of memory.
CURLUcode need_memory(CURLUcode code) {
  if (code == CURLUE_OUT_OF_MEMORY) throw std::bad_alloc();
  return code;
}

std::string part_of(CURLU* url, CURLUPart part, unsigned flags = 0) {
  char* text = nullptr;
  if (need_memory(curl_url_get(url, part, &text, flags)) != CURLUE_OK || text == nullptr) return {};
  std::string out = text;
  curl_free(text);
  return out;
}

// The bytes of an address written as such; "" when `host` is a name.
std::string literal_address(const std::string& host) {
  std::array<char, 16> bytes{};
  if (inet_pton(AF_INET, host.c_str(), bytes.data()) == 1) return {bytes.data(), 4};
  // "fe80::1%eth0": the zone is no part of the address.
  if (inet_pton(AF_INET6, host.substr(0, host.find('%')).c_str(), bytes.data()) == 1)
    return {bytes.data(), 16};
  return {};
}

bool is_refused_v4(std::uint32_t address) {
  struct Net {
    std::uint32_t base;
    int bits;
  };
  static constexpr std::array<Net, 7> kRefused{{
      {0x00000000, 8},   // 0/8: "this network"; Linux takes 0.0.0.0 for itself
      {0xA9FE0000, 16},  // 169.254/16: link-local, and the metadata service of most clouds
      {0xE0000000, 4},   // 224/4: multicast
      {0xF0000000, 4},   // 240/4: reserved, and broadcast
      {0x646464C8, 32},  // 100.100.100.200: Alibaba's metadata
      {0xA83F8110, 32},  // 168.63.129.16: Azure's host
      {0xC00000C0, 32},  // 192.0.0.192: Oracle's metadata
  }};
  return std::any_of(kRefused.begin(), kRefused.end(), [&](const Net& net) {
    return (address >> (32 - net.bits)) == (net.base >> (32 - net.bits));
  });
}

// What became of one request; the callbacks' user data.
struct Call {
  std::size_t body_bytes = 0;
  bool refused_address = false;
  bool allowed_address = false;
  int starts = 0;         // how often a request was about to be written
  bool resend = false;    // curl wanted to repeat a request that may have arrived
  bool body_cut = false;  // the answer was longer than we read
  bool no_http = false;   // it begins like HTTP, and is none
  std::size_t header_bytes = 0;
  std::size_t most_body = kMaxResponseBytes;
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;

  curl_off_t uploaded = 0;
  std::array<char, CURL_ERROR_SIZE> error{};

  // The end of the body is the end of the request.
  bool is_written() const { return uploaded >= static_cast<curl_off_t>(body_bytes); }
};

int on_progress(void* user, curl_off_t /*down_total*/, curl_off_t /*down*/, curl_off_t /*up_total*/,
                curl_off_t up) {
  auto* call = static_cast<Call*>(user);
  call->uploaded = std::max(call->uploaded, up);
  return 0;  // go on; CURL_PROGRESSFUNC_CONTINUE would draw curl's own meter
}

curl_socket_t open_socket(void* user, curlsocktype /*purpose*/, curl_sockaddr* address) {
  auto* call = static_cast<Call*>(user);
  std::string bytes;
  if (address->family == AF_INET) {
    sockaddr_in in{};
    std::memcpy(&in, &address->addr, sizeof in);
    bytes.resize(4);
    std::memcpy(bytes.data(), &in.sin_addr, 4);
  } else if (address->family == AF_INET6) {
    sockaddr_in6 in{};
    // curl leaves room for any address behind `addr`, of which it declares only the smallest.
    std::memcpy(&in, static_cast<const void*>(&address->addr),
                std::min<std::size_t>(sizeof in, address->addrlen));
    bytes.resize(16);
    std::memcpy(bytes.data(), &in.sin6_addr, 16);
  }
  if (bytes.empty() || is_refused_address(bytes)) {
    call->refused_address = true;
    return CURL_SOCKET_BAD;
  }
  call->allowed_address = true;
  return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

// Called when a connection stands and the request is about to be written. A second time means that a kept
// connection was closed without an answer and curl would repeat the request: only if it cannot have arrived.
int before_request(void* user, char* /*to*/, char* /*from*/, int /*to_port*/, int /*from_port*/) {
  auto* call = static_cast<Call*>(user);
  if (++call->starts > 1 && call->is_written()) {
    call->resend = true;
    return CURL_PREREQFUNC_ABORT;
  }
  return CURL_PREREQFUNC_OK;
}

// "HTTP/1.1 200 OK". Of a line that only begins so curl says that it is a success.
bool is_status_line(std::string_view line) {
  const auto digit_at = [&](std::size_t at) { return at < line.size() && rules::is_digit(line[at]); };
  static constexpr std::string_view kBegin = "HTTP/";
  std::size_t at = kBegin.size();
  if (!line.starts_with(kBegin) || !digit_at(at)) return false;
  ++at;
  if (line.substr(at, 1) == "." && digit_at(at + 1)) at += 2;
  if (line.substr(at, 1) != " ") return false;
  at = std::min(line.find_first_not_of(' ', at), line.size());
  return digit_at(at) && digit_at(at + 1) && digit_at(at + 2) && !digit_at(at + 3);
}

std::size_t on_header(char* data, std::size_t size, std::size_t count, void* user) {
  auto* call = static_cast<Call*>(user);
  const std::string_view line(data, size * count);
  call->header_bytes += line.size();
  if (call->header_bytes > kMaxResponseBytes) return 0;
  if (rules::same_ignoring_case(line.substr(0, 5), "HTTP/")) {
    call->headers.clear();  // of a "100 Continue"
    call->no_http = !is_status_line(line);
    if (call->no_http) return 0;
  } else if (const std::size_t colon = line.find(':'); colon != std::string_view::npos) {
    std::string_view value = line.substr(colon + 1);
    while (!value.empty() && std::isspace(static_cast<unsigned char>(value.front())) != 0)
      value.remove_prefix(1);
    while (!value.empty() && std::isspace(static_cast<unsigned char>(value.back())) != 0)
      value.remove_suffix(1);
    call->headers.emplace_back(rules::lower(line.substr(0, colon)), std::string(value));
  }
  return size * count;
}

std::size_t on_body(char* data, std::size_t size, std::size_t count, void* user) {
  auto* call = static_cast<Call*>(user);
  const std::size_t bytes = size * count;
  const std::size_t room = call->most_body - call->body.size();
  call->body.append(data, std::min(bytes, room));
  if (bytes > room) {
    call->body_cut = true;
    return 0;
  }
  return bytes;
}

bool is_certificate_error(CURLcode code) {
  switch (code) {
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_INVALIDCERTSTATUS:
    case CURLE_SSL_PINNEDPUBKEYNOTMATCH:
    case CURLE_SSL_CERTPROBLEM:
      return true;
    default:
      return false;
  }
}

// Whether what is wrong with a certificate is whom it is of, or who vouches for it. Not that it is over, or not valid yet: our
// clock may be wrong, or it is renewed.
bool is_distrusted(CURL* easy, CURLcode code) {
  constexpr long kNotYetValid = 9;  // X509_V_ERR_… of openssl's x509_vfy.h
  constexpr long kExpired = 10;
  if (code == CURLE_SSL_CACERT_BADFILE) return true;
  if (code != CURLE_PEER_FAILED_VERIFICATION) return false;
  for (const CURLINFO whose : {CURLINFO_SSL_VERIFYRESULT, CURLINFO_PROXY_SSL_VERIFYRESULT}) {
    long why = 0;
    curl_easy_getinfo(easy, whose, &why);
    if (why == kNotYetValid || why == kExpired) return false;
  }
  return true;
}

// Whether nobody vouches for it whom this machine knows.
bool has_unknown_authority(CURL* easy) {
  long why = 0;
  curl_easy_getinfo(easy, CURLINFO_SSL_VERIFYRESULT, &why);
  return why > 1;  // 1 is curl's own: of a wrong host openssl is not asked
}

Reason reason_of(CURLcode code) {
  if (is_certificate_error(code)) return Reason::kTls;
  switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
      return Reason::kDns;
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_PROXY:
      return Reason::kProxy;
    case CURLE_OPERATION_TIMEDOUT:
      return Reason::kTimeout;
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_SSL_ENGINE_NOTFOUND:
    case CURLE_SSL_ENGINE_SETFAILED:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_ENGINE_INITFAILED:
    case CURLE_USE_SSL_FAILED:
      return Reason::kTls;
    default:
      return Reason::kConnect;
  }
}

template <class Value>
void set_option(CURL* easy, CURLoption option, Value value) {
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-vararg): this is curl's interface
  LOGBELL_CHECK(curl_easy_setopt(easy, option, value) == CURLE_OK);
}

// How a server is reached, whatever is spoken with it. Whether through a proxy that was named for this sink:
// of the environment's only curl knows when it is used.
bool take_way(CURL* easy, const Url& url, const HttpOptions& options, Duration timeout, Call& call) {
  const auto set = [&](CURLoption option, auto value) { set_option(easy, option, value); };
  set(CURLOPT_ERRORBUFFER, call.error.data());
  set(CURLOPT_NOSIGNAL, 1L);
  set(CURLOPT_PROTOCOLS_STR, url.scheme.c_str());
  set(CURLOPT_TIMEOUT_MS, static_cast<long>(timeout.count()));
  set(CURLOPT_DNS_CACHE_TIMEOUT, kNameSeconds);
  // A resolver that says nothing holds up its own thread, not us: without this curl waits for getaddrinfo()
  // to return, whatever the deadline (FAULTS F45).
  set(CURLOPT_QUICK_EXIT, 1L);
  set(CURLOPT_TCP_KEEPALIVE, 1L);
  set(CURLOPT_SSL_VERIFYPEER, 1L);
  set(CURLOPT_SSL_VERIFYHOST, 2L);
  set(CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
  set(CURLOPT_PROXY_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
  if (!options.ca_file.empty()) {
    set(CURLOPT_CAINFO, options.ca_file.c_str());
    set(CURLOPT_PROXY_CAINFO, options.ca_file.c_str());
    // In their stead: curl's own directory of them is asked, too, unless it is told not to.
    set(CURLOPT_CAPATH, static_cast<const char*>(nullptr));
    set(CURLOPT_PROXY_CAPATH, static_cast<const char*>(nullptr));
  }
  const bool uses_proxy = options.proxy && !options.proxy->empty() && !url.is_loopback();
  if (url.is_loopback() || (options.proxy && options.proxy->empty())) {
    set(CURLOPT_NOPROXY, "*");
  } else if (uses_proxy) {
    set(CURLOPT_PROXY, options.proxy->c_str());
    set(CURLOPT_NOPROXY, "");  // this proxy was named for this sink: the environment has no say
  }
  if (!options.proxy_auth.empty()) set(CURLOPT_PROXYUSERPWD, options.proxy_auth.reveal().c_str());
  set(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
  set(CURLOPT_OPENSOCKETFUNCTION, &open_socket);
  set(CURLOPT_OPENSOCKETDATA, static_cast<void*>(&call));
  return uses_proxy;
}

std::string words_of(CURLcode code, const Call& call) {
  return call.error[0] != '\0' ? call.error.data() : curl_easy_strerror(code);
}

// Why nothing can have arrived. `words`: what curl says, as people may see it.
struct Failure {
  Reason reason = Reason::kConnect;
  bool permanent = false;
  bool distrusted = false;
  std::string error;
  std::optional<Duration> retry_after;
};
Failure why_not_sent(CURL* easy, CURLcode code, const Url& url, const Call& call, bool uses_proxy,
                     std::string words) {
  Failure failure;
  failure.reason = reason_of(code);
  failure.error = std::move(words);
  long connect_status = 0;
  curl_easy_getinfo(easy, CURLINFO_HTTP_CONNECTCODE, &connect_status);
  double lookup = 0;
  curl_easy_getinfo(easy, CURLINFO_NAMELOOKUP_TIME, &lookup);
  if (call.refused_address && !call.allowed_address) {
    failure.reason = Reason::kBlocked;
    failure.permanent = true;
    failure.error = url.host + " leads to a link-local, multicast or metadata address, which is never asked";
  } else if (connect_status != 0 && connect_status / 100 != 2) {
    failure.reason = Reason::kProxy;
    // It knows us and says no, or does not know us: neither passes by itself.
    failure.permanent = connect_status == 403 || connect_status == 407;
    failure.error = fmt::format("the proxy answered {}", connect_status);
  } else if (uses_proxy && (failure.reason == Reason::kConnect || failure.reason == Reason::kDns)) {
    failure.reason = Reason::kProxy;
    failure.error = "the proxy cannot be reached: " + failure.error;
  } else if (code == CURLE_OPERATION_TIMEDOUT && call.starts == 0 && !call.allowed_address && lookup == 0) {
    failure.reason = Reason::kDns;
  } else if (is_certificate_error(code)) {
    failure.retry_after = kRetryAfterBadCertificate;
    failure.distrusted = is_distrusted(easy, code);
    if (failure.distrusted && has_unknown_authority(easy))
      failure.error += " (nobody whom this machine trusts: `ca_file:` names an authority of your own, the package ca-certificates "
                       "brings the usual ones)";
  }
  return failure;
}

struct StatusRow {
  int from;
  int to;
  Outcome::Kind kind;
  Reason reason;
  bool sink_is_dead;
};
// The first row that holds the status decides (SINKS.md §0).
constexpr std::array<StatusRow, 16> kStatuses{{
    {200, 299, Outcome::Kind::kDelivered, Reason::kOk, false},
    // Redirects are not followed, and nobody's API answers a POST with one: the address is wrong.
    {300, 399, Outcome::Kind::kRejected, Reason::kBadResponse, true},
    {401, 401, Outcome::Kind::kRejected, Reason::kAuth, true},
    {403, 403, Outcome::Kind::kRejected, Reason::kAuth, true},
    {404, 404, Outcome::Kind::kRejected, Reason::kGone, true},
    {405, 405, Outcome::Kind::kRejected, Reason::kGone, true},
    {407, 407, Outcome::Kind::kRejected, Reason::kProxy, true},
    {408, 408, Outcome::Kind::kRetry, Reason::kTimeout, false},
    {410, 410, Outcome::Kind::kRejected, Reason::kGone, true},
    {425, 425, Outcome::Kind::kRetry, Reason::kServerError, false},
    {429, 429, Outcome::Kind::kRetry, Reason::kRateLimited, false},
    // 400, 413, 415, 422 and what else is new: this message is refused, not the sender.
    {400, 499, Outcome::Kind::kRejected, Reason::kBadRequest, false},
    {504, 504, Outcome::Kind::kRetry, Reason::kServerError, false},
    {500, 599, Outcome::Kind::kRetry, Reason::kServerError, false},
    {100, 199, Outcome::Kind::kRetry, Reason::kBadResponse, false},
    {0, 999, Outcome::Kind::kRetry, Reason::kBadResponse, false},
}};

Duration clamp_hint(double hint_seconds) {
  const double limit = static_cast<double>(kMaxRetryAfter.count());
  return Duration(static_cast<Duration::rep>(std::min(std::ceil(hint_seconds * 1000.0), limit)));
}

std::string without_secrets(std::string_view text, const std::vector<Secret>& hide) {
  std::vector<std::string> parts;
  for (const Secret& secret : hide) {
    const std::string& value = secret.reveal();
    parts.push_back(value);
    if (value.find("://") == std::string::npos) {
      // "user:password": the password alone, too.
      const std::size_t colon = value.find(':');
      if (colon != std::string::npos && value.size() - colon > 4) parts.push_back(value.substr(colon + 1));
      continue;
    }
    const rules::Result<Url> url = parse_url(value);
    if (!url) continue;
    // A server likes to repeat the path it did not find, or the part of it that was the token.
    if (url->path.size() > 1) parts.push_back(url->path);
    std::string piece;
    for (const char c : url->path + "/") {
      if (std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '_') {
        piece += c;
        continue;
      }
      if (piece.size() >= 8 && piece != "services" && piece != "webhooks") parts.push_back(piece);
      piece.clear();
    }
  }
  return rules::without(text, std::vector<std::string_view>(parts.begin(), parts.end()));
}

}  // namespace

std::string quote(std::string_view text, const std::vector<Secret>& hide) {
  // Hidden before it is cut: half a secret is still one. And again when it is clean: a character that is
  // taken out may have parted one.
  const std::string clean = rules::clean_text(without_secrets(text, hide), text.size() * 3 + 64);
  return rules::clean_text(rules::redact(without_secrets(clean, hide)), kQuotedBytes);
}

bool is_refused_address(std::string_view bytes) {
  const auto byte = [&](std::size_t i) {
    return static_cast<std::uint32_t>(static_cast<unsigned char>(bytes[i]));
  };
  const auto v4_at = [&](std::size_t i) {
    return byte(i) << 24U | byte(i + 1) << 16U | byte(i + 2) << 8U | byte(i + 3);
  };
  if (bytes.size() == 4) return is_refused_v4(v4_at(0));
  if (bytes.size() != 16) return true;
  const auto starts = [&](std::initializer_list<unsigned char> prefix) {
    return std::equal(prefix.begin(), prefix.end(), bytes.begin(),
                      [](unsigned char a, char b) { return a == static_cast<unsigned char>(b); });
  };
  if (byte(0) == 0xFE && (byte(1) & 0xC0U) == 0x80U) return true;  // fe80::/10 link-local
  if (byte(0) == 0xFF) return true;                                // multicast
  // fd00:ec2::254: Amazon's metadata.
  if (starts({0xFD, 0x00, 0x0E, 0xC2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x02, 0x54})) return true;
  // fd20:ce::254: Google's.
  if (starts({0xFD, 0x20, 0x00, 0xCE, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x02, 0x54})) return true;
  const bool v4_mapped = starts({0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF});
  const bool nat64 = starts({0x00, 0x64, 0xFF, 0x9B, 0, 0, 0, 0, 0, 0, 0, 0});
  if (v4_mapped || nat64) return is_refused_v4(v4_at(12));
  // ::/96 holds :: (nobody), ::1 (loopback) and old v4-compatible addresses.
  if (starts({0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})) return v4_at(12) != 1;
  if (byte(0) == 0x20 && byte(1) == 0x02) return is_refused_v4(v4_at(2));  // 2002::/16: 6to4
  return false;
}

bool Url::is_loopback() const {
  if (host == "localhost") return true;
  const std::string bytes = literal_address(host);
  if (bytes.size() == 4) return static_cast<unsigned char>(bytes[0]) == 127;
  return bytes.size() == 16 && bytes == std::string(15, '\0') + '\x01';
}

namespace {

// An absolute URL of one of the two schemes.
rules::Result<Url> parse_any_url(std::string_view text, std::string_view plain, std::string_view encrypted) {
  // curl would take a control character or a blank for part of a path.
  if (std::any_of(text.begin(), text.end(), [](unsigned char c) { return c <= 0x20 || c == 0x7F; })) {
    return rules::fail(ErrorCode::kInvalid, "the URL has a blank or a control character in it");
  }
  if (text.find("://") == std::string_view::npos) {
    return rules::fail(ErrorCode::kInvalid,
                       fmt::format("this is no URL: it does not begin with {}://", encrypted));
  }
  // curl forgives a third slash and takes what follows for the host.
  if (const std::size_t slashes = text.find("://"); text.substr(slashes + 3, 1) == "/") {
    return rules::fail(ErrorCode::kInvalid, "the URL names no host");
  }
  const UrlHandle handle(curl_url());
  LOGBELL_CHECK(handle != nullptr);
  const CURLUcode code = need_memory(
      curl_url_set(handle.get(), CURLUPART_URL, std::string(text).c_str(), CURLU_NON_SUPPORT_SCHEME));
  if (code != CURLUE_OK) {
    return rules::fail(ErrorCode::kInvalid,
                       std::string("this is no URL: ") + rules::lower(curl_url_strerror(code)));
  }
  Url url;
  url.scheme = rules::lower(part_of(handle.get(), CURLUPART_SCHEME));
  if (url.scheme != plain && url.scheme != encrypted) {
    return rules::fail(ErrorCode::kInvalid,
                       fmt::format("the URL's scheme is neither {} nor {}", encrypted, plain));
  }
  if (!part_of(handle.get(), CURLUPART_USER).empty() || !part_of(handle.get(), CURLUPART_PASSWORD).empty()) {
    return rules::fail(ErrorCode::kInvalid, "the URL has a user or a password in it");
  }
  if (text.find('#') != std::string_view::npos) {
    return rules::fail(ErrorCode::kInvalid, "the URL has a fragment (#…) in it, which is never sent");
  }
  url.host = rules::lower(part_of(handle.get(), CURLUPART_HOST));
  if (url.host.size() > 2 && url.host.front() == '[') url.host = url.host.substr(1, url.host.size() - 2);
  if (url.host.empty()) return rules::fail(ErrorCode::kInvalid, "the URL names no host");
  const std::string port = part_of(handle.get(), CURLUPART_PORT);
  const std::string port_or_default = part_of(handle.get(), CURLUPART_PORT, CURLU_DEFAULT_PORT);
  std::from_chars(port_or_default.data(), port_or_default.data() + port_or_default.size(), url.port);
  if (url.port == 0) return rules::fail(ErrorCode::kInvalid, "the URL's port is none");
  url.path = part_of(handle.get(), CURLUPART_PATH);
  if (const std::string query = part_of(handle.get(), CURLUPART_QUERY); !query.empty())
    url.path += "?" + query;
  const bool is_v6 = url.host.find(':') != std::string::npos;
  url.shown =
      url.scheme + "://" + (is_v6 ? "[" + url.host + "]" : url.host) + (port.empty() ? "" : ":" + port);
  return url;
}

}  // namespace

rules::Result<Url> parse_url(std::string_view text) {
  return parse_any_url(text, "http", "https");
}

rules::Result<Url> parse_mail_server(std::string_view text) {
  rules::Result<Url> url = parse_any_url(text, "smtp", "smtps");
  if (url && !url->path.empty() && url->path != "/")
    return rules::fail(ErrorCode::kInvalid, "something follows the server's name");
  return url;
}

std::vector<Secret> HttpOptions::secrets() const {
  std::vector<Secret> all;
  for (const Secret* secret : {&proxy_auth, &bearer_token, &basic_auth}) {
    if (!secret->empty()) all.push_back(*secret);
  }
  return all;
}

std::optional<HttpOptions> read_http_options(FieldReader& fields) {
  HttpOptions options;
  bool good = true;
  const auto wrong = [&](std::string_view key, std::string reason, std::string fix) {
    fields.error(key, std::move(reason), std::move(fix));
    good = false;
  };

  if (const std::optional<Duration> timeout = fields.duration("timeout")) {
    if (*timeout < Duration(100) || *timeout > seconds(15)) {
      wrong("timeout", "a timeout is at least 100ms and at most 15s",
            "a sink that needs longer is not reached in time; leave it out for 15s");
    }
    options.timeout = *timeout;
  }
  if (const std::optional<std::string> proxy = fields.text("proxy", false)) {
    if (*proxy == "none") {
      options.proxy = "";
    } else {
      const rules::Result<Url> url = parse_url(*proxy);
      if (!url) {
        wrong("proxy", "as a proxy: " + url.error().message,
              "write http://host:port, or none to ignore the environment's; user and password belong in "
              "proxy_auth");
      } else {
        options.proxy = url->shown;
      }
    }
  }
  if (const std::optional<Secret> auth = fields.secret("proxy_auth", false)) {
    if (!fields.assume_secrets() && auth->reveal().find(':') == std::string::npos) {
      wrong("proxy_auth", "a proxy's credentials have the form user:password", "");
    }
    options.proxy_auth = *auth;
  }
  if (const std::optional<std::string> ca_file = fields.text("ca_file", false)) {
    if (!fields.assume_secrets() && access(ca_file->c_str(), R_OK) != 0) {
      wrong("ca_file", fmt::format("cannot read {}: {}", *ca_file, rules::errno_text(errno)),
            "name a file with the certificates to trust, in PEM form");
    }
    options.ca_file = *ca_file;
  }
  if (!good) return std::nullopt;
  return options;
}

bool read_authorization(FieldReader& fields, HttpOptions& options) {
  bool good = true;
  const std::optional<Secret> bearer = fields.secret("bearer_token", false);
  const std::optional<std::string> username = fields.text("username", false);
  const std::optional<Secret> password = fields.secret("password", username.has_value());
  if (bearer && (username || password)) {
    fields.error("bearer_token", "there is a bearer_token and a username with its password",
                 "only one of them can stand in the Authorization header");
    good = false;
  }
  if (password && !username) {
    fields.error("password", "there is a password but no username", "add username:, or use bearer_token");
    good = false;
  }
  if (username && username->find(':') != std::string::npos) {
    fields.error("username", "a user name cannot have a colon in it", "");
    good = false;
  }
  if (username && !password) good = false;
  if (bearer) options.bearer_token = *bearer;
  if (username && password) options.basic_auth = Secret(*username + ":" + password->reveal());
  return good;
}

std::optional<Url> check_url(FieldReader& fields, std::string_view key, std::string_view text,
                             bool plain_http_elsewhere) {
  rules::Result<Url> url = parse_url(text);
  if (!url) {
    fields.error(key, url.error().message,
                 "write the whole URL, such as https://host/path, and nothing else");
    return std::nullopt;
  }
  if (url->scheme == "http" && !plain_http_elsewhere && !url->is_loopback()) {
    fields.error(key, "plain HTTP would show the secret in the URL to everybody on the way", "use https://");
    return std::nullopt;
  }
  if (is_refused_host(fields, key, *url)) return std::nullopt;
  return std::move(*url);
}

bool is_refused_host(FieldReader& fields, std::string_view key, const Url& url) {
  const std::string bytes = literal_address(url.host);
  if (bytes.empty() || !is_refused_address(bytes)) return false;
  fields.error(key, "the address " + url.host + " is link-local, multicast or a cloud's metadata service",
               "name the host that is to be told");
  return true;
}

std::string_view HttpResult::header(std::string_view lower_case_name) const {
  const auto found = std::find_if(headers.begin(), headers.end(),
                                  [&](const auto& header) { return header.first == lower_case_name; });
  return found == headers.end() ? std::string_view() : std::string_view(found->second);
}

std::optional<Duration> parse_retry_after(std::string_view header, rules::Timestamp now) {
  if (header.empty()) return std::nullopt;
  if (header.find_first_not_of("0123456789.") == std::string_view::npos) {
    double hint = 0;
    const auto [end, error] = std::from_chars(header.data(), header.data() + header.size(), hint);
    if (error == std::errc::result_out_of_range) return kMaxRetryAfter;
    if (error != std::errc() || end != header.data() + header.size() || hint <= 0) return std::nullopt;
    return clamp_hint(hint);
  }
  const std::time_t at = curl_getdate(std::string(header).c_str(), nullptr);
  if (at < 0) return std::nullopt;
  const Duration wait = rules::from_unix_ms(static_cast<std::int64_t>(at) * 1000) - now;
  if (wait <= Duration(0)) return std::nullopt;
  return std::min(wait, kMaxRetryAfter);
}

std::optional<Duration> retry_after_in(std::string_view json) {
  const rules::Result<rules::Json> body = rules::Json::parse(json);
  if (!body) return std::nullopt;
  const rules::Json& hint = (*body)["retry_after"];
  if (!hint.is_number() || !(hint.number() > 0)) return std::nullopt;
  return clamp_hint(hint.number());
}

std::string describe(const HttpResult& result, const std::vector<Secret>& hide) {
  if (result.kind != HttpResult::Kind::kAnswered) return result.error;
  std::string text = fmt::format("HTTP {}", result.status);
  const std::string body = quote(result.body, hide);
  if (!body.empty()) text += ": " + body;
  return text;
}

Outcome outcome_of(const HttpResult& result, const std::vector<Secret>& hide) {
  const std::string detail = describe(result, hide);
  if (result.kind == HttpResult::Kind::kLost) return Outcome::unknown(detail);
  if (result.kind == HttpResult::Kind::kNotSent) {
    if (result.permanent) return Outcome::rejected(result.reason, detail, true);
    return Outcome::retry(result.reason, detail, result.retry_after);
  }
  const auto row = std::find_if(kStatuses.begin(), kStatuses.end(), [&](const StatusRow& r) {
    return result.status >= r.from && result.status <= r.to;
  });
  LOGBELL_CHECK(row != kStatuses.end());
  switch (row->kind) {
    case Outcome::Kind::kDelivered:
      return Outcome::delivered(fmt::format("HTTP {}", result.status));
    case Outcome::Kind::kRejected:
      return Outcome::rejected(row->reason, detail, row->sink_is_dead);
    default:
      return Outcome::retry(row->reason, detail, result.retry_after);
  }
}

// The end of the first certificate of the chain, the server's own: "Expire date:Dec 31 23:59:59 2026 GMT".
std::optional<rules::Timestamp> certificate_end_of(CURL* easy) {
  curl_certinfo* chain = nullptr;
  if (curl_easy_getinfo(easy, CURLINFO_CERTINFO, &chain) != CURLE_OK || chain == nullptr) return std::nullopt;
  if (chain->num_of_certs < 1) return std::nullopt;
  static constexpr std::string_view kField = "Expire date:";
  for (const curl_slist* line = chain->certinfo[0]; line != nullptr; line = line->next) {
    const std::string_view text(line->data);
    if (text.substr(0, kField.size()) != kField) continue;
    const std::time_t at = curl_getdate(std::string(text.substr(kField.size())).c_str(), nullptr);
    if (at > 0) return rules::from_unix_ms(static_cast<std::int64_t>(at) * 1000);
  }
  return std::nullopt;
}

struct HttpClient::Impl {
  HttpOptions options;
  Easy easy;

  void begin_anew() {
    easy.reset(curl_easy_init());
    LOGBELL_CHECK(easy != nullptr);
  }
};

HttpClient::HttpClient(HttpOptions options) : impl_(std::make_unique<Impl>()) {
  init_curl();
  impl_->options = std::move(options);
  impl_->begin_anew();
}
HttpClient::~HttpClient() = default;
HttpClient::HttpClient(HttpClient&&) noexcept = default;
HttpClient& HttpClient::operator=(HttpClient&&) noexcept = default;

Duration HttpClient::budget(Duration attempt) const {
  return std::min(attempt, impl_->options.timeout);
}

HttpResult HttpClient::post(const HttpRequest& request) {
  return perform(Method::kPost, request);
}

HttpResult HttpClient::get(const HttpRequest& request) {
  return perform(Method::kGet, request);
}

HttpResult HttpClient::head(const HttpRequest& request) {
  return perform(Method::kHead, request);
}

HttpResult HttpClient::perform(Method method, const HttpRequest& request) {
  HttpResult result;
  const HttpOptions& options = impl_->options;
  std::vector<Secret> hide = options.secrets();
  hide.push_back(request.url);
  for (const HttpHeader& header : request.headers)
    hide.push_back(header.value);

  const Duration timeout = budget(request.timeout);
  if (timeout <= Duration(0)) {
    result.reason = Reason::kTimeout;
    result.error = "no time was left to ask";
    return result;
  }
  const rules::Result<Url> url = parse_url(request.url.reveal());
  if (!url) {
    result.reason = Reason::kBadRequest;
    result.error = url.error().message;
    result.permanent = true;
    return result;
  }
  const std::string literal = literal_address(url->host);
  if (!literal.empty() && is_refused_address(literal)) {
    result.reason = Reason::kBlocked;
    result.error = "the address " + url->host + " is one that is never asked";
    result.permanent = true;
    return result;
  }

  CURL* easy = impl_->easy.get();
  curl_easy_reset(easy);  // options only: connections and names stay known
  Call call;
  call.most_body = impl_->options.max_body;
  if (method == Method::kPost) call.body_bytes = request.body.size();
  const auto set = [&](CURLoption option, auto value) { set_option(easy, option, value); };
  const bool uses_proxy = take_way(easy, *url, options, timeout, call);
  set(CURLOPT_URL, request.url.reveal().c_str());
  set(CURLOPT_FOLLOWLOCATION, 0L);
  // One request at a time: HTTP/2 gains nothing, and with 1.1 "written in full" has one meaning.
  set(CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  set(CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(std::min(timeout, kMaxConnectTime).count()));
  set(CURLOPT_LOW_SPEED_LIMIT, 1L);
  set(CURLOPT_LOW_SPEED_TIME, kLowSpeedSeconds);
  set(CURLOPT_MAXAGE_CONN, kMaxIdleSeconds);
  set(CURLOPT_MAXCONNECTS, 1L);
  if (!options.bearer_token.empty()) {
    set(CURLOPT_HTTPAUTH, static_cast<long>(CURLAUTH_BEARER));
    set(CURLOPT_XOAUTH2_BEARER, options.bearer_token.reveal().c_str());
  } else if (!options.basic_auth.empty()) {
    const std::string& pair = options.basic_auth.reveal();
    set(CURLOPT_HTTPAUTH, static_cast<long>(CURLAUTH_BASIC));
    set(CURLOPT_USERNAME, pair.substr(0, pair.find(':')).c_str());
    set(CURLOPT_PASSWORD, pair.substr(pair.find(':') + 1).c_str());
  }
  set(CURLOPT_CERTINFO, 1L);
  set(CURLOPT_PREREQFUNCTION, &before_request);
  set(CURLOPT_PREREQDATA, static_cast<void*>(&call));
  set(CURLOPT_NOPROGRESS, 0L);
  set(CURLOPT_XFERINFOFUNCTION, &on_progress);
  set(CURLOPT_XFERINFODATA, static_cast<void*>(&call));
  set(CURLOPT_HEADERFUNCTION, &on_header);
  set(CURLOPT_HEADERDATA, static_cast<void*>(&call));
  set(CURLOPT_WRITEFUNCTION, &on_body);
  set(CURLOPT_WRITEDATA, static_cast<void*>(&call));
  switch (method) {
    case Method::kPost:
      set(CURLOPT_POST, 1L);
      set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
      set(CURLOPT_POSTFIELDS, request.body.c_str());
      break;
    case Method::kGet:
      set(CURLOPT_HTTPGET, 1L);
      break;
    case Method::kHead:
      set(CURLOPT_NOBODY, 1L);
      break;
  }

  List list;
  // "Expect: 100-continue" would cost a round trip and one more state to be lost in.
  list.reset(curl_slist_append(nullptr, "Expect:"));
  for (const HttpHeader& header : request.headers) {
    const std::string line = header.name + ": " + header.value.reveal();
    LOGBELL_CHECK(line.find_first_of(std::string_view("\r\n\0", 3)) == std::string::npos);
    curl_slist* longer = curl_slist_append(list.get(), line.c_str());
    LOGBELL_CHECK(longer != nullptr);
    static_cast<void>(list.release());
    list.reset(longer);
  }
  set(CURLOPT_HTTPHEADER, list.get());

  const CURLcode code = curl_easy_perform(easy);

  curl_off_t elapsed_us = 0;
  curl_easy_getinfo(easy, CURLINFO_TOTAL_TIME_T, &elapsed_us);
  result.elapsed = Duration((elapsed_us + 999) / 1000);
  long status = 0;
  curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
  curl_off_t uploaded = 0;
  curl_easy_getinfo(easy, CURLINFO_SIZE_UPLOAD_T, &uploaded);
  call.uploaded = std::max(call.uploaded, uploaded);
  const bool written = call.resend || (call.starts > 0 && call.is_written());

  // A refusal counts even when its text was cut off; a success only when it is whole.
  const bool is_answered =
      !call.no_http && (code == CURLE_OK || (code == CURLE_WRITE_ERROR && call.body_cut) ||
                        (status >= 300 && call.starts > 0));
  if (is_answered && status > 0) {
    result.kind = HttpResult::Kind::kAnswered;
    result.status = static_cast<int>(status);
    result.headers = std::move(call.headers);
    result.body = std::move(call.body);
    result.retry_after = parse_retry_after(result.header("retry-after"), request.now);
    if (const auto in_body = retry_after_in(result.body); in_body > result.retry_after)
      result.retry_after = in_body;
    result.certificate_ends = certificate_end_of(easy);
    return result;
  }

  const std::string words = call.no_http ? "what came is no HTTP" : words_of(code, call);
  const Failure failure = why_not_sent(easy, code, *url, call, uses_proxy, quote(words, hide));
  // Where nobody answers, the name may lead elsewhere by now: what is known of it goes with the connection.
  impl_->begin_anew();
  if (written) {
    result.kind = HttpResult::Kind::kLost;
    result.reason = Reason::kResponseLost;
    result.error = "sent, but the answer was lost: " +
                   (call.resend ? "the connection was closed before an answer came" : quote(words, hide));
    return result;
  }
  result.kind = HttpResult::Kind::kNotSent;
  result.reason = failure.reason;
  result.permanent = failure.permanent;
  result.distrusted = failure.distrusted;
  result.error = failure.error;
  result.retry_after = failure.retry_after;
  return result;
}

// --- mail

std::string describe(const SmtpResult& result, const std::vector<Secret>& hide) {
  if (result.kind != SmtpResult::Kind::kAnswered) return result.error;
  const std::string text = quote(result.text, hide);
  return text.empty() ? fmt::format("{}", result.code) : fmt::format("{} {}", result.code, text);
}

namespace {

// What the server said while curl spoke with it; the callbacks' user data.
struct Greeting {
  CURL* easy = nullptr;
  Call call;
  bool too_slow = false;  // nobody answered within kMaxConnectTime
  std::size_t bytes = 0;
  std::vector<SmtpResult> replies;
  bool begun = false;  // the last of them goes on
};

// "250-SIZE 1000" -> its code, and whether it is the last line of its answer; nullopt: no line of SMTP's.
struct ReplyLine {
  int code = 0;
  bool last = true;
  std::string_view text;
};
std::optional<ReplyLine> read_line(std::string_view line) {
  while (!line.empty() && (line.back() == '\n' || line.back() == '\r'))
    line.remove_suffix(1);
  if (line.size() < 3 || !std::all_of(line.begin(), line.begin() + 3, rules::is_digit)) return std::nullopt;
  if (line.size() > 3 && line[3] != ' ' && line[3] != '-') return std::nullopt;
  ReplyLine out;
  out.code = (line[0] - '0') * 100 + (line[1] - '0') * 10 + (line[2] - '0');
  out.last = line.size() == 3 || line[3] == ' ';
  out.text = line.substr(std::min<std::size_t>(line.size(), 4));
  return out;
}

void append(SmtpResult& reply, const ReplyLine& line) {
  reply.kind = SmtpResult::Kind::kAnswered;
  reply.code = line.code;
  if (!reply.text.empty()) reply.text += '\n';
  reply.text += line.text;
}

std::size_t on_reply(char* data, std::size_t size, std::size_t count, void* user) {
  auto* greeting = static_cast<Greeting*>(user);
  greeting->bytes += size * count;
  if (greeting->bytes > kMaxResponseBytes) return 0;
  const std::optional<ReplyLine> line = read_line({data, size * count});
  if (!line) return size * count;
  if (!greeting->begun) greeting->replies.emplace_back();
  append(greeting->replies.back(), *line);
  greeting->begun = !line->last;
  return size * count;
}

// curl counts the greeting, which careful servers hold back for some seconds, as connecting: only until the
// connection stands is this black hole's time.
int on_greeting(void* user, curl_off_t /*down_total*/, curl_off_t /*down*/, curl_off_t /*up_total*/,
                curl_off_t /*up*/) {
  auto* greeting = static_cast<Greeting*>(user);
  curl_off_t connected_us = 0;
  curl_off_t elapsed_us = 0;
  curl_easy_getinfo(greeting->easy, CURLINFO_CONNECT_TIME_T, &connected_us);
  curl_easy_getinfo(greeting->easy, CURLINFO_TOTAL_TIME_T, &elapsed_us);
  greeting->too_slow = connected_us == 0 && elapsed_us > Duration(kMaxConnectTime).count() * 1000;
  return greeting->too_slow ? 1 : 0;
}

// "SIZE 10240000" among what EHLO lists (RFC 1870); 0: no limit, or none said.
std::size_t size_in(std::string_view ehlo) {
  std::size_t limit = 0;
  while (!ehlo.empty()) {
    const std::size_t end = std::min(ehlo.find('\n'), ehlo.size());
    const std::string_view line = ehlo.substr(0, end);
    if (rules::same_ignoring_case(line.substr(0, 5), "SIZE "))
      std::from_chars(line.data() + 5, line.data() + line.size(), limit);
    ehlo.remove_prefix(std::min(end + 1, ehlo.size()));
  }
  return limit;
}

}  // namespace

struct SmtpClient::Impl {
  HttpOptions way;
  SmtpOptions options;
  std::vector<Secret> hide;
  Easy easy;  // null: nobody listens
  curl_socket_t socket = CURL_SOCKET_BAD;
  Timer timer;
  std::string unread;
  std::string_view at = "connect";
  std::size_t size_limit = 0;
  bool encrypted = false;
  std::optional<rules::Timestamp> certificate_ends;

  // Whether there is something to read, or room to write, before the time is over.
  bool wait_for(short events) const {
    std::array<pollfd, 2> fds{{{socket, events, 0}, {timer.fd(), POLLIN, 0}}};
    while (poll(fds.data(), fds.size(), -1) < 0) {
      if (errno != EINTR) return false;
    }
    return fds[1].revents == 0;
  }
  SmtpResult failed(Reason reason, std::string_view why) {
    easy.reset();
    SmtpResult result;
    result.reason = reason;
    result.error = quote(why, hide);
    return result;
  }
  std::optional<SmtpResult> write(std::string_view bytes);
  SmtpResult read();
  SmtpResult read_greeting(CURLcode code, Greeting& greeting, bool uses_proxy);
};

// Nothing where it was written in full.
std::optional<SmtpResult> SmtpClient::Impl::write(std::string_view bytes) {
  if (easy == nullptr) return failed(Reason::kConnect, "there is no connection");
  while (!bytes.empty()) {
    std::size_t sent = 0;
    const CURLcode code = curl_easy_send(easy.get(), bytes.data(), bytes.size(), &sent);
    bytes.remove_prefix(sent);
    if (code == CURLE_AGAIN) {
      if (!wait_for(POLLOUT)) return failed(Reason::kTimeout, "the mail server takes nothing more");
    } else if (code != CURLE_OK) {
      return failed(Reason::kConnect, std::string("the connection broke: ") + curl_easy_strerror(code));
    }
  }
  return std::nullopt;
}

SmtpResult SmtpClient::Impl::read() {
  SmtpResult result;
  std::size_t bytes = 0;
  while (true) {
    if (const std::size_t end = unread.find('\n'); end != std::string::npos) {
      const std::string text = unread.substr(0, end);
      unread.erase(0, end + 1);
      const std::optional<ReplyLine> line = read_line(text);
      if (!line) return failed(Reason::kBadResponse, "what came is no answer of a mail server: " + text);
      append(result, *line);
      if (line->last) return result;
      continue;
    }
    std::array<char, 4096> piece{};
    std::size_t got = 0;
    const CURLcode code = curl_easy_recv(easy.get(), piece.data(), piece.size(), &got);
    if (code == CURLE_AGAIN) {
      if (!wait_for(POLLIN)) return failed(Reason::kTimeout, "the mail server did not answer in time");
      continue;
    }
    if (code != CURLE_OK || got == 0)
      return failed(Reason::kConnect, "the mail server closed the connection");
    bytes += got;
    if (bytes > kMaxResponseBytes) return failed(Reason::kBadResponse, "the mail server's answer has no end");
    unread.append(piece.data(), got);
  }
}

SmtpResult SmtpClient::Impl::read_greeting(CURLcode code, Greeting& greeting, bool uses_proxy) {
  SmtpResult last = greeting.replies.empty() ? SmtpResult() : greeting.replies.back();
  const auto for_a_person = [&](Reason reason, std::string_view why) {
    SmtpResult result = failed(reason, why);
    result.permanent = true;
    return result;
  };
  at = code == CURLE_LOGIN_DENIED                               ? "AUTH"
       : code == CURLE_USE_SSL_FAILED                           ? "STARTTLS"
       : greeting.replies.empty()                               ? "connect"
       : reason_of(code) == Reason::kTls                        ? "TLS"
       : last.code >= 400 && code != CURLE_REMOTE_ACCESS_DENIED ? "greeting"
                                                                : "EHLO";
  if (code == CURLE_OK) {
    const auto said = [&](int what) {
      return std::find_if(greeting.replies.rbegin(), greeting.replies.rend(),
                          [&](const SmtpResult& reply) { return reply.code == what; });
    };
    // curl says nothing of a server that offers no AUTH at all.
    if (!options.username.empty() && said(235) == greeting.replies.rend()) {
      at = "AUTH";
      return for_a_person(Reason::kAuth, "the mail server lets nobody log in here");
    }
    if (const auto ehlo = said(250); ehlo != greeting.replies.rend()) size_limit = size_in(ehlo->text);
    curl_easy_getinfo(easy.get(), CURLINFO_ACTIVESOCKET, &socket);
    // The second 220 is that of STARTTLS: what came after was encrypted, or curl would not have gone on.
    encrypted = options.server.scheme == "smtps" ||
                std::count_if(greeting.replies.begin(), greeting.replies.end(),
                              [](const SmtpResult& reply) { return reply.code == 220; }) > 1;
    return last;
  }
  // The answers below 400 were good ones: what failed came after.
  const bool is_refusal = last.code >= 400;
  if (code == CURLE_USE_SSL_FAILED) {
    if (!is_refusal)
      return for_a_person(Reason::kTls,
                          "the mail server does not offer STARTTLS: nothing is sent in plain text");
    SmtpResult result =
        failed(Reason::kTls, fmt::format("STARTTLS is refused with {}: {}", last.code, last.text));
    result.permanent = last.code >= 500;
    return result;
  }
  if (code == CURLE_LOGIN_DENIED && !is_refusal)
    return for_a_person(Reason::kAuth, "the mail server lets nobody log in with PLAIN or LOGIN");
  const bool is_answer =
      code == CURLE_LOGIN_DENIED || code == CURLE_REMOTE_ACCESS_DENIED || code == CURLE_WEIRD_SERVER_REPLY;
  if (is_answer && is_refusal) {
    easy.reset();
    return last;
  }
  if (greeting.too_slow) {
    std::string why = fmt::format("nobody answers at {} within {} s", options.server.shown,
                                  std::chrono::duration_cast<seconds>(kMaxConnectTime).count());
    double lookup = 0;
    curl_easy_getinfo(easy.get(), CURLINFO_NAMELOOKUP_TIME, &lookup);
    return failed(lookup == 0 && !greeting.call.allowed_address ? Reason::kDns : Reason::kTimeout, why);
  }
  const Failure failure = why_not_sent(easy.get(), code, options.server, greeting.call, uses_proxy,
                                       quote(words_of(code, greeting.call), hide));
  SmtpResult result = failed(failure.reason, failure.error);
  result.permanent = failure.permanent;
  result.distrusted = failure.distrusted;
  result.retry_after = failure.retry_after;
  return result;
}

SmtpClient::SmtpClient(HttpOptions way, SmtpOptions options) : impl_(std::make_unique<Impl>()) {
  init_curl();
  impl_->hide = way.secrets();
  if (!options.password.empty()) impl_->hide.push_back(options.password);
  impl_->way = std::move(way);
  impl_->options = std::move(options);
}
SmtpClient::~SmtpClient() = default;

SmtpResult SmtpClient::open(Duration timeout) {
  Impl& impl = *impl_;
  const SmtpOptions& options = impl.options;
  impl.unread.clear();
  impl.size_limit = 0;
  impl.encrypted = false;
  impl.certificate_ends.reset();
  const Duration budget = std::min(timeout, impl.way.timeout);
  if (budget <= Duration(0)) return impl.failed(Reason::kTimeout, "no time was left to ask");
  if (!impl.timer.arm(budget)) return impl.failed(Reason::kIo, "no descriptor is left for a timer");
  if (const std::string literal = literal_address(options.server.host);
      !literal.empty() && is_refused_address(literal)) {
    SmtpResult result =
        impl.failed(Reason::kBlocked, "the address " + options.server.host + " is one that is never asked");
    result.permanent = true;
    return result;
  }
  impl.easy.reset(curl_easy_init());
  LOGBELL_CHECK(impl.easy != nullptr);
  CURL* easy = impl.easy.get();
  Greeting greeting;
  greeting.easy = easy;
  const auto set = [&](CURLoption option, auto value) { set_option(easy, option, value); };
  const bool uses_proxy = take_way(easy, options.server, impl.way, budget, greeting.call);
  // What follows the host is what curl says with EHLO.
  const bool is_v6 = options.server.host.find(':') != std::string::npos;
  const std::string url = fmt::format("{}://{}:{}/{}", options.server.scheme,
                                      is_v6 ? "[" + options.server.host + "]" : options.server.host,
                                      options.server.port, options.hello);
  set(CURLOPT_URL, url.c_str());
  set(CURLOPT_CONNECT_ONLY, 1L);
  set(CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(budget.count()));
  set(CURLOPT_USE_SSL, static_cast<long>(options.starttls == StartTls::kRequired      ? CURLUSESSL_ALL
                                         : options.starttls == StartTls::kIfAvailable ? CURLUSESSL_TRY
                                                                                      : CURLUSESSL_NONE));
  if (!options.username.empty()) {
    set(CURLOPT_USERNAME, options.username.c_str());
    set(CURLOPT_PASSWORD, options.password.reveal().c_str());
    // The line is encrypted, and servers announce what they cannot do (GSSAPI, DIGEST-MD5).
    set(CURLOPT_LOGIN_OPTIONS, "AUTH=PLAIN;AUTH=LOGIN");
  }
  set(CURLOPT_CERTINFO, 1L);
  set(CURLOPT_NOPROGRESS, 0L);
  set(CURLOPT_XFERINFOFUNCTION, &on_greeting);
  set(CURLOPT_XFERINFODATA, static_cast<void*>(&greeting));
  set(CURLOPT_HEADERFUNCTION, &on_reply);
  set(CURLOPT_HEADERDATA, static_cast<void*>(&greeting));

  const CURLcode code = curl_easy_perform(easy);
  SmtpResult result = impl.read_greeting(code, greeting, uses_proxy);
  // What the callbacks were given ends here; sending and receiving call none of them.
  if (impl.easy != nullptr) {
    impl.certificate_ends = certificate_end_of(easy);
    set(CURLOPT_NOPROGRESS, 1L);
    set(CURLOPT_ERRORBUFFER, static_cast<char*>(nullptr));
  }
  return result;
}

std::string_view SmtpClient::at() const {
  return impl_->at;
}

SmtpResult SmtpClient::command(std::string_view line) {
  LOGBELL_CHECK(line.find_first_of(std::string_view("\r\n\0", 3)) == std::string_view::npos);
  if (std::optional<SmtpResult> broken = impl_->write(std::string(line) + "\r\n")) return *std::move(broken);
  return impl_->read();
}

SmtpResult SmtpClient::data(std::string_view message) {
  std::string wire;
  wire.reserve(message.size() + 64);
  bool begins = true;
  for (const char c : message) {
    if (begins && c == '.') wire += '.';
    wire += c;
    begins = c == '\n';
  }
  // Until its last byte is written the server knows of no end, and takes nothing (RFC 5321 §4.1.1.4).
  wire += begins ? ".\r\n" : "\r\n.\r\n";
  if (std::optional<SmtpResult> broken = impl_->write(wire)) return *std::move(broken);
  SmtpResult result = impl_->read();
  if (result.kind == SmtpResult::Kind::kAnswered) return result;
  result.kind = SmtpResult::Kind::kLost;
  result.reason = Reason::kResponseLost;
  result.error = "sent, but the answer was lost: " + result.error;
  return result;
}

void SmtpClient::close() {
  // RFC 5321 §4.1.1.10 wants the answer awaited; nobody else should have to wait for one that does not come.
  if (impl_->easy == nullptr) return;
  if (impl_->timer.arm(std::min(impl_->timer.left(), kLeaveTime))) static_cast<void>(command("QUIT"));
  impl_->easy.reset();
}

Duration SmtpClient::left() const {
  return impl_->timer.left();
}

bool SmtpClient::is_encrypted() const {
  return impl_->encrypted;
}

std::optional<rules::Timestamp> SmtpClient::certificate_ends() const {
  return impl_->certificate_ends;
}

std::size_t SmtpClient::size_limit() const {
  return impl_->size_limit;
}

}  // namespace logbell::sinks

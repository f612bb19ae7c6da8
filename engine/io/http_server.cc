// HttpServer on libmicrohttpd. The only file that includes it.
#include "engine/io/http_server.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <list>
#include <system_error>
#include <thread>

#include <fcntl.h>
#include <fmt/format.h>
#include <microhttpd.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/io/descriptors.h"
#include "rules/text.h"

namespace logbell::engine {

using rules::ErrorCode;
using rules::fail;
using rules::Result;

namespace {

// Request line and headers of one connection; beyond it libmicrohttpd answers 431 itself.
constexpr std::size_t kConnectionMemory = 16 * 1024;
// Connections that the kernel holds while we are busy: a handler takes milliseconds.
constexpr int kBacklog = 511;
// An upload of unknown length that is too large is read this far for the sake of a proper 413, then cut off.
constexpr std::size_t kMaxDiscarded = 1024 * 1024;

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// Percent-decoding; what is not a valid escape stays as it is. In a query "+" is a space.
std::string decode(std::string_view text, bool in_query) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size()) {
      const int high = hex_digit(text[i + 1]);
      const int low = hex_digit(text[i + 2]);
      if (high >= 0 && low >= 0) {
        out += static_cast<char>(high * 16 + low);
        i += 2;
        continue;
      }
    }
    out += in_query && text[i] == '+' ? ' ' : text[i];
  }
  return out;
}

// Fills path and query from "/a%20b?x=1&y". False: not a path of ours.
bool parse_target(std::string_view target, HttpRequest& request) {
  const std::size_t question = target.find('?');
  request.path = decode(target.substr(0, question), false);
  // An escaped NUL would make different readers see different paths.
  if (request.path.empty() || request.path.front() != '/' || request.path.find('\0') != std::string::npos)
    return false;
  if (question != std::string_view::npos) request.query = parse_form(target.substr(question + 1));
  return true;
}

// One request on its way: made when its first line was read, freed when it is answered or its connection is
// gone.
struct Exchange {
  std::string target;
  HttpRequest request;
  bool started = false;
  std::size_t received = 0;
};

struct Address {
  std::string host;
  std::string port;
};

Result<Address> split(const std::string& address) {
  const auto wrong = [&](std::string_view why) {
    return fail(ErrorCode::kInvalid, fmt::format("listen on \"{}\": {}", address, why));
  };
  const std::size_t colon = address.rfind(':');
  if (colon == std::string::npos) return wrong("no port; write host:port");
  Address found{address.substr(0, colon), address.substr(colon + 1)};
  unsigned port = 0;
  const auto [end, error] = std::from_chars(found.port.data(), found.port.data() + found.port.size(), port);
  if (error != std::errc{} || end != found.port.data() + found.port.size() || port > 65535) {
    return wrong("the port is not a number from 0 to 65535");
  }
  if (!found.host.empty() && found.host.front() == '[') {
    if (found.host.back() != ']') return wrong("\"[\" without \"]\"");
    found.host = found.host.substr(1, found.host.size() - 2);
    if (found.host.empty()) return wrong("no address between \"[\" and \"]\"");
  } else if (found.host.find(':') != std::string::npos) {
    return wrong("an IPv6 address needs brackets: [::1]:port");
  }
  return found;
}

// A listening socket, or -1 with errno.
int try_listen(const addrinfo& candidate, bool every_address) {
  const int fd = ::socket(candidate.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -1;
  const int on = 1;
  const int off = 0;
  // Without it a restart would wait a minute for the old connections to be forgotten.
  bool good = ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0;
  if (candidate.ai_family == AF_INET6) {
    const int* only = every_address ? &off : &on;
    good = good && ::setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, only, sizeof *only) == 0;
  }
  good = good && ::bind(fd, candidate.ai_addr, candidate.ai_addrlen) == 0 && ::listen(fd, kBacklog) == 0;
  if (good) return fd;
  const int error = errno;
  ::close(fd);
  errno = error;
  return -1;
}

Result<int> listen_on(const std::string& address) {
  Result<Address> parts = split(address);
  if (!parts) return fail(parts.error());
  const bool every_address = parts->host.empty();
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int rc =
      ::getaddrinfo(every_address ? nullptr : parts->host.c_str(), parts->port.c_str(), &hints, &found);
  if (rc != 0) {
    return fail(ErrorCode::kInvalid, fmt::format("listen on {}: {}", address, ::gai_strerror(rc)));
  }
  // For every address IPv6 first: such a socket takes IPv4 as well.
  std::vector<const addrinfo*> candidates;
  for (const addrinfo* it = found; it != nullptr; it = it->ai_next)
    candidates.push_back(it);
  if (every_address) {
    std::stable_sort(candidates.begin(), candidates.end(), [](const addrinfo* a, const addrinfo* b) {
      return (a->ai_family == AF_INET6) > (b->ai_family == AF_INET6);
    });
  }
  int fd = -1;
  int error = 0;
  for (const addrinfo* candidate : candidates) {
    fd = try_listen(*candidate, every_address);
    if (fd >= 0) break;
    // Of several reasons the one that the operator can act on.
    if (error == 0 || errno == EADDRINUSE || errno == EACCES) error = errno;
    if (errno == EADDRINUSE) break;
  }
  ::freeaddrinfo(found);
  if (fd >= 0) return fd;
  const bool unavailable = error == EADDRINUSE || error == EADDRNOTAVAIL || error == EACCES;
  return fail(unavailable ? ErrorCode::kUnavailable : ErrorCode::kIo,
              fmt::format("listen on {}: {}", address, rules::errno_text(error)));
}

unsigned allowed_connections(unsigned wanted) {
  return static_cast<unsigned>(std::min<std::size_t>(wanted, share_descriptors().clients));
}

int open_spare() {
  return ::open("/dev/null", O_RDONLY | O_CLOEXEC);
}

// The process or the system has no descriptor left.
bool is_out_of_descriptors(int error) {
  return error == EMFILE || error == ENFILE;
}

// Of accept4(2): whoever wanted to connect has gone, or never came, as Linux passes errors of the network on.
bool is_gone(int error) {
  for (const int one : {EINTR, ECONNABORTED, EPROTO, ENETDOWN, ENOPROTOOPT, EHOSTDOWN, ENONET, EHOSTUNREACH,
                        EOPNOTSUPP, ENETUNREACH, EPERM}) {
    if (error == one) return true;
  }
  return false;
}

}  // namespace

HttpRequest::Fields parse_form(std::string_view text) {
  HttpRequest::Fields fields;
  while (!text.empty() && fields.size() < HttpServer::kMaxFields) {
    const std::string_view pair = text.substr(0, text.find('&'));
    text.remove_prefix(std::min(text.size(), pair.size() + 1));
    if (pair.empty()) continue;
    const std::size_t equals = pair.find('=');
    const std::string_view value =
        equals == std::string_view::npos ? std::string_view{} : pair.substr(equals + 1);
    fields.emplace_back(decode(pair.substr(0, equals), true), decode(value, true));
  }
  return fields;
}

std::string_view HttpRequest::query_value(std::string_view name) const {
  for (const auto& [key, value] : query) {
    if (key == name) return value;
  }
  return {};
}

std::string_view HttpRequest::header(std::string_view name) const {
  for (const auto& [key, value] : headers) {
    if (rules::same_ignoring_case(key, name)) return value;
  }
  return {};
}

struct HttpServer::Impl {
  HttpHandler handler;
  std::function<void()> on_turned_away;
  MHD_Daemon* daemon = nullptr;
  std::string address;
  std::uint16_t port = 0;
  std::size_t places = 0;
  std::size_t crowded = 0;  // from so many connections on, a new one costs the oldest its place
  int listening = -1;
  int stop = -1;    // an eventfd: the server goes
  int events = -1;  // libmicrohttpd's, and closed by it
  std::thread thread;

  // Owned by the server's thread: sockets, the one that has been quiet longest first.
  std::list<int> connections;
  int spare = -1;  // given up for whoever comes when there is no other descriptor

  Impl() = default;
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  ~Impl();

  void serve() noexcept;
  bool somebody_waits() const;
  int accept_one();
  bool accept_some();
  void turn_away();

  // libmicrohttpd's callbacks. An exception must not cross its frames: noexcept ends the process instead.
  static void* on_target(void* self, const char* uri, MHD_Connection* connection) noexcept;
  static MHD_Result on_request(void* self, MHD_Connection* connection, const char* url, const char* method,
                               const char* version, const char* data, std::size_t* size,
                               void** context) noexcept;
  static void on_completed(void* self, MHD_Connection* connection, void** context,
                           MHD_RequestTerminationCode code) noexcept;
  static void on_connection(void* self, MHD_Connection* connection, void** context,
                            MHD_ConnectionNotificationCode code) noexcept;

  MHD_Result answer(MHD_Connection* connection, const HttpResponse& response) const;
};

void* HttpServer::Impl::on_target(void* /*self*/, const char* uri, MHD_Connection* /*connection*/) noexcept {
  auto exchange = std::make_unique<Exchange>();
  exchange->target = uri;
  return exchange.release();  // on_completed frees it
}

MHD_Result HttpServer::Impl::answer(MHD_Connection* connection, const HttpResponse& response) const {
  // libmicrohttpd only reads a buffer that it copies, but its signature wants it writable.
  void* body =
      const_cast<char*>(response.body.data());  // NOLINT(cppcoreguidelines-pro-type-const-cast): see above
  MHD_Response* reply = MHD_create_response_from_buffer(response.body.size(), body, MHD_RESPMEM_MUST_COPY);
  if (reply == nullptr) return MHD_NO;
  bool good = true;
  const auto add = [&](const std::string& name, const std::string& value) {
    good = good && MHD_add_response_header(reply, name.c_str(), value.c_str()) == MHD_YES;
  };
  add("Content-Type", response.content_type);
  // What we show quotes logs: no browser may guess that it is a page, keep it, or frame it.
  add("X-Content-Type-Options", "nosniff");
  add("Cache-Control", "no-store");
  add("X-Frame-Options", "DENY");
  for (const auto& [name, value] : response.headers)
    add(name, value);
  MHD_Result done = MHD_NO;
  if (good) {
    done = MHD_queue_response(connection, static_cast<unsigned>(response.status), reply);
  }
  MHD_destroy_response(reply);
  // A header with a line break in it: nothing of it may leave.
  if (!good)
    done =
        answer(connection, {500, "text/plain; charset=utf-8", "a header of the answer cannot be sent\n", {}});
  return done;
}

MHD_Result HttpServer::Impl::on_request(void* self, MHD_Connection* connection, const char* /*url*/,
                                        const char* method, const char* /*version*/, const char* data,
                                        std::size_t* size, void** context) noexcept {
  const Impl& server = *static_cast<const Impl*>(self);
  auto* exchange = static_cast<Exchange*>(*context);
  if (exchange == nullptr) return MHD_NO;
  HttpRequest& request = exchange->request;
  if (!exchange->started) {
    exchange->started = true;
    request.method = method;
    MHD_get_connection_values(
        connection, MHD_HEADER_KIND,
        [](void* to, MHD_ValueKind, const char* name, const char* value) {
          auto& headers = *static_cast<HttpRequest::Fields*>(to);
          if (headers.size() >= kMaxFields) return MHD_NO;
          headers.emplace_back(name, value == nullptr ? "" : value);
          return MHD_YES;
        },
        &request.headers);
    if (!parse_target(exchange->target, request)) {
      return server.answer(connection, {400, "text/plain; charset=utf-8", "not a path\n", {}});
    }
    const std::string_view length = request.header("Content-Length");
    std::uint64_t announced = 0;
    std::from_chars(length.data(), length.data() + length.size(), announced);
    if (announced > kMaxBodyBytes) {
      return server.answer(connection,
                           {413, "text/plain; charset=utf-8", "the body is larger than 64 KiB\n", {}});
    }
    return MHD_YES;
  }
  if (*size > 0) {
    exchange->received += *size;
    if (exchange->received <= kMaxBodyBytes) request.body.append(data, *size);
    *size = 0;
    return exchange->received > kMaxDiscarded ? MHD_NO : MHD_YES;
  }
  if (exchange->received > kMaxBodyBytes) {
    return server.answer(connection,
                         {413, "text/plain; charset=utf-8", "the body is larger than 64 KiB\n", {}});
  }
  return server.answer(connection, server.handler(request));
}

void HttpServer::Impl::on_completed(void* self, MHD_Connection* connection, void** context,
                                    MHD_RequestTerminationCode /*code*/) noexcept {
  delete static_cast<Exchange*>(
      *context);  // NOLINT(cppcoreguidelines-owning-memory): it was the library's meanwhile
  *context = nullptr;
  // It has proven useful: it goes to the end of the queue of those that may lose their place.
  auto& connections = static_cast<Impl*>(self)->connections;
  const MHD_ConnectionInfo* info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
  if (info == nullptr) return;
  const auto place = std::find(connections.begin(), connections.end(), info->connect_fd);
  if (place != connections.end()) connections.splice(connections.end(), connections, place);
}

void HttpServer::Impl::on_connection(void* self, MHD_Connection* connection, void** /*context*/,
                                     MHD_ConnectionNotificationCode code) noexcept {
  Impl& server = *static_cast<Impl*>(self);
  const MHD_ConnectionInfo* info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
  if (info == nullptr) return;
  if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
    server.connections.remove(info->connect_fd);
    return;
  }
  // Clients that drip a byte now and then never time out. When they crowd, a new one, which may be the health
  // check, takes the place of the one that has been quiet longest: its socket ends, and the server's loop
  // finds that out.
  if (server.connections.size() >= server.crowded) server.turn_away();
  server.connections.push_back(info->connect_fd);
}

void HttpServer::Impl::turn_away() {
  if (connections.empty()) return;
  ::shutdown(connections.front(), SHUT_RDWR);
  connections.pop_front();
  if (on_turned_away) on_turned_away();
}

bool HttpServer::Impl::somebody_waits() const {
  pollfd waiting{listening, POLLIN, 0};
  return ::poll(&waiting, 1, 0) > 0;
}

// A socket, or -1 with errno. Without a descriptor left, the spare one is given for it.
int HttpServer::Impl::accept_one() {
  int fd = ::accept4(listening, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
  const int error = errno;
  if (fd >= 0 || !is_out_of_descriptors(error)) return fd;
  // It says so even where nobody waits.
  const bool waits = somebody_waits();
  if (waits && spare >= 0) {
    ::close(std::exchange(spare, -1));
    fd = ::accept4(listening, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
  }
  if (fd < 0) errno = waits ? error : EAGAIN;
  return fd;
}

// Those who have come, as far as there are places before the loop has closed the ones that lost theirs.
// False: one cannot be accepted at the moment.
bool HttpServer::Impl::accept_some() {
  const std::size_t at_once = std::max<std::size_t>(1, (places - crowded) / 2);
  for (std::size_t i = 0; i < at_once; ++i) {
    const MHD_DaemonInfo* now = MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS);
    if (now != nullptr && now->num_connections >= places) return false;
    const int fd = accept_one();
    if (fd < 0) {
      if (errno == EAGAIN || errno == EWOULDBLOCK) return true;
      if (is_gone(errno)) continue;
      // Whoever came just now is served first.
      if (i == 0 && is_out_of_descriptors(errno)) turn_away();
      return false;
    }
    sockaddr_storage peer{};
    socklen_t length = sizeof peer;
    auto* name = reinterpret_cast<sockaddr*>(&peer);
    if (::getpeername(fd, name, &length) != 0) {
      ::close(fd);  // gone already
      continue;
    }
    // Closes it where it does not take it.
    static_cast<void>(MHD_add_connection(daemon, fd, name, length));
  }
  return true;
}

// libmicrohttpd would accept by itself. But where it cannot, it tries again at once and for ever.
void HttpServer::Impl::serve() noexcept {
  bool accepting = true;
  while (true) {
    int wait = -1;
    MHD_UNSIGNED_LONG_LONG due = 0;
    if (MHD_get_timeout(daemon, &due) == MHD_YES)
      wait = static_cast<int>(std::min<MHD_UNSIGNED_LONG_LONG>(due, 60'000));
    constexpr int kPause = static_cast<int>(kAcceptPause.count());
    if (!accepting) wait = wait < 0 ? kPause : std::min(wait, kPause);
    std::array<pollfd, 3> fds{
        {{stop, POLLIN, 0}, {events, POLLIN, 0}, {accepting ? listening : -1, POLLIN, 0}}};
    static_cast<void>(::poll(fds.data(), fds.size(), wait));
    if (fds[0].revents != 0) return;
    MHD_run(daemon);
    if (spare < 0) spare = open_spare();
    if (!accepting || fds[2].revents != 0) accepting = accept_some();
  }
}

HttpServer::Impl::~Impl() {
  if (thread.joinable()) {
    const std::uint64_t one = 1;
    static_cast<void>(!::write(stop, &one, sizeof one));
    thread.join();
  }
  if (daemon != nullptr) MHD_stop_daemon(daemon);
  for (const int fd : {listening, stop, spare}) {
    if (fd >= 0) ::close(fd);
  }
}

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

HttpServer::~HttpServer() = default;

Result<std::unique_ptr<HttpServer>> HttpServer::listen(const std::string& address, HttpHandler handler,
                                                       unsigned max_connections,
                                                       std::function<void()> on_turned_away) {
  Result<int> fd = listen_on(address);
  if (!fd) return fail(fd.error());
  auto impl = std::make_unique<Impl>();
  impl->listening = *fd;

  sockaddr_storage bound{};
  socklen_t length = sizeof bound;
  std::array<char, NI_MAXHOST> host{};
  std::array<char, NI_MAXSERV> port{};
  auto* name = reinterpret_cast<sockaddr*>(&bound);
  if (::getsockname(*fd, name, &length) != 0 ||
      ::getnameinfo(name, length, host.data(), host.size(), port.data(), port.size(),
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
    return fail(ErrorCode::kIo, fmt::format("listen on {}: {}", address, rules::errno_text(errno)));
  }

  impl->handler = std::move(handler);
  impl->on_turned_away = std::move(on_turned_away);
  std::from_chars(port.data(), port.data() + std::strlen(port.data()), impl->port);
  impl->address = bound.ss_family == AF_INET6 ? fmt::format("[{}]:{}", host.data(), impl->port)
                                              : fmt::format("{}:{}", host.data(), impl->port);
  const unsigned places = allowed_connections(max_connections);
  impl->places = places;
  // A quarter stays free for those that come while the loop has not yet closed the ones that lost their
  // place.
  impl->crowded = std::max<std::size_t>(1, places - places / 4);

  const auto failed = [&] {
    return fail(ErrorCode::kIo, fmt::format("serve on {}: {}", address, rules::errno_text(errno)));
  };
  impl->stop = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (impl->stop < 0) return failed();
  impl->daemon = MHD_start_daemon(
      MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET, 0, nullptr, nullptr, &Impl::on_request, impl.get(),
      MHD_OPTION_CONNECTION_LIMIT, places, MHD_OPTION_CONNECTION_TIMEOUT,
      static_cast<unsigned>(kConnectionTimeout.count()), MHD_OPTION_CONNECTION_MEMORY_LIMIT,
      kConnectionMemory, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_URI_LOG_CALLBACK, &Impl::on_target,
      impl.get(), MHD_OPTION_NOTIFY_COMPLETED, &Impl::on_completed, impl.get(), MHD_OPTION_NOTIFY_CONNECTION,
      &Impl::on_connection, impl.get(), MHD_OPTION_END);
  if (impl->daemon == nullptr) return failed();
  const MHD_DaemonInfo* events = MHD_get_daemon_info(impl->daemon, MHD_DAEMON_INFO_EPOLL_FD);
  if (events == nullptr || events->epoll_fd < 0) return failed();
  impl->events = events->epoll_fd;
  impl->spare = open_spare();
  try {
    impl->thread = std::thread([server = impl.get()] { server->serve(); });
  } catch (const std::system_error& error) {
    return fail(ErrorCode::kIo, fmt::format("serve on {}: {}", address, error.what()));
  }
  pthread_setname_np(impl->thread.native_handle(), "http");
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

std::uint16_t HttpServer::port() const {
  return impl_->port;
}

std::string HttpServer::address() const {
  return impl_->address;
}

}  // namespace logbell::engine

// The HTTP server: small requests are answered at once, whoever else hangs on the port.
#include "engine/io/http_server.h"

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <arpa/inet.h>
#include <catch2/catch.hpp>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

namespace logbell::engine {
namespace {

using rules::ErrorCode;

// A client that speaks bytes. What it waits for comes within a second or not at all.
class Client {
 public:
  // `fd`: a socket that was made before.
  explicit Client(std::uint16_t port, int family = AF_INET, int fd = -1)
      : fd_(fd >= 0 ? fd : ::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    REQUIRE(fd_ >= 0);
    const timeval second{1, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &second, sizeof second);
    ::setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &second, sizeof second);
    sockaddr_in v4{};
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
    v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    sockaddr_in6 v6{};
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
    v6.sin6_addr = in6addr_loopback;
    const auto* address =
        family == AF_INET ? reinterpret_cast<sockaddr*>(&v4) : reinterpret_cast<sockaddr*>(&v6);
    REQUIRE(::connect(fd_, address, family == AF_INET ? sizeof v4 : sizeof v6) == 0);
  }
  ~Client() { ::close(fd_); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // False: the server has closed the connection.
  bool send(std::string_view bytes) {
    return ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size());
  }
  // Until the server closes or a second passes without a byte.
  std::string receive() {
    std::string all;
    char buffer[4096];
    ssize_t size = 0;
    while ((size = ::recv(fd_, buffer, sizeof buffer, 0)) > 0)
      all.append(buffer, static_cast<std::size_t>(size));
    closed_ = size == 0;
    return all;
  }
  bool closed() const { return closed_; }

 private:
  int fd_;
  bool closed_ = false;
};

std::string ask(std::uint16_t port, const std::string& request_line, const std::string& rest = "\r\n") {
  Client client(port);
  client.send(request_line + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + rest);
  return client.receive();
}

std::unique_ptr<HttpServer> serve(HttpHandler handler, const std::string& address = "127.0.0.1:0",
                                  unsigned max = HttpServer::kMaxConnections,
                                  std::function<void()> on_turned_away = {}) {
  auto server = HttpServer::listen(address, std::move(handler), max, std::move(on_turned_away));
  if (!server) FAIL(server.error().message);
  return std::move(*server);
}

// Says back what it was asked, one thing a line.
HttpResponse echo(const HttpRequest& request) {
  std::string body = request.method + "\n" + request.path + "\n";
  for (const auto& [name, value] : request.query)
    body.append(name).append("=").append(value).append("\n");
  body += "token " + std::string(request.header("authorization")) + "\n";
  body += "body " + std::to_string(request.body.size()) + " " + request.body.substr(0, 20) + "\n";
  return {200, "text/plain", body, {{"X-Extra", "yes"}}};
}

HttpResponse healthy(const HttpRequest&) {
  return {200, "text/plain; charset=utf-8", "logbell is healthy\n", {}};
}

bool has(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("http_server: hands the request to the handler and its answer back", "[io][http]") {
  const auto server = serve(echo);
  const std::string answer =
      ask(server->port(), "GET /api/v1/alerts%20x?state=firing&empty&q=a%26b+c&q=2&bad=%zz%4",
          "AUTHORIZATION: Bearer t\r\n\r\n");
  CHECK(has(answer, "HTTP/1.1 200 OK\r\n"));
  CHECK(
      has(answer,
          "GET\n/api/v1/alerts x\nstate=firing\nempty=\nq=a&b c\nq=2\nbad=%zz%4\ntoken Bearer t\nbody 0 \n"));
  CHECK(has(answer, "Content-Type: text/plain\r\n"));
  CHECK(has(answer, "X-Extra: yes\r\n"));
}

TEST_CASE("http_server: every answer forbids guessing and keeping", "[io][http]") {
  const auto server = serve(healthy);
  const std::string answer = ask(server->port(), "GET /-/healthy");
  CHECK(has(answer, "X-Content-Type-Options: nosniff\r\n"));
  CHECK(has(answer, "Cache-Control: no-store\r\n"));
}

TEST_CASE("http_server: HEAD says what GET would, without a body", "[io][http]") {
  const auto server = serve(healthy);
  const std::string answer = ask(server->port(), "HEAD /-/healthy");
  CHECK(has(answer, "HTTP/1.1 200 OK\r\n"));
  CHECK(has(answer, "Content-Length: 19\r\n"));
  CHECK_FALSE(has(answer, "is healthy"));
}

TEST_CASE("http_server: status and method are the handler's business", "[io][http]") {
  const auto server = serve([](const HttpRequest& request) {
    if (request.method == "POST") return HttpResponse{405, "text/plain", "no\n", {{"Allow", "GET"}}};
    return HttpResponse{404, "text/plain", "nothing here\n", {}};
  });
  CHECK(has(ask(server->port(), "GET /x"), "HTTP/1.1 404 "));
  const std::string posted = ask(server->port(), "POST /x", "Content-Length: 0\r\n\r\n");
  CHECK(has(posted, "HTTP/1.1 405 "));
  CHECK(has(posted, "Allow: GET\r\n"));
}

TEST_CASE("http_server: a body is taken up to its bound", "[io][http]") {
  const auto server = serve(echo);
  CHECK(has(ask(server->port(), "POST /-/reload", "Content-Length: 5\r\n\r\nhello"), "body 5 hello\n"));
  const std::string most(HttpServer::kMaxBodyBytes, 'x');
  CHECK(has(ask(server->port(), "POST /a", "Content-Length: 65536\r\n\r\n" + most), "body 65536 "));
  CHECK(has(ask(server->port(), "POST /a", "Content-Length: 65537\r\n\r\n"), "HTTP/1.1 413 "));
  CHECK(has(
      ask(server->port(), "POST /a", "Transfer-Encoding: chunked\r\n\r\n10001\r\n" + most + "x\r\n0\r\n\r\n"),
      "HTTP/1.1 413 "));
  CHECK(has(ask(server->port(), "POST /a", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
            "body 5 hello\n"));
}

TEST_CASE("http_server: hostile requests are answered or cut off, and the next is served", "[io][http]") {
  const auto server = serve(echo);
  const auto [what, bytes] = GENERATE(table<std::string, std::string>({
      {"an escaped NUL hides the end of the path",
       "GET /-/reload%00x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"},
      {"headers without end", "GET / HTTP/1.1\r\nHost: x\r\nX: " + std::string(100'000, 'x')},
      {"no host", "GET / HTTP/1.1\r\n\r\n"},
      {"TLS on the wrong port", std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 15)},
      {"only line ends", "\r\n\r\n\r\n\r\n"},
      {"a length that is none",
       "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\nConnection: close\r\n\r\n"},
      {"an absolute target", "GET http://evil/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"},
  }));
  INFO(what);
  {
    Client client(server->port());
    client.send(bytes);
    CHECK_FALSE(has(client.receive(), "HTTP/1.1 200"));
  }
  CHECK(has(ask(server->port(), "GET /"), "HTTP/1.1 200"));
}

TEST_CASE("http_server: an answer's header cannot carry a line break", "[io][http]") {
  const auto server = serve([](const HttpRequest&) {
    return HttpResponse{200, "text/plain", "x", {{"Location", "/a\r\nSet-Cookie: evil=1"}}};
  });
  const std::string answer = ask(server->port(), "GET /");
  CHECK(has(answer, "HTTP/1.1 500 "));
  CHECK_FALSE(has(answer, "evil"));
}

TEST_CASE("http_server: 200 half-open and dripping clients do not hold the health check",
          "[io][http][slow_clients]") {
  const auto server = serve(healthy);
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 200; ++i) {
    clients.push_back(std::make_unique<Client>(server->port()));
    if (i % 2 == 0) REQUIRE(clients.back()->send("GET / HTTP/1.1\r\nHo"));
    if (i % 4 == 0) REQUIRE(clients.back()->send("st: x\r\nX-Slow: "));
  }
  for (int round = 0; round < 5; ++round) {
    for (std::size_t i = 0; i < clients.size(); i += 4)
      clients[i]->send("x");
    // The client gives up after a second.
    CHECK(has(ask(server->port(), "GET /-/healthy"), "logbell is healthy"));
  }
}

TEST_CASE("http_server: when places run short, the one quiet longest goes, not the one that comes",
          "[io][http][slow_clients]") {
  std::atomic<int> turned_away{0};
  const auto server = serve(healthy, "127.0.0.1:0", 32, [&] { ++turned_away; });
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 300; ++i) {
    clients.push_back(std::make_unique<Client>(server->port()));
    clients.back()->send("GET / HTTP/1.1\r\n");
  }
  CHECK(has(ask(server->port(), "GET /-/healthy"), "logbell is healthy"));
  CHECK(clients.front()->receive().empty());
  CHECK(clients.front()->closed());
  CHECK(turned_away >= 300 - 32);
  CHECK(turned_away <= 301);
}

// No descriptor is left, while one lives.
class NoDescriptors {
 public:
  NoDescriptors() {
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &before_) == 0);
    int fd = ::dup(0);
    REQUIRE(fd >= 0);
    const rlimit few{static_cast<rlim_t>(fd) + 1, before_.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &few) == 0);
    for (; fd >= 0; fd = ::dup(0))
      taken_.push_back(fd);
  }
  ~NoDescriptors() {
    static_cast<void>(::setrlimit(RLIMIT_NOFILE, &before_));
    for (const int fd : taken_)
      ::close(fd);
  }
  NoDescriptors(const NoDescriptors&) = delete;
  NoDescriptors& operator=(const NoDescriptors&) = delete;

 private:
  rlimit before_{};
  std::vector<int> taken_;
};

std::chrono::microseconds cpu_time() {
  rusage use{};
  ::getrusage(RUSAGE_SELF, &use);
  return std::chrono::seconds(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
         std::chrono::microseconds(use.ru_utime.tv_usec + use.ru_stime.tv_usec);
}

TEST_CASE("http_server: with no descriptor left one after the other is answered, and nothing spins",
          "[io][http][slow_clients][F24]") {
  std::atomic<int> turned_away{0};
  const auto server = serve(healthy, "127.0.0.1:0", HttpServer::kMaxConnections, [&] { ++turned_away; });
  std::vector<int> sockets;
  for (int i = 0; i < 4; ++i)
    sockets.push_back(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const NoDescriptors none;
  std::vector<std::unique_ptr<Client>> clients;  // whose descriptors stay in use
  for (int i = 0; i < 2; ++i) {
    clients.push_back(
        std::make_unique<Client>(server->port(), AF_INET, sockets[static_cast<std::size_t>(i)]));
    Client& client = *clients.back();
    CHECK(client.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
    CHECK(has(client.receive(), "logbell is healthy"));
  }
  CHECK(turned_away == 0);
  // One that stays has what there was; whoever comes then takes its place.
  Client quiet(server->port(), AF_INET, sockets[2]);
  CHECK(quiet.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
  const auto before = cpu_time();
  CHECK(has(quiet.receive(), "logbell is healthy"));  // and a second in which nothing happens
  CHECK_FALSE(quiet.closed());
  Client next(server->port(), AF_INET, sockets[3]);
  CHECK(next.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
  CHECK(has(next.receive(), "logbell is healthy"));
  CHECK(quiet.receive().empty());
  CHECK(quiet.closed());
  CHECK(turned_away == 1);
  CHECK(cpu_time() - before < std::chrono::milliseconds(300));
}

TEST_CASE("http_server: a kept connection serves several requests", "[io][http]") {
  const auto server = serve(echo);
  Client client(server->port());
  client.send("GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  const std::string answers = client.receive();
  CHECK(has(answers, "\n/1\n"));
  CHECK(has(answers, "\n/2\n"));
}

TEST_CASE("http_server: says where it listens, and that a port is taken", "[io][http]") {
  const auto server = serve(healthy);
  CHECK(server->port() != 0);
  CHECK(server->address() == "127.0.0.1:" + std::to_string(server->port()));
  const auto second = HttpServer::listen(server->address(), healthy);
  REQUIRE_FALSE(second);
  CHECK(second.error().code == ErrorCode::kUnavailable);
  CHECK(second.error().message == "listen on " + server->address() + ": Address already in use");
}

TEST_CASE("http_server: a port is free again when the server is gone, whoever is still connected",
          "[io][http]") {
  auto server = serve(healthy);
  const std::string address = server->address();
  Client open(server->port());
  open.send("GET / HT");
  server.reset();
  CHECK(HttpServer::listen(address, healthy));
}

TEST_CASE("http_server: listens on IPv6 and on every address", "[io][http]") {
  {
    const auto server = HttpServer::listen("[::1]:0", healthy);
    if (!server) {
      WARN("this machine has no IPv6: " << server.error().message);
      return;
    }
    CHECK((*server)->address() == "[::1]:" + std::to_string((*server)->port()));
    Client client((*server)->port(), AF_INET6);
    client.send("GET / HTTP/1.0\r\n\r\n");
    CHECK(has(client.receive(), "logbell is healthy"));
  }
  const auto server = serve(healthy, ":0");
  CHECK(has(ask(server->port(), "GET /"), "logbell is healthy"));
  Client client(server->port(), AF_INET6);
  client.send("GET / HTTP/1.0\r\n\r\n");
  CHECK(has(client.receive(), "logbell is healthy"));
}

TEST_CASE("http_server: an address that is none is the operator's mistake", "[io][http]") {
  const auto [address, part] = GENERATE(table<std::string, std::string>({
      {"", "no port"},
      {"9733", "no port"},
      {"localhost:", "not a number"},
      {"localhost:http", "not a number"},
      {"localhost:65536", "not a number"},
      {"::1:9733", "needs brackets"},
      {"[::1:9733", "without"},
      {"[]:9733", "no address"},
      {"300.1.1.1:1", "300.1.1.1:1"},
  }));
  const auto server = HttpServer::listen(address, healthy);
  REQUIRE_FALSE(server);
  INFO(server.error().message);
  CHECK(server.error().code == ErrorCode::kInvalid);
  CHECK(has(server.error().message, part));
}

TEST_CASE("http_server: stopping waits for the handler that runs", "[io][http]") {
  std::atomic<int> running{0};
  std::atomic<bool> entered{false};
  auto server = serve([&](const HttpRequest&) {
    ++running;
    entered = true;
    for (int i = 0; i < 1000; ++i)
      std::this_thread::yield();
    --running;
    return HttpResponse{};
  });
  Client client(server->port());
  client.send("GET / HTTP/1.0\r\n\r\n");
  while (!entered)
    std::this_thread::yield();
  server.reset();
  CHECK(running == 0);
}

}  // namespace logbell::engine

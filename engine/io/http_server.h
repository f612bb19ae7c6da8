// HttpServer: answers small requests (metrics, health, API, status page) on one port, whoever else hangs on
// it.
//
// One thread of its own with epoll: a slow or half-open client costs a file descriptor, never a thread. It is
// dropped after kConnectionTimeout of silence, or when places run short, the one that has been quiet longest
// first. One descriptor is kept for whoever comes when none is left. The handler runs on that thread, so it
// must be quick and must not block.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "rules/result.h"

namespace logbell::engine {

struct HttpRequest {
  using Fields = std::vector<std::pair<std::string, std::string>>;

  std::string method;  // as sent: "GET", "HEAD", "POST"
  std::string path;    // decoded, without the query; begins with "/"
  Fields query;        // decoded, in the order sent, at most HttpServer::kMaxFields
  Fields headers;      // as sent
  std::string body;

  // The first value of that name; query names are case-sensitive, header names are not. "" when absent.
  std::string_view query_value(std::string_view name) const;
  std::string_view header(std::string_view name) const;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers;  // added to the server's own
};

// "a=1&b=two+words", decoded, at most HttpServer::kMaxFields of it.
HttpRequest::Fields parse_form(std::string_view text);

// Must not throw. For HEAD it answers as for GET; the server leaves the body out.
using HttpHandler = std::function<HttpResponse(const HttpRequest&)>;

class HttpServer {
 public:
  // More than anybody needs who means well. Lowered to what is the port's share of the process's file
  // descriptors (engine/io/descriptors.h): the others are for logs and sinks.
  static constexpr unsigned kMaxConnections = 1024;
  // What cannot be accepted waits so long, unless something else happens before.
  static constexpr std::chrono::milliseconds kAcceptPause{100};
  // Without a byte for so long, a connection is closed.
  static constexpr std::chrono::seconds kConnectionTimeout{5};
  static constexpr std::size_t kMaxBodyBytes = 64 * 1024;  // larger: 413
  static constexpr std::size_t kMaxFields = 64;            // query arguments, and headers; more are not read

  // Listens on `address`: "host:port", "[::1]:port", ":port" (every address); port 0 takes a free one.
  // kInvalid: not an address. kUnavailable: in use or not ours. kIo: everything else.
  // `on_turned_away` is called on the server's thread for each connection that lost its place; must not
  // throw.
  static rules::Result<std::unique_ptr<HttpServer>> listen(const std::string& address, HttpHandler handler,
                                                           unsigned max_connections = kMaxConnections,
                                                           std::function<void()> on_turned_away = {});
  // Stops listening, closes every connection, waits for the handler that runs.
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  std::uint16_t port() const;
  std::string address() const;  // "127.0.0.1:9733", with the port that was taken

 private:
  struct Impl;
  explicit HttpServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace logbell::engine

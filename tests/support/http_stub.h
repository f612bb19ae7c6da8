// HttpStub: a small HTTP server on loopback that does what a test tells it, request by request.
//
// Thread-safe. Answers on threads of its own; the destructor ends them. Nothing waits for time to pass but a
// drip.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace logbell::tests {

struct StubRequest {
  std::string method;
  std::string target;
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;
  int connection = 0;  // counted from 1
};

// What happens to one request, once it has been read in full.
struct StubStep {
  enum class Kind {
    kAnswer,
    kNeverAnswer,
    kDripHeaders,     // one byte of a header every few milliseconds, without end
    kDripBody,        // the same, in the body
    kClose,           // no answer, the connection closed
    kReset,           // no answer, the connection reset
    kTruncate,        // a body shorter than it was announced, then closed
    kAnswerAndClose,  // answered as if the connection stayed, which is then closed
    kResetUnread,     // reset before the request is read
    kGarbage,         // an answer that is not HTTP
  };
  Kind kind = Kind::kAnswer;
  int status = 200;
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;

  static StubStep answer(int status, std::string body = {},
                         std::vector<std::pair<std::string, std::string>> headers = {});
  static StubStep of(Kind kind);
};

// A certificate and key of the stub's own making.
struct StubTls {
  std::string host = "localhost";  // what the certificate is for
  int valid_days = 1;              // negative: expired
  bool only_tls_1_1 = false;
};

class HttpStub {
 public:
  HttpStub();
  explicit HttpStub(const StubTls& tls);
  ~HttpStub();
  HttpStub(const HttpStub&) = delete;
  HttpStub& operator=(const HttpStub&) = delete;

  // Steps are used up in order; after the last, `otherwise`.
  void then(StubStep step);
  void otherwise(StubStep step);

  std::uint16_t port() const { return port_; }
  std::string url(std::string_view path = "/") const;  // http(s)://127.0.0.1:port/path (https: localhost)
  std::vector<StubRequest> requests() const;
  const std::string& certificate_file() const { return certificate_file_; }

 private:
  struct Tls;
  class Connection;
  void start();
  void accept_all();
  void serve(int fd, int number);
  StubStep next_step();

  std::unique_ptr<Tls> tls_;
  std::string certificate_file_;
  int listener_ = -1;
  int stop_read_ = -1;
  int stop_write_ = -1;
  std::uint16_t port_ = 0;

  mutable std::mutex mutex_;
  std::deque<StubStep> steps_;
  StubStep otherwise_;
  std::vector<StubRequest> requests_;
  std::vector<std::thread> workers_;
  std::thread acceptor_;
};

}  // namespace logbell::tests

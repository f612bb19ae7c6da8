#include "tests/support/http_stub.h"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace logbell::tests {
namespace {

constexpr int kDripMilliseconds = 20;

void require(bool good, const char* what) {
  if (!good) throw std::runtime_error(std::string("http stub: ") + what);
}

}  // namespace

StubStep StubStep::answer(int status, std::string body,
                          std::vector<std::pair<std::string, std::string>> headers) {
  StubStep step;
  step.status = status;
  step.body = std::move(body);
  step.headers = std::move(headers);
  return step;
}

StubStep StubStep::of(Kind kind) {
  StubStep step;
  step.kind = kind;
  step.body = kind == Kind::kGarbage ? "SSH-2.0-OpenSSH_9.2\r\n" : "ok";
  return step;
}

struct HttpStub::Tls {
  SSL_CTX* context = nullptr;
  ~Tls() { SSL_CTX_free(context); }
};

// One accepted connection, encrypted or not.
class HttpStub::Connection {
 public:
  Connection(int fd, int stop, SSL_CTX* tls) : fd_(fd), stop_(stop) {
    if (tls == nullptr) return;
    ssl_ = SSL_new(tls);
    SSL_set_fd(ssl_, fd);
    good_ = SSL_accept(ssl_) == 1;
  }
  ~Connection() {
    if (ssl_ != nullptr) SSL_free(ssl_);
    close(fd_);
  }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  bool good() const { return good_; }
  // False when the other side is gone or the stub stops.
  bool read_some(std::string& into) {
    char buffer[16384];
    if (ssl_ == nullptr || SSL_pending(ssl_) == 0) {
      pollfd waiting[2] = {{fd_, POLLIN, 0}, {stop_, POLLIN, 0}};
      if (poll(waiting, 2, -1) <= 0 || waiting[1].revents != 0) return false;
    }
    const auto got =
        ssl_ != nullptr ? SSL_read(ssl_, buffer, sizeof buffer) : recv(fd_, buffer, sizeof buffer, 0);
    if (got <= 0) return false;
    into.append(buffer, static_cast<std::size_t>(got));
    return true;
  }
  bool write_all(std::string_view text) {
    while (!text.empty()) {
      const auto done = ssl_ != nullptr ? SSL_write(ssl_, text.data(), static_cast<int>(text.size()))
                                        : send(fd_, text.data(), text.size(), MSG_NOSIGNAL);
      if (done <= 0) return false;
      text.remove_prefix(static_cast<std::size_t>(done));
    }
    return true;
  }
  // Until the stub stops, or for so long.
  bool stops_within(int milliseconds) {
    pollfd waiting{stop_, POLLIN, 0};
    return poll(&waiting, 1, milliseconds) != 0;
  }
  void reset_on_close() {
    const linger at_once{1, 0};
    setsockopt(fd_, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  }

 private:
  int fd_;
  int stop_;
  SSL* ssl_ = nullptr;
  bool good_ = true;
};

HttpStub::HttpStub() {
  start();
}

HttpStub::HttpStub(const StubTls& tls) : tls_(std::make_unique<Tls>()) {
  tls_->context = SSL_CTX_new(TLS_server_method());
  require(tls_->context != nullptr, "no TLS");
  if (tls.only_tls_1_1) {
    SSL_CTX_set_security_level(tls_->context, 0);
    SSL_CTX_set_min_proto_version(tls_->context, TLS1_1_VERSION);
    SSL_CTX_set_max_proto_version(tls_->context, TLS1_1_VERSION);
  }
  EVP_PKEY* key = EVP_EC_gen("P-256");
  X509* certificate = X509_new();
  X509_set_version(certificate, 2);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
  X509_gmtime_adj(X509_getm_notBefore(certificate), -90L * 86400);
  X509_gmtime_adj(X509_getm_notAfter(certificate), tls.valid_days * 86400L);
  X509_set_pubkey(certificate, key);
  const std::string& host = tls.host;
  X509_NAME* name = X509_get_subject_name(certificate);
  std::vector<unsigned char> bytes(host.begin(), host.end());
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, bytes.data(), static_cast<int>(bytes.size()), -1, 0);
  X509_set_issuer_name(certificate, name);
  X509_EXTENSION* names =
      X509V3_EXT_conf_nid(nullptr, nullptr, NID_subject_alt_name, ("DNS:" + host).c_str());
  X509_add_ext(certificate, names, -1);
  X509_EXTENSION_free(names);
  X509_EXTENSION* authority =
      X509V3_EXT_conf_nid(nullptr, nullptr, NID_basic_constraints, "critical,CA:TRUE");
  X509_add_ext(certificate, authority, -1);
  X509_EXTENSION_free(authority);
  require(X509_sign(certificate, key, EVP_sha256()) > 0, "cannot sign");
  require(SSL_CTX_use_certificate(tls_->context, certificate) == 1, "cannot use the certificate");
  require(SSL_CTX_use_PrivateKey(tls_->context, key) == 1, "cannot use the key");
  std::string path = "/tmp/logbell-stub-XXXXXX";  // NOLINT(bugprone-suspicious-missing-comma): one path
  const int fd = mkstemp(path.data());
  std::FILE* file = fd < 0 ? nullptr : fdopen(fd, "w");
  require(file != nullptr, "cannot write the certificate");
  PEM_write_X509(file, certificate);
  std::fclose(file);
  certificate_file_ = path;
  X509_free(certificate);
  EVP_PKEY_free(key);
  start();
}

void HttpStub::start() {
  otherwise_ = StubStep::answer(200, "ok");
  listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* generic = static_cast<sockaddr*>(static_cast<void*>(&address));
  require(bind(listener_, generic, size) == 0 && listen(listener_, 64) == 0, "cannot listen");
  getsockname(listener_, generic, &size);
  port_ = ntohs(address.sin_port);
  int pipe_ends[2];
  require(pipe(pipe_ends) == 0, "no pipe");
  stop_read_ = pipe_ends[0];
  stop_write_ = pipe_ends[1];
  acceptor_ = std::thread([this] { accept_all(); });
}

HttpStub::~HttpStub() {
  close(stop_write_);  // every poll on the other end wakes
  acceptor_.join();
  for (std::thread& worker : workers_)
    worker.join();
  close(stop_read_);
  close(listener_);
  if (!certificate_file_.empty()) unlink(certificate_file_.c_str());
}

void HttpStub::then(StubStep step) {
  const std::lock_guard lock(mutex_);
  steps_.push_back(std::move(step));
}

void HttpStub::otherwise(StubStep step) {
  const std::lock_guard lock(mutex_);
  otherwise_ = std::move(step);
}

std::string HttpStub::url(std::string_view path) const {
  const std::string host = tls_ ? "https://localhost:" : "http://127.0.0.1:";
  return host + std::to_string(port_) + std::string(path);
}

std::vector<StubRequest> HttpStub::requests() const {
  const std::lock_guard lock(mutex_);
  return requests_;
}

StubStep HttpStub::next_step() {
  const std::lock_guard lock(mutex_);
  if (steps_.empty()) return otherwise_;
  StubStep step = steps_.front();
  steps_.pop_front();
  return step;
}

void HttpStub::accept_all() {
  for (int number = 1;; ++number) {
    pollfd waiting[2] = {{listener_, POLLIN, 0}, {stop_read_, POLLIN, 0}};
    if (poll(waiting, 2, -1) <= 0 || waiting[1].revents != 0) return;
    const int fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) continue;
    workers_.emplace_back([this, fd, number] { serve(fd, number); });
  }
}

void HttpStub::serve(int fd, int number) {
  Connection connection(fd, stop_read_, tls_ ? tls_->context : nullptr);
  if (!connection.good()) return;
  std::string bytes;
  while (true) {
    {
      const std::lock_guard lock(mutex_);
      if (!steps_.empty() && steps_.front().kind == StubStep::Kind::kResetUnread) {
        steps_.pop_front();
        connection.reset_on_close();
        return;
      }
    }
    std::size_t end = 0;
    while ((end = bytes.find("\r\n\r\n")) == std::string::npos) {
      if (!connection.read_some(bytes)) return;
    }
    StubRequest request;
    request.connection = number;
    const std::string head = bytes.substr(0, end);
    const std::size_t first = head.find(' ');
    request.method = head.substr(0, first);
    request.target = head.substr(first + 1, head.find(' ', first + 1) - first - 1);
    for (std::size_t at = head.find("\r\n"); at != std::string::npos; at = head.find("\r\n", at + 2)) {
      const std::size_t colon = head.find(':', at);
      std::string name = head.substr(at + 2, colon - at - 2);
      std::transform(name.begin(), name.end(), name.begin(),
                     [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
      const std::size_t value = head.find_first_not_of(' ', colon + 1);
      request.headers[name] = head.substr(value, std::min(head.find("\r\n", value), head.size()) - value);
    }
    bytes.erase(0, end + 4);
    const auto length = request.headers.find("content-length");
    const std::size_t wanted = length == request.headers.end() ? 0 : std::stoul(length->second);
    while (bytes.size() < wanted) {
      if (!connection.read_some(bytes)) return;
    }
    request.body = bytes.substr(0, wanted);
    bytes.erase(0, wanted);
    {
      const std::lock_guard lock(mutex_);
      requests_.push_back(request);
    }

    const StubStep step = next_step();
    std::string answer = "HTTP/1.1 " + std::to_string(step.status) + " Scripted\r\n";
    for (const auto& [name, value] : step.headers)
      answer.append(name).append(": ").append(value).append("\r\n");
    const bool has_length = request.method != "CONNECT" && step.status != 204;
    using Kind = StubStep::Kind;
    switch (step.kind) {
      case Kind::kAnswer:
      case Kind::kAnswerAndClose:
        if (has_length) answer += "Content-Length: " + std::to_string(step.body.size()) + "\r\n";
        if (!connection.write_all(answer + "\r\n" + step.body)) return;
        if (step.kind == Kind::kAnswerAndClose) return;
        break;
      case Kind::kNeverAnswer:
        connection.stops_within(-1);
        return;
      case Kind::kDripHeaders:
        if (!connection.write_all(answer + "X-Drip: ")) return;
        while (!connection.stops_within(kDripMilliseconds)) {
          if (!connection.write_all("x")) return;
        }
        return;
      case Kind::kDripBody:
        if (!connection.write_all(answer + "Content-Length: 60000\r\n\r\n")) return;
        while (!connection.stops_within(kDripMilliseconds)) {
          if (!connection.write_all("x")) return;
        }
        return;
      case Kind::kClose:
        return;
      case Kind::kReset:
        connection.reset_on_close();
        return;
      case Kind::kTruncate:
        connection.write_all(answer + "Content-Length: 1000\r\n\r\n" + step.body);
        return;
      case Kind::kGarbage:
        connection.write_all(step.body);
        return;
      case Kind::kResetUnread:
        return;
    }
  }
}

}  // namespace logbell::tests

// SmtpStub: a small mail server on loopback that says what a test tells it, command by command. In plain
// text; what needs TLS is tested with the real server of smtp_server.py.
//
// Thread-safe. Answers on threads of its own; the destructor ends them. Nothing waits for time to pass.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace logbell::tests {

class SmtpStub {
 public:
  static constexpr std::string_view kHang = "hang";    // no answer until the stub ends
  static constexpr std::string_view kClose = "close";  // no answer, the connection closed

  SmtpStub();
  ~SmtpStub();
  SmtpStub(const SmtpStub&) = delete;
  SmtpStub& operator=(const SmtpStub&) = delete;

  // What is said the next time to "greeting", "EHLO", "AUTH" (its credentials), "MAIL", "RCPT", "DATA",
  // "RSET", "QUIT", "END" (of a message): a line without its end, kHang or kClose. Used up in order; then it
  // says yes.
  void then(const std::string& to, std::string_view answer);
  // To each RCPT that names this address.
  void recipient(const std::string& address, std::string_view answer);
  // What EHLO lists: "AUTH PLAIN LOGIN", "SIZE 1000".
  void offer(std::vector<std::string> lines);

  std::uint16_t port() const { return port_; }
  std::string url() const { return "smtp://127.0.0.1:" + std::to_string(port_); }
  std::vector<std::string> commands() const;  // of all connections, in order
  std::vector<std::string> messages() const;  // those that it took, dots undone

 private:
  void accept_all();
  void serve(int fd);
  std::string answer_to(const std::string& what, const std::string& line, std::string_view usual);

  int listener_ = -1;
  int stop_read_ = -1;
  int stop_write_ = -1;
  std::uint16_t port_ = 0;

  mutable std::mutex mutex_;
  std::map<std::string, std::deque<std::string>> script_;
  std::map<std::string, std::string> recipients_;
  std::vector<std::string> offered_;
  std::vector<std::string> commands_;
  std::vector<std::string> messages_;
  std::vector<std::thread> workers_;
  std::thread acceptor_;
};

}  // namespace logbell::tests

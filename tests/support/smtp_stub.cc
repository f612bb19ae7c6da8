#include "tests/support/smtp_stub.h"

#include <algorithm>
#include <cctype>
#include <optional>
#include <stdexcept>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace logbell::tests {
namespace {

void require(bool good, const char* what) {
  if (!good) throw std::runtime_error(std::string("smtp stub: ") + what);
}

// One accepted connection.
class Connection {
 public:
  Connection(int fd, int stop) : fd_(fd), stop_(stop) {}
  ~Connection() { close(fd_); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // Nothing at its end, or when the stub stops.
  std::optional<std::string> line() {
    while (true) {
      if (const std::size_t end = bytes_.find("\r\n"); end != std::string::npos) {
        std::string found = bytes_.substr(0, end);
        bytes_.erase(0, end + 2);
        return found;
      }
      if (!wait()) return std::nullopt;
      char piece[4096];
      const ssize_t got = recv(fd_, piece, sizeof piece, 0);
      if (got <= 0) return std::nullopt;
      bytes_.append(piece, static_cast<std::size_t>(got));
    }
  }
  // Whether the conversation goes on.
  bool say(const std::string& answer) {
    if (answer == SmtpStub::kHang) {
      while (wait()) {
        char piece[4096];
        if (recv(fd_, piece, sizeof piece, 0) <= 0) break;
      }
      return false;
    }
    if (answer == SmtpStub::kClose) return false;
    const std::string wire = answer + "\r\n";
    return send(fd_, wire.data(), wire.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(wire.size());
  }

 private:
  bool wait() const {
    pollfd waiting[2] = {{fd_, POLLIN, 0}, {stop_, POLLIN, 0}};
    return poll(waiting, 2, -1) > 0 && waiting[1].revents == 0;
  }

  int fd_;
  int stop_;
  std::string bytes_;
};

}  // namespace

SmtpStub::SmtpStub() {
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

SmtpStub::~SmtpStub() {
  close(stop_write_);  // every poll on the other end wakes
  acceptor_.join();
  for (std::thread& worker : workers_)
    worker.join();
  close(stop_read_);
  close(listener_);
}

void SmtpStub::then(const std::string& to, std::string_view answer) {
  const std::lock_guard lock(mutex_);
  script_[to].emplace_back(answer);
}

void SmtpStub::recipient(const std::string& address, std::string_view answer) {
  const std::lock_guard lock(mutex_);
  recipients_[address] = answer;
}

void SmtpStub::offer(std::vector<std::string> lines) {
  const std::lock_guard lock(mutex_);
  offered_ = std::move(lines);
}

std::vector<std::string> SmtpStub::commands() const {
  const std::lock_guard lock(mutex_);
  return commands_;
}

std::vector<std::string> SmtpStub::messages() const {
  const std::lock_guard lock(mutex_);
  return messages_;
}

void SmtpStub::accept_all() {
  while (true) {
    pollfd waiting[2] = {{listener_, POLLIN, 0}, {stop_read_, POLLIN, 0}};
    if (poll(waiting, 2, -1) <= 0 || waiting[1].revents != 0) return;
    const int fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd >= 0) workers_.emplace_back([this, fd] { serve(fd); });
  }
}

std::string SmtpStub::answer_to(const std::string& what, const std::string& line, std::string_view usual) {
  const std::lock_guard lock(mutex_);
  if (!line.empty()) commands_.push_back(line);
  if (what == "RCPT") {
    for (const auto& [address, answer] : recipients_) {
      if (line.find("<" + address + ">") != std::string::npos) return answer;
    }
  }
  std::deque<std::string>& scripted = script_[what];
  if (scripted.empty()) return std::string(usual);
  std::string answer = scripted.front();
  scripted.pop_front();
  return answer;
}

void SmtpStub::serve(int fd) {
  Connection connection(fd, stop_read_);
  if (!connection.say(answer_to("greeting", "", "220 stub.example.com ESMTP"))) return;
  while (const std::optional<std::string> line = connection.line()) {
    std::string verb = line->substr(0, line->find(' '));
    std::transform(verb.begin(), verb.end(), verb.begin(),
                   [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
    std::string answer;
    if (verb == "EHLO") {
      std::string usual = "250-stub.example.com";
      {
        const std::lock_guard lock(mutex_);
        for (const std::string& offered : offered_)
          usual += "\r\n250-" + offered;
      }
      answer = answer_to(verb, *line, usual + "\r\n250 HELP");
    } else if (verb == "AUTH") {
      answer_to("", *line, "");
      if (!connection.say("334 ")) return;
      const std::optional<std::string> credentials = connection.line();
      if (!credentials) return;
      answer = answer_to(verb, *credentials, "235 2.7.0 welcome");
    } else if (verb == "DATA") {
      answer = answer_to(verb, *line, "354 go on");
      if (!connection.say(answer)) return;
      if (answer.front() != '3') continue;
      std::string message;
      std::optional<std::string> piece = connection.line();
      for (; piece && *piece != "."; piece = connection.line())
        message += (piece->rfind('.', 0) == 0 ? piece->substr(1) : *piece) + "\r\n";
      if (!piece) return;
      answer = answer_to("END", "", "250 2.0.0 Ok: queued as 4XyZ");
      if (answer.front() != '4' && answer.front() != '5') {
        const std::lock_guard lock(mutex_);
        messages_.push_back(std::move(message));
      }
    } else if (verb == "QUIT") {
      connection.say(answer_to(verb, *line, "221 bye"));
      return;
    } else {
      answer = answer_to(verb, *line, "250 2.1.0 Ok");
    }
    if (!connection.say(answer)) return;
  }
}

}  // namespace logbell::tests

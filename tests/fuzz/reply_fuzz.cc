// What a server answers, byte for byte, to each of the sinks that speak HTTP: only what says that the message
// arrived is a delivery; a wait is positive and bounded; what people are shown is clean, short, and without
// the secrets that the server repeats; whatever comes, a sink asks a few times and no more.
//
// First line: slack, slack_app, webhook, pagerduty or alertmanager; the number of alerts; of a Slack app
// follows (there is a first message), again (an earlier attempt may have arrived), back (it is looked for);
// of PagerDuty back, too (its REST API is asked who has seen it); ask: nothing is sent, it is asked whether
// it would arrive. Then the answers, separated by lines of "--", one for each request; the last is repeated.
#include <algorithm>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rules/json.h"
#include "rules/notification.h"
#include "rules/result.h"
#include "rules/text.h"
#include "sinks/http.h"
#include "sinks/registry.h"
#include "sinks/sink.h"
#include "tests/fuzz/support.h"

namespace {

using namespace logbell;

constexpr std::string_view kToken = "abcdefghijklmnopqrstuvwx";
constexpr std::string_view kBearer = "bearer-0123456789abcdef";
constexpr std::string_view kSigning = "signing-fedcba9876543210";
constexpr std::string_view kRoutingKey = "R0123456789abcdef0123456789abcde";
constexpr std::string_view kAppToken = "xoxb-0123456789-abcdefghijkl";
constexpr std::string_view kApiToken = "y_NbAkKc66ryYTWUXYEu";
constexpr std::string_view kChannel = "C012AB3CD";
constexpr rules::Timestamp kNow{rules::Duration(1'777'629'600'000)};  // 2026-05-01T10:00:00Z

// Answers one connection after the other, each with the next of the answers, and closes.
class Server {
 public:
  Server() : listener_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* raw = reinterpret_cast<sockaddr*>(&address);
    LOGBELL_CHECK(bind(listener_, raw, size) == 0 && listen(listener_, 16) == 0);
    LOGBELL_CHECK(getsockname(listener_, raw, &size) == 0);
    port_ = ntohs(address.sin_port);
    std::thread([this] { serve(); }).detach();  // as long as the process
  }
  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }

  void answer_with(std::vector<std::string> answers) {
    const std::lock_guard lock(mutex_);
    answers_ = std::move(answers);
    bodies_.clear();
  }
  std::vector<std::string> bodies() const {
    const std::lock_guard lock(mutex_);
    return bodies_;
  }

 private:
  void serve() {
    while (true) {
      const int fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (fd < 0) continue;
      std::string request;
      std::size_t whole = std::string::npos;
      char buffer[8192];
      while (request.size() < whole) {
        const ssize_t got = read(fd, buffer, sizeof buffer);
        if (got <= 0) break;
        request.append(buffer, static_cast<std::size_t>(got));
        const std::size_t head = request.find("\r\n\r\n");
        if (head == std::string::npos) continue;
        const std::size_t length = request.find("Content-Length: ");
        whole = head + 4 + (length < head ? std::strtoul(request.c_str() + length + 16, nullptr, 10) : 0);
      }
      // Whoever gave up before it was whole, on a busy machine say, has asked nothing.
      if (request.size() < whole) {
        close(fd);
        continue;
      }
      std::string answer;
      {
        const std::lock_guard lock(mutex_);
        if (!answers_.empty()) answer = answers_[std::min(bodies_.size(), answers_.size() - 1)];
        const std::size_t head = request.find("\r\n\r\n");
        bodies_.push_back(head == std::string::npos ? std::string() : request.substr(head + 4));
      }
      for (std::string_view rest = answer; !rest.empty();) {
        const ssize_t sent = write(fd, rest.data(), rest.size());
        if (sent <= 0) break;
        rest.remove_prefix(static_cast<std::size_t>(sent));
      }
      shutdown(fd, SHUT_WR);
      // Until it has gone, or keeps the connection for later: a sink with two clients then asks by the other one.
      pollfd quiet{fd, POLLIN, 0};
      while (poll(&quiet, 1, 20) > 0 && read(fd, buffer, sizeof buffer) > 0) {
      }
      close(fd);
    }
  }

  int listener_;
  std::uint16_t port_ = 0;
  mutable std::mutex mutex_;
  std::vector<std::string> answers_;
  std::vector<std::string> bodies_;
};

// A sink's fields, from a map.
class MapFields final : public sinks::FieldReader {
 public:
  explicit MapFields(std::map<std::string, std::string, std::less<>> texts) : texts_(std::move(texts)) {}
  std::optional<std::string> text(std::string_view key, bool /*required*/) override {
    const auto found = texts_.find(key);
    return found == texts_.end() ? std::nullopt : std::optional(found->second);
  }
  std::optional<rules::Secret> secret(std::string_view key, bool required) override {
    const auto value = text(key, required);
    return value ? std::optional(rules::Secret(*value)) : std::nullopt;
  }
  std::optional<std::vector<std::string>> text_list(std::string_view, bool) override { return std::nullopt; }
  std::optional<bool> boolean(std::string_view) override { return std::nullopt; }
  std::optional<rules::Duration> duration(std::string_view) override { return std::nullopt; }
  const rules::yaml::Node* raw(std::string_view) override { return nullptr; }
  bool assume_secrets() const override { return false; }
  rules::Place place(std::string_view) const override { return {"logbell.yaml", 1, 1}; }
  void error(std::string_view, std::string reason, std::string) override {
    rules::check_failed(reason.c_str(), __FILE__, __LINE__);
  }
  void warn(std::string_view, std::string, std::string) override {}

 private:
  std::map<std::string, std::string, std::less<>> texts_;
};

std::unique_ptr<sinks::Sink> make(std::string_view type,
                                  std::map<std::string, std::string, std::less<>> texts) {
  MapFields fields(std::move(texts));
  return sinks::find_sink_type(type)->parse(fields)->build(0,
                                                           {"http://logbell.example.com:9733", "production"});
}

rules::Notification notification(std::size_t alerts) {
  rules::Notification out;
  out.key = "8f2c0d1e2f3a4b5c6d7e8f9012345678";
  out.sink = out.lane = "ops";
  out.reason = rules::NotifyReason::kFirstFiring;
  out.created_at = out.caused_at = kNow;
  for (std::size_t i = 0; i < alerts; ++i) {
    rules::Alert alert;
    alert.labels = {{"alertname", "QueueUnreachable"}, {"queue", "orders-" + std::to_string(i)}};
    alert.annotations = {{"summary", "5 errors in a minute"}};
    alert.state = rules::AlertState::kFiring;
    alert.active_at = alert.fired_at = kNow;
    out.alerts.push_back(std::move(alert));
  }
  return out;
}

// Whether one of the answers says so in its status line, as far as can be seen without reading HTTP.
bool says_success(const std::vector<std::string>& answers) {
  return std::any_of(answers.begin(), answers.end(), [](const std::string& answer) {
    for (std::size_t at = answer.find("HTTP/"); at != std::string::npos; at = answer.find("HTTP/", at + 1)) {
      std::size_t status = answer.find(' ', at);
      while (status < answer.size() && answer[status] == ' ')
        ++status;
      if (status < answer.size() && answer[status] == '2') return true;
    }
    return false;
  });
}

// Whether one of the answers says to a question that somebody is there: Slack refuses the malformed message with
// these words, and of a webhook any answer proves as much as it can.
bool says_live(const std::vector<std::string>& answers, std::string_view type) {
  return says_success(answers) || std::any_of(answers.begin(), answers.end(), [&](const std::string& answer) {
           const std::size_t http = answer.find("HTTP/");
           return http != std::string::npos &&
                  (type == "webhook" ||
                   (type == "slack" && answer.find("400", http) != std::string::npos &&
                    answer.find("invalid_payload", http) != std::string::npos));
         });
}

// A sink hides what it was given; what it never knew is nothing to hide.
void check_shown(const std::string& text, std::size_t most, std::string_view type) {
  LOGBELL_CHECK(fuzz::is_clean(text, false) && text.size() <= most);
  if (type == "slack" || type == "webhook") LOGBELL_CHECK(text.find(kToken) == std::string::npos);
  if (type == "alertmanager" || type == "webhook") LOGBELL_CHECK(text.find(kBearer) == std::string::npos);
  if (type == "pagerduty") LOGBELL_CHECK(text.find(kRoutingKey) == std::string::npos);
  if (type == "pagerduty") LOGBELL_CHECK(text.find(kApiToken) == std::string::npos);
  if (type == "slack_app") LOGBELL_CHECK(text.find(kAppToken) == std::string::npos);
  if (type == "webhook") LOGBELL_CHECK(text.find(kSigning) == std::string::npos);
}

void check(const sinks::Outcome& outcome, std::string_view type, const std::vector<std::string>& answers,
           std::size_t alerts) {
  using Kind = sinks::Outcome::Kind;
  using sinks::Reason;
  check_shown(outcome.detail, 600, type);
  check_shown(outcome.receipt, type == "slack_app" ? 3200 : 200, type);
  if (outcome.retry_after) {
    LOGBELL_CHECK(outcome.kind == Kind::kRetry);
    LOGBELL_CHECK(*outcome.retry_after > rules::Duration(0) && *outcome.retry_after <= sinks::kMaxRetryAfter);
  }
  LOGBELL_CHECK(!outcome.sink_is_dead || outcome.kind == Kind::kRejected);
  LOGBELL_CHECK((outcome.kind == Kind::kDelivered) == (outcome.reason == Reason::kOk));
  LOGBELL_CHECK((outcome.kind == Kind::kUnknown) == (outcome.reason == Reason::kResponseLost));
  if (outcome.kind == Kind::kDelivered) {
    LOGBELL_CHECK(!outcome.receipt.empty() && says_success(answers));
    const auto says_ok = [](const std::string& answer) { return answer.find("ok") != std::string::npos; };
    if (type == "slack") LOGBELL_CHECK(std::any_of(answers.begin(), answers.end(), says_ok));
    const auto is_accepted = [](const std::string& answer) {
      return answer.find("202") != std::string::npos;
    };
    if (type == "pagerduty") LOGBELL_CHECK(std::any_of(answers.begin(), answers.end(), is_accepted));
    // What follows finds its channel and its ts in it.
    if (type == "slack_app") {
      const std::size_t space = outcome.receipt.find(' ');
      LOGBELL_CHECK(space != std::string::npos && space >= 9 && outcome.receipt.size() > space + 3);
    }
    LOGBELL_CHECK(!outcome.begins || type == "slack_app");
  } else {
    LOGBELL_CHECK(outcome.receipt.empty() && !outcome.detail.empty());
  }
  LOGBELL_CHECK(outcome.refused.empty() || outcome.reason == Reason::kPartlyRefused);
  LOGBELL_CHECK(outcome.reason != Reason::kPartlyRefused ||
                ((type == "alertmanager" || type == "pagerduty") && !outcome.refused.empty() &&
                 outcome.refused.size() < alerts));
  LOGBELL_CHECK(std::is_sorted(outcome.refused.begin(), outcome.refused.end()));
  LOGBELL_CHECK(std::adjacent_find(outcome.refused.begin(), outcome.refused.end()) == outcome.refused.end());
  for (const std::size_t index : outcome.refused)
    LOGBELL_CHECK(index < alerts);
}

void check(const sinks::ReadBack& back, std::string_view type, const std::vector<std::string>& answers,
           std::size_t alerts) {
  const auto is_said = [&](std::string_view words) {
    return std::any_of(answers.begin(), answers.end(),
                       [&](const std::string& answer) { return answer.find(words) != std::string::npos; });
  };
  check_shown(back.evidence, 600, type);
  LOGBELL_CHECK(back.answered || back.found.empty());
  LOGBELL_CHECK(back.found.empty() || says_success(answers));
  LOGBELL_CHECK(std::is_sorted(back.found.begin(), back.found.end()));
  LOGBELL_CHECK(std::adjacent_find(back.found.begin(), back.found.end()) == back.found.end());
  LOGBELL_CHECK(back.found.empty() || back.found.back() < alerts);
  LOGBELL_CHECK(!back.open || type == "pagerduty");
  LOGBELL_CHECK(back.acknowledged.size() <= back.found.size());
  for (const sinks::ReadBack::Acknowledged& one : back.acknowledged) {
    LOGBELL_CHECK(type == "pagerduty" &&
                  std::find(back.found.begin(), back.found.end(), one.alert) != back.found.end());
    LOGBELL_CHECK(is_said("user") && one.took >= rules::Duration(0));
    check_shown(one.who, 200, type);
    check_shown(one.evidence, 800, type);
  }
}

// Of a form that is posted: names and values, and nothing that ends them early.
bool is_form(std::string_view body) {
  return std::all_of(body.begin(), body.end(), [](char c) {
    return rules::is_word(c) || std::string_view("-.%&=").find(c) != std::string_view::npos;
  });
}

std::vector<std::string> answers_of(std::string_view text) {
  std::vector<std::string> answers;
  while (true) {
    const std::size_t at = text.find("\n--\n");
    answers.emplace_back(text.substr(0, at));
    if (at == std::string_view::npos) return answers;
    text.remove_prefix(at + 4);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const bool kIgnored = std::signal(SIGPIPE, SIG_IGN) != SIG_ERR;
  static Server& server = *new Server;  // NOLINT(cppcoreguidelines-owning-memory): its thread never ends
  LOGBELL_CHECK(kIgnored);
  const auto [line, text] = fuzz::split_at(fuzz::text_of(data, size), '\n');
  const fuzz::Words how(line);
  const std::string_view type = how.has("slack_app")      ? "slack_app"
                                : how.has("webhook")      ? "webhook"
                                : how.has("alertmanager") ? "alertmanager"
                                : how.has("pagerduty")    ? "pagerduty"
                                                          : "slack";
  // A sink keeps a connection; made anew, one input knows nothing of another.
  std::unique_ptr<sinks::Sink> sink;
  if (type == "slack")
    sink =
        make(type, {{"webhook_url", server.url() + "/services/T00000001/B00000001/" + std::string(kToken)}});
  if (type == "alertmanager")
    sink = make(type, {{"url", server.url()}, {"bearer_token", std::string(kBearer)}});
  if (type == "pagerduty")
    sink = make(type, {{"routing_key", std::string(kRoutingKey)},
                       {"url", server.url()},
                       {"api_token", std::string(kApiToken)},
                       {"api_url", server.url()}});
  if (type == "slack_app")
    sink = make(type, {{"token", std::string(kAppToken)},
                       {"channel", how.has("named") ? "#ops" : std::string(kChannel)},
                       {"api_url", server.url()}});
  if (type == "webhook") {
    sink = make(type, {{"url", server.url() + "/hooks/" + std::string(kToken)},
                       {"secret", std::string(kSigning)},
                       {"bearer_token", std::string(kBearer)},
                       {"receipt", "$.data.id"}});
  }
  const std::vector<std::string> answers = answers_of(text);
  const std::size_t alerts = 1 + how.number() % 6;
  server.answer_with(answers);
  sinks::Attempt attempt;
  attempt.now = kNow;
  if (how.has("follows")) attempt.first_receipt = std::string(kChannel) + " 1777629600.000100";
  attempt.maybe_sent = how.has("again");
  const bool tells_who = type == "slack_app" || type == "pagerduty";
  if (how.has("ask")) {
    const sinks::Verification found = sink->verify(attempt);
    check_shown(found.evidence, 1000, type);
    LOGBELL_CHECK(found.verdict != sinks::Verification::Verdict::kLive || says_live(answers, type));
  } else if (tells_who && how.has("back")) {
    check(sink->read_back(notification(alerts), attempt), type, answers, alerts);
  } else {
    check(sink->deliver(notification(alerts), attempt), type, answers, alerts);
  }
  const std::vector<std::string> bodies = server.bodies();
  // Alertmanager is asked in halves, PagerDuty alert by alert, and of what is too large once more in short. A
  // Slack app looks through pages: of its channels, of a thread, of a channel's history.
  const std::size_t most = type == "alertmanager" ? 3 * alerts - 1
                           : type == "pagerduty"  ? 2 * alerts
                           : type == "slack_app"  ? 30
                                                  : 2;
  LOGBELL_CHECK(bodies.size() <= most);
  for (const std::string& body : bodies)
    LOGBELL_CHECK(how.has("ask") || (fuzz::is_utf8(body) &&
                                     (rules::Json::parse(body).has_value() || (tells_who && is_form(body)))));
  return 0;
}

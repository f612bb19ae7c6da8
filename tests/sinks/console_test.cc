#include "sinks/console.h"

#include <catch2/catch.hpp>
#include <fcntl.h>
#include <unistd.h>

#include "tests/sinks/fixtures.h"

namespace {

using namespace logbell;         // NOLINT(google-build-using-namespace): a test
using namespace logbell::sinks;  // NOLINT(google-build-using-namespace)
using namespace std::chrono_literals;

std::string shown(const rules::Notification& n, const Attempt& attempt = tests::attempt(),
                  ConsoleStyle style = {}) {
  return console_text(n, attempt, tests::context(), style);
}

// Stands in for standard output while it lives.
class Captured {
 public:
  Captured() : saved_(dup(STDOUT_FILENO)) {
    REQUIRE(pipe(ends_) == 0);
    dup2(ends_[1], STDOUT_FILENO);
  }
  ~Captured() { restore(); }
  Captured(const Captured&) = delete;
  Captured& operator=(const Captured&) = delete;
  void fill() {
    const int flags = fcntl(ends_[1], F_GETFL);
    fcntl(ends_[1], F_SETFL, flags | O_NONBLOCK);
    const std::string chunk(4096, 'x');
    while (write(ends_[1], chunk.data(), chunk.size()) > 0) {
    }
    fcntl(ends_[1], F_SETFL, flags);
  }
  std::string text() {
    restore();
    std::string out;
    char buffer[4096];
    for (ssize_t got = 0; (got = read(ends_[0], buffer, sizeof buffer)) > 0;)
      out.append(buffer, static_cast<std::size_t>(got));
    return out;
  }
  void restore() {
    if (saved_ < 0) return;
    dup2(saved_, STDOUT_FILENO);
    close(saved_);
    close(ends_[1]);
    saved_ = -1;
  }

 private:
  int saved_;
  int ends_[2] = {-1, -1};
};

}  // namespace

TEST_CASE("console: the messages, as people see them", "[sinks][console]") {
  tests::check_golden("console_firing.txt", shown(tests::notification()));
  Attempt later = tests::attempt();
  later.now = tests::start() + 12min + 1s;
  tests::check_golden("console_resolved.txt", shown(tests::resolved_notification(), later));
  std::vector<rules::Alert> group;
  for (int i = 0; i < 10; ++i)
    group.push_back(tests::queue_alert("orders-" + std::to_string(i)));
  rules::Notification n = tests::notification(group, rules::NotifyReason::kNewAlerts);
  n.fallback_for = "oncall";
  tests::check_golden("console_group.txt", shown(n));
  tests::check_golden("console_refused.txt",
                      shown(tests::text_notification(
                          rules::NotifyReason::kRefused,
                          "logbell.yaml:12:5: rule \"A\": reaches no sink\nlogbell.yaml:14:1: …")));
  tests::check_golden("console_colour.txt", shown(tests::notification(), tests::attempt(), {true, 80}));
}

TEST_CASE("console: nothing is wider than the terminal, whatever is in it", "[sinks][console]") {
  for (const std::string& text : tests::hostile_texts()) {
    std::string much;
    while (much.size() < 3000)
      much += text + (much.size() % 3 == 0 ? " " : "");
    rules::Alert alert = tests::queue_alert(much);
    alert.labels.set("alertname", much);
    alert.last_line->text = much;
    for (const std::size_t width : {60U, 80U, 100U}) {
      std::istringstream in(shown(tests::notification({alert, alert}), tests::attempt(), {false, width}));
      for (std::string line; std::getline(in, line);) {
        INFO(line);
        CHECK(ConsoleText(line).columns() <= width);
      }
    }
  }
}

TEST_CASE("console: no escape sequence but our own, and none without colour", "[sinks][console]") {
  for (const std::string& text : tests::hostile_texts()) {
    rules::Alert alert = tests::queue_alert(text);
    alert.labels.set("alertname", text);
    alert.first_line->text = text;
    alert.resolve_reason = text;
    rules::Notification n = tests::notification({alert});
    n.fallback_for = text;
    std::string plain = shown(n) + shown(tests::text_notification(rules::NotifyReason::kSummary, text));
    for (const char c : plain)
      CHECK((c == '\n' || static_cast<unsigned char>(c) >= 0x20));
    std::string colour = shown(n, tests::attempt(), {true, 100});
    for (std::size_t at = colour.find('\x1b'); at != std::string::npos; at = colour.find('\x1b', at)) {
      const std::size_t end = colour.find('m', at);
      REQUIRE(end != std::string::npos);
      CHECK(colour.substr(at + 2, end - at - 2).find_first_not_of("0123456789;") == std::string::npos);
      colour.erase(at, end + 1 - at);
    }
    CHECK(colour == shown(n));  // colour changes nothing else
  }
}

TEST_CASE("console: written to standard output, without colour where it is no terminal", "[sinks][console]") {
  const auto sink = tests::make_sink("console", {}, tests::context());
  Captured out;
  const Outcome outcome = sink->deliver(tests::notification(), tests::attempt());
  const std::string text = out.text();
  CHECK(outcome.kind == Outcome::Kind::kDelivered);
  CHECK(outcome.receipt == "stdout");
  CHECK(text == shown(tests::notification()));
}

TEST_CASE("console: a reader that takes nothing costs the deadline and no more", "[sinks][console][F42]") {
  const auto sink = tests::make_sink("console", {{"colour", "always"}}, tests::context());
  Captured out;
  out.fill();
  const Outcome outcome = sink->deliver(tests::notification(), tests::attempt(200ms));
  out.restore();
  CHECK(outcome.kind == Outcome::Kind::kRetry);
  CHECK(outcome.reason == Reason::kTimeout);
}

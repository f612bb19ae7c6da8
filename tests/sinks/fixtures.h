// What the tests of sinks share: a configuration written in a line, notifications, golden files, hostile
// text.
//
// Test only.
#pragma once

#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <catch2/catch.hpp>

#include "rules/notification.h"
#include "sinks/encode.h"
#include "sinks/registry.h"
#include "sinks/sink.h"

namespace logbell::tests {

// A sink's fields as the configuration's compiler hands them over, from a map.
class FakeFields final : public sinks::FieldReader {
 public:
  using Texts = std::map<std::string, std::string, std::less<>>;
  explicit FakeFields(Texts texts = {}) : texts_(std::move(texts)) {}
  std::optional<std::string> text(std::string_view key, bool required) override {
    const auto found = texts_.find(key);
    if (found != texts_.end()) return found->second;
    if (required) error(key, "missing");
    return std::nullopt;
  }
  std::optional<rules::Secret> secret(std::string_view key, bool required) override {
    const std::optional<std::string> value = text(key, required);
    if (!value) return std::nullopt;
    if (assume_secrets_) return rules::Secret("assumed");
    return rules::Secret(*value);
  }
  std::optional<std::vector<std::string>> text_list(std::string_view key, bool required) override {
    const auto found = lists_.find(key);
    if (found != lists_.end()) return found->second;
    if (required) error(key, "missing");
    return std::nullopt;
  }
  std::optional<bool> boolean(std::string_view key) override {
    const auto found = texts_.find(key);
    if (found == texts_.end()) return std::nullopt;
    return found->second == "true";
  }
  std::optional<rules::Duration> duration(std::string_view key) override {
    const auto found = texts_.find(key);
    if (found == texts_.end()) return std::nullopt;
    const rules::Result<rules::Duration> value = rules::parse_duration(found->second);
    if (!value) error(key, value.error().message);
    return value ? std::optional(*value) : std::nullopt;
  }
  const rules::yaml::Node* raw(std::string_view key) override {
    const auto found = raw_.find(key);
    return found == raw_.end() ? nullptr : &found->second;
  }
  bool assume_secrets() const override { return assume_secrets_; }
  rules::Place place(std::string_view /*key*/) const override { return {"logbell.yaml", 1, 1}; }
  void error(std::string_view key, std::string reason, std::string fix = {}) override {
    errors.push_back(std::string(key) + ": " + reason + (fix.empty() ? "" : "; " + fix));
  }
  void warn(std::string_view key, std::string reason, std::string fix = {}) override {
    warnings.push_back(std::string(key) + ": " + reason + (fix.empty() ? "" : "; " + fix));
  }

  void set_list(const std::string& key, std::vector<std::string> list) { lists_[key] = std::move(list); }
  void set_raw(const std::string& key, rules::yaml::Node node) { raw_[key] = std::move(node); }
  void assume(bool on) { assume_secrets_ = on; }

  std::vector<std::string> errors;
  std::vector<std::string> warnings;

 private:
  Texts texts_;
  std::map<std::string, std::vector<std::string>, std::less<>> lists_;
  std::map<std::string, rules::yaml::Node, std::less<>> raw_;
  bool assume_secrets_ = false;
};

inline std::unique_ptr<sinks::SinkConfig> configure(std::string_view type, FakeFields& fields) {
  const sinks::SinkType* found = sinks::find_sink_type(type);
  REQUIRE(found != nullptr);
  return found->parse(fields);
}

// A configured sink; the configuration must be good.
inline std::unique_ptr<sinks::Sink> make_sink(std::string_view type, FakeFields::Texts texts,
                                              const sinks::SinkContext& context = {}) {
  FakeFields fields(std::move(texts));
  const std::unique_ptr<sinks::SinkConfig> config = configure(type, fields);
  INFO((fields.errors.empty() ? std::string() : fields.errors.front()));
  REQUIRE(config != nullptr);
  return config->build(0, context);
}

// 2026-05-01T10:00:00Z, when everything below happens.
inline rules::Timestamp start() {
  return *rules::parse_rfc3339("2026-05-01T10:00:00Z");
}

inline sinks::Attempt attempt(rules::Duration timeout = std::chrono::seconds(10)) {
  sinks::Attempt out;
  out.now = start() + std::chrono::seconds(3);
  out.timeout = timeout;
  return out;
}

inline rules::Alert queue_alert(const std::string& queue = "orders-foobar") {
  rules::Alert alert;
  alert.labels = {{"alertname", "QueueUnreachable"},
                  {"environment", "production"},
                  {"instance", "api-1"},
                  {"queue", queue},
                  {"service", "orders-api"},
                  {"severity", "critical"}};
  alert.annotations = {{"summary", "API cannot reach queue " + queue + ": 5 errors in a minute"},
                       {"runbook_url", "https://wiki.example.com/queue"}};
  alert.state = rules::AlertState::kFiring;
  alert.value = 5;
  alert.active_at = alert.fired_at = start();
  alert.expr = "sum by (queue) (count_over_time(queue_error[1m])) >= 3";
  alert.first_line = rules::SampleLine{start() - std::chrono::seconds(40),
                                       "2026-05-01T09:59:20Z ERROR QueueNotFoundException: queue " + queue};
  alert.last_line = rules::SampleLine{
      start(), "2026-05-01T10:00:00Z ERROR QueueNotFoundException: queue " + queue + " <again>"};
  alert.top_values = {{"partner", {{"acme", 3}, {"globex", 2}}}};
  return alert;
}

inline rules::Notification notification(std::vector<rules::Alert> alerts = {queue_alert()},
                                        rules::NotifyReason reason = rules::NotifyReason::kFirstFiring) {
  rules::Notification out;
  out.key = "8f2c0d1e2f3a4b5c6d7e8f9012345678";
  out.sink = "ops-slack";
  out.lane = "ops-slack";
  out.reason = reason;
  out.group_key = "{}:{alertname=\"QueueUnreachable\"}";
  out.group_labels = {{"alertname", "QueueUnreachable"}};
  out.alerts = std::move(alerts);
  out.changes = 1;
  out.created_at = out.caused_at = start() + std::chrono::seconds(1);
  return out;
}

inline rules::Notification resolved_notification() {
  rules::Alert alert = queue_alert();
  alert.state = rules::AlertState::kResolved;
  alert.resolved_at = start() + std::chrono::minutes(12);
  rules::Notification out = notification({alert}, rules::NotifyReason::kAllResolved);
  out.created_at = out.caused_at = start() + std::chrono::minutes(12);
  return out;
}

inline rules::Notification text_notification(rules::NotifyReason reason, std::string text) {
  rules::Notification out = notification({}, reason);
  out.group_labels = {};
  out.text = std::move(text);
  return out;
}

inline sinks::SinkContext context() {
  return {"http://logbell.example.com:9733", "production"};
}

// SECURITY.md, output injection: what a log might say to become more than text.
inline std::vector<std::string> hostile_texts() {
  return {"<!channel> wake up",
          "<!here|x> <!subteam^S1> <@U123|boss>",
          "<https://evil.example|Approve>",
          "see https://evil.example/approve and www.evil.example",
          "back-ticks ``` end ``` and `code`",
          "*bold* _italic_ ~strike~ &lt;!channel&gt; &amp;",
          "@everyone <at>boss</at> [click](https://evil.example) ![x](y)",
          "a\r\nBcc: victim@example.com\r\n\r\nbody",
          "</pre><script>alert(1)</script>",
          "%0d%0aSet-Cookie: x=1",
          "{{ .Labels }} ${HOME} $(reboot) `reboot`",
          std::string("nul\0byte", 8),
          "right-to-left \u202Eexe.gpj\u202C and \u2066isolate\u2069",
          "zero\u200Bwidth\u200D\uFEFF join",
          "\x1b[2J\x1b]0;owned\x07 red \x1b[31m and \u009b31m",
          "not utf-8: \xff\xfe\xc0\xaf",
          "\"quoted\" \\ back\\slash /solidus/ \t tab",
          "שלום עולם مرحبا",
          "👩‍👩‍👧 family 🏳️‍🌈 flag 👍🏽 thumb é"};
}

inline std::string read_text(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

// Compares with tests/sinks/golden/<name>; LOGBELL_UPDATE_GOLDEN=1 writes it instead (then read the
// difference).
inline void check_golden(const std::string& name, const std::string& text) {
  const std::string path = std::string(LOGBELL_SOURCE_DIR) + "/tests/sinks/golden/" + name;
  if (std::getenv("LOGBELL_UPDATE_GOLDEN") != nullptr) {
    std::ofstream(path, std::ios::binary) << text;
  }
  INFO(path);
  CHECK(read_text(path) == text);
}

}  // namespace logbell::tests

namespace Catch {
template <>
struct StringMaker<logbell::sinks::Outcome> {
  static std::string convert(const logbell::sinks::Outcome& outcome) {
    static const char* const kKinds[] = {"delivered", "retry", "rejected", "unknown"};
    return std::string(kKinds[static_cast<int>(outcome.kind)]) + " " +
           std::string(to_string(outcome.reason)) + " \"" + outcome.detail + "\"";
  }
};
template <>
struct StringMaker<logbell::sinks::Outcome::Kind> {
  static std::string convert(logbell::sinks::Outcome::Kind kind) {
    static const char* const kKinds[] = {"delivered", "retry", "rejected", "unknown"};
    return kKinds[static_cast<int>(kind)];
  }
};
template <>
struct StringMaker<logbell::sinks::Reason> {
  static std::string convert(logbell::sinks::Reason reason) { return std::string(to_string(reason)); }
};
}  // namespace Catch

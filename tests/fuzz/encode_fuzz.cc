// Whatever a log, a label or an annotation says: what leaves for Slack and for a webhook is valid JSON whose
// every text can be shown, within Slack's limits, in which nothing is mark-up, a mention or a link but what
// logbell wrote; no escape sequence reaches a terminal, and no header has a second line.
//
// Parts, separated by lines of "--": the alert's name, its labels (NAME=VALUE), its annotations, the sample
// line, what the group says instead of alerts, words (resolved, several, late, summary, refused), the value.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "rules/json.h"
#include "rules/notification.h"
#include "rules/redact.h"
#include "rules/result.h"
#include "rules/template.h"
#include "sinks/console.h"
#include "sinks/encode.h"
#include "sinks/message.h"
#include "sinks/slack.h"
#include "sinks/slack_message.h"
#include "sinks/webhook.h"
#include "tests/fuzz/support.h"

namespace {

using namespace logbell;
using rules::Json;

constexpr rules::Timestamp kNow{rules::Duration(1'777'629'600'000)};  // 2026-05-01T10:00:00Z

std::vector<std::string_view> parts_of(std::string_view text) {
  std::vector<std::string_view> parts;
  while (parts.size() < 6) {
    const std::size_t at = text.find("\n--\n");
    parts.push_back(text.substr(0, at));
    text.remove_prefix(at == std::string_view::npos ? text.size() : at + 4);
  }
  parts.push_back(text);
  return parts;
}

rules::Notification notification_of(const std::vector<std::string_view>& parts) {
  const fuzz::Words how(parts[5]);
  rules::Alert alert;
  alert.labels.set("alertname", parts[0]);
  for (const std::string_view line : fuzz::split_all(parts[1], '\n')) {
    const auto [name, value] = fuzz::split_at(line, '=');
    alert.labels.set(name, value);
  }
  for (const std::string_view line : fuzz::split_all(parts[2], '\n')) {
    const auto [name, value] = fuzz::split_at(line, '=');
    alert.annotations.emplace_back(name, value);
  }
  alert.state = how.has("resolved") ? rules::AlertState::kResolved : rules::AlertState::kFiring;
  alert.active_at = alert.fired_at = kNow - std::chrono::minutes(how.number());
  if (how.has("resolved")) alert.resolved_at = kNow;
  alert.value = rules::parse_number(parts[6]);
  alert.expr = parts[0];
  if (!parts[3].empty()) alert.first_line = rules::SampleLine{kNow, std::string(parts[3])};
  if (how.has("several")) alert.last_line = rules::SampleLine{kNow, std::string(parts[4])};
  alert.top_values = {{std::string(parts[0]), {{std::string(parts[3]), 12}, {std::string(parts[6]), 1}}}};
  alert.resolve_reason = how.has("resolved") ? parts[4] : "";

  rules::Notification out;
  out.key = parts[0];
  out.sink = out.lane = parts[6];
  out.reason = rules::NotifyReason::kFirstFiring;
  out.group_key = parts[1];
  out.group_labels = alert.labels;
  out.created_at = out.caused_at = how.has("late") ? kNow - std::chrono::hours(3) : kNow;
  out.changes = static_cast<std::uint32_t>(how.number());
  if (how.has("late")) out.fallback_for = parts[0];
  if (how.has("summary") || how.has("refused")) {
    out.reason = how.has("summary") ? rules::NotifyReason::kSummary : rules::NotifyReason::kRefused;
    out.text = parts[4];
  }
  if (out.text.empty()) {
    out.alerts.push_back(alert);
    if (how.has("several")) out.alerts.resize(2 + how.number() % 11, alert);
    for (std::size_t i = 1; i < out.alerts.size(); ++i)
      out.alerts[i].labels.set("queue", std::to_string(i) + std::string(parts[3]));
  }
  return out;
}

// Every text and every name in it can be shown.
void check_clean(const Json& json) {
  LOGBELL_CHECK(fuzz::is_clean(json.string(), true));
  for (const Json& item : json.array())
    check_clean(item);
  for (const auto& [name, value] : json.object()) {
    LOGBELL_CHECK(fuzz::is_clean(name, true));
    check_clean(value);
  }
}

Json read_back(const sinks::Payload& payload) {
  const std::string text = payload.dump();
  LOGBELL_CHECK(fuzz::is_utf8(text));
  const rules::Result<Json> json = Json::parse(text);
  LOGBELL_CHECK(json.has_value());
  check_clean(*json);
  return *json;
}

// Nothing that Slack would read as more than text; `own`: a time of ours, and the field's name, may stand
// in it.
void check_mrkdwn(std::string_view text, bool own) {
  std::string plain(text);
  static constexpr std::string_view kDate = "<!date^";
  while (own && plain.find(kDate) != std::string::npos) {
    const std::size_t at = plain.find(kDate);
    const std::size_t end = plain.find('>', at);
    LOGBELL_CHECK(end != std::string::npos);
    const std::string_view date = std::string_view(plain).substr(at, end - at);
    LOGBELL_CHECK(date.substr(kDate.size()).find_first_not_of("0123456789^{}_ |-:.TZabcdehiklmnoprstuvwxy") ==
                  std::string_view::npos);
    plain.erase(at, end + 1 - at);
  }
  if (own) {
    // "*Severity*\n…"
    LOGBELL_CHECK(plain.front() == '*');
    plain.erase(0, plain.find('\n') + 1);
  }
  LOGBELL_CHECK(plain.find_first_of("<>`*~") == std::string::npos);
  for (std::size_t at = plain.find('&'); at != std::string::npos; at = plain.find('&', at + 1)) {
    const std::string_view rest = std::string_view(plain).substr(at);
    LOGBELL_CHECK(rest.starts_with("&amp;") || rest.starts_with("&lt;") || rest.starts_with("&gt;"));
  }
  LOGBELL_CHECK(plain.find("://") == std::string::npos);
}

void check_url(std::string_view url) {
  LOGBELL_CHECK(url.starts_with("https://") || url.starts_with("http://"));
  for (const char c : url)
    LOGBELL_CHECK(c > ' ' && c < 0x7F && std::string_view("<>|\"\\").find(c) == std::string_view::npos);
}

// SINKS.md §2: each object of a message within its limit.
void check_slack(const Json& json) {
  const std::string_view type = json["type"].string();
  if (type == "header") LOGBELL_CHECK(sinks::count_units(json["text"]["text"].string()) <= 150);
  if (type == "plain_text" || type == "text") LOGBELL_CHECK(!json["text"].string().empty());
  if (type == "mrkdwn") {
    LOGBELL_CHECK(sinks::count_units(json["text"].string()) <= 2000);
    check_mrkdwn(json["text"].string(), true);
  }
  if (type == "section") LOGBELL_CHECK(json["fields"].array().size() <= 10);
  if (type == "context") LOGBELL_CHECK(json["elements"].array().size() <= 10);
  if (type == "link") check_url(json["url"].string());
  for (const Json& item : json.array())
    check_slack(item);
  for (const auto& [name, value] : json.object())
    check_slack(value);
}

void check_messages(const rules::Notification& notification, const fuzz::Words& how) {
  sinks::Attempt attempt;
  attempt.now = kNow + std::chrono::seconds(3);
  attempt.maybe_sent = how.has("late");
  const sinks::SinkContext context{"http://logbell.example.com:9733", "production"};

  const Json slack = read_back(sinks::slack_payload(notification, attempt, context));
  check_slack(slack["blocks"]);
  LOGBELL_CHECK(slack["blocks"].array().size() <= 50);
  LOGBELL_CHECK(sinks::count_units(slack["text"].string()) <= 4000);
  check_mrkdwn(slack["text"].string(), false);

  const Json minimal = read_back(sinks::slack_minimal_message(notification, attempt, context));
  LOGBELL_CHECK(!minimal["text"].string().empty() && sinks::count_units(minimal["text"].string()) <= 4000);
  check_mrkdwn(minimal["text"].string(), false);

  const Json webhook = read_back(sinks::webhook_payload(notification, attempt, context));
  LOGBELL_CHECK(webhook["alerts"].array().size() == std::max<std::size_t>(notification.alerts.size(), 1));

  for (const std::size_t width : {60U, 100U}) {
    const std::string page = sinks::console_text(notification, attempt, context, {false, width});
    LOGBELL_CHECK(fuzz::is_clean(page, true) && page.find('\t') == std::string::npos);
    LOGBELL_CHECK(page.ends_with("\n\n") || page == "\n");
    for (const std::string_view line : fuzz::split_all(page, '\n')) {
      std::size_t columns = 0;
      fuzz::is_utf8(line,
                    [&](char32_t code) { columns += static_cast<std::size_t>(sinks::columns_of(code)); });
      LOGBELL_CHECK(columns <= width);
    }
  }
}

void check_texts(std::string_view text, std::size_t most) {
  for (const sinks::Lines lines : {sinks::Lines::kJoin, sinks::Lines::kKeep}) {
    const sinks::PlainText plain(text, most, lines);
    LOGBELL_CHECK(fuzz::is_clean(plain.str(), lines == sinks::Lines::kKeep));
    LOGBELL_CHECK(sinks::count_units(plain.str()) <= most);
  }
  const sinks::MrkdwnText mrkdwn(text, most);
  LOGBELL_CHECK(fuzz::is_clean(mrkdwn.str(), false) && mrkdwn.units() <= most);
  check_mrkdwn(mrkdwn.str(), false);
  const sinks::HeaderText header(text, most);
  LOGBELL_CHECK(header.str().size() <= most);
  for (const char c : header.str())
    LOGBELL_CHECK(c >= ' ' && c < 0x7F);
  const sinks::JsonString json(text, most);
  LOGBELL_CHECK(fuzz::is_clean(json.str(), true) && json.str().size() <= most);
  const sinks::ConsoleText console(text, most);
  LOGBELL_CHECK(fuzz::is_clean(console.str(), false) && console.str().find('\t') == std::string::npos);
  if (const std::optional<sinks::LinkUrl> url = sinks::LinkUrl::from(text)) check_url(url->str());
  // Cleaning twice, or cutting what fits, changes nothing.
  const std::string once = rules::clean_text(text, 1 << 20);
  LOGBELL_CHECK(rules::clean_text(once, 1 << 20) == once);
  LOGBELL_CHECK(sinks::cut_to_units(once, sinks::count_units(once)) == once);
  LOGBELL_CHECK(sinks::cut_to_bytes(once, most).size() <= most);
  LOGBELL_CHECK(rules::clean_text(text, most).size() <= most);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text = fuzz::text_of(data, size);
  const std::vector<std::string_view> parts = parts_of(text);
  check_texts(text, 1 + size % 64);
  check_messages(notification_of(parts), fuzz::Words(parts[5]));
  return 0;
}

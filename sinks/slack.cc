#include "sinks/slack.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <utility>

#include "sinks/expect.h"
#include "sinks/http.h"
#include "sinks/slack_message.h"

namespace logbell::sinks {
namespace {

using rules::Secret;

class SlackSink final : public Sink {
 public:
  SlackSink(Secret url, const HttpOptions& options, SinkContext context)
      : url_(std::move(url)), hide_(options.secrets()), client_(options), context_(std::move(context)) {
    hide_.push_back(url_);
  }
  Outcome deliver(const rules::Notification& notification, const Attempt& attempt) override;
  Verification verify(const Attempt& attempt) override;

 private:
  Secret url_;
  std::vector<Secret> hide_;
  HttpClient client_;
  SinkContext context_;
};

// What an answer's words mean (SINKS.md §1): Slack's own list, then what has been seen in the field. Status
// 0: any.
struct AnswerRow {
  int status;
  std::string_view words;
  Outcome::Kind kind;
  Reason reason;
  bool sink_is_dead;
};
constexpr Outcome::Kind kRejected = Outcome::Kind::kRejected;
constexpr std::array<AnswerRow, 27> kAnswers{{
    {400, "invalid_payload", kRejected, Reason::kBadRequest, false},
    {400, "user_not_found", kRejected, Reason::kGone, true},
    {403, "action_prohibited", kRejected, Reason::kAuth, true},
    {404, "channel_not_found", kRejected, Reason::kGone, true},
    {410, "channel_is_archived", kRejected, Reason::kGone, true},
    {500, "rollup_error", Outcome::Kind::kRetry, Reason::kServerError, false},
    // 403 and, since a workspace is gone or the hook revoked, 400.
    {0, "invalid_token", kRejected, Reason::kAuth, true},
    {0, "posting_to_general_channel_denied", kRejected, Reason::kAuth, true},
    {0, "user_not_found", kRejected, Reason::kGone, true},
    {0, "channel_not_found", kRejected, Reason::kGone, true},
    {0, "channel_is_archived", kRejected, Reason::kGone, true},
    {0, "no_service", kRejected, Reason::kGone, true},
    {0, "no_service_id", kRejected, Reason::kGone, true},
    {0, "no_team", kRejected, Reason::kGone, true},
    {0, "no_active_hooks", kRejected, Reason::kGone, true},
    {0, "team_disabled", kRejected, Reason::kGone, true},
    {0, "invalid_team", kRejected, Reason::kGone, true},
    {0, "invalid_payload", kRejected, Reason::kBadRequest, false},
    {0, "invalid_blocks", kRejected, Reason::kBadRequest, false},
    {0, "invalid_blocks_format", kRejected, Reason::kBadRequest, false},
    {0, "invalid_attachments", kRejected, Reason::kBadRequest, false},
    {0, "too_many_attachments", kRejected, Reason::kBadRequest, false},
    {0, "msg_too_long", kRejected, Reason::kBadRequest, false},
    {0, "no_text", kRejected, Reason::kBadRequest, false},
    {0, "missing_text_or_fallback_or_attachments", kRejected, Reason::kBadRequest, false},
    {0, "rate_limited", Outcome::Kind::kRetry, Reason::kRateLimited, false},
    {0, "ratelimited", Outcome::Kind::kRetry, Reason::kRateLimited, false},
}};

// "no_service", or the `error` of a JSON answer.
std::string words_of(const std::string& body) {
  if (!body.empty() && body.front() == '{') {
    const rules::Result<rules::Json> json = rules::Json::parse(body);
    if (json) return std::string((*json)["error"].string());
  }
  std::string words = body;
  while (!words.empty() && std::isspace(static_cast<unsigned char>(words.back())) != 0)
    words.pop_back();
  return words;
}

Outcome read_answer(const HttpResult& result, const std::vector<Secret>& hide) {
  if (result.kind != HttpResult::Kind::kAnswered) return outcome_of(result, hide);
  if (result.status == 200 && result.body == "ok") return Outcome::delivered("ok");
  const std::string words = words_of(result.body);
  const auto row = std::find_if(kAnswers.begin(), kAnswers.end(), [&](const AnswerRow& r) {
    return (r.status == 0 || r.status == result.status) && r.words == words;
  });
  const std::string detail = describe(result, hide);
  if (row != kAnswers.end() && row->kind == kRejected) {
    return Outcome::rejected(row->reason, detail, row->sink_is_dead);
  }
  if (row != kAnswers.end()) return Outcome::retry(row->reason, detail, result.retry_after);
  // A success that does not say "ok" is somebody else's: a proxy's page, a maintenance page.
  if (result.is_success()) return Outcome::retry(Reason::kBadResponse, detail, result.retry_after);
  return outcome_of(result, hide);
}

Outcome SlackSink::deliver(const rules::Notification& notification, const Attempt& attempt) {
  HttpRequest request;
  request.url = url_;
  request.headers.push_back({"Content-Type", Secret("application/json; charset=utf-8")});
  const Payload whole = slack_payload(notification, attempt, context_);
  request.body = whole.dump();
  request.timeout = client_.budget(attempt.timeout);
  request.now = attempt.now;
  const HttpResult first = client_.post(request);
  Outcome outcome = read_answer(first, hide_);
  const bool refused_as_it_is = outcome.kind == kRejected && outcome.reason == Reason::kBadRequest;
  if (!refused_as_it_is) {
    outcome.truncated = whole.was_cut();
    return outcome;
  }

  // The formatted message is refused; what it says must arrive all the same (FAULTS F48).
  request.body = slack_minimal_message(notification, attempt, context_).dump();
  request.timeout -= first.elapsed;
  Outcome second = read_answer(client_.post(request), hide_);
  if (second.kind == Outcome::Kind::kDelivered) {
    second.detail = "sent as plain text: the formatted message was refused with " + outcome.detail;
    second.truncated = true;
  }
  return second;
}

// What a webhook says to a message that is none. Slack documents none of it (SINKS.md §1): the words are
// those that were seen. Not asked with {"text":""}: a workspace that is gone answers that as a live one does.
constexpr std::string_view kNoMessage = "{\"logbell\": asks whether anybody is there";
constexpr Verification::Verdict kLive = Verification::Verdict::kLive;
constexpr Verification::Verdict kDead = Verification::Verdict::kDead;
constexpr std::string_view kDetector = "TruffleHog's slackwebhook detector at 0a38da06";
constexpr std::string_view kField = "seen in the field: SINKS.md §1";
constexpr std::array<Expectation, 9> kExpected{{
    {400, 400, "invalid_payload", kLive, ProofLevel::kCredential, Reason::kOk, kDetector},
    {400, 400, "invalid_token", kDead, ProofLevel::kNetwork, Reason::kAuth, "TruffleHog PR 5177"},
    {400, 400, "user_not_found", kDead, ProofLevel::kCredential, Reason::kGone,
     "api.slack.com/changelog/2016-05-17-changes-to-errors-for-incoming-webhooks"},
    {400, 400, "no_team", kDead, ProofLevel::kNetwork, Reason::kGone, kField},
    {400, 400, "invalid_team", kDead, ProofLevel::kNetwork, Reason::kGone, kField},
    {400, 400, "team_disabled", kDead, ProofLevel::kNetwork, Reason::kGone, kField},
    {403, 403, "", kDead, ProofLevel::kNetwork, Reason::kAuth, "alertmanager issue 3727"},
    {404, 404, "", kDead, ProofLevel::kNetwork, Reason::kGone, kDetector},
    {410, 410, "", kDead, ProofLevel::kCredential, Reason::kGone, kField},
}};

Verification SlackSink::verify(const Attempt& attempt) {
  HttpRequest request;
  request.url = url_;
  request.headers.push_back({"Content-Type", Secret("application/json")});
  request.body = kNoMessage;
  request.timeout = client_.budget(attempt.timeout);
  request.now = attempt.now;
  const HttpResult result = client_.post(request);
  Verification verification = judge("malformed message", result, words_of(result.body), kExpected, hide_);
  if (result.is_success()) verification.evidence += " (was it shown in the channel? It should be refused)";
  return verification;
}

class SlackConfig final : public SinkConfig {
 public:
  SlackConfig(Secret url, HttpOptions options, std::string shown)
      : url_(std::move(url)), options_(std::move(options)), shown_(std::move(shown)) {}
  std::unique_ptr<Sink> build(std::size_t /*lane*/, const SinkContext& context) const override {
    return std::make_unique<SlackSink>(url_, options_, context);
  }
  std::vector<Secret> secrets() const override {
    std::vector<Secret> all = options_.secrets();
    all.push_back(url_);
    return all;
  }
  std::string destination() const override { return shown_; }
  std::string words(const rules::Notification& notification, const Attempt& attempt,
                    const SinkContext& context) const override {
    return slack_words(slack_payload(notification, attempt, context));
  }

 private:
  Secret url_;
  HttpOptions options_;
  std::string shown_;
};

// /services/T…/B…/… (or /workflows/…, /triggers/…, which take another payload and are refused).
bool is_webhook_path(std::string_view path) {
  static constexpr std::string_view kServices = "/services/";
  if (path.substr(0, kServices.size()) != kServices) return false;
  path.remove_prefix(kServices.size());
  int pieces = 0;
  while (!path.empty()) {
    const std::string_view piece = path.substr(0, path.find('/'));
    const bool is_known_start =
        pieces == 0 ? piece.substr(0, 1) == "T" : pieces != 1 || piece.substr(0, 1) == "B";
    if (piece.size() < 2 || !is_known_start) return false;
    if (piece.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") !=
        std::string_view::npos) {
      return false;
    }
    ++pieces;
    path.remove_prefix(piece.size());
    if (!path.empty()) path.remove_prefix(1);
  }
  return pieces == 3;
}

}  // namespace

Payload slack_payload(const rules::Notification& notification, const Attempt& attempt,
                      const SinkContext& context) {
  Payload out = slack_message(notification, attempt, context);
  out.set("metadata",
          Payload::object()
              .set("event_type", "logbell_notification")
              .set("event_payload", Payload::object()
                                        .set("delivery_key", JsonString(notification.key, 255))
                                        .set("reason", JsonString(rules::to_string(notification.reason)))));
  return out;
}

std::unique_ptr<SinkConfig> parse_slack(FieldReader& fields) {
  const std::optional<Secret> secret = fields.secret("webhook_url", true);
  const std::optional<HttpOptions> options = read_http_options(fields);
  if (!secret || !options) return nullptr;
  if (fields.assume_secrets())
    return std::make_unique<SlackConfig>(*secret, *options, "https://hooks.slack.com");
  const std::optional<Url> url = check_url(fields, "webhook_url", secret->reveal(), false);
  if (!url) return nullptr;
  const bool is_slack = url->host == "hooks.slack.com" || url->host == "hooks.slack-gov.com";
  if (is_slack && !is_webhook_path(url->path)) {
    fields.error(
        "webhook_url", "this is not the address of a Slack incoming webhook",
        "copy it from the app's page \"Incoming Webhooks\": https://hooks.slack.com/services/T…/B…/…");
    return nullptr;
  }
  return std::make_unique<SlackConfig>(*secret, *options, url->shown);
}

}  // namespace logbell::sinks

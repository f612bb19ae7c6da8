// SINKS.md §2. docs.slack.dev: reference/methods (auth.test, chat.*, conversations.*, users.conversations)
// for arguments and errors, messaging/message-metadata, apis/web-api/rate-limits.
#include "sinks/slack_app.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "rules/text.h"
#include "sinks/expect.h"
#include "sinks/http.h"
#include "sinks/slack_message.h"

namespace logbell::sinks {
namespace {

using rules::Duration;
using rules::Json;
using rules::Secret;
using std::chrono::seconds;

constexpr std::string_view kDefaultUrl = "https://slack.com/api";
constexpr Literal kEventType = "alert_delivery";
// A page of history: a hundred messages as long as ours. What is longer cannot be read, and proves nothing.
constexpr std::size_t kMaxResponse = 2UL << 20;
constexpr int kHistoryPage = 100;
constexpr int kMaxHistoryPages = 5;
constexpr int kChannelPage = 200;
constexpr int kMaxChannelPages = 10;  // a bot is in few channels
// Slack's clock and ours: how much older than its notification a message may seem.
constexpr Duration kClockSkew{std::chrono::minutes(5)};
// A link is nice to have, the receipt is not to wait for it.
constexpr Duration kMaxPermalink{seconds(2)};
// So much of an attempt is left for the reply: with less it would only end as unknown.
constexpr Duration kMinRequest{seconds(1)};
constexpr Duration kRetryRest{seconds(1)};
constexpr std::size_t kMaxChannelName = 80;  // Slack's

// One message, as Slack names it.
struct MessageRef {
  std::string channel;  // its id
  std::string ts;
};

// An answer of the Web API: its status says little, `ok` and `error` say what it is.
struct Answer {
  HttpResult http;
  Json json;
  std::string word;  // "ok", Slack's word for what is wrong, or "": no answer of Slack's
  bool ok() const { return word == "ok"; }
};

std::string form(const std::vector<std::pair<std::string_view, std::string>>& fields) {
  std::string out;
  for (const auto& [name, value] : fields) {
    out.append(out.empty() ? "" : "&").append(name).append("=");
    for (const char c : value) {
      if (rules::is_alpha(c) || rules::is_digit(c) || c == '-' || c == '_' || c == '.') {
        out += c;
      } else {
        out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
      }
    }
  }
  return out;
}

bool is_channel_id(std::string_view text) {
  const bool known = !text.empty() && (text[0] == 'C' || text[0] == 'G' || text[0] == 'D');
  return known && text.size() >= 9 && text.size() <= 64 && std::all_of(text.begin(), text.end(), [](char c) {
           return rules::is_digit(c) || (c >= 'A' && c <= 'Z');
         });
}

bool is_ts(std::string_view text) {
  const std::size_t dot = text.find('.');
  const auto digits = [](std::string_view part) {
    return !part.empty() && std::all_of(part.begin(), part.end(), rules::is_digit);
  };
  return dot != std::string_view::npos && text.size() <= 32 && digits(text.substr(0, dot)) &&
         digits(text.substr(dot + 1));
}

// At the end of a receipt: the message speaks for others too.
constexpr std::string_view kShared = " shared";

// "C012AB3CD 1748000000.123456 https://…": what a receipt of ours begins with. None of a message that nothing
// may follow.
std::optional<MessageRef> read_receipt(std::string_view receipt) {
  if (receipt.size() >= kShared.size() && receipt.substr(receipt.size() - kShared.size()) == kShared)
    return std::nullopt;
  const std::size_t space = receipt.find(' ');
  if (space == std::string_view::npos) return std::nullopt;
  const std::string_view rest = receipt.substr(space + 1);
  MessageRef ref{std::string(receipt.substr(0, space)), std::string(rest.substr(0, rest.find(' ')))};
  if (!is_channel_id(ref.channel) || !is_ts(ref.ts)) return std::nullopt;
  return ref;
}

std::string since(rules::Timestamp at) {
  const std::int64_t ms = std::max<std::int64_t>(0, rules::to_unix_ms(at - kClockSkew));
  return fmt::format("{}.{:03}000", ms / 1000, ms % 1000);
}

class SlackAppSink final : public Sink {
 public:
  SlackAppSink(std::string channel, std::string url, const HttpOptions& options, SinkContext context)
      : channel_(std::move(channel)),
        url_(std::move(url)),
        hide_(options.secrets()),
        client_(options),
        context_(std::move(context)) {
    if (is_channel_id(channel_)) id_ = channel_;
  }
  Outcome deliver(const rules::Notification& notification, const Attempt& attempt) override;
  Verification verify(const Attempt& attempt) override;
  ReadBack read_back(const rules::Notification& notification, const Attempt& attempt) override;

 private:
  // What looking for a message has found.
  struct Search {
    std::optional<MessageRef> found;
    bool complete = false;  // everything was looked at: if it was not found, it is not there
    bool shared = false;    // it speaks for others too: nobody may change it into one of them
  };
  Answer call(std::string_view method, std::string body, bool is_json, Duration timeout,
              const Attempt& attempt, Duration& left);
  Answer ask(std::string_view method, const std::vector<std::pair<std::string_view, std::string>>& fields,
             const Attempt& attempt, Duration& left) {
    return call(method, form(fields), false, left, attempt, left);
  }
  Answer tell(std::string_view method, const Payload& message, const Attempt& attempt, Duration& left) {
    return call(method, message.dump(), true, left, attempt, left);
  }
  Answer find_channel(const Attempt& attempt, Duration& left);
  Search search(std::string_view method, std::vector<std::pair<std::string_view, std::string>> fields,
                const rules::Notification& notification, const Attempt& attempt, Duration& left);
  Search look(const rules::Notification& notification, const std::optional<MessageRef>& first,
              const Attempt& attempt, Duration& left);
  Outcome post(const rules::Notification& notification, const Attempt& attempt, Duration& left);
  std::optional<Outcome> follow(const MessageRef& first, const rules::Notification& notification,
                                const Attempt& attempt, Duration& left);
  Outcome delivered(const Answer& answer, const Attempt& attempt, Duration& left);
  std::string receipt(const MessageRef& ref, const Attempt& attempt, Duration& left);

  std::string channel_;  // as it is written
  std::string id_;       // "": not known yet
  std::string url_;
  std::vector<Secret> hide_;
  HttpClient client_;
  SinkContext context_;
};

// --- what an answer means

struct AnswerRow {
  std::string_view word;
  Outcome::Kind kind;
  Reason reason;
  bool sink_is_dead;
};
constexpr Outcome::Kind kRejected = Outcome::Kind::kRejected;
constexpr Outcome::Kind kRetry = Outcome::Kind::kRetry;
constexpr Outcome::Kind kUnknown = Outcome::Kind::kUnknown;
// The errors that docs.slack.dev lists for chat.postMessage and chat.update. A word that is not here refuses
// this message: it goes once more in short, and the send loop judges by what follows.
constexpr std::array<AnswerRow, 46> kAnswers{{
    {"invalid_auth", kRejected, Reason::kAuth, true},
    {"not_authed", kRejected, Reason::kAuth, true},
    {"account_inactive", kRejected, Reason::kAuth, true},
    {"token_revoked", kRejected, Reason::kAuth, true},
    {"token_expired", kRejected, Reason::kAuth, true},
    {"missing_scope", kRejected, Reason::kAuth, true},
    {"no_permission", kRejected, Reason::kAuth, true},
    {"not_allowed_token_type", kRejected, Reason::kAuth, true},
    {"access_denied", kRejected, Reason::kAuth, true},
    {"ekm_access_denied", kRejected, Reason::kAuth, true},
    {"team_access_not_granted", kRejected, Reason::kAuth, true},
    {"enterprise_is_restricted", kRejected, Reason::kAuth, true},
    {"org_login_required", kRejected, Reason::kAuth, true},
    {"two_factor_setup_required", kRejected, Reason::kAuth, true},
    {"restricted_action", kRejected, Reason::kAuth, true},
    {"restricted_action_read_only_channel", kRejected, Reason::kAuth, true},
    {"restricted_action_thread_only_channel", kRejected, Reason::kAuth, true},
    {"not_in_channel", kRejected, Reason::kAuth, true},
    {"channel_not_found", kRejected, Reason::kGone, true},
    {"is_archived", kRejected, Reason::kGone, true},
    {"team_not_found", kRejected, Reason::kGone, true},
    {"method_deprecated", kRejected, Reason::kGone, true},
    {"deprecated_endpoint", kRejected, Reason::kGone, true},
    {"unknown_method", kRejected, Reason::kGone, true},
    {"msg_too_long", kRejected, Reason::kBadRequest, false},
    {"msg_blocks_too_long", kRejected, Reason::kBadRequest, false},
    {"invalid_blocks", kRejected, Reason::kBadRequest, false},
    {"invalid_blocks_format", kRejected, Reason::kBadRequest, false},
    {"too_many_attachments", kRejected, Reason::kBadRequest, false},
    {"no_text", kRejected, Reason::kBadRequest, false},
    {"metadata_too_large", kRejected, Reason::kBadRequest, false},
    {"invalid_metadata_format", kRejected, Reason::kBadRequest, false},
    {"invalid_metadata_schema", kRejected, Reason::kBadRequest, false},
    {"invalid_arguments", kRejected, Reason::kBadRequest, false},
    {"ratelimited", kRetry, Reason::kRateLimited, false},
    {"rate_limited", kRetry, Reason::kRateLimited, false},
    {"message_limit_exceeded", kRetry, Reason::kRateLimited, false},
    {"service_unavailable", kRetry, Reason::kServerError, false},
    {"team_added_to_org", kRetry, Reason::kServerError, false},
    {"update_failed", kRetry, Reason::kServerError, false},
    // "The POST data was either missing or truncated."
    {"request_timeout", kRetry, Reason::kTimeout, false},
    {"invalid_form_data", kRetry, Reason::kBadResponse, false},
    {"invalid_json", kRetry, Reason::kBadResponse, false},
    {"json_not_object", kRetry, Reason::kBadResponse, false},
    // "It's possible some aspect of the operation succeeded before the error was raised."
    {"internal_error", kUnknown, Reason::kServerError, false},
    {"fatal_error", kUnknown, Reason::kServerError, false},
}};

// Of a message that should be followed: it is no more, or cannot be changed. What there is to say is then
// posted anew.
bool is_first_lost(std::string_view word) {
  static constexpr std::array<std::string_view, 9> kWords{"message_not_found",
                                                          "cant_update_message",
                                                          "edit_window_closed",
                                                          "thread_not_found",
                                                          "cannot_reply_to_message",
                                                          "restricted_action_thread_locked",
                                                          "channel_not_found",
                                                          "restricted_action_non_threadable_channel",
                                                          "is_archived"};
  return std::find(kWords.begin(), kWords.end(), word) != kWords.end();
}

Outcome outcome_of_answer(const Answer& answer, const std::vector<Secret>& hide) {
  if (answer.http.kind != HttpResult::Kind::kAnswered) return outcome_of(answer.http, hide);
  const std::string detail = describe(answer.http, hide);
  const auto row = std::find_if(kAnswers.begin(), kAnswers.end(),
                                [&](const AnswerRow& r) { return r.word == answer.word; });
  if (row != kAnswers.end()) {
    if (row->kind == kRejected) return Outcome::rejected(row->reason, detail, row->sink_is_dead);
    if (row->kind == kRetry) return Outcome::retry(row->reason, detail, answer.http.retry_after);
    return Outcome::unknown(detail);
  }
  if (!answer.http.is_success()) return outcome_of(answer.http, hide);
  // A success that is none of Slack's is somebody else's: a proxy's page, a maintenance page.
  if (answer.word.empty()) return Outcome::retry(Reason::kBadResponse, detail, answer.http.retry_after);
  return Outcome::rejected(Reason::kBadRequest, detail, false);
}

bool is_refused_as_it_is(const Outcome& outcome) {
  return outcome.kind == kRejected && outcome.reason == Reason::kBadRequest;
}

// Keys are long, and metadata has a limit.
std::string short_of(const rules::Notification& notification) {
  return rules::format_fingerprint(rules::hash_bytes(notification.key));
}

Payload metadata_of(const rules::Notification& notification, const Attempt& attempt) {
  Payload payload = Payload::object();
  payload.set("delivery_id", JsonString(notification.key, 255))
      .set("reason", JsonString(rules::to_string(notification.reason)));
  if (!attempt.speaks_for.empty()) {
    Payload others = Payload::array();
    for (const rules::Notification* one : attempt.speaks_for)
      others.push(JsonString(short_of(*one)));
    payload.set("speaks_for", std::move(others));
  }
  return Payload::object().set("event_type", kEventType).set("event_payload", std::move(payload));
}

// Whether a message that Slack has is this delivery, or spoke for it too; and for a part of it, where that is
// one of several.
enum class Says { kNothing, kPart, kAll };
Says says(const Json& payload, const rules::Notification& notification, const Attempt& attempt) {
  if (payload["delivery_id"].string() == notification.key) return Says::kAll;
  const auto holds = [&](const rules::Notification& one) {
    const auto& known = payload["speaks_for"].array();
    return payload["delivery_id"].string() == one.key ||
           std::any_of(known.begin(), known.end(),
                       [&](const Json& id) { return id.string() == short_of(one); });
  };
  if (attempt.speaks_for.empty()) return holds(notification) ? Says::kAll : Says::kNothing;
  const auto held = std::count_if(attempt.speaks_for.begin(), attempt.speaks_for.end(),
                                  [&](const rules::Notification* one) { return holds(*one); });
  if (held == 0) return Says::kNothing;
  return static_cast<std::size_t>(held) == attempt.speaks_for.size() ? Says::kAll : Says::kPart;
}

// --- asking

Answer SlackAppSink::call(std::string_view method, std::string body, bool is_json, Duration timeout,
                          const Attempt& attempt, Duration& left) {
  HttpRequest request;
  request.url = Secret(fmt::format("{}/{}", url_, method));
  request.headers.push_back({"Content-Type", Secret(is_json ? "application/json; charset=utf-8"
                                                            : "application/x-www-form-urlencoded")});
  request.body = std::move(body);
  request.timeout = timeout;
  request.now = attempt.now;
  Answer answer;
  answer.http = client_.post(request);
  left -= answer.http.elapsed;
  if (answer.http.kind != HttpResult::Kind::kAnswered) return answer;
  rules::Result<Json> json = Json::parse(answer.http.body);
  if (!json || !(*json)["ok"].is_bool()) return answer;
  answer.json = *std::move(json);
  answer.word = std::string(answer.json["error"].string());
  // Half an answer that says ok with a status that does not is nobody's.
  if (answer.json["ok"].boolean() && answer.http.is_success()) answer.word = "ok";
  return answer;
}

// The id of the channel that is written as "#name": the history is asked for by it. Of the channels that the
// bot is in, which are few, and not of the workspace's.
Answer SlackAppSink::find_channel(const Attempt& attempt, Duration& left) {
  std::string cursor;
  Answer answer;
  for (int page = 0; page < kMaxChannelPages; ++page) {
    std::vector<std::pair<std::string_view, std::string>> fields{{"types", "public_channel,private_channel"},
                                                                 {"limit", std::to_string(kChannelPage)}};
    if (!cursor.empty()) fields.emplace_back("cursor", cursor);
    answer = ask("users.conversations", fields, attempt, left);
    if (!answer.ok()) return answer;
    for (const Json& channel : answer.json["channels"].array()) {
      if (channel["name"].string() != std::string_view(channel_).substr(1)) continue;
      if (!is_channel_id(channel["id"].string())) continue;
      id_ = channel["id"].string();
      return answer;
    }
    cursor = std::string(answer.json["response_metadata"]["next_cursor"].string());
    if (cursor.empty()) return answer;
  }
  answer.word = "too_many_channels";  // ours: it may be among the rest
  return answer;
}

SlackAppSink::Search SlackAppSink::search(std::string_view method,
                                          std::vector<std::pair<std::string_view, std::string>> fields,
                                          const rules::Notification& notification, const Attempt& attempt,
                                          Duration& left) {
  fields.emplace_back("oldest", since(notification.created_at));
  fields.emplace_back("include_all_metadata", "true");
  fields.emplace_back("limit", std::to_string(kHistoryPage));
  const std::string& channel = fields.front().second;
  std::string cursor;
  bool part = false;
  for (int page = 0; page < kMaxHistoryPages; ++page) {
    std::vector<std::pair<std::string_view, std::string>> asked = fields;
    if (!cursor.empty()) asked.emplace_back("cursor", cursor);
    const Answer answer = ask(method, asked, attempt, left);
    if (!answer.ok()) return {};
    for (const Json& message : answer.json["messages"].array()) {
      const Json& metadata = message["metadata"];
      if (metadata["event_type"].string() != kEventType.view() || !is_ts(message["ts"].string())) continue;
      const Says said = says(metadata["event_payload"], notification, attempt);
      part = part || said == Says::kPart;
      if (said != Says::kAll) continue;
      const bool shared = metadata["event_payload"]["delivery_id"].string() != notification.key;
      return {MessageRef{channel, std::string(message["ts"].string())}, true, shared};
    }
    cursor = std::string(answer.json["response_metadata"]["next_cursor"].string());
    // What has arrived in part may be a duplicate in part.
    if (cursor.empty()) return {std::nullopt, !part && !answer.json["has_more"].boolean()};
  }
  return {};
}

// A notification's message, where deliver() would have put it.
SlackAppSink::Search SlackAppSink::look(const rules::Notification& notification,
                                        const std::optional<MessageRef>& first, const Attempt& attempt,
                                        Duration& left) {
  Search in_thread;
  if (first) {
    in_thread = search("conversations.replies", {{"channel", first->channel}, {"ts", first->ts}},
                       notification, attempt, left);
    if (in_thread.found || in_thread.complete) return in_thread;
  }
  Search in_channel;
  if (id_.empty()) find_channel(attempt, left);
  if (!id_.empty())
    in_channel = search("conversations.history", {{"channel", id_}}, notification, attempt, left);
  // In a thread that could not be read it may be all the same.
  if (first && !in_channel.found) in_channel.complete = false;
  return in_channel;
}

// --- telling

std::string SlackAppSink::receipt(const MessageRef& ref, const Attempt& attempt, Duration& left) {
  std::string receipt = fmt::format("{} {}", ref.channel, ref.ts);
  const Answer answer = call("chat.getPermalink", form({{"channel", ref.channel}, {"message_ts", ref.ts}}),
                             false, std::min(left, kMaxPermalink), attempt, left);
  if (!answer.ok()) return receipt;
  const std::optional<LinkUrl> link = LinkUrl::from(answer.json["permalink"].string());
  if (link) receipt += " " + link->str();
  return receipt;
}

Outcome SlackAppSink::delivered(const Answer& answer, const Attempt& attempt, Duration& left) {
  MessageRef ref{std::string(answer.json["channel"].string()), std::string(answer.json["ts"].string())};
  // Slack's ok, and not where the message is: it may be there.
  if (!is_channel_id(ref.channel) || !is_ts(ref.ts)) return Outcome::unknown(describe(answer.http, hide_));
  return Outcome::delivered(receipt(ref, attempt, left));
}

Outcome SlackAppSink::post(const rules::Notification& notification, const Attempt& attempt, Duration& left) {
  Payload whole = slack_app_message(notification, attempt, context_);
  whole.set("channel", JsonString(channel_));
  Answer answer = tell("chat.postMessage", whole, attempt, left);
  bool truncated = whole.was_cut();
  std::string why;
  if (!answer.ok()) {
    Outcome refused = outcome_of_answer(answer, hide_);
    if (!is_refused_as_it_is(refused)) return refused;
    // The formatted message is refused; what it says must arrive all the same (FAULTS F48).
    Payload minimal = answer.word.find("metadata") == std::string_view::npos
                          ? slack_app_minimal_message(notification, attempt, context_)
                          : slack_minimal_message(notification, attempt, context_);
    minimal.set("channel", JsonString(channel_));
    answer = tell("chat.postMessage", minimal, attempt, left);
    if (!answer.ok()) return outcome_of_answer(answer, hide_);
    why = "sent as plain text: the formatted message was refused with " + refused.detail;
    truncated = true;
  }
  if (id_.empty() && is_channel_id(answer.json["channel"].string())) id_ = answer.json["channel"].string();
  Outcome outcome = delivered(answer, attempt, left);
  if (outcome.kind != Outcome::Kind::kDelivered) return outcome;
  outcome.detail = why;
  outcome.truncated = truncated;
  return outcome;
}

// The first message as things are now, and a reply that says what has changed. Nothing when there is no first
// message any more.
std::optional<Outcome> SlackAppSink::follow(const MessageRef& first, const rules::Notification& notification,
                                            const Attempt& attempt, Duration& left) {
  // A part of a long list: what it tells is not how all of them are.
  const bool is_part =
      notification.reason == rules::NotifyReason::kFirstFiring ||
      (notification.is_resolved() && notification.reason != rules::NotifyReason::kAllResolved);
  const Duration least = std::min(kMinRequest, left / 4);
  std::string why;
  bool truncated = false;
  if (!is_part) {
    Attempt now = attempt;
    now.maybe_sent = false;  // an update shows no second message
    const auto update = [&](Payload message) {
      message.set("channel", JsonString(first.channel)).set("ts", JsonString(first.ts));
      return tell("chat.update", message, attempt, left);
    };
    const Payload whole = slack_message(notification, now, context_);
    Answer answer = update(whole);
    truncated = whole.was_cut();
    if (!answer.ok() && !is_first_lost(answer.word) &&
        is_refused_as_it_is(outcome_of_answer(answer, hide_))) {
      why = "sent as plain text: the formatted message was refused with " + describe(answer.http, hide_);
      truncated = true;
      // Blocks that are not named stay as they are.
      answer = update(slack_minimal_message(notification, now, context_).set("blocks", Payload::array()));
    }
    if (is_first_lost(answer.word)) return std::nullopt;
    if (!answer.ok()) {
      Outcome outcome = outcome_of_answer(answer, hide_);
      // Twice it shows as once.
      const bool answered = answer.http.kind == HttpResult::Kind::kAnswered;
      if (outcome.kind == kUnknown)
        outcome = Outcome::retry(answered ? Reason::kServerError : Reason::kTimeout, outcome.detail);
      return outcome;
    }
    if (left < least) return Outcome::retry(Reason::kTimeout, "there was no time for the reply", kRetryRest);
  }
  Payload reply = slack_app_reply(notification, attempt, context_);
  reply.set("channel", JsonString(first.channel)).set("thread_ts", JsonString(first.ts));
  const Answer answer = tell("chat.postMessage", reply, attempt, left);
  if (is_first_lost(answer.word)) return std::nullopt;
  if (!answer.ok()) return outcome_of_answer(answer, hide_);
  Outcome outcome = delivered(answer, attempt, left);
  if (outcome.kind != Outcome::Kind::kDelivered) return outcome;
  outcome.detail = why;
  outcome.truncated = truncated;
  return outcome;
}

Outcome SlackAppSink::deliver(const rules::Notification& notification, const Attempt& attempt) {
  Duration left = client_.budget(attempt.timeout);
  std::optional<MessageRef> first = read_receipt(attempt.first_receipt);
  // The channel is another one now: what fires is told there. An end goes to whoever heard the beginning.
  const bool moved = first && is_channel_id(channel_) && first->channel != channel_;
  if (moved && !notification.is_resolved()) first.reset();
  Attempt said = attempt;
  if (attempt.maybe_sent) {
    // Whatever is found out, there must be time to tell.
    Duration searching = left / 2;
    left -= searching;
    const Search earlier = look(notification, first, attempt, searching);
    left += std::max(Duration(0), searching);
    if (earlier.found) {
      Outcome outcome = Outcome::delivered(receipt(*earlier.found, attempt, left));
      if (earlier.shared) outcome.receipt += kShared;
      outcome.detail = "found in Slack: an earlier attempt had arrived";
      return outcome;
    }
    said.maybe_sent = !earlier.complete;
  }
  if (first) {
    std::optional<Outcome> outcome = follow(*first, notification, said, left);
    if (outcome) return *std::move(outcome);
  }
  Outcome outcome = post(notification, said, left);
  outcome.begins = outcome.kind == Outcome::Kind::kDelivered;
  return outcome;
}

ReadBack SlackAppSink::read_back(const rules::Notification& notification, const Attempt& attempt) {
  Duration left = client_.budget(attempt.timeout);
  const Search search = look(notification, {}, attempt, left);
  ReadBack back;
  back.answered = search.found || search.complete;
  back.evidence = "conversations.history -> it cannot be read";
  if (back.answered) back.evidence = "conversations.history -> it is not there";
  if (search.found) {
    for (std::size_t i = 0; i < notification.alerts.size(); ++i)
      back.found.push_back(i);
    back.evidence = fmt::format("conversations.history -> {} {}", search.found->channel, search.found->ts);
  }
  return back;
}

// --- asking without a message

constexpr Verification::Verdict kLive = Verification::Verdict::kLive;
constexpr Verification::Verdict kDead = Verification::Verdict::kDead;
constexpr std::string_view kAuthTest = "docs.slack.dev reference/methods/auth.test";
constexpr std::string_view kInfo = "docs.slack.dev reference/methods/conversations.info";
constexpr std::string_view kList = "docs.slack.dev reference/methods/users.conversations";
constexpr std::string_view kAccess =
    "node-slack-sdk WebClient: 401 and 403 carry no answer of Slack's (unverified)";
constexpr std::array<Expectation, 13> kOfToken{{
    {200, 200, "ok", kLive, ProofLevel::kCredential, Reason::kOk, kAuthTest},
    {200, 200, "invalid_auth", kDead, ProofLevel::kNetwork, Reason::kAuth, kAuthTest},
    {200, 200, "not_authed", kDead, ProofLevel::kNetwork, Reason::kAuth, kAuthTest},
    {200, 200, "account_inactive", kDead, ProofLevel::kNetwork, Reason::kAuth, kAuthTest},
    {200, 200, "token_revoked", kDead, ProofLevel::kNetwork, Reason::kAuth, kAuthTest},
    {200, 200, "token_expired", kDead, ProofLevel::kNetwork, Reason::kAuth, kAuthTest},
    {200, 200, "not_allowed_token_type", kDead, ProofLevel::kNetwork, Reason::kAuth, kAuthTest},
    {200, 200, "access_denied", kDead, ProofLevel::kNetwork, Reason::kAuth, kAuthTest},
    {200, 200, "ekm_access_denied", kDead, ProofLevel::kNetwork, Reason::kAuth, kAuthTest},
    {200, 200, "team_access_not_granted", kDead, ProofLevel::kNetwork, Reason::kAuth, kAuthTest},
    {200, 200, "enterprise_is_restricted", kDead, ProofLevel::kNetwork, Reason::kAuth, kAuthTest},
    {401, 401, "", kDead, ProofLevel::kNetwork, Reason::kAuth, kAccess},
    {403, 403, "", kDead, ProofLevel::kNetwork, Reason::kAuth, kAccess},
}};
// Of its channel. The words for what was found there are ours.
constexpr std::string_view kWritable = "writable";
constexpr std::array<Expectation, 10> kOfChannel{{
    {200, 200, kWritable, kLive, ProofLevel::kDestination, Reason::kOk, kInfo},
    {200, 200, "archived", kDead, ProofLevel::kCredential, Reason::kGone, kInfo},
    {200, 200, "not a member", kDead, ProofLevel::kCredential, Reason::kAuth,
     "docs.slack.dev reference/scopes/chat.write.public: without it a bot writes where it is a member"},
    {200, 200, "channel_not_found", kDead, ProofLevel::kCredential, Reason::kGone, kInfo},
    // A workspace may have it public, which is found in no list of the bot's own (unverified).
    {200, 200, "not in the bot's list", kLive, ProofLevel::kCredential, Reason::kOk, kList},
    {200, 200, "too_many_channels", kLive, ProofLevel::kCredential, Reason::kOk, kList},
    // The token is good, and is not one that may look.
    {200, 200, "missing_scope", kLive, ProofLevel::kCredential, Reason::kOk, kInfo},
    {200, 200, "invalid_auth", kDead, ProofLevel::kNetwork, Reason::kAuth, kInfo},
    {200, 200, "token_revoked", kDead, ProofLevel::kNetwork, Reason::kAuth, kInfo},
    {200, 200, "account_inactive", kDead, ProofLevel::kNetwork, Reason::kAuth, kInfo},
}};

bool has_scope(std::string_view scopes, std::string_view wanted) {
  while (!scopes.empty()) {
    std::string_view one = scopes.substr(0, scopes.find(','));
    scopes.remove_prefix(std::min(scopes.size(), one.size() + 1));
    while (!one.empty() && one.front() == ' ')
      one.remove_prefix(1);
    while (!one.empty() && one.back() == ' ')
      one.remove_suffix(1);
    if (one == wanted) return true;
  }
  return false;
}

Verification SlackAppSink::verify(const Attempt& attempt) {
  Duration left = client_.budget(attempt.timeout);
  const Answer token = ask("auth.test", {}, attempt, left);
  Verification verification = judge("auth.test", token.http, token.word, kOfToken, hide_);
  if (verification.verdict != Verification::Verdict::kLive) return verification;
  // (unverified): that each answer has it; where it is missing it proves nothing.
  const std::string_view scopes = token.http.header("x-oauth-scopes");
  if (!scopes.empty() && !has_scope(scopes, "chat:write")) {
    return Verification::dead(Reason::kAuth, ProofLevel::kCredential,
                              "auth.test -> the token has no scope chat:write: " + quote(scopes, hide_));
  }
  const bool public_too = has_scope(scopes, "chat:write.public");
  std::string asked = "conversations.info " + channel_;
  std::string found;
  Answer answer;
  if (id_.empty()) {
    asked = "users.conversations " + channel_;
    answer = find_channel(attempt, left);
    if (answer.ok() && id_.empty())
      found = public_too || scopes.empty() ? "not in the bot's list" : "not a member";
  }
  if (!id_.empty()) {
    asked = "conversations.info " + channel_;
    answer = ask("conversations.info", {{"channel", id_}}, attempt, left);
    const Json& channel = answer.json["channel"];
    const bool member = channel["is_member"].boolean() || channel["is_im"].boolean() ||
                        channel["is_mpim"].boolean() || (public_too && !channel["is_private"].boolean());
    if (answer.ok())
      found = channel["is_archived"].boolean()                       ? "archived"
              : member                                               ? kWritable
              : scopes.empty() && !channel["is_private"].boolean() ? "not in the bot's list"
                                                                     : "not a member";
  }
  if (found.empty()) found = answer.word;
  Verification channel = judge(asked, answer.http, found, kOfChannel, hide_);
  if (answer.ok()) channel.evidence = fmt::format("{} -> {}", asked, found);
  channel.certificate_ends = verification.certificate_ends;  // of the connection that both took
  // Of the token all the same.
  if (channel.verdict == Verification::Verdict::kUnknown) channel.level = ProofLevel::kCredential;
  if (channel.verdict == kLive && channel.level == ProofLevel::kCredential)
    channel.evidence +=
        "; only the token is proven: give it channels:read (groups:read), write the channel's id";
  const bool reads = has_scope(scopes, "channels:history") || has_scope(scopes, "groups:history") ||
                     has_scope(scopes, "im:history");
  if (channel.verdict == kLive && !scopes.empty() && !reads)
    channel.evidence += "; without channels:history (groups:history) a message may come twice after a crash";
  return channel;
}

// --- the configuration

class SlackAppConfig final : public SinkConfig {
 public:
  SlackAppConfig(std::string channel, std::string url, HttpOptions options, const std::string& shown)
      : channel_(std::move(channel)),
        url_(std::move(url)),
        options_(std::move(options)),
        shown_(fmt::format("{} {}", shown, channel_)) {}
  std::unique_ptr<Sink> build(std::size_t /*lane*/, const SinkContext& context) const override {
    return std::make_unique<SlackAppSink>(channel_, url_, options_, context);
  }
  std::vector<Secret> secrets() const override { return options_.secrets(); }
  std::string destination() const override { return shown_; }
  std::string words(const rules::Notification& notification, const Attempt& attempt,
                    const SinkContext& context) const override {
    return slack_words(slack_app_message(notification, attempt, context));
  }

 private:
  std::string channel_;
  std::string url_;
  HttpOptions options_;
  std::string shown_;
};

// Slack's names: lower case, no blanks, dots or punctuation; letters of any language.
bool check_channel(FieldReader& fields, const std::string& channel) {
  static constexpr std::string_view kFix = "write '#name', or the id from the channel's details: C012AB3CD";
  if (is_channel_id(channel)) return true;
  const std::string_view name = std::string_view(channel).substr(channel.rfind('#', 0) == 0 ? 1 : 0);
  const bool plain = !name.empty() && count_units(name) <= kMaxChannelName &&
                     std::all_of(name.begin(), name.end(), [](char c) {
                       return (c >= 'a' && c <= 'z') || rules::is_digit(c) || c == '-' || c == '_' ||
                              static_cast<unsigned char>(c) >= 0x80;
                     });
  if (plain && channel[0] == '#') return true;
  if (plain) {
    fields.error("channel", "a channel's name begins with #", fmt::format("did you mean '#{}'?", name));
  } else if (channel[0] == '@' || channel[0] == 'U' || channel[0] == 'W') {
    fields.error("channel", "this is a person, not a channel", std::string(kFix));
  } else {
    fields.error("channel", "this is neither a channel's name nor its id", std::string(kFix));
  }
  return false;
}

bool check_token(FieldReader& fields, std::string_view token) {
  static constexpr std::string_view kFix =
      "copy the \"Bot User OAuth Token\" from the app's page \"OAuth & Permissions\": xoxb-…";
  const auto begins = [&](std::string_view with) { return token.substr(0, with.size()) == with; };
  const bool plain = std::all_of(token.begin(), token.end(), [](char c) {
    return rules::is_alpha(c) || rules::is_digit(c) || c == '-' || c == '.';
  });
  if (begins("xoxe.")) {
    fields.error("token", "this token expires within twelve hours, and nobody renews it here",
                 "switch token rotation off for the app, and copy its bot token: xoxb-…");
  } else if (begins("xapp-")) {
    fields.error("token", "this is an app-level token, which posts nothing", std::string(kFix));
  } else if (begins("xoxp-")) {
    fields.error("token", "this is a person's token: messages would be theirs", std::string(kFix));
  } else if (!begins("xoxb-")) {
    fields.error("token", "a bot's token begins with xoxb-", std::string(kFix));
  } else if (token.size() < 20 || !plain) {
    fields.error("token", "this is not a whole token: letters, digits and hyphens, at least 20",
                 std::string(kFix));
  } else {
    return true;
  }
  return false;
}

}  // namespace

Payload slack_app_message(const rules::Notification& notification, const Attempt& attempt,
                          const SinkContext& context) {
  return slack_message(notification, attempt, context).set("metadata", metadata_of(notification, attempt));
}

Payload slack_app_minimal_message(const rules::Notification& notification, const Attempt& attempt,
                                  const SinkContext& context) {
  return slack_minimal_message(notification, attempt, context)
      .set("metadata", metadata_of(notification, attempt));
}

Payload slack_app_reply(const rules::Notification& notification, const Attempt& attempt,
                        const SinkContext& context) {
  using rules::NotifyReason;
  // What only stands in a thread is seen by nobody who does not look: what is over may.
  const bool aloud = !notification.is_resolved() && notification.reason != NotifyReason::kResolvedSome;
  return slack_app_minimal_message(notification, attempt, context).set("reply_broadcast", aloud);
}

std::unique_ptr<SinkConfig> parse_slack_app(FieldReader& fields) {
  const std::optional<Secret> token = fields.secret("token", true);
  const std::optional<std::string> channel = fields.text("channel", true);
  const std::string address = fields.text("api_url", false).value_or(std::string(kDefaultUrl));
  std::optional<HttpOptions> options = read_http_options(fields);
  const std::optional<Url> url = check_url(fields, "api_url", address, false);
  bool good = token && channel && options && url;
  if (channel) good = check_channel(fields, *channel) && good;
  if (token && !fields.assume_secrets()) good = check_token(fields, token->reveal()) && good;
  if (url && url->path.find('?') != std::string::npos) {
    fields.error("api_url", "the API's address has no \"?…\"", fmt::format("write {}", kDefaultUrl));
    good = false;
  }
  if (!good) return nullptr;
  std::string base = address;
  while (base.back() == '/')
    base.pop_back();
  options->bearer_token = *token;
  options->max_body = kMaxResponse;
  return std::make_unique<SlackAppConfig>(*channel, std::move(base), *std::move(options), url->shown);
}

}  // namespace logbell::sinks

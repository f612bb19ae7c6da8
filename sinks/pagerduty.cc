// SINKS.md §4, and PagerDuty/developer-docs at 1da9f6a2: docs/events-API-v2/01-Overview.md (answers, size),
// 02-Trigger-Events.md (fields and their lengths, what a dedup_key does), 05-Rate-Limits.md. Of the REST API
// (api_token): developer.pagerduty.com/api-reference, "List incidents".
#include "sinks/pagerduty.h"

#include <algorithm>
#include <array>
#include <deque>
#include <utility>

#include <fmt/format.h>

#include "rules/text.h"
#include "sinks/expect.h"
#include "sinks/http.h"
#include "sinks/message.h"

namespace logbell::sinks {
namespace {

using rules::Duration;
using rules::Secret;

constexpr std::string_view kPath = "/v2/enqueue";
constexpr std::string_view kDefaultUrl = "https://events.pagerduty.com";
constexpr std::size_t kKeyLength = 32;

// PagerDuty's: in characters, and of the whole event in bytes.
constexpr std::size_t kMaxSummary = 1024;
constexpr std::size_t kMaxDedupKey = 255;
constexpr std::size_t kMaxEventBytes = 512UL * 1024;
// Ours, where PagerDuty publishes none: what a person reads of an incident on a phone, and with all of them
// at their longest an event stays below 512 KB.
constexpr std::size_t kMaxField = 255;
constexpr std::size_t kMaxDetailBytes = 4096;
constexpr std::size_t kMaxLabelBytes = 1024;
constexpr std::size_t kMaxLabels = 64;
constexpr std::size_t kMaxTopLabels = 10;
constexpr std::size_t kMaxTopValues = 10;
// The minimal event's: it must pass where the whole did not.
constexpr std::size_t kMaxShortSummary = 250;

// "We suggest retrying 3 times with each request being 30 seconds apart": where a 429 does not say how long.
constexpr Duration kRetryAfterLimit{std::chrono::seconds(30)};
// When the time of an attempt is over and not all alerts of it are told, the rest goes soon.
constexpr Duration kRetryRest{std::chrono::seconds(1)};
// So much of an attempt is left for one more event: with less it would only end as unknown.
constexpr Duration kMinRequest{std::chrono::seconds(1)};
// Notifications of several alerts of which a part is told. A lane tries few before the first succeeds;
// beyond it PagerDuty hears some events again, which shows nobody anything.
constexpr std::size_t kMaxUnfinished = 64;

// Of the REST API: one incident takes some KB, and of one key there are few.
constexpr std::size_t kMaxApiBytes = 512UL * 1024;
constexpr int kIncidentsAsked = 10;
// PagerDuty's clock and ours.
constexpr Duration kClockSkew{std::chrono::minutes(5)};

struct PagerDutySettings {
  Secret routing_key;
  std::string url;
  Secret api_token;     // may be empty: nobody asks what became of an incident
  std::string api_url;  // without its path
  HttpOptions http;
  std::string shown;

  std::vector<Secret> secrets() const {
    std::vector<Secret> all = http.secrets();
    all.push_back(routing_key);
    if (!api_token.empty()) all.push_back(api_token);
    return all;
  }
  HttpOptions of_api() const {
    HttpOptions options = http;
    options.max_body = kMaxApiBytes;
    return options;
  }
};

class PagerDutySink final : public Sink {
 public:
  PagerDutySink(const PagerDutySettings& settings, SinkContext context)
      : routing_key_(settings.routing_key),
        url_(settings.url),
        api_token_(settings.api_token),
        api_url_(settings.api_url),
        hide_(settings.secrets()),
        client_(settings.http),
        api_(settings.of_api()),
        context_(std::move(context)) {}
  Outcome deliver(const rules::Notification& notification, const Attempt& attempt) override;
  Verification verify(const Attempt& attempt) override;
  ReadBack read_back(const rules::Notification& notification, const Attempt& attempt) override;

 private:
  // How far a notification of several alerts came: what PagerDuty has taken is not sent again with the rest.
  struct Unfinished {
    std::string key;
    std::vector<bool> taken;
    bool truncated = false;
  };
  Unfinished resume(const rules::Notification& notification, std::size_t events);
  Outcome send(const PagerDutyIncident& incident, const rules::Notification& notification,
               const Attempt& attempt, Duration& left);
  HttpResult post(Payload event, const Attempt& attempt, Duration& left);
  HttpResult ask(const std::string& query, const Attempt& attempt, Duration& left);

  Secret routing_key_;
  std::string url_;
  Secret api_token_;
  std::string api_url_;
  std::vector<Secret> hide_;
  HttpClient client_;
  HttpClient api_;
  SinkContext context_;
  std::deque<Unfinished> unfinished_;
};

// --- the event

// PagerDuty has four words; with dynamic urgency the first two wake people. No severity, or a word that
// nobody knows: nobody said that it may be overlooked.
std::string_view severity_of(const rules::Alert& alert) {
  struct Row {
    std::string_view severity;
    std::array<std::string_view, 5> words;
  };
  static constexpr std::array<Row, 4> kRows{{
      {"critical", {"critical", "page", "emergency", "fatal", "disaster"}},
      {"error", {"error", "high", "major"}},
      {"warning", {"warning", "warn", "medium", "minor"}},
      {"info", {"info", "none", "low", "debug", "notice"}},
  }};
  const std::string word = rules::lower(alert.labels.get("severity"));
  if (word.empty()) return "error";
  for (const Row& row : kRows) {
    if (std::find(row.words.begin(), row.words.end(), word) != row.words.end()) return row.severity;
  }
  return "error";
}

bool is_blank(std::string_view text) {
  return text.find_first_not_of(" \t\n") == std::string_view::npos;
}

// What a phone shows and reads aloud. PagerDuty refuses a blank one.
PlainText summary_line(const rules::Alert& alert, const rules::Notification& notification,
                       const SinkContext& context, std::size_t most) {
  const bool drill = !notification.drill.empty();
  rules::Notification one;
  one.alerts = {alert};
  std::string words = headline(drill ? notification : one, context);
  if (drill) words += ": nothing is wrong";
  if (!alert.built_in) words += ": " + value_words(alert);
  const std::string summary = summary_of(alert);
  if (!summary.empty()) {
    words += " — " + summary;
  } else if (!drill) {
    const rules::Labels own =
        alert.labels.without({"alertname", "severity", "environment", "service", "instance"});
    if (!own.empty()) words += " " + own.format();
  }
  PlainText line(words, most);
  if (is_blank(line.str())) line = Literal("logbell: an alert without a name");
  return line;
}

// The first of these that says something.
PlainText first_of(std::initializer_list<std::string_view> texts, Literal otherwise) {
  for (const std::string_view text : texts) {
    PlainText one(text, kMaxField);
    if (!is_blank(one.str())) return one;
  }
  return otherwise;
}

Payload labels_object(const rules::Labels& labels) {
  Payload out = Payload::object();
  std::size_t count = 0;
  for (const auto& [name, value] : labels) {
    if (++count > kMaxLabels) {
      out.mark_cut();
      break;
    }
    out.set(JsonString(name, kMaxField), JsonString(value, kMaxLabelBytes));
  }
  return out;
}

Payload details_of(const rules::Alert& alert, const rules::Notification& notification,
                   const Attempt& attempt) {
  Payload out = Payload::object();
  const auto add = [&](std::string_view name, std::string_view value, std::size_t most = kMaxDetailBytes) {
    if (!value.empty()) out.set(JsonString(name, kMaxField), JsonString(value, most));
  };
  if (!alert.built_in) add("value", value_words(alert));
  add("expr", alert.expr);
  const std::string_view description = alert.annotation("description");
  if (description != summary_of(alert)) add("description", description);
  if (alert.first_line) add("first_line", alert.first_line->text);
  if (alert.last_line && alert.last_line != alert.first_line) add("last_line", alert.last_line->text);
  std::size_t tops = 0;
  for (const auto& [label, values] : alert.top_values) {
    if (values.empty()) continue;
    if (++tops > kMaxTopLabels) {
      out.mark_cut();
      break;
    }
    std::string words;
    for (std::size_t i = 0; i < std::min(values.size(), kMaxTopValues); ++i)
      words += fmt::format("{}{} ({})", i == 0 ? "" : ", ", values[i].first, values[i].second);
    if (values.size() > kMaxTopValues) words += ", …";
    add("top_" + label, words);
  }
  out.set("labels", labels_object(alert.labels));
  // Not that it may be a duplicate, for it shows as none; nor how often its group changed: it is one alert.
  rules::Notification about;
  about.fallback_for = notification.fallback_for;
  about.created_at = notification.created_at;
  about.drill = notification.drill;
  if (!about.drill.empty()) {
    about.alerts = notification.alerts;
    std::string names;
    for (std::size_t i = 0; i < notification.alerts.size(); ++i)
      names.append(i == 0 ? "" : ", ").append(notification.alerts[i].name());
    add("drilled", names);
  }
  Attempt once = attempt;
  once.maybe_sent = false;
  std::string notes;
  for (const std::string& note : delivery_notes(about, once))
    notes += (notes.empty() ? "" : " ") + note;
  add("notes", notes);
  add("delivery", notification.key, kMaxField);
  return out;
}

// What the incident is about, as a notification of its own: a drill's of all its rules.
rules::Notification of_incident(const PagerDutyIncident& incident, const rules::Notification& notification) {
  rules::Notification about = notification;
  if (notification.drill.empty()) about.alerts = {incident.alert};
  return about;
}

Payload links_of(const PagerDutyIncident& incident, const rules::Notification& notification,
                 const Attempt& attempt, const SinkContext& context) {
  const rules::Alert& alert = incident.alert;
  Payload links = Payload::array();
  const auto add = [&](std::string_view annotation, Literal name) {
    const std::optional<LinkUrl> url = LinkUrl::from(alert.annotation(annotation));
    if (url) links.push(Payload::object().set("href", *url).set("text", name));
  };
  if (const auto url = acknowledge_link(of_incident(incident, notification), attempt, context))
    links.push(Payload::object().set("href", *url).set("text", kAcknowledge));
  add("runbook_url", "Runbook");
  add("runbook", "Runbook");
  add("dashboard_url", "Dashboard");
  add("dashboard", "Dashboard");
  add("logs_url", "Logs");
  return links;
}

Payload event_head(const PagerDutyIncident& incident) {
  Payload event = Payload::object();
  if (incident.alert.is_firing()) {
    event.set("event_action", "trigger");
  } else {
    event.set("event_action", "resolve");
  }
  return event.set("dedup_key", JsonString(incident.dedup_key, kMaxDedupKey));
}

Payload required_fields(const rules::Alert& alert, const rules::Notification& notification,
                        const SinkContext& context, std::size_t summary) {
  Payload payload = Payload::object();
  payload.set("summary", summary_line(alert, notification, context, summary));
  payload.set("source", first_of({alert.labels.get("instance"), alert.labels.get("service")}, "logbell"));
  payload.set("severity", JsonString(severity_of(alert)));
  return payload;
}

// --- the answer

struct Answer {
  std::string status;      // "success", "invalid event"
  std::string message;     // "Event processed"
  std::string dedup_key;   // "" when it says none
  bool about_key = false;  // the routing key is what it does not take
};

// {"status":"success","message":"Event processed","dedup_key":"…"}, or {"status":"invalid
// event","message":"Event object is invalid","errors":["…"]}; nothing of what is no JSON.
Answer read_answer(const HttpResult& result) {
  Answer answer;
  const rules::Result<rules::Json> json = rules::Json::parse(result.body);
  std::string words = result.body;
  if (json) {
    answer.status = (*json)["status"].string();
    answer.message = (*json)["message"].string();
    answer.dedup_key = (*json)["dedup_key"].string();
    words = answer.message;
    const rules::Json& errors = (*json)["errors"];
    words.append("\n").append(errors.string());
    for (const rules::Json& error : errors.array())
      words.append("\n").append(error.string());
  }
  words = rules::lower(words);
  // "Length of 'routing_key' is incorrect (should be 32 characters)", "'routing_key' cannot contain
  // non-alphanumeric characters.", "Invalid routing key".
  answer.about_key =
      words.find("routing_key") != std::string::npos || words.find("routing key") != std::string::npos;
  return answer;
}

Outcome outcome_of_event(const HttpResult& result, const std::vector<Secret>& hide) {
  if (result.kind != HttpResult::Kind::kAnswered) return outcome_of(result, hide);
  const Answer answer = read_answer(result);
  if (result.is_success()) {
    // Anything else is somebody else's: a proxy's page, a maintenance page. Sent again it shows as one.
    if (result.status != 202 || answer.status != "success")
      return Outcome::retry(Reason::kBadResponse, describe(result, hide), result.retry_after);
    Outcome outcome = Outcome::delivered(quote(answer.dedup_key, hide));
    outcome.detail = quote(answer.message, hide);
    return outcome;
  }
  if (result.status == 400 && answer.about_key)
    return Outcome::rejected(Reason::kAuth, describe(result, hide), true);
  Outcome outcome = outcome_of(result, hide);
  if (outcome.reason == Reason::kRateLimited && !outcome.retry_after) outcome.retry_after = kRetryAfterLimit;
  return outcome;
}

// --- the sink

HttpResult PagerDutySink::post(Payload event, const Attempt& attempt, Duration& left) {
  event.set("routing_key", JsonString(routing_key_.reveal()));
  HttpRequest request;
  request.url = Secret(url_);
  request.headers.push_back({"Content-Type", Secret("application/json")});
  request.body = event.dump();
  request.timeout = left;
  request.now = attempt.now;
  HttpResult result = client_.post(request);
  left -= result.elapsed;
  return result;
}

Outcome PagerDutySink::send(const PagerDutyIncident& incident, const rules::Notification& notification,
                            const Attempt& attempt, Duration& left) {
  const bool fires = incident.alert.is_firing();
  const Payload whole = pagerduty_event(incident, notification, attempt, context_);
  const bool fits = whole.dump().size() + kKeyLength + 32 <= kMaxEventBytes;
  Outcome outcome = outcome_of_event(
      post(fits ? whole : pagerduty_minimal_event(incident, notification, context_), attempt, left), hide_);
  outcome.truncated = outcome.kind == Outcome::Kind::kDelivered && (whole.was_cut() || !fits);
  const bool refused_as_it_is =
      outcome.kind == Outcome::Kind::kRejected && outcome.reason == Reason::kBadRequest;
  // A resolve has nothing in it that could be left out.
  if (refused_as_it_is && fires && fits) {
    const std::string why = outcome.detail;
    outcome = outcome_of_event(post(pagerduty_minimal_event(incident, notification, context_), attempt, left),
                               hide_);
    if (outcome.kind == Outcome::Kind::kDelivered) {
      outcome.detail = "sent in short: the whole event was refused with " + why;
      outcome.truncated = true;
    }
  }
  if (outcome.kind == Outcome::Kind::kDelivered && outcome.receipt.empty())
    outcome.receipt = incident.dedup_key;
  return outcome;
}

PagerDutySink::Unfinished PagerDutySink::resume(const rules::Notification& notification, std::size_t events) {
  const auto known = std::find_if(unfinished_.begin(), unfinished_.end(),
                                  [&](const Unfinished& one) { return one.key == notification.key; });
  Unfinished progress{notification.key, std::vector<bool>(events), false};
  if (known == unfinished_.end()) return progress;
  if (known->taken.size() == events) progress = std::move(*known);
  unfinished_.erase(known);
  return progress;
}

Outcome PagerDutySink::deliver(const rules::Notification& notification, const Attempt& attempt) {
  const std::vector<PagerDutyIncident> incidents = pagerduty_incidents(notification, context_);
  const std::size_t count = incidents.size();
  if (count == 0) return Outcome::delivered("nothing to tell");
  Duration left = client_.budget(attempt.timeout);
  const Duration least = std::min(kMinRequest, left / 4);
  Unfinished progress = resume(notification, count);
  std::vector<std::size_t> refused;
  std::string refusal;
  std::string detail;
  std::string receipt;
  bool first = true;
  for (std::size_t i = 0; i < count; ++i) {
    if (progress.taken[i]) continue;
    Outcome outcome = !first && left < least
                          ? Outcome::retry(Reason::kTimeout, "there was no time for the rest", kRetryRest)
                          : send(incidents[i], notification, attempt, left);
    first = false;
    if (outcome.kind == Outcome::Kind::kDelivered) {
      progress.taken[i] = true;
      progress.truncated = progress.truncated || outcome.truncated;
      receipt = outcome.receipt;
      if (detail.empty() || outcome.truncated) detail = outcome.detail;
      continue;
    }
    if (outcome.kind == Outcome::Kind::kRejected && !outcome.sink_is_dead) {
      // That one alone: the others may be taken.
      refused.push_back(i);
      refusal = outcome.detail;
      continue;
    }
    // The sink, or the moment: the rest would fare no better.
    const auto taken = std::count(progress.taken.begin(), progress.taken.end(), true);
    if (count > 1)
      outcome.detail = fmt::format("{} of {} events accepted, then {}", taken, count, outcome.detail);
    if (taken > 0) {
      unfinished_.push_back(std::move(progress));
      if (unfinished_.size() > kMaxUnfinished) unfinished_.pop_front();
    }
    return outcome;
  }
  if (refused.size() == count) {
    return Outcome::rejected(
        Reason::kBadRequest,
        count == 1 ? refusal : fmt::format("{} of {} events refused: {}", count, count, refusal), false);
  }
  if (!refused.empty()) {
    rules::Notification rest;
    for (const std::size_t index : refused)
      rest.alerts.push_back(incidents[index].alert);
    std::string words = fmt::format("{} of {} events accepted, refused: {}: {}", count - refused.size(),
                                    count, subjects_of(rest), refusal);
    return Outcome::partly_refused(std::move(words), std::move(refused));
  }
  Outcome outcome =
      Outcome::delivered(count == 1 ? receipt : fmt::format("{} accepted, the last {}", count, receipt));
  outcome.detail = detail;
  outcome.truncated = progress.truncated;
  return outcome;
}

// What it answers to the end of an incident that there never was, which it drops. A 202 proves the key, and
// not that the service behind it is enabled: such a one answers alike (pdpyras issue 94).
constexpr std::string_view kNeverOpen = "logbell/is-anybody-there";
constexpr std::string_view kAboutKey = "routing key";  // read_answer() says so
constexpr Verification::Verdict kDead = Verification::Verdict::kDead;
constexpr std::string_view kUnverified = "SINKS.md §0; (unverified): PagerDuty documents no such answer";
constexpr std::array<Expectation, 6> kExpected{{
    {202, 202, "success", Verification::Verdict::kLive, ProofLevel::kCredential, Reason::kOk,
     "developer-docs 02-Trigger-Events: a resolve without an open alert is dropped; (unverified): that a key "
     "which nobody issued is never answered so"},
    {400, 400, kAboutKey, kDead, ProofLevel::kNetwork, Reason::kAuth,
     "envato/pagerduty issue 70, tenderduty issue 10, robusta issue 571"},
    {401, 401, "", kDead, ProofLevel::kNetwork, Reason::kAuth, kUnverified},
    {403, 403, "", kDead, ProofLevel::kNetwork, Reason::kAuth, kUnverified},
    {404, 405, "", kDead, ProofLevel::kNetwork, Reason::kGone, kUnverified},
    {410, 410, "", kDead, ProofLevel::kNetwork, Reason::kGone, kUnverified},
}};

// What the REST API answers to a question for incidents.
constexpr std::array<Expectation, 5> kOfApi{{
    {200, 200, "", Verification::Verdict::kLive, ProofLevel::kReadBack, Reason::kOk,
     "developer.pagerduty.com, List incidents; (unverified) by us"},
    {401, 401, "", kDead, ProofLevel::kNetwork, Reason::kAuth,
     "developer.pagerduty.com, Errors: no token, or one that is not known; (unverified) by us"},
    {402, 403, "", kDead, ProofLevel::kNetwork, Reason::kAuth,
     "developer.pagerduty.com, Errors: the account or the token may not; (unverified) by us"},
    {404, 405, "", kDead, ProofLevel::kNetwork, Reason::kGone, "RFC 9110: something else answers there"},
    {410, 410, "", kDead, ProofLevel::kNetwork, Reason::kGone, "RFC 9110"},
}};

Verification judge_api(const HttpResult& result, const std::vector<Secret>& hide) {
  return judge("GET incidents", result, "", kOfApi, hide);
}

Verification PagerDutySink::verify(const Attempt& attempt) {
  Payload event = Payload::object();
  event.set("event_action", "resolve").set("dedup_key", JsonString(kNeverOpen));
  Duration left = client_.budget(attempt.timeout);
  const HttpResult result = post(std::move(event), attempt, left);
  const Answer answer = read_answer(result);
  Verification verification =
      judge("resolve of nothing", result, answer.about_key ? kAboutKey : std::string_view(answer.status),
            kExpected, hide_);
  if (api_token_.empty() || verification.verdict != Verification::Verdict::kLive) return verification;
  // Whether it may be asked changes nothing about whether a message arrives.
  const Verification of_api = judge_api(ask("limit=1", attempt, left), hide_);
  if (of_api.verdict != Verification::Verdict::kLive)
    verification.evidence += "; api_token: " + of_api.evidence + ": nobody will know who acknowledged what";
  return verification;
}

// --- what became of an incident

HttpResult PagerDutySink::ask(const std::string& query, const Attempt& attempt, Duration& left) {
  HttpRequest request;
  request.url = Secret(fmt::format("{}/incidents?{}", api_url_, query));
  request.headers.push_back({"Authorization", Secret("Token token=" + api_token_.reveal())});
  request.headers.push_back({"Accept", Secret("application/vnd.pagerduty+json;version=2")});
  request.timeout = left;
  request.now = attempt.now;
  HttpResult result = api_.get(request);
  left -= result.elapsed;
  return result;
}

struct Incident {
  std::string id;
  std::string status;  // triggered, acknowledged, resolved
  std::optional<rules::Timestamp> created_at;
  std::optional<rules::Timestamp> seen_at;  // acknowledged by a person, or resolved by one
  std::string who;
  std::string did;  // "acknowledged", "resolved"

  bool is_open() const { return status != "resolved"; }
};

// "acknowledger": {"type": "user_reference", "summary": "Anna"}; an integration that acknowledges is no
// person
// ((unverified): that a person's type always begins so).
bool is_person(const rules::Json& agent) {
  return agent["type"].string().substr(0, 4) == "user";
}

std::optional<rules::Timestamp> time_of(const rules::Json& json) {
  const auto at = rules::parse_rfc3339(json.string());
  return at ? std::optional(*at) : std::nullopt;
}

Incident read_incident(const rules::Json& json) {
  Incident incident;
  incident.id = json["id"].string();
  incident.status = json["status"].string();
  incident.created_at = time_of(json["created_at"]);
  const auto seen = [&](const rules::Json& agent, std::optional<rules::Timestamp> at, std::string_view did) {
    if (!is_person(agent) || !at || (incident.seen_at && *incident.seen_at <= *at)) return;
    incident.seen_at = at;
    incident.who = agent["summary"].string();
    incident.did = did;
  };
  for (const rules::Json& one : json["acknowledgements"].array())
    seen(one["acknowledger"], time_of(one["at"]), "acknowledged");
  // The list is empty once it is over; whoever ended it has seen it (unverified).
  if (!incident.is_open() && !incident.seen_at)
    seen(json["last_status_change_by"], time_of(json["last_status_change_at"]), "resolved");
  return incident;
}

// Of the incidents with the key the one that this notification is part of: the one that is open, else the
// last that began after it was made. (unverified): that incidents whose key is an alert's are found by it (so
// Workato's documentation of the connector); they say no incident_key themselves.
std::optional<Incident> find_incident(const rules::Json& list, rules::Timestamp created_at) {
  std::optional<Incident> found;
  for (const rules::Json& json : list.array()) {
    Incident incident = read_incident(json);
    const bool ours =
        incident.is_open() || (incident.created_at && *incident.created_at >= created_at - kClockSkew);
    const bool better = !found || (incident.is_open() && !found->is_open()) ||
                        (incident.is_open() == found->is_open() && incident.created_at > found->created_at);
    if (ours && better) found = std::move(incident);
  }
  return found;
}

std::string in_query(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (rules::is_word(c) || c == '-' || c == '.') {
      out += c;
    } else {
      out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return out;
}

ReadBack PagerDutySink::read_back(const rules::Notification& notification, const Attempt& attempt) {
  ReadBack back;
  if (api_token_.empty()) return back;
  Duration left = api_.budget(attempt.timeout);
  const Duration least = std::min(kMinRequest, left / 4);
  const std::vector<PagerDutyIncident> incidents = pagerduty_incidents(notification, context_);
  for (std::size_t i = 0; i < incidents.size(); ++i) {
    if (!incidents[i].alert.is_firing()) continue;
    if (left < least) {
      back.open = true;
      break;
    }
    const HttpResult result = ask(fmt::format("incident_key={}&limit={}&sort_by=created_at%3Adesc",
                                              in_query(incidents[i].dedup_key), kIncidentsAsked),
                                  attempt, left);
    const Verification judged = judge_api(result, hide_);
    const auto json = rules::Json::parse(
        judged.verdict == Verification::Verdict::kLive ? std::string_view(result.body) : "");
    if (!json || !(*json)["incidents"].is_array()) {
      back.evidence = judged.evidence;
      // Not where a person has to mend it first.
      back.open = judged.verdict != kDead;
      break;
    }
    back.answered = true;
    const std::optional<Incident> incident = find_incident((*json)["incidents"], notification.created_at);
    if (!incident) {
      back.open = true;
      if (back.evidence.empty()) back.evidence = "GET incidents -> there is none with its key";
      continue;
    }
    const std::string named =
        fmt::format("incident {} is {}", quote(incident->id, hide_), quote(incident->status, hide_));
    back.evidence = "GET incidents -> " + named;
    back.open = back.open || (incident->is_open() && !incident->seen_at);
    // A drill's one incident is of all its alerts.
    const std::size_t first = notification.drill.empty() ? i : 0;
    const std::size_t end = notification.drill.empty() ? i + 1 : notification.alerts.size();
    for (std::size_t alert = first; alert < end; ++alert) {
      back.found.push_back(alert);
      if (!incident->seen_at) continue;
      const Duration took =
          std::max(Duration(0), *incident->seen_at - incident->created_at.value_or(*incident->seen_at));
      const std::string who = quote(incident->who, hide_);
      back.acknowledged.push_back(
          {alert, who, *incident->seen_at, took,
           fmt::format("{} {} it in PagerDuty, {} after it began; {}", who.empty() ? "somebody" : who,
                       incident->did, format_span(took), named)});
    }
  }
  return back;
}

class PagerDutyConfig final : public SinkConfig {
 public:
  explicit PagerDutyConfig(PagerDutySettings settings) : settings_(std::move(settings)) {}
  std::unique_ptr<Sink> build(std::size_t /*lane*/, const SinkContext& context) const override {
    return std::make_unique<PagerDutySink>(settings_, context);
  }
  std::vector<Secret> secrets() const override { return settings_.secrets(); }
  bool reads_back() const override { return !settings_.api_token.empty(); }
  std::string destination() const override { return settings_.shown; }
  std::string words(const rules::Notification& notification, const Attempt& attempt,
                    const SinkContext& context) const override {
    std::string out;
    for (const PagerDutyIncident& incident : pagerduty_incidents(notification, context))
      out += pagerduty_event(incident, notification, attempt, context).words();
    return out;
  }

 private:
  PagerDutySettings settings_;
};

// "x" 32 times, or one character of another kind, is in no key that was ever issued.
bool check_key(FieldReader& fields, const std::string& key) {
  static constexpr std::string_view kWhere =
      "copy the integration key of an \"Events API v2\" integration: the service's page, Integrations";
  const bool plain =
      std::all_of(key.begin(), key.end(), [](char c) { return rules::is_alpha(c) || rules::is_digit(c); });
  if (key.size() != kKeyLength) {
    fields.error("routing_key",
                 fmt::format("a routing key has {} characters, this one {}", kKeyLength, key.size()),
                 std::string(kWhere));
  } else if (!plain) {
    fields.error("routing_key", "a routing key has letters and digits, and nothing else",
                 std::string(kWhere));
  } else if (key.find_first_not_of(key.front()) == std::string::npos) {
    fields.error("routing_key", "this is a placeholder: one character, many times", std::string(kWhere));
  } else {
    return true;
  }
  return false;
}

// The address of the API, whether the operator wrote that or its host alone; nothing when it is another.
std::optional<std::string> check_address(FieldReader& fields, std::string text, const Url& url) {
  static constexpr std::string_view kHosts =
      "write https://events.pagerduty.com or https://events.eu.pagerduty.com";
  static constexpr std::string_view kOwn = ".pagerduty.com";
  const bool is_theirs = url.host == "pagerduty.com" ||
                         (url.host.size() > kOwn.size() &&
                          std::string_view(url.host).substr(url.host.size() - kOwn.size()) == kOwn);
  if (is_theirs && url.host != "events.pagerduty.com" && url.host != "events.eu.pagerduty.com") {
    fields.error("url", url.host + " takes no events", std::string(kHosts));
    return std::nullopt;
  }
  if (url.path.find('?') != std::string::npos) {
    fields.error("url", "PagerDuty's address has no \"?…\"", std::string(kHosts));
    return std::nullopt;
  }
  while (!text.empty() && text.back() == '/')
    text.pop_back();
  if (text.size() >= kPath.size() && std::string_view(text).substr(text.size() - kPath.size()) == kPath)
    return text;
  return text.append(kPath);
}

// Where incidents are asked for: beside the address of events, unless that is none of PagerDuty's own.
bool read_api(FieldReader& fields, const Url& events, PagerDutySettings& settings) {
  const std::optional<Secret> token = fields.secret("api_token", false);
  const std::optional<std::string> written = fields.text("api_url", false);
  if (!token) {
    if (!written) return true;
    fields.error("api_url", "nobody is asked there without an api_token",
                 "write api_token_file, or leave it out");
    return false;
  }
  if (!fields.assume_secrets() && *token == settings.routing_key) {
    fields.error("api_token", "this is the routing key",
                 "copy a read-only REST API key: Integrations, API Access Keys");
    return false;
  }
  std::string text =
      written.value_or(events.host == "events.pagerduty.com"      ? "https://api.pagerduty.com"
                       : events.host == "events.eu.pagerduty.com" ? "https://api.eu.pagerduty.com"
                                                                  : "");
  if (text.empty()) {
    fields.error("api_url",
                 "the address of the REST API is missing: events go to none of PagerDuty's own hosts",
                 "write api_url: https://api.pagerduty.com");
    return false;
  }
  const std::optional<Url> url = check_url(fields, "api_url", text, false);
  if (!url) return false;
  if (url->path.find('?') != std::string::npos) {
    fields.error("api_url", "the API's address has no \"?…\"", "write api_url: https://api.pagerduty.com");
    return false;
  }
  while (text.back() == '/')
    text.pop_back();
  settings.api_token = *token;
  settings.api_url = std::move(text);
  return true;
}

// A drill takes the way of the most severe of its alerts.
PagerDutyIncident drill_incident(const rules::Notification& notification) {
  const rules::Alert& front = notification.alerts.front();
  PagerDutyIncident incident{
      fmt::format("logbell/drill/{}/{}", notification.drill, rules::format_fingerprint(front.fingerprint())),
      front};
  if (incident.dedup_key.size() > kMaxDedupKey)
    incident.dedup_key = "logbell/drill/" + rules::format_fingerprint(rules::hash_bytes(incident.dedup_key));
  if (notification.alerts.size() == 1) return incident;
  static constexpr std::array<std::string_view, 4> kWorstFirst{"critical", "error", "warning", "info"};
  const auto rank = [](const rules::Alert& alert) {
    return std::find(kWorstFirst.begin(), kWorstFirst.end(), severity_of(alert));
  };
  const auto worst = std::min_element(notification.alerts.begin(), notification.alerts.end(),
                                      [&](const auto& a, const auto& b) { return rank(a) < rank(b); });
  rules::Alert all;
  all.labels = notification.common_labels();
  all.labels.set("severity", severity_of(*worst));
  all.state = front.state;
  all.active_at = front.active_at;
  all.fired_at = front.fired_at;
  all.resolved_at = front.resolved_at;
  all.built_in = true;  // it has no value of its own
  incident.alert = std::move(all);
  return incident;
}

}  // namespace

std::vector<PagerDutyIncident> pagerduty_incidents(const rules::Notification& notification,
                                                   const SinkContext& context) {
  std::vector<PagerDutyIncident> incidents;
  if (!notification.drill.empty() && !notification.alerts.empty()) return {drill_incident(notification)};
  if (notification.text.empty()) {
    for (const rules::Alert& alert : notification.alerts)
      incidents.push_back({"logbell/" + rules::format_fingerprint(alert.fingerprint()), alert});
    return incidents;
  }
  PagerDutyIncident said{"logbell/" + notification.key, alerts_or_text(notification, context).front()};
  if (said.dedup_key.size() > kMaxDedupKey)
    said.dedup_key = "logbell/" + rules::format_fingerprint(rules::hash_bytes(notification.key));
  // A refusal brings an alert that says whose it is.
  if (!notification.alerts.empty()) said.alert = notification.alerts.front();
  incidents.push_back(std::move(said));
  return incidents;
}

Payload pagerduty_event(const PagerDutyIncident& incident, const rules::Notification& notification,
                        const Attempt& attempt, const SinkContext& context) {
  const rules::Alert& alert = incident.alert;
  Payload event = event_head(incident);
  if (!alert.is_firing()) return event;
  Payload payload = required_fields(alert, notification, context, kMaxSummary);
  // An alert whose beginning nobody knows has no time to show: PagerDuty takes that of the event then.
  if (rules::to_unix_ms(alert.fired_at) > 0)
    payload.set("timestamp", JsonString(rules::format_rfc3339(alert.fired_at)));
  const auto add = [&](Literal name, std::initializer_list<std::string_view> texts) {
    const PlainText text = first_of(texts, "");
    if (!text.empty()) payload.set(name, text);
  };
  add("component", {alert.labels.get("component"), alert.labels.get("service")});
  add("group", {alert.labels.get("environment"), context.environment});
  add("class", {alert.name()});
  payload.set("custom_details", details_of(alert, notification, attempt));
  event.set("payload", std::move(payload));
  Payload links = links_of(incident, notification, attempt, context);
  if (links.size() > 0) event.set("links", std::move(links));
  event.set("client", "logbell");
  if (const std::optional<LinkUrl> url = LinkUrl::from(context.external_url)) event.set("client_url", *url);
  return event;
}

Payload pagerduty_minimal_event(const PagerDutyIncident& incident, const rules::Notification& notification,
                                const SinkContext& context) {
  Payload event = event_head(incident);
  if (!incident.alert.is_firing()) return event;
  Payload payload = required_fields(incident.alert, notification, context, kMaxShortSummary);
  payload.set("custom_details", Payload::object().set("delivery", JsonString(notification.key, kMaxField)));
  return event.set("payload", std::move(payload));
}

std::unique_ptr<SinkConfig> parse_pagerduty(FieldReader& fields) {
  const std::optional<Secret> key = fields.secret("routing_key", true);
  const std::optional<std::string> written = fields.text("url", false);
  std::optional<HttpOptions> options = read_http_options(fields);
  bool good = key.has_value() && options.has_value();
  if (key && !fields.assume_secrets() && !check_key(fields, key->reveal())) good = false;
  const std::string text = written.value_or(std::string(kDefaultUrl));
  const std::optional<Url> url = check_url(fields, "url", text, false);
  const std::optional<std::string> address = url ? check_address(fields, text, *url) : std::nullopt;
  PagerDutySettings settings;
  if (key) settings.routing_key = *key;
  if (url && !read_api(fields, *url, settings)) good = false;
  if (!good || !address) return nullptr;
  settings.url = *address;
  settings.http = std::move(*options);
  settings.shown = url->shown;
  return std::make_unique<PagerDutyConfig>(std::move(settings));
}

}  // namespace logbell::sinks

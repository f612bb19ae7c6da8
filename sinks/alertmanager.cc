#include "sinks/alertmanager.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "rules/fields.h"
#include "rules/json.h"
#include "rules/yaml.h"
#include "sinks/encode.h"
#include "sinks/expect.h"
#include "sinks/http.h"
#include "sinks/message.h"

namespace logbell::sinks {
namespace {

using rules::Secret;

constexpr std::string_view kPath = "/api/v2/alerts";
constexpr std::string_view kStatusPath = "/api/v2/status";
// Of what it holds of a drill of hundreds of rules, and of its own configuration.
constexpr std::size_t kMostRead = rules::yaml::kMaxBytes;
// Four refreshes, as Prometheus does it: an alert of a logbell that has died resolves by itself after that.
constexpr rules::Duration kFiringFor{std::chrono::minutes(4)};
// Where nobody refreshes: what another sink should have told, until its repeat or its end, which come here, too; and a
// start that was refused, until the next telling of it.
constexpr rules::Duration kStandInFor{std::chrono::hours(24)};
constexpr rules::Duration kRefusedFor{std::chrono::minutes(65)};

HttpOptions with_room(HttpOptions options) {
  options.max_body = kMostRead;
  return options;
}

class AlertmanagerSink final : public Sink {
 public:
  AlertmanagerSink(std::string url, const HttpOptions& options, SinkContext context)
      : url_(std::move(url)),
        hide_(options.secrets()),
        client_(with_room(options)),
        context_(std::move(context)) {}
  Outcome deliver(const rules::Notification& notification, const Attempt& attempt) override;
  Verification verify(const Attempt& attempt) override;
  ReadBack read_back(const rules::Notification& notification, const Attempt& attempt) override;

 private:
  // One deliver(), which may be several requests.
  struct Sending {
    const Attempt& attempt;
    rules::Duration left;
    rules::Duration lasts;  // what fires, unless it is refreshed
    std::vector<std::size_t> refused;
    std::string detail;              // of the last refusal
    std::optional<Outcome> stopped;  // by what was not a refusal of an alert
    bool in_short = false;           // some went without what is not needed to tell them apart
  };
  // `first`: which of all the first of these is.
  void send(std::span<const rules::Alert> alerts, std::size_t first, Sending& sending);
  // Of the configuration that it runs. Those without any integration take alerts, and tell nobody.
  struct Receivers {
    std::set<std::string> mute;
    bool any_tells = false;
  };
  HttpResult ask(std::string url, const Attempt& attempt, rules::Duration& left);
  std::optional<Receivers> receivers(const Attempt& attempt, rules::Duration left, std::string& why);
  HttpResult post(std::span<const rules::Alert> alerts, Sending& sending);

  std::string url_;
  std::vector<Secret> hide_;
  HttpClient client_;
  SinkContext context_;
};

// Alertmanager refuses an alert with a label name of another kind; ours are of this one already.
std::string label_name(std::string_view name) {
  std::string out(name);
  for (char& c : out) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
  }
  if (out.empty() || std::isdigit(static_cast<unsigned char>(out.front())) != 0) out.insert(0, "_");
  return out;
}

Payload annotations_of(const rules::Alert& alert) {
  Payload out = Payload::object();
  const auto add = [&](std::string_view name, const std::string& value) {
    // What the operator wrote stands.
    if (!value.empty() && alert.annotation(name).empty())
      out.set(JsonString(label_name(name)), JsonString(value));
  };
  for (const auto& [name, value] : alert.annotations)
    out.set(JsonString(label_name(name)), JsonString(value));
  if (!alert.built_in) add("value", value_words(alert));
  add("expr", alert.expr);
  if (alert.first_line) add("first_line", alert.first_line->text);
  if (alert.last_line) add("last_line", alert.last_line->text);
  for (const auto& [label, values] : alert.top_values) {
    std::string words;
    for (const auto& [value, count] : values)
      words += fmt::format("{}{} ({})", words.empty() ? "" : ", ", value, count);
    add("top_" + label, words);
  }
  add("resolve_reason", alert.resolve_reason);
  return out;
}

// A success that is somebody else's: Alertmanager's has no body, and what speaks its API answers with JSON at most.
bool is_page(const HttpResult& result) {
  return result.is_success() && (result.body.find_first_not_of(" \t\r\n") != std::string::npos) &&
         result.body[result.body.find_first_not_of(" \t\r\n")] == '<';
}

rules::Duration firing_for(const rules::Notification& notification) {
  if (notification.reason == rules::NotifyReason::kRefused) return kRefusedFor;
  return notification.fallback_for.empty() ? kFiringFor : kStandInFor;
}

Payload alert_object(const rules::Alert& alert, const Attempt& attempt, const SinkContext& context,
                     rules::Duration lasts) {
  Payload labels = Payload::object();
  for (const auto& [name, value] : alert.labels) {
    const JsonString text(value);
    if (!text.str().empty()) labels.set(JsonString(label_name(name)), text);
  }
  // A resolve that lies ahead, as event time may by some seconds, would fire until then.
  const bool is_over = alert.resolved_at.has_value();
  rules::Timestamp ends = is_over ? std::min(*alert.resolved_at, attempt.now) : attempt.now + lasts;
  const rules::Timestamp starts = is_over ? alert.fired_at : std::min(alert.fired_at, attempt.now);
  ends = std::max(ends, starts);

  Payload out = Payload::object();
  out.set("labels", std::move(labels));
  out.set("annotations", annotations_of(alert));
  out.set("startsAt", JsonString(rules::format_rfc3339(starts)));
  out.set("endsAt", JsonString(rules::format_rfc3339(ends)));
  if (const std::optional<LinkUrl> url = LinkUrl::from(context.external_url)) out.set("generatorURL", *url);
  return out;
}

Payload alerts_body(std::span<const rules::Alert> alerts, const Attempt& attempt, const SinkContext& context,
                    rules::Duration lasts) {
  Payload body = Payload::array();
  for (const rules::Alert& alert : alerts)
    body.push(alert_object(alert, attempt, context, lasts));
  return body;
}

Outcome AlertmanagerSink::deliver(const rules::Notification& notification, const Attempt& attempt) {
  const std::vector<rules::Alert> alerts = alerts_or_text(notification, context_);
  // Nothing to say, and "[]" is a valid request that says it.
  Sending sending{attempt, client_.budget(attempt.timeout), firing_for(notification), {}, {}, {}};
  send(alerts, 0, sending);
  if (sending.stopped) return *sending.stopped;
  const std::size_t refused = sending.refused.size();
  if (refused == 0) {
    Outcome outcome = Outcome::delivered(fmt::format("{} accepted", alerts.size()));
    outcome.truncated = sending.in_short;
    if (!sending.detail.empty())
      outcome.detail = "sent in short: the whole was refused with " + sending.detail;
    return outcome;
  }
  if (refused == alerts.size()) {
    return Outcome::rejected(Reason::kBadRequest,
                             fmt::format("{} of {} alerts refused: {}", refused, refused, sending.detail),
                             false);
  }
  rules::Notification rest;
  for (const std::size_t index : sending.refused)
    rest.alerts.push_back(notification.alerts.at(index));
  return Outcome::partly_refused(
      fmt::format("{} of {} alerts accepted, refused: {}: {}", alerts.size() - refused, alerts.size(),
                  subjects_of(rest), sending.detail),
      std::move(sending.refused));
}

HttpResult AlertmanagerSink::post(std::span<const rules::Alert> alerts, Sending& sending) {
  const Payload body = alerts_body(alerts, sending.attempt, context_, sending.lasts);
  HttpRequest request;
  request.url = Secret(url_);
  request.headers.push_back({"Content-Type", Secret("application/json")});
  request.body = body.dump();
  request.timeout = sending.left;
  request.now = sending.attempt.now;
  HttpResult result = client_.post(request);
  sending.left -= result.elapsed;
  if (result.is_success() && body.was_cut()) sending.in_short = true;
  return result;
}

void AlertmanagerSink::send(std::span<const rules::Alert> alerts, std::size_t first, Sending& sending) {
  const auto is_refusal = [](const HttpResult& result) {
    return result.kind == HttpResult::Kind::kAnswered && (result.status == 400 || result.status == 413);
  };
  HttpResult result = post(alerts, sending);
  if (is_page(result)) {
    sending.stopped = Outcome::retry(Reason::kBadResponse, describe(result, hide_));
    return;
  }
  if (result.is_success()) return;
  if (is_refusal(result) && alerts.size() > 1) {
    // It keeps the valid ones and says only that some were not, or the whole is too large: asked in halves
    // until those are known. Sending one again is harmless.
    const std::size_t half = alerts.size() / 2;
    send(alerts.first(half), first, sending);
    if (!sending.stopped) send(alerts.subspan(half), first + half, sending);
    return;
  }
  if (is_refusal(result) && result.status == 413 && !alerts.empty()) {
    // Its labels are what it is; the rest is evidence.
    sending.detail = describe(result, hide_);
    const rules::Alert less = in_short(alerts.front());
    result = post({&less, 1}, sending);
    if (result.is_success()) {
      sending.in_short = true;
      return;
    }
  }
  if (is_refusal(result)) {
    if (!alerts.empty()) sending.refused.push_back(first);
    sending.detail = describe(result, hide_);
    return;
  }
  sending.stopped = outcome_of(result, hide_);
}

// What it says to no alert at all, with the same address and credentials: a valid request that says nothing.
constexpr Verification::Verdict kDead = Verification::Verdict::kDead;
constexpr std::array<Expectation, 5> kExpected{{
    {200, 200, "", Verification::Verdict::kLive, ProofLevel::kCredential, Reason::kOk,
     "tried with Debian's prometheus-alertmanager 0.25: tests/e2e"},
    {401, 401, "", kDead, ProofLevel::kNetwork, Reason::kAuth,
     "prometheus/exporter-toolkit, web configuration"},
    {403, 403, "", kDead, ProofLevel::kNetwork, Reason::kAuth, "what proxies before it answer"},
    {404, 404, "", kDead, ProofLevel::kNetwork, Reason::kGone, "tried: no such path, or a wrong prefix"},
    {405, 405, "", kDead, ProofLevel::kNetwork, Reason::kGone, "tried: something else listens there"},
}};

Verification AlertmanagerSink::verify(const Attempt& attempt) {
  HttpRequest request;
  request.url = Secret(url_);
  request.headers.push_back({"Content-Type", Secret("application/json")});
  request.body = "[]";
  request.timeout = client_.budget(attempt.timeout);
  request.now = attempt.now;
  rules::Duration left = request.timeout;
  const HttpResult result = client_.post(request);
  left -= result.elapsed;
  Verification verification = judge("POST []", result, "", kExpected, hide_);
  if (is_page(result)) {
    Verification page = Verification::dead(Reason::kBadResponse, ProofLevel::kNetwork,
                                           verification.evidence + ": a page, as of a login; Alertmanager answers none");
    page.certificate_ends = verification.certificate_ends;
    return page;
  }
  if (verification.verdict != Verification::Verdict::kLive || left <= rules::Duration(0)) return verification;
  // It takes everything, and where it would lead is not there: nobody is told.
  std::string unknown;
  const std::optional<Receivers> all = receivers(attempt, left, unknown);
  if (!all || all->any_tells || all->mute.empty()) return verification;
  std::vector<std::string> names;
  for (const std::string& name : all->mute)
    names.push_back(quote(name, hide_));
  Verification dead = Verification::dead(
      Reason::kGone, ProofLevel::kCredential,
      fmt::format("GET status -> none of its receivers has an integration, it takes alerts and tells nobody: {}",
                  rules::list_words(names)));
  dead.certificate_ends = verification.certificate_ends;
  return dead;
}

HttpResult AlertmanagerSink::ask(std::string url, const Attempt& attempt, rules::Duration& left) {
  HttpRequest request;
  request.url = Secret(std::move(url));
  request.timeout = left;
  request.now = attempt.now;
  HttpResult result = client_.get(request);
  left -= result.elapsed;
  return result;
}

// GET /api/v2/status, which leaves secrets out; nothing, and `why`, where that is not to be had.
std::optional<AlertmanagerSink::Receivers> AlertmanagerSink::receivers(const Attempt& attempt, rules::Duration left,
                                                                       std::string& why) {
  const std::string_view base = std::string_view(url_).substr(0, url_.size() - kPath.size());
  const HttpResult result = ask(fmt::format("{}{}", base, kStatusPath), attempt, left);
  const auto json = rules::Json::parse(result.is_success() ? std::string_view(result.body) : "");
  rules::Problems problems;
  const auto config =
      rules::yaml::parse("", json ? (*json)["config"]["original"].string() : std::string_view(), problems);
  const rules::yaml::Node* listed = config && !problems.has_errors() ? config->find("receivers") : nullptr;
  if (listed == nullptr || !listed->is_sequence()) {
    why = fmt::format("GET status -> {}", describe(result, hide_));
    return std::nullopt;
  }
  constexpr std::string_view kOfIntegrations = "_configs";
  Receivers found;
  for (const rules::yaml::Node& receiver : listed->items) {
    const rules::yaml::Node* name = receiver.find("name");
    const bool tells =
        std::any_of(receiver.entries.begin(), receiver.entries.end(), [&](const rules::yaml::Entry& entry) {
          return std::string_view(entry.key).ends_with(kOfIntegrations) && !entry.value.items.empty();
        });
    found.any_tells = found.any_tells || tells;
    if (name != nullptr && !tells) found.mute.insert(name->scalar);
  }
  return found;
}

// GET /api/v2/alerts?filter=drill="…" (api/v2/openapi.yaml): what it holds, and which of its receivers each
// goes to. Whether those that have an integration tell anybody is theirs to prove.
ReadBack AlertmanagerSink::read_back(const rules::Notification& notification, const Attempt& attempt) {
  rules::Duration left = client_.budget(attempt.timeout);
  // The ID of a drill is ours: hex digits.
  const HttpResult result =
      ask(fmt::format("{}?filter=drill%3D%22{}%22", url_, notification.drill), attempt, left);
  ReadBack back;
  const auto json = rules::Json::parse(result.is_success() ? std::string_view(result.body) : "");
  if (!json || !json->is_array()) {
    back.evidence = fmt::format("GET alerts -> {}", describe(result, hide_));
    return back;
  }
  back.answered = true;
  std::string unknown;
  std::optional<Receivers> all = Receivers();
  if (!json->array().empty()) all = receivers(attempt, left, unknown);
  std::set<std::string> told;
  std::set<std::string> untold;
  for (std::size_t i = 0; i < notification.alerts.size(); ++i) {
    const rules::Labels& labels = notification.alerts[i].labels;
    for (const rules::Json& held : json->array()) {
      const bool same = std::all_of(labels.begin(), labels.end(), [&](const rules::Labels::Pair& label) {
        return held["labels"][label_name(label.first)].string() == label.second;
      });
      if (!same) continue;
      bool tells = false;
      for (const rules::Json& receiver : held["receivers"].array()) {
        const std::string name(receiver["name"].string());
        const bool is_mute = all && all->mute.count(name) != 0;
        (is_mute ? untold : told).insert(quote(name, hide_));
        tells = tells || !is_mute;
      }
      if (tells) back.found.push_back(i);
      break;
    }
  }
  std::vector<std::string> words;
  if (!told.empty()) words.push_back(fmt::format("its receivers: {}", fmt::join(told, ", ")));
  if (!untold.empty())
    words.push_back(
        fmt::format("receivers without any integration, which tell nobody: {}", fmt::join(untold, ", ")));
  if (words.empty()) words.emplace_back("it does not hold the alert, or no receiver of it gets it");
  if (!all) words.push_back(fmt::format("whether they have an integration is not known: {}", unknown));
  back.evidence = fmt::format("{}", fmt::join(words, "; "));
  return back;
}

class AlertmanagerConfig final : public SinkConfig {
 public:
  AlertmanagerConfig(std::vector<std::string> urls, HttpOptions options, std::string shown)
      : urls_(std::move(urls)), options_(std::move(options)), shown_(std::move(shown)) {}
  std::size_t lanes() const override { return urls_.size(); }
  std::unique_ptr<Sink> build(std::size_t lane, const SinkContext& context) const override {
    return std::make_unique<AlertmanagerSink>(urls_.at(lane), options_, context);
  }
  std::vector<Secret> secrets() const override { return options_.secrets(); }
  std::string destination() const override { return shown_; }
  std::string words(const rules::Notification& notification, const Attempt& attempt,
                    const SinkContext& context) const override {
    return alerts_body(alerts_or_text(notification, context), attempt, context, firing_for(notification)).words();
  }

 private:
  std::vector<std::string> urls_;
  HttpOptions options_;
  std::string shown_;
};

// The address of the API, whether the operator wrote that or Alertmanager's own.
std::string with_path(std::string url) {
  while (!url.empty() && url.back() == '/')
    url.pop_back();
  if (url.size() >= kPath.size() && std::string_view(url).substr(url.size() - kPath.size()) == kPath)
    return url;
  return url.append(kPath);
}

}  // namespace

std::unique_ptr<SinkConfig> parse_alertmanager(FieldReader& fields) {
  const std::optional<std::vector<std::string>> list = fields.text_list("urls", false);
  const std::optional<std::string> one =
      fields.text("url", !list.has_value() && fields.raw("urls") == nullptr);
  std::optional<HttpOptions> options = read_http_options(fields);
  bool good = options.has_value();
  if (options && !read_authorization(fields, *options)) good = false;
  if (one && list) {
    fields.error("url", "there is url and urls", "write every peer under urls");
    return nullptr;
  }
  std::vector<std::string> written;
  if (list) written = *list;
  if (one) written.push_back(*one);
  if (list && list->empty())
    fields.error("urls", "no peer is listed", "name every Alertmanager of the cluster");
  if (written.empty()) return nullptr;

  std::vector<std::string> urls;
  std::string shown;
  for (const std::string& text : written) {
    const std::string_view key = one ? "url" : "urls";
    const std::optional<Url> url = check_url(fields, key, text, true);
    if (!url) {
      good = false;
      continue;
    }
    if (url->path.find('?') != std::string::npos) {
      fields.error(key, "Alertmanager's address has no \"?…\"", "write http://host:9093");
      good = false;
      continue;
    }
    urls.push_back(with_path(text));
    for (std::size_t i = 0; i + 1 < urls.size(); ++i) {
      if (urls[i] != urls.back()) continue;
      fields.error(key, "the peer " + url->shown + " is listed twice", "leave one out");
      good = false;
    }
    shown += (shown.empty() ? "" : ", ") + url->shown;
  }
  if (!good) return nullptr;
  return std::make_unique<AlertmanagerConfig>(std::move(urls), std::move(*options), std::move(shown));
}

}  // namespace logbell::sinks

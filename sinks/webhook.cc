#include "sinks/webhook.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <utility>

#include <fmt/format.h>

#include "rules/redact.h"
#include "rules/text.h"
#include "sinks/expect.h"
#include "sinks/http.h"
#include "sinks/message.h"
#include "sinks/sign.h"

namespace logbell::sinks {
namespace {

using rules::Secret;

struct WebhookSettings {
  Secret url;
  Secret secret;  // signs; may be empty
  std::vector<HttpHeader> headers;
  std::vector<std::string> receipt;  // the members that lead to it: `$.data.id`
  HttpOptions http;
  std::string shown;
  // How it is asked whether it is there; unset: nobody has said how.
  struct Probe {
    bool is_head = false;
    Secret url;
    std::vector<int> expect;  // statuses; empty: every 2xx
  };
  std::optional<Probe> probe;

  std::vector<Secret> secrets() const {
    std::vector<Secret> all = http.secrets();
    all.push_back(url);
    if (!secret.empty()) all.push_back(secret);
    if (probe) all.push_back(probe->url);  // a token may stand in its path, too
    for (const HttpHeader& header : headers)
      all.push_back(header.value);
    return all;
  }
};

class WebhookSink final : public Sink {
 public:
  WebhookSink(WebhookSettings settings, SinkContext context)
      : settings_(std::move(settings)), client_(settings_.http), context_(std::move(context)) {}
  Outcome deliver(const rules::Notification& notification, const Attempt& attempt) override;
  Verification verify(const Attempt& attempt) override;

 private:
  HttpResult post(const rules::Notification& notification, const std::string& body, const Attempt& attempt,
                  rules::Duration timeout);

  WebhookSettings settings_;
  HttpClient client_;
  SinkContext context_;
};

// What the receiver calls this delivery: the member that `receipt` leads to, else the status.
std::string receipt_of(const HttpResult& result, const std::vector<std::string>& path,
                       const std::vector<Secret>& hide) {
  std::string status = fmt::format("HTTP {}", result.status);
  if (path.empty()) return status;
  const rules::Result<rules::Json> body = rules::Json::parse(result.body);
  if (!body) return status;
  const rules::Json* found = &*body;
  for (const std::string& name : path)
    found = &(*found)[name];
  std::string text = found->is_string() ? std::string(found->string()) : std::string();
  if (found->is_number()) text = found->dump();
  return text.empty() ? status : quote(text, hide);
}

HttpResult WebhookSink::post(const rules::Notification& notification, const std::string& body,
                             const Attempt& attempt, rules::Duration timeout) {
  HttpRequest request;
  request.url = settings_.url;
  request.timeout = timeout;
  request.now = attempt.now;
  request.body = body;
  request.headers = settings_.headers;
  request.headers.push_back({"Content-Type", Secret("application/json")});
  request.headers.push_back({std::string(kIdempotencyHeader), Secret(HeaderText(notification.key).str())});
  if (!settings_.secret.empty()) {
    const std::string timestamp = fmt::format("{}", rules::to_unix_ms(attempt.now) / 1000);
    request.headers.push_back({std::string(kTimestampHeader), Secret(timestamp)});
    request.headers.push_back({std::string(kSignatureHeader),
                               Secret("sha256=" + sign(settings_.secret, timestamp + "." + request.body))});
  }
  return client_.post(request);
}

Outcome WebhookSink::deliver(const rules::Notification& notification, const Attempt& attempt) {
  const rules::Duration budget = client_.budget(attempt.timeout);
  const Payload whole = webhook_payload(notification, attempt, context_);
  const HttpResult first = post(notification, whole.dump(), attempt, budget);
  if (first.is_success()) {
    Outcome outcome = Outcome::delivered(receipt_of(first, settings_.receipt, settings_.secrets()));
    outcome.truncated = whole.was_cut();
    return outcome;
  }
  // It knows the key, and is still at work on the attempt before.
  if (first.kind == HttpResult::Kind::kAnswered && first.status == 409)
    return Outcome::retry(Reason::kServerError, describe(first, settings_.secrets()), first.retry_after);
  const bool refused_as_it_is =
      first.kind == HttpResult::Kind::kAnswered && (first.status == 400 || first.status == 413);
  if (!refused_as_it_is) return outcome_of(first, settings_.secrets());

  // Too long, or with something in it that the receiver does not take: what fires must arrive all the same.
  rules::Notification less = notification;
  for (rules::Alert& alert : less.alerts)
    alert = in_short(std::move(alert));
  const std::string body = webhook_payload(less, attempt, context_).dump();
  const HttpResult second = post(notification, body, attempt, budget - first.elapsed);
  if (!second.is_success()) return outcome_of(second, settings_.secrets());
  Outcome outcome = Outcome::delivered(receipt_of(second, settings_.receipt, settings_.secrets()));
  outcome.detail =
      "sent in short: the whole message was refused with " + describe(first, settings_.secrets());
  outcome.truncated = true;
  return outcome;
}

// Nobody has said what this receiver answers to a question, and many know POST alone: that something answers
// is all that HEAD can prove, and no answer proves that it is gone (SINKS.md §11).
constexpr Verification::Verdict kLive = Verification::Verdict::kLive;
constexpr Verification::Verdict kDead = Verification::Verdict::kDead;
constexpr Verification::Verdict kUnknown = Verification::Verdict::kUnknown;
constexpr std::array<Expectation, 8> kUnasked{{
    {401, 401, "", kUnknown, ProofLevel::kNetwork, Reason::kAuth, "a signed POST may be let in"},
    {403, 403, "", kUnknown, ProofLevel::kNetwork, Reason::kAuth, "a signed POST may be let in"},
    {404, 404, "", kUnknown, ProofLevel::kNetwork, Reason::kGone,
     "routers that know POST alone, as Express'"},
    {410, 410, "", kUnknown, ProofLevel::kNetwork, Reason::kGone, "RFC 9110"},
    {300, 399, "", kUnknown, ProofLevel::kNetwork, Reason::kBadResponse,
     "a POST is not sent after a redirect: write the address that it leads to"},
    {200, 407, "", kLive, ProofLevel::kNetwork, Reason::kOk, "something answers there"},
    {411, 428, "", kLive, ProofLevel::kNetwork, Reason::kOk, "something answers there"},
    {501, 501, "", kLive, ProofLevel::kNetwork, Reason::kOk, "RFC 9110: it does not know HEAD"},
}};
// Of a question that the operator wrote, after the answers that he expects.
constexpr std::array<Expectation, 4> kRefusals{{
    {401, 401, "", kDead, ProofLevel::kNetwork, Reason::kAuth, "RFC 9110"},
    {403, 403, "", kDead, ProofLevel::kNetwork, Reason::kAuth, "RFC 9110"},
    {404, 404, "", kDead, ProofLevel::kNetwork, Reason::kGone, "RFC 9110"},
    {410, 410, "", kDead, ProofLevel::kNetwork, Reason::kGone, "RFC 9110"},
}};

Verification WebhookSink::verify(const Attempt& attempt) {
  HttpRequest request;
  request.url = settings_.probe ? settings_.probe->url : settings_.url;
  request.headers = settings_.headers;
  request.timeout = client_.budget(attempt.timeout);
  request.now = attempt.now;
  const std::vector<Secret> hide = settings_.secrets();
  if (!settings_.probe) return judge("HEAD", client_.head(request), "", kUnasked, hide);
  std::vector<Expectation> table;
  const auto expect = [&](int from, int to) {
    table.push_back({from, to, "", kLive, ProofLevel::kCredential, Reason::kOk, "the configuration"});
  };
  for (const int status : settings_.probe->expect)
    expect(status, status);
  if (table.empty()) expect(200, 299);
  table.insert(table.end(), kRefusals.begin(), kRefusals.end());
  const HttpResult result = settings_.probe->is_head ? client_.head(request) : client_.get(request);
  return judge(settings_.probe->is_head ? "HEAD, as probe says" : "GET, as probe says", result, "", table,
               hide);
}

class WebhookConfig final : public SinkConfig {
 public:
  explicit WebhookConfig(WebhookSettings settings) : settings_(std::move(settings)) {}
  std::unique_ptr<Sink> build(std::size_t /*lane*/, const SinkContext& context) const override {
    return std::make_unique<WebhookSink>(settings_, context);
  }
  std::vector<Secret> secrets() const override { return settings_.secrets(); }
  std::string destination() const override { return settings_.shown; }
  std::string words(const rules::Notification& notification, const Attempt& attempt,
                    const SinkContext& context) const override {
    return webhook_payload(notification, attempt, context).words();
  }

 private:
  WebhookSettings settings_;
};

bool is_header_name(std::string_view name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 ||
           std::string_view("!#$%&'*+-.^_`|~").find(static_cast<char>(c)) != std::string_view::npos;
  });
}

// What we say ourselves, or what would change where the request ends.
bool is_reserved_header(std::string_view name) {
  static constexpr std::string_view kReserved[] = {"content-type",        "content-length",
                                                   "transfer-encoding",   "host",
                                                   "connection",          "expect",
                                                   "idempotency-key",     "authorization",
                                                   "proxy-authorization", "x-logbell-timestamp",
                                                   "x-logbell-signature"};
  return std::any_of(std::begin(kReserved), std::end(kReserved),
                     [&](std::string_view reserved) { return rules::same_ignoring_case(name, reserved); });
}

bool read_headers(FieldReader& fields, std::vector<HttpHeader>& headers) {
  const rules::yaml::Node* node = fields.raw("headers");
  if (node == nullptr || node->is_null()) return true;
  if (!node->is_map()) {
    fields.error("headers", "headers are written as name: value", "");
    return false;
  }
  bool good = true;
  for (const rules::yaml::Entry& entry : node->entries) {
    const std::string& value = entry.value.scalar;
    if (!is_header_name(entry.key)) {
      fields.error("headers", "\"" + entry.key + "\" cannot be the name of a header", "");
      good = false;
    } else if (is_reserved_header(entry.key)) {
      fields.error("headers", "the header " + entry.key + " is logbell's own",
                   "for credentials use bearer_token, or username and password");
      good = false;
    } else if (!entry.value.is_scalar() || std::any_of(value.begin(), value.end(), [](unsigned char c) {
                 return c < 0x20 || c == 0x7F;
               })) {
      fields.error("headers", "the value of the header " + entry.key + " is not one line of text", "");
      good = false;
    } else if (value.find("${") != std::string::npos) {
      fields.error("headers", "variables are not read in headers",
                   "write the value out; for credentials use bearer_token, or username and password");
      good = false;
    } else {
      headers.push_back({entry.key, Secret(value)});
    }
  }
  return good;
}

// "$.data.id" -> data, id.
bool read_receipt(FieldReader& fields, std::vector<std::string>& path) {
  const std::optional<std::string> text = fields.text("receipt", false);
  if (!text) return true;
  std::string_view rest = *text;
  bool good = rest.substr(0, 2) == "$.";
  rest.remove_prefix(std::min<std::size_t>(rest.size(), 2));
  while (good) {
    const std::string_view name = rest.substr(0, rest.find('.'));
    good = !name.empty() && name.find_first_of("[]*\"' ") == std::string_view::npos;
    path.emplace_back(name);
    if (name.size() == rest.size()) break;
    rest.remove_prefix(name.size() + 1);
  }
  if (!good)
    fields.error("receipt", "\"" + *text + "\" does not lead into a JSON answer",
                 "write it as $.id or $.data.id");
  return good;
}

// `probe: {path: /health, method: GET, expect: [200]}`, at the receiver's own host: its credentials go along.
bool read_probe(FieldReader& fields, const rules::yaml::Node* node, const Url& url,
                std::optional<WebhookSettings::Probe>& probe) {
  if (node == nullptr || node->is_null()) return true;
  const auto wrong = [&](std::string reason, std::string fix) {
    fields.error("probe", std::move(reason), std::move(fix));
    return false;
  };
  static constexpr std::string_view kShape = "write probe: {path: /health, method: GET, expect: [200]}";
  if (!node->is_map())
    return wrong("probe says how the receiver is asked whether it is there", std::string(kShape));
  WebhookSettings::Probe read;
  std::string path = url.path;
  for (const rules::yaml::Entry& entry : node->entries) {
    const std::string& value = entry.value.scalar;
    if (entry.key == "path" && entry.value.is_scalar()) {
      if (value.empty() || value.front() != '/') return wrong("the path begins with /", std::string(kShape));
      path = value;
    } else if (entry.key == "method" && entry.value.is_scalar()) {
      if (value != "GET" && value != "HEAD")
        return wrong("\"" + value + "\" is no method that asks without telling", "write GET or HEAD");
      read.is_head = value == "HEAD";
    } else if (entry.key == "expect" && entry.value.is_sequence()) {
      for (const rules::yaml::Node& item : entry.value.items) {
        int status = 0;
        const char* const end = item.scalar.data() + item.scalar.size();
        const auto [at, error] = std::from_chars(item.scalar.data(), end, status);
        if (error != std::errc() || at != end || status < 200 || status > 599)
          return wrong("\"" + item.scalar + "\" is no HTTP status", std::string(kShape));
        read.expect.push_back(status);
      }
    } else {
      return wrong("probe has no " + entry.key + " like this", std::string(kShape));
    }
  }
  const std::string host = url.host.find(':') == std::string::npos ? url.host : "[" + url.host + "]";
  const std::string whole = fmt::format("{}://{}:{}{}", url.scheme, host, url.port, path);
  if (!parse_url(whole)) return wrong("its path is none", std::string(kShape));
  read.url = Secret(whole);
  probe = std::move(read);
  return true;
}

JsonString time_string(rules::Timestamp at) {
  return JsonString(rules::format_rfc3339(at));
}

Payload labels_object(const rules::Labels& labels) {
  Payload out = Payload::object();
  for (const auto& [name, value] : labels)
    out.set(JsonString(name), JsonString(value));
  return out;
}

Payload annotations_object(const std::vector<std::pair<std::string, std::string>>& annotations) {
  Payload out = Payload::object();
  for (const auto& [name, value] : annotations)
    out.set(JsonString(name), JsonString(value));
  return out;
}

Payload line_object(const rules::SampleLine& line) {
  return Payload::object().set("at", time_string(line.at)).set("text", JsonString(line.text));
}

Payload alert_object(const rules::Alert& alert, const SinkContext& context) {
  Payload out = Payload::object();
  out.set("status", alert.is_firing() ? JsonString(Literal("firing")) : JsonString(Literal("resolved")));
  out.set("labels", labels_object(alert.labels));
  out.set("annotations", annotations_object(alert.annotations));
  out.set("startsAt", time_string(alert.fired_at));
  // What Go's zero time looks like: receivers test for it.
  out.set("endsAt",
          alert.resolved_at ? time_string(*alert.resolved_at) : JsonString(Literal("0001-01-01T00:00:00Z")));
  out.set("generatorURL", JsonString(context.external_url));
  out.set("fingerprint", JsonString(rules::format_fingerprint(alert.fingerprint())));
  out.set("value", alert.value);
  if (!alert.expr.empty()) out.set("expr", JsonString(alert.expr));
  if (alert.first_line) out.set("firstLine", line_object(*alert.first_line));
  if (alert.last_line) out.set("lastLine", line_object(*alert.last_line));
  if (!alert.top_values.empty()) {
    Payload tops = Payload::array();
    for (const auto& [label, values] : alert.top_values) {
      Payload list = Payload::array();
      for (const auto& [value, count] : values)
        list.push(Payload::object().set("value", JsonString(value)).set("count", count));
      tops.push(Payload::object().set("label", JsonString(label)).set("values", std::move(list)));
    }
    out.set("topValues", std::move(tops));
  }
  if (!alert.resolve_reason.empty()) out.set("resolveReason", JsonString(alert.resolve_reason));
  return out;
}

}  // namespace

Payload webhook_payload(const rules::Notification& notification, const Attempt& attempt,
                        const SinkContext& context) {
  const std::vector<rules::Alert> alerts = alerts_or_text(notification, context);
  const bool firing =
      std::any_of(alerts.begin(), alerts.end(), [](const rules::Alert& a) { return a.is_firing(); });
  rules::Notification shown = notification;
  shown.alerts = alerts;

  Payload list = Payload::array();
  for (const rules::Alert& alert : alerts)
    list.push(alert_object(alert, context));
  Payload notes = Payload::array();
  for (const std::string& note : delivery_notes(notification, attempt))
    notes.push(JsonString(note));

  Payload out = Payload::object();
  out.set("version", "4");
  out.set("groupKey", JsonString(notification.group_key));
  out.set("truncatedAlerts", 0);
  out.set("status", firing ? JsonString(Literal("firing")) : JsonString(Literal("resolved")));
  out.set("receiver", JsonString(notification.sink));
  out.set("groupLabels", labels_object(notification.group_labels));
  out.set("commonLabels", labels_object(shown.common_labels()));
  out.set("commonAnnotations", annotations_object(shown.common_annotations()));
  out.set("externalURL", JsonString(context.external_url));
  out.set("alerts", std::move(list));
  out.set("reason", JsonString(rules::to_string(notification.reason)));
  out.set("deliveryKey", JsonString(notification.key));
  if (!attempt.speaks_for.empty()) {
    Payload keys = Payload::array();
    for (const rules::Notification* one : attempt.speaks_for)
      keys.push(JsonString(one->key));
    out.set("coalescedKeys", std::move(keys));
  }
  out.set("notes", std::move(notes));
  if (const std::optional<LinkUrl> url = acknowledge_link(notification, attempt, context))
    out.set("acknowledgeURL", *url);
  return out;
}

std::unique_ptr<SinkConfig> parse_webhook(FieldReader& fields) {
  WebhookSettings settings;
  const std::optional<Secret> url = fields.secret("url", true);
  const std::optional<Secret> secret = fields.secret("secret", false);
  std::optional<HttpOptions> http = read_http_options(fields);
  bool good = url.has_value() && http.has_value();
  if (http && !read_authorization(fields, *http)) good = false;
  if (!read_headers(fields, settings.headers)) good = false;
  if (!read_receipt(fields, settings.receipt)) good = false;
  const rules::yaml::Node* probe = fields.raw("probe");
  settings.shown = "(not known without its secret)";
  if (url && !(fields.assume_secrets() && !parse_url(url->reveal()))) {
    const std::optional<Url> parsed = check_url(fields, "url", url->reveal(), true);
    if (parsed) settings.shown = parsed->shown;
    if (!parsed || !read_probe(fields, probe, *parsed, settings.probe)) good = false;
  }
  if (!good) return nullptr;
  settings.url = *url;
  if (secret) settings.secret = *secret;
  settings.http = std::move(*http);
  return std::make_unique<WebhookConfig>(std::move(settings));
}

}  // namespace logbell::sinks

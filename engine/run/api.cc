#include "engine/run/api.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <map>
#include <set>

#include <fmt/format.h>

#include "rules/json.h"
#include "rules/labels.h"
#include "rules/reach.h"
#include "rules/template.h"
#include "sinks/sign.h"

namespace logbell::engine {

using rules::Json;

namespace {

struct Endpoint {
  std::string_view path;
  std::string_view method;  // GET answers HEAD too
  std::string_view says;
};

constexpr std::array kEndpoints{
    Endpoint{"/metrics", "GET", "for Prometheus"},
    Endpoint{"/-/healthy", "GET", "200 as long as every loop gets on"},
    Endpoint{"/-/ready", "GET", "200 once what is written has been read; says what is degraded"},
    Endpoint{"/-/reload", "POST", "reads the configuration anew, as SIGHUP does"},
    Endpoint{"/api/v1/alerts", "GET", "pending and firing alerts, in Prometheus's JSON"},
    Endpoint{"/api/v1/rules", "GET", "rules and their alerts, in Prometheus's JSON"},
    Endpoint{"/api/v1/sources", "GET", "what is read, and how far"},
    Endpoint{"/api/v1/sinks", "GET", "who is told, and whether it works"},
    Endpoint{"/api/v1/proof", "GET", "what proves that each rule reaches each of its sinks, and since when"},
    Endpoint{"/api/v1/deliveries", "GET",
             "how messages ended, with their receipts, the newest first; ?sink=, alertname=, state=, drill=, limit="},
    Endpoint{"/api/v1/drills", "GET", "drills of this process, the newest first; /api/v1/drills/ID is one"},
    Endpoint{"/api/v1/drills", "POST", "begins a drill, as `logbell drill` does"},
    Endpoint{"/api/v1/heartbeats", "GET", "whose heartbeats are listened for; POST to …/NAME sends one"},
};

constexpr std::string_view kHeartbeats = "/api/v1/heartbeats/";

// Prometheus's zero time: never evaluated.
constexpr std::string_view kNever = "0001-01-01T00:00:00Z";

std::string time_text(rules::Timestamp at) {
  return at == rules::kLongAgo ? std::string(kNever) : rules::format_rfc3339(at);
}

Json time_or_null(const std::optional<rules::Timestamp>& at) {
  return at ? Json(rules::format_rfc3339(*at)) : Json();
}

HttpResponse answer(int status, std::string text) {
  HttpResponse response;
  response.status = status;
  response.body = std::move(text);
  return response;
}

HttpResponse answer_json(int status, const Json& json) {
  HttpResponse response = answer(status, json.dump() + "\n");
  response.content_type = "application/json";
  return response;
}

HttpResponse success(Json data) {
  Json body;
  body.set("status", "success").set("data", std::move(data));
  return answer_json(200, body);
}

HttpResponse failure(int status, std::string_view type, const std::string& error) {
  Json body;
  body.set("status", "error").set("errorType", type).set("error", error);
  return answer_json(status, body);
}

template <class Pairs>
Json texts(const Pairs& pairs) {
  Json json = Json::Object{};
  for (const auto& [name, text] : pairs)
    json.set(name, text.text());
  return json;
}

Json alert_json(const AlertView& view) {
  const rules::Alert& alert = view.alert;
  Json annotations = Json::Object{};
  for (const auto& [name, text] : alert.annotations)
    annotations.set(name, text);
  Json json;
  json.set("labels", to_json(alert.labels))
      .set("annotations", std::move(annotations))
      .set("state", rules::to_string(alert.state))
      .set("activeAt", time_text(alert.active_at))
      .set("value", rules::format_number(alert.value));
  return json;
}

std::string_view worst_state(const std::vector<const AlertView*>& alerts) {
  rules::AlertState worst = rules::AlertState::kInactive;
  for (const AlertView* view : alerts) {
    if (view->alert.state == rules::AlertState::kFiring) return "firing";
    if (view->alert.state == rules::AlertState::kPending) worst = view->alert.state;
  }
  return rules::to_string(worst);
}

double in_seconds(rules::Duration duration) {
  return static_cast<double>(duration.count()) / 1000;
}

std::string_view health_of(const RuleView* state) {
  if (state == nullptr) return "unknown";
  if (state->failing) return "err";
  return state->unknown ? "unknown" : "ok";
}

Json rule_json(const rules::AlertingRule& rule, const RuleView* state,
               const std::vector<const AlertView*>& alerts) {
  Json list = Json::Array{};
  for (const AlertView* view : alerts)
    list.push(alert_json(*view));
  Json json;
  json.set("state", worst_state(alerts))
      .set("name", rule.name)
      .set("query", rule.expr_text)
      .set("duration", in_seconds(rule.for_))
      .set("keepFiringFor", in_seconds(rule.keep_firing_for));
  if (rule.resolve_when) json.set("resolveWhen", rule.resolve_when->text);
  json.set("labels", texts(rule.labels))
      .set("annotations", texts(rule.annotations))
      .set("alerts", std::move(list))
      .set("health", health_of(state));
  if (state != nullptr && state->unknown && !state->unknown_reason.empty())
    json.set("lastError", state->unknown_reason);
  json.set("evaluationTime", 0.0)
      .set("lastEvaluation", time_text(state == nullptr ? rules::kLongAgo : state->clock))
      .set("type", "alerting");
  return json;
}

// logbell's own alerts have no rule in the configuration; whoever looks at rules must see them all the same.
Json built_in_json(const std::string& name, const std::vector<const AlertView*>& alerts,
                   rules::Timestamp at) {
  Json list = Json::Array{};
  for (const AlertView* view : alerts)
    list.push(alert_json(*view));
  Json json;
  json.set("state", worst_state(alerts))
      .set("name", name)
      .set("query", "built in")
      .set("duration", 0.0)
      .set("keepFiringFor", 0.0)
      .set("labels", Json::Object{})
      .set("annotations", Json::Object{})
      .set("alerts", std::move(list))
      .set("health", "ok")
      .set("evaluationTime", 0.0)
      .set("lastEvaluation", time_text(at))
      .set("type", "alerting");
  return json;
}

// "host" of "host:port", lower case, without brackets.
std::string host_of(std::string_view authority) {
  std::string_view host = authority;
  if (!host.empty() && host.front() == '[') {
    const std::size_t end = host.find(']');
    host = host.substr(1, end == std::string_view::npos ? end : end - 1);
  } else {
    host = host.substr(0, host.rfind(':'));
  }
  std::string out(host);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return out;
}

bool is_loopback_host(const std::string& host) {
  if (host == "localhost" || host == "::1" || host == "0:0:0:0:0:0:0:1") return true;
  if (host.rfind("127.", 0) != 0) return false;
  return host.find_first_not_of("0123456789.") == std::string::npos &&
         std::count(host.begin(), host.end(), '.') == 3;
}

std::string lines(const std::vector<std::string>& items) {
  std::string out;
  for (const std::string& item : items)
    out += item + "\n";
  return out;
}

}  // namespace

bool is_loopback(std::string_view listen) {
  return is_loopback_host(host_of(listen));
}

std::optional<ReloadAnswer> ReloadDesk::ask(rules::Duration limit) {
  std::uint64_t mine = 0;
  {
    const MutexLock lock(mutex_);
    mine = ++asked_;
  }
  wake_();
  const MutexLock lock(mutex_);
  // A wait that ends early for no reason costs its caller only the "202".
  if (answered_up_to_ < mine) answered_.wait_for(mutex_, limit);
  if (answered_up_to_ < mine) return std::nullopt;
  return last_;
}

bool ReloadDesk::wanted() const {
  const MutexLock lock(mutex_);
  return answered_up_to_ < asked_;
}

void ReloadDesk::answer(ReloadAnswer answer) {
  const MutexLock lock(mutex_);
  last_ = std::move(answer);
  answered_up_to_ = asked_;
  answered_.notify_all();
}

rules::Result<> Front::serve(const std::string& listen, std::shared_ptr<const Api> api) {
  if (server_ && listen == listen_) {
    api_.set(std::move(api));
    return {};
  }
  server_.reset();
  api_.set(std::move(api));
  rules::Result<std::unique_ptr<HttpServer>> server = HttpServer::listen(
      listen, [this](const HttpRequest& request) { return api_.get()->handle(request); },
      HttpServer::kMaxConnections, [this] { ++turned_away_; });
  if (!server) return rules::fail(server.error());
  server_ = std::move(*server);
  listen_ = listen;
  return {};
}

void Front::close() {
  server_.reset();
}

std::string Front::address() const {
  return server_ ? server_->address() : std::string();
}

Api::Api(Options options) : options_(std::move(options)) {
  LOGBELL_CHECK(options_.clock != nullptr && options_.metrics != nullptr);
  LOGBELL_CHECK(options_.reload && options_.health && options_.core && options_.streams && options_.lanes &&
                options_.destination);
}

HttpResponse Api::handle(const HttpRequest& request) const {
  const bool reads = request.method == "GET" || request.method == "HEAD";
  if (request.path == "/") {
    return reads ? page() : failure(405, "bad_method", "this page is only read");
  }
  if (request.path.rfind(kHeartbeats, 0) == 0) return heartbeat(request);
  if (request.path.rfind(Acknowledgements::kPath, 0) == 0) return acknowledge(request);
  constexpr std::string_view kOneDrill = "/api/v1/drills/";
  if (request.path.compare(0, kOneDrill.size(), kOneDrill) == 0 && reads)
    return drill(std::string_view(request.path).substr(kOneDrill.size()));
  const auto* const of_path = std::find_if(kEndpoints.begin(), kEndpoints.end(),
                                           [&](const Endpoint& e) { return e.path == request.path; });
  const auto* const exact = std::find_if(kEndpoints.begin(), kEndpoints.end(), [&](const Endpoint& e) {
    return e.path == request.path && (e.method == "GET" ? reads : e.method == request.method);
  });
  const auto* const found = exact == kEndpoints.end() ? of_path : exact;
  if (found == kEndpoints.end()) {
    // The path is not repeated: what a browser shows of it is not ours to choose.
    return failure(404, "not_found", "there is no such path; / lists what there is");
  }
  if (found->method == "GET" ? !reads : request.method != found->method) {
    HttpResponse response =
        failure(405, "bad_method", fmt::format("{} needs {}", found->path, found->method));
    response.headers.emplace_back("Allow", found->method == "GET" ? "GET, HEAD" : std::string(found->method));
    return response;
  }
  if (found->path == "/metrics") return metrics();
  if (found->path == "/-/healthy") return healthy();
  if (found->path == "/-/ready") return ready();
  if (found->path == "/-/reload") return reload(request);
  if (found->path == "/api/v1/alerts") return alerts();
  if (found->path == "/api/v1/rules") return rules(request);
  if (found->path == "/api/v1/sources") return sources();
  if (found->path == "/api/v1/proof") return proof();
  if (found->path == "/api/v1/deliveries") return deliveries(request);
  if (found->path == "/api/v1/drills") return reads ? drills() : begin_drill(request);
  if (found->path == "/api/v1/heartbeats") return heartbeats();
  return sinks();
}

HttpResponse Api::metrics() const {
  const MutexLock lock(mutex_);
  const rules::Instant now = options_.clock->instant();
  if (metrics_until_ && now < *metrics_until_) {
    HttpResponse again = answer(200, metrics_page_);
    again.content_type = Metrics::kContentType;
    return again;
  }
  ScrapeView view;
  if (const auto streams = options_.streams()) view.streams = *streams;
  view.lanes = options_.lanes();
  if (options_.verdicts) view.verdicts = options_.verdicts();
  if (options_.bounds) view.bounds = options_.bounds();
  view.now = options_.clock->now();
  metrics_page_ = options_.metrics->render(view, ProcessUse::measure());
  metrics_until_ = now + std::max<rules::Instant::duration>(kPageFor, kPageTimes * (options_.clock->instant() - now));
  HttpResponse response = answer(200, metrics_page_);
  response.content_type = Metrics::kContentType;
  return response;
}

HttpResponse Api::healthy() const {
  const Health health = options_.health();
  if (health.stalled.empty()) return answer(200, "Healthy.\n");
  return answer(503, "Not healthy: a loop does not get on.\n" + lines(health.stalled));
}

HttpResponse Api::ready() const {
  const Health health = options_.health();
  if (!health.ready) return answer(503, "Not ready: what is written has not been read to its end yet.\n");
  if (health.degraded.empty()) return answer(200, "Ready.\n");
  return answer(200, "Ready, but degraded.\n" + lines(health.degraded));
}

std::optional<HttpResponse> Api::refuse_change(const HttpRequest& request) const {
  if (!options_.may_change) {
    return failure(403, "forbidden",
                   "logbell listens where other machines can ask, so nothing is changed from here: let "
                   "`listen` be a loopback address (a reload can be had with SIGHUP)");
  }
  // A page in somebody's browser may post here: by a name that it has made lead to us (the Host is that
  // name), or across origins (then the browser says whence).
  if (!is_loopback_host(host_of(request.header("Host"))))
    return failure(403, "forbidden", "the request's Host is not this machine's loopback address");
  if (!request.header("Origin").empty() || request.header("Sec-Fetch-Site") == "cross-site")
    return failure(403, "forbidden", "pages in a browser may not change anything");
  return std::nullopt;
}

HttpResponse Api::reload(const HttpRequest& request) const {
  if (std::optional<HttpResponse> no = refuse_change(request)) return *std::move(no);
  if (const std::optional<ReloadAnswer> done = options_.reload()) return answer(done->status, done->text);
  return answer(202,
                "The configuration is being read. What came of it: the log, and "
                "logbell_config_last_reload_successful on /metrics.\n");
}

// As healthchecks.io takes them: /NAME lives, /NAME/fail is bad, /NAME/log changes nothing.
HttpResponse Api::heartbeat(const HttpRequest& request) const {
  if (request.method != "POST") {
    HttpResponse response = failure(405, "bad_method", "a heartbeat is a POST");
    response.headers.emplace_back("Allow", "POST");
    return response;
  }
  std::string name = request.path.substr(kHeartbeats.size());
  Heard::Word word = Heard::Word::kAlive;
  if (const std::size_t slash = name.find('/'); slash != std::string::npos) {
    const std::string rest = name.substr(slash + 1);
    name.resize(slash);
    if (rest != "fail" && rest != "log")
      return failure(404, "not_found", "a heartbeat is posted to NAME, NAME/fail or NAME/log");
    word = rest == "fail" ? Heard::Word::kFail : Heard::Word::kLog;
  }
  const std::optional<rules::Secret> token =
      options_.heard == nullptr ? std::nullopt : options_.heard->token(name);
  if (!token)
    return failure(404, "not_found", "no heartbeat of that name is listened for: see `heartbeats:`");
  if (token->empty()) {
    if (std::optional<HttpResponse> no = refuse_change(request)) return *std::move(no);
  } else if (!sinks::same_secret(request.header("Authorization"), "Bearer " + token->reveal())) {
    HttpResponse response =
        failure(401, "unauthorized", "this heartbeat needs its token: Authorization: Bearer …");
    response.headers.emplace_back("WWW-Authenticate", "Bearer");
    return response;
  }
  if (!options_.heard->hear(name, word, request.body))
    return failure(404, "not_found", "no heartbeat of that name is listened for: see `heartbeats:`");
  return answer(200, "OK\n");
}

HttpResponse Api::heartbeats() const {
  Json list = Json::Array{};
  for (const Heard::View& view :
       options_.heard == nullptr ? std::vector<Heard::View>() : options_.heard->views()) {
    Json json;
    json.set("name", view.name)
        .set("state", view.missing    ? "missing"
                      : view.failing  ? "failing"
                      : view.heard_at ? "ok"
                                      : "not heard yet")
        .set("heard_at", time_or_null(view.heard_at));
    if (view.failing) json.set("reason", view.reason);
    list.push(std::move(json));
  }
  Json data;
  data.set("heartbeats", std::move(list));
  return success(std::move(data));
}

// Whoever has the link may, from wherever they are: the signature in it is the permission.
HttpResponse Api::acknowledge(const HttpRequest& request) const {
  if (options_.acknowledgements == nullptr) return failure(404, "not_found", "nothing runs here");
  const auto view = options_.core();
  return options_.acknowledgements->answer(request, view ? view->plan.get() : nullptr);
}

HttpResponse Api::alerts() const {
  Json list = Json::Array{};
  if (const auto view = options_.core()) {
    for (const AlertView& alert : view->alerts) {
      if (alert.alert.state == rules::AlertState::kPending || alert.alert.state == rules::AlertState::kFiring)
        list.push(alert_json(alert));
    }
  }
  Json data;
  data.set("alerts", std::move(list));
  return success(std::move(data));
}

HttpResponse Api::rules(const HttpRequest& request) const {
  const std::string_view type = request.query_value("type");
  if (!type.empty() && type != "alert" && type != "record")
    return failure(400, "bad_data", "type is alert or record");
  std::vector<std::string_view> names;
  std::vector<std::string_view> groups;
  for (const auto& [name, value] : request.query) {
    if (name == "rule_name[]") names.push_back(value);
    if (name == "rule_group[]") groups.push_back(value);
  }
  const auto wanted = [](const std::vector<std::string_view>& filter, std::string_view value) {
    return filter.empty() || std::find(filter.begin(), filter.end(), value) != filter.end();
  };

  Json listed = Json::Array{};
  const auto view = type == "record" ? nullptr : options_.core();
  if (view) {
    std::map<std::size_t, std::vector<const AlertView*>> by_rule;
    std::map<std::string, std::vector<const AlertView*>> built_in;
    for (const AlertView& alert : view->alerts) {
      if (alert.rule < view->plan->rules.size()) {
        by_rule[alert.rule].push_back(&alert);
      } else {
        built_in[std::string(alert.alert.name())].push_back(&alert);
      }
    }
    std::map<std::size_t, const RuleView*> states;
    for (const RuleView& state : view->rules)
      states[state.rule] = &state;

    struct Group {
      std::string name;
      std::string file;
      Json rules = Json::Array{};
    };
    std::vector<Group> found;  // in the order written
    const auto group_of = [&](const std::string& name, const std::string& file) -> Group& {
      const auto it = std::find_if(found.begin(), found.end(),
                                   [&](const Group& g) { return g.name == name && g.file == file; });
      return it != found.end() ? *it : found.emplace_back(Group{name, file});
    };
    for (std::size_t i = 0; i < view->plan->rules.size(); ++i) {
      const rules::AlertingRule& rule = view->plan->rules[i];
      const std::string group = rule.group.empty() ? "rules" : rule.group;
      if (!wanted(names, rule.name) || !wanted(groups, group)) continue;
      const auto state = states.find(i);
      group_of(group, rule.place.file)
          .rules.push(rule_json(rule, state == states.end() ? nullptr : state->second, by_rule[i]));
    }
    for (const auto& [name, alerts] : built_in) {
      if (wanted(names, name) && wanted(groups, "logbell"))
        group_of("logbell", "").rules.push(built_in_json(name, alerts, view->at));
    }
    for (Group& group : found) {
      Json json;
      json.set("name", std::move(group.name))
          .set("file", std::move(group.file))
          .set("interval", 0.0)  // nothing waits for an interval here
          .set("rules", std::move(group.rules))
          .set("evaluationTime", 0.0)
          .set("lastEvaluation", time_text(view->at));
      listed.push(std::move(json));
    }
  }
  Json data;
  data.set("groups", std::move(listed));
  return success(std::move(data));
}

HttpResponse Api::sources() const {
  const auto view = options_.core();
  const auto streams = options_.streams();
  Json list = Json::Array{};
  if (view) {
    for (const rules::SourceSpec& source : view->plan->sources) {
      Json files = Json::Array{};
      for (const std::string& glob : source.files)
        files.push(glob);
      Json listening = Json::Array{};
      for (const rules::StreamSpec& stream : source.streams)
        listening.push(stream.text);
      Json found = Json::Array{};
      bool readable = false;
      std::uint64_t lag = 0;
      for (const StreamView& stream : streams ? *streams : std::vector<StreamView>{}) {
        if (stream.source != source.name) continue;
        const std::uint64_t behind = stream.size > stream.offset ? stream.size - stream.offset : 0;
        readable = readable || stream.readable;
        lag += behind;
        Json json;
        json.set("path", stream.path)
            .set("size_bytes", stream.size)
            .set("offset_bytes", stream.offset)
            .set("lag_bytes", behind)
            .set("readable", stream.readable)
            .set("mode", stream.polled ? "poll" : "watch")
            .set("error", stream.error);
        found.push(std::move(json));
      }
      Json json;
      json.set("name", source.name)
          .set("files", std::move(files))
          .set("stdin", source.is_stdin)
          .set("inputs", std::move(listening))
          .set("readable", readable)
          .set("lag_bytes", lag)
          .set("streams", std::move(found));
      list.push(std::move(json));
    }
  }
  Json data;
  data.set("sources", std::move(list));
  return success(std::move(data));
}

namespace {

std::string_view to_string(DeliveryState state) {
  switch (state) {
    case DeliveryState::kDelivered:
      return "delivered";
    case DeliveryState::kDead:
      return "dead";
    case DeliveryState::kSuperseded:
      return "superseded";
    case DeliveryState::kPending:
    case DeliveryState::kInFlight:
      break;
  }
  return "pending";
}

Json receipt_json(const Receipt& receipt) {
  Json alerts = Json::Array{};
  for (const std::string& name : receipt.alerts)
    alerts.push(name);
  Json json;
  json.set("at", rules::format_rfc3339(receipt.at))
      .set("sink", receipt.sink)
      .set("lane", receipt.lane)
      .set("state", to_string(receipt.state))
      .set("alerts", std::move(alerts))
      .set("why", receipt.why)
      .set("drill", receipt.drill)
      .set("fallback_for", receipt.fallback_for)
      .set("receipt", receipt.receipt)
      .set("outcome", receipt.outcome)
      .set("reason", receipt.reason)
      .set("detail", receipt.detail)
      .set("attempts", static_cast<std::uint64_t>(receipt.attempts))
      .set("caused_at", time_or_null(receipt.caused_at))
      .set("created_at", time_or_null(receipt.created_at))
      .set("key", receipt.key);
  return json;
}

// What of the history is asked for.
struct Asked {
  // In one answer: more would keep a health check waiting.
  static constexpr std::size_t kMostAnswered = 1'000;
  std::string_view sink, alert, state, drill;
  std::size_t limit = 100;

  bool filters() const { return !sink.empty() || !alert.empty() || !state.empty() || !drill.empty(); }
  bool takes(const Receipt& receipt) const {
    return (sink.empty() || receipt.sink == sink) && (state.empty() || to_string(receipt.state) == state) &&
           (drill.empty() || receipt.drill.empty() == (drill == "false")) &&
           (alert.empty() || std::find(receipt.alerts.begin(), receipt.alerts.end(), alert) != receipt.alerts.end());
  }
};

}  // namespace

HttpResponse Api::deliveries(const HttpRequest& request) const {
  Asked asked{request.query_value("sink"), request.query_value("alertname"), request.query_value("state"),
              request.query_value("drill")};
  if (!asked.state.empty() && asked.state != "delivered" && asked.state != "dead" && asked.state != "superseded")
    return failure(400, "bad_data", "state is delivered, dead or superseded");
  if (!asked.drill.empty() && asked.drill != "true" && asked.drill != "false")
    return failure(400, "bad_data", "drill is true or false");
  if (const std::string_view limit = request.query_value("limit"); !limit.empty()) {
    const auto [end, error] = std::from_chars(limit.data(), limit.data() + limit.size(), asked.limit);
    if (error != std::errc() || end != limit.data() + limit.size() || asked.limit == 0 ||
        asked.limit > Asked::kMostAnswered)
      return failure(400, "bad_data", fmt::format("limit is a number from 1 to {}", Asked::kMostAnswered));
  }
  Json list = Json::Array{};
  if (options_.deliveries) {
    const auto found = options_.deliveries(asked.filters() ? Store::kMaxHistory : asked.limit);
    if (!found) return failure(503, "unavailable", found.error().message);
    std::size_t taken = 0;
    for (const Receipt& receipt : *found) {
      if (!asked.takes(receipt)) continue;
      if (++taken > asked.limit) break;
      list.push(receipt_json(receipt));
    }
  }
  Json data;
  data.set("deliveries", std::move(list));
  return success(std::move(data));
}

namespace {

// What it answered when it was asked; null: it cannot be, or was not yet.
Json verification_of(const Verdicts& verdicts, const std::string& lane) {
  const auto found = verdicts.find(lane);
  if (found == verdicts.end()) return {};
  const sinks::Verification& verification = found->second.found;
  Json json;
  json.set("verdict", to_string(verification.verdict))
      .set("level", to_string(verification.level))
      .set("evidence", verification.evidence)
      .set("at", rules::format_rfc3339(found->second.at))
      .set("certificate_ends", time_or_null(verification.certificate_ends));
  if (verification.verdict != sinks::Verification::Verdict::kLive)
    json.set("reason", to_string(verification.reason));
  return json;
}

}  // namespace

HttpResponse Api::sinks() const {
  const auto view = options_.core();
  const std::vector<LaneView> lanes = options_.lanes();
  const Verdicts verdicts = options_.verdicts ? options_.verdicts() : Verdicts();
  Json list = Json::Array{};
  if (view) {
    for (const auto& [name, sink] : view->plan->sinks) {
      Json found = Json::Array{};
      for (const LaneView& lane : lanes) {
        if (lane.sink != name) continue;
        Json json;
        json.set("lane", lane.lane)
            .set("state", to_string(lane.state))
            .set("pending", lane.pending)
            .set("oldest", time_or_null(lane.oldest))
            .set("last_delivered", time_or_null(lane.last_delivered))
            .set("last_receipt", lane.last_receipt)
            .set("last_error", lane.last_error)
            .set("last_error_at", time_or_null(lane.last_error_at))
            .set("paused_until", time_or_null(lane.paused_until))
            .set("failures", static_cast<std::uint64_t>(lane.failures))
            .set("attempts", lane.attempts)
            .set("delivered", lane.delivered)
            .set("dead", lane.dead)
            .set("handed_over", lane.handed_over)
            .set("superseded", lane.superseded)
            .set("rate_limited", lane.rate_limited)
            .set("coalesced", lane.coalesced)
            .set("verification", verification_of(verdicts, lane.lane));
        found.push(std::move(json));
      }
      Json fallback = Json::Array{};
      for (const std::string& other : sink.fallback)
        fallback.push(other);
      Json json;
      json.set("name", name)
          .set("type", sink.type)
          .set("destination", options_.destination(name))
          .set("tells_people", sink.tells_people)
          .set("pages", sink.pages)
          .set("fallback", std::move(fallback))
          .set("lanes", std::move(found));
      list.push(std::move(json));
    }
  }
  Json data;
  data.set("sinks", std::move(list));
  return success(std::move(data));
}

namespace {

// Those of `names` of which no person is told on some way, only a machine. Null: nothing is known.
Json machine_only(const CoreView* view, const std::set<std::string>& names) {
  Json list = Json::Array{};
  if (view == nullptr) return list;
  for (const std::string& rule : rules::rules_for_machines(*view->plan)) {
    if (names.count(rule) != 0) list.push(rule);
  }
  return list;
}

Json names_json(const std::vector<std::string>& names) {
  Json list = Json::Array{};
  for (const std::string& name : names)
    list.push(name);
  return list;
}

// `view`: says at which sinks a person can acknowledge; may be null.
Json drill_json(const DrillReport& report, const CoreView* view) {
  Json pairs = Json::Array{};
  std::set<std::string> names;
  for (const DrillPair& pair : report.pairs) {
    names.insert(pair.alert);
    Json json;
    bool acknowledges = false;
    if (view != nullptr) {
      const auto sink = view->plan->sinks.find(pair.sink);
      acknowledges = sink != view->plan->sinks.end() && sink->second.acknowledges;
    }
    json.set("alertname", pair.alert).set("sink", pair.sink).set("lane", pair.lane);
    if (!pair.instead_of.empty()) json.set("instead_of", pair.instead_of);
    if (!pair.stands_in_for.empty()) json.set("fallback_for", names_json(pair.stands_in_for));
    json.set("state", to_string(pair.state))
        .set("read", time_or_null(pair.read))
        .set("matched", time_or_null(pair.matched))
        .set("routed", time_or_null(pair.routed))
        .set("stored", time_or_null(pair.stored))
        .set("accepted", time_or_null(pair.receipt))
        .set("receipt", pair.receipt_text)
        .set("reads_back", pair.reads_back)
        .set("found", time_or_null(pair.found))
        .set("found_evidence", pair.found_text)
        .set("can_be_acknowledged", acknowledges)
        .set("acknowledged", time_or_null(pair.acknowledged))
        .set("acknowledged_by", pair.acknowledged_by)
        .set("attempts", static_cast<std::uint64_t>(pair.attempts))
        .set("failed_at", pair.failed_at)
        .set("reason", pair.why);
    pairs.push(std::move(json));
  }
  Json json;
  json.set("id", report.id)
      .set("scheduled", report.scheduled)
      .set("started", rules::format_rfc3339(report.started))
      .set("ended", time_or_null(report.ended))
      .set("proven", report.proven())
      .set("source", report.source)
      .set("mark", report.mark)
      .set("lines", names_json(report.lines))
      .set("machine_only", machine_only(view, names))
      .set("notes", names_json(report.notes))
      .set("pairs", std::move(pairs));
  return json;
}

Json proof_json(const Proof& proof, const ProofView& view) {
  Json json;
  json.set("level", to_string(proof.level))
      .set("at", rules::format_rfc3339(proof.at))
      .set("age_seconds", std::max(0.0, in_seconds(view.now - proof.at)))
      .set("expired", view.is_old(proof))
      .set("by", proof.by)
      .set("evidence", proof.evidence);
  if (proof.took) json.set("who", proof.who).set("took_seconds", in_seconds(*proof.took));
  return json;
}

}  // namespace

HttpResponse Api::begin_drill(const HttpRequest& request) const {
  if (std::optional<HttpResponse> no = refuse_change(request)) return *std::move(no);
  const auto view = options_.core();
  if (options_.drills == nullptr || !view)
    return failure(503, "unavailable", "nothing runs that could be drilled");
  DrillDesk::Request wanted;
  const auto body = Json::parse(request.body.empty() ? "{}" : std::string_view(request.body));
  if (!body || !body->is_object()) return failure(400, "bad_data", "the body is no JSON object");
  for (const auto& [name, value] : body->object()) {
    if (name == "rules") {
      for (const Json& rule : value.array())
        wanted.rules.emplace_back(rule.string());
    } else if (name == "sink") {
      wanted.sink = value.string();
    } else if (name == "source") {
      wanted.source = value.string();
    } else if (name == "file") {
      // Whoever writes there knows a path; which source reads it is ours to know.
      const auto streams = options_.streams();
      for (const StreamView& stream : streams ? *streams : std::vector<StreamView>{}) {
        if (stream.path == value.string()) wanted.source = stream.source;
      }
      if (wanted.source.empty())
        return failure(400, "bad_data",
                       "that file is not followed by any source; /api/v1/sources lists those that are");
    } else if (name == "how" && value.string() == "via_log") {
      wanted.how = DrillDesk::How::kViaLog;
    } else if (name == "how" && value.string() == "issue") {
      wanted.how = DrillDesk::How::kIssue;
    } else if (name != "how" || value.string() != "inside") {
      return failure(400, "bad_data",
                     "members are rules, sink, source, file and how, which is inside, via_log or issue");
    }
  }
  const rules::Result<DrillReport> begun = options_.drills->begin(*view->plan, wanted);
  if (!begun) {
    const bool wrong = begun.error().code == rules::ErrorCode::kInvalid;
    return failure(wrong ? 400 : 503, wrong ? "bad_data" : "unavailable", begun.error().message);
  }
  return success(drill_json(*begun, view.get()));
}

HttpResponse Api::drills() const {
  Json list = Json::Array{};
  if (options_.drills != nullptr) {
    const auto view = options_.core();
    for (const DrillReport& report : options_.drills->reports())
      list.push(drill_json(report, view.get()));
  }
  Json data;
  data.set("drills", std::move(list));
  return success(std::move(data));
}

HttpResponse Api::drill(std::string_view id) const {
  const auto report = options_.drills == nullptr ? std::nullopt : options_.drills->report(std::string(id));
  if (!report)
    return failure(404, "not_found", "there is no such drill; /api/v1/drills lists those of this process");
  return success(drill_json(*report, options_.core().get()));
}

HttpResponse Api::proof() const {
  Json list = Json::Array{};
  std::set<std::string> names;
  for (const ProofView& view : options_.proofs ? options_.proofs() : std::vector<ProofView>{}) {
    names.insert(view.alert);
    Json proofs = Json::Array{};
    for (const Proof& proof : view.proofs)
      proofs.push(proof_json(proof, view));
    Json json;
    json.set("alertname", view.alert)
        .set("rule", rules::format_fingerprint(view.rule))
        .set("sink", view.sink)
        .set("fallback_for", names_json(view.stands_in_for))
        .set("conditional", view.conditional)
        .set("asked_for", view.asked_for)
        .set("reached", to_string(view.reached()))
        .set("proofs", std::move(proofs));
    if (view.failed) json.set("failed", proof_json(*view.failed, view));
    list.push(std::move(json));
  }
  Json data;
  data.set("proofs", std::move(list)).set("machine_only", machine_only(options_.core().get(), names));
  return success(std::move(data));
}

HttpResponse Api::page() const {
  std::string html = fmt::format(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>logbell</title></head><body>\n"
      "<h1>logbell {}</h1>\n<ul>\n",
      options_.version);
  for (const Endpoint& endpoint : kEndpoints) {
    html += endpoint.method == "GET"
                ? fmt::format("<li><a href=\"{0}\">{0}</a>: {1}</li>\n", endpoint.path, endpoint.says)
                : fmt::format("<li>{} {}: {}</li>\n", endpoint.method, endpoint.path, endpoint.says);
  }
  html += "</ul>\n</body></html>\n";
  HttpResponse response = answer(200, std::move(html));
  response.content_type = "text/html; charset=utf-8";
  response.headers.emplace_back("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'");
  return response;
}

}  // namespace logbell::engine

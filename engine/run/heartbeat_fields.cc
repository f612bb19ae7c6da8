#include "engine/run/heartbeat_fields.h"

#include <algorithm>
#include <string_view>

#include <fmt/format.h>

#include "engine/run/config_keys.h"
#include "engine/run/sink_fields.h"
#include "sinks/registry.h"

namespace logbell::engine {

using rules::Duration;
using rules::Fields;
using rules::ForeignKey;

namespace {

// A ping a second is as often as anybody means; a day without one is no heartbeat.
constexpr Duration kLeastEvery{std::chrono::seconds(1)};
constexpr Duration kMostEvery{std::chrono::hours(24)};
// healthchecks.io drops more than five pings a minute of one check (SINKS.md §12).
constexpr Duration kHealthchecksLeast{std::chrono::seconds(12)};

const std::vector<std::string> kStyles{"healthchecks", "snitch", "plain"};
const std::vector<ForeignKey> kForeignKeys{
    {"interval", "it is called `every:` here", "as in every: 1m"},
    {"grace", "how long it may be late, its receiver decides",
     "set it there; of another logbell in `heartbeats:`"},
    {"name", "its name is in the URL", "remove it"}};
const std::vector<ForeignKey> kForeignListenedKeys{
    {"interval", "it is called `every:` here", "as in every: 1m"},
    {"timeout", "how late it may be is `grace:`", "as in grace: 2m"},
    {"url", "it comes to this logbell, at /api/v1/heartbeats/NAME",
     "remove it; whom logbell itself pings is `heartbeat:`"},
    {"bearer_token", "it is called `token:` here", "write `token_file: PATH`"}};

std::optional<Duration> between(const Fields& fields, std::string_view key, Duration least) {
  const std::optional<Duration> found = fields.duration(key);
  if (!found || (*found >= least && *found <= kMostEvery)) return found;
  fields.error(key,
               fmt::format("\"{}\" is at least {} and at most {}", key, rules::format_duration(least),
                           rules::format_duration(kMostEvery)),
               "as in 1m");
  return std::nullopt;
}

bool is_uuid(std::string_view text) {
  if (text.size() != 36) return false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool dash = i == 8 || i == 13 || i == 18 || i == 23;
    if (dash ? text[i] != '-'
             : std::string_view("0123456789abcdefABCDEF").find(text[i]) == std::string_view::npos)
      return false;
  }
  return true;
}

// "https://a.example.com, http://b:9093" -> their hosts.
std::vector<std::string> hosts_in(const std::string& destination) {
  std::vector<std::string> hosts;
  for (std::size_t at = 0; at < destination.size();) {
    const std::size_t end = std::min(destination.find_first_of(", ", at), destination.size());
    if (const auto url = sinks::parse_url(std::string_view(destination).substr(at, end - at)))
      hosts.push_back(url->host);
    at = end + 1;
  }
  return hosts;
}

bool all_loopback(const std::string& destination) {
  bool any = false;
  for (std::size_t at = 0; at < destination.size();) {
    const std::size_t end = std::min(destination.find_first_of(", ", at), destination.size());
    if (const auto url = sinks::parse_url(std::string_view(destination).substr(at, end - at))) {
      if (!url->is_loopback()) return false;
      any = true;
    }
    at = end + 1;
  }
  return any;
}

// Whatever breaks the alerts' way must leave the heartbeat's, or it breaks in the same moment, unnoticed.
void check_path(const Fields& fields, const HeartbeatSettings& heartbeat, const std::string& destination,
                const std::string& proxy, const std::vector<AlertsPath>& alerts) {
  const std::string key = heartbeat.sink ? "sink" : fields.has("url") ? "url" : "url_file";
  for (const AlertsPath& alert : alerts) {
    const bool same = !heartbeat.sink &&
                      (std::any_of(alert.secrets.begin(), alert.secrets.end(),
                                   [&](const rules::Secret& secret) { return secret == heartbeat.url; }) ||
                       alert.destination == heartbeat.url.reveal());
    if (same) {
      fields.error(
          key,
          fmt::format("it is the URL of the sink \"{}\": a person would get each heartbeat, and nobody "
                      "would miss them",
                      alert.sink),
          "name something that rings when nothing comes, as healthchecks.io, Dead Man's Snitch or another "
          "logbell");
      return;
    }
  }
  if (all_loopback(destination)) {
    fields.warn(fields.place(key), "the heartbeat ends on this machine: should that die, nobody would notice",
                "send it to another one");
    return;
  }
  for (const AlertsPath& alert : alerts) {
    const std::vector<std::string> theirs = hosts_in(alert.destination);
    const std::vector<std::string> ours = hosts_in(destination);
    const auto host = std::find_first_of(ours.begin(), ours.end(), theirs.begin(), theirs.end());
    if (host == ours.end()) continue;
    fields.warn(
        fields.place(key),
        fmt::format(
            "its host {} is that of the sink \"{}\": when it cannot be reached, neither alerts nor the "
            "heartbeat are heard, and who watches it may be down with it",
            *host, alert.sink),
        "send it another way");
    return;
  }
  for (const AlertsPath& alert : alerts) {
    const rules::Result<sinks::Url> named = sinks::parse_url(alert.proxy);
    const rules::Result<sinks::Url> mine = sinks::parse_url(proxy);
    if (!mine || !named || named->shown != mine->shown) continue;
    fields.warn(
        heartbeat.sink ? fields.place("sink") : fields.place("proxy"),
        fmt::format("its proxy {} is that of the sink \"{}\": when that one is down, neither alerts nor the "
                    "heartbeat get out",
                    mine->shown, alert.sink),
        "send it another way, or directly: `proxy: none`");
    return;
  }
}

// `heartbeat: {sink: NAME}`.
bool read_through(const Fields& fields, const HeartbeatSink& sink, HeartbeatSettings& made) {
  bool good = true;
  for (const rules::Key& row : heartbeat_keys().keys) {
    const std::string_view key = row.name;
    if (key == "sink" || key == "every" || key == "timeout" || !fields.has(key)) continue;
    fields.error(key, fmt::format("\"{}\" belongs to a heartbeat with `url:`; this one goes through sink \"{}\"", key, sink.name),
                 "remove it: the sink has what it needs");
    good = false;
  }
  if (!sink.type->takes_heartbeats) {
    std::vector<std::string> types;
    for (const sinks::SinkType& type : sinks::sink_types()) {
      if (type.takes_heartbeats) types.emplace_back(type.key);
    }
    fields.error("sink",
                 fmt::format("a sink of type `{}` cannot take a heartbeat: a person would get each one, or nobody would, "
                             "and nobody would miss them",
                             sink.type->key),
                 fmt::format("name a sink of type {}, or write `url:`", rules::list_words(types)));
    return false;
  }
  made.style = HeartbeatStyle::kWatchdog;
  made.shown = fmt::format("sink {} ({})", sink.name, sink.config->destination());
  made.secret_keys = sink.secret_keys;
  made.http.timeout = HeartbeatSettings::kTimeout;
  constexpr Duration kLeastTimeout{std::chrono::milliseconds(100)};
  constexpr Duration kMostTimeout{std::chrono::seconds(15)};
  if (const auto timeout = fields.duration("timeout")) {
    if (*timeout < kLeastTimeout || *timeout > kMostTimeout) {
      fields.error("timeout",
                   fmt::format("a timeout is at least {} and at most {}", rules::format_duration(kLeastTimeout),
                               rules::format_duration(kMostTimeout)),
                   "as in 10s");
      good = false;
    }
    made.http.timeout = *timeout;
  }
  // What forgets is told twice before it does.
  if (sink.type->refresh && made.every > 2 * *sink.type->refresh) {
    fields.error("every",
                 fmt::format("{} forgets what it is not told again: the heartbeat would end by itself between two",
                             sink.type->key),
                 fmt::format("at most {}", rules::format_duration(2 * *sink.type->refresh)));
    good = false;
  }
  return good;
}

bool is_plain_name(std::string_view name) {
  return !name.empty() && name.size() <= 100 &&
         name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") ==
             std::string_view::npos &&
         name.find_first_not_of('.') != std::string_view::npos;
}

}  // namespace

std::string_view to_string(HeartbeatStyle style) {
  if (style == HeartbeatStyle::kWatchdog) return "watchdog";
  return kStyles[static_cast<std::size_t>(style)];
}

std::vector<rules::Secret> HeartbeatSettings::secrets() const {
  std::vector<rules::Secret> all = http.secrets();
  if (!url.empty()) all.push_back(url);
  if (sink) {
    for (rules::Secret& secret : sink->config->secrets())
      all.push_back(std::move(secret));
  }
  return all;
}

// hc-ping.com is healthchecks.io's; a Healthchecks of one's own has them at /ping/UUID; another logbell's API
// understands the same.
HeartbeatStyle guess_style(const sinks::Url& url) {
  const std::string_view path = std::string_view(url.path).substr(0, url.path.find('?'));
  const std::string_view last = path.substr(path.rfind('/') + 1);
  if (url.host == "hc-ping.com") return HeartbeatStyle::kHealthchecks;
  if (path.find("/ping/") != std::string_view::npos && is_uuid(last)) return HeartbeatStyle::kHealthchecks;
  if (path.find("/api/v1/heartbeats/") != std::string_view::npos) return HeartbeatStyle::kHealthchecks;
  if (url.host == "nosnch.in") return HeartbeatStyle::kSnitch;
  return HeartbeatStyle::kPlain;
}

std::optional<rules::Text> heartbeats_sink(const Fields& top) {
  const rules::yaml::Node* node = top.raw("heartbeat");
  const rules::yaml::Node* named = node == nullptr || !node->is_map() ? nullptr : node->find("sink");
  if (named == nullptr || !named->is_scalar()) return std::nullopt;
  return top.reading().fill_in(*named, "heartbeat");
}

std::optional<HeartbeatSettings> read_heartbeat(const Fields& top, const ConfigWorld& world,
                                                const std::vector<AlertsPath>& alerts,
                                                std::optional<HeartbeatSink> sink) {
  const rules::yaml::Node* node = top.raw("heartbeat");
  if (node == nullptr) return std::nullopt;
  if (!node->is_map() && !node->is_null()) {
    top.reading().problems->error(node->place, "heartbeat", "it is a map with the URL of who watches",
                                  "as in heartbeat: {url_file: /run/secrets/heartbeat}");
    return std::nullopt;
  }
  const Fields fields(*node, "heartbeat", top.reading(), heartbeat_keys(), kForeignKeys);
  SinkFields reader(fields, world);
  HeartbeatSettings made;
  made.place = node->place;
  bool good = true;
  const auto every = between(fields, "every", kLeastEvery);
  if (every) made.every = *every;
  good = good && (every || !fields.has("every"));
  if (fields.has("sink")) {
    if (!sink || !read_through(fields, *sink, made) || !good) return std::nullopt;
    made.sink = std::move(sink);
    if (!fields.reading().assume)
      check_path(fields, made, made.sink->config->destination(), made.sink->proxy, alerts);
    return made;
  }
  if (const auto style = fields.word("style")) made.style = static_cast<HeartbeatStyle>(*style);
  if (const auto method = fields.word("method")) made.get = *method == 1;
  std::optional<sinks::HttpOptions> http = sinks::read_http_options(reader);
  good = http && sinks::read_authorization(reader, *http) && good;
  if (http) {
    if (!fields.has("timeout")) http->timeout = HeartbeatSettings::kTimeout;
    made.http = *std::move(http);
  }
  const std::optional<rules::Secret> secret = reader.secret("url", true);
  if (!secret) return std::nullopt;
  made.url = *secret;
  made.secret_keys = reader.secret_keys();
  const std::string key = fields.has("url") ? "url" : "url_file";
  const std::optional<sinks::Url> url = sinks::check_url(reader, key, secret->reveal(), true);
  if (!url) return std::nullopt;
  made.shown = url->shown;
  if (!fields.has("style")) made.style = guess_style(*url);
  if (!fields.reading().assume) check_path(fields, made, url->shown, made.http.proxy.value_or(""), alerts);
  if (made.style == HeartbeatStyle::kHealthchecks && url->host == "hc-ping.com" &&
      made.every < kHealthchecksLeast) {
    fields.warn(fields.place("every"), "healthchecks.io drops more than five pings a minute",
                "as in every: 1m");
  }
  if (!good) return std::nullopt;
  return made;
}

std::map<std::string, ListenedFor> read_heartbeats(const Fields& top, const ConfigWorld& world,
                                                   bool only_this_machine) {
  std::map<std::string, ListenedFor> out;
  const rules::yaml::Node* all = top.map("heartbeats");
  if (all == nullptr) return out;
  for (const rules::yaml::Entry& entry : all->entries) {
    const std::string subject = fmt::format("heartbeat \"{}\"", entry.key);
    const Fields fields(entry.value, subject, top.reading(), listened_heartbeat_keys(),
                        kForeignListenedKeys);
    if (!is_plain_name(entry.key))
      fields.error(entry.key_place, "a heartbeat cannot be called that",
                   "at most 100 letters, digits, \"_\", \"-\" and \".\": it is part of a URL");
    if (!entry.value.is_map() && !entry.value.is_null()) continue;
    ListenedFor made;
    made.place = entry.key_place;
    if (const auto every = between(fields, "every", kLeastEvery)) made.every = *every;
    if (const auto grace = between(fields, "grace", Duration(0))) made.grace = *grace;
    SinkFields reader(fields, world);
    const bool has_token = fields.has("token") || fields.has("token_file");
    if (has_token) {
      if (const auto token = reader.secret("token", false)) made.token = *token;
    } else if (!only_this_machine) {
      fields.error(
          entry.key_place,
          "logbell listens where other machines can ask, and without a token each of them could say that "
          "this one lives",
          "write `token_file: PATH`, and give its sender the same as `bearer_token_file:`; or let `listen:` "
          "be a "
          "loopback address");
    }
    out.emplace(entry.key, std::move(made));
  }
  return out;
}

}  // namespace logbell::engine

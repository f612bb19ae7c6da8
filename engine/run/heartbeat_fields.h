// `heartbeat:` and `heartbeats:` of a configuration: where logbell says that it lives, and whose heartbeats
// it listens for.
//
// Values; pure but for the secrets' files. Used by the thread that compiles the configuration.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "rules/fields.h"
#include "rules/labels.h"
#include "rules/problems.h"
#include "rules/secret.h"
#include "rules/time.h"
#include "sinks/http.h"
#include "sinks/sink.h"

namespace logbell::engine {

struct ConfigWorld;

// What the receiver understands besides "I live".
enum class HeartbeatStyle {
  kHealthchecks,  // healthchecks.io, self-hosted or not, and another logbell: URL/fail, URL/log
  kSnitch,        // Dead Man's Snitch: a message as ?m=
  kPlain,         // any request means life; what is bad is said by silence
  kWatchdog,      // a sink: an alert that fires while logbell lives; what is bad resolves it
};
std::string_view to_string(HeartbeatStyle style);  // as written: "healthchecks"

// A sink that the heartbeat goes through, and no alert.
struct HeartbeatSink {
  std::string name;
  const sinks::SinkType* type = nullptr;
  std::shared_ptr<const sinks::SinkConfig> config;
  std::vector<std::string> secret_keys;
  std::string proxy;     // that it names; "": none
  rules::Labels labels;  // what its alert says of this logbell
  sinks::SinkContext context;
};

// `heartbeat:`. Where logbell says that it lives.
struct HeartbeatSettings {
  static constexpr rules::Duration kEvery{std::chrono::minutes(1)};
  static constexpr rules::Duration kTimeout{std::chrono::seconds(10)};  // as healthchecks.io advises

  rules::Place place;
  rules::Secret url;  // "" of a sink
  std::optional<HeartbeatSink> sink;     // of kWatchdog
  std::string shown;                     // scheme://host, or the sink and where it leads: what may be printed
  std::vector<std::string> secret_keys;  // of those that it has, sorted
  HeartbeatStyle style = HeartbeatStyle::kPlain;
  rules::Duration every = kEvery;
  bool get = false;  // GET instead of POST, without a body
  sinks::HttpOptions http;

  std::vector<rules::Secret> secrets() const;
};

// One of `heartbeats:`. Whom logbell listens for.
struct ListenedFor {
  rules::Place place;
  rules::Duration every = HeartbeatSettings::kEvery;
  rules::Duration grace{std::chrono::minutes(2)};
  rules::Secret token;  // that its sender must know; "": whoever may ask for a reload may send it
};

// A sink, as far as the heartbeat's way may not be its.
struct AlertsPath {
  std::string sink;
  std::string destination;             // scheme://host, or several, for people
  std::vector<rules::Secret> secrets;  // its URL is one of them
  std::string proxy = {};              // that it names; "": none
};

// The sink that `heartbeat:` names; nothing where it names none.
std::optional<rules::Text> heartbeats_sink(const rules::Fields& top);
// Nothing where it is not there or wrong; problems are recorded at their places. `sink`: the one that it names,
// where that one can be used; it is none of `alerts`.
std::optional<HeartbeatSettings> read_heartbeat(const rules::Fields& top, const ConfigWorld& world,
                                                const std::vector<AlertsPath>& alerts,
                                                std::optional<HeartbeatSink> sink);
std::map<std::string, ListenedFor> read_heartbeats(const rules::Fields& top, const ConfigWorld& world,
                                                   bool only_this_machine);

// What the URL's host and path say.
HeartbeatStyle guess_style(const sinks::Url& url);

}  // namespace logbell::engine

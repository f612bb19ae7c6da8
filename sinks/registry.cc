#include "sinks/registry.h"

#include <algorithm>
#include <chrono>

#include "sinks/alertmanager.h"
#include "sinks/console.h"
#include "sinks/email.h"
#include "sinks/exec.h"
#include "sinks/file.h"
#include "sinks/pagerduty.h"
#include "sinks/sink_keys.h"
#include "sinks/slack.h"
#include "sinks/slack_app.h"
#include "sinks/webhook.h"

namespace logbell::sinks {
namespace {

using std::chrono::seconds;

// More than one in three seconds, and nobody reads any.
constexpr std::uint32_t kReadByPeople = 20;

std::vector<SinkType> make_types() {
  std::vector<SinkType> types;

  SinkType slack;
  slack.key = "slack";
  slack.parse = parse_slack;
  // Slack's own limit for incoming webhooks; going past it can cost the app.
  slack.min_interval = seconds(1);
  slack.messages_per_minute = kReadByPeople;
  slack.verifies = ProofLevel::kCredential;
  slack.shows_links = true;
  types.push_back(slack);

  SinkType slack_app;
  slack_app.key = "slack_app";
  slack_app.parse = parse_slack_app;
  // chat.postMessage: one a second and channel.
  slack_app.min_interval = seconds(1);
  slack_app.messages_per_minute = kReadByPeople;
  slack_app.follows = true;
  slack_app.verifies = ProofLevel::kDestination;
  slack_app.reads_back = true;
  slack_app.shows_links = true;
  types.push_back(slack_app);

  SinkType pagerduty;
  pagerduty.key = "pagerduty";
  pagerduty.parse = parse_pagerduty;
  pagerduty.pages = true;
  // An incident an alert: pagerduty.h says why.
  pagerduty.per_alert = true;
  pagerduty.stays_open = true;
  // About 120 events a minute and integration key.
  pagerduty.min_interval = std::chrono::milliseconds(500);
  pagerduty.verifies = ProofLevel::kCredential;
  pagerduty.reads_back = true;
  pagerduty.tells_who = true;
  pagerduty.shows_links = true;
  types.push_back(pagerduty);

  SinkType alertmanager;
  alertmanager.key = "alertmanager";
  alertmanager.parse = parse_alertmanager;
  // What it does with an alert is its own affair: it may page, so it gets no summaries of what is over.
  alertmanager.pages = true;
  alertmanager.per_alert = true;
  alertmanager.refresh = seconds(60);
  alertmanager.reads_back = true;
  alertmanager.takes_heartbeats = true;
  alertmanager.verifies = ProofLevel::kCredential;
  types.push_back(alertmanager);

  SinkType email;
  email.key = "email";
  email.parse = parse_email;
  email.messages_per_minute = kReadByPeople;
  email.verifies = ProofLevel::kDestination;
  // Who names recipients and sends nothing looks like one who collects addresses.
  email.verify_every = std::chrono::hours(24);
  email.shows_links = true;
  types.push_back(email);

  SinkType webhook;
  webhook.key = "webhook";
  webhook.parse = parse_webhook;
  webhook.stays_open = true;  // whatever is behind it may be a pager
  webhook.verifies = ProofLevel::kCredential;
  webhook.takes_heartbeats = true;
  webhook.shows_links = true;
  types.push_back(webhook);

  SinkType exec;
  exec.key = "exec";
  exec.parse = parse_exec;
  // Whether anybody hears of what it does cannot be known; it may well page.
  exec.pages = true;
  exec.stays_open = true;
  exec.verifies = ProofLevel::kNetwork;
  exec.takes_heartbeats = true;
  exec.shows_links = true;
  types.push_back(exec);

  SinkType file;
  file.key = "file";
  file.parse = parse_file;
  file.tells_people = false;
  file.verifies = ProofLevel::kDestination;
  types.push_back(file);

  SinkType console;
  console.key = "console";
  console.parse = parse_console;
  console.tells_people = false;
  console.verifies = ProofLevel::kDestination;
  types.push_back(console);

  for (SinkType& type : types) {
    for (const rules::Key& key : find_sink_keys(type.key)->keys)
      type.keys.push_back(key.name);
  }
  return types;
}

}  // namespace

std::span<const SinkType> sink_types() {
  static const std::vector<SinkType> kTypes = make_types();
  return kTypes;
}

const SinkType* find_sink_type(std::string_view key) {
  const std::span<const SinkType> types = sink_types();
  const auto found =
      std::find_if(types.begin(), types.end(), [&](const SinkType& type) { return type.key == key; });
  return found == types.end() ? nullptr : &*found;
}

}  // namespace logbell::sinks

#include "sinks/sink_keys.h"

#include <algorithm>
#include <utility>

namespace logbell::sinks {
namespace {

using rules::Key;
using rules::KeyTable;
using rules::Shape;

const Shape kText = Shape::text();

std::vector<Key> operator+(std::vector<Key> keys, const std::vector<Key>& more) {
  keys.insert(keys.end(), more.begin(), more.end());
  return keys;
}

const KeyTable& probe_keys() {
  static const KeyTable kTable{
      "webhook_probe",
      "How the receiver is asked whether it is there.",
      {{"path", "Of its own host.", {kText}, false, "that of `url:`"},
       {"method", "Asks without telling.", {Shape::word({"GET", "HEAD"})}, false, "GET"},
       {"expect", "Statuses that say it is.", {Shape::list({Shape::integer(200, 599)})}}}};
  return kTable;
}

const KeyTable& slack_keys() {
  static const KeyTable kTable{
      "slack",
      "Slack's incoming webhook.",
      std::vector<Key>{{"webhook_url", "The webhook's URL, a secret: a variable.", {kText}},
                       {"webhook_url_file", "A file that holds it.", {kText}}} +
          http_keys(),
      {{"webhook_url", "webhook_url_file"}}};
  return kTable;
}
const KeyTable& slack_app_keys() {
  static const KeyTable kTable{
      "slack_app",
      "Slack's Web API: one message an episode, changed as it goes on.",
      std::vector<Key>{{"token", "The bot's token, a secret: a variable.", {kText}},
                       {"token_file", "A file that holds it.", {kText}},
                       {"channel", "As in '#ops', or its id.", {kText}, true},
                       {"api_url", "Of Slack's API.", {kText}, false, "Slack's own"}} +
          http_keys(),
      {{"token", "token_file"}}};
  return kTable;
}
const KeyTable& pagerduty_keys() {
  static const KeyTable kTable{
      "pagerduty",
      "PagerDuty's Events API v2: an incident an alert.",
      std::vector<Key>{{"routing_key", "The integration's key, a secret: a variable.", {kText}},
                       {"routing_key_file", "A file that holds it.", {kText}},
                       {"url", "Of its Events API.", {kText}, false, "PagerDuty's own"},
                       {"api_token", "A token that may read incidents: then drills are looked for.", {kText}},
                       {"api_token_file", "A file that holds it.", {kText}},
                       {"api_url", "Of its REST API.", {kText}, false, "PagerDuty's own"}} +
          http_keys(),
      {{"routing_key", "routing_key_file"}}};
  return kTable;
}
const KeyTable& alertmanager_keys() {
  static const KeyTable kTable{
      "alertmanager",
      "Alertmanager, which groups and tells.",
      std::vector<Key>{{"url", "Its address.", {kText}},
                       {"urls", "Those of its peers; each is told.", {Shape::texts()}}} +
          authorization_keys() + http_keys(),
      {{"url", "urls"}}};
  return kTable;
}
const KeyTable& email_keys() {
  static const KeyTable kTable{
      "email", "Mail over SMTP: one thread an episode.",
      std::vector<Key>{{"to", "Who gets it.", {Shape::texts()}, true},
                       {"from", "Whom it is from.", {kText}, true},
                       {"server", "As in smtp://mail:587 or smtps://mail:465.", {kText}, true},
                       {"starttls",
                        "Whether the connection is encrypted.",
                        {Shape::word({"required", "if_available", "none"})},
                        false,
                        "required"},
                       {"username", "For the server.", {kText}},
                       {"password", "For the server, a secret: a variable.", {kText}},
                       {"password_file", "A file that holds it.", {kText}},
                       {"hello", "How this host calls itself there.", {kText}, false, "its name"}} +
          http_keys()};
  return kTable;
}
const KeyTable& webhook_keys() {
  static const KeyTable kTable{
      "webhook",
      "A URL that takes Alertmanager's webhook JSON.",
      std::vector<Key>{{"url", "Its URL; where it holds a token, a variable.", {kText}},
                       {"url_file", "A file that holds it.", {kText}},
                       {"secret", "Signs each message: a variable.", {kText}},
                       {"secret_file", "A file that holds it.", {kText}},
                       {"headers", "Further headers.", {Shape::map_of({kText})}},
                       {"receipt", "Where in its JSON answer the message's id is: $.data.id.", {kText}},
                       {"probe", "How it is asked whether it is there.", {Shape::map(probe_keys)}}} +
          authorization_keys() + http_keys(),
      {{"url", "url_file"}}};
  return kTable;
}
const KeyTable& exec_keys() {
  static const KeyTable kTable{
      "exec",
      "A program of yours, without a shell.",
      {{"command", "The program and its arguments.", {Shape::texts()}, true},
       {"timeout", "Then it is ended, with everything it started.", {Shape::duration()}, false, "10s"},
       {"env", "Variables of its environment.", {Shape::map_of({kText})}}}};
  return kTable;
}
const KeyTable& file_keys() {
  static const KeyTable kTable{"file", "A file of JSON lines.", {{"path", "The whole path.", {kText}, true}}};
  return kTable;
}
const KeyTable& console_keys() {
  static const KeyTable kTable{
      "console",
      "This process's terminal.",
      {{"stream", "Which one.", {Shape::word({"stdout", "stderr"})}, false, "stdout"},
       {"colour", "Whether it is coloured.", {Shape::word({"auto", "always", "never"})}, false, "auto"}},
      {},
      {},
      {},
      true};
  return kTable;
}

}  // namespace

const std::vector<Key>& http_keys() {
  static const std::vector<Key> kKeys{
      {"timeout", "So long an attempt may take.", {Shape::duration()}, false, "15s"},
      {"proxy", "A proxy's URL, or none.", {kText}, false, "that of the environment"},
      {"proxy_auth", "USER:PASSWORD for the proxy, a secret: a variable.", {kText}},
      {"proxy_auth_file", "A file that holds it.", {kText}},
      {"ca_file", "Certificates that are trusted instead of the system's.", {kText}}};
  return kKeys;
}

const std::vector<Key>& authorization_keys() {
  static const std::vector<Key> kKeys{
      {"bearer_token", "Sent as Authorization, a secret: a variable.", {kText}},
      {"bearer_token_file", "A file that holds it.", {kText}},
      {"username", "Or a user, with `password:`.", {kText}},
      {"password", "A secret: a variable.", {kText}},
      {"password_file", "A file that holds it.", {kText}}};
  return kKeys;
}

std::span<const SinkKeys> sink_keys() {
  static constexpr SinkKeys kAll[] = {
      {"slack", slack_keys},         {"slack_app", slack_app_keys},
      {"pagerduty", pagerduty_keys}, {"alertmanager", alertmanager_keys},
      {"email", email_keys},         {"webhook", webhook_keys},
      {"exec", exec_keys},           {"file", file_keys},
      {"console", console_keys},
  };
  return kAll;
}

const KeyTable* find_sink_keys(std::string_view type) {
  const std::span<const SinkKeys> all = sink_keys();
  const auto found =
      std::find_if(all.begin(), all.end(), [&](const SinkKeys& one) { return one.type == type; });
  return found == all.end() ? nullptr : &found->table();
}

}  // namespace logbell::sinks

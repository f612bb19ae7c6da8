#include "engine/run/config_keys.h"

#include <array>
#include <string_view>
#include <vector>

#include "sinks/sink_keys.h"

namespace logbell::engine {

using rules::Key;
using rules::KeyTable;
using rules::Shape;

const KeyTable& config_keys() {
  static const KeyTable kTable{
      "config",
      "A configuration of logbell.",
      {{"environment", "A label of every alert.", {Shape::text()}},
       {"labels", "Further labels of every alert.", {Shape::map_of({Shape::text()})}},
       {"instance", "A label of every alert.", {Shape::text()}, false, "the host's name"},
       {"state_dir",
        "Where positions, windows, alerts and the outbox are kept.",
        {Shape::text()},
        false,
        "/var/lib/logbell"},
       {"listen",
        "Metrics, health and API: an address with a port.",
        {Shape::text()},
        false,
        "127.0.0.1:9733"},
       {"external_url", "Where people reach `listen:`; links in messages begin with it.", {Shape::text()}},
       {"max_replay_age",
        "What fired longer ago is not told one by one after a downtime.",
        {Shape::duration()},
        false,
        "15m"},
       {"sources", "What is read.", {Shape::list({Shape::map(source_keys)})}, true},
       {"patterns", "What counts, by name.", {Shape::map_of({Shape::map(rules::pattern_keys)})}},
       {"rules", "What rings.", {Shape::list({Shape::map(rules::rule_keys)})}},
       {"rule_files", "Files of rules, beneath this one's directory: rules.d/*.yaml.", {Shape::texts()}},
       {"sinks", "Where notifications go, by name.", {Shape::map_of({Shape::map(sink_entry_keys)})}},
       {"route",
        "Who hears of what; rules with `sinks:` of their own skip it.",
        {Shape::map(rules::route_keys)}},
       {"time_intervals",
        "Times under a name, for routes and drills.",
        {Shape::list({Shape::map(rules::time_interval_keys)})}},
       {"drills",
        "When sinks are drilled by themselves; none: only on demand.",
        {Shape::word({"none"}), Shape::map(drills_keys)}},
       {"heartbeat", "Whom logbell tells that it lives.", {Shape::map(heartbeat_keys)}},
       {"heartbeats",
        "Whom it listens for, by name.",
        {Shape::map_of({Shape::map(listened_heartbeat_keys)})}},
       {"max_proof_age", "For how long a proof is believed, by level.", {Shape::map(max_proof_age_keys)}}}};
  return kTable;
}

const KeyTable& source_keys() {
  static const KeyTable kTable{
      "source",
      "A log: files, standard input, sockets, a pipe or the journal, each a perpetual stream of lines.",
      {{"name", "A label of its metrics, and what patterns name.", {Shape::text()}, true},
       {"files", "Globs; - is standard input.", {Shape::texts()}},
       {"stdin", "Standard input is read, and ends it.", {Shape::boolean()}, false, "false"},
       {"format",
        "What its lines are, or what they come in.",
        {Shape::word({"text", "json", "logfmt", "cri", "docker", "syslog"})},
        false,
        "text"},
       {"inner",
        "Of cri, docker and syslog: what is in them.",
        {Shape::word({"text", "json", "logfmt"})},
        false,
        "text"},
       {"multiline",
        "Several lines that are one record: stack traces, or what follows a first line.",
        {Shape::texts({"auto", "java", "python", "go", "node"}), Shape::map(multiline_keys)},
        false,
        "each line is one"},
       {"timestamp",
        "Where a line says when it was written.",
        {Shape::map(timestamp_keys)},
        false,
        "recognised"},
       {"max_silence", "So long without a line is an alert.", {Shape::duration()}},
       {"max_line_bytes",
        "Kept of a line; the rest is skipped.",
        {Shape::bytes(256, 16 * 1024 * 1024)},
        false,
        "256KiB"},
       {"read_from",
        "Where a first start begins.",
        {Shape::word({"auto", "beginning", "end"})},
        false,
        "auto"},
       {"syslog", "Sockets that listen for syslog.", {Shape::map(syslog_keys)}},
       {"fifo", "Whole paths of named pipes.", {Shape::texts()}},
       {"journald", "systemd's journal.", {Shape::map(journald_keys)}},
       {"uncovered_errors",
        "When lines that look like errors and that no rule looks at are an alert; none: never.",
        {Shape::word({"none"}), Shape::map(uncovered_errors_keys)}}}};
  return kTable;
}

const KeyTable& multiline_keys() {
  static const KeyTable kTable{
      "multiline",
      "Which lines are one record: by how one begins, or as languages write their stack traces.",
      {{"first_line", "A regex: a record goes on to the next line that matches.", {Shape::text()}},
       {"languages",
        "Whose stack traces are one record.",
        {Shape::texts({"auto", "java", "python", "go", "node"})}},
       {"max_lines",
        "Then it ends, and what follows is another one.",
        {Shape::integer(2, 100'000)},
        false,
        "500"},
       {"timeout", "So long a record waits for its next line.", {Shape::duration()}, false, "1s"}},
      {{"first_line", "languages"}}};
  return kTable;
}

const KeyTable& timestamp_keys() {
  static const KeyTable kTable{
      "timestamp",
      "Where a line says when it was written, and how.",
      {{"field", "json, logfmt: the field that holds it.", {Shape::text()}, false, "the usual names"},
       {"format", "As in '%Y-%m-%d %H:%M:%S'.", {Shape::text()}, false, "recognised"},
       {"location",
        "The IANA zone of times without one, as in Europe/Berlin.",
        {Shape::text()},
        false,
        "the process's TZ"}}};
  return kTable;
}

const KeyTable& uncovered_errors_keys() {
  static const KeyTable kTable{
      "uncovered_errors",
      "When lines that look like errors and that no rule looks at are an alert.",
      {{"at_least", "So many.", {Shape::integer(1, 1'000'000)}, false, "10"},
       {"within", "In which time, from 1m to 24h.", {Shape::duration()}, false, "1h"},
       {"exclude", "Regexes of those that are known and no news.", {Shape::texts()}}}};
  return kTable;
}

const KeyTable& syslog_keys() {
  static const KeyTable kTable{
      "syslog",
      "RFC 3164 and RFC 5424, over UDP, TCP and unix sockets.",
      {{"listen",
        "udp://ADDRESS:PORT, tcp://ADDRESS:PORT, unix:///PATH, unixgram:///PATH, or several.",
        {Shape::texts()},
        true},
       {"framing",
        "Of connections: RFC 6587.",
        {Shape::word({"auto", "octet_counting", "newline"})},
        false,
        "auto"},
       {"max_connections", "More are closed at once.", {Shape::integer(1, 10'000)}, false, "256"},
       {"idle_timeout", "So long a connection may say nothing.", {Shape::duration()}, false, "for ever"},
       {"socket_mode", "Rights of a unix socket's file, in quotes.", {Shape::text()}, false, "'0660'"},
       {"receive_buffer",
        "Datagrams that wait in the kernel.",
        {Shape::bytes(4096, 1024 * 1024 * 1024)},
        false,
        "4MiB"}}};
  return kTable;
}

const KeyTable& journald_keys() {
  static const KeyTable kTable{"journald",
                               "systemd's journal.",
                               {{"units", "Only these.", {Shape::texts()}, false, "everything"},
                                {"directory", "Of its files.", {Shape::text()}, false, "this machine's"}},
                               {},
                               {},
                               {},
                               true};
  return kTable;
}

const KeyTable& sink_entry_keys() {
  static const KeyTable kTable = [] {
    KeyTable table{"sink", "Where notifications go: its type, and how it is told.", {}};
    std::vector<std::string_view> types;
    for (const sinks::SinkKeys& one : sinks::sink_keys()) {
      types.push_back(one.type);
      table.keys.push_back({one.type, one.table().says, {Shape::map(one.table)}});
    }
    for (const Key& key : std::vector<Key>{
             {"fallback", "Sinks that are told in its place when it fails, in order.", {Shape::texts()}},
             {"audience",
              "machine: it may be a rule's only sink, though no person is told.",
              {Shape::word({"machine"})}},
             {"send_resolved", "Whether it hears of ends.", {Shape::boolean()}, false, "true"},
             {"drill", "false: it is never drilled by itself.", {Shape::boolean()}, false, "true"},
             {"messages_per_minute",
              "Of more, one speaks for all that wait; 0: each for itself.",
              {Shape::integer(0, 600)}},
             {"fallback_after", "What waits here so long is told to the fallback, too.", {Shape::duration()}},
             {"pages", "Whether it wakes somebody up.", {Shape::boolean()}}})
      table.keys.push_back(key);
    table.needs.push_back(types);
    return table;
  }();
  return kTable;
}

const KeyTable& drills_keys() {
  static const KeyTable kTable{"drills",
                               "When sinks are drilled by themselves.",
                               {{"every", "Chat and mail.", {Shape::duration()}, false, "24h"},
                                {"pages_every", "What pages.", {Shape::duration()}, false, "7d"},
                                {"hours",
                                 "When what pages may be drilled: a name of `time_intervals:`.",
                                 {Shape::text()},
                                 false,
                                 "Monday to Friday from 9 to 17, UTC"}}};
  return kTable;
}

const KeyTable& max_proof_age_keys() {
  static const KeyTable kTable = [] {
    KeyTable table{"max_proof_age", "For how long a proof is believed, from 1h to 365d.", {}};
    static constexpr std::array<std::array<std::string_view, 3>, 6> kLevels{
        {{"L1", "Name, connection, certificate.", "24h"},
         {"L2", "The secret is known there.", "that of L1"},
         {"L3", "The destination exists and takes messages.", "that of L1"},
         {"L4", "A message was taken, with a receipt.", "7d"},
         {"L5", "And found there.", "that of L4"},
         {"L6", "And a person said that they saw it; none: nobody has to.", "30d"}}};
    for (const auto& [level, says, normally] : kLevels)
      table.keys.push_back({level, says, {Shape::word({"none"}), Shape::duration()}, false, normally});
    return table;
  }();
  return kTable;
}

const KeyTable& heartbeat_keys() {
  static const KeyTable kTable = [] {
    KeyTable table{"heartbeat",
                   "Whom logbell tells that it lives, while whoever should hear of an alert would.",
                   {{"url", "Of who watches, a secret: a variable.", {Shape::text()}},
                    {"url_file", "A file that holds it.", {Shape::text()}},
                    {"every", "How often.", {Shape::duration()}, false, "1m"},
                    {"timeout", "So long an attempt may take.", {Shape::duration()}, false, "10s"},
                    {"style",
                     "What it understands.",
                     {Shape::word({"healthchecks", "snitch", "plain"})},
                     false,
                     "guessed from the URL"},
                    {"sink", "A sink of its own that it goes through, instead of `url:`.", {Shape::text()}},
                    {"method", "Of plain.", {Shape::word({"POST", "GET"})}, false, "POST"}}};
    table.needs.push_back({"url", "url_file", "sink"});
    const auto add = [&](std::string_view name) {
      for (const auto* keys : {&sinks::http_keys(), &sinks::authorization_keys()}) {
        for (const Key& key : *keys) {
          if (key.name == name) table.keys.push_back(key);
        }
      }
    };
    for (const std::string_view name : {"proxy", "proxy_auth", "ca_file", "bearer_token", "username",
                                        "password", "proxy_auth_file", "bearer_token_file", "password_file"})
      add(name);
    return table;
  }();
  return kTable;
}

const KeyTable& listened_heartbeat_keys() {
  static const KeyTable kTable{"listened_heartbeat",
                               "One whose heartbeat comes here, at /api/v1/heartbeats/NAME.",
                               {{"every", "How often it comes.", {Shape::duration()}, false, "1m"},
                                {"grace", "How late it may be.", {Shape::duration()}, false, "2m"},
                                {"token", "What it must show, a secret: a variable.", {Shape::text()}},
                                {"token_file", "A file that holds it.", {Shape::text()}}},
                               {},
                               {},
                               {},
                               true};
  return kTable;
}

}  // namespace logbell::engine

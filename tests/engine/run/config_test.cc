// Config: the whole file compiled. Golden files for what it says, and cases for what it makes.
#include "engine/io/journal_source.h"
#include "engine/run/config.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <random>
#include <string>
#include <vector>

#include <catch2/catch.hpp>
#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/statfs.h>
#include <unistd.h>

using namespace logbell;
using engine::Config;
using engine::ConfigWorld;
using engine::LoadOptions;
using rules::Problems;

namespace {

namespace fs = std::filesystem;

constexpr const char* kSlack =
    "https://hooks.slack.com/services/TABCDEF12/BABCDEF12/abcdefghijklmnopqrstuvwx";

std::string read(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

// A world that is the same everywhere: 2026-05-01, host "api-7", these variables and files.
struct World {
  std::map<std::string, std::string> env{{"ENVIRONMENT", "production"},
                                         {"SLACK_WEBHOOK_URL", kSlack},
                                         {"EMPTY", ""},
                                         {"PLACEHOLDER", "changeme"},
                                         {"UNEXPANDED", "$(cat /run/secrets/slack)"}};
  std::map<std::string, std::string> files{{"/run/secrets/slack", std::string(kSlack) + "\n"},
                                           {"/run/secrets/open", std::string(kSlack) + "\n"},
                                           {"/run/secrets/empty", "\n"},
                                           {"/run/secrets/placeholder", "<your webhook>\n"},
                                           {"/run/secrets/cut", std::string("abcd\0efgh\n", 10)},
                                           {"/run/secrets/hmac", "8d1f6c0b6a8e4f2d\n"},
                                           {"/run/secrets/oncall", "https://oncall.example.com/h/1\n"}};
  fs::path root;  // of files that are not in the list

  ConfigWorld get() const {
    ConfigWorld world;
    world.env = [this](const std::string& name) -> std::optional<std::string> {
      const auto found = env.find(name);
      return found == env.end() ? std::nullopt : std::optional(found->second);
    };
    world.read_file = [this](const std::string& path) -> rules::Result<std::string> {
      if (const auto found = files.find(path); found != files.end()) return found->second;
      const fs::path real = root / path;
      if (root.empty() || path.front() == '/' || !fs::is_regular_file(real))
        return rules::fail(rules::ErrorCode::kNotFound, "No such file or directory");
      return read(real);
    };
    world.glob = [this](const std::string& pattern) {
      std::vector<std::string> found;
      if (files.count(pattern) != 0 || (!root.empty() && fs::exists(root / pattern)))
        found.push_back(pattern);
      const std::size_t star = pattern.find('*');
      if (star == std::string::npos) return found;
      for (const auto& [name, text] : files) {
        if (name.compare(0, star, pattern, 0, star) == 0) found.push_back(name);
      }
      return found;
    };
    world.readable_by_others = [](const std::string& path) { return path == "/run/secrets/open"; };
    world.hostname = "api-7";
    world.now = *rules::parse_rfc3339("2026-05-01T12:00:00Z");
    return world;
  }

  std::shared_ptr<const Config> load(const std::string& text, Problems& problems, LoadOptions options = {}) {
    files["logbell.yaml"] = text;
    return engine::load_config("logbell.yaml", get(), options, problems);
  }
};

std::string said(const Problems& problems) {
  std::string out;
  for (const rules::Problem& problem : problems.sorted())
    out += problem.format() + "\n";
  return out;
}

constexpr const char* kLeast = R"(
sources: [{name: api, files: [/var/log/api.log]}]
patterns: {error: {match: 'ERROR (?P<code>\d+)', labels: [code]}}
rules:
  - alert: Errors
    expr: sum by (code) (count_over_time(error[5m])) > 3
sinks: {ops: {slack: {webhook_url: '${SLACK_WEBHOOK_URL}'}}}
route: {sinks: [ops]}
)";

std::string with(std::string text, std::string_view from, std::string_view to) {
  const std::size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

}  // namespace

// Each *.good.yaml and *.bad.yaml has what is said of it in a .txt of the same name. LOGBELL_UPDATE_GOLDEN=1
// writes them anew; look at the difference before you commit it.
TEST_CASE("config: every golden file is answered word for word", "[run][config][F51]") {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): one thread
  const bool update = std::getenv("LOGBELL_UPDATE_GOLDEN") != nullptr;
  World world;
  world.root = fs::path(LOGBELL_SOURCE_DIR) / "tests/testdata";
  std::size_t good = 0;
  std::size_t bad = 0;
  std::vector<fs::path> inputs;
  for (const auto& entry : fs::directory_iterator(world.root)) {
    if (entry.path().extension() == ".yaml") inputs.push_back(entry.path());
  }
  std::sort(inputs.begin(), inputs.end());
  for (const fs::path& input : inputs) {
    const std::string name = input.filename().string();
    INFO(name);
    const bool is_bad = name.find(".bad.yaml") != std::string::npos;
    Problems problems;
    const auto config = engine::load_config(name, world.get(), {}, problems);
    CHECK((config == nullptr) == is_bad);
    CHECK((config == nullptr) == problems.has_errors());
    (is_bad ? bad : good)++;
    std::string text = said(problems);
    if (config) text += "\n" + engine::format_reach_table(*config);
    const fs::path golden = fs::path(input).replace_extension(".txt");
    if (update) {
      std::ofstream(golden, std::ios::binary) << text;
    } else {
      CHECK(text == read(golden));
    }
  }
  CHECK(good >= 3);
  CHECK(bad >= 60);
}

TEST_CASE("config: a plan has every field set", "[run][config]") {
  World world;
  Problems problems;
  const auto config = world.load(R"(
environment: ${ENVIRONMENT}
labels: {service: orders}
sources:
  - {name: api, files: [/a.log], timestamp: {location: Europe/Berlin}}
  - {name: json, files: [/b.log], format: json, max_line_bytes: 1MiB, read_from: end, max_silence: 5m}
patterns:
  error: {match: 'ERROR (?P<code>\d+)', labels: [code], source: api}
rules:
  - alert: Errors
    expr: sum by (code) (count_over_time(error[5m])) > 3
  - alert: OutOfMemory
    match: 'OutOfMemoryError (?P<thread>\w+)'
    by: [thread]
sinks:
  am: {alertmanager: {urls: ['http://a:9093', 'http://b:9093']}}
route: {sinks: [am], group_by: [b, a], repeat_interval: 1h, routes: [{matchers: [x="y"], group_by: ['...']}]}
)",
                                 problems);
  INFO(said(problems));
  REQUIRE(config);
  const rules::Plan& plan = *config->plan;
  CHECK(plan.external_labels ==
        rules::Labels{{"environment", "production"}, {"service", "orders"}, {"instance", "api-7"}});
  CHECK(plan.max_replay_age == std::chrono::minutes(15));
  CHECK(config->state_dir == "/var/lib/logbell");
  CHECK(config->listen == "127.0.0.1:9733");

  REQUIRE(plan.sources.size() == 2);
  CHECK(plan.sources[0].timestamp_reader->spec().location == "Europe/Berlin");
  CHECK(plan.sources[1].timestamp_reader);
  CHECK(plan.sources[1].format == rules::LineFormat::kJson);
  CHECK(plan.sources[1].max_line_bytes == 1024 * 1024);
  CHECK(plan.sources[1].read_from == rules::ReadFrom::kEnd);
  CHECK(plan.sources[1].max_silence == std::chrono::minutes(5));
  // `error` is for api only, the short form's for every source.
  CHECK(plan.sources[0].patterns.size() == 2);
  CHECK(plan.sources[1].patterns.size() == 1);

  REQUIRE(plan.rules.size() == 2);
  CHECK(plan.rules[0].sources == std::vector<std::uint32_t>{0});
  CHECK(plan.rules[0].keep_firing_for == rules::Duration{0});
  CHECK(plan.rules[0].polarity.presence);
  CHECK_FALSE(plan.rules[0].polarity.absence);
  CHECK(plan.rules[1].sources == std::vector<std::uint32_t>{0, 1});
  CHECK(plan.rules[1].expr_text == "sum by (thread) (count_over_time(OutOfMemory[1m])) >= 1");
  CHECK(plan.rules[1].keep_firing_for == std::chrono::minutes(5));
  CHECK(plan.rules[1].for_ == rules::Duration{0});
  CHECK(plan.patterns.at(1).labels == std::vector<std::string>{"thread"});

  CHECK(plan.sinks.at("am").lanes == std::vector<std::string>{"am#1", "am#2"});
  CHECK(plan.sinks.at("am").per_alert);
  CHECK(plan.sinks.at("am").refresh);
  CHECK(config->sinks.at("am")->lanes() == 2);
  CHECK(plan.has_route);
  CHECK(plan.route.options.group_by == std::vector<std::string>{"a", "b"});
  CHECK(plan.route.options.group_wait == rules::Duration{0});
  CHECK(plan.route.options.group_interval == std::chrono::seconds(30));
  const rules::Route& child = plan.route.routes.at(0);
  CHECK(child.id == "route/0");
  CHECK(child.options.group_by_all);
  CHECK(child.options.group_by.empty());
  CHECK(child.options.sinks == std::vector<std::string>{"am"});
  CHECK(child.options.repeat_interval == std::chrono::hours(1));
}

TEST_CASE("config: where people reach logbell begins each link, and lets them say what they have seen",
          "[run][config]") {
  World world;
  const auto load = [&](const std::string& url, Problems& problems) {
    return world.load(with(kLeast, "sinks: {ops", "external_url: " + url + "\nsinks: {ops"), problems);
  };
  Problems none;
  const auto without = world.load(kLeast, none);
  REQUIRE(without);
  CHECK_FALSE(without->plan->sinks.begin()->second.acknowledges);
  Problems good;
  const auto config = load("https://logbell.example.com/orders//", good);
  INFO(said(good));
  REQUIRE(config);
  CHECK(config->external_url == "https://logbell.example.com/orders");
  CHECK(config->plan->sinks.begin()->second.acknowledges);
  for (const char* url : {"ftp://logbell.example.com", "logbell", "https://", "'https://a.example.com/?x=1'",
                          "'https://user:pass@a.example.com'", "'https://user:pass@changeme'", "'https://a.example.com/#x'",
                          "'https://changeme'", "'<url>'", "'https://a b.example.com'"}) {
    INFO(url);
    Problems bad;
    CHECK_FALSE(load(url, bad));
    CHECK(said(bad).find("as in https://logbell.example.com") != std::string::npos);
    for (const char* secret : {"user:", "pass@", "x=1"})
      CHECK(said(bad).find(secret) == std::string::npos);
  }
}

TEST_CASE("config: short forms of one name have patterns of their own, which expressions cannot say",
          "[run][config]") {
  World world;
  Problems problems;
  const auto config =
      world.load(with(kLeast, "sinks: {ops",
                      "  - {alert: error, match: a}\n  - {alert: error, match: b, labels: {x: y}}\n"
                      "  - {alert: 9 lives!, match: c}\nsinks: {ops"),
                 problems);
  INFO(said(problems));
  REQUIRE(config);
  std::vector<std::string> names;
  for (const rules::PatternSpec& pattern : config->plan->patterns)
    names.push_back(pattern.name);
  CHECK(names == std::vector<std::string>{"error", "error_2", "error_3", "_9_lives_"});
  Problems refused;
  CHECK_FALSE(world.load(with(kLeast, "sinks: {ops",
                              "  - {alert: Short, match: a}\n"
                              "  - {alert: Long, expr: 'count_over_time(Short[1m]) > 1'}\nsinks: {ops"),
                         refused));
  CHECK(said(refused).find("there is no pattern `Short`") != std::string::npos);
}

TEST_CASE("config: the hash follows what is written and what variables say, never a secret",
          "[run][config]") {
  World world;
  const std::string text = std::string("environment: ${ENVIRONMENT}\n") + kLeast;
  const auto hash_of = [&](const std::string& written) {
    Problems problems;
    const auto config = world.load(written, problems);
    INFO(said(problems));
    REQUIRE(config);
    return config->plan->hash;
  };
  const rules::Fingerprint before = hash_of(text);
  CHECK(hash_of(text) == before);
  world.env["SLACK_WEBHOOK_URL"] = std::string(kSlack) + "other";
  CHECK(hash_of(text) == before);
  CHECK(hash_of(with(text, "> 3", "> 4")) != before);
  world.env["ENVIRONMENT"] = "staging";
  CHECK(hash_of(text) != before);
}

TEST_CASE("config: an expired `sinks: none` stops check, and run sends the rule through the route",
          "[run][config]") {
  World world;
  const auto silent = [](const char* until) {
    return with(kLeast, "> 3", std::string("> 3\n    sinks: none\n    reason: moving\n    until: ") + until);
  };
  LoadOptions run;
  run.for_run = true;
  // The day itself still counts: it is 2026-05-01.
  for (const LoadOptions& options : {LoadOptions{}, run}) {
    Problems problems;
    const auto config = world.load(silent("2026-05-01"), problems, options);
    REQUIRE(config);
    CHECK(config->plan->rules_without_sink == 1);
    CHECK(config->plan->rules[0].silent->reason == "moving");
    CHECK(config->plan->rules[0].silent->until == *rules::parse_rfc3339("2026-05-02T00:00:00Z"));
  }
  Problems refused;
  CHECK_FALSE(world.load(silent("2026-04-30"), refused));
  CHECK(said(refused).find("rule \"Errors\": `sinks: none` has ended on 2026-04-30") != std::string::npos);

  Problems warned;
  const auto config = world.load(silent("2026-04-30"), warned, run);
  INFO(said(warned));
  REQUIRE(config);
  CHECK(warned.warnings() == 1);
  CHECK_FALSE(config->plan->rules[0].silent);
  CHECK(config->plan->rules[0].sinks.empty());
  CHECK(config->plan->rules_without_sink == 0);
  // Without a route there is nowhere to send it: that is refused, also by run.
  Problems nowhere;
  CHECK_FALSE(world.load(with(silent("2026-04-30"), "route: {sinks: [ops]}", ""), nowhere, run));
}

TEST_CASE("config: --assume-secrets leaves out values, and judges everything else", "[run][config]") {
  World world;
  world.env.clear();
  LoadOptions assume;
  assume.assume_secrets = true;
  const std::string text =
      "environment: ${ENVIRONMENT}\nlisten: 127.0.0.1:${PORT}\nmax_replay_age: ${AGE}\n" +
      with(with(kLeast, "sinks: {ops: {slack: {webhook_url: '${SLACK_WEBHOOK_URL}'}}}",
                "sinks: {ops: {slack: {webhook_url_file: /run/secrets/nowhere}}, "
                "hook: {webhook: {url: '${URL}', secret: '${HMAC}'}}, am: {alertmanager: {url: '${AM}'}}}"),
           "[5m])) > 3",
           "[${WINDOW}])) > ${MOST}\n    labels: {env: '${ENVIRONMENT}'}\n    sinks: [ops, hook, am]");
  Problems problems;
  const auto config = world.load(text, problems, assume);
  INFO(said(problems));
  REQUIRE(config);
  CHECK(problems.all().empty());
  // What is left out is as it was written, so that a matcher on the same variable still finds it.
  CHECK(config->environment == "${ENVIRONMENT}");

  Problems wanted;
  CHECK_FALSE(world.load(text, wanted));
  for (const char* name :
       {"ENVIRONMENT", "PORT", "AGE", "URL", "HMAC", "AM", "WINDOW", "MOST", "/run/secrets/nowhere"}) {
    INFO(name << "\n" << said(wanted));
    CHECK(said(wanted).find(name) != std::string::npos);
  }
  // A secret's value is not looked at even where it is there; one that stands in the file is.
  world.env["URL"] = "changeme";
  Problems unseen;
  CHECK(world.load(text, unseen, assume));
  Problems seen;
  CHECK_FALSE(world.load(with(text, "${URL}", "changeme"), seen, assume));
  // Nobody knows whether these two exclude each other.
  Problems unknown;
  CHECK(world.load(with(text, "> ${MOST}", "> ${LEAST} < ${MOST}"), unknown, assume));
  INFO(said(unknown));
  CHECK(unknown.all().empty());
  // Rules are judged as ever.
  Problems broken;
  CHECK_FALSE(world.load(with(text, "sinks: [ops, hook, am]", "sinks: [opps]"), broken, assume));
}

TEST_CASE("config: what is no file has the format that it comes in, unless another is said", "[run][config]") {
  using rules::Envelope;
  using rules::LineFormat;
  const auto [sentence, fields, envelope, format, own_timestamp] =
      GENERATE(table<std::string, std::string, Envelope, LineFormat, bool>({
          {"a socket", "syslog: {listen: 'udp://[::1]:514'}", Envelope::kSyslog, LineFormat::kText, false},
          {"messages in JSON", "syslog: {listen: 'udp://[::1]:514'}, inner: json", Envelope::kSyslog, LineFormat::kJson,
           false},
          {"a socket without headers", "syslog: {listen: 'tcp://[::1]:514'}, format: logfmt", Envelope::kNone,
           LineFormat::kLogfmt, false},
          {"only the zone", "syslog: {listen: 'udp://[::1]:514'}, timestamp: {location: Europe/Berlin}",
           Envelope::kSyslog, LineFormat::kText, false},
          {"a time in the message", "syslog: {listen: 'udp://[::1]:514'}, timestamp: {format: '%s'}",
           Envelope::kSyslog, LineFormat::kText, true},
          {"rsyslog's file", "files: [/var/log/syslog], format: syslog", Envelope::kSyslog, LineFormat::kText, false},
          {"a pipe", "fifo: /run/p", Envelope::kNone, LineFormat::kText, false},
          {"a pipe that syslog comes through", "fifo: /run/p, format: syslog", Envelope::kSyslog, LineFormat::kText,
           false},
      }));
  CAPTURE(sentence);
  World world;
  Problems problems;
  const auto config = world.load(with(kLeast, "files: [/var/log/api.log]", fields), problems);
  INFO(said(problems));
  REQUIRE(config);
  const rules::SourceSpec& source = config->plan->sources[0];
  CHECK(source.envelope == envelope);
  CHECK(source.format == format);
  CHECK(source.own_timestamp == own_timestamp);
}

TEST_CASE("config: the journal, where it is built in, and where it is not", "[run][config]") {
  World world;
  Problems problems;
  const auto config = world.load(with(with(kLeast, "files: [/var/log/api.log]", "journald: {units: [api, b.timer]}"),
                                      "labels: [code]", "labels: [code, unit]"),
                                 problems);
  INFO(said(problems));
  if (!engine::has_journald()) {
    CHECK_FALSE(config);
    CHECK(said(problems).find("built without journald") != std::string::npos);
    return;
  }
  REQUIRE(config);
  CHECK(config->plan->sources[0].envelope == rules::Envelope::kJournal);
  CHECK(config->plan->sources[0].streams[0].units == std::vector<std::string>{"api.service", "b.timer"});
  Problems wrong;
  CHECK_FALSE(world.load(with(kLeast, "files: [/var/log/api.log]",
                              "journald: {units: ['*'], directory: journal, unit: x}, format: json"),
                         wrong));
  for (const char* text : {"\"*\" is no unit's name", "\"journal\" is no whole path", "there may be several",
                           "the journal has a format of its own"})
    CHECK(said(wrong).find(text) != std::string::npos);
}

TEST_CASE("config: kept texts make the same configuration when the files are gone", "[run][config]") {
  World world;
  world.files["rules.d/a.yaml"] =
      "groups: [{name: g, rules: [{alert: More, expr: 'count_over_time(error[1m]) > 1'}]}]";
  world.files["rules.d/b.yaml"] = "groups: [{name: g, rules: [{alert: Most, match: x}]}]";
  const std::string text = std::string(kLeast) + "rule_files: [rules.d/*.yaml]\n";
  Problems problems;
  const auto config = world.load(text, problems);
  INFO(said(problems));
  REQUIRE(config);
  CHECK(config->files == std::vector<std::string>{"logbell.yaml", "rules.d/a.yaml", "rules.d/b.yaml"});
  REQUIRE(config->texts.size() == 3);
  CHECK(config->texts[0].second == text);
  CHECK(config->plan->rules.size() == 3);
  CHECK(config->plan->rules[1].group == "g");

  world.files.erase("rules.d/a.yaml");
  world.files["rules.d/b.yaml"] = "broken: [";
  world.files["logbell.yaml"] = "broken: [";
  const ConfigWorld kept = world.get().with_texts(config->texts);
  Problems again;
  const auto same = engine::load_config("logbell.yaml", kept, {}, again);
  INFO(said(again));
  REQUIRE(same);
  CHECK(same->plan->hash == config->plan->hash);
  CHECK(same->texts == config->texts);
}

TEST_CASE("config: the sinks that work can be told that a start was refused", "[run][config]") {
  World world;
  world.files["logbell.yaml"] = R"(
rules: [{alert: X, expr: nonsense}]
sinks:
  good: {slack: {webhook_url: '${SLACK_WEBHOOK_URL}'}}
  blank: {slack: {webhook_url: '${EMPTY}'}}
  file: {file: {path: /tmp/x}}
  odd: {pigeon: {}}
)";
  const auto sinks = engine::salvage_sinks("logbell.yaml", world.get());
  REQUIRE(sinks.size() == 1);
  CHECK(sinks[0].first.name == "good");
  CHECK(sinks[0].first.lanes == std::vector<std::string>{"good"});
  CHECK(sinks[0].second->lanes() == 1);
  world.files["logbell.yaml"] = "sinks: [\n";
  CHECK(engine::salvage_sinks("logbell.yaml", world.get()).empty());
  CHECK(engine::salvage_sinks("missing.yaml", world.get()).empty());
}

TEST_CASE("config: variables are filled in wherever a sink has a text", "[run][config]") {
  World world;
  const std::string text =
      with(kLeast, "{ops: {slack: {webhook_url: '${SLACK_WEBHOOK_URL}'}}}",
           "{ops: {webhook: {url_file: /run/secrets/oncall, headers: {X-Token: '${TOKEN}'}}}}");
  const struct {
    const char* why;
    std::optional<std::string> value;
    const char* says;
  } rows[] = {
      {"a token", "8d1f6c0b6a8e4f2d", ""},
      {"no token", std::nullopt, "sink \"ops\": the variable TOKEN is not set (Errors relies on it)"},
      {"an empty one", "", "the variable TOKEN is empty"},
      {"a placeholder", "changeme", "\"X-Token\" is a placeholder"},
      // What the sink makes of it is judged after filling in: a line break would begin another header.
      {"a line break", "a\nHost: evil", "X-Token"},
  };
  for (const auto& row : rows) {
    INFO(row.why);
    world.env.erase("TOKEN");
    if (row.value) world.env["TOKEN"] = *row.value;
    Problems problems;
    const auto config = world.load(text, problems);
    INFO(said(problems));
    CHECK((config != nullptr) == (*row.says == '\0'));
    CHECK(said(problems).find(row.says) != std::string::npos);
  }
}

TEST_CASE("config: secrets are known by value, so that logs can hide them, and never said", "[run][config]") {
  World world;
  Problems problems;
  const auto config = world.load(kLeast, problems);
  REQUIRE(config);
  REQUIRE(config->secrets.size() == 1);
  CHECK(config->secrets[0].reveal() == kSlack);
  CHECK(engine::format_reach_table(*config).find("abcdefghijklmnopqrstuvwx") == std::string::npos);
  // Also not by a problem with it.
  world.env["SLACK_WEBHOOK_URL"] = "https://hooks.slack.com/abcdefghijklmnopqrstuvwx";
  Problems refused;
  CHECK_FALSE(world.load(kLeast, refused));
  CHECK(said(refused).find("abcdefghijklmnopqrstuvwx") == std::string::npos);
  world.env["SLACK_WEBHOOK_URL"] = "abcdefghijklmnopqrstuvwx";
  Problems no_url;
  CHECK_FALSE(world.load(kLeast, no_url));
  CHECK(said(no_url).find("abcdefghijklmnopqrstuvwx") == std::string::npos);
}

// A route covers a rule under every value that a label from logs can take, or the rule is refused.
TEST_CASE("config: whether a route covers a rule is decided by walking the tree", "[run][config][F51]") {
  const struct {
    const char* why;
    const char* route;
    bool covered;
  } rows[] = {
      {"the root takes everything", "{sinks: [ops]}", true},
      {"one value of a label from logs", "{routes: [{matchers: [code=\"500\"], sinks: [ops]}]}", false},
      {"a matcher and its opposite", "{sinks: [ops], routes: [{matchers: [code=\"500\"], sinks: [ops]}]}",
       true},
      {"the same test twice has one answer",
       "{sinks: [ops], routes: [{matchers: [code=\"5\"], continue: true}, {matchers: [code=\"5\"]}]}", true},
      {"a label that the rule fixes", "{routes: [{matchers: [severity=\"critical\"], sinks: [ops]}]}", false},
      {"an external label", "{routes: [{matchers: [instance=\"api-7\"], sinks: [ops]}]}", true},
      {"an external label of another value", "{routes: [{matchers: [instance=\"api-8\"], sinks: [ops]}]}",
       false},
      {"the alert's name", "{routes: [{matchers: [alertname=\"Errors\"], sinks: [ops]}]}", false},
      {"the last takes what is left", "{routes: [{matchers: [code=\"5\"], sinks: [ops]}, {sinks: [ops]}]}",
       true},
      {"a branch to a file, and on",
       "{sinks: [ops], routes: [{sinks: [audit], continue: true}, {sinks: [ops]}]}", true},
      {"a branch to a file, and the root is passed by",
       "{sinks: [ops], routes: [{sinks: [audit], continue: true}]}", false},
      {"a branch inside a branch",
       "{sinks: [ops], routes: [{matchers: [code=~\"4..\"], routes: [{sinks: [audit]}]}]}", false},
  };
  for (const auto& row : rows) {
    INFO(row.why);
    World world;
    Problems problems;
    const auto config =
        world.load(with(with(kLeast, "route: {sinks: [ops]}", std::string("route: ") + row.route),
                        "sinks: {ops:", "sinks: {audit: {file: {path: /tmp/a}}, ops:"),
                   problems);
    INFO(said(problems));
    CHECK((config != nullptr) == row.covered);
    // logbell's own alerts travel the same tree; the row about the rule's name is theirs alone.
    if (!row.covered) CHECK(said(problems).find("logbell.yaml:") != std::string::npos);
  }
}

TEST_CASE("config: no change of an example makes it crash, and a refusal has a reason", "[run][config]") {
  const char* wanted = std::getenv("LOGBELL_SEED");  // NOLINT(concurrency-mt-unsafe): one thread
  const unsigned seed = wanted != nullptr ? static_cast<unsigned>(std::stoul(wanted)) : 20260501;
  INFO("LOGBELL_SEED=" << seed);
  std::mt19937 random(seed);
  const auto pick = [&](std::size_t below) {
    return std::uniform_int_distribution<std::size_t>(0, below - 1)(random);
  };
  std::vector<std::string> texts;
  const fs::path root = LOGBELL_SOURCE_DIR;
  for (const char* file :
       {"examples/minimal.yaml", "examples/orders-api/logbell.yaml", "examples/nginx/logbell.yaml",
        "examples/json-api/logbell.yaml", "tests/testdata/whole.good.yaml"})
    texts.push_back(read(root / file));
  const std::vector<std::string> shards{
      "${",       "}",           "\"",  "'",     ": ",    "- ",  "[",
      "]",        "{{ $labels.", "\n",  "  ",    "null",  "\t",  "(?",
      "{}",       "none",        "*",   "&a *a", "|\n  ", "\\",  "-1",
      "0s",       "[5m]",        "#",   "...",   "=~\"",  "$${", "\xff",
      "\xc3\xa9", "by (",        "9e9", "true",  "until", "!!",  "continue: true\n"};
  std::size_t accepted = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string text = texts[pick(texts.size())];
    const std::size_t changes = 1 + pick(3);
    for (std::size_t i = 0; i < changes; ++i) {
      const std::size_t at = pick(text.size());
      switch (pick(4)) {
        case 0:
          text.erase(at, 1 + pick(12));
          break;
        case 1:
          text.insert(at, shards[pick(shards.size())]);
          break;
        case 2: {  // a line moves
          const std::size_t from = text.rfind('\n', at) == std::string::npos ? 0 : text.rfind('\n', at);
          const std::string line = text.substr(from, text.find('\n', from + 1) - from);
          text.erase(from, line.size());
          text.insert(pick(text.size()), line);
          break;
        }
        default:
          text[at] = static_cast<char>(pick(256));
      }
    }
    World world;
    world.files["rules.d/more.yaml"] = "groups: []";
    LoadOptions options;
    options.assume_secrets = pick(2) == 0;
    options.for_run = pick(2) == 0;
    Problems problems;
    const auto config = world.load(text, problems, options);
    if (config) {
      ++accepted;
      CHECK_FALSE(engine::format_reach_table(*config).empty());
      CHECK(config->plan->rules.size() + 1 > 0);
    } else if (!problems.has_errors()) {
      FAIL("refused without a reason:\n" << text);
    }
    for (const rules::Problem& problem : problems.all()) {
      if (problem.place.line < 0 || problem.reason.empty()) FAIL("a problem without a reason:\n" << text);
    }
  }
  CHECK(accepted > 100);  // else the changes are so rough that only YAML's parser is tested
}

TEST_CASE("config: a secret that others can read is accepted only in a volume that kubelet wrote",
          "[run][config]") {
  const auto is_memory = [](const fs::path& path) {
    struct statfs system {};
    return ::statfs(path.c_str(), &system) == 0 && system.f_type == TMPFS_MAGIC;
  };
  struct Volume {
    explicit Volume(const fs::path& where) {
      std::string name = (where / "logbell-secret-XXXXXX").string();
      REQUIRE(::mkdtemp(name.data()) != nullptr);
      root = name;
      fs::create_directories(root / "..2026_05_01_10_00_00.123/sub");
      fs::create_directory_symlink("..2026_05_01_10_00_00.123", root / "..data");
      for (const char* file : {"plain", "..data/key", "..data/sub/key"}) {
        std::ofstream(root / file) << "x";
        fs::permissions(root / file, fs::perms(0644));
      }
      fs::create_symlink("..data/key", root / "key");
      fs::create_directory_symlink("..data/sub", root / "sub");
    }
    ~Volume() {
      std::error_code ignored;
      fs::remove_all(root, ignored);
    }
    Volume(const Volume&) = delete;
    Volume& operator=(const Volume&) = delete;
    fs::path root;
  };
  const auto by_others = ConfigWorld::real(rules::Timestamp()).readable_by_others;
  if (is_memory("/dev/shm")) {
    const Volume volume("/dev/shm");
    CHECK_FALSE(by_others((volume.root / "key").string()));
    CHECK_FALSE(by_others((volume.root / "sub/key").string()));
    // Beside the layout, and a link out of it: nobody but an operator made those.
    CHECK(by_others((volume.root / "plain").string()));
    fs::remove(volume.root / "key");
    fs::create_symlink("plain", volume.root / "key");
    CHECK(by_others((volume.root / "key").string()));
    // A directory that is not named as kubelet names them.
    fs::rename(volume.root / "..2026_05_01_10_00_00.123", volume.root / "data");
    fs::remove(volume.root / "..data");
    fs::create_directory_symlink("data", volume.root / "..data");
    CHECK(by_others((volume.root / "sub/key").string()));
  } else {
    WARN("/dev/shm is no tmpfs: not tried");
  }
  if (!is_memory(fs::temp_directory_path())) {
    const Volume volume(fs::temp_directory_path());
    CHECK(by_others((volume.root / "key").string()));
    fs::permissions(volume.root / "..data/key", fs::perms(0600));
    CHECK_FALSE(by_others((volume.root / "key").string()));
  }
  CHECK_FALSE(by_others("/nonexistent/key"));
}

// The least that loads, with this sink and more at the top.
std::shared_ptr<const Config> loaded(World& world, const std::string& sink, const std::string& more = {}) {
  Problems problems;
  auto config = world.load(
      "sources: [{name: app, files: [a.log]}]\npatterns: {e: {match: E}}\n"
      "rules: [{alert: A, expr: 'count_over_time(e[1m]) > 1', sinks: [s]}]\n"
      "route: {sinks: [s]}\nsinks: {s: " +
          sink + "}\n" + more,
      problems);
  for (const rules::Problem& problem : problems.sorted())
    UNSCOPED_INFO(problem.format());
  REQUIRE(config);
  return config;
}

TEST_CASE("config: whatever of a sink's settings changes, it is another sink", "[run][config][F52]") {
  World world;
  const auto settings = [&](const std::string& sink) {
    return loaded(world, sink)->plan->sinks.at("s").settings;
  };
  const auto slack = settings("{slack: {webhook_url: '${SLACK_WEBHOOK_URL}'}}");
  CHECK(slack == settings("{slack: {webhook_url_file: /run/secrets/slack}, send_resolved: false}"));
  world.env["SLACK_WEBHOOK_URL"].back() = 'y';
  CHECK(slack != settings("{slack: {webhook_url: '${SLACK_WEBHOOK_URL}'}}"));
  const auto peer = settings("{alertmanager: {urls: ['http://am:9093/a', 'http://am:9094']}}");
  CHECK(peer != settings("{alertmanager: {urls: ['http://am:9093/b', 'http://am:9094']}}"));
  CHECK(peer !=
        settings("{alertmanager: {urls: ['http://am:9093/a', 'http://am:9094'], bearer_token: 8d1f6c0b6a8e}}"));
  const auto hook = settings("{webhook: {url: 'https://example.com/', probe: {path: /a}}}");
  CHECK(hook != settings("{webhook: {url: 'https://example.com/', probe: {path: /b}}}"));
  CHECK(hook != settings("{webhook: {url: 'https://example.com/', probe: {path: /a, expect: [200]}}}"));
}

TEST_CASE("config: how long proofs are believed, and who wants them fresher is drilled as often", "[run][config]") {
  World world;
  const auto load = [&](const std::string& more) {
    return loaded(world, "{webhook: {url: 'https://example.com/'}}", more);
  };
  using namespace std::chrono_literals;
  using sinks::ProofLevel;
  const auto plain = load("");
  CHECK(plain->proof_ages.of(ProofLevel::kAccepted) == 24h * 7);
  CHECK(plain->proof_ages.of(ProofLevel::kAcknowledged) == 24h * 30);
  CHECK(plain->drills.pages_every == 24h * 7);
  const auto fresh = load("max_proof_age: {L2: 2h, L4: 12h, L6: none}\n");
  CHECK(fresh->proof_ages.of(ProofLevel::kCredential) == 2h);
  CHECK(fresh->proof_ages.of(ProofLevel::kAccepted) == 12h);
  CHECK(fresh->proof_ages.of(ProofLevel::kReadBack) == 24h * 7);
  CHECK(fresh->proof_ages.of(ProofLevel::kAcknowledged) == engine::ProofAges::kNever);
  CHECK(fresh->drills.every == 12h);
  CHECK(fresh->drills.pages_every == 12h);
  const auto longer = load("max_proof_age: {L4: 30d}\ndrills: {pages_every: 30d}\n");
  CHECK(longer->drills.every == 24h);
  CHECK(longer->drills.pages_every == 24h * 30);
}

TEST_CASE("config: a storm at a sink that people read is told in few messages", "[run][config]") {
  World world;
  const auto most = [&](const std::string& sink) {
    return loaded(world, sink)->plan->sinks.at("s").messages_per_minute;
  };
  const std::string slack = "{slack: {webhook_url: '${SLACK_WEBHOOK_URL}'}";
  CHECK(most(slack + "}") == 20);
  CHECK(most(slack + ", messages_per_minute: 5}") == 5);
  CHECK(most(slack + ", messages_per_minute: 0}") == 0);
  CHECK(most("{webhook: {url: 'https://example.com/'}}") == 0);
  CHECK(most("{webhook: {url: 'https://example.com/'}, messages_per_minute: 60}") == 60);
  CHECK(most("{alertmanager: {url: 'http://am:9093'}}") == 0);
}

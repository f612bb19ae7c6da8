#include "sinks/registry.h"

#include <algorithm>
#include <set>

#include <catch2/catch.hpp>

#include "tests/sinks/fixtures.h"

namespace {

using namespace logbell;         // NOLINT(google-build-using-namespace): a test
using namespace logbell::sinks;  // NOLINT(google-build-using-namespace)
using tests::configure;
using tests::FakeFields;

const std::string kRoutingKey = "R0123456789ABCDEF0123456SECRETSE";
const std::string kBotToken = "xoxb-1234567890-abcdefSECRETSECRET";
const std::string kHook = "https://hooks.slack.com/services/T0AAAAAA1/B0BBBBBB2/abcdefABCDEF123456";

// Remembers which fields were asked for.
class AskedFields final : public FieldReader {
 public:
  std::optional<std::string> text(std::string_view key, bool /*required*/) override { return ask(key); }
  std::optional<rules::Secret> secret(std::string_view key, bool /*required*/) override {
    ask(key);
    asked.insert(std::string(key) + "_file");
    return std::nullopt;
  }
  std::optional<std::vector<std::string>> text_list(std::string_view key, bool /*required*/) override {
    ask(key);
    return std::nullopt;
  }
  std::optional<bool> boolean(std::string_view key) override {
    ask(key);
    return std::nullopt;
  }
  std::optional<rules::Duration> duration(std::string_view key) override {
    ask(key);
    return std::nullopt;
  }
  const rules::yaml::Node* raw(std::string_view key) override {
    ask(key);
    return nullptr;
  }
  bool assume_secrets() const override { return false; }
  rules::Place place(std::string_view /*key*/) const override { return {}; }
  void error(std::string_view /*key*/, std::string /*reason*/, std::string /*fix*/) override {}
  void warn(std::string_view /*key*/, std::string /*reason*/, std::string /*fix*/) override {}

  std::set<std::string> asked;

 private:
  std::optional<std::string> ask(std::string_view key) {
    asked.insert(std::string(key));
    return std::nullopt;
  }
};

}  // namespace

TEST_CASE("registry: the menu", "[sinks][registry]") {
  std::vector<std::string_view> keys;
  for (const SinkType& type : sink_types())
    keys.push_back(type.key);
  CHECK(keys == std::vector<std::string_view>{"slack", "slack_app", "pagerduty", "alertmanager", "email",
                                              "webhook", "exec", "file", "console"});
  CHECK(find_sink_type("slack")->tells_people);
  CHECK(find_sink_type("slack")->min_interval == std::chrono::seconds(1));
  CHECK(find_sink_type("slack_app")->min_interval == std::chrono::seconds(1));
  CHECK(find_sink_type("slack_app")->follows);
  CHECK_FALSE(find_sink_type("slack")->follows);
  CHECK(find_sink_type("slack_app")->verifies == ProofLevel::kDestination);
  CHECK(find_sink_type("pagerduty")->pages);
  CHECK(find_sink_type("pagerduty")->per_alert);
  CHECK(find_sink_type("pagerduty")->stays_open);
  CHECK_FALSE(find_sink_type("pagerduty")->refresh);
  CHECK(find_sink_type("pagerduty")->min_interval == std::chrono::milliseconds(500));
  CHECK(find_sink_type("exec")->tells_people);
  CHECK(find_sink_type("exec")->pages);
  CHECK_FALSE(find_sink_type("file")->tells_people);
  CHECK_FALSE(find_sink_type("console")->tells_people);
  CHECK(find_sink_type("alertmanager")->per_alert);
  CHECK(find_sink_type("alertmanager")->refresh == rules::Duration(std::chrono::seconds(60)));
  CHECK(find_sink_type("pager") == nullptr);
  // A type that can be asked says so: else nobody asks.
  CHECK(find_sink_type("slack")->verifies == ProofLevel::kCredential);
  CHECK(find_sink_type("pagerduty")->verifies == ProofLevel::kCredential);
  CHECK(find_sink_type("alertmanager")->verifies == ProofLevel::kCredential);
  CHECK(find_sink_type("webhook")->verifies == ProofLevel::kCredential);
  CHECK(find_sink_type("exec")->verifies == ProofLevel::kNetwork);
  CHECK(find_sink_type("file")->verifies == ProofLevel::kDestination);
}

TEST_CASE("registry: each type lists exactly the fields that it reads", "[sinks][registry]") {
  for (const SinkType& type : sink_types()) {
    INFO(type.key);
    AskedFields fields;
    type.parse(fields);
    std::set<std::string> listed(type.keys.begin(), type.keys.end());
    CHECK(listed == fields.asked);
    CHECK(listed.size() == type.keys.size());
  }
}

TEST_CASE("registry: good configurations say where they lead, and no secret", "[sinks][registry]") {
  struct Row {
    const char* type;
    FakeFields::Texts texts;
    std::string destination;
    std::size_t secrets;
  };
  const std::vector<Row> rows = {
      {"slack", {{"webhook_url", kHook}}, "https://hooks.slack.com", 1},
      {"slack", {{"webhook_url", "http://127.0.0.1:8080/anything"}}, "http://127.0.0.1:8080", 1},
      {"slack", {{"webhook_url", "http://localhost:8080/x"}, {"timeout", "5s"}}, "http://localhost:8080", 1},
      {"slack",
       {{"webhook_url", "https://slack-proxy.internal/x"}, {"proxy", "none"}},
       "https://slack-proxy.internal",
       1},
      {"slack",
       {{"webhook_url", kHook}, {"proxy", "http://proxy:3128"}, {"proxy_auth", "u:p"}},
       "https://hooks.slack.com",
       2},
      {"slack_app", {{"token", kBotToken}, {"channel", "#ops"}}, "https://slack.com #ops", 1},
      {"slack_app",
       {{"token", kBotToken}, {"channel", "C012AB3CD"}, {"api_url", "http://127.0.0.1:8060/api/"}},
       "http://127.0.0.1:8060 C012AB3CD",
       1},
      {"pagerduty", {{"routing_key", kRoutingKey}}, "https://events.pagerduty.com", 1},
      {"pagerduty",
       {{"routing_key", kRoutingKey}, {"url", "https://events.eu.pagerduty.com/"}},
       "https://events.eu.pagerduty.com",
       1},
      {"pagerduty",
       {{"routing_key", kRoutingKey},
        {"url", "https://events.eu.pagerduty.com"},
        {"api_token", "y_NbSECRETSECRETYEu"}},
       "https://events.eu.pagerduty.com",
       2},
      {"pagerduty",
       {{"routing_key", kRoutingKey}, {"url", "https://events.pagerduty.com/v2/enqueue"}, {"timeout", "5s"}},
       "https://events.pagerduty.com",
       1},
      {"pagerduty",
       {{"routing_key", kRoutingKey}, {"url", "http://127.0.0.1:8061"}},
       "http://127.0.0.1:8061",
       1},
      {"pagerduty",
       {{"routing_key", kRoutingKey}, {"url", "https://relay.internal/pagerduty"}},
       "https://relay.internal",
       1},
      {"alertmanager", {{"url", "http://am:9093"}}, "http://am:9093", 0},
      {"alertmanager",
       {{"url", "https://am/prefix/"}, {"username", "u"}, {"password", "p"}},
       "https://am",
       1},
      {"webhook", {{"url", "http://hook.internal/a?token=s3cr3tt0ken"}}, "http://hook.internal", 1},
      {"webhook",
       {{"url", "https://h/x"}, {"secret", "k3y"}, {"receipt", "$.data.id"}, {"bearer_token", "b"}},
       "https://h",
       3},
      {"file", {{"path", "/tmp/alerts.jsonl"}}, "/tmp/alerts.jsonl", 0},
      {"console", {}, "stdout", 0},
      {"console", {{"stream", "stderr"}, {"colour", "never"}}, "stderr", 0}};
  for (const Row& row : rows) {
    FakeFields fields(row.texts);
    const std::unique_ptr<SinkConfig> config = configure(row.type, fields);
    INFO(row.type << " " << (fields.errors.empty() ? "" : fields.errors.front()));
    REQUIRE(config != nullptr);
    CHECK(config->destination() == row.destination);
    CHECK(config->secrets().size() == row.secrets);
    CHECK(config->lanes() == 1);
    CHECK(config->build(0, {}) != nullptr);
    CHECK(fields.errors.empty());
    CHECK(fields.warnings.empty());
  }
}

TEST_CASE("registry: what each would hand over can be read, as it was meant, and no secret is in it",
          "[sinks][registry]") {
  const std::vector<std::pair<const char*, FakeFields::Texts>> rows = {
      {"slack", {{"webhook_url", kHook}}},
      {"slack_app", {{"token", kBotToken}, {"channel", "#ops"}}},
      {"pagerduty", {{"routing_key", kRoutingKey}}},
      {"alertmanager", {{"url", "http://am:9093"}}},
      {"webhook", {{"url", "http://hook.internal/a?token=SECRETSECRET"}, {"secret", "SECRETSECRET"}}},
      {"file", {{"path", "/tmp/alerts.jsonl"}}},
      {"console", {}},
      {"email",
       {{"from", "logbell@example.com"},
        {"server", "smtp://mail:587"},
        {"username", "u"},
        {"password", "SECRETSECRET"}}},
      {"exec", {}}};
  for (const auto& [type, texts] : rows) {
    FakeFields fields(texts);
    fields.set_list("to", {"ops@example.com"});
    fields.set_list("command", {"/bin/true"});
    const std::unique_ptr<SinkConfig> config = configure(type, fields);
    INFO(type << " " << (fields.errors.empty() ? "" : fields.errors.front()));
    REQUIRE(config != nullptr);
    // What Slack's mark-up, JSON, a mail's lines and a terminal each write in another way.
    const std::string queue = "_a_b *c* d:e `f` <g> & \"h\" =20 \\n é";
    const std::string words =
        config->words(tests::notification({tests::queue_alert(queue)}), tests::attempt(), tests::context());
    INFO(words);
    CHECK(words.find("API cannot reach queue " + queue + ": 5 errors in a minute") != std::string::npos);
    CHECK(words.find("SECRET") == std::string::npos);
    CHECK(words.find("abcdefABCDEF123456") == std::string::npos);
  }
}

TEST_CASE("registry: what is wrong is said once, with its field, and without the secret",
          "[sinks][registry]") {
  struct Row {
    const char* story;
    const char* type;
    FakeFields::Texts texts;
    std::string key;
  };
  const std::vector<Row> rows = {
      {"nothing given", "slack", {}, "webhook_url"},
      {"no token", "slack_app", {{"channel", "#ops"}}, "token"},
      {"no channel", "slack_app", {{"token", kBotToken}}, "channel"},
      {"a person's token",
       "slack_app",
       {{"token", "xoxp-1234567890-SECRETSECRET"}, {"channel", "#ops"}},
       "token"},
      {"an app's token",
       "slack_app",
       {{"token", "xapp-1-1234567890-SECRETSECRET"}, {"channel", "#ops"}},
       "token"},
      {"a token that expires",
       "slack_app",
       {{"token", "xoxe.xoxb-1-1234567890-SECRETSECRET"}, {"channel", "#ops"}},
       "token"},
      {"no token at all", "slack_app", {{"token", "SECRETSECRETSECRETSECRET"}, {"channel", "#ops"}}, "token"},
      {"half a token", "slack_app", {{"token", "xoxb-SECRETSECRET"}, {"channel", "#ops"}}, "token"},
      {"a channel without its mark", "slack_app", {{"token", kBotToken}, {"channel", "ops"}}, "channel"},
      {"a channel that cannot be",
       "slack_app",
       {{"token", kBotToken}, {"channel", "#Ops Alerts"}},
       "channel"},
      {"a person", "slack_app", {{"token", kBotToken}, {"channel", "@boss"}}, "channel"},
      {"plain HTTP to the world",
       "slack_app",
       {{"token", kBotToken}, {"channel", "#ops"}, {"api_url", "http://slack.com/api"}},
       "api_url"},
      {"a question in it",
       "slack_app",
       {{"token", kBotToken}, {"channel", "#ops"}, {"api_url", "https://slack.com/api?x=1"}},
       "api_url"},
      {"no URL", "slack", {{"webhook_url", "SECRETSECRET"}}, "webhook_url"},
      {"plain HTTP to the world",
       "slack",
       {{"webhook_url", "http://hooks.slack.com/services/T1A/B1A/SECRETSECRET"}},
       "webhook_url"},
      {"not a webhook's path",
       "slack",
       {{"webhook_url", "https://hooks.slack.com/SECRETSECRET"}},
       "webhook_url"},
      {"a workflow's path",
       "slack",
       {{"webhook_url", "https://hooks.slack.com/workflows/T1/A1/1/SECRETSECRET"}},
       "webhook_url"},
      {"a part is missing",
       "slack",
       {{"webhook_url", "https://hooks.slack.com/services/T1AA/SECRETSECRET"}},
       "webhook_url"},
      {"parts in the wrong order",
       "slack",
       {{"webhook_url", "https://hooks.slack.com/services/B1A/T1A/SECRETSECRET"}},
       "webhook_url"},
      {"a part too many",
       "slack",
       {{"webhook_url", "https://hooks.slack.com/services/T1A/B1A/SECRETSECRET/x"}},
       "webhook_url"},
      {"a password in it",
       "slack",
       {{"webhook_url", "https://u:SECRETSECRET@hooks.slack.com/services/T1/B1/x"}},
       "webhook_url"},
      {"a fragment", "slack", {{"webhook_url", kHook + "#SECRETSECRET"}}, "webhook_url"},
      {"the metadata service", "webhook", {{"url", "http://169.254.169.254/SECRETSECRET"}}, "url"},
      {"too patient", "slack", {{"webhook_url", kHook}, {"timeout", "1m"}}, "timeout"},
      {"too hasty", "slack", {{"webhook_url", kHook}, {"timeout", "5ms"}}, "timeout"},
      {"a proxy with a password",
       "slack",
       {{"webhook_url", kHook}, {"proxy", "http://u:SECRETSECRET@p:1"}},
       "proxy"},
      {"a proxy without a scheme", "slack", {{"webhook_url", kHook}, {"proxy", "proxy:3128"}}, "proxy"},
      {"proxy credentials without a colon",
       "slack",
       {{"webhook_url", kHook}, {"proxy", "http://p:1"}, {"proxy_auth", "SECRETSECRET"}},
       "proxy_auth"},
      {"no such CA file", "slack", {{"webhook_url", kHook}, {"ca_file", "/no/such/ca.pem"}}, "ca_file"},
      {"no key", "pagerduty", {}, "routing_key"},
      {"a REST key, which is shorter", "pagerduty", {{"routing_key", "SECRETSECRET12345678"}}, "routing_key"},
      {"a key too long", "pagerduty", {{"routing_key", kRoutingKey + "1"}}, "routing_key"},
      {"a key with other characters",
       "pagerduty",
       {{"routing_key", "e+23rschqsESqk9Q6_-gSECRETSECRET"}},
       "routing_key"},
      {"one character, many times", "pagerduty", {{"routing_key", std::string(32, '0')}}, "routing_key"},
      {"plain HTTP to PagerDuty",
       "pagerduty",
       {{"routing_key", kRoutingKey}, {"url", "http://events.pagerduty.com"}},
       "url"},
      {"PagerDuty's other API",
       "pagerduty",
       {{"routing_key", kRoutingKey}, {"url", "https://api.pagerduty.com"}},
       "url"},
      {"a question in the address",
       "pagerduty",
       {{"routing_key", kRoutingKey}, {"url", "https://events.pagerduty.com/?x=1"}},
       "url"},
      {"nobody to ask with",
       "pagerduty",
       {{"routing_key", kRoutingKey}, {"api_url", "https://api.pagerduty.com"}},
       "api_url"},
      {"an address that is not known",
       "pagerduty",
       {{"routing_key", kRoutingKey},
        {"url", "https://relay.internal"},
        {"api_token", "y_NbSECRETSECRETYEu"}},
       "api_url"},
      {"a question in its address",
       "pagerduty",
       {{"routing_key", kRoutingKey}, {"api_token", "y_NbSECRETSECRETYEu"}, {"api_url", "https://a.b/?x"}},
       "api_url"},
      {"the same key twice",
       "pagerduty",
       {{"routing_key", kRoutingKey}, {"api_token", kRoutingKey}},
       "api_token"},
      {"no peer", "alertmanager", {}, "url"},
      {"a query", "alertmanager", {{"url", "http://am:9093/?x=1"}}, "url"},
      {"two identities",
       "alertmanager",
       {{"url", "http://am"}, {"bearer_token", "SECRETSECRET"}, {"username", "u"}, {"password", "p"}},
       "bearer_token"},
      {"a user without a password", "alertmanager", {{"url", "http://am"}, {"username", "u"}}, "password"},
      {"a password without a user",
       "webhook",
       {{"url", "http://am"}, {"password", "SECRETSECRET"}},
       "password"},
      {"a user with a colon",
       "webhook",
       {{"url", "http://am"}, {"username", "a:b"}, {"password", "SECRETSECRET"}},
       "username"},
      {"a receipt that leads nowhere", "webhook", {{"url", "http://h"}, {"receipt", "id"}}, "receipt"},
      {"a receipt with an index", "webhook", {{"url", "http://h"}, {"receipt", "$.a[0]"}}, "receipt"},
      {"no path", "file", {}, "path"},
      {"a way up", "file", {{"path", "/var/log/../../etc/passwd"}}, "path"},
      {"a directory", "file", {{"path", "/tmp"}}, "path"},
      {"a directory to be", "file", {{"path", "/tmp/x/"}}, "path"},
      {"no such stream", "console", {{"stream", "printer"}}, "stream"},
      {"no such colour", "console", {{"colour", "green"}}, "colour"}};
  for (const Row& row : rows) {
    INFO(row.story);
    FakeFields fields(row.texts);
    CHECK(configure(row.type, fields) == nullptr);
    REQUIRE(fields.errors.size() == 1);
    INFO(fields.errors.front());
    CHECK(fields.errors.front().rfind(row.key + ": ", 0) == 0);
    CHECK(fields.errors.front().find("SECRET") == std::string::npos);
  }
}

TEST_CASE("registry: peers of a cluster are a lane each", "[sinks][registry]") {
  FakeFields fields;
  fields.set_list("urls", {"http://am-0:9093", "http://am-1:9093/", "http://am-2:9093/api/v2/alerts"});
  const std::unique_ptr<SinkConfig> config = configure("alertmanager", fields);
  REQUIRE(config != nullptr);
  CHECK(config->lanes() == 3);
  CHECK(config->destination() == "http://am-0:9093, http://am-1:9093, http://am-2:9093");

  FakeFields twice;
  twice.set_list("urls", {"http://am-0:9093", "http://am-0:9093/"});
  CHECK(configure("alertmanager", twice) == nullptr);
  CHECK(twice.errors.size() == 1);
  FakeFields both(FakeFields::Texts{{"url", "http://a"}});
  both.set_list("urls", {"http://b"});
  CHECK(configure("alertmanager", both) == nullptr);
  CHECK(both.errors.size() == 1);
  FakeFields none;
  none.set_list("urls", {});
  CHECK(configure("alertmanager", none) == nullptr);
  CHECK(none.errors.size() == 1);
}

TEST_CASE("registry: a webhook's headers are read, and may not be logbell's own", "[sinks][registry]") {
  const auto header = [](const std::string& name, const std::string& value) {
    rules::yaml::Node scalar;
    scalar.kind = rules::yaml::Node::Kind::kScalar;
    scalar.scalar = value;
    rules::yaml::Node map;
    map.kind = rules::yaml::Node::Kind::kMap;
    map.entries.push_back({name, {}, scalar});
    return map;
  };
  FakeFields good(FakeFields::Texts{{"url", "http://h"}});
  good.set_raw("headers", header("X-Team", "ops"));
  CHECK(configure("webhook", good) != nullptr);
  struct Row {
    const char* name;
    const char* value;
  };
  for (const Row& row : {Row{"Content-Length", "1"}, Row{"authorization", "x"}, Row{"Idempotency-Key", "x"},
                         Row{"a b", "x"}, Row{"x:y", "x"}, Row{"X-Ok", "a\r\nB: c"}, Row{"Host", "evil"},
                         Row{"", "x"}, Row{"X-Ok", "${TEAM}"}}) {
    INFO(row.name);
    FakeFields bad(FakeFields::Texts{{"url", "http://h"}});
    bad.set_raw("headers", header(row.name, row.value));
    CHECK(configure("webhook", bad) == nullptr);
    CHECK(bad.errors.size() == 1);
  }
  FakeFields text(FakeFields::Texts{{"url", "http://h"}});
  rules::yaml::Node scalar;
  scalar.kind = rules::yaml::Node::Kind::kScalar;
  scalar.scalar = "X: y";
  text.set_raw("headers", scalar);
  CHECK(configure("webhook", text) == nullptr);
}

TEST_CASE("registry: with assumed secrets nothing is judged by their value", "[sinks][registry]") {
  struct Row {
    const char* type;
    FakeFields::Texts texts;
  };
  for (const Row& row :
       {Row{"slack", {{"webhook_url", "x"}, {"proxy", "http://p:1"}, {"proxy_auth", "x"}}},
        Row{"slack", {{"webhook_url", "x"}, {"ca_file", "/only/there/ca.pem"}}},
        Row{"pagerduty", {{"routing_key", "x"}}},
        Row{"webhook", {{"url", "x"}, {"secret", "x"}, {"username", "u"}, {"password", "x"}}},
        Row{"alertmanager", {{"url", "http://am:9093"}, {"bearer_token", "x"}}}}) {
    INFO(row.type);
    FakeFields fields(row.texts);
    fields.assume(true);
    CHECK(configure(row.type, fields) != nullptr);
    CHECK(fields.errors.empty());
  }
  FakeFields missing;
  missing.assume(true);
  CHECK(configure("slack", missing) == nullptr);
}

TEST_CASE("registry: a file where nobody will find it is a warning", "[sinks][registry]") {
  FakeFields relative(FakeFields::Texts{{"path", "alerts.jsonl"}});
  CHECK(configure("file", relative) != nullptr);
  CHECK(relative.warnings.size() == 1);
  FakeFields nowhere(FakeFields::Texts{{"path", "/no/such/directory/alerts.jsonl"}});
  CHECK(configure("file", nowhere) != nullptr);
  CHECK(nowhere.warnings.size() == 1);
}

// Who is asked, how often, and which rules would reach nobody.
#include "engine/run/verify.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>

#include <catch2/catch.hpp>
#include <fmt/format.h>
#include <unistd.h>

#include "tests/support/fake_clock.h"

namespace logbell::engine {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using rules::Duration;
using sinks::ProofLevel;
using sinks::Reason;
using sinks::Verification;
using Kind = Verification::Verdict;
using tests::FakeClock;

Verification live() {
  return Verification::live(ProofLevel::kCredential, "hello -> I am here");
}
Verification dead() {
  return Verification::dead(Reason::kGone, ProofLevel::kNetwork, "hello -> HTTP 404: no_service");
}
Verification unknown(std::optional<Duration> after = {}) {
  return Verification::unknown(Reason::kServerError, ProofLevel::kNetwork, "hello -> HTTP 503", after);
}

// What a sink answers, and how often it was asked; by lane "name#i". Sinks are asked on several threads at
// once.
struct Script {
  std::map<std::string, Verification> answers;
  std::mutex mutex;
  std::map<std::string, int> asked;
  Duration longest{0};  // that one may have taken
  std::string secret = "hush";
  std::map<std::string, sinks::ReadBack> there;  // what it finds of a message
  std::map<std::string, int> looked;
};

class AskedSink final : public sinks::Sink {
 public:
  AskedSink(Script& script, std::string name) : script_(script), name_(std::move(name)) {}
  sinks::Outcome deliver(const rules::Notification& /*notification*/,
                         const sinks::Attempt& /*attempt*/) override {
    std::abort();  // nothing is sent
  }
  Verification verify(const sinks::Attempt& attempt) override {
    const std::lock_guard<std::mutex> lock(script_.mutex);
    script_.longest = std::max(script_.longest, attempt.timeout);
    ++script_.asked[name_];
    const auto found = script_.answers.find(name_);
    return found == script_.answers.end() ? live() : found->second;
  }
  sinks::ReadBack read_back(const rules::Notification& /*notification*/,
                            const sinks::Attempt& attempt) override {
    script_.longest = std::max(script_.longest, attempt.timeout);
    ++script_.looked[name_];
    return script_.there[name_];
  }

 private:
  Script& script_;
  std::string name_;
};

class AskedConfig final : public sinks::SinkConfig {
 public:
  AskedConfig(Script& script, std::string name, std::size_t lanes)
      : script_(script), name_(std::move(name)), lanes_(lanes) {}
  std::size_t lanes() const override { return lanes_; }
  std::unique_ptr<sinks::Sink> build(std::size_t lane, const sinks::SinkContext& /*context*/) const override {
    return std::make_unique<AskedSink>(script_, lanes_ == 1 ? name_ : fmt::format("{}#{}", name_, lane + 1));
  }
  std::vector<rules::Secret> secrets() const override { return {rules::Secret(script_.secret)}; }
  std::string destination() const override { return name_ + ".example.com"; }

 private:
  Script& script_;
  std::string name_;
  std::size_t lanes_;
};

constexpr const char* kBase = R"(
state_dir: /var/lib/logbell
sources: [{name: app, files: [app.log]}]
patterns:
  err: {match: 'ERROR (?P<queue>\w+)', labels: [queue], examples: ['ERROR a']}
sinks:
  a: {webhook: {url: 'https://a.example.com/'}}
  b: {webhook: {url: 'https://b.example.com/'}}
  am: {alertmanager: {urls: ['http://am-1:9093', 'http://am-2:9093']}}
  rec: {file: {path: /var/log/rec.jsonl}}
)";

class World {
 public:
  World() {
    std::string name = (fs::temp_directory_path() / "logbell-verify-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    state_dir = name;
  }
  ~World() {
    std::error_code ignored;
    fs::remove_all(state_dir, ignored);
  }
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  // The configuration that `rest` completes, with sinks that answer as the script says.
  std::shared_ptr<const Config> load(const std::string& rest) { return load_text(kBase + rest); }
  std::shared_ptr<const Config> load_text(const std::string& text) {
    ConfigWorld world;
    world.env = [](const std::string&) { return std::optional<std::string>(); };
    world.read_file = [&](const std::string&) { return rules::Result<std::string>(text); };
    world.glob = [](const std::string&) { return std::vector<std::string>(); };
    world.readable_by_others = [](const std::string&) { return false; };
    world.hostname = "api-7";
    world.now = clock.now();
    rules::Problems problems;
    const std::shared_ptr<const Config> loaded = load_config("logbell.yaml", world, {}, problems);
    for (const rules::Problem& problem : problems.sorted())
      UNSCOPED_INFO(problem.format());
    REQUIRE(loaded != nullptr);
    auto config = std::make_shared<Config>(*loaded);
    auto plan = std::make_shared<rules::Plan>(*config->plan);
    for (auto& [sink, spec] : plan->sinks)
      spec.settings ^= rules::hash_bytes(script.secret);
    config->plan = std::move(plan);
    for (auto& [sink, built] : config->sinks)
      built = std::make_shared<AskedConfig>(script, sink, sink == "am" ? 2 : 1);
    return config;
  }
  Verdicts ask(const Config& config) { return verify_sinks(config, clock, state_dir.string()); }
  // What is said of it, one line a problem, without places and fixes.
  std::vector<std::string> problems(const std::string& rest, const Config* running = nullptr) {
    return problems_of(kBase + rest, running);
  }
  std::vector<std::string> problems_of(const std::string& text, const Config* running = nullptr) {
    const std::shared_ptr<const Config> config = load_text(text);
    rules::Problems found;
    const Verdicts known = running == nullptr ? Verdicts() : verify_sinks(*running, clock, "");
    report_dead(*config, verify_sinks(*config, clock, ""), running, known, found);
    std::vector<std::string> lines;
    for (const rules::Problem& problem : found.sorted()) {
      CHECK_FALSE(problem.fix.empty());
      CHECK(problem.place.line > 0);
      lines.push_back((problem.severity == rules::Severity::kError ? "" : "warning: ") + problem.subject +
                      ": " + problem.reason);
    }
    return lines;
  }

  Script script;
  FakeClock clock;
  fs::path state_dir;
};

using Lines = std::vector<std::string>;
constexpr const char* kRule = "rules:\n  - {alert: Errors, expr: 'count_over_time(err[1m]) > 1', sinks: ";

TEST_CASE("verify: every lane is asked, and what it said is kept for a while", "[run][verify][F52]") {
  World world;
  const auto config = world.load(std::string(kRule) + "[a, b, am, rec]}\nroute: {sinks: [a]}\n");
  world.script.answers["b"] = dead();
  world.script.answers["am#2"] = unknown();
  const Verdicts first = world.ask(*config);
  REQUIRE(first.size() == 5);
  CHECK(first.at("a").found.verdict == Kind::kLive);
  CHECK(first.at("b").found.verdict == Kind::kDead);
  CHECK(first.at("am#1").found.verdict == Kind::kLive);
  CHECK(first.at("am#2").found.verdict == Kind::kUnknown);
  CHECK(first.at("am#2").sink == "am");
  CHECK_FALSE(first.at("a").remembered);
  CHECK(is_dead(config->plan->sinks.at("b"), first));
  CHECK_FALSE(is_dead(config->plan->sinks.at("am"), first));
  for (const auto& [lane, count] : world.script.asked)
    CHECK(count == 1);
  CHECK(world.script.longest == kVerifyTimeout);

  // A crash loop asks nobody.
  world.clock.advance(29s);
  const Verdicts second = world.ask(*config);
  for (const auto& [lane, count] : world.script.asked)
    CHECK(count == 1);
  for (const auto& [lane, verdict] : second) {
    CHECK(verdict.remembered);
    CHECK(verdict.found.verdict == first.at(lane).found.verdict);
    CHECK(verdict.found.level == first.at(lane).found.level);
    CHECK(verdict.found.reason == first.at(lane).found.reason);
    CHECK(verdict.found.evidence == first.at(lane).found.evidence);
    CHECK(verdict.at == first.at(lane).at);
    CHECK(verdict.whom == first.at(lane).whom);
  }
  world.clock.advance(1s);
  world.ask(*config);
  CHECK(world.script.asked["am#2"] == 2);
  CHECK(world.script.asked["b"] == 1);
  CHECK(verify_sinks(*config, world.clock, world.state_dir.string(), Dead::kAskedAgain).at("b").at ==
        world.clock.now());
  CHECK(world.script.asked["b"] == 2);
  CHECK(world.script.asked["a"] == 1);
  // Whoever mended it and starts again is not refused for old news.
  world.script.answers.erase("b");
  world.clock.advance(59s);
  CHECK(world.ask(*config).at("b").found.verdict == Kind::kDead);
  world.clock.advance(1s);
  CHECK(world.ask(*config).at("b").found.verdict == Kind::kLive);
  CHECK(world.script.asked["b"] == 3);
  CHECK(world.script.asked["a"] == 1);
  world.clock.advance(14min);
  world.ask(*config);
  CHECK(world.script.asked["a"] == 2);
}

TEST_CASE("verify: another secret is another question, and so is a clock that was set back",
          "[run][verify][F52]") {
  World world;
  const auto ask = [&] { world.ask(*world.load(std::string(kRule) + "[a]}\nroute: {sinks: [a]}\n")); };
  ask();
  CHECK(world.script.asked["a"] == 1);
  world.script.secret = "another";
  ask();
  CHECK(world.script.asked["a"] == 2);
  world.script.secret = "hush";
  ask();
  CHECK(world.script.asked["a"] == 2);
  world.clock.step_wall(-1h);
  ask();
  CHECK(world.script.asked["a"] == 3);
}

TEST_CASE("verify: what cannot be read is asked again, and no secret is kept", "[run][verify][F52]") {
  World world;
  world.script.secret = "s3cr3t-enough";
  const auto config = world.load(std::string(kRule) + "[a]}\nroute: {sinks: [a]}\n");
  world.ask(*config);
  const fs::path kept = world.state_dir / "logbell" / "verified";
  REQUIRE(fs::exists(kept));
  CHECK((fs::status(kept).permissions() & fs::perms(0077)) == fs::perms::none);
  std::ifstream in(kept);
  const std::string text{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  CHECK(text.find("s3cr3t") == std::string::npos);
  for (const char* broken : {"", "\n\n", "a b c\n", "0123456789abcdef 12x live L2 ok hm\n"}) {
    std::ofstream(kept) << broken;
    const int before = world.script.asked["a"];
    world.ask(*config);
    CHECK(world.script.asked["a"] == before + 1);
  }
  std::string other = text;
  for (std::size_t at = other.find("live"); at != std::string::npos; at = other.find("live"))
    other.replace(at, 4, "dull");
  std::ofstream(kept) << other;
  const int before = world.script.asked["a"];
  world.ask(*config);
  CHECK(world.script.asked["a"] == before + 1);
}

TEST_CASE("verify: a rule whose every way to somebody is dead is refused", "[run][verify][F52]") {
  World world;
  world.script.answers["a"] = dead();
  const std::string gone = "a is dead (hello -> HTTP 404: no_service)";
  const std::string root = "\nroute: {sinks: [b]}\n";
  const auto with = [&](const std::string& sinks) { return kRule + sinks + "}" + root; };

  CHECK(world.problems(with("[a]")) == Lines{"rule \"Errors\": it would reach nobody: " + gone});
  // A file tells no person.
  CHECK(world.problems(with("[a, rec]")) == Lines{"rule \"Errors\": it would reach nobody: " + gone});
  CHECK(world.problems(with("[a, b]")) == Lines{"warning: sink \"a\": no message would arrive: " + gone});
  CHECK(world.problems(with("[b]")) == Lines{"warning: sink \"a\": no message would arrive: " + gone});
  world.script.answers["am#1"] = dead();
  CHECK(world.problems(with("[a, am]")) == Lines{"warning: sink \"a\": no message would arrive: " + gone});
  world.script.answers["am#2"] = dead();
  const std::string no_peer = "am is dead (hello -> HTTP 404: no_service; hello -> HTTP 404: no_service)";
  CHECK(world.problems(with("[a, am]")) ==
        Lines{"rule \"Errors\": it would reach nobody: " + gone + ", " + no_peer});
  world.script.answers["am#2"] = unknown();
  CHECK(world.problems(with("[am]")) == Lines{"warning: sink \"a\": no message would arrive: " + gone});
  // Logbell's own alerts alone are no reason.
  world.script.answers["b"] = dead();
  CHECK(world.problems(with("[am]")).size() == 2);
  CHECK(world.problems(with("[a, b]")).front().find("it would reach nobody") != std::string::npos);
}

TEST_CASE("verify: one way of several is enough to be refused, and a fallback to be reached",
          "[run][verify][F52]") {
  World world;
  world.script.answers["a"] = dead();
  const std::string rule =
      "rules:\n  - {alert: Errors, expr: 'sum by (queue) (count_over_time(err[1m])) > 1'}\n";
  const Lines lines =
      world.problems(rule + "route: {sinks: [b], routes: [{matchers: ['queue=\"mails\"'], sinks: [a]}]}\n");
  REQUIRE(lines.size() == 1);
  CHECK(lines.front() ==
        "rule \"Errors\": it would reach nobody when queue=\"mails\" holds: a is dead (hello -> HTTP 404: "
        "no_service)");
  // What reaches nobody already: a reload that mends something else is not held up by it.
  const auto running = world.load(rule + "route: {sinks: [a]}\n");
  CHECK(world.problems(rule + "route: {sinks: [a]}\n", running.get()) ==
        Lines{"warning: sink \"a\": no message would arrive: a is dead (hello -> HTTP 404: no_service)"});
  // But one that takes the last living sink away is.
  const auto both = world.load(rule + "route: {sinks: [a, b]}\n");
  CHECK(world.problems(rule + "route: {sinks: [a]}\n", both.get()).front().find("it would reach nobody") !=
        std::string::npos);
}

TEST_CASE("verify: a fallback is as good as its sink, the fallback's own is none of it",
          "[run][verify][F52]") {
  World world;
  world.script.answers["a"] = dead();
  const std::string rule = std::string(kRule) + "[a]}\nroute: {sinks: [am]}\n";
  const auto with = [&](const std::string& a, const std::string& b) {
    std::string text = kBase;
    const auto put = [&](const std::string& host, const std::string& fallback) {
      const std::string end = "https://" + host + ".example.com/'}";
      text.insert(text.find(end) + end.size(), fallback);
    };
    put("a", a);
    put("b", b);
    return text + rule;
  };
  CHECK(world.problems_of(with("", "")).front().find("it would reach nobody") != std::string::npos);
  CHECK(world.problems_of(with(", fallback: [b]", "")).front().find("warning: sink") == 0);
  world.script.answers["b"] = dead();
  CHECK(
      world.problems_of(with(", fallback: [b]", ", fallback: [am]")).front().find("it would reach nobody") !=
      std::string::npos);
  CHECK(world.problems_of(with(", fallback: [b, am]", "")).front().find("warning: sink") == 0);
}

TEST_CASE("verify: what a machine reads refuses no start, and is no person", "[run][verify][F52]") {
  World world;
  world.script.answers["a"] = dead();
  std::string text = kBase;
  const std::string file = "{path: /var/log/rec.jsonl}";
  text.insert(text.find(file) + file.size(), ", audience: machine");
  const std::string root = "}\nroute: {sinks: [b]}\n";
  CHECK(world.problems_of(text + kRule + "[a, rec]" + root) ==
        Lines{"warning: rule \"Errors\": it would reach no person: a is dead (hello -> HTTP 404: "
              "no_service); only rec is "
              "left, which a machine reads"});
  CHECK(world.problems_of(text + kRule + "[a, b, rec]" + root).front().find("warning: sink") == 0);
  const auto lost = [&](const std::string& sinks, const std::set<std::string>& dead_ones) {
    return rules_that_reach_nobody(*world.load_text(text + kRule + sinks + root)->plan, dead_ones);
  };
  CHECK(lost("[a, rec]", {"a"}) == Lines{"Errors"});
  CHECK(lost("[a, b, rec]", {"a"}).empty());
  // It is for a machine, and that one is well.
  CHECK(lost("[rec]", {"a"}).empty());
  CHECK(lost("[rec]", {"rec"}) == Lines{"Errors"});
}

TEST_CASE("verify: the same refusal is the same whatever the answer", "[run][verify][F52]") {
  World world;
  world.script.answers["a"] = dead();

  const auto identity = [&](const std::string& evidence) {
    world.script.answers["a"] = Verification::dead(Reason::kGone, ProofLevel::kNetwork, evidence);
    const auto config = world.load(std::string(kRule) + "[a]}\nroute: {sinks: [b]}\n");
    rules::Problems found;
    report_dead(*config, verify_sinks(*config, world.clock, ""), nullptr, {}, found);
    REQUIRE(found.errors() == 1);
    return found.all().front().identity;
  };
  CHECK(identity("HTTP 404: request 1") == identity("HTTP 404: request 2"));
  CHECK_FALSE(identity("x").empty());
}

TEST_CASE("verify: what is unknown refuses nothing", "[run][verify][F52]") {
  World world;
  world.script.answers["a"] = unknown();
  CHECK(world.problems(std::string(kRule) + "[a]}\nroute: {sinks: [b]}\n").empty());
}

TEST_CASE("verify: where nobody answers is a warning to who asks before a start", "[run][verify][F52]") {
  World world;
  const auto config = world.load(kRule + std::string("[a, b]}\nroute: {sinks: [a]}\n"));
  const auto warnings = [&](const Verification& answer) {
    world.script.answers = {{"a", live()}, {"b", answer}};
    rules::Problems found;
    warn_of_silence(*config->plan, verify_sinks(*config, world.clock, ""), found);
    Lines lines;
    for (const rules::Problem& problem : found.sorted()) {
      CHECK(problem.severity == rules::Severity::kWarning);
      lines.push_back(problem.subject + ": " + problem.reason);
    }
    return lines;
  };
  CHECK(warnings(Verification::unknown(Reason::kDns, ProofLevel::kStatic, "HEAD -> no such host")) ==
        Lines{"sink \"b\": nobody answered there, so it is not known whether a message would arrive: HEAD -> no such host"});
  // It answered; or it is one that cannot be asked.
  CHECK(warnings(Verification::unknown(Reason::kServerError, ProofLevel::kNetwork, "HEAD -> HTTP 503")).empty());
  CHECK(warnings(Verification::unknown(Reason::kOk, ProofLevel::kStatic, "cannot be asked")).empty());
  CHECK(warnings(dead()).empty());
  CHECK(warnings(live()).empty());
}

TEST_CASE("verify: a certificate that ends soon is told, also from memory", "[run][verify][F44]") {
  World world;
  const auto config = world.load(kRule + std::string("[a, b]}\nroute: {sinks: [a]}\n"));
  Verification far = live();
  far.certificate_ends = world.clock.now() + 24h * 14;
  Verification soon = live();
  soon.certificate_ends = *far.certificate_ends - 1ms;
  world.script.answers = {{"a", far}, {"b", soon}};
  world.ask(*config);
  world.script.asked.clear();
  const Verdicts verdicts = world.ask(*config);
  CHECK(world.script.asked.empty());  // remembered
  CHECK(verdicts.at("a").found.certificate_ends == far.certificate_ends);
  CHECK_FALSE(verdicts.at("am#1").found.certificate_ends);
  CHECK(verdicts.at("b").found.evidence ==
        "hello -> I am here; its certificate ends " + rules::format_rfc3339(*soon.certificate_ends));
  CHECK_FALSE(ends_soon(verdicts.at("a")));
  CHECK(ends_soon(verdicts.at("b")));
  rules::Problems found;
  report_dead(*config, verdicts, nullptr, {}, found);
  REQUIRE(found.sorted().size() == 1);
  const rules::Problem said = found.sorted().front();
  CHECK(said.severity == rules::Severity::kWarning);
  CHECK(said.subject == "sink \"b\"");
  CHECK(said.reason == "the certificate that b shows ends at " +
                           rules::format_rfc3339(*soon.certificate_ends) + ": then no message arrives");
}

// --- the loop

class LoopWorld : public World {
 public:
  explicit LoopWorld(const std::string& sinks) : LoopWorld(kBase, sinks) {}
  LoopWorld(const std::string& base, const std::string& sinks) {
    config = load_text(base + kRule + sinks + "}\nroute: {sinks: [a]}\n");
    VerifyLoop::Options options;
    options.clock = &clock;
    options.tell = [this](const Verdict& verdict) { told.push_back(verdict); };
    options.found = [this](const std::string& lane, const rules::Notification& about,
                           const sinks::ReadBack& back, const std::set<std::size_t>* all) {
      std::string words = lane + " " + about.key + ":";
      for (const std::size_t index : back.found)
        words += fmt::format(" {}", index);
      for (const auto& one : back.acknowledged)
        words += fmt::format(", {} by {}", one.alert, one.who);
      if (all != nullptr) words += fmt::format(", {} in all", all->size());
      found.push_back(words);
    };
    options.looked = [this](std::string_view outcome) { ++looks[std::string(outcome)]; };
    loop = std::make_unique<VerifyLoop>(std::move(options), config, verify_sinks(*config, clock, ""));
    script.asked.clear();
  }
  // Steps until there is nothing to do; how long until there is.
  std::optional<Duration> pass(Duration span) {
    clock.advance(span);
    for (int i = 0; i < 100; ++i) {
      const std::optional<rules::Instant> next = loop->step();
      if (!next) return std::nullopt;
      if (*next > clock.instant()) return std::chrono::floor<Duration>(*next - clock.instant());
    }
    FAIL("it never rests");
    return {};
  }

  std::shared_ptr<const Config> config;
  std::vector<Verdict> told;
  std::vector<std::string> found;
  std::map<std::string, int> looks;
  std::unique_ptr<VerifyLoop> loop;
};

TEST_CASE("verify loop: what is live is asked every quarter of an hour", "[run][verify]") {
  LoopWorld world("[a, b]");
  CHECK(world.pass(0s) == Duration(15min));
  CHECK(world.told.empty());
  world.script.answers["a"] = dead();
  CHECK(world.pass(15min) == Duration(15min));
  CHECK(world.script.asked["a"] == 1);
  CHECK(world.script.asked["b"] == 1);
  REQUIRE(world.told.size() == 5);  // rec and both peers, too
  CHECK(world.loop->verdicts().at("a").found.verdict == Kind::kDead);
  CHECK(world.pass(15min) == Duration(15min));
  CHECK(world.script.asked["a"] == 2);
}

// The world's sinks, and a type that minds being asked.
std::string with_mail() {
  return kBase +
         std::string("  mail: {email: {to: ops@example.com, from: a@example.com, server: 'smtp://mail'}}\n");
}

TEST_CASE("verify loop: a type that minds being asked is asked once a day", "[run][verify]") {
  LoopWorld world(with_mail(), "[mail]");
  for (int i = 0; i < 95; ++i)
    world.pass(15min);
  CHECK(world.script.asked["mail"] == 0);
  CHECK(world.script.asked["a"] == 95);
  world.script.answers["mail"] = dead();
  world.pass(15min);
  CHECK(world.script.asked["mail"] == 1);
  // Each hour while somebody mends it.
  world.pass(45min);
  CHECK(world.script.asked["mail"] == 1);
  world.pass(15min);
  CHECK(world.script.asked["mail"] == 2);
  world.script.answers["mail"] = unknown();
  world.pass(60min);
  CHECK(world.script.asked["mail"] == 3);
  // What says nothing is asked again as any other, but for what it wishes itself.
  world.pass(30s);
  CHECK(world.script.asked["mail"] == 4);
  world.script.answers["mail"] = live();
  world.pass(30s);
  world.pass(23h);
  CHECK(world.script.asked["mail"] == 5);
  world.pass(1h);
  CHECK(world.script.asked["mail"] == 6);
}

TEST_CASE("verify: and a start believes its last answer for a day", "[run][verify]") {
  World world;
  const auto config = world.load_text(with_mail() + kRule + "[mail]}\nroute: {sinks: [a]}\n");
  world.ask(*config);
  world.clock.advance(Duration(24h) - 1s);
  CHECK(world.ask(*config).at("mail").remembered);
  CHECK(world.script.asked["mail"] == 1);
  CHECK(world.script.asked["a"] == 2);
  world.clock.advance(1s);
  CHECK_FALSE(world.ask(*config).at("mail").remembered);
}

TEST_CASE("verify: one that is live for some of those whom it is to tell is a warning, also when remembered",
          "[run][verify][F52]") {
  World world;
  Verification partly = live();
  partly.reason = Reason::kPartlyRefused;
  partly.evidence = "1 of 2 recipients are taken, the others refused: RCPT TO bob@example.com -> 550";
  world.script.answers["a"] = partly;
  const std::string rule = std::string(kRule) + "[a]}\nroute: {sinks: [b]}\n";
  CHECK(world.problems(rule) ==
        std::vector<std::string>{"warning: sink \"a\": not everybody behind it would hear: " +
                                 partly.evidence});
  const auto config = world.load(rule);
  world.ask(*config);
  const Verdicts again = world.ask(*config);
  CHECK(again.at("a").remembered);
  CHECK(leaves_somebody_out(again.at("a").found));
  CHECK_FALSE(leaves_somebody_out(again.at("b").found));
}

TEST_CASE("verify loop: what says nothing is asked again soon, then ever more rarely", "[run][verify][F52]") {
  LoopWorld world("[a]");
  world.pass(14min);
  world.script.answers["a"] = unknown();
  world.pass(1min);
  const rules::Timestamp since = world.clock.now();
  for (int i = 0; i < 9; ++i)
    CHECK(world.pass(30s) == Duration(30s));
  CHECK(world.script.asked["a"] == 10);
  CHECK(world.loop->verdicts().at("a").unknown_since == since);
  CHECK(world.pass(30s) == Duration(1min));
  CHECK(world.clock.now() - since == Duration(kUnverifiedAfter));
  CHECK(world.told.back().unknown_since == since);
  CHECK(world.pass(1min) == Duration(2min));
  CHECK(world.pass(2min) == Duration(4min));
  // Never more rarely than what is live.
  for (int i = 0; i < 10; ++i)
    world.pass(15min);
  const int before = world.script.asked["a"];
  world.pass(15min);
  CHECK(world.script.asked["a"] == before + 1);
  world.script.answers.clear();
  world.pass(15min);
  CHECK_FALSE(world.loop->verdicts().at("a").unknown_since);
  world.script.answers["a"] = unknown(Duration(5min));
  world.pass(15min);
  CHECK(world.pass(30s) > Duration(4min));
}

TEST_CASE("verify loop: a new configuration is asked in its own time; the old one's answers count no more",
          "[run][verify]") {
  LoopWorld world("[a]");
  world.script.answers["a"] = unknown();
  world.pass(15min);
  const rules::Timestamp since = world.clock.now();
  world.clock.advance(10s);
  world.loop->replace(world.config, verify_sinks(*world.config, world.clock, ""));
  CHECK(world.loop->verdicts().at("a").unknown_since == since);
  world.script.asked.clear();
  CHECK(world.pass(29s) == Duration(1s));
  CHECK(world.script.asked.empty());
  world.pass(1s);
  CHECK(world.script.asked["a"] == 1);
  world.loop->stop();
  CHECK(world.loop->done());
  CHECK_FALSE(world.loop->step());
}

// The world's sinks, and one that tells who has acknowledged what.
std::string with_pager() {
  return kBase + std::string("  pager: {pagerduty: {routing_key: 'R0123456789ABCDEF0123456789ABCDE'}}\n");
}

rules::Notification message(const std::string& key, const std::string& sink, const std::string& drill = "") {
  rules::Notification notification;
  notification.key = key;
  notification.sink = notification.lane = sink;
  notification.drill = drill;
  notification.alerts.resize(2);
  return notification;
}

TEST_CASE("verify loop: a drill's message is looked for, a real one where the sink tells who has seen it",
          "[run][verify]") {
  LoopWorld world(with_pager(), "[pager]");
  world.pass(0s);
  world.script.there["am#1"] = {true, {0, 1}, "its receivers: test", {}, false};
  const rules::Notification drill = message("1", "am", "d");
  CHECK(world.loop->looks_for(drill));
  CHECK(world.loop->look_for("am#1", drill));
  CHECK_FALSE(world.loop->looks_for(message("2", "am")));
  CHECK_FALSE(world.loop->look_for("am#1", message("2", "am")));   // it tells nobody's name
  CHECK_FALSE(world.loop->look_for("a", message("3", "a", "d")));  // it cannot be asked
  CHECK_FALSE(world.loop->look_for("gone", message("4", "gone", "d")));
  world.pass(0s);
  CHECK(world.found == Lines{"am#1 1: 0 1, 2 in all"});
  CHECK(world.looks == std::map<std::string, int>{{"found", 1}});
  CHECK(world.script.longest <= kVerifyTimeout);
}

TEST_CASE("verify loop: what a drill has brought is missing when it was looked for three times",
          "[run][verify][F53]") {
  LoopWorld world(with_pager(), "[pager]");
  world.pass(0s);
  sinks::ReadBack& there = world.script.there["am#1"];
  there = {true, {0}, "its receivers: test", {}, false};
  world.loop->look_for("am#1", message("1", "am", "d"));
  CHECK(world.pass(0s) == Duration(2s));
  CHECK(world.found == Lines{"am#1 1: 0"});
  CHECK(world.pass(2s) == Duration(8s));
  SECTION("it is not there") {
    world.pass(8s);
    CHECK(world.found == Lines{"am#1 1: 0", "am#1 1:, 1 in all"});
    CHECK(world.looks == std::map<std::string, int>{{"missing", 3}});
  }
  SECTION("it shows a little later") {
    there.found = {0, 1};
    world.pass(8s);
    CHECK(world.found == Lines{"am#1 1: 0", "am#1 1: 1, 2 in all"});
  }
  SECTION("it does not say, and may still be asked who has acknowledged it") {
    there = {};
    there.open = true;
    CHECK(world.pass(8s) == Duration(30s));
    CHECK(world.found == Lines{"am#1 1: 0", "am#1 1:, 1 in all"});
    world.pass(30s);
    CHECK(world.found.size() == 2);
  }
  const int looked = world.script.looked["am#1"];
  if (!there.open) {
    world.pass(1h);
    CHECK(world.script.looked["am#1"] == looked);
  }
}

TEST_CASE("verify loop: who has acknowledged a message is asked for again and again, ever more rarely",
          "[run][verify]") {
  LoopWorld world(with_pager(), "[pager]");
  world.pass(0s);
  sinks::ReadBack& there = world.script.there["pager"];
  there.open = true;
  there.evidence = "GET incidents -> HTTP 503";
  world.loop->look_for("pager", message("1", "pager"));
  CHECK(world.pass(0s) == Duration(30s));  // before the questions that are due in a quarter of an hour
  CHECK(world.found.empty());
  there.answered = true;
  there.found = {0, 1};
  CHECK(world.pass(30s) == Duration(30s));
  CHECK(world.found == Lines{"pager 1: 0 1"});
  world.pass(30s);
  CHECK(world.found.size() == 1);  // that is no news
  there.acknowledged = {{1, "Anna", {}, Duration(60s), ""}};
  world.pass(30s);
  CHECK(world.found.back() == "pager 1:, 1 by Anna");
  SECTION("until each has been") {
    there.acknowledged.push_back({0, "Bob", {}, Duration(60s), ""});
    there.open = false;
    world.pass(30s);
    CHECK(world.found.back() == "pager 1:, 0 by Bob, 2 in all");
    const int looked = world.script.looked["pager"];
    world.pass(1h);
    CHECK(world.script.looked["pager"] == looked);
    CHECK(world.looks["given_up"] == 0);
  }
  SECTION("for a night") {
    for (int i = 0; i < 60 * 9; ++i)
      world.pass(1min);
    CHECK(world.script.looked["pager"] > 40);
    CHECK(world.script.looked["pager"] < 80);
    CHECK(world.found.back() == "pager 1:, 2 in all");
    CHECK(world.looks["given_up"] == 1);
    CHECK(world.looks["unanswered"] == 1);
  }
  SECTION("while the sink is in the configuration") {
    world.loop->replace(world.load(kRule + std::string("[a]}\nroute: {sinks: [a]}\n")), {});
    const int looked = world.script.looked["pager"];
    world.pass(1h);
    CHECK(world.script.looked["pager"] == looked);
  }
}

TEST_CASE("verify loop: of what is looked for there is a bound, and questions have their turn",
          "[run][verify]") {
  LoopWorld world(with_pager(), "[pager]");
  world.pass(0s);
  world.script.there["pager"].open = true;
  for (int i = 0; i < 101; ++i)
    world.loop->look_for("pager", message(std::to_string(i), "pager"));
  CHECK(world.looks == std::map<std::string, int>{{"dropped", 1}});
  // All are due, and so are the questions: one of these after one of those.
  world.clock.advance(15min);
  for (int i = 0; i < 10; ++i)
    world.loop->step();
  CHECK(world.script.looked["pager"] == 5);
  CHECK(world.told.size() == 5);
}

}  // namespace
}  // namespace logbell::engine

// A start that was refused: who is told, how often, and that no secret is.
#include "engine/run/refusal.h"

#include <condition_variable>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <mutex>

#include <catch2/catch.hpp>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/fake_clock.h"
#include "tests/support/fake_sink.h"

namespace logbell::engine {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using Told = RefusalReport::Outcome;
using rules::Duration;
using sinks::Outcome;
using sinks::Reason;
using tests::FakeClock;
using tests::FakeSink;

class FakeConfig final : public sinks::SinkConfig {
 public:
  FakeConfig(FakeSink::Script& script, std::size_t lanes) : script_(script), lanes_(lanes) {}
  std::size_t lanes() const override { return lanes_; }
  std::unique_ptr<sinks::Sink> build(std::size_t lane, const sinks::SinkContext& context) const override {
    built.push_back(lane);
    environment = context.environment;
    return std::make_unique<FakeSink>(script_);
  }
  std::vector<rules::Secret> secrets() const override {
    return {rules::Secret("hush"), rules::Secret("hush-hush")};
  }
  std::string destination() const override { return where; }

  std::string where = "hooks.example.com";
  mutable std::vector<std::size_t> built;
  mutable std::string environment;

 private:
  FakeSink::Script& script_;
  std::size_t lanes_;
};

class World {
 public:
  World() {
    std::string name = (fs::temp_directory_path() / "logbell-refusal-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    state_dir = name;
    refusal.path = "/etc/logbell.yaml";
    refusal.labels = {{"instance", "orders-1"}, {"environment", "production"}};
    refusal.state_dir = state_dir.string();
    refusal.problems.error({"/etc/logbell.yaml", 12, 11}, "rule \"Q\"", "reaches no sink", "name one");
    refusal.problems.warn({"/etc/logbell.yaml", 1, 1}, "", "a warning");
  }
  ~World() {
    std::error_code ignored;
    fs::remove_all(state_dir, ignored);
  }
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  FakeSink::Script& sink(const std::string& name, bool tells_people = true, std::size_t lanes = 1) {
    FakeSink::Script& script = scripts[name];
    script.clock = &clock;
    rules::SinkSpec spec;
    spec.name = name;
    spec.tells_people = tells_people;
    for (std::size_t i = 0; i < lanes; ++i)
      spec.lanes.push_back(lanes == 1 ? name : fmt::format("{}#{}", name, i + 1));
    configs[name] = std::make_shared<FakeConfig>(script, lanes);
    sinks.emplace_back(spec, configs[name]);
    return script;
  }
  // "name: outcome", for each sink; as another process would.
  std::string tell() {
    report = tell_refusal(sinks, refusal, clock);
    std::string text;
    for (const RefusalReport::One& one : report.sinks) {
      static constexpr std::array<const char*, 5> kNames{"told",   "told before", "tried before",
                                                         "failed", "nobody"};
      text += fmt::format("{}{}: {}", text.empty() ? "" : ", ", one.sink,
                          kNames.at(static_cast<std::size_t>(one.outcome)));
    }
    return text;
  }
  fs::path memory() const { return state_dir / "logbell" / "refused"; }

  FakeClock clock;
  Refusal refusal;
  RefusalReport report;
  SalvagedSinks sinks;
  std::map<std::string, FakeSink::Script> scripts;
  std::map<std::string, std::shared_ptr<FakeConfig>> configs;
  fs::path state_dir;
};

}  // namespace

TEST_CASE("refusal: each sink that tells people is told why, files and consoles are not", "[run][refusal]") {
  World world;
  world.sink("slack");
  world.sink("file", false);
  world.sink("oncall");
  CHECK(world.tell() == "slack: told, file: nobody, oncall: told");
  CHECK(world.report.told() == 2);
  CHECK(world.report.sinks[0].detail == "receipt");
  CHECK(world.report.not_kept.empty());
  CHECK(world.scripts["file"].sent.empty());
  CHECK(world.configs["slack"]->environment == "production");

  REQUIRE(world.scripts["slack"].sent.size() == 1);
  const FakeSink::Sent& sent = world.scripts["slack"].sent[0];
  CHECK(sent.attempt.timeout == kRefusalTimeout);
  CHECK(sent.attempt.now == world.clock.now());
  const rules::Notification& told = sent.notification;
  CHECK(told.reason == rules::NotifyReason::kRefused);
  CHECK(told.sink == "slack");
  CHECK(told.lane == "slack");
  CHECK(told.text ==
        "logbell on orders-1 (production) refuses its configuration: 1 error in /etc/logbell.yaml. "
        "Nothing is watched until this is fixed.\n"
        "/etc/logbell.yaml:12:11: rule \"Q\": reaches no sink; name one");
  // For sinks that speak in alerts.
  REQUIRE(told.alerts.size() == 1);
  CHECK(told.alerts[0].is_firing());
  CHECK(told.alerts[0].name() == "PlanRefused");
  CHECK(told.alerts[0].labels.get("instance") == "orders-1");
  CHECK(told.alerts[0].fired_at == world.clock.now());
  CHECK(rules::decode_notification(rules::encode(told)));
}

TEST_CASE("refusal: where an earlier configuration goes on, it is an alert of that one", "[run][refusal]") {
  World world;
  world.refusal.consequence = "The last good configuration goes on until this is fixed.";
  const Condition one = reload_failed(world.refusal);
  CHECK(one.alertname == "ConfigReloadFailed");
  CHECK(one.labels.empty());
  CHECK(one.severity == "critical");
  CHECK(one.active);
  CHECK(one.renews);
  CHECK(one.summary ==
        "logbell on orders-1 (production) refuses its configuration: 1 error in /etc/logbell.yaml. "
        "The last good configuration goes on until this is fixed. "
        "/etc/logbell.yaml:12:11: rule \"Q\": reaches no sink; name one");
  // The first of several, as the file has them, without what nobody may see.
  world.refusal.secrets = {rules::Secret("hook"), rules::Secret("hook-of-sink")};
  world.refusal.problems.warn({"/etc/logbell.yaml", 1, 1}, "", "only a warning");
  world.refusal.problems.error({"/etc/logbell.yaml", 3, 5}, "sink \"s\"", "hook-of-sink is no URL",
                               "write one");
  const std::string several = reload_failed(world.refusal).summary;
  CHECK(several.find("fixed. /etc/logbell.yaml:3:5: sink \"s\": <secret> is no URL; write one; and 1 more") !=
        std::string::npos);
  CHECK_FALSE(reload_succeeded().active);
  CHECK(reload_succeeded().alertname == one.alertname);
}

TEST_CASE("refusal: the same refusal is told once an hour, another one at once", "[run][refusal]") {
  World world;
  world.sink("slack");
  CHECK(world.tell() == "slack: told");
  world.clock.advance(59min);
  CHECK(world.tell() == "slack: told before");
  CHECK(world.scripts["slack"].sent.size() == 1);
  SECTION("an hour later") {
    world.clock.advance(1min);
    CHECK(world.tell() == "slack: told");
    // Whoever keeps keys (a mailbox, a webhook's receiver) would take it for the first.
    CHECK(world.scripts["slack"].sent[0].notification.key != world.scripts["slack"].sent[1].notification.key);
  }
  SECTION("another problem") {
    world.refusal.problems.error({}, "", "and this");
    CHECK(world.tell() == "slack: told");
    CHECK(world.scripts["slack"].sent[0].notification.key != world.scripts["slack"].sent[1].notification.key);
  }
  SECTION("another text with the same problem") {
    world.refusal.configuration = "rules: []";
    CHECK(world.tell() == "slack: told");
  }
  SECTION("a sink that was not there") {
    world.sink("oncall");
    CHECK(world.tell() == "slack: told before, oncall: told");
  }
  SECTION("a sink that leads elsewhere now") {
    world.configs["slack"]->where = "hooks.example.org";
    CHECK(world.tell() == "slack: told");
  }
  SECTION("a clock that was set back") {
    world.clock.step_wall(-2h);
    CHECK(world.tell() == "slack: told");
  }
}

TEST_CASE("refusal: a sink that could not be told is tried again, but not in each round of a crash loop",
          "[run][refusal]") {
  World world;
  world.sink("slack").next = {Outcome::retry(Reason::kServerError, "503"), Outcome::unknown("lost")};
  world.sink("oncall");
  CHECK(world.tell() == "slack: failed, oncall: told");
  CHECK(world.report.sinks[0].detail == "server_error: 503");
  world.clock.advance(2s);
  CHECK(world.tell() == "slack: tried before, oncall: told before");
  world.clock.advance(1min);
  CHECK(world.tell() == "slack: failed, oncall: told before");
  world.clock.advance(1min);
  CHECK(world.tell() == "slack: told, oncall: told before");
}

TEST_CASE("refusal: of a sink's endpoints the first that takes it is enough", "[run][refusal]") {
  World world;
  world.sink("am", true, 3).next = {Outcome::retry(Reason::kConnect, "refused")};
  CHECK(world.tell() == "am: told");
  CHECK(world.configs["am"]->built == std::vector<std::size_t>{0, 1});
  CHECK(world.scripts["am"].sent[1].notification.lane == "am#2");
}

TEST_CASE("refusal: without a state_dir that can be written people are told all the same", "[run][refusal]") {
  World world;
  world.sink("slack");
  SECTION("none") {
    world.refusal.state_dir.clear();
  }
  SECTION("a file is in its place") {
    std::ofstream(world.state_dir / "file") << "x";
    world.refusal.state_dir = (world.state_dir / "file").string();
  }
  SECTION("a link is in its place") {
    fs::create_directory(world.state_dir / "elsewhere");
    fs::create_directory_symlink(world.state_dir / "elsewhere", world.state_dir / "logbell");
  }
  SECTION("a directory is where the memory should be") {
    fs::create_directories(world.memory() / "x");
  }
  CHECK(world.tell() == "slack: told");
  CHECK_FALSE(world.report.not_kept.empty());
  CHECK_FALSE(fs::exists(world.state_dir / "elsewhere" / "refused"));
  CHECK(world.tell() == "slack: told");
}

TEST_CASE(
    "refusal: F51 a start that fails with a good configuration is told as well, and says that it is one",
    "[run][refusal][F51]") {
  World world;
  world.refusal.could_not_start = true;
  world.refusal.problems = {};
  world.refusal.problems.error({"/etc/logbell.yaml"}, "",
                               "it could not be started: bind 127.0.0.1:9733: Address already in use");
  world.sink("slack");
  CHECK(world.tell() == "slack: told");
  CHECK(world.scripts["slack"].sent[0].notification.text ==
        "logbell on orders-1 (production) could not start with /etc/logbell.yaml. "
        "Nothing is watched until this is fixed.\n"
        "/etc/logbell.yaml: it could not be started: bind 127.0.0.1:9733: Address already in use");
  CHECK(world.tell() == "slack: told before");
  CHECK(world.report.not_kept.empty());
  world.clock.advance(61min);
  CHECK(world.tell() == "slack: told");
}

TEST_CASE("refusal: F51 a start that fails where nothing can be kept is told", "[run][refusal][F51]") {
  World world;
  world.refusal.could_not_start = true;
  world.refusal.spare_memory.clear();
  world.sink("slack");
  world.sink("oncall");
  world.sinks.back().first.type = "pagerduty";
  SECTION("a disk that is full takes a mark of no bytes") {
    // As good as full: there is no room for the file that is to become the memory.
    fs::create_directories(world.state_dir / "logbell" / fmt::format("refused.{}.new", ::getpid()) / "x");
    SECTION("with which all are told once an hour") {
      CHECK(world.tell() == "slack: told, oncall: told");
      CHECK(world.tell() == "slack: told before, oncall: told before");
      world.clock.advance(59min);
      CHECK(world.tell() == "slack: told before, oncall: told before");
      world.clock.advance(2min);
      CHECK(world.tell() == "slack: told, oncall: told");
    }
    SECTION("or, if nobody could be told, tried each minute") {
      world.scripts["slack"].always = world.scripts["oncall"].always =
          Outcome::retry(Reason::kServerError, "503");
      CHECK(world.tell() == "slack: failed, oncall: failed");
      CHECK(world.tell() == "slack: told before, oncall: told before");
      world.clock.advance(61s);
      CHECK(world.tell() == "slack: failed, oncall: failed");
    }
  }
  SECTION("a state_dir that takes nothing: the mark is in the spare one") {
    std::ofstream(world.state_dir / "file") << "x";
    world.refusal.state_dir = (world.state_dir / "file").string();
    world.refusal.spare_memory = world.state_dir.string();
    CHECK(world.tell() == "slack: told, oncall: told");
    CHECK(world.tell() == "slack: told before, oncall: told before");
  }
  SECTION("no place at all: each start is told") {
    std::ofstream(world.state_dir / "file") << "x";
    world.refusal.state_dir = (world.state_dir / "file").string();
    CHECK(world.tell() == "slack: told, oncall: told");
    CHECK(world.tell() == "slack: told, oncall: told");
    CHECK(world.scripts["oncall"].sent[0].notification.key ==
          world.scripts["oncall"].sent[1].notification.key);
  }
}

TEST_CASE("refusal: the memory is ours alone, bounded, and harmless when it is damaged", "[run][refusal]") {
  World world;
  world.sink("slack");
  CHECK(world.tell() == "slack: told");
  struct stat status {};
  REQUIRE(::stat(world.memory().c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0600);
  REQUIRE(::stat(world.memory().parent_path().c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0700);

  SECTION("many refusals") {
    std::string text;
    for (int i = 0; i < 3000; ++i)
      text += fmt::format("{:016x} {} told\n", i, i);
    std::ofstream(world.memory()) << text;
    CHECK(world.tell() == "slack: told");
    std::ifstream in(world.memory());
    CHECK(std::count(std::istreambuf_iterator<char>(in), {}, '\n') == static_cast<int>(kRefusalRemembered));
    CHECK(world.tell() == "slack: told before");
  }
  SECTION("rubbish") {
    const std::string rubbish =
        GENERATE(as<std::string>{}, "", "x", "a b", "a 1x told\n", "a  told\n", "\n\n \n",
                 std::string(100'000, '\0'), "a 99999999999999999999999 told");
    std::ofstream(world.memory()) << rubbish;
    CHECK(world.tell() == "slack: told");
    CHECK(world.tell() == "slack: told before");
  }
}

TEST_CASE("refusal: the message is short, clean and without secrets", "[run][refusal]") {
  World world;
  // One that is a part of what stands in its place, too.
  world.refusal.secrets = {rules::Secret("s3cr3t"), rules::Secret(""), rules::Secret("sec")};
  for (int i = 0; i < 9; ++i) {
    world.refusal.problems.error(
        {"a.yaml", i + 20, 1}, "sink \"x\"",
        "unknown value \"s3cr3t\" or hush-hush or xoxb-1234567890123\nand" + std::string(9000, 'y'));
  }
  world.refusal.consequence = "The last good configuration goes on.";
  world.sink("slack");
  world.tell();
  REQUIRE(world.scripts["slack"].sent.size() == 1);
  const rules::Notification& told = world.scripts["slack"].sent[0].notification;
  INFO(told.text);
  CHECK(told.text.find("10 errors") != std::string::npos);
  CHECK(told.text.find("goes on.") != std::string::npos);
  CHECK(told.text.find("and 5 more") != std::string::npos);
  CHECK(told.text.size() < 2000);
  CHECK(std::count(told.text.begin(), told.text.end(), '\n') == 6);
  const std::string all = rules::encode(told);
  for (const char* secret : {"s3cr3t", "hush", "xoxb"})
    CHECK(all.find(secret) == std::string::npos);
}

TEST_CASE("refusal: sinks that hang delay the others as little as the exit", "[run][refusal]") {
  World world;
  const rules::Instant began = world.clock.instant();
  SECTION("one: the others are told meanwhile") {
    // It waits until the others have been told: one after another this would never end.
    std::mutex mutex;
    std::condition_variable changed;
    int told = 0;
    world.sink("hung").answer = [&](const rules::Notification&, const sinks::Attempt&) {
      std::unique_lock lock(mutex);
      changed.wait(lock, [&] { return told == 3; });
      return Outcome::retry(Reason::kTimeout, "no answer");
    };
    for (const char* name : {"a", "b", "c"}) {
      world.sink(name).answer = [&](const rules::Notification&, const sinks::Attempt&) {
        const std::lock_guard lock(mutex);
        ++told;
        changed.notify_all();
        return Outcome::delivered("ok");
      };
    }
    CHECK(world.tell() == "hung: failed, a: told, b: told, c: told");
  }
  SECTION("all of the endpoints of one: it ends in time") {
    world.sink("am", true, 10).answer = [&](const rules::Notification&, const sinks::Attempt& attempt) {
      world.clock.advance(attempt.timeout);
      return Outcome::retry(Reason::kTimeout, "no answer");
    };
    CHECK(world.tell() == "am: failed");
    CHECK(world.clock.instant() - began == kRefusalTotal);
    CHECK(world.scripts["am"].sent.size() == 4);
    CHECK(world.report.sinks[0].detail == "timeout: no answer");
  }
}

}  // namespace logbell::engine

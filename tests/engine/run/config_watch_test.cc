// ConfigWatch: real files and real inotify, time handed in.
#include "engine/run/config_watch.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <catch2/catch.hpp>
#include <unistd.h>

#include "rules/problems.h"

namespace logbell::engine {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using std::chrono::seconds;
using Names = std::vector<std::string>;

constexpr const char* kConfig = R"(
sources: [{name: api, files: [/var/log/api.log]}]
rules: [{alert: Errors, match: ERROR, sinks: [ops]}]
rule_files: [rules.d/*.yaml]
sinks: {ops: {slack: {webhook_url_file: '%SECRET%'}}}
)";
constexpr const char* kRules =
    "groups: [{name: more, rules: [{alert: %NAME%, match: FATAL, sinks: [ops]}]}]\n";
constexpr const char* kSecret =
    "https://hooks.slack.com/services/TABCDEF12/BABCDEF12/abcdefghijklmnopqrstuvwx\n";

std::string filled(std::string text, const std::string& name, const std::string& value) {
  return text.replace(text.find(name), name.size(), value);
}

// A volume as kubelet writes it (AtomicWriter in kubernetes/pkg/volume/util/atomic_writer.go): each name is a
// link to
// ..data/name, ..data a link to a directory named after the time. An update makes a new directory, turns the
// link by renaming ..data_tmp over it, and removes the old directory.
class Volume {
 public:
  explicit Volume(fs::path root) : root_(std::move(root)) { fs::create_directories(root_); }
  using Files = std::map<std::string, std::string>;
  void update(const Files& files) {
    const std::string fresh = "..2026_05_01_10_00_0" + std::to_string(++updates_) + ".123456789";
    for (const auto& [name, text] : files) {
      fs::create_directories((root_ / fresh / name).parent_path());
      std::ofstream(root_ / fresh / name) << text;
    }
    fs::create_symlink(fresh, root_ / "..data_tmp");
    fs::rename(root_ / "..data_tmp", root_ / "..data");
    for (const auto& [name, text] : files) {
      const std::string top = name.substr(0, name.find('/'));
      if (!fs::exists(fs::symlink_status(root_ / top))) fs::create_symlink("..data/" + top, root_ / top);
    }
    if (!current_.empty()) fs::remove_all(root_ / current_);
    current_ = fresh;
  }

 private:
  fs::path root_;
  std::string current_;
  int updates_ = 0;
};

class World {
 public:
  explicit World(bool inotify = true)
      : watch_(ConfigWorld::real(rules::from_unix_ms(1'777'777'777'000)), inotify) {
    std::string name = (fs::temp_directory_path() / "logbell-watch-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    root = name;
  }
  ~World() {
    std::error_code ignored;
    fs::remove_all(root, ignored);
  }
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  std::string path(const std::string& name) const { return (root / name).string(); }
  void write(const std::string& name, const std::string& text) const {
    fs::create_directories((root / name).parent_path());
    std::ofstream(root / name, std::ios::binary) << text;
  }
  std::string config() const { return filled(kConfig, "%SECRET%", path("secret/slack")); }
  void plain() const {
    write("etc/logbell.yaml", config());
    write("etc/rules.d/a.yaml", filled(kRules, "%NAME%", "Fatal"));
    write("secret/slack", kSecret);
  }
  // Loads it, as `run` does; whether it was accepted.
  bool load() {
    ConfigInputs inputs;
    rules::Problems problems;
    const ConfigWorld world = ConfigWorld::real(rules::from_unix_ms(1'777'777'777'000)).noting(inputs);
    const auto config = load_config(path("etc/logbell.yaml"), world, {}, problems);
    watch_.loaded(std::move(inputs), now);
    return config != nullptr;
  }
  Names step(rules::Duration after = milliseconds(0)) {
    now += after;
    return watch_.step(now);
  }
  // What is said until nothing has moved for so long that nothing more can come. One look a millisecond after
  // the change, as inotify asks for; the others as next() says.
  Names settled() {
    Names said;
    const rules::Instant until = now + seconds(4);
    for (rules::Duration after{1}; now < until;
         after = std::chrono::ceil<rules::Duration>(watch_.next() - now)) {
      if (now + after > until) after = std::chrono::ceil<rules::Duration>(until - now);
      const Names changed = step(std::max(after, rules::Duration(1)));
      said.insert(said.end(), changed.begin(), changed.end());
    }
    return said;
  }

  fs::path root;
  rules::Instant now{seconds(1000)};
  ConfigWatch& watch() { return watch_; }

 private:
  ConfigWatch watch_;
};

}  // namespace

TEST_CASE("config watch: nothing changes, nothing is said", "[run][config_watch]") {
  World world;
  world.plain();
  REQUIRE(world.load());
  CHECK(world.settled().empty());
  CHECK(world.step(seconds(60)).empty());
}

TEST_CASE("config watch: every file that was read counts, and those that a pattern finds",
          "[run][config_watch]") {
  World world;
  world.plain();
  REQUIRE(world.load());
  REQUIRE(world.settled().empty());
  SECTION("the file itself, edited in place") {
    world.write("etc/logbell.yaml", world.config() + "\n# more\n");
    CHECK(world.settled() == Names{world.path("etc/logbell.yaml")});
  }
  SECTION("the file itself, replaced by a rename") {
    world.write("etc/new", world.config() + "\n# more\n");
    fs::rename(world.path("etc/new"), world.path("etc/logbell.yaml"));
    CHECK(world.settled() == Names{world.path("etc/logbell.yaml")});
  }
  SECTION("a rule file") {
    world.write("etc/rules.d/a.yaml", filled(kRules, "%NAME%", "Other"));
    CHECK(world.settled() == Names{world.path("etc/rules.d/a.yaml")});
  }
  SECTION("a rule file more") {
    world.write("etc/rules.d/b.yaml", filled(kRules, "%NAME%", "Other"));
    CHECK(world.settled() == Names{world.path("etc/rules.d/*.yaml")});
  }
  SECTION("a rule file less") {
    fs::remove(world.path("etc/rules.d/a.yaml"));
    CHECK(world.settled() == Names{world.path("etc/rules.d/a.yaml"), world.path("etc/rules.d/*.yaml")});
  }
  SECTION("a secret") {
    world.write("secret/slack", filled(kSecret, "abcdefgh", "12345678"));
    CHECK(world.settled() == Names{world.path("secret/slack")});
  }
  SECTION("the directory is another one") {
    fs::copy(world.path("etc"), world.path("etc.new"), fs::copy_options::recursive);
    world.write("etc.new/logbell.yaml", world.config() + "\n# more\n");
    fs::rename(world.path("etc"), world.path("etc.old"));
    fs::rename(world.path("etc.new"), world.path("etc"));
    CHECK(world.settled() == Names{world.path("etc/logbell.yaml")});
  }
  // Whoever loads it now or does not: it is said once.
  CHECK(world.settled().empty());
}

TEST_CASE("config watch: what was touched and is the same is no change", "[run][config_watch]") {
  World world;
  world.plain();
  REQUIRE(world.load());
  world.plain();
  world.write("etc/unrelated", "x");
  CHECK(world.settled().empty());
  // There and back before it was at rest.
  world.write("etc/logbell.yaml", "");
  CHECK(world.step(milliseconds(100)).empty());
  world.plain();
  CHECK(world.settled().empty());
}

TEST_CASE("config watch: kubelet swaps a ConfigMap and a Secret under it", "[run][config_watch]") {
  World world;
  Volume etc(world.root / "etc");
  Volume secret(world.root / "secret");
  const Volume::Files files{{"logbell.yaml", world.config()},
                            {"rules.d/a.yaml", filled(kRules, "%NAME%", "Fatal")}};
  etc.update(files);
  secret.update({{"slack", kSecret}});
  REQUIRE(world.load());
  REQUIRE(world.settled().empty());
  SECTION("the configuration") {
    Volume::Files changed = files;
    changed["logbell.yaml"] += "# more\n";
    etc.update(changed);
    CHECK(world.step(milliseconds(1)).empty());  // seen, not at rest yet
    CHECK(world.step(ConfigWatch::kSettle) == Names{world.path("etc/logbell.yaml")});
    // And once more: the new directory is watched too.
    REQUIRE(world.load());
    REQUIRE(world.settled().empty());
    changed["rules.d/a.yaml"] = filled(kRules, "%NAME%", "Other");
    etc.update(changed);
    CHECK(world.step(milliseconds(1)).empty());
    CHECK(world.step(ConfigWatch::kSettle) == Names{world.path("etc/rules.d/a.yaml")});
  }
  SECTION("a secret") {
    secret.update({{"slack", filled(kSecret, "abcdefgh", "12345678")}});
    CHECK(world.step(milliseconds(1)).empty());
    CHECK(world.step(ConfigWatch::kSettle) == Names{world.path("secret/slack")});
  }
  SECTION("with the same content") {
    etc.update(files);
    CHECK(world.settled().empty());
  }
}

TEST_CASE("config watch: a link on the way that is turned to another release is an event",
          "[run][config_watch]") {
  World world;
  world.plain();
  fs::rename(world.path("etc"), world.path("release-1"));
  fs::copy(world.path("release-1"), world.path("release-2"), fs::copy_options::recursive);
  world.write("release-2/logbell.yaml", world.config() + "# more\n");
  fs::create_directory_symlink("release-1", world.path("etc"));
  REQUIRE(world.load());
  REQUIRE(world.settled().empty());
  fs::create_directory_symlink("release-2", world.path("etc.new"));
  fs::rename(world.path("etc.new"), world.path("etc"));  // release-1 stays as it is
  CHECK(world.step(milliseconds(1)).empty());
  CHECK(world.step(ConfigWatch::kSettle) == Names{world.path("etc/logbell.yaml")});
}

TEST_CASE("config watch: what a link was turned to is watched, also if it says the same",
          "[run][config_watch]") {
  World world;
  world.plain();
  fs::rename(world.path("etc"), world.path("release-1"));
  fs::copy(world.path("release-1"), world.path("release-2"), fs::copy_options::recursive);
  fs::create_directory_symlink("release-1", world.path("etc"));
  REQUIRE(world.load());
  fs::create_directory_symlink("release-2", world.path("etc.new"));
  fs::rename(world.path("etc.new"), world.path("etc"));
  REQUIRE(world.settled().empty());
  world.write("release-2/logbell.yaml", world.config() + "# more\n");
  CHECK(world.step(milliseconds(1)).empty());
  CHECK(world.step(ConfigWatch::kSettle) == Names{world.path("etc/logbell.yaml")});
}

TEST_CASE("config watch: a file that is written in pieces is read when it is whole", "[run][config_watch]") {
  World world;
  world.plain();
  REQUIRE(world.load());
  REQUIRE(world.settled().empty());
  const std::string text = world.config() + "# more\n";
  std::ofstream out(world.path("etc/logbell.yaml"), std::ios::binary);
  for (const char c : text) {
    out << c << std::flush;
    // Less than kMostSettle in all.
    CHECK(world.step(milliseconds(30)).empty());
  }
  CHECK(world.step(ConfigWatch::kSettle - milliseconds(1)).empty());
  CHECK(world.step(milliseconds(1)) == Names{world.path("etc/logbell.yaml")});
}

TEST_CASE("config watch: what never rests is read all the same", "[run][config_watch]") {
  World world;
  world.plain();
  REQUIRE(world.load());
  REQUIRE(world.settled().empty());
  std::ofstream out(world.path("etc/logbell.yaml"), std::ios::binary | std::ios::app);
  rules::Duration waited{0};
  Names said;
  while (said.empty() && waited < seconds(60)) {
    out << "# more\n" << std::flush;
    said = world.step(milliseconds(500));
    waited += milliseconds(500);
  }
  CHECK(said == Names{world.path("etc/logbell.yaml")});
  CHECK(waited <= ConfigWatch::kMostSettle + seconds(1));
}

TEST_CASE("config watch: without inotify it looks by itself", "[run][config_watch]") {
  World world(false);
  world.plain();
  REQUIRE(world.load());
  CHECK(world.watch().fd() == -1);
  REQUIRE(world.step(ConfigWatch::kSettle).empty());
  world.write("etc/logbell.yaml", world.config() + "# more\n");
  REQUIRE(world.step(milliseconds(1)).empty());
  CHECK(world.watch().next() <= world.now + ConfigWatch::kPoll);
  CHECK(world.step(ConfigWatch::kPoll).empty());  // seen
  CHECK(world.step(ConfigWatch::kSettle) == Names{world.path("etc/logbell.yaml")});
}

TEST_CASE("config watch: what was missing is awaited", "[run][config_watch]") {
  World world;
  world.plain();
  fs::remove_all(world.path("secret"));
  REQUIRE_FALSE(world.load());
  REQUIRE(world.settled().empty());
  world.write("secret/slack", kSecret);
  CHECK(world.settled() == Names{world.path("secret/slack")});
  CHECK(world.load());
  // The configuration itself.
  fs::remove_all(world.path("etc"));
  CHECK_FALSE(world.settled().empty());
  REQUIRE_FALSE(world.load());
  REQUIRE(world.settled().empty());
  world.plain();
  CHECK(world.settled() == Names{world.path("etc/logbell.yaml")});
}

TEST_CASE("config watch: what changes between the reading and the watching is seen", "[run][config_watch]") {
  World world;
  world.plain();
  ConfigInputs inputs;
  rules::Problems problems;
  const ConfigWorld real = ConfigWorld::real(rules::from_unix_ms(1'777'777'777'000));
  REQUIRE(load_config(world.path("etc/logbell.yaml"), real.noting(inputs), {}, problems) != nullptr);
  world.write("etc/logbell.yaml", "");
  world.watch().loaded(std::move(inputs), world.now);
  CHECK(world.settled() == Names{world.path("etc/logbell.yaml")});
}

TEST_CASE("config watch: links that lead in a circle end", "[run][config_watch]") {
  World world;
  fs::create_directories(world.path("etc"));
  fs::create_symlink("b", world.path("etc/a"));
  fs::create_symlink("a", world.path("etc/b"));
  fs::create_symlink("a", world.path("etc/logbell.yaml"));
  REQUIRE_FALSE(world.load());
  CHECK(world.settled().empty());
}

}  // namespace logbell::engine

#include "tests/sim/world.h"

#include <algorithm>
#include <cstdlib>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "engine/io/store.h"
#include "rules/problems.h"

namespace logbell::sim {

namespace fs = std::filesystem;
using rules::Duration;
using rules::to_unix_ms;
using std::chrono::minutes;
using std::chrono::seconds;

namespace {

constexpr std::size_t kActionsKept = 60;
constexpr std::uint64_t kMostActions = 90;
constexpr Ms kLongestPass = 15'000;
constexpr Ms kUncommitted = kLongestPass + 5 * kSecond;  // what is older than this has been committed

World* current = nullptr;  // sinks of cached configurations belong to whoever lives

class SimSink final : public sinks::Sink {
 public:
  SimSink(std::string sink, std::string lane, Receivers*& receivers)
      : sink_(std::move(sink)), lane_(std::move(lane)), receivers_(receivers) {}
  sinks::Outcome deliver(const rules::Notification& notification, const sinks::Attempt& attempt) override {
    return receivers_->deliver(receivers_->of(sink_, lane_), notification, attempt);
  }

 private:
  std::string sink_;
  std::string lane_;
  Receivers*& receivers_;
};

Receivers* current_receivers = nullptr;

class SimSinkConfig final : public sinks::SinkConfig {
 public:
  explicit SimSinkConfig(const rules::SinkSpec& spec) : name_(spec.name), lanes_(spec.lanes) {}
  std::size_t lanes() const override { return lanes_.size(); }
  std::unique_ptr<sinks::Sink> build(std::size_t lane, const sinks::SinkContext& /*context*/) const override {
    return std::make_unique<SimSink>(name_, lanes_.at(lane), current_receivers);
  }
  std::string destination() const override { return "sim"; }

 private:
  std::string name_;
  std::vector<std::string> lanes_;
};

constexpr std::string_view kSlackUrl =
    "https://hooks.slack.com/services/TABCDEF12/BABCDEF12/abcdefghijklmnopqrstuvwx";

// Of a storm: one message for a few, for many, each for itself.
constexpr int kMessages[] = {4, 20, 0};

std::string yaml(const Setup& setup, const fs::path& directory) {
  std::string text = fmt::format(
      "environment: sim\n"
      "state_dir: {0}/state\n"
      "sources:\n"
      "  - {{name: app, files: ['{0}/logs/app.log'], read_from: beginning}}\n"
      "  - {{name: web, files: ['{0}/logs/web*.log'], read_from: beginning}}\n"
      "patterns:\n"
      "  seen: {{match: 'id=(?P<id>\\d+)', labels: [id], max_series: 10000}}\n"
      "  error: {{match: ' error queue=(?P<queue>\\w+)', labels: [queue], source: app}}\n"
      "  slow: {{match: ' slow', source: app}}\n"
      "  fresh: {{match: ' fresh', source: app}}\n"
      "  beat: {{match: ' beat', source: web}}\n"
      "  request: {{match: ' request status=(?P<status>\\d+)', labels: [status], source: web}}\n",
      directory.string());
  if (setup.extra) text += "  extra: {match: ' extra', source: app}\n";
  text += "rules:\n";
  for (const RuleText& rule : rule_texts()) {
    if (rule.name == "Extra" && !setup.extra) continue;
    const Ms for_ms = rule.name == "Slow" ? setup.slow_for * kSecond : rule.for_ms;
    text += fmt::format("  - alert: {}\n    expr: '{}'\n    labels: {{severity: {}}}\n", rule.name, rule.expr,
                        rule.severity);
    if (for_ms > 0) text += fmt::format("    for: {}s\n", for_ms / kSecond);
    if (rule.keep_ms > 0) text += fmt::format("    keep_firing_for: {}s\n", rule.keep_ms / kSecond);
    text += fmt::format("    annotations: {{summary: 'It is {{{{ $value }}}} ({})'}}\n", setup.annotation);
  }
  text += fmt::format(
      "sinks:\n"
      "  chat: {{slack: {{webhook_url: '{0}'}}, messages_per_minute: {1}, fallback: [mail]}}\n"
      "  hook: {{webhook: {{url: 'https://hook.example.org/a'}}, messages_per_minute: {2}, fallback: "
      "[mail]}}\n"
      "  mail: {{webhook: {{url: 'https://mail.example.org/b'}}, messages_per_minute: {3}}}\n"
      "  peers: {{alertmanager: {{urls: ['http://am-1.example.org:9093', "
      "'http://am-2.example.org:9093']}}}}\n",
      kSlackUrl, kMessages[setup.grouping % 3], kMessages[(setup.grouping + 1) % 3],
      kMessages[(setup.grouping + 2) % 3]);
  if (setup.spare) text += "  spare: {webhook: {url: 'https://spare.example.org/c'}}\n";
  static constexpr const char* kGroupBy[] = {"[alertname]", "[alertname, queue]", "['...']"};
  text += fmt::format(
      "route:\n"
      "  sinks: [chat, peers{0}]\n"
      "  group_by: {1}\n"
      "  group_interval: 5s\n"
      "  repeat_interval: 30m\n"
      "  routes:\n"
      "    - matchers: [severity=\"critical\"]\n"
      "      sinks: [chat, hook, peers{0}]\n",
      setup.spare ? ", spare" : "", kGroupBy[setup.grouping]);
  return text;
}

bool tells(const Setup& setup, const std::string& sink, const std::string& severity) {
  if (sink == "chat" || sink == "peers") return true;
  if (sink == "spare") return setup.spare;
  return sink == "hook" && severity == "critical";
}

std::string show(const std::vector<Mention>& mentions) {
  std::string text;
  for (const Mention& mention : mentions)
    text +=
        fmt::format("\n  {} of {}: {}", mention.firing ? "fires" : "ended", mention.fired_at, mention.how);
  return text;
}

bool has_fallback(const std::string& sink) {
  return sink == "chat" || sink == "hook";
}

std::string show(const std::set<State>& states) {
  std::string text;
  for (const State& state : states)
    text += fmt::format(" [{} {} active {} fired {}]", state.queue, state.firing ? "firing" : "pending",
                        state.active_at, state.fired_at);
  return text.empty() ? " nothing" : text;
}

}  // namespace

World::World(std::uint64_t seed, fs::path directory)
    : directory_(std::move(directory)),
      random_(seed),
      exact_(random_() % 3 != 0),
      clock_(std::chrono::floor<seconds>(engine::SystemClock().now())),
      disk_(tests::CrashVfs::instance()),
      receivers_({&random_, [this](Duration span) { stepper_->pass(span); },
                  [this] {
                    if (std::exchange(crash_at_effect_, false)) {
                      disk_.crash(chance(50), random_);
                      throw Crash{};
                    }
                  },
                  [this](const std::string& what) { wrong(what); },
                  [this](const std::string& what) {
                    if (replays_) say(what);
                  }}),
      replays_(std::getenv("LOGBELL_SIM_SEED") != nullptr) {  // NOLINT(concurrency-mt-unsafe): one thread
  current = this;
  current_receivers = &receivers_;
  disk_.reset();
  fs::create_directories(directory_ / "state" / "logbell");
  fs::permissions(directory_ / "state" / "logbell", fs::perms::owner_all);
  for (const auto& entry : fs::directory_iterator(directory_ / "state" / "logbell")) {
    if (entry.path().filename() != "reserve") fs::remove_all(entry.path());  // it only costs time to make
  }
  fs::remove_all(directory_ / "logs");
  fs::create_directories(directory_ / "logs");
  logs_.push_back(std::make_unique<Log>(directory_ / "logs" / "app.log", "app", false));
  logs_.push_back(std::make_unique<Log>(directory_ / "logs" / "web.log", "web", false));
  if (chance(50)) logs_.push_back(std::make_unique<Log>(directory_ / "logs" / "web-b.log", "web", false));
  if (chance(40)) logs_.push_back(std::make_unique<Log>(directory_ / "logs" / "web-link.log", "web", true));
}

World::~World() {
  if (runtime_) {
    std::mt19937_64 any;
    disk_.crash(false, any);
    stepper_->stop();
    runtime_->abandon();
    runtime_.reset();
  }
  current_receivers = nullptr;
  current = nullptr;
}

void World::say(std::string what) {
  actions_.push_back(fmt::format(
      "{:>9} {}", fmt::format("{:.3f}", static_cast<double>(now() % 100'000'000) / 1000), std::move(what)));
  if (actions_.size() > kActionsKept && !replays_) actions_.pop_front();
}

// --- the process

std::shared_ptr<const engine::Config> World::config(const Setup& setup) {
  static std::map<std::string, std::shared_ptr<const engine::Config>> compiled;
  const std::string text = yaml(setup, directory_);
  std::shared_ptr<const engine::Config>& known = compiled[text];
  if (known == nullptr) {
    engine::ConfigWorld world;
    world.env = [](const std::string&) { return std::nullopt; };
    world.read_file = [&](const std::string&) { return rules::Result<std::string>(text); };
    world.glob = [](const std::string&) { return std::vector<std::string>{}; };
    world.readable_by_others = [](const std::string&) { return false; };
    world.hostname = "sim";
    world.now = clock_.now();
    rules::Problems problems;
    known = engine::load_config("logbell.yaml", world, {}, problems);
    if (known == nullptr) {
      std::string said;
      for (const rules::Problem& problem : problems.sorted())
        said += problem.format() + "\n";
      throw std::runtime_error(said);
    }
    auto with_sinks = std::make_shared<engine::Config>(*known);
    for (auto& [name, sink] : with_sinks->sinks)
      sink = std::make_shared<SimSinkConfig>(known->plan->sinks.at(name));
    known = std::move(with_sinks);
  }
  auto config = std::make_shared<engine::Config>(*known);
  auto plan = std::make_shared<rules::Plan>(*known->plan);
  plan->generation = ++generation_;
  config->plan = std::move(plan);
  return config;
}

void World::start() {
  for (int tries = 0;; ++tries) {
    if (tries > 20) wrong("it does not start");
    disk_.revive();
    engine::Log::Options logging;
    logging.clock = &clock_;
    logging.write = [this](std::string_view line) {
      if (replays_ || line.find("level=error") != std::string_view::npos)
        say(std::string(line.substr(0, line.size() - 1)));
      if (line.find("missing or damaged") != std::string_view::npos ||
          line.find("deleted or replaced") != std::string_view::npos)
        throw Violation("the state was lost: " + std::string(line));
    };
    log_ = std::make_unique<engine::Log>(std::move(logging));
    metrics_ = std::make_unique<engine::Metrics>("sim", clock_.now());
    stepper_ = std::make_unique<Stepper>(clock_, random_, [this] { after_step(); });
    seen_view_.reset();
    // What was evaluated and not committed is evaluated again, in one tick with what came since: the last one
    // may have been of a whole pass of time.
    for (auto& [rule, clock] : view_clock_) {
      std::deque<std::pair<Ms, Ms>>& seen = views_[rule];
      clock -= kUncommitted;
      // One tick may have come a long way, from where the process before it had ended.
      if (!seen.empty()) clock = std::min(clock, seen.front().second);
      seen.assign(1, {now(), clock});
    }
    engine::Runtime::Options options;
    options.config = config(setup_);
    options.clock = &clock_;
    options.log = log_.get();
    options.metrics = metrics_.get();
    options.driver = stepper_.get();
    options.version = "sim";
    options.installation = "sim";
    options.lock_wait = Duration(0);
    auto started = engine::Runtime::start(std::move(options));
    if (started) {
      runtime_ = std::move(*started);
      return;
    }
    if (!disk_.dead()) wrong("it does not start: " + started.error().message);
    receivers_.crashed();
    ++counts_.crashes;
    say("crash at the start");
  }
}

void World::after_step() {
  if (disk_.dead()) throw Crash{};
  ++counts_.steps;
  check_view();
}

void World::bury() {
  ++counts_.crashes;
  receivers_.crashed();
  stepper_->stop();
  runtime_->abandon();
  runtime_.reset();
  crash_at_effect_ = false;
  say("crash");
  // The machine may take its time, and its writers go on.
  for (std::uint64_t n = draw(6); n > 0; --n) {
    if (chance(60)) {
      write();
    } else if (chance(30)) {
      rotate();
    } else {
      const bool long_time = !exact_ && chance(10);
      clock_.advance(Duration(static_cast<std::int64_t>(1 + draw(long_time    ? 1'500'000
                                                                 : chance(20) ? 60'000
                                                                              : 2'000))));
    }
  }
  start();
}

template <class F>
void World::alive(F f) {
  try {
    f();
    if (!disk_.dead()) return;
  } catch (const Crash&) {
  }
  bury();
}

void World::crash_now(bool power) {
  say(power ? "power cut" : "kill");
  disk_.crash(power, random_);
  bury();
}

void World::stop_gracefully() {
  say("stop");
  alive([&] {
    runtime_->stop(seconds(static_cast<std::int64_t>(draw(30))));
    if (disk_.dead()) return;
    stepper_->stop();
    runtime_.reset();
    receivers_.crashed();  // an attempt may have been cut off, and its outcome unsynced
    start();
  });
}

void World::settle() {
  alive([&] {
    stepper_->settle();
    // Of a line that was begun after a cut and before the look, the rest is skipped.
    for (Log* log : cut_) {
      if (log->half()) half_at_risk_.insert(log);
    }
    cut_.clear();
  });
}

void World::pass(Duration span) {
  alive([&] {
    stepper_->pass(span);
    runtime_->tend();
  });
}

// Everything that was read is evaluated, committed and on the disk.
void World::make_durable() {
  disk_.set_full(false);
  disk_.call_off();
  crash_at_effect_ = false;
  confirm_present();
  settle();
  pass(engine::Writer::kMaxAge + Duration(200));
  settle();
  disk_.write_back();
  receivers_.set_durable();
  for (const auto& log : logs_)
    log->forgive();
}

// The reader looks at everything, and the core hears how far it is read.
void World::confirm_present() {
  for (int i = 0; i < 2; ++i) {
    settle();
    pass(engine::Follower::kSafetyInterval + Duration(1));
  }
  settle();
}

// --- what happens

void World::live() {
  say(exact_ ? "an exact life" : "a rough life");
  setup_.extra = chance(30);
  setup_.spare = chance(30);
  setup_.grouping = static_cast<int>(draw(3));
  start();
  settle();
  const Ms begin = now();
  for (const RuleText& text : rule_texts()) {
    if (text.name == "Extra" && !setup_.extra) continue;
    rules_.push_back(std::make_unique<Rule>(text, begin));
    if (text.name == "Slow") rules_.back()->set_for(begin, setup_.slow_for * kSecond);
  }
  clock_.advance(Duration(5));
  for (const auto& log : logs_)
    log->append("");
  // A first start that is forgotten is another first start, and finds files where there were none.
  make_durable();
  for (std::uint64_t n = 20 + draw(kMostActions - 20); n > 0; --n) {
    ++counts_.actions;
    act();
  }
  be_well();
  check_end();
}

void World::act() {
  turn_to_new_files();
  const std::uint64_t what = draw(100);
  if (what < 34) return write();
  if (what < 40) return half_line();
  if (what < 56) {
    const Duration span(static_cast<std::int64_t>(chance(40)   ? 1 + draw(50)
                                                  : chance(70) ? 1 + draw(4000)
                                                               : 1 + draw(kLongestPass)));
    say(fmt::format("{} ms pass", span.count()));
    return pass(span);
  }
  if (what < 64) {
    say("settle");
    return settle();
  }
  if (what < 76) {
    return alive([&] {
      for (std::uint64_t n = draw(8); n > 0; --n)
        stepper_->step_any();
    });
  }
  if (what < 82) return rotate();
  if (what < 86) return crash_now(chance(50));
  if (what < 88) {
    const std::uint64_t calls = 1 + draw(40);
    say(fmt::format("a crash is to come after {} calls of the disk", calls));
    disk_.crash_after(calls, chance(60), random_);
    return;
  }
  if (what < 89) {
    say("a crash is to come after something was sent");
    crash_at_effect_ = true;
    return;
  }
  if (what < 95) return change_mood();
  if (what < 97) return reload();
  if (what < 98) return stop_gracefully();
  if (exact_) {
    say("everything is on the disk");
    return disk_.write_back();
  }
  if (chance(50)) return step_clock();
  fill_disk();
}

std::string World::text_of(Line& line, std::uint64_t id, Ms at) {
  static constexpr const char* kQueues[] = {"orders", "mails", "bills"};
  line.at = at;
  std::string text;
  const std::uint64_t what = draw(10);
  if (line.source == "app") {
    if (what < 4) {
      line.kind = Kind::kError;
      line.queue = kQueues[draw(3)];
      text = "error queue=" + line.queue;
    } else if (what < 6) {
      line.kind = Kind::kSlow;
      text = "slow";
    } else if (what < 8) {
      line.kind = Kind::kExtra;
      text = "extra";
    }
  } else if (what < 3) {
    line.kind = Kind::kBeat;
    text = "beat";
  } else if (what < 6) {
    line.kind = Kind::kOk;
    text = "request status=200";
  } else if (what < 9) {
    line.kind = Kind::kFailed;
    text = "request status=503";
  }
  if (text.empty()) text = "nothing of note";
  if (!exact_ && chance(4)) return fmt::format("id={} {}\n", id, text);  // nobody says when
  if (!exact_ && chance(8)) at -= static_cast<Ms>(draw(20'000));
  return fmt::format("{} id={} {}{}\n", rules::format_rfc3339(rules::from_unix_ms(at)), id, text,
                     draw(10) == 0 ? "\r" : "");
}

void World::write_line(Log& log) {
  Line line;
  line.source = log.source();
  const std::uint64_t id = ++last_id_;
  const std::string text = text_of(line, id, now());
  if (exact_) model_lines_.add(line.kind, line.queue, line.at);
  // Its beginning, a part of the time, is there already; before a line that says no time it is none.
  if (log.half()) {
    log.end(id, text.rfind("id=", 0) == 0 ? text : text.substr(8));
  } else {
    log.whole(id, text);
  }
  touched_[&log] = clock_.instant();
  line.at_risk = cut_.count(&log) != 0 || half_at_risk_.erase(&log) != 0;
  lines_[id] = line;
  ++counts_.lines;
}

void World::write() {
  Log& log = any_log();
  // What is stamped in the millisecond of a look that found nothing is written before it or in the next.
  clock_.advance(Duration(1));
  const std::uint64_t n = 1 + draw(5);
  say(fmt::format("{} lines into {}", n, log.name()));
  for (std::uint64_t i = 0; i < n; ++i) {
    write_line(log);
    clock_.advance(Duration(static_cast<std::int64_t>(draw(4))));
  }
}

void World::half_line() {
  Log& log = any_log();
  clock_.advance(Duration(1));
  if (log.half()) {
    say("the rest of a line into " + log.name());
    return write_line(log);
  }
  say("half a line into " + log.name());
  log.begin(rules::format_rfc3339(clock_.now()).substr(0, 8));
  touched_[&log] = clock_.instant();
}

void World::rotate() {
  Log& log = any_log();
  clock_.advance(Duration(1));
  const std::uint64_t what = draw(10);
  if (what < 3) {
    say("the writer of " + log.name() + " reopens it");
    return log.reopen();
  }
  if (log.half()) write_line(log);
  if (what < 7) {
    if (log.is_link()) {
      if (!log.may_swap()) return;
      say("another target of " + log.name());
      return log.swap_link();
    }
    const bool reopens = chance(70);
    say(fmt::format("{} is renamed{}", log.name(), reopens ? "" : ", its writer stays"));
    log.rename_and_create(true);
    touched_[&log] = clock_.instant();
    if (reopens) log.reopen();
    return;
  }
  if (!exact_) return cut(log);
  if (runtime_ == nullptr || log.is_link()) return;  // what was not read would be gone
  log.reopen();
  make_durable();
  if (what < 9) {
    say(log.name() + " is copied and cut");
    log.copy_and_truncate(true);
  } else {
    say(log.name() + " is deleted and made anew");
    log.remove_and_recreate(true);
  }
  make_durable();
}

// Of who writes nothing for kRotatedMaxAge to a file that was renamed nobody expects more.
void World::turn_to_new_files() {
  for (const auto& log : logs_) {
    const auto silent = clock_.instant() - touched_[log.get()];
    if (!log->stays() || silent < engine::Follower::kRotatedMaxAge / 2) continue;
    say("the writer of " + log->name() + " turns to the new file at last");
    if (log->half()) {
      clock_.advance(Duration(1));
      write_line(*log);
    }
    log->reopen();
  }
}

void World::change_mood() {
  if (receivers_.all().empty()) return;
  auto at = receivers_.all().begin();
  std::advance(at, static_cast<std::ptrdiff_t>(draw(receivers_.all().size())));
  static constexpr Mood kMoods[] = {Mood::kWell,   Mood::kWell,    Mood::kFlaky,
                                    Mood::kBroken, Mood::kHanging, Mood::kLimited,
                                    Mood::kLosing, Mood::kDead,    Mood::kRefusing};
  Mood mood = kMoods[draw(std::size(kMoods))];
  if (at->second.sink == "peers" && mood == Mood::kRefusing) mood = Mood::kDead;
  at->second.mood = mood;
  say(fmt::format("{} is {}", at->first, to_string(mood)));
}

void World::reload() {
  bool fires_now = false;
  // In an exact life at a moment at which every rule's clock stands at the present, so that the model knows
  // it.
  if (exact_) {
    make_durable();
    confirm_present();
    // It fires when it is taken away. Where a sink hangs time passes before it is, and nobody knows how far.
    const auto& all = receivers_.all();
    const bool hangs = std::any_of(all.begin(), all.end(), [](const auto& entry) {
      return entry.second.mood == Mood::kHanging || entry.second.mood == Mood::kFlaky;
    });
    if (setup_.extra && !hangs && chance(60)) {
      if (logs_[0]->half()) {
        clock_.advance(Duration(1));  // the present has been looked at
        write_line(*logs_[0]);
      }
      for (int i = 0; i < 3; ++i) {
        clock_.advance(Duration(1));
        Line line;
        line.source = "app";
        line.kind = Kind::kExtra;
        line.at = now();
        const std::uint64_t id = ++last_id_;
        logs_[0]->whole(id, fmt::format("{} id={} extra\n", rules::format_rfc3339(clock_.now()), id));
        model_lines_.add(line.kind, "", line.at);
        lines_[id] = line;
      }
      settle();
      fires_now = true;
    }
  }
  Setup next = setup_;
  switch (draw(6)) {
    case 0:
    case 5:
      next.extra = !next.extra;
      break;
    case 1:
      next.spare = !next.spare;
      break;
    case 2:
      next.annotation = 1 - next.annotation;
      break;
    case 3:
      next.slow_for = next.slow_for == 5 ? 2 : 5;
      break;
    default: {
      next.grouping = (next.grouping + 1) % 3;
    }
  }
  const auto view = runtime_->core_view();
  Ms clock = 0;
  if (view == nullptr) {
    clock = now();  // of a rough life, straight after a start
  } else {
    for (const engine::RuleView& rule : view->rules) {
      if (view->plan->rules[rule.rule].name == "Slow") clock = to_unix_ms(rule.clock);
    }
  }
  if (fires_now) clock = now();  // what was just read says so; the view may not have followed
  say(fmt::format("reload: extra {}, spare {}, annotation {}, for {}, grouping {}", next.extra, next.spare,
                  next.annotation, next.slow_for, next.grouping));
  ++counts_.reloads;
  const Setup old = std::exchange(setup_, next);
  if (old.spare != next.spare) receivers_.removed("spare");  // its lane may have spoken once more meanwhile
  if (next.extra && !old.extra) {
    // Its pattern is new: what was read before was not looked at with it.
    for (const auto& rule : rules_) {
      if (rule->removed_at()) rule->freeze(model_lines_);
    }
    model_lines_.forget(Kind::kExtra);
    rules_.push_back(std::make_unique<Rule>(rule_texts().back(), clock));
  } else if (!next.extra && old.extra) {
    model_of("Extra")->remove(clock);
  }
  if (next.slow_for != old.slow_for) model_of("Slow")->set_for(clock, next.slow_for * kSecond);
  alive([&] { runtime_->reload(config(setup_)); });
  // An attempt that was under way as it came back may have told it of what the core knows nothing of.
  if (old.spare != next.spare) receivers_.removed("spare");
  if (exact_) make_durable();
}

// Somebody cuts or deletes without asking who has read.
void World::cut(Log& log) {
  std::vector<std::uint64_t> lost = log.lines_here();
  const bool safe = runtime_ != nullptr && chance(30);
  if (safe) make_durable();
  switch (draw(4)) {
    case 0:
      say(log.name() + " is copied and cut");
      log.copy_and_truncate(true);
      break;
    case 1: {
      const std::size_t keep = draw(lost.size() + 1);
      say(fmt::format("{} is cut behind {} of {} lines", log.name(), keep, lost.size()));
      // What a reader that was away finds shorter than his place he reads from the beginning.
      for (const std::uint64_t id : lost)
        lines_.at(id).may_repeat = true;
      lost = log.truncate_behind(keep);
      cut_.insert(&log);
      break;
    }
    default: {
      const bool recreate = chance(60);
      say(fmt::format("{} is deleted{}", log.name(), recreate ? " and made anew" : ""));
      log.remove_and_recreate(recreate);
    }
  }
  if (safe) return;
  for (const std::uint64_t id : lost)
    lines_.at(id).at_risk = true;
}

void World::fill_disk() {
  receivers_.set_undurable();
  say("the disk is full");
  disk_.set_full(true);
  const Duration span(static_cast<std::int64_t>(draw(9000)));
  for (std::uint64_t n = draw(4); n > 0; --n) {
    write();
    pass(span);
  }
  say("there is room again");
  disk_.set_full(false);
}

void World::step_clock() {
  const std::int64_t by = static_cast<std::int64_t>(draw(60'000)) - 30'000;
  say(fmt::format("the clock is set by {} ms", by));
  clock_.step_wall(Duration(by));
  clock_was_set_ = true;
}

// --- what must be true

Rule* World::model_of(const std::string& name) {
  for (auto at = rules_.rbegin(); at != rules_.rend(); ++at) {
    if ((*at)->text().name == name && !(*at)->removed_at()) return at->get();
  }
  return nullptr;
}

void World::check_view() {
  if (!exact_ || runtime_ == nullptr) return;
  const std::shared_ptr<const engine::CoreView> view = runtime_->core_view();
  if (view == nullptr || view == seen_view_) return;
  seen_view_ = view;
  std::vector<std::set<State>> got(view->plan->rules.size());
  for (const engine::AlertView& one : view->alerts) {
    if (one.rule >= got.size()) continue;
    const bool firing = one.alert.is_firing();
    got[one.rule].insert({std::string(one.alert.labels.get("queue")), firing, to_unix_ms(one.alert.active_at),
                          firing ? to_unix_ms(one.alert.fired_at) : 0});
  }
  for (std::size_t i = 0; i < got.size(); ++i) {
    const rules::Timestamp clock = view->rules[i].clock;
    Rule* model = model_of(view->plan->rules[i].name);
    if (clock == rules::kLongAgo || model == nullptr) continue;
    if (to_unix_ms(clock) > now())
      wrong(fmt::format("{} is at {}, which is yet to come", view->plan->rules[i].name, to_unix_ms(clock)));
    model->run(model_lines_, to_unix_ms(clock));
    ++counts_.compared;
    note_together(*model, to_unix_ms(clock));
    const std::set<State> expected = model->states();
    if (got[i] == expected) continue;
    wrong(fmt::format("{} at {}: logbell has{}, the model has{}", view->plan->rules[i].name,
                      to_unix_ms(clock), show(got[i]), show(expected)));
  }
}

// Every tick with a transition has a view of its own.
void World::note_together(const Rule& model, Ms clock) {
  std::deque<std::pair<Ms, Ms>>& seen = views_[model.text().name];
  seen.emplace_back(now(), clock);
  while (seen.size() > 1 && seen[1].first <= now() - kUncommitted)
    seen.pop_front();
  const auto [before, is_new] = view_clock_.try_emplace(model.text().name, clock);
  if (is_new || before->second >= clock) {
    before->second = clock;
    return;
  }
  std::map<std::string, std::vector<Ms>> instants;
  for (const Episode& episode : model.episodes()) {
    for (const std::optional<Ms> at : {std::optional<Ms>(episode.fired_at), episode.resolved_at}) {
      if (at && *at > before->second && *at <= clock) instants[episode.queue].push_back(*at);
    }
  }
  before->second = clock;
  for (const auto& [queue, all] : instants) {
    if (all.size() < 2) continue;
    for (const Ms at : all)
      together_.emplace(model.text().name, queue, at);
  }
}

// All faults end. Time passes until everybody has been told what he is owed.
void World::be_well() {
  say("all is well from here on");
  disk_.call_off();
  crash_at_effect_ = false;
  for (auto& [lane, receiver] : receivers_.all())
    receiver.mood = Mood::kWell;
  clock_.advance(Duration(1));
  for (const auto& log : logs_) {
    if (log->half()) write_line(*log);
    log->reopen();
    log->append("");
  }
  confirm_present();
  for (int i = 0; i < 12; ++i) {
    clock_.advance(seconds(13));
    settle();
  }
  bool was_dead = false;
  for (int i = 0, quiet = 0;; ++i) {
    std::uint64_t pending = 0;
    const std::vector<engine::LaneView> lanes = runtime_->lane_views();
    for (const engine::LaneView& lane : lanes)
      pending += lane.pending;
    const bool dead = std::any_of(lanes.begin(), lanes.end(), [](const engine::LaneView& lane) {
      return lane.state == engine::SinkState::kDead;
    });
    if (pending > 0 || dead != was_dead) quiet = 0;  // that it works again is told with the group's next turn
    was_dead = dead;
    // One that refused and has nothing to send finds out with the first message after a while.
    if (pending == 0 && ++quiet > (dead ? 70 : 4)) break;
    if (i > 500) wrong(fmt::format("{} notifications wait for ever", pending));
    clock_.advance(seconds(30));
    settle();
    runtime_->tend();
  }
}

void World::check_end() {
  check_told();
  // What is new rings.
  clock_.advance(Duration(1));
  Line line;
  line.source = "app";
  line.kind = Kind::kFresh;
  line.at = now();
  const std::uint64_t id = ++last_id_;
  logs_[0]->whole(id, fmt::format("{} id={} fresh\n", rules::format_rfc3339(clock_.now()), id));
  model_lines_.add(line.kind, "", line.at);
  lines_[id] = line;
  settle();
  const auto unheard = [&] {
    std::vector<std::string> lanes;
    for (const char* lane : {"chat", "hook", "peers#1", "peers#2"}) {
      const auto receiver = receivers_.all().find(lane);
      const bool heard =
          receiver != receivers_.all().end() &&
          std::any_of(receiver->second.heard.begin(), receiver->second.heard.end(), [&](auto& of) {
            return of.first.name == "Fresh" &&
                   std::any_of(of.second.begin(), of.second.end(), [&](const Mention& mention) {
                     return mention.firing && mention.fired_at >= line.at;
                   });
          });
      if (!heard) lanes.emplace_back(lane);
    }
    return lanes;
  };
  // As long as a message that left just before may hold up the next of a sink that takes few a minute.
  for (int i = 0; i < 4 || (i < 30 && !unheard().empty()); ++i) {
    clock_.advance(seconds(3));
    settle();
  }
  for (const std::string& lane : unheard())
    wrong(fmt::format("{} does not hear of a fresh line", lane));
  make_durable();
  // Nothing may be waiting, and everything is where it belongs.
  alive([&] { runtime_->stop(seconds(20)); });
  stepper_->stop();
  runtime_.reset();
  check_lines();
  for (const auto& [lane, receiver] : receivers_.all())
    counts_.messages += receiver.effects;
  for (const auto& rule : rules_)
    counts_.episodes += rule->episodes().size();
}

// Long after the last line nothing is there, and of that every queue has less than two.
void World::check_rough_end() {
  std::set<std::string> firing;
  for (const engine::AlertView& one : runtime_->core_view()->alerts) {
    if (one.alert.built_in) continue;
    if (!one.alert.is_firing()) wrong(fmt::format("{} is still pending", one.alert.name()));
    firing.insert(fmt::format("{} {}", one.alert.name(), one.alert.labels.get("queue")));
  }
  std::set<std::string> may{"NoBeat "};
  std::set<std::string> must = may;
  for (const auto& [id, line] : lines_) {
    if (line.kind != Kind::kError) continue;
    may.insert("QueueQuiet " + line.queue);
    if (!line.at_risk && !clock_was_set_) must.insert("QueueQuiet " + line.queue);
  }
  for (const std::string& one : must) {
    if (firing.count(one) == 0) wrong(one + " does not fire in the end");
  }
  for (const std::string& one : firing) {
    if (may.count(one) == 0) wrong(one + " fires in the end");
  }
}

void World::check_lines() {
  auto opened = engine::Store::open(directory_ / "state", clock_.now(), Duration(0));
  if (!opened) wrong("the store does not open: " + opened.error().message);
  engine::Store& store = *opened->store;
  if (const auto waiting = store.undelivered(); !waiting || !waiting->empty())
    wrong("something waits in the outbox");
  // Each line once: the pattern `seen` has a series for each.
  const auto patterns = store.entries("core/t/");
  std::map<std::uint64_t, double> counted;
  std::string seen;
  const std::shared_ptr<const rules::Plan> plan = config(setup_)->plan;
  for (const rules::PatternSpec& spec : plan->patterns) {
    if (spec.name == "seen") seen = fmt::format("core/t/{}/", rules::format_fingerprint(spec.identity()));
  }
  for (const engine::StoredEntry& entry : *patterns) {
    if (entry.key.rfind(seen, 0) != 0) continue;
    const std::string id = entry.key.substr(seen.size());  // ["17"]
    counted[std::stoull(id.substr(2))] = std::stod(*entry.value);
  }
  std::string miscounted;  // all of them: what is missing together tells why
  for (const auto& [id, line] : lines_) {
    const auto found = counted.find(id);
    const double times = found == counted.end() ? 0 : found->second;
    if (times == 1 || (times == 0 && line.at_risk) || (times > 1 && line.may_repeat)) continue;
    miscounted += fmt::format("line {} of {} was counted {} times\n", id, line.source, times);
  }
  if (!miscounted.empty()) wrong(miscounted);
  for (const auto& [id, times] : counted) {
    if (lines_.count(id) == 0) wrong(fmt::format("line {} was counted and never written", id));
  }
  // And what is shown of the sources is what was written.
  std::map<std::string, double> totals;
  const auto counters = store.entries("core/n/");
  for (const engine::StoredEntry& entry : *counters) {
    const auto json = rules::Json::parse(*entry.value);
    totals[entry.key.substr(7)] = rules::parse_number((*json)["value"].string());
  }
  for (const char* source : {"app", "web"}) {
    const std::string label = rules::Labels{{"source", source}}.format();
    const double lines = totals["logbell_source_lines_total" + label];
    const double flushed = totals["logbell_source_partial_flushed_total" + label];
    double written = 0;
    double at_risk = 0;
    double repeated = 0;
    for (const auto& [id, line] : lines_) {
      if (line.source != source) continue;
      ++written;
      if (line.at_risk) ++at_risk;
      const auto times = counted.find(id);
      if (times != counted.end()) repeated += std::max(0.0, times->second - 1);
    }
    if (lines < written - at_risk || lines > written + flushed + repeated)
      wrong(fmt::format("logbell_source_lines_total of {} is {}, {} were written, {} flushed", source, lines,
                        written, flushed));
  }
}

void World::check_told() {
  const std::shared_ptr<const engine::CoreView> view = runtime_->core_view();
  std::set<Who> firing;
  for (const engine::AlertView& one : view->alerts) {
    if (!one.alert.is_firing()) continue;
    rules::Labels rest;
    for (const char* name : {"queue", "sink", "lane", "source", "rule", "pattern"}) {
      if (one.alert.labels.has(name)) rest.set(name, std::string(one.alert.labels.get(name)));
    }
    firing.insert({std::string(one.alert.name()), rest.format()});
  }
  for (const auto& [lane, receiver] : receivers_.all()) {
    const bool exists = view->plan->sinks.count(receiver.sink) != 0;
    for (const auto& [who, mentions] : receiver.heard) {
      // Who was told that it fires hears that it has ended; of a sink that refused, its fallback does.
      // What he was told while nothing could be written down, a process that died since did not know.
      if (!exists || !mentions.back().firing || firing.count(who) != 0 || receiver.refused.count(who) != 0 ||
          mentions.back().forgotten)
        continue;
      if (receiver.ever_failed && has_fallback(receiver.sink)) {
        const Receiver& mail = receivers_.of("mail", "mail");
        const auto heard = mail.heard.find(who);
        if (mail.ever_failed || (heard != mail.heard.end() && !heard->second.back().firing)) continue;
      }
      wrong(fmt::format("{} never hears that {}{} of {} has ended; it heard{}", lane, who.name, who.labels,
                        mentions.back().fired_at, show(mentions)));
    }
  }
  for (const Who& who : firing) {
    const RuleText* text = nullptr;
    for (const RuleText& one : rule_texts()) {
      if (one.name == who.name) text = &one;
    }
    if (text == nullptr) continue;
    for (const auto& [lane, receiver] : receivers_.all()) {
      if (!tells(setup_, receiver.sink, text->severity) || receiver.refused.count(who) != 0) continue;
      const auto knows = [&who = who](const Receiver& one) {
        const auto heard = one.heard.find(who);
        // A process that died did not know that it had told the end, and thinks that the firing is known
        // still.
        return heard != one.heard.end() && (heard->second.back().firing || heard->second.back().forgotten);
      };
      // Where a sink failed its fallback knows. It speaks for several: an end that it hears late in the place
      // of one ends nothing that began since, of which it heard in the place of another.
      const auto knows_latest = [&who = who](const Receiver& fallback) {
        const auto heard = fallback.heard.find(who);
        const Mention* latest = nullptr;
        if (heard == fallback.heard.end()) return false;
        for (const Mention& mention : heard->second) {
          if (latest == nullptr || mention.fired_at >= latest->fired_at) latest = &mention;
        }
        return latest->firing || latest->forgotten;
      };
      const bool elsewhere = receiver.ever_failed && has_fallback(receiver.sink);
      if (!knows(receiver) && !(elsewhere && (knows_latest(receivers_.of("mail", "mail")) ||
                                              receivers_.of("mail", "mail").ever_failed)))
        wrong(fmt::format("{} does not know that {}{} fires", lane, who.name, who.labels));
    }
  }
  if (!exact_) return check_rough_end();

  // Who is told of each alert by itself heard of every episode, to the millisecond, and of nothing else.
  std::set<std::pair<Who, Ms>> began;
  std::set<std::tuple<Who, Ms, Ms>> ended;
  std::set<std::pair<Who, Ms>> may_miss;
  for (const auto& rule : rules_) {
    if (rule->removed_at()) rule->run(model_lines_, std::max(rule->clock(), *rule->removed_at()));
    for (const Episode& episode : rule->episodes()) {
      const Who who{
          episode.rule,
          (episode.queue.empty() ? rules::Labels{} : rules::Labels{{"queue", episode.queue}}).format()};
      began.emplace(who, episode.fired_at);
      if (episode.resolved_at) ended.emplace(who, episode.fired_at, *episode.resolved_at);
      if (together_.count({episode.rule, episode.queue, episode.fired_at}) != 0)
        may_miss.emplace(who, episode.fired_at);
      if (episode.resolved_at && together_.count({episode.rule, episode.queue, *episode.resolved_at}) != 0)
        may_miss.emplace(who, *episode.resolved_at);
    }
  }
  for (const auto& [lane, receiver] : receivers_.all()) {
    std::set<std::pair<Who, Ms>> told_began;
    std::set<std::tuple<Who, Ms, Ms>> told_ended;
    for (const auto& [who, mentions] : receiver.heard) {
      const bool is_rule = std::any_of(rule_texts().begin(), rule_texts().end(),
                                       [&who = who](const RuleText& text) { return text.name == who.name; });
      if (!is_rule) continue;
      for (const Mention& mention : mentions) {
        if (began.count({who, mention.fired_at}) == 0)
          wrong(fmt::format("{} heard that {}{} fired at {}, and it did not", lane, who.name, who.labels,
                            mention.fired_at));
        told_began.emplace(who, mention.fired_at);
        if (!mention.resolved_at) continue;
        if (ended.count({who, mention.fired_at, *mention.resolved_at}) == 0)
          wrong(fmt::format("{} heard that {}{} of {} ended at {}, and it did not", lane, who.name,
                            who.labels, mention.fired_at, *mention.resolved_at));
        told_ended.emplace(who, mention.fired_at, *mention.resolved_at);
      }
    }
    if (receiver.sink != "peers") continue;
    for (const auto& [who, at] : began) {
      if (told_began.count({who, at}) == 0 && may_miss.count({who, at}) == 0)
        wrong(fmt::format("{} never heard that {}{} fired at {}", lane, who.name, who.labels, at));
    }
    for (const auto& [who, from, to] : ended) {
      if (told_ended.count({who, from, to}) == 0 && may_miss.count({who, to}) == 0)
        wrong(
            fmt::format("{} never heard that {}{} of {} ended at {}", lane, who.name, who.labels, from, to));
    }
  }
}

}  // namespace logbell::sim

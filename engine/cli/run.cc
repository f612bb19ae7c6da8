// logbell run: watches and rings. Signals, reload, refusal and the end of the process; everything between is
// engine/run/runtime.h.
#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "engine/cli/commands.h"
#include "engine/cli/exit_status.h"
#include "engine/io/descriptors.h"
#include "engine/io/fault.h"
#include "engine/io/service_manager.h"
#include "engine/run/config_watch.h"
#include "engine/run/refusal.h"
#include "engine/run/runtime.h"
#include "engine/run/verify.h"
#include "logbell_version.h"
#include "rules/fields.h"
#include "rules/labels.h"
#include "rules/reach.h"
#include "sinks/exec.h"

namespace logbell::engine {
namespace {

using rules::Problems;

constexpr const char* kDefaultListen = "127.0.0.1:9733";
constexpr const char* kDefaultStateDir = "/var/lib/logbell";
// How often the main thread looks up without being called.
constexpr rules::Duration kTend{5000};
// What could not start is tried again after this, with the same configuration: the port or the volume may be
// there now.
constexpr rules::Duration kTryAgain{std::chrono::seconds(60)};
// How often a start asks whether the instance before it has let go of the state.
constexpr rules::Duration kAskForState{50};
// A reload that was refused is an alert after this: whoever saves a file with a mistake in it mends
// it within the minute, and whoever has gone must hear of it.
constexpr rules::Duration kTellRefusedReload{std::chrono::seconds(60)};

// SIGTERM, SIGINT and SIGHUP as a file descriptor; every other thread inherits the mask.
class Signals {
 public:
  Signals() {
    sigemptyset(&set_);
    for (const int signal : {SIGTERM, SIGINT, SIGHUP})
      sigaddset(&set_, signal);
    pthread_sigmask(SIG_BLOCK, &set_, nullptr);
    fd_ = signalfd(-1, &set_, SFD_NONBLOCK | SFD_CLOEXEC);
  }
  ~Signals() { close(fd_); }
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

  int fd() const { return fd_; }
  // The next one that has come; 0: none.
  int next() const {
    signalfd_siginfo info{};
    return read(fd_, &info, sizeof info) == static_cast<ssize_t>(sizeof info)
               ? static_cast<int>(info.ssi_signo)
               : 0;
  }
  // A second SIGTERM or SIGINT ends the process at once, as if there were no handler.
  void let_through() const { pthread_sigmask(SIG_UNBLOCK, &set_, nullptr); }

 private:
  sigset_t set_{};
  int fd_ = -1;
};

constexpr const char* kNothingWatched = "Nothing is watched until this is fixed.";
constexpr const char* kGoesOn = "The last good configuration goes on until this is fixed.";

using Texts = std::vector<std::pair<std::string, std::string>>;  // of a configuration's files, by path

struct Loaded {
  std::shared_ptr<const Config> config;  // null: refused
  Problems problems;
  Verdicts verdicts;  // of its sinks
};

// `stored`: texts that are read instead of the files of the same path. `inputs`: gets what was read.
Loaded load(const RunOptions& run, rules::Timestamp now, std::uint64_t generation, ConfigInputs* inputs = nullptr,
            const Texts& stored = {}) {
  ConfigWorld real = ConfigWorld::real(now);
  if (inputs != nullptr) real = real.noting(*inputs);
  LoadOptions options;
  options.for_run = true;
  options.generation = generation;
  options.matcher = run.plain ? rules::PatternSet::Matcher::kPlain : rules::PatternSet::Matcher::kFast;
  Loaded loaded;
  loaded.config =
      load_config(run.config, stored.empty() ? real : real.with_texts(stored), options, loaded.problems);
  return loaded;
}

std::string problem_lines(const Problems& problems) {
  std::string out;
  for (const rules::Problem& problem : problems.sorted())
    out += problem.format() + "\n";
  return out;
}

// What makes them the same problems, a minute later.
std::string identities(const Problems& problems) {
  std::string out;
  for (const rules::Problem& problem : problems.sorted())
    out += (problem.identity.empty() ? problem.format() : problem.identity) + "\n";
  return out;
}

// What logbell_rules_without_sink says while parked: rules with errors, which reach nobody; 1 at the least, for where nothing
// is watched no rule reaches anybody, whatever the fault.
std::uint32_t refused_rules(const Problems& problems) {
  std::set<std::string> rules;
  for (const rules::Problem& problem : problems.all()) {
    if (problem.severity == rules::Severity::kError && problem.subject.rfind("rule ", 0) == 0)
      rules.insert(problem.subject);
  }
  return std::max<std::uint32_t>(1, static_cast<std::uint32_t>(rules.size()));
}

// ${NAME} and ${NAME:-otherwise} filled in; nothing where one is not set.
std::optional<std::string> filled_in(std::string text, const ConfigWorld& world) {
  for (std::size_t at = text.find("${"); at != std::string::npos; at = text.find("${", at)) {
    const std::size_t end = text.find('}', at);
    if (end == std::string::npos) return std::nullopt;
    const std::string inside = text.substr(at + 2, end - at - 2);
    const std::size_t colon = inside.find(':');
    std::optional<std::string> value = world.env(inside.substr(0, colon));
    if ((!value || value->empty()) && colon != std::string::npos && inside.compare(colon, 2, ":-") == 0)
      value = inside.substr(colon + 2);
    if (!value || value->empty()) return std::nullopt;
    text.replace(at, end - at + 1, *value);
    at += value->size();
  }
  return text;
}

// A setting at the top of a configuration that may not even be YAML: where the state is, where to listen.
std::string setting_of(const std::string& text, const std::string& key, const std::string& otherwise,
                       const ConfigWorld& world) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    std::string line = text.substr(at, end - at);
    at = end + 1;
    if (line.rfind(key + ":", 0) != 0) continue;
    line.erase(0, key.size() + 1);
    if (const std::size_t comment = line.find(" #"); comment != std::string::npos) line.erase(comment);
    const std::size_t first = line.find_first_not_of(" \t\"'\r");
    const std::size_t last = line.find_last_not_of(" \t\"'\r");
    if (first == std::string::npos) return otherwise;
    return filled_in(line.substr(first, last - first + 1), world).value_or(otherwise);
  }
  return otherwise;
}

// Not by the log: whoever hangs may hold its lock.
void end_stalled(const Watchdog::Progress& of) {
  const std::string line = fmt::format(
      "level=error loop={} silent={} msg=\"A loop hangs: the process ends itself, so that its supervisor starts it "
      "again.\"\n",
      of.loop, rules::format_duration(std::chrono::floor<std::chrono::seconds>(of.silent.value_or(rules::Duration(0)))));
  static_cast<void>(!write(STDERR_FILENO, line.data(), line.size()));
  std::abort();
}

// The whole process, on its main thread.
class Process {
 public:
  explicit Process(const RunOptions& options) : options_(options) {}

  int run();

 private:
  std::optional<int> begin();
  enum class Refusing { kYes, kNo };
  void verify(Loaded& loaded, Refusing refusing, Dead dead);
  std::optional<int> start(const Loaded& loaded, bool refused, Problems* failed);
  std::optional<int> stay(const Loaded& loaded);
  void park(const Problems& problems, const std::string& why);
  std::string serve(const std::string& listen, const std::string& state);
  Refusal refusal_of(const Problems& problems, const std::string& consequence) const;
  void tell(const SalvagedSinks& sinks, const Refusal& refusal);
  void tell_meanwhile(SalvagedSinks sinks, Refusal refusal);
  Refusal failure_of(const Problems& failed) const;
  void tell_of_refused_reload();
  SalvagedSinks salvaged_sinks() const;
  SalvagedSinks sinks_beside_the_running() const;
  void tell_running(const Problems& problems);
  void reload(bool say);
  bool await_state(const std::function<bool()>& held, const std::string& listen);
  Texts stored();
  void say_what_is_watched(const Config& config);
  bool has_changed();
  void report();
  bool should_try_again() const;
  bool watches() const;
  void wait();
  int next_signal();
  bool must_stop() const;
  int end(int status) noexcept;  // out of memory, here, ends the process, as it does in each loop

  const RunOptions& options_;
  SystemClock clock_;
  Signals signals_;  // before any thread
  Log log_{{&clock_, std::chrono::seconds(30), nullptr}};
  Metrics metrics_{LOGBELL_VERSION, clock_.now()};
  PollWaker waker_{clock_};
  ReloadDesk desk_{[this] { waker_.kick(); }};
  Front front_;
  ServiceManager manager_ = ServiceManager::of_environment();
  std::unique_ptr<Runtime> runtime_;  // null: parked
  std::uint64_t generation_ = 1;
  bool refused_ = false;  // the configuration on disk is not the one that runs
  std::string refused_because_;
  bool dead_refused_ = false;  // because of what its sinks answered: that changes without a file
  Problems problems_;          // of the reload that was refused
  std::optional<rules::Instant> tell_at_;
  ConfigWatch watch_{ConfigWorld::real(clock_.now())};
  rules::Instant try_again_at_;
  int kept_signal_ = 0;           // one that came while the state was waited for
  std::atomic<bool> told_{true};  // of the refusal at the start
  std::thread telling_;
  bool answer_when_done_ = false;  // whoever asked for the reload that is under way
};

int Process::run() {
  if (const std::optional<int> failed = begin()) return *failed;
  for (;;) {
    report();
    wait();
    bool hup = false;
    for (int signal = next_signal(); signal != 0; signal = next_signal()) {
      if (signal != SIGHUP) {
        log_.info("Stopping.", {{"signal", signal == SIGTERM ? "SIGTERM" : "SIGINT"}});
        return end(kExitOk);
      }
      hup = true;
    }
    log_.sweep();
    const bool asked = desk_.wanted() && !answer_when_done_;
    const bool changed = has_changed();
    if (hup || asked || changed || should_try_again()) reload(hup || asked || changed);
    if (!runtime_) continue;
    tell_of_refused_reload();
    runtime_->tend();
    if (answer_when_done_ && runtime_->reload_done()) {
      answer_when_done_ = false;
      desk_.answer({200, "The new configuration runs.\n"});
    }
    if (const std::optional<int> status = runtime_->finished()) {
      if (*status == 0) log_.info("Every source has ended.");
      return end(*status);
    }
  }
}

// Until something comes, or there is something to do.
void Process::wait() {
  if (kept_signal_ != 0) return;
  std::vector<int> fds{signals_.fd()};
  rules::Instant until = std::min(clock_.instant() + kTend, manager_.next(clock_.instant()));
  if (watches()) {
    until = std::min(until, watch_.next());
    if (watch_.fd() >= 0) fds.push_back(watch_.fd());
  }
  waker_.wait(until, fds);
}

// To whoever supervises the process. Parked it is ready, too: that is what --on-refusal=stay wants.
void Process::report() {
  if (!manager_.listens()) return;
  const Health health = runtime_ ? runtime_->health() : Health{{}, true, {}};
  manager_.look(clock_.instant(), health.ready && (!runtime_ || runtime_->reload_done()), health.stalled.empty());
}

int Process::next_signal() {
  return kept_signal_ != 0 ? std::exchange(kept_signal_, 0) : signals_.next();
}

bool Process::must_stop() const {
  return kept_signal_ != 0 && kept_signal_ != SIGHUP;
}

// Starts or parks; a value: the process ends with it.
std::optional<int> Process::begin() {
  ConfigInputs inputs;
  Loaded loaded = load(options_, clock_.now(), generation_, &inputs);
  watch_.loaded(std::move(inputs), clock_.instant());
  verify(loaded, Refusing::kYes, Dead::kBelieved);
  std::fputs(problem_lines(loaded.problems).c_str(), stderr);
  if (options_.on_refusal == OnRefusal::kStay) return stay(loaded);
  if (loaded.config) {
    Problems failed;
    const std::optional<int> status = start(loaded, false, &failed);
    // Of one that another instance keeps from starting there is nothing to tell: that one watches.
    if (failed.has_errors() && status != kExitOtherInstance) tell(salvaged_sinks(), failure_of(failed));
    return status;
  }
  tell(salvaged_sinks(), refusal_of(loaded.problems, kNothingWatched));
  log_.error("Refused to start: see the problems above; nothing is watched.",
             {{"config", options_.config}, {"problems", std::to_string(loaded.problems.errors())}});
  return kExitConfig;
}

// Starts with what there is, the last good configuration at worst, or parks: whatever happens, a pod beside
// us stays in service. A value only when a signal ends the process.
std::optional<int> Process::stay(const Loaded& loaded) {
  if (loaded.config) {
    Problems failed;
    if (!start(loaded, false, &failed)) return std::nullopt;
    if (must_stop()) return std::nullopt;
    park(failed, "it could not be started");
    tell_meanwhile(salvaged_sinks(), failure_of(failed));
    return std::nullopt;
  }
  if (const Texts texts = stored(); !texts.empty()) {
    Loaded last = load(options_, clock_.now(), generation_, nullptr, texts);
    // Whoever its sinks do not reach, hears nothing from a parked process either.
    verify(last, Refusing::kNo, Dead::kBelieved);
    if (last.config) {
      log_.error("The configuration was refused; the last good one goes on.", {{"config", options_.config}});
      Problems failed;
      if (!start(last, true, &failed)) {
        tell_running(loaded.problems);
        tell_meanwhile(sinks_beside_the_running(), refusal_of(loaded.problems, kGoesOn));
        return std::nullopt;
      }
    } else {
      log_.error("The last good configuration is refused now, too.",
                 {{"config", options_.config}, {"problems", problem_lines(last.problems)}});
    }
  }
  if (must_stop()) return std::nullopt;
  park(loaded.problems, "the configuration was refused and there is no earlier one");
  tell_meanwhile(salvaged_sinks(), refusal_of(loaded.problems, kNothingWatched));
  return std::nullopt;
}

SalvagedSinks Process::salvaged_sinks() const {
  return salvage_sinks(options_.config, ConfigWorld::real(clock_.now()));
}

// Those of the configuration that was refused whom the one that runs does not know: what it tells of the refusal
// does not reach them.
SalvagedSinks Process::sinks_beside_the_running() const {
  SalvagedSinks sinks = salvaged_sinks();
  const std::shared_ptr<const Config> config = runtime_->config();
  std::erase_if(sinks, [&](const auto& sink) {
    return std::any_of(config->sinks.begin(), config->sinks.end(), [&](const auto& running) {
      return running.second->destination() == sink.second->destination() &&
             running.second->secrets() == sink.second->secrets();
    });
  });
  return sinks;
}

// By the route of the configuration that runs, until one is accepted.
void Process::tell_running(const Problems& problems) {
  Refusal refusal = refusal_of(problems, kGoesOn);
  const std::shared_ptr<const Config> config = runtime_->config();
  refusal.secrets = config->secrets;
  for (const auto& sink : salvaged_sinks()) {
    const std::vector<rules::Secret> own = sink.second->secrets();
    refusal.secrets.insert(refusal.secrets.end(), own.begin(), own.end());
  }
  runtime_->tell(reload_failed(refusal));
}

// A sink that hangs must not hold up what goes on. Not while one is still being told.
void Process::tell_meanwhile(SalvagedSinks sinks, Refusal refusal) {
  if (!told_) return;
  if (telling_.joinable()) telling_.join();
  told_ = false;
  telling_ = std::thread([this, sinks = std::move(sinks), refusal = std::move(refusal)] {
    tell(sinks, refusal);
    told_ = true;
  });
}

void Process::tell_of_refused_reload() {
  if (!tell_at_ || clock_.instant() < *tell_at_) return;
  tell_at_.reset();
  tell_running(problems_);
}

// A rolling restart: the instance before may still be ending. Asks `held` until nobody holds the state, and
// meanwhile answers probes on `listen` (where that one does not listen itself) and hears signals. False: a
// signal to end came, or Store::kLockWait is over; with --on-refusal=stay there is no end, for a pod that
// exits helps nobody.
bool Process::await_state(const std::function<bool()>& held, const std::string& listen) {
  if (!held()) return true;
  log_.info("Another instance holds the state; waiting for it to end.", {{"config", options_.config}});
  serve(listen, "another instance holds state_dir; this one takes over when it ends");
  const rules::Instant until = clock_.instant() + Store::kLockWait;
  bool said = false;
  for (;;) {
    if (clock_.instant() >= until && !said) {
      if (options_.on_refusal == OnRefusal::kExit) return false;
      log_.error("Another instance still holds the state: this one watches nothing.",
                 {{"config", options_.config}});
      said = true;
    }
    const std::array<int, 1> fds{signals_.fd()};
    waker_.wait(clock_.instant() + kAskForState, fds);
    for (int signal = signals_.next(); signal != 0; signal = signals_.next()) {
      kept_signal_ = signal;
      if (must_stop()) return false;
    }
    if (!held()) return true;
  }
}

// Asks the sinks whether a message would arrive. A configuration in which a rule would reach nobody is
// refused.
void Process::verify(Loaded& loaded, Refusing refusing, Dead dead) {
  if (refusing == Refusing::kYes) dead_refused_ = false;
  if (!loaded.config) return;
  log_.hide(loaded.config->secrets);
  loaded.verdicts = verify_sinks(*loaded.config, clock_, loaded.config->state_dir, dead);
  if (refusing == Refusing::kNo) return;
  const std::shared_ptr<const Config> running = runtime_ ? runtime_->config() : nullptr;
  report_dead(*loaded.config, loaded.verdicts, running.get(), runtime_ ? runtime_->verdicts() : Verdicts(),
              loaded.problems);
  dead_refused_ = loaded.problems.has_errors();
  if (dead_refused_) loaded.config = nullptr;
}

// `failed`: gets why it could not be started; null: that ends the process.
std::optional<int> Process::start(const Loaded& loaded, bool refused, Problems* failed) {
  const std::shared_ptr<const Config>& config = loaded.config;
  tl::expected<std::unique_ptr<Runtime>, Runtime::Failure> started;
  const auto held = [&] {
    Runtime::Options options;
    options.config = config;
    options.clock = &clock_;
    options.log = &log_;
    options.metrics = &metrics_;
    options.front = &front_;
    options.version = LOGBELL_VERSION;
    options.lock_wait = rules::Duration(0);
    options.plan_refused = refused;
    options.verify = true;
    options.drills = true;
    options.heartbeat = true;
    options.stalled = end_stalled;
    options.ask_again = fault_duration("LOGBELL_FAULT_VERIFY_MS");
    options.first_drill = fault_duration("LOGBELL_FAULT_DRILL_MS");
    options.stall_limit = fault_duration("LOGBELL_FAULT_STALL_MS").value_or(options.stall_limit);
    options.verdicts = loaded.verdicts;
    options.wake_main = [this] { waker_.kick(); };
    options.reload = [this] { return desk_.ask(); };
    started = Runtime::start(std::move(options));
    return !started && started.error().exit_status == kExitOtherInstance;
  };
  if (!await_state(held, config->listen) && must_stop()) {
    log_.info("Stopping before the start.", {{"config", options_.config}});
    return kExitOk;
  }
  if (!started) {
    log_.error("Could not start; nothing is watched.",
               {{"config", options_.config}, {"reason", started.error().message}});
    if (failed != nullptr)
      failed->error(rules::Place{options_.config}, "", "it could not be started: " + started.error().message);
    return started.error().exit_status;
  }
  runtime_ = std::move(*started);
  refused_ = refused;
  say_what_is_watched(*config);
  return std::nullopt;
}

void Process::say_what_is_watched(const Config& config) {
  std::vector<std::string> watched;
  for (const rules::SourceSpec& source : config.plan->sources) {
    watched.push_back(fmt::format("{} ({})", source.name, rules::describe_inputs(source)));
  }
  std::vector<std::string> told;
  for (const auto& [name, sink] : config.plan->sinks) {
    const auto built = config.sinks.find(name);
    told.push_back(fmt::format("{} ({} {})", name, sink.type,
                               built == config.sinks.end() ? "" : built->second->destination()));
  }
  log_.info("Watching.", {{"sources", fmt::format("{}", fmt::join(watched, ", "))},
                          {"patterns", std::to_string(config.plan->patterns.size())},
                          {"rules", std::to_string(config.plan->rules.size())},
                          {"rules_without_sink", std::to_string(config.plan->rules_without_sink)},
                          {"listen", front_.address()},
                          {"version", LOGBELL_VERSION}});
  log_.info("Telling.", {{"sinks", fmt::format("{}", fmt::join(told, ", "))}});
  const std::vector<std::string> machines = rules::rules_for_machines(*config.plan);
  if (!machines.empty())
    log_.warn("No person is told of these, only a machine.", {{"rules", rules::list_words(machines, 20)}});
}

// Nothing runs, and a pod beside us stays in service: every probe is answered, the metrics say what is wrong.
void Process::park(const Problems& problems, const std::string& why) {
  metrics_.set_plan_refused(true);
  metrics_.set_rules_without_sink(refused_rules(problems));
  metrics_.reloaded(false, clock_.now());
  refused_ = true;
  refused_because_ = identities(problems);
  try_again_at_ = clock_.instant() + kTryAgain;
  const ConfigWorld world = ConfigWorld::real(clock_.now());
  const rules::Result<std::string> text = world.read_file(options_.config);
  const std::string listening =
      serve(setting_of(text ? *text : "", "listen", kDefaultListen, world), why + ": nothing is watched");
  log_.error(
      "Parked: " + why + ". Nothing is watched until that is mended.",
      {{"config", options_.config}, {"problems", std::to_string(problems.errors())}, {"listen", listening}});
}

// Answers probes while nothing runs; `state` says why. Returns where, or why not.
std::string Process::serve(const std::string& listen, const std::string& state) {
  Api::Options api;
  api.clock = &clock_;
  api.metrics = &metrics_;
  api.version = LOGBELL_VERSION;
  api.may_change = is_loopback(listen);
  api.reload = [this] { return desk_.ask(); };
  api.health = [state] { return Health{{}, true, {state}}; };
  api.core = [] { return std::shared_ptr<const CoreView>(); };
  api.streams = [] { return std::shared_ptr<const std::vector<StreamView>>(); };
  api.lanes = [] { return std::vector<LaneView>(); };
  api.destination = [](const std::string&) { return std::string(); };
  const rules::Result<> listening = front_.serve(listen, std::make_shared<Api>(std::move(api)));
  return listening ? front_.address() : listening.error().message;
}

Refusal Process::refusal_of(const Problems& problems, const std::string& consequence) const {
  const ConfigWorld world = ConfigWorld::real(clock_.now());
  const rules::Result<std::string> text = world.read_file(options_.config);
  Refusal refusal;
  refusal.path = options_.config;
  refusal.problems = problems;
  refusal.configuration = text ? *text : std::string();
  refusal.consequence = consequence;
  refusal.labels.set("instance", world.hostname);
  refusal.labels.set("environment", setting_of(refusal.configuration, "environment", "", world));
  refusal.state_dir = setting_of(refusal.configuration, "state_dir", kDefaultStateDir, world);
  refusal.external_url = setting_of(refusal.configuration, "external_url", "", world);
  return refusal;
}

// The configuration is good, and it could not be started all the same.
Refusal Process::failure_of(const Problems& failed) const {
  Refusal refusal = refusal_of(failed, kNothingWatched);
  refusal.could_not_start = true;
  return refusal;
}

// Tells the sinks that work, once an hour for the same configuration. Blocks for kRefusalTotal at most.
void Process::tell(const SalvagedSinks& sinks, const Refusal& refusal) {
  const RefusalReport report = tell_refusal(sinks, refusal, clock_);
  const std::string what = refusal.could_not_start ? "it could not start" : "the configuration was refused";
  for (const RefusalReport::One& one : report.sinks) {
    const LogFields fields{{"sink", one.sink}, {"detail", one.detail}};
    switch (one.outcome) {
      case RefusalReport::Outcome::kTold:
        log_.info("Told that " + what + ".", fields);
        break;
      case RefusalReport::Outcome::kToldBefore:
        log_.info(refusal.could_not_start ? "Was told of the same failure within the hour."
                                          : "Was told of the same refusal within the hour.",
                  fields);
        break;
      case RefusalReport::Outcome::kTriedBefore:
      case RefusalReport::Outcome::kFailed:
        log_.error("Could not be told that " + what + ".", fields);
        break;
      case RefusalReport::Outcome::kTellsNobody:
        break;
    }
  }
  if (!report.not_kept.empty() && !refusal.could_not_start)
    log_.warn("Who was told could not be kept: they are told again at the next start.",
              {{"reason", report.not_kept}});
}

// The last good configuration. Where its state is, the refused one says.
Texts Process::stored() {
  Texts texts;
  const ConfigWorld world = ConfigWorld::real(clock_.now());
  const rules::Result<std::string> text = world.read_file(options_.config);
  const std::string state_dir = setting_of(text ? *text : "", "state_dir", kDefaultStateDir, world);
  std::optional<rules::Result<Store::Opened>> opened;
  const auto held = [&] {
    opened = Store::open(state_dir, clock_.now(), rules::Duration(0));
    return !*opened && opened->error().code == rules::ErrorCode::kUnavailable;
  };
  if (!await_state(held, setting_of(text ? *text : "", "listen", kDefaultListen, world)) || !*opened)
    return texts;
  const rules::Result<std::vector<StoredEntry>> entries = (*opened)->store->entries(Runtime::kTextsPrefix);
  for (const StoredEntry& entry : entries ? *entries : std::vector<StoredEntry>{})
    texts.emplace_back(entry.key.substr(Runtime::kTextsPrefix.size()), entry.value.value_or(""));
  return texts;
}

// While the configuration on disk is refused it is watched in any case: mended, it is taken.
bool Process::watches() const {
  return options_.watch_config || refused_;
}

bool Process::has_changed() {
  if (!watches()) return false;
  const std::vector<std::string> changed = watch_.step(clock_.instant());
  if (changed.empty()) return false;
  log_.info("The configuration has changed on disk; it is loaded.",
            {{"changed", fmt::format("{}", fmt::join(changed, " "))}});
  return true;
}

bool Process::should_try_again() const {
  return refused_ && (!runtime_ || dead_refused_) && clock_.instant() >= try_again_at_;
}

// `say`: also what was said before; without it, somebody looks at the same files each minute.
void Process::reload(bool say) {
  if (say) manager_.reloading(monotonic_us());
  try_again_at_ = clock_.instant() + kTryAgain;
  const bool somebody_waits = desk_.wanted();
  ConfigInputs inputs;
  Loaded loaded = load(options_, clock_.now(), generation_ + 1, &inputs);
  watch_.loaded(std::move(inputs), clock_.instant());
  // Somebody may be waiting for what he has just mended.
  verify(loaded, Refusing::kYes, Dead::kAskedAgain);
  const std::string problems = problem_lines(loaded.problems);
  if (!loaded.config) {
    const std::string because = identities(loaded.problems);
    const bool is_new = say || because != refused_because_;
    if (is_new) {
      std::fputs(problems.c_str(), stderr);
      log_.error(runtime_ ? "The new configuration was refused; the old one goes on."
                          : "The configuration is still refused; nothing is watched.",
                 {{"config", options_.config}, {"problems", std::to_string(loaded.problems.errors())}});
    }
    refused_ = true;
    refused_because_ = because;
    if (runtime_) {
      runtime_->refused();
      problems_ = loaded.problems;
      // Looked at again each minute, it is told once.
      if (!tell_at_ && is_new)
        tell_at_ = clock_.instant() + fault_duration("LOGBELL_FAULT_TELL_RELOAD_MS").value_or(kTellRefusedReload);
    } else {
      metrics_.set_rules_without_sink(refused_rules(loaded.problems));
    }
    if (somebody_waits)
      desk_.answer({400, "The configuration was refused; what ran before goes on.\n" + problems});
    return;
  }
  std::fputs(problems.c_str(), stderr);
  ++generation_;
  refused_because_.clear();
  tell_at_.reset();
  if (runtime_) {
    runtime_->reload(loaded.config, loaded.verdicts);
    refused_ = false;
    log_.info("The new configuration was accepted.", {{"config", options_.config}});
    say_what_is_watched(*loaded.config);
    answer_when_done_ = somebody_waits;
    return;
  }
  Problems failed;
  if (start(loaded, false, &failed)) {
    // Still better parked than gone: whoever asked hears why, and it is tried again.
    if (!must_stop()) park(failed, "it could not be started");
    if (somebody_waits)
      desk_.answer({500, "The configuration is good, but it could not be started: see the log.\n"});
    return;
  }
  if (somebody_waits) desk_.answer({200, "The configuration runs.\n"});
}

int Process::end(int status) noexcept {
  manager_.stopping();
  // Ending because of the disk, it still has seconds to tell somebody: a supervisor's first signal is no
  // second one.
  if (status != kExitIo) signals_.let_through();
  const bool clean = (!runtime_ || runtime_->stop(options_.grace)) && told_;
  if (runtime_ && runtime_->finished() == kExitIo) status = kExitIo;  // the disk did not keep the last commit
  log_.sweep(true);
  if (!clean) std::_Exit(status);  // a thread hangs in a sink or a disk: there is nothing to wait for
  if (telling_.joinable()) telling_.join();
  runtime_.reset();
  front_.close();
  return status;
}

// What an attacker who reads a core file or attaches to the process would find are the sinks' secrets.
void hide_memory() {
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  const rlimit none{0, 0};
  setrlimit(RLIMIT_CORE, &none);
}

}  // namespace

int command_run(const RunOptions& options) {
  hide_memory();
  sinks::set_exec_open_files(raise_descriptor_limit());
  std::signal(SIGPIPE, SIG_IGN);
  Process process(options);
  return process.run();
}

}  // namespace logbell::engine

// logbell run: watches and rings. Signals, reload, refusal and the end of the process; everything between is
// engine/run/runtime.h.
#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/cli/commands.h"
#include "engine/cli/exit_status.h"
#include "engine/run/refusal.h"
#include "engine/run/runtime.h"
#include "logbell_version.h"
#include "rules/labels.h"

namespace logbell::engine {
namespace {

using rules::Problems;

constexpr const char* kDefaultListen = "127.0.0.1:9733";
constexpr const char* kDefaultStateDir = "/var/lib/logbell";
// How often the main thread looks up without being called.
constexpr rules::Duration kTend{5000};
// A refused configuration is tried again after this even if its file is the same: a secret's file may have
// come.
constexpr rules::Duration kTryAgain{std::chrono::seconds(60)};

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

using Texts = std::vector<std::pair<std::string, std::string>>;  // of a configuration's files, by path

struct Loaded {
  std::shared_ptr<const Config> config;  // null: refused
  Problems problems;
};

// `stored`: texts that are read instead of the files of the same path.
Loaded load(const std::string& path, rules::Timestamp now, std::uint64_t generation,
            const Texts& stored = {}) {
  const ConfigWorld real = ConfigWorld::real(now);
  LoadOptions options;
  options.for_run = true;
  options.generation = generation;
  Loaded loaded;
  loaded.config =
      load_config(path, stored.empty() ? real : real.with_texts(stored), options, loaded.problems);
  return loaded;
}

std::string problem_lines(const Problems& problems) {
  std::string out;
  for (const rules::Problem& problem : problems.sorted())
    out += problem.format() + "\n";
  return out;
}

// Rules with errors reach nobody: what logbell_rules_without_sink says while parked.
std::uint32_t refused_rules(const Problems& problems) {
  std::set<std::string> rules;
  for (const rules::Problem& problem : problems.all()) {
    if (problem.severity == rules::Severity::kError && problem.subject.rfind("rule ", 0) == 0)
      rules.insert(problem.subject);
  }
  return static_cast<std::uint32_t>(rules.size());
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

// What tells one state of a file from another; a Kubernetes ConfigMap changes by a link that leads elsewhere.
using FileMark = std::array<std::int64_t, 5>;
FileMark mark_of(const std::string& path) {
  struct stat status {};
  if (stat(path.c_str(), &status) != 0) return {-1, errno, 0, 0, 0};
  return {static_cast<std::int64_t>(status.st_dev), static_cast<std::int64_t>(status.st_ino),
          static_cast<std::int64_t>(status.st_size), static_cast<std::int64_t>(status.st_mtim.tv_sec),
          static_cast<std::int64_t>(status.st_mtim.tv_nsec)};
}

// The whole process, on its main thread.
class Process {
 public:
  explicit Process(const RunOptions& options) : options_(options) {}

  int run();

 private:
  std::optional<int> begin();
  std::optional<int> start(const std::shared_ptr<const Config>& config, bool refused);
  void park(const Problems& problems);
  void tell(const Problems& problems, const std::string& consequence);
  void tell_meanwhile(const Problems& problems, const std::string& consequence);
  void reload(bool because_asked);
  Texts stored() const;
  void say_what_is_watched(const Config& config);
  bool should_try_again();
  int end(int status);

  const RunOptions& options_;
  SystemClock clock_;
  Signals signals_;  // before any thread
  Log log_{{&clock_, std::chrono::seconds(30), nullptr}};
  Metrics metrics_{LOGBELL_VERSION, clock_.now()};
  PollWaker waker_{clock_};
  ReloadDesk desk_{[this] { waker_.kick(); }};
  Front front_;
  std::unique_ptr<Runtime> runtime_;  // null: parked
  std::uint64_t generation_ = 1;
  bool refused_ = false;  // the configuration on disk is not the one that runs
  std::string refused_because_;
  FileMark mark_{};
  rules::Instant try_again_at_;
  std::atomic<bool> told_{true};  // of the refusal at the start
  std::thread telling_;
  bool answer_when_done_ = false;  // whoever asked for the reload that is under way
};

int Process::run() {
  if (const std::optional<int> failed = begin()) return *failed;
  for (;;) {
    const std::array<int, 1> fds{signals_.fd()};
    waker_.wait(clock_.instant() + kTend, fds);
    bool hup = false;
    for (int signal = signals_.next(); signal != 0; signal = signals_.next()) {
      if (signal != SIGHUP) {
        log_.info("Stopping.", {{"signal", signal == SIGTERM ? "SIGTERM" : "SIGINT"}});
        return end(kExitOk);
      }
      hup = true;
    }
    log_.sweep();
    const bool asked = desk_.wanted() && !answer_when_done_;
    if (hup || asked || should_try_again()) reload(hup || asked);
    if (!runtime_) continue;
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

// Starts or parks; a value: the process ends with it.
std::optional<int> Process::begin() {
  mark_ = mark_of(options_.config);
  Loaded loaded = load(options_.config, clock_.now(), generation_);
  std::fputs(problem_lines(loaded.problems).c_str(), stderr);
  if (loaded.config) return start(loaded.config, false);

  if (options_.on_refusal == OnRefusal::kExit) {
    tell(loaded.problems, "Nothing is watched until this is fixed.");
    log_.error("Refused to start: see the problems above; nothing is watched.",
               {{"config", options_.config}, {"problems", std::to_string(loaded.problems.errors())}});
    return kExitConfig;
  }
  if (const Texts texts = stored(); !texts.empty()) {
    const Loaded last = load(options_.config, clock_.now(), generation_, texts);
    if (last.config) {
      log_.error("The configuration was refused; the last good one goes on.", {{"config", options_.config}});
      if (const std::optional<int> failed = start(last.config, true)) return failed;
      tell_meanwhile(loaded.problems, "The last good configuration goes on until this is fixed.");
      return std::nullopt;
    }
    log_.error("The last good configuration is refused now, too.",
               {{"config", options_.config}, {"problems", problem_lines(last.problems)}});
  }
  park(loaded.problems);
  tell_meanwhile(loaded.problems, "Nothing is watched until this is fixed.");
  return std::nullopt;
}

// A sink that hangs must not hold up what goes on.
void Process::tell_meanwhile(const Problems& problems, const std::string& consequence) {
  told_ = false;
  telling_ = std::thread([this, problems, consequence] {
    tell(problems, consequence);
    told_ = true;
  });
}

std::optional<int> Process::start(const std::shared_ptr<const Config>& config, bool refused) {
  log_.hide(config->secrets);
  Runtime::Options options;
  options.config = config;
  options.clock = &clock_;
  options.log = &log_;
  options.metrics = &metrics_;
  options.front = &front_;
  options.version = LOGBELL_VERSION;
  options.plan_refused = refused;
  options.wake_main = [this] { waker_.kick(); };
  options.reload = [this] { return desk_.ask(); };
  auto started = Runtime::start(std::move(options));
  if (!started) {
    log_.error("Could not start; nothing is watched.",
               {{"config", options_.config}, {"reason", started.error().message}});
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
    watched.push_back(fmt::format(
        "{} ({})", source.name, source.is_stdin ? "stdin" : fmt::format("{}", fmt::join(source.files, " "))));
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
}

// Nothing runs, and a pod beside us stays in service: every probe is answered, the metrics say what is wrong.
void Process::park(const Problems& problems) {
  const ConfigWorld world = ConfigWorld::real(clock_.now());
  const rules::Result<std::string> text = world.read_file(options_.config);
  const std::string listen = setting_of(text ? *text : "", "listen", kDefaultListen, world);
  metrics_.set_plan_refused(true);
  metrics_.set_rules_without_sink(refused_rules(problems));
  metrics_.reloaded(false, clock_.now());
  refused_ = true;
  refused_because_ = problem_lines(problems);
  try_again_at_ = clock_.instant() + kTryAgain;
  Api::Options api;
  api.clock = &clock_;
  api.metrics = &metrics_;
  api.version = LOGBELL_VERSION;
  api.may_change = is_loopback(listen);
  api.reload = [this] { return desk_.ask(); };
  api.health = [] {
    return Health{
        {}, true, {"the configuration was refused and there is no earlier one: nothing is watched"}};
  };
  api.core = [] { return std::shared_ptr<const CoreView>(); };
  api.streams = [] { return std::shared_ptr<const std::vector<StreamView>>(); };
  api.lanes = [] { return std::vector<LaneView>(); };
  api.destination = [](const std::string&) { return std::string(); };
  const rules::Result<> listening = front_.serve(listen, std::make_shared<Api>(std::move(api)));
  log_.error(
      "Parked: the configuration was refused and there is no earlier one. Nothing is watched until it is "
      "mended.",
      {{"config", options_.config},
       {"problems", std::to_string(problems.errors())},
       {"listen", listening ? front_.address() : listening.error().message}});
}

// Tells the sinks that work, once an hour for the same configuration. Blocks for kRefusalTotal at most.
void Process::tell(const Problems& problems, const std::string& consequence) {
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
  const RefusalReport report = tell_refusal(salvage_sinks(options_.config, world), refusal, clock_);
  for (const RefusalReport::One& one : report.sinks) {
    const LogFields fields{{"sink", one.sink}, {"detail", one.detail}};
    switch (one.outcome) {
      case RefusalReport::Outcome::kTold:
        log_.info("Told that the configuration was refused.", fields);
        break;
      case RefusalReport::Outcome::kToldBefore:
        log_.info("Was told of the same refusal within the hour.", fields);
        break;
      case RefusalReport::Outcome::kTriedBefore:
      case RefusalReport::Outcome::kFailed:
        log_.error("Could not be told that the configuration was refused.", fields);
        break;
      case RefusalReport::Outcome::kTellsNobody:
        break;
    }
  }
  if (!report.not_kept.empty())
    log_.warn("Who was told could not be kept: they are told again at the next start.",
              {{"reason", report.not_kept}});
}

// The last good configuration. Where its state is, the refused one says.
Texts Process::stored() const {
  Texts texts;
  const ConfigWorld world = ConfigWorld::real(clock_.now());
  const rules::Result<std::string> text = world.read_file(options_.config);
  rules::Result<Store::Opened> opened =
      Store::open(setting_of(text ? *text : "", "state_dir", kDefaultStateDir, world), clock_.now());
  if (!opened) return texts;
  const rules::Result<std::vector<StoredEntry>> entries = opened->store->entries(Runtime::kTextsPrefix);
  for (const StoredEntry& entry : entries ? *entries : std::vector<StoredEntry>{})
    texts.emplace_back(entry.key.substr(Runtime::kTextsPrefix.size()), entry.value.value_or(""));
  return texts;
}

bool Process::should_try_again() {
  if (!refused_) return false;
  const FileMark now = mark_of(options_.config);
  if (now != mark_) {
    mark_ = now;
    return true;
  }
  return !runtime_ && clock_.instant() >= try_again_at_;
}

void Process::reload(bool because_asked) {
  mark_ = mark_of(options_.config);
  try_again_at_ = clock_.instant() + kTryAgain;
  const bool somebody_waits = desk_.wanted();
  Loaded loaded = load(options_.config, clock_.now(), generation_ + 1);
  const std::string problems = problem_lines(loaded.problems);
  if (!loaded.config) {
    // What has been said already is not said again each minute.
    if (because_asked || problems != refused_because_) {
      std::fputs(problems.c_str(), stderr);
      log_.error(runtime_ ? "The new configuration was refused; the old one goes on."
                          : "The configuration is still refused; nothing is watched.",
                 {{"config", options_.config}, {"problems", std::to_string(loaded.problems.errors())}});
    }
    refused_ = true;
    refused_because_ = problems;
    if (runtime_) {
      runtime_->refused();
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
  if (runtime_) {
    log_.hide(loaded.config->secrets);
    runtime_->reload(loaded.config);
    refused_ = false;
    log_.info("The new configuration was accepted.", {{"config", options_.config}});
    say_what_is_watched(*loaded.config);
    answer_when_done_ = somebody_waits;
    return;
  }
  if (const std::optional<int> failed = start(loaded.config, false)) {
    // Still better parked than gone: whoever asked hears why, and it is tried again.
    refused_ = true;
    park(loaded.problems);
    if (somebody_waits)
      desk_.answer({500, "The configuration is good, but it could not be started: see the log.\n"});
    return;
  }
  if (somebody_waits) desk_.answer({200, "The configuration runs.\n"});
}

int Process::end(int status) {
  signals_.let_through();
  const bool clean = (!runtime_ || runtime_->stop(options_.grace)) && told_;
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
  std::signal(SIGPIPE, SIG_IGN);
  Process process(options);
  return process.run();
}

}  // namespace logbell::engine

#include "sinks/exec.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <optional>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <spawn.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rules/redact.h"
#include "rules/text.h"
#include "sinks/fd.h"
#include "sinks/timer.h"
#include "sinks/webhook.h"

namespace logbell::sinks {
namespace {

using rules::Duration;
using rules::Secret;
using std::chrono::milliseconds;

// From SIGKILL to the end of the process.
constexpr Duration kReap{milliseconds(200)};
// Where the kernel has no descriptor for a process, its end is looked for so often.
constexpr int kPollMs = 20;
// Of the first line, so much is the receipt.
constexpr std::size_t kMaxFirstLine = 200;
// What a program may need to find itself in; everything else of our environment stays here.
constexpr std::array<std::string_view, 6> kInherited{"PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR"};
constexpr std::string_view kOurPrefix = "LOGBELL_";

// Set once, before there is any other thread.
std::size_t open_files = 0;

struct ExecSettings {
  std::vector<std::string> command;
  std::vector<std::string> environment;  // NAME=value
  std::vector<Secret> secrets;           // values of it that nobody may see
  Duration timeout = kExecTimeout;
};

struct Pipe {
  Fd read;
  Fd write;

  static std::optional<Pipe> make() {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return std::nullopt;
    return Pipe{Fd(ends[0]), Fd(ends[1])};
  }
};

void never_wait_for(const Fd& fd) {
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-vararg): fcntl(2)
  fcntl(fd.get(), F_SETFL, O_NONBLOCK);
}

// posix_spawn(3) has no attribute for it: the program has begun to be loaded when it gets its limit, and has
// it long before there is anything to be read on its standard input.
void give_open_files(pid_t pid) {
  rlimit limit{};
  if (open_files == 0 || prlimit(pid, RLIMIT_NOFILE, nullptr, &limit) != 0 || limit.rlim_cur <= open_files)
    return;
  limit.rlim_cur = open_files;
  // One that runs as another user keeps ours.
  static_cast<void>(prlimit(pid, RLIMIT_NOFILE, &limit, nullptr));
}

// One run of the program. Its group is its own, so that what it started can be ended with it.
class Run {
 public:
  enum class End { kExited, kTimedOut, kStuck };  // kStuck: not even SIGKILL ended it in time

  // 0, or what kept it from being started.
  int start(const ExecSettings& settings, const std::vector<std::string>& environment);
  // Feeds `input` and reads what comes, until it has ended or `limit` has passed; then it is ended.
  End wait(std::string_view input, Duration limit, Duration grace);

  int status() const { return status_; }
  const std::string& output() const { return output_; }
  // Part of the input was never read. A reader that is still there (a daemon) may yet do so.
  bool left_input() const { return left_input_; }
  pid_t pid() const { return pid_; }

 private:
  enum class Event { kExited, kTimer };
  Event pump(std::string_view& input);
  bool has_exited() const;
  void read_output(std::size_t most);
  void reap();

  pid_t pid_ = -1;
  Fd process_;
  Fd input_read_;  // ours: tells how much nobody has read, and keeps SIGPIPE away
  Fd input_;
  Fd output_fd_;
  Timer timer_;
  std::string output_;
  int status_ = 0;
  bool left_input_ = false;
};

int Run::start(const ExecSettings& settings, const std::vector<std::string>& environment) {
  std::optional<Pipe> in = Pipe::make();
  if (!in) return errno;
  std::optional<Pipe> out = Pipe::make();
  if (!out) return errno;
  if (timer_.fd() < 0) return EMFILE;

  const auto pointers = [](const std::vector<std::string>& texts) {
    std::vector<char*> all;
    all.reserve(texts.size() + 1);
    for (const std::string& text : texts)
      all.push_back(
          const_cast<char*>(text.c_str()));  // NOLINT(cppcoreguidelines-pro-type-const-cast): execve(2)
    all.push_back(nullptr);
    return all;
  };
  std::vector<char*> argv = pointers(settings.command);
  std::vector<char*> envp = pointers(environment);

  posix_spawnattr_t attributes;
  posix_spawn_file_actions_t actions;
  if (posix_spawnattr_init(&attributes) != 0) return ENOMEM;
  if (posix_spawn_file_actions_init(&actions) != 0) {
    posix_spawnattr_destroy(&attributes);
    return ENOMEM;
  }
  // What we block or ignore is our affair: the program gets signals as if it was started from a shell.
  sigset_t none;
  sigemptyset(&none);
  sigset_t usual;
  sigfillset(&usual);
  int error = posix_spawnattr_setflags(
      &attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  const auto also = [&](int result) {
    if (error == 0) error = result;
  };
  also(posix_spawnattr_setpgroup(&attributes, 0));
  also(posix_spawnattr_setsigmask(&attributes, &none));
  also(posix_spawnattr_setsigdefault(&attributes, &usual));
  also(posix_spawn_file_actions_adddup2(&actions, in->read.get(), STDIN_FILENO));
  also(posix_spawn_file_actions_adddup2(&actions, out->write.get(), STDOUT_FILENO));
  also(posix_spawn_file_actions_adddup2(&actions, out->write.get(), STDERR_FILENO));
  // Everything of ours is close-on-exec; what a library forgot ends here.
  also(posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1));
  if (error == 0) error = posix_spawn(&pid_, argv.front(), &actions, &attributes, argv.data(), envp.data());
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (error != 0) {
    pid_ = -1;
    return error;
  }
  give_open_files(pid_);
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-vararg): glibc has no function for it before 2.36
  process_ = Fd(static_cast<int>(syscall(SYS_pidfd_open, pid_, 0)));
  input_read_ = std::move(in->read);
  input_ = std::move(in->write);
  output_fd_ = std::move(out->read);
  never_wait_for(input_);
  never_wait_for(output_fd_);
  return 0;
}

bool Run::has_exited() const {
  siginfo_t info{};
  return waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
         info.si_pid == pid_;
}

void Run::read_output(std::size_t most) {
  std::array<char, 16384> chunk{};
  while (output_fd_.get() >= 0 && most > 0) {
    const ssize_t bytes = read(output_fd_.get(), chunk.data(), std::min(chunk.size(), most));
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes < 0 && errno == EAGAIN) return;
    if (bytes <= 0) {
      output_fd_ = Fd();
      return;
    }
    most -= static_cast<std::size_t>(bytes);
    output_.append(chunk.data(),
                   std::min(static_cast<std::size_t>(bytes), kMaxExecOutputBytes - output_.size()));
  }
}

// Until it has exited or the timer has run out.
Run::Event Run::pump(std::string_view& input) {
  while (true) {
    if (input.empty()) input_ = Fd();  // the end of what it reads
    // poll(2) leaves out what is -1.
    std::array<pollfd, 4> fds{{{process_.get(), POLLIN, 0},
                               {timer_.fd(), POLLIN, 0},
                               {output_fd_.get(), POLLIN, 0},
                               {input_.get(), POLLOUT, 0}}};
    if (poll(fds.data(), fds.size(), process_.get() >= 0 ? -1 : kPollMs) < 0 && errno != EINTR)
      return Event::kTimer;
    if (fds[3].revents != 0) {
      const ssize_t bytes = write(input_.get(), input.data(), input.size());
      if (bytes > 0) input.remove_prefix(static_cast<std::size_t>(bytes));
      if (bytes < 0 && errno != EAGAIN && errno != EINTR) input = {};
    }
    if (fds[2].revents != 0) read_output(kMaxExecOutputBytes);
    if (fds[0].revents != 0 || process_.get() < 0) {
      if (has_exited()) return Event::kExited;
    }
    if (fds[1].revents != 0) return Event::kTimer;
  }
}

Run::End Run::wait(std::string_view input, Duration limit, Duration grace) {
  End end = End::kExited;
  // A timer that cannot be set would let it run for ever.
  if (!timer_.arm(limit) || pump(input) == Event::kTimer) {
    end = End::kTimedOut;
    input = {};
    // It is not reaped yet, so the number is still that of its group. What it started goes with it.
    kill(-pid_, SIGTERM);
    const bool gone = timer_.arm(grace) && pump(input) == Event::kExited;
    kill(-pid_, SIGKILL);
    if (!gone) kill(pid_, SIGKILL);  // it may have left its group
    if (!gone && !(timer_.arm(kReap) && pump(input) == Event::kExited)) return End::kStuck;
  }
  // Whoever else holds the pipe, such as a daemon, keeps nobody waiting.
  read_output(kMaxExecOutputBytes);
  int unread = 0;
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-vararg): ioctl(2)
  left_input_ = !input.empty() || (ioctl(input_read_.get(), FIONREAD, &unread) == 0 && unread > 0);
  reap();
  return end;
}

void Run::reap() {
  while (waitpid(pid_, &status_, 0) < 0 && errno == EINTR) {
  }
  // Where logbell is the first process of a container, orphans of the group are its own to bury.
  while (waitpid(-pid_, nullptr, WNOHANG) > 0) {
  }
}

class ExecSink final : public Sink {
 public:
  ExecSink(ExecSettings settings, SinkContext context)
      : settings_(std::move(settings)), context_(std::move(context)) {}
  Outcome deliver(const rules::Notification& notification, const Attempt& attempt) override;
  Verification verify(const Attempt& attempt) override;

 private:
  std::vector<std::string> environment(const rules::Notification& notification, const Attempt& attempt) const;
  std::string first_line(const std::string& output) const;

  ExecSettings settings_;
  SinkContext context_;
  std::vector<pid_t> unreaped_;  // that SIGKILL did not end in time
};

// Only words of ours: whatever stands in a log is for a JSON parser to read, not for a shell.
std::vector<std::string> ExecSink::environment(const rules::Notification& notification,
                                               const Attempt& attempt) const {
  std::vector<std::string> out = settings_.environment;
  const auto set = [&](std::string_view name, std::string_view value) {
    out.push_back(fmt::format("{}{}={}", kOurPrefix, name, value));
  };
  set("KEY", notification.key);
  set("SINK", notification.sink);
  set("REASON", rules::to_string(notification.reason));
  set("STATUS", notification.is_resolved() ? "resolved" : "firing");
  set("ATTEMPT", std::to_string(attempt.number));
  set("MAYBE_SENT", attempt.maybe_sent ? "1" : "0");
  return out;
}

std::string ExecSink::first_line(const std::string& output) const {
  const std::size_t begin = output.find_first_not_of(" \t\r\n");
  if (begin == std::string::npos) return {};
  const std::string raw = output.substr(begin, output.find_first_of("\r\n", begin) - begin);
  // Clean before it is searched: a character that is taken out may have parted a secret.
  const std::string line =
      rules::without(rules::clean_text(raw, raw.size() * 3), settings_.secrets);
  return rules::clean_text(rules::redact(line), kMaxFirstLine);
}

// sysexits(3), as far as they say more than "not this time"; and what shells say of a command that they
// could not run.
struct ExitRow {
  int code;
  Outcome::Kind kind;
  Reason reason;
  bool sink_is_dead;
};
constexpr std::array<ExitRow, 6> kExits{{
    {64, Outcome::Kind::kRejected, Reason::kBadRequest, true},   // EX_USAGE: its arguments are wrong
    {65, Outcome::Kind::kRejected, Reason::kBadRequest, false},  // EX_DATAERR: it does not want this message
    {77, Outcome::Kind::kRejected, Reason::kAuth, true},         // EX_NOPERM
    {78, Outcome::Kind::kRejected, Reason::kAuth, true},         // EX_CONFIG
    {126, Outcome::Kind::kRejected, Reason::kGone, true},        // a shell: cannot be executed
    {127, Outcome::Kind::kRejected, Reason::kGone, true},        // a shell: not found
}};

// "kill -9" names no signal that people know by its number.
std::string signal_words(int signal) {
  const char* name = sigabbrev_np(signal);
  return name == nullptr ? fmt::format("signal {}", signal) : fmt::format("SIG{}", name);
}

Outcome ExecSink::deliver(const rules::Notification& notification, const Attempt& attempt) {
  std::erase_if(unreaped_, [](pid_t pid) { return waitpid(pid, nullptr, WNOHANG) != 0; });
  const Duration grace = std::min(kExecGrace, attempt.timeout / 4);
  const Duration limit = std::min(settings_.timeout, attempt.timeout - grace - kReap);
  if (limit <= Duration(0)) return Outcome::retry(Reason::kTimeout, "no time was left to run it");

  Run run;
  if (const int error = run.start(settings_, environment(notification, attempt)); error != 0) {
    const std::string detail = fmt::format("run {}: {}", settings_.command.front(), rules::errno_text(error));
    const bool passes =
        error == EAGAIN || error == ENOMEM || error == EMFILE || error == ENFILE || error == ETXTBSY;
    if (passes) return Outcome::retry(Reason::kIo, detail);
    return Outcome::rejected(Reason::kGone, detail, true);
  }
  const Payload message = webhook_payload(notification, attempt, context_);
  const Run::End end = run.wait(message.dump() + "\n", limit, grace);
  const std::string said = first_line(run.output());
  const auto with_words = [&](const std::string& text) { return said.empty() ? text : text + ": " + said; };
  // How far it came nobody knows: it may have told somebody before.
  const auto unknown = [&](Reason reason, const std::string& text) {
    Outcome outcome = Outcome::unknown(with_words(text));
    outcome.reason = reason;
    return outcome;
  };
  if (end == Run::End::kStuck) {
    unreaped_.push_back(run.pid());
    return unknown(Reason::kTimeout, "it could not be ended");
  }
  if (end == Run::End::kTimedOut)
    return unknown(Reason::kTimeout, fmt::format("ended after {}", rules::format_duration(limit)));
  if (WIFSIGNALED(run.status()))
    return unknown(Reason::kIo, "ended by " + signal_words(WTERMSIG(run.status())));

  const int code = WEXITSTATUS(run.status());
  if (code == 0) {
    Outcome outcome = Outcome::delivered(
        with_words(run.left_input() ? "exit 0, without reading all of the message" : "exit 0"));
    outcome.truncated = message.was_cut();
    return outcome;
  }
  const std::string detail = with_words(fmt::format("exit {}", code));
  const auto row =
      std::find_if(kExits.begin(), kExits.end(), [&](const ExitRow& r) { return r.code == code; });
  if (row == kExits.end()) return Outcome::retry(Reason::kIo, detail);
  return Outcome::rejected(row->reason, detail, row->sink_is_dead);
}

// What it does, only a message shows.
Verification ExecSink::verify(const Attempt& /*attempt*/) {
  const std::string& program = settings_.command.front();
  struct stat status {};
  if (stat(program.c_str(), &status) != 0 || access(program.c_str(), X_OK) != 0) {
    const int why = errno;
    return Verification::dead(why == EACCES ? Reason::kAuth : Reason::kGone, ProofLevel::kStatic,
                              "run " + program + ": " + rules::errno_text(why));
  }
  if (!S_ISREG(status.st_mode))
    return Verification::dead(Reason::kGone, ProofLevel::kStatic, "run " + program + ": it is no program");
  return Verification::live(ProofLevel::kNetwork, program + " is there and can be run");
}

class ExecConfig final : public SinkConfig {
 public:
  explicit ExecConfig(ExecSettings settings) : settings_(std::move(settings)) {}
  std::unique_ptr<Sink> build(std::size_t /*lane*/, const SinkContext& context) const override {
    return std::make_unique<ExecSink>(settings_, context);
  }
  std::vector<Secret> secrets() const override { return settings_.secrets; }
  std::string destination() const override { return settings_.command.front(); }
  std::string words(const rules::Notification& notification, const Attempt& attempt,
                    const SinkContext& context) const override {
    return webhook_payload(notification, attempt, context).words();
  }

 private:
  ExecSettings settings_;
};

// The program as it stands here. With --assume-secrets it need not: the machine that checks is another one.
bool check_program(FieldReader& fields, const std::string& program) {
  if (program.substr(0, 1) != "/") {
    fields.error(
        "command",
        "\"" + program + "\" is no absolute path: which program that is depends on where it is looked for",
        "write it out from /");
    return false;
  }
  if (fields.assume_secrets()) return true;
  struct stat status {};
  if (stat(program.c_str(), &status) != 0) {
    const bool arguments = program.find(' ') != std::string::npos;
    fields.error(
        "command", fmt::format("cannot find {}: {}", program, rules::errno_text(errno)),
        arguments
            ? "no shell takes it apart: write each argument as an item, as in [/usr/local/bin/page, --urgent]"
            : "install it, or correct the path");
    return false;
  }
  if (!S_ISREG(status.st_mode)) {
    fields.error("command", program + " is not a file", "name the program itself");
    return false;
  }
  if (access(program.c_str(), X_OK) != 0) {
    fields.error("command", fmt::format("logbell may not execute {}: {}", program, rules::errno_text(errno)),
                 fmt::format("chmod 755 {}", program));
    return false;
  }
  if ((status.st_mode & S_IWOTH) != 0) {
    fields.warn("command",
                "everybody may write to " + program + ", and so run what they like as logbell's user",
                fmt::format("chmod o-w {}", program));
  }
  return true;
}

// Whether a variable called so holds what nobody may see.
bool is_secret_name(std::string_view name) {
  static constexpr std::array<std::string_view, 7> kWords{"token", "secret",     "pass", "key",
                                                          "auth",  "credential", "pwd"};
  const std::string lower = rules::lower(name);
  return std::any_of(kWords.begin(), kWords.end(),
                     [&](std::string_view word) { return lower.find(word) != std::string::npos; });
}

bool read_environment(FieldReader& fields, ExecSettings& settings) {
  std::vector<std::pair<std::string, std::string>> variables;
  for (char** variable = environ; variable != nullptr && *variable != nullptr; ++variable) {
    const std::string_view text(*variable);
    const std::string_view name = text.substr(0, text.find('='));
    if (name.size() < text.size() &&
        std::find(kInherited.begin(), kInherited.end(), name) != kInherited.end())
      variables.emplace_back(name, text.substr(name.size() + 1));
  }
  const rules::yaml::Node* node = fields.raw("env");
  bool good = true;
  const auto wrong = [&](std::string reason, std::string fix) {
    fields.error("env", std::move(reason), std::move(fix));
    good = false;
  };
  if (node != nullptr && !node->is_null() && !node->is_map())
    wrong("variables are written as NAME: value", "");
  for (const rules::yaml::Entry& entry :
       node != nullptr && node->is_map() ? node->entries : std::vector<rules::yaml::Entry>{}) {
    const bool is_name = !entry.key.empty() && !rules::is_digit(entry.key.front()) &&
                         std::all_of(entry.key.begin(), entry.key.end(), rules::is_word);
    if (!is_name) {
      wrong("\"" + entry.key + "\" cannot be the name of a variable", "letters, digits and _");
    } else if (entry.key.substr(0, kOurPrefix.size()) == kOurPrefix) {
      wrong("the variable " + entry.key + " is logbell's own", "call it something else");
    } else if (!entry.value.is_scalar() || entry.value.scalar.find('\0') != std::string::npos) {
      wrong("the value of " + entry.key + " is not a text", "");
    } else {
      std::erase_if(variables, [&](const auto& known) { return known.first == entry.key; });
      variables.emplace_back(entry.key, entry.value.scalar);
      if (is_secret_name(entry.key) && !entry.value.scalar.empty() && !fields.assume_secrets())
        settings.secrets.emplace_back(entry.value.scalar);
    }
  }
  for (const auto& [name, value] : variables)
    settings.environment.push_back(fmt::format("{}={}", name, value));
  return good;
}

}  // namespace

void set_exec_open_files(std::size_t limit) {
  open_files = limit;
}

std::unique_ptr<SinkConfig> parse_exec(FieldReader& fields) {
  ExecSettings settings;
  bool good = read_environment(fields, settings);
  if (const std::optional<Duration> timeout = fields.duration("timeout")) {
    settings.timeout = *timeout;
    if (*timeout < Duration(100) || *timeout > kMaxExecTimeout) {
      fields.error(
          "timeout",
          fmt::format("a timeout is at least 100ms and at most {}", rules::format_duration(kMaxExecTimeout)),
          "let the program hand the work on and exit; leave it out for 10s");
      good = false;
    }
  }
  std::optional<std::vector<std::string>> command = fields.text_list("command", true);
  if (!command) return nullptr;
  if (command->empty()) {
    fields.error("command", "the command is empty", "as in [/usr/local/bin/page, --urgent]");
    return nullptr;
  }
  if (std::any_of(command->begin(), command->end(),
                  [](const std::string& text) { return text.find('\0') != std::string::npos; })) {
    fields.error("command", "the command has a NUL in it", "");
    return nullptr;
  }
  if (!check_program(fields, command->front()) || !good) return nullptr;
  settings.command = *std::move(command);
  return std::make_unique<ExecConfig>(std::move(settings));
}

}  // namespace logbell::sinks

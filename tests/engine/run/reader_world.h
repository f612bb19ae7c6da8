// ReaderWorld: a directory of logs, a clock, a reader over them, and what it has handed over.
//
// Real files, real inotify, no sleep: the system tells of a change before the call that made it returns.
#pragma once

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <catch2/catch.hpp>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/run/clock.h"
#include "engine/run/follower.h"
#include "engine/run/reader.h"
#include "rules/expr.h"
#include "tests/support/fake_clock.h"

namespace logbell::tests {

namespace fs = std::filesystem;
using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

// Made once; the files' births are the system's, so the clock starts at the system's time too.
inline rules::Timestamp system_now() {
  return engine::SystemClock().now();
}

// A line of a log, with its time.
inline std::string line_at(rules::Timestamp time, const std::string& text) {
  return rules::format_rfc3339(time) + " " + text + "\n";
}

class LogDir {
 public:
  LogDir() {
    std::string name = (fs::temp_directory_path() / "logbell-reader-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    root_ = name;
  }
  ~LogDir() {
    std::error_code ignored;
    fs::remove_all(root_, ignored);
  }
  LogDir(const LogDir&) = delete;
  LogDir& operator=(const LogDir&) = delete;

  std::string path(const std::string& name) const { return (root_ / name).string(); }
  void append(const std::string& name, const std::string& text) const { put(name, text, O_APPEND); }
  void write(const std::string& name, const std::string& text) const { put(name, text, O_TRUNC); }
  void rename(const std::string& from, const std::string& to) const { fs::rename(path(from), path(to)); }
  void remove(const std::string& name) const { fs::remove(path(name)); }
  void truncate(const std::string& name, std::uintmax_t size = 0) const { fs::resize_file(path(name), size); }
  // What is made next is born later than what is there, as the system's ticking clock tells it.
  static void wait_for_another_birth() {
    const auto now = std::chrono::nanoseconds(std::chrono::system_clock::now().time_since_epoch());
    while (engine::birth_clock_ns() <= now.count()) {
    }
  }
  // The system's clock does not move with ours.
  void touch(const std::string& name, rules::Timestamp at) const {
    const std::int64_t ms = rules::to_unix_ms(at);
    const timespec time{ms / 1000, ms % 1000 * 1'000'000};
    const timespec times[2] = {time, time};
    REQUIRE(::utimensat(AT_FDCWD, path(name).c_str(), times, 0) == 0);
  }
  void copy(const std::string& from, const std::string& to) const {
    fs::copy_file(path(from), path(to), fs::copy_options::overwrite_existing);
  }

 private:
  void put(const std::string& name, const std::string& text, int flag) const {
    const int fd = ::open(path(name).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | flag, 0644);
    REQUIRE(fd >= 0);
    REQUIRE(::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
    ::close(fd);
  }
  fs::path root_;
};

struct SourceSetting {
  std::string name = "app";
  std::vector<std::string> files = {"*.log"};
  bool is_stdin = false;
  rules::LineFormat format = rules::LineFormat::kText;
  rules::TimestampSpec timestamp = {};
  std::size_t max_line_bytes = 256 * 1024;
  rules::ReadFrom read_from = rules::ReadFrom::kBeginning;
  rules::Envelope envelope = rules::Envelope::kNone;
  std::shared_ptr<const rules::Multiline> multiline = nullptr;
  std::vector<rules::StreamSpec> streams = {};  // then there are no files; relative paths are the directory's
};

struct PlanSetting {
  std::vector<SourceSetting> sources = {SourceSetting{}};
  std::vector<std::string> patterns = {".*"};  // named p0, p1 …
  std::string window = {};                     // of a rule over p0; "" = no rule
  std::vector<std::string> labels = {};        // of every pattern, beside its captures; sorted
  std::uint64_t generation = 1;
};

inline std::shared_ptr<const rules::Plan> make_plan(const LogDir& dir, const PlanSetting& setting) {
  auto plan = std::make_shared<rules::Plan>();
  plan->generation = setting.generation;
  std::vector<std::uint32_t> all;
  for (const std::string& text : setting.patterns) {
    rules::PatternSpec pattern;
    pattern.name = "p" + std::to_string(all.size());
    pattern.match.push_back(*rules::Regex::compile(text));
    for (const std::string& name : pattern.match.back().group_names()) {
      if (!name.empty()) pattern.labels.push_back(name);
    }
    pattern.labels.insert(pattern.labels.end(), setting.labels.begin(), setting.labels.end());
    all.push_back(static_cast<std::uint32_t>(all.size()));
    plan->patterns.push_back(std::move(pattern));
  }
  for (const SourceSetting& from : setting.sources) {
    rules::SourceSpec source;
    source.name = from.name;
    source.is_stdin = from.is_stdin;
    for (const std::string& file : from.files) {
      if (!from.is_stdin && from.streams.empty())
        source.files.push_back(file.front() == '/' ? file : dir.path(file));
    }
    for (rules::StreamSpec input : from.streams) {
      if (input.address.find(':') == std::string::npos && input.address != "127.0.0.1" &&
          input.address.front() != '/')
        input.address = dir.path(input.address);
      source.streams.push_back(std::move(input));
    }
    source.format = from.format;
    source.timestamp = from.timestamp;
    auto reader = rules::TimestampReader::make(from.timestamp);
    REQUIRE(reader);
    source.timestamp_reader = std::make_shared<rules::TimestampReader>(std::move(*reader));
    source.max_line_bytes = from.max_line_bytes;
    source.read_from = from.read_from;
    source.envelope = from.envelope;
    source.multiline = from.multiline;
    source.patterns = rules::PatternSet::compile(plan->patterns, all, from.format);
    plan->sources.push_back(std::move(source));
  }
  if (!setting.window.empty()) {
    rules::AlertingRule rule;
    rule.name = "R";
    auto parsed = rules::parse_expr("count_over_time(p0[" + setting.window + "]) > 0");
    REQUIRE(parsed);
    auto bound = rules::bind_expr(*parsed, plan->patterns);
    REQUIRE(bound);
    rule.expr = *bound;
    for (std::uint32_t i = 0; i < plan->sources.size(); ++i)
      rule.sources.push_back(i);
    plan->rules.push_back(std::move(rule));
  }
  return plan;
}

struct SeenLine {
  std::string text;
  rules::Timestamp at;
  std::uint32_t pattern = 0;
  std::vector<std::string> labels;
  std::uint64_t generation = 0;
};

class ReaderWorld {
 public:
  explicit ReaderWorld(PlanSetting setting = {}) : plan_setting(std::move(setting)) {}

  void start() {
    engine::Reader::Options options;
    options.clock = &clock;
    options.feedback = feedback;
    options.drills = drills;
    for (const auto& [key, value] : committed)
      options.positions.push_back({key, value});
    options.use_inotify = use_inotify;
    options.stdin_fd = stdin_fd;
    options.chunk_bytes = chunk_bytes;
    options.threads = threads;
    options.max_files = max_files;
    options.max_connections = max_connections;
    std::shared_ptr<const rules::Plan> plan = make_plan(dir, plan_setting);
    if (change) {
      auto changed = std::make_shared<rules::Plan>(*plan);
      change(*changed);
      plan = std::move(changed);
    }
    reader = std::make_unique<engine::Reader>(std::move(plan), std::move(options));
    statuses.clear();
    last_sequence = 0;
  }
  // The process dies and another one goes on from what was committed.
  void restart() {
    reader.reset();
    start();
    settle();
  }
  void reload(PlanSetting setting) {
    plan_setting = std::move(setting);
    reader->replace_plan(make_plan(dir, plan_setting));
    settle();
  }
  engine::Reader::StepResult step() {
    if (reader == nullptr) start();
    engine::Reader::StepResult result = reader->step();
    for (engine::ReaderNote& note : result.notes)
      notes.push_back(std::move(note));
    if (result.batch) take(*result.batch);
    ended = result.ended;
    return result;
  }
  // Reads all that is there.
  void settle() {
    int steps = 0;
    while (step().more)
      REQUIRE(++steps < 100'000);
  }
  void pass(rules::Duration by) {
    clock.advance(by);
    settle();
  }
  void confirm() {
    reader->request_confirmation();
    settle();
  }

  void take(const engine::MatchBatch& batch) {
    CHECK(batch.sequence > last_sequence);
    last_sequence = batch.sequence;
    for (const engine::DrillLine& line : batch.drills)
      drilled.push_back(line);
    for (const engine::TimedMatch& match : batch.matches)
      seen.push_back({batch.lines.at(match.line), match.at, match.pattern, match.labels, batch.generation});
    for (const engine::StoredEntry& entry : batch.positions) {
      if (entry.value) {
        committed[entry.key] = *entry.value;
      } else {
        committed.erase(entry.key);
      }
    }
    if (batch.uncovered)
      uncovered.insert(uncovered.end(), batch.uncovered->samples.begin(), batch.uncovered->samples.end());
    if (batch.form) forms.push_back(batch.form->form + "|" + batch.form->line);
    for (const engine::CounterDelta& delta : batch.counters)
      counters[delta.name + delta.labels.format()] += delta.by;
    for (const engine::SourceStatus& status : batch.sources)
      statuses[status.source] = status;
    cannot_be_read_again = cannot_be_read_again || batch.cannot_be_read_again;
    files_found = files_found || batch.files_found;
  }

  // The lines that were handed over since the last call.
  std::vector<std::string> lines() {
    std::vector<std::string> texts;
    for (const SeenLine& line : std::exchange(seen, {}))
      texts.push_back(line.text);
    return texts;
  }
  double counter(const std::string& name) const {
    const auto found = counters.find(name);
    return found == counters.end() ? -1 : found->second;
  }

  LogDir dir;
  FakeClock clock{system_now()};
  PlanSetting plan_setting;
  std::function<void(rules::Plan&)> change;  // of what start() makes of the setting
  std::vector<std::string> forms;            // of each read: "form|line"
  std::vector<std::string> uncovered;        // samples of lines that look like errors and no rule looks at
  engine::Feedback* feedback = nullptr;  // must outlive the reader
  engine::DrillDesk* drills = nullptr;
  std::vector<engine::DrillLine> drilled;
  bool use_inotify = true;
  int stdin_fd = -1;
  std::size_t chunk_bytes = 256 * 1024;
  std::size_t threads = 1;
  std::size_t max_files = engine::Follower::kMaxFiles;
  std::size_t max_connections = engine::Follower::kMaxFiles;
  std::unique_ptr<engine::Reader> reader;
  std::map<std::string, std::string> committed;
  std::map<std::string, double> counters;
  std::map<std::uint32_t, engine::SourceStatus> statuses;
  std::vector<SeenLine> seen;
  std::vector<engine::ReaderNote> notes;
  std::uint64_t last_sequence = 0;
  bool ended = false;
  bool cannot_be_read_again = false;
  bool files_found = false;
};

using Texts = std::vector<std::string>;

}  // namespace logbell::tests

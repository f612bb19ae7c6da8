// The formats in engine/README.md, each as it stands there: its configuration, its log, and what comes out.
#include <map>
#include <sstream>

#include <fmt/format.h>

#include "engine/io/journal_source.h"
#include "engine/run/config.h"
#include "tests/engine/run/stream_writers.h"

namespace logbell::tests {
namespace {

using Kind = rules::StreamSpec::Kind;

struct Page {
  std::string title;
  std::string config;
  std::string input;
  std::string result;
};

// Of each `###` under "## Formats": its first blocks of yaml and text, and the text behind that.
std::vector<Page> pages() {
  std::ifstream in(LOGBELL_SOURCE_DIR "/engine/README.md");
  REQUIRE(in);
  std::vector<Page> found;
  bool wanted = false;
  std::string* block = nullptr;
  for (std::string line; std::getline(in, line);) {
    if (block == nullptr && line.rfind("## ", 0) == 0) wanted = line == "## Formats";
    if (!wanted) continue;
    if (block == nullptr && line.rfind("### ", 0) == 0) found.push_back({line.substr(4), "", "", ""});
    if (line.rfind("```", 0) == 0) {
      REQUIRE_FALSE(found.empty());
      Page& page = found.back();
      if (block != nullptr) {
        block = nullptr;
      } else if (line == "```yaml") {
        block = &page.config;
      } else {
        block = page.input.empty() ? &page.input : &page.result;
      }
    } else if (block != nullptr) {
      *block += line + "\n";
    }
  }
  return found;
}

// The page's configuration, its directories below `dir`, its ports any that are free, and what it needs to be
// whole.
std::string here(std::string config, const LogDir& dir) {
  const auto put_before = [&config](const std::string& what, const std::string& prefix) {
    for (std::size_t at = 0; (at = config.find(what, at)) != std::string::npos;
         at += prefix.size() + what.size())
      config.insert(at, prefix);
  };
  put_before("/var/", dir.path("")), put_before("/run/", dir.path(""));
  for (std::size_t at = 0; (at = config.find(":5514", at)) != std::string::npos;)
    config.replace(at, 5, ":0");
  return config +
         "rules: [{alert: Never, match: 'never', sinks: [record]}]\n"
         "sinks: {record: {file: {path: /tmp/alerts.jsonl}, audience: machine}}\n";
}

std::shared_ptr<const engine::Config> load(const std::string& text) {
  engine::ConfigWorld world;
  world.env = [](const std::string&) { return std::nullopt; };
  world.read_file = [&](const std::string&) -> rules::Result<std::string> { return text; };
  world.glob = [](const std::string& pattern) { return std::vector<std::string>{pattern}; };
  world.readable_by_others = [](const std::string&) { return false; };
  world.hostname = "here";
  world.now = system_now();
  rules::Problems problems;
  auto config = engine::load_config("logbell.yaml", world, {}, problems);
  for (const rules::Problem& problem : problems.sorted())
    UNSCOPED_INFO(problem.format());
  return config;
}

// What is written one after the other, without the ends of the lines.
Texts lines_of(const std::string& input) {
  Texts lines;
  std::istringstream in(input);
  for (std::string line; std::getline(in, line);)
    lines.push_back(line);
  return lines;
}

// FIELD=value FIELD=value MESSAGE=the rest, as `journalctl -o export` has it.
std::string exported(const std::string& line, rules::Timestamp at) {
  const std::int64_t us = rules::to_unix_ms(at) * 1000;
  std::string entry = fmt::format("__REALTIME_TIMESTAMP={}\n__MONOTONIC_TIMESTAMP={}\n_BOOT_ID={:032x}\n", us,
                                  us % 1'000'000'000'000, 1);
  std::string fields = line.substr(0, line.find("MESSAGE="));
  std::replace(fields.begin(), fields.end(), ' ', '\n');
  return entry + fields + line.substr(line.find("MESSAGE=")) + "\n\n";
}

// A logbell with a page's source, and what came out of it.
class PageWorld {
 public:
  PageWorld(const engine::Config& config, const LogDir& dir)
      : config_(config), source_(config.plan->sources.at(0)), dir_(dir), clock_(begin(source_)) {}
  ~PageWorld() {
    for (const int fd : stdin_) {
      if (fd >= 0) ::close(fd);
    }
  }
  PageWorld(const PageWorld&) = delete;
  PageWorld& operator=(const PageWorld&) = delete;

  // Of a log that lies there, or of what is sent to the `way`-th of the source's streams.
  void read(const std::string& input, std::size_t way) {
    if (source_.is_stdin) {
      REQUIRE(::pipe2(stdin_, O_CLOEXEC) == 0);
      put(stdin_[1], input);
    } else if (source_.streams.empty()) {
      // A name for what a `*` stands for.
      std::string path = source_.files.at(0);
      for (std::size_t at = 0; (at = path.find('*', at)) != std::string::npos; ++at)
        path.replace(at, 1, "0");
      fs::create_directories(fs::path(path).parent_path());
      std::ofstream(path) << input;
    }
    for (const rules::StreamSpec& stream : source_.streams) {
      if (stream.address.front() == '/') fs::create_directories(fs::path(stream.address).parent_path());
      if (stream.kind == Kind::kFifo) REQUIRE(::mkfifo(stream.address.c_str(), 0600) == 0);
      if (stream.kind == Kind::kJournal) fs::create_directory(stream.address);
    }
    engine::Reader::Options options;
    options.clock = &clock_;
    options.stdin_fd = stdin_[0];
    engine::Reader reader(config_.plan, std::move(options));
    look(reader);
    if (!source_.streams.empty()) send(input, source_.streams.at(way), reader.streams().at(way).path);
    for (int looks = 0; looks < 3; ++looks) {
      look(reader);
      clock_.advance(seconds(5));
    }
  }
  // As the page shows it: how often each pattern's series matched.
  std::string result() const {
    std::ostringstream text;
    for (const auto& [series, count] : counts_)
      text << series << " " << count << "\n";
    return text.str();
  }
  const std::vector<rules::Timestamp>& times() const { return times_; }

 private:
  // Files are born by the system's clock, and what a journal begins with is young; else a line may say no
  // year.
  static rules::Timestamp begin(const rules::SourceSpec& source) {
    if (source.streams.empty() || source.streams[0].kind == Kind::kJournal) return system_now();
    return *rules::parse_rfc3339("2026-05-01T10:00:05Z");
  }
  void look(engine::Reader& reader) {
    for (bool more = true; more;) {
      const engine::Reader::StepResult step = reader.step();
      more = step.more;
      if (!step.batch) continue;
      for (const engine::TimedMatch& match : step.batch->matches) {
        const rules::PatternSpec& pattern = config_.plan->patterns.at(match.pattern);
        rules::Labels labels;
        for (std::size_t i = 0; i < match.labels.size(); ++i)
          labels.set(pattern.labels[i], match.labels[i]);
        ++counts_[pattern.name + (match.labels.empty() ? "" : labels.format())];
        times_.push_back(match.at);
      }
    }
  }
  void send(const std::string& input, const rules::StreamSpec& stream, const std::string& where) const {
    if (stream.kind == Kind::kJournal) {
      std::string entries;
      rules::Timestamp at = clock_.now() - seconds(1);
      for (const std::string& line : lines_of(input))
        entries += exported(line, at += milliseconds(1));
      write_journal(dir_, stream.address + "/system.journal", entries);
    } else if (stream.kind == Kind::kFifo) {
      const int fd = ::open(stream.address.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC);
      REQUIRE(fd >= 0);
      put(fd, input);
      ::close(fd);
    } else {
      const bool datagrams = stream.kind == Kind::kUdp || stream.kind == Kind::kUnixDatagram;
      const Sender sender(stream.kind, stream.address.front() == '/' ? stream.address : where);
      REQUIRE(sender.connected());
      for (const std::string& line : lines_of(input))
        REQUIRE(sender.send(datagrams ? line : line + "\n"));
    }
  }
  static void put(int fd, const std::string& text) {
    REQUIRE(::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
  }

  const engine::Config& config_;
  const rules::SourceSpec& source_;
  const LogDir& dir_;
  FakeClock clock_;
  int stdin_[2] = {-1, -1};
  std::map<std::string, int> counts_;
  std::vector<rules::Timestamp> times_;
};

TEST_CASE("formats: each page of the manual is as the program is", "[run][reader][formats]") {
  std::size_t tried = 0;
  for (const Page& page : pages()) {
    INFO(page.title);
    REQUIRE_FALSE(page.result.empty());
    ++tried;
    // A source may listen at several places: what is sent to one is what comes out of each.
    std::size_t ways = 1;
    for (std::size_t way = 0; way < ways; ++way) {
      CAPTURE(way);
      const LogDir dir;
      const auto loaded = load(here(page.config, dir));
      if (page.config.find("journald:") != std::string::npos && !engine::has_journald()) {
        CHECK(loaded == nullptr);
        continue;
      }
      REQUIRE(loaded);
      ways = std::max<std::size_t>(1, loaded->plan->sources.at(0).streams.size());
      PageWorld world(*loaded, dir);
      world.read(page.input, way);
      CHECK(world.result() == page.result);
      // Each says its time, and is counted at it.
      for (const rules::Timestamp at : world.times()) {
        if (page.input.find("2026-05-01") != std::string::npos)
          CHECK(rules::format_rfc3339(at).rfind("2026-05-01T10:00:0", 0) == 0);
      }
    }
  }
  CHECK(tried == 11);
}

}  // namespace
}  // namespace logbell::tests

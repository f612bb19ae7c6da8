// The formats in engine/README.md, each as it stands there: its configuration, its log, and what comes out.
#include <map>
#include <sstream>

#include "engine/run/config.h"
#include "tests/engine/run/reader_world.h"

namespace logbell::tests {
namespace {

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

TEST_CASE("formats: each page of the manual is as the program is", "[run][reader][formats]") {
  std::size_t tried = 0;
  for (const Page& page : pages()) {
    INFO(page.title);
    // Sockets and journals have tests of their own; what is read from a file is tried here.
    if (page.config.find("files:") == std::string::npos) continue;
    ++tried;
    const LogDir dir;
    std::string config = page.config;
    for (std::size_t at = 0; (at = config.find("[/var/", at)) != std::string::npos; ++at)
      config.insert(at + 1, dir.path(""));
    // A name for what a `*` stands for.
    std::string path = config.substr(config.find("files: [") + 8);
    path = path.substr(0, path.find(']'));
    for (std::size_t at = 0; (at = path.find('*', at)) != std::string::npos; ++at)
      path.replace(at, 1, "0");
    fs::create_directories(fs::path(path).parent_path());
    std::ofstream(path) << page.input;
    config +=
        "rules: [{alert: Never, match: 'never', sinks: [record]}]\n"
        "sinks: {record: {file: {path: /tmp/alerts.jsonl}, audience: machine}}\n";
    const auto loaded = load(config);
    REQUIRE(loaded);

    FakeClock clock{system_now()};
    engine::Reader::Options options;
    options.clock = &clock;
    engine::Reader reader(loaded->plan, std::move(options));
    std::map<std::string, int> counts;
    for (int look = 0; look < 3; ++look) {
      for (bool more = true; more;) {
        const engine::Reader::StepResult step = reader.step();
        more = step.more;
        if (!step.batch) continue;
        for (const engine::TimedMatch& match : step.batch->matches) {
          const rules::PatternSpec& pattern = loaded->plan->patterns.at(match.pattern);
          rules::Labels labels;
          for (std::size_t i = 0; i < match.labels.size(); ++i)
            labels.set(pattern.labels[i], match.labels[i]);
          ++counts[pattern.name + (match.labels.empty() ? "" : labels.format())];
          // Each says its time, and is counted at it.
          if (page.input.find("2026-05-01") != std::string::npos)
            CHECK(rules::format_rfc3339(match.at).rfind("2026-05-01T10:00:0", 0) == 0);
        }
      }
      clock.advance(std::chrono::seconds(5));
    }
    std::ostringstream result;
    for (const auto& [series, count] : counts)
      result << series << " " << count << "\n";
    CHECK(result.str() == page.result);
  }
  CHECK(tried >= 7);
}

}  // namespace
}  // namespace logbell::tests

// Random lives of a log, with crashes at random moments: whatever happens, each line is counted once.
#include <algorithm>
#include <deque>
#include <random>

#include "tests/engine/run/reader_world.h"
#include "tests/support/pack.h"

namespace logbell::tests {
namespace {

// A log as its writer sees it, and everything he wrote. Batches are committed some time after they were made;
// a crash forgets those that were not.
class Life {
 public:
  enum class Rotation { kRename, kCopyTruncate, kRecreate, kEither };

  Life(std::uint64_t seed, Rotation rotation, const std::string& pattern)
      : random_(seed),
        rotation_(rotation),
        in_order_(pattern == "app.log"),
        world_({.sources = {{.files = {pattern}}}}) {
    world_.chunk_bytes = 1 + random_() % 200;
    world_.use_inotify = random_() % 8 != 0;
    for (SourceSetting& source : world_.plan_setting.sources)
      source.max_line_bytes = 64;
    // The file is known before anything happens to it.
    write_line();
    world_.start();
    settle();
    commit(queue_.size());
  }

  void live(int actions) {
    for (int i = 0; i < actions; ++i)
      act();
    finish_line();
    settle();
    for (int i = 0; i < 6; ++i) {
      world_.clock.advance(seconds(3));
      settle();
    }
    commit(queue_.size());
    const auto [out_of_order, expected] =
        std::mismatch(counted_.begin(), counted_.end(), written_.begin(), written_.end());
    const bool right_order = out_of_order == counted_.end();
    INFO("out of order: " << (right_order ? "" : *out_of_order + " instead of " + *expected));
    std::sort(written_.begin(), written_.end());
    std::sort(counted_.begin(), counted_.end());
    std::vector<std::string> lost;
    std::vector<std::string> doubled;
    std::set_difference(written_.begin(), written_.end(), counted_.begin(), counted_.end(),
                        std::back_inserter(lost));
    std::set_difference(counted_.begin(), counted_.end(), written_.begin(), written_.end(),
                        std::back_inserter(doubled));
    CAPTURE(lost, doubled);
    CHECK(lost.empty());
    CHECK(doubled.empty());
    CHECK((right_order || !in_order_));
    for (const engine::StreamView& stream : world_.reader->streams())
      CHECK(stream.offset <= stream.size);
  }

 private:
  void act() {
    switch (random_() % 12) {
      case 0:
      case 1:
      case 2:
        finish_line();
        for (std::uint64_t n = 1 + random_() % 5; n > 0; --n)
          write_line();
        break;
      case 3:
        begin_line();
        break;
      case 4:
        finish_line();
        break;
      case 5:
        rotate(rotation_);
        break;
      case 6:
        world_.clock.advance(milliseconds(random_() % 7000));
        // A file that is let go seconds after it grew is older than that look, also by the clock of births, which ours does not move.
        LogDir::wait_for_another_birth();
        break;
      case 7:
        commit(random_() % (queue_.size() + 1));
        break;
      case 8:
        if (random_() % 2 == 0) crash();
        break;
      case 9:
        settle();
        break;
      default:
        for (std::uint64_t n = random_() % 6; n > 0; --n)
          step();
    }
  }

  bool step() {
    engine::Reader::StepResult result = world_.reader->step();
    if (result.batch) queue_.push_back(std::move(*result.batch));
    return result.more;
  }
  void settle() {
    int steps = 0;
    while (step())
      REQUIRE(++steps < 100'000);
  }
  void commit(std::size_t batches) {
    for (; batches > 0; --batches) {
      world_.take(queue_.front());
      queue_.pop_front();
    }
    for (const std::string& line : world_.lines())
      counted_.push_back(line);
  }
  void crash() {
    world_.reader.reset();
    queue_.clear();
    if (random_() % 2 == 0) be_down();
    world_.start();
  }
  // What others do while nobody looks.
  void be_down() {
    // A file that was empty when it was last seen is known by its inode alone: compressed it is nobody's.
    const bool all_known = std::none_of(
        world_.committed.begin(), world_.committed.end(),
        [](const auto& entry) { return entry.second.find(R"("head":[0,)") != std::string::npos; });
    for (std::uint64_t n = random_() % 4; n > 0; --n) {
      finish_line();
      if (random_() % 4 != 0) write_line();
      if (rotation_ == Rotation::kRename) {
        rotate(Rotation::kRename);
        if (all_known && random_() % 2 == 0) compress_rotated();
      }
    }
  }
  // With the time of modification that it had, as gzip(1), zstd(1) and logrotate do.
  void compress_rotated() {
    for (const fs::directory_entry& entry : fs::directory_iterator(world_.dir.path("."))) {
      const fs::path& path = entry.path();
      if (path.filename() == "app.log" || path.extension() == ".gz" || path.extension() == ".zst") continue;
      const bool zstandard = random_() % 2 == 0;
      std::ifstream in(path, std::ios::binary);
      const std::string text{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
      const std::string packed = path.string() + (zstandard ? ".zst" : ".gz");
      std::ofstream(packed, std::ios::binary) << (zstandard ? zstd(text) : gzip(text));
      fs::last_write_time(packed, fs::last_write_time(path));
      fs::remove(path);
      in_order_ = false;  // several were modified within one tick of the kernel's clock
    }
  }

  std::string name_line() {
    // Some are too long, some look alike.
    std::string line = "line " + std::to_string(++count_);
    if (random_() % 10 == 0) line += " " + std::string(random_() % 300, 'x');
    return line;
  }
  void wrote(const std::string& line) { written_.push_back(line.substr(0, 64)); }
  void write_line() {
    const std::string line = name_line();
    world_.dir.append("app.log", line + (random_() % 5 == 0 ? "\r\n" : "\n"));
    wrote(line);
  }
  void begin_line() {
    if (!begun_.empty()) return;
    begun_ = name_line();
    world_.dir.append("app.log", begun_);
    wrote(begun_);
  }
  void finish_line() {
    if (begun_.empty()) return;
    world_.dir.append("app.log", "\n");
    begun_.clear();
  }
  void rotate(Rotation rotation) {
    finish_line();
    const auto name = [](int n) { return "app.log." + std::to_string(n); };
    switch (rotation) {
      case Rotation::kRename:
        if (!fs::exists(world_.dir.path("app.log"))) return;
        for (int n = 30; n > 0; --n) {
          for (const char* ending : {"", ".gz", ".zst"}) {
            if (fs::exists(world_.dir.path(name(n) + ending)))
              world_.dir.rename(name(n) + ending, name(n + 1) + ending);
          }
        }
        world_.dir.rename("app.log", name(1));
        if (random_() % 2 == 0) world_.dir.append("app.log", "");
        break;
      case Rotation::kEither:
        if (random_() % 2 == 0) return rotate(Rotation::kRename);
        if (fs::exists(world_.dir.path("app.log")))
          world_.dir.copy("app.log", "app.log.copy" + std::to_string(count_));
        return rotate(Rotation::kCopyTruncate);
      case Rotation::kCopyTruncate:
        // What is cut away before it is read and committed is lost, and no reader's fault.
        world_.reader->request_confirmation();
        settle();
        commit(queue_.size());
        if (fs::exists(world_.dir.path("app.log"))) world_.dir.truncate("app.log");
        break;
      case Rotation::kRecreate:
        world_.reader->request_confirmation();
        settle();
        commit(queue_.size());
        world_.dir.remove("app.log");
        break;
    }
  }

  std::mt19937_64 random_;
  Rotation rotation_;
  bool in_order_;
  ReaderWorld world_;
  std::deque<engine::MatchBatch> queue_;
  std::string begun_;
  std::vector<std::string> written_;
  std::vector<std::string> counted_;
  int count_ = 0;
};

TEST_CASE("oracle: each line is counted once, whatever becomes of its file and its reader",
          "[run][reader][oracle][F1]") {
  const char* wanted = std::getenv("LOGBELL_SEED");
  const std::uint64_t base = wanted != nullptr ? std::stoull(wanted) : 1;
  const char* many = std::getenv("LOGBELL_SEEDS");
  const int rounds = many != nullptr ? std::stoi(many) : wanted != nullptr ? 1 : 60;
  for (std::uint64_t seed = base; seed < base + static_cast<std::uint64_t>(rounds); ++seed) {
    for (const Life::Rotation rotation : {Life::Rotation::kRename, Life::Rotation::kCopyTruncate,
                                          Life::Rotation::kRecreate, Life::Rotation::kEither}) {
      for (const char* pattern : {"app.log", "app.log*"}) {
        // A copy that the pattern finds is another log, and nobody can tell.
        if (rotation == Life::Rotation::kEither && std::string_view(pattern) != "app.log") continue;
        INFO("LOGBELL_SEED=" << seed << " rotation " << static_cast<int>(rotation) << " pattern " << pattern);
        Life(seed, rotation, pattern).live(80);
      }
    }
  }
}

}  // namespace
}  // namespace logbell::tests

// Random lives of a container's log, with crashes at random moments: whatever happens, each line that the container
// wrote is counted once, in however many parts it came, across rotations as a kubelet makes them.
#include <deque>
#include <random>

#include "tests/engine/run/reader_world.h"

namespace logbell::tests {
namespace {

class ContainerLife {
 public:
  ContainerLife(std::uint64_t seed, bool joined)
      : random_(seed), joined_(joined), world_({.sources = {source(joined)}, .patterns = {"(?s).*"}}) {
    world_.chunk_bytes = 1 + random_() % 300;
    world_.use_inotify = random_() % 8 != 0;
    write();
    world_.start();
    settle();
    commit(queue_.size());
  }

  void live(int actions) {
    for (int i = 0; i < actions; ++i)
      act();
    for (const char* stream : {"stdout", "stderr"})
      finish_line(stream);
    settle();
    for (int i = 0; i < 8; ++i) {
      world_.clock.advance(seconds(3));
      settle();
    }
    commit(queue_.size());
    std::vector<std::string> written;
    for (const auto& [stream, records] : records_)
      for (const std::string& record : records)
        written.push_back(record);
    std::sort(written.begin(), written.end());
    std::sort(counted_.begin(), counted_.end());
    std::vector<std::string> lost;
    std::vector<std::string> doubled;
    // What was handed over before its end counts as what it was then.
    for (const std::string& record : written) {
      const auto found = std::find_if(counted_.begin(), counted_.end(), [&](const std::string& counted) {
        return !counted.empty() && record.starts_with(counted) &&
               (counted == record || counted.find(' ') != std::string::npos);
      });
      if (found == counted_.end()) {
        lost.push_back(record);
      } else {
        *found = "";
      }
    }
    for (const std::string& counted : counted_)
      if (!counted.empty()) doubled.push_back(counted);
    CAPTURE(lost, doubled);
    CHECK(lost.empty());
    CHECK(doubled.empty());
    CHECK(world_.counter("logbell_source_lines_total{source=\"app\"}") == static_cast<double>(written.size()));
  }

 private:
  static SourceSetting source(bool joined) {
    SourceSetting source;
    source.files = {"0.log"};
    source.envelope = rules::Envelope::kCri;
    if (joined)
      source.multiline =
          std::make_shared<rules::Multiline>(rules::Multiline::by_first_line(*rules::Regex::compile("^#")));
    return source;
  }

  void act() {
    switch (random_() % 12) {
      case 0:
      case 1:
      case 2:
      case 3:
        for (std::uint64_t n = 1 + random_() % 4; n > 0; --n)
          write();
        break;
      case 4:
        rotate();
        break;
      case 5:
        pass(milliseconds(random_() % 7000));
        break;
      case 6:
        commit(random_() % (queue_.size() + 1));
        break;
      case 7:
        if (random_() % 2 == 0) crash();
        break;
      case 8:
        settle();
        break;
      default:
        for (std::uint64_t n = random_() % 6; n > 0; --n)
          step();
    }
  }

  // A file is let go 5 s after it was left. If the process dies then, what goes on of a record that began in it is a
  // record by itself; so in this life none does.
  void pass(rules::Duration by) {
    waited_ += by;
    if (waited_ > seconds(4)) {
      waited_ = rules::Duration{0};
      for (const char* stream : {"stdout", "stderr"}) {
        finish_line(stream);
        begin(stream, false);
      }
      settle();
    }
    world_.clock.advance(by);
  }

  void begin(const std::string& stream, bool partial) {
    std::vector<std::string>& records = records_[stream];
    records.push_back("#" + std::to_string(++count_) + " of " + stream);
    put(stream, partial, records.back());
  }
  // One part of one stream's line, or the end of it.
  void write() {
    const std::string stream = random_() % 2 == 0 ? "stdout" : "stderr";
    std::vector<std::string>& records = records_[stream];
    if (!in_line_[stream]) {
      if (!joined_ || records.empty() || random_() % 3 == 0) return begin(stream, random_() % 3 == 0);
      const std::string text = "at " + std::to_string(++count_) + " of " + stream;
      records.back() += "\n" + text;
      put(stream, random_() % 3 == 0, text);
      return;
    }
    const std::string text = " and " + std::to_string(++count_);
    records.back() += text;
    put(stream, random_() % 3 == 0, text);
  }
  void finish_line(const std::string& stream) {
    if (!in_line_[stream]) return;
    put(stream, false, "");
  }
  void put(const std::string& stream, bool partial, const std::string& text) {
    in_line_[stream] = partial;
    world_.dir.append("0.log", rules::format_rfc3339(world_.clock.now()) + " " + stream + (partial ? " P " : " F ") +
                                   text + "\n");
  }
  void rotate() {
    if (!fs::exists(world_.dir.path("0.log"))) return;
    world_.dir.rename("0.log", "0.log.20261128-" + std::to_string(100000 + ++count_));
    if (random_() % 2 == 0) world_.dir.append("0.log", "");
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
    world_.start();
  }

  std::mt19937_64 random_;
  bool joined_;
  ReaderWorld world_;
  std::deque<engine::MatchBatch> queue_;
  std::map<std::string, bool> in_line_;
  std::map<std::string, std::vector<std::string>> records_;
  std::vector<std::string> counted_;
  rules::Duration waited_{0};
  int count_ = 0;
};

TEST_CASE("oracle: each line of a container is counted once, in however many parts and files it came",
          "[run][reader][records][oracle][F11]") {
  const char* wanted = std::getenv("LOGBELL_SEED");
  const std::uint64_t base = wanted != nullptr ? std::stoull(wanted) : 1;
  const char* many = std::getenv("LOGBELL_SEEDS");
  const std::uint64_t rounds = many != nullptr ? std::stoull(many) : wanted != nullptr ? 1 : 60;
  for (std::uint64_t seed = base; seed < base + rounds; ++seed) {
    for (const bool joined : {false, true}) {
      INFO("LOGBELL_SEED=" << seed << (joined ? " joined" : ""));
      ContainerLife(seed, joined).live(80);
    }
  }
}

}  // namespace
}  // namespace logbell::tests

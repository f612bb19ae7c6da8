// The journal: what it says when its files come and go, by a journal that says it, and by real files.
#include "engine/io/journal_source.h"

#include <cerrno>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include <catch2/catch.hpp>
#include <sys/eventfd.h>
#include <unistd.h>

#include "engine/io/syslog.h"

namespace logbell::engine {
namespace {

using Texts = std::vector<std::string>;

struct Entry {
  std::string cursor;
  std::uint64_t realtime = 0;
  std::map<std::string, std::string> fields;
};

// What happens to a journal, without one.
struct World {
  std::vector<Entry> entries;
  std::deque<int> next_answers;  // instead of the truth
  int get_answer = 0;            // of get_field("MESSAGE")
  Journal::Change change = Journal::Change::kNothing;
  int processed = 0;
  int asked = 0;  // next()
  int event = -1;

  void add(const std::string& text, std::uint64_t realtime) {
    entries.push_back({"c" + std::to_string(realtime), realtime, {{"MESSAGE", text}, {"PRIORITY", "3"}}});
  }
};

class FakeJournal final : public Journal {
 public:
  explicit FakeJournal(World& world) : world_(world) {}
  int fd() const override { return world_.event; }
  bool fd_is_reliable() const override { return true; }
  rules::Result<Change> process() override {
    ++world_.processed;
    std::uint64_t count = 0;
    [[maybe_unused]] const ssize_t got = ::read(world_.event, &count, sizeof count);  // it may not have rung
    return std::exchange(world_.change, Change::kNothing);
  }
  int seek_head() override {
    at_ = -1;
    return 0;
  }
  int seek_realtime(std::uint64_t us) override {
    at_ = -1;
    while (at_ + 1 < size() && after().realtime < us)
      ++at_;
    return 0;
  }
  // As libsystemd: where the cursor is not there, near it.
  int seek_cursor(const std::string& cursor) override {
    at_ = -1;
    while (at_ + 1 < size() && after().cursor != cursor)
      ++at_;
    if (at_ + 1 == size()) at_ = -1;
    return 0;
  }
  int test_cursor(const std::string& cursor) override { return here().cursor == cursor ? 1 : 0; }
  int next() override {
    ++world_.asked;
    if (!world_.next_answers.empty()) {
      const int answer = world_.next_answers.front();
      world_.next_answers.pop_front();
      if (answer < 0) {
        at_ = -1;  // the file that we stood in is gone
        return answer;
      }
    }
    if (at_ + 1 >= size()) return 0;
    ++at_;
    return 1;
  }
  int get_realtime(std::uint64_t& us) override {
    us = here().realtime;
    return 0;
  }
  int get_cursor(std::string& cursor) override {
    cursor = here().cursor;
    return 0;
  }
  int get_field(const char* name, std::string& value) override {
    if (world_.get_answer < 0 && std::string_view(name) == "MESSAGE") return world_.get_answer;
    const auto found = here().fields.find(name);
    if (found == here().fields.end()) return -ENOENT;
    value = found->second;
    return 0;
  }
  int oldest(std::uint64_t& us) override {
    if (world_.entries.empty()) return 0;
    us = world_.entries.front().realtime;
    return 1;
  }

 private:
  int size() const { return static_cast<int>(world_.entries.size()); }
  const Entry& here() const { return world_.entries.at(static_cast<std::size_t>(at_)); }
  const Entry& after() const { return world_.entries.at(static_cast<std::size_t>(at_) + 1); }
  World& world_;
  int at_ = -1;
};

class Reading {
 public:
  explicit Reading(World& world, const std::optional<std::string>& place = std::nullopt,
                   rules::Timestamp begin = rules::kLongAgo)
      : source_(std::make_unique<FakeJournal>(world), place, begin) {}

  // The messages until there is no more.
  Texts all() {
    Texts texts;
    for (int reads = 0; reads < 100; ++reads) {
      const rules::Result<ReadStatus> status =
          source_.read(limit, {.max_line_bytes = max_line_bytes}, buffer_, chunk);
      error = status ? "" : status.error().message;
      if (!status) return texts;
      for (std::string_view rest = chunk.block; !rest.empty();) {
        const std::string_view line = rest.substr(0, rest.find('\n'));
        texts.emplace_back(parse_syslog(line, *rules::TimestampReader::make({}), rules::Timestamp()).message);
        last_line = line;
        rest.remove_prefix(line.size() + 1);
      }
      if (status->at_end) return texts;
    }
    FAIL("it never ends");
    return texts;
  }
  JournalSource& source() { return source_; }
  bool ready() { return source_.look(rules::Instant()).ready; }

  std::size_t limit = 64 * 1024;
  std::size_t max_line_bytes = 1000;
  std::string error;
  std::string last_line;
  Chunk chunk;

 private:
  JournalSource source_;
  ReadBuffer buffer_;
};

struct Fixture {
  Fixture() { world.event = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC); }
  ~Fixture() { ::close(world.event); }
  Fixture(const Fixture&) = delete;
  Fixture& operator=(const Fixture&) = delete;
  void wake(Journal::Change change) {
    const std::uint64_t one = 1;
    REQUIRE(::write(world.event, &one, sizeof one) == sizeof one);
    world.change = change;
  }
  World world;
};

TEST_CASE_METHOD(Fixture, "journal: an entry is a record of RFC 5424", "[io][journal]") {
  world.entries.push_back({"c1",
                           1'764'300'000'123'456,
                           {{"MESSAGE", "queue gone\nat line 2"},
                            {"PRIORITY", "3"},
                            {"SYSLOG_FACILITY", "1"},
                            {"_HOSTNAME", "vm"},
                            {"SYSLOG_IDENTIFIER", "orders api"},
                            {"_PID", "7"},
                            {"_SYSTEMD_UNIT", "orders-api.service"}}});
  Reading reading(world);
  CHECK(reading.all() == Texts{"queue gone at line 2"});
  CHECK(reading.last_line ==
        "<11>1 2025-11-28T03:20:00.123Z vm orders_api 7 orders-api.service - queue gone at line 2");
  CHECK(reading.chunk.lines == 1);
  world.entries.push_back({"c2", 1'764'300'001'000'000, {{"PRIORITY", "9"}}});  // nothing is said
  world.entries.push_back(
      {"c3", 1'764'300'002'000'000, {{"MESSAGE", std::string(2000, 'x')}, {"PRIORITY", "x"}}});
  CHECK(reading.all() == Texts{std::string(1000, 'x')});
  CHECK(reading.last_line.substr(0, 34) == "<30>1 2025-11-28T03:20:02Z - - - -");
  CHECK(reading.chunk.truncated == 1);
}

TEST_CASE_METHOD(Fixture, "journal: it goes on behind the entry that was read last", "[io][journal][F30]") {
  for (std::uint64_t t = 1; t <= 3; ++t)
    world.add("m" + std::to_string(t), t * 1000);
  std::optional<std::string> place;
  {
    Reading reading(world);
    reading.limit = 1;
    CHECK(reading.all() == Texts{"m1", "m2", "m3"});
    place = reading.source().place();
  }
  world.add("m4", 4000);
  Reading next(world, place);
  CHECK(next.all() == Texts{"m4"});
  CHECK(next.source().take_news().gap.empty());
}

TEST_CASE_METHOD(Fixture,
                 "journal: an entry that is gone, or of another boot, is a gap, and its time leads on",
                 "[io][journal][F30]") {
  for (std::uint64_t t = 1; t <= 5; ++t)
    world.add("m" + std::to_string(t), t * 1000);
  std::optional<std::string> place;
  {
    Reading reading(world);
    CHECK(reading.all().size() == 5);
    place = reading.source().place();
  }
  world.add("m6", 6000);
  const bool everything = GENERATE(true, false);
  world.entries.erase(world.entries.begin(), everything ? world.entries.end() : world.entries.begin() + 5);
  Reading next(world, place);
  CHECK(next.all() == (everything ? Texts{} : Texts{"m6"}));
  const StreamNews news = next.source().take_news();
  CHECK(news.gap == "journal_vacuumed");
  CHECK(news.warnings.size() == 1);
  CHECK(next.source().take_news().gap.empty());  // once
  // Nothing that was read is read again, also where a cursor leads to something near.
  world.entries.insert(world.entries.begin(), {"x", 4500, {{"MESSAGE", "older"}}});
  world.add("m7", 7000);
  Reading third(world, place);
  CHECK(third.all() == (everything ? Texts{"m7"} : Texts{"m6", "m7"}));
}

TEST_CASE_METHOD(Fixture, "journal: a file that goes away under us is looked for again",
                 "[io][journal][F30]") {
  const int error = GENERATE(-EBADMSG, -EADDRNOTAVAIL, -EIDRM, -ESTALE);
  world.add("m1", 1000);
  Reading reading(world);
  CHECK(reading.all() == Texts{"m1"});
  world.add("m2", 2000);
  world.next_answers = {error};
  const int processed = world.processed;
  CHECK(reading.all() == Texts{"m2"});
  CHECK(reading.error.empty());
  CHECK(world.processed == processed + 1);
  CHECK(reading.source().take_news().gap.empty());
}

TEST_CASE_METHOD(Fixture, "journal: a file that stays broken is an error, not a loop; then it goes on",
                 "[io][journal][F30]") {
  world.add("m1", 1000);
  Reading reading(world);
  CHECK(reading.all() == Texts{"m1"});
  world.add("m2", 2000);
  world.asked = 0;
  world.next_answers.assign(1000, -EBADMSG);
  CHECK(reading.all().empty());
  CHECK(reading.error.find("read the journal: Bad message") != std::string::npos);
  CHECK(world.asked <= 2 * (JournalSource::kMaxRetries + 1));
  world.next_answers.clear();
  CHECK(reading.all() == Texts{"m2"});
}

TEST_CASE_METHOD(Fixture, "journal: an error in the middle does not lose what was read before it",
                 "[io][journal][F30]") {
  for (std::uint64_t t = 1; t <= 4; ++t)
    world.add("m" + std::to_string(t), t * 1000);
  world.next_answers.assign(1000, -EIO);
  world.next_answers.push_front(1);
  world.next_answers.push_front(1);
  Reading reading(world);
  CHECK(reading.all() == Texts{"m1", "m2"});
  CHECK(reading.error.find("Input/output error") != std::string::npos);
  world.next_answers.clear();
  CHECK(reading.all() == Texts{"m3", "m4"});
}

TEST_CASE_METHOD(Fixture, "journal: invalidated means that there may be more, and nothing else",
                 "[io][journal][F30]") {
  world.add("m1", 1000);
  Reading reading(world);
  CHECK(reading.ready());
  CHECK(reading.all() == Texts{"m1"});
  CHECK_FALSE(reading.ready());
  CHECK_FALSE(reading.ready());
  wake(Journal::Change::kInvalidated);
  world.add("m2", 2000);
  CHECK(reading.ready());
  CHECK(reading.all() == Texts{"m2"});
  // Woken for nothing: looked at once, no read, no loop.
  wake(Journal::Change::kNothing);
  CHECK_FALSE(reading.ready());
  wake(Journal::Change::kAppended);
  CHECK(reading.ready());
  CHECK(reading.all().empty());
  CHECK_FALSE(reading.ready());
}

TEST_CASE_METHOD(Fixture, "journal: an entry that cannot be read is counted and passed over",
                 "[io][journal][F30]") {
  world.add("m1", 1000);
  world.get_answer = -EBADMSG;
  Reading reading(world);
  CHECK(reading.all().empty());
  const StreamNews news = reading.source().take_news();
  REQUIRE(news.counts.size() == 1);
  CHECK(news.counts[0].name == "logbell_source_journal_entries_unreadable_total");
  CHECK(news.gap == "journal_unreadable");
  world.get_answer = 0;
  world.add("m2", 2000);
  CHECK(reading.all() == Texts{"m2"});
}

TEST_CASE_METHOD(Fixture, "journal: a first start begins where it is told", "[io][journal]") {
  for (std::uint64_t t = 1; t <= 3; ++t)
    world.add("m" + std::to_string(t), t * 1'000'000);
  Reading reading(world, std::nullopt, rules::from_unix_ms(2000));
  CHECK(reading.source().oldest() == rules::from_unix_ms(1000));
  CHECK(reading.all() == Texts{"m2", "m3"});
  // A place that nothing was read from yet is a time.
  World empty;
  empty.event = world.event;
  Reading before(empty, std::nullopt, rules::from_unix_ms(2000));
  CHECK(before.all().empty());
  Reading after(world, before.source().place());
  CHECK(after.all() == Texts{"m2", "m3"});
}

}  // namespace
}  // namespace logbell::engine

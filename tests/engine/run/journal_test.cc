// The journal as it is on disk: written by systemd's own tool, followed, rotated, vacuumed.
#include <fmt/format.h>

#include "engine/io/journal_source.h"
#include "tests/engine/run/stream_writers.h"

namespace logbell::tests {
namespace {

class JournalWorld : public ReaderWorld {
 public:
  JournalWorld() {
    rules::StreamSpec spec;
    spec.kind = rules::StreamSpec::Kind::kJournal;
    spec.address = dir.path("journal");
    spec.text = "journald:" + spec.address;
    plan_setting.sources = {{.name = "in", .envelope = rules::Envelope::kJournal, .streams = {spec}}};
    plan_setting.labels = {"app", "host", "severity", "unit"};
    fs::create_directory(spec.address);
  }
  rules::StreamSpec& spec() { return plan_setting.sources[0].streams[0]; }

  std::string entry(const std::string& unit, const std::string& message) {
    // Entries of one file come in the order of their times.
    entry_at_ += milliseconds(1);
    const std::int64_t us = rules::to_unix_ms(entry_at_) * 1000;
    return fmt::format(
        "__REALTIME_TIMESTAMP={}\n__MONOTONIC_TIMESTAMP={}\n_BOOT_ID={:032x}\n_SYSTEMD_UNIT={}\n_HOSTNAME="
        "vm\n"
        "SYSLOG_IDENTIFIER=api\nPRIORITY=3\nMESSAGE={}\n\n",
        us, us % 1'000'000'000'000, boot, unit, message);
  }
  // Appends to a file of the journal.
  void write(const std::string& file, const std::string& exported) {
    write_journal(dir, dir.path("journal/" + file), exported);
  }
  Texts messages() { return lines(); }

  int boot = 1;

 private:
  rules::Timestamp entry_at_ = clock.now() - minutes(1);
};

#if LOGBELL_HAS_JOURNALD

TEST_CASE("journal: entries of a unit, as they come, and after a restart behind the last", "[run][journal]") {
  JournalWorld world;
  world.spec().units = {"orders-api.service"};
  std::string entries = world.entry("orders-api.service", "one");
  entries += world.entry("other.service", "no");
  entries += world.entry("orders-api.service", "two");
  world.write("a.journal", entries);
  world.settle();
  CHECK(world.statuses[0].readable);
  REQUIRE_FALSE(world.seen.empty());
  CHECK(world.seen[0].labels == Texts{"api", "vm", "err", "orders-api.service"});
  CHECK(world.seen[0].at == world.clock.now() - minutes(1) + milliseconds(1));
  CHECK(world.messages() == Texts{"one", "two"});
  CHECK_FALSE(world.cannot_be_read_again);
  CHECK(world.statuses[0].read_to_end_at == world.clock.now());
  world.write("a.journal", world.entry("orders-api.service", "three"));
  world.settle();
  CHECK(world.messages() == Texts{"three"});
  CHECK_FALSE(world.step().more);
  world.reader.reset();
  world.write("a.journal", world.entry("orders-api.service", "four"));
  world.restart();
  CHECK(world.messages() == Texts{"four"});
  CHECK(world.counter("logbell_source_gaps_total{cause=\"journal_vacuumed\", source=\"in\"}") == 0);
}

TEST_CASE("journal: rotation, another boot, vacuum", "[run][journal][F30]") {
  JournalWorld world;
  world.write("a.journal", world.entry("u.service", "one"));
  world.settle();
  CHECK(world.messages() == Texts{"one"});
  // Another file beside it, of another boot.
  world.boot = 2;
  world.write("b.journal", world.entry("u.service", "two"));
  world.settle();
  CHECK(world.messages() == Texts{"two"});
  // What was read is vacuumed, what comes is read.
  fs::remove(world.dir.path("journal/a.journal"));
  world.settle();
  world.write("b.journal", world.entry("u.service", "three"));
  world.settle();
  CHECK(world.messages() == Texts{"three"});
  CHECK(world.counter("logbell_source_gaps_total{cause=\"journal_vacuumed\", source=\"in\"}") == 0);
  // All of it is vacuumed while nobody looks: a gap, and it goes on.
  world.reader.reset();
  fs::remove(world.dir.path("journal/b.journal"));
  world.boot = 3;
  world.write("c.journal", world.entry("u.service", "four"));
  world.restart();
  CHECK(world.messages() == Texts{"four"});
  CHECK(world.counter("logbell_source_gaps_total{cause=\"journal_vacuumed\", source=\"in\"}") == 1);
  CHECK(world.statuses[0].watched_from == world.clock.now());
  CHECK_FALSE(world.step().more);
}

TEST_CASE("journal: a directory without one is not readable, and is looked at again", "[run][journal][F30]") {
  JournalWorld world;
  world.settle();
  CHECK_FALSE(world.statuses[0].readable);
  REQUIRE(world.notes.size() == 1);
  CHECK(world.notes[0].message.find("group systemd-journal") != std::string::npos);
  CHECK_FALSE(world.step().more);
  world.write("a.journal", world.entry("u.service", "one"));
  world.pass(seconds(1));
  CHECK(world.statuses[0].readable);
  CHECK(world.messages() == Texts{"one"});
}

#else

TEST_CASE("journal: without libsystemd there is none", "[run][journal][F30]") {
  CHECK_FALSE(engine::has_journald());
  CHECK(engine::open_journal({}).error().message.find("built without it") != std::string::npos);
}

#endif

}  // namespace
}  // namespace logbell::tests

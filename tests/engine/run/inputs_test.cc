// Sockets and named pipes: what comes through them, what does not, and that nothing is lost without a count.
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "tests/engine/run/stream_writers.h"

namespace logbell::tests {
namespace {

using Kind = rules::StreamSpec::Kind;

rules::StreamSpec input(Kind kind, const std::string& text, const std::string& address) {
  rules::StreamSpec spec;
  spec.kind = kind;
  spec.text = text;
  spec.address = address;
  return spec;
}
rules::StreamSpec udp() {
  return input(Kind::kUdp, "udp://127.0.0.1:0", "127.0.0.1");
}
rules::StreamSpec tcp() {
  return input(Kind::kTcp, "tcp://127.0.0.1:0", "127.0.0.1");
}
rules::StreamSpec unix_stream() {
  return input(Kind::kUnixStream, "unix://s", "s");
}
rules::StreamSpec unix_datagram() {
  return input(Kind::kUnixDatagram, "unixgram://d", "d");
}
rules::StreamSpec fifo() {
  return input(Kind::kFifo, "p", "p");
}

PlanSetting reading(const rules::StreamSpec& spec) {
  PlanSetting setting;
  setting.sources = {{.name = "in", .streams = {spec}}};
  return setting;
}

// Where the world listens, as it says itself.
std::string where(ReaderWorld& world) {
  for (const engine::StreamView& view : world.reader->streams()) {
    if (view.error.empty()) return view.path;
  }
  FAIL("nothing is open: " << world.notes.back().message);
  return {};
}

// Sends to where the world listens.
class WorldSender : public Sender {
 public:
  WorldSender(ReaderWorld& world, const rules::StreamSpec& spec)
      : Sender(spec.kind, spec.kind == Kind::kUnixStream || spec.kind == Kind::kUnixDatagram
                              ? world.dir.path(spec.address)
                              : where(world)) {}
};

std::string counter_of(const std::string& name) {
  return "logbell_source_" + name + "{source=\"in\"}";
}
std::string counter_of(const std::string& name, const std::string& reason) {
  return "logbell_source_" + name + "{reason=\"" + reason + "\", source=\"in\"}";
}

TEST_CASE("sockets: a datagram is a record, whatever is in it", "[run][inputs]") {
  const rules::StreamSpec spec = GENERATE(udp(), unix_datagram());
  CAPTURE(spec.text);
  ReaderWorld world(reading(spec));
  world.settle();
  CHECK(world.statuses[0].readable);
  CHECK(world.statuses[0].read_to_end_at == world.clock.now());
  CHECK(world.statuses[0].watched_from == world.clock.now());
  const WorldSender sender(world, spec);
  REQUIRE(sender.connected());
  CHECK(sender.send("<13>one"));
  CHECK(sender.send("<13>two\nlines\n"));
  CHECK(sender.send(""));
  CHECK(sender.send("\n"));
  world.settle();
  CHECK(world.lines() == Texts{"<13>one", "<13>two lines"});
  CHECK(world.cannot_be_read_again);
  CHECK(world.counter(counter_of("lines_total")) == 2);
  CHECK(world.counter(counter_of("datagrams_dropped_total")) == 0);
  CHECK_FALSE(world.ended);
  CHECK_FALSE(world.step().more);
  CHECK(world.reader->wake_fds().size() == 2);
}

TEST_CASE("sockets: a datagram that is too long counts with its beginning, and is flagged",
          "[run][inputs][F29]") {
  const rules::StreamSpec spec = GENERATE(udp(), unix_datagram());
  PlanSetting setting = reading(spec);
  setting.sources[0].max_line_bytes = 100;
  ReaderWorld world(setting);
  world.settle();
  const WorldSender sender(world, spec);
  for (const std::size_t size : {100U, 101U, 104U, 105U, 5000U})
    CHECK(sender.send(std::string(size, 'x')));
  CHECK(sender.send(std::string(99, 'x') + "\xC3\xA4"));
  world.settle();
  const Texts lines = world.lines();
  REQUIRE(lines.size() == 6);
  for (std::size_t i = 0; i < 5; ++i)
    CHECK(lines[i] == std::string(100, 'x'));
  CHECK(lines[5] == std::string(99, 'x'));  // not within a character
  CHECK(world.counter(counter_of("datagrams_truncated_total")) == 5);
  CHECK(world.counter(counter_of("lines_truncated_total")) == 5);
}

TEST_CASE("sockets: a flood of datagrams: those that do not fit are counted, to the last one",
          "[run][inputs][F29]") {
  rules::StreamSpec spec = udp();
  spec.receive_buffer = 8192;
  ReaderWorld world(reading(spec));
  world.settle();
  const WorldSender sender(world, spec);
  const rules::Timestamp before = world.clock.now();
  double came = 0;
  double sent = 0;
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 200; ++i)
      sent += sender.send("<13>" + std::string(300, 'x')) ? 1 : 0;
    world.clock.advance(seconds(1));
    world.settle();
    came += static_cast<double>(world.lines().size());
    CHECK(came > 0);
    CHECK(came < sent);
    CHECK(world.counter(counter_of("datagrams_dropped_total")) == sent - came);
  }
  // Nobody knows what was in them: what looks back beyond the flood is not known.
  CHECK(world.counter("logbell_source_gaps_total{cause=\"datagrams_dropped\", source=\"in\"}") == 3);
  CHECK(world.statuses[0].watched_from > before);
  CHECK(world.notes.back().message.find("datagrams came faster") != std::string::npos);
  // A step takes no more than a chunk, however much comes.
  CHECK_FALSE(world.step().more);
}

TEST_CASE("sockets: what cannot be dropped holds its writer", "[run][inputs][F29]") {
  ReaderWorld world(reading(unix_datagram()));
  world.settle();
  const WorldSender sender(world, unix_datagram());
  std::size_t sent = 0;
  while (sender.send("<13>" + std::to_string(sent)))
    REQUIRE(++sent < 1'000'000);
  world.settle();
  CHECK(world.lines().size() == sent);
  CHECK(sender.send("<13>again"));
  world.settle();
  CHECK(world.lines() == Texts{"<13>again"});
}

TEST_CASE("sockets: each connection is a stream, in either framing", "[run][inputs]") {
  const rules::StreamSpec spec = GENERATE(tcp(), unix_stream());
  CAPTURE(spec.text);
  ReaderWorld world(reading(spec));
  world.settle();
  WorldSender lines(world, spec);
  WorldSender octets(world, spec);
  REQUIRE(octets.connected());
  CHECK(lines.send("<13>one\n<13>tw"));
  CHECK(octets.send("7 <13>a\nb5 <1"));  // a count of 7, then of 5
  world.settle();
  CHECK(world.lines() == Texts{"<13>one", "<13>a b"});
  CHECK(world.statuses[0].read_to_end_at == world.clock.now());
  CHECK(octets.send("3>c"));
  world.settle();
  CHECK(world.lines() == Texts{"<13>c"});
  CHECK(lines.send("o\n"));
  world.settle();
  CHECK(world.lines() == Texts{"<13>two"});
  CHECK(lines.send("<13>half"));
  lines.close();
  octets.close();
  world.settle();
  CHECK(world.lines() == Texts{"<13>half"});
  CHECK(world.counter(counter_of("connections_total")) == 2);
  CHECK(world.counter(counter_of("connections_closed_total", "ended")) == 2);
  CHECK(world.counter(counter_of("partial_flushed_total")) == 1);
  CHECK(world.counter(counter_of("frames_broken_total")) == 0);
  CHECK_FALSE(world.ended);
}

TEST_CASE("sockets: what a connection said before it was reset counts", "[run][inputs]") {
  ReaderWorld world(reading(tcp()));
  world.settle();
  WorldSender sender(world, tcp());
  CHECK(sender.send("<13>one\n"));
  world.settle();
  CHECK(sender.send("<13>two"));
  world.settle();
  sender.reset();
  world.settle();
  CHECK(world.lines() == Texts{"<13>one", "<13>two"});
  CHECK(world.counter(counter_of("connections_closed_total", "failed")) == 1);
}

TEST_CASE("sockets: broken frames are counted, told and read as lines", "[run][inputs]") {
  ReaderWorld world(reading(tcp()));
  world.settle();
  const WorldSender sender(world, tcp());
  CHECK(sender.send("5 <13>aoops\n5 <13>b"));
  world.settle();
  CHECK(world.lines() == Texts{"<13>a", "oops", "<13>b"});
  CHECK(world.counter(counter_of("frames_broken_total")) == 1);
  CHECK(world.notes.back().message.find("127.0.0.1:") != std::string::npos);
}

TEST_CASE("sockets: more connections than there may be are refused, and said once a minute",
          "[run][inputs][F29]") {
  rules::StreamSpec spec = tcp();
  spec.max_connections = 2;
  ReaderWorld world(reading(spec));
  world.settle();
  std::vector<std::unique_ptr<WorldSender>> senders;
  for (int i = 0; i < 5; ++i)
    senders.push_back(std::make_unique<WorldSender>(world, spec));
  world.settle();
  CHECK(world.counter(counter_of("connections_total")) == 2);
  CHECK(world.counter(counter_of("connections_refused_total", "max_connections")) == 3);
  CHECK(senders[2]->is_closed_by_peer());
  CHECK_FALSE(senders[0]->is_closed_by_peer());
  const auto warnings =
      std::count_if(world.notes.begin(), world.notes.end(), [](const engine::ReaderNote& note) {
        return note.message.find("max_connections") != std::string::npos;
      });
  CHECK(warnings == 1);
  senders[0]->close();
  world.settle();
  const WorldSender next(world, spec);
  CHECK(next.send("<13>now\n"));
  world.settle();
  CHECK(world.lines() == Texts{"<13>now"});
}

TEST_CASE("sockets: connections for which there are no descriptors wait until others are closed",
          "[run][inputs][F24][F29]") {
  const std::string opened = counter_of("connections_total");
  ReaderWorld world(reading(tcp()));
  SECTION("of all sources there may be two") {
    world.max_connections = 2;
  }
  SECTION("files and they may be three: the source's own is one") {
    world.max_files = 3;
  }
  world.settle();
  std::vector<std::unique_ptr<WorldSender>> senders;
  for (int i = 0; i < 5; ++i) {
    senders.push_back(std::make_unique<WorldSender>(world, tcp()));
    CHECK(senders.back()->send("<13>" + std::to_string(i) + "\n"));
  }
  world.settle();
  CHECK(world.counter(opened) == 2);
  CHECK(world.counter(counter_of("connections_refused_total", "no_descriptor")) == 1);
  CHECK(world.lines() == Texts{"<13>0", "<13>1"});
  REQUIRE_FALSE(world.notes.empty());
  CHECK(world.notes.back().message.find("A connection waits: 2 are open") != std::string::npos);
  CHECK_FALSE(world.step().more);  // it is not tried again before a second is over
  senders[0]->close();
  senders[1]->close();
  world.settle();
  world.pass(seconds(1));
  CHECK(world.counter(opened) == 4);
  CHECK(world.lines() == Texts{"<13>2", "<13>3"});
}

TEST_CASE("sockets: a record that does not end holds its memory for a minute", "[run][inputs][F29]") {
  ReaderWorld world(reading(tcp()));
  world.settle();
  const WorldSender slow_octets(world, tcp());
  const WorldSender slow_line(world, tcp());
  const WorldSender quiet(world, tcp());
  CHECK(slow_octets.send("50 <13>never"));
  CHECK(slow_line.send("<13>prompt> "));
  CHECK(quiet.send("<13>quiet\n"));
  world.settle();
  CHECK(world.lines() == Texts{"<13>quiet"});
  for (int i = 0; i < 5; ++i) {
    world.pass(seconds(10));
    CHECK(slow_octets.send("."));  // a byte now and then does not help
    CHECK(world.lines().empty());
  }
  world.pass(seconds(10));
  CHECK(world.lines() == Texts{"<13>never.....", "<13>prompt> "});  // in the order of their descriptors
  CHECK(slow_octets.is_closed_by_peer());  // nobody knows where its next record begins
  CHECK_FALSE(slow_line.is_closed_by_peer());
  CHECK(world.counter(counter_of("connections_closed_total", "slow")) == 1);
  CHECK(world.counter(counter_of("partial_flushed_total")) == 2);
  // Silence is no fault: what comes after a quiet day is what matters.
  world.pass(hours(24));
  CHECK_FALSE(quiet.is_closed_by_peer());
  CHECK(slow_line.send("rest\n"));
  CHECK(quiet.send("<13>at last\n"));
  world.settle();
  CHECK(world.lines() == Texts{"rest", "<13>at last"});
}

TEST_CASE("sockets: a silent connection is closed where that is asked for", "[run][inputs]") {
  rules::StreamSpec spec = tcp();
  spec.idle_timeout = minutes(10);
  ReaderWorld world(reading(spec));
  world.settle();
  const WorldSender quiet(world, spec);
  const WorldSender busy(world, spec);
  world.settle();
  world.pass(minutes(9));
  CHECK(busy.send("<13>x\n"));
  world.settle();
  world.pass(minutes(1));
  CHECK(quiet.is_closed_by_peer());
  CHECK_FALSE(busy.is_closed_by_peer());
  CHECK(world.counter(counter_of("connections_closed_total", "idle")) == 1);
}

TEST_CASE("sockets: what connections hold of unfinished records is bounded", "[run][inputs][F29]") {
  PlanSetting setting = reading(unix_stream());
  setting.sources[0].max_line_bytes = 6 * 1024 * 1024;
  ReaderWorld world(setting);
  world.settle();
  const std::string part(64 * 1024, 'x');
  std::vector<std::unique_ptr<WorldSender>> senders;
  for (int i = 0; i < 3; ++i) {
    senders.push_back(std::make_unique<WorldSender>(world, unix_stream()));
    for (int n = 0; n < 94 && senders.back()->send(part); ++n)
      world.settle();
  }
  CHECK(world.counter(counter_of("connections_closed_total", "memory")) == 1);
  CHECK(senders[2]->is_closed_by_peer());
  CHECK_FALSE(senders[0]->is_closed_by_peer());
  CHECK(world.lines().size() == 1);  // what came of it counts
}

TEST_CASE("sockets: without a descriptor a connection waits, and nothing spins", "[run][inputs]") {
  ReaderWorld world(reading(unix_stream()));
  world.settle();
  const WorldSender sender(world, unix_stream());
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
  const int probe = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  const rlimit none{static_cast<rlim_t>(probe), before.rlim_max};
  ::close(probe);
  CHECK(sender.send("<13>one\n"));
  ::setrlimit(RLIMIT_NOFILE, &none);
  const engine::Reader::StepResult first = world.step();
  const engine::Reader::StepResult second = world.step();
  ::setrlimit(RLIMIT_NOFILE, &before);
  CHECK_FALSE(second.more);
  CHECK(second.wake_at > world.clock.instant());
  static_cast<void>(first);
  CHECK(world.lines().empty());
  CHECK(world.counter(counter_of("connections_refused_total", "no_descriptor")) == 1);
  world.pass(seconds(1));
  CHECK(world.lines() == Texts{"<13>one"});
}

TEST_CASE("sockets: a unix socket's file: ours, somebody's, nobody's", "[run][inputs]") {
  const rules::StreamSpec spec = GENERATE(unix_stream(), unix_datagram());
  CAPTURE(spec.text);
  ReaderWorld world(reading(spec));
  const std::string path = world.dir.path(spec.address);
  SECTION("it has the rights that were asked for, and goes with us") {
    world.settle();
    struct stat status {};
    REQUIRE(::lstat(path.c_str(), &status) == 0);
    CHECK((status.st_mode & 0777U) == 0660);
    world.reader.reset();
    CHECK(::lstat(path.c_str(), &status) != 0);
  }
  SECTION("what a killed process left is replaced") {
    {
      sockaddr_un at{};
      at.sun_family = AF_UNIX;
      path.copy(at.sun_path, sizeof at.sun_path - 1);
      const int left =
          ::socket(AF_UNIX, (spec.kind == Kind::kUnixStream ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC, 0);
      REQUIRE(::bind(left, reinterpret_cast<sockaddr*>(&at), sizeof at) == 0);
      ::close(left);
    }
    world.settle();
    CHECK(WorldSender(world, spec).send("<13>one\n"));
    world.settle();
    CHECK(world.lines() == Texts{"<13>one"});
  }
  SECTION("a process that listens there keeps it") {
    ReaderWorld other(reading(spec));
    other.plan_setting.sources[0].streams[0].address = path;
    other.settle();
    world.settle();
    CHECK_FALSE(world.statuses[0].readable);
    CHECK(world.notes.back().message.find("another process listens there") != std::string::npos);
    CHECK(WorldSender(world, spec).send("<13>one\n"));
    other.settle();
    CHECK(other.lines() == Texts{"<13>one"});
    // It goes: then we are heard, within the usual time.
    other.reader.reset();
    world.pass(seconds(1));
    CHECK(world.statuses[0].readable);
  }
  SECTION("a file that is no socket is left as it is") {
    world.dir.write(spec.address, "precious");
    world.settle();
    CHECK_FALSE(world.statuses[0].readable);
    CHECK(world.notes.back().message.find("no socket") != std::string::npos);
    CHECK(fs::file_size(path) == 8);
    world.reader.reset();
    CHECK(fs::file_size(path) == 8);
  }
  SECTION("its name is taken away: it is made anew, and what was missed is a gap") {
    world.settle();
    fs::remove(path);
    world.clock.advance(seconds(1));
    world.settle();
    CHECK(fs::exists(path));
    CHECK(world.counter("logbell_source_gaps_total{cause=\"not_listening\", source=\"in\"}") == 1);
    CHECK(world.statuses[0].watched_from == world.clock.now());
    CHECK(WorldSender(world, spec).send("<13>one\n"));
    world.settle();
    CHECK(world.lines() == Texts{"<13>one"});
  }
}

TEST_CASE("sockets: a port that is taken is tried again, and told once", "[run][inputs]") {
  const Kind kind = GENERATE(Kind::kUdp, Kind::kTcp);
  ReaderWorld first(reading(kind == Kind::kUdp ? udp() : tcp()));
  first.settle();
  rules::StreamSpec same = kind == Kind::kUdp ? udp() : tcp();
  same.text = where(first);
  same.port = static_cast<std::uint16_t>(std::stoi(same.text.substr(same.text.rfind(':') + 1)));
  ReaderWorld second(reading(same));
  second.settle();
  CHECK_FALSE(second.statuses[0].readable);
  CHECK(second.notes.size() == 1);
  CHECK(second.notes[0].message.find("another process listens there") != std::string::npos);
  CHECK(second.counter(counter_of("open_errors_total", "EADDRINUSE")) == 1);
  CHECK_FALSE(second.step().more);
  for (const engine::StreamView& view : second.reader->streams())
    CHECK_FALSE(view.error.empty());
  second.pass(seconds(1));
  CHECK(second.notes.size() == 1);
  first.reader.reset();
  second.pass(seconds(30));
  CHECK(second.statuses[0].readable);
  CHECK(second.statuses[0].watched_from == second.clock.now());
}

TEST_CASE("sockets: a reload keeps what stays, opens what is new, closes what is gone", "[run][inputs]") {
  ReaderWorld world(reading(unix_stream()));
  world.settle();
  const WorldSender sender(world, unix_stream());
  CHECK(sender.send("<13>one\n<13>tw"));
  world.settle();
  CHECK(world.lines() == Texts{"<13>one"});
  PlanSetting setting = world.plan_setting;
  setting.generation = 2;
  setting.sources[0].streams[0].address = "s";
  setting.sources.push_back({.name = "more", .streams = {unix_datagram()}});
  world.reload(setting);
  CHECK(sender.send("o\n"));
  world.settle();
  CHECK(world.lines() == Texts{"<13>two"});
  CHECK(fs::exists(world.dir.path("d")));
  // Under another source's name it is the same socket.
  setting.generation = 3;
  setting.sources[0].name = "renamed";
  world.reload(setting);
  CHECK(sender.send("<13>three\n"));
  world.settle();
  CHECK(world.lines() == Texts{"<13>three"});
  setting.generation = 4;
  setting.sources.erase(setting.sources.begin());
  world.reload(setting);
  CHECK(sender.is_closed_by_peer());
  CHECK_FALSE(fs::exists(world.dir.path("s")));
  CHECK(fs::exists(world.dir.path("d")));
}

TEST_CASE("fifo: a writer that leaves is no end", "[run][inputs]") {
  ReaderWorld world(reading(fifo()));
  const std::string path = world.dir.path("p");
  REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
  world.settle();
  CHECK(world.statuses[0].readable);
  const auto write = [&](const std::string& text) {
    const int fd = ::open(path.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    REQUIRE(fd >= 0);
    CHECK(::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
    ::close(fd);
  };
  write("one\ntw");
  world.settle();
  CHECK(world.lines() == Texts{"one"});
  write("o\n");
  world.settle();
  CHECK(world.lines() == Texts{"two"});
  CHECK_FALSE(world.ended);
  CHECK_FALSE(world.step().more);
  CHECK(world.cannot_be_read_again);
  write("half");
  world.settle();
  world.pass(seconds(5));
  CHECK(world.lines() == Texts{"half"});
}

TEST_CASE("fifo: it may come later, and be made anew", "[run][inputs]") {
  ReaderWorld world(reading(fifo()));
  const std::string path = world.dir.path("p");
  world.settle();
  CHECK_FALSE(world.statuses[0].readable);
  CHECK(world.notes.size() == 1);
  // Without waiting: its directory is watched.
  REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
  world.settle();
  CHECK(world.statuses[0].readable);
  const int old = ::open(path.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC);
  REQUIRE(old >= 0);
  CHECK(::write(old, "last\n", 5) == 5);
  fs::remove(path);
  REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
  world.settle();
  CHECK(world.lines() == Texts{"last"});
  const int next = ::open(path.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC);
  REQUIRE(next >= 0);
  CHECK(::write(next, "new\n", 4) == 4);
  world.settle();
  CHECK(world.lines() == Texts{"new"});
  ::close(old);
  ::close(next);
}

TEST_CASE("fifo: what is none is refused, and not touched", "[run][inputs][F28]") {
  ReaderWorld world(reading(fifo()));
  world.dir.write("p", "text\n");
  world.settle();
  CHECK_FALSE(world.statuses[0].readable);
  CHECK(world.notes.back().message.find("no named pipe") != std::string::npos);
  CHECK(world.lines().empty());
}

// --- what is in the header

PlanSetting with_header(const rules::StreamSpec& spec) {
  PlanSetting setting = reading(spec);
  setting.sources[0].envelope = rules::Envelope::kSyslog;
  setting.sources[0].timestamp.location = "Europe/Berlin";
  setting.labels = {"app", "facility", "host", "msgid", "procid", "severity"};
  return setting;
}

TEST_CASE("syslog: what the header says is beside the message: time, labels", "[run][inputs][syslog]") {
  const rules::StreamSpec spec = GENERATE(udp(), tcp());
  ReaderWorld world(with_header(spec));
  world.settle();
  const WorldSender sender(world, spec);
  const rules::Timestamp at = world.clock.now() - seconds(7);
  const bool octets = spec.kind == Kind::kTcp;
  const auto send = [&](const std::string& record) {
    CHECK(sender.send(octets ? std::to_string(record.size()) + " " + record : record));
  };
  send("<11>1 " + rules::format_rfc3339(at) + " vm orders-api 7 ID1 [x y=\"z\"] queue gone");
  world.settle();
  REQUIRE(world.seen.size() == 1);
  CHECK(world.seen[0].text == "queue gone");
  CHECK(world.seen[0].at == at);
  CHECK(world.seen[0].labels == Texts{"orders-api", "user", "vm", "ID1", "7", "err"});
  world.seen.clear();
  // The next one does not inherit what it does not say.
  send("<13>hello");
  send("no header");
  world.settle();
  REQUIRE(world.seen.size() == 2);
  CHECK(world.seen[0].labels == Texts{"", "user", "", "", "", "notice"});
  CHECK(world.seen[0].at == world.clock.now());
  CHECK(world.seen[1].text == "no header");
  CHECK(world.seen[1].labels == Texts{"", "", "", "", "", ""});
  CHECK(world.counter(counter_of("lines_total")) == 3);
}

TEST_CASE("syslog: a time without a zone is the source's", "[run][inputs][syslog]") {
  ReaderWorld world(with_header(udp()));
  world.clock.step_wall(*rules::parse_rfc3339("2026-11-28T04:03:00Z") - world.clock.now());
  world.settle();
  const WorldSender sender(world, udp());
  CHECK(sender.send("<13>Nov 28 05:02:51 vm a: x"));
  world.settle();
  REQUIRE(world.seen.size() == 1);
  CHECK(world.seen[0].at == *rules::parse_rfc3339("2026-11-28T04:02:51Z"));
}

TEST_CASE("syslog: a long message is counted as cut once", "[run][inputs][syslog]") {
  PlanSetting setting = with_header(udp());
  setting.sources[0].max_line_bytes = 100;
  ReaderWorld world(setting);
  world.settle();
  const WorldSender sender(world, udp());
  CHECK(sender.send("<13>1 - vm a - - - " + std::string(100, 'x')));  // it fits
  CHECK(sender.send("<13>1 - vm a - - - " + std::string(101, 'x')));
  CHECK(sender.send("<13>1 - vm a - - - " + std::string(5000, 'x')));  // it does not fit what is read
  world.settle();
  const Texts lines = world.lines();
  REQUIRE(lines.size() == 3);
  for (const std::string& line : lines)
    CHECK(line == std::string(100, 'x'));
  CHECK(world.counter(counter_of("lines_truncated_total")) == 2);
  CHECK(world.counter(counter_of("datagrams_truncated_total")) == 1);
}

TEST_CASE("syslog: a file that rsyslog writes, over a rotation and a restart", "[run][inputs][syslog]") {
  PlanSetting setting = with_header(udp());
  setting.sources[0].streams.clear();
  setting.sources[0].files = {"app.log"};
  setting.sources[0].name = "app";
  ReaderWorld world(setting);
  const auto line = [&](const std::string& text) {
    return rules::format_rfc3339(world.clock.now()) + " vm orders-api[7]: " + text + "\n";
  };
  world.dir.append("app.log", line("one") + line("two"));
  world.settle();
  CHECK(world.lines() == Texts{"one", "two"});
  world.dir.rename("app.log", "app.log.1");
  world.dir.append("app.log", line("three"));
  world.settle();
  REQUIRE(world.seen.size() == 1);
  CHECK(world.seen[0].labels == Texts{"orders-api", "", "vm", "", "7", ""});
  world.seen.clear();
  world.dir.append("app.log", line("four").substr(0, 45));
  world.settle();
  world.restart();
  CHECK(world.lines().empty());
  world.dir.append("app.log", line("four").substr(45));
  world.settle();
  CHECK(world.lines() == Texts{"four"});
}

}  // namespace
}  // namespace logbell::tests

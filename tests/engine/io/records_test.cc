// From lines to records: parts joined, traces together, whatever the chunks, the timeouts and the restarts.
#include "engine/io/records.h"

#include <deque>
#include <map>
#include <random>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

namespace logbell::engine {
namespace {

using rules::Duration;
using rules::Envelope;
using Texts = std::vector<std::string>;

rules::SourceSpec cri(std::shared_ptr<const rules::Multiline> multiline = nullptr) {
  rules::SourceSpec source;
  source.envelope = Envelope::kCri;
  source.multiline = std::move(multiline);
  return source;
}
rules::SourceSpec text(const std::string& first_line) {
  rules::SourceSpec source;
  source.multiline = std::make_shared<rules::Multiline>(
      rules::Multiline::by_first_line(*rules::Regex::compile(first_line)));
  return source;
}
std::string line(const std::string& stream, const std::string& tag, const std::string& text) {
  return "2026-11-28T03:00:00.5Z " + stream + " " + tag + " " + text + "\n";
}

// A file of lines and its decoder, fed as it is read.
struct Feed {
  explicit Feed(rules::SourceSpec spec) : source(std::move(spec)), decoder(source, path) {}

  Texts of(const std::string& lines) {
    out.clear();
    Chunk chunk;
    chunk.block = lines;
    chunk.consumed = lines.size();
    decoder.feed(chunk, at, rules::from_unix_ms(1), now, out);
    at += lines.size();
    return texts();
  }
  // The line without its end has waited long enough.
  Texts half(const std::string& fragment) {
    out.clear();
    Chunk chunk;
    chunk.block = fragment;
    chunk.flushed = true;
    decoder.feed(chunk, at, rules::from_unix_ms(1), now, out);
    return texts();
  }
  Texts wait(Duration by) {
    now += by;
    out.clear();
    decoder.flush(now, false, out);
    return texts();
  }
  Texts texts() const {
    Texts found;
    for (std::size_t i = 0; i < out.records.size(); ++i) {
      std::string text = out.text.substr(out.records[i].offset, out.records[i].length);
      if (out.told[i].evaluated > 0) text.insert(out.told[i].evaluated, "|");
      found.push_back(text);
    }
    return found;
  }

  std::string path = "/var/log/pods/shop_orders_1/api/0.log";
  rules::SourceSpec source;
  RecordDecoder decoder;
  RecordBlock out;
  std::uint64_t at = 0;
  rules::Instant now;
};

TEST_CASE("records: parts of a line are joined, each stream's for itself", "[io][records][F11]") {
  Feed feed(cri());
  CHECK(feed.of(line("stdout", "P", "one ") + line("stderr", "F", "err") + line("stdout", "P", "two ")) == Texts{"err"});
  CHECK(feed.of(line("stdout", "F", "three")) == Texts{"one two three"});
  CHECK(*feed.out.records[0].facts->find("stream") == "stdout");
  CHECK(*feed.out.records[0].facts->find("pod") == "orders");
  CHECK(rules::to_unix_ms(*feed.out.told[0].time) % 1000 == 500);
  CHECK(feed.decoder.open().empty());
  CHECK(feed.of("no CRI\n") == Texts{"no CRI"});
  CHECK(feed.out.malformed == 1);
}

TEST_CASE("records: a part without its end is handed over after 5 s, and flagged", "[io][records][F11]") {
  Feed feed(cri());
  feed.of(line("stdout", "P", "half"));
  CHECK(feed.decoder.due() == feed.now + std::chrono::seconds(5));
  CHECK(feed.wait(std::chrono::milliseconds(4999)).empty());
  CHECK(feed.wait(std::chrono::milliseconds(1)) == Texts{"half"});
  CHECK(feed.out.partial == 1);
  CHECK_FALSE(feed.decoder.due());
  CHECK(feed.wait(std::chrono::seconds(60)).empty());
  // What comes of it later is looked at once more, and only where it is new.
  CHECK(feed.of(line("stdout", "F", " and half")) == Texts{"half| and half"});
  CHECK(feed.out.begun == 0);
}

TEST_CASE("records: a part whose end comes later than 5 s by the runtime's time is a line by itself", "[io][records][F11]") {
  const auto at = [](const std::string& time, const std::string& tag, const std::string& text) {
    return "2026-11-28T03:00:" + time + "Z stdout " + tag + " " + text + "\n";
  };
  Feed feed(cri());
  CHECK(feed.of(at("00.0", "P", "bye") + at("05.0", "F", "and bye")) == Texts{"byeand bye"});
  CHECK(feed.of(at("10.0", "P", "bye") + at("15.001", "F", "ERROR")) == Texts{"bye", "ERROR"});
  // Handed over already: it is not told again.
  feed.of(at("20.0", "P", "bye"));
  CHECK(feed.wait(std::chrono::seconds(5)) == Texts{"bye"});
  CHECK(feed.of(at("26.0", "P", "ERR") + at("30.5", "P", "OR") + at("35.0", "F", "!")) == Texts{"ERROR!"});
  CHECK(feed.out.begun == 1);
  CHECK(feed.decoder.open().empty());
}

TEST_CASE("records: what ends in a carriage return is handed over without it", "[io][records][F18]") {
  Feed feed(text("^\\d"));
  CHECK(feed.half("1 one\r") == Texts{"1 one"});
  CHECK(feed.of("1 one\r\n2\n").empty());
}

TEST_CASE("records: a joined line is no longer than a line may be", "[io][records][F19]") {
  rules::SourceSpec source = cri();
  source.max_line_bytes = 8;
  Feed feed(source);
  feed.of(line("stdout", "P", "01234"));
  feed.of(line("stdout", "P", "56789"));
  CHECK(feed.out.truncated == 1);
  CHECK(feed.of(line("stdout", "P", "x") + line("stdout", "F", "y") + line("stdout", "F", "next")) ==
        Texts{"01234567", "next"});
}

TEST_CASE("records: what is handed over of an unfinished line is no longer than a line may be", "[io][records][F19]") {
  SECTION("alone") {
    rules::SourceSpec source = cri();
    source.max_line_bytes = 8;
    Feed feed(source);
    CHECK(feed.half("2026-11-28T03:00:00.5Z stdout F 0123456789") == Texts{"01234567"});
    CHECK(feed.of(line("stdout", "F", "0123456789abc")).empty());
    CHECK(feed.out.truncated == 1);
  }
  SECTION("with the lines before it") {
    rules::SourceSpec source = text("^\\d");
    source.max_line_bytes = 8;
    Feed feed(source);
    CHECK(feed.of("1 abc\n").empty());
    CHECK(feed.half("\tdefg") == Texts{"1 abc", "\tdefg"});
    CHECK(feed.of("\tdefgh\n").empty());
    CHECK(feed.of("2\n") == Texts{"\tdefg|h"});
  }
}

TEST_CASE("records: a line that is handed over without its end has its own time", "[io][records][F18]") {
  Feed feed(cri());
  CHECK(feed.of(line("stdout", "F", "before")) == Texts{"before"});
  CHECK(feed.half("2026-11-28T03:00:07Z stdout F half") == Texts{"half"});
  REQUIRE(feed.out.told.size() == 1);
  CHECK(feed.out.told[0].time == rules::from_unix_ms(1'795'834'807'000));
}

TEST_CASE("records: lines up to the next first line are one", "[io][records]") {
  Feed feed(text("^\\d"));
  CHECK(feed.of("1 boom\r\n\tat x\n").empty());
  CHECK(feed.of("\tat y\n2 next\n") == Texts{"1 boom\n\tat x\n\tat y"});
  CHECK(feed.out.begun == 1);
  SECTION("the last one waits a second") {
    CHECK(feed.wait(std::chrono::milliseconds(999)).empty());
    CHECK(feed.wait(std::chrono::milliseconds(1)) == Texts{"2 next"});
    CHECK(feed.of("\tat z\n").empty());
    CHECK(feed.wait(std::chrono::seconds(1)) == Texts{"2 next|\n\tat z"});
    CHECK(feed.of("3\n").empty());  // nothing new in it
  }
  SECTION("half a line of it is handed over with it") {
    CHECK(feed.half("\tat z") == Texts{"2 next\n\tat z"});
    CHECK(feed.of("\tat zero\n").empty());
    CHECK(feed.of("3\n") == Texts{"2 next\n\tat z|ero"});
    CHECK(feed.out.begun == 0);
  }
  SECTION("half a line that begins another ends it") {
    CHECK(feed.half("3 hal") == Texts{"2 next", "3 hal"});
    CHECK(feed.of("3 half\n").empty());
    CHECK(feed.of("4\n") == Texts{"3 hal|f"});
  }
}

TEST_CASE("records: a record ends at its bounds, and what follows is another one", "[io][records]") {
  rules::Multiline few = rules::Multiline::by_first_line(*rules::Regex::compile("^\\d"));
  few.max_lines = 2;
  rules::SourceSpec source;
  source.multiline = std::make_shared<rules::Multiline>(few);
  SECTION("of lines") {
    Feed feed(source);
    CHECK(feed.of("1\na\nb\nc\nd\n2\n") == Texts{"1\na", "b\nc", "d"});
    CHECK(feed.out.split == 2);
  }
  SECTION("of bytes") {
    source.max_line_bytes = 5;
    Feed feed(source);
    CHECK(feed.of("1\naaaaa\n2\n") == Texts{"1", "aaaaa"});
    CHECK(feed.out.split == 1);
  }
}

TEST_CASE("records: what is unfinished is not read from farther back than may be read again", "[io][records][F11]") {
  Feed feed(cri());
  feed.of(line("stdout", "P", "half"));
  const std::string other = line("stderr", "F", std::string(10'000, 'x'));
  std::size_t found = 0;
  while (feed.at < RecordDecoder::kMaxReread + 100'000) {
    for (const std::string& record : feed.of(other))
      found += record == "half" ? 1 : 0;
  }
  CHECK(found == 1);
  CHECK(feed.decoder.open().empty());
}

TEST_CASE("records: in a trace's place a whole record, everything else at once", "[io][records]") {
  Feed feed(cri(std::make_shared<rules::Multiline>(rules::Multiline::traces({rules::Multiline::Language::kJava}))));
  CHECK(feed.of(line("stderr", "F", "java.lang.Error: x") + line("stdout", "F", "GET /") +
                line("stderr", "F", "\tat a.b(C.java:1)")) == Texts{"GET /"});
  CHECK(feed.of(line("stderr", "F", "after")) == Texts{"java.lang.Error: x\n\tat a.b(C.java:1)", "after"});
}

TEST_CASE("records: of what has ended at its bound the rest is one record, over a restart too", "[io][records]") {
  const bool trace = GENERATE(true, false);
  CAPTURE(trace);
  rules::Multiline multiline = trace ? rules::Multiline::traces({rules::Multiline::Language::kJava})
                                     : rules::Multiline::by_first_line(*rules::Regex::compile("^java"));
  multiline.max_lines = 2;
  const rules::SourceSpec source = cri(std::make_shared<rules::Multiline>(multiline));
  std::string file;
  const auto feed = [&](RecordDecoder& decoder, std::uint64_t from, const std::string& lines) {
    RecordBlock out;
    Chunk chunk;
    chunk.block = lines;
    chunk.consumed = lines.size();
    decoder.feed(chunk, from, rules::from_unix_ms(1), rules::Instant{}, out);
    Texts found;
    for (const rules::Record& record : out.records)
      found.push_back(out.text.substr(record.offset, record.length));
    return found;
  };
  const auto write = [&](RecordDecoder& decoder, const std::string& text) {
    const std::uint64_t from = file.size();
    file += line("stderr", "F", text);
    return feed(decoder, from, file.substr(from));
  };
  RecordDecoder first(source, "");
  CHECK(write(first, "java.lang.Error: x").empty());
  CHECK(write(first, "\tat a").empty());
  CHECK(write(first, "\tat b") == Texts{"java.lang.Error: x\n\tat a"});
  // In one chunk the last line of a record and the first of the next.
  CHECK(write(first, "\tat c").empty());
  const std::uint64_t before = file.size();
  file += line("stderr", "F", "\tat d") + line("stderr", "F", "\tat e") + line("stderr", "F", "\tat f");
  CHECK(feed(first, before, file.substr(before)) == Texts{"\tat b\n\tat c", "\tat d\n\tat e"});
  // The process dies; what it had not handed over is read again.
  const OpenRecords open = first.open();
  RecordDecoder second(source, "");
  const std::uint64_t from = open.streams[static_cast<std::size_t>(OutputStream::kStderr)].from;
  feed(second, from, file.substr(from));
  second.restore(open);
  CHECK(second.open() == open);
  CHECK(write(second, "\tat g").empty());
  // What begins no trace is one by itself; a first line waits for what follows.
  CHECK(write(second, "java") == (trace ? Texts{"\tat f\n\tat g", "java"} : Texts{"\tat f\n\tat g"}));
}

// Lines of up to two streams in parts, some of them traces; written, and what they should come out as.
struct Script {
  explicit Script(std::mt19937_64& random, bool joined) {
    std::map<std::string, std::string> open;  // by stream: the record so far
    int number = 0;
    for (int i = 0; i < 60; ++i) {
      const std::string stream = random() % 2 == 0 ? "stdout" : "stderr";
      const bool first = !joined || random() % 3 == 0 || open[stream].empty();
      std::string whole = (first ? std::to_string(++number) : "\tat") + " line " + std::to_string(i);
      if (first && !open[stream].empty()) expected[stream].push_back(open[stream]);
      open[stream] = first ? whole : open[stream] + "\n" + whole;
      while (random() % 3 == 0 && whole.size() > 2) {
        const std::size_t part = 1 + random() % (whole.size() - 1);
        lines.push_back(line(stream, "P", whole.substr(0, part)));
        whole.erase(0, part);
        if (random() % 2 == 0) {
          const std::string other = stream == "stdout" ? "stderr" : "stdout";
          const std::string between = std::to_string(++number) + " between";
          lines.push_back(line(other, "F", between));
          if (!open[other].empty()) expected[other].push_back(open[other]);
          open[other] = between;
        }
      }
      lines.push_back(line(stream, "F", whole));
    }
    for (auto& [stream, record] : open)
      if (!record.empty()) expected[stream].push_back(record);
  }
  std::vector<std::string> lines;
  std::map<std::string, Texts> expected;
};

TEST_CASE("records: the same records, whatever chunks, timeouts, rotations and restarts", "[io][records][oracle]") {
  for (std::uint64_t seed = 1; seed <= 400; ++seed) {
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    const bool joined = seed % 2 == 0;
    const Script script(random, joined);
    rules::SourceSpec source = joined ? cri(std::make_shared<rules::Multiline>(
                                            rules::Multiline::by_first_line(*rules::Regex::compile("^\\d"))))
                                      : cri();
    std::map<std::string, Texts> found;
    std::uint64_t begun = 0;
    // The bytes of each file, one after the other; the chunks' ends are where a reader may be asked to go on from.
    std::vector<std::string> files(1);
    std::deque<RecordDecoder> decoders;
    decoders.emplace_back(source, "");
    RecordBlock out;
    rules::Instant now;
    const auto take = [&] {
      for (std::size_t i = 0; i < out.records.size(); ++i) {
        const rules::Record& record = out.records[i];
        Texts& of_stream = found[*record.facts->find("stream")];
        const std::string text = out.text.substr(record.offset, record.length);
        if (out.told[i].evaluated > 0) {
          REQUIRE_FALSE(of_stream.empty());
          REQUIRE(of_stream.back() == text.substr(0, out.told[i].evaluated));
          of_stream.back() = text;
        } else {
          of_stream.push_back(text);
        }
      }
      begun += out.begun;
      out.clear();
    };
    const auto feed = [&](std::uint64_t from, const std::string& lines, bool counts) {
      Chunk chunk;
      chunk.block = lines;
      chunk.consumed = lines.size();
      decoders.back().feed(chunk, from, rules::from_unix_ms(1), now, out);
      if (counts) take();
      out.clear();
    };
    for (std::size_t next = 0; next < script.lines.size();) {
      std::string chunk;
      for (std::uint64_t n = 1 + random() % 4; n > 0 && next < script.lines.size(); --n)
        chunk += script.lines[next++];
      feed(files.back().size(), chunk, true);
      files.back() += chunk;
      if (random() % 4 == 0) {
        now += std::chrono::milliseconds(random() % 8000);
        decoders.back().flush(now, false, out);
        take();
      }
      if (random() % 6 == 0) {  // rotated: the next file goes on
        RecordDecoder after(source, "");
        after.take_over(decoders.back());
        decoders.push_back(std::move(after));
        files.emplace_back();
      }
      if (random() % 5 == 0 && !decoders.back().has_carried()) {  // the process dies; the next one reads again
        const OpenRecords open = decoders.back().open();
        std::uint64_t from = files.back().size();
        for (const OpenRecords::One& one : open.streams)
          if (one.is_open()) from = std::min(from, one.from);
        decoders.back() = RecordDecoder(source, "");
        feed(from, files.back().substr(from), false);
        decoders.back().restore(open);
        REQUIRE(decoders.back().open() == open);
      }
    }
    decoders.back().flush(now, true, out);
    take();
    std::size_t expected = 0;
    for (const auto& [stream, records] : script.expected) {
      CHECK(found[stream] == records);
      expected += records.size();
    }
    CHECK(begun == expected);
  }
}

}  // namespace
}  // namespace logbell::engine

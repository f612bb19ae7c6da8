// From bytes to lines: ends, halves, lengths, holes, encodings.
#include "engine/io/chunk.h"

#include <array>
#include <random>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "engine/io/decode.h"
#include "engine/io/survey.h"

namespace logbell::engine {
namespace {

using namespace std::string_literals;

struct Split {
  LineState state;
  std::string scratch;
  Chunk chunk;
  std::string block;
  std::string_view of(std::string_view raw, SplitRules rules = {}) {
    chunk = split(raw, rules, state, scratch);
    block = chunk.block;
    return block;
  }
};

TEST_CASE("chunk: whole lines are handed over as they are, half a line waits", "[io][chunk][F18]") {
  Split s;
  CHECK(s.of("one\ntwo\r\nthr") == "one\ntwo\r\n");
  CHECK(s.chunk.consumed == 9);
  CHECK(s.chunk.pending == 3);
  CHECK(s.chunk.lines == 2);
  CHECK(s.of("thr").empty());
  CHECK(s.chunk.consumed == 0);
  CHECK(s.of("").empty());
}

TEST_CASE("chunk: a flushed half line is handed over, and marked when its end comes", "[io][chunk][F18]") {
  Split s;
  CHECK(s.of("half", {.flush = true}) == "half");
  CHECK(s.chunk.consumed == 0);
  CHECK(s.chunk.lines == 1);
  CHECK(s.chunk.flushed);
  CHECK(s.state.evaluated == 4);
  CHECK(s.of("half", {.flush = true}).empty());
  CHECK(s.of("half a li").empty());
  CHECK(s.of("half a li", {.flush = true}) == "half a li");
  CHECK(s.chunk.evaluated == 4);
  CHECK(s.chunk.lines == 0);
  CHECK(s.of("half a line\nnext\n") == "half a line\nnext\n");
  CHECK(s.chunk.evaluated == 9);
  CHECK(s.chunk.lines == 1);
  CHECK(s.state == LineState{});
  CHECK(s.of("x\n") == "x\n");
  CHECK(s.chunk.evaluated == 0);
}

TEST_CASE("chunk: a line that is too long is cut, and the next one is unharmed", "[io][chunk][F19]") {
  const SplitRules rules{.max_line_bytes = 8};
  SECTION("within a block") {
    Split s;
    CHECK(s.of("short\n0123456789abc\nnext\n", rules) == "short\n01234567\nnext\n");
    CHECK(s.chunk.truncated == 1);
    CHECK(s.chunk.lines == 3);
    CHECK(s.chunk.consumed == 25);
  }
  SECTION("whose end is not there yet: it is handed over at once, the rest is skipped") {
    Split s;
    CHECK(s.of("a\n0123456789", rules) == "a\n01234567");
    CHECK(s.chunk.consumed == 12);
    CHECK(s.chunk.truncated == 1);
    CHECK(s.state.skipping);
    CHECK(s.of("more and more", rules).empty());
    CHECK(s.chunk.consumed == 13);
    CHECK(s.of("tail\nnext\nhal", rules) == "next\n");
    CHECK(s.chunk.consumed == 10);
    CHECK(s.chunk.lines == 1);
    CHECK_FALSE(s.state.skipping);
  }
  SECTION("exactly as long as it may be") {
    Split s;
    CHECK(s.of("01234567\n", rules) == "01234567\n");
    CHECK(s.chunk.truncated == 0);
    CHECK(s.of("01234567", rules).empty());
    CHECK(s.chunk.pending == 8);
  }
  SECTION("between two characters") {
    Split s;
    CHECK(s.of("123456\u00e4\u00e4\n", rules) == "123456\u00e4\n");
    CHECK(s.of("1234567\u00e4\n", rules) == "1234567\n");
    CHECK(s.of("12345\U0001f514\n", rules) == "12345\n");
    CHECK(s.of("12345678\x80\x80\x80\x80\n", rules) == "12345678\n");
    CHECK(s.of("1234\x80\x80\x80\x80\x80\n", rules) == "1234\x80\x80\x80\x80\n");
  }
  SECTION("that was flushed before") {
    Split s;
    CHECK(s.of("01234", {.max_line_bytes = 8, .flush = true}) == "01234");
    CHECK(s.of("0123456789", rules) == "01234567");
    CHECK(s.chunk.evaluated == 5);
    CHECK(s.chunk.lines == 0);
    CHECK(s.state.skipping);
  }
}

TEST_CASE("chunk: holes are skipped and no line is made of them", "[io][chunk][F4]") {
  const std::string hole(101, '\0');
  Split s;
  CHECK(s.of(hole + "one\n") == "one\n");
  CHECK(s.chunk.nul_bytes == 101);
  CHECK(s.chunk.lines == 1);
  CHECK(s.of(hole).empty());
  CHECK(s.chunk.consumed == 101);
  CHECK(s.chunk.pending == 0);
  CHECK(s.of("one\n" + hole + "two\n") == "one\ntwo\n");
  CHECK(s.of("one\n" + hole + "\ntwo\n") == "one\ntwo\n");
  CHECK(s.chunk.lines == 2);
  SECTION("one that cuts a line ends it") {
    CHECK(s.of("half" + hole + "new\n") == "half\nnew\n");
    CHECK(s.of("a\nhalf" + hole) == "a\nhalf");
    CHECK(s.chunk.consumed == 6);
    CHECK(s.chunk.again);
    CHECK(s.of(hole).empty());
    CHECK(s.chunk.consumed == 101);
  }
  SECTION("behind whole lines it is left to the next call") {
    CHECK(s.of("a\n" + hole + "b") == "a\n");
    CHECK(s.chunk.again);
    CHECK(s.chunk.consumed == 2);
  }
  SECTION("a few NULs within a line are text") {
    CHECK(s.of("a\0b\n"s) == "a\0b\n"s);
    CHECK(s.chunk.nul_bytes == 0);
  }
}

TEST_CASE("chunk: bytes that are no UTF-8, ANSI escapes, lone CRs and U+2028 are left alone", "[io][chunk][F20]") {
  Split s;
  const std::string raw = "\xff\xfe broken \xc0\xaf\n\x1b[31mred\x1b[0m\rmore\nU+2028 \u2028 same line\n";
  CHECK(s.of(raw) == raw);
  CHECK(s.chunk.lines == 3);
}

std::string utf16(std::string_view ascii, Encoding encoding) {
  std::string out;
  for (const char c : ascii) {
    if (encoding == Encoding::kUtf16Be) out.push_back('\0');
    out.push_back(c);
    if (encoding == Encoding::kUtf16Le) out.push_back('\0');
  }
  return out;
}

TEST_CASE("chunk: UTF-16 becomes UTF-8", "[io][chunk][F20]") {
  const Encoding encoding = GENERATE(Encoding::kUtf16Le, Encoding::kUtf16Be);
  const SplitRules rules{.encoding = encoding, .max_line_bytes = 8};
  Split s;
  CHECK(s.of(utf16("one\r\ntwo\nthr", encoding), rules) == "one\r\ntwo\n");
  CHECK(s.chunk.consumed == 18);
  CHECK(s.chunk.pending == 6);
  CHECK(s.of(utf16("0123456789abcdefgh", encoding), rules) == "01234567");
  CHECK(s.state.skipping);
  CHECK(s.chunk.truncated == 1);
  CHECK(s.of(utf16("tail\nnext\n", encoding), rules) == "next\n");
  CHECK(s.of(utf16("hal", encoding), {.encoding = encoding, .flush = true}) == "hal");
  CHECK(s.of(utf16("half\n", encoding), rules) == "half\n");
  CHECK(s.chunk.evaluated == 3);
}

TEST_CASE("decode: surrogates meet, halves become U+FFFD", "[io][decode][F20]") {
  std::string out;
  append_utf16("\x3d\xd8\x14\xdd"s, Encoding::kUtf16Le, out);
  CHECK(out == "\U0001f514");
  out.clear();
  append_utf16("\x3d\xd8\x41\x00\x14\xdd\xac\x20"s, Encoding::kUtf16Le, out);
  CHECK(out == "\uFFFD"
               "A\uFFFD\u20ac");
  CHECK(byte_order_mark("\xEF\xBB\xBFx").bytes == 3);
  CHECK(byte_order_mark("\xFF\xFEx").encoding == Encoding::kUtf16Le);
  CHECK(byte_order_mark("\xFE\xFFx").encoding == Encoding::kUtf16Be);
  CHECK(byte_order_mark("plain").bytes == 0);
}

// What a stream says must not depend on where the reads happen to end.
TEST_CASE("chunk: however the bytes come in, the lines are the same", "[io][chunk]") {
  std::mt19937 random(20260501);
  for (int round = 0; round < 2000; ++round) {
    constexpr std::size_t kMax = 12;
    std::string text;
    std::vector<std::string> expected;
    const int lines = static_cast<int>(random() % 6);
    for (int i = 0; i < lines; ++i) {
      std::string line(random() % 20, static_cast<char>('a' + random() % 26));
      text += line + "\n";
      expected.push_back(line.substr(0, kMax));
    }
    LineState state;
    std::string scratch;
    std::vector<std::string> got;
    std::size_t done = 0;
    std::size_t there = 0;
    while (there < text.size()) {
      there += 1 + random() % 15;
      there = std::min(there, text.size());
      const Chunk chunk = split(std::string_view(text).substr(done, there - done), {.max_line_bytes = kMax},
                                state, scratch);
      done += chunk.consumed;
      std::string_view block = chunk.block;
      while (!block.empty()) {
        const std::size_t end = std::min(block.find('\n'), block.size());
        got.emplace_back(block.substr(0, end));
        block.remove_prefix(std::min(end + 1, block.size()));
      }
    }
    REQUIRE(got == expected);
    REQUIRE(done == text.size());
  }
}

}  // namespace
TEST_CASE("survey: as counted byte by byte, whatever the length and the processor", "[io][chunk]") {
  constexpr std::array kAll = {Lanes::kBest, Lanes::k64, Lanes::k32, Lanes::k16};
  std::mt19937 random(5);
  for (std::size_t length = 0; length < 40'000; length += length < 300 ? 1 : 4001) {
    std::string block;
    std::uint64_t newlines = 0;
    for (std::size_t i = 0; i < length; ++i) {
      block += "\nx\xff\x8a\v\x01\n"[random() % 7];
      newlines += block.back() == '\n' ? 1 : 0;
    }
    std::string with_nul = block;
    if (length > 0) with_nul[random() % length] = '\0';
    for (const Lanes lanes : kAll) {
      CHECK(survey(block, lanes).newlines == newlines);
      CHECK_FALSE(survey(block, lanes).has_nul);
      CHECK(survey(with_nul, lanes).has_nul == (length > 0));
    }
  }
  for (const Lanes lanes : kAll)
    CHECK(survey(std::string(100'000, '\n'), lanes).newlines == 100'000);
}

}  // namespace logbell::engine

// The fast matcher against the plain one: the same matches, captures included, whatever the patterns and
// bytes.
#include "rules/prefilter.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "rules/pattern.h"
#include "tests/support/random_patterns.h"

using namespace logbell::rules;
using logbell::tests::RandomPatterns;

namespace {

std::vector<std::uint32_t> all_of(const std::vector<PatternSpec>& patterns) {
  std::vector<std::uint32_t> wanted;
  for (std::uint32_t i = 0; i < patterns.size(); ++i)
    wanted.push_back(i);
  return wanted;
}

// As text, so that a failure can be read.
std::vector<std::string> said(const std::vector<Match>& matches) {
  std::vector<std::string> out;
  for (const Match& match : matches) {
    std::string text = std::to_string(match.line_offset) + "+" + std::to_string(match.line_length) + " p" +
                       std::to_string(match.pattern) + " " +
                       (std::isnan(match.value) ? "-" : std::to_string(match.value));
    for (const std::string& label : match.labels)
      text += " " + label;
    out.push_back(std::move(text));
  }
  return out;
}

struct Both {
  std::vector<std::string> plain;
  std::vector<std::string> fast;
};

Both both(const std::vector<PatternSpec>& patterns, LineFormat format, std::string_view block,
          std::span<const Record> records = {}, bool sampled = true) {
  const PatternSet set = PatternSet::compile(patterns, all_of(patterns), format);
  PatternSet::Scratch scratch;
  Both out;
  for (const bool fast : {false, true}) {
    if (fast) set.accelerate(sampled ? block : std::string_view());
    std::vector<Match> found;
    if (records.empty()) {
      set.match(block, scratch, found);
    } else {
      set.match(block, records, scratch, found);
    }
    (fast ? out.fast : out.plain) = said(found);
  }
  return out;
}

const std::string kNone = "they agree";

// The first match that only one of them found.
std::string difference(const Both& found) {
  for (std::size_t i = 0; i < std::max(found.plain.size(), found.fast.size()); ++i) {
    const std::string plain = i < found.plain.size() ? found.plain[i] : "";
    const std::string fast = i < found.fast.size() ? found.fast[i] : "";
    if (plain != fast) return std::string("plain: ").append(plain).append(", fast: ").append(fast);
  }
  return kNone;
}

// Its bytes, those that cannot be shown as \x...
std::string shown(std::string_view text) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte >= 0x20 && byte < 0x7F) || c == '\n') {
      out += c;
    } else {
      out += std::string("\\x") + kHex[byte >> 4U] + kHex[byte & 15U];
    }
  }
  return out;
}

PatternSpec spec_of(std::string_view regex) {
  PatternSpec spec;
  spec.name = "p";
  spec.match.push_back(*Regex::compile(regex));
  return spec;
}

bool is_everywhere(std::string_view regex) {
  const PatternSpec spec = spec_of(regex);
  const PatternSpec* const one[] = {&spec};
  return !Prefilter::compile(one, LineFormat::kText, {}).everywhere().empty();
}

// Seeds of a test, or one of them again: LOGBELL_MATCH_SEED.
std::pair<std::uint64_t, std::uint64_t> seeds(std::uint64_t count) {
  if (const char* one = std::getenv("LOGBELL_MATCH_SEED")) {
    const std::uint64_t seed = std::strtoull(one, nullptr, 10);
    return {seed, seed + 1};
  }
  if (const char* many = std::getenv("LOGBELL_MATCH_SEEDS")) return {1, 1 + std::strtoull(many, nullptr, 10)};
  return {1, 1 + count};
}

}  // namespace

TEST_CASE("prefilter: random regexes on random bytes match what they match line by line",
          "[rules][prefilter]") {
  const auto [from, to] = seeds(300);
  for (std::uint64_t seed = from; seed < to; ++seed) {
    RandomPatterns random(seed);
    std::vector<PatternSpec> patterns;
    std::string regexes;
    while (patterns.size() < 1 + seed % 6) {
      const std::string text = random.regex();
      auto regex = Regex::compile(text);
      if (!regex) continue;
      PatternSpec spec;
      spec.name = "p" + std::to_string(patterns.size());
      if (regex->group_index("n")) spec.labels = {"n"};
      spec.match.push_back(*std::move(regex));
      if (random.below(4) == 0) {
        if (auto other = Regex::compile(random.regex(1))) spec.match.push_back(*std::move(other));
      }
      if (random.below(8) == 0) {
        if (auto other = Regex::compile(random.regex(1))) spec.exclude.push_back(*std::move(other));
      }
      for (const Regex& each : spec.match)
        regexes += each.pattern() + "\n";
      patterns.push_back(std::move(spec));
    }
    const std::string block = random.block(200);
    const Both found = both(patterns, LineFormat::kText, block, {}, seed % 2 == 0);
    INFO("LOGBELL_MATCH_SEED=" << seed << "\n" << shown(regexes) << shown(block));
    REQUIRE(difference(found) == kNone);
  }
}

TEST_CASE("prefilter: fields of JSON and logfmt are found however they are written", "[rules][prefilter]") {
  const auto [from, to] = seeds(150);
  for (std::uint64_t seed = from; seed < to; ++seed) {
    RandomPatterns random(seed);
    static constexpr std::string_view kValues[] = {"error",    "kill", "500",   "true", "a/b",
                                                   "\xC3\xA9", "a\"b", "a\\b",  "",     "null",
                                                   "k s",      "a\nb", "stdout"};
    static constexpr std::string_view kFields[] = {"level", "a.b", "stream", "msg"};
    static constexpr std::string_view kRegexes[] = {"^err", "or$", "\\bkill\\b", "(?i)K", "^\\d+$",
                                                    ".",    "a.b", "tru",        "[^a]b", "\xC3\xA9"};
    std::vector<PatternSpec> patterns;
    while (patterns.size() < 4) {
      PatternSpec spec;
      for (std::size_t n = 1 + random.below(3); n > 0; --n) {
        FieldTest test;
        test.field = random.one(kFields);
        if (random.below(2) == 0) {
          test.equals.emplace_back(random.one(kValues));
          if (random.below(3) == 0) test.equals.emplace_back(random.one(kValues));
        } else {
          test.match = *Regex::compile(random.one(kRegexes));
        }
        test.negated = random.below(5) == 0;
        spec.where.push_back(std::move(test));
      }
      if (random.below(3) == 0) spec.match.push_back(*Regex::compile(random.one(kRegexes)));
      patterns.push_back(std::move(spec));
    }
    for (const LineFormat format : {LineFormat::kJson, LineFormat::kLogfmt}) {
      std::string block;
      std::vector<Record> records;
      Facts facts;
      facts.set("stream", "stdout");
      for (int line = 0; line < 100; ++line) {
        const auto written = [&](std::string_view value) {
          std::string text;
          for (const char c : value) {
            const auto byte = static_cast<unsigned char>(c);
            if (format == LineFormat::kJson && byte < 0x80 && random.below(6) == 0) {
              static constexpr char kHex[] = "0123456789abcdef";
              text += std::string("\\u00") + kHex[byte >> 4U] + kHex[byte & 15U];
            } else if (c == '\n') {
              text += "\\n";
            } else if (c == '"' || c == '\\' ||
                       (format == LineFormat::kLogfmt && random.below(6) == 0 && c != 'n' && c != 't') ||
                       (c == '/' && random.below(2) == 0)) {
              text += std::string("\\") + c;
            } else {
              text += c;
            }
          }
          return text;
        };
        std::string text = format == LineFormat::kJson ? "{" : "";
        for (const std::string_view field : {"level", "a.b", "stream", "msg"}) {
          if (random.below(4) == 0) continue;
          const std::string_view value = random.one(kValues);
          if (format == LineFormat::kLogfmt) {
            if (random.below(6) == 0) {
              text += std::string(field) + " ";
            } else {
              text += std::string(field) + "=\"" + written(value) + "\" ";
            }
            continue;
          }
          if (text.size() > 1) text += ",";
          const bool bare = (value == "500" || value == "true" || value == "null") && random.below(2) == 0;
          const std::string shown = bare ? std::string(value) : "\"" + written(value) + "\"";
          text += field == "a.b" ? "\"a\":{\"b\":" + shown + "}" : "\"" + std::string(field) + "\": " + shown;
        }
        if (format == LineFormat::kJson) text += "}";
        records.push_back({block.size(), text.size(), random.below(2) == 0 ? &facts : nullptr});
        block += text + "\n";
      }
      INFO("LOGBELL_MATCH_SEED=" << seed << "\n" << block);
      const Both lines = both(patterns, format, block);
      REQUIRE(difference(lines) == kNone);
      const Both of_records = both(patterns, format, block, records);
      REQUIRE(difference(of_records) == kNone);
    }
  }
}

TEST_CASE(
    "prefilter: records are looked at as one line, with breaks in them and cut where they were handed over",
    "[rules][prefilter]") {
  const auto [from, to] = seeds(100);
  for (std::uint64_t seed = from; seed < to; ++seed) {
    RandomPatterns random(seed);
    std::vector<PatternSpec> patterns;
    while (patterns.size() < 4) {
      auto regex = Regex::compile(random.regex());
      if (!regex) continue;
      patterns.emplace_back();
      patterns.back().match.push_back(*std::move(regex));
    }
    std::string block;
    std::vector<Record> records;
    for (int i = 0; i < 60; ++i) {
      std::string text = random.line();
      while (random.below(3) == 0)
        text += "\n" + random.line();
      const std::size_t length = random.below(6) == 0 ? random.below(text.size() + 1) : text.size();
      records.push_back({block.size(), length, nullptr});
      block += text + "\n";
    }
    INFO("LOGBELL_MATCH_SEED=" << seed);
    const Both found = both(patterns, LineFormat::kText, block, records);
    REQUIRE(difference(found) == kNone);
  }
}

TEST_CASE("prefilter: what is hard for a search in bytes", "[rules][prefilter]") {
  struct Row {
    std::string_view regex;
    std::string_view block;
    std::size_t matches;
  };
  const std::string far(100'000, 'y');
  const std::string spanning = "start " + far + "\nend\n";
  const Row rows[] = {
      {"(?i)kernel",
       "\xE2\x84\xAA"
       "ernel\n",
       1},
      {"(?i)session",
       "\xC5\xBF"
       "ession\nse\xC5\xBF\xC5\xBFion\n",
       2},
      {"(?i)\xC3\xA9t\xC3\xA9", "\xC3\x89T\xC3\x89\n", 1},
      {"^a.c$",
       "a\xC3\xA9"
       "c\naxc\na\xE2\x82\xAC"
       "c\nabbc\n",
       3},
      {"^.{3}$", "\xE2\x82\xAC\xE2\x82\xAC\xE2\x82\xAC\n", 1},
      {"\\pL+9",
       "\xCE\xBB"
       "9\n",
       1},
      {"^a\\Cb$",
       "a\xFF"
       "b\n",
       1},
      {"x\\x00y", std::string_view("x\0y\n", 4), 1},
      {"foo$", "foo\r\nfoo\nfoo", 3},
      {"\\Afoo\\z", "foo\r\nfoo\nfoo x\n", 2},
      {"^\\Bfoo", "foo\n", 0},
      {"\\bfoo\\b", "foo\nxfoo\nfoo\xC3\xA9\n", 2},
      {"start[^x]*end", spanning, 0},
      {"start\\s+end", "start\nend\nstart  end\n", 1},
      {"[^\\x00-\\x{10FFFF}]", "a\n\xFF\n", 1},  // the class has no byte beyond those of U+10FFFF
      {"$", "a\n\n", 2},
      {"", "a\n\n", 2},
      {"a|", "b\n", 1},
      {"\xC3\xA9{0}x", "\xC3x\nx\n", 2},
      {"(?m)^b$", "a\rb\nb\n", 1},
      {"abc\xC3\xA9{0}def",
       "abc\xC3"
       "def\nabcdef\n",
       2},
      {"(?i)[k]error",
       "\xE2\x84\xAA"
       "error\n",
       1},
      {"(?i)[\\x{212A}]error", "kerror\n", 1},
      {"(?i)\\x{17f}error", "Serror\n", 1},
      {"(?i)[\xC5\xBF]error", "Serror\n", 1},
      {"x[^a]rror", "x\xC3\xA9rror\n", 1},
      {"x[\xC3\xA9]rror", "x\xC3\xA9rror\n", 1},
      {"x[a-\xC3\xA9]rror", "x\xC3\xA9rror\n", 1},
      {"x\\Wrror", "x\xE2\x82\xACrror\n", 1},
      {"(?i)x(?-i:y)error", "XyERROR\n", 1},
      {"(?i)(?:(?-i)x|y)error", "yERROR\nYerror\n", 1},
      {"erro(?i)r{0,1}s", "erros\nerroRS\n", 2},
      {"^^error", "error\n", 1},
      {"^\\Aerror\\z$", "error\r\n", 1},
      {"err(?:x|yy)ror", "errxror\nerryyror\n", 2},
      {"err(?:xx)*ror", "errror\nerrxxror\n", 2},
      {"err(?:xx){2,3}ror", "errxxxxror\nerrxxxxxxror\n", 2},
      {"e(?:rr){2,}or", "errrror\nerrrrrror\n", 2},
      {"\\Qerr\\E{2}ror", "errrror\nerrror\n", 1},
  };
  for (const Row& row : rows) {
    INFO(row.regex);
    const Both found = both({spec_of(row.regex)}, LineFormat::kText, row.block);
    CHECK(found.plain.size() == row.matches);
    CHECK(difference(found) == kNone);
  }
}

TEST_CASE("prefilter: a line at each end of the block, alone, and longer than what a scanner likes",
          "[rules][prefilter]") {
  const std::string line(700'000, 'z');
  for (const std::string& block :
       {std::string("error"), std::string("error\n"), "error" + line, line + "error",
        line + "error\nx\nerror\n", std::string("\n\n\nerror"), std::string("\n"), std::string()}) {
    const Both found = both({spec_of("error"), spec_of("z$")}, LineFormat::kText, block);
    CHECK(difference(found) == kNone);
  }
}

TEST_CASE("prefilter: what people write is searched for, and only what matches anywhere is not",
          "[rules][prefilter]") {
  for (const std::string_view regex :
       {"ERROR", "(?i)error", "status=(?P<status>5\\d\\d)", "^\\S+ (?:FATAL|CRITICAL) ", "took (\\d{4,})ms",
        "x?error.*", ".*error.*$", "(?i)\\b(?:panic|segfault|oom-killer)\\b",
        "login failed for user '?(\\w+)'? from (\\d{1,3}\\.\\d{1,3})", "exit status ([1-9]\\d*)$",
        "queue (\\S+) is full", "\"level\":\\s*\"(?:error|fatal)\"", "foo.{0,100}bar", "a{1000}"}) {
    INFO(regex);
    CHECK_FALSE(is_everywhere(regex));
  }
  for (const std::string_view regex : {".*", "a*", "^", "$", "\\b", "(?:)", "a|b*", "\\d+ms", "[A-Z]{5}"}) {
    INFO(regex);
    CHECK(is_everywhere(regex));
  }
}

TEST_CASE("prefilter: patterns that can be searched for and others, together, in their order",
          "[rules][prefilter]") {
  const Both found =
      both({spec_of("b"), spec_of(".*"), spec_of("a"), spec_of("^$")}, LineFormat::kText, "ab\n\nb\nx\n");
  CHECK(found.plain == std::vector<std::string>{"0+2 p0 -", "0+2 p1 -", "0+2 p2 -", "3+0 p1 -", "3+0 p3 -",
                                                "4+1 p0 -", "4+1 p1 -", "6+1 p1 -"});
  CHECK(difference(found) == kNone);
}

TEST_CASE("prefilter: a set learns from the first lines that it sees, and then finds the same",
          "[rules][prefilter]") {
  const std::vector<PatternSpec> patterns{spec_of("error (?P<code>\\d+)"), spec_of("b$")};
  const PatternSet plain =
      PatternSet::compile(patterns, all_of(patterns), LineFormat::kText, PatternSet::Matcher::kPlain);
  const PatternSet fast = PatternSet::compile(patterns, all_of(patterns), LineFormat::kText);
  PatternSet::Scratch scratch;
  std::string block;
  for (int i = 0; i < 200; ++i)
    block += "line " + std::to_string(i) + (i % 7 == 0 ? " error " + std::to_string(i) : "") +
             (i % 5 == 0 ? " b\r\n" : "\n");
  std::size_t seen = 0;
  for (int round = 0; round < 50; ++round, seen += block.size()) {
    std::vector<Match> slow;
    std::vector<Match> quick;
    plain.match(block, scratch, slow);
    fast.match(block, scratch, quick);
    REQUIRE(slow.size() == 69);
    REQUIRE(said(slow) == said(quick));
  }
  CHECK(seen > PatternSet::kSampleBytes);
}

// Bytes of a log, in pieces as they are written: the lines are the same as in one piece, matching a block
// finds what matching each line finds, and no time, field or label of a line ends the process.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/io/chunk.h"
#include "engine/io/decode.h"
#include "rules/pattern.h"
#include "rules/plan.h"
#include "rules/redact.h"
#include "rules/result.h"

namespace {

using namespace logbell;

constexpr std::size_t kMaxLine = 64;

std::vector<std::string> lines_of(std::string_view text, std::size_t piece) {
  std::vector<std::string> lines;
  engine::LineState state;
  std::string scratch;
  std::size_t done = 0;
  std::size_t there = 0;
  bool again = false;
  while (there < text.size() || again) {
    if (!again) there = std::min(text.size(), there + piece);
    const engine::Chunk chunk =
        engine::split(text.substr(done, there - done), {.max_line_bytes = kMaxLine}, state, scratch);
    done += chunk.consumed;
    LOGBELL_CHECK(done <= there);
    again = chunk.again;
    for (std::string_view block = chunk.block; !block.empty();) {
      const std::size_t end = std::min(block.find('\n'), block.size());
      lines.emplace_back(block.substr(0, end));
      LOGBELL_CHECK(lines.back().size() <= kMaxLine);
      block.remove_prefix(std::min(end + 1, block.size()));
    }
  }
  return lines;
}

std::vector<rules::PatternSpec> patterns() {
  std::vector<rules::PatternSpec> specs(2);
  specs[0].name = "plain";
  specs[0].match.push_back(*rules::Regex::compile("(?i)err(?P<code>[0-9]*)|^$"));
  specs[0].labels = {"code"};
  specs[1].name = "field";
  specs[1].match.push_back(*rules::Regex::compile(".*\\bx"));
  specs[1].exclude.push_back(*rules::Regex::compile("no"));
  return specs;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::size_t piece = 1 + data[0] % 32;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  // A hole's length is judged in what is there: with NULs, pieces may differ.
  if (text.find('\0') == std::string_view::npos)
    LOGBELL_CHECK(lines_of(text, piece) == lines_of(text, text.size() + 1));

  static const std::vector<rules::PatternSpec> specs = patterns();
  static const std::vector<std::uint32_t> wanted{0, 1};
  const std::string cut(text.substr(0, 4096));
  for (const rules::LineFormat format :
       {rules::LineFormat::kText, rules::LineFormat::kJson, rules::LineFormat::kLogfmt}) {
    const rules::PatternSet set = rules::PatternSet::compile(specs, wanted, format);
    rules::PatternSet::Scratch scratch;
    std::vector<rules::Match> found;
    set.match(cut, scratch, found);
    std::size_t counted = 0;
    for (std::string_view rest = cut; !rest.empty();) {
      const std::size_t end = std::min(rest.find('\n'), rest.size());
      for (const rules::PatternSpec& spec : specs)
        counted += rules::matches_line(spec, format, rest.substr(0, end)) ? 1 : 0;
      rest.remove_prefix(std::min(end + 1, rest.size()));
    }
    LOGBELL_CHECK(counted == found.size());
    rules::SourceSpec source;
    source.format = format;
    static_cast<void>(engine::LineTimes().read(source, cut, *rules::parse_rfc3339("2026-05-01T10:00:00Z")));
  }
  return 0;
}

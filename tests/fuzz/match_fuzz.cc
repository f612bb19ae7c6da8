// Patterns and a log: the fast matcher finds what RE2 finds on each line, captures included; of lines and of
// records. The input's first line is a word for how ("text", "json", "logfmt", "records", "sampled"); then
// regexes, a line each; an empty line; the log.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "rules/pattern.h"
#include "rules/result.h"
#include "tests/fuzz/support.h"

namespace {

using namespace logbell;
using rules::LineFormat;
using rules::PatternSet;

constexpr std::size_t kMostPatterns = 6;
constexpr std::size_t kMostRegexBytes = 200;  // RE2's own time is not what is tried here
constexpr std::size_t kMostLogBytes = 8192;

std::vector<rules::PatternSpec> patterns_of(std::string_view text, LineFormat format) {
  std::vector<rules::PatternSpec> specs;
  for (const std::string_view line : fuzz::split_all(text, '\n')) {
    auto regex = rules::Regex::compile(line.substr(0, kMostRegexBytes));
    if (!regex || specs.size() == kMostPatterns) continue;
    rules::PatternSpec spec;
    for (const std::string& name : regex->group_names()) {
      if (!name.empty()) spec.labels.push_back(name);
    }
    std::sort(spec.labels.begin(), spec.labels.end());
    // Of every second one in JSON or logfmt it is a field that is asked, and of some the value itself.
    if (format != LineFormat::kText && specs.size() % 2 == 1) {
      rules::FieldTest test;
      test.field = specs.size() % 4 == 1 ? "level" : "a.b";
      if (specs.size() % 3 == 0) {
        test.equals = {std::string(line)};
      } else {
        test.match = *std::move(regex);
      }
      spec.where.push_back(std::move(test));
    } else {
      spec.match.push_back(*std::move(regex));
    }
    specs.push_back(std::move(spec));
  }
  return specs;
}

bool same(const rules::Match& a, const rules::Match& b) {
  return a.pattern == b.pattern && a.line_offset == b.line_offset && a.line_length == b.line_length &&
         a.labels == b.labels && a.labels_cut == b.labels_cut;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto [head, rest] = fuzz::split_at(fuzz::text_of(data, size), '\n');
  const fuzz::Words words(head);
  const std::size_t gap = std::min(rest.find("\n\n"), rest.size());
  const std::string log(rest.substr(std::min(rest.size(), gap + 2)).substr(0, kMostLogBytes));
  const LineFormat format = words.has("json")     ? LineFormat::kJson
                            : words.has("logfmt") ? LineFormat::kLogfmt
                                                  : LineFormat::kText;
  const std::vector<rules::PatternSpec> specs = patterns_of(rest.substr(0, gap), format);
  if (specs.empty() || log.empty()) return 0;
  std::vector<std::uint32_t> wanted;
  for (std::uint32_t i = 0; i < specs.size(); ++i)
    wanted.push_back(i);
  const PatternSet plain = PatternSet::compile(specs, wanted, format, PatternSet::Matcher::kPlain);
  const PatternSet fast = PatternSet::compile(specs, wanted, format);
  fast.accelerate(words.has("sampled") ? std::string_view(log) : std::string_view());

  std::vector<rules::Record> records;
  if (words.has("records")) {
    // Records of one to three lines, as a decoder hands them over.
    for (std::size_t at = 0; at < log.size();) {
      std::size_t end = at;
      for (std::size_t lines = 1 + records.size() % 3; lines > 0 && end < log.size(); --lines)
        end = std::min(log.find('\n', end), log.size()) + (lines > 1 ? 1 : 0);
      end = std::min(end, log.size());
      records.push_back({at, end - at, nullptr});
      at = end + 1;
    }
  }
  PatternSet::Scratch scratch;
  std::vector<rules::Match> slow;
  std::vector<rules::Match> quick;
  for (const auto& [set, out] : {std::pair(&plain, &slow), std::pair(&fast, &quick)}) {
    if (records.empty()) {
      set->match(log, scratch, *out);
    } else {
      set->match(log, records, scratch, *out);
    }
  }
  LOGBELL_CHECK(std::equal(slow.begin(), slow.end(), quick.begin(), quick.end(), same));
  return 0;
}

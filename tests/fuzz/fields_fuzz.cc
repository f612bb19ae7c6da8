// The fields of a JSON and of a logfmt line: a JSON object has exactly those that another parser finds in it,
// what is no JSON object has none, and a logfmt line that is written from fields has exactly those.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "rules/json.h"
#include "rules/pattern.h"
#include "rules/regex.h"
#include "rules/result.h"
#include "tests/fuzz/support.h"

namespace {

using namespace logbell;

constexpr int kMaxDepth = 60;  // both end at 64, and count a little differently

int depth_of(const rules::Json& json) {
  int deepest = 0;
  for (const rules::Json& item : json.array())
    deepest = std::max(deepest, depth_of(item));
  for (const auto& [name, value] : json.object())
    deepest = std::max(deepest, depth_of(value));
  return deepest + (json.is_array() || json.is_object() ? 1 : 0);
}

// The scalar members, nested names joined with "."; of two members of one name the last counts.
void flatten(const rules::Json& object, const std::string& prefix, std::map<std::string, rules::Json>& out) {
  for (const auto& [name, value] : object.object()) {
    if (value.is_object()) {
      flatten(value, prefix + name + ".", out);
    } else {
      out[prefix + name] = value;
    }
  }
}

void check_json(std::string_view line) {
  rules::JsonLineReader reader;
  const bool read = reader.read(line);
  LOGBELL_CHECK(read || reader.fields().empty());
  const rules::Result<rules::Json> parsed = rules::Json::parse(line);
  // simdjson is the more lenient of the two: it does not look at what nobody asks for.
  if (!parsed || !parsed->is_object()) return;
  if (depth_of(*parsed) > kMaxDepth) return;
  LOGBELL_CHECK(read);
  std::map<std::string, rules::Json> expected;
  flatten(*parsed, "", expected);
  std::map<std::string, std::string> found;
  for (const rules::JsonLineReader::Field& field : reader.fields())
    found[field.name] = field.value;
  for (const auto& [name, value] : expected) {
    const auto at = found.find(name);
    LOGBELL_CHECK(at != found.end());
    if (value.is_string()) LOGBELL_CHECK(at->second == value.string());
    if (value.is_bool()) LOGBELL_CHECK(at->second == (value.boolean() ? "true" : "false"));
    if (value.is_null()) LOGBELL_CHECK(at->second == "null");
    // Numbers and lists as they are written.
    if (value.is_number() || value.is_array()) {
      const rules::Result<rules::Json> again = rules::Json::parse(at->second);
      LOGBELL_CHECK(again.has_value() && again->dump() == value.dump());
    }
  }
}

// Each pair of lines is a name and a value; written as logfmt, a value in quotes where it must be.
void check_logfmt(std::string_view text) {
  const std::vector<std::string_view> lines = fuzz::split_all(text.substr(0, 1024), '\n');
  std::string line;
  std::map<std::string, std::string> first;  // of two fields of one name the first counts
  for (std::size_t i = 0; i + 1 < lines.size() && i < 16; i += 2) {
    std::string name;
    for (const char c : lines[i])
      name += static_cast<unsigned char>(c) <= ' ' || c == '=' || c == '"' ? '_' : c;
    if (name.empty()) continue;
    const std::string value(lines[i + 1]);
    line += (line.empty() ? "" : " ") + name + "=";
    if (value.find_first_of(" \t\"\\=") == std::string::npos && !value.empty()) {
      line += value;
    } else {
      line += '"';
      for (const char c : value) {
        if (c == '"' || c == '\\') line += '\\';
        line += c;
      }
      line += '"';
    }
    first.emplace(name, value);
  }
  if (!line.empty() && line.back() == '\r') return;  // the line's end, not the value's
  for (const auto& [name, value] : first) {
    rules::PatternSpec spec;
    spec.name = "p";
    spec.where.push_back({.field = name, .equals = {value}, .match = std::nullopt, .negated = false});
    LOGBELL_CHECK(rules::matches_line(spec, rules::LineFormat::kLogfmt, line));
    spec.where[0].negated = true;
    LOGBELL_CHECK(!rules::matches_line(spec, rules::LineFormat::kLogfmt, line));
  }
}

// A line as it came: a test and its opposite never agree, whatever the line is, and its labels can be shown.
void check_line(std::string_view line, rules::LineFormat format) {
  static const std::vector<rules::PatternSpec> kSpecs = [] {
    std::vector<rules::PatternSpec> specs(2);
    specs[0].name = "is";
    specs[0].where.push_back({.field = "level",
                              .equals = {},
                              .match = *rules::Regex::compile("(?i)^(?P<how>err|warn)"),
                              .negated = false});
    specs[0].labels = {"how", "http.status", "msg"};
    specs[0].value = "took";
    specs[1] = specs[0];
    specs[1].name = "is_not";
    specs[1].where[0].negated = true;
    return specs;
  }();
  static const std::vector<std::uint32_t> kWanted{0, 1};
  const rules::PatternSet set = rules::PatternSet::compile(kSpecs, kWanted, format);
  rules::PatternSet::Scratch scratch;
  std::vector<rules::Match> found;
  const rules::Record record{0, line.size(), nullptr};
  set.match(line, std::span(&record, 1), scratch, found);
  LOGBELL_CHECK(found.size() == 1);
  LOGBELL_CHECK(found[0].line_length == line.size() && found[0].labels.size() == 3);
  for (const std::string& label : found[0].labels)
    LOGBELL_CHECK(fuzz::is_clean(label, false) && label.size() <= rules::kMaxLabelBytes);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text = fuzz::text_of(data, size);
  check_json(text);
  check_logfmt(text);
  check_line(text, rules::LineFormat::kJson);
  check_line(text, rules::LineFormat::kLogfmt);
  return 0;
}

#include "engine/io/decode.h"

#include <cstdint>

namespace logbell::engine {
namespace {

void append_utf8(char32_t code, std::string& out) {
  const auto put = [&](char32_t byte) { out.push_back(static_cast<char>(static_cast<unsigned char>(byte))); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0U | (code >> 6U));
    put(0x80U | (code & 0x3FU));
  } else if (code < 0x10000) {
    put(0xE0U | (code >> 12U));
    put(0x80U | ((code >> 6U) & 0x3FU));
    put(0x80U | (code & 0x3FU));
  } else {
    put(0xF0U | (code >> 18U));
    put(0x80U | ((code >> 12U) & 0x3FU));
    put(0x80U | ((code >> 6U) & 0x3FU));
    put(0x80U | (code & 0x3FU));
  }
}

// The value of a logfmt line's field that holds a time: `name`, or the usual ones. Values may be quoted; one
// with an escape in it is no time.
std::optional<std::string_view> logfmt_time_field(std::string_view line, std::string_view name) {
  std::size_t at = 0;
  while (at < line.size()) {
    while (at < line.size() && (line[at] == ' ' || line[at] == '\t'))
      ++at;
    const std::size_t key_from = at;
    while (at < line.size() && line[at] != '=' && line[at] != ' ' && line[at] != '\t')
      ++at;
    const std::string_view key = line.substr(key_from, at - key_from);
    if (at >= line.size() || line[at] != '=') continue;
    ++at;
    std::string_view value;
    if (at < line.size() && line[at] == '"') {
      const std::size_t value_from = ++at;
      while (at < line.size() && line[at] != '"')
        at += line[at] == '\\' ? 2U : 1U;
      value = line.substr(value_from, std::min(at, line.size()) - value_from);
      ++at;
    } else {
      const std::size_t value_from = at;
      while (at < line.size() && line[at] != ' ' && line[at] != '\t')
        ++at;
      value = line.substr(value_from, at - value_from);
    }
    if (name.empty() ? rules::is_time_field(key) : key == name) return value;
  }
  return std::nullopt;
}

}  // namespace

ByteOrderMark byte_order_mark(std::string_view head) {
  if (head.substr(0, 3) == "\xEF\xBB\xBF") return {Encoding::kBytes, 3};
  if (head.substr(0, 2) == "\xFF\xFE") return {Encoding::kUtf16Le, 2};
  if (head.substr(0, 2) == "\xFE\xFF") return {Encoding::kUtf16Be, 2};
  return {};
}

void append_utf16(std::string_view raw, Encoding encoding, std::string& out) {
  const auto unit = [&](std::size_t at) {
    const auto first = static_cast<unsigned char>(raw[at]);
    const auto second = static_cast<unsigned char>(raw[at + 1]);
    return encoding == Encoding::kUtf16Le ? static_cast<char32_t>(first | (second << 8U))
                                          : static_cast<char32_t>((first << 8U) | second);
  };
  for (std::size_t at = 0; at + 1 < raw.size(); at += 2) {
    const char32_t code = unit(at);
    if (code < 0xD800 || code > 0xDFFF) {
      append_utf8(code, out);
      continue;
    }
    const char32_t low = code < 0xDC00 && at + 3 < raw.size() ? unit(at + 2) : 0;
    if (low < 0xDC00 || low > 0xDFFF) {
      append_utf8(0xFFFD, out);
      continue;
    }
    append_utf8(0x10000 + ((code - 0xD800) << 10U) + (low - 0xDC00), out);
    at += 2;
  }
}

std::optional<rules::Timestamp> LineTimes::read(const rules::SourceSpec& source, std::string_view line,
                                                rules::Timestamp reference) {
  if (source.timestamp_reader == nullptr) return std::nullopt;
  const rules::TimestampReader& reader = *source.timestamp_reader;
  const std::string& field = source.timestamp.field;
  switch (source.format) {
    case rules::LineFormat::kText:
      return reader.in_line(line, reference);
    case rules::LineFormat::kLogfmt:
      if (const auto value = logfmt_time_field(line, field)) {
        if (const auto at = reader.in_value(*value, reference)) return at;
      }
      break;
    case rules::LineFormat::kJson:
      if (json_.read(line)) {
        for (const rules::JsonLineReader::Field& found : json_.fields()) {
          if (field.empty() ? !rules::is_time_field(found.name) : found.name != field) continue;
          if (const auto at = reader.in_value(found.value, reference)) return at;
        }
        return std::nullopt;
      }
      break;
  }
  // A line that is not of its format, such as a banner or a stack trace among JSON, may begin with a time.
  return field.empty() ? reader.in_line(line, reference) : std::nullopt;
}

}  // namespace logbell::engine

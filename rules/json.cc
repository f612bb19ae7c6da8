#include "rules/json.h"

#include <charconv>
#include <cmath>
#include <cstring>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <simdjson.h>

#include "rules/text.h"

namespace logbell::rules {
namespace {

using Nlohmann = nlohmann::ordered_json;

// Deeper documents than this are an attack or a mistake, and recursion must end.
constexpr int kMaxJsonDepth = 64;

const Json kNull;
const Json::Array kNoItems;
const Json::Object kNoMembers;

Nlohmann to_library(const Json& json) {
  if (json.is_bool()) return json.boolean();
  if (json.is_string()) return std::string(json.string());
  if (json.is_array()) {
    Nlohmann out = Nlohmann::array();
    for (const Json& item : json.array())
      out.push_back(to_library(item));
    return out;
  }
  if (json.is_object()) {
    Nlohmann out = Nlohmann::object();
    for (const auto& [name, value] : json.object())
      out[name] = to_library(value);
    return out;
  }
  if (json.is_integer()) return json.integer();
  if (json.is_number()) return json.number();
  return nullptr;
}

Json from_library(const Nlohmann& value) {
  switch (value.type()) {
    case Nlohmann::value_t::boolean:
      return value.get<bool>();
    case Nlohmann::value_t::number_integer:
      return value.get<std::int64_t>();
    case Nlohmann::value_t::number_unsigned: {
      const auto number = value.get<std::uint64_t>();
      if (number > static_cast<std::uint64_t>(INT64_MAX)) return static_cast<double>(number);
      return static_cast<std::int64_t>(number);
    }
    case Nlohmann::value_t::number_float:
      return value.get<double>();
    case Nlohmann::value_t::string:
      return value.get<std::string>();
    case Nlohmann::value_t::array: {
      Json::Array out;
      for (const Nlohmann& item : value)
        out.push_back(from_library(item));
      return out;
    }
    case Nlohmann::value_t::object: {
      Json::Object out;
      for (const auto& [name, member] : value.items())
        out.emplace_back(name, from_library(member));
      return out;
    }
    default:
      return {};
  }
}

}  // namespace

bool Json::is_number() const {
  return std::holds_alternative<double>(value_) || std::holds_alternative<std::int64_t>(value_);
}

std::string_view Json::string() const {
  const auto* text = std::get_if<std::string>(&value_);
  return text == nullptr ? std::string_view() : std::string_view(*text);
}

double Json::number() const {
  if (const auto* whole = std::get_if<std::int64_t>(&value_)) return static_cast<double>(*whole);
  const auto* real = std::get_if<double>(&value_);
  return real == nullptr ? 0 : *real;
}

std::int64_t Json::integer() const {
  if (const auto* whole = std::get_if<std::int64_t>(&value_)) return *whole;
  const auto* real = std::get_if<double>(&value_);
  // Outside ±2^63 the conversion is undefined: such a number is no integer of ours.
  if (real == nullptr || !(std::fabs(*real) < 9.2e18)) return 0;
  return static_cast<std::int64_t>(*real);
}

bool Json::boolean() const {
  const auto* value = std::get_if<bool>(&value_);
  return value != nullptr && *value;
}

const Json::Array& Json::array() const {
  const auto* items = std::get_if<Array>(&value_);
  return items == nullptr ? kNoItems : *items;
}

const Json::Object& Json::object() const {
  const auto* members = std::get_if<Object>(&value_);
  return members == nullptr ? kNoMembers : *members;
}

const Json& Json::operator[](std::string_view name) const {
  for (const auto& [key, value] : object()) {
    if (key == name) return value;
  }
  return kNull;
}

const Json& Json::at(std::size_t index) const {
  return index < array().size() ? array()[index] : kNull;
}

Json& Json::set(std::string_view name, Json value) {
  if (is_null()) value_ = Object{};
  auto* members = std::get_if<Object>(&value_);
  LOGBELL_CHECK(members != nullptr);
  for (auto& [key, old] : *members) {
    if (key == name) {
      old = std::move(value);
      return *this;
    }
  }
  members->emplace_back(std::string(name), std::move(value));
  return *this;
}

void Json::push(Json value) {
  if (is_null()) value_ = Array{};
  auto* items = std::get_if<Array>(&value_);
  LOGBELL_CHECK(items != nullptr);
  items->push_back(std::move(value));
}

std::string Json::dump(int indent) const {
  return to_library(*this).dump(indent, ' ', false, Nlohmann::error_handler_t::replace);
}

Result<Json> Json::parse(std::string_view text) {
  // The library would take it for the end.
  if (text.find('\0') != std::string_view::npos)
    return fail(ErrorCode::kInvalid, "parse JSON: there is a NUL byte in it");
  bool too_deep = false;
  const auto guard = [&](int depth, Nlohmann::parse_event_t, Nlohmann&) {
    if (depth > kMaxJsonDepth) too_deep = true;
    return depth <= kMaxJsonDepth;
  };
  try {
    const Nlohmann value = Nlohmann::parse(text.begin(), text.end(), guard);
    if (too_deep) return fail(ErrorCode::kInvalid, "parse JSON: nested more than 64 deep");
    return from_library(value);
  } catch (const nlohmann::json::exception& error) {
    return fail(ErrorCode::kInvalid, std::string("parse JSON: ") + error.what());
  }
}

// --- log lines

struct JsonLineReader::Impl {
  simdjson::ondemand::parser parser;
  std::string buffer;  // the line and the padding that simdjson reads beyond it

  // False, and no fields, at the first thing that is not JSON.
  bool read(std::string_view line, std::vector<Field>& fields);
};

JsonLineReader::JsonLineReader() : impl_(std::make_unique<Impl>()) {}
JsonLineReader::~JsonLineReader() = default;
JsonLineReader::JsonLineReader(JsonLineReader&&) noexcept = default;
JsonLineReader& JsonLineReader::operator=(JsonLineReader&&) noexcept = default;

namespace {

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && std::strchr(" \t\r\n", text.back()) != nullptr)
    text.remove_suffix(1);
  return text;
}

// False at the first thing that is not JSON. Arrays are not fields: their text is kept whole.
bool read_object(simdjson::ondemand::object object, const std::string& prefix, int depth,
                 std::vector<JsonLineReader::Field>& out) {
  if (depth > kMaxJsonDepth) return false;
  for (auto member : object) {
    std::string_view key;
    if (member.error() != simdjson::SUCCESS || member.unescaped_key().get(key) != simdjson::SUCCESS)
      return false;
    std::string name = prefix;
    name.append(key);
    simdjson::ondemand::value value;
    simdjson::ondemand::json_type type{};
    if (member.value().get(value) != simdjson::SUCCESS || value.type().get(type) != simdjson::SUCCESS)
      return false;
    if (type == simdjson::ondemand::json_type::object) {
      simdjson::ondemand::object inner;
      if (value.get_object().get(inner) != simdjson::SUCCESS) return false;
      if (!read_object(inner, name + ".", depth + 1, out)) return false;
    } else if (type == simdjson::ondemand::json_type::string) {
      std::string_view text;
      if (value.get_string().get(text) != simdjson::SUCCESS) return false;
      out.push_back({std::move(name), std::string(text)});
    } else if (type == simdjson::ondemand::json_type::array) {
      simdjson::ondemand::array array;
      std::string_view text;
      if (value.get_array().get(array) != simdjson::SUCCESS ||
          array.raw_json().get(text) != simdjson::SUCCESS) {
        return false;
      }
      out.push_back({std::move(name), std::string(trimmed(text))});
    } else {
      out.push_back({std::move(name), std::string(trimmed(value.raw_json_token()))});
    }
  }
  return true;
}

// Stands for a byte that is no UTF-8 while simdjson, which refuses it, reads the line: of a plane that nobody
// writes.
constexpr std::uint32_t kStandIn = 0x10FE00;

// The bytes of the character at `at`; 0: none begins there.
std::size_t character_bytes(std::string_view text, std::size_t at) {
  if (static_cast<unsigned char>(text[at]) < 0x80) return 1;
  for (std::size_t bytes = 2; bytes <= 4 && at + bytes <= text.size(); ++bytes) {
    if (simdjson::validate_utf8(text.data() + at, bytes)) return bytes;
  }
  return 0;
}

// The surrogate that is written as \uXXXX at `at`; 0: none is.
unsigned surrogate_at(std::string_view text, std::size_t at) {
  if (text.substr(at, 2) != "\\u" || at + 6 > text.size()) return 0;
  unsigned code = 0;
  const auto [end, failure] = std::from_chars(text.data() + at + 2, text.data() + at + 6, code, 16);
  return failure == std::errc() && end == text.data() + at + 6 && code >= 0xD800 && code <= 0xDFFF ? code : 0;
}

// What loggers write for JSON that is none, made JSON: bytes that are no UTF-8 (`stand_ins`), half a pair of
// surrogates (a string that JavaScript cut, a path in Python), control characters as they are, numbers that
// are none (Python's NaN).
std::string repaired(std::string_view line, bool& stand_ins) {
  std::string out;
  out.reserve(line.size() + line.size() / 8);
  bool in_string = false;
  char before = 0;  // outside of strings: the last that is no blank
  for (std::size_t at = 0; at < line.size();) {
    const std::string_view rest = line.substr(at);
    std::size_t taken = character_bytes(line, at);
    const char c = rest.front();
    if (taken == 0) {
      out += utf8(kStandIn + static_cast<unsigned char>(c));
      stand_ins = true;
      taken = 1;
    } else if (!in_string) {
      std::string_view word;
      for (const std::string_view number : {"NaN", "Infinity", "-Infinity"}) {
        if (rest.starts_with(number) && (before == ':' || before == ',' || before == '[')) word = number;
      }
      if (!word.empty()) {
        out += fmt::format("\"{}\"", word);
        taken = word.size();
      } else {
        out.append(rest.substr(0, taken));
      }
      in_string = c == '"';
      if (c != ' ' && c != '\t') before = c;
    } else if (c == '\\') {
      const unsigned half = surrogate_at(line, at);
      taken = half == 0 ? 2 : 6;
      const bool whole = half != 0 && half < 0xDC00 && surrogate_at(line, at + 6) >= 0xDC00;
      if (whole) taken = 12;
      out.append(half == 0 || whole ? rest.substr(0, taken) : "\\ufffd");
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    } else {
      out.append(rest.substr(0, taken));
      in_string = c != '"';
    }
    at += taken;
  }
  return out;
}

// The bytes themselves, where stand-ins are.
void put_back(std::string& text) {
  for (unsigned byte = 0x80; byte <= 0xFF; ++byte) {
    const std::string stand_in = utf8(kStandIn + byte);
    for (std::size_t at = 0; (at = text.find(stand_in, at)) != std::string::npos; ++at)
      text.replace(at, stand_in.size(), 1, static_cast<char>(byte));
  }
}

}  // namespace

bool JsonLineReader::read(std::string_view line) {
  fields_.clear();
  const std::size_t start = line.find_first_not_of(" \t\r\n");
  // Most lines that are not JSON are told apart by their first byte.
  if (start == std::string_view::npos || line[start] != '{') return false;
  if (impl_->read(line, fields_)) return true;
  // One that was cut off cannot be mended.
  if (trimmed(line).back() != '}') return false;
  bool stand_ins = false;
  const std::string mended = repaired(line, stand_ins);
  if (mended == line || !impl_->read(mended, fields_)) return false;
  for (Field& field : fields_) {
    if (!stand_ins) break;
    put_back(field.name);
    put_back(field.value);
  }
  return true;
}

bool JsonLineReader::Impl::read(std::string_view line, std::vector<Field>& fields) {
  buffer.assign(line);
  buffer.reserve(line.size() + simdjson::SIMDJSON_PADDING);
  try {
    simdjson::ondemand::document document;
    const simdjson::padded_string_view padded(buffer.data(), line.size(), buffer.capacity());
    simdjson::ondemand::object object;
    if (parser.iterate(padded).get(document) != simdjson::SUCCESS ||
        document.get_object().get(object) != simdjson::SUCCESS || !read_object(object, "", 1, fields)) {
      fields.clear();
      return false;
    }
    // Anything behind the closing brace makes it something else than one object.
    const char* rest = nullptr;
    if (document.current_location().get(rest) != simdjson::OUT_OF_BOUNDS) fields.clear();
    return rest == nullptr;
  } catch (const simdjson::simdjson_error&) {
    fields.clear();
    return false;
  }
}

}  // namespace logbell::rules

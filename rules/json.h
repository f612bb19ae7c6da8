// JSON: a small value to build and read documents with. The only door to the JSON libraries.
//
// Values; any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "rules/result.h"

namespace logbell::rules {

class Json {
 public:
  using Array = std::vector<Json>;
  using Object = std::vector<std::pair<std::string, Json>>;  // keeps the order written; names unique

  Json() = default;                            // null
  Json(std::nullptr_t) {}                      // NOLINT(google-explicit-constructor): literals
  Json(bool value) : value_(value) {}          // NOLINT(google-explicit-constructor)
  Json(double value) : value_(value) {}        // NOLINT(google-explicit-constructor)
  Json(std::int64_t value) : value_(value) {}  // NOLINT(google-explicit-constructor)
  Json(int value) : value_(static_cast<std::int64_t>(value)) {}  // NOLINT(google-explicit-constructor)
  // NOLINTNEXTLINE(google-explicit-constructor)
  Json(std::uint64_t value) : value_(static_cast<std::int64_t>(value)) {}
  Json(std::string value) : value_(std::move(value)) {}         // NOLINT(google-explicit-constructor)
  Json(std::string_view value) : value_(std::string(value)) {}  // NOLINT(google-explicit-constructor)
  Json(const char* value) : value_(std::string(value)) {}       // NOLINT(google-explicit-constructor)
  Json(Array value) : value_(std::move(value)) {}               // NOLINT(google-explicit-constructor)
  Json(Object value) : value_(std::move(value)) {}              // NOLINT(google-explicit-constructor)

  // Not the variant's own copy: where that finds no memory, libstdc++ 12 destroys an alternative that was
  // never made, and jumps anywhere.
  Json(const Json& other) {
    std::visit([this](const auto& value) { value_ = value; }, other.value_);
  }
  Json& operator=(const Json& other) {
    if (this != &other) *this = Json(other);
    return *this;
  }
  Json(Json&&) noexcept = default;
  Json& operator=(Json&&) noexcept = default;
  ~Json() = default;

  bool is_null() const { return std::holds_alternative<std::monostate>(value_); }
  bool is_object() const { return std::holds_alternative<Object>(value_); }
  bool is_array() const { return std::holds_alternative<Array>(value_); }
  bool is_string() const { return std::holds_alternative<std::string>(value_); }
  bool is_number() const;
  bool is_integer() const { return std::holds_alternative<std::int64_t>(value_); }
  bool is_bool() const { return std::holds_alternative<bool>(value_); }

  // The content, or the neutral value ("", 0, false, none) when it is of another kind.
  std::string_view string() const;
  double number() const;
  std::int64_t integer() const;
  bool boolean() const;
  const Array& array() const;
  const Object& object() const;
  // A member; null Json when absent or not an object.
  const Json& operator[](std::string_view name) const;
  const Json& at(std::size_t index) const;

  // Adds or replaces a member; a null value becomes an object first.
  Json& set(std::string_view name, Json value);
  void push(Json value);

  // Compact when indent < 0. Bytes that are not UTF-8 become U+FFFD: the text is always valid JSON.
  std::string dump(int indent = -1) const;
  static Result<Json> parse(std::string_view text);  // nesting at most 64 deep

  friend bool operator==(const Json&, const Json&) = default;

 private:
  std::variant<std::monostate, bool, std::int64_t, double, std::string, Array, Object> value_;
};

// The scalar members of a line that is a JSON object, nested names joined with "." (`http.status`); strings unescaped, other
// scalars as written, of two with one name the first. Built for log lines: reads each line once (simdjson's on-demand parser
// inside), and what loggers write for JSON that is none as they mean it: bytes that are no UTF-8 are kept, half a pair of
// surrogates is U+FFFD, control characters stand for themselves, NaN and Infinity are scalars.
class JsonLineReader {
 public:
  JsonLineReader();
  ~JsonLineReader();
  JsonLineReader(JsonLineReader&&) noexcept;
  JsonLineReader& operator=(JsonLineReader&&) noexcept;

  struct Field {
    std::string name;
    std::string value;
  };
  // Whether `line` is one JSON object; its fields are valid until the next call.
  bool read(std::string_view line);
  const std::vector<Field>& fields() const { return fields_; }

 private:
  struct Impl;
  std::vector<Field> fields_;
  std::unique_ptr<Impl> impl_;
};

}  // namespace logbell::rules

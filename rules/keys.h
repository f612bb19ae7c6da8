// Keys: what each map that an operator writes may hold: every key with the kind of its value, its bounds, and
// a sentence.
//
// The loader reads by these tables (rules/fields.h), and `logbell schema` prints them (rules/json_schema.h):
// what an editor offers is what is read. Immutable once made; any thread.
#pragma once

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace logbell::rules {

struct KeyTable;

// What a value may be.
struct Shape {
  enum class Kind {
    kText,      // one scalar
    kTexts,     // one scalar or a list of them; of `words`, if there are some
    kBoolean,   // true, false
    kDuration,  // 90s, 1h30m
    kInteger,   // from `least` to `most`
    kNumber,
    kBytes,  // 4096, 64KiB; from `least` to `most`
    kWord,   // one of `words`
    kMap,    // as `table` says
    kMapOf,  // any names; each value is one of `of`
    kList,   // each entry is one of `of`
  };
  Kind kind = Kind::kText;
  std::int64_t least = 0;
  std::int64_t most = 0;
  std::vector<std::string_view> words = {};
  const KeyTable& (*table)() = nullptr;  // a function, for a route holds routes
  std::vector<Shape> of = {};

  static Shape text() { return {.kind = Kind::kText}; }
  static Shape texts(std::vector<std::string_view> words = {}) {
    return {.kind = Kind::kTexts, .words = std::move(words)};
  }
  static Shape boolean() { return {.kind = Kind::kBoolean}; }
  static Shape duration() { return {.kind = Kind::kDuration}; }
  static Shape integer(std::int64_t least, std::int64_t most) {
    return {.kind = Kind::kInteger, .least = least, .most = most};
  }
  static Shape number() { return {.kind = Kind::kNumber}; }
  static Shape bytes(std::int64_t least, std::int64_t most) {
    return {.kind = Kind::kBytes, .least = least, .most = most};
  }
  static Shape word(std::vector<std::string_view> words) {
    return {.kind = Kind::kWord, .words = std::move(words)};
  }
  static Shape map(const KeyTable& (*table)()) { return {.kind = Kind::kMap, .table = table}; }
  static Shape map_of(std::vector<Shape> of) { return {.kind = Kind::kMapOf, .of = std::move(of)}; }
  static Shape list(std::vector<Shape> of) { return {.kind = Kind::kList, .of = std::move(of)}; }
};

struct Key {
  std::string_view name;
  std::string_view says;      // a sentence for who writes it
  std::vector<Shape> shapes;  // any of these
  bool required = false;
  std::string_view normally = {};  // when it is left out; "": nothing, or said in `says`
};

struct KeyTable {
  std::string_view name;  // of the map, unique: "pattern"
  std::string_view says;
  std::vector<Key> keys;
  // Of each group at least one key is there.
  std::vector<std::vector<std::string_view>> needs = {};
  // Further keys, by a regex: `5x` of a test's line.
  std::string_view more_keys = {};
  std::vector<Shape> more_shapes = {};
  bool may_be_empty = false;  // nothing stands for a map without keys

  const Key* find(std::string_view key) const {
    for (const Key& one : keys) {
      if (one.name == key) return &one;
    }
    return nullptr;
  }
};

// Beneath `patterns:` and `rules:`, and a file of `rule_files:` (rule_file.cc).
const KeyTable& pattern_keys();
const KeyTable& rule_keys();
const KeyTable& rule_file_keys();
// `route:` and `time_intervals:` (route_file.cc).
const KeyTable& route_keys();
const KeyTable& time_interval_keys();
// A file of tests (test_file.cc).
const KeyTable& test_file_keys();

}  // namespace logbell::rules

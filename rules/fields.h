// Fields: one YAML map read key by key: types checked, ${VAR} filled in, every problem recorded at its place.
//
// Owned by one thread while a configuration is compiled. No I/O: variables come through a function.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "rules/keys.h"
#include "rules/problems.h"
#include "rules/time.h"
#include "rules/yaml.h"

namespace logbell::rules {

// A scalar as it counts: variables filled in.
struct Text {
  std::string value;
  Place place;
  const yaml::Node* node = nullptr;  // as written
  bool filled_in = false;            // a variable stood in it: offsets in `value` are not offsets in the file
  bool assumed = false;              // a variable that --assume-secrets left out stands in `value` as written
};

// What a whole compilation shares. Outlives every Fields and Text of it.
struct Reading {
  std::function<std::optional<std::string>(const std::string& name)> env;
  bool assume = false;  // --assume-secrets: a variable that is not set is left as it is written
  Problems* problems = nullptr;
  std::map<std::string, std::string> texts;  // by file, as read

  // `${VAR}`, `${VAR:-x}`, `${VAR:?why}`; `$${` is a literal `${`. Nothing when a variable is missing. The
  // variables of a secret are not remembered, and with `assume` not looked at.
  std::optional<Text> fill_in(const yaml::Node& scalar, const std::string& subject, bool is_secret = false);
  // Where byte `offset` of `text` stands in its file; where that cannot be known, where the text begins.
  Place place_in(const Text& text, std::size_t offset) const;

  // Names and values of the variables that were filled in outside of secrets: part of a configuration's
  // identity.
  std::map<std::string, std::string> used;
};

// A key that means something in a neighbouring language or a later version: (key, what to say).
struct ForeignKey {
  std::string_view key;
  std::string_view reason;
  std::string_view fix;
};

class Fields {
 public:
  // Keys outside of `table` (and `more`) are problems at once; so is a node that is not a map. The table outlives it. Each key is
  // asked for as the table has it: anything else is a mistake of ours, which a debug build does not survive.
  Fields(const yaml::Node& node, std::string subject, Reading& reading, const KeyTable& table,
         const std::vector<ForeignKey>& foreign = {}, const std::vector<std::string>& more = {});
  // A map of names that somebody chose: all of them are known.
  Fields(const yaml::Node& node, std::string subject, Reading& reading,
         const std::vector<std::string>& names);

  // Whether the table has the key at all.
  bool knows(std::string_view key) const { return table_ == nullptr || table_->find(key) != nullptr; }
  bool has(std::string_view key) const { return node_->find(key) != nullptr; }
  // As it was written, for a value that may be of several kinds.
  const yaml::Node* raw(std::string_view key) const;
  Place place(std::string_view key) const;      // of the key's value, else of the map
  Place key_place(std::string_view key) const;  // of the key itself, else of the map
  const std::string& subject() const { return subject_; }
  Reading& reading() const { return *reading_; }

  // Each returns nothing when the key is absent, or when it is wrong, which is then a problem.
  std::optional<Text> text(std::string_view key) const;
  std::optional<Text> required_text(std::string_view key, std::string_view why = {}) const;
  // One text or a list of them; never empty.
  std::optional<std::vector<Text>> texts(std::string_view key) const;
  std::optional<bool> boolean(std::string_view key) const;
  std::optional<Duration> duration(std::string_view key) const;
  // Within the table's bounds.
  std::optional<std::int64_t> integer(std::string_view key) const;
  std::optional<double> number(std::string_view key) const;
  // 4096, 64KiB, 1MiB; within the table's bounds.
  std::optional<std::uint64_t> bytes(std::string_view key) const;
  // One of the table's words, as its index.
  std::optional<std::size_t> word(std::string_view key) const;
  // A map or a list that is there and of the kind asked for; null otherwise.
  const yaml::Node* map(std::string_view key) const;
  const yaml::Node* list(std::string_view key) const;

  void error(std::string_view key, std::string reason, std::string fix = {}) const;
  void error(Place at, std::string reason, std::string fix = {}) const;
  void warn(Place at, std::string reason, std::string fix = {}) const;

 private:
  void judge(const std::vector<std::string>& known, const std::vector<ForeignKey>& foreign) const;
  std::optional<Text> scalar(const yaml::Node& node, std::string_view key) const;
  std::optional<Text> text_of(std::string_view key) const;
  // Where the table has the key as one of these; null: there is no table.
  const Shape* shape_of(std::string_view key, std::initializer_list<Shape::Kind> kinds) const;

  const yaml::Node* node_;
  const KeyTable* table_ = nullptr;  // null: a map of names
  std::string subject_;
  Reading* reading_;
};

// "a, b and c"; after `most` names "and 7 more".
std::string list_words(const std::vector<std::string>& words, std::size_t most = 6);

}  // namespace logbell::rules

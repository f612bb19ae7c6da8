// Labels: a sorted set of name/value pairs, the identity of a series or an alert.
//
// Values; any thread.
#pragma once

#include <compare>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace logbell::rules {

class Json;

// A stable 64-bit hash of a label set: the same on every machine and in every version.
using Fingerprint = std::uint64_t;

class Labels {
 public:
  using Pair = std::pair<std::string, std::string>;

  Labels() = default;
  Labels(std::initializer_list<Pair> pairs);  // any order; the last of two same names wins

  // The value, or "" when there is none: an empty value and no label are the same, as in Prometheus.
  std::string_view get(std::string_view name) const;
  bool has(std::string_view name) const;
  void set(std::string_view name, std::string_view value);  // an empty value removes
  void erase(std::string_view name);

  Labels keep_only(const std::vector<std::string>& names) const;
  Labels without(const std::vector<std::string>& names) const;
  // These labels, with those of `over` winning where both have one.
  Labels merged(const Labels& over) const;

  Fingerprint fingerprint() const;
  std::string format() const;  // {a="b", c="d"}, escaped as Prometheus does

  bool empty() const { return pairs_.empty(); }
  std::size_t size() const { return pairs_.size(); }
  auto begin() const { return pairs_.begin(); }
  auto end() const { return pairs_.end(); }

  friend bool operator==(const Labels&, const Labels&) = default;
  friend auto operator<=>(const Labels&, const Labels&) = default;

 private:
  std::vector<Pair> pairs_;  // sorted by name, names unique, no empty values
};

// An object of names and values, {} when there are none; and back, what is no text left out.
Json to_json(const Labels& labels);
Labels labels_from_json(const Json& json);

// [a-zA-Z_][a-zA-Z0-9_]*
bool is_label_name(std::string_view name);
// [a-zA-Z_:][a-zA-Z0-9_:]*
bool is_metric_name(std::string_view name);

// 16 lower-case hex digits, as Alertmanager prints fingerprints.
std::string format_fingerprint(Fingerprint fingerprint);
// What format_fingerprint() wrote; 0 for anything else.
Fingerprint parse_fingerprint(std::string_view text);
// The same stable hash over any bytes: identities of patterns, rules, configurations.
Fingerprint hash_bytes(std::string_view bytes);

}  // namespace logbell::rules

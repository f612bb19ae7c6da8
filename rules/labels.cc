#include "rules/labels.h"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>
#include <xxhash.h>

#include "rules/json.h"
#include "rules/text.h"

namespace logbell::rules {
namespace {

bool is_name(std::string_view name, bool with_colon) {
  if (name.empty() || (name[0] >= '0' && name[0] <= '9')) return false;
  return std::all_of(name.begin(), name.end(),
                     [&](char c) { return is_word(c) || (with_colon && c == ':'); });
}

}  // namespace

Labels::Labels(std::initializer_list<Pair> pairs) {
  for (const Pair& pair : pairs)
    set(pair.first, pair.second);
}

std::string_view Labels::get(std::string_view name) const {
  const auto found =
      std::lower_bound(pairs_.begin(), pairs_.end(), name,
                       [](const Pair& pair, std::string_view key) { return pair.first < key; });
  return found != pairs_.end() && found->first == name ? std::string_view(found->second) : std::string_view();
}

bool Labels::has(std::string_view name) const {
  return !get(name).empty();
}

void Labels::set(std::string_view name, std::string_view value) {
  const auto found =
      std::lower_bound(pairs_.begin(), pairs_.end(), name,
                       [](const Pair& pair, std::string_view key) { return pair.first < key; });
  const bool present = found != pairs_.end() && found->first == name;
  if (value.empty()) {
    if (present) pairs_.erase(found);
  } else if (present) {
    found->second = std::string(value);
  } else {
    pairs_.insert(found, Pair(std::string(name), std::string(value)));
  }
}

void Labels::erase(std::string_view name) {
  set(name, {});
}

Labels Labels::keep_only(const std::vector<std::string>& names) const {
  Labels out;
  for (const Pair& pair : pairs_) {
    if (contains(names, pair.first)) out.pairs_.push_back(pair);
  }
  return out;
}

Labels Labels::without(const std::vector<std::string>& names) const {
  Labels out;
  for (const Pair& pair : pairs_) {
    if (!contains(names, pair.first)) out.pairs_.push_back(pair);
  }
  return out;
}

Labels Labels::merged(const Labels& over) const {
  Labels out = *this;
  for (const Pair& pair : over)
    out.set(pair.first, pair.second);
  return out;
}

Fingerprint Labels::fingerprint() const {
  // 0xFF is never part of UTF-8, so no two label sets give the same bytes.
  std::string bytes;
  for (const Pair& pair : pairs_)
    bytes.append(pair.first).append(1, '\xff').append(pair.second).append(1, '\xff');
  return hash_bytes(bytes);
}

std::string Labels::format() const {
  std::string out = "{";
  for (const Pair& pair : pairs_) {
    if (out.size() > 1) out += ", ";
    out += pair.first + "=\"";
    for (const char c : pair.second) {
      if (c == '\\' || c == '"') out += '\\';
      if (c == '\n') {
        out += "\\n";
      } else {
        out += c;
      }
    }
    out += '"';
  }
  return out + "}";
}

Json to_json(const Labels& labels) {
  Json json{Json::Object{}};
  for (const auto& [name, value] : labels)
    json.set(name, value);
  return json;
}

Labels labels_from_json(const Json& json) {
  Labels labels;
  for (const auto& [name, value] : json.object())
    labels.set(name, value.string());
  return labels;
}

bool is_label_name(std::string_view name) {
  return is_name(name, false);
}
bool is_metric_name(std::string_view name) {
  return is_name(name, true);
}

std::string format_fingerprint(Fingerprint fingerprint) {
  return fmt::format("{:016x}", fingerprint);
}

Fingerprint parse_fingerprint(std::string_view text) {
  Fingerprint fingerprint = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), fingerprint, 16);
  return error == std::errc() && end == text.data() + text.size() ? fingerprint : 0;
}

Fingerprint hash_bytes(std::string_view bytes) {
  return XXH64(bytes.data(), bytes.size(), 0);
}

}  // namespace logbell::rules

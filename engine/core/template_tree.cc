#include "engine/core/template_tree.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "rules/json.h"
#include "rules/line_shape.h"
#include "rules/text.h"

namespace logbell::engine {

using rules::Json;
using rules::Timestamp;

namespace {

// Levels, and the keys that they stand behind.
constexpr std::array<std::string_view, 18> kLevels{
    "trace", "debug", "info",     "information", "notice", "warn",  "warning", "err", "error",
    "fatal", "crit",  "critical", "severe",      "alert",  "emerg", "level",   "lvl", "severity"};
// Words before a message at most.
constexpr std::size_t kMostHeadWords = 8;

bool is_letter(char c) {
  return rules::is_alpha(c) || static_cast<unsigned char>(c) >= 0x80;
}

// [ERROR], ERROR:, level=error
bool is_level(std::string_view word) {
  if (const std::size_t equals = word.find('='); equals != std::string_view::npos)
    word = word.substr(0, equals);
  while (!word.empty() && !is_letter(word.front()))
    word.remove_prefix(1);
  while (!word.empty() && !is_letter(word.back()))
    word.remove_suffix(1);
  return std::any_of(kLevels.begin(), kLevels.end(),
                     [&](std::string_view level) { return rules::same_ignoring_case(level, word); });
}

// A logger, class or thread: com.acme.Orders, Orders::Api:, [main]. Not the last word of a sentence
// ("done.").
bool is_name(std::string_view word) {
  if (word.size() > 2 && word.front() == '[' && (word.back() == ']' || word.substr(word.size() - 2) == "]:"))
    return true;
  for (std::size_t i = 1; i + 1 < word.size(); ++i) {
    if (word[i] == '.' && is_letter(word[i - 1]) && is_letter(word[i + 1])) return true;
    if (i + 2 < word.size() && word.substr(i, 2) == "::" && is_letter(word[i - 1]) && is_letter(word[i + 2]))
      return true;
  }
  return false;
}

bool says_nothing(std::string_view word) {
  return word == rules::kVariable ||
         std::none_of(word.begin(), word.end(), [](char c) { return is_letter(c) || rules::is_digit(c); });
}

std::vector<std::string_view> split(std::string_view shape) {
  std::vector<std::string_view> words;
  while (!shape.empty()) {
    const std::size_t end = std::min(shape.find(' '), shape.size());
    words.push_back(shape.substr(0, end));
    shape.remove_prefix(std::min(end + 1, shape.size()));
  }
  return words;
}

// How alike a line is to a template: of the words that either has, where not both are variable, those that
// are equal.
struct Likeness {
  std::size_t equal = 0;
  std::size_t of = 0;

  // Drain's st is 0.5. Exactly half is too little here: of four words two are as often those of another
  // message, and what is taken for known never rings.
  bool is_enough() const { return 2 * equal > of || of == 0; }
  // All of nothing is equal.
  bool is_above(const Likeness& other) const {
    const auto parts = [](const Likeness& one) {
      return one.of == 0 ? std::pair<std::size_t, std::size_t>(1, 1) : std::pair(one.equal, one.of);
    };
    const auto [mine, my_all] = parts(*this);
    const auto [others, others_all] = parts(other);
    return mine * others_all > others * my_all;
  }
};

Likeness likeness(const std::vector<std::string>& words, const std::vector<std::string_view>& line) {
  Likeness out;
  for (std::size_t i = 0; i < line.size(); ++i) {
    if (words[i] == rules::kVariable && line[i] == rules::kVariable) continue;
    ++out.of;
    if (words[i] == line[i]) ++out.equal;
  }
  return out;
}

}  // namespace

TemplateTree::Parsed TemplateTree::parse(std::string_view shape) {
  Parsed out;
  out.words = split(shape);
  std::size_t head = 0;
  for (std::size_t i = 0; i < std::min(out.words.size(), kMostHeadWords); ++i) {
    const std::string_view word = out.words[i];
    if (is_level(word) || is_name(word)) {
      out.head.append(out.head.empty() ? "" : " ").append(word);
    } else if (!says_nothing(word)) {
      break;
    }
    head = i + 1;
  }
  out.words.erase(out.words.begin(), out.words.begin() + static_cast<std::ptrdiff_t>(head));
  if (!out.words.empty()) {
    const std::string_view first = out.words.front();
    out.variable_first = first.find(rules::kVariable) != std::string_view::npos ||
                         std::any_of(first.begin(), first.end(), [](char c) { return rules::is_digit(c); });
  }
  return out;
}

void TemplateTree::plant(std::uint64_t id, const Template& one) {
  Node& node = tree_[one.words.size()][one.head];
  (one.any_first ? node.any_first : node.by_first[one.words.front()]).push_back(id);
}

const TemplateTree::Node& TemplateTree::node_of(const Parsed& line) const {
  static const Node kEmpty;
  const auto length = tree_.find(line.words.size());
  if (length == tree_.end()) return kEmpty;
  const auto head = length->second.find(line.head);
  return head == length->second.end() ? kEmpty : head->second;
}

std::optional<std::uint64_t> TemplateTree::add(std::string_view shape, Timestamp at, Timestamp forgotten) {
  const Parsed line = parse(shape);
  const Node& node = node_of(line);
  const auto leaf = node.by_first.find(line.words.empty() ? std::string_view() : line.words.front());

  std::optional<std::uint64_t> best;
  Likeness most;
  const auto consider = [&](const std::vector<std::uint64_t>& ids) {
    for (const std::uint64_t id : ids) {
      const Template& known = templates_.at(id);
      if (known.newest <= forgotten) continue;
      const Likeness one = likeness(known.words, line.words);
      if (!one.is_enough()) continue;
      // Of equal ones the oldest.
      if (best && !one.is_above(most) && (most.is_above(one) || *best < id)) continue;
      best = id;
      most = one;
    }
  };
  if (leaf != node.by_first.end()) consider(leaf->second);
  consider(node.any_first);

  if (best) {
    came(*best, at);
    std::vector<std::string>& words = templates_.at(*best).words;
    for (std::size_t i = 0; i < words.size(); ++i) {
      if (words[i].empty() || words[i] == line.words[i]) continue;
      words[i].clear();
      changed_.insert(*best);
    }
    return best;
  }
  if (templates_.size() >= kMaxTemplates) return std::nullopt;
  Template one{std::string(shape),
               rules::shape_label(shape),
               line.head,
               {line.words.begin(), line.words.end()},
               false,
               at};
  one.any_first =
      line.variable_first || (leaf == node.by_first.end() && node.by_first.size() >= kMostFirstWords);
  const std::uint64_t id = next_id_++;
  plant(id, one);
  templates_.emplace(id, std::move(one));
  changed_.insert(id);
  return id;
}

void TemplateTree::came(std::uint64_t id, Timestamp at) {
  Template& one = templates_.at(id);
  one.newest = std::max(one.newest, at);
  one.is_used = true;
}

std::string TemplateTree::common(std::uint64_t id) const {
  const Template& one = templates_.at(id);
  std::string out = one.head;
  for (const std::string& word : one.words)
    out.append(out.empty() ? "" : " ").append(word.empty() ? std::string(rules::kVariable) : word);
  return out;
}

void TemplateTree::forget_after(Timestamp at) {
  for (auto& [id, one] : templates_)
    one.newest = std::min(one.newest, at);
}

Timestamp TemplateTree::newest() const {
  Timestamp newest = rules::kLongAgo;
  for (const auto& [id, one] : templates_)
    newest = std::max(newest, one.newest);
  return newest;
}

void TemplateTree::forget(const std::set<std::uint64_t>& used, Timestamp until) {
  bool fewer = false;
  for (auto it = templates_.begin(); it != templates_.end();) {
    if (used.count(it->first) != 0) {
      ++it;
      continue;
    }
    if (it->second.newest > until) {
      if (std::exchange(it->second.is_used, false)) changed_.insert(it->first);
      ++it;
      continue;
    }
    changed_.insert(it->first);
    it = templates_.erase(it);
    fewer = true;
  }
  if (!fewer) return;
  tree_.clear();
  for (const auto& [id, one] : templates_)
    plant(id, one);
}

void TemplateTree::save(const std::string& prefix, std::vector<StoredEntry>& out) {
  for (const std::uint64_t id : changed_) {
    const std::string key = prefix + std::to_string(id);
    const auto found = templates_.find(id);
    if (found == templates_.end()) {
      out.push_back({key, std::nullopt});
      continue;
    }
    const Template& one = found->second;
    Json differ{Json::Array{}};
    for (std::size_t i = 0; i < one.words.size(); ++i) {
      if (one.words[i].empty()) differ.push(static_cast<std::uint64_t>(i));
    }
    Json json;
    json.set("shape", one.shape).set("differ", std::move(differ));
    if (one.any_first) json.set("any_first", true);
    if (!one.is_used) json.set("newest", rules::to_unix_ms(one.newest));
    out.push_back({key, json.dump()});
  }
  forget_changes();
}

bool TemplateTree::restore(const std::string& prefix, const StoredEntry& entry) {
  if (!entry.value || entry.key.compare(0, prefix.size(), prefix) != 0) return false;
  const std::string_view number = std::string_view(entry.key).substr(prefix.size());
  std::uint64_t id = 0;
  std::from_chars(number.data(), number.data() + number.size(), id);
  // Under a key that is not written as ours it would never be written over.
  if (id == 0 || id == UINT64_MAX || number != std::to_string(id)) return false;
  const auto json = Json::parse(*entry.value);
  const std::string shape(json ? (*json)["shape"].string() : std::string_view());
  if (shape.empty() || shape.size() > rules::kShapeBytes || templates_.size() >= kMaxTemplates || has(id)) {
    changed_.insert(id);
    return false;
  }
  const Parsed line = parse(shape);
  const Json& newest = (*json)["newest"];
  Template one{shape,
               rules::shape_label(shape),
               line.head,
               {line.words.begin(), line.words.end()},
               (*json)["any_first"].boolean() || line.variable_first,
               newest.is_integer() ? rules::from_stored_ms(newest.integer()) : rules::kLongAgo,
               !newest.is_integer()};
  // The first word of one that stands under it is the same in all of its lines.
  for (const Json& place : (*json)["differ"].array()) {
    const std::int64_t i = place.integer();
    if (i >= (one.any_first ? 0 : 1) && i < static_cast<std::int64_t>(one.words.size()))
      one.words[static_cast<std::size_t>(i)].clear();
  }
  plant(id, one);
  templates_.emplace(id, std::move(one));
  next_id_ = std::max(next_id_, id + 1);
  return true;
}

void TemplateTree::erase_stored(const std::string& prefix, std::vector<StoredEntry>& out) const {
  for (const auto& [id, one] : templates_)
    out.push_back({prefix + std::to_string(id), std::nullopt});
  for (const std::uint64_t id : changed_) {
    if (!has(id)) out.push_back({prefix + std::to_string(id), std::nullopt});
  }
}

}  // namespace logbell::engine

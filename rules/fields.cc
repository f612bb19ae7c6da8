#include "rules/fields.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>

#include <fmt/format.h>

namespace logbell::rules {
namespace {

bool is_variable_name(std::string_view name) {
  return !name.empty() && (name[0] < '0' || name[0] > '9') &&
         name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") ==
             std::string_view::npos;
}

std::string_view kind_name(const yaml::Node& node) {
  switch (node.kind) {
    case yaml::Node::Kind::kNull:
      return "nothing";
    case yaml::Node::Kind::kScalar:
      return "a text";
    case yaml::Node::Kind::kSequence:
      return "a list";
    case yaml::Node::Kind::kMap:
      return "a map";
  }
  return "";
}

// Walks a scalar's value beside the bytes it was written as, and keeps the line and column of each. Gives up
// (false) where the two part: then the scalar's beginning is the honest answer.
class Walk {
 public:
  Walk(std::string_view text, int line, int col) : text_(text), line_(line), col_(col) {
    for (int i = 1; i < line; ++i) {
      const std::size_t end = text_.find('\n', at_);
      if (end == std::string_view::npos) {
        at_ = text_.size();
        return;
      }
      at_ = end + 1;
    }
    // A byte order mark is no column.
    if (line == 1 && text_.substr(0, 3) == "\xEF\xBB\xBF") at_ = 3;
    at_ = std::min(at_ + static_cast<std::size_t>(std::max(col - 1, 0)), text_.size());
  }

  bool to(std::string_view value, std::size_t offset) {
    while (now() == '&' || now() == '!') {  // an anchor or a tag in front
      while (at_ < text_.size() && now() != ' ' && now() != '\n')
        step();
      skip_blanks();
    }
    const char first = now();
    if (first == '|' || first == '>') return block(value, offset);
    if (first == '\'' || first == '"') step();
    const char quote = first == '\'' || first == '"' ? first : '\0';
    for (std::size_t i = 0; i < value.size(); ++i) {
      // Between lines: what is written as line breaks and indentation counts as one blank (or fewer breaks).
      if ((value[i] == ' ' || value[i] == '\n') && ends_line()) {
        if (i == offset) return true;
        while (i + 1 < value.size() && value[i + 1] == '\n')
          ++i;
        if (offset <= i) return true;
        while (at_ < text_.size() && is_blank(now()))
          step();
        continue;
      }
      if (i == offset) return true;
      if (quote == '\'' && now() == '\'') step();
      if (quote == '"' && now() == '\\') {
        if (!escaped(value, i)) return false;
        if (i >= offset) return true;
        continue;
      }
      if (now() != value[i]) return false;
      step();
    }
    return offset == value.size();
  }

  int line() const { return line_; }
  int col() const { return col_; }

 private:
  static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
  char now() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  void step() {
    if (at_ >= text_.size()) return;
    if (text_[at_++] == '\n') {
      ++line_;
      col_ = 1;
    } else {
      ++col_;
    }
  }
  void skip_blanks() {
    while (now() == ' ' || now() == '\t')
      step();
  }
  bool ends_line() const {
    std::size_t i = at_;
    while (i < text_.size() && (text_[i] == ' ' || text_[i] == '\t' || text_[i] == '\r'))
      ++i;
    return i < text_.size() && text_[i] == '\n';
  }
  // The one-byte escapes; of \x and \u only the place matters, and they are rare: give up.
  bool escaped(std::string_view value, std::size_t i) {
    step();
    static constexpr std::string_view kWritten = "nt\"\\/0r ";
    static constexpr std::string_view kMeant = "\n\t\"\\/\0\r ";
    const std::size_t which = kWritten.find(now());
    if (which == std::string_view::npos || kMeant.substr(which, 1) != value.substr(i, 1)) return false;
    step();
    return true;
  }

  bool block(std::string_view value, std::size_t offset) {
    step();
    for (; at_ < text_.size() && now() != '\n'; step()) {
      if (now() >= '1' && now() <= '9') return false;  // an indentation of its own: rare
    }
    step();
    // The first line that holds something sets the indentation.
    std::size_t look = at_;
    int indent = 0;
    while (look < text_.size()) {
      const std::size_t start = text_.find_first_not_of(' ', look);
      if (start == std::string_view::npos) return false;
      if (text_[start] != '\n' && text_[start] != '\r') {
        indent = static_cast<int>(start - look);
        break;
      }
      look = start + 1;
    }
    for (std::size_t i = 0;; ++i) {
      if (col_ == 1) {
        while (col_ <= indent && now() == ' ')
          step();
      }
      if (i >= offset || i >= value.size()) return true;
      if (now() == '\r') step();
      if (now() != value[i] && !(now() == '\n' && value[i] == ' ')) return false;
      step();
    }
  }

  std::string_view text_;
  std::size_t at_ = 0;
  int line_;
  int col_;
};

}  // namespace

std::string list_words(const std::vector<std::string>& words, std::size_t most) {
  const std::size_t shown = std::min(words.size(), most);
  std::string out;
  for (std::size_t i = 0; i < shown; ++i) {
    if (i > 0) out += i + 1 == words.size() ? " and " : ", ";
    out += words[i];
  }
  if (words.size() > shown) out += fmt::format(" and {} more", words.size() - shown);
  return out;
}

std::optional<Text> Reading::fill_in(const yaml::Node& scalar, const std::string& subject, bool is_secret) {
  Text text{{}, scalar.place, &scalar, false, false};
  const std::string& written = scalar.scalar;
  const auto wrong = [&](std::size_t offset, std::string reason, std::string fix) {
    problems->error(place_in(Text{written, scalar.place, &scalar, false, false}, offset), subject,
                    std::move(reason), std::move(fix));
  };
  bool good = true;
  for (std::size_t at = 0; at < written.size();) {
    if (written.compare(at, 3, "$${") == 0) {
      text.value += "${";
      text.filled_in = true;
      at += 3;
      continue;
    }
    if (written.compare(at, 2, "${") != 0) {
      text.value += written[at++];
      continue;
    }
    const std::size_t close = written.find('}', at);
    if (close == std::string::npos) {
      wrong(at, "a `${` that is never closed", "write ${NAME}, or $${ for a literal ${");
      return std::nullopt;
    }
    const std::string inside = written.substr(at + 2, close - at - 2);
    const std::size_t operation = inside.find(':');
    const std::string name = inside.substr(0, operation);
    const std::string rest = operation == std::string::npos ? "" : inside.substr(operation);
    const bool has_default = rest.rfind(":-", 0) == 0;
    const bool has_why = rest.rfind(":?", 0) == 0;
    if (!is_variable_name(name) || (!rest.empty() && !has_default && !has_why)) {
      wrong(at, fmt::format("`${{{}}}` is not a variable", inside),
            "write ${NAME}, ${NAME:-default} or ${NAME:?why}, or $${ for a literal ${");
      good = false;
      at = close + 1;
      continue;
    }
    text.filled_in = true;
    const bool left_out = assume && is_secret;
    const std::optional<std::string> value = env && !left_out ? env(name) : std::nullopt;
    if (value && !value->empty()) {
      text.value += *value;
      if (!is_secret) used[name] = *value;
    } else if (has_default && !left_out) {
      text.value += rest.substr(2);
      if (!is_secret) used[name] = rest.substr(2);
    } else if (assume) {
      text.value += written.substr(at, close + 1 - at);
      text.assumed = true;
    } else {
      std::string reason = fmt::format("the variable {} is {}", name, value ? "empty" : "not set");
      if (has_why && rest.size() > 2) reason += ": " + rest.substr(2);
      wrong(at, std::move(reason),
            is_secret
                ? std::string("set it where logbell starts")
                : fmt::format("set it where logbell starts, or give a default as in ${{{}:-value}}", name));
      good = false;
    }
    at = close + 1;
  }
  if (!good) return std::nullopt;
  return text;
}

Place Reading::place_in(const Text& text, std::size_t offset) const {
  if (text.node == nullptr || text.filled_in || offset == std::string::npos) return text.place;
  const auto file = texts.find(text.place.file);
  if (file == texts.end() || text.place.line <= 0) return text.place;
  Walk walk(file->second, text.place.line, text.place.col);
  if (!walk.to(text.value, offset)) return text.place;
  return Place{text.place.file, walk.line(), walk.col()};
}

Fields::Fields(const yaml::Node& node, std::string subject, Reading& reading, const KeyTable& table,
               const std::vector<ForeignKey>& foreign, const std::vector<std::string>& more)
    : node_(&node), table_(&table), subject_(std::move(subject)), reading_(&reading) {
  std::vector<std::string> known;
  for (const Key& key : table.keys)
    known.emplace_back(key.name);
  known.insert(known.end(), more.begin(), more.end());
  judge(known, foreign);
}

Fields::Fields(const yaml::Node& node, std::string subject, Reading& reading, const std::vector<std::string>& names)
    : node_(&node), subject_(std::move(subject)), reading_(&reading) {
  judge(names, {});
}

void Fields::judge(const std::vector<std::string>& known, const std::vector<ForeignKey>& foreign) const {
  if (!node_->is_map()) {
    if (!node_->is_null())
      error(node_->place, fmt::format("a map of keys is expected, not {}", kind_name(*node_)));
    return;
  }
  for (const yaml::Entry& entry : node_->entries) {
    if (std::find(known.begin(), known.end(), entry.key) != known.end()) continue;
    const auto other =
        std::find_if(foreign.begin(), foreign.end(), [&](const ForeignKey& f) { return f.key == entry.key; });
    if (other != foreign.end()) {
      error(entry.key_place, std::string(other->reason), std::string(other->fix));
      continue;
    }
    std::string fix = did_you_mean(entry.key, known);
    if (fix.empty()) fix = "the keys here are " + list_words(known, 30);
    error(entry.key_place, fmt::format("unknown key \"{}\"", entry.key), std::move(fix));
  }
}

const Shape* Fields::shape_of(std::string_view key, std::initializer_list<Shape::Kind> kinds) const {
  if (table_ == nullptr) return nullptr;
  const Key* row = table_->find(key);
  const std::vector<Shape>* shapes = row == nullptr ? &table_->more_shapes : &row->shapes;
  for (const Shape& shape : *shapes) {
    if (std::find(kinds.begin(), kinds.end(), shape.kind) != kinds.end()) return &shape;
  }
  // Whoever asks for a key must ask as the table has it, or an editor would be told something else.
#ifndef NDEBUG
  std::fprintf(stderr, "logbell: \"%s\" of the table %s is asked for as something else\n", std::string(key).c_str(),
               std::string(table_->name).c_str());
  LOGBELL_CHECK(false);
#endif
  return nullptr;
}

const yaml::Node* Fields::raw(std::string_view key) const {
  LOGBELL_CHECK(table_ == nullptr || table_->find(key) != nullptr || !table_->more_keys.empty());
  return node_->find(key);
}

Place Fields::place(std::string_view key) const {
  const yaml::Node* value = node_->find(key);
  return value == nullptr ? node_->place : value->place;
}

Place Fields::key_place(std::string_view key) const {
  for (const yaml::Entry& entry : node_->entries) {
    if (entry.key == key) return entry.key_place;
  }
  return node_->place;
}

std::optional<Text> Fields::scalar(const yaml::Node& node, std::string_view key) const {
  if (node.is_null()) {
    error(node.place, fmt::format("\"{}\" has no value", key), "give it one, or remove the key");
    return std::nullopt;
  }
  if (!node.is_scalar()) {
    error(node.place, fmt::format("\"{}\" is one text, not {}", key, kind_name(node)));
    return std::nullopt;
  }
  return reading_->fill_in(node, subject_);
}

std::optional<Text> Fields::text(std::string_view key) const {
  shape_of(key, {Shape::Kind::kText, Shape::Kind::kWord});
  return text_of(key);
}

std::optional<Text> Fields::text_of(std::string_view key) const {
  const yaml::Node* value = node_->find(key);
  if (value == nullptr) return std::nullopt;
  return scalar(*value, key);
}

std::optional<Text> Fields::required_text(std::string_view key, std::string_view why) const {
  if (!has(key)) {
    if (node_->is_map() || node_->is_null())
      error(node_->place, fmt::format("\"{}\" is missing", key), std::string(why));
    return std::nullopt;
  }
  std::optional<Text> found = text(key);
  if (found && found->value.empty()) {
    error(key, fmt::format("\"{}\" is empty", key), std::string(why));
    return std::nullopt;
  }
  return found;
}

std::optional<std::vector<Text>> Fields::texts(std::string_view key) const {
  shape_of(key, {Shape::Kind::kTexts, Shape::Kind::kList});
  const yaml::Node* value = node_->find(key);
  if (value == nullptr) return std::nullopt;
  std::vector<Text> out;
  if (!value->is_sequence()) {
    if (std::optional<Text> one = scalar(*value, key)) out.push_back(*std::move(one));
    return out.empty() ? std::nullopt : std::optional(std::move(out));
  }
  if (value->items.empty()) {
    error(value->place, fmt::format("\"{}\" is an empty list", key), "name at least one, or remove the key");
    return std::nullopt;
  }
  bool good = true;
  for (const yaml::Node& item : value->items) {
    if (std::optional<Text> one = scalar(item, key)) {
      out.push_back(*std::move(one));
    } else {
      good = false;
    }
  }
  if (!good) return std::nullopt;
  return out;
}

std::optional<bool> Fields::boolean(std::string_view key) const {
  shape_of(key, {Shape::Kind::kBoolean});
  const std::optional<Text> found = text_of(key);
  if (!found || found->assumed) return std::nullopt;
  if (found->value == "true") return true;
  if (found->value == "false") return false;
  error(key, fmt::format("\"{}\" is true or false, not \"{}\"", key, found->value));
  return std::nullopt;
}

std::optional<Duration> Fields::duration(std::string_view key) const {
  shape_of(key, {Shape::Kind::kDuration});
  const std::optional<Text> found = text_of(key);
  if (!found || found->assumed) return std::nullopt;
  Result<Duration> parsed = parse_duration(found->value);
  if (!parsed) {
    error(key, parsed.error().message, "as in 250ms, 30s, 5m, 1h30m, 2d");
    return std::nullopt;
  }
  return *parsed;
}

std::optional<std::int64_t> Fields::integer(std::string_view key) const {
  const Shape* shape = shape_of(key, {Shape::Kind::kInteger});
  const std::optional<Text> found = text_of(key);
  if (!found || found->assumed || shape == nullptr) return std::nullopt;
  const std::int64_t least = shape->least;
  const std::int64_t most = shape->most;
  std::int64_t value = 0;
  const char* end = found->value.data() + found->value.size();
  const auto [stop, failure] = std::from_chars(found->value.data(), end, value);
  if (failure != std::errc() || stop != end || value < least || value > most) {
    error(key,
          fmt::format("\"{}\" is a whole number from {} to {}, not \"{}\"", key, least, most, found->value));
    return std::nullopt;
  }
  return value;
}

std::optional<double> Fields::number(std::string_view key) const {
  shape_of(key, {Shape::Kind::kNumber});
  const std::optional<Text> found = text_of(key);
  if (!found || found->assumed) return std::nullopt;
  double value = 0;
  const char* end = found->value.data() + found->value.size();
  const auto [stop, failure] = std::from_chars(found->value.data(), end, value);
  if (failure != std::errc() || stop != end || !std::isfinite(value)) {
    error(key, fmt::format("\"{}\" is a number, not \"{}\"", key, found->value));
    return std::nullopt;
  }
  return value;
}

std::optional<std::uint64_t> Fields::bytes(std::string_view key) const {
  const Shape* shape = shape_of(key, {Shape::Kind::kBytes});
  const std::optional<Text> found = text_of(key);
  if (!found || found->assumed || shape == nullptr) return std::nullopt;
  const auto least = static_cast<std::uint64_t>(shape->least);
  const auto most = static_cast<std::uint64_t>(shape->most);
  std::uint64_t value = 0;
  const char* end = found->value.data() + found->value.size();
  const auto [stop, failure] = std::from_chars(found->value.data(), end, value);
  const std::string_view unit(stop, static_cast<std::size_t>(end - stop));
  static constexpr std::pair<std::string_view, std::uint64_t> kUnits[] = {
      {"", 1}, {"B", 1}, {"KiB", 1024}, {"MiB", 1024 * 1024}};
  const auto known = std::find_if(std::begin(kUnits), std::end(kUnits),
                                  [&](const auto& candidate) { return candidate.first == unit; });
  const bool good = failure == std::errc() && known != std::end(kUnits) && value <= most / known->second &&
                    value * known->second >= least;
  if (!good) {
    error(key,
          fmt::format("\"{}\" is a size from {} to {} bytes, not \"{}\"", key, least, most, found->value),
          "as in 65536, 64KiB or 1MiB");
    return std::nullopt;
  }
  return value * known->second;
}

std::optional<std::size_t> Fields::word(std::string_view key) const {
  const Shape* shape = shape_of(key, {Shape::Kind::kWord});
  const std::optional<Text> found = text_of(key);
  if (!found || found->assumed || shape == nullptr) return std::nullopt;
  const std::vector<std::string> words(shape->words.begin(), shape->words.end());
  const auto which = std::find(words.begin(), words.end(), found->value);
  if (which == words.end()) {
    std::string fix = did_you_mean(found->value, words);
    if (fix.empty()) fix = "it is one of " + list_words(words, 30);
    error(key, fmt::format("\"{}\" cannot be \"{}\"", key, found->value), std::move(fix));
    return std::nullopt;
  }
  return static_cast<std::size_t>(which - words.begin());
}

const yaml::Node* Fields::map(std::string_view key) const {
  shape_of(key, {Shape::Kind::kMap, Shape::Kind::kMapOf});
  const yaml::Node* value = node_->find(key);
  if (value == nullptr || value->is_map()) return value;
  if (value->is_null()) {
    error(value->place, fmt::format("\"{}\" has no value", key), "give it one, or remove the key");
  } else {
    error(value->place, fmt::format("\"{}\" is a map of names to values, not {}", key, kind_name(*value)));
  }
  return nullptr;
}

const yaml::Node* Fields::list(std::string_view key) const {
  shape_of(key, {Shape::Kind::kList, Shape::Kind::kTexts});
  const yaml::Node* value = node_->find(key);
  if (value == nullptr || value->is_sequence()) return value;
  if (value->is_null()) {
    error(value->place, fmt::format("\"{}\" has no value", key), "give it one, or remove the key");
  } else {
    error(value->place, fmt::format("\"{}\" is a list, not {}", key, kind_name(*value)),
          "begin each entry with \"- \"");
  }
  return nullptr;
}

void Fields::error(std::string_view key, std::string reason, std::string fix) const {
  reading_->problems->error(place(key), subject_, std::move(reason), std::move(fix));
}
void Fields::error(Place at, std::string reason, std::string fix) const {
  reading_->problems->error(std::move(at), subject_, std::move(reason), std::move(fix));
}
void Fields::warn(Place at, std::string reason, std::string fix) const {
  reading_->problems->warn(std::move(at), subject_, std::move(reason), std::move(fix));
}

}  // namespace logbell::rules

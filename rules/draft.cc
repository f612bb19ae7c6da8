#include "rules/draft.h"

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "rules/explain_line.h"
#include "rules/expr.h"
#include "rules/fields.h"
#include "rules/line_shape.h"
#include "rules/redact.h"
#include "rules/rule_file.h"
#include "rules/text.h"
#include "rules/variable_parts.h"

namespace logbell::rules {
namespace {

using Kind = VariablePart::Kind;

constexpr std::size_t kLeastLetters = 4;  // that stay the same: of fewer it would match nearly every line
constexpr std::size_t kMostFields = 4;    // that are tested
constexpr std::size_t kNameWords = 4;
// Of a line that goes on and on, as a query with a list of a hundred numbers, its beginning says what it is.
constexpr std::size_t kMostCaptures = 20;
constexpr std::size_t kMostDrafted = 4096;  // bytes
constexpr std::array<std::string_view, 7> kLevelKeys{"level",     "lvl",       "severity",     "loglevel",
                                                     "levelname", "log.level", "severity_text"};
// What says what a line is about, where it has no message.
constexpr std::array<std::string_view, 7> kTellingKeys{"error",  "err",  "exception", "error.type",
                                                       "reason", "code", "logger"};
// Before a number they say nothing of what it is.
constexpr std::array<std::string_view, 18> kSmallWords{"in",    "at",  "of",  "to",  "for", "with",
                                                       "after", "is",  "was", "by",  "on",  "from",
                                                       "than",  "and", "or",  "the", "no",  "not"};

template <std::size_t N>
bool is_one_of(std::string_view word, const std::array<std::string_view, N>& words) {
  return std::any_of(words.begin(), words.end(),
                     [&](std::string_view known) { return same_ignoring_case(word, known); });
}

// In single quotes, as YAML has them; no ${ in it is a variable.
std::string quoted(std::string_view text) {
  std::string out = "'";
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\'')
      out += "''";
    else if (text.substr(i, 2) == "${")
      out += "$$";
    else
      out += text[i];
  }
  return out + "'";
}

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\t') {
      out += "\\t";
      continue;
    }
    if (std::string_view("\\.+*?()|[]{}^$").find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}

std::string regex_of(Kind kind, std::string_view text) {
  switch (kind) {
    case Kind::kTime:
      return text.find(' ') == std::string_view::npos ? "\\S+" : "\\S+ \\S+";
    case Kind::kUuid:
      return "[0-9a-fA-F-]{36}";
    case Kind::kIp:
      return text.find('.') == std::string_view::npos ? "[0-9a-fA-F:]+"
                                                      : "\\d+\\.\\d+\\.\\d+\\.\\d+(?::\\d+)?";
    case Kind::kUrl:
      return "\\w+://\\S+";
    case Kind::kEmail:
      return "[^\\s@]+@[^\\s@]+";
    case Kind::kPath:
      return "\\S+";
    case Kind::kDuration:
      return "(?:[\\d.]+(?:ns|us|µs|ms|s|m|h|d))+";
    case Kind::kNumber:
      return std::all_of(text.begin(), text.end(), &is_digit) ? "\\d+" : "[-+]?[\\d.]+%?";
    case Kind::kHex:
      return "(?:0x)?[0-9a-fA-F]+";
    case Kind::kId:
      return "[\\w.:-]+";
    case Kind::kQuoted:
      return text.find('"') == std::string_view::npos ? "[^\"]*" : ".*";
    case Kind::kValue:
      return "[^\\s,;)\\]}]+";
  }
  return "\\S+";
}

// The same, where the text is really of its kind; else whatever is there.
std::string sure_regex_of(Kind kind, std::string_view text) {
  std::string regex = regex_of(kind, text);
  const auto compiled = Regex::compile(regex, {.anchored = true});
  if (compiled && compiled->matches(text)) return regex;
  return text.find_first_of(" \t") == std::string_view::npos ? "\\S+" : ".+";
}

// Letters, digits and underscores, as a capture may be called; "" where nothing is left.
std::string as_name(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (is_word(c)) {
      out += lower(c);
    } else if (!out.empty() && out.back() != '_') {
      out += '_';
    }
  }
  while (!out.empty() && out.back() == '_')
    out.pop_back();
  if (!out.empty() && is_digit(out.front())) out.insert(0, "_");
  return out.size() > 32 ? out.substr(0, 32) : out;
}

// What is said right before `at`: "order" of "order 7".
std::string word_before(std::string_view line, std::size_t at) {
  std::size_t end = at;
  while (end > 0 && (line[end - 1] == ' ' || line[end - 1] == '#' || line[end - 1] == '"' ||
                     line[end - 1] == '\'' || line[end - 1] == '('))
    --end;
  std::size_t from = end;
  while (from > 0 && is_alpha(line[from - 1]))
    --from;
  const std::string_view word = line.substr(from, end - from);
  const bool capitals = std::all_of(word.begin(), word.end(), [](char c) { return c >= 'A' && c <= 'Z'; });
  return word.size() < 2 || word.size() > 20 || capitals || is_one_of(word, kSmallWords) ? std::string()
                                                                                         : lower(word);
}

class Names {
 public:
  std::string take(std::string name) {
    std::string out = name;
    for (int i = 2; !taken_.insert(out).second; ++i)
      out = fmt::format("{}_{}", name, i);
    return out;
  }

 private:
  std::set<std::string> taken_;
};

struct DraftedRegex {
  std::string regex;
  std::string words;  // what stays the same, with blanks for what does not
  std::vector<std::string> captures;
  std::vector<std::string> few;      // those that may take few values
  std::vector<std::string> numbers;  // those that hold one
};

// Names that hold one of a few values, whatever kind they are.
bool takes_few_values(const VariablePart& part, const std::string& name) {
  static constexpr std::array<std::string_view, 9> kFew{"status", "code",   "queue", "method", "partner",
                                                        "host",   "region", "state", "type"};
  return part.kind == Kind::kValue || is_one_of(name, kFew);
}

std::string name_of(const VariablePart& part, std::string_view line) {
  if (std::string key = as_name(part.key); !key.empty()) return key;
  static constexpr std::array<std::string_view, 12> kNames{
      "time", "id", "ip", "url", "email", "path", "duration", "number", "id", "id", "text", "value"};
  const std::string_view plain = kNames[static_cast<std::size_t>(part.kind)];
  const bool says_itself = part.kind == Kind::kTime || part.kind == Kind::kIp || part.kind == Kind::kUrl ||
                           part.kind == Kind::kEmail || part.kind == Kind::kPath;
  if (!says_itself) {
    if (std::string word = as_name(word_before(line, part.offset)); !word.empty()) return word;
  }
  return std::string(plain);
}

DraftedRegex regex_from(std::string_view line, Names& names, bool whole) {
  DraftedRegex out;
  if (line.size() > kMostDrafted) {
    std::size_t end = kMostDrafted;
    while (end > 0 && (static_cast<unsigned char>(line[end]) & 0xC0) == 0x80)
      --end;
    line = line.substr(0, end);
  }
  std::size_t done = 0;
  std::vector<VariablePart> parts = variable_parts(line);
  // The time at the beginning is the line's, and a pattern matches anywhere behind it.
  if (!whole && !parts.empty() && parts.front().kind == Kind::kTime && parts.front().offset <= 1) {
    done = parts.front().offset + parts.front().length;
    while (done < line.size() && std::string_view(" \t]-:|").find(line[done]) != std::string_view::npos)
      ++done;
    parts.erase(parts.begin());
  }
  const auto keep = [&](std::string_view text) {
    out.regex += escaped(text);
    out.words += text;
  };
  std::size_t end = line.size();
  while (end > done && (line[end - 1] == ' ' || line[end - 1] == '\t'))
    --end;
  for (const VariablePart& part : parts) {
    if (part.offset < done) continue;
    if (out.captures.size() == kMostCaptures) return out;
    keep(line.substr(done, part.offset - done));
    const std::string name = names.take(name_of(part, line));
    out.regex +=
        fmt::format("(?P<{}>{})", name, sure_regex_of(part.kind, line.substr(part.offset, part.length)));
    out.words += ' ';
    out.captures.push_back(name);
    if (takes_few_values(part, name)) out.few.push_back(name);
    if (part.kind == Kind::kDuration || part.kind == Kind::kNumber) out.numbers.push_back(name);
    done = part.offset + part.length;
  }
  if (done < end) keep(line.substr(done, end - done));
  return out;
}

std::size_t letters_in(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return is_alpha(c) || static_cast<unsigned char>(c) >= 0x80; }));
}

// The words that name it: those behind the level, at most four; of one that says it alone
// (QueueNotFoundException) that.
std::vector<std::string> naming_words(std::string_view text) {
  std::vector<std::string> words;
  std::string word;
  const auto end_word = [&] {
    const bool is_level = word.size() >= 4 &&
                          std::all_of(word.begin(), word.end(), [](char c) { return c >= 'A' && c <= 'Z'; });
    if (word.size() >= 2 && !(words.empty() && is_level)) words.push_back(word);
    word.clear();
  };
  for (const char c : text) {
    if (is_alpha(c)) {
      word += c;
    } else {
      end_word();
    }
  }
  end_word();
  const auto is_camel = [](const std::string& one) {
    return std::count_if(one.begin(), one.end(), [](char c) { return c >= 'A' && c <= 'Z'; }) >= 2 &&
           std::any_of(one.begin(), one.end(), [](char c) { return c >= 'a' && c <= 'z'; });
  };
  for (const std::string& one : words) {
    if (one.size() >= 8 && is_camel(one)) return {one};
  }
  if (words.size() > kNameWords) words.resize(kNameWords);
  return words;
}

// QueueNotFound, [queue, not, found] -> QueueNotFound.
std::string camel_of(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) {
    const bool capitals = std::all_of(word.begin(), word.end(), [](char c) { return c >= 'A' && c <= 'Z'; });
    std::string one = capitals && word.size() > 3 ? lower(word) : word;
    if (one[0] >= 'a' && one[0] <= 'z') one[0] = static_cast<char>(one[0] - 'a' + 'A');
    out += one;
  }
  return out;
}

std::string snake_of(std::string_view camel) {
  std::string out;
  for (std::size_t i = 0; i < camel.size(); ++i) {
    const bool upper = camel[i] >= 'A' && camel[i] <= 'Z';
    const bool after_small = i > 0 && camel[i - 1] >= 'a' && camel[i - 1] <= 'z';
    const bool before_small = i + 1 < camel.size() && camel[i + 1] >= 'a' && camel[i + 1] <= 'z';
    if (upper && i > 0 && (after_small || before_small)) out += '_';
    out += lower(camel[i]);
  }
  return out;
}

std::string free_name(const std::string& base, std::string_view joint, const std::vector<std::string>& taken,
                      const std::vector<std::string>& also = {}) {
  std::string name = base;
  for (int i = 2; contains(taken, name) || contains(also, name); ++i)
    name = fmt::format("{}{}{}", base, joint, i);
  return name;
}

// What YAML takes for something else, or an expression for a word of its own, is no pattern's name.
bool can_be_named(const std::string& name) {
  static constexpr std::array<std::string_view, 6> kYaml{"null", "true", "false", "yes", "no", "off"};
  return name.size() > 2 && !is_one_of(name, kYaml) &&
         parse_expr(fmt::format("count_over_time({}[5m]) >= 1", name)).has_value();
}

bool is_utf8_text(std::string_view line) {
  // clean_text() replaces what is not UTF-8, or no text.
  return clean_text(line, line.size() + 1) == line;
}

std::string yaml_key(const std::string& key) {
  const bool plain = !key.empty() && is_alpha(key.front()) && std::all_of(key.begin(), key.end(), [](char c) {
    return is_word(c) || c == '.' || c == '-';
  });
  return plain ? key : quoted(key);
}

}  // namespace

Result<Draft> draft_from(std::string_view line, const DraftSurroundings& around) {
  if (!is_utf8_text(line))
    return fail(ErrorCode::kInvalid,
                "the line holds bytes that are no text, or a line break, and a configuration is UTF-8; leave "
                "them out");
  Names names;
  DraftedRegex drafted;
  std::string conditions;  // YAML, under the pattern
  std::string about;       // what it is named after
  const auto fields = fields_of(around.format, line, nullptr, Envelope::kNone);
  const bool has_fields = std::any_of(fields.begin(), fields.end(), [&](const auto& field) {
    return is_one_of(field.first, kMessageFields) || is_one_of(field.first, kLevelKeys) ||
           is_one_of(field.first, kTellingKeys);
  });
  if (has_fields) {
    std::size_t tests = 0;
    const auto add_test = [&](const std::string& field, const std::string& value, bool exact) {
      if (value.empty() || tests == kMostFields) return;
      ++tests;
      DraftedRegex one = regex_from(value, names, true);
      if (exact || one.captures.empty()) {
        conditions += fmt::format("      {}: {}\n", yaml_key(field), quoted(value));
        one.words = value;
      } else {
        conditions += fmt::format("      {}: {{match: {}}}\n", yaml_key(field), quoted(one.regex));
      }
      if (!exact) about += " " + one.words;
      drafted.words += " " + one.words;
      for (auto list : {&DraftedRegex::captures, &DraftedRegex::few, &DraftedRegex::numbers})
        (drafted.*list).insert((drafted.*list).end(), (one.*list).begin(), (one.*list).end());
    };
    bool message = false;
    for (const auto& [field, value] : fields) {
      if (is_one_of(field, kLevelKeys)) add_test(field, value, true);
    }
    for (const auto& [field, value] : fields) {
      if (!is_one_of(field, kMessageFields) || value.empty()) continue;
      add_test(field, value, false);
      message = true;
      break;
    }
    for (const auto& [field, value] : fields) {
      if (!message && is_one_of(field, kTellingKeys)) add_test(field, value, false);
    }
    conditions = "    where:\n" + conditions;
  } else {
    drafted = regex_from(line, names, false);
    about = drafted.words;
    conditions = fmt::format("    match: {}\n", quoted(drafted.regex));
  }
  if (letters_in(about.empty() ? drafted.words : about) < kLeastLetters)
    return fail(
        ErrorCode::kInvalid,
        "nothing in the line is sure to be in the next one of its kind: a pattern made of it would match "
        "nearly every line");

  Draft draft;
  std::string base = camel_of(naming_words(about.empty() ? drafted.words : about));
  if (base.size() > 48) base.resize(48);
  if (!can_be_named(snake_of(base))) base = "Logged" + base;
  const std::vector<std::string>& built_in = built_in_alerts();
  draft.alert = free_name(base, "", around.alert_names, built_in);
  draft.pattern = free_name(snake_of(base), "_", around.pattern_names);
  draft.captures = drafted.captures;

  std::string& out = draft.yaml;
  out = fmt::format("patterns:\n  {}:\n{}", draft.pattern, conditions);
  if (!drafted.captures.empty())
    out +=
        "    # a capture is a label only where it is named here, each value then being a series of its own: "
        "only where there are few\n";
  if (!drafted.few.empty()) out += fmt::format("    # labels: [{}]\n", fmt::join(drafted.few, ", "));
  if (!drafted.numbers.empty()) out += fmt::format("    # value: {}\n", drafted.numbers.front());
  if (!around.source.empty()) out += fmt::format("    source: {}\n", yaml_key(around.source));
  out += fmt::format("    examples: [{}]\n", quoted(line));
  out += fmt::format("rules:\n  - alert: {}\n    expr: count_over_time({}[5m]) >= 1\n", draft.alert,
                     draft.pattern);
  out += "    labels: {severity: warning}\n";
  out += fmt::format("    annotations: {{summary: '{}: {{{{ $value }}}} in 5 minutes'}}\n", draft.alert);
  if (!around.sinks.empty()) {
    std::string list;
    for (const std::string& sink : around.sinks)
      list += (list.empty() ? "" : ", ") + yaml_key(sink);
    out += fmt::format("    sinks: [{}]\n", list);
  }
  return draft;
}

}  // namespace logbell::rules

#include "rules/example.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "rules/json.h"
#include "rules/labels.h"
#include "rules/redact.h"
#include "rules/speller.h"
#include "rules/text.h"

namespace logbell::rules {
namespace {

// Names of the mark's own field, and of the one that holds what `match` looks for: the first that is free.
constexpr std::array<std::string_view, 3> kMarkFields{"logbell", "logbell_drill", "logbell_mark"};
constexpr std::array<std::string_view, 4> kTextFields{"msg", "message", "text", "line"};
// What a label holds that no expression says anything of, the first that may stand there; of a value, a
// number.
constexpr std::array<std::string_view, 4> kWords{"example", "other", "1", ""};
constexpr std::array<std::string_view, 4> kNumbers{"1", "0", "100", "1.5"};
// A line is longer than this only by its mark's places.
constexpr std::size_t kMaxPlaces = 1000;
constexpr std::size_t kMostShownBytes = 120;  // of a line in an error

using Members = std::vector<std::pair<std::string, std::string>>;

bool is_of_mark(char c) {
  return is_word(c) || c == '-' || c == ':';
}

// A text that is true, null or a number stands in JSON as it is.
std::string json_scalar(const std::string& text) {
  if (const auto parsed = Json::parse(text); parsed && !parsed->is_string() && parsed->dump() == text) {
    if (parsed->is_number() || parsed->is_bool()) return text;
  }
  return Json(text).dump();
}

std::string json_members(const Members& members) {
  std::string out;
  for (const auto& [name, value] : members)
    out += fmt::format("{}{}: {}", out.empty() ? "" : ", ", Json(name).dump(), json_scalar(value));
  return out;
}

std::string logfmt_fields(const Members& members) {
  std::string out;
  for (const auto& [name, value] : members) {
    if (!out.empty()) out += ' ';
    out += name + "=";
    if (!value.empty() && value.find_first_of(" \t\n\"\\=") == std::string::npos) {
      out += value;
      continue;
    }
    out += '"';
    for (const char c : value) {
      if (c == '"' || c == '\\') out += '\\';
      if (c == '\n') {
        out += "\\n";
      } else {
        out += c;
      }
    }
    out += '"';
  }
  return out;
}

std::string joined(std::string_view a, std::string_view between, std::string_view b) {
  if (a.empty() || b.empty()) between = "";
  return fmt::format("{}{}{}", a, between, b);
}

// The text of `name` that lives as long as the process, where an envelope may tell it.
std::optional<std::string_view> fact_name(std::optional<Envelope> envelope, std::string_view name) {
  static constexpr std::array<Envelope, 4> kAll{Envelope::kCri, Envelope::kDocker, Envelope::kSyslog,
                                                Envelope::kJournal};
  for (const Envelope one : kAll) {
    if (envelope && *envelope != one) continue;
    for (const std::string& known : fact_names(one)) {
      if (known == name) return known;
    }
  }
  return std::nullopt;
}

// Whether `test` would take `value`.
bool passes(const FieldTest& test, std::string_view value) {
  const bool holds = test.match ? test.match->matches(value) : contains(test.equals, value);
  return holds != test.negated;
}

bool has_group(const Regex& regex, const std::string& name) {
  return regex.group_index(name).has_value();
}

class LineMaker {
 public:
  LineMaker(const PatternSpec& pattern, LineFormat format, std::string_view mark,
            std::optional<Envelope> envelope)
      : pattern_(pattern), format_(format), mark_(mark), envelope_(envelope) {
    const std::uint32_t first = 0;
    set_ = PatternSet::compile(std::span(&pattern_, 1), std::span(&first, 1), format);
    Labels wishes;
    for (const Labels& series : pattern.expect)
      wishes = series.merged(wishes);
    wishes_ = std::move(wishes);
    for (const Regex& regex : pattern.match)
      match_.emplace_back(regex, Speller::Wishes{pattern.value, false, wishes_});
    for (const FieldTest& test : pattern.where) {
      where_.push_back(std::nullopt);
      if (test.match && !test.negated)
        where_.back().emplace(*test.match,
                              Speller::Wishes{pattern.value, test.field == pattern.value, wishes_});
    }
  }

  Result<MarkedLine> make() {
    if (pattern_.match.empty() && pattern_.where.empty()) return fail(ErrorCode::kNotFound, why_not());
    for (const std::string& example : pattern_.examples) {
      for (const bool with_facts : {false, true}) {
        if (std::optional<Facts> facts = facts_of_example(with_facts))
          if (consider(example, *facts, false)) return *std::move(found_);
      }
    }
    for (int n = 0; n < kMaxSpellings && left_ > 0; ++n) {
      if (pattern_.match.empty() && spell(n, nullptr, "")) return *std::move(found_);
      for (std::size_t i = 0; i < match_.size(); ++i) {
        const std::optional<std::string> text = match_[i].spell(n);
        if (text && spell(n, &pattern_.match[i], *text)) return *std::move(found_);
      }
    }
    if (found_) return *std::move(found_);
    return fail(ErrorCode::kNotFound, why_not());
  }

 private:
  // What the pattern says of a line; nothing when it does not match, or nothing more may be asked.
  std::optional<Match> ask(const std::string& line, const Facts& facts) {
    if (line.size() >= left_) {
      left_ = 0;
      return std::nullopt;
    }
    left_ -= line.size() + 1;
    const Record record{0, line.size(), &facts};
    std::vector<Match> matches;
    set_.match(line, std::span(&record, 1), scratch_, matches);
    if (matches.empty()) return std::nullopt;
    return std::move(matches.front());
  }

  // Takes `line` if it will do; true: there will be no better one.
  bool consider(const std::string& line, const Facts& facts, bool generated) {
    if (line.find(mark_) != std::string::npos) return false;
    const std::optional<Match> match = ask(line, facts);
    if (!match) return false;
    if (!pattern_.value.empty() && !std::isfinite(match->value)) {
      without_number_ = true;
      return false;
    }
    const bool is_good = !generated || (line.find('\n') == std::string::npos &&
                                        (format_ != LineFormat::kJson || json_.read(line)) &&
                                        std::none_of(match->labels.begin(), match->labels.end(),
                                                     [](const std::string& label) { return label.empty(); }));
    if (!is_good && found_) return false;
    std::optional<std::string> marked = place(line, facts, *match);
    if (!marked) {
      if (without_room_.empty()) without_room_ = line;
      return false;
    }
    Labels labels;
    for (std::size_t i = 0; i < pattern_.labels.size(); ++i)
      labels.set(pattern_.labels[i], match->labels[i]);
    found_ = MarkedLine{*std::move(marked), facts, std::move(labels), generated};
    return is_good;
  }

  // --- the mark's place

  std::optional<std::string> place(const std::string& line, const Facts& facts, const Match& bare) {
    std::vector<JsonLineReader::Field> fields;
    const bool is_object = format_ == LineFormat::kJson && json_.read(line);
    if (is_object) fields = json_.fields();
    const auto holds = [&](const std::string& marked) {
      const std::optional<Match> match = ask(marked, facts);
      return match && match->labels == bare.labels && match->labels_cut == bare.labels_cut &&
             (match->value == bare.value || (std::isnan(match->value) && std::isnan(bare.value)));
    };
    if (is_object) {
      const std::string name = free_name(kMarkFields, line);
      for (const std::string& marked : marked_objects(line, name)) {
        if (json_.read(marked) && is_own_member(fields, name) && holds(marked)) return marked;
      }
    }
    if (format_ == LineFormat::kLogfmt) {
      const std::string name = free_name(kMarkFields, line);
      const std::string field = name + "=" + mark_;
      for (const std::string& marked : marked_texts(line, field, false)) {
        if (has_field(marked, name, mark_) && holds(marked)) return marked;
      }
    }
    for (const std::string& marked : marked_texts(line, mark_, true)) {
      if (is_object && (!json_.read(marked) || json_.fields().size() != fields.size())) continue;
      if (holds(marked)) return marked;
    }
    return std::nullopt;
  }

  // Whether json_ has just read `before` and the mark, and nothing else.
  bool is_own_member(const std::vector<JsonLineReader::Field>& before, const std::string& name) const {
    const std::vector<JsonLineReader::Field>& now = json_.fields();
    if (now.size() != before.size() + 1) return false;
    std::size_t at = 0;
    for (const JsonLineReader::Field& field : now) {
      if (field.name == name && field.value == mark_) continue;
      if (at >= before.size() || field.name != before[at].name || field.value != before[at].value)
        return false;
      ++at;
    }
    return at == before.size();
  }

  // Whether the line has a field of this name, and with this value if one is given.
  bool has_field(std::string_view line, std::string_view name, std::string_view value = {}) const {
    static const Regex kAnything = *Regex::compile("");
    PatternSpec spec;
    FieldTest test;
    test.field = name;
    if (value.empty()) {
      test.match = kAnything;
    } else {
      test.equals = {std::string(value)};
    }
    spec.where.push_back(std::move(test));
    return matches_line(spec, format_, line);
  }

  // A name that neither the line nor the pattern knows; the last one where all are taken.
  template <std::size_t kSize>
  std::string free_name(const std::array<std::string_view, kSize>& names, std::string_view line) const {
    const auto is_free = [&](std::string_view name) {
      return name != pattern_.value && !contains(pattern_.labels, name) && !has_field(line, name) &&
             std::none_of(pattern_.where.begin(), pattern_.where.end(),
                          [&](const FieldTest& test) { return test.field == name; });
    };
    const auto found = std::find_if(names.begin(), names.end(), is_free);
    return std::string(found == names.end() ? names.back() : *found);
  }

  // The member last, first, and between two others of the outermost object.
  std::vector<std::string> marked_objects(const std::string& line, const std::string& name) const {
    std::vector<std::string> out;
    const std::size_t open = line.find('{');
    const std::size_t close = line.rfind('}');
    if (open == std::string::npos || close == std::string::npos || close <= open) return out;
    const bool is_empty = line.find_first_not_of(" \t\r\n", open + 1) == close;
    const bool is_spaced = line.find("\": ") != std::string::npos || is_empty;
    const std::string_view blank = is_spaced ? " " : "";
    const std::string member = fmt::format("\"{}\":{}\"{}\"", name, blank, mark_);
    const auto put = [&](std::size_t at, const std::string& what) {
      out.push_back(line.substr(0, at) + what + line.substr(at));
    };
    if (is_empty) {
      put(close, member);
      return out;
    }
    put(close, fmt::format(",{}{}", blank, member));
    put(open + 1, fmt::format("{},{}", member, blank));
    int depth = 0;
    bool in_string = false;
    for (std::size_t at = open; at < close && out.size() < kMaxPlaces; ++at) {
      const char c = line[at];
      if (in_string) {
        if (c == '\\') ++at;
        if (c == '"') in_string = false;
        continue;
      }
      if (c == '"') in_string = true;
      if (c == '{' || c == '[') ++depth;
      if (c == '}' || c == ']') --depth;
      if (c == ',' && depth == 1) put(at, fmt::format(",{}{}", blank, member));
    }
    return out;
  }

  // `what` behind the line, in front of it, at a blank, and where `anywhere` between any two characters.
  std::vector<std::string> marked_texts(const std::string& line, const std::string& what,
                                        bool anywhere) const {
    std::vector<std::string> out;
    const auto put = [&](std::size_t at, const std::string& put_in) {
      if (out.size() >= kMaxPlaces) return;
      std::string marked = line.substr(0, at) + put_in + line.substr(at);
      const std::size_t from = marked.find(mark_);
      const std::size_t end = from + mark_.size();
      if ((from > 0 && is_of_mark(marked[from - 1])) || (end < marked.size() && is_of_mark(marked[end])))
        return;
      out.push_back(std::move(marked));
    };
    // Of several lines the first: the others may yet become records of their own.
    const std::size_t end = std::min(line.find('\n'), line.size());
    const auto behind = [&](std::size_t at) { put(at, at == 0 || line[at - 1] == ' ' ? what : " " + what); };
    behind(end);
    put(0, end == 0 ? what : what + " ");
    if (end != line.size()) behind(line.size());
    for (std::size_t at = 1; at < line.size(); ++at) {
      if (line[at] == ' ') put(at, " " + what);
    }
    if (!anywhere) return out;
    for (std::size_t at = 0; at <= line.size(); ++at) {
      if (at < line.size() && (static_cast<unsigned char>(line[at]) & 0xC0U) == 0x80) continue;
      put(at, " " + what + " ");
      put(at, what + " ");
      put(at, " " + what);
      put(at, what);
    }
    return out;
  }

  // --- what is made from the expressions

  // Fields and facts that the n-th attempt needs: of the tests, then of labels and the value where nothing
  // else says them; or only the facts. Nothing where a test has no value in this attempt.
  std::optional<Members> needs(int n, const Regex* regex, bool only_facts) {
    Members out;
    const auto is_asked = [&](const std::string& name) { return !only_facts || fact_name(envelope_, name); };
    const auto has = [&](const std::string& name) {
      return std::any_of(out.begin(), out.end(), [&](const auto& member) { return member.first == name; });
    };
    for (std::size_t i = 0; i < pattern_.where.size(); ++i) {
      const FieldTest& test = pattern_.where[i];
      if (test.negated || has(test.field) || !is_asked(test.field)) continue;
      if (where_[i]) {
        std::optional<std::string> text = where_[i]->spell(n);
        if (!text) return std::nullopt;
        out.emplace_back(test.field, *std::move(text));
      } else if (!test.equals.empty()) {
        const std::string_view wish = wishes_.get(test.field);
        const bool is_wished = contains(test.equals, wish);
        out.emplace_back(test.field, is_wished
                                         ? std::string(wish)
                                         : test.equals[static_cast<std::size_t>(n) % test.equals.size()]);
      }
    }
    const auto is_captured = [&](const std::string& name) {
      return (regex != nullptr && has_group(*regex, name)) ||
             std::any_of(pattern_.where.begin(), pattern_.where.end(), [&](const FieldTest& test) {
               return test.match && !test.negated && has_group(*test.match, name);
             });
    };
    const auto fill = [&](const std::string& name, std::span<const std::string_view> words) {
      if (name.empty() || has(name) || !is_asked(name) || is_captured(name)) return;
      const auto will_do = [&](std::string_view word) {
        return !word.empty() &&
               std::all_of(pattern_.where.begin(), pattern_.where.end(),
                           [&](const FieldTest& test) { return test.field != name || passes(test, word); });
      };
      if (const std::string_view wish = wishes_.get(name); will_do(wish)) {
        out.emplace_back(name, wish);
        return;
      }
      const auto word = std::find_if(words.begin(), words.end(), will_do);
      if (word != words.end()) out.emplace_back(name, *word);
    };
    fill(pattern_.value, kNumbers);
    for (const std::string& label : pattern_.labels)
      fill(label, kWords);
    return out;
  }

  // An example says what is in its line; what its envelope says is put beside it. Nothing: no need to try.
  std::optional<Facts> facts_of_example(bool with_facts) {
    // Where it is not known who says it, the line is asked first.
    const bool is_known = envelope_ || format_ == LineFormat::kText;
    if (is_known && !with_facts) return std::nullopt;
    Facts facts;
    if (!with_facts) return facts;
    for (int n = 0; n < kMaxSpellings; ++n) {
      const std::optional<Members> members =
          needs(n, pattern_.match.empty() ? nullptr : &pattern_.match.front(), true);
      if (!members) continue;
      for (const auto& [name, value] : *members) {
        if (const auto fact = fact_name(envelope_, name)) facts.set(*fact, value);
      }
      return facts;
    }
    return facts;
  }

  // Lines around a text that `regex` matches; true: found_ is as good as can be.
  bool spell(int n, const Regex* regex, const std::string& text) {
    const std::optional<Members> all = needs(n, regex, false);
    if (!all) return false;
    Facts facts;
    Members members;
    for (const auto& [name, value] : *all) {
      const auto fact = fact_name(envelope_, name);
      if (fact) facts.set(*fact, value);
      if (!fact || !envelope_) members.emplace_back(name, value);
    }
    return std::any_of(kShapes.begin(), kShapes.end(), [&](Shape shape) {
      const std::optional<std::string> line = in_shape(shape, text, members);
      // Braces around something do not make it JSON.
      if (!line || (format_ == LineFormat::kJson && *line != text && !json_.read(*line))) return false;
      return consider(*line, facts, true);
    });
  }

  // How a text becomes a line of its format, the usual one first.
  enum class Shape { kField, kFieldLast, kAlone, kThenFields, kFieldsThen };
  static constexpr std::array<Shape, 5> kShapes{Shape::kField, Shape::kFieldLast, Shape::kAlone,
                                                Shape::kThenFields, Shape::kFieldsThen};

  std::optional<std::string> in_shape(Shape shape, const std::string& text, const Members& members) const {
    if (format_ == LineFormat::kText)
      return shape == Shape::kAlone ? std::optional(text.empty() ? std::string("example") : text)
                                    : std::nullopt;
    const bool is_json = format_ == LineFormat::kJson;
    const auto written = [&](const Members& what) {
      return is_json ? json_members(what) : logfmt_fields(what);
    };
    const auto whole = [&](std::string inside) { return is_json ? "{" + inside + "}" : std::move(inside); };
    const std::string_view between = is_json ? ", " : " ";
    const std::string fields = written(members);
    if (text.empty()) return shape == Shape::kField ? std::optional(whole(fields)) : std::nullopt;
    const Members of_text{{free_name(kTextFields, ""), text}};
    switch (shape) {
      case Shape::kField:
        return whole(joined(written(of_text), between, fields));
      case Shape::kFieldLast:
        if (fields.empty()) return std::nullopt;
        return whole(joined(fields, between, written(of_text)));
      case Shape::kAlone:
        return is_json && text.front() != '{' ? whole(text) : text;
      case Shape::kThenFields:
        if (is_json && text.front() == '{' && text.back() == '}')
          return joined(text.substr(0, text.size() - 1), between, fields) + "}";
        return whole(joined(text, between, fields));
      case Shape::kFieldsThen:
        // A line that is not JSON may stand in its log: a panic, a trace.
        if (is_json && fields.empty()) return text;
        return whole(joined(fields, between, text));
    }
    return std::nullopt;
  }

  std::string why_not() const {
    const std::string what =
        fmt::format("make a line with a mark that pattern \"{}\" matches: ", pattern_.name);
    if (pattern_.match.empty() && pattern_.where.empty())
      return what + "it has neither `match:` nor `where:`";
    if (!without_room_.empty()) {
      return fmt::format(
          "{}{} matches, but with a mark anywhere in it the pattern, its labels or its value would say "
          "something "
          "else; add a line to its `examples:` that has room for one, or let `match:` leave room",
          what, Json(clean_text(without_room_, kMostShownBytes)).dump());
    }
    if (without_number_) {
      return fmt::format(
          "{}lines were found, but none whose `value:` {} is a number; add one to its `examples:`", what,
          pattern_.value);
    }
    return fmt::format(
        "{}{}none could be made from its expressions; add a line that it matches to its `examples:`", what,
        pattern_.examples.empty() ? "" : "none of its `examples:` matches here, and ");
  }

  const PatternSpec& pattern_;
  LineFormat format_;
  std::string mark_;
  std::optional<Envelope> envelope_;
  PatternSet set_;
  PatternSet::Scratch scratch_;
  JsonLineReader json_;
  Labels wishes_;
  std::vector<Speller> match_;                 // parallel to the pattern's
  std::vector<std::optional<Speller>> where_;  // parallel to the pattern's
  std::size_t left_ = kMaxTriedBytes;
  std::optional<MarkedLine> found_;
  std::string without_room_;     // a line that matched
  bool without_number_ = false;  // one was found that has none
};

}  // namespace

std::optional<std::string> example_of(const Regex& regex) {
  Speller speller(regex);
  std::optional<std::string> second_best;
  for (int n = 0; n < kMaxSpellings && !speller.is_spent(); ++n) {
    std::optional<std::string> text = speller.spell(n);
    if (!text) continue;
    if (text->find('\n') == std::string::npos) return text;
    if (!second_best) second_best = std::move(text);
  }
  return second_best;
}

Result<MarkedLine> marked_line(const PatternSpec& pattern, LineFormat format, std::string_view mark,
                               std::optional<Envelope> envelope) {
  const bool is_mark = !mark.empty() && std::all_of(mark.begin(), mark.end(),
                                                    [](char c) { return is_of_mark(c) && c != '_'; });
  if (!is_mark)
    return fail(ErrorCode::kInvalid, "make a line with a mark: a mark is letters, digits, - and :");
  return LineMaker(pattern, format, mark, envelope).make();
}

}  // namespace logbell::rules

#include "rules/yaml.h"

#include <algorithm>
#include <set>
#include <sstream>
#include <vector>

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

namespace logbell::rules::yaml {
namespace {

// Thrown once a bound is met; never leaves parse().
struct TooMuch {
  std::string reason;
};

class Converter {
 public:
  Converter(const std::string& file, Problems& problems) : file_(file), problems_(problems) {}

  Node convert(const YAML::Node& from, const Place& fallback, std::size_t depth) {
    if (++nodes_ > kMaxNodes)
      throw TooMuch{fmt::format("more than {} values, aliases counted each time they are used", kMaxNodes)};
    if (depth > kMaxDepth) throw TooMuch{fmt::format("nested deeper than {}", kMaxDepth)};
    Node node;
    // An empty value carries the mark of whatever comes next: its key's place is the right one.
    node.place = from.IsNull() || from.Mark().is_null() ? fallback : place_of(from.Mark());
    switch (from.Type()) {
      case YAML::NodeType::Scalar: {
        node.kind = Node::Kind::kScalar;
        node.scalar = from.Scalar();
        node.quoted = from.Tag() == "!";
        const std::string& text = node.scalar;
        if (!node.quoted &&
            (text == "~" || text == "null" || text == "Null" || text == "NULL" || text.empty()))
          node.kind = Node::Kind::kNull;
        break;
      }
      case YAML::NodeType::Sequence:
        node.kind = Node::Kind::kSequence;
        for (const YAML::Node& item : from)
          node.items.push_back(convert(item, node.place, depth + 1));
        break;
      case YAML::NodeType::Map: {
        node.kind = Node::Kind::kMap;
        std::set<std::string> seen;
        for (const auto& pair : from) {
          const Place key_place = place_of(pair.first.Mark());
          if (!pair.first.IsScalar()) {
            problems_.error(key_place, "", "a key must be a plain word");
            continue;
          }
          const std::string& key = pair.first.Scalar();
          if (key == "<<") {
            problems_.error(key_place, "", "merge keys (`<<`) are not supported", "write the keys out");
            continue;
          }
          if (!seen.insert(key).second) {
            problems_.error(
                key_place, "",
                fmt::format("key \"{}\" stands twice; the first is at line {}", key, first_line(node, key)),
                "remove one of them");
            continue;
          }
          node.entries.push_back(Entry{key, key_place, convert(pair.second, key_place, depth + 1)});
        }
        break;
      }
      default:
        break;
    }
    return node;
  }

  Place place_of(const YAML::Mark& mark) const { return Place{file_, mark.line + 1, mark.column + 1}; }

 private:
  static int first_line(const Node& node, const std::string& key) {
    for (const Entry& entry : node.entries) {
      if (entry.key == key) return entry.key_place.line;
    }
    return 0;
  }

  const std::string& file_;
  Problems& problems_;
  std::size_t nodes_ = 0;
};

std::string hint_for(const std::string& message, std::string_view line) {
  const auto says = [&](std::string_view piece) { return message.find(piece) != std::string::npos; };
  if (line.find('\t') != std::string_view::npos) return "the line holds a tab: YAML indents with blanks only";
  if (says("unknown escape character"))
    return "in double quotes a backslash must be doubled: put a regex in single quotes";
  if (says("illegal map value")) return "a text that holds \": \" belongs in quotes";
  if (says("flow not found")) return "a bracket above is not closed";
  if (says("illegal flow end")) return "no bracket is open here that it could close: remove it";
  if (says("referenced anchor")) return "a text that begins with * or & belongs in quotes, as in '*.log'";
  if (says("unknown token")) return "a text that begins with %, @ or ` belongs in quotes";
  if (line.find(": {{") != std::string_view::npos)
    return "a text that begins with { belongs in quotes, as in '{{ $value }}'";
  if (says("end of map not found") || says("end of sequence not found"))
    return "look for a missing quote, bracket or indentation above";
  return "";
}

std::string_view line_at(std::string_view text, int line) {
  for (int i = 0; i < line; ++i) {
    const std::size_t end = text.find('\n');
    if (end == std::string_view::npos) return {};
    text.remove_prefix(end + 1);
  }
  return text.substr(0, text.find('\n'));
}

// yaml-cpp reads a quote that nobody closes up to the end of the file as one scalar, and says nothing. What
// YAML allows between quotes but nobody writes in a configuration gives it away: a quoted text that spans
// lines and holds a line that looks like `key:`, or that ends with the file without its quote.
class QuoteCheck {
 public:
  QuoteCheck(const std::string& file, std::string_view text, Problems& problems)
      : file_(file), text_(text), problems_(problems) {}

  bool run() {
    int flow_depth = 0;     // [ and { that are open
    int block_indent = -1;  // inside a block scalar (| or >) quotes mean nothing
    int line_number = 0;
    std::size_t at = 0;
    while (at < text_.size()) {
      ++line_number;
      std::size_t end = text_.find('\n', at);
      if (end == std::string_view::npos) end = text_.size();
      const std::string_view line = text_.substr(at, end - at);
      const std::size_t indent = line.find_first_not_of(' ');
      if (block_indent >= 0 &&
          (indent == std::string_view::npos || static_cast<int>(indent) > block_indent)) {
        at = end + 1;
        continue;
      }
      block_indent = -1;
      std::size_t i = indent == std::string_view::npos ? line.size() : indent;
      bool value_start = true;  // a quote opens only where a value can begin
      for (; i < line.size(); ++i) {
        const char c = line[i];
        if (c == '#' && (i == 0 || line[i - 1] == ' ' || line[i - 1] == '\t')) break;
        if ((c == '"' || c == '\'') && value_start) {
          const std::size_t close = find_close(at + i + 1, c);
          if (close == std::string_view::npos) return report(line_number, i, c);
          const std::string_view inside = text_.substr(at + i, close - at - i);
          const std::size_t breaks = static_cast<std::size_t>(std::count(inside.begin(), inside.end(), '\n'));
          if (breaks != 0) {
            if (looks_like_keys(inside)) return report(line_number, i, c);
            // The quote closes further down: go on behind it.
            line_number += static_cast<int>(breaks);
            at = close + 1;
            goto next_line;  // NOLINT(cppcoreguidelines-avoid-goto): the outer loop's state is all set
          }
          i = close - at;
          value_start = false;
          continue;
        }
        if ((c == '|' || c == '>') && value_start &&
            line.find_first_not_of("0123456789+- \r", i + 1) == std::string_view::npos) {
          block_indent = static_cast<int>(indent);
          break;
        }
        // Brackets and commas have a meaning only where a value begins or inside brackets: in "well, 'tis"
        // they are text.
        if ((c == '[' || c == '{') && (value_start || flow_depth > 0)) {
          ++flow_depth;
          value_start = true;
        } else if ((c == ']' || c == '}') && flow_depth > 0) {
          --flow_depth;
          value_start = false;
        } else if (c == ' ') {
          value_start = value_start || (i > 0 && line[i - 1] == ':');
        } else {
          value_start = (c == ',' && flow_depth > 0) || (c == '-' && value_start);
        }
      }
      at = end + 1;
    next_line:;
    }
    return true;
  }

 private:
  std::size_t find_close(std::size_t from, char quote) const {
    for (std::size_t i = from; i < text_.size(); ++i) {
      if (quote == '"' && text_[i] == '\\') {
        ++i;
      } else if (text_[i] == quote) {
        if (quote == '\'' && i + 1 < text_.size() && text_[i + 1] == '\'') {
          ++i;
        } else {
          return i;
        }
      }
    }
    return std::string_view::npos;
  }

  static bool looks_like_keys(std::string_view inside) {
    std::size_t at = inside.find('\n');
    while (at != std::string_view::npos) {
      std::size_t end = inside.find('\n', at + 1);
      std::string_view line = inside.substr(at + 1, end == std::string_view::npos ? end : end - at - 1);
      const std::size_t start = line.find_first_not_of(" -");
      if (start != std::string_view::npos) {
        line.remove_prefix(start);
        const std::size_t colon =
            line.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");
        if (colon != std::string_view::npos && colon > 0 && line[colon] == ':' &&
            (colon + 1 == line.size() || line[colon + 1] == ' '))
          return true;
      }
      at = end;
    }
    return false;
  }

  bool report(int line, std::size_t column, char quote) {
    problems_.error(Place{file_, line, static_cast<int>(column) + 1}, "",
                    fmt::format("the quote {} that opens here is not closed", quote),
                    "close it on the same line");
    return false;
  }

  const std::string& file_;
  std::string_view text_;
  Problems& problems_;
};

// Where documents begin. yaml-cpp's own LoadAll goes on for ever where a document begins with what none can
// begin with: `,` or a bracket that closes nothing. So nobody asks for more than two.
class Documents final : public YAML::EventHandler {
 public:
  explicit Documents(const std::string& text) {
    std::istringstream in(text);
    YAML::Parser parser(in);
    while (begins_.size() < 2 && parser.HandleNextDocument(*this)) {
    }
  }
  std::size_t count() const { return begins_.size(); }
  const YAML::Mark& second() const { return begins_.at(1); }

  void OnDocumentStart(const YAML::Mark& mark) override { begins_.push_back(mark); }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& /*mark*/, YAML::anchor_t /*anchor*/) override {}
  void OnAlias(const YAML::Mark& /*mark*/, YAML::anchor_t /*anchor*/) override {}
  void OnScalar(const YAML::Mark& /*mark*/, const std::string& /*tag*/, YAML::anchor_t /*anchor*/,
                const std::string& /*value*/) override {}
  void OnSequenceStart(const YAML::Mark& /*mark*/, const std::string& /*tag*/, YAML::anchor_t /*anchor*/,
                       YAML::EmitterStyle::value /*style*/) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark& /*mark*/, const std::string& /*tag*/, YAML::anchor_t /*anchor*/,
                  YAML::EmitterStyle::value /*style*/) override {}
  void OnMapEnd() override {}

 private:
  std::vector<YAML::Mark> begins_;
};

}  // namespace

const Node* Node::find(std::string_view key) const {
  for (const Entry& entry : entries) {
    if (entry.key == key) return &entry.value;
  }
  return nullptr;
}

std::optional<Node> parse(const std::string& file, std::string_view text, Problems& problems) {
  const Place start{file, 1, 1};
  if (text.size() > kMaxBytes) {
    problems.error(start, "", fmt::format("the file holds more than {} bytes", kMaxBytes),
                   "split it with rule_files:");
    return std::nullopt;
  }
  if (text.substr(0, 3) == "\xEF\xBB\xBF") text.remove_prefix(3);
  const bool quotes_close = QuoteCheck(file, text, problems).run();
  try {
    const std::string whole(text);
    const Documents documents(whole);
    if (!quotes_close) return std::nullopt;
    if (documents.count() > 1) {
      const YAML::Mark& second = documents.second();
      const Place place = second.is_null() ? start : Place{file, second.line + 1, second.column + 1};
      const std::string_view rest =
          second.is_null() || second.pos < 0 || static_cast<std::size_t>(second.pos) > text.size()
              ? std::string_view()
              : text.substr(static_cast<std::size_t>(second.pos));
      const char at = rest.empty() ? '\0' : rest.front();
      if (at == ',' || at == ']' || at == '}') {
        problems.error(place, "", fmt::format("not YAML: `{}` belongs to no list that is open here", at),
                       "remove it, or open a bracket before it");
      } else if (rest.substr(0, 3) != "---" && rest.substr(0, 3) != "...") {
        problems.error(place, "", "not YAML: this belongs to nothing above it",
                       "indent it like the keys it belongs to");
      } else {
        problems.error(place, "", "the file holds more than one YAML document: here the second begins",
                       "remove the `---` between them");
      }
      return std::nullopt;
    }
    Converter converter(file, problems);
    const YAML::Node document = YAML::Load(whole);
    if (documents.count() == 0 || document.IsNull()) {
      problems.error(start, "", "the file is empty");
      return std::nullopt;
    }
    return converter.convert(document, start, 0);
  } catch (const YAML::ParserException& error) {
    if (quotes_close) {
      Place place = start;
      if (!error.mark.is_null()) place = Place{file, error.mark.line + 1, error.mark.column + 1};
      problems.error(place, "", "not YAML: " + error.msg, hint_for(error.msg, line_at(text, place.line - 1)));
    }
  } catch (const YAML::Exception& error) {
    problems.error(start, "", "not YAML: " + error.msg);
  } catch (const TooMuch& error) {
    problems.error(start, "", error.reason, "anchors and aliases that multiply are not accepted");
  }
  return std::nullopt;
}

}  // namespace logbell::rules::yaml

#include "rules/regex_tree.h"

#include <algorithm>
#include <charconv>
#include <system_error>
#include <utility>

namespace logbell::rules {
namespace {

using Kind = RegexTree::Kind;

// RE2 itself takes a nesting of 1000; deeper than this no person writes.
constexpr int kMostRegexDepth = 100;
RegexTree leaf(Kind kind) {
  RegexTree tree;
  tree.kind = kind;
  return tree;
}

RegexTree set_of(ByteSet set) {
  set.bytes.reset('\n');
  RegexTree tree;
  tree.kind = set.empty() ? Kind::kNothing : Kind::kSet;
  tree.set = set;
  return tree;
}

RegexTree concat(std::vector<RegexTree> parts) {
  if (parts.size() == 1) return std::move(parts.front());
  if (parts.empty()) return leaf(Kind::kEmpty);
  RegexTree tree;
  tree.kind = Kind::kConcat;
  tree.parts = std::move(parts);
  return tree;
}

RegexTree repeat(RegexTree part, int least, int most) {
  RegexTree tree;
  tree.kind = Kind::kRepeat;
  tree.least = least;
  tree.most = most;
  tree.parts.push_back(std::move(part));
  return tree;
}

bool is_letter(unsigned char byte) {
  return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z');
}

std::bitset<256> range(unsigned from, unsigned to) {
  std::bitset<256> bytes;
  for (unsigned byte = from; byte <= to && byte < 256; ++byte)
    bytes.set(byte);
  return bytes;
}

std::bitset<256> ascii() {
  return range(0, 0x7F);
}

std::bitset<256> folded(std::bitset<256> bytes) {
  for (unsigned lower = 'a'; lower <= 'z'; ++lower) {
    const unsigned upper = lower - 'a' + 'A';
    if (bytes[lower] || bytes[upper]) bytes.set(lower).set(upper);
  }
  return bytes;
}

const std::bitset<256>& digits() {
  static const auto kBytes = range('0', '9');
  return kBytes;
}
const std::bitset<256>& letters() {
  static const auto kBytes = range('a', 'z') | range('A', 'Z');
  return kBytes;
}
const std::bitset<256>& words() {
  static const auto kBytes = digits() | letters() | range('_', '_');
  return kBytes;
}
const std::bitset<256>& blanks() {
  static const auto kBytes = range('\t', '\n') | range('\f', '\r') | range(' ', ' ');
  return kBytes;
}

std::optional<std::bitset<256>> posix_class(std::string_view name) {
  const auto punctuation = range('!', '~') & ~(digits() | letters());
  const std::pair<std::string_view, std::bitset<256>> known[] = {
      {"alnum", digits() | letters()},
      {"alpha", letters()},
      {"ascii", ascii()},
      {"blank", range('\t', '\t') | range(' ', ' ')},
      {"cntrl", range(0, 0x1F) | range(0x7F, 0x7F)},
      {"digit", digits()},
      {"graph", range('!', '~')},
      {"lower", range('a', 'z')},
      {"print", range(' ', '~')},
      {"punct", punctuation},
      {"space", range('\t', '\r') | range(' ', ' ')},
      {"upper", range('A', 'Z')},
      {"word", words()},
      {"xdigit", digits() | range('a', 'f') | range('A', 'F')}};
  for (const auto& [each, bytes] : known) {
    if (each == name) return bytes;
  }
  return std::nullopt;
}

// What a class holds: bytes that are in it for certain, bytes that may be. Its complement is certain of
// nothing else.
struct Class {
  std::bitset<256> certain;
  std::bitset<256> possible;
  bool wide = false;

  void add(const std::bitset<256>& bytes) { certain |= bytes; }
  void add_wide() { wide = true; }
  void add_complement(const std::bitset<256>& bytes) {
    certain |= ascii() & ~bytes;
    wide = true;
  }
  ByteSet take(bool negated, bool fold) const {
    ByteSet set;
    if (negated) {
      set.bytes = ascii() & ~(fold ? folded(certain) : certain);
      set.wide = true;
      return set;
    }
    set.bytes = certain | possible;
    set.wide = wide;
    if (!fold) return set;
    set.bytes = folded(set.bytes);
    // K and ſ are folds of these.
    if (set.bytes['k'] || set.bytes['s']) set.wide = true;
    return set;
  }
};

class Parser {
 public:
  explicit Parser(std::string_view pattern) : rest_(pattern) {}

  std::optional<RegexTree> parse() {
    RegexTree tree = alternatives(0);
    if (failed_ || !rest_.empty()) return std::nullopt;
    tree.folds = folds_;
    return tree;
  }

 private:
  struct Atom {
    RegexTree tree;
    bool raw_wide =
        false;  // one character of the pattern that is no ASCII: where bytes are matched, it is several
  };

  bool at(std::string_view text) const { return rest_.substr(0, text.size()) == text; }
  bool skip(std::string_view text) {
    if (!at(text)) return false;
    rest_.remove_prefix(text.size());
    return true;
  }
  char take() {
    const char c = rest_.front();
    rest_.remove_prefix(1);
    return c;
  }
  RegexTree fail() {
    failed_ = true;
    rest_ = {};
    return leaf(Kind::kEmpty);
  }

  RegexTree alternatives(int depth) {
    if (depth > kMostRegexDepth) return fail();
    const bool fold = fold_;
    std::vector<RegexTree> any;
    do {
      any.push_back(sequence(depth));
    } while (!failed_ && skip("|"));
    fold_ = fold;  // a flag holds to the end of its group
    return any.size() == 1 ? std::move(any.front()) : RegexTree::any_of(std::move(any));
  }

  RegexTree sequence(int depth) {
    std::vector<Atom> atoms;
    while (!failed_ && !rest_.empty() && rest_.front() != '|' && rest_.front() != ')') {
      if (skip("\\Q")) {
        while (!rest_.empty() && !skip("\\E"))
          atoms.push_back(character());
      } else if (std::optional<Atom> atom = this->atom(depth)) {
        atoms.push_back(*std::move(atom));
      }
      // Flags and empty quotes are none: what repeats is what stands before them.
      if (!atoms.empty()) repetitions(atoms.back());
    }
    std::vector<RegexTree> parts;
    parts.reserve(atoms.size());
    for (Atom& atom : atoms)
      parts.push_back(std::move(atom.tree));
    return concat(std::move(parts));
  }

  void repetitions(Atom& atom) {
    while (!failed_ && !rest_.empty()) {
      int least = 0;
      int most = RegexTree::kUnbounded;
      if (skip("*")) {
      } else if (skip("+")) {
        least = 1;
      } else if (skip("?")) {
        most = 1;
      } else if (!counted(least, most)) {
        return;
      }
      skip("?");
      if (atom.raw_wide) {
        // Bytewise only its last byte is repeated: there is at least the first.
        ByteSet wide;
        wide.wide = true;
        if (atom.tree.kind != Kind::kSet) atom.tree = set_of(wide);
        if (most == 0) most = 1;
        atom.raw_wide = false;
      }
      atom.tree = repeat(std::move(atom.tree), least, most);
    }
  }

  // {2}, {2,}, {2,3}; anything else in braces is text.
  bool counted(int& least, int& most) {
    if (!at("{")) return false;
    const char* at = rest_.data() + 1;
    const char* const end = rest_.data() + rest_.size();
    const auto first = std::from_chars(at, end, least);
    if (first.ec != std::errc() || first.ptr == end) return false;
    at = first.ptr;
    most = least;
    if (*at == ',') {
      ++at;
      most = RegexTree::kUnbounded;
      if (at != end && *at != '}') {
        const auto second = std::from_chars(at, end, most);
        if (second.ec != std::errc()) return false;
        at = second.ptr;
      }
    }
    if (at == end || *at != '}') return false;
    rest_.remove_prefix(static_cast<std::size_t>(at + 1 - rest_.data()));
    return true;
  }

  std::optional<Atom> atom(int depth) {
    switch (rest_.front()) {
      case '(':
        return group(depth);
      case '[':
        return Atom{char_class(), false};
      case '.': {
        take();
        ByteSet any;
        any.bytes = ascii();
        any.wide = true;
        return Atom{set_of(any), false};
      }
      case '^':
        take();
        return Atom{leaf(Kind::kLineBegin), false};
      case '$':
        take();
        return Atom{leaf(Kind::kLineEnd), false};
      case '\\':
        return escape();
      default:
        return character();
    }
  }

  std::optional<Atom> group(int depth) {
    take();
    const bool fold = fold_;
    if (skip("?P<")) {
      const std::size_t end = rest_.find('>');
      if (end == std::string_view::npos) return Atom{fail(), false};
      rest_.remove_prefix(end + 1);
    } else if (skip("?")) {
      bool off = false;
      while (!rest_.empty() && rest_.front() != ':' && rest_.front() != ')') {
        const char flag = take();
        if (flag == '-') {
          off = true;
        } else if (flag == 'i') {
          fold_ = !off;
        } else if (flag != 'm' && flag != 's' && flag != 'U') {
          return Atom{fail(), false};
        }
      }
      if (skip(")")) return std::nullopt;  // the flags hold from here on
      if (!skip(":")) return Atom{fail(), false};
    }
    RegexTree tree = alternatives(depth + 1);
    if (!skip(")")) return Atom{fail(), false};
    fold_ = fold;
    return Atom{std::move(tree), false};
  }

  // One character of the pattern as itself.
  Atom character() {
    const auto first = static_cast<unsigned char>(take());
    if (first < 0x80) return Atom{ascii_literal(first), false};
    std::string bytes(1, static_cast<char>(first));
    while (!rest_.empty() && (static_cast<unsigned char>(rest_.front()) & 0xC0U) == 0x80U)
      bytes += take();
    Atom atom{RegexTree::literal(bytes), true};
    if (fold_) {
      ByteSet wide;
      wide.wide = true;
      atom.tree = set_of(wide);
    }
    return atom;
  }

  RegexTree ascii_literal(unsigned char byte) {
    if (!fold_ || !is_letter(byte)) return set_of(ByteSet::of(byte));
    ByteSet both;
    both.bytes = folded(ByteSet::of(byte).bytes);
    if (both.bytes['k'] || both.bytes['s']) folds_ = true;
    return set_of(both);
  }

  // A character by its number. Beyond ASCII it is one byte or several, as what is matched is UTF-8 or not.
  RegexTree numbered(std::uint32_t code) {
    if (code < 0x80) return ascii_literal(static_cast<unsigned char>(code));
    ByteSet wide;
    wide.wide = true;
    return set_of(wide);
  }

  std::optional<Atom> escape() {
    if (rest_.size() < 2) return Atom{fail(), false};
    switch (rest_[1]) {
      case 'A':
        rest_.remove_prefix(2);
        return Atom{leaf(Kind::kLineBegin), false};
      case 'z':
        rest_.remove_prefix(2);
        return Atom{leaf(Kind::kLineEnd), false};
      case 'b':
        rest_.remove_prefix(2);
        return Atom{leaf(Kind::kWordEdge), false};
      case 'B':
        rest_.remove_prefix(2);
        return Atom{leaf(Kind::kNoWordEdge), false};
      case 'C': {
        rest_.remove_prefix(2);
        ByteSet any;
        any.bytes = ascii();
        any.wide = true;
        return Atom{set_of(any), false};
      }
      case 'E':  // behind no \Q it is nothing
        rest_.remove_prefix(2);
        return std::nullopt;
      default:
        break;
    }
    Class some;
    if (class_escape(some)) return Atom{set_of(some.take(false, fold_)), false};
    if (failed_) return Atom{fail(), false};
    const std::optional<std::uint32_t> code = character_escape();
    if (!code) return Atom{fail(), false};
    return Atom{numbered(*code), false};
  }

  // \d, \pL …, at a backslash.
  bool class_escape(Class& into) {
    const char kind = rest_[1];
    const std::bitset<256>* bytes = nullptr;
    switch (kind) {
      case 'd':
      case 'D':
        bytes = &digits();
        break;
      case 'w':
      case 'W':
        bytes = &words();
        break;
      case 's':
      case 'S':
        bytes = &blanks();
        break;
      case 'p':
      case 'P':
        rest_.remove_prefix(2);
        unicode_class(kind == 'P', into);
        return !failed_;
      default:
        return false;
    }
    rest_.remove_prefix(2);
    if (kind == 'd' || kind == 'w' || kind == 's') {
      into.add(*bytes);
    } else {
      into.add_complement(*bytes);
    }
    return true;
  }

  void unicode_class(bool negated, Class& into) {
    std::string_view name;
    if (skip("{")) {
      const std::size_t end = rest_.find('}');
      if (end == std::string_view::npos) {
        fail();
        return;
      }
      name = rest_.substr(0, end);
      rest_.remove_prefix(end + 1);
    } else if (!rest_.empty()) {
      // A name is one character, which may have several bytes.
      std::size_t length = 1;
      while (length < rest_.size() && (static_cast<unsigned char>(rest_[length]) & 0xC0U) == 0x80U)
        ++length;
      name = rest_.substr(0, length);
      rest_.remove_prefix(length);
    }
    into.add_wide();
    if (!negated && (name == "L" || name == "Lu" || name == "Ll")) {
      into.possible |= letters();
    } else if (!negated && (name == "N" || name == "Nd")) {
      into.possible |= digits();
    } else {
      into.possible |= ascii();
    }
  }

  // At a backslash, behind which stands no class: the character that is meant.
  std::optional<std::uint32_t> character_escape() {
    take();
    const char kind = take();
    switch (kind) {
      case 'a':
        return 7;
      case 'f':
        return '\f';
      case 'n':
        return '\n';
      case 'r':
        return '\r';
      case 't':
        return '\t';
      case 'v':
        return '\v';
      case 'x': {
        std::uint32_t code = 0;
        std::string_view number = rest_.substr(0, 2);
        if (skip("{")) {
          number = rest_.substr(0, rest_.find('}'));
          rest_.remove_prefix(std::min(rest_.size(), number.size() + 1));
        } else {
          rest_.remove_prefix(number.size());
        }
        const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), code, 16);
        if (error != std::errc() || end != number.data() + number.size()) return std::nullopt;
        return code;
      }
      default:
        break;
    }
    if (kind >= '0' && kind <= '7') {
      std::uint32_t code = static_cast<std::uint32_t>(kind - '0');
      for (int more = 0; more < 2 && !rest_.empty() && rest_.front() >= '0' && rest_.front() <= '7'; ++more)
        code = code * 8 + static_cast<std::uint32_t>(take() - '0');
      return code;
    }
    const auto byte = static_cast<unsigned char>(kind);
    if (byte >= 0x80 || is_letter(byte) || (byte >= '8' && byte <= '9')) return std::nullopt;
    return byte;
  }

  RegexTree char_class() {
    take();
    Class all;
    const bool negated = skip("^");
    for (bool first = true; first || !at("]"); first = false) {
      if (rest_.empty()) return fail();
      if (at("[:")) {
        const std::size_t end = rest_.find(":]");
        if (end != std::string_view::npos) {
          std::string_view name = rest_.substr(2, end - 2);
          const bool without = !name.empty() && name.front() == '^';
          if (without) name.remove_prefix(1);
          if (const auto bytes = posix_class(name)) {
            rest_.remove_prefix(end + 2);
            if (without) {
              all.add_complement(*bytes);
            } else {
              all.add(*bytes);
            }
            continue;
          }
        }
      }
      if (at("\\") && rest_.size() > 1 && class_escape(all)) continue;
      if (failed_) return fail();
      const std::optional<std::uint32_t> low = class_character();
      if (!low) return fail();
      std::uint32_t high = *low;
      if (at("-") && rest_.size() > 1 && rest_[1] != ']') {
        take();
        const std::optional<std::uint32_t> to = class_character();
        if (!to) return fail();
        high = *to;
      }
      if (*low < 0x80) all.add(range(*low, std::min<std::uint32_t>(high, 0x7F)));
      if (high >= 0x80) all.add_wide();
    }
    take();
    return set_of(all.take(negated, fold_));
  }

  std::optional<std::uint32_t> class_character() {
    if (rest_.empty()) return std::nullopt;
    if (rest_.front() == '\\') return rest_.size() > 1 ? character_escape() : std::nullopt;
    const auto first = static_cast<unsigned char>(take());
    if (first < 0x80) return first;
    while (!rest_.empty() && (static_cast<unsigned char>(rest_.front()) & 0xC0U) == 0x80U)
      take();
    return 0x80;  // whichever it is
  }

  std::string_view rest_;
  bool fold_ = false;
  bool folds_ = false;
  bool failed_ = false;
};

}  // namespace

ByteSet ByteSet::of(unsigned char byte) {
  ByteSet set;
  set.bytes.set(byte);
  return set;
}

RegexTree RegexTree::literal(std::string_view text) {
  std::vector<RegexTree> parts;
  for (const char c : text)
    parts.push_back(set_of(ByteSet::of(static_cast<unsigned char>(c))));
  return concat(std::move(parts));
}

RegexTree RegexTree::any_of(std::vector<RegexTree> parts) {
  std::erase_if(parts, [](const RegexTree& part) { return part.kind == Kind::kNothing; });
  if (parts.empty()) return leaf(Kind::kNothing);
  if (parts.size() == 1) return std::move(parts.front());
  RegexTree tree;
  // One character of several is a set of them.
  if (std::all_of(parts.begin(), parts.end(),
                  [](const RegexTree& part) { return part.kind == Kind::kSet; })) {
    tree.kind = Kind::kSet;
    for (const RegexTree& part : parts) {
      tree.set.bytes |= part.set.bytes;
      tree.set.wide = tree.set.wide || part.set.wide;
    }
  } else {
    tree.kind = Kind::kAlternate;
    tree.parts = std::move(parts);
  }
  return tree;
}

RegexTree RegexTree::unanchored() const {
  RegexTree tree = *this;
  if (kind == Kind::kLineBegin || kind == Kind::kLineEnd || kind == Kind::kWordEdge ||
      kind == Kind::kNoWordEdge)
    tree.kind = Kind::kEmpty;
  for (RegexTree& part : tree.parts)
    part = part.unanchored();
  return tree;
}

std::optional<RegexTree> parse_regex(std::string_view pattern) {
  return Parser(pattern).parse();
}

}  // namespace logbell::rules

#include "rules/speller.h"

#include <algorithm>
#include <array>
#include <bitset>
#include <limits>
#include <map>
#include <random>
#include <string_view>
#include <utility>
#include <vector>

#include "rules/text.h"

namespace logbell::rules {
namespace {

constexpr int kMaxDepth = 100;            // of groups in each other; RE2 takes 1000, nobody writes them
constexpr std::size_t kMaxNodes = 20000;  // alternations of a few thousand words have about as many
// Different classes in one expression: each compiles two automata, to ask of what is in it.
constexpr std::size_t kMaxSets = 64;
// Of one walk, and of all of them: repetitions of nothing inside each other have no other end.
constexpr std::size_t kMaxSteps = 20000;
constexpr std::size_t kMaxStepsInAll = 200'000;
constexpr int kMaxRepeat = 1000;     // RE2's own
constexpr int kPlainSpellings = 12;  // before chance is asked
constexpr int kOpen = -1;            // no upper end

constexpr std::string_view kWord = "example";
// Between two words, where anything may stand. A comma makes members of a JSON object.
constexpr std::array<std::string_view, 4> kFillers{" ", "", ",", " - "};
// Where neither a letter nor a digit will do, in this order.
constexpr std::string_view kMarks = " -_./:,;=#\"'()[]{}";
// Characters of the scripts that are asked for by name, before all of them are gone through.
constexpr std::array<std::uint32_t, 12> kFarLetters{0xE9,   0xC9,   0x3B1, 0x391, 0x434,   0x414,
                                                    0x4E2D, 0x3042, 0x5D0, 0x627, 0x1F600, 0x20AC};
constexpr std::uint32_t kLastFarLetter = 0x2FFFF;  // what is assigned beyond it is no letter of a log

// The characters of a class, as far as anybody wants to read them.
struct CharacterSet {
  std::bitset<128> ascii;
  std::string other;  // one character, where no printable one is in it; "": none was found

  bool has(char c) const {
    return static_cast<unsigned char>(c) < 128 && ascii[static_cast<unsigned char>(c)];
  }
  bool has_all(std::string_view text) const {
    return std::all_of(text.begin(), text.end(), [this](char c) { return has(c); });
  }
};

// `atom`: a class as it is written, flags in front.
CharacterSet ask_for_characters(const std::string& atom) {
  CharacterSet set;
  const auto regex = Regex::compile(atom, Regex::Options{true});
  if (!regex) return set;
  for (char c = ' '; c <= '~'; ++c) {
    if (regex->matches(std::string_view(&c, 1))) set.ascii.set(static_cast<std::size_t>(c));
  }
  if (set.ascii.any()) return set;
  const auto take = [&](std::uint32_t code) {
    std::string one = utf8(code);
    if (!regex->matches(one)) return false;
    set.other = std::move(one);
    return true;
  };
  if (take('\t') || std::any_of(kFarLetters.begin(), kFarLetters.end(), take)) return set;
  for (std::uint32_t code = 0x80; code <= kLastFarLetter; ++code) {
    if ((code < 0xD800 || code > 0xDFFF) && take(code)) return set;
  }
  for (std::uint32_t code = 1; code < 0x20; ++code) {
    if (code != '\n' && code != '\r' && take(code)) return set;
  }
  if (!take(0x7F) && !take('\r') && !take('\n')) take(0);
  return set;
}

struct Node {
  enum class Kind : std::uint8_t { kText, kSet, kSequence, kEither, kRepeat, kGroup, kWordEdge };
  Kind kind = Kind::kText;
  std::string text;                  // kText: itself; kSet: as written, flags in front; kGroup: its name
  std::vector<std::uint32_t> parts;  // indices of nodes
  int least = 0;                     // kRepeat
  int most = 0;                      // kRepeat; kOpen
  bool has_name = false;             // a named group is in it
  bool has_value = false;            // the value's group is in it
};

// `\Q…\E` written as single characters.
std::string without_quotes(std::string_view pattern) {
  std::string out;
  for (std::size_t at = 0; at < pattern.size(); ++at) {
    if (pattern[at] != '\\' || at + 1 >= pattern.size()) {
      out += pattern[at];
      continue;
    }
    if (pattern[at + 1] != 'Q') {
      out += pattern[at++];
      out += pattern[at];
      continue;
    }
    const std::size_t end = std::min(pattern.find("\\E", at + 2), pattern.size());
    for (const char c : pattern.substr(at + 2, end - at - 2)) {
      if (static_cast<unsigned char>(c) < 128 && !is_word(c)) out += '\\';
      out += c;
    }
    at = end + 1;
  }
  return out;
}

// The expression as a tree. RE2 took it: what would be a mistake in it is not looked for.
class Parser {
 public:
  Parser(std::string_view pattern, std::string_view value) : text_(without_quotes(pattern)), value_(value) {}

  // The root; nothing where a bound was reached or something was not understood.
  std::optional<std::uint32_t> parse() {
    const std::uint32_t root = either(0);
    if (failed_ || at_ != text_.size()) return std::nullopt;
    return root;
  }
  std::vector<Node> take_nodes() { return std::move(nodes_); }

 private:
  struct Flags {
    bool ignores_case = false;
    bool dot_takes_breaks = false;
  };

  std::uint32_t add(Node node) {
    if (nodes_.size() >= kMaxNodes) failed_ = true;
    for (const std::uint32_t part : node.parts) {
      node.has_name = node.has_name || nodes_[part].has_name;
      node.has_value = node.has_value || nodes_[part].has_value;
    }
    if (!failed_ || nodes_.empty()) nodes_.push_back(std::move(node));
    return static_cast<std::uint32_t>(nodes_.size() - 1);
  }
  std::uint32_t add_text(std::string text) {
    Node node;
    node.text = std::move(text);
    return add(std::move(node));
  }
  // What takes no character; a repetition may stand behind it.
  std::uint32_t nothing() {
    Node node;
    node.kind = Node::Kind::kSequence;
    return add(std::move(node));
  }
  std::uint32_t add_set(std::string_view written) {
    Node node;
    node.kind = Node::Kind::kSet;
    if (flags_.ignores_case) node.text += "(?i)";
    if (flags_.dot_takes_breaks) node.text += "(?s)";
    node.text += written;
    return add(std::move(node));
  }

  bool done() const { return failed_ || at_ >= text_.size(); }
  char here() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  bool take(std::string_view wanted) {
    if (std::string_view(text_).substr(at_, wanted.size()) != wanted) return false;
    at_ += wanted.size();
    return true;
  }

  std::uint32_t either(int depth) {
    if (depth > kMaxDepth) failed_ = true;
    Node node;
    node.kind = Node::Kind::kEither;
    node.parts.push_back(sequence(depth));
    while (!failed_ && take("|"))
      node.parts.push_back(sequence(depth));
    return node.parts.size() == 1 ? node.parts.front() : add(std::move(node));
  }

  std::uint32_t sequence(int depth) {
    Node node;
    node.kind = Node::Kind::kSequence;
    bool may_grow = false;  // the last part is a text that no repetition stands behind
    while (!done() && here() != '|' && here() != ')') {
      const std::optional<std::uint32_t> atom = next(depth);
      if (!atom || failed_) continue;
      const std::uint32_t part = repeated(*atom);
      const bool is_plain = part == *atom && nodes_[part].kind == Node::Kind::kText;
      if (may_grow && is_plain) {
        nodes_[node.parts.back()].text += nodes_[part].text;
        nodes_.pop_back();
      } else {
        node.parts.push_back(part);
      }
      may_grow = is_plain;
    }
    return node.parts.size() == 1 ? node.parts.front() : add(std::move(node));
  }

  // Nothing: flags, which hold from here on.
  std::optional<std::uint32_t> next(int depth) {
    const char c = here();
    if (c == '(') return group(depth);
    if (c == '[') return bracket();
    if (c == '\\') return escape();
    if (c == '.') {
      ++at_;
      return add_set(".");
    }
    if (c == '^' || c == '$') {
      ++at_;
      return nothing();
    }
    return add_text(character());
  }

  std::string character() {
    const std::size_t from = at_++;
    while (at_ < text_.size() && (static_cast<unsigned char>(text_[at_]) & 0xC0U) == 0x80)
      ++at_;
    return text_.substr(from, at_ - from);
  }

  std::optional<std::uint32_t> group(int depth) {
    ++at_;
    const Flags before = flags_;
    Node node;
    node.kind = Node::Kind::kGroup;
    if (take("?P<") || take("?<")) {
      const std::size_t end = std::min(text_.find('>', at_), text_.size());
      node.text = text_.substr(at_, end - at_);
      node.has_name = true;
      node.has_value = !value_.empty() && node.text == value_;
      at_ = end + 1;
    } else if (take("?")) {
      bool on = true;
      while (!done() && here() != ':' && here() != ')') {
        if (here() == '-') on = false;
        if (here() == 'i') flags_.ignores_case = on;
        if (here() == 's') flags_.dot_takes_breaks = on;
        ++at_;
      }
      if (take(")")) return std::nullopt;  // to the end of the group around it
      ++at_;
    }
    const std::uint32_t inside = either(depth + 1);
    flags_ = before;
    if (!take(")")) failed_ = true;
    if (node.text.empty()) return inside;
    node.parts.push_back(inside);
    return add(std::move(node));
  }

  std::uint32_t bracket() {
    const std::size_t from = at_++;
    take("^");
    take("]");  // the first one is a character like any other
    while (!done() && here() != ']') {
      if (take("[:")) {
        const std::size_t end = text_.find(":]", at_);
        if (end != std::string::npos) at_ = end + 2;
      } else {
        at_ += here() == '\\' ? 2U : 1U;
      }
    }
    if (!take("]")) failed_ = true;
    return add_set(std::string_view(text_).substr(from, at_ - from));
  }

  std::uint32_t escape() {
    const std::size_t from = at_++;
    const char c = here();
    const std::string one = character();
    switch (c) {
      case 'A':
      case 'z':
      case 'B':  // left to chance
        return nothing();
      case 'b': {
        Node node;
        node.kind = Node::Kind::kWordEdge;
        return add(std::move(node));
      }
      case 'p':
      case 'P':
        if (here() == '{') {
          at_ = std::min(text_.find('}', at_), text_.size() - 1) + 1;
        } else {
          character();
        }
        [[fallthrough]];
      case 'd':
      case 'D':
      case 's':
      case 'S':
      case 'w':
      case 'W':
      case 'C':
        return add_set(std::string_view(text_).substr(from, at_ - from));
      case 'a':
        return add_text("\a");
      case 'f':
        return add_text("\f");
      case 'n':
        return add_text("\n");
      case 'r':
        return add_text("\r");
      case 't':
        return add_text("\t");
      case 'v':
        return add_text("\v");
      case 'x':
        return add_text(utf8(take("{") ? number(16, 6, true) : number(16, 2, false)));
      default:
        break;
    }
    if (c >= '0' && c <= '7') {
      --at_;
      return add_text(utf8(number(8, 3, false)));
    }
    return add_text(one);
  }

  std::uint32_t number(std::uint32_t base, int digits, bool braced) {
    std::uint32_t value = 0;
    for (; digits > 0 && !done(); --digits, ++at_) {
      const char c = lower(here());
      const int digit = is_digit(c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
      if (digit < 0 || static_cast<std::uint32_t>(digit) >= base) break;
      value = value * base + static_cast<std::uint32_t>(digit);
    }
    if (braced && !take("}")) failed_ = true;
    return value;
  }

  // `part` with the repetitions that stand behind it.
  std::uint32_t repeated(std::uint32_t part) {
    while (!failed_) {
      Node node;
      node.kind = Node::Kind::kRepeat;
      if (take("*")) {
        node.most = kOpen;
      } else if (take("+")) {
        node.least = 1;
        node.most = kOpen;
      } else if (take("?")) {
        node.most = 1;
      } else if (!counted(node)) {
        break;
      }
      take("?");
      node.parts.push_back(part);
      part = add(std::move(node));
    }
    return part;
  }

  // {3}, {3,}, {3,5}. Anything else in braces is text.
  bool counted(Node& node) {
    const std::size_t from = at_;
    const auto digits = [this](int& out) {
      const std::size_t start = at_;
      out = 0;
      while (at_ < text_.size() && is_digit(text_[at_]))
        out = std::min(out * 10 + (text_[at_++] - '0'), kMaxRepeat + 1);
      return at_ != start;
    };
    if (take("{") && digits(node.least)) {
      node.most = node.least;
      if (take(",") && !digits(node.most)) node.most = kOpen;
      if (take("}")) return true;
    }
    at_ = from;
    return false;
  }

  std::string text_;
  std::string value_;
  std::vector<Node> nodes_;
  Flags flags_;
  std::size_t at_ = 0;
  bool failed_ = false;
};

}  // namespace

struct Speller::Impl {
  // How one text is made.
  struct Manner {
    bool drawn = false;         // by chance, else the plainest
    bool wishes = false;        // groups hold what was wished for
    std::string_view filler;    // where anything may stand
    std::size_t shift = 0;      // which of several alternatives
    std::minstd_rand random{};  // the same numbers each time  NOLINT(cert-msc51-cpp)

    std::size_t draw(std::size_t below) { return below == 0 ? 0 : random() % below; }
  };
  struct Walk {
    Manner manner;
    std::string out;
    std::size_t steps = 0;
    bool in_name = false;
    bool in_value = false;
    bool fills = false;  // the group would be empty without what may be left out
    bool at_edge = false;
  };

  const CharacterSet& set_of(const Node& node) {
    static const CharacterSet kNothing;
    const auto known = sets.find(node.text);
    if (known != sets.end()) return known->second;
    if (sets.size() >= kMaxSets) return kNothing;
    return sets.emplace(node.text, ask_for_characters(node.text)).first->second;
  }

  // The i-th character of a run out of `set`.
  static void add_one(const CharacterSet& set, std::size_t i, Walk& walk) {
    const bool edge = std::exchange(walk.at_edge, false);
    const auto put = [&](char c) {
      if (set.has(c)) walk.out += c;
      return set.has(c);
    };
    if (edge && !walk.out.empty() && is_word(walk.out.back()) &&
        std::any_of(kMarks.begin(), kMarks.end(), [&](char c) { return !is_word(c) && put(c); })) {
      return;
    }
    if (walk.manner.drawn && walk.manner.draw(2) == 0) {
      const std::size_t from = walk.manner.draw(128);
      for (std::size_t k = 0; k < 128; ++k) {
        if (put(static_cast<char>((from + k) % 128))) return;
      }
    }
    const char digit = walk.out.empty() || !is_digit(walk.out.back()) ? '1' : '0';
    const char letter = kWord[i % kWord.size()];
    if (walk.in_value && put(digit)) return;
    if (put(letter) || put(static_cast<char>(letter - 'a' + 'A')) || put(digit)) return;
    if (std::any_of(kMarks.begin(), kMarks.end(), put)) return;
    for (char c = ' '; c <= '~'; ++c) {
      if (put(c)) return;
    }
    walk.out += set.other;
  }

  bool add_run(const Node& repeat, const Node& what, Walk& walk) {
    const CharacterSet& set = set_of(what);
    if (set.ascii.none() && set.other.empty() && repeat.least > 0) return false;
    const auto most = repeat.most == kOpen ? kMaxSpelledBytes : static_cast<std::size_t>(repeat.most);
    const auto least = static_cast<std::size_t>(repeat.least);
    std::size_t count = least;
    if (walk.manner.drawn) {
      count = std::min(most, least + walk.manner.draw(4));
    } else if (least == 0 && !walk.in_name) {
      const std::string_view filler = walk.manner.filler;
      if (filler.empty() || filler.size() > most || !set.has_all(filler)) return true;
      walk.out += filler;
      walk.at_edge = false;
      return true;
    } else if (least > 0 || (walk.fills && most > 0)) {
      count = std::max<std::size_t>(least, 1);
      if (!walk.in_value && most > count && set.has_all(kWord))
        count = std::max(least, std::min(most, kWord.size()));
    }
    for (std::size_t i = 0; i < count; ++i) {
      add_one(set, i, walk);
      if (walk.out.size() > kMaxSpelledBytes) return false;
    }
    return true;
  }

  bool add_repeat(const Node& node, Walk& walk) {
    const Node& what = nodes[node.parts.front()];
    if (what.kind == Node::Kind::kSet) return add_run(node, what, walk);
    int count = node.least;
    if (walk.manner.drawn) {
      count += static_cast<int>(walk.manner.draw(3));
      if (node.most != kOpen) count = std::min(count, node.most);
    }
    // What holds a name is not left out.
    if (count == 0 && node.most != 0 && (node.has_name || walk.fills)) count = 1;
    for (int i = 0; i < count; ++i) {
      if (!add(what, walk)) return false;
    }
    return true;
  }

  bool add_either(const Node& node, Walk& walk) {
    if (walk.manner.drawn) return add(nodes[node.parts[walk.manner.draw(node.parts.size())]], walk);
    // Those with the value first, then those with a name, then in the order written; what is empty last.
    const auto rank = [&](std::uint32_t part) {
      const Node& one = nodes[part];
      if (one.has_value) return 0;
      if (one.has_name) return 1;
      return one.kind == Node::Kind::kSequence && one.parts.empty() ? 3 : 2;
    };
    std::vector<std::uint32_t> parts = node.parts;
    std::stable_sort(parts.begin(), parts.end(),
                     [&](std::uint32_t a, std::uint32_t b) { return rank(a) < rank(b); });
    return add(nodes[parts[walk.manner.shift % parts.size()]], walk);
  }

  bool add_group(const Node& node, Walk& walk) {
    const std::string_view wish = wishes.groups.get(node.text);
    if (walk.manner.wishes && !wish.empty()) {
      walk.out += wish;
      return true;
    }
    const Walk outside = walk;
    const auto enter = [&](bool fills) {
      const std::size_t steps = walk.steps;
      walk = outside;
      walk.steps = steps;
      walk.in_name = true;
      walk.in_value = outside.in_value || node.has_value;
      walk.fills = fills;
      return add(nodes[node.parts.front()], walk);
    };
    if (!enter(outside.fills)) return false;
    if (walk.out.size() == outside.out.size() && !outside.fills && !enter(true)) return false;
    walk.in_name = outside.in_name;
    walk.in_value = outside.in_value;
    walk.fills = outside.fills;
    return true;
  }

  bool add(const Node& node, Walk& walk) {
    if (++walk.steps > kMaxSteps || walk.out.size() > kMaxSpelledBytes) return false;
    switch (node.kind) {
      case Node::Kind::kText:
        walk.out += node.text;
        walk.at_edge = false;
        return true;
      case Node::Kind::kSet: {
        const CharacterSet& set = set_of(node);
        if (set.ascii.none() && set.other.empty()) return false;
        add_one(set, 0, walk);
        return true;
      }
      case Node::Kind::kSequence:
        return std::all_of(node.parts.begin(), node.parts.end(),
                           [&](std::uint32_t part) { return add(nodes[part], walk); });
      case Node::Kind::kEither:
        return add_either(node, walk);
      case Node::Kind::kRepeat:
        return add_repeat(node, walk);
      case Node::Kind::kGroup:
        return add_group(node, walk);
      case Node::Kind::kWordEdge:
        walk.at_edge = true;
        return true;
    }
    return false;
  }

  bool matches(std::string_view text) {
    if (text.size() >= left) {
      left = 0;
      return false;
    }
    left -= text.size() + 1;
    return regex.matches(text);
  }

  std::optional<std::string> make(const Manner& manner) {
    Walk walk;
    walk.manner = manner;
    walk.in_value = wishes.whole_is_value;
    walk.in_name = walk.in_value;
    const bool is_made = add(nodes[*root], walk);
    // The edge of a word that nobody wrote.
    if (walk.at_edge && (walk.out.empty() || !is_word(walk.out.back()))) walk.out += kWord;
    steps_left -= std::min(steps_left, walk.steps);
    if (!is_made || walk.out.size() > kMaxSpelledBytes) return std::nullopt;
    // Nobody misses the blanks around it.
    const std::size_t first = std::min(walk.out.find_first_not_of(' '), walk.out.size());
    const std::size_t behind = walk.out.find_last_not_of(' ') + 1;
    if (first != 0 || behind != walk.out.size()) {
      std::string trimmed = walk.out.substr(first, std::max(behind, first) - first);
      if (matches(trimmed)) return trimmed;
    }
    if (!matches(walk.out)) return std::nullopt;
    return std::move(walk.out);
  }

  Regex regex;
  Wishes wishes;
  std::vector<Node> nodes;
  std::optional<std::uint32_t> root;
  std::map<std::string, CharacterSet> sets;
  std::size_t left = kMaxAskedBytes;  // that may still be put to the expression
  std::size_t steps_left = kMaxStepsInAll;
};

Speller::Speller(const Regex& regex, Wishes wishes) : impl_(std::make_unique<Impl>()) {
  impl_->regex = regex;
  Parser parser(regex.pattern(), wishes.value);
  impl_->root = parser.parse();
  impl_->nodes = parser.take_nodes();
  impl_->wishes = std::move(wishes);
}
Speller::~Speller() = default;
Speller::Speller(Speller&&) noexcept = default;
Speller& Speller::operator=(Speller&&) noexcept = default;

bool Speller::is_spent() const {
  return !impl_->root || impl_->left == 0 || impl_->steps_left == 0;
}

std::optional<std::string> Speller::spell(int n) {
  if (n < 0 || n >= kMaxSpellings || is_spent()) return std::nullopt;
  Impl::Manner manner;
  const auto which = static_cast<std::size_t>(n);
  manner.filler = kFillers[which % kFillers.size()];
  if (n < kPlainSpellings) {
    manner.shift = which / kFillers.size();
  } else {
    manner.drawn = true;
    manner.random.seed(static_cast<std::minstd_rand::result_type>(n));
    manner.random.discard(8);  // the first few of small seeds are small
  }
  if (!impl_->wishes.groups.empty()) {
    manner.wishes = true;
    if (auto text = impl_->make(manner)) return text;
    manner.wishes = false;
  }
  return impl_->make(manner);
}

}  // namespace logbell::rules

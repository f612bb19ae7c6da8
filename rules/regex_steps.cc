#include "rules/regex_steps.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "rules/regex.h"
#include "rules/text.h"

namespace logbell::rules {
namespace {

constexpr double kClassWeight = 0.25;  // a digit somewhere says little
constexpr double kMostPartial = 0.99;
constexpr std::size_t kMostSteps =
    400;  // of an alternative; what is longer is held against the line as a whole
constexpr std::size_t kMostAlternatives = 50;
constexpr std::size_t kMostShown = 60;  // bytes of a piece

// A match of `pattern` in `line`: its place.
std::optional<std::pair<std::size_t, std::size_t>> find(const std::string& pattern, std::string_view line) {
  const auto regex = Regex::compile(pattern);
  if (!regex) return std::nullopt;
  std::array<std::string_view, 1> whole;
  if (!regex->captures(line, whole)) return std::nullopt;
  if (whole[0].data() == nullptr) return std::pair(std::size_t{0}, std::size_t{0});
  const auto from = static_cast<std::size_t>(whole[0].data() - line.data());
  return std::pair(from, from + whole[0].size());
}

std::size_t character_length(std::string_view text) {
  std::size_t length = 1;
  while (length < text.size() && (static_cast<unsigned char>(text[length]) & 0xC0U) == 0x80U)
    ++length;
  return length;
}

std::string cut_begin(const std::string& text) {
  if (text.size() <= kMostShown) return text;
  std::size_t at = text.size() - kMostShown;
  while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0U) == 0x80U)
    ++at;
  return "…" + text.substr(at);
}
std::string cut_end(const std::string& text) {
  if (text.size() <= kMostShown) return text;
  std::size_t at = kMostShown;
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0U) == 0x80U)
    --at;
  return text.substr(0, at) + "…";
}

}  // namespace

// Reads RE2's syntax as far as is needed to know where a piece ends.
class RegexSteps::Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}

  std::vector<Steps> read() {
    std::vector<Steps> out;
    Steps flags;  // of the whole
    out.emplace_back();
    while (at_ < text_.size()) {
      if (text_[at_] == '|') {
        ++at_;
        if (out.size() == kMostAlternatives) break;
        out.push_back(flags);
        continue;
      }
      const std::size_t before = out.back().size();
      read_piece(out.back());
      if (out.back().size() == before + 1 && out.back().back().kind == Step::Kind::kFlags)
        flags.push_back(out.back().back());
    }
    return out;
  }

 private:
  char now() const { return at_ < text_.size() ? text_[at_] : '\0'; }

  // Where the group that begins at `at` ends, behind its ")".
  std::size_t group_end(std::size_t at) const {
    int depth = 0;
    while (at < text_.size()) {
      if (text_[at] == '\\') {
        at += 2;
      } else if (text_[at] == '[') {
        at = class_end(at);
      } else {
        if (text_[at] == '(') ++depth;
        if (text_[at++] == ')' && --depth == 0) return at;
      }
    }
    return text_.size();
  }
  std::size_t class_end(std::size_t at) const {
    ++at;
    if (text_.substr(at, 1) == "^") ++at;
    if (text_.substr(at, 1) == "]") ++at;
    while (at < text_.size() && text_[at] != ']') {
      if (text_.substr(at, 2) == "[:") {
        const std::size_t close = text_.find(":]", at);
        at = close == std::string_view::npos ? at + 1 : close + 2;
      } else {
        at += text_[at] == '\\' ? 2 : 1;
      }
    }
    return std::min(at + 1, text_.size());
  }
  std::size_t escape_end(std::size_t at) const {
    const std::string_view rest = text_.substr(at);
    if (rest.substr(0, 3) == "\\x{" || rest.substr(0, 3) == "\\p{" || rest.substr(0, 3) == "\\P{")
      return std::min(text_.find('}', at), text_.size() - 1) + 1;
    if (rest.substr(0, 2) == "\\x") return std::min(at + 4, text_.size());
    if (rest.substr(0, 2) == "\\p" || rest.substr(0, 2) == "\\P") return std::min(at + 3, text_.size());
    if (rest.size() > 1 && rest[1] >= '0' && rest[1] <= '7') {
      std::size_t end = at + 2;
      while (end < std::min(at + 4, text_.size()) && text_[end] >= '0' && text_[end] <= '7')
        ++end;
      return end;
    }
    return at + 1 + (at + 1 < text_.size() ? character_length(text_.substr(at + 1)) : 0);
  }
  // Behind the quantifier at `at`, if one is there.
  std::size_t quantifier_end(std::size_t at) const {
    if (at >= text_.size()) return at;
    std::size_t end = at;
    if (text_[at] == '*' || text_[at] == '+' || text_[at] == '?') {
      end = at + 1;
    } else if (text_[at] == '{') {
      std::size_t close = at + 1;
      while (close < text_.size() && (is_digit(text_[close]) || text_[close] == ','))
        ++close;
      if (close == at + 1 || close >= text_.size() || text_[close] != '}' || !is_digit(text_[at + 1]))
        return at;
      end = close + 1;
    } else {
      return at;
    }
    return end < text_.size() && text_[end] == '?' ? end + 1 : end;
  }

  // Behind the "|"s of its own; whether it has some.
  bool has_alternatives(std::size_t from, std::size_t to) const {
    for (std::size_t at = from; at < to;) {
      if (text_[at] == '|') return true;
      if (text_[at] == '\\') {
        at = escape_end(at);
      } else if (text_[at] == '[') {
        at = class_end(at);
      } else if (text_[at] == '(') {
        at = group_end(at);
      } else {
        ++at;
      }
    }
    return false;
  }

  // A piece with its quantifier.
  void add(Steps& out, std::size_t end, double weight, bool literal, std::string character = {}) {
    Step step;
    const std::size_t behind = quantifier_end(end);
    const std::string_view quantifier = text_.substr(end, behind - end);
    step.text = std::string(text_.substr(at_, behind - at_));
    step.weight = weight;
    if (!quantifier.empty()) {
      literal = false;
      if (quantifier[0] == '*' || quantifier[0] == '?' || quantifier.substr(0, 2) == "{0") step.weight = 0;
      // Digits end where they end; what is nearly anything does not.
      const std::string_view piece = text_.substr(at_, end - at_);
      const bool wide =
          piece == "." || piece == "\\S" || piece == "\\D" || piece == "\\W" || piece.substr(0, 2) == "[^";
      step.unbounded = wide && (quantifier[0] == '*' || quantifier[0] == '+' ||
                                quantifier.find(",}") != std::string_view::npos);
    }
    step.literal = literal;
    if (literal) step.character = std::move(character);
    at_ = behind;
    out.push_back(std::move(step));
  }

  void read_piece(Steps& out) {
    const char c = now();
    if (c == '(') return read_group(out);
    if (c == '[') return add(out, class_end(at_), kClassWeight, false);
    if (c == '.') return add(out, at_ + 1, 0, false);
    if (c == '^' || c == '$') return add(out, at_ + 1, 0, false);
    if (c == '\\') return read_escape(out);
    const std::size_t length = character_length(text_.substr(at_));
    add(out, at_ + length, 1, true, std::string(text_.substr(at_, length)));
  }

  void read_escape(Steps& out) {
    if (text_.substr(at_, 2) == "\\Q") {
      const std::size_t close = std::min(text_.find("\\E", at_), text_.size());
      return add(out, std::min(close + 2, text_.size()), static_cast<double>(close - at_ - 2), false);
    }
    const std::size_t end = escape_end(at_);
    const char which = at_ + 1 < text_.size() ? text_[at_ + 1] : '\0';
    const bool edge = which == 'b' || which == 'B' || which == 'A' || which == 'z';
    const bool letter = is_word(which);
    if (edge) return add(out, end, 0, false);
    if (letter) return add(out, end, kClassWeight, false);
    add(out, end, 1, true, std::string(text_.substr(at_ + 1, end - at_ - 1)));
  }

  // A group that ends here is one piece: what it holds need not be there.
  static void join_group(Steps& out) {
    if (out.back().kind != Step::Kind::kClose) return;
    std::size_t open = out.size();
    for (int depth = 0; open > 0;) {
      const Step::Kind kind = out[--open].kind;
      if (kind == Step::Kind::kClose) ++depth;
      if (kind == Step::Kind::kOpen && --depth == 0) break;
    }
    Step whole;
    for (std::size_t i = open; i < out.size(); ++i)
      whole.text += out[i].text;
    out.resize(open);
    out.push_back(std::move(whole));
  }

  void read_group(Steps& out) {
    const std::size_t end = group_end(at_);
    const std::size_t close = end > at_ ? end - 1 : at_;
    std::size_t inner = at_ + 1;
    if (text_.substr(at_, 3) == "(?P" || text_.substr(at_, 3) == "(?<") {
      inner = std::min(text_.find('>', at_), close - 1) + 1;
    } else if (text_.substr(at_, 2) == "(?") {
      inner = at_ + 2;
      while (inner < close && text_[inner] != ':')
        ++inner;
      if (const std::size_t behind = quantifier_end(end); inner == close && behind != end && !out.empty()) {
        // It repeats what stands before the flags.
        join_group(out);
        out.back().text += text_.substr(at_, behind - at_);
        out.back().weight = 0;
        at_ = behind;
        return;
      }
      if (inner == close) {  // flags for what follows
        out.push_back({Step::Kind::kFlags, std::string(text_.substr(at_, end - at_)), 0, false, false, {}});
        at_ = end;
        return;
      }
      ++inner;
    }
    // What is repeated, or one of several, is one piece: it says at least something.
    if (quantifier_end(end) != end || has_alternatives(inner, close) || inner >= close)
      return add(out, end, 1, false);
    out.push_back({Step::Kind::kOpen, std::string(text_.substr(at_, inner - at_)), 0, false, false, {}});
    at_ = inner;
    while (at_ < close)
      read_piece(out);
    at_ = end;
    out.push_back({Step::Kind::kClose, ")", 0, false, false, {}});
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

RegexSteps::RegexSteps(std::string_view pattern) {
  alternatives_ = Reader(pattern).read();
  const auto keep = [&](std::string& run) {
    if (run.size() >= kLeastLetters) letters_.push_back(run);
    run.clear();
  };
  for (const Steps& steps : alternatives_) {
    std::string run;
    for (const Step& step : steps) {
      if (step.literal) {
        run += step.character;
      } else if (step.kind == Step::Kind::kPiece) {
        keep(run);
      }
    }
    keep(run);
  }
}

std::string RegexSteps::beginning(const Steps& steps, std::size_t count) {
  std::string out;
  int depth = 0;
  for (std::size_t i = 0; i < count; ++i) {
    out += steps[i].text;
    depth += steps[i].kind == Step::Kind::kOpen ? 1 : steps[i].kind == Step::Kind::kClose ? -1 : 0;
  }
  return out.append(static_cast<std::size_t>(std::max(depth, 0)), ')');
}

std::string RegexSteps::end(const Steps& steps, std::size_t from) {
  std::string flags;
  std::vector<std::string_view> open;
  for (std::size_t i = 0; i < from; ++i) {
    if (steps[i].kind == Step::Kind::kFlags && open.empty()) flags += steps[i].text;
    if (steps[i].kind == Step::Kind::kOpen) open.push_back(steps[i].text);
    if (steps[i].kind == Step::Kind::kClose && !open.empty()) open.pop_back();
  }
  std::string out = flags;
  for (const std::string_view group : open)
    out += group;
  for (std::size_t i = from; i < steps.size(); ++i)
    out += steps[i].text;
  return out;
}

PartialMatch RegexSteps::match_alternative(const Steps& steps, std::string_view line) {
  PartialMatch out;
  if (steps.size() > kMostSteps) return out;
  double total = 0;
  for (const Step& step : steps)
    total += step.weight;
  if (total <= 0) {
    out.share = find(beginning(steps, steps.size()), line) ? 1 : 0;
    return out;
  }
  const auto weigh = [&](std::size_t from, std::size_t to) {
    double weight = 0;
    for (std::size_t i = from; i < to; ++i)
      weight += steps[i].weight;
    return weight / total;
  };
  // A beginning that matches begins with one that matches, too; so with ends.
  std::size_t head = 0;
  for (std::size_t low = 0, high = steps.size(); low < high;) {
    const std::size_t middle = (low + high + 1) / 2;
    if (find(beginning(steps, middle), line)) {
      head = low = middle;
    } else {
      high = middle - 1;
    }
  }
  std::size_t tail = steps.size();
  for (std::size_t low = 0, high = steps.size(); low < high;) {
    const std::size_t middle = (low + high) / 2;
    if (find(end(steps, middle), line)) {
      tail = high = middle;
    } else {
      low = middle + 1;
    }
  }
  const auto text = [&](std::size_t from, std::size_t to) {
    std::string joined;
    for (std::size_t i = from; i < to; ++i)
      joined += steps[i].text;
    return joined;
  };
  const double of_head = weigh(0, head);
  const double of_tail = weigh(tail, steps.size());
  out.is_end = of_tail > of_head;
  // What is missing may say nothing by itself, as an anchor does.
  out.share = head == steps.size() ? 1 : std::min(std::max(of_head, of_tail), kMostPartial);
  const auto says_nothing = [&](const Step& step) { return step.weight == 0 && step.unbounded; };
  if (!out.is_end) {
    // What .* took is not where the rest was looked for.
    std::size_t certain = head;
    while (certain > 0 && (steps[certain - 1].unbounded || steps[certain - 1].kind == Step::Kind::kClose)) {
      out.anywhere = out.anywhere || steps[certain - 1].unbounded;
      --certain;
    }
    if (!out.anywhere) certain = head;
    if (const auto place = find(beginning(steps, certain), line)) {
      out.from = place->first;
      out.to = place->second;
    }
    if (of_head > 0) out.held = cut_begin(text(0, certain));
    std::size_t next = head;
    while (next < steps.size() && says_nothing(steps[next]))
      ++next;
    out.wanted = cut_end(text(next, steps.size()));
    // Nothing of it: it may begin anywhere.
    if (of_head == 0) out.anywhere = true;
  } else {
    if (const auto place = find(end(steps, tail), line)) {
      out.from = place->first;
      out.to = place->second;
    }
    std::size_t before = tail;
    while (before > 0 && (says_nothing(steps[before - 1]) || steps[before - 1].kind == Step::Kind::kOpen)) {
      out.anywhere = out.anywhere || steps[before - 1].unbounded;
      --before;
    }
    out.held = cut_end(text(tail, steps.size()));
    out.wanted = cut_begin(text(0, before));
  }
  return out;
}

PartialMatch RegexSteps::in(std::string_view line) const {
  std::optional<PartialMatch> best;
  for (const Steps& steps : alternatives_) {
    PartialMatch one = match_alternative(steps, line);
    if (!best || one.share > best->share) best = std::move(one);
  }
  return best.value_or(PartialMatch());
}

}  // namespace logbell::rules

#include "rules/line_shape.h"

#include <algorithm>
#include <vector>

#include "rules/labels.h"
#include "rules/pattern.h"
#include "rules/redact.h"
#include "rules/text.h"
#include "rules/variable_parts.h"

namespace logbell::rules {
namespace {

// So much of a line is looked at: more than a shape has, since what is redacted may be longer than what
// stands for it.
constexpr std::size_t kLookedAtBytes = 4 * kShapeBytes;
constexpr std::string_view kCut = "…";

// Before it Python says nothing of what happened.
constexpr std::string_view kTraceback = "Traceback (most recent call last):";

std::string_view telling_line(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of("\r\n"), text.size()));
  std::string_view line = text.substr(0, text.find_first_of("\r\n"));
  if (line.substr(0, kTraceback.size()) == kTraceback) {
    // The error's own line stands at the margin; a message of several lines goes on there, too: the first
    // after the calls.
    bool in_calls = false;
    while (!text.empty()) {
      const std::size_t end = std::min(text.find_first_of("\r\n"), text.size());
      const std::string_view one = text.substr(0, end);
      const bool is_call = !one.empty() && (one.front() == ' ' || one.front() == '\t');
      if (in_calls && !is_call && !one.empty()) line = one;
      in_calls = is_call;
      text.remove_prefix(std::min(end + 1, text.size()));
    }
  }
  return line.substr(0, kLookedAtBytes);
}

// Each variable part as kVariable.
std::string masked(std::string_view text) {
  std::string out;
  std::size_t done = 0;
  for (const VariablePart& part : variable_parts(text)) {
    out.append(text.substr(done, part.offset - done)).append(kVariable);
    done = part.offset + part.length;
  }
  return out.append(text.substr(done));
}

template <typename Take>
void each_word(std::string_view text, Take take) {
  for (std::size_t at = text.find_first_not_of(" \t"); at != std::string_view::npos;) {
    const std::size_t end = std::min(text.find_first_of(" \t", at), text.size());
    take(text.substr(at, end - at));
    at = text.find_first_not_of(" \t", end);
  }
}

// What a word holds beside kVariable.
enum class Holds { kNothing, kDigits, kLetters };
Holds holds(std::string_view word) {
  Holds out = Holds::kNothing;
  for (std::size_t i = 0; i < word.size(); ++i) {
    if (word.substr(i, kVariable.size()) == kVariable) {
      i += kVariable.size() - 1;
      out = Holds::kDigits;
      continue;
    }
    if (is_alpha(word[i]) || static_cast<unsigned char>(word[i]) >= 0x80) return Holds::kLetters;
    if (is_digit(word[i])) out = Holds::kDigits;
  }
  return out;
}

// Where `piece` ends in `text`; npos: it is not there.
std::size_t end_of(std::string_view piece, std::string_view text, std::size_t from) {
  const std::size_t at = text.find(piece, from);
  return at == std::string_view::npos ? at : at + piece.size();
}

}  // namespace

std::string line_shape(std::string_view line) {
  const std::string text = masked(clean_text(redact(telling_line(line)), kShapeBytes));
  std::vector<std::string_view> words;
  bool cut = false;
  each_word(text, [&](std::string_view word) {
    const Holds what = holds(word);
    if (what == Holds::kDigits) {
      // With the brackets and dashes around it.
      while (!words.empty() && holds(words.back()) == Holds::kNothing)
        words.pop_back();
      if (words.empty() || words.back() != kVariable) words.push_back(kVariable);
      return;
    }
    if (what == Holds::kNothing && (words.empty() || words.back() == kVariable)) return;
    words.push_back(word);
  });
  const auto first =
      std::find_if(words.begin(), words.end(), [](std::string_view word) { return word != kVariable; });
  if (first == words.end()) return std::string(kVariable);
  words.erase(words.begin(), first);
  if (words.size() > kMostShapeWords) {
    words.resize(kMostShapeWords);
    cut = true;
  }
  std::string out;
  for (const std::string_view word : words)
    out.append(out.empty() ? "" : " ").append(word);
  if (cut) out.append(" ").append(kCut);
  return out.size() <= kShapeBytes ? out : clean_text(out, kShapeBytes);
}

std::string shape_label(std::string_view shape) {
  if (shape.size() <= kMaxLabelBytes) return std::string(shape);
  const std::string fingerprint = " " + format_fingerprint(hash_bytes(shape));
  return clean_text(shape, kMaxLabelBytes - fingerprint.size()) + fingerprint;
}

bool may_have_shape(std::string_view line, std::string_view label) {
  const std::string text = clean_text(redact(line), kLookedAtBytes);
  std::size_t at = 0;
  // Behind where it was cut stands its fingerprint.
  each_word(label.substr(0, label.find(kCut)), [&](std::string_view word) {
    while (at != std::string_view::npos && !word.empty()) {
      const std::size_t mask = std::min(word.find(kVariable), word.size());
      at = end_of(word.substr(0, mask), text, at);
      word.remove_prefix(std::min(mask + kVariable.size(), word.size()));
    }
  });
  return at != std::string_view::npos;
}

}  // namespace logbell::rules

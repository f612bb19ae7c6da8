#include "rules/problems.h"

#include <algorithm>
#include <numeric>
#include <tuple>

#include "rules/redact.h"

namespace logbell::rules {
namespace {

// Two words further apart than this are two words, not a slip of the finger.
constexpr std::size_t kMaxSlips = 2;

// Edits (insert, drop, change, swap of neighbours) from one word to the other: optimal string alignment.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before(b.size() + 1);
  std::vector<std::size_t> last(b.size() + 1);
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(last.begin(), last.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t change = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, change});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        row[j] = std::min(row[j], before[j - 2] + 1);
      }
    }
    std::swap(before, last);
    std::swap(last, row);
  }
  return last[b.size()];
}

}  // namespace

std::string Place::format() const {
  std::string out = file;
  if (line > 0) out += ":" + std::to_string(line);
  if (line > 0 && col > 0) out += ":" + std::to_string(col);
  return out;
}

std::string Problem::format() const {
  std::string out = place.format();
  if (!out.empty()) out += ": ";
  if (severity == Severity::kWarning) out += "warning: ";
  if (!subject.empty()) out += subject + ": ";
  out += reason;
  if (!fix.empty()) out += "; " + fix;
  // One line, whatever was written in the file.
  return clean_text(out, out.size() * 3);
}

void Problems::error(Place place, std::string subject, std::string reason, std::string fix) {
  found_.push_back(
      {Severity::kError, std::move(place), std::move(subject), std::move(reason), std::move(fix)});
}

void Problems::warn(Place place, std::string subject, std::string reason, std::string fix) {
  found_.push_back(
      {Severity::kWarning, std::move(place), std::move(subject), std::move(reason), std::move(fix)});
}

std::size_t Problems::errors() const {
  return static_cast<std::size_t>(std::count_if(
      found_.begin(), found_.end(), [](const Problem& p) { return p.severity == Severity::kError; }));
}
std::size_t Problems::warnings() const {
  return found_.size() - errors();
}
bool Problems::has_errors() const {
  return errors() > 0;
}

std::vector<Problem> Problems::sorted() const {
  std::vector<Problem> out = found_;
  std::stable_sort(out.begin(), out.end(),
                   [](const Problem& a, const Problem& b) { return a.place < b.place; });
  const auto same = [](const Problem& a, const Problem& b) {
    return std::tie(a.severity, a.place, a.subject, a.reason) ==
           std::tie(b.severity, b.place, b.subject, b.reason);
  };
  out.erase(std::unique(out.begin(), out.end(), same), out.end());
  return out;
}

std::string closest(std::string_view word, const std::vector<std::string>& candidates) {
  std::string best;
  std::size_t best_distance = std::min(kMaxSlips, word.size() / 2) + 1;
  for (const std::string& candidate : candidates) {
    const std::size_t distance = edit_distance(word, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

std::string did_you_mean(std::string_view word, const std::vector<std::string>& candidates) {
  const std::string best = closest(word, candidates);
  return best.empty() ? std::string() : "did you mean \"" + best + "\"?";
}

}  // namespace logbell::rules

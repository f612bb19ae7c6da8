#include "rules/prefilter.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <limits>
#include <optional>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>

#include "rules/record.h"
#include "rules/regex_tree.h"

namespace logbell::rules {
namespace {

// The rarest is searched for; where it stands, so many others are asked for before RE2 is.
constexpr std::size_t kMostClauses = 4;
// Where fewer patterns might match a line, RE2 is asked at once.
constexpr std::size_t kFewPatterns = 3;
// What has more grams is not asked for, and of one pattern not more than so much.
constexpr std::size_t kMostClauseGrams = 16;
constexpr std::size_t kMostAsked = 8;

// What is found in fewer of the lines is hardly ever found in vain: RE2 is asked at once.
constexpr double kRareShare = 0.0005;

constexpr std::string_view kKelvin = "\xE2\x84\xAA";  // U+212A, which (?i)k matches
constexpr std::string_view kLongS = "\xC5\xBF";       // U+017F, which (?i)s matches

// What an envelope tells is not in the line.
bool may_be_fact(std::string_view field) {
  for (const Envelope envelope : {Envelope::kCri, Envelope::kDocker, Envelope::kSyslog, Envelope::kJournal}) {
    const std::vector<std::string>& names = fact_names(envelope);
    if (std::find(names.begin(), names.end(), field) != names.end()) return true;
  }
  return false;
}

// In JSON they can be written in one way beside the plain one: as \u00xx.
bool is_plain(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == ' ' || c == '_' ||
         c == '-' || c == '.' || c == ':';
}

// What every line that the pattern matches holds.
struct Wanted {
  Need need;
  bool folds = false;
  bool escapes = false;

  void add(const RegexTree& tree) {
    Need more = need_of(tree);
    std::move(more.runs.begin(), more.runs.end(), std::back_inserter(need.runs));
    std::move(more.any.begin(), more.any.end(), std::back_inserter(need.any));
    folds = folds || tree.folds;
  }
};

void add_match(const PatternSpec& spec, Wanted& wanted) {
  std::vector<RegexTree> any;
  bool folds = false;
  for (const Regex& regex : spec.match) {
    std::optional<RegexTree> tree = parse_regex(regex.pattern());
    if (!tree) return;
    folds = folds || tree->folds;
    any.push_back(std::move(*tree));
  }
  if (any.empty()) return;
  RegexTree tree = RegexTree::any_of(std::move(any));
  tree.folds = folds;
  wanted.add(tree);
}

void add_field(const FieldTest& test, LineFormat format, Wanted& wanted) {
  if (test.negated || format == LineFormat::kText || may_be_fact(test.field)) return;
  if (test.match) {
    // A word of logfmt without "=" has a value that it does not say.
    if (format == LineFormat::kLogfmt && test.match->matches("true")) return;
    const std::optional<RegexTree> tree = parse_regex(test.match->pattern());
    if (!tree) return;
    wanted.add(tree->unanchored());
    wanted.escapes = true;
    return;
  }
  std::vector<RegexTree> any;
  bool plain = format == LineFormat::kJson;
  for (const std::string& value : test.equals) {
    if (format == LineFormat::kLogfmt && value == "true") return;
    plain = plain && std::all_of(value.begin(), value.end(), is_plain);
    any.push_back(RegexTree::literal(value));
  }
  if (plain) {
    any.push_back(RegexTree::literal("\\u00"));
  } else {
    wanted.escapes = true;
  }
  wanted.add(RegexTree::any_of(std::move(any)));
}

// The grams of a window; none: there are too many, or it reaches out of the line.
std::vector<Gram> grams_in_line(Fragment fragment, std::size_t window) {
  fragment.window = window;
  std::size_t grams = 1;
  for (std::size_t i = window; i < window + kGramBytes; ++i) {
    if (i >= fragment.run.size() || fragment.run[i]['\n']) return {};
    grams *= fragment.run[i].count();
    if (grams > kMostClauseGrams) return {};
  }
  return fragment.grams();
}

// What can be asked of a line by itself where a clause must stand in it: for each element, whether one of its
// grams does.
void ask_for(const Clause& clause, std::vector<std::vector<Gram>>& out) {
  if (clause.size() == 1) {
    // Every four bytes of its run: by one alone, one line in thirty would be taken for it.
    const Fragment& fragment = clause.front();
    for (std::size_t at = fragment.window % kGramBytes;
         at + kGramBytes <= fragment.run.size() && out.size() < kMostAsked; at += kGramBytes) {
      std::vector<Gram> grams = grams_in_line(fragment, at);
      if (!grams.empty()) out.push_back(std::move(grams));
    }
    return;
  }
  std::vector<Gram> any;
  for (const Fragment& fragment : clause) {
    const std::vector<Gram> grams = grams_in_line(fragment, fragment.window);
    if (grams.empty() || any.size() + grams.size() > kMostClauseGrams) return;
    any.insert(any.end(), grams.begin(), grams.end());
  }
  out.push_back(std::move(any));
}

// In what share of the lines all clauses of other runs stand, if one knew nothing of the other.
double rest_share(const std::vector<WeighedClause>& clauses, const WeighedClause& without, double lines) {
  double share = 1;
  std::vector<const Run*> used{&without.clause.front().run};
  for (const WeighedClause& clause : clauses) {
    const Run& run = clause.clause.front().run;
    if (used.size() == kMostClauses) break;
    if (std::any_of(used.begin(), used.end(), [&](const Run* other) { return *other == run; })) continue;
    used.push_back(&run);
    share *= std::min(1.0, clause.found / lines);
  }
  return share;
}

}  // namespace

Prefilter Prefilter::compile(std::span<const PatternSpec* const> patterns, LineFormat format,
                             std::string_view sample) {
  std::vector<Wanted> wanted(patterns.size());
  SampleCounts counts;
  for (std::size_t i = 0; i < patterns.size(); ++i) {
    add_match(*patterns[i], wanted[i]);
    for (const FieldTest& test : patterns[i]->where)
      add_field(test, format, wanted[i]);
    if (!sample.empty()) counts.want(wanted[i].need);
  }
  counts.count(sample);

  std::vector<std::vector<WeighedClause>> clauses;
  clauses.reserve(wanted.size());
  for (const Wanted& each : wanted)
    clauses.push_back(weigh(each.need, counts));

  // What many patterns have is looked for once for all of them, and a line is read once for all of them.
  std::unordered_map<std::string, double> having;
  for (const std::vector<WeighedClause>& of : clauses) {
    for (const WeighedClause& each : of) {
      if (each.clause.size() == 1) ++having[each.clause.front().key()];
    }
  }
  const double lines = std::max(1.0, static_cast<double>(std::count(sample.begin(), sample.end(), '\n')));

  Prefilter filter;
  filter.also_.resize(patterns.size());
  filter.asks_.resize(patterns.size());
  std::vector<Fragment> fragments;
  std::unordered_map<std::string, std::size_t> known;
  for (std::uint32_t i = 0; i < patterns.size(); ++i) {
    if (clauses[i].empty()) {
      filter.everywhere_.push_back(i);
      continue;
    }
    std::size_t best = 0;
    double least = std::numeric_limits<double>::max();
    for (std::size_t j = 0; j < clauses[i].size(); ++j) {
      const WeighedClause& clause = clauses[i][j];
      const double sharing = clause.clause.size() == 1 ? having[clause.clause.front().key()] : 1;
      const double cost = (clause.looked * kWindowCost + clause.found * kLineCost) / sharing +
                          clause.found * (kPatternCost + kRegexCost * rest_share(clauses[i], clause, lines));
      if (cost >= least) continue;
      least = cost;
      best = j;
    }
    for (const Fragment& fragment : clauses[i][best].clause) {
      const auto [at, is_new] = known.try_emplace(fragment.key(), fragments.size());
      if (is_new) {
        fragments.push_back(fragment);
        filter.whose_.emplace_back();
      }
      std::vector<std::uint32_t>& whose = filter.whose_[at->second];
      if (whose.empty() || whose.back() != i) whose.push_back(i);
    }
    // One clause of each run: the other windows of it say the same again.
    std::vector<const Run*> used{&clauses[i][best].clause.front().run};
    for (const WeighedClause& also : clauses[i]) {
      const Run& run = also.clause.front().run;
      if (used.size() == kMostClauses) break;
      if (std::any_of(used.begin(), used.end(), [&](const Run* other) { return *other == run; })) continue;
      used.push_back(&run);
      ask_for(also.clause, filter.also_[i]);
    }
    filter.asks_[i] = !filter.also_[i].empty() && clauses[i][best].found / lines > kRareShare;
    if (wanted[i].folds) filter.folds_.push_back(i);
    if (wanted[i].escapes) filter.escapes_.push_back(i);
  }
  filter.scan_ = FragmentScan(fragments, sample);
  return filter;
}

Prefilter::Line Prefilter::line_at(std::string_view block, std::size_t at) {
  const void* before = ::memrchr(block.data(), '\n', at);
  const void* behind = std::memchr(block.data() + at, '\n', block.size() - at);
  const auto offset_of = [&](const void* place) {
    return static_cast<std::size_t>(static_cast<const char*>(place) - block.data());
  };
  return {before == nullptr ? 0 : offset_of(before) + 1,
          behind == nullptr ? block.size() : offset_of(behind)};
}

Prefilter::Candidate Prefilter::candidate(std::string_view block, Line line, std::uint32_t pattern) {
  std::size_t length = line.end - line.begin;
  if (length > 0 && block[line.end - 1] == '\r') --length;
  return {static_cast<std::uint32_t>(line.begin), static_cast<std::uint32_t>(length), pattern};
}

// Of the patterns that were found in a line, those of which all the rest may stand there, too.
void Prefilter::keep_likely(std::string_view line, Scratch& scratch) const {
  constexpr unsigned kBits = 12;
  static_assert(sizeof scratch.grams * 8 == 1U << kBits);
  const auto place = [](Gram gram) { return (gram * 0x9E3779B1U) >> (32U - kBits); };
  scratch.grams.fill(0);
  for (std::size_t at = 0; at + kGramBytes <= line.size(); ++at) {
    const unsigned bit = place(gram_at(line.data() + at));
    scratch.grams[bit / 64] |= std::uint64_t{1} << (bit % 64);
  }
  std::erase_if(scratch.patterns, [&](std::uint32_t pattern) {
    return !std::all_of(also_[pattern].begin(), also_[pattern].end(), [&](const std::vector<Gram>& grams) {
      return std::any_of(grams.begin(), grams.end(), [&](Gram gram) {
        return (scratch.grams[place(gram) / 64] >> (place(gram) % 64) & 1U) != 0;
      });
    });
  });
}

void Prefilter::find_odd(std::string_view block, std::string_view what,
                         const std::vector<std::uint32_t>& whose, std::vector<Candidate>& out) const {
  if (whose.empty()) return;
  for (std::size_t at = block.find(what); at != std::string_view::npos;) {
    const Line line = line_at(block, at);
    for (const std::uint32_t pattern : whose)
      out.push_back(candidate(block, line, pattern));
    at = block.find(what, line.end);
  }
}

void Prefilter::find(std::string_view block, Scratch& scratch, std::vector<Candidate>& out) const {
  const std::size_t first = out.size();
  scratch.fragment_seen.resize(whose_.size());
  scratch.pattern_seen.resize(also_.size());
  Line line;
  const auto end_line = [&] {
    if (scratch.patterns.size() > kFewPatterns ||
        std::any_of(scratch.patterns.begin(), scratch.patterns.end(),
                    [&](std::uint32_t pattern) { return asks_[pattern]; }))
      keep_likely(block.substr(line.begin, line.end - line.begin), scratch);
    std::sort(scratch.patterns.begin(), scratch.patterns.end());
    for (const std::uint32_t pattern : scratch.patterns)
      out.push_back(candidate(block, line, pattern));
    scratch.patterns.clear();
  };
  scan_.scan(block, [&](std::uint32_t fragment, std::size_t at) {
    if (at >= line.end || scratch.patterns.empty()) {
      if (!scratch.patterns.empty()) end_line();
      line = line_at(block, at);
      if (++scratch.line == 0) {  // its numbers begin anew
        std::fill(scratch.fragment_seen.begin(), scratch.fragment_seen.end(), 0);
        std::fill(scratch.pattern_seen.begin(), scratch.pattern_seen.end(), 0);
        scratch.line = 1;
      }
    }
    if (std::exchange(scratch.fragment_seen[fragment], scratch.line) == scratch.line) return;
    for (const std::uint32_t pattern : whose_[fragment]) {
      if (std::exchange(scratch.pattern_seen[pattern], scratch.line) != scratch.line)
        scratch.patterns.push_back(pattern);
    }
  });
  if (!scratch.patterns.empty()) end_line();

  scratch.odd.clear();
  find_odd(block, kKelvin, folds_, scratch.odd);
  find_odd(block, kLongS, folds_, scratch.odd);
  find_odd(block, "\\", escapes_, scratch.odd);
  if (scratch.odd.empty()) return;
  out.insert(out.end(), scratch.odd.begin(), scratch.odd.end());
  const auto key = [](const Candidate& of) { return std::tie(of.offset, of.pattern); };
  const auto begin = out.begin() + static_cast<std::ptrdiff_t>(first);
  std::sort(begin, out.end(), [&](const Candidate& a, const Candidate& b) { return key(a) < key(b); });
  out.erase(
      std::unique(begin, out.end(), [&](const Candidate& a, const Candidate& b) { return key(a) == key(b); }),
      out.end());
}

std::size_t Prefilter::bytes() const {
  std::size_t sum = scan_.bytes();
  for (const auto& clauses : also_) {
    for (const std::vector<Gram>& grams : clauses)
      sum += sizeof(std::vector<Gram>) + grams.size() * sizeof(Gram);
  }
  return sum;
}

}  // namespace logbell::rules

#include "rules/fragment.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <optional>
#include <utility>

namespace logbell::rules {
namespace {

using Kind = RegexTree::Kind;

// A repetition is written out so often at most.
constexpr int kMostCopies = 8;
// Alternatives of one place: more are looked for by what stands beside them.
constexpr std::size_t kMostClauseFragments = 64;

// Of a regex, so many places are looked at: what is nested in repetitions is written out many times over.
constexpr int kMostRegexSteps = 10'000;

class Reader {
 public:
  explicit Reader(int& steps) : steps_(steps) {}

  Need take() {
    end_run();
    return std::move(need_);
  }

  void read(const RegexTree& tree) {
    if (++steps_ > kMostRegexSteps) {
      end_run();  // whatever it needs, it is not asked for
      return;
    }
    switch (tree.kind) {
      case Kind::kEmpty:
      case Kind::kWordEdge:
      case Kind::kNoWordEdge:
        break;
      case Kind::kNothing:
        end_run();
        break;
      case Kind::kSet:
        if (tree.set.wide) {
          end_run();
        } else {
          run_.push_back(tree.set.bytes);
        }
        break;
      case Kind::kLineBegin:
        // What stands before it is a line's end, or nothing matches. Two of them are at the same place.
        if (run_.empty() || !run_.back()['\n']) run_.push_back(ByteSet::of('\n').bytes);
        break;
      case Kind::kLineEnd:
        run_.push_back(ByteSet::of('\n').bytes | ByteSet::of('\r').bytes);
        end_run();
        break;
      case Kind::kConcat:
        for (const RegexTree& part : tree.parts)
          read(part);
        break;
      case Kind::kAlternate:
        end_run();
        need_.any.emplace_back();
        for (const RegexTree& part : tree.parts) {
          Reader alternative(steps_);
          alternative.read(part);
          need_.any.back().push_back(alternative.take());
        }
        break;
      case Kind::kRepeat: {
        const int copies = std::min(tree.least, kMostCopies);
        for (int i = 0; i < copies; ++i)
          read(tree.parts.front());
        if (tree.least == tree.most && copies == tree.least) break;
        // What follows stands behind the last of them, wherever that is.
        end_run();
        for (int i = 0; i < copies; ++i)
          read(tree.parts.front());
        break;
      }
    }
  }

 private:
  void end_run() {
    if (!run_.empty()) need_.runs.push_back(std::exchange(run_, {}));
  }

  int& steps_;
  Need need_;
  Run run_;
};

// Of what is asked for in vain, as the sample says, the one with more bytes that are certain is the rarer.
double weight(const Fragment& fragment, const GramCounts& counts) {
  double grams = 1;
  for (std::size_t i = 0; i < kGramBytes; ++i) {
    const std::size_t at = fragment.window + i;
    grams *= at < fragment.run.size() ? static_cast<double>(fragment.run[at].count()) : 256.0;
  }
  const double found = static_cast<double>(counts.of(fragment));
  const double expected = grams * static_cast<double>(counts.positions() + 1) / (1 << 22);
  // Every byte more keeps a hit from costing a look at the line.
  return found + expected + 1.0 / static_cast<double>(fragment.run.size() + 1);
}

// As many bytes of the run around `window` as are looked at.
Fragment cut(const Run& run, std::size_t window) {
  const std::size_t from =
      window + kGramBytes > kMostFragmentBytes ? window + kGramBytes - kMostFragmentBytes : 0;
  const std::size_t to = std::min(run.size(), from + kMostFragmentBytes);
  return {Run(run.begin() + static_cast<std::ptrdiff_t>(from), run.begin() + static_cast<std::ptrdiff_t>(to)),
          window - from};
}

template <class Each>
void windows(const Need& need, Each each) {
  for (const Run& run : need.runs) {
    if (run.size() < kGramBytes - 1) continue;
    const std::size_t last = run.size() < kGramBytes ? 0 : run.size() - kGramBytes;
    for (std::size_t at = 0; at <= last; ++at) {
      std::size_t grams = run.size() < kGramBytes ? 256 : 1;
      for (std::size_t i = at; i < std::min(at + kGramBytes, run.size()); ++i)
        grams *= run[i].count();
      if (grams > 0 && grams <= kMostWindowGrams) each(run, at);
    }
  }
}

struct Chosen {
  Clause clause;
  double weight = 0;
};

void all_clauses(const Need& need, const GramCounts& counts, std::vector<Chosen>& out);

std::optional<Chosen> best_clause(const Need& need, const GramCounts& counts) {
  std::vector<Chosen> all;
  all_clauses(need, counts, all);
  const auto best = std::min_element(all.begin(), all.end(),
                                     [](const Chosen& a, const Chosen& b) { return a.weight < b.weight; });
  if (best == all.end()) return std::nullopt;
  return std::move(*best);
}

void all_clauses(const Need& need, const GramCounts& counts, std::vector<Chosen>& out) {
  windows(need, [&](const Run& run, std::size_t at) {
    Fragment fragment = cut(run, at);
    const double of = weight(fragment, counts);
    out.push_back({{std::move(fragment)}, of});
  });
  for (const std::vector<Need>& alternatives : need.any) {
    Chosen together;
    bool each = true;
    for (const Need& alternative : alternatives) {
      std::optional<Chosen> best = best_clause(alternative, counts);
      each = best && together.clause.size() + best->clause.size() <= kMostClauseFragments;
      if (!each) break;
      std::move(best->clause.begin(), best->clause.end(), std::back_inserter(together.clause));
      together.weight += best->weight;
    }
    if (each) out.push_back(std::move(together));
  }
}

}  // namespace

Need need_of(const RegexTree& tree) {
  int steps = 0;
  Reader reader(steps);
  reader.read(tree);
  return reader.take();
}

std::vector<Gram> Fragment::grams() const {
  std::vector<Gram> all{0};
  for (std::size_t i = 0; i < kGramBytes; ++i) {
    const std::size_t at = window + i;
    std::vector<Gram> longer;
    for (unsigned byte = 0; byte < 256; ++byte) {
      if (at < run.size() && !run[at][byte]) continue;
      for (const Gram gram : all) {
        char bytes[kGramBytes];
        std::memcpy(bytes, &gram, sizeof gram);
        bytes[i] = static_cast<char>(static_cast<unsigned char>(byte));
        longer.push_back(gram_at(bytes));
      }
    }
    all = std::move(longer);
  }
  return all;
}

bool Fragment::is_at(std::string_view text, std::size_t at) const {
  // The text may begin behind the run's beginning: there is a newline, once.
  for (std::size_t i = 0; i < run.size(); ++i) {
    const std::size_t place = at + i - window;  // wraps where it lies before the text
    const unsigned char byte = place < text.size() ? static_cast<unsigned char>(text[place]) : '\n';
    if (!run[i][byte]) return false;
  }
  return true;
}

void GramCounts::count(std::string_view sample) {
  for (std::size_t at = 0; at + kGramBytes <= sample.size(); ++at) {
    const auto found = counts_.find(gram_at(sample.data() + at));
    if (found != counts_.end()) ++found->second;
    ++positions_;
  }
}

std::uint64_t GramCounts::of(const Fragment& fragment) const {
  std::uint64_t sum = 0;
  for (const Gram gram : fragment.grams()) {
    const auto found = counts_.find(gram);
    if (found != counts_.end()) sum += found->second;
  }
  return sum;
}

void want_grams(const Need& need, GramCounts& counts) {
  windows(need, [&](const Run& run, std::size_t at) {
    for (const Gram gram : cut(run, at).grams())
      counts.want(gram);
  });
  for (const std::vector<Need>& alternatives : need.any) {
    for (const Need& alternative : alternatives)
      want_grams(alternative, counts);
  }
}

std::vector<Clause> choose(const Need& need, const GramCounts& counts, std::size_t most) {
  std::vector<Chosen> all;
  all_clauses(need, counts, all);
  std::stable_sort(all.begin(), all.end(),
                   [](const Chosen& a, const Chosen& b) { return a.weight < b.weight; });
  std::vector<Clause> out;
  // One of each run: its other windows say the same again.
  std::vector<Run> used;
  for (Chosen& each : all) {
    if (out.size() == most) break;
    if (each.clause.size() == 1) {
      const Run& run = each.clause.front().run;
      if (std::find(used.begin(), used.end(), run) != used.end()) continue;
      used.push_back(run);
    }
    out.push_back(std::move(each.clause));
  }
  return out;
}

}  // namespace logbell::rules

#include "rules/fragment.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include "rules/fragment_scan.h"

namespace logbell::rules {
namespace {

using Kind = RegexTree::Kind;

// A repetition is written out so often at most.
constexpr int kMostCopies = 8;
// Alternatives of one place: more are looked for by what stands beside them.
constexpr std::size_t kMostClauseFragments = 2000;

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

std::size_t grams_in(const Run& run, std::size_t window) {
  std::size_t grams = 1;
  for (std::size_t i = window; i < window + kGramBytes; ++i)
    grams *= i < run.size() ? run[i].count() : 256;
  return grams;
}

// A set as its bytes in memory: for keys, that this process alone reads.
static_assert(sizeof(std::bitset<256>) == 32 && std::is_trivially_copyable_v<std::bitset<256>>);
void append_set(const std::bitset<256>& bytes, std::string& out) {
  out.append(reinterpret_cast<const char*>(&bytes), sizeof bytes);
}
std::bitset<256> set_at(std::string_view key, std::size_t at) {
  std::bitset<256> bytes;
  std::memcpy(&bytes, key.substr(at, sizeof bytes).data(), sizeof bytes);
  return bytes;
}

// As many bytes of the run around `window` as are looked at: where they begin. The same for all windows of a short run.
std::size_t cut_from(std::size_t window) {
  return window + kGramBytes > kMostFragmentBytes ? window + kGramBytes - kMostFragmentBytes : 0;
}
Fragment cut(const Run& run, std::size_t window) {
  const std::size_t from = cut_from(window);
  const std::size_t to = std::min(run.size(), from + kMostFragmentBytes);
  return {Run(run.begin() + static_cast<std::ptrdiff_t>(from), run.begin() + static_cast<std::ptrdiff_t>(to)),
          window - from};
}

std::string key_of(const Run& run, std::size_t from, std::size_t bytes) {
  std::string out;
  const std::size_t to = std::min(run.size(), from + bytes);
  out.reserve((to - from) * sizeof run.front());
  for (std::size_t i = from; i < to; ++i)
    append_set(run[i], out);
  return out;
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

void all_clauses(const Need& need, const SampleCounts& counts, std::vector<WeighedClause>& out);

std::optional<WeighedClause> best_clause(const Need& need, const SampleCounts& counts) {
  std::vector<WeighedClause> all;
  all_clauses(need, counts, all);
  const auto best =
      std::min_element(all.begin(), all.end(),
                       [](const WeighedClause& a, const WeighedClause& b) { return a.cost() < b.cost(); });
  if (best == all.end()) return std::nullopt;
  return std::move(*best);
}

void all_clauses(const Need& need, const SampleCounts& counts, std::vector<WeighedClause>& out) {
  // Of each run its best window: the others say the same.
  const Run* last = nullptr;
  std::size_t last_from = 0;
  double found = 0;
  windows(need, [&](const Run& run, std::size_t at) {
    const std::size_t from = cut_from(at);
    // What the sample does not hold is guessed, from how many grams there are and from how much is compared.
    if (last != &run || last_from != from)
      found = static_cast<double>(counts.runs(key_of(run, from, kMostFragmentBytes))) +
              0.5 / static_cast<double>(std::min(run.size() - from, kMostFragmentBytes) + 1);
    last_from = from;
    const double looked =
        static_cast<double>(counts.windows(key_of(run, at, kGramBytes))) +
        static_cast<double>(grams_in(run, at)) * static_cast<double>(counts.bytes() + 1) / (1 << 24);
    WeighedClause clause{{}, looked, found};
    const bool is_first = std::exchange(last, &run) != &run;
    if (!is_first && clause.cost() >= out.back().cost()) return;
    clause.clause.push_back(cut(run, at));
    if (is_first) {
      out.push_back(std::move(clause));
    } else {
      out.back() = std::move(clause);
    }
  });
  for (const std::vector<Need>& alternatives : need.any) {
    WeighedClause together;
    bool each = true;
    for (const Need& alternative : alternatives) {
      std::optional<WeighedClause> best = best_clause(alternative, counts);
      each = best && together.clause.size() + best->clause.size() <= kMostClauseFragments;
      if (!each) break;
      std::move(best->clause.begin(), best->clause.end(), std::back_inserter(together.clause));
      together.looked += best->looked;
      together.found += best->found;
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
    const std::bitset<256> bytes = at < run.size() ? run[at] : std::bitset<256>().set();
    std::vector<Gram> longer;
    longer.reserve(all.size() * bytes.count());
    for (std::size_t byte = bytes._Find_first(); byte < bytes.size(); byte = bytes._Find_next(byte)) {
      for (const Gram gram : all) {
        char text[kGramBytes];
        std::memcpy(text, &gram, sizeof gram);
        text[i] = static_cast<char>(static_cast<unsigned char>(byte));
        longer.push_back(gram_at(text));
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

std::string Fragment::key() const {
  return static_cast<char>(window) + key_of(run, 0, run.size());
}

namespace {

// How often each gram occurs in a text: open addressing, at most half full.
class GramCounts {
 public:
  explicit GramCounts(std::string_view text) : slots_(std::size_t{1} << kLeastBits), bits_(kLeastBits) {
    for (std::size_t at = 0; at + kGramBytes <= text.size(); ++at)
      add(gram_at(text.data() + at), 1);
  }
  std::uint64_t of(Gram gram) const { return slots_[place(gram)].count; }

 private:
  static constexpr unsigned kLeastBits = 12;
  struct Slot {
    Gram gram = 0;
    std::uint32_t count = 0;  // 0: free
  };

  std::size_t place(Gram gram) const {
    std::size_t at = FragmentScan::hash(gram, bits_);
    while (slots_[at].count > 0 && slots_[at].gram != gram)
      at = (at + 1) & (slots_.size() - 1);
    return at;
  }
  void add(Gram gram, std::uint32_t by) {
    Slot& slot = slots_[place(gram)];
    const bool is_new = slot.count == 0;
    slot = {gram, slot.count + by};
    if (!is_new || ++used_ * 2 <= slots_.size()) return;
    const std::vector<Slot> before = std::exchange(slots_, std::vector<Slot>(2 * slots_.size()));
    ++bits_;
    used_ = 0;
    for (const Slot& old : before) {
      if (old.count > 0) add(old.gram, old.count);
    }
  }

  std::vector<Slot> slots_;
  unsigned bits_;
  std::size_t used_ = 0;
};

}  // namespace

void SampleCounts::want(const Need& need) {
  const rules::Run* last = nullptr;
  std::size_t last_from = 0;
  Run* known = nullptr;
  logbell::rules::windows(need, [&](const rules::Run& run, std::size_t at) {
    windows_.try_emplace(key_of(run, at, kGramBytes), 0);
    const std::size_t from = cut_from(at);
    if (last != &run || last_from != from) {
      const auto [place, is_new] = runs_.try_emplace(key_of(run, from, kMostFragmentBytes));
      known = &place->second;
      if (is_new) known->fragment = cut(run, at);
      last = &run;
      last_from = from;
    }
    if (grams_in(run, at) < grams_in(known->fragment.run, known->fragment.window)) known->fragment.window = at - from;
  });
  for (const std::vector<Need>& alternatives : need.any) {
    for (const Need& alternative : alternatives)
      want(alternative);
  }
}

void SampleCounts::count(std::string_view sample) {
  const GramCounts grams(sample);
  bytes_ = sample.size();
  for (auto& [key, count] : windows_) {
    Fragment window;
    for (std::size_t at = 0; at < key.size(); at += sizeof(std::bitset<256>))
      window.run.push_back(set_at(key, at));
    for (const Gram gram : window.grams())
      count += grams.of(gram);
  }

  std::vector<Run*> runs;
  std::vector<Fragment> fragments;
  for (auto& [key, run] : runs_) {
    runs.push_back(&run);
    fragments.push_back(run.fragment);
  }
  FragmentScan(fragments, sample, FragmentScan::Sieve::kHash)
      .scan(sample, [&](std::uint32_t run, std::size_t) { ++runs[run]->count; });
}

std::uint64_t SampleCounts::windows(const std::string& key) const {
  const auto found = windows_.find(key);
  return found == windows_.end() ? 0 : found->second;
}

std::uint64_t SampleCounts::runs(const std::string& key) const {
  const auto found = runs_.find(key);
  return found == runs_.end() ? 0 : found->second.count;
}

std::vector<WeighedClause> weigh(const Need& need, const SampleCounts& counts) {
  std::vector<WeighedClause> all;
  all_clauses(need, counts, all);
  std::stable_sort(all.begin(), all.end(),
                   [](const WeighedClause& a, const WeighedClause& b) { return a.cost() < b.cost(); });
  return all;
}

}  // namespace logbell::rules

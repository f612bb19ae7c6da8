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

std::size_t grams_in(const Fragment& fragment) {
  std::size_t grams = 1;
  for (std::size_t i = fragment.window; i < fragment.window + kGramBytes; ++i)
    grams *= i < fragment.run.size() ? fragment.run[i].count() : 256;
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
  windows(need, [&](const Run& run, std::size_t at) {
    Fragment fragment = cut(run, at);
    // What the sample does not hold is guessed, from how many grams there are and from how much is compared.
    const double looked =
        static_cast<double>(counts.windows(fragment)) +
        static_cast<double>(grams_in(fragment)) * static_cast<double>(counts.bytes() + 1) / (1 << 24);
    const double found =
        static_cast<double>(counts.runs(fragment)) + 0.5 / static_cast<double>(fragment.run.size() + 1);
    WeighedClause clause{{std::move(fragment)}, looked, found};
    if (last != &run) {
      out.push_back(std::move(clause));
    } else if (clause.cost() < out.back().cost()) {
      out.back() = std::move(clause);
    }
    last = &run;
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

std::string Fragment::run_key() const {
  std::string out;
  for (const std::bitset<256>& bytes : run)
    append_set(bytes, out);
  return out;
}

std::string Fragment::window_key() const {
  std::string out;
  for (std::size_t i = window; i < window + kGramBytes && i < run.size(); ++i)
    append_set(run[i], out);
  return out;
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
  logbell::rules::windows(need, [&](const rules::Run& run, std::size_t at) {
    Fragment fragment = cut(run, at);
    windows_.try_emplace(fragment.window_key(), 0);
    const auto [known, is_new] = runs_.try_emplace(fragment.run_key(), Run{fragment, 0});
    if (!is_new && grams_in(fragment) < grams_in(known->second.fragment))
      known->second.fragment = std::move(fragment);
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

std::uint64_t SampleCounts::windows(const Fragment& fragment) const {
  const auto found = windows_.find(fragment.window_key());
  return found == windows_.end() ? 0 : found->second;
}

std::uint64_t SampleCounts::runs(const Fragment& fragment) const {
  const auto found = runs_.find(fragment.run_key());
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

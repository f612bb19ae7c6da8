#include "rules/pattern.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <limits>
#include <mutex>
#include <utility>

#include "rules/json.h"
#include "rules/keyed_function.h"
#include "rules/line_shape.h"
#include "rules/logfmt.h"
#include "rules/prefilter.h"
#include "rules/quantity.h"
#include "rules/redact.h"
#include "rules/text.h"

namespace logbell::rules {
namespace {

using Groups = std::array<std::string_view, Regex::kMaxGroups>;

// Of a block, so much is looked at to know what is rare: of 64 KiB two plans for the same log differ by half in what they cost,
// of this by a tenth. 10 ms a MiB.
constexpr std::size_t kBlockSampleBytes = 512 * 1024;

// Whether the scanner sees it as a line of the block, from its beginning to its end.
bool is_one_line(std::string_view block, const Record& record) {
  const std::size_t end = record.offset + record.length;
  const bool begins = record.offset == 0 || block[record.offset - 1] == '\n';
  const bool ends = end == block.size() || block[end] == '\n' || block.substr(end, 2) == "\r\n";
  return begins && ends && std::memchr(block.data() + record.offset, '\n', record.length) == nullptr;
}

// Where a label or the value comes from in one pattern: a group of each `match`, a group of a `where`, or a
// field.
struct Origin {
  std::vector<int> match_group;  // parallel to PatternSpec::match; -1: not there
  std::vector<int> where_group;  // parallel to PatternSpec::where; -1
  std::string field;
};

Origin find_origin(const PatternSpec& spec, const std::string& name) {
  Origin origin;
  for (const Regex& regex : spec.match)
    origin.match_group.push_back(regex.group_index(name).value_or(-1));
  for (const FieldTest& test : spec.where)
    origin.where_group.push_back(test.match && !test.negated ? test.match->group_index(name).value_or(-1)
                                                             : -1);
  origin.field = name;
  return origin;
}

// As a label, but that two which begin alike stay two.
std::string key_text(const std::string& name, std::string_view value) {
  bool was_cut = false;
  const std::string hidden = redact_label(name, value);
  std::string text = clean_text(hidden, kMaxLabelBytes, &was_cut);
  if (!was_cut) return text;
  const std::string fingerprint = " " + format_fingerprint(hash_bytes(value));
  return clean_text(hidden, kMaxLabelBytes - fingerprint.size()) + fingerprint;
}

}  // namespace

struct PatternSet::Scratch::Impl {
  JsonLineReader json;
  std::vector<JsonLineReader::Field> logfmt;
  Groups groups;  // kept: clearing a kilobyte for every pattern of every line would cost more than the match
  Prefilter::Scratch prefilter;
  std::vector<Prefilter::Candidate> candidates;
  std::vector<std::uint32_t> tried;  // of one line
};

PatternSet::Scratch::Scratch() : impl(std::make_unique<Impl>()) {}
PatternSet::Scratch::~Scratch() = default;
PatternSet::Scratch::Scratch(Scratch&&) noexcept = default;
PatternSet::Scratch& PatternSet::Scratch::operator=(Scratch&&) noexcept = default;

struct PatternSet::Impl {
  struct Compiled {
    std::uint32_t index = 0;
    PatternSpec spec;
    std::vector<Origin> labels;
    std::vector<Origin> keys;
    std::optional<Origin> value;
    std::size_t groups = 0;  // of `match` that must be read; 0: only whether it matches
  };

  std::vector<Compiled> patterns;
  std::vector<std::uint32_t> all;  // their positions
  LineFormat format = LineFormat::kText;

  // What finds the lines worth matching: made once, from the first lines that were seen.
  struct Learned {
    std::mutex mutex;
    std::string sample;
    bool done = false;
    std::unique_ptr<const Prefilter> prefilter;
    std::atomic<const Prefilter*> ready{nullptr};
  };
  std::unique_ptr<Learned> learned;  // null: it stays plain

  // Null: every pattern is tried on every line of this block.
  const Prefilter* prefilter_after(std::string_view block) const {
    if (learned == nullptr) return nullptr;
    const Prefilter* ready = learned->ready.load(std::memory_order_acquire);
    if (ready != nullptr) return ready;
    const std::lock_guard lock(learned->mutex);
    if (learned->done) return learned->ready.load(std::memory_order_acquire);
    if (learned->sample.size() + block.size() < kSampleBytes) {
      learned->sample.append(block).push_back('\n');
      return nullptr;
    }
    if (learned->sample.empty()) {
      learn(block);
    } else {
      learned->sample.append(block.substr(0, kSampleBytes));
      learn(std::exchange(learned->sample, {}));
    }
    return learned->ready.load(std::memory_order_acquire);
  }
  // With the mutex held.
  void learn(std::string_view sample) const {
    sample = sample.substr(0, kBlockSampleBytes);
    learned->done = true;
    std::vector<const PatternSpec*> specs;
    for (const Compiled& pattern : patterns)
      specs.push_back(&pattern.spec);
    auto made = std::make_unique<Prefilter>(Prefilter::compile(specs, format, sample));
    if (made->everywhere().size() == specs.size()) return;  // it would find nothing
    learned->prefilter = std::move(made);
    learned->ready.store(learned->prefilter.get(), std::memory_order_release);
  }

  // The fields of a line, read when the first pattern asks.
  class Fields {
   public:
    Fields(LineFormat format, std::string_view line, const Facts* facts, Scratch& scratch)
        : format_(format), line_(line), facts_(facts), scratch_(scratch) {}
    bool any() const { return format_ != LineFormat::kText || facts_ != nullptr; }
    // What a json or logfmt line says beside its other fields; else the line.
    std::string_view message() {
      if (format_ == LineFormat::kText) return line_;
      if (!read_) read();
      for (const std::string_view name : kMessageFields) {
        for (const JsonLineReader::Field& field : *fields_) {
          if (same_ignoring_case(field.name, name) && !field.value.empty()) return field.value;
        }
      }
      return line_;
    }
    // What the envelope says comes first: a line cannot lie about its pod.
    std::optional<std::string_view> find(std::string_view name) {
      if (facts_ != nullptr) {
        if (const std::string* fact = facts_->find(name)) return *fact;
      }
      if (!read_) read();
      for (const JsonLineReader::Field& field : *fields_) {
        if (field.name == name) return field.value;
      }
      return std::nullopt;
    }

   private:
    void read() {
      read_ = true;
      fields_ = &scratch_.impl->logfmt;
      scratch_.impl->logfmt.clear();
      if (format_ == LineFormat::kLogfmt) read_logfmt(line_, scratch_.impl->logfmt);
      if (format_ == LineFormat::kJson && scratch_.impl->json.read(line_))
        fields_ = &scratch_.impl->json.fields();
    }
    LineFormat format_;
    std::string_view line_;
    const Facts* facts_;
    Scratch& scratch_;
    bool read_ = false;
    const std::vector<JsonLineReader::Field>* fields_ = nullptr;
  };

  static bool passes(const FieldTest& test, Fields& fields) {
    const std::optional<std::string_view> value = fields.find(test.field);
    if (!value) return test.negated;
    const bool holds = test.match
                           ? test.match->matches(*value)
                           : std::find(test.equals.begin(), test.equals.end(), *value) != test.equals.end();
    return holds != test.negated;
  }

  static std::string_view value_of(const Origin& origin, std::size_t which, const Groups& groups,
                                   const Compiled& pattern, Fields& fields) {
    if (!origin.match_group.empty() && origin.match_group[which] >= 0)
      return groups[static_cast<std::size_t>(origin.match_group[which])];
    for (std::size_t i = 0; i < origin.where_group.size(); ++i) {
      if (origin.where_group[i] < 0) continue;
      Groups found;
      const auto text = fields.find(pattern.spec.where[i].field);
      if (text && pattern.spec.where[i].match->captures(*text, found))
        return found[static_cast<std::size_t>(origin.where_group[i])];
    }
    return fields.any() ? fields.find(origin.field).value_or("") : std::string_view();
  }

  // Whether `line` matches; `groups` and `which` then say how.
  static bool try_match(const Compiled& pattern, std::string_view line, Groups& groups, std::size_t& which,
                        Fields& fields) {
    const PatternSpec& spec = pattern.spec;
    if (!spec.match.empty()) {
      for (which = 0; which < spec.match.size(); ++which) {
        const bool found = pattern.groups == 0
                               ? spec.match[which].matches(line)
                               : spec.match[which].captures(line, std::span(groups.data(), pattern.groups));
        if (found) break;
      }
      if (which == spec.match.size()) return false;
    }
    for (const Regex& regex : spec.exclude) {
      if (regex.matches(line)) return false;
    }
    return std::all_of(spec.where.begin(), spec.where.end(),
                       [&](const FieldTest& test) { return passes(test, fields); });
  }

  // `tried`: positions in `patterns`, ascending.
  void match_line(std::string_view line, std::size_t offset, const Facts* facts, std::span<const std::uint32_t> tried,
                  Scratch& scratch, std::vector<Match>& out) const {
    Fields fields(format, line, facts, scratch);
    Groups& groups = scratch.impl->groups;
    for (const std::uint32_t position : tried) {
      const Compiled& pattern = patterns[position];
      std::size_t which = 0;
      if (!try_match(pattern, line, groups, which, fields)) continue;
      Match match;
      match.pattern = pattern.index;
      match.line_offset = static_cast<std::uint32_t>(offset);
      match.line_length = static_cast<std::uint32_t>(line.size());
      match.value = std::numeric_limits<double>::quiet_NaN();
      if (pattern.value) {
        if (const auto number = parse_quantity(value_of(*pattern.value, which, groups, pattern, fields)))
          match.value = *number;
      }
      match.labels.reserve(pattern.labels.size());
      for (std::size_t i = 0; i < pattern.labels.size(); ++i) {
        const std::string_view value = value_of(pattern.labels[i], which, groups, pattern, fields);
        bool was_cut = false;
        match.labels.push_back(
            clean_text(redact_label(pattern.spec.labels[i], value), kMaxLabelBytes, &was_cut));
        if (was_cut) ++match.labels_cut;
      }
      match.keys.reserve(pattern.keys.size());
      for (std::size_t i = 0; i < pattern.keys.size(); ++i) {
        if (pattern.spec.keys[i] == kTemplateKey) {
          match.keys.push_back(line_shape(fields.message()));
          continue;
        }
        match.keys.push_back(key_text(pattern.spec.keys[i], value_of(pattern.keys[i], which, groups, pattern, fields)));
      }
      out.push_back(std::move(match));
    }
  }

  // What is tried on the line at `offset`: the candidates from `at` on that stand there, and what is tried everywhere.
  // Moves `at` behind them.
  static std::span<const std::uint32_t> tried_at(std::size_t offset, std::size_t& at, const Prefilter& filter,
                                                 Scratch::Impl& scratch) {
    const std::vector<Prefilter::Candidate>& candidates = scratch.candidates;
    scratch.tried.clear();
    for (; at < candidates.size() && candidates[at].offset == offset; ++at)
      scratch.tried.push_back(candidates[at].pattern);
    if (!filter.everywhere().empty()) {
      const auto middle = static_cast<std::ptrdiff_t>(scratch.tried.size());
      scratch.tried.insert(scratch.tried.end(), filter.everywhere().begin(), filter.everywhere().end());
      std::inplace_merge(scratch.tried.begin(), scratch.tried.begin() + middle, scratch.tried.end());
    }
    return scratch.tried;
  }

  void match_lines(std::string_view block, const Prefilter* filter, Scratch& scratch, std::vector<Match>& out) const {
    std::size_t candidate = 0;
    std::size_t at = 0;
    while (at < block.size()) {
      const void* newline = std::memchr(block.data() + at, '\n', block.size() - at);
      const std::size_t end = newline == nullptr
                                  ? block.size()
                                  : static_cast<std::size_t>(static_cast<const char*>(newline) - block.data());
      std::string_view line = block.substr(at, end - at);
      if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
      match_line(line, at, nullptr, filter == nullptr ? all : tried_at(at, candidate, *filter, *scratch.impl), scratch,
                 out);
      at = end + 1;
    }
  }
};

PatternSet PatternSet::compile(std::span<const PatternSpec> patterns, std::span<const std::uint32_t> wanted,
                               LineFormat format, Matcher matcher) {
  auto impl = std::make_shared<Impl>();
  impl->format = format;
  if (matcher == Matcher::kFast) impl->learned = std::make_unique<Impl::Learned>();
  for (const std::uint32_t index : wanted) {
    Impl::Compiled compiled;
    compiled.index = index;
    compiled.spec = patterns[index];
    for (const std::string& label : compiled.spec.labels)
      compiled.labels.push_back(find_origin(compiled.spec, label));
    for (const std::string& key : compiled.spec.keys)
      compiled.keys.push_back(key == kTemplateKey ? Origin{} : find_origin(compiled.spec, key));
    if (!compiled.spec.value.empty()) compiled.value = find_origin(compiled.spec, compiled.spec.value);
    const auto needs = [&](const Origin& origin) {
      for (const int group : origin.match_group)
        compiled.groups = std::max(compiled.groups, static_cast<std::size_t>(group + 1));
    };
    for (const Origin& origin : compiled.labels)
      needs(origin);
    for (const Origin& origin : compiled.keys)
      needs(origin);
    if (compiled.value) needs(*compiled.value);
    impl->all.push_back(static_cast<std::uint32_t>(impl->patterns.size()));
    impl->patterns.push_back(std::move(compiled));
  }
  PatternSet set;
  set.impl_ = std::move(impl);
  return set;
}

void PatternSet::accelerate(std::string_view sample) const {
  if (!impl_ || impl_->learned == nullptr) return;
  const std::lock_guard lock(impl_->learned->mutex);
  if (!impl_->learned->done) impl_->learn(sample);
}

void PatternSet::match(std::string_view block, Scratch& scratch, std::vector<Match>& out) const {
  if (!impl_ || impl_->patterns.empty()) return;
  const Prefilter* filter = impl_->prefilter_after(block);
  std::vector<Prefilter::Candidate>& candidates = scratch.impl->candidates;
  candidates.clear();
  if (filter != nullptr) filter->find(block, scratch.impl->prefilter, candidates);
  if (filter == nullptr || !filter->everywhere().empty()) {
    impl_->match_lines(block, filter, scratch, out);
    return;
  }
  for (std::size_t at = 0; at < candidates.size();) {
    const Prefilter::Candidate line = candidates[at];
    const auto tried = Impl::tried_at(line.offset, at, *filter, *scratch.impl);
    impl_->match_line(block.substr(line.offset, line.length), line.offset, nullptr, tried, scratch, out);
  }
}

void PatternSet::match(std::string_view block, std::span<const Record> records, Scratch& scratch,
                       std::vector<Match>& out) const {
  if (!impl_ || impl_->patterns.empty()) return;
  const Prefilter* filter = impl_->prefilter_after(block);
  std::vector<Prefilter::Candidate>& candidates = scratch.impl->candidates;
  candidates.clear();
  if (filter != nullptr) filter->find(block, scratch.impl->prefilter, candidates);
  std::size_t at = 0;
  for (const Record& record : records) {
    std::span<const std::uint32_t> tried = impl_->all;
    if (filter != nullptr && is_one_line(block, record)) {
      while (at < candidates.size() && candidates[at].offset < record.offset)
        ++at;
      tried = Impl::tried_at(record.offset, at, *filter, *scratch.impl);
    }
    if (tried.empty()) continue;
    impl_->match_line(block.substr(record.offset, record.length), record.offset, record.facts, tried, scratch, out);
  }
}

bool PatternSet::leaves_out(std::string_view line) const {
  return impl_ && std::any_of(impl_->patterns.begin(), impl_->patterns.end(), [&](const Impl::Compiled& pattern) {
           return std::any_of(pattern.spec.exclude.begin(), pattern.spec.exclude.end(),
                              [&](const Regex& regex) { return regex.matches(line); });
         });
}

std::size_t PatternSet::size() const {
  return impl_ ? impl_->patterns.size() : 0;
}

bool matches_line(const PatternSpec& pattern, LineFormat format, std::string_view line, const Facts* facts) {
  const std::uint32_t first = 0;
  const PatternSet set = PatternSet::compile(std::span(&pattern, 1), std::span(&first, 1), format);
  PatternSet::Scratch scratch;
  std::vector<Match> found;
  if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
  const Record record{0, line.size(), facts};
  set.match(line, std::span(&record, 1), scratch, found);
  return !found.empty();
}

Fingerprint PatternSpec::identity() const {
  std::string text;
  const auto add = [&](std::string_view part) { text.append(part).push_back('\0'); };
  for (const Regex& regex : match)
    add(regex.pattern());
  add("\1");
  for (const Regex& regex : exclude)
    add(regex.pattern());
  add("\1");
  for (const FieldTest& test : where) {
    add(test.field);
    for (const std::string& value_text : test.equals)
      add(value_text);
    add(test.match ? test.match->pattern() : "");
    add(test.negated ? "!" : "");
  }
  add("\1");
  for (const std::string& label : labels)
    add(label);
  add(value);
  for (const std::string& source : sources)
    add(source);
  add(name);
  return hash_bytes(text);
}

}  // namespace logbell::rules

#include "engine/run/line_explainer.h"

#include <algorithm>
#include <limits>
#include <span>

#include <fmt/format.h>

#include "rules/error_lines.h"
#include "rules/expr.h"
#include "rules/fields.h"
#include "rules/text.h"

namespace logbell::engine {
namespace {

using rules::Instant;
using rules::Timestamp;

// Everything holds but that it is not of its source.
constexpr double kOfAnotherSource = 0.95;

// Nobody waits here: what is unfinished is handed over at the end.
Instant instant() {
  return Instant() + std::chrono::hours(1);
}

}  // namespace

LineExplainer::LineExplainer(const rules::Plan& plan, std::uint32_t source, const std::string& path, Timestamp now)
    : source_(plan.sources.at(source)), now_(now), rules_of_(plan.patterns.size()) {
  for (std::uint32_t i = 0; i < plan.rules.size(); ++i) {
    if (plan.rules[i].expr == nullptr) continue;
    for (const rules::Expr* call : rules::range_calls(plan.rules[i])) {
      std::vector<std::uint32_t>& of = rules_of_[call->pattern_index];
      if (of.empty() || of.back() != i) of.push_back(i);
    }
  }
  for (const rules::PatternSpec& pattern : plan.patterns)
    explainers_.emplace_back(pattern, source_.format);
  const bool decoded = RecordDecoder::is_needed(source_);
  how_.max_line_bytes = decoded ? RecordDecoder::max_raw_line_bytes(source_) : source_.max_line_bytes;
  if (decoded) decoder_ = std::make_unique<RecordDecoder>(source_, path);
}

void LineExplainer::feed(std::string_view bytes, const Visit& visit) {
  raw_.append(bytes);
  if (!begun_ && raw_.size() >= 4) {
    begun_ = true;
    const ByteOrderMark mark = byte_order_mark(raw_);
    how_.encoding = mark.encoding;
    raw_.erase(0, mark.bytes);
  }
  if (begun_) take(false, visit);
}

void LineExplainer::finish(const Visit& visit) {
  if (!begun_) {
    begun_ = true;
    const ByteOrderMark mark = byte_order_mark(raw_);
    how_.encoding = mark.encoding;
    raw_.erase(0, mark.bytes);
  }
  take(true, visit);
  if (decoder_ == nullptr) return;
  const std::optional<Timestamp> waited = decoder_->waits_since();
  RecordBlock block;
  decoder_->flush(instant(), true, block);
  hand_over(block, waited ? number_of(*waited) : number_, number_, visit);
}

void LineExplainer::take(bool ended, const Visit& visit) {
  how_.flush = ended;
  std::size_t done = 0;
  while (done < raw_.size()) {
    const std::string_view rest = std::string_view(raw_).substr(done);
    // split() wants more than a line, or the end of the log.
    if (!ended && rest.size() <= raw_line_bytes(how_.encoding, how_.max_line_bytes) &&
        rest.find('\n') == std::string_view::npos)
      break;
    const Chunk chunk = split(rest, how_, state_, scratch_);
    std::string_view block = chunk.block;
    while (!block.empty()) {
      const std::size_t end = std::min(block.find('\n'), block.size());
      ++number_;
      take_line(block.substr(0, end), visit);
      block.remove_prefix(std::min(end + 1, block.size()));
    }
    done += chunk.consumed;
    if (chunk.consumed == 0) break;
  }
  raw_.erase(0, done);
}

void LineExplainer::take_line(std::string_view text, const Visit& visit) {
  if (decoder_ == nullptr) {
    if (!text.empty() && text.back() == '\r') text.remove_suffix(1);
    ReadLine line;
    line.number = number_;
    line.text = text;
    line.time = times_.read(source_, text, now_);
    const rules::Record record{0, text.size(), nullptr};
    found_.clear();
    source_.patterns.match(text, std::span(&record, 1), match_scratch_, found_);
    for (const rules::Match& match : found_)
      line.matched.push_back(match.pattern);
    judge(text, line);
    visit(line);
    return;
  }
  const std::string whole = std::string(text) + "\n";
  Chunk chunk;
  chunk.block = whole;
  chunk.consumed = whole.size();
  // Each line has a moment of its own, by which what waits is known again.
  const std::optional<Timestamp> waited = decoder_->waits_since();
  RecordBlock block;
  decoder_->feed(chunk, fed_, now_ + rules::Duration(number_), instant(), block);
  fed_ += chunk.consumed;
  // The first that has ended is the one that waited, unless that still waits: one of another stream.
  const bool ended = waited && decoder_->waits_since() != waited;
  hand_over(block, ended ? number_of(*waited) : number_, number_, visit);
}

void LineExplainer::hand_over(const RecordBlock& block, std::uint64_t first, std::uint64_t others,
                              const Visit& visit) {
  for (std::size_t i = 0; i < block.records.size(); ++i) {
    const rules::Record& record = block.records[i];
    const std::string_view text = std::string_view(block.text).substr(record.offset, record.length);
    ReadLine line;
    line.number = i == 0 ? first : others;
    line.text = text;
    line.facts = record.facts;
    line.time =
        source_.own_timestamp || !block.told[i].time ? times_.read(source_, text, now_) : block.told[i].time;
    const rules::Record alone{0, text.size(), record.facts};
    found_.clear();
    source_.patterns.match(text, std::span(&alone, 1), match_scratch_, found_);
    for (const rules::Match& match : found_)
      line.matched.push_back(match.pattern);
    judge(text, line);
    visit(line);
  }
}

void LineExplainer::judge(std::string_view text, ReadLine& line) const {
  line.is_error = rules::looks_like_error(text);
  if (!line.is_error) return;
  const bool looked_at = std::any_of(line.matched.begin(), line.matched.end(),
                                     [&](std::uint32_t pattern) { return !rules_of_[pattern].empty(); });
  const bool known =
      source_.uncovered_errors &&
      std::any_of(source_.uncovered_errors->exclude.begin(), source_.uncovered_errors->exclude.end(),
                  [&](const rules::Regex& regex) { return regex.matches(text); });
  line.is_missed = !looked_at && !known && !source_.patterns.leaves_out(text);
}

ExplainedLine LineExplainer::explain(const ReadLine& line, std::size_t nearest) const {
  ExplainedLine out;
  out.fields = rules::fields_of(source_.format, line.text, line.facts, source_.envelope);
  for (const std::uint32_t pattern : line.matched)
    out.matches.push_back({pattern, explainers_[pattern].explain(line.text, line.facts)});
  struct Likely {
    double likeness;
    std::uint32_t pattern;
  };
  std::vector<Likely> others;
  for (std::uint32_t i = 0; i < explainers_.size(); ++i) {
    if (std::find(line.matched.begin(), line.matched.end(), i) == line.matched.end())
      others.push_back({explainers_[i].likeness(line.text), i});
  }
  std::stable_sort(others.begin(), others.end(),
                   [](const Likely& a, const Likely& b) { return a.likeness > b.likeness; });
  const bool all = nearest == std::numeric_limits<std::size_t>::max();
  for (std::size_t i = 0; nearest > 0 && i < others.size(); ++i) {
    if (!all && (i >= kMostAsked || others[i].likeness < kLikely)) break;
    const rules::PatternSpec& pattern = explainers_[others[i].pattern].pattern();
    rules::PatternVerdict verdict = explainers_[others[i].pattern].explain(line.text, line.facts);
    if (!pattern.sources.empty() && !rules::contains(pattern.sources, source_.name)) {
      if (!verdict.matches && !all) continue;
      verdict.nearness = verdict.matches ? kOfAnotherSource : verdict.nearness;
      verdict.reason = fmt::format("it reads only {}, and this is {}{}", rules::list_words(pattern.sources),
                                   source_.name, verdict.matches ? ": it would match" : "");
      verdict.matches = false;
    }
    if (all || verdict.nearness >= kNear) out.near.push_back({others[i].pattern, std::move(verdict)});
  }
  std::stable_sort(out.near.begin(), out.near.end(),
                   [](const auto& a, const auto& b) { return a.verdict.nearness > b.verdict.nearness; });
  if (out.near.size() > nearest) out.near.resize(nearest);
  out.others = others.size() - out.near.size();
  return out;
}

}  // namespace logbell::engine

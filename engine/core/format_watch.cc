#include "engine/core/format_watch.h"

#include <algorithm>
#include <cmath>

#include "rules/json.h"
#include "rules/redact.h"

namespace logbell::engine {

using rules::Json;
using rules::Timestamp;

namespace {

// Counts of forms are halved beyond it, so that what a log was like long ago weighs less.
constexpr std::uint64_t kManyLines = 10'000;
// A source's time that goes back by more spans than this was set back; by less, another file is behind.
constexpr std::int64_t kSetBack = 6;

std::string shown(std::string_view line) {
  return rules::clean_text(rules::redact(line), FormatWatch::kLineBytes);
}

std::uint64_t total(const std::map<std::string, std::uint64_t>& forms) {
  std::uint64_t sum = 0;
  for (const auto& one : forms)
    sum += one.second;
  return sum;
}

std::uint64_t number(const Json& json) {
  return static_cast<std::uint64_t>(std::clamp(json.integer(), std::int64_t{0}, rules::kMaxStoredMs));
}

}  // namespace

bool FormatWatch::is_usual(const Forms& forms, const std::string& form) {
  const auto found = forms.find(form);
  return found != forms.end() && found->second * kRare >= total(forms);
}

void FormatWatch::bound(Forms& forms) {
  while (forms.size() > kMaxForms) {
    forms.erase(std::min_element(forms.begin(), forms.end(),
                                 [](const auto& a, const auto& b) { return a.second < b.second; }));
  }
  if (total(forms) < kManyLines) return;
  for (auto& one : forms)
    one.second = (one.second + 1) / 2;
}

bool FormatWatch::begin_span(Timestamp at) {
  const std::int64_t span = rules::to_unix_ms(at) / kSpan.count();
  if (span_ != kNoSpan && span <= span_ && span_ - span <= kSetBack) return false;
  span_ = span;
  ++spans_;
  for (auto& one : former_)
    ++one.second.silent;
  changed_ = true;
  return !former_.empty();
}

bool FormatWatch::add(const LineForm& line, Timestamp at) {
  bool news = begin_span(at);
  if (line.form.empty()) return news;
  if (!former_forms_.empty() && is_usual(former_forms_, line.form) && forms_.count(line.form) == 0) {
    if (++back_ < kBack) return news;
    change_back();
    return true;
  }
  if (forms_.empty() || is_usual(forms_, line.form)) {
    // What came in between belongs to the format, too.
    for (const auto& [form, lines] : run_)
      forms_[form] += lines;
    run_.clear();
    run_lines_ = 0;
    ++forms_[line.form];
    bound(forms_);
    return news;
  }
  // What was seen rarely counts as new: a new version that writes beside the old one for a while.
  if (run_lines_ == 0) {
    run_at_ = at;
    run_span_ = span_;
    run_spans_ = std::max<std::uint64_t>(spans_ - 1, 1);
  }
  ++run_[line.form];
  ++run_lines_;
  bound(run_);
  if (run_lines_ < kRun) return news;
  // Not many more were ever seen: this is still the beginning.
  if (total(forms_) < kRun) {
    for (const auto& [form, lines] : run_)
      forms_[form] += lines;
    run_.clear();
    run_lines_ = 0;
    bound(forms_);
    return news;
  }
  change(line);
  return true;
}

// It changed when the run began, of which nobody knew then what it would be.
void FormatWatch::change(const LineForm& line) {
  for (auto& one : former_)
    one.second.of_last = false;
  std::map<std::string, Seen> seen = std::exchange(seen_, {});
  const std::uint64_t since = spans_ - run_spans_;
  for (auto& [pattern, one] : seen) {
    if (one.last > run_span_) {
      seen_[pattern] = {1, one.last, one.line};  // it matches the new one, too
      continue;
    }
    // Had it fallen silent before, the format is not why.
    const std::uint64_t of = std::max(run_spans_, one.spans);
    const double a_span = static_cast<double>(one.spans) / static_cast<double>(of);
    const bool was_silent = a_span * static_cast<double>(run_span_ - one.last) >= kExpected;
    if (one.spans >= kMinSpans && !was_silent)
      former_[pattern] = {{pattern, one.spans, of, one.line}, since, true};
  }
  former_spans_ = std::exchange(run_spans_, 0);
  spans_ = since;
  former_forms_ = std::exchange(forms_, std::exchange(run_, {}));
  run_lines_ = back_ = 0;
  changed_at_ = run_at_;
  new_line_ = shown(line.line);
  changed_ = true;
}

// Both are written, or the new one was none.
void FormatWatch::change_back() {
  for (const auto& [form, lines] : former_forms_)
    forms_[form] += lines;
  bound(forms_);
  former_forms_.clear();
  spans_ += std::exchange(former_spans_, 0);
  for (auto at = former_.begin(); at != former_.end();) {
    if (!at->second.of_last) {
      ++at;
      continue;
    }
    const Silent& what = at->second.what;
    seen_[at->first] = {what.matched, span_ - static_cast<std::int64_t>(at->second.silent), what.line};
    at = former_.erase(at);
  }
  back_ = 0;
  changed_ = true;
}

bool FormatWatch::matched(const std::string& pattern, std::string_view line) {
  auto found = seen_.find(pattern);
  if (found == seen_.end()) {
    if (seen_.size() >= kMaxPatterns) return false;
    found = seen_.try_emplace(pattern).first;
  }
  Seen& seen = found->second;
  if (seen.last != span_) {
    seen.last = span_;
    ++seen.spans;
    seen.line = shown(line);
    changed_ = true;
  }
  return former_.erase(pattern) != 0;
}

std::vector<FormatWatch::Silent> FormatWatch::silent() const {
  std::vector<Silent> silent;
  for (const auto& [pattern, former] : former_) {
    const double expected = static_cast<double>(former.what.matched) * static_cast<double>(former.silent) /
                            static_cast<double>(former.what.spans);
    if (expected >= kExpected) silent.push_back(former.what);
  }
  return silent;
}

void FormatWatch::keep_only(const std::set<std::string>& patterns) {
  const auto gone = [&](const auto& one) { return patterns.count(one.first) == 0; };
  if (std::erase_if(seen_, gone) + std::erase_if(former_, gone) > 0) changed_ = true;
}

std::string FormatWatch::to_json() const {
  const auto forms_json = [](const Forms& forms) {
    Json json{Json::Object{}};
    for (const auto& [form, lines] : forms)
      json.set(form, lines);
    return json;
  };
  Json json;
  json.set("forms", forms_json(forms_))
      .set("run", forms_json(run_))
      .set("former_forms", forms_json(former_forms_));
  json.set("back", back_).set("span", span_).set("spans", spans_).set("former_spans", former_spans_);
  json.set("run_at", rules::to_unix_ms(run_at_)).set("run_span", run_span_).set("run_spans", run_spans_);
  json.set("changed_at", rules::to_unix_ms(changed_at_)).set("new_line", new_line_);
  Json seen{Json::Object{}};
  for (const auto& [pattern, one] : seen_) {
    Json entry;
    entry.set("spans", one.spans).set("last", one.last).set("line", one.line);
    seen.set(pattern, std::move(entry));
  }
  Json former{Json::Object{}};
  for (const auto& [pattern, one] : former_) {
    Json entry;
    entry.set("matched", one.what.matched).set("spans", one.what.spans).set("line", one.what.line);
    entry.set("silent", one.silent).set("of_last", one.of_last);
    former.set(pattern, std::move(entry));
  }
  json.set("seen", std::move(seen)).set("former", std::move(former));
  return json.dump();
}

std::optional<FormatWatch> FormatWatch::parse(std::string_view text) {
  const auto parsed = Json::parse(text);
  if (!parsed || !(*parsed)["span"].is_integer()) return std::nullopt;
  const Json& json = *parsed;
  FormatWatch watch;
  const auto read_forms = [](const Json& from, Forms& forms) {
    for (const auto& [form, lines] : from.object()) {
      if (forms.size() < kMaxForms) forms[form] = std::min(number(lines), kManyLines);
    }
  };
  const auto span = [](const Json& of) {
    return std::clamp(of.integer(), -rules::kMaxStoredMs, rules::kMaxStoredMs);
  };
  read_forms(json["forms"], watch.forms_);
  read_forms(json["run"], watch.run_);
  read_forms(json["former_forms"], watch.former_forms_);
  watch.run_at_ = rules::from_stored_ms(json["run_at"].integer());
  watch.run_span_ = span(json["run_span"]);
  watch.run_spans_ = number(json["run_spans"]);
  watch.run_lines_ = std::min(total(watch.run_), kRun);
  watch.back_ = number(json["back"]);
  watch.span_ = span(json["span"]);
  watch.spans_ = number(json["spans"]);
  watch.former_spans_ = number(json["former_spans"]);
  watch.changed_at_ = rules::from_stored_ms(json["changed_at"].integer());
  watch.new_line_ = rules::clean_text(json["new_line"].string(), kLineBytes);
  for (const auto& [pattern, one] : json["seen"].object()) {
    if (watch.seen_.size() >= kMaxPatterns) break;
    watch.seen_[pattern] = {number(one["spans"]), span(one["last"]),
                            rules::clean_text(one["line"].string(), kLineBytes)};
  }
  for (const auto& [pattern, one] : json["former"].object()) {
    if (watch.former_.size() >= kMaxPatterns) break;
    Silent what{pattern, number(one["matched"]), number(one["spans"]),
                rules::clean_text(one["line"].string(), kLineBytes)};
    if (what.matched < kMinSpans || what.spans < what.matched) continue;
    watch.former_[pattern] = {std::move(what), number(one["silent"]), one["of_last"].boolean()};
  }
  return watch;
}

}  // namespace logbell::engine

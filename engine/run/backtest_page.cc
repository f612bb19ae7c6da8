#include "engine/run/backtest_page.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include <fmt/format.h>

#include "engine/run/html.h"
#include "rules/template.h"

namespace logbell::engine {

using rules::Duration;
using rules::format_number;
using rules::format_rfc3339;
using rules::Timestamp;
using Report = BacktestReport;

namespace {

// In units of the drawing, which is as wide as the page.
constexpr double kWidth = 960;
constexpr double kLeft = 64;
constexpr double kRight = 952;
constexpr double kTop = 10;
constexpr double kBottom = 150;
constexpr double kHeight = 176;
constexpr double kNarrowest = 2;         // a firing of a moment is seen
constexpr std::size_t kMostDrawn = 400;  // firings; of more, when any did
constexpr std::size_t kMostListed = 50;  // firings in a rule's table
constexpr std::size_t kPointed = 120;    // spans that say their value to the pointer

constexpr std::string_view kStyle = R"(
:root { color-scheme: light dark; --back: #fff; --text: #1c2126; --faint: #66707a; --line: #d9dee3; --value: #2563ab; --band: #2563ab33;
  --threshold: #b45309; --fire: #d6336c; --fires: #d6336c40; }
@media (prefers-color-scheme: dark) { :root { --back: #14181c; --text: #e3e7ea; --faint: #98a2ab; --line: #323a42; --value: #74b3f5;
  --band: #74b3f540; --threshold: #f0a94e; --fire: #ff7fa5; --fires: #ff7fa54d; } }
* { box-sizing: border-box; }
body { background: var(--back); color: var(--text); font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 1100px; padding: 1.5rem; }
h1 { font-size: 1.4rem; margin: 0 0 .25rem; } h2 { font-size: 1.1rem; margin: 2.5rem 0 .25rem; overflow-wrap: anywhere; }
code { font: 13px/1.4 ui-monospace, monospace; overflow-wrap: anywhere; } .faint { color: var(--faint); } .fires { color: var(--fire); }
table { border-collapse: collapse; margin: .75rem 0; max-width: 100%; } .wide { overflow-x: auto; }
th, td { border-bottom: 1px solid var(--line); padding: .2rem .9rem .2rem 0; text-align: left; vertical-align: top; }
th { color: var(--faint); font-weight: 500; } td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
a { color: inherit; } svg { display: block; height: auto; margin: .5rem 0; width: 100%; } svg text { fill: var(--faint); font: 11px system-ui, sans-serif; }
.axis { stroke: var(--line); } .band { fill: var(--band); stroke: var(--value); stroke-width: 1; stroke-linejoin: round; }
.threshold { stroke: var(--threshold); stroke-dasharray: 5 4; stroke-width: 1.5; } svg text.threshold { fill: var(--threshold); stroke: none; }
.firing { fill: var(--fires); stroke: var(--fire); stroke-width: .5; } .pointed { fill: transparent; } .pointed:hover { fill: var(--band); }
.day { fill: var(--value); } summary { cursor: pointer; }
)";

std::string shown(Timestamp at) {
  return html(format_rfc3339(at));
}

// To the second, as nobody reads more.
std::string shown(Duration duration) {
  return html(rules::format_duration(duration < std::chrono::seconds(10)
                                         ? duration
                                         : Duration(std::chrono::round<std::chrono::seconds>(duration))));
}

std::string short_number(double value) {
  return std::abs(value) < 1e15 && value == std::floor(value) ? format_number(value)
                                                             : fmt::format("{:.4g}", value);
}

std::string times(std::uint64_t n) {
  return n == 1 ? "once" : fmt::format("{} times", n);
}

// --- a plot

class Plot {
 public:
  Plot(const Report& report, const Report::Rule& rule)
      : rule_(rule), from_(report.first_line), to_(report.last_line) {
    for (std::size_t i = 0; i < rule.spans.buckets().size(); ++i) {
      const Report::Span& span = rule.spans.buckets()[i];
      if (span.least > span.most) continue;
      take(span.least);
      take(span.most);
    }
    if (!rule.op.empty()) take(rule.threshold);
    take(0);
    if (!(high_ > low_)) high_ = low_ + 1;
    high_ += (high_ - low_) * 0.08;
  }

  std::string draw() const {
    std::string out = fmt::format(
        "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"Value, threshold and firings of {}\">\n",
        kWidth, kHeight, html(rule_.name));
    out += axes() + firings() + band() + threshold() + pointed() + "</svg>\n";
    return out;
  }

 private:
  void take(double value) {
    if (!std::isfinite(value)) return;
    low_ = std::min(low_, value);
    high_ = std::max(high_, value);
  }
  double x(Timestamp at) const {
    const double part = static_cast<double>((std::clamp(at, from_, to_) - from_).count()) /
                        static_cast<double>(std::max<std::int64_t>((to_ - from_).count(), 1));
    return kLeft + part * (kRight - kLeft);
  }
  double y(double value) const {
    return kBottom - (std::clamp(value, low_, high_) - low_) / (high_ - low_) * (kBottom - kTop);
  }

  static std::string tick(double value) {
    return std::abs(value) >= 10'000 ? fmt::format("{:.2g}", value)
           : std::abs(value) >= 10   ? fmt::format("{:.0f}", value)
                                     : fmt::format("{:.2g}", value);
  }
  std::string axes() const {
    std::string out = fmt::format("<path class=\"axis\" fill=\"none\" d=\"M{} {}V{}H{}\"/>\n", kLeft, kTop,
                                  kBottom, kRight);
    for (const double value : {low_, low_ + (high_ - low_) / 2, high_})
      out += fmt::format("<text x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\">{}</text>\n", kLeft - 6,
                         y(value) + 4, tick(value));
    constexpr int kTicks = 4;
    const bool days = to_ - from_ >= std::chrono::hours(48);
    for (int i = 0; i <= kTicks; ++i) {
      const Timestamp at = from_ + (to_ - from_) * i / kTicks;
      const std::string text = format_rfc3339(std::chrono::floor<std::chrono::seconds>(at));
      out += fmt::format("<text x=\"{:.1f}\" y=\"{}\" text-anchor=\"{}\">{}</text>\n", x(at), kHeight - 8,
                         i == 0        ? "start"
                         : i == kTicks ? "end"
                                       : "middle",
                         days ? text.substr(0, 16) : text.substr(5, 14));
    }
    return out;
  }

  // Between the least and the most of each span; where nothing was looked at, as it was before.
  template <class Each>
  void each_span(Each each) const {
    double carried = std::numeric_limits<double>::quiet_NaN();
    for (std::size_t i = 0; i < rule_.spans.buckets().size(); ++i) {
      const Report::Span& span = rule_.spans.buckets()[i];
      const Timestamp begin = std::max(rule_.spans.begin_of(i), from_);
      const Timestamp end = std::min(rule_.spans.begin_of(i) + rule_.spans.width(), to_);
      double least = span.least;
      double most = span.most;
      if (std::isfinite(carried)) {
        least = std::min(least, carried);
        most = std::max(most, carried);
      }
      each(begin, end, least, most);
      if (span.seen) carried = span.last;
    }
    const Timestamp end = rule_.spans.begin_of(rule_.spans.buckets().size());
    if (std::isfinite(carried) && !rule_.spans.empty() && end < to_) each(end, to_, carried, carried);
  }

  std::string band() const {
    struct Step {
      double begin;
      double end;
      double least;
      double most;
    };
    std::string out;
    std::vector<Step> steps;
    const auto close = [&] {
      std::string path;
      for (const Step& step : steps)
        path +=
            fmt::format("{}{:.1f} {:.1f}H{:.1f}", path.empty() ? "M" : "L", step.begin, step.most, step.end);
      for (auto step = steps.rbegin(); step != steps.rend(); ++step)
        path += fmt::format("L{:.1f} {:.1f}H{:.1f}", step->end, step->least, step->begin);
      if (!path.empty()) out += fmt::format("<path class=\"band\" d=\"{}Z\"/>\n", path);
      steps.clear();
    };
    each_span([&](Timestamp begin, Timestamp end, double least, double most) {
      if (!(least <= most) || !std::isfinite(least) || !std::isfinite(most)) return close();
      if (!steps.empty() && steps.back().least == y(least) && steps.back().most == y(most)) {
        steps.back().end = x(end);
      } else {
        steps.push_back({x(begin), x(end), y(least), y(most)});
      }
    });
    close();
    return out;
  }

  std::string firing(Timestamp from, Timestamp to, const std::string& title) const {
    const double width = std::max(x(to) - x(from), kNarrowest);
    return fmt::format(
        "<rect class=\"firing\" x=\"{:.1f}\" y=\"{}\" width=\"{:.1f}\" "
        "height=\"{}\"><title>{}</title></rect>\n",
        std::min(x(from), kRight - width), kTop, width, kBottom - kTop, title);
  }
  std::string firings() const {
    std::string out;
    if (rule_.episodes.size() == rule_.firings && rule_.episodes.size() <= kMostDrawn) {
      for (const Report::Episode& episode : rule_.episodes) {
        const Timestamp end = episode.resolved_at.value_or(to_);
        out += firing(episode.fired_at, end,
                      fmt::format("fired {}, {} {}\n{}", shown(episode.fired_at),
                                  episode.resolved_at ? "for" : "and still does after",
                                  shown(Duration(end - episode.fired_at)), html(episode.labels.format())));
      }
      return out;
    }
    for (std::size_t i = 0; i < rule_.spans.buckets().size(); ++i) {
      const Report::Span& span = rule_.spans.buckets()[i];
      if (span.firing == Duration(0) && span.firings == 0) continue;
      const Timestamp begin = rule_.spans.begin_of(i);
      out += firing(begin, begin + rule_.spans.width(),
                    fmt::format("{} firings began within {} from {}", span.firings,
                                shown(rule_.spans.width()), shown(begin)));
    }
    return out;
  }

  std::string threshold() const {
    if (rule_.op.empty() || !std::isfinite(rule_.threshold)) return {};
    const double at = y(rule_.threshold);
    return fmt::format(
        "<line class=\"threshold\" x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/>\n"
        "<text class=\"threshold\" x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\">{} {}</text>\n",
        kLeft, kRight, at, at, kRight - 4, at < kTop + 16 ? at + 13 : at - 4, html(rule_.op),
        format_number(rule_.threshold));
  }

  // What the pointer shows.
  std::string pointed() const {
    const std::size_t together = rule_.spans.buckets().size() / kPointed + 1;
    std::string out;
    std::size_t i = 0;
    Timestamp from;
    double low = 0;
    double high = 0;
    Timestamp end;
    const auto flush = [&] {
      if (i == 0) return;
      if (low <= high)
        out += fmt::format(
            "<rect class=\"pointed\" x=\"{:.1f}\" y=\"{}\" width=\"{:.1f}\" "
            "height=\"{}\"><title>{}\n{}</title></rect>\n",
            x(from), kBottom, std::max(x(end) - x(from), 0.5), 8, shown(from),
            low == high ? short_number(low) : short_number(low) + " to " + short_number(high));
      i = 0;
    };
    each_span([&](Timestamp begin, Timestamp until, double least, double most) {
      if (i == 0) {
        from = begin;
        low = std::numeric_limits<double>::infinity();
        high = -low;
      }
      low = std::min(low, least);
      high = std::max(high, most);
      end = until;
      if (++i == together) flush();
    });
    flush();
    return out;
  }

  const Report::Rule& rule_;
  Timestamp from_;
  Timestamp to_;
  double low_ = 0;
  double high_ = 0;
};

// --- the page's parts

std::string episodes_table(const Report::Rule& rule) {
  if (rule.episodes.empty()) return {};
  std::string out = fmt::format(
      "<details><summary>{}</summary><div class=\"wide\"><table>\n"
      "<tr><th>Fired</th><th class=\"n\">For</th><th class=\"n\">Value</th><th>Labels</th></tr>\n",
      rule.firings == 1 ? "Its one firing" : fmt::format("Each of {} firings", rule.firings));
  for (std::size_t i = 0; i < rule.episodes.size() && i < kMostListed; ++i) {
    const Report::Episode& episode = rule.episodes[i];
    out += fmt::format(
        "<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td><code>{}</code></td></tr>\n",
        shown(episode.fired_at),
        episode.resolved_at ? shown(Duration(*episode.resolved_at - episode.fired_at)) : "to the end",
        format_number(episode.value), html(episode.labels.without({"alertname"}).format()));
  }
  out += "</table></div>";
  if (rule.firings > kMostListed)
    out += fmt::format("<p class=\"faint\">and {} more</p>", rule.firings - kMostListed);
  return out + "</details>\n";
}

std::string suggestions(const Report::Rule& rule) {
  if (!rule.no_suggestion.empty())
    return fmt::format("<p class=\"faint\">No other threshold is proposed: {}.</p>\n",
                       html(rule.no_suggestion));
  std::string out = "<p>Thresholds for at most";
  const char* before = " ";
  for (const Report::Suggestion& one : rule.suggestions) {
    out += fmt::format("{}{} a month: <code>{} {}</code> ({})", before, one.a_month, html(rule.op),
                       format_number(one.threshold),
                       one.beyond ? "beyond all that is here"
                                  : fmt::format("{}{} here", rule.at_most ? "at most " : "", times(one.firings)));
    before = "; ";
  }
  out += ".</p>\n";
  if (rule.thinned)
    out += "<p class=\"faint\">Its value changed too often, or had too many values: near, not exact.</p>\n";
  return out;
}

std::string rule_part(const Report& report, const Report::Rule& rule, std::size_t index, bool suggest) {
  std::string out = fmt::format("<section><h2 id=\"rule-{}\">{}</h2>\n<code>{}</code>\n<p>", index,
                                html(rule.name), html(rule.expr));
  if (rule.firings == 0) {
    out += "Never fired.";
  } else {
    out += fmt::format(
        "<span class=\"fires\">Fired {}</span>, in all for {}, at the longest for {}, {} within {} of its "
        "end.",
        times(rule.firings), shown(rule.firing), shown(rule.longest),
        rule.flaps == 0 ? "never again" : "again " + times(rule.flaps), shown(Report::kFlap));
    if (rule.still_firing > 0) out += fmt::format(" {} still firing at the end.", rule.still_firing);
  }
  if (rule.peak)
    out += fmt::format(
        " {} {} at {}{}.", rule.peak->exact ? "Peak" : "Peak near", short_number(rule.peak->value),
        shown(rule.peak->at),
        rule.peak->labels.empty() ? "" : " <code>" + html(rule.peak->labels.format()) + "</code>");
  if (!rule.unknown.empty()) out += fmt::format(" Unknown at the end: {}.", html(rule.unknown));
  out += "</p>\n" + Plot(report, rule).draw();
  if (rule.value.empty()) out += "<p class=\"faint\">It compares no value: only its firings are drawn.</p>\n";
  for (const Report::TopValues& top : rule.top_values) {
    out += fmt::format("<p><span class=\"faint\">{}</span>", html(top.label));
    for (const auto& [value, lines] : top.values)
      out += fmt::format(" <code>{}</code> {}", html(value), lines);
    if (top.others > 0) out += fmt::format(" others {}", top.others);
    out += "</p>\n";
  }
  if (suggest) out += suggestions(rule);
  return out + episodes_table(rule) + "</section>\n";
}

std::string overview(const Report& report, const std::vector<std::size_t>& order) {
  std::string out =
      "<div class=\"wide\"><table>\n<tr><th>Rule</th><th class=\"n\">Fired</th><th class=\"n\">In "
      "all</th><th class=\"n\">Longest</th>"
      "<th class=\"n\">Flaps</th><th class=\"n\">Peak</th><th>Messages</th></tr>\n";
  for (const std::size_t i : order) {
    const Report::Rule& rule = report.rules[i];
    std::string messages;
    for (const auto& [sink, count] : rule.messages)
      messages += fmt::format("{}{} {}", messages.empty() ? "" : ", ", html(sink), count);
    out += fmt::format(
        "<tr><td><a href=\"#rule-{}\">{}</a></td><td class=\"n\">{}</td><td class=\"n\">{}</td><td "
        "class=\"n\">{}</td>"
        "<td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td></tr>\n",
        i, html(rule.name), rule.firings, shown(rule.firing), shown(rule.longest), rule.flaps,
        rule.peak ? short_number(rule.peak->value) : "", messages);
  }
  return out + "</table></div>\n";
}

std::string sinks_part(const Report& report) {
  if (report.sinks.empty()) return {};
  const Timestamp from = std::chrono::floor<std::chrono::days>(report.first_line);
  const auto days =
      static_cast<std::size_t>((std::chrono::floor<std::chrono::days>(report.last_line) - from) /
                               std::chrono::days(1)) +
      1;
  constexpr std::size_t kMostDays = 366;
  constexpr double kBars = 40;
  std::string out =
      "<h2>Messages</h2>\n<div class=\"wide\"><table>\n<tr><th>Sink</th><th "
      "class=\"n\">Messages</th><th>Each day, UTC</th></tr>\n";
  for (const Report::Sink& sink : report.sinks) {
    out += fmt::format("<tr><td>{}</td><td class=\"n\">{}</td><td>", html(sink.name), sink.messages);
    std::uint64_t most = 1;
    for (const auto& [day, count] : sink.days)
      most = std::max(most, count);
    const double wide = 480.0 / static_cast<double>(std::min(days, kMostDays));
    out += fmt::format(
        "<svg viewBox=\"0 0 480 {}\" width=\"480\" role=\"img\" aria-label=\"Messages a day\">", kBars);
    for (const auto& [day, count] : sink.days) {
      const auto i = static_cast<std::size_t>((day - from) / std::chrono::days(1));
      if (i >= kMostDays) continue;
      const double tall = static_cast<double>(count) / static_cast<double>(most) * (kBars - 2);
      out += fmt::format(
          "<rect class=\"day\" x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\"><title>{}: "
          "{}</title></rect>",
          static_cast<double>(i) * wide, kBars - tall, std::max(wide * 0.85, 1.0), tall,
          format_rfc3339(day).substr(0, 10), count);
    }
    out += "</svg></td></tr>\n";
  }
  return out + "</table></div>\n";
}

}  // namespace

std::string backtest_page(const Report& report, bool suggest, std::string_view config) {
  std::vector<std::size_t> order(report.rules.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return report.rules[a].firings > report.rules[b].firings;
  });
  std::string out =
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
      "base-uri 'none'; "
      "form-action 'none'\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n";
  out += fmt::format(
      "<title>Backtest of {}</title>\n<style>{}</style>\n</head>\n<body>\n<h1>Backtest of {}</h1>\n",
      html(config), kStyle, html(config));
  const bool timed = report.first_line != rules::kLongAgo && report.last_line >= report.first_line;
  out += fmt::format("<p>{} lines, {:.1f} MB", report.lines, static_cast<double>(report.bytes) / 1e6);
  if (timed)
    out += fmt::format("; from {} to {}, {}", shown(report.first_line), shown(report.last_line),
                       shown(Duration(report.last_line - report.first_line)));
  out += "</p>\n";
  for (const auto& [what, lines] : report.amiss)
    out += fmt::format("<p class=\"faint\">{} lines {}</p>\n", lines, html(what));
  for (const BacktestReport::AtBound& bound : report.bounds)
    out += fmt::format("<p class=\"fires\">Pattern {}: {} {}</p>\n", html(bound.pattern), bound.count, html(bound.what));
  for (const ReaderNote& note : report.notes) {
    if (note.level != ReaderNote::Level::kInfo)
      out += fmt::format("<p class=\"fires\">{}: {}</p>\n", html(note.path), html(note.message));
  }
  if (!timed) return out + "<p>No line says a time: nothing was evaluated.</p>\n</body>\n</html>\n";
  out += overview(report, order) + sinks_part(report);
  for (const std::size_t i : order)
    out += rule_part(report, report.rules[i], i, suggest);
  return out + "</body>\n</html>\n";
}

}  // namespace logbell::engine

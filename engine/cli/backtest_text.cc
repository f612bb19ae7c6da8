// The text of a backtest: tables, a line of time, suggestions, and what another configuration would have
// changed.
#include <algorithm>
#include <clocale>
#include <cmath>
#include <cstdlib>
#include <iterator>

#include <fmt/format.h>
#include <langinfo.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "engine/cli/backtest_print.h"
#include "engine/cli/table.h"
#include "engine/run/timeline.h"
#include "rules/template.h"

namespace logbell::engine {
namespace {

using rules::Duration;
using rules::format_number;
using rules::format_rfc3339;
using rules::Timestamp;

// Firings of one kind that are listed of a rule; the rest are counted.
constexpr std::size_t kListed = 10;
constexpr std::size_t kLeastColumns = 20;
constexpr std::size_t kMostColumns = 400;

std::string plural(std::uint64_t n, const std::string& what) {
  return fmt::format("{} {}{}", n, what, n == 1 ? "" : "s");
}

std::string rounded(Duration duration) {
  using std::chrono::hours;
  using std::chrono::minutes;
  using std::chrono::seconds;
  if (duration >= hours(48)) return rules::format_duration(std::chrono::round<hours>(duration));
  if (duration >= hours(1)) return rules::format_duration(std::chrono::round<minutes>(duration));
  if (duration >= seconds(10)) return rules::format_duration(std::chrono::round<seconds>(duration));
  return rules::format_duration(duration);
}

std::string short_number(double value) {
  return std::abs(value) < 1e15 && value == std::floor(value) ? format_number(value)
                                                             : fmt::format("{:.4g}", value);
}

// The labels that tell alerts of a rule apart: without its name.
std::string labels_text(const rules::Labels& labels) {
  return labels.without({"alertname"}).format();
}

std::string ends(const BacktestReport::Episode& episode) {
  if (!episode.resolved_at) return "to the end";
  return "for " + rounded(*episode.resolved_at - episode.fired_at);
}

std::string timelines(const BacktestReport& report, const Screen& screen) {
  std::size_t name_width = 0;
  for (const BacktestReport::Rule& rule : report.rules)
    name_width = std::max(name_width, rule.name.size());
  name_width = std::min(name_width, screen.columns / 3);
  const std::size_t columns =
      std::clamp(screen.columns - std::min(screen.columns, name_width + 2), kLeastColumns, kMostColumns);
  const Timestamp from = report.first_line;
  const Timestamp to = report.last_line;
  const Duration each = Duration((to - from).count() / static_cast<std::int64_t>(columns));
  std::string out = fmt::format("When each fired, {} a column:\n", rounded(std::max(each, Duration(1))));
  std::size_t silent = 0;
  for (const BacktestReport::Rule& rule : report.rules) {
    if (rule.firings == 0) {
      ++silent;
      continue;
    }
    out += fmt::format("{:<{}}  {}\n", rule.name.substr(0, name_width), name_width,
                       timeline(rule.spans, from, to, columns, screen.ascii));
  }
  if (silent == report.rules.size()) return "None of them fired.\n";
  const std::string left = format_rfc3339(std::chrono::floor<std::chrono::seconds>(from));
  const std::string right = format_rfc3339(std::chrono::floor<std::chrono::seconds>(to));
  const std::size_t between = columns > left.size() + right.size() ? columns - left.size() - right.size() : 1;
  out += std::string(name_width + 2, ' ') + left + std::string(between, ' ') + right + "\n";
  if (silent > 0) out += fmt::format("{} never fired.\n", plural(silent, "rule"));
  return out;
}

std::string sinks_text(const BacktestReport& report) {
  if (report.sinks.empty() || report.first_line == rules::kLongAgo) return {};
  const double days =
      std::chrono::duration<double, std::ratio<86400>>(report.last_line - report.first_line).count();
  Table table({"SINK", "MESSAGES", "A DAY", "MOST ON A DAY", "ABOUT"});
  for (const BacktestReport::Sink& sink : report.sinks) {
    const auto most = std::max_element(sink.days.begin(), sink.days.end(),
                                       [](const auto& a, const auto& b) { return a.second < b.second; });
    std::vector<std::pair<std::uint64_t, std::string>> about;
    for (const BacktestReport::Rule& rule : report.rules) {
      const auto messages = rule.messages.find(sink.name);
      if (messages != rule.messages.end()) about.emplace_back(messages->second, rule.name);
    }
    std::stable_sort(about.begin(), about.end(),
                     [](const auto& a, const auto& b) { return a.first > b.first; });
    std::string names;
    constexpr std::size_t kNamed = 3;
    for (std::size_t i = 0; i < about.size() && i < kNamed; ++i)
      names += fmt::format("{}{} {}", i == 0 ? "" : ", ", about[i].second, about[i].first);
    if (about.size() > kNamed) names += fmt::format(", {} more", plural(about.size() - kNamed, "rule"));
    table.add({sink.name, std::to_string(sink.messages),
               days >= 1 ? fmt::format("{:.1f}", static_cast<double>(sink.messages) / days) : "-",
               most == sink.days.end()
                   ? "-"
                   : fmt::format("{} on {}", most->second, format_rfc3339(most->first).substr(0, 10)),
               names.empty() ? "-" : names});
  }
  return table.format();
}

std::string top_values_text(const BacktestReport& report) {
  std::string out;
  for (const BacktestReport::Rule& rule : report.rules) {
    if (rule.firings == 0) continue;
    for (const BacktestReport::TopValues& top : rule.top_values) {
      out += fmt::format("{}: {}", rule.name, top.label);
      for (const auto& [value, lines] : top.values)
        out += fmt::format(" {}={}", value, lines);
      if (top.others > 0) out += fmt::format(" others={}", top.others);
      out += "\n";
    }
  }
  return out.empty() ? out : "Labels of the lines that they count, with how many:\n" + out;
}

std::string suggestions_text(const BacktestReport& report) {
  const Duration span = report.last_line - report.first_line;
  std::string out =
      fmt::format("Thresholds, from {} of logs{}:\n", rounded(span),
                  span < std::chrono::hours(24 * 30) ? ", as if the rest of a month went as they do" : "");
  for (const BacktestReport::Rule& rule : report.rules) {
    if (!rule.no_suggestion.empty()) {
      out += fmt::format("{}: none; {}\n", rule.name, rule.no_suggestion);
      continue;
    }
    out +=
        fmt::format("{}: {} {} {} fired {}\n", rule.name, rule.value, rule.op, format_number(rule.threshold),
                    rule.firings == 1 ? "once" : fmt::format("{} times", rule.firings));
    for (const BacktestReport::Suggestion& one : rule.suggestions) {
      out +=
          fmt::format("  at most {:>2} a month: {} {}", one.a_month, rule.op, format_number(one.threshold));
      out += one.beyond ? fmt::format(" ({} never fired: these logs are too short to tell so few)\n", rule.at_most ? "it" : "the first that")
                        : fmt::format(" ({}{} in these logs)\n", rule.at_most ? "at most " : "", one.firings);
    }
    if (rule.suggestions.size() < 3)
      out += "  For fewer there is none: with each threshold with which it can fire at all it fired more often.\n";
    if (rule.at_most) out += "  It had many values: thresholds are of three digits.\n";
    if (rule.thinned)
      out += "  Its value changed too often, or had too many values: these are near, not exact.\n";
  }
  return out;
}

}  // namespace

Screen screen_of_stdout() {
  Screen screen;
  winsize size{};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) screen.columns = size.ws_col;
  std::setlocale(LC_CTYPE, "");  // NOLINT(concurrency-mt-unsafe): before any other thread
  screen.ascii = std::string_view(::nl_langinfo(CODESET)) != "UTF-8";
  std::setlocale(LC_CTYPE, "C");  // NOLINT(concurrency-mt-unsafe): the same
  return screen;
}

std::string backtest_text(const BacktestReport& report, bool suggest, const Screen& screen) {
  const bool timed = report.last_line != rules::kLongAgo;
  const std::string last = timed            ? "the last says " + format_rfc3339(report.last_line)
                           : report.in_part ? "none says a time between --since and --until"
                                            : "the last says no time";
  std::string out = fmt::format("{} lines, {:.1f} MB in {:.2f} s ({:.0f} MB/s); {}\n", report.lines,
                                static_cast<double>(report.bytes) / 1e6, report.seconds,
                                static_cast<double>(report.bytes) / 1e6 / report.seconds, last);
  if (timed && report.first_line != rules::kLongAgo && report.last_line >= report.first_line)
    out += fmt::format("What happened from {} on, in {}\n", format_rfc3339(report.first_line),
                       rounded(report.last_line - report.first_line));
  for (const auto& [what, lines] : report.amiss)
    out += fmt::format("{} {}\n", plural(lines, "line"), what);
  for (const BacktestReport::AtBound& bound : report.bounds)
    out += fmt::format("pattern {}: {} {}\n", bound.pattern, bound.count, bound.what);
  out += "\n";
  Table patterns({"PATTERN", "LINES"});
  for (const BacktestReport::Pattern& pattern : report.patterns)
    patterns.add({pattern.name, std::to_string(pattern.matches)});
  out += patterns.format();
  if (report.rules.empty()) return out;
  Table table({"RULE", "FIRED", "FIRING IN ALL", "LONGEST", "FLAPS", "FIRST", "AT THE END"});
  Table peaks({"RULE", "FIRES AT", "PEAK", "WHEN", "OF"});
  bool peaked = false;
  for (const BacktestReport::Rule& rule : report.rules) {
    const bool fired = rule.firings > 0;
    if (rule.peak) {
      peaked = true;
      peaks.add({rule.name, rule.op.empty() ? "-" : rule.op + " " + format_number(rule.threshold),
                 (rule.peak->exact ? "" : "~") + short_number(rule.peak->value),
                 format_rfc3339(rule.peak->at),
                 rule.peak->labels.empty() ? "-" : rule.peak->labels.format()});
    }
    table.add({rule.name, std::to_string(rule.firings), fired ? rounded(rule.firing) : "-",
               fired ? rounded(rule.longest) : "-", fired ? std::to_string(rule.flaps) : "-",
               rule.first_at ? format_rfc3339(*rule.first_at) : "-",
               !rule.unknown.empty()   ? "unknown: " + rule.unknown
               : rule.still_firing > 0 ? fmt::format("{} firing", rule.still_firing)
                                       : "-"});
  }
  out += "\n" + table.format();
  if (peaked) out += "\n" + peaks.format();
  if (timed && report.last_line > report.first_line) out += "\n" + timelines(report, screen);
  if (const std::string sinks = sinks_text(report); !sinks.empty()) out += "\n" + sinks;
  if (const std::string top = top_values_text(report); !top.empty()) out += "\n" + top;
  if (suggest && timed) out += "\n" + suggestions_text(report);
  return out;
}

std::string comparison_text(const BacktestComparison& comparison, const std::string& a,
                            const std::string& b) {
  std::string out = fmt::format("A is {}, B is {}\n\n", a, b);
  Table table({"RULE", "FIRED IN A", "IN B", "ONLY IN A", "ONLY IN B", "IN BOTH"});
  for (const BacktestComparison::Rule& rule : comparison.rules)
    table.add({rule.name, rule.in_a ? std::to_string(rule.firings_a) : "no rule",
               rule.in_b ? std::to_string(rule.firings_b) : "no rule", std::to_string(rule.only_a.size()),
               std::to_string(rule.only_b.size()), std::to_string(rule.both.size())});
  out += table.format();
  const auto list = [&](char sign, const std::vector<BacktestReport::Episode>& episodes) {
    for (std::size_t i = 0; i < episodes.size() && i < kListed; ++i)
      out += fmt::format("  {} {} {} {}\n", sign, format_rfc3339(episodes[i].fired_at), ends(episodes[i]),
                         labels_text(episodes[i].labels));
    if (episodes.size() > kListed) out += fmt::format("  {} and {} more\n", sign, episodes.size() - kListed);
  };
  for (const BacktestComparison::Rule& rule : comparison.rules) {
    if (rule.is_same()) continue;
    std::vector<BacktestComparison::Both> moved;
    std::copy_if(rule.both.begin(), rule.both.end(), std::back_inserter(moved),
                 [](const BacktestComparison::Both& one) { return !one.is_same(); });
    if (rule.only_a.empty() && rule.only_b.empty() && moved.empty()) continue;
    out += fmt::format("\n{} (- only in A, + only in B, ~ in both at other times)\n", rule.name);
    list('-', rule.only_a);
    list('+', rule.only_b);
    for (std::size_t i = 0; i < moved.size() && i < kListed; ++i)
      out += fmt::format("  ~ {} {}, with B {} {}{} {}\n", format_rfc3339(moved[i].a.fired_at),
                         ends(moved[i].a), format_rfc3339(moved[i].b.fired_at), ends(moved[i].b),
                         moved[i].firings_b == 1 ? "" : fmt::format(" and {} more", moved[i].firings_b - 1),
                         labels_text(moved[i].a.labels));
    if (moved.size() > kListed) out += fmt::format("  ~ and {} more\n", moved.size() - kListed);
  }
  if (!comparison.sinks.empty()) {
    Table sinks({"SINK", "MESSAGES WITH A", "WITH B", "MORE"});
    for (const BacktestComparison::Sink& sink : comparison.sinks)
      sinks.add({sink.name, std::to_string(sink.messages_a), std::to_string(sink.messages_b),
                 fmt::format("{:+d}", static_cast<std::int64_t>(sink.messages_b) -
                                          static_cast<std::int64_t>(sink.messages_a))});
    out += "\n" + sinks.format();
  }
  if (!comparison.complete)
    out += fmt::format("\nThere were more firings than the {} that are compared one by one.\n",
                       BacktestReport::kMostEpisodes);
  return out;
}

}  // namespace logbell::engine

// logbell backtest: logs of the past through the rules as they are: what matched, what would have fired.
#include "engine/run/backtest.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <unistd.h>

#include "engine/cli/commands.h"
#include "engine/cli/exit_status.h"
#include "engine/cli/table.h"
#include "engine/io/crew.h"
#include "engine/run/clock.h"
#include "engine/run/config.h"
#include "rules/json.h"
#include "rules/problems.h"

namespace logbell::engine {
namespace {

using rules::Json;

constexpr std::size_t kMostThreads = 16;  // more only wait for the memory

void print_text(const BacktestReport& report) {
  std::string out =
      fmt::format("{} lines, {:.1f} MB in {:.2f} s ({:.0f} MB/s); the last says {}\n\n", report.lines,
                  static_cast<double>(report.bytes) / 1e6, report.seconds,
                  static_cast<double>(report.bytes) / 1e6 / report.seconds,
                  report.last_line == rules::kLongAgo ? "no time" : rules::format_rfc3339(report.last_line));
  Table patterns({"PATTERN", "LINES"});
  for (const BacktestReport::Pattern& pattern : report.patterns)
    patterns.add({pattern.name, std::to_string(pattern.matches)});
  out += patterns.format();
  if (!report.rules.empty()) {
    Table rules_table({"RULE", "FIRED", "FIRING IN ALL", "FIRST", "AT THE END"});
    for (const BacktestReport::Rule& rule : report.rules) {
      const bool known = rule.unknown.empty();
      rules_table.add({rule.name, std::to_string(rule.firings),
                       rule.firings == 0 ? "-" : rules::format_duration(rule.firing),
                       rule.first_at ? rules::format_rfc3339(*rule.first_at) : "-",
                       !known                  ? "unknown: " + rule.unknown
                       : rule.still_firing > 0 ? fmt::format("{} firing", rule.still_firing)
                                               : "-"});
    }
    out += "\n" + rules_table.format();
  }
  std::fputs(out.c_str(), stdout);
}

void print_json(const BacktestReport& report) {
  Json out;
  out.set("lines", report.lines);
  out.set("bytes", report.bytes);
  out.set("seconds", report.seconds);
  if (report.last_line != rules::kLongAgo) out.set("last_line", rules::format_rfc3339(report.last_line));
  Json patterns = Json::Array{};
  for (const BacktestReport::Pattern& pattern : report.patterns) {
    Json one;
    one.set("name", pattern.name);
    one.set("lines", pattern.matches);
    patterns.push(std::move(one));
  }
  out.set("patterns", std::move(patterns));
  Json rule_list = Json::Array{};
  for (const BacktestReport::Rule& rule : report.rules) {
    Json one;
    one.set("name", rule.name);
    one.set("firings", rule.firings);
    one.set("firing_seconds", std::chrono::duration<double>(rule.firing).count());
    if (rule.first_at) one.set("first_at", rules::format_rfc3339(*rule.first_at));
    one.set("still_firing", rule.still_firing);
    if (!rule.unknown.empty()) one.set("unknown", rule.unknown);
    rule_list.push(std::move(one));
  }
  out.set("rules", std::move(rule_list));
  std::fputs((out.dump(2) + "\n").c_str(), stdout);
}

// Why a log cannot be read, and what to do; "": it can, or is a pattern.
std::string refused(const std::string& log) {
  if (log == "-") return "standard input is not read here; write it to a file first";
  if (log.find_first_of("*?[") != std::string::npos) return "";
  for (const auto& [ending, unpack] : {std::pair(".gz", "zcat"), std::pair(".zst", "zstdcat")}) {
    if (log.size() > 4 && log.compare(log.size() - std::string_view(ending).size(), std::string::npos, ending) == 0)
      return fmt::format("packed logs are not read here; write `{} {} > FILE` first", unpack, log);
  }
  return ::access(log.c_str(), R_OK) == 0 ? "" : rules::errno_text(errno);
}

}  // namespace

int command_backtest(const BacktestOptions& options) {
  rules::Problems problems;
  LoadOptions load;
  load.assume_secrets = true;  // nothing is sent
  load.matcher = options.plain ? rules::PatternSet::Matcher::kPlain : rules::PatternSet::Matcher::kFast;
  const rules::Timestamp now = SystemClock().now();
  const std::shared_ptr<const Config> config =
      load_config(options.config, ConfigWorld::real(now), load, problems);
  for (const rules::Problem& problem : problems.sorted())
    std::fprintf(stderr, "%s\n", problem.format().c_str());
  if (config == nullptr || problems.errors() > 0) {
    std::fprintf(stderr, "%s: refused; `logbell check` says more.\n", options.config.c_str());
    return kExitConfig;
  }
  for (const std::string& log : options.logs) {
    if (const std::string why = refused(log); !why.empty()) {
      std::fprintf(stderr, "logbell backtest: %s: %s\n", log.c_str(), why.c_str());
      return kExitUsage;
    }
  }
  const auto plan = backtest_plan(*config->plan, options.source, options.logs);
  if (!plan) {
    std::fprintf(stderr, "logbell backtest: %s\n", plan.error().message.c_str());
    return kExitUsage;
  }
  const std::size_t threads = options.threads > 0 ? options.threads : std::min(usable_cores(), kMostThreads);
  const BacktestReport report = backtest(*plan, now, threads);
  bool failed = report.bytes == 0;
  for (const ReaderNote& note : report.notes) {
    if (note.level == ReaderNote::Level::kInfo) continue;
    std::fprintf(stderr, "%s: %s\n", note.path.empty() ? note.source.c_str() : note.path.c_str(),
                 note.message.c_str());
    failed = failed || note.level == ReaderNote::Level::kError;
  }
  if (report.bytes == 0) std::fputs("logbell backtest: there was nothing to read.\n", stderr);
  if (options.format == OutputFormat::kJson) {
    print_json(report);
  } else {
    print_text(report);
  }
  return failed ? kExitFindings : kExitOk;
}

}  // namespace logbell::engine

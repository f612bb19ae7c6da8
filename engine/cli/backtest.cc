// logbell backtest: logs of the past through the rules as they are: what matched, what would have fired, who would have
// been told.
#include "engine/run/backtest.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <unistd.h>

#include "engine/cli/backtest_print.h"
#include "engine/cli/commands.h"
#include "engine/cli/exit_status.h"
#include "engine/cli/progress.h"
#include "engine/io/crew.h"
#include "engine/io/descriptors.h"
#include "engine/io/glob.h"
#include "engine/io/unpack.h"
#include "engine/run/backtest_compare.h"
#include "engine/run/backtest_page.h"
#include "engine/run/clock.h"
#include "engine/run/config.h"
#include "rules/json.h"
#include "rules/problems.h"

namespace logbell::engine {
namespace {

using rules::ErrorCode;
using rules::fail;
using rules::Json;
using rules::Result;
using rules::Timestamp;

constexpr std::size_t kMostThreads = 16;  // more only wait for the memory

// Why a log cannot be read, and what to do; "": it can, or is a pattern.
std::string refused(const std::string& log) {
  if (log == "-") {
    std::string first(4, '\0');
    const ssize_t got = ::pread(STDIN_FILENO, first.data(), first.size(), 0);  // of a pipe nothing
    if (got == 4 && compression_of(first) != Compression::kNone)
      return "it is compressed; name the file itself, or unpack it: zcat FILE | logbell backtest --from -";
    return "";
  }
  if (log.find_first_of("*?[") != std::string::npos) return "";
  return ::access(log.c_str(), R_OK) == 0 ? "" : rules::errno_text(errno);
}

// "2026-05-01T10:00:00Z", "2026-05-01", or "30d" before now.
Result<Timestamp> moment(const std::string& text, Timestamp now) {
  if (const Result<Timestamp> at = rules::parse_rfc3339(text)) return *at;
  if (const Result<Timestamp> day = rules::parse_rfc3339(text + "T00:00:00Z")) return *day;
  if (const Result<rules::Duration> ago = rules::parse_duration(text)) return now - *ago;
  return fail(ErrorCode::kInvalid,
              fmt::format("\"{}\" is no moment; write 2026-05-01T10:00:00Z, 2026-05-01 for that day's beginning in UTC, or 30d "
                          "for so long ago",
                          text));
}

std::shared_ptr<const Config> load(const std::string& path, const BacktestOptions& options, Timestamp now) {
  rules::Problems problems;
  LoadOptions load;
  load.assume_secrets = true;  // nothing is sent
  load.matcher = options.plain ? rules::PatternSet::Matcher::kPlain : rules::PatternSet::Matcher::kFast;
  std::shared_ptr<const Config> config = load_config(path, ConfigWorld::real(now), load, problems);
  for (const rules::Problem& problem : problems.sorted())
    std::fprintf(stderr, "%s\n", problem.format().c_str());
  if (config != nullptr && problems.errors() == 0) return config;
  std::fprintf(stderr, "%s: refused; `logbell check` says more.\n", path.c_str());
  return nullptr;
}

int usage(const std::string& message) {
  std::fprintf(stderr, "logbell backtest: %s\n", message.c_str());
  return kExitUsage;
}

// Whether all was read; says what was not.
bool tell_notes(const BacktestReport& report) {
  bool whole = report.bytes > 0;
  for (const ReaderNote& note : report.notes) {
    if (note.level == ReaderNote::Level::kInfo) continue;
    std::fprintf(stderr, "%s: %s\n", note.path.empty() ? note.source.c_str() : note.path.c_str(), note.message.c_str());
    whole = whole && note.level != ReaderNote::Level::kError;
  }
  if (report.bytes == 0) std::fputs("logbell backtest: there was nothing to read.\n", stderr);
  return whole;
}

// Whether each pattern among them finds something; says which does not.
bool all_found(const std::vector<std::string>& logs) {
  bool found = true;
  for (const std::string& log : logs) {
    if (!is_pattern(log) || !find_files(log).files.empty()) continue;
    std::fprintf(stderr, "logbell backtest: %s: no file has such a name.\n", log.c_str());
    found = false;
  }
  return found;
}

BacktestReport run(const std::shared_ptr<const rules::Plan>& plan, BacktestSettings settings) {
  ProgressLine line;
  if (line.is_wanted()) settings.progress = [&](const BacktestProgress& progress) { line.show(progress); };
  return backtest(plan, settings);
}

}  // namespace

int command_backtest(const BacktestOptions& options) {
  static_cast<void>(raise_descriptor_limit());  // a month of logs is many files, and it starts no programs
  const Screen screen = screen_of_stdout();
  const Timestamp now = SystemClock().now();
  BacktestSettings settings;
  settings.now = now;
  settings.threads = options.threads > 0 ? options.threads : std::min(usable_cores(), kMostThreads);
  settings.values = options.suggest || options.format == BacktestFormat::kHtml;
  for (const auto& [text, into] : {std::pair(&options.since, &settings.since), std::pair(&options.until, &settings.until)}) {
    if (text->empty()) continue;
    const Result<Timestamp> at = moment(*text, now);
    if (!at) return usage(at.error().message);
    *into = *at;
  }
  if (settings.since && settings.until && *settings.since >= *settings.until)
    return usage(fmt::format("--since {} is not before --until {}", options.since, options.until));
  if (!options.compare.empty() && options.format == BacktestFormat::kHtml)
    return usage("--compare says it as text or json; a page is of one configuration");
  const bool reads_stdin = std::find(options.logs.begin(), options.logs.end(), "-") != options.logs.end();
  if (!options.compare.empty() && reads_stdin)
    return usage("--compare reads the logs twice, and standard input can be read once; write it to a file first");

  const std::shared_ptr<const Config> config = load(options.config, options, now);
  if (config == nullptr) return kExitConfig;
  std::shared_ptr<const Config> other;
  if (!options.compare.empty() && (other = load(options.compare, options, now)) == nullptr) return kExitConfig;
  for (const std::string& log : options.logs) {
    if (const std::string why = refused(log); !why.empty()) return usage(fmt::format("{}: {}", log, why));
  }
  const auto plan = backtest_plan(*config->plan, options.source, options.logs);
  if (!plan) return usage(plan.error().message);

  const BacktestReport report = run(*plan, settings);
  bool whole = all_found(options.logs);
  whole = tell_notes(report) && whole;
  Json json;
  std::string text;
  if (options.format == BacktestFormat::kJson) json = backtest_json(report, options.suggest);
  if (options.format == BacktestFormat::kText) text = backtest_text(report, options.suggest, screen);
  if (options.format == BacktestFormat::kHtml) text = backtest_page(report, options.suggest, options.config);
  if (other != nullptr) {
    const auto other_plan = backtest_plan(*other->plan, options.source, options.logs);
    if (!other_plan) return usage(options.compare + ": " + other_plan.error().message);
    const BacktestReport other_report = run(*other_plan, settings);
    whole = tell_notes(other_report) && whole;
    const BacktestComparison comparison = compare_backtests(**plan, report, **other_plan, other_report);
    if (options.format == BacktestFormat::kJson) {
      json.set("comparison", comparison_json(comparison));
    } else {
      text += "\n" + comparison_text(comparison, options.config, options.compare);
    }
  }
  if (options.format == BacktestFormat::kJson) text = json.dump(2) + "\n";
  std::fwrite(text.data(), 1, text.size(), stdout);
  return whole ? kExitOk : kExitFindings;
}

}  // namespace logbell::engine

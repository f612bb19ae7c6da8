// logbell check: compiles the whole configuration and says everything that is wrong with it, or what it
// proves.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <unistd.h>

#include "engine/cli/commands.h"
#include "engine/cli/exit_status.h"
#include "engine/cli/table.h"
#include "engine/cli/window_memory.h"
#include "engine/run/clock.h"
#include "engine/run/config.h"
#include "engine/run/verify.h"
#include "rules/example.h"
#include "rules/fields.h"
#include "rules/json.h"
#include "rules/problems.h"
#include "rules/reach.h"
#include "rules/redact.h"
#include "rules/text.h"

namespace logbell::engine {
namespace {

using rules::Json;
using rules::Problem;
using rules::Severity;

// Colour is for people: not in a pipe, not where NO_COLOR (no-color.org) or a plain terminal says so.
bool wants_colour(int fd) {
  // NOLINTBEGIN(concurrency-mt-unsafe): read once, by the main thread, before any other begins
  const char* none = std::getenv("NO_COLOR");
  const char* term = std::getenv("TERM");
  // NOLINTEND(concurrency-mt-unsafe)
  return ::isatty(fd) == 1 && (none == nullptr || *none == '\0') && term != nullptr &&
         std::string_view(term) != "dumb";
}

std::string count(std::size_t number, std::string_view one) {
  return fmt::format("{} {}{}", number, one, number == 1 ? "" : "s");
}

std::string format_problem(const Problem& problem, bool colour) {
  if (!colour) return problem.format() + "\n";
  const char* paint = problem.severity == Severity::kError ? "\x1b[1;31m" : "\x1b[1;33m";
  std::string out = fmt::format("\x1b[1m{}:\x1b[0m {}{}:\x1b[0m ", problem.place.format(), paint,
                                problem.severity == Severity::kError ? "error" : "warning");
  if (!problem.subject.empty()) out += problem.subject + ": ";
  out += problem.reason;
  if (!problem.fix.empty()) out += fmt::format("; \x1b[36m{}\x1b[0m", problem.fix);
  return out + "\n";
}

// Of a pattern that nobody proved by `examples:`: whether there is a line at all that it matches. Here and not at a start,
// for each takes some milliseconds.
void warn_of_what_never_matches(const rules::Plan& plan, rules::Problems& problems) {
  for (const rules::PatternSpec& pattern : plan.patterns) {
    const bool multiline = std::any_of(plan.sources.begin(), plan.sources.end(), [&](const rules::SourceSpec& source) {
      return source.multiline != nullptr && (pattern.sources.empty() || rules::contains(pattern.sources, source.name));
    });
    if (!pattern.examples.empty()) continue;
    for (const rules::Regex& regex : pattern.match) {
      const std::optional<std::string> example = rules::example_of(regex);
      const bool breaks = example && example->find('\n') != std::string::npos && !multiline;
      const bool left_out = example && std::any_of(pattern.exclude.begin(), pattern.exclude.end(),
                                                   [&](const rules::Regex& one) { return one.pattern() == regex.pattern(); });
      if (example && !breaks && !left_out) continue;
      problems.warn(pattern.place, fmt::format("pattern \"{}\"", pattern.name),
                    fmt::format("no line was found that it counts: `match:` \"{}\" {}", rules::clean_text(regex.pattern(), 200),
                                breaks     ? "asks for a line break, and no line holds one"
                                : left_out ? "is its `exclude:`, too"
                                           : "seems to match nothing"),
                    "correct it, or give it a line in `examples:`, which `check` then tries");
    }
  }
}

// What the sinks answered, for people.
std::string format_verdicts(const Verdicts& verdicts) {
  std::size_t width = 4;
  for (const auto& [lane, verdict] : verdicts)
    width = std::max(width, lane.size());
  std::string out = fmt::format("\n{:<{}}  VERDICT  LEVEL  ASKED WITH -> ITS ANSWER\n", "SINK", width);
  for (const auto& [lane, verdict] : verdicts) {
    const sinks::Verification& found = verdict.found;
    out += fmt::format("{:<{}}  {:<7}  {:<5}  {}\n", lane, width, to_string(found.verdict),
                       to_string(found.level), found.evidence);
  }
  return out;
}

// Of rules that look back so long what they take is worth a thought before it is taken.
constexpr rules::Duration kLongWindow = std::chrono::hours(24);

// "" where none looks back so long.
std::string format_memory(const rules::Plan& plan) {
  Table table({"RULE", "LOOKS BACK", "ITS WINDOWS TAKE"});
  bool any = false;
  for (const rules::AlertingRule& rule : plan.rules) {
    const WindowMemory memory = window_memory(rule);
    if (memory.looks_back < kLongWindow) continue;
    any = true;
    table.add({rule.name, rules::format_duration(memory.looks_back),
               fmt::format("at most {} MB", memory.most_bytes / 1'000'000)});
  }
  return any ? "\n" + table.format() : "";
}

std::string how_they_reach(const rules::Plan& plan, const Verdicts& verdicts) {
  std::vector<std::string> silent;
  for (const auto& [lane, verdict] : verdicts) {
    if (is_silent(verdict.found)) silent.push_back(lane);
  }
  const std::string_view who = plan.rules_without_sink > 0 ? "every other rule" : "every rule";
  if (silent.empty()) return fmt::format(": {} reaches a sink.\n", who);
  return fmt::format(": {} leads to a sink; whether a message would arrive at {} is not known.\n", who, rules::list_words(silent));
}

void print_text(const CheckOptions& options, const Config* config, const rules::Problems& problems,
                const Verdicts& verdicts, int status) {
  const bool colour = wants_colour(STDERR_FILENO);
  std::string said;
  for (const Problem& problem : problems.sorted())
    said += format_problem(problem, colour);
  std::string verdict;
  if (config == nullptr || problems.errors() > 0) {
    std::size_t errors = 0;
    for (const Problem& problem : problems.sorted())
      errors += problem.severity == Severity::kError ? 1 : 0;
    verdict = fmt::format("{}: refused: {}, {}. `logbell run` would not start with it.\n", options.config,
                          count(errors, "error"), count(problems.warnings(), "warning"));
  }
  std::fputs((said + verdict).c_str(), stderr);
  if (config == nullptr) return;
  const rules::Plan& plan = *config->plan;
  std::string out = format_reach_table(*config);
  if (options.probe) out += format_verdicts(verdicts);
  out += format_memory(plan);
  if (problems.errors() > 0) {
    std::fputs(out.c_str(), stdout);
    return;
  }
  out += fmt::format("\n{}: {}, {}, {}, {}", options.config, count(plan.rules.size(), "rule"),
                     count(plan.patterns.size(), "pattern"), count(plan.sources.size(), "source"),
                     count(plan.sinks.size(), "sink"));
  if (plan.rules_without_sink > 0)
    out += fmt::format("; {} deliberately without a sink", plan.rules_without_sink);
  if (problems.warnings() > 0) out += fmt::format("; {}", count(problems.warnings(), "warning"));
  out += status != kExitOk             ? ": refused, for --strict takes no warnings.\n"
         : plan.rules.empty()          ? ".\n"
                                       : how_they_reach(plan, verdicts);
  const std::vector<std::string> machines = rules::rules_for_machines(plan);
  if (!machines.empty())
    out += fmt::format("No person is told of {}, only a machine.\n", rules::list_words(machines, 20));
  if (!plan.rules.empty() && !config->heartbeat)
    out += "If logbell itself ends, nobody is told: there is no `heartbeat:`.\n";
  if (options.assume_secrets)
    out += "The values of variables and secret files were left out: `logbell run` looks at them.\n";
  std::fputs(out.c_str(), stdout);
}

Json strings(const std::vector<std::string>& list) {
  Json out = Json::Array{};
  for (const std::string& word : list)
    out.push(word);
  return out;
}

void print_json(const CheckOptions& options, const Config* config, const rules::Problems& problems,
                const Verdicts& verdicts, int status) {
  Json out;
  out.set("config", options.config);
  out.set("accepted", status == kExitOk);
  Json list = Json::Array{};
  for (const Problem& problem : problems.sorted()) {
    Json one;
    one.set("severity", problem.severity == Severity::kError ? "error" : "warning");
    one.set("file", problem.place.file);
    one.set("line", problem.place.line);
    one.set("column", problem.place.col);
    one.set("subject", problem.subject);
    one.set("reason", problem.reason);
    one.set("fix", problem.fix);
    list.push(std::move(one));
  }
  out.set("problems", std::move(list));
  if (config != nullptr) {
    out.set("rules_without_sink", static_cast<std::int64_t>(config->plan->rules_without_sink));
    out.set("machine_only", strings(rules::rules_for_machines(*config->plan)));
    Json rules_list = Json::Array{};
    const std::vector<rules::AlertingRule>& written = config->plan->rules;  // in their order, then logbell's own
    for (const rules::Reach& reach : rules::reach_of(*config->plan)) {
      Json one;
      one.set("alert", reach.alert);
      one.set("built_in", reach.built_in);
      one.set("own_sinks", reach.own_sinks);
      if (reach.silent != nullptr) {
        one.set("silent_until", rules::format_rfc3339(reach.silent->until));
        one.set("silent_reason", reach.silent->reason);
      }
      Json ways = Json::Array{};
      for (const rules::Way& way : reach.ways) {
        Json entry;
        entry.set("routes", strings(way.routes));
        entry.set("when", strings(way.assumptions));
        entry.set("sinks", strings(way.sinks));
        ways.push(std::move(entry));
      }
      one.set("ways", std::move(ways));
      if (const std::size_t index = rules_list.array().size(); !reach.built_in && index < written.size()) {
        const WindowMemory memory = window_memory(written[index]);
        one.set("looks_back_seconds", std::chrono::duration<double>(memory.looks_back).count());
        one.set("window_bytes_at_most", static_cast<std::int64_t>(memory.most_bytes));
      }
      rules_list.push(std::move(one));
    }
    out.set("rules", std::move(rules_list));
    Json sinks_list = Json::Array{};
    for (const auto& [name, spec] : config->plan->sinks) {
      Json one;
      one.set("name", name);
      one.set("type", spec.type);
      one.set("destination", config->sinks.at(name)->destination());
      one.set("fallback", strings(spec.fallback));
      if (options.probe) {
        Json answers = Json::Array{};
        for (const std::string& lane : spec.lanes) {
          const auto verdict = verdicts.find(lane);
          if (verdict == verdicts.end()) continue;
          const sinks::Verification& found = verdict->second.found;
          Json answer;
          answer.set("lane", lane);
          answer.set("verdict", to_string(found.verdict));
          answer.set("level", to_string(found.level));
          answer.set("evidence", found.evidence);
          answers.push(std::move(answer));
        }
        one.set("verification", std::move(answers));
      }
      sinks_list.push(std::move(one));
    }
    out.set("sinks", std::move(sinks_list));
  }
  std::fputs((out.dump(2) + "\n").c_str(), stdout);
}

}  // namespace

int command_check(const CheckOptions& options) {
  rules::Problems problems;
  LoadOptions load;
  load.assume_secrets = options.assume_secrets;
  const std::shared_ptr<const Config> config =
      load_config(options.config, ConfigWorld::real(SystemClock().now()), load, problems);
  if (config != nullptr) warn_of_what_never_matches(*config->plan, problems);
  Verdicts verdicts;
  if (options.probe && config != nullptr) {
    verdicts = verify_sinks(*config, SystemClock(), "");
    report_dead(*config, verdicts, nullptr, {}, problems);
    warn_of_silence(*config->plan, verdicts, problems);
  }
  int status = kExitOk;
  if (config == nullptr || problems.errors() > 0) {
    status = kExitConfig;
  } else if (options.strict && problems.warnings() > 0) {
    status = kExitFindings;
  }
  if (options.format == OutputFormat::kJson) {
    print_json(options, config.get(), problems, verdicts, status);
  } else {
    print_text(options, config.get(), problems, verdicts, status);
  }
  return status;
}

}  // namespace logbell::engine

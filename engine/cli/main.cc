// logbell: reads the command line and hands over to a command. The only door to CLI11.
#include <cstdio>
#include <exception>
#include <string>

#include <CLI/CLI.hpp>

#include "engine/cli/commands.h"
#include "engine/cli/exit_status.h"
#include "logbell_version.h"

namespace logbell::engine {
namespace {

int dispatch(int argc, char** argv) {
  CLI::App app{"logbell: rings when the logs say that something is wrong, or refuses to start.", "logbell"};
  app.set_version_flag("--version", "logbell " LOGBELL_VERSION);
  app.require_subcommand(1);
  app.get_formatter()->column_width(34);

  CheckOptions check;
  CLI::App* check_command =
      app.add_subcommand("check", "Prove that every rule reaches somebody, or say why not");
  check_command->add_option("FILE,--config", check.config, "The configuration")->capture_default_str();
  CLI::Option* assume = check_command->add_flag(
      "--assume-secrets", check.assume_secrets,
      "Leave out the values of variables and secret files: for a pipeline that does not "
      "hold them");
  check_command
      ->add_flag(
          "--probe", check.probe,
          "Also ask every sink whether a message would arrive, as each start does; nobody sees anything "
          "of it")
      ->excludes(assume);
  check_command->add_flag("--strict", check.strict, "Fail on warnings too (exit 1)");
  std::string format = "text";
  check_command->add_option("--format", format, "How to say it")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
  check_command->footer("Exit status: 0 every rule is proven, 1 warnings with --strict, 78 refused.");

  const auto add_matcher = [](CLI::App* command, std::string& matcher) {
    command
        ->add_option("--matcher", matcher,
                     "fast: only lines that hold what a pattern needs are shown to RE2; plain: every one. They find the "
                     "same")
        ->check(CLI::IsMember({"fast", "plain"}))
        ->capture_default_str();
  };
  BacktestOptions backtest;
  CLI::App* backtest_command =
      app.add_subcommand("backtest", "Read logs of the past to their end: what matched, what would have fired");
  backtest_command->add_option("--config", backtest.config, "The configuration")->capture_default_str();
  backtest_command
      ->add_option("--from", backtest.logs,
                   "The logs: files and patterns of them, also .gz and .zst, and - for standard input; merged by the "
                   "times of their lines")
      ->required();
  backtest_command->add_option("--since", backtest.since,
                               "Tell what happens from here on: 2026-05-01T10:00:00Z, 2026-05-01 (UTC), or 30d for so "
                               "long ago. What is older fills windows");
  backtest_command->add_option("--until", backtest.until, "Tell what happens before this");
  backtest_command->add_flag("--suggest", backtest.suggest,
                             "Propose thresholds for 1, 5 and 20 firings a month, from what each rule's value was");
  backtest_command->add_option("--compare", backtest.compare,
                               "Another configuration: which firings and messages there would have been more or less");
  backtest_command->add_option("--source", backtest.source, "Whose logs these are, where there are several sources");
  backtest_command->add_option("--threads", backtest.threads, "That read, match and evaluate; 0: as many as there are cores")
      ->check(CLI::Range(0, 64))
      ->capture_default_str();
  std::string backtest_matcher = "fast";
  add_matcher(backtest_command, backtest_matcher);
  std::string backtest_format = "text";
  backtest_command->add_option("--format", backtest_format, "How to say it; html is one page, with a plot of each rule")
      ->check(CLI::IsMember({"text", "json", "html"}))
      ->capture_default_str();
  backtest_command->footer(
      "Nothing is sent or stored. Exit status: 0 all was read, 1 something was not, 64 no such source or file, 78 the "
      "configuration is refused.");

  TestOptions test;
  CLI::App* test_command = app.add_subcommand(
      "test", "Test rules with log lines: what fires, who is told, what is counted at which moment");
  test_command->add_option("FILE", test.files, "Files of tests; each names its configuration")->required();
  test_command->add_option("--only", test.only, "Only tests whose names hold this");
  test_command->add_flag("--coverage", test.coverage,
                         "Also say which rules no test let fire, and which sides of their comparisons none looked at");
  std::string test_format = "text";
  test_command->add_option("--format", test_format, "How to say it")
      ->check(CLI::IsMember({"text", "json", "junit"}))
      ->capture_default_str();
  test_command->footer(
      "Nothing is sent, stored or waited for. Exit status: 0 every test passed, whatever --coverage says; 1 one failed; "
      "64 no such file or test; 78 a test file or a configuration is refused.");

  DiffOptions diff;
  CLI::App* diff_command = app.add_subcommand(
      "diff", "Say who would be told of what with one configuration and not with the other");
  diff_command->add_option("A", diff.a, "Say, staging's")->required();
  diff_command->add_option("B", diff.b, "Say, production's")->required();
  diff_command->add_flag("--assume-secrets", diff.assume_secrets,
                         "Leave out the values of variables and secret files, where this machine does not hold "
                         "those of both");
  std::string diff_format = "text";
  diff_command->add_option("--format", diff_format, "How to say it")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
  diff_command->footer(
      "Exit status: 0 nobody hears of less with B, 1 fewer are told, or B is refused; 78 one cannot be read, or A is "
      "refused and nothing can be said of B.");

  const CLI::Validator is_duration(
      [](const std::string& text) {
        const rules::Result<rules::Duration> parsed = rules::parse_duration(text);
        return parsed ? std::string() : parsed.error().message;
      },
      "DURATION");

  DrillOptions drill;
  CLI::App* drill_command = app.add_subcommand(
      "drill", "Prove, in the running process, that each rule's alerts arrive: a marked line goes the whole way");
  drill_command->add_option("RULE", drill.rules, "Only these rules");
  drill_command->add_option("--sink", drill.sink, "Only this sink");
  std::string wait = "60s";
  drill_command->add_option("--wait", wait, "For receipts at most; 0s: begin, say the ID and end")
      ->check(is_duration)
      ->capture_default_str();
  drill_command->add_flag("--acknowledged", drill.acknowledged,
                          "Wait until somebody has said that they saw it, too: by the link in the message");
  CLI::Option* via_log = drill_command->add_option(
      "--via-log", drill.via_log,
      "Append the lines to this file, which a source follows, instead of letting the process read them itself");
  CLI::Option* issue = drill_command->add_flag(
      "--issue", drill.issue,
      "Print a mark that is good for one line within ten minutes, for somebody else to log, and end");
  issue->excludes(via_log);
  drill_command->add_option("--result", drill.result, "Wait for this drill, which has begun already")
      ->excludes(issue)
      ->excludes(via_log);
  drill_command->add_option("--url", drill.url, "Where the process answers")->capture_default_str();
  std::string drill_format = "text";
  drill_command->add_option("--format", drill_format, "How to say it")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
  drill_command->footer(
      "Exit status: 0 every rule is proven to reach its sinks, 1 one is not, or not within --wait, 64 no such "
      "rule, sink or file, 74 nobody answers.");

  ExportOptions exported;
  CLI::App* export_command = app.add_subcommand(
      "export", "Write the rules for Prometheus, over the metrics of every logbell that it scrapes");
  std::string target;
  export_command->add_option("TARGET", target, "Whom for")
      ->required()
      ->check(CLI::IsMember({"prometheus"}));
  export_command->add_option("FILE,--config", exported.config, "The configuration")->capture_default_str();
  std::string scrape_interval = "15s";
  export_command->add_option("--scrape-interval", scrape_interval, "How often Prometheus scrapes logbell")
      ->check(is_duration)
      ->check([](const std::string& text) { return text == "0" || text == "0s" ? "it is never then" : std::string(); })
      ->capture_default_str();
  export_command
      ->add_option("--selector", exported.selector,
                   "Labels of the logbells that run this configuration, as in job=orders-api: where Prometheus scrapes "
                   "others, too")
      ->allow_extra_args(false);
  export_command->add_flag("--assume-secrets", exported.assume_secrets,
                           "Leave out the values of variables and secret files, where this machine does not hold them");
  export_command->footer(
      "The rule file is on standard output, what is left out and why on standard error. Exit status: 0 every rule is "
      "in it, 1 some are left out, 78 the configuration is refused.");

  ExplainOptions explain;
  CLI::App* explain_command = app.add_subcommand(
      "explain", "Say how a rule is understood and who hears of it; what the patterns make of a line or a log, and why; draft a rule");
  CLI::Option* explain_config =
      explain_command->add_option("--config", explain.config, "The configuration")->capture_default_str();
  CLI::Option* explain_rule = explain_command->add_option("RULE", explain.rule, "How it is understood: windows, memory, route, sinks");
  CLI::Option* explain_line = explain_command->add_option("--line", explain.line, "What each pattern makes of this line, and why");
  CLI::Option* explain_file = explain_command->add_option(
      "--file", explain.file,
      "The same of each line of a log, and in all; .gz and .zst too, - is standard input");
  CLI::Option* explain_new =
      explain_command->add_option("--new-rule", explain.new_rule, "Draft a pattern and a rule from this line, as configuration");
  explain_command
      ->add_flag("--missed", explain.missed, "Of --file: only lines that look like errors and that nothing covers, by their templates")
      ->needs(explain_file);
  explain_command->add_flag("--all", explain.all, "Also the patterns that are not near, and each line of a log, however many");
  explain_command->add_option("--source", explain.source, "Whose line or log it is, where there are several sources");
  explain_command->add_option("--url", explain.url, "Where the running process answers, which is asked for proofs (where the configuration listens)");
  std::string explain_format = "text";
  explain_command->add_option("--format", explain_format, "How to say it")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
  explain_rule->excludes(explain_line)->excludes(explain_file)->excludes(explain_new);
  explain_line->excludes(explain_file)->excludes(explain_new);
  explain_file->excludes(explain_new);
  explain_command->footer(
      "Nothing is sent or stored. Exit status: 0 it is explained; 1 no pattern matches the line, --missed "
      "found lines, or a log ends "
      "early; 64 no such rule, source or file; 78 the configuration is refused.");

  SchemaOptions schema;
  CLI::App* schema_command = app.add_subcommand(
      "schema", "Print the JSON Schema of what is written, for editors: made of the tables by which it is read");
  schema_command->add_option("OF", schema.of, "The configuration, a file of tests, or one of rule_files")
      ->check(CLI::IsMember({"config", "tests", "rules"}))
      ->capture_default_str();
  schema_command->footer(
      "Write it to a file, and name that in the first line of yours: # yaml-language-server: $schema=logbell.schema.json");

  StatusOptions status;
  CLI::App* status_command = app.add_subcommand(
      "status", "Say how the running process is, and what proves that each rule reaches each of its sinks");
  status_command->add_option("--url", status.url, "Where the process answers")->capture_default_str();
  status_command->add_flag("--watch", status.watch, "Say it again every two seconds");
  std::string status_format = "text";
  status_command->add_option("--format", status_format, "How to say it")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
  status_command->footer(
      "Exit status: 0 ready, and each rule is proven as far as its sinks can be asked; 1 degraded, or something "
      "is not proven; 74 nobody answers.");

  RunOptions run;
  CLI::App* run_command = app.add_subcommand("run", "Watch the logs and ring");
  run_command->add_option("--config", run.config, "The configuration")->capture_default_str();
  std::string on_refusal = "exit";
  run_command
      ->add_option("--on-refusal", on_refusal,
                   "What to do with a configuration that is refused or cannot be started: exit with 78, or "
                   "stay with the "
                   "last good one, or none, so that a pod goes on")
      ->check(CLI::IsMember({"exit", "stay"}))
      ->capture_default_str();
  bool no_watch = false;
  run_command->add_flag(
      "--no-watch-config", no_watch,
      "Load the configuration again only on SIGHUP or POST /-/reload, not by itself when it, a "
      "rule file or a secret's file changes on disk");
  std::string run_matcher = "fast";
  add_matcher(run_command, run_matcher);
  std::string grace = rules::format_duration(run.grace);
  run_command
      ->add_option("--grace", grace,
                   "From SIGTERM to the end at most: to read, evaluate and send what is left; a second "
                   "SIGTERM ends at once")
      ->check(is_duration)
      ->capture_default_str();

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    // CLI11 prints help, version or the mistake, and has codes of its own: ours are sysexits'.
    return app.exit(error) == 0 ? kExitOk : kExitUsage;
  }
  check.format = format == "json" ? OutputFormat::kJson : OutputFormat::kText;
  run.on_refusal = on_refusal == "stay" ? OnRefusal::kStay : OnRefusal::kExit;
  run.watch_config = !no_watch;
  run.plain = run_matcher == "plain";
  run.grace = *rules::parse_duration(grace);
  diff.format = diff_format == "json" ? OutputFormat::kJson : OutputFormat::kText;
  if (check_command->parsed()) return command_check(check);
  if (backtest_command->parsed()) {
    backtest.plain = backtest_matcher == "plain";
    backtest.format = backtest_format == "json"   ? BacktestFormat::kJson
                      : backtest_format == "html" ? BacktestFormat::kHtml
                                                  : BacktestFormat::kText;
    return command_backtest(backtest);
  }
  if (test_command->parsed()) {
    test.format = test_format == "json"    ? TestFormat::kJson
                  : test_format == "junit" ? TestFormat::kJunit
                                           : TestFormat::kText;
    return command_test(test);
  }
  if (diff_command->parsed()) return command_diff(diff);
  if (export_command->parsed()) {
    exported.scrape_interval = *rules::parse_duration(scrape_interval);
    return command_export(exported);
  }
  if (drill_command->parsed()) {
    drill.wait = *rules::parse_duration(wait);
    drill.format = drill_format == "json" ? OutputFormat::kJson : OutputFormat::kText;
    return command_drill(drill);
  }
  if (schema_command->parsed()) return command_schema(schema);
  if (explain_command->parsed()) {
    if (explain_rule->count() + explain_line->count() + explain_file->count() + explain_new->count() == 0) {
      std::fputs("logbell explain: name a RULE, or say --line, --file or --new-rule; --help says more.\n", stderr);
      return kExitUsage;
    }
    explain.has_config = explain_config->count() > 0;
    explain.format = explain_format == "json" ? OutputFormat::kJson : OutputFormat::kText;
    return command_explain(explain);
  }
  if (status_command->parsed()) {
    status.format = status_format == "json" ? OutputFormat::kJson : OutputFormat::kText;
    return command_status(status);
  }
  return command_run(run);
}

}  // namespace
}  // namespace logbell::engine

int main(int argc, char** argv) {
  try {
    return logbell::engine::dispatch(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "logbell: %s\n", error.what());
    return logbell::engine::kExitSoftware;
  }
}

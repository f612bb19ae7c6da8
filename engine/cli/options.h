// What each command was asked to do: the command line as values. Values; read by the main thread.
#pragma once

#include <string>
#include <vector>

#include "rules/time.h"

namespace logbell::engine {

inline constexpr const char* kDefaultConfig = "/etc/logbell/logbell.yaml";

enum class OutputFormat { kText, kJson };
enum class TestFormat { kText, kJson, kJunit };

struct CheckOptions {
  std::string config = kDefaultConfig;
  bool assume_secrets = false;  // leave out the values of variables and secret files
  bool strict = false;          // warnings fail
  bool probe = false;           // ask the sinks whether a message would arrive
  OutputFormat format = OutputFormat::kText;
};

enum class BacktestFormat { kText, kJson, kHtml };

struct BacktestOptions {
  std::string config = kDefaultConfig;
  std::vector<std::string> logs;  // paths and patterns; "-": standard input
  std::string source;             // whose they are; "": there is only one
  bool plain = false;             // RE2 on every line
  std::string since;              // a time, a date, or so long ago; "": from the first line
  std::string until;              // the same; "": to the last
  bool suggest = false;           // propose thresholds
  std::string compare;            // another configuration: what would have been different; "": none
  std::size_t threads = 0;        // that read and match; 0: as many as there are cores
  BacktestFormat format = BacktestFormat::kText;
};

struct TestOptions {
  std::vector<std::string> files;  // of tests
  std::string only;                // whose names hold this; "": all
  bool coverage = false;           // say what no test has seen
  TestFormat format = TestFormat::kText;
};

struct DiffOptions {
  std::string a;
  std::string b;
  bool assume_secrets = false;
  OutputFormat format = OutputFormat::kText;
};

struct ExportOptions {
  std::string config = kDefaultConfig;
  bool assume_secrets = false;
  rules::Duration scrape_interval{std::chrono::seconds(15)};  // of Prometheus; its rules are looked at as often
  std::vector<std::string> selector;  // matchers of the logbells that run this configuration; empty: all
};

// Where the running process answers; what `drill`, `status` and `explain` ask.
inline constexpr const char* kDefaultUrl = "http://127.0.0.1:9733";

struct DrillOptions {
  std::string url = kDefaultUrl;
  std::vector<std::string> rules;  // empty: every rule
  std::string sink;                // "": every one
  rules::Duration wait{std::chrono::seconds(60)};
  bool acknowledged = false;  // also for a person, at each sink where one can say so
  std::string via_log;  // a file of a source, to write the lines to; "": the process reads them itself
  bool issue = false;   // only a mark is wanted: somebody else logs it
  std::string result;   // of a drill that has begun already
  OutputFormat format = OutputFormat::kText;
};

struct ExplainOptions {
  std::string config = kDefaultConfig;
  bool has_config = false;  // it was named
  std::string rule;         // to explain; else one of these:
  std::string line;
  std::string file;      // "-": standard input
  std::string new_rule;  // a line to draft a rule from
  std::string source;    // whose line or file it is; "": there is only one, or the path says it
  bool missed = false;   // only lines that look like errors and that nothing covers
  bool all = false;      // also patterns that are far, and lines that nothing has to say of
  std::string url;       // "": where the configuration listens
  OutputFormat format = OutputFormat::kText;
};

struct SchemaOptions {
  std::string of = "config";  // or tests, rules
};

struct StatusOptions {
  std::string url = kDefaultUrl;
  bool watch = false;
  OutputFormat format = OutputFormat::kText;
};

// What `run` does with a configuration that it refuses.
enum class OnRefusal {
  kExit,  // 78: the supervisor shows it
  kStay,  // in a pod: go on with the last good plan, or park; the API beside us must stay in service
};

struct RunOptions {
  std::string config = kDefaultConfig;
  OnRefusal on_refusal = OnRefusal::kExit;
  bool plain = false;                               // RE2 on every line
  bool watch_config = true;                         // load it again when it changes on disk
  rules::Duration grace{std::chrono::seconds(25)};  // from SIGTERM to the end; Kubernetes kills after 30 s
};

}  // namespace logbell::engine

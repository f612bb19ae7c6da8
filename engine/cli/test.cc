// logbell test: tests of rules, written beside them: what did not hold, as a diff with file and line.
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <unistd.h>

#include "engine/cli/commands.h"
#include "engine/cli/exit_status.h"
#include "engine/run/clock.h"
#include "engine/run/rule_tests.h"
#include "rules/json.h"
#include "rules/problems.h"

namespace logbell::engine {
namespace {

using rules::Json;

struct TestOutcome {
  std::string file;
  std::string name;
  rules::Place place;
  double seconds = 0;
  std::vector<TestFailure> failures;
};

struct TestReport {
  std::vector<TestOutcome> tests;
  std::size_t failed = 0;
  double seconds = 0;  // all of it, loading included
  // Files that cannot be run, each with what is wrong: who reads only the report is not to see a success.
  std::vector<std::pair<std::string, std::vector<std::string>>> refused;
};

// What both have, what only one has: the longest common part stands as it is. (Needleman and Wunsch's table;
// of thousands of lines nobody reads a diff, so those come one behind the other.)
std::vector<std::pair<char, std::string>> diff_lines(const std::vector<std::string>& expected,
                                                     const std::vector<std::string>& got) {
  constexpr std::size_t kMostLines = 1000;
  std::vector<std::pair<char, std::string>> out;
  std::size_t i = 0;
  std::size_t k = 0;
  if (expected.size() <= kMostLines && got.size() <= kMostLines) {
    const std::size_t width = got.size() + 1;
    std::vector<std::uint32_t> common((expected.size() + 1) * width, 0);  // of what is left from [i, k] on
    for (std::size_t a = expected.size(); a-- > 0;) {
      for (std::size_t b = got.size(); b-- > 0;)
        common[a * width + b] = expected[a] == got[b]
                                    ? common[(a + 1) * width + b + 1] + 1
                                    : std::max(common[(a + 1) * width + b], common[a * width + b + 1]);
    }
    while (i < expected.size() && k < got.size()) {
      if (expected[i] == got[k]) {
        out.emplace_back(' ', expected[i]);
        ++i;
        ++k;
      } else if (common[(i + 1) * width + k] >= common[i * width + k + 1]) {
        out.emplace_back('-', expected[i++]);
      } else {
        out.emplace_back('+', got[k++]);
      }
    }
  }
  for (; i < expected.size(); ++i)
    out.emplace_back('-', expected[i]);
  for (; k < got.size(); ++k)
    out.emplace_back('+', got[k]);
  return out;
}

std::string format_failure(const TestFailure& failure) {
  std::string out;
  if (failure.expected.empty()) out += "    - (none)\n";
  const auto lines = diff_lines(failure.expected, failure.got);
  for (const auto& [sign, line] : lines)
    out += fmt::format("    {} {}\n", sign, line);
  if (failure.got.empty()) out += "    + (none)\n";
  for (const std::string& note : failure.notes)
    out += fmt::format("    ({})\n", note);
  return out;
}

std::string format_coverage(const std::string& path, const TestCoverage& coverage) {
  std::size_t fired = 0;
  std::size_t sides = 0;
  std::size_t seen = 0;
  std::string missing;
  for (const TestCoverage::Rule& rule : coverage.rules()) {
    fired += rule.fired ? 1 : 0;
    if (!rule.fired)
      missing += fmt::format("{}: rule \"{}\": no test let it fire\n", rule.place.format(), rule.name);
    for (const TestCoverage::Comparison& comparison : rule.comparisons) {
      sides += 2;
      seen += (comparison.seen_true ? 1 : 0) + (comparison.seen_false ? 1 : 0);
      for (const auto& [was, word] :
           {std::pair(comparison.seen_true, "true"), std::pair(comparison.seen_false, "false")}) {
        if (!was)
          missing += fmt::format("{}: rule \"{}\": no test looked while this was {}: {}\n",
                                 rule.place.format(), rule.name, word, comparison.text);
      }
    }
  }
  return fmt::format("{}{}: {} of {} rules fired, {} of {} sides of comparisons seen\n", missing, path, fired,
                     coverage.rules().size(), seen, sides);
}

std::string summary(const TestReport& report) {
  return fmt::format("{} test{} passed, {} failed in {:.0f} ms\n", report.tests.size() - report.failed,
                     report.tests.size() - report.failed == 1 ? "" : "s", report.failed,
                     report.seconds * 1000);
}

void print_text(const TestReport& report, const RuleTests& tests, bool coverage) {
  std::string out;
  for (const TestOutcome& test : report.tests) {
    for (const TestFailure& failure : test.failures)
      out += fmt::format("{}: {}: {}\n{}", failure.place.format(), test.name, failure.what,
                         format_failure(failure));
  }
  if (!out.empty()) out += "- expected, + got\n";
  if (coverage) {
    for (const auto& [path, one] : tests.coverage())
      out += format_coverage(path, *one);
  }
  std::fputs((out + summary(report)).c_str(), stdout);
}

Json strings(const std::vector<std::string>& list) {
  Json out = Json::Array{};
  for (const std::string& word : list)
    out.push(word);
  return out;
}

Json coverage_json(const RuleTests& tests) {
  Json out = Json::Array{};
  for (const auto& [path, coverage] : tests.coverage()) {
    for (const TestCoverage::Rule& rule : coverage->rules()) {
      Json one;
      one.set("config", path).set("file", rule.place.file).set("line", rule.place.line);
      one.set("rule", rule.name).set("fired", rule.fired);
      Json comparisons = Json::Array{};
      for (const TestCoverage::Comparison& comparison : rule.comparisons) {
        Json entry;
        entry.set("comparison", comparison.text);
        entry.set("seen_true", comparison.seen_true).set("seen_false", comparison.seen_false);
        comparisons.push(std::move(entry));
      }
      one.set("comparisons", std::move(comparisons));
      out.push(std::move(one));
    }
  }
  return out;
}

void print_json(const TestReport& report, const RuleTests& tests, bool coverage) {
  Json out;
  out.set("passed", report.tests.size() - report.failed).set("failed", report.failed);
  out.set("seconds", report.seconds);
  Json list = Json::Array{};
  for (const TestOutcome& test : report.tests) {
    Json one;
    one.set("file", test.file).set("line", test.place.line).set("name", test.name);
    one.set("passed", test.failures.empty()).set("seconds", test.seconds);
    Json failures = Json::Array{};
    for (const TestFailure& failure : test.failures) {
      Json entry;
      entry.set("line", failure.place.line).set("column", failure.place.col).set("what", failure.what);
      entry.set("expected", strings(failure.expected)).set("got", strings(failure.got));
      entry.set("notes", strings(failure.notes));
      failures.push(std::move(entry));
    }
    one.set("failures", std::move(failures));
    list.push(std::move(one));
  }
  out.set("tests", std::move(list));
  if (!report.refused.empty()) {
    Json refused{Json::Array{}};
    for (const auto& [file, problems] : report.refused) {
      Json lines{Json::Array{}};
      for (const std::string& problem : problems)
        lines.push(Json(problem));
      refused.push(Json().set("file", file).set("problems", std::move(lines)));
    }
    out.set("refused", std::move(refused));
  }
  if (coverage) out.set("coverage", coverage_json(tests));
  std::fputs((out.dump(2) + "\n").c_str(), stdout);
}

// For an attribute or the text of an XML document. What XML 1.0 has no way to write becomes U+FFFD, and so do
// bytes that are no UTF-8.
std::string xml(std::string_view text) {
  const std::string utf8(Json::parse(Json(text).dump()).value_or(Json()).string());
  std::string out;
  for (std::size_t i = 0; i < utf8.size(); ++i) {
    const char c = utf8[i];
    // U+FFFE and U+FFFF.
    if (utf8.compare(i, 3, "\xEF\xBF\xBE") == 0 || utf8.compare(i, 3, "\xEF\xBF\xBF") == 0) {
      out += "\xEF\xBF\xBD";
      i += 2;
    } else if (c == '&') {
      out += "&amp;";
    } else if (c == '<') {
      out += "&lt;";
    } else if (c == '>') {
      out += "&gt;";
    } else if (c == '"') {
      out += "&quot;";
    } else if (static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t') {
      out += "\xEF\xBF\xBD";
    } else {
      out += c;
    }
  }
  return out;
}

// What Jenkins, GitLab and GitHub's reporters read.
void print_junit(const TestReport& report) {
  std::string out = fmt::format(
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites tests=\"{}\" failures=\"{}\" errors=\"{}\" "
      "time=\"{:.3f}\">\n",
      report.tests.size() + report.refused.size(), report.failed, report.refused.size(), report.seconds);
  for (const auto& [file, problems] : report.refused)
    out += fmt::format(
        "  <testsuite name=\"{0}\" tests=\"1\" failures=\"0\" errors=\"1\" skipped=\"0\" time=\"0.000\">\n"
        "    <testcase name=\"the file is refused\" classname=\"{0}\" file=\"{0}\" line=\"1\" time=\"0.000000\">\n"
        "      <error message=\"{1}\">{2}</error>\n    </testcase>\n  </testsuite>\n",
        xml(file), xml(problems.empty() ? "it cannot be read" : problems.front()), xml(fmt::format("{}", fmt::join(problems, "\n"))));
  for (auto from = report.tests.begin(); from != report.tests.end();) {
    const auto to =
        std::find_if(from, report.tests.end(), [&](const auto& test) { return test.file != from->file; });
    const auto failed = std::count_if(from, to, [](const auto& test) { return !test.failures.empty(); });
    double seconds = 0;
    for (auto test = from; test != to; ++test)
      seconds += test->seconds;
    out += fmt::format(
        "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"0\" skipped=\"0\" time=\"{:.3f}\">\n",
        xml(from->file), to - from, failed, seconds);
    for (; from != to; ++from) {
      out += fmt::format("    <testcase name=\"{}\" classname=\"{}\" file=\"{}\" line=\"{}\" time=\"{:.6f}\"",
                         xml(from->name), xml(from->file), xml(from->file), from->place.line, from->seconds);
      out += from->failures.empty() ? "/>\n" : ">\n";
      for (const TestFailure& failure : from->failures)
        out += fmt::format("      <failure message=\"{}\">{}</failure>\n",
                           xml(fmt::format("{}: {}", failure.place.format(), failure.what)),
                           xml("- expected, + got\n" + format_failure(failure)));
      if (!from->failures.empty()) out += "    </testcase>\n";
    }
    out += "  </testsuite>\n";
  }
  std::fputs((out + "</testsuites>\n").c_str(), stdout);
}

double seconds_between(rules::Instant from, rules::Instant to) {
  return std::chrono::duration<double>(to - from).count();
}

}  // namespace

int command_test(const TestOptions& options) {
  const SystemClock clock;
  const rules::Instant began = clock.instant();
  for (const std::string& file : options.files) {
    if (::access(file.c_str(), R_OK) == 0) continue;
    std::fprintf(stderr, "logbell test: %s: %s\n", file.c_str(), rules::errno_text(errno).c_str());
    return kExitUsage;
  }
  RuleTests tests(ConfigWorld::real(clock.now()));
  TestReport report;
  for (const std::string& file : options.files) {
    rules::Problems problems;
    const std::optional<LoadedTests> loaded = tests.load(file, problems);
    std::vector<std::string> said;
    for (const rules::Problem& problem : problems.sorted())
      said.push_back(problem.format());
    for (const std::string& line : said)
      std::fprintf(stderr, "%s\n", line.c_str());
    if (!loaded) {
      report.refused.emplace_back(file, std::move(said));
      continue;
    }
    for (const rules::RuleTest& test : loaded->file.tests) {
      if (test.name.find(options.only) == std::string::npos) continue;
      const rules::Instant from = clock.instant();
      TestOutcome outcome{file, test.name, test.place, 0, RuleTests::run(*loaded, test)};
      outcome.seconds = seconds_between(from, clock.instant());
      report.failed += outcome.failures.empty() ? 0 : 1;
      report.tests.push_back(std::move(outcome));
    }
  }
  report.seconds = seconds_between(began, clock.instant());
  if (report.refused.empty() && report.tests.empty()) {
    std::fprintf(stderr, "logbell test: no test is called so: %s\n", options.only.c_str());
    return kExitUsage;
  }
  switch (options.format) {
    case TestFormat::kText:
      print_text(report, tests, options.coverage);
      break;
    case TestFormat::kJson:
      print_json(report, tests, options.coverage);
      break;
    case TestFormat::kJunit:
      print_junit(report);
      break;
  }
  if (!report.refused.empty()) return kExitConfig;
  return report.failed > 0 ? kExitFindings : kExitOk;
}

}  // namespace logbell::engine

// RuleTests: tests of rules (rules/test_file.h) through the decoding, the matching and the core as they are,
// with the time handed in.
//
// No thread, no file written, no network: owned by one thread. A fresh core for each test; the configuration
// is loaded once.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/run/config.h"
#include "rules/expr.h"
#include "rules/problems.h"
#include "rules/test_file.h"

namespace logbell::engine {

// An expectation that did not hold.
struct TestFailure {
  rules::Place place;
  std::string what;                   // "alert QueueUnreachable at 1m30s"
  std::vector<std::string> expected;  // lines, those that are alike in both written alike
  std::vector<std::string> got;
  std::vector<std::string> notes;  // what may explain it
};

// What tests have seen of the rules of one configuration.
class TestCoverage {
 public:
  struct Comparison {
    std::string text;        // canonical
    bool seen_true = false;  // for some element, at a moment that a test looked at
    bool seen_false = false;
  };
  struct Rule {
    std::string name;
    rules::Place place;
    bool fired = false;  // in some test
    std::vector<Comparison> comparisons;
  };

  explicit TestCoverage(const rules::Plan& plan);
  const std::vector<Rule>& rules() const { return rules_; }

 private:
  friend class TestRun;
  std::vector<Rule> rules_;                         // parallel to Plan::rules
  std::vector<std::vector<rules::ExprPtr>> asked_;  // each comparison as one that says 0 or 1
  std::map<rules::Fingerprint, std::size_t> identities_;
};

// A test file with all that it needs.
struct LoadedTests {
  rules::TestFile file;
  std::shared_ptr<const Config> config;
  std::shared_ptr<TestCoverage> coverage;  // of the configuration: shared by its test files
  struct TimedLine {
    rules::Duration at{0};  // since the test's start
    std::string text;
  };
  std::map<rules::Place, std::vector<TimedLine>> line_files;  // by the entry that names it
};

class RuleTests {
 public:
  explicit RuleTests(ConfigWorld world) : world_(std::move(world)) {}

  // Unset: there are problems, in it or in its configuration.
  std::optional<LoadedTests> load(const std::string& path, rules::Problems& problems);

  // What did not hold of one of its tests.
  static std::vector<TestFailure> run(const LoadedTests& loaded, const rules::RuleTest& test);

  // Of every configuration that was loaded, by path.
  const std::map<std::string, std::shared_ptr<TestCoverage>>& coverage() const { return coverage_; }

 private:
  ConfigWorld world_;
  std::map<std::string, std::shared_ptr<const Config>> configs_;  // by path; null: refused
  std::map<std::string, std::shared_ptr<TestCoverage>> coverage_;
};

}  // namespace logbell::engine

// logbell diff: who would be told of what with one configuration and not with the other.
#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "engine/cli/commands.h"
#include "engine/cli/exit_status.h"
#include "engine/run/clock.h"
#include "engine/run/compare.h"
#include "engine/run/config.h"
#include "rules/json.h"

namespace logbell::engine {
namespace {

using rules::Json;
using Section = Difference::Section;

struct Side {
  std::string path;
  std::shared_ptr<const Config> config;  // null: it could not even be read
  rules::Problems problems;
  bool starts() const { return !problems.has_errors(); }
};

Side load_side(const std::string& path, bool assume_secrets) {
  Side side{path, nullptr, {}};
  LoadOptions load;
  load.assume_secrets = assume_secrets;
  load.inspect = true;
  side.config = load_config(path, ConfigWorld::real(SystemClock().now()), load, side.problems);
  return side;
}

std::string title_of(Section section, const Side& b) {
  switch (section) {
    case Section::kFewer:
      return "FEWER are told with " + b.path;
    case Section::kOtherwise:
      return "Others are told";
    case Section::kMore:
      return "More are told";
    case Section::kRules:
      return "Rules";
    case Section::kPatterns:
      return "Patterns";
    case Section::kSources:
      return "Sources";
    case Section::kRoutes:
      return "Routes";
    case Section::kSinks:
      return "Sinks";
    case Section::kProof:
      return "How it is proven";
  }
  return "";
}

std::string format(const Difference& difference, const Side& a, const Side& b) {
  if (difference.what.empty())
    return fmt::format("  {}: only in {}\n", difference.subject, difference.in_b.empty() ? a.path : b.path);
  const auto shown = [](const std::string& text) { return text.empty() ? std::string("(none)") : text; };
  const std::string what = difference.what == "told" ? "" : difference.what + ": ";
  return fmt::format("  {}: {}{} -> {}\n", difference.subject, what, shown(difference.in_a),
                     shown(difference.in_b));
}

void print_text(const Side& a, const Side& b, const std::vector<Difference>& differences) {
  std::string out;
  const Section* last = nullptr;
  for (const Difference& difference : differences) {
    if (last == nullptr || *last != difference.section)
      out += fmt::format("{}{}:\n", out.empty() ? "" : "\n", title_of(difference.section, b));
    last = &difference.section;
    out += format(difference, a, b);
  }
  if (differences.empty() && a.config != nullptr && b.config != nullptr)
    out = "They do the same, wherever their sinks lead.\n";
  for (const Side* side : {&a, &b}) {
    if (side->starts()) continue;
    out += fmt::format("\n{} is refused; `logbell run` would not start with it:\n", side->path);
    for (const rules::Problem& problem : side->problems.sorted()) {
      if (problem.severity == rules::Severity::kError) out += "  " + problem.format() + "\n";
    }
  }
  if (!a.starts() && b.starts())
    out += fmt::format(
        "So nothing says whether fewer are told with {}; `--assume-secrets` compares without the values.\n",
        b.path);
  std::fputs(out.c_str(), stdout);
}

void print_json(const Side& a, const Side& b, const std::vector<Difference>& differences, int status) {
  Json out;
  out.set("a", a.path).set("b", b.path);
  out.set("a_starts", a.starts()).set("b_starts", b.starts());
  out.set("fewer", status == kExitFindings);
  Json list = Json::Array{};
  for (const Difference& difference : differences) {
    Json one;
    one.set("section", to_string(difference.section))
        .set("subject", difference.subject)
        .set("what", difference.what)
        .set("a", difference.in_a)
        .set("b", difference.in_b);
    list.push(std::move(one));
  }
  out.set("differences", std::move(list));
  for (const Side* side : {&a, &b}) {
    Json problems = Json::Array{};
    for (const rules::Problem& problem : side->problems.sorted()) {
      if (problem.severity == rules::Severity::kError) problems.push(problem.format());
    }
    out.set(side == &a ? "a_problems" : "b_problems", std::move(problems));
  }
  std::fputs((out.dump(2) + "\n").c_str(), stdout);
}

}  // namespace

int command_diff(const DiffOptions& options) {
  const Side a = load_side(options.a, options.assume_secrets);
  const Side b = load_side(options.b, options.assume_secrets);
  std::vector<Difference> differences;
  if (a.config != nullptr && b.config != nullptr)
    differences = compare(*a.config, *b.config, SystemClock().now());
  const bool fewer = std::any_of(differences.begin(), differences.end(), [](const Difference& difference) {
    return difference.section == Section::kFewer;
  });
  // Whoever hears nothing of A hears no less of B: of an A that does not start that is no proof.
  int status = fewer || !b.starts() ? kExitFindings : a.starts() ? kExitOk : kExitConfig;
  if (a.config == nullptr || b.config == nullptr) status = kExitConfig;
  if (options.format == OutputFormat::kJson) {
    print_json(a, b, differences, status);
  } else {
    print_text(a, b, differences);
  }
  return status;
}

}  // namespace logbell::engine

// logbell explain: what the patterns make of a line or a log, and why; a rule drafted from a line.
#include "engine/cli/explain.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "engine/cli/commands.h"
#include "engine/cli/exit_status.h"
#include "engine/cli/table.h"
#include "engine/io/glob.h"
#include "engine/io/unpack.h"
#include "engine/run/clock.h"
#include "engine/run/config.h"
#include "engine/run/line_clusters.h"
#include "engine/run/line_explainer.h"
#include "rules/draft.h"
#include "rules/fields.h"
#include "rules/json.h"
#include "rules/redact.h"
#include "rules/template.h"

namespace logbell::engine {
namespace {

using rules::Json;

constexpr std::size_t kReadBytes = 1 << 20;
constexpr std::size_t kNearest = 3;  // patterns that do not match, of each line
constexpr std::uint64_t kMostAskedLines =
    2000;  // of a log, of which the near patterns are looked for: RE2 is asked a lot
constexpr std::size_t kMostLines = 50;     // of a log that are shown without --all
constexpr std::size_t kMostClusters = 30;  // without --all
constexpr std::size_t kTextBytes = 300;    // of a line that is shown
constexpr std::size_t kFieldBytes = 100;

std::shared_ptr<const Config> load(const ExplainOptions& options) {
  rules::Problems problems;
  LoadOptions how;
  how.assume_secrets = true;  // nothing is sent
  std::shared_ptr<const Config> config =
      load_config(options.config, ConfigWorld::real(SystemClock().now()), how, problems);
  if (config != nullptr && problems.errors() == 0) return config;
  for (const rules::Problem& problem : problems.sorted()) {
    if (problem.severity == rules::Severity::kError) std::fprintf(stderr, "%s\n", problem.format().c_str());
  }
  std::fprintf(stderr, "%s: refused; `logbell check` says more.\n", options.config.c_str());
  return nullptr;
}

// --- the source

std::string names_of(const rules::Plan& plan) {
  std::vector<std::string> names;
  for (const rules::SourceSpec& source : plan.sources)
    names.push_back(source.name);
  return rules::list_words(names, 20);
}

// The sources that a line or a file may be of: the one that is named, else those whose `files:` say so, else
// all. Empty: there is none of that name.
std::vector<std::uint32_t> sources_for(const rules::Plan& plan, const ExplainOptions& options) {
  std::vector<std::uint32_t> all;
  std::vector<std::uint32_t> by_path;
  for (std::uint32_t i = 0; i < plan.sources.size(); ++i) {
    const rules::SourceSpec& source = plan.sources[i];
    if (options.source == source.name) return {i};
    all.push_back(i);
    const bool of_path =
        std::any_of(source.files.begin(), source.files.end(),
                    [&](const std::string& pattern) { return could_match(pattern, options.file); });
    if (!options.file.empty() && of_path) by_path.push_back(i);
  }
  if (!options.source.empty()) return {};
  return by_path.empty() ? all : by_path;
}

// --- reading

// The next bytes; none: it ends here.
rules::Result<std::size_t> read_some(int fd, std::string& buffer) {
  ssize_t got = 0;
  do {
    got = ::read(fd, buffer.data(), buffer.size());
  } while (got < 0 && errno == EINTR);
  if (got < 0) return rules::fail(rules::ErrorCode::kIo, rules::errno_text(errno));
  return static_cast<std::size_t>(got);
}

// How to see whether a copy of it is whole.
std::string_view tester_of(Compression compression) {
  return compression == Compression::kGzip ? "gzip -t" : "zstd -t";
}

// Why it is not read as it is, by how it begins, and what to do; "": it is.
std::string refused(const std::string& path, std::string_view first) {
  const Compression compression = compression_of(first);
  std::string_view name = other_compression(first);
  std::string_view program = unpacker_of(name);
  // What cannot be read by its place (a pipe) is read as it comes.
  if (compression == Compression::kGzip) name = "gzip", program = "zcat";
  if (compression == Compression::kZstd) name = "zstd", program = "zstdcat";
  if (name.empty()) return "";
  const bool is_stdin = path == "-";
  return fmt::format(
      "it is compressed with {}, which is not read {}; {}unpack it: {} {} | logbell explain --file -", name,
      is_stdin ? "from standard input" : "here", is_stdin ? "name the file itself, or " : "", program,
      is_stdin ? "FILE" : path);
}

// "" once everything was read; else why not. What came before that was handed over.
std::string read_log(const std::string& path, LineExplainer& explainer, const LineExplainer::Visit& visit) {
  const bool is_stdin = path == "-";
  const int fd = is_stdin ? STDIN_FILENO : ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY);
  if (fd < 0) return rules::errno_text(errno);
  std::string buffer(kReadBytes, '\0');
  std::string why;
  // Of a pipe nothing is seen before it is read.
  const ssize_t seen = is_stdin ? 0 : ::pread(fd, buffer.data(), kOtherCompressionBytes, 0);
  const Compression compression =
      compression_of(std::string_view(buffer.data(), static_cast<std::size_t>(std::max<ssize_t>(seen, 0))));
  std::optional<Unpacked> unpacked;
  if (compression != Compression::kNone) unpacked.emplace(fd, compression, 0).lift_limits();
  std::uint64_t offset = 0;
  while (true) {
    const rules::Result<std::size_t> got =
        unpacked ? unpacked->read_at(offset, buffer.data(), buffer.size()) : read_some(fd, buffer);
    if (!got) why = got.error().message;
    if (got.value_or(0) == 0) break;
    const std::string_view bytes(buffer.data(), *got);
    if (offset == 0 && !unpacked) why = refused(path, bytes);
    if (!why.empty()) break;
    explainer.feed(bytes, visit);
    offset += *got;
  }
  if (unpacked && !unpacked->trouble().empty())
    why = fmt::format(
        "it is compressed, and ends early at byte {} of what it holds: the rest is missing or is no {}; "
        "`{} {}` says whether another copy is whole",
        offset, compression == Compression::kGzip ? "gzip" : "zstd", tester_of(compression), path);
  explainer.finish(visit);
  if (!is_stdin) ::close(fd);
  return why;
}

// --- saying it

std::string shown_line(std::string_view text) {
  return rules::clean_text(rules::redact(text), kTextBytes);
}

std::string format_captures(const rules::PatternVerdict& verdict) {
  std::string out;
  for (const rules::Capture& capture : verdict.captures) {
    out += fmt::format("{}{}={}", out.empty() ? "" : "  ", capture.name,
                       rules::clean_text(rules::redact_label(capture.name, capture.text), kFieldBytes));
    out += capture.field.empty() ? fmt::format(" (column {})", capture.offset + 1)
                                 : fmt::format(" (of {})", capture.field);
  }
  return out;
}

std::string looked_at_by(const rules::Plan& plan, const std::vector<std::uint32_t>& of) {
  std::vector<std::string> names;
  names.reserve(of.size());
  for (const std::uint32_t rule : of)
    names.push_back(plan.rules[rule].name);
  return names.empty() ? "no rule looks at it" : rules::list_words(names, 10);
}

std::string format_matches(const rules::Plan& plan, const LineExplainer& explainer, const ExplainedLine& line,
                           std::string_view indent) {
  std::string out;
  for (const ExplainedLine::Of& match : line.matches) {
    const rules::PatternSpec& pattern = plan.patterns[match.pattern];
    const rules::PatternVerdict& verdict = match.verdict;
    out +=
        fmt::format("{}{} matches{}\n", indent, pattern.name,
                    pattern.match.empty() ? " by its `where:`"
                                          : fmt::format(" columns {} to {}", verdict.from + 1, verdict.to));
    if (pattern.match.size() > 1)
      out += fmt::format("{}  by       {}\n", indent, pattern.match[verdict.which].pattern());
    if (const std::string captures = format_captures(verdict); !captures.empty())
      out += fmt::format("{}  captures {}\n", indent, captures);
    if (!verdict.labels.empty()) out += fmt::format("{}  labels   {}\n", indent, verdict.labels.format());
    if (verdict.value)
      out +=
          fmt::format("{}  value    {}\n", indent,
                      std::isnan(*verdict.value) ? fmt::format("none: `{}` is no number here", pattern.value)
                                                 : rules::format_number(*verdict.value));
    out += fmt::format("{}  rules    {}\n", indent, looked_at_by(plan, explainer.rules_of()[match.pattern]));
  }
  for (const ExplainedLine::Of& near : line.near)
    out += fmt::format("{}{} does not: {}\n", indent, plan.patterns[near.pattern].name,
                       rules::clean_text(near.verdict.reason, 600));
  return out;
}

Json line_json(const rules::Plan& plan, const LineExplainer& explainer, const ReadLine& read,
               const ExplainedLine& line) {
  Json out;
  out.set("source", explainer.source().name).set("number", read.number).set("line", shown_line(read.text));
  if (read.time) out.set("time", rules::format_rfc3339(*read.time));
  out.set("looks_like_error", read.is_error).set("missed", read.is_missed);
  Json matches = Json::Array{};
  for (const ExplainedLine::Of& match : line.matches) {
    Json one;
    one.set("pattern", plan.patterns[match.pattern].name);
    one.set("from", static_cast<std::uint64_t>(match.verdict.from + 1))
        .set("to", static_cast<std::uint64_t>(match.verdict.to));
    Json captures = Json::Array{};
    for (const rules::Capture& capture : match.verdict.captures) {
      Json each;
      each.set("name", capture.name)
          .set("text", rules::clean_text(rules::redact_label(capture.name, capture.text), kFieldBytes));
      if (capture.field.empty()) {
        each.set("column", static_cast<std::uint64_t>(capture.offset + 1));
      } else {
        each.set("field", capture.field);
      }
      captures.push(std::move(each));
    }
    one.set("captures", std::move(captures)).set("labels", to_json(match.verdict.labels));
    if (match.verdict.value && !std::isnan(*match.verdict.value)) one.set("value", *match.verdict.value);
    Json of = Json::Array{};
    for (const std::uint32_t rule : explainer.rules_of()[match.pattern])
      of.push(plan.rules[rule].name);
    one.set("rules", std::move(of));
    matches.push(std::move(one));
  }
  Json near = Json::Array{};
  for (const ExplainedLine::Of& other : line.near) {
    Json one;
    one.set("pattern", plan.patterns[other.pattern].name)
        .set("reason", rules::clean_text(other.verdict.reason, 600));
    one.set("nearness", other.verdict.nearness);
    near.push(std::move(one));
  }
  return out.set("matches", std::move(matches))
      .set("near", std::move(near))
      .set("others", static_cast<std::uint64_t>(line.others));
}

std::string count(std::uint64_t number, std::string_view one) {
  return fmt::format("{} {}{}", number, one, number == 1 ? "" : "s");
}

// --- a line

int explain_line(const ExplainOptions& options, const rules::Plan& plan,
                 const std::vector<std::uint32_t>& sources) {
  std::string text;
  Json list = Json::Array{};
  bool matched = false;
  for (const std::uint32_t index : sources) {
    LineExplainer explainer(plan, index, "", SystemClock().now());
    const rules::SourceSpec& source = explainer.source();
    const LineExplainer::Visit visit = [&](const ReadLine& read) {
      const ExplainedLine line =
          explainer.explain(read, options.all ? std::numeric_limits<std::size_t>::max() : kNearest);
      matched = matched || !line.matches.empty();
      text += fmt::format("{}source {}\n", text.empty() ? "" : "\n", source.name);
      if (read.text != options.line) text += fmt::format("  it is read as: {}\n", shown_line(read.text));
      text += read.time ? fmt::format("  it says {}\n", rules::format_rfc3339(*read.time))
                        : std::string("  it says no time: it counts when it comes\n");
      if (!line.fields.empty()) {
        text += "  its fields:";
        for (const auto& [name, value] : line.fields)
          text +=
              fmt::format(" {}={}", name, rules::clean_text(rules::redact_label(name, value), kFieldBytes));
        text += "\n";
      }
      text += format_matches(plan, explainer, line, "  ");
      if (line.matches.empty())
        text += fmt::format("  no pattern matches it{}\n", line.near.empty() ? ", and none is near" : "");
      if (line.others > 0)
        text += fmt::format("  {} not near{}\n", count(line.others, "pattern"),
                            options.all ? "" : " (--all shows each)");
      if (read.is_error)
        text += read.is_missed
                    ? "  it looks like an error, and no rule looks at it: UncoveredErrors counts it\n"
                    : "  it looks like an error, and is covered\n";
      list.push(line_json(plan, explainer, read, line));
    };
    explainer.feed(options.line + "\n", visit);
    explainer.finish(visit);
  }
  if (options.format == OutputFormat::kJson) {
    Json out;
    out.set("lines", std::move(list));
    text = out.dump(2) + "\n";
  }
  std::fputs(text.c_str(), stdout);
  return matched ? kExitOk : kExitFindings;
}

// --- a log

struct Tally {
  std::uint64_t lines = 0;
  std::uint64_t matched = 0;
  std::uint64_t errors = 0;
  std::uint64_t missed = 0;
  std::uint64_t shown = 0;
  std::uint64_t asked = 0;
  std::vector<std::uint64_t> by_pattern;
  std::uint64_t missed_but_counted = 0;  // by a pattern that no rule looks at
};

void print_clusters(const ExplainOptions& options, const Tally& tally, const LineClusters& missed) {
  const std::vector<LineCluster> clusters = missed.sorted();
  const std::size_t most = options.all ? clusters.size() : std::min(clusters.size(), kMostClusters);
  if (options.format == OutputFormat::kJson) {
    Json out;
    Json list = Json::Array{};
    for (std::size_t i = 0; i < most; ++i) {
      Json one;
      one.set("count", clusters[i].count)
          .set("template", clusters[i].shape)
          .set("first_line", clusters[i].first);
      one.set("sample", clusters[i].sample);
      list.push(std::move(one));
    }
    out.set("lines", tally.lines).set("errors", tally.errors).set("missed", tally.missed);
    out.set("templates", std::move(list))
        .set("templates_in_all", static_cast<std::uint64_t>(clusters.size()));
    out.set("not_kept", missed.not_kept());
    std::fputs((out.dump(2) + "\n").c_str(), stdout);
    return;
  }
  std::string out;
  std::uint64_t rest = missed.not_kept();
  for (std::size_t i = 0; i < clusters.size(); ++i) {
    if (i >= most) {
      rest += clusters[i].count;
      continue;
    }
    out += fmt::format("{:>7}  {}\n", clusters[i].count, rules::clean_text(clusters[i].shape, kTextBytes));
    out += fmt::format("         line {}: {}\n", clusters[i].first,
                       rules::clean_text(clusters[i].sample, kTextBytes));
  }
  if (rest > 0)
    out += fmt::format("{:>7}  of {} more templates{}\n", rest, clusters.size() - most,
                       options.all ? "" : " (--all shows each)");
  out += fmt::format("{}{}, {} like errors, {} of them with no rule that looks at them.\n",
                     out.empty() ? "" : "\n", count(tally.lines, "line"), tally.errors,
                     tally.missed == tally.errors && tally.missed > 0 ? fmt::format("all {}", tally.missed)
                                                                      : std::to_string(tally.missed));
  if (tally.missed_but_counted > 0)
    out += fmt::format("{} counted by a pattern that no rule looks at.\n", tally.missed_but_counted);
  if (tally.missed > 0) out += "Draft a rule: logbell explain --new-rule 'LINE'\n";
  std::fputs(out.c_str(), stdout);
}

void print_summary(const rules::Plan& plan, const Tally& tally, const ExplainOptions& options) {
  std::string out = fmt::format("{}{}: {} matched, {} look like errors", tally.shown > 0 ? "\n" : "",
                                count(tally.lines, "line"), tally.matched, tally.errors);
  out +=
      tally.missed > 0
          ? fmt::format(", {} of these with no rule that looks at them (--missed lists them)\n", tally.missed)
          : std::string("\n");
  if (tally.lines > tally.shown && !options.all)
    out += fmt::format("{} not shown: nothing matches or is near, or there are too many (--all shows each)\n",
                       count(tally.lines - tally.shown, "line"));
  Table table({"PATTERN", "LINES"});
  for (std::size_t i = 0; i < plan.patterns.size(); ++i)
    table.add({plan.patterns[i].name, std::to_string(tally.by_pattern[i])});
  std::fputs((out + "\n" + table.format()).c_str(), stdout);
}

int explain_file(const ExplainOptions& options, const rules::Plan& plan, std::uint32_t index) {
  LineExplainer explainer(plan, index, options.file, SystemClock().now());
  Tally tally;
  tally.by_pattern.resize(plan.patterns.size());
  LineClusters missed;
  Json list = Json::Array{};
  const bool json = options.format == OutputFormat::kJson;
  const LineExplainer::Visit visit = [&](const ReadLine& read) {
    ++tally.lines;
    tally.matched += read.matched.empty() ? 0 : 1;
    tally.errors += read.is_error ? 1 : 0;
    for (const std::uint32_t pattern : read.matched)
      ++tally.by_pattern[pattern];
    if (read.is_missed) {
      ++tally.missed;
      tally.missed_but_counted += read.matched.empty() ? 0 : 1;
      if (options.missed) missed.add(read.text, read.number);
    }
    if (options.missed || (!options.all && tally.shown >= kMostLines)) return;
    const bool closely = options.all || tally.asked++ < kMostAskedLines;
    if (!closely && read.matched.empty() && !read.is_missed) return;
    const ExplainedLine line = explainer.explain(read, closely ? kNearest : 0);
    if (!options.all && line.matches.empty() && line.near.empty() && !read.is_missed) return;
    ++tally.shown;
    if (json) {
      list.push(line_json(plan, explainer, read, line));
      return;
    }
    std::string text = fmt::format("{}: {}\n", read.number, shown_line(read.text));
    text += format_matches(plan, explainer, line, "    ");
    if (line.matches.empty() && line.near.empty()) text += "    no pattern matches it, and none is near\n";
    if (read.is_missed) text += "    it looks like an error, and no rule looks at it\n";
    std::fputs(text.c_str(), stdout);
  };
  const std::string why = read_log(options.file, explainer, visit);
  if (!why.empty()) {
    std::fflush(stdout);
    std::fprintf(
        stderr, "logbell explain: %s: %s%s\n", options.file.c_str(), why.c_str(),
        tally.lines == 0
            ? ""
            : fmt::format(". Here is what the {} before that say", count(tally.lines, "line")).c_str());
    if (tally.lines == 0) return kExitUsage;
  }
  if (options.missed) {
    print_clusters(options, tally, missed);
    return tally.missed > 0 || !why.empty() ? kExitFindings : kExitOk;
  }
  if (json) {
    Json by_pattern = Json::Object{};
    for (std::size_t i = 0; i < plan.patterns.size(); ++i)
      by_pattern.set(plan.patterns[i].name, tally.by_pattern[i]);
    Json out;
    out.set("lines", std::move(list)).set("lines_in_all", tally.lines).set("matched", tally.matched);
    out.set("errors", tally.errors).set("missed", tally.missed).set("by_pattern", std::move(by_pattern));
    std::fputs((out.dump(2) + "\n").c_str(), stdout);
  } else {
    print_summary(plan, tally, options);
  }
  return why.empty() ? kExitOk : kExitFindings;
}

// --- a draft

// The line as its source's patterns would see it: out of its envelope.
std::string unwrapped(const rules::Plan& plan, std::uint32_t source, const std::string& line) {
  std::string out = line;
  LineExplainer explainer(plan, source, "", SystemClock().now());
  const LineExplainer::Visit visit = [&](const ReadLine& read) { out = read.text; };
  explainer.feed(line + "\n", visit);
  explainer.finish(visit);
  return out;
}

// A configuration of the draft alone must be accepted, example and all: else it is our mistake.
std::string refused(const rules::Draft& draft, rules::LineFormat format, const std::string& source,
                    const std::vector<std::string>& sinks) {
  static constexpr std::array<const char*, 3> kFormats{"text", "json", "logfmt"};
  std::string text = fmt::format(
      "state_dir: /nonexistent\nsources: [{{name: '{}', files: [/nonexistent.log], format: {}}}]\n",
      source.empty() ? "log" : source, kFormats[static_cast<std::size_t>(format)]);
  text += "sinks:\n";
  const std::vector<std::string> one{"draft"};
  for (const std::string& sink : sinks.empty() ? one : sinks)
    text += fmt::format("  '{}': {{file: {{path: /nonexistent.out}}, audience: machine}}\n", sink);
  text += fmt::format("route: {{sinks: ['{}']}}\n", sinks.empty() ? one.front() : sinks.front());
  const ConfigWorld world =
      ConfigWorld::real(SystemClock().now()).with_texts({{"draft.yaml", text + draft.yaml}});
  rules::Problems problems;
  LoadOptions how;
  how.assume_secrets = true;
  static_cast<void>(load_config("draft.yaml", world, how, problems));
  std::string out;
  for (const rules::Problem& problem : problems.sorted()) {
    if (problem.severity == rules::Severity::kError) out += problem.format() + "\n";
  }
  return out;
}

int draft_rule(const ExplainOptions& options, const Config* config, std::uint32_t source) {
  rules::DraftSurroundings around;
  std::string line = options.new_rule;
  if (config != nullptr) {
    const rules::Plan& plan = *config->plan;
    line = unwrapped(plan, source, line);
    around.format = plan.sources[source].format;
    for (const rules::PatternSpec& pattern : plan.patterns)
      around.pattern_names.push_back(pattern.name);
    for (const rules::AlertingRule& rule : plan.rules)
      around.alert_names.push_back(rule.name);
    if (plan.sources.size() > 1) around.source = plan.sources[source].name;
    if (!plan.has_route) {
      for (const auto& [name, spec] : plan.sinks) {
        if (spec.tells_people) around.sinks.push_back(name);
      }
    }
  } else if (!line.empty() && line.front() == '{' &&
             !rules::fields_of(rules::LineFormat::kJson, line, nullptr, rules::Envelope::kNone).empty()) {
    around.format = rules::LineFormat::kJson;
  }
  const auto draft = rules::draft_from(line, around);
  if (!draft) {
    std::fprintf(stderr, "logbell explain: %s\n", draft.error().message.c_str());
    return kExitUsage;
  }
  if (const std::string why = refused(*draft, around.format, around.source, around.sinks); !why.empty()) {
    std::fprintf(stderr,
                 "logbell explain: what it drafted would be refused, which is a mistake of logbell's:\n%s%s",
                 why.c_str(), draft->yaml.c_str());
    return kExitSoftware;
  }
  if (rules::redact(line) != line)
    std::fputs(
        "The line holds what looks like a secret or a person's: take it out of `examples:` before anybody "
        "else reads it.\n",
        stderr);
  if (options.format == OutputFormat::kJson) {
    Json captures = Json::Array{};
    for (const std::string& capture : draft->captures)
      captures.push(capture);
    Json out;
    out.set("pattern", draft->pattern)
        .set("alert", draft->alert)
        .set("captures", std::move(captures))
        .set("yaml", draft->yaml);
    std::fputs((out.dump(2) + "\n").c_str(), stdout);
    return kExitOk;
  }
  std::string head =
      "# A draft: its threshold, window and severity are yours to choose. `logbell backtest` shows how often "
      "it would have fired.\n";
  if (config == nullptr) {
    head += around.format == rules::LineFormat::kJson ? "# Its source needs `format: json`.\n" : "";
    head += "# With --config its names are free in that configuration, and its sinks are among those.\n";
  } else {
    head += fmt::format("# Put each entry under the same key of {}.\n", config->path);
  }
  std::fputs((head + draft->yaml).c_str(), stdout);
  return kExitOk;
}

}  // namespace

int command_explain(const ExplainOptions& options) {
  // A line can be drafted from where there is no configuration yet.
  if (!options.new_rule.empty() && !options.has_config) return draft_rule(options, nullptr, 0);
  const std::shared_ptr<const Config> config = load(options);
  if (config == nullptr) return kExitConfig;
  if (!options.rule.empty()) return explain_rule(options, *config);
  const rules::Plan& plan = *config->plan;
  const std::vector<std::uint32_t> sources = sources_for(plan, options);
  if (sources.empty()) {
    std::fprintf(stderr, "logbell explain: there is no source \"%s\"; there are: %s\n",
                 options.source.c_str(), names_of(plan).c_str());
    return kExitUsage;
  }
  // A line may be anybody's; a log, or a draft, is of one.
  if (options.file.empty() && options.new_rule.empty()) return explain_line(options, plan, sources);
  if (sources.size() > 1) {
    std::fprintf(stderr, "logbell explain: say with --source whose it is: %s\n", names_of(plan).c_str());
    return kExitUsage;
  }
  return options.file.empty() ? draft_rule(options, config.get(), sources.front())
                              : explain_file(options, plan, sources.front());
}

}  // namespace logbell::engine

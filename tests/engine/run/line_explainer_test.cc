// LineExplainer: what is said of a line is what the running process does with it.
#include "engine/run/line_explainer.h"

#include <limits>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "engine/run/config.h"
#include "rules/problems.h"

using namespace logbell;
using engine::ExplainedLine;
using engine::LineExplainer;
using engine::ReadLine;

namespace {

std::shared_ptr<const engine::Config> config_of(const std::string& text) {
  engine::ConfigWorld world;
  world.env = [](const std::string&) { return std::optional<std::string>(); };
  world.read_file = [&](const std::string&) -> rules::Result<std::string> { return text; };
  world.glob = [](const std::string&) { return std::vector<std::string>(); };
  world.readable_by_others = [](const std::string&) { return false; };
  world.now = *rules::parse_rfc3339("2026-05-01T12:00:00Z");
  rules::Problems problems;
  auto config = engine::load_config("c.yaml", world, {}, problems);
  for (const rules::Problem& problem : problems.sorted())
    UNSCOPED_INFO(problem.format());
  REQUIRE(config);
  return config;
}

constexpr const char* kSinks =
    "sinks: {out: {file: {path: /tmp/out}, audience: machine}}\nroute: {sinks: [out]}\n";

// number, text, patterns by name, "E" where it looks like an error, "M" where nothing covers it
std::vector<std::string> read(const rules::Plan& plan, std::uint32_t source, const std::string& path,
                              const std::string& text, std::size_t piece) {
  LineExplainer explainer(plan, source, path, *rules::parse_rfc3339("2026-05-01T12:00:00Z"));
  std::vector<std::string> out;
  const LineExplainer::Visit visit = [&](const ReadLine& line) {
    std::string one = std::to_string(line.number) + " " + std::string(line.text);
    for (const std::uint32_t pattern : line.matched)
      one += " +" + plan.patterns[pattern].name;
    one += line.is_error ? " E" : "";
    one += line.is_missed ? "M" : "";
    if (line.time) one += " " + rules::format_rfc3339(*line.time).substr(11, 8);
    out.push_back(one);
  };
  for (std::size_t at = 0; at < text.size(); at += piece)
    explainer.feed(std::string_view(text).substr(at, piece), visit);
  explainer.finish(visit);
  return out;
}

}  // namespace

TEST_CASE("line explainer: lines with their numbers, whatever pieces they come in", "[run][line_explainer]") {
  const auto config =
      config_of(std::string(kSinks) +
                "sources: [{name: api, files: [/l], uncovered_errors: {exclude: 'ERROR known'}}]\n"
                "patterns:\n"
                "  seen: {match: 'no queue', exclude: 'ERROR not this'}\n"
                "  unused: {match: 'ERROR unused'}\n"
                "rules: [{alert: Seen, expr: 'count_over_time(seen[1m]) > 0'}]\n");
  const std::string text =
      "2026-05-01T10:00:00Z ERROR no queue\r\n"
      "all is well\n"
      "\n"
      "ERROR other\n"
      "ERROR known\n"
      "ERROR not this no queue\n"
      "ERROR unused\n"
      "ERROR without its end";
  const std::vector<std::string> wanted{"1 2026-05-01T10:00:00Z ERROR no queue +seen E 10:00:00",
                                        "2 all is well",
                                        "3 ",
                                        "4 ERROR other EM",
                                        "5 ERROR known E",
                                        "6 ERROR not this no queue E",
                                        "7 ERROR unused +unused EM",
                                        "8 ERROR without its end EM"};
  for (const std::size_t piece : {std::size_t{1}, std::size_t{3}, std::size_t{17}, text.size()})
    CHECK(read(*config->plan, 0, "/l", text, piece) == wanted);
}

TEST_CASE("line explainer: records out of their envelope, several lines that are one",
          "[run][line_explainer]") {
  const auto config = config_of(std::string(kSinks) +
                                "sources:\n"
                                "  - {name: pods, files: [/l], format: cri, multiline: java}\n"
                                "patterns: {boom: {match: '(?s)Exception.*send', where: {stream: stderr}}}\n"
                                "rules: [{alert: Boom, expr: 'count_over_time(boom[1m]) > 0'}]\n");
  const std::string text =
      "2026-05-01T10:00:00Z stderr F java.lang.IllegalStateException: x\n"
      "2026-05-01T10:00:01Z stderr F \tat com.example.Orders.send(Orders.java:12)\n"
      "2026-05-01T10:00:02Z stdout P half of \n"
      "2026-05-01T10:00:02Z stdout F it\n";
  const auto lines = read(*config->plan, 0, "/var/log/pods/shop_orders_1/api/0.log", text, 7);
  REQUIRE(lines.size() == 2);
  CHECK(std::find(lines.begin(), lines.end(),
                  "1 java.lang.IllegalStateException: x\n\tat com.example.Orders.send(Orders.java:12) +boom "
                  "10:00:00") != lines.end());
  CHECK(std::find_if(lines.begin(), lines.end(), [](const std::string& line) {
          return line.find("half of it") != std::string::npos;
        }) != lines.end());
}

TEST_CASE("line explainer: the nearest first, and those of another source", "[run][line_explainer]") {
  const auto config = config_of(std::string(kSinks) +
                                "sources: [{name: api, files: [/a]}, {name: db, files: [/b]}]\n"
                                "patterns:\n"
                                "  far: {match: 'something else altogether', source: api}\n"
                                "  near: {match: 'no queue (?P<q>\\w+) for you', source: api}\n"
                                "  nearer: {match: 'no queue orders at', source: api}\n"
                                "  other: {match: 'no queue', source: db}\n"
                                "  hit: {match: 'queue (?P<q>\\w+)', labels: [q], source: api}\n"
                                "rules: [{alert: Hit, expr: 'sum(count_over_time(hit[1m])) > 0'}]\n");
  LineExplainer explainer(*config->plan, 0, "/a", *rules::parse_rfc3339("2026-05-01T12:00:00Z"));
  std::vector<ExplainedLine> found;
  std::size_t nearest = 3;
  const LineExplainer::Visit visit = [&](const ReadLine& line) {
    found.push_back(explainer.explain(line, nearest));
  };
  explainer.feed("ERROR no queue orders is there\n", visit);
  REQUIRE(found.size() == 1);
  const auto names = [&](const std::vector<ExplainedLine::Of>& list) {
    std::string out;
    for (const ExplainedLine::Of& one : list)
      out += config->plan->patterns[one.pattern].name + " ";
    return out;
  };
  CHECK(names(found[0].matches) == "hit ");
  CHECK(found[0].matches[0].verdict.labels == rules::Labels{{"q", "orders"}});
  CHECK(names(found[0].near) == "other nearer near ");
  CHECK(found[0].near[0].verdict.reason == "it reads only db, and this is api: it would match");
  CHECK(found[0].others == 1);
  nearest = 1;
  explainer.feed("ERROR no queue orders is there\n", visit);
  CHECK(names(found[1].near) == "other ");
  nearest = std::numeric_limits<std::size_t>::max();
  explainer.feed("ERROR no queue orders is there\n", visit);
  CHECK(names(found[2].near) == "other nearer near far ");
  CHECK(found[2].others == 0);
}

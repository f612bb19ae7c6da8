// logbell drill: proves, in the running process, that each rule's alerts arrive.
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "engine/cli/client.h"
#include "engine/cli/commands.h"
#include "engine/cli/exit_status.h"
#include "engine/cli/table.h"
#include "engine/run/clock.h"
#include "engine/run/waker.h"
#include "rules/json.h"
#include "rules/redact.h"

namespace logbell::engine {
namespace {

using rules::Duration;
using rules::Json;
using rules::Timestamp;

// Between two looks at how far it is.
constexpr Duration kLook{100};

int complain(const rules::Error& error) {
  std::fprintf(stderr, "logbell drill: %s\n", error.message.c_str());
  return error.code == rules::ErrorCode::kInvalid ? kExitUsage : kExitIo;
}

// All of them with one write: no line of somebody else comes in between.
rules::Result<> append(const std::string& path, const Json::Array& lines) {
  std::string text;
  for (const Json& line : lines)
    text += std::string(line.string()) + "\n";
  const int fd = ::open(
      path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);  // NOLINT(cppcoreguidelines-pro-type-vararg): open(2)
  if (fd < 0)
    return rules::fail(rules::ErrorCode::kIo, fmt::format("open {}: {}", path, std::strerror(errno)));
  const ssize_t written = ::write(fd, text.data(), text.size());
  const int error = errno;
  ::close(fd);
  if (written != static_cast<ssize_t>(text.size()))
    return rules::fail(rules::ErrorCode::kIo,
                       fmt::format("write to {}: {}", path, written < 0 ? std::strerror(error) : "no room"));
  return {};
}

std::string since(const Json& pair, const char* hop, Timestamp started) {
  if (!pair[hop].is_string()) return "-";
  const auto at = rules::parse_rfc3339(pair[hop].string());
  return at ? fmt::format("{} ms", std::max<std::int64_t>((*at - started).count(), 0)) : "?";
}

// A person can say that they saw it, and nobody has.
bool is_unseen(const Json& pair) {
  return pair["state"].string() == "proven" && pair["can_be_acknowledged"].boolean() &&
         !pair["acknowledged"].is_string();
}

bool is_complete(const Json& report, bool acknowledged) {
  const Json::Array& pairs = report["pairs"].array();
  return report["ended"].is_string() && !(acknowledged && std::any_of(pairs.begin(), pairs.end(), is_unseen));
}

std::string format(const Json& report) {
  const Timestamp started = rules::parse_rfc3339(report["started"].string()).value_or(rules::kLongAgo);
  const Json::Array& pairs = report["pairs"].array();
  const auto any = [&](const char* member) {
    return std::any_of(pairs.begin(), pairs.end(), [&](const Json& pair) { return pair[member].boolean(); });
  };
  const bool asks = any("can_be_acknowledged");
  const bool reads_back = any("reads_back");
  std::vector<std::string> heads{"RULE", "SINK", "READ", "MATCHED", "ROUTED", "STORED", "ACCEPTED"};
  if (reads_back) heads.emplace_back("FOUND");
  if (asks) heads.emplace_back("SEEN");
  heads.emplace_back();
  Table table(std::move(heads));
  std::size_t proven = 0;
  std::size_t unseen = 0;
  for (const Json& pair : pairs) {
    unseen += is_unseen(pair) ? 1 : 0;
    const std::string_view state = pair["state"].string();
    proven += state == "proven" ? 1 : 0;
    std::string sink(pair["lane"].string());
    if (sink.empty()) sink = "-";
    if (pair["instead_of"].is_string()) sink += fmt::format(" (instead of {})", pair["instead_of"].string());
    if (!pair["fallback_for"].array().empty()) sink += fmt::format(" (for {})", words(pair["fallback_for"]));
    std::string end;
    if (state == "proven") {
      end = fmt::format("receipt: {}", pair["receipt"].string());
      if (!pair["found_evidence"].string().empty()) {
        end += fmt::format("; {}{}", pair["found"].is_string() ? "" : "not looked up there: ",
                           pair["found_evidence"].string());
      }
    } else if (state == "failed") {
      end = fmt::format("FAILED at {}: {}", pair["failed_at"].string(), pair["reason"].string());
    } else if (state == "skipped") {
      end = fmt::format("skipped at {}: {}", pair["failed_at"].string(), pair["reason"].string());
    } else {
      end = "waits";
      if (!pair["reason"].string().empty()) end += fmt::format("; last: {}", pair["reason"].string());
    }
    std::vector<std::string> row{std::string(pair["alertname"].string()), sink};
    for (const char* hop : {"read", "matched", "routed", "stored", "accepted"})
      row.push_back(since(pair, hop, started));
    if (reads_back) row.push_back(since(pair, "found", started));
    if (asks) {
      std::string seen = since(pair, "acknowledged", started);
      const std::string_view who = pair["acknowledged_by"].string();
      if (!who.empty()) seen += fmt::format(", {}", who);
      row.push_back(rules::clean_text(seen, 100));
    }
    row.push_back(rules::clean_text(end, 300));
    table.add(std::move(row));
  }
  const std::size_t all = pairs.size();
  std::string out = all == 0 ? std::string() : table.format() + "\n";
  if (report["proven"].boolean()) {
    // A line that somebody else logs takes the ways that it takes.
    out += fmt::format("Drill {}: each of {} ways{} is proven, by a receipt.\n", report["id"].string(), all,
                       report["mark"].string().empty() ? "" : " that the line took");
  } else if (report["ended"].is_string()) {
    out += fmt::format("Drill {}: {} of {} ways are NOT proven.\n", report["id"].string(), all - proven, all);
  } else {
    out += fmt::format(
        "Drill {}: not ended yet; {} of {} ways are proven so far. See `logbell drill --result {}`.\n",
        report["id"].string(), proven, all, report["id"].string());
  }
  for (const Json& note : report["notes"].array())
    out += fmt::format("Note: {}.\n", rules::clean_text(note.string(), 300));
  out += machine_only_note(report);
  if (unseen > 0 && report["ended"].is_string()) {
    out += fmt::format(
        "Nobody has said yet that they saw {} of them: the link in the message is for that. "
        "`logbell drill --result {} --acknowledged` waits for it.\n",
        unseen, report["id"].string());
  }
  return out;
}

}  // namespace

int command_drill(const DrillOptions& options) {
  Client client(options.url);
  const SystemClock clock;
  Json report;
  if (options.result.empty()) {
    Json request;
    Json wanted = Json::Array{};
    for (const std::string& rule : options.rules)
      wanted.push(rule);
    request.set("rules", std::move(wanted)).set("sink", options.sink);
    request.set("how", options.issue ? "issue" : options.via_log.empty() ? "inside" : "via_log");
    if (!options.via_log.empty()) {
      std::error_code ignored;
      const std::filesystem::path absolute = std::filesystem::absolute(options.via_log, ignored);
      request.set("file", absolute.lexically_normal().string());
    }
    auto begun = client.post("/api/v1/drills", request);
    if (!begun) return complain(begun.error());
    report = *std::move(begun);
    if (options.issue) {
      if (options.format == OutputFormat::kJson) {
        std::fputs((report.dump(2) + "\n").c_str(), stdout);
      } else {
        std::fprintf(stdout, "%s\n", std::string(report["mark"].string()).c_str());
        std::fprintf(stderr,
                     "One line with this in it, within ten minutes, is a drill. What came of it:\n"
                     "  logbell drill --result %s\n",
                     std::string(report["id"].string()).c_str());
      }
      return kExitOk;
    }
    if (!options.via_log.empty()) {
      const rules::Result<> written = append(options.via_log, report["lines"].array());
      if (!written) return complain(written.error());
    }
  } else {
    report.set("id", options.result);
    auto known = client.get("/api/v1/drills/" + options.result);
    if (!known) return complain(known.error());
    report = *std::move(known);
  }

  const rules::Instant until = clock.instant() + options.wait;
  PollWaker pause(clock);
  while (!is_complete(report, options.acknowledged) && clock.instant() < until) {
    pause.wait(std::min<rules::Instant>(clock.instant() + kLook, until), {});
    auto now = client.get("/api/v1/drills/" + std::string(report["id"].string()));
    if (!now) return complain(now.error());
    report = *std::move(now);
  }
  if (options.format == OutputFormat::kJson) {
    std::fputs((report.dump(2) + "\n").c_str(), stdout);
  } else {
    std::fputs(format(report).c_str(), stdout);
  }
  const Json::Array& pairs = report["pairs"].array();
  const bool asks = std::any_of(pairs.begin(), pairs.end(),
                                [](const Json& pair) { return pair["can_be_acknowledged"].boolean(); });
  if (options.acknowledged && !asks && report["ended"].is_string()) {
    std::fputs("logbell drill: nobody can say that they saw it: no message had a link to say so by. Give logbell an "
               "`external_url:`, and a sink that shows people a link.\n",
               stderr);
    return kExitFindings;
  }
  if (options.wait.count() == 0 && !report["ended"].is_string()) return kExitOk;
  return report["proven"].boolean() && is_complete(report, options.acknowledged) ? kExitOk : kExitFindings;
}

}  // namespace logbell::engine

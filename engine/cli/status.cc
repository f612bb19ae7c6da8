// logbell status: how the running process is, and what proves that each rule reaches each of its sinks.
#include <algorithm>
#include <cstdio>
#include <string>

#include <fmt/format.h>

#include "engine/cli/client.h"
#include "engine/cli/commands.h"
#include "engine/cli/exit_status.h"
#include "engine/cli/table.h"
#include "engine/run/clock.h"
#include "engine/run/waker.h"
#include "rules/json.h"
#include "rules/redact.h"
#include "sinks/message.h"

namespace logbell::engine {
namespace {

using rules::Duration;
using rules::Json;

constexpr Duration kAgain{std::chrono::seconds(2)};

std::string age_of(const Json& proof) {
  const double seconds = proof["age_seconds"].number();
  return sinks::format_span(Duration(static_cast<std::int64_t>(seconds * 1000)));
}

struct Shown {
  std::string text;
  Json json;
  bool well = true;
};

rules::Result<Shown> look(Client& client) {
  auto ready = client.text("/-/ready");
  if (!ready) return rules::fail(ready.error());
  auto proof = client.get("/api/v1/proof");
  if (!proof) return rules::fail(proof.error());
  Shown shown;
  shown.well = ready->first == 200 && ready->second.rfind("Ready.", 0) == 0;
  for (std::size_t from = 0; from < ready->second.size();) {
    const std::size_t end = std::min(ready->second.find('\n', from), ready->second.size());
    shown.text += rules::clean_text(ready->second.substr(from, end - from), 400) + "\n";
    from = end + 1;
  }
  Table table({"RULE", "SINK", "PROVEN", "AGE", "BY", "EVIDENCE"});
  std::size_t unproven = 0;
  for (const Json& pair : (*proof)["proofs"].array()) {
    const Json* best = nullptr;
    for (const Json& one : pair["proofs"].array()) {
      if (one["level"].string() == pair["reached"].string()) best = &one;
    }
    // That a person saw one is worth something for longer than a receipt, which is asked for all the same.
    bool told = pair["reached"].string() >= "L4";
    for (const Json& one : pair["proofs"].array()) {
      if (one["level"].string() == "L4") told = told && !one["expired"].boolean();
    }
    const bool conditional = pair["conditional"].boolean();
    const bool asked_for = pair["asked_for"].boolean();
    if (!told && asked_for) ++unproven;
    std::string level(pair["reached"].string());
    std::string evidence = best == nullptr ? std::string() : std::string((*best)["evidence"].string());
    if (pair["failed"].is_object()) {
      level += pair["failed"]["level"].string() == "L5" ? " NOT FOUND" : " DEAD";
      evidence = pair["failed"]["evidence"].string();
    }
    std::string sink(pair["sink"].string());
    if (!pair["fallback_for"].array().empty()) sink += fmt::format(" (for {})", words(pair["fallback_for"]));
    if (conditional) {
      level += " (at times)";
    } else if (!asked_for) {
      level += " (not asked for)";
    }
    table.add({std::string(pair["alertname"].string()), std::move(sink), std::move(level),
               best == nullptr ? "-" : age_of(*best),
               best == nullptr ? "-" : std::string((*best)["by"].string()),
               rules::clean_text(evidence, 120)});
  }
  shown.text += "\n" + table.format();
  shown.text += machine_only_note(*proof);
  if (unproven > 0) {
    shown.well = false;
    shown.text += fmt::format(
        "\n{} of these have no receipt that is recent enough: `logbell drill` sends a marked line the whole "
        "way.\n",
        unproven);
  }
  shown.json.set("ready", ready->first == 200).set("says", ready->second).set("well", shown.well);
  shown.json.set("proofs", (*proof)["proofs"]).set("machine_only", (*proof)["machine_only"]);
  return shown;
}

}  // namespace

int command_status(const StatusOptions& options) {
  Client client(options.url);
  const SystemClock clock;
  PollWaker pause(clock);
  while (true) {
    const rules::Result<Shown> shown = look(client);
    if (!shown) {
      std::fprintf(stderr, "logbell status: %s\n", shown.error().message.c_str());
      if (!options.watch) return kExitIo;
    } else {
      if (options.watch && options.format == OutputFormat::kText) std::fputs("\033[H\033[2J", stdout);
      std::fputs((options.format == OutputFormat::kJson ? shown->json.dump(2) + "\n" : shown->text).c_str(),
                 stdout);
      std::fflush(stdout);
      if (!options.watch) return shown->well ? kExitOk : kExitFindings;
    }
    pause.wait(clock.instant() + kAgain, {});
  }
}

}  // namespace logbell::engine

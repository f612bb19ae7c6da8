#include "sinks/console.h"

#include <utility>

#include <unistd.h>

namespace logbell::sinks {
namespace {

enum class Colour { kAuto, kAlways, kNever };

struct ConsoleSettings {
  int fd = STDOUT_FILENO;
  Colour colour = Colour::kAuto;
  std::size_t width = 0;  // 0: the terminal's, within bounds
};

class ConsoleSink final : public Sink {
 public:
  ConsoleSink(ConsoleSettings settings, SinkContext context)
      : settings_(settings), context_(std::move(context)) {}
  Outcome deliver(const rules::Notification& notification, const Attempt& attempt) override;

 private:
  ConsoleSettings settings_;
  SinkContext context_;
};

Outcome ConsoleSink::deliver(const rules::Notification& /*notification*/, const Attempt& /*attempt*/) {
  return Outcome::retry(Reason::kIo, "not built yet");
}

class ConsoleConfig final : public SinkConfig {
 public:
  explicit ConsoleConfig(ConsoleSettings settings) : settings_(settings) {}
  std::unique_ptr<Sink> build(std::size_t /*lane*/, const SinkContext& context) const override {
    return std::make_unique<ConsoleSink>(settings_, context);
  }
  std::string destination() const override { return settings_.fd == STDERR_FILENO ? "stderr" : "stdout"; }

 private:
  ConsoleSettings settings_;
};

}  // namespace

std::unique_ptr<SinkConfig> parse_console(FieldReader& fields) {
  ConsoleSettings settings;
  bool good = true;
  if (const std::optional<std::string> stream = fields.text("stream", false)) {
    if (*stream == "stderr") {
      settings.fd = STDERR_FILENO;
    } else if (*stream != "stdout") {
      fields.error("stream", "\"" + *stream + "\" is no stream of this process",
                   "write stdout (the default) or stderr");
      good = false;
    }
  }
  if (const std::optional<std::string> colour = fields.text("colour", false)) {
    if (*colour == "always") {
      settings.colour = Colour::kAlways;
    } else if (*colour == "never") {
      settings.colour = Colour::kNever;
    } else if (*colour != "auto") {
      fields.error("colour", "\"" + *colour + "\" is none of auto, always and never",
                   "write auto (the default) for colour on a terminal only");
      good = false;
    }
  }
  if (!good) return nullptr;
  return std::make_unique<ConsoleConfig>(settings);
}

}  // namespace logbell::sinks

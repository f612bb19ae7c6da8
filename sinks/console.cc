#include "sinks/console.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include <fmt/format.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "sinks/encode.h"
#include "sinks/message.h"

namespace logbell::sinks {
namespace {

enum class Colour { kAuto, kAlways, kNever };

struct ConsoleSettings {
  int fd = STDOUT_FILENO;
  Colour colour = Colour::kAuto;
};

class ConsoleSink final : public Sink {
 public:
  ConsoleSink(ConsoleSettings settings, SinkContext context)
      : settings_(settings), context_(std::move(context)) {}
  Outcome deliver(const rules::Notification& notification, const Attempt& attempt) override;
  Verification verify(const Attempt& attempt) override;

 private:
  ConsoleSettings settings_;
  SinkContext context_;
  bool torn_ = false;  // the last message was cut off in the middle of a line
};

ConsoleStyle style_of(const ConsoleSettings& settings) {
  // Wider is hard to read, narrower hardly holds a label.
  static constexpr std::size_t kMinWidth = 60;
  static constexpr std::size_t kMaxWidth = 100;
  ConsoleStyle style;
  const bool is_terminal = isatty(settings.fd) == 1;
  if (settings.colour == Colour::kAlways) {
    style.colour = true;
  } else if (settings.colour == Colour::kAuto && is_terminal) {
    const char* terminal = std::getenv("TERM");
    const char* no_colour = std::getenv("NO_COLOR");
    style.colour = (no_colour == nullptr || *no_colour == '\0') && terminal != nullptr &&
                   std::string_view(terminal) != "dumb";
  }
  winsize size{};
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-vararg): ioctl(2)
  if (is_terminal && ioctl(settings.fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
    style.width = std::clamp<std::size_t>(size.ws_col, kMinWidth, kMaxWidth);
  }
  return style;
}

Outcome ConsoleSink::deliver(const rules::Notification& notification, const Attempt& attempt) {
  // So little is always taken at once by a terminal or pipe that says it has room: write() never waits, and a
  // stopped terminal (Ctrl-S) or a stuck reader costs the deadline and no more.
  static constexpr std::size_t kChunk = 256;
  std::string text = console_text(notification, attempt, context_, style_of(settings_));
  if (torn_) text.insert(0, "\n");
  const std::size_t chunks = text.size() / kChunk + 1;
  const auto patience = static_cast<int>(attempt.timeout.count() / static_cast<rules::Duration::rep>(chunks));
  for (std::size_t at = 0; at < text.size();) {
    pollfd waiting{settings_.fd, POLLOUT, 0};
    const int ready = poll(&waiting, 1, patience);
    if (ready == 0) return Outcome::retry(Reason::kTimeout, "the terminal takes nothing");
    ssize_t written = -1;
    if (ready > 0) written = write(settings_.fd, text.data() + at, std::min(kChunk, text.size() - at));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0)
      return Outcome::retry(Reason::kIo, std::string("write to the terminal: ") + rules::errno_text(errno));
    at += static_cast<std::size_t>(written);
    torn_ = at < text.size();
  }
  return Outcome::delivered(settings_.fd == STDERR_FILENO ? "stderr" : "stdout");
}

Verification ConsoleSink::verify(const Attempt& /*attempt*/) {
  pollfd waiting{settings_.fd, 0, 0};
  if (poll(&waiting, 1, 0) < 0 || (waiting.revents & (POLLNVAL | POLLERR | POLLHUP)) != 0)
    return Verification::dead(Reason::kIo, ProofLevel::kStatic, "it is closed: nobody reads it");
  return Verification::live(ProofLevel::kDestination, "it is open");
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

// Writes lines of at most `width` columns, colours aside.
class Page {
 public:
  explicit Page(const ConsoleStyle& style) : style_(style) {}

  // One paragraph: `label` in front, the rest wrapped beside it.
  void add(Literal label, const ConsoleText& text, std::string_view colour = {}) {
    static constexpr std::size_t kIndent = 10;
    std::string front = "  " + std::string(label.view());
    front.resize(std::max(front.size() + 1, kIndent), ' ');
    for (const std::string& line : wrap(text.str(), style_.width - front.size())) {
      out_ += front + paint(line, colour) + "\n";
      front.assign(front.size(), ' ');
    }
  }
  // The first line: what it is, and as much of the title as fits beside it.
  void add_title(Literal badge, const ConsoleText& text, std::string_view colour) {
    const std::string front(badge.view());
    std::string shown = paint("[" + front + "]", colour);
    for (const std::string& line : wrap(text.str(), style_.width - front.size() - 3)) {
      out_ += shown + " " + paint(line, "1") + "\n";
      shown.assign(front.size() + 2, ' ');
    }
  }
  std::string take() { return out_ + "\n"; }

 private:
  std::string paint(const std::string& text, std::string_view colour) const {
    if (!style_.colour || colour.empty()) return text;
    return fmt::format("\x1b[{}m{}\x1b[0m", colour, text);
  }
  // Breaks at blanks, and inside a word only if it is longer than a line.
  static std::vector<std::string> wrap(std::string_view text, std::size_t width) {
    std::vector<std::string> lines;
    std::string line;
    std::size_t columns = 0;
    std::size_t blank = std::string::npos;  // in `line`: where it may break
    for (std::size_t at = 0; at < text.size();) {
      const auto [code, bytes] = code_point_at(text, at);
      const auto wide = static_cast<std::size_t>(columns_of(code));
      if (columns + wide > width) {
        std::string rest;
        if (blank != std::string::npos) {
          rest = line.substr(blank + 1);
          line.resize(blank);
        }
        lines.push_back(line);
        line = rest;
        columns = ConsoleText(rest).columns();
        blank = std::string::npos;
      }
      if (code == ' ') blank = line.size();
      line += text.substr(at, bytes);
      columns += wide;
      at += bytes;
    }
    if (!line.empty()) lines.push_back(line);
    return lines;
  }

  ConsoleStyle style_;
  std::string out_;
};

std::string_view colour_of(Tone tone) {
  switch (tone) {
    case Tone::kCritical:
      return "1;31";
    case Tone::kWarning:
      return "1;33";
    case Tone::kInfo:
      return "1;34";
    case Tone::kResolved:
      return "1;32";
    default:
      return "1;35";
  }
}

Literal badge_of(const rules::Notification& notification) {
  if (notification.reason == rules::NotifyReason::kRefused) return "REFUSED";
  if (notification.reason == rules::NotifyReason::kSummary) return "SUMMARY";
  if (!notification.drill.empty()) return "DRILL";
  return notification.is_resolved() ? Literal("RESOLVED") : Literal("FIRING");
}

constexpr std::string_view kDim = "2";

// "critical, 5 (>= 3), for 3 s, since 2026-05-01T10:00:00Z".
std::string facts_of(const rules::Alert& alert, const Attempt& attempt) {
  std::string facts;
  if (const std::string_view severity = alert.labels.get("severity"); !severity.empty())
    facts.append(severity).append(", ");
  if (alert.is_firing()) {
    if (!alert.built_in) facts.append(value_words(alert)).append(", ");
    return facts + fmt::format("for {}, since {}", format_span(lasted(alert, attempt.now)),
                               rules::format_rfc3339(alert.fired_at));
  }
  facts += fmt::format("resolved after {}", format_span(lasted(alert, attempt.now)));
  if (!alert.resolve_reason.empty()) facts += ": " + alert.resolve_reason;
  return facts;
}

void add_evidence(Page& page, const rules::Alert& alert) {
  const bool one_line = alert.first_line == alert.last_line;
  if (alert.first_line)
    page.add(one_line ? Literal("line") : Literal("first"), ConsoleText(alert.first_line->text), kDim);
  if (alert.last_line && !one_line) page.add("last", ConsoleText(alert.last_line->text), kDim);
  for (const auto& [label, values] : alert.top_values) {
    std::string words = label + ": ";
    for (std::size_t i = 0; i < values.size() && i < 5; ++i)
      words += fmt::format("{}{} ×{}", i == 0 ? "" : ", ", values[i].first, values[i].second);
    page.add("top", ConsoleText(words, 500));
  }
}

void add_runbook(Page& page, const rules::Alert& alert) {
  if (const std::string_view runbook = alert.annotation("runbook_url"); !runbook.empty())
    page.add("runbook", ConsoleText(runbook, 500));
}

std::string labels_beyond(const rules::Labels& labels, const rules::Labels& known) {
  std::string out;
  for (const auto& [name, value] : labels) {
    if (name == "severity" || known.get(name) == value) continue;
    out.append(out.empty() ? "" : "  ").append(name).append("=").append(value);
  }
  return out;
}

void add_single(Page& page, const rules::Alert& alert, const Attempt& attempt) {
  if (const std::string summary = summary_of(alert); !summary.empty())
    page.add("what", ConsoleText(summary, 1000), "1");
  page.add(alert.is_firing() ? Literal("now") : Literal("over"), ConsoleText(facts_of(alert, attempt), 500));
  rules::Labels title;
  title.set("alertname", alert.name());
  if (const std::string labels = labels_beyond(alert.labels, title); !labels.empty())
    page.add("labels", ConsoleText(labels, 1000));
  if (!alert.is_firing()) return;
  if (!alert.expr.empty()) page.add("rule", ConsoleText(alert.expr, 1000), kDim);
  add_evidence(page, alert);
  add_runbook(page, alert);
}

// Two lines an alert, and the evidence of the first: what they share is said once.
void add_several(Page& page, const std::vector<rules::Alert>& alerts, const rules::Labels& common,
                 const Attempt& attempt) {
  // A screen holds some fifty lines.
  static constexpr std::size_t kMaxAlertsShown = kFewAlerts;
  const std::size_t shown = std::min(alerts.size(), kMaxAlertsShown);
  for (std::size_t i = 0; i < shown; ++i) {
    const rules::Alert& alert = alerts[i];
    std::string what = summary_of(alert);
    if (what.empty()) what = labels_beyond(alert.labels, common);
    if (what.empty()) what = alert.name();
    page.add(alert.is_firing() ? Literal("firing") : Literal("over"), ConsoleText(what, 500),
             alert.is_firing() ? "1" : "");
    page.add("", ConsoleText(facts_of(alert, attempt), 300), kDim);
  }
  if (alerts.size() > shown) page.add("", ConsoleText(fmt::format("and {} more", alerts.size() - shown)));
  rules::Labels title;
  title.set("alertname", common.get("alertname"));
  if (const std::string labels = labels_beyond(common, title); !labels.empty())
    page.add("labels", ConsoleText(labels, 1000));
  if (!alerts.front().is_firing()) return;
  add_evidence(page, alerts.front());
  add_runbook(page, alerts.front());
}

}  // namespace

std::string console_text(const rules::Notification& notification, const Attempt& attempt,
                         const SinkContext& context, const ConsoleStyle& style) {
  Page page(style);
  std::string title = headline(notification, context);
  // The badge says it.
  if (constexpr std::string_view kDrill = "[DRILL] "; title.rfind(kDrill, 0) == 0) title.erase(0, kDrill.size());
  if (notification.alerts.size() > 1) title = status_words(notification) + ": " + title;
  page.add_title(badge_of(notification), ConsoleText(title, 300), colour_of(tone_of(notification)));
  for (const std::string& note : delivery_notes(notification, attempt))
    page.add("note", ConsoleText(note, kMaxNote), "33");
  std::string_view text = notification.text;
  for (int lines = 0; !text.empty() && lines < 20; ++lines) {
    const std::string_view line = text.substr(0, text.find('\n'));
    page.add("", ConsoleText(line, 1000));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
  }
  if (notification.alerts.size() == 1) {
    add_single(page, notification.alerts.front(), attempt);
  } else if (!notification.alerts.empty()) {
    add_several(page, notification.alerts, notification.common_labels(), attempt);
  }
  return page.take();
}

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

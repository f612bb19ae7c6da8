// SINKS.md §2: Block Kit and its limits.
#include "sinks/slack_message.h"

#include <algorithm>
#include <cctype>
#include <utility>

#include <fmt/format.h>

#include "sinks/message.h"

namespace logbell::sinks {
namespace {

// What Slack takes, in characters; where nothing is published, what is known to arrive.
constexpr std::size_t kMaxHeader = 150;
constexpr std::size_t kMaxText = 4000;
constexpr std::size_t kMaxField = 2000;
constexpr std::size_t kMaxContextElement = 2000;
constexpr std::size_t kMaxBlocks = 50;
// Ours: a phone shows some thirty lines of a message before it hides the rest.
constexpr std::size_t kMaxAlertsShown = kFewAlerts;
constexpr std::size_t kMaxNotificationText = 300;
constexpr std::size_t kMaxSummary = 600;
constexpr std::size_t kMaxDescription = 1500;
constexpr std::size_t kMaxLine = 700;
constexpr std::size_t kMaxTopLabels = 3;
constexpr std::size_t kMaxTopValues = 5;
constexpr std::size_t kMaxPlainBody = 2500;

Literal mark_of(const rules::Notification& notification) {
  if (notification.reason == rules::NotifyReason::kRefused) return "⛔ ";
  if (notification.reason == rules::NotifyReason::kSummary) return "📋 ";
  if (!notification.drill.empty()) return "🧪 ";
  switch (tone_of(notification)) {
    case Tone::kCritical:
      return "🔴 ";
    case Tone::kWarning:
      return "🟠 ";
    case Tone::kInfo:
      return "🔵 ";
    case Tone::kResolved:
      return "✅ ";
    default:
      return "🔔 ";
  }
}

PlainText title_of(const rules::Notification& notification, const SinkContext& context) {
  std::string words;
  if (notification.text.empty() && notification.drill.empty()) {
    const std::string status = status_words(notification);
    // One that fires needs no word for it: its mark says so.
    if (status != "firing") words = status + ": ";
    if (!words.empty()) words[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(words[0])));
  }
  return mark_of(notification) + PlainText(words + headline(notification, context), kMaxHeader - 4);
}

// Elements of rich text: shown exactly as they are, whatever is in them.
enum class Style { kPlain, kBold, kCode, kItalic };
Payload text_element(const PlainText& text, Style style = Style::kPlain) {
  Payload out = Payload::object().set("type", "text").set("text", text);
  Payload styles = Payload::object();
  if (style == Style::kBold) styles.set("bold", true);
  if (style == Style::kCode) styles.set("code", true);
  if (style == Style::kItalic) styles.set("italic", true);
  if (style != Style::kPlain) out.set("style", std::move(styles));
  return out;
}

Payload rich_section() {
  return Payload::object().set("type", "rich_text_section");
}

// Collects the blocks of a message and knows Slack's bounds of one.
class Blocks {
 public:
  void add(Payload block) {
    if (blocks_.size() < kMaxBlocks) {
      blocks_.push(std::move(block));
    } else {
      blocks_.mark_cut();
    }
  }
  // A rich_text block of one section; Slack refuses an empty text element.
  void add_section(std::vector<Payload> elements) {
    if (elements.empty()) return;
    Payload list = Payload::array();
    for (Payload& element : elements)
      list.push(std::move(element));
    add_rich({rich_section().set("elements", std::move(list))});
  }
  void add_rich(std::vector<Payload> elements) {
    if (elements.empty()) return;
    Payload list = Payload::array();
    for (Payload& element : elements)
      list.push(std::move(element));
    add(Payload::object().set("type", "rich_text").set("elements", std::move(list)));
  }
  void add_context(const std::vector<PlainText>& texts) {
    Payload elements = Payload::array();
    for (const PlainText& text : texts) {
      if (text.empty() || elements.size() >= 10) continue;
      elements.push(plain_object(text.cut(kMaxContextElement)));
    }
    if (elements.size() > 0)
      add(Payload::object().set("type", "context").set("elements", std::move(elements)));
  }
  static Payload plain_object(const PlainText& text) {
    return Payload::object().set("type", "plain_text").set("text", text).set("emoji", false);
  }
  Payload take() { return std::move(blocks_); }

 private:
  Payload blocks_ = Payload::array();
};

Payload field(Literal name, const MrkdwnText& value) {
  MrkdwnText text = MrkdwnText("*") + MrkdwnText(name) + MrkdwnText("*\n") + value;
  return Payload::object().set("type", "mrkdwn").set("text", text).set("verbatim", true);
}

PlainText labels_text(const rules::Labels& labels) {
  std::string out;
  for (const auto& [name, value] : labels)
    out.append(out.empty() ? "" : "  ").append(name).append("=").append(value);
  return {out, 1000};
}

// What everybody knows already, or what stands in the message anyway.
rules::Labels other_labels(const rules::Labels& labels) {
  return labels.without({"alertname", "severity", "environment", "service"});
}

void add_fields(Blocks& blocks, const rules::Alert& alert, const Attempt& attempt) {
  Payload fields = Payload::array();
  if (const std::string_view severity = alert.labels.get("severity"); !severity.empty()) {
    fields.push(field("Severity", {severity, kMaxField / 2}));
  }
  // Of what is over, how long it took says more than its last value.
  if (!alert.built_in && alert.is_firing()) fields.push(field("Value", {value_words(alert), kMaxField / 2}));
  const std::string span = format_span(lasted(alert, attempt.now));
  if (alert.is_firing()) {
    fields.push(field("Since", MrkdwnText::date(alert.fired_at) + MrkdwnText(" (" + span + ")", 100)));
  } else {
    fields.push(field("Lasted", MrkdwnText(span, 100) + MrkdwnText(", until ") +
                                    MrkdwnText::date(alert.resolved_at.value_or(attempt.now))));
  }
  if (const std::string_view instance = alert.labels.get("instance"); !instance.empty()) {
    fields.push(field("Instance", {instance, kMaxField / 2}));
  }
  blocks.add(Payload::object().set("type", "section").set("fields", std::move(fields)));
}

void add_line(std::vector<Payload>& out, const PlainText& title, const rules::SampleLine& line) {
  out.push_back(rich_section().set("elements", Payload::array().push(text_element(title, Style::kBold))));
  PlainText text(line.text, kMaxLine);
  if (is_sanitised(line.text)) text += Literal(" (sanitised)");
  if (text.empty()) text = Literal("(an empty line)");
  out.push_back(Payload::object()
                    .set("type", "rich_text_preformatted")
                    .set("elements", Payload::array().push(text_element(text))));
}

PlainText line_title(Literal which, const rules::SampleLine& line) {
  return PlainText(which) + PlainText(", " + rules::format_rfc3339(line.at), 60);
}

void add_evidence(Blocks& blocks, const rules::Alert& alert) {
  std::vector<Payload> lines;
  if (alert.first_line && alert.last_line && *alert.first_line != *alert.last_line) {
    add_line(lines, line_title("First line", *alert.first_line), *alert.first_line);
    add_line(lines, line_title("Last line", *alert.last_line), *alert.last_line);
  } else if (alert.first_line || alert.last_line) {
    const rules::SampleLine& only = alert.first_line ? *alert.first_line : *alert.last_line;
    add_line(lines, line_title("Line", only), only);
  }
  blocks.add_rich(std::move(lines));

  std::vector<Payload> tops;
  for (const auto& [label, values] : alert.top_values) {
    if (values.empty() || tops.size() / 2 >= kMaxTopLabels) continue;
    std::string words;
    for (std::size_t i = 0; i < std::min(values.size(), kMaxTopValues); ++i)
      words += fmt::format("{}{} ×{}", i == 0 ? "" : ", ", values[i].first, values[i].second);
    if (values.size() > kMaxTopValues) words += ", …";
    tops.push_back(text_element(
        PlainText((tops.empty() ? "Top " : "\nTop ") + label + ": ", 200, Lines::kKeep), Style::kBold));
    tops.push_back(text_element(PlainText(words, 500)));
  }
  blocks.add_section(std::move(tops));
}

void add_links(Blocks& blocks, const rules::Alert& alert, const rules::Notification& notification,
               const Attempt& attempt, const SinkContext& context) {
  std::vector<Payload> elements;
  const auto add_url = [&](const std::optional<LinkUrl>& url, Literal name) {
    if (!url) return;
    if (!elements.empty()) elements.push_back(text_element(Literal("  ·  ")));
    elements.push_back(Payload::object().set("type", "link").set("url", *url).set("text", name));
  };
  const auto add = [&](std::string_view address, Literal name) { add_url(LinkUrl::from(address), name); };
  add_url(acknowledge_link(notification, attempt, context), kAcknowledge);
  add(alert.annotation("runbook_url"), "Runbook");
  add(alert.annotation("runbook"), "Runbook");
  add(alert.annotation("dashboard_url"), "Dashboard");
  add(alert.annotation("dashboard"), "Dashboard");
  add(alert.annotation("logs_url"), "Logs");
  add(context.external_url, "logbell");
  blocks.add_section(std::move(elements));
}

// The whole story of one alert.
void add_single(Blocks& blocks, const rules::Notification& notification, const Attempt& attempt,
                const SinkContext& context) {
  const rules::Alert& alert = notification.alerts.front();
  std::vector<Payload> words;
  const PlainText summary(summary_of(alert), kMaxSummary, Lines::kKeep);
  if (!summary.empty()) words.push_back(text_element(summary, Style::kBold));
  const std::string_view description = alert.annotation("description");
  if (!description.empty() && !alert.annotation("summary").empty() &&
      description != alert.annotation("summary")) {
    words.push_back(text_element(Literal("\n") + PlainText(description, kMaxDescription, Lines::kKeep)));
  }
  if (!alert.resolve_reason.empty()) {
    words.push_back(text_element(PlainText(
        (words.empty() ? "Resolved: " : "\nResolved: ") + alert.resolve_reason, 300, Lines::kKeep)));
  }
  blocks.add_section(std::move(words));
  add_fields(blocks, alert, attempt);

  std::vector<Payload> details;
  const PlainText labels = labels_text(other_labels(alert.labels).without({"instance"}));
  if (!labels.empty()) details.push_back(text_element(labels));
  if (const PlainText expr(alert.expr, 1000); !expr.empty()) {
    if (!details.empty()) details.push_back(text_element(Literal("\n")));
    details.push_back(text_element(expr, Style::kCode));
  }
  blocks.add_section(std::move(details));
  // What is over needs no evidence any more.
  if (alert.is_firing()) add_evidence(blocks, alert);
  add_links(blocks, alert, notification, attempt, context);
}

Payload list_item(const rules::Alert& alert, const rules::Labels& common, const Attempt& attempt) {
  rules::Labels own;
  for (const auto& [name, value] : alert.labels) {
    if (common.get(name) != value) own.set(name, value);
  }
  PlainText which = labels_text(own);
  if (which.empty()) which = PlainText(alert.name(), 200);
  if (which.empty()) which = Literal("(no name)");
  const std::string span = format_span(lasted(alert, attempt.now));
  const std::string facts = alert.is_firing() ? fmt::format("  {}, for {}", value_words(alert), span)
                                              : fmt::format("  resolved after {}", span);
  const PlainText summary(summary_of(alert), 200);
  Payload list = Payload::array();
  if (!alert.is_firing()) list.push(text_element(Literal("✅ ")));
  list.push(text_element(which.cut(300), Style::kBold));
  list.push(text_element(PlainText(facts, 300)));
  if (!summary.empty()) list.push(text_element(Literal(" — ") + summary));
  return rich_section().set("elements", std::move(list));
}

void add_several(Blocks& blocks, const rules::Notification& notification, const Attempt& attempt,
                 const SinkContext& context) {
  const rules::Labels common = notification.common_labels();
  const std::vector<rules::Alert>& alerts = notification.alerts;
  const std::size_t shown = std::min(alerts.size(), kMaxAlertsShown);
  Payload items = Payload::array();
  for (std::size_t i = 0; i < shown; ++i)
    items.push(list_item(alerts[i], common, attempt));
  std::vector<Payload> elements;
  elements.push_back(Payload::object()
                         .set("type", "rich_text_list")
                         .set("style", "bullet")
                         .set("elements", std::move(items)));
  blocks.add_rich(std::move(elements));

  std::vector<Payload> details;
  if (alerts.size() > shown) {
    details.push_back(
        text_element(PlainText(fmt::format("and {} more", alerts.size() - shown), 60), Style::kItalic));
  }
  const PlainText labels = labels_text(other_labels(common));
  if (!labels.empty()) {
    if (!details.empty()) details.push_back(text_element(Literal("\n")));
    details.push_back(text_element(Literal("All: ") + labels));
  }
  blocks.add_section(std::move(details));
  if (alerts.front().is_firing()) add_evidence(blocks, alerts.front());
  add_links(blocks, alerts.front(), notification, attempt, context);
}

// What a phone's lock screen shows, and what is read aloud; it may hold text from logs, so it is mrkdwn.
MrkdwnText notification_text(const rules::Notification& notification, const SinkContext& context) {
  std::string words = title_of(notification, context).str();
  if (!notification.text.empty()) {
    words += ": " + notification.text;
  } else if (!notification.alerts.empty()) {
    const rules::Alert& first = notification.alerts.front();
    const std::string summary = summary_of(first);
    if (first.is_firing() && !first.built_in) words += ": " + value_words(first);
    if (!summary.empty()) words += " — " + summary;
  }
  return {words, kMaxNotificationText};
}

PlainText footer(const rules::Notification& notification) {
  std::string words = "logbell · delivery " + notification.key.substr(0, 16);
  if (!notification.group_labels.empty()) words += " · group " + notification.group_labels.format();
  return {words, 500};
}

}  // namespace

Payload slack_message(const rules::Notification& notification, const Attempt& attempt,
                      const SinkContext& context) {
  Blocks blocks;
  blocks.add(Payload::object()
                 .set("type", "header")
                 .set("text", Blocks::plain_object(title_of(notification, context).cut(kMaxHeader))));
  std::vector<PlainText> notes;
  for (const std::string& note : delivery_notes(notification, attempt))
    notes.push_back("⚠️ " + PlainText(note, kMaxNote));
  blocks.add_context(notes);

  if (!notification.text.empty()) {
    const PlainText text(notification.text, kMaxPlainBody, Lines::kKeep);
    if (!text.empty()) blocks.add_section({text_element(text)});
    add_links(blocks, rules::Alert{}, notification, attempt, context);
  } else if (notification.alerts.size() == 1) {
    add_single(blocks, notification, attempt, context);
  } else if (!notification.alerts.empty()) {
    add_several(blocks, notification, attempt, context);
  }
  blocks.add_context({footer(notification)});

  Payload out = Payload::object();
  out.set("text", notification_text(notification, context).excerpt());
  out.set("blocks", blocks.take());
  out.set("unfurl_links", false).set("unfurl_media", false).set("link_names", false);
  return out;
}

Payload slack_minimal_message(const rules::Notification& notification, const Attempt& attempt,
                              const SinkContext& context) {
  MrkdwnText text = notification_text(notification, context);
  const auto add = [&](const MrkdwnText& line) {
    if (text.units() + line.units() + 1 <= kMaxText) text += "\n" + line;
  };
  for (const std::string& note : delivery_notes(notification, attempt))
    add({note, kMaxNote});
  const std::size_t shown = std::min(notification.alerts.size(), kMaxAlertsShown);
  for (std::size_t i = 0; i < shown; ++i) {
    const rules::Alert& alert = notification.alerts[i];
    add({fmt::format("{} {}: {}", rules::to_string(alert.state), alert.labels.format(), value_words(alert)),
         300});
  }
  if (notification.alerts.size() > shown)
    add({fmt::format("and {} more", notification.alerts.size() - shown), 60});
  if (const std::optional<LinkUrl> url = acknowledge_link(notification, attempt, context))
    add(MrkdwnText::link(*url, kAcknowledge));
  add({footer(notification).str(), 500});
  return Payload::object()
      .set("text", text)
      .set("unfurl_links", false)
      .set("unfurl_media", false)
      .set("link_names", false);
}

std::string slack_words(const Payload& message) {
  // MrkdwnText's, the other way round; & last, for it begins the others.
  static constexpr std::pair<std::string_view, std::string_view> kRead[] = {
      {"&lt;", "<"}, {"&gt;", ">"}, {"ˋ", "`"}, {"∗", "*"},
      {"∼", "~"},    {"＿", "_"},   {"∶", ":"}, {"&amp;", "&"}};
  std::string words = message.words();
  for (const auto& [written, read] : kRead) {
    for (std::size_t at = words.find(written); at != std::string::npos;
         at = words.find(written, at + read.size()))
      words.replace(at, written.size(), read);
  }
  return words;
}

}  // namespace logbell::sinks

#include "sinks/email.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "rules/redact.h"
#include "rules/text.h"
#include "sinks/expect.h"
#include "sinks/http.h"
#include "sinks/message.h"

namespace logbell::sinks {
namespace {

using rules::Secret;

// What every server takes in one message (RFC 5321 §4.5.3.1.8).
constexpr std::size_t kMaxRecipients = 100;
// So long a recipient is left alone whom a server would not judge at once: greylists let pass who comes again
// after some minutes, and think ill of who asks often.
constexpr rules::Duration kRecipientsAgain{std::chrono::minutes(15)};
constexpr int kTooManyRecipients = 452;
// What a message may grow by when it says who is not told.
constexpr std::size_t kSpareBytes = 4096;

struct EmailSettings {
  MailEnvelope envelope;
  SmtpOptions smtp;
  HttpOptions way;  // proxy, certificates, timeout

  std::vector<Secret> secrets() const {
    std::vector<Secret> all = way.secrets();
    if (!smtp.password.empty()) all.push_back(smtp.password);
    return all;
  }
};

class EmailSink final : public Sink {
 public:
  EmailSink(EmailSettings settings, SinkContext context)
      : settings_(std::move(settings)),
        hide_(settings_.secrets()),
        client_(settings_.way, settings_.smtp),
        context_(std::move(context)) {}
  Outcome deliver(const rules::Notification& notification, const Attempt& attempt) override;
  Verification verify(const Attempt& attempt) override {
    Verification verification = ask(attempt);
    verification.certificate_ends = client_.certificate_ends();
    return verification;
  }

 private:
  Verification ask(const Attempt& attempt);
  Outcome send(const rules::Notification& notification, const Attempt& attempt, bool& too_large);
  Outcome send(const rules::Notification& notification, const Attempt& attempt,
               std::vector<const MailAddress*>& recipients, bool& too_large);
  std::string sender_line() const { return "MAIL FROM:<" + settings_.envelope.from.str() + ">"; }
  static std::string recipient_line(const MailAddress& to) { return "RCPT TO:<" + to.str() + ">"; }
  std::string describe(const SmtpResult& result) const { return sinks::describe(result, hide_); }

  EmailSettings settings_;
  std::vector<Secret> hide_;
  SmtpClient client_;
  SinkContext context_;
};

// --- the message

// Ours: a phone shows some forty characters of a subject before it cuts it, a mail program two hundred.
constexpr std::size_t kMaxSubject = 200;
constexpr std::size_t kMaxMailSummary = 1000;
constexpr std::size_t kMaxMailDescription = 4000;
constexpr std::size_t kMaxMailText = 16'000;  // of a refusal or a summary, which name their own lines
constexpr std::size_t kMaxMailField = 1000;
constexpr std::size_t kMaxKey = 60;  // twice what a key has

// "FIRING, critical", "STILL FIRING", "3 FIRING, 1 RESOLVED", "RESOLVED".
std::string status_of(const rules::Notification& notification) {
  if (notification.reason == rules::NotifyReason::kRefused) return "REFUSED";
  if (notification.reason == rules::NotifyReason::kSummary) return "SUMMARY";
  std::string words = status_words(notification);
  std::transform(words.begin(), words.end(), words.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  const rules::Labels common = notification.common_labels();
  const std::string_view severity = common.get("severity");
  if (!notification.is_resolved() && !severity.empty()) words.append(", ").append(severity);
  return words;
}

// What one thread is about: an episode of a group, or this text alone.
std::string thread_of(const rules::Notification& notification) {
  if (notification.group_key.empty()) return notification.key;
  return rules::format_fingerprint(rules::hash_bytes(
      fmt::format("{}\n{}", notification.group_key, rules::to_unix_ms(notification.group_began))));
}

// In brackets, which are no part of what a thread is called by (RFC 5256 §2.1).
std::string subject_of(const rules::Notification& notification, const SinkContext& context) {
  if (!notification.drill.empty()) return headline(notification, context);  // "[DRILL] Boom": nothing fires
  return fmt::format("[{}] {}", status_of(notification), headline(notification, context));
}

// "critical, 5 (>= 3), for 3 s, since 2026-05-01T10:00:00Z".
std::string facts_of(const rules::Alert& alert, const Attempt& attempt) {
  std::string facts;
  if (const std::string_view severity = alert.labels.get("severity"); !severity.empty())
    facts.append(severity).append(", ");
  const std::string span = format_span(lasted(alert, attempt.now));
  if (alert.is_firing()) {
    if (!alert.built_in) facts.append(value_words(alert)).append(", ");
    return facts + fmt::format("for {}, since {}", span, rules::format_rfc3339(alert.fired_at));
  }
  facts += fmt::format("over after {}, at {}", span,
                       rules::format_rfc3339(alert.resolved_at.value_or(attempt.now)));
  if (!alert.resolve_reason.empty()) facts += ": " + alert.resolve_reason;
  return facts;
}

std::string labels_text(const rules::Labels& labels) {
  std::string out;
  for (const auto& [name, value] : labels)
    out.append(out.empty() ? "" : "  ").append(name).append("=").append(value);
  return out;
}

rules::Labels labels_beyond(const rules::Labels& labels, const rules::Labels& common) {
  rules::Labels own;
  for (const auto& [name, value] : labels) {
    if (common.get(name) != value) own.set(name, value);
  }
  return own;
}

void say_line(Mail& mail, Literal which, const rules::SampleLine& line) {
  mail.say(MailText(which) + MailText(", " + rules::format_rfc3339(line.at), 60) + Literal(":\n  "));
  MailText text(line.text, kMaxMailField);
  if (text.empty()) text = Literal("(an empty line)");
  mail.say(text);
  if (is_sanitised(line.text)) mail.say(" (sanitised)");
  mail.say("\n");
}

void say_evidence(Mail& mail, const rules::Alert& alert) {
  const bool one_line = alert.first_line == alert.last_line;
  if (alert.first_line || alert.last_line || !alert.top_values.empty()) mail.say("\n");
  if (alert.first_line) say_line(mail, one_line ? Literal("Line") : Literal("First line"), *alert.first_line);
  if (alert.last_line && !one_line) say_line(mail, "Last line", *alert.last_line);
  for (const auto& [label, values] : alert.top_values) {
    static constexpr std::size_t kMaxTopValues = 10;
    std::string words;
    for (std::size_t i = 0; i < std::min(values.size(), kMaxTopValues); ++i)
      words += fmt::format("{}{} ×{}", i == 0 ? "" : ", ", values[i].first, values[i].second);
    if (values.size() > kMaxTopValues) words += ", …";
    mail.say(MailText("Top " + label + ": ", 200) + MailText(words, kMaxMailField) + Literal("\n"));
  }
}

void say_links(Mail& mail, const rules::Alert* alert, const rules::Notification& notification,
               const Attempt& attempt, const SinkContext& context) {
  bool first = true;
  const auto add_url = [&](Literal name, const std::optional<LinkUrl>& url) {
    if (!url) return;
    if (std::exchange(first, false)) mail.say("\n");
    mail.say(MailText(name) + Literal(": ") + MailText(*url) + Literal("\n"));
  };
  const auto add = [&](Literal name, std::string_view address) { add_url(name, LinkUrl::from(address)); };
  add_url(kAcknowledge, acknowledge_link(notification, attempt, context));
  if (alert != nullptr) {
    add("Runbook", alert->annotation("runbook_url"));
    add("Runbook", alert->annotation("runbook"));
    add("Dashboard", alert->annotation("dashboard_url"));
    add("Dashboard", alert->annotation("dashboard"));
    add("Logs", alert->annotation("logs_url"));
  }
  add("logbell", context.external_url);
}

// What it is in one sentence, and the figures: also what a phone shows of it in its list.
void say_alert(Mail& mail, const rules::Notification& notification, const rules::Alert& alert,
               const rules::Labels& common, const Attempt& attempt) {
  MailText what(summary_of(alert), kMaxMailSummary, Lines::kKeep);
  const MailText which(labels_text(labels_beyond(alert.labels, common)), kMaxMailField);
  if (what.empty() && which.empty()) what = MailText(alert.name(), kMaxMailSummary);
  mail.say(!notification.drill.empty() ? Literal("DRILL: ")
           : alert.is_firing()         ? Literal("FIRING: ")
                                       : Literal("RESOLVED: "));
  mail.say(what);
  if (!which.empty()) mail.say((what.empty() ? MailText() : MailText(Literal("\n"))) + which);
  mail.say(MailText(Literal("\n")) + MailText(facts_of(alert, attempt), kMaxMailField) + MailText("\n"));
}

void say_single(Mail& mail, const rules::Notification& notification, const Attempt& attempt,
                const SinkContext& context) {
  const rules::Alert& alert = notification.alerts.front();
  say_alert(mail, notification, alert, alert.labels, attempt);
  const std::string_view description = alert.annotation("description");
  if (!description.empty() && description != summary_of(alert))
    mail.say(Literal("\n") + MailText(description, kMaxMailDescription, Lines::kKeep) + Literal("\n"));
  // What is over needs no evidence any more.
  if (alert.is_firing()) say_evidence(mail, alert);
  say_links(mail, &alert, notification, attempt, context);
  mail.say(Literal("\n") +
           MailText(labels_text(alert.labels.without({"alertname", "severity"})), kMaxMailField) +
           Literal("\n"));
  if (!alert.expr.empty() && alert.is_firing())
    mail.say(Literal("Rule: ") + MailText(alert.expr, kMaxMailField) + Literal("\n"));
}

// All of them: the dispatcher puts a hundred into one message at most.
void say_several(Mail& mail, const rules::Notification& notification, const Attempt& attempt,
                 const SinkContext& context) {
  const rules::Labels common = notification.common_labels();
  for (const rules::Alert& alert : notification.alerts) {
    say_alert(mail, notification, alert, common, attempt);
    mail.say("\n");
  }
  mail.say(Literal("All: ") + MailText(labels_text(common), kMaxMailField) + Literal("\n"));
  const rules::Alert& first = notification.alerts.front();
  if (first.is_firing()) say_evidence(mail, first);
  say_links(mail, &first, notification, attempt, context);
}

// --- what an answer means (RFC 5321 §4.2.1: 4yz passes, 5yz does not; SINKS.md §10)

enum class Step { kOpen, kLogin, kSender, kRecipient, kMessage };
constexpr int kAnyStep = -1;

struct AnswerRow {
  int step;
  int from;
  int to;
  Outcome::Kind kind;
  Reason reason;
  bool sink_is_dead;
};
constexpr AnswerRow row(Step step, int from, int to, Outcome::Kind kind, Reason reason, bool dead = false) {
  return {static_cast<int>(step), from, to, kind, reason, dead};
}
constexpr Outcome::Kind kRetry = Outcome::Kind::kRetry;
constexpr Outcome::Kind kRejected = Outcome::Kind::kRejected;
constexpr std::array<AnswerRow, 9> kAnswers{{
    {kAnyStep, 400, 499, kRetry, Reason::kServerError, false},  // 421, 450 (greylisted), 451, 452, 454
    {kAnyStep, 530, 530, kRejected, Reason::kAuth, true},       // authentication, or STARTTLS, is asked for
    row(Step::kOpen, 500, 599, kRejected, Reason::kGone, true),
    row(Step::kLogin, 500, 599, kRejected, Reason::kAuth, true),          // 535 above all
    row(Step::kSender, 552, 552, kRejected, Reason::kBadRequest, false),  // too large
    row(Step::kSender, 500, 599, kRejected, Reason::kAuth, true),         // not from this address
    row(Step::kRecipient, 500, 599, kRejected, Reason::kGone, true),
    row(Step::kMessage, 500, 599, kRejected, Reason::kBadRequest, false),  // 552, 554
    {kAnyStep, 0, 999, kRetry, Reason::kBadResponse, false},
}};

Outcome outcome_of(Step step, const SmtpResult& result, std::string detail) {
  if (result.kind == SmtpResult::Kind::kLost) return Outcome::unknown(std::move(detail));
  if (result.kind == SmtpResult::Kind::kNotSent) {
    if (result.permanent) return Outcome::rejected(result.reason, std::move(detail), true);
    return Outcome::retry(result.reason, std::move(detail), result.retry_after);
  }
  const auto found = std::find_if(kAnswers.begin(), kAnswers.end(), [&](const AnswerRow& r) {
    return (r.step == kAnyStep || r.step == static_cast<int>(step)) && result.code >= r.from &&
           result.code <= r.to;
  });
  if (found == kAnswers.end()) return Outcome::retry(Reason::kBadResponse, std::move(detail));
  if (found->kind == kRejected)
    return Outcome::rejected(found->reason, std::move(detail), found->sink_is_dead);
  return Outcome::retry(found->reason, std::move(detail));
}

std::string join(const std::vector<std::string>& words) {
  return fmt::format("{}", fmt::join(words, "; "));
}

// A recipient whom the server does not take.
struct Refusal {
  const MailAddress* to;
  SmtpResult answer;
};

// To all of them over the open connection. `too_large`: refused for what it is; less of it may pass.
Outcome EmailSink::send(const rules::Notification& notification, const Attempt& attempt, bool& too_large) {
  std::vector<const MailAddress*> recipients(settings_.envelope.to.size());
  std::transform(settings_.envelope.to.begin(), settings_.envelope.to.end(), recipients.begin(),
                 [](const MailAddress& to) { return &to; });
  Outcome all = send(notification, attempt, recipients, too_large);
  while (all.kind == Outcome::Kind::kDelivered && !recipients.empty()) {
    const std::vector<const MailAddress*> rest = recipients;
    bool ignored = false;
    const Outcome more = send(notification, attempt, recipients, ignored);
    std::string left = more.detail;
    if (more.kind == Outcome::Kind::kDelivered && more.detail.empty()) continue;
    if (more.kind != Outcome::Kind::kDelivered) {
      std::vector<std::string> names(rest.size());
      std::transform(rest.begin(), rest.end(), names.begin(), [](const MailAddress* to) { return to->str(); });
      left = fmt::format("not told: {} ({})", join(names), more.detail);
      recipients.clear();
    }
    all.detail += (all.detail.empty() ? "" : "; ") + left;
  }
  return all;
}

// One transaction. What is left of `recipients`: those whom the server wants in another.
Outcome EmailSink::send(const rules::Notification& notification, const Attempt& attempt,
                        std::vector<const MailAddress*>& recipients, bool& too_large) {
  const auto failed = [&](Step step, std::string_view asked, const SmtpResult& result) {
    Outcome outcome = outcome_of(step, result, fmt::format("{} -> {}", asked, describe(result)));
    too_large = outcome.kind == kRejected && outcome.reason == Reason::kBadRequest;
    return outcome;
  };
  const SmtpResult sender = client_.command(sender_line());
  if (!sender.is(200, 299)) return failed(Step::kSender, "MAIL FROM", sender);

  std::vector<Refusal> refusals;
  std::size_t taken = 0;
  for (const MailAddress* to : recipients) {
    SmtpResult answer = client_.command(recipient_line(*to));
    if (answer.is(200, 299)) {
      ++taken;
    } else if (answer.kind != SmtpResult::Kind::kAnswered || answer.code == 421) {
      return failed(Step::kRecipient, "RCPT TO " + to->str(), answer);  // the connection is gone
    } else {
      refusals.push_back({to, std::move(answer)});
    }
  }
  // Whom one transaction has no room for gets the next (RFC 5321 §4.5.3.1.10).
  recipients.clear();
  if (taken > 0) {
    for (const Refusal& refusal : refusals) {
      if (refusal.answer.code == kTooManyRecipients) recipients.push_back(refusal.to);
    }
  }
  std::vector<std::string> not_told;
  not_told.reserve(refusals.size());
  for (const Refusal& refusal : refusals) {
    if (std::find(recipients.begin(), recipients.end(), refusal.to) == recipients.end())
      not_told.push_back(fmt::format("{} ({})", refusal.to->str(), describe(refusal.answer)));
  }
  if (taken == 0) {
    // One of whom the server is not sure is reason enough to come again.
    const auto passing = std::find_if(refusals.begin(), refusals.end(),
                                      [](const Refusal& refusal) { return refusal.answer.code < 500; });
    return outcome_of(Step::kRecipient, (passing != refusals.end() ? *passing : refusals.front()).answer,
                      "no recipient is taken: " + join(not_told));
  }
  const SmtpResult ready = client_.command("DATA");
  if (!ready.is(300, 399)) return failed(Step::kMessage, "DATA", ready);
  const Mail mail = email_message(notification, attempt, context_, settings_.envelope, not_told);
  const SmtpResult end = client_.data(mail.dump());
  if (!end.is(200, 299)) return failed(Step::kMessage, "the message", end);
  Outcome outcome = Outcome::delivered(fmt::format(
      "{}, as {}", describe(end), Mail::id("logbell", notification.key, settings_.envelope.from)));
  outcome.truncated = mail.was_cut();
  if (!not_told.empty()) outcome.detail = "not told: " + join(not_told);
  return outcome;
}

Outcome EmailSink::deliver(const rules::Notification& notification, const Attempt& attempt) {
  const SmtpResult open = client_.open(attempt.timeout);
  if (!open.is(200, 299)) {
    return outcome_of(client_.at() == "AUTH" ? Step::kLogin : Step::kOpen, open,
                      fmt::format("{} -> {}", client_.at(), describe(open)));
  }
  bool too_large = false;
  std::string why;
  const std::size_t limit = client_.size_limit();
  if (limit > 0) {
    const std::size_t size =
        email_message(notification, attempt, context_, settings_.envelope, {}).dump().size();
    too_large = size + kSpareBytes > limit;
    if (too_large) why = fmt::format("the mail server takes {} bytes, the whole message has {}", limit, size);
  }
  Outcome outcome;
  if (!too_large) {
    outcome = send(notification, attempt, too_large);
    if (!too_large) {
      client_.close();
      return outcome;
    }
    why = "the whole message was refused: " + outcome.detail;
  }
  // Too large, or with something in it that a filter does not like: what fires must arrive all the same.
  rules::Notification less = notification;
  for (rules::Alert& alert : less.alerts)
    alert = in_short(std::move(alert));
  // Where a transaction failed the next one begins anew (RFC 5321 §3.3); over another connection where the
  // server closed this one.
  if (!client_.command("RSET").is(200, 299)) {
    const rules::Duration left = client_.left();
    client_.close();
    const SmtpResult again = client_.open(left);
    if (!again.is(200, 299))
      return outcome.detail.empty() ? outcome_of(Step::kOpen, again, fmt::format("{} -> {}", client_.at(), describe(again)))
                                    : outcome;
  }
  bool still_too_large = false;
  outcome = send(less, attempt, still_too_large);
  client_.close();
  if (outcome.kind != Outcome::Kind::kDelivered) return outcome;
  outcome.detail = "sent in short: " + why + (outcome.detail.empty() ? "" : "; " + outcome.detail);
  outcome.truncated = true;
  return outcome;
}

// --- is anybody there

constexpr Verification::Verdict kLive = Verification::Verdict::kLive;
constexpr Verification::Verdict kDead = Verification::Verdict::kDead;
constexpr std::array<Expectation, 2> kOpenAnswers{{
    {530, 530, "", kDead, ProofLevel::kNetwork, Reason::kAuth, "RFC 4954 §6: it asks who we are"},
    {500, 599, "", kDead, ProofLevel::kNetwork, Reason::kGone, "RFC 5321 §3.1: 554 for no service here"},
}};
constexpr std::array<Expectation, 1> kLoginAnswers{{
    {500, 599, "", kDead, ProofLevel::kNetwork, Reason::kAuth,
     "RFC 4954 §6: 535 for a wrong password; 454 passes"},
}};
constexpr std::array<Expectation, 2> kSenderAnswers{{
    {200, 299, "", kLive, ProofLevel::kCredential, Reason::kOk, "RFC 5321 §4.3.2"},
    {500, 599, "", kDead, ProofLevel::kCredential, Reason::kAuth,
     "RFC 5321 §4.3.2: 550, 553 for this sender"},
}};
constexpr std::array<Expectation, 3> kRecipientAnswers{{
    {200, 299, "", kLive, ProofLevel::kDestination, Reason::kOk,
     "RFC 5321 §4.3.2; some take every name and send it back later"},
    {530, 530, "", kDead, ProofLevel::kCredential, Reason::kAuth, "RFC 4954 §6"},
    {500, 599, "", kDead, ProofLevel::kCredential, Reason::kGone,
     "RFC 5321 §4.3.2: 550 no such mailbox, 551, 553; 450 and 451 pass (greylists)"},
}};

// As for a message, up to the last recipient; then it is called off.
Verification EmailSink::ask(const Attempt& attempt) {
  const SmtpResult open = client_.open(attempt.timeout);
  if (!open.is(200, 299)) {
    const std::span<const Expectation> table =
        client_.at() == "AUTH" ? std::span<const Expectation>(kLoginAnswers) : kOpenAnswers;
    return judge(client_.at(), open, table, hide_);
  }
  const SmtpResult sender = client_.command(sender_line());
  Verification found = judge("MAIL FROM", sender, kSenderAnswers, hide_);
  if (found.verdict != kLive) {
    client_.close();
    return found;
  }
  std::vector<std::string> refused;
  std::optional<Verification> dead;
  std::optional<Verification> unknown;
  std::size_t taken = 0;
  for (const MailAddress& to : settings_.envelope.to) {
    const SmtpResult answer = client_.command(recipient_line(to));
    Verification one = judge("RCPT TO " + to.str(), answer, kRecipientAnswers, hide_);
    if (one.verdict == kLive) {
      ++taken;
      found = std::move(one);
      continue;
    }
    refused.push_back(one.evidence);
    if (one.verdict == kDead) {
      if (!dead) dead = std::move(one);
      continue;
    }
    one.retry_after = std::max(one.retry_after.value_or(rules::Duration(0)), kRecipientsAgain);
    unknown = std::move(one);
    if (answer.kind != SmtpResult::Kind::kAnswered || answer.code == 421) break;
  }
  static_cast<void>(client_.command("RSET"));
  const bool encrypted = client_.is_encrypted();
  client_.close();
  const std::string count = fmt::format("{} of {} recipients", taken, settings_.envelope.to.size());
  if (unknown) {
    unknown->evidence = join(refused);
    return *unknown;
  }
  if (taken == 0) {
    dead->evidence = join(refused);
    return *dead;
  }
  found.evidence = fmt::format("RCPT TO {} -> taken", count);
  if (!refused.empty()) {
    found.reason = Reason::kPartlyRefused;
    found.evidence = fmt::format("{} are taken, the others refused: {}", count, join(refused));
  }
  if (!encrypted) found.evidence += "; in plain text";
  return found;
}

// --- the configuration

class EmailConfig final : public SinkConfig {
 public:
  explicit EmailConfig(EmailSettings settings) : settings_(std::move(settings)) {}
  std::unique_ptr<Sink> build(std::size_t /*lane*/, const SinkContext& context) const override {
    return std::make_unique<EmailSink>(settings_, context);
  }
  std::vector<Secret> secrets() const override { return settings_.secrets(); }
  std::string destination() const override {
    const std::vector<MailAddress>& to = settings_.envelope.to;
    std::string words = to.front().str();
    if (to.size() > 1) words += fmt::format(" and {} more", to.size() - 1);
    return fmt::format("{} by {}", words, settings_.smtp.server.shown);
  }
  std::string words(const rules::Notification& notification, const Attempt& attempt,
                    const SinkContext& context) const override {
    return subject_of(notification, context) + "\n" +
           email_message(notification, attempt, context, settings_.envelope, {}).text();
  }

 private:
  EmailSettings settings_;
};

std::string why_no_address(std::string_view text) {
  if (std::any_of(text.begin(), text.end(), [](unsigned char c) { return c >= 0x80; }))
    return "it has letters beyond ASCII in it";
  if (text.find(',') != std::string_view::npos) return "there are several in one text";
  if (text.find('@') == std::string_view::npos) return "it has no @";
  return "it has something in it that an address cannot have";
}

class EmailFields {
 public:
  explicit EmailFields(FieldReader& fields) : fields_(fields) {}
  // Null when problems were recorded.
  std::unique_ptr<SinkConfig> read();

 private:
  void wrong(std::string_view key, std::string reason, std::string fix) {
    fields_.error(key, std::move(reason), std::move(fix));
    good_ = false;
  }
  // What a variable holds that is not known now can be anything.
  bool is_assumed(std::string_view text) const {
    return fields_.assume_secrets() && text.find('@') == text.npos;
  }
  std::optional<MailAddress> address(std::string_view key, std::string_view text);
  std::vector<MailAddress> recipients();
  void read_sender(std::optional<MailAddress>& from, MailWords& name);
  void read_server(SmtpOptions& smtp);
  void read_login(SmtpOptions& smtp);
  void check_encryption(const SmtpOptions& smtp, bool written);

  FieldReader& fields_;
  bool good_ = true;
};

std::optional<MailAddress> EmailFields::address(std::string_view key, std::string_view text) {
  if (is_assumed(text)) return MailAddress::from("assumed@assumed.invalid");
  std::optional<MailAddress> found = MailAddress::from(text);
  if (!found) {
    wrong(key,
          fmt::format("\"{}\" is no mail address: {}", rules::clean_text(text, 100), why_no_address(text)),
          "write addresses as ops@example.com, each as an item: [ops@example.com, oncall@example.com]");
  }
  return found;
}

std::vector<MailAddress> EmailFields::recipients() {
  std::vector<MailAddress> all;
  const std::optional<std::vector<std::string>> written = fields_.text_list("to", true);
  if (!written || written->empty()) {
    if (written) wrong("to", "nobody is named", "name at least one address");
    good_ = false;
    return all;
  }
  for (const std::string& text : *written) {
    std::optional<MailAddress> to = address("to", text);
    if (!to) continue;
    if (!is_assumed(text) && std::find(all.begin(), all.end(), *to) != all.end()) {
      wrong("to", to->str() + " is named twice", "name it once");
      continue;
    }
    all.push_back(*std::move(to));
  }
  if (all.size() > kMaxRecipients) {
    wrong("to",
          fmt::format("{} addresses are more than the {} that every mail server takes at once", all.size(),
                      kMaxRecipients),
          "name the address of a mailing list");
  }
  return all;
}

// "logbell@example.com", or "Orders alerts <logbell@example.com>".
void EmailFields::read_sender(std::optional<MailAddress>& from, MailWords& name) {
  static constexpr std::size_t kMaxPerson = 100;
  const std::optional<std::string> written = fields_.text("from", true);
  if (!written) {
    good_ = false;
    return;
  }
  std::string_view text = *written;
  std::string_view person = "logbell";
  const std::size_t bracket = text.rfind(" <");
  if (bracket != std::string_view::npos && text.back() == '>') {
    person = text.substr(0, bracket);
    if (person.size() > 1 && person.front() == '"' && person.back() == '"')
      person = person.substr(1, person.size() - 2);
    text = text.substr(bracket + 2, text.size() - bracket - 3);
  }
  from = address("from", text);
  name = MailWords(person, kMaxPerson);
}

void EmailFields::read_server(SmtpOptions& smtp) {
  const std::optional<std::string> written = fields_.text("server", true);
  if (!written) {
    good_ = false;
    return;
  }
  rules::Result<Url> url = parse_mail_server(*written);
  if (!url && fields_.assume_secrets()) url = parse_mail_server("smtps://assumed.invalid");
  if (!url) {
    wrong("server", "as a mail server: " + url.error().message,
          "write smtp://host:587 (STARTTLS) or smtps://host:465, and nothing else; who logs in stands in "
          "username "
          "and password");
    return;
  }
  if (is_refused_host(fields_, "server", *url)) good_ = false;
  smtp.server = *std::move(url);
}

void EmailFields::read_login(SmtpOptions& smtp) {
  const std::optional<std::string> username = fields_.text("username", false);
  const std::optional<Secret> password = fields_.secret("password", username.has_value());
  if (password && !username) wrong("password", "there is a password but no username", "add username:");
  if (username && !password) good_ = false;
  if (username && password) {
    smtp.username = *username;
    smtp.password = *password;
  }
  if (const std::optional<std::string> hello = fields_.text("hello", false)) {
    const bool is_name = !hello->empty() && std::all_of(hello->begin(), hello->end(), [](char c) {
      return rules::is_word(c) || std::string_view(".-[]:").find(c) != std::string_view::npos;
    });
    if (!is_name)
      wrong("hello", "\"" + rules::clean_text(*hello, 100) + "\" is no host's name",
            "write it as alerts.example.com");
    smtp.hello = *hello;
  }
}

void EmailFields::check_encryption(const SmtpOptions& smtp, bool written) {
  if (smtp.server.scheme == "smtps") {
    if (written && smtp.starttls != StartTls::kNone)
      wrong("starttls", "smtps:// is encrypted from the first byte, there is nothing to start",
            "remove starttls:, or write smtp:// and the port where the server starts in plain text (587)");
    return;
  }
  if (smtp.password.empty() || smtp.starttls == StartTls::kRequired || smtp.server.is_loopback()) return;
  wrong("starttls", "the password could cross the network in plain text",
        "write starttls: required, or smtps://; without encryption nobody logs in but on loopback");
}

std::unique_ptr<SinkConfig> EmailFields::read() {
  std::vector<MailAddress> to = recipients();
  std::optional<MailAddress> from;
  MailWords name;
  read_sender(from, name);
  SmtpOptions smtp;
  read_server(smtp);
  read_login(smtp);
  const std::optional<std::string> starttls = fields_.text("starttls", false);
  if (starttls == "none") {
    smtp.starttls = StartTls::kNone;
  } else if (starttls == "if_available") {
    smtp.starttls = StartTls::kIfAvailable;
  } else if (starttls && starttls != "required" && !fields_.assume_secrets()) {
    wrong("starttls",
          "\"" + rules::clean_text(*starttls, 100) + "\" is none of required, if_available and none",
          "leave it out for required: nothing is sent in plain text");
  }
  std::optional<HttpOptions> way = read_http_options(fields_);
  if (!smtp.server.host.empty()) check_encryption(smtp, starttls.has_value());
  if (!good_ || !way || !from) return nullptr;
  return std::make_unique<EmailConfig>(
      EmailSettings{{std::move(name), *std::move(from), std::move(to)}, std::move(smtp), *std::move(way)});
}

}  // namespace

Mail email_message(const rules::Notification& notification, const Attempt& attempt,
                   const SinkContext& context, const MailEnvelope& envelope,
                   const std::vector<std::string>& not_told) {
  Mail mail;
  mail.set("From", envelope.name, envelope.from).set("To", envelope.to);
  mail.set("Subject", MailWords(subject_of(notification, context), kMaxSubject));
  mail.set("Date", attempt.now);
  mail.set_id("Message-ID", "logbell", notification.key, envelope.from);
  // Nobody needs to have kept the first of them: mail programs join what refers to the same.
  for (const Literal name : {Literal("In-Reply-To"), Literal("References")})
    mail.set_id(name, "thread", thread_of(notification), envelope.from);
  // Nobody's absence is answered (RFC 3834, and Exchange's own).
  mail.set("Auto-Submitted", "auto-generated").set("X-Auto-Response-Suppress", "OOF, AutoReply");
  if (tone_of(notification) == Tone::kCritical) mail.set("Importance", "high");
  mail.set("X-Logbell-Key", HeaderText(notification.key, kMaxKey));

  std::vector<std::string> notes = delivery_notes(notification, attempt);
  for (const std::string& who : not_told)
    notes.push_back("The mail server refuses " + who + ": nobody is told there.");
  for (const std::string& note : notes)
    mail.say(Literal("Note: ") + MailText(note, kMaxNote) + Literal("\n"));
  if (!notes.empty()) mail.say("\n");
  if (!notification.text.empty())
    mail.say(MailText(notification.text, kMaxMailText, Lines::kKeep) + Literal("\n"));
  if (notification.alerts.size() == 1) {
    say_single(mail, notification, attempt, context);
  } else if (!notification.alerts.empty()) {
    say_several(mail, notification, attempt, context);
  } else {
    say_links(mail, nullptr, notification, attempt, context);
  }
  std::string footer = "logbell · delivery " + notification.key.substr(0, 16);
  if (!notification.group_labels.empty()) footer += " · group " + notification.group_labels.format();
  mail.say(Literal("\n-- \n") + MailText(footer, 500) + Literal("\n"));
  return mail;
}

std::unique_ptr<SinkConfig> parse_email(FieldReader& fields) {
  return EmailFields(fields).read();
}

}  // namespace logbell::sinks

#include "engine/run/acknowledge.h"

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include <fmt/format.h>
#include <unistd.h>

#include "engine/run/html.h"
#include "rules/json.h"
#include "rules/redact.h"
#include "rules/text.h"
#include "sinks/message.h"
#include "sinks/sign.h"

namespace logbell::engine {

using rules::Duration;
using rules::Fingerprint;
using rules::Json;
using rules::Timestamp;

namespace {

constexpr std::size_t kKeyBytes = 32;
// Of HMAC-SHA256: half of it, which nobody guesses (RFC 2104 §5), so that links are no longer than needed.
constexpr std::size_t kSealBytes = 16;
constexpr std::size_t kWhomBytes = 8;
constexpr char kVersion = 1;

// --- text and bytes

constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

// RFC 4648 §5, without padding.
std::string to_base64url(std::string_view bytes) {
  std::string out;
  std::uint32_t bits = 0;
  int count = 0;
  for (const char c : bytes) {
    bits = bits << 8U | static_cast<unsigned char>(c);
    count += 8;
    while (count >= 6) {
      count -= 6;
      out += kAlphabet[bits >> static_cast<unsigned>(count) & 0x3FU];
    }
  }
  if (count > 0) out += kAlphabet[bits << static_cast<unsigned>(6 - count) & 0x3FU];
  return out;
}

std::optional<std::string> from_base64url(std::string_view text) {
  std::string out;
  std::uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    const std::size_t value = kAlphabet.find(c);
    if (value == std::string_view::npos) return std::nullopt;
    bits = bits << 6U | static_cast<std::uint32_t>(value);
    count += 6;
    if (count < 8) continue;
    count -= 8;
    out += static_cast<char>(bits >> static_cast<unsigned>(count) & 0xFFU);
  }
  // One way to write it.
  if (to_base64url(out) != text) return std::nullopt;
  return out;
}

std::string hex(std::string_view bytes) {
  std::string out;
  for (const char c : bytes)
    out += fmt::format("{:02x}", static_cast<unsigned char>(c));
  return out;
}

void put(std::string& out, std::uint64_t value) {
  for (int shift = 56; shift >= 0; shift -= 8)
    out += static_cast<char>(value >> static_cast<unsigned>(shift) & 0xFFU);
}

void put(std::string& out, const std::string& text) {
  put(out, static_cast<std::uint64_t>(text.size()));
  out += text;
}

// What put() wrote, in order; nothing of what is not there.
class Bytes {
 public:
  explicit Bytes(std::string_view bytes) : rest_(bytes) {}
  std::string_view take(std::uint64_t count) {
    good_ = good_ && count <= rest_.size();
    if (!good_) return {};
    const std::string_view taken = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return taken;
  }
  std::uint64_t number() {
    std::uint64_t value = 0;
    for (const char c : take(8))
      value = value << 8U | static_cast<unsigned char>(c);
    return value;
  }
  std::string text() { return std::string(take(number())); }
  bool empty() const { return rest_.empty(); }
  bool good() const { return good_; }

 private:
  std::string_view rest_;
  bool good_ = true;
};

// --- the page

// No script, no style, nothing from elsewhere; the address, which is a secret, goes to nobody.
HttpResponse page(int status, std::string_view title, const std::string& body) {
  HttpResponse response;
  response.status = status;
  response.content_type = "text/html; charset=utf-8";
  response.body = fmt::format(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
      "<meta name=\"viewport\" content=\"width=device-width\"><meta name=\"robots\" content=\"noindex\">"
      "<title>{0}</title></head><body>\n<h1>{0}</h1>\n{1}</body></html>\n",
      html(title), body);
  response.headers.emplace_back(
      "Content-Security-Policy",
      "default-src 'none'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'");
  response.headers.emplace_back("Referrer-Policy", "no-referrer");
  return response;
}

HttpResponse refusal(int status, std::string_view words) {
  return page(status, "Not acknowledged", fmt::format("<p>{}</p>\n", html(words)));
}

std::string who_words(const Acknowledgements::Said& said) {
  return said.who.empty() ? "Somebody" : said.who;
}

std::string said_words(const Acknowledgements::Said& said) {
  return fmt::format("{} said so at {}, {} after it was sent.", who_words(said),
                     rules::format_rfc3339(said.at), sinks::format_span(said.took));
}

// "QueueUnreachable, NoData and 3 more".
std::string names_of(const Acknowledgements::Message& message, const rules::Plan& plan) {
  constexpr std::size_t kNamed = 3;
  const std::set<Fingerprint> wanted(message.rules.begin(), message.rules.end());
  std::set<std::string> names;
  for (const rules::AlertingRule& rule : plan.rules) {
    if (wanted.count(rule.identity()) != 0) names.insert(rule.name);
  }
  std::string words;
  std::size_t count = 0;
  for (const std::string& name : names) {
    if (++count <= kNamed) words += (words.empty() ? "" : ", ") + name;
  }
  if (count > kNamed) words += fmt::format(" and {} more", count - kNamed);
  return words;
}

std::string about_words(const Acknowledgements::Message& message) {
  return fmt::format("{} went to {} at {}.", message.drill.empty() ? "This message" : "This drill",
                     message.sink, rules::format_rfc3339(message.sent_at));
}

std::string form_value(std::string_view body, std::string_view name) {
  for (const auto& [key, value] : parse_form(body)) {
    if (key == name) return value;
  }
  return {};
}

}  // namespace

Acknowledgements::Acknowledgements(Options options, const std::vector<StoredEntry>& restored)
    : options_(std::move(options)) {
  LOGBELL_CHECK(options_.clock != nullptr && options_.store && options_.tell && options_.count);
  std::vector<StoredEntry> changed;
  const MutexLock lock(mutex_);
  for (const StoredEntry& entry : restored) {
    if (!entry.value) continue;
    if (entry.key == kKeyEntry) {
      if (entry.value->size() == 2 * kKeyBytes) key_ = rules::Secret(*entry.value);
      continue;
    }
    if (entry.key.compare(0, kPrefix.size(), kPrefix) != 0) continue;
    const auto json = Json::parse(*entry.value);
    const Fingerprint id = rules::parse_fingerprint(std::string_view(entry.key).substr(kPrefix.size()));
    if (!json || id == 0) continue;
    remember(id, {rules::from_stored_ms((*json)["sent"].integer()),
                  {std::string((*json)["who"].string()), rules::from_stored_ms((*json)["at"].integer()),
                   Duration((*json)["took"].integer())}});
  }
  if (key_.empty()) {
    std::array<char, kKeyBytes> chance{};
    LOGBELL_CHECK(::getentropy(chance.data(), chance.size()) == 0);
    key_ = rules::Secret(hex({chance.data(), chance.size()}));
    changed.push_back({std::string(kKeyEntry), key_.reveal()});
  }
  forget_old(changed);
  if (!changed.empty()) options_.store(std::move(changed));
}

std::string Acknowledgements::sealed(std::string_view text) const {
  return sinks::hmac(key_, fmt::format("logbell acknowledge\n{}", text)).substr(0, kSealBytes);
}

// The settings' own fingerprint is of secrets, and no secret itself: who can guess one could check it.
std::string Acknowledgements::seal_of(Fingerprint settings) const {
  return sinks::hmac(key_, "logbell sink\n" + rules::format_fingerprint(settings)).substr(0, kWhomBytes);
}

std::string Acknowledgements::token(const rules::Notification& notification, Fingerprint settings,
                                    Timestamp sent_at) const {
  std::set<Fingerprint> rules;
  const std::vector<std::string_view> names = notification.names();
  const std::set<std::string_view> named(names.begin(), names.end());
  for (const rules::Alert& alert : notification.alerts) {
    if (named.count(alert.name()) == 0) continue;  // nobody sees that it was in it
    if (alert.is_firing() && alert.rule != 0 && rules.size() < kMaxTokenRules) rules.insert(alert.rule);
  }
  if (rules.empty()) return {};
  std::string about;
  for (const Fingerprint rule : rules)
    put(about, rule);
  std::string text(1, kVersion);
  put(text, rules::hash_bytes(notification.key + "\n" + about));
  put(text, static_cast<std::uint64_t>(std::max<std::int64_t>(0, rules::to_unix_ms(sent_at))));
  text += seal_of(settings);
  put(text, notification.sink);
  put(text, notification.drill);
  text += about;
  return std::string(kMark) + to_base64url(text + sealed(text));
}

Acknowledgements::Reading Acknowledgements::read(std::string_view token, const rules::Plan& plan) const {
  Reading reading;
  if (token.size() > kMaxToken || token.substr(0, kMark.size()) != kMark) return reading;
  const std::optional<std::string> whole = from_base64url(token.substr(kMark.size()));
  if (!whole || whole->size() <= kSealBytes) return reading;
  const std::string_view text = std::string_view(*whole).substr(0, whole->size() - kSealBytes);
  if (!sinks::same_secret(sealed(text), std::string_view(*whole).substr(text.size()))) return reading;

  Bytes bytes(text);
  Message& message = reading.message;
  if (bytes.take(1) != std::string_view(&kVersion, 1)) return reading;
  message.id = bytes.number();
  message.sent_at = rules::from_stored_ms(static_cast<std::int64_t>(bytes.number()));
  const std::string whom(bytes.take(kWhomBytes));
  message.sink = bytes.text();
  message.drill = bytes.text();
  while (bytes.good() && !bytes.empty())
    message.rules.push_back(bytes.number());
  if (!bytes.good()) return reading;

  if (options_.clock->now() - message.sent_at > kValid) {
    reading.kind = Reading::Kind::kExpired;
    return reading;
  }
  std::set<Fingerprint> rules;
  for (const rules::AlertingRule& rule : plan.rules)
    rules.insert(rule.identity());
  std::erase_if(message.rules, [&](const Fingerprint rule) { return rules.count(rule) == 0; });
  const auto sink = plan.sinks.find(message.sink);
  const bool stale =
      message.rules.empty() || sink == plan.sinks.end() || seal_of(sink->second.settings) != whom;
  reading.kind = stale ? Reading::Kind::kStale : Reading::Kind::kGood;
  const MutexLock lock(mutex_);
  const auto known = known_.find(message.id);
  if (known != known_.end()) reading.said = known->second.said;
  return reading;
}

// False: it is known already.
bool Acknowledgements::remember(Fingerprint id, const Known& known) {
  if (!known_.try_emplace(id, known).second) return false;
  by_age_.emplace(known.sent_at, id);
  return true;
}

void Acknowledgements::forget_old(std::vector<StoredEntry>& gone) {
  const Timestamp now = options_.clock->now();
  while (!by_age_.empty()) {
    const auto [sent_at, id] = *by_age_.begin();
    const bool old = now - sent_at > kValid;
    if (!old && known_.size() <= kMaxAcknowledged) return;
    if (!old) ++forgotten_;
    by_age_.erase(by_age_.begin());
    known_.erase(id);
    gone.push_back({std::string(kPrefix) + rules::format_fingerprint(id), std::nullopt});
  }
}

bool Acknowledgements::acknowledge(const Message& message, std::string_view who) {
  const Timestamp now = options_.clock->now();
  std::string name = rules::clean_text(who, kMaxPersonBytes);
  name.erase(0, name.find_first_not_of(' '));
  name.erase(name.find_last_not_of(' ') + 1);
  const Said said{std::move(name), now, std::max(Duration(0), now - message.sent_at)};
  std::vector<StoredEntry> changed;
  {
    const MutexLock lock(mutex_);
    if (!remember(message.id, {message.sent_at, said})) return false;
    Json json;
    json.set("sent", rules::to_unix_ms(message.sent_at))
        .set("at", rules::to_unix_ms(now))
        .set("took", said.took.count())
        .set("who", said.who);
    changed.push_back({std::string(kPrefix) + rules::format_fingerprint(message.id), json.dump()});
    forget_old(changed);
  }
  options_.store(std::move(changed));
  options_.tell(message, said);
  return true;
}

HttpResponse Acknowledgements::answer(const HttpRequest& request, const rules::Plan* plan) {
  const bool reads = request.method == "GET" || request.method == "HEAD";
  if (!reads && request.method != "POST") {
    HttpResponse response = refusal(405, "This address is read, and its button pressed.");
    response.headers.emplace_back("Allow", "GET, HEAD, POST");
    return response;
  }
  if (plan == nullptr) return refusal(503, "logbell does not run here just now. Please try again later.");
  if (request.body.size() > kMaxPostedBytes) return refusal(413, "That is too long for a name.");
  const Reading reading = read(std::string_view(request.path).substr(kPath.size()), *plan);
  const Message& message = reading.message;
  switch (reading.kind) {
    case Reading::Kind::kWrong:
      options_.count("wrong");
      return refusal(403, "This link is not one of this logbell's, or not the whole of it.");
    case Reading::Kind::kExpired:
      options_.count("expired");
      return refusal(410,
                     fmt::format("This link was good for {} days after its message, which was sent at {}.",
                                 std::chrono::duration_cast<std::chrono::hours>(kValid).count() / 24,
                                 rules::format_rfc3339(message.sent_at)));
    case Reading::Kind::kStale:
      options_.count("stale");
      return refusal(
          410,
          "The rule or the sink of this message has been changed or removed since: there is nothing "
          "left that it could prove.");
    case Reading::Kind::kGood:
      break;
  }
  const std::string names = names_of(message, *plan);
  std::optional<Said> said = reading.said;
  if (!reads && !said) {
    if (acknowledge(message, form_value(request.body, "name"))) {
      options_.count("acknowledged");
      return page(
          200, "Acknowledged: " + names,
          "<p>Thank you. It is written down that this message was read, when, and by whom if you said "
          "so. Nothing is silenced or resolved by it.</p>\n");
    }
    said = read(std::string_view(request.path).substr(kPath.size()), *plan).said;
  }
  if (said) {
    if (!reads) options_.count("repeated");
    return page(200, "Acknowledged already: " + names,
                fmt::format("<p>{}</p>\n<p>{}</p>\n", html(about_words(message)), html(said_words(*said))));
  }
  return page(
      200, names,
      fmt::format(
          "<p>{}</p>\n<form method=\"post\">\n"
          "<p><label>Your name, if you like: <input name=\"name\" maxlength=\"60\" "
          "autocomplete=\"name\"></label></p>\n<p><button>{}</button></p>\n</form>\n"
          "<p>This says that the message was read, and by whom. It silences and resolves nothing.</p>\n",
          html(about_words(message)), html(sinks::kAcknowledge.view())));
}

std::uint64_t Acknowledgements::forgotten() const {
  const MutexLock lock(mutex_);
  return forgotten_;
}

}  // namespace logbell::engine

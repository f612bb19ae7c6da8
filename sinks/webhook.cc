#include "sinks/webhook.h"

#include <algorithm>
#include <cctype>
#include <utility>

#include "sinks/http.h"

namespace logbell::sinks {
namespace {

using rules::Secret;

struct WebhookSettings {
  Secret url;
  Secret secret;  // signs; may be empty
  std::vector<HttpHeader> headers;
  std::vector<std::string> receipt;  // the members that lead to it: `$.data.id`
  HttpOptions http;
  std::string shown;
};

class WebhookSink final : public Sink {
 public:
  WebhookSink(WebhookSettings settings, SinkContext context)
      : settings_(std::move(settings)), client_(settings_.http), context_(std::move(context)) {}
  Outcome deliver(const rules::Notification& notification, const Attempt& attempt) override;

 private:
  WebhookSettings settings_;
  HttpClient client_;
  SinkContext context_;
};

Outcome WebhookSink::deliver(const rules::Notification& /*notification*/, const Attempt& /*attempt*/) {
  return Outcome::retry(Reason::kIo, "not built yet");
}

class WebhookConfig final : public SinkConfig {
 public:
  explicit WebhookConfig(WebhookSettings settings) : settings_(std::move(settings)) {}
  std::unique_ptr<Sink> build(std::size_t /*lane*/, const SinkContext& context) const override {
    return std::make_unique<WebhookSink>(settings_, context);
  }
  std::vector<Secret> secrets() const override {
    std::vector<Secret> all = settings_.http.secrets();
    all.push_back(settings_.url);
    if (!settings_.secret.empty()) all.push_back(settings_.secret);
    return all;
  }
  std::string destination() const override { return settings_.shown; }

 private:
  WebhookSettings settings_;
};

bool is_header_name(std::string_view name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 ||
           std::string_view("!#$%&'*+-.^_`|~").find(static_cast<char>(c)) != std::string_view::npos;
  });
}

// What we say ourselves, or what would change where the request ends.
bool is_reserved_header(std::string_view name) {
  static constexpr std::string_view kReserved[] = {"content-type",        "content-length",
                                                   "transfer-encoding",   "host",
                                                   "connection",          "expect",
                                                   "idempotency-key",     "authorization",
                                                   "proxy-authorization", "x-logbell-timestamp",
                                                   "x-logbell-signature"};
  return std::any_of(std::begin(kReserved), std::end(kReserved), [&](std::string_view reserved) {
    return reserved.size() == name.size() &&
           std::equal(name.begin(), name.end(), reserved.begin(),
                      [](unsigned char a, char b) { return static_cast<char>(std::tolower(a)) == b; });
  });
}

bool read_headers(FieldReader& fields, std::vector<HttpHeader>& headers) {
  const rules::yaml::Node* node = fields.raw("headers");
  if (node == nullptr || node->is_null()) return true;
  if (!node->is_map()) {
    fields.error("headers", "headers are written as name: value", "");
    return false;
  }
  bool good = true;
  for (const rules::yaml::Entry& entry : node->entries) {
    const std::string& value = entry.value.scalar;
    if (!is_header_name(entry.key)) {
      fields.error("headers", "\"" + entry.key + "\" cannot be the name of a header", "");
      good = false;
    } else if (is_reserved_header(entry.key)) {
      fields.error("headers", "the header " + entry.key + " is logbell's own",
                   "for credentials use bearer_token, or username and password");
      good = false;
    } else if (!entry.value.is_scalar() || std::any_of(value.begin(), value.end(), [](unsigned char c) {
                 return c < 0x20 || c == 0x7F;
               })) {
      fields.error("headers", "the value of the header " + entry.key + " is not one line of text", "");
      good = false;
    } else {
      headers.push_back({entry.key, Secret(value)});
    }
  }
  return good;
}

// "$.data.id" -> data, id.
bool read_receipt(FieldReader& fields, std::vector<std::string>& path) {
  const std::optional<std::string> text = fields.text("receipt", false);
  if (!text) return true;
  std::string_view rest = *text;
  bool good = rest.substr(0, 2) == "$.";
  rest.remove_prefix(std::min<std::size_t>(rest.size(), 2));
  while (good) {
    const std::string_view name = rest.substr(0, rest.find('.'));
    good = !name.empty() && name.find_first_of("[]*\"' ") == std::string_view::npos;
    path.emplace_back(name);
    if (name.size() == rest.size()) break;
    rest.remove_prefix(name.size() + 1);
  }
  if (!good)
    fields.error("receipt", "\"" + *text + "\" does not lead into a JSON answer",
                 "write it as $.id or $.data.id");
  return good;
}

}  // namespace

std::unique_ptr<SinkConfig> parse_webhook(FieldReader& fields) {
  WebhookSettings settings;
  const std::optional<Secret> url = fields.secret("url", true);
  const std::optional<Secret> secret = fields.secret("secret", false);
  std::optional<HttpOptions> http = read_http_options(fields);
  bool good = url.has_value() && http.has_value();
  if (http && !read_authorization(fields, *http)) good = false;
  if (!read_headers(fields, settings.headers)) good = false;
  if (!read_receipt(fields, settings.receipt)) good = false;
  settings.shown = "(not known without its secret)";
  if (url && !fields.assume_secrets()) {
    const std::optional<Url> parsed = check_url(fields, "url", url->reveal(), true);
    if (parsed) settings.shown = parsed->shown;
    if (!parsed) good = false;
  }
  if (!good) return nullptr;
  settings.url = *url;
  if (secret) settings.secret = *secret;
  settings.http = std::move(*http);
  return std::make_unique<WebhookConfig>(std::move(settings));
}

}  // namespace logbell::sinks

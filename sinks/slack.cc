#include "sinks/slack.h"

#include <utility>

#include "sinks/http.h"

namespace logbell::sinks {
namespace {

using rules::Secret;

class SlackSink final : public Sink {
 public:
  SlackSink(Secret url, const HttpOptions& options, SinkContext context)
      : url_(std::move(url)), client_(options), context_(std::move(context)) {}
  Outcome deliver(const rules::Notification& notification, const Attempt& attempt) override;

 private:
  Secret url_;
  HttpClient client_;
  SinkContext context_;
};

Outcome SlackSink::deliver(const rules::Notification& /*notification*/, const Attempt& /*attempt*/) {
  return Outcome::retry(Reason::kIo, "not built yet");
}

class SlackConfig final : public SinkConfig {
 public:
  SlackConfig(Secret url, HttpOptions options, std::string shown)
      : url_(std::move(url)), options_(std::move(options)), shown_(std::move(shown)) {}
  std::unique_ptr<Sink> build(std::size_t /*lane*/, const SinkContext& context) const override {
    return std::make_unique<SlackSink>(url_, options_, context);
  }
  std::vector<Secret> secrets() const override {
    std::vector<Secret> all = options_.secrets();
    all.push_back(url_);
    return all;
  }
  std::string destination() const override { return shown_; }

 private:
  Secret url_;
  HttpOptions options_;
  std::string shown_;
};

// /services/T…/B…/… (or /workflows/…, /triggers/…, which take another payload and are refused).
bool is_webhook_path(std::string_view path) {
  static constexpr std::string_view kServices = "/services/";
  if (path.substr(0, kServices.size()) != kServices) return false;
  path.remove_prefix(kServices.size());
  int pieces = 0;
  while (!path.empty()) {
    const std::string_view piece = path.substr(0, path.find('/'));
    const bool is_known_start =
        pieces == 0 ? piece.substr(0, 1) == "T" : pieces != 1 || piece.substr(0, 1) == "B";
    if (piece.size() < 2 || !is_known_start) return false;
    if (piece.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") !=
        std::string_view::npos) {
      return false;
    }
    ++pieces;
    path.remove_prefix(piece.size());
    if (!path.empty()) path.remove_prefix(1);
  }
  return pieces == 3;
}

}  // namespace

std::unique_ptr<SinkConfig> parse_slack(FieldReader& fields) {
  const std::optional<Secret> secret = fields.secret("webhook_url", true);
  const std::optional<HttpOptions> options = read_http_options(fields);
  if (!secret || !options) return nullptr;
  if (fields.assume_secrets())
    return std::make_unique<SlackConfig>(*secret, *options, "https://hooks.slack.com");
  const std::optional<Url> url = check_url(fields, "webhook_url", secret->reveal(), false);
  if (!url) return nullptr;
  const bool is_slack = url->host == "hooks.slack.com" || url->host == "hooks.slack-gov.com";
  if (is_slack && !is_webhook_path(url->path)) {
    fields.error(
        "webhook_url", "this is not the address of a Slack incoming webhook",
        "copy it from the app's page \"Incoming Webhooks\": https://hooks.slack.com/services/T…/B…/…");
    return nullptr;
  }
  return std::make_unique<SlackConfig>(*secret, *options, url->shown);
}

}  // namespace logbell::sinks

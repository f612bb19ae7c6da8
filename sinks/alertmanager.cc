#include "sinks/alertmanager.h"

#include <utility>

#include "sinks/http.h"

namespace logbell::sinks {
namespace {

using rules::Secret;

constexpr std::string_view kPath = "/api/v2/alerts";

class AlertmanagerSink final : public Sink {
 public:
  AlertmanagerSink(std::string url, const HttpOptions& options, SinkContext context)
      : url_(std::move(url)), client_(options), context_(std::move(context)) {}
  Outcome deliver(const rules::Notification& notification, const Attempt& attempt) override;

 private:
  std::string url_;
  HttpClient client_;
  SinkContext context_;
};

Outcome AlertmanagerSink::deliver(const rules::Notification& /*notification*/, const Attempt& /*attempt*/) {
  return Outcome::retry(Reason::kIo, "not built yet");
}

class AlertmanagerConfig final : public SinkConfig {
 public:
  AlertmanagerConfig(std::vector<std::string> urls, HttpOptions options, std::string shown)
      : urls_(std::move(urls)), options_(std::move(options)), shown_(std::move(shown)) {}
  std::size_t lanes() const override { return urls_.size(); }
  std::unique_ptr<Sink> build(std::size_t lane, const SinkContext& context) const override {
    return std::make_unique<AlertmanagerSink>(urls_.at(lane), options_, context);
  }
  std::vector<Secret> secrets() const override { return options_.secrets(); }
  std::string destination() const override { return shown_; }

 private:
  std::vector<std::string> urls_;
  HttpOptions options_;
  std::string shown_;
};

// The address of the API, whether the operator wrote that or Alertmanager's own.
std::string with_path(std::string url) {
  while (!url.empty() && url.back() == '/')
    url.pop_back();
  if (url.size() >= kPath.size() && std::string_view(url).substr(url.size() - kPath.size()) == kPath)
    return url;
  return url.append(kPath);
}

}  // namespace

std::unique_ptr<SinkConfig> parse_alertmanager(FieldReader& fields) {
  const std::optional<std::vector<std::string>> list = fields.text_list("urls", false);
  const std::optional<std::string> one =
      fields.text("url", !list.has_value() && fields.raw("urls") == nullptr);
  std::optional<HttpOptions> options = read_http_options(fields);
  bool good = options.has_value();
  if (options && !read_authorization(fields, *options)) good = false;
  if (one && list) {
    fields.error("url", "there is url and urls", "write every peer under urls");
    return nullptr;
  }
  std::vector<std::string> written;
  if (list) written = *list;
  if (one) written.push_back(*one);
  if (list && list->empty())
    fields.error("urls", "no peer is listed", "name every Alertmanager of the cluster");
  if (written.empty()) return nullptr;

  std::vector<std::string> urls;
  std::string shown;
  for (const std::string& text : written) {
    const std::string_view key = one ? "url" : "urls";
    const std::optional<Url> url = check_url(fields, key, text, true);
    if (!url) {
      good = false;
      continue;
    }
    if (url->path.find('?') != std::string::npos) {
      fields.error(key, "Alertmanager's address has no \"?…\"", "write http://host:9093");
      good = false;
      continue;
    }
    urls.push_back(with_path(text));
    for (std::size_t i = 0; i + 1 < urls.size(); ++i) {
      if (urls[i] != urls.back()) continue;
      fields.error(key, "the peer " + url->shown + " is listed twice", "leave one out");
      good = false;
    }
    shown += (shown.empty() ? "" : ", ") + url->shown;
  }
  if (!good) return nullptr;
  return std::make_unique<AlertmanagerConfig>(std::move(urls), std::move(*options), std::move(shown));
}

}  // namespace logbell::sinks

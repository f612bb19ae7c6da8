#include "engine/cli/client.h"

#include <utility>

#include <fmt/format.h>

#include "engine/run/clock.h"
#include "rules/fields.h"
#include "rules/redact.h"

namespace logbell::engine {

using rules::ErrorCode;
using rules::Json;
using rules::Result;

namespace {

sinks::HttpOptions directly() {
  sinks::HttpOptions options;
  options.timeout = Client::kTimeout;
  options.max_body = Client::kMaxAnswer;
  return options;
}

}  // namespace

Client::Client(std::string url) : url_(std::move(url)), http_(directly()) {}

sinks::HttpRequest Client::request(const std::string& path) const {
  sinks::HttpRequest request;
  request.url = rules::Secret(url_ + path);
  request.timeout = kTimeout;
  request.now = SystemClock().now();
  return request;
}

Result<Json> Client::read(const std::string& path, const sinks::HttpResult& result) const {
  if (result.kind != sinks::HttpResult::Kind::kAnswered)
    return rules::fail(ErrorCode::kUnavailable,
                       fmt::format("ask {}: {}; does `logbell run` run there? (--url)", url_, result.error));
  auto body = Json::parse(result.body);
  if (!body || !(*body)["status"].is_string())
    return rules::fail(
        ErrorCode::kUnavailable,
        fmt::format("ask {}{}: what answers there is no logbell (HTTP {})", url_, path, result.status));
  if ((*body)["status"].string() == "success") return (*body)["data"];
  const bool wrong = result.status >= 400 && result.status < 500;
  return rules::fail(wrong ? ErrorCode::kInvalid : ErrorCode::kUnavailable,
                     rules::clean_text((*body)["error"].string(), 500));
}

Result<Json> Client::get(const std::string& path) {
  return read(path, http_.get(request(path)));
}

Result<Json> Client::post(const std::string& path, const Json& body) {
  sinks::HttpRequest post = request(path);
  post.headers.push_back({"Content-Type", rules::Secret("application/json")});
  post.body = body.dump();
  return read(path, http_.post(post));
}

Result<std::pair<int, std::string>> Client::text(const std::string& path) {
  const sinks::HttpResult result = http_.get(request(path));
  if (result.kind != sinks::HttpResult::Kind::kAnswered)
    return rules::fail(ErrorCode::kUnavailable,
                       fmt::format("ask {}: {}; does `logbell run` run there? (--url)", url_, result.error));
  return std::pair(result.status, result.body);
}

std::string machine_only_note(const Json& answer) {
  std::vector<std::string> names;
  for (const Json& name : answer["machine_only"].array())
    names.push_back(rules::clean_text(name.string(), 100));
  if (names.empty()) return "";
  return fmt::format("\nMachine only, no person is told of it: {}.\n", rules::list_words(names, 20));
}

std::string words(const rules::Json& list) {
  std::string out;
  for (const rules::Json& word : list.array())
    out += fmt::format("{}{}", out.empty() ? "" : ", ", word.string());
  return out;
}

}  // namespace logbell::engine

// Client: asks the running process over its port, for the commands that are about it.
//
// One thread; blocks for kTimeout at most.
#pragma once

#include <string>

#include "rules/json.h"
#include "rules/result.h"
#include "rules/time.h"
#include "sinks/http.h"

namespace logbell::engine {

class Client {
 public:
  static constexpr rules::Duration kTimeout{std::chrono::seconds(10)};
  // Of an answer: a thousand rules and some sinks are about 5 MB.
  static constexpr std::size_t kMaxAnswer = 64 << 20;

  // `url`: of the process, without a path.
  explicit Client(std::string url);

  // `data` of the answer. kInvalid: the process says that the request is wrong; kUnavailable: nobody answers,
  // or what answers is no logbell.
  rules::Result<rules::Json> get(const std::string& path);
  rules::Result<rules::Json> post(const std::string& path, const rules::Json& body);
  // The status and text of a path that answers in plain text.
  rules::Result<std::pair<int, std::string>> text(const std::string& path);

 private:
  rules::Result<rules::Json> read(const std::string& path, const sinks::HttpResult& result) const;
  sinks::HttpRequest request(const std::string& path) const;

  const std::string url_;
  sinks::HttpClient http_;
};

// Of an answer with `machine_only`: that no person is told of these rules, whatever proves that a machine is;
// a line, or "" where there are none.
std::string machine_only_note(const rules::Json& answer);
// "a, b" of a list of texts.
std::string words(const rules::Json& list);

}  // namespace logbell::engine

// Secret: a value that never prints. No operator<<, no format, wiped when destroyed.
//
// Value; any thread. reveal() is for the one place that must send it.
#pragma once

#include <string>
#include <string_view>

namespace logbell::rules {

class Secret {
 public:
  Secret() = default;
  explicit Secret(std::string value);
  Secret(const Secret&);
  Secret(Secret&& other) noexcept;
  Secret& operator=(Secret other) noexcept;
  ~Secret();

  const std::string& reveal() const { return value_; }
  bool empty() const { return value_.empty(); }
  friend bool operator==(const Secret&, const Secret&) = default;

 private:
  std::string value_;
};

// What nobody means as a secret: "changeme", "xxx", "<your token>", "${TOKEN}", https://hooks.slack.com/services/T000/….
bool is_placeholder(std::string_view value);

}  // namespace logbell::rules

// SinkFields: the fields of one sink, for its parser: variables filled in, secrets fetched and judged.
//
// Owned by the thread that compiles the configuration; lives as long as one sink is parsed.
#pragma once

#include <deque>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "engine/run/config.h"
#include "rules/fields.h"
#include "rules/secret.h"
#include "sinks/sink.h"

namespace logbell::engine {

class SinkFields : public sinks::FieldReader {
 public:
  // Both must outlive it.
  SinkFields(rules::Fields fields, const ConfigWorld& world) : fields_(std::move(fields)), world_(world) {}

  std::optional<std::string> text(std::string_view key, bool required) override;
  std::optional<rules::Secret> secret(std::string_view key, bool required) override;
  std::optional<std::vector<std::string>> text_list(std::string_view key, bool required) override;
  std::optional<bool> boolean(std::string_view key) override { return fields_.boolean(key); }
  std::optional<rules::Duration> duration(std::string_view key) override { return fields_.duration(key); }
  // With the variables of every text in it filled in, as those of a secret.
  const rules::yaml::Node* raw(std::string_view key) override;
  bool assume_secrets() const override { return fields_.reading().assume; }
  rules::Place place(std::string_view key) const override { return fields_.place(key); }
  void error(std::string_view key, std::string reason, std::string fix) override;
  void warn(std::string_view key, std::string reason, std::string fix) override;
  // Of every value that was read, secrets and variables included: another one is another sink.
  rules::Fingerprint fingerprint() const { return rules::hash_bytes(read_); }
  // The keys of the secrets that were read and are not empty, sorted; "headers.Authorization" of one inside
  // of raw(). Never their values.
  std::vector<std::string> secret_keys() const { return {secret_keys_.begin(), secret_keys_.end()}; }
  // What `proxy:` says; "": nothing.
  const std::string& proxy() const { return proxy_; }

 private:
  void note(std::string_view key, std::string_view value);
  void note(std::string_view key, const rules::yaml::Node& node);
  void fill_in(rules::yaml::Node& node, const std::string& key);
  rules::Place place_of(std::string_view key) const;
  std::optional<rules::Secret> read_secret(std::string_view key, bool required);
  std::optional<rules::Secret> inline_or_variable(std::string_view key, const std::string& in_file);
  std::optional<rules::Secret> from_file(const std::string& key);
  // `fix` says where the real one belongs.
  std::optional<rules::Secret> judged(std::string_view key, const std::string& value, const std::string& fix);

  rules::Fields fields_;
  const ConfigWorld& world_;
  std::deque<rules::yaml::Node> filled_in_;  // what raw() gave out
  std::string read_;
  std::string proxy_;
  std::set<std::string> secret_keys_;
};

// What stands where --assume-secrets leaves a value out: an address that cannot exist (RFC 2606).
inline constexpr const char* kAssumed = "https://assumed.invalid/value";

}  // namespace logbell::engine

#include "engine/run/sink_fields.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "rules/yaml.h"

namespace logbell::engine {
namespace {

// A secret is a key or a URL: a file that is longer is the wrong file.
constexpr std::size_t kMaxSecretBytes = 64 * 1024;

// Whether a text in the configuration itself lets its reader in: a plain address such as
// http://127.0.0.1:9093/hook does not, a token does.
bool gives_away(const std::string& value) {
  const std::size_t scheme = value.find("://");
  if (scheme == std::string::npos) return true;
  const std::size_t host = scheme + 3;
  const std::size_t path = std::min(value.find('/', host), value.size());
  if (value.substr(host, path - host).find('@') != std::string::npos) return true;
  if (value.find('?', path) != std::string::npos) return true;
  // A part of the path as long as a token. Shorter than any that we know: Slack's has 24.
  constexpr std::size_t kTokenLength = 16;
  for (std::size_t at = path; at < value.size();) {
    const std::size_t end = std::min(value.find('/', at + 1), value.size());
    if (end - at > kTokenLength) return true;
    at = end;
  }
  return false;
}

}  // namespace

using rules::Text;
namespace yaml = rules::yaml;

std::optional<std::string> SinkFields::text(std::string_view key, bool required) {
  std::optional<Text> found = required ? fields_.required_text(key) : fields_.text(key);
  if (!found) return std::nullopt;
  note(key, found->value);
  if (key == "proxy") proxy_ = found->value;
  return found->assumed ? kAssumed : found->value;
}

std::optional<rules::Secret> SinkFields::secret(std::string_view key, bool required) {
  std::optional<rules::Secret> found = read_secret(key, required);
  if (found) note(key, found->reveal());
  if (found && !found->empty()) secret_keys_.emplace(key);
  return found;
}

std::optional<rules::Secret> SinkFields::read_secret(std::string_view key, bool required) {
  const std::string in_file = std::string(key) + "_file";
  if (fields_.has(key) && fields_.has(in_file)) {
    fields_.error(fields_.key_place(in_file), fmt::format("both `{}:` and `{}:`", key, in_file),
                  "keep one of them");
    return std::nullopt;
  }
  if (fields_.has(in_file)) return from_file(in_file);
  if (fields_.has(key)) return inline_or_variable(key, in_file);
  if (required)
    fields_.error(place(key), fmt::format("\"{}\" is missing", key),
                  fmt::format("write `{0}: '${{VARIABLE}}'` or `{0}_file: PATH`", key));
  return std::nullopt;
}

std::optional<std::vector<std::string>> SinkFields::text_list(std::string_view key, bool required) {
  if (!fields_.has(key)) {
    if (required) fields_.required_text(key);
    return std::nullopt;
  }
  const std::optional<std::vector<Text>> found = fields_.texts(key);
  if (!found) return std::nullopt;
  std::vector<std::string> out;
  for (const Text& one : *found) {
    if (one.value.empty()) {
      fields_.error(one.place, fmt::format("\"{}\" holds an empty text", key), "remove it");
      return std::nullopt;
    }
    out.push_back(one.assumed ? kAssumed : one.value);
    note(key, out.back());
  }
  return out;
}

const yaml::Node* SinkFields::raw(std::string_view key) {
  const yaml::Node* written = fields_.raw(key);
  if (written == nullptr) return nullptr;
  filled_in_.push_back(*written);
  fill_in(filled_in_.back(), std::string(key));
  note(key, filled_in_.back());
  return &filled_in_.back();
}

void SinkFields::fill_in(yaml::Node& node, const std::string& key) {
  for (yaml::Node& item : node.items)
    fill_in(item, key);
  for (yaml::Entry& entry : node.entries)
    fill_in(entry.value, key + "." + entry.key);
  if (!node.is_scalar() || node.scalar.find("${") == std::string::npos) return;
  const std::optional<Text> text = fields_.reading().fill_in(node, fields_.subject(), true);
  if (!text) return;  // said; the sink is refused whatever its parser makes of the rest
  if (!text->assumed && rules::is_placeholder(text->value))
    fields_.error(node.place,
                  fmt::format("\"{}\" is a placeholder: nobody's real secret looks like that",
                              key.substr(key.rfind('.') + 1)),
                  "put the real one into the variable");
  if (!text->value.empty()) secret_keys_.insert(key);
  node.scalar = text->value;
}

void SinkFields::error(std::string_view key, std::string reason, std::string fix) {
  fields_.error(place_of(key), std::move(reason), std::move(fix));
}
void SinkFields::warn(std::string_view key, std::string reason, std::string fix) {
  fields_.warn(place_of(key), std::move(reason), std::move(fix));
}

// Where a secret's value came from a file, its problems belong there.
rules::Place SinkFields::place_of(std::string_view key) const {
  const std::string in_file = std::string(key) + "_file";
  return fields_.place(fields_.has(key) || !fields_.has(in_file) ? std::string(key) : in_file);
}

std::optional<rules::Secret> SinkFields::inline_or_variable(std::string_view key,
                                                            const std::string& in_file) {
  const yaml::Node* node = fields_.raw(key);
  if (!node->is_scalar() || node->scalar.empty()) {
    fields_.error(key, fmt::format("the secret \"{}\" is empty", key),
                  fmt::format("write `{}: '${{VARIABLE}}'` or `{}: PATH`", key, in_file));
    return std::nullopt;
  }
  const std::optional<Text> text = fields_.reading().fill_in(*node, fields_.subject(), true);
  if (!text) return std::nullopt;
  if (text->assumed) return rules::Secret(kAssumed);
  if (node->scalar.find("${") == std::string::npos && gives_away(node->scalar)) {
    fields_.warn(node->place, fmt::format("the secret \"{}\" stands in the file itself", key),
                 fmt::format("write `{}: '${{VARIABLE}}'` or `{}: PATH`", key, in_file));
  }
  const bool is_variable = node->scalar.find("${") != std::string::npos;
  return judged(key, text->value,
                is_variable ? std::string("put the real one into the variable")
                            : fmt::format("put the real one into a variable: `{}: '${{VARIABLE}}'`", key));
}

std::optional<rules::Secret> SinkFields::from_file(const std::string& key) {
  const std::optional<Text> path = fields_.required_text(key, "name the file that holds the secret");
  if (!path) return std::nullopt;
  if (assume_secrets()) return rules::Secret(kAssumed);
  // Who puts the secret itself into the variable is not to find it in a log: what is shown is what is written.
  const yaml::Node* node = fields_.raw(key);
  const bool is_variable = node != nullptr && node->scalar.find("${") != std::string::npos;
  const std::string shown = is_variable ? node->scalar : path->value;
  rules::Result<std::string> text = world_.read_file(path->value);
  if (!text) {
    fields_.error(
        key, fmt::format("the secret's file {} cannot be read: {}", shown, text.error().message),
        text.error().code == rules::ErrorCode::kNotFound
            ? is_variable ? "mount it, or correct the path; a variable that holds the secret itself belongs to the key without _file"
                          : "mount it, or correct the path"
            : "let logbell's user read it (in Kubernetes: securityContext.fsGroup), or correct the path");
    return std::nullopt;
  }
  if (text->size() > kMaxSecretBytes) {
    fields_.error(key, fmt::format("the secret's file {} is too long to be one", shown),
                  "correct the path");
    return std::nullopt;
  }
  while (!text->empty() && (text->back() == '\n' || text->back() == '\r'))
    text->pop_back();
  if (text->empty()) {
    fields_.error(key, fmt::format("the secret's file {} is empty", shown), "put the secret into it");
    return std::nullopt;
  }
  if (world_.readable_by_others && world_.readable_by_others(path->value)) {
    fields_.warn(fields_.place(key), fmt::format("the secret's file {} can be read by others", shown),
                 fmt::format("chmod 600 {}", shown));
  }
  return judged(key, *text, fmt::format("put the real one into {}", shown));
}

std::optional<rules::Secret> SinkFields::judged(std::string_view key, const std::string& value,
                                                const std::string& fix) {
  if (value.empty()) {
    fields_.error(key, fmt::format("the secret \"{}\" is empty", key), fix);
    return std::nullopt;
  }
  if (rules::is_placeholder(value)) {
    fields_.error(
        key, fmt::format("the secret \"{}\" is a placeholder: nobody's real secret looks like that", key),
        fix);
    return std::nullopt;
  }
  // What is no text would change or cut the header that it goes into.
  const bool odd =
      value.front() == ' ' || value.back() == ' ' ||
      std::any_of(value.begin(), value.end(), [](unsigned char c) { return c < 0x20 || c == 0x7F; });
  if (odd) {
    fields_.error(
        key,
        fmt::format("the secret \"{}\" holds a line break, a control character or a blank at an end", key),
        "remove it");
    return std::nullopt;
  }
  return rules::Secret(value);
}

void SinkFields::note(std::string_view key, std::string_view value) {
  read_.append(key).append(1, '\0').append(value).append(1, '\0');
}

void SinkFields::note(std::string_view key, const yaml::Node& node) {
  note(key, node.scalar);
  for (const yaml::Node& item : node.items)
    note("-", item);
  for (const yaml::Entry& entry : node.entries)
    note(entry.key, entry.value);
}

}  // namespace logbell::engine

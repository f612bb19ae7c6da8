#include "engine/run/config.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <deque>
#include <functional>
#include <set>
#include <system_error>

#include <fcntl.h>
#include <fmt/format.h>
#include <fnmatch.h>
#include <glob.h>
#include <sys/stat.h>
#include <unistd.h>

#include "rules/fields.h"
#include "rules/reach.h"
#include "rules/redact.h"
#include "rules/route_file.h"
#include "rules/rule_file.h"
#include "rules/yaml.h"
#include "sinks/registry.h"

namespace logbell::engine {
namespace {

using rules::Fields;
using rules::ForeignKey;
using rules::Place;
using rules::Problems;
using rules::Reading;
using rules::Text;
namespace yaml = rules::yaml;

// A secret is a key or a URL: a file that is longer is the wrong file.
constexpr std::size_t kMaxSecretBytes = 64 * 1024;
// Pairs of routes and rules up to which a `continue` and a route are looked at one by one: a warning is not
// worth a slow start.
constexpr std::size_t kMaxRoutePairs = 20'000;
// What stands where --assume-secrets leaves a secret out: an address that cannot exist (RFC 2606).
constexpr const char* kAssumed = "https://assumed.invalid/";

constexpr const char* kGiveSinks = "give that route `sinks:`, or the rule its own";

bool contains(const std::vector<std::string>& list, std::string_view word) {
  return std::find(list.begin(), list.end(), word) != list.end();
}

std::string directory_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash + 1);
}

rules::Result<std::string> read_whole_file(const std::string& path) {
  const auto failed = [&](int error) {
    const auto code = error == ENOENT ? rules::ErrorCode::kNotFound : rules::ErrorCode::kIo;
    return rules::fail(code, std::generic_category().message(error));
  };
  // Not blocking: a named pipe in the place of a file must not hold the start.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
  if (fd < 0) return failed(errno);
  std::string text;
  std::array<char, 65536> buffer{};
  int error = 0;
  struct stat status {};
  if (::fstat(fd, &status) == 0 && S_ISDIR(status.st_mode)) error = EISDIR;
  while (error == 0 && text.size() <= yaml::kMaxBytes) {
    const ssize_t got = ::read(fd, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) error = errno;
    if (got <= 0) break;
    text.append(buffer.data(), static_cast<std::size_t>(got));
  }
  ::close(fd);
  if (error != 0) return failed(error);
  return text;
}

// --- sinks

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

// The fields of one sink, for its parser. Variables and files are this side's business.
class SinkFields : public sinks::FieldReader {
 public:
  SinkFields(Fields fields, const ConfigWorld& world) : fields_(std::move(fields)), world_(world) {}

  std::optional<std::string> text(std::string_view key, bool required) override {
    std::optional<Text> found = required ? fields_.required_text(key) : fields_.text(key);
    if (!found) return std::nullopt;
    return found->assumed ? kAssumed : found->value;
  }

  std::optional<rules::Secret> secret(std::string_view key, bool required) override {
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

  std::optional<std::vector<std::string>> text_list(std::string_view key, bool required) override {
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
    }
    return out;
  }

  std::optional<bool> boolean(std::string_view key) override { return fields_.boolean(key); }
  std::optional<rules::Duration> duration(std::string_view key) override { return fields_.duration(key); }
  const yaml::Node* raw(std::string_view key) override { return fields_.raw(key); }
  bool assume_secrets() const override { return fields_.reading().assume; }
  Place place(std::string_view key) const override { return fields_.place(key); }
  void error(std::string_view key, std::string reason, std::string fix) override {
    fields_.error(place_of(key), std::move(reason), std::move(fix));
  }
  void warn(std::string_view key, std::string reason, std::string fix) override {
    fields_.warn(place_of(key), std::move(reason), std::move(fix));
  }

 private:
  // Where a secret's value came from a file, its problems belong there.
  Place place_of(std::string_view key) const {
    const std::string in_file = std::string(key) + "_file";
    return fields_.place(fields_.has(key) || !fields_.has(in_file) ? std::string(key) : in_file);
  }

  std::optional<rules::Secret> inline_or_variable(std::string_view key, const std::string& in_file) {
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

  std::optional<rules::Secret> from_file(const std::string& key) {
    const std::optional<Text> path = fields_.required_text(key, "name the file that holds the secret");
    if (!path) return std::nullopt;
    if (assume_secrets()) return rules::Secret(kAssumed);
    rules::Result<std::string> text = world_.read_file(path->value);
    if (!text) {
      fields_.error(key,
                    fmt::format("the secret's file {} cannot be read: {}", path->value, text.error().message),
                    "mount it, or correct the path");
      return std::nullopt;
    }
    if (text->size() > kMaxSecretBytes) {
      fields_.error(key, fmt::format("the secret's file {} is too long to be one", path->value),
                    "correct the path");
      return std::nullopt;
    }
    while (!text->empty() && (text->back() == '\n' || text->back() == '\r'))
      text->pop_back();
    if (text->empty()) {
      fields_.error(key, fmt::format("the secret's file {} is empty", path->value), "put the secret into it");
      return std::nullopt;
    }
    if (world_.readable_by_others && world_.readable_by_others(path->value)) {
      fields_.warn(fields_.place(key), fmt::format("the secret's file {} can be read by others", path->value),
                   fmt::format("chmod 600 {}", path->value));
    }
    return judged(key, *text, fmt::format("put the real one into {}", path->value));
  }

  std::optional<rules::Secret> judged(std::string_view key, const std::string& value,
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
    const bool odd =
        value.find_first_of("\n\r\t") != std::string::npos || value.front() == ' ' || value.back() == ' ';
    if (odd) {
      fields_.error(key, fmt::format("the secret \"{}\" holds a line break, or a blank at an end", key),
                    "remove it");
      return std::nullopt;
    }
    return rules::Secret(value);
  }

  Fields fields_;
  const ConfigWorld& world_;
};

// A sink as far as it could be read; what is wrong with it waits until it is known which rules it concerns.
struct SinkDraft {
  rules::SinkSpec spec;
  std::shared_ptr<const sinks::SinkConfig> config;
  std::vector<Text> fallback;
  Problems problems;
};

const std::vector<std::string>& later_sinks() {
  static const std::vector<std::string> kNames{"pagerduty", "email",     "opsgenie", "teams",
                                               "discord",   "telegram",  "ntfy",     "slack_bot",
                                               "exec",      "heartbeat", "smtp",     "msteams"};
  return kNames;
}

// --- the whole file

const std::vector<std::string> kTopKeys{
    "environment", "labels",   "instance", "state_dir",  "listen", "external_url", "max_replay_age",
    "sources",     "patterns", "rules",    "rule_files", "sinks",  "route",        "time_intervals"};
const std::vector<ForeignKey> kForeignTopKeys{
    {"receivers", "receivers are called sinks here", "write `sinks:`, a map of names to sinks"},
    {"groups", "groups stand in files of their own",
     "write `rules:` here, or name the file under `rule_files:`"},
    {"global", "there is no `global:`", "each sink has its own settings"},
    {"mute_time_intervals", "intervals are defined under `time_intervals:`", "rename the key"},
    {"inhibit_rules", "`inhibit_rules:` is not supported yet",
     "remove it; the `alertmanager` sink can inhibit"},
    {"silences", "silences are not supported yet", "remove it; `sinks: none` with `until:` quiets a rule"},
    {"templates", "template files are not supported yet", "write the text as an annotation"},
    {"include", "there is no `include:`", "rules may stand in `rule_files:`"},
    {"heartbeat", "`heartbeat:` is not supported yet", "remove it"},
    {"heartbeats", "`heartbeats:` is not supported yet", "remove it"},
    {"drill", "`drill:` is not supported yet", "remove it"},
    {"drills", "`drills:` is not supported yet", "remove it"},
    {"proof", "`proof:` is not supported yet", "remove it"},
    {"max_proof_age", "`max_proof_age:` is not supported yet", "remove it"},
    {"scrape_configs", "logbell scrapes nothing", "Prometheus scrapes logbell at `listen:`"},
    {"alerting", "there is no `alerting:`", "Alertmanager is a sink: `sinks: {am: {alertmanager: {…}}}`"}};
const std::vector<std::string> kSourceKeys{"name",      "files",       "stdin",          "format",
                                           "timestamp", "max_silence", "max_line_bytes", "read_from"};
const std::vector<ForeignKey> kForeignSourceKeys{
    {"multiline", "`multiline:` is not supported yet: each line stands alone", "remove it"},
    {"path", "a source's files are its `files:`", "write `files: ['…']`"},
    {"paths", "a source's files are its `files:`", "write `files: ['…']`"},
    {"file", "a source's files are its `files:`", "write `files: ['…']`"},
    {"unix", "sockets are not supported yet", "let the program write to a file, or to standard output"},
    {"udp", "sockets are not supported yet", "let the program write to a file, or to standard output"},
    {"fifo", "named pipes are not supported yet", "pipe it to standard input: `stdin: true`"},
    {"location", "`location:` belongs to `timestamp:`", "write `timestamp: {location: …}`"}};

class Compiler {
 public:
  Compiler(const std::string& path, const ConfigWorld& world, const LoadOptions& options, Problems& problems)
      : path_(path), world_(world), options_(options), problems_(problems) {
    reading_.env = world.env;
    reading_.assume = options.assume_secrets;
    reading_.problems = &problems;
  }

  std::shared_ptr<const Config> compile() {
    const yaml::Node* root = open(path_);
    if (root == nullptr) return nullptr;
    const Fields top(*root, "", reading_, kTopKeys, kForeignTopKeys);
    if (!root->is_map()) return nullptr;
    auto plan = std::make_shared<rules::Plan>();
    plan_ = plan.get();
    plan->generation = options_.generation;
    read_settings(top);
    read_sources(top);
    read_sinks(top);
    read_time_intervals(top);
    read_route(top);
    read_rules(top);
    check_fallbacks();
    for (const auto& [name, draft] : sinks_)
      plan->sinks[name] = draft.spec;
    check_reach();
    report_sinks();
    plan->hash = hash();
    if (problems_.has_errors()) return nullptr;
    finish_sources();
    auto config = std::make_shared<Config>(std::move(config_));
    for (auto& [name, draft] : sinks_) {
      config->sinks[name] = draft.config;
      for (rules::Secret& secret : draft.config->secrets())
        config->secrets.push_back(std::move(secret));
    }
    config->path = path_;
    config->plan = std::move(plan);
    return config;
  }

  // The sinks that parsed, whatever else is wrong.
  std::vector<std::pair<rules::SinkSpec, std::shared_ptr<const sinks::SinkConfig>>> salvage() {
    std::vector<std::pair<rules::SinkSpec, std::shared_ptr<const sinks::SinkConfig>>> out;
    const yaml::Node* root = open(path_);
    if (root == nullptr || !root->is_map()) return out;
    rules::Plan plan;
    plan_ = &plan;
    const Fields top(*root, "", reading_, kTopKeys, kForeignTopKeys);
    read_sinks(top);
    for (auto& [name, draft] : sinks_) {
      if (draft.config && !draft.problems.has_errors() && draft.spec.tells_people)
        out.emplace_back(draft.spec, draft.config);
    }
    return out;
  }

 private:
  const yaml::Node* open(const std::string& path) {
    rules::Result<std::string> text = world_.read_file(path);
    if (!text) {
      const bool missing = text.error().code == rules::ErrorCode::kNotFound;
      problems_.error(Place{path}, "", "cannot be read: " + text.error().message,
                      path == path_ && missing ? "name the configuration, as in: logbell check FILE" : "");
      return nullptr;
    }
    config_.files.push_back(path);
    config_.texts.emplace_back(path, *text);
    reading_.texts[path] = *text;
    std::optional<yaml::Node> root = yaml::parse(path, *text, problems_);
    if (!root) return nullptr;
    documents_.push_back(*std::move(root));
    return &documents_.back();
  }

  void read_settings(const Fields& top) {
    rules::Labels& external = plan_->external_labels;
    if (const yaml::Node* labels = top.map("labels")) {
      std::vector<std::string> names;
      for (const yaml::Entry& entry : labels->entries)
        names.push_back(entry.key);
      const Fields fields(*labels, "", reading_, names);
      for (const yaml::Entry& entry : labels->entries) {
        if (!rules::is_label_name(entry.key)) {
          fields.error(entry.key_place, fmt::format("\"{}\" is not a label's name", entry.key),
                       "letters, digits and underscores, no digit first");
        } else if (entry.key == "alertname" || entry.key.rfind("__", 0) == 0) {
          fields.error(entry.key_place, fmt::format("the label \"{}\" is logbell's own", entry.key),
                       "give it another name");
        } else if ((entry.key == "environment" || entry.key == "instance") && top.has(entry.key)) {
          fields.error(entry.key_place,
                       fmt::format("\"{}\" is already set by the key `{}:`", entry.key, entry.key),
                       "remove one of them");
        } else if (const auto value = fields.required_text(entry.key)) {
          external.set(entry.key, value->value);
        }
      }
    }
    if (top.has("environment")) {
      if (const auto environment = top.required_text("environment")) config_.environment = environment->value;
      external.set("environment", config_.environment);
    } else {
      config_.environment = external.get("environment");
    }
    if (top.has("instance")) {
      if (const auto instance = top.required_text("instance")) external.set("instance", instance->value);
    } else if (!external.has("instance")) {
      external.set("instance", world_.hostname);
    }
    if (top.has("state_dir")) {
      if (const auto dir = top.required_text("state_dir", "as in /var/lib/logbell"))
        config_.state_dir = dir->value;
    }
    if (const auto listen = top.text("listen")) {
      config_.listen = listen->value;
      const std::size_t colon = listen->value.rfind(':');
      const std::string port = colon == std::string::npos ? "" : listen->value.substr(colon + 1);
      const bool good = !port.empty() && port.size() <= 5 &&
                        port.find_first_not_of("0123456789") == std::string::npos && std::stoi(port) <= 65535;
      if (!listen->assumed && !good) {
        top.error("listen", fmt::format("\"{}\" is not an address with a port", listen->value),
                  "as in 127.0.0.1:9733, or 0.0.0.0:9733 in a container");
      }
    }
    if (const auto url = top.text("external_url")) {
      config_.external_url = url->value;
      if (!url->assumed && url->value.rfind("http://", 0) != 0 && url->value.rfind("https://", 0) != 0)
        top.error("external_url", fmt::format("\"{}\" is not a URL", url->value),
                  "as in https://logbell.example.com");
    }
    if (const auto age = top.duration("max_replay_age")) {
      if (*age <= rules::Duration{0}) {
        top.error("max_replay_age", "it must be longer than 0", "as in 15m");
      } else {
        plan_->max_replay_age = *age;
      }
    }
  }

  void read_sources(const Fields& top) {
    const yaml::Node* list = top.list("sources");
    if (list == nullptr || list->items.empty()) {
      if (!top.has("sources") || list != nullptr)
        top.error(top.place("sources"), "there are no sources: nothing would be read",
                  "as in `sources: [{name: api, files: [/var/log/api/*.log]}]`");
      return;
    }
    bool has_stdin = false;
    std::map<std::string, std::string> owner;  // of each glob
    for (const yaml::Node& node : list->items) {
      const yaml::Node* named = node.find("name");
      const std::string name = named != nullptr ? named->scalar : "";
      const Fields fields(node, name.empty() ? "source" : fmt::format("source \"{}\"", name), reading_,
                          kSourceKeys, kForeignSourceKeys);
      rules::SourceSpec source;
      source.place = node.place;
      if (const auto text = fields.required_text("name", "as in `name: api`")) source.name = text->value;
      const bool twice =
          std::any_of(plan_->sources.begin(), plan_->sources.end(),
                      [&](const rules::SourceSpec& other) { return other.name == source.name; });
      if (twice && !source.name.empty())
        fields.error("name", "another source has this name", "give it another name");
      if (const auto is_stdin = fields.boolean("stdin")) source.is_stdin = *is_stdin;
      for (const Text& file : fields.texts("files").value_or(std::vector<Text>())) {
        if (file.value == "-") {
          source.is_stdin = true;
          continue;
        }
        if (file.value.empty()) {
          fields.error(file.place, "an empty path", "name a file, or a pattern such as /var/log/api/*.log");
          continue;
        }
        const auto [other, fresh] = owner.emplace(file.value, source.name);
        if (!fresh)
          fields.warn(
              file.place,
              fmt::format("source \"{}\" reads {} too: its lines count twice", other->second, file.value),
              "remove one of them");
        source.files.push_back(file.value);
      }
      if (source.is_stdin && !source.files.empty())
        fields.error(fields.place("files"), "it reads standard input and files", "make two sources of it");
      if (!source.is_stdin && !fields.has("files"))
        fields.error(node.place, "it has neither `files:` nor `stdin: true`",
                     "as in `files: [/var/log/api/*.log]`");
      if (source.is_stdin && has_stdin)
        fields.error(node.place, "another source reads standard input already", "remove one of them");
      has_stdin = has_stdin || source.is_stdin;
      read_format(fields, source);
      read_timestamp(fields, source);
      if (const auto silence = fields.duration("max_silence")) {
        if (*silence <= rules::Duration{0})
          fields.error("max_silence", "it must be longer than 0", "as in 10m");
        source.max_silence = *silence;
      }
      if (const auto bytes = fields.bytes("max_line_bytes", 256, 16 * 1024 * 1024))
        source.max_line_bytes = static_cast<std::size_t>(*bytes);
      if (const auto from = fields.word("read_from", {"auto", "beginning", "end"}))
        source.read_from = static_cast<rules::ReadFrom>(*from);
      plan_->sources.push_back(std::move(source));
    }
  }

  static void read_format(const Fields& fields, rules::SourceSpec& source) {
    const std::optional<Text> format = fields.text("format");
    if (!format || format->assumed) return;
    static const std::vector<std::string> kFormats{"text", "json", "logfmt"};
    static const std::vector<std::string> kLater{"cri", "docker", "syslog"};
    if (contains(kLater, format->value)) {
      fields.error("format", fmt::format("`format: {}` is not supported yet", format->value),
                   "there are text, json and logfmt");
      return;
    }
    if (const auto which = fields.word("format", kFormats))
      source.format = static_cast<rules::LineFormat>(*which);
  }

  void read_timestamp(const Fields& fields, rules::SourceSpec& source) {
    if (const yaml::Node* node = fields.map("timestamp")) {
      const Fields inner(*node, fields.subject(), reading_, {"field", "format", "location"});
      if (const auto field = inner.text("field")) {
        source.timestamp.field = field->value;
        if (source.format == rules::LineFormat::kText)
          inner.error("field", "lines of `format: text` have no fields",
                      "remove it, or set the source's format");
      }
      if (const auto format = inner.text("format")) source.timestamp.format = format->value;
      if (const auto location = inner.text("location")) {
        source.timestamp.location = location->value;
        if (!rules::is_known_zone(location->value)) {
          inner.error("location",
                      fmt::format("there is no time zone \"{}\" on this machine", location->value),
                      "as in Europe/Berlin; Debian has them in the package tzdata");
          return;
        }
      }
      rules::Result<rules::TimestampReader> reader = rules::TimestampReader::make(source.timestamp);
      if (!reader) {
        inner.error("format", reader.error().message, "as in '%Y-%m-%d %H:%M:%S'");
        return;
      }
      source.timestamp_reader = std::make_shared<const rules::TimestampReader>(*std::move(reader));
      return;
    }
    if (rules::Result<rules::TimestampReader> reader = rules::TimestampReader::make({}))
      source.timestamp_reader = std::make_shared<const rules::TimestampReader>(*std::move(reader));
  }

  void read_sinks(const Fields& top) {
    const yaml::Node* node = top.map("sinks");
    if (node == nullptr) return;
    for (const yaml::Entry& entry : node->entries) {
      SinkDraft& draft = sinks_[entry.key];
      sink_names_.push_back(entry.key);
      draft.spec.name = entry.key;
      draft.spec.place = entry.key_place;
      // Kept apart until it is known which rules the sink's problems concern.
      reading_.problems = &draft.problems;
      read_sink(entry, draft);
      reading_.problems = &problems_;
    }
  }

  void read_sink(const yaml::Entry& entry, SinkDraft& draft) {
    static const std::vector<std::string> kGeneric{"fallback", "audience", "send_resolved"};
    const std::string subject = fmt::format("sink \"{}\"", entry.key);
    const auto is_name = [](const std::string& name) {
      return !name.empty() &&
             name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") ==
                 std::string::npos;
    };
    if (!is_name(entry.key) || entry.key == "none")
      draft.problems.error(entry.key_place, subject, "a sink cannot be called that",
                           "letters, digits, \"_\", \"-\" and \".\"; not \"none\"");
    std::vector<std::string> types;
    for (const sinks::SinkType& type : sinks::sink_types())
      types.emplace_back(type.key);
    if (!entry.value.is_map()) {
      draft.problems.error(entry.value.place, subject, "a sink is a map with its type",
                           "as in `" + entry.key + ": {slack: {webhook_url: '${SLACK_WEBHOOK_URL}'}}`");
      return;
    }
    std::vector<std::string> known = types;
    known.insert(known.end(), kGeneric.begin(), kGeneric.end());
    std::vector<std::string> tolerated = known;  // those that are said below
    for (const yaml::Entry& key : entry.value.entries) {
      if (!contains(later_sinks(), key.key) || contains(types, key.key)) continue;
      draft.problems.error(key.key_place, subject,
                           fmt::format("sinks of type `{}` are not supported yet", key.key),
                           "there are " + rules::list_words(types, 20));
      tolerated.push_back(key.key);
    }
    const Fields fields(entry.value, subject, reading_, tolerated);
    const sinks::SinkType* type = nullptr;
    for (const yaml::Entry& key : entry.value.entries) {
      const sinks::SinkType* found = sinks::find_sink_type(key.key);
      if (found == nullptr) continue;
      if (type != nullptr)
        fields.error(key.key_place, fmt::format("it is a `{}` already", type->key), "make two sinks of it");
      else
        type = found;
    }
    if (draft.spec.type.empty() && type == nullptr) {
      if (!draft.problems.has_errors())
        fields.error(entry.value.place, "it has no type", "one of " + rules::list_words(types, 20));
      return;
    }
    draft.spec.type = type->key;
    draft.spec.tells_people = type->tells_people;
    draft.spec.pages = type->pages;
    draft.spec.per_alert = type->per_alert;
    draft.spec.refresh = type->refresh;
    if (const auto resolved = fields.boolean("send_resolved")) draft.spec.send_resolved = *resolved;
    if (fields.word("audience", {"machine"})) draft.spec.machine_audience = true;
    draft.fallback = fields.texts("fallback").value_or(std::vector<Text>());
    std::vector<std::string> keys;
    keys.reserve(type->keys.size());
    for (const std::string_view key : type->keys)
      keys.emplace_back(key);
    SinkFields reader(Fields(*entry.value.find(type->key), subject, reading_, keys), world_);
    std::unique_ptr<sinks::SinkConfig> parsed = type->parse(reader);
    if (!parsed) {
      // A parser that says no without saying why would let a broken sink pass.
      if (!draft.problems.has_errors()) fields.error(entry.value.place, "it cannot be used");
      return;
    }
    draft.config = std::move(parsed);
    const std::size_t lanes = draft.config->lanes();
    for (std::size_t i = 1; i <= lanes; ++i)
      draft.spec.lanes.push_back(lanes == 1 ? entry.key : fmt::format("{}#{}", entry.key, i));
  }

  void read_time_intervals(const Fields& top) {
    if (const yaml::Node* node = top.raw("time_intervals"))
      intervals_ = rules::read_time_intervals(*node, reading_);
    plan_->time_intervals = intervals_.by_name;
  }

  void read_route(const Fields& top) {
    const yaml::Node* node = top.raw("route");
    if (node == nullptr) return;
    plan_->has_route = true;
    plan_->route = rules::read_route(*node, intervals_, reading_, route_sinks_);
    plan_->route.place = top.key_place("route");
  }

  void read_rules(const Fields& top) {
    rules::RuleSurroundings around;
    for (const rules::SourceSpec& source : plan_->sources)
      around.sources.emplace_back(source.name, source.format);
    around.sinks = sink_names_;
    around.external_labels = plan_->external_labels;
    around.now = world_.now;
    around.for_run = options_.for_run;
    rules::RuleReader reader(reading_, std::move(around));
    if (const yaml::Node* node = top.raw("patterns")) reader.patterns(*node);
    if (const yaml::Node* node = top.raw("rules")) reader.rules(*node);
    for (const std::string& file : rule_files(top)) {
      if (const yaml::Node* root = open(file)) reader.rule_file(*root);
    }
    rules::RuleSet set = reader.finish();
    plan_->patterns = std::move(set.patterns);
    plan_->rules = std::move(set.rules);
    complete_ = std::move(set.complete);
    wrote_sinks_ = std::move(set.wrote_sinks);
    if (plan_->rules.empty() && !problems_.has_errors())
      problems_.warn(Place{path_}, "", "there are no rules: nothing can ring", "write some under `rules:`");
  }

  std::vector<std::string> rule_files(const Fields& top) {
    std::vector<std::string> files;
    const std::string directory = directory_of(path_);
    for (const Text& text : top.texts("rule_files").value_or(std::vector<Text>())) {
      std::string wanted = text.value;
      const bool absolute = !wanted.empty() && wanted.front() == '/';
      const bool upwards = ("/" + wanted + "/").find("/../") != std::string::npos;
      if (wanted.empty() || upwards || (absolute && (directory.empty() || wanted.rfind(directory, 0) != 0))) {
        top.error(text.place, fmt::format("\"{}\" is not beneath the configuration's directory", wanted),
                  "rule files stand beside it or below, as in rules.d/*.yaml");
        continue;
      }
      if (!absolute) wanted = directory + wanted;
      std::vector<std::string> found = world_.glob(wanted);
      std::erase(found, path_);
      if (found.empty()) {
        top.error(text.place, fmt::format("no file matches \"{}\": its rules would be missing", text.value),
                  "put one there, or remove the line");
        continue;
      }
      for (const std::string& file : found) {
        if (!contains(files, file)) files.push_back(file);
      }
    }
    return files;
  }

  // --- what can only be judged once everything is known

  void check_fallbacks() {
    for (auto& [name, draft] : sinks_) {
      for (const Text& fallback : draft.fallback) {
        const std::string subject = fmt::format("sink \"{}\"", name);
        draft.spec.fallback.push_back(fallback.value);
        if (sinks_.count(fallback.value) == 0) {
          std::string fix = rules::did_you_mean(fallback.value, sink_names_);
          if (fix.empty()) fix = "there are " + rules::list_words(sink_names_, 20);
          draft.problems.error(fallback.place, subject,
                               fmt::format("its fallback \"{}\" is not defined", fallback.value),
                               std::move(fix));
        } else if (leads_to(fallback.value, name)) {
          draft.problems.error(
              fallback.place, subject,
              fallback.value == name
                  ? std::string("it is its own fallback")
                  : fmt::format("its fallback \"{}\" falls back on it again", fallback.value),
              "break the circle");
        }
      }
    }
  }

  bool leads_to(const std::string& from, const std::string& to) const {
    std::set<std::string> seen;
    std::vector<std::string> open{from};
    while (!open.empty()) {
      const std::string at = open.back();
      open.pop_back();
      if (at == to) return true;
      const auto draft = sinks_.find(at);
      if (draft == sinks_.end() || !seen.insert(at).second) continue;
      for (const Text& next : draft->second.fallback)
        open.push_back(next.value);
    }
    return false;
  }

  // Whether the sink, if it is there, tells somebody.
  bool counts(const std::string& sink) const {
    const auto draft = sinks_.find(sink);
    return draft != sinks_.end() && (draft->second.spec.tells_people || draft->second.spec.machine_audience);
  }

  // For people: `when queue="a" holds and team="b" does not`.
  static std::string when(const rules::Way& way) {
    return way.assumptions.empty() ? "" : fmt::format(" when {}", fmt::join(way.assumptions, " and "));
  }

  const rules::Route* route_of(const std::string& id) const { return find_route(plan_->route, id); }
  static const rules::Route* find_route(const rules::Route& route, const std::string& id) {
    if (route.id == id) return &route;
    for (const rules::Route& child : route.routes) {
      if (const rules::Route* found = find_route(child, id)) return found;
    }
    return nullptr;
  }

  // Why nobody hears of an alert on this way; "" when somebody does, or when the reason is said elsewhere.
  std::string uncovered(const rules::Way& way, std::string& fix) {
    if (way.routes.empty() && !way.assumptions.empty()) {
      fix = "make the route simpler, or give the rule its own `sinks:`";
      return way.assumptions.front();
    }
    std::vector<std::string> sinks = way.sinks;
    std::vector<std::string> muted;
    if (!way.routes.empty()) {
      sinks.clear();
      for (const std::string& id : way.routes) {
        const rules::Route* node = route_of(id);
        if (always_muted(*node)) {
          muted.push_back(id);
          continue;
        }
        for (const std::string& sink : node->options.sinks) {
          if (!contains(sinks, sink)) sinks.push_back(sink);
        }
      }
    }
    if (std::any_of(sinks.begin(), sinks.end(), [&](const std::string& sink) { return counts(sink); }))
      return "";
    if (sinks.empty() && !muted.empty()) {
      fix = "change the time intervals";
      return fmt::format("it reaches nobody{}: {} is muted at every hour of the coming year", when(way),
                         describe(muted));
    }
    if (sinks.empty()) {
      fix = kGiveSinks;
      return fmt::format("it reaches no sink{}: {} has none", when(way), describe(way.routes));
    }
    // What is not defined is said where it is named, with the rules that lose it.
    std::vector<std::string> defined;
    for (const std::string& sink : sinks) {
      if (sinks_.count(sink) != 0) defined.push_back(sink);
    }
    if (defined.empty()) return "";
    fix = "add a sink that tells somebody; if a machine reads that one, say `audience: machine`";
    return fmt::format("it reaches only {}{}: files and consoles tell nobody", rules::list_words(defined),
                       when(way));
  }

  std::string describe(const std::vector<std::string>& routes) const {
    std::vector<std::string> words;
    for (const std::string& id : routes) {
      const rules::Route* node = route_of(id);
      words.push_back(id == "route" ? fmt::format("the root route (line {})", node->place.line)
                                    : fmt::format("the route at line {}", node->place.line));
    }
    return rules::list_words(words);
  }

  bool always_muted(const rules::Route& node) {
    const auto [known, fresh] = muted_.emplace(node.id, false);
    if (fresh) known->second = rules::is_always_muted(node.options, plan_->time_intervals, world_.now);
    return known->second;
  }

  void check_reach() {
    const std::vector<rules::Reach> reach = rules::reach_of(*plan_);
    for (std::size_t i = 0; i < reach.size(); ++i) {
      const rules::Reach& one = reach[i];
      if (one.built_in) continue;
      if (one.silent != nullptr) {
        ++plan_->rules_without_sink;
        continue;
      }
      note_users(one);
      const std::string subject = fmt::format("rule \"{}\"", one.alert);
      if (wrote_sinks_[i] && !one.own_sinks) continue;  // what it wrote was refused: that is said there
      if (one.ways.empty()) {
        if (!plan_->has_route) {
          problems_.error(
              one.place, subject,
              "it reaches no sink: it has no `sinks:` of its own, and there is no `route:`",
              sink_names_.empty()
                  ? "define a sink under `sinks:`, and name it: `sinks: [NAME]`"
                  : fmt::format("write `sinks: [{}]`, or a `route:` with `sinks:`", sink_names_.front()));
        }
        continue;
      }
      std::string first;
      std::string first_fix;
      std::size_t others = 0;
      for (const rules::Way& way : one.ways) {
        std::string fix;
        const std::string why = uncovered(way, fix);
        if (why.empty()) continue;
        if (first.empty()) {
          first = why;
          first_fix = fix;
        } else {
          ++others;
        }
      }
      if (first.empty()) continue;
      if (others > 0) first += fmt::format(" ({} more such {})", others, others == 1 ? "way" : "ways");
      problems_.error(one.place, subject, first, first_fix);
    }
    check_built_in(reach);
    check_route_sinks();
    check_unused();
    check_routes(reach);
  }

  void note_users(const rules::Reach& reach) {
    for (const rules::Way& way : reach.ways) {
      for (const std::string& sink : way.sinks)
        add_once(users_[sink], reach.alert);
    }
  }
  static void add_once(std::vector<std::string>& list, const std::string& word) {
    if (!contains(list, word)) list.push_back(word);
  }

  void check_built_in(const std::vector<rules::Reach>& reach) {
    std::vector<std::string> lost;
    std::string why;
    std::string how;
    for (const rules::Reach& one : reach) {
      if (!one.built_in) continue;
      for (const rules::Way& way : one.ways) {
        std::string fix;
        std::string reason = uncovered(way, fix);
        if (!plan_->has_route && way.sinks.empty()) reason = "none";
        if (reason.empty()) continue;
        add_once(lost, one.alert);
        if (why.empty()) {
          why = reason;
          how = fix;
        }
      }
    }
    if (lost.empty()) return;
    const std::string names = rules::list_words(lost, 10);
    if (plan_->has_route) {
      static constexpr std::string_view kOne = "it reaches";
      if (why.compare(0, kOne.size(), kOne) == 0) why = "they reach" + why.substr(kOne.size());
      if (how == kGiveSinks) how = "give that route `sinks:`";
      problems_.error(plan_->route.place, "route",
                      fmt::format("logbell's own alerts ({}) are not covered: {}", names, why), how);
    } else if (!sink_names_.empty()) {
      problems_.warn(
          sinks_.at(sink_names_.front()).spec.place, "",
          fmt::format("logbell's own alerts ({}) tell nobody: there is no `route:`, and no sink tells people",
                      names),
          "add a `route:` with `sinks:`");
    }
  }

  void check_route_sinks() {
    for (const rules::RouteSink& named : route_sinks_) {
      if (sinks_.count(named.sink) != 0) continue;
      std::string fix = rules::did_you_mean(named.sink, sink_names_);
      if (fix.empty())
        fix = sink_names_.empty()
                  ? "define it under `sinks:`"
                  : "define it under `sinks:`; there are " + rules::list_words(sink_names_, 20);
      problems_.error(named.place, "route",
                      fmt::format("sink \"{}\" is not defined{}", named.sink, wanted_by(users_[named.sink])),
                      std::move(fix));
    }
  }

  static std::string wanted_by(const std::vector<std::string>& rules_named) {
    if (rules_named.empty()) return "";
    return fmt::format(" ({} {} on it)", rules::list_words(rules_named, 10),
                       rules_named.size() == 1 ? "relies" : "rely");
  }

  void check_unused() {
    std::set<std::string> used;
    for (const rules::AlertingRule& rule : plan_->rules)
      used.insert(rule.sinks.begin(), rule.sinks.end());
    for (const rules::RouteSink& named : route_sinks_)
      used.insert(named.sink);
    std::vector<std::string> open(used.begin(), used.end());
    while (!open.empty()) {
      const auto draft = sinks_.find(open.back());
      open.pop_back();
      if (draft == sinks_.end()) continue;
      for (const Text& fallback : draft->second.fallback) {
        if (used.insert(fallback.value).second) open.push_back(fallback.value);
        for (const std::string& rule : users_[draft->first])
          add_once(users_[fallback.value], rule);
      }
    }
    for (const std::string& name : sink_names_) {
      if (used.count(name) == 0)
        problems_.warn(sinks_.at(name).spec.place, fmt::format("sink \"{}\"", name),
                       "no rule, route or fallback uses it", "use it, or remove it");
    }
  }

  // Routes that nothing can take, and `continue`s that change nothing.
  void check_routes(const std::vector<rules::Reach>& reach) {
    const bool all_known = std::all_of(complete_.begin(), complete_.end(), [](bool known) { return known; });
    if (!plan_->has_route || !all_known || plan_->rules.empty()) return;
    std::set<std::string> taken;
    for (const rules::Reach& one : reach) {
      if (one.built_in) continue;
      for (const rules::Way& way : one.ways)
        taken.insert(way.routes.begin(), way.routes.end());
    }
    // Logbell's own have one of these severities: a misspelt one must not pass for theirs.
    for (const std::string& name : rules::built_in_alerts()) {
      for (const char* severity : {"critical", "warning", "info"}) {
        rules::LabelSpace space = rules::built_in_space(name, plan_->external_labels);
        std::erase(space.from_logs, "severity");
        space.fixed.set("severity", severity);
        for (const rules::RoutePath& path : rules::possible_paths(plan_->route, space)) {
          for (const rules::Route* node : path.nodes)
            taken.insert(node->id);
        }
      }
    }
    std::size_t nodes = 0;
    std::function<void(const rules::Route&)> count = [&](const rules::Route& route) {
      ++nodes;
      for (const rules::Route& child : route.routes)
        count(child);
    };
    count(plan_->route);
    if (nodes * (plan_->rules.size() + 1) > kMaxRoutePairs) return;
    look_at(plan_->route, taken, reach);
  }

  // Whether anything takes the node or what hangs below it.
  static bool is_taken(const rules::Route& route, const std::set<std::string>& taken) {
    return taken.count(route.id) != 0 ||
           std::any_of(route.routes.begin(), route.routes.end(),
                       [&](const rules::Route& child) { return is_taken(child, taken); });
  }

  void look_at(const rules::Route& route, const std::set<std::string>& taken,
               const std::vector<rules::Reach>& reach) {
    for (std::size_t i = 0; i < route.routes.size(); ++i) {
      const rules::Route& child = route.routes[i];
      if (!is_taken(child, taken)) {
        problems_.warn(child.place, "route",
                       "no rule can take it: its matchers fit none, or a route before it takes all",
                       "correct its matchers, or remove it");
        continue;
      }
      if (child.continue_ && i + 1 < route.routes.size() && !continue_matters(child.id, reach)) {
        problems_.warn(child.place, "route",
                       "its `continue: true` does nothing: no later route takes what it takes",
                       "remove it, or correct the later route");
      }
      look_at(child, taken, reach);
    }
  }

  static void stop_at(rules::Route& route, const std::string& id) {
    if (route.id == id) route.continue_ = false;
    for (rules::Route& child : route.routes)
      stop_at(child, id);
  }

  bool continue_matters(const std::string& id, const std::vector<rules::Reach>& reach) const {
    rules::Plan other;
    other.patterns = plan_->patterns;
    other.rules = plan_->rules;
    other.external_labels = plan_->external_labels;
    other.has_route = true;
    other.route = plan_->route;
    stop_at(other.route, id);
    const std::vector<rules::Reach> without = rules::reach_of(other);
    return !std::equal(reach.begin(), reach.end(), without.begin(), without.end(),
                       [](const rules::Reach& a, const rules::Reach& b) {
                         return std::equal(
                             a.ways.begin(), a.ways.end(), b.ways.begin(), b.ways.end(),
                             [](const rules::Way& x, const rules::Way& y) { return x.routes == y.routes; });
                       });
  }

  // A sink's problems, each with the rules that rely on it.
  void report_sinks() {
    for (const std::string& name : sink_names_) {
      const SinkDraft& draft = sinks_.at(name);
      for (const rules::Problem& problem : draft.problems.all()) {
        if (problem.severity == rules::Severity::kWarning) {
          problems_.warn(problem.place, problem.subject, problem.reason, problem.fix);
        } else {
          problems_.error(problem.place, problem.subject, problem.reason + wanted_by(users_[name]),
                          problem.fix);
        }
      }
    }
  }

  // Matching wants compiled sets; only a configuration without errors gets them.
  void finish_sources() {
    for (rules::SourceSpec& source : plan_->sources) {
      std::vector<std::uint32_t> wanted;
      for (std::uint32_t i = 0; i < plan_->patterns.size(); ++i) {
        const rules::PatternSpec& pattern = plan_->patterns[i];
        if (pattern.sources.empty() || contains(pattern.sources, source.name)) wanted.push_back(i);
      }
      source.patterns = rules::PatternSet::compile(plan_->patterns, wanted, source.format);
    }
  }

  rules::Fingerprint hash() const {
    std::string all;
    for (const auto& [file, text] : config_.texts)
      all += file + '\0' + text + '\0';
    for (const auto& [name, value] : reading_.used)
      all += name + '\1' + value + '\0';
    all += plan_->external_labels.format();
    return rules::hash_bytes(all);
  }

  const std::string path_;
  const ConfigWorld& world_;
  const LoadOptions options_;
  Problems& problems_;
  Reading reading_;
  Config config_;
  std::deque<yaml::Node> documents_;  // everything below may point into them
  rules::Plan* plan_ = nullptr;
  std::vector<std::string> sink_names_;  // in the order written
  std::map<std::string, SinkDraft> sinks_;
  rules::TimeIntervals intervals_;
  std::vector<rules::RouteSink> route_sinks_;
  std::vector<bool> complete_;
  std::vector<bool> wrote_sinks_;
  std::map<std::string, bool> muted_;                      // by route
  std::map<std::string, std::vector<std::string>> users_;  // rules by sink
};

bool same_ways(const rules::Reach& a, const rules::Reach& b) {
  return std::equal(a.ways.begin(), a.ways.end(), b.ways.begin(), b.ways.end(),
                    [](const rules::Way& x, const rules::Way& y) {
                      return x.routes == y.routes && x.assumptions == y.assumptions && x.sinks == y.sinks;
                    });
}

// Three columns, as wide as they must be; the last is not padded.
std::string format_columns(const std::vector<std::array<std::string, 3>>& rows) {
  std::array<std::size_t, 2> width{};
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < width.size(); ++i)
      width[i] = std::max(width[i], std::min(row[i].size(), std::size_t{60}));
  }
  std::string out;
  for (const auto& row : rows)
    out += fmt::format("{:<{}}  {:<{}}  {}\n", row[0], width[0], row[1], width[1], row[2]);
  return out;
}

}  // namespace

ConfigWorld ConfigWorld::real(rules::Timestamp now) {
  ConfigWorld world;
  world.env = [](const std::string& name) -> std::optional<std::string> {
    // NOLINTNEXTLINE(concurrency-mt-unsafe): nothing in this process changes the environment
    const char* value = std::getenv(name.c_str());
    return value == nullptr ? std::nullopt : std::optional<std::string>(value);
  };
  world.read_file = read_whole_file;
  world.glob = [](const std::string& pattern) {
    std::vector<std::string> found;
    glob_t result{};
    if (::glob(pattern.c_str(), 0, nullptr, &result) == 0)
      found.assign(result.gl_pathv, result.gl_pathv + result.gl_pathc);
    ::globfree(&result);
    return found;
  };
  world.readable_by_others = [](const std::string& path) {
    struct stat status {};
    return ::stat(path.c_str(), &status) == 0 && (status.st_mode & (S_IRGRP | S_IROTH)) != 0;
  };
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) == 0) world.hostname = name.data();
  world.now = now;
  return world;
}

ConfigWorld ConfigWorld::with_texts(std::vector<std::pair<std::string, std::string>> texts) const {
  ConfigWorld world = *this;
  const auto shared =
      std::make_shared<const std::vector<std::pair<std::string, std::string>>>(std::move(texts));
  world.read_file = [shared, outside = read_file](const std::string& path) -> rules::Result<std::string> {
    for (const auto& [file, text] : *shared) {
      if (file == path) return text;
    }
    return outside(path);
  };
  world.glob = [shared](const std::string& pattern) {
    // The stored files are exactly those that the stored patterns found.
    std::vector<std::string> found;
    for (const auto& [file, text] : *shared) {
      if (::fnmatch(pattern.c_str(), file.c_str(), FNM_PATHNAME | FNM_PERIOD) == 0) found.push_back(file);
    }
    return found;
  };
  return world;
}

std::string format_reach_table(const Config& config) {
  const rules::Plan& plan = *config.plan;
  std::vector<std::array<std::string, 3>> rows{{"RULE", "ROUTE", "SINKS"}};
  const std::vector<rules::Reach> all = rules::reach_of(plan);
  for (std::size_t i = 0; i < all.size(); ++i) {
    const rules::Reach& reach = all[i];
    // Logbell's own take the same ways in nearly every configuration: one row then says it.
    if (reach.built_in && i > 0 && all[i - 1].built_in && same_ways(all[i - 1], reach)) continue;
    std::string name = reach.alert;
    if (reach.built_in) {
      std::size_t end = i + 1;
      while (end < all.size() && same_ways(all[end], reach))
        ++end;
      if (end - i == rules::built_in_alerts().size()) {
        name = "(logbell's own)";
      } else if (end - i > 1) {
        name += fmt::format(" and {} more", end - i - 1);
      }
    }
    if (reach.silent != nullptr) {
      const rules::Timestamp last = reach.silent->until - std::chrono::hours(24);
      rows.push_back({name, "sinks: none",
                      fmt::format("nobody until {}: {}", rules::format_rfc3339(last).substr(0, 10),
                                  rules::clean_text(reach.silent->reason, 200))});
      continue;
    }
    for (std::size_t w = 0; w < reach.ways.size(); ++w) {
      const rules::Way& way = reach.ways[w];
      const auto same_sinks = [&](const rules::Way& other) { return other.sinks == way.sinks; };
      const auto here = reach.ways.begin() + static_cast<std::ptrdiff_t>(w);
      if (std::any_of(reach.ways.begin(), here, same_sinks)) continue;
      const auto more = std::count_if(here + 1, reach.ways.end(), same_sinks);
      std::string route = reach.own_sinks  ? "its own sinks"
                          : plan.has_route ? ""
                                           : "no route: all that tell people";
      for (const std::string& id : way.routes)
        route += (route.empty() ? "" : " + ") + rules::describe_route(plan.route, id);
      std::vector<std::string> conditions;
      for (const std::string& assumption : way.assumptions) {
        static constexpr std::string_view kHolds = " holds";
        static constexpr std::string_view kDoesNot = " does not hold";
        if (assumption.size() > kDoesNot.size() &&
            assumption.compare(assumption.size() - kDoesNot.size(), std::string::npos, kDoesNot) == 0) {
          conditions.push_back("not " + assumption.substr(0, assumption.size() - kDoesNot.size()));
        } else {
          // What the route's own matchers say already need not be said twice.
          const std::string held = assumption.substr(0, assumption.size() - kHolds.size());
          if (route.find(held) == std::string::npos) conditions.push_back(held);
        }
      }
      if (!conditions.empty()) route += fmt::format(" if {}", fmt::join(conditions, " and "));
      if (more > 0) route += fmt::format(", and {} more way{}", more, more == 1 ? "" : "s");
      rows.push_back({name, route, way.sinks.empty() ? "-" : fmt::format("{}", fmt::join(way.sinks, ", "))});
      name.clear();
    }
  }
  std::string out = format_columns(rows);
  std::vector<std::array<std::string, 3>> sinks{{"SINK", "TYPE", "LEADS TO"}};
  for (const auto& [name, spec] : plan.sinks) {
    std::string leads = config.sinks.at(name)->destination();
    if (leads.find("assumed.invalid") != std::string::npos) leads = "(left out)";
    if (!spec.fallback.empty()) leads += fmt::format(", else {}", fmt::join(spec.fallback, ", "));
    if (spec.machine_audience) leads += ", read by a machine";
    if (!spec.send_resolved) leads += ", no resolves";
    sinks.push_back({name, spec.type, leads});
  }
  return out + "\n" + format_columns(sinks);
}

std::shared_ptr<const Config> load_config(const std::string& path, const ConfigWorld& world,
                                          const LoadOptions& options, Problems& problems) {
  return Compiler(path, world, options, problems).compile();
}

std::vector<std::pair<rules::SinkSpec, std::shared_ptr<const sinks::SinkConfig>>> salvage_sinks(
    const std::string& path, const ConfigWorld& world) {
  Problems unheard;  // they were told when the configuration was refused
  return Compiler(path, world, LoadOptions{}, unheard).salvage();
}

}  // namespace logbell::engine

#include "engine/run/config.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <functional>
#include <set>
#include <system_error>

#include <fcntl.h>
#include <fmt/format.h>
#include <fnmatch.h>
#include <glob.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "engine/io/glob.h"
#include "engine/run/api.h"
#include "engine/run/config_keys.h"
#include "engine/run/drill_schedule.h"
#include "engine/run/input_fields.h"
#include "engine/run/sink_fields.h"
#include "rules/coverage.h"
#include "rules/fields.h"
#include "rules/reach.h"
#include "rules/redact.h"
#include "rules/route_file.h"
#include "rules/rule_file.h"
#include "rules/text.h"
#include "rules/yaml.h"
#include "sinks/encode.h"
#include "sinks/http.h"
#include "sinks/registry.h"
#include "sinks/sink_keys.h"

namespace logbell::engine {
namespace {

using rules::Fields;
using rules::ForeignKey;
using rules::Place;
using rules::Problems;
using rules::Reading;
using rules::Text;
namespace fs = std::filesystem;
namespace yaml = rules::yaml;

std::string folder_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash + 1);
}

rules::Result<std::string> read_whole_file(const std::string& path) {
  const auto failed = [&](int error) {
    const auto code = error == ENOENT ? rules::ErrorCode::kNotFound : rules::ErrorCode::kIo;
    return rules::fail(code, rules::errno_text(error));
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

// A sink as far as it could be read; what is wrong with it waits until it is known which rules it concerns.
struct SinkDraft {
  rules::SinkSpec spec;
  std::shared_ptr<const sinks::SinkConfig> config;
  std::vector<Text> fallback;
  std::string proxy;  // as written; "": none is
  Problems problems;
};

const std::vector<std::string>& later_sinks() {
  static const std::vector<std::string> kNames{"opsgenie", "teams",
                                               "discord",   "telegram", "ntfy",
                                               "heartbeat", "smtp",     "msteams"};
  return kNames;
}

// --- the whole file

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
    {"drill", "`drill:` belongs to a sink", "write `drills:` for the schedule"},
    {"proof", "`proof:` is not supported yet", "remove it"},
    {"scrape_configs", "logbell scrapes nothing", "Prometheus scrapes logbell at `listen:`"},
    {"alerting", "there is no `alerting:`", "Alertmanager is a sink: `sinks: {am: {alertmanager: {…}}}`"}};
const std::vector<std::string> kInputKeys{"files", "stdin", "syslog", "fifo", "journald"};
const std::vector<ForeignKey> kForeignSourceKeys{
    {"path", "a source's files are its `files:`", "write `files: ['…']`"},
    {"paths", "a source's files are its `files:`", "write `files: ['…']`"},
    {"file", "a source's files are its `files:`", "write `files: ['…']`"},
    {"unix", "sockets are read as `syslog:`", "write `syslog: {listen: 'unix:///run/app/log.sock'}`"},
    {"udp", "sockets are read as `syslog:`", "write `syslog: {listen: 'udp://127.0.0.1:5514'}`"},
    {"tcp", "sockets are read as `syslog:`", "write `syslog: {listen: 'tcp://127.0.0.1:5514'}`"},
    {"listen", "`listen:` belongs to `syslog:`", "write `syslog: {listen: …}`"},
    {"journal", "the journal is `journald:`", "write `journald: {units: [orders-api.service]}`"},
    {"pipe", "a named pipe is `fifo:`", "write `fifo: /run/app/log.pipe`"},
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
    const Fields top(*root, "", reading_, config_keys(), kForeignTopKeys);
    if (!root->is_map()) return nullptr;
    auto plan = std::make_shared<rules::Plan>();
    plan_ = plan.get();
    plan->generation = options_.generation;
    read_settings(top);
    read_sources(top);
    read_sinks(top);
    read_heartbeats_of(top);
    read_time_intervals(top);
    read_max_proof_age(top);
    read_drills(top);
    read_route(top);
    read_rules(top);
    check_fallbacks();
    for (const auto& [name, draft] : sinks_)
      plan->sinks[name] = draft.spec;
    const rules::Coverage coverage = rules::check_coverage(
        *plan, {complete_, wrote_sinks_, route_sinks_, sink_names_, heartbeats_sink_, world_.now}, problems_);
    plan->rules_without_sink = coverage.rules_without_sink;
    report_sinks(coverage);
    warn_of_own_files();
    plan->hash = hash();
    if (problems_.has_errors() && !options_.inspect) return nullptr;
    if (!options_.inspect) finish_sources();
    auto config = std::make_shared<Config>(std::move(config_));
    for (auto& [name, draft] : sinks_) {
      if (!draft.config || draft.problems.has_errors()) continue;  // else it was refused
      config->sinks[name] = draft.config;
      for (rules::Secret& secret : draft.config->secrets())
        config->secrets.push_back(std::move(secret));
    }
    if (config->heartbeat) {
      for (rules::Secret& secret : config->heartbeat->secrets())
        config->secrets.push_back(std::move(secret));
    }
    for (const auto& [name, listened] : config->listened_for) {
      if (!listened.token.empty()) config->secrets.push_back(listened.token);
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
    const Fields top(*root, "", reading_, config_keys(), kForeignTopKeys);
    read_sinks(top);
    if (const auto heartbeats = heartbeats_sink(top)) sinks_.erase(heartbeats->value);
    for (auto& [name, draft] : sinks_) {
      if (draft.config && !draft.problems.has_errors() && draft.spec.tells_people)
        out.emplace_back(draft.spec, draft.config);
    }
    return out;
  }

 private:
  // `named_at`: where another file names it.
  const yaml::Node* open(const std::string& path, const Place* named_at = nullptr) {
    rules::Result<std::string> text = world_.read_file(path);
    if (!text) {
      const bool missing = text.error().code == rules::ErrorCode::kNotFound;
      if (named_at != nullptr) {
        problems_.error(*named_at, "",
                        fmt::format("the rule file {} cannot be read: {}", path, text.error().message),
                        "name files, as in rules.d/*.yaml, and let logbell's user read them");
      } else {
        problems_.error(Place{path}, "", "cannot be read: " + text.error().message,
                        missing ? "name the configuration, as in: logbell check FILE" : "");
      }
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
      config_.external_url = external_url(top, *url);
    }
    if (const auto age = top.duration("max_replay_age")) {
      if (*age <= rules::Duration{0}) {
        top.error("max_replay_age", "it must be longer than 0", "as in 15m");
      } else {
        plan_->max_replay_age = *age;
      }
    }
  }

  // Where people reach `listen:`, as a proxy before it shows it: links in messages begin with it.
  static std::string external_url(const Fields& top, const Text& written) {
    static constexpr const char* kFix = "as in https://logbell.example.com, without user, password and what follows a \"?\"";
    if (written.assumed) return written.value;
    const bool placeholder = rules::is_placeholder(written.value);
    const rules::Result<sinks::Url> url = sinks::parse_url(written.value);
    if (placeholder || !url || url->path.find('?') != std::string::npos || !sinks::LinkUrl::from(written.value)) {
      // A password or a token may be in it.
      const bool secret = written.value.find_first_of("@?") != std::string::npos;
      top.error("external_url",
                fmt::format("{} is {}", secret ? "what is written here" : fmt::format("\"{}\"", written.value),
                            placeholder ? "a placeholder" : "not a URL that links can begin with"),
                kFix);
      return {};
    }
    std::string address = written.value;
    while (address.back() == '/')
      address.pop_back();
    return address;
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
                          source_keys(), kForeignSourceKeys);
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
        if (file.value.front() == '~') {
          fields.error(file.place, fmt::format("\"{}\": no shell reads it, so ~ is no home", file.value),
                       "write the whole path");
        } else if (file.value.front() != '/' && !file.assumed) {
          fields.warn(file.place, fmt::format("\"{}\" is looked for where logbell starts", file.value),
                      "write the whole path");
        }
        const auto [other, fresh] = owner.emplace(file.value, source.name);
        if (!fresh && other->second == source.name) {
          fields.warn(file.place, fmt::format("{} is named twice", file.value), "remove one of them");
        } else if (!fresh) {
          // A file is read once: what looks at the other source would wait for ever.
          fields.error(file.place, fmt::format("source \"{}\" reads {} already, and a file is read once", other->second, file.value),
                       fmt::format("remove one of them, and let the patterns of both name the other: `source: {}`", other->second));
        }
        source.files.push_back(file.value);
      }
      if (source.is_stdin && !source.files.empty())
        fields.error(fields.place("files"), "it reads standard input and files", "make two sources of it");
      read_inputs(fields, source);
      const auto count = std::count_if(kInputKeys.begin(), kInputKeys.end(),
                                       [&](const std::string& key) { return fields.has(key); });
      if (count > 1 && !(source.is_stdin && !source.files.empty()))
        fields.error(node.place, "it has more than one of " + rules::list_words(kInputKeys, 9),
                     "make two sources of it");
      if (!source.is_stdin && count == 0)
        fields.error(node.place, "it has nothing to read",
                     "as in `files: [/var/log/api/*.log]`; or one of " + rules::list_words(kInputKeys, 9));
      for (const rules::StreamSpec& input : source.streams) {
        const auto [other, fresh] = owner.emplace(input.text, source.name);
        if (!fresh && other->second != source.name)
          fields.error(node.place, fmt::format("source \"{}\" reads {} already", other->second, input.text),
                       "remove one of them");
      }
      if (source.is_stdin && has_stdin)
        fields.error(node.place, "another source reads standard input already", "remove one of them");
      has_stdin = has_stdin || source.is_stdin;
      read_format(fields, source);
      read_multiline(fields, source);
      const bool has_header =
          source.envelope == rules::Envelope::kSyslog || source.envelope == rules::Envelope::kJournal;
      if (source.multiline != nullptr && has_header)
        fields.error("multiline", "each message stands alone: those of many programs come through one another",
                     "remove it; rsyslog writes the lines of one message as one line");
      read_timestamp(fields, source);
      // A header's time may lack its zone: to say that is to describe no other time.
      if (has_header && source.timestamp.field.empty() && source.timestamp.format.empty())
        source.own_timestamp = false;
      if (const auto silence = fields.duration("max_silence")) {
        if (*silence <= rules::Duration{0})
          fields.error("max_silence", "it must be longer than 0", "as in 10m");
        source.max_silence = *silence;
      }
      if (const auto bytes = fields.bytes("max_line_bytes"))
        source.max_line_bytes = static_cast<std::size_t>(*bytes);
      if (const auto from = fields.word("read_from"))
        source.read_from = static_cast<rules::ReadFrom>(*from);
      read_uncovered_errors(fields, source);
      if (fields.has("read_from") && (fields.has("syslog") || fields.has("fifo")))
        fields.error(fields.key_place("read_from"), "what comes through it has no beginning and no end",
                     "remove it");
      plan_->sources.push_back(std::move(source));
    }
  }

  // `uncovered_errors: none`, or a map.
  void read_uncovered_errors(const Fields& fields, rules::SourceSpec& source) {
    const yaml::Node* node = fields.raw("uncovered_errors");
    if (node == nullptr) return;
    if (node->is_scalar() && node->scalar == "none") {
      source.uncovered_errors.reset();
      return;
    }
    if (!node->is_map()) {
      fields.error("uncovered_errors", "it is a map, or none",
                   "as in `uncovered_errors: {at_least: 10, within: 1h, exclude: 'ERROR known'}`");
      return;
    }
    const Fields in(*node, fields.subject(), reading_, uncovered_errors_keys(),
                    {{"match", "what looks like an error is not described here", "write a rule for it, or `exclude:`"}});
    if (const auto least = in.integer("at_least"))
      source.uncovered_errors->at_least = static_cast<std::size_t>(*least);
    if (const auto within = in.duration("within")) {
      if (*within < std::chrono::minutes(1) || *within > std::chrono::hours(24))
        in.error("within", "it must be between 1m and 24h", "as in 1h");
      source.uncovered_errors->within = *within;
    }
    for (const Text& text : in.texts("exclude").value_or(std::vector<Text>())) {
      auto regex = rules::Regex::compile(text.value);
      if (!regex) {
        in.error(reading_.place_in(text, regex.error().offset), "`exclude:` " + regex.error().format(),
                 regex.error().hint);
      } else {
        source.uncovered_errors->exclude.push_back(*std::move(regex));
      }
    }
  }

  static void read_format(const Fields& fields, rules::SourceSpec& source) {
    const std::optional<Text> format = fields.text("format");
    if (format && format->assumed) return;
    // Sockets and the journal have their own, unless another is said.
    if (!format && fields.has("syslog")) source.envelope = rules::Envelope::kSyslog;
    if (fields.has("journald")) {
      source.envelope = rules::Envelope::kJournal;
      if (format)
        fields.error("format", "the journal has a format of its own", "write `inner:` for that of its messages");
    }
    // In the order of their enumerators: what lines are, then what they come in.
    constexpr std::size_t kFormats = 3;
    const auto which = fields.has("journald") ? std::nullopt : fields.word("format");
    if (which && *which < kFormats) source.format = static_cast<rules::LineFormat>(*which);
    if (which && *which >= kFormats)
      source.envelope = static_cast<rules::Envelope>(*which - kFormats + 1);
    if (!fields.has("inner")) return;
    if ((which || !format) && source.envelope == rules::Envelope::kNone) {
      fields.error("inner", fmt::format("`inner:` is the format of lines in an envelope, and `format: {}` is none",
                                        format ? format->value : "text"),
                   "remove it, or write `format: cri`, `docker` or `syslog`");
    } else if (const auto inner = fields.word("inner")) {
      source.format = static_cast<rules::LineFormat>(*inner);
    }
  }

  // `multiline: auto`, `multiline: java`, or a map with `first_line:` or `languages:`.
  void read_multiline(const Fields& fields, rules::SourceSpec& source) {
    using Language = rules::Multiline::Language;
    static const std::vector<std::string> kLanguages{"java", "python", "go", "node"};
    static const std::vector<Language> kAll{Language::kJava, Language::kPython, Language::kGo, Language::kNode};
    const yaml::Node* node = fields.raw("multiline");
    if (node == nullptr) return;
    const auto languages = [&](const Fields& in, const char* key) -> std::optional<std::vector<Language>> {
      std::vector<Language> wanted;
      for (const Text& name : in.texts(key).value_or(std::vector<Text>())) {
        if (name.value == "auto") return kAll;
        const auto found = std::find(kLanguages.begin(), kLanguages.end(), name.value);
        if (found == kLanguages.end()) {
          std::string fix = rules::did_you_mean(name.value, kLanguages);
          if (fix.empty()) fix = "auto, java, python, go or node; or say how a record begins: {first_line: REGEX}";
          in.error(name.place, fmt::format("stack traces of \"{}\" are not known", name.value), std::move(fix));
          return std::nullopt;
        }
        wanted.push_back(static_cast<Language>(found - kLanguages.begin()));
      }
      if (wanted.empty()) return std::nullopt;
      return wanted;
    };
    if (!node->is_map()) {
      if (const auto wanted = languages(fields, "multiline"))
        source.multiline = std::make_shared<const rules::Multiline>(rules::Multiline::traces(*wanted));
      return;
    }
    const Fields in(*node, fields.subject(), reading_, multiline_keys(),
                    {{"pattern", "the regex is `first_line:`", "write {first_line: '…'}"},
                     {"firstline", "the regex is `first_line:`", "write {first_line: '…'}"},
                     {"negate", "`first_line:` says where a record begins", "remove it"},
                     {"match", "lines between two first lines belong to the former", "remove it"},
                     {"max_wait_time", "it is called `timeout:` here", "as in {first_line: '…', timeout: 3s}"}});
    std::optional<rules::Multiline> made;
    if (in.has("first_line") == in.has("languages")) {
      in.error(node->place, "`multiline:` has either `first_line:` or `languages:`",
               "as in {first_line: '^\\d{4}-'} or {languages: [java]}");
      return;
    }
    if (const auto first = in.text("first_line")) {
      auto regex = rules::Regex::compile(first->value);
      if (!regex) {
        in.error(reading_.place_in(*first, regex.error().offset), "`first_line:` " + regex.error().format(),
                 regex.error().hint);
      } else if (regex->matches("")) {
        in.error(first->place, "`first_line:` matches every line, so that each begins a record", "anchor it: '^\\d{4}-'");
      } else {
        made = rules::Multiline::by_first_line(*std::move(regex));
      }
    } else if (const auto wanted = languages(in, "languages")) {
      made = rules::Multiline::traces(*wanted);
    }
    const auto lines = in.integer("max_lines");
    const auto timeout = in.duration("timeout");
    if (timeout && (*timeout <= rules::Duration{0} || *timeout > rules::Duration(std::chrono::minutes(1))))
      in.error("timeout", "a record waits between 1ms and 1m for its next line", "as in 1s");
    if (!made) return;
    if (lines) made->max_lines = static_cast<std::size_t>(*lines);
    if (timeout) made->timeout = *timeout;
    source.multiline = std::make_shared<const rules::Multiline>(*std::move(made));
  }

  void read_timestamp(const Fields& fields, rules::SourceSpec& source) {
    if (const yaml::Node* node = fields.map("timestamp")) {
      source.own_timestamp = true;
      const Fields inner(*node, fields.subject(), reading_, timestamp_keys());
      if (const auto field = inner.text("field")) {
        source.timestamp.field = field->value;
        if (source.format == rules::LineFormat::kText)
          inner.error("field", "lines of `format: text` have no fields",
                      "remove it, or set the source's format");
      }
      if (const auto format = inner.text("format")) source.timestamp.format = format->value;
      for (const char* key : {"field", "format", "location"}) {
        const yaml::Node* given = inner.raw(key);
        if (given != nullptr && given->is_scalar() && given->scalar.empty())
          inner.error(key, fmt::format("`{}:` is empty", key), "say it, or leave the key out");
      }
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

  // 0: each notification is a message, however many there are.
  static void read_messages_per_minute(const Fields& fields, const sinks::SinkType& type, rules::SinkSpec& spec) {
    spec.messages_per_minute = type.messages_per_minute;
    const auto most = fields.integer("messages_per_minute");
    if (!most) return;
    if (type.per_alert && *most > 0)
      fields.error("messages_per_minute", fmt::format("a sink of type `{}` is told alert by alert", type.key),
                   "remove it; what it shows together is set there");
    spec.messages_per_minute = static_cast<std::uint32_t>(*most);
  }

  static void read_fallback_after(const Fields& fields, SinkDraft& draft) {
    constexpr rules::Duration kLeast = std::chrono::seconds(10);
    constexpr rules::Duration kMost = std::chrono::hours(12);
    const auto after = fields.duration("fallback_after");
    if (!after) return;
    if (draft.fallback.empty()) {
      fields.error("fallback_after", "there is no fallback that could be told", "add `fallback: [SINK]`, or remove it");
    } else if (*after < kLeast || *after > kMost) {
      fields.error("fallback_after",
                   fmt::format("{} is not between {} and {}", rules::format_duration(*after),
                               rules::format_duration(kLeast), rules::format_duration(kMost)),
                   "a sink needs some seconds to answer, and what waits for a day is given up");
    }
    draft.spec.fallback_after = *after;
  }

  void read_sink(const yaml::Entry& entry, SinkDraft& draft) {
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
    std::vector<std::string> tolerated;  // those that are said here
    for (const yaml::Entry& key : entry.value.entries) {
      if (!rules::contains(later_sinks(), key.key) || rules::contains(types, key.key)) continue;
      draft.problems.error(key.key_place, subject,
                           fmt::format("sinks of type `{}` are not supported yet", key.key),
                           "there are " + rules::list_words(types, 20));
      tolerated.push_back(key.key);
    }
    const Fields fields(entry.value, subject, reading_, sink_entry_keys(), {}, tolerated);
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
    draft.spec.stays_open = type->stays_open;
    draft.spec.refresh = type->refresh;
    read_messages_per_minute(fields, *type, draft.spec);
    if (const auto resolved = fields.boolean("send_resolved")) draft.spec.send_resolved = *resolved;
    if (const auto drill = fields.boolean("drill"); drill && !*drill) config_.drills.never.insert(entry.key);
    if (fields.word("audience")) {
      draft.spec.machine_audience = true;
      draft.spec.tells_people = false;  // whatever its kind: who writes it says so
    }
    if (const auto pages = fields.boolean("pages")) draft.spec.pages = *pages;
    draft.fallback = fields.texts("fallback").value_or(std::vector<Text>());
    read_fallback_after(fields, draft);
    SinkFields reader(Fields(*entry.value.find(type->key), subject, reading_, *sinks::find_sink_keys(type->key)), world_);
    std::unique_ptr<sinks::SinkConfig> parsed = type->parse(reader);
    if (!parsed) {
      // A parser that says no without saying why would let a broken sink pass.
      if (!draft.problems.has_errors()) fields.error(entry.value.place, "it cannot be used");
      return;
    }
    draft.config = std::move(parsed);
    draft.spec.settings = reader.fingerprint();
    draft.spec.secrets = reader.secret_keys();
    draft.proxy = reader.proxy();
    draft.spec.acknowledges = type->shows_links && !config_.external_url.empty();
    const std::size_t lanes = draft.config->lanes();
    for (std::size_t i = 1; i <= lanes; ++i)
      draft.spec.lanes.push_back(lanes == 1 ? entry.key : fmt::format("{}#{}", entry.key, i));
  }

  // For how long a proof is believed, by level.
  void read_max_proof_age(const Fields& top) {
    const yaml::Node* node = top.raw("max_proof_age");
    if (node == nullptr) return;
    if (!node->is_map()) {
      top.error("max_proof_age", "it is a map of levels", "as in `max_proof_age: {L4: 7d, L6: none}`");
      return;
    }
    using sinks::ProofLevel;
    std::vector<std::string> names;
    for (int level = static_cast<int>(ProofLevel::kNetwork); level <= static_cast<int>(ProofLevel::kAcknowledged); ++level)
      names.emplace_back(to_string(static_cast<ProofLevel>(level)));
    const Fields fields(*node, "max_proof_age", reading_, max_proof_age_keys());
    for (std::size_t i = 0; i < names.size(); ++i) {
      const yaml::Node* value = fields.raw(names[i]);
      if (value == nullptr) continue;
      const auto level = static_cast<ProofLevel>(i + 1);
      if (value->is_scalar() && value->scalar == "none") {
        config_.proof_ages.set(level, ProofAges::kNever);
        continue;
      }
      const auto age = fields.duration(names[i]);
      if (!age) continue;
      if (*age < ProofAges::kLeast || *age > ProofAges::kMost) {
        fields.error(names[i], fmt::format("it must be between {} and {}, or none",
                                           rules::format_duration(ProofAges::kLeast),
                                           rules::format_duration(ProofAges::kMost)));
        continue;
      }
      config_.proof_ages.set(level, *age);
    }
    // Who wants fresher proofs is drilled as often.
    DrillSettings& drills = config_.drills;
    const rules::Duration most = config_.proof_ages.of(ProofLevel::kAccepted);
    drills.every = std::min(drills.every, most);
    drills.pages_every = std::min(drills.pages_every, most);
  }

  // When sinks are drilled without anybody asking.
  void read_drills(const Fields& top) {
    const yaml::Node* node = top.raw("drills");
    if (node == nullptr) return;
    DrillSettings& drills = config_.drills;
    if (node->is_scalar() && node->scalar == "none") {
      drills.scheduled = false;
      return;
    }
    if (!node->is_map()) {
      top.error("drills", "it is a map, or none", "as in `drills: {every: 24h, pages_every: 7d}`");
      return;
    }
    const Fields fields(*node, "drills", reading_, drills_keys());
    const auto read = [&](const char* key, rules::Duration& into) {
      const auto span = fields.duration(key);
      if (!span) return;
      // Longer than a receipt is believed, and every proof would have expired before its drill.
      const rules::Duration most = std::min(config_.proof_ages.of(sinks::ProofLevel::kAccepted), ProofAges::kMost);
      if (*span < DrillSchedule::kAgain || *span > most) {
        fields.error(key,
                     fmt::format("it must be between {} and {}, for so long a receipt is believed",
                                 rules::format_duration(DrillSchedule::kAgain), rules::format_duration(most)));
        return;
      }
      into = *span;
    };
    read("every", drills.every);
    read("pages_every", drills.pages_every);
    if (const auto hours = fields.text("hours")) {
      drills.hours = hours->value;
      if (!hours->assumed && intervals_.by_name.count(hours->value) == 0)
        fields.error("hours", fmt::format("there is no time interval \"{}\"", hours->value),
                     "define it under `time_intervals:`");
    }
  }

  // The sink that the heartbeat goes through is no way for alerts, so it is none of the others from here on.
  // Nothing where it cannot be used; that is a problem.
  std::optional<HeartbeatSink> take_heartbeats_sink(const Fields& top) {
    const std::optional<Text> named = heartbeats_sink(top);
    if (!named) return std::nullopt;
    const auto found = sinks_.find(named->value);
    if (found == sinks_.end()) {
      if (named->assumed) return std::nullopt;
      std::string fix = rules::did_you_mean(named->value, sink_names_);
      if (fix.empty()) fix = "define it under `sinks:`, for the heartbeat alone";
      problems_.error(named->place, "heartbeat", fmt::format("sink \"{}\" is not defined", named->value),
                      std::move(fix));
      return std::nullopt;
    }
    SinkDraft draft = std::move(found->second);
    sinks_.erase(found);
    std::erase(sink_names_, named->value);
    heartbeats_sink_ = named->value;
    for (const rules::Problem& problem : draft.problems.all()) {
      const std::string& reason = problem.reason;
      if (problem.severity == rules::Severity::kWarning) {
        problems_.warn(problem.place, problem.subject, reason, problem.fix);
      } else {
        problems_.error(problem.place, problem.subject, reason + " (the heartbeat relies on it)", problem.fix);
      }
    }
    if (!draft.config || draft.problems.has_errors()) return std::nullopt;
    if (!draft.fallback.empty())
      problems_.error(draft.fallback.front().place, fmt::format("sink \"{}\"", named->value),
                      "a heartbeat has no fallback: that it does not arrive is what it says",
                      "remove it");
    return HeartbeatSink{named->value,
                         sinks::find_sink_type(draft.spec.type),
                         draft.config,
                         draft.spec.secrets,
                         draft.proxy,
                         plan_->external_labels,
                         {config_.external_url, config_.environment, {}}};
  }

  // Ours, which must not go the alerts' way, and those that others send.
  void read_heartbeats_of(const Fields& top) {
    std::optional<HeartbeatSink> through = take_heartbeats_sink(top);
    std::vector<AlertsPath> alerts;
    for (const auto& [name, draft] : sinks_) {
      if (draft.config) alerts.push_back({name, draft.config->destination(), draft.config->secrets(), draft.proxy});
    }
    config_.heartbeat = read_heartbeat(top, world_, alerts, std::move(through));
    config_.listened_for = read_heartbeats(top, world_, is_loopback(config_.listen));
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
      around.sources.push_back({source.name, source.format, source.envelope, source.multiline != nullptr});
    around.sinks = sink_names_;
    around.heartbeats_sink = heartbeats_sink_;
    around.external_labels = plan_->external_labels;
    around.now = world_.now;
    around.for_run = options_.for_run;
    rules::RuleReader reader(reading_, std::move(around));
    if (const yaml::Node* node = top.raw("patterns")) reader.patterns(*node);
    if (const yaml::Node* node = top.raw("rules")) reader.rules(*node);
    for (const RuleFile& file : rule_files(top)) {
      if (const yaml::Node* root = open(file.path, &file.named_at)) reader.rule_file(*root);
    }
    rules::RuleSet set = reader.finish();
    plan_->patterns = std::move(set.patterns);
    plan_->rules = std::move(set.rules);
    complete_ = std::move(set.complete);
    wrote_sinks_ = std::move(set.wrote_sinks);
    if (plan_->rules.empty() && !problems_.has_errors())
      problems_.warn(Place{path_}, "", "there are no rules: nothing can ring", "write some under `rules:`");
  }

  struct RuleFile {
    std::string path;
    Place named_at;
  };
  std::vector<RuleFile> rule_files(const Fields& top) {
    std::vector<RuleFile> files;
    const std::string directory = folder_of(path_);
    for (const Text& text : top.texts("rule_files").value_or(std::vector<Text>())) {
      std::string wanted = text.value;
      const bool absolute = !wanted.empty() && wanted.front() == '/';
      const bool upwards = ("/" + wanted + "/").find("/../") != std::string::npos;
      if (wanted.empty() || upwards || (absolute && (directory.empty() || wanted.rfind(directory, 0) != 0))) {
        top.error(text.place, fmt::format("\"{}\" is not beneath the configuration's directory", wanted),
                  "rule files stand beside it or below, as in rules.d/*.yaml");
        continue;
      }
      if (!absolute) wanted.insert(0, directory);
      std::vector<std::string> found = world_.glob(wanted);
      std::erase(found, path_);
      if (found.empty()) {
        top.error(text.place, fmt::format("no file matches \"{}\": its rules would be missing", text.value),
                  "put one there, or remove the line");
        continue;
      }
      for (const std::string& file : found) {
        const bool known = std::any_of(files.begin(), files.end(),
                                       [&](const RuleFile& other) { return other.path == file; });
        if (!known) files.push_back({file, text.place});
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
        if (!heartbeats_sink_.empty() && fallback.value == heartbeats_sink_) {
          draft.problems.error(fallback.place, subject, rules::of_the_heartbeat(fallback.value), rules::kGiveItsOwn);
        } else if (sinks_.count(fallback.value) == 0) {
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

  // A sink's problems, each with the rules that rely on it.
  void report_sinks(const rules::Coverage& coverage) {
    for (const std::string& name : sink_names_) {
      const SinkDraft& draft = sinks_.at(name);
      for (const rules::Problem& problem : draft.problems.all()) {
        if (problem.severity == rules::Severity::kWarning) {
          problems_.warn(problem.place, problem.subject, problem.reason, problem.fix);
        } else {
          problems_.error(problem.place, problem.subject, problem.reason + coverage.relied_on_by(name),
                          problem.fix);
        }
      }
    }
  }

  // Matching wants compiled sets; only a configuration without errors gets them.
  // What logbell writes itself is not read (FAULTS F56): said where a path alone shows it.
  void warn_of_own_files() {
    std::vector<std::pair<std::string, std::string>> own;  // path, who writes it
    own.emplace_back(config_.state_dir + "/logbell/state.db", "logbell keeps its state in");
    for (const auto& [name, draft] : sinks_) {
      if (draft.config && !draft.config->writes_to().empty())
        own.emplace_back(draft.config->writes_to(), fmt::format("the sink \"{}\" writes", name));
    }
    for (const rules::SourceSpec& source : plan_->sources) {
      for (const std::string& pattern : source.files) {
        for (const auto& [path, who] : own) {
          if (!could_match(pattern, path)) continue;
          problems_.warn(source.place, fmt::format("source \"{}\"", source.name),
                         fmt::format("{} also finds {}, which {}: it is left out", pattern, path, who),
                         "name the application's files alone, or write elsewhere");
        }
      }
    }
  }

  void finish_sources() {
    for (rules::SourceSpec& source : plan_->sources) {
      std::vector<std::uint32_t> wanted;
      for (std::uint32_t i = 0; i < plan_->patterns.size(); ++i) {
        const rules::PatternSpec& pattern = plan_->patterns[i];
        if (pattern.sources.empty() || rules::contains(pattern.sources, source.name)) wanted.push_back(i);
      }
      source.patterns = rules::PatternSet::compile(plan_->patterns, wanted, source.format, options_.matcher);
    }
  }

  rules::Fingerprint hash() const {
    std::string all;
    const auto add = [&](const std::string& part) { all.append(part).push_back('\0'); };
    for (const auto& [file, text] : config_.texts) {
      add(file);
      add(text);
    }
    for (const auto& [name, value] : reading_.used) {
      add(name);
      add(value);
    }
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
  std::string heartbeats_sink_;          // taken out of them; "": none
  std::map<std::string, SinkDraft> sinks_;
  rules::TimeIntervals intervals_;
  std::vector<rules::RouteSink> route_sinks_;
  std::vector<bool> complete_;
  std::vector<bool> wrote_sinks_;
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

// The layout is AtomicWriter's (kubernetes/pkg/volume/util/atomic_writer.go). A Secret's volume is a tmpfs,
// and every such volume is mounted read-only since Kubernetes 1.9.6; where a sandbox shows its file systems
// as others (Kata's virtiofs), the second still holds. The same layout on an ordinary disk that we may write
// to proves nothing.
bool is_in_kubernetes_volume(const std::string& path) {
  std::error_code error;
  const fs::path real = fs::canonical(path, error);
  if (error) return false;
  bool written_by_kubelet = false;
  for (fs::path volume = fs::absolute(path, error).parent_path(); !error && volume.has_relative_path();
       volume = volume.parent_path()) {
    const fs::path target = fs::read_symlink(volume / "..data", error);
    if (error) {
      error.clear();
      continue;
    }
    if (target.has_parent_path() || target.string().rfind("..", 0) != 0 || target == "..") break;
    const std::string data = (fs::canonical(volume, error) / target).string() + "/";
    written_by_kubelet = !error && real.string().rfind(data, 0) == 0;
    break;
  }
  if (!written_by_kubelet) return false;
  struct statfs system {};
  if (::statfs(real.c_str(), &system) != 0) return false;
  return system.f_type == TMPFS_MAGIC || system.f_type == RAMFS_MAGIC || (system.f_flags & ST_RDONLY) != 0;
}

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
    return ::stat(path.c_str(), &status) == 0 && (status.st_mode & (S_IRGRP | S_IROTH)) != 0 &&
           !is_in_kubernetes_volume(path);
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

ConfigWorld ConfigWorld::noting(ConfigInputs& inputs) const {
  ConfigWorld world = *this;
  // The first answer counts: should a file change while it is read for the second time, it differs from it.
  world.read_file = [&inputs, outside = read_file](const std::string& path) {
    rules::Result<std::string> text = outside(path);
    inputs.files.emplace(path, rules::hash_bytes(text ? "=" + *text : "!" + text.error().message));
    return text;
  };
  world.glob = [&inputs, outside = glob](const std::string& pattern) {
    std::vector<std::string> found = outside(pattern);
    inputs.globs.emplace(pattern, found);
    return found;
  };
  return world;
}

ConfigInputs ConfigWorld::ask_again(const ConfigInputs& before) const {
  ConfigInputs answers;
  const ConfigWorld world = noting(answers);
  for (const auto& [path, text] : before.files)
    static_cast<void>(world.read_file(path));
  for (const auto& [pattern, found] : before.globs)
    world.glob(pattern);
  return answers;
}

namespace {

// When nobody hears by this route.
std::string describe_hours(const rules::Route& root, const std::string& id) {
  const rules::Route* route = rules::find_route(root, id);
  if (route == nullptr) return "";
  std::string out;
  if (!route->options.active_time_intervals.empty())
    out += fmt::format(" only during {}", fmt::join(route->options.active_time_intervals, ", "));
  if (!route->options.mute_time_intervals.empty())
    out += fmt::format(" not during {}", fmt::join(route->options.mute_time_intervals, ", "));
  return out;
}

}  // namespace

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
                                           : "no route: all who tell people, else all";
      for (const std::string& id : way.routes)
        route += (route.empty() ? "" : " + ") + rules::describe_route(plan.route, id) + describe_hours(plan.route, id);
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

#include "engine/run/input_fields.h"

#include <algorithm>
#include <charconv>

#include <arpa/inet.h>
#include <fmt/format.h>
#include <sys/un.h>

#include "engine/io/journal_source.h"
#include "engine/run/config_keys.h"
#include "rules/text.h"

namespace logbell::engine {
namespace {

using rules::ErrorCode;
using rules::fail;
using rules::Fields;
using rules::Result;
using rules::StreamSpec;
using rules::Text;
namespace yaml = rules::yaml;

constexpr std::size_t kMaxUnixPath = sizeof(sockaddr_un::sun_path) - 1;
constexpr std::string_view kListenFix =
    "; as in udp://127.0.0.1:5514, tcp://0.0.0.0:5514, unix:///run/app/log.sock or "
    "unixgram:///run/app/log.sock";

struct Scheme {
  std::string_view prefix;
  StreamSpec::Kind kind;
};
constexpr Scheme kSchemes[] = {{"udp://", StreamSpec::Kind::kUdp},
                               {"tcp://", StreamSpec::Kind::kTcp},
                               {"unix://", StreamSpec::Kind::kUnixStream},
                               {"unixgram://", StreamSpec::Kind::kUnixDatagram}};

bool has_connections(const StreamSpec& input) {
  return input.kind == StreamSpec::Kind::kTcp || input.kind == StreamSpec::Kind::kUnixStream;
}
bool is_unix(const StreamSpec& input) {
  return input.kind == StreamSpec::Kind::kUnixStream || input.kind == StreamSpec::Kind::kUnixDatagram;
}

// "a; b": what is wrong, and what to do.
void report(const Fields& fields, const rules::Place& place, const std::string& message) {
  const std::size_t semicolon = message.find("; ");
  fields.error(place, message.substr(0, semicolon),
               semicolon == std::string::npos ? std::string() : message.substr(semicolon + 2));
}

void read_syslog(const Fields& fields, rules::SourceSpec& source) {
  const yaml::Node* node = fields.map("syslog");
  if (node == nullptr) return;
  const Fields inner(
      *node, fields.subject(), fields.reading(),
      syslog_keys(),
      {{"address", "where it listens is `listen:`", "as in `listen: udp://127.0.0.1:5514`"},
       {"port", "the port is part of `listen:`", "as in `listen: udp://127.0.0.1:5514`"},
       {"protocol", "the protocol is part of `listen:`", "as in `listen: udp://127.0.0.1:5514`"},
       {"mode", "the protocol is part of `listen:`", "as in `listen: tcp://127.0.0.1:5514`"},
       {"path", "a socket's path is part of `listen:`", "as in `listen: unix:///run/app/log.sock`"},
       {"tls", "TLS is not supported yet", "let rsyslog take it and forward it to 127.0.0.1"},
       {"use_rfc5424_message", "both RFCs are recognised", "remove it"}});
  if (!inner.has("listen")) {
    inner.error(node->place, "it does not say where to listen", std::string(kListenFix.substr(2)));
    return;
  }
  StreamSpec like;
  if (const auto framing = inner.word("framing"))
    like.framing = static_cast<StreamSpec::Framing>(*framing);
  if (const auto most = inner.integer("max_connections"))
    like.max_connections = static_cast<std::size_t>(*most);
  if (const auto idle = inner.duration("idle_timeout")) {
    if (*idle <= rules::Duration{0})
      inner.error("idle_timeout", "it must be longer than 0", "leave it out: then connections may be silent");
    like.idle_timeout = *idle;
  }
  if (const auto mode = inner.text("socket_mode")) {
    unsigned value = 0;
    const char* end = mode->value.data() + mode->value.size();
    const auto [stop, error] = std::from_chars(mode->value.data(), end, value, 8);
    if (!mode->assumed && (error != std::errc() || stop != end || value > 0777))
      inner.error("socket_mode", fmt::format("\"{}\" is no file mode", mode->value), "as in '0660'");
    like.mode = value;
  }
  if (const auto bytes = inner.bytes("receive_buffer"))
    like.receive_buffer = static_cast<std::size_t>(*bytes);
  bool any_connections = false;
  bool any_unix = false;
  bool any_datagrams = false;
  bool bad = false;
  for (const Text& text : inner.texts("listen").value_or(std::vector<Text>())) {
    if (text.assumed) {
      bad = true;
      continue;
    }
    Result<StreamSpec> input = parse_listen(text.value);
    if (!input) {
      report(inner, text.place, input.error().message);
      bad = true;
      continue;
    }
    any_connections = any_connections || has_connections(*input);
    any_datagrams = any_datagrams || !has_connections(*input);
    any_unix = any_unix || is_unix(*input);
    if (std::any_of(source.streams.begin(), source.streams.end(),
                    [&](const StreamSpec& other) { return other.text == input->text; })) {
      inner.error(text.place, fmt::format("it listens at {} already", input->text), "remove one of them");
      continue;
    }
    // What says nothing to this kind stays as it is, so that its change is none.
    if (has_connections(*input)) {
      input->framing = like.framing;
      input->max_connections = like.max_connections;
      input->idle_timeout = like.idle_timeout;
    } else {
      input->receive_buffer = like.receive_buffer;
    }
    if (is_unix(*input)) input->mode = like.mode;
    source.streams.push_back(std::move(*input));
  }
  if (bad) return;
  for (const char* key : {"framing", "max_connections", "idle_timeout"}) {
    if (inner.has(key) && !any_connections)
      inner.error(inner.key_place(key), "there are no connections: it listens for datagrams", "remove it");
  }
  if (inner.has("socket_mode") && !any_unix)
    inner.error(inner.key_place("socket_mode"), "there is no file: it listens at no unix socket",
                "remove it");
  if (inner.has("receive_buffer") && !any_datagrams)
    inner.error(inner.key_place("receive_buffer"), "it is for datagrams, and it listens for connections",
                "remove it");
}

void read_fifo(const Fields& fields, rules::SourceSpec& source) {
  for (const Text& path : fields.texts("fifo").value_or(std::vector<Text>())) {
    if (path.value.empty() || (path.value.front() != '/' && !path.assumed)) {
      fields.error(path.place, fmt::format("\"{}\" is no whole path", path.value),
                   "as in `fifo: /run/app/log.pipe`");
      continue;
    }
    if (path.value.find_first_of("*?[") != std::string::npos) {
      fields.error(path.place, "a named pipe is named, and not looked for by a pattern",
                   "write its whole path, or several in a list");
      continue;
    }
    StreamSpec input;
    input.kind = StreamSpec::Kind::kFifo;
    input.text = path.value;
    input.address = path.value;
    source.streams.push_back(std::move(input));
  }
}

void read_journald(const Fields& fields, rules::SourceSpec& source) {
  const yaml::Node* node = fields.map("journald");
  if (node == nullptr) return;
  const Fields inner(
      *node, fields.subject(), fields.reading(), journald_keys(),
      {{"unit", "there may be several", "write `units: [orders-api.service]`"},
       {"include_units", "they are `units:`", "write `units: [orders-api.service]`"},
       {"path", "the journal's directory is `directory:`", "write `directory: /var/log/journal`"},
       {"journal_directory", "it is `directory:`", "write `directory: /var/log/journal`"}});
  if (!has_journald()) {
    fields.error(fields.key_place("journald"), "this logbell was built without journald",
                 "build it with -DLOGBELL_JOURNALD=ON, which needs libsystemd-dev; or let journald forward "
                 "to rsyslog");
    return;
  }
  StreamSpec input;
  input.kind = StreamSpec::Kind::kJournal;
  input.text = "journald";
  for (const Text& unit : inner.texts("units").value_or(std::vector<Text>())) {
    if (unit.value.empty() || unit.value.find_first_of("*?[/ ") != std::string::npos) {
      inner.error(unit.place, fmt::format("\"{}\" is no unit's name", unit.value),
                  "as in orders-api.service");
      continue;
    }
    // As systemctl has it.
    input.units.push_back(unit.value.find('.') == std::string::npos ? unit.value + ".service" : unit.value);
  }
  if (const auto directory = inner.text("directory")) {
    if (directory->value.empty() || (directory->value.front() != '/' && !directory->assumed))
      inner.error("directory", fmt::format("\"{}\" is no whole path", directory->value),
                  "as in /var/log/journal");
    input.address = directory->value;
    input.text += ":" + directory->value;
  }
  source.streams.push_back(std::move(input));
}

}  // namespace

Result<StreamSpec> parse_listen(std::string_view text) {
  const auto wrong = [&](std::string_view why, std::string_view fix = kListenFix) {
    return fail(ErrorCode::kInvalid, fmt::format("\"{}\" {}{}", text, why, fix));
  };
  StreamSpec input;
  input.text = text;
  std::string_view rest;
  bool known = false;
  for (const Scheme& scheme : kSchemes) {
    if (text.substr(0, scheme.prefix.size()) != scheme.prefix) continue;
    input.kind = scheme.kind;
    rest = text.substr(scheme.prefix.size());
    known = true;
  }
  if (!known) return wrong("is nothing to listen at");
  if (is_unix(input)) {
    if (rest.empty() || rest.front() != '/' || rest.back() == '/')
      return wrong("has no whole path",
                   fmt::format("; three slashes: {}:///run/app/log.sock", text.substr(0, text.find(':'))));
    if (rest.size() > kMaxUnixPath)
      return wrong(fmt::format("has a path longer than {} bytes", kMaxUnixPath),
                   "; that is the system's bound: choose a shorter one");
    input.address = rest;
    return input;
  }
  const std::size_t colon = rest.rfind(':');
  const bool in_brackets = !rest.empty() && rest.front() == '[';
  const std::size_t bracket = rest.find(']');
  if (colon == std::string_view::npos ||
      (in_brackets && (bracket == std::string_view::npos || bracket > colon)))
    return wrong("has no port", "; 514 is syslog's own, and above 1023 needs no privilege");
  std::string_view host = rest.substr(0, colon);
  const std::string_view port = rest.substr(colon + 1);
  unsigned number = 0;
  const auto [stop, error] = std::from_chars(port.data(), port.data() + port.size(), number);
  if (port.empty() || error != std::errc() || stop != port.data() + port.size() || number > 65535)
    return wrong(fmt::format("has the port \"{}\"", port), "; a port is a number up to 65535");
  input.port = static_cast<std::uint16_t>(number);
  if (in_brackets) {
    if (bracket + 1 != colon) return wrong("is no address with a port");
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string_view::npos) {
    return wrong("has an IPv6 address without brackets", fmt::format("; write [{}]:{}", host, port));
  }
  input.address = host == "localhost" ? "127.0.0.1" : std::string(host);
  in6_addr scratch{};
  if (::inet_pton(in_brackets ? AF_INET6 : AF_INET, input.address.c_str(), &scratch) != 1)
    return wrong(host.empty() ? "has no address" : "has no IP address",
                 "; 127.0.0.1 for this machine alone, 0.0.0.0 or [::] for all");
  return input;
}

void read_inputs(const Fields& fields, rules::SourceSpec& source) {
  read_syslog(fields, source);
  read_fifo(fields, source);
  read_journald(fields, source);
}

}  // namespace logbell::engine

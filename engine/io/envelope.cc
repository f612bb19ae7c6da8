#include "engine/io/envelope.h"

#include <algorithm>
#include <utility>

namespace logbell::engine {
namespace {

using rules::Envelope;

OutputStream stream_of(std::string_view name) {
  if (name == "stdout") return OutputStream::kStdout;
  return name == "stderr" ? OutputStream::kStderr : OutputStream::kNone;
}

// The next word, and behind it the rest; unset: no space ends it.
std::optional<std::string_view> take_word(std::string_view& line) {
  const std::size_t space = line.find(' ');
  if (space == std::string_view::npos) return std::nullopt;
  const std::string_view word = line.substr(0, space);
  line.remove_prefix(space + 1);
  return word;
}

// The part behind the last `separator`, and before it the rest; the whole is the rest where there is none.
std::pair<std::string_view, std::string_view> split_last(std::string_view text, char separator) {
  const std::size_t at = text.rfind(separator);
  if (at == std::string_view::npos) return {text, {}};
  return {text.substr(0, at), text.substr(at + 1)};
}

void set_pod(rules::Facts& facts, std::string_view name_space, std::string_view pod,
             std::string_view container) {
  facts.set("namespace", std::string(name_space));
  facts.set("pod", std::string(pod));
  facts.set("container", std::string(container));
}

}  // namespace

std::optional<Enveloped> parse_cri(std::string_view line) {
  Enveloped found;
  const auto time = take_word(line);
  const auto stream = time ? take_word(line) : std::nullopt;
  if (!stream) return std::nullopt;
  found.stream = stream_of(*stream);
  if (found.stream == OutputStream::kNone) return std::nullopt;
  const rules::Result<rules::Timestamp> at = rules::parse_rfc3339(*time);
  if (!at) return std::nullopt;
  found.time = *at;
  // An empty line may end with its tag.
  const std::string_view tags = line.substr(0, line.find(' '));
  line.remove_prefix(std::min(tags.size() + 1, line.size()));
  const std::string_view first = tags.substr(0, tags.find(':'));
  if (first != "P" && first != "F") return std::nullopt;
  found.partial = first == "P";
  found.text = line;
  return found;
}

std::optional<Enveloped> parse_docker(std::string_view line, rules::JsonLineReader& json) {
  if (line.substr(0, 1) != "{" || !json.read(line)) return std::nullopt;
  Enveloped found;
  bool has_log = false;
  for (const rules::JsonLineReader::Field& field : json.fields()) {
    if (field.name == "log") {
      found.text = field.value;
      has_log = true;
    } else if (field.name == "stream") {
      found.stream = stream_of(field.value);
    } else if (field.name == "time") {
      if (const rules::Result<rules::Timestamp> at = rules::parse_rfc3339(field.value)) found.time = *at;
    }
  }
  if (!has_log) return std::nullopt;
  if (!found.text.empty() && found.text.back() == '\n') {
    found.text.remove_suffix(1);
  } else {
    found.partial = true;
  }
  return found;
}

rules::Facts path_facts(Envelope envelope, std::string_view path) {
  rules::Facts facts;
  const auto [directory, file] = split_last(path, '/');
  const auto [above, parent] = split_last(directory, '/');
  if (envelope == Envelope::kDocker && file.ends_with("-json.log")) {
    facts.set("container_id",
              std::string(file.substr(0, file.size() - std::string_view("-json.log").size())));
  }
  if (envelope != Envelope::kCri) return facts;
  // Neither a namespace nor a pod has "_" in its name.
  const std::string_view pod_directory = split_last(above, '/').second;
  if (std::count(pod_directory.begin(), pod_directory.end(), '_') == 2) {
    const std::size_t first = pod_directory.find('_');
    const std::size_t second = pod_directory.rfind('_');
    set_pod(facts, pod_directory.substr(0, first), pod_directory.substr(first + 1, second - first - 1),
            parent);
  } else if (std::count(file.begin(), file.end(), '_') >= 2) {
    const std::size_t first = file.find('_');
    const std::size_t second = file.find('_', first + 1);
    const std::string_view rest = file.substr(second + 1);
    set_pod(facts, file.substr(first + 1, second - first - 1), file.substr(0, first),
            split_last(rest, '-').first);
  }
  return facts;
}

}  // namespace logbell::engine

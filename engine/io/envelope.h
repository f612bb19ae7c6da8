// Envelopes: what a container runtime puts around each line of a container's log, and what its file's path
// tells.
//
// Pure. Sources: CRI logs, kubernetes/design-proposals-archive, node/kubelet-cri-logging.md (`TIME STREAM
// TAGS TEXT`, tag P for a part, F for the last one); Docker's json-file logging driver (`log` without its
// "\n": a part of 16 KiB).
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "rules/json.h"
#include "rules/record.h"
#include "rules/time.h"

namespace logbell::engine {

enum class OutputStream : std::uint8_t { kNone, kStdout, kStderr };
inline constexpr std::size_t kOutputStreams = 3;

struct Enveloped {
  OutputStream stream = OutputStream::kNone;
  std::optional<rules::Timestamp> time;
  std::string_view text;
  bool partial = false;  // the line goes on in the stream's next one
};

// Unset: `line` is not of this form.
std::optional<Enveloped> parse_cri(std::string_view line);
// The text is valid until `json` is used again.
std::optional<Enveloped> parse_docker(std::string_view line, rules::JsonLineReader& json);

// What the path of a container's log says: of /var/log/pods/NAMESPACE_POD_UID/CONTAINER/0.log, of
// /var/log/containers/POD_NAMESPACE_CONTAINER-ID.log, of /var/lib/docker/containers/ID/ID-json.log.
rules::Facts path_facts(rules::Envelope envelope, std::string_view path);

}  // namespace logbell::engine

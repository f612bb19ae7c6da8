// Record: one thing that a log says, a line or several that belong together, with what is known of it beside
// its text.
//
// Values. What an envelope tells beside the text can be a label, the field of a `where:`, and nothing else.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace logbell::rules {

// What the lines of a source come in.
enum class Envelope : std::uint8_t {
  kNone,
  kCri,     // the log files that a kubelet keeps: time, stream, tag, text
  kDocker,  // Docker's json-file: {"log": …, "stream": …, "time": …}
  kSyslog,  // RFC 3164 or 5424: priority, time, host, tag, text
  kJournal,  // systemd's journal: RFC 5424, whose MSGID is the unit
};

// Names are of the envelope's closed set, see fact_names().
class Facts {
 public:
  void set(std::string_view name, std::string value) { facts_.emplace_back(name, std::move(value)); }
  void clear() { facts_.clear(); }
  const std::string* find(std::string_view name) const {
    for (const auto& [known, value] : facts_) {
      if (known == name) return &value;
    }
    return nullptr;
  }

 private:
  std::vector<std::pair<std::string_view, std::string>> facts_;  // names are literals
};

// What an envelope can tell of a record: `stream`, `pod` …
const std::vector<std::string>& fact_names(Envelope envelope);

// A record's place in a block of text.
struct Record {
  std::size_t offset = 0;
  std::size_t length = 0;
  const Facts* facts = nullptr;  // null: nothing is known; else it lives as long as the block
};

}  // namespace logbell::rules

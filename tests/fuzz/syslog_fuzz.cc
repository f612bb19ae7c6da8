// Bytes of a syslog connection, in pieces as they come: the records are the same as in one piece, none is
// longer than is kept of one, and what is read of a record lies in it.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "engine/io/syslog.h"
#include "rules/result.h"

namespace {

using namespace logbell;
using engine::SyslogFrames;
using engine::SyslogFraming;

constexpr std::size_t kMaxLine = 64;

std::string records_of(std::string_view text, SyslogFrames frames, std::size_t piece) {
  SyslogFraming framing(frames, kMaxLine);
  SyslogFraming::Counts counts;
  std::string out;
  for (; !text.empty(); text.remove_prefix(std::min(piece, text.size()))) {
    framing.take(text.substr(0, piece), out, counts);
    LOGBELL_CHECK(framing.held() <= kMaxLine + 10);
  }
  framing.finish(out, counts);
  LOGBELL_CHECK(!framing.within_record());
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const auto frames = static_cast<SyslogFrames>(data[0] % 3);
  const std::size_t piece = 1 + data[0] % 32;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::string records = records_of(text, frames, text.size() + 1);
  LOGBELL_CHECK(records == records_of(text, frames, piece));

  static const rules::TimestampReader times =
      *rules::TimestampReader::make({.field = {}, .format = {}, .location = "UTC"});
  static const rules::Timestamp now = *rules::parse_rfc3339("2026-05-01T10:00:00Z");
  for (std::string_view rest = records; !rest.empty();) {
    const std::string_view record = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(record.size() + 1);
    LOGBELL_CHECK(record.size() <= kMaxLine);
    const engine::SyslogMessage said = engine::parse_syslog(record, times, now);
    for (const std::string_view part :
         {said.host, said.app, said.procid, said.msgid, said.structured, said.message}) {
      LOGBELL_CHECK(part.empty() || (part.data() >= record.data() &&
                                     part.data() + part.size() <= record.data() + record.size()));
    }
    // The message is the record's end: nothing behind the header is left out.
    LOGBELL_CHECK(said.message.empty() || record.ends_with(said.message));
  }
  return 0;
}

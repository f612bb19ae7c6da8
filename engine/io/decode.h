// Decode: what is done to bytes before they are lines (byte order marks, UTF-16), and to a line to learn its
// time.
//
// LineTimes is owned by one thread; the rest is pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "engine/io/chunk.h"
#include "rules/json.h"
#include "rules/plan.h"
#include "rules/time.h"

namespace logbell::engine {

struct ByteOrderMark {
  Encoding encoding = Encoding::kBytes;
  std::size_t bytes = 0;  // of the mark itself
};
// The mark at the beginning of a file; without one everything is bytes.
ByteOrderMark byte_order_mark(std::string_view head);

// Appends UTF-16 as UTF-8; half a surrogate becomes U+FFFD. A last odd byte is ignored.
void append_utf16(std::string_view raw, Encoding encoding, std::string& out);

// Reads the time that a line of a source says, as its `format` and `timestamp:` have it.
class LineTimes {
 public:
  // `reference`: for times without a year.
  std::optional<rules::Timestamp> read(const rules::SourceSpec& source, std::string_view line,
                                       rules::Timestamp reference);

 private:
  rules::JsonLineReader json_;
};

}  // namespace logbell::engine

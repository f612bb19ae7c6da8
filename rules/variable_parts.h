// Variable parts: what differs between two lines that one statement of a program wrote: times, numbers, ids,
// addresses, what is quoted, the values of keys. By them lines are put together, and a pattern is drafted
// from one.
//
// A guess from how a part looks, made of one line at a time. Pure; any thread.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace logbell::rules {

struct VariablePart {
  enum class Kind {
    kTime,  // one timestamp, with its date or without, with its zone or without
    kUuid,
    kIp,  // with its port, if it has one
    kUrl,
    kEmail,
    kPath,
    kDuration,  // 12ms, 1m30s
    kNumber,
    kHex,     // 0x1f, 9f3a2c1b: with a digit, of 6 at least
    kId,      // a word with digits and letters in it: orders-7d4b9, srv12
    kQuoted,  // without its quotes
    kValue,   // of a key, and nothing of the above
  };
  Kind kind = Kind::kNumber;
  std::size_t offset = 0;
  std::size_t length = 0;
  std::string key;  // of `key=value` and `key: value`, where one stands before it; else ""
};

// In order, not overlapping. A level (level=ERROR) is never variable.
std::vector<VariablePart> variable_parts(std::string_view line);

// "time", "uuid", "ip", …
std::string_view to_string(VariablePart::Kind kind);

// The line with each variable part written as its kind: "<time> ERROR order <number>: no route to <ip>".
std::string line_template(std::string_view line);

}  // namespace logbell::rules

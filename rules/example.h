// Example lines: what a pattern matches, with a mark on it, for drills.
//
// Pure functions; any thread. A few milliseconds for what people write: not for where lines are counted.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "rules/labels.h"
#include "rules/pattern.h"
#include "rules/record.h"
#include "rules/regex.h"
#include "rules/result.h"

namespace logbell::rules {

// Put to one pattern in all, in whole lines: a hundred tries and a thousand places of a mark, a few
// milliseconds.
inline constexpr std::size_t kMaxTriedBytes = 512 * 1024;

// A text that `regex` matches, as short and plain as can be; nothing where none was found (rules/speller.h
// says how it is looked for). A line break is in it only where the expression has no other way.
std::optional<std::string> example_of(const Regex& regex);

struct MarkedLine {
  // A record: more than one line only where the pattern's example, or its expression, is (`multiline:`).
  std::string text;
  Facts facts;             // what the envelope has to say for it to match, and what labels are taken from
  Labels labels;           // what the pattern takes from it
  bool generated = false;  // made from the expressions, not from `examples:`
};

// A line that `pattern` matches, with `mark` in it once (letters, digits, "-" and ":", and none of these or
// "_" beside it) where it changes nothing: with and without it the labels and the value are the same. In json
// the mark is a member of its own, in logfmt a field, where the line has any. It is made from the first of
// `examples` that allows it, else from `match` and `where`. Labels hold something wherever they can, as
// `expect:` says if it does; a `value:` is a number.
//
// `envelope` is that of the source; nothing: not known, and what is called like a fact of any of them is put
// in the facts, and in json and logfmt in the line too.
//
// The error (kNotFound; kInvalid: `mark` is no mark) says, to the operator, why there is none, and what to
// do.
Result<MarkedLine> marked_line(const PatternSpec& pattern, LineFormat format, std::string_view mark,
                               std::optional<Envelope> envelope = std::nullopt);

}  // namespace logbell::rules

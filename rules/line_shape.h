// Line shape: what a line says, without what differs each time: its words, "<*>" where times, numbers, ids
// and their like stood. By shapes new_template() tells kinds of line apart.
//
// Pure; any thread. Redacted, clean text: it may be stored and shown.
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <string_view>

namespace logbell::rules {

// Fields of a json or logfmt line that hold what it says, whatever else it has; the first that is there
// counts.
inline constexpr std::array<std::string_view, 5> kMessageFields{"msg", "message", "event", "text", "log"};

// Stands in a shape for what is variable.
inline constexpr std::string_view kVariable = "<*>";
// Of a longer line the beginning says which it is.
inline constexpr std::size_t kMostShapeWords = 40;
inline constexpr std::size_t kShapeBytes = 1000;

// Of the first line of `line`: a stack trace is known by what stands above it; Python's, where nothing does,
// by its last line. Words are one space apart; what is variable at its beginning, where the time stands, is
// left out, and several variable words in a row are one. Never "".
std::string line_shape(std::string_view line);

// The shape as a label: at most kMaxLabelBytes. Different shapes have different labels: a longer one ends in
// its fingerprint.
std::string shape_label(std::string_view shape);

// Whether `line` says, in this order, what the label of a shape does: of a line of this shape it is true, and
// of others sometimes.
bool may_have_shape(std::string_view line, std::string_view label);

}  // namespace logbell::rules

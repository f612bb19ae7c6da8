// Error lines: which lines of a log look as if something went wrong, for UncoveredErrors.
//
// A guess, made of every line of a block, so it must cost next to nothing: 16 bytes at a time are looked at
// for the beginnings of a few words, and only what follows one is read. No state; any thread.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

namespace logbell::rules {

struct ErrorLine {
  std::size_t offset = 0;  // of the line in the block
  std::size_t length = 0;  // without its newline and CR
};

// Appends each such line of `block` once, in order. It looks like one if it holds
// - a level in capitals as a word: ERROR, ERRO, FATAL, FATA, CRITICAL, CRIT, PANIC, SEVERE, EMERGENCY, EMERG; not as the
// name of
//   something that is none (ERROR=0, "ERROR": null);
// - one of these, or ERR, as the value of a level's field, however it is written: level=error, "severity":
// "Critical";
// - one in brackets, as nginx and Apache have it: [error], [core:crit];
// - one of these, or ERR, small too, that is painted by itself: ESC[31merror ESC[0m;
// - "panic: ", "fatal: " or "fatal error: " at its beginning.
void find_error_lines(std::string_view block, std::vector<ErrorLine>& out);

bool looks_like_error(std::string_view line);

}  // namespace logbell::rules

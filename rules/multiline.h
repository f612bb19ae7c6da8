// Multiline: which lines of a log are one record: a stack trace, or whatever stands between two first lines.
//
// Immutable and thread-safe after it was made; who reads a stream keeps its State.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "rules/regex.h"
#include "rules/time.h"

namespace logbell::rules {

class Multiline {
 public:
  enum class Language : std::uint8_t { kJava, kPython, kGo, kNode };

  // Of one record; beyond them it ends and another begins: nothing is lost, and both are counted.
  static constexpr std::size_t kMaxLines =
      500;  // as Filebeat's default; the deepest traces are cut by the JVM at 1024
  // A record without its end waits so long for its next line: as Vector's default.
  static constexpr Duration kTimeout{1000};

  // A record begins with a line that `first` matches, and goes on to the next such line.
  static Multiline by_first_line(Regex first);
  // Stack traces of these languages are one record each, from the line that names the error on; every other
  // line is one by itself.
  static Multiline traces(const std::vector<Language>& languages);

  // Where in a trace a stream stands.
  struct State {
    enum class In : std::uint8_t {
      kNone,
      kRecord,
      kError,  // behind the line that names the error: its message may go on, indented
      kFrames,
      kProperties,
      kPython,
      kPythonGroup,
      kPythonEnd,
      kPythonLink,  // behind the words that say that another trace follows
      kGo
    };
    In in = In::kNone;
  };
  enum class Verdict : std::uint8_t {
    kAlone,      // a record by itself
    kBegins,     // a record that may go on
    kContinues,  // of the record before it
  };
  Verdict judge(std::string_view line, State& state) const;

  std::size_t max_lines = kMaxLines;
  Duration timeout = kTimeout;

 private:
  bool goes_on(std::string_view line, State& state) const;
  bool begins(std::string_view line, State& state) const;
  bool has(Language language) const { return (languages_ & (1U << static_cast<unsigned>(language))) != 0; }

  std::shared_ptr<const Regex> first_;
  unsigned languages_ = 0;  // bits
};

}  // namespace logbell::rules

#include "rules/multiline.h"

#include <utility>

namespace logbell::rules {
namespace {

using In = Multiline::State::In;

// The shapes of a trace's lines, as the runtimes print them: java.lang.Throwable#printStackTrace, CPython's
// Lib/traceback.py, Go's runtime/traceback.go, V8's stack traces with node's util.inspect around them.
struct Shapes {
  // The error's name stands at its end or before a colon, its code behind it; what comes before it may be a
  // logger's own prefix.
  Regex error = *Regex::compile(
      R"((?:^|[^\w$.])(?:(?:[\w$]+\.)*[\w$]*(?:Exception|Error|Throwable)(?:\$\w+)*(?: \[\w+\])?|[\w$]+ \[\w*Error\])(?::|\s*$))");
  Regex frame = *Regex::compile(
      R"(^\s+at\s|^\s*\.\.\. \d+ (?:more|common frames omitted|lines matching )|^\s*Caused by: |^\s*Suppressed: |^\s+\[cause\]: |^\s*Wrapped by: |^\s*\[CIRCULAR REFERENCE:)"
      // Reactor's, behind a frame or before the first.
      R"(|^Error has been observed at the following site\(s\):|^\s+[*|]_|^Original Stack Trace:)");
  Regex opens_properties = *Regex::compile(R"(^\s+at\s.* \{$)");
  Regex traceback = *Regex::compile(R"(Traceback \(most recent call last\):\s*$)");
  Regex python_group = *Regex::compile(R"(^\s*\+ Exception Group Traceback )");
  Regex python_group_line = *Regex::compile(R"(^\s+[|+])");
  // A class has a module's name before it, or both sizes of letters: `ERROR: …` is the next line of the log.
  Regex python_error =
      *Regex::compile(R"(^(?:(?:[A-Za-z_]\w*\.)+[A-Za-z_]\w*|_*[A-Z]\w*[a-z]\w*)(?:: .*|:)?$)");
  Regex python_link = *Regex::compile(
      R"(^(?:During handling of the above exception, another exception occurred|The above exception was the direct cause of the following exception):\s*$)");
  Regex panic = *Regex::compile(
      R"((?:^|[^\w])(?:panic: |fatal error: |http: panic serving )|^SIG(?:ABRT|QUIT|SEGV|BUS|ILL|FPE): )");
  Regex go_line = *Regex::compile(
      R"(^\s|^$|^goroutine \d+ |^runtime stack:$|^\[signal |^created by |^exit status \d|^\.\.\..*frames elided|^[^\s()]+\(.*\)$|^\S*\.\(\*?\S+\)\.\S+\(.*\)$|^PC=0x|^[a-z][a-z0-9]+ +0x[0-9a-f]+$)");
};

const Shapes& shapes() {
  static const Shapes kShapes;
  return kShapes;
}

bool is_indented(std::string_view line) {
  return !line.empty() && (line.front() == ' ' || line.front() == '\t');
}
bool is_blank(std::string_view line) {
  return line.find_first_not_of(" \t") == std::string_view::npos;
}

}  // namespace

Multiline Multiline::by_first_line(Regex first) {
  Multiline made;
  made.first_ = std::make_shared<const Regex>(std::move(first));
  return made;
}

Multiline Multiline::traces(const std::vector<Language>& languages) {
  Multiline made;
  for (const Language language : languages)
    made.languages_ |= 1U << static_cast<unsigned>(language);
  return made;
}

Multiline::Verdict Multiline::judge(std::string_view line, State& state) const {
  if (first_ != nullptr) {
    const bool goes_on_here = state.in != In::kNone && !first_->matches(line);
    state.in = In::kRecord;
    return goes_on_here ? Verdict::kContinues : Verdict::kBegins;
  }
  if (state.in != In::kNone && goes_on(line, state)) return Verdict::kContinues;
  state.in = In::kNone;
  return begins(line, state) ? Verdict::kBegins : Verdict::kAlone;
}

bool Multiline::begins(std::string_view line, State& state) const {
  const Shapes& is = shapes();
  if (has(Language::kPython) && is.traceback.matches(line)) {
    state.in = is.python_group.matches(line) ? In::kPythonGroup : In::kPython;
  } else if (has(Language::kGo) && is.panic.matches(line)) {
    state.in = In::kGo;
  } else if ((has(Language::kJava) || has(Language::kNode)) && is.error.matches(line)) {
    state.in = In::kError;
  }
  return state.in != In::kNone;
}

bool Multiline::goes_on(std::string_view line, State& state) const {
  const Shapes& is = shapes();
  switch (state.in) {
    case In::kError:
    case In::kFrames:
      if (!is.frame.matches(line)) return state.in == In::kError && is_indented(line) && !is_blank(line);
      state.in = has(Language::kNode) && is.opens_properties.matches(line) ? In::kProperties : In::kFrames;
      return true;
    case In::kProperties:  // node prints the error's own members in braces behind its frames
      if (line.substr(0, 1) == "}") state.in = In::kFrames;
      return is_indented(line) || line.substr(0, 1) == "}";
    case In::kPython:
      if (is_indented(line)) return true;
      if (!is.python_error.matches(line)) return false;
      state.in = In::kPythonEnd;
      return true;
    case In::kPythonGroup:
      if (is.python_group_line.matches(line) && !is.python_group.matches(line)) return true;
      [[fallthrough]];
    case In::kPythonEnd:  // behind the error's own line another trace may follow, if that is said
      if (is.python_link.matches(line)) {
        state.in = In::kPythonLink;
        return true;
      }
      state.in = In::kPythonEnd;
      return is_blank(line);
    case In::kPythonLink:
      if (is_blank(line)) return true;
      return is.traceback.matches(line) && begins(line, state);
    case In::kGo:
      return is.go_line.matches(line);
    case In::kNone:
    case In::kRecord:
      break;
  }
  return false;
}

}  // namespace logbell::rules

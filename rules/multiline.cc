#include "rules/multiline.h"

#include <utility>

namespace logbell::rules {
namespace {

using In = Multiline::State::In;

// The shapes of a trace's lines, as the runtimes print them: java.lang.Throwable#printStackTrace, CPython's
// Lib/traceback.py, Go's runtime/traceback.go, V8's stack traces with node's util.inspect around them.
struct Shapes {
  // The error's name stands at its end or before a colon; what comes before it may be a logger's own prefix.
  Regex error = *Regex::compile(R"((?:^|[^\w$.])(?:[\w$]+\.)*[\w$]*(?:Exception|Error|Throwable)(?::|\s*$))");
  Regex frame = *Regex::compile(
      R"(^\s+at\s|^\s*\.\.\. \d+ (?:more|common frames omitted)|^\s*Caused by: |^\s*Suppressed: |^\s+\[cause\]: |^\s*Wrapped by: )");
  Regex opens_properties = *Regex::compile(R"(^\s+at\s.* \{$)");
  Regex traceback = *Regex::compile(R"(Traceback \(most recent call last\):\s*$)");
  Regex python_error = *Regex::compile(R"(^[A-Za-z_][\w.]*(?:: .*|:)?$)");
  Regex python_link = *Regex::compile(
      R"(^(?:During handling of the above exception, another exception occurred|The above exception was the direct cause of the following exception):\s*$)");
  Regex panic = *Regex::compile(R"((?:^|[^\w])(?:panic: |fatal error: |http: panic serving ))");
  Regex go_line = *Regex::compile(
      R"(^\s|^$|^goroutine \d+ |^\[signal |^created by |^exit status \d|^\.\.\.\S* frames elided|^[^\s()]+\(.*\)$|^\S*\.\(\*?\S+\)\.\S+\(.*\)$)");
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
    state.in = In::kPython;
  } else if (has(Language::kGo) && is.panic.matches(line)) {
    state.in = In::kGo;
  } else if ((has(Language::kJava) || has(Language::kNode)) && is.error.matches(line)) {
    state.in = In::kFrames;
  }
  return state.in != In::kNone;
}

bool Multiline::goes_on(std::string_view line, State& state) const {
  const Shapes& is = shapes();
  switch (state.in) {
    case In::kFrames:
      if (!is.frame.matches(line)) return false;
      if (has(Language::kNode) && is.opens_properties.matches(line)) state.in = In::kProperties;
      return true;
    case In::kProperties:  // node prints the error's own members in braces behind its frames
      if (line.substr(0, 1) == "}") state.in = In::kFrames;
      return is_indented(line) || line.substr(0, 1) == "}";
    case In::kPython:
      if (is_indented(line)) return true;
      if (!is.python_error.matches(line)) return false;
      state.in = In::kPythonEnd;
      return true;
    case In::kPythonEnd:  // behind the error's own line another trace may follow
      if (is.traceback.matches(line)) {
        state.in = In::kPython;
        return true;
      }
      return is_blank(line) || is.python_link.matches(line);
    case In::kGo:
      return is.go_line.matches(line);
    case In::kNone:
    case In::kRecord:
      break;
  }
  return false;
}

}  // namespace logbell::rules

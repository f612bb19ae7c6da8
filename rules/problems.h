// Problems: everything that is wrong with what the operator wrote, found in one go.
//
// Each has its place, what it is about, the reason and the fix:
//   api.yaml:12:11: rule "HighErrorRate": unknown field "fro"; did you mean "for"?
// Owned by one thread while a configuration is compiled.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace logbell::rules {

// Where something was written. Lines and columns (bytes) count from 1; 0: not known.
struct Place {
  std::string file;
  int line = 0;
  int col = 0;

  std::string format() const;  // file:line:col, without what is not known
  friend auto operator<=>(const Place&, const Place&) = default;
};

enum class Severity { kError, kWarning };

struct Problem {
  Severity severity = Severity::kError;
  Place place;
  std::string subject;  // `rule "X"`, `sink "ops-slack"`, `pattern "p"`, or empty
  std::string reason;   // lower case, no full stop
  std::string fix;      // what to do about it; may be empty
  // What makes it the same problem tomorrow, where the reason holds what changes; "": all of it.
  std::string identity = {};

  // "file:line:col: [warning: ]subject: reason; fix"
  std::string format() const;
};

class Problems {
 public:
  void error(Place place, std::string subject, std::string reason, std::string fix = {});
  void warn(Place place, std::string subject, std::string reason, std::string fix = {});

  void add(Problem problem) { found_.push_back(std::move(problem)); }

  bool has_errors() const;
  std::size_t errors() const;
  std::size_t warnings() const;
  // In the order of files and lines, errors and warnings together; exact repetitions once.
  std::vector<Problem> sorted() const;
  const std::vector<Problem>& all() const { return found_; }

 private:
  std::vector<Problem> found_;
};

// The candidate closest to `word` by edit distance, if close enough to be a slip; "" otherwise.
std::string closest(std::string_view word, const std::vector<std::string>& candidates);
// `did you mean "for"?`, or "" when nothing is close.
std::string did_you_mean(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace logbell::rules

// Result<T>: a value, or an Error that says what was attempted and why it failed.
//
// Values; any thread. Used for "the world said no". What an operator wrote wrongly goes to Problems
// (rules/problems.h); what only a bug of ours can cause ends the process through LOGBELL_CHECK.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <tl/expected.hpp>

namespace logbell::rules {

enum class ErrorCode { kInvalid, kNotFound, kIo, kCorrupt, kTimeout, kUnavailable, kCancelled };

// A failure. The message starts with what was attempted, then the object, then the cause: lower case,
// no full stop, so that messages chain with ": ".
struct Error {
  ErrorCode code = ErrorCode::kInvalid;
  std::string message;

  // The same failure, one layer further up: `return error.while_("read " + path)`.
  Error while_(std::string_view doing) const { return Error{code, std::string(doing) + ": " + message}; }
};

// tl::expected until every compiler we build with has std::expected: change this one line then.
template <class T = void>
using Result = tl::expected<T, Error>;

inline tl::unexpected<Error> fail(ErrorCode code, std::string message) {
  return tl::unexpected<Error>(Error{code, std::move(message)});
}
inline tl::unexpected<Error> fail(Error error) {
  return tl::unexpected<Error>(std::move(error));
}

// What the system says of an errno. Any thread, unlike strerror.
inline std::string errno_text(int error) {
  return std::generic_category().message(error);
}

[[noreturn]] inline void check_failed(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "logbell: %s:%d: check failed: %s\n", file, line, condition);
  std::abort();
}

}  // namespace logbell::rules

// Always on: an invariant of ours that does not hold. The supervisor restarts us and the store makes it
// harmless. (Not named CHECK: that is Catch2's.)
#define LOGBELL_CHECK(condition) \
  ((condition) ? static_cast<void>(0) : ::logbell::rules::check_failed(#condition, __FILE__, __LINE__))

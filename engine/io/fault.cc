#include "engine/io/fault.h"

#ifdef LOGBELL_FAULT_POINTS

#include <atomic>
#include <charconv>
#include <cstdio>
#include <cstdlib>

#include <signal.h>
#include <unistd.h>

namespace logbell::engine {
namespace {

struct Armed {
  std::size_t row = kFaultPoints.size();
  std::atomic<int> passes_left{0};
  bool hangs = false;

  Armed() {
    // NOLINTNEXTLINE(concurrency-mt-unsafe): nothing in this process changes the environment
    const char* wanted = std::getenv("LOGBELL_FAULT_POINT");
    if (wanted == nullptr || *wanted == '\0') return;
    std::string_view text = wanted;
    constexpr std::string_view kHang = ":hang";
    hangs = text.size() > kHang.size() && text.substr(text.size() - kHang.size()) == kHang;
    if (hangs) text.remove_suffix(kHang.size());
    const std::size_t colon = text.rfind(':');
    const std::string_view count = colon == std::string_view::npos ? "1" : text.substr(colon + 1);
    int passes = 0;
    std::from_chars(count.data(), count.data() + count.size(), passes);
    row = fault_point(text.substr(0, colon));
    if (row == kFaultPoints.size() || passes < 1) {
      std::fprintf(stderr, "LOGBELL_FAULT_POINT=%s: not a fault point\n", wanted);
      std::abort();
    }
    passes_left = passes;
  }
};

std::size_t armed_break() {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nothing in this process changes the environment
  const char* wanted = std::getenv("LOGBELL_BREAK");
  if (wanted == nullptr || *wanted == '\0') return kBreaks.size();
  const std::size_t row = break_row(wanted);
  if (row == kBreaks.size()) {
    std::fprintf(stderr, "LOGBELL_BREAK=%s: not a break\n", wanted);
    std::abort();
  }
  return row;
}

}  // namespace

bool is_broken(std::size_t row) {
  static const std::size_t kArmed = armed_break();
  return row == kArmed;
}

void pass_fault_point(std::size_t row) {
  static Armed armed;
  if (row != armed.row || armed.passes_left.fetch_sub(1) != 1) return;
  while (armed.hangs)
    ::pause();
  ::kill(::getpid(), SIGKILL);
}

std::optional<rules::Duration> fault_duration(const char* variable) {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nothing in this process changes the environment
  const char* text = std::getenv(variable);
  if (text == nullptr) return std::nullopt;
  std::int64_t ms = 0;
  const std::string_view all = text;
  const auto [end, error] = std::from_chars(all.data(), all.data() + all.size(), ms);
  if (error != std::errc() || end != all.data() + all.size() || ms <= 0) {
    std::fprintf(stderr, "%s=%s: no milliseconds\n", variable, text);
    std::abort();
  }
  return rules::Duration(ms);
}

}  // namespace logbell::engine

#else

namespace logbell::engine {
void pass_fault_point(std::size_t /*row*/) {}
bool is_broken(std::size_t /*row*/) {
  return false;
}
std::optional<rules::Duration> fault_duration(const char* /*variable*/) {
  return std::nullopt;
}
}  // namespace logbell::engine

#endif

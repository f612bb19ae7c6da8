#include "engine/run/log.h"

#include <algorithm>
#include <cerrno>

#include <fmt/format.h>
#include <unistd.h>

#include "rules/redact.h"

namespace logbell::engine {

using rules::Secret;

namespace {

// One code point at `at`: its value and length; length 0 where the bytes are no UTF-8.
std::pair<std::uint32_t, std::size_t> code_point(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(at);
  if (first < 0x80) return {first, 1};
  const std::size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || at + length > text.size()) return {0, 0};
  std::uint32_t value = first & (0x7fU >> length);
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(at + i) & 0xc0) != 0x80) return {0, 0};
    value = (value << 6U) | (byte(at + i) & 0x3fU);
  }
  const std::uint32_t least = length == 2 ? 0x80 : length == 3 ? 0x800 : 0x10000;
  if (value < least || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff)) return {0, 0};
  return {value, length};
}

// What a terminal or a log viewer might act upon instead of showing it.
bool acts(std::uint32_t c) {
  return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029 || (c >= 0x200b && c <= 0x200f) ||
         (c >= 0x202a && c <= 0x202e) || (c >= 0x2060 && c <= 0x2069) || c == 0xfeff;
}

void write_stderr(std::string_view line) {
  while (!line.empty()) {
    const ssize_t wrote = ::write(STDERR_FILENO, line.data(), line.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) return;  // nobody listens: there is no other place to say so
    line.remove_prefix(static_cast<std::size_t>(wrote));
  }
}

}  // namespace

std::string_view to_string(LogLevel level) {
  switch (level) {
    case LogLevel::kInfo:
      return "info";
    case LogLevel::kWarn:
      return "warn";
    case LogLevel::kError:
      return "error";
  }
  return "info";
}

std::string logfmt_value(std::string_view text) {
  std::string out;
  out.reserve(text.size() + 2);
  bool quote = text.empty();
  for (std::size_t i = 0; i < text.size();) {
    const auto [c, length] = code_point(text, i);
    if (length == 0) {
      out += "\\ufffd";
      quote = true;
      ++i;
      continue;
    }
    if (c == '"' || c == '\\') {
      out += '\\';
      out += static_cast<char>(c);
      quote = true;
    } else if (c == '\n' || c == '\r' || c == '\t') {
      out += c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t";
      quote = true;
    } else if (acts(c)) {
      out += fmt::format("\\u{:04x}", c);
      quote = true;
    } else {
      quote = quote || c == ' ' || c == '=';
      out.append(text.substr(i, length));
    }
    i += length;
  }
  return quote ? '"' + out + '"' : out;
}

std::string valid_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t length = code_point(text, i).second;
    if (length == 0) {
      out += "\xef\xbf\xbd";
      ++i;
    } else {
      out.append(text.substr(i, length));
      i += length;
    }
  }
  return out;
}

Log::Log(Options options) : options_(std::move(options)) {
  LOGBELL_CHECK(options_.clock != nullptr);
}

void Log::info(std::string_view message, const LogFields& fields) {
  put(LogLevel::kInfo, message, fields);
}

void Log::warn(std::string_view message, const LogFields& fields) {
  put(LogLevel::kWarn, message, fields);
}

void Log::error(std::string_view message, const LogFields& fields) {
  put(LogLevel::kError, message, fields);
}

namespace {

// A path such as /alerts, which others hold, too: short, and without what a token has.
bool is_word(std::string_view path) {
  constexpr std::size_t kLongestWord = 20;
  return path.size() <= kLongestWord && std::all_of(path.begin(), path.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || c == '/' || c == '-' || c == '_' || c == '.';
         });
}

}  // namespace

void Log::hide(const std::vector<Secret>& secrets) {
  const MutexLock lock(mutex_);
  const auto add = [&](const Secret& secret) REQUIRES(mutex_) {
    if (secret.reveal().size() < kMinSecretBytes) return;
    if (std::find(secrets_.begin(), secrets_.end(), secret) == secrets_.end()) secrets_.push_back(secret);
  };
  for (const Secret& secret : secrets) {
    add(secret);
    // Of a URL the path is what is secret (Slack's token), and errors often tell a path without its host.
    const std::size_t scheme = secret.reveal().find("://");
    if (scheme == std::string::npos) continue;
    const std::size_t path = secret.reveal().find('/', scheme + 3);
    if (path == std::string::npos) continue;
    std::string of_path = secret.reveal().substr(path);
    if (!is_word(of_path)) add(Secret(std::move(of_path)));
  }
}

std::string Log::hidden(std::string_view text) const {
  return rules::without(text, secrets_);
}

void Log::write_line(std::string_view rest) {
  const std::string line = fmt::format("ts={} {}\n", rules::format_rfc3339(options_.clock->now()), rest);
  if (options_.write) {
    options_.write(line);
  } else {
    write_stderr(line);
  }
}

void Log::put(LogLevel level, std::string_view message, const LogFields& fields) {
  const MutexLock lock(mutex_);
  std::string line = fmt::format("level={}", to_string(level));
  // Cut only after the secrets are out: half a secret would not be recognised.
  const auto value = [&](std::string_view text) REQUIRES(mutex_) {
    std::string shown = hidden(text);
    if (shown.size() > kMaxValueBytes) shown = shown.substr(0, kMaxValueBytes) + "...";
    return logfmt_value(shown);
  };
  for (const auto& [name, text] : fields)
    line += fmt::format(" {}={}", name, value(text));
  line += fmt::format(" msg={}", value(message));
  std::string subject;
  if (!fields.empty()) subject.append(fields.front().first).append(1, '=').append(fields.front().second);
  if (level == LogLevel::kInfo) {
    // And what comes after it is told at once.
    for (auto it = events_.begin(); it != events_.end();) {
      const bool about_it = !subject.empty() && it->second.subject == subject;
      if (about_it && it->second.held > 0) write_held(it->second);
      it = about_it ? events_.erase(it) : std::next(it);
    }
    write_line(line);
    return;
  }
  sweep_locked(false);
  // The same event: the same words about the same thing. Its other fields (an attempt's number) may differ.
  std::string key(to_string(level));
  key.append(1, '\0').append(message).append(1, '\0');
  key.append(subject);
  const auto known = events_.find(key);
  if (known != events_.end()) {
    ++known->second.held;
    known->second.last = std::move(line);
    known->second.last_at = options_.clock->now();
    return;
  }
  write_line(line);
  if (events_.size() < kMaxEvents)
    events_.emplace(std::move(key),
                    Event{options_.clock->instant() + options_.repeat, 0, std::move(subject), {}, {}});
}

void Log::sweep(bool all) {
  const MutexLock lock(mutex_);
  sweep_locked(all);
}

void Log::write_held(Event& event) {
  write_line(
      fmt::format("{} repeated={} last={}", event.last, event.held, rules::format_rfc3339(event.last_at)));
  event.held = 0;
}

void Log::sweep_locked(bool all) {
  const rules::Instant now = options_.clock->instant();
  for (auto it = events_.begin(); it != events_.end();) {
    if (!all && now < it->second.until) {
      ++it;
      continue;
    }
    if (it->second.held > 0) {
      write_held(it->second);
      it->second.until = now + options_.repeat;  // it goes on: one line per interval
      if (!all) {
        ++it;
        continue;
      }
    }
    it = events_.erase(it);
  }
}

}  // namespace logbell::engine

#include "rules/line_form.h"

#include <algorithm>

namespace logbell::rules {
namespace {

constexpr int kKeys = 4;
// Of what stands before the message: longer heads are lists of numbers.
constexpr std::size_t kParts = 8;

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
bool is_blank(char c) {
  return c == ' ' || c == '\t';
}
bool is_name(std::string_view text) {
  return !text.empty() && (is_letter(text.front()) || text.front() == '_' || text.front() == '@') &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return is_letter(c) || is_digit(c) || c == '_' || c == '.' || c == '-' || c == '@';
         });
}

// Behind the string that begins at `at` with a quote.
std::size_t skip_string(std::string_view line, std::size_t at) {
  for (++at; at < line.size() && line[at] != '"'; ++at) {
    if (line[at] == '\\') ++at;
  }
  return std::min(at + 1, line.size());
}

// The first names on the first level.
std::string json_keys(std::string_view line) {
  std::string keys;
  int depth = 0;
  int count = 0;
  bool name_comes = false;
  for (std::size_t at = 0; at < line.size() && count < kKeys;) {
    const char c = line[at];
    if (c == '"') {
      const std::size_t end = skip_string(line, at);
      if (depth == 1 && name_comes && end > at + 1) {
        keys += (count > 0 ? "," : "") + std::string(line.substr(at + 1, end - at - 2));
        ++count;
        name_comes = false;
      }
      at = end;
      continue;
    }
    if (c == '{' || c == '[') ++depth;
    if (c == '}' || c == ']') --depth;
    if (depth == 1 && (c == '{' || c == ',')) name_comes = true;
    ++at;
  }
  return keys;
}

// Where what begins with a bracket or a quote ends; npos: nowhere.
std::size_t closing(std::string_view text) {
  constexpr std::string_view kOpen = "[(<\"";
  constexpr std::string_view kClose = "])>\"";
  const std::size_t which = kOpen.find(text.front());
  return which == std::string_view::npos ? std::string_view::npos : text.find(kClose[which], 1);
}

std::string_view word_of(std::string_view text) {
  return text.substr(0, std::min(text.find_first_of(" \t"), text.size()));
}

std::string logfmt_keys(std::string_view line) {
  std::string keys;
  for (int count = 0; count < kKeys; ++count) {
    const std::size_t equals = line.find('=');
    if (equals == std::string_view::npos || !is_name(line.substr(0, equals))) break;
    keys += (count > 0 ? "," : "") + std::string(line.substr(0, equals));
    line.remove_prefix(equals + 1);
    const std::size_t end =
        !line.empty() && line.front() == '"' ? skip_string(line, 0) : word_of(line).size();
    line.remove_prefix(std::min(end, line.size()));
    line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
  }
  return keys;
}

// A number, a time, an address: it begins with a digit, and no word is in it.
bool is_number(std::string_view word) {
  return is_digit(word.front()) &&
         std::all_of(word.begin(), word.end(), [](char c) { return c == 'T' || c == 'Z' || !is_letter(c); });
}

// INFO, ERROR:, WARN,
bool is_level(std::string_view word) {
  while (!word.empty() && (word.back() == ':' || word.back() == ','))
    word.remove_suffix(1);
  return word.size() >= 3 && word.size() <= 9 &&
         std::all_of(word.begin(), word.end(), [](char c) { return c >= 'A' && c <= 'Z'; });
}

std::string head(std::string_view line) {
  std::string parts;
  bool level = false;
  while (!line.empty() && parts.size() < kParts) {
    const std::string_view word = word_of(line);
    std::size_t end = word.size();
    if (const std::size_t close = closing(line); close != std::string_view::npos) {
      parts += line.front();
      if (line.front() == '"') break;  // what it says
      end = close + 1;
    } else if (!level && is_number(word)) {
      parts += '0';
    } else if (!level && is_level(word)) {
      parts += 'L';
      level = true;
    } else if (std::none_of(word.begin(), word.end(), [](char c) { return is_letter(c) || is_digit(c); }) &&
               static_cast<unsigned char>(word.front()) < 0x80) {
      parts += word.front();
    } else {
      break;
    }
    line.remove_prefix(end);
    line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
  }
  return parts;
}

}  // namespace

std::string line_form(std::string_view line) {
  while (!line.empty() && (line.back() == '\r' || line.back() == '\n'))
    line.remove_suffix(1);
  if (line.empty() || is_blank(line.front())) return {};
  std::string form;
  if (line.front() == '{') {
    form = "json " + json_keys(line);
  } else if (const std::string keys = logfmt_keys(line); !keys.empty()) {
    form = "logfmt " + keys;
  } else {
    form = "text " + head(line);
  }
  if (form.size() > kMaxFormBytes) form.resize(kMaxFormBytes);
  return form;
}

}  // namespace logbell::rules

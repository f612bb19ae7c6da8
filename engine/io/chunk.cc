#include "engine/io/chunk.h"

#include <algorithm>
#include <cstring>

#include "engine/io/decode.h"

namespace logbell::engine {
namespace {

constexpr std::size_t kNone = std::string_view::npos;

bool is_newline_at(std::string_view raw, std::size_t at, Encoding encoding) {
  return encoding == Encoding::kUtf16Le ? raw[at] == '\n' && raw[at + 1] == '\0'
                                        : raw[at] == '\0' && raw[at + 1] == '\n';
}

// Behind the first newline at or after `from`; kNone: there is none.
std::size_t after_first_newline(std::string_view raw, std::size_t from, Encoding encoding) {
  if (encoding == Encoding::kBytes) {
    const std::size_t at = raw.find('\n', from);
    return at == kNone ? kNone : at + 1;
  }
  for (std::size_t at = from; at + 1 < raw.size(); at += 2) {
    if (is_newline_at(raw, at, encoding)) return at + 2;
  }
  return kNone;
}

// Behind the last newline at or after `from`; `from`: there is none.
std::size_t after_last_newline(std::string_view raw, std::size_t from, Encoding encoding) {
  if (encoding == Encoding::kBytes) {
    const void* at = from < raw.size() ? ::memrchr(raw.data() + from, '\n', raw.size() - from) : nullptr;
    return at == nullptr ? from : static_cast<std::size_t>(static_cast<const char*>(at) - raw.data()) + 1;
  }
  for (std::size_t at = from + (raw.size() - from) / 2 * 2; at > from; at -= 2) {
    if (is_newline_at(raw, at - 2, encoding)) return at;
  }
  return from;
}

bool has_line_longer_than(std::string_view block, std::size_t max_bytes) {
  // From a line's beginning, look for the last newline that is not too far: a whole block costs one look.
  for (std::size_t from = 0; block.size() - from > max_bytes;) {
    const void* at = ::memrchr(block.data() + from, '\n', max_bytes + 1);
    if (at == nullptr) return true;
    from = static_cast<std::size_t>(static_cast<const char*>(at) - block.data()) + 1;
  }
  return false;
}

// The block once more, without holes and with every line cut.
void clean(std::string_view block, std::size_t max_bytes, Chunk& out, std::string& scratch) {
  static const std::string kHole(kMinHoleBytes, '\0');
  scratch.clear();
  const auto keep = [&](std::string_view line, bool ended) {
    if (line.size() > max_bytes) {
      line = cut_utf8(line, max_bytes);
      ++out.truncated;
    }
    scratch.append(line);
    if (ended) scratch.push_back('\n');
  };
  while (!block.empty()) {
    const std::size_t newline = block.find('\n');
    std::string_view line = block.substr(0, newline);
    const bool ended = newline != kNone;
    block.remove_prefix(ended ? newline + 1 : block.size());
    bool had_hole = false;
    for (;;) {
      const std::size_t text = std::min(line.find_first_not_of('\0'), line.size());
      out.nul_bytes += text;
      had_hole = had_hole || text > 0;
      line.remove_prefix(text);
      const std::size_t hole = line.find(kHole);
      if (hole == kNone) break;
      keep(line.substr(0, hole), true);
      line.remove_prefix(hole);
    }
    // What is nothing but a hole is no line.
    if (!line.empty() || !had_hole) keep(line, ended);
  }
}

}  // namespace

std::size_t raw_line_bytes(Encoding encoding, std::size_t max_line_bytes) {
  return encoding == Encoding::kBytes ? max_line_bytes : 2 * max_line_bytes;
}

std::string_view cut_utf8(std::string_view text, std::size_t max_bytes) {
  if (text.size() <= max_bytes) return text;
  std::size_t end = max_bytes;
  for (int back = 0; back < 3 && end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U; ++back)
    --end;
  // Continuation bytes that no character begins are just bytes: then any place is as good.
  const bool begins = (static_cast<unsigned char>(text[end]) & 0xC0U) == 0xC0U;
  return text.substr(0, begins ? end : max_bytes);
}

Chunk split(std::string_view raw, const SplitRules& rules, LineState& state, std::string& scratch,
            const Survey* known) {
  Chunk out;
  const bool wide = rules.encoding != Encoding::kBytes;
  const std::size_t longest = raw_line_bytes(rules.encoding, rules.max_line_bytes);
  if (wide && raw.size() % 2 != 0) raw.remove_suffix(1);
  std::size_t from = 0;
  if (state.skipping) {
    const std::size_t next = after_first_newline(raw, 0, rules.encoding);
    if (next == kNone) {
      out.consumed = raw.size();
      return out;
    }
    state.skipping = false;
    from = next;
  }
  if (!wide && state.evaluated == 0) {
    const std::size_t text = std::min(raw.find_first_not_of('\0', from), raw.size());
    out.nul_bytes += text - from;
    from = text;
  }
  const std::size_t end = after_last_newline(raw, from, rules.encoding);
  std::string_view rest = raw.substr(end);
  std::string_view block = raw.substr(from, end - from);
  const std::uint32_t evaluated = state.evaluated;
  if (end > from) state.evaluated = 0;
  out.consumed = end;

  // Of the line that has no end yet.
  std::size_t hole = kNone;
  if (!wide && !rest.empty() && std::memchr(rest.data(), '\0', rest.size()) != nullptr)
    hole = rest.find(std::string(kMinHoleBytes, '\0'));
  const bool begins_with_nul = !wide && !rest.empty() && rest.front() == '\0' && end > from;
  if (begins_with_nul) {
    out.pending = rest.size();  // the next call begins here and skips them
    out.again = true;
  } else if (hole != kNone) {
    block = raw.substr(from, end - from + hole);
    out.consumed = end + hole;
    out.pending = rest.size() - hole;
    out.again = true;
    state.evaluated = 0;
  } else if (rest.size() > longest) {
    block = raw.substr(from);
    if (wide) {
      ++out.truncated;
    } else {
      const std::string_view kept = cut_utf8(rest, rules.max_line_bytes);
      block = raw.substr(from, end - from + kept.size());
      ++out.truncated;
    }
    out.consumed = raw.size();
    state = {.skipping = true, .evaluated = 0};
  } else {
    out.pending = rest.size();
    if (rules.flush && rest.size() > state.evaluated) {
      block = raw.substr(from);
      out.flushed = true;
      state.evaluated = static_cast<std::uint32_t>(rest.size());
    }
  }

  std::string decoded;
  if (wide) {
    append_utf16(block, rules.encoding, decoded);
    // Cut here already when it was cut above: counted once.
    if (state.skipping && !decoded.empty()) {
      const std::size_t last = decoded.rfind('\n') == kNone ? 0 : decoded.rfind('\n') + 1;
      decoded.resize(last + cut_utf8(std::string_view(decoded).substr(last), rules.max_line_bytes).size());
    }
    if (evaluated > 0) {
      std::string before;
      append_utf16(block.substr(0, evaluated), rules.encoding, before);
      out.evaluated = before.size();
    }
    block = decoded;
  } else {
    out.evaluated = std::min<std::size_t>(evaluated, block.size());
  }
  if (block.empty()) return out;

  // Behind its last newline, raw has none: all of them are in a block that begins where raw does.
  const bool is_known = known != nullptr && !wide && from == 0 && !known->has_nul && end > 0;
  Survey found = is_known ? *known : survey(block);
  if ((!wide && found.has_nul) || has_line_longer_than(block, rules.max_line_bytes)) {
    clean(block, rules.max_line_bytes, out, scratch);
    block = scratch;
    found = survey(block);
  } else if (wide) {
    scratch = std::move(decoded);
    block = scratch;
  }
  out.block = block;
  out.lines = found.newlines;
  if (!block.empty() && block.back() != '\n') ++out.lines;
  if (out.evaluated > 0 && out.lines > 0) --out.lines;
  out.evaluated = std::min(out.evaluated, block.size());
  return out;
}

}  // namespace logbell::engine

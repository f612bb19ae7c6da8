#include "engine/io/records.h"

#include <algorithm>
#include <utility>

#include "engine/io/syslog.h"

namespace logbell::engine {

using rules::Envelope;
using rules::Instant;
using rules::Multiline;
using rules::Timestamp;

void RecordBlock::clear() {
  text.clear();
  records.clear();
  told.clear();
  facts_used = 0;
  begun = truncated = split = partial = malformed = 0;
}

bool RecordDecoder::is_needed(const rules::SourceSpec& source) {
  return source.envelope != Envelope::kNone || source.multiline != nullptr;
}

std::size_t RecordDecoder::max_raw_line_bytes(const rules::SourceSpec& source) {
  constexpr std::size_t kPrefix = 1024;                // time, stream and tags
  constexpr std::size_t kEscapedPart = 6 * 16 * 1024;  // Docker's part, if every byte of it is \u00xx
  switch (source.envelope) {
    case Envelope::kNone:
      break;
    case Envelope::kCri:
    case Envelope::kSyslog:
    case Envelope::kJournal:
      return source.max_line_bytes + kPrefix;
    case Envelope::kDocker:
      return std::max(2 * source.max_line_bytes, kEscapedPart) + kPrefix;
  }
  return source.max_line_bytes;
}

RecordDecoder::RecordDecoder(const rules::SourceSpec& source, std::string_view path) : source_(&source) {
  set_source(source);
  facts_.fill(path_facts(source.envelope, path));
  facts_[static_cast<std::size_t>(OutputStream::kStdout)].set("stream", "stdout");
  facts_[static_cast<std::size_t>(OutputStream::kStderr)].set("stream", "stderr");
}

void RecordDecoder::set_source(const rules::SourceSpec& source) {
  source_ = &source;
  header_times_.reset();
  if (source.envelope != Envelope::kSyslog && source.envelope != Envelope::kJournal) return;
  // `timestamp:` may describe a time in the text; the header's is as its RFC has it.
  if (auto reader = rules::TimestampReader::make({.field = {}, .format = {}, .location = source.timestamp.location}))
    header_times_ = std::move(*reader);
}

Enveloped RecordDecoder::read_syslog(std::string_view line, RecordBlock& out) {
  static const rules::TimestampReader kLocal = *rules::TimestampReader::make({});
  const SyslogMessage message = parse_syslog(line, header_times_ ? *header_times_ : kLocal, now_);
  if (out.facts_used == out.facts.size()) out.facts.emplace_back();
  rules::Facts& facts = out.facts[out.facts_used++];
  facts.clear();
  const auto set = [&facts](std::string_view name, std::string_view value) {
    if (!value.empty()) facts.set(name, std::string(value));
  };
  set("host", message.host);
  set("app", message.app);
  set("procid", message.procid);
  set(source_->envelope == Envelope::kJournal ? "unit" : "msgid", message.msgid);
  if (message.facility) set("facility", facility_name(*message.facility));
  if (message.severity) set("severity", severity_name(*message.severity));
  said_ = &facts;
  return {.stream = OutputStream::kNone, .time = message.time, .text = message.message, .partial = false};
}

const rules::Facts* RecordDecoder::facts(const Stream& stream) const {
  if (said_ != nullptr) return said_;
  if (source_->envelope == Envelope::kNone) return nullptr;
  return &facts_[static_cast<std::size_t>(&stream - streams_.data())];
}

void RecordDecoder::feed(const Chunk& chunk, std::uint64_t from, Timestamp now, Instant instant,
                         RecordBlock& out) {
  now_ = now;
  instant_ = instant;
  from_ = from;
  std::string_view block = chunk.block;
  while (!block.empty()) {
    const std::size_t newline = block.find('\n');
    const bool ended = newline != std::string_view::npos;
    const std::string_view line = block.substr(0, newline);
    block.remove_prefix(ended ? newline + 1 : block.size());
    take(line, !ended && chunk.flushed, out);
    said_ = nullptr;  // each stands alone
  }
  for (Stream& stream : streams_) {
    if (!stream.is_open() || from + chunk.consumed - stream.from <= kMaxReread) continue;
    if (stream.in_line) end_line(stream, out);
    if (stream.lines > 0) end_record(stream, out);
    ++out.split;
  }
}

void RecordDecoder::take(std::string_view line, bool fragment, RecordBlock& out) {
  std::optional<Enveloped> found;
  switch (source_->envelope) {
    case Envelope::kNone:
      found = Enveloped{.stream = OutputStream::kNone, .time = {}, .text = line, .partial = false};
      break;
    case Envelope::kCri:
      found = parse_cri(line);
      break;
    case Envelope::kDocker:
      found = parse_docker(line, json_);
      break;
    case Envelope::kSyslog:
    case Envelope::kJournal:
      found = read_syslog(line, out);
      break;
  }
  if (!found) {
    ++out.malformed;
    found = Enveloped{.stream = OutputStream::kNone, .time = {}, .text = line, .partial = false};
  }
  Stream& stream = this->stream(found->stream);
  if (fragment) {
    if (!stream.in_line) stream.line_time = found->time;
    return hand_over_unfinished(stream, found->text, out);
  }
  if (stream.in_line && stream.part_time && found->time && *found->time - *stream.part_time > kPartTimeout) end_line(stream, out);
  touch(stream);
  take_text(stream, found->text, found->partial, found->time, out);
  if (!stream.is_open()) {
    stream.waits = false;
    stream.carried = false;
  }
}

void RecordDecoder::touch(Stream& stream) {
  if (!stream.is_open()) stream.from = from_;
  if (!stream.waits) stream.since = now_;
  stream.touched = instant_;
  stream.waits = true;
}

void RecordDecoder::take_text(Stream& stream, std::string_view text, bool partial,
                              std::optional<Timestamp> time, RecordBlock& out) {
  if (!stream.in_line) {
    stream.in_line = true;
    stream.cut = false;
    stream.line.clear();
    stream.line_time = time;
    stream.line_from = from_;
    stream.line_since = now_;
    stream.line_carried = false;
  }
  stream.part_time = time;
  append(stream, text, out);
  if (!partial) end_line(stream, out);
}

void RecordDecoder::append(Stream& stream, std::string_view text, RecordBlock& out) const {
  if (stream.cut) return;
  const std::size_t room = source_->max_line_bytes - std::min(source_->max_line_bytes, stream.line.size());
  if (text.size() > room) {
    stream.cut = true;
    ++out.truncated;
    text = cut_utf8(text, room);
  }
  stream.line.append(text);
}

void RecordDecoder::end_line(Stream& stream, RecordBlock& out) {
  stream.in_line = false;
  if (!stream.line.empty() && stream.line.back() == '\r') stream.line.pop_back();
  const Multiline* multiline = source_->multiline.get();
  Multiline::Verdict verdict =
      multiline == nullptr ? Multiline::Verdict::kAlone : multiline->judge(stream.line, stream.state);
  const bool continues = verdict == Multiline::Verdict::kContinues;
  if (continues && stream.lines > 0) {
    const bool fits = stream.lines < multiline->max_lines &&
                      stream.record.size() + 1 + stream.line.size() <= source_->max_line_bytes;
    if (fits) {
      stream.record.append("\n").append(stream.line);
      ++stream.lines;
      return;
    }
    ++out.split;
  } else if (continues) {
    // What it would continue was handed over: it is judged as whoever reads again from here would judge it.
    stream.state = {};
    verdict = multiline->judge(stream.line, stream.state);
  }
  // Where a record that has ended at its bound goes on can be told only from its beginning: who reads again must begin
  // there.
  const bool looks_back = continues && stream.lines > 0;
  const std::uint64_t began = stream.from;
  const bool began_before = stream.carried;
  if (stream.lines > 0) end_record(stream, out);
  if (verdict == Multiline::Verdict::kAlone) return emit(stream, stream.line, stream.line_time, true, out);
  stream.record.swap(stream.line);
  stream.lines = 1;
  stream.from = looks_back ? began : stream.line_from;
  stream.since = stream.line_since;
  stream.carried = looks_back ? began_before : stream.line_carried;
  stream.time = stream.line_time;
}

void RecordDecoder::end_record(Stream& stream, RecordBlock& out) {
  const std::size_t of_the_next =
      stream.evaluated > stream.record.size() ? stream.evaluated - stream.record.size() - 1 : 0;
  emit(stream, stream.record, stream.time, true, out);
  stream.evaluated = of_the_next;
  stream.record.clear();
  stream.lines = 0;
  stream.from = stream.line_from;
  stream.carried = stream.in_line && stream.line_carried;
}

void RecordDecoder::emit(Stream& stream, std::string_view text, std::optional<Timestamp> time, bool ended,
                         RecordBlock& out) {
  const std::size_t evaluated = std::exchange(stream.evaluated, ended ? 0 : text.size());
  if (evaluated > 0 && evaluated >= text.size()) return;
  if (evaluated == 0) ++out.begun;
  if (!ended) ++out.partial;
  out.records.push_back({out.text.size(), text.size(), facts(stream)});
  out.told.push_back({time, evaluated});
  out.text.append(text).push_back('\n');
}

// `more`: what is there of a line whose end is not.
void RecordDecoder::hand_over_unfinished(Stream& stream, std::string_view more, RecordBlock& out) {
  stream.waits = false;
  if (!stream.in_line && more.empty()) {
    if (!stream.record.empty()) emit(stream, stream.record, stream.time, false, out);
    return;
  }
  const std::size_t most = source_->max_line_bytes;
  std::string text = stream.in_line ? stream.line : std::string();
  if (!stream.cut || !stream.in_line) text.append(cut_utf8(more, most - std::min(most, text.size())));
  if (!text.empty() && text.back() == '\r') text.pop_back();  // as it would be if it had ended there
  if (stream.lines > 0) {
    Multiline::State state = stream.state;
    const Multiline* multiline = source_->multiline.get();
    const bool continues = multiline != nullptr &&
                           multiline->judge(text, state) == Multiline::Verdict::kContinues &&
                           stream.lines < multiline->max_lines && stream.record.size() + 1 + text.size() <= most;
    if (continues) {
      text.insert(0, stream.record + "\n");
    } else {
      end_record(stream, out);
    }
  }
  if (!text.empty()) emit(stream, text, stream.lines > 0 ? stream.time : stream.line_time, false, out);
}

void RecordDecoder::flush(Instant instant, bool everything, RecordBlock& out) {
  for (Stream& stream : streams_) {
    if (!stream.waits) continue;
    if (everything || instant >= due(stream)) hand_over_unfinished(stream, {}, out);
  }
}

Instant RecordDecoder::due(const Stream& stream) const {
  return stream.touched +
         (stream.in_line || source_->multiline == nullptr ? kPartTimeout : source_->multiline->timeout);
}

std::optional<Instant> RecordDecoder::due() const {
  std::optional<Instant> first;
  for (const Stream& stream : streams_) {
    if (!stream.waits) continue;
    first = std::min(first.value_or(Instant::max()), due(stream));
  }
  return first;
}

std::optional<Timestamp> RecordDecoder::waits_since() const {
  std::optional<Timestamp> since;
  for (const Stream& stream : streams_) {
    if (stream.waits && (!since || stream.since < *since)) since = stream.since;
  }
  return since;
}

OpenRecords RecordDecoder::open() const {
  OpenRecords open;
  for (std::size_t i = 0; i < streams_.size(); ++i) {
    const Stream& stream = streams_[i];
    if (!stream.is_open() && stream.evaluated == 0) continue;
    open.streams[i] = {.from = stream.is_open() ? stream.from : 0,
                       .carried = stream.is_open() && stream.carried,
                       .lines = stream.lines > 0,
                       .parts = stream.in_line,
                       .evaluated = static_cast<std::uint32_t>(stream.evaluated)};
  }
  return open;
}

void RecordDecoder::restore(const OpenRecords& open) {
  for (std::size_t i = 0; i < streams_.size(); ++i) {
    Stream& stream = streams_[i];
    const OpenRecords::One& known = open.streams[i];
    // Its beginning is in a file that is gone: what comes is a record by itself.
    const bool headless = known.carried && !stream.carried;
    if (!known.parts || headless) stream.in_line = false;
    if (!known.lines || headless) {
      stream.record.clear();
      stream.lines = 0;
    }
    const bool as_it_was = known.is_open() == stream.is_open();
    stream.evaluated = as_it_was ? known.evaluated : 0;
    stream.from = known.from;
    stream.line_from = std::max(stream.line_from, known.from);
    stream.carried = known.carried;
    const std::size_t text = stream.record.size() + (stream.in_line ? stream.line.size() : 0);
    stream.waits = stream.is_open() && stream.evaluated < text && !known.lent;
  }
}

void RecordDecoder::begin_anew() {
  for (Stream& stream : streams_) {
    stream.from = 0;
    stream.line_from = 0;
    stream.carried = stream.is_open();
    stream.line_carried = stream.in_line;
  }
}

void RecordDecoder::take_over(RecordDecoder& before) {
  for (std::size_t i = 0; i < streams_.size(); ++i) {
    if (!before.streams_[i].is_open() || streams_[i].is_open()) continue;
    streams_[i] = std::exchange(before.streams_[i], Stream{});
    streams_[i].from = 0;
    streams_[i].line_from = 0;
    streams_[i].carried = true;
    streams_[i].line_carried = streams_[i].in_line;
  }
}

bool RecordDecoder::has_open() const {
  return std::any_of(streams_.begin(), streams_.end(), [](const Stream& stream) { return stream.is_open(); });
}
bool RecordDecoder::has_carried() const {
  return std::any_of(streams_.begin(), streams_.end(),
                     [](const Stream& stream) { return stream.is_open() && stream.carried; });
}

}  // namespace logbell::engine

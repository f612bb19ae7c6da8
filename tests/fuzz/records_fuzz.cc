// The log of a container (CRI, docker), a syslog file or lines that belong together, in pieces as they are
// written and with restarts in between: the records are the same as in one piece, none is larger than it may
// be, none tells a stream that its line did not, and what is looked for is found in each as in it alone.
//
// First line: cri, docker, syslog; first (lines up to the next that begins with a digit), auto (traces);
// json, logfmt; restart; the size of a piece. Then the bytes of the file.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/io/records.h"
#include "rules/pattern.h"
#include "rules/result.h"
#include "tests/fuzz/support.h"

namespace {

using namespace logbell;

constexpr std::size_t kMaxLine = 64;
constexpr std::size_t kMaxLines = 4;

rules::SourceSpec source_of(const fuzz::Words& how) {
  using Language = rules::Multiline::Language;
  rules::SourceSpec source;
  source.max_line_bytes = kMaxLine;
  if (how.has("cri")) source.envelope = rules::Envelope::kCri;
  if (how.has("docker")) source.envelope = rules::Envelope::kDocker;
  if (how.has("syslog")) source.envelope = rules::Envelope::kSyslog;
  if (how.has("json")) source.format = rules::LineFormat::kJson;
  if (how.has("logfmt")) source.format = rules::LineFormat::kLogfmt;
  source.timestamp.location = "UTC";
  static const rules::Regex kDigit = *rules::Regex::compile("^[0-9]");
  std::optional<rules::Multiline> multiline;
  if (how.has("first")) multiline = rules::Multiline::by_first_line(kDigit);
  if (how.has("auto")) {
    multiline =
        rules::Multiline::traces({Language::kJava, Language::kPython, Language::kGo, Language::kNode});
  }
  if (multiline) {
    multiline->max_lines = kMaxLines;
    source.multiline = std::make_shared<const rules::Multiline>(std::move(*multiline));
  }
  return source;
}

// What one reading of the file found.
struct Reading {
  std::vector<std::string> records;  // stream, time, text
  std::uint64_t begun = 0;
  std::uint64_t truncated = 0;
  std::uint64_t split = 0;
  std::uint64_t malformed = 0;

  friend bool operator==(const Reading&, const Reading&) = default;
};

class Reader {
 public:
  Reader(const rules::SourceSpec& source, std::string_view file)
      : source_(source), file_(file), decoder_(std::make_unique<engine::RecordDecoder>(source_, kPath)) {}

  Reading read(std::size_t piece, bool restart) {
    std::size_t there = 0;
    bool again = false;
    while (there < file_.size() || again) {
      if (!again) there = std::min(file_.size(), there + piece);
      again = take(there, false);
      if (restart) start_anew();
    }
    take(there, true);
    out_.clear();
    decoder_->flush(rules::Instant{}, true, out_);
    note();
    return std::move(found_);
  }

 private:
  static constexpr std::string_view kPath = "/var/log/pods/shop_orders-7d9f_8a1b/api/0.log";

  bool take(std::size_t there, bool last) {
    const engine::Chunk chunk =
        engine::split(file_.substr(done_, there - done_),
                      {.max_line_bytes = engine::RecordDecoder::max_raw_line_bytes(source_), .flush = last},
                      state_, scratch_);
    out_.clear();
    decoder_->feed(chunk, done_, kNow, rules::Instant{}, out_);
    done_ += chunk.consumed;
    note();
    return chunk.again;
  }

  // The process dies; the next one reads again what was unfinished, as Reader::prepare() in engine/run does.
  void start_anew() {
    const engine::OpenRecords open = decoder_->open();
    std::size_t from = done_;
    for (const engine::OpenRecords::One& one : open.streams) {
      LOGBELL_CHECK(!one.is_open() || one.from <= done_);
      if (one.is_open()) from = std::min<std::size_t>(from, one.from);
    }
    decoder_ = std::make_unique<engine::RecordDecoder>(source_, kPath);
    engine::LineState state;
    engine::RecordBlock known;
    while (from < done_) {
      const engine::Chunk chunk = engine::split(
          file_.substr(from, done_ - from),
          {.max_line_bytes = engine::RecordDecoder::max_raw_line_bytes(source_)}, state, scratch_);
      if (chunk.consumed == 0) break;
      decoder_->feed(chunk, from, kNow, rules::Instant{}, known);
      from += chunk.consumed;
    }
    decoder_->restore(open);
    LOGBELL_CHECK(decoder_->open() == open);
  }

  void note() {
    LOGBELL_CHECK(out_.records.size() == out_.told.size());
    std::size_t at = 0;
    for (std::size_t i = 0; i < out_.records.size(); ++i) {
      const rules::Record& record = out_.records[i];
      LOGBELL_CHECK(record.offset == at && record.length <= kMaxLine);
      at += record.length + 1;
      LOGBELL_CHECK(at <= out_.text.size() && out_.text[at - 1] == '\n');
      const std::string_view text = std::string_view(out_.text).substr(record.offset, record.length);
      LOGBELL_CHECK(static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n')) < kMaxLines);
      // Nothing waited: nothing was handed over before.
      LOGBELL_CHECK(out_.told[i].evaluated == 0);
      std::string line;
      if (record.facts != nullptr) {
        for (const std::string& name : rules::fact_names(source_.envelope)) {
          const std::string* fact = record.facts->find(name);
          if (fact != nullptr) line += name + "=" + *fact + " ";
        }
      }
      if (out_.told[i].time) line += std::to_string(rules::to_unix_ms(*out_.told[i].time));
      found_.records.push_back(line.append(": ").append(text));
    }
    LOGBELL_CHECK(at == out_.text.size());
    match();
    found_.begun += out_.begun;
    found_.truncated += out_.truncated;
    found_.split += out_.split;
    found_.malformed += out_.malformed;
  }

  void match() const {
    static const std::vector<rules::PatternSpec> kSpecs = patterns();
    static const std::vector<std::uint32_t> kWanted{0, 1, 2};
    const rules::PatternSet set = rules::PatternSet::compile(kSpecs, kWanted, source_.format);
    rules::PatternSet::Scratch scratch;
    std::vector<rules::Match> matches;
    set.match(out_.text, out_.records, scratch, matches);
    std::size_t counted = 0;
    for (const rules::Record& record : out_.records) {
      const std::string_view text = std::string_view(out_.text).substr(record.offset, record.length);
      const rules::Record alone{0, text.size(), record.facts};
      std::vector<rules::Match> found;
      set.match(text, std::span(&alone, 1), scratch, found);
      counted += found.size();
    }
    LOGBELL_CHECK(counted == matches.size());
    for (const rules::Match& found : matches) {
      for (const std::string& label : found.labels)
        LOGBELL_CHECK(fuzz::is_clean(label, false) && label.size() <= rules::kMaxLabelBytes);
    }
  }
  static std::vector<rules::PatternSpec> patterns() {
    std::vector<rules::PatternSpec> specs(3);
    specs[0].name = "error";
    specs[0].match.push_back(*rules::Regex::compile("(?s)ERROR.*?(?P<code>[0-9]+)?$"));
    specs[0].labels = {"code", "stream"};
    specs[1].name = "queue";
    specs[1].where.push_back(
        {.field = "level", .equals = {"error"}, .match = std::nullopt, .negated = false});
    specs[1].labels = {"http.status", "queue"};
    specs[1].value = "took";
    specs[2].name = "any";
    specs[2].match.push_back(*rules::Regex::compile("."));
    return specs;
  }

  static constexpr rules::Timestamp kNow{rules::Duration(1'777'629'600'000)};  // 2026-05-01T10:00:00Z
  const rules::SourceSpec& source_;
  std::string_view file_;
  std::unique_ptr<engine::RecordDecoder> decoder_;
  engine::RecordBlock out_;
  engine::LineState state_;
  std::string scratch_;
  std::size_t done_ = 0;
  Reading found_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto [line, file] = fuzz::split_at(fuzz::text_of(data, size), '\n');
  const fuzz::Words how(line);
  const rules::SourceSpec source = source_of(how);
  const Reading whole = Reader(source, file).read(file.size() + 1, false);
  LOGBELL_CHECK(whole.begun == whole.records.size());
  // A hole's length is judged in what is there: with NULs, pieces may differ.
  if (file.find('\0') != std::string_view::npos) return 0;
  LOGBELL_CHECK(whole == Reader(source, file).read(1 + how.number(), how.has("restart")));
  return 0;
}

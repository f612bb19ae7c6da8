#include "engine/run/reader.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <span>
#include <utility>

#include "engine/io/chunk.h"
#include "engine/io/crew.h"
#include "engine/io/decode.h"
#include "engine/io/fault.h"
#include "engine/io/records.h"
#include "engine/io/read_ahead.h"
#include "engine/run/event_time.h"
#include "engine/run/follower.h"
#include "rules/alert.h"
#include "rules/error_lines.h"
#include "rules/line_form.h"
#include "rules/pattern.h"

namespace logbell::engine {
namespace {

using rules::Duration;
using rules::Instant;
using rules::kLongAgo;
using rules::Timestamp;

// A live stream waits no longer than this behind one that catches up.
constexpr Duration kMaxWait{std::chrono::milliseconds(200)};
// A stream that cannot be read for so long leaves the merge: others do not wait for it.
constexpr Duration kStallAfter{std::chrono::seconds(30)};
// A loop that goes on is said again after so long.
constexpr Duration kSayFeedbackEvery{std::chrono::minutes(1)};
// Of a compressed file at a time: what is unpacked stays in memory until the next read, and hundreds may be read together.
constexpr std::size_t kPackedChunkBytes = 256 * 1024;
// While no more of one was read, and others wait as well, it is unpacked anew when its turn comes.
constexpr std::uint64_t kUnpackedAnew = 1024 * 1024;
constexpr std::size_t kFewFiles = 8;
// So many lines before one without a time are asked for theirs.
constexpr int kMaxLinesBack = 256;
// Lines of one read that are shown of those that look like errors: the core keeps those that differ.
constexpr std::size_t kUncoveredSamples = 8;
constexpr std::size_t kMaxFormLineBytes = 512;  // of the line that shows a log's form
constexpr std::size_t kMatchPiece = 128 * 1024;  // of a block, that one member of a crew matches
constexpr std::size_t kMaxLineTextBytes = rules::kMaxSampleBytes * 4;

constexpr std::string_view kLines = "logbell_source_lines_total";
constexpr std::string_view kBytes = "logbell_source_bytes_total";
constexpr std::string_view kTruncated = "logbell_source_lines_truncated_total";
constexpr std::string_view kLabelsCut = "logbell_labels_truncated_total";
constexpr std::string_view kNulBytes = "logbell_source_nul_bytes_skipped_total";
constexpr std::string_view kPartial = "logbell_source_partial_flushed_total";
constexpr std::string_view kSplit = "logbell_source_records_split_total";
constexpr std::string_view kMalformed = "logbell_source_lines_malformed_total";
constexpr std::string_view kRejected = "logbell_source_timestamps_rejected_total";
constexpr std::string_view kUncovered = "logbell_source_uncovered_errors_total";
constexpr std::string_view kFeedback = "logbell_source_feedback_lines_total";
constexpr std::string_view kSetBack = "logbell_source_clock_set_back_total";

std::string_view line_at(std::string_view block, std::size_t from) {
  const std::size_t end = block.find('\n', from);
  return block.substr(from, end == std::string_view::npos ? end : end - from);
}

std::size_t last_line_of(std::string_view block) {
  if (!block.empty() && block.back() == '\n') block.remove_suffix(1);
  const std::size_t newline = block.rfind('\n');
  return newline == std::string_view::npos ? 0 : newline + 1;
}

bool same_but_for_the_look(const SourceStatus& a, const SourceStatus& b) {
  return a.watermark == b.watermark && a.read_to_end_at.has_value() == b.read_to_end_at.has_value() &&
         a.readable == b.readable && a.stalled == b.stalled && a.watched_from == b.watched_from &&
         a.last_line_at == b.last_line_at && a.timestamp_offset == b.timestamp_offset &&
         a.unreadable == b.unreadable && a.blind == b.blind;
}

}  // namespace

struct Reader::Impl {
  // What a member of the crew found in a piece as it read it.
  struct Ahead {
    std::string_view lines;  // that are whole in it
    std::vector<rules::Match> found;
  };
  // Matches what the crew reads.
  class LookAhead final : public Onlooker {
   public:
    explicit LookAhead(Impl& impl) : impl_(impl) {}

    void expect(std::size_t count, bool at_line) override {
      at_line_ = at_line;
      patterns_ = impl_.ahead_patterns;
      pieces.resize(std::max(pieces.size(), count));
      for (Ahead& piece : pieces)
        piece.lines = {};
    }
    void look(std::size_t piece, std::size_t member, std::string_view text) override {
      if (patterns_ == nullptr) return;
      const std::size_t begin = piece == 0 && at_line_ ? 0 : std::min(text.find('\n'), text.size() - 1) + 1;
      const std::size_t end = text.rfind('\n') + 1;  // 0: there is none
      Ahead& mine = pieces[piece];
      mine.found.clear();
      mine.lines = begin < end ? text.substr(begin, end - begin) : std::string_view();
      if (!mine.lines.empty()) patterns_->match(mine.lines, impl_.scratches[member], mine.found);
    }

    std::vector<Ahead> pieces;

   private:
    Impl& impl_;
    const rules::PatternSet* patterns_ = nullptr;
    bool at_line_ = true;  // the first piece begins where a line does
  };

  Impl(std::shared_ptr<const rules::Plan> first_plan, Options with)
      : options(std::move(with)),
        follower(ledger, options.stdin_fd, options.use_inotify, options.feedback, options.max_files,
                 options.max_connections) {
    if (options.only_past) follower.read_past();
    follower.restore(options.positions);
    options.positions.clear();
    replace_plan(std::move(first_plan));
  }

  void replace_plan(std::shared_ptr<const rules::Plan> next) {
    if (ahead != nullptr) ahead->drop();  // it is matched with the old one
    plan = std::move(next);
    follower.replace_plan(plan);
    sent.clear();
    looked_at.assign(plan->patterns.size(), false);
    for (const rules::AlertingRule& rule : plan->rules) {
      for (const rules::Expr* call : rules::range_calls(rule))
        looked_at[call->pattern_index] = true;
    }
    // Every series that can come exists from the start.
    for (const rules::SourceSpec& source : plan->sources) {
      const rules::Labels label{{"source", source.name}};
      for (const std::string_view name : {kLines, kBytes, kTruncated, kNulBytes, kPartial, kSplit, kMalformed})
        ledger.add(std::string(name), label, 0);
      const auto series = [&](std::string_view name, const char* key, std::initializer_list<const char*> values) {
        for (const char* value : values)
          ledger.add(std::string(name), {{"source", source.name}, {key, value}}, 0);
      };
      series("logbell_source_rotations_total", "kind", {"rename", "delete", "truncate", "rewrite"});
      series("logbell_source_gaps_total", "cause",
             {"rotated_away_while_down", "deleted_while_down", "truncated_while_down", "truncated",
              "deleted_while_written", "compressed_broken", "compression_unknown",
              "decompression_limit", "read_by_another_source"});
      if (!source.streams.empty()) {
        series("logbell_source_gaps_total", "cause",
               {"not_listening", "datagrams_dropped", "journal_vacuumed", "journal_unreadable"});
        series("logbell_source_open_errors_total", "reason", {"EADDRINUSE"});
        series("logbell_source_connections_refused_total", "reason", {"max_connections", "no_descriptor"});
        series("logbell_source_connections_closed_total", "reason",
               {"ended", "failed", "idle", "slow", "memory"});
        for (const char* name :
             {"logbell_source_datagrams_dropped_total", "logbell_source_datagrams_truncated_total",
              "logbell_source_frames_broken_total", "logbell_source_connections_total",
              "logbell_source_journal_entries_unreadable_total"})
          ledger.add(name, label, 0);
      }
      series("logbell_source_bytes_lost_total", "cause", {"truncated"});
      series("logbell_source_open_errors_total", "reason", {"EACCES", "EMFILE", "not_a_file", "too_many_files", "other"});
      series(kRejected, "reason", {"missing", "future", "past"});
      for (const char* name : {"logbell_source_read_errors_total", "logbell_source_duplicate_inputs_total",
                               "logbell_source_own_files_total", "logbell_source_positions_forgotten_total"})
        ledger.add(name, label, 0);
      ledger.add(std::string(kFeedback), label, 0);
      if (source.uncovered_errors) ledger.add(std::string(kUncovered), label, 0);
      ledger.add(std::string(kSetBack), label, 0);
    }
    for (const rules::PatternSpec& pattern : plan->patterns)
      ledger.add(std::string(kLabelsCut), {{"pattern", pattern.name}}, 0);
    ledger.add("logbell_inotify_watch_failures_total", {}, 0);
    ledger.add("logbell_inotify_overflows_total", {}, 0);
  }

  StepResult step() {
    StepResult result;
    const Timestamp now = options.clock->now();
    const Instant instant = options.clock->instant();
    const bool confirm = std::exchange(confirmation_wanted, false);
    follower.look(now, instant, confirm);
    if (finishing) follower.flush_last();
    set_back_clocks(now);

    MatchBatch batch;
    batch.generation = plan->generation;
    batch.read_at = now;
    if (Tail* tail = pick(instant)) {
      read(*tail, now, instant, batch);
    } else if (ahead != nullptr) {
      ahead->drop();
    }
    if (options.drills != nullptr && options.drills->has_lines()) read_drills(now, instant, batch);

    // What is said of the sources is true after this read.
    std::vector<SourceStatus> statuses = all_statuses(instant);
    const bool moved =
        sent.size() != statuses.size() || !std::equal(sent.begin(), sent.end(), statuses.begin(),
                                                      &same_but_for_the_look);
    batch.files_found = follower.found_files();
    if (!options.only_past) batch.positions = follower.take_entries();
    batch.counters = ledger.take_counters();
    if (confirm || moved || !batch.matches.empty() || !batch.drills.empty() || !batch.positions.empty() || !batch.counters.empty()) {
      batch.sequence = ++sequence;
      sent = statuses;
      batch.sources = std::move(statuses);
      result.batch = std::move(batch);
    }
    result.notes = ledger.take_notes();
    result.more = can_read(instant) || follower.next_timer() <= instant;
    result.ended = all_ended();
    result.wake_at = follower.next_timer();
    return result;
  }

  // --- which stream

  static bool waits_for_retry(const Tail& tail, Instant instant) {
    return !tail.error.empty() && instant < tail.retry_at;
  }
  // What its name meant before is read first.
  static bool has_older(const Tail& tail) {
    for (const Tail* older = tail.predecessor; older != nullptr; older = older->predecessor) {
      if (older->dirty && older->error.empty()) return true;
    }
    return false;
  }
  static bool eligible(const Tail& tail, Instant instant) {
    return !tail.orphan && !waits_for_retry(tail, instant) && !has_older(tail);
  }
  bool can_read(Instant instant) const {
    return std::any_of(follower.dirty().begin(), follower.dirty().end(),
                       [&](const Tail* tail) { return eligible(*tail, instant); });
  }

  // The one furthest behind in event time. But a live one is not left waiting while others catch up: every
  // second chunk may be of one that waits too long.
  Tail* pick(Instant instant) {
    Tail* behind = nullptr;
    Tail* waiting = nullptr;
    for (Tail* tail : follower.dirty()) {
      if (!eligible(*tail, instant)) continue;
      if (behind == nullptr || tail->watermark < behind->watermark ||
          (tail->watermark == behind->watermark && tail->dirty_since < behind->dirty_since))
        behind = tail;
      if (tail->live && instant - tail->dirty_since >= kMaxWait &&
          (waiting == nullptr || tail->dirty_since < waiting->dirty_since))
        waiting = tail;
    }
    const bool turn = waiting != nullptr && waiting != behind && !last_was_waiting;
    last_was_waiting = turn;
    return turn ? waiting : behind;
  }

  // --- one chunk

  void read(Tail& tail, Timestamp now, Instant instant, MatchBatch& batch) {
    FollowedSource& source = follower.sources()[tail.source];
    if (tail.predecessor != nullptr) {
      tail.watermark = std::max(tail.watermark, tail.predecessor->watermark);
      if (tail.last_time == kLongAgo) tail.last_time = tail.predecessor->last_time;
    }
    follower.pass_copied(tail);
    Chunk chunk;
    if (tail.decoder == nullptr && RecordDecoder::is_needed(*source.spec)) prepare(tail);
    const std::uint64_t from = tail.stream->offset();
    const SplitRules how{.max_line_bytes = tail.decoder == nullptr ? source.spec->max_line_bytes
                                                                   : RecordDecoder::max_raw_line_bytes(*source.spec),
                         .flush = tail.flush};
    ahead_patterns = tail.decoder == nullptr ? &source.spec->patterns : nullptr;
    const bool packed = tail.file != nullptr && tail.file->is_packed();
    rules::Result<ReadStatus> status = tail.stream->read(
        packed ? std::min(options.chunk_bytes, kPackedChunkBytes) : options.chunk_bytes, how, buffer, chunk);
    if (!status) {
      follower.after_failure(tail, status.error(), instant);
      return;
    }
    if (packed && tail.file->offset() <= kUnpackedAnew && follower.tails().size() > kFewFiles) tail.file->rest();
    if (options.threads > 1 && crew == nullptr && !status->at_end) hire();
    if (status->rewrite != Rewrite::kNone) {
      follower.find_copy(tail, *status);
    } else if (from == 0) {
      follower.find_copy_of_unread(tail, *status);
    }
    if (status->bytes > 0) LOGBELL_FAULT("reader.read");
    Text text;
    if (tail.decoder != nullptr) {
      decode(tail, *status, chunk, status->rewrite == Rewrite::kNone ? from : 0, now, instant);
      text = {records.text, records.records, records.told};
    } else {
      text = {chunk.block, {}, {}};
    }
    count(source, *status, chunk, tail.decoder != nullptr);
    if (chunk.lines > 0 || !chunk.block.empty()) source.last_line_at = now;
    if (!text.block.empty()) match(tail, source, text, chunk.evaluated, now, batch);
    if (!batch.matches.empty()) LOGBELL_FAULT("reader.matched");
    follower.after_read(tail, *status, now, instant);
    batch.bytes = static_cast<std::size_t>(status->bytes);
    batch.cannot_be_read_again = tail.file == nullptr && !tail.stream->place() && status->bytes > 0;
  }

  // There is more than one chunk to read: not before do others help.
  void hire() {
    crew = std::make_unique<Crew>(options.threads);
    if (crew->size() < options.threads)
      ledger.note({ReaderNote::Level::kWarn, "", "",
                   "The system gives no thread more: what is behind is read by fewer, and takes longer. Raise the limit "
                   "of processes (pids.max, ulimit -u)."});
    scratches.resize(crew->size());
    std::vector<Onlooker*> onlookers;
    for (LookAhead& one : look_aheads)
      onlookers.push_back(&one);
    ahead = std::make_unique<ReadAhead>(*crew, onlookers);
    buffer.ahead = ahead.get();
  }

  // --- from lines to records

  // The first read of a stream whose lines are not its records: what a former process had of records that go on is
  // read once more.
  void prepare(Tail& tail) {
    const rules::SourceSpec& spec = *follower.sources()[tail.source].spec;
    tail.decoder = std::make_unique<RecordDecoder>(spec, tail.real.empty() ? tail.path : tail.real);
    if (tail.file == nullptr || tail.file->open_records().empty()) return;
    const OpenRecords open = tail.file->open_records();
    bool carried = false;
    std::uint64_t from = tail.file->offset();
    for (const OpenRecords::One& one : open.streams) {
      if (!one.is_open()) continue;
      carried = carried || one.carried;
      from = std::min(from, one.from);
    }
    if (carried) take_over(tail);
    RecordBlock known;
    std::uint64_t at = from;
    // What cannot be read again is a record that begins where it can.
    static_cast<void>(tail.file->reread(from, {.max_line_bytes = RecordDecoder::max_raw_line_bytes(spec)}, buffer,
                                        [&](const Chunk& chunk) {
                                          tail.decoder->feed(chunk, at, last_look, options.clock->instant(), known);
                                          at += chunk.consumed;
                                        }));
    tail.decoder->restore(open);
  }

  // A record may begin in a file and go on in the one that has its name now.
  void take_over(Tail& tail) {
    Tail* before = tail.predecessor;
    if (before == nullptr || before->file == nullptr) return;
    if (before->decoder == nullptr) {
      if (!RecordDecoder::is_needed(*follower.sources()[before->source].spec)) return;
      prepare(*before);
    }
    // One that nothing was read of yet passes on what came before it.
    if (before->file->offset() == 0 && !before->decoder->has_open()) take_over(*before);
    if (!before->decoder->has_open()) return;
    const OpenRecords open = before->decoder->open();
    for (std::size_t i = 0; i < kOutputStreams; ++i) {
      if (!open.streams[i].is_open()) continue;
      before->lent.streams[i] = open.streams[i];
      before->lent.streams[i].lent = true;
    }
    follower.mark_changed(*before);
    tail.decoder->take_over(*before->decoder);
  }

  void decode(Tail& tail, const ReadStatus& status, const Chunk& chunk, std::uint64_t from, Timestamp now,
              Instant instant) {
    RecordDecoder& decoder = *tail.decoder;
    records.clear();
    if (status.rewrite != Rewrite::kNone) decoder.begin_anew();
    if (from == 0 && !chunk.block.empty() && !decoder.has_open()) take_over(tail);
    decoder.feed(chunk, from, now, instant, records);
    if (tail.flush_records || tail.flush_everything || status.ended)
      decoder.flush(instant, tail.flush_everything || status.ended, records);
    if (tail.file == nullptr) return;
    tail.file->set_open_records(decoder.open());
    // What has ended here need not be read in the files before this one again.
    const OpenRecords open = decoder.open();
    for (Tail* before = tail.predecessor; before != nullptr && !before->lent.empty(); before = before->predecessor) {
      before->file->set_open_records(before->decoder->open());
      for (std::size_t i = 0; i < kOutputStreams; ++i) {
        if (!before->lent.streams[i].lent || open.streams[i].carried) continue;
        before->lent.streams[i] = {};
        follower.mark_changed(*before);
      }
    }
  }

  void count(const FollowedSource& source, const ReadStatus& status, const Chunk& chunk, bool decoded) {
    const rules::Labels label{{"source", source.spec->name}};
    const auto add = [&](std::string_view name, std::uint64_t by) {
      if (by > 0) ledger.add(std::string(name), label, static_cast<double>(by));
    };
    add(kLines, decoded ? records.begun : chunk.lines);
    add(kBytes, status.bytes);
    // A line that was cut as it was read is cut again as what it holds.
    add(kTruncated, decoded ? std::max(chunk.truncated, records.truncated) : chunk.truncated);
    add(kNulBytes, chunk.nul_bytes);
    add(kPartial, decoded ? records.partial : chunk.flushed ? 1 : 0);
    add(kSplit, decoded ? records.split : 0);
    add(kMalformed, decoded ? records.malformed : 0);
  }

  // What comes now is written now.
  bool is_live(const Tail& tail) const { return tail.live && !options.only_past; }

  // What is matched: lines, or records where there are any.
  struct Text {
    std::string_view block;
    std::span<const rules::Record> records;
    std::span<const RecordBlock::Told> told;

    std::size_t index_of(std::size_t offset) const {
      const auto first = std::lower_bound(records.begin(), records.end(), offset,
                                          [](const rules::Record& record, std::size_t at) { return record.offset < at; });
      return static_cast<std::size_t>(first - records.begin());
    }
    // Where its last line or record begins.
    std::size_t last() const { return records.empty() ? last_line_of(block) : records.back().offset; }
  };

  // The time that the line or record at `offset` says.
  std::optional<Timestamp> own_time(const rules::SourceSpec& spec, const Text& text, std::size_t offset, Timestamp now) {
    if (!text.records.empty() && !spec.own_timestamp) {
      if (const auto told = text.told[text.index_of(offset)].time) return told;
    }
    return times.read(spec, line_at(text.block, offset), now);
  }

  // What the crew has found as it read is taken over where it stands in the block as it was read; what is between that,
  // a line at each seam of two pieces, is matched now.
  void match_lines(const rules::PatternSet& patterns, std::string_view block) {
    const char* at = block.data();
    const char* const end = at + block.size();
    auto* const seen = ahead == nullptr ? nullptr : static_cast<LookAhead*>(ahead->onlooker());
    for (Ahead& piece : seen == nullptr ? std::span<Ahead>() : std::span<Ahead>(seen->pieces)) {
      const char* const from = piece.lines.data();
      const char* const to = from + piece.lines.size();
      if (piece.lines.empty() || std::less<>()(from, at) || std::less<>()(end, to)) continue;
      match_rest(patterns, block, at, from);
      for (rules::Match& match : piece.found) {
        match.line_offset += static_cast<std::uint32_t>(from - block.data());
        found.push_back(std::move(match));
      }
      at = to;
    }
    match_rest(patterns, block, at, end);
  }

  void match_rest(const rules::PatternSet& patterns, std::string_view block, const char* from, const char* to) {
    if (from == to) return;
    const std::size_t first = found.size();
    match_large(patterns, std::string_view(from, static_cast<std::size_t>(to - from)));
    for (std::size_t i = first; i < found.size(); ++i)
      found[i].line_offset += static_cast<std::uint32_t>(from - block.data());
  }

  // A large block in pieces of whole lines, each by whoever of the crew is free; found in order nevertheless. What is
  // rare in the log is learned of all of it, not of the piece that somebody looks at first.
  void match_large(const rules::PatternSet& patterns, std::string_view block) {
    if (crew == nullptr || crew->is_busy() || block.size() < 2 * kMatchPiece) {
      patterns.match(block, scratch, found);
      return;
    }
    patterns.accelerate(block);
    pieces.clear();
    for (std::size_t from = 0; from < block.size();) {
      std::size_t to = block.size();
      if (block.size() - from > kMatchPiece) {
        const std::size_t newline = block.find('\n', from + kMatchPiece);
        if (newline != std::string_view::npos) to = newline + 1;
      }
      pieces.emplace_back(from, to);
      from = to;
    }
    found_by_piece.resize(std::max(found_by_piece.size(), pieces.size()));
    crew->run(pieces.size(), [&](std::size_t piece, std::size_t member) {
      found_by_piece[piece].clear();
      const auto [from, to] = pieces[piece];
      patterns.match(block.substr(from, to - from), scratches[member], found_by_piece[piece]);
    });
    for (std::size_t piece = 0; piece < pieces.size(); ++piece) {
      for (rules::Match& match : found_by_piece[piece]) {
        match.line_offset += static_cast<std::uint32_t>(pieces[piece].first);
        found.push_back(std::move(match));
      }
    }
  }

  void match(Tail& tail, FollowedSource& source, const Text& text, std::size_t evaluated, Timestamp now,
             MatchBatch& batch) {
    const rules::SourceSpec& spec = *source.spec;
    found.clear();
    covered.clear();
    const auto cover = [&] {
      for (const rules::Match& match : found) {
        if (looked_at[match.pattern] && (covered.empty() || covered.back() != match.line_offset))
          covered.push_back(match.line_offset);
      }
    };
    if (text.records.empty()) {
      match_lines(spec.patterns, text.block);
      cover();
      const std::size_t end = std::min(text.block.find('\n'), text.block.size());
      if (evaluated > 0) drop_counted(spec, text.block, {0, end, nullptr}, evaluated);
    } else {
      spec.patterns.match(text.block, text.records, scratch, found);
      cover();
      for (std::size_t i = 0; i < text.records.size(); ++i) {
        if (text.told[i].evaluated > 0) drop_counted(spec, text.block, text.records[i], text.told[i].evaluated);
      }
    }
    if (LOGBELL_BROKEN("reader.match")) found.clear();
    if (!found.empty() && options.feedback != nullptr && options.feedback->may_be_in(text.block))
      drop_feedback(tail, text.block);

    if (!found.empty() && options.drills != nullptr && options.drills->may_be_in(text.block))
      take_drills(text.block, now, batch);

    LineFacts facts;
    facts.arrival = now;
    facts.live = is_live(tail);
    facts.source_clock = source.watermark;
    if (facts.live && source.known_at != kLongAgo) facts.source_clock = std::max(facts.source_clock, known_before);
    facts.predecessor = tail.last_time;
    const bool is_first = options.only_past && tail.last_time == kLongAgo;
    bool asked_file = false;
    std::size_t resolved = 0;  // lines before this offset are behind facts.predecessor

    const auto time_of = [&](std::size_t offset, bool counted) {
      facts.own = own_time(spec, text, offset, now);
      EventTime time = event_time(facts);
      if (time.verdict != TimeVerdict::kBelieved && !facts.live) {
        // In a backlog the lines before it know: the nearest that says a time that can be believed.
        if (const auto near = time_before(spec, text.block, offset, resolved, facts)) facts.predecessor = *near;
        if (facts.predecessor == kLongAgo && !asked_file && tail.file != nullptr) {
          asked_file = true;
          if (const rules::Result<FileStat> stat = tail.file->stat()) facts.modified = stat->modified();
        }
        const TimeVerdict verdict = time.verdict;
        facts.own.reset();
        time = event_time(facts);
        time.verdict = verdict;
      }
      if (counted && time.verdict != TimeVerdict::kBelieved)
        ledger.add(std::string(kRejected),
                   {{"source", spec.name}, {"reason", std::string(to_string(time.verdict))}}, 1);
      facts.predecessor = time.at;
      resolved = offset;
      tail.watermark = std::max(tail.watermark, time.at);
      return time;
    };

    std::uint32_t last_offset = UINT32_MAX;
    EventTime time;
    for (rules::Match& match : found) {
      if (match.line_offset != last_offset) {
        last_offset = match.line_offset;
        time = time_of(last_offset, true);
        batch.lines.emplace_back(
            cut_utf8(text.block.substr(match.line_offset, match.line_length), kMaxLineTextBytes));
      }
      TimedMatch timed;
      timed.pattern = match.pattern;
      timed.line = static_cast<std::uint32_t>(batch.lines.size() - 1);
      timed.at = time.at;
      timed.value = match.value;
      timed.live = facts.live;
      timed.labels = std::move(match.labels);
      timed.keys = std::move(match.keys);
      if (match.labels_cut > 0)
        ledger.add(std::string(kLabelsCut), {{"pattern", plan->patterns[match.pattern].name}}, match.labels_cut);
      batch.matches.push_back(std::move(timed));
    }
    // The last line's time moves the clock, whether or not it matched.
    const std::size_t last = text.last();
    if (last != last_offset) time = time_of(last, false);
    if (is_first) {
      const std::size_t begin = text.records.empty() ? 0 : text.records.front().offset;
      const std::optional<Timestamp> own = own_time(spec, text, begin, now);
      Timestamp first = time.at;
      if (!batch.matches.empty()) first = std::min(first, batch.matches.front().at);
      if (own && *own <= now + kMaxAhead) first = std::min(first, *own);
      past_from.resize(follower.sources().size(), Timestamp::max());
      past_from[tail.source] = std::min(past_from[tail.source], first);
    }
    tail.last_time = time.at;
    source.watermark = std::max(source.watermark, tail.watermark);
    if (facts.live) {
      if (const auto own = own_time(spec, text, last, now)) source.offset.add(*own, now);
    }
    const std::string_view line = line_at(text.block, last);
    batch.form = LineForm{tail.source, rules::line_form(line), std::string(cut_utf8(line, kMaxFormLineBytes))};
    if (spec.uncovered_errors) find_uncovered(tail, text, evaluated, now, batch);
  }

  // Lines that look like errors and that no rule looks at. Of an old log nobody is told: it is not asked.
  void find_uncovered(const Tail& tail, const Text& text, std::size_t evaluated, Timestamp now, MatchBatch& batch) {
    const rules::SourceSpec& spec = *follower.sources()[tail.source].spec;
    const Timestamp oldest = now - plan->max_replay_age;
    if (!tail.live && tail.watermark < oldest) return;
    errors.clear();
    rules::find_error_lines(text.block, errors);
    UncoveredLines lines;
    lines.source = tail.source;
    std::size_t seen = SIZE_MAX;
    for (const rules::ErrorLine& error : errors) {
      std::size_t offset = error.offset;
      std::size_t length = error.length;
      bool counted = evaluated > 0 && offset == 0;
      if (!text.records.empty()) {
        const std::size_t i = text.index_of(offset + 1) - 1;  // the record that it stands in
        offset = text.records[i].offset;
        length = text.records[i].length;
        counted = text.told[i].evaluated > 0;
      }
      const std::string_view line = text.block.substr(offset, length);
      const auto holds = [&](const rules::Regex& regex) { return regex.matches(line); };
      // Its beginning was handed over before, as if it were all; of a record, another line was found already.
      if (counted || offset == std::exchange(seen, offset)) continue;
      if (std::binary_search(covered.begin(), covered.end(), offset) || spec.patterns.leaves_out(line) ||
          std::any_of(spec.uncovered_errors->exclude.begin(), spec.uncovered_errors->exclude.end(), holds) ||
          (options.feedback != nullptr && options.feedback->is_in(line)))
        continue;
      if (!tail.live && own_time(spec, text, offset, now).value_or(tail.watermark) < oldest) continue;
      ++lines.count;
      if (lines.samples.size() < kUncoveredSamples)
        lines.samples.emplace_back(cut_utf8(line, kMaxLineTextBytes));
    }
    if (lines.count == 0) return;
    ledger.add(std::string(kUncovered), {{"source", spec.name}}, static_cast<double>(lines.count));
    batch.uncovered = std::move(lines);
  }

  // The beginning of the line or record was handed over before, as if it were all: what matched then is counted.
  void drop_counted(const rules::SourceSpec& spec, std::string_view block, rules::Record record,
                    std::size_t evaluated) {
    std::vector<rules::Match> before;
    record.length = std::min(record.length, evaluated);
    if (record.length > 0 && block[record.offset + record.length - 1] == '\r') --record.length;
    spec.patterns.match(block, std::span(&record, 1), scratch, before);
    std::erase_if(found, [&](const rules::Match& match) {
      return match.line_offset == record.offset &&
             std::any_of(before.begin(), before.end(),
                         [&](const rules::Match& old) { return old.pattern == match.pattern; });
    });
  }

  // A line that repeats a message of ours, whoever wrote it there, must not ring: its message would be repeated.
  void drop_feedback(const Tail& tail, std::string_view block) {
    const std::string& source = follower.sources()[tail.source].spec->name;
    std::uint32_t judged = UINT32_MAX;
    bool ours = false;
    std::erase_if(found, [&](const rules::Match& match) {
      if (match.line_offset == judged) return ours;
      judged = match.line_offset;
      ours = options.feedback->is_in(block.substr(match.line_offset, match.line_length));
      if (!ours) return false;
      ledger.add(std::string(kFeedback), {{"source", source}}, 1);
      Instant& said = feedback_said[source];
      if (const Instant instant = options.clock->instant(); said == Instant() || instant - said >= kSayFeedbackEvery) {
        said = instant;
        ledger.note({ReaderNote::Level::kError, source, tail.path,
                     "A line repeats a message that logbell itself sent: it is not counted. Somebody writes "
                     "messages back into the log; take them, or what they are about, out of it."});
      }
      return true;
    });
  }

  // --- drills

  static DrillLine::Found found_in(rules::Match& match) { return {match.pattern, std::move(match.labels), std::move(match.keys)}; }

  // What a line with a mark that was issued matches is not counted.
  void take_drills(std::string_view block, Timestamp now, MatchBatch& batch) {
    std::uint32_t judged = UINT32_MAX;
    bool marked = false;
    std::erase_if(found, [&](rules::Match& match) {
      if (match.line_offset != judged) {
        judged = match.line_offset;
        const std::string_view line = block.substr(match.line_offset, match.line_length);
        const std::string mark = options.drills->claim(line);
        marked = !mark.empty();
        if (marked) batch.drills.push_back({mark, std::string(cut_utf8(line, kMaxLineTextBytes)), now, {}});
      }
      if (marked) batch.drills.back().found.push_back(found_in(match));
      return marked;
    });
  }

  // Lines that this process has made for itself: each through what its source's records go through, as if it had been
  // written to the first of its files.
  void read_drills(Timestamp now, Instant instant, MatchBatch& batch) {
    for (DrillDesk::Line& line : options.drills->take_lines()) {
      DrillLine out{line.mark, {}, now, {}};
      const auto source = std::find_if(plan->sources.begin(), plan->sources.end(),
                                       [&](const rules::SourceSpec& spec) { return spec.name == line.source; });
      if (source != plan->sources.end()) {
        const rules::SourceSpec& spec = *source;
        const auto index = static_cast<std::uint32_t>(source - plan->sources.begin());
        out.text = line.text;
        line.text += '\n';
        found.clear();
        if (RecordDecoder::is_needed(spec)) {
          std::string path;
          for (const std::unique_ptr<Tail>& tail : follower.tails()) {
            if (tail->source == index && tail->file != nullptr && path.empty())
              path = tail->real.empty() ? tail->path : tail->real;
          }
          RecordDecoder decoder(spec, path);
          Chunk chunk;
          chunk.block = line.text;
          chunk.consumed = line.text.size();
          RecordBlock block;
          decoder.feed(chunk, 0, now, instant, block);
          decoder.flush(instant, true, block);
          spec.patterns.match(block.text, block.records, scratch, found);
          if (!found.empty())
            out.text = block.text.substr(found.front().line_offset, found.front().line_length);
        } else {
          spec.patterns.match(line.text, scratch, found);
        }
        if (LOGBELL_BROKEN("reader.match")) found.clear();
        for (rules::Match& match : found)
          out.found.push_back(found_in(match));
        out.text = cut_utf8(out.text, kMaxLineTextBytes);
      }
      batch.drills.push_back(std::move(out));
    }
  }

  std::optional<Timestamp> time_before(const rules::SourceSpec& spec, std::string_view block, std::size_t offset,
                                       std::size_t not_before, const LineFacts& like) {
    LineFacts facts = like;
    for (int lines = 0; lines < kMaxLinesBack && offset > not_before; ++lines) {
      const std::string_view before = block.substr(0, offset - 1);  // without the newline between them
      const std::size_t newline = before.rfind('\n');
      offset = newline == std::string_view::npos ? 0 : newline + 1;
      facts.own = times.read(spec, before.substr(offset), facts.arrival);
      if (facts.own && event_time(facts).verdict == TimeVerdict::kBelieved) return facts.own;
    }
    return std::nullopt;
  }

  // --- what is known

  // The wall clock was set back: what we believed is in the future now.
  void set_back_clocks(Timestamp now) {
    known_before = last_look;
    last_look = now;
    if (known_before > now + kMaxAhead) known_before = now;
    for (FollowedSource& source : follower.sources()) {
      if (source.watermark == kLongAgo || source.watermark <= now + kMaxAhead) continue;
      source.watermark = now;
      ledger.add(std::string(kSetBack), {{"source", source.spec->name}}, 1);
      for (const std::unique_ptr<Tail>& tail : follower.tails()) {
        tail->watermark = std::min(tail->watermark, now);
        tail->last_time = std::min(tail->last_time, now);
      }
    }
  }

  std::vector<SourceStatus> all_statuses(Instant instant) const {
    const std::vector<FollowedSource>& sources = follower.sources();
    std::vector<SourceStatus> statuses(sources.size());
    std::vector<bool> behind(sources.size(), false);
    for (std::uint32_t i = 0; i < sources.size(); ++i) {
      statuses[i].source = i;
      statuses[i].watermark = sources[i].watermark;
      statuses[i].readable = sources[i].open > 0;
      statuses[i].watched_from = sources[i].watched_from;
      if (options.only_past && i < past_from.size() && past_from[i] != Timestamp::max())
        statuses[i].watched_from = past_from[i];
      statuses[i].last_line_at = sources[i].last_line_at;
      statuses[i].timestamp_offset = sources[i].offset.offset();
      if (!options.only_past) Follower::describe_unreadable(sources[i], statuses[i]);
    }
    for (const Tail* tail : follower.dirty()) {
      if (tail->orphan) continue;
      SourceStatus& status = statuses[tail->source];
      if (!tail->error.empty() && instant - tail->failing_since >= kStallAfter) {
        status.stalled = true;
        if (status.unreadable.empty()) status.unreadable = tail->error;
        continue;
      }
      // It goes on where the older one stands.
      const Timestamp watermark = has_older(*tail) ? status.watermark : tail->watermark;
      status.watermark = std::min(status.watermark, watermark);
      behind[tail->source] = true;
    }
    // Of what is past, and comes through a pipe, what comes next is older than what others have read already.
    for (const std::unique_ptr<Tail>& tail : follower.tails()) {
      if (!options.only_past || tail->path != "-" || tail->ended) continue;
      statuses[tail->source].watermark = std::min(statuses[tail->source].watermark, tail->watermark);
      behind[tail->source] = true;
    }
    for (std::uint32_t i = 0; i < sources.size(); ++i) {
      if (!behind[i] && !statuses[i].stalled && statuses[i].readable && sources[i].scanned)
        statuses[i].read_to_end_at = sources[i].known_at;
    }
    // A record that waits for its next line is not read yet.
    for (const std::unique_ptr<Tail>& tail : follower.tails()) {
      if (tail->decoder == nullptr || tail->orphan) continue;
      const std::optional<Timestamp> since = tail->decoder->waits_since();
      std::optional<Timestamp>& known = statuses[tail->source].read_to_end_at;
      if (since && known && *since <= *known) known = *since - Duration(1);
    }
    return statuses;
  }

  bool all_ended() const {
    const auto& tails = follower.tails();
    return !tails.empty() && follower.sources().size() == ended_sources() &&
           std::all_of(tails.begin(), tails.end(), [](const std::unique_ptr<Tail>& tail) { return tail->ended; });
  }
  std::size_t ended_sources() const {
    std::size_t ended = 0;
    for (const FollowedSource& source : follower.sources()) {
      const bool only_stdin = std::all_of(source.spec->files.begin(), source.spec->files.end(),
                                          [](const std::string& pattern) { return pattern == "-"; }) &&
                              source.spec->streams.empty();
      if (only_stdin && source.open > 0) ++ended;
    }
    return ended;
  }

  Options options;
  std::shared_ptr<const rules::Plan> plan;
  Ledger ledger;
  Follower follower;
  ReadBuffer buffer;
  rules::PatternSet::Scratch scratch;
  std::vector<rules::PatternSet::Scratch> scratches;          // by member of the crew
  // Of what the stream that is read next is matched with; null: its lines are made of it first.
  const rules::PatternSet* ahead_patterns = nullptr;
  std::vector<LookAhead> look_aheads = std::vector<LookAhead>(ReadAhead::kMostReads + 1, LookAhead(*this));
  std::vector<std::pair<std::size_t, std::size_t>> pieces;    // of a block: from, to
  std::vector<std::vector<rules::Match>> found_by_piece;
  LineTimes times;
  std::vector<rules::Match> found;
  std::vector<bool> looked_at;           // by pattern: by some rule
  std::vector<std::size_t> covered;      // offsets of lines that such a pattern matched, in order
  std::vector<rules::ErrorLine> errors;
  RecordBlock records;
  std::vector<SourceStatus> sent;
  std::vector<Timestamp> past_from;  // by source, of what is only past: the earliest first line
  std::uint64_t sequence = 0;
  Timestamp last_look = kLongAgo;     // wall time of the last step
  Timestamp known_before = kLongAgo;  // and of the one before it
  std::map<std::string, Instant> feedback_said;  // by source: when it was last complained of
  bool confirmation_wanted = false;
  bool finishing = false;
  bool last_was_waiting = false;
  std::unique_ptr<ReadAhead> ahead;
  std::unique_ptr<Crew> crew;  // ends before what it works with
};

Reader::Reader(std::shared_ptr<const rules::Plan> plan, Options options)
    : impl_(std::make_unique<Impl>(std::move(plan), std::move(options))) {}
Reader::~Reader() = default;

Reader::StepResult Reader::step() {
  return impl_->step();
}

Crew* Reader::crew() const {
  return impl_->crew.get();
}

void Reader::request_confirmation() {
  impl_->confirmation_wanted = true;
}

void Reader::finish() {
  impl_->finishing = true;
}

void Reader::replace_plan(std::shared_ptr<const rules::Plan> plan) {
  impl_->replace_plan(std::move(plan));
}

std::vector<int> Reader::wake_fds() const {
  std::vector<int> fds;
  if (impl_->follower.watch_fd() >= 0) fds.push_back(impl_->follower.watch_fd());
  for (const std::unique_ptr<Tail>& tail : impl_->follower.tails()) {
    if (tail->file != nullptr || tail->ended || tail->orphan || !tail->error.empty()) continue;
    if (tail->stream->wake_fd() >= 0) fds.push_back(tail->stream->wake_fd());
  }
  return fds;
}

std::vector<StreamView> Reader::streams() const {
  std::vector<StreamView> views;
  for (const std::unique_ptr<Tail>& tail : impl_->follower.tails()) {
    if (tail->orphan) continue;
    StreamView view;
    view.source = impl_->follower.sources()[tail->source].spec->name;
    view.path = tail->path;
    view.offset = tail->stream->offset();
    view.size = tail->stream->known_size();
    // One that is read to its end is as large as what was seen of it.
    if (tail->file != nullptr && tail->dirty) {
      if (const rules::Result<FileStat> stat = tail->file->stat()) view.size = stat->size;
    }
    view.disk_size = view.size;
    view.disk_offset = view.offset;
    if (tail->file != nullptr && tail->file->is_packed()) {
      if (const rules::Result<FileStat> stat = tail->file->stat()) view.disk_size = stat->size;
      view.disk_offset = tail->dirty ? tail->file->disk_offset() : view.disk_size;
    }
    view.readable = tail->error.empty();
    view.polled = tail->file != nullptr && !tail->watch;
    view.error = tail->error;
    if (tail->detached && view.error.empty()) view.error = "it was rotated away where it is mounted from";
    view.missed = !view.error.empty();
    views.push_back(std::move(view));
  }
  for (const FollowedSource& source : impl_->follower.sources()) {
    for (const auto& [path, trouble] : source.troubles) {
      StreamView view;
      view.source = source.spec->name;
      view.path = path;
      view.error = trouble.error;
      view.missed = FollowedSource::is_missed(trouble);
      views.push_back(std::move(view));
    }
    for (const auto& [path, missing] : source.missing) {
      if (missing.succeeds) continue;  // its stream says so
      StreamView view;
      view.source = source.spec->name;
      view.path = path;
      view.error = "it " + missing.why;
      view.missed = true;
      views.push_back(std::move(view));
    }
  }
  return views;
}

}  // namespace logbell::engine
